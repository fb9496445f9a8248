//! Bearer tokens: fetched once per audience, shared until shortly before they expire.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use hyper::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use loom_expression::{Object, Timestamp, Value, percent};
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::time::Instant;

use super::{
    Archives, Proof, TokenRequest,
    rotated::{Grant, Rotated},
};
use loom_engine::http_status;
use loom_store::Store;

use crate::{
    Failure,
    client::{Client, Identity, Request},
    content::encode_form,
    url::Url,
};

/// Where tokens come from.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The authority of ActiveDirectoryOAuth when the definition names none: `https://login.microsoftonline.com/`.
    pub authority: Url,
    /// Used instead of every authority, including those that definitions name; for tests.
    pub authority_override: Option<Url>,
    /// The managed identity of the machine.
    pub managed_identity: ManagedIdentity,
    /// The timeout of fetching a token.
    pub timeout: Duration,
    /// Where refresh tokens are stored that an endpoint returns in place of the one in the connections file. Without it, they
    /// are used until the process ends.
    pub store: Option<Arc<dyn Store>>,
}

/// The endpoint that issues tokens for the managed identity.
#[derive(Clone)]
pub struct ManagedIdentity {
    /// Its URL, without a query. The default is the one inside Azure virtual machines.
    pub endpoint: Url,
    /// The `api-version` to request.
    pub api_version: String,
    /// The header, name and value, that proves that the request comes from this machine.
    pub header: (String, String),
}

impl ManagedIdentity {
    /// The endpoint of an app service, with the values of `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
    pub fn app_service(endpoint: Url, secret: String) -> ManagedIdentity {
        ManagedIdentity {
            endpoint,
            api_version: "2019-08-01".to_owned(),
            header: ("x-identity-header".to_owned(), secret),
        }
    }
}

impl Default for ManagedIdentity {
    fn default() -> Self {
        ManagedIdentity {
            endpoint: Url::parse("http://169.254.169.254/metadata/identity/oauth2/token")
                .expect("it is an address"),
            api_version: "2018-02-01".to_owned(),
            header: ("metadata".to_owned(), "true".to_owned()),
        }
    }
}

/// Hides the header, which is a secret on app services.
impl fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentity").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        TokenSettings {
            authority: Url::parse("https://login.microsoftonline.com/").expect("it is an address"),
            authority_override: None,
            managed_identity: ManagedIdentity::default(),
            timeout: Duration::from_secs(30),
            store: None,
        }
    }
}

/// A token is renewed this long before it expires, or when a tenth of its lifetime is left if that is less.
const MARGIN: Duration = Duration::from_mins(5);
/// The most tokens to keep.
const TOKENS_MAX: usize = 1_024;

/// One lock per token, so that concurrent requests share one fetch: the first fetches, the others wait and find the
/// token.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

struct Token {
    header: HeaderValue,
    fresh_until: Instant,
}

/// A token to use.
pub(crate) struct Used {
    /// The `Authorization` header.
    pub(crate) header: HeaderValue,
    /// Whether the token was fetched just now, not kept from before.
    pub(crate) is_new: bool,
}

/// The tokens of the process.
pub(crate) struct Tokens {
    settings: TokenSettings,
    slots: Mutex<HashMap<TokenRequest, Slot>>,
    rotated: Rotated,
}

impl Tokens {
    pub(crate) fn new(settings: TokenSettings) -> Tokens {
        let rotated = Rotated::new(settings.store.clone());
        Tokens { settings, slots: Mutex::default(), rotated }
    }

    fn slot(&self, request: &TokenRequest) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= TOKENS_MAX && !slots.contains_key(request) {
            // A token that no request uses can be fetched again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(request.clone()).or_default())
    }

