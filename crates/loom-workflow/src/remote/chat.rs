//! A conversation with a workflow of a server: one run for each turn, whose stream is shown.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use anyhow::Result;
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, HeaderValue},
};
use loom_actions::Streamed;
use loom_expression::{Object, Value, percent};
use tokio::sync::mpsc;

use super::{From, Refusal, connection::Connection, follow::Blocks, members, text, with_connection};
use crate::{
    config::{Config, Flags},
    console::{self, Console},
    exit::Exit,
    signals::Interrupts,
};

/// How long nothing arrives before it is looked whether the run asks something.
const QUIET: Duration = Duration::from_millis(300);

/// Chats with a workflow of a server.
pub(crate) fn chat_with(
    server: Option<String>,
    flags: &Flags<true>,
    workflow: &str,
    console: Console,
) -> Result<Exit> {
    let config = Config::resolve(flags, &[])?;
    let token_file = config
        .values
        .token_file
        .clone()
        .filter(|_| matches!(config.origin("token-file"), Some(crate::config::Origin::Flag(_))));
    let from = From::given(server, None, None, token_file);
    with_connection(&from, true, async |connection| converse(connection, workflow, console).await)
}

/// Chats with a workflow of a server in this process.
pub(crate) async fn chat_here(
    address: &str,
    token: Option<&str>,
    workflow: &str,
    console: Console,
) -> Result<Exit> {
    let connection = Connection::server(address, token)?;
    match converse(&connection, workflow, console).await {
        Ok(exit) => Ok(exit),
        Err(Refusal::Answered { message, .. } | Refusal::Unreachable(message)) => {
            eprintln!("loom: {message}");
            Ok(Exit::Failure)
        }
        Err(Refusal::Stranger { address }) => {
            Err(anyhow::anyhow!("{address} does not respond as a server does"))
        }
    }
}

/// Reads lines until the input ends.
async fn converse(connection: &Connection, workflow: &str, console: Console) -> Result<Exit, Refusal> {
    let path = trigger_of(connection, workflow).await?;
    let interrupts = Interrupts::listen().map_err(|error| Refusal::Unreachable(error.to_string()))?;
    let mut chat = Chat {
        connection,
        path,
        said: Vec::new(),
        lines: lines(),
        interrupts,
        has_prompt: std::io::stdin().is_terminal(),
        bold: console.color,
    };
    if chat.has_prompt {
        let partner = if workflow == crate::chat::GROUP { "the group" } else { workflow };
        eprintln!("loom: chatting with {partner}; Ctrl-C stops a turn, Ctrl-D leaves");
    }
    let mut exit = Exit::Success;
    loop {
        let Some(line) = chat.ask("> ").await else { break };
        let line = match line {
            Asked::Line(line) if line.trim().is_empty() => continue,
            Asked::Line(line) => line,
            Asked::Leave => return Ok(Exit::Interrupted),
        };
        exit = match chat.turn(&line).await {
            Ok(Turn::Over) => Exit::Success,
            Ok(Turn::Failed) => Exit::Failure,
            Ok(Turn::Stopped) => {
                eprintln!("loom: stopped");
                Exit::Success
            }
            // A turn that was refused can be followed by another one.
            Err(Refusal::Answered { status, message }) if !matches!(status, 401 | 403 | 404) => {
                eprintln!("loom: {message}");
                Exit::Failure
            }
            Err(refusal) => return Err(refusal),
        };
    }
    if chat.has_prompt {
        eprintln!("");
    }
    Ok(exit)
}

/// The path at which the workflow's trigger is fired.
async fn trigger_of(connection: &Connection, workflow: &str) -> Result<String, Refusal> {
    let path = format!("/api/v1/workflows/{}", percent::encode(workflow));
    let shown = connection.ask(Method::GET, &path, "name").await?;
    let trigger =
        members(&shown, "triggers").find(|trigger| text(trigger, "type").eq_ignore_ascii_case("Request"));
    let Some(trigger) = trigger else {
        let message =
            format!("the workflow '{workflow}' has no Request trigger, so it cannot be chatted with");
        return Err(Refusal::Answered { status: 400, message });
    };
    let name = text(trigger, "name");
    Ok(format!("/workflows/{}/triggers/{}/invoke", percent::encode(workflow), percent::encode(name)))
}

/// Lines that are read ahead of the conversation; a writer of more waits.
const LINES: usize = 64;

/// The lines of standard input.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES);
    // A read from a terminal cannot be cancelled, so it has a thread of its own, which ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

struct Chat<'c> {
    connection: &'c Connection,
    path: String,
    /// The conversation so far, as chat completions have it.
    said: Vec<Value>,
    lines: mpsc::Receiver<String>,
    interrupts: Interrupts,
    /// Whether a person types.
    has_prompt: bool,
    bold: bool,
}

/// What was typed at a prompt.
enum Asked {
    Line(String),
    /// Ctrl-C, twice.
    Leave,
}

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Over,
    Failed,
    Stopped,
}

