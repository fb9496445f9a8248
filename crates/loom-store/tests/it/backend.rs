//! A backend in a crate of its own: it uses only what `loom-store` exports, and meets the contract.
//!
//! It keeps everything in maps behind one lock, finds what it is asked for by looking at all of it, and numbers its
//! changes in the order of its commits. Start from it to write another one: replace the maps by tables, the lock by
//! transactions, and the loops by indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use loom_store::{
    Ack, Answer, Blob, BlobContent, Blobs, Change, ChangePage, Changes, Commit, Committed, Condition,
    Conflict, ContentHash, Count, Cursor, Deletion, Durability, Error, FramePage, FrameQuery, Health, Inbox,
    InboxId, InboxMessage, InboxQuery, Journal, KeyPage, KeyQuery, KeyValue, LoadedRun, Metrics, Named,
    NewNode, Node, NodeId, Order, OwnerTable, Ownership, Post, Refusal, Refused, Retention, RunId, RunPage,
    RunQuery, RunRow, Runs, Sealer, Seq, Shards, Snapshot, Store, StoredFrame, Swept, Timer, TimerKey,
    TimerQuery, UnixMillis, Upkeep, Written, check_keys,
    contract::{CASES, CLUSTER},
};

/// A handle; clones are handles of the same database.
#[derive(Clone, Debug, Default)]
struct Tiny(Arc<Mutex<Database>>);

/// What consumed a message: a run, or something else.
#[derive(Clone, Copy, Debug)]
struct Consumer(Option<RunId>);

#[derive(Debug, Default)]
struct Database {
    stopped: Option<Error>,
    rows: BTreeMap<RunId, RunRow>,
    frames: BTreeMap<RunId, Vec<StoredFrame>>,
    snapshots: BTreeMap<RunId, Snapshot>,
    timers: BTreeMap<TimerKey, Timer>,
    /// Messages, each with its consumer once it has one.
    inbox: BTreeMap<InboxId, (Post, Option<Consumer>)>,
    messages: u64,
    definitions: BTreeMap<ContentHash, Bytes>,
    blobs: BTreeMap<ContentHash, (Bytes, BTreeSet<RunId>)>,
    values: BTreeMap<(Arc<str>, Arc<str>), KeyValue>,
    versions: u64,
    owners: OwnerTable,
    changes: Vec<Change>,
    /// Changes up to this number may be about something that retention has removed.
    forgotten: usize,
    metrics: Metrics,
}

impl Database {
    fn check(&self, commit: &Commit) -> Result<Option<RunId>, Conflict> {
        commit.validate()?;
        self.owners.check(commit)?;
        if let Some(row) = &commit.row {
            match self.rows.get(&row.id) {
                Some(known) if !known.same_identity(row) => return Err(Conflict::Identity { run: row.id }),
                Some(_) => {}
                None => {
                    let same = |known: &&RunRow| {
                        known.workflow == row.workflow && known.idempotency_key == row.idempotency_key
                    };
                    if let Some(earlier) =
                        self.rows.values().filter(|_| row.idempotency_key.is_some()).find(same)
                    {
                        return Ok(Some(earlier.id));
                    }
                }
            }
        }
        if let Some(append) = &commit.journal {
            let run = append.run;
            if self.rows.get(&run).is_some_and(|row| row.purged) {
                return Err(Conflict::Purged { run });
            }
            let actual = self.next(run);
            if append.first != actual {
                return Err(Conflict::Seq { run, expected: append.first, actual });
            }
        }
        for blob in &commit.blobs {
            if blob.content() == BlobContent::Known && !self.blobs.contains_key(&blob.hash()) {
                return Err(Conflict::MissingBlob(blob.hash()));
            }
        }
        for message in &commit.inbox_consumed {
            if self.inbox.get(message).is_none_or(|(_, taken)| taken.is_some()) {
                return Err(Conflict::Taken { message: *message });
            }
        }
        check_keys(&commit.keys, |namespace, key| {
            let name = (Arc::clone(namespace), Arc::clone(key));
            Ok::<_, Conflict>(self.values.get(&name).map(|value| value.version))
        })?;
        Ok(None)
    }

