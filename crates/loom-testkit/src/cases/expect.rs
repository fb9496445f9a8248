//! Compares the runs of a case with its expectations.

use std::{borrow::Cow, sync::Arc};

use loom_definition::{
    Status, Workflow,
    diagnostic::did_you_mean,
    model::{Action, ActionKind},
};
use loom_engine::{
    RunReport,
    event::ErrorInfo,
    history::{History, Occurrence},
};
use loom_expression::{Object, Value};

use super::{
    Difference, Verdict,
    compare::{compare_exact, compare_subset, meant, text},
};

/// The result of firing the trigger.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    /// The runs, in order.
    pub(crate) runs: Vec<(History, Arc<RunReport>)>,
    /// Whether a condition of the trigger was not met.
    pub(crate) held: bool,
    /// Actions whose calls have no mock, each with the property of the case where its mocks belong.
    pub(crate) unanswered: Vec<(String, String)>,
    /// What is wrong with calls of described operations, each with the name of the action.
    pub(crate) wrong_requests: Vec<(String, String)>,
    /// Keys of shared memory that hold something else than expected.
    pub(crate) memory: Vec<Difference>,
}

const KNOWN: [&str; 9] =
    ["runStatus", "actions", "outputs", "error", "response", "rejected", "runs", "triggerFired", "memory"];

/// The verdict on a definition, parameter values or a trigger that were rejected.
pub(super) fn refused(case: &Object, why: &str) -> Verdict {
    let expected = case.get("expected").and_then(|expected| expected.get("rejected"));
    if expected.and_then(Value::as_bool) == Some(true) {
        return Verdict::Passed;
    }
    Verdict::Failed(vec![Difference::between("rejected", "a run", format!("it was rejected: {why}"))])
}

/// The verdict on a trigger that failed, so that it started no run.
pub(super) fn trigger_failed(case: &Object, why: &str) -> Verdict {
    let expected = case.get("expected");
    let says = |name: &str| expected.and_then(|expected| expected.get(name));
    let no_run = says("triggerFired").and_then(Value::as_bool) == Some(false)
        || says("runs").and_then(Value::as_array).is_some_and(|runs| runs.is_empty());
    if no_run { Verdict::Passed } else { refused(case, why) }
}

/// The verdict on runs that have ended.
pub(crate) fn check(case: &Object, executed: &Executed) -> Verdict {
    let mut found = Vec::new();
    for (place, name) in &executed.unanswered {
        let what = format!(
            "the action made a call that the case does not mock; add it to `{place}`, such as \"{name}\": {{\"statusCode\": 200, \"body\": {{}}}}"
        );
        found.push(Difference::of(format!("{place}.{name}"), what));
    }
    for (name, problem) in &executed.wrong_requests {
        found.push(Difference::of(format!("requests.{name}"), problem.clone()));
    }
    match case.get("expected").and_then(Value::as_object) {
        None => found.push(Difference::of("expected", "missing property")),
        Some(expected) => check_firing(expected, executed, &mut found),
    }
    found.extend(executed.memory.iter().cloned());
    found.dedup();
    if found.is_empty() { Verdict::Passed } else { Verdict::Failed(found) }
}

fn check_firing(expected: &Object, executed: &Executed, found: &mut Vec<Difference>) {
    if let Some(name) = expected.keys().find(|name| !KNOWN.contains(&&***name)) {
        let what = format!("unknown expectation; {}", meant(name, &KNOWN, "expected one of"));
        found.push(Difference::of(format!("expected.{name}"), what));
    }
    let says = |name: &str| expected.get(name).and_then(Value::as_bool);
    if says("rejected") == Some(true) {
        found.push(Difference::between("rejected", "a rejection", "it was accepted"));
        return;
    }
    let fired = !executed.runs.is_empty();
    if let Some(wanted) = says("triggerFired")
        && wanted != fired
    {
        found.push(Difference::between("triggerFired", wanted, fired));
    }
    if let Some(runs) = expected.get("runs").and_then(Value::as_array) {
        if runs.len() != executed.runs.len() {
            found.push(Difference::between("runs", runs.len(), executed.runs.len()));
        }
        for (index, (wanted, run)) in runs.iter().zip(&executed.runs).enumerate() {
            match wanted.as_object() {
                Some(wanted) => check_run(&format!("runs[{index}]."), wanted, run, found),
                None => found.push(Difference::of(format!("runs[{index}]"), "must be an object")),
            }
        }
        return;
    }
    let about_a_run = ["runStatus", "actions", "outputs", "error", "response"];
    if !about_a_run.iter().any(|name| expected.contains_key(name)) {
        return;
    }
    match &executed.runs[..] {
        [run] => check_run("", expected, run, found),
        [] => {
            let actual =
                if executed.held { "no run: a condition of the trigger is not met" } else { "no run" };
            found.push(Difference::between("runs", "one run", actual));
        }
        runs => found.push(Difference::between("runs", "one run", format!("{} runs", runs.len()))),
    }
}

