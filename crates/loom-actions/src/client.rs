//! One HTTP exchange: connect, send, and read the response within limits. A redirect is a response like any other, as
//! the language prescribes.
//!
//! Built on hyper rather than on a larger client, for three reasons: every stage that can fail is under our control,
//! so that a name that does not resolve, a refused connection and a bad certificate are distinguished by type, not by
//! text; a URL is sent exactly as it was written; and the build stays small. What comes from outside is limited
//! in bytes (also after decompression) and in time.

mod classify;
mod connect;
mod der;
pub(crate) mod pfx;
mod read;
mod tls;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request as HyperRequest, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioTimer},
};

use self::connect::Connector;
pub use self::{
    connect::{Resolve, SystemResolver},
    tls::{Identity, TlsError},
};
use crate::{Failure, egress::Egress, url::Url};

/// Limits and trust of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The most bytes in the body of a response, as sent and as decompressed.
    pub body_bytes_max: usize,
    /// The timeout of one attempt to connect to one address, including the TLS handshake.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Certificate authorities to trust in addition to the bundled Mozilla ones, as PEM text.
    pub extra_roots_pem: Vec<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            body_bytes_max: 104_857_600,
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            extra_roots_pem: Vec::new(),
        }
    }
}

/// Sends requests. Cheap to clone; keeps connections alive between requests.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// Open connections, and the connector that makes new ones.
type Wires = Pool<Connector, Full<Bytes>>;

struct Shared {
    options: ClientOptions,
    egress: Arc<Egress>,
    resolver: Arc<dyn Resolve>,
    /// One pool without a client certificate, and one for each certificate, because a connection made with one
    /// certificate must never carry the requests of another. The same holds for connections that only requests to a
    /// named URL may use.
    pools: Mutex<HashMap<PoolKey, Wires>>,
}

/// The fingerprint of the client certificate, and [`Request::named`].
type PoolKey = (Option<[u8; 32]>, bool);

/// The most pools of client certificates to keep.
const POOLS_MAX: usize = 64;

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL; the egress map may redirect it.
    pub url: Url,
    /// The headers to send, except `Host` and those for the length of the body, which the client sets.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// Whether to request gzip and to decompress it.
    pub decompress: bool,
    /// The timeout of the whole exchange, including the body.
    pub timeout: Duration,
    /// The client certificate, for servers that request one.
    pub identity: Option<Arc<Identity>>,
    /// Whether the operator named the URL for this very request. Then the list of allowed hosts and the block on
    /// private addresses do not apply.
    pub named: bool,
}

impl Request {
    /// A GET without headers, with a timeout.
    pub fn get(url: Url, timeout: Duration) -> Request {
        Request {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            decompress: true,
            timeout,
            identity: None,
            named: false,
        }
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that described a compression that was undone.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
    /// The URL that responded, before the egress map: the base of a relative `Location`.
    pub url: Url,
}

/// A response whose body is still arriving.
#[derive(Debug)]
pub struct Streamed {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    shown: String,
}

impl Streamed {
    /// The next part of the body; none at its end.
    ///
    /// # Errors
    /// [`Failure`] when the connection breaks.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| classify::broken(&self.shown, &error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Reply {
    /// Returns the value of a header as text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// [`TlsError`] when an extra root is not a certificate.
    pub fn new(
        options: ClientOptions,
        egress: Arc<Egress>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Client, TlsError> {
        let shared = Shared { options, egress, resolver, pools: Mutex::new(HashMap::new()) };
        let client = Client { shared: Arc::new(shared) };
        client.pool(None, false)?;
        Ok(client)
    }

    /// The pool for a client certificate.
    fn pool(&self, identity: Option<&Arc<Identity>>, named: bool) -> Result<Wires, TlsError> {
        let shared = &self.shared;
        let key = (identity.map(|identity| identity.fingerprint()), named);
        let mut pools = shared.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        if pools.len() >= POOLS_MAX {
            pools.retain(|(certificate, _), _| certificate.is_none());
        }
        let connector = Connector::new(
            Arc::clone(&shared.egress),
            Arc::clone(&shared.resolver),
            tls::config(&shared.options.extra_roots_pem, identity.map(Arc::as_ref))?,
            shared.options.connect_timeout,
            named,
        );
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(shared.options.idle_timeout)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        pools.insert(key, pool.clone());
        Ok(pool)
    }

    /// Sends a request and reads the whole response. A response with any status is a success; only the lack of one is
    /// a [`Failure`].
    ///
    /// # Errors
    /// [`Failure`] when no response came, or when it cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection or, over HTTP/2, resets the stream; the server may have acted.
    pub async fn send(&self, request: Request) -> Result<Reply, Failure> {
        let shown = request.url.shown();
        let timeout = request.timeout;
        match tokio::time::timeout(timeout, Box::pin(self.exchange(request))).await {
            Ok(result) => result,
            Err(_) => Err(classify::timed_out(&shown, timeout)),
        }
    }

    /// Sends a request and returns the response as soon as its headers have arrived; the body is read in parts, without a limit.
    /// The timeout of the request applies until the headers have arrived.
    ///
    /// # Errors
    /// Like [`Client::send`].
    ///
    /// # Cancel safety
    /// Like [`Client::send`].
    pub async fn open(&self, request: Request) -> Result<Streamed, Failure> {
        let (shown, timeout) = (request.url.shown(), request.timeout);
        let request = Request { decompress: false, ..request };
        match tokio::time::timeout(timeout, Box::pin(self.dispatch(request))).await {
            Ok(response) => {
                let (head, body) = response?.into_parts();
                Ok(Streamed { status: head.status, headers: head.headers, body, shown })
            }
            Err(_) => Err(classify::timed_out(&shown, timeout)),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Reply, Failure> {
        let (url, head_only) = (request.url.clone(), request.method == Method::HEAD);
        let decompress = request.decompress && !request.headers.contains_key(header::RANGE);
        let (head, body) = self.dispatch(request).await?.into_parts();
        let bytes_max = self.shared.options.body_bytes_max;
        let read = read::Read { url: &url, bytes_max, decompress, head_only };
        let (headers, body) = read.whole(head.headers, body).await?;
        Ok(Reply { status: head.status, headers, body, url })
    }

    async fn dispatch(&self, request: Request) -> Result<Response<Incoming>, Failure> {
        let pool = self.pool(request.identity.as_ref(), request.named).map_err(|error| {
            Failure::bad_request(format!("The client certificate cannot be used: {error}."))
        })?;
        let target = self.shared.egress.route(&request.url, request.named)?;
        let decompress = request.decompress && !request.headers.contains_key(header::RANGE);
        // hyper omits the length of an empty body; some servers require it where a body is expected.
        let tells_empty =
            request.body.is_empty() && matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        let mut wire = HyperRequest::new(Full::new(request.body));
        *wire.method_mut() = request.method.clone();
        *wire.uri_mut() = target.to_uri();
        *wire.headers_mut() = request.headers;
        if decompress {
            wire.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if tells_empty {
            wire.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        pool.request(wire).await.map_err(|error| {
            let mut failure = classify::no_answer(&request.url, &error);
            if target.origin() != request.url.origin() {
                // To find the mistake, one needs to know where the request was really sent.
                let sent_to = format!(" The egress rules send it to '{}'.", target.origin());
                failure.message.push_str(&sent_to);
            }
            failure
        })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
