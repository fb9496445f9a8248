//! Messages: what was said, by whom, in which parts.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

use crate::json::Json;

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the operator. Written as `developer` where an API prefers that name.
    System,
    /// A person, or another participant of a conversation.
    User,
    /// The model.
    Assistant,
    /// Results of tools.
    Tool,
}

/// One message. In JSON its content is a string, or a list of parts:
///
/// ```
/// # use loom_models::{Message, Role};
/// let short: Message = serde_json::from_str(r#"{"role":"user","content":"Hello"}"#).unwrap();
/// let long = r#"{"role":"user","content":[{"type":"text","text":"Hello"}]}"#;
/// assert_eq!(serde_json::from_str::<Message>(long).unwrap(), short);
/// assert_eq!(short, Message::user("Hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Message {
    /// Who it is from.
    pub role: Role,
    /// The name of the participant, where there are several with the same role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it says, in order.
    #[serde(default, deserialize_with = "content")]
    pub content: Vec<Part>,
}

impl Message {
    /// A message of these parts.
    pub fn new(role: Role, content: Vec<Part>) -> Message {
        Message { role, name: None, content }
    }

    /// Instructions.
    pub fn system(text: impl Into<String>) -> Message {
        Message::new(Role::System, vec![Part::text(text)])
    }

    /// What a person says.
    pub fn user(text: impl Into<String>) -> Message {
        Message::new(Role::User, vec![Part::text(text)])
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new(Role::Assistant, vec![Part::text(text)])
    }

    /// The result of one tool call.
    pub fn tool(result: ToolResult) -> Message {
        Message::new(Role::Tool, vec![Part::ToolResult(result)])
    }

    /// Sets the name of the participant.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Message {
        self.name = Some(name.into());
        self
    }

    /// The text of all text parts, joined.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }

    /// The reasoning that the model showed, joined.
    pub fn reasoning(&self) -> String {
        let parts = self.content.iter();
        parts
            .filter_map(|part| if let Part::Reasoning(r) = part { Some(r.text.as_str()) } else { None })
            .collect()
    }

    /// The tool calls, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
    }

    /// The results of tools, in order.
    pub fn tool_results(&self) -> impl Iterator<Item = &ToolResult> {
        self.content
            .iter()
            .filter_map(|part| if let Part::ToolResult(result) = part { Some(result) } else { None })
    }
}

pub(crate) fn text_of(parts: &[Part]) -> String {
    parts
        .iter()
        .filter_map(|part| if let Part::Text { text } = part { Some(text.as_str()) } else { None })
        .collect()
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    #[non_exhaustive]
    Text {
        /// The text.
        text: String,
    },
    /// An image.
    Image(Image),
    /// What a model thought before it answered. Sent back only to the API that it came from.
    Reasoning(Reasoning),
    /// A call of a tool that the model asks for.
    ToolCall(ToolCall),
    /// The result of a tool call.
    ToolResult(ToolResult),
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Part {
        Part::Text { text: text.into() }
    }
}

/// An image, by address or as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Image {
    /// Where it is.
    pub source: ImageSource,
    /// How closely the model looks, such as `low`, `high` or `auto`, where an API has that choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Image {
    /// An image that the provider fetches.
    pub fn url(url: impl Into<String>) -> Image {
        Image { source: ImageSource::Url { url: url.into() }, detail: None }
    }

    /// An image in Base64 of a media type such as `image/png`.
    pub fn base64(media_type: impl Into<String>, data: impl Into<String>) -> Image {
        let source = ImageSource::Base64 { media_type: media_type.into(), data: data.into() };
        Image { source, detail: None }
    }

    /// From an address, which may be a `data:` address with Base64.
    pub(crate) fn of_address(address: &str) -> Image {
        let data = address.strip_prefix("data:").and_then(|rest| rest.split_once(','));
        match data.and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data))) {
            Some((media_type, data)) => Image::base64(media_type, data),
            None => Image::url(address),
        }
    }

    /// As an address; data becomes a `data:` address.
    pub(crate) fn address(&self) -> String {
        match &self.source {
            ImageSource::Url { url } => url.clone(),
            ImageSource::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        }
    }
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum ImageSource {
    /// At an address.
    Url {
        /// The address.
        url: String,
    },
    /// In the message.
    Base64 {
        /// Such as `image/png`.
        media_type: String,
        /// The bytes in Base64.
        data: String,
    },
}

/// What a model thought, and the marks that its provider wants back unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reasoning {
    /// The text; empty when the provider keeps it to itself.
    #[serde(default)]
    pub text: String,
    /// Anthropic's signature of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The reasoning in a form that only the provider can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<String>,
    /// The id of the item in OpenAI's Responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Reasoning {
    /// Reasoning that consists of text alone.
    pub fn new(text: impl Into<String>) -> Reasoning {
        Reasoning { text: text.into(), ..Reasoning::default() }
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolCall {
    /// The id that the result refers to. Unique within an answer, also where the model gave none.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments as the model wrote them. They should be a JSON object, but a model may write anything.
    pub arguments: String,
    /// Data of the provider that must be sent back with the call, such as Gemini's thought signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

impl ToolCall {
    /// A call.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), extra: None }
    }

    /// The arguments as an object. No text at all means no arguments.
    ///
    /// # Errors
    /// What is wrong with the text, for the model to read and to mend.
    pub fn parsed(&self) -> Result<Json, String> {
        if self.arguments.trim().is_empty() {
            return Ok(Json::Object(Vec::new()));
        }
        match self.arguments.parse() {
            Ok(object @ Json::Object(_)) => Ok(object),
            Ok(_) => Err("the arguments must be a JSON object".to_owned()),
            Err(error) => Err(format!("the arguments must be a JSON object: {error}")),
        }
    }
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// What the tool returned: text, and images where the API accepts them.
    #[serde(deserialize_with = "content")]
    pub content: Vec<Part>,
    /// Whether the tool failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
}

impl ToolResult {
    /// The result of a call that succeeded.
    pub fn new(id: impl Into<String>, name: impl Into<String>, text: impl Into<String>) -> ToolResult {
        ToolResult { id: id.into(), name: name.into(), content: vec![Part::text(text)], error: false }
    }

    /// The result of a call that failed. The model reads the reason.
    pub fn failed(id: impl Into<String>, name: impl Into<String>, reason: impl Into<String>) -> ToolResult {
        ToolResult { error: true, ..ToolResult::new(id, name, reason) }
    }

    /// The text, joined.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }
}

/// Content as a string or as a list of parts.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Part>, D::Error> {
    struct Content;

    impl<'de> Visitor<'de> for Content {
        type Value = Vec<Part>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of parts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<Part>, E> {
            Ok(vec![Part::text(text)])
        }

        fn visit_unit<E>(self) -> Result<Vec<Part>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Part>, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = sequence.next_element()? {
                parts.push(part);
            }
            Ok(parts)
        }
    }

    deserializer.deserialize_any(Content)
}
