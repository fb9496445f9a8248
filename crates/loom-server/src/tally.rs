//! Counts runs, actions and calls to services since the process started.
//!
//! Runs are counted by workflow, actions by type, calls by service. Definitions choose these names, so the number of names of each
//! kind is limited; everything beyond the limit is counted under [`OTHER`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use loom_definition::{RunStatus, Status, Workflow};
use loom_engine::{
    Event, RunState,
    event::{FALLBACK, Next, Note, Phase},
};
use loom_expression::Timestamp;
use loom_resilience::{Event as ServiceEvent, Observer, Part, TracingObserver};
use tokio::sync::Notify;

/// The maximum number of names of each kind.
pub(crate) const NAMES_MAX: usize = 200;

/// The name under which everything beyond [`NAMES_MAX`] is counted.
pub(crate) const OTHER: &str = "_other";

/// The maximum number of definitions whose counters are cached.
const CACHE_MAX: usize = 1_024;

/// The upper bounds of the buckets of [`Durations`], in milliseconds.
pub(crate) const ENDS_MS: [u64; 15] =
    [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 600_000, 3_600_000];

/// The parts that report to [`Observer`] what they would have done in observe mode.
const OF_SERVICES: [&str; 4] =
    [Part::Breaker.as_str(), Part::Limiter.as_str(), Part::Bulkhead.as_str(), Part::AttemptTimeout.as_str()];

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By the address of the definition, which is held so that the address is not reused.
    known: RwLock<HashMap<usize, Arc<Known>>>,
    pub(crate) workflows: Mutex<Named<RunCounts>>,
    pub(crate) types: Mutex<Named<ActionCounts>>,
    pub(crate) services: Mutex<Named<Mutex<ServiceCounts>>>,
    /// Requests over connections, by what they are for.
    pub(crate) requests: Mutex<Named<RequestCounts>>,
    /// Notified whenever a circuit changes.
    pub(crate) circuit_changed: Notify,
}

/// The counters of one definition.
#[derive(Debug)]
struct Known {
    _definition: Arc<Workflow>,
    runs: Arc<RunCounts>,
    /// By the index of the action.
    actions: Vec<Arc<ActionCounts>>,
}

/// Counters by name, limited in number.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) BTreeMap<Arc<str>, Arc<T>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(BTreeMap::new())
    }
}

impl<T: Default> Named<T> {
    pub(crate) fn of(&mut self, name: &str) -> Arc<T> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name = if self.0.len() < NAMES_MAX { name } else { OTHER };
        Arc::clone(self.0.entry(Arc::from(name)).or_default())
    }
}

#[derive(Debug, Default)]
pub(crate) struct RunCounts {
    pub(crate) started: AtomicU64,
    /// By the index of the status in [`RunStatus::ALL`].
    pub(crate) ended: [AtomicU64; RunStatus::ALL.len()],
    pub(crate) took: Durations,
}

#[derive(Debug, Default)]
pub(crate) struct ActionCounts {
    /// By the index of the status in [`Status::ALL`].
    pub(crate) ended: [AtomicU64; Status::ALL.len()],
    pub(crate) took: Durations,
    pub(crate) attempts: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct RequestCounts {
    /// By the class of the status: the first digit less one.
    pub(crate) answered: [AtomicU64; 5],
    /// Until the head of the response.
    pub(crate) took: Durations,
}

#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    /// By old and new state.
    pub(crate) changes: BTreeMap<(&'static str, &'static str), u64>,
    /// By rule.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// What parts in observe mode would have done, by part.
    pub(crate) observed: BTreeMap<Arc<str>, u64>,
    /// Further copies of slow calls.
    pub(crate) hedges: u64,
    /// Faults that were injected, by kind.
    pub(crate) injected: BTreeMap<Arc<str>, u64>,
    /// The number and total duration of waits, by what was waited for.
    pub(crate) waited: BTreeMap<&'static str, (u64, Duration)>,
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// One count for each of [`ENDS_MS`], and one for longer durations.
    pub(crate) counts: [AtomicU64; ENDS_MS.len() + 1],
    pub(crate) sum_micros: AtomicU64,
}

impl Durations {
    fn record(&self, from: Timestamp, to: Timestamp) {
        // A clock that was set back must not cause negative durations. A tick is 100 ns.
        self.record_micros((to.ticks().saturating_sub(from.ticks()).max(0) / 10) as u64);
    }

