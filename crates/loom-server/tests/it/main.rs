//! The server over real connections: requests and responses.

#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

mod api_access;
mod api_approvals;
mod api_chats;
mod api_completions;
mod api_egress;
mod api_events;
mod api_idempotency;
mod api_limits;
mod api_mcp;
mod api_memory;
mod api_metrics;
mod api_questions;
mod api_resilience;
mod api_run_filters;
mod api_runs;
mod api_secrets;
mod api_signals;
mod api_status;
mod api_streams;
mod api_workflows;
mod arbitrary;
mod browsers;
mod fair;
mod identity;
mod retention;
mod secrets;
mod support;
mod telemetry;
mod triggers;
mod ui;
mod ui_changes;
