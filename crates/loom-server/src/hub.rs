//! Receives the events of all runs: notifies watchers, counts.
//!
//! Nothing is buffered here. A watcher only learns the length of a run's journal and reads the journal itself; so a slow watcher
//! costs nothing, and none can miss an event or see one that is not durable.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use loom_engine::{Event, RunId, RunState, Watcher};
use tokio::sync::{Notify, watch};

use crate::{run_log, tally::Tally, telemetry::Recorder};

/// The receiver of all events.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) tally: Arc<Tally>,
    /// Records traces, if an exporter is configured.
    pub(crate) recorder: Option<Recorder>,
    /// Notified when a run has ended.
    pub(crate) ended: Notify,
    /// Secrets that expire soon.
    pub(crate) secrets_expiring: AtomicU64,
    watched: Mutex<HashMap<RunId, watch::Sender<u64>>>,
}

impl Hub {
    /// A hub with an optional recorder of traces.
    pub(crate) fn new(recorder: Option<Recorder>) -> Hub {
        Hub { recorder, ..Hub::default() }
    }

    /// A receiver of the number of a run's last event.
    pub(crate) fn watch(&self, run: RunId) -> watch::Receiver<u64> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Entries without watchers are removed here, when a new watcher comes.
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(run).or_insert_with(|| watch::channel(0).0).subscribe()
    }
}

impl Watcher for Hub {
    fn events(&self, state: &RunState, events: &[Event]) {
        let Some(run) = state.start().map(|start| start.run) else { return };
        if state.status().is_final() {
            self.ended.notify_one();
        }
        self.tally.events(state, events);
        run_log::events(state, events);
        if let Some(recorder) = &self.recorder {
            recorder.events(state, events);
        }
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&run) {
            sender.send_replace(state.seq());
        }
    }

    fn resumes(&self, state: &RunState) {
        if let Some(recorder) = &self.recorder {
            recorder.resumes(state);
        }
    }

    fn parked(&self, run: RunId) {
        if let Some(recorder) = &self.recorder {
            recorder.forget(run);
        }
    }

    fn gone(&self, run: RunId) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&run) {
            // Wakes the watchers, which read the journal.
            sender.send_modify(|_| {});
        }
    }
}
