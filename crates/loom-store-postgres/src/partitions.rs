//! The partitions of frames: one for the runs that were accepted in one week.
//!
//! A partition exists before the first frame is written to it. Those of the next weeks are created ahead; that of any other run,
//! such as one that was copied from another store, is created when its first frame arrives.

use std::collections::HashSet;

use loom_store::RunId;
use tokio_postgres::{Client, Error};

/// Run ids of one week: milliseconds, and the bits of an id that are below them.
const WEEK: u64 = (7 * 24 * 60 * 60 * 1000) << 21;

/// How many weeks are created ahead. Ids may be ahead of the clock, and the clock of a node ahead of the database's.
const AHEAD: u64 = 4;

/// The first half of the key of the advisory lock under which partitions are created.
const LOCK: i32 = 0x4c6f_6f70;

/// The partition that a run belongs to.
pub(crate) const fn week(run: RunId) -> u64 {
    run.as_u64() / WEEK
}

/// The partitions that are known to exist.
#[derive(Debug, Default)]
pub(crate) struct Partitions(HashSet<u64>);

impl Partitions {
    pub(crate) fn knows(&self, run: RunId) -> bool {
        self.0.contains(&week(run))
    }

    /// Forgets all, after the connection was lost or a partition was not found.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Makes sure that the partitions of these runs exist.
    pub(crate) async fn ensure(
        &mut self,
        client: &Client,
        schema: &str,
        runs: impl IntoIterator<Item = RunId>,
    ) -> Result<(), Error> {
        let mut missing: Vec<u64> = runs.into_iter().filter(|run| !self.knows(*run)).map(week).collect();
        missing.sort_unstable();
        missing.dedup();
        for week in missing {
            create(client, schema, week).await?;
            self.0.insert(week);
        }
        Ok(())
    }

    /// Makes sure that the partitions of this week and the next ones exist, by the clock of the database.
    pub(crate) async fn ensure_ahead(&mut self, client: &Client, schema: &str) -> Result<(), Error> {
        let now =
            client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", &[]).await?;
        let now: i64 = now.try_get(0)?;
        let first = RunId::first_at(loom_store::UnixMillis(now)).as_u64();
        let runs = (0..=AHEAD).filter_map(|week| RunId::from_u64(first + week * WEEK));
        self.ensure(client, schema, runs).await
    }
}

async fn create(client: &Client, schema: &str, week: u64) -> Result<(), Error> {
    let name = format!("frame_w{week}");
    let bound = |week: u64| match RunId::from_u64(week.saturating_mul(WEEK)) {
        Some(run) => run.as_u64().to_string(),
        None => "MAXVALUE".into(),
    };
    let (from, to) = (bound(week), bound(week + 1));
    let found =
        client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{schema}.{name}")]).await?;
    if found.try_get(0)? {
        return Ok(());
    }
    // Attaching a partition does not block those who write to the others.
    let created = client
        .batch_execute(&format!(
            "BEGIN;
             SELECT pg_advisory_xact_lock({LOCK}, hashtext('{schema}'));
             CREATE TABLE IF NOT EXISTS {schema}.{name} (LIKE {schema}.frame INCLUDING STORAGE)
                 WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
             DO $$ BEGIN
                 IF NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = '{schema}.{name}'::regclass) THEN
                     ALTER TABLE {schema}.frame ATTACH PARTITION {schema}.{name} FOR VALUES FROM ({from}) TO ({to});
                 END IF;
             END $$;
             COMMIT"
        ))
        .await;
    if created.is_err() {
        // The connection stays usable; when this fails as well, its next use says so.
        client.batch_execute("ROLLBACK").await.ok();
    }
    created
}

/// How many weeks an empty partition stays, so that runs that begin late or were just copied find it.
const EMPTY_KEPT: u64 = 2;

/// Drops the oldest partition that is empty, if there is one. Writers wait for at most a tenth of a second; a node that does not know
/// of it yet creates the partition again when it needs it.
pub(crate) async fn drop_empty(client: &Client, schema: &str) -> Result<(), Error> {
    let now = client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", &[]).await?;
    let this_week = week(RunId::first_at(loom_store::UnixMillis(now.try_get(0)?)));
    let found = client
        .query(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)",
            &[&format!("{schema}.frame")],
        )
        .await?;
    let mut weeks: Vec<u64> = Vec::new();
    for row in &found {
        weeks.extend(
            row.try_get::<_, &str>(0)?.strip_prefix("frame_w").and_then(|week| week.parse::<u64>().ok()),
        );
    }
    weeks.sort_unstable();
    for week in weeks.into_iter().take_while(|week| week + EMPTY_KEPT < this_week) {
        let name = format!("{schema}.frame_w{week}");
        let rows = client.query_one(&format!("SELECT EXISTS (SELECT 1 FROM {name})"), &[]).await?;
        if rows.try_get(0)? {
            continue;
        }
        // Whether it is still empty is read once nobody can write to it.
        let dropped = client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL lock_timeout = '100ms'; SELECT pg_advisory_xact_lock({LOCK}, hashtext('{schema}'));
                 LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE;
                 DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM {name}) THEN DROP TABLE {name}; END IF; END $$; COMMIT"
            ))
            .await;
        if dropped.is_err() {
            client.batch_execute("ROLLBACK").await?;
        }
        return Ok(());
    }
    Ok(())
}
