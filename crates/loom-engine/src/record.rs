//! The record of an action, as `actions()` and `result()` return it.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, Status, Workflow,
    model::{Action, ActionKind, Dependency},
};
use loom_expression::{Labels, MASK, Object, Timestamp, Value};

use crate::{
    event::{ErrorInfo, OpeningId, Outcome, Place},
    random,
    state::{RunState, Slot, SlotPhase},
};

/// The record of an action that has started; null for one that has not.
pub(crate) fn record(state: &RunState, place: Place) -> Value {
    let action = state.workflow.action(place.action);
    let slot = state.slot(place);
    match slot.phase {
        SlotPhase::Waiting | SlotPhase::Ready => Value::NULL,
        SlotPhase::Running | SlotPhase::Ended => from_slot(state, place, action, slot),
    }
}

fn from_slot(state: &RunState, place: Place, action: &Action, slot: &Slot) -> Value {
    let ended = slot.phase == SlotPhase::Ended;
    let skipped = ended && slot.status == Status::Skipped;
    let mut record = Vec::with_capacity(10);
    record.push(("name", Value::from(Arc::clone(&action.name))));
    if !is_block(action) && !skipped {
        let inputs = match (&slot.inputs, &action.kind) {
            (None, ActionKind::Compose { .. }) => slot.outputs.clone(),
            (inputs, _) => inputs.clone(),
        };
        if let Some(inputs) = inputs {
            let calls = matches!(action.kind, ActionKind::Effect { .. });
            record.push(("inputs", if calls { inputs_of_call(action, inputs) } else { inputs }));
        }
        if let Some(outputs) = &slot.outputs {
            record.push(("outputs", outputs.clone()));
        }
    }
    record.push(("startTime", timestamp(slot.started)));
    if ended {
        record.push(("endTime", timestamp(slot.ended)));
    }
    record.push(("trackingId", random::tracking_id(state, place).into()));
    if let Some(start) = &state.start {
        record.push(("clientTrackingId", Value::from(Arc::clone(&start.tracking_id))));
    }
    if !slot.code.is_empty() && slot.code != "NotSpecified" {
        record.push(("code", Value::from(slot.code.as_ref())));
    }
    let status = if ended { slot.status.as_str() } else { "Running" };
    record.push(("status", Value::from(status)));
    if let Some(error) = slot.error.as_deref().filter(|error| !is_in_response(action, slot, error)) {
        record.push(("error", error_value(action.labels_of_outputs(), error)));
    }
    record.into_iter().collect::<Object>().into()
}

/// An action's error as expressions see it. Its message may quote outputs, so it has their labels.
pub(crate) fn error_value(labels: Labels, error: &ErrorInfo) -> Value {
    error.to_value().labelled(labels)
}

/// Whether the response of a service already expresses the error: the language then has no separate error.
fn is_in_response(action: &Action, slot: &Slot, error: &ErrorInfo) -> bool {
    let is_response = |outputs: &Value| outputs.get("statusCode").is_some();
    matches!(action.kind, ActionKind::Effect { .. })
        && error.code == slot.code
        && slot.outputs.as_ref().is_some_and(is_response)
}

/// The properties of `authentication` that expressions must not read.
const CREDENTIALS: [&str; 4] = ["password", "secret", "pfx", "value"];

/// The inputs of a call as expressions see them: with its retry policy, and without credentials.
fn inputs_of_call(action: &Action, inputs: Value) -> Value {
    let Some(members) = inputs.as_object() else { return inputs };
    let given = members.get_ignore_case("authentication").and_then(Value::as_object);
    if given.is_none() && action.written_retry.is_null() {
        return inputs;
    }
    let mut members = members.clone();
    if let Some(mut authentication) = given.cloned() {
        for credential in CREDENTIALS {
            if let Some(name) = authentication.name_ignore_case(credential).cloned() {
                authentication.insert(name, MASK);
            }
        }
        let name = members.name_ignore_case("authentication").cloned();
        members.insert(name.unwrap_or_else(|| Arc::from("authentication")), authentication);
    }
    if !action.written_retry.is_null() {
        members.insert("retryPolicy", action.written_retry.clone());
    }
    Value::from(members).labelled(inputs.labels())
}

/// The record that an action will have once it has ended with `outcome`.
pub(crate) fn of_outcome(
    state: &RunState,
    place: Place,
    started: Timestamp,
    ended: Timestamp,
    outcome: &Outcome,
) -> Value {
    let action = state.workflow.action(place.action);
    let mut slot = Slot::new(action);
    slot.phase = SlotPhase::Ended;
    slot.status = outcome.status;
    slot.started = started;
    slot.ended = ended;
    slot.code.clone_from(&outcome.code);
    slot.inputs.clone_from(&state.slot(place).inputs);
    slot.outputs.clone_from(&outcome.outputs);
    slot.error.clone_from(&outcome.error);
    from_slot(state, place, action, &slot)
}

/// The state of an action that did not open one of its blocks.
pub(crate) struct Unopened<'a> {
    /// Whether it has chosen another of its branches.
    chosen: bool,
    status: Status,
    code: &'a str,
}

impl<'a> Unopened<'a> {
    /// The action was skipped itself, or never reached.
    pub(crate) const SKIPPED: Unopened<'static> =
        Unopened { chosen: false, status: Status::Skipped, code: "ActionSkipped" };

