//! What the store has found out about itself: damage, and a directory that is no longer its own.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rusqlite::{Connection, config::DbConfig};

use crate::Error;

use super::{lock::Identity, queue::Queue, writer::answer_all};

/// Shared by all threads of one store.
#[derive(Debug)]
pub(super) struct Watch {
    database: PathBuf,
    identity: Option<Identity>,
    queue: Arc<Queue>,
    damage: OnceLock<Error>,
}

impl Watch {
    /// `identity` is `None` for a read-only store.
    pub(super) fn new(database: &Path, identity: Option<Identity>, queue: Arc<Queue>) -> Self {
        Self { database: database.into(), identity, queue, damage: OnceLock::new() }
    }

    /// Passes on the result of a read or a write. Damage stops the store, and is reported with its path and what to
    /// do.
    pub(super) fn observe<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Err(Error::Damaged { what }) => {
                let error = damaged(&self.database, &what);
                self.stop(&error);
                Err(error)
            }
            outcome => outcome,
        }
    }

    /// Reports damage that a caller found. Damage that was found here before takes precedence.
    pub(super) fn condemn(&self, reason: &Error) {
        if self.damage.get().is_none() {
            match reason {
                Error::Damaged { what } => self.stop(&damaged(&self.database, what)),
                reason => self.stop(reason),
            }
        }
    }

    /// Stops accepting commits for as long as the store is open.
    fn stop(&self, error: &Error) {
        if self.damage.set(error.clone()).is_ok() {
            tracing::error!(error = %error, "the store is damaged and accepts no more commits until it is reopened");
            answer_all(self.queue.stop(error.clone()), error);
        }
    }

    /// The damage that was found, if any.
    pub(super) fn damage(&self) -> Option<&Error> {
        self.damage.get()
    }

    /// # Errors
    /// When the directory or the database is not the one that was opened.
    pub(super) fn check_directory(&self) -> Result<(), Error> {
        let check = self.identity.as_ref().map_or(Ok(()), Identity::check);
        check.map_err(|source| Error::Paused { operation: "find its files", source: Arc::new(source) })
    }

    /// Closing the last connection would copy the log into the database and then remove the log by its name. That
    /// must not happen when the database is damaged, or when the name now belongs to another store.
    pub(super) fn before_close(&self, connection: &Connection) {
        if (self.damage.get().is_some() || self.check_directory().is_err())
            && let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        {
            tracing::warn!(%error, "closing the damaged store may change it: SQLite may copy the log into the database");
        }
    }
}

/// Damage, with its path and what to do about it.
pub(super) fn damaged(database: &Path, what: &str) -> Error {
    let directory = database.parent().unwrap_or(database).display();
    Error::damaged(format_args!(
        "{what} (in {}). It accepts no more writes: stop the server, keep a copy of {directory}, and restore it from a backup",
        database.display()
    ))
}
