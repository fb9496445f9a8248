//! The embedded default: one SQLite database in a directory, written by one thread in group commits.
//!
//! ```text
//!  append --> [Queue] --> writer thread: one transaction, one sync a group --> loom.db-wal
//!                              | resolves every Ack                                |
//!  reads  --> reader threads <-'                        checkpointer thread: loom.db
//! ```
//! The directory holds `loom.db` with its write-ahead log, `loom.key`, `loom.lock`, `loom.marks`, and large blobs under `blobs/`.
//! `docs/journal-format.md` describes the format, and what is promised when the disk fails.

mod writer;

mod apply;
mod changes;
mod queue;

mod read;
mod readers;
mod rows;

mod checkpointer;
mod clock;
mod connect;
mod faults;
mod files;
mod health;
mod key;
mod list;
mod lock;
mod log_scan;
mod marks;
mod open;
mod schema;
mod sweep;
mod verify;

use std::{
    future::ready,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    Ack, Answer, AtWork, BLOB_ROW_MAX, Blob, Blobs, ChangePage, Changes, Commit, Committed, Condition,
    ContentHash, Count, Cursor, Deletion, Durability, Error, FramePage, FrameQuery, Health, Inbox, InboxId,
    InboxMessage, InboxQuery, Interrupted, Journal, KeyPage, KeyQuery, KeyValue, LoadedRun, Metrics, Named,
    NewNode, Node, NodeId, OwnerTable, Ownership, Refusal, Refused, Retention, RunId, RunPage, RunQuery,
    RunRow, Runs, Sealer, Seq, Shards, Swept, Timer, TimerQuery, UnixMillis, Upkeep, Urgency,
    at_work::Release, metrics::Meter, pack::pack,
};

use self::{
    apply::Packed,
    checkpointer::Checkpointer,
    files::Files,
    health::Watch,
    lock::DirectoryLock,
    marks::Marks,
    open::open_error,
    queue::{Entry, Job, Queue},
    read::Found,
    readers::Readers,
    sweep::Sweep,
    writer::Setting,
};

pub use self::faults::{FaultPoint, Faults};

/// How to open a [`SqliteStore`]. The defaults suit a server with a local disk.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// What a commit survives. [`Durability::Memory`] is treated as [`Durability::Relaxed`], because this store has a
    /// disk.
    pub durability: Durability,
    /// Capacity of the write queue, in bytes; each commit counts as its payload plus 1 KiB. At most 1 GiB; default 64
    /// MiB.
    pub queue_bytes_max: usize,
    /// The most commits in one transaction. Default 1,000.
    pub group_commits_max: usize,
    /// Payload bytes after which a transaction accepts no further commit. Default 1 MiB.
    pub group_bytes_max: usize,
    /// How long lazy commits wait for an urgent one. Default 20 ms.
    pub linger: Duration,
    /// Number of threads that read. Default 2.
    pub readers: usize,
    /// Page cache of each connection, in bytes. Default 16 MiB.
    pub cache_bytes: usize,
    /// Payload bytes after which the log is copied into the database in the background. Default 4 MiB.
    pub checkpoint_bytes: usize,
    /// Length of the log, in pages of 4 KiB, above which the writer waits for the log to be copied. Default 16,384.
    pub log_pages_max: u32,
    /// The largest size of the database, in bytes. A store that reaches it pauses, as when the disk is full. By
    /// default only the disk is the limit.
    pub database_bytes_max: Option<u64>,
    /// Whether secret values in payloads are sealed with a key that the store keeps in its directory, in `loom.key`.
    /// Default true. Set it to false only for a store that encrypts everything, as `with_key` does.
    pub seals: bool,
    /// Injects disk failures, in tests.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            queue_bytes_max: 64 << 20,
            group_commits_max: 1_000,
            group_bytes_max: 1 << 20,
            linger: Duration::from_millis(20),
            readers: 2,
            cache_bytes: 16 << 20,
            checkpoint_bytes: 4 << 20,
            log_pages_max: 16_384,
            database_bytes_max: None,
            seals: true,
            faults: None,
        }
    }
}

