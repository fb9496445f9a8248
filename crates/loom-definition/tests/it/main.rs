//! Tests of the crate through its public API.

mod agents;
mod arbitrary;
mod chats;
mod conformance;
mod diagnostics;
mod errors_page;
mod loading;
mod loom_spelling;
mod members;
mod numbering;
mod paths;
mod policies;
mod shapes;
mod shared_memory;
mod validator;
