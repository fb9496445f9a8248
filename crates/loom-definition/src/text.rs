//! Reads JSON text into a tree in which every value knows its position in the file.
//!
//! The reader accepts what people really have on disk: byte order marks, UTF-16, comments, trailing commas and
//! duplicate keys. It records each of these as a note. Anything else that is not JSON is an error with its position and,
//! if something was left open, the position where it was opened. Must not know about workflows.

mod decode;
mod node;
mod reader;

pub use decode::{DecodeError, decode};
pub(crate) use node::push_token;
pub use node::{Member, Node, Number, Shape, Span32, file_offset};
pub use reader::{Limits, NOTES_MAX, Note, NoteKind, Read, ReadError, ReadErrorKind, read};

#[cfg(test)]
mod tests;

/// A line and a column, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters (Unicode scalar values).
    pub column: usize,
}

/// The line and column of byte `offset` of `source`. A byte order mark takes no column.
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
