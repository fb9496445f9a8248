//! The statement that writes a group: all checks and all writes, in one.
//!
//! It has a part for each kind of thing that the group writes; a kind that does not occur adds nothing. Its text depends only on
//! which kinds occur, so it is prepared once. The order of the parts:
//!
//! 1. Locks. The fences of the nodes in share mode, which a node that fences has to wait for; the rows of ended runs, values,
//!    messages and blobs that the group depends on. Rows are locked in the order of their keys, and PostgreSQL returns what they
//!    are once they are locked, not what they were when the statement began.
//! 2. `bad`: the units that contradict what is stored. If there are any, nothing is written, so that why they are refused can be read
//!    before the commits behind them take effect. `ok`: all units, or none.
//! 3. `fresh`: new runs. One whose idempotency key another node has used meanwhile is not inserted, and its unit is not `done`.
//! 4. Everything else, for the units that are `done`.
//! 5. Messages, whose ids come from a counter that stays locked until the commit: so ids are in the order of commits. It is locked
//!    after everything else, so that nobody waits for a lock while holding it.
//! 6. The row of the feed, whose key decides the fate of a statement whose answer is lost.

use std::borrow::Cow;

use loom_store::{BlobContent, Commit, KeyExpectation, RunId, Seq, Timer, TimerKey};
use tokio_postgres::types::ToSql;

use crate::{
    explain::contradicts_itself,
    group::{Group, Packed, Unit},
    pack::pack,
    queue::Entry,
    rows, text,
};

type Text<'a> = Option<Cow<'a, str>>;

/// A statement and its parameters.
pub(crate) struct Statement<'a> {
    pub(crate) sql: String,
    pub(crate) params: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
}

/// Which statement of which writer this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) writer: i64,
    pub(crate) number: i64,
}

#[derive(Default)]
struct Parts<'a> {
    params: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
    /// Inputs and locks.
    before: Vec<String>,
    /// Parts of `bad`.
    bad: Vec<String>,
    /// Expressions that lock, and have to be evaluated before anything is written.
    locks: Vec<&'static str>,
    /// Writes.
    after: Vec<String>,
    /// Writes that have to be finished before the counter is locked.
    writes: Vec<&'static str>,
}

impl<'a> Parts<'a> {
    fn put(&mut self, value: impl ToSql + Sync + Send + 'a, cast: &str) -> String {
        self.params.push(Box::new(value));
        format!("${}::{cast}", self.params.len())
    }
}

/// The statement for a group.
pub(crate) fn build(group: &Group, turn: Turn) -> Statement<'_> {
    let mut parts = Parts::default();
    let units: Vec<(i32, &Unit)> = (1..).zip(&group.units).collect();
    let count = parts.put(units.len() as i32, "int4");
    let (writer, number) = (parts.put(turn.writer, "int8"), parts.put(turn.number, "int8"));

    // Units that cannot be accepted whatever is stored.
    let wrong = units.iter().filter(|(_, unit)| unit.commits().any(|packed| contradicts_itself(&packed.commit)));
    let wrong = wrong.map(|(u, _)| *u).collect::<Vec<_>>();
    let wrong = parts.put(wrong, "int4[]");
    parts.bad.push(format!("SELECT u FROM unnest({wrong}) AS w(u)"));
    owners(&mut parts, &units);
    journals(&mut parts, &units);
    let has_rows = units.iter().any(|(_, unit)| unit.row().is_some());
    if has_rows {
        row_checks(&mut parts, &units);
    }
    blobs(&mut parts, &units);
    let has_taken = taken(&mut parts, &units);
    let in_order = group.in_order();
    let has_keys = keys(&mut parts, &in_order);
    let has_posts = posts(&mut parts, &in_order);

    let locks = parts.locks.iter().map(|lock| format!(" AND (SELECT count(*) FROM {lock}) >= 0"));
    let locks = locks.collect::<String>();
    let mut ctes = std::mem::take(&mut parts.before);
    ctes.push(format!("bad AS MATERIALIZED ({})", parts.bad.join(" UNION ALL ")));
    ctes.push(format!(
        "ok AS MATERIALIZED (SELECT g.u FROM generate_series(1, {count}) AS g(u) WHERE NOT EXISTS (SELECT 1 FROM bad){locks})"
    ));
    if has_rows {
        write_rows(&mut parts, &writer, &number);
    } else {
        parts.after.push("done AS MATERIALIZED (SELECT u FROM ok)".into());
    }
    write_journals(&mut parts, &units);
    write_blobs(&mut parts);
    definitions(&mut parts, &units);
    snapshots(&mut parts, &units);
    timers(&mut parts, &units);
    if has_taken {
        parts.after.push(
            "took AS (UPDATE inbox SET taken_by = t.taker FROM take t JOIN done USING (u) WHERE inbox.id = t.id RETURNING 1)".into(),
        );
        parts.writes.push("took");
    }
    if has_keys {
        write_keys(&mut parts);
    }
    if has_posts {
        write_posts(&mut parts);
    }
    ctes.append(&mut parts.after);
    ctes.push(feed(&mut parts, &units, &[writer, number, count], (has_keys, has_posts)));
    let sql = format!(
        "WITH {}
         SELECT true AS is_written, refused, posted, versions FROM logged UNION ALL
         SELECT false, ARRAY(SELECT DISTINCT u FROM bad), '{{}}', '{{}}' WHERE NOT EXISTS (SELECT 1 FROM done)",
        ctes.join(",\n")
    );
    Statement { sql, params: parts.params }
}

