//! The queue of accepted runs that have no task yet.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use crate::event::RunId;

/// Accepted runs that have no task yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when a run is no longer in memory, for the task that loads queued runs.
    pub(crate) room: Notify,
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

    pub(crate) fn add(&self, run: RunId) {
        self.lock().runs.insert(run);
    }

    /// Reports that a run is no longer in progress, or in memory.
    pub(crate) fn ended(&self) {
        self.room.notify_one();
        self.left.notify_waiters();
    }

    /// The next run; none when the queue is empty, and then the loading task has to end. The run stays in the queue until
    /// [`Queue::forget`], so that it is always found either here or in progress.
    pub(crate) fn first(&self) -> Option<RunId> {
        let mut waiting = self.lock();
        let first = waiting.runs.first().copied();
        waiting.attended = first.is_some();
        first
    }

    pub(crate) fn forget(&self, run: RunId) {
        self.lock().runs.remove(&run);
    }

    /// Removes all other runs.
    pub(crate) fn retain(&self, stays: impl Fn(RunId) -> bool) {
        self.lock().runs.retain(|run| stays(*run));
    }

    /// Marks the queue as having a task that loads its runs. Returns whether it had one.
    pub(crate) fn attend(&self) -> bool {
        std::mem::replace(&mut self.lock().attended, true)
    }

    /// Waits until a run is no longer in progress, or in memory.
    pub(crate) fn left(&self) -> Notified<'_> {
        self.left.notified()
    }

    /// Whether a run is in the queue.
    pub(crate) fn holds(&self, run: RunId) -> bool {
        self.lock().runs.contains(&run)
    }
}
