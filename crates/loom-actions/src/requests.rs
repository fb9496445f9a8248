//! One attempt of an action that is an HTTP request, whatever its type: takes evaluated inputs, and returns an
//! [`Answer`] or a [`Failure`]. Nothing here retries; the caller does.
//!
//! When a service accepts work and responds later (`202` with a `Location`), this does not wait. It returns
//! [`Progress::Pending`] with a value to continue from, so that the wait is the caller's and survives a crash.

mod chunks;
mod pages;
mod poll;
mod reach;
mod streamed;

pub(crate) use self::streamed::Arriving;

use std::{str::FromStr as _, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use loom_expression::{Object, Timestamp, Value, envelope};

use loom_engine::{http_status, pool::Pool};
use loom_resilience::{Clock, Learned};

use crate::{
    Failure, Settings,
    auth::{Archives, Credentials, TokenRequest, Tokens, Used},
    client::{Client, Identity, Reply, Request, Resolve, SystemResolver, TlsError},
    content,
    described::Plan,
    headers::{self, Marks},
    url::Url,
};

/// Bodies of so many bytes are converted on a thread that is not the runtime's.
const LARGE: u64 = 64 << 10;

/// The wall clock, for dates in `Retry-After`.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Makes requests. One for a process: it owns connections, tokens and the settings.
pub struct Requests {
    client: Client,
    tokens: Tokens,
    archives: Archives,
    settings: Settings,
    clock: WallClock,
    /// Converts large bodies.
    conversions: Pool,
}

/// A request as the language describes it, with all expressions evaluated.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The method.
    pub method: Method,
    /// The URL, without `queries`.
    pub url: Url,
    /// An object of parameters to add to the query, or null.
    pub queries: Value,
    /// An object of headers, or null.
    pub headers: Value,
    /// The body, or null.
    pub body: Value,
    /// The `Cookie` header, if any.
    pub cookie: Option<String>,
    /// An `authentication` object, or null.
    pub authentication: Value,
    /// Where the request goes instead of `url`, because a response of the service said so. Credentials are those of
    /// `url`.
    pub(crate) led_to: Option<Url>,
    /// Whether `url` is the URL of a connection, which the operator named for requests through it.
    pub(crate) through_connection: bool,
}

/// The options of an action for its request.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the language has these flags, each its own switch")]
pub struct Behaviour {
    /// A `202` with a `Location` is final (`DisableAsyncPattern`, or a stateless workflow).
    pub no_polling: bool,
    /// Sends no `x-ms-*` headers (`SuppressWorkflowHeaders`).
    pub no_marks: bool,
    /// Leaves the response compressed (`DisableAutomaticDecompression`).
    pub no_decompression: bool,
    /// Sends a large body in chunks (`contentTransfer.transferMode: Chunked`).
    pub chunked: bool,
    /// Follows pages until there are this many items (`paginationPolicy.minimumItemCount`).
    pub minimum_items: Option<u64>,
    /// The properties of a page with the items and with the address of the next page, when a description names them.
    pub paging: Option<(String, String)>,
    /// The timeout of one request, instead of the one in the settings.
    pub timeout: Option<Duration>,
    /// The body of a successful response is bytes, whatever its content type.
    pub untyped: bool,
}

impl Behaviour {
    /// Reads `runtimeConfiguration`.
    #[must_use]
    pub fn with_runtime(mut self, runtime: &Value) -> Behaviour {
        let transfer = runtime.get("contentTransfer").and_then(|transfer| transfer.get("transferMode"));
        self.chunked =
            transfer.and_then(Value::as_str).is_some_and(|mode| mode.eq_ignore_ascii_case("chunked"));
        let items = runtime.get("paginationPolicy").and_then(|policy| policy.get("minimumItemCount"));
        self.minimum_items = items.and_then(|items| items.text().trim().parse().ok());
        self
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `{statusCode, headers, body}`, without `body` when it is empty.
    pub outputs: Value,
    /// The wait that `Retry-After` asks for.
    pub after: Option<Duration>,
    /// Whether this is the end of work that the service had accepted. The request that asked for the work did not
    /// fail.
    pub of_accepted: bool,
    /// What the service reports about its own limit.
    pub learned: Option<Learned>,
}

/// A request with its credentials.
enum Ready<'c> {
    Plain(Request),
    /// With a token, which a service may reject although it has not expired.
    Token(Request, &'c TokenRequest, Used),
}

/// The progress of a request.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The final response.
    Final(Answer),
    /// The service is still working.
    Pending {
        /// Its latest response.
        answer: Answer,
        /// How long to wait before the next poll.
        after: Duration,
        /// The value to continue from, passed to the next call with the same request.
        resume: Value,
    },
}

