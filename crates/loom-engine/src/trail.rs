//! The trail of a run: which place each event belongs to.
//!
//! Events refer to openings, calls and timers by number. The trail remembers what the numbers mean, so that an event can be shown
//! with its action, the iterations of the enclosing loops, its attempt and its time. It is the fold of the events before it, and
//! small: what has ended leaves it. The journal stores it at intervals (a *waymark*), so that a reader can begin in the middle.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use loom_definition::Workflow;
use loom_expression::Timestamp;

use crate::{
    event::{EffectId, Event, Next, OpeningId, Phase, Place, TimerId},
    illegal::IllegalEvent,
    path::{Iteration, Path},
    state::RunState,
};

static NO_ITERATIONS: LazyLock<Path> = LazyLock::new(|| Arc::from([]));

/// What is known about an event from the events before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its number in the history of the run, from 1.
    pub seq: u64,
    /// Its time, or that of the last event that has one.
    pub at: Timestamp,
    /// The action that it belongs to. For an opening, the action that opened it.
    pub place: Option<Place>,
    /// The iterations around that action. Empty for the end of an unsubscription, whose place may have been reused.
    pub path: Path,
    /// The number of the attempt that the event belongs to, if it is one of a call that has not ended.
    pub attempt: Option<u32>,
    /// The call that the event begins, ends or notes. For the end of an action, its call that ends with it.
    pub effect: Option<EffectId>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trail {
    workflow: Arc<Workflow>,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) openings: BTreeMap<OpeningId, Opened>,
    pub(crate) calls: BTreeMap<EffectId, Called>,
    pub(crate) timers: BTreeMap<TimerId, Place>,
    /// The calls and timers of each action that end with it.
    unfinished: HashMap<Place, Vec<Unfinished>>,
}

/// An opening of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The action that opened it.
    pub(crate) parent: Option<Place>,
    /// The iterations around the actions of the block.
    pub(crate) path: Path,
}

/// A call that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) place: Place,
    pub(crate) attempt: u32,
    /// A request to unsubscribe outlives its place.
    pub(crate) outlives: bool,
}

#[derive(Clone, Copy, Debug)]
enum Unfinished {
    Call(EffectId),
    Timer(TimerId),
}

impl PartialEq for Trail {
    fn eq(&self, other: &Trail) -> bool {
        // What is unfinished follows from the calls and timers.
        self.seq == other.seq
            && self.at == other.at
            && self.openings == other.openings
            && self.calls == other.calls
            && self.timers == other.timers
    }
}

impl Trail {
    /// The trail of a run that has not started.
    pub fn new(workflow: Arc<Workflow>) -> Trail {
        Trail {
            workflow,
            seq: 0,
            at: Timestamp::MIN,
            openings: BTreeMap::new(),
            calls: BTreeMap::new(),
            timers: BTreeMap::new(),
            unfinished: HashMap::new(),
        }
    }

    /// The trail of a run in this state, whose last event with a time was at `at`.
    pub fn of_state(state: &RunState, at: Timestamp) -> Trail {
        let mut trail = Trail { seq: state.seq(), at, ..Trail::new(Arc::clone(state.workflow())) };
        for (opening, parent, _) in state.openings() {
            trail.openings.insert(opening, Opened { parent, path: state.path(opening).into() });
        }
        for (effect, call) in state.calls() {
            trail.call(effect, call.place, call.attempt, call.phase);
        }
        for (place, attempt, effect) in state.admissions() {
            trail.call(effect, place, attempt, Phase::Admit);
        }
        for (timer, set) in state.timers() {
            trail.timer(timer, set.place);
        }
        trail
    }

    /// The number of events so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The iterations around the actions of an opening.
    pub fn path(&self, opening: OpeningId) -> Path {
        self.openings
            .get(&opening)
            .map_or_else(|| Arc::clone(&NO_ITERATIONS), |opened| Arc::clone(&opened.path))
    }

    /// The action that opened a block; none for the block of the workflow.
    pub fn parent(&self, opening: OpeningId) -> Option<Place> {
        self.openings.get(&opening)?.parent
    }

