//! Agents in the real binary, killed without warning at seeded moments.
//!
//! The model and the tools are a service that sees which process made each call. After each kill, the test reads from the store
//! which turns and which tools are recorded. So it knows for each call whether repeating it was allowed.
//!
//! - A call of the model whose turn was recorded at a kill is never made again; nor is a tool that had ended.
//! - One that was in flight may be made again under its key, with the same request, once in each life.
//! - Histories are whole and in order, and budgets count every call once.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_engine::{Engine, event::Phase};
use loom_store::{Shards, SqliteOptions, SqliteStore, Store, prelude::*};
use serde_json::{Value, json};

use crate::served::{self, Loom, Reply, Request, Service, pause};

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 900;

/// How long the service takes for a call: long enough for kills to interrupt calls.
const WORK: Duration = Duration::from_millis(15);

/// The tokens of each call of the model.
const TOKENS: (i64, i64) = (10, 5);

/// The calls of a run, by the end of their keys, each with the agent that makes it.
const CALLS: [(&str, &str); 7] = [
    ("Desk/turn-1", "Desk"),
    ("Find/0", "Desk"),
    ("Find/1", "Desk"),
    ("Desk/turn-2", "Desk"),
    ("Sales/turn-1", "Sales"),
    ("Price/0", "Sales"),
    ("Sales/turn-2", "Sales"),
];

/// A call that the service saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of the process that made the call, from 0.
    pub(crate) life: usize,
    /// `run/action/…`
    pub(crate) key: String,
    pub(crate) body: String,
}

/// The answer of the model to a request, which follows from the request alone.
fn answer(request: &Value) -> Value {
    let messages = request["messages"].as_array().unwrap();
    let results = messages.iter().filter(|message| message["role"] == "tool").count();
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let is_desk = messages.iter().any(|message| message["content"] == "desk");
    let (text, calls) = match (is_desk, results) {
        (true, 0) => ("I look.", vec![call("a", "find", r#"{"n": 1}"#), call("b", "find", r#"{"n": 2}"#)]),
        (true, _) => ("Sales knows.", vec![call("h", "to_sales", "{}")]),
        (false, 0) => ("One moment.", vec![call("p", "price", "{}")]),
        (false, _) => ("It costs 7.", Vec::new()),
    };
    let mut message = json!({"role": "assistant", "content": text});
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({
        "id": "x", "model": "m-1", "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1, "total_tokens": TOKENS.0 + TOKENS.1},
    })
}

fn serve(seen: &Mutex<Vec<Seen>>, request: &Request) -> Reply {
    let mut path = request.path.trim_start_matches('/').split('/');
    let life = path.next().and_then(|life| life.parse().ok()).expect("the address names the life");
    let key = request.header("idempotency-key").expect("calls carry a key").trim_matches('"').to_owned();
    seen.lock().unwrap().push(Seen { life, key, body: request.body.clone() });
    pause(WORK);
    let body: Value = serde_json::from_str(&request.body).unwrap();
    match path.next() {
        Some("v1") => (200, answer(&body)),
        _ => (200, json!({"n": body["n"]})),
    }
}

/// The keys of calls that the store has recorded as ended, and the runs that have not ended.
pub(crate) fn recorded(data: &Path, runs: &BTreeSet<String>) -> BTreeSet<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open(data, SqliteOptions::default()).unwrap());
        let engine = Engine::builder().store(Arc::clone(&store) as Arc<dyn Store>).build();
        let mut keys = BTreeSet::new();
        let unfinished = store.unfinished(Shards::ALL, None, 10_000).await.unwrap();
        let ids = unfinished.iter().map(|row| row.id.to_string()).chain(runs.iter().cloned());
        for id in ids.collect::<BTreeSet<_>>() {
            let id: loom_engine::RunId = id.parse().unwrap();
            let (_, history) = engine.history(id).await.unwrap().expect("a row has a history");
            let workflow = Arc::clone(history.workflow());
            for action in &workflow.actions {
                for occurrence in history.occurrences(action.index) {
                    let mut key = format!("{id}/{}", action.name);
                    for round in &occurrence.path {
                        write!(key, "/{}", round.index).unwrap();
                    }
                    let turns = occurrence.attempts.iter().filter(|attempt| attempt.phase == Phase::Call);
                    let ended = |ended: bool| ended || occurrence.status.is_some();
                    for (turn, attempt) in turns.enumerate() {
                        if ended(attempt.ended.is_some()) {
                            keys.insert(format!("{key}/turn-{}", turn + 1));
                        }
                    }
                    if occurrence.status.is_some() {
                        keys.insert(key);
                    }
                }
            }
        }
        store.close().await.unwrap();
        keys
    })
}

/// Checks the calls: `recorded` are the keys that were recorded as ended at the end of each life, `is_known` whether a run makes
/// the call at a place.
pub(crate) fn check(
    seen: &[Seen],
    recorded: &[BTreeSet<String>],
    is_known: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lives: BTreeSet<(&str, usize)> = BTreeSet::new();
    for call in seen {
        if recorded[..call.life].iter().any(|ended| ended.contains(&call.key)) {
            return Err(format!("a call that was recorded is made again: {call:?}"));
        }
        if !lives.insert((&call.key, call.life)) {
            return Err(format!("a call is made twice in one life: {call:?}"));
        }
        let first = bodies.entry(&call.key).or_insert(&call.body);
        if **first != *call.body {
            return Err(format!("a call is repeated with another request: {call:?}, first {first}"));
        }
        let place = call.key.split_once('/').map_or("", |(_, place)| place);
        if !is_known(place) {
            return Err(format!("an unknown call: {call:?}"));
        }
    }
    Ok(())
}

