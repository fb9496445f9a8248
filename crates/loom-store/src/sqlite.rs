//! The embedded default: one SQLite database in a folder, written by one thread in group commits.
//!
//! ```text
//!  append --> [Queue] --> writer thread: one transaction, one sync a group --> loom.db-wal
//!                              | answers every Ack                                 |
//!  reads  --> reader threads <-'                        checkpointer thread: loom.db
//! ```
//! The folder holds `loom.db` with its log, `loom.lock`, and large blobs under `blobs/`. `docs/journal-format.md`
//! describes the format, and what is promised when the disk fails.

mod writer;

mod apply;
mod queue;

mod read;
mod readers;
mod rows;

mod checkpointer;
mod clock;
mod connect;
mod faults;
mod files;
mod lock;
mod log_scan;
mod schema;
mod sweep;
mod verify;

use std::{
    fs,
    future::ready,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    Ack, Answer, BLOB_ROW_MAX, Blob, Cause, Commit, Committed, Condition, ContentHash, Durability, Error,
    FramePage, FrameQuery, Health, InboxId, InboxMessage, InboxQuery, KeyPage, KeyQuery, KeyValue, LoadedRun,
    Metrics, Refusal, Refused, Retention, RunId, RunPage, RunQuery, RunRow, Store, Swept, Timer, TimerQuery,
    UnixMillis, Urgency, blob::Body, metrics::Meter, pack::pack,
};

use self::{
    apply::Packed,
    checkpointer::{Checkpointer, Limits, Progress},
    files::Files,
    lock::FolderLock,
    queue::{Entry, Job, Queue},
    read::Found,
    readers::Readers,
    sweep::Sweep,
    writer::{Setting, Writer},
};

pub use self::faults::{FaultPoint, Faults};

/// How to open a [`SqliteStore`]. The defaults suit a server with a local disk.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// What a commit survives. [`Durability::Memory`] is taken as [`Durability::Relaxed`]: this store has a disk.
    pub durability: Durability,
    /// The most the writer's queue holds, in bytes; each commit counts its payload and 1 KiB. Default 64 MiB, at most
    /// 1 GiB.
    pub queue_bytes_max: usize,
    /// Most commits one transaction holds. Default 1,000.
    pub group_commits_max: usize,
    /// Payload bytes after which a transaction takes no further commit. Default 1 MiB.
    pub group_bytes_max: usize,
    /// How long lazy commits wait for an urgent one. Default 20 ms.
    pub linger: Duration,
    /// Threads that read. Default 2.
    pub readers: usize,
    /// Page cache of each connection, in bytes. Default 16 MiB.
    pub cache_bytes: usize,
    /// Payload bytes after which the log is copied into the database in the background. Default 4 MiB.
    pub checkpoint_bytes: usize,
    /// Length of the log, in pages of 4 KiB, past which the writer waits for it to be copied. Default 16,384.
    pub log_pages_max: u32,
    /// The most the database may grow to, in bytes; past it the store pauses, as when the disk is full. By default the
    /// disk is the limit.
    pub database_bytes_max: Option<u64>,
    /// Makes the disk fail, in tests.
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
            faults: None,
        }
    }
}

/// A store in a folder: one writer thread, group commits, a write-ahead log. Dropping it writes what was taken in, and closes it.
#[derive(Debug)]
pub struct SqliteStore(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    setting: Arc<Setting>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    checkpointer: Checkpointer,
    files: Arc<Files>,
    meter: Arc<Meter>,
    writer: Mutex<Option<JoinHandle<Result<(), Error>>>>,
    /// Given back last, when no thread touches the files any more.
    lock: Mutex<Option<FolderLock>>,
}