/// The row of the feed: what the group changed, and what its commits are told.
fn feed(
    parts: &mut Parts<'_>,
    units: &[(i32, &Unit)],
    [writer, number, count]: &[String; 3],
    (has_keys, has_posts): (bool, bool),
) -> String {
    let changed = |unit: &Unit| {
        unit.commits().any(|packed| packed.commit.row.is_some() || !packed.frames.is_empty())
    };
    let runs: Vec<(i32, i64)> = units
        .iter()
        .filter(|(_, unit)| changed(unit))
        .filter_map(|(u, unit)| Some((*u, rows::id(unit.run()?))))
        .collect();
    let changed_unit = parts.put(runs.iter().map(|(u, _)| *u).collect::<Vec<_>>(), "int4[]");
    let changed_run = parts.put(runs.iter().map(|(_, run)| *run).collect::<Vec<_>>(), "int8[]");
    let (messages, recipients, posted) = if has_posts {
        (
            "ARRAY(SELECT id FROM posted ORDER BY id)",
            "ARRAY(SELECT coalesce(run, -1) FROM posted ORDER BY id)",
            "ARRAY(SELECT coalesce(s.id, x.id) FROM post p LEFT JOIN seats s USING (ord) LEFT JOIN same x USING (ord) ORDER BY p.ord)",
        )
    } else {
        ("'{}'::int8[]", "'{}'::int8[]", "'{}'::int8[]")
    };
    let (namespaces, keys, versions) = if has_keys {
        (
            "ARRAY(SELECT namespace FROM altered ORDER BY namespace, key)",
            "ARRAY(SELECT key FROM altered ORDER BY namespace, key)",
            "ARRAY(SELECT d.version FROM name k LEFT JOIN drawn d USING (ord) ORDER BY k.ord)",
        )
    } else {
        ("'{}'::text[]", "'{}'::text[]", "'{}'::int8[]")
    };
    format!(
        "logged AS (INSERT INTO change (writer, number, refused, runs, messages, recipients, posted, namespaces, keys, versions)
         SELECT {writer}, {number},
                ARRAY(SELECT g.u FROM generate_series(1, {count}) AS g(u) WHERE g.u NOT IN (SELECT u FROM done)),
                ARRAY(SELECT c.run FROM unnest({changed_unit}, {changed_run}) AS c(u, run) JOIN done USING (u)),
                {messages}, {recipients}, {posted}, {namespaces}, {keys}, {versions}
         WHERE EXISTS (SELECT 1 FROM done) RETURNING refused, posted, versions)"
    )
}

