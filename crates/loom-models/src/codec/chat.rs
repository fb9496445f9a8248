//! OpenAI's chat completions, for OpenAI and compatible services.

use crate::{
    answer::{Delta, StopReason, Usage},
    codec::{CallPiece, Calls, Ending, arguments, put, strings},
    endpoint::Dialect,
    error::{ErrorKind, ModelError, error_in, malformed, unsupported},
    json::Json,
    message::{Message, Part, Role, ToolCall},
    request::{OutputFormat, ReasoningEffort, Request, Tool, ToolChoice},
};

pub(crate) fn encode(request: &Request, stream: bool, dialect: Dialect) -> Result<Json, ModelError> {
    let mut messages = Vec::new();
    for message in &request.messages {
        encode_message(message, dialect, &mut messages)?;
    }
    let sampling = &request.sampling;
    let mut body = vec![
        ("model".to_owned(), Json::from(request.model.as_str())),
        ("messages".to_owned(), Json::Array(messages)),
    ];
    let max_tokens = if dialect.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    put(&mut body, max_tokens, sampling.max_tokens);
    put(&mut body, "temperature", sampling.temperature);
    put(&mut body, "top_p", sampling.top_p);
    put(&mut body, "top_k", sampling.top_k);
    put(&mut body, "frequency_penalty", sampling.frequency_penalty);
    put(&mut body, "presence_penalty", sampling.presence_penalty);
    put(&mut body, "stop", strings(&sampling.stop));
    put(&mut body, "seed", sampling.seed);
    put(&mut body, "reasoning_effort", sampling.reasoning_effort.map(ReasoningEffort::as_str));
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|tool| Json::object([("type", Json::from("function")), ("function", function(tool))]));
        body.push(("tools".to_owned(), Json::Array(tools.collect())));
        put(&mut body, "tool_choice", tool_choice(&request.tool_choice));
        put(&mut body, "parallel_tool_calls", request.parallel_tool_calls);
    }
    put(&mut body, "response_format", response_format(&request.output));
    if stream {
        put(&mut body, "stream", Some(true));
        let options = Json::object([("include_usage", Json::Bool(true))]);
        put(&mut body, "stream_options", dialect.stream_usage.then_some(options));
    }
    Ok(Json::Object(body))
}

fn function(tool: &Tool) -> Json {
    let mut function = vec![("name".to_owned(), Json::from(tool.name.as_str()))];
    put(&mut function, "description", Some(tool.description.as_str()).filter(|text| !text.is_empty()));
    put(&mut function, "parameters", Some(tool.parameters.clone()));
    put(&mut function, "strict", tool.strict.then_some(true));
    Json::Object(function)
}

/// `None` for the default.
fn tool_choice(choice: &ToolChoice) -> Option<Json> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Tool(name) => {
            let function = Json::object([("name", Json::from(name.as_str()))]);
            Some(Json::object([("type", Json::from("function")), ("function", function)]))
        }
    }
}

fn response_format(output: &OutputFormat) -> Option<Json> {
    match output {
        OutputFormat::Text => None,
        OutputFormat::JsonObject => Some(Json::object([("type", Json::from("json_object"))])),
        OutputFormat::JsonSchema(schema) => {
            let inner = Json::object([
                ("name", Json::from(schema.name.as_str())),
                ("schema", schema.schema.clone()),
                ("strict", schema.strict.into()),
            ]);
            Some(Json::object([("type", Json::from("json_schema")), ("json_schema", inner)]))
        }
    }
}

