//! Bodies: converts values of the language to bytes with a content type, and back.
//!
//! Both directions are pure functions. They serve requests that actions send and requests that start runs.

mod form;
mod multipart;

use bytes::Bytes;
use loom_expression::{JSON_VALUES_MAX, Object, Value, ValueRef, envelope};

pub use self::{
    form::{decode_form, encode_form},
    multipart::{boundary_of, decode_multipart},
};

/// A body that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// The content type. Sent only when the author's headers have none, unless `forced`.
    pub content_type: String,
    /// Whether the type is part of the bytes (a multipart body with its boundary) and therefore replaces the one in
    /// the author's headers.
    pub forced: bool,
}

impl Body {
    fn new(bytes: impl Into<Bytes>, content_type: impl Into<String>) -> Body {
        Body { bytes: bytes.into(), content_type: content_type.into(), forced: false }
    }
}

/// Why a value cannot be sent as a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// `$content` is not base64.
    #[error("the '$content' of the body is not base64")]
    Base64,
    /// `$multipart` is not an array of `{headers, body}`.
    #[error("part {index} of the multipart body is not an object with 'body'")]
    Part {
        /// The part, from 0.
        index: usize,
    },
}

/// Returns the bytes of a body; `None` for null, which means no body.
///
/// A string is sent as it is, an envelope as its bytes with its type, `$multipart` and `$formdata` in their formats,
/// a flat object as a form when the author declares `application/x-www-form-urlencoded`, and everything else as JSON.
/// `declared` is the content type in the author's headers.
///
/// # Errors
/// [`EncodeError`] when an envelope or a multipart body is invalid.
pub fn encode(body: &Value, declared: Option<&str>) -> Result<Option<Body>, EncodeError> {
    if let Some(parts) = body.get("$multipart") {
        let kind = body.get("$content-type").and_then(Value::as_str).or(declared);
        return multipart::encode(parts, kind.unwrap_or("multipart/form-data")).map(Some);
    }
    if let Some(kind) = envelope::content_type(body) {
        let (_, bytes) = envelope::decode(body).ok_or(EncodeError::Base64)?;
        return Ok(Some(Body::new(bytes, kind)));
    }
    if let Some(fields) = body.get("$formdata").and_then(form::fields_of) {
        return Ok(Some(Body::new(encode_form(&fields), form::TYPE)));
    }
    let body = match body.as_ref() {
        ValueRef::Null => return Ok(None),
        ValueRef::String(text) => Body::new(text.to_owned(), "text/plain; charset=utf-8"),
        ValueRef::Object(object) if declared.is_some_and(|kind| envelope::is_type(kind, form::TYPE)) => {
            match form::fields_of_object(object) {
                Some(fields) => Body::new(encode_form(&fields), form::TYPE),
                None => Body::new(body.to_json_text(), form::TYPE),
            }
        }
        _ => Body::new(body.to_json_text(), "application/json; charset=utf-8"),
    };
    Ok(Some(body))
}

/// Why received bytes are not what their content type says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content type is '{content_type}', but the body is not {}: {reason}", self.wanted())]
pub struct DecodeError {
    /// The content type that the sender declared.
    pub content_type: String,
    /// What is wrong, with line and column.
    pub reason: String,
    /// Whether the body may be valid but contains more values than allowed.
    pub is_too_large: bool,
}

impl DecodeError {
    fn wanted(&self) -> &'static str {
        match (self.is_too_large, is_json(&self.content_type)) {
            (false, _) => "JSON",
            (true, true) => "JSON of an accepted size",
            (true, false) => "of an accepted size",
        }
    }
}

/// The most multipart bodies nested in each other; deeper ones stay bytes.
const PARTS_DEPTH_MAX: u32 = 3;

/// The remaining limits while reading one body.
struct Reading {
    values_left: usize,
    values_max: usize,
    /// The number of multipart bodies around the current position.
    depth: u32,
}

/// Converts received bytes to a value, by their content type; `None` for no bytes.
///
/// JSON is read as Json.NET reads it. `text/*`, and text without a content type, become a string. Everything else
/// becomes an envelope, to which forms add `$formdata` and multipart bodies `$multipart`.
///
/// # Errors
/// [`DecodeError`] when the body is not the JSON that its type declares.
pub fn decode(bytes: &[u8], content_type: Option<&str>) -> Result<Option<Value>, DecodeError> {
    decode_within(bytes, content_type, JSON_VALUES_MAX)
}

