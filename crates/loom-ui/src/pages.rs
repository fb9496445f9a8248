//! The pages below `/ui/`. Each is a function of documents of the API.

mod access;
mod bulk;
mod chart;
mod chat;
mod difference;
mod form;
mod json;
mod login;
mod memory;
mod panel;
mod resilience;
mod run;
mod runs;
mod secrets;
mod shell;
mod status;
mod timeline;
mod workflows;

pub use access::{AccessPage, access};
pub use bulk::{BulkChange, bulk};
pub use chat::MESSAGES;
pub use form::{Field, FieldKind, Refilled, body_of, fields_of};
pub use login::login;
pub use memory::{MemoryFilter, MemoryPage, memory};
pub use resilience::{ServicePage, resilience, service};
pub use run::{RunPage, Tab, run};
pub use runs::{RunFilter, runs};
pub use secrets::secrets;
pub use shell::{EVENTS, May, Visit, failure};
pub use status::{StatusPage, status};
pub use timeline::EXECUTIONS;
pub use workflows::{Draft, WorkflowPage, workflow, workflows};