    fn next(&self, run: RunId) -> Seq {
        Seq::FIRST.plus(self.frames.get(&run).map_or(0, Vec::len) as u64)
    }

    /// Everything that can be refused has been checked, so nothing of this can fail.
    fn write(&mut self, commit: Commit) -> Written {
        let run = commit.run();
        self.metrics.commits += 1;
        if let Some(changed) = run {
            self.changes.push(Change::Run(changed));
        }
        for definition in commit.definitions {
            self.definitions.insert(definition.hash(), definition.body().clone());
        }
        for blob in commit.blobs {
            if let BlobContent::Carried { bytes, .. } = blob.content() {
                self.blobs.entry(blob.hash()).or_insert_with(|| (bytes.clone(), BTreeSet::new()));
            }
            if let Some((_, users)) = self.blobs.get_mut(&blob.hash()) {
                users.extend(run);
            }
        }
        if let Some(row) = commit.row {
            let purged = self.rows.get(&row.id).is_some_and(|known| known.purged);
            self.rows.insert(row.id, RunRow { purged, ..row });
        }
        if let Some(append) = commit.journal {
            for frame in append.frames {
                let seq = self.next(append.run);
                let frame = StoredFrame { seq, at: frame.at, payload: frame.payload };
                self.frames.entry(append.run).or_default().push(frame);
            }
        }
        self.snapshots.extend(commit.snapshot.map(|snapshot| (snapshot.run, snapshot)));
        self.timers.retain(|key, _| !commit.timers_cleared.contains(key));
        self.timers.extend(commit.timers_set.into_iter().map(|timer| (timer.key, timer)));
        for message in commit.inbox_consumed {
            self.inbox.entry(message).and_modify(|(_, taken)| *taken = Some(Consumer(run)));
        }
        let inbox = commit.inbox_posted.into_iter().map(|post| self.post(post)).collect();
        let mut versions = Vec::new();
        for write in commit.keys {
            let name = (Arc::clone(&write.namespace), Arc::clone(&write.key));
            if self.values.remove(&name).is_some() || write.value.is_some() {
                self.changes.push(Change::Value { namespace: write.namespace, key: Arc::clone(&write.key) });
            }
            versions.push(write.value.map(|value| {
                self.versions += 1;
                let (key, expires, run) = (write.key, write.expires, write.run);
                self.values.insert(name, KeyValue { key, version: self.versions, value, expires, run });
                self.versions
            }));
        }
        Written { inbox, versions }
    }

    fn post(&mut self, post: Post) -> InboxId {
        let same = |(_, (known, _)): &(&InboxId, &(Post, _))| {
            known.run == post.run && known.idempotency_key == post.idempotency_key
        };
        if let Some((earlier, _)) = self.inbox.iter().filter(|_| post.idempotency_key.is_some()).find(same) {
            return *earlier;
        }
        self.messages += 1;
        let id = InboxId(self.messages);
        self.changes.push(Change::Message { id, run: post.run });
        let post = Post { shard: post.shard(), ..post };
        self.inbox.insert(id, (post, None));
        id
    }

    /// Removes everything of a run but its row. Returns how many blobs nobody refers to any more.
    fn purge(&mut self, run: RunId) -> u64 {
        self.forgotten = self.changes.len();
        self.frames.remove(&run);
        self.snapshots.remove(&run);
        self.timers.retain(|key, _| key.run != run);
        self.inbox.retain(|_, (post, taken)| match taken {
            Some(Consumer(by)) => *by != Some(run),
            None => post.run != Some(run),
        });
        self.remove_values(|value| value.run == Some(run));
        let before = self.blobs.len();
        for (_, users) in self.blobs.values_mut() {
            users.remove(&run);
        }
        self.blobs.retain(|_, (_, users)| !users.is_empty());
        if let Some(row) = self.rows.get_mut(&run) {
            row.purged = true;
        }
        (before - self.blobs.len()) as u64
    }

    fn remove_values(&mut self, is_over: impl Fn(&KeyValue) -> bool) -> u64 {
        let over: Vec<_> =
            self.values.iter().filter(|(_, value)| is_over(value)).map(|(name, _)| name.clone()).collect();
        for (namespace, key) in &over {
            self.values.remove(&(Arc::clone(namespace), Arc::clone(key)));
            self.changes.push(Change::Value { namespace: Arc::clone(namespace), key: Arc::clone(key) });
        }
        over.len() as u64
    }

