//! Work that is ready in a run: queued as events are applied, and derived from the state when a run is loaded.

use crate::event::{OpeningId, Place};

/// Work that is ready. Entries may be stale, and are checked when they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// An action's predecessors have all ended.
    Action(Place),
    /// All actions of a block have ended.
    BlockDone(OpeningId),
    /// A Foreach may open more iterations, or is done.
    Spawn(Place),
    /// An admitted action is ready to be executed.
    Execute(Place),
}
