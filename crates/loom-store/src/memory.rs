//! A store that keeps nothing beyond the process: for tests, and for runs that need no disk.
//!
//! Every commit is applied immediately under one lock, so its [`Ack`] is ready when it is returned.

mod feed;
mod owned;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use self::feed::Feed;
use crate::{
    Ack, Answer, Blob, BlobContent, Blobs, Change, ChangePage, Changes, Commit, Committed, Condition,
    Conflict, ContentHash, Count, Cursor, Deletion, Durability, Error, FramePage, FrameQuery, Health, Inbox,
    InboxId, InboxMessage, InboxQuery, Journal, KeyPage, KeyQuery, KeyValue, KeyWrite, LoadedRun, Metrics,
    Named, Order, OwnerTable, Post, Refusal, Refused, Retention, RunId, RunPage, RunQuery, RunRow, Runs,
    Sealer, Seq, Shards, Snapshot, StoredFrame, Swept, Timer, TimerKey, TimerQuery, UnixMillis, Upkeep,
    Written, commit::check_keys, pack::Codec,
};

/// A store in memory. Clones share the content.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Content>>);

/// The recipient of a message, and its idempotency key.
type MessageKey = (Option<RunId>, Arc<str>);

/// The namespace and the name of a value.
type Name = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Content {
    closed: bool,
    /// By default none: nothing outlives the process.
    sealer: Sealer,
    /// Why commits are no longer accepted.
    condemned: Option<Error>,
    runs: BTreeMap<RunId, Run>,
    by_key: BTreeMap<(Arc<str>, Arc<str>), RunId>,
    unfinished: BTreeSet<RunId>,
    /// The unfinished runs that are awake.
    awake: BTreeSet<RunId>,
    /// Ended runs that have their data, and those whose data was removed, by the time at which they ended.
    ended: [BTreeSet<(UnixMillis, RunId)>; 2],
    timers: BTreeMap<TimerKey, Timer>,
    due: BTreeSet<(UnixMillis, TimerKey)>,
    inbox: BTreeMap<InboxId, Post>,
    inbox_keys: BTreeMap<MessageKey, InboxId>,
    /// The keys of consumed messages, by the run that consumed them.
    taken: BTreeMap<RunId, Vec<MessageKey>>,
    last_inbox: u64,
    definitions: BTreeMap<ContentHash, Bytes>,
    /// Each with the number of runs that refer to it.
    blobs: BTreeMap<ContentHash, (Bytes, usize)>,
    keys: BTreeMap<Name, KeyValue>,
    /// The values that expire, by the time at which they do.
    expiring: BTreeSet<(UnixMillis, Name)>,
    /// The values that belong to a run.
    keys_of: BTreeMap<RunId, BTreeSet<Name>>,
    last_version: u64,
    owners: OwnerTable,
    feed: Feed,
    metrics: Metrics,
}

/// What is stored for one run. A run may have frames before it has a row.
#[derive(Debug, Default)]
struct Run {
    row: Option<RunRow>,
    frames: Vec<StoredFrame>,
    snapshot: Option<Snapshot>,
    blobs: BTreeSet<ContentHash>,
    purged: bool,
}

impl Run {
    fn next(&self) -> Seq {
        Seq::FIRST.plus(self.frames.len() as u64)
    }

    fn frames_from(&self, from: Seq) -> &[StoredFrame] {
        let skip = usize::try_from(from.0.saturating_sub(Seq::FIRST.0)).unwrap_or(usize::MAX);
        self.frames.get(skip..).unwrap_or_default()
    }
}

impl Content {
    /// Why commits are not accepted, if so.
    fn refuses(&self) -> Option<Error> {
        if self.closed { Some(Error::Closed) } else { self.condemned.clone() }
    }
}

impl MemoryStore {
    /// A store whose secret values are sealed, as those of a store on disk are.
    pub fn sealing(sealer: Sealer) -> MemoryStore {
        let store = MemoryStore::default();
        store.lock().sealer = sealer;
        store
    }