fn check_run(
    at: &str,
    expected: &Object,
    (history, report): &(History, Arc<RunReport>),
    found: &mut Vec<Difference>,
) {
    if let Some(wanted) = expected.get("runStatus") {
        let actual = report.status.as_str();
        if !wanted.as_str().is_some_and(|wanted| wanted.eq_ignore_ascii_case(actual)) {
            let why = report.error.as_ref().map(|error| format!(" ({})", error.message)).unwrap_or_default();
            found.push(Difference::between(
                format!("{at}runStatus"),
                text(wanted),
                format!("\"{actual}\"{why}"),
            ));
        }
    }
    if let Some(wanted) = expected.get("outputs") {
        let empty = Value::from(Object::new());
        let actual = report.outputs.as_ref().unwrap_or(&empty);
        match wanted.as_object() {
            // Only the outputs that are named are compared.
            Some(wanted) => {
                for (name, wanted) in wanted {
                    compare_exact(&format!("{at}outputs.{name}"), wanted, actual.get(name), found);
                }
            }
            None => compare_exact(&format!("{at}outputs"), wanted, Some(actual), found),
        }
    }
    if let Some(wanted) = expected.get("error") {
        let actual = report.error.as_ref().map(|error| error.to_value());
        compare_subset(&format!("{at}error"), wanted, actual.as_ref(), found);
    }
    if let Some(wanted) = expected.get("response") {
        let answer = if wanted.is_null() { report.response.clone() } else { Some(answer(history, report)) };
        check_response(&format!("{at}response"), wanted, answer.as_ref(), found);
    }
    if let Some(actions) = expected.get("actions").and_then(Value::as_object) {
        for (name, wanted) in actions {
            check_action(&format!("{at}actions.{name}"), name, wanted, history, found);
        }
    }
}

/// The caller's response: that of the Response action, or the one that the trigger sends automatically.
fn answer(history: &History, report: &RunReport) -> Value {
    let responds = |action: &Action| matches!(action.kind, ActionKind::Response { .. });
    match (&report.response, history.workflow().actions.iter().any(responds)) {
        (Some(response), _) => response.clone(),
        // Without a Response action, the caller immediately receives 202 Accepted.
        (None, false) => [("statusCode", 202)].into_iter().collect::<Object>().into(),
        (None, true) => [("statusCode", 502)].into_iter().collect::<Object>().into(),
    }
}

/// `headers` are a subset, with names compared without regard to case; everything else that is named must be equal.
fn check_response(at: &str, wanted: &Value, actual: Option<&Value>, found: &mut Vec<Difference>) {
    let (Some(members), Some(actual)) = (wanted.as_object(), actual) else {
        compare_exact(at, wanted, actual, found);
        return;
    };
    for (name, wanted) in members {
        let got = actual.get(name);
        let headers = wanted.as_object().filter(|_| name.eq_ignore_ascii_case("headers"));
        let Some(headers) = headers else {
            compare_exact(&format!("{at}.{name}"), wanted, got, found);
            continue;
        };
        let got = got.and_then(Value::as_object);
        for (header, wanted) in headers {
            let got = got.and_then(|got| got.get_ignore_case(header));
            compare_exact(&format!("{at}.headers.{header}"), wanted, got, found);
        }
    }
}

/// The expectations of an action.
const KNOWN_OF_ACTION: [&str; 8] =
    ["status", "repetitions", "code", "error", "outputs", "inputs", "attempts", "tracked"];

