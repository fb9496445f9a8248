//! The management API of workflows: their versions, triggers and signed URLs.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header},
};
use futures_util::FutureExt;
use loom_definition::{
    Diagnostics, LoadOptions,
    catalog::{Bump, Entry, Version},
    trigger::{Trigger, TriggerKind},
};
use loom_engine::TriggerView;
use loom_expression::{Object, Timestamp, Value};

use crate::{
    access::{self, Grant, Scope},
    deploy::{DeployError, Deployment, Origin, Source},
    fire::Fire,
    keys::trigger_key,
    listing::list,
    lookup::{deployed, find_trigger},
    path::Path,
    redact::hide,
    refusal::refusal,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    run_ended,
    shared::Shared,
    switches::DisabledBy,
    trigger_history,
};

/// `GET /api/v1/workflows`.
pub(crate) async fn workflows(State(shared): State<Shared>, Extension(grant): Extension<Grant>) -> Answer {
    let all = shared.host.deployments.all();
    let all: Vec<Value> = all.iter().map(|deployment| shown(&shared, deployment, &grant).into()).collect();
    Ok(list("workflows", all, None))
}

/// `GET /api/v1/workflows/{name}`.
pub(crate) async fn workflow(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment, &grant).into()))
}

/// `Enabled` or `Disabled`, and who disables it.
fn insert_state(object: &mut Object, by: Option<DisabledBy>) {
    object.insert("state", if by.is_none() { "Enabled" } else { "Disabled" });
    if let Some(by) = by {
        let by = match by {
            DisabledBy::Setting => "setting",
            DisabledBy::Workflow => "workflow",
            DisabledBy::Trigger => "trigger",
        };
        object.insert("disabledBy", by);
    }
}

/// A workflow. Only callers who may start runs see the signed URLs of its triggers.
pub(crate) fn shown(shared: &Shared, deployment: &Deployment, grant: &Grant) -> Object {
    let workflow = &deployment.workflow;
    let mut object = Object::new();
    object.insert("name", Arc::clone(&workflow.name));
    object.insert("version", deployment.version.to_string());
    object.insert("kind", workflow.kind.as_str());
    if let Some(description) = &workflow.description {
        object.insert("description", Arc::clone(description));
    }
    insert_state(&mut object, shared.host.disabled_by(deployment, None));
    object.insert("actions", workflow.actions.len() as i64);
    let triggers = workflow.triggers.iter().map(|trigger| {
        let mut shown = Object::new();
        shown.insert("name", Arc::clone(&trigger.name));
        shown.insert("type", Arc::clone(&trigger.type_name));
        insert_state(&mut shown, shared.host.disabled_by(deployment, Some(&trigger.name)));
        if takes_requests(trigger) && grant.scopes.has(Scope::Run) {
            shown.insert("url", shared.host.trigger_url(&workflow.name, &trigger.name));
        }
        if let Some(recurrence) = evaluated_recurrence(shared, deployment, trigger) {
            shown.insert("evaluatedRecurrence", recurrence);
        }
        if let TriggerKind::Batch { .. } = trigger.kind {
            let key = trigger_key(&workflow.name, &trigger.name);
            shown.insert("waiting", shared.host.piles.waiting(&key));
        }
        Value::from(shown)
    });
    object.insert("triggers", triggers.collect::<Vec<Value>>());
    let warnings = deployment.warnings.iter().map(|warning| Value::from(warning.message.as_str()));
    let unknown = run_ended::unknown(&shared.host, deployment).into_iter().map(|(trigger, name)| {
        Value::from(format!("trigger `{trigger}` waits for runs of `{name}`, which is not deployed"))
    });
    object.insert("warnings", warnings.chain(unknown).collect::<Vec<Value>>());
    object
}

/// The recurrence of a trigger with its parameters evaluated. None if it has none, if it is invalid, which is in its history, or
/// if it depends on a secret.
fn evaluated_recurrence(shared: &Shared, deployment: &Deployment, trigger: &Trigger) -> Option<Value> {
    let view = TriggerView {
        workflow: &deployment.workflow,
        trigger,
        parameters: &deployment.parameters,
        previous: None,
        callback: None,
    };
    let recurrence = shared.host.engine.trigger_recurrence(view).now_or_never()?.ok()??;
    Some(hide(&recurrence.source))
}

