//! What a run waits for, and whether it is retrying, as flags of its row: lists of runs are filtered by them without
//! reading a journal.
//!
//! The flags follow from the events and are never read back, so a run that is loaded computes them from its state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use loom_definition::model::{ActionKind, EffectKind};
use loom_store::Flags;

use crate::{
    event::{EffectId, ErrorInfo, Event, Next, Phase, Place, Purpose, RunStart, TimerId},
    state::RunState,
};

/// The run waits for the end of a `Wait`, or for the next iteration of a loop.
pub const WAITS_FOR_TIMER: Flags = Flags(1);
/// The run waits for a callback of a webhook.
pub const WAITS_FOR_CALLBACK: Flags = Flags(1 << 1);
/// The run waits for a signal.
pub const WAITS_FOR_SIGNAL: Flags = Flags(1 << 2);
/// The run waits for a child workflow.
pub const WAITS_FOR_CHILD: Flags = Flags(1 << 3);
/// An attempt of the run has failed, and the next one is in progress or about to start.
pub const RETRYING: Flags = Flags(1 << 4);

/// A longer error text is cut, in bytes.
const ERROR_TEXT_MAX: usize = 400;

/// What a run waits for.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    calls: BTreeMap<EffectId, Flags>,
    timers: BTreeMap<TimerId, Flags>,
    callbacks: BTreeSet<Place>,
}

impl Facts {
    /// The facts of a run that was loaded.
    pub(crate) fn of(state: &RunState) -> Facts {
        let mut facts = Facts::default();
        for (effect, call) in state.calls() {
            facts.call(state, effect, call.place, call.phase, call.attempt);
        }
        for (id, timer) in state.timers() {
            facts.timer(id, timer.purpose);
        }
        facts.callbacks = state.waiting_for_callbacks().collect();
        facts
    }

    /// Takes an event into account. `state` includes it.
    pub(crate) fn add(&mut self, event: &Event, state: &RunState) {
        match event {
            Event::AttemptStarted { effect, place, phase, attempt, .. } => {
                self.call(state, *effect, *place, *phase, *attempt);
            }
            Event::AttemptEnded { effect, place, next, .. } => {
                self.calls.remove(effect);
                if matches!(next, Next::Callback) {
                    self.callbacks.insert(*place);
                }
            }
            Event::TimerSet { timer, purpose, .. } => self.timer(*timer, *purpose),
            Event::TimerEnded { timer } => drop(self.timers.remove(timer)),
            Event::ActionEnded { place, .. } => drop(self.callbacks.remove(place)),
            Event::RunEnded { .. } => *self = Facts::default(),
            _ => {}
        }
    }

    fn call(&mut self, state: &RunState, effect: EffectId, place: Place, phase: Phase, attempt: u32) {
        let mut flags = if attempt > 1 { RETRYING } else { Flags::NONE };
        if phase == Phase::Approve {
            flags = flags.with(WAITS_FOR_SIGNAL);
        }
        if phase == Phase::Call {
            flags = match &state.workflow().action(place.action).kind {
                ActionKind::Effect { effect: EffectKind::Workflow, .. } => flags.with(WAITS_FOR_CHILD),
                ActionKind::Effect { effect: EffectKind::Signal, .. } => flags.with(WAITS_FOR_SIGNAL),
                _ => flags,
            };
        }
        if !flags.is_empty() {
            self.calls.insert(effect, flags);
        }
    }

    fn timer(&mut self, timer: TimerId, purpose: Purpose) {
        let flags = match purpose {
            Purpose::Retry => RETRYING,
            Purpose::Wait | Purpose::Iteration => WAITS_FOR_TIMER,
            // A poll is part of a call, and a timeout is nothing that the run waits for.
            Purpose::Poll | Purpose::Limit => return,
        };
        self.timers.insert(timer, flags);
    }

    /// The flags of the row.
    pub(crate) fn flags(&self) -> Flags {
        let callback = if self.callbacks.is_empty() { Flags::NONE } else { WAITS_FOR_CALLBACK };
        self.calls.values().chain(self.timers.values()).fold(callback, |all, more| all.with(*more))
    }
}

/// The tracking id in the row of a run. A run without one of its own has its id as one, which is not stored twice.
pub(crate) fn tracking_id(start: &RunStart) -> Option<Arc<str>> {
    (*start.tracking_id != *start.run.to_string()).then(|| Arc::clone(&start.tracking_id))
}

/// The text of an error in the row of its run. Errors contain no secrets: what is secret is masked when they are made.
pub(crate) fn error_text(error: &ErrorInfo) -> Option<Arc<str>> {
    let text = error.message.trim();
    let end = text.floor_char_boundary(ERROR_TEXT_MAX);
    (!text.is_empty()).then(|| Arc::from(&text[..end]))
}
