//! An MCP server of the tests, over HTTP. It has the tools `add` and `fail`, and counts what is asked of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use loom_expression::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::json;

/// How the server answers a request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manners {
    /// As an event stream, in small pieces, after a comment and a notification.
    pub(crate) streams: bool,
    /// The first calls of tools that get a 503.
    pub(crate) failures: usize,
}

pub(crate) struct Peer {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    sessions: usize,
    ended: Vec<String>,
    /// Methods with their counts.
    methods: BTreeMap<String, usize>,
    /// The parameters of the calls of tools, and the header `x-tenant`.
    calls: Vec<(Value, String)>,
    failures: usize,
}

const TOOLS: &str = r#"{"tools": [
    {"name": "add", "description": "Adds two numbers", "inputSchema": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}},
    {"name": "fail", "title": "Always fails", "inputSchema": {"type": "object"}}]}"#;

impl Peer {
    pub(crate) async fn start(manners: Manners) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { drop(serve(stream, manners, &shared).await) });
            }
        });
        Peer { url, seen, _tasks: tasks }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.seen.lock().unwrap().sessions
    }

    pub(crate) fn times(&self, method: &str) -> usize {
        self.seen.lock().unwrap().methods.get(method).copied().unwrap_or_default()
    }

    pub(crate) fn calls(&self) -> Vec<(Value, String)> {
        self.seen.lock().unwrap().calls.clone()
    }

    /// Waits until this many sessions have been ended.
    pub(crate) async fn ended(&self, count: usize) {
        let all = async {
            while self.seen.lock().unwrap().ended.len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("the sessions end");
    }
}

async fn serve(mut stream: TcpStream, manners: Manners, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.map(|line| line[name.len() + 1..].trim().to_owned()).unwrap_or_default()
    };
    let length: usize = header("content-length").parse().unwrap_or(0);
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let session = header("mcp-session-id");
    let (status, more, body) = match text.split(' ').next() {
        Some("DELETE") => {
            seen.lock().unwrap().ended.push(session);
            ("200 OK", String::new(), String::new())
        }
        Some("POST") => answer(
            &json(&String::from_utf8_lossy(&bytes[head..])),
            &header("x-tenant"),
            &session,
            manners,
            seen,
        ),
        _ => ("405 Method Not Allowed", String::new(), String::new()),
    };
    let (kind, body) = if !manners.streams || body.is_empty() {
        ("application/json", body)
    } else {
        let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}"#;
        ("text/event-stream", format!(": hello\n\ndata: {note}\n\nid: 1\ndata: {body}\n\n"))
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    for part in body.as_bytes().chunks(7) {
        stream.write_all(part).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

fn answer(
    asked: &Value,
    tenant: &str,
    session: &str,
    manners: Manners,
    seen: &Mutex<Seen>,
) -> (&'static str, String, String) {
    let mut seen = seen.lock().unwrap();
    let method = asked.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    *seen.methods.entry(method.clone()).or_default() += 1;
    let Some(id) = asked.get("id").map(Value::to_json_text) else {
        return ("202 Accepted", String::new(), String::new());
    };
    let done =
        |result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, json(result).to_json_text());
    if method == "initialize" {
        seen.sessions += 1;
        let more = format!("mcp-session-id: s{}\r\n", seen.sessions);
        let result = r#"{"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "peer", "version": "1"}}"#;
        return ("200 OK", more, done(result));
    }
    assert!(!session.is_empty(), "{method} has no session");
    if method != "tools/call" {
        return ("200 OK", String::new(), done(TOOLS));
    }
    let parameters = asked.get("params").cloned().unwrap_or_default();
    seen.calls.push((parameters.clone(), tenant.to_owned()));
    if seen.failures < manners.failures {
        seen.failures += 1;
        return ("503 Service Unavailable", "retry-after: 0\r\n".to_owned(), String::new());
    }
    let number = |name: &str| parameters.get("arguments").and_then(|given| given.get(name)?.as_i64());
    let body = match (parameters.get("name").and_then(Value::as_str), number("a"), number("b")) {
        (Some("add"), Some(a), Some(b)) => {
            done(&format!(r#"{{"content": [{{"type": "text", "text": "the sum is {}"}}]}}"#, a + b))
        }
        (Some("fail"), ..) => {
            done(r#"{"content": [{"type": "text", "text": "no such page"}], "isError": true}"#)
        }
        _ => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"bad arguments"}}}}"#),
    };
    ("200 OK", String::new(), body)
}
