//! Durable bytes: the journal port and its backends. Knows no workflow words.
//!
//! A [`Store`] keeps, for each run, a row that can be searched for and a journal of opaque frames; and beside them
//! timers, messages, definitions, blobs and named values. Whatever must become durable together travels in one
//! [`Commit`], which is written as a whole or not at all. Two backends are here: [`MemoryStore`], which forgets, and
//! [`SqliteStore`], which does not.
//!
//! ```
//! use bytes::Bytes;
//! use loom_store::{Commit, Frame, FrameQuery, MemoryStore, RunId, Seq, Store, UnixMillis};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), loom_store::Error> {
//! let store = MemoryStore::default();
//! let run = RunId::first_at(UnixMillis(1_700_000_000_000));
//! let frame = Frame { at: UnixMillis(1_700_000_000_000), payload: Bytes::from_static(b"accepted") };
//! store.commit(Commit::to_run(run, Seq::FIRST, vec![frame])).await?;
//! assert_eq!(store.frames(FrameQuery::of(run)).await?.frames.len(), 1);
//! # Ok(()) }
//! ```

mod store;

mod commit;
mod ids;
mod query;
mod retention;

mod memory;
mod sqlite;

mod ack;
mod at_work;
mod blob;
mod checksum;
mod error;
mod metrics;
mod pack;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "encryption")]
mod encrypted;

pub use ack::Ack;
pub use at_work::{AtWork, Interrupted};
pub use blob::{BLOB_ROW_MAX, Blob};
pub use commit::{
    Commit, Committed, Definition, Frame, InboxMessage, Journal, KeyExpectation, KeyValue, KeyWrite, Post,
    RunRow, Snapshot, StoredFrame, Timer, TimerKey, Urgency, Written,
};
#[cfg(feature = "encryption")]
pub use encrypted::{KeyError, StoreKey, with_key};
pub use error::{Cause, Conflict, Error, Refusal, Refused};
pub use ids::{ContentHash, InboxId, InvalidId, RunId, RunIdSource, Seq, UnixMillis};
pub use memory::MemoryStore;
pub use metrics::{BUCKET_MICROS, Histogram, Metrics};
pub use query::{
    FramePage, FrameQuery, InboxQuery, KeyPage, KeyQuery, LoadedRun, Order, Recipient, RunPage, RunQuery,
    TimerQuery,
};
pub use retention::{Retention, Swept};
pub use sqlite::{FaultPoint, Faults, SqliteOptions, SqliteStore};
pub use store::{Answer, Condition, Durability, Health, Store};
