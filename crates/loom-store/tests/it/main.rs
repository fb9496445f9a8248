//! The store's tests: the contract on every backend, and what the embedded one does when things break.

mod contract;
mod crash;
mod encrypted;
mod faults;
mod migration;
mod notices;
mod sqlite;
