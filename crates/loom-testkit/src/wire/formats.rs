//! Answers in the formats of the APIs, as their servers write them.

use loom_models::{Answer, Api, Delta, ErrorKind, Json, ModelError, Part, StopReason, Usage, server};

/// How many characters of text an event has.
const PIECE_CHARS: usize = 4;

pub(super) fn whole(api: Api, answer: &Answer) -> Vec<u8> {
    match api {
        Api::Responses => response(answer, "completed", false).to_string().into_bytes(),
        Api::Anthropic => {
            let mut message = message(answer, false);
            push(
                &mut message,
                "content",
                Json::Array(answer.message.content.iter().filter_map(block).collect()),
            );
            push(&mut message, "stop_reason", anthropic_reason(&answer.stop).into());
            push(&mut message, "usage", usage("input_tokens", "output_tokens", answer.usage));
            message.to_string().into_bytes()
        }
        Api::Ollama => ollama_end(answer, Some(answer)).to_string().into_bytes(),
        _ => server::encode(&head(), answer),
    }
}

pub(super) fn stream(api: Api, answer: &Answer, bare: bool) -> Vec<u8> {
    let mut bytes = start(api, answer, bare);
    match api {
        Api::Responses => {
            let completed = [("response", response(answer, "completed", bare))];
            bytes.extend(named("response.completed", completed));
        }
        Api::Anthropic => {
            let delta = Json::object([("stop_reason", Json::from(anthropic_reason(&answer.stop)))]);
            let output =
                Json::object([("output_tokens", answer.usage.unwrap_or_default().output_tokens.into())]);
            bytes.extend(named("message_delta", [("delta", delta), ("usage", output)]));
            bytes.extend(named("message_stop", []));
        }
        Api::Ollama => bytes.extend(line(&ollama_end(answer, None))),
        _ => {
            let mut chunks = server::Chunks::new(head(), true);
            answer.usage.map(Delta::Usage).iter().for_each(|usage| {
                chunks.encode(usage);
            });
            bytes.extend(chunks.encode(&Delta::Stop { reason: answer.stop.clone() }));
        }
    }
    bytes
}

pub(super) fn failing(api: Api, answer: &Answer, failure: &ModelError) -> Vec<u8> {
    let mut bytes = start(api, answer, false);
    let body = String::from_utf8_lossy(&error(api, failure)).into_owned();
    match api {
        Api::Ollama => bytes.extend(format!("{body}\n").into_bytes()),
        Api::Anthropic => bytes.extend(format!("event: error\ndata: {body}\n\n").into_bytes()),
        Api::Responses => {
            let failed = Json::object([
                ("status", Json::from("failed")),
                (
                    "error",
                    Json::object([
                        ("code", Json::from(word(failure.kind))),
                        ("message", failure.message.as_str().into()),
                    ]),
                ),
            ]);
            bytes.extend(named("response.failed", [("response", failed)]));
        }
        _ => bytes.extend(server::error_event(failure)),
    }
    bytes
}

pub(super) fn error(api: Api, error: &ModelError) -> Vec<u8> {
    let inner =
        Json::object([("type", Json::from(word(error.kind))), ("message", error.message.as_str().into())]);
    let body = match api {
        Api::Ollama => Json::object([("error", Json::from(error.message.as_str()))]),
        Api::Anthropic => Json::object([("type", Json::from("error")), ("error", inner)]),
        _ => return server::encode_error(error).1,
    };
    body.to_string().into_bytes()
}

/// The word that Anthropic and OpenAI share, or one that OpenAI understands.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::ContextTooLong => "context_length_exceeded",
        ErrorKind::InvalidRequest => "invalid_request_error",
        _ => "api_error",
    }
}

fn head() -> server::Head {
    server::Head::new("wire-1", "wire", 1_700_000_000)
}

fn push(object: &mut Json, name: &str, value: Json) {
    if let Json::Object(properties) = object {
        properties.push((name.to_owned(), value));
    }
}

fn usage(input: &str, output: &str, usage: Option<Usage>) -> Json {
    let usage = usage.unwrap_or_default();
    Json::object([(input, Json::from(usage.input_tokens)), (output, usage.output_tokens.into())])
}

