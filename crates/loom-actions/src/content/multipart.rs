//! `multipart/*` bodies (RFC 2046, section 5.1): parts with their own headers, separated by lines with a boundary.

use bytes::Bytes;
use loom_expression::{JSON_VALUES_MAX, Object, Value, envelope};

use super::{Body, DecodeError, EncodeError, Reading, parameter};

/// The boundary in a content type.
pub fn boundary_of(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty())
}

/// Decodes a body to `[{"headers": {…}, "body": …}]`; `None` when the boundary does not occur.
///
/// The body of each part is decoded by the part's own content type; a part without one is bytes.
pub fn decode_multipart(bytes: &[u8], boundary: &str) -> Option<Value> {
    let mut reading = Reading { values_left: JSON_VALUES_MAX, values_max: JSON_VALUES_MAX, depth: 1 };
    decode_within(bytes, boundary, "multipart/form-data", &mut reading).ok().flatten()
}

/// Values of a part other than those in its headers and its body.
const PART_VALUES: usize = 4;

/// Like [`decode_multipart`], within the remaining limits.
pub(super) fn decode_within(
    bytes: &[u8],
    boundary: &str,
    kind: &str,
    reading: &mut Reading,
) -> Result<Option<Value>, DecodeError> {
    let delimiter = format!("--{boundary}");
    let mut marks = delimiters(bytes, delimiter.as_bytes());
    let Some(mut start) = marks.next() else { return Ok(None) };
    let mut parts = Vec::new();
    for mark in marks {
        reading.take(PART_VALUES, kind)?;
        parts.push(part(bytes.get(start.end..mark.begin).unwrap_or_default(), reading)?);
        start = mark;
    }
    Ok(Some(parts.into()))
}

/// A boundary line: where the line break before it starts, and where the next line starts.
struct Mark {
    begin: usize,
    end: usize,
}

fn delimiters<'a>(bytes: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = Mark> + 'a {
    let mut from = 0;
    let mut closed = false;
    std::iter::from_fn(move || {
        while !closed {
            let at = from + find(bytes.get(from..)?, delimiter)?;
            let after = at + delimiter.len();
            from = after;
            if at > 0 && bytes[at - 1] != b'\n' {
                continue;
            }
            let rest = &bytes[after..];
            closed = rest.starts_with(b"--");
            // White space may follow a delimiter; anything else means that a longer line only starts with it.
            let line = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let blank = rest[..line].iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            if !closed && !blank {
                continue;
            }
            let begin = match at {
                0 => 0,
                at if at >= 2 && bytes[at - 2] == b'\r' => at - 2,
                at => at - 1,
            };
            return Some(Mark { begin, end: (after + line + 1).min(bytes.len()) });
        }
        None
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn part(bytes: &[u8], reading: &mut Reading) -> Result<Value, DecodeError> {
    let mut headers = Object::new();
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end]);
        let line = line.trim_end_matches('\r');
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            reading.take(1, "multipart/form-data")?;
            headers.insert(name.trim(), value.trim());
        }
        if rest.is_empty() {
            break;
        }
    }
    if headers.get_ignore_case("Content-Length").is_none() {
        headers.insert("Content-Length", rest.len().to_string());
    }
    let kind = headers.get_ignore_case("Content-Type").and_then(Value::as_str);
    // The JSON of a part is not parsed: it stays bytes until an expression uses its value.
    let kind = kind.unwrap_or("application/octet-stream");
    let body = if super::is_json(kind) {
        Some(envelope::encode(kind, rest))
    } else {
        match super::decode_part(rest, Some(kind), reading) {
            Err(error) if error.is_too_large => return Err(error),
            // A part that does not match its content type is read as text.
            Err(_) => Some(String::from_utf8_lossy(rest).as_ref().into()),
            Ok(body) => body,
        }
    };
    let mut part: Object = [("headers", Value::from(headers.clone()))].into_iter().collect();
    part.insert("body", body.unwrap_or_else(|| "".into()));
    Ok(part.into())
}

/// Encodes the body of `$multipart`. The boundary is derived from the content, so that equal parts always give equal
/// bytes.
pub(super) fn encode(parts: &Value, content_type: &str) -> Result<Body, EncodeError> {
    let parts = parts.as_array().ok_or(EncodeError::Part { index: 0 })?;
    let mut encoded: Vec<(String, Bytes)> = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        encoded.push(encode_part(part).ok_or(EncodeError::Part { index })??);
    }
    let boundary = boundary_of(content_type).unwrap_or_else(|| fresh_boundary(&encoded));
    let mut bytes = Vec::new();
    for (headers, body) in &encoded {
        bytes.extend_from_slice(format!("--{boundary}\r\n{headers}\r\n").as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = match boundary_of(content_type) {
        Some(_) => content_type.to_owned(),
        None => format!("{}; boundary={boundary}", content_type.trim_end_matches([';', ' '])),
    };
    Ok(Body { bytes: bytes.into(), content_type, forced: true })
}

fn encode_part(part: &Value) -> Option<Result<(String, Bytes), EncodeError>> {
    let given = part.get("headers").and_then(Value::as_object);
    let declared = given.and_then(|headers| headers.get_ignore_case("Content-Type")).and_then(Value::as_str);
    let body = match super::encode(part.get("body")?, declared) {
        Ok(body) => body,
        Err(error) => return Some(Err(error)),
    };
    let mut headers = String::new();
    for (name, value) in given.into_iter().flatten() {
        // A line break in a header would end the headers of the part early, and what follows it would count as
        // content.
        let value = value.text();
        if !name.eq_ignore_ascii_case("Content-Length") && !has_break(name) && !has_break(&value) {
            headers.extend([name, ": ", &value, "\r\n"]);
        }
    }
    // The default type of a part is plain text, so a string needs no type.
    if let Some(body) =
        body.as_ref().filter(|body| declared.is_none() && !body.content_type.starts_with("text/plain"))
    {
        headers.extend(["Content-Type: ", &body.content_type, "\r\n"]);
    }
    Some(Ok((headers, body.map(|body| body.bytes).unwrap_or_default())))
}

fn has_break(text: &str) -> bool {
    text.contains(['\r', '\n'])
}

/// A boundary that does not occur in any part.
fn fresh_boundary(parts: &[(String, Bytes)]) -> String {
    let mut hasher = blake3::Hasher::new();
    loop {
        for (headers, body) in parts {
            hasher.update(headers.as_bytes()).update(body);
        }
        let boundary = format!("loom-{}", &hasher.finalize().to_hex()[..32]);
        if parts.iter().all(|(_, body)| find(body, boundary.as_bytes()).is_none()) {
            return boundary;
        }
    }
}
