//! Estimates of tokens, for what must be known before a provider counts.

use crate::{
    json::Json,
    message::{Message, Part},
    request::{OutputFormat, Request},
};

/// What a message costs beyond its text: its role and its marks.
const MESSAGE_TOKENS: u64 = 4;

/// What an image costs, as a middle of what providers charge.
const IMAGE_TOKENS: u64 = 1000;

/// About how many tokens a text has: four ASCII characters or one other character each. English prose is overestimated
/// slightly, code and rare scripts are underestimated; no provider counts like this, so it only serves for checks
/// before a call.
///
/// ```
/// # use loom_models::estimate_tokens;
/// assert_eq!(estimate_tokens("Hello, world"), 3);
/// assert_eq!(estimate_tokens("日本"), 2);
/// ```
pub fn estimate_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let others = text.chars().filter(|character| !character.is_ascii()).count() as u64;
    ascii.div_ceil(4) + others
}

pub(crate) fn of_message(message: &Message) -> u64 {
    MESSAGE_TOKENS + of_parts(&message.content)
}

fn of_parts(parts: &[Part]) -> u64 {
    let of_part = |part: &Part| match part {
        Part::Text { text } => estimate_tokens(text),
        Part::Image(_) => IMAGE_TOKENS,
        Part::Reasoning(reasoning) => estimate_tokens(&reasoning.text),
        Part::ToolCall(call) => {
            MESSAGE_TOKENS + estimate_tokens(&call.name) + estimate_tokens(&call.arguments)
        }
        Part::ToolResult(result) => MESSAGE_TOKENS + of_parts(&result.content),
    };
    parts.iter().map(of_part).sum()
}

fn of_json(json: &Json) -> u64 {
    estimate_tokens(&json.to_string())
}

impl Request {
    /// About how many tokens the request has; see [`estimate_tokens`].
    pub fn estimated_tokens(&self) -> u64 {
        let messages: u64 = self.messages.iter().map(of_message).sum();
        let tools: u64 = self
            .tools
            .iter()
            .map(|tool| {
                MESSAGE_TOKENS
                    + estimate_tokens(&tool.name)
                    + estimate_tokens(&tool.description)
                    + of_json(&tool.parameters)
            })
            .sum();
        let output = match &self.output {
            OutputFormat::JsonSchema(schema) => of_json(&schema.schema),
            OutputFormat::Text | OutputFormat::JsonObject => 0,
        };
        messages + tools + output
    }
}
