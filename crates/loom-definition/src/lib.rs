//! Workflow JSON to one validated, immutable [`Workflow`], or to diagnostics that point at the text.
//!
//! Used by the engine, which only meets a `Workflow` that is already right. Knows no clock, no I/O and no runtime.

pub mod duration;
pub mod model;
pub mod policy;
pub mod status;
pub mod trigger;

pub use model::{ActionIdx, BlockIdx, VariableIdx, Workflow};
pub use status::{RunStatus, Status, StatusSet};
