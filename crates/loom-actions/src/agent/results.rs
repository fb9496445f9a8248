//! Results of blocks as models, people and conversations receive them.

use loom_definition::Status;
use loom_engine::event::Outcome;
use loom_expression::Value;
use loom_models::{Json, ToolResult};

/// The most bytes of a tool's result that a model reads. What is longer is cut.
const RESULT_BYTES_MAX: usize = 256 << 10;

/// What a model reads of a tool: the body of the last action, its outputs, or its error.
pub(super) fn tool_result(id: &str, name: &str, outcome: &Outcome) -> ToolResult {
    if outcome.status == Status::Succeeded {
        return ToolResult::new(id, name, text_of(outcome));
    }
    let why = reason_of(outcome);
    let body = outcome.outputs.as_ref().and_then(|outputs| outputs.get("body"));
    let body = body.map(plain).filter(|body| !why.contains(body.as_str())).map(|body| format!("\n{body}"));
    ToolResult::failed(id, name, cut(format!("{why}{}", body.unwrap_or_default())))
}

/// What a person or a workflow says.
///
/// # Errors
/// Why it says nothing.
pub(super) fn reply_of(outcome: &Outcome) -> Result<String, String> {
    match outcome.status {
        Status::Succeeded => {
            let body = outcome.outputs.as_ref().and_then(|outputs| outputs.get("body"));
            // The reply of a person, with who gave it.
            let message = body.filter(|body| body.get("by").is_some()).and_then(|body| body.get("message"));
            Ok(message.map_or_else(|| text_of(outcome), plain))
        }
        Status::TimedOut => Err("the time to reply has passed".to_owned()),
        _ => Err(reason_of(outcome)),
    }
}

fn reason_of(outcome: &Outcome) -> String {
    match &outcome.error {
        Some(error) => format!("{}: {}", error.code, error.message),
        None => format!("the tool ended as {}", outcome.status),
    }
}

fn text_of(outcome: &Outcome) -> String {
    let outputs = outcome.outputs.clone().unwrap_or_default();
    cut(plain(outputs.get("body").unwrap_or(&outputs)))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_json_text(), str::to_owned)
}

fn cut(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let end = text.floor_char_boundary(RESULT_BYTES_MAX);
        text.truncate(end);
        text.push_str("\n[The result was cut here.]");
    }
    text
}

pub(super) fn value_of(json: &Json) -> Value {
    Value::from_json_str(&json.to_string()).unwrap_or_default()
}

pub(super) fn value_to_json(value: &Value) -> Json {
    value.to_json_text().parse().unwrap_or_default()
}
