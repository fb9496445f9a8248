//! What can go wrong, and what the caller can do about it.

use std::{error::Error as StdError, fmt, path::PathBuf, sync::Arc};

use crate::{ContentHash, RunId, Seq, commit::Commit};

/// A cause that many waiting commits can share.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why the store could not do as asked. Cheap to clone: one failed group answers everybody in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The commit contradicts what is stored. Nothing of it was written; other commits went on.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The disk failed while this was written, and the store paused. Nothing of the commit can be seen until
    /// [`Store::resume`](crate::Store::resume); after it, the commit is there as a whole or not at all, so read before
    /// writing again.
    #[error("the store could not {operation}, and has paused")]
    Paused {
        /// What it was doing.
        operation: &'static str,
        /// What the disk said.
        #[source]
        source: Cause,
    },
    /// A read failed, or a large blob could not be written. Nothing was changed, and the store goes on.
    #[error("the store could not {operation}")]
    Io {
        /// What it was doing.
        operation: &'static str,
        /// What the disk said.
        #[source]
        source: Cause,
    },
    /// What was read is not what was written. The store does not guess: it stops, and takes no commit in until it is
    /// opened anew.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Where, and how it was noticed.
        what: String,
    },
    /// The folder belongs to a process that still runs.
    #[error("{} is in use by process {}", path.display(), holder.as_deref().unwrap_or("(unknown)"))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, as it wrote itself down.
        holder: Option<String>,
    },
    /// A newer Loom wrote this store.
    #[error("the store has format {found}, and this program knows formats up to {known}")]
    NewerFormat {
        /// The store's format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// An older Loom wrote this store, and it was opened for reading only.
    #[error(
        "the store has format {found}, and reading needs format {needed}; `loom serve` converts it when it starts"
    )]
    OlderFormat {
        /// The store's format.
        found: i64,
        /// The format that can be read.
        needed: i64,
    },
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// The file is a database, but not one of ours.
    #[error("{} is not a Loom store", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The store could not be opened.
    #[error("the store at {} could not be opened", path.display())]
    Open {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing the request. After [`Error::Paused`] that is
    /// once the disk has room again and the store was resumed.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Paused { .. } | Self::Io { .. } | Self::Locked { .. })
    }

    pub(crate) fn io(operation: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Io { operation, source: Arc::new(source) }
    }

    pub(crate) fn damaged(what: impl fmt::Display) -> Self {
        Self::Damaged { what: what.to_string() }
    }
}

/// How a commit contradicts what is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Somebody else wrote to the run, or an earlier commit of this writer was refused.
    #[error("run {run} goes on at {actual}, not at {expected}")]
    Seq {
        /// The run.
        run: RunId,
        /// Where the commit wanted to go on.
        expected: Seq,
        /// Where the journal goes on.
        actual: Seq,
    },
    /// The row names another workflow, idempotency key or parent than the row the run has.
    #[error("run {run} was accepted with another workflow, idempotency key or parent")]
    Identity {
        /// The run.
        run: RunId,
    },
    /// The named value is not what the commit expected.
    #[error("`{namespace}/{key}` has {}", actual.map_or_else(|| "no value".into(), |version| format!("version {version}")))]
    Key {
        /// The family of names.
        namespace: Arc<str>,
        /// The name.
        key: Arc<str>,
        /// The version it has, if any.
        actual: Option<u64>,
    },
    /// The content is neither in the commit nor in the store.
    #[error("blob {0} is not in the store")]
    MissingBlob(ContentHash),
    /// The parts of the commit name different runs.
    #[error("one commit cannot write to two runs")]
    MixedRuns,
    /// Blobs live as long as their run, and the commit names none.
    #[error("blobs were committed without a run to keep them")]
    BlobsWithoutRun,
    /// Retention has removed the run's journal, and nothing can follow what is gone.
    #[error("run {run} was purged")]
    Purged {
        /// The run.
        run: RunId,
    },
    /// Numbers of frames and timers go up to 2^63 - 1.
    #[error("{number} is too large for the number of a frame or a timer")]
    OutOfRange {
        /// The number.
        number: u64,
    },
    /// Larger than the whole queue.
    #[error("a commit of {bytes} bytes is larger than the queue, {bytes_max} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most the queue can hold.
        bytes_max: usize,
    },
}

/// An append that was not taken in. It left no trace, and the order of what was taken in is unharmed.
#[derive(Debug)]
pub struct Refused {
    /// The commit, given back.
    pub commit: Box<Commit>,
    /// Why.
    pub reason: Refusal,
}

/// Why an append was not taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The queue is full. [`Store::commit`](crate::Store::commit) waits for a place.
    #[error("the writer's queue is full")]
    Full,
    /// The store takes nothing in at the moment.
    #[error(transparent)]
    Unavailable(#[from] Error),
}
