//! The HTTP interface: authentication, and connections with limits.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
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
use loom_expression::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    Host, callers::Callers, impatient::Impatient, received::Bodies, routes, secret_list::SecretList,
    sessions::Sessions, shown_settings::ShownSettings, sign,
};

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The token that callers must send as `Authorization: Bearer TOKEN`, except for health checks; triggers also accept a signed
    /// URL. None disables authentication, which is acceptable only on a loopback address.
    pub token: Option<Arc<str>>,
    /// The maximum size of a request body in bytes. Default: 100 MiB.
    pub body_bytes_max: usize,
    /// The maximum memory in bytes for the bodies of all requests in progress, until their contents belong to a run. Parsed JSON
    /// counts instead of its text. Must not be less than [`ServerSettings::body_bytes_max`]. Default: 512 MiB.
    pub bodies_bytes_max: u64,
    /// The maximum size of a request's head in bytes. Default: 64 KiB.
    pub head_bytes_max: usize,
    /// The time a connection may take to send a request's head; also the idle timeout. Default: 15 s.
    pub head_timeout: Duration,
    /// The time a request body may take. Default: 120 s.
    pub body_timeout: Duration,
    /// The time after which a connection is closed if its caller does not read any part of the response. Default: 30 s.
    pub write_timeout: Duration,
    /// The public URL of the server, such as `https://loom.example`. Requests may name its host, and web pages of other sites may use
    /// signed URLs.
    pub public_url: Option<String>,
    /// The maximum number of connections; further ones wait to be accepted. Default: 4,096.
    pub connections_max: usize,
    /// The maximum number of event streams. Default: 1,024.
    pub watchers_max: usize,
    /// The settings of the program, as `GET /api/v1/settings` shows them: objects with `name`, `value` and `origin`, secrets
    /// redacted. Default: none.
    pub shown: Vec<Value>,
    /// The names and versions of secrets, as `GET /api/v1/secrets` lists them. Default: none.
    pub secrets: SecretList,
    /// The time requests in progress may take once the server accepts no more connections. Default: 10 s.
    pub drain_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            token: None,
            body_bytes_max: 100 << 20,
            bodies_bytes_max: 512 << 20,
            head_bytes_max: 64 << 10,
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_secs(30),
            public_url: None,
            connections_max: 4_096,
            watchers_max: 1_024,
            drain_timeout: Duration::from_secs(10),
            shown: Vec::new(),
            secrets: SecretList::default(),
        }
    }
}

/// The state of all request handlers.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    pub(crate) settings: Arc<ServerSettings>,
    pub(crate) callers: Callers,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) shown_settings: ShownSettings,
    token: Token,
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody with the token, or anybody if the server has none.
    Allowed,
    /// A browser that has signed in.
    Session {
        /// What a change must prove to know.
        csrf: String,
    },
    /// Anybody else.
    Nobody,
}

/// The token that callers must send, which can be replaced while the server runs. Cheap to clone.
#[derive(Clone)]
pub struct Token(Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    fn get(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether callers must send a token.
    pub fn is_required(&self) -> bool {
        self.get().is_some()
    }

    /// Replaces the token. Returns false, and changes nothing, if the server requires no token.
    pub fn replace(&self, token: Arc<str>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            return false;
        }
        *known = Some(token);
        true
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Shared {
    /// Whether callers must send a token.
    pub(crate) fn is_guarded(&self) -> bool {
        self.token.is_required()
    }

    /// Who sends a request with these headers.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        if self.is_allowed(headers) {
            return Caller::Allowed;
        }
        let token = self.token.get().unwrap_or_default();
        match self.sessions.find(headers, &token, self.host.now()) {
            Some(csrf) => Caller::Session { csrf },
            None => Caller::Nobody,
        }
    }

    /// Begins a session for a browser that has sent this token. Returns the `Set-Cookie` header; none if it is not the token.
    pub(crate) fn begin_session(&self, given: &str) -> Option<String> {
        let token = self.token.get()?;
        let is_secure = self.settings.public_url.as_deref().is_some_and(|url| url.starts_with("https:"));
        let is_right = sign::same(given.as_bytes(), token.as_bytes());
        is_right.then(|| self.sessions.begin(&token, self.host.now(), is_secure)).flatten()
    }

    /// Whether the caller has sent the token, if one is required.
    pub(crate) fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token.get() else { return true };
        let given = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
        let given = given.strip_prefix(b"Bearer ").or_else(|| given.strip_prefix(b"bearer "));
        given.is_some_and(|given| sign::same(given, token.as_bytes()))
    }
}

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
            shown_settings: ShownSettings::new(settings.shown.clone().into()),
            settings: Arc::clone(&settings),
        };
        Server { router: routes::router(shared.clone()), shared, settings, host }
    }

    /// A handle to the token, with which it can be replaced.
    pub fn token(&self) -> Token {
        self.shared.token.clone()
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