    fn bytes(&self) -> u64 {
        let frames = self.frames.values().flatten().map(|frame| frame.payload.len());
        let blobs = self.blobs.values().map(|(content, _)| content.len());
        frames.chain(self.snapshots.values().map(|snapshot| snapshot.state.len())).chain(blobs).sum::<usize>()
            as u64
    }

    /// The ended run that ended first, among those that have their data, or those that have not.
    fn first_ended(&self, purged: bool) -> (Option<(UnixMillis, RunId)>, u64) {
        let ended = self
            .rows
            .values()
            .filter(|row| row.purged == purged)
            .filter_map(|row| Some((row.ended?, row.id)));
        (ended.clone().min(), ended.count() as u64)
    }

    fn sweep(&mut self, policy: &Retention, now: UnixMillis) -> Swept {
        let values = self.remove_values(|value| value.expires.is_some_and(|at| at <= now));
        let mut swept = Swept { values, ..Swept::default() };
        while let (Some((ended, run)), count) = self.first_ended(false) {
            let is_old = policy.purge_before(now).is_some_and(|before| ended < before);
            let too_many = policy.runs_max.is_some_and(|most| count > most);
            let too_large = policy.bytes_max.is_some_and(|most| self.bytes() > most);
            if !is_old && !too_many && !too_large {
                break;
            }
            swept.blobs += self.purge(run);
            swept.purged += 1;
        }
        while let (Some((ended, run)), count) = self.first_ended(true) {
            let is_old = policy.delete_before(now).is_some_and(|before| ended < before);
            if !is_old && policy.purged_rows_max().is_none_or(|most| count <= most) {
                break;
            }
            self.rows.remove(&run);
            swept.rows += 1;
        }
        swept
    }
}

impl Tiny {
    fn lock(&self) -> MutexGuard<'_, Database> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    fn read<T: Send + 'static>(&self, read: impl FnOnce(&Database) -> T) -> Answer<T> {
        let database = self.lock();
        let closed = matches!(database.stopped, Some(Error::Closed));
        Box::pin(ready(if closed { Err(Error::Closed) } else { Ok(read(&database)) }))
    }

    fn change<T: Send + 'static>(&self, change: impl FnOnce(&mut Database) -> Result<T, Error>) -> Answer<T> {
        let mut database = self.lock();
        let stopped = database.stopped.clone();
        Box::pin(ready(stopped.map_or_else(|| change(&mut database), Err)))
    }

    fn rows(&self, shards: Shards, wanted: impl Fn(&RunRow) -> bool, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|database| {
            let rows =
                database.rows.values().filter(|row| shards.contains(row.id.shard()) && row.ended.is_none());
            rows.filter(|row| wanted(row)).take(limit).cloned().collect()
        })
    }
}

impl Journal for Tiny {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let mut database = self.lock();
        if let Some(reason) = database.stopped.clone() {
            return Err(Refused { commit: Box::new(commit), reason: Refusal::Unavailable(reason) });
        }
        // A backend that writes later returns the second half of `Ack::pending` and keeps the first.
        Ok(Ack::ready(match database.check(&commit) {
            Ok(None) => Ok(Committed::Written(database.write(commit))),
            Ok(Some(earlier)) => Ok(Committed::Duplicate(earlier)),
            Err(conflict) => Err(conflict.into()),
        }))
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        match self.append(commit) {
            Ok(ack) => Box::pin(ack),
            Err(Refused { reason: Refusal::Unavailable(reason), .. }) => Box::pin(ready(Err(reason))),
            Err(refused) => unreachable!("there is always room: {refused:?}"),
        }
    }

    fn flush(&self) -> Answer<()> {
        self.change(|_| Ok(()))
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.read(|database| {
            let snapshot = database.snapshots.get(&run).cloned();
            let upto = snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto);
            let frames = database.frames.get(&run).into_iter().flatten().filter(|frame| frame.seq > upto);
            Some(LoadedRun {
                row: database.rows.get(&run)?.clone(),
                snapshot,
                frames: frames.cloned().collect(),
                next: database.next(run),
                has_messages: database
                    .inbox
                    .values()
                    .any(|(post, taken)| taken.is_none() && post.run == Some(run)),
            })
        })
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.read(|database| {
            let mut page = FramePage::default();
            let mut bytes = 0;
            for frame in
                database.frames.get(&query.run).into_iter().flatten().filter(|frame| frame.seq >= query.from)
            {
                if page.frames.len() >= query.frames_max.max(1) || (bytes > 0 && bytes >= query.bytes_max) {
                    page.next = Some(frame.seq);
                    break;
                }
                bytes += frame.payload.len();
                page.frames.push(frame.clone());
            }
            page
        })
    }
}

