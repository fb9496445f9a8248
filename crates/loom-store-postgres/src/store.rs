//! The store: its queue, its thread, its connections, and the ports that write and look after it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use loom_store::{
    Ack, Answer, Commit, Committed, Condition, Deletion, Durability, Error, FramePage, FrameQuery, Health,
    Journal, LoadedRun, Metrics, Refusal, Refused, Retention, RunId, Sealer, Swept, UnixMillis, Upkeep,
};
use tokio::sync::oneshot;

use crate::{
    PostgresOptions,
    blobs::Pins,
    connect::{Connector, Failure, Role, Session, Silent, failure},
    group::Packed,
    queue::{Job, Queue},
    read, schema,
    upkeep::{self, UpkeepWriter},
    verify,
    writer::{self, Shared, Writer},
};

/// A journal on PostgreSQL. Clones share it.
#[derive(Clone)]
pub struct PostgresStore(Arc<Backend>);

/// A connection that is opened again once it was lost.
type Slot = tokio::sync::Mutex<Option<Session>>;

/// Everything that the clones share.
pub(crate) struct Backend {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connector: Connector,
    readers: Vec<Slot>,
    next_reader: AtomicUsize,
    lease: Slot,
    claims: Slot,
    pub(crate) upkeep: tokio::sync::Mutex<UpkeepWriter>,
    pub(crate) pins: Arc<Pins>,
    /// Identifies this store among those that have the database open.
    pub(crate) holder: i64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.0.connector.options().schema)
            .finish_non_exhaustive()
    }
}

impl Backend {
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.shared.queue.stopped(), Some(Error::Closed))
    }

    /// A connection of a role, opened again if it was lost.
    pub(crate) async fn session(&self, role: Role) -> Result<Session, Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let slot = match role {
            Role::Lease => &self.lease,
            Role::Claims => &self.claims,
            _ => &self.readers[self.next_reader.fetch_add(1, Ordering::Relaxed) % self.readers.len()],
        };
        let mut slot = slot.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = self.connector.open(role).await?;
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Replaces the error of a store that was closed meanwhile.
    pub(crate) fn unless_closed<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        answer.map_err(|error| match error {
            Error::Conflict(_) => error,
            _ if self.is_closed() => Error::Closed,
            _ => error,
        })
    }

    /// What is damaged stays so: nothing more is written.
    pub(crate) fn condemn(&self, reason: Error) {
        let mut damage = self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = damage.get_or_insert(reason).clone();
        drop(damage);
        for entry in self.shared.queue.stop(reason.clone()) {
            entry.answer(Err(reason.clone()));
        }
    }
}

/// Why a read failed: the failure of the database, or what the rows say.
pub(crate) enum ReadError {
    Database(tokio_postgres::Error),
    Found(Error),
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(source: tokio_postgres::Error) -> Self {
        Self::Database(source)
    }
}

impl From<Error> for ReadError {
    fn from(source: Error) -> Self {
        Self::Found(source)
    }
}

impl PostgresStore {
    /// Opens the store, and creates its tables if there are none.
    ///
    /// The store has a thread of its own, which moves the bytes of its connections and writes its groups. Its methods may be called
    /// on any runtime.
    ///
    /// # Errors
    /// [`Error::Io`] when the database cannot be used, [`Error::NewerFormat`] and [`Error::NotAStore`] when its tables cannot.
    pub async fn open(options: PostgresOptions) -> Result<Self, Error> {
        options.check()?;
        let options = Arc::new(options);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::io("start the thread of the store", source))?;
        let connector = Connector::new(Arc::clone(&options), runtime.handle().clone());
        let queue = Queue::new(options.queue_bytes_max, options.linger);
        let shared = Arc::new(Shared { queue, metrics: Mutex::default(), damage: Mutex::default() });
        let (opened, wait) = oneshot::channel();
        let (its_connector, its_shared) = (connector.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("loom-postgres".into()).spawn(move || {
            runtime.block_on(async {
                match open_writer(&its_connector).await {
                    Ok(open) => {
                        let holder = open.2.writer;
                        let writer = Writer::new(its_shared, its_connector, open);
                        if opened.send(Ok(holder)).is_ok() {
                            writer.run().await;
                        }
                    }
                    // The caller may have given up.
                    Err(reason) => opened.send(Err(reason)).unwrap_or_default(),
                }
            });
        });
        let thread = thread.map_err(|source| Error::io("start the thread of the store", source))?;
        let holder = wait.await.unwrap_or(Err(Error::Closed))?;
        let readers = (0..options.readers.max(1)).map(|_| Slot::default()).collect();
        Ok(Self(Arc::new(Backend {
            shared,
            connector,
            readers,
            next_reader: AtomicUsize::new(0),
            lease: Slot::default(),
            claims: Slot::default(),
            upkeep: tokio::sync::Mutex::default(),
            pins: Arc::default(),
            holder,
            thread: Mutex::new(Some(thread)),
        })))
    }

    pub(crate) fn backend(&self) -> Arc<Backend> {
        Arc::clone(&self.0)
    }

