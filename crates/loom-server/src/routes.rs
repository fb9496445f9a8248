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

use crate::{
    backfill, callers, completions, health, invoke, mcp, memory, messages, metrics,
    nodes::{
        self,
        forward::{self, Checked},
    },
    openapi, pause, published, questions,
    response::Problem,
    run_changes, run_definition, run_list, runs, secret_audit, secrets, services,
    shared::{Caller, Shared},
    signals, sse, ui, workflows,
};

/// The methods that a Request trigger can accept.
const TRIGGER_METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The header that proves that a page of this server makes a change.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// A router under construction, with a list of its routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<Shared>,
    /// The methods and paths, in the order in which they were added.
    pub(crate) known: Vec<(Method, &'static str)>,
}

impl Routes {
    fn on<T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Routes {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of the standard");
        self.router = self.router.route(path, on(filter, handler));
        self.known.push((method, path));
        self
    }

    fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.on(Method::GET, path, handler)
    }

    fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, Shared>) -> Routes {
        self.on(Method::POST, path, handler)
    }

    fn any<T: 'static>(self, path: &'static str, handler: &impl Handler<T, Shared>) -> Routes {
        TRIGGER_METHODS.into_iter().fold(self, |all, method| all.on(method, path, handler.clone()))
    }

    /// Another form of the path added last, which the OpenAPI document only mentions in its description.
    fn alias<T: 'static>(self, path: &'static str, handler: &impl Handler<T, Shared>) -> Routes {
        let documented = self.known.len();
        let mut all = self.any(path, handler);
        all.known.truncate(documented);
        all
    }
}

/// Routes that require the token.
pub(crate) fn guarded() -> Routes {
    Routes::default()
        .get("/api/v1/workflows", workflows::workflows)
        .get("/api/v1/workflows/{name}", workflows::workflow)
        .on(Method::PUT, "/api/v1/workflows/{name}", workflows::deploy)
        .on(Method::DELETE, "/api/v1/workflows/{name}", workflows::delete)
        .get("/api/v1/workflows/{name}/versions", workflows::versions)
        .get("/api/v1/workflows/{name}/versions/{version}", workflows::version)
        .post("/api/v1/workflows/{name}/rotate-signature", workflows::rotate_signatures)
        .post("/api/v1/workflows/{name}/disable", pause::disable_workflow)
        .post("/api/v1/workflows/{name}/enable", pause::enable_workflow)
        .post("/api/v1/workflows/{name}/triggers/{trigger}/disable", pause::disable_trigger)
        .post("/api/v1/workflows/{name}/triggers/{trigger}/enable", pause::enable_trigger)
        .post("/api/v1/workflows/{name}/triggers/{trigger}/backfill", backfill::backfill)
        .post("/api/v1/workflows/{name}/triggers/{trigger}/run", workflows::run_trigger)
        .post("/api/v1/workflows/{name}/triggers/{trigger}/rotate-signature", workflows::rotate_signature)
        .get("/api/v1/workflows/{name}/triggers/{trigger}/histories", workflows::trigger_history)
        .get("/api/v1/runs", run_list::runs)
        .get("/api/v1/runs/count", run_list::count)
        .post("/api/v1/runs/bulk/{operation}", run_changes::change)
        .get("/api/v1/runs/{id}", runs::run)
        .on(Method::DELETE, "/api/v1/runs/{id}", runs::delete_run)
        .get("/api/v1/runs/{id}/actions", runs::actions)
        .get("/api/v1/runs/{id}/actions/{action}", runs::action)
        .get("/api/v1/runs/{id}/executions", runs::executions)
        .get("/api/v1/runs/{id}/messages", messages::messages)
        .get("/api/v1/runs/{id}/definition", run_definition::definition)
        .get("/api/v1/runs/{id}/events", sse::events)
        .post("/api/v1/runs/{id}/cancel", runs::cancel)
        .post("/api/v1/runs/{id}/suspend", runs::suspend)
        .post("/api/v1/runs/{id}/resume", runs::resume)
        .post("/api/v1/runs/{id}/resubmit", runs::resubmit)
        .post("/api/v1/runs/{id}/signals/{name}", signals::send)
        .get("/api/v1/runs/{id}/questions", questions::list)
        .post("/api/v1/runs/{id}/answers", questions::answer)
        .get("/api/v1/resilience", services::services)
        .get("/api/v1/resilience/{service}", services::policy)
        .on(Method::PUT, "/api/v1/resilience/{service}", services::put_policy)
        .on(Method::DELETE, "/api/v1/resilience/{service}", services::delete_policy)
        .post("/api/v1/resilience/{service}/{change}", services::change)
        .get("/api/v1/memory", memory::namespaces)
        .get("/api/v1/memory/{namespace}", memory::keys)
        .post("/api/v1/memory/{namespace}", memory::transact)
        .get("/api/v1/memory/{namespace}/{key}", memory::get)
        .on(Method::PUT, "/api/v1/memory/{namespace}/{key}", memory::put)
        .on(Method::DELETE, "/api/v1/memory/{namespace}/{key}", memory::delete)
        .get("/api/v1/nodes", nodes::api::nodes)
        .post("/api/v1/nodes/{node}/drain", nodes::api::drain)
        .get("/api/v1/openapi.json", openapi::document)
        .get("/api/v1/secrets", secrets::list)
        .get("/api/v1/secrets/{name}", secrets::get)
        .on(Method::PUT, "/api/v1/secrets/{name}", secrets::put)
        .on(Method::DELETE, "/api/v1/secrets/{name}", secrets::delete)
        .get("/api/v1/secrets/{name}/versions", secrets::versions)
        .post("/api/v1/secrets/{name}/{change}", secrets::change)
        .get("/api/v1/secret-audit", secret_audit::entries)
        .post("/api/v1/secret-keys/rotate", secrets::rotate)
        .get("/api/v1/settings", published::settings)
        .get("/v1/models", completions::models)
        .post("/v1/chat/completions", completions::complete)
        .get("/mcp", mcp::http::serve)
        .post("/mcp", mcp::http::serve)
        .on(Method::DELETE, "/mcp", mcp::http::serve)
        .get("/metrics", metrics::page)
}

