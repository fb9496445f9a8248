//! A store that seals payloads before they reach the store below, and opens them after they have been read.
//!
//! Sealed are frames, snapshots, messages, blobs, named values, and the details, errors and tracking ids of rows:
//! everything that can hold what a workflow was given or what it made. In the clear are the columns that the store
//! searches by (ids, names, keys, statuses, times) and the definitions, which are programs. Error codes and tracking ids
//! are searched by as well, so equal ones are sealed to equal strings; error texts are searched after they are opened.
//! Each record is bound to its position, so that none can be moved to the position of another.
//!
//! Sealed bytes do not compress, so payloads are compressed first.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Ack, Answer, AtWork, Blob, Blobs, ChangePage, Changes, Commit, Committed, Conflict, ContentHash, Count,
    Cursor, Deletion, Error, FramePage, FrameQuery, Health, Inbox, InboxId, InboxMessage, InboxQuery,
    Interrupted, Journal, KeyExpectation, KeyPage, KeyQuery, KeyValue, KeyWrite, LoadedRun, Metrics, Named,
    NewNode, Node, NodeId, Ownership, Refused, Retention, RunId, RunPage, RunQuery, RunRow, Runs, Seq,
    Shards, Snapshot, Store, StoredFrame, Swept, Timer, TimerQuery, UnixMillis, Upkeep,
    pack::{Codec, pack, unpack},
    seal::{SALT, Sealer, StoreKey, TAG},
};

/// Bytes of content in each part of a blob. To read any byte of a part, all of it has to be decrypted.
const PART: u64 = 64 * 1024;

/// Bytes before the parts of a blob: the salt and the length of the content.
const BLOB_HEAD: usize = SALT + 8;

/// How many rows a search in error texts opens at once, and for one page.
const SEARCHED_AT_ONCE: usize = 500;
const SEARCHED_MAX: usize = 5_000;

/// The prefix of sealed texts. Stores of earlier versions hold error codes in the clear.
const SEALED_TEXT: &str = "sealed:";

/// The namespace and name of the value that marks a store as encrypted and identifies the key.
const MARK: (&str, &str) = ("loom-store", "encrypted");

/// The content of the mark before it is sealed.
const MARK_TEXT: &[u8] = b"this store is encrypted";

/// Why a store cannot be used with a key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The store is encrypted, and no key was given.
    #[error("the store is encrypted: a key is required")]
    Missing,
    /// The store is encrypted with a different key.
    #[error("the store is encrypted with a different key")]
    Wrong,
    /// The store holds data that was written without a key.
    #[error("the store was created without a key and cannot be encrypted afterwards")]
    NotEncrypted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Wraps `store` so that everything written to it is sealed with `key` and everything read from it is opened, and
/// verifies that the store was always used that way.
///
/// An empty store is bound to the first key that it is opened with. Without a key, `store` itself is returned.
///
/// # Errors
/// [`KeyError`] when the store and the key do not match, or when the store fails.
pub async fn with_key(store: Arc<dyn Store>, key: Option<&StoreKey>) -> Result<Arc<dyn Store>, KeyError> {
    let mark = store.key(MARK.0, MARK.1).await?;
    let (Some(key), Some(mark)) = (key, &mark) else {
        return match (key, mark) {
            (None, None) => Ok(store),
            (None, Some(_)) => Err(KeyError::Missing),
            (Some(key), _) => match begin(Arc::clone(&store), key).await {
                // Two processes may be the first at once. The other one may have the same key.
                Err(KeyError::NotEncrypted | KeyError::Store(Error::Conflict(Conflict::Key { .. })))
                    if is_bound(&*store).await? =>
                {
                    Box::pin(with_key(store, Some(key))).await
                }
                begun => begun,
            },
        };
    };
    match EncryptedStore::new(Arc::clone(&store), key).open(AssociatedData::Mark, &mark.value) {
        Ok(text) if text == MARK_TEXT => Ok(Arc::new(EncryptedStore::new(store, key))),
        _ => Err(KeyError::Wrong),
    }
}

/// Binds an empty store to the key.
async fn begin(store: Arc<dyn Store>, key: &StoreKey) -> Result<Arc<dyn Store>, KeyError> {
    // A server stores more than runs: its signing key, circuits, definitions. None of it could be read with a key.
    if !store.is_empty().await? {
        return Err(KeyError::NotEncrypted);
    }
    let encrypted = EncryptedStore::new(Arc::clone(&store), key);
    let mark = KeyWrite {
        namespace: MARK.0.into(),
        key: MARK.1.into(),
        expect: KeyExpectation::Absent,
        value: Some(encrypted.seal(AssociatedData::Mark, &Bytes::from_static(MARK_TEXT))),
        ..KeyWrite::default()
    };
    store.commit(Commit { keys: vec![mark], ..Commit::new() }).await?;
    Ok(Arc::new(encrypted))
}