    /// Reads, and tries again when the connection was lost: a read changes nothing.
    pub(crate) fn read<T, F>(&self, read: impl Fn(Session) -> F + Send + 'static) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send,
    {
        let backend = self.backend();
        Box::pin(async move {
            let mut attempts = 3;
            loop {
                attempts -= 1;
                let session = backend.session(Role::Reader).await?;
                let error = match backend.connector.awaited(&session, read(session.clone())).await {
                    Some(Ok(found)) => return Ok(found),
                    Some(Err(ReadError::Database(source)))
                        if attempts > 0 && failure(&source) == Failure::Connection =>
                    {
                        continue;
                    }
                    None if attempts > 0 => {
                        // The others probably lead nowhere, too.
                        for slot in &backend.readers {
                            drop(slot.lock().await.take());
                        }
                        continue;
                    }
                    Some(Err(ReadError::Database(source))) => crate::rows::read_error(source),
                    Some(Err(ReadError::Found(error))) => error,
                    None => Error::io("read", Silent),
                };
                if let Error::Damaged { .. } = error {
                    backend.condemn(error.clone());
                }
                return backend.unless_closed(Err(error));
            }
        })
    }
}

async fn open_writer(
    connector: &Connector,
) -> Result<(Session, crate::partitions::Partitions, crate::statement::Turn), Error> {
    let session = connector.open(Role::Upkeep).await?;
    schema::migrate(session.client(), &connector.options().schema).await?;
    drop(session);
    writer::open(connector).await
}

impl Drop for Backend {
    /// The thread ends once it has written what was accepted.
    fn drop(&mut self) {
        self.shared.queue.push_job(Job::Close(oneshot::channel().0));
    }
}

impl Journal for PostgresStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        let queue = &self.0.shared.queue;
        let refused = |commit: Commit, reason| Refused { commit: Box::new(commit), reason };
        if let Some(reason) = queue.stopped() {
            return Err(refused(commit, Refusal::Unavailable(reason)));
        }
        if let Err(conflict) = commit.validate() {
            return Ok(Ack::ready(Err(conflict.into())));
        }
        let bytes = commit.payload_bytes();
        let charge = match queue.charge(bytes) {
            Ok(charge) => charge,
            Err(conflict) => return Ok(Ack::ready(Err(conflict.into()))),
        };
        let Some(room) = queue.try_reserve(charge) else { return Err(refused(commit, Refusal::Full)) };
        let (reply, ack) = Ack::pending();
        match queue.push(Packed::new(commit), bytes, reply, room) {
            Ok(()) => Ok(ack),
            Err(rejected) => {
                let (packed, reason) = *rejected;
                Err(refused(packed.commit, Refusal::Unavailable(reason)))
            }
        }
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        let backend = self.backend();
        Box::pin(async move {
            let queue = &backend.shared.queue;
            if let Some(reason) = queue.stopped() {
                return Err(reason);
            }
            commit.validate()?;
            let bytes = commit.payload_bytes();
            let charge = queue.charge(bytes)?;
            let packed = Packed::new(commit);
            let room = queue.reserve(charge).await;
            let (reply, ack) = Ack::pending();
            queue.push(packed, bytes, reply, room).map_err(|rejected| rejected.1)?;
            ack.await
        })
    }

    fn flush(&self) -> Answer<()> {
        // An empty commit is written after everything before it.
        let empty = self.commit(Commit::new());
        Box::pin(async move { empty.await.map(drop) })
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.read(move |session| read::load(session, run))
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.read(move |session| read::frames(session, query))
    }
}

impl Upkeep for PostgresStore {
    fn is_empty(&self) -> Answer<bool> {
        self.read(read::is_empty)
    }

    fn sealer(&self) -> Sealer {
        self.0.connector.options().sealer.clone()
    }

    fn condemn(&self, reason: Error) {
        self.0.condemn(reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        let backend = self.backend();
        Box::pin(async move { backend.connector.run(upkeep::sweep(Arc::clone(&backend), policy, now)).await })
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        let backend = self.backend();
        Box::pin(async move { backend.connector.run(upkeep::delete_run(Arc::clone(&backend), run)).await })
    }

    fn verify(&self) -> Answer<u64> {
        self.read(verify::verify)
    }

    fn health(&self) -> Health {
        let queue = &self.0.shared.queue;
        let condition = match queue.stopped() {
            None => Condition::Running,
            Some(Error::Closed) => Condition::Closed,
            Some(reason) => Condition::Paused(reason),
        };
        let durability = match self.0.connector.options().durability {
            Durability::Durable => Durability::Durable,
            Durability::Relaxed | Durability::Memory => Durability::Relaxed,
        };
        Health {
            durability,
            condition,
            queued_bytes: queue.bytes_queued(),
            queue_bytes_max: queue.bytes_max(),
        }
    }

    fn metrics(&self) -> Metrics {
        self.0.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn resume(&self) -> Answer<()> {
        if self.0.is_closed() {
            return Box::pin(async { Err(Error::Closed) });
        }
        let (reply, answer) = oneshot::channel();
        self.0.shared.queue.push_job(Job::Resume(reply));
        Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) })
    }

    fn close(&self) -> Answer<()> {
        let backend = self.backend();
        let (reply, done) = oneshot::channel();
        backend.shared.queue.push_job(Job::Close(reply));
        Box::pin(async move {
            // Without a reply the writer has ended before.
            done.await.unwrap_or_default();
            let thread = backend.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            // It ends now; what is left of it are connections that close.
            drop(thread);
            Ok(())
        })
    }
}
