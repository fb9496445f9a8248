//! Diagnostics: what is wrong with a definition, where, and what to do about it.
//!
//! A definition yields all of them at once. Each has a stable code that `docs/errors.md` explains, a JSON pointer for
//! programs, a byte span for editors, and words for people.

pub(crate) mod codes;
mod render;
mod sarif;
mod suggest;

use std::{fmt, ops::Range};

pub(crate) use self::codes as code;
pub use codes::{CodeInfo, catalogue, explain};
pub use render::render;
pub use sarif::{SourceFile, sarif};
pub use suggest::{did_you_mean, nearest};

use loom_expression::{Object, Value};

use crate::text::position;

#[cfg(test)]
mod tests;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It loads; somebody should look.
    Warning,
    /// It does not load.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `L0123`; never reused for something else. See [`catalogue`].
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence that names its subject.
    pub message: String,
    /// JSON pointer (RFC 6901) to the value, in the file.
    pub pointer: String,
    /// The bytes it is about, in the file's UTF-8 text.
    pub span: Range<usize>,
    /// A few words for beside the span; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that explain it.
    pub related: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    /// The finding as JSON: `code`, `severity`, `message`, `pointer`, `start` and `end` (each with `offset`, `line`
    /// and `column`), `label`, `hint`, `related`.
    pub fn to_json(&self, source: &str) -> Value {
        let mut object = Object::new();
        object.insert("code", Value::from(self.code));
        object.insert("severity", Value::from(self.severity.to_string()));
        object.insert("message", Value::from(self.message.as_str()));
        object.insert("pointer", Value::from(self.pointer.as_str()));
        object.insert("start", place_json(source, self.span.start));
        object.insert("end", place_json(source, self.span.end));
        if !self.label.is_empty() {
            object.insert("label", Value::from(self.label.as_str()));
        }
        if let Some(hint) = &self.hint {
            object.insert("hint", Value::from(hint.as_str()));
        }
        if !self.related.is_empty() {
            let related = self.related.iter().map(|(span, label)| {
                let mut entry = Object::new();
                entry.insert("start", place_json(source, span.start));
                entry.insert("end", place_json(source, span.end));
                entry.insert("label", Value::from(label.as_str()));
                Value::from(entry)
            });
            object.insert("related", Value::from(related.collect::<Vec<_>>()));
        }
        Value::from(object)
    }
}

fn place_json(source: &str, offset: usize) -> Value {
    let at = position(source, offset);
    let mut object = Object::new();
    object.insert("offset", Value::from(offset as i64));
    object.insert("line", Value::from(at.line as i64));
    object.insert("column", Value::from(at.column as i64));
    Value::from(object)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        if !self.pointer.is_empty() {
            write!(f, " (at {})", self.pointer)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Everything that was found in one definition, in file order, errors and warnings mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Sorts by place, errors first at the same place.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by_key(|diagnostic| (diagnostic.span.start, std::cmp::Reverse(diagnostic.severity)));
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
