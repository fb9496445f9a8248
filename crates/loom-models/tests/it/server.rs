//! Chat completions from the other side: what clients send and what they receive, read back by the codec.

use loom_models::{
    Answer, Endpoint, ErrorKind, Head, Image, Json, Limits, Message, ModelError, OutputFormat, OutputSchema,
    Part, Request, Role, StopReason, Tool, ToolCall, ToolChoice, ToolResult, Usage, server,
};

fn answer() -> Answer {
    let mut answer = Answer::text("Hello, wörld").with_usage(Usage::new(3, 4));
    answer.message.content.push(Part::ToolCall(ToolCall::new("a", "f", r#"{"x":1}"#)));
    answer.message.content.push(Part::ToolCall(ToolCall::new("b", "g", "{}")));
    answer.stop = StopReason::ToolCalls;
    (answer.id, answer.model) = (Some("c1".to_owned()), Some("shop".to_owned()));
    answer
}

fn head() -> server::Head {
    server::Head::new("c1", "shop", 1_700_000_000)
}

#[test]
fn a_request_survives_the_codec_and_the_door() {
    let schema: Json = r#"{"type":"object","properties":{"z":{},"a":{}}}"#.parse().expect("JSON");
    let mut request = Request::new("m", Vec::new());
    let mut picture = Message::user("What?").named("Ann");
    picture.content.push(Part::Image(Image::base64("image/png", "AAAA")));
    picture.content.push(Part::Image(Image::url("https://h/a.png")));
    request.messages = vec![
        Message::system("Be brief."),
        picture,
        Message::new(Role::Assistant, vec![Part::ToolCall(ToolCall::new("t1", "f", "{}"))]),
        Message::tool(ToolResult::new("t1", "f", "rain")),
    ];
    request.tools = vec![Tool::new("f", "", schema.clone())];
    request.tool_choice = ToolChoice::Tool("f".to_owned());
    request.parallel_tool_calls = Some(true);
    request.output = OutputFormat::JsonSchema(OutputSchema::new("o", schema));
    request.sampling.max_tokens = Some(5);
    request.sampling.temperature = Some(0.5);
    request.sampling.stop = vec!["END".to_owned()];
    request.sampling.seed = Some(-7);
    request.extra.insert("metadata".to_owned(), r#"{"k":"v"}"#.parse().expect("JSON"));
    for endpoint in [Endpoint::openai(), Endpoint::compatible("http://h")] {
        for stream in [false, true] {
            let http = endpoint.encode(&request, stream).expect("it can be sent");
            let asked = server::decode(&http.body, 1 << 20).expect("it can be read");
            assert_eq!(asked.request, request);
            assert_eq!((asked.stream, asked.include_usage), (stream, stream));
        }
    }
}

#[test]
fn an_answer_survives_the_door_and_the_codec() {
    let mut expected = answer();
    let body = server::encode(&head(), &expected);
    let json = Head::new(200, [("content-type", "application/json")]);
    let found = Endpoint::openai().decode(json, &body, Limits::default(), 0).expect("it is an answer");
    assert_eq!(found, expected);

    for include_usage in [true, false] {
        let mut chunks = server::Chunks::new(head(), include_usage);
        let bytes: Vec<u8> = expected.deltas(3).iter().flat_map(|delta| chunks.encode(delta)).collect();
        let (_, found) = crate::streams::decode(&Endpoint::openai(), &[&bytes]).expect("it is a stream");
        expected.usage = expected.usage.filter(|_| include_usage);
        assert_eq!(found, expected);
    }
}

#[test]
fn every_stop_reason_has_a_word_of_the_api() {
    for (stop, word) in [
        (StopReason::Stop, "stop"),
        (StopReason::StopSequence("x".to_owned()), "stop"),
        (StopReason::Length, "length"),
        (StopReason::Cancelled, "length"),
        (StopReason::ContentFilter, "content_filter"),
        (StopReason::Other("weird".to_owned()), "weird"),
        (StopReason::Other("error".to_owned()), "stop"),
    ] {
        let mut answer = Answer::text("Hi");
        answer.stop = stop;
        let body = String::from_utf8(server::encode(&head(), &answer)).expect("JSON is UTF-8");
        assert!(body.contains(&format!(r#""finish_reason":"{word}""#)), "{body}");
    }
    let mut refusal = Answer::text("No");
    refusal.stop = StopReason::Refusal;
    let body = String::from_utf8(server::encode(&head(), &refusal)).expect("JSON is UTF-8");
    assert!(body.contains(r#""content":null,"refusal":"No""#), "{body}");
}

#[test]
fn wrong_requests_are_refused_by_the_name_of_the_property() {
    for (body, message) in [
        ("[]", "the request must be a JSON object"),
        ("{}", "`model` is missing"),
        (r#"{"model":1}"#, "`model` must be a string, found a number"),
        (r#"{"model":"m"}"#, "`messages` must be an array with at least one message"),
        (r#"{"model":"m","messages":[]}"#, "`messages` must be an array with at least one message"),
        (r#"{"model":"m","messages":[{"content":"a"}]}"#, "`messages[0].role` is missing"),
        (
            r#"{"model":"m","messages":[{"role":"boss"}]}"#,
            "`messages[0].role` must be `system`, `developer`, `user`, `assistant` or `tool` (got boss)",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
            "`messages[0].content` must be a string or an array of parts, found a number",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio"}]}]}"#,
            "`messages[0].content[0].type` must be `text` or `image_url` (got input_audio)",
        ),
        (
            r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#,
            "`messages[0].tool_call_id` is missing",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"n":2}"#,
            "`n` must be 1: there is one answer to a request",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"stop":1}"#,
            "`stop` must be a string or an array of strings, found a number",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":-1}"#,
            "`max_tokens` must be an integer from 0 to 4294967295 (got -1)",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{}]}"#,
            "`tools[0].function.name` is missing",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tool_choice":"any"}"#,
            "`tool_choice` must be `auto`, `none`, `required` or a function (got any)",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"xml"}}"#,
            "`response_format.type` must be `text`, `json_object` or `json_schema`",
        ),
    ] {
        let error = server::decode(body.as_bytes(), 1 << 20).expect_err("it is wrong");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::InvalidRequest, message));
    }
    let error = server::decode(b"{\"model\":", 1 << 20).expect_err("it is cut");
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(server::decode(b"{}", 1).expect_err("it is too large").kind, ErrorKind::RequestTooLarge);
}

#[test]
fn errors_keep_their_kind_through_the_door() {
    use ErrorKind as K;
    for kind in [
        K::RateLimited,
        K::Overloaded,
        K::Server,
        K::Timeout,
        K::QuotaExhausted,
        K::ContextTooLong,
        K::ContentFilter,
        K::Authentication,
        K::PermissionDenied,
        K::NotFound,
        K::RequestTooLarge,
        K::InvalidRequest,
    ] {
        let (status, body) = server::encode_error(&ModelError::new(kind, "why"));
        let error = loom_models::error_of(&Head::new::<&str, &str>(status, []), &body, 0);
        assert_eq!((error.kind, error.message.as_str()), (kind, "why"));
    }
    let mut stream = server::Chunks::new(head(), true).encode(&answer().deltas(9)[0]);
    stream.extend(server::error_event(&ModelError::new(K::Overloaded, "later")));
    let error = crate::streams::decode(&Endpoint::openai(), &[&stream]).expect_err("it fails");
    assert_eq!(error.kind, K::Overloaded);
}
