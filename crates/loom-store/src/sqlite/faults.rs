//! The interface through which tests inject disk failures.

use std::{fmt, io};

/// Called before each disk operation of the store. For tests; a store without it never fails on purpose.
pub trait Faults: fmt::Debug + Send + Sync {
    /// Lets the operation proceed, or makes it fail with the returned error.
    ///
    /// # Errors
    /// The error that the disk is to report.
    fn strike(&self, point: FaultPoint) -> io::Result<()>;
}

/// The operation that the store is about to perform, or has just performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultPoint {
    /// Open the database, when the store is opened or resumed.
    Open,
    /// Begin a transaction.
    Begin,
    /// Write one commit of a group.
    Write,
    /// Commit the transaction.
    Commit,
    /// The transaction was committed. An error here hides a success.
    Committed,
    /// Write the file of a large blob.
    BlobWrite,
    /// Sync the file of a large blob, or its directory.
    BlobSync,
    /// Do a slice of a sweep.
    Sweep,
    /// Commit the deletion of a run.
    Delete,
    /// Copy the write-ahead log into the database.
    Checkpoint,
}
