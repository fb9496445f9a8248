//! The management API: workflows, versions, runs, actions, health.

use std::{str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, Uri, header},
};
use futures_util::FutureExt;
use loom_definition::{
    Diagnostics, LoadOptions, Workflow,
    catalog::{Bump, Entry, Version},
    trigger::{Trigger, TriggerKind},
};
use loom_engine::{
    Order as RunOrder, RecoverError, ResubmitError, RunId, StartError, TriggerView, history::History,
};
use loom_expression::{Object, Timestamp, Value};
use loom_store::{Condition, Deletion, UnixMillis};

use crate::{
    deploy::{DeployError, Deployment, Origin, Source},
    hold::Ordered,
    host::{Fire, FireError, trigger_key},
    invoke::{deployed, find_trigger, refusal},
    path::Path,
    redact::hide,
    request::{self, read_body},
    response::{Problem, json, sentence},
    run_ended,
    server::Shared,
    stopped::{unreadable, with_hold},
    switches::DisabledBy,
    trigger_history, view,
};

/// The default and the maximum number of entries of a page.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(crate) type Answer = Result<Response<Body>, Problem>;

/// `GET /api/v1/workflows`.
pub(crate) async fn workflows(State(shared): State<Shared>) -> Answer {
    let all = shared.host.deployments.all();
    let all: Vec<Value> = all.iter().map(|deployment| shown(&shared, deployment).into()).collect();
    Ok(list("workflows", all, None))
}

/// `GET /api/v1/workflows/{name}`.
pub(crate) async fn workflow(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    let deployment = deployed(&shared, &name)?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment).into()))
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

pub(crate) fn shown(shared: &Shared, deployment: &Deployment) -> Object {
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
        if takes_requests(trigger) {
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
    )
}

