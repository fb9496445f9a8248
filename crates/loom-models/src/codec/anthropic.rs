//! Anthropic's messages.

use crate::{
    answer::{Delta, StopReason, Usage},
    codec::{CallPiece, Calls, Ending, arguments_object, named_parts, put, refuse, split_system, strings},
    error::{ErrorKind, ModelError, error_in, malformed, unsupported},
    json::Json,
    message::{Image, ImageSource, Message, Part, Role},
    request::{OutputFormat, ReasoningEffort, Request, Tool, ToolChoice},
};

/// The API wants a maximum in every request; this one when the request has none.
const MAX_TOKENS_DEFAULT: u32 = 4096;

pub(crate) fn encode(request: &Request, stream: bool) -> Result<Json, ModelError> {
    let sampling = &request.sampling;
    refuse("Anthropic", sampling, &["frequencyPenalty", "presencePenalty", "seed"])?;
    let (system, others) = split_system(&request.messages);
    let mut body = vec![
        ("model".to_owned(), Json::from(request.model.as_str())),
        ("max_tokens".to_owned(), sampling.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT).into()),
    ];
    put(&mut body, "system", Some(system).filter(|text| !text.is_empty()));
    body.push(("messages".to_owned(), Json::Array(encode_messages(&others))));
    put(&mut body, "temperature", sampling.temperature);
    put(&mut body, "top_p", sampling.top_p);
    put(&mut body, "top_k", sampling.top_k);
    put(&mut body, "stop_sequences", strings(&sampling.stop));
    if !request.tools.is_empty() {
        body.push(("tools".to_owned(), Json::Array(request.tools.iter().map(encode_tool).collect())));
        put(&mut body, "tool_choice", tool_choice(request));
    }
    let mut config = Vec::new();
    match &request.output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => {
            return Err(unsupported(
                "Anthropic does not support JSON without a schema; set a schema of the output",
            ));
        }
        OutputFormat::JsonSchema(schema) => {
            let format = [("type", Json::from("json_schema")), ("schema", schema.schema.clone())];
            config.push(("format".to_owned(), Json::object(format)));
        }
    }
    match sampling.reasoning_effort {
        None => {}
        Some(ReasoningEffort::None) => {
            put(&mut body, "thinking", Some(Json::object([("type", Json::from("disabled"))])));
        }
        Some(effort) => {
            // There is no effort below `low`.
            let effort = if effort == ReasoningEffort::Minimal { ReasoningEffort::Low } else { effort };
            put(&mut config, "effort", Some(effort.as_str()));
        }
    }
    put(&mut body, "output_config", (!config.is_empty()).then_some(Json::Object(config)));
    put(&mut body, "stream", stream.then_some(true));
    Ok(Json::Object(body))
}

fn encode_tool(tool: &Tool) -> Json {
    let mut body = vec![("name".to_owned(), Json::from(tool.name.as_str()))];
    put(&mut body, "description", Some(tool.description.as_str()).filter(|text| !text.is_empty()));
    put(&mut body, "input_schema", Some(tool.parameters.clone()));
    put(&mut body, "strict", tool.strict.then_some(true));
    Json::Object(body)
}

fn tool_choice(request: &Request) -> Option<Json> {
    let kind = match &request.tool_choice {
        ToolChoice::Auto if request.parallel_tool_calls == Some(false) => "auto",
        ToolChoice::Auto => return None,
        ToolChoice::None => "none",
        ToolChoice::Required => "any",
        ToolChoice::Tool(_) => "tool",
    };
    let mut choice = vec![("type".to_owned(), Json::from(kind))];
    if let ToolChoice::Tool(name) = &request.tool_choice {
        put(&mut choice, "name", Some(name.as_str()));
    }
    let serial = request.parallel_tool_calls == Some(false) && kind != "none";
    put(&mut choice, "disable_parallel_tool_use", serial.then_some(true));
    Some(Json::Object(choice))
}

/// Messages of one role in a row become one, because results of tools must all be in the message after their calls.
fn encode_messages(messages: &[&Message]) -> Vec<Json> {
    let mut merged: Vec<(&str, Vec<Json>)> = Vec::new();
    for message in messages {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        let blocks: Vec<Json> = named_parts(message).iter().filter_map(block).collect();
        match merged.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            // An empty message is refused.
            _ if blocks.is_empty() => {}
            _ => merged.push((role, blocks)),
        }
    }
    // A conversation that was shortened may begin with the model's words, which the API refuses.
    if merged.first().is_some_and(|(role, _)| *role == "assistant") {
        let text =
            Json::object([("type", Json::from("text")), ("text", "(The conversation continues.)".into())]);
        merged.insert(0, ("user", vec![text]));
    }
    let messages = merged.into_iter();
    messages
        .map(|(role, content)| Json::object([("role", Json::from(role)), ("content", Json::Array(content))]))
        .collect()
}

