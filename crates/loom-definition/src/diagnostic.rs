//! Diagnostics: what is wrong with a definition, where, and what to do about it.
//!
//! Loading a definition reports all of its diagnostics at once. Each has a stable code that `docs/errors.md` explains,
//! a JSON pointer for programs, a byte span for editors, and a message for people.

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

use crate::text::{self, position};

#[cfg(test)]
mod tests;

/// How severe a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The definition loads, but the place deserves a look.
    Warning,
    /// The definition does not load.
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

/// One problem found in a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The code, such as `L0204`. Codes are never reused; [`catalogue`] lists them all.
    pub code: &'static str,
    /// Whether the definition loads in spite of it.
    pub severity: Severity,
    /// What is wrong, in one sentence that names its subject.
    pub message: String,
    /// JSON pointer (RFC 6901) to the value in the file; empty for the whole file.
    pub pointer: String,
    /// The bytes it is about, in the file's UTF-8 text (see [`text::decode`]).
    pub span: Range<usize>,
    /// A few words to print beside the span; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that help to explain it, each with a label.
    pub related: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    /// A warning that a connection is not defined, at its first mention in `source`.
    pub fn connection_missing(name: &str, source: &str, hint: String) -> Diagnostic {
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            let at = source.find(&format!("{quote}{name}{quote}"))?;
            Some(at + 1..at + 1 + name.len())
        });
        Diagnostic {
            code: code::CONNECTION_MISSING,
            severity: Severity::Warning,
            message: format!("connection `{name}` is not defined"),
            pointer: String::new(),
            span: quoted.unwrap_or(0..0),
            label: String::new(),
            hint: Some(hint),
            related: Vec::new(),
        }
    }

    /// An error in a call that the project's files refuse, at a JSON pointer in `source`.
    pub fn call(pointer: &str, source: &str, message: String, fault: CallFault) -> Diagnostic {
        let read = text::read(source, &text::Limits::default()).ok();
        let mut at = pointer;
        // The innermost value that is there.
        let span = loop {
            let found = read.as_ref().and_then(|read| read.root.follow(at));
            match (found, at.rfind('/')) {
                (Some(node), _) => break node.place.range(),
                (None, Some(end)) => at = &at[..end],
                (None, None) => break 0..0,
            }
        };
        Diagnostic {
            code: match fault {
                CallFault::Unusable => code::CALL_UNUSABLE,
                CallFault::Mismatch => code::CALL_MISMATCH,
                CallFault::Undefined => code::MODEL_MISSING,
            },
            severity: Severity::Error,
            message,
            pointer: at.to_owned(),
            span,
            label: String::new(),
            hint: None,
            related: Vec::new(),
        }
    }

    /// The diagnostic as JSON: `code`, `severity`, `message`, `pointer`, `start` and `end` (each with `offset`, `line`
    /// and `column`), `label`, `hint`, `related`. The last three are omitted when they are empty.
    ///
    /// `source` must be the text that the spans refer to.
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

/// Why a call that the project's files describe cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// The arguments do not match the operation.
    Mismatch,
    /// The operation cannot be called at all, whatever its arguments.
    Unusable,
    /// No file defines the language model or the MCP server, or its entry cannot be used.
    Undefined,
}

/// The JSON type of a value, with its article, for messages such as "must be an array, found a string".
pub(crate) fn json_type(value: &Value) -> &'static str {
    use loom_expression::ValueRef;
    match value.as_ref() {
        ValueRef::Null => "null",
        ValueRef::Bool(_) => "a boolean",
        ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => "a number",
        ValueRef::String(_) => "a string",
        ValueRef::Array(_) => "an array",
        ValueRef::Object(_) => "an object",
    }
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

/// Everything found in one definition, errors and warnings together, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether at least one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The errors, without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Sorts by position; errors come before warnings at the same position.
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
