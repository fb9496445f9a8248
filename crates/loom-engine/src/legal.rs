//! Which events may follow in a run's history.
//!
//! The machine produces only legal events. Those that are read from a journal are checked against the state before they are
//! applied, because `apply` relies on them: a journal that is well formed but inconsistent ends the replay of its own run
//! with a named error, not the process with a panic.

use loom_definition::{BlockIdx, RunStatus, Status, Workflow, model::ActionKind};

use crate::{
    call_kinds::is_call,
    event::{EffectId, Event, Next, OpeningId, Outcome, Phase, Place, TimerId},
    illegal::{Check, IllegalEvent, require},
    state::{Activity, OpeningPhase, RunState, Slot, SlotPhase},
};

/// Openings that a history may skip: a resubmitted run begins with a part of the history of another.
const OPENINGS_SKIPPED_MAX: usize = 1 << 20;

impl RunState {
    /// Whether `event` may be applied next.
    pub(crate) fn check(&self, event: &Event) -> Result<(), IllegalEvent> {
        self.may_follow(event).map_err(|reason| IllegalEvent {
            number: self.seq + 1,
            kind: event.kind(),
            reason,
        })
    }

    fn may_follow(&self, event: &Event) -> Check {
        event.fits(&self.workflow)?;
        if let Event::RunStarted { start, .. } = event {
            require(self.start.is_none(), "the run has already started")?;
            let known = self.workflow.parameters.len();
            return require(start.parameters.len() <= known, "the definition has fewer parameters");
        }
        require(self.start.is_some(), "the run has not started")?;
        if self.status.is_final() {
            // Subscriptions are ended after the run itself.
            return match event {
                Event::AttemptEnded { effect, .. } | Event::AttemptNoted { effect, .. } => {
                    require(self.effects.contains(*effect), "the run has ended")
                }
                _ => Err("the run has ended"),
            };
        }
        match event {
            Event::RunStarted { .. } => Ok(()),
            Event::BlockOpened { opening, block, parent, index, .. } => {
                require(!self.waits, NOT_ADMITTED)?;
                self.may_open(*opening, *block, *parent, *index)
            }
            Event::ActionStarted { place, .. } => {
                require(!self.waits, NOT_ADMITTED)?;
                let slot = self.in_progress(*place)?;
                let admitted = slot.activity.as_deref().is_some_and(is_admitted);
                require(slot.phase == SlotPhase::Ready || admitted, "the action is already running")
            }
            Event::LoopStarted { place, .. } => {
                self.running_slot(*place)?;
                require(self.workflow.action(place.action).kind.is_loop(), "the action is not a loop")
            }
            Event::AttemptStarted { place, effect, phase, .. } => self.may_attempt(*place, *effect, *phase),
            Event::AttemptNoted { effect, .. } => {
                // What an admitted action does is noted for its admission.
                let is_admission = || self.admissions().any(|(.., admission)| admission == *effect);
                require(self.effects.contains(*effect) || is_admission(), NO_CALL)
            }
            Event::AttemptEnded { place, effect, next, .. } => self.may_end_attempt(*place, *effect, next),
            Event::TimerSet { timer, place, .. } => {
                require(self.is_new_timer(*timer), "the timer's id was used before")?;
                self.in_progress(*place).map(drop)
            }
            Event::TimerEnded { timer } => require(self.timers.contains(*timer), "there is no such timer"),
            Event::VariableSet { .. } => Ok(()),
            Event::VariableAppended { variable, .. } => {
                let value = self.variables.get(variable.0 as usize).and_then(Option::as_ref);
                let fits = value.is_none_or(|value| value.as_array().is_some());
                require(fits, "the variable is not an array")
            }
            Event::Responded { place, .. } => {
                require(self.response.is_none(), "the run has already responded")?;
                self.in_progress(*place).map(drop)
            }
            Event::ActionEnded { place, outcome, .. } => self.may_end(*place, outcome),
            Event::Tracked { place, .. } => self.slot_of(*place).and_then(not_ended),
            Event::RunWaiting { .. } => {
                require(!self.waits && self.status == RunStatus::Running, "the run already waits")
            }
            Event::RunAdmitted { .. } => require(self.waits, "the run does not wait"),
            Event::Suspended { .. } => {
                require(self.status != RunStatus::Suspended, "the run is already suspended")
            }
            Event::Resumed { .. } => require(self.status == RunStatus::Suspended, "the run is not suspended"),
            Event::RunEnded { status, .. } => {
                require(status.is_final(), "a run cannot end with this status")?;
                let is_open = self.openings.iter().any(|opening| opening.phase == OpeningPhase::Open);
                require(!is_open, "actions of the run have not ended")
            }
        }
    }

