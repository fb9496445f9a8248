//! Groups: which of the waiting commits one statement can write.
//!
//! The statement checks all commits against what was stored before it, so no two commits of a group may depend on each other. What
//! several commits append to one run is merged into one *unit*, because one statement cannot change what it has just inserted. Where
//! neither works the group ends, and the next statement begins with the commit that did not fit.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use loom_store::{Commit, Frame, InboxId, RunId, RunRow, Seq, TimerKey, Under};

use crate::{pack::pack, queue::Entry};

/// A commit in the form in which it is written. Compressed by the caller's thread, not by the writer's.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) commit: Commit,
    pub(crate) frames: Vec<(i16, Frame)>,
    pub(crate) snapshot: Option<(i16, Bytes)>,
}

impl Packed {
    pub(crate) fn new(commit: Commit) -> Self {
        let frames = commit.journal.iter().flat_map(|journal| &journal.frames).map(|frame| {
            let (codec, payload) = pack(&frame.payload);
            (codec, Frame { at: frame.at, payload })
        });
        let frames = frames.collect();
        let snapshot = commit.snapshot.as_ref().map(|snapshot| pack(&snapshot.state));
        Self { commit, frames, snapshot }
    }

    /// Bytes that it adds to the size of its run.
    pub(crate) fn stored_bytes(&self) -> i64 {
        let frames: usize = self.frames.iter().map(|(_, frame)| frame.payload.len()).sum();
        let snapshot = self.snapshot.as_ref().map_or(0, |(_, state)| state.len());
        let blobs: u64 = self.commit.blobs.iter().map(loom_store::Blob::size).sum();
        (frames + snapshot) as i64 + blobs.cast_signed()
    }

    /// Whether it neither writes nor checks anything.
    fn is_empty(&self) -> bool {
        let Commit {
            under,
            journal,
            row,
            snapshot,
            timers_set,
            timers_cleared,
            definitions,
            blobs,
            inbox_consumed,
            inbox_posted,
            keys,
            urgency: _,
        } = &self.commit;
        under.is_none()
            && journal.is_none()
            && row.is_none()
            && snapshot.is_none()
            && timers_set.is_empty()
            && timers_cleared.is_empty()
            && definitions.is_empty()
            && blobs.is_empty()
            && inbox_consumed.is_empty()
            && inbox_posted.is_empty()
            && keys.is_empty()
    }
}

/// Commits that are written together or not at all: one commit, or several that continue one run.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) entries: Vec<Entry>,
}

impl Unit {
    pub(crate) fn commits(&self) -> impl Iterator<Item = &Packed> + Clone {
        self.entries.iter().map(|entry| &entry.packed)
    }

    pub(crate) fn under(&self) -> Option<Under> {
        self.entries.first().and_then(|entry| entry.packed.commit.under)
    }

    pub(crate) fn run(&self) -> Option<RunId> {
        self.entries.first().and_then(|entry| entry.packed.commit.run())
    }

    /// Where its frames begin, if it appends any or checks where the journal ends.
    pub(crate) fn first(&self) -> Option<(RunId, Seq)> {
        self.commits()
            .find_map(|packed| packed.commit.journal.as_ref())
            .map(|journal| (journal.run, journal.first))
    }

    /// Its row, as its last commit leaves it.
    pub(crate) fn row(&self) -> Option<&RunRow> {
        self.commits().filter_map(|packed| packed.commit.row.as_ref()).last()
    }

    /// Whether it consists of several commits.
    pub(crate) fn is_merged(&self) -> bool {
        self.entries.len() > 1
    }
}

/// Commits that one statement writes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) units: Vec<Unit>,
    /// Empty commits: they only wait for those before them.
    pub(crate) empty: Vec<Entry>,
}

impl Group {
    /// Takes commits from the front of `waiting`, as long as one statement can write them. Without `merge`, each unit is one commit.
    pub(crate) fn cut(waiting: &mut VecDeque<Entry>, merge: bool) -> Self {
        let mut group = Self::default();
        let mut touched = Touched::default();
        let mut next_place = 0;
        while let Some(entry) = waiting.front() {
            if entry.packed.is_empty() {
                group.empty.extend(waiting.pop_front());
                continue;
            }
            let commit = &entry.packed.commit;
            let run = commit.run();
            let place = match run.and_then(|run| touched.runs.get(&run)) {
                Some((place, state)) if merge && state.continues(commit) => Some(*place),
                Some(_) => break,
                None => None,
            };
            if !touched.add(commit) {
                break;
            }
            let number = place.unwrap_or(group.units.len());
            if let Some(run) = run {
                let state = touched.runs.entry(run).or_insert_with(|| (number, RunState::new(commit)));
                state.1.add(commit);
            }
            let mut entry = waiting.pop_front().expect("it was looked at");
            (entry.place, next_place) = (next_place, next_place + 1);
            match group.units.get_mut(number) {
                Some(unit) => unit.entries.push(entry),
                None => group.units.push(Unit { entries: vec![entry] }),
            }
        }
        group
    }