/// Whether another process has bound the store since its mark was read.
async fn is_bound(store: &dyn Store) -> Result<bool, Error> {
    Ok(store.key(MARK.0, MARK.1).await?.is_some())
}

/// The store that [`with_key`] returns.
#[derive(Clone, Debug)]
pub(crate) struct EncryptedStore {
    inner: Arc<dyn Store>,
    key: Arc<StoreKey>,
}

/// What is sealed, and where it belongs.
#[derive(Clone, Copy, Debug)]
enum AssociatedData<'a> {
    Mark,
    Frame(RunId, Seq),
    Snapshot(RunId, Seq),
    Row(RunId),
    Message(Option<RunId>, u16),
    Named(&'a str, &'a str),
    Blob,
    ErrorCode,
    ErrorText(RunId),
    TrackingId,
}

impl AssociatedData<'_> {
    /// Different places never have the same context.
    fn context(self) -> Vec<u8> {
        let mut context = Vec::with_capacity(32);
        let mut numbers = |tag: u8, numbers: &[u64]| {
            context.push(tag);
            context.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        match self {
            Self::Mark => numbers(0, &[]),
            Self::Frame(run, seq) => numbers(1, &[run.as_u64(), seq.0]),
            Self::Snapshot(run, upto) => numbers(2, &[run.as_u64(), upto.0]),
            Self::Row(run) => numbers(3, &[run.as_u64()]),
            Self::Message(run, kind) => {
                numbers(4, &[run.map_or(u64::MAX, RunId::as_u64), u64::from(kind)]);
            }
            Self::Named(namespace, key) => {
                numbers(5, &[namespace.len() as u64]);
                context.extend_from_slice(namespace.as_bytes());
                context.extend_from_slice(key.as_bytes());
            }
            Self::Blob => numbers(6, &[]),
            Self::ErrorCode => numbers(7, &[]),
            Self::ErrorText(run) => numbers(8, &[run.as_u64()]),
            Self::TrackingId => numbers(9, &[]),
        }
        context
    }

    fn unreadable(self) -> Error {
        Error::damaged(format_args!("a sealed record cannot be opened: {self:?}"))
    }
}

impl EncryptedStore {
    fn new(inner: Arc<dyn Store>, key: &StoreKey) -> Self {
        Self { inner, key: Arc::new(key.clone()) }
    }

    /// Returns the salt and then, encrypted, the codec and the packed payload.
    fn seal(&self, place: AssociatedData<'_>, payload: &Bytes) -> Bytes {
        let context = place.context();
        let (codec, packed) = pack(payload);
        let salt = self.key.salt(&context, payload);
        let mut sealed = Vec::with_capacity(SALT + 1 + packed.len() + TAG);
        sealed.extend_from_slice(&salt);
        sealed.push(codec as u8);
        sealed.extend_from_slice(&packed);
        self.key.cipher(&salt).seal(0, &context, &mut sealed, SALT);
        sealed.into()
    }

    fn open(&self, place: AssociatedData<'_>, sealed: &[u8]) -> Result<Bytes, Error> {
        let broken = || place.unreadable();
        let (salt, text) = sealed.split_first_chunk::<SALT>().ok_or_else(broken)?;
        let mut text = text.to_vec();
        let opened = self.key.cipher(salt).open(0, &place.context(), &mut text).ok_or_else(broken)?;
        let (codec, packed) = opened.split_first().ok_or_else(broken)?;
        let codec = Codec::from_number(i64::from(*codec)).ok_or_else(broken)?;
        match unpack(codec, packed).ok_or_else(broken)? {
            Cow::Borrowed(payload) => Ok(Bytes::copy_from_slice(payload)),
            Cow::Owned(payload) => Ok(payload.into()),
        }
    }

