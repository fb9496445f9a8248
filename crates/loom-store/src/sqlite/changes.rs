//! The feed of changes, from numbers that the tables have anyway.
//!
//! One thread writes, so the `lsn` of frames, the ids of messages and the versions of named values grow in the order in
//! which commits take effect. The table `change` has what leaves none of these numbers.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::{Connection, params};

use crate::{Change, ChangePage, Cursor, Error, InboxId, RunId};

use super::{
    read::all,
    rows::{self, read_error},
};

/// The newest rows of `change` that a sweep leaves.
const KEPT: i64 = 100_000;

/// The names in `meta` of the newest numbers that were deleted, in the order of a cursor.
const DELETED: [&str; 4] = ["changes_lsn", "changes_message", "changes_version", "changes_id"];

/// All kinds of changes, by their positions in a cursor.
pub(super) const ALL: [usize; 4] = [0, 1, 2, 3];
/// The kinds that include changes of named values.
pub(super) const VALUES: [usize; 2] = [2, 3];

/// Frames up to this one may have been deleted.
pub(super) const LSN: &str = DELETED[0];
/// Messages up to this one may have been deleted.
pub(super) const MESSAGE: &str = DELETED[1];

/// Records that what has this number is about to be deleted.
pub(super) fn note_deleted(connection: &Connection, name: &str, number: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET number = max(number, excluded.number)",
        )?
        .execute(params![name, number])?;
    Ok(())
}

/// Deletes old rows of `change`, at most `rows_max`.
pub(super) fn trim(connection: &Connection, rows_max: usize) -> rusqlite::Result<usize> {
    let newest: i64 = connection
        .prepare_cached("SELECT ifnull(max(id), 0) FROM change")?
        .query_row([], |row| row.get(0))?;
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM (SELECT id FROM change WHERE id <= ?1 ORDER BY id LIMIT ?2)")?
        .query_row(params![newest - KEPT, rows_max as i64], |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    note_deleted(connection, DELETED[3], last)?;
    connection.prepare_cached("DELETE FROM change WHERE id <= ?1")?.execute([last])
}

fn deleted(connection: &Connection) -> Result<[u64; 4], Error> {
    let mut numbers = [0; 4];
    let found = all(connection, "SELECT name, number FROM meta WHERE name LIKE 'changes_%'", [], |row| {
        let name: String = row.get(0).map_err(read_error)?;
        Ok((name, row.get::<_, i64>(1).map_err(read_error)?))
    })?;
    for (name, number) in found {
        if let Some(place) = DELETED.iter().position(|known| *known == name) {
            numbers[place] = number.cast_unsigned();
        }
    }
    Ok(numbers)
}

pub(super) fn latest(connection: &Connection) -> Result<Cursor, Error> {
    let moment = connection.unchecked_transaction().map_err(read_error)?;
    let mut positions = deleted(&moment)?;
    let newest = [
        "SELECT max(lsn) FROM frame",
        "SELECT max(id) FROM inbox",
        "SELECT max(version) FROM named",
        "SELECT max(id) FROM change",
    ];
    for (position, sql) in positions.iter_mut().zip(newest) {
        let found: Option<i64> = moment
            .prepare_cached(sql)
            .and_then(|mut newest| newest.query_row([], |row| row.get(0)))
            .map_err(read_error)?;
        *position = (*position).max(found.unwrap_or(0).cast_unsigned());
    }
    Ok(Cursor::new(positions))
}

pub(super) fn changes(
    connection: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    kinds: &[usize],
) -> Result<ChangePage, Error> {
    let moment = connection.unchecked_transaction().map_err(read_error)?;
    // A cursor of another backend says nothing here.
    let known = after.and_then(|cursor| <[u64; 4]>::try_from(cursor.positions()).ok());
    let mut positions = known.unwrap_or_default();
    let deleted = deleted(&moment)?;
    let is_incomplete =
        known.is_none() != after.is_none() || kinds.iter().any(|kind| positions[*kind] < deleted[*kind]);
    let rows_max = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let mut page = ChangePage { changes: Vec::new(), next: Cursor::new([]), has_more: false, is_incomplete };
    let mut runs: BTreeSet<RunId> = BTreeSet::new();
    for kind in kinds.iter().copied() {
        let position = &mut positions[kind];
        let sql = [
            "SELECT lsn, run, NULL, NULL FROM frame WHERE lsn > ?1 ORDER BY lsn LIMIT ?2",
            "SELECT id, run, NULL, NULL FROM inbox WHERE id > ?1 ORDER BY id LIMIT ?2",
            "SELECT version, NULL, namespace, key FROM named WHERE version > ?1 ORDER BY version LIMIT ?2",
            "SELECT id, run, namespace, key FROM change WHERE id > ?1 ORDER BY id LIMIT ?2",
        ][kind];
        let mut count = 0;
        let found = all(&moment, sql, params![position.cast_signed(), rows_max], |row| {
            let number: i64 = row.get(0).map_err(read_error)?;
            (*position, count) = (number.cast_unsigned(), count + 1);
            let run = row.get::<_, Option<i64>>(1).map_err(read_error)?.map(rows::run_id).transpose()?;
            let text = |column| row.get::<_, Option<String>>(column).map_err(read_error);
            if kind == 1 {
                return Ok(Some(Change::Message { id: InboxId(number.cast_unsigned()), run }));
            }
            Ok(match (run, text(2)?, text(3)?) {
                (Some(run), ..) if kinds.len() == ALL.len() => runs.insert(run).then_some(Change::Run(run)),
                (None, Some(namespace), Some(key)) => {
                    Some(Change::Value { namespace: Arc::from(namespace), key: Arc::from(key) })
                }
                _ => None,
            })
        })?;
        page.changes.extend(found.into_iter().flatten());
        page.has_more |= count == rows_max;
    }
    page.next = Cursor::new(positions);
    Ok(page)
}
