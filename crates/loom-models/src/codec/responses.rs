//! OpenAI's Responses.

use crate::{
    answer::{Delta, StopReason, Usage},
    codec::{CallPiece, Calls, Ending, named_parts, put, refuse, split_system},
    error::{ErrorKind, ModelError, error_in, malformed},
    json::Json,
    message::{Message, Part, Role},
    request::{OutputFormat, ReasoningEffort, Request, Tool, ToolChoice},
};

pub(crate) fn encode(request: &Request, stream: bool) -> Result<Json, ModelError> {
    let sampling = &request.sampling;
    refuse("Responses", sampling, &["topK", "frequencyPenalty", "presencePenalty", "stop", "seed"])?;
    let (instructions, others) = split_system(&request.messages);
    let mut input = Vec::new();
    for message in others {
        encode_message(message, &mut input);
    }
    let mut body = vec![("model".to_owned(), Json::from(request.model.as_str()))];
    put(&mut body, "instructions", Some(instructions).filter(|text| !text.is_empty()));
    body.push(("input".to_owned(), Json::Array(input)));
    put(&mut body, "max_output_tokens", sampling.max_tokens);
    put(&mut body, "temperature", sampling.temperature);
    put(&mut body, "top_p", sampling.top_p);
    if let Some(effort) = sampling.reasoning_effort {
        put(&mut body, "reasoning", Some(Json::object([("effort", Json::from(effort.as_str()))])));
        // Nothing is stored, so the reasoning has to travel with the conversation.
        let include = Json::Array(vec!["reasoning.encrypted_content".into()]);
        put(&mut body, "include", (effort != ReasoningEffort::None).then_some(include));
    }
    if !request.tools.is_empty() {
        body.push(("tools".to_owned(), Json::Array(request.tools.iter().map(encode_tool).collect())));
        let choice = match &request.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(Json::from("none")),
            ToolChoice::Required => Some("required".into()),
            ToolChoice::Tool(name) => {
                Some(Json::object([("type", Json::from("function")), ("name", name.as_str().into())]))
            }
        };
        put(&mut body, "tool_choice", choice);
        put(&mut body, "parallel_tool_calls", request.parallel_tool_calls);
    }
    let format = match &request.output {
        OutputFormat::Text => None,
        OutputFormat::JsonObject => Some(Json::object([("type", Json::from("json_object"))])),
        OutputFormat::JsonSchema(schema) => Some(Json::object([
            ("type", Json::from("json_schema")),
            ("name", schema.name.as_str().into()),
            ("schema", schema.schema.clone()),
            ("strict", schema.strict.into()),
        ])),
    };
    put(&mut body, "text", format.map(|format| Json::object([("format", format)])));
    put(&mut body, "store", Some(false));
    put(&mut body, "stream", stream.then_some(true));
    Ok(Json::Object(body))
}

fn encode_tool(tool: &Tool) -> Json {
    let mut body =
        vec![("type".to_owned(), Json::from("function")), ("name".to_owned(), tool.name.as_str().into())];
    put(&mut body, "description", Some(tool.description.as_str()).filter(|text| !text.is_empty()));
    put(&mut body, "parameters", Some(tool.parameters.clone()));
    // The API's default is strict.
    put(&mut body, "strict", Some(tool.strict));
    Json::Object(body)
}

fn encode_message(message: &Message, input: &mut Vec<Json>) {
    let kind = |name: &str| ("type", Json::from(name));
    let (role, text_kind) =
        if message.role == Role::Assistant { ("assistant", "output_text") } else { ("user", "input_text") };
    let mut content = Vec::new();
    // Calls and results are items of their own, between which the message is cut.
    let flush = |content: &mut Vec<Json>, input: &mut Vec<Json>| {
        if !content.is_empty() {
            let content = Json::Array(std::mem::take(content));
            input.push(Json::object([kind("message"), ("role", role.into()), ("content", content)]));
        }
    };
    for part in named_parts(message) {
        match part {
            Part::Text { text } => {
                if !text.is_empty() {
                    content.push(Json::object([kind(text_kind), ("text", text.into())]));
                }
            }
            Part::Image(_) => content.extend(input_part(&part)),
            Part::Reasoning(reasoning) => {
                flush(&mut content, input);
                // Without an id it is another API's; without its encrypted form, OpenAI would look for what it did not store.
                if let (Some(id), Some(encrypted)) = (reasoning.id, reasoning.encrypted) {
                    let summary: Vec<Json> = Some(reasoning.text)
                        .filter(|text| !text.is_empty())
                        .map(|text| Json::object([kind("summary_text"), ("text", text.into())]))
                        .into_iter()
                        .collect();
                    input.push(Json::object([
                        kind("reasoning"),
                        ("id", id.into()),
                        ("summary", summary.into()),
                        ("encrypted_content", encrypted.into()),
                    ]));
                }
            }
            Part::ToolCall(call) => {
                flush(&mut content, input);
                let arguments =
                    if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments };
                input.push(Json::object([
                    kind("function_call"),
                    ("call_id", call.id.into()),
                    ("name", call.name.into()),
                    ("arguments", arguments.into()),
                ]));
            }
            Part::ToolResult(result) => {
                flush(&mut content, input);
                let only_text = result.content.iter().all(|part| matches!(part, Part::Text { .. }));
                let output = if only_text {
                    result.text().into()
                } else {
                    Json::Array(result.content.iter().filter_map(input_part).collect())
                };
                input.push(Json::object([
                    kind("function_call_output"),
                    ("call_id", result.id.into()),
                    ("output", output),
                ]));
            }
        }
    }
    flush(&mut content, input);
}

