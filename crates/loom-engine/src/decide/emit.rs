//! The action `Emit`: data or progress for the watchers of the run.

use loom_expression::{Object, Template, Value};

use super::Decider;
use crate::event::{ErrorInfo, Outcome, Place, shown};

/// The most bytes of the name of an event.
const EVENT_NAME_MAX: usize = 128;

impl Decider<'_> {
    /// Ends an Emit: its outputs are what it reports.
    pub(super) fn emit(&mut self, place: Place, inputs: &Template) {
        let inputs = match self.evaluate(place, inputs) {
            Ok(inputs) => inputs,
            Err(error) => return self.fail_inputs(place, &error),
        };
        let Some(inputs) = self.accepted(place, inputs) else { return };
        match reported(&inputs) {
            Ok(outputs) => {
                let outputs = outputs.labelled(inputs.labels());
                self.push_end(place, self.now, Some(inputs), Outcome::ok(Some(outputs)));
            }
            Err(why) => {
                let message = format!("The inputs of Emit '{}' are wrong: {why}", self.action(place).name);
                let outcome = Outcome::of_error(ErrorInfo::new("InvalidTemplate", message));
                self.push_end(place, self.now, Some(inputs), outcome);
            }
        }
    }
}

/// What an Emit with these inputs reports: `{event, data}` or `{progress: {current, total, message?}}`.
fn reported(inputs: &Value) -> Result<Value, String> {
    let Some(members) = inputs.as_object() else {
        return Err(format!("expected an object with 'event' or 'progress', found {}.", inputs.kind()));
    };
    if let Some((name, _)) =
        members.iter().find(|(name, _)| !["event", "data", "progress"].contains(&&***name))
    {
        return Err(format!("unknown property '{name}'; use 'event' with 'data', or 'progress'."));
    }
    match (inputs.get("event"), inputs.get("progress")) {
        (Some(event), None) => {
            let name = event.as_str().filter(|name| {
                !name.is_empty() && name.len() <= EVENT_NAME_MAX && !name.chars().any(char::is_control)
            });
            let name = name.ok_or_else(|| {
                format!(
                    "'event' must be a name of 1 to {EVENT_NAME_MAX} bytes without control characters (got {}).",
                    shown(event)
                )
            })?;
            let mut reported = Object::new();
            reported.insert("event", name);
            reported.insert("data", inputs.get("data").cloned().unwrap_or_default());
            Ok(reported.into())
        }
        (None, Some(progress)) if inputs.get("data").is_none() => {
            Ok(Object::single("progress".into(), step(progress)?).into())
        }
        (None, Some(_)) => Err("'data' belongs to 'event', not to 'progress'.".to_owned()),
        (Some(_), Some(_)) | (None, None) => Err("expected either 'event' or 'progress'.".to_owned()),
    }
}

/// `{current, total, message?}`.
fn step(progress: &Value) -> Result<Value, String> {
    let number = |name: &str| {
        let value = progress.get(name).unwrap_or(&Value::NULL);
        value.as_i64().filter(|number| *number >= 0).ok_or_else(|| {
            format!("'progress.{name}' must be an integer that is not negative (got {}).", shown(value))
        })
    };
    let (current, total) = (number("current")?, number("total")?);
    if current > total {
        return Err(format!(
            "'progress.current' must not exceed 'progress.total' (got {current} of {total})."
        ));
    }
    let mut step = Object::new();
    step.insert("current", current);
    step.insert("total", total);
    match progress.get("message").filter(|message| !message.is_null()) {
        None => {}
        Some(message) if message.as_str().is_some() => {
            step.insert("message", message.clone());
        }
        Some(message) => {
            return Err(format!("'progress.message' must be a string, found {}.", message.kind()));
        }
    }
    Ok(step.into())
}
