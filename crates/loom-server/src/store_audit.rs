//! Records the use of secrets outside of runs, and changes of them, in the host's store.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use loom_engine::{
    audit::{AuditEntry, AuditSink},
    ports::Clock,
};
use loom_store::{Commit, KeyWrite, Store, Urgency};

/// Entries that wait for room in the store's queue. The oldest is dropped when there are more, and the log says so.
const WAITING_MAX: usize = 10_000;

/// Records entries in the store.
pub(crate) struct StoreAudit {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    days: u32,
    waiting: Mutex<VecDeque<KeyWrite>>,
}

impl StoreAudit {
    /// Entries are kept for this many days.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, days: u32) -> StoreAudit {
        StoreAudit { store, clock, days, waiting: Mutex::default() }
    }

    /// Records entries, and waits until they are durable.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) async fn keep(&self, entries: Vec<(String, AuditEntry)>) -> Result<(), loom_store::Error> {
        let mut commit = Commit::new();
        commit.keys = entries.iter().flat_map(|(unique, entry)| entry.writes(unique, self.days)).collect();
        self.store.commit(commit).await.map(drop)
    }
}

/// Distinguishes entries of the same millisecond.
pub(crate) fn unique() -> String {
    let mut bytes = [0; 8];
    // Without random bytes, entries of the same millisecond would replace each other; the time still distinguishes the rest.
    getrandom::fill(&mut bytes).ok();
    format!("{:016x}", u64::from_be_bytes(bytes))
}

impl AuditSink for StoreAudit {
    /// No sync is made for the entries: they are written with the next commit that somebody waits for. A run that a trigger
    /// starts is such a commit.
    fn record(&self, entries: Vec<AuditEntry>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now();
        let entries = entries.into_iter().map(|entry| AuditEntry { at, ..entry });
        waiting.extend(entries.flat_map(|entry| entry.writes(&unique(), self.days)));
        let mut commit = Commit::new();
        commit.urgency = Urgency::Lazy;
        commit.keys = waiting.drain(..).collect();
        if let Err(refused) = self.store.append(commit) {
            waiting.extend(refused.commit.keys);
            let surplus = waiting.len().saturating_sub(WAITING_MAX);
            if surplus > 0 {
                waiting.drain(..surplus);
                tracing::error!(
                    entries = surplus,
                    "entries of the audit of secrets were lost: the store does not accept them"
                );
            }
        }
    }
}
