//! Ollama's own chat.

use crate::{
    answer::{Delta, StopReason, Usage},
    codec::{CallPiece, Calls, Ending, arguments, arguments_object, named_text, put, strings},
    error::{ModelError, error_in, unsupported},
    json::Json,
    message::{ImageSource, Message, Part, Role},
    request::{OutputFormat, ReasoningEffort, Request, ToolChoice},
};

pub(crate) fn encode(request: &Request, stream: bool) -> Result<Json, ModelError> {
    let mut messages = Vec::new();
    for message in &request.messages {
        encode_message(message, &mut messages)?;
    }
    let mut body = vec![
        ("model".to_owned(), Json::from(request.model.as_str())),
        ("messages".to_owned(), Json::Array(messages)),
    ];
    match &request.tool_choice {
        ToolChoice::None => {}
        ToolChoice::Auto if request.tools.is_empty() => {}
        ToolChoice::Auto => {
            let tools = request.tools.iter().map(|tool| {
                let function = Json::object([
                    ("name", Json::from(tool.name.as_str())),
                    ("description", tool.description.as_str().into()),
                    ("parameters", tool.parameters.clone()),
                ]);
                Json::object([("type", Json::from("function")), ("function", function)])
            });
            body.push(("tools".to_owned(), Json::Array(tools.collect())));
        }
        ToolChoice::Required | ToolChoice::Tool(_) => {
            return Err(unsupported("Ollama cannot force a tool call; set `toolChoice` to `auto`"));
        }
    }
    match &request.output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => put(&mut body, "format", Some("json")),
        OutputFormat::JsonSchema(schema) => put(&mut body, "format", Some(schema.schema.clone())),
    }
    let sampling = &request.sampling;
    let mut options = Vec::new();
    put(&mut options, "num_predict", sampling.max_tokens);
    put(&mut options, "temperature", sampling.temperature);
    put(&mut options, "top_p", sampling.top_p);
    put(&mut options, "top_k", sampling.top_k);
    put(&mut options, "frequency_penalty", sampling.frequency_penalty);
    put(&mut options, "presence_penalty", sampling.presence_penalty);
    put(&mut options, "stop", strings(&sampling.stop));
    put(&mut options, "seed", sampling.seed);
    put(&mut body, "options", (!options.is_empty()).then_some(Json::Object(options)));
    match sampling.reasoning_effort {
        None => {}
        Some(ReasoningEffort::None) => put(&mut body, "think", Some(false)),
        // Most models only know yes and no, and Ollama reads an effort as yes for them.
        Some(ReasoningEffort::Minimal) => put(&mut body, "think", Some("low")),
        Some(effort) => put(&mut body, "think", Some(effort.as_str())),
    }
    // The default is a stream.
    put(&mut body, "stream", Some(stream));
    Ok(Json::Object(body))
}

fn encode_message(message: &Message, out: &mut Vec<Json>) -> Result<(), ModelError> {
    if message.role == Role::Tool {
        for result in message.tool_results() {
            let mut body =
                vec![("role".to_owned(), Json::from("tool")), ("content".to_owned(), result.text().into())];
            put(&mut body, "images", images(&result.content)?);
            put(&mut body, "tool_name", Some(result.name.as_str()));
            put(&mut body, "tool_call_id", Some(result.id.as_str()));
            out.push(Json::Object(body));
        }
        return Ok(());
    }
    let role = match message.role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    let mut body =
        vec![("role".to_owned(), Json::from(role)), ("content".to_owned(), named_text(message).into())];
    put(&mut body, "images", images(&message.content)?);
    let calls: Vec<Json> = message
        .tool_calls()
        .map(|call| {
            let function =
                [("name", Json::from(call.name.as_str())), ("arguments", arguments_object(&call.arguments))];
            Json::object([("id", Json::from(call.id.as_str())), ("function", Json::object(function))])
        })
        .collect();
    put(&mut body, "tool_calls", (!calls.is_empty()).then_some(calls));
    out.push(Json::Object(body));
    Ok(())
}

fn images(parts: &[Part]) -> Result<Option<Json>, ModelError> {
    let mut images = Vec::new();
    for part in parts {
        let Part::Image(image) = part else { continue };
        match &image.source {
            ImageSource::Base64 { data, .. } => images.push(Json::from(data.as_str())),
            ImageSource::Url { .. } => {
                return Err(unsupported("Ollama does not fetch images; send the image as Base64"));
            }
        }
    }
    Ok((!images.is_empty()).then_some(Json::Array(images)))
}

/// Reads the lines of a stream. A whole answer is one line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) ending: Ending,
    calls: Calls,
    started: bool,
    thinking: bool,
    /// Ollama sends whole calls, so each has a key of its own.
    count: u64,
}

impl Machine {
    pub(crate) fn event(&mut self, line: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = line.get("error").and_then(|_| error_in(line)) {
            return Err(error);
        }
        if !std::mem::replace(&mut self.started, true) {
            deltas.push(Delta::Start { id: None, model: line.text_at("model").map(str::to_owned) });
        }
        if let Some(message) = line.get("message") {
            if let Some(text) = message.text_at("thinking").filter(|text| !text.is_empty()) {
                self.thinking = true;
                deltas.push(Delta::Reasoning { text: text.to_owned() });
            }
            if let Some(text) = message.text_at("content").filter(|text| !text.is_empty()) {
                self.end_reasoning(deltas);
                deltas.push(Delta::Text { text: text.to_owned() });
            }
            for call in message.items_at("tool_calls") {
                self.end_reasoning(deltas);
                let function = call.get("function").unwrap_or(call);
                let piece = CallPiece {
                    key: Some(self.count.to_string()),
                    id: call.text_at("id"),
                    name: function.text_at("name"),
                    arguments: arguments(function.get("arguments")),
                    extra: None,
                };
                self.calls.add(piece, deltas)?;
                self.count += 1;
                self.ending.called = true;
            }
        }
        if line.get("done").and_then(Json::as_bool) == Some(true) {
            let (input, output) = (line.u64_at("prompt_eval_count"), line.u64_at("eval_count"));
            if input.is_some() || output.is_some() {
                // The prompt's count is missing when all of it was cached.
                self.ending.usage(Usage::new(input.unwrap_or(0), output.unwrap_or(0)), deltas);
            }
            self.ending.stop = line.text_at("done_reason").map(|reason| match reason {
                "stop" => StopReason::Stop,
                "length" => StopReason::Length,
                other => StopReason::Other(other.to_owned()),
            });
            self.end_reasoning(deltas);
            self.calls.check()?;
            self.ending.end(deltas);
        }
        Ok(())
    }

    fn end_reasoning(&mut self, deltas: &mut Vec<Delta>) {
        if std::mem::take(&mut self.thinking) {
            deltas.push(Delta::ReasoningEnd { signature: None, encrypted: None, id: None });
        }
    }

    /// The end of a whole answer.
    pub(crate) fn end(&mut self, _: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.ending.done {
            return Ok(());
        }
        Err(ModelError::new(crate::ErrorKind::Truncated, "the answer ended before its end mark"))
    }
}
