//! The feed of changes of a store in memory.

use std::collections::VecDeque;

use crate::{Change, ChangePage, Cursor, RunId};

/// The newest changes, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Feed {
    changes: VecDeque<Change>,
    pub(super) last: u64,
}

impl Feed {
    /// How many changes are kept.
    const KEPT: usize = 100_000;

    pub(super) fn add(&mut self, change: Change) {
        if self.changes.len() == Self::KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.last += 1;
    }

    pub(super) fn read(&self, after: Option<&Cursor>, limit: usize) -> ChangePage {
        let known = after.and_then(|cursor| <[u64; 1]>::try_from(cursor.positions()).ok());
        let [after_number] = known.unwrap_or_default();
        let first = self.last - self.changes.len() as u64;
        let skip = usize::try_from(after_number.saturating_sub(first)).unwrap_or(usize::MAX);
        let changes: Vec<Change> = self.changes.iter().skip(skip).take(limit.max(1)).cloned().collect();
        let next = after_number.max(first).min(self.last) + changes.len() as u64;
        ChangePage {
            has_more: next < self.last,
            is_incomplete: after_number < first || known.is_none() != after.is_none(),
            changes,
            next: Cursor::new([next]),
        }
    }

    /// Forgets what retention has removed: a reader that has not seen it starts over.
    pub(super) fn forget_run(&mut self, run: RunId) {
        let about = |change: &Change| match change {
            Change::Run(changed) => *changed == run,
            Change::Message { run: to, .. } => *to == Some(run),
            Change::Value { .. } => false,
        };
        if let Some(newest) = self.changes.iter().rposition(about) {
            self.changes.drain(..=newest);
        }
    }
}
