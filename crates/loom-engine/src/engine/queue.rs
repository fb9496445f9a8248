//! The queue of accepted runs: one firing may start more runs than fit into memory.
//!
//! Their starts are written to the store in batches. From then on they are like all other runs that are not in progress:
//! they are loaded after a restart, or as soon as one of them is needed. The rest are loaded in order, as capacity allows.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use loom_definition::Workflow;
use tokio::sync::{Notify, futures::Notified};

use super::{Engine, Pass, StartError, gate::first_command};
use crate::{
    durable::Written,
    event::{RunId, RunStart},
    machine::Run,
};

/// The most runs of one firing that start at once. A firing of more writes all of them first and then queues them; this is
/// also the size of a batch.
pub(crate) const AT_ONCE: usize = 256;

/// Accepted runs that have no task yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when a run is no longer in memory, for the task that loads queued runs.
    room: Notify,
    /// The same, for everybody else.
    left: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they were accepted.
    runs: BTreeSet<RunId>,
    /// Whether a task is loading them.
    attended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, run: RunId) {
        self.lock().runs.insert(run);
    }

    /// Reports that a run is no longer in progress, or in memory.
    pub(super) fn ended(&self) {
        self.room.notify_one();
        self.left.notify_waiters();
    }

    /// The next run; none when the queue is empty, and then the loading task has to end. The run stays in the queue until
    /// [`Queue::forget`], so that it is always found either here or in progress.
    fn first(&self) -> Option<RunId> {
        let mut waiting = self.lock();
        let first = waiting.runs.first().copied();
        waiting.attended = first.is_some();
        first
    }

    fn forget(&self, run: RunId) {
        self.lock().runs.remove(&run);
    }

    /// Waits until a run is no longer in progress, or in memory.
    pub(super) fn left(&self) -> Notified<'_> {
        self.left.notified()
    }

    /// Whether a run is in the queue.
    pub(super) fn holds(&self, run: RunId) -> bool {
        self.lock().runs.contains(&run)
    }
}

impl Engine {
    /// Whether so many runs of one firing are queued. Queueing needs a store.
    pub(crate) fn queues(&self, runs: usize) -> bool {
        runs > AT_ONCE && self.inner.durable.is_some()
    }

    /// Makes runs durable, in order, and queues them. Returns what the first one was started from.
    ///
    /// # Errors
    /// When the store did not accept all of them. Those that it accepted continue.
    ///
    /// # Cancel safety
    /// Runs that were accepted continue; no more are accepted.
    pub(crate) async fn accept_all(
        &self,
        workflow: &Arc<Workflow>,
        mut runs: impl Iterator<Item = ((Arc<RunStart>, Written), Pass)> + Send,
    ) -> Result<Option<Arc<RunStart>>, StartError> {
        let mut first = None;
        loop {
            let piece: Vec<_> = runs.by_ref().take(AT_ONCE).collect();
            let Some(((start, _), _)) = piece.first() else { return Ok(first) };
            first.get_or_insert_with(|| Arc::clone(start));
            let (engine, workflow) = (self.clone(), Arc::clone(workflow));
            // A task of its own, so that a caller that goes away leaves no run accepted but not queued.
            let accepting =
                self.inner.tasks.spawn(async move { engine.accept_piece(&workflow, piece).await });
            accepting.await.map_err(|_| StartError::Stopping)??;
        }
    }

    async fn accept_piece(
        &self,
        workflow: &Arc<Workflow>,
        piece: Vec<((Arc<RunStart>, Written), Pass)>,
    ) -> Result<(), StartError> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
            return Err(StartError::Stopping);
        }
        let now = self.inner.clock.now();
        let begun = piece.into_iter().map(|((start, written), pass)| {
            self.inner.environment.learn_parameters(&start);
            let mut journal = durable.begin(workflow, &start, written);
            let mut run = Run::new(Arc::clone(workflow), Arc::clone(&self.inner.environment));
            let id = start.run;
            // Everything after the start is left to the task that loads the run.
            run.handle_some(first_command(&pass, start), now, 0);
            let events = run.take_events();
            async move {
                journal.record(&events, run.state());
                let written = journal.flush(run.state(), now).await;
                written.map(|()| (id, events, run, pass))
            }
        });
        let mut refused = None;
        for written in join_all(begun).await {
            match written {
                Ok((id, events, run, pass)) => {
                    if let Some(watcher) = &self.inner.watcher {
                        watcher.events(run.state(), &events);
                    }
                    self.inner.aside.put(id, pass);
                    self.inner.queue.add(id);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        self.attend_queue();
        refused.map_or(Ok(()), |error| Err(StartError::Store(error)))
    }

    /// Spawns a task that loads the queued runs, unless there is one already.
    pub(super) fn attend_queue(&self) {
        if std::mem::replace(&mut self.inner.queue.lock().attended, true) {
            return;
        }
        let engine = self.clone();
        self.inner.tasks.spawn(async move {
            while engine.has_room().await {
                let Some(run) = engine.inner.queue.first() else { return };
                engine.take_up(run).await;
                engine.inner.queue.forget(run);
            }
        });
    }

    /// Waits until fewer runs are awake than may be. False when the engine stops.
    async fn has_room(&self) -> bool {
        loop {
            if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
                return false;
            }
            if self.runs_in_progress() < self.runs_max() {
                return true;
            }
            self.inner.make_room();
            tokio::select! {
                () = self.inner.queue.room.notified() => {}
                () = self.inner.stopping.cancelled() => {}
                () = self.inner.flights.drains() => {}
            }
        }
    }

    /// Loads a queued run out of turn, or a parked one. Does nothing for any other.
    pub(super) async fn call_up(&self, run: RunId) {
        if self.inner.queue.holds(run) {
            self.take_up(run).await;
            self.inner.queue.forget(run);
        } else if self.is_parked(run).await.unwrap_or(false) {
            self.take_up(run).await;
        }
    }

    /// Loads a queued or parked run. If the store cannot read it now, it is held until the store works again.
    pub(super) async fn take_up(&self, run: RunId) {
        let Err(error) = self.recover_run(run, None).await else { return };
        tracing::error!(run_id = %run, %error, "cannot load a run");
        self.not_loaded(run, &error);
    }
}
