//! What one append carries: frames of a run and everything that must become durable with them.
//!
//! A [`Commit`] is all or nothing: either each of its parts is on the disk, or none is.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Conflict, ContentHash, InboxId, RunId, Seq, UnixMillis, blob::Blob};

/// A unit of writing. Build it with [`Commit::to_run`] or [`Commit::new`] and fill the fields that apply.
///
/// Parts are checked first and then written in this order: definitions, blobs, run row, frames, snapshot, timers,
/// inbox, keys.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Frames of one run.
    pub journal: Option<Journal>,
    /// Written over the row of the same run, or as a new row.
    pub row: Option<RunRow>,
    /// Replaces the run's snapshot.
    pub snapshot: Option<Snapshot>,
    /// Armed; a timer of the same run and number is moved.
    pub timers_set: Vec<Timer>,
    /// Disarmed; one that is not armed is passed over.
    pub timers_cleared: Vec<TimerKey>,
    /// Kept by their hash; one that is there already is not written again.
    pub definitions: Vec<Definition>,
    /// Kept by their hash and charged to the run of `journal` or `row`, so that they live as long as the run.
    pub blobs: Vec<Blob>,
    /// Messages taken in by this commit; they are no longer pending.
    pub inbox_consumed: Vec<InboxId>,
    /// Messages left for runs, this one or others.
    pub inbox_posted: Vec<Post>,
    /// Named values. When an expectation does not hold, the whole commit is refused.
    pub keys: Vec<KeyWrite>,
    /// Whether the commit alone is a reason to go to the disk.
    pub urgency: Urgency,
}

/// Whether a commit is a reason to go to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits: written with the next group.
    #[default]
    Now,
    /// Nobody waits: it keeps its place in the order, and goes with the next urgent commit or after the linger time.
    Lazy,
}

impl Commit {
    /// A commit that belongs to no run.
    pub fn new() -> Self {
        Self::default()
    }

    /// A commit that appends `frames` to `run`, the first of them at `first`.
    pub fn to_run(run: RunId, first: Seq, frames: Vec<Frame>) -> Self {
        Self { journal: Some(Journal { run, first, frames }), ..Self::default() }
    }

    /// The run this commit belongs to.
    pub fn run(&self) -> Option<RunId> {
        self.journal.as_ref().map(|journal| journal.run).or_else(|| self.row.as_ref().map(|row| row.id))
    }

    /// Bytes this commit carries, without what stands around them.
    pub fn payload_bytes(&self) -> usize {
        let frames = self.journal.iter().flat_map(|journal| &journal.frames).map(|frame| frame.payload.len());
        let blobs = self.blobs.iter().map(Blob::bytes_in_memory);
        let posts = self.inbox_posted.iter().map(|post| post.payload.len());
        let keys = self.keys.iter().map(|key| key.value.as_ref().map_or(0, Bytes::len));
        frames.chain(blobs).chain(posts).chain(keys).sum::<usize>()
            + self.definitions.iter().map(|definition| definition.body.len()).sum::<usize>()
            + self.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len())
            + self.row.as_ref().map_or(0, |row| row.details.len())
    }

    /// Refuses what no backend could keep: parts that name different runs, or numbers past the range.
    pub(crate) fn validate(&self) -> Result<(), Conflict> {
        let run = self.run();
        let strangers =
            self.row.iter().map(|row| row.id).chain(self.snapshot.iter().map(|snapshot| snapshot.run));
        if strangers.into_iter().any(|other| Some(other) != run) {
            return Err(Conflict::MixedRuns);
        }
        if !self.blobs.is_empty() && run.is_none() {
            return Err(Conflict::BlobsWithoutRun);
        }
        let journal =
            self.journal.iter().map(|journal| journal.first.0.saturating_add(journal.frames.len() as u64));
        let armed = self.timers_set.iter().map(|timer| timer.key.number);
        let cleared = self.timers_cleared.iter().map(|timer| timer.number);
        if let Some(number) =
            journal.chain(armed).chain(cleared).find(|number| i64::try_from(*number).is_err())
        {
            return Err(Conflict::OutOfRange { number });
        }
        Ok(())
    }
}

/// Frames appended to one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Whose frames.
    pub run: RunId,
    /// The place of the first frame: one past the last frame the run has. Anything else is refused, so that two
    /// writers of one run can never both succeed.
    pub first: Seq,
    /// The frames, in order; may be empty, to state only what the last frame must be.
    pub frames: Vec<Frame>,
}

/// A piece of a run's journal. The store never looks inside the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was made.
    pub at: UnixMillis,
    /// What it says.
    pub payload: Bytes,
}

/// A frame as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFrame {
    /// Its place in the run.
    pub seq: Seq,
    /// When it was made.
    pub at: UnixMillis,
    /// What it says.
    pub payload: Bytes,
}

/// Content that runs are pinned to, by its hash. Make it once and clone it into each commit: clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    hash: ContentHash,
    body: Bytes,
}

impl Definition {
    /// Hashes `body`.
    pub fn new(body: Bytes) -> Self {
        Self { hash: ContentHash::of(&body), body }
    }

