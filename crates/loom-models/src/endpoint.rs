//! Where requests go: APIs, URLs, and the headers that carry keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    codec::{anthropic, chat, ollama, responses},
    error::ModelError,
    request::Request,
};

/// The APIs that models are spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Api {
    /// OpenAI's chat completions, and the many that imitate them: llama.cpp, vLLM, Gemini's compatible address, and others.
    ChatCompletions,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's own chat.
    Ollama,
}

/// How the key of an endpoint is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key: KEY`, Anthropic's.
    XApiKey,
    /// `api-key: KEY`, Azure's. A token of Entra ID is sent as [`KeyHeader::Bearer`].
    ApiKey,
}

impl KeyHeader {
    /// The header: its name, and its value for a key.
    pub fn header(self, key: &str) -> (&'static str, String) {
        match self {
            KeyHeader::Bearer => ("authorization", format!("Bearer {key}")),
            KeyHeader::XApiKey => ("x-api-key", key.to_owned()),
            KeyHeader::ApiKey => ("api-key", key.to_owned()),
        }
    }
}

/// An address that speaks one of the APIs, and what it needs to be spoken to. It never has a key: the caller adds the
/// header of [`KeyHeader`], so that the key stays where secrets are kept.
///
/// ```
/// # use loom_models::{Endpoint, Message, Request};
/// let request = Request::new("gpt-small", vec![Message::user("Hello")]);
/// let azure = Endpoint::azure("https://shop.openai.azure.com", "chat-1", "2024-10-21");
/// let http = azure.encode(&request, true).unwrap();
/// assert_eq!(
///     http.url,
///     "https://shop.openai.azure.com/openai/deployments/chat-1/chat/completions?api-version=2024-10-21"
/// );
/// assert_eq!(azure.key_header.header("k").0, "api-key");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Endpoint {
    /// The API.
    pub api: Api,
    /// The address that the API's path is added to. A query stays at the end.
    pub base: String,
    /// How the key is sent.
    pub key_header: KeyHeader,
    /// What distinguishes the peer from others with the same API.
    #[serde(default)]
    pub dialect: Dialect,
}

/// What distinguishes peers with the same API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[non_exhaustive]
pub struct Dialect {
    /// Whether the most tokens of a chat completion are `max_completion_tokens`, as OpenAI wants, and not `max_tokens`, as
    /// its imitators want.
    pub max_completion_tokens: bool,
    /// Whether instructions have the role `developer` instead of `system`.
    pub developer_role: bool,
    /// Whether a streamed chat completion asks for its usage in `stream_options`.
    pub stream_usage: bool,
    /// Whether a stream of chat completions ends with `[DONE]`. Only where a peer never sends it, set this to false: then
    /// a finish reason is the end mark.
    pub done_mark: bool,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect { max_completion_tokens: false, developer_role: false, stream_usage: true, done_mark: true }
    }
}

impl Endpoint {
    /// An endpoint of an API, with the dialect of the imitators.
    pub fn new(api: Api, base: impl Into<String>, key_header: KeyHeader) -> Endpoint {
        Endpoint { api, base: base.into(), key_header, dialect: Dialect::default() }
    }

    /// OpenAI's chat completions.
    pub fn openai() -> Endpoint {
        let dialect = Dialect { max_completion_tokens: true, developer_role: true, ..Dialect::default() };
        Endpoint { dialect, ..Endpoint::compatible("https://api.openai.com/v1") }
    }

    /// OpenAI's Responses.
    pub fn openai_responses() -> Endpoint {
        Endpoint { api: Api::Responses, ..Endpoint::openai() }
    }

    /// Any server that imitates OpenAI's chat completions. The base usually ends with `/v1`.
    pub fn compatible(base: impl Into<String>) -> Endpoint {
        Endpoint::new(Api::ChatCompletions, base, KeyHeader::Bearer)
    }

    /// Gemini, at its OpenAI-compatible address.
    pub fn gemini() -> Endpoint {
        Endpoint::compatible("https://generativelanguage.googleapis.com/v1beta/openai")
    }

    /// Anthropic's messages.
    pub fn anthropic() -> Endpoint {
        Endpoint::new(Api::Anthropic, "https://api.anthropic.com", KeyHeader::XApiKey)
    }

    /// Ollama on this machine.
    pub fn ollama() -> Endpoint {
        Endpoint::new(Api::Ollama, "http://localhost:11434", KeyHeader::Bearer)
    }

    /// A deployment of Azure OpenAI, by the endpoint of the resource and an API version.
    pub fn azure(resource: &str, deployment: &str, api_version: &str) -> Endpoint {
        let (resource, deployment) = (resource.trim_end_matches('/'), escaped(deployment));
        let base = format!("{resource}/openai/deployments/{deployment}?api-version={}", escaped(api_version));
        Endpoint::new(Api::ChatCompletions, base, KeyHeader::ApiKey)
    }

    /// Azure OpenAI with the v1 API, which has no API version; the request's model is the deployment.
    pub fn azure_v1(resource: &str) -> Endpoint {
        let base = format!("{}/openai/v1", resource.trim_end_matches('/'));
        Endpoint { base, key_header: KeyHeader::ApiKey, ..Endpoint::openai() }
    }

    /// The HTTP request that asks the model, without the header of the key.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the API cannot express the request.
    pub fn encode(&self, request: &Request, stream: bool) -> Result<HttpRequest, ModelError> {
        let (path, mut body) = match self.api {
            Api::ChatCompletions => ("/chat/completions", chat::encode(request, stream, self.dialect)?),
            Api::Responses => ("/responses", responses::encode(request, stream)?),
            Api::Anthropic => ("/v1/messages", anthropic::encode(request, stream)?),
            Api::Ollama => ("/api/chat", ollama::encode(request, stream)?),
        };
        for (name, value) in &request.extra {
            body.merge(name, value.clone());
        }
        let accept = match (stream, self.api) {
            (true, Api::Ollama) => "application/x-ndjson",
            (true, _) => "text/event-stream",
            (false, _) => "application/json",
        };
        let mut headers = vec![("content-type", "application/json"), ("accept", accept)];
        if self.api == Api::Anthropic {
            headers.push(("anthropic-version", "2023-06-01"));
        }
        Ok(HttpRequest { method: "POST", url: self.url(path), headers, body: body.to_string().into_bytes() })
    }

    fn url(&self, path: &str) -> String {
        let (base, query) = match self.base.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (self.base.as_str(), String::new()),
        };
        let base = base.trim_end_matches('/');
        // Anthropic's base is usually given without the version, but other tools give it with.
        let path = if base.ends_with("/v1") { path.strip_prefix("/v1").unwrap_or(path) } else { path };
        format!("{base}{path}{query}")
    }
}

/// A request to send.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpRequest {
    /// Always `POST`.
    pub method: &'static str,
    /// The whole address.
    pub url: String,
    /// Headers in lower case, without that of the key.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body, in JSON.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        f.debug_struct("HttpRequest")
            .field("url", &self.url)
            .field("headers", &self.headers)
            .field("body", &body)
            .finish_non_exhaustive()
    }
}

/// Escapes what must not be in a segment of a path or in a value of a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)]);
            escaped.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    escaped
}
