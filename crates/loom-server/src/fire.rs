//! Firing triggers: the runs that start, or why none does.

use std::{sync::Arc, time::Duration};

use loom_definition::trigger::Trigger;
use loom_engine::{
    Accepted, FiringCommit, RunHandle, RunId, RunRequest, RunStart, StartError, trace::TraceParent,
};
use loom_expression::Value;
use loom_store::Commit;

use crate::{deploy::Deployment, host::Host, switches::DisabledBy};

/// How long the start of a run waits for runs that are about to leave memory.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// A trigger that fires.
pub(crate) struct Fire<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) trigger: &'a Trigger,
    pub(crate) outputs: Value,
    pub(crate) tracking_id: Option<Arc<str>>,
    pub(crate) wants_response: bool,
    /// The parent span of the runs, if the caller sent one.
    pub(crate) trace: Option<TraceParent>,
}

/// The runs started by a firing.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// All runs, in order.
    pub(crate) runs: Vec<RunId>,
    /// The start of the first run.
    pub(crate) first: Option<Arc<RunStart>>,
    /// The first run, unless it waits in the queue.
    pub(crate) handle: Option<RunHandle>,
}

/// Why a firing started no run.
#[derive(Debug)]
pub(crate) enum FireError {
    /// The limit of concurrent runs is reached; a later attempt may succeed.
    Busy,
    /// The store is unavailable.
    StorePaused,
    /// All runs are held (`--hold-runs`).
    RunsHeld,
    /// The trigger is disabled.
    Disabled {
        /// What disables it.
        by: DisabledBy,
        /// The workflow of the trigger.
        workflow: Arc<str>,
        /// The name of the trigger.
        trigger: Arc<str>,
    },
    /// A condition of the trigger is not met.
    NotMet { condition: usize },
    /// The engine rejected the start.
    Start(StartError),
}

impl From<StartError> for FireError {
    fn from(error: StartError) -> FireError {
        match error {
            StartError::Full { .. } => FireError::Busy,
            error => FireError::Start(error),
        }
    }
}

impl Host {
    /// Fires a trigger and waits until its runs are durable.
    pub(crate) async fn fire(&self, request: Fire<'_>) -> Result<Begun, FireError> {
        self.fire_along(request, FiringCommit::default()).await
    }

    /// Like [`Host::fire`], with more writes in the same commit; see [`Engine::start_with`].
    pub(crate) async fn fire_along(
        &self,
        request: Fire<'_>,
        along: FiringCommit,
    ) -> Result<Begun, FireError> {
        if self.is_holding() {
            return Err(FireError::RunsHeld);
        }
        if let Some(by) = self.disabled_by(request.deployment, Some(&request.trigger.name)) {
            let (workflow, trigger) = (&request.deployment.workflow.name, &request.trigger.name);
            return Err(FireError::Disabled {
                by,
                workflow: Arc::clone(workflow),
                trigger: Arc::clone(trigger),
            });
        }
        if !self.has_room().await {
            return Err(FireError::Busy);
        }
        if !self.store_runs() {
            return Err(FireError::StorePaused);
        }
        let Fire { deployment, trigger, outputs, tracking_id, wants_response, trace } = request;
        let request = RunRequest {
            workflow: Arc::clone(&deployment.workflow),
            trigger: Some(Arc::clone(&trigger.name)),
            outputs,
            parameters: deployment.parameters.clone(),
            tracking_id,
            wants_response,
            trace,
            depth: 0,
        };
        let (accepted, left) = self.engine.start_with(request, along).await?;
        let (mut begun, mut not_met) = (Begun::default(), None);
        let mut runs = Vec::new();
        match accepted {
            Accepted::Runs(handles) => runs = handles,
            Accepted::Queued { runs, first } => begun = Begun { runs, first, handle: None },
            Accepted::NotMet { condition } => not_met = Some(condition),
        }
        if !runs.is_empty() {
            begun.runs = runs.iter().map(|run| run.id).collect();
            begun.first = runs.first().map(|run| Arc::clone(&run.start));
        }
        let mut all_accepted = true;
        for run in &mut runs {
            all_accepted &= run.accepted().await;
        }
        if !all_accepted {
            return Err(FireError::StorePaused);
        }
        begun.handle = runs.into_iter().next();
        if !left.is_empty() {
            let mut commit = Commit::new();
            commit.keys = left;
            self.store.commit(commit).await.map_err(|_| FireError::StorePaused)?;
        }
        match not_met {
            Some(condition) => Err(FireError::NotMet { condition }),
            None => Ok(begun),
        }
    }

    /// Whether another run may start. Waits for a moment if runs that only wait can make room for it.
    pub(crate) async fn has_room(&self) -> bool {
        self.engine.room_for_run(self.live().runs_max, ROOM_WAIT).await
    }
}