    /// The action is executing another branch.
    pub(crate) const ELSEWHERE: Unopened<'static> =
        Unopened { chosen: true, status: Status::Succeeded, code: "NotSpecified" };

    /// The state of the action that contains `action`, seen from an opening.
    pub(crate) fn of(state: &'a RunState, from: OpeningId, action: ActionIdx) -> Unopened<'a> {
        let owner = state.workflow.block(state.workflow.action(action).block).owner;
        let place = owner.and_then(|owner| state.locate(from, owner).ok().flatten());
        let Some(slot) = place.map(|place| state.slot(place)) else { return Unopened::SKIPPED };
        match slot.phase {
            SlotPhase::Ended => Unopened::ended(slot.status, &slot.code),
            SlotPhase::Running => Unopened::ELSEWHERE,
            SlotPhase::Waiting | SlotPhase::Ready => Unopened::SKIPPED,
        }
    }

    pub(crate) fn ended(status: Status, code: &'a str) -> Unopened<'a> {
        Unopened { chosen: has_chosen(status, code), status, code }
    }
}

/// The record of an action inside a block that was never opened: a branch not taken, a skipped or failed block.
pub(crate) fn never_opened(state: &RunState, action: ActionIdx, owner: &Unopened<'_>) -> Value {
    let action = state.workflow.action(action);
    let error = skip_error_of_unopened(&state.workflow, action, owner);
    let now = timestamp(state.started);
    let members = [
        ("name", Value::from(Arc::clone(&action.name))),
        ("startTime", now.clone()),
        ("endTime", now),
        ("code", Value::from("ActionSkipped")),
        ("status", Value::from(Status::Skipped.as_str())),
        ("error", error.to_value()),
    ];
    members.into_iter().collect::<Object>().into()
}

/// Why an action of a block that was never opened is skipped.
pub(crate) fn skip_error_of_unopened(
    workflow: &Workflow,
    action: &Action,
    owner: &Unopened<'_>,
) -> ErrorInfo {
    let name = &action.name;
    let holder = workflow.block(action.block).owner.map(|holder| workflow.action(holder));
    let branches =
        holder.is_some_and(|holder| matches!(holder.kind, ActionKind::If { .. } | ActionKind::Switch { .. }));
    if !(owner.chosen && branches) {
        let holder = holder.map_or("the workflow", |holder| holder.name.as_ref());
        let message = format!(
            "The execution of template action '{name}' is skipped: dependant action '{holder}' completed with status \
             '{}' and code '{}'.",
            owner.status, owner.code
        );
        return ErrorInfo::new("ActionDependencyFailed", message);
    }
    // Its predecessors are skipped, too.
    match action.run_after.iter().find(|dependency| !dependency.statuses.contains(Status::Skipped)) {
        Some(dependency) => condition_failed(workflow, action, *dependency, Status::Skipped),
        None => ErrorInfo::new(
            "ActionBranchingConditionNotSatisfied",
            format!(
                "The execution of template action '{name}' skipped: the branching condition for this action is not \
                 satisfied."
            ),
        ),
    }
}

/// The error of an action whose `runAfter` does not include the actual status of a predecessor.
pub(crate) fn condition_failed(
    workflow: &Workflow,
    action: &Action,
    dependency: Dependency,
    actual: Status,
) -> ErrorInfo {
    let message = format!(
        "The execution of template action '{}' is skipped: the 'runAfter' condition for action '{}' is not satisfied. \
         Expected status values '{}' and actual value '{actual}'.",
        action.name,
        workflow.action(dependency.action).name,
        dependency.statuses,
    );
    ErrorInfo::new("ActionConditionFailed", message)
}

/// Whether an If or Switch with this final status had chosen a branch, and was not skipped and did not fail before that.
fn has_chosen(status: Status, code: &str) -> bool {
    status != Status::Skipped && (status != Status::Failed || code == "ActionFailed")
}

/// The records of an opening's own actions, in file order.
pub(crate) fn opening_records(state: &RunState, opening: OpeningId) -> Vec<Value> {
    let block = state.workflow.block(state.opening(opening).block);
    block.actions.iter().map(|action| record(state, Place { opening, action: *action })).collect()
}

/// One entry of `retryHistory`.
pub(crate) fn retry_entry(labels: Labels, started: Timestamp, ended: Timestamp, outcome: &Outcome) -> Value {
    let mut entry = vec![
        ("startTime", timestamp(started)),
        ("endTime", timestamp(ended)),
        ("code", Value::from(outcome.code.as_ref())),
    ];
    if let Some(error) = &outcome.error {
        entry.push(("error", error_value(labels, error)));
    }
    entry.into_iter().collect::<Object>().into()
}

/// Whether the action contains others, so that the language gives it no inputs and outputs of its own.
pub(crate) fn is_block(action: &Action) -> bool {
    match &action.kind {
        ActionKind::If { .. }
        | ActionKind::Switch { .. }
        | ActionKind::Scope { .. }
        | ActionKind::Foreach { .. } => true,
        ActionKind::Loop(looping) => !looping.loom_spelling,
        _ => false,
    }
}

/// A time as the language writes it.
pub(crate) fn timestamp(at: Timestamp) -> Value {
    Value::from(at.to_string())
}
