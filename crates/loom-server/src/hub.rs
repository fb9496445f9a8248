//! Hears of every event of every run: wakes those who watch a run, frees places, counts.
//!
//! Nothing is buffered here. A watcher is only told how far a run's journal has come, and reads the journal itself; so
//! a slow one costs nothing, and none can miss an event or see one that is not durable.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use loom_definition::RunStatus;
use loom_engine::{Event, RunId, RunState, Watcher};
use tokio::sync::watch;

use crate::{gate::Gates, telemetry::Recorder};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) gates: Arc<Gates>,
    /// Records traces, if somebody wants them.
    pub(crate) recorder: Option<Recorder>,
    watched: Mutex<HashMap<RunId, watch::Sender<u64>>>,
    started: AtomicU64,
    ended: [AtomicU64; RunStatus::ALL.len()],
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

    /// Runs started since the process began.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Runs ended since the process began, by how.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (RunStatus, u64)> + '_ {
        let counts = RunStatus::ALL.into_iter().zip(&self.ended);
        counts.map(|(status, count)| (status, count.load(Ordering::Relaxed)))
    }

    fn count_end(&self, status: RunStatus) {
        if let Some(place) = RunStatus::ALL.into_iter().position(|known| known == status) {
            self.ended[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Watcher for Hub {
    fn events(&self, state: &RunState, events: &[Event]) {
        let Some(run) = state.start().map(|start| start.run) else { return };
        for event in events {
            match event {
                Event::RunStarted { .. } => {
                    self.started.fetch_add(1, Ordering::Relaxed);
                }
                Event::RunEnded { status, .. } => {
                    self.gates.ended(run);
                    self.count_end(*status);
                }
                _ => {}
            }
        }
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
}
