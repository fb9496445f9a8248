//! What a request names: a deployed workflow, one of its triggers, a run.

use std::{str::FromStr, sync::Arc};

use axum::http::StatusCode;
use loom_definition::{Workflow, trigger::Trigger};
use loom_engine::{RunId, history::History};

use crate::{deploy::Deployment, response::Problem, shared::Shared};

/// The deployed workflow of this name.
pub(crate) fn deployed(shared: &Shared, workflow: &str) -> Result<Arc<Deployment>, Problem> {
    shared.host.deployments.get(workflow).ok_or_else(|| {
        Problem::not_found("WorkflowNotFound", format!("The workflow '{workflow}' could not be found."))
    })
}

/// The trigger of a workflow.
pub(crate) fn find_trigger<'d>(deployment: &'d Deployment, name: &str) -> Result<&'d Trigger, Problem> {
    deployment.trigger(name).ok_or_else(|| {
        let message = format!("The workflow '{}' has no trigger named '{name}'.", deployment.workflow.name);
        Problem::not_found("WorkflowTriggerNotFound", message)
    })
}

/// The id of a run.
pub(crate) fn run_id(text: &str) -> Result<RunId, Problem> {
    RunId::from_str(text).map_err(|_| unknown_run(text))
}

/// `404 Not Found`: there is no such run.
pub(crate) fn unknown_run(text: &str) -> Problem {
    Problem::not_found("RunNotFound", format!("The run '{text}' does not exist."))
}

/// The history of a run that retention has not removed, as far as `begin` collects it.
pub(crate) async fn history(
    shared: &Shared,
    id: &str,
    begin: impl FnOnce(Arc<Workflow>) -> History + Send + 'static,
) -> Result<History, Problem> {
    let found = shared.host.engine.history_within(run_id(id)?, begin).await?;
    let (_, history) = found.ok_or_else(|| unknown_run(id))?;
    if history.start.is_none() {
        return Err(removed_run(id));
    }
    Ok(history)
}

/// `410 Gone`: the run existed, but its history has been removed.
pub(crate) fn removed_run(id: &str) -> Problem {
    let message = format!(
        "The history of run '{id}' has been removed by retention; only its entry in the list is left."
    );
    Problem::new(StatusCode::GONE, "RunForgotten", message)
}
