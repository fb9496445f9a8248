//! Plays recorded exchanges against a server in this process: `recorded CORPUS_DIR`.
//!
//! `oracles/recorded-traces.jsonl` holds requests to Microsoft's runtime and its answers. Everything but ids, times and
//! signatures must be the same: status, type, body, and which `x-ms-*` headers come. Exits with 1 if anything differs.

use std::{error::Error, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use loom_definition::{LoadOptions, catalog::Bump};
use loom_engine::{Engine, Environment, clock::SystemClock};
use loom_expression::{Object, Value};
use loom_server::{Host, HostSettings, Origin, Server, ServerSettings, Source};
use loom_store::MemoryStore;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What the recorded requests call every workflow.
const NAME: &str = "WhatHappensIfStatement";

/// Members of a trigger's record that no two runs share, and the header that must say the same.
const OWN: [(&str, Option<&str>); 5] = [
    ("startTime", None),
    ("endTime", None),
    ("trackingId", Some("x-ms-tracking-id")),
    ("clientTrackingId", Some("x-ms-client-tracking-id")),
    ("originHistoryName", Some("x-ms-workflow-run-id")),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: recorded CORPUS_DIR")?;
    let oracles = Path::new(&directory).join("oracles");
    let traces = std::fs::read_to_string(oracles.join("recorded-traces.jsonl"))?;
    let (mut same, mut different) = (0, 0);
    for line in traces.lines().filter(|line| !line.trim().is_empty()) {
        let trace = Value::from_json_str(line)?;
        let name = trace.get("trace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let workflow = trace.get("workflow").and_then(Value::as_str).ok_or("a trace names no workflow")?;
        let differences = run(&trace, &std::fs::read(oracles.join(workflow))?).await?;
        if differences.is_empty() {
            same += 1;
            println!("ok      {name}");
        } else {
            different += 1;
            println!("FAILED  {name}");
            for difference in differences {
                println!("  {difference}");
            }
        }
    }
    println!("{same} passed, {different} failed");
    Ok(if different == 0 && same > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves a definition, sends the recorded request, and gives what differs from the recorded answer.
async fn run(trace: &Value, definition: &[u8]) -> Result<Vec<String>, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let settings = HostSettings::new(format!("http://{address}"));
    let store = Arc::new(MemoryStore::default());
    let host =
        Host::open(Engine::builder(), Environment::default(), store, Arc::new(SystemClock), settings).await?;
    let options = LoadOptions { name: Some(NAME.into()), ..LoadOptions::default() };
    let bytes = definition.to_vec();
    let source = Source { bytes, options, origin: Origin::File, bump: Bump::Patch, only_new: false };
    host.deploy(&source).await?;
    host.recover().await?;
    let stop = CancellationToken::new();
    let server = Server::new(Arc::clone(&host), ServerSettings::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(listener, stop.clone()));
    let answer = send(address, trace).await?;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    host.shut_down().await?;
    compare(trace, &answer)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

async fn send(address: SocketAddr, trace: &Value) -> Result<Answer, Box<dyn Error>> {
    let recorded = trace.get("request").ok_or("a trace has no request")?;
    let line = text(recorded, "line")?;
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers(recorded) {
        request = request.header(name, value);
    }
    let body = text(recorded, "body")?;
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // How it ended shows in the answer.
        connection.await.ok();
    });
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

fn compare(trace: &Value, answer: &Answer) -> Result<Vec<String>, Box<dyn Error>> {
    let recorded = trace.get("response").ok_or("a trace has no response")?;
    let mut found = Vec::new();
    let mut check = |what: &str, expected: String, got: String| {
        if expected != got {
            found.push(format!("{what}: expected {expected}, got {got}"));
        }
    };
    let status = text(recorded, "line")?.split(' ').nth(1).unwrap_or_default();
    check("status", status.to_owned(), answer.status.to_string());
    let marks = |names: Vec<String>| {
        let mut names: Vec<String> = names.into_iter().filter(|name| name.starts_with("x-ms-")).collect();
        names.sort();
        names.join(", ")
    };
    let expected = headers(recorded).map(|(name, _)| name.to_ascii_lowercase()).collect();
    let got = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    check("headers", marks(expected), marks(got));
    let header =
        |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = headers(recorded).find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    check("type", kind.map_or("", |(_, kind)| kind).to_owned(), header("content-type").to_owned());
    let expected = text(recorded, "body")?;
    let got = String::from_utf8_lossy(&answer.body);
    match (Value::from_json_str(expected), Value::from_json_str(&got)) {
        (Ok(expected), Ok(got)) => {
            for (member, repeated) in OWN {
                if let Some(repeated) = repeated
                    && let Some(own) = got.get(member).and_then(Value::as_str)
                {
                    check(repeated, own.to_owned(), header(repeated).to_owned());
                }
                check(
                    member,
                    expected.get(member).is_some().to_string(),
                    got.get(member).is_some().to_string(),
                );
            }
            check("body", without_own(&expected), without_own(&got));
        }
        _ => check("body", expected.to_owned(), got.into_owned()),
    }
    Ok(found)
}

/// JSON text without what no two runs share, its members in order.
fn without_own(record: &Value) -> String {
    let Some(members) = record.as_object() else { return sorted(record).to_json_text() };
    let kept = members.iter().filter(|(name, _)| OWN.iter().all(|(own, _)| *own != &***name));
    let kept: Object = kept.map(|(name, value)| (Arc::clone(name), value.clone())).collect();
    sorted(&kept.into()).to_json_text()
}

fn sorted(value: &Value) -> Value {
    if let Some(items) = value.as_array() {
        return items.iter().map(sorted).collect::<Vec<Value>>().into();
    }
    let Some(members) = value.as_object() else { return value.clone() };
    let mut members: Vec<(Arc<str>, Value)> =
        members.iter().map(|(name, member)| (Arc::clone(name), sorted(member))).collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    members.into_iter().collect::<Object>().into()
}

fn headers(message: &Value) -> impl Iterator<Item = (&str, &str)> {
    let pairs = message.get("headers").and_then(Value::as_array).into_iter().flat_map(|pairs| pairs.iter());
    pairs.filter_map(|pair| {
        let pair = pair.as_array()?;
        Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?))
    })
}

fn text<'v>(message: &'v Value, member: &str) -> Result<&'v str, Box<dyn Error>> {
    Ok(message.get(member).and_then(Value::as_str).ok_or_else(|| format!("a message has no {member}"))?)
}
