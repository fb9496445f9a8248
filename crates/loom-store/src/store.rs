//! The ports: what every backend can do, in one trait for each kind of caller.
//!
//! Methods return boxed futures, so that `dyn Store` works and no async runtime is prescribed. Each method documents
//! what it promises; the feature `contract` has the tests of those promises.

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;

use crate::{
    Ack, AtWork, Blob, Changes, Commit, Committed, ContentHash, Count, Deletion, Error, FramePage,
    FrameQuery, InboxId, InboxMessage, InboxQuery, Interrupted, KeyPage, KeyQuery, KeyValue, LoadedRun,
    Metrics, Ownership, Refused, Retention, RunId, RunPage, RunQuery, RunRow, Sealer, Seq, Shards, Swept,
    Timer, TimerQuery, UnixMillis,
};

/// A result that is on its way: the future that most methods of a store return.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'static>>;

/// Durable storage for runs: the sum of all ports. Implemented for every type that has them all; a function that uses
/// only some of them asks for those.
///
/// # Order
/// Commits take effect in the order in which they were accepted, each as a whole. A read sees only what was durable
/// before the read began, including every commit whose [`Ack`] has resolved.
///
/// # When full
/// The write queue is bounded. When it is full, [`append`](Journal::append) gives the commit back and
/// [`commit`](Journal::commit) waits its turn. A commit that was accepted is never dropped.
///
/// # Cancel safety
/// Dropping a returned future gives up the result. A [`commit`](Journal::commit) that is still waiting for room is
/// withdrawn; one that was accepted is written. Reads change nothing.
pub trait Store: Journal + Runs + Inbox + Named + Blobs + Changes + Ownership + Upkeep {}

impl<T: Journal + Runs + Inbox + Named + Blobs + Changes + Ownership + Upkeep> Store for T {}

/// Writes commits, and reads what they appended to the journals of runs.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Accepts a commit if there is room, without waiting.
    ///
    /// # Errors
    /// [`Refused`], with the commit, when the queue is full or the store accepts no commits.
    fn append(&self, commit: Commit) -> Result<Ack, Refused>;

    /// Waits for room, accepts the commit, and waits until it is durable.
    fn commit(&self, commit: Commit) -> Answer<Committed>;

    /// Waits until everything accepted so far is durable, lazy commits included.
    fn flush(&self) -> Answer<()>;

    /// Returns everything that is needed to resume a run, read at one moment.
    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>>;

    /// Reads frames of a run. The page of a run without frames is empty.
    fn frames(&self, query: FrameQuery) -> Answer<FramePage>;
}

/// Finds runs: their rows, and when they continue.
pub trait Runs: fmt::Debug + Send + Sync {
    /// Returns the row of a run.
    fn run(&self, run: RunId) -> Answer<Option<RunRow>>;

    /// Returns the row of the run that was accepted under an idempotency key.
    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>>;

    /// Lists runs by what their rows say.
    fn runs(&self, query: RunQuery) -> Answer<RunPage>;

    /// Counts runs, at most [`RunQuery::limit`] of them. [`RunQuery::after`] is ignored.
    fn count(&self, query: RunQuery) -> Answer<Count>;

    /// Lists runs of these shards that have not ended, oldest first, starting after the run `after`; at most `limit`, and
    /// fewer only at the end.
    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>>;

    /// Lists the unfinished runs that are awake, those without [`wake_at`](RunRow::wake_at), oldest first; otherwise like
    /// [`unfinished`](Runs::unfinished).
    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>>;

    /// Counts the unfinished runs that are parked, those with [`wake_at`](RunRow::wake_at).
    fn parked(&self, shards: Shards) -> Answer<u64>;

    /// Returns the newest run id of these shards, for [`RunIdSource`](crate::RunIdSource).
    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>>;

    /// Lists armed timers.
    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>>;
}

/// Finds messages. They are posted and consumed by commits.
pub trait Inbox: fmt::Debug + Send + Sync {
    /// Lists pending messages.
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>>;

    /// Counts the pending messages of a run.
    fn pending(&self, run: RunId) -> Answer<u64>;

    /// Finds the message that was posted under an idempotency key to a run, or to no run, whether or not it is still
    /// pending.
    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>>;
}

/// Finds named values. They are written by commits.
pub trait Named: fmt::Debug + Send + Sync {
    /// Returns a named value.
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>>;

