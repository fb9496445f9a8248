//! Tables: their formats and columns.

use loom_expression::Template;

/// The format of a Table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values, with CRLF line ends.
    Csv,
    /// An HTML table.
    Html,
}

/// One explicit column of a Table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The heading.
    pub header: Template,
    /// The value of a cell, with `item()` bound.
    pub value: Template,
}
