//! The queue of accepted runs: one firing may start more runs than fit into memory.
//!
//! Their starts are written to the store in batches. From then on they are like all other runs that are not in progress:
//! they are loaded after a restart, or as soon as one of them is needed. The rest are loaded in order, as capacity allows.

use std::sync::Arc;

use futures_util::future::join_all;
use loom_definition::Workflow;

use super::{Engine, recovery::Loads};
use crate::{
    durable::Written,
    event::{RunId, RunStart},
    machine::Run,
    shared::gate::{Pass, first_command},
    start::StartError,
};

/// The most runs of one firing that start at once. A firing of more writes all of them first and then queues them; this is
/// also the size of a batch.
pub(crate) const AT_ONCE: usize = 256;

impl Engine {
    /// Whether so many runs of one firing are queued. Queueing needs a store.
    pub(crate) fn queues(&self, runs: usize) -> bool {
        runs > AT_ONCE && self.shared.durable.is_some()
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
                self.shared.tasks.spawn(async move { engine.accept_piece(&workflow, piece).await });
            accepting.await.map_err(|_| StartError::Stopping)??;
        }
    }

    async fn accept_piece(
        &self,
        workflow: &Arc<Workflow>,
        piece: Vec<((Arc<RunStart>, Written), Pass)>,
    ) -> Result<(), StartError> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        if self.shared.stopping.is_cancelled() || self.shared.flights.draining() {
            return Err(StartError::Stopping);
        }
        let now = self.shared.clock.now();
        let begun = piece.into_iter().map(|((start, written), pass)| {
            self.shared.environment.learn_parameters(&start);
            let mut journal = durable.begin(workflow, &start, written);
            let mut run = Run::new(Arc::clone(workflow), Arc::clone(&self.shared.environment));
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
                    if let Some(watcher) = &self.shared.watcher {
                        watcher.events(run.state(), &events);
                    }
                    self.shared.aside.put(id, pass);
                    self.shared.queue.add(id);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        self.attend_queue();
        refused.map_or(Ok(()), |error| Err(StartError::Store(error)))
    }

    /// Spawns a task that loads the queued runs, unless there is one already.
    pub(super) fn attend_queue(&self) {
        if self.shared.queue.attend() {
            return;
        }
        let engine = self.clone();
        self.shared.tasks.spawn(async move {
            while engine.has_room().await {
                let Some(run) = engine.shared.queue.first() else { return };
                engine.load(run).await;
                engine.shared.queue.forget(run);
            }
        });
    }

    /// Waits until fewer runs are awake than may be. False when the engine stops.
    async fn has_room(&self) -> bool {
        loop {
            if self.shared.stopping.is_cancelled() || self.shared.flights.draining() {
                return false;
            }
            if self.runs_in_progress() < self.runs_max() {
                return true;
            }
            self.shared.make_room();
            tokio::select! {
                () = self.shared.queue.room.notified() => {}
                () = self.shared.stopping.cancelled() => {}
                () = self.shared.flights.drains() => {}
            }
        }
    }

    /// Loads a queued run out of turn, or a parked one. Does nothing for any other.
    pub(super) async fn load_if_waiting(&self, run: RunId) {
        if self.shared.queue.holds(run) {
            self.load(run).await;
            self.shared.queue.forget(run);
        } else if self.is_parked(run).await.unwrap_or(false) {
            self.load(run).await;
        }
    }

    /// Loads a run if it is parked. If the store cannot read it now, it is held until the store works again.
    pub(super) async fn load_parked(&self, run: RunId) {
        self.load_when(run, Loads::IfParked).await;
    }

    /// Loads a queued or parked run. If the store cannot read it now, it is held until the store works again.
    pub(super) async fn load(&self, run: RunId) {
        self.load_when(run, Loads::Always).await;
    }

    async fn load_when(&self, run: RunId, loads: Loads) {
        let Err(error) = self.load_run(run, None, loads).await else { return };
        tracing::error!(run_id = %run, %error, "cannot load a run");
        self.not_loaded(run, &error);
    }
}
