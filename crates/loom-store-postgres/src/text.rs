//! Texts in the form in which PostgreSQL can store them.
//!
//! A `text` of PostgreSQL cannot contain the character U+0000, and some that callers store do: the message of an error repeats
//! what a server sent. So U+0000 and U+0001 are each stored as two characters. The order of the texts, and what begins with what,
//! stay the same.

use std::borrow::Cow;

/// The form in which a text is stored.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte > 1) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.push_str("\u{1}\u{1}"),
            '\u{1}' => stored.push_str("\u{1}\u{2}"),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// The text that was stored; `None` when no text is stored like this.
pub(crate) fn read(stored: &str) -> Option<Cow<'_, str>> {
    if !stored.contains('\u{1}') {
        return Some(Cow::Borrowed(stored));
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\u{1}' => match characters.next()? {
                '\u{1}' => '\0',
                '\u{2}' => '\u{1}',
                _ => return None,
            },
            other => other,
        });
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests;
