//! The parts of the statement for messages and named values.

use loom_store::{Commit, InboxId, KeyExpectation, KeyWrite, Post};

use super::{Parts, Text};
use crate::{group::Unit, queue::Entry, rows, text};

/// Messages that are consumed are locked while they are pending.
pub(super) fn taken(parts: &mut Parts<'_>, units: &[(i32, &Unit)]) -> bool {
    let mut found: Vec<(i32, InboxId, i64)> = Vec::new();
    for (u, unit) in units {
        let taker = unit.run().map_or(-1, rows::id);
        let messages = unit.commits().flat_map(|packed| &packed.commit.inbox_consumed);
        found.extend(messages.map(|message| (*u, *message, taker)));
    }
    if found.is_empty() {
        return false;
    }
    let unit = parts.column(&found, "int4[]", |(u, ..)| *u);
    let message = parts.column(&found, "int8[]", |(_, message, _)| message.0.cast_signed());
    let taker = parts.column(&found, "int8[]", |(.., taker)| *taker);
    parts.before.push(format!(
        "take AS MATERIALIZED (SELECT * FROM unnest({unit}, {message}, {taker}) AS t(u, id, taker)),
         pending AS MATERIALIZED (SELECT id FROM inbox WHERE id = ANY({message}) AND taken_by IS NULL ORDER BY id FOR UPDATE)"
    ));
    parts.locks.push("pending");
    parts
        .bad
        .push("SELECT t.u FROM take t WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.id = t.id)".into());
    true
}

pub(super) fn write_taken(parts: &mut Parts<'_>) {
    parts.after.push(
        "took AS (UPDATE inbox SET taken_by = t.taker FROM take t JOIN done USING (u) WHERE inbox.id = t.id RETURNING 1)".into(),
    );
    parts.writes.push("took");
}

/// Values that are written are locked, and the conditions hold for what they are then. Where a commit writes a value more than once,
/// the condition of the first write is checked here; those of the others were checked before.
pub(super) fn keys<'a>(parts: &mut Parts<'a>, entries: &[(i32, &'a Entry)]) -> bool {
    let mut found = Vec::new();
    for (u, entry) in entries {
        let writes = &entry.packed.commit.keys;
        for (place, write) in writes.iter().enumerate() {
            let same = |other: &KeyWrite| other.namespace == write.namespace && other.key == write.key;
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
            inputs.push(parts.column(&found, $cast, $value))
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
pub(super) fn write_keys(parts: &mut Parts<'_>) {
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

pub(super) fn posts<'a>(parts: &mut Parts<'a>, entries: &[(i32, &'a Entry)]) -> bool {
    let posts = |(u, entry): &(i32, &'a Entry)| {
        let u = *u;
        distinct_posts(&entry.packed.commit).map(move |post| (u, post))
    };
    let found: Vec<(i32, &Post)> = entries.iter().flat_map(posts).collect();
    if found.is_empty() {
        return false;
    }
    let ord = parts.put((0..found.len() as i32).collect::<Vec<_>>(), "int4[]");
    let mut inputs = vec![ord];
    macro_rules! column {
        ($cast:literal, $value:expr) => {
            inputs.push(parts.column(&found, $cast, $value))
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

pub(super) fn write_posts(parts: &mut Parts<'_>) {
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
fn distinct_posts(commit: &Commit) -> impl Iterator<Item = &Post> + Clone {
    let posts = &commit.inbox_posted;
    posts
        .iter()
        .enumerate()
        .filter(|(place, _)| first_with_key(commit, *place) == *place)
        .map(|(_, post)| post)
}

/// The place of the first message of the commit with the key of the one at `place`.
pub(crate) fn first_with_key(commit: &Commit, place: usize) -> usize {
    let post = &commit.inbox_posted[place];
    let same = |other: &Post| {
        other.run == post.run
            && other.idempotency_key.is_some()
            && other.idempotency_key == post.idempotency_key
    };
    commit.inbox_posted[..place].iter().position(same).unwrap_or(place)
}
