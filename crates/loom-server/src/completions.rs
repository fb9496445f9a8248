//! Chat completions: workflows as models, for the clients of OpenAI's API.
//!
//! A workflow whose Request trigger has the kind `Agent`, or whose own kind is `Agentic`, answers under its name. The request is the
//! body of the trigger, with `message`, the text of the last message of the user. The answer is the body of the workflow's Response
//! or, without one, its output.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header},
};
use loom_definition::{
    model::WorkflowKind,
    trigger::{Trigger, TriggerKind},
};
use loom_expression::{Object, Value};
use loom_models::{Answer, ErrorKind, ModelError, Role, server};
use loom_store::RunRow;

use crate::{
    deploy::Deployment,
    fire::Fire,
    refusal::refusal,
    request::{self, read_body},
    response::{JSON, Problem},
    shared::Shared,
    stream::{self, Completions},
};

/// The most bytes of a request.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How often a waiting request looks whether its run has ended when nothing reports it.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// The trigger by which clients of chat completions start a workflow.
pub(crate) fn door(deployment: &Deployment) -> Option<&Trigger> {
    let agentic = deployment.workflow.kind == WorkflowKind::Agentic;
    deployment.workflow.triggers.iter().find(|trigger| match &trigger.kind {
        TriggerKind::Request { kind, .. } => {
            agentic || kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Agent"))
        }
        _ => false,
    })
}

/// `GET /v1/models`: the workflows that answer.
pub(crate) async fn models(State(shared): State<Shared>) -> Response<Body> {
    let all = shared.host.deployments.all();
    let models = all.iter().filter(|deployment| door(deployment).is_some()).map(|deployment| {
        let mut model = Object::new();
        model.insert("id", Arc::clone(&deployment.workflow.name));
        model.insert("object", "model");
        model.insert("created", 0i64);
        model.insert("owned_by", "loom");
        Value::from(model)
    });
    let mut page = Object::new();
    page.insert("object", "list");
    page.insert("data", models.collect::<Vec<Value>>());
    respond(StatusCode::OK, Value::from(page).to_json_text().into_bytes())
}

/// `POST /v1/chat/completions`.
pub(crate) async fn complete(State(shared): State<Shared>, request: Request) -> Response<Body> {
    Box::pin(answer(shared, request)).await.unwrap_or_else(|error| {
        let (status, body) = server::encode_error(&error);
        respond(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
    })
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

async fn answer(shared: Shared, request: Request) -> Result<Response<Body>, ModelError> {
    let (parts, body) = request.into_parts();
    let received = read_body(body, &shared).await.map_err(of_problem)?;
    let asked = server::decode(received.bytes(), BODY_BYTES_MAX)?;
    let name = asked.request.model.as_str();
    let deployment = shared.host.deployments.get(name).filter(|deployment| door(deployment).is_some());
    let deployment = deployment.ok_or_else(|| {
        let message = format!(
            "there is no workflow '{name}' that answers chats; its Request trigger must have the kind `Agent`"
        );
        ModelError::new(ErrorKind::NotFound, message)
    })?;
    let trigger =
        door(&deployment).ok_or_else(|| ModelError::new(ErrorKind::NotFound, "it has no trigger"))?;
    let written = request::json(received.bytes(), &shared).map_err(of_problem)?;
    let mut body = written.and_then(Value::into_object).unwrap_or_default();
    let said = asked.request.messages.iter().rfind(|message| message.role == Role::User);
    body.insert("message", said.map(loom_models::Message::text).unwrap_or_default());
    let mut outputs = request::outputs(&parts.uri, &parts.headers);
    outputs.insert("body", body);
    shared
        .host
        .engine
        .check_body(trigger, outputs.get("body"))
        .map_err(|refused| of_problem(refused.into()))?;
    let fire = Fire {
        deployment: &deployment,
        trigger,
        outputs: outputs.into(),
        tracking_id: None,
        wants_response: deployment.has_response,
        trace: request::trace(&parts.headers),
    };
    let begun = shared.host.fire(fire).await.map_err(|error| of_problem(refusal(error)))?;
    drop(received);
    let first =
        begun.first.ok_or_else(|| ModelError::new(ErrorKind::Server, "the trigger started no run"))?;
    let row = shared.host.store.run(first.run).await.map_err(|error| of_problem(error.into()))?;
    let row = row.ok_or_else(|| ModelError::new(ErrorKind::Server, "the run is not there any more"))?;
    let created = u64::try_from(shared.host.now().unix_millis() / 1_000).unwrap_or(0);
    let head = server::Head::new(format!("chatcmpl-{}", row.id), &*deployment.workflow.name, created);
    let include_usage = asked.include_usage || !asked.stream;
    let completions = Completions::new(server::Chunks::new(head.clone(), include_usage));
    if asked.stream {
        return stream::open_completions(shared, &row, completions).await.map_err(of_problem);
    }
    let answer = whole(&shared, &row, completions).await?;
    let mut response = respond(StatusCode::OK, server::encode(&head, &answer));
    if let Ok(run) = HeaderValue::from_str(&row.id.to_string()) {
        response.headers_mut().insert("x-ms-workflow-run-id", run);
    }
    Ok(response)
}

/// Waits for the answer of a run, up to the response timeout.
async fn whole(shared: &Shared, row: &RunRow, mut completions: Completions) -> Result<Answer, ModelError> {
    let mut news = shared.host.hub.watch(row.id);
    let mut feed = stream::Feed::new(shared, row, 0).await.map_err(of_problem)?;
    let waiting = async {
        loop {
            news.borrow_and_update();
            while let Some((_, event)) = feed.next(shared).await.map_err(of_problem)? {
                if let Some(answer) = completions.answer_of(&event) {
                    return answer;
                }
            }
            if feed.has_ended() {
                return Err(ModelError::new(ErrorKind::Server, "the run ended without an answer"));
            }
            tokio::select! {
                changed = news.changed() => drop(changed),
                () = tokio::time::sleep(LOOK) => {}
                () = shared.host.stopping.cancelled() => {
                    return Err(ModelError::new(ErrorKind::Overloaded, "the server is stopping; the run continues"));
                }
            }
        }
    };
    let limit = shared.host.live().response_timeout;
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
        let message = format!(
            "the workflow did not answer within {} seconds; its run '{}' continues",
            limit.as_secs(),
            row.id
        );
        Err(ModelError::new(ErrorKind::Timeout, message))
    })
}

fn of_problem(problem: Problem) -> ModelError {
    let kind = match problem.status.as_u16() {
        404 => ErrorKind::NotFound,
        413 => ErrorKind::RequestTooLarge,
        429 => ErrorKind::RateLimited,
        503 => ErrorKind::Overloaded,
        504 => ErrorKind::Timeout,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    };
    ModelError::new(kind, problem.message)
}
