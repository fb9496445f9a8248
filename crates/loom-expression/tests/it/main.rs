//! What the crate promises, tested from outside.

mod conformance;
mod examples;
