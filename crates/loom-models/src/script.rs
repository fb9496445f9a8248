//! A scripted model: for tests, and for examples that cost nothing.

use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, StopReason, Usage},
    error::ModelError,
    json::Json,
    message::{Part, Reasoning, Role, ToolCall},
    request::Request,
    tokens::of_message,
};

/// What a scripted model says.
///
/// Replies with `when` are for the requests that match; each serves any number of requests unless it has `times`. The
/// others are used up in order. For each request, the first reply with a fitting `when` comes first.
///
/// ```
/// use loom_models::{Message, Request, Script};
///
/// let script: Script = serde_json::from_str(
///     r#"{ "replies": [
///         { "toolCalls": [ { "name": "weather", "arguments": { "city": "Ulm" } } ] },
///         { "text": "It rains." },
///         { "when": { "system": "You are a judge" }, "json": { "next": "Bob" } },
///         { "when": { "last": "again" }, "error": { "kind": "rateLimited" }, "times": 1 }
///     ] }"#,
/// )
/// .unwrap();
/// let mut state = script.start();
/// let request = Request::new("any", vec![Message::user("Weather?")]);
/// let answer = script.reply(&mut state, &request).unwrap().unwrap();
/// assert_eq!(answer.message.tool_calls().next().unwrap().name, "weather");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Script {
    /// The replies.
    pub replies: Vec<ScriptedReply>,
}

/// One reply of a script. Exactly one of `answer` and `error`, or any of `text`, `json`, `toolCalls` and `reasoning`, say
/// what it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ScriptedReply {
    /// The requests it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// How many requests it serves: 1 by default, or any number with `when`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// JSON, which becomes the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// Reasoning before the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Tool calls after the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ScriptedCall>,
    /// Why the answer ends; by default because it is whole, or for its tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    /// The usage; by default an estimate, so that budgets work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// A whole answer instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// A failure instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ModelError>,
}

/// A tool call of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ScriptedCall {
    /// The name of the tool.
    pub name: String,
    /// The arguments: an object, or a string with any text.
    #[serde(default)]
    pub arguments: Json,
    /// The id; by default `call_` and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Which requests a reply is for: those that match all that is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct When {
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A text in the system messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A text in the last message or in its results of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// A text in any message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<String>,
    /// A tool that the request offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// How many messages of the assistant the request has: 0 for the first request of a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
}

impl When {
    /// Whether a request matches.
    pub fn matches(&self, request: &Request) -> bool {
        let texts = |role: Option<Role>| {
            let messages =
                request.messages.iter().filter(move |message| role.is_none_or(|role| message.role == role));
            messages.map(said).collect::<Vec<_>>().join("\n")
        };
        let last = || request.messages.last().map(said).unwrap_or_default();
        let has = |wanted: &Option<String>, text: &dyn Fn() -> String| {
            wanted.as_ref().is_none_or(|wanted| text().contains(wanted))
        };
        let turns = request.messages.iter().filter(|message| message.role == Role::Assistant).count();
        self.model.as_ref().is_none_or(|model| *model == request.model)
            && has(&self.system, &|| texts(Some(Role::System)))
            && has(&self.last, &last)
            && has(&self.any, &|| texts(None))
            && self.tool.as_ref().is_none_or(|tool| request.tools.iter().any(|offered| offered.name == *tool))
            && self.turn.is_none_or(|turn| turn == turns)
    }
}

fn said(message: &crate::Message) -> String {
    let mut text = message.text();
    for result in message.tool_results() {
        text.push_str(&result.text());
    }
    text
}

/// How far a script is. It can be stored, and continues where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScriptState {
    used: Vec<u32>,
}

/// No reply of a script fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the script has no reply for request {number} to `{model}`, whose last message is: {last}; add a reply{}",
    if *used_up { ", or raise `times`" } else { "" }
)]
#[non_exhaustive]
pub struct NoReply {
    /// Counts the requests from 1.
    pub number: u32,
    /// The model of the request.
    pub model: String,
    /// The start of the last message.
    pub last: String,
    /// Whether a reply would have fitted that was used up.
    pub used_up: bool,
}

impl Script {
    /// The state before the first request.
    pub fn start(&self) -> ScriptState {
        ScriptState { used: vec![0; self.replies.len()] }
    }

    /// The reply to a request: an answer or the failure that the script plays.
    ///
    /// # Errors
    /// [`NoReply`] when none fits.
    pub fn reply(
        &self,
        state: &mut ScriptState,
        request: &Request,
    ) -> Result<Result<Answer, ModelError>, NoReply> {
        state.used.resize(self.replies.len(), 0);
        let left = |index: usize, reply: &ScriptedReply| {
            let times = reply.times.unwrap_or(if reply.when.is_some() { u32::MAX } else { 1 });
            state.used[index] < times
        };
        let fits = |reply: &ScriptedReply| reply.when.as_ref().is_some_and(|when| when.matches(request));
        let replies = || self.replies.iter().enumerate();
        let found = replies()
            .find(|(index, reply)| fits(reply) && left(*index, reply))
            .or_else(|| replies().find(|(index, reply)| reply.when.is_none() && left(*index, reply)));
        let number = state.used.iter().sum::<u32>().saturating_add(1);
        let Some((index, reply)) = found else {
            let last: String =
                request.messages.last().map(said).unwrap_or_default().chars().take(80).collect();
            let used_up = replies().any(|(_, reply)| fits(reply));
            return Err(NoReply { number, model: request.model.clone(), last, used_up });
        };
        state.used[index] = state.used[index].saturating_add(1);
        Ok(reply.play(request, number))
    }
}

impl ScriptedReply {
    fn play(&self, request: &Request, number: u32) -> Result<Answer, ModelError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut answer = self.answer.clone().unwrap_or_else(|| self.build(number));
        answer.model = answer.model.or_else(|| Some(request.model.clone()));
        answer.usage = answer
            .usage
            .or(self.usage)
            .or_else(|| Some(Usage::new(request.estimated_tokens(), of_message(&answer.message))));
        Ok(answer)
    }

    fn build(&self, number: u32) -> Answer {
        let mut parts = Vec::new();
        parts.extend(self.reasoning.as_ref().map(|text| Part::Reasoning(Reasoning::new(text.as_str()))));
        parts.extend(self.text.as_ref().map(|text| Part::text(text.as_str())));
        parts.extend(self.json.as_ref().map(|json| Part::text(json.to_string())));
        for (index, call) in self.tool_calls.iter().enumerate() {
            let id = call.id.clone().unwrap_or_else(|| format!("call_{number}_{index}"));
            let arguments = match &call.arguments {
                Json::String(text) => text.clone(),
                Json::Null => "{}".to_owned(),
                other => other.to_string(),
            };
            parts.push(Part::ToolCall(ToolCall::new(id, call.name.as_str(), arguments)));
        }
        let by_default = if self.tool_calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls };
        let mut answer = Answer::text("");
        answer.message.content = parts;
        answer.stop = self.stop.clone().unwrap_or(by_default);
        answer
    }
}
