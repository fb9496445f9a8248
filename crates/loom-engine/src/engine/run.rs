//! What starts a run, and the handle on one that was started.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use loom_definition::{RunStatus, Workflow};
use loom_expression::{Object, Value};
use loom_store::{InboxId, KeyWrite};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    driver::Envelope,
    event::{Command, ErrorInfo, RunId, RunStart},
    trace::TraceParent,
};

/// What starts a run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The trigger that fires; the only one, or the first, when absent.
    pub trigger: Option<Arc<str>>,
    /// The trigger's outputs, `{headers?, queries?, body?, …}`.
    pub outputs: Value,
    /// Values by the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// The caller's tracking id.
    pub tracking_id: Option<Arc<str>>,
    /// Whether somebody waits for a Response.
    pub wants_response: bool,
    /// The span that the runs belong under, if the caller named one.
    pub trace: Option<TraceParent>,
    /// How many runs stand above those that start, in the chain of those that started each other as child workflows; 0 for
    /// what comes from outside.
    pub depth: u8,
}

impl RunRequest {
    /// A run started by hand, with `body` as the trigger's body if there is one.
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

/// What becomes durable together with the runs of one firing.
#[derive(Default)]
pub struct Along {
    /// A name for the firing: each of its runs starts at most once, however often it is fired under the same name.
    pub name: Option<Arc<str>>,
    /// What tells this firing from another of the same name, in a few bytes that are kept with each of its runs. A firing
    /// whose name is known with other ones starts nothing.
    pub mark: Bytes,
    /// Gives the named values to write in the same transaction, from the runs that start.
    #[expect(clippy::type_complexity, reason = "one function, called once")]
    pub keys: Option<Box<dyn FnOnce(&[RunId]) -> Vec<KeyWrite> + Send>>,
    /// Messages of the store's inbox that the run takes in with its start. They stay where they are unless exactly one
    /// run starts.
    pub messages: Vec<InboxId>,
}

impl fmt::Debug for Along {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Along").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why no run starts.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The engine is stopping.
    #[error("the engine is stopping and starts no more runs")]
    Stopping,
    /// There is no such trigger.
    #[error("the workflow '{workflow}' has no trigger named '{trigger}'")]
    UnknownTrigger {
        /// The workflow.
        workflow: Arc<str>,
        /// The name asked for.
        trigger: Arc<str>,
    },
    /// Another firing had this name before.
    #[error("a firing with this name, and of other content, has started the run {run}")]
    OtherFiring {
        /// What it started.
        run: RunId,
    },
    /// The store did not say which runs of the firing had started before.
    #[error("the store did not answer")]
    Store(#[source] loom_store::Error),
    /// The trigger's own expressions failed.
    #[error("the trigger failed: {}", .0.message)]
    Trigger(ErrorInfo),
}

/// What a request leads to.
#[derive(Debug)]
pub enum Started {
    /// These runs.
    Runs(Vec<RunHandle>),
    /// None: the trigger's condition of this place did not hold.
    Held {
        /// Which condition, from 0.
        condition: usize,
    },
}

/// What a firing leads to that has more become durable with it.
#[derive(Debug)]
pub enum Accepted {
    /// These runs.
    Runs(Vec<RunHandle>),
    /// Very many runs: all are durable, and go on in their order while fewer than
    /// [`Budgets::runs_max`](crate::Budgets::runs_max) are in progress.
    Queued {
        /// Their ids.
        runs: Vec<RunId>,
        /// What the first starts from.
        first: Option<Arc<RunStart>>,
    },
    /// None: the trigger's condition of this place did not hold.
    Held {
        /// Which condition, from 0.
        condition: usize,
    },
}

/// A run in progress, or one that has ended.
#[derive(Debug)]
pub struct RunHandle {
    /// Its id.
    pub id: RunId,
    /// What it started from.
    pub start: Arc<RunStart>,
    pub(super) commands: mpsc::Sender<Envelope>,
    pub(super) accepted: Option<oneshot::Receiver<()>>,
    pub(super) response: watch::Receiver<Option<Value>>,
    pub(super) ended: watch::Receiver<Option<Arc<RunReport>>>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// How.
    pub status: RunStatus,
    /// What went wrong.
    pub error: Option<Arc<ErrorInfo>>,
    /// The workflow's outputs.
    pub outputs: Option<Value>,
    /// What the caller was answered.
    pub response: Option<Value>,
}

impl RunHandle {
    /// Waits until the run's start is durable; from then on it survives the process. False when the store refused it, or
    /// has another run of the same firing: then nothing of it happened. At once true for runs that live in memory.
    pub async fn accepted(&mut self) -> bool {
        match self.accepted.take() {
            Some(accepted) => accepted.await.is_ok(),
            None => true,
        }
    }

    /// Waits for the Response. None when the run ends without one, or the engine stops before it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn response(&mut self) -> Option<Value> {
        self.response.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits for the end. None when the engine was shut down before it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) -> Option<Arc<RunReport>> {
        let ended = self.ended.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }

    /// Asks the run to stop; it ends as Cancelled. Does nothing to one that has ended.
    pub async fn cancel(&self) {
        // A closed inbox means that the run has ended.
        self.commands.send(Envelope::new(Command::Cancel)).await.ok();
    }

    /// Hands the run a command.
    pub async fn command(&self, command: Command) {
        self.commands.send(Envelope::new(command)).await.ok();
    }
}
