//! Collects, for each iteration of a Foreach, the results of inner actions that expressions after the loop refer to.
//!
//! Stored next to the records for `result()`, and only for actions that the definition refers to from outside the loop:
//! lowering marks them, so that other loops cost nothing.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, Status, Workflow,
    model::{Action, ActionKind, Gathered},
};
use loom_expression::{Object, Value};

use crate::{
    event::{OpeningId, Place},
    record::{self, Unopened},
    state::RunState,
};

/// The collected results of an action, seen from after its loop.
pub(crate) struct Iterations {
    action: ActionIdx,
    /// Whether the items are whole records, not only outputs.
    records: bool,
    /// Number of loops between the one that has ended and the action: each adds a level of nested lists.
    depth: usize,
    list: Vec<Value>,
}

impl Iterations {
    /// The results of `action` that `foreach`, which has ended, has collected; none when it collects none.
    pub(crate) fn of(state: &RunState, foreach: Place, action: ActionIdx) -> Option<Iterations> {
        let workflow = &state.workflow;
        let position = position(workflow.action(foreach.action), action)?;
        let list = iterations(state, foreach, position)?;
        let owner = |action: &ActionIdx| workflow.block(workflow.action(*action).block).owner;
        let inner = std::iter::successors(owner(&action), owner).take_while(|owner| *owner != foreach.action);
        let depth =
            inner.filter(|owner| matches!(workflow.action(*owner).kind, ActionKind::Foreach { .. })).count();
        let records = workflow.action(foreach.action).gathered[position].records;
        Some(Iterations { action, records, depth, list })
    }

    /// One record for all iterations.
    pub(crate) fn into_record(self, workflow: &Workflow) -> Value {
        record(workflow, self.action, self.list)
    }

    /// The outputs of each iteration.
    pub(crate) fn outputs(self) -> Value {
        if !self.records {
            return Value::from(self.list);
        }
        each(self.list, self.depth, &|record| record.get("outputs").cloned().unwrap_or_default())
    }

    /// The body of each iteration.
    pub(crate) fn bodies(self) -> Value {
        let records = self.records;
        each(self.list, self.depth, &|kept| {
            let outputs =
                if records { kept.get("outputs").cloned().unwrap_or_default() } else { kept.clone() };
            outputs.get("body").cloned().unwrap_or_default()
        })
    }
}

/// Applies `change` to the items of a list, or of the lists `depth` levels further down.
fn each(list: Vec<Value>, depth: usize, change: &dyn Fn(&Value) -> Value) -> Value {
    let changed = |item: Value| match (depth, item.as_array()) {
        (0, _) => change(&item),
        (_, Some(inner)) => each(inner.to_vec(), depth - 1, change),
        (_, None) => Value::NULL,
    };
    Value::from(list.into_iter().map(changed).collect::<Vec<_>>())
}

/// The position of the list for `action` among the lists that `foreach` collects.
fn position(foreach: &Action, action: ActionIdx) -> Option<usize> {
    foreach.gathered.iter().position(|gathered| gathered.action == action)
}

/// The list at a position, with a value for each iteration. None when it was not collected from the first iteration on.
fn iterations(state: &RunState, foreach: Place, position: usize) -> Option<Vec<Value>> {
    let each = state.activity(foreach)?.each.as_ref()?;
    let action = state.workflow.action(foreach.action);
    let lists = each.results.as_ref()?;
    let first = lists.len().checked_sub(action.gathered.len())?;
    let mut iterations = lists.get(first + position)?.clone();
    // Iterations at the end that contributed nothing.
    iterations.resize(each.items.len(), Value::NULL);
    Some(iterations)
}

/// What one iteration contributes for each collected action.
pub(crate) fn of_iteration(state: &RunState, foreach: &Action, iteration: OpeningId) -> Vec<Value> {
    let of = |gathered: &Gathered| match state.locate(iteration, gathered.action) {
        Ok(Some(place)) if gathered.records => record::record(state, place),
        Ok(Some(place)) => {
            let is_block = record::is_block(state.workflow.action(place.action));
            state.slot(place).outputs.clone().filter(|_| !is_block).unwrap_or_default()
        }
        // The enclosing block was not opened in this iteration.
        Ok(None) if gathered.records => {
            let owner = Unopened::of(state, iteration, gathered.action);
            record::never_opened(state, gathered.action, &owner)
        }
        Ok(None) => Value::NULL,
        // A loop inside the iteration has already collected it.
        Err(inner) => {
            let kept = position(state.workflow.action(inner.action), gathered.action);
            let kept = kept.and_then(|position| iterations(state, inner, position));
            kept.map_or(Value::NULL, Value::from)
        }
    };
    foreach.gathered.iter().map(of).collect()
}

/// One record for all iterations: its outputs are the list of what each contributed.
pub(crate) fn record(workflow: &Workflow, action: ActionIdx, iterations: Vec<Value>) -> Value {
    let status = if iterations.iter().any(is_bad) { Status::Failed } else { Status::Succeeded };
    let count = iterations.len() as i64;
    let members = [
        ("name", Value::from(Arc::clone(&workflow.action(action).name))),
        ("outputs", Value::from(iterations)),
        ("code", Value::from("NotSpecified")),
        ("status", Value::from(status.as_str())),
        ("repetitionCount", Value::from(count)),
    ];
    members.into_iter().collect::<Object>().into()
}

/// Whether a record, or any record in a list, has a bad status.
fn is_bad(record: &Value) -> bool {
    if let Some(inner) = record.as_array() {
        return inner.iter().any(is_bad);
    }
    let status = record.get("status").and_then(Value::as_str);
    status.and_then(Status::parse).is_some_and(Status::is_bad)
}
