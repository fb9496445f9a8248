//! Streams of all APIs, cut at every byte, with missing members, errors in the middle, and without their end.

use loom_models::{
    Accumulator, Answer, Decoder, Delta, Endpoint, ErrorKind, Head, Limits, ModelError, StopReason, Usage,
};

fn head(endpoint: &Endpoint) -> Head {
    let kind =
        if endpoint.api == loom_models::Api::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    Head::new(200, [("content-type", kind)])
}

/// Decodes a body that arrives in these chunks.
pub(crate) fn decode(endpoint: &Endpoint, chunks: &[&[u8]]) -> Result<(Vec<Delta>, Answer), ModelError> {
    let mut decoder = Decoder::new(endpoint, head(endpoint), Limits::default(), 0);
    let mut deltas = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk, &mut deltas)?;
    }
    decoder.finish(&mut deltas)?;
    let mut accumulator = Accumulator::default();
    accumulator.extend(&deltas);
    Ok((deltas, accumulator.finish()?))
}

/// Decodes a stream whole, cut at every byte, and byte by byte, all with one result. Also checks that every proper prefix
/// that lacks the end mark is a failure, whatever of the answer it has.
fn check(endpoint: &Endpoint, stream: &str, end_mark: &str) -> (Vec<Delta>, Answer) {
    let bytes = stream.as_bytes();
    let expected = decode(endpoint, &[bytes]).expect("the stream is valid");
    for cut in 0..=bytes.len() {
        let (one, two) = bytes.split_at(cut);
        let found = decode(endpoint, &[one, two]).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(found, expected, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(endpoint, &single).expect("the stream is valid"), expected);
    let windows = stream.replace("\r\n", "\n").replace('\n', "\r\n");
    assert_eq!(decode(endpoint, &[windows.as_bytes()]).expect("the stream is valid"), expected, "CRLF");

    let complete = stream.find(end_mark).expect("the stream has its end mark") + end_mark.len();
    for cut in 0..complete {
        let error = decode(endpoint, &[&bytes[..cut]]).expect_err("a prefix is not an answer");
        assert_eq!(error.kind, ErrorKind::Truncated, "cut at {cut}: {error}");
    }
    let mut announced = Vec::new();
    for delta in &expected.0 {
        match delta {
            Delta::ToolCall { index, .. } => announced.push(*index),
            Delta::ToolArguments { index, .. } => {
                assert!(announced.contains(index), "arguments precede their call");
            }
            _ => {}
        }
    }
    let ends = expected.0.iter().filter(|delta| matches!(delta, Delta::Stop { .. })).count();
    assert_eq!(ends, 1);
    assert!(matches!(expected.0.last(), Some(Delta::Stop { .. })), "the end is the last delta");
    expected
}

fn fails(endpoint: &Endpoint, stream: &str) -> ModelError {
    let bytes = stream.as_bytes();
    let expected = decode(endpoint, &[bytes]).expect_err("the stream fails");
    for cut in 0..=bytes.len() {
        let (one, two) = bytes.split_at(cut);
        assert_eq!(decode(endpoint, &[one, two]), Err(expected.clone()), "cut at {cut}");
    }
    expected
}

fn local() -> Endpoint {
    Endpoint::compatible("http://127.0.0.1:8080/v1")
}

fn usage(input: u64, output: u64, cached: u64) -> Usage {
    let mut usage = Usage::new(input, output);
    usage.cached_tokens = cached;
    usage
}

/// Captured from llama.cpp's server, with short ids.
const CHAT: &str = r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hello"}}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":", wörld 🌍"}}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}

