//! Shared memory: values, lists, hashes, sets and counters that outlive a run, under keys that several runs may use.
//!
//! The operations are pure: [`apply`] and [`transact`] compute results and changes from what a key holds and the current
//! time. [`SharedMemory`] is the port, and [`StoredMemory`] implements it over the named values of a [`loom_store::Store`].
//! [`StoredMemory::prepare`] returns the writes instead of committing them, so that they can be committed together with
//! something else. The crate knows nothing of workflow definitions; it has no clock.
//!
//! With the feature `contract`, the module `contract` has the tests that every backend must pass.
//!
//! ```
//! use std::sync::Arc;
//!
//! use loom_memory::{Namespace, Operation, Request, SharedMemory, StoredMemory};
//! use loom_store::{MemoryStore, UnixMillis};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), loom_memory::Error> {
//! let memory = StoredMemory::new(Arc::new(MemoryStore::default()), Arc::new(|| UnixMillis(1_700_000_000_000)));
//! let add = Request::new("orders", Operation::increment(2))?;
//! let outcomes = memory.transact(&Namespace::Global, vec![add]).await?;
//! assert_eq!(outcomes[0].value.as_i64(), Some(2));
//! # Ok(()) }
//! ```

mod operation;
mod wire;

mod address;
mod content;
mod grants;

mod apply;
mod transact;

mod port;
mod stored;
mod watch;

mod encoding;
mod error;
mod locks;

#[cfg(feature = "contract")]
pub mod contract;

pub use self::{
    address::{Address, Namespace, Own},
    apply::{Applied, Change, apply},
    content::{Content, Entry, Revision, Type},
    encoding::{CONTENT_BYTES_MAX, INLINE_BYTES_MAX},
    error::Error,
    grants::{Access, Grants, Pattern},
    operation::{Condition, Expiry, KEY_BYTES_MAX, Key, Operation, Request},
    port::{ListQuery, Listed, NamespacesPage, NamespacesQuery, Outcome, Page, Reply, SharedMemory},
    stored::{Clock, Held, Prepared, Reserved, StoredMemory},
    transact::{Transacted, transact},
    watch::{ChangedPage, Changes, Notice, Position, Watch, WatchFrom, WatchQuery},
};

/// The examples of README.md, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
