//! Approvals of untrusted data in the real binary, killed without warning at seeded moments between the question, the approval and
//! the call.
//!
//! - An approval that was acknowledged is never asked for again, and the call that it allows is made.
//! - A call that was recorded at a kill is never made again, and nothing is sent without an approval.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    crash_agents::{Seen, check, recorded},
    served::{self, Loom, Service, pause},
};

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 900;

const WORKFLOW: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
    "Ask": {"type": "AI", "inputs": {"model": "m", "prompt": "where to?"}},
    "Pay": {"type": "Http", "acceptsUntrusted": false, "approval": {"message": "Pay?", "timeout": "P1D"}, "runAfter": {"Ask": ["Succeeded"]},
        "inputs": {"method": "POST", "uri": "http://service/pay", "body": {"to": "@body('Ask')"}}}}}}"#;

fn serve(directory: &Path, base: &str) -> Loom {
    let file = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let models =
        json!({"models": {"m": {"api": "scripted", "replies": [{"when": {"any": ""}, "text": "DE99"}]}}});
    file("workflows/pay.json", WORKFLOW.to_owned());
    Loom::serve(&[
        "--workflows".as_ref(),
        directory.join("workflows").as_os_str(),
        "--data".as_ref(),
        directory.join("data").as_os_str(),
        "--egress".as_ref(),
        file("egress.json", json!({"service": base}).to_string()).as_os_str(),
        "--connections".as_ref(),
        file("connections.json", models.to_string()).as_os_str(),
        "--park-after".as_ref(),
        "1s".as_ref(),
    ])
}

/// A person who approves what runs ask.
#[derive(Default)]
struct Person {
    /// The number of approvals that were sent for each run.
    sent: BTreeMap<String, u32>,
    acknowledged: BTreeSet<String>,
}

impl Person {
    /// Approves what the run asks. None if the process has died.
    fn approve(&mut self, loom: &Loom, run: &str) -> Option<()> {
        let asked = loom.request("GET", &format!("/api/v1/runs/{run}/questions"), b"")?;
        let asked: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let Some(question) = asked["questions"].get(0) else { return Some(()) };
        assert_eq!(question["arguments"]["body"]["to"], "DE99", "{question}");
        *self.sent.entry(run.to_owned()).or_default() += 1;
        let path = format!("/api/v1/runs/{run}/answers");
        let answered =
            loom.request("POST", &path, br#"{"approved": true, "question": "Pay", "by": "Olga"}"#)?;
        match answered.status {
            202 => {
                assert!(self.acknowledged.insert(run.to_owned()), "run {run} asks again after its approval");
            }
            // A request whose response was lost was the approval.
            404 | 409 | 503 => {}
            other => panic!("an approval gets {other}: {answered:?}"),
        }
        Some(())
    }
}

#[test]
fn repeated_kills_around_approvals_repeat_no_call_and_lose_no_approval() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20) as usize;
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_201);
    let mut random = seed;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let service = Service::start({
        let seen = Arc::clone(&seen);
        move |request| {
            let life = request.path.trim_start_matches('/').split('/').next().unwrap().parse().unwrap();
            let key =
                request.header("idempotency-key").expect("calls carry a key").trim_matches('"').to_owned();
            seen.lock().unwrap().push(Seen { life, key, body: request.body.clone() });
            pause(Duration::from_millis(10));
            (200, json!({"paid": true}))
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let start = |life: usize| serve(directory.path(), &format!("{}/{life}", service.address));
    let (mut started, mut ended, mut person) = (BTreeSet::new(), Vec::new(), Person::default());
    for life in 0..kills {
        let mut loom = start(life);
        let killer = loom.kill_after(Duration::from_millis(20 + below(LIFE_MILLIS)));
        while let Some(answer) = loom.request("POST", "/workflows/pay/triggers/manual/invoke", b"{}") {
            assert_eq!(answer.status, 202, "{answer:?}");
            started.insert(answer.header("x-ms-workflow-run-id").unwrap());
            let some: Vec<String> = started.iter().filter(|_| below(3) == 0).cloned().collect();
            if some.iter().any(|run| person.approve(&loom, run).is_none()) {
                break;
            }
        }
        killer.join().unwrap();
        loom.wait_for_end();
        ended.push(recorded(&directory.path().join("data"), &started));
    }
    let loom = start(kills);
    let context = format!("seed {seed}, {kills} kills");
    assert!(!started.is_empty(), "{context}: some run was accepted before the kills");
    for run in &started {
        loom.until(&format!("/api/v1/runs/{run}"), |answer| {
            person.approve(&loom, run).expect("the server responds");
            let run: Value = serde_json::from_str(&answer.body).unwrap();
            run["endTime"].is_string()
        });
        let shown = loom.get(&format!("/api/v1/runs/{run}"));
        assert_eq!(shown["status"], "Succeeded", "{context}: {shown}");
        let audit = loom.get(&format!("/api/v1/secret-audit?run={run}&operation=approve"));
        assert_eq!(audit["entries"].as_array().unwrap().len(), 1, "{context}: {audit}");
    }
    let seen = seen.lock().unwrap().clone();
    check(&seen, &ended, |place| place == "Pay").unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
    let keys: BTreeSet<&str> = seen.iter().map(|call| call.key.as_str()).collect();
    let expected: BTreeSet<String> = started.iter().map(|run| format!("{run}/Pay")).collect();
    assert_eq!(keys, expected.iter().map(String::as_str).collect(), "{context}: each run pays under one key");
    eprintln!(
        "{context}: {} runs, {} calls, {} of them repeated after a kill, {} approvals sent, {} acknowledged",
        started.len(),
        seen.len(),
        seen.len() - keys.len(),
        person.sent.values().sum::<u32>(),
        person.acknowledged.len(),
    );
}

/// The control of the test above: without an approval, nothing is sent.
#[test]
fn without_an_approval_a_restarted_run_still_asks_and_sends_nothing() {
    let calls = Arc::<Mutex<usize>>::default();
    let service = Service::start({
        let calls = Arc::clone(&calls);
        move |_| {
            *calls.lock().unwrap() += 1;
            (200, json!({}))
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let loom = serve(directory.path(), &service.address);
    let answer = loom.request("POST", "/workflows/pay/triggers/manual/invoke", b"{}").unwrap();
    let path = format!("/api/v1/runs/{}/questions", answer.header("x-ms-workflow-run-id").unwrap());
    loom.until(&path, |answer| answer.body.contains("Pay?"));
    loom.kill();
    let loom = serve(directory.path(), &service.address);
    loom.until(&path, |answer| answer.body.contains("Pay?"));
    assert_eq!(*calls.lock().unwrap(), 0);
}
