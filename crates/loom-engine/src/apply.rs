//! Applies one event to the state. Reads no clock and decides nothing: what follows from a fact alone is here; what needs a
//! choice, a time or an expression is in `decide`.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, BlockIdx, RunStatus, Status, VariableIdx, Workflow,
    model::{Action, ActionKind, EffectKind},
};
use loom_expression::{Object, Timestamp, Value};

use crate::{
    event::{EffectId, Event, Next, OpeningId, Outcome, Phase, Place, Purpose, TimerId},
    gather,
    handoff::handed_to,
    record,
    state::{
        Activity, CallState, EachState, LoopState, Opening, OpeningPhase, PendingCall, RunState, Slot,
        SlotPhase, Timer,
    },
    work::Work,
};

/// The capacity that a queue of work receives with its first item.
const READY_MIN: usize = 4;

impl RunState {
    /// Applies `event` to the state. Returns the size of the heap data of the values that the event adds, in bytes.
    ///
    /// The most frequent events are handled without a further call.
    #[inline]
    pub(crate) fn apply(&mut self, workflow: &Workflow, event: &Event) -> u64 {
        self.seq += 1;
        match event {
            Event::ActionEnded { .. } => self.end_action(workflow, event),
            Event::BlockOpened { .. } => {
                self.open_opening(workflow, event);
                0
            }
            Event::VariableSet { variable, value } => self.set_variable(*variable, value),
            other => self.apply_other(workflow, other),
        }
    }

    #[inline(never)]
    fn set_variable(&mut self, variable: VariableIdx, value: &Value) -> u64 {
        self.variables[variable.0 as usize] = Some(value.clone());
        value.heap_bytes()
    }

    #[inline(never)]
    fn apply_other(&mut self, workflow: &Workflow, event: &Event) -> u64 {
        match event {
            Event::RunStarted { start, at } => {
                self.start = Some(Arc::clone(start));
                self.started = *at;
                self.status = RunStatus::Running;
                // The number of parameters has no limit, so they count whole.
                return start
                    .parameters
                    .iter()
                    .map(Value::bytes)
                    .fold(start.trigger.heap_bytes(), u64::saturating_add);
            }
            Event::ActionStarted { place, at, inputs } => {
                self.start_action(workflow, *place, *at, inputs.as_ref());
                return heap_bytes(inputs.as_ref());
            }
            Event::LoopStarted { place, count, deadline, delay } => {
                let looping = LoopState {
                    iterations: 0,
                    count: *count,
                    deadline: *deadline,
                    delay: *delay,
                    results: Vec::new(),
                    attempts: Vec::new(),
                };
                self.activity_mut(*place).looping = Some(Box::new(looping));
            }
            Event::AttemptStarted { place, attempt, effect, phase, resume, at } => {
                self.start_attempt(*place, *attempt, *effect, *phase, resume.as_ref(), *at);
                return heap_bytes(resume.as_ref());
            }
            // The first three have been handled by the caller.
            Event::ActionEnded { .. }
            | Event::BlockOpened { .. }
            | Event::VariableSet { .. }
            | Event::AttemptNoted { .. }
            | Event::Tracked { .. } => {}
            Event::AttemptEnded { place, effect, outcome, next, at } => {
                self.end_attempt(*place, *effect, outcome, next, *at);
                return heap_bytes(outcome.outputs.as_ref());
            }
            Event::TimerSet { timer, due, place, purpose } => {
                self.set_timer(*timer, *due, *place, *purpose);
            }
            Event::TimerEnded { timer } => self.drop_timer(*timer),
            Event::VariableAppended { variable, item } => {
                let slot = &mut self.variables[variable.0 as usize];
                // Taken out, the array has one owner, so that appending need not copy it.
                let mut items = slot.take().and_then(Value::into_array).unwrap_or_default();
                items.push(item.clone());
                *slot = Some(Value::from(items));
                return item.heap_bytes();
            }
            Event::Responded { response, .. } => {
                self.response = Some(response.clone());
                return response.heap_bytes();
            }
            Event::RunWaiting { .. } => {
                self.waits = true;
                self.status = RunStatus::Waiting;
            }
            Event::RunAdmitted { at } => {
                self.waits = false;
                self.started = *at;
                if self.status == RunStatus::Waiting {
                    self.status = RunStatus::Running;
                }
            }
            Event::Suspended { .. } => self.status = RunStatus::Suspended,
            Event::Resumed { .. } => {
                self.status = if self.waits { RunStatus::Waiting } else { RunStatus::Running };
            }
            Event::RunEnded { status, error, outputs, at } => {
                self.status = *status;
                self.waits = false;
                self.error.clone_from(error);
                self.outputs.clone_from(outputs);
                self.ended = Some(*at);
                self.effects.retain(|call| call.phase == Phase::Unsubscribe);
                self.timers.clear();
                self.due.clear();
                self.ready.clear();
            }
        }
        0
    }

