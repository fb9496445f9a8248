//! Text from outside, made safe to show to a person: names, messages and lines of files may hold characters that a terminal
//! obeys instead of showing (control and escape sequences, line breaks, overrides of the writing direction).
//!
//! Used by everything that renders text for people; JSON and other formats for programs have escapes of their own.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Shows a text on one line: what a terminal would obey, or not show at all, becomes an escape such as `\n`, `\u{1b}` or
/// `\u{202e}`. Everything else stays as it is, so a backslash that was in the text looks the same.
///
/// ```
/// use loom_expression::Visible;
///
/// assert_eq!(Visible("two\nlines \u{1b}[2J").to_string(), r"two\nlines \u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Visible<T>(pub T);

impl<T: AsRef<str>> fmt::Display for Visible<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&visible(self.0.as_ref()))
    }
}

/// The text on one line, as [`Visible`] shows it.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push_visible(&mut out, character);
    }
    Cow::Owned(out)
}

/// Appends one character as [`Visible`] shows it.
pub fn push_visible(out: &mut String, character: char) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other if is_unseen(other) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(other));
        }
        other => out.push(other),
    }
}

/// Whether a terminal obeys this character, or hides it, instead of showing it.
///
/// These are the control characters, marks and overrides of the writing direction, separators of lines and paragraphs, the
/// byte order mark, and the tags and annotations of Unicode, which are never drawn. Joiners are not among them: scripts and
/// emoji need them.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            u32::from(character),
            0x061c // Arabic letter mark
            | 0x200b // zero width space
            | 0x200e..=0x200f // marks of the writing direction
            | 0x2028..=0x202e // separators of lines and paragraphs, embeddings and overrides
            | 0x2060..=0x206f // word joiner, invisible operators, isolates, deprecated formats
            | 0xfeff
            | 0xfff9..=0xfffb // annotations
            | 0xe0000..=0xe007f // tags
        )
}

/// A stand-in for one character of an excerpt, which keeps the columns that carets point at: one column for whatever
/// [`is_unseen`], a space for a tab.
pub fn stand_in(character: char) -> char {
    match character {
        '\t' => ' ',
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        other if is_unseen(other) => '\u{fffd}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("plain é 汉 👩\u{200d}🚀", "plain é 汉 👩\u{200d}🚀"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}"),
            ("user\u{202e}nosj.\u{2066}", r"user\u{202e}nosj.\u{2066}"),
            ("\u{2028}\u{feff}\u{e0041}", r"\u{2028}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(Visible(text).to_string(), shown);
        }
        assert_eq!(format!("[{:>6}]", Visible("a\n")), r"[   a\n]");
    }

    #[test]
    fn a_stand_in_takes_one_column_and_is_seen() {
        for character in ('\0'..='\u{1f}').chain(['\u{7f}', '\u{9b}', '\u{202e}', '\u{2067}', '\u{feff}']) {
            assert!(!is_unseen(stand_in(character)), "{character:?}");
        }
        assert_eq!(['\t', '\u{1b}', 'é'].map(stand_in), [' ', '␛', 'é']);
    }
}
