//! The server side of chat completions: decodes the requests of clients and encodes the responses.
//!
//! With it, a server can offer anything that produces an answer, such as a workflow, to clients of OpenAI's API.
//!
//! ```
//! use loom_models::{Answer, server};
//!
//! let body = br#"{"model":"shop","messages":[{"role":"user","content":"Hello"}],"stream":true}"#;
//! let asked = server::decode(body, 1 << 20).unwrap();
//! assert!(asked.stream && asked.request.messages[0].text() == "Hello");
//!
//! let head = server::Head::new("chatcmpl-1", "shop", 1_700_000_000);
//! let mut chunks = server::Chunks::new(head, asked.include_usage);
//! for delta in Answer::text("Good day").deltas(100) {
//!     let _send = chunks.encode(&delta);
//! }
//! ```

use std::collections::BTreeMap;

use crate::{
    answer::{Answer, Delta, StopReason, Usage},
    codec::{chat::encode_call, put},
    error::{ErrorKind, ModelError},
    json::Json,
    message::{Image, Message, Part, Reasoning, Role, ToolCall, ToolResult},
    request::{OutputFormat, OutputSchema, ReasoningEffort, Request, Sampling, Tool, ToolChoice},
};

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Asked {
    /// What it asks. Unknown properties of the body are in [`Request::extra`].
    pub request: Request,
    /// Whether it wants a stream.
    pub stream: bool,
    /// Whether the stream should end with the usage.
    pub include_usage: bool,
}

/// The properties of a body that have a place in a request, or that do not matter to a server that keeps nothing.
const KNOWN: [&str; 21] = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "seed",
    "reasoning_effort",
    "stream",
    "stream_options",
    "n",
    "store",
    "user",
];

/// Reads the body of a request for chat completions.
///
/// # Errors
/// [`ErrorKind::RequestTooLarge`] for more than `bytes_max` bytes, and [`ErrorKind::InvalidRequest`] with a message that
/// names the property that is wrong.
pub fn decode(body: &[u8], bytes_max: usize) -> Result<Asked, ModelError> {
    if body.len() > bytes_max {
        let message = format!("the request exceeds {bytes_max} bytes");
        return Err(ModelError::new(ErrorKind::RequestTooLarge, message));
    }
    let json = Json::parse(body).map_err(|error| invalid(format!("the request is not JSON: {error}")))?;
    let Json::Object(properties) = &json else {
        return Err(invalid("the request must be a JSON object"));
    };
    let mut request = Request {
        model: string(&json, "model")?.ok_or_else(|| invalid("`model` is missing"))?,
        ..Request::default()
    };
    let mut names = BTreeMap::new();
    match json.get("messages") {
        Some(Json::Array(messages)) if !messages.is_empty() => {
            for (index, message) in messages.iter().enumerate() {
                let path = format!("messages[{index}]");
                request.messages.push(decode_message(message, &path, &mut names)?);
            }
        }
        _ => return Err(invalid("`messages` must be an array with at least one message")),
    }
    request.sampling = decode_sampling(&json)?;
    for (index, tool) in items(&json, "tools")?.iter().enumerate() {
        request.tools.push(decode_tool(tool, &format!("tools[{index}]"))?);
    }
    request.tool_choice = decode_choice(json.get("tool_choice"))?;
    request.parallel_tool_calls = boolean(&json, "parallel_tool_calls")?;
    request.output = decode_format(json.get("response_format"))?;
    if json.u64_at("n").is_some_and(|n| n != 1) {
        return Err(invalid("`n` must be 1: there is one answer to a request"));
    }
    let unknown =
        properties.iter().filter(|(name, value)| !KNOWN.contains(&name.as_str()) && *value != Json::Null);
    request.extra = unknown.cloned().collect();
    let options = json.get("stream_options");
    let stream = boolean(&json, "stream")?.unwrap_or(false);
    let include_usage = options.and_then(|options| options.get("include_usage")?.as_bool()).unwrap_or(false);
    Ok(Asked { request, stream, include_usage })
}

