//! All queries of the database. Each is one statement, or a few in one read transaction, and is served from an index;
//! a test checks the query plans.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, Params, Row, params};

use crate::{
    ContentHash, Error, FramePage, FrameQuery, InboxId, InboxMessage, InboxQuery, KeyPage, KeyQuery,
    KeyValue, LoadedRun, Recipient, RunId, RunRow, Seq, Shards, Timer, TimerKey, TimerQuery, UnixMillis,
};

use super::{
    apply::IN_FILE,
    rows::{self, KEY_COLUMNS, RUN_COLUMNS, read_error},
};

/// Returns all rows of a statement, each read by `read`.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = connection.prepare_cached(sql).map_err(read_error)?;
    let mut found = statement.query(params).map_err(read_error)?;
    let mut answers = Vec::new();
    while let Some(row) = found.next().map_err(read_error)? {
        answers.push(read(row)?);
    }
    Ok(answers)
}

/// Returns at most `rows_max` rows of a statement, without those for which `read` returns `None`.
fn some<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    rows_max: usize,
    mut read: impl FnMut(&Row<'_>) -> Result<Option<T>, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = connection.prepare_cached(sql).map_err(read_error)?;
    let mut found = statement.query(params).map_err(read_error)?;
    let mut answers = Vec::new();
    while answers.len() < rows_max.max(1)
        && let Some(row) = found.next().map_err(read_error)?
    {
        answers.extend(read(row)?);
    }
    Ok(answers)
}

/// The limit of a statement whose rows are filtered by shard afterwards.
fn limit_in(shards: &Shards, rows: usize) -> i64 {
    if *shards == Shards::ALL { limit(rows) } else { -1 }
}

/// Passes every row of a statement to `check`; returns the number of rows.
pub(super) fn each(
    connection: &Connection,
    sql: &str,
    mut check: impl FnMut(&Row<'_>) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut statement = connection.prepare_cached(sql).map_err(read_error)?;
    let mut found = statement.query([]).map_err(read_error)?;
    let mut count = 0;
    while let Some(row) = found.next().map_err(read_error)? {
        check(row)?;
        count += 1;
    }
    Ok(count)
}

/// Returns the only row of a statement, if there is one.
fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut statement = connection.prepare_cached(sql).map_err(read_error)?;
    let mut found = statement.query(params).map_err(read_error)?;
    found.next().map_err(read_error)?.map(read).transpose()
}

/// Converts a limit for SQLite.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows.max(1)).unwrap_or(i64::MAX)
}

pub(super) fn run(connection: &Connection, run: RunId) -> Result<Option<RunRow>, Error> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE id = ?1");
    one(connection, &sql, [rows::id(run)], rows::run_row)
}

pub(super) fn run_by_key(
    connection: &Connection,
    workflow: &str,
    key: &str,
) -> Result<Option<RunRow>, Error> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE workflow = ?1 AND idempotency_key = ?2");
    one(connection, &sql, [workflow, key], rows::run_row)
}

pub(super) fn newest_run(connection: &Connection, shards: Shards) -> Result<Option<RunId>, Error> {
    let newest = some(connection, "SELECT id FROM run ORDER BY id DESC", [], 1, |row| {
        let run = rows::run_id(row.get(0).map_err(read_error)?)?;
        Ok(Some(run).filter(|run| shards.contains(run.shard())))
    })?;
    Ok(newest.first().copied())
}

pub(super) fn is_empty(connection: &Connection) -> Result<bool, Error> {
    // Deleting a message leaves its number in `sqlite_sequence`.
    const ANYTHING: &str = "SELECT EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM frame)
        OR EXISTS (SELECT 1 FROM definition) OR EXISTS (SELECT 1 FROM blob) OR EXISTS (SELECT 1 FROM named)
        OR EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'inbox')";
    let found = one(connection, ANYTHING, [], |row| row.get::<_, bool>(0).map_err(read_error))?;
    Ok(found == Some(false))
}

