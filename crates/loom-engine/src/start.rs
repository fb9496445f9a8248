//! Requests to start runs, and what comes of them.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use loom_definition::Workflow;
use loom_expression::{Object, Value};
use loom_store::{InboxId, KeyWrite, Shard};

use crate::{
    event::{ErrorInfo, RunId, RunStart},
    run_handle::RunHandle,
    shared::gate::Permit,
    trace_parent::TraceParent,
};

/// A firing of a trigger: what a run is started from.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The name of the trigger that fires; the first trigger when absent.
    pub trigger: Option<Arc<str>>,
    /// The trigger's outputs, `{headers?, queries?, body?, …}`.
    pub outputs: Value,
    /// Parameter values, in the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// The caller's tracking id.
    pub tracking_id: Option<Arc<str>>,
    /// Whether the caller waits for a Response.
    pub wants_response: bool,
    /// The parent span of the runs, if the caller sent one.
    pub trace: Option<TraceParent>,
    /// Number of ancestors in a chain of child workflows; 0 for a request from outside.
    pub depth: u8,
}

impl RunRequest {
    /// A request for a manual run, with `body` as the trigger's body if there is one.
    pub fn manual(workflow: Arc<Workflow>, parameters: Vec<Value>, body: Option<Value>) -> RunRequest {
        let mut outputs = Object::new();
        if let Some(body) = body {
            outputs.insert("body", body);
        }
        RunRequest {
            workflow,
            trigger: None,
            outputs: outputs.into(),
            parameters,
            tracking_id: None,
            wants_response: false,
            trace: None,
            depth: 0,
        }
    }
}

/// Writes that are committed together with the runs of one firing.
#[derive(Default)]
pub struct FiringCommit {
    /// The name of the firing, its idempotency key: each of its runs starts at most once, however often the firing is
    /// repeated under the same name.
    pub name: Option<Arc<str>>,
    /// A short fingerprint of the firing's content, stored with each of its runs. A firing whose name is already known with
    /// a different fingerprint is rejected with [`StartError::OtherFiring`].
    pub mark: Bytes,
    /// Returns the named values to write in the same transaction, given the ids of the runs that start.
    #[expect(clippy::type_complexity, reason = "one function, called once")]
    pub keys: Option<Box<dyn FnOnce(&[RunId]) -> Vec<KeyWrite> + Send>>,
    /// Messages of the store's inbox that the start of the run consumes. They stay in the inbox unless exactly one run
    /// starts.
    pub messages: Vec<InboxId>,
    /// A permit from [`Engine::reserve`](crate::Engine::reserve), for the first run.
    pub permit: Option<Permit>,
}

impl fmt::Debug for FiringCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiringCommit").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why no run was started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The engine is stopping.
    #[error("the engine is shutting down and starts no more runs")]
    Stopping,
    /// There is no such trigger.
    #[error("the workflow '{workflow}' has no trigger named '{trigger}'")]
    UnknownTrigger {
        /// The workflow.
        workflow: Arc<str>,
        /// The name asked for.
        trigger: Arc<str>,
    },
    /// An earlier firing with different content had this name.
    #[error("the run {run} was already started under this name with different content")]
    OtherFiring {
        /// The run that the earlier firing started.
        run: RunId,
    },
    /// The concurrency limit of the trigger is reached, and as many runs wait as may.
    #[error(
        "{waiting} runs of '{workflow}' wait for its concurrency limit of {runs}, as many as may \
         (`maximumWaitingRuns` of its trigger)"
    )]
    Full {
        /// The workflow.
        workflow: Arc<str>,
        /// How many of the trigger's runs may be in progress.
        runs: u32,
        /// How many may wait.
        waiting: u32,
    },
    /// The store could not be read or written.
    #[error("the store is unavailable")]
    Store(#[source] loom_store::Error),
    /// Another node starts the runs of the trigger, or this one does not yet.
    #[error("this node does not own the trigger's shard")]
    Elsewhere {
        /// The shard; none when any would do, and this node owns none.
        shard: Option<Shard>,
    },
    /// An expression of the trigger failed.
    #[error("the trigger failed: {}", .0.message)]
    Trigger(ErrorInfo),
}

/// The result of [`Engine::start`](crate::Engine::start).
#[derive(Debug)]
pub enum Started {
    /// The runs that started.
    Runs(Vec<RunHandle>),
    /// No run started: a condition of the trigger was not met.
    NotMet {
        /// Which condition, from 0.
        condition: usize,
    },
}

/// The result of [`Engine::start_with`](crate::Engine::start_with).
#[derive(Debug)]
pub enum Accepted {
    /// The runs that started.
    Runs(Vec<RunHandle>),
    /// A very large number of runs: all are durable, and continue in order while fewer than
    /// [`Budgets::runs_max`](crate::Budgets::runs_max) are in progress.
    Queued {
        /// Their ids.
        runs: Vec<RunId>,
        /// What the first run was started from.
        first: Option<Arc<RunStart>>,
    },
    /// No run started: a condition of the trigger was not met.
    NotMet {
        /// Which condition, from 0.
        condition: usize,
    },
}
