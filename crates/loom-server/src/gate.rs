//! The concurrency limits of triggers: how many of their runs may be in progress, and how many callers may wait for a place.
//!
//! A waiting caller has not received a response yet, so nothing that was accepted can be lost here.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use loom_definition::trigger::TriggerConcurrency;
use loom_engine::RunId;
use tokio::sync::oneshot;

/// The gates of all triggers with a limit, by workflow and trigger.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    gates: HashMap<String, Gate>,
    /// The gate at which a run in progress counts.
    runs: HashMap<RunId, String>,
}

#[derive(Debug, Default)]
struct Gate {
    limit: u32,
    taken: u32,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// A place at a gate. [`Place::keep`] transfers it to a run; if it is dropped before, it becomes free again.
#[derive(Debug)]
#[must_use = "dropping it frees the place"]
pub(crate) struct Place {
    gates: Arc<Gates>,
    key: Option<String>,
}

/// All places are taken, and the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Gates {
    /// The number of callers that wait for a place, at all gates.
    pub(crate) fn waiting(&self) -> usize {
        let inner = self.lock();
        let waiting =
            inner.gates.values().map(|gate| gate.waiting.iter().filter(|turn| !turn.is_closed()).count());
        waiting.sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, or waits for one if the queue has room.
    ///
    /// # Cancel safety
    /// A dropped wait leaves the queue and passes on a place that it has already been given.
    pub(crate) async fn enter(self: &Arc<Self>, key: &str, limit: TriggerConcurrency) -> Result<Place, Full> {
        let turn = {
            let mut inner = self.lock();
            let gate = inner.gates.entry(key.to_owned()).or_default();
            gate.limit = limit.runs;
            if gate.taken < gate.limit {
                gate.taken += 1;
                None
            } else {
                gate.waiting.retain(|waiting| !waiting.is_closed());
                if gate.waiting.len() >= limit.maximum_waiting_runs as usize {
                    return Err(Full);
                }
                let (give, turn) = oneshot::channel();
                gate.waiting.push_back(give);
                Some(turn)
            }
        };
        if let Some(turn) = turn {
            let mut waiting = Waiting { gates: self, key, turn, over: false };
            // The sender lives in the gate until it is used.
            (&mut waiting.turn).await.map_err(|_| Full)?;
            waiting.over = true;
        }
        Ok(Place { gates: Arc::clone(self), key: Some(key.to_owned()) })
    }

    /// Takes a place if one is free.
    pub(crate) fn try_enter(self: &Arc<Self>, key: &str, limit: TriggerConcurrency) -> Option<Place> {
        let mut inner = self.lock();
        let gate = inner.gates.entry(key.to_owned()).or_default();
        gate.limit = limit.runs;
        if gate.taken >= gate.limit {
            return None;
        }
        gate.taken += 1;
        Some(Place { gates: Arc::clone(self), key: Some(key.to_owned()) })
    }

    /// Counts a run that is already in progress, even beyond the limit.
    pub(crate) fn adopt(&self, key: &str, limit: TriggerConcurrency, run: RunId) {
        let mut inner = self.lock();
        let gate = inner.gates.entry(key.to_owned()).or_default();
        gate.limit = limit.runs;
        gate.taken += 1;
        inner.runs.insert(run, key.to_owned());
    }

    /// Passes the place of a run that has ended to the caller that has waited longest.
    pub(crate) fn ended(&self, run: RunId) {
        let mut inner = self.lock();
        if let Some(key) = inner.runs.remove(&run) {
            inner.free(&key);
        }
    }
}

impl Inner {
    fn free(&mut self, key: &str) {
        let Some(gate) = self.gates.get_mut(key) else { return };
        gate.taken = gate.taken.saturating_sub(1);
        while gate.taken < gate.limit {
            let Some(next) = gate.waiting.pop_front() else { break };
            if next.send(()).is_ok() {
                gate.taken += 1;
            }
        }
        if gate.taken == 0 && gate.waiting.is_empty() {
            self.gates.remove(key);
        }
    }
}

/// A caller in the queue. If it is dropped before it uses its turn, a place that it was given is passed on.
struct Waiting<'a> {
    gates: &'a Gates,
    key: &'a str,
    turn: oneshot::Receiver<()>,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut inner = self.gates.lock();
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            inner.free(self.key);
        }
    }
}

impl Place {
    /// Transfers the place to runs, which hold it until they end. Each of several runs (`splitOn`) counts.
    pub(crate) fn keep(mut self, runs: &[RunId]) {
        let Some(key) = self.key.take() else { return };
        let mut inner = self.gates.lock();
        if runs.is_empty() {
            return inner.free(&key);
        }
        for (index, run) in runs.iter().enumerate() {
            if index > 0
                && let Some(gate) = inner.gates.get_mut(&key)
            {
                gate.taken += 1;
            }
            inner.runs.insert(*run, key.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.gates.lock().free(&key);
        }
    }
}

#[cfg(test)]
mod tests;
