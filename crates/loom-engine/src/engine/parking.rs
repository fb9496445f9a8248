//! Parked runs: what they own meanwhile, and what wakes them.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use futures_util::{StreamExt, stream};
use loom_expression::Timestamp;
use loom_store::{Error as StoreError, KeyQuery, Shards};

use super::Engine;
use crate::{
    event::RunId,
    parked::{Holding, NAMESPACE},
    shared::aside::Owned,
    time,
    unloadable::RecoverError,
};

/// Named values read at a time.
const PAGE: usize = 500;

/// Runs loaded at the same time.
const WAKES: usize = 128;

/// The longest single sleep; then the wall clock is read again, because it may have been adjusted.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The delay before the store is read again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Whether a run is in progress and in memory.
    pub fn is_in_progress(&self, run: RunId) -> bool {
        self.shared.awake.contains(run)
    }

    /// The number of runs in progress that are in memory; see [`Engine::runs_parked`] for the others.
    pub fn runs_in_progress(&self) -> usize {
        self.shared.awake.len()
    }

    /// Sets the number of runs that may be awake before the runs of a very large firing are queued and waiting runs leave memory
    /// at once; at first [`Budgets::runs_max`](crate::Budgets::runs_max).
    pub fn set_runs_max(&self, runs: usize) {
        self.shared.parking.awake_max.store(runs, Ordering::Relaxed);
        self.shared.make_room();
    }

    /// The number of runs that may be awake.
    pub(super) fn runs_max(&self) -> usize {
        self.shared.parking.awake_max.load(Ordering::Relaxed)
    }

    /// The number of runs that wait in the store, without being in memory.
    pub fn runs_parked(&self) -> u64 {
        self.shared.parking.count.load(Ordering::Relaxed)
    }

    /// Waits, for at most `limit`, until fewer than `most` runs are awake. Does not wait if no run is about to leave memory.
    /// Returns whether there is room.
    pub async fn room_for_run(&self, most: usize, limit: Duration) -> bool {
        if self.runs_in_progress() < most {
            return true;
        }
        if self.shared.park_after().is_none() {
            return false;
        }
        let room = async {
            loop {
                let left = self.shared.queue.left();
                tokio::pin!(left);
                left.as_mut().enable();
                self.shared.make_room();
                if self.runs_in_progress() < most {
                    return;
                }
                left.await;
            }
        };
        self.shared.idle.load(Ordering::Relaxed) > 0 && tokio::time::timeout(limit, room).await.is_ok()
    }

    /// Notifies a run of something that has happened to it, and loads it if it is parked.
    pub(crate) fn wake(&self, run: RunId) {
        if self.shared.awake.notify(run, |reached| reached.mailbox.notify()).is_some() {
            return;
        }
        let engine = self.clone();
        self.shared.tasks.spawn(async move { engine.wake_parked(run).await });
    }

    /// Loads a run if it is parked. If there is no room, it is queued; if it cannot be read, it is held.
    async fn wake_parked(&self, run: RunId) {
        match self.is_parked(run).await {
            Ok(true) if self.runs_in_progress() < self.runs_max() => {
                self.load(run).await;
            }
            Ok(true) => {
                self.shared.queue.add(run);
                self.shared.make_room();
                self.attend_queue();
            }
            Ok(false) => {}
            Err(source) => self.not_loaded(run, &RecoverError::Store { run, source }),
        }
    }

    /// Like [`Engine::wake_parked`], for a run whose timer is due: the timer says that it is parked, so its row is read only once,
    /// with everything else.
    async fn wake_due(&self, run: RunId) {
        if self.runs_in_progress() >= self.runs_max() {
            self.wake_parked(run).await;
        } else if self.may_wake(run) {
            self.load_parked(run).await;
        }
    }

    /// Whether this process may load a run, and is not loading it, now or later.
    fn may_wake(&self, run: RunId) -> bool {
        !(self.shared.standing_by.load(Ordering::Relaxed)
            || self.shared.stopping.is_cancelled()
            || self.shared.flights.draining()
            || self.shared.awake.contains(run)
            || !self.shared.may_load(run)
            || self.shared.queue.holds(run)
            || self.why_held(run).is_some())
    }

    /// Whether a run is parked and nobody is loading it, now or later.
    pub(super) async fn is_parked(&self, run: RunId) -> Result<bool, StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(false) };
        if !self.may_wake(run) {
            return Ok(false);
        }
        let row = durable.store.run(run).await?;
        Ok(row.is_some_and(|row| row.ended.is_none() && row.wake_at.is_some()))
    }

    /// Wakes parked runs when they are due, or when their turn at their trigger's gate has come. Does nothing if a task does that
    /// already.
    pub(crate) fn turn_wheel(&self) {
        if self.shared.durable.is_none() || !self.shared.wheel.must_be_turned() {
            return;
        }
        let engine = self.clone();
        self.shared.tasks.spawn(async move {
            let stopping = engine.shared.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = engine.wake_those_due() => {}
            }
        });
    }

    async fn wake_those_due(&self) {
        let Some(durable) = &self.shared.durable else { return };
        loop {
            let now = self.shared.now().run;
            let read = self.shared.wheel.read_ahead(&*durable.store, time::millis(now)).await;
            let (due, next) = self.shared.wheel.due(time::millis(now));
            let turned = self.shared.gates.turned();
            let some_were_due = !due.is_empty() || !turned.is_empty();
            stream::iter(due).for_each_concurrent(WAKES, |run| self.wake_due(run)).await;
            stream::iter(turned).for_each_concurrent(WAKES, |run| self.wake_parked(run)).await;
            if some_were_due && read.is_ok() {
                // There may be more.
                continue;
            }
            let mut wait = time::between(now, Timestamp::from_unix_millis(next.0)).min(SLEEP_MAX);
            if let Err(error) = read {
                tracing::warn!(%error, "cannot read the timers of parked runs; trying again");
                wait = wait.max(AGAIN);
            }
            // Without timers, only a new one matters.
            let waits_for_time = !self.shared.wheel.is_empty(&*durable.store).await;
            tokio::select! {
                () = tokio::time::sleep(wait), if waits_for_time => {}
                () = self.shared.wheel.changed() => {}
                () = self.shared.gates.turns() => {}
            }
        }
    }

    /// Takes everything that parked runs own, before anybody else is admitted. Returns the runs to wake because nothing else
    /// will.
    pub(super) async fn take_for_parked(&self, shards: Shards) -> Result<Vec<RunId>, StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(Vec::new()) };
        let (mut after, mut to_wake) = (None, Vec::new());
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = durable.store.keys(query).await?;
            for value in &page.values {
                let (Ok(run), Some(holding)) = (value.key.parse::<RunId>(), Holding::read(&value.value))
                else {
                    continue;
                };
                if shards.contains(run.shard()) && self.take_for(run, &holding).await? {
                    to_wake.push(run);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(to_wake),
            }
        }
    }

    /// Takes what one parked run owns. Returns whether it has to be woken.
    async fn take_for(&self, run: RunId, holding: &Holding) -> Result<bool, StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(false) };
        let Some(row) = durable.store.run(run).await?.filter(|row| row.ended.is_none()) else {
            return Ok(false);
        };
        let workflow = match durable.workflow_of(run, &row).await {
            Ok(workflow) => workflow,
            Err(RecoverError::Store { source, .. }) => return Err(source),
            Err(error) => {
                tracing::error!(run_id = %run, %error, "cannot read what a parked run owns");
                return Ok(false);
            }
        };
        let mut pass =
            self.shared.gates.take_again(&workflow, holding.trigger.as_deref(), run, holding.waits);
        let must_wake = holding.waits && !(pass.waits() && pass.park());
        let now = self.shared.now().run;
        let mut admissions = HashMap::new();
        for (place, due) in &holding.admitted {
            if workflow.actions.get(place.action.0 as usize).is_some()
                && let Some(service) = self.shared.services.of(&workflow, place.action, None)
            {
                let left = due.map(|due| time::between(now, Timestamp::from_unix_millis(due.0)));
                admissions.insert(*place, service.admit_again(left));
            }
        }
        self.shared.aside.keep(run, Owned { pass, admissions: Some(admissions) });
        Ok(must_wake)
    }

    /// Counts the parked runs in the store.
    pub(super) async fn count_those_parked(&self) -> Result<(), StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        self.shared.parking.count.store(durable.store.parked(Shards::ALL).await?, Ordering::Relaxed);
        Ok(())
    }
}
