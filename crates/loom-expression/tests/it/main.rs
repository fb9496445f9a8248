//! Tests of the public interface.

#![expect(clippy::unwrap_used, reason = "these are tests; helpers beside them count as such")]

mod budgets;
mod conformance;
mod examples;
mod labels;
mod limits;
mod properties;
mod secrecy;
mod stack;
mod templates;
