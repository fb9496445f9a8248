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

mod content;
mod messages;

use std::borrow::Cow;

use loom_store::{Frame, RunId, Seq};
use tokio_postgres::types::ToSql;

use self::{
    content::{blobs, definitions, snapshots, timers, write_blobs},
    messages::{keys, posts, taken, write_keys, write_posts, write_taken},
};
use crate::{
    explain::contradicts_itself,
    group::{Group, Packed, Unit},
    rows, text,
};

pub(crate) use messages::first_with_key;

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

    /// One value of each item, as an array.
    fn column<I, T>(&mut self, items: &[I], cast: &str, value: impl Fn(&I) -> T) -> String
    where
        Vec<T>: ToSql + Sync + Send + 'a,
    {
        self.put(items.iter().map(value).collect::<Vec<T>>(), cast)
    }
}

/// The statement for a group.
pub(crate) fn build(group: &Group, turn: Turn) -> Statement<'_> {
    let mut parts = Parts::default();
    let units: Vec<(i32, &Unit)> = (1..).zip(&group.units).collect();
    let count = parts.put(units.len() as i32, "int4");
    let (writer, number) = (parts.put(turn.writer, "int8"), parts.put(turn.number, "int8"));

    // Units that cannot be accepted whatever is stored.
    let wrong =
        units.iter().filter(|(_, unit)| unit.commits().any(|packed| contradicts_itself(&packed.commit)));
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
        write_taken(&mut parts);
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

/// The row of the feed: what the group changed, and what its commits get back.
fn feed(
    parts: &mut Parts<'_>,
    units: &[(i32, &Unit)],
    [writer, number, count]: &[String; 3],
    (has_keys, has_posts): (bool, bool),
) -> String {
    let changed =
        |unit: &Unit| unit.commits().any(|packed| packed.commit.row.is_some() || !packed.frames.is_empty());
    let runs: Vec<(i32, i64)> = units
        .iter()
        .filter(|(_, unit)| changed(unit))
        .filter_map(|(u, unit)| Some((*u, rows::id(unit.run()?))))
        .collect();
    let changed_unit = parts.column(&runs, "int4[]", |(u, _)| *u);
    let changed_run = parts.column(&runs, "int8[]", |(_, run)| *run);
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
    let unit = parts.column(&owned, "int4[]", |(u, ..)| *u);
    let node = parts.column(&owned, "int8[]", |(_, node, _)| *node);
    let shard = parts.column(&owned, "int4[]", |(.., shard)| *shard);
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
    let unit = parts.column(&appends, "int4[]", |(u, ..)| *u);
    let run = parts.column(&appends, "int8[]", |(_, run, _)| rows::id(*run));
    let first = parts.column(&appends, "int8[]", |(.., first)| first.0.cast_signed());
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

/// A frame, and the unit that appends it.
struct Line<'a> {
    u: i32,
    run: RunId,
    seq: Seq,
    node: i64,
    codec: i16,
    frame: &'a Frame,
}

fn write_journals<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut lines = Vec::new();
    for (u, unit) in units {
        let node = unit.under().map_or(0, |under| under.node.0.cast_signed());
        for Packed { commit, frames, .. } in unit.commits() {
            let Some(journal) = &commit.journal else { continue };
            for (place, (codec, frame)) in frames.iter().enumerate() {
                let seq = journal.first.plus(place as u64);
                lines.push(Line { u: *u, run: journal.run, seq, node, codec: *codec, frame });
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    let unit = parts.column(&lines, "int4[]", |line| line.u);
    let run = parts.column(&lines, "int8[]", |line| rows::id(line.run));
    let seq = parts.column(&lines, "int8[]", |line| line.seq.0.cast_signed());
    let at = parts.column(&lines, "int8[]", |line| line.frame.at.0);
    let node = parts.column(&lines, "int8[]", |line| line.node);
    let codec = parts.column(&lines, "int2[]", |line| line.codec);
    let payload = parts.column(&lines, "bytea[]", |line| &line.frame.payload[..]);
    let crc = parts.column(&lines, "int8[]", |line| {
        rows::frame_checksum(line.run, line.seq, line.frame.at, line.codec, &line.frame.payload)
    });
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
            inputs.push(parts.column(&found, $cast, $value))
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
