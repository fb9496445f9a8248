//! Requests of all APIs, as the bytes that are sent.

use loom_models::{
    Endpoint, ErrorKind, Image, Json, Message, OutputFormat, OutputSchema, Part, Reasoning, ReasoningEffort,
    Request, Role, Tool, ToolCall, ToolChoice, ToolResult,
};

/// A conversation with everything that all APIs have.
fn request() -> Request {
    let schema: Json = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}"#
        .parse()
        .expect("JSON");
    let mut request = Request::new("m", Vec::new());
    request.messages = vec![
        Message::system("Be brief."),
        Message::user("Weather?"),
        Message::new(
            Role::Assistant,
            vec![
                Part::text("I ask."),
                Part::ToolCall(ToolCall::new("t1", "weather", r#"{"z":"Ulm"}"#)),
                Part::ToolCall(ToolCall::new("t2", "time", "")),
            ],
        ),
        Message::tool(ToolResult::new("t1", "weather", "rain")),
        Message::tool(ToolResult::failed("t2", "time", "no clock")),
    ];
    request.tools = vec![Tool::new("weather", "The weather", schema.clone())];
    request.output = OutputFormat::JsonSchema(OutputSchema::new("answer", schema));
    request.sampling.max_tokens = Some(50);
    request.sampling.temperature = Some(0.0);
    request
}

fn body(endpoint: &Endpoint, request: &Request, stream: bool) -> String {
    let http = endpoint.encode(request, stream).expect("the API can express it");
    assert_eq!(http.method, "POST");
    String::from_utf8(http.body).expect("JSON is UTF-8")
}

const SCHEMA: &str = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}"#;

#[test]
fn chat_completions() {
    let messages = |system: &str| {
        format!(
            r#"[{{"role":"{system}","content":"Be brief."}},{{"role":"user","content":"Weather?"}},{{"role":"assistant","content":"I ask.","tool_calls":[{{"id":"t1","type":"function","function":{{"name":"weather","arguments":"{{\"z\":\"Ulm\"}}"}}}},{{"id":"t2","type":"function","function":{{"name":"time","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"t1","content":"rain"}},{{"role":"tool","tool_call_id":"t2","content":"no clock"}}]"#
        )
    };
    let rest = format!(
        r#""temperature":0.0,"tools":[{{"type":"function","function":{{"name":"weather","description":"The weather","parameters":{SCHEMA}}}}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"answer","schema":{SCHEMA},"strict":true}}}}"#
    );
    assert_eq!(
        body(&Endpoint::openai(), &request(), true),
        format!(
            r#"{{"model":"m","messages":{},"max_completion_tokens":50,{rest},"stream":true,"stream_options":{{"include_usage":true}}}}"#,
            messages("developer")
        )
    );
    assert_eq!(
        body(&Endpoint::compatible("http://h/v1"), &request(), false),
        format!(r#"{{"model":"m","messages":{},"max_tokens":50,{rest}}}"#, messages("system"))
    );
}

#[test]
fn responses() {
    assert_eq!(
        body(&Endpoint::openai_responses(), &request(), true),
        format!(
            r#"{{"model":"m","instructions":"Be brief.","input":[{{"type":"message","role":"user","content":[{{"type":"input_text","text":"Weather?"}}]}},{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":"I ask."}}]}},{{"type":"function_call","call_id":"t1","name":"weather","arguments":"{{\"z\":\"Ulm\"}}"}},{{"type":"function_call","call_id":"t2","name":"time","arguments":"{{}}"}},{{"type":"function_call_output","call_id":"t1","output":"rain"}},{{"type":"function_call_output","call_id":"t2","output":"no clock"}}],"max_output_tokens":50,"temperature":0.0,"tools":[{{"type":"function","name":"weather","description":"The weather","parameters":{SCHEMA},"strict":false}}],"text":{{"format":{{"type":"json_schema","name":"answer","schema":{SCHEMA},"strict":true}}}},"store":false,"stream":true}}"#
        )
    );
}

#[test]
fn anthropic() {
    assert_eq!(
        body(&Endpoint::anthropic(), &request(), true),
        format!(
            r#"{{"model":"m","max_tokens":50,"system":"Be brief.","messages":[{{"role":"user","content":[{{"type":"text","text":"Weather?"}}]}},{{"role":"assistant","content":[{{"type":"text","text":"I ask."}},{{"type":"tool_use","id":"t1","name":"weather","input":{{"z":"Ulm"}}}},{{"type":"tool_use","id":"t2","name":"time","input":{{}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t1","content":"rain"}},{{"type":"tool_result","tool_use_id":"t2","content":"no clock","is_error":true}}]}}],"temperature":0.0,"tools":[{{"name":"weather","description":"The weather","input_schema":{SCHEMA}}}],"output_config":{{"format":{{"type":"json_schema","schema":{SCHEMA}}}}},"stream":true}}"#
        )
    );
    let bare = Request::new("m", vec![Message::user("Hi")]);
    assert_eq!(
        body(&Endpoint::anthropic(), &bare, false),
        r#"{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#
    );
}

#[test]
fn ollama() {
    assert_eq!(
        body(&Endpoint::ollama(), &request(), false),
        format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"Weather?"}},{{"role":"assistant","content":"I ask.","tool_calls":[{{"id":"t1","function":{{"name":"weather","arguments":{{"z":"Ulm"}}}}}},{{"id":"t2","function":{{"name":"time","arguments":{{}}}}}}]}},{{"role":"tool","content":"rain","tool_name":"weather","tool_call_id":"t1"}},{{"role":"tool","content":"no clock","tool_name":"time","tool_call_id":"t2"}}],"tools":[{{"type":"function","function":{{"name":"weather","description":"The weather","parameters":{SCHEMA}}}}}],"format":{SCHEMA},"options":{{"num_predict":50,"temperature":0.0}},"stream":false}}"#
        )
    );
}

