//! Runs that do not continue for now, or at all, with the reasons.

use std::{collections::BTreeMap, sync::Arc};

use crate::{event::RunId, unloadable::RecoverError};

/// Runs whose journal could not be written, or could not be read afterwards, with the reason.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) runs: BTreeMap<RunId, Arc<str>>,
    /// Number of times held runs have been released.
    pub(crate) releases: u64,
    /// Runs that cannot be read, with the reason. The store works, so trying again does not help.
    pub(crate) unreadable: BTreeMap<RunId, Arc<str>>,
}

impl Held {
    /// Notes why a run could not be loaded. Returns whether it is held, because loading it may succeed later.
    pub(crate) fn not_loaded(&mut self, run: RunId, error: &RecoverError) -> bool {
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
