//! The state of a run: open blocks, the state of each of their actions, variables, timers, calls.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, BlockIdx, RunStatus, Status, Workflow, model::Action};
use loom_expression::{Array, Timestamp, Value};

use crate::{
    call_kinds::{is_webhook, waits_for_instant},
    clock::Now,
    event::{
        Code, EffectId, ErrorInfo, Event, OpeningId, Outcome, Phase, Place, Purpose, RunStart, TimerId,
        ToolUse,
    },
    illegal::IllegalEvent,
    path::Iteration,
    patience::Patience,
    reads::{Reads, Unavailable},
    sorted::Sorted,
    time,
    work::Work,
};

/// The state of a run, folded from its events. Cheap to create; everything that a workflow defines is shared.
#[derive(Debug)]
pub struct RunState {
    pub(crate) workflow: Arc<Workflow>,
    pub(crate) start: Option<Arc<RunStart>>,
    pub(crate) status: RunStatus,
    /// Whether it has been accepted but waits for the concurrency limit of its trigger, even while it is suspended.
    pub(crate) waits: bool,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) openings: Vec<Opening>,
    pub(crate) free: Vec<OpeningId>,
    pub(crate) variables: Vec<Option<Value>>,
    pub(crate) ready: VecDeque<Work>,
    pub(crate) effects: Sorted<EffectId, PendingCall>,
    pub(crate) timers: Sorted<TimerId, Timer>,
    /// The same timers by due time.
    pub(crate) due: Sorted<(Timestamp, TimerId), ()>,
    pub(crate) next_effect: u32,
    pub(crate) next_timer: u32,
    pub(crate) response: Option<Value>,
    pub(crate) error: Option<Arc<ErrorInfo>>,
    pub(crate) outputs: Option<Value>,
    /// Number of events applied so far; also part of each random draw, to make it unique.
    pub(crate) seq: u64,
    /// What expressions may read without I/O. Not part of the journal, which has the results.
    pub(crate) reads: Reads,
    /// How long the current decision may take. Not part of the journal either.
    pub(crate) patience: Patience,
    /// Secrets in the state that can no longer be read.
    pub(crate) unavailable: Unavailable,
}

/// A timer that has not fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it is due.
    pub due: Timestamp,
    /// The action that it belongs to.
    pub place: Place,
    /// What it is for.
    pub purpose: Purpose,
}

/// A call that has not ended.
#[derive(Clone, Debug)]
pub struct PendingCall {
    /// The action that it belongs to.
    pub place: Place,
    /// The part of the action.
    pub phase: Phase,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Where to continue a poll, or the request to send if it differs from the action's inputs.
    pub resume: Option<Value>,
}

/// One opening of a block.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) block: BlockIdx,
    pub(crate) parent: Option<Place>,
    /// Iteration of the loop that opened it.
    pub(crate) index: u32,
    /// Actions that have not ended.
    pub(crate) remaining: u32,
    pub(crate) phase: OpeningPhase,
    pub(crate) slots: Vec<Slot>,
    /// When it was opened; the `loopStartTime` of loops.
    pub(crate) opened: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpeningPhase {
    /// The id is free.
    Free,
    /// Some action has not ended.
    Open,
    /// All actions have ended; records can still be read.
    Closed,
}

/// The state of one action in an opening of its block.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) phase: SlotPhase,
    /// Its final status once it has ended.
    pub(crate) status: Status,
    /// Makes its block fail if it is a leaf: a bad status, or skipped after an action with one.
    pub(crate) bad: bool,
    /// Predecessors that have not ended.
    pub(crate) pending: u32,
    pub(crate) started: Timestamp,
    pub(crate) ended: Timestamp,
    pub(crate) code: Code,
    pub(crate) inputs: Option<Value>,
    pub(crate) outputs: Option<Value>,
    pub(crate) error: Option<Arc<ErrorInfo>>,
    /// The state while it is running, and afterwards what can still be read.
    pub(crate) activity: Option<Box<Activity>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPhase {
    Waiting,
    Ready,
    Running,
    Ended,
}

