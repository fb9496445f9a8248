//! The error of a schema that cannot be used.

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not a valid schema.
    Invalid(String),
    /// It uses keywords that the language does not support.
    Unsupported(String),
    /// The validation exceeds its limit of nodes.
    TooCostly(String),
}
