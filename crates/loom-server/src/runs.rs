//! The management API of single runs: reading, commanding, resubmitting and deleting them.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, Uri},
};
use loom_engine::{
    Order as RunOrder, RecoverError, ResubmitError, RunId, StartError,
    history::{History, Window},
};
use loom_expression::Object;
use loom_store::Deletion;

use crate::{
    fire::FireError,
    hold::Ordered,
    listing::{PAGE, limit, not_a_cursor},
    lookup::{deployed, history, removed_run, run_id, unknown_run},
    path::Path,
    refusal::refusal,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    shared::Shared,
    stopped::{unreadable, with_hold},
    view::{self, ActionPage},
};

/// `GET /api/v1/runs/{id}`.
pub(crate) async fn run(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let reading = shared.clone();
    reading.read(Box::pin(show_run(shared, id))).await
}

async fn show_run(shared: Shared, id: String) -> Answer {
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
    let reading = shared.clone();
    reading.read(show_actions(shared, id)).await
}

async fn show_actions(shared: Shared, id: String) -> Answer {
    let history = history(&shared, &id, |workflow| History::within(workflow, |_| 0..1)).await?;
    Ok(json(StatusCode::OK, &view::actions(&history, shared.host.now())))
}

/// `GET /api/v1/runs/{id}/executions?cursor=&limit=`: the executions of all actions, in the order in which they started.
pub(crate) async fn executions(State(shared): State<Shared>, Path(id): Path<String>, uri: Uri) -> Answer {
    request::only(&uri, &["cursor", "limit"])?;
    let (skip, size) = numbered_page(&uri)?;
    let reading = shared.clone();
    reading.read(show_executions(shared, id, skip, size)).await
}

async fn show_executions(shared: Shared, id: String, skip: usize, size: usize) -> Answer {
    let page = skip..skip.saturating_add(size);
    let begin = move |workflow| History::within(workflow, move |_| Window::Positions(page.clone()));
    let history = history(&shared, &id, begin).await?;
    Ok(json(StatusCode::OK, &view::executions(&history, shared.host.now(), skip)))
}

/// The number of entries before a page, and its size.
fn numbered_page(uri: &Uri) -> Result<(usize, usize), Problem> {
    let size = request::query(uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let skip =
        request::query(uri, "cursor").map_or(Ok(0), |text| text.parse().map_err(|_| not_a_cursor()))?;
    Ok((skip, size))
}

/// `GET /api/v1/runs/{id}/actions/{name}?cursor=&limit=&failed=`.
pub(crate) async fn action(
    State(shared): State<Shared>,
    Path((id, name)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    request::only(&uri, &["cursor", "limit", "failed"])?;
    let (from, size) = numbered_page(&uri)?;
    let page = match request::query(&uri, "failed").as_deref() {
        None | Some("false") => ActionPage::All { skip: from, size },
        Some("true") => ActionPage::Failed { from, size },
        Some(other) => {
            return Err(Problem::bad(format!("'failed' must be 'true' or 'false' (got '{other}').")));
        }
    };
    let reading = shared.clone();
    reading.read(show_action(shared, id, name, page)).await
}

async fn show_action(shared: Shared, id: String, name: String, page: ActionPage) -> Answer {
    let wanted = name.clone();
    let history = history(&shared, &id, move |workflow| {
        let wanted = workflow.find_action(&wanted);
        let none = Window::Numbers(0..0);
        History::within(
            workflow,
            move |action| {
                if Some(action) == wanted { page.window() } else { none.clone() }
            },
        )
    });
    let history = history.await?;
    let index = history.workflow().find_action(&name).ok_or_else(|| {
        Problem::not_found(
            "ActionNotFound",
            format!("The workflow of run '{id}' has no action named '{name}'."),
        )
    })?;
    Ok(json(StatusCode::OK, &view::action(&history, index, shared.host.now(), page)))
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
    let asked = resubmission(&shared, request).await?;
    let new = start_again(&shared, &id, asked.clone()).await?;
    let mut object = Object::new();
    object.insert("id", new.to_string());
    object.insert("resubmitOf", id);
    if let Some(from) = asked.from {
        object.insert("from", from);
    }
    Ok(json(StatusCode::ACCEPTED, &object.into()))
}

/// With which definition, and from which action, a run is started again.
#[derive(Clone, Debug)]
pub(crate) struct Resubmission {
    /// `same` or `current`.
    pub(crate) definition: Option<String>,
    /// The action.
    pub(crate) from: Option<String>,
}

/// Starts a new run with the trigger outputs of this one, and returns its id.
pub(crate) async fn start_again(shared: &Shared, id: &str, asked: Resubmission) -> Result<RunId, Problem> {
    let Resubmission { definition, from } = asked;
    let run = run_id(id)?;
    let row = shared.host.store.run(run).await?.ok_or_else(|| unknown_run(id))?;
    let before = shared.host.engine.start_of(run).await?.ok_or_else(|| removed_run(id))?;
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
            let deployment = deployed(shared, &row.workflow)?;
            (Arc::clone(&deployment.workflow), deployment.parameters.clone())
        }
        Some(other) => {
            return Err(Problem::bad(format!("'definition' must be 'same' or 'current' (got '{other}').")));
        }
    };
    let engine = &shared.host.engine;
    let mut started = match &from {
        None => engine.resubmit(&workflow, parameters, &before).map_err(|error| refusal(error.into()))?,
        Some(from) => {
            let started = shared.host.engine.resubmit_from(&workflow, parameters, run, from).await;
            started.map_err(|error| not_resubmitted(id, error))?
        }
    };
    if !started.accepted().await {
        return Err(refusal(FireError::StorePaused));
    }
    Ok(started.id)
}

/// Reads the parameters of a resubmission, from its query or body: the definition, and the action to start from.
async fn resubmission(shared: &Shared, request: Request) -> Result<Resubmission, Problem> {
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
    Ok(Resubmission { definition, from })
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