    #[inline(never)]
    fn open_opening(&mut self, workflow: &Workflow, event: &Event) {
        let Event::BlockOpened { opening, block, parent, index, at } = *event else { return };
        if self.free.last() == Some(&opening) {
            self.free.pop();
        } else if let Some(position) = self.free.iter().position(|free| *free == opening) {
            self.free.remove(position);
        }
        let actions = &workflow.block(block).actions;
        while self.openings.len() <= opening.0 as usize {
            self.openings.push(Opening::default());
        }
        let opened = &mut self.openings[opening.0 as usize];
        opened.block = block;
        opened.parent = parent;
        opened.index = index;
        opened.opened = at;
        opened.remaining = actions.len() as u32;
        opened.phase = OpeningPhase::Open;
        opened.slots.clear();
        opened.slots.extend(actions.iter().map(|action| Slot::new(workflow.action(*action))));
        let roots = &workflow.block(block).roots;
        if roots.len() > READY_MIN {
            self.ready.reserve(roots.len());
        }
        for action in roots {
            self.ready.push_back(Work::Action(Place { opening, action: *action }));
        }
        if let Some(parent) = parent {
            self.attach_opening(parent, opening, index);
        }
        if actions.is_empty() {
            self.opening_completed(workflow, opening);
        }
    }

    /// Registers an opened block with its action.
    fn attach_opening(&mut self, parent: Place, opening: OpeningId, index: u32) {
        let activity = self.activity_mut(parent);
        activity.open += 1;
        if let Some(each) = &mut activity.each {
            each.next = index + 1;
            each.active += 1;
            activity.openings.push(opening);
            return;
        }
        let Some(looping) = &mut activity.looping else { return activity.openings.push(opening) };
        looping.iterations = index + 1;
        activity.failed = false;
        // Only the last iteration of a loop can be read.
        let stale = activity.openings.first_mut().map(|open| std::mem::replace(open, opening));
        match stale {
            Some(stale) => self.free_opening(stale),
            None => activity.openings.push(opening),
        }
    }

    fn start_action(&mut self, workflow: &Workflow, place: Place, at: Timestamp, inputs: Option<&Value>) {
        let action = workflow.action(place.action);
        let slot = self.slot_mut(place);
        slot.phase = SlotPhase::Running;
        slot.started = at;
        slot.inputs = inputs.cloned();
        let activity = slot.activity.get_or_insert_default();
        if let Some(call) = &mut activity.call {
            call.to_execute = false;
        }
        if let ActionKind::Foreach { body, .. } = &action.kind {
            let items = inputs.and_then(|items| items.as_array().cloned()).unwrap_or_default();
            let own = if action.result_wanted { workflow.block(*body).actions.len() } else { 0 };
            let lists = own + action.gathered.len();
            let results = (lists > 0).then(|| vec![Vec::new(); lists]);
            activity.each = Some(EachState { items, next: 0, active: 0, results });
            self.ready.push_back(Work::Spawn(place));
        }
    }

