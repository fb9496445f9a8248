//! The other runs, as the task of one run sees them: the runs that its actions start, and the run that started it.
//!
//! The engine implements this port; the tasks of runs know nothing else of the engine.

use std::{pin::Pin, sync::Arc};

use loom_expression::Value;

use crate::{
    event::RunId,
    ports::Call,
    run_handle::RunHandle,
    start::{RunRequest, StartError},
    unloadable::RecoverError,
};

/// A future of [`OtherRuns`].
pub(crate) type RunsFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A run that a parent calls.
pub(crate) enum Child {
    /// It was started now.
    Started(RunHandle),
    /// It was started by an earlier process, or is queued.
    Known,
}

/// What one run needs of the others.
pub(crate) trait OtherRuns: Send + Sync {
    /// Starts the runs that one attempt at an action calls, each at most once. None when a condition of the trigger is not met.
    fn start_children(
        self: Arc<Self>,
        request: RunRequest,
        call: &Call,
    ) -> RunsFuture<'_, Result<Option<Vec<Child>>, StartError>>;

    /// Waits for the Response of a run; see [`Engine::response_of`](crate::Engine::response_of).
    fn response_of(self: Arc<Self>, run: RunId) -> RunsFuture<'static, Result<Option<Value>, RecoverError>>;

    /// Notifies a run of something that has happened to it, and loads it if it is parked.
    fn wake(self: Arc<Self>, run: RunId);

    /// To be called when a run has left memory: from then on, somebody has to wake it.
    fn parked(self: Arc<Self>);
}