    /// The number of blobs in the store.
    pub fn blobs(&self) -> usize {
        self.lock().blobs.len()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own<T: Send + 'static>(&self, ask: impl FnOnce(&OwnerTable) -> Result<T, Error>) -> Answer<T> {
        let content = self.lock();
        Box::pin(ready(if content.closed { Err(Error::Closed) } else { ask(&content.owners) }))
    }

    fn read<T: Send + 'static>(&self, answer: impl FnOnce(&Content) -> T) -> Answer<T> {
        let content = self.lock();
        let answer = if content.closed { Err(Error::Closed) } else { Ok(answer(&content)) };
        Box::pin(ready(answer))
    }
}

impl Journal for MemoryStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let mut content = self.lock();
        if let Some(reason) = content.refuses() {
            return Err(Refused { commit: Box::new(commit), reason: Refusal::Unavailable(reason) });
        }
        Ok(Ack::ready(content.apply(commit)))
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        match self.append(commit) {
            Ok(ack) => Box::pin(ack),
            Err(Refused { reason: Refusal::Unavailable(reason), .. }) => Box::pin(ready(Err(reason))),
            Err(Refused { reason: Refusal::Full, .. }) => unreachable!("there is always room"),
        }
    }

    fn flush(&self) -> Answer<()> {
        let refused = self.lock().refuses();
        Box::pin(ready(refused.map_or(Ok(()), Err)))
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.read(|content| {
            let kept = content.runs.get(&run)?;
            let from = kept.snapshot.as_ref().map_or(Seq::FIRST, |snapshot| snapshot.upto.plus(1));
            Some(LoadedRun {
                row: kept.row.clone()?,
                snapshot: kept.snapshot.clone(),
                frames: kept.frames_from(from).to_vec(),
                next: kept.next(),
                has_messages: content.inbox.values().any(|post| post.run == Some(run)),
            })
        })
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.read(|content| {
            let frames = content.runs.get(&query.run).map_or(&[][..], |run| run.frames_from(query.from));
            let mut bytes = 0;
            let page = frames.iter().take(query.frames_max.max(1)).take_while(|frame| {
                let room = bytes == 0 || bytes < query.bytes_max;
                bytes += frame.payload.len();
                room
            });
            let page: Vec<_> = page.cloned().collect();
            let next = frames.get(page.len()).map(|frame| frame.seq);
            FramePage { frames: page, next }
        })
    }
}

impl Runs for MemoryStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.read(|content| content.runs.get(&run)?.row.clone())
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        self.read(|content| {
            let run = content.by_key.get(&(workflow.into(), idempotency_key.into()))?;
            content.runs.get(run)?.row.clone()
        })
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.read(|content| content.list(&query))
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.read(|content| {
            let Some((low, high)) = (RunQuery { after: None, ..query.clone() }).range() else {
                return Count { runs: 0, is_exact: true };
            };
            let rows = content.runs.range(low..=high).filter_map(|(_, run)| run.row.as_ref());
            let found = rows.filter(|row| query.matches(row)).take(query.limit.saturating_add(1)).count();
            Count { runs: found.min(query.limit) as u64, is_exact: found <= query.limit }
        })
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|content| {
            let later = content.unfinished.iter().filter(|run| after.is_none_or(|after| **run > after));
            let later = later.filter(|run| shards.contains(run.shard()));
            later.take(limit).filter_map(|run| content.runs.get(run)?.row.clone()).collect()
        })
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|content| {
            let later = content.awake.iter().filter(|run| after.is_none_or(|after| **run > after));
            let later = later.filter(|run| shards.contains(run.shard()));
            later.take(limit).filter_map(|run| content.runs.get(run)?.row.clone()).collect()
        })
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.read(|content| {
            let parked = content.unfinished.difference(&content.awake);
            parked.filter(|run| shards.contains(run.shard())).count() as u64
        })
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.read(|content| content.runs.keys().rev().find(|run| shards.contains(run.shard())).copied())
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.read(|content| {
            let due = content.due.iter().take_while(|(due, _)| *due <= query.until);
            let later = due.filter(|timer| query.start().is_none_or(|start| **timer > start));
            let later = later.filter(|(_, key)| query.shards.contains(key.run.shard()));
            later.take(query.limit.max(1)).filter_map(|(_, key)| content.timers.get(key).copied()).collect()
        })
    }
}

