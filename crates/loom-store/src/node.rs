//! One process among several: what it owns now, and the store as it sees it.
//!
//! [`Standing`] is written by the task that keeps the lease and read by everything else. [`NodeStore`] wraps a store: commits to a
//! run are written [under](crate::Commit::under) the run's shard, and what is listed for all shards is limited to those of this
//! process. A program that was written for one process needs to know little more.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    Ack, Answer, AtWork, Blob, Blobs, ChangePage, Changes, Commit, Committed, Conflict, ContentHash, Count,
    Cursor, Deletion, Error, FramePage, FrameQuery, Health, Inbox, InboxId, InboxMessage, InboxQuery,
    Interrupted, Journal, KeyPage, KeyQuery, KeyValue, LoadedRun, Metrics, Named, NewNode, Node, NodeId,
    Ownership, Recipient, Refused, Retention, RunId, RunPage, RunQuery, RunRow, Runs, Sealer, Seq, Shard,
    Shards, Store, Swept, Timer, TimerQuery, Under, UnixMillis, Upkeep,
};

/// What a process may do now, as one of several nodes. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    now: Mutex<Now>,
    changed: Notify,
    turn: AtomicU16,
}

#[derive(Debug)]
struct Now {
    node: Option<NodeId>,
    owned: Shards,
    open: Shards,
    leaving: Shards,
    deadline: Option<Instant>,
    /// The shards whose journals may have a format, and the format.
    raised: (Shards, u32),
}

impl Default for Now {
    fn default() -> Self {
        Self {
            node: None,
            owned: Shards::NONE,
            open: Shards::NONE,
            leaving: Shards::NONE,
            deadline: None,
            raised: (Shards::NONE, 0),
        }
    }
}

impl Standing {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of this process, while it is a node.
    pub fn node(&self) -> Option<NodeId> {
        self.lock().node
    }

    /// The shards that the node owns. Their runs may be loaded and written.
    pub fn owned(&self) -> Shards {
        self.lock().owned
    }

    /// The shards in which something new may begin: those that the node owns, has read, and is not about to give back.
    pub fn open(&self) -> Shards {
        self.lock().open
    }

    /// Whether the node owns a shard.
    pub fn owns(&self, shard: Shard) -> bool {
        self.lock().owned.contains(shard)
    }

    /// Whether something new may begin in a shard.
    pub fn is_open(&self, shard: Shard) -> bool {
        self.lock().open.contains(shard)
    }

    /// Whether runs of a shard may be loaded: the node owns it, and is not about to give it back.
    pub fn may_load(&self, shard: Shard) -> bool {
        let now = self.lock();
        now.owned.contains(shard) && !now.leaving.contains(shard)
    }

    /// An open shard, another one each time; none if none is open.
    pub fn next_open(&self) -> Option<Shard> {
        let open = self.open();
        let start = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let shard = |step: u16| Shard::new(start.wrapping_add(step) % Shard::COUNT);
        (0..Shard::COUNT).map(shard).find(|shard| open.contains(*shard))
    }

    /// Whether something that others can observe may start now on behalf of a shard: the node owns it, and its lease is certainly
    /// still running.
    #[expect(clippy::disallowed_methods, reason = "leases end by the monotonic clock of the machine")]
    pub fn may_start(&self, shard: Shard) -> bool {
        let now = self.lock();
        now.owned.contains(shard) && now.deadline.is_some_and(|deadline| Instant::now() < deadline)
    }

    /// Waits until something that others can observe may start on behalf of a shard. Never returns if the shard is lost for good.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn until_it_may_start(&self, shard: Shard) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.may_start(shard) {
                return;
            }
            changed.await;
        }
    }

    /// On whose behalf something is written that belongs to a shard.
    ///
    /// # Errors
    /// [`Conflict::Lost`] when the node does not own the shard.
    pub fn under(&self, shard: Shard) -> Result<Under, Conflict> {
        let now = self.lock();
        match now.node {
            Some(node) if now.owned.contains(shard) => Ok(Under { node, shard }),
            node => Err(Conflict::Lost { node: node.unwrap_or(NodeId(0)), shard }),
        }
    }

    /// Sets who this process is, what it owns, and until when something may start.
    pub fn set(&self, node: Option<NodeId>, owned: Shards, deadline: Option<Instant>) {
        let mut now = self.lock();
        (now.open, now.leaving) = (now.open.and(owned), now.leaving.and(owned));
        now.raised.0 = now.raised.0.and(owned);
        (now.node, now.owned, now.deadline) = (node, owned, deadline);
        drop(now);
        self.0.changed.notify_waiters();
    }

    /// The shards whose journals may have `format`.
    pub fn raised(&self, format: u32) -> Shards {
        let (shards, raised) = self.lock().raised;
        if format <= raised { shards } else { Shards::NONE }
    }

    /// Takes note of the shards whose journals may have `format`, which is the newest that this program writes; see
    /// [`Ownership::raise`].
    pub fn raise(&self, shards: Shards, format: u32) {
        let mut now = self.lock();
        now.raised = (shards.and(now.owned), format);
    }

    /// Whether the journals of a shard may have `format`: only nodes that read it claim the shard.
    pub fn writes(&self, shard: Shard, format: u32) -> bool {
        let (shards, raised) = self.lock().raised;
        format <= raised && shards.contains(shard)
    }

    /// Lets something new begin in these shards, of those that the node owns.
    pub fn open_up(&self, shards: Shards) {
        let mut now = self.lock();
        now.open = now.open.or(shards).and(now.owned);
    }

    /// Lets nothing new begin in these shards, which the node is about to give back.
    pub fn close_down(&self, shards: Shards) {
        let mut now = self.lock();
        now.open = now.open.without(shards);
        now.leaving = now.leaving.or(shards.and(now.owned));
    }
}

