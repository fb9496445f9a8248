//! The state of a run: which blocks are open, how each of their actions stands, variables, timers, calls.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, BlockIdx, RunStatus, Status, Workflow, model::Action};
use loom_expression::{Array, Timestamp, Value};

use crate::{
    clock::Now,
    decide::calls::{is_webhook, waits_for_instant},
    event::{Code, EffectId, ErrorInfo, Event, FrameId, Outcome, Phase, Place, Purpose, RunStart, TimerId},
    sorted::Sorted,
    time,
    work::Work,
};

/// A run, folded from its events. Cheap to create; everything a workflow defines is shared.
#[derive(Debug)]
pub struct RunState {
    pub(crate) workflow: Arc<Workflow>,
    pub(crate) start: Option<Arc<RunStart>>,
    pub(crate) status: RunStatus,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) free: Vec<FrameId>,
    pub(crate) variables: Vec<Option<Value>>,
    pub(crate) ready: VecDeque<Work>,
    pub(crate) effects: Sorted<EffectId, Call>,
    pub(crate) timers: Sorted<TimerId, Timer>,
    /// The same timers by due time.
    pub(crate) due: Sorted<(Timestamp, TimerId), ()>,
    pub(crate) next_effect: u32,
    pub(crate) next_timer: u32,
    pub(crate) response: Option<Value>,
    pub(crate) error: Option<Arc<ErrorInfo>>,
    pub(crate) outputs: Option<Value>,
    /// Events applied so far; also what makes each draw of a random number different.
    pub(crate) seq: u64,
}

/// A timer that has not fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it is due.
    pub due: Timestamp,
    /// Whose it is.
    pub place: Place,
    /// What for.
    pub purpose: Purpose,
}

/// A call that has not ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose it is.
    pub place: Place,
    /// Which part of the action.
    pub phase: Phase,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Where to go on, or what to send when that differs from the action's inputs.
    pub resume: Option<Value>,
}

/// One opening of a block.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) block: BlockIdx,
    pub(crate) parent: Option<Place>,
    /// Round of the loop that opened it.
    pub(crate) index: u32,
    /// Actions that have not ended.
    pub(crate) remaining: u32,
    pub(crate) phase: FramePhase,
    pub(crate) slots: Vec<Slot>,
    /// When it was opened; loops show it as `loopStartTime`.
    pub(crate) opened: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePhase {
    /// The id is free.
    Free,
    /// Some action has not ended.
    Open,
    /// All actions have ended; records can still be read.
    Closed,
}

/// How one action of an open block stands.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) phase: SlotPhase,
    /// Its final status once it has ended.
    pub(crate) status: Status,
    /// Makes its block fail if it is a leaf: a bad status, or skipped behind one.
    pub(crate) bad: bool,
    /// Predecessors that have not ended.
    pub(crate) pending: u32,
    pub(crate) started: Timestamp,
    pub(crate) ended: Timestamp,
    pub(crate) code: Code,
    pub(crate) inputs: Option<Value>,
    pub(crate) outputs: Option<Value>,
    pub(crate) error: Option<Arc<ErrorInfo>>,
    /// What it is busy with, and afterwards what it leaves to be read.
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
            phase: if action.run_after.is_empty() { SlotPhase::Ready } else { SlotPhase::Waiting },
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

/// What a running action is busy with.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Blocks it opened and whose records can be read: branches, a scope's body, the last round of a loop.
    pub(crate) frames: Vec<FrameId>,
    /// Blocks that are still open.
    pub(crate) open: u32,
    /// Some block it opened failed (for a loop with a condition: its last round did).
    pub(crate) failed: bool,
    pub(crate) each: Option<EachState>,
    pub(crate) looping: Option<LoopState>,
    pub(crate) call: Option<CallState>,
    /// The timer of the action's time limit.
    pub(crate) limit: Option<TimerId>,
    /// The timer of a pause: `Wait`, between rounds, before an attempt.
    pub(crate) pause: Option<TimerId>,
}