    /// The definition of the run.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// Follows one more event.
    ///
    /// # Errors
    /// The event refers to something that the definition does not have.
    pub fn follow(&mut self, event: &Event) -> Result<Step, IllegalEvent> {
        event.check_references(&self.workflow, self.seq + 1)?;
        self.seq += 1;
        if let Some(at) = event.at() {
            self.at = at;
        }
        let mut step = Step {
            seq: self.seq,
            at: self.at,
            place: None,
            path: Arc::clone(&NO_ITERATIONS),
            attempt: None,
            effect: None,
        };
        match event {
            Event::RunStarted { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. }
            | Event::RunWaiting { .. }
            | Event::RunAdmitted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::RunEnded { .. } => {}
            Event::BlockOpened { opening, parent, index, .. } => {
                let mut path = Arc::clone(&NO_ITERATIONS);
                if let Some(parent) = parent {
                    path = self.inside(*parent, *index);
                    self.at_place(*parent, &mut step);
                }
                self.openings.insert(*opening, Opened { parent: *parent, path });
            }
            Event::ActionStarted { place, .. }
            | Event::LoopStarted { place, .. }
            | Event::Responded { place, .. }
            | Event::Tracked { place, .. } => self.at_place(*place, &mut step),
            Event::AttemptStarted { place, attempt, effect, phase, .. } => {
                self.call(*effect, *place, *attempt, *phase);
                step.attempt = Some(*attempt);
                step.effect = Some(*effect);
                self.at_place(*place, &mut step);
            }
            Event::AttemptNoted { effect, .. } => {
                step.effect = Some(*effect);
                if let Some(called) = self.calls.get(effect).copied() {
                    self.at_call(called, &mut step);
                }
            }
            Event::AttemptEnded { place, effect, next, .. } => {
                step.effect = Some(*effect);
                let called = match next {
                    // What the admitted action does is noted for the attempt that admitted it.
                    Next::Execute => self.calls.get(effect).copied(),
                    Next::Retry { .. }
                    | Next::Poll { .. }
                    | Next::Callback
                    | Next::Proceed
                    | Next::End
                    | Next::Turn { .. } => self.calls.remove(effect),
                };
                match called {
                    Some(called) => self.at_call(called, &mut step),
                    None => self.at_place(*place, &mut step),
                }
            }
            Event::TimerSet { timer, place, .. } => {
                self.timer(*timer, *place);
                self.at_place(*place, &mut step);
            }
            Event::TimerEnded { timer } => {
                if let Some(place) = self.timers.remove(timer) {
                    self.at_place(place, &mut step);
                }
            }
            Event::ActionEnded { place, .. } => {
                self.at_place(*place, &mut step);
                for unfinished in self.unfinished.remove(place).unwrap_or_default() {
                    match unfinished {
                        Unfinished::Call(effect) => {
                            if self.calls.remove(&effect).is_some() {
                                step.effect = Some(effect);
                            }
                        }
                        Unfinished::Timer(timer) => drop(self.timers.remove(&timer)),
                    }
                }
            }
        }
        Ok(step)
    }

    /// The iterations around the actions of a block that `parent` opens.
    fn inside(&self, parent: Place, index: u32) -> Path {
        let around = self.path(parent.opening);
        if !self.workflow.action(parent.action).kind.repeats() {
            return around;
        }
        around.iter().copied().chain([Iteration { action: parent.action, index }]).collect()
    }

    fn at_place(&self, place: Place, step: &mut Step) {
        step.place = Some(place);
        step.path = self.path(place.opening);
    }

    fn at_call(&self, called: Called, step: &mut Step) {
        step.attempt = Some(called.attempt);
        step.place = Some(called.place);
        if !called.outlives {
            step.path = self.path(called.place.opening);
        }
    }

    pub(crate) fn call(&mut self, effect: EffectId, place: Place, attempt: u32, phase: Phase) {
        let outlives = phase == Phase::Unsubscribe;
        self.calls.insert(effect, Called { place, attempt, outlives });
        if !outlives {
            self.unfinished.entry(place).or_default().push(Unfinished::Call(effect));
        }
    }

    pub(crate) fn timer(&mut self, timer: TimerId, place: Place) {
        self.timers.insert(timer, place);
        self.unfinished.entry(place).or_default().push(Unfinished::Timer(timer));
    }
}
