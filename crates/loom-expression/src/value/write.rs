//! Converts values to text: compact and pretty JSON, and the string conversion of the language.

use std::{borrow::Cow, fmt};

use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::{
    Value, ValueRef,
    deep::{self, RECURSION_MAX},
};

impl Value {
    /// The value as compact JSON. Secrets are written in plain text; code that shows the text must check
    /// [`Value::contains_secret`] first.
    pub fn to_json_text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write_json(&mut text);
        text
    }

    /// The value as JSON with line breaks and an indentation of two spaces.
    pub fn to_json_text_pretty(&self) -> String {
        let mut text = String::new();
        if self.depth() > RECURSION_MAX {
            // Indentation would make the text quadratically larger, and no more readable.
            return self.to_json_text();
        }
        // Writing to a `String` cannot fail.
        let _ = write_pretty(self, &mut text, 0);
        text
    }

    /// Writes compact JSON.
    ///
    /// # Errors
    /// Only the errors of the writer.
    pub fn write_json(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.depth() > RECURSION_MAX {
            return deep::write_json(self, out);
        }
        write_json(self, out)
    }

    /// Converts the value to text by the rules of the language: `True` and `False`, an empty string for null, the text of
    /// a string, decimal digits for numbers, and compact JSON for arrays and objects. Functions use
    /// [`crate::envelope::text`] instead, which decodes content envelopes; this method returns their JSON.
    pub fn text(&self) -> Cow<'_, str> {
        match self.as_ref() {
            ValueRef::Null => Cow::Borrowed(""),
            ValueRef::Bool(true) => Cow::Borrowed("True"),
            ValueRef::Bool(false) => Cow::Borrowed("False"),
            ValueRef::String(text) => Cow::Borrowed(text),
            ValueRef::Int(value) => Cow::Owned(value.to_string()),
            ValueRef::Float(near) => match self.exact_digits() {
                Some(digits) => Cow::Borrowed(digits),
                None => Cow::Owned(float_text(near)),
            },
            ValueRef::Decimal(value) => Cow::Owned(value.to_string()),
            ValueRef::Array(_) | ValueRef::Object(_) => Cow::Owned(self.to_json_text()),
        }
    }
}

/// The smallest decimal exponent at which a float is written with an exponent.
pub(crate) const FLOAT_EXPONENT_MIN: i64 = 17;

/// The shortest text that parses to the same double: plain digits for decimal exponents from -4 to 16, otherwise one
/// digit, a decimal point, digits, `E`, a sign and at least two digits.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    // `{:e}` gives the shortest digits that round-trip, as `d.ddde-7`.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i64 = exponent.parse().expect("`{:e}` writes an integer exponent");
    if (-4..FLOAT_EXPONENT_MIN).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}E{sign}{:02}", exponent.unsigned_abs())
}

pub(super) fn decimal_to_f64(value: &Decimal) -> Option<f64> {
    value.to_f64()
}

pub(super) fn write_json(value: &Value, out: &mut impl fmt::Write) -> fmt::Result {
    match value.as_ref() {
        ValueRef::Null => out.write_str("null"),
        ValueRef::Bool(value) => out.write_str(if value { "true" } else { "false" }),
        ValueRef::Int(value) => write!(out, "{value}"),
        ValueRef::Float(near) => match value.exact_digits() {
            Some(digits) => out.write_str(digits),
            None => write_float(near, out),
        },
        ValueRef::Decimal(value) => write!(out, "{value}"),
        ValueRef::String(text) => write_string(text, out),
        ValueRef::Array(items) => {
            out.write_char('[')?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.write_char(',')?;
                }
                write_json(item, out)?;
            }
            out.write_char(']')
        }
        ValueRef::Object(object) => {
            out.write_char('{')?;
            for (at, (key, member)) in object.iter().enumerate() {
                if at > 0 {
                    out.write_char(',')?;
                }
                write_string(key, out)?;
                out.write_char(':')?;
                write_json(member, out)?;
            }
            out.write_char('}')
        }
    }
}

fn write_pretty(value: &Value, out: &mut impl fmt::Write, level: usize) -> fmt::Result {
    let indent = |out: &mut _, level: usize| write_spaces(out, 2 * level);
    match value.as_ref() {
        ValueRef::Array(items) if !items.is_empty() => {
            out.write_str("[\n")?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.write_str(",\n")?;
                }
                indent(out, level + 1)?;
                write_pretty(item, out, level + 1)?;
            }
            out.write_char('\n')?;
            indent(out, level)?;
            out.write_char(']')
        }
        ValueRef::Object(object) if !object.is_empty() => {
            out.write_str("{\n")?;
            for (at, (key, member)) in object.iter().enumerate() {
                if at > 0 {
                    out.write_str(",\n")?;
                }
                indent(out, level + 1)?;
                write_string(key, out)?;
                out.write_str(": ")?;
                write_pretty(member, out, level + 1)?;
            }
            out.write_char('\n')?;
            indent(out, level)?;
            out.write_char('}')
        }
        _ => write_json(value, out),
    }
}

fn write_spaces(out: &mut impl fmt::Write, count: usize) -> fmt::Result {
    write!(out, "{:count$}", "")
}

/// Writes a float as JSON. A whole number gets `.0`, so that it is a float again when the text is parsed. NaN and the
/// infinities, which JSON does not have, become null, as in most other writers.
fn write_float(value: f64, out: &mut impl fmt::Write) -> fmt::Result {
    if !value.is_finite() {
        return out.write_str("null");
    }
    let text = float_text(value);
    out.write_str(&text)?;
    if text.contains(['.', 'E']) { Ok(()) } else { out.write_str(".0") }
}

pub(super) fn write_string(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = 0;
    for (at, byte) in text.bytes().enumerate() {
        let mut width = 1;
        // Every byte that matches starts a character, so `at` is on a character boundary.
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x8 => "\\b",
            0xC => "\\f",
            0..=0x1F => "",
            // Unicode line separators, which some JavaScript parsers do not accept in strings.
            0xC2 if text[at..].starts_with('\u{85}') => {
                width = 2;
                "\\u0085"
            }
            0xE2 if text[at..].starts_with(['\u{2028}', '\u{2029}']) => {
                width = 3;
                if text[at..].starts_with('\u{2028}') { "\\u2028" } else { "\\u2029" }
            }
            _ => continue,
        };
        out.write_str(&text[rest..at])?;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}")?;
        } else {
            out.write_str(escape)?;
        }
        rest = at + width;
    }
    out.write_str(&text[rest..])?;
    out.write_char('"')
}
