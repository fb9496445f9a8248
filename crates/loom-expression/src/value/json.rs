//! Parses JSON text into values. Integers of any size and the order of properties are preserved, and an error says
//! where it is.

use rust_decimal::Decimal;

use super::{Array, Object, TextBuilder, Value};
use crate::{
    json_escape::{self, Escape},
    push_visible,
};

mod loose;

/// How deeply arrays and objects may nest in JSON text; deeper text is an error.
pub const JSON_DEPTH_MAX: usize = 256;

/// The default limit on the number of values in one JSON text. Arrays, objects and everything inside them count.
/// A short text can hold many values: `[{},{},…]` needs three bytes for each.
pub const JSON_VALUES_MAX: usize = 2_000_000;

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct JsonError {
    /// What is wrong, as a clause without a full stop.
    pub message: String,
    /// The offset of the error, in bytes from the start of the text.
    pub offset: usize,
    /// The line, starting at 1.
    pub line: usize,
    /// The column in characters, starting at 1.
    pub column: usize,
    /// Whether reading stopped because the text holds more values than allowed.
    pub is_too_large: bool,
}

impl Value {
    /// Parses JSON text in UTF-8. A byte order mark at the start is skipped.
    ///
    /// Numbers without a fraction or exponent become integers if they fit in 64 bits, decimals if they fit in 28
    /// digits, and otherwise floats that keep all their digits ([`Value::exact_digits`]). All other numbers become
    /// floats. If a name occurs more than once in an object, the last property wins.
    ///
    /// # Errors
    /// [`JsonError`] if the text is not JSON, nests deeper than [`JSON_DEPTH_MAX`], holds more than
    /// [`JSON_VALUES_MAX`] values, or continues after the value.
    pub fn parse_json(bytes: &[u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::from_json_str(text),
            Err(error) => Err(error_at(bytes, error.valid_up_to(), "the text is not valid UTF-8")),
        }
    }

    /// Parses JSON text; see [`Value::parse_json`].
    ///
    /// # Errors
    /// As [`Value::parse_json`].
    pub fn from_json_str(text: &str) -> Result<Self, JsonError> {
        Self::from_json_str_within(text, JSON_VALUES_MAX)
    }

    /// Parses JSON text that may hold up to `values_max` values; see [`Value::parse_json`].
    ///
    /// # Errors
    /// As [`Value::parse_json`], with `values_max` as the limit on the number of values.
    pub fn from_json_str_within(text: &str, values_max: usize) -> Result<Self, JsonError> {
        let mut parser = Parser::new(text, values_max);
        parser.skip_space();
        let value = parser.value(0)?;
        parser.skip_space();
        if parser.at < parser.bytes.len() {
            return Err(parser.error("unexpected text after the value"));
        }
        Ok(value)
    }

    /// Reads JSON text as leniently as Json.NET does: it also accepts single quotes, names without quotes, comments,
    /// trailing commas, raw control characters in strings, and octal and hexadecimal numbers. Meant for text that
    /// users and services send.
    ///
    /// ```
    /// use loom_expression::Value;
    ///
    /// let value = Value::read_json("{name: 'Sophia', tags: [010, 'b',], /* none */}")?;
    /// assert_eq!(value.to_json_text(), r#"{"name":"Sophia","tags":[8,"b"]}"#);
    /// assert!(Value::read_json("{} {}").is_err());
    /// # Ok::<(), loom_expression::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Value::parse_json`], for text that Json.NET rejects too.
    pub fn read_json(text: &str) -> Result<Self, JsonError> {
        Self::read_json_within(text, JSON_VALUES_MAX)
    }

    /// As [`Value::read_json`], with `values_max` as the limit on the number of values.
    ///
    /// # Errors
    /// As [`Value::read_json`].
    pub fn read_json_within(text: &str, values_max: usize) -> Result<Self, JsonError> {
        Self::read_loosely(text, values_max, loose::End::Strict)
    }

    /// As [`Value::read_json`], but stops at the end of the value, as ParseJson does: text after the value is ignored,
    /// closing brackets may be missing after a complete value, and text of white space alone is null.
    ///
    /// # Errors
    /// As [`Value::read_json`].
    pub fn read_json_start(text: &str) -> Result<Self, JsonError> {
        Self::read_json_start_within(text, JSON_VALUES_MAX)
    }

    /// As [`Value::read_json_start`], with `values_max` as the limit on the number of values.
    ///
    /// # Errors
    /// As [`Value::read_json`].
    pub fn read_json_start_within(text: &str, values_max: usize) -> Result<Self, JsonError> {
        Self::read_loosely(text, values_max, loose::End::Open)
    }