impl Slot {
    pub(crate) fn new(action: &Action) -> Slot {
        Slot {
            phase: if action.run_after.is_empty() && !action.is_handed_to {
                SlotPhase::Ready
            } else {
                SlotPhase::Waiting
            },
            status: Status::Succeeded,
            bad: false,
            pending: action.run_after.len() as u32,
            started: Timestamp::MIN,
            ended: Timestamp::MIN,
            code: Cow::Borrowed(""),
            inputs: None,
            outputs: None,
            error: None,
            activity: None,
        }
    }
}

/// The state of a running action.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Blocks that it opened and whose records can be read: branches, a scope's body, the last iteration of a loop.
    pub(crate) openings: Vec<OpeningId>,
    /// Blocks that are still open.
    pub(crate) open: u32,
    /// Whether a block that it opened failed (for a loop with a condition: the last iteration).
    pub(crate) failed: bool,
    pub(crate) each: Option<EachState>,
    pub(crate) looping: Option<Box<LoopState>>,
    pub(crate) call: Option<CallState>,
    /// The timer of the action's timeout.
    pub(crate) limit: Option<TimerId>,
    /// The timer of a pause: a `Wait`, between iterations, before an attempt.
    pub(crate) pause: Option<TimerId>,
}

/// A Foreach in progress.
#[derive(Debug)]
pub(crate) struct EachState {
    pub(crate) items: Array,
    /// The next item to start.
    pub(crate) next: u32,
    /// Iterations in progress.
    pub(crate) active: u32,
    /// By action and iteration: first the records of the loop's own actions, if an expression uses `result()`; then the
    /// results of inner actions that expressions after the loop refer to.
    pub(crate) results: Option<Vec<Vec<Value>>>,
}

/// An Until, While, DoUntil or Retry in progress.
#[derive(Debug)]
pub(crate) struct LoopState {
    /// Iterations started.
    pub(crate) iterations: u32,
    pub(crate) count: u32,
    pub(crate) deadline: Timestamp,
    pub(crate) delay: std::time::Duration,
    /// Outputs of each iteration's last action, for the Loom spelling.
    pub(crate) results: Vec<Value>,
    /// For Retry: the error of each attempt.
    pub(crate) attempts: Vec<Value>,
}

/// The external calls of one action.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) attempt: u32,
    /// The first call of the occurrence. Its id is in the callback URL, because later attempts send the same inputs.
    pub(crate) first_effect: EffectId,
    /// The call in progress.
    pub(crate) effect: Option<EffectId>,
    pub(crate) resume: Option<Value>,
    /// The subscription whose callback the action waits for.
    pub(crate) subscribed: Option<EffectId>,
    /// The admission under which the engine executes the action itself.
    pub(crate) admitted: Option<EffectId>,
    /// Whether the action was admitted but its execution has not begun.
    pub(crate) to_execute: bool,
    pub(crate) history: Vec<Value>,
    pub(crate) attempt_started: Timestamp,
    /// The turns of an agent, once it has made one. Boxed, because most calls are not those of agents.
    pub(crate) turns: Option<Box<TurnState>>,
}

impl CallState {
    /// The turns of an agent.
    pub(crate) fn turns(&self) -> &TurnState {
        static NONE: TurnState = TurnState { earlier: Vec::new(), uses: Vec::new(), used: 0 };
        self.turns.as_deref().unwrap_or(&NONE)
    }
}

/// The turns that an agent has made.
#[derive(Debug, Default)]
pub(crate) struct TurnState {
    /// The outputs of each.
    pub(crate) earlier: Vec<Value>,
    /// The tools that the last one uses.
    pub(crate) uses: Vec<ToolUse>,
    /// Uses of tools in the turns before the last one. With the position in `uses`, it is the number of a use.
    pub(crate) used: u32,
}

impl TurnState {
    /// The use with this number.
    pub(crate) fn get(&self, number: u32) -> Option<&ToolUse> {
        self.uses.get(number.checked_sub(self.used)? as usize)
    }
}

