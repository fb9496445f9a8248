//! Tools for models that cannot call them: the answer's schema offers the tools instead.

use std::fmt::Write as _;

use crate::{
    answer::{Answer, StopReason},
    json::Json,
    message::{Message, Part, Role, ToolCall},
    request::{OutputFormat, OutputSchema, Request, ToolChoice},
};

/// Rewrites a request with tools into one without, whose schema makes the model choose between its tools and an answer.
/// [`read_emulated`] reads what comes back. A request without tools stays as it is.
///
/// ```
/// use loom_models::{Answer, Json, Message, Request, Tool, emulate_tools, read_emulated};
///
/// let mut request = Request::new("weak", vec![Message::user("Weather in Ulm?")]);
/// request.tools.push(Tool::new("weather", "The weather of a city", Json::object([("type", Json::from("object"))])));
/// assert!(emulate_tools(&request).tools.is_empty());
///
/// let said = Answer::text(r#"{"tool":"weather","arguments":{"city":"Ulm"}}"#);
/// let answer = read_emulated(&request, said);
/// assert_eq!(answer.message.tool_calls().next().unwrap().arguments, r#"{"city":"Ulm"}"#);
/// ```
pub fn emulate_tools(request: &Request) -> Request {
    let mut plain = request.clone();
    if request.tools.is_empty() {
        return plain;
    }
    plain.tools.clear();
    plain.tool_choice = ToolChoice::Auto;
    plain.parallel_tool_calls = None;
    plain.messages = request.messages.iter().map(spelled_out).collect();
    let offered = |name: &str| match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::Required => true,
        ToolChoice::None => false,
        ToolChoice::Tool(only) => only == name,
    };
    let mut forms = Vec::new();
    let mut text = "Answer with JSON. To call a tool, write {\"tool\": its name, \"arguments\": its arguments}. The tools:"
        .to_owned();
    for tool in request.tools.iter().filter(|tool| offered(&tool.name)) {
        write!(text, "\n- {}: {} Arguments: {}", tool.name, tool.description, tool.parameters)
            .expect("a string accepts everything");
        let name = Json::object([("const", Json::from(tool.name.as_str()))]);
        forms.push(object([("tool", name), ("arguments", tool.parameters.clone())]));
    }
    if forms.is_empty() {
        return plain;
    }
    if request.tool_choice == ToolChoice::Auto {
        let answer = match &request.output {
            OutputFormat::JsonSchema(schema) => schema.schema.clone(),
            OutputFormat::JsonObject => Json::object([("type", Json::from("object"))]),
            OutputFormat::Text => Json::object([("type", Json::from("string"))]),
        };
        forms.push(object([("answer", answer)]));
        text.push_str("\nTo answer instead, write {\"answer\": the answer}.");
    }
    let after_system = plain.messages.iter().take_while(|message| message.role == Role::System).count();
    plain.messages.insert(after_system, Message::system(text));
    let schema = Json::object([("anyOf", Json::Array(forms))]);
    plain.output = OutputFormat::JsonSchema(OutputSchema::new("call_or_answer", schema));
    plain
}

fn object<const N: usize>(properties: [(&str, Json); N]) -> Json {
    let required: Vec<Json> = properties.iter().map(|(name, _)| Json::from(*name)).collect();
    Json::object([
        ("type", Json::from("object")),
        ("properties", Json::object(properties)),
        ("required", required.into()),
        ("additionalProperties", false.into()),
    ])
}

/// A message without calls and results, which the model would not understand.
fn spelled_out(message: &Message) -> Message {
    let mut plain = message.clone();
    if message.role == Role::Tool {
        plain.role = Role::User;
    }
    plain.content = message
        .content
        .iter()
        .map(|part| match part {
            Part::ToolCall(call) => {
                let arguments = call.parsed().unwrap_or_else(|_| Json::from(call.arguments.as_str()));
                let said = Json::object([("tool", Json::from(call.name.as_str())), ("arguments", arguments)]);
                Part::text(said.to_string())
            }
            Part::ToolResult(result) => {
                let outcome = if result.error { "failed" } else { "returned" };
                Part::text(format!("The tool {} {outcome}: {}\n", result.name, result.text()))
            }
            other => other.clone(),
        })
        .collect();
    plain
}

/// Turns the answer to a request of [`emulate_tools`] into one that calls tools or answers, as the model chose. `request` is
/// the original. An answer that has not the form stays as it is.
pub fn read_emulated(request: &Request, answer: Answer) -> Answer {
    if request.tools.is_empty() {
        return answer;
    }
    let Ok(json) = answer.message.text().trim().parse::<Json>() else { return answer };
    let mut read = answer;
    if let Some(name) = json.text_at("tool") {
        let arguments = json.get("arguments").map_or_else(|| "{}".to_owned(), Json::to_string);
        let call = Part::ToolCall(ToolCall::new("call_0", name, arguments));
        replace_text(&mut read, call);
        if read.stop == StopReason::Stop {
            read.stop = StopReason::ToolCalls;
        }
    } else if let Some(said) = json.get("answer") {
        let text = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        replace_text(&mut read, Part::text(text));
    }
    read
}

fn replace_text(answer: &mut Answer, part: Part) {
    answer.message.content.retain(|part| !matches!(part, Part::Text { .. }));
    answer.message.content.push(part);
}
