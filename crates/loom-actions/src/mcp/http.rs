//! The HTTP transport of the Model Context Protocol over this crate's own requests: with egress rules, credentials and timeouts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use hyper::{
    Method,
    header::{HeaderName, HeaderValue},
};
use loom_engine::http_status;
use loom_expression::{Object, Value};
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use sse_stream::{Sse, SseStream};

use super::MESSAGE_BYTES_MAX;
use crate::{
    Failure,
    connections::Service,
    headers::Marks,
    requests::{Arriving, Behaviour, Requests, Spec},
};

const SESSION: &str = "mcp-session-id";

/// Sends the messages of one session.
#[derive(Clone)]
pub(super) struct HttpClient {
    requests: Arc<Requests>,
    service: Service,
    is_named: bool,
    /// The last failure of a request, which the client library reports only in words.
    last: Arc<Mutex<Option<Failure>>>,
}

type Error = StreamableHttpError<Failure>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl HttpClient {
    pub(super) fn new(requests: &Arc<Requests>, service: &Service, is_named: bool) -> HttpClient {
        HttpClient {
            requests: Arc::clone(requests),
            service: service.clone(),
            is_named,
            last: Arc::default(),
        }
    }

    /// The last failure of a request, once.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn failed(&self, failure: Failure) -> Error {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
        StreamableHttpError::Client(failure)
    }

    async fn open(
        &self,
        method: Method,
        body: Value,
        more: &[(&str, &str)],
        custom: &Headers,
    ) -> Result<Arriving, Error> {
        let mut headers: Object =
            [("Accept", Value::from("application/json, text/event-stream"))].into_iter().collect();
        for (name, value) in more {
            headers.insert(*name, *value);
        }
        let custom = custom.iter().map(|(name, value)| {
            (name.as_str(), Value::from(String::from_utf8_lossy(value.as_bytes()).as_ref()))
        });
        headers.extend(custom);
        let parts: Object = [("headers", Value::from(headers)), ("body", body)].into_iter().collect();
        let made = Spec::at(self.service.base.clone(), &parts.into(), method);
        let mut spec = made.map_err(|failure| self.failed(failure))?;
        spec.authentication = self.service.authentication.clone();
        spec.add_headers(&self.service.headers);
        spec.through_connection = self.is_named;
        let behaviour = Behaviour { no_polling: true, no_marks: true, ..Behaviour::default() };
        self.requests.open(&spec, &Marks::default(), &behaviour).await.map_err(|failure| self.failed(failure))
    }

    /// The failure that a response with this status is.
    fn refused(&self, arriving: &Arriving, why: &str) -> Error {
        let status = arriving.status;
        let (after, _) = self.requests.of_head(arriving);
        let code = http_status::status_code(status);
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let message = format!(
            "The MCP server at '{}' responded with the status {status}{why}.",
            self.service.base.shown()
        );
        let transient = http_status::is_transient(status);
        self.failed(Failure { transient, after, ..Failure::lasting(code, message) })
    }

    /// The first bytes of a body, as text.
    async fn read(&self, arriving: Arriving, most: usize) -> Result<String, Error> {
        let answer = self.requests.whole(arriving, most).await.map_err(|failure| self.failed(failure))?;
        let body = answer.outputs.get("body").cloned().unwrap_or_default();
        Ok(body.as_str().map_or_else(|| body.to_json_text(), str::to_owned))
    }

    async fn post(
        &self,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        custom: Headers,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let text = serde_json::to_string(&message)?;
        let body = Value::from_json_str(&text).unwrap_or_default();
        let more: Vec<(&str, &str)> = session.iter().map(|session| (SESSION, &**session)).collect();
        let arriving = self.open(Method::POST, body, &more, &custom).await?;
        if matches!(arriving.status, 202 | 204) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if arriving.status == 404 && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        let kind = media_type(&arriving);
        let given = header(&arriving, SESSION);
        if !(200..300).contains(&arriving.status) {
            if kind != "application/json" {
                return Err(self.refused(&arriving, ""));
            }
            let refusal = self.refused(&arriving, "");
            let text = self.read(arriving, MESSAGE_BYTES_MAX).await?;
            return match serde_json::from_str::<ServerJsonRpcMessage>(&text) {
                Ok(message @ ServerJsonRpcMessage::Error(_)) => {
                    Ok(StreamableHttpPostResponse::Json(message, given))
                }
                _ => Err(refusal),
            };
        }
        match kind.as_str() {
            "text/event-stream" => Ok(StreamableHttpPostResponse::Sse(events(arriving), given)),
            "application/json" => {
                let text = self.read(arriving, MESSAGE_BYTES_MAX).await?;
                let awaits = matches!(message, ClientJsonRpcMessage::Request(_));
                match serde_json::from_str::<ServerJsonRpcMessage>(&text) {
                    Ok(message) => Ok(StreamableHttpPostResponse::Json(message, given)),
                    Err(_) if !awaits => Ok(StreamableHttpPostResponse::Accepted),
                    Err(error) => Err(StreamableHttpError::Deserialize(error)),
                }
            }
            _ if !matches!(message, ClientJsonRpcMessage::Request(_)) => {
                Ok(StreamableHttpPostResponse::Accepted)
            }
            other => Err(StreamableHttpError::UnexpectedContentType(Some(other.to_owned()))),
        }
    }
}

