//! What one append carries: frames of a run, and everything that must become durable with them.
//!
//! A [`Commit`] is all or nothing: either each of its parts is on the disk, or none is.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Conflict, ContentHash, InboxId, RunId, Seq, Shard, Under, UnixMillis, blob::Blob};

/// A unit of writing. Build it with [`Commit::to_run`] or [`Commit::new`] and fill the fields that apply.
///
/// Parts are checked first and then written in this order: definitions, blobs, run row, frames, snapshot, timers,
/// inbox, keys.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The node and the shard on whose behalf this is written. When the node does not own the shard, and that of the run which
    /// the commit writes to, the whole commit is refused with [`Conflict::Lost`]. `None` for a store that belongs to one
    /// process, and for what every node may write: messages, deployments.
    pub under: Option<Under>,
    /// Frames to append to one run.
    pub journal: Option<Append>,
    /// Replaces the row of the same run, or is inserted as a new row.
    pub row: Option<RunRow>,
    /// Replaces the run's snapshot.
    pub snapshot: Option<Snapshot>,
    /// Timers to arm; an armed timer with the same run and number is moved.
    pub timers_set: Vec<Timer>,
    /// Timers to disarm; one that is not armed is ignored.
    pub timers_cleared: Vec<TimerKey>,
    /// Definitions to store under their hash; one that is already there is not written again.
    pub definitions: Vec<Definition>,
    /// Blobs to store under their hash. They belong to the run of `journal` or `row` and live as long as it does.
    pub blobs: Vec<Blob>,
    /// Messages that this commit consumes; they are no longer pending. When one is not pending, the whole commit is refused
    /// with [`Conflict::Taken`]: another commit consumed it, or retention removed it.
    pub inbox_consumed: Vec<InboxId>,
    /// Messages to post, to this run, to others or to none.
    pub inbox_posted: Vec<Post>,
    /// Named values to write. When an expectation does not hold, the whole commit is refused.
    pub keys: Vec<KeyWrite>,
    /// Whether this commit alone is a reason to write to the disk.
    pub urgency: Urgency,
}

/// Whether a commit is a reason to write to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// A caller is waiting: written with the next group.
    #[default]
    Now,
    /// No caller is waiting. The commit keeps its place in the order and is written with the next urgent commit, or
    /// after the linger time.
    Lazy,
}

impl Commit {
    /// A commit that belongs to no run.
    pub fn new() -> Self {
        Self::default()
    }

    /// A commit that appends `frames` to `run`, the first of them at `first`.
    pub fn to_run(run: RunId, first: Seq, frames: Vec<Frame>) -> Self {
        Self { journal: Some(Append { run, first, frames }), ..Self::default() }
    }

    /// The run this commit belongs to.
    pub fn run(&self) -> Option<RunId> {
        self.journal.as_ref().map(|journal| journal.run).or_else(|| self.row.as_ref().map(|row| row.id))
    }

    /// Bytes of payload that this commit carries, without overhead.
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

    /// Refuses what no backend could store: parts that name different runs, or numbers that are out of range.
    ///
    /// # Errors
    /// The reason. A backend calls this before it accepts a commit.
    pub fn validate(&self) -> Result<(), Conflict> {
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
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The sequence number of the first frame: one past the last frame of the run. Anything else is refused, so that
    /// two writers of one run can never both succeed.
    pub first: Seq,
    /// The frames, in order. May be empty, to check only where the journal ends.
    pub frames: Vec<Frame>,
}

/// A record of a run's journal. The store never looks inside the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was made.
    pub at: UnixMillis,
    /// The content.
    pub payload: Bytes,
}

/// A frame as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFrame {
    /// Its sequence number in the run.
    pub seq: Seq,
    /// When it was made.
    pub at: UnixMillis,
    /// The content.
    pub payload: Bytes,
}

/// Content that runs are pinned to by its hash. Create it once and clone it into each commit: clones share the bytes.
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

    /// The hash of the content.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The content.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What can be queried about a run without reading its journal.
///
/// Workflow, idempotency key and parent are fixed when the row is first written: every later row of the same run must
/// repeat them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// The name of the workflow.
    pub workflow: Arc<str>,
    /// The definition that the run is pinned to.
    pub definition: ContentHash,
    /// A number that the caller defines.
    pub status: u16,
    /// When the first action began.
    pub started: Option<UnixMillis>,
    /// When the run ended. A run without this value is unfinished, and is listed by
    /// [`Runs::unfinished`](crate::Runs::unfinished).
    pub ended: Option<UnixMillis>,
    /// The run that this run repeats.
    pub origin: Option<RunId>,
    /// The number of the repetition, from 1.
    pub attempt: u32,
    /// The run that started it.
    pub parent: Option<RunId>,
    /// The action in the parent that started it.
    pub parent_path: Option<Arc<str>>,
    /// Accepted at most once for each workflow: a second new row with the same key is not written, and its commit
    /// returns [`Committed::Duplicate`].
    pub idempotency_key: Option<Arc<str>>,
    /// When the run next needs attention, if it is parked: nobody has to load it before that time, unless a message for it
    /// arrives. A run that is awake has no such time.
    pub wake_at: Option<UnixMillis>,
    /// A short error code, to search by.
    pub error: Option<Arc<str>>,
    /// The message of the error, to search in.
    pub error_text: Option<Arc<str>>,
    /// The trigger that started the run.
    pub trigger: Option<Arc<str>>,
    /// An id that the caller chose for the run, to search by.
    pub tracking_id: Option<Arc<str>>,
    /// What the run is doing, in bits that the caller defines.
    pub flags: Flags,
    /// Anything else that the caller wants in lists of runs.
    pub details: Bytes,
    /// Whether [`sweep`](crate::Upkeep::sweep) has removed the run's data. Set by the store; the value in a commit is
    /// ignored.
    pub purged: bool,
}