data: {"choices":[],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":6,"prompt_tokens":32,"total_tokens":38,"prompt_tokens_details":{"cached_tokens":5}}}

data: [DONE]

"#;

#[test]
fn chat_completions_as_captured() {
    let (deltas, answer) = check(&local(), CHAT, "[DONE]");
    assert_eq!(answer.message.text(), "Hello, wörld 🌍");
    assert_eq!(answer.stop, StopReason::Length);
    assert_eq!(answer.usage, Some(usage(32, 6, 5)));
    assert_eq!((answer.id.as_deref(), answer.model.as_deref()), (Some("c1"), Some("m")));
    assert_eq!(deltas.len(), 5, "start, two texts, usage, stop");
}

#[test]
fn chat_completions_with_parallel_tool_calls() {
    let stream = r#"data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}],"obfuscation":"x"}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"time","arguments":"{}"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Köln\"}"}}]}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]

"#;
    let (_, answer) = check(&local(), stream, "[DONE]");
    let calls: Vec<_> = answer.message.tool_calls().collect();
    assert_eq!((calls[0].id.as_str(), calls[0].arguments.as_str()), ("a", r#"{"city":"Köln"}"#));
    assert_eq!((calls[1].name.as_str(), calls[1].arguments.as_str()), ("time", "{}"));
    assert_eq!((calls.len(), &answer.stop, answer.usage), (2, &StopReason::ToolCalls, None));
}

#[test]
fn chat_completions_of_peers_that_number_no_calls_or_all_alike() {
    for index in ["", r#""index":0,"#] {
        let call = |id: &str, name: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{{index}\"id\":\"{id}\",\"function\":{{\"name\":\"{name}\",\"arguments\":\"{{}}\"}}}}]}}}}]}}\n\n"
            )
        };
        let stream = format!(
            "{}{}data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n",
            call("a", "one"),
            call("b", "two")
        );
        let (_, answer) = check(&local(), &stream, "[DONE]");
        let names: Vec<&str> = answer.message.tool_calls().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(answer.stop, StopReason::ToolCalls, "a peer that says `stop` after calls means the calls");
    }
}

#[test]
fn calls_without_ids_get_their_own() {
    let stream = r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"one","arguments":{"a":1}}},{"index":1,"function":{"name":"two"}}]}}]}

data: [DONE]
"#;
    let (_, answer) = check(&local(), stream, "[DONE]");
    let calls: Vec<_> = answer.message.tool_calls().collect();
    assert_ne!(calls[0].id, calls[1].id);
    assert!(!calls[0].id.is_empty() && !calls[1].id.is_empty());
    assert_eq!(calls[0].arguments, r#"{"a":1}"#, "an object instead of a string is accepted");
    assert!(calls[1].parsed().is_ok(), "no arguments are an empty object");
}

#[test]
fn chat_completions_with_reasoning_in_either_spelling() {
    for name in ["reasoning_content", "reasoning"] {
        let stream = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"{name}\":\"Hm\"}}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{{\"{name}\":\"m.\",\"content\":\"\"}}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"4\"}},\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\ndata: [DONE]\n\n"
        );
        let (_, answer) = check(&local(), &stream, "[DONE]");
        assert_eq!((answer.message.reasoning().as_str(), answer.message.text().as_str()), ("Hmm.", "4"));
        assert_eq!(answer.usage, None, "what a peer does not say is unknown, not zero");
    }
}

#[test]
fn chat_completions_with_a_refusal_and_with_parts() {
    let stream = "data: {\"choices\":[{\"delta\":{\"refusal\":\"I cannot\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let (_, answer) = check(&local(), stream, "[DONE]");
    assert_eq!((answer.stop, answer.message.content.len()), (StopReason::Refusal, 1));

    let stream = r#"data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"So"}]},{"type":"text","text":"Yes"}]}}]}

data: [DONE]
"#;
    let (_, answer) = check(&local(), stream, "[DONE]");
    assert_eq!((answer.message.reasoning().as_str(), answer.message.text().as_str()), ("So", "Yes"));
}

#[test]
fn a_finish_reason_is_the_end_only_where_the_dialect_says_so() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(fails(&local(), stream).kind, ErrorKind::Truncated);
    let mut endpoint = local();
    endpoint.dialect.done_mark = false;
    assert_eq!(decode(&endpoint, &[stream.as_bytes()]).expect("it ended").1.message.text(), "Hi");
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n";
    assert_eq!(fails(&endpoint, cut).kind, ErrorKind::Truncated);
}

