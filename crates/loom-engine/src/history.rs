//! A run's history for display: every occurrence of every action, with its attempts and notes, folded from the events. A
//! reader of one page keeps only that page in memory.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use loom_definition::{ActionIdx, RunStatus, Status, Workflow, model::ActionKind};
use loom_expression::{MASK, Timestamp, Value};

use crate::{
    event::{Code, EffectId, ErrorInfo, Event, Next, Note, Outcome, Phase, Place, RunStart},
    illegal::IllegalEvent,
    record::{self, Unopened},
    run_report::RunReport,
    trail::Trail,
};

pub use crate::path::Iteration;

/// The history of a run: the occurrences of each action.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct History {
    workflow: Arc<Workflow>,
    /// By action.
    actions: Vec<Occurrences>,
    trail: Trail,
    current: HashMap<Place, (ActionIdx, usize)>,
    /// How many occurrences have begun that were not only skipped.
    begun: usize,
    /// The first occurrence that failed. It is inside of those that failed because of it, which end later.
    first_failure: Option<(ActionIdx, usize)>,
    /// The occurrence that each call belongs to; its place may be reused before the call ends.
    effects: HashMap<EffectId, (ActionIdx, usize)>,
    /// What the run was started from.
    pub start: Option<Arc<RunStart>>,
    /// The run's status.
    pub status: RunStatus,
    /// Whether it waits for the concurrency limit of its trigger.
    waits: bool,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The error, if it ended with one.
    pub error: Option<Arc<ErrorInfo>>,
    /// The workflow's outputs.
    pub outputs: Option<Value>,
    /// The response sent to the caller.
    pub response: Option<Value>,
}

/// Which occurrences of an action a history keeps after they have ended. The others are only counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Those with these numbers, which count from 0 in the order in which the action's occurrences started.
    Numbers(Range<usize>),
    /// Of those that failed, the first `count` with a number of at least `from`.
    Failed {
        /// The least number.
        from: usize,
        /// The most occurrences that are kept.
        count: usize,
    },
    /// Those at these positions, which count from 0 in the order in which the occurrences of all actions started. What was
    /// skipped has no position.
    Positions(Range<usize>),
}

impl From<Range<usize>> for Window {
    fn from(numbers: Range<usize>) -> Window {
        Window::Numbers(numbers)
    }
}

/// The occurrences of one action, numbered from 0 in the order in which they started.
#[derive(Clone, Debug)]
struct Occurrences {
    window: Window,
    /// Those in the window, by number.
    kept: Vec<Occurrence>,
    /// Those outside the window that have not ended.
    under_way: HashMap<usize, Occurrence>,
    begun: usize,
    /// How many ended with each status, in the order of [`Status::ALL`].
    ended: [usize; Status::ALL.len()],
    /// The final status of the last one to start, if it has ended.
    last: Option<Status>,
    /// The least number of one that failed.
    first_failed: Option<usize>,
    /// The nearest numbers before and after a window of numbers of those that failed.
    failed_around: (Option<usize>, Option<usize>),
}

impl Occurrences {
    fn new(window: Window) -> Occurrences {
        Occurrences {
            window,
            kept: Vec::new(),
            under_way: HashMap::new(),
            begun: 0,
            ended: [0; Status::ALL.len()],
            last: None,
            first_failed: None,
            failed_around: (None, None),
        }
    }

    fn begin(&mut self, occurrence: Occurrence) -> usize {
        let number = self.begun;
        self.begun += 1;
        self.last = None;
        let is_kept = match &self.window {
            Window::Numbers(numbers) => numbers.contains(&number),
            Window::Positions(positions) => {
                occurrence.position.is_some_and(|position| positions.contains(&position))
            }
            Window::Failed { .. } => false,
        };
        if is_kept {
            self.kept.push(occurrence);
        } else {
            self.under_way.insert(number, occurrence);
        }
        number
    }

    /// None when it has ended and is not kept.
    fn get_mut(&mut self, number: usize) -> Option<&mut Occurrence> {
        if let Window::Numbers(numbers) = &self.window
            && numbers.contains(&number)
        {
            return self.kept.get_mut(number - numbers.start);
        }
        match self.kept.binary_search_by_key(&number, |occurrence| occurrence.number) {
            Ok(place) => self.kept.get_mut(place),
            Err(_) => self.under_way.get_mut(&number),
        }
    }

    fn end(&mut self, number: usize, status: Status) {
        if let Some(place) = Status::ALL.iter().position(|known| *known == status) {
            self.ended[place] += 1;
        }
        if number + 1 == self.begun {
            self.last = Some(status);
        }
        let ended = self.under_way.remove(&number);
        if status.is_failure() {
            self.failed(number, ended);
        }
    }