impl Runs for Tiny {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.read(|database| database.rows.get(&run).cloned())
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        self.read(|database| {
            let mut rows = database.rows.values();
            let found = rows.find(|row| {
                &*row.workflow == workflow && row.idempotency_key.as_deref() == Some(idempotency_key)
            });
            found.cloned()
        })
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.read(|database| {
            let Some((low, high)) = query.range() else { return RunPage::default() };
            let mut rows: Vec<RunRow> = database
                .rows
                .range(low..=high)
                .map(|(_, row)| row.clone())
                .filter(|row| query.matches(row))
                .collect();
            if query.order == Order::NewestFirst {
                rows.reverse();
            }
            let more = rows.len() > query.limit.max(1);
            rows.truncate(query.limit.max(1));
            RunPage { next: rows.last().filter(|_| more).map(|row| row.id), rows }
        })
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.read(|database| {
            let found = database.rows.values().filter(|row| query.matches(row)).count();
            Count { runs: found.min(query.limit) as u64, is_exact: found <= query.limit }
        })
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.rows(shards, |row| Some(row.id) > after, limit)
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.rows(shards, |row| Some(row.id) > after && row.wake_at.is_none(), limit)
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        let parked = self.rows(shards, |row| row.wake_at.is_some(), usize::MAX);
        Box::pin(async move { parked.await.map(|rows| rows.len() as u64) })
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.read(|database| {
            let known = database.rows.keys().chain(database.frames.keys());
            known.filter(|run| shards.contains(run.shard())).max().copied()
        })
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.read(|database| {
            let due = database.timers.values().filter(|timer| timer.due <= query.until);
            let mut due: Vec<Timer> =
                due.filter(|timer| query.shards.contains(timer.key.run.shard())).copied().collect();
            due.sort_by_key(|timer| (timer.due, timer.key));
            due.retain(|timer| query.start() < Some((timer.due, timer.key)));
            due.truncate(query.limit.max(1));
            due
        })
    }
}

impl Inbox for Tiny {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.read(|database| {
            let pending = database.inbox.iter().filter(|(id, (post, taken))| {
                taken.is_none() && Some(**id) > query.after && query.matches(post)
            });
            let messages = pending.map(|(id, (post, _))| InboxMessage { id: *id, post: post.clone() });
            messages.take(query.limit.max(1)).collect()
        })
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.read(|database| {
            database.inbox.values().filter(|(post, taken)| taken.is_none() && post.run == Some(run)).count()
                as u64
        })
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        self.read(|database| {
            let mut messages = database.inbox.iter();
            let found = messages.find(|(_, (post, _))| {
                post.run == run && post.idempotency_key.as_deref() == Some(idempotency_key)
            });
            found.map(|(id, _)| *id)
        })
    }
}

impl Named for Tiny {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        self.read(|database| database.values.get(&(namespace.into(), key.into())).cloned())
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.read(|database| {
            let named = database.values.iter().filter(|((namespace, key), _)| {
                *namespace == query.namespace
                    && key.starts_with(&query.prefix)
                    && Some(key) > query.after.as_ref()
            });
            let mut values: Vec<KeyValue> = named.map(|(_, value)| value.clone()).collect();
            let more = values.len() > query.limit.max(1);
            values.truncate(query.limit.max(1));
            KeyPage { next: values.last().filter(|_| more).map(|value| Arc::clone(&value.key)), values }
        })
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        self.read(|database| {
            let mut namespaces = database.values.keys().map(|(namespace, _)| namespace);
            namespaces.find(|namespace| &***namespace >= start).cloned()
        })
    }
}

