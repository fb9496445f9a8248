//! Tokens from a provider to a watcher, and calls of a model by an agent: the whole path, over HTTP at both ends.
//!
//! `cargo bench -p loom-server --bench tokens`. The provider is a server of this process that answers at once. Tokens: one answer of
//! many tokens, each an event of its stream; the time is from the first byte of the answer to the end of the watchers' streams.
//! Turns: an agent that calls a tool after each answer, on SQLite, beside as many Http actions in a row.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time and prints")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use loom_actions::{Connections, Settings, Sources, request_handlers, requests};
use loom_definition::{LoadOptions, catalog::Bump};
use loom_engine::{Engine, Environment, clock::SystemClock, ports::Clock};
use loom_expression::Value;
use loom_models::{Answer, Api, ToolCall, Usage};
use loom_server::{Host, HostSettings, Origin, Server, ServerSettings, Source};
use loom_store::{MemoryStore, SqliteOptions, SqliteStore, Store};
use loom_testkit::wire::{Reply, Wire};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

const API: Api = Api::ChatCompletions;

/// A server of workflows whose model and service is `wire`.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    async fn start(store: Arc<dyn Store>, wire: &Wire, actions: &str) -> Served {
        let file = format!(
            r#"{{"models": {{"m": {{"api": "compatible", "baseUrl": "{}", "model": "m-1"}}}}}}"#,
            wire.base_url()
        );
        let file = Value::from_json_str(&file).expect("it is JSON");
        let connections = Connections::from_json(&file, &Sources::default()).expect("it can be read");
        let settings = Settings { connections, ..Settings::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let made = requests(settings, Arc::clone(&clock)).expect("requests can be made");
        let mut builder = Engine::builder();
        for (effect, handler) in request_handlers(&made) {
            builder = builder.handler(effect, handler);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let host = HostSettings::new(format!("http://{address}"));
        let host = Host::open(builder, Environment::default(), store, clock, host).await.expect("it opens");
        host.recover().await.expect("the store can be read");
        let text =
            format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#);
        let source = Source {
            bytes: text.into_bytes(),
            options: LoadOptions { name: Some("flow".into()), ..LoadOptions::default() },
            origin: Origin::File,
            bump: Bump::Patch,
            only_new: false,
        };
        host.deploy(&source).await.expect("it is valid");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Server::new(host, ServerSettings::default()).serve(listener, stop.clone()));
        Served { address, stop, tasks }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Sends a request and returns the connection, whose head has been read.
fn send(address: SocketAddr, head: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .expect("it reads");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).expect("it answers");
    }
    (reader, head)
}

/// Starts a run and returns its id.
fn start(address: SocketAddr) -> String {
    let (_, head) = send(address, "POST /workflows/flow/triggers/manual/invoke HTTP/1.1");
    let line = head.lines().find_map(|line| line.strip_prefix("x-ms-workflow-run-id: "));
    line.unwrap_or_else(|| panic!("no run: {head}")).trim().to_owned()
}

fn watch(address: SocketAddr, run: &str) -> BufReader<TcpStream> {
    send(address, &format!("GET /api/v1/runs/{run}/events HTTP/1.1\r\naccept: text/event-stream")).0
}

/// Reads a stream to its end; returns the bytes of the lines with text.
fn read(mut stream: BufReader<TcpStream>) -> usize {
    let (mut line, mut bytes) = (Vec::new(), 0);
    while stream.read_until(b'\n', &mut line).expect("it continues") > 0 {
        if line.starts_with(b"data: ") && line.windows(9).any(|part| part == b"\"message.") {
            bytes += line.len();
        }
        line.clear();
    }
    bytes
}