fn is_known(place: &str) -> bool {
    CALLS.iter().any(|(known, _)| *known == place)
}

/// Checks what a run that has ended knows of its conversation.
fn check_run(run: &Value, seen: &[Seen], context: &str) {
    assert_eq!(run["status"], "Succeeded", "{context}: {run}");
    let id = run["id"].as_str().unwrap();
    for (place, _) in CALLS {
        assert!(
            seen.iter().any(|call| call.key == format!("{id}/{place}")),
            "{context}: {place} was not called"
        );
    }
    let outputs = |agent: &str| {
        let output = &run["outputs"][agent];
        if output["value"].is_object() { output["value"].clone() } else { output.clone() }
    };
    for (agent, expected) in [
        (
            "desk",
            "user: Which of 1 and 2?|assistant: I look.|tool: found 1,found 2|assistant: Sales knows.|tool: The conversation is handed over to Sales.",
        ),
        (
            "sales",
            "user: Which of 1 and 2?|assistant: I look.|assistant: Sales knows.|user: The conversation was handed over to you. Continue it.|assistant: One moment.|tool: {\"n\":7}|assistant: It costs 7.",
        ),
    ] {
        let outputs = outputs(agent);
        let said = |message: &Value| {
            let parts = message["content"].as_array().unwrap().iter();
            let texts = parts.filter_map(|part| {
                part["text"].as_str().map(str::to_owned).or_else(|| {
                    let content = part["content"].as_array()?;
                    Some(content.iter().filter_map(|part| part["text"].as_str()).collect())
                })
            });
            format!("{}: {}", message["role"].as_str().unwrap(), texts.collect::<Vec<String>>().join(","))
        };
        let history: Vec<String> = outputs["messages"].as_array().unwrap().iter().map(said).collect();
        assert_eq!(history.join("|"), expected, "{context}");
        let usage = (&outputs["usage"]["inputTokens"], &outputs["usage"]["outputTokens"]);
        assert_eq!(
            usage,
            (&json!(2 * TOKENS.0), &json!(2 * TOKENS.1)),
            "{context}: two calls, each counted once"
        );
        assert_eq!(outputs["iterations"], 2, "{context}");
    }
}

#[test]
fn repeated_kills_repeat_no_recorded_call_of_a_model_and_lose_nothing() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20) as usize;
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_130);
    let mut random = seed;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let service = Service::start({
        let seen = Arc::clone(&seen);
        move |request| serve(&seen, &request)
    });
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let start = |life: usize| {
        let base = format!("{}/{life}", service.address);
        std::fs::write(directory.path().join("egress.json"), json!({"service": base}).to_string()).unwrap();
        let model = json!({"api": "compatible", "baseUrl": format!("{base}/v1"), "model": "m-1"});
        let connections = json!({"models": {"m": model}});
        std::fs::write(directory.path().join("connections.json"), connections.to_string()).unwrap();
        let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash_agents/workflows");
        let file = |name: &str| directory.path().join(name);
        Loom::serve(&[
            "--workflows".as_ref(),
            workflows.as_os_str(),
            "--data".as_ref(),
            data.as_os_str(),
            "--egress".as_ref(),
            file("egress.json").as_os_str(),
            "--connections".as_ref(),
            file("connections.json").as_os_str(),
        ])
    };
    let (mut accepted, mut ended) = (BTreeSet::new(), Vec::new());
    for life in 0..kills {
        let mut loom = start(life);
        let killer = loom.kill_after(Duration::from_millis(30 + below(LIFE_MILLIS)));
        while let Some(answer) = loom.request("POST", "/workflows/desk/triggers/manual/invoke", b"{}") {
            assert_eq!(answer.status, 202, "{answer:?}");
            accepted.insert(answer.header("x-ms-workflow-run-id").unwrap());
            pause(Duration::from_millis(20));
        }
        killer.join().unwrap();
        loom.wait_for_end();
        ended.push(recorded(&data, &accepted));
    }
    let loom = start(kills);
    let context = format!("seed {seed}, {kills} kills");
    assert!(!accepted.is_empty(), "{context}: some run was accepted before the kills");
    for run in &accepted {
        loom.end_of(run);
    }
    let seen = seen.lock().unwrap().clone();
    check(&seen, &ended, is_known).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
    for run in &accepted {
        check_run(&loom.get(&format!("/api/v1/runs/{run}")), &seen, &format!("{context}, run {run}"));
    }
    let keys: BTreeSet<&str> = seen.iter().map(|call| call.key.as_str()).collect();
    eprintln!(
        "{context}: {} runs, {} calls under {} keys, {} of them repeated after a kill",
        accepted.len(),
        seen.len(),
        keys.len(),
        seen.len() - keys.len(),
    );
}

/// The control of the test above: a process that makes a recorded call again, or with another request, is noticed.
#[test]
fn a_repeated_call_is_noticed() {
    let call = |life, body: &str| Seen { life, key: "run/Desk/turn-1".to_owned(), body: body.to_owned() };
    let nothing = vec![BTreeSet::new(), BTreeSet::new()];
    let recorded = vec![BTreeSet::from(["run/Desk/turn-1".to_owned()]), BTreeSet::new()];
    assert_eq!(check(&[call(0, "a"), call(1, "a")], &nothing, is_known), Ok(()), "it was in flight");
    assert!(check(&[call(0, "a"), call(1, "a")], &recorded, is_known).is_err());
    assert!(check(&[call(0, "a"), call(0, "a")], &nothing, is_known).is_err());
    assert!(check(&[call(0, "a"), call(1, "b")], &nothing, is_known).is_err());
}
