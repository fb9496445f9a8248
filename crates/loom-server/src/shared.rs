//! What all handlers of requests share: the host, the settings, and who the callers are.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use loom_expression::Value;
use tokio::sync::Semaphore;

use crate::{
    callers::Callers, host::Host, mcp::http::McpSessions, received::Bodies, secret_store::SecretStore,
    sessions::Sessions, shown_settings::ShownSettings, sign,
};

/// JSON of so many bytes takes longer than a thread of the runtime should be occupied: a tenth of a millisecond or more.
pub(crate) const LARGE: u64 = 64 << 10;

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
    /// The secrets that the API lists and changes. Default: none.
    pub secrets: SecretStore,
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
            secrets: SecretStore::default(),
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
    pub(crate) mcp_sessions: McpSessions,
    pub(crate) shown_settings: ShownSettings,
    pub(crate) token: Token,
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
pub struct Token(pub(crate) Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    pub(crate) fn get(&self) -> Option<Arc<str>> {
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
    /// Reads a history, or converts a large value, on a thread that is not the runtime's: other requests are answered meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future drops the result.
    pub(crate) async fn read<F>(&self, reading: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.host.engine.reads().block_on(reading).await
    }

    /// Converts something of so many bytes, on such a thread if it is large.
    pub(crate) async fn convert<T: Send + 'static>(
        &self,
        bytes: u64,
        conversion: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes < LARGE { conversion() } else { self.host.engine.reads().run(conversion).await }
    }

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