impl Inbox for MemoryStore {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.read(|content| {
            let start = query.after.map_or(Bound::Unbounded, Bound::Excluded);
            let later =
                content.inbox.range((start, Bound::Unbounded)).filter(|(_, post)| query.matches(post));
            let messages = later.map(|(id, post)| InboxMessage { id: *id, post: post.clone() });
            messages.take(query.limit.max(1)).collect()
        })
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.read(|content| content.inbox.values().filter(|post| post.run == Some(run)).count() as u64)
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        self.read(|content| content.inbox_keys.get(&(run, Arc::from(idempotency_key))).copied())
    }
}

impl Named for MemoryStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        self.read(|content| content.keys.get(&(namespace.into(), key.into())).cloned())
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.read(|content| {
            let start = query.after.clone().unwrap_or_else(|| query.prefix.as_str().into());
            let from = content.keys.range((Arc::clone(&query.namespace), start)..);
            let family = from.take_while(|((namespace, key), _)| {
                *namespace == query.namespace && key.as_bytes() < prefix_end(&query.prefix).as_slice()
            });
            let mut later = family.filter(|((_, key), _)| {
                key.starts_with(&query.prefix) && query.after.as_ref().is_none_or(|after| key > after)
            });
            let values: Vec<_> =
                later.by_ref().take(query.limit.max(1)).map(|(_, value)| value.clone()).collect();
            let next = later.next().and_then(|_| values.last().map(|value| Arc::clone(&value.key)));
            KeyPage { values, next }
        })
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        self.read(|content| {
            let start = (Arc::from(start), Arc::from(""));
            content.keys.range(start..).next().map(|((namespace, _), _)| Arc::clone(namespace))
        })
    }
}

impl Blobs for MemoryStore {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.read(|content| content.definitions.get(&hash).cloned())
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        let hash = ContentHash::of(&content);
        let blob = Blob::carried(hash, content.len() as u64, Codec::Raw as u8, content);
        self.read(|_| blob)
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        self.read(|content| {
            let (blob, _) = content.blobs.get(&hash)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len());
            Some(blob.slice(start..start.saturating_add(length).min(blob.len())))
        })
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.read(|content| {
            content.runs.get(&run).map(|kept| kept.blobs.iter().copied().collect()).unwrap_or_default()
        })
    }
}

impl Upkeep for MemoryStore {
    fn is_empty(&self) -> Answer<bool> {
        self.read(|content| {
            let Content { runs, definitions, blobs, keys, last_inbox, .. } = content;
            runs.is_empty()
                && definitions.is_empty()
                && blobs.is_empty()
                && keys.is_empty()
                && *last_inbox == 0
        })
    }

    fn sealer(&self) -> Sealer {
        self.lock().sealer.clone()
    }

    fn condemn(&self, reason: Error) {
        self.lock().condemned.get_or_insert(reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        let mut content = self.lock();
        let swept = content.refuses().map_or_else(|| Ok(content.sweep(&policy, now)), Err);
        Box::pin(ready(swept))
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        let mut content = self.lock();
        let deleted = content.refuses().map_or_else(|| Ok(content.delete_run(run)), Err);
        Box::pin(ready(deleted))
    }

    fn verify(&self) -> Answer<u64> {
        self.read(|content| content.runs.values().map(|run| run.frames.len() as u64).sum())
    }

    fn health(&self) -> Health {
        let condition = match self.lock().refuses() {
            None => Condition::Running,
            Some(Error::Closed) => Condition::Closed,
            Some(reason) => Condition::Paused(reason),
        };
        Health { durability: Durability::Memory, condition, queued_bytes: 0, queue_bytes_max: 0 }
    }

    fn metrics(&self) -> Metrics {
        self.lock().metrics.clone()
    }

    fn resume(&self) -> Answer<()> {
        let refused = self.lock().refuses();
        Box::pin(ready(refused.map_or(Ok(()), Err)))
    }

    fn close(&self) -> Answer<()> {
        self.lock().closed = true;
        Box::pin(ready(Ok(())))
    }
}

/// The first byte string after all strings that begin with `prefix`: 0xff never occurs in UTF-8.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    end.push(0xff);
    end
}

