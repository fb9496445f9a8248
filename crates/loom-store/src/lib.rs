//! Durable storage for workflow runs: a few narrow ports, their sum [`Store`], and its backends. The store keeps bytes
//! and does not know what they mean.
//!
//! For each run a store keeps a row that can be searched and a journal of opaque frames. Beside them it keeps timers,
//! messages, definitions, blobs and named values. Everything that must become durable together travels in one
//! [`Commit`], which is written as a whole or not at all.
//!
//! # Ports
//!
//! [`Store`] is the sum of the narrow ports; a function asks for those that it uses, such as `&dyn Named`.
//!
//! | port | what it does |
//! |---|---|
//! | [`Journal`] | writes commits, reads frames, loads a run |
//! | [`Runs`] | finds runs by what their rows say, and their timers |
//! | [`Inbox`] | finds messages |
//! | [`Named`] | finds named values: revisions, conditions, ends |
//! | [`Blobs`] | definitions and blobs, by their hash |
//! | [`Changes`] | what was committed after a cursor |
//! | [`Ownership`] | which process may write to what, when several use one database |
//! | [`Upkeep`] | retention, damage, health, pauses, closing |
//!
//! # Backends
//!
//! [`SqliteStore`] keeps one SQLite database in a directory and writes it in group commits. [`MemoryStore`] keeps
//! nothing beyond the process; it is for tests and for runs that need no disk. With the feature `encryption`,
//! `with_key` wraps any backend so that payloads are sealed before they reach it. With the feature `contract`, the
//! module `contract` has the tests that every backend must pass.
//!
//! # Write a backend
//!
//! A backend implements the eight ports, in a crate of its own. `tests/it/backend.rs` in the repository is a complete one
//! that uses only what this crate exports. In this order:
//!
//! 1. **Commits.** [`Journal::append`] takes a [`Commit`] and returns an [`Ack`]: [`Ack::ready`], or [`Ack::pending`] and
//!    later its [`Reply`]. Check everything first, in this order, and write nothing of a commit that is refused:
//!    [`Commit::validate`]; the owner, [`Conflict::Lost`]; the row, [`RunRow::same_identity`] and the idempotency key,
//!    which makes the result [`Committed::Duplicate`]; a journal that retention has removed, [`Conflict::Purged`]; the
//!    journal's next number, [`Conflict::Seq`]; known blobs, [`Conflict::MissingBlob`]; consumed messages,
//!    [`Conflict::Taken`]; and the conditions of named values, with [`check_keys`]. Check and write in one transaction:
//!    what was true before it may be false in it. The fields of [`Commit`] say what each part does. Three effects are easy
//!    to miss: timers are cleared before others are set; a [`Post`] under an idempotency key that was used before, even by
//!    a message that has been consumed, writes nothing and returns the first message; and a row keeps its
//!    [`purged`](RunRow::purged), whatever the commit says.
//! 2. **Order.** The commits of one handle take effect in the order in which they were accepted, and an `Ack` resolves
//!    once its commit is durable. Commits of several handles are ordered only where they touch the same run, message or
//!    value.
//! 3. **Reads.** Bound each of them. [`RunQuery::range`] gives the ids of a page, and [`RunQuery::matches`] says what
//!    belongs on it; a page that examined enough runs ends early and sets [`RunPage::next`].
//! 4. **Blobs.** [`Blobs::put_blob`] returns content that travels with the commit ([`Blob::carried`]), or has been written
//!    already ([`Blob::written`]); the commit reads it from [`Blob::content`]. Count who refers to it.
//! 5. **Changes.** A position in a [`Cursor`] belongs to a writer whose commits take effect one after the other. A number
//!    that is drawn before its commit takes effect is not a position: readers would skip it.
//! 6. **Ownership.** A backend for one process uses [`OwnerTable`]. In a database, [`Ownership::fence`] must wait for the
//!    commits of the fenced node that are in progress, and commits must look at the fence in a way that makes it wait: a
//!    row that they lock, not one that they merely read. Claim and read what was claimed in separate statements.
//! 7. **Pauses.** When a write fails, answer every commit in it with [`Error::Paused`], accept no more until
//!    [`Upkeep::resume`], and report it in [`Upkeep::health`]. Whether a commit whose answer was lost took effect is found
//!    out by reading, not by trying again.
//!
//! 8. **Retention.** [`Upkeep::sweep`] removes data in two steps: of a run that ended long ago it removes everything but the
//!    row, which is then [`purged`](RunRow::purged), and later the row. The same goes for [`Upkeep::delete_run`], at once.
//!    The data of a run are its frames, its snapshot, its timers, pending messages to it, messages that it has consumed,
//!    named values with its [`run`](KeyWrite::run), and blobs that no other run refers to. A sweep also removes named
//!    values that have expired. [`Retention`] computes what is too old; a reader of changes who may have missed something
//!    that was removed gets [`ChangePage::is_incomplete`].
//!
//! What does not apply can stay out: a backend without a queue reports a size of 0 in [`Health`], one without a disk keeps the
//! provided [`Upkeep::at_work`], and `with_key` adds encryption to any backend.
//!
//! The feature `contract` has the tests. Enable it for your own tests, run every case on an empty store, and compare the
//! backend with [`MemoryStore`] under the same commits; they include refused ones. A backend for one process can skip
//! `CLUSTER`, which takes two handles of one store.
//!
//! ```
//! use std::sync::Arc;
//!
//! use loom_store::{
//!     Error, MemoryStore, Store,
//!     contract::{CASES, CLUSTER, Workload, dump},
//!     prelude::*,
//! };
//!
//! // Replace it by a handle of an empty store of your own.
//! fn empty() -> Arc<dyn Store> {
//!     Arc::new(MemoryStore::default())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! for case in CASES {
//!     println!("{}", case.name);
//!     (case.check)(empty()).await;
//! }
//! for case in CLUSTER {
//!     let store = empty();
//!     (case.check)([Arc::clone(&store), store]).await;
//! }
//!
//! let (mine, model) = (empty(), MemoryStore::default());
//! let mut workload = Workload::new(7);
//! for _ in 0..300 {
//!     let commit = workload.next_commit();
//!     let expected = model.commit(commit.clone()).await;
//!     let found = mine.commit(commit).await;
//!     assert_eq!(format!("{found:?}"), format!("{expected:?}"));
//!     if let Err(Error::Conflict(conflict)) = expected {
//!         workload.refused(&conflict);
//!     }
//! }
//! assert_eq!(dump(&*mine).await, dump(&model).await);
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Atomicity: each commit is applied as a whole or not at all, in the order in which commits were accepted.
//! - Durability: when an [`Ack`] resolves, the commit survives what [`Durability`] says. By default it was synced to
//!   the disk.
//! - One writer for each run: a commit names the sequence number at which the journal continues, and is refused with
//!   [`Conflict::Seq`] when that is not where it ends. Two writers of one run can never both succeed.
//! - Accepted once: a second run of a workflow with the same idempotency key is not written; the commit returns
//!   [`Committed::Duplicate`].
//! - Read what was written: every read checks checksums and hashes. A store that finds damage reports
//!   [`Error::Damaged`] and writes nothing more until it is reopened.
//! - Bounded memory: the write queue has a limit in bytes. [`Journal::append`] gives a commit back when the queue is
//!   full; [`Journal::commit`] waits for room.
//! - No hidden time: the store reads no clock for what it stores; callers pass [`UnixMillis`].
//!
//! `docs/journal-format.md` in the repository describes the files, byte for byte, and what is promised when the disk
//! fails.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use loom_store::{Commit, Frame, FrameQuery, Journal, MemoryStore, RunId, Seq, UnixMillis};
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