fn block(part: &Part) -> Option<Json> {
    let kind = |name: &str| ("type", Json::from(name));
    Some(match part {
        // An empty block of text is refused.
        Part::Text { text } if text.is_empty() => return None,
        Part::Text { text } => Json::object([kind("text"), ("text", text.as_str().into())]),
        Part::Image(image) => Json::object([kind("image"), ("source", source(image))]),
        Part::Reasoning(reasoning) => match (&reasoning.signature, &reasoning.encrypted, &reasoning.id) {
            (Some(signature), _, _) => Json::object([
                kind("thinking"),
                ("thinking", reasoning.text.as_str().into()),
                ("signature", signature.as_str().into()),
            ]),
            (None, Some(data), None) => {
                Json::object([kind("redacted_thinking"), ("data", data.as_str().into())])
            }
            // Another API's.
            _ => return None,
        },
        Part::ToolCall(call) => Json::object([
            kind("tool_use"),
            ("id", call.id.as_str().into()),
            ("name", call.name.as_str().into()),
            ("input", arguments_object(&call.arguments)),
        ]),
        Part::ToolResult(result) => {
            let only_text = result.content.iter().all(|part| matches!(part, Part::Text { .. }));
            let content = if only_text {
                result.text().into()
            } else {
                Json::Array(result.content.iter().filter_map(block).collect())
            };
            let mut body = vec![
                ("type".to_owned(), Json::from("tool_result")),
                ("tool_use_id".to_owned(), result.id.as_str().into()),
                ("content".to_owned(), content),
            ];
            put(&mut body, "is_error", result.error.then_some(true));
            Json::Object(body)
        }
    })
}

fn source(image: &Image) -> Json {
    match &image.source {
        ImageSource::Url { url } => Json::object([("type", Json::from("url")), ("url", url.as_str().into())]),
        ImageSource::Base64 { media_type, data } => Json::object([
            ("type", Json::from("base64")),
            ("media_type", media_type.as_str().into()),
            ("data", data.as_str().into()),
        ]),
    }
}

/// Reads the events of a stream, and whole answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) ending: Ending,
    calls: Calls,
    started: bool,
    block: Block,
    /// Blocks that have no index are counted.
    blocks: u64,
    /// Input without caches, writes to a cache, reads from a cache, output: each is sent when it is known.
    usage: [Option<u64>; 4],
}

/// The block that is open.
#[derive(Clone, Debug, Default)]
enum Block {
    #[default]
    Other,
    Thinking {
        signature: String,
    },
    /// With the input from the block's start, which counts when no piece follows.
    Tool {
        key: String,
        input: String,
        pieces: bool,
    },
}

