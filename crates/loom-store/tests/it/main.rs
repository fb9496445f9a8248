//! The tests of the store: the contract on every backend, and how the embedded one handles failures.

mod backend;
mod contract;
mod copied;
mod crash;
mod encrypted;
mod faults;
mod migration;
mod notices;
mod sqlite;