/// A store in a directory: one writer thread, group commits, a write-ahead log. Dropping it writes what was accepted
/// and closes it.
#[derive(Debug)]
pub struct SqliteStore(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    setting: Arc<Setting>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    /// `None` in a read-only store, which has no writer either.
    checkpointer: Option<Checkpointer>,
    files: Arc<Files>,
    meter: Arc<Meter>,
    watch: Arc<Watch>,
    marks: Option<Arc<Marks>>,
    sealer: Sealer,
    owners: OwnerTable,
    writer: Mutex<Option<JoinHandle<Result<(), Error>>>>,
    closed: AtomicBool,
    /// Released last, when no thread uses the files any more.
    lock: Mutex<Option<DirectoryLock>>,
}

impl SqliteStore {
    /// Puts a commit into the queue whose space is already reserved.
    fn enqueue(
        queue: &Queue,
        commit: Commit,
        bytes: usize,
        charge: OwnedSemaphorePermit,
    ) -> Result<Ack, Refused> {
        let (reply, ack) = Ack::pending();
        let entry = Entry { packed: Packed::new(commit), bytes, taken_in: clock::now(), reply, charge };
        match queue.push(entry) {
            Ok(()) => Ok(ack),
            Err(back) => {
                let (entry, reason) = *back;
                Err(Refused { commit: Box::new(entry.packed.commit), reason: reason.into() })
            }
        }
    }
}

impl Parts {
    /// Writes what was accepted, ends the threads in an order that leaves no caller without a reply, and releases the
    /// directory. Blocks for as long as the disk takes; a second caller waits for the first.
    fn shut(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let closed = match writer.take() {
            None => {
                drop(self.queue.stop(Error::Closed));
                Ok(())
            }
            Some(thread) => {
                self.queue.push_job(Job::Close);
                // When the writer panicked, its replies were dropped, which their callers saw as "closed".
                thread.join().unwrap_or(Err(Error::Closed))
            }
        };
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.stop();
        }
        self.readers.stop();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}

impl Journal for SqliteStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let bytes = commit.payload_bytes();
        let checked = commit.validate().and_then(|()| self.0.queue.charge(bytes));
        let charge = match checked {
            Ok(charge) => charge,
            // It could never be written, so it is refused like any other commit that contradicts the store.
            Err(conflict) => return Ok(Ack::ready(Err(conflict.into()))),
        };
        match self.0.queue.try_reserve(charge) {
            Some(charge) => Self::enqueue(&self.0.queue, commit, bytes, charge),
            None => Err(Refused { commit: Box::new(commit), reason: Refusal::Full }),
        }
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        let queue = Arc::clone(&self.0.queue);
        Box::pin(async move {
            let bytes = commit.payload_bytes();
            commit.validate()?;
            let charge = queue.reserve(queue.charge(bytes)?).await;
            match Self::enqueue(&queue, commit, bytes, charge) {
                Ok(ack) => ack.await,
                Err(Refused { reason: Refusal::Unavailable(error), .. }) => Err(error),
                Err(Refused { reason: Refusal::Full, .. }) => unreachable!("the charge was reserved"),
            }
        })
    }

    fn flush(&self) -> Answer<()> {
        let flushed = self.commit(Commit { urgency: Urgency::Now, ..Commit::new() });
        Box::pin(async move { flushed.await.map(drop) })
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.0.readers.ask(move |connection| read::load(connection, run))
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.0.readers.ask(move |connection| read::frames(connection, query))
    }
}

impl Runs for SqliteStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.0.readers.ask(move |connection| read::run(connection, run))
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        let (workflow, key) = (workflow.to_owned(), idempotency_key.to_owned());
        self.0.readers.ask(move |connection| read::run_by_key(connection, &workflow, &key))
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.0.readers.ask(move |connection| list::runs(connection, &query))
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.0.readers.ask(move |connection| list::count(connection, &query))
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.0.readers.ask(move |connection| read::unfinished(connection, shards, after, limit))
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.0.readers.ask(move |connection| read::awake(connection, shards, after, limit))
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.0.readers.ask(move |connection| read::parked(connection, shards))
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.0.readers.ask(move |connection| read::newest_run(connection, shards))
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.0.readers.ask(move |connection| read::timers(connection, query))
    }
}

