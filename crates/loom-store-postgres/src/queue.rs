//! The bounded queue between the callers and the writer.
//!
//! The capacity is in bytes, and each commit counts as its payload plus [`OVERHEAD`], so that many small commits are limited as
//! well. When the queue is full, `append` gives the commit back and `commit` waits in line for room; room is released only when a
//! commit got its reply. A commit that was accepted is never dropped without a reply.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use loom_store::{Committed, Conflict, Error, Reply, Urgency};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::group::Packed;

/// What each commit counts in addition to its payload, in bytes.
const OVERHEAD: usize = 1024;

/// A commit that is waiting for the writer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) packed: Packed,
    pub(crate) bytes: usize,
    pub(crate) accepted: Instant,
    /// Its place in the order of the commits of its group.
    pub(crate) place: usize,
    reply: Reply,
    charge: OwnedSemaphorePermit,
}

impl Entry {
    /// Replies, and releases its room. A caller that went away gave up the result, not the commit.
    pub(crate) fn answer(self, answer: Result<Committed, Error>) {
        drop(self.charge);
        self.reply.send(answer);
    }
}

/// Work of the writer between groups.
#[derive(Debug)]
pub(crate) enum Job {
    Resume(oneshot::Sender<Result<(), Error>>),
    Close(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    jobs: VecDeque<Job>,
    urgent: usize,
    /// Why no commits are accepted at the moment.
    stopped: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    arrived: Notify,
    room: Arc<Semaphore>,
    bytes_max: usize,
    linger: Duration,
}

/// What the writer takes from the queue.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) jobs: VecDeque<Job>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, linger: Duration) -> Self {
        let bytes_max = bytes_max.clamp(2 * OVERHEAD, 1 << 30);
        let room = Arc::new(Semaphore::new(bytes_max));
        Self { inner: Mutex::default(), arrived: Notify::new(), room, bytes_max, linger }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(crate) fn bytes_queued(&self) -> usize {
        self.bytes_max - self.room.available_permits().min(self.bytes_max)
    }

    /// The room that a commit of `bytes` needs.
    pub(crate) fn charge(&self, bytes: usize) -> Result<u32, Conflict> {
        let charge = bytes.saturating_add(OVERHEAD);
        let fits = u32::try_from(charge).ok().filter(|_| charge <= self.bytes_max);
        fits.ok_or(Conflict::TooLarge { bytes, bytes_max: self.bytes_max - OVERHEAD })
    }

    /// Reserves room, or returns `None` when the queue is full.
    pub(crate) fn try_reserve(&self, charge: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(charge).ok()
    }

    /// Waits in line for room.
    pub(crate) async fn reserve(&self, charge: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.room).acquire_many_owned(charge).await;
        permit.expect("the semaphore is private and never closed")
    }

    /// Why no commits are accepted, if so.
    pub(crate) fn stopped(&self) -> Option<Error> {
        self.lock().stopped.clone()
    }

    /// Accepts a commit, or returns it with the reason.
    pub(crate) fn push(
        &self,
        packed: Packed,
        bytes: usize,
        reply: Reply,
        charge: OwnedSemaphorePermit,
    ) -> Result<(), Box<(Packed, Error)>> {
        let mut inner = self.lock();
        if let Some(reason) = &inner.stopped {
            return Err(Box::new((packed, reason.clone())));
        }
        // Commits that nobody waits for must not fill the queue while the writer lingers.
        let crowded = self.room.available_permits() < self.bytes_max / 2;
        inner.urgent += usize::from(packed.commit.urgency == Urgency::Now || crowded);
        inner.entries.push_back(Entry { packed, bytes, accepted: Instant::now(), place: 0, reply, charge });
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Hands the writer a job; dropping it informs its caller that no writer is left.
    pub(crate) fn push_job(&self, job: Job) {
        let mut inner = self.lock();
        if matches!(inner.stopped, Some(Error::Closed)) {
            return;
        }
        inner.jobs.push_back(job);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Stops accepting commits and returns those that are waiting.
    pub(crate) fn stop(&self, reason: Error) -> VecDeque<Entry> {
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

    /// Accepts commits again, unless the store was closed.
    pub(crate) fn restart(&self) {
        let mut inner = self.lock();
        if !matches!(inner.stopped, Some(Error::Closed)) {
            inner.stopped = None;
        }
    }

    /// Waits for work: returns immediately for jobs and urgent commits, after the linger time for others.
    pub(crate) async fn take(&self, commits_max: usize, bytes_max: usize) -> Work {
        let mut linger_until = None;
        loop {
            {
                let mut inner = self.lock();
                let over = linger_until.is_some_and(|until| Instant::now() >= until);
                if inner.urgent > 0 || !inner.jobs.is_empty() || (over && !inner.entries.is_empty()) {
                    return drain(&mut inner, commits_max, bytes_max);
                }
                if !inner.entries.is_empty() && linger_until.is_none() {
                    linger_until = Some(Instant::now() + self.linger);
                }
            }
            match linger_until {
                None => self.arrived.notified().await,
                // Either way the state is examined again.
                Some(until) => drop(tokio::time::timeout_at(until, self.arrived.notified()).await),
            }
        }
    }
}

fn drain(inner: &mut Inner, commits_max: usize, bytes_max: usize) -> Work {
    let mut bytes = 0;
    let mut fits = |entry: &Entry| {
        bytes += entry.bytes;
        bytes == entry.bytes || bytes <= bytes_max
    };
    let count = inner.entries.iter().take(commits_max).take_while(|entry| fits(entry)).count();
    let entries = inner.entries.drain(..count).collect();
    // What is left arrived while the group was full, so it does not linger: counting it as urgent is enough.
    inner.urgent = inner.entries.len();
    Work { entries, jobs: mem::take(&mut inner.jobs) }
}
