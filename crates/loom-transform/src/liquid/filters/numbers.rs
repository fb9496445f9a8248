//! Arithmetic of filters: integers stay integers; other numbers are computed as decimals if they fit, otherwise as
//! floats.

use liquid_core::model::{Value, ValueView};
use loom_expression::Decimal;

/// A binary arithmetic operation.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The number of a scalar. A string is parsed.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_scalar().as_ref().and_then(super::float)
}

/// The number as an integer if it is whole, so that it renders without a fraction.
pub(super) fn shortest(number: f64) -> Value {
    if number.fract().abs() < f64::MIN_POSITIVE && number.abs() < 9e15 {
        Value::scalar(number as i64)
    } else {
        Value::scalar(number)
    }
}

fn integer(value: &Value) -> Option<i64> {
    let scalar = value.as_scalar()?;
    (scalar.type_name() == "whole number").then(|| scalar.to_integer()).flatten()
}

/// Applies the operation to two numbers. The result is nil if either is nil.
pub(super) fn compute(left: &Value, right: &Value, operation: Operation) -> Result<Value, String> {
    if left.is_nil() || right.is_nil() {
        return Ok(Value::Nil);
    }
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        let result = match operation {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Multiply => left.checked_mul(right),
            Operation::Divide | Operation::Remainder if right == 0 => {
                return Err("division by zero".to_owned());
            }
            Operation::Divide => left.checked_div(right),
            Operation::Remainder => left.checked_rem(right),
        };
        return result
            .map(Value::scalar)
            .ok_or_else(|| "the result does not fit in a 64-bit integer".to_owned());
    }
    let (Some(left_float), Some(right_float)) = (number(left), number(right)) else { return Ok(Value::Nil) };
    let exact = |value: &Value| value.to_kstr().as_str().parse::<Decimal>().ok();
    if let (Some(left), Some(right)) = (exact(left), exact(right)) {
        let result = match operation {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Multiply => left.checked_mul(right),
            Operation::Divide => left.checked_div(right),
            Operation::Remainder => left.checked_rem(right),
        };
        if let Some(float) = result.and_then(|result| result.to_string().parse::<f64>().ok()) {
            return Ok(shortest(float));
        }
    }
    let result = match operation {
        Operation::Add => left_float + right_float,
        Operation::Subtract => left_float - right_float,
        Operation::Multiply => left_float * right_float,
        Operation::Divide => left_float / right_float,
        Operation::Remainder => left_float % right_float,
    };
    if result.is_finite() { Ok(shortest(result)) } else { Err("division by zero".to_owned()) }
}

/// Rounds to a number of decimal places, halves to even, as `Math.Round` does.
pub(super) fn round(value: &Value, places: i64) -> Value {
    let Ok(exact) = value.to_kstr().as_str().parse::<Decimal>() else { return Value::Nil };
    let Ok(places) = u32::try_from(places) else { return Value::Nil };
    let rounded = exact.round_dp(places);
    rounded.to_string().parse::<f64>().map_or(Value::Nil, shortest)
}

/// Rounds to a whole number.
pub(super) fn whole(value: &Value, round: fn(f64) -> f64) -> Value {
    number(value).map_or(Value::Nil, |number| shortest(round(number)))
}

/// The result of `choose` for the input and the bound; the unchanged input if either is not a number.
pub(super) fn bounded(input: &Value, bound: &Value, choose: fn(f64, f64) -> f64) -> Value {
    match (number(input), number(bound)) {
        (Some(number), Some(bound)) => shortest(choose(number, bound)),
        _ => input.clone(),
    }
}
