//! A store on a disk whose failures come from a seed, to simulate the users of a store.
//!
//! A commit is accepted and waits until the caller gives the writer its [`turn`](FaultyStore::turn), which writes and
//! syncs everything that waits. A turn may fail, before or after anything took effect; the store then pauses as a
//! real one does. A [`crash`](FaultyStore::crash) drops the waiting commits, except that the first few may have
//! reached the disk without being acknowledged. Reads fail occasionally. All of this is determined by the seed; no
//! thread or clock is used.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Seeded;
use crate::{
    Ack, Answer, Blob, Blobs, ChangePage, Changes, Commit, Committed, Condition, ContentHash, Count, Cursor,
    Deletion, Durability, Error, FramePage, FrameQuery, Health, Inbox, InboxId, InboxMessage, InboxQuery,
    Journal, KeyPage, KeyQuery, KeyValue, LoadedRun, MemoryStore, Metrics, Named, NewNode, Node, NodeId,
    Ownership, Refusal, Refused, Reply, Retention, RunId, RunPage, RunQuery, RunRow, Runs, Sealer, Shards,
    Swept, Timer, TimerQuery, UnixMillis, Upkeep, Written,
};

/// How often the disk fails: once in this many times, or never.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRate {
    /// Turns of the writer.
    pub turns: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// Whether commits are acknowledged before they are written. No store may do that: it is for the control of a test, which
    /// has to notice it. Commits whose acknowledgement says more than "written" wait.
    pub acknowledges_early: bool,
}

/// A store that fails. Clones share the same store.
#[derive(Clone, Debug)]
pub struct FaultyStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What is on the disk.
    disk: MemoryStore,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    random: Seeded,
    rate: FaultRate,
    condition: Condition,
    /// Accepted, but only in memory.
    waiting: Vec<(Commit, Option<Reply>)>,
    /// Commits that reached the disk in a turn that failed: visible once the store is resumed or reopened.
    unseen: Vec<Commit>,
}

impl FaultyStore {
    /// Opens the store on `disk`.
    pub fn new(disk: MemoryStore, seed: u64, rate: FaultRate) -> Self {
        let state = State {
            random: Seeded::new(seed),
            rate,
            condition: Condition::Running,
            waiting: Vec::new(),
            unseen: Vec::new(),
        };
        Self(Arc::new(Shared { disk, state: Mutex::new(state), news: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a commit was accepted.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn work(&self) {
        self.0.news.notified().await;
    }

    /// Writes and syncs the waiting commits, or fails.
    pub fn turn(&self) {
        let mut state = self.lock();
        if !matches!(state.condition, Condition::Running) || state.waiting.is_empty() {
            return;
        }
        let group = mem::take(&mut state.waiting);
        if state.strikes(|rate| rate.turns) {
            let reached = match state.random.below(3) {
                0 => 0,
                1 => group.len(),
                _ => state.random.below(group.len() as u64 + 1) as usize,
            };
            let error = Error::Paused { operation: "write a group", source: Arc::new(no_room()) };
            state.condition = Condition::Paused(error.clone());
            for (place, (commit, answer)) in group.into_iter().enumerate() {
                if place < reached {
                    state.unseen.push(commit);
                }
                // The caller may be gone.
                if let Some(answer) = answer {
                    answer.send(Err(error.clone()));
                }
            }
            return;
        }
        for (commit, answer) in group {
            let written = self.0.write(commit);
            if let Some(answer) = answer {
                answer.send(written);
            }
        }
    }

    /// Ends the process that has the store open: from now on the store reports only that it is closed. The waiting
    /// commits are lost, except that the first few may have reached the disk. Returns what the next process finds.
    pub fn crash(&self) -> MemoryStore {
        let mut state = self.lock();
        let waiting = mem::take(&mut state.waiting);
        let reached = state.random.below(waiting.len() as u64 + 1) as usize;
        state.condition = Condition::Closed;
        let unseen = mem::take(&mut state.unseen);
        for commit in unseen.into_iter().chain(waiting.into_iter().take(reached).map(|(commit, _)| commit)) {
            // A refused commit leaves no trace, and no caller is left.
            self.0.write(commit).ok();
        }
        self.0.disk.clone()
    }

    fn read<T: Send + 'static>(&self, ask: impl FnOnce(&MemoryStore) -> Answer<T>) -> Answer<T> {
        let mut state = self.lock();
        if matches!(state.condition, Condition::Closed) {
            return Box::pin(async { Err(Error::Closed) });
        }
        if state.strikes(|rate| rate.reads) {
            let error =
                Error::Io { operation: "read", source: Arc::new(io::Error::other("injected disk failure")) };
            return Box::pin(async move { Err(error) });
        }
        ask(&self.0.disk)
    }
}

impl State {
    fn strikes(&mut self, one_in: impl Fn(&FaultRate) -> Option<u64>) -> bool {
        one_in(&self.rate).is_some_and(|times| self.random.one_in(times))
    }

    fn refusal(&self) -> Option<Error> {
        match &self.condition {
            Condition::Running => None,
            Condition::Paused(error) => Some(error.clone()),
            Condition::Closed => Some(Error::Closed),
        }
    }
}

impl Shared {
    fn write(&self, commit: Commit) -> Result<Committed, Error> {
        match self.disk.append(commit) {
            // The memory store resolves every `Ack` immediately.
            Ok(ack) => futures_ready(ack),
            Err(_) => Err(Error::Closed),
        }
    }
}

/// The result of a future that is already resolved.
fn futures_ready(ack: Ack) -> Result<Committed, Error> {
    let mut ack = std::pin::pin!(ack);
    match ack.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => unreachable!("the memory store resolves every `Ack` immediately"),
    }
}

fn no_room() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Journal for FaultyStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let mut state = self.lock();
        if let Some(error) = state.refusal() {
            return Err(Refused { commit: Box::new(commit), reason: Refusal::Unavailable(error) });
        }
        let (reply, ack) = Ack::pending();
        let says_no_more = commit.inbox_posted.is_empty() && commit.keys.is_empty();
        let reply = if state.rate.acknowledges_early && says_no_more {
            reply.send(Ok(Committed::Written(Written::default())));
            None
        } else {
            Some(reply)
        };
        state.waiting.push((commit, reply));
        self.0.news.notify_one();
        Ok(ack)
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        match self.append(commit) {
            Ok(ack) => Box::pin(ack),
            Err(Refused { reason: Refusal::Unavailable(error), .. }) => Box::pin(async move { Err(error) }),
            Err(Refused { reason: Refusal::Full, .. }) => unreachable!("its queue has no end"),
        }
    }

