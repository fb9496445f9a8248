//! Responses: errors in one format, JSON, and the HTTP response of a Response action.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use loom_expression::{Object, Value};

use crate::HostError;

/// The content type of JSON responses.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// Headers that a Response action cannot set: they belong to the connection.
const REMOVED: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// An API error: `{"error": {"code", "message"}}`.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) allow: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), details: None, retry_after: None, allow: None }
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn later(mut self, seconds: u64) -> Problem {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<loom_store::Error> for Problem {
    fn from(error: loom_store::Error) -> Problem {
        tracing::error!(%error, "the store is unavailable");
        // Details of disk errors are for the operator, not for the caller.
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "StoreUnavailable",
            "The store is temporarily unavailable.",
        )
        .later(5)
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Problem {
        match error {
            HostError::Store(error) => error.into(),
            error => {
                tracing::error!(%error, "a request failed");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalServerError",
                    "The request failed; the server's log has the reason.",
                )
            }
        }
    }
}

impl From<loom_engine::RecoverError> for Problem {
    fn from(error: loom_engine::RecoverError) -> Problem {
        if let loom_engine::RecoverError::Store { source, .. } = error {
            return source.into();
        }
        tracing::error!(%error, "cannot read a run");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "RunUnreadable", sentence(&error))
    }
}

/// An error as a sentence, with a capital and a full stop. Errors of the crates have neither.
pub(crate) fn sentence(error: &impl std::fmt::Display) -> String {
    let mut text = error.to_string();
    if let Some(first) = text.get(..1) {
        let capital = first.to_ascii_uppercase();
        text.replace_range(..1, &capital);
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut error = Object::new();
        error.insert("code", self.code);
        error.insert("message", self.message);
        if let Some(details) = self.details {
            error.insert("details", details);
        }
        let body: Object = [("error", error)].into_iter().collect();
        let mut response = json(self.status, &body.into());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

/// The response of a route of the API.
pub(crate) type Answer = Result<Response<Body>, Problem>;

/// A JSON response.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_json_text()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// The HTTP response of a Response action's `{statusCode, headers, body}`. A string is sent as text, a content envelope as its
/// bytes with its type, anything else as JSON; a content type set by the action takes precedence.
pub(crate) fn of_action(answer: &Value) -> Result<Response<Body>, Problem> {
    let failed =
        |message: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InvalidResponse", message);
    let status = answer.get("statusCode").and_then(Value::as_i64).unwrap_or(200);
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| {
        let given = answer.get("statusCode").map(Value::to_json_text).unwrap_or_default();
        failed(format!(
            "The 'statusCode' of the workflow's response must be between 100 and 999 (got {given})."
        ))
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() || REMOVED.iter().any(|removed| name.eq_ignore_ascii_case(removed)) {
            continue;
        }
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            failed(format!("The workflow's response has a header with an invalid name: '{name}'."))
        })?;
        // The value is not quoted: it may be a secret.
        let value = HeaderValue::from_bytes(value.text().as_bytes()).map_err(|_| {
            let why = "a line break or another character that a header cannot carry";
            failed(format!("The value of the header '{name}' of the workflow's response has {why}."))
        })?;
        headers.append(known, value);
    }
    let declared = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let body = answer.get("body").cloned().unwrap_or_default();
    let body = loom_actions::encode(&body, declared.as_deref())
        .map_err(|error| failed(format!("The workflow's response cannot be sent: {error}.")))?;
    let Some(body) = body else { return Ok(response) };
    if declared.is_none() || body.forced {
        let kind = HeaderValue::from_str(&body.content_type)
            .map_err(|_| failed("The workflow's response has an invalid content type.".to_owned()))?;
        headers.insert(header::CONTENT_TYPE, kind);
    }
    *response.body_mut() = Body::from(body.bytes);
    Ok(response)
}
