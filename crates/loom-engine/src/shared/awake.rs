//! The runs that are awake, and how one of them leaves without missing anything.
//!
//! Something for a run (a message, a due timer, a permit) first takes effect: it is durable, due or given. Only then its sender
//! looks for the run here. A run that is here is notified; any other is loaded. A run leaves only if it has not been notified
//! since it last checked everything that could concern it. Both steps hold the same lock, so a message that arrives before the
//! run has left keeps it awake, and one that arrives later loads it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::event::RunId;

/// The runs that are awake, each with the channels to it.
#[derive(Debug)]
pub(crate) struct Awake<T>(Mutex<HashMap<RunId, Known<T>>>);

#[derive(Debug)]
struct Known<T> {
    reached: T,
    /// How often the run has been notified.
    notices: u64,
}

/// How often a run had been notified when it began to look at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl<T> Default for Awake<T> {
    fn default() -> Awake<T> {
        Awake(Mutex::new(HashMap::new()))
    }
}

impl<T> Awake<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run, and performs `with` under the same lock. None if the run is here already.
    pub(crate) fn enter<R>(&self, run: RunId, reached: T, with: impl FnOnce() -> R) -> Option<R> {
        match self.lock().entry(run) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Known { reached, notices: 0 });
                Some(with())
            }
        }
    }

    /// Notifies a run: what was done before this call is seen by the run before it leaves. None if the run is not here; then
    /// it has to be loaded. Returns the result of `with`, which gets the channels to the run.
    pub(crate) fn notify<R>(&self, run: RunId, with: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock().get_mut(&run).map(|known| {
            known.notices += 1;
            with(&known.reached)
        })
    }

    /// Like [`Awake::notify`]; if the run is not here, performs `absent` instead, under the same lock.
    pub(crate) fn notify_or<R>(
        &self,
        run: RunId,
        with: impl FnOnce(&T) -> R,
        absent: impl FnOnce() -> R,
    ) -> R {
        match self.lock().get_mut(&run) {
            Some(known) => {
                known.notices += 1;
                with(&known.reached)
            }
            None => absent(),
        }
    }

    /// Passes the channels to a run to `with`, without a notice.
    pub(crate) fn find<R>(&self, run: RunId, with: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock().get(&run).map(|known| with(&known.reached))
    }

    /// What `with` returns for the runs, without a notice.
    pub(crate) fn collect<R>(&self, with: impl Fn(RunId, &T) -> Option<R>) -> Vec<R> {
        self.lock().iter().filter_map(|(run, known)| with(*run, &known.reached)).collect()
    }

    /// Whether a run is here.
    pub(crate) fn contains(&self, run: RunId) -> bool {
        self.lock().contains_key(&run)
    }

    /// The number of runs.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// To be called by a run before it looks at everything that may concern it.
    pub(crate) fn look(&self, run: RunId) -> Seen {
        Seen(self.lock().get(&run).map_or(0, |known| known.notices))
    }

    /// Removes a run that has looked at everything, unless it has been notified since. Performs `aside` under the same lock if
    /// the run leaves, which it does not if `aside` returns false. Returns whether it has left.
    pub(crate) fn leave(&self, run: RunId, seen: Seen, aside: impl FnOnce() -> bool) -> bool {
        let mut runs = self.lock();
        let leaves = runs.get(&run).is_some_and(|known| known.notices == seen.0) && aside();
        if leaves {
            runs.remove(&run);
        }
        leaves
    }

    /// Removes a run.
    pub(crate) fn remove(&self, run: RunId) {
        self.lock().remove(&run);
    }
}

#[cfg(test)]
mod tests;
