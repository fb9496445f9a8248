//! The real binary, killed without warning at seeded moments, with actions of every kind in progress.
//!
//! The service that all calls go to sees which process made them. After each kill, before the next process starts, the
//! test reads from the store which actions are complete. So it knows for each call whether repeating it was allowed.
//!
//! - Every accepted run ends, and so does every run in the store.
//! - A call whose completion was in the journal at a kill is never made again, and a run that had ended makes none, but for
//!   the end of a subscription that the store did not know to have arrived.
//! - One that was in flight may be made again, under its key: once in each life, and one in each branch.
//! - Histories are complete, dense and in order; variables and outputs are what they would be without kills.
//! - One child for each parent.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

mod expect;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::Arc,
    time::Duration,
};

use loom_engine::Engine;
use loom_store::{KeyQuery, Shards, SqliteOptions, SqliteStore, Store, prelude::*};
use serde_json::Value;

use crate::served::{self, Loom, pause};
use expect::Expected;
use world::{Seen, World};

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 1_400;

/// The contents of the store after each kill.
#[derive(Default)]
struct Known {
    /// The life in which each action was complete, by key.
    completed: BTreeMap<String, usize>,
    /// Runs that had ended.
    ended: BTreeMap<String, usize>,
    /// The lives in which runs had ended with an unsubscription that was not yet confirmed.
    unsubscribing: BTreeSet<(String, usize)>,
    unfinished: BTreeSet<String>,
}

impl Known {
    /// Reads the store of a process that is dead.
    fn read(&mut self, data: &Path, life: usize, accepted: &BTreeSet<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(SqliteStore::open(data, SqliteOptions::default()).unwrap());
            let engine = Engine::builder().store(Arc::clone(&store) as Arc<dyn Store>).build();
            let before = std::mem::take(&mut self.unfinished);
            let mut after = None;
            loop {
                let page = store.unfinished(Shards::ALL, after, 500).await.unwrap();
                for row in &page {
                    self.unfinished.insert(row.id.to_string());
                    self.note(&engine, row.id, life).await;
                }
                match page.last() {
                    Some(last) => after = Some(last.id),
                    None => break,
                }
            }
            for run in before.iter().chain(accepted).filter(|run| !self.unfinished.contains(*run)) {
                self.ended.entry(run.clone()).or_insert(life);
            }
            let query = KeyQuery {
                namespace: "engine/unsubscribing".into(),
                prefix: String::new(),
                after: None,
                limit: 10_000,
            };
            let page = store.keys(query).await.unwrap();
            self.unsubscribing.extend(page.values.iter().map(|value| (value.key.to_string(), life)));
            store.close().await.unwrap();
        });
    }

    async fn note(&mut self, engine: &Engine, run: loom_engine::RunId, life: usize) {
        let (_, history) = engine.history(run).await.unwrap().expect("a row has a history");
        let workflow = Arc::clone(history.workflow());
        for action in &workflow.actions {
            for occurrence in history.occurrences(action.index).iter().filter(|o| o.status.is_some()) {
                let mut key = format!("{run}/{}", action.name);
                for round in &occurrence.path {
                    write!(key, "/{}", round.index).unwrap();
                }
                self.completed.entry(key).or_insert(life);
            }
        }
    }
}

