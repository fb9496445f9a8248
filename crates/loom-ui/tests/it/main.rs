//! Tests of what the crate shows, by its public functions.

mod drawings;