/// Like [`decode`], for a body with at most `values_max` values: those of JSON, and the fields and parts of forms.
///
/// # Errors
/// Those of [`decode`], and [`DecodeError`] when there are more values.
pub fn decode_within(
    bytes: &[u8],
    content_type: Option<&str>,
    values_max: usize,
) -> Result<Option<Value>, DecodeError> {
    decode_part(bytes, content_type, &mut Reading { values_left: values_max, values_max, depth: 0 })
}

impl Reading {
    /// Counts values that are about to be created.
    fn take(&mut self, values: usize, kind: &str) -> Result<(), DecodeError> {
        match self.values_left.checked_sub(values) {
            Some(left) => {
                self.values_left = left;
                Ok(())
            }
            None => Err(DecodeError {
                content_type: kind.to_owned(),
                reason: format!("it contains more than {} values (setting json-values-max)", self.values_max),
                is_too_large: true,
            }),
        }
    }
}

fn decode_part(
    bytes: &[u8],
    content_type: Option<&str>,
    reading: &mut Reading,
) -> Result<Option<Value>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some(kind) = content_type.map(str::trim).filter(|kind| !kind.is_empty()) else {
        return Ok(Some(match std::str::from_utf8(bytes) {
            Ok(text) => without_mark(text).into(),
            Err(_) => envelope::encode("application/octet-stream", bytes),
        }));
    };
    if is_json(kind) {
        let wrong =
            |reason: String| DecodeError { content_type: kind.to_owned(), reason, is_too_large: false };
        // JSON is exchanged in UTF-8 (RFC 8259, section 8.1); another character set is used only when it is declared.
        let text = if parameter(kind, "charset").is_none_or(|name| name.eq_ignore_ascii_case("utf-8")) {
            let text = std::str::from_utf8(bytes);
            text.map_err(|error| wrong(format!("byte {} is not UTF-8", error.valid_up_to() + 1)))?.into()
        } else {
            charset_text(bytes, kind)
        };
        let value = Value::read_json_within(without_mark(&text), reading.values_left)
            .map_err(|error| DecodeError { is_too_large: error.is_too_large, ..wrong(error.to_string()) })?;
        return Ok(Some(value));
    }
    if is_text(kind) {
        return Ok(Some(without_mark(&charset_text(bytes, kind)).into()));
    }
    let value = envelope::encode(kind, bytes);
    let extra = if envelope::is_type(kind, form::TYPE) {
        reading.take(3 * bytes.split(|&byte| byte == b'&').count(), kind)?;
        Some(("$formdata", decode_form(bytes)))
    } else if kind.trim_start().to_ascii_lowercase().starts_with("multipart/")
        && reading.depth < PARTS_DEPTH_MAX
    {
        reading.depth += 1;
        let parts = match boundary_of(kind) {
            Some(boundary) => multipart::decode_within(bytes, &boundary, kind, reading)?,
            None => None,
        };
        reading.depth -= 1;
        parts.map(|parts| ("$multipart", parts))
    } else {
        None
    };
    Ok(Some(match (extra, value.into_object()) {
        (Some((name, extra)), Some(mut object)) => {
            object.insert(name, extra);
            object.into()
        }
        (_, object) => object.unwrap_or_else(Object::new).into(),
    }))
}

/// Like [`decode`], for a body that must not be refused: invalid JSON becomes a string.
pub fn decode_leniently(bytes: &[u8], content_type: Option<&str>) -> Option<Value> {
    decode(bytes, content_type).unwrap_or_else(|_| Some(String::from_utf8_lossy(bytes).as_ref().into()))
}

fn essence(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    let kind = essence(kind);
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

fn is_text(kind: &str) -> bool {
    let kind = essence(kind);
    kind.starts_with("text/")
}

/// Decodes text in its declared character set: Latin-1, ASCII, UTF-16 or UTF-8. Invalid bytes become U+FFFD.
fn charset_text<'a>(bytes: &'a [u8], kind: &str) -> std::borrow::Cow<'a, str> {
    match parameter(kind, "charset").map(|name| name.to_ascii_lowercase()).as_deref() {
        Some("iso-8859-1" | "latin1") => {
            bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into()
        }
        Some("utf-16" | "utf-16le") => utf16(bytes, u16::from_le_bytes).into(),
        Some("utf-16be") => utf16(bytes, u16::from_be_bytes).into(),
        _ => String::from_utf8_lossy(bytes),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16_lossy(&units)
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The value of a parameter in a header value such as `text/plain; charset="utf-8"`. A quoted value may contain `;`.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = if let Some(quoted) = after.trim_start().strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    other => value.push(other),
                }
            }
            (value, quoted[end..].split_once(';').map_or("", |(_, next)| next))
        } else {
            let (value, next) = after.split_once(';').unwrap_or((after, ""));
            (value.trim().to_owned(), next)
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests;
