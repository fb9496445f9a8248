//! Math functions. Integers stay integers and never wrap, a float operand makes the result a float, decimals are
//! exact.

use std::cmp::Ordering;

use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::{ANY, Arguments, Body, Category, Function, Outcome, ex};
use crate::{Code, Error, Value, ValueRef, value::compare_numbers};

const fn math(name: &'static str, arity: (usize, usize), body: Body) -> Function {
    Function::new(Category::Math, name, arity, body)
}

pub(super) static FUNCTIONS: &[Function] = &[
    math("add", (2, 2), Body::Pair(sum, |arguments| calculate(arguments, sum)))
        .docs(
            "add(a: number, b: number) → number",
            "Adds two numbers. The sum of two integers is an integer; an overflow of 64 bits is an error.",
        )
        .examples(&[
            ex("@add(1, 1.5)", "2.5"),
            ex("@add(2, 3)", "5"),
            ex("@add(9223372036854775807, 1)", "error"),
        ]),
    math("sub", (2, 2), Body::Pair(difference, |arguments| calculate(arguments, difference)))
        .docs("sub(a: number, b: number) → number", "Subtracts b from a.")
        .examples(&[ex("@sub(10.3, 0.3)", "10.0"), ex("@sub(1, 3)", "-2")]),
    math("mul", (2, 2), Body::Pair(product, |arguments| calculate(arguments, product)))
        .docs("mul(a: number, b: number) → number", "Multiplies two numbers.")
        .examples(&[ex("@mul(2, 3)", "6"), ex("@mul(1.5, 2)", "3.0")]),
    math("div", (2, 2), Body::Pair(quotient, |arguments| divide(arguments, quotient)))
        .docs(
            "div(a: number, b: number) → number",
            "Divides a by b. The quotient of two integers is an integer, rounded towards zero. Division by zero is an error.",
        )
        .examples(&[
            ex("@div(11, 5)", "2"),
            ex("@div(-7, 2)", "-3"),
            ex("@div(11.0, 5)", "2.2"),
            ex("@div(1, 0)", "error"),
        ]),
    math("mod", (2, 2), Body::Pair(remainder, |arguments| divide(arguments, remainder)))
        .docs("mod(a: number, b: number) → number", "Returns the remainder of dividing a by b, with the sign of a. Division by zero is an error.")
        .examples(&[ex("@mod(3, 2)", "1"), ex("@mod(-5, 3)", "-2"), ex("@mod(1, 0)", "error")]),
    math("max", (1, ANY), Body::Plain(max))
        .docs(
            "max(number, …) → number, max(array of numbers) → number",
            "Returns the largest of the numbers, given as arguments or as one array.",
        )
        .examples(&[ex("@max(1, 2, 3)", "3")]),
    math("min", (1, ANY), Body::Plain(min))
        .docs(
            "min(number, …) → number, min(array of numbers) → number",
            "Returns the smallest of the numbers, given as arguments or as one array.",
        )
        .examples(&[ex("@min(1, 2, 3)", "1")]),
    math("rand", (2, 2), Body::Plain(rand))
        .impure()
        .docs(
            "rand(min: integer, max: integer) → integer",
            "Returns a random integer that is at least min and less than max.",
        )
        .examples(&[ex("@rand(1, 2)", "1"), ex("@rand(2, 2)", "error")]),
];

type Operation = fn(&Value, &Value) -> Option<Value>;

/// Converts two numbers to the same type and applies the operation; `None` if either is not a number or the result is
/// out of range.
#[inline]
fn operate(
    left: &Value,
    right: &Value,
    int: impl Fn(i64, i64) -> Option<i64>,
    float: impl Fn(f64, f64) -> f64,
    decimal: impl Fn(Decimal, Decimal) -> Option<Decimal>,
) -> Option<Value> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return int(left, right).map(Value::from);
    }
    match (left.as_ref(), right.as_ref()) {
        (ValueRef::Decimal(left), ValueRef::Decimal(right)) => decimal(*left, *right).map(Value::from),
        (ValueRef::Decimal(left), ValueRef::Int(right)) => {
            decimal(*left, Decimal::from(right)).map(Value::from)
        }
        (ValueRef::Int(left), ValueRef::Decimal(right)) => {
            decimal(Decimal::from(left), *right).map(Value::from)
        }
        // JSON has no infinity, so a result beyond the range of doubles is an error, like any overflow.
        _ => Some(float(left.as_f64()?, right.as_f64()?)).filter(|value| value.is_finite()).map(Value::from),
    }
}