/// Only the owner of a shard may write for it.
fn owners(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) {
    let mut owned = Vec::new();
    for (u, unit) in units {
        let Some(under) = unit.under() else { continue };
        let node = under.node.0.cast_signed();
        owned.push((*u, node, i32::from(under.shard.number())));
        if let Some(shard) = unit.run().map(RunId::shard).filter(|shard| *shard != under.shard) {
            owned.push((*u, node, i32::from(shard.number())));
        }
    }
    if owned.is_empty() {
        return;
    }
    let mut nodes: Vec<i64> = owned.iter().map(|(_, node, _)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let nodes = parts.put(nodes, "int8[]");
    let unit = parts.put(owned.iter().map(|(u, ..)| *u).collect::<Vec<_>>(), "int4[]");
    let node = parts.put(owned.iter().map(|(_, node, _)| *node).collect::<Vec<_>>(), "int8[]");
    let shard = parts.put(owned.iter().map(|(.., shard)| *shard).collect::<Vec<_>>(), "int4[]");
    parts.before.push(format!(
        "alive AS MATERIALIZED (SELECT node FROM fence WHERE node = ANY({nodes}) AND lane = 0 AND NOT fenced ORDER BY node FOR SHARE)"
    ));
    parts.bad.push(format!(
        "SELECT o.u FROM unnest({unit}, {node}, {shard}) AS o(u, node, shard)
         WHERE NOT EXISTS (SELECT 1 FROM alive a JOIN shard s ON s.owner = a.node WHERE a.node = o.node AND s.id = o.shard)"
    ));
    parts.locks.push("alive");
}

/// Frames continue where the journal ends. A run that has ended is locked, because retention may be removing it.
fn journals(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) {
    let appends: Vec<(i32, RunId, Seq)> =
        units.iter().filter_map(|(u, unit)| unit.first().map(|(run, first)| (*u, run, first))).collect();
    if appends.is_empty() {
        return;
    }
    let unit = parts.put(appends.iter().map(|(u, ..)| *u).collect::<Vec<_>>(), "int4[]");
    let run = parts.put(appends.iter().map(|(_, run, _)| rows::id(*run)).collect::<Vec<_>>(), "int8[]");
    let first = parts.put(appends.iter().map(|(.., first)| first.0.cast_signed()).collect::<Vec<_>>(), "int8[]");
    parts.before.push(format!(
        "append AS MATERIALIZED (SELECT * FROM unnest({unit}, {run}, {first}) AS t(u, run, first_seq)),
         closing AS MATERIALIZED (SELECT id, purged FROM run WHERE id = ANY({run}) AND ended IS NOT NULL ORDER BY id FOR NO KEY UPDATE)"
    ));
    parts.locks.push("closing");
    parts.bad.push(
        "SELECT a.u FROM append a
         WHERE a.first_seq <> 1 + coalesce((SELECT f.seq FROM frame f WHERE f.run = a.run ORDER BY f.seq DESC LIMIT 1), 0)
         UNION ALL SELECT a.u FROM append a JOIN closing c ON c.id = a.run WHERE c.purged > 0"
            .into(),
    );
}

fn write_journals<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut columns: (Vec<i32>, Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>) = Default::default();
    let mut stored: (Vec<i16>, Vec<&'a [u8]>, Vec<i64>) = Default::default();
    for (u, unit) in units {
        let node = unit.under().map_or(0, |under| under.node.0.cast_signed());
        for Packed { commit, frames, .. } in unit.commits() {
            let Some(journal) = &commit.journal else { continue };
            for (place, (codec, frame)) in frames.iter().enumerate() {
                let seq = journal.first.plus(place as u64);
                columns.0.push(*u);
                columns.1.push(rows::id(journal.run));
                columns.2.push(seq.0.cast_signed());
                columns.3.push(frame.at.0);
                columns.4.push(node);
                stored.0.push(*codec);
                stored.1.push(&frame.payload);
                stored.2.push(rows::frame_checksum(journal.run, seq, frame.at, *codec, &frame.payload));
            }
        }
    }
    if columns.0.is_empty() {
        return;
    }
    let unit = parts.put(columns.0, "int4[]");
    let run = parts.put(columns.1, "int8[]");
    let seq = parts.put(columns.2, "int8[]");
    let at = parts.put(columns.3, "int8[]");
    let node = parts.put(columns.4, "int8[]");
    let codec = parts.put(stored.0, "int2[]");
    let payload = parts.put(stored.1, "bytea[]");
    let crc = parts.put(stored.2, "int8[]");
    parts.after.push(format!(
        "wrote AS (INSERT INTO frame (run, seq, at, node, codec, payload, crc)
         SELECT f.run, f.seq, f.at, f.node, f.codec, f.payload, f.crc
         FROM unnest({unit}, {run}, {seq}, {at}, {node}, {codec}, {payload}, {crc}) AS f(u, run, seq, at, node, codec, payload, crc)
         JOIN done USING (u) RETURNING 1)"
    ));
    parts.writes.push("wrote");
}

