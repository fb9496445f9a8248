//! The tables, and the migrations from older formats.
//!
//! `docs/journal-format.md` explains every column. A change here is a new migration, never an edit of an old one.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::Error;

/// Marks the file as a Loom store in its header: "Loom" in ASCII.
const APPLICATION_ID: i64 = 0x4c6f_6f6d;

/// Entry *n* migrates a store from format *n* to *n* + 1. The first creates a new store.
const MIGRATIONS: &[&str] = &[V1, V2, V3, V4];

const V1: &str = "
CREATE TABLE definition (
    hash BLOB NOT NULL UNIQUE,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    workflow TEXT NOT NULL,
    definition BLOB NOT NULL,
    status INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    origin INTEGER,
    attempt INTEGER NOT NULL,
    parent INTEGER,
    parent_path TEXT,
    idempotency_key TEXT,
    wake_at INTEGER,
    error TEXT,
    details BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE INDEX run_workflow ON run (workflow, id);
CREATE INDEX run_workflow_status ON run (workflow, status, id);
CREATE INDEX run_status ON run (status, id);
CREATE INDEX run_error ON run (error, id) WHERE error IS NOT NULL;
CREATE INDEX run_parent ON run (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX run_unfinished ON run (id) WHERE ended IS NULL;
CREATE INDEX run_ended ON run (ended, id) WHERE ended IS NOT NULL;
CREATE UNIQUE INDEX run_idempotency ON run (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE frame (
    lsn INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX frame_run ON frame (run, seq);

CREATE TABLE snapshot (
    run INTEGER PRIMARY KEY,
    upto INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    state BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

CREATE TABLE timer (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    due INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_due ON timer (due, run, number);

CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    idempotency_key TEXT,
    payload BLOB NOT NULL,
    taken_by INTEGER,
    crc INTEGER NOT NULL
) STRICT;
CREATE INDEX inbox_arrival ON inbox (id) WHERE taken_by IS NULL;
CREATE INDEX inbox_pending ON inbox (run, id) WHERE taken_by IS NULL;
CREATE INDEX inbox_taken ON inbox (taken_by) WHERE taken_by IS NOT NULL;
CREATE UNIQUE INDEX inbox_idempotency ON inbox (ifnull(run, -1), idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    refs INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    body BLOB
) STRICT;

CREATE TABLE blob_ref (
    run INTEGER NOT NULL,
    blob INTEGER NOT NULL,
    PRIMARY KEY (run, blob)
) STRICT, WITHOUT ROWID;

CREATE TABLE named (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (namespace, key)
) STRICT;
CREATE INDEX named_version ON named (version);

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('deleted_version', 0);
";

/// Retention marks the runs that it has purged, and finds those that it has not. The index of timers has all columns
/// of a timer, so that queries need no table, and comparing the two reveals damage in either.
const V2: &str = "
ALTER TABLE run ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;
DROP INDEX run_ended;
CREATE INDEX run_ended ON run (purged, ended, id) WHERE ended IS NOT NULL;
DROP INDEX timer_due;
CREATE INDEX timer_due ON timer (due, run, number, kind);
CREATE INDEX blob_file ON blob (size) WHERE codec = 2;
";

/// A start reads the runs that are awake, and passes over those that are parked.
const V3: &str = "
DROP INDEX run_unfinished;
CREATE INDEX run_unfinished ON run (wake_at IS NOT NULL, id) WHERE ended IS NULL;
";

/// What lists of runs filter by, owners of messages, ends of named values, and the changes that leave no number elsewhere.
const V4: &str = "
ALTER TABLE run ADD COLUMN trigger_name TEXT;
ALTER TABLE run ADD COLUMN tracking_id TEXT;
ALTER TABLE run ADD COLUMN error_text TEXT;
ALTER TABLE run ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
CREATE INDEX run_tracking ON run (tracking_id, id) WHERE tracking_id IS NOT NULL;
CREATE INDEX run_failed ON run (id) WHERE error IS NOT NULL;
CREATE INDEX run_flag_0 ON run (id) WHERE flags & 1 <> 0;
CREATE INDEX run_flag_1 ON run (id) WHERE flags & 2 <> 0;
CREATE INDEX run_flag_2 ON run (id) WHERE flags & 4 <> 0;
CREATE INDEX run_flag_3 ON run (id) WHERE flags & 8 <> 0;
CREATE INDEX run_flag_4 ON run (id) WHERE flags & 16 <> 0;
CREATE INDEX run_flag_5 ON run (id) WHERE flags & 32 <> 0;
CREATE INDEX run_flag_6 ON run (id) WHERE flags & 64 <> 0;
CREATE INDEX run_flag_7 ON run (id) WHERE flags & 128 <> 0;

ALTER TABLE inbox ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;

ALTER TABLE named ADD COLUMN expires INTEGER;
ALTER TABLE named ADD COLUMN run INTEGER;
CREATE INDEX named_expires ON named (expires) WHERE expires IS NOT NULL;
CREATE INDEX named_run ON named (run) WHERE run IS NOT NULL;

CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    run INTEGER,
    namespace TEXT,
    key TEXT
) STRICT;
";

/// The format that this version writes.
pub(super) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// Refuses a database that does not have the newest format. Changes nothing.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    let number = |pragma| {
        let read = connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        read.map_err(|source| super::open_error(path, source))
    };
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, found) if found > FORMAT => Err(Error::NewerFormat { found, known: FORMAT }),
        (APPLICATION_ID, found) => Err(Error::OlderFormat { found, needed: FORMAT }),
        _ => Err(Error::NotAStore { path: path.into() }),
    }
}

/// Migrates the database to the newest format, or refuses it. Every step is one transaction, so that a crash leaves
/// either the old format or the new one.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let failed = |source: rusqlite::Error| super::open_error(path, source);
    let mut found = None;
    loop {
        let transaction = connection.transaction().map_err(failed)?;
        let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let (application, format) =
            (number("application_id").map_err(failed)?, number("user_version").map_err(failed)?);
        if format > FORMAT {
            return Err(Error::NewerFormat { found: format, known: FORMAT });
        }
        let tables = transaction
            .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
            .optional()
            .map_err(failed)?;
        let ours = application == APPLICATION_ID;
        if ours != (format > 0) || (!ours && tables.is_some()) {
            return Err(Error::NotAStore { path: path.into() });
        }
        let found = *found.get_or_insert(format);
        let Some(step) = MIGRATIONS.get(format as usize) else { return Ok(()) };
        transaction.execute_batch(step).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", format + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        // A new store takes the same steps, but nothing in it has changed.
        if found > 0 {
            tracing::info!(from = format, to = format + 1, "store migrated");
        }
    }
}