    /// Its name.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Its content.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What can be asked about a run without reading its journal.
///
/// Workflow, idempotency key and parent are fixed when the row is first written: a later row of the same run must
/// repeat them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// What it runs, by name.
    pub workflow: Arc<str>,
    /// The definition it is pinned to.
    pub definition: ContentHash,
    /// A number of the owner's choice.
    pub status: u16,
    /// When the first action began.
    pub started: Option<UnixMillis>,
    /// When it ended. A run without it is unfinished, and is found by [`Store::unfinished`](crate::Store::unfinished).
    pub ended: Option<UnixMillis>,
    /// The run it repeats.
    pub origin: Option<RunId>,
    /// Which repetition, from 1.
    pub attempt: u32,
    /// The run that started it.
    pub parent: Option<RunId>,
    /// Where in the parent.
    pub parent_path: Option<Arc<str>>,
    /// Accepted at most once for each workflow: a second new row with the same key is not written, and its commit
    /// answers [`Committed::Duplicate`].
    pub idempotency_key: Option<Arc<str>>,
    /// When it next wants to be looked at.
    pub wake_at: Option<UnixMillis>,
    /// A short code of what went wrong, to search by.
    pub error: Option<Arc<str>>,
    /// Anything else the owner wants in lists.
    pub details: Bytes,
    /// Whether [`sweep`](crate::Store::sweep) has taken the run's data. Told by the store; what a commit says does not matter.
    pub purged: bool,
}

impl RunRow {
    /// A first attempt with nothing else known.
    pub fn new(id: RunId, workflow: impl Into<Arc<str>>, definition: ContentHash, status: u16) -> Self {
        Self {
            id,
            workflow: workflow.into(),
            definition,
            status,
            started: None,
            ended: None,
            origin: None,
            attempt: 1,
            parent: None,
            parent_path: None,
            idempotency_key: None,
            wake_at: None,
            error: None,
            details: Bytes::new(),
            purged: false,
        }
    }

    /// Whether the parts that are fixed when a row is first written are those of `other`.
    pub(crate) fn same_identity(&self, other: &Self) -> bool {
        self.workflow == other.workflow
            && self.idempotency_key == other.idempotency_key
            && self.parent == other.parent
    }
}

/// The state of a run after a frame, so that recovery need not begin at the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose state.
    pub run: RunId,
    /// The last frame the state holds.
    pub upto: Seq,
    /// The state.
    pub state: Bytes,
}

/// Names a timer within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// Whose timer.
    pub run: RunId,
    /// Which of the run's timers.
    pub number: u64,
}

/// A timer that is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its name.
    pub key: TimerKey,
    /// When it is due.
    pub due: UnixMillis,
    /// A number of the owner's choice.
    pub kind: u16,
}

/// A message to leave in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// For whom; `None` for whoever starts new runs.
    pub run: Option<RunId>,
    /// A number of the owner's choice.
    pub kind: u16,
    /// When it came.
    pub at: UnixMillis,
    /// Taken in at most once for each `run`, even after the first message was consumed.
    pub idempotency_key: Option<Arc<str>>,
    /// What it says.
    pub payload: Bytes,
}

/// A message that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its place in the order of arrival.
    pub id: InboxId,
    /// The message.
    pub post: Post,
}

/// A change of one named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWrite {
    /// The family of names.
    pub namespace: Arc<str>,
    /// The name.
    pub key: Arc<str>,
    /// What must hold for the change to be made.
    pub expect: KeyExpectation,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
}

/// What a [`KeyWrite`] demands of the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExpectation {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// There is one, of this version.
    Version(u64),
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: Arc<str>,
    /// Grows with each write in the whole store and is never given twice, so that "deleted and written again" is
    /// never mistaken for "unchanged".
    pub version: u64,
    /// The value.
    pub value: Bytes,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is as durable as the store's mode promises.
    Written(Written),
    /// Nothing was written: this run was accepted before under the same idempotency key.
    Duplicate(RunId),
}

/// The names a commit was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// For each of [`Commit::inbox_posted`]: its id, or that of the earlier message with the same key.
    pub inbox: Vec<InboxId>,
    /// For each of [`Commit::keys`]: its new version, or `None` for a deletion.
    pub versions: Vec<Option<u64>>,
}

/// Checks the expectations of key writes in their order, each against what the ones before it leave. A version given
/// within the commit cannot be expected by it, because nobody knows it yet.
pub(crate) fn check_keys<E: From<Conflict>>(
    writes: &[KeyWrite],
    version: impl Fn(&Arc<str>, &Arc<str>) -> Result<Option<u64>, E>,
) -> Result<(), E> {
    for (place, write) in writes.iter().enumerate() {
        if write.expect == KeyExpectation::Any {
            continue;
        }
        let earlier = writes[..place]
            .iter()
            .rev()
            .find(|earlier| earlier.key == write.key && earlier.namespace == write.namespace);
        let actual = match earlier {
            Some(earlier) => earlier.value.as_ref().map(|_| u64::MAX),
            None => version(&write.namespace, &write.key)?,
        };
        let holds = match write.expect {
            KeyExpectation::Any => true,
            KeyExpectation::Absent => actual.is_none(),
            KeyExpectation::Version(wanted) => actual == Some(wanted) && wanted != u64::MAX,
        };
        if !holds {
            let (namespace, key) = (Arc::clone(&write.namespace), Arc::clone(&write.key));
            return Err(Conflict::Key { namespace, key, actual }.into());
        }
    }
    Ok(())
}
