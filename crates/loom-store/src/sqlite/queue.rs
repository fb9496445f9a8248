//! The bounded queue between the callers and the writer thread.
//!
//! Its capacity is in bytes, and a commit is charged its payload plus [`OVERHEAD`], so that many small commits are
//! bounded as well. When it is full, `append` gives the commit back, and `commit` waits in line for its charge; room
//! returns only when a commit was answered. Nothing that was taken in is ever dropped without an answer.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{Committed, Conflict, Error, Urgency};

use super::{apply::Packed, sweep::Sweep};

/// What a commit is charged beyond its payload, in bytes.
const OVERHEAD: usize = 1024;

/// A commit that waits for the writer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) packed: Packed,
    pub(super) bytes: usize,
    pub(super) taken_in: Instant,
    pub(super) reply: oneshot::Sender<Result<Committed, Error>>,
    pub(super) charge: OwnedSemaphorePermit,
}

/// What the writer does between groups.
#[derive(Debug)]
pub(super) enum Job {
    Resume(oneshot::Sender<Result<(), Error>>),
    Close,
    /// Do a slice of a sweep.
    Sweep(Box<Sweep>),
    /// Reset the write-ahead log, which the background could not do because commits kept coming.
    RestartLog,
}

/// What the writer finds when it looks.
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
    /// Why nothing is taken in at the moment.
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

    /// What a commit of `bytes` is charged.
    pub(super) fn charge(&self, bytes: usize) -> Result<u32, Conflict> {
        let charge = bytes.saturating_add(OVERHEAD);
        let fits = u32::try_from(charge).ok().filter(|_| charge <= self.bytes_max);
        fits.ok_or(Conflict::TooLarge { bytes, bytes_max: self.bytes_max - OVERHEAD })
    }

    /// Room for a charge, or `None` when the queue is full.
    pub(super) fn try_reserve(&self, charge: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(charge).ok()
    }

    /// Waits in line for room.
    pub(super) async fn reserve(&self, charge: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.room).acquire_many_owned(charge).await;
        permit.expect("the semaphore is private and never closed")
    }

    /// Why nothing is taken in, if so.
    pub(super) fn stopped(&self) -> Option<Error> {
        self.lock().stopped.clone()
    }

    /// Takes an entry in, or gives it back with the reason.
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
            // Nobody is there to do it; dropping it tells whoever waits.
            return;
        }
        inner.jobs.push_back(job);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Stops taking commits in and gives out those that wait.
    pub(super) fn stop(&self, reason: Error) -> VecDeque<Entry> {
        let mut inner = self.lock();
        if matches!(reason, Error::Closed) {
            inner.jobs.clear();
        }
        // What has ended for good does not begin to wait for something.
        if !matches!(inner.stopped, Some(Error::Closed)) {
            inner.stopped = Some(reason);
        }
        inner.urgent = 0;
        mem::take(&mut inner.entries)
    }

    /// Takes commits in again.
    pub(super) fn restart(&self) {
        self.lock().stopped = None;
    }

    /// Waits for work: jobs at once, urgent commits at once, lazy ones after the linger time.
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
        // What is left came while the group was full, so it does not linger: counting it as urgent is enough.
        inner.urgent = inner.entries.len();
        Work { group, jobs: mem::take(&mut inner.jobs) }
    }
}
