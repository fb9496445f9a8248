//! The real binary, killed without warning at seeded moments: every run that was accepted ends, and what a service was
//! asked to do and is known to have done is never asked again.
//!
//! The service sees all there is to see. In a chain of calls, the request for one call proves that the call before it
//! was known to be complete; so the calls of a run may never go back. A call that was in flight at a kill may come again,
//! with the same key, and not twice in one life of the process.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::served::{self, Loom, Service, pause};

/// A call that the service saw.
#[derive(Clone, Debug)]
struct Seen {
    life: usize,
    key: String,
    run: String,
    place: u32,
}

const WORKFLOW: &str = r#"{
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "Start": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}},
    "First": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/1", "body": {"a": 1}}, "runAfter": {"Start": ["Succeeded"]}},
    "Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {"First": ["Succeeded"]}},
    "Each": {"type": "Foreach", "foreach": [1, 2, 3], "runAfter": {"Pause": ["Succeeded"]}, "actions": {
      "Second": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/2", "body": "@item()"}, "runAfter": {}}
    }},
    "Third": {"type": "Http", "inputs": {"method": "PATCH", "uri": "SERVICE/3", "body": "x"}, "runAfter": {"Each": ["Succeeded"]}},
    "Fourth": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/4"}, "runAfter": {"Third": ["Succeeded"]}}
  }
}"#;

/// Calls that each run makes.
const CALLS: usize = 6;

#[test]
fn killed_again_and_again_every_accepted_run_ends_and_nothing_complete_is_repeated() {
    let kills = served::setting("LOOM_CRASH_KILLS", 4);
    let mut random = served::setting("LOOM_CRASH_SEED", 20_261_123);
    let life = Arc::new(AtomicUsize::new(0));
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let service = Service::start({
        let (life, seen) = (Arc::clone(&life), Arc::clone(&seen));
        move |request| {
            let key = request.header("idempotency-key").expect("unsafe calls carry a key");
            let key = key.trim_matches('"').to_owned();
            let run = key.split('/').next().unwrap_or_default().to_owned();
            let place = request.path.trim_start_matches('/').parse().unwrap();
            let life = life.load(Ordering::SeqCst);
            seen.lock().unwrap().push(Seen { life, key, run, place });
            // Long enough that kills fall into calls.
            pause(Duration::from_millis(15));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain.json");
    std::fs::write(&file, WORKFLOW.replace("SERVICE", &service.address)).unwrap();
    let data = folder.path().join("data");
    let start = || Loom::serve(&[file.as_os_str(), "--data".as_ref(), data.as_os_str()]);

    let mut accepted = BTreeSet::new();
    for _ in 0..kills {
        let mut loom = start();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis(30 + (random >> 33) % 1_400);
        let killer = loom.kill_after(moment);
        loop {
            let body = br#"{"n": 1}"#;
            let Some(answer) = loom.request("POST", "/workflows/chain/triggers/manual/invoke", body) else {
                break;
            };
            assert_eq!(answer.status, 202, "{answer:?}");
            accepted.insert(answer.header("x-ms-workflow-run-id").unwrap());
            // Spread out, so that there are runs in every place of the chain when the kill comes.
            pause(Duration::from_millis(10));
        }
        killer.join().unwrap();
        loom.wait_for_end();
        // What the dead process has sent is still on its way to the service; what comes later is of the next life.
        pause(Duration::from_millis(200));
        life.fetch_add(1, Ordering::SeqCst);
    }
    let loom = start();
    assert!(!accepted.is_empty(), "some run was accepted before each kill");
    for run in &accepted {
        let status = loom.end_of(run);
        assert_eq!(status, "Succeeded", "run {run}");
    }

    let seen = seen.lock().unwrap();
    let mut by_run: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for call in seen.iter() {
        by_run.entry(&call.run).or_default().push(call);
    }
    let mut repeated = 0;
    for run in &accepted {
        let calls = &by_run[run.as_str()];
        let keys: BTreeSet<&str> = calls.iter().map(|call| call.key.as_str()).collect();
        assert_eq!(keys.len(), CALLS, "each call of run {run} was made, under a key of its own");
        let mut once = BTreeSet::new();
        for pair in calls.windows(2) {
            assert!(pair[0].place <= pair[1].place, "run {run} went back: {calls:?}");
        }
        for call in calls {
            assert!(once.insert((call.life, &call.key)), "twice in one life: {call:?}");
        }
        repeated += calls.len() - CALLS;
    }
    eprintln!("{} runs, {kills} kills, {} calls, {repeated} of them repeated", accepted.len(), seen.len());
}

#[test]
fn a_watcher_that_comes_back_twenty_times_sees_every_event_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.json");
    let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Each": {"type": "Foreach", "foreach": "@range(0, 30)", "operationOptions": "Sequential", "runAfter": {}, "actions": {
            "Give": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}},
        "Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {"Each": ["Succeeded"]}},
        "Last": {"type": "Compose", "inputs": 1, "runAfter": {"Pause": ["Succeeded"]}}}}"#;
    std::fs::write(&file, definition).unwrap();
    let data = folder.path().join("data");
    let loom = Loom::serve(&[file.as_os_str(), "--data".as_ref(), data.as_os_str()]);
    let answer = loom.request("POST", "/workflows/long/triggers/manual/invoke", b"").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    let mut events: Vec<(u64, String)> = Vec::new();
    for visit in 0..20 {
        // The last visit stays until the stream ends by itself.
        let most = if visit < 19 { 3 } else { usize::MAX };
        let after = events.last().map_or(0, |(seq, _)| *seq);
        events.extend(loom.stream(&format!("/api/v1/runs/{run}/events"), after, most));
    }
    let numbers: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() > 60, "{numbers:?}");
    assert_eq!(events.first().unwrap().1, "run.started");
    let ends = events.iter().filter(|(_, kind)| kind == "run.completed").count();
    assert_eq!((ends, events.last().unwrap().1.as_str()), (1, "run.completed"));
}