    fn failed(&mut self, number: usize, occurrence: Option<Occurrence>) {
        let lesser = |known: Option<usize>| Some(known.map_or(number, |known| known.min(number)));
        self.first_failed = lesser(self.first_failed);
        match &self.window {
            Window::Numbers(numbers) if number < numbers.start => {
                self.failed_around.0 = self.failed_around.0.max(Some(number));
            }
            Window::Numbers(numbers) if number >= numbers.end => {
                self.failed_around.1 = lesser(self.failed_around.1);
            }
            Window::Numbers(_) | Window::Positions(_) => {}
            Window::Failed { from, count } => {
                if let Some(occurrence) = occurrence.filter(|_| number >= *from) {
                    let place = self.kept.partition_point(|kept| kept.number < number);
                    self.kept.insert(place, occurrence);
                    self.kept.truncate(*count);
                }
            }
        }
    }
}

/// One execution of an action, or one time it was skipped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Occurrence {
    /// Its number among those of its action, from 0 in the order in which they started.
    pub number: usize,
    /// Its position among those of all actions; none if it was skipped.
    pub position: Option<usize>,
    /// Iterations of the enclosing loops, outermost first.
    pub path: Vec<Iteration>,
    /// Its final status; none while it is running.
    pub status: Option<Status>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its code.
    pub code: Code,
    /// The error, if it ended with one.
    pub error: Option<Arc<ErrorInfo>>,
    /// Its inputs, if it has any.
    pub inputs: Option<Value>,
    /// Its outputs, if it has any.
    pub outputs: Option<Value>,
    /// Calls made for it, in order.
    pub attempts: Vec<Attempt>,
    /// Its tracked properties.
    pub tracked: Option<Value>,
}

/// One call made for an action.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt, from 1; polls of one attempt share its number.
    pub number: u32,
    /// The part of the action.
    pub phase: Phase,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its result, unless that is the result of the action.
    pub outcome: Option<Outcome>,
    /// When the next one starts, if there is one.
    pub next_due: Option<Timestamp>,
    /// What happened during it.
    pub notes: Vec<Note>,
}

impl History {
    /// The history of a run that has not started.
    pub fn new(workflow: Arc<Workflow>) -> History {
        History::within(workflow, |_| 0..usize::MAX)
    }

    /// Like [`History::new`], but limited to a part: for each action, only the occurrences in a window are kept; the others are
    /// only counted.
    pub fn within<W: Into<Window>>(workflow: Arc<Workflow>, window: impl Fn(ActionIdx) -> W) -> History {
        let actions =
            workflow.actions.iter().map(|action| Occurrences::new(window(action.index).into())).collect();
        History {
            trail: Trail::new(Arc::clone(&workflow)),
            workflow,
            actions,
            current: HashMap::new(),
            begun: 0,
            first_failure: None,
            effects: HashMap::new(),
            start: None,
            status: RunStatus::Waiting,
            waits: false,
            started: Timestamp::MIN,
            ended: None,
            error: None,
            outputs: None,
            response: None,
        }
    }

    /// The workflow.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// How the run ended; none while it has not ended.
    pub fn report(&self) -> Option<RunReport> {
        let start = self.start.as_ref().filter(|_| self.status.is_final())?;
        Some(RunReport {
            id: start.run,
            status: self.status,
            error: self.error.clone(),
            outputs: self.outputs.clone(),
            response: self.response.clone(),
        })
    }

    /// The occurrences of an action that are kept, in the order in which they started. Empty for an action inside a block
    /// that was never opened; see [`History::status_of`].
    pub fn occurrences(&self, action: ActionIdx) -> &[Occurrence] {
        &self.actions[action.0 as usize].kept
    }

    /// How often an action started or was skipped.
    pub fn occurrence_count(&self, action: ActionIdx) -> usize {
        self.actions[action.0 as usize].begun
    }

    /// How many occurrences of an action ended with each status.
    pub fn occurrence_statuses(&self, action: ActionIdx) -> impl Iterator<Item = (Status, usize)> {
        Status::ALL.into_iter().zip(self.actions[action.0 as usize].ended)
    }

    /// The worst status of the occurrences of an action that have ended, by [`Status::WORST_FIRST`].
    pub fn worst_status(&self, action: ActionIdx) -> Option<Status> {
        let ended =
            |status: &Status| self.occurrence_statuses(action).any(|(of, count)| of == *status && count > 0);
        Status::WORST_FIRST.into_iter().find(ended)
    }

    /// The least number of an occurrence of an action that failed.
    pub fn first_failed(&self, action: ActionIdx) -> Option<usize> {
        self.actions[action.0 as usize].first_failed
    }