impl RunState {
    /// The state of a run of `workflow` that has not started.
    pub fn new(workflow: Arc<Workflow>) -> RunState {
        let variables = vec![None; workflow.variables.len()];
        RunState {
            workflow,
            start: None,
            status: RunStatus::Waiting,
            waits: false,
            started: Timestamp::MIN,
            ended: None,
            openings: Vec::new(),
            free: Vec::new(),
            variables,
            ready: VecDeque::new(),
            effects: Sorted::default(),
            timers: Sorted::default(),
            due: Sorted::default(),
            next_effect: 0,
            next_timer: 0,
            response: None,
            error: None,
            outputs: None,
            seq: 0,
            reads: Reads::default(),
            patience: Patience::default(),
            unavailable: Unavailable::default(),
        }
    }

    /// The workflow it runs.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// Its status.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// What it was started from; none before it has started.
    pub fn start(&self) -> Option<&Arc<RunStart>> {
        self.start.as_ref()
    }

    /// When it started; for a run that waits, when it was accepted.
    pub fn started_at(&self) -> Timestamp {
        self.started
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended
    }

    /// The error, if the run ended with one.
    pub fn error(&self) -> Option<&Arc<ErrorInfo>> {
        self.error.as_ref()
    }

    /// The workflow's outputs, if the run succeeded and the workflow has any.
    pub fn outputs(&self) -> Option<&Value> {
        self.outputs.as_ref()
    }

    /// The response sent to the caller.
    pub fn response(&self) -> Option<&Value> {
        self.response.as_ref()
    }

    /// The number of events applied so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Timers that have not fired, by id.
    pub fn timers(&self) -> impl Iterator<Item = (TimerId, Timer)> {
        self.timers.iter().map(|(id, timer)| (*id, *timer))
    }

    /// The timer with this id, if it has not fired.
    pub(crate) fn timer(&self, timer: TimerId) -> Option<&Timer> {
        self.timers.get(timer)
    }

    /// The timer that is due first.
    pub fn next_timer(&self) -> Option<(Timestamp, TimerId)> {
        self.due.first().map(|(due, ())| *due)
    }

    /// The timer that fires next if no clock is adjusted in the meantime, and the time until then.
    pub fn first_to_fire(&self, now: Now) -> Option<(TimerId, Duration)> {
        let waits = |due, shown| time::between(shown, due);
        let mut for_instant = None;
        for (due, timer) in self.due.iter().map(|(due, ())| *due) {
            if !self.is_for_instant(timer) {
                // Later timers are due later by both clocks, and the wall clock is never ahead of the run's time.
                let first = Some((timer, waits(due, now.run)));
                return [for_instant, first].into_iter().flatten().min_by_key(|(_, wait)| *wait);
            }
            for_instant = for_instant.or(Some((timer, waits(due, now.wall))));
        }
        for_instant
    }

    /// Whether a timer waits for a wall-clock time.
    fn is_for_instant(&self, timer: TimerId) -> bool {
        let Some(timer) = self.timers.get(timer) else { return false };
        let inputs = || self.slot(timer.place).inputs.as_ref();
        timer.purpose == Purpose::Wait && inputs().is_some_and(waits_for_instant)
    }

    /// Calls that have not ended. A restarted process must make them again.
    pub fn calls(&self) -> impl Iterator<Item = (EffectId, &PendingCall)> {
        self.effects.iter().map(|(id, call)| (*id, call))
    }

    /// The call with this id, if it has not ended.
    pub fn call(&self, effect: EffectId) -> Option<&PendingCall> {
        self.effects.get(effect)
    }

    /// Whether the run still waits for a call.
    pub fn waits_for(&self, effect: EffectId) -> bool {
        self.effects.contains(effect)
    }

    /// The blocks that are open, or have ended and can still be read: the action that opened each, and its iteration.
    pub fn openings(&self) -> impl Iterator<Item = (OpeningId, Option<Place>, u32)> {
        let taken =
            self.openings.iter().enumerate().filter(|(_, opening)| opening.phase != OpeningPhase::Free);
        taken.map(|(index, opening)| (OpeningId(index as u32), opening.parent, opening.index))
    }