    /// Lists named values.
    fn keys(&self, query: KeyQuery) -> Answer<KeyPage>;

    /// Returns the first namespace, in byte order, that is not less than `start` and has a named value.
    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>>;
}

/// Content that is found by its hash: definitions and blobs.
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Returns a definition.
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>>;

    /// Prepares content for a commit and names it. The same content always has the same hash, which is not
    /// necessarily the hash of its plain bytes. Large content is written to the disk and synced here, not by the
    /// writer thread. Until a commit refers to it, it has no owner and may be removed again.
    fn put_blob(&self, content: Bytes) -> Answer<Blob>;

    /// Reads at most `length` bytes of a blob's content, starting at `offset`, both in bytes; `None` when there is no
    /// such blob. The hash is checked when the whole content is read.
    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>>;

    /// The hashes of the blobs that belong to a run, in order.
    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>>;
}

/// Looks after a store: its state, its key, its size, its damage.
pub trait Upkeep: fmt::Debug + Send + Sync {
    /// Whether the store holds nothing at all: no run, definition, blob or named value, and has never had a message.
    fn is_empty(&self) -> Answer<bool>;

    /// The sealer for secret values in payloads. The key is not in the data that commits write. Stores that encrypt all
    /// payloads, or keep nothing beyond the process, return [`Sealer::none`].
    fn sealer(&self) -> Sealer;

    /// Records that the caller is working on a run whose journal continues at `next`, until the returned value is
    /// dropped. The process that opens the store next gets the runs that this one was working on when it ended,
    /// however it ended, from [`interrupted`](Upkeep::interrupted). Costs no system call and no sync. A backend
    /// without a disk records nothing.
    fn at_work(&self, run: RunId, next: Seq) -> AtWork {
        let _ = (run, next);
        AtWork::UNMARKED
    }

    /// Returns what the previous process was working on when it ended, until
    /// [`forget_interrupted`](Upkeep::forget_interrupted) is called. The work of this process is not included.
    fn interrupted(&self) -> Interrupted {
        Interrupted::default()
    }

    /// Records durably that [`interrupted`](Upkeep::interrupted) has been handled; it is empty from then on.
    fn forget_interrupted(&self) {}

    /// Stops accepting commits because the caller found that what it read is not what was written. Reads still work;
    /// the store accepts no commit until it is reopened.
    fn condemn(&self, reason: Error);

    /// Removes what the policy no longer keeps, as of `now`. Commits continue meanwhile. A sweep that is interrupted
    /// is finished by the next one; dropping the returned future does not stop it.
    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept>;

    /// Deletes a run that has ended: its row, frames, snapshot, timers and messages, and the blobs that no other run refers
    /// to. After a crash the run is either complete or deleted. The space of a long journal may be freed by the next sweep.
    fn delete_run(&self, run: RunId) -> Answer<Deletion>;

    /// Reads and checks everything: structure, checksums, hashes and gaps. Returns the number of records read. Takes
    /// as long as reading the whole store.
    fn verify(&self) -> Answer<u64>;

    /// Reports whether the store works, and with which durability.
    fn health(&self) -> Health;

    /// Returns what the store has done since it was opened.
    fn metrics(&self) -> Metrics;

    /// Ends a pause: reopens the files, makes sure that everything visible is durable, and accepts commits again.
    /// Does nothing when the store is running. Before writing to the runs of the commits that failed, read what those
    /// commits left.
    fn resume(&self) -> Answer<()>;

    /// Writes what was accepted and closes the store; everything after that returns [`Error::Closed`].
    fn close(&self) -> Answer<()>;
}

/// What a commit survives once it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, a crash of the system and a loss of power: it was synced to the disk.
    #[default]
    Durable,
    /// The end of the process. A crash of the system or a loss of power may take the last seconds: the most recent
    /// commits, and each of them whole.
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

/// The state of a store.
#[derive(Clone, Debug)]
pub struct Health {
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// Whether commits are accepted.
    pub condition: Condition,
    /// Bytes in the write queue, including the overhead of each commit.
    pub queued_bytes: usize,
    /// The capacity of the write queue, in bytes.
    pub queue_bytes_max: usize,
}

/// Whether commits are accepted.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Commits are accepted.
    Running,
    /// Commits are refused; reads still work. After a failed write, [`Upkeep::resume`] may end the pause. When damage
    /// was found, or the store was opened read-only, it cannot.
    Paused(Error),
    /// The store was closed.
    Closed,
}
