//! Retention and deletions, in transactions of at most [`RUNS_A_SLICE`] runs, on a connection of their own.
//!
//! Nodes take turns: a slice holds an advisory lock until its transaction ends. Only runs that have ended are removed, so it does not
//! matter who owns them. Their rows are locked first, and what a locked run has is read by a later statement: so nothing is left
//! behind that a commit added meanwhile, and a commit that comes later finds that the run was purged.

use std::sync::Arc;

use loom_store::{Deletion, Error, Retention, RunId, Swept, UnixMillis};

use crate::{
    connect::{Failure, Role, Session, failure},
    feed, partitions, rows,
    statement::Turn,
    store::Backend,
};

const RUNS_A_SLICE: i64 = 500;
const ROWS_A_SLICE: i64 = 4_000;

/// How long the feed keeps changes. A reader that comes later starts over.
const FEED_KEPT: &str = "1 hour";

/// After this time, nobody waits any more to refer to content that was uploaded.
const UPLOAD_KEPT: &str = "1 hour";

/// How often a slice is repeated because of other transactions.
const REPEATED_MAX: u32 = 10;

/// Value of `run.purged`: the run has all its data.
const KEPT: i16 = 0;
/// The data was removed.
const PURGED: i16 = 2;

/// The first half of the key of the advisory lock.
const LOCK: i32 = 0x4c6f_6f71;

/// The connection, and the position of its next transaction in the feed.
#[derive(Debug, Default)]
pub(crate) struct UpkeepWriter(Option<(Session, Turn)>);

type Failed = tokio_postgres::Error;

/// What a transaction has changed, for the feed.
#[derive(Debug, Default)]
struct Noted {
    runs: Vec<i64>,
    namespaces: Vec<String>,
    keys: Vec<String>,
}

/// A transaction in progress.
struct Slice<'a> {
    session: &'a Session,
    noted: Noted,
    swept: Swept,
    /// Whether something may be left to do.
    has_more: bool,
}

impl UpkeepWriter {
    async fn open(&mut self, backend: &Backend) -> Result<(Session, Turn), Error> {
        if let Some((session, turn)) = self.0.as_ref().filter(|(session, _)| !session.is_closed()) {
            return Ok((session.clone(), *turn));
        }
        let session = backend.connector.open(Role::Upkeep).await?;
        // What became of the last transaction of a lost connection is unknown, so its positions are not used again.
        let row =
            session.query_opt("INSERT INTO writer DEFAULT VALUES RETURNING id", &[]).await.map_err(failed)?;
        let writer = row.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
        let turn = Turn { writer, number: 1 };
        self.0 = Some((session.clone(), turn));
        Ok((session, turn))
    }
}

fn failed(source: Failed) -> Error {
    Error::io("remove old runs", source)
}

/// Why nothing may be removed at the moment, if so.
fn stopped(backend: &Backend) -> Result<(), Error> {
    backend.shared.queue.stopped().map_or(Ok(()), Err)
}

/// See [`Upkeep::sweep`](loom_store::Upkeep::sweep).
pub(crate) async fn sweep(backend: Arc<Backend>, policy: Retention, now: UnixMillis) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut upkeep = backend.upkeep.lock().await;
    loop {
        stopped(&backend)?;
        let (session, _) = upkeep.open(&backend).await?;
        backend.pins.clean(&session, backend.holder).await.map_err(failed)?;
        let done = transact(&backend, &mut upkeep, Work::Sweep(policy, now)).await?;
        swept.purged += done.swept.purged;
        swept.rows += done.swept.rows;
        swept.blobs += done.swept.blobs;
        swept.values += done.swept.values;
        if !done.has_more {
            let (session, _) = upkeep.open(&backend).await?;
            let schema = &backend.connector.options().schema;
            // Whatever prevents it, the next sweep tries again.
            if let Err(error) = partitions::drop_empty(session.client(), schema).await {
                tracing::debug!(%error, "an empty partition could not be dropped");
            }
            return Ok(swept);
        }
    }
}

/// See [`Upkeep::delete_run`](loom_store::Upkeep::delete_run).
pub(crate) async fn delete_run(backend: Arc<Backend>, run: RunId) -> Result<Deletion, Error> {
    let mut upkeep = backend.upkeep.lock().await;
    stopped(&backend)?;
    Ok(transact(&backend, &mut upkeep, Work::Delete(run)).await?.deletion)
}

