//! Which runs a process is at work on, for the process after it.

use std::{fmt, sync::Arc};

use crate::{RunId, Seq};

/// What a backend does when work is over.
pub(crate) trait Release: Send + Sync {
    /// The work under this number is over.
    fn release(&self, number: u16);
}

/// Says that its owner is at work on a run, until it is dropped; see [`Store::at_work`](crate::Store::at_work).
#[must_use = "dropping it says that the work is over"]
pub struct AtWork(Option<(Arc<dyn Release>, u16)>);

impl AtWork {
    /// Of a backend that keeps nothing beyond the process.
    pub const UNMARKED: AtWork = AtWork(None);

    pub(crate) fn marked(by: Arc<dyn Release>, number: u16) -> AtWork {
        AtWork(Some((by, number)))
    }
}

impl fmt::Debug for AtWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtWork").field(&self.0.as_ref().map(|(_, number)| number)).finish()
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some((by, number)) = self.0.take() {
            by.release(number);
        }
    }
}

/// What a process was at work on when it ended; see [`Store::interrupted`](crate::Store::interrupted).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupted {
    /// Tells this end from others of the same store.
    pub end: u64,
    /// The runs, each with the place where its journal was to go on. A run whose journal is past that place by now was
    /// done with that work before the process ended.
    pub runs: Vec<(RunId, Seq)>,
}
