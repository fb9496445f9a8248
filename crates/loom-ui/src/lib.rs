//! The web pages of Loom and the drawing of workflows: pure functions from the documents of the API to HTML and SVG.
//!
//! Used by `loom-server`, which adds requests, sessions and assets, and by `loom graph`. Must not know I/O, a clock or a
//! runtime. Everything that is shown was read from an API document or a definition, so a page shows nothing that the API
//! does not.
//!
//! All text passes through `maud`, which escapes it, and characters that cannot be seen are made visible.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

mod assets;
mod document;
mod graph;
pub mod pages;
mod states;

pub use assets::{ICON, SCRIPT, stylesheet};
pub use graph::{Drawing, Graph, Links, embedded_svg, mermaid, percent_encoded, standalone_svg};
pub use states::{NodeState, State, States};
