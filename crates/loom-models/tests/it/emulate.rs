//! Tools for models that cannot call them.

use loom_models::{
    Answer, Json, Message, OutputFormat, OutputSchema, Part, Request, Role, StopReason, Tool, ToolCall,
    ToolChoice, ToolResult, emulate_tools, read_emulated,
};

fn request() -> Request {
    let schema: Json = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#.parse().expect("JSON");
    let mut request = Request::new("weak", vec![Message::system("Be brief."), Message::user("Weather?")]);
    request.tools =
        vec![Tool::new("weather", "The weather.", schema), Tool::new("time", "", Json::Object(Vec::new()))];
    request
}

fn schema(request: &Request) -> String {
    match emulate_tools(request).output {
        OutputFormat::JsonSchema(schema) => schema.schema.to_string(),
        other => panic!("expected a schema, found {other:?}"),
    }
}

#[test]
fn the_schema_offers_each_tool_and_an_answer() {
    assert_eq!(
        schema(&request()),
        r#"{"anyOf":[{"type":"object","properties":{"tool":{"const":"weather"},"arguments":{"type":"object","properties":{"city":{"type":"string"}}}},"required":["tool","arguments"],"additionalProperties":false},{"type":"object","properties":{"tool":{"const":"time"},"arguments":{}},"required":["tool","arguments"],"additionalProperties":false},{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"],"additionalProperties":false}]}"#
    );
    let mut forced = request();
    forced.tool_choice = ToolChoice::Tool("time".to_owned());
    let only = schema(&forced);
    assert!(
        only.contains(r#""const":"time""#) && !only.contains("weather") && !only.contains("answer\":"),
        "{only}"
    );
    forced.tool_choice = ToolChoice::None;
    assert_eq!(emulate_tools(&forced).output, OutputFormat::Text);
    let mut formed = request();
    formed.output =
        OutputFormat::JsonSchema(OutputSchema::new("o", Json::object([("type", Json::from("number"))])));
    assert!(schema(&formed).contains(r#""answer":{"type":"number"}"#));
}

#[test]
fn calls_and_results_are_spelled_out() {
    let mut request = request();
    request.messages.push(Message::new(
        Role::Assistant,
        vec![Part::ToolCall(ToolCall::new("a", "weather", r#"{"city":"Ulm"}"#))],
    ));
    request.messages.push(Message::tool(ToolResult::new("a", "weather", "rain")));
    request.messages.push(Message::tool(ToolResult::failed("b", "time", "no clock")));
    let plain = emulate_tools(&request);
    let said: Vec<(Role, String)> =
        plain.messages[2..].iter().map(|message| (message.role, message.text())).collect();
    let expected = [
        (Role::User, "Weather?"),
        (Role::Assistant, r#"{"tool":"weather","arguments":{"city":"Ulm"}}"#),
        (Role::User, "The tool weather returned: rain\n"),
        (Role::User, "The tool time failed: no clock\n"),
    ];
    assert_eq!(said, expected.map(|(role, text)| (role, text.to_owned())));
    assert!(
        plain.messages[1].text().contains("- weather: The weather. Arguments: {"),
        "{}",
        plain.messages[1].text()
    );
    assert!(plain.tools.is_empty());
}

#[test]
fn answers_become_calls_or_text_and_rubbish_stays() {
    let read = |text: &str| read_emulated(&request(), Answer::text(text));
    let call = read(r#"{"tool":"weather","arguments":{"city":"Ulm"}}"#);
    assert_eq!(
        call.message.tool_calls().map(|call| call.arguments.as_str()).collect::<Vec<_>>(),
        [r#"{"city":"Ulm"}"#]
    );
    assert_eq!((call.stop, call.message.content.len()), (StopReason::ToolCalls, 1));
    assert_eq!(read(r#"{"tool":"time"}"#).message.tool_calls().next().expect("a call").arguments, "{}");
    assert_eq!(read(r#"{"answer":"Rain"}"#), Answer::text("Rain"));
    assert_eq!(read(r#"{"answer":{"mm":3}}"#).message.text(), r#"{"mm":3}"#);
    for rubbish in ["Rain, I think", r#"{"tool":7}"#, "[]", r#"{"tool":"weath"#] {
        assert_eq!(read(rubbish), Answer::text(rubbish));
    }
    let without = Request::new("weak", vec![Message::user("Hi")]);
    assert_eq!(emulate_tools(&without), without);
    let said = Answer::text(r#"{"answer":"Hi"}"#);
    assert_eq!(read_emulated(&without, said.clone()), said);
}