fn input_part(part: &Part) -> Option<Json> {
    match part {
        Part::Text { text } => {
            Some(Json::object([("type", Json::from("input_text")), ("text", text.as_str().into())]))
        }
        Part::Image(image) => {
            let mut body = vec![
                ("type".to_owned(), Json::from("input_image")),
                ("image_url".to_owned(), image.address().into()),
            ];
            put(&mut body, "detail", image.detail.as_deref());
            Some(Json::Object(body))
        }
        _ => None,
    }
}

/// Reads the events of a stream, and whole answers, which a stream also ends with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) ending: Ending,
    calls: Calls,
    started: bool,
    /// The items whose content was reported; the last event repeats all of them.
    seen: Vec<String>,
    /// The key of the call that a piece without any key belongs to.
    last_call: Option<String>,
    thinking: bool,
    /// Whether any text was reported.
    text: bool,
}

impl Machine {
    pub(crate) fn event(
        &mut self,
        name: &str,
        event: &Json,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), ModelError> {
        let delta = event.text_at("delta").unwrap_or_default();
        match name {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(event.get("response").unwrap_or(&Json::Null), deltas);
            }
            "response.output_text.delta" => {
                self.see(event);
                self.say(delta, deltas);
            }
            "response.refusal.delta" => {
                self.see(event);
                self.ending.refused = true;
                self.say(delta, deltas);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.see(event);
                if !delta.is_empty() {
                    self.thinking = true;
                    deltas.push(Delta::Reasoning { text: delta.to_owned() });
                }
            }
            // A model shows several summaries; a blank line separates them.
            "response.reasoning_summary_part.added" if self.thinking => {
                deltas.push(Delta::Reasoning { text: "\n\n".to_owned() });
            }
            "response.output_item.added" => {
                if let Some(item) =
                    event.get("item").filter(|item| item.text_at("type") == Some("function_call"))
                {
                    self.call(key_of(event, Some(item)), item, deltas)?;
                }
            }
            "response.function_call_arguments.delta" => {
                let key = key_of(event, None).or_else(|| self.last_call.clone());
                let piece = CallPiece { key, arguments: delta.to_owned(), ..CallPiece::default() };
                self.calls.add(piece, deltas)?;
            }
            "response.function_call_arguments.done" => {
                let key = key_of(event, None).or_else(|| self.last_call.clone());
                let whole = event.text_at("arguments").unwrap_or_default();
                self.calls.complete(&key.unwrap_or_default(), whole, deltas);
            }
            "response.output_item.done" => {
                if let Some(item) = event.get("item") {
                    self.item(key_of(event, Some(item)), item, deltas)?;
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.whole(event.get("response").unwrap_or(event), deltas)?;
            }
            "error" => {
                let unknown =
                    || ModelError::new(ErrorKind::Server, "the stream reports an error without a message");
                return Err(error_in(event).unwrap_or_else(unknown));
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, response: &Json, deltas: &mut Vec<Delta>) {
        if !std::mem::replace(&mut self.started, true) {
            let text = |name: &str| response.text_at(name).map(str::to_owned);
            deltas.push(Delta::Start { id: text("id"), model: text("model") });
        }
    }

    fn say(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            self.text = true;
            deltas.push(Delta::Text { text: text.to_owned() });
        }
    }

    /// Marks the item of a piece as reported.
    fn see(&mut self, event: &Json) {
        if let Some(key) = key_of(event, None).filter(|key| !self.seen.contains(key)) {
            self.seen.push(key);
        }
    }

    fn call(&mut self, key: Option<String>, item: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        // The id of a call is surer than that of its item, which peers leave out or change.
        let id = item.text_at("call_id");
        let known = id.and_then(|id| self.calls.key_of(id));
        let key = known.or(key).or_else(|| id.map(str::to_owned));
        let piece = CallPiece {
            key: key.clone(),
            id: item.text_at("call_id").or_else(|| item.text_at("id")),
            name: item.text_at("name"),
            ..CallPiece::default()
        };
        self.calls.add(piece, deltas)?;
        self.ending.called = true;
        self.last_call.clone_from(&key);
        self.calls.complete(&key.unwrap_or_default(), item.text_at("arguments").unwrap_or_default(), deltas);
        Ok(())
    }

    /// A whole item. What of it was reported in pieces is not reported again.
    fn item(&mut self, key: Option<String>, item: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        let seen = key.as_ref().is_some_and(|key| self.seen.contains(key));
        match item.text_at("type") {
            Some("function_call") => self.call(key, item, deltas)?,
            Some("reasoning") => {
                if !seen {
                    let texts = item.items_at("summary").iter().chain(item.items_at("content"));
                    let texts: Vec<&str> = texts.filter_map(|part| part.text_at("text")).collect();
                    if !texts.is_empty() {
                        deltas.push(Delta::Reasoning { text: texts.join("\n\n") });
                    }
                }
                let ended = key.as_ref().is_some_and(|key| self.seen.contains(&format!("{key} ended")));
                if !ended {
                    let text = |name: &str| item.text_at(name).map(str::to_owned);
                    deltas.push(Delta::ReasoningEnd {
                        signature: None,
                        encrypted: text("encrypted_content"),
                        id: text("id"),
                    });
                    self.thinking = false;
                    self.seen.extend(key.as_ref().map(|key| format!("{key} ended")));
                }
                self.seen.extend(key);
            }
            Some("message") if !seen => {
                for part in item.items_at("content") {
                    self.ending.refused |= part.get("refusal").is_some();
                    self.say(
                        part.text_at("text").or_else(|| part.text_at("refusal")).unwrap_or_default(),
                        deltas,
                    );
                }
                self.seen.extend(key);
            }
            // Items of hosted tools, and what a later version adds.
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn whole(&mut self, response: &Json, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = response.get("error").and_then(|_| error_in(response)) {
            return Err(error);
        }
        let incomplete = response.get("incomplete_details").and_then(|details| details.text_at("reason"));
        self.ending.stop = match (response.text_at("status"), incomplete) {
            (Some("failed"), _) => {
                return Err(ModelError::new(ErrorKind::Server, "the response failed without an error"));
            }
            (Some(status @ ("queued" | "in_progress")), _) => {
                return Err(malformed(format!("the response is not complete: its status is `{status}`")));
            }
            (Some("cancelled"), _) => Some(StopReason::Cancelled),
            (_, Some("max_output_tokens")) => Some(StopReason::Length),
            (_, Some("content_filter")) => Some(StopReason::ContentFilter),
            (_, Some(other)) => Some(StopReason::Other(other.to_owned())),
            (Some("incomplete"), None) => Some(StopReason::Length),
            (_, None) => None,
        };
        let was_stream = self.started || self.text || !self.calls.is_empty();
        if !was_stream && !matches!(response.get("output"), Some(Json::Array(_))) {
            return Err(malformed("the response has no `output`"));
        }
        self.start(response, deltas);
        // What was said in pieces is not repeated, also where the ids of pieces and items differ.
        let said = self.text;
        for (index, item) in response.items_at("output").iter().enumerate() {
            if !(said && item.text_at("type") == Some("message")) {
                let key = item.text_at("id").map(str::to_owned).or_else(|| Some(index.to_string()));
                self.item(key, item, deltas)?;
            }
        }
        if let Some(usage) = response.get("usage") {
            let detail =
                |of: &str, name: &str| usage.get(of).and_then(|details| details.u64_at(name)).unwrap_or(0);
            let usage = Usage {
                input_tokens: usage.u64_at("input_tokens").unwrap_or(0),
                output_tokens: usage.u64_at("output_tokens").unwrap_or(0),
                cached_tokens: detail("input_tokens_details", "cached_tokens"),
                cache_write_tokens: 0,
                reasoning_tokens: detail("output_tokens_details", "reasoning_tokens"),
            };
            self.ending.usage(usage, deltas);
        }
        self.calls.check()?;
        self.ending.end(deltas);
        Ok(())
    }
}

/// What identifies the item of an event: its id, else its index.
fn key_of(event: &Json, item: Option<&Json>) -> Option<String> {
    let id = event.text_at("item_id").or_else(|| item.and_then(|item| item.text_at("id")));
    id.map(str::to_owned).or_else(|| event.u64_at("output_index").map(|index| index.to_string()))
}
