//! Why a call of a model failed, classified from what providers report in many ways.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{json::Json, wait::Head};

/// A call of a model that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[error("{kind}: {message}")]
#[non_exhaustive]
pub struct ModelError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The provider's words, or ours where there are none.
    #[serde(default)]
    pub message: String,
    /// The HTTP status, unless the failure arrived inside a stream or before the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's code or type of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The provider's id of the request, for its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How long the provider asks to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// What the provider itself says about another attempt, in `x-should-retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub should_retry: Option<bool>,
}

impl ModelError {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ModelError {
        ModelError {
            kind,
            message: message.into(),
            status: None,
            code: None,
            request_id: None,
            wait_ms: None,
            should_retry: None,
        }
    }

    /// Whether the same request may succeed later: what the provider says in `x-should-retry`, else by kind.
    pub fn is_retryable(&self) -> bool {
        self.should_retry.unwrap_or(self.kind.is_retryable())
    }

    /// How long the provider asks to wait.
    pub fn wait(&self) -> Option<Duration> {
        self.wait_ms.map(Duration::from_millis)
    }
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Too many requests or tokens a minute. Retryable after the wait.
    RateLimited,
    /// The provider is overloaded (529, 503). Retryable; another model may answer meanwhile.
    Overloaded,
    /// The provider failed (5xx). Retryable.
    Server,
    /// The provider gave up in time (408, 504). Retryable.
    Timeout,
    /// A conflict with another request (409). Retryable.
    Conflict,
    /// The stream ended before its end mark. Retryable; what arrived is not the answer.
    Truncated,
    /// The quota or the credit is used up. Waiting does not help.
    QuotaExhausted,
    /// The conversation is longer than the model's context window.
    ContextTooLong,
    /// The request, or its answer, was filtered.
    ContentFilter,
    /// The key is missing or wrong.
    Authentication,
    /// The key may not do this.
    PermissionDenied,
    /// There is no such model, deployment or address.
    NotFound,
    /// The body of the request is too large in bytes.
    RequestTooLarge,
    /// The provider rejects the request.
    InvalidRequest,
    /// The API cannot express the request. Found before anything is sent.
    Unsupported,
    /// The response is not what the API promises.
    Malformed,
    /// The response exceeds a limit of [`Limits`](crate::Limits).
    AnswerTooLarge,
}

impl ErrorKind {
    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorKind::RateLimited
            | ErrorKind::Overloaded
            | ErrorKind::Server
            | ErrorKind::Timeout
            | ErrorKind::Conflict
            | ErrorKind::Truncated => true,
            ErrorKind::QuotaExhausted
            | ErrorKind::ContextTooLong
            | ErrorKind::ContentFilter
            | ErrorKind::Authentication
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::RequestTooLarge
            | ErrorKind::InvalidRequest
            | ErrorKind::Unsupported
            | ErrorKind::Malformed
            | ErrorKind::AnswerTooLarge => false,
        }
    }

    /// The HTTP status that a server answers with for this kind; see [`server`](crate::server).
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::RateLimited | ErrorKind::QuotaExhausted => 429,
            ErrorKind::Overloaded => 503,
            ErrorKind::Timeout => 504,
            ErrorKind::Conflict => 409,
            ErrorKind::Server | ErrorKind::Truncated | ErrorKind::Malformed | ErrorKind::AnswerTooLarge => {
                502
            }
            ErrorKind::Authentication => 401,
            ErrorKind::PermissionDenied => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::RequestTooLarge => 413,
            ErrorKind::ContextTooLong
            | ErrorKind::ContentFilter
            | ErrorKind::InvalidRequest
            | ErrorKind::Unsupported => 400,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::RateLimited => "rate limited",
            ErrorKind::Overloaded => "the provider is overloaded",
            ErrorKind::Server => "the provider failed",
            ErrorKind::Timeout => "the provider timed out",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Truncated => "truncated answer",
            ErrorKind::QuotaExhausted => "the quota is exhausted",
            ErrorKind::ContextTooLong => "the conversation is too long for the model",
            ErrorKind::ContentFilter => "filtered content",
            ErrorKind::Authentication => "authentication failed",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::NotFound => "not found",
            ErrorKind::RequestTooLarge => "the request is too large",
            ErrorKind::InvalidRequest => "invalid request",
            ErrorKind::Unsupported => "unsupported request",
            ErrorKind::Malformed => "malformed response",
            ErrorKind::AnswerTooLarge => "the answer is too large",
        })
    }
}

