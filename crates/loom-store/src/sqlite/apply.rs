//! Writes one commit inside the writer's transaction.
//!
//! Everything that can be refused is checked before the first row is written. So a refused commit leaves no trace in
//! the transaction that it shares with others, and no savepoint is needed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    BlobContent, Commit, Committed, Conflict, ContentHash, Definition, InboxId, KeyWrite, Post, RunId,
    RunRow, Seq, Snapshot, Written,
    blob::Blob,
    commit::{Frame, check_keys},
    pack::{Codec, pack},
};

use super::rows;

/// The codec number of a blob whose content is in a file.
pub(super) const IN_FILE: i64 = 2;
/// How many runs, and how many hashes, the writer remembers before it starts over.
const REMEMBERED_MAX: usize = 100_000;

/// A commit in the form in which it is written. Compressed by the caller's thread, not by the writer's.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) commit: Commit,
    frames: Vec<(Codec, Frame)>,
    snapshot: Option<(Codec, Bytes)>,
}

impl Packed {
    pub(super) fn new(commit: Commit) -> Self {
        let frames = commit.journal.iter().flat_map(|journal| &journal.frames).map(|frame| {
            let (codec, payload) = pack(&frame.payload);
            (codec, Frame { at: frame.at, payload })
        });
        let frames = frames.collect();
        let snapshot = commit.snapshot.as_ref().map(|snapshot| pack(&snapshot.state));
        Self { commit, frames, snapshot }
    }

    /// The number of frames that it appends.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }
}

/// Why a commit was not applied.
#[derive(Debug)]
pub(super) enum Failure {
    /// Only this commit is refused; the transaction is not affected.
    Refused(Conflict),
    /// The database failed, and the whole group fails with it.
    Database(rusqlite::Error),
}

impl From<Conflict> for Failure {
    fn from(conflict: Conflict) -> Self {
        Self::Refused(conflict)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database(source)
    }
}

/// What the writer knows about the database without a query. Discarded when a transaction fails.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The sequence number of the next frame of runs that were written recently.
    next: HashMap<RunId, Seq>,
    definitions: HashSet<ContentHash>,
    /// The newest version of a named value, including deleted ones.
    last_version: u64,
    /// The `lsn` of the newest frame, including deleted ones.
    last_lsn: u64,
    /// The newest message, including deleted ones.
    last_message: u64,
}

impl Memory {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let last_version = connection.query_row(
            "SELECT max(ifnull((SELECT max(version) FROM named), 0), number) FROM meta WHERE name = 'deleted_version'",
            [],
            |row| row.get(0),
        )?;
        // `deleted_lsn` exists once retention has deleted a frame.
        let last_lsn = connection.query_row(
            "SELECT max(ifnull((SELECT max(lsn) FROM frame), 0), ifnull((SELECT number FROM meta WHERE name = 'deleted_lsn'), 0))",
            [],
            |row| row.get(0),
        )?;
        let last_message = connection.query_row(
            "SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0)",
            [],
            |row| row.get(0),
        )?;
        Ok(Self { last_version, last_lsn, last_message, ..Self::default() })
    }

    /// How much was ever written, in frames, messages and named values. It only increases, whatever is deleted.
    pub(super) fn progress(&self) -> u64 {
        self.last_lsn + self.last_version + self.last_message
    }

    /// Saves the newest version before named values are deleted, so that it is not used again after a restart.
    pub(super) fn keep_version(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached("UPDATE meta SET number = ?1 WHERE name = 'deleted_version'")?
            .execute([self.last_version])?;
        Ok(())
    }

    /// Saves the `lsn` of the newest frame before frames are deleted, so that it is not used again after a restart.
    pub(super) fn keep_lsn(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO meta VALUES ('deleted_lsn', ?1) ON CONFLICT DO UPDATE SET number = excluded.number",
            )?
            .execute([self.last_lsn])?;
        Ok(())
    }

    /// Forgets a run whose journal is being removed.
    pub(super) fn forget(&mut self, run: RunId) {
        self.next.remove(&run);
    }

    fn next(&mut self, connection: &Connection, run: RunId) -> Result<Seq, Failure> {
        if let Some(next) = self.next.get(&run) {
            return Ok(*next);
        }
        let last: Option<u64> = connection
            .prepare_cached("SELECT max(seq) FROM frame WHERE run = ?1")?
            .query_row([rows::id(run)], |row| row.get(0))?;
        let purged = connection
            .prepare_cached("SELECT 1 FROM run WHERE id = ?1 AND purged > 0")?
            .exists([rows::id(run)])?;
        if purged {
            return Err(Conflict::Purged { run }.into());
        }
        let next = Seq(last.unwrap_or(0)).plus(1);
        self.remember(run, next);
        Ok(next)
    }

    fn remember(&mut self, run: RunId, next: Seq) {
        if self.next.len() >= REMEMBERED_MAX {
            self.next.clear();
        }
        self.next.insert(run, next);
    }
}

