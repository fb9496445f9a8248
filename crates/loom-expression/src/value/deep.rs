//! Handles values that nest deeper than parsers and expressions can make them, without recursion.
//!
//! Parsers and expressions limit the depth of values (see [`super::JSON_DEPTH_MAX`] and [`crate::Limits::depth_max`]),
//! but a host can build values of any depth. Recursive functions therefore check the depth, which containers store, and
//! call the functions of this module beyond [`RECURSION_MAX`].

use std::fmt;

use super::{Iter, Repr, Value, ValueRef, equality, write};

/// The maximum depth for recursion. It is larger than the limits of parsers and expressions, so that records that contain
/// their values are below it too.
pub(crate) const RECURSION_MAX: usize = 320;

/// Drops values without recursion.
pub(super) fn drop_all(mut values: Vec<Value>) {
    while let Some(value) = values.pop() {
        match value.0 {
            Repr::Array(mut array) if array.depth() > RECURSION_MAX => {
                values.extend(array.take_unshared());
            }
            Repr::Object(mut object) if object.depth() > RECURSION_MAX => {
                values.extend(object.take_unshared());
            }
            _ => {}
        }
    }
}

/// The kind of comparison.
#[derive(Clone, Copy)]
pub(super) enum Comparison {
    /// As [`equality::same_structure`].
    Structure,
    /// As [`equality::wdl_equals`].
    Language,
}

/// Compares two values, without recursion into deep parts.
pub(super) fn are_equal(left: &Value, right: &Value, comparison: Comparison) -> bool {
    let mut pairs = vec![(left, right)];
    while let Some((left, right)) = pairs.pop() {
        if left.depth().min(right.depth()) <= RECURSION_MAX {
            let equal = match comparison {
                // Values of different depth are unequal, and recursion ends at the depth of the shallower one.
                Comparison::Structure => equality::same_structure(left, right),
                Comparison::Language => equality::wdl_equals(left, right),
            };
            if !equal {
                return false;
            }
            continue;
        }
        match (left.as_ref(), right.as_ref()) {
            (ValueRef::Array(left), ValueRef::Array(right)) => {
                if left.ptr_eq(right) {
                    continue;
                }
                if left.len() != right.len() {
                    return false;
                }
                pairs.extend(left.iter().zip(right.iter()));
            }
            (ValueRef::Object(left), ValueRef::Object(right)) => {
                if left.ptr_eq(right) {
                    continue;
                }
                if left.len() != right.len() {
                    return false;
                }
                match comparison {
                    Comparison::Structure => {
                        if !left.keys().eq(right.keys()) {
                            return false;
                        }
                        pairs.extend(left.values().zip(right.values()));
                    }
                    Comparison::Language => {
                        for (key, value) in left {
                            let Some(other) = right.get(key) else { return false };
                            pairs.push((value, other));
                        }
                    }
                }
            }
            _ => return false,
        }
    }
    true
}

enum Open<'a> {
    Array(std::slice::Iter<'a, Value>),
    Object(Iter<'a>),
}

/// Writes compact JSON, without recursion into deep parts.
pub(super) fn write_json(value: &Value, out: &mut impl fmt::Write) -> fmt::Result {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut next = Some(value);
    // Whether nothing has been written yet in the current container.
    let mut first = true;
    loop {
        if let Some(value) = next.take() {
            match value.as_ref() {
                ValueRef::Array(items) if value.depth() > RECURSION_MAX => {
                    out.write_char('[')?;
                    open.push(Open::Array(items.iter()));
                    first = true;
                }
                ValueRef::Object(object) if value.depth() > RECURSION_MAX => {
                    out.write_char('{')?;
                    open.push(Open::Object(object.iter()));
                    first = true;
                }
                _ => {
                    write::write_json(value, out)?;
                    first = false;
                }
            }
        }
        let Some(innermost) = open.last_mut() else { return Ok(()) };
        let (key, found, end) = match innermost {
            Open::Array(items) => (None, items.next(), ']'),
            Open::Object(members) => match members.next() {
                Some((key, value)) => (Some(key), Some(value), '}'),
                None => (None, None, '}'),
            },
        };
        if found.is_none() {
            out.write_char(end)?;
            open.pop();
            first = false;
            continue;
        }
        if !first {
            out.write_char(',')?;
        }
        if let Some(key) = key {
            write::write_string(key, out)?;
            out.write_char(':')?;
        }
        next = found;
    }
}