#[test]
fn addresses_and_headers() {
    let request = Request::new("m", vec![Message::user("Hi")]);
    for (endpoint, url, key) in [
        (Endpoint::openai(), "https://api.openai.com/v1/chat/completions", "authorization"),
        (Endpoint::openai_responses(), "https://api.openai.com/v1/responses", "authorization"),
        (Endpoint::anthropic(), "https://api.anthropic.com/v1/messages", "x-api-key"),
        (Endpoint::ollama(), "http://localhost:11434/api/chat", "authorization"),
        (
            Endpoint::gemini(),
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
            "authorization",
        ),
        (Endpoint::compatible("http://h:1/v1/"), "http://h:1/v1/chat/completions", "authorization"),
        (
            Endpoint::azure("https://r.openai.azure.com/", "my chat", "2024-10-21"),
            "https://r.openai.azure.com/openai/deployments/my%20chat/chat/completions?api-version=2024-10-21",
            "api-key",
        ),
        (
            Endpoint::azure_v1("https://r.openai.azure.com"),
            "https://r.openai.azure.com/openai/v1/chat/completions",
            "api-key",
        ),
    ] {
        let http = endpoint.encode(&request, true).expect("it can be sent");
        assert_eq!(http.url, url);
        assert_eq!(endpoint.key_header.header("k").0, key);
        assert!(http.headers.contains(&("content-type", "application/json")));
        assert!(!http.headers.iter().any(|(name, _)| *name == key), "the key is the caller's");
    }
    let mut endpoint = Endpoint::anthropic();
    endpoint.base = "http://h/v1".to_owned();
    let http = endpoint.encode(&request, false).expect("it can be sent");
    assert_eq!(http.url, "http://h/v1/messages", "a base with the version is understood");
    assert!(http.headers.contains(&("anthropic-version", "2023-06-01")));
    assert_eq!(loom_models::KeyHeader::Bearer.header("k"), ("authorization", "Bearer k".to_owned()));
    let text = serde_json::to_string(&Endpoint::openai()).expect("it can be written");
    assert_eq!(serde_json::from_str::<Endpoint>(&text).expect("it can be read"), Endpoint::openai());
}

