//! The pure machine: a state, the events that produced it, and the loop that performs the work that is ready.
//!
//! No clock, no I/O, no task. The shell (`engine`) and the simulation feed it commands and perform the effects that its
//! events request; the same code serves live runs, recovery and tests.

use std::{collections::VecDeque, sync::Arc};

use loom_definition::{
    RunStatus, Workflow,
    model::{ActionKind, EffectKind},
    policy::RetrySetting,
};
use loom_expression::Value;

use crate::{
    call_kinds::is_webhook,
    clock::Now,
    decide::{Decider, Planned},
    environment::Environment,
    event::{Command, EffectId, Event, Phase, Place, RunStart},
    live::Live,
    live_text::Show,
    memory,
    patience::UNLIMITED,
    ports::{Call, CallMemory, Secret},
    presence::Presence,
    random,
    reads::Use,
    script,
    slice::{EventsUntil, Pace, Progress, Slice},
    state::RunState,
    trace::RunTrace,
    turn,
};

/// The same for every attempt at one occurrence of an action: `run id / action / iterations of the enclosing loops`.
fn idempotency_key(state: &RunState, start: &RunStart, place: Place) -> Arc<str> {
    Arc::from(format!("{}/{}", start.run, occurrence(state, place)))
}

/// `action / iterations of the enclosing loops`: identifies an occurrence of an action in its run.
pub(crate) fn occurrence(state: &RunState, place: Place) -> String {
    let mut key = state.workflow.action(place.action).name.to_string();
    for iteration in state.path(place.opening) {
        key.push('/');
        key.push_str(&iteration.index.to_string());
    }
    key
}

/// Most decisions produce at most this many events; capacity for them is reserved in advance.
const ROOM: usize = 4;

/// For a run that starts, capacity is reserved for one event of each action, up to this many actions.
const FIRST_ROOM: usize = 512;

/// A run as a pure state machine, with the events that have not been taken yet.
#[derive(Debug)]
pub struct Run {
    /// The same as the state's; a second reference, so that applying events need not clone the `Arc`.
    workflow: Arc<Workflow>,
    state: RunState,
    environment: Arc<Environment>,
    events: Vec<Event>,
    handed_out: usize,
    live: Live,
    /// Commands whose decisions need what has not been read, or take too long for the slice.
    undecided: VecDeque<Command>,
}

impl Run {
    /// A run of `workflow` that has not started.
    pub fn new(workflow: Arc<Workflow>, environment: Arc<Environment>) -> Run {
        Run::resume(RunState::new(workflow), environment)
    }

