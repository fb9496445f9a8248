//! The wheel: when which parked run is due. It knows a part of the store's timers, those that are due first.
//!
//! The store is read in the order of due times, up to a cursor. A timer that a run sets later than the cursor is found when
//! the cursor gets there; one that is set earlier must be added here. While the store is being read, nobody knows how far the
//! cursor will get, so everything that may be read is added.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use loom_store::{Error as StoreError, Shards, Store, Timer, TimerQuery, UnixMillis};
use tokio::sync::Notify;

use crate::{event::RunId, parked::KIND};

/// How far ahead the store is read.
const AHEAD: Duration = Duration::from_mins(1);

/// Timers known at a time. More are read when these have fired.
const KNOWN_MAX: usize = 10_000;

/// Timers read at a time.
const PAGE: usize = 1_000;

/// The timers that are due first.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    known: Mutex<Known>,
    /// Notified when something was added, which may be due before everything else.
    earlier: Notify,
}

#[derive(Debug)]
struct Known {
    due: BTreeSet<(UnixMillis, RunId)>,
    /// The last timer that was read.
    cursor: Option<Timer>,
    /// Every timer that is due until then has been read or added, or is being read.
    until: UnixMillis,
    /// Whether a task turns the wheel.
    turns: bool,
}

impl Default for Known {
    fn default() -> Known {
        Known { due: BTreeSet::new(), cursor: None, until: UnixMillis(i64::MIN), turns: false }
    }
}

impl Wheel {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller has to turn the wheel; true once.
    pub(crate) fn must_be_turned(&self) -> bool {
        !std::mem::replace(&mut self.lock().turns, true)
    }

    /// Reads the store from the beginning, because there may be timers that were another node's.
    pub(crate) fn start_over(&self) {
        let mut known = self.lock();
        (known.cursor, known.until) = (None, UnixMillis(i64::MIN));
        drop(known);
        self.earlier.notify_one();
    }

    /// Adds a timer that is in the store by now.
    pub(crate) fn set(&self, run: RunId, due: UnixMillis) {
        let mut known = self.lock();
        if due <= known.until {
            known.due.insert((due, run));
        }
        drop(known);
        self.earlier.notify_one();
    }

    /// Removes the timer of a run that is awake.
    pub(crate) fn unset(&self, run: RunId, due: UnixMillis) {
        self.lock().due.remove(&(due, run));
    }

    /// The runs that are due, and the time at which the next one is due or the wheel has to be read again.
    pub(crate) fn due(&self, now: UnixMillis) -> (Vec<RunId>, UnixMillis) {
        let mut known = self.lock();
        let later = known.due.split_off(&(UnixMillis(now.0.saturating_add(1)), RunId::MIN));
        let due = std::mem::replace(&mut known.due, later);
        let next = known.due.first().map_or(known.until, |(due, _)| (*due).min(known.until));
        (due.into_iter().map(|(_, run)| run).collect(), next)
    }

    /// Reads the timers that are due within the next minute.
    ///
    /// # Errors
    /// The store's. What was read by then is known.
    pub(crate) async fn read_ahead(&self, store: &dyn Store, now: UnixMillis) -> Result<(), StoreError> {
        let ahead = now.plus(AHEAD.as_millis() as i64);
        loop {
            let query = {
                let mut known = self.lock();
                if known.due.len() >= KNOWN_MAX || known.until >= ahead {
                    return Ok(());
                }
                // Before the read, so that a timer that the read just misses is added.
                known.until = ahead;
                TimerQuery { shards: Shards::ALL, until: ahead, after: known.cursor, limit: PAGE }
            };
            let page = store.timers(query).await;
            let mut known = self.lock();
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    known.until = known.cursor.map_or(UnixMillis(i64::MIN), |last| last.due);
                    return Err(error);
                }
            };
            known.due.extend(
                page.iter().filter(|timer| timer.kind == KIND).map(|timer| (timer.due, timer.key.run)),
            );
            known.cursor = page.last().copied().or(known.cursor);
            if page.len() == PAGE {
                // There are more. Those that are due with the last one are read again, or added.
                known.until = known.cursor.map_or(known.until, |last| last.due);
            }
        }
    }

    /// Whether there is no timer, neither here nor in the store. False if the store cannot say.
    pub(crate) async fn is_empty(&self, store: &dyn Store) -> bool {
        if !self.lock().due.is_empty() {
            return false;
        }
        let query = TimerQuery { shards: Shards::ALL, until: UnixMillis(i64::MAX), after: None, limit: 1 };
        store.timers(query).await.is_ok_and(|timers| timers.is_empty())
    }

    /// Waits until a timer was added.
    pub(crate) async fn changed(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests;
