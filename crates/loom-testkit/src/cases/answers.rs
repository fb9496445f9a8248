//! Mocked results of actions, by the action's name.
//!
//! A mock is an object in one of three forms:
//! - like an action's record: `{"status": "Failed", "code": "NotFound", "outputs": …, "error": {"code", "message"}}`;
//! - like an HTTP response: `{"statusCode": 503, "headers": …, "body": …}`; success, code and retries follow from the status;
//! - for webhooks: `{"callback": {"headers": …, "body": …}}`, delivered after the subscription.
//!
//! Each may have `delay` (the duration of the call, in milliseconds or as an ISO 8601 duration), `retryAfter` (likewise) and
//! `transient` (whether the built-in rule retries). Instead of one mock there may be an array: one for each attempt, the last
//! one for all further attempts. `{"occurrences": [ … ]}` contains one of either for each execution of the action, as in a loop,
//! in the order in which they start; the last one applies to the rest.

use std::{borrow::Cow, sync::Arc, time::Duration};

use loom_definition::{Status, duration::Span};
use loom_engine::{
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    http_status,
};
use loom_expression::{Object, Value};

use super::compare::meant;

/// The mocks for one action.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// By occurrence, then by attempt; no list is empty.
    occurrences: Vec<Vec<Answer>>,
}

/// One mock.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) hint: RetryHint,
    /// The duration of the call.
    pub(super) delay: Duration,
    /// The callback, for a webhook.
    pub(super) callback: Option<Value>,
}

impl Answers {
    /// Parses the mocks for one action.
    pub(super) fn read(value: &Value) -> Result<Answers, String> {
        let occurrences = match value.get("occurrences").and_then(Value::as_array) {
            Some(list) => list.iter().map(by_attempt).collect::<Result<Vec<_>, _>>()?,
            None => vec![by_attempt(value)?],
        };
        if occurrences.is_empty() {
            return Err("`occurrences` must not be empty".to_owned());
        }
        Ok(Answers { occurrences })
    }

    /// The mock for one attempt (from 1) of one occurrence (from 0).
    pub(super) fn get(&self, occurrence: usize, attempt: u32) -> &Answer {
        let attempts = &self.occurrences[occurrence.min(self.occurrences.len() - 1)];
        &attempts[(attempt.max(1) as usize - 1).min(attempts.len() - 1)]
    }
}

impl Answer {
    /// The result that the engine receives.
    pub(super) fn result(&self) -> EffectResult {
        EffectResult::Done { outcome: self.outcome.clone(), hint: self.hint }
    }

    /// The mock in the form of a static result, for actions that make no call.
    pub(super) fn record(&self) -> Value {
        let mut record = Object::new();
        record.insert("status", self.outcome.status.as_str());
        record.insert("code", self.outcome.code.as_ref());
        if let Some(outputs) = &self.outcome.outputs {
            record.insert("outputs", outputs.clone());
        }
        if let Some(error) = &self.outcome.error {
            record.insert("error", error.to_value());
        }
        record.into()
    }
}

fn by_attempt(value: &Value) -> Result<Vec<Answer>, String> {
    match value.as_array() {
        None => Ok(vec![read(value)?]),
        Some(list) if list.is_empty() => Err("the array of mocks must not be empty".to_owned()),
        Some(list) => list.iter().map(read).collect(),
    }
}

/// The properties of a mock.
const KNOWN: [&str; 11] = [
    "status",
    "code",
    "outputs",
    "error",
    "statusCode",
    "headers",
    "body",
    "callback",
    "delay",
    "retryAfter",
    "transient",
];

fn read(value: &Value) -> Result<Answer, String> {
    let Some(object) = value.as_object() else {
        return Err(format!("a mock must be an object (got {})", value.to_json_text()));
    };
    if let Some(name) = object.keys().find(|name| !KNOWN.contains(&&***name)) {
        return Err(format!("unknown property `{name}`; {}", meant(name, &KNOWN, "expected one of")));
    }
    let (mut outcome, by_rule) = match object.get("statusCode") {
        Some(code) => http(object, code)?,
        None => (plain(object)?, false),
    };
    if let Some(error) = object.get("error") {
        let part = |name: &str| error.get(name).map(|part| part.text().into_owned());
        let code = part("code").unwrap_or_else(|| outcome.code.to_string());
        outcome.error = Some(Arc::new(ErrorInfo {
            code: Cow::Owned(code),
            message: part("message").unwrap_or_default(),
            details: error.get("details").cloned(),
        }));
    }
    let after = object.get("retryAfter").map(duration).transpose()?;
    let transient = object.get("transient").map_or(Some(by_rule), Value::as_bool);
    Ok(Answer {
        outcome,
        hint: RetryHint {
            transient: transient.ok_or("`transient` must be true or false")?,
            after,
            ..RetryHint::default()
        },
        delay: object.get("delay").map(duration).transpose()?.unwrap_or_default(),
        callback: object.get("callback").cloned(),
    })
}

fn plain(object: &Object) -> Result<Outcome, String> {
    let status = match object.get("status") {
        None => Status::Succeeded,
        Some(status) => {
            let known = status.as_str().and_then(Status::parse);
            known.ok_or_else(|| {
                format!(
                    "`status` must be a status of an action, such as \"Failed\" (got {})",
                    status.to_json_text()
                )
            })?
        }
    };
    let code = match object.get("code") {
        Some(code) => Cow::Owned(code.text().into_owned()),
        None => Cow::Borrowed(default_code(status)),
    };
    let mut outcome = Outcome { status, code, outputs: object.get("outputs").cloned(), error: None };
    if status != Status::Succeeded && outcome.outputs.is_none() {
        let message = "The test case mocks this result.";
        outcome.error = Some(Arc::new(ErrorInfo::new(outcome.code.clone(), message)));
    }
    Ok(outcome)
}

fn default_code(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "OK",
        Status::Failed => "ActionFailed",
        Status::Skipped => "ActionSkipped",
        Status::TimedOut => "ActionTimedOut",
        Status::Cancelled => "ActionCancelled",
        Status::Aborted => "ActionAborted",
        Status::HandedOff => "HandedOff",
    }
}

/// The rule of HTTP actions: 2xx succeeds, anything else fails with the same outputs; 408, 429 and 5xx are retried.
fn http(object: &Object, code: &Value) -> Result<(Outcome, bool), String> {
    let number = code.as_i64().and_then(|code| u16::try_from(code).ok());
    let number = number.filter(|code| (100..=599).contains(code));
    let number = number
        .ok_or_else(|| format!("`statusCode` must be between 100 and 599 (got {})", code.to_json_text()))?;
    let mut outputs = Object::new();
    outputs.insert("statusCode", i64::from(number));
    for member in ["headers", "body"] {
        if let Some(value) = object.get(member) {
            outputs.insert(member, value.clone());
        }
    }
    let failed = !(200..=299).contains(&number);
    let status = match object.get("status").and_then(Value::as_str) {
        Some(status) => Status::parse(status).ok_or_else(|| {
            format!("`status` must be a status of an action, such as \"Failed\" (got \"{status}\")")
        })?,
        None if failed => Status::Failed,
        None => Status::Succeeded,
    };
    let code = match object.get("code") {
        Some(code) => Cow::Owned(code.text().into_owned()),
        None => http_status::status_code(number),
    };
    let transient = http_status::is_transient(number);
    Ok((Outcome { status, code, outputs: Some(outputs.into()), error: None }, transient))
}

fn duration(value: &Value) -> Result<Duration, String> {
    Span::from_value(value).map(Span::approximate)
}