#[test]
fn repeated_kills_lose_no_run_and_repeat_no_completed_call() {
    let kills = served::setting("LOOM_CRASH_KILLS", 4) as usize;
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_123);
    let mut random = Random(seed);
    let world = World::start();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let start = |life| {
        world.introduce(directory.path(), life);
        let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/workflows");
        let (egress, connections) =
            (directory.path().join("egress.json"), directory.path().join("connections.json"));
        let loom = Loom::serve(&[
            "--workflows".as_ref(),
            workflows.as_os_str(),
            "--data".as_ref(),
            data.as_os_str(),
            "--egress".as_ref(),
            egress.as_os_str(),
            "--connections".as_ref(),
            connections.as_os_str(),
        ]);
        world.serves_at(loom.address());
        loom
    };
    let expected = expect::all();
    let callable: Vec<&str> = expected.iter().map(|one| one.name).filter(|name| *name != "child").collect();

    let mut accepted = BTreeSet::new();
    let mut known = Known::default();
    for life in 0..kills {
        let mut loom = start(life);
        let killer = loom.kill_after(Duration::from_millis(30 + random.below(LIFE_MILLIS)));
        loop {
            let name = callable[random.below(callable.len() as u64) as usize];
            let path = format!("/workflows/{name}/triggers/manual/invoke");
            let Some(answer) = loom.request("POST", &path, br#"{"n": 1}"#) else { break };
            assert_eq!(answer.status, if name == "answer" { 200 } else { 202 }, "{name}: {answer:?}");
            accepted.insert(answer.header("x-ms-workflow-run-id").unwrap());
            // Spread out, so that a kill finds runs at every position.
            pause(Duration::from_millis(10));
        }
        killer.join().unwrap();
        loom.wait_for_end();
        known.read(&data, life, &accepted);
    }
    let loom = start(kills);
    assert!(!accepted.is_empty(), "some run was accepted before the kills");
    for run in &accepted {
        loom.end_of(run);
    }
    let runs = ended_runs(&loom);
    let seen = world.seen();
    let context = format!("seed {seed}, {kills} kills");
    assert_eq!(world.wrong(), Vec::<String>::new(), "{context}");
    for run in &accepted {
        assert!(runs.contains_key(run), "{context}: accepted run {run} is missing");
    }
    check_calls(&seen, &known, &context);
    let mut by_run: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for call in &seen {
        by_run.entry(call.run()).or_default().push(call);
    }
    for (id, run) in &runs {
        let name = run["workflow"].as_str().unwrap();
        let expected = expected.iter().find(|one| one.name == name).expect("a workflow of ours");
        let calls = by_run.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
        check_run(expected, run, calls, &format!("{context}, run {id} of {name}"));
        check_history(&loom, id, &format!("{context}, run {id} of {name}"));
    }
    let of = |name: &str| runs.values().filter(|run| run["workflow"] == name).count();
    assert_eq!(of("child"), of("parent"), "{context}: one child for each parent");
    let repeated = seen.len() - seen.iter().map(|call| (&call.key, call.life)).collect::<BTreeSet<_>>().len();
    let keys: BTreeSet<&str> = seen.iter().map(|call| call.key.as_str()).collect();
    eprintln!(
        "{context}: {} runs, {} calls under {} keys, {repeated} of them asked for by a retry, {} of them repeated after a kill",
        runs.len(),
        seen.len(),
        keys.len(),
        seen.len() - keys.len() - repeated,
    );
}

/// Every run in the store, once all have ended.
fn ended_runs(loom: &Loom) -> BTreeMap<String, Value> {
    let list = loom.pages("/api/v1/runs?limit=500", "runs", "cursor");
    let mut runs = BTreeMap::new();
    for mut run in list {
        let id = run["id"].as_str().unwrap().to_owned();
        if run.get("endTime").is_none() {
            loom.end_of(&id);
            run = loom.get(&format!("/api/v1/runs/{id}"));
        }
        runs.insert(id, run);
    }
    runs
}