fn named<'a>(name: &'a str, properties: impl IntoIterator<Item = (&'a str, Json)>) -> Vec<u8> {
    let data = Json::object([("type", Json::from(name))].into_iter().chain(properties));
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn line(json: &Json) -> Vec<u8> {
    format!("{json}\n").into_bytes()
}

/// All events before the end.
fn start(api: Api, answer: &Answer, bare: bool) -> Vec<u8> {
    match api {
        Api::Responses => responses_items(answer, bare),
        Api::Anthropic => anthropic_blocks(answer, bare),
        Api::Ollama => ollama_lines(answer),
        _ => chat_chunks(answer, bare),
    }
}

fn chat_chunks(answer: &Answer, bare: bool) -> Vec<u8> {
    if bare {
        let choice = |delta: Json| {
            let choices = Json::Array(vec![Json::object([("delta", delta)])]);
            format!("data: {}\n\n", Json::object([("choices", choices)]))
        };
        let mut text = String::new();
        for delta in answer.deltas(PIECE_CHARS) {
            match delta {
                Delta::Text { text: piece } => {
                    text.push_str(&choice(Json::object([("content", Json::from(piece))])));
                }
                Delta::ToolCall { name, .. } => {
                    let function = Json::object([("name", Json::from(name))]);
                    let calls = Json::Array(vec![Json::object([("function", function)])]);
                    text.push_str(&choice(Json::object([("tool_calls", calls)])));
                }
                Delta::ToolArguments { fragment, .. } => {
                    let function = Json::object([("arguments", Json::from(fragment))]);
                    let calls = Json::Array(vec![Json::object([("function", function)])]);
                    text.push_str(&choice(Json::object([("tool_calls", calls)])));
                }
                _ => {}
            }
        }
        return text.into_bytes();
    }
    let mut chunks = server::Chunks::new(head(), true);
    let deltas = answer.deltas(PIECE_CHARS).into_iter();
    deltas
        .filter(|delta| !matches!(delta, Delta::Stop { .. }))
        .flat_map(|delta| chunks.encode(&delta))
        .collect()
}

fn responses_items(answer: &Answer, bare: bool) -> Vec<u8> {
    let mut bytes = if bare {
        Vec::new()
    } else {
        let created = Json::object([
            ("id", Json::from("wire-1")),
            ("model", "wire".into()),
            ("status", "in_progress".into()),
        ]);
        named("response.created", [("response", created), ("sequence_number", 0_u64.into())])
    };
    for delta in answer.deltas(PIECE_CHARS) {
        let item = |id: String| if bare { None } else { Some(("item_id", Json::from(id))) };
        match delta {
            Delta::Text { text } => {
                let delta = [("delta", Json::from(text))].into_iter().chain(item("msg".to_owned()));
                bytes.extend(named("response.output_text.delta", delta));
            }
            Delta::ToolCall { index, id, name, .. } => {
                let mut call = Json::object([
                    ("type", Json::from("function_call")),
                    ("call_id", id.unwrap_or_default().into()),
                    ("name", name.into()),
                    ("arguments", "".into()),
                ]);
                if !bare {
                    push(&mut call, "id", format!("fc_{index}").into());
                }
                bytes.extend(named("response.output_item.added", [("item", call)]));
            }
            Delta::ToolArguments { index, fragment } => {
                let delta = [("delta", Json::from(fragment))].into_iter().chain(item(format!("fc_{index}")));
                bytes.extend(named("response.function_call_arguments.delta", delta));
            }
            _ => {}
        }
    }
    bytes
}

fn response(answer: &Answer, status: &str, bare: bool) -> Json {
    let mut response = if bare {
        Json::object([("status", Json::from(status))])
    } else {
        Json::object([("id", Json::from("wire-1")), ("model", "wire".into()), ("status", status.into())])
    };
    let mut output = Vec::new();
    let text = answer.message.text();
    if !text.is_empty() {
        let part = Json::object([("type", Json::from("output_text")), ("text", text.into())]);
        let content = Json::Array(vec![part]);
        output.push(Json::object([
            ("type", Json::from("message")),
            ("id", "msg".into()),
            ("content", content),
        ]));
    }
    for (index, call) in answer.message.tool_calls().enumerate() {
        output.push(Json::object([
            ("type", Json::from("function_call")),
            ("id", format!("fc_{index}").into()),
            ("call_id", call.id.as_str().into()),
            ("name", call.name.as_str().into()),
            ("arguments", call.arguments.as_str().into()),
        ]));
    }
    if !bare || status != "completed" {
        push(&mut response, "output", Json::Array(output));
    }
    if answer.stop == StopReason::Length {
        let details = Json::object([("reason", Json::from("max_output_tokens"))]);
        push(&mut response, "incomplete_details", details);
    }
    push(&mut response, "usage", usage("input_tokens", "output_tokens", answer.usage));
    response
}

fn message(answer: &Answer, bare: bool) -> Json {
    let mut message = Json::object([("type", Json::from("message"))]);
    if !bare {
        push(&mut message, "id", "wire-1".into());
        push(&mut message, "role", "assistant".into());
        push(&mut message, "model", answer.model.as_deref().unwrap_or("wire").into());
    }
    message
}

fn block(part: &Part) -> Option<Json> {
    match part {
        Part::Text { text, .. } => {
            Some(Json::object([("type", Json::from("text")), ("text", text.as_str().into())]))
        }
        Part::ToolCall(call) => Some(Json::object([
            ("type", Json::from("tool_use")),
            ("id", call.id.as_str().into()),
            ("name", call.name.as_str().into()),
            ("input", call.arguments.parse().unwrap_or_default()),
        ])),
        _ => None,
    }
}

fn anthropic_reason(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::Length => "max_tokens",
        StopReason::ToolCalls => "tool_use",
        StopReason::Refusal => "refusal",
        _ => "end_turn",
    }
}