    fn seal_commit(&self, mut commit: Commit) -> Commit {
        if let Some(journal) = &mut commit.journal {
            for (place, frame) in journal.frames.iter_mut().enumerate() {
                // The store refuses numbers that are out of range; here they only have to be different.
                let seq = Seq(journal.first.0.wrapping_add(place as u64));
                frame.payload = self.seal(AssociatedData::Frame(journal.run, seq), &frame.payload);
            }
        }
        if let Some(snapshot) = &mut commit.snapshot {
            snapshot.state =
                self.seal(AssociatedData::Snapshot(snapshot.run, snapshot.upto), &snapshot.state);
        }
        if let Some(row) = &mut commit.row {
            if !row.details.is_empty() {
                row.details = self.seal(AssociatedData::Row(row.id), &row.details);
            }
            row.error = row.error.as_deref().map(|code| self.seal_text(AssociatedData::ErrorCode, code));
            row.tracking_id =
                row.tracking_id.as_deref().map(|id| self.seal_text(AssociatedData::TrackingId, id));
            let place = AssociatedData::ErrorText(row.id);
            row.error_text = row.error_text.as_deref().map(|text| self.seal_text(place, text));
        }
        for post in &mut commit.inbox_posted {
            post.payload = self.seal(AssociatedData::Message(post.run, post.kind), &post.payload);
        }
        for write in &mut commit.keys {
            let place = AssociatedData::Named(&write.namespace, &write.key);
            write.value = write.value.as_ref().map(|value| self.seal(place, value));
        }
        commit
    }

