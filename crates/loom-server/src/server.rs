//! The HTTP interface: authentication, and connections with limits.

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    callers::Callers,
    host::Host,
    impatient::Impatient,
    mcp::{Mcp, http::McpSessions},
    received::Bodies,
    routes,
    shared::{ServerSettings, Shared, Token},
    shown_settings::ShownSettings,
};

/// The HTTP interface of a [`Host`].
#[derive(Debug)]
pub struct Server {
    router: Router,
    shared: Shared,
    settings: Arc<ServerSettings>,
    host: Arc<Host>,
}

impl Server {
    /// A server for `host`.
    pub fn new(host: Arc<Host>, settings: ServerSettings) -> Server {
        let settings = Arc::new(settings);
        let shared = Shared {
            host: Arc::clone(&host),
            callers: Callers::new(settings.token.is_some(), settings.public_url.as_deref()),
            watchers: Arc::new(Semaphore::new(settings.watchers_max)),
            token: Token(Arc::new(RwLock::new(settings.token.clone()))),
            bodies: Bodies::new(settings.bodies_bytes_max),
            sessions: Arc::default(),
            mcp_sessions: McpSessions::default(),
            shown_settings: ShownSettings::new(settings.shown.clone().into()),
            settings: Arc::clone(&settings),
        };
        Server { router: routes::router(shared.clone()), shared, settings, host }
    }

    /// A handle to the token, with which it can be replaced.
    pub fn token(&self) -> Token {
        self.shared.token.clone()
    }

    /// The path of a page that signs a browser in once, without the token, within fifteen minutes. None if the server requires no
    /// token. A new link replaces the one before.
    pub fn login_link(&self) -> Option<String> {
        let code = self.shared.token.get().and_then(|_| self.shared.sessions.invite(self.host.now()))?;
        Some(format!("/ui/login?code={code}"))
    }

    /// A handle to the settings that the API shows.
    pub fn shown_settings(&self) -> ShownSettings {
        self.shared.shown_settings.clone()
    }

    /// Handles one request without a connection, as if its caller had sent the token. Returns status and body.
    ///
    /// # Errors
    /// `path` is not a valid request path.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Vec<u8>), axum::http::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = self.shared.token.get() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(Body::from(body))?;
        request.headers_mut().extend(headers);
        let mut router = self.router.clone();
        let Ok(response) = router.call(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        Ok((parts.status, body.to_vec()))
    }

    /// The workflows as tools, for other transports than `/mcp`.
    pub fn mcp(&self) -> Mcp {
        Mcp::new(self.shared.clone())
    }

    /// Serves connections of `listener` until `stop` is cancelled; then accepts no more, waits for requests in progress for up to
    /// [`ServerSettings::drain_timeout`], and returns.
    ///
    /// # Cancel safety
    /// Dropping the future drops all connections.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.settings.connections_max));
        let connections = TaskTracker::new();
        let router = routes::over_a_connection(self.router, self.shared);
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
                () = stop.cancelled() => break,
            };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Usually too many open files; connections that end free some.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            let connection =
                serve_connection(stream, router.clone(), Arc::clone(&self.settings), stop.clone());
            connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        drop(listener);
        // Ends pending waits for Responses, and event streams.
        self.host.stopping.cancel();
        connections.close();
        tokio::time::timeout(self.settings.drain_timeout, connections.wait()).await.ok();
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    settings: Arc<ServerSettings>,
    stop: CancellationToken,
) {
    // Small responses should be sent immediately.
    stream.set_nodelay(true).ok();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(settings.head_bytes_max.max(8_192));
    let service = TowerToHyperService::new(router);
    let stream = Impatient::new(stream, settings.write_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was closed with an error");
    }
}

/// Whether an address can only be reached from this machine.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
