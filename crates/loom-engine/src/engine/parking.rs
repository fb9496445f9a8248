//! Parked runs: what they own meanwhile, and what wakes them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use loom_definition::ActionIdx;
use loom_expression::{Array, Object, Timestamp, Value};
use loom_store::{Error as StoreError, KeyQuery, KeyWrite, Shards, UnixMillis};
use tokio::sync::Notify;

use super::{Engine, Inner, Pass};
use crate::{
    clock::{Now, RunClock},
    durable::{self, RecoverError},
    event::{OpeningId, Place, RunId},
    guard::Admission,
    time,
};

/// Namespace of the named values that say what parked runs own.
const NAMESPACE: &str = "engine/parked";

/// Named values read at a time.
const PAGE: usize = 500;

/// Runs loaded at the same time.
const WAKES: usize = 32;

/// The longest single sleep; then the wall clock is read again, because it may have been adjusted.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The delay before the store is read again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// What a run owns while it has no task.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(crate) pass: Pass,
    /// The places in services of the executing actions of a parked run; none for a run that is not parked.
    pub(crate) admissions: Option<HashMap<Place, Admission>>,
}

/// What runs own that are accepted but have no task: they are parked, queued, or held because the store does not work.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<HashMap<RunId, Owned>>);

impl Aside {
    /// Keeps the pass of a run until the run is loaded.
    pub(crate) fn put(&self, run: RunId, pass: Pass) {
        if !matches!(pass, Pass::Free) {
            self.keep(run, Owned { pass, admissions: None });
        }
    }

    /// Keeps what a run owns until the run is loaded.
    pub(crate) fn keep(&self, run: RunId, owned: Owned) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, owned);
    }

    /// What a run owns that is being loaded.
    pub(crate) fn take(&self, run: RunId) -> Option<Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}

/// When runs are parked, and how many are.
pub(crate) struct Parking {
    /// How long a run waits in memory for something that may come at any time; none if no run is parked.
    pub(super) after: Option<Duration>,
    /// The number of runs that may be awake.
    pub(super) awake_max: AtomicUsize,
    /// Notified when almost as many are.
    crowded: Notify,
    /// Parked runs in the store.
    count: AtomicU64,
    /// The time of the engine, which never goes back.
    clock: Mutex<RunClock>,
}

impl Parking {
    pub(super) fn new(after: Option<Duration>, awake_max: usize, clock: RunClock) -> Parking {
        Parking {
            after,
            awake_max: awake_max.into(),
            crowded: Notify::new(),
            count: AtomicU64::new(0),
            clock: Mutex::new(clock),
        }
    }
}

impl Inner {
    /// How long a run waits in memory; none if it is not parked.
    pub(crate) fn park_after(&self) -> Option<Duration> {
        self.parking.after.filter(|_| self.durable.is_some())
    }

    /// Whether almost as many runs are awake as may be: seven of eight.
    pub(crate) fn is_crowded(&self) -> bool {
        let most = self.parking.awake_max.load(Ordering::Relaxed);
        self.awake.len() >= most - most / 8
    }

    /// Waits until almost as many runs are awake as may be. May also return earlier.
    pub(crate) async fn crowds(&self) {
        self.parking.crowded.notified().await;
    }

    /// To be called when another run is awake: those that only wait make room for it.
    pub(crate) fn make_room(&self) {
        if self.is_crowded() {
            self.parking.crowded.notify_waiters();
        }
    }

