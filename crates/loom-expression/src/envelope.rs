//! Content envelopes: `{"$content-type": "…", "$content": "<base64>"}`, how values carry bytes and XML.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

use crate::{Object, Value, value::TextBuilder};

const TYPE: &str = "$content-type";
const CONTENT: &str = "$content";

/// Reads base64 as .NET does: the padding must be there, and the bits that it leaves over count for nothing.
const READER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// An envelope around bytes.
pub fn encode(content_type: &str, bytes: &[u8]) -> Value {
    around(content_type, STANDARD.encode(bytes))
}

/// An envelope around content that is base64 already.
pub(crate) fn around(content_type: &str, base64: String) -> Value {
    let mut object = Object::with_capacity(2);
    object.insert(TYPE, content_type);
    object.insert(CONTENT, base64);
    Value::from(object)
}

/// The content type, if the value is an envelope.
pub fn content_type(value: &Value) -> Option<&str> {
    let object = value.as_object()?;
    object.get(CONTENT)?.as_str()?;
    object.get(TYPE)?.as_str()
}

/// Content type and bytes, if the value is an envelope whose content is base64.
pub fn decode(value: &Value) -> Option<(&str, Vec<u8>)> {
    let content_type = content_type(value)?;
    let content = value.as_object()?.get(CONTENT)?.as_str()?;
    Some((content_type, decode_base64(content)?))
}

/// The bytes in padded base64; white space is skipped.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let dense: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        return READER.decode(dense).ok();
    }
    READER.decode(text).ok()
}

/// The base64 text in an envelope.
pub(crate) fn content(value: &Value) -> Option<&str> {
    content_type(value)?;
    value.as_object()?.get(CONTENT)?.as_str()
}

/// The value as text by the text rule, in which an envelope reads as its decoded content (UTF-8; bytes that
/// are none become U+FFFD). See [`Value::text`] for the other kinds.
pub fn text(value: &Value) -> Cow<'_, str> {
    match decode(value) {
        Some((_, bytes)) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        None => value.text(),
    }
}

/// Appends the value as text.
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

/// Whether two content types are the same but for case and parameters.
pub fn is_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}