/// A Foreach in progress.
#[derive(Debug)]
pub(crate) struct EachState {
    pub(crate) items: Array,
    /// The next item to start.
    pub(crate) next: u32,
    /// Rounds in progress.
    pub(crate) active: u32,
    /// By action and round: records of the loop's own actions, kept only when an expression asks for `result()`; then what
    /// is gathered of actions that are read from after the loop.
    pub(crate) results: Option<Vec<Vec<Value>>>,
}

/// An Until, While, DoUntil or Retry in progress.
#[derive(Debug)]
pub(crate) struct LoopState {
    /// Rounds begun.
    pub(crate) rounds: u32,
    pub(crate) count: u32,
    pub(crate) deadline: Timestamp,
    pub(crate) delay: std::time::Duration,
    /// Outputs of each round's last action, for the Loom spelling.
    pub(crate) results: Vec<Value>,
    /// Retry: what went wrong in each attempt.
    pub(crate) attempts: Vec<Value>,
}

/// Calls to the outside that belong to one action.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) attempt: u32,
    /// The first call of the occurrence, which its callback address names: later attempts send the same inputs.
    pub(crate) first_effect: EffectId,
    /// The call under way.
    pub(crate) effect: Option<EffectId>,
    pub(crate) resume: Option<Value>,
    /// Waiting for a callback to this subscription.
    pub(crate) subscribed: Option<EffectId>,
    /// The service's admission under which the engine executes the action itself.
    pub(crate) admitted: Option<EffectId>,
    /// It was admitted, and its execution has not begun.
    pub(crate) to_execute: bool,
    pub(crate) history: Vec<Value>,
    pub(crate) attempt_started: Timestamp,
}

impl RunState {
    /// A run of `workflow` that nothing has happened to yet.
    pub fn new(workflow: Arc<Workflow>) -> RunState {
        let variables = vec![None; workflow.variables.len()];
        RunState {
            workflow,
            start: None,
            status: RunStatus::Waiting,
            started: Timestamp::MIN,
            ended: None,
            frames: Vec::new(),
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
        }
    }

    /// The workflow it runs.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// How it stands.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// What it started from, once it has started.
    pub fn start(&self) -> Option<&Arc<RunStart>> {
        self.start.as_ref()
    }

    /// When it started.
    pub fn started_at(&self) -> Timestamp {
        self.started
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended
    }

    /// What went wrong, if it ended badly.
    pub fn error(&self) -> Option<&Arc<ErrorInfo>> {
        self.error.as_ref()
    }

    /// The workflow's outputs, if it ended well.
    pub fn outputs(&self) -> Option<&Value> {
        self.outputs.as_ref()
    }

    /// What the caller was answered.
    pub fn response(&self) -> Option<&Value> {
        self.response.as_ref()
    }

    /// Events applied so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Timers that have not fired, by id.
    pub fn timers(&self) -> impl Iterator<Item = (TimerId, Timer)> {
        self.timers.iter().map(|(id, timer)| (*id, *timer))
    }

    /// The timer that is due first.
    pub fn next_timer(&self) -> Option<(Timestamp, TimerId)> {
        self.due.first().map(|(due, ())| *due)
    }

    /// The timer that fires first if no clock is set meanwhile, and in how long.
    pub fn first_to_fire(&self, now: Now) -> Option<(TimerId, Duration)> {
        let waits = |due, shown| time::between(shown, due);
        let mut for_instant = None;
        for (due, timer) in self.due.iter().map(|(due, ())| *due) {
            if !self.is_for_instant(timer) {
                // Those behind it are due later by both clocks, and the wall clock is never ahead.
                let first = Some((timer, waits(due, now.run)));
                return [for_instant, first].into_iter().flatten().min_by_key(|(_, wait)| *wait);
            }
            for_instant = for_instant.or(Some((timer, waits(due, now.wall))));
        }
        for_instant
    }

    /// Whether a timer is for an instant that the wall clock is to show.
    fn is_for_instant(&self, timer: TimerId) -> bool {
        let Some(timer) = self.timers.get(timer) else { return false };
        let inputs = || self.slot(timer.place).inputs.as_ref();
        timer.purpose == Purpose::Wait && inputs().is_some_and(waits_for_instant)
    }

