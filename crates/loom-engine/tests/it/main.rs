//! Tests of the engine at its boundaries: definitions in, events and outcomes out.

mod crash;
mod graphs;
mod loops;
mod resilience;
mod support;
mod workflow;
