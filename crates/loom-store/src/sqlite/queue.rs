//! The bounded queue between the callers and the writer thread.
//!
//! The capacity is in bytes, and each commit counts as its payload plus [`OVERHEAD`], so that many small commits are
//! limited as well. When the queue is full, `append` gives the commit back and `commit` waits in line for room; room
//! is released only when a commit got its reply. A commit that was accepted is never dropped without a reply.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{Conflict, Deletion, Error, NodeId, Reply, RunId, Urgency};

use super::{apply::Packed, sweep::Sweep};

/// What each commit counts in addition to its payload, in bytes.
const OVERHEAD: usize = 1024;

/// A commit that is waiting for the writer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) packed: Packed,
    pub(super) bytes: usize,
    pub(super) taken_in: Instant,
    pub(super) reply: Reply,
    pub(super) charge: OwnedSemaphorePermit,
}

/// Work of the writer between groups.
#[derive(Debug)]
pub(super) enum Job {
    Resume(oneshot::Sender<Result<(), Error>>),
    Close,
    /// Does a slice of a sweep.
    Sweep(Box<Sweep>),
    /// Saves the id of a node, so that it is not used again after a restart.
    Register(NodeId, oneshot::Sender<Result<(), Error>>),
    /// Deletes a run.
    Delete(RunId, oneshot::Sender<Result<Deletion, Error>>),
    /// Resets the write-ahead log, which the checkpointer could not do because commits kept coming.
    RestartLog,
}

/// The work that the writer takes from the queue.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) group: Vec<Entry>,
    pub(super) jobs: VecDeque<Job>,
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
    room: Arc<Semaphore>,
    bytes_max: usize,
    linger: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    jobs: VecDeque<Job>,
    urgent: usize,
    /// Why no commits are accepted at the moment.
    stopped: Option<Error>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize, linger: Duration) -> Self {
        let bytes_max = bytes_max.clamp(2 * OVERHEAD, 1 << 30);
        Self {
            inner: Mutex::default(),
            arrived: Condvar::new(),
            room: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
            linger,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn bytes_queued(&self) -> usize {
        self.bytes_max - self.room.available_permits().min(self.bytes_max)
    }

    /// The room that a commit of `bytes` needs.
    pub(super) fn charge(&self, bytes: usize) -> Result<u32, Conflict> {
        let charge = bytes.saturating_add(OVERHEAD);
        let fits = u32::try_from(charge).ok().filter(|_| charge <= self.bytes_max);
        fits.ok_or(Conflict::TooLarge { bytes, bytes_max: self.bytes_max - OVERHEAD })
    }

    /// Reserves room, or returns `None` when the queue is full.
    pub(super) fn try_reserve(&self, charge: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(charge).ok()
    }

    /// Waits in line for room.
    pub(super) async fn reserve(&self, charge: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.room).acquire_many_owned(charge).await;
        permit.expect("the semaphore is private and never closed")
    }

    /// Why no commits are accepted, if so.
    pub(super) fn stopped(&self) -> Option<Error> {
        self.lock().stopped.clone()
    }

    /// Accepts an entry, or returns it with the reason.
    pub(super) fn push(&self, entry: Entry) -> Result<(), Box<(Entry, Error)>> {
        let mut inner = self.lock();
        if let Some(reason) = &inner.stopped {
            return Err(Box::new((entry, reason.clone())));
        }
        let urgent = entry.packed.commit.urgency == Urgency::Now;
        // Lazy commits must not fill the queue while the writer lingers.
        let crowded = self.room.available_permits() < self.bytes_max / 2;
        let wake = inner.entries.is_empty() || (inner.urgent == 0 && (urgent || crowded));
        inner.urgent += usize::from(urgent || crowded);
        inner.entries.push_back(entry);
        drop(inner);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Hands the writer a job.
    pub(super) fn push_job(&self, job: Job) {
        let mut inner = self.lock();
        if matches!(inner.stopped, Some(Error::Closed)) {
            // No writer is left to do it; dropping the job informs its caller.
            return;
        }
        inner.jobs.push_back(job);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Stops accepting commits and returns those that are waiting.
    pub(super) fn stop(&self, reason: Error) -> VecDeque<Entry> {
        let mut inner = self.lock();
        if matches!(reason, Error::Closed) {
            inner.jobs.clear();
        }
        // A closed store stays closed.
        if !matches!(inner.stopped, Some(Error::Closed)) {
            inner.stopped = Some(reason);
        }
        inner.urgent = 0;
        mem::take(&mut inner.entries)
    }

    /// Accepts commits again.
    pub(super) fn restart(&self) {
        self.lock().stopped = None;
    }

    /// Waits for work. Returns immediately for jobs and urgent commits, after the linger time for lazy ones.
    pub(super) fn take(&self, commits_max: usize, bytes_max: usize) -> Work {
        let mut inner = self.lock();
        while inner.entries.is_empty() && inner.jobs.is_empty() {
            inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let idle = |inner: &mut Inner| inner.urgent == 0 && inner.jobs.is_empty();
        let (mut inner, _) =
            self.arrived.wait_timeout_while(inner, self.linger, idle).unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let mut fits = |entry: &Entry| {
            bytes += entry.bytes;
            bytes == entry.bytes || bytes <= bytes_max
        };
        let count = inner.entries.iter().take(commits_max).take_while(|entry| fits(entry)).count();
        let group: Vec<Entry> = inner.entries.drain(..count).collect();
        // What is left arrived while the group was full, so it does not linger: counting it as urgent is enough.
        inner.urgent = inner.entries.len();
        Work { group, jobs: mem::take(&mut inner.jobs) }
    }
}
