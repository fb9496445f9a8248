//! What the rounds of a Foreach leave of the actions inside it that are read after the loop.
//!
//! Kept beside the records that `result()` asks for, and only for actions that the definition names from outside: lowering
//! marks them, so that a loop nobody reads costs nothing.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, Status, Workflow,
    model::{Action, ActionKind, Gathered},
};
use loom_expression::{Object, Value};

use crate::{
    event::{FrameId, Place},
    record::{self, Unopened},
    state::RunState,
};

/// What is kept of an action, seen from after a loop.
pub(crate) struct Rounds {
    action: ActionIdx,
    /// Whether each is a record, and not only its outputs.
    records: bool,
    /// Loops between the one that has ended and the action: each adds a list within the list.
    depth: usize,
    list: Vec<Value>,
}

impl Rounds {
    /// What `foreach`, which has ended, has kept of `action`; none when it keeps nothing of it.
    pub(crate) fn of(state: &RunState, foreach: Place, action: ActionIdx) -> Option<Rounds> {
        let workflow = &state.workflow;
        let position = position(workflow.action(foreach.action), action)?;
        let list = rounds(state, foreach, position)?;
        let owner = |action: &ActionIdx| workflow.block(workflow.action(*action).block).owner;
        let inner = std::iter::successors(owner(&action), owner).take_while(|owner| *owner != foreach.action);
        let depth =
            inner.filter(|owner| matches!(workflow.action(*owner).kind, ActionKind::Foreach { .. })).count();
        let records = workflow.action(foreach.action).gathered[position].records;
        Some(Rounds { action, records, depth, list })
    }

    /// One record for all of them.
    pub(crate) fn into_record(self, workflow: &Workflow) -> Value {
        record(workflow, self.action, self.list)
    }

    /// The outputs of each.
    pub(crate) fn outputs(self) -> Value {
        if !self.records {
            return Value::from(self.list);
        }
        each(self.list, self.depth, &|record| record.get("outputs").cloned().unwrap_or_default())
    }

    /// The bodies of each.
    pub(crate) fn bodies(self) -> Value {
        let records = self.records;
        each(self.list, self.depth, &|kept| {
            let outputs =
                if records { kept.get("outputs").cloned().unwrap_or_default() } else { kept.clone() };
            outputs.get("body").cloned().unwrap_or_default()
        })
    }
}

/// The items of a list, and of the lists in it `depth` levels down, with `change` made to each.
fn each(list: Vec<Value>, depth: usize, change: &dyn Fn(&Value) -> Value) -> Value {
    let changed = |item: Value| match (depth, item.as_array()) {
        (0, _) => change(&item),
        (_, Some(inner)) => each(inner.to_vec(), depth - 1, change),
        (_, None) => Value::NULL,
    };
    Value::from(list.into_iter().map(changed).collect::<Vec<_>>())
}

/// Where `foreach` keeps what its rounds leave of `action`, among all the lists it keeps.
fn position(foreach: &Action, action: ActionIdx) -> Option<usize> {
    foreach.gathered.iter().position(|gathered| gathered.action == action)
}

/// The list at a position, with a value for each round. None when it was not kept from the first round on.
fn rounds(state: &RunState, foreach: Place, position: usize) -> Option<Vec<Value>> {
    let each = state.activity(foreach)?.each.as_ref()?;
    let action = state.workflow.action(foreach.action);
    let lists = each.results.as_ref()?;
    let first = lists.len().checked_sub(action.gathered.len())?;
    let mut rounds = lists.get(first + position)?.clone();
    // Rounds that left nothing at the end of the list.
    rounds.resize(each.items.len(), Value::NULL);
    Some(rounds)
}

/// What one round leaves of each action that is gathered.
pub(crate) fn of_round(state: &RunState, foreach: &Action, round: FrameId) -> Vec<Value> {
    let of = |gathered: &Gathered| match state.locate(round, gathered.action) {
        Ok(Some(place)) if gathered.records => record::record(state, place),
        Ok(Some(place)) => {
            let is_block = record::is_block(state.workflow.action(place.action));
            state.slot(place).outputs.clone().filter(|_| !is_block).unwrap_or_default()
        }
        // The block around it was not opened in this round.
        Ok(None) if gathered.records => {
            let owner = Unopened::of(state, round, gathered.action);
            record::never_opened(state, gathered.action, &owner)
        }
        Ok(None) => Value::NULL,
        // A loop within the round has gathered it before.
        Err(inner) => {
            let kept = position(state.workflow.action(inner.action), gathered.action);
            let kept = kept.and_then(|position| rounds(state, inner, position));
            kept.map_or(Value::NULL, Value::from)
        }
    };
    foreach.gathered.iter().map(of).collect()
}

/// One record for all rounds: its outputs are the list of what each has left.
pub(crate) fn record(workflow: &Workflow, action: ActionIdx, rounds: Vec<Value>) -> Value {
    let status = if rounds.iter().any(is_bad) { Status::Failed } else { Status::Succeeded };
    let count = rounds.len() as i64;
    let members = [
        ("name", Value::from(Arc::clone(&workflow.action(action).name))),
        ("outputs", Value::from(rounds)),
        ("code", Value::from("NotSpecified")),
        ("status", Value::from(status.as_str())),
        ("repetitionCount", Value::from(count)),
    ];
    members.into_iter().collect::<Object>().into()
}

/// Whether a record, or one of a list of them, has a bad status.
fn is_bad(record: &Value) -> bool {
    if let Some(inner) = record.as_array() {
        return inner.iter().any(is_bad);
    }
    let status = record.get("status").and_then(Value::as_str);
    status.and_then(Status::parse).is_some_and(Status::is_bad)
}
