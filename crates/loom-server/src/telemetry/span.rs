//! Spans and their OTLP encoding: JSON of `ExportTraceServiceRequest`, opentelemetry-proto 1.x.
//!
//! In this encoding, ids are hexadecimal strings, 64-bit numbers decimal strings, and enumerations numbers.

use std::{borrow::Cow, sync::Arc};

use loom_expression::{Masker, Timestamp};
use serde_json::{Value, json};

/// The Unix epoch in ticks of 100 ns since the year 1.
const UNIX_EPOCH_TICKS: i64 = 621_355_968_000_000_000;

/// A span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) state: Option<Arc<str>>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) attributes: Attributes,
    pub(super) events: Events,
    /// The error message, if the span failed.
    pub(super) failed: Option<String>,
}

impl Span {
    /// Masks secrets.
    pub(super) fn mask(&mut self, masker: &Masker) {
        if masker.is_empty() {
            return;
        }
        let mask = |text: &mut String| {
            if let Cow::Owned(masked) = masker.mask(text) {
                *text = masked;
            }
        };
        mask(&mut self.name);
        if let Some(why) = &mut self.failed {
            mask(why);
        }
        let of_events = self.events.kept.iter_mut().flat_map(|(_, _, attributes)| attributes);
        for (_, attribute) in self.attributes.iter_mut().chain(of_events) {
            if let Attribute::Text(text) = attribute {
                mask(text);
            }
        }
    }
}

/// The kind of a span, with the number in the protocol.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// Attribute names and values.
pub(super) type Attributes = Vec<(&'static str, Attribute)>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute {
    Text(String),
    Number(i64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Attribute::Text(text)
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Attribute::Number(number)
    }
}

/// The maximum number of events of a span; further ones are only counted.
const EVENTS_MAX: usize = 32;

/// The events of a span.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: Vec<(&'static str, Timestamp, Attributes)>,
    dropped: u32,
}

impl Events {
    pub(super) fn push(&mut self, name: &'static str, at: Timestamp, attributes: Attributes) {
        if self.kept.len() < EVENTS_MAX {
            self.kept.push((name, at, attributes));
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

/// One request with all of `spans`.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Value {
    let resource: Vec<Value> =
        resource.iter().map(|(name, text)| json!({"key": name, "value": {"stringValue": text}})).collect();
    let scope = json!({"name": "loom", "version": env!("CARGO_PKG_VERSION")});
    let spans: Vec<Value> = spans.iter().map(encoded).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

fn encoded(span: &Span) -> Value {
    let mut object = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": span.kind as i32,
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end.max(span.start)),
        "attributes": attributes(&span.attributes),
        "status": match &span.failed {
            None => json!({}),
            Some(message) => json!({"code": 2, "message": message}),
        },
    });
    if let Some(parent) = span.parent {
        object["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if let Some(state) = &span.state {
        object["traceState"] = json!(**state);
    }
    if !span.events.kept.is_empty() {
        let event = |(name, at, more): &(&str, Timestamp, Attributes)| json!({"name": name, "timeUnixNano": nanos(*at), "attributes": attributes(more)});
        object["events"] = span.events.kept.iter().map(event).collect();
    }
    if span.events.dropped > 0 {
        object["droppedEventsCount"] = json!(span.events.dropped);
    }
    object
}

fn attributes(attributes: &Attributes) -> Value {
    let encoded = attributes.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Text(text) => json!({"stringValue": text}),
            Attribute::Number(number) => json!({"intValue": number.to_string()}),
        };
        json!({"key": name, "value": value})
    });
    encoded.collect()
}

/// Nanoseconds since the Unix epoch, as text; 0 for times before it, which the protocol cannot say.
fn nanos(at: Timestamp) -> String {
    let ticks = (i128::from(at.ticks()) - i128::from(UNIX_EPOCH_TICKS)).max(0);
    (ticks * 100).min(i128::from(u64::MAX)).to_string()
}
