//! Queries of a store, and the pages that it returns.

use std::sync::Arc;

use crate::{
    Flags, InboxId, KeyValue, Post, RunId, RunRow, Seq, Shards, Snapshot, StoredFrame, Timer, TimerKey,
    UnixMillis,
};

/// Which runs to list or count. Each field that is set narrows the list. A backend finds the runs by an index and examines a
/// limited number of them, so a query takes no longer because the store is larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// Runs of this workflow.
    pub workflow: Option<Arc<str>>,
    /// Runs with this status.
    pub status: Option<u16>,
    /// Runs with this error code.
    pub error: Option<Arc<str>>,
    /// Runs whose error text contains this, whatever the case of its ASCII letters. The empty string finds every run that has
    /// an error text.
    pub error_text: Option<Arc<str>>,
    /// Runs started by this run.
    pub parent: Option<RunId>,
    /// Runs that this trigger started.
    pub trigger: Option<Arc<str>>,
    /// Runs with this tracking id.
    pub tracking_id: Option<Arc<str>>,
    /// Runs with all of these flags.
    pub flags: Flags,
    /// Unfinished runs that are parked, or that are awake.
    pub parked: Option<bool>,
    /// Runs accepted at this time or later.
    pub accepted_from: Option<UnixMillis>,
    /// Runs accepted before this time.
    pub accepted_before: Option<UnixMillis>,
    /// Runs that started at this time or later.
    pub started_from: Option<UnixMillis>,
    /// Runs that started before this time.
    pub started_before: Option<UnixMillis>,
    /// Runs that ended at this time or later.
    pub ended_from: Option<UnixMillis>,
    /// Runs that ended before this time.
    pub ended_before: Option<UnixMillis>,
    /// The order of the list.
    pub order: Order,
    /// Continues after this run: [`RunPage::next`] of the previous page.
    pub after: Option<RunId>,
    /// Rows a page, at least 1. [`Runs::count`](crate::Runs::count) counts up to this number.
    pub limit: usize,
}

impl Default for RunQuery {
    /// The newest 100 of all runs.
    fn default() -> Self {
        Self {
            workflow: None,
            status: None,
            error: None,
            error_text: None,
            parent: None,
            trigger: None,
            tracking_id: None,
            flags: Flags::NONE,
            parked: None,
            accepted_from: None,
            accepted_before: None,
            started_from: None,
            started_before: None,
            ended_from: None,
            ended_before: None,
            order: Order::NewestFirst,
            after: None,
            limit: 100,
        }
    }
}

impl RunQuery {
    /// The range of ids that can be on the page, both ends included; `None` when no run can match.
    pub fn range(&self) -> Option<(RunId, RunId)> {
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

    /// Whether a run is on the list, wherever the list continues.
    pub fn matches(&self, row: &RunRow) -> bool {
        let is = |wanted: &Option<Arc<str>>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let within = |from: Option<UnixMillis>, before: Option<UnixMillis>, at: Option<UnixMillis>| {
            from.is_none_or(|from| at.is_some_and(|at| at >= from))
                && before.is_none_or(|before| at.is_some_and(|at| at < before))
        };
        is(&self.workflow, Some(&row.workflow))
            && self.status.is_none_or(|status| row.status == status)
            && is(&self.error, row.error.as_deref())
            && self.error_text.as_deref().is_none_or(|part| contains(row.error_text.as_deref(), part))
            && self.parent.is_none_or(|parent| row.parent == Some(parent))
            && is(&self.trigger, row.trigger.as_deref())
            && is(&self.tracking_id, row.tracking_id.as_deref())
            && row.flags.contains(self.flags)
            && self.parked.is_none_or(|parked| row.ended.is_none() && row.wake_at.is_some() == parked)
            && within(self.accepted_from, self.accepted_before, Some(row.id.time()))
            && within(self.started_from, self.started_before, row.started)
            && within(self.ended_from, self.ended_before, row.ended)
    }
}

/// Whether a text contains another, whatever the case of its ASCII letters.
fn contains(text: Option<&str>, part: &str) -> bool {
    text.is_some_and(|text| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
}

/// The order of a list of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By time of acceptance, newest first.
    #[default]
    NewestFirst,
    /// By time of acceptance, oldest first.
    OldestFirst,
}

/// A page of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPage {
    /// The rows, in the requested order.
    pub rows: Vec<RunRow>,
    /// Put it into [`RunQuery::after`] to read the next page; `None` when this is the last page. A page with fewer rows than
    /// requested may have a next one: then the backend has examined as many runs as it examines for one page.
    pub next: Option<RunId>,
}

