//! A server that speaks the APIs of other systems, above all of language models, well and badly: in chunks cut anywhere, without properties that peers
//! omit, with errors in the middle of a stream, and with connections that close too early.
//!
//! It listens on the loopback address, at a port chosen by the system, and sends its replies in order.
//!
//! ```
//! use loom_models::{Answer, Api, Endpoint, KeyHeader};
//! use loom_testkit::wire::{Reply, Wire};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let api = Api::Anthropic;
//! let wire = Wire::start([
//!     Reply::status(529),
//!     Reply::stream(api, &Answer::text("Good day")).split(3),
//! ])
//! .await?;
//! let endpoint = Endpoint::new(api, wire.base_url(), KeyHeader::XApiKey);
//! # let _ = endpoint;
//! # Ok(()) }
//! ```

mod formats;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use loom_models::{Answer, Api, ModelError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// What the server sends to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The most bytes of a chunk. Each chunk is written and flushed alone.
    chunk: usize,
    /// After how many bytes of the body the connection closes.
    dropped_at: Option<usize>,
    /// After how many bytes of the body the server waits for a permit, before it sends the rest.
    held_at: Option<(usize, Arc<Semaphore>)>,
    /// Whether nothing is sent at all.
    is_silent: bool,
}

impl Reply {
    /// An empty reply with this status.
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            chunk: usize::MAX,
            dropped_at: None,
            held_at: None,
            is_silent: false,
        }
    }

    /// A reply with JSON as its body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::status(status).header("content-type", "application/json").body(body)
    }

    /// No reply: the connection stays open until the client closes it.
    pub fn silence() -> Reply {
        Reply { is_silent: true, ..Reply::status(200) }
    }

    /// A whole answer.
    pub fn whole(api: Api, answer: &Answer) -> Reply {
        Reply::status(200).header("content-type", "application/json").body(formats::whole(api, answer))
    }

    /// A streamed answer, with all that the API promises.
    pub fn stream(api: Api, answer: &Answer) -> Reply {
        Reply::events(api, formats::stream(api, answer, false))
    }

    /// A streamed answer without the properties that peers omit: ids, indexes, names of models, sequence numbers, roles.
    pub fn bare_stream(api: Api, answer: &Answer) -> Reply {
        Reply::events(api, formats::stream(api, answer, true))
    }

    /// A stream that reports an error after the answer's text, in place of its end.
    pub fn failing_stream(api: Api, answer: &Answer, error: &ModelError) -> Reply {
        Reply::events(api, formats::failing(api, answer, error))
    }

    fn events(api: Api, body: Vec<u8>) -> Reply {
        let kind = if api == Api::Ollama { "application/x-ndjson" } else { "text/event-stream" };
        Reply::status(200).header("content-type", kind).body(body)
    }

    /// An error with the body that the API gives it.
    pub fn error(api: Api, status: u16, error: &ModelError) -> Reply {
        Reply::status(status).header("content-type", "application/json").body(formats::error(api, error))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    /// Sends the body in chunks of at most this many bytes (at least 1).
    #[must_use]
    pub fn split(mut self, bytes: usize) -> Reply {
        self.chunk = bytes.max(1);
        self
    }

    /// Closes the connection after this many bytes of the body.
    #[must_use]
    pub fn drop_after(mut self, bytes: usize) -> Reply {
        self.dropped_at = Some(bytes);
        self
    }

    /// Waits for a permit of `gate` after this many bytes of the body, before it sends the rest.
    #[must_use]
    pub fn hold_after(mut self, bytes: usize, gate: &Arc<Semaphore>) -> Reply {
        self.held_at = Some((bytes, Arc::clone(gate)));
        self
    }

    /// The length of the body, in bytes.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }
}

/// A request as the server received it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method, path and query: `POST /v1/messages`.
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The first header of this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Reply>,
    asked: Vec<Asked>,
}

impl Wire {
    /// Starts the server with its replies, in order. When there are none left, it replies with 500.
    ///
    /// # Errors
    /// The loopback address cannot be listened on.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> io::Result<Wire> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let replies = replies.into_iter().collect();
        let state = Arc::new(Mutex::new(State { replies, asked: Vec::new() }));
        let shared = Arc::clone(&state);
        #[expect(clippy::disallowed_methods, reason = "the server owns the task, and aborts it")]
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that fails ends alone; its client has noticed.
                let shared = Arc::clone(&shared);
                connections.spawn(async move { serve(stream, shared).await.ok() });
            }
        });
        Ok(Wire { address, state, task })
    }

    /// The address, without a slash at its end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds replies after those that are left.
    pub fn add(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).replies.extend(replies);
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    /// How many replies have not been sent.
    pub fn replies_left(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).replies.len()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one request on a connection. The reply says that the connection closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> io::Result<()> {
    let Some(asked) = read(&mut stream).await? else { return Ok(()) };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(asked);
        state.replies.pop_front().unwrap_or_else(|| Reply::status(500).body("the wire has no reply left"))
    };
    if reply.is_silent {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        return Ok(());
    }
    let mut head =
        format!("HTTP/1.1 {} Wire\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").expect("a string accepts everything");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let sent = reply.dropped_at.unwrap_or(usize::MAX).min(reply.body.len());
    let held_at = reply.held_at.as_ref().map_or(sent, |(at, _)| sent.min(*at));
    let (before, after) = reply.body[..sent].split_at(held_at);
    send(&mut stream, before, reply.chunk).await?;
    if let Some((_, gate)) = &reply.held_at {
        // A client that leaves is noticed at once.
        let mut byte = [0; 1];
        tokio::select! {
            permit = gate.acquire() => permit.map_err(io::Error::other)?.forget(),
            _ = stream.read(&mut byte) => return Ok(()),
        }
    }
    send(&mut stream, after, reply.chunk).await?;
    if reply.dropped_at.is_none() {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.shutdown().await
}

/// Sends a part of a body in chunks.
async fn send(stream: &mut TcpStream, body: &[u8], chunk: usize) -> io::Result<()> {
    for chunk in body.chunks(chunk) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(chunk).await?;
        stream.write_all(b"\r\n").await?;
        stream.flush().await?;
        // The reader sees the chunk before the next one, as far as the scheduler permits.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads a request with a `content-length`; `None` when the client closes first.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length.min(REQUEST_BYTES_MAX) {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&buffer[..read]);
    }
    Ok(Some(Asked { line, headers, body }))
}
