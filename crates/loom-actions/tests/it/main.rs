//! Requests against real servers on the loopback address.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod accounts;
mod agents;
mod answers;
mod certificates;
mod chats;
mod described;
mod engine;
mod failures;
mod mcp;
mod mcp_peer;
mod models;
mod patterns;
mod providers;
mod reach;
mod scripts;
mod secret_providers;
mod support;
mod taught;
