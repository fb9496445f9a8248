//! Pages of events of long histories, and streams that continue after an event, over HTTP: with waymarks, and read from the first
//! frame as in journals of earlier versions.
//!
//! `cargo bench -p loom-server --bench history`. One run of 200,000 events whose calls are made one after the other, and one whose
//! calls are made twenty at a time, on SQLite in a directory. Milliseconds from the request to the end of the page, or to the first
//! event of the stream: median, and the longest.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Instant,
};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow, model::EffectKind};
use loom_engine::{
    Engine, Environment, RunId, RunRequest,
    clock::SystemClock,
    event::{EffectResult, Outcome, RetryHint},
    journal::{self, FrameReader},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;
use loom_server::{Host, HostSettings, Server, ServerSettings};
use loom_store::{Commit, Durability, Frame, FrameQuery, Seq, SqliteOptions, SqliteStore, Store};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let items = if quick { 100 } else { 50_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "", "page", "longest", "stream", "longest");
    for repetitions in [1, 20] {
        runtime.block_on(measure(items, repetitions, if quick { 1 } else { 21 }));
    }
}

async fn measure(items: usize, repetitions: u32, times: usize) {
    let (marked, plain) = (scratch(), scratch());
    let workflow = calls(items, repetitions);
    let store = open(marked.path());
    let run = play(&store, &workflow).await;
    let old = open(plain.path());
    let (events, frames) = copy_without_waymarks(&store, &old, &workflow, run).await;
    println!("{events} events in {frames} frames, {repetitions} calls at a time");
    for (name, store, times) in [("", &store, times), (", from the first frame", &old, times.min(3))] {
        let served = Served::start(store).await;
        for quarter in 0..=4 {
            let after = (events - 10) * quarter / 4;
            let path = format!("/api/v1/runs/{run}/events");
            let address = served.address;
            let figures = tokio::task::spawn_blocking(move || {
                let page = format!(
                    "GET {path}?after={after}&limit=10 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
                );
                let stream = format!(
                    "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\nlast-event-id: {after}\r\n\r\n"
                );
                let first = format!("id: {}\n", after + 1);
                (
                    spans(times, || whole(address, &page)),
                    spans(times, || first_event(address, &stream, &first)),
                )
            });
            let (page, stream) = figures.await.expect("the server responds");
            let name = format!("  after event {after}{name}");
            println!(
                "{name:<44} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                page[times / 2],
                page[times - 1],
                stream[times / 2],
                stream[times - 1]
            );
        }
        served.stop().await;
    }
}

/// The durations of `times` calls in milliseconds, in ascending order.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn spans(times: usize, mut call: impl FnMut()) -> Vec<f64> {
    let mut all: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Reads a response to its end.
fn whole(address: SocketAddr, request: &str) {
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.write_all(request.as_bytes()).expect("the server reads");
    let mut response = String::new();
    connection.read_to_string(&mut response).expect("the server responds");
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("\"events\""), "{response}");
}

/// Reads a stream up to its first event.
fn first_event(address: SocketAddr, request: &str, first: &str) {
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.write_all(request.as_bytes()).expect("the server reads");
    let found =
        BufReader::new(connection).lines().any(|line| line.expect("the server responds") == first.trim_end());
    assert!(found, "the stream begins after the event");
}

struct Served {
    address: SocketAddr,
    host: Arc<Host>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    async fn start(store: &Arc<dyn Store>) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let settings = HostSettings::new(format!("http://{address}"));
        let (environment, clock) = (Environment::default(), Arc::new(SystemClock));
        let host = Host::open(Engine::builder(), environment, Arc::clone(store) as _, clock, settings).await;
        let host = host.expect("the store can be read");
        let server = Server::new(Arc::clone(&host), ServerSettings::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let serving = server.serve(listener, stop.clone());
        tasks.spawn(async move {
            serving.await;
        });
        Served { address, host, stop, tasks }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.host.shut_down().await.expect("the store closes");
    }
}

/// Responds at once.
struct Prompt;

impl ActionHandler for Prompt {
    fn call<'a>(&'a self, _call: &'a Call) -> CallFuture<'a> {
        let outcome = Outcome::ok(Some(Value::from("pong ".repeat(20))));
        Box::pin(std::future::ready(EffectResult::Done { outcome, hint: RetryHint::default() }))
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory can be created")
}

fn open(directory: &Path) -> Arc<dyn Store> {
    // Only reading is measured.
    let options = SqliteOptions { durability: Durability::Relaxed, ..SqliteOptions::default() };
    Arc::new(SqliteStore::open(directory, options).expect("the store opens"))
}

/// A loop with four events for each of `items`.
fn calls(items: usize, repetitions: u32) -> Arc<Workflow> {
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "Each": {{"type": "Foreach", "foreach": "@range(0, {items})", "runAfter": {{}},
                "runtimeConfiguration": {{"concurrency": {{"repetitions": {repetitions}}}}},
                "actions": {{"Ask": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s/ask"}}, "runAfter": {{}}}}}}}}}}}}"#
    );
    Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("the definition loads").workflow
}

async fn play(store: &Arc<dyn Store>, workflow: &Arc<Workflow>) -> RunId {
    let engine =
        Engine::builder().handler(EffectKind::Http, Arc::new(Prompt)).store(Arc::clone(store)).build();
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let report = engine.run(request).await.expect("it starts").expect("it ends");
    assert_eq!(report.status, RunStatus::Succeeded);
    engine.shut_down().await;
    report.id
}

/// Writes the journal of a run to another store as an earlier version would; returns the numbers of events and frames.
async fn copy_without_waymarks(
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    workflow: &Workflow,
    run: RunId,
) -> (usize, usize) {
    let (mut reader, mut events, mut written) = (FrameReader::new(run), 0, Seq::FIRST);
    let row = from.run(run).await.expect("it can be read").expect("it is there");
    let mut query = FrameQuery::of(run);
    loop {
        let page = from.frames(query).await.expect("it can be read");
        let mut frames = Vec::with_capacity(page.frames.len());
        for frame in &page.frames {
            let found = reader.events(&**from, frame).await.expect("it can be read");
            events += found.len();
            let mut payload = Vec::new();
            journal::encode(&found, &mut payload);
            frames.push(Frame { at: frame.at, payload: payload.into() });
        }
        let count = frames.len() as u64;
        let mut commit = Commit::to_run(run, written, frames);
        if written == Seq::FIRST {
            commit.definitions.push(loom_store::Definition::new(workflow.source.as_bytes().to_vec().into()));
            commit.row = Some(row.clone());
        }
        to.commit(commit).await.expect("it is written");
        written = written.plus(count);
        match page.next {
            Some(next) => query.from = next,
            None => return (events, (written.0 - 1) as usize),
        }
    }
}