fn encode_message(message: &Message, dialect: Dialect, out: &mut Vec<Json>) -> Result<(), ModelError> {
    if message.role == Role::Tool {
        for result in message.tool_results() {
            if result.content.iter().any(|part| !matches!(part, Part::Text { .. })) {
                return Err(unsupported(format!(
                    "chat completions accept only text as the result of a tool; `{}` returned something else",
                    result.name
                )));
            }
            out.push(Json::object([
                ("role", Json::from("tool")),
                ("tool_call_id", result.id.as_str().into()),
                ("content", result.text().into()),
            ]));
        }
        return Ok(());
    }
    let role = match message.role {
        Role::System if dialect.developer_role => "developer",
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    let mut body = vec![("role".to_owned(), Json::from(role))];
    // OpenAI accepts no white space, angle brackets, slashes, bars or backslashes in a name.
    let plain = message.name.as_deref().filter(|name| {
        !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| !c.is_whitespace() && !"<>|\\/".contains(c))
    });
    let renamed;
    let message = if plain.is_none() && message.name.is_some() {
        renamed = Message::new(message.role, super::named_parts(message));
        &renamed
    } else {
        message
    };
    put(&mut body, "name", plain);
    let calls: Vec<Json> = message.tool_calls().map(encode_call).collect();
    body.push(("content".to_owned(), encode_content(message, !calls.is_empty())));
    if !calls.is_empty() {
        body.push(("tool_calls".to_owned(), Json::Array(calls)));
    }
    out.push(Json::Object(body));
    Ok(())
}

pub(crate) fn encode_call(call: &ToolCall) -> Json {
    let function = [
        ("name", Json::from(call.name.as_str())),
        ("arguments", Json::from(if call.arguments.trim().is_empty() { "{}" } else { &call.arguments })),
    ];
    let mut body = vec![
        ("id".to_owned(), Json::from(call.id.as_str())),
        ("type".to_owned(), Json::from("function")),
        ("function".to_owned(), Json::object(function)),
    ];
    put(&mut body, "extra_content", call.extra.clone());
    Json::Object(body)
}

/// A string where that is enough, since not every peer accepts parts.
fn encode_content(message: &Message, calls: bool) -> Json {
    if message.content.iter().any(|part| matches!(part, Part::Image(_))) {
        let parts = message.content.iter().filter_map(|part| match part {
            Part::Text { text } => {
                Some(Json::object([("type", Json::from("text")), ("text", text.as_str().into())]))
            }
            Part::Image(image) => {
                let mut url = vec![("url".to_owned(), Json::from(image.address()))];
                put(&mut url, "detail", image.detail.as_deref());
                Some(Json::object([("type", Json::from("image_url")), ("image_url", Json::Object(url))]))
            }
            _ => None,
        });
        return Json::Array(parts.collect());
    }
    let text = message.text();
    if text.is_empty() && calls { Json::Null } else { text.into() }
}

/// Reads chunks of a stream, and whole answers, which look like one large chunk.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) ending: Ending,
    calls: Calls,
    started: bool,
    thinking: bool,
    done_mark: bool,
}

impl Machine {
    pub(crate) fn new(done_mark: bool) -> Machine {
        Machine {
            ending: Ending::default(),
            calls: Calls::default(),
            started: false,
            thinking: false,
            done_mark,
        }
    }

