//! Reads form fields and multipart bodies from envelopes.

use crate::{Object, Value, envelope, percent};

/// The fields of a form: those listed in `$formdata`, or else those in the content of a form envelope. `None` if the
/// value is not a form.
///
/// ```
/// use loom_expression::{Value, envelope, form};
///
/// let body = envelope::encode("application/x-www-form-urlencoded", b"a=1&b=x+y%21");
/// let fields = form::fields(&body).expect("it is a form");
/// assert_eq!(fields[1], ("b".to_owned(), Value::from("x y!")));
/// ```
pub fn fields(body: &Value) -> Option<Vec<(String, Value)>> {
    if let Some(listed) = body.get("$formdata").and_then(Value::as_array) {
        let field =
            |field: &Value| Some((field.get("key")?.as_str()?.to_owned(), field.get("value")?.clone()));
        return Some(listed.iter().filter_map(field).collect());
    }
    if let Some(parts) = parts(body) {
        let field = |part: &Value| {
            let disposition = part.get("headers")?.get("Content-Disposition")?.as_str()?;
            Some((parameter(disposition, "name")?, part.get("body")?.clone()))
        };
        return Some(parts.iter().filter_map(field).collect());
    }
    let (content_type, bytes) = envelope::decode(body)?;
    envelope::is_type(content_type, "application/x-www-form-urlencoded").then(|| {
        decode(&String::from_utf8_lossy(&bytes))
            .into_iter()
            .map(|(key, value)| (key, Value::from(value)))
            .collect()
    })
}

/// Decodes `key=value&…`, where a plus sign stands for a space.
pub fn decode(text: &str) -> Vec<(String, String)> {
    let plain = |part: &str| percent::decode_form(part.as_bytes());
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (plain(key), plain(value)))
        .collect()
}

/// The parts of a multipart body, each an object `{headers, body}`: those listed in `$multipart`, or else those in the
/// content of a multipart envelope. `None` if the value is not a multipart body.
pub fn parts(body: &Value) -> Option<Vec<Value>> {
    if let Some(listed) = body.get("$multipart").and_then(Value::as_array) {
        return Some(listed.to_vec());
    }
    let (content_type, bytes) = envelope::decode(body)?;
    let kind = content_type.split(';').next()?.trim();
    if !kind.get(..10)?.eq_ignore_ascii_case("multipart/") {
        return None;
    }
    let boundary = parameter(content_type, "boundary")?;
    Some(split_parts(&bytes, &boundary))
}

/// A parameter in the value of a header, such as `name` in `form-data; name="a"`.
pub fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Splits a body into parts, which are separated by lines of two hyphens and the boundary (RFC 2046, section 5.1).
fn split_parts(bytes: &[u8], boundary: &str) -> Vec<Value> {
    let first = format!("--{boundary}").into_bytes();
    let next = format!("\r\n--{boundary}").into_bytes();
    let mut parts = Vec::new();
    let Some(mut at) = find(bytes, &first).map(|at| at + first.len()) else {
        return parts;
    };
    while bytes[at..].starts_with(b"\r\n") {
        // The line break before the headers is kept, so that even a part without headers has two before its body.
        let rest = &bytes[at..];
        let Some(length) = find(&rest[2..], &next).map(|length| length + 2) else {
            break;
        };
        parts.push(part(&rest[..length]));
        at += length + next.len();
    }
    parts
}

fn part(bytes: &[u8]) -> Value {
    let (head, body) = match find(bytes, b"\r\n\r\n") {
        Some(at) => (&bytes[..at], &bytes[at + 4..]),
        None => (bytes, &[][..]),
    };
    let mut headers = Object::new();
    for line in String::from_utf8_lossy(head).lines() {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim(), value.trim());
        }
    }
    let content_type = headers.get_ignore_case("Content-Type").and_then(Value::as_str);
    let body = match content_type {
        Some(kind) if kind.trim_start().get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/")) => {
            Value::from(String::from_utf8_lossy(body).as_ref())
        }
        kind => envelope::encode(kind.unwrap_or("application/octet-stream"), body),
    };
    let mut part = Object::with_capacity(2);
    part.insert("headers", headers);
    part.insert("body", body);
    Value::from(part)
}
