//! Actors behind an endpoint whose state the server keeps, while the server is killed again and again: each action changes the
//! state once, although calls are repeated.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{self, Loom, Service, pause, request};

const CALLERS: usize = 4;

const WORKFLOW: &str = r#"{"definition": {
    "triggers": {"manual": {"type": "Request"}},
    "memory": {"write": ["global"]},
    "actions": {
        "Add": {"type": "Actor", "inputs": {"actorType": "Counter", "actorId": "a", "method": "add", "args": 1}, "runAfter": {}},
        "Log": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('Add')"}, "runAfter": {"Add": ["Succeeded"]}}}}}"#;

#[test]
fn kills_neither_repeat_nor_lose_a_change_of_an_actor() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20);
    let directory = tempfile::tempdir().unwrap();
    let (data, workflows) = (directory.path().join("data"), directory.path().join("workflows"));
    fs::create_dir(&workflows).unwrap();
    fs::write(workflows.join("jobs.json"), WORKFLOW).unwrap();
    // The actor: it adds to the number that is its state.
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let actor = Service::start(move |request| {
        assert_eq!(request.path, "/counters/a/add");
        counted.fetch_add(1, Ordering::Relaxed);
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let sum = body["state"].as_i64().unwrap_or(0) + body["args"].as_i64().unwrap();
        // Long enough for some kills to come before the response.
        pause(Duration::from_millis(5));
        (200, json!({"result": sum, "state": sum}))
    });
    let connections = directory.path().join("connections.json");
    let address = format!("{}/counters", actor.address);
    fs::write(&connections, json!({"actors": {"counter": {"baseUrl": address, "state": true}}}).to_string())
        .unwrap();
    let arguments: [&OsStr; 6] = [
        "--workflows".as_ref(),
        workflows.as_ref(),
        "--data".as_ref(),
        data.as_ref(),
        "--connections".as_ref(),
        connections.as_ref(),
    ];
    let mut accepted = BTreeSet::new();
    for life in 0..kills {
        let loom = Loom::serve(&arguments);
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let address = loom.address().to_owned();
                std::thread::spawn(move || {
                    let mut accepted = Vec::new();
                    while let Some(answer) =
                        request(&address, "POST", "/workflows/jobs/triggers/manual/invoke", b"{}")
                    {
                        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
                        accepted.extend(answer.header("x-ms-workflow-run-id"));
                        // The queue at the actor stays short.
                        pause(Duration::from_millis(60));
                    }
                    accepted
                })
            })
            .collect();
        loom.kill_after(Duration::from_millis(60 + life * 37 % 200)).join().unwrap();
        for caller in callers {
            accepted.extend(caller.join().expect("no response is wrong"));
        }
    }
    let loom = Loom::serve(&arguments);
    let runs = loom.pages("/api/v1/runs?limit=500", "runs", "cursor");
    let runs: BTreeSet<String> = runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    assert!(accepted.is_subset(&runs) && !accepted.is_empty(), "an accepted run is lost");
    for run in &runs {
        assert_eq!(loom.end_of(run), "Succeeded", "{run}");
    }
    let held = |key: &str| loom.get(&format!("/api/v1/memory/{key}"))["value"].clone();
    assert_eq!(held("actor:counter/a"), json!(runs.len()), "each run has changed the state once");
    let log = held("global/log");
    let mut log: Vec<i64> = log.as_array().unwrap().iter().map(|sum| sum.as_i64().unwrap()).collect();
    log.sort_unstable();
    assert_eq!(log, (1..=runs.len() as i64).collect::<Vec<_>>(), "each sum was returned once");
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls > runs.len(), "no kill has interrupted a call ({calls} calls of {} runs)", runs.len());
}
