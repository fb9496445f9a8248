//! Tests of the crate through its public interface.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

mod cases;
mod hostile;
mod laws;
mod reading;
mod support;
