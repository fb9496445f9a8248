//! Shared memory over the named values of a store, which may be the store that keeps the runs.
//!
//! Writers of one process are ordered by locks, so they cannot conflict with each other. Writers of different processes are
//! kept apart by the conditions of their commits.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use loom_store::{
    Commit, Committed, Conflict, Error as StoreError, KeyExpectation, KeyQuery, KeyValue, KeyWrite, Sealer,
    Store, UnixMillis,
};
use tokio::sync::{Mutex, watch};

use crate::{
    Change, Changes, Entry, Error, Key, ListQuery, Listed, Namespace, NamespacesPage, NamespacesQuery,
    Outcome, Page, Reply, Request, Revision, SharedMemory, Watch, WatchQuery,
    encoding::{self, Encoded, Unfit},
    locks::{Locked, Locks},
    transact,
    watch::StoredWatch,
};

/// Returns the current time.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// Revisions that a process reserves at a time.
const BLOCK: u64 = 1 << 20;

/// How often a transaction is made again after another process has changed its keys.
const ATTEMPTS_MAX: usize = 100;

/// How often a key is read again when its content, stored apart, was replaced between two reads.
const READS_MAX: usize = 100;

/// The namespace and name of the number from which the next block of revisions is reserved.
const REVISIONS: (&str, &str) = ("memory.revisions", "next");

/// Shared memory in a store. Cheap to clone. All parts of a process that write to the same store must use clones of one value,
/// so that they have the same locks.
#[derive(Clone)]
pub struct StoredMemory {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    sealer: Sealer,
    now: Clock,
    locks: Arc<Locks>,
    /// Revisions that this process has reserved and not used.
    revisions: Mutex<Range<u64>>,
    /// Counts commits of this process, for watchers.
    news: watch::Sender<u64>,
}

impl fmt::Debug for StoredMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMemory").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

/// A transaction whose writes have not been committed.
#[derive(Debug)]
pub struct Prepared {
    /// What the operations return, once the writes are committed.
    pub outcomes: Vec<Outcome>,
    /// The writes, with the versions that were read as their conditions. Empty when nothing changes.
    pub writes: Vec<KeyWrite>,
    /// Keeps other transactions of this process away from the keys. Drop it when the commit has succeeded or failed.
    pub held: Held,
}

/// The locks of a prepared transaction.
pub struct Held {
    #[expect(dead_code, reason = "held for its Drop")]
    locks: Vec<Locked>,
    /// Whose watchers are notified when the locks are released, because keys may have been written.
    writer: Option<Arc<Shared>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.news.send_modify(|count| *count += 1);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// A key as it was read.
#[derive(Debug)]
struct Read {
    /// The store's version, also of an expired key.
    version: Option<u64>,
    entry: Option<Entry>,
    /// The name of the content that is stored apart.
    apart: Option<Arc<str>>,
}

impl StoredMemory {
    /// Shared memory in this store.
    pub fn new(store: Arc<dyn Store>, now: Clock) -> StoredMemory {
        let sealer = store.sealer();
        let shared = Shared {
            store,
            sealer,
            now,
            locks: Arc::default(),
            revisions: Mutex::new(0..0),
            news: watch::Sender::new(0),
        };
        StoredMemory { shared: Arc::new(shared) }
    }