    /// The `Authorization` header with a valid token.
    ///
    /// # Cancel safety
    /// When the future is dropped, the next request that waits fetches the token.
    pub(crate) async fn header(
        &self,
        client: &Client,
        archives: &Archives,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Used, Failure> {
        let slot = self.slot(request);
        let mut token = slot.lock().await;
        if let Some(token) = token.as_ref().filter(|token| Instant::now() < token.fresh_until) {
            return Ok(Used { header: token.header.clone(), is_new: false });
        }
        let fetched = self.fetch(client, archives, request, now).await?;
        let header = fetched.header.clone();
        *token = Some(fetched);
        Ok(Used { header, is_new: true })
    }

    /// Drops a token that a service rejected, so that the next attempt fetches a new one, unless that has already
    /// happened.
    pub(crate) async fn refused(&self, request: &TokenRequest, header: &HeaderValue) {
        let slot = self.slot(request);
        let mut token = slot.lock().await;
        if token.as_ref().is_some_and(|token| token.header == *header) {
            *token = None;
        }
    }

    async fn fetch(
        &self,
        client: &Client,
        archives: &Archives,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Token, Failure> {
        let wire = self.wire(archives, request, now).await?;
        let url = wire.url.shown();
        let reply = client.send(wire).await.map_err(|failure| Failure {
            message: format!("Cannot get a token for the request's authentication: {}", failure.message),
            ..failure
        })?;
        let status = reply.status.as_u16();
        let answer = Value::parse_json(&reply.body).unwrap_or_default();
        if !reply.status.is_success() {
            // `error` is a code of RFC 6749. The description may quote what was sent, so it is not shown.
            let code = answer.get("error").and_then(Value::as_str).filter(|code| is_error_code(code));
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let message = format!(
                "Cannot get a token for the request's authentication: '{url}' responded with {status}{code}."
            );
            return Err(Failure {
                transient: http_status::is_transient(status),
                ..Failure::lasting("Unauthorized", message)
            });
        }
        let token = answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let header = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let mut header = header.ok_or_else(|| {
            Failure::lasting("Unauthorized", format!("The response of '{url}' has no usable 'access_token'."))
        })?;
        header.set_sensitive(true);
        if let Some(grant) = grant_of(request)
            && let Some(next) = answer.get("refresh_token").and_then(Value::as_str)
            && let Err(why) = self.rotated.replace(grant, next).await
        {
            // The access token is good; only the next refresh, after a restart, will fail.
            tracing::warn!(%why, "a new refresh token could not be stored");
        }
        // Some endpoints send the number as a string. A token without a lifetime is used once.
        let life =
            answer.get("expires_in").and_then(|life| life.text().trim().parse::<u64>().ok()).unwrap_or(0);
        let life = Duration::from_secs(life.min(7 * 86_400));
        Ok(Token { header, fresh_until: Instant::now() + life.saturating_sub(MARGIN.min(life / 10)) })
    }

    async fn wire(
        &self,
        archives: &Archives,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Request, Failure> {
        let settings = &self.settings;
        match request {
            TokenRequest::ClientCredentials { authority, tenant, audience, client_id, proof } => {
                let authority = match (&settings.authority_override, authority) {
                    (Some(instead), _) => instead.clone(),
                    (None, Some(authority)) => Url::parse(authority)?,
                    (None, None) => settings.authority.clone(),
                };
                // An endpoint that the definition names is subject to the egress rules, unless it is the operator's
                // own.
                let operators = settings.authority_override.as_ref().unwrap_or(&settings.authority);
                let named = authority.origin() == operators.origin();
                let url = authority.below(&format!("{}/oauth2/token", percent::encode(tenant)))?;
                let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                let mut fields =
                    vec![field("grant_type", "client_credentials"), field("client_id", client_id)];
                match proof {
                    Proof::Secret(secret) => fields.push(field("client_secret", secret)),
                    Proof::Certificate(archive) => {
                        let identity = archives.identity(archive).await?;
                        let assertion = assertion(&identity, client_id, &url, now)?;
                        fields.push(field("client_assertion_type", ASSERTION_TYPE));
                        fields.push(field("client_assertion", &assertion));
                    }
                }
                fields.push(field("resource", audience));
                let form = encode_form(&fields);
                let mut wire = Request::get(url, settings.timeout);
                wire.method = Method::POST;
                wire.named = named;
                wire.body = Bytes::from(form);
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                wire.headers.insert(header::CONTENT_TYPE, kind);
                Ok(wire)
            }
            TokenRequest::Endpoint { url, client_id, client_secret, refresh_token: _, scope } => {
                let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                let mut fields = vec![field("client_id", client_id)];
                fields.extend(client_secret.as_ref().map(|secret| field("client_secret", secret)));
                match grant_of(request) {
                    Some(grant) => {
                        let token = self.rotated.latest(grant).await.map_err(|why| {
                            let message =
                                format!("Cannot get a token for the request's authentication: {why}.");
                            Failure { transient: true, ..Failure::lasting("Unauthorized", message) }
                        })?;
                        fields.push(field("grant_type", "refresh_token"));
                        fields.push(field("refresh_token", &token));
                    }
                    None => fields.push(field("grant_type", "client_credentials")),
                }
                if !scope.is_empty() {
                    fields.push(field("scope", scope));
                }
                let mut wire = Request::get(Url::parse(url)?, settings.timeout);
                wire.method = Method::POST;
                wire.body = Bytes::from(encode_form(&fields));
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                wire.headers.insert(header::CONTENT_TYPE, kind);
                wire.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
                Ok(wire)
            }
            TokenRequest::ManagedIdentity { audience, identity } => {
                let endpoint = &settings.managed_identity;
                let mut queries = vec![
                    ("api-version", Value::from(endpoint.api_version.as_str())),
                    ("resource", Value::from(audience.as_str())),
                ];
                if let Some(identity) = identity {
                    let name = if identity.starts_with('/') { "mi_res_id" } else { "client_id" };
                    queries.push((name, Value::from(identity.as_str())));
                }
                let queries = Value::from(queries.into_iter().collect::<Object>());
                let mut wire = Request::get(endpoint.endpoint.with_queries(&queries)?, settings.timeout);
                wire.named = true;
                let (name, value) = &endpoint.header;
                let broken =
                    || Failure::bad_request("The header of the managed identity's endpoint cannot be sent.");
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
                let mut value = HeaderValue::from_str(value).map_err(|_| broken())?;
                value.set_sensitive(true);
                wire.headers.insert(name, value);
                Ok(wire)
            }
        }
    }
}

/// The grant of a request with a refresh token.
fn grant_of(request: &TokenRequest) -> Option<Grant<'_>> {
    match request {
        TokenRequest::Endpoint { url, client_id, refresh_token: Some(given), .. } => {
            Some(Grant { url, client_id, given })
        }
        _ => None,
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The lifetime of an assertion, in seconds. It is used once, immediately.
const ASSERTION_SECONDS: i64 = 600;

/// A signed assertion that identifies the application (RFC 7523, section 3) to one endpoint.
fn assertion(identity: &Identity, client_id: &str, url: &Url, now: Timestamp) -> Result<String, Failure> {
    let broken = |error: &dyn fmt::Display| {
        Failure::bad_request(format!("The certificate of the authentication cannot sign: {error}."))
    };
    let mut once = [0; 16];
    SystemRandom::new().fill(&mut once).map_err(|_| broken(&"the system gives no random bytes"))?;
    let print = digest(&SHA1_FOR_LEGACY_USE_ONLY, identity.certificate());
    let header = [("alg", "RS256".to_owned()), ("typ", "JWT".to_owned()), ("x5t", BASE64.encode(print))];
    let header: Object = header.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    let seconds = now.unix_millis() / 1_000;
    let claims = [
        ("aud", Value::from(url.to_string())),
        ("iss", client_id.into()),
        ("sub", client_id.into()),
        ("jti", BASE64.encode(once).into()),
        ("nbf", seconds.into()),
        ("exp", (seconds + ASSERTION_SECONDS).into()),
    ];
    let claims: Object = claims.into_iter().collect();
    let part = |object: Object| BASE64.encode(Value::from(object).to_json_text());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = identity.sign(signed.as_bytes()).map_err(|error| broken(&error))?;
    Ok(format!("{signed}.{}", BASE64.encode(signature)))
}

fn is_error_code(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