fn calculate(arguments: &Arguments<'_>, operation: Operation) -> Outcome {
    for at in 0..2 {
        if !arguments.get(at).is_number() {
            return Err(arguments.wrong_type(at, "a number"));
        }
    }
    operation(arguments.get(0), arguments.get(1)).ok_or_else(|| {
        let message = format!(
            "The template language function '{}' cannot be evaluated: the result is out of the range of type '{}'.",
            arguments.function.info.name,
            arguments.get(0).kind()
        );
        Error::new(Code::Overflow, message)
    })
}

fn sum(left: &Value, right: &Value) -> Option<Value> {
    operate(left, right, i64::checked_add, |left, right| left + right, Decimal::checked_add)
}

fn difference(left: &Value, right: &Value) -> Option<Value> {
    operate(left, right, i64::checked_sub, |left, right| left - right, Decimal::checked_sub)
}

fn product(left: &Value, right: &Value) -> Option<Value> {
    operate(left, right, i64::checked_mul, |left, right| left * right, Decimal::checked_mul)
}

/// `None` for division by zero, of floats too.
fn quotient(left: &Value, right: &Value) -> Option<Value> {
    operate(left, right, i64::checked_div, |left, right| left / right, decimal_quotient)
}

fn remainder(left: &Value, right: &Value) -> Option<Value> {
    // The quotient of the smallest integer and -1 overflows, but its remainder is 0.
    let int = |left: i64, right: i64| (right != 0).then(|| left.wrapping_rem(right));
    operate(left, right, int, |left, right| left % right, Decimal::checked_rem)
}

fn divide(arguments: &Arguments<'_>, operation: Operation) -> Outcome {
    let zero = match arguments.get(1).as_ref() {
        ValueRef::Int(value) => value == 0,
        ValueRef::Float(value) => value == 0.0,
        ValueRef::Decimal(value) => value.is_zero(),
        _ => false,
    };
    if zero && arguments.get(0).is_number() {
        let message = format!(
            "Attempt to divide an integral or decimal value by zero in function '{}'.",
            arguments.function.info.name
        );
        return Err(Error::new(Code::DivisionByZero, message));
    }
    calculate(arguments, operation)
}

/// The quotient with as many fractional digits as it needs, but at least the difference between those of the dividend
/// and those of the divisor.
fn decimal_quotient(left: Decimal, right: Decimal) -> Option<Decimal> {
    let mut quotient = left.checked_div(right)?.normalize();
    let digits = left.scale().saturating_sub(right.scale());
    if quotient.scale() < digits {
        quotient.rescale(digits);
    }
    Some(quotient)
}

fn extreme(arguments: &mut Arguments<'_>, wanted: Ordering) -> Outcome {
    let list = match arguments.get(0).as_array() {
        Some(items) if arguments.len() == 1 => Some(items.clone()),
        _ => None,
    };
    let numbers: &[Value] = match &list {
        Some(items) => items,
        None => arguments.values,
    };
    let Some(mut best) = numbers.first() else {
        return Err(arguments.bad(0, "the array must not be empty"));
    };
    for (at, number) in numbers.iter().enumerate() {
        if !number.is_number() {
            return Err(match &list {
                None => arguments.wrong_type(at, "a number"),
                Some(_) => arguments.bad(
                    0,
                    &format!("item {at} must be a number, found a value of type '{}'", number.kind()),
                ),
            });
        }
        if compare_numbers(number, best) == Some(wanted) {
            best = number;
        }
    }
    Ok(best.clone())
}

fn max(arguments: &mut Arguments<'_>) -> Outcome {
    extreme(arguments, Ordering::Greater)
}

fn min(arguments: &mut Arguments<'_>) -> Outcome {
    extreme(arguments, Ordering::Less)
}

fn rand(arguments: &mut Arguments<'_>) -> Outcome {
    let (low, high) = (arguments.int(0)?, arguments.int(1)?);
    if low >= high {
        return Err(arguments.bad(0, "min must be less than max"));
    }
    // Multiply and take the high half, which maps 64 random bits evenly to the range (Lemire, 2019). The bias of a
    // value is below 2^-64 times the width of the range.
    let width = (i128::from(high) - i128::from(low)) as u128;
    let offset = (u128::from(arguments.context.random_u64()) * width) >> 64;
    let value = (i128::from(low) + offset as i128).to_i64().unwrap_or(low);
    Ok(Value::from(value))
}
