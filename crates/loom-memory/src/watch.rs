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

/// A watcher of a [`StoredMemory`].
pub(crate) struct StoredWatch {
    memory: StoredMemory,
    news: tokio::sync::watch::Receiver<u64>,
    namespace: Namespace,
    prefix: String,
    /// After the notices in `found`; none before the first read.
    cursor: Option<Cursor>,
    /// Whether all keys have to be reported first.
    resets: bool,
    found: VecDeque<(Position, Notice)>,
}

impl fmt::Debug for StoredWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredWatch").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl StoredWatch {
    pub(crate) async fn begin(memory: StoredMemory, query: WatchQuery) -> Result<StoredWatch, Error> {
        let WatchQuery { namespace, prefix, from } = query;
        // Before the first read, so that no change falls between the two.
        let news = memory.news();
        let (cursor, resets) = match from {
            WatchFrom::Now => (Some(memory.store().latest().await?), false),
            WatchFrom::Keys => (None, true),
            WatchFrom::After(position) if &*position.0 == KEYS => (None, true),
            WatchFrom::After(position) => {
                let invalid = |_| Error::InvalidRequest {
                    why: "the position must be one that a watcher has returned".to_owned(),
                };
                (Some(position.0.parse().map_err(invalid)?), false)
            }
        };
        Ok(StoredWatch { memory, news, namespace, prefix, cursor, resets, found: VecDeque::new() })
    }

    /// Reads what has changed, if anything has.
    async fn read(&mut self) -> Result<(), Error> {
        if self.resets {
            return self.read_keys().await;
        }
        let before = self.cursor.clone();
        let page = self.memory.store().value_changes(before.clone(), PAGE).await?;
        if page.is_incomplete {
            self.resets = true;
            return Ok(());
        }
        let (heads, mut found) = (heads_of(&self.namespace), Vec::new());
        for change in page.changes {
            let Change::Value { namespace, key } = change else { continue };
            if *namespace != *heads || !key.starts_with(&self.prefix) {
                continue;
            }
            let Ok(key) = Key::new(&key) else { continue };
            found.push(self.notice_of(key).await?);
        }
        // A reader that continues after a notice in the middle reads the whole page again, and misses nothing.
        let position =
            |cursor: Option<&Cursor>| Position(cursor.map(Cursor::to_string).unwrap_or_default().into());
        let last = found.len();
        for (index, notice) in found.into_iter().enumerate() {
            let cursor = if index + 1 == last { Some(&page.next) } else { before.as_ref() };
            self.found.push_back((position(cursor), notice));
        }
        self.cursor = Some(page.next);
        Ok(())
    }

    /// Reports all keys that exist, and continues with what has changed since.
    async fn read_keys(&mut self) -> Result<(), Error> {
        let store = Arc::clone(self.memory.store());
        let cursor = store.latest().await?;
        let mut found = vec![Notice::Reset];
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
                    found.push(notice);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // A reader that continues after a notice in the middle receives all keys again.
        let last = found.len() - 1;
        for (index, notice) in found.into_iter().enumerate() {
            let position = if index == last { cursor.to_string() } else { KEYS.to_owned() };
            self.found.push_back((Position(position.into()), notice));
        }
        (self.cursor, self.resets) = (Some(cursor), false);
        Ok(())
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

impl Watch for StoredWatch {
    fn next(&mut self) -> Reply<'_, (Position, Notice)> {
        Box::pin(async move {
            loop {
                if let Some(found) = self.found.pop_front() {
                    return Ok(found);
                }
                self.news.borrow_and_update();
                let before = self.cursor.clone();
                self.read().await?;
                if self.found.is_empty() && self.cursor == before && !self.resets {
                    // The sender lives as long as the memory, which this watcher has.
                    tokio::time::timeout(POLL, self.news.changed()).await.ok();
                }
            }
        })
    }
}