    /// Actions that the engine executes under an admission to a service, and the end of the time that each may take.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = (Place, Option<Timestamp>)> {
        self.running_actions().filter_map(|(place, ..)| {
            let activity = self.activity(place)?;
            activity.call.as_ref()?.admitted?;
            let limit = activity.limit.and_then(|limit| self.timers.get(limit));
            Some((place, limit.map(|timer| timer.due)))
        })
    }

    /// The actions that were admitted to a service and have not ended, each with its attempt and the admission.
    pub(crate) fn admissions(&self) -> impl Iterator<Item = (Place, u32, EffectId)> {
        self.running_actions().filter_map(|(place, ..)| {
            let call = self.activity(place)?.call.as_ref()?;
            Some((place, call.attempt, call.admitted?))
        })
    }

    /// Running actions: when each started, and its inputs.
    pub fn running_actions(&self) -> impl Iterator<Item = (Place, Timestamp, Option<&Value>)> {
        let open =
            self.openings.iter().enumerate().filter(|(_, opening)| opening.phase == OpeningPhase::Open);
        open.flat_map(|(index, opening)| {
            let actions = &self.workflow.block(opening.block).actions;
            let slots =
                opening.slots.iter().zip(actions).filter(|(slot, _)| slot.phase == SlotPhase::Running);
            slots.map(move |(slot, action)| {
                let place = Place { opening: OpeningId(index as u32), action: *action };
                (place, slot.started, slot.inputs.as_ref())
            })
        })
    }

    /// Actions that have subscribed and wait for their callback.
    pub(crate) fn waiting_for_callbacks(&self) -> impl Iterator<Item = Place> {
        let running = self.running_actions().map(|(place, ..)| place);
        running.filter(|place| {
            let call = self.activity(*place).and_then(|activity| activity.call.as_ref());
            call.is_some_and(|call| call.subscribed.is_some())
        })
    }

    /// When the last attempt at a running action started.
    pub fn attempt_started_at(&self, place: Place) -> Option<Timestamp> {
        self.activity(place)?.call.as_ref().map(|call| call.attempt_started)
    }

    pub(crate) fn opening(&self, opening: OpeningId) -> &Opening {
        &self.openings[opening.0 as usize]
    }

    #[inline]
    pub(crate) fn slot(&self, place: Place) -> &Slot {
        let position = self.workflow.action(place.action).position as usize;
        &self.openings[place.opening.0 as usize].slots[position]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, place: Place) -> &mut Slot {
        let position = self.workflow.action(place.action).position as usize;
        &mut self.openings[place.opening.0 as usize].slots[position]
    }

    pub(crate) fn activity(&self, place: Place) -> Option<&Activity> {
        self.slot(place).activity.as_deref()
    }

    /// The id of the next block to be opened.
    pub(crate) fn next_opening(&self, already_planned: usize) -> OpeningId {
        let from_free = self.free.len().checked_sub(already_planned + 1);
        match from_free {
            Some(index) => self.free[index],
            None => OpeningId((self.openings.len() + already_planned - self.free.len()) as u32),
        }
    }

    /// Resolves a name: finds the opening of the action's block that is nearest to `from`.
    ///
    /// Climbs from `from` to the first block that also encloses the action, then descends through the blocks that were opened
    /// there. `Err` means that the action is inside that Foreach, so that it has no single record.
    pub(crate) fn locate(&self, from: OpeningId, action: ActionIdx) -> Result<Option<Place>, Place> {
        let wanted = self.workflow.action(action).block;
        // The usual case: a sibling, or an action of a block further out.
        let mut opening = from;
        loop {
            let current = self.opening(opening);
            if current.block == wanted {
                return Ok(Some(Place { opening, action }));
            }
            match current.parent {
                Some(parent) => opening = parent.opening,
                None => break,
            }
        }
        self.descend(from, wanted).map(|found| found.map(|opening| Place { opening, action }))
    }

    /// Finds the opening of `wanted`, a block that does not enclose `from`.
    fn descend(&self, from: OpeningId, wanted: BlockIdx) -> Result<Option<OpeningId>, Place> {
        let block = self.workflow.block(wanted);
        let Some(owner) = block.owner else { return Ok(None) };
        let Some(owner_place) = self.locate(from, owner)? else { return Ok(None) };
        let Some(activity) = self.activity(owner_place) else { return Ok(None) };
        if activity.each.is_some() {
            return Err(owner_place);
        }
        Ok(activity.openings.iter().copied().rev().find(|opening| self.opening(*opening).block == wanted))
    }

    /// The innermost opening that encloses `from` and whose owner satisfies `wanted`, with that owner.
    pub(crate) fn enclosing(
        &self,
        from: OpeningId,
        mut wanted: impl FnMut(&Action) -> bool,
    ) -> Option<(OpeningId, Place)> {
        self.enclosing_index(from, |action| wanted(self.workflow.action(action)))
    }

    /// Like [`RunState::enclosing`], for a predicate on the owner's index.
    pub(crate) fn enclosing_index(
        &self,
        from: OpeningId,
        mut wanted: impl FnMut(ActionIdx) -> bool,
    ) -> Option<(OpeningId, Place)> {
        let mut opening = from;
        loop {
            let parent = self.opening(opening).parent?;
            if wanted(parent.action) {
                return Some((opening, parent));
            }
            opening = parent.opening;
        }
    }

    /// The item of an iteration of a Foreach.
    #[inline]
    pub(crate) fn item_of(&self, iteration: OpeningId, owner: Place) -> Option<&Value> {
        let each = self.activity(owner)?.each.as_ref()?;
        each.items.get(self.opening(iteration).index as usize)
    }

    /// The maximum number of blocks that were open at the same time, a measure of the run's memory.
    pub fn openings_max(&self) -> usize {
        self.openings.len()
    }

    /// Iterations of the loops that enclose an opening, outermost first.
    pub fn path(&self, opening: OpeningId) -> Vec<Iteration> {
        let mut path = Vec::new();
        let mut current = opening;
        while let Some(parent) = self.opening(current).parent {
            if self.workflow.action(parent.action).kind.repeats() {
                path.push(Iteration { action: parent.action, index: self.opening(current).index });
            }
            current = parent.opening;
        }
        path.reverse();
        path
    }

    /// The webhook that waits for a callback to the given call. The run may be suspended, because the service will not call
    /// again.
    pub fn waiting_for_callback(&self, effect: EffectId) -> Option<Place> {
        if !matches!(self.status, RunStatus::Running | RunStatus::Suspended) {
            return None;
        }
        self.openings.iter().enumerate().find_map(|(index, opening)| {
            if opening.phase != OpeningPhase::Open {
                return None;
            }
            let waiting = opening.slots.iter().position(|slot| {
                let call = slot.activity.as_deref().and_then(|activity| activity.call.as_ref());
                slot.phase == SlotPhase::Running
                    && call.is_some_and(|call| {
                        [Some(call.first_effect), call.subscribed, call.effect].contains(&Some(effect))
                    })
            })?;
            let action = self.workflow.block(opening.block).actions[waiting];
            is_webhook(&self.workflow.action(action).kind)
                .then_some(Place { opening: OpeningId(index as u32), action })
        })
    }

    /// Whether an action waits for a callback.
    pub(crate) fn awaits_callback(&self) -> bool {
        self.running_actions().any(|(place, ..)| {
            self.activity(place)
                .and_then(|activity| activity.call.as_ref())
                .is_some_and(|call| call.subscribed.is_some())
        })
    }

    /// The last action of an iteration, in the order of the definition, that was not skipped: its outputs are the result of
    /// the iteration.
    pub(crate) fn last_of_iteration(&self, iteration: OpeningId) -> Option<Place> {
        let opening = self.opening(iteration);
        let actions = &self.workflow.block(opening.block).actions;
        let last = opening
            .slots
            .iter()
            .rposition(|slot| slot.phase == SlotPhase::Ended && slot.status != Status::Skipped)?;
        Some(Place { opening: iteration, action: actions[last] })
    }

    pub(crate) fn outcome_of(&self, place: Place) -> Outcome {
        let slot = self.slot(place);
        Outcome {
            status: slot.status,
            code: slot.code.clone(),
            outputs: slot.outputs.clone(),
            error: slot.error.clone(),
        }
    }

    /// Applies events that were journaled earlier. May be called again with the events that follow.
    ///
    /// # Errors
    /// The first event that cannot follow those before it. The state is that of the events before it.
    pub fn replay<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> Result<(), IllegalEvent> {
        let workflow = Arc::clone(&self.workflow);
        for event in events {
            self.check(event)?;
            self.apply(&workflow, event);
            // Work that became ready was done by later events; what remains is found at the end.
            self.ready.clear();
        }
        self.find_work();
        Ok(())
    }
}
