//! The events of the AG-UI protocol, for the clients of agents. One event of Loom becomes none, one or several of them; the last
//! carries the number, so that a reader that reconnects misses nothing.

use std::{collections::BTreeMap, fmt::Write as _};

use loom_engine::RunId;
use loom_expression::{Object, Value};

use super::{
    Shown,
    native::{chat_of, for_caller, whole_text},
    said::{Part, ends_message},
};

pub(super) struct AgUi {
    run: String,
    thread: String,
    /// Whether `RUN_STARTED` was sent.
    started: bool,
    to_caller: bool,
    /// The names of steps that have started and not ended.
    steps: Vec<String>,
    /// The characters that were sent of each message that has begun and not ended.
    messages: BTreeMap<String, u64>,
    /// Tool calls whose results are not known yet: by the occurrence of their agent, their numbers and ids.
    calls: BTreeMap<String, Vec<(i64, String)>>,
    /// How many tools each agent has used.
    used: BTreeMap<String, i64>,
    /// What the last action of each use of a tool returned.
    results: BTreeMap<(String, i64), String>,
}

impl AgUi {
    pub(super) fn new(run: RunId, shown: Shown) -> AgUi {
        AgUi {
            run: run.to_string(),
            thread: run.to_string(),
            started: false,
            to_caller: shown.to_caller,
            steps: Vec::new(),
            messages: BTreeMap::new(),
            calls: BTreeMap::new(),
            used: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    pub(super) fn event(&mut self, seq: u64, event: &Value, out: &mut String) {
        let mut events = Vec::new();
        self.begin(event, &mut events);
        self.follow(event);
        if let Some(shown) = if self.to_caller { for_caller(event) } else { Some(event.clone()) } {
            self.convert(&shown, event, &mut events);
        }
        let count = events.len();
        for (index, event) in events.into_iter().enumerate() {
            push_event(out, (index + 1 == count).then_some(seq), event);
        }
    }

    pub(super) fn part(&mut self, part: &Part<'_>, out: &mut String) {
        let mut events = Vec::new();
        if !self.messages.contains_key(part.message) {
            self.start_message(part.message, &mut events);
        }
        self.say(part.message, &part.text, &mut events);
        for event in events {
            push_event(out, None, event);
        }
    }

    /// A stream begins with `RUN_STARTED`, also for a reader that comes back.
    fn begin(&mut self, event: &Value, events: &mut Vec<Object>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let body = || event.get("data")?.get("trigger")?.get("outputs")?.get("body");
        if let Some(thread) = body().and_then(|body| body.get("threadId")?.as_str()) {
            thread.clone_into(&mut self.thread);
        }
        let mut started = of_type("RUN_STARTED");
        started.insert("threadId", self.thread.as_str());
        started.insert("runId", self.run.as_str());
        events.push(started);
    }

    /// Remembers what actions inside tools return.
    fn follow(&mut self, event: &Value) {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind != "action.completed" || self.calls.is_empty() {
            return;
        }
        let Some(path) = event.get("path").and_then(Value::as_array) else { return };
        let Some(last) = path.last().and_then(Value::as_array) else { return };
        let (Some(agent), Some(index)) =
            (last.first().and_then(Value::as_str), last.get(1).and_then(Value::as_i64))
        else {
            return;
        };
        let data = event.get("data");
        let result = data.and_then(|data| data.get("outputs").or_else(|| data.get("error")));
        let result = result.map(|result| result.get("body").unwrap_or(result));
        let text = result.map(|result| result.as_str().map_or_else(|| result.to_json_text(), str::to_owned));
        let around = &path[..path.len() - 1];
        self.results.insert((occurrence(agent, around), index), text.unwrap_or_default());
    }

    fn convert(&mut self, shown: &Value, event: &Value, events: &mut Vec<Object>) {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        let data = shown.get("data").cloned().unwrap_or_default();
        if let Some(emitted) = data.get("emitted") {
            let mut custom = of_type("CUSTOM");
            match (emitted.get("event"), emitted.get("progress")) {
                (Some(name), _) => {
                    custom.insert("name", name.clone());
                    custom.insert("value", emitted.get("data").cloned().unwrap_or_default());
                }
                (None, progress) => {
                    custom.insert("name", "progress");
                    custom.insert("value", progress.cloned().unwrap_or_default());
                }
            }
            events.push(custom);
        }
        if let Some(message) = event.get("messageId").and_then(Value::as_str) {
            if kind == "attempt.started" {
                self.results_of_tools(event, events);
            }
            if ends_message(kind) {
                self.end_message(message, event, events);
            }
        }
        for shown in chat_of(shown) {
            let mut custom = of_type("CUSTOM");
            custom.insert("name", shown.get("event").cloned().unwrap_or_default());
            custom.insert("value", shown);
            events.push(custom);
        }
        match kind {
            "action.started" if !self.to_caller => {
                let name = step_name(event);
                if !self.steps.contains(&name) {
                    let mut step = of_type("STEP_STARTED");
                    step.insert("stepName", name.as_str());
                    events.push(step);
                    self.steps.push(name);
                }
            }
            "action.completed" | "action.skipped" => self.end_step(&step_name(event), events),
            "run.completed" => self.end(&data, events),
            _ => {}
        }
    }

    fn start_message(&mut self, message: &str, events: &mut Vec<Object>) {
        let mut start = of_type("TEXT_MESSAGE_START");
        start.insert("messageId", message);
        start.insert("role", "assistant");
        events.push(start);
        self.messages.insert(message.to_owned(), 0);
    }

    fn say(&mut self, message: &str, text: &str, events: &mut Vec<Object>) {
        if text.is_empty() {
            return;
        }
        *self.messages.entry(message.to_owned()).or_default() += text.chars().count() as u64;
        let mut content = of_type("TEXT_MESSAGE_CONTENT");
        content.insert("messageId", message);
        content.insert("delta", text);
        events.push(content);
    }

    /// Ends a message: sends what is missing of it, and the tool calls in it.
    fn end_message(&mut self, message: &str, event: &Value, events: &mut Vec<Object>) {
        if let Some(text) = whole_text(event) {
            let sent = self.messages.get(message).copied().unwrap_or(0);
            let rest: String = text.chars().skip(usize::try_from(sent).unwrap_or(usize::MAX)).collect();
            if !rest.is_empty() && sent == 0 {
                self.start_message(message, events);
            }
            self.say(message, &rest, events);
        }
        if self.messages.remove(message).is_some() {
            let mut end = of_type("TEXT_MESSAGE_END");
            end.insert("messageId", message);
            events.push(end);
        }
        if !self.to_caller {
            self.tool_calls(message, event, events);
        }
    }

    fn tool_calls(&mut self, message: &str, event: &Value, events: &mut Vec<Object>) {
        let calls =
            event.get("data").and_then(|data| data.get("outputs")?.get("toolCalls")?.as_array().cloned());
        let agent = occurrence_of(event);
        let first = self.used.get(&agent).copied().unwrap_or(0);
        let mut open = Vec::new();
        let uses = event.get("data").and_then(|data| data.get("uses")?.as_i64()).unwrap_or(0);
        for call in &calls.unwrap_or_default() {
            let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
            let id = text("id");
            let of_call = |kind| {
                let mut event = of_type(kind);
                event.insert("toolCallId", id);
                event
            };
            let mut start = of_call("TOOL_CALL_START");
            start.insert("toolCallName", text("name"));
            start.insert("parentMessageId", message);
            events.push(start);
            let mut arguments = of_call("TOOL_CALL_ARGS");
            let given = call.get("arguments").cloned().unwrap_or_default();
            arguments.insert("delta", given.as_str().map_or_else(|| given.to_json_text(), str::to_owned));
            events.push(arguments);
            events.push(of_call("TOOL_CALL_END"));
            // What the model asked for wrongly opens no block, and has no number.
            if let Some(number) = call.get("use").and_then(Value::as_i64) {
                open.push((first + number, id.to_owned()));
            }
        }
        if uses > 0 {
            self.used.insert(agent.clone(), first + uses);
            self.calls.insert(agent, open);
        }
    }

    /// The next turn of an agent begins, so its tools have returned.
    fn results_of_tools(&mut self, event: &Value, events: &mut Vec<Object>) {
        let agent = occurrence_of(event);
        for (index, id) in self.calls.remove(&agent).unwrap_or_default() {
            let content = self.results.remove(&(agent.clone(), index)).unwrap_or_default();
            let mut result = of_type("TOOL_CALL_RESULT");
            result.insert("messageId", format!("{id}-result"));
            result.insert("toolCallId", id);
            result.insert("role", "tool");
            result.insert("content", content);
            events.push(result);
        }
    }

    fn end_step(&mut self, name: &str, events: &mut Vec<Object>) {
        let Some(at) = self.steps.iter().position(|step| step == name) else { return };
        self.steps.swap_remove(at);
        let mut step = of_type("STEP_FINISHED");
        step.insert("stepName", name);
        events.push(step);
    }

    fn end(&mut self, data: &Value, events: &mut Vec<Object>) {
        for message in std::mem::take(&mut self.messages).into_keys() {
            let mut end = of_type("TEXT_MESSAGE_END");
            end.insert("messageId", message);
            events.push(end);
        }
        for step in std::mem::take(&mut self.steps) {
            let mut finished = of_type("STEP_FINISHED");
            finished.insert("stepName", step);
            events.push(finished);
        }
        let status = data.get("status").and_then(Value::as_str).unwrap_or_default();
        if status == "Succeeded" {
            let mut finished = of_type("RUN_FINISHED");
            finished.insert("threadId", self.thread.as_str());
            finished.insert("runId", self.run.as_str());
            if let Some(outputs) = data.get("outputs") {
                finished.insert("result", outputs.clone());
            }
            return events.push(finished);
        }
        let error = |name: &str| data.get("error").and_then(|error| error.get(name)?.as_str());
        let mut failed = of_type("RUN_ERROR");
        failed.insert(
            "message",
            error("message").map_or_else(|| format!("The run ended as {status}."), str::to_owned),
        );
        failed.insert("code", error("code").unwrap_or(status));
        events.push(failed);
    }
}

fn of_type(kind: &str) -> Object {
    let mut event = Object::new();
    event.insert("type", kind);
    event
}

/// Clients of the protocol read only the data, so the events have no names.
fn push_event(out: &mut String, seq: Option<u64>, event: Object) {
    if let Some(seq) = seq {
        writeln!(out, "id: {seq}").expect("writing to a String cannot fail");
    }
    write!(out, "data: {}\n\n", Value::from(event).to_json_text()).expect("writing to a String cannot fail");
}

/// An action with the iterations around it: `Ask`, `Each[3]/Ask`.
fn occurrence(action: &str, path: &[Value]) -> String {
    let mut name = String::new();
    for round in path {
        let round = round.as_array();
        let part = |at: usize| round.and_then(|round| round.get(at)).cloned().unwrap_or_default();
        write!(name, "{}[{}]/", part(0).text(), part(1).text()).expect("writing to a String cannot fail");
    }
    name.push_str(action);
    name
}

fn occurrence_of(event: &Value) -> String {
    let path = event.get("path").and_then(Value::as_array);
    occurrence(event.get("action").and_then(Value::as_str).unwrap_or_default(), path.map_or(&[], |path| path))
}

fn step_name(event: &Value) -> String {
    occurrence_of(event)
}