impl Machine {
    pub(crate) fn event(
        &mut self,
        name: &str,
        event: &Json,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), ModelError> {
        match name {
            "message_start" => {
                let message = event.get("message").unwrap_or(event);
                self.start(message, deltas);
            }
            "content_block_start" => {
                self.close(deltas);
                let index = event.u64_at("index").unwrap_or(self.blocks);
                self.blocks = self.blocks.max(index).saturating_add(1);
                self.open(index, event.get("content_block").unwrap_or(&Json::Null), deltas)?;
            }
            "content_block_delta" => {
                self.piece(event.get("delta").unwrap_or(&Json::Null), deltas)?;
            }
            "content_block_stop" => self.close(deltas),
            "message_delta" => {
                self.stop(event.get("delta").unwrap_or(&Json::Null));
                self.usage(event, deltas);
            }
            "message_stop" => {
                self.close(deltas);
                self.calls.check()?;
                self.ending.end(deltas);
            }
            "error" => {
                let unknown =
                    || ModelError::new(ErrorKind::Server, "the stream reports an error without a message");
                return Err(error_in(event).unwrap_or_else(unknown));
            }
            // `ping`, and what a later version adds.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, message: &Json, deltas: &mut Vec<Delta>) {
        if !std::mem::replace(&mut self.started, true) {
            let named = |name: &str| message.text_at(name).map(str::to_owned);
            deltas.push(Delta::Start { id: named("id"), model: named("model") });
        }
        self.usage(message, deltas);
    }

    fn open(&mut self, index: u64, block: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        self.block = match block.text_at("type") {
            Some("text") => {
                text(block.text_at("text").unwrap_or_default(), deltas);
                Block::Other
            }
            Some("thinking") => {
                let text = block.text_at("thinking").unwrap_or_default();
                if !text.is_empty() {
                    deltas.push(Delta::Reasoning { text: text.to_owned() });
                }
                Block::Thinking { signature: block.text_at("signature").unwrap_or_default().to_owned() }
            }
            Some("redacted_thinking") => {
                let encrypted = block.text_at("data").map(str::to_owned);
                deltas.push(Delta::ReasoningEnd { signature: None, encrypted, id: None });
                Block::Other
            }
            Some("tool_use") => {
                let key = index.to_string();
                let piece = CallPiece {
                    key: Some(key.clone()),
                    id: block.text_at("id"),
                    name: block.text_at("name"),
                    ..CallPiece::default()
                };
                self.calls.add(piece, deltas)?;
                self.ending.called = true;
                let input = block.get("input").map_or_else(|| "{}".to_owned(), Json::to_string);
                Block::Tool { key, input, pieces: false }
            }
            _ => Block::Other,
        };
        Ok(())
    }

    fn piece(&mut self, delta: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(piece) = delta.text_at("text") {
            text(piece, deltas);
        }
        if let Some(text) = delta.text_at("thinking").filter(|text| !text.is_empty()) {
            deltas.push(Delta::Reasoning { text: text.to_owned() });
        }
        if let (Some(piece), Block::Thinking { signature }) = (delta.text_at("signature"), &mut self.block) {
            signature.push_str(piece);
        }
        if let (Some(piece), Block::Tool { key, pieces, .. }) =
            (delta.text_at("partial_json"), &mut self.block)
        {
            *pieces |= !piece.is_empty();
            let piece =
                CallPiece { key: Some(key.clone()), arguments: piece.to_owned(), ..CallPiece::default() };
            self.calls.add(piece, deltas)?;
        }
        Ok(())
    }

    fn close(&mut self, deltas: &mut Vec<Delta>) {
        match std::mem::take(&mut self.block) {
            Block::Other => {}
            Block::Thinking { signature } => {
                let signature = Some(signature).filter(|text| !text.is_empty());
                deltas.push(Delta::ReasoningEnd { signature, encrypted: None, id: None });
            }
            Block::Tool { key, input, pieces } => {
                if !pieces {
                    self.calls.complete(&key, &input, deltas);
                }
            }
        }
    }

    fn stop(&mut self, of: &Json) {
        let Some(reason) = of.text_at("stop_reason") else { return };
        self.ending.stop = Some(match reason {
            "end_turn" => StopReason::Stop,
            "max_tokens" => StopReason::Length,
            "stop_sequence" => {
                StopReason::StopSequence(of.text_at("stop_sequence").unwrap_or_default().to_owned())
            }
            "tool_use" => StopReason::ToolCalls,
            "pause_turn" => StopReason::Pause,
            "refusal" => StopReason::Refusal,
            "model_context_window_exceeded" => StopReason::ContextFull,
            other => StopReason::Other(other.to_owned()),
        });
    }

    /// What is known of the usage. The output is cumulative.
    fn usage(&mut self, of: &Json, deltas: &mut Vec<Delta>) {
        let Some(usage) = of.get("usage") else { return };
        let names =
            ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"];
        for (known, name) in self.usage.iter_mut().zip(names) {
            *known = usage.u64_at(name).or(*known);
        }
        let [input, written, cached, output] = self.usage.map(|known| known.unwrap_or(0));
        if self.usage != [None; 4] {
            let usage = Usage {
                input_tokens: input.saturating_add(written).saturating_add(cached),
                output_tokens: output,
                cached_tokens: cached,
                cache_write_tokens: written,
                reasoning_tokens: 0,
            };
            self.ending.usage(usage, deltas);
        }
    }

    pub(crate) fn whole(&mut self, json: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = json.get("error").and_then(|_| error_in(json)) {
            return Err(error);
        }
        let Some(Json::Array(content)) = json.get("content") else {
            return Err(malformed("the response has no `content`"));
        };
        self.start(json, deltas);
        for (index, block) in content.iter().enumerate() {
            self.open(index as u64, block, deltas)?;
            self.close(deltas);
        }
        self.stop(json);
        self.calls.check()?;
        self.ending.end(deltas);
        Ok(())
    }
}

fn text(text: &str, deltas: &mut Vec<Delta>) {
    if !text.is_empty() {
        deltas.push(Delta::Text { text: text.to_owned() });
    }
}
