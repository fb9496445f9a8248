//! Reads documents of the API. What is missing or of another type is empty, so that a page shows what there is.

use std::time::Duration;

use loom_expression::{Timestamp, Value};

/// A string property, or nothing.
pub(crate) fn text<'v>(document: &'v Value, name: &str) -> &'v str {
    document.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A count, or 0.
pub(crate) fn count(document: &Value, name: &str) -> u64 {
    let number = document.get(name).and_then(Value::as_i64);
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

/// Whether a property is true.
pub(crate) fn is(document: &Value, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of an array property.
pub(crate) fn items<'v>(document: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    document.get(name).and_then(Value::as_array).into_iter().flat_map(|items| items.iter())
}

/// A time property.
pub(crate) fn time(document: &Value, name: &str) -> Option<Timestamp> {
    text(document, name).parse().ok()
}

/// A property that is neither missing nor null.
pub(crate) fn present<'v>(document: &'v Value, name: &str) -> Option<&'v Value> {
    document.get(name).filter(|value| !value.is_null())
}

/// The code and the message of an error, which in lists is only a code.
pub(crate) fn error(document: &Value) -> Option<(&str, &str)> {
    let error = present(document, "error")?;
    match error.as_str() {
        Some(code) => Some((code, "")),
        None => Some((text(error, "code"), text(error, "message"))),
    }
}

/// The time from one instant to a later one.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let nanos = later.unix_nanos() - earlier.unix_nanos();
    u64::try_from(nanos).map(Duration::from_nanos).unwrap_or_default()
}