    fn start_attempt(
        &mut self,
        place: Place,
        attempt: u32,
        effect: EffectId,
        phase: Phase,
        resume: Option<&Value>,
        at: Timestamp,
    ) {
        self.next_effect = self.next_effect.max(effect.0 + 1);
        self.effects.insert(effect, PendingCall { place, phase, attempt, resume: resume.cloned() });
        if phase == Phase::Unsubscribe {
            return;
        }
        let slot = self.slot_mut(place);
        if slot.phase != SlotPhase::Running {
            slot.phase = SlotPhase::Running;
            slot.started = at;
        }
        let call = slot.activity.get_or_insert_default().call.get_or_insert_with(|| CallState {
            attempt: 0,
            first_effect: effect,
            effect: None,
            resume: None,
            subscribed: None,
            admitted: None,
            to_execute: false,
            history: Vec::new(),
            attempt_started: at,
            turns: None,
        });
        if call.attempt != attempt {
            call.attempt_started = at;
        }
        call.attempt = attempt;
        call.effect = Some(effect);
        call.resume = resume.cloned();
    }

    fn end_attempt(&mut self, place: Place, effect: EffectId, outcome: &Outcome, next: &Next, at: Timestamp) {
        let ended = self.effects.remove(effect);
        if ended.is_some_and(|call| call.phase == Phase::Unsubscribe) {
            // Its action has ended, and the place may have been reused.
            return;
        }
        let OpeningPhase::Open = self.opening(place.opening).phase else { return };
        let action = self.workflow.action(place.action);
        let labels = action.labels_of_outputs();
        let subscribed =
            matches!(next, Next::Callback).then(|| subscription(&action.kind, outcome)).flatten();
        let Some(call) = self.activity_mut(place).call.as_mut() else { return };
        if call.effect == Some(effect) {
            call.effect = None;
        }
        match next {
            Next::Retry { .. } => {
                let entry = record::retry_entry(labels, call.attempt_started, at, outcome);
                call.history.push(entry);
                call.to_execute = false;
                if call.admitted.take().is_some() {
                    self.forget_attempt(place);
                }
            }
            Next::Poll { resume, .. } => call.resume = Some(resume.clone()),
            Next::Callback => {
                call.subscribed = Some(effect);
                call.resume = subscribed;
            }
            Next::Execute => {
                call.admitted = Some(effect);
                call.to_execute = true;
                self.ready.push_back(Work::Execute(place));
            }
            Next::Proceed | Next::End => {}
            Next::Turn { uses } => {
                call.history.clear();
                let turns = call.turns.get_or_insert_default();
                turns.earlier.push(outcome.outputs.clone().unwrap_or_default());
                turns.used += turns.uses.len() as u32;
                turns.uses.clone_from(uses);
                // What the tools of the turn before returned is in the outputs of this one.
                self.forget_attempt(place);
            }
        }
    }

    /// Discards the state of a failed attempt of an action that contains others, so that the next attempt starts afresh.
    fn forget_attempt(&mut self, place: Place) {
        let activity = self.activity_mut(place);
        activity.open = 0;
        activity.failed = false;
        activity.each = None;
        activity.looping = None;
        let stale = std::mem::take(&mut activity.openings);
        for opening in stale {
            self.free_opening(opening);
        }
    }

    fn set_timer(&mut self, timer: TimerId, due: Timestamp, place: Place, purpose: Purpose) {
        self.next_timer = self.next_timer.max(timer.0 + 1);
        self.timers.insert(timer, Timer { due, place, purpose });
        self.due.insert((due, timer), ());
        let slot = self.slot_mut(place);
        let activity = slot.activity.get_or_insert_default();
        match purpose {
            Purpose::Limit => activity.limit = Some(timer),
            Purpose::Retry | Purpose::Poll | Purpose::Wait | Purpose::Iteration => {
                activity.pause = Some(timer);
            }
        }
    }

    fn drop_timer(&mut self, timer: TimerId) {
        if let Some(ended) = self.timers.remove(timer) {
            self.due.remove((ended.due, timer));
            if let Some(activity) = self.slot_mut(ended.place).activity.as_deref_mut() {
                if activity.pause == Some(timer) {
                    activity.pause = None;
                }
                if activity.limit == Some(timer) {
                    activity.limit = None;
                }
            }
        }
    }

