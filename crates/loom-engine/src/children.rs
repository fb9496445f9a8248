//! Child workflows: an action that starts another workflow and waits for its response.

pub(crate) mod elsewhere;

use std::{
    borrow::Cow,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_definition::{
    Status, Workflow,
    model::{ActionKind, EffectKind},
};
use loom_expression::{Object, Timestamp, Value};
use loom_store::{InboxId, RunQuery, RunRow};

use crate::{
    budgets::Budgets,
    event::{EffectResult, ErrorInfo, Outcome, Phase, RetryHint, RunId},
    http_status,
    machine::Run,
    messages,
    other_runs::{Child, OtherRuns},
    ports::Call,
    shared::{Deployed, Shared},
    start::{RunRequest, StartError},
    time,
    unloadable::RecoverError,
};

/// Children read at a time.
const PAGE: usize = 500;

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
    let trigger = call.inputs.get("host").and_then(|host| host.get("triggerName")).and_then(Value::as_str);
    let (child, parameters) = match startable(shared, name, trigger, call) {
        Ok(deployed) => deployed,
        Err(refusal) => return unless_started(shared, others, call, waits, refusal).await,
    };
    let mut outputs = Object::new();
    for member in ["headers", "queries", "body"] {
        if let Some(value) = call.inputs.get(member) {
            outputs.insert(member, value.clone());
        }
    }
    let answers = responds(&child);
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
    let asked = shared.node.as_ref().map(|_| elsewhere::Asked::of(&request, call));
    let mut children = match Arc::clone(others).start_children(request, call).await {
        Ok(Some(children)) => children,
        Ok(None) => {
            let message =
                format!("The child workflow '{name}' did not start: a condition of its trigger is not met.");
            let refusal = failed("BadRequest", "TriggerConditionNotMet", message);
            return unless_started(shared, others, call, waits, refusal).await;
        }
        Err(StartError::Elsewhere { shard: Some(shard) }) if asked.is_some() => {
            let known = || find(shared, name, call);
            return match elsewhere::ask(shared, call, shard, asked, known).await {
                Ok(Ok(child)) => response_of(shared, others, name, child, waits).await,
                Ok(Err(refusal)) => refusal,
                Err(error) => later(error.to_string()),
            };
        }
        Err(error @ (StartError::Store(_) | StartError::Elsewhere { .. })) => {
            return later(error.to_string());
        }
        // As a request would be answered: the retry policy decides whether the call is made again.
        Err(error @ StartError::Full { .. }) => {
            let error = ErrorInfo::new("WorkflowTriggerIsThrottled", error.to_string());
            return EffectResult::Done {
                outcome: Outcome::failed("TooManyRequests", error),
                hint: RetryHint { transient: true, ..RetryHint::default() },
            };
        }
        Err(error) => {
            let refusal = failed("BadRequest", "ChildWorkflowNotStarted", error.to_string());
            return unless_started(shared, others, call, waits, refusal).await;
        }
    };
    for child in &mut children {
        // A child is not reported before its start is durable.
        if let Child::Started(run) = child
            && !run.accepted().await
        {
            return later(format!("The store did not accept the run of the child workflow '{name}'."));
        }
    }
    match &mut children[..] {
        [Child::Started(run)] if answers => {
            waits.store(true, Ordering::Relaxed);
            match run.response().await {
                Some(response) => done(from_response(response)),
                // It has ended without a response, or is held because the store cannot write.
                None => awaited_response(others, name, run.id).await,
            }
        }
        // The definition may have changed since it was started.
        [Child::Known] => {
            let gone = later(format!("The run of the child workflow '{name}' cannot be found."));
            unless_started(shared, others, call, waits, gone).await
        }
        _ => done(accepted()),
    }
}

/// The result of a call whose child may not be started, or need not be: an earlier process may have started it, when the
/// definition was deployed, enabled, or a different one. Then its Response is awaited. Otherwise the result is `refusal`.
async fn unless_started(
    shared: &Shared,
    others: &Arc<dyn OtherRuns>,
    call: &Call,
    waits: &AtomicBool,
    refusal: EffectResult,
) -> EffectResult {
    let Some(name) = child_name(&call.inputs) else { return refusal };
    match find(shared, name, call).await {
        Ok(Some(known)) => response_of(shared, others, name, known, waits).await,
        Ok(None) => refusal,
        Err(error) => later(error.to_string()),
    }
}

