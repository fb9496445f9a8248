//! Requests that start runs, callbacks that continue them, and responses that are fetched later.

use std::{str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, request::Parts},
    response::IntoResponse,
};
use loom_definition::{
    RunStatus,
    catalog::Version,
    trigger::{Trigger, TriggerKind},
};
use loom_engine::{BodyRefused, Delivered, RecoverError, RunId, event::RunStart, schema};
use loom_expression::{Object, Value};
use loom_store::RunRow;

use crate::{
    deploy::{Deployment, responds},
    fire::{Fire, FireError},
    idempotency::{self, Keyed},
    lookup::{deployed, find_trigger},
    path::{Path, rest_of_path},
    received::Received,
    refusal::refusal,
    request::{self, decode_body, outputs, read_body, relative_path},
    response::{self, Problem, json},
    shared::{LARGE, Shared},
    stream::{self, Format, Shown},
    subscription::{self, Found},
};

/// `POST /workflows/{workflow}/triggers/{trigger}/invoke`.
pub(crate) async fn invoke(
    State(shared): State<Shared>,
    Path((workflow, trigger)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    fire_request(&shared, &workflow, &trigger, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// The same with a relative path after it.
pub(crate) async fn invoke_below(
    State(shared): State<Shared>,
    Path((workflow, trigger, _)): Path<(String, String, String)>,
    request: Request,
) -> Response<Body> {
    fire_request(&shared, &workflow, &trigger, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn fire_request(
    shared: &Shared,
    workflow: &str,
    trigger: &str,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let signature = request::query(&parts.uri, "sig").unwrap_or_default();
    let is_signed = shared.host.signer.is_trigger(workflow, trigger, &signature);
    shared.callers.check_site_of_address(&parts.headers, is_signed)?;
    if !is_signed && !shared.may_start(&parts.headers).await? {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "AuthenticationFailed",
            "The request has neither the server's token nor a valid signature in its URL.",
        ));
    }
    let deployment = deployed(shared, workflow)?;
    let found = find_trigger(&deployment, trigger)?;
    let path = rest_of_path(parts.uri.path());
    let mut given = outputs(&parts.uri, &parts.headers);
    match &found.kind {
        TriggerKind::Request { method, relative_path: template, .. } => {
            if let Some(method) = method
                && !method.eq_ignore_ascii_case(parts.method.as_str())
            {
                let message = format!("The trigger '{}' accepts only {method} requests.", found.name);
                let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
                problem.allow = Some(method.to_string());
                return Err(problem);
            }
            let matched = relative_path(template.as_deref().unwrap_or_default(), path);
            let matched = matched.ok_or_else(|| {
                let message =
                    format!("The path does not match the relative path of trigger '{}'.", found.name);
                Problem::not_found("RelativePathNotMatched", message)
            })?;
            if !matched.is_empty() {
                given.insert("relativePathParameters", matched);
            }
        }
        TriggerKind::Manual
        | TriggerKind::Event { .. }
        | TriggerKind::Other { .. }
        | TriggerKind::HttpWebhook { .. }
        | TriggerKind::ApiConnectionWebhook { .. } => {}
        TriggerKind::Recurrence
        | TriggerKind::SlidingWindow { .. }
        | TriggerKind::HttpPoll { .. }
        | TriggerKind::ApiConnection { .. }
        | TriggerKind::Batch { .. }
        | TriggerKind::RunEnded { .. }
        | TriggerKind::MemoryChanged { .. } => {
            let message =
                format!("The trigger '{}' fires automatically and does not accept requests.", found.name);
            return Err(Problem::new(StatusCode::BAD_REQUEST, "TriggerNotRequestable", message));
        }
    }
    Box::pin(fire_with_body(shared, &deployment, found, (parts, body), given)).await
}

/// Fires a trigger with a request and builds the response.
async fn fire_with_body(
    shared: &Shared,
    deployment: &Deployment,
    found: &Trigger,
    (parts, body): (Parts, Body),
    mut given: Object,
) -> Result<Response<Body>, Problem> {
    // Held until the run has the body: from then on it counts against the memory of the run.
    let mut body = read_body(body, shared).await?;
    let keyed = Keyed::of(&shared.host.signer, &found.name, &parts, body.bytes())?;
    let workflow = &deployment.workflow.name;
    if let Some(keyed) = &keyed
        && let Some(row) = keyed.known(shared, workflow).await?
    {
        return respond_again(shared, deployment, found, &row).await;
    }
    if let Some(value) = decoded(shared, &body, &parts.headers).await? {
        body.becomes(&value)?;
        given.insert("body", value);
    }
    check_body(shared, deployment, found, given.get("body")).await?;
    let tracking_id = parts.headers.get("x-ms-client-tracking-id").and_then(|id| id.to_str().ok());
    let waits = deployment.has_response && found.split_on.is_none();
    let streamed = wanted_stream(&parts)?;
    let fire = Fire {
        deployment,
        trigger: found,
        outputs: given.into(),
        tracking_id: tracking_id.map(Arc::from),
        wants_response: waits,
        trace: request::trace(&parts.headers),
    };
    let along = keyed.as_ref().map(Keyed::along).unwrap_or_default();
    let fired = shared.host.fire_along(fire, along).await;
    drop(body);
    let fired = match fired {
        // A valid request that starts no run.
        Err(FireError::NotMet { .. }) => return Ok(accepted()),
        fired => fired.map_err(refusal),
    };
    // A concurrent request with the same key may have started the run.
    if fired.as_ref().map_or(true, |begun| begun.runs.is_empty())
        && let Some(keyed) = &keyed
        && let Some(row) = keyed.known(shared, workflow).await?
    {
        return respond_again(shared, deployment, found, &row).await;
    }
    let begun = fired?;
    let Some(first) = begun.first else { return Ok(accepted()) };
    let run = first.run;
    let mut response = if let Some(format) = streamed {
        stream_to_caller(shared, run, format).await?
    } else if waits && deployment.answers_later {
        respond_later(shared, run)
    } else if waits {
        let mut handle = begun.handle;
        let answer = async {
            let answer = match &mut handle {
                Some(handle) => handle.response().await,
                None => None,
            };
            match answer {
                Some(answer) => Ok(Some(answer)),
                // The run has ended without a Response, or is held because the store is unavailable.
                None => shared.host.engine.response_of(run).await,
            }
        };
        wait_for_answer(shared, run, answer).await
    } else {
        accepted()
    };
    if shows_marks(found) {
        add_marks(response.headers_mut(), &deployment.workflow.name, Some(deployment.version), &first);
    }
    Ok(response)
}

fn shows_marks(trigger: &Trigger) -> bool {
    !trigger.options.suppress_headers_on_response && !trigger.options.suppress_workflow_headers
}

/// The response to a repeated request: the response of the run it started, as soon as there is one.
async fn respond_again(
    shared: &Shared,
    deployment: &Deployment,
    trigger: &Trigger,
    row: &RunRow,
) -> Result<Response<Body>, Problem> {
    let engine = &shared.host.engine;
    let (run, unknown) = (row.id, || forgotten(row.id));
    let (_, state) = engine.state_of(run).await?.ok_or_else(unknown)?;
    let start = state.start().ok_or_else(unknown)?;
    let workflow = state.workflow();
    let mut response = if !start.wants_response {
        accepted()
    } else if responds(workflow, true) {
        respond_later(shared, run)
    } else {
        wait_for_answer(shared, run, engine.response_of(run)).await
    };
    let headers = response.headers_mut();
    if shows_marks(trigger) {
        // The version of an earlier definition is not known here.
        let version = (workflow.hash == deployment.workflow.hash).then_some(deployment.version);
        add_marks(headers, &workflow.name, version, start);
    }
    headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

fn forgotten(run: RunId) -> Problem {
    let message = format!(
        "A request with this 'Idempotency-Key' started the run '{run}', whose response has been removed by retention."
    );
    Problem::new(StatusCode::GONE, "AnswerForgotten", message)
}

impl From<BodyRefused> for Problem {
    fn from(refused: BodyRefused) -> Problem {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, refused.code, refused.message);
        if !refused.mismatches.is_empty() {
            let details = refused.mismatches.iter().map(schema::Mismatch::to_value);
            problem.details = Some(details.collect::<Vec<_>>().into());
        }
        problem
    }
}

/// The body as a value of the language, if there is one.
async fn decoded(shared: &Shared, body: &Received, headers: &HeaderMap) -> Result<Option<Value>, Problem> {
    let values_max = shared.host.engine.environment().budgets.json_values_max;
    let (bytes, headers) = (body.bytes().clone(), headers.clone());
    let size = bytes.len() as u64;
    shared.convert(size, move || decode_body(&bytes, &headers, values_max)).await
}

/// Checks the body against the schema of the trigger.
async fn check_body(
    shared: &Shared,
    deployment: &Deployment,
    trigger: &Trigger,
    body: Option<&Value>,
) -> Result<(), BodyRefused> {
    let Some(body) = body.filter(|body| body.bytes() >= LARGE) else {
        return shared.host.engine.check_body(trigger, body);
    };
    let (engine, workflow) = (shared.host.engine.clone(), Arc::clone(&deployment.workflow));
    let (name, body) = (Arc::clone(&trigger.name), body.clone());
    let check = move || match workflow.find_trigger(&name) {
        Some(trigger) => engine.check_body(trigger, Some(&body)),
        None => Ok(()),
    };
    shared.convert(LARGE, check).await
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// Waits for the run's Response, up to the response timeout.
async fn wait_for_answer(
    shared: &Shared,
    run: RunId,
    answer: impl Future<Output = Result<Option<Value>, RecoverError>>,
) -> Response<Body> {
    let limit = shared.host.live().response_timeout;
    let answered = tokio::select! {
        answered = tokio::time::timeout(limit, answer) => answered,
        () = shared.host.stopping.cancelled() => {
            // The run continues in the next process, where the caller can fetch the response.
            return respond_later(shared, run);
        }
    };
    match answered {
        Ok(Ok(Some(answer))) => {
            respond(shared, run, &answer).await.unwrap_or_else(IntoResponse::into_response)
        }
        Ok(Ok(None)) => no_response(run).into_response(),
        // The run continues when the store recovers, and the caller can fetch the response then.
        Ok(Err(RecoverError::Store { .. } | RecoverError::Held { .. })) => respond_later(shared, run),
        Ok(Err(error)) => Problem::from(error).into_response(),
        Err(_) => {
            let message = format!(
                "The workflow did not respond within {} seconds; its run '{run}' continues.",
                limit.as_secs(),
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", message).into_response()
        }
    }
}

/// The format of the stream of its run that a caller asks for, if it does.
fn wanted_stream(parts: &Parts) -> Result<Option<Format>, Problem> {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wanted = accept.into_iter().flat_map(|accept| accept.split(',')).find_map(Format::of_content_type);
    match (wanted.transpose()?, request::query(&parts.uri, "format")) {
        (Some(_), Some(name)) => Format::parse(&name).map(Some),
        (wanted, _) => Ok(wanted),
    }
}

/// The stream of a run, for the caller that started it.
async fn stream_to_caller(shared: &Shared, run: RunId, format: Format) -> Result<Response<Body>, Problem> {
    let row = shared.host.store.run(run).await?.ok_or_else(|| no_response(run))?;
    stream::open(shared.clone(), &row, Shown { after: 0, format, to_caller: true }).await
}

/// The response of a run: what its Response says or, if that has the content type of a stream, the stream of the run.
async fn respond(shared: &Shared, run: RunId, answer: &Value) -> Result<Response<Body>, Problem> {
    let headers = answer.get("headers").and_then(Value::as_object);
    let kind = headers.and_then(|headers| headers.get_ignore_case("Content-Type")?.as_str());
    match kind.and_then(Format::of_content_type) {
        None => {
            let answer = answer.clone();
            shared.convert(answer.bytes(), move || response::of_action(&answer)).await
        }
        Some(format) => stream_to_caller(shared, run, format?).await,
    }
}

fn no_response(run: RunId) -> Problem {
    let message = format!("The run '{run}' ended without a Response.");
    Problem::new(StatusCode::BAD_GATEWAY, "NoResponse", message)
}

/// `202` with the URL of the future response.
fn respond_later(shared: &Shared, run: RunId) -> Response<Body> {
    let mut response = accepted();
    let location =
        format!("{}/answers/{run}?sig={}", shared.host.settings.base, shared.host.signer.answer(run));
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
    response
}

/// `GET /answers/{run}`: the late response of a run, or `202` until there is one.
pub(crate) async fn answer(
    State(shared): State<Shared>,
    Path(run): Path<String>,
    uri: Uri,
) -> Response<Body> {
    late_answer(&shared, &run, &uri).await.unwrap_or_else(IntoResponse::into_response)
}

async fn late_answer(shared: &Shared, run: &str, uri: &Uri) -> Result<Response<Body>, Problem> {
    let signature = request::query(uri, "sig").unwrap_or_default();
    let unknown =
        || Problem::not_found("RunNotFound", "The run does not exist, or the URL has no valid signature.");
    let id = RunId::from_str(run).map_err(|_| unknown())?;
    if !shared.host.signer.is_answer(id, &signature) {
        return Err(unknown());
    }
    let (_, state) = shared.host.engine.state_of(id).await?.ok_or_else(unknown)?;
    match state.response() {
        Some(answer) => respond(shared, id, answer).await,
        None if state.status().is_final() => Err(no_response(id)),
        None => Ok(respond_later(shared, id)),
    }
}

/// Adds the headers that identify the run to its caller.
fn add_marks(headers: &mut HeaderMap, workflow: &str, version: Option<Version>, start: &RunStart) {
    let run = start.run.to_string();
    let trigger = |name: &str| start.trigger.get(name).and_then(Value::as_str).unwrap_or_default();
    let system = format!("/workflows/{workflow}");
    let version = version.map(|version| version.to_string()).unwrap_or_default();
    let request = format!(":{}", trigger("trackingId"));
    let marks = [
        ("x-ms-workflow-run-id", run.as_str()),
        ("x-ms-correlation-id", trigger("trackingId")),
        ("x-ms-client-tracking-id", &start.tracking_id),
        ("x-ms-trigger-history-name", run.as_str()),
        ("x-ms-workflow-system-id", &system),
        ("x-ms-workflow-id", &system),
        ("x-ms-workflow-version", &version),
        ("x-ms-workflow-name", workflow),
        ("x-ms-tracking-id", trigger("trackingId")),
        ("x-ms-request-id", &request),
    ];
    for (name, value) in marks {
        // A tracking id from the caller may contain characters that are not allowed in a header.
        if !value.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            headers.insert(name, value);
        }
    }
}

/// Handles an event to which a trigger has subscribed.
async fn take_event(shared: &Shared, token: &str, request: Request) -> Result<Response<Body>, Problem> {
    let (deployment, trigger) = match subscription::find(&shared.host, token).await? {
        Found::Trigger(deployment, trigger) => (deployment, trigger),
        Found::Ended => {
            let message = "The subscription of this callback URL has ended.";
            return Err(Problem::new(StatusCode::GONE, "SubscriptionEnded", message));
        }
        Found::Unknown => return Err(callback_not_found()),
    };
    let (parts, body) = request.into_parts();
    shared.callers.check_site_of_address(&parts.headers, true)?;
    let found = find_trigger(&deployment, &trigger)?;
    let given = outputs(&parts.uri, &parts.headers);
    Box::pin(fire_with_body(shared, &deployment, found, (parts, body), given)).await
}

/// One response for all invalid tokens, so that probing reveals nothing.
fn callback_not_found() -> Problem {
    Problem::not_found("CallbackNotFound", "The callback URL is not valid.")
}

fn run_ended() -> Problem {
    Problem::new(StatusCode::GONE, "RunEnded", "The run that waited for this callback has ended.")
}

fn not_awaited() -> Problem {
    let message = "No action of the run is waiting for this callback.";
    Problem::new(StatusCode::GONE, "CallbackNotAwaited", message)
}

/// `/callbacks/{token}`: the callback of a webhook action or trigger.
pub(crate) async fn callback(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    request: Request,
) -> Response<Body> {
    take_callback(&shared, &token, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn take_callback(shared: &Shared, token: &str, request: Request) -> Result<Response<Body>, Problem> {
    if subscription::is_token(token) {
        return take_event(shared, token, request).await;
    }
    let (run, effect) = shared.host.callbacks.recognize(token).ok_or_else(callback_not_found)?;
    shared.callers.check_site_of_address(request.headers(), true)?;
    let engine = &shared.host.engine;
    let key = idempotency::key(request.headers())?.map(str::to_owned);
    if engine.knows_callback(run, key.as_deref()).await {
        return Ok(json(StatusCode::OK, &Object::new().into()));
    }
    let (_, state) = engine.state_of(run).await?.ok_or_else(callback_not_found)?;
    if state.status().is_final() {
        return Err(run_ended());
    }
    // Checked before the body is read, which may be large, and again afterwards.
    if state.waiting_for_callback(effect).is_none() {
        return Err(not_awaited());
    }
    let (parts, body) = request.into_parts();
    let mut body = read_body(body, shared).await?;
    let mut payload = outputs(&parts.uri, &parts.headers);
    if let Some(value) = decoded(shared, &body, &parts.headers).await? {
        body.becomes(&value)?;
        payload.insert("body", value);
    }
    match engine.deliver_once(run, effect, payload.into(), key.as_deref()).await {
        Delivered::Taken => return Ok(json(StatusCode::OK, &Object::new().into())),
        Delivered::NotAwaited => return Err(not_awaited()),
        Delivered::NotInProgress => {}
    }
    // The run has ended meanwhile, or is held because the store is unavailable; then the caller may retry.
    let status =
        shared.host.store.run(run).await?.and_then(|row| loom_engine::status_from_number(row.status));
    match status {
        Some(status) if RunStatus::is_final(status) => Err(run_ended()),
        _ if shared.host.is_holding() => Err(refusal(FireError::RunsHeld)),
        _ => Err(refusal(FireError::StorePaused)),
    }
}
