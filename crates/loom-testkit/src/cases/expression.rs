//! Expression cases: one template, its context, and the expected value or error.

use loom_expression::{NoNames, Object, Options, RecordedContext, Template, Timestamp, Value};
use regex_lite::Regex;

use super::{
    Difference, Verdict,
    compare::{compare_exact, text},
};

/// Runs one case.
pub(super) fn run(case: &Object, now: Timestamp) -> Verdict {
    let found = check(case, now);
    if found.is_empty() { Verdict::Passed } else { Verdict::Failed(found) }
}

fn check(case: &Object, now: Timestamp) -> Vec<Difference> {
    let Some(expression) = case.get("expression") else {
        return vec![Difference::of("expression", "missing property")];
    };
    let wanted: Vec<&str> = ["expected", "error", "matches", "range"]
        .into_iter()
        .filter(|name| case.contains_key(name))
        .collect();
    let [wanted] = wanted[..] else {
        let what = "a case must have exactly one of `expected`, `error`, `matches` and `range`";
        return vec![Difference::of("case", what)];
    };
    let context = match RecordedContext::from_json(case.get("context").unwrap_or(&Value::NULL)) {
        Ok(context) if context.has_now() => context,
        Ok(context) => context.with_now(now),
        Err(error) => return vec![Difference::of("context", error.to_string())],
    };
    let result = evaluate(expression, &context);
    let expectation = case.get(wanted).unwrap_or(&Value::NULL);
    let mut found = Vec::new();
    match (wanted, result) {
        ("error", Err(message)) => check_message(case, &message, &mut found),
        ("error", Ok(value)) => {
            found.push(Difference::between("expression", "an error", text(&value)));
        }
        (_, Err(message)) => {
            found.push(Difference::between("expression", text(expectation), format!("the error: {message}")));
        }
        ("expected", Ok(value)) => compare_exact("value", expectation, Some(&value), &mut found),
        ("matches", Ok(value)) => check_pattern(expectation, &value, &mut found),
        (_, Ok(value)) => check_range(expectation, &value, &mut found),
    }
    found
}

fn evaluate(expression: &Value, context: &RecordedContext) -> Result<Value, String> {
    let template = Template::compile(expression, &NoNames, &Options::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    template.evaluate(context).map_err(|error| error.to_string())
}

fn check_message(case: &Object, message: &str, found: &mut Vec<Difference>) {
    if case.get("error").and_then(Value::as_bool) == Some(false) {
        found.push(Difference::between("error", "no error", message));
    }
    if let Some(part) = case.get("errorContains").and_then(Value::as_str)
        && !message.contains(part)
    {
        found.push(Difference::between("error", format!("a message that contains '{part}'"), message));
    }
}

fn check_pattern(pattern: &Value, value: &Value, found: &mut Vec<Difference>) {
    let Some(pattern) = pattern.as_str() else {
        found.push(Difference::of("matches", "must be a regular expression"));
        return;
    };
    match (Regex::new(pattern), value.as_str()) {
        (Err(error), _) => found.push(Difference::of("matches", error.to_string())),
        (Ok(regex), Some(actual)) if regex.is_match(actual) => {}
        (Ok(_), _) => {
            found.push(Difference::between("value", format!("a string that matches {pattern}"), text(value)));
        }
    }
}

fn check_range(range: &Value, value: &Value, found: &mut Vec<Difference>) {
    let bound = |index: usize| range.index(index).and_then(Value::as_f64);
    let (Some(low), Some(high)) = (bound(0), bound(1)) else {
        found.push(Difference::of("range", "must be an array of two numbers"));
        return;
    };
    if !value.as_f64().is_some_and(|actual| (low..=high).contains(&actual)) {
        found.push(Difference::between("value", format!("a number between {low} and {high}"), text(value)));
    }
}
