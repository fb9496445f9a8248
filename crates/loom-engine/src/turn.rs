//! What an agent has done so far, as its handler receives it.

use std::sync::Arc;

use loom_definition::{Status, model::ActionKind};

use crate::{
    event::{OpeningId, Outcome, Place, ToolUse},
    ports::{ToolReturned, Turn},
    state::{RunState, SlotPhase, TurnState},
};

/// The turn that an agent makes next; none for other actions.
pub(crate) fn of(state: &RunState, place: Place) -> Option<Turn> {
    let ActionKind::Agent { tools, .. } = &state.workflow.action(place.action).kind else { return None };
    let activity = state.activity(place)?;
    let TurnState { earlier, uses, used } = activity.call.as_ref()?.turns();
    let opening_of =
        |index: u32| activity.openings.iter().copied().find(|opening| state.opening(*opening).index == index);
    let results = (*used..).zip(uses).map(|(index, ToolUse { id, tool, .. })| {
        let outcome = opening_of(index).map_or_else(|| Outcome::ok(None), |opening| result(state, opening));
        ToolReturned { id: Arc::clone(id), tool: *tool, outcome }
    });
    let gone = tools.iter().filter_map(|tool| tool.handoff.as_ref()).filter(|to| {
        let target = state.workflow.find_action(to);
        target.is_none_or(|action| {
            let slot = state.slot(Place { opening: place.opening, action });
            slot.phase != SlotPhase::Waiting
        })
    });
    Some(Turn {
        number: earlier.len() as u32 + 1,
        earlier: earlier.clone(),
        results: results.collect(),
        handed_over: state.handed_over(place).cloned(),
        gone: gone.cloned().collect(),
    })
}

/// The result of a tool: the outcome of an action that made its block fail, or that of the last action that was not skipped.
fn result(state: &RunState, opening: OpeningId) -> Outcome {
    let opened = state.opening(opening);
    let block = state.workflow.block(opened.block);
    let bad = block.leaves.iter().any(|leaf| state.slot(Place { opening, action: *leaf }).bad);
    let failed = block.actions.iter().rev().copied().find(|action| {
        let slot = state.slot(Place { opening, action: *action });
        bad && slot.bad && slot.status != Status::Skipped
    });
    let last = failed.map(|action| Place { opening, action }).or_else(|| state.last_of_iteration(opening));
    last.map_or_else(|| Outcome::ok(None), |place| state.outcome_of(place))
}