/// A store as one node sees it.
#[derive(Debug)]
pub struct NodeStore {
    store: Arc<dyn Store>,
    standing: Standing,
}

impl NodeStore {
    /// Wraps `store` for the node with this standing.
    pub fn new(store: Arc<dyn Store>, standing: Standing) -> Self {
        Self { store, standing }
    }

    fn mine(&self, shards: Shards) -> Shards {
        shards.and(self.standing.owned())
    }

    /// Fences a commit that writes to a run.
    fn fenced(&self, commit: &mut Commit) -> Result<(), Error> {
        if commit.under.is_none()
            && let Some(run) = commit.run()
        {
            commit.under = Some(self.standing.under(run.shard())?);
        }
        Ok(())
    }
}

impl Journal for NodeStore {
    fn append(&self, mut commit: Commit) -> Result<Ack, Refused> {
        match self.fenced(&mut commit) {
            Ok(()) => self.store.append(commit),
            Err(error) => Err(Refused { commit: Box::new(commit), reason: error.into() }),
        }
    }

    fn commit(&self, mut commit: Commit) -> Answer<Committed> {
        match self.fenced(&mut commit) {
            Ok(()) => self.store.commit(commit),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn flush(&self) -> Answer<()> {
        self.store.flush()
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.store.load(run)
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.store.frames(query)
    }
}

impl Runs for NodeStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.store.run(run)
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        self.store.run_by_key(workflow, idempotency_key)
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.store.runs(query)
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.store.count(query)
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.store.unfinished(self.mine(shards), after, limit)
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.store.awake(self.mine(shards), after, limit)
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.store.parked(self.mine(shards))
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.store.newest_run(self.mine(shards))
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.store.timers(TimerQuery { shards: self.mine(query.shards), ..query })
    }
}

impl Inbox for NodeStore {
    /// The messages to one run are those of its shard.
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        let shards = match query.recipient {
            Recipient::Run(_) => query.shards,
            Recipient::Anyone | Recipient::Nobody => self.mine(query.shards),
        };
        self.store.inbox(InboxQuery { shards, ..query })
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.store.pending(run)
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        self.store.posted(run, idempotency_key)
    }
}

impl Named for NodeStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        self.store.key(namespace, key)
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.store.keys(query)
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        self.store.namespace_from(start)
    }
}

impl Blobs for NodeStore {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.store.definition(hash)
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        self.store.put_blob(content)
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        self.store.blob(hash, offset, length)
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.store.blobs_of(run)
    }
}

impl Changes for NodeStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.store.changes(after, limit)
    }

    fn value_changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.store.value_changes(after, limit)
    }

    fn latest(&self) -> Answer<Cursor> {
        self.store.latest()
    }
}

impl Ownership for NodeStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.store.register(node)
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.store.renew(node)
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.store.claim(node, shards_max)
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.store.release(node, shards)
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.store.owned(node)
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        self.store.fence(by, node)
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.store.nodes()
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.store.describe(node, settings)
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.store.raise(node, shards, format)
    }

    fn time(&self) -> Answer<Duration> {
        self.store.time()
    }
}

impl Upkeep for NodeStore {
    fn is_empty(&self) -> Answer<bool> {
        self.store.is_empty()
    }

    fn sealer(&self) -> Sealer {
        self.store.sealer()
    }

    fn at_work(&self, run: RunId, next: Seq) -> AtWork {
        self.store.at_work(run, next)
    }

    fn interrupted(&self) -> Interrupted {
        self.store.interrupted()
    }

    fn forget_interrupted(&self) {
        self.store.forget_interrupted();
    }

    fn condemn(&self, reason: Error) {
        self.store.condemn(reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        self.store.sweep(policy, now)
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        self.store.delete_run(run)
    }

    fn verify(&self) -> Answer<u64> {
        self.store.verify()
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn metrics(&self) -> Metrics {
        self.store.metrics()
    }

    fn resume(&self) -> Answer<()> {
        self.store.resume()
    }

    fn close(&self) -> Answer<()> {
        self.store.close()
    }
}
