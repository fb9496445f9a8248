//! The public API: behaviours, traps, laws, the registry and the optional features.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

mod behaviours;
#[cfg(feature = "chaos")]
mod chaos;
mod faces;
mod hedging;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "config")]
mod inherit;
mod laws;
mod learning;
mod modes;
mod registry;
mod reload;
mod storm;
mod traps;
mod waiting;
