//! The store port on PostgreSQL, for many nodes.
//!
//! [`PostgresStore`] implements all ports of [`loom_store`]: any number of processes open the same database, each with a store of
//! its own, and agree on who may write to what.
//!
//! - **A group is one statement.** A process has one connection that writes. What waits is written by one statement in autocommit
//!   mode, which checks everything and locks the fences of the nodes that it writes for. No commit is ever cancelled.
//! - **Nothing is lost, or written twice, with a connection.** When the connection breaks during a statement, the store inserts a
//!   row under the key that the statement uses. Either that succeeds, and the statement has not taken effect and never will, or the
//!   row of the statement is there and says what it returned.
//! - **Order.** Ids of messages are assigned in the order of commits. The cursor of the feed has a position for each writer.
//! - **Ownership.** [`Membership`](loom_store::Membership) decides, as a state machine without clock and I/O, when to renew, claim, fence and release.
//! - **Partitions.** Frames are partitioned by the week in which their run was accepted.
//!
//! `docs/decisions/0020-many-nodes-on-postgresql.md` in the repository explains why, and has the statement; `docs/scale.md` says what
//! is promised.
//!
//! # Versions
//!
//! The statements are written for PostgreSQL 14 to 18. Continuous integration tests version 15.
//!
//! # Tests
//!
//! The tests of this crate start a PostgreSQL server of their own. They are behind the feature `postgres-tests`, so that
//! `cargo test --workspace` needs no PostgreSQL; the tests that need it are behind a feature:
//!
//! ```text
//! cargo test -p loom-store-postgres --features postgres-tests
//! ```
//!
//! The programs of the server are found in `/usr/lib/postgresql/*/bin`, where Debian installs them, or in the directory that the
//! environment variable `LOOM_POSTGRES_BIN` names. The server refuses to run as root; as root, the tests run it as the user
//! `postgres`.

mod options;
mod store;

mod feed;
mod owners;
mod read;
mod upkeep;

mod group;
mod queue;
mod statement;
mod writer;

mod blobs;
mod connect;
mod explain;
mod list;
mod pack;
mod partitions;
mod rows;
mod schema;
mod text;
mod verify;

pub use options::PostgresOptions;
pub use store::PostgresStore;
