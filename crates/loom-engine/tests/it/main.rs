//! Tests of the engine at its boundary: definitions in, events and outcomes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue should stop")]

mod agents;
mod audit;
mod budgets;
mod callbacks;
mod chaos;
mod clocks;
mod crash;
mod endings;
mod faulty_disk;
mod flows;
mod gathered;
mod graphs;
mod guards;
mod held;
mod illegal;
mod in_order;
mod large_values;
mod laws;
mod live_texts;
mod long_loops;
mod loops;
mod memory;
mod old_stores;
mod owned;
mod parked;
mod pins;
mod policies;
mod queued;
mod reads;
mod resilience;
mod resubmit;
mod schemas;
mod secrets;
mod seeds;
mod signals;
mod simulation;
mod snapshots;
mod support;
mod suspects;
mod trail;
mod untrusted;
mod workflow;
mod world;
