//! Requests of providers to their services.
//!
//! The operator named the URL for these requests alone, so the rules for requests of definitions do not apply to them. Nothing
//! of a response reaches a message, because a service may repeat what it was sent.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};
use loom_expression::Value;
use loom_resilience::Verdict;
use zeroize::Zeroizing;

use super::{SecretError, local::read_text};
use crate::{Client, Failure, Reply, Request, Url};

/// The largest response, in bytes.
pub(super) const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// Sends the requests of one provider.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) provider: Arc<str>,
    pub(super) client: Client,
    pub(super) base: Url,
    pub(super) timeout: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("provider", &self.provider)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Sends a request to a path below the base URL, with JSON as its body unless it is null. Returns the response if it is
    /// an answer of the service, with whatever status.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: &Value,
    ) -> Result<Reply, SecretError> {
        let mut request = Request::get(url, self.timeout);
        request.method = method;
        request.headers = headers;
        request.named = true;
        if !body.is_null() {
            request.body = Bytes::from(body.to_json_text());
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let reply = self.client.send(request).await.map_err(|failure| self.unreachable(failure))?;
        let status = reply.status.as_u16();
        match status {
            429 => {
                let after = reply.header(header::RETRY_AFTER).and_then(|after| after.trim().parse().ok());
                let verdict = Verdict::Throttled { after: after.map(Duration::from_secs) };
                Err(self.unavailable("it receives too many requests (status 429)".to_owned(), verdict))
            }
            500.. => Err(self.unavailable(format!("it responded with status {status}"), Verdict::Transient)),
            300..400 => Err(self.unusable(format!(
                "it responded with a redirect (status {status}), which is not followed; configure the URL of the server that answers itself"
            ))),
            _ => Ok(reply),
        }
    }

    pub(super) fn unreachable(&self, failure: Failure) -> SecretError {
        if failure.transient {
            self.unavailable(failure.message, Verdict::Transient)
        } else {
            self.unusable(failure.message)
        }
    }

    pub(super) fn unavailable(&self, why: String, verdict: Verdict) -> SecretError {
        SecretError::Unavailable { provider: self.provider.to_string(), why, verdict }
    }

    pub(super) fn unusable(&self, why: String) -> SecretError {
        SecretError::Unusable { provider: self.provider.to_string(), why }
    }

    pub(super) fn denied(&self, what: &str, status: u16) -> SecretError {
        SecretError::Denied { provider: self.provider.to_string(), name: what.to_owned(), status }
    }

    /// A URL below the base URL.
    pub(super) fn below(&self, path: &str) -> Result<Url, SecretError> {
        self.base.below(path).map_err(|error| self.unusable(error.to_string()))
    }

    /// The JSON of a successful response.
    pub(super) fn json(&self, reply: &Reply) -> Result<Value, SecretError> {
        let broken = || self.unusable("its response is not the JSON that its API promises".to_owned());
        Value::parse_json(&reply.body)
            .map_err(|_| broken())
            .and_then(|value| if value.as_object().is_some() { Ok(value) } else { Err(broken()) })
    }

    /// A member of a response that must be there.
    pub(super) fn member<'a>(&self, value: &'a Value, path: &[&str]) -> Result<&'a Value, SecretError> {
        let found = path.iter().try_fold(value, |value, member| value.get(member));
        found.ok_or_else(|| self.unusable(format!("its response has no '{}'", path.join("."))))
    }
}

/// A credential of the provider itself, which no definition can read.
#[derive(Clone)]
pub(super) enum Credential {
    /// In a file, which is read whenever the credential is needed: another program may renew it.
    File(PathBuf),
    Text(Zeroizing<String>),
}

impl Credential {
    pub(super) async fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        let path = match self {
            Credential::Text(text) => return Ok(text.clone()),
            Credential::File(path) => path.clone(),
        };
        let read = tokio::task::spawn_blocking(move || read_text(&path).map(Zeroizing::new)).await;
        let text = read.map_err(|_| SecretError::Ending)??;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

/// Does not show the credential.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::File(path) => f.debug_tuple("File").field(path).finish(),
            Credential::Text(_) => f.write_str("Text"),
        }
    }
}
