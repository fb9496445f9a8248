//! The HTTP side: who may call, and connections with limits.

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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{Host, callers::Callers, impatient::Impatient, received::Bodies, routes, sign};

/// How the server treats its callers.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// What callers of everything but health must bring as `Authorization: Bearer …`; triggers also take the signature
    /// of their address. None lets everybody in, which suits a loopback address only.
    pub token: Option<Arc<str>>,
    /// The most bytes of a body: 100 MiB.
    pub body_bytes_max: usize,
    /// The most bytes that the bodies of all requests in progress take together, until what they say belongs to a run:
    /// 512 MiB. What JSON is read into counts instead of its text. Not below [`ServerSettings::body_bytes_max`], or no
    /// body of that size is ever taken.
    pub bodies_bytes_max: u64,
    /// The most bytes of a request's head: 64 KiB.
    pub head_bytes_max: usize,
    /// How long a connection may take to send a request's head: 15 s. Also how long an idle one is kept.
    pub head_timeout: Duration,
    /// How long a body may take: 120 s.
    pub body_timeout: Duration,
    /// How long a response may wait for its caller to take any of it: 30 s.
    pub write_timeout: Duration,
    /// Where others reach the server, if the operator has said so: `https://loom.example`. Requests may name its host, and addresses that
    /// are signed may be used by pages of other sites.
    pub public_url: Option<String>,
    /// Connections at once; more wait to be taken in: 4,096.
    pub connections_max: usize,
    /// Watchers of live events at once: 1,024.
    pub watchers_max: usize,
    /// How long requests in progress may take once the server takes no more connections: 10 s.
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
        }
    }
}

/// What every request handler sees.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    pub(crate) settings: Arc<ServerSettings>,
    pub(crate) callers: Callers,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) bodies: Arc<Bodies>,
    token: Token,
}

/// The token that callers must send, which can be replaced while the server runs. Cheap to clone.
#[derive(Clone)]
pub struct Token(Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    fn get(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether callers must send one.
    pub fn is_asked_for(&self) -> bool {
        self.get().is_some()
    }

    /// From now on callers must send this one. False when the server asks for none: then this does not change.
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
    /// Whether the caller brings the token, if one is asked for.
    pub(crate) fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token.get() else { return true };
        let given = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
        let given = given.strip_prefix(b"Bearer ").or_else(|| given.strip_prefix(b"bearer "));
        given.is_some_and(|given| sign::same(given, token.as_bytes()))
    }
}

/// Speaks HTTP for a [`Host`].
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
            settings: Arc::clone(&settings),
        };
        Server { router: routes::router(shared.clone()), shared, settings, host }
    }

    /// The token, for whoever replaces it.
    pub fn token(&self) -> Token {
        self.shared.token.clone()
    }

    /// Answers one request without a connection, as if its caller had brought the token. Gives status and body.
    ///
    /// # Errors
    /// `path` cannot be the path of a request.
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

    /// Serves connections of `listener` until `stop` is cancelled; then takes no more, lets requests in progress end
    /// for as long as the settings say, and returns.
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
                        // Usually too many open files; they get fewer as connections end.
                        tracing::warn!(%error, "a connection could not be taken in");
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
        // Waits for Responses and live events end by this.
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
    // Small answers should not wait for more.
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
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Whether an address can be reached from this machine only.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