/// What a turn has shown.
#[derive(Default)]
struct Shown {
    run: Option<String>,
    /// Who speaks, if the run has said so.
    speaker: String,
    /// The characters that were shown of each message.
    messages: BTreeMap<String, usize>,
    /// The message whose text was shown last.
    current: String,
    /// The text of the current message.
    last: String,
    /// Whether the line that is written is not empty.
    in_line: bool,
    /// The questions that were answered, or left to others.
    asked: Vec<String>,
}

impl Shown {
    /// Shows a note beside the answer.
    fn note(&mut self, note: &str) {
        if note.is_empty() {
            return;
        }
        if self.in_line {
            console::value("\n", "");
            self.in_line = false;
            self.current.clear();
        }
        eprintln!("loom: {note}");
    }
}

impl Chat<'_> {
    /// Reads a line; none at the end of the input.
    async fn ask(&mut self, prompt: &str) -> Option<Asked> {
        let mut interrupted = false;
        loop {
            if self.has_prompt {
                eprint!("{prompt}");
            }
            tokio::select! {
                line = self.lines.recv() => return line.map(Asked::Line),
                () = self.interrupts.next() => {
                    if std::mem::replace(&mut interrupted, true) {
                        eprintln!("");
                        return Some(Asked::Leave);
                    }
                    eprintln!("");
                    eprintln!("loom: press Ctrl-C again to leave");
                }
            }
        }
    }

    /// Starts a run with a message, and shows it until it ends.
    async fn turn(&mut self, message: &str) -> Result<Turn, Refusal> {
        let entry = |role: &str, content: &str| -> Value {
            let entry: Object =
                [("role", Value::from(role)), ("content", Value::from(content))].into_iter().collect();
            entry.into()
        };
        self.said.push(entry("user", message));
        let mut body = Object::new();
        body.insert("message", message);
        body.insert("messages", self.said.clone());
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let body = Value::from(body).to_json_text().into_bytes();
        let mut shown = Shown::default();
        let begun = tokio::select! {
            begun = self.connection.stream(Method::POST, &self.path, headers, body) => begun,
            () = self.interrupts.next() => {
                self.said.pop();
                return Ok(Turn::Stopped);
            }
        };
        let turn = match begun {
            Ok(stream) => self.show(stream, &mut shown).await,
            Err(refusal) => Err(refusal),
        };
        if shown.in_line {
            console::value("\n", "");
        }
        match &turn {
            Ok(Turn::Over) => self.said.push(entry("assistant", &shown.last)),
            // The next turn begins where this one did.
            _ => drop(self.said.pop()),
        }
        turn
    }

    async fn show(&mut self, mut stream: Streamed, shown: &mut Shown) -> Result<Turn, Refusal> {
        let mut blocks = Blocks::default();
        let mut turn = Turn::Over;
        loop {
            let chunk = tokio::select! {
                chunk = stream.chunk() => chunk.map_err(|failure| Refusal::Unreachable(failure.message))?,
                () = self.interrupts.next() => return self.stop(shown).await,
                () = tokio::time::sleep(QUIET) => {
                    match self.answer(shown).await? {
                        None => continue,
                        Some(Turn::Stopped) => return self.stop(shown).await,
                        Some(turn) => return Ok(turn),
                    }
                }
            };
            let Some(chunk) = chunk else { return Ok(turn) };
            blocks.push(&chunk);
            while let Some(block) = blocks.pop() {
                let Ok(event) = Value::parse_json(block.data.as_bytes()) else { continue };
                if self.event(&event, shown) == Turn::Failed {
                    turn = Turn::Failed;
                }
            }
        }
    }

    fn event(&self, event: &Value, shown: &mut Shown) -> Turn {
        if let Some(run) = event.get("runId").and_then(Value::as_str) {
            shown.run.get_or_insert_with(|| run.to_owned());
        }
        let data = event.get("data").cloned().unwrap_or_default();
        // The event that ends a turn has what was said in it, and who speaks next.
        let turn = self.said(event, &data, shown);
        for said in members(&data, "chat") {
            if text(said, "event") == "speaker-selected" {
                text(said, "speaker").clone_into(&mut shown.speaker);
            }
            if text(said, "event") == "warning" {
                shown.note(text(said, "message"));
            }
        }
        if let Some(progress) = data.get("emitted").and_then(|emitted| emitted.get("progress")) {
            shown.note(text(progress, "message"));
        }
        turn
    }

    /// Shows what was said in an event, or how the run ended.
    fn said(&self, event: &Value, data: &Value, shown: &mut Shown) -> Turn {
        let kind = text(event, "type");
        let message = event.get("messageId").and_then(Value::as_str);
        match (kind, message) {
            ("message.snapshot" | "message.delta", Some(message)) => {
                let start = event.get("offset").and_then(Value::as_i64).unwrap_or(0);
                self.say(message, usize::try_from(start).unwrap_or(0), text(event, "text"), shown);
            }
            (_, Some(message)) => {
                if let Some(whole) = data.get("text").and_then(Value::as_str) {
                    self.say(message, 0, whole, shown);
                }
            }
            ("run.responded", None) => {
                let response = data.get("response").cloned().unwrap_or_default();
                let body = response.get("body").filter(|body| !body.is_null());
                let body = body.map(|body| body.as_str().map_or_else(|| body.to_json_text(), str::to_owned));
                let failed =
                    response.get("statusCode").and_then(Value::as_i64).is_some_and(|status| status >= 400);
                // An agent's answer was shown while it arrived.
                if let Some(body) = body.filter(|body| body.trim() != shown.last.trim()) {
                    shown.speaker.clear();
                    self.say("\u{1}response", 0, &body, shown);
                }
                if failed {
                    return Turn::Failed;
                }
            }
            ("run.completed", None) if text(data, "status") != "Succeeded" => {
                let why = data.get("error").map(|error| text(error, "message").to_owned());
                let run = shown.run.as_deref().unwrap_or_default();
                let status = text(data, "status");
                shown.note(&format!("the run {run} ended as {status}: {}", why.unwrap_or_default()));
                return Turn::Failed;
            }
            _ => {}
        }
        Turn::Over
    }

    /// Shows what is new of a message.
    fn say(&self, message: &str, start: usize, said: &str, shown: &mut Shown) {
        let known = shown.messages.get(message).copied().unwrap_or(0);
        let new: String = said.chars().skip(known.saturating_sub(start)).collect();
        if new.is_empty() {
            return;
        }
        if shown.current != message {
            if shown.in_line {
                console::value("\n", "");
            }
            message.clone_into(&mut shown.current);
            shown.last.clear();
            if !shown.speaker.is_empty() {
                let speaker = &shown.speaker;
                if self.bold && console::is_terminal() {
                    console::value_styled(&format!("{speaker}: "));
                } else {
                    console::value(&format!("{speaker}: "), "");
                }
            }
        }
        console::value(&new, "");
        shown.in_line = !new.ends_with('\n');
        *shown.messages.entry(message.to_owned()).or_default() = known + new.chars().count();
        shown.last.push_str(&new);
    }

    /// Passes on what the run asks people. `Stopped` when the person interrupts, `Over` when nobody can answer here.
    async fn answer(&mut self, shown: &mut Shown) -> Result<Option<Turn>, Refusal> {
        let Some(run) = shown.run.clone() else { return Ok(None) };
        let path = format!("/api/v1/runs/{}/questions", percent::encode(&run));
        // If they cannot be read, the stream says what is wrong.
        let Ok(asked) = self.connection.ask(Method::GET, &path, "questions").await else { return Ok(None) };
        for question in members(&asked, "questions") {
            let id = text(question, "id").to_owned();
            if shown.asked.contains(&id) {
                continue;
            }
            shown.asked.push(id.clone());
            let is_approval = text(question, "ask") == "approval";
            let about = if is_approval {
                let arguments = question.get("arguments").map(Value::to_json_text).unwrap_or_default();
                format!(
                    "may `{}` be executed with {arguments}? {}",
                    text(question, "tool"),
                    text(question, "message")
                )
            } else {
                format!("{} is asked: {}", text(question, "to"), text(question, "message"))
            };
            shown.note(&about);
            let prompt = if is_approval { "approve? [y/N] " } else { "reply> " };
            let typed = match self.ask(prompt).await {
                Some(Asked::Line(line)) => line,
                Some(Asked::Leave) => return Ok(Some(Turn::Stopped)),
                None => {
                    shown.note(&format!("the run waits for an answer: loom runs questions {run}"));
                    return Ok(Some(Turn::Over));
                }
            };
            let mut body = Object::new();
            body.insert("question", id);
            if is_approval {
                body.insert("approved", matches!(typed.trim().to_lowercase().as_str(), "y" | "yes"));
            } else {
                let has_schema = question.get("responseSchema").is_some();
                let json = if has_schema { Value::from_json_str(&typed).ok() } else { None };
                body.insert("message", json.unwrap_or_else(|| Value::from(typed.as_str())));
            }
            if let Some(name) = super::people::user() {
                body.insert("by", name);
            }
            let path = format!("/api/v1/runs/{}/answers", percent::encode(&run));
            let body = Value::from(body).to_json_text().into_bytes();
            if let Err(Refusal::Answered { message, .. }) =
                self.connection.send(Method::POST, &path, HeaderMap::new(), body).await
            {
                shown.note(&message);
                shown.asked.pop();
            }
        }
        Ok(None)
    }

    /// Cancels the run of the turn.
    async fn stop(&self, shown: &Shown) -> Result<Turn, Refusal> {
        if let Some(run) = &shown.run {
            let path = format!("/api/v1/runs/{}/cancel", percent::encode(run));
            match self.connection.send(Method::POST, &path, HeaderMap::new(), Vec::new()).await {
                // It may have ended meanwhile.
                Ok(_) | Err(Refusal::Answered { .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Turn::Stopped)
    }
}