fn invalid(message: impl Into<String>) -> ModelError {
    ModelError::new(ErrorKind::InvalidRequest, message)
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn expected<T>(path: &str, what: &str, found: &Json) -> Result<T, ModelError> {
    Err(invalid(format!("`{path}` must be {what}, found {}", kind_of(found))))
}

fn string(json: &Json, name: &str) -> Result<Option<String>, ModelError> {
    match json.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(other) => expected(name, "a string", other),
    }
}

fn boolean(json: &Json, name: &str) -> Result<Option<bool>, ModelError> {
    match json.get(name) {
        None => Ok(None),
        Some(Json::Bool(value)) => Ok(Some(*value)),
        Some(other) => expected(name, "a boolean", other),
    }
}

fn number(json: &Json, name: &str) -> Result<Option<f64>, ModelError> {
    match json.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => Ok(number.as_f64()),
        Some(other) => expected(name, "a number", other),
    }
}

fn count(json: &Json, name: &str) -> Result<Option<u32>, ModelError> {
    let Some(value) = json.get(name) else { return Ok(None) };
    match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(format!("`{name}` must be an integer from 0 to {} (got {value})", u32::MAX))),
    }
}

fn items<'a>(json: &'a Json, name: &str) -> Result<&'a [Json], ModelError> {
    match json.get(name) {
        None => Ok(&[]),
        Some(Json::Array(items)) => Ok(items),
        Some(other) => expected(name, "an array", other),
    }
}

fn decode_message(
    json: &Json,
    path: &str,
    names: &mut BTreeMap<String, String>,
) -> Result<Message, ModelError> {
    let content = decode_content(json.get("content"), &format!("{path}.content"))?;
    let (role, mut parts) = match json.text_at("role") {
        Some("system" | "developer") => (Role::System, content),
        Some("user") => (Role::User, content),
        Some("assistant") => (Role::Assistant, content),
        Some("tool") => {
            let Some(id) = json.text_at("tool_call_id") else {
                return Err(invalid(format!("`{path}.tool_call_id` is missing")));
            };
            let name = names.get(id).cloned().unwrap_or_default();
            let result = ToolResult { content, ..ToolResult::new(id, name, "") };
            (Role::Tool, vec![Part::ToolResult(result)])
        }
        Some(other) => {
            let roles = "`system`, `developer`, `user`, `assistant` or `tool`";
            return Err(invalid(format!("`{path}.role` must be {roles} (got {other})")));
        }
        None => return Err(invalid(format!("`{path}.role` is missing"))),
    };
    if role == Role::Assistant {
        if let Some(text) = json.text_at("reasoning_content") {
            parts.insert(0, Part::Reasoning(Reasoning::new(text)));
        }
        for (index, call) in json.items_at("tool_calls").iter().enumerate() {
            let function = call.get("function").unwrap_or(&Json::Null);
            let (Some(id), Some(name)) = (call.text_at("id"), function.text_at("name")) else {
                return Err(invalid(format!(
                    "`{path}.tool_calls[{index}]` must have `id` and `function.name`"
                )));
            };
            names.insert(id.to_owned(), name.to_owned());
            let mut call_part = ToolCall::new(id, name, function.text_at("arguments").unwrap_or_default());
            call_part.extra = call.get("extra_content").cloned();
            parts.push(Part::ToolCall(call_part));
        }
    }
    Ok(Message { role, name: string(json, "name")?, content: parts })
}

fn decode_content(json: Option<&Json>, path: &str) -> Result<Vec<Part>, ModelError> {
    let parts = match json {
        None => return Ok(Vec::new()),
        Some(Json::String(text)) => return Ok(vec![Part::text(text.as_str())]),
        Some(Json::Array(parts)) => parts,
        Some(other) => return expected(path, "a string or an array of parts", other),
    };
    let mut content = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        content.push(match part.text_at("type") {
            Some("text") => Part::text(part.text_at("text").unwrap_or_default()),
            Some("refusal") => Part::text(part.text_at("refusal").unwrap_or_default()),
            Some("image_url") => {
                let image = part.get("image_url").unwrap_or(&Json::Null);
                let Some(url) = image.as_str().or_else(|| image.text_at("url")) else {
                    return Err(invalid(format!("`{path}[{index}].image_url.url` is missing")));
                };
                let detail = image.text_at("detail").map(str::to_owned);
                Part::Image(Image { detail, ..Image::of_address(url) })
            }
            other => {
                let other = other.unwrap_or("none");
                return Err(invalid(format!(
                    "`{path}[{index}].type` must be `text` or `image_url` (got {other})"
                )));
            }
        });
    }
    Ok(content)
}

