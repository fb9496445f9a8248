//! Headers: which of the author's are sent, which Loom adds, and how those of a response appear.

use std::time::{Duration, SystemTime};

use hyper::{
    HeaderMap, Method,
    header::{self, HeaderName, HeaderValue},
};
use loom_expression::{Object, Timestamp, Value, ValueRef, percent};

use crate::Failure;

/// Identifies the action that sends a request.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// The workflow's name.
    pub workflow: String,
    /// The content version of the workflow.
    pub version: String,
    /// The run's id.
    pub run: String,
    /// The action's name.
    pub action: String,
    /// The caller's tracking id.
    pub tracking_id: String,
    /// The action's own tracking id.
    pub action_tracking_id: String,
    /// The same for every attempt of this execution of the action; empty for none.
    pub idempotency_key: String,
    /// The value of `traceparent`; empty for none.
    pub trace_parent: String,
    /// The value of `tracestate`; empty for none.
    pub trace_state: String,
}

/// Whether the language silently removes a header that an author wrote.
///
/// `Content-Disposition`, `Content-Encoding` and `Content-Type` describe a body, so they are kept when the method
/// usually has one. A DELETE loses them; if it has a body, that is sent with the type of its value.
pub(crate) fn is_removed(name: &str, method: &Method) -> bool {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "accept-version" => false,
        "content-disposition" | "content-encoding" | "content-type" => {
            !has_body(method) || *method == Method::DELETE
        }
        "allow" | "cookie" | "expires" | "host" | "last-modified" | "origin" | "set-cookie"
        | "transfer-encoding" => true,
        // Not in the language's list, but managed by the client: they describe the connection, not the request.
        "connection" | "keep-alive" | "upgrade" | "te" | "trailer" => true,
        other => other.starts_with("accept-") || other.starts_with("content-"),
    }
}

/// Whether a body is sent with the method.
pub(crate) fn has_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::TRACE)
}

/// The author's headers that are sent. Null omits a header; an array sends it several times.
pub(crate) fn from_author(given: &Value, method: &Method) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let members = match given.as_ref() {
        ValueRef::Null => return Ok(headers),
        ValueRef::Object(members) => members,
        _ => {
            return Err(Failure::bad_request(format!(
                "'headers' must be an object, found {}.",
                given.kind()
            )));
        }
    };
    for (name, value) in members {
        if value.is_null() || is_removed(name, method) {
            continue;
        }
        let name_parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Failure::bad_request(format!("'{name}' is not a valid header name.")))?;
        let mut push = |item: &Value| {
            let mut value = HeaderValue::from_bytes(item.text().trim().as_bytes()).map_err(|_| {
                Failure::bad_request(format!(
                    "The value of the header '{name}' contains a line break or a control character."
                ))
            })?;
            value.set_sensitive(item.contains_secret());
            headers.append(&name_parsed, value);
            Ok::<(), Failure>(())
        };
        match value.as_array() {
            Some(items) => items.iter().try_for_each(push)?,
            None => push(value)?,
        }
    }
    Ok(headers)
}

/// Adds what identifies the caller to the service: `User-Agent`, the trace, and the tracking headers unless they are
/// suppressed. Never replaces a header that the author set.
pub(crate) fn add_marks(headers: &mut HeaderMap, marks: &Marks, suppressed: bool) {
    let agent = concat!("loom/", env!("CARGO_PKG_VERSION"));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(agent));
    // A trace that the author continues is left unchanged as a whole.
    if !headers.contains_key("traceparent") {
        for (name, value) in [("traceparent", &marks.trace_parent), ("tracestate", &marks.trace_state)] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.entry(HeaderName::from_static(name)).or_insert(value);
            }
        }
    }
    if suppressed {
        return;
    }
    for (name, value) in [
        ("x-ms-workflow-id", &marks.workflow),
        ("x-ms-workflow-name", &marks.workflow),
        ("x-ms-workflow-version", &marks.version),
        ("x-ms-workflow-run-id", &marks.run),
        ("x-ms-workflow-operation-name", &marks.action),
        ("x-ms-client-tracking-id", &marks.tracking_id),
        ("x-ms-tracking-id", &marks.action_tracking_id),
        ("x-ms-action-tracking-id", &marks.action_tracking_id),
        ("x-ms-correlation-id", &marks.action_tracking_id),
    ] {
        // Names may contain any character; headers may not.
        if let Ok(value) = HeaderValue::from_str(&percent::encode(value))
            && !value.is_empty()
        {
            headers.entry(HeaderName::from_static(name)).or_insert(value);
        }
    }
}