fn header(arriving: &Arriving, name: &str) -> Option<String> {
    Some(arriving.headers.get(name)?.to_str().ok()?.to_owned())
}

/// The content type without parameters, in lower case.
fn media_type(arriving: &Arriving) -> String {
    let kind = header(arriving, "content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn events(arriving: Arriving) -> BoxStream<'static, Result<Sse, SseError>> {
    SseStream::from_bytes_stream(bounded(arriving)).boxed()
}

/// The parts of a body, up to an event that is too large.
fn bounded(arriving: Arriving) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    let state = Some((arriving, EventSize::default()));
    futures_util::stream::unfold(state, |state| async move {
        let (mut arriving, mut size) = state?;
        match arriving.part().await {
            Ok(None) => None,
            Ok(Some(part)) if size.exceeds(&part) => {
                let why = format!("An event of the MCP server exceeds {MESSAGE_BYTES_MAX} bytes.");
                Some((Err(Failure::lasting("ResponseTooLarge", why)), None))
            }
            Ok(Some(part)) => Some((Ok(part), Some((arriving, size)))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
}

/// The bytes since the last empty line, which ends an event.
#[derive(Default)]
struct EventSize {
    bytes: usize,
    line: usize,
}

impl EventSize {
    fn exceeds(&mut self, part: &[u8]) -> bool {
        for byte in part {
            self.bytes += 1;
            match byte {
                b'\n' if self.line == 0 => self.bytes = 0,
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
            if self.bytes > MESSAGE_BYTES_MAX {
                return true;
            }
        }
        false
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = Failure;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        custom_headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Error> {
        self.post(message, session_id, custom_headers).await
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session_id: Arc<str>,
        _: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), Error> {
        // A server need not support it, and the session is over in any case.
        self.open(Method::DELETE, Value::NULL, &[(SESSION, &*session_id)], &custom_headers).await.map(drop)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        custom_headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Error> {
        let mut more: Vec<(&str, &str)> = Vec::new();
        more.extend(session_id.iter().map(|session| (SESSION, &**session)));
        more.extend(last_event_id.iter().map(|id| ("last-event-id", id.as_str())));
        let arriving = self.open(Method::GET, Value::NULL, &more, &custom_headers).await?;
        if matches!(arriving.status, 404 | 405) {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if !(200..300).contains(&arriving.status) {
            return Err(self.refused(&arriving, ""));
        }
        match media_type(&arriving).as_str() {
            "text/event-stream" => Ok(events(arriving)),
            other => Err(StreamableHttpError::UnexpectedContentType(Some(other.to_owned()))),
        }
    }
}