fn decode_sampling(json: &Json) -> Result<Sampling, ModelError> {
    let stop = match json.get("stop") {
        None => Vec::new(),
        Some(Json::String(text)) => vec![text.clone()],
        Some(Json::Array(texts)) if texts.iter().all(|text| text.as_str().is_some()) => {
            texts.iter().filter_map(Json::as_str).map(str::to_owned).collect()
        }
        Some(other) => return expected("stop", "a string or an array of strings", other),
    };
    let seed = match json.get("seed") {
        None => None,
        Some(Json::Number(number)) if number.is_i64() => number.as_i64(),
        Some(other) => return Err(invalid(format!("`seed` must be an integer (got {other})"))),
    };
    let reasoning_effort = match string(json, "reasoning_effort")? {
        None => None,
        Some(text) => Some(ReasoningEffort::of(&text).ok_or_else(|| {
            invalid(format!(
                "`reasoning_effort` must be `none`, `minimal`, `low`, `medium` or `high` (got {text})"
            ))
        })?),
    };
    Ok(Sampling {
        max_tokens: count(json, "max_completion_tokens")?.or(count(json, "max_tokens")?),
        temperature: number(json, "temperature")?,
        top_p: number(json, "top_p")?,
        top_k: count(json, "top_k")?,
        frequency_penalty: number(json, "frequency_penalty")?,
        presence_penalty: number(json, "presence_penalty")?,
        stop,
        seed,
        reasoning_effort,
    })
}

fn decode_tool(json: &Json, path: &str) -> Result<Tool, ModelError> {
    if json.text_at("type").is_some_and(|kind| kind != "function") {
        return Err(invalid(format!("`{path}.type` must be `function`")));
    }
    let function = json.get("function").unwrap_or(&Json::Null);
    let Some(name) = function.text_at("name") else {
        return Err(invalid(format!("`{path}.function.name` is missing")));
    };
    let parameters = match function.get("parameters") {
        Some(schema @ Json::Object(_)) => schema.clone(),
        None => Json::object([("type", Json::from("object")), ("properties", Json::Object(Vec::new()))]),
        Some(other) => return expected(&format!("{path}.function.parameters"), "an object", other),
    };
    let strict = function.get("strict").and_then(Json::as_bool).unwrap_or(false);
    let description = function.text_at("description").unwrap_or_default();
    Ok(Tool { strict, ..Tool::new(name, description, parameters) })
}

fn decode_choice(json: Option<&Json>) -> Result<ToolChoice, ModelError> {
    match json {
        None => Ok(ToolChoice::Auto),
        Some(Json::String(text)) => match text.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            other => Err(invalid(format!(
                "`tool_choice` must be `auto`, `none`, `required` or a function (got {other})"
            ))),
        },
        Some(other) => match other.get("function").and_then(|function| function.text_at("name")) {
            Some(name) => Ok(ToolChoice::Tool(name.to_owned())),
            None => Err(invalid("`tool_choice.function.name` is missing")),
        },
    }
}

fn decode_format(json: Option<&Json>) -> Result<OutputFormat, ModelError> {
    let Some(json) = json else { return Ok(OutputFormat::Text) };
    match json.text_at("type") {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let inner = json.get("json_schema").unwrap_or(&Json::Null);
            let Some(schema @ Json::Object(_)) = inner.get("schema") else {
                return Err(invalid("`response_format.json_schema.schema` must be an object"));
            };
            let strict = inner.get("strict").and_then(Json::as_bool).unwrap_or(false);
            let name = inner.text_at("name").unwrap_or("answer");
            Ok(OutputFormat::JsonSchema(OutputSchema { strict, ..OutputSchema::new(name, schema.clone()) }))
        }
        _ => Err(invalid("`response_format.type` must be `text`, `json_object` or `json_schema`")),
    }
}