#[test]
fn chat_completions_fail_in_mid_stream() {
    let start = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    for (event, kind) in [
        (r#"data: {"error":{"message":"m","type":"server_error","code":null}}"#, ErrorKind::Server),
        (r#"data: {"error":{"message":"m","type":"overloaded_error"}}"#, ErrorKind::Overloaded),
        (r#"data: {"error":{"code":429,"message":"m"}}"#, ErrorKind::RateLimited),
        (r#"error: {"code":500,"message":"m","type":"server_error"}"#, ErrorKind::Server),
        ("event: error\ndata: broken", ErrorKind::Malformed),
        (r#"data: {"choices":[{"delta":{},"finish_reason":"error"}]}"#, ErrorKind::Server),
        (r#"data: {"choices":[{"delta":{},"error":{"message":"m","code":502}}]}"#, ErrorKind::Server),
        ("data: not json", ErrorKind::Malformed),
        (
            r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{}}]}}]}"#,
            ErrorKind::Malformed,
        ),
    ] {
        let error = fails(&local(), &format!("{start}{event}\n\ndata: [DONE]\n\n"));
        assert_eq!(error.kind, kind, "{event}");
        assert_eq!(error.status, None);
    }
    assert_eq!(
        fails(&local(), "data: [DONE]\n\n").kind,
        ErrorKind::Malformed,
        "an end mark without any chunk"
    );
}

/// Captured from llama.cpp's server, with short ids; without `sequence_number`, which it omits.
const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","model":"m"}}

event: response.output_item.added
data: {"type":"response.output_item.added","item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1","delta":"Hello"}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1","delta":" ö"}

event: response.output_text.done
data: {"type":"response.output_text.done","item_id":"msg_1","text":"Hello ö"}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","model":"m","output":[{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hello ö","annotations":[]}]}],"usage":{"input_tokens":32,"output_tokens":6,"total_tokens":38,"input_tokens_details":{"cached_tokens":5}}}}

"#;

#[test]
fn responses_as_captured() {
    let (_, answer) = check(&Endpoint::openai_responses(), RESPONSES, r#""cached_tokens":5}}}}"#);
    assert_eq!(answer.message.text(), "Hello ö", "the last event repeats the text, which is not said twice");
    assert_eq!((answer.stop, answer.usage), (StopReason::Stop, Some(usage(32, 6, 5))));
    assert_eq!(answer.id.as_deref(), Some("resp_1"));
}

#[test]
fn responses_with_reasoning_and_a_call() {
    let stream = r#"data: {"type":"response.created","response":{"id":"r","model":"m"},"sequence_number":0}

data: {"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"delta":"Think"}

data: {"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Think"}],"encrypted_content":"e"}}

data: {"type":"response.output_item.added","output_index":1,"item":{"id":"fc_1","type":"function_call","call_id":"call_a","name":"weather","arguments":""}}

data: {"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"{\"city\":"}

data: {"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"\"Ulm\"}"}

data: {"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":1,"arguments":"{\"city\":\"Ulm\"}"}

data: {"type":"response.output_item.done","output_index":1,"item":{"id":"fc_1","type":"function_call","call_id":"call_a","name":"weather","arguments":"{\"city\":\"Ulm\"}"}}

data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"e"},{"id":"fc_1","type":"function_call","call_id":"call_a","name":"weather","arguments":"{\"city\":\"Ulm\"}"}],"usage":{"input_tokens":1,"output_tokens":9,"output_tokens_details":{"reasoning_tokens":4}}}}

"#;
    let (_, answer) = check(&Endpoint::openai_responses(), stream, r#""reasoning_tokens":4}}}}"#);
    let calls: Vec<_> = answer.message.tool_calls().collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].id.as_str(), calls[0].arguments.as_str()), ("call_a", r#"{"city":"Ulm"}"#));
    assert_eq!(answer.message.content.len(), 2);
    let loom_models::Part::Reasoning(reasoning) = &answer.message.content[0] else {
        panic!("reasoning is first")
    };
    assert_eq!((reasoning.text.as_str(), reasoning.encrypted.as_deref()), ("Think", Some("e")));
    assert_eq!(answer.usage.expect("it is there").reasoning_tokens, 4);
    assert_eq!(answer.stop, StopReason::ToolCalls);
}