    /// Applies operations without committing their writes. A commit that contains the writes is refused with
    /// [`Conflict::Key`] when another process has changed one of the keys since; then prepare the transaction again.
    ///
    /// # Errors
    /// Like [`SharedMemory::transact`].
    ///
    /// # Cancel safety
    /// Dropping the future, or what it returned, changes nothing.
    pub async fn prepare(&self, namespace: &Namespace, requests: &[Request]) -> Result<Prepared, Error> {
        let mut keys: Vec<&Key> = requests.iter().map(|request| &request.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut locked = Vec::new();
        // In the order of their names, so that transactions never wait for each other in a circle. One key can be read as of
        // one moment without a lock.
        if requests.iter().any(|request| request.operation.writes()) || keys.len() > 1 {
            for key in &keys {
                locked.push(self.lock(namespace, key).await);
            }
        }
        let mut found = BTreeMap::new();
        for key in keys {
            found.insert(key.clone(), self.read(namespace, key).await?);
        }
        let memory = self.clone();
        Reserved { memory, namespace: namespace.clone(), found, locked }.prepare(requests).await
    }

    /// Waits until no other transaction of this process holds the lock of a key, and reads it. Until the result is dropped,
    /// others wait. Do not wait for another key meanwhile: two callers could wait for each other.
    ///
    /// # Errors
    /// Like [`SharedMemory::transact`].
    ///
    /// # Cancel safety
    /// Dropping the future, or what it returned, changes nothing.
    pub async fn reserve(&self, namespace: &Namespace, key: &Key) -> Result<Reserved, Error> {
        let locked = vec![self.lock(namespace, key).await];
        let found = BTreeMap::from([(key.clone(), self.read(namespace, key).await?)]);
        Ok(Reserved { memory: self.clone(), namespace: namespace.clone(), found, locked })
    }

    /// Commits a prepared transaction. False when another process has changed a key, and nothing was written.
    ///
    /// # Errors
    /// The store's.
    pub async fn commit_prepared(&self, prepared: Prepared) -> Result<bool, Error> {
        let Prepared { writes, held, .. } = prepared;
        if writes.is_empty() {
            return Ok(true);
        }
        let mut commit = Commit::new();
        commit.keys = writes;
        let is_committed = self.commit(commit).await;
        drop(held);
        is_committed
    }

    async fn lock(&self, namespace: &Namespace, key: &Key) -> Locked {
        self.shared.locks.lock(format!("{namespace}/{key}").into()).await
    }

    /// Reads the changes of keys that begin with `prefix`, for a reader that stores its own position.
    pub fn changes(&self, namespace: Namespace, prefix: &str) -> Changes {
        Changes::new(self.clone(), namespace, prefix)
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Changes when this process has written a key.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// What a key holds, unless it is absent or has expired.
    pub(crate) async fn entry(&self, namespace: &Namespace, key: &Key) -> Result<Option<Entry>, Error> {
        let now = (self.shared.now)();
        Ok(self.read(namespace, key).await?.entry.filter(|entry| !entry.is_expired(now)))
    }

    /// Reads a key. Its content may be a second named value, which is replaced together with the first.
    async fn read(&self, namespace: &Namespace, key: &Key) -> Result<Read, Error> {
        let unreadable = |why| Error::Unreadable { namespace: namespace.clone(), key: key.clone(), why };
        let store = &self.shared.store;
        let (place, heads) = (encoding::place(namespace, key), heads_of(namespace));
        for _ in 0..READS_MAX {
            let Some(stored) = store.key(&heads, key.as_arc_str()).await? else {
                return Ok(Read { version: None, entry: None, apart: None });
            };
            let head = encoding::head(&stored.value).map_err(unreadable)?;
            let apart = head.apart.map(|hash| apart_name(&hash, key));
            let mut content = None;
            if let Some(name) = &apart {
                content = store.key(&contents_of(namespace), name).await?;
                if content.is_none() {
                    let again = store.key(&heads, key.as_arc_str()).await?;
                    if again.is_none_or(|again| again.version != stored.version) {
                        continue;
                    }
                }
            }
            let content = content.as_ref().map(|content| &content.value[..]);
            let content = encoding::content(head, &stored.value, content, &self.shared.sealer, &place);
            let content = content.map_err(unreadable)?;
            let entry = Entry { content, revision: head.revision, expires: stored.expires };
            return Ok(Read { version: Some(stored.version), entry: Some(entry), apart });
        }
        Err(Error::Contended { namespace: namespace.clone() })
    }

    fn write(
        &self,
        namespace: &Namespace,
        key: &Key,
        found: &Read,
        change: &Change,
        revision: Revision,
        writes: &mut Vec<KeyWrite>,
    ) -> Result<(), Error> {
        let expect = found.version.map_or(KeyExpectation::Absent, KeyExpectation::Version);
        let mut head = KeyWrite {
            namespace: heads_of(namespace),
            key: Arc::clone(key.as_arc_str()),
            expect,
            run: namespace.run(),
            ..KeyWrite::default()
        };
        let mut content: Option<(Arc<str>, Bytes)> = None;
        if let Change::Put { content: new, expires } = change {
            let place = encoding::place(namespace, key);
            let Encoded { head: encoded, apart } =
                encoding::encode(new, revision, &self.shared.sealer, &place).map_err(
                    |unfit| match unfit {
                        Unfit::TooLarge { bytes } => Error::TooLarge { key: key.clone(), bytes },
                        Unfit::TooDeep { depth } => Error::TooDeep { key: key.clone(), depth },
                    },
                )?;
            (head.value, head.expires) = (Some(encoded), *expires);
            content = apart.map(|(hash, content)| (apart_name(&hash, key), content));
        }
        let (expires, run) = (head.expires, head.run);
        writes.push(head);
        let of_content = |key, value| KeyWrite {
            namespace: contents_of(namespace),
            key,
            value,
            expires,
            run,
            ..KeyWrite::default()
        };
        if let Some(old) = &found.apart
            && content.as_ref().is_none_or(|(new, _)| new != old)
        {
            writes.push(KeyWrite { expires: None, ..of_content(Arc::clone(old), None) });
        }
        if let Some((name, content)) = content {
            writes.push(of_content(name, Some(content)));
        }
        Ok(())
    }

    /// A revision that was never used, greater than `newest`.
    async fn revision_after(&self, newest: Option<Revision>) -> Result<Revision, Error> {
        let newest = newest.map_or(0, |newest| newest.0);
        let mut block = self.shared.revisions.lock().await;
        if block.is_empty() || block.start <= newest {
            *block = self.reserve_revisions(newest).await?;
        }
        let revision = Revision(block.start);
        block.start += 1;
        Ok(revision)
    }

    /// Reserves a block of revisions greater than `newest`, durably, so that no process ever uses them again.
    async fn reserve_revisions(&self, newest: u64) -> Result<Range<u64>, Error> {
        let (namespace, name) = REVISIONS;
        loop {
            let stored = self.shared.store.key(namespace, name).await?;
            let next = stored.as_ref().and_then(next_of).unwrap_or(1).max(newest + 1);
            let end = next.saturating_add(BLOCK);
            let mut commit = Commit::new();
            commit.keys.push(KeyWrite {
                namespace: namespace.into(),
                key: name.into(),
                expect: stored
                    .map_or(KeyExpectation::Absent, |stored| KeyExpectation::Version(stored.version)),
                value: Some(Bytes::copy_from_slice(&end.to_le_bytes())),
                ..KeyWrite::default()
            });
            if self.commit(commit).await? {
                return Ok(next..end);
            }
        }
    }

    /// Commits. False when another process has changed a key, and nothing was written.
    async fn commit(&self, commit: Commit) -> Result<bool, Error> {
        match self.shared.store.commit(commit).await {
            Ok(Committed::Written(_) | Committed::Duplicate(_)) => Ok(true),
            Err(StoreError::Conflict(Conflict::Key { .. })) => Ok(false),
            Err(why) => Err(Error::Store(why)),
        }
    }
}

/// Keys that were read, and that no other transaction of this process writes meanwhile.
#[derive(Debug)]
pub struct Reserved {
    memory: StoredMemory,
    namespace: Namespace,
    found: BTreeMap<Key, Read>,
    locked: Vec<Locked>,
}

impl Reserved {
    /// What a key holds, unless it is absent or has expired.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        let now = (self.memory.shared.now)();
        self.found.get(key)?.entry.as_ref().filter(|entry| !entry.is_expired(now))
    }

    /// Applies operations on the reserved keys without committing their writes; see [`StoredMemory::prepare`].
    ///
    /// # Errors
    /// Like [`SharedMemory::transact`].
    ///
    /// # Panics
    /// If a request has a key that was not reserved.
    pub async fn prepare(self, requests: &[Request]) -> Result<Prepared, Error> {
        let Reserved { memory, namespace, found, locked } = self;
        let now = (memory.shared.now)();
        let current: BTreeMap<Key, Entry> =
            found.iter().filter_map(|(key, read)| Some((key.clone(), read.entry.clone()?))).collect();
        let transacted = transact(requests, &current, now)?;
        let mut writes = Vec::new();
        let mut after = current;
        after.retain(|_, entry| !entry.is_expired(now));
        if !transacted.changes.is_empty() {
            let newest =
                found.values().filter_map(|read| read.entry.as_ref()).map(|entry| entry.revision).max();
            let revision = memory.revision_after(newest).await?;
            for (key, change) in &transacted.changes {
                memory.write(&namespace, key, &found[key], change, revision, &mut writes)?;
                match change {
                    Change::Put { content, expires } => {
                        let entry = Entry { content: content.clone(), revision, expires: *expires };
                        after.insert(key.clone(), entry);
                    }
                    Change::Delete => drop(after.remove(key)),
                    Change::None => {}
                }
            }
        }
        let outcome = |(request, value): (&Request, _)| {
            let entry = after.get(&request.key);
            Outcome {
                value,
                revision: entry.map(|entry| entry.revision),
                kind: entry.map(|entry| entry.content.kind()),
                expires: entry.and_then(|entry| entry.expires),
            }
        };
        let outcomes = requests.iter().zip(transacted.results).map(outcome).collect();
        let writer = (!writes.is_empty()).then(|| Arc::clone(&memory.shared));
        Ok(Prepared { outcomes, writes, held: Held { locks: locked, writer } })
    }
}

impl SharedMemory for StoredMemory {
    fn transact<'a>(&'a self, namespace: &'a Namespace, requests: Vec<Request>) -> Reply<'a, Vec<Outcome>> {
        Box::pin(async move {
            for _ in 0..ATTEMPTS_MAX {
                let mut prepared = self.prepare(namespace, &requests).await?;
                let outcomes = std::mem::take(&mut prepared.outcomes);
                if self.commit_prepared(prepared).await? {
                    return Ok(outcomes);
                }
            }
            Err(Error::Contended { namespace: namespace.clone() })
        })
    }

