//! Tests of the crate through its public interface.

mod cases;
mod hostile;
mod laws;
mod reading;
mod support;