#[test]
fn responses_whose_pieces_lack_their_ids() {
    let stream = r#"data: {"type":"response.output_item.added","item":{"type":"function_call","call_id":"a","name":"one","arguments":""}}

data: {"type":"response.function_call_arguments.delta","delta":"{}"}

data: {"type":"response.output_text.delta","delta":"Hi"}

data: {"type":"response.completed","response":{"output":[{"type":"function_call","call_id":"a","name":"one","arguments":"{}"},{"type":"message","id":"x","content":[{"type":"output_text","text":"Hi"}]}]}}

"#;
    let (_, answer) = check(&Endpoint::openai_responses(), stream, r#""text":"Hi"}]}]}}"#);
    assert_eq!(answer.message.text(), "Hi");
    assert_eq!(answer.message.tool_calls().map(|call| call.arguments.as_str()).collect::<Vec<_>>(), ["{}"]);
}

#[test]
fn responses_whose_call_is_named_last() {
    let stream = r#"data: {"type":"response.function_call_arguments.delta","item_id":"fc","delta":"{\"a\""}

data: {"type":"response.function_call_arguments.done","item_id":"fc","arguments":"{\"a\":1}"}

data: {"type":"response.output_item.done","item":{"id":"fc","type":"function_call","call_id":"a","name":"one","arguments":"{\"a\":1}"}}

data: {"type":"response.completed","response":{"status":"completed"}}

"#;
    let (_, answer) = check(&Endpoint::openai_responses(), stream, r#""completed"}}"#);
    let calls: Vec<_> =
        answer.message.tool_calls().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("one", r#"{"a":1}"#)]);
}

#[test]
fn responses_that_only_have_their_last_event() {
    let last = RESPONSES.split("\n\n").nth(5).expect("there are six events");
    let (_, answer) =
        check(&Endpoint::openai_responses(), &format!("{last}\n\n"), r#""cached_tokens":5}}}}"#);
    assert_eq!(answer.message.text(), "Hello ö");
}

#[test]
fn responses_that_do_not_complete() {
    let start = "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"Hi\"}\n\n";
    for (reason, stop) in
        [("max_output_tokens", StopReason::Length), ("content_filter", StopReason::ContentFilter)]
    {
        let last = format!(
            "data: {{\"type\":\"response.incomplete\",\"response\":{{\"status\":\"incomplete\",\"incomplete_details\":{{\"reason\":\"{reason}\"}},\"output\":[]}}}}\n\n"
        );
        let (_, answer) = check(&Endpoint::openai_responses(), &format!("{start}{last}"), "[]}}");
        assert_eq!((answer.stop, answer.message.text().as_str()), (stop, "Hi"));
    }
    for (event, kind) in [
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"}}}"#,
            ErrorKind::Server,
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"type":"error","code":"context_length_exceeded","message":"m","param":null}"#,
            ErrorKind::ContextTooLong,
        ),
        (r#"{"type":"error","error":{"type":"server_error","message":"m"}}"#, ErrorKind::Server),
    ] {
        assert_eq!(
            fails(&Endpoint::openai_responses(), &format!("{start}data: {event}\n\n")).kind,
            kind,
            "{event}"
        );
    }
}

/// Captured from llama.cpp's server, with short ids.
const ANTHROPIC: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"c2","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"cache_read_input_tokens":0,"input_tokens":32,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":4}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn anthropic_as_captured() {
    let (_, answer) = check(&Endpoint::anthropic(), ANTHROPIC, r#"data: {"type":"message_stop"}"#);
    assert_eq!((answer.message.text().as_str(), answer.stop), ("Hello", StopReason::Length));
    assert_eq!(answer.usage, Some(usage(32, 4, 0)));
    assert_eq!((answer.id.as_deref(), answer.model.as_deref()), (Some("c2"), Some("m")));
}

#[test]
fn anthropic_with_thinking_calls_caches_and_unknown_blocks() {
    let stream = r#"data: {"type":"message_start","message":{"usage":{"input_tokens":3,"cache_creation_input_tokens":10,"cache_read_input_tokens":20,"output_tokens":1}}}

data: {"type":"content_block_start","content_block":{"type":"thinking","thinking":""}}

data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"Hm"}}

data: {"type":"content_block_delta","delta":{"type":"signature_delta","signature":"s1"}}

data: {"type":"content_block_delta","delta":{"type":"signature_delta","signature":"s2"}}

data: {"type":"content_block_stop"}

data: {"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"d"}}

data: {"type":"content_block_stop"}

data: {"type":"content_block_start","content_block":{"type":"server_tool_use","id":"x","name":"web_search","input":{}}}

data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}

data: {"type":"content_block_stop"}

data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"t1","name":"weather","input":{}}}

