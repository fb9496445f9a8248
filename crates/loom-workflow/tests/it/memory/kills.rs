//! Runs and callers of the API that use shared memory at the same time, while the server is killed again and again.
//!
//! - Every accepted run ends and has executed each of its operations once: counts are exact, lists are whole.
//! - The operations on each key, from both sides, are linearizable.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::linear::{Did, Operation, is_linearizable};
use crate::served::{self, Answer, Loom, request};

const CALLERS: usize = 6;

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 250;

/// Executes one operation and responds with its result, then does the rest: it adds to the count of all runs, appends the sum that
/// it got, and increments a value by compare and set.
const WORKFLOW: &str = r#"{
    "triggers": {"manual": {"type": "Request"}},
    "memory": {"write": ["global", "chat:*"]},
    "actions": {
        "Do": {"type": "Memory", "inputs": "@triggerBody()['do']", "runAfter": {}},
        "Answer": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": {"result": "@body('Do')"}}, "runAfter": {"Do": ["Succeeded"]}},
        "Count": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/runs"}, "runAfter": {"Do": ["Succeeded"]}},
        "Log": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": {"n": "@triggerBody()['n']", "sum": "@body('Count')"}}, "runAfter": {"Count": ["Succeeded"]}},
        "Swap": {"type": "Until", "expression": "@equals(actions('Write').status, 'Succeeded')", "limit": {"count": 1000}, "runAfter": {"Do": ["Succeeded"]}, "actions": {
            "Read": {"type": "Memory", "inputs": {"operation": "get", "key": "@{triggerBody()['swapped']}"}, "runAfter": {}},
            "Write": {"type": "Memory", "runAfter": {"Read": ["Succeeded"]}, "inputs": {"operation": "set", "key": "@{triggerBody()['swapped']}",
                "value": "@add(coalesce(body('Read'), 0), 1)", "ifRevision": "@outputs('Read').revision", "ifAbsent": "@equals(outputs('Read').revision, null)"}}}}}}"#;

/// Histories by key, and the times in them.
struct Histories {
    began: Instant,
    by_key: Mutex<BTreeMap<String, Vec<Operation>>>,
    numbers: AtomicI64,
}

impl Histories {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    fn note(&self, key: &str, operation: Operation) {
        self.by_key.lock().unwrap().entry(key.to_owned()).or_default().push(operation);
    }
}

/// The runs that were accepted, and the numbers that were sent to workflows.
#[derive(Default)]
struct Sent {
    accepted: BTreeSet<String>,
    numbers: BTreeSet<i64>,
}

/// Sends operations of all kinds until the server is dead.
fn call(address: &str, life: u64, mut random: u64, histories: &Histories) -> Sent {
    let mut sent = Sent::default();
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, by_run, which) =
            ((random >> 33) % 6, (random >> 40).is_multiple_of(2), (random >> 50) % 2);
        let number = histories.numbers.fetch_add(1, Ordering::Relaxed);
        let (name, operation) = match kind {
            0 | 1 => ("counter", json!({"operation": "increment", "by": 1})),
            2 => ("list", json!({"operation": "append", "value": number})),
            3 => ("value", json!({"operation": "set", "value": number})),
            _ => (["counter", "list", "value"][(random >> 55) as usize % 3], json!({"operation": "get"})),
        };
        let (namespace, key) = (format!("chat:{life}"), format!("{name}{which}"));
        let mut operation = operation;
        let began = histories.now();
        let answer = if by_run {
            operation["key"] = json!(format!("{namespace}/{key}"));
            sent.numbers.insert(number);
            let swapped = format!("{namespace}/swapped");
            let body = json!({"n": number, "do": operation, "swapped": swapped}).to_string();
            request(address, "POST", "/workflows/jobs/triggers/manual/invoke", body.as_bytes())
        } else {
            operation["key"] = json!(key);
            let body = json!({"operations": [operation]}).to_string();
            request(address, "POST", &format!("/api/v1/memory/{namespace}"), body.as_bytes())
        };
        let ended = histories.now();
        sent.accepted.extend(answer.as_ref().and_then(|answer| answer.header("x-ms-workflow-run-id")));
        let result =
            answer.as_ref().filter(|answer| answer.status == 200).map(|answer| result_of(answer, by_run));
        if let Some(answer) = &answer {
            assert!(matches!(answer.status, 200 | 502 | 503), "{answer:?}");
        }
        let did = match (&operation["operation"], name, &result) {
            (operation, _, None) if operation == "get" => None,
            (operation, _, Some(result)) if operation == "get" => Some(Did::Read(numbers_in(result))),
            (_, "counter", result) => Some(Did::Add(1, result.as_ref().and_then(Value::as_i64))),
            (_, "list", result) => Some(Did::Append(number, result.as_ref().and_then(Value::as_i64))),
            _ => Some(Did::Set(number)),
        };
        if let Some(did) = did {
            let ended = result.is_some().then_some(ended);
            histories.note(&format!("{namespace}/{key}"), Operation { did, began, ended });
        }
        if answer.is_none() {
            return sent;
        }
    }
}

