//! Equality of values: by structure, and as defined by the language's `equals`. Also case-insensitive comparison.

use std::cmp::Ordering;

use rust_decimal::{Decimal, prelude::FromPrimitive};

use super::{Kind, Value, ValueRef};

/// Whether types, numbers and strings are the same and properties are in the same order. Labels are ignored.
pub(super) fn same_structure(left: &Value, right: &Value) -> bool {
    match (left.as_ref(), right.as_ref()) {
        (ValueRef::Null, ValueRef::Null) => true,
        (ValueRef::Bool(left), ValueRef::Bool(right)) => left == right,
        (ValueRef::Int(left), ValueRef::Int(right)) => left == right,
        // By bits, so that NaN equals itself and 0.0 differs from -0.0.
        (ValueRef::Float(near), ValueRef::Float(other)) => {
            near.to_bits() == other.to_bits() && left.exact_digits() == right.exact_digits()
        }
        (ValueRef::Decimal(left), ValueRef::Decimal(right)) => left == right,
        (ValueRef::String(shown), ValueRef::String(other)) => {
            shown == other && left.halves() == right.halves()
        }
        (ValueRef::Array(left), ValueRef::Array(right)) => left.ptr_eq(right) || left == right,
        (ValueRef::Object(left), ValueRef::Object(right)) => left == right,
        _ => false,
    }
}

/// The language's `equals` for two values of any depth.
pub(super) fn wdl_equals(left: &Value, right: &Value) -> bool {
    match (left.as_ref(), right.as_ref()) {
        (ValueRef::Null, ValueRef::Null) => true,
        (ValueRef::Bool(left), ValueRef::Bool(right)) => left == right,
        (ValueRef::String(shown), ValueRef::String(other)) => {
            shown == other && left.halves() == right.halves()
        }
        (ValueRef::Int(left), ValueRef::Int(right)) => left == right,
        (ValueRef::Array(left), ValueRef::Array(right)) => {
            left.ptr_eq(right)
                || (left.len() == right.len()
                    && left.iter().zip(right.iter()).all(|(left, right)| wdl_equals(left, right)))
        }
        (ValueRef::Object(left), ValueRef::Object(right)) => {
            left.ptr_eq(right)
                || (left.len() == right.len()
                    && left
                        .iter()
                        .all(|(key, value)| right.get(key).is_some_and(|other| wdl_equals(value, other))))
        }
        _ => numbers_equal(left, right),
    }
}

/// Whether both are numbers with the same value, regardless of their types.
fn numbers_equal(left: &Value, right: &Value) -> bool {
    compare_numbers(left, right) == Some(Ordering::Equal)
}

/// Compares two numbers of any types by value; `None` if either is not a number or is NaN.
pub(crate) fn compare_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    match (left.as_ref(), right.as_ref()) {
        (ValueRef::Int(left), ValueRef::Int(right)) => Some(left.cmp(&right)),
        (ValueRef::Float(near), ValueRef::Float(other)) => {
            match (left.exact_digits(), right.exact_digits()) {
                (Some(digits), Some(others)) => Some(compare_digits(digits, others)),
                _ => near.partial_cmp(&other),
            }
        }
        (ValueRef::Int(left), ValueRef::Float(right)) => compare_int_float(left, right),
        (ValueRef::Float(left), ValueRef::Int(right)) => {
            compare_int_float(right, left).map(Ordering::reverse)
        }
        (ValueRef::Decimal(left), ValueRef::Decimal(right)) => Some(left.cmp(right)),
        (ValueRef::Decimal(left), ValueRef::Int(right)) => Some(left.cmp(&Decimal::from(right))),
        (ValueRef::Int(left), ValueRef::Decimal(right)) => Some(Decimal::from(left).cmp(right)),
        (ValueRef::Decimal(left), ValueRef::Float(right)) => compare_decimal_float(left, right),
        (ValueRef::Float(left), ValueRef::Decimal(right)) => {
            compare_decimal_float(right, left).map(Ordering::reverse)
        }
        _ => None,
    }
}

/// Compares two integers written without leading zeros.
fn compare_digits(left: &str, right: &str) -> Ordering {
    let size = |text: &str| (text.trim_start_matches('-').len(), text.trim_start_matches('-').to_owned());
    match (left.starts_with('-'), right.starts_with('-')) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (true, true) => size(right).cmp(&size(left)),
        (false, false) => size(left).cmp(&size(right)),
    }
}

/// Compares exactly, without rounding the integer to a double.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // 2^63 is exact as a double. The integral part of every double with a smaller magnitude fits in 64 bits.
    if float >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| 0.0_f64.total_cmp(&(float - whole + 0.0))))
}

fn compare_decimal_float(decimal: &Decimal, float: f64) -> Option<Ordering> {
    match Decimal::from_f64(float) {
        Some(float) => Some(decimal.cmp(&float)),
        // The float is beyond the range of decimals, so its sign decides, or it is NaN.
        None => 0.0_f64.partial_cmp(&float),
    }
}

/// Folds the case of a character as .NET's ordinal case-insensitive comparison does: with the simple upper-case mapping,
/// unless the mapping has several characters or maps a non-ASCII letter to an ASCII one (the dotless i, the long s).
#[inline]
pub(crate) fn fold_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) if !upper.is_ascii() => upper,
        _ => c,
    }
}

/// Whether two strings are equal, ignoring case.
pub(crate) fn fold_eq(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        return left.eq_ignore_ascii_case(right);
    }
    left.chars().map(fold_char).eq(right.chars().map(fold_char))
}

/// Folds the case of a string.
pub(crate) fn fold_text(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

impl Value {
    /// Whether the value is an integer, a float or a decimal.
    pub fn is_number(&self) -> bool {
        matches!(self.kind(), Kind::Integer | Kind::Float | Kind::Decimal)
    }
}