/// Checks a commit and writes it.
pub(super) fn apply(
    connection: &Connection,
    memory: &mut Memory,
    Packed { commit, frames, snapshot }: &Packed,
) -> Result<Committed, Failure> {
    let mut write = RowWrite::New;
    if let Some(row) = &commit.row {
        match check_row(connection, row)? {
            RowCheck::Write(found) => write = found,
            RowCheck::Duplicate(earlier) => return Ok(Committed::Duplicate(earlier)),
        }
    }
    if let Some(journal) = &commit.journal {
        let actual = memory.next(connection, journal.run)?;
        if actual != journal.first {
            return Err(Conflict::Seq { run: journal.run, expected: journal.first, actual }.into());
        }
    }
    check_blobs(connection, &commit.blobs)?;
    for message in &commit.inbox_consumed {
        let mut pending =
            connection.prepare_cached("SELECT 1 FROM inbox WHERE id = ?1 AND taken_by IS NULL")?;
        if !pending.exists([message.0.cast_signed()])? {
            return Err(Conflict::Taken { message: *message }.into());
        }
    }
    check_keys(&commit.keys, |namespace, key| {
        key_version(connection, namespace, key).map_err(Failure::from)
    })?;

    for definition in &commit.definitions {
        write_definition(connection, memory, definition)?;
    }
    if let Some(run) = commit.run() {
        for blob in &commit.blobs {
            write_blob(connection, run, blob)?;
        }
    }
    if let Some(row) = &commit.row {
        write_row(connection, row, write)?;
        // Frames say by their number that the run has changed.
        if frames.is_empty() {
            note_run(connection, row.id)?;
        }
    }
    if let Some(journal) = &commit.journal {
        write_frames(connection, memory, journal.run, journal.first, frames)?;
        memory.remember(journal.run, journal.first.plus(frames.len() as u64));
    }
    if let (Some(taken), Some((codec, state))) = (&commit.snapshot, snapshot) {
        write_snapshot(connection, taken, *codec, state)?;
    }
    for timer in &commit.timers_cleared {
        connection
            .prepare_cached("DELETE FROM timer WHERE run = ?1 AND number = ?2")?
            .execute(params![rows::id(timer.run), timer.number.cast_signed()])?;
    }
    for timer in &commit.timers_set {
        connection
            .prepare_cached(
                "INSERT INTO timer (run, number, due, kind) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET due = excluded.due, kind = excluded.kind",
            )?
            .execute(params![
                rows::id(timer.key.run),
                timer.key.number.cast_signed(),
                timer.due.0,
                timer.kind
            ])?;
    }
    let run = commit.run().map(rows::id);
    for message in &commit.inbox_consumed {
        // A message to no run now belongs to the run that consumed it, and is deleted with that run.
        connection
            .prepare_cached("UPDATE inbox SET taken_by = ifnull(?2, -1) WHERE id = ?1 AND taken_by IS NULL")?
            .execute(params![message.0.cast_signed(), run])?;
    }
    let mut written = Written::default();
    for post in &commit.inbox_posted {
        let message = write_post(connection, post)?;
        memory.last_message = memory.last_message.max(message.0);
        written.inbox.push(message);
    }
    for key in &commit.keys {
        written.versions.push(write_key(connection, memory, key)?);
    }
    Ok(Committed::Written(written))
}

/// How a row is written.
#[derive(Clone, Copy)]
enum RowWrite {
    New,
    /// The columns that lists filter by keep their values. Their indexes are not written, which saves a page of each.
    SameFacts,
    OtherFacts,
}

enum RowCheck {
    Write(RowWrite),
    Duplicate(RunId),
}

