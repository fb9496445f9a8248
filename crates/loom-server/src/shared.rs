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
    access::{Grant, Scope, Scopes},
    callers::Callers,
    host::Host,
    mcp::http::McpSessions,
    nodes::forward::PASSED_ON,
    received::Bodies,
    response::Problem,
    secret_store::SecretStore,
    sessions::{Sessions, Visited},
    shown_settings::ShownSettings,
    sign, tokens,
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

    /// Who sends a request with these headers, and what they may do; none if they sent no valid token and have no session.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Option<Grant>, Problem> {
        let Some(own) = self.token.get() else {
            return Ok(Some(Grant { by: "api".into(), scopes: Scopes::ALL, csrf: None }));
        };
        if let Some(given) = bearer(headers) {
            return match self.entry(&own, given).await? {
                Entry::Own => {
                    // Another node has checked the caller, and names it.
                    let by = headers.get(PASSED_ON).and_then(|by| by.to_str().ok());
                    let by = by.map_or_else(|| by_name(None, "token"), Arc::from);
                    Ok(Some(Grant { by, scopes: Scopes::ALL, csrf: None }))
                }
                Entry::Named(known) => {
                    let by = by_name(Some(&known.name), "token");
                    Ok(Some(Grant { by, scopes: known.scopes, csrf: None }))
                }
                Entry::Wrong => Ok(None),
            };
        }
        let Some(session) = self.sessions.find(headers, self.host.now()) else { return Ok(None) };
        let Visited { csrf, token, name, reads_only } = session;
        let scopes = match &name {
            None => (token == Sessions::mark(&own)).then_some(Scopes::ALL),
            Some(name) => {
                let known = tokens::by_name(self, name).await?;
                known.filter(|known| token == Sessions::mark(known.hash())).map(|known| known.scopes)
            }
        };
        let most = if reads_only { [Scope::Read].into_iter().collect() } else { Scopes::ALL };
        let by = by_name(name.as_deref(), "session");
        Ok(scopes.map(|scopes| Grant { by, scopes: scopes.and(most), csrf: Some(csrf) }))
    }

    /// Begins a session for a browser. Returns the `Set-Cookie` header; none if what it has sent is not valid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(crate) async fn begin_session(
        &self,
        given: SignIn<'_>,
        reads_only: bool,
    ) -> Result<Option<String>, Problem> {
        let Some(own) = self.token.get() else { return Ok(None) };
        let is_secure = self.settings.public_url.as_deref().is_some_and(|url| url.starts_with("https:"));
        let entry = match given {
            SignIn::Code(code) if self.sessions.redeem(code, self.host.now()) => Entry::Own,
            SignIn::Code(_) => Entry::Wrong,
            SignIn::Token(token) => self.entry(&own, token.as_bytes()).await?,
        };
        let (mark, name) = match entry {
            Entry::Own => (Sessions::mark(&own), None),
            Entry::Named(known) => (Sessions::mark(known.hash()), Some(known.name)),
            Entry::Wrong => return Ok(None),
        };
        Ok(self.sessions.begin(mark, name, reads_only, self.host.now(), is_secure))
    }

    /// Whether the caller may start runs: with a token, if one is required.
    ///
    /// # Errors
    /// The store is unavailable, or the token does not allow it.
    pub(crate) async fn may_start(&self, headers: &HeaderMap) -> Result<bool, Problem> {
        let Some(own) = self.token.get() else { return Ok(true) };
        let Some(given) = bearer(headers) else { return Ok(false) };
        match self.entry(&own, given).await? {
            Entry::Own => Ok(true),
            Entry::Named(known) if known.scopes.has(Scope::Run) => Ok(true),
            Entry::Named(known) => {
                Err(crate::access::insufficient(&by_name(Some(&known.name), "token"), Scope::Run))
            }
            Entry::Wrong => Ok(false),
        }
    }

    /// What a given token is.
    async fn entry(&self, own: &str, given: &[u8]) -> Result<Entry, Problem> {
        if sign::same(given, own.as_bytes()) {
            return Ok(Entry::Own);
        }
        let Ok(given) = std::str::from_utf8(given) else { return Ok(Entry::Wrong) };
        Ok(tokens::find(self, given).await?.map_or(Entry::Wrong, Entry::Named))
    }
}

/// What a browser signs in with.
#[derive(Clone, Copy)]
pub(crate) enum SignIn<'a> {
    /// The server's own token, or a named one.
    Token(&'a str),
    /// The code of the login link.
    Code(&'a str),
}

/// What a caller has sent as a token.
enum Entry {
    /// The server's own token.
    Own,
    /// A token of the store.
    Named(tokens::Known),
    /// Anything else.
    Wrong,
}

/// A caller as the audit names it.
fn by_name(name: Option<&str>, how: &str) -> Arc<str> {
    format!("{} ({how})", name.unwrap_or("api")).into()
}

/// The token that a request has in its headers.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes)?;
    given.strip_prefix(b"Bearer ").or_else(|| given.strip_prefix(b"bearer "))
}
