//! Compares values with what was expected, and reports differences.
//!
//! Numbers are compared by value, whatever their type: integers exactly, others within a relative error of 1e-15. The order of
//! an object's properties does not matter. Everything else must be equal.

use std::fmt;

use loom_definition::diagnostic::nearest;
use loom_expression::{Object, Value, Visible, visible};

/// The relative error allowed between two numbers, unless both are integers.
const TOLERANCE: f64 = 1e-15;

/// The maximum number of characters of a value in a message.
const SHOWN_MAX: usize = 400;

/// One difference between the actual and the expected result.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The path, such as `actions.Get_customer.outputs.body[0]`.
    pub at: String,
    /// The expected value, as text; none for a problem without an expected value.
    pub expected: Option<String>,
    /// The actual value, or the problem.
    pub actual: String,
    /// The compared values, if the difference is between two JSON values.
    pub values: Option<Values>,
}

/// Two JSON values that differ. An absent value is None; secrets are redacted.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// What was expected.
    pub expected: Option<Value>,
    /// What was found.
    pub actual: Option<Value>,
}

impl Difference {
    /// A problem at a path.
    pub fn of(at: impl Into<String>, what: impl Into<String>) -> Difference {
        Difference { at: at.into(), expected: None, actual: what.into(), values: None }
    }

    /// A value that differs from the expected one.
    pub fn between(
        at: impl Into<String>,
        expected: impl fmt::Display,
        actual: impl fmt::Display,
    ) -> Difference {
        Difference {
            at: at.into(),
            expected: Some(shorten(expected.to_string())),
            actual: shorten(actual.to_string()),
            values: None,
        }
    }

    /// A difference between two JSON values, of which one may be absent.
    fn between_values(at: impl Into<String>, expected: Option<&Value>, actual: Option<&Value>) -> Difference {
        let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), text);
        let values = Values { expected: expected.map(redacted), actual: actual.map(redacted) };
        let difference = Difference::between(at, shown(expected), shown(actual));
        Difference { values: Some(values), ..difference }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expected {
            None => write!(f, "{}: {}", Visible(&self.at), indented(&self.actual)),
            Some(expected) => {
                let (at, expected) = (Visible(&self.at), indented(expected));
                write!(f, "{at}\n    expected {expected}\n    but got  {}", indented(&self.actual))
            }
        }
    }
}

/// Indents the lines of a text, such as the diagnostics of a definition, so that none looks like a separate report.
fn indented(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n             ")
}

/// Compares two values completely; an absent value counts as null.
pub fn compare_exact(at: &str, expected: &Value, actual: Option<&Value>, found: &mut Vec<Difference>) {
    compare(at, expected, actual.unwrap_or(&Value::NULL), false, found);
}

/// Compares what `expected` contains: objects may have additional properties, at any depth.
pub fn compare_subset(at: &str, expected: &Value, actual: Option<&Value>, found: &mut Vec<Difference>) {
    compare(at, expected, actual.unwrap_or(&Value::NULL), true, found);
}

fn compare(at: &str, expected: &Value, actual: &Value, subset: bool, found: &mut Vec<Difference>) {
    if let (Some(wanted), Some(got)) = (expected.as_object(), actual.as_object()) {
        for (name, wanted) in wanted {
            match got.get(name) {
                Some(got) => compare(&format!("{at}.{name}"), wanted, got, subset, found),
                None if subset && wanted.is_null() => {}
                None => found.push(Difference::between_values(format!("{at}.{name}"), Some(wanted), None)),
            }
        }
        if !subset {
            surplus(at, wanted, got, found);
        }
    } else if let (Some(wanted), Some(got)) = (expected.as_array(), actual.as_array()) {
        if wanted.len() != got.len() {
            let counted = |value: &Value, count: usize| format!("{count} items: {}", shorten(text(value)));
            let words = Difference::between(at, counted(expected, wanted.len()), counted(actual, got.len()));
            let values = Difference::between_values(at, Some(expected), Some(actual)).values;
            found.push(Difference { values, ..words });
            return;
        }
        for (index, (wanted, got)) in wanted.iter().zip(got.iter()).enumerate() {
            compare(&format!("{at}[{index}]"), wanted, got, subset, found);
        }
    } else if !same_scalar(expected, actual) {
        found.push(Difference::between_values(at, Some(expected), Some(actual)));
    }
}

fn surplus(at: &str, wanted: &Object, got: &Object, found: &mut Vec<Difference>) {
    for (name, value) in got {
        if !wanted.contains_key(name) {
            found.push(Difference::between_values(format!("{at}.{name}"), None, Some(value)));
        }
    }
}

fn same_scalar(expected: &Value, actual: &Value) -> bool {
    if let (Some(expected), Some(actual)) = (expected.as_i64(), actual.as_i64()) {
        return expected == actual;
    }
    if expected.is_number() && actual.is_number() {
        return match (expected.as_f64(), actual.as_f64()) {
            (Some(expected), Some(actual)) => same_number(expected, actual),
            _ => expected == actual,
        };
    }
    expected == actual
}

#[expect(clippy::float_cmp, reason = "infinities and zeros are the same only when they are equal")]
fn same_number(expected: f64, actual: f64) -> bool {
    expected == actual || (expected - actual).abs() <= TOLERANCE * expected.abs().max(actual.abs())
}

/// A suggestion for a misspelt name or, if there is none, `intro` and all known names.
pub(super) fn meant(wrong: &str, known: &[&str], intro: &str) -> String {
    match nearest(wrong, known.iter().copied()) {
        Some(found) => format!("did you mean `{found}`?"),
        None => format!("{intro} {}", known.join(", ")),
    }
}

/// A value as messages show it. Secrets are never shown.
pub(super) fn text(value: &Value) -> String {
    if value.contains_secret() { "a secret value".to_owned() } else { value.to_json_text() }
}

/// The value, or the mask if it has a secret.
fn redacted(value: &Value) -> Value {
    if value.contains_secret() { Value::from(loom_expression::MASK) } else { value.clone() }
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text,
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}
