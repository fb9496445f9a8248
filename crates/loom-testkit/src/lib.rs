//! For tests of workflows: case files and the runner that plays them in virtual time.
//!
//! `loom test` is a thin face over [`cases`]: it reads files, plays their cases, and prints what [`cases::Report`] says.

pub mod cases;
pub mod flaky;
pub mod fuzz;
pub mod mock;
pub mod scenario;
mod server;

// The guide is about several crates at once, and this one may use them all.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/embedding.md")]
struct Guide;
