//! Requests against real servers on the loopback address.

mod accounts;
mod answers;
mod engine;
mod failures;
mod patterns;
mod support;