/// The child workflow and its parameters, if a run of it may be started.
///
/// # Errors
/// The result of the call: it is not deployed, it is disabled, or the chain of calls is too long.
#[expect(clippy::result_large_err, reason = "called once for a child, before it starts")]
fn startable(
    shared: &Shared,
    name: &str,
    trigger: Option<&str>,
    call: &Call,
) -> Result<Deployed, EffectResult> {
    let Some(deployed) = shared.workflow(name) else {
        let message =
            format!("The child workflow '{name}' does not exist. Deploy it together with this workflow.");
        return Err(failed("NotFound", "WorkflowNotFound", message));
    };
    let most = shared.environment.budgets.child_depth_max.min(Budgets::CHILD_DEPTH_LIMIT);
    if call.depth >= most {
        let message = format!(
            "The child workflow '{name}' was not started: it would be at depth {}, and the maximum depth of child \
             workflows is {most} (setting child-depth-max). Check whether a workflow calls itself.",
            u32::from(call.depth) + 1
        );
        return Err(failed("BadRequest", "ChildDepthExceeded", message));
    }
    let first = deployed.0.triggers.first().map(|first| &*first.name);
    if is_disabled(shared, name, trigger.or(first)) {
        let message =
            format!("The child workflow '{name}' or its trigger is disabled. Enable it, then try again.");
        return Err(failed("BadRequest", "WorkflowTriggerIsNotEnabled", message));
    }
    Ok(deployed)
}

/// Waits for the Response of a child that was started before.
async fn response_of(
    shared: &Shared,
    others: &Arc<dyn OtherRuns>,
    name: &str,
    known: RunRow,
    waits: &AtomicBool,
) -> EffectResult {
    let Some(durable) = &shared.durable else { return done(accepted()) };
    let workflow = match durable.workflow_of(known.id, &known).await {
        Ok(workflow) => workflow,
        Err(error) => return unread(error),
    };
    // A trigger that splits its outputs starts several runs, and nobody waits for them.
    let fired = known.trigger.as_deref().and_then(|name| workflow.find_trigger(name));
    let splits = fired.or(workflow.triggers.first()).is_some_and(|trigger| trigger.split_on.is_some());
    if splits || !responds(&workflow) {
        return done(accepted());
    }
    waits.store(true, Ordering::Relaxed);
    awaited_response(others, name, known.id).await
}

/// Waits for the Response of a run in the store.
async fn awaited_response(others: &Arc<dyn OtherRuns>, name: &str, run: RunId) -> EffectResult {
    match Arc::clone(others).response_of(run).await {
        Ok(Some(response)) => done(from_response(response)),
        Ok(None) => failed(
            "BadGateway",
            "NoResponse",
            format!("The child workflow '{name}' ended without a response."),
        ),
        Err(error) => unread(error),
    }
}

/// The result of a call whose child cannot be read.
fn unread(error: RecoverError) -> EffectResult {
    match error {
        error @ (RecoverError::Store { .. } | RecoverError::Held { .. }) => later(error.to_string()),
        error => failed("BadGateway", "ChildWorkflowUnreadable", error.to_string()),
    }
}

fn responds(workflow: &Workflow) -> bool {
    workflow.actions.iter().any(|action| matches!(action.kind, ActionKind::Response { .. }))
}

/// The first child of this attempt, if it has been started. Its definition need not be deployed any more.
async fn find(shared: &Shared, name: &str, call: &Call) -> Result<Option<RunRow>, loom_store::Error> {
    let Some(durable) = &shared.durable else { return Ok(None) };
    let key = child_key(call, 0);
    let deployed = shared.workflow(name);
    let exact = deployed.as_ref().map_or(name, |(workflow, _)| &workflow.name);
    if let Some(row) = durable.store.run_by_key(exact, &key).await? {
        return Ok(Some(row));
    }
    if deployed.is_some() {
        return Ok(None);
    }
    // The call may spell the name differently; the store knows only the spelling of the definition.
    let mut query = RunQuery { parent: Some(call.run), limit: PAGE, ..RunQuery::default() };
    loop {
        let page = durable.store.runs(query.clone()).await?;
        if let Some(row) = page.rows.into_iter().find(|row| row.idempotency_key.as_ref() == Some(&key)) {
            return Ok(Some(row));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(None),
        }
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
    let Some(name) = child_name(&call.inputs) else { return Ok(false) };
    let row = find(shared, name, call).await?;
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

/// The attempt at an action that calls a child workflow.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The run.
    pub(crate) run: RunId,
    /// The idempotency key of the action.
    pub(crate) key: Arc<str>,
    /// The attempt, from 1.
    pub(crate) attempt: u32,
}

impl Caller {
    pub(crate) fn of(call: &Call) -> Caller {
        Caller { run: call.run, key: Arc::clone(&call.idempotency_key), attempt: call.attempt }
    }

    /// The idempotency key of a child, by which a repeated attempt finds it.
    pub(crate) fn child_key(&self, index: usize) -> Arc<str> {
        Arc::from(format!("{}{}/{}/{index}", messages::CHILD, self.key, self.attempt))
    }
}

/// The idempotency key of a child, by which a repeated attempt finds it.
pub(crate) fn child_key(call: &Call, index: usize) -> Arc<str> {
    Caller::of(call).child_key(index)
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
