//! The port: what every backend can do.
//!
//! Answers are boxed futures, so that `dyn Store` works and no async runtime is prescribed. Each method says what it
//! promises; the `contract` feature brings the tests of those promises.

use std::{fmt, pin::Pin};

use bytes::Bytes;

use crate::{
    Ack, AtWork, Blob, Commit, Committed, ContentHash, Error, FramePage, FrameQuery, InboxId, InboxMessage,
    InboxQuery, Interrupted, KeyPage, KeyQuery, KeyValue, LoadedRun, Metrics, Refused, Retention, RunId,
    RunPage, RunQuery, RunRow, Seq, Swept, Timer, TimerQuery, UnixMillis,
};

/// An answer that is on its way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'static>>;

/// A place that keeps runs.
///
/// # Order
/// Appends take effect in the order they are taken in, each as a whole. What a read sees was durable before the read
/// began, and includes every commit whose [`Ack`] has resolved.
///
/// # When full
/// The writer's queue is bounded. [`append`](Store::append) gives the commit back when it is full, and
/// [`commit`](Store::commit) waits its turn. Nothing that was taken in is ever dropped.
///
/// # Cancel safety
/// Dropping any answer gives up the answer. A [`commit`](Store::commit) that still waits for a place is withdrawn; one
/// that was taken in is written. Reads change nothing.
pub trait Store: fmt::Debug + Send + Sync {
    /// Takes a commit in, if there is room, without waiting.
    ///
    /// # Errors
    /// [`Refused`] with the commit, when the queue is full or the store takes nothing in.
    fn append(&self, commit: Commit) -> Result<Ack, Refused>;

    /// Waits for room, takes the commit in, and waits until it is durable.
    fn commit(&self, commit: Commit) -> Answer<Committed>;

    /// Waits until everything taken in before is durable, lazy commits included.
    fn flush(&self) -> Answer<()>;

    /// The row of a run.
    fn run(&self, run: RunId) -> Answer<Option<RunRow>>;

    /// The row of the run that was accepted under an idempotency key.
    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>>;

    /// Runs by workflow, status, error, parent and time of acceptance.
    fn runs(&self, query: RunQuery) -> Answer<RunPage>;

    /// Runs that have not ended, oldest first, after the run `after`; at most `limit`, and fewer only at the end.
    fn unfinished(&self, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>>;

    /// The newest run id in the store, for [`RunIdSource`](crate::RunIdSource).
    fn newest_run(&self) -> Answer<Option<RunId>>;

    /// All that is needed to go on with a run, read at one moment.
    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>>;

    /// Frames of a run. A run without frames has an empty page.
    fn frames(&self, query: FrameQuery) -> Answer<FramePage>;

    /// Timers that are armed.
    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>>;

    /// Messages that are pending.
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>>;

    /// How many messages are pending for a run.
    fn pending(&self, run: RunId) -> Answer<u64>;

    /// The message that was left for a run, or for nobody, under an idempotency key, whether or not it is pending.
    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>>;

    /// A definition.
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>>;

    /// Makes content ready to be committed, and names it: the same content always has the same hash, which need not be that
    /// of its bytes as they are. A large one is written to the disk and synced here, away from the writer;
    /// it belongs to nobody, and may be removed again, until a commit refers to it.
    fn put_blob(&self, content: Bytes) -> Answer<Blob>;

    /// At most `length` bytes of a blob's content from `offset` on, both in bytes; `None` when there is no such blob.
    /// The hash is checked whenever the whole content is asked for.
    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>>;

    /// A named value.
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>>;

    /// Named values.
    fn keys(&self, query: KeyQuery) -> Answer<KeyPage>;

    /// Whether the store holds nothing at all: no run, definition, blob or named value, and no message ever.
    fn is_empty(&self) -> Answer<bool>;

    /// Notes that the caller is at work on a run whose journal goes on at `next`, until the answer is dropped. The process
    /// that opens the store next is told by [`interrupted`](Store::interrupted) what this one was at work on when it
    /// ended, however it ended. Costs no system call and no sync. A backend without a disk notes nothing.
    fn at_work(&self, run: RunId, next: Seq) -> AtWork {
        let _ = (run, next);
        AtWork::UNMARKED
    }

    /// What the process that had the store open before was at work on when it ended, until
    /// [`forget_interrupted`](Store::forget_interrupted). What this process is at work on is not in it.
    fn interrupted(&self) -> Interrupted {
        Interrupted::default()
    }

    /// Says that somebody has taken note of [`interrupted`](Store::interrupted), durably.
    fn forget_interrupted(&self) {}

    /// Stops taking commits in, because somebody has found out that what was read is not what was written. Reads still
    /// work; the store takes no commit in until it is opened anew.
    fn condemn(&self, reason: Error);

    /// Forgets what the policy no longer keeps, as of `now`. Commits go on meanwhile. A sweep that is cut short is
    /// finished by the next; dropping the answer does not stop it.
    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept>;

    /// Reads everything and checks it: structure, checksums, hashes, gaps. Answers how many records were read. Takes
    /// as long as reading the whole store.
    fn verify(&self) -> Answer<u64>;

    /// Whether the store works, and in which mode.
    fn health(&self) -> Health;

    /// What the store has done since it was opened.
    fn metrics(&self) -> Metrics;

    /// Ends a pause: opens the files anew, makes sure that everything visible is durable, and takes commits in again.
    /// Does nothing when the store runs. Read what the failed commits left before writing to their runs again.
    fn resume(&self) -> Answer<()>;

    /// Writes what was taken in and closes the store; everything after it answers [`Error::Closed`].
    fn close(&self) -> Answer<()>;
}

/// What a commit survives once its answer is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, of the system, and of the power: it was synced to the disk.
    #[default]
    Durable,
    /// The end of the process. A loss of power may take the last seconds, but always a tail, never a part.
    Relaxed,
    /// Nothing.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Durable => "durable",
            Self::Relaxed => "relaxed",
            Self::Memory => "memory",
        })
    }
}

/// How a store is.
#[derive(Clone, Debug)]
pub struct Health {
    /// What a commit survives.
    pub durability: Durability,
    /// Whether commits are taken in.
    pub condition: Condition,
    /// Bytes in the writer's queue, what stands around the payloads included.
    pub queued_bytes: usize,
    /// The most the queue holds.
    pub queue_bytes_max: usize,
}

/// Whether commits are taken in.
#[derive(Clone, Debug)]
pub enum Condition {
    /// They are.
    Running,
    /// A write failed, and [`Store::resume`] may end that; or damage was found, or the store was opened for reading only,
    /// and then it does not. Reads still work.
    Paused(Error),
    /// The store was closed.
    Closed,
}