/// The columns of the rows of a group, as the input of the statement.
fn row_checks<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let found: Vec<_> = units.iter().filter_map(|(u, unit)| unit.row().map(|row| (*u, *unit, row))).collect();
    let some_text = |text: Option<&'a str>| text.map(text::stored);
    let mut inputs = Vec::new();
    macro_rules! column {
        ($cast:literal, $value:expr) => {
            inputs.push(parts.put(found.iter().map($value).collect::<Vec<_>>(), $cast))
        };
    }
    column!("int4[]", |(u, ..)| *u);
    column!("int8[]", |(.., row)| rows::id(row.id));
    column!("int4[]", |(.., row)| i32::from(row.id.shard().number()));
    column!("text[]", |(.., row)| text::stored(&row.workflow));
    column!("bytea[]", |(.., row)| &row.definition.as_bytes()[..]);
    column!("int4[]", |(.., row)| i32::from(row.status));
    column!("int8[]", |(.., row)| row.started.map(|at| at.0));
    column!("int8[]", |(.., row)| row.ended.map(|at| at.0));
    column!("int8[]", |(.., row)| row.origin.map(rows::id));
    column!("int8[]", |(.., row)| i64::from(row.attempt));
    column!("int8[]", |(.., row)| row.parent.map(rows::id));
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.parent_path.as_deref()) });
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.idempotency_key.as_deref()) });
    column!("int8[]", |(.., row)| row.wake_at.map(|at| at.0));
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.error.as_deref()) });
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.error_text.as_deref()) });
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.trigger.as_deref()) });
    column!("text[]", |(.., row)| -> Text<'a> { some_text(row.tracking_id.as_deref()) });
    column!("int4[]", |(.., row)| i32::from(row.flags.0));
    column!("bytea[]", |(.., row)| &row.details[..]);
    column!("int8[]", |(.., row)| rows::run_checksum(row));
    column!("int8[]", |(_, unit, _)| unit.commits().map(Packed::stored_bytes).sum::<i64>());
    parts.before.push(format!(
        "line AS MATERIALIZED (SELECT * FROM unnest({}) AS t(u, id, shard, workflow, definition, status, started, ended, origin,
            attempt, parent, parent_path, idempotency_key, wake_at, error, error_text, trigger_name, tracking_id, flags, details, crc, bytes)),
         known AS MATERIALIZED (SELECT l.u, l.id, run.workflow = l.workflow AND run.idempotency_key IS NOT DISTINCT FROM l.idempotency_key
                AND run.parent IS NOT DISTINCT FROM l.parent AS is_same FROM line l JOIN run ON run.id = l.id)",
        inputs.join(", ")
    ));
    parts.bad.push(
        "SELECT u FROM known WHERE NOT is_same
         UNION ALL SELECT l.u FROM line l JOIN run o ON o.workflow = l.workflow AND o.idempotency_key = l.idempotency_key
         WHERE NOT EXISTS (SELECT 1 FROM known k WHERE k.id = l.id)"
            .into(),
    );
}

fn write_rows(parts: &mut Parts<'_>, writer: &str, number: &str) {
    parts.after.push(format!(
        "fresh AS (INSERT INTO run (id, shard, workflow, definition, status, started, ended, origin, attempt, parent, parent_path,
                idempotency_key, wake_at, error, error_text, trigger_name, tracking_id, flags, details, crc, bytes, writer, change)
            SELECT l.id, l.shard, l.workflow, l.definition, l.status, l.started, l.ended, l.origin, l.attempt, l.parent, l.parent_path,
                l.idempotency_key, l.wake_at, l.error, l.error_text, l.trigger_name, l.tracking_id, l.flags, l.details, l.crc, l.bytes,
                {writer}, {number}
            FROM line l JOIN ok USING (u) WHERE NOT EXISTS (SELECT 1 FROM known k WHERE k.id = l.id)
            ORDER BY l.workflow, l.idempotency_key, l.id
            ON CONFLICT (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id),
         done AS MATERIALIZED (SELECT u FROM ok WHERE u NOT IN (SELECT l.u FROM line l
            WHERE NOT EXISTS (SELECT 1 FROM known k WHERE k.id = l.id) AND l.id NOT IN (SELECT id FROM fresh))),
         moved AS (UPDATE run SET definition = l.definition, status = l.status, started = l.started, ended = l.ended, origin = l.origin,
                attempt = l.attempt, parent_path = l.parent_path, wake_at = l.wake_at, error = l.error, error_text = l.error_text,
                trigger_name = l.trigger_name, tracking_id = l.tracking_id, flags = l.flags, details = l.details, crc = l.crc,
                bytes = run.bytes + l.bytes, writer = {writer}, change = {number}
            FROM line l JOIN done USING (u) WHERE run.id = l.id RETURNING 1)"
    ));
    parts.writes.extend(["fresh", "moved"]);
}

