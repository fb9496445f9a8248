//! The port through which a host observes runs.

use crate::{
    event::{Event, RunId},
    state::RunState,
};

/// Observes runs as they progress. Called from the run's own task: implementations must be quick and never block.
pub trait Watcher: Send + Sync {
    /// Called with new events of a run; `state` already includes them.
    fn events(&self, state: &RunState, events: &[Event]);

    /// Called when a run that was loaded from the store is about to continue. `state` includes its earlier events, which
    /// are not reported again.
    fn resumes(&self, state: &RunState) {
        let _ = state;
    }

    /// Called when a run leaves memory because it only waits. [`Watcher::resumes`] follows before it continues.
    fn parked(&self, run: RunId) {
        let _ = run;
    }

    /// Called when a run leaves the engine without a reported end: the store rejected its start, or accepted its end
    /// without acknowledging it.
    fn gone(&self, run: RunId) {
        let _ = run;
    }
}
