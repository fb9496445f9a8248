//! Watching: what changes in a namespace, one change after the other.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use loom_expression::Value;
use loom_store::{Change, Cursor, KeyQuery, UnixMillis};

use crate::{Error, Key, Namespace, Reply, Revision, StoredMemory, Type, stored::heads_of};

/// Which changes to watch.
#[derive(Clone, Debug)]
pub struct WatchQuery {
    /// The namespace.
    pub namespace: Namespace,
    /// Only keys that begin with this; empty for all keys.
    pub prefix: String,
    /// Where to begin.
    pub from: WatchFrom,
}

/// Where a watcher begins.
#[derive(Clone, Debug)]
pub enum WatchFrom {
    /// With the next change.
    Now,
    /// With a [`Notice::Reset`] and the keys that exist.
    Keys,
    /// After the notice that had this position.
    After(Position),
}

/// A position among the changes of a memory. Opaque: only the backend that made it knows what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub Arc<str>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a watcher reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The memory no longer has all changes since the watcher's position, or the watcher asked for all keys: forget what was
    /// reported before. Every key that exists now follows as [`Notice::Written`].
    Reset,
    /// A key was written. Several writes of a key may be reported as one, with the newest content, and a watcher that continues
    /// from a position may see a revision again.
    Written {
        /// The key.
        key: Key,
        /// Its type.
        kind: Type,
        /// The revision.
        revision: Revision,
        /// What it holds.
        value: Value,
        /// When it expires.
        expires: Option<UnixMillis>,
    },
    /// A key was deleted, or has expired and was removed.
    Deleted {
        /// The key.
        key: Key,
    },
}

/// Reports changes in the order in which they took effect, for each key.
pub trait Watch: fmt::Debug + Send {
    /// Waits for the next notice. To continue with the one after it, begin with the position that comes with it.
    ///
    /// # Cancel safety
    /// Cancel safe: a notice that was not returned is returned by the next call.
    fn next(&mut self) -> Reply<'_, (Position, Notice)>;
}

/// Changes, or keys, that are read at a time.
const PAGE: usize = 100;

/// The position of a watcher that has not reported all keys yet.
const KEYS: &str = "keys";

/// How often the store is asked without a reason: other processes write, and sweeps remove what has expired.
const POLL: Duration = Duration::from_secs(1);

/// Reads the changes of a namespace in pages, for a reader that stores its own position.
pub struct Changes {
    memory: StoredMemory,
    news: tokio::sync::watch::Receiver<u64>,
    namespace: Namespace,
    prefix: String,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Some changes, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedPage {
    /// The changes. The content of a key is read after its change, so it may be that of a change which comes later, and be
    /// reported again there.
    pub notices: Vec<Notice>,
    /// The position after them.
    pub next: Position,
    /// Whether the page contains everything that was committed before it was read.
    pub is_last: bool,
}

impl Changes {
    pub(crate) fn new(memory: StoredMemory, namespace: Namespace, prefix: &str) -> Changes {
        // Before the first read, so that no change falls between the two.
        let news = memory.news();
        Changes { memory, news, namespace, prefix: prefix.to_owned() }
    }

    /// The position after everything that is durable now.
    ///
    /// # Errors
    /// The store's.
    pub async fn latest(&self) -> Result<Position, Error> {
        Ok(position_at(&self.memory.store().latest().await?))
    }

    /// Reads the changes after a position. If the store no longer has them all, the page begins with [`Notice::Reset`] and has
    /// every key that exists.
    ///
    /// # Errors
    /// When the position is invalid, or a key cannot be read.
    pub async fn read(&mut self, after: &Position) -> Result<ChangedPage, Error> {
        self.news.borrow_and_update();
        if &*after.0 == KEYS {
            return self.read_keys().await;
        }
        let page = self.memory.store().value_changes(Some(cursor_at(after)?), PAGE).await?;
        if page.is_incomplete {
            return self.read_keys().await;
        }
        let (heads, mut notices) = (heads_of(&self.namespace), Vec::new());
        for change in page.changes {
            let Change::Value { namespace, key } = change else { continue };
            if *namespace != *heads || !key.starts_with(&self.prefix) {
                continue;
            }
            let Ok(key) = Key::new(&key) else { continue };
            notices.push(self.notice_of(key).await?);
        }
        Ok(ChangedPage { notices, next: position_at(&page.next), is_last: !page.has_more })
    }