impl Inbox for SqliteStore {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.0.readers.ask(move |connection| read::inbox(connection, query))
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.0.readers.ask(move |connection| read::pending(connection, run))
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        let key = idempotency_key.to_owned();
        self.0.readers.ask(move |connection| read::posted(connection, run, &key))
    }
}

impl Named for SqliteStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.0.readers.ask(move |connection| read::key(connection, &namespace, &key))
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.0.readers.ask(move |connection| read::keys(connection, &query))
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        let start = start.to_owned();
        self.0.readers.ask(move |connection| read::namespace_from(connection, &start))
    }
}

impl Blobs for SqliteStore {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.0.readers.ask(move |connection| read::definition(connection, hash))
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        let (files, setting) = (Arc::clone(&self.0.files), Arc::clone(&self.0.setting));
        let watch = Arc::clone(&self.0.watch);
        if self.0.marks.is_none() {
            return Box::pin(ready(Err(Error::ReadOnly)));
        }
        self.0.readers.ask(move |_| {
            if let Some(damage) = watch.damage() {
                return Err(damage.clone());
            }
            let hash = ContentHash::of(&content);
            let size = content.len() as u64;
            if content.len() > BLOB_ROW_MAX {
                return Ok(Blob::written(hash, size, files.write(&setting, hash, &content)?));
            }
            let (codec, stored) = pack(&content);
            Ok(Blob::carried(hash, size, codec as u8, stored))
        })
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        let files = Arc::clone(&self.0.files);
        self.0.readers.ask(move |connection| {
            Ok(match read::blob(connection, hash)? {
                Found::Nothing => None,
                Found::InFile(size) => Some(files.read(hash, size, offset, length)?),
                Found::Content(content) => {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                    Some(content.slice(start..start.saturating_add(length).min(content.len())))
                }
            })
        })
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.0.readers.ask(move |connection| read::blobs_of(connection, run))
    }
}

impl Upkeep for SqliteStore {
    fn is_empty(&self) -> Answer<bool> {
        self.0.readers.ask(read::is_empty)
    }

    fn sealer(&self) -> Sealer {
        self.0.sealer.clone()
    }

    fn at_work(&self, run: RunId, next: Seq) -> AtWork {
        let Some(marks) = &self.0.marks else { return AtWork::UNMARKED };
        let release = || Arc::clone(marks) as Arc<dyn Release>;
        marks.mark(run, next).map_or(AtWork::UNMARKED, |slot| AtWork::marked(release(), slot))
    }

    fn interrupted(&self) -> Interrupted {
        self.0.marks.as_ref().map(|marks| marks.left()).unwrap_or_default()
    }

    fn forget_interrupted(&self) {
        if let Some(marks) = &self.0.marks {
            marks.forget_left();
        }
    }