/// Blobs that the group depends on are locked, so that retention does not remove them meanwhile.
fn blobs<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut columns: (Vec<i32>, Vec<i64>, Vec<Vec<u8>>, Vec<i64>) = Default::default();
    let mut bodies: (Vec<i16>, Vec<Option<&'a [u8]>>, Vec<bool>) = Default::default();
    for (u, unit) in units {
        let Some(run) = unit.run() else { continue };
        for blob in unit.commits().flat_map(|packed| &packed.commit.blobs) {
            columns.0.push(*u);
            columns.1.push(rows::id(run));
            columns.2.push(blob.hash().as_bytes().to_vec());
            columns.3.push(blob.size().cast_signed());
            let (codec, body) = match blob.content() {
                BlobContent::Carried { codec, bytes } => (i16::from(codec), Some(&bytes[..])),
                BlobContent::Known | BlobContent::Written => (0, None),
            };
            bodies.0.push(codec);
            bodies.1.push(body);
            bodies.2.push(body.is_some());
        }
    }
    if columns.0.is_empty() {
        return;
    }
    let unit = parts.put(columns.0, "int4[]");
    let run = parts.put(columns.1, "int8[]");
    let hash = parts.put(columns.2, "bytea[]");
    let size = parts.put(columns.3, "int8[]");
    let codec = parts.put(bodies.0, "int2[]");
    let body = parts.put(bodies.1, "bytea[]");
    let carried = parts.put(bodies.2, "bool[]");
    parts.before.push(format!(
        "content AS MATERIALIZED (SELECT * FROM unnest({unit}, {run}, {hash}, {size}, {codec}, {body}, {carried})
            AS t(u, run, hash, size, codec, body, is_carried)),
         kept AS MATERIALIZED (SELECT hash FROM blob WHERE hash = ANY({hash}) AND codec <> 3 ORDER BY hash FOR KEY SHARE)"
    ));
    parts.locks.push("kept");
    parts.bad.push(
        "SELECT c.u FROM content c WHERE NOT c.is_carried AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.hash = c.hash)".into(),
    );
}

fn write_blobs(parts: &mut Parts<'_>) {
    if !parts.locks.contains(&"kept") {
        return;
    }
    parts.after.push(
        "stored AS (INSERT INTO blob (hash, size, codec, body)
            SELECT DISTINCT ON (c.hash) c.hash, c.size, c.codec, c.body FROM content c JOIN done USING (u)
            WHERE c.is_carried AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.hash = c.hash) ORDER BY c.hash
            ON CONFLICT (hash) DO UPDATE SET size = excluded.size RETURNING 1),
         referred AS (INSERT INTO blob_ref (run, hash) SELECT DISTINCT c.run, c.hash FROM content c JOIN done USING (u)
            ORDER BY c.run, c.hash ON CONFLICT DO NOTHING RETURNING 1)"
            .into(),
    );
    parts.writes.extend(["stored", "referred"]);
}

fn definitions(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) {
    let mut columns: (Vec<i32>, Vec<Vec<u8>>, Vec<i16>, Vec<Vec<u8>>) = Default::default();
    for (u, unit) in units {
        for definition in unit.commits().flat_map(|packed| &packed.commit.definitions) {
            let (codec, body) = pack(definition.body());
            columns.0.push(*u);
            columns.1.push(definition.hash().as_bytes().to_vec());
            columns.2.push(codec);
            columns.3.push(body.to_vec());
        }
    }
    if columns.0.is_empty() {
        return;
    }
    let unit = parts.put(columns.0, "int4[]");
    let hash = parts.put(columns.1, "bytea[]");
    let codec = parts.put(columns.2, "int2[]");
    let body = parts.put(columns.3, "bytea[]");
    parts.after.push(format!(
        "defined AS (INSERT INTO definition (hash, codec, body)
            SELECT DISTINCT ON (d.hash) d.hash, d.codec, d.body FROM unnest({unit}, {hash}, {codec}, {body}) AS d(u, hash, codec, body)
            JOIN done USING (u) ORDER BY d.hash ON CONFLICT DO NOTHING RETURNING 1)"
    ));
    parts.writes.push("defined");
}

fn snapshots<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut columns: (Vec<i32>, Vec<i64>, Vec<i64>, Vec<i16>, Vec<&'a [u8]>, Vec<i64>) = Default::default();
    for (u, unit) in units {
        let last = unit.commits().filter_map(|packed| packed.commit.snapshot.as_ref().zip(packed.snapshot.as_ref())).last();
        let Some((snapshot, (codec, state))) = last else { continue };
        columns.0.push(*u);
        columns.1.push(rows::id(snapshot.run));
        columns.2.push(snapshot.upto.0.cast_signed());
        columns.3.push(*codec);
        columns.4.push(state);
        columns.5.push(rows::snapshot_checksum(snapshot.run, snapshot.upto, *codec, state));
    }
    if columns.0.is_empty() {
        return;
    }
    let unit = parts.put(columns.0, "int4[]");
    let run = parts.put(columns.1, "int8[]");
    let upto = parts.put(columns.2, "int8[]");
    let codec = parts.put(columns.3, "int2[]");
    let state = parts.put(columns.4, "bytea[]");
    let crc = parts.put(columns.5, "int8[]");
    parts.after.push(format!(
        "kept_state AS (INSERT INTO snapshot (run, upto, codec, state, crc) SELECT s.run, s.upto, s.codec, s.state, s.crc
            FROM unnest({unit}, {run}, {upto}, {codec}, {state}, {crc}) AS s(u, run, upto, codec, state, crc) JOIN done USING (u) ORDER BY s.run
            ON CONFLICT (run) DO UPDATE SET upto = excluded.upto, codec = excluded.codec, state = excluded.state, crc = excluded.crc RETURNING 1)"
    ));
    parts.writes.push("kept_state");
}