    /// Its commits in the order in which they were accepted, each with the number of its unit, from 1.
    pub(crate) fn in_order(&self) -> Vec<(i32, &Entry)> {
        let units = (1..).zip(&self.units);
        let mut entries: Vec<_> =
            units.flat_map(|(u, unit)| unit.entries.iter().map(move |entry| (u, entry))).collect();
        entries.sort_by_key(|(_, entry)| entry.place);
        entries
    }

    /// All its commits, in the order in which they were accepted.
    pub(crate) fn into_entries(self) -> VecDeque<Entry> {
        let mut entries: Vec<Entry> = self.units.into_iter().flat_map(|unit| unit.entries).collect();
        entries.sort_by_key(|entry| entry.place);
        entries.into_iter().chain(self.empty).collect()
    }
}

/// What the commits of a unit so far have done to its run.
#[derive(Debug)]
struct RunState {
    under: Option<Under>,
    next: Option<Seq>,
    /// Workflow, idempotency key and parent.
    identity: Option<RunRow>,
}

impl RunState {
    fn new(commit: &Commit) -> Self {
        Self { under: commit.under, next: None, identity: None }
    }

    fn add(&mut self, commit: &Commit) {
        if let Some(journal) = &commit.journal {
            self.next = Some(journal.first.plus(journal.frames.len() as u64));
        }
        if let Some(row) = &commit.row {
            self.identity = Some(row.clone());
        }
    }

    /// Whether the commit fits behind the others. One that does not is judged by a statement of its own.
    fn continues(&self, commit: &Commit) -> bool {
        let journal = commit.journal.as_ref().map(|journal| journal.first);
        self.under == commit.under
            && journal.is_none_or(|first| self.next.is_none_or(|next| next == first))
            && match (&self.identity, &commit.row) {
                (Some(known), Some(row)) => known.same_identity(row),
                _ => true,
            }
    }
}

/// Everything that at most one unit of a group may touch.
#[derive(Debug, Default)]
struct Touched {
    runs: HashMap<RunId, (usize, RunState)>,
    idempotency: HashMap<(Arc<str>, Arc<str>), RunId>,
    timers: HashMap<TimerKey, Option<RunId>>,
    consumed: HashSet<InboxId>,
    posted: HashSet<(Option<RunId>, Arc<str>)>,
    keys: HashSet<(Arc<str>, Arc<str>)>,
}

impl Touched {
    /// Adds what the commit touches, or returns false and adds nothing when something of it was touched by another commit.
    fn add(&mut self, commit: &Commit) -> bool {
        let row_key = commit
            .row
            .as_ref()
            .and_then(|row| Some((Arc::clone(&row.workflow), Arc::clone(row.idempotency_key.as_ref()?))));
        let run = commit.run();
        let timers =
            || commit.timers_set.iter().map(|timer| timer.key).chain(commit.timers_cleared.iter().copied());
        let posted = || {
            let keyed =
                |post: &loom_store::Post| Some((post.run, Arc::clone(post.idempotency_key.as_ref()?)));
            commit.inbox_posted.iter().filter_map(keyed)
        };
        let keys = || commit.keys.iter().map(|write| (Arc::clone(&write.namespace), Arc::clone(&write.key)));
        let is_taken = row_key
            .as_ref()
            .is_some_and(|key| self.idempotency.get(key).is_some_and(|by| Some(*by) != run))
            || timers().any(|timer| self.timers.get(&timer).is_some_and(|by| *by != run || run.is_none()))
            || commit.inbox_consumed.iter().any(|message| self.consumed.contains(message))
            || posted().any(|post| self.posted.contains(&post))
            || keys().any(|key| self.keys.contains(&key));
        if is_taken {
            return false;
        }
        self.idempotency.extend(row_key.zip(run));
        self.timers.extend(timers().map(|timer| (timer, run)));
        self.consumed.extend(&commit.inbox_consumed);
        self.posted.extend(posted());
        self.keys.extend(keys());
        true
    }
}
