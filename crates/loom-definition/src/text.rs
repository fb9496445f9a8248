//! JSON text with every place kept: what a definition file says, and where it says it.
//!
//! The reader accepts what people really have on disk: byte order marks, UTF-16, comments, trailing commas and
//! repeated keys, each noted and none fatal. Everything else that is not JSON is one error with its place and, where
//! something was left open, the place where it was opened. Knows nothing of workflows.

mod decode;
mod node;
mod reader;

pub use decode::{DecodeError, decode};
pub(crate) use node::push_token;
pub use node::{Member, Node, Number, Place, Shape, file_offset};
pub use reader::{Limits, NOTES_MAX, Note, NoteKind, Read, ReadError, ReadErrorKind, read};

#[cfg(test)]
mod tests;

/// A line and a column, both counted from 1; the column counts characters, as editors show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Where byte `offset` of `source` is.
pub fn position(source: &str, offset: usize) -> Position {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let shown = before[line_start..].trim_start_matches('\u{feff}');
    Position { line, column: shown.chars().count() + 1 }
}