/// What becomes of each timer of a unit: one statement cannot clear and set it.
fn timers(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) {
    let mut last: Vec<(i32, TimerKey, Option<Timer>)> = Vec::new();
    for (u, unit) in units {
        let mut of_unit: Vec<(TimerKey, Option<Timer>)> = Vec::new();
        for Commit { timers_set, timers_cleared, .. } in unit.commits().map(|packed| &packed.commit) {
            of_unit.extend(timers_cleared.iter().map(|timer| (*timer, None)));
            of_unit.extend(timers_set.iter().map(|timer| (timer.key, Some(*timer))));
        }
        // A stable sort keeps the order of the changes of one timer; the last of them decides.
        of_unit.sort_by_key(|(timer, _)| *timer);
        for (timer, becomes) in of_unit {
            if last.last().is_some_and(|(by, key, _)| by == u && *key == timer) {
                last.pop();
            }
            last.push((*u, timer, becomes));
        }
    }
    let cleared: Vec<_> = last.iter().filter(|(.., becomes)| becomes.is_none()).collect();
    if !cleared.is_empty() {
        let unit = parts.put(cleared.iter().map(|(u, ..)| *u).collect::<Vec<_>>(), "int4[]");
        let run = parts.put(cleared.iter().map(|(_, key, _)| rows::id(key.run)).collect::<Vec<_>>(), "int8[]");
        let number = parts.put(cleared.iter().map(|(_, key, _)| key.number.cast_signed()).collect::<Vec<_>>(), "int8[]");
        parts.after.push(format!(
            "cleared AS (DELETE FROM timer USING unnest({unit}, {run}, {number}) AS c(u, run, number) JOIN done USING (u)
                WHERE timer.run = c.run AND timer.number = c.number RETURNING 1)"
        ));
        parts.writes.push("cleared");
    }
    let set: Vec<(i32, Timer)> = last.iter().filter_map(|(u, _, becomes)| becomes.map(|timer| (*u, timer))).collect();
    if set.is_empty() {
        return;
    }
    let unit = parts.put(set.iter().map(|(u, _)| *u).collect::<Vec<_>>(), "int4[]");
    let run = parts.put(set.iter().map(|(_, timer)| rows::id(timer.key.run)).collect::<Vec<_>>(), "int8[]");
    let number = parts.put(set.iter().map(|(_, timer)| timer.key.number.cast_signed()).collect::<Vec<_>>(), "int8[]");
    let shard = parts.put(set.iter().map(|(_, timer)| i32::from(timer.key.run.shard().number())).collect::<Vec<_>>(), "int4[]");
    let due = parts.put(set.iter().map(|(_, timer)| timer.due.0).collect::<Vec<_>>(), "int8[]");
    let kind = parts.put(set.iter().map(|(_, timer)| i32::from(timer.kind)).collect::<Vec<_>>(), "int4[]");
    parts.after.push(format!(
        "armed AS (INSERT INTO timer (run, number, shard, due, kind) SELECT t.run, t.number, t.shard, t.due, t.kind
            FROM unnest({unit}, {run}, {number}, {shard}, {due}, {kind}) AS t(u, run, number, shard, due, kind) JOIN done USING (u)
            ORDER BY t.run, t.number ON CONFLICT (run, number) DO UPDATE SET due = excluded.due, kind = excluded.kind RETURNING 1)"
    ));
    parts.writes.push("armed");
}

