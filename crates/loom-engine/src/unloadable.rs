//! Why a run cannot be loaded from the store.

use loom_store::{ContentHash, Error as StoreError, Seq};

use crate::{event::RunId, illegal::IllegalEvent, journal};

/// Why a run cannot be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The store could not be read.
    #[error("cannot read run {run}: {source}")]
    Store {
        /// The run.
        run: RunId,
        /// The store's error.
        #[source]
        source: StoreError,
    },
    /// The engine loads runs on request, and this one has not been requested; see
    /// [`Engine::stand_by`](crate::Engine::stand_by).
    #[error("the run {run} is held")]
    Held {
        /// The run.
        run: RunId,
    },
    /// A frame of the journal is damaged.
    #[error("the journal of run {run} is damaged in frame {frame}: {source}")]
    Journal {
        /// The run.
        run: RunId,
        /// The damaged frame.
        frame: Seq,
        /// What is wrong with it.
        #[source]
        source: journal::Unreadable,
    },
    /// The journal can be read, but one of its events cannot follow those before it.
    #[error("the journal of run {run} is inconsistent in frame {frame}: {source}")]
    Illegal {
        /// The run.
        run: RunId,
        /// The frame.
        frame: Seq,
        /// The event and the reason.
        #[source]
        source: IllegalEvent,
    },
    /// A large value is damaged or missing.
    #[error("the journal of run {run} refers to the value {hash}, which {why}")]
    Value {
        /// The run.
        run: RunId,
        /// The value's hash, its name in the store.
        hash: ContentHash,
        /// What is wrong with it: a predicate, such as "is missing from the store".
        why: String,
    },
    /// A secret that the run has read can no longer be read in that version.
    #[error("cannot use run {run}: {why}")]
    Secret {
        /// The run.
        run: RunId,
        /// Which secret, and why it cannot be read.
        why: String,
    },
    /// The definition that the run was started with cannot be loaded.
    #[error("cannot load the definition of run {run}: {why}")]
    Definition {
        /// The run.
        run: RunId,
        /// What is wrong.
        why: String,
    },
}