    #[expect(
        clippy::assigning_clones,
        reason = "there is no allocation to reuse, and checking for one costs more"
    )]
    fn end_action(&mut self, workflow: &Workflow, event: &Event) -> u64 {
        let Event::ActionEnded { place, started, at, inputs, outcome } = event else { return 0 };
        let place = *place;
        let action = workflow.action(place.action);
        // Most actions succeed, which one comparison shows.
        let bad = outcome.status != Status::Succeeded
            && (outcome.status.is_bad()
                || (outcome.status == Status::Skipped
                    && action.run_after.iter().any(|dependency| {
                        self.slot(Place { opening: place.opening, action: dependency.action }).bad
                    })));
        let opening = &mut self.openings[place.opening.0 as usize];
        let slot = &mut opening.slots[action.position as usize];
        slot.phase = SlotPhase::Ended;
        slot.status = outcome.status;
        slot.bad = bad;
        let is_last = opening.remaining <= 1 && opening.phase == OpeningPhase::Open;
        if !(is_last && opening.parent.is_some_and(|parent| keeps_nothing(workflow, parent))) {
            slot.started = *started;
            slot.ended = *at;
            slot.code = outcome.code.clone();
            if inputs.is_some() {
                slot.inputs = inputs.clone();
            }
            slot.outputs = outcome.outputs.clone();
            slot.error = outcome.error.clone();
        }
        if slot.activity.is_some() {
            self.end_activity(place);
        }
        for successor in &action.successors {
            let next = Place { opening: place.opening, action: *successor };
            let slot = self.slot_mut(next);
            slot.pending = slot.pending.saturating_sub(1);
            if slot.pending == 0 && slot.phase == SlotPhase::Waiting {
                slot.phase = SlotPhase::Ready;
                self.ready.push_back(Work::Action(next));
            }
        }
        if !workflow.block(action.block).handed_to.is_empty() {
            self.wake_handed_to(workflow, place.opening, outcome);
        }
        let opening = &mut self.openings[place.opening.0 as usize];
        opening.remaining = opening.remaining.saturating_sub(1);
        if opening.remaining == 0 && opening.phase == OpeningPhase::Open {
            self.opening_completed(workflow, place.opening);
        }
        let bytes = heap_bytes(outcome.outputs.as_ref());
        if inputs.is_some() { bytes.saturating_add(heap_bytes(inputs.as_ref())) } else { bytes }
    }

    /// Makes agents ready that start when they are handed to: the one that an agent has handed over to and, when nothing else
    /// is left to do in the block, the others, which are then skipped.
    #[cold]
    fn wake_handed_to(&mut self, workflow: &Workflow, opening: OpeningId, outcome: &Outcome) {
        let opened = &mut self.openings[opening.0 as usize];
        let block = workflow.block(opened.block);
        let to = outcome.outputs.as_ref().filter(|_| outcome.status == Status::HandedOff).and_then(handed_to);
        let busy = |slot: &Slot| matches!(slot.phase, SlotPhase::Ready | SlotPhase::Running);
        let is_named =
            |action: &ActionIdx| to.is_some_and(|to| workflow.action(*action).name.eq_ignore_ascii_case(to));
        let anybody = block.handed_to.iter().any(is_named) || opened.slots.iter().any(busy);
        for action in &block.handed_to {
            let slot = &mut opened.slots[workflow.action(*action).position as usize];
            if slot.phase == SlotPhase::Waiting && (!anybody || is_named(action)) {
                slot.phase = SlotPhase::Ready;
                self.ready.push_back(Work::Action(Place { opening, action: *action }));
            }
        }
    }

    /// Discards the activity of an action that has ended, except what can still be read.
    fn end_activity(&mut self, place: Place) {
        let slot = self.slot_mut(place);
        let Some(activity) = slot.activity.as_deref() else { return };
        let timers = [activity.limit, activity.pause];
        let effect = activity.call.as_ref().and_then(|call| call.effect);
        if activity.openings.is_empty() && activity.each.is_none() && activity.looping.is_none() {
            slot.activity = None;
        }
        for timer in timers.into_iter().flatten() {
            self.drop_timer(timer);
        }
        if let Some(effect) = effect {
            self.effects.remove(effect);
        }
    }

    /// All actions of a block have ended: updates the action that opened it.
    fn opening_completed(&mut self, workflow: &Workflow, opening: OpeningId) {
        let closed = &mut self.openings[opening.0 as usize];
        let failed = is_failed(workflow, closed);
        closed.phase = OpeningPhase::Closed;
        let (parent, index) = (closed.parent, closed.index);
        let Some(parent) = parent else { return self.ready.push_back(Work::BlockDone(opening)) };
        if let ActionKind::Foreach { .. } = workflow.action(parent.action).kind {
            return self.iteration_completed(workflow, parent, opening, index, failed);
        }
        let result = self.iteration_result(workflow, parent, opening, failed);
        let activity = self.activity_mut(parent);
        activity.open = activity.open.saturating_sub(1);
        if let Some(looping) = &mut activity.looping {
            activity.failed = failed;
            match result {
                IterationResult::None => {}
                IterationResult::Output(value) => looping.results.push(value),
                IterationResult::Attempt(entry) => looping.attempts.push(entry),
            }
        } else {
            activity.failed |= failed;
        }
        self.ready.push_back(Work::BlockDone(opening));
    }

    /// An iteration of a Foreach has ended: keeps only what expressions after the loop refer to.
    fn iteration_completed(
        &mut self,
        workflow: &Workflow,
        parent: Place,
        iteration: OpeningId,
        index: u32,
        failed: bool,
    ) {
        let foreach = workflow.action(parent.action);
        if foreach.result_wanted || !foreach.gathered.is_empty() {
            self.collect_iteration(foreach, parent, iteration, index);
        }
        let activity = self.activity_mut(parent);
        activity.open = activity.open.saturating_sub(1);
        activity.failed |= failed;
        if let Some(at) = activity.openings.iter().position(|open| *open == iteration) {
            activity.openings.swap_remove(at);
        }
        if let Some(each) = &mut activity.each {
            each.active = each.active.saturating_sub(1);
        }
        self.free_opening(iteration);
        // One item of work is enough for iterations that end one after the other: it opens as many as there is room for.
        if self.ready.back() != Some(&Work::Spawn(parent)) {
            self.ready.push_back(Work::Spawn(parent));
        }
    }

    /// Keeps the results of an iteration of a Foreach that expressions after the loop refer to.
    #[inline(never)]
    fn collect_iteration(&mut self, foreach: &Action, parent: Place, iteration: OpeningId, index: u32) {
        let mut records =
            if foreach.result_wanted { record::opening_records(self, iteration) } else { Vec::new() };
        records.extend(gather::of_iteration(self, foreach, iteration));
        let Some(each) = &mut self.activity_mut(parent).each else { return };
        // A snapshot from an earlier version, which did not collect these, has no lists for them.
        if let Some(results) = each.results.as_mut().filter(|results| results.len() == records.len()) {
            for (child, record) in results.iter_mut().zip(records) {
                if child.len() <= index as usize {
                    child.resize(index as usize + 1, Value::NULL);
                }
                child[index as usize] = record;
            }
        }
    }

    /// What a loop in the Loom spelling keeps of an iteration.
    fn iteration_result(
        &self,
        workflow: &Workflow,
        parent: Place,
        iteration: OpeningId,
        failed: bool,
    ) -> IterationResult {
        match &workflow.action(parent.action).kind {
            ActionKind::Loop(looping) if looping.loom_spelling => {
                let last = self.last_of_iteration(iteration);
                let outputs = last.and_then(|place| self.slot(place).outputs.clone());
                IterationResult::Output(outputs.unwrap_or(Value::NULL))
            }
            ActionKind::Retry { .. } if failed => {
                let Some(last) = self.last_of_iteration(iteration) else { return IterationResult::None };
                let ended = self.slot(last).ended;
                let labels = workflow.action(last.action).labels_of_outputs();
                let (began, outcome) = (self.opening(iteration).opened, self.outcome_of(last));
                let entry = record::retry_entry(labels, began, ended, &outcome);
                IterationResult::Attempt(entry)
            }
            _ => IterationResult::None,
        }
    }

    /// Frees an opening and all openings inside it.
    fn free_opening(&mut self, opening: OpeningId) {
        let opened = &mut self.openings[opening.0 as usize];
        if opened.phase == OpeningPhase::Free {
            return;
        }
        if opened.slots.iter().any(|slot| slot.activity.is_some()) {
            self.free_inside(opening);
        }
        self.openings[opening.0 as usize].forget();
        self.free.push(opening);
    }

    /// Frees the openings inside an opening.
    #[inline(never)]
    fn free_inside(&mut self, opening: OpeningId) {
        let slots = &mut self.openings[opening.0 as usize].slots;
        let activities = slots.iter_mut().filter_map(|slot| slot.activity.take());
        let inner: Vec<OpeningId> = activities.flat_map(|activity| activity.openings).collect();
        for opening in inner {
            self.free_opening(opening);
        }
    }

    #[inline]
    pub(crate) fn activity_mut(&mut self, place: Place) -> &mut Activity {
        self.slot_mut(place).activity.get_or_insert_default()
    }
}

