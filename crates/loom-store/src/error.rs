//! What can go wrong, and what the caller can do about it.

use std::{error::Error as StdError, fmt, path::PathBuf, sync::Arc};

use crate::{ContentHash, InboxId, NodeId, RunId, Seq, Shard, commit::Commit};

/// A cause that many waiting commits can share.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why an operation of the store failed. Cheap to clone: when a group fails, every commit in it gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The commit contradicts what is stored. Nothing of it was written; other commits are not affected.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The disk failed during this write, and the store paused. Nothing of the commit is visible until
    /// [`Upkeep::resume`](crate::Upkeep::resume); after it, the commit is there as a whole or not at all, so read
    /// before writing again.
    #[error("the store could not {operation} and is paused")]
    Paused {
        /// What the store was doing.
        operation: &'static str,
        /// The error that the disk reported.
        #[source]
        source: Cause,
    },
    /// A read failed, or a large blob could not be written. Nothing was changed, and the store keeps running.
    #[error("the store could not {operation}")]
    Io {
        /// What the store was doing.
        operation: &'static str,
        /// The error that the disk reported.
        #[source]
        source: Cause,
    },
    /// What was read is not what was written. The store does not guess: it accepts no commit until it is reopened.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is damaged, where, and what to do.
        what: String,
    },
    /// A process that is still running has the directory open.
    #[error("{} is in use by process {}", path.display(), holder.as_deref().unwrap_or("(unknown)"))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The id of the process that holds it, as that process recorded it.
        holder: Option<String>,
    },
    /// A newer version of Loom wrote this store.
    #[error(
        "the store has format {found}, which a newer version of Loom wrote; this version reads formats up to {known}"
    )]
    NewerFormat {
        /// The store's format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// An older version of Loom wrote this store, and it was opened read-only.
    #[error(
        "the store has format {found}, which must be converted to format {needed} first; start `loom serve` on it once"
    )]
    OlderFormat {
        /// The store's format.
        found: i64,
        /// The format that is required.
        needed: i64,
    },
    /// The store was opened read-only.
    #[error("the store was opened read-only")]
    ReadOnly,
    /// The file is a database, but not a Loom store.
    #[error("{} is not a Loom store", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The store could not be opened.
    #[error("cannot open the store at {}", path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without a change to the request. After [`Error::Paused`], that is once
    /// the disk works again and the store was resumed.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Paused { .. } | Self::Io { .. } | Self::Locked { .. })
    }

    /// A failed read, or a write that changed nothing.
    pub fn io(operation: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Io { operation, source: Arc::new(source) }
    }

    /// Damage: what is damaged, where, and what to do.
    pub fn damaged(what: impl fmt::Display) -> Self {
        Self::Damaged { what: what.to_string() }
    }
}

/// How a commit contradicts what is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Another writer wrote to the run, or an earlier commit of this writer was refused.
    #[error("the next frame of run {run} must be {actual} (got {expected})")]
    Seq {
        /// The run.
        run: RunId,
        /// Where the commit wanted to continue.
        expected: Seq,
        /// Where the journal continues.
        actual: Seq,
    },
    /// The row names a different workflow, idempotency key or parent than the run was accepted with.
    #[error("run {run} was accepted with a different workflow, idempotency key or parent")]
    Identity {
        /// The run.
        run: RunId,
    },
    /// The named value does not have the version that the commit expected.
    #[error("`{namespace}/{key}` has changed: expected another version, found {}", actual.map_or_else(|| "no value".into(), |version| format!("version {version}")))]
    Key {
        /// The namespace.
        namespace: Arc<str>,
        /// The name within the namespace.
        key: Arc<str>,
        /// The current version, if the value exists.
        actual: Option<u64>,
    },
    /// The commit consumes a message that is not pending: another commit has consumed it.
    #[error("message {} is not pending: it has been consumed already, or does not exist", message.0)]
    Taken {
        /// The message.
        message: InboxId,
    },
    /// The node does not own the shard that the commit is [under](crate::Commit::under), or that of the run it writes to:
    /// the node was fenced, or has released the shard.
    #[error("node {node} does not own shard {shard}")]
    Lost {
        /// The node.
        node: NodeId,
        /// The shard.
        shard: Shard,
    },
    /// The node was fenced: it may own nothing any more.
    #[error("node {node} was fenced, or has never registered")]
    Fenced {
        /// The node.
        node: NodeId,
    },
    /// The content is neither in the commit nor in the store.
    #[error("blob {0} is not in the store")]
    MissingBlob(ContentHash),
    /// The parts of the commit name different runs.
    #[error("one commit cannot write to two runs")]
    MixedRuns,
    /// Blobs live as long as their run, and the commit names no run.
    #[error("a commit with blobs must name a run")]
    BlobsWithoutRun,
    /// Retention has removed the run's journal, so nothing can be appended to it.
    #[error("the journal of run {run} was removed by retention")]
    Purged {
        /// The run.
        run: RunId,
    },
    /// Sequence numbers and timer numbers go up to 2^63 - 1.
    #[error("the number of a frame or a timer must be at most 2^63 - 1 (got {number})")]
    OutOfRange {
        /// The number.
        number: u64,
    },
    /// The commit is larger than the whole queue.
    #[error("a commit must be at most {bytes_max} bytes, the size of the write queue (got {bytes} bytes)")]
    TooLarge {
        /// The size of the commit, in bytes.
        bytes: usize,
        /// The capacity of the queue, in bytes.
        bytes_max: usize,
    },
}

/// A commit that was not accepted. It left no trace, and the order of the accepted ones is intact.
#[derive(Debug)]
pub struct Refused {
    /// The commit, given back.
    pub commit: Box<Commit>,
    /// The reason.
    pub reason: Refusal,
}

/// Why a commit was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The queue is full. [`Journal::commit`](crate::Journal::commit) waits for room.
    #[error("the write queue is full")]
    Full,
    /// The store accepts no commits at the moment.
    #[error(transparent)]
    Unavailable(#[from] Error),
}