    /// The slot of an action in a block that is open.
    fn slot_of(&self, place: Place) -> Result<&Slot, &'static str> {
        let opened = self.openings.get(place.opening.0 as usize);
        let opened =
            opened.filter(|opening| opening.phase == OpeningPhase::Open).ok_or("the block is not open")?;
        let action = self.workflow.action(place.action);
        require(opened.block == action.block, "the block does not contain the action")?;
        opened.slots.get(action.position as usize).ok_or("the block does not contain the action")
    }

    /// The slot of an action that may start, or has started and not ended.
    fn in_progress(&self, place: Place) -> Result<&Slot, &'static str> {
        let slot = self.slot_of(place)?;
        not_ended(slot)?;
        require(slot.phase != SlotPhase::Waiting, "the actions before it have not ended")?;
        Ok(slot)
    }

    fn running_slot(&self, place: Place) -> Result<&Slot, &'static str> {
        let slot = self.in_progress(place)?;
        require(slot.phase == SlotPhase::Running, NOT_STARTED)?;
        Ok(slot)
    }

    fn is_new_timer(&self, timer: TimerId) -> bool {
        (self.next_timer..u32::MAX).contains(&timer.0)
    }

    fn may_open(&self, opening: OpeningId, block: BlockIdx, parent: Option<Place>, index: u32) -> Check {
        let id = opening.0 as usize;
        let is_free = self.openings.get(id).is_none_or(|opened| opened.phase == OpeningPhase::Free);
        require(is_free, "the id of the block is in use")?;
        let Some(parent) = parent else {
            let is_first = opening == OpeningId::ROOT && block == Workflow::ROOT && self.openings.is_empty();
            return require(is_first, "only the block of the workflow has no parent");
        };
        require(!self.openings.is_empty(), "the block of the workflow is not open")?;
        require(id <= self.openings.len().saturating_add(OPENINGS_SKIPPED_MAX), "there is no such block")?;
        let slot = self.running_slot(parent)?;
        let owner = self.workflow.block(block).owner;
        require(owner == Some(parent.action), "the block belongs to another action")?;
        let action = self.workflow.action(parent.action);
        let activity = slot.activity.as_deref();
        if matches!(action.kind, ActionKind::Foreach { .. }) {
            let each = activity.and_then(|activity| activity.each.as_ref()).ok_or(NOT_STARTED)?;
            let is_next = index == each.next && (index as usize) < each.items.len();
            return require(is_next, "the iteration is not the next one");
        }
        let Some(activity) = activity else { return Ok(()) };
        if let ActionKind::Agent { tools, .. } = &action.kind {
            let call = activity.call.as_ref().ok_or(NOT_STARTED)?;
            require(call.effect.is_none(), "the call before it has not ended")?;
            let asked = call.turns().get(index).and_then(|asked| tools.get(asked.tool as usize));
            require(asked.is_some_and(|tool| tool.block == block), "the agent does not use this tool")?;
            let same = |open: &OpeningId| {
                self.openings.get(open.0 as usize).is_some_and(|opened| opened.index == index)
            };
            return require(!activity.openings.iter().any(same), "the block is already open");
        }
        if action.kind.is_loop() {
            require(activity.looping.is_some(), "the limits of the loop are not set")?;
            return require(activity.open == 0, "the iteration before it has not ended");
        }
        let is_open =
            |open: &OpeningId| self.openings.get(open.0 as usize).is_some_and(|open| open.block == block);
        require(!activity.openings.iter().any(is_open), "the block is already open")
    }

    fn may_attempt(&self, place: Place, effect: EffectId, phase: Phase) -> Check {
        require((self.next_effect..u32::MAX).contains(&effect.0), "the call's id was used before")?;
        if phase == Phase::Unsubscribe {
            return self.running_slot(place).map(drop);
        }
        let slot = self.in_progress(place)?;
        let calls = is_call(&self.workflow.action(place.action).kind);
        require(calls == (phase != Phase::Admit), "the action makes no such call")?;
        require(!calls || slot.phase == SlotPhase::Running, NOT_STARTED)?;
        let Some(activity) = slot.activity.as_deref() else { return Ok(()) };
        require(activity.pause.is_none(), "the action waits for a timer")?;
        require(!calls || activity.open == 0, "actions inside it have not ended")?;
        let Some(call) = &activity.call else { return Ok(()) };
        require(call.effect.is_none(), "the call before it has not ended")?;
        require(call.subscribed.is_none() && call.admitted.is_none(), "the action makes no further call")
    }

    fn may_end_attempt(&self, place: Place, effect: EffectId, next: &Next) -> Check {
        let Some(call) = self.effects.get(effect) else {
            // An admission ends twice if the action that it admitted is to be repeated.
            let slot = self.running_slot(place).map_err(|_| NO_CALL)?;
            let call = slot.activity.as_deref().and_then(|activity| activity.call.as_ref());
            let admitted = call.is_some_and(|call| call.admitted == Some(effect));
            return require(admitted && matches!(next, Next::Retry { .. }), NO_CALL);
        };
        require(call.place == place, "the call belongs to another action")?;
        if call.phase != Phase::Unsubscribe {
            self.running_slot(place)?;
        }
        let fits = match next {
            Next::Callback => call.phase == Phase::Subscribe,
            Next::Execute => call.phase == Phase::Admit,
            Next::Proceed => call.phase == Phase::Approve,
            Next::Poll { .. } => call.phase == Phase::Call,
            Next::Retry { .. } => !matches!(call.phase, Phase::Unsubscribe | Phase::Approve),
            Next::End => true,
            Next::Turn { uses } => {
                let ActionKind::Agent { tools, .. } = &self.workflow.action(place.action).kind else {
                    return Err("the action has no turns");
                };
                let known = uses.iter().all(|used| (used.tool as usize) < tools.len());
                require(known, "the agent has no such tool")?;
                call.phase == Phase::Call
            }
        };
        require(fits, "such a call has another sequel")
    }

    fn may_end(&self, place: Place, outcome: &Outcome) -> Check {
        let slot = self.slot_of(place)?;
        not_ended(slot)?;
        if slot.phase == SlotPhase::Waiting {
            return require(outcome.status == Status::Skipped, "the actions before it have not ended");
        }
        let action = self.workflow.action(place.action);
        let activity = slot.activity.as_deref();
        require(activity.is_none_or(|activity| activity.open == 0), "actions inside it have not ended")?;
        let called = activity.is_some_and(|activity| activity.call.is_some());
        let can = outcome.status != Status::Succeeded
            || !is_call(&action.kind)
            || action.static_result.is_some()
            || called;
        require(can, NOT_STARTED)
    }
}

const NO_CALL: &str = "there is no such call";
const NOT_ADMITTED: &str = "the run waits";
const NOT_STARTED: &str = "the action has not started";

fn not_ended(slot: &Slot) -> Check {
    require(slot.phase != SlotPhase::Ended, "the action has already ended")
}

/// Whether the action was admitted and begins its next attempt.
fn is_admitted(activity: &Activity) -> bool {
    activity.call.as_ref().is_some_and(|call| call.to_execute)
}
