//! The tests of shared memory: the operations against a naive model, and the contract on every backend.

mod backends;
mod laws;
mod original;
