//! Copies everything from one store to another, whatever their backends.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Append, Blob, Commit, ContentHash, Definition, Error, Frame, FrameQuery, InboxQuery, KeyQuery, KeyWrite,
    Order, Recipient, RunId, RunQuery, RunRow, Seq, Shards, Store, Timer, TimerQuery, UnixMillis, Urgency,
};

/// Rows read at a time.
const PAGE: usize = 200;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Runs, with their journals, timers and blobs.
    pub runs: u64,
    /// Runs that were left out, because retention has removed their journals.
    pub purged: u64,
    /// Frames of all runs.
    pub frames: u64,
    /// Pending messages.
    pub messages: u64,
    /// Named values.
    pub values: u64,
}

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store to copy to holds something.
    #[error("the target is not empty; copy to a new directory, or to a database without Loom's tables")]
    NotEmpty,
    /// A definition or a blob that a run refers to is missing.
    #[error("run {run} refers to {hash}, which is not in the source")]
    Missing {
        /// The run.
        run: RunId,
        /// The content.
        hash: ContentHash,
    },
    /// One of the stores cannot be read or written.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Copies everything to an empty store: runs with their journals, snapshots, timers and blobs; pending messages; named values. Bytes are
/// copied as they are, so encrypted content stays encrypted under its key. Not copied are runs whose journals retention has removed,
/// and the idempotency keys of messages that were consumed. `progress` is called with what was copied so far.
///
/// Nothing may write to either store meanwhile.
///
/// # Errors
/// [`CopyError`]. The target is incomplete then, and must be removed.
pub async fn copy(
    from: &dyn Store,
    to: &dyn Store,
    mut progress: impl FnMut(&Copied),
) -> Result<Copied, CopyError> {
    if !to.is_empty().await? {
        return Err(CopyError::NotEmpty);
    }
    let (mut copied, mut definitions) = (Copied::default(), BTreeSet::new());
    let mut query = RunQuery { order: Order::OldestFirst, limit: PAGE, ..RunQuery::default() };
    loop {
        let page = from.runs(query.clone()).await?;
        for row in page.rows {
            if row.purged {
                copied.purged += 1;
                continue;
            }
            copied.frames += copy_run(from, to, row, &mut definitions).await?;
            copied.runs += 1;
        }
        progress(&copied);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    copy_timers(from, to).await?;
    copied.messages = copy_messages(from, to).await?;
    copied.values = copy_values(from, to).await?;
    to.flush().await?;
    progress(&copied);
    Ok(copied)
}

/// Copies one run. Its row comes last, so that a run in the target is complete. Returns the number of its frames.
async fn copy_run(
    from: &dyn Store,
    to: &dyn Store,
    row: RunRow,
    definitions: &mut BTreeSet<ContentHash>,
) -> Result<u64, CopyError> {
    let run = row.id;
    let mut next = Commit::to_run(run, Seq::FIRST, Vec::new());
    if definitions.insert(row.definition) {
        let body = from.definition(row.definition).await?;
        let body = body.ok_or(CopyError::Missing { run, hash: row.definition })?;
        next.definitions.push(Definition::new(body));
    }
    for hash in from.blobs_of(run).await? {
        next.blobs.push(copy_blob(from, to, run, hash).await?);
    }
    let (mut query, mut frames) = (FrameQuery::of(run), 0);
    loop {
        let page = from.frames(query).await?;
        let first = page.frames.first().map_or(query.from, |frame| frame.seq);
        frames += page.frames.len() as u64;
        let content = page.frames.into_iter().map(|frame| Frame { at: frame.at, payload: frame.payload });
        next.journal = Some(Append { run, first, frames: content.collect() });
        let Some(more) = page.next else { break };
        query.from = more;
        next.urgency = Urgency::Lazy;
        to.commit(std::mem::replace(&mut next, Commit::to_run(run, more, Vec::new()))).await?;
    }
    next.snapshot = from.load(run).await?.and_then(|loaded| loaded.snapshot);
    next.row = Some(row);
    to.commit(next).await?;
    Ok(frames)
}

async fn copy_blob(
    from: &dyn Store,
    to: &dyn Store,
    run: RunId,
    hash: ContentHash,
) -> Result<Blob, CopyError> {
    let content = from.blob(hash, 0, usize::MAX).await?.ok_or(CopyError::Missing { run, hash })?;
    let blob = to.put_blob(content).await?;
    if blob.hash() == hash { Ok(blob) } else { Err(CopyError::Missing { run, hash }) }
}

async fn copy_timers(from: &dyn Store, to: &dyn Store) -> Result<(), Error> {
    let mut query = TimerQuery { shards: Shards::ALL, until: UnixMillis(i64::MAX), after: None, limit: PAGE };
    loop {
        let page: Vec<Timer> = from.timers(query).await?;
        query.after = page.last().copied();
        let is_last = page.len() < PAGE;
        if !page.is_empty() {
            to.commit(Commit { timers_set: page, ..Commit::new() }).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}

async fn copy_messages(from: &dyn Store, to: &dyn Store) -> Result<u64, Error> {
    let mut query =
        InboxQuery { recipient: Recipient::Anyone, shards: Shards::ALL, after: None, limit: PAGE };
    let mut messages = 0;
    loop {
        let page = from.inbox(query).await?;
        query.after = page.last().map(|message| message.id);
        let is_last = page.len() < PAGE;
        messages += page.len() as u64;
        if !page.is_empty() {
            let posts = page.into_iter().map(|message| message.post).collect();
            to.commit(Commit { inbox_posted: posts, ..Commit::new() }).await?;
        }
        if is_last {
            return Ok(messages);
        }
    }
}

async fn copy_values(from: &dyn Store, to: &dyn Store) -> Result<u64, Error> {
    let mut values = 0;
    let mut start = String::new();
    while let Some(namespace) = from.namespace_from(&start).await? {
        // The least name that is greater.
        start = format!("{namespace}\0");
        let mut query =
            KeyQuery { namespace: Arc::clone(&namespace), prefix: String::new(), after: None, limit: PAGE };
        loop {
            let page = from.keys(query.clone()).await?;
            values += page.values.len() as u64;
            let keys = page.values.into_iter().map(|value| KeyWrite {
                namespace: Arc::clone(&namespace),
                key: value.key,
                value: Some(value.value),
                expires: value.expires,
                run: value.run,
                ..KeyWrite::default()
            });
            let keys: Vec<KeyWrite> = keys.collect();
            if !keys.is_empty() {
                to.commit(Commit { keys, ..Commit::new() }).await?;
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
    }
    Ok(values)
}
