//! Logical functions: comparison, choice, boolean operators.

use std::cmp::Ordering;

use super::{ANY, Arguments, Body, Category, Function, Lazy, Outcome, ex};
use crate::{
    Value, ValueRef,
    value::{compare_numbers, fold_char},
};

const fn logical(name: &'static str, arity: (usize, usize), body: Body) -> Function {
    Function::new(Category::Logical, name, arity, body)
}

pub(super) static FUNCTIONS: &[Function] = &[
    logical("if", (3, 3), Body::Lazy(Lazy::If)).carries().docs(
        "if(condition: boolean, then: any, else: any) → any",
        "Returns the first value if the condition is true, otherwise the second. Only the returned value is evaluated. The condition must be a boolean.",
    ).examples(&[ex("@if(equals(1, 1), 'yes', 'no')", "\"yes\""), ex("@if('true', 1, 2)", "error")]),
    logical("and", (1, ANY), Body::Lazy(Lazy::And)).docs(
        "and(condition: boolean, …) → boolean",
        "Checks whether all conditions are true. Evaluation stops at the first that is false.",
    ).examples(&[ex("@and(true, equals(1, 1))", "true"), ex("@and(false, div(1, 0))", "false")]),
    logical("or", (1, ANY), Body::Lazy(Lazy::Or)).docs(
        "or(condition: boolean, …) → boolean",
        "Checks whether at least one condition is true. Evaluation stops at the first that is true.",
    ).examples(&[ex("@or(false, true)", "true"), ex("@or(true, div(1, 0))", "true")]),
    logical("not", (1, 1), Body::Plain(not)).docs("not(condition: boolean) → boolean", "Negates a boolean.")
        .examples(&[ex("@not(false)", "true"), ex("@not(1)", "error")]),
    logical("equals", (2, ANY), Body::Pair(|left, right| Some(Value::from(equal(left, right))), equals)).docs(
        "equals(a: any, b: any, …) → boolean",
        "Checks whether all values are equal to the first. Values of different types are not equal, except that numbers are compared by value and a boolean compared with a number counts as 1 or 0. Strings are case-sensitive; the order of an object's properties does not matter.",
    ).examples(&[ex("@equals(1, 1.0)", "true"), ex("@equals('a', 'A')", "false"), ex("@equals(true, 1)", "true"), ex("@equals('1', 1)", "false")]),
    logical("greater", (2, 2), Body::Pair(|left, right| ordered(left, right, GREATER), |arguments| compare(arguments, GREATER))).docs(
        "greater(a: number | string, b: number | string) → boolean",
        "Checks whether a is greater than b. Both must be numbers or both strings; strings are compared ignoring case.",
    ).examples(&[ex("@greater(10, 5)", "true"), ex("@greater('b', 'A')", "true"), ex("@greater('1', 1)", "error")]),
    logical("greaterOrEquals", (2, 2), Body::Pair(|left, right| ordered(left, right, GREATER_OR_EQUALS), |arguments| compare(arguments, GREATER_OR_EQUALS))).docs(
        "greaterOrEquals(a: number | string, b: number | string) → boolean",
        "Checks whether a is greater than or equal to b. Both must be numbers or both strings; strings are compared ignoring case.",
    ).examples(&[ex("@greaterOrEquals(5, 5)", "true"), ex("@greaterOrEquals('a', 'A')", "true")]),
    logical("less", (2, 2), Body::Pair(|left, right| ordered(left, right, LESS), |arguments| compare(arguments, LESS))).docs(
        "less(a: number | string, b: number | string) → boolean",
        "Checks whether a is less than b. Both must be numbers or both strings; strings are compared ignoring case.",
    ).examples(&[ex("@less(5, 10)", "true"), ex("@less('10', '9')", "true"), ex("@less(null, 1)", "error")]),
    logical("lessOrEquals", (2, 2), Body::Pair(|left, right| ordered(left, right, LESS_OR_EQUALS), |arguments| compare(arguments, LESS_OR_EQUALS))).docs(
        "lessOrEquals(a: number | string, b: number | string) → boolean",
        "Checks whether a is less than or equal to b. Both must be numbers or both strings; strings are compared ignoring case.",
    ).examples(&[ex("@lessOrEquals(5, 5.0)", "true"), ex("@lessOrEquals('b', 'A')", "false")]),
];

fn not(arguments: &mut Arguments<'_>) -> Outcome {
    Ok(Value::from(!arguments.bool(0)?))
}

#[expect(clippy::unnecessary_wraps, reason = "all bodies have one signature")]
fn equals(arguments: &mut Arguments<'_>) -> Outcome {
    let first = arguments.get(0);
    Ok(Value::from(arguments.values[1..].iter().all(|other| equal(first, other))))
}

/// `equals` at the top level, where a boolean compared with a number counts as 1 or 0.
#[inline]
fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => left == right,
        _ => equal_in_general(left, right),
    }
}

fn equal_in_general(left: &Value, right: &Value) -> bool {
    match (left.as_ref(), right.as_ref()) {
        (ValueRef::String(shown), ValueRef::String(other)) => {
            shown == other && left.halves() == right.halves()
        }
        (ValueRef::Bool(flag), _) if right.is_number() => equal(&Value::from(i64::from(flag)), right),
        (_, ValueRef::Bool(flag)) if left.is_number() => equal(left, &Value::from(i64::from(flag))),
        _ => left.wdl_equals(right),
    }
}

/// Orders two strings by their UTF-16 code units, ignoring case.
pub(super) fn compare_text(left: &str, right: &str) -> Ordering {
    // Code units and code points differ in order only for characters outside the Basic Multilingual Plane, whose
    // surrogates sort before U+E000.
    let key = |c: char| {
        let mut units = [0; 2];
        let length = fold_char(c).encode_utf16(&mut units).len();
        (units, length)
    };
    let units = |text: &str| -> Vec<u16> {
        text.chars().map(key).flat_map(|(units, length)| units.into_iter().take(length)).collect()
    };
    if left.is_ascii() && right.is_ascii() {
        return left
            .bytes()
            .map(|byte| byte.to_ascii_uppercase())
            .cmp(right.bytes().map(|byte| byte.to_ascii_uppercase()));
    }
    units(left).cmp(&units(right))
}

/// Whether a comparison holds for an ordering of its arguments. No comparison holds for NaN, which has no ordering.
type Wanted = fn(Ordering) -> bool;

const GREATER: Wanted = Ordering::is_gt;
const GREATER_OR_EQUALS: Wanted = Ordering::is_ge;
const LESS: Wanted = Ordering::is_lt;
const LESS_OR_EQUALS: Wanted = Ordering::is_le;

/// Whether the comparison holds for two values; `None` if they cannot be compared.
fn ordered(left: &Value, right: &Value, wanted: Wanted) -> Option<Value> {
    let order = match (left.as_ref(), right.as_ref()) {
        (ValueRef::String(left), ValueRef::String(right)) => Some(compare_text(left, right)),
        _ if left.is_number() && right.is_number() => compare_numbers(left, right),
        _ => return None,
    };
    Some(Value::from(order.is_some_and(wanted)))
}

fn compare(arguments: &Arguments<'_>, wanted: Wanted) -> Outcome {
    let (left, right) = (arguments.get(0), arguments.get(1));
    ordered(left, right, wanted).ok_or_else(|| match left.as_ref() {
        ValueRef::String(_) => arguments.wrong_type(1, "a string, like the first"),
        _ if left.is_number() => arguments.wrong_type(1, "a number, like the first"),
        _ => arguments.wrong_type(0, "a number or a string"),
    })
}
