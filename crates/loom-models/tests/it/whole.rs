//! Answers that arrive whole, of all APIs.

use loom_models::{Answer, Endpoint, ErrorKind, Head, Limits, ModelError, StopReason, ToolCall, Usage};

fn decode(endpoint: &Endpoint, body: &str) -> Result<Answer, ModelError> {
    let head = Head::new(200, [("content-type", "application/json")]);
    let answer = endpoint.decode(head, body.as_bytes(), Limits::default(), 0);
    // A peer that does not say what it sends is understood too.
    let bare = endpoint.decode(Head::new::<&str, &str>(200, []), body.as_bytes(), Limits::default(), 0);
    assert_eq!(bare, answer);
    answer
}

#[test]
fn chat_completions() {
    let answer = decode(
        &Endpoint::openai(),
        r#"{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null,"annotations":[],"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"},"extra_content":{"google":{"thought_signature":"s"}}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":5}},"service_tier":"default"}"#,
    )
    .expect("it is an answer");
    assert_eq!(answer.message.text(), "Hi");
    let call = answer.message.tool_calls().next().expect("there is one");
    assert_eq!((call.id.as_str(), call.arguments.as_str()), ("a", r#"{"x":1}"#));
    assert_eq!(
        call.extra.as_ref().expect("it is kept").to_string(),
        r#"{"google":{"thought_signature":"s"}}"#
    );
    let mut usage = Usage::new(9, 12);
    (usage.cached_tokens, usage.reasoning_tokens) = (3, 5);
    assert_eq!((answer.usage, answer.model.as_deref()), (Some(usage), Some("m-1")));
}

#[test]
fn responses() {
    let body = r#"{"id":"r","object":"response","status":"completed","model":"m","output":[{"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}]},{"type":"web_search_call","id":"ws"},{"type":"message","id":"msg","role":"assistant","content":[{"type":"output_text","text":"Hi"}]},{"type":"function_call","id":"fc","call_id":"a","name":"f","arguments":"{}"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}"#;
    let answer = decode(&Endpoint::openai_responses(), body).expect("it is an answer");
    assert_eq!((answer.message.text().as_str(), answer.message.reasoning().as_str()), ("Hi", "a\n\nb"));
    assert_eq!((answer.stop, answer.usage), (StopReason::ToolCalls, Some(Usage::new(1, 2))));
    let waits = decode(&Endpoint::openai_responses(), r#"{"status":"queued","output":[]}"#);
    assert_eq!(waits.expect_err("it is not an answer").kind, ErrorKind::Malformed);
    let refusal = r#"{"output":[{"type":"message","content":[{"type":"refusal","refusal":"No"}]}]}"#;
    let answer = decode(&Endpoint::openai_responses(), refusal).expect("it is an answer");
    assert_eq!((answer.message.text().as_str(), answer.stop), ("No", StopReason::Refusal));
}

#[test]
fn anthropic() {
    let body = r#"{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"t","name":"f","input":{"b":1,"a":2}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":6}}"#;
    let answer = decode(&Endpoint::anthropic(), body).expect("it is an answer");
    let calls: Vec<&ToolCall> = answer.message.tool_calls().collect();
    assert_eq!(calls, [&ToolCall::new("t", "f", r#"{"b":1,"a":2}"#)]);
    assert_eq!((answer.stop, answer.usage), (StopReason::ToolCalls, Some(Usage::new(5, 6))));
    for (reason, stop) in [
        ("end_turn", StopReason::Stop),
        ("stop_sequence", StopReason::StopSequence("END".to_owned())),
        ("pause_turn", StopReason::Pause),
        ("refusal", StopReason::Refusal),
        ("model_context_window_exceeded", StopReason::ContextFull),
        ("later", StopReason::Other("later".to_owned())),
    ] {
        let body = format!(r#"{{"content":[],"stop_reason":"{reason}","stop_sequence":"END"}}"#);
        assert_eq!(decode(&Endpoint::anthropic(), &body).expect("it is an answer").stop, stop);
    }
}

#[test]
fn ollama() {
    let body = r#"{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"length","prompt_eval_count":3.0,"eval_count":4}"#;
    let answer = decode(&Endpoint::ollama(), body).expect("it is an answer");
    assert_eq!((answer.stop, answer.usage), (StopReason::Length, Some(Usage::new(3, 4))));
    let error = decode(&Endpoint::ollama(), r#"{"message":{"content":"Hi"}}"#).expect_err("it is not done");
    assert_eq!(error.kind, ErrorKind::Truncated);
}

#[test]
fn what_is_not_an_answer() {
    for endpoint in [Endpoint::openai(), Endpoint::openai_responses(), Endpoint::anthropic()] {
        let kind = |body: &str| decode(&endpoint, body).expect_err("it is not an answer").kind;
        assert_eq!(kind("{}"), ErrorKind::Malformed);
        assert_eq!(kind(r#"{"error":{"type":"overloaded_error","message":"m"}}"#), ErrorKind::Overloaded);
        assert_eq!(
            kind(r#"{"error":{"type":"invalid_request_error","message":"m","code":"model_not_found"}}"#),
            ErrorKind::NotFound
        );
        let head = Head::new(200, [("content-type", "application/json")]);
        let cut = endpoint.decode(head.clone(), br#"{"id":"#, Limits::default(), 0);
        assert_eq!(cut.expect_err("it is cut").kind, ErrorKind::Truncated);
        let html = endpoint.decode(head, b"<html>", Limits::default(), 0);
        assert_eq!(html.expect_err("it is a page").kind, ErrorKind::Malformed);
    }
    let empty =
        decode(&Endpoint::openai(), r#"{"choices":[{"message":{}}]}"#).expect("an empty answer is one");
    assert_eq!((empty.message.content.len(), empty.stop), (0, StopReason::Stop));
}
