//! What a caller can give to an operation, and what it returns.

use loom_expression::Value;

/// What a caller can give to an operation, as `show` lists it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name in `parameters`: `name`, or `body/name/inner` for a property of the body.
    pub name: String,
    /// Where it is in the request.
    pub location: Location,
    /// The type in words: `string`, `integer (int32)`, `array of string`.
    pub kind: String,
    /// Whether it has to be given.
    pub required: bool,
    /// Whether the description hides it from authors because it has a constant value.
    pub internal: bool,
    /// Its title and description.
    pub description: String,
    /// The default.
    pub default: Option<Value>,
    /// The values that are allowed; empty when all are.
    pub allowed: Vec<Value>,
    /// Its other bounds in words: `at least 1`, `at most 100 characters`.
    pub bounds: Vec<String>,
}

/// Where a value is in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
    /// In a field of a form.
    Form,
    /// In the body.
    Body,
}