    /// Calls that have not ended: what a restarted process must make again.
    pub fn calls(&self) -> impl Iterator<Item = (EffectId, &Call)> {
        self.effects.iter().map(|(id, call)| (*id, call))
    }

    /// What asked for a call that has not ended.
    pub fn asked_by(&self, effect: EffectId) -> Option<&Call> {
        self.effects.get(effect)
    }

    /// Whether a call is still wanted.
    pub fn wants(&self, effect: EffectId) -> bool {
        self.effects.contains(effect)
    }

    /// The blocks that are open, or have ended and can still be read: what opened each, and its round.
    pub fn openings(&self) -> impl Iterator<Item = (FrameId, Option<Place>, u32)> {
        let taken = self.frames.iter().enumerate().filter(|(_, frame)| frame.phase != FramePhase::Free);
        taken.map(|(index, frame)| (FrameId(index as u32), frame.parent, frame.index))
    }

    /// Actions that are under way: when each began, and its inputs.
    pub fn actions_under_way(&self) -> impl Iterator<Item = (Place, Timestamp, Option<&Value>)> {
        let open = self.frames.iter().enumerate().filter(|(_, frame)| frame.phase == FramePhase::Open);
        open.flat_map(|(index, frame)| {
            let actions = &self.workflow.block(frame.block).actions;
            let slots = frame.slots.iter().zip(actions).filter(|(slot, _)| slot.phase == SlotPhase::Running);
            slots.map(move |(slot, action)| {
                let place = Place { frame: FrameId(index as u32), action: *action };
                (place, slot.started, slot.inputs.as_ref())
            })
        })
    }

    /// When the last attempt at a running action began.
    pub fn attempt_started_at(&self, place: Place) -> Option<Timestamp> {
        self.activity(place)?.call.as_ref().map(|call| call.attempt_started)
    }

    pub(crate) fn frame(&self, frame: FrameId) -> &Frame {
        &self.frames[frame.0 as usize]
    }

    #[inline]
    pub(crate) fn slot(&self, place: Place) -> &Slot {
        let position = self.workflow.action(place.action).position as usize;
        &self.frames[place.frame.0 as usize].slots[position]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, place: Place) -> &mut Slot {
        let position = self.workflow.action(place.action).position as usize;
        &mut self.frames[place.frame.0 as usize].slots[position]
    }

    pub(crate) fn activity(&self, place: Place) -> Option<&Activity> {
        self.slot(place).activity.as_deref()
    }

    /// The id the next opened block gets.
    pub(crate) fn next_frame(&self, already_planned: usize) -> FrameId {
        let from_free = self.free.len().checked_sub(already_planned + 1);
        match from_free {
            Some(index) => self.free[index],
            None => FrameId((self.frames.len() + already_planned - self.free.len()) as u32),
        }
    }

    /// Where a name is looked up: the opening of the action's block that is nearest to `from`.
    ///
    /// Climbs from `from` to the first block that also surrounds the action, then descends through what was opened
    /// there. `Err` means that the action lives in the rounds of that Foreach, where no single record exists.
    pub(crate) fn locate(&self, from: FrameId, action: ActionIdx) -> Result<Option<Place>, Place> {
        let wanted = self.workflow.action(action).block;
        // The usual case: a sibling, or an action of a block further out.
        let mut frame = from;
        loop {
            let current = self.frame(frame);
            if current.block == wanted {
                return Ok(Some(Place { frame, action }));
            }
            match current.parent {
                Some(parent) => frame = parent.frame,
                None => break,
            }
        }
        self.descend(from, wanted).map(|found| found.map(|frame| Place { frame, action }))
    }

