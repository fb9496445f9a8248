//! JSON text to values: exact about integers, order and big numbers, and precise about where an error is.

use rust_decimal::Decimal;

use super::{Array, Object, TextBuilder, Value};

mod loose;

/// Arrays and objects may nest this deeply in JSON text; deeper text is refused.
pub const JSON_DEPTH_MAX: usize = 256;

/// So many values one JSON text may hold, unless its reader says otherwise: arrays, objects and all that is in them count.
/// A short text can hold many: `[{},{},…]` needs three bytes for each.
pub const JSON_VALUES_MAX: usize = 2_000_000;

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct JsonError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the start.
    pub offset: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Whether the text may be JSON, but holds more values than it may.
    pub is_too_large: bool,
}

impl Value {
    /// Parses JSON text (UTF-8, a leading byte order mark is skipped).
    ///
    /// Numbers without fraction and exponent become integers when they fit 64 bits, else decimals when they
    /// fit 28 digits, else floats that know all their digits ([`Value::exact_digits`]); all others become floats. Of members with the same name the last wins.
    ///
    /// # Errors
    /// [`JsonError`] for anything that is not JSON, nests deeper than [`JSON_DEPTH_MAX`], holds more than
    /// [`JSON_VALUES_MAX`] values, or has more text behind it.
    pub fn parse_json(bytes: &[u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::from_json_str(text),
            Err(error) => Err(error_at(bytes, error.valid_up_to(), "the text is not UTF-8")),
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
    /// As [`Value::parse_json`], with another bound.
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

    /// Reads JSON text as Json.NET does: single quotes, names without quotes, comments, trailing commas, raw control
    /// characters in strings, octal and hexadecimal numbers are taken, too. For text that users and services send.
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
    /// As [`Value::parse_json`], for what even Json.NET refuses.
    pub fn read_json(text: &str) -> Result<Self, JsonError> {
        Self::read_json_within(text, JSON_VALUES_MAX)
    }

    /// As [`Value::read_json`], with another bound on the number of values.
    ///
    /// # Errors
    /// As [`Value::read_json`].
    pub fn read_json_within(text: &str, values_max: usize) -> Result<Self, JsonError> {
        Self::read_loosely(text, values_max, loose::End::Strict)
    }

    /// As [`Value::read_json`], but reads no further than the end of the value: what follows is passed over, brackets
    /// need not be closed behind a value, and nothing but white space is null. This is how ParseJson reads.
    ///
    /// # Errors
    /// As [`Value::read_json`].
    pub fn read_json_start(text: &str) -> Result<Self, JsonError> {
        Self::read_json_start_within(text, JSON_VALUES_MAX)
    }

    /// As [`Value::read_json_start`], with another bound on the number of values.
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
            None => Err(self.error("the text ends where a value is expected")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::from(true)),
            Some(b'f') => self.word("false", Value::from(false)),
            Some(b'n') => self.word("null", Value::NULL),
            Some(_) => Err(self.error("a value is expected here")),
        }
    }

    #[cold]
    fn too_many(&self) -> JsonError {
        let message =
            format!("the text holds more than {} values, which 'json-values-max' allows", self.values_max);
        JsonError { is_too_large: true, ..self.error(&message) }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error("a value is expected here"))
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
                _ => return Err(self.error("`,` or `]` is expected here")),
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
                return Err(self.error("a name in double quotes is expected here"));
            }
            let key = self.string()?.into_text();
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error("`:` is expected here"));
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
                _ => return Err(self.error("`,` or `}` is expected here")),
            }
        }
    }

    fn descend(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= JSON_DEPTH_MAX {
            return Err(self.error("arrays and objects nest too deeply"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        let start = self.at;
        // Most strings have no escape: they are taken as they stand.
        loop {
            match self.peek() {
                None => return Err(self.error("the string is not closed")),
                Some(b'"') => {
                    let text = Value::from(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => break,
                Some(0..=0x1F) => return Err(self.error("control characters must be escaped")),
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
                Some(_) => return Err(self.error("control characters must be escaped")),
            }
        }
    }

    fn escape(&mut self, text: &mut TextBuilder) -> Result<(), JsonError> {
        let escaped = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(text),
            _ => return Err(self.error("this escape does not exist")),
        };
        self.at += 2;
        text.push(escaped);
        Ok(())
    }

    /// Half of a surrogate pair is kept, and joins with its other half if that follows.
    fn unicode_escape(&mut self, text: &mut TextBuilder) -> Result<(), JsonError> {
        let code = self.hex4(self.at + 2)?;
        self.at += 6;
        match char::from_u32(code) {
            Some(c) => text.push(c),
            None => text.push_half(code as u16),
        }
        Ok(())
    }

    fn hex4(&self, at: usize) -> Result<u32, JsonError> {
        self.bytes
            .get(at..at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error("`\\u` needs four hexadecimal digits"))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit is expected here")) } else { Ok(()) }
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
            return Err(self.error("a number must not start with a zero before other digits"));
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

/// An integer of any size: a sign, if it is negative, and digits without leading zeros.
fn integer(text: &str) -> Value {
    if let Ok(value) = text.parse::<i64>() {
        return Value::from(value);
    }
    match Decimal::from_str_exact(text) {
        Ok(value) => Value::from(value),
        Err(_) => Value::from_digits(text).unwrap_or_default(),
    }
}
