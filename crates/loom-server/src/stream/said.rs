//! What a stream has sent of the messages that calls write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use loom_definition::Workflow;
use loom_engine::{
    RunId,
    live_text::{LiveText, TextPosition},
};
use loom_expression::Value;

use crate::event_json::{message_id, path_value};

/// A part of a message: what follows what was sent before.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) message: &'a str,
    pub(super) action: &'a str,
    /// Null when the action is in no loop.
    pub(super) path: &'a Value,
    pub(super) attempt: u32,
    /// Whether nothing of the message was sent before.
    pub(super) is_first: bool,
    /// The number of characters before this part.
    pub(super) offset: u64,
    pub(super) text: String,
}

/// The messages that have begun and not ended.
#[derive(Debug)]
pub(super) struct Said {
    run: RunId,
    workflow: Arc<Workflow>,
    begun: BTreeMap<String, Begun>,
    /// Messages whose end was written: their text may still be listed for a moment.
    ended: BTreeSet<String>,
}

#[derive(Debug)]
struct Begun {
    text: Arc<LiveText>,
    path: Value,
    at: TextPosition,
}

impl Said {
    pub(super) fn new(run: RunId, workflow: Arc<Workflow>) -> Said {
        Said { run, workflow, begun: BTreeMap::new(), ended: BTreeSet::new() }
    }

    /// Passes on what has arrived since the last time.
    pub(super) fn arrived(&mut self, texts: &[Arc<LiveText>], mut send: impl FnMut(&Part<'_>)) {
        self.ended.retain(|message| texts.iter().any(|text| message_id(self.run, text.effect) == *message));
        for text in texts {
            let message = message_id(self.run, text.effect);
            if self.ended.contains(&message) {
                continue;
            }
            let begun = self.begun.entry(message.clone()).or_insert_with(|| Begun {
                text: Arc::clone(text),
                path: if text.path.is_empty() { Value::NULL } else { path_value(&self.workflow, &text.path) },
                at: TextPosition::default(),
            });
            send_rest(&self.workflow, &message, begun, &mut send);
        }
    }

    /// Passes on the rest of the message that a durable event ends.
    pub(super) fn ended(&mut self, event: &Value, mut send: impl FnMut(&Part<'_>)) {
        let Some(message) = event.get("messageId").and_then(Value::as_str) else { return };
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "attempt.started" | "action.started") || kind.starts_with("attempt.held") {
            return;
        }
        if !ends_message(kind) {
            return;
        }
        if let Some(mut begun) = self.begun.remove(message) {
            send_rest(&self.workflow, message, &mut begun, &mut send);
        }
        self.ended.insert(message.to_owned());
    }
}

/// Whether an event of this type, with a message, is the end of the message.
pub(crate) fn ends_message(kind: &str) -> bool {
    matches!(
        kind,
        "agent.turn"
            | "action.completed"
            | "action.retrying"
            | "action.polling"
            | "action.skipped"
            | "attempt.completed"
    )
}

fn send_rest(workflow: &Workflow, message: &str, begun: &mut Begun, send: &mut impl FnMut(&Part<'_>)) {
    let before = begun.at;
    let Some(rest) = begun.text.read(&mut begun.at) else { return };
    send(&Part {
        message,
        action: &workflow.action(begun.text.action).name,
        path: &begun.path,
        attempt: begun.text.attempt,
        is_first: before == TextPosition::default(),
        offset: before.chars,
        text: rest,
    });
}
