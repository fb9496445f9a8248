//! Workflow JSON to one validated, immutable [`Workflow`], or to diagnostics that point at the text.
//!
//! Used by the engine, which only meets a `Workflow` that is already right. Knows no clock, no I/O and no runtime.
//!
//! ```
//! use loom_definition::{Definition, LoadOptions};
//!
//! let text = br#"{
//!   "triggers": {"manual": {"type": "Request"}},
//!   "actions": {"Greet": {"type": "Compose", "inputs": "Hello, @{triggerBody()?['name']}!", "runAfter": {}}}
//! }"#;
//! let loaded = Definition::parse(text, &LoadOptions::default()).expect("the definition is right");
//! assert_eq!(loaded.workflow.actions.len(), 1);
//!
//! let wrong = String::from_utf8_lossy(text).replace("Compose", "Compose\", \"runAfter\": {\"Gret\": [\"Succeeded\"]}, \"x\": \"");
//! assert!(Definition::parse(wrong.as_bytes(), &LoadOptions::default()).is_ok());
//! ```

pub mod arm;
mod bind;
pub mod catalog;
pub mod diagnostic;
pub mod duration;
mod load;
mod lower;
pub mod model;
pub mod policy;
mod shape;
pub mod status;
pub mod text;
pub mod trigger;

pub use diagnostic::{Diagnostic, Diagnostics, Severity, catalogue, render};
pub use load::{Definition, LoadOptions, Loaded};
pub use model::{ActionIdx, BlockIdx, VariableIdx, Workflow};
pub use status::{RunStatus, Status, StatusSet};
