//! The tests of the store on a PostgreSQL server that they start themselves.
#![cfg(feature = "postgres-tests")]
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod contract;
mod failover;
mod faults;
mod fences;
mod members;
mod proxy;
mod server;
mod zombie;