#[test]
fn images() {
    let mut request = Request::new("m", vec![Message::user("What?")]);
    request.messages[0].content.push(Part::Image(Image::base64("image/png", "AAAA")));
    let chat = body(&Endpoint::openai(), &request, false);
    assert!(
        chat.contains(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#),
        "{chat}"
    );
    let responses = body(&Endpoint::openai_responses(), &request, false);
    assert!(
        responses.contains(r#"{"type":"input_image","image_url":"data:image/png;base64,AAAA"}"#),
        "{responses}"
    );
    let anthropic = body(&Endpoint::anthropic(), &request, false);
    assert!(
        anthropic.contains(
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#
        )
    );
    assert!(body(&Endpoint::ollama(), &request, false).contains(r#""images":["AAAA"]"#));

    request.messages[0].content[1] = Part::Image(Image::url("https://h/a.png"));
    assert!(
        body(&Endpoint::anthropic(), &request, false).contains(r#"{"type":"url","url":"https://h/a.png"}"#)
    );
    assert_eq!(
        Endpoint::ollama().encode(&request, false).expect_err("it does not fetch").kind,
        ErrorKind::Unsupported
    );
}

#[test]
fn choices_efforts_and_extras() {
    let mut request = request();
    request.output = OutputFormat::Text;
    request.tool_choice = ToolChoice::Tool("weather".to_owned());
    request.parallel_tool_calls = Some(false);
    request.sampling.reasoning_effort = Some(ReasoningEffort::Minimal);
    let chat = body(&Endpoint::openai(), &request, false);
    assert!(chat.contains(
        r#""tool_choice":{"type":"function","function":{"name":"weather"}},"parallel_tool_calls":false"#
    ));
    assert!(chat.contains(r#""reasoning_effort":"minimal""#));
    let responses = body(&Endpoint::openai_responses(), &request, false);
    assert!(responses.contains(r#""tool_choice":{"type":"function","name":"weather"}"#));
    assert!(
        responses.contains(r#""reasoning":{"effort":"minimal"},"include":["reasoning.encrypted_content"]"#)
    );
    let anthropic = body(&Endpoint::anthropic(), &request, false);
    assert!(
        anthropic
            .contains(r#""tool_choice":{"type":"tool","name":"weather","disable_parallel_tool_use":true}"#)
    );
    assert!(anthropic.contains(r#""output_config":{"effort":"low"}"#));
    let error = Endpoint::ollama().encode(&request, false).expect_err("it cannot force a tool");
    assert_eq!(
        error.to_string(),
        "unsupported request: Ollama cannot force a tool call; set `toolChoice` to `auto`"
    );

    request.tool_choice = ToolChoice::None;
    request.extra.insert("keep_alive".to_owned(), "10m".into());
    request.extra.insert("options".to_owned(), r#"{"num_ctx":8192}"#.parse().expect("JSON"));
    let ollama = body(&Endpoint::ollama(), &request, false);
    assert!(!ollama.contains("\"tools\""));
    assert!(ollama.contains(r#""options":{"num_predict":50,"temperature":0.0,"num_ctx":8192}"#), "{ollama}");
    assert!(ollama.ends_with(r#""keep_alive":"10m"}"#), "{ollama}");
}

#[test]
fn what_an_api_lacks_is_refused_by_name() {
    let refused = |endpoint: Endpoint, change: fn(&mut Request)| {
        let mut request = Request::new("m", vec![Message::user("Hi")]);
        change(&mut request);
        let error = endpoint.encode(&request, false).expect_err("the API lacks it");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        error.message
    };
    assert_eq!(
        refused(Endpoint::anthropic(), |request| request.sampling.seed = Some(1)),
        "Anthropic does not support `seed`; remove it"
    );
    assert_eq!(
        refused(Endpoint::openai_responses(), |request| request.sampling.stop = vec!["END".to_owned()]),
        "Responses does not support `stop`; remove it"
    );
    refused(Endpoint::anthropic(), |request| request.output = OutputFormat::JsonObject);
    refused(Endpoint::openai(), |request| {
        let mut result = ToolResult::new("t", "camera", "");
        result.content.push(Part::Image(Image::url("https://h/a.png")));
        request.messages.push(Message::tool(result));
    });
}

#[test]
fn names_of_participants() {
    let request =
        Request::new("m", vec![Message::user("Hi").named("Alice"), Message::user("Ho").named("Bob B")]);
    assert!(body(&Endpoint::openai(), &request, false).contains(
        r#""messages":[{"role":"user","name":"Alice","content":"Hi"},{"role":"user","content":"Bob B: Ho"}]"#
    ));
    assert!(
        body(&Endpoint::anthropic(), &request, false)
            .contains(r#"[{"type":"text","text":"Alice: Hi"},{"type":"text","text":"Bob B: Ho"}]"#)
    );
    assert!(body(&Endpoint::openai_responses(), &request, false).contains("Alice: Hi"));
    assert!(body(&Endpoint::ollama(), &request, false).contains("Bob B: Ho"));
}

#[test]
fn reasoning_returns_only_to_where_it_came_from() {
    let mut anthropics = Reasoning::new("Hm");
    anthropics.signature = Some("s".to_owned());
    let mut openais = Reasoning::new("Aha");
    (openais.id, openais.encrypted) = (Some("rs".to_owned()), Some("e".to_owned()));
    let parts = vec![
        Part::Reasoning(anthropics),
        Part::Reasoning(openais),
        Part::Reasoning(Reasoning::new("?")),
        Part::text("Yes"),
    ];
    let request = Request::new("m", vec![Message::user("Hi"), Message::new(Role::Assistant, parts)]);
    let anthropic = body(&Endpoint::anthropic(), &request, false);
    assert!(
        anthropic.contains(
            r#"[{"type":"thinking","thinking":"Hm","signature":"s"},{"type":"text","text":"Yes"}]"#
        )
    );
    let responses = body(&Endpoint::openai_responses(), &request, false);
    assert!(responses.contains(r#"{"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"Aha"}],"encrypted_content":"e"}"#));
    assert!(!responses.contains("Hm") && !responses.contains("\"?\""));
    assert!(!body(&Endpoint::openai(), &request, false).contains("Aha"));
}

#[test]
fn arguments_that_are_not_an_object_are_still_shown() {
    let call = Part::ToolCall(ToolCall::new("t", "f", "{\"a\":"));
    let request = Request::new("m", vec![Message::new(Role::Assistant, vec![call])]);
    assert!(
        body(&Endpoint::openai(), &request, false).contains(r#""arguments":"{\"a\":""#),
        "a string is sent unchanged"
    );
    assert!(
        body(&Endpoint::anthropic(), &request, false).contains(r#""input":{"invalid_arguments":"{\"a\":"}"#)
    );
    let error = ToolCall::new("t", "f", "[1]").parsed().expect_err("it is an array");
    assert_eq!(error, "the arguments must be a JSON object");
}
