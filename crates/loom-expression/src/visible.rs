//! `Visible`: makes external text safe to show in a terminal. Names, messages and lines of files may contain characters
//! that a terminal interprets instead of showing: control and escape sequences, line breaks, and overrides of the writing
//! direction.
//!
//! Used by all code that renders text for people. JSON and other machine-readable formats have their own escapes.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Displays a text on one line. Characters that a terminal would interpret or not show are escaped, as `\n`, `\u{1b}` or
/// `\u{202e}`. All other characters are unchanged, including backslashes.
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

/// The text on one line, as [`Visible`] displays it.
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

/// Appends one character as [`Visible`] displays it.
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

/// Whether a terminal interprets or hides this character instead of showing it.
///
/// These are control characters, marks and overrides of the writing direction, line and paragraph separators, the byte
/// order mark, and Unicode's tags and annotations, which have no glyphs. Joiners are not included, because some scripts and
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

/// Replaces one character of an excerpt so that carets under it stay aligned: a tab becomes a space, and a character that
/// [`is_unseen`] a placeholder of one column.
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
    fn what_a_terminal_interprets_is_escaped() {
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
