//! What can be asked of a store, and the pages it answers with.

use std::sync::Arc;

use crate::{InboxId, KeyValue, RunId, RunRow, Seq, Snapshot, StoredFrame, Timer, TimerKey, UnixMillis};

/// Which runs to list. Each field that is set narrows the list; every combination is answered from an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// Runs of this workflow.
    pub workflow: Option<Arc<str>>,
    /// Runs with this status.
    pub status: Option<u16>,
    /// Runs with this error code.
    pub error: Option<Arc<str>>,
    /// Runs started by this run.
    pub parent: Option<RunId>,
    /// Runs accepted at this moment or later.
    pub accepted_from: Option<UnixMillis>,
    /// Runs accepted before this moment.
    pub accepted_before: Option<UnixMillis>,
    /// Newest first, or oldest first.
    pub order: Order,
    /// Goes on after this run, the last of the page before.
    pub after: Option<RunId>,
    /// Rows a page, at least one.
    pub limit: usize,
}

impl Default for RunQuery {
    /// The newest hundred of all runs.
    fn default() -> Self {
        Self {
            workflow: None,
            status: None,
            error: None,
            parent: None,
            accepted_from: None,
            accepted_before: None,
            order: Order::NewestFirst,
            after: None,
            limit: 100,
        }
    }
}

impl RunQuery {
    /// The ids that can be on the page: from the first to the last, both included; `None` when there can be none.
    pub(crate) fn range(&self) -> Option<(RunId, RunId)> {
        let mut low = self.accepted_from.map_or(RunId::MIN, RunId::first_at);
        let mut high = match self.accepted_before {
            None => RunId::MAX,
            Some(before) => RunId::from_u64(RunId::first_at(before).as_u64().checked_sub(1)?)?,
        };
        match (self.after, self.order) {
            (None, _) => {}
            (Some(after), Order::OldestFirst) => low = low.max(RunId::from_u64(after.as_u64() + 1)?),
            (Some(after), Order::NewestFirst) => {
                high = high.min(RunId::from_u64(after.as_u64().checked_sub(1)?)?);
            }
        }
        (low <= high).then_some((low, high))
    }
}

/// The order of a list of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By the time of acceptance, falling.
    #[default]
    NewestFirst,
    /// By the time of acceptance, rising.
    OldestFirst,
}

/// A page of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPage {
    /// The rows, in the order asked for.
    pub rows: Vec<RunRow>,
    /// Put it into [`RunQuery::after`] for the page that follows; `None` when this is the last page.
    pub next: Option<RunId>,
}

/// Which frames to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameQuery {
    /// Whose frames.
    pub run: RunId,
    /// From this place on.
    pub from: Seq,
    /// At most so many frames.
    pub frames_max: usize,
    /// Stops after the frame that brings the payloads to so many bytes; one frame is always answered.
    pub bytes_max: usize,
}

impl FrameQuery {
    /// All frames of `run` from its first on, in pages of at most 1,000 frames or 4 MiB.
    pub const fn of(run: RunId) -> Self {
        Self { run, from: Seq::FIRST, frames_max: 1_000, bytes_max: 4 << 20 }
    }
}

/// A page of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramePage {
    /// The frames, without gaps.
    pub frames: Vec<StoredFrame>,
    /// Where the page that follows begins; `None` when there were no more frames.
    pub next: Option<Seq>,
}

/// All that is needed to go on with a run, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRun {
    /// Its row.
    pub row: RunRow,
    /// Its latest snapshot.
    pub snapshot: Option<Snapshot>,
    /// The frames after the snapshot, or all.
    pub frames: Vec<StoredFrame>,
    /// Where the next frame belongs.
    pub next: Seq,
}

/// Which timers to read: those due at `until` or before, in the order they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerQuery {
    /// The last moment of interest.
    pub until: UnixMillis,
    /// Goes on after this timer, the last of the page before.
    pub after: Option<Timer>,
    /// Rows a page, at least one.
    pub limit: usize,
}

impl TimerQuery {
    /// The place to go on after, in the order of the list.
    pub(crate) fn start(&self) -> Option<(UnixMillis, TimerKey)> {
        self.after.map(|timer| (timer.due, timer.key))
    }
}

/// Whose messages to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Everybody's.
    Anyone,
    /// Of this run.
    Run(RunId),
    /// Of no run: requests to start one.
    Nobody,
}

/// Which pending messages to read, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxQuery {
    /// Whose.
    pub recipient: Recipient,
    /// Goes on after this message, the last of the page before.
    pub after: Option<InboxId>,
    /// Rows a page, at least one.
    pub limit: usize,
}

/// Which named values to read, in the byte order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyQuery {
    /// The family of names.
    pub namespace: Arc<str>,
    /// Names that begin so; empty for all.
    pub prefix: String,
    /// Goes on after this name, the last of the page before.
    pub after: Option<Arc<str>>,
    /// Rows a page, at least one.
    pub limit: usize,
}

/// A page of named values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The values, in the order of their names.
    pub values: Vec<KeyValue>,
    /// Put it into [`KeyQuery::after`] for the page that follows; `None` when this is the last page.
    pub next: Option<Arc<str>>,
}
