//! Records which runs a process is working on, for the process that opens the store after it.

use std::{fmt, sync::Arc};

use crate::{RunId, Seq};

/// How a backend clears a mark; see [`AtWork::marked`].
pub trait Release: Send + Sync {
    /// The work with this number is over.
    fn release(&self, number: u16);
}

/// Records that its owner is working on a run, until it is dropped; see [`Upkeep::at_work`](crate::Upkeep::at_work).
#[must_use = "dropping it records that the work is over"]
pub struct AtWork(Option<(Arc<dyn Release>, u16)>);

impl AtWork {
    /// For a backend that keeps nothing beyond the process.
    pub const UNMARKED: AtWork = AtWork(None);

    /// The mark with this number, which `by` clears when the value is dropped.
    pub fn marked(by: Arc<dyn Release>, number: u16) -> AtWork {
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

/// What the previous process was working on when it ended; see [`Upkeep::interrupted`](crate::Upkeep::interrupted).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupted {
    /// Identifies the end of that process among all ends of processes that had this store open.
    pub end: u64,
    /// The runs, each with the sequence number at which its journal was to continue. When the journal is past that
    /// number now, the process had finished that work before it ended.
    pub runs: Vec<(RunId, Seq)>,
}