/// What all chunks of an answer say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The id of the answer.
    pub id: String,
    /// The model's name, as the client knows it.
    pub model: String,
    /// The Unix time in seconds.
    pub created: u64,
}

impl Head {
    /// A head.
    pub fn new(id: impl Into<String>, model: impl Into<String>, created: u64) -> Head {
        Head { id: id.into(), model: model.into(), created }
    }

    fn object(&self, kind: &str) -> Vec<(String, Json)> {
        vec![
            ("id".to_owned(), self.id.as_str().into()),
            ("object".to_owned(), kind.into()),
            ("created".to_owned(), self.created.into()),
            ("model".to_owned(), self.model.as_str().into()),
        ]
    }
}

/// The body of a whole answer.
pub fn encode(head: &Head, answer: &Answer) -> Vec<u8> {
    let calls: Vec<Json> = answer.message.tool_calls().map(encode_call).collect();
    let text = answer.message.text();
    let refused = answer.stop == StopReason::Refusal;
    let mut message = vec![("role".to_owned(), Json::from("assistant"))];
    let (content, refusal) = match (refused, text.is_empty() && !calls.is_empty()) {
        (true, _) => (Json::Null, text.into()),
        (false, true) => (Json::Null, Json::Null),
        (false, false) => (text.into(), Json::Null),
    };
    message.push(("content".to_owned(), content));
    message.push(("refusal".to_owned(), refusal));
    put(&mut message, "reasoning_content", Some(answer.message.reasoning()).filter(|text| !text.is_empty()));
    put(&mut message, "tool_calls", (!calls.is_empty()).then_some(calls));
    let choice = Json::object([
        ("index", Json::from(0_u64)),
        ("message", Json::Object(message)),
        ("finish_reason", finish_reason(&answer.stop).into()),
    ]);
    let mut body = head.object("chat.completion");
    body.push(("choices".to_owned(), Json::Array(vec![choice])));
    put(&mut body, "usage", answer.usage.as_ref().map(encode_usage));
    Json::Object(body).to_string().into_bytes()
}

fn finish_reason(stop: &StopReason) -> &str {
    match stop {
        StopReason::Stop | StopReason::StopSequence(_) | StopReason::Refusal | StopReason::Pause => "stop",
        StopReason::Length | StopReason::ContextFull | StopReason::Cancelled => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::ContentFilter => "content_filter",
        // The API has no such word, and its clients take this one for a failure.
        StopReason::Other(reason) if reason == "error" => "stop",
        StopReason::Other(reason) => reason,
    }
}

fn encode_usage(usage: &Usage) -> Json {
    Json::object([
        ("prompt_tokens", Json::from(usage.input_tokens)),
        ("completion_tokens", usage.output_tokens.into()),
        ("total_tokens", usage.total().into()),
        ("prompt_tokens_details", Json::object([("cached_tokens", Json::from(usage.cached_tokens))])),
        (
            "completion_tokens_details",
            Json::object([("reasoning_tokens", Json::from(usage.reasoning_tokens))]),
        ),
    ])
}

/// Writes the events of a stream.
#[derive(Clone, Debug)]
pub struct Chunks {
    head: Head,
    include_usage: bool,
    usage: Option<Usage>,
}

impl Chunks {
    /// A stream that ends with the usage if `include_usage`.
    pub fn new(head: Head, include_usage: bool) -> Chunks {
        Chunks { head, include_usage, usage: None }
    }

