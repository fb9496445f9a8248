//! What the crate promises, tested from outside.

#![expect(clippy::unwrap_used, reason = "these are tests; helpers beside them count as such")]

mod conformance;
mod examples;
mod limits;
mod properties;
mod secrecy;
mod templates;