mod changes;
mod commit;
mod copy;
mod ids;
mod membership;
mod node;
mod ownership;
mod query;
mod retention;
mod shards;

mod memory;
mod sqlite;

mod ack;
mod at_work;
mod blob;
mod checksum;
mod error;
mod metrics;
mod pack;
mod seal;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "encryption")]
mod encrypted;

pub use ack::{Ack, Reply};
pub use at_work::{AtWork, Interrupted, Release};
pub use blob::{BLOB_ROW_MAX, Blob, BlobContent};
pub use changes::{Change, ChangePage, Changes, Cursor};
pub use commit::{
    Append, Commit, Committed, Definition, Flags, Frame, InboxMessage, KeyExpectation, KeyValue, KeyWrite,
    Post, RunRow, Snapshot, StoredFrame, Timer, TimerKey, Urgency, Written, check_keys,
};
pub use copy::{Copied, CopyError, copy};
#[cfg(feature = "encryption")]
pub use encrypted::{KeyError, with_key};
pub use error::{Cause, Conflict, Error, Refusal, Refused};
pub use ids::{ContentHash, InboxId, InvalidId, RunId, RunIdSource, Seq, UnixMillis};
pub use membership::{Failed, Intent, LeaseSettings, Membership, Moment, Outcome};
pub use memory::MemoryStore;
pub use metrics::{BUCKET_MICROS, Histogram, Metrics};
pub use node::{NodeStore, Standing};
pub use ownership::{NewNode, Node, NodeId, OwnerTable, Ownership, Under};
pub use query::{
    Count, FramePage, FrameQuery, InboxQuery, KeyPage, KeyQuery, LoadedRun, Order, Recipient, RunPage,
    RunQuery, TimerQuery,
};
pub use retention::{Deletion, Retention, Swept};
pub use seal::{Sealer, StoreKey};
pub use shards::{Shard, Shards};
pub use sqlite::{FaultPoint, Faults, SqliteOptions, SqliteStore};
pub use store::{Answer, Blobs, Condition, Durability, Health, Inbox, Journal, Named, Runs, Store, Upkeep};

/// The traits of a store, to call the methods of a store of a known type: `use loom_store::prelude::*;`. A `dyn Store`
/// needs no import.
pub mod prelude {
    pub use crate::{
        Blobs as _, Changes as _, Inbox as _, Journal as _, Named as _, Ownership as _, Runs as _,
        Upkeep as _,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