    fn open_row(&self, mut row: RunRow) -> Result<RunRow, Error> {
        if !row.details.is_empty() {
            row.details = self.open(AssociatedData::Row(row.id), &row.details)?;
        }
        let open = |place: AssociatedData<'_>, text: &mut Option<Arc<str>>| {
            if let Some(sealed) = text.as_deref().and_then(|text| text.strip_prefix(SEALED_TEXT)) {
                *text = Some(self.open_text(place, sealed)?);
            }
            Ok::<_, Error>(())
        };
        open(AssociatedData::ErrorCode, &mut row.error)?;
        open(AssociatedData::TrackingId, &mut row.tracking_id)?;
        open(AssociatedData::ErrorText(row.id), &mut row.error_text)?;
        Ok(row)
    }

    fn seal_text(&self, place: AssociatedData<'_>, text: &str) -> Arc<str> {
        let sealed = self.seal(place, &Bytes::copy_from_slice(text.as_bytes()));
        let mut text = String::with_capacity(SEALED_TEXT.len() + 2 * sealed.len());
        text.push_str(SEALED_TEXT);
        for byte in sealed {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.into()
    }

    fn open_text(&self, place: AssociatedData<'_>, sealed: &str) -> Result<Arc<str>, Error> {
        let broken = || place.unreadable();
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let bytes = sealed.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<u8>>>().ok_or_else(broken)?;
        let text = self.open(place, &bytes)?;
        std::str::from_utf8(&text).map(Arc::from).map_err(|_| broken())
    }

    fn open_rows(&self, rows: Vec<RunRow>) -> Result<Vec<RunRow>, Error> {
        rows.into_iter().map(|row| self.open_row(row)).collect()
    }

    fn open_frames(&self, run: RunId, frames: Vec<StoredFrame>) -> Result<Vec<StoredFrame>, Error> {
        let open = |frame: StoredFrame| {
            let payload = self.open(AssociatedData::Frame(run, frame.seq), &frame.payload)?;
            Ok(StoredFrame { payload, ..frame })
        };
        frames.into_iter().map(open).collect()
    }

    fn open_run(&self, loaded: LoadedRun) -> Result<LoadedRun, Error> {
        let run = loaded.row.id;
        let snapshot = loaded.snapshot.map(|snapshot| {
            let state = self.open(AssociatedData::Snapshot(run, snapshot.upto), &snapshot.state)?;
            Ok::<_, Error>(Snapshot { state, ..snapshot })
        });
        Ok(LoadedRun {
            row: self.open_row(loaded.row)?,
            snapshot: snapshot.transpose()?,
            frames: self.open_frames(run, loaded.frames)?,
            next: loaded.next,
            has_messages: loaded.has_messages,
        })
    }

    fn open_message(&self, mut message: InboxMessage) -> Result<InboxMessage, Error> {
        let post = &mut message.post;
        post.payload = self.open(AssociatedData::Message(post.run, post.kind), &post.payload)?;
        Ok(message)
    }

    fn open_value(&self, namespace: &str, value: KeyValue) -> Result<KeyValue, Error> {
        let opened = self.open(AssociatedData::Named(namespace, &value.key), &value.value)?;
        Ok(KeyValue { value: opened, ..value })
    }

    /// Returns the salt, the length of the content, and the content in parts that are sealed one by one, so that a
    /// part can be read without the others. The length is authenticated with each part.
    fn seal_blob(&self, content: &[u8]) -> Bytes {
        let salt = self.key.salt(&AssociatedData::Blob.context(), content);
        let length = (content.len() as u64).to_le_bytes();
        let parts = content.len().div_ceil(PART as usize);
        let mut sealed = Vec::with_capacity(BLOB_HEAD + content.len() + parts * TAG);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(&length);
        let cipher = self.key.cipher(&salt);
        for (number, part) in content.chunks(PART as usize).enumerate() {
            let from = sealed.len();
            sealed.extend_from_slice(part);
            cipher.seal(number as u64, &length, &mut sealed, from);
        }
        sealed.into()
    }

    async fn read_blob(self, hash: ContentHash, offset: u64, length: usize) -> Result<Option<Bytes>, Error> {
        let broken = || AssociatedData::Blob.unreadable();
        let Some(head) = self.inner.blob(hash, 0, BLOB_HEAD).await? else { return Ok(None) };
        let (salt, size) = head.split_first_chunk::<SALT>().ok_or_else(broken)?;
        let size: [u8; 8] = size.try_into().map_err(|_| broken())?;
        let total = u64::from_le_bytes(size);
        let end = offset.saturating_add(length as u64).min(total);
        if offset >= end {
            return Ok(Some(Bytes::new()));
        }
        let (first, last) = (offset / PART, (end - 1) / PART);
        let sealed_part = PART + TAG as u64;
        let from = BLOB_HEAD as u64 + first * sealed_part;
        let span = usize::try_from((last - first + 1) * sealed_part).map_err(|_| broken())?;
        let Some(sealed) = self.inner.blob(hash, from, span).await? else { return Ok(None) };
        let cipher = self.key.cipher(salt);
        let mut content = Vec::with_capacity(span);
        let mut sealed = sealed.to_vec();
        for (part, sealed) in (first..=last).zip(sealed.chunks_mut(sealed_part as usize)) {
            content.extend_from_slice(cipher.open(part, &size, sealed).ok_or_else(broken)?);
        }
        let start = (offset - first * PART) as usize;
        let wanted = start..start + (end - offset) as usize;
        content.get(wanted).map(|found| Some(Bytes::copy_from_slice(found))).ok_or_else(broken)
    }

    /// The query for the store below. It cannot search in sealed texts, so it finds all runs that have one.
    fn seal_query(&self, mut query: RunQuery) -> RunQuery {
        query.error = query.error.as_deref().map(|code| self.seal_text(AssociatedData::ErrorCode, code));
        query.tracking_id =
            query.tracking_id.as_deref().map(|id| self.seal_text(AssociatedData::TrackingId, id));
        query.error_text = query.error_text.map(|_| Arc::from(""));
        query
    }

    async fn list(&self, query: RunQuery) -> Result<RunPage, Error> {
        let mut found = RunPage { rows: Vec::new(), next: query.after };
        let mut sealed = self.seal_query(query.clone());
        let searches = query.error_text.as_deref().is_some_and(|text| !text.is_empty());
        if searches {
            sealed.limit = SEARCHED_AT_ONCE;
        }
        for _ in 0..SEARCHED_MAX / SEARCHED_AT_ONCE {
            sealed.after = found.next;
            let page = self.inner.runs(sealed.clone()).await?;
            found.next = page.next;
            if !searches {
                found.rows = self.open_rows(page.rows)?;
                break;
            }
            for row in self.open_rows(page.rows)?.into_iter().filter(|row| query.matches(row)) {
                if found.rows.len() == query.limit.max(1) {
                    found.next = found.rows.last().map(|row| row.id);
                    return Ok(found);
                }
                found.rows.push(row);
            }
            if found.next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// A record that cannot be opened is damage that the store below cannot detect.
    fn watch<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(reason @ Error::Damaged { .. }) = &read {
            self.inner.condemn(reason.clone());
        }
        read
    }

    /// Waits for `answer` and transforms its value.
    fn then<T: 'static, U: 'static>(
        &self,
        answer: Answer<T>,
        change: impl FnOnce(&Self, T) -> Result<U, Error> + Send + 'static,
    ) -> Answer<U> {
        let this = self.clone();
        Box::pin(async move {
            let changed = change(&this, answer.await?);
            this.watch(changed)
        })
    }
}

impl Journal for EncryptedStore {
    fn append(&self, commit: Commit) -> Result<Ack, Refused> {
        self.inner
            .append(self.seal_commit(commit.clone()))
            .map_err(|refused| Refused { commit: Box::new(commit), reason: refused.reason })
    }

    fn commit(&self, commit: Commit) -> Answer<Committed> {
        self.inner.commit(self.seal_commit(commit))
    }

    fn flush(&self) -> Answer<()> {
        self.inner.flush()
    }

    fn load(&self, run: RunId) -> Answer<Option<LoadedRun>> {
        self.then(self.inner.load(run), |this, loaded| loaded.map(|loaded| this.open_run(loaded)).transpose())
    }

    fn frames(&self, query: FrameQuery) -> Answer<FramePage> {
        self.then(self.inner.frames(query), move |this, page| {
            Ok(FramePage { frames: this.open_frames(query.run, page.frames)?, next: page.next })
        })
    }
}

impl Runs for EncryptedStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.then(self.inner.run(run), |this, row| row.map(|row| this.open_row(row)).transpose())
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        let found = self.inner.run_by_key(workflow, idempotency_key);
        self.then(found, |this, row| row.map(|row| this.open_row(row)).transpose())
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        let this = self.clone();
        Box::pin(async move { this.watch(this.list(query).await) })
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        if query.error_text.as_deref().is_none_or(str::is_empty) {
            return self.inner.count(self.seal_query(query));
        }
        let this = self.clone();
        Box::pin(async move {
            let page = this.watch(this.list(RunQuery { after: None, ..query }).await)?;
            Ok(Count { runs: page.rows.len() as u64, is_exact: page.next.is_none() })
        })
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.then(self.inner.unfinished(shards, after, limit), Self::open_rows)
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.then(self.inner.awake(shards, after, limit), Self::open_rows)
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.inner.parked(shards)
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.inner.newest_run(shards)
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.inner.timers(query)
    }
}

