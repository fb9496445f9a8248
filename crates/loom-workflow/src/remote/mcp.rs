//! Passes messages of the Model Context Protocol on, from standard input and output to `/mcp` of a server.
//!
//! The messages are not interpreted beyond what the transport needs. A session that the server does not know any more, because it
//! was restarted, is begun again with the client's own first message.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, HeaderName, HeaderValue},
};
use loom_actions::Streamed;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::JoinSet,
};

use super::{
    connection::{Connection, Refusal},
    follow::Blocks,
};
use crate::{console, exit::Exit};

const PATH: &str = "/mcp";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The property of `_meta` with the revision of the protocol, in revisions without sessions.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The wait before the stream of the session is opened again.
const RECONNECT: Duration = Duration::from_secs(1);

/// The code of an error of the server in general, as JSON-RPC has it.
const SERVER_ERROR: i64 = -32_000;

/// What is known of the session.
#[derive(Clone, Debug, Default)]
struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The client's first message, with which a session begins.
    opening: Option<Value>,
}

struct Relay {
    connection: Connection,
    session: Mutex<Session>,
    /// Held while a session begins.
    beginning: tokio::sync::Mutex<()>,
}

/// Passes messages on until standard input ends.
pub(crate) fn relay_mcp(server: &str, token: Option<&str>) -> Result<Exit> {
    console::outlive_readers();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let exit = runtime.block_on(async {
        let relay = Relay {
            connection: Connection::server(server, token)?,
            session: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
        };
        Arc::new(relay).run().await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

impl Relay {
    async fn run(self: Arc<Relay>) -> Result<Exit> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut tasks = JoinSet::new();
        let mut exit = Exit::Success;
        while let Some(line) = lines.next_line().await? {
            if line.trim().is_empty() {
                continue;
            }
            let message: Value = match serde_json::from_str(&line) {
                Ok(message) => message,
                Err(error) => {
                    let why = format!("the message is not valid JSON: {error}");
                    write(&failure(&Value::Null, -32_700, &why));
                    continue;
                }
            };
            let relay = Arc::clone(&self);
            match method(&message) {
                // Everything else depends on it.
                Some("initialize") => {
                    self.session().opening = Some(message.clone());
                    if let Err(why) = self.begin(&message, true).await {
                        exit = Exit::Unreachable;
                        report(&message, &why);
                    }
                }
                Some("notifications/initialized") => {
                    self.pass_on(&message).await;
                    tasks.spawn(async move { relay.listen().await });
                }
                _ => drop(tasks.spawn(async move { relay.pass_on(&message).await })),
            }
            while tasks.try_join_next().is_some() {}
        }
        // Calls in flight have no reader any more; their runs continue.
        tasks.shutdown().await;
        Ok(exit)
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message, and writes what comes back.
    async fn pass_on(&self, message: &Value) {
        let mut sent = self.send(message).await;
        if matches!(sent, Err(Refusal::Answered { status: 404, .. })) && self.renew().await {
            sent = self.send(message).await;
        }
        let passed = match sent {
            Ok(response) => self.answers(response, message).await,
            Err(why) => Err(why),
        };
        if let Err(why) = passed {
            report(message, &why);
        }
    }

    /// Begins a session with the client's first message; the answer is written only the first time.
    async fn begin(&self, opening: &Value, shown: bool) -> Result<(), Refusal> {
        {
            let mut session = self.session();
            (session.id, session.version) = (None, None);
        }
        let response = self.send(opening).await?;
        let id = response.headers.get(SESSION).cloned();
        let mut answered = None;
        read(response, |_, answer| {
            if answer.get("id") == opening.get("id") {
                answered = Some(answer.clone());
            }
            if shown {
                write(&answer);
            }
        })
        .await?;
        let version = answered.and_then(|answer| {
            HeaderValue::from_str(answer.get("result")?.get("protocolVersion")?.as_str()?).ok()
        });
        let mut session = self.session();
        (session.id, session.version) = (id, version);
        Ok(())
    }

    /// Begins another session after the server has lost the last one. False if there was none, or it cannot be begun.
    async fn renew(&self) -> bool {
        let (lost, opening) = {
            let session = self.session();
            (session.id.clone(), session.opening.clone())
        };
        let (Some(lost), Some(opening)) = (lost, opening) else { return false };
        let _alone = self.beginning.lock().await;
        if self.session().id.as_ref() != Some(&lost) {
            return true;
        }
        if self.begin(&opening, false).await.is_err() {
            self.session().id = Some(lost);
            return false;
        }
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.send(&ready).await.is_ok()
    }

    async fn send(&self, message: &Value) -> Result<Streamed, Refusal> {
        let mut headers = self.headers();
        let parameters = message.get("params");
        let text = |name: &str| parameters.and_then(|parameters| parameters.get(name)?.as_str());
        let of_meta = parameters.and_then(|parameters| parameters.get("_meta")?.get(META_VERSION)?.as_str());
        for (name, value) in
            [(METHOD, method(message)), (NAME, text("name").or_else(|| text("uri"))), (VERSION, of_meta)]
        {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let body = message.to_string().into_bytes();
        self.connection.stream(Method::POST, PATH, headers, body).await
    }

    fn headers(&self) -> HeaderMap {
        let session = self.session();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        for (name, value) in [(SESSION, &session.id), (VERSION, &session.version)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        headers
    }

    /// Writes the answers to a message. One that is missing is an error: the connection was lost.
    async fn answers(&self, response: Streamed, message: &Value) -> Result<(), Refusal> {
        let id = message.get("id").filter(|_| method(message).is_some());
        let mut is_answered = id.is_none();
        read(response, |_, answer| {
            is_answered |= id.is_some() && answer.get("id") == id && method(&answer).is_none();
            write(&answer);
        })
        .await?;
        if is_answered {
            return Ok(());
        }
        Err(Refusal::Unreachable(
            "the connection to the server was lost; a run that was started continues".to_owned(),
        ))
    }

    /// Writes messages of the session that belong to no request.
    async fn listen(&self) {
        let mut last: Option<HeaderValue> = None;
        loop {
            let mut headers = self.headers();
            if !headers.contains_key(SESSION) {
                return;
            }
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Some(last) = &last {
                headers.insert("last-event-id", last.clone());
            }
            match self.connection.stream(Method::GET, PATH, headers, Vec::new()).await {
                Ok(stream) => {
                    let reading = read(stream, |id, message| {
                        last = id.and_then(|id| HeaderValue::from_str(id).ok()).or(last.take());
                        write(&message);
                    });
                    reading.await.ok();
                }
                Err(Refusal::Answered { status: 404, .. }) => {
                    last = None;
                    self.renew().await;
                }
                // The server offers no such stream.
                Err(Refusal::Answered { status: 405, .. }) => return,
                Err(_) => {}
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

fn method(message: &Value) -> Option<&str> {
    message.get("method").and_then(Value::as_str)
}

fn failure(id: &Value, code: i64, why: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}})
}

/// Writes one message to standard output, at once.
fn write(message: &Value) {
    console::exact_line(&message.to_string());
}

/// Reads the messages of a response: one as JSON, or a stream of them.
async fn read(mut response: Streamed, mut each: impl FnMut(Option<&str>, Value)) -> Result<(), Refusal> {
    let kind = response.headers.get("content-type").map(HeaderValue::as_bytes).unwrap_or_default();
    let is_stream = kind.starts_with(b"text/event-stream");
    let mut blocks = Blocks::default();
    loop {
        let chunk = response.chunk().await.map_err(|failure| Refusal::Unreachable(failure.message))?;
        let Some(chunk) = chunk else { break };
        blocks.push(&chunk);
        while is_stream && let Some(block) = blocks.pop() {
            if let Ok(message) = serde_json::from_str(&block.data) {
                each(block.id.as_deref(), message);
            }
        }
    }
    if !is_stream && let Ok(message) = serde_json::from_slice(blocks.rest()) {
        each(None, message);
    }
    Ok(())
}

/// Says why a message was not passed on, to the person and, if it asks for something, to the client.
fn report(message: &Value, why: &Refusal) {
    let text = match why {
        Refusal::Unreachable(why) => why.clone(),
        Refusal::Stranger { address } => format!("{address} is not a Loom server"),
        Refusal::Answered { status: 401, .. } => {
            "the server requires its token; pass it with `--token-file FILE`".to_owned()
        }
        Refusal::Answered { status, message } => format!("the server responded with {status}: {message}"),
    };
    eprintln!("loom: {text}");
    if let Some(id) = message.get("id").filter(|_| method(message).is_some()) {
        write(&failure(id, SERVER_ERROR, &text));
    }
}