fn anthropic_blocks(answer: &Answer, bare: bool) -> Vec<u8> {
    let mut started = message(answer, bare);
    let input = Json::object([("input_tokens", answer.usage.unwrap_or_default().input_tokens.into())]);
    push(&mut started, "usage", input);
    let mut bytes = named("message_start", [("message", started)]);
    if !bare {
        bytes.extend(named("ping", []));
    }
    for (number, part) in answer.message.content.iter().enumerate() {
        let index = || if bare { None } else { Some(("index", Json::from(number as u64))) };
        let (block, kind, property, text) = match part {
            Part::Text { text, .. } => {
                let block = Json::object([("type", Json::from("text")), ("text", "".into())]);
                (block, "text_delta", "text", text.as_str())
            }
            Part::ToolCall(call) => {
                let block = Json::object([
                    ("type", Json::from("tool_use")),
                    ("id", call.id.as_str().into()),
                    ("name", call.name.as_str().into()),
                    ("input", Json::Object(Vec::new())),
                ]);
                (block, "input_json_delta", "partial_json", call.arguments.as_str())
            }
            _ => continue,
        };
        bytes.extend(named("content_block_start", [("content_block", block)].into_iter().chain(index())));
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(PIECE_CHARS) {
            let piece: String = piece.iter().collect();
            let delta = Json::object([("type", Json::from(kind)), (property, piece.into())]);
            bytes.extend(named("content_block_delta", [("delta", delta)].into_iter().chain(index())));
        }
        bytes.extend(named("content_block_stop", index()));
    }
    bytes
}

fn ollama_lines(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let say = |message: Json| line(&Json::object([("message", message), ("done", false.into())]));
    for delta in answer.deltas(PIECE_CHARS) {
        if let Delta::Text { text } = delta {
            bytes.extend(say(Json::object([("content", Json::from(text))])));
        }
    }
    let calls = ollama_calls(answer);
    if !calls.is_empty() {
        bytes.extend(say(Json::object([("content", Json::from("")), ("tool_calls", calls.into())])));
    }
    bytes
}

fn ollama_calls(answer: &Answer) -> Vec<Json> {
    let call = |call: &loom_models::ToolCall| {
        let arguments = call.arguments.parse().unwrap_or_default();
        let function = Json::object([("name", Json::from(call.name.as_str())), ("arguments", arguments)]);
        Json::object([("id", Json::from(call.id.as_str())), ("function", function)])
    };
    answer.message.tool_calls().map(call).collect()
}

fn ollama_end(answer: &Answer, with: Option<&Answer>) -> Json {
    let mut message = Json::object([("role", Json::from("assistant"))]);
    push(&mut message, "content", with.map(|answer| answer.message.text()).unwrap_or_default().into());
    let calls = with.map(ollama_calls).unwrap_or_default();
    if !calls.is_empty() {
        push(&mut message, "tool_calls", calls.into());
    }
    let reason = if answer.stop == StopReason::Length { "length" } else { "stop" };
    let mut end = usage("prompt_eval_count", "eval_count", answer.usage);
    push(&mut end, "model", "wire".into());
    push(&mut end, "message", message);
    push(&mut end, "done_reason", reason.into());
    push(&mut end, "done", true.into());
    end
}
