//! The part of a terminal that is painted anew: moves up over what it wrote last, and writes again.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::console;

/// The size that is taken when the terminal does not tell.
const SIZE_UNKNOWN: (usize, usize) = (100, 24);

/// A block of lines on standard error that can be painted again.
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
    /// When the terminal is gone.
    pub(crate) fn paint(&mut self, lines: &[String], out: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        if self.painted > 0 {
            // Up to the first line, then clear from there to the end of the screen.
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