/// The newest id that a node was given.
pub(super) fn last_node(connection: &Connection) -> Result<u64, Error> {
    let last = one(connection, "SELECT number FROM meta WHERE name = 'last_node'", [], |row| {
        row.get::<_, i64>(0).map_err(read_error)
    })?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

pub(super) fn unfinished(
    connection: &Connection,
    shards: Shards,
    after: Option<RunId>,
    rows_max: usize,
) -> Result<Vec<RunRow>, Error> {
    let sql = format!("{} UNION ALL {} ORDER BY id LIMIT ?2", unfinished_where(0), unfinished_where(1));
    runs_of(connection, &sql, shards, after, rows_max)
}

fn runs_of(
    connection: &Connection,
    sql: &str,
    shards: Shards,
    after: Option<RunId>,
    rows_max: usize,
) -> Result<Vec<RunRow>, Error> {
    let params = params![after.map_or(-1, rows::id), limit_in(&shards, rows_max)];
    some(connection, sql, params, rows_max, |row| {
        let run = rows::run_id(row.get("id").map_err(read_error)?)?;
        shards.contains(run.shard()).then(|| rows::run_row(row)).transpose()
    })
}

/// The statement that finds unfinished runs after `?1` that are awake (0), or parked (1).
pub(super) fn unfinished_where(parked: u8) -> String {
    format!(
        "SELECT {RUN_COLUMNS} FROM run INDEXED BY run_unfinished
         WHERE ended IS NULL AND (wake_at IS NOT NULL) = {parked} AND id > ?1"
    )
}

pub(super) fn awake(
    connection: &Connection,
    shards: Shards,
    after: Option<RunId>,
    rows_max: usize,
) -> Result<Vec<RunRow>, Error> {
    let sql = format!("{} ORDER BY id LIMIT ?2", unfinished_where(0));
    runs_of(connection, &sql, shards, after, rows_max)
}

pub(super) fn parked(connection: &Connection, shards: Shards) -> Result<u64, Error> {
    const PARKED: &str =
        "FROM run INDEXED BY run_unfinished WHERE ended IS NULL AND (wake_at IS NOT NULL) = 1";
    if shards != Shards::ALL {
        let mut count = 0;
        each(connection, &format!("SELECT id {PARKED}"), |row| {
            count += u64::from(shards.contains(rows::run_id(row.get(0).map_err(read_error)?)?.shard()));
            Ok(())
        })?;
        return Ok(count);
    }
    let sql = format!("SELECT count(*) {PARKED}");
    let count = one(connection, &sql, [], |row| row.get::<_, i64>(0).map_err(read_error))?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

pub(super) fn load(connection: &Connection, id: RunId) -> Result<Option<LoadedRun>, Error> {
    let moment = connection.unchecked_transaction().map_err(read_error)?;
    let Some(row) = run(&moment, id)? else { return Ok(None) };
    let snapshot =
        one(&moment, "SELECT upto, codec, state, crc FROM snapshot WHERE run = ?1", [rows::id(id)], |row| {
            rows::snapshot(id, row)
        })?;
    let from = snapshot.as_ref().map_or(Seq::FIRST, |snapshot| snapshot.upto.plus(1));
    let query = FrameQuery { run: id, from, frames_max: usize::MAX, bytes_max: usize::MAX };
    let frames = frame_page(&moment, query)?.frames;
    let next = frames.last().map_or(from, |frame| frame.seq.plus(1));
    let pending =
        "SELECT EXISTS (SELECT 1 FROM inbox INDEXED BY inbox_pending WHERE taken_by IS NULL AND run = ?1)";
    let has_messages = one(&moment, pending, [rows::id(id)], |row| row.get(0).map_err(read_error))?;
    Ok(Some(LoadedRun { row, snapshot, frames, next, has_messages: has_messages.unwrap_or(true) }))
}

pub(super) fn frames(connection: &Connection, query: FrameQuery) -> Result<FramePage, Error> {
    let moment = connection.unchecked_transaction().map_err(read_error)?;
    frame_page(&moment, query)
}

/// Reads a page of frames; a gap in the sequence numbers is damage.
pub(super) fn frame_page(connection: &Connection, query: FrameQuery) -> Result<FramePage, Error> {
    let mut statement = connection
        .prepare_cached(
            "SELECT seq, at, codec, payload, crc FROM frame INDEXED BY frame_run
             WHERE run = ?1 AND seq >= ?2 ORDER BY seq",
        )
        .map_err(read_error)?;
    let from = query.from.max(Seq::FIRST);
    let first = i64::try_from(from.0).unwrap_or(i64::MAX);
    let mut found = statement.query(params![rows::id(query.run), first]).map_err(read_error)?;
    let mut page = FramePage::default();
    let mut bytes = 0;
    while let Some(row) = found.next().map_err(read_error)? {
        let frame = rows::frame(query.run, row)?;
        let expected = from.plus(page.frames.len() as u64);
        if frame.seq != expected {
            return Err(Error::damaged(format_args!("frame {expected} of run {} is missing", query.run)));
        }
        if page.frames.len() >= query.frames_max.max(1) || (bytes > 0 && bytes >= query.bytes_max) {
            page.next = Some(frame.seq);
            break;
        }
        bytes += frame.payload.len();
        page.frames.push(frame);
    }
    Ok(page)
}

pub(super) fn timers(connection: &Connection, query: TimerQuery) -> Result<Vec<Timer>, Error> {
    let (due, key) = query.start().unwrap_or((UnixMillis(i64::MIN), TimerKey { run: RunId::MIN, number: 0 }));
    // Without a position to continue after, no timer sorts before the start; with one, the start itself is skipped.
    let number = if query.after.is_some() { key.number.cast_signed() } else { -1 };
    let rows_max = limit_in(&query.shards, query.limit);
    some(
        connection,
        "SELECT run, number, due, kind FROM timer INDEXED BY timer_due
         WHERE (due, run, number) > (?1, ?2, ?3) AND due <= ?4 ORDER BY due, run, number LIMIT ?5",
        params![due.0, rows::id(key.run), number, query.until.0, rows_max],
        query.limit,
        |row| {
            let run = rows::run_id(row.get(0).map_err(read_error)?)?;
            if !query.shards.contains(run.shard()) {
                return Ok(None);
            }
            let number: i64 = row.get(1).map_err(read_error)?;
            Ok(Some(Timer {
                key: TimerKey { run, number: number.cast_unsigned() },
                due: UnixMillis(row.get(2).map_err(read_error)?),
                kind: row.get(3).map_err(read_error)?,
            }))
        },
    )
}

pub(super) fn inbox(connection: &Connection, query: InboxQuery) -> Result<Vec<InboxMessage>, Error> {
    const COLUMNS: &str = "id, run, kind, at, idempotency_key, payload, shard, crc";
    let after = query.after.map_or(0, |after| after.0.cast_signed());
    let rows_max = limit_in(&query.shards, query.limit);
    let read = |row: &Row<'_>| {
        let message = rows::inbox_message(row)?;
        Ok(Some(message).filter(|message| query.shards.contains(message.post.shard())))
    };
    match query.recipient {
        Recipient::Anyone => {
            let sql = format!(
                "SELECT {COLUMNS} FROM inbox INDEXED BY inbox_arrival WHERE taken_by IS NULL AND id > ?1 ORDER BY id LIMIT ?2"
            );
            some(connection, &sql, params![after, rows_max], query.limit, read)
        }
        Recipient::Run(run) => {
            let sql = format!(
                "SELECT {COLUMNS} FROM inbox INDEXED BY inbox_pending WHERE taken_by IS NULL AND run = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
            );
            some(connection, &sql, params![rows::id(run), after, rows_max], query.limit, read)
        }
        Recipient::Nobody => {
            let sql = format!(
                "SELECT {COLUMNS} FROM inbox INDEXED BY inbox_pending WHERE taken_by IS NULL AND run IS NULL AND id > ?1 ORDER BY id LIMIT ?2"
            );
            some(connection, &sql, params![after, rows_max], query.limit, read)
        }
    }
}

pub(super) fn pending(connection: &Connection, run: RunId) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM inbox INDEXED BY inbox_pending WHERE taken_by IS NULL AND run = ?1";
    let count = one(connection, sql, [rows::id(run)], |row| row.get::<_, i64>(0).map_err(read_error))?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

pub(super) fn posted(
    connection: &Connection,
    run: Option<RunId>,
    key: &str,
) -> Result<Option<InboxId>, Error> {
    let sql = "SELECT id FROM inbox WHERE ifnull(run, -1) = ifnull(?1, -1) AND idempotency_key = ?2";
    one(connection, sql, params![run.map(rows::id), key], |row| {
        row.get::<_, i64>(0).map(|id| InboxId(id.cast_unsigned())).map_err(read_error)
    })
}

pub(super) fn definition(connection: &Connection, hash: ContentHash) -> Result<Option<Bytes>, Error> {
    one(connection, "SELECT codec, body FROM definition WHERE hash = ?1", [hash.as_bytes()], |row| {
        rows::content(hash, row)
    })
}

/// Where the content of a blob is.
pub(super) enum Found {
    Nothing,
    Content(Bytes),
    /// In a file of this many bytes.
    InFile(u64),
}

pub(super) fn blob(connection: &Connection, hash: ContentHash) -> Result<Found, Error> {
    let found =
        one(connection, "SELECT codec, body, size FROM blob WHERE hash = ?1", [hash.as_bytes()], |row| {
            if row.get::<_, i64>(0).map_err(read_error)? == IN_FILE {
                let size: i64 = row.get(2).map_err(read_error)?;
                return Ok(Found::InFile(size.cast_unsigned()));
            }
            rows::content(hash, row).map(Found::Content)
        })?;
    Ok(found.unwrap_or(Found::Nothing))
}

pub(super) fn key(connection: &Connection, namespace: &str, key: &str) -> Result<Option<KeyValue>, Error> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM named WHERE namespace = ?1 AND key = ?2");
    one(connection, &sql, [namespace, key], |row| rows::key_value(namespace, row))
}

