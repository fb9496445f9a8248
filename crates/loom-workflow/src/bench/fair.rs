//! `loom bench fair`: how long requests wait while runs evaluate for long and histories are read.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, ValueHint};
use hyper::Uri;
use loom_expression::{Object, Value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use super::{
    callers::{Target, Wire},
    server::Server,
    shapes::Job,
};
use crate::{
    args::whole_number,
    console::{self, Console},
    exit::Exit,
};

/// The time between two requests of one kind.
const PAUSE: Duration = Duration::from_millis(20);

/// The most items of one Foreach.
const ITEMS_MAX: u64 = 100_000;

const ABOUT: &str = "\
Sends small requests, one after the other, while the server is idle, while runs evaluate expressions all the time, while
readers stream a long history from its start again and again, and under both. Each row is one kind of request under one load.

  requests  responses during the row
  p50 …     latency from the request to the complete response, in milliseconds

Pass options for `loom serve` after `--`.

Exit codes:
  0  no request took longer than --max
  1  a request failed or took longer";

/// Options of `loom bench fair`.
#[derive(Args, Debug)]
#[command(after_help = ABOUT)]
pub(super) struct FairArgs {
    /// The number of events of the history.
    #[arg(long, default_value_t = 200_000, value_parser = whole_number(100_u64, 2 * ITEMS_MAX))]
    events: u64,
    /// The number of readers.
    #[arg(long, default_value_t = 200, value_parser = whole_number(1_u32, 1000))]
    readers: u32,
    /// The number of runs that evaluate expressions.
    #[arg(long, default_value_t = 2, value_parser = whole_number(1_u32, 1000))]
    runs: u32,
    /// The duration of each load in seconds.
    #[arg(long, default_value_t = 5, value_parser = whole_number(1_u64, 3600))]
    seconds: u64,
    /// Fail if a request takes longer, in milliseconds.
    #[arg(long, value_name = "MS")]
    max: Option<u64>,
    /// A running server to measure, as `http://HOST:PORT`. Workflows are deployed there as `bench-…` and deleted at the end.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "serve"])]
    url: Option<String>,
    /// A file whose first line is that server's token.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "url")]
    token_file: Option<PathBuf>,
    /// The directory for the server's temporary data [default: the system's temporary directory].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Options for `loom serve`.
    #[arg(last = true, value_name = "SERVE OPTIONS")]
    serve: Vec<std::ffi::OsString>,
}

/// Latencies of one kind of request under one load.
struct Row {
    load: &'static str,
    request: &'static str,
    micros: Vec<u64>,
}

impl Row {
    fn millis(&self, part: f64) -> f64 {
        let place = (self.micros.len().saturating_sub(1)) as f64 * part;
        self.micros.get(place.round() as usize).map_or(0.0, |micros| *micros as f64 / 1_000.0)
    }
}

/// Small requests: what they are called, their method, and their path.
const REQUESTS: [(&str, &str, &str); 3] = [
    ("health", "GET", "/healthz"),
    ("list of runs", "GET", "/api/v1/runs?limit=10"),
    ("light run", "POST", "/workflows/bench-light/triggers/manual/invoke"),
];

pub(super) async fn fair(args: &FairArgs, _: Console) -> Result<Exit> {
    let server = match &args.url {
        Some(url) => Server::running(url, args.token_file.as_deref())?,
        None => Server::start(args.data.as_deref(), "http://127.0.0.1:9", &args.serve)?,
    };
    let jobs = [history(args.events), heavy(), light()];
    for job in &jobs {
        server.deploy(job).await?;
    }
    let run = start(&server.target, "bench-history").await?;
    ended(&server.target, &run).await?;
    if !args.json {
        println!(
            "{:<24} {:<14} {:>8} {:>9} {:>9} {:>9}",
            "load", "request", "requests", "p50 ms", "p99 ms", "max ms"
        );
    }
    let mut rows = Vec::new();
    let time = Duration::from_secs(args.seconds);
    for (load, evaluates, reads) in [
        ("none", false, false),
        ("evaluations", true, false),
        ("readers", false, true),
        ("evaluations and readers", true, true),
    ] {
        let mut heavy_runs = Vec::new();
        for _ in 0..if evaluates { args.runs } else { 0 } {
            heavy_runs.push(start(&server.target, "bench-heavy").await?);
        }
        let mut readers = JoinSet::new();
        for _ in 0..if reads { args.readers } else { 0 } {
            readers.spawn(read_forever(server.target.clone(), run.clone()));
        }
        // Until the load is there.
        sleep(Duration::from_millis(500)).await;
        let measured = measure(&server.target, load, time).await?;
        readers.shutdown().await;
        for run in heavy_runs {
            ask(&server.target, "POST", &format!("/api/v1/runs/{run}/cancel")).await?;
        }
        if !args.json {
            measured.iter().for_each(print);
        }
        rows.extend(measured);
    }
    for job in &jobs {
        server.remove(job).await?;
    }
    if args.json {
        console::json(&json(&rows).to_json_text());
    }
    let slow = rows.iter().find(|row| args.max.is_some_and(|max| row.millis(1.0) > max as f64));
    if let Some(row) = slow {
        eprintln!("loom: a request ({}, load: {}) took {:.0} ms", row.request, row.load, row.millis(1.0));
        return Ok(Exit::Failure);
    }
    Ok(Exit::Success)
}

fn print(row: &Row) {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| row.millis(part));
    println!("{:<24} {:<14} {:>8} {p50:>9.2} {p99:>9.2} {max:>9.2}", row.load, row.request, row.micros.len());
}

fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let mut object = Object::new();
        object.insert("load", row.load);
        object.insert("request", row.request);
        object.insert("requests", row.micros.len() as i64);
        for (name, part) in [("p50Ms", 0.5), ("p99Ms", 0.99), ("maxMs", 1.0)] {
            object.insert(name, row.millis(part));
        }
        Value::from(object)
    };
    Value::from(rows.iter().map(row).collect::<Vec<Value>>())
}

/// Sends all kinds of requests in parallel, each on a connection of its own.
async fn measure(target: &Target, load: &'static str, time: Duration) -> Result<Vec<Row>> {
    let mut probes = JoinSet::new();
    for (place, (request, method, path)) in REQUESTS.into_iter().enumerate() {
        let target = target.clone();
        probes.spawn(async move {
            let path: Uri = path.parse()?;
            let mut wire = Wire::open(&target).await?;
            let (began, mut micros) = (now(), Vec::new());
            while began.elapsed() < time {
                let sent = now();
                let reply = wire.send(&target, method, &path, Bytes::from_static(b"1")).await?;
                if !reply.status.is_success() {
                    bail!("{method} {path}: {}", reply.status);
                }
                micros.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                sleep(PAUSE).await;
            }
            micros.sort_unstable();
            Ok((place, Row { load, request, micros }))
        });
    }
    let mut rows = Vec::new();
    while let Some(row) = probes.join_next().await {
        rows.push(row??);
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

async fn ask(target: &Target, method: &str, path: &str) -> Result<Value> {
    let path: Uri = path.parse()?;
    let reply = Wire::open(target).await?.send(target, method, &path, Bytes::from_static(b"1")).await?;
    if !reply.status.is_success() {
        bail!("{method} {path}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    }
    Value::parse_json(&reply.body).context("the response is not JSON")
}

/// Starts a run, which does not respond, and returns its id.
async fn start(target: &Target, workflow: &str) -> Result<String> {
    let begun = ask(target, "POST", &format!("/api/v1/workflows/{workflow}/triggers/manual/run")).await?;
    let runs = begun.get("runs").and_then(Value::as_array).and_then(|runs| runs.first().cloned());
    runs.as_ref().and_then(Value::as_str).map(str::to_owned).context("no run has started")
}

async fn ended(target: &Target, run: &str) -> Result<()> {
    loop {
        let shown = ask(target, "GET", &format!("/api/v1/runs/{run}")).await?;
        match (shown.get("endTime"), shown.get("status").and_then(Value::as_str)) {
            (None, _) => sleep(PAUSE).await,
            (Some(_), Some("Succeeded")) => return Ok(()),
            (Some(_), status) => bail!("the run that makes the history is {}", status.unwrap_or_default()),
        }
    }
}

/// Streams a history from its start, and begins again at its end. Ends when the server does.
async fn read_forever(target: Target, run: String) {
    let token = target.token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /api/v1/runs/{run}/events HTTP/1.1\r\nHost: {}\r\n{token}Accept: text/event-stream\r\nConnection: close\r\n\r\n",
        target.address
    );
    let mut read = vec![0; 64 << 10];
    loop {
        let Ok(mut stream) = TcpStream::connect(&target.address).await else { return };
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        while stream.read(&mut read).await.is_ok_and(|count| count > 0) {}
    }
}

fn job(name: &str, actions: &str) -> Job {
    let definition = format!(
        r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request", "kind": "Http"}}}}, "actions": {{{actions}}}}}}}"#
    );
    Job {
        shown: name.to_owned(),
        workflow: format!("bench-{name}"),
        trigger: "manual".to_owned(),
        definition: definition.into_bytes(),
        body: Vec::new(),
    }
}

/// Each item is two events.
fn history(events: u64) -> Job {
    let each = format!(
        r#""Each": {{"type": "Foreach", "foreach": "@range(0, {})", "runAfter": {{}}, "actions": {{
            "Keep": {{"type": "Compose", "inputs": "@item()", "runAfter": {{}}}}}}}}"#,
        events / 2
    );
    job("history", &each)
}

/// Each iteration evaluates one expression for about half a second.
fn heavy() -> Job {
    let again = r#""Again": {"type": "Until", "expression": "@equals(1, 2)", "limit": {"count": 5000, "timeout": "PT1H"}, "runAfter": {},
        "actions": {"Work": {"type": "Select", "inputs": {"from": "@range(0, 30000)", "select": "@length(string(range(item(), 100)))"}, "runAfter": {}}}}"#;
    job("heavy", again)
}

fn light() -> Job {
    let answer = r#""Answer": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "@triggerBody()"}, "runAfter": {}}"#;
    job("light", answer)
}
