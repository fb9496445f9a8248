//! The feed of changes: what was committed after a cursor.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Answer, InboxId, InvalidId, RunId};

/// Says what has changed, for readers that follow a store which others write.
///
/// # What every backend promises
/// - A reader that continues with [`ChangePage::next`] is shown every commit, or a page that says
///   [`is_incomplete`](ChangePage::is_incomplete). A number that is assigned before its commit takes effect must therefore
///   not be a position in a cursor; one position for each writer whose commits take effect one after the other may be.
/// - Changes of one run, message or value are shown in the order of their commits. Several changes of one of them may be
///   shown as one.
pub trait Changes: fmt::Debug + Send + Sync {
    /// Returns changes after `after`, or from the beginning; at most about `limit` of each kind.
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage>;

    /// Like [`changes`](Changes::changes), with the changes of named values only. Cursors of both methods can be exchanged.
    /// The default reads everything, and leaves out the rest.
    fn value_changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        let page = self.changes(after, limit);
        Box::pin(async move {
            let mut page = page.await?;
            page.changes.retain(|change| matches!(change, Change::Value { .. }));
            Ok(page)
        })
    }

    /// The cursor after everything that is durable now, for a reader that has just read a list.
    fn latest(&self) -> Answer<Cursor>;
}

/// A position in the feed of changes. Opaque: only the backend that made it knows what its numbers mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Arc<[u64]>);

impl Cursor {
    /// A cursor with these positions, one for each writer or kind of change.
    pub fn new(positions: impl Into<Arc<[u64]>>) -> Self {
        Self(positions.into())
    }

    /// The positions.
    pub fn positions(&self) -> &[u64] {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, position) in self.0.iter().enumerate() {
            write!(f, "{}{position}", if place == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let positions = text.split('-').map(str::parse).collect::<Result<Vec<u64>, _>>();
        positions.map(Self::new).map_err(|_| InvalidId { kind: "cursor", text: text.into() })
    }
}

/// Something that has changed. Read it to learn how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row or the journal of a run, or the run was deleted.
    Run(RunId),
    /// A message was posted.
    Message {
        /// The message.
        id: InboxId,
        /// The run that it is addressed to.
        run: Option<RunId>,
    },
    /// A named value was written or deleted.
    Value {
        /// The namespace.
        namespace: Arc<str>,
        /// The name within the namespace.
        key: Arc<str>,
    },
}

/// A page of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes.
    pub changes: Vec<Change>,
    /// Where the next page begins, also when there are no changes yet.
    pub next: Cursor,
    /// Whether there are more changes now.
    pub has_more: bool,
    /// Whether the store no longer has all changes after the cursor. Read what you follow anew, and continue with
    /// [`next`](ChangePage::next).
    pub is_incomplete: bool,
}