/// Routes that are public or check a signature themselves.
pub(crate) fn open() -> Routes {
    Routes::default()
        .get("/healthz", health::health)
        .get("/readyz", health::ready)
        .any("/workflows/{workflow}/triggers/{trigger}/invoke", &invoke::invoke)
        .alias("/workflows/{workflow}/triggers/{trigger}/invoke/{*path}", &invoke::invoke_below)
        // The form of trigger URLs in Logic Apps Standard.
        .alias("/api/{workflow}/triggers/{trigger}/invoke", &invoke::invoke)
        .alias("/api/{workflow}/triggers/{trigger}/invoke/{*path}", &invoke::invoke_below)
        .any("/callbacks/{token}", &invoke::callback)
        .get("/answers/{run}", invoke::answer)
}

/// Wraps the routes in the checks for requests that come over a connection.
pub(crate) fn over_a_connection(router: Router, shared: Shared) -> Router {
    router.layer(middleware::from_fn_with_state(shared, only_ours))
}

async fn only_ours(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = match shared.callers.check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    log_denied(&method, &uri, response.status());
    // Browsers must not guess another content type.
    let headers = response.headers_mut();
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
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
    // Pages ask the API for their visitors, whom they have checked themselves.
    let for_pages = guarded().router.route_layer(to_owner()).route_layer(middleware::from_fn(mark_checked));
    let for_pages = for_pages.route_layer(masking()).merge(open()).with_state(shared.clone());
    let pages = ui::router(shared.clone(), for_pages);
    let guarded = guarded().router.route_layer(to_owner());
    let guarded = guarded.route_layer(middleware::from_fn_with_state(shared.clone(), only_allowed));
    guarded
        .route_layer(masking())
        .merge(open())
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
        .merge(pages)
}

/// Marks a request whose caller has been checked.
async fn mark_checked(mut request: Request, next: Next) -> Response<Body> {
    request.extensions_mut().insert(Checked);
    next.run(request).await
}

async fn only_allowed(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let caller = shared.caller(request.headers());
    if caller != Caller::Nobody {
        let checked = if request.method().is_safe() {
            Ok(())
        } else {
            let is_ours = shared.callers.check_site(request.headers());
            is_ours.and_then(|()| check_proof(&caller, &request)).and_then(|()| callers::check_kind(&request))
        };
        return match checked {
            Ok(()) => mark_checked(request, next).await,
            Err(problem) => problem.into_response(),
        };
    }
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "AuthenticationFailed",
        "The request must have the server's token in its 'Authorization: Bearer' header.",
    )
    .into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Checks that a change by a browser that has signed in is made by a page of this server.
fn check_proof(caller: &Caller, request: &Request) -> Result<(), Problem> {
    let Caller::Session { csrf } = caller else { return Ok(()) };
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
