//! Events to messages.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use loom_definition::{Workflow, model::ActionKind};
use loom_expression::{Object, Value};

use crate::stream::{ends_message, whole_text};

/// The messages of a run so far. Only those of a page are kept.
#[derive(Debug)]
pub(super) struct Messages {
    workflow: Arc<Workflow>,
    window: Range<usize>,
    /// By their places.
    kept: BTreeMap<usize, Object>,
    count: usize,
    /// The places of the messages that are being written, by their ids.
    open: HashMap<String, usize>,
    /// By the occurrence of an agent.
    agents: HashMap<String, Agent>,
    ended: Vec<Value>,
}

/// What is known of an agent that is at work.
#[derive(Debug, Default)]
struct Agent {
    /// The number of the first use of a tool of the next turn.
    uses: i64,
    /// Who speaks, if it is not the agent.
    speaker: Option<Value>,
    /// The place of the message and the position in it of each use of a tool.
    calls: HashMap<i64, (usize, usize)>,
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], |items| &items[..])
}

/// An action with the iterations around it, as a key.
fn occurrence(action: &str, path: &[Value]) -> String {
    let around: Vec<String> = path.iter().map(Value::to_json_text).collect();
    format!("{} in {}", Value::from(action).to_json_text(), around.join(""))
}

impl Messages {
    pub(super) fn new(workflow: &Arc<Workflow>, window: Range<usize>) -> Messages {
        Messages {
            workflow: Arc::clone(workflow),
            window,
            kept: BTreeMap::new(),
            count: 0,
            open: HashMap::new(),
            agents: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// The messages of the page, what is known of conversations that have ended, and the number of all messages.
    pub(super) fn page(self) -> (Vec<Value>, Vec<Value>, usize) {
        (self.kept.into_values().map(Value::from).collect(), self.ended, self.count)
    }

    fn is_agent(&self, action: &str) -> bool {
        let found = self.workflow.find_action(action);
        found.is_some_and(|index| matches!(self.workflow.action(index).kind, ActionKind::Agent { .. }))
    }

    /// Adds a message and returns its place.
    fn add(&mut self, message: Object) -> usize {
        let place = self.count;
        self.count += 1;
        if self.window.contains(&place) {
            self.kept.insert(place, message);
        }
        place
    }

    /// Applies the next event.
    pub(super) fn follow(&mut self, event: &Value) {
        let (kind, action) = (text(event, "type"), text(event, "action"));
        if action.is_empty() {
            return;
        }
        let data = event.get("data").cloned().unwrap_or_default();
        let path = items(event.get("path"));
        let key = occurrence(action, path);
        let is_agent = self.is_agent(action);
        match kind {
            "action.started" if is_agent => self.asked(event, &data),
            "attempt.started" if event.get("messageId").is_some() && text(&data, "phase") == "call" => {
                self.begun(&key, event);
            }
            _ => {}
        }
        if ends_message(kind) {
            if let Some(place) = self.open.remove(text(event, "messageId")) {
                self.said(place, &key, event, &data);
            }
            if kind == "action.completed" {
                self.returned(path, &data);
            }
        }
        if kind == "agent.turn" {
            let uses = data.get("uses").and_then(Value::as_i64).unwrap_or_default();
            self.agents.entry(key).or_default().uses += uses;
        } else if kind == "action.completed" && is_agent {
            self.agents.remove(&key);
            self.ended.push(conversation(event, &data));
        }
    }

    /// The messages with which an agent begins.
    fn asked(&mut self, event: &Value, data: &Value) {
        let inputs = data.get("inputs");
        let parameters = inputs.and_then(|inputs| inputs.get("parameters")).or(inputs);
        for given in items(parameters.and_then(|parameters| parameters.get("messages"))) {
            let mut message = about(event);
            let role = text(given, "role").to_lowercase();
            let content = given.get("content").map(|content| content.text().into_owned());
            message.insert("speaker", role.as_str());
            message.insert("role", role);
            message.insert("text", content.unwrap_or_default());
            message.insert("startTime", event.get("ts").cloned().unwrap_or_default());
            self.add(message);
        }
    }

    /// The beginning of a message.
    fn begun(&mut self, key: &str, event: &Value) {
        let id = text(event, "messageId").to_owned();
        let mut message = about(event);
        message.insert("messageId", id.as_str());
        if let Some(speaker) = self.agents.get(key).and_then(|agent| agent.speaker.clone()) {
            message.insert("speaker", speaker);
        }
        message.insert("role", "assistant");
        message.insert("status", "Running");
        message.insert("startTime", event.get("ts").cloned().unwrap_or_default());
        let place = self.add(message);
        self.open.insert(id, place);
    }

    /// The end of a message, and what others said in the same turn.
    fn said(&mut self, place: usize, key: &str, event: &Value, data: &Value) {
        let outputs = data.get("outputs").cloned().unwrap_or_default();
        let uses = self.agents.get(key).map_or(0, |agent| agent.uses);
        let said = whole_text(event).unwrap_or_default();
        let calls = items(outputs.get("toolCalls"));
        for (position, call) in calls.iter().enumerate() {
            if let Some(number) = call.get("use").and_then(Value::as_i64) {
                let agent = self.agents.entry(key.to_owned()).or_default();
                agent.calls.insert(uses.saturating_add(number), (place, position));
            }
        }
        let mut own = None;
        let mut others = Vec::new();
        for shown in items(outputs.get("chat")) {
            match text(shown, "event") {
                "speaker-selected" => {
                    let agent = self.agents.entry(key.to_owned()).or_default();
                    agent.speaker = shown.get("speaker").cloned();
                }
                "message" => {
                    let message = shown.get("message").cloned().unwrap_or_default();
                    let is_own = own.is_none() && !said.is_empty() && text(&message, "content") == said;
                    if is_own { own = Some(message) } else { others.push(message) }
                }
                _ => {}
            }
        }
        if let Some(message) = self.kept.get_mut(&place) {
            if let Some(name) = own.as_ref().and_then(|own| own.get("name")) {
                message.insert("speaker", name.clone());
            }
            finish(message, event, data, &outputs, &said);
        }
        // A turn of a chat that made no call says nothing itself.
        let is_silent = said.is_empty() && outputs.get("chat").is_some() && outputs.get("model").is_none();
        if is_silent {
            self.kept.remove(&place);
        }
        for other in others {
            self.add(of_chat(event, &other));
        }
    }

    /// The result of a tool: what the last action of its block returned.
    fn returned(&mut self, path: &[Value], data: &Value) {
        let Some((last, around)) = path.split_last() else { return };
        let agent = last.index(0).and_then(Value::as_str).unwrap_or_default();
        let number = last.index(1).and_then(Value::as_i64).unwrap_or_default();
        let call = self.agents.get(&occurrence(agent, around)).and_then(|agent| agent.calls.get(&number));
        let Some((place, position)) = call.copied() else { return };
        let Some(message) = self.kept.get_mut(&place) else { return };
        let mut calls = items(message.get("toolCalls")).to_vec();
        let Some(mut call) = calls.get(position).and_then(Value::as_object).cloned() else { return };
        let result = data.get("outputs").or_else(|| data.get("error"));
        let result = result.map(|result| result.get("body").unwrap_or(result).clone());
        call.insert("result", result.unwrap_or_default());
        call.insert("status", text(data, "status"));
        calls[position] = call.into();
        message.insert("toolCalls", calls);
    }

    /// The text of a message that is being written.
    pub(super) fn arrived(&mut self, id: &str, so_far: &str) {
        let Some(place) = self.open.get(id) else { return };
        if let Some(message) = self.kept.get_mut(place) {
            message.insert("text", so_far);
        }
    }
}

/// Where something was said.
fn about(event: &Value) -> Object {
    let mut about = Object::new();
    for name in ["action", "path"] {
        if let Some(value) = event.get(name) {
            about.insert(name, value.clone());
        }
    }
    about
}

/// A message of a chat that no call of this turn has written.
fn of_chat(event: &Value, said: &Value) -> Object {
    let mut message = about(event);
    if let Some(name) = said.get("name") {
        message.insert("speaker", name.clone());
    }
    let role = text(said, "role");
    message.insert("role", if role == "agent" { "assistant" } else { role });
    message.insert("text", said.get("content").cloned().unwrap_or_default());
    let at = said.get("timestamp").or_else(|| event.get("ts"));
    message.insert("startTime", at.cloned().unwrap_or_default());
    if let Some(calls) = said.get("toolCalls") {
        message.insert("toolCalls", calls.clone());
    }
    message
}

fn finish(message: &mut Object, event: &Value, data: &Value, outputs: &Value, said: &str) {
    message.insert("status", text(data, "status"));
    message.insert("endTime", event.get("ts").cloned().unwrap_or_default());
    // A coordinator chooses who speaks; what it writes is not said to anybody.
    let decision = outputs.get("decision").and_then(Value::as_str);
    if decision.is_some() {
        message.insert("role", "coordinator");
        message.insert("speaker", "coordinator");
    }
    message.insert("text", decision.unwrap_or(said));
    if let Some(calls) = outputs.get("toolCalls").filter(|calls| !items(Some(calls)).is_empty()) {
        message.insert("toolCalls", calls.clone());
    }
    // The outputs of an agent have the usage of all its turns.
    let is_sum = outputs.get("iterations").is_some() || outputs.get("calls").is_some();
    for name in ["model", "usage", "stopReason"] {
        if let Some(value) = outputs.get(name).filter(|_| !is_sum) {
            message.insert(name, value.clone());
        }
    }
    if let Some(error) = data.get("error") {
        message.insert("error", error.clone());
    }
}

/// How the conversation of an agent ended.
fn conversation(event: &Value, data: &Value) -> Value {
    let mut ended = about(event);
    ended.insert("status", text(data, "status"));
    ended.insert("endTime", event.get("ts").cloned().unwrap_or_default());
    let outputs = data.get("outputs").cloned().unwrap_or_default();
    for (name, shown) in
        [("stopReason", "stopReason"), ("usage", "usage"), ("iterations", "calls"), ("calls", "calls")]
    {
        if let Some(value) = outputs.get(name) {
            ended.insert(shown, value.clone());
        }
    }
    if let Some(error) = data.get("error") {
        ended.insert("error", error.clone());
    }
    ended.into()
}