impl Inbox for EncryptedStore {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.then(self.inner.inbox(query), |this, messages| {
            messages.into_iter().map(|message| this.open_message(message)).collect()
        })
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.inner.pending(run)
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        self.inner.posted(run, idempotency_key)
    }
}

impl Named for EncryptedStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        let found = self.inner.key(namespace, key);
        let namespace = namespace.to_owned();
        self.then(found, move |this, value| value.map(|value| this.open_value(&namespace, value)).transpose())
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        let namespace = Arc::clone(&query.namespace);
        self.then(self.inner.keys(query), move |this, page| {
            let values = page.values.into_iter().map(|value| this.open_value(&namespace, value));
            Ok(KeyPage { values: values.collect::<Result<_, _>>()?, next: page.next })
        })
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        self.inner.namespace_from(start)
    }
}

impl Blobs for EncryptedStore {
    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.inner.definition(hash)
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        self.inner.put_blob(self.seal_blob(&content))
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        let this = self.clone();
        Box::pin(async move { this.watch(this.clone().read_blob(hash, offset, length).await) })
    }

    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.inner.blobs_of(run)
    }
}

impl Upkeep for EncryptedStore {
    fn is_empty(&self) -> Answer<bool> {
        self.inner.is_empty()
    }

    fn sealer(&self) -> Sealer {
        // Everything is encrypted.
        Sealer::none()
    }

    fn at_work(&self, run: RunId, next: Seq) -> AtWork {
        self.inner.at_work(run, next)
    }

    fn interrupted(&self) -> Interrupted {
        self.inner.interrupted()
    }

    fn forget_interrupted(&self) {
        self.inner.forget_interrupted();
    }

    fn condemn(&self, reason: Error) {
        self.inner.condemn(reason);
    }

    fn sweep(&self, policy: Retention, now: UnixMillis) -> Answer<Swept> {
        self.inner.sweep(policy, now)
    }

    fn delete_run(&self, run: RunId) -> Answer<Deletion> {
        self.inner.delete_run(run)
    }

    fn verify(&self) -> Answer<u64> {
        self.inner.verify()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }

    fn resume(&self) -> Answer<()> {
        self.inner.resume()
    }

    fn close(&self) -> Answer<()> {
        self.inner.close()
    }
}

impl Ownership for EncryptedStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.inner.register(node)
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.inner.renew(node)
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.inner.claim(node, shards_max)
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.inner.release(node, shards)
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.inner.owned(node)
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        self.inner.fence(by, node)
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.inner.nodes()
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.inner.describe(node, settings)
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.inner.raise(node, shards, format)
    }

    fn time(&self) -> Answer<Duration> {
        self.inner.time()
    }
}

impl Changes for EncryptedStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.inner.changes(after, limit)
    }

    fn value_changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.inner.value_changes(after, limit)
    }

    fn latest(&self) -> Answer<Cursor> {
        self.inner.latest()
    }
}
