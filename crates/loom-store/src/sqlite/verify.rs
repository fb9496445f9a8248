//! Reads and checks the whole store.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::{ContentHash, Error, FrameQuery, RunId, Seq};

use super::{
    apply::IN_FILE,
    files::Files,
    read,
    rows::{self, KEY_COLUMNS, RUN_COLUMNS, read_error},
};

/// Checks the whole store in one read transaction; returns the number of records.
pub(super) fn verify(connection: &Connection, files: &Files) -> Result<u64, Error> {
    let moment = connection.unchecked_transaction().map_err(read_error)?;
    structure(&moment)?;
    let mut records = 0;
    let mut count = |more: u64| records += more;
    count(read::each(&moment, &format!("SELECT {RUN_COLUMNS} FROM run"), |row| {
        rows::run_row(row).map(drop)
    })?);
    count(frames(&moment)?);
    count(read::each(&moment, "SELECT run, upto, codec, state, crc FROM snapshot", |row| {
        rows::snapshot(rows::run_id(row.get(0).map_err(read_error)?)?, row).map(drop)
    })?);
    count(read::each(
        &moment,
        "SELECT id, run, kind, at, idempotency_key, payload, shard, crc FROM inbox",
        |row| rows::inbox_message(row).map(drop),
    )?);
    count(read::each(&moment, &format!("SELECT {KEY_COLUMNS}, namespace FROM named"), |row| {
        let namespace: String = row.get("namespace").map_err(read_error)?;
        rows::key_value(&namespace, row).map(drop)
    })?);
    count(read::each(&moment, "SELECT codec, body, hash FROM definition", |row| {
        let hash: [u8; 32] = row.get(2).map_err(read_error)?;
        rows::content(ContentHash::from_bytes(hash), row).map(drop)
    })?);
    count(read::each(&moment, "SELECT codec, body, hash, size FROM blob", |row| {
        let hash = ContentHash::from_bytes(row.get(2).map_err(read_error)?);
        let size: i64 = row.get(3).map_err(read_error)?;
        if row.get::<_, i64>(0).map_err(read_error)? == IN_FILE {
            return files.verify(hash, size.cast_unsigned());
        }
        let content = rows::content(hash, row)?;
        if content.len() as u64 == size.cast_unsigned() {
            return Ok(());
        }
        Err(Error::damaged(format_args!("blob {hash} does not have its recorded size")))
    })?);
    Ok(records)
}

/// Checks pages, trees, and indexes against their tables.
fn structure(connection: &Connection) -> Result<(), Error> {
    let mut faults = Vec::new();
    read::each(connection, "PRAGMA integrity_check(5)", |row| {
        faults.push(row.get::<_, String>(0).map_err(read_error)?);
        Ok(())
    })?;
    if faults == ["ok"] { Ok(()) } else { Err(Error::damaged(faults.join("; "))) }
}

/// Checks every frame against its checksum, and every run for gaps.
fn frames(connection: &Connection) -> Result<u64, Error> {
    let mut ends: BTreeMap<RunId, u64> = BTreeMap::new();
    read::each(connection, "SELECT run, count(*) FROM frame GROUP BY run", |row| {
        let count: u64 = row.get(1).map_err(read_error)?;
        ends.insert(rows::run_id(row.get(0).map_err(read_error)?)?, count);
        Ok(())
    })?;
    let mut records = 0;
    for (run, count) in ends {
        let mut next = Some(Seq::FIRST);
        let mut seen = 0;
        while let Some(from) = next {
            let page = read::frame_page(connection, FrameQuery { from, ..FrameQuery::of(run) })?;
            seen += page.frames.len() as u64;
            next = page.next;
        }
        if seen != count {
            return Err(Error::damaged(format_args!(
                "run {run} has {count} frames, but only {seen} can be read in order"
            )));
        }
        records += seen;
    }
    Ok(records)
}
