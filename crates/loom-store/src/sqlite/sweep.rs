//! Retention, in slices small enough that no commit waits long.
//!
//! The writer thread does it between two groups, because SQLite has one writer at a time. One slice is one
//! transaction of at most [`RUNS_A_SLICE`] runs and [`ROWS_A_SLICE`] rows, and the queue is served after each. A
//! sweep that is interrupted is continued by the next: a run is marked before its first frame is deleted, and its
//! frames are deleted from the last to the first, so that what remains readable is always the beginning of the
//! journal.

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::{ContentHash, Deletion, Error, Retention, RunId, Swept, UnixMillis};

use super::{
    apply::{IN_FILE, Memory, note_run},
    changes, rows,
};

const RUNS_A_SLICE: usize = 500;
const ROWS_A_SLICE: usize = 4_000;
/// Pages returned to the file system by a slice.
const PAGES_A_SLICE: u32 = 256;

/// Value of `run.purged`: the run has all its data.
const KEPT: i64 = 0;
/// The data is being removed.
const LOSING: i64 = 1;
/// The data was removed.
const PURGED: i64 = 2;

/// A sweep in progress.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) policy: Retention,
    pub(super) now: UnixMillis,
    /// How many runs have data beyond the allowed number, and the bytes of blob files. Counted by a reader before the
    /// sweep began, because counting takes long.
    pub(super) count: Count,
    pub(super) swept: Swept,
    pub(super) reply: oneshot::Sender<Result<Swept, Error>>,
}

/// See [`Sweep::count`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    surplus: u64,
    file_bytes: u64,
    /// Rows of purged runs.
    rows: u64,
}

/// The result of a slice, beyond the changes in the database.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Whether nothing is left to do.
    pub(super) done: bool,
    /// Whether the newest `lsn` was saved, which must happen before frames are deleted.
    removes_frames: bool,
    /// Files to remove once the transaction is durable.
    pub(super) files: Vec<ContentHash>,
}

/// Counts what the policy needs to know. Runs on a reader.
pub(super) fn count(connection: &Connection, policy: &Retention) -> rusqlite::Result<Count> {
    let mut count = Count::default();
    if let Some(runs_max) = policy.runs_max {
        let kept: i64 = connection.query_row(
            "SELECT count(*) FROM run INDEXED BY run_ended WHERE purged = ?1 AND ended IS NOT NULL",
            [KEPT],
            |row| row.get(0),
        )?;
        count.surplus = kept.cast_unsigned().saturating_sub(runs_max);
    }
    if policy.purged_rows_max().is_some() {
        let rows: i64 = connection.query_row(
            "SELECT count(*) FROM run INDEXED BY run_ended WHERE purged = ?1 AND ended IS NOT NULL",
            [PURGED],
            |row| row.get(0),
        )?;
        count.rows = rows.cast_unsigned();
    }
    if policy.bytes_max.is_some() {
        let bytes: i64 = connection.query_row(
            "SELECT ifnull(sum(size), 0) FROM blob INDEXED BY blob_file WHERE codec = 2",
            [],
            |row| row.get(0),
        )?;
        count.file_bytes = bytes.cast_unsigned();
    }
    Ok(count)
}

impl Sweep {
    /// A sweep that only removes the remaining data of runs that were deleted or are being purged. No caller waits for it.
    pub(super) fn of_deleted_runs() -> Sweep {
        Sweep {
            policy: Retention::default(),
            now: UnixMillis(0),
            count: Count::default(),
            swept: Swept::default(),
            reply: oneshot::channel().0,
        }
    }
}

