//! The path of a value in a document, and of a rule in its schema; formatted only when a violation is reported.

use std::fmt;

/// The path of a value.
pub(super) enum Path<'p> {
    Root,
    Member(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    /// The notation of Json.NET: `a.b[0]['c d']`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Item(holder, index) => write!(out, "{holder}[{index}]"),
            Path::Member(holder, name) if name.contains(is_special) => {
                write!(out, "{holder}['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
            }
            Path::Member(Path::Root, name) => out.write_str(name),
            Path::Member(holder, name) => write!(out, "{holder}.{name}"),
        }
    }
}

/// Whether a character makes a name in a path be quoted.
fn is_special(letter: char) -> bool {
    matches!(
        letter,
        '.' | ' '
            | '\''
            | '/'
            | '"'
            | '['
            | ']'
            | '('
            | ')'
            | '\\'
            | '\t'
            | '\n'
            | '\r'
            | '\u{8}'
            | '\u{c}'
            | '\u{85}'
            | '\u{2028}'
            | '\u{2029}'
    )
}

/// The path of a rule.
pub(super) enum Pointer<'p> {
    Root,
    /// The target of a reference, as it is written.
    Referred(&'p str),
    Key(&'p Pointer<'p>, &'p str),
    Index(&'p Pointer<'p>, usize),
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pointer::Root => out.write_str("#"),
            Pointer::Referred(reference) => out.write_str(reference),
            Pointer::Key(holder, key) => {
                write!(out, "{holder}/{}", key.replace('~', "~0").replace('/', "~1"))
            }
            Pointer::Index(holder, index) => write!(out, "{holder}/{index}"),
        }
    }
}
