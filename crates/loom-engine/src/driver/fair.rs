//! The driver's part in fairness: slices of time on the runtime's threads, and what takes long on those of the pool.

use std::{mem, sync::Arc};

use super::Driver;
use crate::{
    event::{EffectId, Event},
    machine::Run,
    ports::{Call, Stopwatch},
    slice::{Progress, Slice},
};

/// Values of so many bytes are encoded on a thread of the pool, because it takes about a millisecond.
const LARGE: u64 = 1 << 20;

impl Driver {
    /// What slices are measured with.
    pub(super) fn stopwatch(&self) -> Arc<dyn Stopwatch> {
        Arc::clone(&self.shared.stopwatch)
    }

    /// The next slice of the run's decisions. A draining engine records what happens, but starts nothing because of it.
    pub(super) fn slice<'s>(&self, stopwatch: &'s dyn Stopwatch) -> Slice<'s> {
        if self.shared.flights.draining() { Slice::empty(stopwatch) } else { Slice::short(stopwatch) }
    }

    /// Takes the run, which is to be put back.
    fn take_run(&mut self) -> Run {
        let (workflow, environment) = (self.run.state().workflow(), self.run.environment());
        let nothing = Run::new(Arc::clone(workflow), Arc::clone(environment));
        mem::replace(&mut self.run, nothing)
    }

    /// Makes the next decisions on a thread of the pool.
    pub(super) async fn decide_in_pool(&mut self) -> Progress {
        self.rest();
        let turn = self.shared.pools.evaluations.turn().await;
        self.evaluate();
        let (at, stopwatch) = (self.clock.now(), self.stopwatch());
        let mut run = self.take_run();
        let decide = move || {
            let mut slice = Slice::long(&*stopwatch);
            let progress = run.advance_in(at, &mut slice);
            (run, progress, slice.was_long())
        };
        let (run, progress, was_long) = turn.run(decide).await;
        self.run = run;
        // The next one is probably long as well.
        if was_long && progress == Progress::More { Progress::Long } else { progress }
    }

    /// Encodes events for the journal.
    pub(super) async fn record(&mut self, events: Vec<Event>, bytes: u64) -> Vec<Event> {
        let Some(mut journal) = self.journal.take() else { return events };
        if bytes < LARGE {
            journal.record(&events, self.run.state());
            self.journal = Some(journal);
            return events;
        }
        let run = self.take_run();
        let record = move || {
            journal.record(&events, run.state());
            (run, journal, events)
        };
        let (run, journal, events) = self.shared.pools.evaluations.run(record).await;
        (self.run, self.journal) = (run, Some(journal));
        events
    }

    /// The calls that effects request. The context of a script may be a large part of the run.
    pub(super) async fn calls(&mut self, started: Vec<EffectId>) -> Vec<Call> {
        if !self.starts_script(&started) {
            return started.into_iter().filter_map(|effect| self.run.call(effect)).collect();
        }
        self.rest();
        let turn = self.shared.pools.evaluations.turn().await;
        self.evaluate();
        let run = self.take_run();
        let calls = move || {
            let calls = started.into_iter().filter_map(|effect| run.call(effect)).collect();
            (run, calls)
        };
        let (run, calls) = turn.run(calls).await;
        self.run = run;
        calls
    }
}