fn result_of(answer: &Answer, by_run: bool) -> Value {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    if by_run { body["result"].clone() } else { body["outcomes"][0]["value"].clone() }
}

/// Everything that a key holds; nothing when it is absent.
fn numbers_in(value: &Value) -> Vec<i64> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(|item| item.as_i64().unwrap()).collect(),
        one => vec![one.as_i64().unwrap()],
    }
}

#[test]
fn kills_neither_repeat_nor_lose_an_operation_of_a_run() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20);
    let mut random = served::setting("LOOM_CRASH_SEED", 20_261_130);
    let directory = tempfile::tempdir().unwrap();
    let (data, workflows) = (directory.path().join("data"), directory.path().join("workflows"));
    fs::create_dir(&workflows).unwrap();
    fs::write(workflows.join("jobs.json"), WORKFLOW).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "operations are ordered by the time at which they were observed"
    )]
    let began = Instant::now();
    let histories = Arc::new(Histories { began, by_key: Mutex::default(), numbers: AtomicI64::new(1) });
    let mut sent = Sent::default();
    for life in 0..kills {
        let loom = start(&data, &workflows);
        if life % 10 == 9 {
            // Runs that are interrupted in every life would become more and more.
            sent.accepted.iter().for_each(|run| drop(loom.end_of(run)));
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(97);
                let (address, histories, seed) = (loom.address().to_owned(), Arc::clone(&histories), random);
                std::thread::spawn(move || call(&address, life, seed, &histories))
            })
            .collect();
        let killer = loom.kill_after(Duration::from_millis(40 + (random >> 33) % LIFE_MILLIS));
        for caller in callers {
            let Sent { accepted, numbers } = caller.join().expect("no response is wrong");
            sent.accepted.extend(accepted);
            sent.numbers.extend(numbers);
        }
        killer.join().unwrap();
    }
    let loom = start(&data, &workflows);
    let runs = loom.pages("/api/v1/runs?limit=500", "runs", "cursor");
    let runs: BTreeSet<String> = runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    assert!(sent.accepted.is_subset(&runs), "an accepted run is lost");
    for run in &runs {
        assert_eq!(loom.end_of(run), "Succeeded", "{run}");
    }
    check_sums(&loom, kills, runs.len(), &sent.numbers);
    // The last word on each key: what it holds when everything has ended.
    let histories = Arc::into_inner(histories).unwrap();
    let end = histories.now();
    let mut operations = 0;
    for (key, mut history) in histories.by_key.into_inner().unwrap() {
        let answer = loom.request("GET", &format!("/api/v1/memory/{key}"), b"").unwrap();
        let held: Value = serde_json::from_str(&answer.body).unwrap();
        let did = Did::Read(numbers_in(held.get("value").unwrap_or(&Value::Null)));
        history.push(Operation { did, began: end, ended: Some(end + 1) });
        operations += history.len();
        assert!(is_linearizable(&history), "{key}: {history:#?}");
    }
    eprintln!(
        "{kills} kills, {} runs, {operations} operations in histories, {:?}",
        runs.len(),
        began.elapsed()
    );
}

/// Each run has counted once, appended once what it counted, and swapped once.
fn check_sums(loom: &Loom, kills: u64, runs: usize, numbers: &BTreeSet<i64>) {
    let held = |key: &str| loom.get(&format!("/api/v1/memory/global/{key}"))["value"].clone();
    assert_eq!(held("runs"), json!(runs), "each run counts once");
    let swapped = |life: u64| {
        let answer = loom.request("GET", &format!("/api/v1/memory/chat:{life}/swapped"), b"").unwrap();
        let held: Value = serde_json::from_str(&answer.body).unwrap();
        held["value"].as_i64().unwrap_or(0)
    };
    let all = (0..kills).map(swapped).sum::<i64>();
    assert_eq!(all, runs as i64, "compare-and-set loops lose nothing");
    let log = held("log");
    let log = log.as_array().unwrap();
    let part = |name: &str| log.iter().map(|item| item[name].as_i64().unwrap()).collect::<BTreeSet<i64>>();
    assert_eq!(log.len(), runs, "each run appends once");
    assert_eq!(part("sum"), (1..=runs as i64).collect(), "each sum was returned once");
    let logged = part("n");
    assert!(logged.len() == runs && logged.is_subset(numbers), "each run appends its own number");
}

fn start(data: &Path, workflows: &Path) -> Loom {
    Loom::serve(&["--workflows".as_ref(), workflows.as_os_str(), "--data".as_ref(), data.as_os_str()])
}
