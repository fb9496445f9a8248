//! All routes and their handlers. A test compares the OpenAPI document with this list.

use std::borrow::Cow;

use axum::{
    Router,
    body::{self, Body},
    extract::{Request, State},
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header},
    middleware::{self, Next},
    response::IntoResponse,
    routing::{MethodFilter, on},
};

use loom_expression::Value;
use tokio::time::Instant;

use crate::{
    access::{
        self, Grant,
        Scope::{self, Admin, Deploy, Operate, Read, Run},
    },
    backfill, callers, change_log, completions, health, invoke, mcp, memory, messages, metrics,
    nodes::{self, forward},
    occurrences, openapi, pause, published, questions,
    response::Problem,
    run_changes, run_definition, run_list, runs, secret_audit, secrets, services,
    shared::Shared,
    signals, skip, sse, tokens, ui, workflows,
};

/// The methods that a Request trigger can accept.
const TRIGGER_METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The header that proves that a page of this server makes a change.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// A router under construction, with a list of its routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<Shared>,
    /// In the order in which they were added.
    pub(crate) known: Vec<Route>,
}

/// A route: its method and path, and the scope that its callers need. Routes without one are public or check a signature themselves.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) scope: Option<Scope>,
}

impl Routes {
    fn add<T: 'static>(
        mut self,
        scope: Option<Scope>,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Routes {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of the standard");
        self.router = self.router.route(path, on(filter, handler));
        self.known.push(Route { method, path, scope });
        self
    }

    fn on<T: 'static>(
        self,
        scope: Scope,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Routes {
        self.add(Some(scope), method, path, handler)
    }

    fn get<T: 'static>(self, scope: Scope, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.on(scope, Method::GET, path, handler)
    }

    fn post<T: 'static>(self, scope: Scope, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.on(scope, Method::POST, path, handler)
    }

    fn put<T: 'static>(self, scope: Scope, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.on(scope, Method::PUT, path, handler)
    }

    fn delete<T: 'static>(
        self,
        scope: Scope,
        path: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Routes {
        self.on(scope, Method::DELETE, path, handler)
    }

    fn get_open<T: 'static>(self, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.add(None, Method::GET, path, handler)
    }

    fn any_open<T: 'static>(self, path: &'static str, handler: &impl Handler<T, Shared>) -> Routes {
        TRIGGER_METHODS.into_iter().fold(self, |all, method| all.add(None, method, path, handler.clone()))
    }

    /// Another form of the path added last, which the OpenAPI document only mentions in its description.
    fn alias<T: 'static>(self, path: &'static str, handler: &impl Handler<T, Shared>) -> Routes {
        let documented = self.known.len();
        let mut all = self.any_open(path, handler);
        all.known.truncate(documented);
        all
    }
}

