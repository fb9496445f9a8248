//! The workflow server: HTTP triggers, callbacks, the management API, live events, recurrences.
//!
//! A [`Host`] owns an engine, its store, the deployed definitions and their triggers. A [`Server`] is its HTTP interface.
//! Every accepted request is durable before its response is sent, and secrets are redacted from everything that is shown.
//! This crate does not print and does not read files or the environment; the program that uses it does.

mod access;
mod backfill;
mod batch;
mod callers;
mod change_log;
mod circuit_names;
mod cluster;
mod completions;
mod deploy;
mod disabling;
mod event_json;
mod fire;
mod health;
mod hold;
mod host;
mod hub;
mod idempotency;
mod impatient;
mod invoke;
mod journal_reader;
mod keys;
mod listing;
mod lookup;
mod mcp;
mod memory;
mod memory_changed;
mod messages;
mod metrics;
mod nodes;
mod occurrences;
mod open;
mod openapi;
mod path;
mod pause;
mod policies;
mod poll;
mod process_usage;
mod published;
mod questions;
mod received;
mod recurrence;
mod redact;
mod refusal;
mod remember;
mod request;
mod response;
mod retain;
mod revive;
mod routes;
mod run_changes;
mod run_definition;
mod run_ended;
mod run_list;
mod run_log;
mod runs;
mod sealed;
mod secret_audit;
mod secret_keeper;
mod secret_store;
mod secrets;
mod server;
mod services;
mod sessions;
mod shared;
mod shown_settings;
mod sign;
mod signals;
mod skip;
mod sse;
mod stopped;
mod store_audit;
mod stream;
mod subscription;
mod switches;
mod tally;
mod telemetry;
mod timetable;
mod tokens;
mod trigger_history;
mod trigger_task;
mod triggers;
mod ui;
mod view;
mod workflows;

pub use cluster::NodeSettings;
pub use deploy::{DeployError, Deployment, Origin, Source};
pub use host::{Host, HostError, HostSettings, LiveSettings, Recovery};
pub use mcp::{Mcp, McpError};
pub use openapi::OPENAPI;
pub use policies::PoliciesRefused;
pub use process_usage::ProcessUsage;
pub use redact::{HIDDEN, hide, without_credentials};
pub use secret_store::SecretStore;
pub use server::{Server, is_loopback};
pub use shared::{ServerSettings, Token};
pub use shown_settings::ShownSettings;
pub use switches::DisabledBy;
pub use telemetry::{TelemetryError, TelemetrySettings};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
