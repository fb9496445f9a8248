//! Why a statement refused a commit: the first check that fails, in the order that the port prescribes.
//!
//! The statement only says that a commit was refused. What it contradicts is read afterwards, by statements of their own: the row
//! of another node that it collided with may be newer than what the first statement could see.

use std::{collections::HashMap, sync::Arc};

use loom_store::{
    BlobContent, Commit, Committed, Conflict, Error, KeyExpectation, RunId, Seq, Under, check_keys,
};

use crate::{connect::Session, rows, text};

type Failed = tokio_postgres::Error;

/// What the commit contradicts, or which run it repeats; `None` when nothing stands against it any more.
pub(crate) async fn explain(
    session: &Session,
    commit: &Commit,
) -> Result<Option<Result<Committed, Error>>, Failed> {
    let refused = |conflict: Conflict| Ok(Some(Err(conflict.into())));
    if let Some(conflict) = lost(session, commit).await? {
        return refused(conflict);
    }
    match row(session, commit).await? {
        None => {}
        Some(Ok(earlier)) => return Ok(Some(Ok(Committed::Duplicate(earlier)))),
        Some(Err(conflict)) => return refused(conflict),
    }
    let mut conflict = journal(session, commit).await?;
    if conflict.is_none() {
        conflict = blobs(session, commit).await?;
    }
    if conflict.is_none() {
        conflict = taken(session, commit).await?;
    }
    if conflict.is_none() {
        conflict = keys(session, commit).await?;
    }
    conflict.map_or(Ok(None), refused)
}

async fn lost(session: &Session, commit: &Commit) -> Result<Option<Conflict>, Failed> {
    let Some(Under { node, shard }) = commit.under else { return Ok(None) };
    for shard in [Some(shard), commit.run().map(RunId::shard)].into_iter().flatten() {
        let owner = session
            .query_opt(
                "SELECT 1 FROM shard s JOIN fence f ON f.node = s.owner
                 WHERE s.id = $1 AND s.owner = $2 AND f.lane = 0 AND NOT f.fenced",
                &[&i32::from(shard.number()), &node.0.cast_signed()],
            )
            .await?;
        if owner.is_none() {
            return Ok(Some(Conflict::Lost { node, shard }));
        }
    }
    Ok(None)
}

async fn row(session: &Session, commit: &Commit) -> Result<Option<Result<RunId, Conflict>>, Failed> {
    let Some(row) = &commit.row else { return Ok(None) };
    let (workflow, key) = (text::stored(&row.workflow), row.idempotency_key.as_deref().map(text::stored));
    let parent = row.parent.map(rows::id);
    let known = session
        .query_opt(
            "SELECT workflow = $2 AND idempotency_key IS NOT DISTINCT FROM $3 AND parent IS NOT DISTINCT FROM $4 FROM run WHERE id = $1",
            &[&rows::id(row.id), &workflow, &key, &parent],
        )
        .await?;
    if let Some(known) = known {
        let is_same: bool = known.try_get(0)?;
        return Ok((!is_same).then_some(Err(Conflict::Identity { run: row.id })));
    }
    if key.is_none() {
        return Ok(None);
    }
    let earlier = session
        .query_opt("SELECT id FROM run WHERE workflow = $1 AND idempotency_key = $2", &[&workflow, &key])
        .await?;
    let earlier = earlier.map(|row| row.try_get::<_, i64>(0)).transpose()?;
    Ok(earlier.and_then(|id| rows::run_id(id).ok()).map(Ok))
}

async fn journal(session: &Session, commit: &Commit) -> Result<Option<Conflict>, Failed> {
    let Some(journal) = &commit.journal else { return Ok(None) };
    let run = journal.run;
    let found = session
        .query_opt(
            "SELECT (SELECT purged > 0 FROM run WHERE id = $1), (SELECT max(seq) FROM frame WHERE run = $1)",
            &[&rows::id(run)],
        )
        .await?;
    let Some(found) = found else { return Ok(None) };
    let (purged, last): (Option<bool>, Option<i64>) = (found.try_get(0)?, found.try_get(1)?);
    if purged == Some(true) {
        return Ok(Some(Conflict::Purged { run }));
    }
    let actual = Seq(last.unwrap_or(0).cast_unsigned()).plus(1);
    Ok((actual != journal.first).then_some(Conflict::Seq { run, expected: journal.first, actual }))
}

async fn blobs(session: &Session, commit: &Commit) -> Result<Option<Conflict>, Failed> {
    for blob in commit.blobs.iter().filter(|blob| !matches!(blob.content(), BlobContent::Carried { .. })) {
        let hash = blob.hash();
        let sql = "SELECT 1 FROM blob WHERE hash = $1 AND codec <> 3";
        if session.query_opt(sql, &[&&hash.as_bytes()[..]]).await?.is_none() {
            return Ok(Some(Conflict::MissingBlob(hash)));
        }
    }
    Ok(None)
}

async fn taken(session: &Session, commit: &Commit) -> Result<Option<Conflict>, Failed> {
    for message in &commit.inbox_consumed {
        let found = session
            .query_opt("SELECT 1 FROM inbox WHERE id = $1 AND taken_by IS NULL", &[&message.0.cast_signed()])
            .await?;
        if found.is_none() {
            return Ok(Some(Conflict::Taken { message: *message }));
        }
    }
    Ok(None)
}

async fn keys(session: &Session, commit: &Commit) -> Result<Option<Conflict>, Failed> {
    let mut versions: HashMap<(Arc<str>, Arc<str>), u64> = HashMap::new();
    for write in commit.keys.iter().filter(|write| write.expect != KeyExpectation::Any) {
        let found = session
            .query_opt(
                "SELECT version FROM named WHERE namespace = $1 AND key = $2",
                &[&text::stored(&write.namespace), &text::stored(&write.key)],
            )
            .await?;
        if let Some(found) = found {
            let version: i64 = found.try_get(0)?;
            versions.insert((Arc::clone(&write.namespace), Arc::clone(&write.key)), version.cast_unsigned());
        }
    }
    let checked = check_keys(&commit.keys, |namespace, key| {
        Ok::<_, Conflict>(versions.get(&(Arc::clone(namespace), Arc::clone(key))).copied())
    });
    Ok(checked.err())
}

/// Whether a condition of the commit contradicts what the commit itself has written before, whatever is stored.
pub(crate) fn contradicts_itself(commit: &Commit) -> bool {
    commit.keys.iter().enumerate().any(|(place, write)| {
        let same =
            |other: &&loom_store::KeyWrite| other.key == write.key && other.namespace == write.namespace;
        match (commit.keys[..place].iter().rev().find(same), write.expect) {
            (None, _) | (_, KeyExpectation::Any) => false,
            (Some(earlier), KeyExpectation::Absent) => earlier.value.is_some(),
            (Some(_), KeyExpectation::Version(_)) => true,
        }
    })
}