pub(super) fn keys(connection: &Connection, query: &KeyQuery) -> Result<KeyPage, Error> {
    let after = query.after.as_deref();
    let start = after.map_or(query.prefix.as_str(), |after| after.max(query.prefix.as_str()));
    let rows_max = limit(query.limit);
    let sql = format!(
        "SELECT {KEY_COLUMNS} FROM named
         WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4"
    );
    let mut values =
        all(connection, &sql, params![query.namespace, start, after, rows_max.saturating_add(1)], |row| {
            rows::key_value(&query.namespace, row)
        })?;
    // Names with the prefix are adjacent, and the list starts at the first of them.
    values.truncate(values.partition_point(|value| value.key.starts_with(&query.prefix)));
    let more = values.len() > query.limit.max(1);
    values.truncate(query.limit.max(1));
    Ok(KeyPage { next: values.last().filter(|_| more).map(|value| Arc::clone(&value.key)), values })
}

pub(super) fn blobs_of(connection: &Connection, run: RunId) -> Result<Vec<ContentHash>, Error> {
    let sql = "SELECT hash FROM blob JOIN blob_ref ON blob_ref.blob = blob.id WHERE blob_ref.run = ?1 ORDER BY hash";
    all(connection, sql, params![rows::id(run)], |row| {
        rows::hash(&row.get::<_, Vec<u8>>(0).map_err(read_error)?)
    })
}

pub(super) fn namespace_from(connection: &Connection, start: &str) -> Result<Option<Arc<str>>, Error> {
    let sql = "SELECT namespace FROM named WHERE namespace >= ?1 ORDER BY namespace LIMIT 1";
    one(connection, sql, [start], |row| Ok(row.get::<_, String>(0).map_err(read_error)?.into()))
}

#[cfg(test)]
mod tests;