/// Messages that are consumed are locked while they are pending.
fn taken(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) -> bool {
    let mut columns: (Vec<i32>, Vec<i64>, Vec<i64>) = Default::default();
    for (u, unit) in units {
        let taker = unit.run().map_or(-1, rows::id);
        for message in unit.commits().flat_map(|packed| &packed.commit.inbox_consumed) {
            columns.0.push(*u);
            columns.1.push(message.0.cast_signed());
            columns.2.push(taker);
        }
    }
    if columns.0.is_empty() {
        return false;
    }
    let unit = parts.put(columns.0, "int4[]");
    let message = parts.put(columns.1, "int8[]");
    let taker = parts.put(columns.2, "int8[]");
    parts.before.push(format!(
        "take AS MATERIALIZED (SELECT * FROM unnest({unit}, {message}, {taker}) AS t(u, id, taker)),
         pending AS MATERIALIZED (SELECT id FROM inbox WHERE id = ANY({message}) AND taken_by IS NULL ORDER BY id FOR UPDATE)"
    ));
    parts.locks.push("pending");
    parts.bad.push("SELECT t.u FROM take t WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.id = t.id)".into());
    true
}

/// Values that are written are locked, and the conditions hold for what they are then. Where a commit writes a value more than once,
/// the condition of the first write is checked here; those of the others were checked before.
fn keys<'a>(parts: &mut Parts<'a>, entries: &[(i32, &'a Entry)]) -> bool {
    let mut found = Vec::new();
    for (u, entry) in entries {
        let writes = &entry.packed.commit.keys;
        for (place, write) in writes.iter().enumerate() {
            let same = |other: &loom_store::KeyWrite| other.namespace == write.namespace && other.key == write.key;
            let is_first = !writes[..place].iter().any(same);
            let is_last = !writes[place + 1..].iter().any(same);
            found.push((*u, write, is_first, is_last));
        }
    }
    if found.is_empty() {
        return false;
    }
    let ord = parts.put((0..found.len() as i32).collect::<Vec<_>>(), "int4[]");
    let mut inputs = vec![ord];
    macro_rules! column {
        ($cast:literal, $value:expr) => {
            inputs.push(parts.put(found.iter().map($value).collect::<Vec<_>>(), $cast))
        };
    }
    column!("int4[]", |(u, ..)| *u);
    column!("text[]", |(_, write, ..)| text::stored(&write.namespace));
    column!("text[]", |(_, write, ..)| text::stored(&write.key));
    column!("int2[]", |(_, write, ..)| match write.expect {
        KeyExpectation::Any => 0_i16,
        KeyExpectation::Absent => 1,
        KeyExpectation::Version(_) => 2,
    });
    column!("int8[]", |(_, write, ..)| match write.expect {
        KeyExpectation::Version(version) => version.cast_signed(),
        KeyExpectation::Any | KeyExpectation::Absent => 0,
    });
    column!("bytea[]", |(_, write, ..)| -> Option<&'a [u8]> { write.value.as_deref() });
    column!("int8[]", |(_, write, ..)| write.expires.map(|at| at.0));
    column!("int8[]", |(_, write, ..)| write.run.map(rows::id));
    column!("int8[]", |(_, write, ..)| rows::key_checksum(
        &write.namespace,
        &write.key,
        write.value.as_deref().unwrap_or_default(),
        (write.expires, write.run)
    ));
    column!("bool[]", |(.., is_first, _)| *is_first);
    column!("bool[]", |(.., is_last)| *is_last);
    parts.before.push(format!(
        "name AS MATERIALIZED (SELECT * FROM unnest({}) AS t(ord, u, namespace, key, expect, version, value, expires, run, crc, is_first, is_last)),
         held AS MATERIALIZED (SELECT n.namespace, n.key, n.version FROM named n
            WHERE (n.namespace, n.key) IN (SELECT k.namespace, k.key FROM name k) ORDER BY n.namespace, n.key FOR UPDATE OF n)",
        inputs.join(", ")
    ));
    parts.locks.push("held");
    parts.bad.push(
        "SELECT k.u FROM name k LEFT JOIN held h ON h.namespace = k.namespace AND h.key = k.key
         WHERE k.is_first AND (k.expect = 1 AND h.version IS NOT NULL OR k.expect = 2 AND h.version IS DISTINCT FROM k.version)"
            .into(),
    );
    true
}

/// Versions are drawn once the values are locked, so that those of one value increase. A value that another node has inserted
/// meanwhile violates the key, and the statement is repeated.
fn write_keys(parts: &mut Parts<'_>) {
    parts.after.push(
        "drawn AS MATERIALIZED (SELECT s.ord, nextval('named_version') AS version
            FROM (SELECT k.ord FROM name k JOIN done USING (u) WHERE k.value IS NOT NULL ORDER BY k.ord) AS s),
         replaced AS (UPDATE named n SET version = d.version, value = k.value, expires = k.expires, run = k.run, crc = k.crc
            FROM name k JOIN drawn d USING (ord) WHERE k.is_last AND n.namespace = k.namespace AND n.key = k.key RETURNING n.namespace, n.key),
         added AS (INSERT INTO named (namespace, key, version, value, expires, run, crc)
            SELECT k.namespace, k.key, d.version, k.value, k.expires, k.run, k.crc FROM name k JOIN drawn d USING (ord)
            WHERE k.is_last AND NOT EXISTS (SELECT 1 FROM held h WHERE h.namespace = k.namespace AND h.key = k.key)
            ORDER BY k.namespace COLLATE \"C\", k.key COLLATE \"C\" RETURNING namespace, key),
         removed AS (DELETE FROM named n USING name k JOIN done USING (u)
            WHERE k.is_last AND k.value IS NULL AND n.namespace = k.namespace AND n.key = k.key RETURNING n.namespace, n.key),
         altered AS MATERIALIZED (SELECT * FROM replaced UNION ALL SELECT * FROM added UNION ALL SELECT * FROM removed)"
            .into(),
    );
    parts.writes.push("altered");
}

fn posts<'a>(parts: &mut Parts<'a>, entries: &[(i32, &'a Entry)]) -> bool {
    let posts = |(u, entry): &(i32, &'a Entry)| {
        let u = *u;
        distinct_posts(&entry.packed.commit).map(move |post| (u, post))
    };
    let found: Vec<(i32, &loom_store::Post)> = entries.iter().flat_map(posts).collect();
    if found.is_empty() {
        return false;
    }
    let ord = parts.put((0..found.len() as i32).collect::<Vec<_>>(), "int4[]");
    let mut inputs = vec![ord];
    macro_rules! column {
        ($cast:literal, $value:expr) => {
            inputs.push(parts.put(found.iter().map($value).collect::<Vec<_>>(), $cast))
        };
    }
    column!("int4[]", |(u, _)| *u);
    column!("int4[]", |(_, post)| i32::from(post.shard().number()));
    column!("int8[]", |(_, post)| post.run.map(rows::id));
    column!("int4[]", |(_, post)| i32::from(post.kind));
    column!("int8[]", |(_, post)| post.at.0);
    column!("text[]", |(_, post)| -> Text<'a> { post.idempotency_key.as_deref().map(text::stored) });
    column!("bytea[]", |(_, post)| &post.payload[..]);
    column!("int8[]", |(_, post)| rows::inbox_checksum(post));
    parts.before.push(format!(
        "post AS MATERIALIZED (SELECT * FROM unnest({}) AS t(ord, u, shard, run, kind, at, idempotency_key, payload, crc)),
         same AS MATERIALIZED (SELECT p.ord, i.id FROM post p JOIN inbox i
            ON coalesce(i.run, -1) = coalesce(p.run, -1) AND i.idempotency_key = p.idempotency_key)",
        inputs.join(", ")
    ));
    true
}

fn write_posts(parts: &mut Parts<'_>) {
    let finished = parts.writes.iter().map(|write| format!(" AND (SELECT count(*) FROM {write}) >= 0"));
    let finished = finished.collect::<String>();
    parts.after.push(format!(
        "new_post AS MATERIALIZED (SELECT p.* FROM post p JOIN done USING (u) WHERE p.ord NOT IN (SELECT ord FROM same)),
         seat AS (UPDATE counter SET number = number + (SELECT count(*) FROM new_post)
            WHERE name = 'inbox' AND (SELECT count(*) FROM new_post) > 0{finished} RETURNING number),
         seats AS MATERIALIZED (SELECT p.ord, s.number + 1 - row_number() OVER (ORDER BY p.ord DESC) AS id FROM new_post p, seat s),
         posted AS (INSERT INTO inbox (id, shard, run, kind, at, idempotency_key, payload, crc)
            SELECT s.id, p.shard, p.run, p.kind, p.at, p.idempotency_key, p.payload, p.crc FROM new_post p JOIN seats s USING (ord)
            RETURNING id, run)"
    ));
}

/// The messages of a commit, without those whose key an earlier one of the same commit has.
pub(crate) fn distinct_posts(commit: &Commit) -> impl Iterator<Item = &loom_store::Post> + Clone {
    let posts = &commit.inbox_posted;
    posts.iter().enumerate().filter(|(place, _)| first_with_key(commit, *place) == *place).map(|(_, post)| post)
}

/// The place of the first message of the commit with the key of the one at `place`.
pub(crate) fn first_with_key(commit: &Commit, place: usize) -> usize {
    let post = &commit.inbox_posted[place];
    let same = |other: &loom_store::Post| {
        other.run == post.run && other.idempotency_key.is_some() && other.idempotency_key == post.idempotency_key
    };
    commit.inbox_posted[..place].iter().position(same).unwrap_or(place)
}
