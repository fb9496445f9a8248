//! Secrets in the key/value engine, version 2, of HashiCorp Vault or OpenBao.

use std::{pin::Pin, time::Duration};

use hyper::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use loom_expression::{Object, Timestamp, Value};
use tokio::{sync::Mutex, time::Instant};

use super::{
    SecretError,
    http::{Credential, Wire},
    name::checked_path,
    provider::{Found, Provided},
    remote::RemoteSecrets,
};
use crate::Reply;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// Protects the server from requests that a browser was made to send; it is required where the operator says so.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A token whose renewal failed is renewed again after this time.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Secrets in one mount of a server.
#[derive(Debug)]
pub(super) struct HashiCorpVault {
    wire: Wire,
    /// The path of the engine.
    mount: String,
    /// What precedes all names, with a slash at its end; or empty.
    prefix: String,
    namespace: Option<HeaderValue>,
    login: Login,
    /// Locked while a token is being obtained, so that concurrent requests share it.
    token: Mutex<Option<Token>>,
}

/// How the server is convinced.
#[derive(Debug)]
pub(super) enum Login {
    Token(Credential),
    AppRole { mount: String, role: Credential, secret: Credential },
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    /// When to renew it; `None` when it lasts forever or cannot be renewed.
    renew_at: Option<Instant>,
    /// When it ends; `None` when it lasts forever.
    ends: Option<Instant>,
    /// How long it lasted when it was obtained.
    life: Duration,
}

/// Does not show the token.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

impl Token {
    /// It is renewed when two thirds of its life have passed.
    fn new(header: HeaderValue, life: Duration, is_renewable: bool) -> Token {
        let now = Instant::now();
        let is_limited = !life.is_zero();
        Token {
            header,
            renew_at: (is_limited && is_renewable).then(|| now + life / 3 * 2),
            ends: is_limited.then(|| now + life),
            life,
        }
    }

    fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| Instant::now() >= end)
    }

    fn is_due(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl HashiCorpVault {
    pub(super) fn new(
        wire: Wire,
        mount: &str,
        prefix: &str,
        namespace: Option<HeaderValue>,
        login: Login,
    ) -> HashiCorpVault {
        let prefix = prefix.trim_matches('/');
        HashiCorpVault {
            wire,
            mount: mount.trim_matches('/').to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            namespace,
            login,
            token: Mutex::new(None),
        }
    }

    fn headers(&self, token: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        headers.extend(self.namespace.clone().map(|namespace| (NAMESPACE, namespace)));
        headers.extend(token.cloned().map(|token| (TOKEN, token)));
        headers
    }

    /// A valid token, and whether it was obtained just now.
    async fn token(&self) -> Result<(HeaderValue, bool), SecretError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_mut().filter(|token| token.is_due() && !token.is_over()) {
            self.renew_held(token).await;
        }
        if let Some(token) = held.as_ref().filter(|token| !token.is_over()) {
            return Ok((token.header.clone(), false));
        }
        let token = self.obtain().await?;
        let header = token.header.clone();
        *held = Some(token);
        Ok((header, true))
    }

    /// Drops a token that the server rejected, unless that has already happened.
    async fn refused(&self, header: &HeaderValue) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|token| token.header == *header) {
            *held = None;
        }
    }

    async fn obtain(&self) -> Result<Token, SecretError> {
        match &self.login {
            Login::Token(credential) => {
                let header = self.header(&credential.read().await?)?;
                let url = self.wire.below("/v1/auth/token/lookup-self")?;
                let reply =
                    self.wire.send(Method::GET, url, self.headers(Some(&header)), &Value::NULL).await?;
                let data = self.granted(&reply, "looking up its own token")?;
                let data = self.wire.member(&data, &["data"])?;
                Ok(Token::new(header, life(data, "ttl"), is_renewable(data)))
            }
            Login::AppRole { mount, role, secret } => {
                let mut body = Object::new();
                body.insert("role_id", role.read().await?.as_str());
                body.insert("secret_id", secret.read().await?.as_str());
                let url = self.wire.below(&format!("/v1/auth/{mount}/login"))?;
                let reply = self.wire.send(Method::POST, url, self.headers(None), &body.into()).await?;
                self.of_auth(&self.granted(&reply, "logging in with its AppRole")?)
            }
        }
    }

    /// Renews a token in place. One that cannot be renewed is used until it ends.
    async fn renew_held(&self, token: &mut Token) {
        match self.renewed(token).await {
            Ok(renewed) => *token = renewed,
            Err(error) => {
                tracing::warn!(provider = &*self.wire.provider, %error, "cannot renew the token of a secret provider");
                token.renew_at = Some(Instant::now() + RENEWAL_PAUSE);
            }
        }
    }

    async fn renewed(&self, token: &Token) -> Result<Token, SecretError> {
        let url = self.wire.below("/v1/auth/token/renew-self")?;
        let body = Value::from(Object::new());
        let reply = self.wire.send(Method::POST, url, self.headers(Some(&token.header)), &body).await?;
        let mut renewed = self.of_auth(&self.granted(&reply, "renewing its token")?)?;
        // A token near the end of its longest possible life is renewed for ever shorter times; AppRole then logs in again.
        if renewed.life < token.life / 2 {
            renewed.renew_at = None;
            renewed.life = token.life;
        }
        Ok(renewed)
    }

    fn of_auth(&self, answer: &Value) -> Result<Token, SecretError> {
        let auth = self.wire.member(answer, &["auth"])?;
        let token = self.wire.member(auth, &["client_token"])?.as_str().unwrap_or_default();
        Ok(Token::new(self.header(token)?, life(auth, "lease_duration"), is_renewable(auth)))
    }

    fn header(&self, token: &str) -> Result<HeaderValue, SecretError> {
        let mut header =
            HeaderValue::from_str(token).ok().filter(|token| !token.is_empty()).ok_or_else(|| {
                self.wire.unusable("its token is empty or cannot be sent in a header".to_owned())
            })?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// The JSON of a response to a request about a token.
    fn granted(&self, reply: &Reply, what: &str) -> Result<Value, SecretError> {
        match reply.status.as_u16() {
            200 => self.wire.json(reply),
            status => Err(self.wire.denied(what, status)),
        }
    }

    async fn find(&self, name: &str, version: Option<&str>) -> Found {
        let (path, field) = checked_path(name)?;
        // A version is identified by its time as well: numbers are used again after all of a secret was removed.
        let (number, created) = match version.and_then(|version| version.split_once('-')) {
            Some((number, created)) => (Some(number), Some(created)),
            None => (version, None),
        };
        let missing = || SecretError::VersionNotFound {
            name: name.to_owned(),
            version: number.unwrap_or_default().to_owned(),
        };
        if number.is_some_and(|number| !number.parse::<u32>().is_ok_and(|number| number > 0)) {
            return Err(missing());
        }
        let mut url = self.wire.below(&format!("/v1/{}/data/{}{path}", self.mount, self.prefix))?;
        if let Some(number) = number {
            let queries = Value::from([("version", number)].into_iter().collect::<Object>());
            url = url.with_queries(&queries).map_err(|error| self.wire.unusable(error.to_string()))?;
        }
        let reply = self.ask(&url).await?;
        match reply.status.as_u16() {
            200 => {
                let answer = self.wire.json(&reply)?;
                let data = self.wire.member(&answer, &["data"])?;
                let is_gone = data.get("data").is_some_and(Value::is_null) && data.get("metadata").is_some();
                if is_gone {
                    return Err(SecretError::Deleted { name: name.to_owned() });
                }
                let provided = self.provided(path, field, data)?;
                let read = provided.version.as_deref().and_then(|version| version.split_once('-'));
                let is_another = created.is_some_and(|created| read.is_none_or(|(_, read)| read != created));
                if is_another { Err(missing()) } else { Ok(Some(provided)) }
            }
            404 => {
                // A version that was deleted still has its metadata.
                let answer = Value::parse_json(&reply.body).unwrap_or_default();
                let metadata = answer.get("data").and_then(|data| data.get("metadata"));
                match metadata {
                    Some(metadata) if !metadata.is_null() => {
                        Err(SecretError::Deleted { name: name.to_owned() })
                    }
                    _ if number.is_some() => Err(missing()),
                    _ => Ok(None),
                }
            }
            403 => Err(self.wire.denied(name, 403)),
            status => Err(self.wire.unusable(format!("it responded with status {status}"))),
        }
    }

    /// Sends a request for a secret; with a new token if the first one is rejected, since tokens can be revoked.
    async fn ask(&self, url: &crate::Url) -> Result<Reply, SecretError> {
        let (token, is_new) = self.token().await?;
        let reply =
            self.wire.send(Method::GET, url.clone(), self.headers(Some(&token)), &Value::NULL).await?;
        if reply.status != 403 || is_new {
            return Ok(reply);
        }
        self.refused(&token).await;
        let (token, _) = self.token().await?;
        self.wire.send(Method::GET, url.clone(), self.headers(Some(&token)), &Value::NULL).await
    }

    fn provided(&self, path: &str, field: Option<&str>, data: &Value) -> Result<Provided, SecretError> {
        let broken = |what: &str| self.wire.unusable(format!("its response has no valid '{what}'"));
        let fields = data.get("data").and_then(Value::as_object).ok_or_else(|| broken("data.data"))?;
        let selected = match field {
            Some(field) => fields.get(field),
            None => fields.get("value").or_else(|| fields.values().next().filter(|_| fields.len() == 1)),
        };
        let value = selected.ok_or_else(|| SecretError::Field {
            name: format!("{}:{path}", self.wire.provider),
            fields: fields.iter().map(|(name, _)| name.to_string()).collect(),
        })?;
        let value = match value.as_str() {
            Some(text) => text.into(),
            None => value.to_json_text().into(),
        };
        let metadata = self.wire.member(data, &["metadata"])?;
        let number =
            metadata.get("version").and_then(Value::as_i64).ok_or_else(|| broken("data.metadata.version"))?;
        let created = metadata.get("created_time").and_then(Value::as_str);
        let created = created.ok_or_else(|| broken("data.metadata.created_time"))?;
        // A time to come: the operator gave the version a limited life.
        let end = metadata.get("deletion_time").and_then(Value::as_str).filter(|time| !time.is_empty());
        let expires_on = end
            .map(str::parse::<Timestamp>)
            .transpose()
            .map_err(|_| broken("data.metadata.deletion_time"))?;
        Ok(Provided { value, version: Some(format!("{number}-{created}").into()), expires_on })
    }
}

/// A duration in seconds; zero when there is none, which means that it never ends.
fn life(value: &Value, member: &str) -> Duration {
    let seconds = value.get(member).and_then(Value::as_i64).and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

fn is_renewable(value: &Value) -> bool {
    value.get("renewable").and_then(Value::as_bool).unwrap_or(false)
}

impl RemoteSecrets for HashiCorpVault {
    fn kind(&self) -> &'static str {
        "vault"
    }

    fn checked(&self, name: &str) -> Result<String, SecretError> {
        checked_path(name).map(|_| name.to_owned())
    }

    fn fetch<'a>(
        &'a self,
        name: &'a str,
        version: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Found> + Send + 'a>> {
        Box::pin(self.find(name, version))
    }

    /// A token that must be renewed is obtained before the first secret is read, so that it does not expire unused.
    fn renew(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let is_due = match &*self.token.lock().await {
                Some(token) => token.is_due(),
                None => matches!(self.login, Login::Token(_)),
            };
            if is_due && let Err(error) = self.token().await {
                tracing::warn!(provider = &*self.wire.provider, %error, "cannot use the token of a secret provider");
            }
        })
    }
}