/// `PUT /api/v1/workflows/{name}?bump=patch|minor|major`: deploys a definition.
pub(crate) async fn deploy(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &["bump"])?;
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
    match shared.host.deploy(&source).await {
        Ok((deployment, changed)) => {
            let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
            Ok(json(status, &shown(&shared, &deployment).into()))
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
        Err(DeployError::Catalog(error)) => {
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
pub(crate) async fn rotate_signatures(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    let deployment = deployed(&shared, &name)?;
    shared.host.rotate_signature(&name, None).await?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment).into()))
}

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/rotate-signature`: issues a new signed URL for the trigger.
pub(crate) async fn rotate_signature(
    State(shared): State<Shared>,
    Path((name, trigger)): Path<(String, String)>,
) -> Answer {
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    shared.host.rotate_signature(&name, Some(&trigger.name)).await?;
    Ok(json(StatusCode::OK, &shown(&shared, &deployment).into()))
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

/// Parses milliseconds since 1970 or an ISO 8601 timestamp.
pub(crate) fn moment(text: &str) -> Result<UnixMillis, Problem> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(UnixMillis(millis));
    }
    let zoned = jiff::Timestamp::from_str(text);
    zoned.map(|at| UnixMillis(at.as_millisecond())).map_err(|_| {
        Problem::bad(format!(
            "'{text}' is not a valid timestamp; expected a form such as 2026-01-31T12:00:00Z."
        ))
    })
}

pub(crate) fn not_a_cursor() -> Problem {
    Problem::bad("'cursor' must be the 'next' of the previous page.")
}

pub(crate) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse::<usize>().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Problem::bad(format!("'limit' must be between 1 and {PAGE_MAX} (got '{text}').")))
}

pub(crate) fn run_id(text: &str) -> Result<RunId, Problem> {
    RunId::from_str(text).map_err(|_| unknown_run(text))
}

fn unknown_run(text: &str) -> Problem {
    Problem::not_found("RunNotFound", format!("The run '{text}' does not exist."))
}

/// The history of a run that retention has not removed, as far as `begin` collects it.
pub(crate) async fn history(
    shared: &Shared,
    id: &str,
    begin: impl FnOnce(Arc<Workflow>) -> History,
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

/// `GET /api/v1/runs/{id}`.
pub(crate) async fn run(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let run = run_id(&id)?;
    let found = match shared.host.engine.state_of(run).await {
        Err(
            error @ (RecoverError::Store { .. } | RecoverError::Held { .. } | RecoverError::Secret { .. }),
        ) => return Err(error.into()),
        Err(error) => {
            let row = shared.host.store.run(run).await?.filter(|row| row.ended.is_none());
            let mut shown = view::run_row(&row.ok_or(error.clone())?);
            shown.insert("unreadable", unreadable(run, &error.to_string()));
            return Ok(json(StatusCode::OK, &shown.into()));
        }
        Ok(found) => found,
    };
    let (row, state) = found.ok_or_else(|| unknown_run(&id))?;
    Ok(json(StatusCode::OK, &with_hold(&shared, &row, view::run(&row, &state)).await?))
}

/// `DELETE /api/v1/runs/{id}`: removes an ended run with all its data.
pub(crate) async fn delete_run(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let run = run_id(&id)?;
    if shared.host.engine.is_unsubscribing(run).await? {
        let message = format!(
            "The run '{id}' has ended, but not all of its webhook subscriptions have. Delete it once they have."
        );
        return Err(Problem::new(StatusCode::CONFLICT, "RunUnsubscribing", message));
    }
    match shared.host.store.delete_run(run).await? {
        Deletion::Deleted => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Deletion::NotFound => Err(unknown_run(&id)),
        Deletion::NotEnded => {
            let message = format!(
                "The run '{id}' has not ended. Wait until it ends, or cancel it (`loom runs cancel {id}`), and delete it then."
            );
            Err(Problem::new(StatusCode::CONFLICT, "RunNotEnded", message))
        }
    }
}

/// `GET /api/v1/runs/{id}/actions`.
pub(crate) async fn actions(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let history = history(&shared, &id, |workflow| History::within(workflow, |_| 0..1)).await?;
    let mut object = Object::new();
    object.insert("actions", view::actions(&history, shared.host.now()));
    Ok(json(StatusCode::OK, &object.into()))
}

/// `GET /api/v1/runs/{id}/actions/{name}?cursor=&limit=`.
pub(crate) async fn action(
    State(shared): State<Shared>,
    Path((id, name)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    request::only(&uri, &["cursor", "limit"])?;
    let size = request::query(&uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let skip: usize = match request::query(&uri, "cursor") {
        None => 0,
        Some(text) => text.parse().map_err(|_| not_a_cursor())?,
    };
    let page = skip..skip.saturating_add(size);
    let history = history(&shared, &id, |workflow| {
        let wanted = workflow.find_action(&name);
        History::within(workflow, |action| if Some(action) == wanted { page.clone() } else { 0..0 })
    });
    let history = history.await?;
    let index = history.workflow().find_action(&name).ok_or_else(|| {
        Problem::not_found(
            "ActionNotFound",
            format!("The workflow of run '{id}' has no action named '{name}'."),
        )
    })?;
    Ok(json(StatusCode::OK, &view::action(&history, index, shared.host.now(), skip)))
}

/// `POST /api/v1/runs/{id}/cancel`.
pub(crate) async fn cancel(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    change(&shared, &id, RunOrder::Cancel).await
}

/// `POST /api/v1/runs/{id}/suspend`.
pub(crate) async fn suspend(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    change(&shared, &id, RunOrder::Suspend).await
}

/// `POST /api/v1/runs/{id}/resume`.
pub(crate) async fn resume(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    change(&shared, &id, RunOrder::Resume).await
}

/// Sends a command to a run and returns the run once the command is durable.
async fn change(shared: &Shared, id: &str, order: RunOrder) -> Answer {
    let run = run_id(id)?;
    let taken = shared.host.command(run, order.command()).await;
    let row = shared.host.store.run(run).await?.ok_or_else(|| unknown_run(id))?;
    if !taken && row.ended.is_some() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "RunEnded",
            format!("The run '{id}' has already ended."),
        ));
    }
    if taken {
        return Ok(json(StatusCode::OK, &with_hold(shared, &row, view::run_row(&row)).await?));
    }
    if let Some(why) = shared.host.engine.why_unreadable(run) {
        return Err(Problem::new(StatusCode::CONFLICT, "RunUnreadable", unreadable(run, &why)));
    }
    if shared.host.is_started() || !shared.host.store_runs() {
        return Err(refusal(FireError::StorePaused));
    }
    let ordered = shared.host.order(run, order).await?;
    let row = shared.host.store.run(run).await?.ok_or_else(|| unknown_run(id))?;
    let mut shown = view::run_row(&row);
    let status = match ordered {
        Ordered::Done => StatusCode::OK,
        Ordered::Left => {
            shown.insert("ordered", order.as_str());
            StatusCode::ACCEPTED
        }
    };
    Ok(json(status, &with_hold(shared, &row, shown).await?))
}

/// `POST /api/v1/runs/{id}/resubmit?definition=same|current&from=`: starts a new run with the same trigger outputs, or from
/// an action of this one. A JSON body overrides the query.
pub(crate) async fn resubmit(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let (definition, from) = resubmission(&shared, request).await?;
    let run = run_id(&id)?;
    let row = shared.host.store.run(run).await?.ok_or_else(|| unknown_run(&id))?;
    let before = shared.host.engine.start_of(run).await?.ok_or_else(|| removed_run(&id))?;
    if shared.host.is_holding() {
        return Err(refusal(FireError::RunsHeld));
    }
    if !shared.host.is_started() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "ServerNotRunning",
            "A run can only be resubmitted on a running server, which executes the new run.",
        ));
    }
    if !shared.host.has_room().await {
        return Err(refusal(FireError::Busy));
    }
    if !shared.host.store_runs() {
        return Err(refusal(FireError::StorePaused));
    }
    let (workflow, parameters) = match definition.as_deref() {
        None | Some("same") => (shared.host.engine.workflow_of(&row).await?, before.parameters.clone()),
        Some("current") => {
            let deployment = deployed(&shared, &row.workflow)?;
            (Arc::clone(&deployment.workflow), deployment.parameters.clone())
        }
        Some(other) => {
            return Err(Problem::bad(format!("'definition' must be 'same' or 'current' (got '{other}').")));
        }
    };
    let mut object = Object::new();
    let engine = &shared.host.engine;
    let mut started = match &from {
        None => engine.resubmit(&workflow, parameters, &before).map_err(|error| refusal(error.into()))?,
        Some(from) => {
            let started = shared.host.engine.resubmit_from(&workflow, parameters, run, from).await;
            started.map_err(|error| not_resubmitted(&id, error))?
        }
    };
    if !started.accepted().await {
        return Err(refusal(FireError::StorePaused));
    }
    object.insert("id", started.id.to_string());
    object.insert("resubmitOf", id);
    if let Some(from) = from {
        object.insert("from", from);
    }
    Ok(json(StatusCode::ACCEPTED, &object.into()))
}

/// Reads the parameters of a resubmission, from its query or body: the definition, and the action to start from.
async fn resubmission(
    shared: &Shared,
    request: Request,
) -> Result<(Option<String>, Option<String>), Problem> {
    const MEMBERS: [&str; 2] = ["definition", "from"];
    request::only(request.uri(), &MEMBERS)?;
    let mut asked = MEMBERS.map(|name| request::query(request.uri(), name));
    let received = read_body(request.into_body(), shared).await?;
    if let Some(body) = request::json(received.bytes(), shared)? {
        let members = body.as_object().ok_or_else(|| Problem::bad("The body must be a JSON object."))?;
        for (name, value) in members {
            let place = MEMBERS.iter().position(|known| **known == **name).ok_or_else(|| {
                let known = MEMBERS.join("', '");
                Problem::bad(format!("Unknown property '{name}'; expected one of '{known}'."))
            })?;
            let value =
                value.as_str().ok_or_else(|| Problem::bad(format!("'{name}' must be a string.")))?.to_owned();
            asked[place] = Some(value);
        }
    }
    let [definition, from] = asked;
    Ok((definition, from))
}

/// Why a run cannot be resubmitted from an action.
fn not_resubmitted(id: &str, error: ResubmitError) -> Problem {
    let message = sentence(&error);
    let conflict = |code| Problem::new(StatusCode::CONFLICT, code, message.clone());
    match error {
        ResubmitError::Full(error) => refusal(error.into()),
        ResubmitError::Store(error) => error.into(),
        ResubmitError::Unreadable(error) => error.into(),
        ResubmitError::Unknown { .. } => removed_run(id),
        ResubmitError::UnknownAction { .. } => Problem::not_found("ActionNotFound", message),
        ResubmitError::InProgress { .. } => conflict("RunInProgress"),
        ResubmitError::Differs { .. } => conflict("DefinitionDiffers"),
        ResubmitError::Stopping => refusal(StartError::Stopping.into()),
        _ => conflict("ActionNotResubmittable"),
    }
}

/// `GET /healthz`: whether the process works.
pub(crate) async fn health(State(shared): State<Shared>) -> Response<Body> {
    let health = shared.host.store.health();
    let mut object = Object::new();
    let (status, condition) = match &health.condition {
        Condition::Running => (StatusCode::OK, "running"),
        Condition::Paused(_) => (StatusCode::SERVICE_UNAVAILABLE, "paused"),
        Condition::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
    };
    if let Condition::Paused(why) = &health.condition {
        object.insert("reason", why.to_string());
    }
    object.insert("status", if status == StatusCode::OK { "ok" } else { "failing" });
    object.insert("store", condition);
    object.insert("durability", health.durability.to_string());
    object.insert("runsInProgress", shared.host.engine.runs_in_progress() as i64);
    object.insert("runsParked", shared.host.engine.runs_parked() as i64);
    object.insert("runsHeld", shared.host.engine.held().len() as i64);
    json(status, &object.into())
}

/// `GET /readyz`: whether the server accepts requests.
pub(crate) async fn ready(State(shared): State<Shared>) -> Response<Body> {
    let why = shared.host.why_not_ready();
    let status = if why.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut object = Object::new();
    object.insert("ready", why.is_none());
    if let Some(why) = why {
        object.insert("reason", why);
    }
    json(status, &object.into())
}

pub(crate) fn list(name: &'static str, entries: Vec<Value>, next: Option<String>) -> Response<Body> {
    let mut object = Object::new();
    object.insert(name, entries);
    if let Some(next) = next {
        object.insert("next", next);
    }
    json(StatusCode::OK, &object.into())
}
