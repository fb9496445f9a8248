//! Secrets in an Azure Key Vault.

use std::{pin::Pin, sync::Arc};

use hyper::{
    Method,
    header::{self, HeaderMap},
};
use loom_engine::ports::Clock;
use loom_expression::{Object, Timestamp, Value, percent};

use super::{
    SecretError,
    http::{Credential, Wire},
    name::checked_name,
    provider::{Found, Provided},
    remote::RemoteSecrets,
};
use crate::{
    Reply, Url,
    auth::{Archives, Proof, TokenRequest, TokenSettings, Tokens},
};

/// Secrets in one vault.
pub(super) struct AzureKeyVault {
    wire: Wire,
    api_version: String,
    login: Login,
    /// What the token is for.
    audience: String,
    tokens: Tokens,
    archives: Archives,
    clock: Arc<dyn Clock>,
}

/// How the vault is convinced.
#[derive(Debug)]
pub(super) enum Login {
    ClientCredentials { tenant: String, client_id: String, secret: Credential },
    ManagedIdentity { client_id: Option<String> },
}

impl std::fmt::Debug for AzureKeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureKeyVault")
            .field("wire", &self.wire)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl AzureKeyVault {
    pub(super) fn new(
        wire: Wire,
        (api_version, audience): (&str, &str),
        login: Login,
        tokens: TokenSettings,
        clock: Arc<dyn Clock>,
    ) -> AzureKeyVault {
        AzureKeyVault {
            wire,
            api_version: api_version.to_owned(),
            login,
            audience: audience.to_owned(),
            tokens: Tokens::new(tokens),
            archives: Archives::default(),
            clock,
        }
    }

    async fn token_request(&self) -> Result<TokenRequest, SecretError> {
        let audience = self.audience.clone();
        Ok(match &self.login {
            Login::ManagedIdentity { client_id } => {
                TokenRequest::ManagedIdentity { audience, identity: client_id.clone() }
            }
            Login::ClientCredentials { tenant, client_id, secret } => TokenRequest::ClientCredentials {
                authority: None,
                tenant: tenant.clone(),
                audience,
                client_id: client_id.clone(),
                proof: Proof::Secret(secret.read().await?.to_string()),
            },
        })
    }

    /// Sends a request; with a new token if the first one is rejected.
    async fn ask(&self, url: &Url) -> Result<Reply, SecretError> {
        let request = self.token_request().await?;
        loop {
            let used =
                self.tokens.header(&self.wire.client, &self.archives, &request, self.clock.now()).await;
            let used = used.map_err(|failure| self.no_token(failure))?;
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, used.header.clone());
            let reply = self.wire.send(Method::GET, url.clone(), headers, &Value::NULL).await?;
            if reply.status != 401 {
                return Ok(reply);
            }
            self.tokens.refused(&request, &used.header).await;
            if used.is_new {
                return Ok(reply);
            }
        }
    }

    fn no_token(&self, failure: crate::Failure) -> SecretError {
        self.wire.unreachable(failure)
    }

    async fn find(&self, name: &str, version: Option<&str>) -> Found {
        let path = match version {
            None => format!("/secrets/{}", percent::encode(name)),
            Some(version) => format!("/secrets/{}/{}", percent::encode(name), percent::encode(version)),
        };
        let queries =
            Value::from([("api-version", self.api_version.as_str())].into_iter().collect::<Object>());
        let url = self.wire.below(&path)?.with_queries(&queries);
        let url = url.map_err(|error| self.wire.unusable(error.to_string()))?;
        let reply = self.ask(&url).await?;
        let name_of = || name.to_owned();
        match reply.status.as_u16() {
            200 => self.provided(name, version, &self.wire.json(&reply)?).map(Some),
            404 => match version {
                None => Ok(None),
                Some(version) => {
                    Err(SecretError::VersionNotFound { name: name_of(), version: version.to_owned() })
                }
            },
            403 if is_disabled(&reply) => Err(SecretError::Disabled { name: name_of() }),
            status @ (401 | 403) => Err(self.wire.denied(name, status)),
            status => Err(self.wire.unusable(format!("it responded with status {status}"))),
        }
    }

    fn provided(&self, name: &str, version: Option<&str>, answer: &Value) -> Result<Provided, SecretError> {
        let text = |member: &str| {
            self.wire
                .member(answer, &[member])?
                .as_str()
                .ok_or_else(|| self.wire.unusable(format!("the '{member}' of its response is not a string")))
        };
        // `https://NAME.vault.azure.net/secrets/NAME/VERSION`
        let read = text("id")?.rsplit('/').next().filter(|read| !read.is_empty());
        let read =
            read.ok_or_else(|| self.wire.unusable("the 'id' of its response has no version".to_owned()))?;
        if version.is_some_and(|version| !version.eq_ignore_ascii_case(read)) {
            return Err(self.wire.unusable("it responded with another version".to_owned()));
        }
        let attributes = answer.get("attributes").cloned().unwrap_or_default();
        let time = |member: &str| {
            let seconds = attributes.get(member).and_then(Value::as_i64);
            seconds.map(|seconds| Timestamp::from_unix_millis(seconds.saturating_mul(1_000)))
        };
        if attributes.get("enabled").and_then(Value::as_bool) == Some(false) {
            return Err(SecretError::Disabled { name: name.to_owned() });
        }
        if time("nbf").is_some_and(|start| start > self.clock.now()) {
            return Err(SecretError::NotYetValid { name: name.to_owned() });
        }
        Ok(Provided { value: text("value")?.into(), version: Some(read.into()), expires_on: time("exp") })
    }
}

/// Whether a vault refused a secret because it is disabled.
fn is_disabled(reply: &Reply) -> bool {
    let answer = Value::parse_json(&reply.body).unwrap_or_default();
    let inner = answer.get("error").and_then(|error| error.get("innererror"));
    inner.and_then(|inner| inner.get("code")).and_then(Value::as_str) == Some("SecretDisabled")
}

impl RemoteSecrets for AzureKeyVault {
    fn kind(&self) -> &'static str {
        "azureKeyVault"
    }

    fn checked(&self, name: &str) -> Result<String, SecretError> {
        let name = checked_name(name)?;
        let fits = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        if fits { Ok(name) } else { Err(SecretError::Name { name }) }
    }

    fn fetch<'a>(
        &'a self,
        name: &'a str,
        version: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Found> + Send + 'a>> {
        Box::pin(self.find(name, version))
    }

    /// Tokens are obtained when a secret is read, and renewed before they expire.
    fn renew(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
