//! Child workflows: an action that starts another workflow and waits for its answer.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError},
};

use loom_definition::{Status, model::ActionKind};
use loom_expression::{Object, Value};

use crate::{
    engine::{Engine, Inner, RunRequest, Started},
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::Call,
};

/// Starts the child, waits for its Response or its end.
///
/// # Cancel safety
/// Dropping the future leaves the child running, as the language does when a parent is cancelled.
pub(crate) async fn call(inner: &Arc<Inner>, call: &Call) -> EffectResult {
    let wanted = call.inputs.get("host").and_then(|host| host.get("workflow"));
    let id = wanted.and_then(|workflow| workflow.get("id").or(Some(workflow)));
    let Some(id) = id.and_then(Value::as_str) else {
        return failed(
            "BadRequest",
            "InvalidTemplate",
            "The action names no child workflow in host.workflow.id.".to_owned(),
        );
    };
    // Ids are resource paths in the cloud; the last part is the name.
    let name = id.rsplit('/').next().unwrap_or(id);
    let child = {
        let workflows = inner.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.get(&name.to_lowercase()).cloned()
    };
    let Some((child, parameters)) = child else {
        let message =
            format!("There is no workflow named '{name}' to call; make it known to the engine first.");
        return failed("NotFound", "WorkflowNotFound", message);
    };
    let trigger = call.inputs.get("host").and_then(|host| host.get("triggerName")).and_then(Value::as_str);
    let mut outputs = Object::new();
    for member in ["headers", "queries", "body"] {
        if let Some(value) = call.inputs.get(member) {
            outputs.insert(member, value.clone());
        }
    }
    let answers = child.actions.iter().any(|action| matches!(action.kind, ActionKind::Response { .. }));
    let engine = Engine::from_inner(inner);
    let request = RunRequest {
        workflow: child,
        trigger: trigger.map(Arc::from),
        outputs: outputs.into(),
        parameters,
        tracking_id: Some(Arc::clone(&call.tracking_id)),
        wants_response: true,
    };
    let mut started = match engine.start(request, None) {
        Ok(Started::Runs(runs)) => runs,
        Ok(Started::Held { .. }) => {
            let message = format!("The trigger of '{name}' did not fire: a condition of it does not hold.");
            return failed("BadRequest", "TriggerConditionNotMet", message);
        }
        Err(error) => return failed("BadRequest", "ChildWorkflowNotStarted", error.to_string()),
    };
    if !answers || started.len() != 1 {
        return done(accepted());
    }
    match started[0].response().await {
        Some(response) => done(from_response(response)),
        None => failed(
            "BadGateway",
            "NoResponse",
            format!("The workflow '{name}' ended without answering its caller."),
        ),
    }
}

fn accepted() -> Outcome {
    let outputs: Object = [("statusCode", Value::from(202i64))].into_iter().collect();
    Outcome { code: Cow::Borrowed("Accepted"), ..Outcome::ok(Some(outputs.into())) }
}

fn from_response(response: Value) -> Outcome {
    let status = response.get("statusCode").and_then(Value::as_i64).unwrap_or(200);
    if status < 400 {
        return Outcome::ok(Some(response));
    }
    let error = ErrorInfo::new("ActionFailed", format!("The child workflow answered {status}."));
    Outcome {
        status: Status::Failed,
        code: Cow::Owned(status.to_string()),
        outputs: Some(response),
        error: Some(Arc::new(error)),
    }
}

fn done(outcome: Outcome) -> EffectResult {
    let status =
        outcome.outputs.as_ref().and_then(|outputs| outputs.get("statusCode")).and_then(Value::as_i64);
    let transient = matches!(status, Some(408 | 429 | 500..=599));
    EffectResult::Done { outcome, hint: RetryHint { transient, after: None, refused: false } }
}

fn failed(code: &'static str, error: &'static str, message: String) -> EffectResult {
    EffectResult::Done {
        outcome: Outcome::failed(code, ErrorInfo::new(error, message)),
        hint: RetryHint::default(),
    }
}
