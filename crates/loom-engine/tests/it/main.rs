//! Tests of the engine at its boundaries: definitions in, events and outcomes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod crash;
mod graphs;
mod long_loops;
mod loops;
mod resilience;
mod secrets;
mod snapshots;
mod support;
mod workflow;