    fn condemn(&self, reason: Error) {
        self.0.watch.condemn(&reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        let queue = Arc::clone(&self.0.queue);
        let counted = self.0.readers.ask(move |connection| {
            sweep::count(connection, &policy).map_err(|source| Error::io("count the runs", source))
        });
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let count = counted.await?;
            if let Some(reason) = queue.stopped() {
                return Err(reason);
            }
            queue.push_job(Job::Sweep(Box::new(Sweep {
                policy,
                now,
                count,
                swept: Swept::default(),
                reply,
            })));
            answer.await.unwrap_or(Err(Error::Closed))
        })
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        let queue = Arc::clone(&self.0.queue);
        Box::pin(async move {
            if let Some(reason) = queue.stopped() {
                return Err(reason);
            }
            let (reply, answer) = oneshot::channel();
            queue.push_job(Job::Delete(run, reply));
            answer.await.unwrap_or(Err(Error::Closed))
        })
    }

    fn verify(&self) -> Answer<u64> {
        let files = Arc::clone(&self.0.files);
        self.0.readers.ask(move |connection| verify::verify(connection, &files))
    }

    fn health(&self) -> Health {
        // Callers that wait for something other than a commit learn of it here.
        if self.0.queue.stopped().is_none()
            && let Err(reason) = self.0.watch.check_directory()
        {
            let cause = std::error::Error::source(&reason).map(ToString::to_string);
            tracing::error!(error = %reason, cause, "the store is paused");
            writer::answer_all(self.0.queue.stop(reason.clone()), &reason);
        }
        let condition = match self.0.queue.stopped() {
            None => Condition::Running,
            Some(Error::Closed) => Condition::Closed,
            Some(reason) => Condition::Paused(reason),
        };
        Health {
            durability: self.0.setting.durability,
            condition,
            queued_bytes: self.0.queue.bytes_queued(),
            queue_bytes_max: self.0.queue.bytes_max(),
        }
    }

    fn metrics(&self) -> Metrics {
        self.0.meter.read()
    }

    fn resume(&self) -> Answer<()> {
        if let Some(reason @ (Error::Closed | Error::ReadOnly)) = self.0.queue.stopped() {
            return Box::pin(ready(Err(reason)));
        }
        let (reply, answer) = oneshot::channel();
        self.0.queue.push_job(Job::Resume(reply));
        Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) })
    }

    fn close(&self) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        let parts = Arc::clone(&self.0);
        // The threads are joined on a thread, because a runtime must not be blocked.
        let closing = thread::Builder::new().name("loom-store-close".into()).spawn(move || {
            reply.send(parts.shut()).unwrap_or_default();
        });
        match closing {
            Ok(_) => Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) }),
            Err(_) => Box::pin(ready(self.0.shut())),
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Err(error) = self.0.shut() {
            tracing::error!(%error, "the store was not closed cleanly; the next start recovers it from its log");
        }
    }
}

impl SqliteStore {
    fn own<T: Send + 'static>(&self, ask: impl FnOnce(&OwnerTable) -> Result<T, Error>) -> Answer<T> {
        let closed = self.0.closed.load(Ordering::Acquire);
        Box::pin(ready(if closed { Err(Error::Closed) } else { ask(&self.0.owners) }))
    }
}

/// The directory belongs to one process, so nodes live and die with it.
impl Ownership for SqliteStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        let id = self.own(|owners| Ok(owners.register(node)));
        let queue = Arc::clone(&self.0.queue);
        Box::pin(async move {
            let id = id.await?;
            // The next process continues after this id.
            let (reply, answer) = oneshot::channel();
            queue.push_job(Job::Register(id, reply));
            answer.await.unwrap_or(Err(Error::Closed)).map(|()| id)
        })
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.own(|owners| owners.renew(node))
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.own(|owners| owners.claim(node, shards_max))
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.own(|owners| {
            owners.release(node, shards);
            Ok(())
        })
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.own(|owners| Ok(owners.owned(node)))
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        let fenced = self.own(|owners| owners.fence(by, node));
        let flushed = self.flush();
        Box::pin(async move {
            let fenced = fenced.await?;
            // The group that is being written may hold commits of the node, which were checked before.
            flushed.await?;
            Ok(fenced)
        })
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.own(|owners| Ok(owners.nodes()))
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.own(|owners| {
            owners.describe(node, settings);
            Ok(())
        })
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.own(|owners| owners.raise(node, shards, format))
    }

    fn time(&self) -> Answer<Duration> {
        self.own(|_| Ok(OwnerTable::time()))
    }
}

impl Changes for SqliteStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.0
            .readers
            .ask(move |connection| changes::changes(connection, after.as_ref(), limit, &changes::ALL))
    }

    fn value_changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.0
            .readers
            .ask(move |connection| changes::changes(connection, after.as_ref(), limit, &changes::VALUES))
    }

    fn latest(&self) -> Answer<Cursor> {
        self.0.readers.ask(changes::latest)
    }
}
