//! Tests of the public interface.

mod door;
mod encode;
mod errors;
mod stand_ins;
mod streams;
mod whole;
