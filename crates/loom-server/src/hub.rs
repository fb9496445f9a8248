//! Hears of every event of every run: wakes those who watch a run, frees places, counts.
//!
//! Nothing is buffered here. A watcher is only told how far a run's journal has come, and reads the journal itself; so
//! a slow one costs nothing, and none can miss an event or see one that is not durable.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use loom_engine::{Event, RunId, RunState, Watcher};
use tokio::sync::watch;

use crate::{gate::Gates, metrics::Tally, telemetry::Recorder};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) gates: Arc<Gates>,
    pub(crate) tally: Arc<Tally>,
    /// Records traces, if somebody wants them.
    pub(crate) recorder: Option<Recorder>,
    watched: Mutex<HashMap<RunId, watch::Sender<u64>>>,
}

impl Hub {
    /// A hub that has traces recorded, if there is a recorder.
    pub(crate) fn new(recorder: Option<Recorder>) -> Hub {
        Hub { recorder, ..Hub::default() }
    }

    /// Tells the number of a run's last event, now and whenever there are more.
    pub(crate) fn watch(&self, run: RunId) -> watch::Receiver<u64> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whom nobody watches any more go when somebody new comes.
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(run).or_insert_with(|| watch::channel(0).0).subscribe()
    }
}

impl Watcher for Hub {
    fn events(&self, state: &RunState, events: &[Event]) {
        let Some(run) = state.start().map(|start| start.run) else { return };
        if state.status().is_final() {
            self.gates.ended(run);
        }
        self.tally.events(state, events);
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

    fn gone(&self, run: RunId) {
        self.gates.ended(run);
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&run) {
            // Whatever is new is in the journal.
            sender.send_modify(|_| {});
        }
    }
}