pub(crate) fn malformed(message: impl Into<String>) -> ModelError {
    ModelError::new(ErrorKind::Malformed, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> ModelError {
    ModelError::new(ErrorKind::Unsupported, message)
}

/// The most characters of a body that is not JSON which an error quotes.
const QUOTED_CHARS_MAX: usize = 300;

/// The failure that a response with an error status reports. `now_ms` is the Unix time, for waits that are dates.
pub fn error_of(head: &Head, body: &[u8], now_ms: u64) -> ModelError {
    let json = Json::parse(body).unwrap_or_default();
    let reported = reported(&json).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().take(QUOTED_CHARS_MAX).collect();
        let message = if text.is_empty() { "the response has no body".to_owned() } else { text };
        Reported { message, ..Reported::default() }
    });
    let mut error = reported.classify(Some(head.status));
    error.status = Some(head.status);
    let id =
        head.get("x-request-id").or_else(|| head.get("request-id")).or_else(|| head.get("apim-request-id"));
    error.request_id = id.map(str::to_owned).or_else(|| json.text_at("request_id").map(str::to_owned));
    error.wait_ms = head.wait(now_ms).map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    error.should_retry = match head.get("x-should-retry") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    error
}

/// The failure that an event inside a stream reports, if it is one.
pub(crate) fn error_in(event: &Json) -> Option<ModelError> {
    Some(reported(event)?.classify(None))
}

/// What an error object says, whatever its shape.
#[derive(Debug, Default)]
struct Reported {
    message: String,
    kind: String,
    code: String,
    /// A status in the body.
    status: Option<u16>,
    /// Names of causes further inside.
    inner: Vec<String>,
}

/// Reads the shapes of errors: `{"error":{…}}`, `{"error":"text"}`, `[{"error":…}]`, `{"type":"error","error":{…}}`,
/// `{"object":"error","message":…}`, `{"type":"error","message":…}`, `{"detail":…}` and `{"message":…}`.
fn reported(json: &Json) -> Option<Reported> {
    let json = json.items().first().unwrap_or(json);
    if let Some(text) = json.text_at("error") {
        return Some(Reported { message: text.to_owned(), ..Reported::default() });
    }
    let object = json.get("error").unwrap_or(json);
    let text = |name: &str| object.text_at(name).map(str::to_owned);
    let message = text("message").or_else(|| match object.get("detail")? {
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    });
    // A success has none of these, so that any object can be asked.
    if json.get("error").is_none() && message.is_none() {
        return None;
    }
    let code = object.get("code");
    let number = code.and_then(Json::as_u64).or_else(|| object.u64_at("status"));
    let mut inner = Vec::new();
    let mut deeper =
        object.get("innererror").or_else(|| object.get("details")).or_else(|| object.get("metadata"));
    for _ in 0..4 {
        let Some(object) = deeper else { break };
        inner.extend(
            ["code", "error_code", "reason", "type"]
                .iter()
                .filter_map(|n| object.text_at(n))
                .map(str::to_owned),
        );
        deeper = object.get("innererror");
    }
    let message = message.unwrap_or_else(|| object.to_string().chars().take(QUOTED_CHARS_MAX).collect());
    Some(Reported {
        message,
        kind: text("type").or_else(|| text("status")).unwrap_or_default(),
        code: code.and_then(Json::as_str).unwrap_or_default().to_owned(),
        status: number.and_then(|number| u16::try_from(number).ok()).filter(|s| (100..600).contains(s)),
        inner,
    })
}

