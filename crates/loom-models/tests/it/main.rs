//! Tests of the public interface.

mod conversation;
mod door;
mod emulate;
mod encode;
mod errors;
mod stand_ins;
mod streams;
mod whole;