/// Routes that require a token, or a session that began with one.
pub(crate) fn guarded() -> Routes {
    Routes::default()
        .get(Read, "/api/v1/workflows", workflows::workflows)
        .get(Read, "/api/v1/workflows/{name}", workflows::workflow)
        .put(Deploy, "/api/v1/workflows/{name}", workflows::deploy)
        .delete(Deploy, "/api/v1/workflows/{name}", workflows::delete)
        .get(Read, "/api/v1/workflows/{name}/versions", workflows::versions)
        .get(Read, "/api/v1/workflows/{name}/versions/{version}", workflows::version)
        .post(Deploy, "/api/v1/workflows/{name}/rotate-signature", workflows::rotate_signatures)
        .post(Operate, "/api/v1/workflows/{name}/disable", pause::disable_workflow)
        .post(Operate, "/api/v1/workflows/{name}/enable", pause::enable_workflow)
        .post(Operate, "/api/v1/workflows/{name}/triggers/{trigger}/disable", pause::disable_trigger)
        .post(Operate, "/api/v1/workflows/{name}/triggers/{trigger}/enable", pause::enable_trigger)
        .post(Operate, "/api/v1/workflows/{name}/triggers/{trigger}/backfill", backfill::backfill)
        .post(Run, "/api/v1/workflows/{name}/triggers/{trigger}/run", workflows::run_trigger)
        .post(
            Deploy,
            "/api/v1/workflows/{name}/triggers/{trigger}/rotate-signature",
            workflows::rotate_signature,
        )
        .get(Read, "/api/v1/workflows/{name}/triggers/{trigger}/histories", workflows::trigger_history)
        .get(Read, "/api/v1/workflows/{name}/triggers/{trigger}/occurrences", occurrences::occurrences)
        .get(Read, "/api/v1/runs", run_list::runs)
        .get(Read, "/api/v1/runs/count", run_list::count)
        .post(Operate, "/api/v1/runs/bulk/{operation}", run_changes::change)
        .get(Read, "/api/v1/runs/{id}", runs::run)
        .delete(Operate, "/api/v1/runs/{id}", runs::delete_run)
        .get(Read, "/api/v1/runs/{id}/actions", runs::actions)
        .get(Read, "/api/v1/runs/{id}/actions/{action}", runs::action)
        .get(Read, "/api/v1/runs/{id}/executions", runs::executions)
        .get(Read, "/api/v1/runs/{id}/messages", messages::messages)
        .get(Read, "/api/v1/runs/{id}/definition", run_definition::definition)
        .get(Read, "/api/v1/runs/{id}/events", sse::events)
        .post(Operate, "/api/v1/runs/{id}/actions/{action}/skip-wait", skip::skip_wait)
        .post(Operate, "/api/v1/runs/{id}/cancel", runs::cancel)
        .post(Operate, "/api/v1/runs/{id}/suspend", runs::suspend)
        .post(Operate, "/api/v1/runs/{id}/resume", runs::resume)
        .post(Run, "/api/v1/runs/{id}/resubmit", runs::resubmit)
        .post(Run, "/api/v1/runs/{id}/signals/{name}", signals::send)
        .get(Read, "/api/v1/runs/{id}/questions", questions::list)
        .post(Run, "/api/v1/runs/{id}/answers", questions::answer)
        .get(Read, "/api/v1/resilience", services::services)
        .get(Read, "/api/v1/resilience/{service}", services::policy)
        .put(Deploy, "/api/v1/resilience/{service}", services::put_policy)
        .delete(Deploy, "/api/v1/resilience/{service}", services::delete_policy)
        .get(Read, "/api/v1/resilience/{service}/history", services::history)
        .post(Operate, "/api/v1/resilience/{service}/{change}", services::change)
        .get(Read, "/api/v1/memory", memory::namespaces)
        .get(Read, "/api/v1/memory/{namespace}", memory::keys)
        .post(Operate, "/api/v1/memory/{namespace}", memory::transact)
        .get(Read, "/api/v1/memory/{namespace}/{key}", memory::get)
        .put(Operate, "/api/v1/memory/{namespace}/{key}", memory::put)
        .delete(Operate, "/api/v1/memory/{namespace}/{key}", memory::delete)
        .get(Read, "/api/v1/nodes", nodes::api::nodes)
        .post(Operate, "/api/v1/nodes/{node}/drain", nodes::api::drain)
        .get(Read, "/api/v1/openapi.json", openapi::document)
        .get(Read, "/api/v1/secrets", secrets::list)
        .get(Read, "/api/v1/secrets/{name}", secrets::get)
        .put(Deploy, "/api/v1/secrets/{name}", secrets::put)
        .delete(Deploy, "/api/v1/secrets/{name}", secrets::delete)
        .get(Read, "/api/v1/secrets/{name}/versions", secrets::versions)
        .post(Deploy, "/api/v1/secrets/{name}/{change}", secrets::change)
        .get(Read, "/api/v1/secret-audit", secret_audit::entries)
        .post(Deploy, "/api/v1/secret-keys/rotate", secrets::rotate)
        .get(Admin, "/api/v1/tokens", tokens::tokens)
        .post(Admin, "/api/v1/tokens", tokens::create)
        .delete(Admin, "/api/v1/tokens/{name}", tokens::revoke)
        .get(Admin, "/api/v1/audit", change_log::entries)
        .get(Read, "/api/v1/status", health::status)
        .get(Read, "/api/v1/settings", published::settings)
        .get(Run, "/v1/models", completions::models)
        .post(Run, "/v1/chat/completions", completions::complete)
        .get(Run, "/mcp", mcp::http::serve)
        .post(Run, "/mcp", mcp::http::serve)
        .delete(Run, "/mcp", mcp::http::serve)
        .get(Read, "/metrics", metrics::page)
}

/// Routes that are public or check a signature themselves.
pub(crate) fn open() -> Routes {
    Routes::default()
        .get_open("/healthz", health::health)
        .get_open("/readyz", health::ready)
        .any_open("/workflows/{workflow}/triggers/{trigger}/invoke", &invoke::invoke)
        .alias("/workflows/{workflow}/triggers/{trigger}/invoke/{*path}", &invoke::invoke_below)
        // The form of trigger URLs in Logic Apps Standard.
        .alias("/api/{workflow}/triggers/{trigger}/invoke", &invoke::invoke)
        .alias("/api/{workflow}/triggers/{trigger}/invoke/{*path}", &invoke::invoke_below)
        .any_open("/callbacks/{token}", &invoke::callback)
        .get_open("/answers/{run}", invoke::answer)
}

/// Wraps the routes in the checks for requests that come over a connection.
pub(crate) fn over_a_connection(router: Router, shared: Shared) -> Router {
    router.layer(middleware::from_fn_with_state(shared, only_ours))
}

