//! What the plain look at a value cannot show: integers of any size, and text with halves of surrogate pairs.
//!
//! Such values look like the float or the text that is nearest to them, which is what leaves the process. Whoever moves
//! them on inside it (functions, the journal) asks for the exact form.

use std::{ops::Range, sync::Arc};

use super::{Labels, Repr, Value};

/// An integer beyond the range of decimals.
pub(super) struct Digits {
    /// A sign, if it is negative, and digits without leading zeros.
    pub(super) text: Box<str>,
    /// The float nearest to it.
    pub(super) near: f64,
}

/// Text in which U+FFFD stands for halves of surrogate pairs.
pub(super) struct HalfText {
    pub(super) text: Arc<str>,
    /// Where in the text, in bytes, a half stands, and which one. In order, and no high one right before a low one.
    pub(super) halves: Box<[(usize, u16)]>,
}

impl Value {
    /// An integer of any size, given as a sign, if it is negative, and digits. `None` for other text.
    pub fn from_digits(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let near = text.parse().ok()?;
        let digits = Digits { text: text.into(), near };
        Some(Self(Repr::Digits { labels: Labels::NONE, value: Arc::new(digits) }))
    }

    /// All digits of an integer that no decimal can hold; it looks like a float otherwise.
    pub fn exact_digits(&self) -> Option<&str> {
        match &self.0 {
            Repr::Digits { value, .. } => Some(&value.text),
            _ => None,
        }
    }

    /// Text of UTF-16 code units, which may have halves of surrogate pairs.
    pub fn from_utf16(units: &[u16]) -> Self {
        let mut text = TextBuilder::with_capacity(units.len());
        for unit in char::decode_utf16(units.iter().copied()) {
            match unit {
                Ok(c) => text.push(c),
                Err(half) => text.push_half(half.unpaired_surrogate()),
            }
        }
        text.finish()
    }

    /// The code units of a text that has halves of surrogate pairs; in [`Value::as_str`] U+FFFD stands for each.
    pub fn unpaired_utf16(&self) -> Option<Vec<u16>> {
        if self.halves().is_empty() {
            return None;
        }
        let mut halves = self.halves().iter();
        let mut next = halves.next();
        let mut units = Vec::new();
        for (at, c) in self.as_str()?.char_indices() {
            if let Some((_, half)) = next.filter(|(place, _)| *place == at) {
                units.push(*half);
                next = halves.next();
            } else {
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            }
        }
        Some(units)
    }

    /// Where a text has halves of surrogate pairs.
    #[inline]
    pub(crate) fn halves(&self) -> &[(usize, u16)] {
        match &self.0 {
            Repr::Halves { value, .. } => &value.halves,
            _ => &[],
        }
    }

    /// The text, taken out; empty for other kinds.
    pub(super) fn into_text(self) -> Arc<str> {
        match self.0 {
            Repr::String { value, .. } => value,
            Repr::Halves { value, .. } => Arc::clone(&value.text),
            _ => Arc::from(""),
        }
    }

    /// A part of a text, in bytes of its plain look.
    pub(crate) fn text_part(&self, range: Range<usize>) -> Self {
        if self.halves().is_empty() {
            return Self::from(&self.as_str().unwrap_or_default()[range]);
        }
        let mut part = TextBuilder::default();
        part.push_part(self, range);
        part.finish()
    }
}

/// Builds text out of parts, and joins halves of surrogate pairs that come together.
#[derive(Default)]
pub(crate) struct TextBuilder {
    text: String,
    halves: Vec<(usize, u16)>,
}

impl TextBuilder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), halves: Vec::new() }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn push(&mut self, c: char) {
        self.text.push(c);
    }

    pub(crate) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends half of a surrogate pair. Behind its other half both become a character.
    pub(crate) fn push_half(&mut self, unit: u16) {
        const SHOWN: char = char::REPLACEMENT_CHARACTER;
        if let Some(&(at, high)) = self.halves.last()
            && at + SHOWN.len_utf8() == self.text.len()
            && let Some(Ok(c)) = char::decode_utf16([high, unit]).next()
        {
            self.halves.pop();
            self.text.truncate(at);
            self.text.push(c);
            return;
        }
        self.halves.push((self.text.len(), unit));
        self.text.push(SHOWN);
    }

    /// Appends a text value.
    pub(crate) fn push_value(&mut self, value: &Value) {
        let text = value.as_str().unwrap_or_default();
        if value.halves().is_empty() {
            self.text.push_str(text);
        } else {
            self.push_part(value, 0..text.len());
        }
    }

    /// Appends a part of a text value, in bytes of its plain look.
    pub(crate) fn push_part(&mut self, value: &Value, range: Range<usize>) {
        let text = value.as_str().unwrap_or_default();
        let mut at = range.start;
        for &(place, half) in value.halves().iter().filter(|(place, _)| range.contains(place)) {
            self.text.push_str(&text[at..place]);
            self.push_half(half);
            at = place + char::REPLACEMENT_CHARACTER.len_utf8();
        }
        self.text.push_str(&text[at..range.end]);
    }

    pub(crate) fn as_string_mut(&mut self) -> &mut String {
        &mut self.text
    }

    pub(crate) fn finish(self) -> Value {
        if self.halves.is_empty() {
            return Value::from(self.text);
        }
        let text = HalfText { text: self.text.into(), halves: self.halves.into() };
        Value(Repr::Halves { labels: Labels::NONE, value: Arc::new(text) })
    }
}