    /// Waits for a change by this process, or for a moment, because others may write too.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn changed(&mut self) {
        // The sender lives as long as the memory, which this has.
        tokio::time::timeout(POLL, self.news.changed()).await.ok();
    }

    /// All keys that exist, as changes.
    async fn read_keys(&self) -> Result<ChangedPage, Error> {
        let store = Arc::clone(self.memory.store());
        let cursor = store.latest().await?;
        let mut notices = vec![Notice::Reset];
        let mut after = None;
        loop {
            let query = KeyQuery {
                namespace: heads_of(&self.namespace),
                prefix: self.prefix.clone(),
                after: after.take(),
                limit: PAGE,
            };
            let page = store.keys(query).await?;
            for stored in page.values {
                let Ok(key) = Key::new(&stored.key) else { continue };
                let notice = self.notice_of(key).await?;
                if matches!(notice, Notice::Written { .. }) {
                    notices.push(notice);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(ChangedPage { notices, next: position_at(&cursor), is_last: true });
            }
        }
    }

    async fn notice_of(&self, key: Key) -> Result<Notice, Error> {
        Ok(match self.memory.entry(&self.namespace, &key).await? {
            None => Notice::Deleted { key },
            Some(entry) => Notice::Written {
                key,
                kind: entry.content.kind(),
                revision: entry.revision,
                value: entry.content.value().clone(),
                expires: entry.expires,
            },
        })
    }
}

fn position_at(cursor: &Cursor) -> Position {
    Position(cursor.to_string().into())
}

fn cursor_at(position: &Position) -> Result<Cursor, Error> {
    position.0.parse().map_err(|_| Error::InvalidRequest {
        why: "the position must be one that a watcher has returned".to_owned(),
    })
}

/// A watcher of a [`StoredMemory`].
#[derive(Debug)]
pub(crate) struct StoredWatch {
    changes: Changes,
    /// After the notices in `found`.
    position: Position,
    found: VecDeque<(Position, Notice)>,
}

impl StoredWatch {
    pub(crate) async fn begin(memory: StoredMemory, query: WatchQuery) -> Result<StoredWatch, Error> {
        let WatchQuery { namespace, prefix, from } = query;
        let changes = Changes::new(memory, namespace, &prefix);
        let position = match from {
            WatchFrom::Now => changes.latest().await?,
            WatchFrom::Keys => Position(KEYS.into()),
            WatchFrom::After(position) => position,
        };
        if &*position.0 != KEYS {
            cursor_at(&position)?;
        }
        Ok(StoredWatch { changes, position, found: VecDeque::new() })
    }

    /// Puts the notices of a page into the queue. A reader that continues after a notice in the middle reads the whole page
    /// again, and misses nothing.
    fn take(&mut self, page: ChangedPage) {
        let before = match page.notices.first() {
            Some(Notice::Reset) => Position(KEYS.into()),
            _ => self.position.clone(),
        };
        let last = page.notices.len();
        for (index, notice) in page.notices.into_iter().enumerate() {
            let position = if index + 1 == last { &page.next } else { &before };
            self.found.push_back((position.clone(), notice));
        }
        self.position = page.next;
    }
}

impl Watch for StoredWatch {
    fn next(&mut self) -> Reply<'_, (Position, Notice)> {
        Box::pin(async move {
            loop {
                if let Some(found) = self.found.pop_front() {
                    return Ok(found);
                }
                let page = self.changes.read(&self.position).await?;
                let is_last = page.is_last;
                self.take(page);
                if self.found.is_empty() && is_last {
                    self.changes.changed().await;
                }
            }
        })
    }
}
