//! Tests of the public interface.

mod door;
mod encode;
mod errors;
mod streams;
mod whole;
