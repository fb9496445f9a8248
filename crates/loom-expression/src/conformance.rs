//! Compares expected with actual values of recorded cases, for the conformance suites and `loom test`.

use crate::{Value, ValueRef};

/// Whether a value matches the expected value of a case. Numbers match by value (integers exactly, floats with a
/// relative tolerance of 1e-15), objects regardless of the order of properties, everything else exactly.
pub fn matches(expected: &Value, actual: &Value) -> bool {
    match (expected.as_ref(), actual.as_ref()) {
        (ValueRef::Array(expected), ValueRef::Array(actual)) => {
            expected.len() == actual.len()
                && expected.iter().zip(actual.iter()).all(|(expected, actual)| matches(expected, actual))
        }
        (ValueRef::Object(expected), ValueRef::Object(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .all(|(key, expected)| actual.get(key).is_some_and(|actual| matches(expected, actual)))
        }
        (ValueRef::Int(expected), ValueRef::Int(actual)) => expected == actual,
        _ if expected.is_number() && actual.is_number() => {
            expected.wdl_equals(actual) || near(expected.as_f64(), actual.as_f64())
        }
        _ => expected.wdl_equals(actual),
    }
}

fn near(expected: Option<f64>, actual: Option<f64>) -> bool {
    const TOLERANCE: f64 = 1e-15;
    match (expected, actual) {
        (Some(expected), Some(actual)) => {
            (expected - actual).abs() <= TOLERANCE * expected.abs().max(actual.abs())
        }
        _ => false,
    }
}
