//! Content envelopes: objects of the form `{"$content-type": "…", "$content": "<base64>"}`, which represent bytes and
//! XML as values.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

use crate::{Object, Value, value::TextBuilder};

const TYPE: &str = "$content-type";
const CONTENT: &str = "$content";

/// Decodes base64 as .NET does: padding is required, and unused bits before it are ignored.
const READER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Wraps bytes in an envelope.
pub fn encode(content_type: &str, bytes: &[u8]) -> Value {
    of_base64(content_type, STANDARD.encode(bytes))
}

/// Wraps content that is already base64 in an envelope.
pub(crate) fn of_base64(content_type: &str, base64: String) -> Value {
    let mut object = Object::with_capacity(2);
    object.insert(TYPE, content_type);
    object.insert(CONTENT, base64);
    Value::from(object)
}

/// The content type if the value is an envelope.
pub fn content_type(value: &Value) -> Option<&str> {
    let object = value.as_object()?;
    object.get(CONTENT)?.as_str()?;
    object.get(TYPE)?.as_str()
}

/// The content type and the bytes if the value is an envelope with valid base64.
pub fn decode(value: &Value) -> Option<(&str, Vec<u8>)> {
    let content_type = content_type(value)?;
    let content = value.as_object()?.get(CONTENT)?.as_str()?;
    Some((content_type, decode_base64(content)?))
}

/// Decodes padded base64. White space is ignored.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let dense: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        return READER.decode(dense).ok();
    }
    READER.decode(text).ok()
}

/// The base64 text of an envelope.
pub(crate) fn content(value: &Value) -> Option<&str> {
    content_type(value)?;
    value.as_object()?.get(CONTENT)?.as_str()
}

/// Converts a value to text as the function `string` does. An envelope becomes its content, decoded as UTF-8 with
/// U+FFFD for invalid bytes; for all other values, see [`Value::text`].
pub fn text(value: &Value) -> Cow<'_, str> {
    match decode(value) {
        Some((_, bytes)) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        None => value.text(),
    }
}

/// Appends a value as text; see [`text`].
pub(crate) fn push_text(value: &Value, out: &mut TextBuilder) {
    if value.as_str().is_some() {
        out.push_value(value);
    } else if let Some(int) = value.as_i64() {
        use std::fmt::Write as _;
        // Writing to a `String` cannot fail.
        let _ = write!(out.as_string_mut(), "{int}");
    } else {
        out.push_str(&text(value));
    }
}

/// Whether two content types are the same, ignoring case and parameters.
pub fn is_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}