impl Content {
    fn list(&self, query: &RunQuery) -> RunPage {
        let Some((low, high)) = query.range() else { return RunPage::default() };
        let range = self.runs.range(low..=high);
        let limit = query.limit.max(1);
        let rows = range.filter_map(|(_, run)| run.row.as_ref()).filter(|row| query.matches(row));
        let mut rows: Vec<RunRow> = match query.order {
            Order::NewestFirst => rows.rev().take(limit + 1).cloned().collect(),
            Order::OldestFirst => rows.take(limit + 1).cloned().collect(),
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        RunPage { next: rows.last().filter(|_| more).map(|row| row.id), rows }
    }

    /// Checks the whole commit before writing it, so a refused commit leaves no trace.
    fn apply(&mut self, commit: Commit) -> Result<Committed, Error> {
        match self.check(&commit) {
            Ok(None) => Ok(Committed::Written(self.write(commit))),
            Ok(Some(earlier)) => {
                self.metrics.refused += 1;
                Ok(Committed::Duplicate(earlier))
            }
            Err(conflict) => {
                self.metrics.refused += 1;
                Err(conflict.into())
            }
        }
    }

    fn check(&self, commit: &Commit) -> Result<Option<RunId>, Conflict> {
        commit.validate()?;
        self.owners.check(commit)?;
        if let Some(row) = &commit.row {
            if let Some(known) = self.runs.get(&row.id).and_then(|run| run.row.as_ref()) {
                if !row.same_identity(known) {
                    return Err(Conflict::Identity { run: row.id });
                }
            } else if let Some(key) = &row.idempotency_key
                && let Some(earlier) = self.by_key.get(&(Arc::clone(&row.workflow), Arc::clone(key)))
            {
                return Ok(Some(*earlier));
            }
        }
        if let Some(journal) = &commit.journal {
            let kept = self.runs.get(&journal.run);
            if kept.is_some_and(|run| run.purged) {
                return Err(Conflict::Purged { run: journal.run });
            }
            let actual = kept.map_or(Seq::FIRST, Run::next);
            if actual != journal.first {
                return Err(Conflict::Seq { run: journal.run, expected: journal.first, actual });
            }
        }
        for blob in &commit.blobs {
            if !matches!(blob.content(), BlobContent::Carried { .. })
                && !self.blobs.contains_key(&blob.hash())
            {
                return Err(Conflict::MissingBlob(blob.hash()));
            }
        }
        if let Some(message) = commit.inbox_consumed.iter().find(|id| !self.inbox.contains_key(id)) {
            return Err(Conflict::Taken { message: *message });
        }
        check_keys(&commit.keys, |namespace, key| {
            Ok(self.keys.get(&(Arc::clone(namespace), Arc::clone(key))).map(|value| value.version))
        })
        .map(|()| None)
    }

    fn write(&mut self, commit: Commit) -> Written {
        self.metrics.commits += 1;
        self.metrics.groups += 1;
        self.metrics.bytes += commit.payload_bytes() as u64;
        let mut written = Written::default();
        let owner = commit.run();
        let appends = commit.journal.as_ref().is_some_and(|journal| !journal.frames.is_empty());
        if let Some(run) = owner.filter(|_| appends || commit.row.is_some()) {
            self.feed.add(Change::Run(run));
        }
        for definition in commit.definitions {
            self.definitions.entry(definition.hash()).or_insert_with(|| definition.body().clone());
        }
        for blob in commit.blobs {
            let hash = blob.hash();
            if let BlobContent::Carried { bytes, .. } = blob.content() {
                self.blobs.entry(hash).or_insert_with(|| (bytes.clone(), 0));
            }
            let run = self.runs.entry(owner.expect("blobs have a run, by the check")).or_default();
            if run.blobs.insert(hash) {
                self.blobs.get_mut(&hash).expect("it is there, by the check").1 += 1;
            }
        }
        if let Some(mut row) = commit.row {
            if let Some(key) = &row.idempotency_key {
                self.by_key.insert((Arc::clone(&row.workflow), Arc::clone(key)), row.id);
            }
            if row.ended.is_some() {
                self.unfinished.remove(&row.id);
            } else {
                self.unfinished.insert(row.id);
            }
            if row.ended.is_none() && row.wake_at.is_none() {
                self.awake.insert(row.id);
            } else {
                self.awake.remove(&row.id);
            }
            let run = self.runs.entry(row.id).or_default();
            let ended = &mut self.ended[usize::from(run.purged)];
            if let Some(before) = run.row.as_ref().and_then(|row| row.ended) {
                ended.remove(&(before, row.id));
            }
            ended.extend(row.ended.map(|at| (at, row.id)));
            row.purged = run.purged;
            run.row = Some(row);
        }
        if let Some(journal) = commit.journal {
            self.metrics.frames += journal.frames.len() as u64;
            let run = self.runs.entry(journal.run).or_default();
            for frame in journal.frames {
                run.frames.push(StoredFrame { seq: run.next(), at: frame.at, payload: frame.payload });
            }
        }
        if let Some(snapshot) = commit.snapshot {
            let run = self.runs.entry(snapshot.run).or_default();
            run.snapshot = Some(snapshot);
        }
        for key in commit.timers_cleared {
            if let Some(old) = self.timers.remove(&key) {
                self.due.remove(&(old.due, key));
            }
        }
        for timer in commit.timers_set {
            if let Some(old) = self.timers.insert(timer.key, timer) {
                self.due.remove(&(old.due, timer.key));
            }
            self.due.insert((timer.due, timer.key));
        }
        for id in commit.inbox_consumed {
            let Some(Post { run, idempotency_key: Some(key), .. }) = self.inbox.remove(&id) else { continue };
            // Without an owner the key is kept forever, like that of a message that no run has consumed.
            if let Some(owner) = owner {
                self.taken.entry(owner).or_default().push((run, key));
            }
        }
        for post in commit.inbox_posted {
            written.inbox.push(self.post(post));
        }
        for key in commit.keys {
            written.versions.push(self.write_key(key));
        }
        written
    }

    fn sweep(&mut self, policy: &Retention, now: UnixMillis) -> Swept {
        let mut swept = Swept::default();
        while let Some((at, name)) = self.expiring.first().cloned()
            && at <= now
        {
            swept.values += u64::from(self.remove_key(&name));
            self.feed.add(Change::Value { namespace: name.0, key: name.1 });
        }
        let before = policy.purge_before(now);
        while let Some(&(ended, run)) = self.ended[0].first() {
            let too_many = policy.runs_max.is_some_and(|most| self.ended[0].len() as u64 > most)
                || policy.bytes_max.is_some_and(|most| self.bytes() > most);
            if !too_many && before.is_none_or(|before| ended >= before) {
                break;
            }
            self.purge(run, &mut swept);
            self.ended[0].remove(&(ended, run));
            self.ended[1].insert((ended, run));
        }
        let before = policy.delete_before(now);
        let rows_max = policy.purged_rows_max();
        while let Some(&(ended, run)) = self.ended[1].first() {
            let too_many = rows_max.is_some_and(|most| self.ended[1].len() as u64 > most);
            if !too_many && before.is_none_or(|before| ended >= before) {
                break;
            }
            self.ended[1].remove(&(ended, run));
            let row = self.runs.remove(&run).and_then(|run| run.row);
            if let Some(RunRow { workflow, idempotency_key: Some(key), .. }) = row {
                self.by_key.remove(&(workflow, key));
            }
            swept.rows += 1;
        }
        swept
    }

    /// The size of everything that retention can remove.
    fn bytes(&self) -> u64 {
        let frames = self.runs.values().flat_map(|run| &run.frames).map(|frame| frame.payload.len());
        let snapshots =
            self.runs.values().filter_map(|run| run.snapshot.as_ref()).map(|kept| kept.state.len());
        let blobs = self.blobs.values().map(|(content, _)| content.len());
        frames.chain(snapshots).chain(blobs).sum::<usize>() as u64
    }

    fn delete_run(&mut self, id: RunId) -> Deletion {
        let Some(row) = self.runs.get(&id).and_then(|run| run.row.clone()) else { return Deletion::NotFound };
        let Some(ended) = row.ended else { return Deletion::NotEnded };
        self.purge(id, &mut Swept::default());
        for ended_runs in &mut self.ended {
            ended_runs.remove(&(ended, id));
        }
        self.runs.remove(&id);
        self.feed.add(Change::Run(id));
        if let Some(key) = row.idempotency_key {
            self.by_key.remove(&(row.workflow, key));
        }
        Deletion::Deleted
    }

    fn purge(&mut self, id: RunId, swept: &mut Swept) {
        self.feed.forget_run(id);
        let run = self.runs.entry(id).or_default();
        run.purged = true;
        if let Some(row) = &mut run.row {
            row.purged = true;
        }
        run.frames = Vec::new();
        run.snapshot = None;
        for hash in std::mem::take(&mut run.blobs) {
            if let Entry::Occupied(mut blob) = self.blobs.entry(hash) {
                blob.get_mut().1 -= 1;
                if blob.get().1 == 0 {
                    blob.remove();
                    swept.blobs += 1;
                }
            }
        }
        for name in self.keys_of.remove(&id).unwrap_or_default() {
            self.remove_key(&name);
            self.feed.add(Change::Value { namespace: name.0, key: name.1 });
        }
        self.timers.retain(|key, _| key.run != id);
        self.due.retain(|(_, key)| key.run != id);
        let keys = &mut self.inbox_keys;
        self.inbox.retain(|_, post| {
            let kept = post.run != Some(id);
            if !kept && let Some(key) = &post.idempotency_key {
                keys.remove(&(post.run, Arc::clone(key)));
            }
            kept
        });
        for key in self.taken.remove(&id).unwrap_or_default() {
            keys.remove(&key);
        }
        swept.purged += 1;
    }

    fn post(&mut self, post: Post) -> InboxId {
        if let Some(key) = &post.idempotency_key
            && let Some(earlier) = self.inbox_keys.get(&(post.run, Arc::clone(key)))
        {
            return *earlier;
        }
        let post = Post { shard: post.shard(), ..post };
        self.last_inbox += 1;
        let id = InboxId(self.last_inbox);
        if let Some(key) = &post.idempotency_key {
            self.inbox_keys.insert((post.run, Arc::clone(key)), id);
        }
        self.feed.add(Change::Message { id, run: post.run });
        self.inbox.insert(id, post);
        id
    }

    fn write_key(&mut self, write: KeyWrite) -> Option<u64> {
        let name = (write.namespace, Arc::clone(&write.key));
        if self.remove_key(&name) || write.value.is_some() {
            self.feed.add(Change::Value { namespace: Arc::clone(&name.0), key: Arc::clone(&name.1) });
        }
        let value = write.value?;
        self.last_version += 1;
        if let Some(at) = write.expires {
            self.expiring.insert((at, name.clone()));
        }
        if let Some(run) = write.run {
            self.keys_of.entry(run).or_default().insert(name.clone());
        }
        let (key, expires, run) = (write.key, write.expires, write.run);
        self.keys.insert(name, KeyValue { key, version: self.last_version, value, expires, run });
        Some(self.last_version)
    }

    fn remove_key(&mut self, name: &Name) -> bool {
        let Some(old) = self.keys.remove(name) else { return false };
        if let Some(at) = old.expires {
            self.expiring.remove(&(at, name.clone()));
        }
        if let Some(run) = old.run
            && let Entry::Occupied(mut kept) = self.keys_of.entry(run)
        {
            kept.get_mut().remove(name);
            if kept.get().is_empty() {
                kept.remove();
            }
        }
        true
    }
}

impl Changes for MemoryStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.read(|content| content.feed.read(after.as_ref(), limit))
    }

    fn latest(&self) -> Answer<Cursor> {
        self.read(|content| Cursor::new([content.feed.last]))
    }
}
