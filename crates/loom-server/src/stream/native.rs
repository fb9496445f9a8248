//! The events of Loom: durable ones with their numbers; between them `message.snapshot` and `message.delta`.

use loom_expression::{Object, Value};

use super::{
    push,
    said::{Part, ends_message},
};

/// The types of events that callers of triggers see.
const FOR_CALLERS: [&str; 4] = ["run.started", "run.waiting", "run.responded", "run.completed"];

/// The properties of an event's `data` that callers see.
const DATA_FOR_CALLERS: [&str; 7] = ["workflow", "response", "status", "error", "emitted", "text", "chat"];

#[derive(Debug)]
pub(super) struct Native {
    to_caller: bool,
}

impl Native {
    pub(super) fn new(to_caller: bool) -> Native {
        Native { to_caller }
    }

    pub(super) fn event(&self, seq: u64, event: &Value, out: &mut String) {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if !self.to_caller {
            return push(out, Some(seq), kind, event);
        }
        if let Some(event) = for_caller(event) {
            push(out, Some(seq), kind, &event);
        }
    }

    pub(super) fn part(part: &Part<'_>, out: &mut String) {
        let kind = if part.is_first { "message.snapshot" } else { "message.delta" };
        let mut event = Object::new();
        event.insert("v", 1i64);
        event.insert("type", kind);
        event.insert("messageId", part.message);
        if part.is_first {
            event.insert("action", part.action);
            if !part.path.is_null() {
                event.insert("path", part.path.clone());
            }
            event.insert("attempt", i64::from(part.attempt));
        } else {
            event.insert("offset", i64::try_from(part.offset).unwrap_or(i64::MAX));
        }
        event.insert("text", part.text.as_str());
        push(out, None, kind, &event.into());
    }
}

/// An event as callers of triggers see it: nothing of inputs and outputs. None if they do not see it at all.
pub(super) fn for_caller(event: &Value) -> Option<Value> {
    let kind = event.get("type").and_then(Value::as_str)?;
    let data = event.get("data").and_then(Value::as_object)?;
    let speaks = event.get("messageId").is_some() && ends_message(kind);
    if !FOR_CALLERS.contains(&kind) && !data.contains_key("emitted") && !speaks {
        return None;
    }
    let mut shown = event.as_object()?.clone();
    let mut kept: Object =
        DATA_FOR_CALLERS.iter().filter_map(|name| Some((*name, data.get(name)?.clone()))).collect();
    if speaks && let Some(text) = whole_text(event) {
        kept.insert("text", text);
    }
    let chat = chat_of(event);
    if !chat.is_empty() {
        kept.insert("chat", chat);
    }
    shown.insert("data", kept);
    Some(shown.into())
}

/// What an event shows of a group chat: who speaks, messages, rounds, warnings, the end.
pub(super) fn chat_of(event: &Value) -> Vec<Value> {
    let data = event.get("data");
    let chat =
        data.and_then(|data| data.get("chat").or_else(|| data.get("outputs")?.get("chat"))?.as_array());
    chat.into_iter().flatten().cloned().collect()
}

/// What an event reports as progress, `{current?, total?, message?}`: of an Emit, or of a group chat.
pub(crate) fn progress_of(event: &Value) -> Vec<Value> {
    let emitted = event.get("data").and_then(|data| data.get("emitted")?.get("progress")).cloned();
    let chat = chat_of(event).into_iter().filter_map(|shown| shown.get("progress").cloned());
    emitted.into_iter().chain(chat).collect()
}

/// The message that an event ends; that of a group chat is its summary.
pub(crate) fn message_of(event: &Value) -> Option<String> {
    event.get("messageId")?;
    let kind = event.get("type").and_then(Value::as_str).filter(|kind| ends_message(kind));
    kind?;
    let outputs = event.get("data").and_then(|data| data.get("outputs"));
    let summary = outputs.and_then(|outputs| outputs.get("summary")?.as_str());
    summary.map(str::to_owned).or_else(|| whole_text(event))
}

/// The whole text of the message that an event ends.
pub(crate) fn whole_text(event: &Value) -> Option<String> {
    let data = event.get("data")?;
    // As it is kept of an interrupted message, and as callers see it.
    if let Some(text) = data.get("text") {
        return Some(text.as_str()?.to_owned());
    }
    let outputs = data.get("outputs")?;
    // The result of a group chat, whose messages were shown one by one.
    if outputs.get("conversationId").is_some() && outputs.get("history").is_some() {
        return None;
    }
    let text = ["text", "lastAssistantMessage", "body"].iter().find_map(|name| outputs.get(name)?.as_str());
    Some(text?.to_owned())
}