    pub(crate) fn event(&mut self, event: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = event.get("error").and_then(|_| error_in(event)) {
            return Err(error);
        }
        if !self.started {
            self.started = true;
            let text = |name: &str| event.text_at(name).filter(|text| !text.is_empty()).map(str::to_owned);
            deltas.push(Delta::Start { id: text("id"), model: text("model") });
        }
        // Azure sends a first chunk without choices, the usage arrives in one, and an index other than 0 is not asked for.
        let choice = event.items_at("choices").iter().find(|choice| choice.u64_at("index").unwrap_or(0) == 0);
        if let Some(choice) = choice {
            if let Some(error) = choice.get("error").and_then(|_| error_in(choice)) {
                return Err(error);
            }
            if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
                self.delta(delta, deltas)?;
            }
            if let Some(reason) = choice.text_at("finish_reason").filter(|reason| !reason.is_empty()) {
                if reason == "error" {
                    return Err(ModelError::new(
                        ErrorKind::Server,
                        "the provider ended the answer with an error",
                    ));
                }
                self.ending.stop = Some(stop_reason(reason));
            }
        }
        let usage = event.get("usage").or_else(|| event.get("x_groq")?.get("usage"));
        if let Some(usage) = usage.and_then(usage_of) {
            self.ending.usage(usage, deltas);
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        let reasoning = delta.get("reasoning_content").or_else(|| delta.get("reasoning"));
        if let Some(text) = reasoning.and_then(Json::as_str).filter(|text| !text.is_empty()) {
            self.reasoning(text, deltas);
        }
        match delta.get("content") {
            Some(Json::String(text)) => self.text(text, deltas),
            Some(Json::Array(parts)) => {
                for part in parts {
                    match part.text_at("type") {
                        Some("thinking") => {
                            let inner = part.items_at("thinking").iter().filter_map(|p| p.text_at("text"));
                            let text: String = inner.collect();
                            self.reasoning(part.text_at("thinking").unwrap_or(&text), deltas);
                        }
                        _ => self.text(part.text_at("text").unwrap_or_default(), deltas),
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = delta.text_at("refusal").filter(|text| !text.is_empty()) {
            self.ending.refused = true;
            self.text(text, deltas);
        }
        for call in delta.items_at("tool_calls") {
            self.end_reasoning(deltas);
            let function = call.get("function").unwrap_or(call);
            let piece = CallPiece {
                key: call.u64_at("index").map(|index| index.to_string()),
                id: call.text_at("id"),
                name: function.text_at("name"),
                arguments: arguments(function.get("arguments")),
                extra: call.get("extra_content").cloned(),
            };
            self.calls.add(piece, deltas)?;
            self.ending.called = true;
        }
        Ok(())
    }

    fn text(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            self.end_reasoning(deltas);
            deltas.push(Delta::Text { text: text.to_owned() });
        }
    }

    fn reasoning(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            self.thinking = true;
            deltas.push(Delta::Reasoning { text: text.to_owned() });
        }
    }

    fn end_reasoning(&mut self, deltas: &mut Vec<Delta>) {
        if std::mem::take(&mut self.thinking) {
            deltas.push(Delta::ReasoningEnd { signature: None, encrypted: None, id: None });
        }
    }

    /// The mark `[DONE]`.
    pub(crate) fn done(&mut self, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        self.calls.check()?;
        if !self.started {
            return Err(malformed("the stream has no chunk before its end mark"));
        }
        self.end_reasoning(deltas);
        self.ending.end(deltas);
        Ok(())
    }

    /// The end of the body.
    pub(crate) fn end(&mut self, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.done_mark || self.ending.stop.is_none() {
            return Err(ModelError::new(ErrorKind::Truncated, "the stream ended before its end mark"));
        }
        self.done(deltas)
    }

    pub(crate) fn whole(&mut self, json: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        self.event(json, deltas)?;
        if json.items_at("choices").is_empty() {
            return Err(malformed("the response has no `choices`"));
        }
        self.done(deltas)
    }
}

fn usage_of(json: &Json) -> Option<Usage> {
    let detail = |of: &str, name: &str| json.get(of).and_then(|details| details.u64_at(name));
    let input = json.u64_at("prompt_tokens").or_else(|| json.u64_at("input_tokens"));
    let output = json.u64_at("completion_tokens").or_else(|| json.u64_at("output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let cached =
        detail("prompt_tokens_details", "cached_tokens").or_else(|| json.u64_at("prompt_cache_hit_tokens"));
    Some(Usage {
        input_tokens: input.unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        cached_tokens: cached.unwrap_or(0),
        cache_write_tokens: 0,
        reasoning_tokens: detail("completion_tokens_details", "reasoning_tokens").unwrap_or(0),
    })
}

fn stop_reason(text: &str) -> StopReason {
    match text {
        "stop" | "STOP" | "eos" | "end_turn" => StopReason::Stop,
        "length" | "MAX_TOKENS" | "max_tokens" => StopReason::Length,
        "tool_calls" | "function_call" | "tool_use" => StopReason::ToolCalls,
        "content_filter" | "SAFETY" => StopReason::ContentFilter,
        other => StopReason::Other(other.to_owned()),
    }
}