impl Reported {
    fn classify(self, status: Option<u16>) -> ModelError {
        let kind = self.kind_by_name().or_else(|| self.kind_by_text(status.or(self.status)));
        let kind = kind.unwrap_or_else(|| kind_of(status.or(self.status)));
        let code = [self.code, self.kind].into_iter().find(|code| !code.is_empty());
        ModelError { status, code, ..ModelError::new(kind, self.message) }
    }

    /// By the names that providers give their errors; these are more exact than the status.
    fn kind_by_name(&self) -> Option<ErrorKind> {
        let names =
            [self.code.as_str(), self.kind.as_str()].into_iter().chain(self.inner.iter().map(String::as_str));
        names.into_iter().find_map(|name| {
            Some(match name {
                "insufficient_quota"
                | "billing_hard_limit_reached"
                | "billing_error"
                | "billing_not_active"
                | "enforced_spend_limit_reached" => ErrorKind::QuotaExhausted,
                "context_length_exceeded" | "exceed_context_size_error" => ErrorKind::ContextTooLong,
                "content_filter"
                | "content_policy_violation"
                | "moderation_blocked"
                | "ResponsibleAIPolicyViolation" => ErrorKind::ContentFilter,
                "rate_limit_exceeded"
                | "rate_limit_error"
                | "too_many_requests"
                | "tokens"
                | "requests"
                | "RESOURCE_EXHAUSTED" => ErrorKind::RateLimited,
                "overloaded_error" | "server_overloaded" | "engine_overloaded" | "unavailable_error"
                | "slow_down" | "UNAVAILABLE" => ErrorKind::Overloaded,
                "authentication_error" | "invalid_api_key" | "UNAUTHENTICATED" => ErrorKind::Authentication,
                "permission_error" | "PERMISSION_DENIED" => ErrorKind::PermissionDenied,
                "model_not_found" | "not_found_error" | "DeploymentNotFound" | "NOT_FOUND" => {
                    ErrorKind::NotFound
                }
                "request_too_large" => ErrorKind::RequestTooLarge,
                "timeout_error" | "timeout" | "DEADLINE_EXCEEDED" => ErrorKind::Timeout,
                "api_error" | "server_error" | "internal_server_error" | "internal_error" | "INTERNAL" => {
                    ErrorKind::Server
                }
                _ => return None,
            })
        })
    }

    /// By words of the message, for what providers report as an invalid request without a code.
    fn kind_by_text(&self, status: Option<u16>) -> Option<ErrorKind> {
        if !matches!(status, None | Some(400 | 403 | 413 | 422 | 500)) {
            return None;
        }
        let text = self.message.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if has(&[
            "maximum context length",
            "prompt is too long",
            "context window",
            "available context size",
            "input length exceeds",
            "exceeds the maximum number of tokens",
            "exceeds the context",
        ]) {
            return Some(ErrorKind::ContextTooLong);
        }
        if has(&["credit balance is too low"]) {
            return Some(ErrorKind::QuotaExhausted);
        }
        // Gemini's compatible address reports a wrong key as an invalid argument.
        has(&["api key not valid"]).then_some(ErrorKind::Authentication)
    }
}

fn kind_of(status: Option<u16>) -> ErrorKind {
    match status {
        Some(401) => ErrorKind::Authentication,
        Some(402) => ErrorKind::QuotaExhausted,
        Some(403) => ErrorKind::PermissionDenied,
        Some(404) => ErrorKind::NotFound,
        Some(408 | 504) => ErrorKind::Timeout,
        Some(409) => ErrorKind::Conflict,
        Some(413) => ErrorKind::RequestTooLarge,
        Some(429) => ErrorKind::RateLimited,
        Some(503 | 529) => ErrorKind::Overloaded,
        Some(400..=499) => ErrorKind::InvalidRequest,
        // A status that is not an error cannot be a success either once it reports one.
        _ => ErrorKind::Server,
    }
}