fn takes_requests(trigger: &Trigger) -> bool {
    !matches!(
        trigger.kind,
        TriggerKind::Recurrence
            | TriggerKind::SlidingWindow { .. }
            | TriggerKind::HttpPoll { .. }
            | TriggerKind::ApiConnection { .. }
            | TriggerKind::Batch { .. }
            | TriggerKind::RunEnded { .. }
            | TriggerKind::MemoryChanged { .. }
    )
}

/// `PUT /api/v1/workflows/{name}?bump=patch|minor|major&dryRun=`: deploys a definition, or only checks it.
pub(crate) async fn deploy(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &["bump", "dryRun"])?;
    let is_dry = match request::query(request.uri(), "dryRun").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(Problem::bad(format!("'dryRun' must be 'true' or 'false' (got '{other}').")));
        }
    };
    let bump = match request::query(request.uri(), "bump").as_deref() {
        None | Some("patch") => Bump::Patch,
        Some("minor") => Bump::Minor,
        Some("major") => Bump::Major,
        Some(other) => {
            return Err(Problem::bad(format!("'bump' must be 'patch', 'minor' or 'major' (got '{other}').")));
        }
    };
    if name.is_empty() || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err(Problem::bad(
            "The name of a workflow must not be empty or contain slashes or control characters.",
        ));
    }
    let only_new = request.headers().get(header::IF_NONE_MATCH).is_some_and(|given| given == "*");
    let received = read_body(request.into_body(), &shared).await?;
    let bytes = received.bytes();
    let options = LoadOptions { name: Some(name.as_str().into()), ..LoadOptions::default() };
    let source = Source { bytes: bytes.to_vec(), options, origin: Origin::Api, bump, only_new };
    if is_dry {
        let bytes = source.bytes.len() as u64;
        let host = Arc::clone(&shared.host);
        let checked = shared.convert(bytes, move || host.deployments.read(&source)).await;
        let checked =
            checked.map_err(|wrong| refused(&wrong, shared.host.deployments.get(&name).is_some()))?;
        let mut object = Object::new();
        object.insert("name", Arc::clone(&checked.loaded.workflow.name));
        let warnings = checked.loaded.warnings.iter().map(|warning| Value::from(warning.message.as_str()));
        object.insert("warnings", warnings.collect::<Vec<_>>());
        return Ok(access::dry(json(StatusCode::OK, &object.into())));
    }
    match shared.host.deploy(&source).await {
        Ok((deployment, changed)) => {
            let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
            Ok(json(status, &shown(&shared, &deployment, &grant).into()))
        }
        Err(DeployError::Refused(diagnostics)) => {
            Err(refused(&diagnostics, shared.host.deployments.get(&name).is_some()))
        }
        Err(DeployError::Store(error)) => Err(error.into()),
        Err(DeployError::Exists) => {
            let message =
                format!("The workflow '{name}' already exists, and the request has 'If-None-Match: *'.");
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "WorkflowAlreadyExists", message))
        }
        Err(error @ (DeployError::Catalog(_) | DeployError::Overtaken { .. })) => {
            Err(Problem::new(StatusCode::CONFLICT, "VersionConflict", sentence(&error)))
        }
    }
}

fn refused(diagnostics: &Diagnostics, is_deployed: bool) -> Problem {
    let message = if is_deployed {
        "The definition is invalid; the version deployed before stays in service."
    } else {
        "The definition is invalid; nothing was deployed."
    };
    let mut problem = Problem::new(StatusCode::BAD_REQUEST, "InvalidDefinition", message);
    let details = diagnostics.0.iter().map(|diagnostic| {
        let mut object = Object::new();
        object.insert("code", diagnostic.code);
        object.insert("message", diagnostic.message.as_str());
        object.insert("pointer", diagnostic.pointer.as_str());
        object.insert("offset", diagnostic.span.start as i64);
        object.insert("length", diagnostic.span.len() as i64);
        object.insert("hint", diagnostic.hint.as_deref().map(Value::from).unwrap_or_default());
        Value::from(object)
    });
    problem.details = Some(details.collect::<Vec<Value>>().into());
    problem
}