/// Deletes a run that has ended, inside the writer's transaction: its row, and as much of its data as a slice removes. What is left
/// is recorded, so that a sweep removes it.
pub(super) fn delete(
    connection: &Connection,
    memory: &mut Memory,
    run: RunId,
    rest: &mut Sweep,
) -> rusqlite::Result<(Deletion, Slice)> {
    let mut slice = Slice { done: true, ..Slice::default() };
    let id = rows::id(run);
    let ended = connection
        .prepare_cached("SELECT ended FROM run WHERE id = ?1")?
        .query_row([id], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    match ended {
        None => return Ok((Deletion::NotFound, slice)),
        Some(None) => return Ok((Deletion::NotEnded, slice)),
        Some(Some(_)) => {}
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(params![deleted_name(run), id])?;
    connection.prepare_cached("DELETE FROM run WHERE id = ?1")?.execute([id])?;
    note_run(connection, run)?;
    let mut rows_left = ROWS_A_SLICE;
    slice.done = purge(connection, memory, run, &mut rows_left, rest, &mut slice)?;
    Ok((Deletion::Deleted, slice))
}

/// The name in `meta` of a run whose row was deleted while some of its data is left.
fn deleted_name(run: RunId) -> String {
    format!("deleted_run:{run}")
}

/// Does one slice, inside the writer's transaction.
pub(super) fn slice(
    connection: &Connection,
    memory: &mut Memory,
    sweep: &mut Sweep,
) -> rusqlite::Result<Slice> {
    let mut slice = Slice::default();
    let mut rows_left = ROWS_A_SLICE;
    expire(connection, memory, sweep, &mut rows_left)?;
    rows_left -= changes::trim(connection, rows_left)?;
    for _ in 0..RUNS_A_SLICE {
        let Some((run, fresh)) = next_to_purge(connection, sweep)? else {
            let deleted = delete_rows(connection, sweep, rows_left)?;
            slice.done = deleted < rows_left;
            break;
        };
        if fresh {
            connection
                .prepare_cached("UPDATE run SET purged = ?2 WHERE id = ?1")?
                .execute([rows::id(run), LOSING])?;
            sweep.count.surplus = sweep.count.surplus.saturating_sub(1);
        }
        purge(connection, memory, run, &mut rows_left, sweep, &mut slice)?;
        if rows_left == 0 {
            break;
        }
    }
    Ok(slice)
}

/// Removes named values that have expired.
fn expire(
    connection: &Connection,
    memory: &Memory,
    sweep: &mut Sweep,
    rows_left: &mut usize,
) -> rusqlite::Result<()> {
    const EXPIRED: &str =
        "named INDEXED BY named_expires WHERE expires <= ?1 ORDER BY expires, rowid LIMIT ?2";
    let params = params![sweep.now.0, *rows_left as i64];
    let noted = format!("INSERT INTO change (namespace, key) SELECT namespace, key FROM {EXPIRED}");
    if connection.prepare_cached(&noted)?.execute(params)? == 0 {
        return Ok(());
    }
    memory.keep_version(connection)?;
    let sql = format!("DELETE FROM named WHERE rowid IN (SELECT rowid FROM {EXPIRED})");
    let deleted = connection.prepare_cached(&sql)?.execute(params)?;
    sweep.swept.values += deleted as u64;
    *rows_left -= deleted;
    Ok(())
}

/// Removes the data of a run, at most `rows_left` rows of it; returns whether all of it is gone.
fn purge(
    connection: &Connection,
    memory: &mut Memory,
    run: RunId,
    rows_left: &mut usize,
    sweep: &mut Sweep,
    slice: &mut Slice,
) -> rusqlite::Result<bool> {
    memory.forget(run);
    if !slice.removes_frames {
        slice.removes_frames = true;
        memory.keep_lsn(connection)?;
        memory.keep_version(connection)?;
    }
    let newest: Option<i64> = connection
        .prepare_cached("SELECT lsn FROM frame WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([rows::id(run)], |row| row.get(0))
        .optional()?;
    changes::note_deleted(connection, changes::LSN, newest.unwrap_or(0))?;
    let deleted = connection
        .prepare_cached(
            "DELETE FROM frame WHERE lsn IN (SELECT lsn FROM frame WHERE run = ?1 ORDER BY seq DESC LIMIT ?2)",
        )?
        .execute([rows::id(run), *rows_left as i64])?;
    *rows_left -= deleted;
    if *rows_left == 0 {
        return Ok(false);
    }
    purge_rest(connection, run, sweep, slice)?;
    // A run costs a few rows besides its frames.
    *rows_left = rows_left.saturating_sub(8);
    Ok(true)
}

/// Returns free pages to the file system; returns whether there may be more.
pub(super) fn vacuum(connection: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    // A few free pages are kept, because the next commits would only request them again.
    if free <= i64::from(PAGES_A_SLICE) {
        return Ok(false);
    }
    connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_A_SLICE})"))?;
    Ok(true)
}

/// The run to purge next, and whether it still has all its data.
fn next_to_purge(connection: &Connection, sweep: &Sweep) -> rusqlite::Result<Option<(RunId, bool)>> {
    let first = |purged: i64, before: i64| {
        connection
            .prepare_cached(
                "SELECT id FROM run INDEXED BY run_ended WHERE purged = ?1 AND ended < ?2 ORDER BY ended, id LIMIT 1",
            )?
            .query_row([purged, before], |row| row.get::<_, i64>(0))
            .optional()
    };
    let run = |number: i64| RunId::from_u64(number.cast_unsigned()).unwrap_or(RunId::MAX);
    let deleted = connection
        .prepare_cached(
            "SELECT number FROM meta WHERE name BETWEEN 'deleted_run:' AND 'deleted_run:~' LIMIT 1",
        )?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(deleted) = deleted {
        return Ok(Some((run(deleted), false)));
    }
    if let Some(begun) = first(LOSING, i64::MAX)? {
        return Ok(Some((run(begun), false)));
    }
    let too_many = sweep.count.surplus > 0 || is_too_large(connection, sweep)?;
    let before =
        if too_many { Some(i64::MAX) } else { sweep.policy.purge_before(sweep.now).map(|before| before.0) };
    let Some(before) = before else { return Ok(None) };
    Ok(first(KEPT, before)?.map(|number| (run(number), true)))
}

fn is_too_large(connection: &Connection, sweep: &Sweep) -> rusqlite::Result<bool> {
    let Some(bytes_max) = sweep.policy.bytes_max else { return Ok(false) };
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let used = (number("page_count")? - number("freelist_count")?) * number("page_size")?;
    Ok(used.cast_unsigned() + sweep.count.file_bytes > bytes_max)
}

fn purge_rest(
    connection: &Connection,
    run: RunId,
    sweep: &mut Sweep,
    slice: &mut Slice,
) -> rusqlite::Result<()> {
    let id = rows::id(run);
    let newest: i64 = connection
        .prepare_cached(
            "SELECT max(ifnull((SELECT max(id) FROM inbox WHERE taken_by = ?1), 0),
                        ifnull((SELECT max(id) FROM inbox WHERE run = ?1 AND taken_by IS NULL), 0))",
        )?
        .query_row([id], |row| row.get(0))?;
    changes::note_deleted(connection, changes::MESSAGE, newest)?;
    for sql in [
        "DELETE FROM snapshot WHERE run = ?1",
        "DELETE FROM timer WHERE run = ?1",
        "DELETE FROM inbox WHERE taken_by = ?1",
        "DELETE FROM inbox WHERE run = ?1 AND taken_by IS NULL",
        "INSERT INTO change (namespace, key) SELECT namespace, key FROM named WHERE run = ?1",
        "DELETE FROM named WHERE run = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    let mut orphans = Vec::new();
    let mut referred = connection.prepare_cached("SELECT blob FROM blob_ref WHERE run = ?1")?;
    let mut found = referred.query([id])?;
    while let Some(row) = found.next()? {
        orphans.push(row.get::<_, i64>(0)?);
    }
    for blob in orphans {
        let left = connection
            .prepare_cached(
                "UPDATE blob SET refs = refs - 1 WHERE id = ?1 RETURNING refs, codec, size, hash",
            )?
            .query_row([blob], |row| {
                let left: (i64, i64, i64, [u8; 32]) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(left)
            })
            .optional()?;
        if let Some((0, codec, size, hash)) = left {
            connection.prepare_cached("DELETE FROM blob WHERE id = ?1")?.execute([blob])?;
            sweep.swept.blobs += 1;
            if codec == IN_FILE {
                sweep.count.file_bytes = sweep.count.file_bytes.saturating_sub(size.cast_unsigned());
                slice.files.push(ContentHash::from_bytes(hash));
            }
        }
    }
    connection.prepare_cached("DELETE FROM blob_ref WHERE run = ?1")?.execute([id])?;
    let kept =
        connection.prepare_cached("UPDATE run SET purged = ?2 WHERE id = ?1")?.execute([id, PURGED])? as u64;
    if kept == 0 {
        connection.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([deleted_name(run)])?;
    }
    sweep.swept.purged += kept;
    sweep.count.rows += kept;
    Ok(())
}

fn delete_rows(connection: &Connection, sweep: &mut Sweep, rows_max: usize) -> rusqlite::Result<usize> {
    let surplus = sweep.policy.purged_rows_max().map_or(0, |most| sweep.count.rows.saturating_sub(most));
    let surplus = usize::try_from(surplus).unwrap_or(usize::MAX).min(rows_max);
    let mut deleted = 0;
    for (before, rows_max) in [
        (Some(i64::MAX), surplus),
        (sweep.policy.delete_before(sweep.now).map(|before| before.0), rows_max - surplus),
    ] {
        let Some(before) = before.filter(|_| rows_max > 0) else { continue };
        deleted += connection
            .prepare_cached(
                "DELETE FROM run WHERE id IN
                 (SELECT id FROM run INDEXED BY run_ended WHERE purged = ?1 AND ended < ?2 ORDER BY ended, id LIMIT ?3)",
            )?
            .execute(params![PURGED, before, rows_max as i64])?;
    }
    sweep.swept.rows += deleted as u64;
    sweep.count.rows = sweep.count.rows.saturating_sub(deleted as u64);
    Ok(deleted)
}