    /// The time of the engine. While a run is parked, its time advances with that of the engine.
    pub(crate) fn now(&self) -> Now {
        self.parking.clock.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// A run is parked that was not, according to the store.
    pub(crate) fn count_parked(&self) {
        self.parking.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A parked run is loaded, or ends without being loaded.
    pub(crate) fn count_woken(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        self.parking.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }
}

impl Engine {
    /// Whether a run is in progress and in memory.
    pub fn is_in_progress(&self, run: RunId) -> bool {
        self.inner.awake.contains(run)
    }

    /// The number of runs in progress that are in memory; see [`Engine::runs_parked`] for the others.
    pub fn runs_in_progress(&self) -> usize {
        self.inner.awake.len()
    }

    /// Sets the number of runs that may be awake before the runs of a very large firing are queued and waiting runs leave memory
    /// at once; at first [`Budgets::runs_max`](crate::Budgets::runs_max).
    pub fn set_runs_max(&self, runs: usize) {
        self.inner.parking.awake_max.store(runs, Ordering::Relaxed);
        self.inner.make_room();
    }

    /// The number of runs that may be awake.
    pub(super) fn runs_max(&self) -> usize {
        self.inner.parking.awake_max.load(Ordering::Relaxed)
    }

    /// The number of runs that wait in the store, without being in memory.
    pub fn runs_parked(&self) -> u64 {
        self.inner.parking.count.load(Ordering::Relaxed)
    }

    /// Waits, for at most `limit`, until fewer than `most` runs are awake. Does not wait if no run is about to leave memory.
    /// Returns whether there is room.
    pub async fn room_for_run(&self, most: usize, limit: Duration) -> bool {
        if self.runs_in_progress() < most {
            return true;
        }
        if self.inner.park_after().is_none() {
            return false;
        }
        let room = async {
            loop {
                let left = self.inner.queue.left();
                tokio::pin!(left);
                left.as_mut().enable();
                self.inner.make_room();
                if self.runs_in_progress() < most {
                    return;
                }
                left.await;
            }
        };
        self.inner.idle.load(Ordering::Relaxed) > 0 && tokio::time::timeout(limit, room).await.is_ok()
    }

    /// Notifies a run of something that has happened to it, and loads it if it is parked.
    pub(crate) fn wake(&self, run: RunId) {
        if self.inner.awake.notify(run, |reached| reached.mailbox.notify()).is_some() {
            return;
        }
        let engine = self.clone();
        self.inner.tasks.spawn(async move { engine.wake_parked(run).await });
    }

    /// Loads a run if it is parked. If there is no room, it is queued; if it cannot be read, it is held.
    async fn wake_parked(&self, run: RunId) {
        match self.is_parked(run).await {
            Ok(true) if self.runs_in_progress() < self.runs_max() => {
                self.take_up(run).await;
            }
            Ok(true) => {
                self.inner.queue.add(run);
                self.inner.make_room();
                self.attend_queue();
            }
            Ok(false) => {}
            Err(source) => self.not_loaded(run, &RecoverError::Store { run, source }),
        }
    }

    /// Whether a run is parked and nobody is loading it, now or later.
    pub(super) async fn is_parked(&self, run: RunId) -> Result<bool, StoreError> {
        let Some(durable) = &self.inner.durable else { return Ok(false) };
        if self.inner.standing_by.load(Ordering::Relaxed)
            || self.inner.stopping.is_cancelled()
            || self.inner.flights.draining()
            || self.inner.awake.contains(run)
            || self.inner.queue.holds(run)
            || self.why_held(run).is_some()
        {
            return Ok(false);
        }
        let row = durable.store.run(run).await?;
        Ok(row.is_some_and(|row| row.ended.is_none() && row.wake_at.is_some()))
    }

    /// Wakes parked runs when they are due, or when their turn at their trigger's gate has come. Does nothing if a task does that
    /// already.
    pub(crate) fn turn_wheel(&self) {
        if self.inner.durable.is_none() || !self.inner.wheel.must_be_turned() {
            return;
        }
        let engine = self.clone();
        self.inner.tasks.spawn(async move {
            let stopping = engine.inner.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = engine.wake_those_due() => {}
            }
        });
    }

    async fn wake_those_due(&self) {
        let Some(durable) = &self.inner.durable else { return };
        loop {
            let now = self.inner.now().run;
            let read = self.inner.wheel.read_ahead(&*durable.store, durable::millis(now)).await;
            let (mut due, next) = self.inner.wheel.due(durable::millis(now));
            due.extend(self.inner.gates.turned());
            let some_were_due = !due.is_empty();
            stream::iter(due).for_each_concurrent(WAKES, |run| self.wake_parked(run)).await;
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
            let waits_for_time = !self.inner.wheel.is_empty(&*durable.store).await;
            tokio::select! {
                () = tokio::time::sleep(wait), if waits_for_time => {}
                () = self.inner.wheel.changed() => {}
                () = self.inner.gates.turns() => {}
            }
        }
    }

    /// Takes everything that parked runs own, before anybody else is admitted. Returns the runs to wake because nothing else
    /// will.
    pub(super) async fn take_for_parked(&self) -> Result<Vec<RunId>, StoreError> {
        let Some(durable) = &self.inner.durable else { return Ok(Vec::new()) };
        let (mut after, mut to_wake) = (None, Vec::new());
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = durable.store.keys(query).await?;
            for value in &page.values {
                let (Ok(run), Some(holding)) = (value.key.parse(), Holding::read(&value.value)) else {
                    continue;
                };
                if self.take_for(run, &holding).await? {
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
        let Some(durable) = &self.inner.durable else { return Ok(false) };
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
        let mut pass = self.inner.gates.take_again(&workflow, holding.trigger.as_deref(), run, holding.waits);
        let must_wake = holding.waits && !(pass.waits() && pass.park());
        let now = self.inner.now().run;
        let mut admissions = HashMap::new();
        for (place, due) in &holding.admitted {
            if workflow.actions.get(place.action.0 as usize).is_some()
                && let Some(service) = self.inner.services.of(&workflow, place.action, None)
            {
                let left = due.map(|due| time::between(now, Timestamp::from_unix_millis(due.0)));
                admissions.insert(*place, service.admit_again(left));
            }
        }
        self.inner.aside.keep(run, Owned { pass, admissions: Some(admissions) });
        Ok(must_wake)
    }

    /// Counts the parked runs in the store.
    pub(super) async fn count_those_parked(&self) -> Result<(), StoreError> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        self.inner.parking.count.store(durable.store.parked(Shards::ALL).await?, Ordering::Relaxed);
        Ok(())
    }
}

/// What a parked run owns, as it is stored: `{"trigger", "waits", "admitted": [[frame, action, due?]]}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The trigger whose gate it passed, or waits at.
    pub(crate) trigger: Option<Arc<str>>,
    /// Whether it waits there.
    pub(crate) waits: bool,
    /// Actions that were admitted to a service, and the end of the time that each may take.
    pub(crate) admitted: Vec<(Place, Option<UnixMillis>)>,
}

impl Holding {
    fn read(stored: &[u8]) -> Option<Holding> {
        let stored = Value::parse_json(stored).ok()?;
        let admitted = |entry: &Value| {
            let entry = entry.as_array()?;
            let number = |place: usize| entry.get(place).and_then(Value::as_i64);
            let index = |place| u32::try_from(number(place)?).ok();
            let place = Place { opening: OpeningId(index(0)?), action: ActionIdx(index(1)?) };
            Some((place, number(2).map(UnixMillis)))
        };
        Some(Holding {
            trigger: stored.get("trigger").and_then(Value::as_str).map(Arc::from),
            waits: stored.get("waits").and_then(Value::as_bool).unwrap_or_default(),
            admitted: stored.get("admitted")?.as_array()?.iter().filter_map(admitted).collect(),
        })
    }

    /// The named value that says what a run owns.
    pub(crate) fn write(&self, run: RunId) -> KeyWrite {
        let mut stored = Object::new();
        stored.insert("trigger", self.trigger.clone().map_or(Value::NULL, Value::from));
        stored.insert("waits", self.waits);
        let admitted = self.admitted.iter().map(|(place, due)| {
            let numbers =
                [Some(i64::from(place.opening.0)), Some(i64::from(place.action.0)), due.map(|due| due.0)];
            Value::from(numbers.into_iter().flatten().map(Value::from).collect::<Array>())
        });
        stored.insert("admitted", admitted.collect::<Array>());
        key_write(run, Some(Bytes::from(Value::from(stored).to_json_text())))
    }
}

/// Deletes the named value that says what a run owns.
pub(crate) fn owns_nothing(run: RunId) -> KeyWrite {
    key_write(run, None)
}

fn key_write(run: RunId, value: Option<Bytes>) -> KeyWrite {
    let (namespace, key) = (Arc::from(NAMESPACE), Arc::from(run.to_string()));
    KeyWrite { namespace, key, value, ..KeyWrite::default() }
}
