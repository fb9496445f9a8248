//! Five kinds of chunks, `{type, data?, error?, progress?}`: `start`, then `progress` and `data`, and at the end `complete` or
//! `error`. The first event of a stream is `connected`, the last one `done`.

use loom_engine::RunId;
use loom_expression::{Object, Value};

use super::{
    native::{chat_of, for_caller, whole_text},
    push,
    said::ends_message,
};

#[derive(Debug)]
pub(super) struct Chunks {
    run: RunId,
    to_caller: bool,
}

impl Chunks {
    pub(super) fn new(run: RunId, to_caller: bool) -> Chunks {
        Chunks { run, to_caller }
    }

    pub(super) fn greet(&self, out: &mut String) {
        self.say("connected", out);
    }

    pub(super) fn close(&self, out: &mut String) {
        self.say("done", out);
    }

    fn say(&self, kind: &str, out: &mut String) {
        let data: Object = [("streamId", self.run.to_string())].into_iter().collect();
        push(out, None, kind, &data.into());
    }

    pub(super) fn event(&self, seq: u64, event: &Value, out: &mut String) {
        let shown = if self.to_caller { for_caller(event) } else { Some(event.clone()) };
        let chunks = shown.map(|event| chunks_of(&event)).unwrap_or_default();
        let count = chunks.len();
        for (index, chunk) in chunks.into_iter().enumerate() {
            let of_data = chunk.get("data").and_then(|data| data.get("event")).and_then(Value::as_str);
            let kind = chunk.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            // The name of the event is that of the data, if it has one.
            let name = of_data.filter(|_| kind == "data").map(|name| name.replace(['\r', '\n'], " "));
            // The last one has the number, so that a reader that reconnects misses nothing.
            let seq = (index + 1 == count).then_some(seq);
            push(out, seq, name.as_deref().unwrap_or(&kind), &chunk);
        }
    }
}

fn chunk(kind: &str, name: &'static str, content: impl Into<Value>) -> Value {
    let mut chunk = Object::new();
    chunk.insert("type", kind);
    chunk.insert(name, content);
    chunk.into()
}

/// The chunks for an event: several for a turn of a group chat.
fn chunks_of(event: &Value) -> Vec<Value> {
    let chat = chat_of(event);
    if chat.is_empty() {
        return chunk_of(event).into_iter().collect();
    }
    let chunks = chat.into_iter().map(|shown| match shown.get("progress") {
        Some(progress) => chunk("progress", "progress", progress.clone()),
        None => chunk("data", "data", shown),
    });
    chunks.collect()
}

/// The chunk for an event, if there is one.
fn chunk_of(event: &Value) -> Option<Value> {
    let kind = event.get("type").and_then(Value::as_str)?;
    let data = event.get("data")?;
    let member = |name: &str| data.get(name).cloned();
    if let Some(emitted) = data.get("emitted") {
        if let Some(progress) = emitted.get("progress") {
            return Some(chunk("progress", "progress", progress.clone()));
        }
        return Some(chunk("data", "data", emitted.clone()));
    }
    if let Some(message) = event.get("messageId").filter(|_| ends_message(kind))
        && let Some(text) = whole_text(event).filter(|text| !text.is_empty())
    {
        let mut said = Object::new();
        said.insert("event", "message");
        said.insert("messageId", message.clone());
        said.insert("speaker", event.get("action").cloned().unwrap_or_default());
        said.insert("text", text);
        return Some(chunk("data", "data", said));
    }
    match kind {
        "run.started" => {
            let mut started = Object::new();
            started.insert("runId", event.get("runId").cloned().unwrap_or_default());
            started.insert("workflow", member("workflow").unwrap_or_default());
            Some(chunk("start", "data", started))
        }
        "run.completed" if data.get("status").and_then(Value::as_str) == Some("Succeeded") => {
            let mut state = Object::new();
            state.insert("status", "Succeeded");
            if let Some(outputs) = member("outputs") {
                state.insert("outputs", outputs);
            }
            Some(chunk("complete", "data", state))
        }
        "run.completed" => {
            let message = data.get("error").and_then(|error| error.get("message")?.as_str());
            let status = data.get("status").and_then(Value::as_str).unwrap_or_default();
            let text = message.map_or_else(|| format!("The run ended as {status}."), str::to_owned);
            Some(chunk("error", "error", text))
        }
        "run.responded" => {
            let mut responded = Object::new();
            responded.insert("event", "response");
            responded.insert("response", member("response").unwrap_or_default());
            Some(chunk("data", "data", responded))
        }
        "action.started" | "action.completed" | "action.retrying" => {
            let mut about = Object::new();
            about.insert("event", kind);
            about.insert("action", event.get("action").cloned().unwrap_or_default());
            for name in ["status", "code"] {
                if let Some(value) = member(name) {
                    about.insert(name, value);
                }
            }
            Some(chunk("data", "data", about))
        }
        _ => None,
    }
}