fn check_action(at: &str, name: &str, wanted: &Value, history: &History, found: &mut Vec<Difference>) {
    let Some(index) = history.workflow().find_action(name) else {
        found.push(Difference::of(at, no_action(history.workflow(), name)));
        return;
    };
    let records = history.records(index);
    let last = records.last().map(AsRef::as_ref);
    if let Some(status) = wanted.get("status") {
        let actual = last.map_or_else(|| history.status_of(index), |last| last.status);
        check_status(&format!("{at}.status"), status, actual, error_of(last), found);
    }
    if let Some(repetitions) = wanted.get("repetitions") {
        check_repetitions(&format!("{at}.repetitions"), repetitions, &records, found);
    }
    if let Some(code) = wanted.get("code") {
        let actual = last.map(|last| Value::from(last.code.as_ref()));
        compare_exact(&format!("{at}.code"), code, actual.as_ref(), found);
    }
    if let Some(error) = wanted.get("error") {
        let actual = error_of(last).map(ErrorInfo::to_value);
        compare_subset(&format!("{at}.error"), error, actual.as_ref(), found);
    }
    if let Some(outputs) = wanted.get("outputs") {
        compare_exact(&format!("{at}.outputs"), outputs, last.and_then(|last| last.outputs.as_ref()), found);
    }
    if let Some(inputs) = wanted.get("inputs") {
        let actual = last.and_then(|last| last.inputs.as_ref());
        compare_subset(&format!("{at}.inputs"), inputs, actual, found);
    }
    if let Some(tracked) = wanted.get("tracked") {
        compare_exact(&format!("{at}.tracked"), tracked, last.and_then(|last| last.tracked.as_ref()), found);
    }
    if let Some(attempts) = wanted.get("attempts") {
        let actual = last.map_or(0, attempts_made);
        compare_exact(&format!("{at}.attempts"), attempts, Some(&Value::from(actual)), found);
    }
    for member in wanted.as_object().into_iter().flat_map(Object::keys) {
        if !KNOWN_OF_ACTION.contains(&&**member) {
            let hint = meant(member, &KNOWN_OF_ACTION, "expected one of");
            let what = format!("unknown expectation; {hint}");
            found.push(Difference::of(format!("{at}.{member}"), what));
        }
    }
}

/// The message for an action that does not exist, with a suggestion if there is one.
pub(super) fn no_action(workflow: &Workflow, name: &str) -> String {
    let hint = did_you_mean(name, workflow.actions.iter().map(|action| &*action.name));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("the definition has no action named `{name}`{hint}")
}

fn attempts_made(occurrence: &Occurrence) -> u32 {
    occurrence.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0)
}

fn error_of(occurrence: Option<&Occurrence>) -> Option<&ErrorInfo> {
    occurrence.and_then(|occurrence| occurrence.error.as_deref())
}

fn check_status(
    at: &str,
    wanted: &Value,
    actual: Option<Status>,
    error: Option<&ErrorInfo>,
    found: &mut Vec<Difference>,
) {
    let shown = actual.map_or("none", Status::as_str);
    if !wanted.as_str().is_some_and(|wanted| wanted.eq_ignore_ascii_case(shown)) {
        let why = error.map(|error| format!(" ({}: {})", error.code, error.message)).unwrap_or_default();
        found.push(Difference::between(at, text(wanted), format!("\"{shown}\"{why}")));
    }
}

/// Compares one entry for each iteration of the enclosing loops, in order.
fn check_repetitions(at: &str, wanted: &Value, records: &[Cow<'_, Occurrence>], found: &mut Vec<Difference>) {
    let Some(wanted) = wanted.as_array() else {
        found.push(Difference::of(at, "must be an array"));
        return;
    };
    let repeated: Vec<&Occurrence> =
        records.iter().map(AsRef::as_ref).filter(|record: &&Occurrence| !record.path.is_empty()).collect();
    if wanted.len() != repeated.len() {
        let statuses: Vec<&str> =
            repeated.iter().map(|occurrence| occurrence.status.map_or("none", Status::as_str)).collect();
        let actual = format!("{} iterations: {}", repeated.len(), statuses.join(", "));
        found.push(Difference::between(at, format!("{} iterations", wanted.len()), actual));
        return;
    }
    for (index, (wanted, occurrence)) in wanted.iter().zip(repeated).enumerate() {
        if let Some(status) = wanted.get("status") {
            let at = format!("{at}[{index}].status");
            check_status(&at, status, occurrence.status, occurrence.error.as_deref(), found);
        }
        if let Some(outputs) = wanted.get("outputs") {
            compare_exact(&format!("{at}[{index}].outputs"), outputs, occurrence.outputs.as_ref(), found);
        }
        if let Some(code) = wanted.get("code") {
            let actual = Value::from(occurrence.code.as_ref());
            compare_exact(&format!("{at}[{index}].code"), code, Some(&actual), found);
        }
        if let Some(error) = wanted.get("error") {
            let actual = occurrence.error.as_deref().map(ErrorInfo::to_value);
            compare_subset(&format!("{at}[{index}].error"), error, actual.as_ref(), found);
        }
    }
}
