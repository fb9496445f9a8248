//! The workflow server: HTTP triggers, callbacks, the management API, live events, recurrences.
//!
//! A [`Host`] owns an engine, its store, the deployed definitions and their triggers. A [`Server`] is its HTTP interface.
//! Every accepted request is durable before its response is sent, and secrets are redacted from everything that is shown.
//! This crate does not print and does not read files or the environment; the program that uses it does.

mod hold;
mod host;
mod routes;
mod secret_list;
mod server;
mod sessions;
mod shown_settings;

mod deploy;
mod hub;
mod redact;
mod sign;

mod batch;
mod callers;
mod policies;
mod poll;
mod received;
mod recurrence;
mod run_definition;
mod run_ended;
mod run_list;
mod run_log;
mod stopped;
mod subscription;
mod switches;
mod timetable;
mod trigger_history;
mod triggers;

mod idempotency;
mod impatient;
mod invoke;
mod remember;
mod request;
mod response;
mod retain;
mod revive;
mod sealed;

mod api;
mod backfill;
mod event_json;
mod journal_reader;
mod memory;
mod metrics;
mod openapi;
mod path;
mod pause;
mod services;
mod signals;
mod sse;
mod telemetry;
mod ui;
mod view;

pub use deploy::{DeployError, Deployment, Origin, Source};
pub use host::{Host, HostError, HostSettings, LiveSettings, Recovery};
pub use metrics::ProcessUsage;
pub use policies::PoliciesRefused;
pub use redact::{HIDDEN, hide, without_credentials};
pub use secret_list::SecretList;
pub use server::{Server, ServerSettings, Token, is_loopback};
pub use shown_settings::ShownSettings;
pub use switches::DisabledBy;
pub use telemetry::{TelemetryError, TelemetrySettings};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
