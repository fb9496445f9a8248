//! A request to a model, in terms that all APIs share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{json::Json, message::Message};

/// What a model is asked. Whether the answer is streamed is not part of it: that changes how the answer travels, not what
/// it is.
///
/// ```
/// # use loom_models::{Message, Request};
/// let request = Request::new("small-1", vec![Message::user("Hello")]);
/// assert_eq!(
///     serde_json::to_string(&request).unwrap(),
///     r#"{"model":"small-1","messages":[{"role":"user","content":[{"type":"text","text":"Hello"}]}]}"#
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Request {
    /// The model, or the deployment, as the provider names it.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether and which tool it calls.
    #[serde(default, skip_serializing_if = "ToolChoice::is_auto")]
    pub tool_choice: ToolChoice,
    /// Whether it may call several tools in one answer; `None` leaves that to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    #[serde(default, skip_serializing_if = "OutputFormat::is_text")]
    pub output: OutputFormat,
    /// How the model samples.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
    /// Properties that are added to the body as they are, for what only one provider has. An object is merged into the
    /// object of the same name, such as Ollama's `options`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Json>,
}

impl Request {
    /// A request with the provider's defaults.
    pub fn new(model: impl Into<String>, messages: Vec<Message>) -> Request {
        Request { model: model.into(), messages, ..Request::default() }
    }
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`, at most 64 of them, which all providers accept.
    pub name: String,
    /// What it does and when to call it, for the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The JSON schema of its arguments, an object.
    #[serde(default = "any_object")]
    pub parameters: Json,
    /// Whether the provider must keep the arguments to the schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl Tool {
    /// A tool with a schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: impl Into<Json>) -> Tool {
        Tool {
            name: name.into(),
            description: description.into(),
            parameters: parameters.into(),
            strict: false,
        }
    }
}

fn any_object() -> Json {
    Json::object([("type", Json::from("object")), ("properties", Json::Object(Vec::new()))])
}

/// Whether and which tool the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// It calls none.
    None,
    /// It calls at least one.
    Required,
    /// It calls this one.
    Tool(String),
}

impl ToolChoice {
    fn is_auto(&self) -> bool {
        *self == ToolChoice::Auto
    }
}

/// The form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
pub enum OutputFormat {
    /// Text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that matches a schema.
    JsonSchema(OutputSchema),
}

impl OutputFormat {
    fn is_text(&self) -> bool {
        *self == OutputFormat::Text
    }
}

/// The schema of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OutputSchema {
    /// A name for the model: letters, digits, `_` and `-`, at most 64 of them.
    pub name: String,
    /// The JSON schema. The model writes the properties in the order of the schema.
    pub schema: Json,
    /// Whether the provider must keep to the schema; otherwise it may be a hint.
    #[serde(default = "yes")]
    pub strict: bool,
}

impl OutputSchema {
    /// A strict schema.
    pub fn new(name: impl Into<String>, schema: impl Into<Json>) -> OutputSchema {
        OutputSchema { name: name.into(), schema: schema.into(), strict: true }
    }
}

fn yes() -> bool {
    true
}

/// How a model samples. `None` leaves a value to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// The most tokens of the answer, with its reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// From 0 (always the likeliest token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The share of the likeliest tokens to choose from, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The number of the likeliest tokens to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// From -2 to 2; above 0, a token is the less likely the more often it occurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// From -2 to 2; above 0, a token that occurred is less likely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Texts that end the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Makes answers repeatable, as far as the provider can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// How much the model thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
}

impl Sampling {
    fn is_default(&self) -> bool {
        *self == Sampling::default()
    }
}

/// How much a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// As little as the model can.
    Minimal,
    /// A little.
    Low,
    /// The usual amount.
    Medium,
    /// A lot.
    High,
}

impl ReasoningEffort {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ReasoningEffort::None => "none",
            ReasoningEffort::Minimal => "minimal",
            ReasoningEffort::Low => "low",
            ReasoningEffort::Medium => "medium",
            ReasoningEffort::High => "high",
        }
    }

    pub(crate) fn of(text: &str) -> Option<ReasoningEffort> {
        use ReasoningEffort::{High, Low, Medium, Minimal, None as Nothing};
        [Nothing, Minimal, Low, Medium, High].into_iter().find(|effort| effort.as_str() == text)
    }
}