    /// The numbers of the occurrences of an action that failed and are nearest to a window of numbers: before it and after it.
    pub fn failed_around(&self, action: ActionIdx) -> (Option<usize>, Option<usize>) {
        self.actions[action.0 as usize].failed_around
    }

    /// The first occurrence that failed in the run: its action and its number. Those of the scopes and loops around it, which
    /// fail because of it, come later.
    pub fn first_failure(&self) -> Option<(ActionIdx, usize)> {
        self.first_failure
    }

    /// How many occurrences of all actions have begun, without those that were only skipped.
    pub fn positions(&self) -> usize {
        self.begun
    }

    /// The status of an action as a whole: that of its last occurrence, or `Skipped` if its block ended without it or will
    /// never be opened. None while it may still run.
    pub fn status_of(&self, action: ActionIdx) -> Option<Status> {
        let own = &self.actions[action.0 as usize];
        if own.begun > 0 {
            return own.last;
        }
        let owner = self.workflow.block(self.workflow.action(action).block).owner;
        match owner {
            None => self.status.is_final().then_some(Status::Skipped),
            Some(owner) => self.status_of(owner).map(|_| Status::Skipped),
        }
    }

    /// The occurrences of an action by the iterations of its enclosing loops, including skipped ones: wherever the enclosing
    /// block was opened but the action's own block was not, the action counts as skipped. Requires a history that keeps all
    /// occurrences.
    pub fn records(&self, action: ActionIdx) -> Vec<Cow<'_, Occurrence>> {
        let mut records: Vec<Cow<'_, Occurrence>> =
            self.occurrences(action).iter().map(Cow::Borrowed).collect();
        let known: HashSet<&[Iteration]> =
            self.occurrences(action).iter().map(|occurrence| &*occurrence.path).collect();
        let block = self.workflow.block(self.workflow.action(action).block);
        let passed: Vec<Occurrence> = match block.owner {
            None if known.is_empty() && self.status.is_final() => {
                vec![self.never_opened(action, Vec::new(), None)]
            }
            None => Vec::new(),
            Some(owner) => {
                let repeats = self.workflow.action(owner).kind.repeats();
                let around = self.records(owner);
                // Iterations that a loop did not make have no records, but a skipped loop skips the actions inside it.
                let unreached = around.iter().filter(|record| match record.status {
                    None => false,
                    Some(status) => (!repeats || status == Status::Skipped) && !known.contains(&*record.path),
                });
                unreached.map(|owner| self.never_opened(action, owner.path.clone(), Some(owner))).collect()
            }
        };
        records.extend(passed.into_iter().map(Cow::Owned));
        records.sort_by(|left, right| left.path.cmp(&right.path));
        records
    }

    fn never_opened(
        &self,
        action: ActionIdx,
        path: Vec<Iteration>,
        owner: Option<&Occurrence>,
    ) -> Occurrence {
        let at = self.ended.unwrap_or(self.started);
        let unopened = owner
            .and_then(|owner| Some(Unopened::ended(owner.status?, &owner.code)))
            .unwrap_or(Unopened::SKIPPED);
        let terminated = owner.is_some_and(|owner| owner.code == "Terminated");
        let error = record::skip_error_of_unopened(&self.workflow, self.workflow.action(action), &unopened);
        Occurrence {
            number: 0,
            position: None,
            path,
            status: Some(Status::Skipped),
            started: at,
            ended: Some(at),
            code: Code::Borrowed(if terminated { "Terminated" } else { "ActionSkipped" }),
            error: Some(Arc::new(error)),
            inputs: None,
            outputs: None,
            attempts: Vec::new(),
            tracked: None,
        }
    }

    /// The trail of the events so far.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Applies further events of a run in progress.
    pub fn extend<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            // The events of a run in progress refer to its own definition.
            if self.trail.follow(event).is_ok() {
                self.push(event);
            }
        }
    }

    /// Applies further events that were read from a journal.
    pub(crate) fn replay(&mut self, events: &[Event]) -> Result<(), IllegalEvent> {
        for event in events {
            self.trail.follow(event)?;
            self.push(event);
        }
        Ok(())
    }

    fn push(&mut self, event: &Event) {
        match event {
            Event::RunStarted { start, at } => {
                self.start = Some(Arc::clone(start));
                self.started = *at;
                self.status = RunStatus::Running;
            }
            Event::BlockOpened { opening, .. } => {
                // The id may have belonged to another opening before.
                self.current.retain(|place, _| place.opening != *opening);
            }
            Event::ActionStarted { place, at, inputs } => {
                let Some(occurrence) = self.occurrence(*place, *at, true) else { return };
                if inputs.is_some() {
                    occurrence.inputs.clone_from(inputs);
                }
            }
            Event::LoopStarted { .. }
            | Event::TimerSet { .. }
            | Event::TimerEnded { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. } => {}
            Event::AttemptStarted { place, attempt, effect, phase, at, .. } => {
                let attempt = Attempt {
                    number: *attempt,
                    phase: *phase,
                    started: *at,
                    ended: None,
                    outcome: None,
                    next_due: None,
                    notes: Vec::new(),
                };
                if let Some(occurrence) = self.occurrence(*place, *at, true) {
                    occurrence.attempts.push(attempt);
                    self.effects.insert(*effect, self.current[place]);
                }
            }
            Event::AttemptNoted { effect, note, .. } => {
                if let Some(attempt) = self.attempt(*effect) {
                    attempt.notes.push(note.clone());
                }
            }
            Event::AttemptEnded { effect, outcome, next, at, .. } => {
                if let Some(attempt) = self.attempt(*effect) {
                    attempt.ended = Some(*at);
                    attempt.outcome = Some(outcome.clone());
                    attempt.next_due = match next {
                        Next::Retry { due } | Next::Poll { due, .. } => Some(*due),
                        Next::Callback | Next::Execute | Next::Proceed | Next::End | Next::Turn { .. } => {
                            None
                        }
                    };
                }
                // What an admitted action does is recorded with the attempt that admitted it.
                if !matches!(next, Next::Execute) {
                    self.effects.remove(effect);
                }
            }
            Event::Responded { response, .. } => self.response = Some(response.clone()),
            Event::ActionEnded { place, started, at, inputs, outcome } => {
                self.end(*place, *started, *at, inputs.as_ref(), outcome);
            }
            Event::Tracked { place, properties } => {
                if let Some(occurrence) = self.occurrence(*place, Timestamp::MIN, true) {
                    occurrence.tracked = Some(properties.clone());
                }
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
                self.error.clone_from(error);
                self.outputs.clone_from(outputs);
                self.ended = Some(*at);
            }
        }
    }

    fn attempt(&mut self, effect: EffectId) -> Option<&mut Attempt> {
        let (action, number) = *self.effects.get(&effect)?;
        self.actions[action.0 as usize].get_mut(number)?.attempts.last_mut()
    }

    /// The current occurrence at a place; none when it has ended and is not kept. `is_executed` is false for one that begins
    /// and ends by being skipped.
    fn occurrence(&mut self, place: Place, at: Timestamp, is_executed: bool) -> Option<&mut Occurrence> {
        let list = &mut self.actions[place.action.0 as usize];
        let (_, number) = *self.current.entry(place).or_insert_with(|| {
            let position = is_executed.then_some(self.begun);
            self.begun += usize::from(is_executed);
            let number = list.begin(Occurrence {
                number: list.begun,
                position,
                path: self.trail.path(place.opening).to_vec(),
                status: None,
                started: at,
                ended: None,
                code: Code::Borrowed(""),
                error: None,
                inputs: None,
                outputs: None,
                attempts: Vec::new(),
                tracked: None,
            });
            (place.action, number)
        });
        list.get_mut(number)
    }

    fn end(
        &mut self,
        place: Place,
        started: Timestamp,
        at: Timestamp,
        inputs: Option<&Value>,
        outcome: &Outcome,
    ) {
        let workflow = Arc::clone(&self.workflow);
        let computes = matches!(workflow.action(place.action).kind, ActionKind::Compose { .. });
        let is_executed = outcome.status != Status::Skipped;
        let Some(occurrence) = self.occurrence(place, started, is_executed) else { return };
        occurrence.status = Some(outcome.status);
        occurrence.started = started;
        occurrence.ended = Some(at);
        occurrence.code.clone_from(&outcome.code);
        occurrence.error.clone_from(&outcome.error);
        occurrence.outputs.clone_from(&outcome.outputs);
        if let Some(inputs) = inputs {
            occurrence.inputs = Some(inputs.clone());
        } else if computes {
            occurrence.inputs.clone_from(&outcome.outputs);
        }
        if let Some(attempt) = occurrence.attempts.last_mut()
            && attempt.ended.is_none()
        {
            attempt.ended = Some(at);
        }
        let (action, number) = self.current[&place];
        self.actions[action.0 as usize].end(number, outcome.status);
        if outcome.status.is_failure() {
            self.first_failure.get_or_insert((action, number));
        }
    }
}

impl Occurrence {
    /// Its duration; until `now` if it is still running.
    pub fn took(&self, now: Timestamp) -> Duration {
        crate::time::between(self.started, self.ended.unwrap_or(now))
    }

    /// Its outputs, or a mask if `secure` is set because its definition declares them secret.
    pub fn shown_outputs(&self, secure: bool) -> Option<Value> {
        if secure { self.outputs.as_ref().map(|_| Value::from(MASK)) } else { self.outputs.clone() }
    }
}