    /// A run that continues from a loaded state: a [`RunState::replay`] of its events, or a snapshot and the events after
    /// it. Calls that were in progress are in [`RunState::calls`].
    pub fn resume(state: RunState, environment: Arc<Environment>) -> Run {
        let workflow = Arc::clone(state.workflow());
        let most = environment.budgets.run_bytes_max;
        let mut live = Live::new(most);
        // Values that were loaded count from the start.
        if state.seq() > 0 {
            live.measure(&state, most);
        }
        Run {
            workflow,
            state,
            environment,
            events: Vec::new(),
            handed_out: 0,
            live,
            undecided: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The environment of its host.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// The call that an outstanding effect requests; none when nothing waits for it.
    pub fn call(&self, effect: EffectId) -> Option<Call> {
        let state = &self.state;
        let asked = state.effects.get(effect)?;
        let start = state.start.as_ref()?;
        let (inputs, resume, due) = if asked.phase == Phase::Unsubscribe {
            // The action has ended, and its place may have been reused.
            (asked.resume.clone().unwrap_or_default(), None, None)
        } else {
            let limit = state.activity(asked.place).and_then(|activity| activity.limit);
            let due = limit.and_then(|limit| state.timers.get(limit)).map(|timer| timer.due);
            (state.slot(asked.place).inputs.clone().unwrap_or_default(), asked.resume.clone(), due)
        };
        let (key, tracking_id) = match asked.phase {
            // An admission sends nothing, so it needs no idempotency key and no tracking id.
            Phase::Admit => (Arc::default(), Arc::default()),
            Phase::Unsubscribe => {
                let name = &state.workflow.action(asked.place.action).name;
                let key = format!("{}/{name}/unsubscribe/{}", start.run, effect.0);
                (Arc::from(key), random::tracking_id(state, asked.place))
            }
            Phase::Call | Phase::Subscribe | Phase::Approve => {
                (idempotency_key(state, start, asked.place), random::tracking_id(state, asked.place))
            }
        };
        let turn = match asked.phase {
            Phase::Call => turn::of(state, asked.place),
            Phase::Admit | Phase::Subscribe | Phase::Unsubscribe | Phase::Approve => None,
        };
        let key = match &turn {
            // Each turn is a request of its own.
            Some(turn) => format!("{key}/turn-{}", turn.number).into(),
            None => key,
        };
        let trace = match asked.phase {
            Phase::Admit | Phase::Approve => None,
            _ if !self.environment.traced => start.trace.clone(),
            // Its place may have been reused, so the enclosing iterations are not known.
            Phase::Unsubscribe => Some(RunTrace::of(start).handed_on(effect, &[])),
            Phase::Call | Phase::Subscribe => {
                Some(RunTrace::of(start).handed_on(effect, &state.path(asked.place.opening)))
            }
        };
        state.patience.begin(UNLIMITED);
        let context = match asked.phase {
            Phase::Call => script::context(state, &self.environment, asked.place, &inputs),
            Phase::Admit | Phase::Subscribe | Phase::Unsubscribe | Phase::Approve => None,
        };
        let callback = (asked.phase == Phase::Subscribe).then(|| {
            let first = state.activity(asked.place)?.call.as_ref()?.first_effect;
            let callbacks = self.environment.callbacks.as_ref()?;
            Some(Arc::from(callbacks.url(start.run, first)))
        });
        Some(Call {
            run: start.run,
            workflow: Arc::clone(&state.workflow),
            action: asked.place.action,
            effect,
            phase: asked.phase,
            attempt: asked.attempt,
            inputs,
            context,
            resume,
            idempotency_key: key,
            tracking_id: Arc::clone(&start.tracking_id),
            action_tracking_id: tracking_id,
            trace,
            callback: callback.flatten(),
            due,
            depth: start.depth,
            turn: turn.map(Box::new),
            show: Show::default(),
            presence: Presence::default(),
            memory: CallMemory::default(),
        })
    }

    /// Handles a command and all the work that becomes ready because of it. A command that no longer applies (a call that
    /// was cancelled, a timer that was dropped) does nothing.
    pub fn handle(&mut self, command: Command, now: impl Into<Now>) {
        let now = now.into();
        self.accept(command, now, UNLIMITED);
        while self.advance(now, usize::MAX) {}
    }

    /// Like [`Run::handle`], but stops after about `budget` events; true when more work is ready. [`Run::advance`] does the
    /// rest.
    pub fn handle_some(&mut self, command: Command, now: impl Into<Now>, budget: usize) -> bool {
        let now = now.into();
        self.accept(command, now, UNLIMITED);
        self.advance(now, budget)
    }

    /// Like [`Run::handle`], but stops when the slice is over, or before a decision that takes too long for it.
    pub(crate) fn handle_in(&mut self, command: Command, now: Now, slice: &mut Slice<'_>) -> Progress {
        self.accept(command, now, slice.patience());
        self.advance_in(now, slice)
    }

    /// Decides a command at once, unless that needs what has not been read, or takes too long.
    #[inline]
    fn accept(&mut self, command: Command, now: Now, patience: u64) {
        if self.workflow.has_reads || !self.undecided.is_empty() {
            self.undecided.push_back(command);
            return;
        }
        // A command is large: it is not moved through a queue, and it is copied only if its decision evaluates something.
        let again = (patience != UNLIMITED && self.evaluates(&command)).then(|| command.clone());
        self.state.patience.begin(if again.is_some() { patience } else { UNLIMITED });
        let first = self.events.len();
        self.decider(now).command(command);
        if let Some(again) = again
            && self.state.patience.is_over()
        {
            // As if it had not been decided.
            self.events.truncate(first);
            self.undecided.push_back(again);
            return;
        }
        self.apply_from(first, now);
    }

    /// Whether the decision about a command may evaluate expressions.
    fn evaluates(&self, command: &Command) -> bool {
        match command {
            Command::EffectEnded { effect, .. } => self.state.effects.get(*effect).is_some_and(|asked| {
                let action = self.workflow.action(asked.place.action);
                action.tracked_properties.is_some()
                    || is_webhook(&action.kind)
                    || action.resilience.as_deref().is_some_and(|own| {
                        own.fallback.is_some() || matches!(own.retry, RetrySetting::Computed(..))
                    })
            }),
            Command::TimerFired(_) | Command::Callback { .. } | Command::Cancel | Command::TimeOut => true,
            Command::Start(_)
            | Command::Accept(_)
            | Command::Admit
            | Command::EffectNoted { .. }
            | Command::Suspend
            | Command::Resume => false,
        }
    }

    /// Performs the work that is ready, up to about `budget` events. True when more is ready; false also when the run cannot
    /// continue before secrets have been read, see [`Run::lacks_reads`].
    pub fn advance(&mut self, now: impl Into<Now>, budget: usize) -> bool {
        let until = self.events.len().saturating_add(budget);
        self.make_decisions(now.into(), &mut EventsUntil(until)) != Progress::Idle
    }

    /// Performs the work that is ready until the slice is over, or up to a decision that takes too long for it.
    pub(crate) fn advance_in(&mut self, now: Now, slice: &mut Slice<'_>) -> Progress {
        self.make_decisions(now, slice)
    }

    fn make_decisions(&mut self, now: Now, pace: &mut impl Pace) -> Progress {
        let patience = pace.patience();
        if self.live.is_due() {
            // It has to be measured, which takes as long as the state is large.
            if patience != UNLIMITED {
                return Progress::Long;
            }
            self.state.patience.begin(UNLIMITED);
            self.bound_values(now);
        }
        while let Some(command) = self.undecided.pop_front() {
            if let Err(stopped) = self.decide_command(command, now, patience) {
                return stopped;
            }
        }
        if self.lacks_reads() {
            return Progress::Idle;
        }
        let mut steps = 0;
        while pace.goes_on(steps, self.events.len()) {
            if self.state.status != RunStatus::Running {
                return Progress::Idle;
            }
            let Some(work) = self.state.ready.pop_front() else { return Progress::Idle };
            if !self.state.is_current(work) {
                continue;
            }
            let first = self.events.len();
            self.state.patience.begin(patience);
            self.decider(now).work(work);
            if self.state.patience.is_over() || self.lacks_reads() {
                // As if it had not been decided.
                self.events.truncate(first);
                self.state.ready.push_front(work);
                return if self.state.patience.is_over() { Progress::Long } else { Progress::Idle };
            }
            steps = self.state.patience.spent();
            if self.apply_from(first, now) {
                return Progress::More;
            }
        }
        Progress::More
    }

    /// Decides what follows from a command.
    ///
    /// # Errors
    /// How far the run gets before secrets have been read, or the decision may take longer; the command is undecided.
    fn decide_command(&mut self, command: Command, now: Now, patience: u64) -> Result<(), Progress> {
        if self.lacks_reads() {
            self.undecided.push_front(command);
            return Err(Progress::Idle);
        }
        let first = self.events.len();
        let again = command.clone();
        let writes = self.workflow.has_reads && self.ends_write(&again);
        self.state.patience.begin(patience);
        self.decider(now).command(command);
        if self.state.patience.is_over() || self.lacks_reads() {
            // As if it had not been decided.
            self.events.truncate(first);
            self.undecided.push_front(again);
            return Err(if self.state.patience.is_over() { Progress::Long } else { Progress::Idle });
        }
        if writes {
            // What follows reads what was written.
            self.state.reads.forget_memory();
        }
        self.apply_from(first, now);
        Ok(())
    }

    /// Whether the run cannot continue before secrets have been read: [`Run::missing_secrets`].
    pub fn lacks_reads(&mut self) -> bool {
        self.workflow.has_reads && self.state.reads.is_incomplete()
    }

    /// The names of the secrets to read next. Each result has to be passed to [`Run::provide`] before the run advances.
    pub fn missing_secrets(&mut self) -> Vec<Arc<str>> {
        self.state.reads.take_missing()
    }

    /// Provides the result of reading a secret, which is used until [`Run::forget_reads`]. Returns the value, as expressions
    /// see it.
    pub fn provide(&mut self, name: Arc<str>, read: &Result<Secret, String>) -> Option<Value> {
        let value = self.state.reads.provide(name, read);
        if let Some(value) = &value {
            self.environment.masker.learn(value);
        }
        value
    }

    /// The secrets that were used since the last call.
    pub(crate) fn take_uses(&mut self) -> Vec<Use> {
        self.state.reads.take_uses()
    }

    /// Whether a command ends a `Memory` action.
    fn ends_write(&self, command: &Command) -> bool {
        let Command::EffectEnded { effect, .. } = command else { return false };
        let Some(call) = self.state.effects.get(*effect) else { return false };
        let kind = &self.workflow.action(call.place.action).kind;
        matches!(kind, ActionKind::Effect { effect: EffectKind::Memory, .. })
    }

    /// The addresses of shared memory to read next. Each result has to be passed to [`Run::provide_memory`] before the run
    /// advances.
    pub(crate) fn missing_memory(&mut self) -> Vec<Arc<str>> {
        self.state.reads.take_missing_memory()
    }

    /// Provides what was read at an address of shared memory, which is used until [`Run::forget_reads`].
    pub(crate) fn provide_memory(&mut self, address: Arc<str>, read: Result<memory::Read, Arc<str>>) {
        self.state.reads.provide_memory(address, read);
    }

    /// Drops what has been read: later decisions read the versions that are current then.
    pub fn forget_reads(&mut self) {
        self.state.reads.forget();
    }

    /// Why a call cannot be made: it needs a secret that can no longer be read.
    pub(crate) fn unavailable(&self, call: &Call) -> Option<&Arc<str>> {
        let values = [Some(&call.inputs), call.context.as_ref(), call.resume.as_ref()];
        values.into_iter().flatten().find_map(|value| self.state.unavailable.reason_in(value))
    }

    /// Whether a decision about a command needs what has not been read, or takes too long for the slice.
    pub(crate) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Whether [`Run::advance`] would do anything.
    pub(crate) fn has_work(&self) -> bool {
        self.has_undecided() || (self.state.status == RunStatus::Running && !self.state.ready.is_empty())
    }

    #[inline]
    fn decider(&mut self, now: Now) -> Decider<'_> {
        if self.events.capacity() - self.events.len() < ROOM {
            self.reserve();
        }
        Decider {
            state: &self.state,
            environment: &self.environment,
            now: now.run,
            wall: now.wall,
            out: &mut self.events,
            planned: Planned::default(),
        }
    }

    /// Reserves in coarse steps: moving the existing events costs more than memory that is not touched yet.
    #[inline(never)]
    fn reserve(&mut self) {
        let actions = self.workflow.actions.len();
        let first = if self.state.seq() == 0 && actions > ROOM { actions.min(FIRST_ROOM) } else { 0 };
        self.events.reserve(first + 2 * ROOM + 3 * self.events.len());
    }

    /// Applies the events from `first` on. True when the events should be taken before more work is done.
    #[expect(
        clippy::inline_always,
        reason = "a call would cost a tenth of what follows from an item of work"
    )]
    #[inline(always)]
    fn apply_from(&mut self, first: usize, now: Now) -> bool {
        let events = &self.events[first..];
        let mut bytes = 0_u64;
        for event in events {
            // What is written now must be readable after a crash.
            debug_assert_eq!(self.state.check(event), Ok(()), "{event:?}");
            let added = self.state.apply(&self.workflow, event);
            if added > 0 {
                bytes = bytes.saturating_add(added);
            }
        }
        self.live.count(events.len(), bytes) && self.bound_values(now)
    }

    /// A limit of the count of values is reached: ends the run if its values exceed the `run_bytes_max` budget. True when
    /// the events should be taken before more work is done.
    #[cold]
    fn bound_values(&mut self, now: Now) -> bool {
        let most = self.environment.budgets.run_bytes_max;
        if self.state.patience.is_limited() && self.live.is_due() {
            // Measured before the next decision.
            return true;
        }
        if self.live.is_due()
            && self.live.measure(&self.state, most) > most
            && self.state.status == RunStatus::Running
        {
            let first = self.events.len();
            self.state.patience.begin(UNLIMITED);
            self.decider(now).exceed(most);
            for event in &self.events[first..] {
                self.state.apply(&self.workflow, event);
            }
        }
        self.live.is_full()
    }

    /// Records what is known about a call. Nothing follows from that.
    pub(crate) fn note(&mut self, note: Command, now: Now) {
        self.accept(note, now, UNLIMITED);
    }

    /// The size of the heap data of the values in events that have not been taken, in bytes: an upper bound.
    pub(crate) fn heap_bytes_of_events(&mut self) -> u64 {
        self.live.kept_heap(self.events.len())
    }

    /// The events since the last call, oldest first.
    pub fn new_events(&mut self) -> &[Event] {
        self.live.taken();
        let first = std::mem::replace(&mut self.handed_out, self.events.len());
        &self.events[first..]
    }

    /// Takes all events that are still here, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.handed_out = 0;
        self.live.taken();
        std::mem::take(&mut self.events)
    }

    /// All events that have not been taken, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}
