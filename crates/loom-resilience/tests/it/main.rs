//! The public API: behaviours, traps, laws, the registry and the optional features.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod behaviours;
mod faces;
#[cfg(feature = "http")]
mod http;
mod laws;
mod registry;
mod traps;
mod waiting;
