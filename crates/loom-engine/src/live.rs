//! The memory of a run's values, estimated as they are added.
//!
//! Every event adds the size of its values, which they know. Released values are not subtracted: only when the sum could
//! exceed the budget is the state measured, and the count restarts from the result. Most runs are therefore never measured,
//! and data shared by many values counts once where it matters.

use std::collections::HashSet;

use loom_expression::{Value, ValueRef};

use crate::{
    event::{Event, Outcome},
    state::{Activity, RunState, Slot},
};

/// Values up to this size, in bytes, are counted without checking whether they are shared.
const SMALL: u64 = 1_024;

/// A state is measured at most once for each 1/16 of the budget that is added; the budget may be exceeded by as much.
const SHARE: u64 = 16;

/// The memory count of one run.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Bytes added since the state was measured.
    added: u64,
    /// Bytes held when the state was measured.
    held: u64,
    /// Bytes added since events were taken last.
    pub(crate) kept: u64,
}

impl Live {
    /// Counts the values of an event.
    #[inline]
    pub(crate) fn count(&mut self, event: &Event) {
        let bytes = added_by(event);
        self.added = self.added.saturating_add(bytes);
        self.kept = self.kept.saturating_add(bytes);
    }

    /// Whether the state may hold more than `most` bytes and has to be measured.
    #[inline]
    pub(crate) fn is_due(&self, most: u64) -> bool {
        self.added > most.saturating_sub(self.held).max(most / SHARE)
    }

    /// Measures the state and returns its size in bytes.
    pub(crate) fn measure(&mut self, state: &RunState) -> u64 {
        self.added = 0;
        self.held = held(state);
        self.held
    }
}

/// The size of the values that an event adds to the state.
fn added_by(event: &Event) -> u64 {
    let of = |value: &Option<Value>| value.as_ref().map_or(0, Value::bytes);
    match event {
        Event::RunStarted { start, .. } => {
            start.parameters.iter().map(Value::bytes).fold(start.trigger.bytes(), u64::saturating_add)
        }
        Event::ActionStarted { inputs, .. } => of(inputs),
        Event::AttemptStarted { resume, .. } => of(resume),
        Event::AttemptEnded { outcome, .. } => of(&outcome.outputs),
        Event::VariableSet { value, .. } => value.bytes(),
        Event::VariableAppended { item, .. } => item.bytes(),
        Event::Responded { response, .. } => response.bytes(),
        Event::ActionEnded { inputs, outcome: Outcome { outputs, .. }, .. } => {
            of(inputs).saturating_add(of(outputs))
        }
        Event::RunEnded { .. }
        | Event::FrameOpened { .. }
        | Event::LoopStarted { .. }
        | Event::AttemptNoted { .. }
        | Event::Tracked { .. }
        | Event::TimerSet { .. }
        | Event::TimerEnded { .. }
        | Event::Suspended { .. }
        | Event::Resumed { .. } => 0,
    }
}

/// The size of all values that a state holds; shared values count once.
fn held(state: &RunState) -> u64 {
    let mut values: Vec<&Value> = Vec::new();
    if let Some(start) = &state.start {
        values.push(&start.trigger);
        values.extend(&start.parameters);
    }
    values.extend(state.variables.iter().flatten());
    values.extend(state.response.iter().chain(&state.outputs));
    values.extend(state.effects.iter().filter_map(|(_, call)| call.resume.as_ref()));
    for slot in state.frames.iter().flat_map(|frame| &frame.slots) {
        let Slot { inputs, outputs, activity, .. } = slot;
        values.extend(inputs.iter().chain(outputs));
        let Some(activity) = activity.as_deref() else { continue };
        let Activity { each, looping, call, .. } = activity;
        if let Some(each) = each {
            // The items themselves are the loop's inputs.
            values.extend(each.results.iter().flatten().flatten());
        }
        if let Some(looping) = looping {
            values.extend(looping.results.iter().chain(&looping.attempts));
        }
        if let Some(call) = call {
            values.extend(call.resume.iter().chain(&call.history));
        }
    }
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    while let Some(value) = values.pop() {
        if value.bytes() <= SMALL {
            bytes = bytes.saturating_add(value.bytes());
            continue;
        }
        if value.address().is_some_and(|address| !seen.insert(address)) {
            continue;
        }
        // The size of a container without its parts, which are counted separately.
        let mut own = value.bytes();
        match value.as_ref() {
            ValueRef::Array(items) => {
                own = size_of::<Value>() as u64 * items.len() as u64;
                values.extend(items.iter());
            }
            ValueRef::Object(members) => {
                own = members.iter().map(|(name, _)| 64 + name.len() as u64).sum();
                values.extend(members.values());
            }
            _ => {}
        }
        bytes = bytes.saturating_add(own);
    }
    bytes
}
