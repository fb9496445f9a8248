//! The crate from outside: the fifteen behaviours, the traps, laws, the registry and the optional faces.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod behaviours;
mod faces;
mod laws;
mod registry;
mod traps;
mod waiting;
