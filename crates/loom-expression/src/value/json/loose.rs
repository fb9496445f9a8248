//! Reads JSON text as leniently as Json.NET, which the hosted service uses: single quotes, names without quotes,
//! comments, trailing commas, control characters in strings, octal and hexadecimal numbers.
//!
//! Called only for text that the strict parser rejects.

use std::sync::Arc;

use super::{Array, JsonError, Object, Parser, TextBuilder, Value, integer};

/// How strict the end of the text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The value must be closed, and only comments may follow.
    Strict,
    /// Text after the value is ignored, and closing brackets may be missing after a complete value. White space alone
    /// is null.
    Open,
}

pub(super) fn read(parser: Parser<'_>, end: End) -> Result<Value, JsonError> {
    let mut loose = Loose { parser, end };
    loose.skip_space();
    if loose.char().is_none() && end == End::Open {
        return Ok(Value::NULL);
    }
    let value = loose.value(0)?;
    if end == End::Strict {
        loose.skip()?;
        if loose.char().is_some() {
            return Err(loose.parser.error("unexpected text after the value"));
        }
    }
    Ok(value)
}

struct Loose<'a> {
    parser: Parser<'a>,
    end: End,
}

impl<'a> Loose<'a> {
    fn rest(&self) -> &'a str {
        &self.parser.text[self.parser.at..]
    }

    fn char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.parser.at += rest.len() - rest.trim_start().len();
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), JsonError> {
        loop {
            self.skip_space();
            let rest = self.rest();
            let comment = if let Some(inside) = rest.strip_prefix("/*") {
                let length =
                    inside.find("*/").ok_or_else(|| self.parser.error("the comment is not closed"))?;
                length + 4
            } else if rest.starts_with("//") {
                rest.find(['\n', '\r']).unwrap_or(rest.len())
            } else {
                return Ok(());
            };
            self.parser.at += comment;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.parser.pay()?;
        let word = |loose: &mut Self, word: &str, value: Value| {
            let after = loose.rest().strip_prefix(word);
            if after.is_none_or(|after| !after.chars().next().is_none_or(is_separator)) {
                return Err(loose.parser.expected("a value"));
            }
            loose.parser.at += word.len();
            Ok(value)
        };
        match self.char() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some(quote @ ('"' | '\'')) => self.string(quote),
            Some('-') if self.rest().starts_with("-I") => word(self, "-Infinity", Value::from("-Infinity")),
            Some('-' | '.' | '0'..='9') => self.number(),
            Some('t') => word(self, "true", Value::from(true)),
            Some('f') => word(self, "false", Value::from(false)),
            Some('n') => word(self, "null", Value::NULL),
            Some('u') => word(self, "undefined", Value::NULL),
            // JSON has no literals for these, so they become strings.
            Some('N') => word(self, "NaN", Value::from("NaN")),
            Some('I') => word(self, "Infinity", Value::from("Infinity")),
            Some(_) | None => Err(self.parser.expected("a value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.parser.descend(depth)?;
        let mut items: Vec<Value> = Vec::new();
        loop {
            self.skip()?;
            match self.char() {
                Some(']') => {
                    self.parser.at += 1;
                    break;
                }
                // A missing item before a comma is null.
                Some(',') => {
                    self.parser.pay()?;
                    self.parser.at += 1;
                    items.push(Value::NULL);
                    continue;
                }
                _ => items.push(self.value(depth + 1)?),
            }
            self.skip()?;
            match self.char() {
                Some(',') => self.parser.at += 1,
                Some(']') => {}
                None if self.end == End::Open => break,
                _ => return Err(self.parser.expected("`,` or `]`")),
            }
        }
        Ok(Value::from(Array::from(items)))
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.parser.descend(depth)?;
        let mut object = Object::new();
        loop {
            self.skip()?;
            if self.char() == Some('}') {
                self.parser.at += 1;
                break;
            }
            let name = self.name()?;
            self.skip_space();
            if self.char() != Some(':') {
                return Err(self.parser.expected("`:`"));
            }
            self.parser.at += 1;
            self.skip()?;
            let value = if self.char() == Some(',') { Value::NULL } else { self.value(depth + 1)? };
            object.insert(name, value);
            self.skip()?;
            match self.char() {
                Some(',') => self.parser.at += 1,
                Some('}') => {}
                None if self.end == End::Open => break,
                _ => return Err(self.parser.expected("`,` or `}`")),
            }
        }
        Ok(Value::from(object))
    }

    fn name(&mut self) -> Result<Arc<str>, JsonError> {
        if let Some(quote @ ('"' | '\'')) = self.char() {
            return Ok(self.string(quote)?.into_text());
        }
        let rest = self.rest();
        let length =
            rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$')).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.parser.expected("a property name"));
        }
        self.parser.at += length;
        Ok(Arc::from(&rest[..length]))
    }

    fn string(&mut self, quote: char) -> Result<Value, JsonError> {
        self.parser.at += 1;
        let mut text = TextBuilder::default();
        loop {
            let rest = self.rest();
            let Some(length) = rest.find([quote, '\\']) else {
                self.parser.at = self.parser.text.len();
                return Err(self.parser.error("the string is not closed"));
            };
            text.push_str(&rest[..length]);
            self.parser.at += length;
            if rest[length..].starts_with(quote) {
                self.parser.at += 1;
                return Ok(text.finish());
            }
            if rest[length..].starts_with("\\'") {
                self.parser.at += 2;
                text.push('\'');
            } else {
                self.parser.escape(&mut text)?;
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, 'x' | 'X' | '.' | '+' | '-'))
            .unwrap_or(rest.len());
        let (text, after) = rest.split_at(length);
        let value = if after.chars().next().is_none_or(is_separator) { number(text) } else { None };
        let value = value.ok_or_else(|| self.parser.error("invalid number"))?;
        self.parser.at += length;
        Ok(value)
    }
}

/// Whether a character may follow a number or a keyword.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ']' | '}' | ')' | '/')
}

fn number(text: &str) -> Option<Value> {
    // A leading zero marks an octal number and `0x` a hexadecimal one, but only without a sign.
    if let Some(digits) = text.strip_prefix('0')
        && !digits.is_empty()
        && !digits.starts_with(['.', 'e', 'E'])
    {
        let bits = match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => u64::from_str_radix(digits, 8),
        };
        // All 64 bits may be given, including the sign bit.
        return bits.ok().filter(|_| !digits.contains('+')).map(|bits| Value::from(bits.cast_signed()));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        return Some(integer(&format!("{sign}{digits}")));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Some(Value::from(value)),
        Ok(value) => Some(Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" })),
        Err(_) => None,
    }
}
