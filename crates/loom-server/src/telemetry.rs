//! Traces: the runs as OpenTelemetry spans, exported to a collector.
//!
//! `recorder` converts events of runs to spans, `span` encodes them for the protocol, and `exporter` sends them. A run never waits
//! for this: a span that finds the queue full is dropped and counted.

mod exporter;
mod gen_ai;
mod recorder;
mod span;

use std::{fmt, time::Duration};

pub(crate) use self::{exporter::Exporter, recorder::Recorder};

/// The settings of the trace exporter. The defaults follow the OpenTelemetry specification.
#[derive(Clone)]
pub struct TelemetrySettings {
    /// The full URL of the OTLP/HTTP endpoint: `http://127.0.0.1:4318/v1/traces`.
    pub address: String,
    /// Additional headers; treated as secret.
    pub headers: Vec<(String, String)>,
    /// The resource attributes of all spans, such as `service.name`.
    pub resource: Vec<(String, String)>,
    /// The capacity of the queue in spans; further spans are dropped. Default: 8,192.
    pub queue_max: usize,
    /// The maximum number of spans in one request. Default: 512.
    pub batch_max: usize,
    /// How long spans are collected before they are sent. Default: 1 s.
    pub delay: Duration,
    /// The timeout of one request. Default: 10 s.
    pub timeout: Duration,
    /// The wait before the first retry of a request, doubled for each further one; there are at most five attempts. Default: 1 s.
    pub retry_wait: Duration,
    /// How long a graceful shutdown waits for the last spans. Default: 5 s.
    pub flush_timeout: Duration,
}

impl TelemetrySettings {
    /// Settings with the defaults.
    pub fn new(address: impl Into<String>, service_name: impl Into<String>) -> TelemetrySettings {
        TelemetrySettings {
            address: address.into(),
            headers: Vec::new(),
            resource: vec![("service.name".to_owned(), service_name.into())],
            queue_max: 8_192,
            batch_max: 512,
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            retry_wait: Duration::from_secs(1),
            flush_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for TelemetrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetrySettings")
            .field("address", &self.address)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// Why the settings of the trace exporter are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The URL is invalid.
    #[error("cannot send traces: {why}")]
    Address {
        /// The reason, with the URL.
        why: String,
    },
    /// A header is invalid.
    #[error(
        "cannot send the header '{name}' to the collector: its name or value has a character that is not allowed"
    )]
    Header {
        /// Its name; the value is secret.
        name: String,
    },
}
