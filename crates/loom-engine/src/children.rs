//! Child workflows: an action that starts another workflow and waits for its response.

use std::{
    borrow::Cow,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_definition::{
    Status,
    model::{ActionKind, EffectKind},
};
use loom_expression::{Object, Timestamp, Value};
use loom_store::InboxId;

use crate::{
    budgets::Budgets,
    event::{EffectResult, ErrorInfo, Outcome, Phase, RetryHint},
    http_status,
    machine::Run,
    messages,
    other_runs::{Child, OtherRuns},
    ports::Call,
    shared::Shared,
    start::{RunRequest, StartError},
    time,
    unloadable::RecoverError,
};

/// The delay before a child is started again that the store did not accept.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the child and waits for its Response or its end. A child that this attempt has already started, in an earlier
/// process, is not started again; its Response is awaited.
///
/// # Cancel safety
/// Dropping the future leaves the child running, as the language prescribes when a parent is cancelled.
///
/// `waits` is set once the child is durable: from then on, a message to the parent says that it has responded.
pub(crate) async fn call(
    shared: &Shared,
    others: &Arc<dyn OtherRuns>,
    call: &Call,
    waits: &AtomicBool,
) -> EffectResult {
    let Some(name) = child_name(&call.inputs) else {
        return failed(
            "BadRequest",
            "InvalidTemplate",
            "The inputs do not name a child workflow: 'host.workflow.id' is missing.".to_owned(),
        );
    };
    let Some((child, parameters)) = shared.workflow(name) else {
        let message =
            format!("The child workflow '{name}' does not exist. Deploy it together with this workflow.");
        return failed("NotFound", "WorkflowNotFound", message);
    };
    let most = shared.environment.budgets.child_depth_max.min(Budgets::CHILD_DEPTH_LIMIT);
    if call.depth >= most {
        let message = format!(
            "The child workflow '{name}' was not started: it would be at depth {}, and the maximum depth of child \
             workflows is {most} (setting child-depth-max). Check whether a workflow calls itself.",
            u32::from(call.depth) + 1
        );
        return failed("BadRequest", "ChildDepthExceeded", message);
    }
    let trigger = call.inputs.get("host").and_then(|host| host.get("triggerName")).and_then(Value::as_str);
    if is_disabled(shared, name, trigger.or_else(|| child.triggers.first().map(|first| &*first.name))) {
        let message =
            format!("The child workflow '{name}' or its trigger is disabled. Enable it, then try again.");
        return failed("BadRequest", "WorkflowTriggerIsNotEnabled", message);
    }
    let mut outputs = Object::new();
    for member in ["headers", "queries", "body"] {
        if let Some(value) = call.inputs.get(member) {
            outputs.insert(member, value.clone());
        }
    }
    let answers = child.actions.iter().any(|action| matches!(action.kind, ActionKind::Response { .. }));
    let request = RunRequest {
        workflow: child,
        trigger: trigger.map(Arc::from),
        outputs: outputs.into(),
        parameters,
        tracking_id: Some(Arc::clone(&call.tracking_id)),
        wants_response: true,
        trace: call.trace.clone(),
        depth: call.depth.saturating_add(1),
    };
    let mut children = match Arc::clone(others).start_children(request, call).await {
        Ok(Some(children)) => children,
        Ok(None) => {
            let message =
                format!("The child workflow '{name}' did not start: a condition of its trigger is not met.");
            return failed("BadRequest", "TriggerConditionNotMet", message);
        }
        Err(error @ StartError::Store(_)) => return later(error.to_string()),
        // As a request would be answered: the retry policy decides whether the call is made again.
        Err(error @ StartError::Full { .. }) => {
            let error = ErrorInfo::new("WorkflowTriggerIsThrottled", error.to_string());
            return EffectResult::Done {
                outcome: Outcome::failed("TooManyRequests", error),
                hint: RetryHint { transient: true, ..RetryHint::default() },
            };
        }
        Err(error) => return failed("BadRequest", "ChildWorkflowNotStarted", error.to_string()),
    };
    for child in &mut children {
        // A child is not reported before its start is durable.
        if let Child::Started(run) = child
            && !run.accepted().await
        {
            return later(format!("The store did not accept the run of the child workflow '{name}'."));
        }
    }
    let [child] = &mut children[..] else { return done(accepted()) };
    if !answers {
        return done(accepted());
    }
    waits.store(true, Ordering::Relaxed);
    let (id, early) = match child {
        Child::Started(run) => (run.id, run.response().await),
        Child::Known(run) => (*run, None),
    };
    let response = match early {
        Some(response) => Some(response),
        // It has ended without a response, or is held because the store cannot write.
        None => match Arc::clone(others).response_of(id).await {
            Ok(response) => response,
            Err(error @ (RecoverError::Store { .. } | RecoverError::Held { .. })) => {
                return later(error.to_string());
            }
            Err(error) => return failed("BadGateway", "ChildWorkflowUnreadable", error.to_string()),
        },
    };
    match response {
        Some(response) => done(from_response(response)),
        None => failed(
            "BadGateway",
            "NoResponse",
            format!("The child workflow '{name}' ended without a response."),
        ),
    }
}

/// The keys of the children that a run waits for.
pub(crate) fn awaited(run: &Run) -> Vec<Arc<str>> {
    let outstanding = run.state().calls().filter(|(_, asked)| asked.phase == Phase::Call);
    let calls = outstanding.filter_map(|(effect, _)| run.call(effect));
    calls.filter(is_child).map(|call| child_key(&call, 0)).collect()
}

/// Whether a call starts a child workflow.
pub(crate) fn is_child(call: &Call) -> bool {
    let kind = &call.definition().kind;
    call.phase == Phase::Call && matches!(kind, ActionKind::Effect { effect: EffectKind::Workflow, .. })
}

/// The message that says that the child of this attempt has responded or ended, if it is pending. If it cannot be read now, it
/// is consumed when the run is loaded the next time.
pub(crate) async fn end_message(shared: &Shared, call: &Call) -> Option<InboxId> {
    let store = &shared.durable.as_ref()?.store;
    let message = store.posted(Some(call.run), &child_key(call, 0)).await.ok()??;
    messages::is_pending(&**store, call.run, message).await.ok()?.then_some(message)
}

/// Whether the child of this attempt had ended by `due`. An earlier process started it, and this one has not asked for it yet.
pub(crate) async fn had_ended(
    shared: &Shared,
    call: &Call,
    due: Timestamp,
) -> Result<bool, loom_store::Error> {
    let (Some(durable), Some(name)) = (&shared.durable, child_name(&call.inputs)) else { return Ok(false) };
    let Some(deployed) = shared.workflow(name) else { return Ok(false) };
    let row = durable.store.run_by_key(&deployed.0.name, &child_key(call, 0)).await?;
    Ok(row.and_then(|row| row.ended).is_some_and(|ended| ended <= time::millis(due)))
}

/// The name of the workflow that a call starts. Ids are resource paths in the cloud; the last part is the name.
fn child_name(inputs: &Value) -> Option<&str> {
    let host = inputs.get("host");
    let wanted = host.and_then(|host| host.get("workflow"));
    let id = wanted.and_then(|workflow| workflow.get("id").or(Some(workflow)));
    // The spelling of Power Automate flows.
    let id = id.or_else(|| host.and_then(|host| host.get("workflowReferenceName")));
    let id = id.and_then(Value::as_str)?;
    Some(id.rsplit('/').next().unwrap_or(id))
}

/// The idempotency key of a child, by which a repeated attempt finds it.
pub(crate) fn child_key(call: &Call, index: usize) -> Arc<str> {
    Arc::from(format!("{}{}/{}/{index}", messages::CHILD, call.idempotency_key, call.attempt))
}

/// Whether a workflow, or the trigger that would fire, is disabled.
fn is_disabled(shared: &Shared, workflow: &str, trigger: Option<&str>) -> bool {
    let disabled = shared.disabled.read().unwrap_or_else(PoisonError::into_inner);
    let workflow = workflow.to_lowercase();
    disabled.contains(&workflow)
        || trigger.is_some_and(|trigger| disabled.contains(&format!("{workflow}/{}", trigger.to_lowercase())))
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
    let code =
        u16::try_from(status).map_or_else(|_| Cow::Owned(status.to_string()), http_status::status_code);
    let error = ErrorInfo::new(code.clone(), format!("The child workflow responded with status {status}."));
    Outcome { status: Status::Failed, code, outputs: Some(response), error: Some(Arc::new(error)) }
}

fn done(outcome: Outcome) -> EffectResult {
    let status =
        outcome.outputs.as_ref().and_then(|outputs| outputs.get("statusCode")).and_then(Value::as_i64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    let transient = status.is_some_and(http_status::is_transient);
    EffectResult::Done { outcome, hint: RetryHint { transient, ..RetryHint::default() } }
}

/// A failure of the store is not a failure of the action: the same attempt is made again, and finds the child if there is one.
fn later(message: String) -> EffectResult {
    let outcome = Outcome::failed("ServiceUnavailable", ErrorInfo::new("StoreUnavailable", message));
    EffectResult::Pending { outcome, after: AGAIN, resume: Value::NULL }
}

fn failed(code: &'static str, error: &'static str, message: String) -> EffectResult {
    EffectResult::Done {
        outcome: Outcome::failed(code, ErrorInfo::new(error, message)),
        hint: RetryHint::default(),
    }
}
