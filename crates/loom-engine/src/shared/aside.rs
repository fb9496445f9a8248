//! What runs own that have no task for now.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::gate::Pass;
use crate::{
    event::{Place, RunId},
    guard::Admission,
};

/// What a run owns while it has no task.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(crate) pass: Pass,
    /// The places in services of the executing actions of a parked run; none for a run that is not parked.
    pub(crate) admissions: Option<HashMap<Place, Admission>>,
}

/// What runs own that are accepted but have no task: they are parked, queued, or held because the store does not work.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<HashMap<RunId, Owned>>);

impl Aside {
    /// Keeps the pass of a run until the run is loaded.
    pub(crate) fn put(&self, run: RunId, pass: Pass) {
        if !matches!(pass, Pass::Free) {
            self.keep(run, Owned { pass, admissions: None });
        }
    }

    /// Keeps what a run owns until the run is loaded.
    pub(crate) fn keep(&self, run: RunId, owned: Owned) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, owned);
    }

    /// Whether a run that is not in memory has a pass.
    pub(crate) fn has_pass(&self, run: RunId) -> bool {
        let aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        aside.get(&run).is_some_and(|owned| !matches!(owned.pass, Pass::Free))
    }

    /// Gives a pass to a run that is not in memory. Returns it if the run has one.
    pub(crate) fn give(&self, run: RunId, pass: Pass, is_parked: bool) -> Option<Pass> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = aside
            .entry(run)
            .or_insert_with(|| Owned { pass: Pass::Free, admissions: is_parked.then(HashMap::new) });
        if !matches!(owned.pass, Pass::Free) {
            return Some(pass);
        }
        owned.pass = pass;
        None
    }

    /// Gives up what all other runs own.
    pub(crate) fn retain(&self, stays: impl Fn(RunId) -> bool) {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Owned> = aside.extract_if(|run, _| !stays(*run)).map(|(_, owned)| owned).collect();
        drop(aside);
        // A permit that is dropped admits another run, which needs the lock.
        drop(gone);
    }

    /// What a run owns that is being loaded.
    pub(crate) fn take(&self, run: RunId) -> Option<Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}
