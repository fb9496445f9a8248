//! A request whose response is read while it arrives.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use loom_engine::http_status;

use super::{Answer, Behaviour, Ready, Requests, Spec, learned};
use crate::{
    Failure,
    auth::Credentials,
    client::{Reply, Request, Streamed},
    headers::{self, Marks},
};

/// A response whose body is still arriving.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    body: Streamed,
    url: crate::Url,
    /// How long the next part may take.
    timeout: Duration,
}

impl Requests {
    /// Makes a request, and returns the response as soon as its headers have arrived.
    ///
    /// # Errors
    /// [`Failure`] when there is no response.
    ///
    /// # Cancel safety
    /// Dropping the future, or what it returns, closes the connection; the service may have acted.
    pub(crate) async fn open(
        &self,
        spec: &Spec,
        marks: &Marks,
        behaviour: &Behaviour,
    ) -> Result<Arriving, Failure> {
        let request = self.prepare(spec, marks, behaviour).await?;
        let credentials = Credentials::from_value(&spec.authentication)?;
        let (url, timeout) = (request.url.clone(), request.timeout);
        let (body, url) = match self.ready(request, spec, &credentials).await? {
            Ready::Plain(request) => (self.client.open(request).await?, url),
            Ready::Token(request, token, used) => {
                let body = self.client.open(request.clone()).await?;
                if body.status == 401 && !used.is_new {
                    self.tokens.refused(token, &used.header).await;
                    let used = self.token(token).await?;
                    let mut again: Request = request;
                    again.headers.insert(hyper::header::AUTHORIZATION, used.header.clone());
                    (self.client.open(again).await?, url)
                } else {
                    (body, url)
                }
            }
        };
        Ok(Arriving { status: body.status.as_u16(), headers: body.headers.clone(), body, url, timeout })
    }

    /// The rest of a response, read as a whole, up to `bytes_max`.
    ///
    /// # Errors
    /// [`Failure`] when the connection breaks or the body is too large.
    pub(crate) async fn whole(&self, mut arriving: Arriving, bytes_max: usize) -> Result<Answer, Failure> {
        let mut body = BytesMut::new();
        while let Some(part) = arriving.part().await? {
            if body.len() + part.len() > bytes_max {
                let why = format!("The response of '{}' exceeds {bytes_max} bytes.", arriving.url.shown());
                return Err(Failure::lasting("ResponseTooLarge", why));
            }
            body.extend_from_slice(&part);
        }
        let Arriving { headers, url, body: Streamed { status, .. }, .. } = arriving;
        self.answer(&Reply { status, headers, body: body.freeze(), url }).await
    }

    /// What the head of a response says about the service: the wait that it asks for, and its limit.
    pub(crate) fn of_head(
        &self,
        arriving: &Arriving,
    ) -> (Option<Duration>, Option<loom_resilience::Learned>) {
        let after = headers::retry_after(&arriving.headers, (self.clock)());
        (after, learned(arriving.status, &arriving.headers, after))
    }
}

impl Arriving {
    /// The next part of the body; none at its end. Each part may take as long as an attempt.
    ///
    /// # Errors
    /// [`Failure`] when the connection breaks, or when nothing arrives for too long.
    pub(crate) async fn part(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Ok(part) = tokio::time::timeout(self.timeout, self.body.chunk()).await {
            return part;
        }
        let why = format!(
            "The response of '{}' stopped arriving for {} seconds (--attempt-timeout).",
            self.url.shown(),
            self.timeout.as_secs()
        );
        Err(Failure::transient(http_status::status_code(504), why))
    }

    /// The headers, with names in lower case.
    pub(crate) fn header_texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }
}
