//! The parts of the statement for content, snapshots and timers.

use loom_store::{Blob, BlobContent, Commit, Definition, RunId, Snapshot, Timer, TimerKey};

use super::Parts;
use crate::{group::Unit, pack::pack, rows};

/// What a commit stores of a blob: its codec and its content, if it carries it.
fn body(blob: &Blob) -> (i16, Option<&[u8]>) {
    match blob.content() {
        BlobContent::Carried { codec, bytes } => (i16::from(codec), Some(&bytes[..])),
        BlobContent::Known | BlobContent::Written => (0, None),
    }
}

/// Blobs that the group depends on are locked, so that retention does not remove them meanwhile.
pub(super) fn blobs<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut found: Vec<(i32, RunId, &'a Blob)> = Vec::new();
    for (u, unit) in units {
        let Some(run) = unit.run() else { continue };
        found.extend(unit.commits().flat_map(|packed| &packed.commit.blobs).map(|blob| (*u, run, blob)));
    }
    if found.is_empty() {
        return;
    }
    let unit = parts.column(&found, "int4[]", |(u, ..)| *u);
    let run = parts.column(&found, "int8[]", |(_, run, _)| rows::id(*run));
    let hash = parts.column(&found, "bytea[]", |(.., blob)| blob.hash().as_bytes().to_vec());
    let size = parts.column(&found, "int8[]", |(.., blob)| blob.size().cast_signed());
    let codec = parts.column(&found, "int2[]", |(.., blob)| body(blob).0);
    let stored = parts.column(&found, "bytea[]", |(.., blob)| -> Option<&'a [u8]> { body(blob).1 });
    let carried = parts.column(&found, "bool[]", |(.., blob)| body(blob).1.is_some());
    parts.before.push(format!(
        "content AS MATERIALIZED (SELECT * FROM unnest({unit}, {run}, {hash}, {size}, {codec}, {stored}, {carried})
            AS t(u, run, hash, size, codec, body, is_carried)),
         kept AS MATERIALIZED (SELECT hash FROM blob WHERE hash = ANY({hash}) AND codec <> 3 ORDER BY hash FOR KEY SHARE)"
    ));
    parts.locks.push("kept");
    parts.bad.push(
        "SELECT c.u FROM content c WHERE NOT c.is_carried AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.hash = c.hash)".into(),
    );
}

pub(super) fn write_blobs(parts: &mut Parts<'_>) {
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

pub(super) fn definitions<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut found: Vec<(i32, &'a Definition, i16, Vec<u8>)> = Vec::new();
    for (u, unit) in units {
        for definition in unit.commits().flat_map(|packed| &packed.commit.definitions) {
            let (codec, body) = pack(definition.body());
            found.push((*u, definition, codec, body.to_vec()));
        }
    }
    if found.is_empty() {
        return;
    }
    let unit = parts.column(&found, "int4[]", |(u, ..)| *u);
    let hash = parts.column(&found, "bytea[]", |(_, definition, ..)| definition.hash().as_bytes().to_vec());
    let codec = parts.column(&found, "int2[]", |(_, _, codec, _)| *codec);
    let body = parts.column(&found, "bytea[]", |(.., body)| body.clone());
    parts.after.push(format!(
        "defined AS (INSERT INTO definition (hash, codec, body)
            SELECT DISTINCT ON (d.hash) d.hash, d.codec, d.body FROM unnest({unit}, {hash}, {codec}, {body}) AS d(u, hash, codec, body)
            JOIN done USING (u) ORDER BY d.hash ON CONFLICT DO NOTHING RETURNING 1)"
    ));
    parts.writes.push("defined");
}

pub(super) fn snapshots<'a>(parts: &mut Parts<'a>, units: &[(i32, &'a Unit)]) {
    let mut found: Vec<(i32, &'a Snapshot, i16, &'a [u8])> = Vec::new();
    for (u, unit) in units {
        let snapshots =
            unit.commits().filter_map(|packed| packed.commit.snapshot.as_ref().zip(packed.snapshot.as_ref()));
        found.extend(snapshots.last().map(|(snapshot, (codec, state))| (*u, snapshot, *codec, &state[..])));
    }
    if found.is_empty() {
        return;
    }
    let unit = parts.column(&found, "int4[]", |(u, ..)| *u);
    let run = parts.column(&found, "int8[]", |(_, snapshot, ..)| rows::id(snapshot.run));
    let upto = parts.column(&found, "int8[]", |(_, snapshot, ..)| snapshot.upto.0.cast_signed());
    let codec = parts.column(&found, "int2[]", |(_, _, codec, _)| *codec);
    let state = parts.column(&found, "bytea[]", |(.., state)| *state);
    let crc = parts.column(&found, "int8[]", |(_, snapshot, codec, state)| {
        rows::snapshot_checksum(snapshot.run, snapshot.upto, *codec, state)
    });
    parts.after.push(format!(
        "kept_state AS (INSERT INTO snapshot (run, upto, codec, state, crc) SELECT s.run, s.upto, s.codec, s.state, s.crc
            FROM unnest({unit}, {run}, {upto}, {codec}, {state}, {crc}) AS s(u, run, upto, codec, state, crc) JOIN done USING (u) ORDER BY s.run
            ON CONFLICT (run) DO UPDATE SET upto = excluded.upto, codec = excluded.codec, state = excluded.state, crc = excluded.crc RETURNING 1)"
    ));
    parts.writes.push("kept_state");
}

/// What becomes of each timer of a unit: one statement cannot clear and set it.
pub(super) fn timers(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) {
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
        let unit = parts.column(&cleared, "int4[]", |(u, ..)| *u);
        let run = parts.column(&cleared, "int8[]", |(_, key, _)| rows::id(key.run));
        let number = parts.column(&cleared, "int8[]", |(_, key, _)| key.number.cast_signed());
        parts.after.push(format!(
            "cleared AS (DELETE FROM timer USING unnest({unit}, {run}, {number}) AS c(u, run, number) JOIN done USING (u)
                WHERE timer.run = c.run AND timer.number = c.number RETURNING 1)"
        ));
        parts.writes.push("cleared");
    }
    let set: Vec<(i32, Timer)> =
        last.iter().filter_map(|(u, _, becomes)| becomes.map(|timer| (*u, timer))).collect();
    if set.is_empty() {
        return;
    }
    let unit = parts.column(&set, "int4[]", |(u, _)| *u);
    let run = parts.column(&set, "int8[]", |(_, timer)| rows::id(timer.key.run));
    let number = parts.column(&set, "int8[]", |(_, timer)| timer.key.number.cast_signed());
    let shard = parts.column(&set, "int4[]", |(_, timer)| i32::from(timer.key.run.shard().number()));
    let due = parts.column(&set, "int8[]", |(_, timer)| timer.due.0);
    let kind = parts.column(&set, "int4[]", |(_, timer)| i32::from(timer.kind));
    parts.after.push(format!(
        "armed AS (INSERT INTO timer (run, number, shard, due, kind) SELECT t.run, t.number, t.shard, t.due, t.kind
            FROM unnest({unit}, {run}, {number}, {shard}, {due}, {kind}) AS t(u, run, number, shard, due, kind) JOIN done USING (u)
            ORDER BY t.run, t.number ON CONFLICT (run, number) DO UPDATE SET due = excluded.due, kind = excluded.kind RETURNING 1)"
    ));
    parts.writes.push("armed");
}