impl RunRow {
    /// The row of a first attempt, with all optional fields empty.
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
            error_text: None,
            trigger: None,
            tracking_id: None,
            flags: Flags::NONE,
            details: Bytes::new(),
            purged: false,
        }
    }

    /// Whether the fields that are fixed when a row is first written are those of `other`.
    pub fn same_identity(&self, other: &Self) -> bool {
        self.workflow == other.workflow
            && self.idempotency_key == other.idempotency_key
            && self.parent == other.parent
    }
}

/// Facts about a run that are true or false, as bits that the caller defines. Each of the lowest
/// [`Flags::INDEXED`] has an index of the runs that have it; the others only narrow a list that another condition finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The number of flags that have an index.
    pub const INDEXED: u16 = 8;

    /// Whether all flags of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The state of a run after a frame, so that recovery need not start at the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The run.
    pub run: RunId,
    /// The last frame that the state includes.
    pub upto: Seq,
    /// The state.
    pub state: Bytes,
}

/// Identifies a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// The run that owns the timer.
    pub run: RunId,
    /// Its number within the run.
    pub number: u64,
}

/// An armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Identifies the timer.
    pub key: TimerKey,
    /// When it is due.
    pub due: UnixMillis,
    /// A number that the caller defines.
    pub kind: u16,
}

/// A message to post to the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The run that it is addressed to; `None` for a request to start a run.
    pub run: Option<RunId>,
    /// The shard whose owner consumes it, if it is addressed to no run; otherwise the shard is that of the run.
    pub shard: Shard,
    /// A number that the caller defines.
    pub kind: u16,
    /// When it arrived.
    pub at: UnixMillis,
    /// Accepted at most once for each `run`, even after the first message was consumed.
    pub idempotency_key: Option<Arc<str>>,
    /// The content.
    pub payload: Bytes,
}

/// A pending message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its position in the order of arrival.
    pub id: InboxId,
    /// The message.
    pub post: Post,
}

impl Post {
    /// The shard whose owner consumes the message.
    pub const fn shard(&self) -> Shard {
        match self.run {
            Some(run) => run.shard(),
            None => self.shard,
        }
    }
}

/// A change of one named value. `..KeyWrite::default()` writes without a condition a value without an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyWrite {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name within the namespace.
    pub key: Arc<str>,
    /// The condition for the change.
    pub expect: KeyExpectation,
    /// The new value; `None` deletes the value.
    pub value: Option<Bytes>,
    /// When the value expires. Readers compare it with their clock; [`sweep`](crate::Upkeep::sweep) removes the value.
    pub expires: Option<UnixMillis>,
    /// The run that the value belongs to: it is removed with the run's data.
    pub run: Option<RunId>,
}

/// The condition that a [`KeyWrite`] puts on the current value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyExpectation {
    /// No condition.
    #[default]
    Any,
    /// The value does not exist.
    Absent,
    /// The value exists and has this version.
    Version(u64),
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The name within the namespace.
    pub key: Arc<str>,
    /// Increases with each write of the value and is never used twice in a store, so that "deleted and written again"
    /// cannot be mistaken for "unchanged". Versions of different values are in no particular order.
    pub version: u64,
    /// The value.
    pub value: Bytes,
    /// When it expires.
    pub expires: Option<UnixMillis>,
    /// The run that it belongs to.
    pub run: Option<RunId>,
}

/// The result of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The commit is as durable as the store's mode promises.
    Written(Written),
    /// Nothing was written: this run was accepted before under the same idempotency key.
    Duplicate(RunId),
}

/// The ids and versions that a commit was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// For each message of [`Commit::inbox_posted`]: its id, or that of the earlier message with the same key.
    pub inbox: Vec<InboxId>,
    /// For each write of [`Commit::keys`]: its new version, or `None` for a deletion.
    pub versions: Vec<Option<u64>>,
}

/// Checks the conditions of key writes in order, each against what the earlier ones leave. A commit cannot expect a
/// version that it assigns itself, because no caller can know that version yet.
///
/// # Errors
/// The condition that does not hold, or the error of `version`, which looks a version up.
pub fn check_keys<E: From<Conflict>>(
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
