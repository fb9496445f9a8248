//! Named values in the store: how triggers are called there, and the form of what is kept.

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::KeyWrite;

/// `workflow/trigger`, in lower case: what a trigger is known by here and in the store.
pub(crate) fn trigger_key(workflow: &str, trigger: &str) -> String {
    format!("{}/{}", workflow.to_lowercase(), trigger.to_lowercase())
}

/// A write of a JSON object under a key; None deletes it.
pub(crate) fn key_write(namespace: &str, key: &str, value: Option<Object>) -> KeyWrite {
    KeyWrite {
        namespace: namespace.into(),
        key: key.into(),
        value: value.map(|value| Bytes::from(Value::from(value).to_json_text())),
        ..KeyWrite::default()
    }
}

/// A number that is stored as a string, because it may exceed the range of JSON readers.
pub(crate) fn number(kept: &Value, name: &str) -> Option<i128> {
    kept.get(name)?.as_str()?.parse().ok()
}

/// A timestamp from nanoseconds since 1970, limited to the end of the calendar.
pub(crate) fn moment(nanos: i128) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(nanos).unwrap_or(jiff::Timestamp::MAX)
}
