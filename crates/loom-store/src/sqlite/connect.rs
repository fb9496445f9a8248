//! Opens connections to the database file, each with the settings that its guarantees depend on.

use std::{fmt::Write, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::Durability;

/// How long a connection waits for another one's lock. Only the checkpointer and the writer ever compete, and only
/// while the log is being reset.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// Prepared statements cached by each connection; the store has fewer.
const STATEMENTS: usize = 64;

/// A connection that writes. Creates the file.
pub(super) fn writer(
    path: &Path,
    durability: Durability,
    cache_bytes: usize,
) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Takes effect only for a new file: lets space that retention frees be returned to the file system in steps.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Durable => "FULL",
        Durability::Relaxed | Durability::Memory => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // The checkpointer copies the log; without this, the writer would stop for it after every thousand pages.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    settle(&connection, cache_bytes)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn reader(path: &Path, cache_bytes: usize) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    settle(&connection, cache_bytes)?;
    Ok(connection)
}

/// A connection that changes nothing, not even when it is closed. Without a log, the database alone is the whole
/// store, and is opened as a file that no process writes: then SQLite creates no log beside it.
pub(super) fn onlooker(path: &Path, cache_bytes: usize) -> rusqlite::Result<Connection> {
    let log = path.with_extension("db-wal").metadata().map_or(0, |log| log.len());
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'%' | b'?' | b'#' => write!(address, "%{byte:02X}").expect("writing to a String cannot fail"),
            byte if byte.is_ascii() => address.push(char::from(*byte)),
            byte => write!(address, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    if log == 0 {
        address.push_str("?immutable=1");
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(address, flags)?;
    settle(&connection, cache_bytes)?;
    Ok(connection)
}

fn settle(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A negative size is in KiB.
    connection.pragma_update(None, "cache_size", -((cache_bytes / 1024).max(64) as i64))?;
    // Otherwise a statement with a limit is compiled again each time it is taken from the cache: a limit of 0 or 1 could have
    // another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Detects a damaged page when it is read, not when it is written back.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// How often a statement was compiled again while it was executed with other parameters.
    fn compiled_again(is_stable: bool) -> i32 {
        let directory = tempfile::tempdir().unwrap();
        let connection = writer(&directory.path().join("loom.db"), Durability::Relaxed, 1 << 20).unwrap();
        connection.execute_batch("CREATE TABLE run (id INTEGER PRIMARY KEY)").unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, is_stable).unwrap();
        let sql = "SELECT id FROM run WHERE id > ?1 ORDER BY id LIMIT ?2";
        for after in 0..10 {
            connection
                .prepare_cached(sql)
                .unwrap()
                .query_row([after, 100], |row| row.get::<_, i64>(0))
                .unwrap_err();
        }
        connection.prepare_cached(sql).unwrap().get_status(StatementStatus::RePrepare)
    }

    #[test]
    fn statements_are_compiled_once() {
        assert_eq!(compiled_again(true), 0);
        // The control: what SQLite does by default.
        assert!(compiled_again(false) > 0);
    }
}