impl Requests {
    /// Makes requests with the resolver of the operating system.
    ///
    /// # Errors
    /// [`TlsError`] when an extra root is not a certificate.
    pub fn new(settings: Settings, clock: WallClock) -> Result<Requests, TlsError> {
        Self::with_resolver(settings, clock, Arc::new(SystemResolver))
    }

    /// Makes requests with a custom resolver.
    ///
    /// # Errors
    /// [`TlsError`] when an extra root is not a certificate.
    pub fn with_resolver(
        settings: Settings,
        clock: WallClock,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Requests, TlsError> {
        let egress = Arc::new(settings.egress.clone());
        let client = Client::new(settings.client.clone(), egress, resolver)?;
        let tokens = Tokens::new(settings.tokens.clone());
        Ok(Requests {
            client,
            tokens,
            archives: Archives::default(),
            settings,
            clock,
            conversions: Pool::default(),
        })
    }

    /// The time of the engine's clock.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes one attempt or, with `resume`, polls for the result of an earlier one.
    ///
    /// # Errors
    /// [`Failure`] when there is no response, or when it cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the service may have acted.
    pub async fn perform(
        &self,
        spec: &Spec,
        marks: &Marks,
        behaviour: &Behaviour,
        resume: Option<&Value>,
    ) -> Result<Progress, Failure> {
        if let Some(resume) = resume {
            return self.poll(spec, marks, behaviour, resume).await;
        }
        let request = self.prepare(spec, marks, behaviour).await?;
        let credentials = Credentials::from_value(&spec.authentication)?;
        let is_large = request.body.len() > self.settings.chunk_threshold;
        let reply = if behaviour.chunked && is_large && is_upload(&request.method) {
            self.upload(request, spec, &credentials).await?
        } else {
            self.send(request, spec, &credentials).await?
        };
        if reply.status == 202
            && !behaviour.no_polling
            && let Some(location) = reply.header(header::LOCATION)
        {
            let url = reply.url.join(location)?;
            return self.pending(&reply, &url, 0).await;
        }
        let reply = self.whole_download(reply, spec, &credentials, marks, behaviour).await?;
        let answer = if behaviour.untyped && reply.status.is_success() {
            let bytes = envelope::encode("application/octet-stream", &reply.body);
            self.answer_with(reply.status.as_u16(), &reply.headers, Some(bytes))
        } else {
            self.answer(&reply).await?
        };
        match behaviour.minimum_items {
            Some(minimum) if reply.status.is_success() => {
                let first = pages::First { answer, reply: &reply, minimum };
                self.pages(first, spec, &credentials, marks, behaviour).await.map(Progress::Final)
            }
            _ => Ok(Progress::Final(answer)),
        }
    }

    /// Makes the requests of a described operation: what it looks up first, then the request itself.
    ///
    /// # Errors
    /// [`Failure`] when there is no response, or when a lookup did not succeed.
    pub(crate) async fn perform_plan(
        &self,
        plan: &Plan,
        marks: &Marks,
        behaviour: &Behaviour,
        resume: Option<&Value>,
    ) -> Result<Progress, Failure> {
        let mut looked_up = Vec::with_capacity(plan.lookups().len());
        for lookup in plan.lookups() {
            // A poll for the result has no use for them.
            if resume.is_some() {
                looked_up.push(Value::NULL);
                continue;
            }
            let spec = plan.lookup(lookup)?;
            let whole =
                Behaviour { no_polling: true, paging: None, minimum_items: None, ..behaviour.clone() };
            let found = match Box::pin(self.perform(&spec, marks, &whole, None)).await? {
                Progress::Final(answer) if answer.is_success() => answer,
                // The service's own refusal says more than one of ours would.
                refused => return Ok(refused),
            };
            looked_up.push(lookup.value(found.outputs.get("body").unwrap_or(&Value::NULL)));
        }
        let mut spec = plan.spec(&looked_up)?;
        plan.complete(&mut spec, (self.clock)())?;
        Box::pin(self.perform(&spec, marks, behaviour, resume)).await.map(|progress| plan.received(progress))
    }

    /// The request to send, without credentials.
    async fn prepare(&self, spec: &Spec, marks: &Marks, behaviour: &Behaviour) -> Result<Request, Failure> {
        let method = spec.method.clone();
        let mut headers = headers::from_author(&spec.headers, &method)?;
        let declared =
            headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        if !spec.queries.is_null() && spec.queries.as_object().is_none() {
            let kind = spec.queries.kind();
            return Err(Failure::bad_request(format!("'queries' must be an object, found {kind}.")));
        }
        let mut bytes = Bytes::new();
        if headers::has_body(&method) {
            let (value, kind) = (spec.body.clone(), declared.clone());
            let size = value.bytes();
            let body = self.convert(size, move || content::encode(&value, kind.as_deref())).await;
            let body =
                body.map_err(|error| Failure::bad_request(format!("The request cannot be sent: {error}.")))?;
            if let Some(body) = body {
                if declared.is_none() || body.forced {
                    let kind = HeaderValue::from_str(&body.content_type)
                        .map_err(|_| Failure::bad_request("The content type of the body cannot be sent."))?;
                    headers.insert(header::CONTENT_TYPE, kind);
                }
                bytes = body.bytes;
            }
        }
        add_cookie(&mut headers, spec)?;
        headers::add_idempotency_key(&mut headers, &method, &marks.idempotency_key);
        headers::add_marks(&mut headers, marks, behaviour.no_marks);
        Ok(Request {
            url: spec.target().with_queries(&spec.queries)?,
            method,
            headers,
            body: bytes,
            decompress: !behaviour.no_decompression,
            timeout: self.timeout(behaviour),
            identity: None,
            named: false,
        })
    }

    fn timeout(&self, behaviour: &Behaviour) -> Duration {
        behaviour.timeout.unwrap_or(self.settings.attempt_timeout)
    }

    /// A GET of another URL for the same action: a poll, a page, a chunk.
    fn follow_up(
        &self,
        url: Url,
        spec: &Spec,
        marks: &Marks,
        behaviour: &Behaviour,
    ) -> Result<Request, Failure> {
        if spec.url.is_https() && !url.is_https() {
            return Err(Failure::lasting(
                "BadGateway",
                format!("'{}' refers to '{}', which does not use HTTPS.", spec.url.shown(), url.shown()),
            ));
        }
        let mut request = Request::get(url, self.timeout(behaviour));
        request.decompress = !behaviour.no_decompression;
        request.headers = headers::from_author(&spec.headers, &Method::GET)?;
        add_cookie(&mut request.headers, spec)?;
        headers::add_marks(&mut request.headers, marks, behaviour.no_marks);
        Ok(request)
    }

    /// Adds credentials where they belong, and sends the request.
    async fn send(&self, request: Request, spec: &Spec, credentials: &Credentials) -> Result<Reply, Failure> {
        match self.ready(request, spec, credentials).await? {
            Ready::Plain(request) => self.client.send(request).await,
            Ready::Token(request, token, used) => self.send_with_token(request, token, used).await,
        }
    }

    /// Adds credentials where they belong.
    async fn ready<'c>(
        &self,
        mut request: Request,
        spec: &Spec,
        credentials: &'c Credentials,
    ) -> Result<Ready<'c>, Failure> {
        request.named = spec.through_connection && request.url.origin() == spec.url.origin();
        if !self.settings.egress.may_have_credentials(&spec.url, &request.url) {
            reach::strip(&mut request);
            return Ok(Ready::Plain(request));
        }
        match credentials {
            Credentials::None => {}
            Credentials::Header(value) => {
                request.headers.insert(header::AUTHORIZATION, value.clone());
            }
            Credentials::Certificate(identity) => request.identity = Some(Arc::<Identity>::clone(identity)),
            Credentials::Archive(archive) => {
                request.identity = Some(self.archives.identity(archive).await?);
            }
            Credentials::Query { name, value } => {
                let member: Object = [(name.as_str(), Value::from(value.as_str()))].into_iter().collect();
                request.url = request.url.with_queries(&member.into())?;
            }
            Credentials::Named { name, value } => {
                let broken =
                    || Failure::bad_request(format!("The authentication's header '{name}' cannot be sent."));
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
                let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| broken())?;
                value.set_sensitive(true);
                request.headers.insert(name, value);
            }
            Credentials::Signed(key) => key.sign(&mut request, (self.clock)())?,
            Credentials::Token(token) => {
                let used = self.token(token).await?;
                request.headers.insert(header::AUTHORIZATION, used.header.clone());
                return Ok(Ready::Token(request, token, used));
            }
        }
        Ok(Ready::Plain(request))
    }

    /// A kept token may have been revoked before its time. A request that is rejected for that reason did nothing, so
    /// it is sent again with a new token.
    async fn send_with_token(
        &self,
        mut request: Request,
        token: &TokenRequest,
        used: Used,
    ) -> Result<Reply, Failure> {
        let reply = self.client.send(request.clone()).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.tokens.refused(token, &used.header).await;
        if used.is_new {
            return Ok(reply);
        }
        let used = self.token(token).await?;
        request.headers.insert(header::AUTHORIZATION, used.header.clone());
        let reply = self.client.send(request).await?;
        if reply.status == 401 {
            self.tokens.refused(token, &used.header).await;
        }
        Ok(reply)
    }

    async fn token(&self, token: &TokenRequest) -> Result<Used, Failure> {
        self.tokens.header(&self.client, &self.archives, token, (self.clock)()).await
    }

    /// Converts a body of so many bytes, on a thread of the pool if it is large.
    async fn convert<T: Send + 'static>(
        &self,
        bytes: u64,
        conversion: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes < LARGE { conversion() } else { self.conversions.run(conversion).await }
    }

    /// Converts a reply to an answer.
    ///
    /// A body that does not match its content type is a failure only when the status is a success: an error page with
    /// a wrong type must not hide that the service is down. Nor does it undo work that was accepted. A body that is
    /// still compressed is treated as bytes.
    async fn answer(&self, reply: &Reply) -> Result<Answer, Failure> {
        let kind = reply.header(header::CONTENT_TYPE);
        let decoded = {
            let (bytes, kind) = (reply.body.clone(), kind.map(str::to_owned));
            let size = bytes.len() as u64;
            self.convert(size, move || content::decode(&bytes, kind.as_deref())).await
        };
        let body = match decoded {
            _ if is_packed(&reply.headers) && !reply.body.is_empty() => {
                Some(envelope::encode(kind.unwrap_or("application/octet-stream"), &reply.body))
            }
            Ok(body) => body,
            Err(_) if !reply.status.is_success() || reply.status == StatusCode::ACCEPTED => {
                content::decode_leniently(&reply.body, kind)
            }
            Err(error) => {
                let shown = reply.url.shown();
                return Err(Failure::bad_request(format!(
                    "The response of '{shown}' cannot be read: {error}."
                )));
            }
        };
        Ok(self.answer_with(reply.status.as_u16(), &reply.headers, body))
    }

    fn answer_with(&self, status: u16, headers: &HeaderMap, body: Option<Value>) -> Answer {
        let mut outputs = Object::with_capacity(3);
        outputs.insert("statusCode", i64::from(status));
        outputs.insert("headers", headers::to_object(headers));
        if let Some(body) = body {
            outputs.insert("body", body);
        }
        let after = headers::retry_after(headers, (self.clock)());
        Answer {
            status,
            outputs: outputs.into(),
            after,
            of_accepted: false,
            learned: learned(status, headers, after),
        }
    }
}