/// The size of the heap data of a value, in bytes.
#[inline]
fn heap_bytes(value: Option<&Value>) -> u64 {
    value.map_or(0, Value::heap_bytes)
}

/// The leaf rule: a block fails when one of its leaf actions is bad.
fn is_failed(workflow: &Workflow, opened: &Opening) -> bool {
    let mut leaves = workflow.block(opened.block).leaves.iter();
    leaves.any(|leaf| opened.slots[workflow.action(*leaf).position as usize].bad)
}

/// Whether nothing in a block of this action can be read once the block has ended: an iteration of a Foreach whose results
/// no expression refers to.
fn keeps_nothing(workflow: &Workflow, opener: Place) -> bool {
    let opener = workflow.action(opener.action);
    !opener.result_wanted && opener.gathered.is_empty() && matches!(opener.kind, ActionKind::Foreach { .. })
}

impl Opening {
    /// Marks the opening as free. The slots keep their memory for the next one.
    fn forget(&mut self) {
        let Opening { block, parent, index, remaining, phase, slots, opened } = self;
        *block = BlockIdx(0);
        *parent = None;
        *index = 0;
        *remaining = 0;
        *phase = OpeningPhase::Free;
        slots.clear();
        *opened = Timestamp::MIN;
    }
}

impl Default for Opening {
    /// A free opening.
    fn default() -> Opening {
        Opening {
            block: BlockIdx(0),
            parent: None,
            index: 0,
            remaining: 0,
            phase: OpeningPhase::Free,
            slots: Vec::new(),
            opened: Timestamp::MIN,
        }
    }
}

