//! The answer of a run as chat completions: its text while it is written, and what the whole answer has beside it.

use std::collections::BTreeMap;

use loom_expression::Value;
use loom_models::{
    Answer, Delta, ErrorKind, ModelError, Part as Content, StopReason, ToolCall, Usage, server,
};

use super::{
    native::{message_of, whole_text},
    said::{Part, ends_message},
};

/// Writes a run as chat completions.
pub(crate) struct Completions {
    chunks: server::Chunks,
    /// The text that was sent.
    sent: String,
    /// The characters that were sent of each message that has not ended.
    messages: BTreeMap<String, u64>,
    begun: bool,
    done: bool,
    usage: Usage,
    /// What the last action with a message said.
    last: String,
}

impl Completions {
    pub(crate) fn new(chunks: server::Chunks) -> Completions {
        let usage = Usage::default();
        let (sent, last, messages) = (String::new(), String::new(), BTreeMap::new());
        Completions { chunks, sent, messages, begun: false, done: false, usage, last }
    }

    /// The answer, if this event has it; an error if it says that there is none.
    pub(crate) fn answer_of(&mut self, event: &Value) -> Option<Result<Answer, ModelError>> {
        let kind = event.get("type").and_then(Value::as_str)?;
        let data = event.get("data")?;
        if kind == "action.completed" {
            self.count(data);
        }
        if let Some(text) = message_of(event) {
            self.last = text;
        }
        match kind {
            "run.responded" => {
                let response = data.get("response")?;
                let status = response.get("statusCode").and_then(Value::as_i64).unwrap_or(200);
                let body = response.get("body").cloned().unwrap_or_default();
                if status >= 400 {
                    let error = if status < 500 { ErrorKind::InvalidRequest } else { ErrorKind::Server };
                    return Some(Err(ModelError::new(
                        error,
                        format!("the workflow responded {status}: {}", plain(&body)),
                    )));
                }
                Some(Ok(self.answer(&body)))
            }
            "run.completed" if data.get("status").and_then(Value::as_str) == Some("Succeeded") => {
                let outputs = data.get("outputs").and_then(Value::as_object);
                let output =
                    outputs.and_then(|outputs| outputs.get("answer").or_else(|| outputs.values().next()));
                let output = output.map(|output| output.get("value").unwrap_or(output).clone());
                let body = output.unwrap_or_else(|| Value::from(self.last.as_str()));
                Some(Ok(self.answer(&body)))
            }
            "run.completed" => {
                let message = data.get("error").and_then(|error| error.get("message")?.as_str());
                let status = data.get("status").and_then(Value::as_str).unwrap_or_default();
                let text = message.map_or_else(|| format!("the run ended as {status}"), str::to_owned);
                Some(Err(ModelError::new(ErrorKind::Server, text)))
            }
            _ => None,
        }
    }

    /// Counts what the models of an action used.
    fn count(&mut self, data: &Value) {
        let Some(usage) = data.get("outputs").and_then(|outputs| outputs.get("usage")) else { return };
        let count = |name: &str| usage.get(name).and_then(Value::as_i64).unwrap_or(0).unsigned_abs();
        self.usage = self.usage.plus(Usage::new(count("inputTokens"), count("outputTokens")));
    }

    /// An answer: a text, or `{content, tool_calls}` as chat completions have them.
    fn answer(&self, body: &Value) -> Answer {
        let calls = body.get("tool_calls").and_then(Value::as_array);
        let content =
            if calls.is_some() { body.get("content").cloned().unwrap_or_default() } else { body.clone() };
        let text = if content.is_null() { String::new() } else { plain(&content) };
        let mut answer = Answer::text(text).with_usage(self.usage);
        for (index, call) in calls.into_iter().flatten().enumerate() {
            let function = call.get("function").unwrap_or(call);
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
            let arguments = function.get("arguments").map(plain).unwrap_or_default();
            let id =
                call.get("id").and_then(Value::as_str).map_or_else(|| format!("call_{index}"), str::to_owned);
            answer.message.content.push(Content::ToolCall(ToolCall::new(id, name, arguments)));
            answer.stop = StopReason::ToolCalls;
        }
        answer
    }

    pub(super) fn part(&mut self, part: &Part<'_>, out: &mut String) {
        if self.done {
            return;
        }
        self.say_of(part.message, &part.text, out);
    }

    /// Sends more of a message. Messages of one run are one answer, so they are set apart.
    fn say_of(&mut self, message: &str, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        self.begin(out);
        if !self.messages.contains_key(message) && !self.sent.is_empty() {
            self.say("\n\n", out);
        }
        *self.messages.entry(message.to_owned()).or_default() += text.chars().count() as u64;
        self.say(text, out);
    }

    /// Sends what is missing of the message that an event ends.
    fn end_message(&mut self, event: &Value, out: &mut String) {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        let Some(message) = event.get("messageId").and_then(Value::as_str).filter(|_| ends_message(kind))
        else {
            return;
        };
        if let Some(text) = whole_text(event) {
            let sent = self.messages.get(message).copied().unwrap_or(0);
            let rest: String = text.chars().skip(usize::try_from(sent).unwrap_or(usize::MAX)).collect();
            self.say_of(message, &rest, out);
        }
    }

    pub(super) fn event(&mut self, event: &Value, out: &mut String) {
        if self.done {
            return;
        }
        self.end_message(event, out);
        match self.answer_of(event) {
            None => {}
            Some(Err(error)) => {
                self.done = true;
                out.push_str(&String::from_utf8_lossy(&server::error_event(&error)));
            }
            Some(Ok(answer)) => {
                self.begin(out);
                let text = answer.message.text();
                // What was shown live is not sent again.
                if !self.sent.ends_with(&text) {
                    let rest = text.strip_prefix(&self.sent).map(str::to_owned);
                    let rest = rest.unwrap_or_else(|| format!("\n\n{text}"));
                    self.say(&rest, out);
                }
                for delta in answer.deltas(usize::MAX) {
                    if !matches!(delta, Delta::Start { .. } | Delta::Text { .. }) {
                        self.push(&delta, out);
                    }
                }
                self.done = true;
            }
        }
    }

    fn begin(&mut self, out: &mut String) {
        if !std::mem::replace(&mut self.begun, true) {
            self.push(&Delta::Start { id: None, model: None }, out);
        }
    }

    fn say(&mut self, text: &str, out: &mut String) {
        if !text.is_empty() {
            self.sent.push_str(text);
            self.push(&Delta::Text { text: text.to_owned() }, out);
        }
    }

    fn push(&mut self, delta: &Delta, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.chunks.encode(delta)));
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_json_text(), str::to_owned)
}
