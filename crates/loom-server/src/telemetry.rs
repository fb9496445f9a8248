//! Traces: what runs do, as spans of OpenTelemetry, sent to a collector.
//!
//! `recorder` hears of the events of runs and makes spans of them, `span` writes these as the protocol wants them, and
//! `exporter` sends them. A run never waits for any of that: a span that finds the queue full is dropped and counted.

mod exporter;
mod recorder;
mod span;

use std::{fmt, time::Duration};

pub(crate) use self::{exporter::Exporter, recorder::Recorder};

/// Where spans are sent, and how. The names of the defaults are those of the OpenTelemetry specification.
#[derive(Clone)]
pub struct TelemetrySettings {
    /// The whole address that takes spans in as OTLP over HTTP: `http://127.0.0.1:4318/v1/traces`.
    pub address: String,
    /// Headers to send along; taken for secret.
    pub headers: Vec<(String, String)>,
    /// What all spans come from: `service.name` and whatever else is to be told of this process.
    pub resource: Vec<(String, String)>,
    /// Spans that may wait: 8,192. More are dropped.
    pub queue_max: usize,
    /// The most spans of one request: 512.
    pub batch_max: usize,
    /// How long spans are gathered before they are sent: 1 s.
    pub delay: Duration,
    /// How long one request may take: 10 s.
    pub timeout: Duration,
    /// The wait before a request is repeated, doubled each time: 1 s. It is made five times at most.
    pub retry_wait: Duration,
    /// How long a graceful stop waits for the last spans: 5 s.
    pub flush_timeout: Duration,
}

impl TelemetrySettings {
    /// The defaults.
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

/// Why spans cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The address is none.
    #[error("traces cannot be sent: {why}")]
    Address {
        /// What is wrong, with the address.
        why: String,
    },
    /// A header cannot be sent.
    #[error(
        "the header '{name}' cannot be sent to the collector: its name or value holds a character that no header may"
    )]
    Header {
        /// Its name; the value is secret.
        name: String,
    },
}