/// What an iteration contributes to its loop.
enum IterationResult {
    None,
    Output(Value),
    Attempt(Value),
}

/// The part of the response to a subscription that the request which ends it may need: the `Location`, and a body that is not
/// large. Only for a connector that is not told how to unsubscribe.
fn subscription(kind: &ActionKind, outcome: &Outcome) -> Option<Value> {
    let ActionKind::Effect { effect: EffectKind::ApiConnectionWebhook, inputs, .. } = kind else {
        return None;
    };
    if inputs.source_value().get("unsubscribe").is_some() {
        return None;
    }
    let outputs = outcome.outputs.as_ref()?;
    let headers = outputs.get("headers").and_then(Value::as_object);
    let location = headers.and_then(|headers| headers.get_ignore_case("Location")).cloned();
    let body = outputs.get("body").filter(|body| body.bytes() <= SUBSCRIPTION_BYTES_MAX).cloned();
    let headers = location.map(|location| Value::from(Object::single("Location".into(), location)));
    let parts = [("headers", headers), ("body", body)];
    let parts = parts.into_iter().filter_map(|(name, part)| Some((name, part?)));
    Some(parts.collect::<Object>().into())
}

/// The most bytes of a body that is kept with a subscription.
const SUBSCRIPTION_BYTES_MAX: u64 = 64 << 10;
