//! `/mcp`: the streamable HTTP transport.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Method, Response, StatusCode},
    response::IntoResponse,
};
use http_body_util::Full;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};

use super::Tools;
use crate::{request::read_body, response::Problem, shared::Shared};

/// The most bytes of one message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The most sessions. Their clients begin others when these have ended.
const SESSIONS_MAX: usize = 1_024;

/// How long a session stays without a message. A call may wait for a person.
const SESSION_IDLE_MAX: Duration = Duration::from_hours(1);

/// The sessions of clients that speak a revision of the protocol that has sessions.
#[derive(Clone, Debug)]
pub(crate) struct McpSessions(Arc<LocalSessionManager>);

impl Default for McpSessions {
    fn default() -> McpSessions {
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(SESSION_IDLE_MAX);
        McpSessions(Arc::new(sessions))
    }
}

/// `GET`, `POST` and `DELETE /mcp`.
pub(crate) async fn serve(State(shared): State<Shared>, request: Request) -> Response<Body> {
    Box::pin(answer(shared, request)).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(shared: Shared, request: Request) -> Result<Response<Body>, Problem> {
    // A page of this machine's browser could read a stream, too.
    shared.callers.check_site(request.headers())?;
    let sessions = Arc::clone(&shared.mcp_sessions.0);
    let begins = request.method() == Method::POST && !request.headers().contains_key("mcp-session-id");
    // Another node does not know a session, so in a cluster every request stands alone.
    let has_sessions = shared.host.cluster.is_none();
    if begins && has_sessions && sessions.sessions.read().await.len() >= SESSIONS_MAX {
        let message = format!("The limit of {SESSIONS_MAX} sessions is reached.");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManySessions", message).later(60));
    }
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_legacy_session_mode(has_sessions)
        .with_max_request_body_bytes(MESSAGE_BYTES_MAX)
        .with_cancellation_token(shared.host.stopping.child_token());
    let (parts, body) = request.into_parts();
    let received = read_body(body, &shared).await?;
    let body = Full::new(received.bytes().clone());
    let service = StreamableHttpService::new(move || Ok(Tools::new(shared.clone())), sessions, config);
    let response = service.handle(axum::http::Request::from_parts(parts, body)).await;
    drop(received);
    Ok(response.map(Body::new))
}