impl Blobs for Tiny {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.read(|database| database.definitions.get(&hash).cloned())
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        // A backend that writes large content here, not in the commit, returns `Blob::written`.
        let blob = Blob::carried(ContentHash::of(&content), content.len() as u64, 0, content);
        self.read(|_| blob)
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        self.read(|database| {
            let (content, _) = database.blobs.get(&hash)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            Some(content.slice(start..start.saturating_add(length).min(content.len())))
        })
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.read(|database| {
            let owned = database.blobs.iter().filter(|(_, (_, owners))| owners.contains(&run));
            owned.map(|(hash, _)| *hash).collect()
        })
    }
}

impl Changes for Tiny {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.read(|database| {
            let seen = after.as_ref().and_then(|cursor| cursor.positions().first().copied());
            let seen = usize::try_from(seen.unwrap_or(0)).unwrap_or(usize::MAX).min(database.changes.len());
            let changes: Vec<Change> = database.changes[seen..].iter().take(limit.max(1)).cloned().collect();
            let next = seen + changes.len();
            ChangePage {
                changes,
                has_more: next < database.changes.len(),
                next: Cursor::new([next as u64]),
                is_incomplete: seen < database.forgotten,
            }
        })
    }

    fn latest(&self) -> Answer<Cursor> {
        self.read(|database| Cursor::new([database.changes.len() as u64]))
    }
}

impl Ownership for Tiny {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.change(|database| Ok(database.owners.register(node)))
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.change(|database| database.owners.renew(node))
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.change(|database| database.owners.claim(node, shards_max))
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.change(|database| {
            database.owners.release(node, shards);
            Ok(())
        })
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.read(|database| database.owners.owned(node))
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        self.change(|database| database.owners.fence(by, node))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.read(|database| database.owners.nodes())
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.change(|database| {
            database.owners.describe(node, settings);
            Ok(())
        })
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.change(|database| database.owners.raise(node, shards, format))
    }

    fn time(&self) -> Answer<Duration> {
        self.read(|_| OwnerTable::time())
    }
}

impl Upkeep for Tiny {
    fn is_empty(&self) -> Answer<bool> {
        self.read(|database| {
            database.rows.is_empty()
                && database.frames.is_empty()
                && database.definitions.is_empty()
                && database.blobs.is_empty()
                && database.values.is_empty()
                && database.messages == 0
        })
    }

    fn sealer(&self) -> Sealer {
        Sealer::none()
    }

    fn condemn(&self, reason: Error) {
        self.lock().stopped.get_or_insert(reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        self.change(|database| Ok(database.sweep(&policy, now)))
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        self.change(|database| {
            Ok(match database.rows.get(&run).map(|row| row.ended.is_some()) {
                None => Deletion::NotFound,
                Some(false) => Deletion::NotEnded,
                Some(true) => {
                    // Its data is no more to be followed, and that it is gone is a change.
                    let forgotten = database.forgotten;
                    database.purge(run);
                    database.forgotten = forgotten;
                    database.rows.remove(&run);
                    database.changes.push(Change::Run(run));
                    Deletion::Deleted
                }
            })
        })
    }

    fn verify(&self) -> Answer<u64> {
        self.read(|database| database.frames.values().map(|frames| frames.len() as u64).sum())
    }

    fn health(&self) -> Health {
        let condition = match self.lock().stopped.clone() {
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
        self.change(|_| Ok(()))
    }

    fn close(&self) -> Answer<()> {
        self.lock().stopped = Some(Error::Closed);
        Box::pin(ready(Ok(())))
    }
}

#[tokio::test]
async fn a_backend_of_another_crate_meets_the_contract() {
    for case in CASES {
        println!("{}", case.name);
        (case.check)(Arc::new(Tiny::default())).await;
    }
    for case in CLUSTER {
        println!("{}", case.name);
        let store = Tiny::default();
        let handles: [Arc<dyn Store>; 2] = [Arc::new(store.clone()), Arc::new(store)];
        (case.check)(handles).await;
    }
}
