//! Values that [`super::ValueRef`] cannot represent exactly: integers of any size, and strings with unpaired surrogates.
//!
//! They are presented as the nearest float, or as text with U+FFFD, which is also what leaves the process. Code inside
//! the process that passes them on (functions, the journal) uses the exact form.

use std::{ops::Range, sync::Arc};

use super::{Labels, Repr, Value};

/// An integer beyond the range of decimals.
pub(super) struct Digits {
    /// An optional minus sign and digits without leading zeros.
    pub(super) text: Box<str>,
    /// The nearest float.
    pub(super) near: f64,
}

/// A string with U+FFFD in place of unpaired surrogates.
pub(super) struct HalfText {
    pub(super) text: Arc<str>,
    /// The byte offset and the code unit of each unpaired surrogate, in order. A high one is never directly followed by a
    /// low one.
    pub(super) halves: Box<[(usize, u16)]>,
}

impl Value {
    /// An integer of any size from an optional minus sign and digits. `None` for any other text.
    pub fn from_digits(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let near = text.parse().ok()?;
        let digits = Digits { text: text.into(), near };
        Some(Self(Repr::Digits { labels: Labels::NONE, value: Arc::new(digits) }))
    }

    /// The digits of an integer beyond the range of decimals, which is otherwise presented as a float.
    pub fn exact_digits(&self) -> Option<&str> {
        match &self.0 {
            Repr::Digits { value, .. } => Some(&value.text),
            _ => None,
        }
    }

    /// A string from UTF-16 code units, which may include unpaired surrogates.
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

    /// The code units of a string with unpaired surrogates, for which [`Value::as_str`] has U+FFFD. `None` for all other
    /// values.
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

    /// The byte offsets and code units of unpaired surrogates.
    #[inline]
    pub(crate) fn halves(&self) -> &[(usize, u16)] {
        match &self.0 {
            Repr::Halves { value, .. } => &value.halves,
            _ => &[],
        }
    }

    /// Converts a string into its text. Empty for other types.
    pub(super) fn into_text(self) -> Arc<str> {
        match self.0 {
            Repr::String { value, .. } => value,
            Repr::Halves { value, .. } => Arc::clone(&value.text),
            _ => Arc::from(""),
        }
    }

    /// A part of a string, by byte offsets in [`Value::as_str`].
    pub(crate) fn text_part(&self, range: Range<usize>) -> Self {
        if self.halves().is_empty() {
            return Self::from(&self.as_str().unwrap_or_default()[range]);
        }
        let mut part = TextBuilder::default();
        part.push_part(self, range);
        part.finish()
    }
}

/// Builds a string from parts, and joins adjacent unpaired surrogates to characters.
#[derive(Default)]
pub(crate) struct TextBuilder {
    text: String,
    halves: Vec<(usize, u16)>,
}

impl TextBuilder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), halves: Vec::new() }
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn push(&mut self, c: char) {
        self.text.push(c);
    }

    pub(crate) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends an unpaired surrogate. After its other half, both become a character.
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

    /// Appends a string value.
    pub(crate) fn push_value(&mut self, value: &Value) {
        let text = value.as_str().unwrap_or_default();
        if value.halves().is_empty() {
            self.text.push_str(text);
        } else {
            self.push_part(value, 0..text.len());
        }
    }

    /// Appends a part of a string value, by byte offsets in [`Value::as_str`].
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