    fn flush(&self) -> Answer<()> {
        let empty = self.commit(Commit::new());
        Box::pin(async move { empty.await.map(drop) })
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.read(|disk| disk.load(run))
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.read(|disk| disk.frames(query))
    }
}

impl Runs for FaultyStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.read(|disk| disk.run(run))
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        self.read(|disk| disk.run_by_key(workflow, idempotency_key))
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.read(|disk| disk.runs(query))
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.read(|disk| disk.count(query))
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|disk| disk.unfinished(shards, after, limit))
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|disk| disk.awake(shards, after, limit))
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.read(|disk| disk.parked(shards))
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.read(|disk| disk.newest_run(shards))
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.read(|disk| disk.timers(query))
    }
}

impl Inbox for FaultyStore {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.read(|disk| disk.inbox(query))
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.read(|disk| disk.pending(run))
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        self.read(|disk| disk.posted(run, idempotency_key))
    }
}

impl Named for FaultyStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        self.read(|disk| disk.key(namespace, key))
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.read(|disk| disk.keys(query))
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        self.read(|disk| disk.namespace_from(start))
    }
}

impl Blobs for FaultyStore {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.read(|disk| disk.definition(hash))
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        self.read(|disk| disk.put_blob(content))
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        self.read(|disk| disk.blob(hash, offset, length))
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.read(|disk| disk.blobs_of(run))
    }
}

impl Upkeep for FaultyStore {
    fn is_empty(&self) -> Answer<bool> {
        self.read(MemoryStore::is_empty)
    }

    fn sealer(&self) -> Sealer {
        Sealer::none()
    }

    fn condemn(&self, reason: Error) {
        let mut state = self.lock();
        if !matches!(state.condition, Condition::Closed) {
            state.condition = Condition::Paused(reason);
        }
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        self.read(|disk| disk.sweep(policy, now))
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        self.read(|disk| disk.delete_run(run))
    }

    fn verify(&self) -> Answer<u64> {
        self.read(MemoryStore::verify)
    }

    fn health(&self) -> Health {
        let condition = self.lock().condition.clone();
        Health { durability: Durability::Durable, condition, queued_bytes: 0, queue_bytes_max: usize::MAX }
    }

    fn metrics(&self) -> Metrics {
        self.0.disk.metrics()
    }

    fn resume(&self) -> Answer<()> {
        let mut state = self.lock();
        if matches!(state.condition, Condition::Paused(_)) {
            for commit in mem::take(&mut state.unseen) {
                // Its caller already got an error; a refused commit leaves no trace.
                self.0.write(commit).ok();
            }
            state.condition = Condition::Running;
        }
        let closed = matches!(state.condition, Condition::Closed);
        Box::pin(async move { if closed { Err(Error::Closed) } else { Ok(()) } })
    }

    fn close(&self) -> Answer<()> {
        while matches!(self.lock().condition, Condition::Running) && !self.lock().waiting.is_empty() {
            self.turn();
        }
        self.lock().condition = Condition::Closed;
        Box::pin(async { Ok(()) })
    }
}

impl Ownership for FaultyStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.read(|disk| disk.register(node))
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.read(|disk| disk.renew(node))
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.read(|disk| disk.claim(node, shards_max))
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.read(|disk| disk.release(node, shards))
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.read(|disk| disk.owned(node))
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        self.read(|disk| disk.fence(by, node))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.read(|disk| disk.nodes())
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.read(|disk| disk.describe(node, settings))
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.read(|disk| disk.raise(node, shards, format))
    }

    fn time(&self) -> Answer<Duration> {
        self.read(|disk| disk.time())
    }
}

impl Changes for FaultyStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.read(|disk| disk.changes(after, limit))
    }

    fn latest(&self) -> Answer<Cursor> {
        self.read(MemoryStore::latest)
    }
}
