//! Runs that wait for their turn: a firing may start very many at once, and not all of them fit into memory.
//!
//! Their starts are written to the store piece by piece. From then on they are runs like all others that are not in progress: a restart takes
//! them up, and so does whoever needs one of them. The rest is taken up in order, as there is room.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use loom_definition::Workflow;
use tokio::sync::Notify;

use super::{Engine, StartError};
use crate::{
    durable::{RecoverError, Written},
    event::{Command, RunId, RunStart},
    machine::Run,
};

/// Runs of one firing that start at once. With more of them, all are written first and then wait for their turn.
pub(crate) const AT_ONCE: usize = 256;

/// Accepted runs that no task drives yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when a run has ended.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they were accepted.
    runs: BTreeSet<RunId>,
    /// Whether a task takes them up.
    attended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, run: RunId) {
        self.lock().runs.insert(run);
    }

    /// A run is in progress no more.
    pub(super) fn ended(&self) {
        self.room.notify_one();
    }

    /// The next run; none when there is none, and then nobody attends any more. It waits until it is forgotten, so that whoever needs it
    /// finds it here or in progress.
    fn first(&self) -> Option<RunId> {
        let mut waiting = self.lock();
        let first = waiting.runs.first().copied();
        waiting.attended = first.is_some();
        first
    }

    fn forget(&self, run: RunId) {
        self.lock().runs.remove(&run);
    }

    /// Whether a run waits for its turn.
    fn holds(&self, run: RunId) -> bool {
        self.lock().runs.contains(&run)
    }
}

impl Engine {
    /// Whether so many runs of one firing wait for their turn. Without a store there is nowhere to wait.
    pub(crate) fn queues(&self, runs: usize) -> bool {
        runs > AT_ONCE && self.inner.durable.is_some()
    }

    /// Makes runs durable, in their order, and has them taken up as there is room. Gives what the first starts from.
    ///
    /// # Errors
    /// The store took not all of them. Those that it took go on.
    ///
    /// # Cancel safety
    /// Runs that were accepted go on, and no more are.
    pub(crate) async fn accept_all(
        &self,
        workflow: &Arc<Workflow>,
        mut runs: impl Iterator<Item = (Arc<RunStart>, Written)> + Send,
    ) -> Result<Option<Arc<RunStart>>, StartError> {
        let mut first = None;
        loop {
            let piece: Vec<_> = runs.by_ref().take(AT_ONCE).collect();
            let Some((start, _)) = piece.first() else { return Ok(first) };
            first.get_or_insert_with(|| Arc::clone(start));
            let (engine, workflow) = (self.clone(), Arc::clone(workflow));
            // A task, so that no run is accepted without being queued when the caller goes away.
            let accepting =
                self.inner.tasks.spawn(async move { engine.accept_piece(&workflow, piece).await });
            accepting.await.map_err(|_| StartError::Stopping)??;
        }
    }

    async fn accept_piece(
        &self,
        workflow: &Arc<Workflow>,
        piece: Vec<(Arc<RunStart>, Written)>,
    ) -> Result<(), StartError> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
            return Err(StartError::Stopping);
        }
        let now = self.inner.clock.now();
        let begun = piece.into_iter().map(|(start, written)| {
            self.inner.environment.learn_parameters(&start);
            let mut journal = durable.begin(workflow, &start, written);
            let mut run = Run::new(Arc::clone(workflow), Arc::clone(&self.inner.environment));
            let id = start.run;
            // What follows from the start is left to whoever takes the run up.
            run.handle_some(Command::Start(start), now, 0);
            let events = run.take_events();
            async move {
                journal.record(&events, run.state());
                let written = journal.flush(run.state(), now).await;
                written.map(|()| (id, events, run))
            }
        });
        let mut refused = None;
        for written in join_all(begun).await {
            match written {
                Ok((id, events, run)) => {
                    if let Some(watcher) = &self.inner.watcher {
                        watcher.events(run.state(), &events);
                    }
                    self.inner.queue.add(id);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        self.attend_queue();
        refused.map_or(Ok(()), |error| Err(StartError::Store(error)))
    }

    /// Has a task take up the runs that wait, unless one does already.
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

    /// Waits until fewer runs are in progress than may be. False when the engine stops.
    async fn has_room(&self) -> bool {
        let most = self.inner.environment.budgets.runs_max;
        loop {
            if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
                return false;
            }
            if self.runs_in_progress() < most {
                return true;
            }
            tokio::select! {
                () = self.inner.queue.room.notified() => {}
                () = self.inner.stopping.cancelled() => {}
                () = self.inner.flights.drains() => {}
            }
        }
    }

    /// Takes up a run out of turn, if it waits.
    pub(super) async fn call_up(&self, run: RunId) {
        if self.inner.queue.holds(run) {
            self.take_up(run).await;
            self.inner.queue.forget(run);
        }
    }

    /// Takes up a run that waited. One that the store does not give now is held until it does.
    async fn take_up(&self, run: RunId) {
        let Err(error) = self.recover_run(run, None).await else { return };
        tracing::error!(run_id = %run, %error, "a run that waited for its turn cannot be read back");
        if matches!(error, RecoverError::Store { .. }) {
            let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.runs.insert(run, error.to_string().into());
        }
    }
}
