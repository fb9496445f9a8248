//! Errors of reading a description, and problems with the arguments of a call.

use std::fmt;

use loom_expression::{Kind, Value};

/// Why a description or one of its operations cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document or a file beside it is not JSON.
    #[error("{file} is not valid JSON: {reason}{}", yaml_hint(.reason))]
    Json {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The document is not a description of a supported version.
    #[error(
        "expected a document with `swagger: \"2.0\"` or `openapi: \"3.0.x\"` or `\"3.1.x\"`, found {found}"
    )]
    Version {
        /// What was found instead.
        found: String,
    },
    /// A part of a document has another type than expected.
    #[error("`{place}` must be {expected}, found {found}")]
    Shape {
        /// Where, as a JSON pointer or the name of a property.
        place: String,
        /// The expected type.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A limit of this crate is exceeded.
    #[error("the description exceeds a limit: {what} (at most {limit})")]
    TooLarge {
        /// What exceeds it.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// An operation's schemas are too large to be walked.
    #[error("the operation is too complex: {reason}")]
    TooComplex {
        /// Which limit is exceeded.
        reason: &'static str,
    },
    /// A reference leads nowhere, or where it may not.
    #[error("`$ref` to `{reference}` {reason}")]
    Reference {
        /// The reference as written.
        reference: String,
        /// Why it cannot be followed.
        reason: String,
    },
    /// There is no operation with this name.
    #[error("connector `{connector}` has no operation `{operation}`{}", suggestion(.nearest.as_deref()))]
    UnknownOperation {
        /// The connector.
        connector: String,
        /// The name as written.
        operation: String,
        /// The most similar name, if there is one.
        nearest: Option<String>,
    },
    /// The operation needs something that is not supported, such as a script in C#.
    #[error("operation `{operation}` cannot be called: {}", .reasons.join("; "))]
    Unsupported {
        /// The operation.
        operation: String,
        /// What is not supported, each by name.
        reasons: Vec<String>,
    },
    /// The connection lacks a parameter, or has one that cannot be used.
    #[error("the connection's parameter `{parameter}` {reason}")]
    Connection {
        /// The parameter.
        parameter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The arguments of a call are wrong.
    #[error("{}", joined(.0))]
    Arguments(Vec<Problem>),
    /// A policy of the description cannot be applied to this call.
    #[error("policy `{policy}` cannot be applied: {reason}")]
    Policy {
        /// The policy.
        policy: String,
        /// Why.
        reason: String,
    },
    /// The description does not say where the service is.
    #[error("{reason}")]
    Address {
        /// What is missing.
        reason: String,
    },
}

fn yaml_hint(reason: &str) -> &'static str {
    if reason.ends_with("line 1, column 1") { "; convert a YAML document to JSON" } else { "" }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One problem with the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where in the arguments: the first step is the name of a parameter as written. For something that is missing, the
    /// innermost value that is there; empty for the arguments themselves.
    pub path: Vec<Step>,
    /// What is wrong, without a full stop.
    pub message: String,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The property of an object.
    Name(String),
    /// The item of an array, from 0.
    Index(usize),
}

impl Problem {
    pub(crate) fn new(path: &[Step], message: impl Into<String>) -> Problem {
        Problem { path: path.to_vec(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// `a string`, `an object`, `null`: the kind of a value with its article.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value.kind() {
        Kind::Null => "null",
        Kind::Boolean => "a boolean",
        Kind::Integer => "an integer",
        Kind::Float | Kind::Decimal => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}