/// What a response reports about the service's own limit. `after` is the pause that it asks for.
fn learned(status: u16, headers: &HeaderMap, after: Option<Duration>) -> Option<Learned> {
    let status = StatusCode::from_u16(status).ok()?;
    let mut learned = loom_resilience::http::learned(status, headers, &Clock::system());
    if matches!(status.as_u16(), 429 | 503)
        && let Some(after) = after
    {
        // Read with the response's own `Date`, and limited.
        let learned = learned.get_or_insert_default();
        (learned.remaining, learned.reset_after) = (Some(0), Some(after));
    }
    learned
}

impl Answer {
    /// Whether the status is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the language retries a request after this status.
    pub fn is_transient(&self) -> bool {
        !self.of_accepted && http_status::is_transient(self.status)
    }
}

impl Spec {
    /// Reads the inputs of an Http action, or of one half of a webhook. If `queries` has properties, they replace the
    /// query of the URL.
    ///
    /// # Errors
    /// [`Failure`] when the URL or the method is invalid.
    pub fn from_inputs(inputs: &Value) -> Result<Spec, Failure> {
        let address =
            ["uri", "url"].iter().find_map(|name| inputs.get(name).filter(|value| !value.is_null()));
        let address = address.ok_or_else(|| Failure::bad_request("The request has no 'uri'."))?;
        let address = address.as_str().ok_or_else(|| {
            Failure::bad_request(format!("'uri' must be a string, found {}.", address.kind()))
        })?;
        let mut url = Url::parse(address)?;
        if inputs.get("queries").and_then(Value::as_object).is_some_and(|queries| !queries.is_empty()) {
            url = url.without_query();
        }
        Spec::at(url, inputs, Method::GET)
    }