    fn record_micros(&self, micros: u64) {
        let bucket = ENDS_MS.partition_point(|end| end * 1_000 < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Tally {
    /// Counts a request whose response has a head.
    pub(crate) fn request(&self, kind: &'static str, status: u16, took: Duration) {
        let counts = lock(&self.requests).of(kind);
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        counts.answered[class].fetch_add(1, Ordering::Relaxed);
        counts.took.record_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts new events of a run.
    pub(crate) fn events(&self, state: &RunState, events: &[Event]) {
        let known = self.known(state.workflow());
        let action = |index: loom_definition::ActionIdx| &known.actions[index.0 as usize];
        for event in events {
            match event {
                Event::RunStarted { .. } => add(&known.runs.started),
                Event::RunEnded { status, at, .. } => {
                    add(&known.runs.ended[place(&RunStatus::ALL, *status)]);
                    known.runs.took.record(state.started_at(), *at);
                }
                // An attempt that is resumed after a restart is not counted again.
                Event::AttemptStarted {
                    place, phase: Phase::Call | Phase::Subscribe, resume: None, ..
                } => add(&action(place.action).attempts),
                Event::AttemptEnded { place, next: Next::Retry { .. }, .. } => {
                    add(&action(place.action).retries);
                }
                Event::ActionEnded { place: at_place, started, at, outcome, .. } => {
                    let counts = action(at_place.action);
                    add(&counts.ended[place(&Status::ALL, outcome.status)]);
                    if outcome.code == FALLBACK {
                        add(&counts.fallbacks);
                    }
                    if outcome.status != Status::Skipped {
                        counts.took.record(*started, *at);
                    }
                }
                Event::AttemptNoted { note, .. } => self.note(note),
                _ => {}
            }
        }
    }

    /// Counts what a part in observe mode would have done.
    fn observed(&self, service: &str, part: &str) {
        self.service(service, |counts| *counts.observed.entry(Arc::from(part)).or_default() += 1);
    }

    /// What the parts of a service in observe mode would have done, by part.
    pub(crate) fn observed_of(&self, service: &str) -> BTreeMap<Arc<str>, u64> {
        let counts = lock(&self.services).0.get(service).cloned();
        counts.map(|counts| lock(&counts).observed.clone()).unwrap_or_default()
    }

    fn note(&self, note: &Note) {
        match note {
            Note::Hedged { service, copies } => {
                self.service(service, |counts| counts.hedges += u64::from(*copies));
            }
            // Of refusals and waits, and of the attempt timeout, the services report themselves what they observe.
            Note::Observed { service, part } if !OF_SERVICES.contains(&&**part) => {
                self.observed(service, part);
            }
            Note::Injected { service, kind, .. } => {
                self.service(service, |counts| *counts.injected.entry(Arc::from(&**kind)).or_default() += 1);
            }
            // The services report these themselves.
            Note::Waited { .. } | Note::Breaker { .. } | Note::Observed { .. } | Note::Interrupted { .. } => {
            }
        }
    }

    fn known(&self, workflow: &Arc<Workflow>) -> Arc<Known> {
        let address = Arc::as_ptr(workflow).addr();
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&address) {
            return Arc::clone(known);
        }
        let runs = lock(&self.workflows).of(&workflow.name);
        let mut types = lock(&self.types);
        let actions = workflow.actions.iter().map(|action| types.of(&action.type_name)).collect();
        drop(types);
        let known = Arc::new(Known { _definition: Arc::clone(workflow), runs, actions });
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHE_MAX {
            all.clear();
        }
        all.insert(address, Arc::clone(&known));
        known
    }

    fn service(&self, name: &str, change: impl FnOnce(&mut ServiceCounts)) {
        let counts = lock(&self.services).of(name);
        change(&mut lock(&counts));
    }
}

impl Observer for Tally {
    fn on_event(&self, event: &ServiceEvent<'_>) {
        match *event {
            ServiceEvent::StateChanged { service, from, to, .. } => {
                let states = (crate::circuit_names::phase_name(from), crate::circuit_names::phase_name(to));
                self.service(service, |counts| *counts.changes.entry(states).or_default() += 1);
                self.circuit_changed.notify_one();
                // Also logged, for the operator.
                TracingObserver.on_event(event);
            }
            ServiceEvent::Refused { service, refused, enforced: true } => {
                let rule = refused.rule.as_str();
                self.service(service, |counts| *counts.refused.entry(rule).or_default() += 1);
            }
            // Also logged, for the operator.
            ServiceEvent::Reconfigured { .. } | ServiceEvent::LimitLearned { .. } => {
                TracingObserver.on_event(event);
            }
            ServiceEvent::Waited { service, on, waited } => {
                self.service(service, |counts| {
                    let (times, long) = counts.waited.entry(on.as_str()).or_default();
                    *times += 1;
                    *long += waited;
                });
            }
            // Actions are counted by their durable events.
            _ => {}
        }
        if let (Some(part), Some(service)) = (event.observed(), service_of(event)) {
            self.observed(service, part.as_str());
        }
    }
}

/// The service of an event that counts as observed.
const fn service_of<'a>(event: &ServiceEvent<'a>) -> Option<&'a str> {
    match event {
        ServiceEvent::Observed { service, .. }
        | ServiceEvent::Refused { service, .. }
        | ServiceEvent::Waiting { service, .. } => Some(service),
        _ => None,
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn place<T: PartialEq + Copy>(all: &[T], one: T) -> usize {
    all.iter().position(|known| *known == one).expect("the list has all of them")
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