/// Adds `Idempotency-Key` for every method that is not safe (RFC 9110, section 9.2.1). PUT and DELETE are meant to be
/// idempotent, but the key still lets a service that counts requests recognize a repeated one.
///
/// The format is that of the IETF draft "The Idempotency-Key HTTP Header Field": a quoted string. A key that the
/// author set is kept.
pub(crate) fn add_idempotency_key(headers: &mut HeaderMap, method: &Method, key: &str) {
    if key.is_empty() || method.is_safe() {
        return;
    }
    let mut text = String::with_capacity(key.len() + 2);
    text.push('"');
    for character in key.chars() {
        match character {
            ' '..='~' if character != '"' && character != '\\' && character != '%' => text.push(character),
            other => text.push_str(&percent::encode(other.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push('"');
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.entry(HeaderName::from_static("idempotency-key")).or_insert(value);
    }
}

/// The idempotency key of a request that belongs to another request: the key of that one, and a word.
pub(crate) fn derived_key(headers: &HeaderMap, word: &str) -> Option<HeaderValue> {
    let key = headers.get("idempotency-key")?.to_str().ok()?;
    let key = key.strip_suffix('"').map_or_else(|| format!("{key}/{word}"), |key| format!("{key}/{word}\""));
    HeaderValue::from_str(&key).ok()
}

/// The headers of a response as an object: known names in their usual spelling, extensions (`x-…`) in lower case,
/// repeated headers joined by commas.
pub(crate) fn to_object(headers: &HeaderMap) -> Object {
    let mut object = Object::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        object.insert(spelled(name.as_str()), values.join(","));
    }
    object
}

fn spelled(name: &str) -> String {
    match name {
        "etag" => return "ETag".to_owned(),
        "www-authenticate" => return "WWW-Authenticate".to_owned(),
        "content-md5" => return "Content-MD5".to_owned(),
        other if other.starts_with("x-") => return other.to_owned(),
        _ => {}
    }
    let mut spelled = String::with_capacity(name.len());
    let mut start = true;
    for character in name.chars() {
        spelled.push(if start { character.to_ascii_uppercase() } else { character });
        start = character == '-';
    }
    spelled
}

/// The longest wait that a service may ask for: between retries, between polls of an accepted request, and between
/// the polls of a trigger.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// The wait that a response asks for: `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), at most
/// [`RETRY_AFTER_MAX`].
///
/// A date is compared with the response's own `Date`, if there is one, so that a difference between the two clocks
/// has no effect; otherwise with `now`. `retry-after-ms` and `x-ms-retry-after-ms`, which some services send, take
/// precedence because they are exact.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    asked_wait(headers, now).map(|wait| wait.min(RETRY_AFTER_MAX))
}

fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        if let Some(millis) = text(name).and_then(digits) {
            return Some(Duration::from_millis(millis));
        }
    }
    let wanted = text("retry-after")?;
    if let Some(seconds) = digits(wanted) {
        return Some(Duration::from_secs(seconds));
    }
    let due = httpdate::parse_http_date(wanted).ok()?;
    let sent = text("date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(|| {
        let millis = u64::try_from(now.unix_millis()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    });
    Some(due.duration_since(sent).unwrap_or_default())
}

/// A number as HTTP writes it: only digits, of any length. A number that is too large becomes the largest.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