data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":""}}

data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}

data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"\"Ulm\"}"}}

data: {"type":"content_block_stop"}

data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"t2","name":"now","input":{}}}

data: {"type":"content_block_stop"}

data: {"type":"later_event","index":7}

data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}

data: {"type":"message_stop"}

"#;
    let (_, answer) = check(&Endpoint::anthropic(), stream, r#"{"type":"message_stop"}"#);
    let calls: Vec<_> =
        answer.message.tool_calls().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("t1", r#"{"city":"Ulm"}"#), ("t2", "{}")]);
    let mut expected = Usage::new(33, 9);
    (expected.cached_tokens, expected.cache_write_tokens) = (20, 10);
    assert_eq!(answer.usage, Some(expected));
    let loom_models::Part::Reasoning(first) = &answer.message.content[0] else { panic!("it thinks first") };
    assert_eq!((first.text.as_str(), first.signature.as_deref()), ("Hm", Some("s1s2")));
    let loom_models::Part::Reasoning(second) = &answer.message.content[1] else { panic!("then it hides") };
    assert_eq!(second.encrypted.as_deref(), Some("d"));
}

#[test]
fn anthropic_fails_in_mid_stream() {
    let start = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\n";
    for (body, kind) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ErrorKind::Overloaded,
        ),
        (r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#, ErrorKind::Server),
        (r#"{"type":"error"}"#, ErrorKind::Server),
    ] {
        assert_eq!(
            fails(&Endpoint::anthropic(), &format!("{start}event: error\ndata: {body}\n\n")).kind,
            kind
        );
        assert_eq!(
            fails(&Endpoint::anthropic(), &format!("{start}data: {body}\n\n")).kind,
            kind,
            "without a name"
        );
    }
}

const OLLAMA: &str = r#"{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}
{"model":"m","message":{"role":"assistant","content":"Hällo"},"done":false}
{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Ulm","days":2}}},{"function":{"name":"weather","arguments":{"city":"Bonn"}}}]},"done":false}
{"model":"m","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":5,"prompt_eval_count":32,"eval_count":6}
"#;

#[test]
fn ollama_with_thinking_and_calls() {
    let (_, answer) = check(&Endpoint::ollama(), OLLAMA, r#""eval_count":6}"#);
    assert_eq!((answer.message.reasoning().as_str(), answer.message.text().as_str()), ("Hm", "Hällo"));
    let calls: Vec<_> = answer.message.tool_calls().map(|call| call.arguments.as_str()).collect();
    assert_eq!(calls, [r#"{"city":"Ulm","days":2}"#, r#"{"city":"Bonn"}"#]);
    assert_eq!((answer.stop, answer.usage), (StopReason::ToolCalls, Some(usage(32, 6, 0))));
}

#[test]
fn ollama_fails_in_mid_stream_and_omits_members() {
    let start = "{\"message\":{\"content\":\"Hi\"}}\n";
    assert_eq!(
        fails(&Endpoint::ollama(), &format!("{start}{{\"error\":\"an error was encountered\"}}\n")).kind,
        ErrorKind::Server
    );
    assert_eq!(fails(&Endpoint::ollama(), start).kind, ErrorKind::Truncated);
    let (_, answer) = check(&Endpoint::ollama(), &format!("{start}{{\"done\":true}}"), "true}");
    assert_eq!((answer.message.text().as_str(), answer.usage), ("Hi", None));
}

#[test]
fn an_answer_and_its_error_have_bounds() {
    let mut limits = Limits::default();
    limits.response_bytes_max = 100;
    let mut decoder = Decoder::new(&local(), head(&local()), limits, 0);
    let mut deltas = Vec::new();
    let error = decoder.feed(CHAT.as_bytes(), &mut deltas).expect_err("it is larger");
    assert_eq!(error.to_string(), "the answer is too large: the response exceeds 100 bytes");
    assert_eq!(decoder.feed(b"", &mut deltas), Err(error.clone()), "a failure is final");
    assert_eq!(decoder.finish(&mut deltas), Err(error));

    limits.error_bytes_max = 10;
    let mut decoder = Decoder::new(&local(), Head::new(500, [("a", "b")]), limits, 0);
    for _ in 0..50 {
        decoder.feed(b"long body ", &mut deltas).expect("the body of an error is cut");
    }
    let error = decoder.finish(&mut deltas).expect_err("it is an error");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Server, "long body"));

    let calls: String = (0..300).fold(String::new(), |calls, index| {
        calls + &format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":{index},\"id\":\"c{index}\",\"function\":{{\"name\":\"f\"}}}}]}}}}]}}\n\n")
    });
    assert_eq!(fails_once(&calls).kind, ErrorKind::AnswerTooLarge);
}

fn fails_once(stream: &str) -> ModelError {
    decode(&local(), &[stream.as_bytes()]).expect_err("the stream fails")
}

#[test]
fn a_page_where_a_stream_should_be_is_malformed() {
    for endpoint in [local(), Endpoint::openai_responses(), Endpoint::anthropic(), Endpoint::ollama()] {
        let head = Head::new(200, [("content-type", "text/html; charset=utf-8")]);
        let mut decoder = Decoder::new(&endpoint, head, Limits::default(), 0);
        decoder.feed(b"<html>Sign in</html>", &mut Vec::new()).expect("it waits for the whole");
        let error = decoder.finish(&mut Vec::new()).expect_err("it is a page");
        assert_eq!(error.kind, ErrorKind::Malformed);
    }
}

#[test]
fn what_follows_the_end_is_ignored_and_a_cancelled_answer_keeps_its_part() {
    let more = format!("{CHAT}data: {{\"choices\":[{{\"delta\":{{\"content\":\"more\"}}}}]}}\n\n");
    assert_eq!(decode(&local(), &[more.as_bytes()]).expect("it ended").1.message.text(), "Hello, wörld 🌍");
    let mut decoder = Decoder::new(&local(), head(&local()), Limits::default(), 0);
    let mut deltas = Vec::new();
    let cut = CHAT.find(", wörld").expect("it is there");
    decoder.feed(&CHAT.as_bytes()[..cut], &mut deltas).expect("it is a stream");
    assert!(!decoder.is_done());
    let mut accumulator = Accumulator::default();
    accumulator.extend(&deltas);
    let answer = accumulator.cancelled();
    assert_eq!((answer.message.text().as_str(), answer.stop), ("Hello", StopReason::Cancelled));
}

#[test]
fn a_whole_answer_where_a_stream_was_asked_for() {
    let body = br#"{"id":"c","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let head = Head::new(200, [("Content-Type", "application/json; charset=utf-8")]);
    for cut in 0..body.len() {
        let mut decoder = Decoder::new(&local(), head.clone(), Limits::default(), 0);
        let mut deltas = Vec::new();
        decoder.feed(&body[..cut], &mut deltas).expect("it waits for the whole");
        decoder.feed(&body[cut..], &mut deltas).expect("it waits for the whole");
        decoder.finish(&mut deltas).expect("it is whole");
        assert!(deltas.contains(&Delta::Text { text: "Hi".to_owned() }));
    }
    let mut decoder = Decoder::new(&local(), head, Limits::default(), 0);
    decoder.feed(&body[..30], &mut Vec::new()).expect("it waits for the whole");
    assert_eq!(decoder.finish(&mut Vec::new()).expect_err("it is cut").kind, ErrorKind::Truncated);
}