/// Tokens a second, and the growth of memory in bytes.
async fn text(tokens: usize, stalled: usize) -> (f64, u64) {
    let mut body = String::new();
    for token in 0..tokens {
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"t{} \"}}}}]}}\n\n",
            token % 10
        );
    }
    body.push_str(
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    );
    let gate = Arc::new(Semaphore::new(0));
    let reply = Reply::status(200)
        .header("content-type", "text/event-stream")
        .body(body)
        .split(64 << 10)
        .hold_after(0, &gate);
    let wire = Wire::start([reply]).await.expect("a port is free");
    let served = Served::start(
        Arc::new(MemoryStore::default()),
        &wire,
        r#""Ask": {"type": "AI", "inputs": {"prompt": "x"}}"#,
    )
    .await;
    let address = served.address;
    let (took, grown) = tokio::task::spawn_blocking(move || {
        let run = start(address);
        let idle: Vec<_> = (0..stalled).map(|_| watch(address, &run)).collect();
        let reading = watch(address, &run);
        let before = resident();
        let began = Instant::now();
        gate.add_permits(1);
        assert!(read(reading) >= tokens * 3, "the watcher has all tokens");
        let (took, grown) = (began.elapsed(), resident().saturating_sub(before));
        drop(idle);
        (took, grown)
    })
    .await
    .expect("it ends");
    served.end().await;
    (tokens as f64 / took.as_secs_f64(), grown)
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The time of a run on SQLite whose calls `replies` answer.
async fn run_of(actions: &str, replies: Vec<Reply>) -> Duration {
    let wire = Wire::start(replies).await.expect("a port is free");
    let directory = std::env::temp_dir().join(format!("loom-bench-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let store = SqliteStore::open(&directory, SqliteOptions::default()).expect("the store opens");
    let served = Served::start(Arc::new(store), &wire, &actions.replace("BASE", &wire.base_url())).await;
    let address = served.address;
    let took = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let run = start(address);
        let mut events = String::new();
        watch(address, &run).read_to_string(&mut events).expect("it ends");
        let took = began.elapsed();
        assert!(events.contains("\"Succeeded\"") && events.contains("run.completed"), "{events}");
        took
    });
    let took = took.await.expect("it ends");
    served.end().await;
    std::fs::remove_dir_all(&directory).ok();
    took
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let tokens = if quick { 1_000 } else { 200_000 };
    println!("{:<44} {:>14} {:>12}", "tokens over HTTP", "tokens/s", "memory KiB");
    for stalled in [0, 100] {
        let (rate, memory) = runtime.block_on(text(tokens, stalled));
        let name = format!("1 watcher that reads, {stalled} that do not");
        println!("{name:<44} {rate:>14.0} {:>12}", memory / 1024);
    }
    let turns: usize = if quick { 3 } else { 100 };
    let usage = Usage::new(10, 5);
    let mut answers: Vec<Reply> = (0..turns - 1)
        .map(|turn| {
            let call = ToolCall::new(format!("c{turn}"), "note", "{}");
            Reply::stream(API, &Answer::calls([call]).with_usage(usage))
        })
        .collect();
    answers.push(Reply::stream(API, &Answer::text("done").with_usage(usage)));
    let agent = r#""Ask": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "User", "content": "x"}]}},
        "tools": {"note": {"description": "notes", "actions": {"Note": {"type": "Compose", "inputs": 1}}}}, "limit": {"count": 1000}}"#;
    let chain: Vec<String> = (0..turns)
        .map(|index| {
            let after =
                if index == 0 { String::new() } else { format!(r#""H{}": ["Succeeded"]"#, index - 1) };
            format!(r#""H{index}": {{"type": "Http", "inputs": {{"method": "POST", "uri": "BASE/x", "body": 1}}, "runAfter": {{{after}}}}}"#)
        })
        .collect();
    println!("\n{:<44} {:>14}", "calls over HTTP, SQLite", "ms a call");
    let plain = (0..turns).map(|_| Reply::json(200, "{}")).collect();
    for (name, actions, replies) in [
        ("an agent that calls a tool each time", agent.to_owned(), answers),
        ("Http actions in a row", chain.join(", "), plain),
    ] {
        let took = runtime.block_on(run_of(&actions, replies));
        println!("{name:<44} {:>14.3}", took.as_secs_f64() * 1e3 / turns as f64);
    }
}
