//! Splits template strings: which strings are evaluated, and where the expressions in them begin and end.

use std::{borrow::Cow, ops::Range};

use crate::{Code, TemplateError};

/// The parts of a template string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segments<'a> {
    /// Literal text, unescaped.
    Text(Cow<'a, str>),
    /// One expression, whose value keeps its type; the range is the expression without its `@`.
    Expression(Range<usize>),
    /// Text with embedded expressions. The value is a string.
    Interpolation(Vec<Segment<'a>>),
}

/// A part of an interpolated string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Literal text.
    Text(Cow<'a, str>),
    /// An expression: the range between `@{` and `}`.
    Expression(Range<usize>),
}

/// Splits a template string.
///
/// # Errors
/// [`Code::UnterminatedSegment`] if an `@{` has no `}` outside of quotes.
pub fn segments(text: &str) -> Result<Segments<'_>, TemplateError> {
    let Some(rest) = text.strip_prefix('@') else {
        if text.contains("@{") {
            return interpolation(text);
        }
        return Ok(Segments::Text(Cow::Borrowed(text)));
    };
    match rest.bytes().next() {
        None => Ok(Segments::Text(Cow::Borrowed(text))),
        Some(b'@') => Ok(Segments::Text(Cow::Borrowed(rest))),
        Some(b'{') => interpolation(text),
        Some(_) => Ok(Segments::Expression(1..text.len())),
    }
}

fn interpolation(text: &str) -> Result<Segments<'_>, TemplateError> {
    let mut parts: Vec<Segment<'_>> = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("@{") {
        let open = at + found;
        if text[at..open].ends_with('@') {
            // `@@{` stands for `@{`.
            literal.push_str(&text[at..open - 1]);
            literal.push_str("@{");
            at = open + 2;
            continue;
        }
        literal.push_str(&text[at..open]);
        if !literal.is_empty() {
            parts.push(Segment::Text(Cow::Owned(std::mem::take(&mut literal))));
        }
        let start = open + 2;
        let end = segment_end(&text[start..]).map(|length| start + length).ok_or_else(|| TemplateError {
            code: Code::UnterminatedSegment,
            message: "The template has an '@{' without a closing '}'.".to_owned(),
            hint: Some("close the expression with '}', or write '@@{' for a literal '@{'".to_owned()),
            pointer: String::new(),
            in_name: false,
            span: open..text.len(),
        })?;
        parts.push(Segment::Expression(start..end));
        at = end + 1;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() {
        parts.push(Segment::Text(Cow::Owned(literal)));
    }
    Ok(Segments::Interpolation(parts))
}

/// The first `}` outside of quotes. A doubled quote ends a literal and starts another, which gives the same result.
fn segment_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}