impl SqliteStore {
    /// Opens the store in `folder`, and creates both if need be. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it open, [`Error::NewerFormat`] or [`Error::NotAStore`] when it is
    /// not one this program can use, [`Error::Damaged`] when it is broken, [`Error::Open`] when the disk refuses.
    pub fn open(folder: &Path, options: SqliteOptions) -> Result<Self, Error> {
        let failed = |source: std::io::Error| Error::Open { path: folder.into(), source: Arc::new(source) };
        files::create_private(folder).map_err(failed)?;
        let lock = FolderLock::take(folder)?;
        let setting = Arc::new(Setting {
            path: folder.join("loom.db"),
            durability: match options.durability {
                Durability::Memory => Durability::Relaxed,
                durability => durability,
            },
            cache_bytes: options.cache_bytes,
            database_bytes_max: options.database_bytes_max,
            group_commits_max: options.group_commits_max.max(1),
            group_bytes_max: options.group_bytes_max,
            faults: options.faults,
        });
        // A log that was written without syncs may be torn in many places; the mark says so to the next opening.
        let unsynced_log = folder.join("loom.relaxed");
        if setting.durability == Durability::Relaxed {
            fs::File::create(&unsynced_log).map_err(failed)?;
            files::sync_folder(folder).map_err(failed)?;
        } else if !unsynced_log.exists() {
            check_log(&setting.path)?;
        }
        let open = setting.connect()?;
        if setting.durability == Durability::Durable && unsynced_log.exists() {
            // The log has been copied and emptied, and is synced from here on.
            fs::remove_file(&unsynced_log).map_err(failed)?;
        }
        // The files' names must survive with the first commit in them.
        files::sync_folder(folder).map_err(failed)?;
        let files = Arc::new(Files::new(folder));
        let connect = || {
            connect::reader(&setting.path, setting.cache_bytes)
                .map_err(|source| open_error(&setting.path, source))
        };
        let sweeper = connect()?;
        let removed = files.sweep(|hash| Ok(!matches!(read::blob(&sweeper, hash)?, Found::Nothing)))?;
        if removed > 0 {
            tracing::info!(removed, "blob files without an owner were removed");
        }
        let connections = (0..options.readers.max(1)).map(|_| connect()).collect::<Result<_, _>>()?;
        let readers = Arc::new(Readers::start(connections).map_err(failed)?);

        let queue = Arc::new(Queue::new(options.queue_bytes_max, options.linger));
        let meter = Arc::new(Meter::default());
        let limits = Limits {
            every_bytes: options.checkpoint_bytes.max(1),
            log_pages_max: options.log_pages_max.into(),
        };
        let progress = Arc::new(Progress::default());
        let checkpoint_connection = connect::writer(&setting.path, setting.durability, 1 << 20)
            .map_err(|source| open_error(&setting.path, source))?;
        let checkpointer = Checkpointer::start(
            checkpoint_connection,
            limits,
            Arc::clone(&setting),
            Arc::clone(&queue),
            Arc::clone(&meter),
            Arc::clone(&progress),
        )
        .map_err(failed)?;
        let writer = Writer::new(
            Arc::clone(&setting),
            Arc::clone(&queue),
            Arc::clone(&meter),
            Arc::clone(&files),
            Box::new(move |bytes| progress.wrote(bytes, limits.every_bytes)),
            open,
        );
        let writer =
            thread::Builder::new().name("loom-store-write".into()).spawn(|| writer.run()).map_err(failed)?;
        Ok(Self(Arc::new(Parts {
            setting,
            queue,
            readers,
            checkpointer,
            files,
            meter,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        })))
    }

    /// Puts a commit for which there is room into the queue.
    fn enqueue(
        queue: &Queue,
        commit: Commit,
        bytes: usize,
        charge: OwnedSemaphorePermit,
    ) -> Result<Ack, Refused> {
        let (reply, receiver) = oneshot::channel();
        let entry = Entry { packed: Packed::new(commit), bytes, taken_in: clock::now(), reply, charge };
        match queue.push(entry) {
            Ok(()) => Ok(Ack::waiting(receiver)),
            Err(back) => {
                let (entry, reason) = *back;
                Err(Refused { commit: Box::new(entry.packed.commit), reason: reason.into() })
            }
        }
    }
}

