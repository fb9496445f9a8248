//! Loads workflow definitions: JSON in, one validated and immutable [`Workflow`] out, or diagnostics that point at
//! the text.
//!
//! Used by the engine, which only ever sees a valid `Workflow`. Must not know a clock, I/O or a runtime.
//!
//! ```
//! use loom_definition::{Definition, LoadOptions};
//!
//! let text = br#"{
//!   "triggers": {"manual": {"type": "Request"}},
//!   "actions": {"Greet": {"type": "Compose", "inputs": "Hello, @{triggerBody()?['name']}!", "runAfter": {}}}
//! }"#;
//! let loaded = Definition::parse(text, &LoadOptions::default()).expect("the definition is valid");
//! assert_eq!(loaded.workflow.actions.len(), 1);
//!
//! let wrong = String::from_utf8_lossy(text).replace("\"runAfter\": {}", "\"runAfter\": {\"Load\": [\"Succeeded\"]}");
//! let found = Definition::parse(wrong.as_bytes(), &LoadOptions::default()).expect_err("no action is called `Load`");
//! assert_eq!((found.0[0].code, found.0[0].pointer.as_str()), ("L0204", "/actions/Greet/runAfter/Load"));
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

pub mod arm;
mod bind;
pub mod catalog;
pub mod diagnostic;
pub mod duration;
mod findings;
mod load;
mod lower;
mod memory;
pub mod model;
mod options;
pub mod policy;
mod schema_names;
mod setting;
mod shape;
pub mod status;
mod surroundings;
pub mod text;
pub mod trigger;
mod value_type;

pub use diagnostic::{Diagnostic, Diagnostics, Severity, catalogue, render};
pub use load::{Definition, Loaded};
pub use memory::{MEMORY_COMMON, MEMORY_OPERATIONS, MemoryGrants, MemoryOperation};
pub use model::{ActionIdx, BlockIdx, VariableIdx, Workflow};
pub use options::{LoadOptions, ScriptCheck, ScriptMistake};
pub use status::{RunStatus, Status, StatusSet};
pub use surroundings::{Bound, Surroundings, complete_connections, template_parameters};