    /// Reads everything except the URL.
    pub(crate) fn at(url: Url, inputs: &Value, default: Method) -> Result<Spec, Failure> {
        let member = |name: &str| inputs.get(name).cloned().unwrap_or_default();
        let method = match inputs.get("method") {
            None => default,
            Some(value) if value.is_null() => default,
            Some(value) => {
                let text = value.as_str().unwrap_or_default().trim().to_ascii_uppercase();
                let method = Method::from_str(&text).ok().filter(|method| *method != Method::CONNECT);
                method.ok_or_else(|| {
                    Failure::bad_request(format!("'{}' is not a valid method.", value.text()))
                })?
            }
        };
        Ok(Spec {
            method,
            url,
            queries: member("queries"),
            headers: member("headers"),
            body: member("body"),
            cookie: inputs
                .get("cookie")
                .filter(|cookie| !cookie.is_null())
                .map(|cookie| cookie.text().into_owned()),
            authentication: member("authentication"),
            led_to: None,
            through_connection: false,
        })
    }

    /// The URL to which the request goes.
    pub(crate) fn target(&self) -> &Url {
        self.led_to.as_ref().unwrap_or(&self.url)
    }

    /// Adds a header that is not a secret, in place of one that the author wrote.
    pub(crate) fn add_plain_header(&mut self, name: &str, value: &str) {
        let mut headers = self.headers.as_object().cloned().unwrap_or_default();
        if let Some(written) = headers.name_ignore_case(name).cloned() {
            headers.remove(&written);
        }
        headers.insert(name, value);
        self.headers = headers.into();
    }

