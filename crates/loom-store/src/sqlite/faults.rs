//! The seam at which tests make the disk fail.

use std::{fmt, io};

/// Asked before each thing the store does to the disk. For tests; a store without one never asks.
pub trait Faults: fmt::Debug + Send + Sync {
    /// Lets the operation happen, or makes it fail with the error.
    ///
    /// # Errors
    /// The error that the disk is to report.
    fn strike(&self, point: FaultPoint) -> io::Result<()>;
}

/// What the store is about to do, or has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultPoint {
    /// Open the database, at the start and when it is resumed.
    Open,
    /// Begin a transaction.
    Begin,
    /// Write one commit of a group.
    Write,
    /// Commit the transaction.
    Commit,
    /// The transaction is committed; an error here is one that hides a success.
    Committed,
    /// Write the file of a large blob.
    BlobWrite,
    /// Sync the file of a large blob, or its folder.
    BlobSync,
    /// Do a slice of a sweep.
    Sweep,
    /// Copy the write-ahead log into the database.
    Checkpoint,
}