    /// Finds the opening of `wanted`, a block that does not surround `from`.
    fn descend(&self, from: FrameId, wanted: BlockIdx) -> Result<Option<FrameId>, Place> {
        let block = self.workflow.block(wanted);
        let Some(owner) = block.owner else { return Ok(None) };
        let Some(owner_place) = self.locate(from, owner)? else { return Ok(None) };
        let Some(activity) = self.activity(owner_place) else { return Ok(None) };
        if activity.each.is_some() {
            return Err(owner_place);
        }
        Ok(activity.frames.iter().copied().rev().find(|frame| self.frame(*frame).block == wanted))
    }

    /// The innermost opening around `from` whose owner satisfies `is_loop`, with that owner.
    pub(crate) fn enclosing(
        &self,
        from: FrameId,
        mut wanted: impl FnMut(&Action) -> bool,
    ) -> Option<(FrameId, Place)> {
        self.enclosing_index(from, |action| wanted(self.workflow.action(action)))
    }

    /// As [`RunState::enclosing`], for an owner that is known by its index.
    pub(crate) fn enclosing_index(
        &self,
        from: FrameId,
        mut wanted: impl FnMut(ActionIdx) -> bool,
    ) -> Option<(FrameId, Place)> {
        let mut frame = from;
        loop {
            let parent = self.frame(frame).parent?;
            if wanted(parent.action) {
                return Some((frame, parent));
            }
            frame = parent.frame;
        }
    }

    /// The item of a Foreach round.
    #[inline]
    pub(crate) fn item_of(&self, round: FrameId, owner: Place) -> Option<Value> {
        let each = self.activity(owner)?.each.as_ref()?;
        each.items.get(self.frame(round).index as usize).cloned()
    }

    /// The most blocks that were open at the same moment: what a run has taken of memory.
    pub fn frames_ever_open(&self) -> usize {
        self.frames.len()
    }

    /// Rounds of the loops around an opening, outermost first.
    pub fn path(&self, frame: FrameId) -> Vec<(ActionIdx, u32)> {
        let mut path = Vec::new();
        let mut current = frame;
        while let Some(parent) = self.frame(current).parent {
            if is_loop(self.workflow.action(parent.action)) {
                path.push((parent.action, self.frame(current).index));
            }
            current = parent.frame;
        }
        path.reverse();
        path
    }

    /// The webhook that waits for a callback at the address of the given call. The run may stand still: its caller will not come again.
    pub fn waiting_for_callback(&self, effect: EffectId) -> Option<Place> {
        if !matches!(self.status, RunStatus::Running | RunStatus::Suspended) {
            return None;
        }
        self.frames.iter().enumerate().find_map(|(index, frame)| {
            if frame.phase != FramePhase::Open {
                return None;
            }
            let waiting = frame.slots.iter().position(|slot| {
                let call = slot.activity.as_deref().and_then(|activity| activity.call.as_ref());
                slot.phase == SlotPhase::Running
                    && call.is_some_and(|call| {
                        [Some(call.first_effect), call.subscribed, call.effect].contains(&Some(effect))
                    })
            })?;
            let action = self.workflow.block(frame.block).actions[waiting];
            is_webhook(&self.workflow.action(action).kind)
                .then_some(Place { frame: FrameId(index as u32), action })
        })
    }

    /// The last action of a round in file order that was not skipped: its outputs are the round's result.
    pub(crate) fn last_of_round(&self, round: FrameId) -> Option<Place> {
        let frame = self.frame(round);
        let actions = &self.workflow.block(frame.block).actions;
        let last = frame
            .slots
            .iter()
            .rposition(|slot| slot.phase == SlotPhase::Ended && slot.status != Status::Skipped)?;
        Some(Place { frame: round, action: actions[last] })
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

    /// Applies facts that were journaled earlier. May be called again with those that follow.
    pub fn replay<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        let workflow = Arc::clone(&self.workflow);
        for event in events {
            self.apply(&workflow, event);
            // What can be done is found at the end; on the way there it was done.
            self.ready.clear();
        }
        self.find_work();
    }
}

/// Whether rounds of this action are numbered.
pub(crate) fn is_loop(action: &Action) -> bool {
    use loom_definition::model::ActionKind;
    matches!(action.kind, ActionKind::Foreach { .. } | ActionKind::Loop(_) | ActionKind::Retry { .. })
}