/// What a transaction does.
#[derive(Clone, Copy, Debug)]
enum Work {
    Sweep(Retention, UnixMillis),
    Delete(RunId),
}

/// What it did.
#[derive(Debug)]
struct Done {
    swept: Swept,
    has_more: bool,
    deletion: Deletion,
}

/// Works in a transaction, and repeats it when another transaction was in the way.
async fn transact(backend: &Backend, upkeep: &mut UpkeepWriter, work: Work) -> Result<Done, Error> {
    let mut repeated = 0;
    loop {
        let (session, turn) = upkeep.open(backend).await?;
        match transact_once(&session, turn, work).await {
            Ok(done) => {
                upkeep.0 = Some((session, Turn { number: turn.number + 1, ..turn }));
                return Ok(done);
            }
            Err(source) => {
                // The connection is not used again: whether its transaction took effect may be unknown.
                upkeep.0 = None;
                repeated += 1;
                if failure(&source) != Failure::Again || repeated > REPEATED_MAX {
                    return Err(failed(source));
                }
            }
        }
    }
}

async fn transact_once(session: &Session, turn: Turn, work: Work) -> Result<Done, Failed> {
    let client = session.client();
    client.batch_execute("BEGIN").await?;
    let mut slice = Slice { session, noted: Noted::default(), swept: Swept::default(), has_more: false };
    let deletion = match work {
        Work::Sweep(policy, now) => slice.sweep(&policy, now).await.map(|()| Deletion::NotFound),
        Work::Delete(run) => slice.delete(rows::id(run)).await,
    }?;
    let Slice { noted, swept, has_more, .. } = slice;
    if !noted.runs.is_empty() || !noted.keys.is_empty() {
        let sql = "INSERT INTO change (writer, number, runs, namespaces, keys) VALUES ($1, $2, $3, $4, $5)";
        session
            .execute(sql, &[&turn.writer, &turn.number, &noted.runs, &noted.namespaces, &noted.keys])
            .await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(Done { swept, has_more, deletion })
}

impl Slice<'_> {
    async fn number(&self, sql: &str) -> Result<i64, Failed> {
        self.session.query_opt(sql, &[]).await?.map_or(Ok(0), |row| row.try_get(0))
    }

    async fn sweep(&mut self, policy: &Retention, now: UnixMillis) -> Result<(), Failed> {
        let lock = "SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))";
        self.session.query_opt(lock, &[&LOCK]).await?;
        self.expire(now).await?;
        let runs = self.lock_old_runs(policy, now).await?;
        if runs.is_empty() {
            self.delete_rows(policy, now).await?;
            self.remove_uploads().await?;
            self.trim().await?;
        } else {
            self.has_more = true;
            let sql = "UPDATE writer SET forgotten = greatest(forgotten, (last.number + 1) << 20)
                FROM (SELECT writer, max(change) AS number FROM run WHERE id = ANY($1) GROUP BY writer) AS last WHERE writer.id = last.writer";
            debug_assert_eq!(feed::after(1), 2 << 20, "the statement computes the same");
            self.session.execute(sql, &[&runs]).await?;
            self.purge(&runs).await?;
            self.session.execute("UPDATE run SET purged = $2 WHERE id = ANY($1)", &[&runs, &PURGED]).await?;
            self.swept.purged += runs.len() as u64;
        }
        Ok(())
    }

    /// Removes named values that have expired.
    async fn expire(&mut self, now: UnixMillis) -> Result<(), Failed> {
        let sql = "DELETE FROM named WHERE expires <= $1 AND (namespace, key) IN
            (SELECT namespace, key FROM named WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING namespace, key";
        let removed = self.session.query(sql, &[&now.0, &ROWS_A_SLICE]).await?;
        self.has_more |= removed.len() as i64 == ROWS_A_SLICE;
        self.swept.values += removed.len() as u64;
        self.note_names(&removed)
    }

    fn note_names(&mut self, found: &[tokio_postgres::Row]) -> Result<(), Failed> {
        for row in found {
            self.noted.namespaces.push(row.try_get(0)?);
            self.noted.keys.push(row.try_get(1)?);
        }
        Ok(())
    }

    /// Locks the runs whose data the policy no longer keeps, those first that ended first.
    async fn lock_old_runs(&mut self, policy: &Retention, now: UnixMillis) -> Result<Vec<i64>, Failed> {
        let mut surplus = 0;
        if let Some(runs_max) = policy.runs_max {
            let kept = self.number("SELECT count(*) FROM run WHERE purged = 0 AND ended IS NOT NULL").await?;
            surplus = kept.cast_unsigned().saturating_sub(runs_max);
        }
        let mut excess = 0;
        if let Some(bytes_max) = policy.bytes_max {
            let used = "SELECT coalesce((SELECT sum(bytes) FROM run WHERE purged = 0 AND ended IS NOT NULL), 0)::int8
                + coalesce((SELECT sum(bytes) FROM run WHERE ended IS NULL), 0)::int8";
            excess = self.number(used).await?.cast_unsigned().saturating_sub(bytes_max);
        }
        let before = policy.purge_before(now);
        if surplus == 0 && excess == 0 && before.is_none() {
            return Ok(Vec::new());
        }
        let sql = "SELECT id, ended, bytes FROM run WHERE purged = 0 AND ended IS NOT NULL ORDER BY ended, id LIMIT $1";
        let mut runs = Vec::new();
        for row in self.session.query(sql, &[&RUNS_A_SLICE]).await? {
            let (id, ended, bytes): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if surplus == 0 && excess == 0 && before.is_none_or(|before| ended >= before.0) {
                break;
            }
            surplus = surplus.saturating_sub(1);
            excess = excess.saturating_sub(bytes.cast_unsigned());
            runs.push(id);
        }
        let sql = "SELECT id FROM run WHERE id = ANY($1) AND purged = $2 AND ended IS NOT NULL ORDER BY id FOR UPDATE SKIP LOCKED";
        let locked = self.session.query(sql, &[&runs, &KEPT]).await?;
        locked.iter().map(|row| row.try_get(0)).collect()
    }

    /// Removes everything of these runs but their rows, which are locked.
    async fn purge(&mut self, runs: &[i64]) -> Result<(), Failed> {
        for sql in [
            "DELETE FROM frame WHERE run = ANY($1)",
            "DELETE FROM snapshot WHERE run = ANY($1)",
            "DELETE FROM timer WHERE run = ANY($1)",
            "DELETE FROM inbox WHERE taken_by = ANY($1)",
            "DELETE FROM inbox WHERE run = ANY($1) AND taken_by IS NULL",
        ] {
            self.session.execute(sql, &[&runs]).await?;
        }
        let names = self
            .session
            .query("DELETE FROM named WHERE run = ANY($1) RETURNING namespace, key", &[&runs])
            .await?;
        self.note_names(&names)?;
        let sql = "WITH gone AS (DELETE FROM blob_ref WHERE run = ANY($1) RETURNING hash) SELECT DISTINCT hash FROM gone";
        let orphans = self.session.query(sql, &[&runs]).await?;
        let orphans: Vec<Vec<u8>> = orphans.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.swept.blobs += self.remove_content(&orphans).await?;
        Ok(())
    }

    /// Removes content that nobody refers to. It is locked first, which waits for commits that are about to refer to it; whether any
    /// does is read afterwards.
    async fn remove_content(&mut self, hashes: &[Vec<u8>]) -> Result<u64, Failed> {
        if hashes.is_empty() {
            return Ok(0);
        }
        self.session
            .execute("SELECT 1 FROM blob WHERE hash = ANY($1) ORDER BY hash FOR UPDATE", &[&hashes])
            .await?;
        let sql = format!(
            "DELETE FROM blob WHERE hash = ANY($1) AND NOT EXISTS (SELECT 1 FROM blob_ref r WHERE r.hash = blob.hash)
                AND NOT EXISTS (SELECT 1 FROM blob_pin p WHERE p.hash = blob.hash AND p.made > clock_timestamp() - interval '{UPLOAD_KEPT}')
             RETURNING hash, codec"
        );
        let removed = self.session.query(&sql, &[&hashes]).await?;
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for row in &removed {
            if row.try_get::<_, i16>(1)? >= 2 {
                parts.push(row.try_get(0)?);
            }
        }
        self.session.execute("DELETE FROM blob_part WHERE hash = ANY($1)", &[&parts]).await?;
        Ok(removed.len() as u64)
    }

    /// Removes content that was uploaded and that no commit has referred to since.
    async fn remove_uploads(&mut self) -> Result<(), Failed> {
        let sql = format!(
            "SELECT hash FROM blob WHERE codec >= 2 AND made < clock_timestamp() - interval '{UPLOAD_KEPT}'
                AND NOT EXISTS (SELECT 1 FROM blob_ref r WHERE r.hash = blob.hash) ORDER BY made LIMIT 100"
        );
        let found = self.session.query(&sql, &[]).await?;
        let hashes: Vec<Vec<u8>> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.swept.blobs += self.remove_content(&hashes).await?;
        let sql = format!("DELETE FROM blob_pin WHERE made < clock_timestamp() - interval '{UPLOAD_KEPT}'");
        self.session.execute(&sql, &[]).await.map(drop)
    }

    /// Deletes rows of runs whose data was removed.
    async fn delete_rows(&mut self, policy: &Retention, now: UnixMillis) -> Result<(), Failed> {
        let mut surplus = 0;
        if let Some(most) = policy.purged_rows_max() {
            let rows = self.number("SELECT count(*) FROM run WHERE purged = 2 AND ended IS NOT NULL").await?;
            surplus = (rows.cast_unsigned().saturating_sub(most) as i64).min(ROWS_A_SLICE);
        }
        let before = policy.delete_before(now).map(|before| before.0);
        for (before, most) in [(Some(i64::MAX), surplus), (before, ROWS_A_SLICE - surplus)] {
            let Some(before) = before.filter(|_| most > 0) else { continue };
            let sql = "DELETE FROM run WHERE id IN
                (SELECT id FROM run WHERE purged = $1 AND ended IS NOT NULL AND ended < $2 ORDER BY ended, id LIMIT $3 FOR UPDATE SKIP LOCKED)";
            let deleted = self.session.execute(sql, &[&PURGED, &before, &most]).await?;
            self.swept.rows += deleted;
            self.has_more |= deleted.cast_signed() == most;
        }
        Ok(())
    }

    /// Removes old changes, nodes that were fenced long ago, and writers that are gone.
    async fn trim(&mut self) -> Result<(), Failed> {
        let sql = format!(
            "WITH old AS (DELETE FROM change WHERE (writer, number) IN
                (SELECT writer, number FROM change WHERE at < clock_timestamp() - interval '{FEED_KEPT}' ORDER BY at LIMIT {ROWS_A_SLICE})
                RETURNING writer, number),
             last AS (SELECT writer, max(number) AS number FROM old GROUP BY writer),
             told AS (UPDATE writer SET forgotten = greatest(forgotten, (last.number + 1) << 20) FROM last WHERE writer.id = last.writer RETURNING 1)
             SELECT count(*) FROM old"
        );
        self.has_more |= self.number(&sql).await? == ROWS_A_SLICE;
        self.session
            .client()
            .batch_execute(
                "DELETE FROM fence WHERE node IN (SELECT id FROM node WHERE fenced AND lease_until < clock_timestamp() - interval '1 day'
                     AND NOT EXISTS (SELECT 1 FROM shard WHERE shard.owner = node.id));
                 DELETE FROM node WHERE fenced AND NOT EXISTS (SELECT 1 FROM fence WHERE fence.node = node.id);
                 WITH gone AS (DELETE FROM writer WHERE seen < clock_timestamp() - interval '7 days'
                     AND NOT EXISTS (SELECT 1 FROM change WHERE change.writer = writer.id) RETURNING 1)
                 UPDATE meta SET number = number + (SELECT count(*) FROM gone)
                 WHERE name = 'writers_removed' AND EXISTS (SELECT 1 FROM gone);",
            )
            .await
    }

    async fn delete(&mut self, run: i64) -> Result<Deletion, Failed> {
        let found = self
            .session
            .query_opt("SELECT ended IS NOT NULL FROM run WHERE id = $1 FOR UPDATE", &[&run])
            .await?;
        match found.map(|row| row.try_get(0)).transpose()? {
            None => return Ok(Deletion::NotFound),
            Some(false) => return Ok(Deletion::NotEnded),
            Some(true) => {}
        }
        self.purge(&[run]).await?;
        self.session.execute("DELETE FROM run WHERE id = $1", &[&run]).await?;
        self.noted.runs.push(run);
        Ok(Deletion::Deleted)
    }
}
