//! Tests of the public interface.

mod conversation;
mod emulate;
mod encode;
mod errors;
mod server;
mod stand_ins;
mod streams;
mod whole;