async fn only_ours(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let begun = Instant::now();
    let mut response = match shared.callers.check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    log_denied(&method, &uri, response.status());
    shared.host.hub.tally.request(kind_of(uri.path()), response.status().as_u16(), begun.elapsed());
    // Browsers must not guess another content type.
    let headers = response.headers_mut();
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
}

/// What a request is for, as metrics say it.
fn kind_of(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("ui" | "", _) => "page",
        ("api", Some("v1")) => "api",
        ("workflows" | "api" | "callbacks" | "answers", _) => "trigger",
        ("v1", _) => "completions",
        ("mcp", _) => "tools",
        ("healthz" | "readyz" | "metrics", _) => "monitoring",
        _ => "other",
    }
}

/// Logs a request that was denied. Its query and the token of a callback's path may be secrets.
fn log_denied(method: &Method, uri: &Uri, status: StatusCode) {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST) {
        let path = if uri.path().starts_with("/callbacks/") { "/callbacks/…" } else { uri.path() };
        tracing::info!(%method, path, status = status.as_u16(), "request denied");
    }
}

/// All routes.
pub(crate) fn router(shared: Shared) -> Router {
    let masking = || middleware::from_fn_with_state(shared.clone(), masked);
    let to_owner = || middleware::from_fn_with_state(shared.clone(), forward::forward);
    let open = || open().router.route_layer(to_owner());
    // A change is recorded by the node that makes it.
    let recorded = || middleware::from_fn_with_state(shared.clone(), access::recorded);
    let guarded = || {
        let recorded = guarded().router.route_layer(recorded());
        recorded.route_layer(to_owner()).route_layer(middleware::from_fn(access::only_granted))
    };
    // Pages ask the API for their visitors, whom they have checked themselves, and say who they are.
    let for_pages = guarded().route_layer(masking()).merge(open()).with_state(shared.clone());
    let pages = ui::router(shared.clone(), for_pages);
    guarded()
        .route_layer(middleware::from_fn_with_state(shared.clone(), only_known))
        .route_layer(masking())
        .merge(open())
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
        .merge(pages)
}

/// Lets callers pass who have a token or a session, or all if the server requires none, and notes who they are.
async fn only_known(State(shared): State<Shared>, mut request: Request, next: Next) -> Response<Body> {
    let checked = match shared.caller(request.headers()).await {
        Ok(Some(grant)) => checked(&shared, &grant, &request).map(|()| grant),
        Ok(None) => return unknown_caller(),
        Err(problem) => Err(problem),
    };
    match checked {
        Ok(grant) => {
            request.extensions_mut().insert(grant);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Checks that a change is made by its caller, and not by a page of another site.
fn checked(shared: &Shared, grant: &Grant, request: &Request) -> Result<(), Problem> {
    if request.method().is_safe() {
        return Ok(());
    }
    shared.callers.check_site(request.headers())?;
    check_proof(grant, request)?;
    callers::check_kind(request)
}

fn unknown_caller() -> Response<Body> {
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "AuthenticationFailed",
        "The request must have a valid token in its 'Authorization: Bearer' header.",
    )
    .into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Checks that a change by a browser that has signed in is made by a page of this server.
fn check_proof(grant: &Grant, request: &Request) -> Result<(), Problem> {
    let Some(csrf) = &grant.csrf else { return Ok(()) };
    if request.headers().get(CSRF).is_some_and(|given| given == csrf.as_str()) {
        return Ok(());
    }
    let message = "A change in a session must have the session's proof in its 'X-CSRF-Token' header.";
    Err(Problem::new(StatusCode::FORBIDDEN, "CsrfTokenInvalid", message))
}

/// Redacts secrets in responses of the management API. Responses of workflows to their callers are not changed.
async fn masked(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let response = next.run(request).await;
    let masker = shared.host.engine.masker();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    // Streams of events are masked event by event.
    if masker.is_empty() || kind.starts_with(b"text/event-stream") {
        return response;
    }
    let is_json = kind.starts_with(b"application/json");
    let (mut parts, body) = response.into_parts();
    // The body is in memory already, so its size needs no limit.
    let Ok(bytes) = body::to_bytes(body, usize::MAX).await else {
        return Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Unreadable",
            "The response could not be read.",
        )
        .into_response();
    };
    let masked = std::str::from_utf8(&bytes).ok().and_then(|text| match masker.mask(text) {
        Cow::Borrowed(_) => None,
        // Masked within its strings, so that it stays valid JSON.
        Cow::Owned(_) if is_json => Some(masker.mask_value(&Value::from_json_str(text).ok()?).to_json_text()),
        Cow::Owned(masked) => Some(masked),
    });
    let Some(masked) = masked else { return Response::from_parts(parts, Body::from(bytes)) };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(masked))
}

async fn nowhere() -> Problem {
    Problem::not_found("NotFound", "No such route.")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "This route does not support the request's method.",
    )
}
