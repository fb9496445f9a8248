//! The repainted part of a terminal: moves up over its last output and overwrites it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::console;

/// The default size, for terminals that do not report one.
const SIZE_UNKNOWN: (usize, usize) = (100, 24);

/// A block of lines on standard error that can be repainted.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    painted: usize,
}

impl Screen {
    /// Columns and rows of the terminal behind standard error.
    pub(crate) fn size() -> (usize, usize) {
        console::size().unwrap_or(SIZE_UNKNOWN)
    }

    /// Writes `lines` over the lines of the last call.
    ///
    /// # Errors
    /// If the terminal is closed.
    pub(crate) fn paint(&mut self, lines: &[String], out: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        if self.painted > 0 {
            // Moves to the first line, and clears from there to the end of the screen.
            // Writing to a string cannot fail.
            let _ = write!(text, "\x1b[{}F\x1b[J", self.painted);
        }
        for line in lines {
            text.push_str(&console::styled(&console::masker().mask(line)));
            text.push('\n');
        }
        self.painted = lines.len();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