/// `DELETE /api/v1/workflows/{name}`: deletes a workflow with all its versions. Its runs continue.
pub(crate) async fn delete(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    if !shared.host.delete(&name).await? {
        return Err(Problem::not_found(
            "WorkflowNotFound",
            format!("The workflow '{name}' could not be found."),
        ));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// `POST /api/v1/workflows/{name}/rotate-signature`: issues new signed URLs for all its triggers.
pub(crate) async fn rotate_signatures(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    shared.host.rotate_signature(&name, None).await?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment, &grant).into()))
}

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/rotate-signature`: issues a new signed URL for the trigger.
pub(crate) async fn rotate_signature(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path((name, trigger)): Path<(String, String)>,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    shared.host.rotate_signature(&name, Some(&trigger.name)).await?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment, &grant).into()))
}

/// `GET /api/v1/workflows/{name}/versions`.
pub(crate) async fn versions(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    let versions = shared.host.deployments.versions(&name);
    if versions.is_empty() {
        return Err(Problem::not_found(
            "WorkflowNotFound",
            format!("The workflow '{name}' could not be found."),
        ));
    }
    let current = shared.host.deployments.get(&name).map(|deployment| deployment.version);
    let shown = versions.iter().map(|entry| {
        let mut object = version_row(entry);
        object.insert("current", Some(entry.version) == current);
        object.into()
    });
    Ok(list("versions", shown.collect(), None))
}

/// `GET /api/v1/workflows/{name}/versions/{version}`: a version with its definition.
pub(crate) async fn version(
    State(shared): State<Shared>,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    let wanted = Version::parse(&version);
    let versions = shared.host.deployments.versions(&name);
    let found = versions.into_iter().find(|entry| Some(entry.version) == wanted).ok_or_else(|| {
        Problem::not_found("VersionNotFound", format!("The workflow '{name}' has no version '{version}'."))
    })?;
    let mut object = version_row(&found);
    object.insert("definition", found.definition);
    Ok(json(StatusCode::OK, &object.into()))
}

fn version_row(entry: &Entry) -> Object {
    let mut object = Object::new();
    object.insert("version", entry.version.to_string());
    object.insert("createdTime", Timestamp::from_unix_millis(entry.created_at).to_string());
    object.insert("publishedTime", Timestamp::from_unix_millis(entry.updated_at).to_string());
    if let Some(description) = &entry.description {
        object.insert("description", Arc::clone(description));
    }
    if !entry.tags.is_null() {
        object.insert("tags", entry.tags.clone());
    }
    object
}

/// `GET /api/v1/workflows/{name}/triggers/{trigger}/histories`: the automatic firings of a trigger, newest first.
pub(crate) async fn trigger_history(
    State(shared): State<Shared>,
    Path((name, trigger)): Path<(String, String)>,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    let key = trigger_key(&deployment.workflow.name, &trigger.name);
    Ok(list("histories", trigger_history::read(&*shared.host.store, &key).await?, None))
}

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/run`: fires any trigger manually; a JSON body becomes its outputs.
pub(crate) async fn run_trigger(
    State(shared): State<Shared>,
    Path((name, trigger)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    let trace = request::trace(request.headers());
    let mut received = read_body(request.into_body(), &shared).await?;
    let outputs = match request::json(received.bytes(), &shared)? {
        None => Value::from(Object::new()),
        Some(outputs) => {
            received.becomes(&outputs)?;
            outputs
        }
    };
    let fire =
        Fire { deployment: &deployment, trigger, outputs, tracking_id: None, wants_response: false, trace };
    let begun = shared.host.fire(fire).await.map_err(refusal)?;
    let runs: Vec<Value> = begun.runs.iter().map(|run| Value::from(run.to_string())).collect();
    let mut object = Object::new();
    object.insert("runs", runs);
    Ok(json(StatusCode::ACCEPTED, &object.into()))
}
