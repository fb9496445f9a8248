//! Prints the result of a run on standard output.

use std::collections::BTreeSet;

use loom_definition::{ActionIdx, Status};
use loom_engine::{
    RunReport,
    history::{History, Occurrence},
};
use loom_expression::{Object, Value};
use loom_server::{HIDDEN, hide, without_credentials};

use crate::console::{self, masker};

/// Prints the result of a run: the body of its response or else its outputs; with `json`, the whole run. The status of the
/// response goes to standard error.
pub(super) fn print(report: &RunReport, history: &History, json: bool) {
    if json {
        console::json(&masker().mask_value(&everything(report, history)).to_json_text());
        return;
    }
    let answer = match (&report.response, &report.outputs) {
        (Some(response), _) => response.get("body").cloned(),
        (None, Some(outputs)) if outputs.as_object().is_some_and(|outputs| !outputs.is_empty()) => {
            Some(hide_secure_outputs(outputs, history))
        }
        (None, _) => None,
    };
    if let Some(answer) = answer {
        console::json(&masker().mask_value(&hide(&answer)).to_json_text_pretty());
    }
}

/// The names of secrets that the actions of a run could not find.
pub(super) fn missing_secrets(history: &History) -> BTreeSet<String> {
    const MESSAGE: &str = "Secret not found: ";
    let actions = history.workflow().actions.iter();
    let occurrences = actions.flat_map(|action| history.occurrences(action.index));
    let messages = occurrences.filter_map(|occurrence| occurrence.error.as_ref()).map(|error| &error.message);
    let name = |message: &String| {
        let (_, rest) = message.split_once(MESSAGE)?;
        let length =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
        let name = rest[..length].trim_end_matches('.');
        (!name.is_empty()).then(|| name.to_owned())
    };
    messages.filter_map(name).collect()
}

/// Prints a run whose history was not recorded.
pub(super) fn print_report(report: &RunReport) {
    console::json(&masker().mask_value(&Value::from(ends(report))).to_json_text());
}

fn ends(report: &RunReport) -> Object {
    let mut object = Object::new();
    object.insert("run", report.id.to_string());
    object.insert("status", report.status.as_str());
    if let Some(error) = &report.error {
        object.insert("error", hide(&error.to_value()));
    }
    if let Some(response) = &report.response {
        object.insert("response", hide(response));
    }
    object
}

fn everything(report: &RunReport, history: &History) -> Value {
    let mut object = ends(report);
    object.insert("workflow", history.workflow().name.as_ref());
    object.insert("startTime", history.started.to_string());
    if let Some(ended) = history.ended {
        object.insert("endTime", ended.to_string());
    }
    if let Some(outputs) = &report.outputs {
        object.insert("outputs", hide_secure_outputs(outputs, history));
    }
    let actions = history.workflow().actions.iter().map(|action| {
        let occurrences = history.occurrences(action.index);
        let one = |occurrence| occurrence_json(occurrence, action.secure.inputs, action.secure.outputs);
        let in_loop = occurrences.iter().any(|occurrence| !occurrence.path.is_empty());
        let record = match occurrences {
            [only] if !in_loop => one(only),
            [] => never_opened(history, action.index),
            many => {
                let mut record = Object::new();
                record.insert("status", status_text(history.status_of(action.index)));
                record.insert("repetitions", many.iter().map(one).collect::<Vec<Value>>());
                record.into()
            }
        };
        (std::sync::Arc::clone(&action.name), record)
    });
    object.insert("actions", actions.collect::<Object>());
    object.into()
}

fn never_opened(history: &History, action: ActionIdx) -> Value {
    [("status", status_text(history.status_of(action)))].into_iter().collect::<Object>().into()
}

fn status_text(status: Option<Status>) -> &'static str {
    status.map_or("Running", Status::as_str)
}

fn occurrence_json(occurrence: &Occurrence, secure_inputs: bool, secure_outputs: bool) -> Value {
    let mut object = Object::new();
    object.insert("status", status_text(occurrence.status));
    object.insert("code", occurrence.code.as_ref());
    object.insert("startTime", occurrence.started.to_string());
    if let Some(ended) = occurrence.ended {
        object.insert("endTime", ended.to_string());
    }
    if !occurrence.path.is_empty() {
        object.insert(
            "iteration",
            occurrence
                .path
                .iter()
                .map(|iteration| iteration.index)
                .collect::<Vec<u32>>()
                .into_iter()
                .map(Value::from)
                .collect::<Vec<Value>>(),
        );
    }
    let shown = |value: &Value, secure: bool| if secure { Value::from(HIDDEN) } else { hide(value) };
    if let Some(inputs) = &occurrence.inputs {
        object.insert("inputs", shown(&without_credentials(inputs), secure_inputs));
    }
    if let Some(outputs) = &occurrence.outputs {
        object.insert("outputs", shown(outputs, secure_outputs));
    }
    if let Some(error) = &occurrence.error {
        object.insert("error", shown(&error.to_value(), secure_outputs));
    }
    if let Some(tracked) = &occurrence.tracked {
        object.insert("trackedProperties", hide(tracked));
    }
    let attempts = occurrence.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0);
    if attempts > 0 {
        object.insert("attempts", attempts);
    }
    object.into()
}

fn hide_secure_outputs(outputs: &Value, history: &History) -> Value {
    let Some(members) = outputs.as_object() else { return hide(outputs) };
    let declared = &history.workflow().outputs;
    let shown = members.iter().map(|(name, value)| {
        let secure = declared.iter().any(|output| output.secure && output.name == *name);
        (std::sync::Arc::clone(name), if secure { Value::from(HIDDEN) } else { hide(value) })
    });
    shown.collect::<Object>().into()
}