    fn watch(&self, query: WatchQuery) -> Reply<'_, Box<dyn Watch>> {
        Box::pin(async move {
            let watch = StoredWatch::begin(self.clone(), query).await?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        })
    }

    fn namespaces(&self, query: NamespacesQuery) -> Reply<'_, NamespacesPage> {
        Box::pin(async move {
            let NamespacesQuery { prefix, after, limit } = query;
            let limit = limit.max(1);
            let prefix = format!("{HEADS}{prefix}");
            // The least text that is greater than a namespace.
            let following = |namespace: &Namespace| format!("{}\0", heads_of(namespace));
            let mut start = after.as_ref().map_or_else(|| prefix.clone(), following);
            let mut page = NamespacesPage::default();
            while let Some(found) = self.shared.store.namespace_from(&start).await? {
                let Some(name) = found.strip_prefix(HEADS).filter(|_| found.starts_with(&prefix)) else {
                    break;
                };
                if page.namespaces.len() == limit {
                    page.next = page.namespaces.last().cloned();
                    break;
                }
                let namespace = Namespace::parse(name, None)?;
                start = following(&namespace);
                page.namespaces.push(namespace);
            }
            Ok(page)
        })
    }

    fn list(&self, query: ListQuery) -> Reply<'_, Page> {
        Box::pin(async move {
            let ListQuery { namespace, prefix, after, limit } = query;
            let stored = KeyQuery { namespace: heads_of(&namespace), prefix, after, limit: limit.max(1) };
            let page = self.shared.store.keys(stored).await?;
            let now = (self.shared.now)();
            let mut keys = Vec::with_capacity(page.values.len());
            for stored in page.values {
                if stored.expires.is_some_and(|expires| expires <= now) {
                    continue;
                }
                let key = Key::new(&stored.key)?;
                let head = encoding::head(&stored.value).map_err(|why| Error::Unreadable {
                    namespace: namespace.clone(),
                    key: key.clone(),
                    why,
                })?;
                keys.push(Listed { key, kind: head.kind, revision: head.revision, expires: stored.expires });
            }
            Ok(Page { keys, next: page.next })
        })
    }
}

/// What the store's namespaces of keys begin with.
const HEADS: &str = "memory/";

/// The store's namespace of the keys.
pub(crate) fn heads_of(namespace: &Namespace) -> Arc<str> {
    format!("{HEADS}{namespace}").into()
}

/// The store's namespace of contents that are stored apart.
fn contents_of(namespace: &Namespace) -> Arc<str> {
    format!("memory.content/{namespace}").into()
}

/// The name of content that is stored apart. It includes the key, so that equal contents have owners of their own.
fn apart_name(hash: &loom_store::ContentHash, key: &Key) -> Arc<str> {
    format!("{hash}/{key}").into()
}

/// The number in the named value of [`REVISIONS`].
fn next_of(stored: &KeyValue) -> Option<u64> {
    Some(u64::from_le_bytes(stored.value.as_ref().try_into().ok()?))
}
