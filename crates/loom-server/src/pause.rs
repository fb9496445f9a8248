//! Disables and enables workflows and triggers through the management API.

use std::sync::Arc;

use axum::{Extension, extract::State, http::StatusCode};
use loom_expression::{Object, Value};

use crate::{
    access::Grant,
    path::Path,
    response::{Answer, Problem, json},
    shared::Shared,
    workflows::shown,
};

/// `POST /api/v1/workflows/{name}/disable`: none of its triggers fires until it is enabled.
pub(crate) async fn disable_workflow(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    switch(&shared, &grant, &name, None, false).await
}

/// `POST /api/v1/workflows/{name}/enable`.
pub(crate) async fn enable_workflow(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    switch(&shared, &grant, &name, None, true).await
}

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/disable`: it does not fire until it is enabled.
pub(crate) async fn disable_trigger(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path((name, trigger)): Path<(String, String)>,
) -> Answer {
    switch(&shared, &grant, &name, Some(&trigger), false).await
}

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/enable`.
pub(crate) async fn enable_trigger(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path((name, trigger)): Path<(String, String)>,
) -> Answer {
    switch(&shared, &grant, &name, Some(&trigger), true).await
}

/// Executes the order and returns the workflow. A workflow that is not deployed here, because only the server has its file, can be
/// disabled, too.
async fn switch(shared: &Shared, grant: &Grant, name: &str, trigger: Option<&str>, enable: bool) -> Answer {
    let (workflow, triggers) = named(shared, name)?;
    let trigger = match trigger {
        None => None,
        Some(trigger) => {
            let found = triggers.into_iter().find(|known| known.eq_ignore_ascii_case(trigger));
            Some(found.ok_or_else(|| {
                let message = format!("The workflow '{workflow}' has no trigger named '{trigger}'.");
                Problem::not_found("WorkflowTriggerNotFound", message)
            })?)
        }
    };
    let trigger = trigger.as_deref();
    shared.host.switch(&workflow, trigger, enable).await?;
    if let Some(deployment) = shared.host.deployments.get(&workflow) {
        return Ok(json(StatusCode::OK, &shown(shared, &deployment, grant).into()));
    }
    let mut object = Object::new();
    object.insert("name", workflow.as_str());
    let state = |trigger| match shared.host.switches.disabled_by(&workflow, trigger) {
        None => "Enabled",
        Some(_) => "Disabled",
    };
    object.insert("state", state(None));
    if let Some(trigger) = trigger {
        let shown: Object = [("name", trigger), ("state", state(Some(trigger)))].into_iter().collect();
        object.insert("triggers", vec![Value::from(shown)]);
    }
    Ok(json(StatusCode::OK, &object.into()))
}

/// The name of a workflow that is deployed or has versions in the store, and the names of its triggers.
fn named(shared: &Shared, name: &str) -> Result<(String, Vec<Arc<str>>), Problem> {
    if let Some(deployment) = shared.host.deployments.get(name) {
        let triggers = deployment.workflow.triggers.iter().map(|trigger| Arc::clone(&trigger.name)).collect();
        return Ok((deployment.workflow.name.to_string(), triggers));
    }
    let versions = shared.host.deployments.versions(name);
    let Some(latest) = versions.last() else {
        let message = format!("The workflow '{name}' could not be found.");
        return Err(Problem::not_found("WorkflowNotFound", message));
    };
    let definition = latest.definition.get("definition").unwrap_or(&latest.definition);
    let triggers = definition.get("triggers").and_then(Value::as_object);
    Ok((latest.id.to_string(), triggers.into_iter().flat_map(Object::keys).cloned().collect()))
}