    fn read_loosely(text: &str, values_max: usize, end: loose::End) -> Result<Self, JsonError> {
        match Self::from_json_str_within(text, values_max) {
            Err(error) if !error.is_too_large => loose::read(Parser::new(text, values_max), end),
            read => read,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    values_left: usize,
    values_max: usize,
}

fn error_at(bytes: &[u8], offset: usize, message: &str) -> JsonError {
    let before = &bytes[..offset.min(bytes.len())];
    // Continuation bytes of UTF-8 do not start a character.
    let starts_char = |b: &&u8| **b & 0xC0 != 0x80;
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    JsonError {
        message: message.to_owned(),
        offset,
        line: 1 + before.split(|&b| b == b'\n').skip(1).count(),
        column: 1 + before[line_start..].iter().filter(starts_char).count(),
        is_too_large: false,
    }
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, values_max: usize) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, bytes: text.as_bytes(), at, values_left: values_max, values_max }
    }

    /// Counts one more value.
    #[inline]
    fn pay(&mut self) -> Result<(), JsonError> {
        match self.values_left.checked_sub(1) {
            Some(left) => self.values_left = left,
            None => return Err(self.too_many()),
        }
        Ok(())
    }

    fn error(&self, message: &str) -> JsonError {
        error_at(self.bytes, self.at, message)
    }

    /// Says what should be at the current place, and what is there instead.
    #[cold]
    fn expected(&self, what: &str) -> JsonError {
        let mut message = format!("expected {what}, found ");
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => message.push_str("the end of the text"),
            Some(character) => {
                message.push('`');
                push_visible(&mut message, character);
                message.push('`');
            }
        }
        self.error(&message)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.pay()?;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::from(true)),
            Some(b'f') => self.word("false", Value::from(false)),
            Some(b'n') => self.word("null", Value::NULL),
            Some(_) | None => Err(self.expected("a value")),
        }
    }

    #[cold]
    fn too_many(&self) -> JsonError {
        let message =
            format!("the text contains more than {} values (setting json-values-max)", self.values_max);
        JsonError { is_too_large: true, ..self.error(&message) }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.expected("a value"))
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.descend(depth)?;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::from(Array::from(items)));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::from(Array::from(items)));
                }
                _ => return Err(self.expected("`,` or `]`")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.descend(depth)?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::from(Object::empty()));
        }
        let mut object = Object::new();
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a property name in double quotes"));
            }
            let key = self.string()?.into_text();
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.expected("`:`"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value(depth + 1)?;
            object.insert(key, value);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::from(object));
                }
                _ => return Err(self.expected("`,` or `}`")),
            }
        }
    }

    fn descend(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= JSON_DEPTH_MAX {
            let message = format!("arrays and objects nest deeper than {JSON_DEPTH_MAX} levels");
            return Err(self.error(&message));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        let start = self.at;
        // Most strings have no escape sequence and are copied in one piece.
        loop {
            match self.peek() {
                None => return Err(self.error("the string is not closed")),
                Some(b'"') => {
                    let text = Value::from(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => break,
                Some(0..=0x1F) => return Err(self.error("control characters in a string must be escaped")),
                Some(_) => self.at += 1,
            }
        }
        let mut text = TextBuilder::default();
        text.push_str(&self.text[start..self.at]);
        loop {
            let run = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1F)) {
                self.at += 1;
            }
            text.push_str(&self.text[run..self.at]);
            match self.peek() {
                None => return Err(self.error("the string is not closed")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text.finish());
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(_) => return Err(self.error("control characters in a string must be escaped")),
            }
        }
    }

    /// Keeps an unpaired surrogate, and joins it with its other half if that follows.
    fn escape(&mut self, text: &mut TextBuilder) -> Result<(), JsonError> {
        let Some((escape, length)) = json_escape::read(&self.bytes[self.at..]) else {
            return Err(match self.bytes.get(self.at + 1) {
                Some(b'u') => self.error("`\\u` needs four hexadecimal digits"),
                _ => self.error("unknown escape sequence; write a backslash as `\\\\`"),
            });
        };
        self.at += length;
        match escape {
            Escape::Char(character) => text.push(character),
            Escape::Half(unit) => text.push_half(unit),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.bytes[first] == b'0' && self.at > first + 1 {
            self.at = first + 1;
            return Err(self.error("a number must not have leading zeros"));
        }
        let mut integral = true;
        if self.peek() == Some(b'.') {
            integral = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integral = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if integral {
            return Ok(integer(text));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::from(value)),
            _ => {
                self.at = start;
                Err(self.error("the number is too large"))
            }
        }
    }
}

/// An integer of any size, from an optional minus sign and digits without leading zeros.
fn integer(text: &str) -> Value {
    if let Ok(value) = text.parse::<i64>() {
        return Value::from(value);
    }
    match Decimal::from_str_exact(text) {
        Ok(value) => Value::from(value),
        Err(_) => Value::from_digits(text).unwrap_or_default(),
    }
}
