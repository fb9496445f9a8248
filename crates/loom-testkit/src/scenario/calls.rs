//! Compares the calls that arrived with those that were expected.
//!
//! In an expected body or query, `{"$contains": ["a", "b"]}` matches a string that contains all these parts, and
//! `{"$pattern": "regex"}` a string that the expression matches as a whole.

use std::sync::Arc;

use loom_expression::{Object, Value};
use regex_lite::Regex;

use crate::{
    cases::{Difference, compare_exact},
    mock::Recorded,
    server::query_members,
};

/// Compares all calls that a scenario expects with those that arrived, in order of arrival or in any order.
pub fn compare(expected: &[Value], came: &[Recorded], any_order: bool, found: &mut Vec<Difference>) {
    if expected.len() != came.len() {
        let names: Vec<String> = came.iter().map(|call| format!("{} {}", call.method, call.path)).collect();
        let names = format!("{}: {}", came.len(), names.join(", "));
        found.push(Difference::between("calls", expected.len(), names));
        return;
    }
    let mut left: Vec<&Recorded> = came.iter().collect();
    for (index, wanted) in expected.iter().enumerate() {
        let at = format!("calls[{index}]");
        // Takes the first matching call. If none matches, the differences from the first remaining one are reported.
        let place = if any_order { left.iter().position(|call| fits(wanted, call)).unwrap_or(0) } else { 0 };
        check(&at, wanted, left.remove(place), found);
    }
}

fn fits(wanted: &Value, call: &Recorded) -> bool {
    let mut differences = Vec::new();
    check("", wanted, call, &mut differences);
    differences.is_empty()
}

fn check(at: &str, wanted: &Value, call: &Recorded, found: &mut Vec<Difference>) {
    let Some(wanted) = wanted.as_object() else {
        found.push(Difference::of(at, "must be an object"));
        return;
    };
    for (member, wanted) in wanted {
        let at = format!("{at}.{member}");
        match &**member {
            "method" => compare_exact(&at, wanted, Some(&call.method.as_str().into()), found),
            "path" => compare_exact(&at, wanted, Some(&call.path.as_str().into()), found),
            "query" => {
                let members = query_members(&call.query);
                let query: Object =
                    members.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
                let query = Value::from(query);
                compare_exact(&at, &settled(wanted, &query), Some(&query), found);
            }
            "headers" => {
                for (name, wanted) in wanted.as_object().into_iter().flatten() {
                    let got = call.header(name).map(Value::from);
                    compare_exact(&format!("{at}.{name}"), wanted, got.as_ref(), found);
                }
            }
            "body" => {
                let body = call.body_value();
                compare_exact(&at, &settled(wanted, &body), Some(&body), found);
            }
            _ => {
                found.push(Difference::of(
                    at,
                    "unknown property; expected one of method, path, query, headers, body",
                ));
            }
        }
    }
}

/// The expected value, with every pattern that the actual value matches replaced by the actual value.
fn settled(wanted: &Value, actual: &Value) -> Value {
    if let (Some(wanted), Some(actual)) = (wanted.as_array(), actual.as_array()) {
        let mut actual = actual.iter();
        let pairs =
            wanted.iter().map(|item| actual.next().map_or_else(|| item.clone(), |got| settled(item, got)));
        return pairs.collect::<Vec<Value>>().into();
    }
    let Some(members) = wanted.as_object() else { return wanted.clone() };
    if let Some(text) = actual.as_str()
        && pattern_fits(members, text)
    {
        return actual.clone();
    }
    let settle = |(name, member): (&Arc<str>, &Value)| {
        let member = actual.get(name).map_or_else(|| member.clone(), |got| settled(member, got));
        (Arc::clone(name), member)
    };
    members.iter().map(settle).collect::<Object>().into()
}

fn pattern_fits(members: &Object, text: &str) -> bool {
    if let Some(parts) = members.get("$contains").and_then(Value::as_array) {
        return parts.iter().all(|part| part.as_str().is_some_and(|part| text.contains(part)));
    }
    let pattern = members.get("$pattern").and_then(Value::as_str);
    pattern.is_some_and(|pattern| {
        Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text))
    })
}