/// How many runs match a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The number of runs that were counted, at most [`RunQuery::limit`].
    pub runs: u64,
    /// Whether those are all of them.
    pub is_exact: bool,
}

/// Which frames to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameQuery {
    /// The run.
    pub run: RunId,
    /// The first sequence number to read.
    pub from: Seq,
    /// The most frames to return, at least 1.
    pub frames_max: usize,
    /// Stops after the frame that brings the payloads to this many bytes; at least one frame is returned.
    pub bytes_max: usize,
}

impl FrameQuery {
    /// All frames of `run`, in pages of at most 1,000 frames or 4 MiB.
    pub const fn of(run: RunId) -> Self {
        Self { run, from: Seq::FIRST, frames_max: 1_000, bytes_max: 4 << 20 }
    }
}

/// A page of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramePage {
    /// The frames, without gaps.
    pub frames: Vec<StoredFrame>,
    /// The first sequence number of the next page; `None` when this is the last page.
    pub next: Option<Seq>,
}

/// Everything that is needed to resume a run, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRun {
    /// Its row.
    pub row: RunRow,
    /// Its latest snapshot.
    pub snapshot: Option<Snapshot>,
    /// The frames after the snapshot, or all frames when there is none.
    pub frames: Vec<StoredFrame>,
    /// The sequence number of the next frame.
    pub next: Seq,
    /// Whether there are messages to the run that have not been consumed.
    pub has_messages: bool,
}

/// Which timers to list: those due at `until` or before, in the order in which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerQuery {
    /// Only timers of runs in these shards.
    pub shards: Shards,
    /// The latest due time to include.
    pub until: UnixMillis,
    /// Continues after this timer, the last of the previous page.
    pub after: Option<Timer>,
    /// Rows a page, at least 1.
    pub limit: usize,
}

impl TimerQuery {
    /// The position to continue after, in the order of the list.
    pub fn start(&self) -> Option<(UnixMillis, TimerKey)> {
        self.after.map(|timer| (timer.due, timer.key))
    }
}

/// Which recipient's messages to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// All messages.
    Anyone,
    /// Messages to this run.
    Run(RunId),
    /// Messages to no run: requests to start one.
    Nobody,
}

/// Which pending messages to read, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxQuery {
    /// The recipient.
    pub recipient: Recipient,
    /// Only messages in these shards; see [`Post::shard`].
    pub shards: Shards,
    /// Continues after this message, the last of the previous page.
    pub after: Option<InboxId>,
    /// Rows a page, at least 1.
    pub limit: usize,
}

impl InboxQuery {
    /// Whether a pending message is on the list, wherever the list continues.
    pub fn matches(&self, post: &Post) -> bool {
        let to = match self.recipient {
            Recipient::Anyone => true,
            Recipient::Run(run) => post.run == Some(run),
            Recipient::Nobody => post.run.is_none(),
        };
        to && self.shards.contains(post.shard())
    }
}

/// Which named values to list, in the byte order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyQuery {
    /// The namespace.
    pub namespace: Arc<str>,
    /// Only names that begin with this prefix; empty for all names.
    pub prefix: String,
    /// Continues after this name, the last of the previous page.
    pub after: Option<Arc<str>>,
    /// Rows a page, at least 1.
    pub limit: usize,
}

/// A page of named values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The values, in the order of their names.
    pub values: Vec<KeyValue>,
    /// Put it into [`KeyQuery::after`] to read the next page; `None` when this is the last page.
    pub next: Option<Arc<str>>,
}