fn check_row(connection: &Connection, row: &RunRow) -> Result<RowCheck, Failure> {
    let known = connection
        .prepare_cached(
            "SELECT workflow = ?2 AND idempotency_key IS ?3 AND parent IS ?4,
                    status = ?5 AND error IS ?6 AND tracking_id IS ?7 AND flags = ?8
             FROM run WHERE id = ?1",
        )?
        .query_row(
            params![
                rows::id(row.id),
                row.workflow,
                row.idempotency_key,
                row.parent.map(rows::id),
                row.status,
                row.error,
                row.tracking_id,
                row.flags.0,
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match known {
        Some((true, true)) => return Ok(RowCheck::Write(RowWrite::SameFacts)),
        Some((true, false)) => return Ok(RowCheck::Write(RowWrite::OtherFacts)),
        Some((false, _)) => return Err(Conflict::Identity { run: row.id }.into()),
        None => {}
    }
    let Some(key) = &row.idempotency_key else { return Ok(RowCheck::Write(RowWrite::New)) };
    let earlier = connection
        .prepare_cached("SELECT id FROM run WHERE workflow = ?1 AND idempotency_key = ?2")?
        .query_row(params![row.workflow, key], |row| row.get::<_, u64>(0))
        .optional()?;
    let earlier = earlier.and_then(RunId::from_u64);
    Ok(earlier.map_or(RowCheck::Write(RowWrite::New), RowCheck::Duplicate))
}

fn check_blobs(connection: &Connection, blobs: &[Blob]) -> Result<(), Failure> {
    for blob in blobs.iter().filter(|blob| blob.content() == BlobContent::Known) {
        if blob_id(connection, blob.hash())?.is_none() {
            return Err(Conflict::MissingBlob(blob.hash()).into());
        }
    }
    Ok(())
}

fn blob_id(connection: &Connection, hash: ContentHash) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM blob WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()
}

fn key_version(connection: &Connection, namespace: &str, key: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT version FROM named WHERE namespace = ?1 AND key = ?2")?
        .query_row([namespace, key], |row| row.get(0))
        .optional()
}

fn write_definition(
    connection: &Connection,
    memory: &mut Memory,
    definition: &Definition,
) -> rusqlite::Result<()> {
    let hash = definition.hash();
    if memory.definitions.contains(&hash) {
        return Ok(());
    }
    let (codec, body) = pack(definition.body());
    connection
        .prepare_cached(
            "INSERT INTO definition (hash, codec, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![hash.as_bytes(), codec as i64, &*body])?;
    if memory.definitions.len() >= REMEMBERED_MAX {
        memory.definitions.clear();
    }
    memory.definitions.insert(hash);
    Ok(())
}

/// Stores the content if it is new, and adds one reference of the run to it, at most once.
fn write_blob(connection: &Connection, run: RunId, blob: &Blob) -> rusqlite::Result<()> {
    let id = if let Some(id) = blob_id(connection, blob.hash())? {
        id
    } else {
        let (codec, body) = match blob.content() {
            BlobContent::Carried { codec, bytes } => (i64::from(codec), Some(&**bytes)),
            BlobContent::Written | BlobContent::Known => (IN_FILE, None),
        };
        connection
            .prepare_cached("INSERT INTO blob (hash, size, refs, codec, body) VALUES (?1, ?2, 0, ?3, ?4)")?
            .execute(params![blob.hash().as_bytes(), blob.size().cast_signed(), codec, body])?;
        connection.last_insert_rowid()
    };
    let charged = connection
        .prepare_cached("INSERT INTO blob_ref (run, blob) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![rows::id(run), id])?;
    if charged > 0 {
        connection.prepare_cached("UPDATE blob SET refs = refs + 1 WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

fn write_row(connection: &Connection, row: &RunRow, write: RowWrite) -> rusqlite::Result<()> {
    // All statements have the same parameters; what a statement does not write was compared by the check.
    let sql = match write {
        RowWrite::New => {
            "INSERT INTO run (id, workflow, definition, status, started, ended, origin, attempt, parent, parent_path,
                              idempotency_key, wake_at, error, details, crc, error_text, trigger_name, tracking_id, flags)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)"
        }
        RowWrite::SameFacts => {
            "UPDATE run SET definition = ?3, started = ?5, ended = ?6, origin = ?7, attempt = ?8, parent_path = ?10,
                            wake_at = ?12, details = ?14, crc = ?15, error_text = ?16, trigger_name = ?17
             WHERE id = ?1 AND workflow = ?2 AND parent IS ?9 AND idempotency_key IS ?11
               AND status = ?4 AND error IS ?13 AND tracking_id IS ?18 AND flags = ?19"
        }
        RowWrite::OtherFacts => {
            "UPDATE run SET definition = ?3, status = ?4, started = ?5, ended = ?6, origin = ?7, attempt = ?8,
                            parent_path = ?10, wake_at = ?12, error = ?13, details = ?14, crc = ?15,
                            error_text = ?16, trigger_name = ?17, tracking_id = ?18, flags = ?19
             WHERE id = ?1 AND workflow = ?2 AND parent IS ?9 AND idempotency_key IS ?11"
        }
    };
    connection.prepare_cached(sql)?.execute(params![
        rows::id(row.id),
        row.workflow,
        row.definition.as_bytes(),
        row.status,
        row.started.map(|at| at.0),
        row.ended.map(|at| at.0),
        row.origin.map(rows::id),
        row.attempt,
        row.parent.map(rows::id),
        row.parent_path,
        row.idempotency_key,
        row.wake_at.map(|at| at.0),
        row.error,
        &*row.details,
        rows::run_checksum(row),
        row.error_text,
        row.trigger,
        row.tracking_id,
        row.flags.0,
    ])?;
    Ok(())
}

/// Records that a run has changed.
pub(super) fn note_run(connection: &Connection, run: RunId) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO change (run) VALUES (?1)")?.execute([rows::id(run)])?;
    Ok(())
}

fn write_frames(
    connection: &Connection,
    memory: &mut Memory,
    run: RunId,
    first: Seq,
    frames: &[(Codec, Frame)],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO frame (lsn, run, seq, at, codec, payload, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (place, (codec, frame)) in frames.iter().enumerate() {
        let seq = first.plus(place as u64);
        let codec = *codec as i64;
        let crc = rows::frame_checksum(run, seq, frame.at, codec, &frame.payload);
        memory.last_lsn += 1;
        let lsn = memory.last_lsn;
        insert.execute(params![lsn, rows::id(run), seq.0, frame.at.0, codec, &*frame.payload, crc])?;
    }
    Ok(())
}

fn write_snapshot(
    connection: &Connection,
    snapshot: &Snapshot,
    codec: Codec,
    state: &[u8],
) -> rusqlite::Result<()> {
    let codec = codec as i64;
    let crc = rows::snapshot_checksum(snapshot.run, snapshot.upto, codec, state);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO snapshot (run, upto, codec, state, crc) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![rows::id(snapshot.run), snapshot.upto.0, codec, state, crc])?;
    Ok(())
}

fn write_post(connection: &Connection, post: &Post) -> rusqlite::Result<InboxId> {
    let run = post.run.map(rows::id);
    if let Some(key) = &post.idempotency_key {
        let earlier = connection
            .prepare_cached(
                "SELECT id FROM inbox WHERE ifnull(run, -1) = ifnull(?1, -1) AND idempotency_key = ?2",
            )?
            .query_row(params![run, key], |row| row.get(0))
            .optional()?;
        if let Some(earlier) = earlier {
            return Ok(InboxId(earlier));
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO inbox (run, kind, at, idempotency_key, payload, crc, shard) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            run,
            post.kind,
            post.at.0,
            post.idempotency_key,
            &*post.payload,
            rows::inbox_checksum(post),
            post.shard().number(),
        ])?;
    Ok(InboxId(connection.last_insert_rowid().cast_unsigned()))
}

fn write_key(
    connection: &Connection,
    memory: &mut Memory,
    write: &KeyWrite,
) -> rusqlite::Result<Option<u64>> {
    let (namespace, key): (&Arc<str>, &Arc<str>) = (&write.namespace, &write.key);
    let Some(value) = &write.value else {
        let deleted = connection
            .prepare_cached("DELETE FROM named WHERE namespace = ?1 AND key = ?2")?
            .execute(params![namespace, key])?;
        if deleted > 0 {
            memory.keep_version(connection)?;
            connection
                .prepare_cached("INSERT INTO change (namespace, key) VALUES (?1, ?2)")?
                .execute(params![namespace, key])?;
        }
        return Ok(None);
    };
    memory.last_version += 1;
    let version = memory.last_version;
    connection
        .prepare_cached(
            "INSERT INTO named (namespace, key, version, value, crc, expires, run) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET version = excluded.version, value = excluded.value, crc = excluded.crc,
                                       expires = excluded.expires, run = excluded.run",
        )?
        .execute(params![
            namespace,
            key,
            version,
            &**value,
            rows::key_checksum(namespace, key, version, value, (write.expires, write.run)),
            write.expires.map(|at| at.0),
            write.run.map(rows::id),
        ])?;
    Ok(Some(version))
}
