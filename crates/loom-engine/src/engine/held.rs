//! Runs that do not continue for now, or at all, with the reasons.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use crate::{Engine, event::RunId, unloadable::RecoverError};

/// Runs whose journal could not be written, or could not be read afterwards, with the reason.
#[derive(Default)]
pub(super) struct Held {
    pub(super) runs: BTreeMap<RunId, Arc<str>>,
    /// Number of times held runs have been released.
    pub(super) releases: u64,
    /// Runs that cannot be read, with the reason. The store works, so trying again does not help.
    pub(super) unreadable: BTreeMap<RunId, Arc<str>>,
}

impl Held {
    /// Notes why a run could not be loaded. Returns whether it is held, because loading it may succeed later.
    pub(super) fn not_loaded(&mut self, run: RunId, error: &RecoverError) -> bool {
        let is_held = match error {
            RecoverError::Store { .. } | RecoverError::Held { .. } | RecoverError::Secret { .. } => true,
            RecoverError::Journal { .. }
            | RecoverError::Illegal { .. }
            | RecoverError::Value { .. }
            | RecoverError::Definition { .. } => false,
        };
        let list = if is_held { &mut self.runs } else { &mut self.unreadable };
        list.insert(run, error.to_string().into());
        is_held
    }
}

impl Engine {
    /// The runs that are held, each for a reason of its own.
    pub fn held_runs(&self) -> Vec<RunId> {
        let held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.runs.keys().copied().collect()
    }
}