/// No completed call is repeated, and a call that may be repeated is repeated once.
fn check_calls(seen: &[Seen], known: &Known, context: &str) {
    let mut counts: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for call in seen {
        if let Some(life) = known.completed.get(&call.key) {
            assert!(call.life <= *life, "{context}: completed in life {life}, but repeated: {call:?}");
        }
        if let Some(life) = known.ended.get(call.run()) {
            let owed = |life: usize| known.unsubscribing.contains(&(call.run().to_owned(), life));
            let ends = call.place().contains("/unsubscribe/") && call.life.checked_sub(1).is_some_and(owed);
            assert!(
                call.life <= *life || ends,
                "{context}: a call after its run ended in life {life}: {call:?}"
            );
        }
        *counts.entry((&call.key, call.life)).or_default() += 1;
        let latest = last.entry(&call.key).or_default();
        *latest = call.life.max(*latest);
    }
    let mut repeated: BTreeMap<(&str, &str, usize), BTreeSet<&str>> = BTreeMap::new();
    for call in seen {
        let most = if call.place() == expect::FLAKY.0 { expect::FLAKY.1 } else { 1 };
        assert!(
            counts[&(call.key.as_str(), call.life)] <= most,
            "{context}: called too often in one life: {call:?}"
        );
        if last[call.key.as_str()] > call.life {
            let branch = (call.run(), expect::branch(call.place()), call.life);
            repeated.entry(branch).or_default().insert(&call.key);
        }
    }
    for (branch, keys) in repeated {
        assert!(keys.len() <= 1, "{context}: more than one call of {branch:?} was repeated: {keys:?}");
    }
}

/// A run made all its calls, each under one key, and ended as expected.
fn check_run(expected: &Expected, run: &Value, calls: &[&Seen], context: &str) {
    assert_eq!(run["status"], expected.status, "{context}: {run}");
    let places: BTreeSet<&str> = calls.iter().map(|call| call.place()).collect();
    for place in expected.places.iter().filter(|place| !place.ends_with('?')) {
        assert!(places.contains(place), "{context}: {place} was not called; {places:?}");
    }
    for place in &places {
        let meant = expected.places.iter().any(|known| known.trim_end_matches('?') == *place);
        assert!(meant, "{context}: {place} was called");
    }
    for call in calls.iter().filter(|call| call.place() == "Total") {
        let body: Value = serde_json::from_str(&call.body).expect("it is JSON");
        assert_eq!(Some(&body), expected.total.as_ref(), "{context}");
    }
}

/// The history of a run that has ended: dense, in order, and each action in it ends once.
fn check_history(loom: &Loom, run: &str, context: &str) {
    let events = loom.pages(&format!("/api/v1/runs/{run}/events?limit=1000"), "events", "after");
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let kinds: Vec<String> = events.iter().map(|event| text(event, "type")).collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "{context}: {event}");
    }
    assert_eq!(kinds.first().map(String::as_str), Some("run.started"), "{context}");
    assert_eq!(kinds.last().map(String::as_str), Some("run.completed"), "{context}: {kinds:?}");
    for once in ["run.started", "run.completed"] {
        assert_eq!(kinds.iter().filter(|kind| *kind == once).count(), 1, "{context}: {once}");
    }
    let mut begun: BTreeSet<(String, String)> = BTreeSet::new();
    let mut ended: BTreeSet<(String, String)> = BTreeSet::new();
    let mut latest = String::new();
    for event in &events {
        let ts = text(event, "ts");
        assert!(comparable(&ts) >= comparable(&latest), "{context}: {latest} and then {event}");
        latest = ts;
        let Some(action) = event.get("action").and_then(Value::as_str) else { continue };
        let occurrence = (action.to_owned(), event["path"].to_string());
        match event["type"].as_str().unwrap() {
            "action.started" => {
                assert!(begun.insert(occurrence.clone()), "{context}: started twice: {event}");
            }
            "action.completed" | "action.skipped" => {
                assert!(ended.insert(occurrence.clone()), "{context}: ended twice: {event}");
            }
            _ => {}
        }
    }
    let open: Vec<_> = begun.difference(&ended).collect();
    assert!(open.is_empty(), "{context}: started but never ended: {open:?}");
}

/// A time that can be compared as text: fractions of a second have different lengths.
fn comparable(ts: &str) -> String {
    let (second, fraction) =
        ts.trim_end_matches('Z').split_once('.').unwrap_or((ts.trim_end_matches('Z'), ""));
    format!("{second}.{fraction:0<9}")
}

/// A linear congruential generator (Knuth's MMIX constants); its high bits are used.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