impl Parts {
    /// Writes what was taken in, ends the threads in the order that leaves nobody without an answer, and gives the
    /// folder back. Blocks for as long as the disk takes; whoever comes second waits for the first.
    fn shut(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = writer.take() else { return Ok(()) };
        self.queue.push_job(Job::Close);
        // A writer that panicked has dropped every answer, which its callers saw as "closed".
        let closed = thread.join().unwrap_or(Err(Error::Closed));
        self.checkpointer.stop();
        self.readers.stop();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}

/// Stops when the log is broken in a place that was synced.
fn check_log(database: &Path) -> Result<(), Error> {
    let log = database.with_extension("db-wal");
    let verdict =
        log_scan::scan(&log).map_err(|source| Error::Open { path: log.clone(), source: Arc::new(source) })?;
    match verdict {
        log_scan::Verdict::Sound => Ok(()),
        log_scan::Verdict::Damaged { frame } => {
            let what = "does not check, though it was synced; opening the store would lose what came after";
            Err(Error::damaged(format_args!("frame {frame} of {} {what}", log.display())))
        }
    }
}

/// Says what a failure of SQLite while opening means.
fn open_error(path: &Path, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Error::NotAStore { path: path.into() },
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => Error::damaged(source),
        _ => Error::Open { path: PathBuf::from(path), source: Arc::new(source) as Cause },
    }
}

impl Store for SqliteStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let bytes = commit.payload_bytes();
        let checked = commit.validate().and_then(|()| self.0.queue.charge(bytes));
        let charge = match checked {
            Ok(charge) => charge,
            // Nobody could ever write it, so it is answered like any other refusal by the writer.
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

    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.0.readers.ask(move |connection| read::run(connection, run))
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        let (workflow, key) = (workflow.to_owned(), idempotency_key.to_owned());
        self.0.readers.ask(move |connection| read::run_by_key(connection, &workflow, &key))
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.0.readers.ask(move |connection| read::runs(connection, &query))
    }

    fn unfinished(&self, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.0.readers.ask(move |connection| read::unfinished(connection, after, limit))
    }

    fn newest_run(&self) -> Answer<Option<RunId>> {
        self.0.readers.ask(read::newest_run)
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.0.readers.ask(move |connection| read::load(connection, run))
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.0.readers.ask(move |connection| read::frames(connection, query))
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.0.readers.ask(move |connection| read::timers(connection, query))
    }

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

    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.0.readers.ask(move |connection| read::definition(connection, hash))
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        let (files, setting) = (Arc::clone(&self.0.files), Arc::clone(&self.0.setting));
        self.0.readers.ask(move |_| {
            let hash = ContentHash::of(&content);
            let body = if content.len() > BLOB_ROW_MAX {
                Body::File(files.write(&setting, hash, &content)?)
            } else {
                let (codec, stored) = pack(&content);
                Body::Row(codec, stored)
            };
            Ok(Blob { hash, size: content.len() as u64, body })
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

    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.0.readers.ask(move |connection| read::key(connection, &namespace, &key))
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.0.readers.ask(move |connection| read::keys(connection, &query))
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        let queue = Arc::clone(&self.0.queue);
        let counted = self.0.readers.ask(move |connection| {
            sweep::count(connection, &policy).map_err(|source| Error::io("count runs", source))
        });
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let count = counted.await?;
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

    fn verify(&self) -> Answer<u64> {
        let files = Arc::clone(&self.0.files);
        self.0.readers.ask(move |connection| verify::verify(connection, &files))
    }

    fn health(&self) -> Health {
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
        if matches!(self.0.queue.stopped(), Some(Error::Closed)) {
            return Box::pin(ready(Err(Error::Closed)));
        }
        let (reply, answer) = oneshot::channel();
        self.0.queue.push_job(Job::Resume(reply));
        Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) })
    }

    fn close(&self) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        let parts = Arc::clone(&self.0);
        // The threads' ends are waited for on a thread, because a runtime must not be blocked.
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
            tracing::error!(%error, "the store was not closed cleanly; its log is read at the next start");
        }
    }
}