    /// Removes a header, whatever the case of its name.
    pub(crate) fn remove_header(&mut self, name: &str) {
        let Some(headers) = self.headers.as_object() else { return };
        let Some(written) = headers.name_ignore_case(name).cloned() else { return };
        let mut headers = headers.clone();
        headers.remove(&written);
        self.headers = headers.into();
    }

    /// Adds the headers of the operator's connection; they take precedence over the author's.
    pub(crate) fn add_headers(&mut self, more: &Object) {
        if more.is_empty() {
            return;
        }
        let mut headers = self.headers.as_object().cloned().unwrap_or_default();
        for (name, value) in more {
            if let Some(written) = headers.name_ignore_case(name).cloned() {
                headers.remove(&written);
            }
            // They are the operator's, whatever their names, and must not reach another origin.
            headers.insert(Arc::clone(name), value.clone().into_secret());
        }
        self.headers = headers.into();
    }
}

fn add_cookie(headers: &mut HeaderMap, spec: &Spec) -> Result<(), Failure> {
    let Some(cookie) = &spec.cookie else { return Ok(()) };
    let mut cookie = HeaderValue::from_bytes(cookie.as_bytes())
        .map_err(|_| Failure::bad_request("'cookie' contains a line break or a control character."))?;
    cookie.set_sensitive(true);
    headers.insert(header::COOKIE, cookie);
    Ok(())
}

/// Whether the body has an encoding that was not undone.
fn is_packed(headers: &HeaderMap) -> bool {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
    encoding.is_some_and(|name| !name.trim().is_empty() && !name.trim().eq_ignore_ascii_case("identity"))
}

fn is_upload(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT)
}