    /// The events for a delta, which may be none. [`Delta::Stop`] is the last and ends the stream.
    pub fn encode(&mut self, delta: &Delta) -> Vec<u8> {
        let one = |name: &str, value: Json| Some(vec![(name.to_owned(), value)]);
        let delta = match delta {
            Delta::Start { .. } => {
                Some(vec![("role".to_owned(), "assistant".into()), ("content".to_owned(), "".into())])
            }
            Delta::Text { text } => one("content", text.as_str().into()),
            Delta::Reasoning { text } => one("reasoning_content", text.as_str().into()),
            Delta::ReasoningEnd { .. } => None,
            Delta::ToolCall { index, id, name, extra } => {
                let mut call = vec![("index".to_owned(), Json::from(*index))];
                put(&mut call, "id", Some(id.clone().unwrap_or_else(|| format!("call_{index}"))));
                put(&mut call, "type", Some("function"));
                let function = [("name", Json::from(name.as_str())), ("arguments", "".into())];
                put(&mut call, "function", Some(Json::object(function)));
                put(&mut call, "extra_content", extra.clone());
                one("tool_calls", vec![Json::Object(call)].into())
            }
            Delta::ToolArguments { index, fragment } => {
                let function = Json::object([("arguments", Json::from(fragment.as_str()))]);
                one(
                    "tool_calls",
                    vec![Json::object([("index", Json::from(*index)), ("function", function)])].into(),
                )
            }
            Delta::Usage(usage) => {
                self.usage = Some(*usage);
                None
            }
            Delta::Stop { reason } => return self.end(reason),
        };
        match delta {
            Some(delta) => self.chunk(Json::Object(delta), None),
            None => Vec::new(),
        }
    }

    fn chunk(&self, delta: Json, finish: Option<&str>) -> Vec<u8> {
        let choice = Json::object([
            ("index", Json::from(0_u64)),
            ("delta", delta),
            ("finish_reason", finish.map_or(Json::Null, Json::from)),
        ]);
        let mut body = self.head.object("chat.completion.chunk");
        body.push(("choices".to_owned(), Json::Array(vec![choice])));
        event(&Json::Object(body))
    }

    fn end(&self, reason: &StopReason) -> Vec<u8> {
        let mut bytes = self.chunk(Json::Object(Vec::new()), Some(finish_reason(reason)));
        if self.include_usage {
            let mut body = self.head.object("chat.completion.chunk");
            body.push(("choices".to_owned(), Json::Array(Vec::new())));
            body.push(("usage".to_owned(), encode_usage(&self.usage.unwrap_or_default())));
            bytes.extend(event(&Json::Object(body)));
        }
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        bytes
    }
}

/// The event of a failure. The stream ends with it, without `[DONE]`, so that no client mistakes what it has for the whole
/// answer.
pub fn error_event(error: &ModelError) -> Vec<u8> {
    event(&error_body(error))
}

fn event(json: &Json) -> Vec<u8> {
    format!("data: {json}\n\n").into_bytes()
}

/// The status and the body of a failure.
pub fn encode_error(error: &ModelError) -> (u16, Vec<u8>) {
    (error.kind.status(), error_body(error).to_string().into_bytes())
}

fn error_body(error: &ModelError) -> Json {
    let (kind, code) = match error.kind {
        ErrorKind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::QuotaExhausted => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::ContextTooLong => ("invalid_request_error", Some("context_length_exceeded")),
        ErrorKind::ContentFilter => ("invalid_request_error", Some("content_filter")),
        ErrorKind::Authentication => ("authentication_error", Some("invalid_api_key")),
        ErrorKind::PermissionDenied => ("permission_error", None),
        ErrorKind::NotFound => ("invalid_request_error", Some("model_not_found")),
        ErrorKind::RequestTooLarge => ("invalid_request_error", Some("request_too_large")),
        ErrorKind::InvalidRequest | ErrorKind::Unsupported => ("invalid_request_error", None),
        ErrorKind::Overloaded => ("overloaded_error", None),
        ErrorKind::Timeout => ("timeout_error", None),
        ErrorKind::Server
        | ErrorKind::Conflict
        | ErrorKind::Truncated
        | ErrorKind::Malformed
        | ErrorKind::AnswerTooLarge => ("server_error", None),
    };
    let error = Json::object([
        ("message", Json::from(error.message.as_str())),
        ("type", kind.into()),
        ("param", Json::Null),
        ("code", code.map_or(Json::Null, Json::from)),
    ]);
    Json::object([("error", error)])
}
