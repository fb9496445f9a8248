//! Snapshots: a decoded state equals the encoded one, at every point of a run's history, and later events lead to the same state
//! as the whole history.

use std::{path::PathBuf, sync::Arc, time::Duration};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Environment, Event, RunRequest, RunState, Started,
    event::{Command, EffectResult},
    journal,
    ports::Call,
    simulate::{Choice, Simulation},
};
use loom_store::{
    Commit, Condition, Error, LoadedRun, MemoryStore, Snapshot, SqliteOptions, SqliteStore, Store,
};
use proptest::prelude::*;

use crate::{
    crash::{BUSY, answer},
    graphs::{answer_of, definition, graph},
    support::{Service, engine, now, ok, start, workflow},
};

/// Like [`BUSY`], with the state of running actions: admissions, webhooks, timeouts, loops with results.
pub(crate) const HOLDING: &str = r#"{
    "N": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "n", "type": "integer", "value": 0}]}, "runAfter": {}},
    "Hook": {"type": "HttpWebhook", "runAfter": {}, "limit": {"timeout": "PT1H"}, "inputs": {
        "subscribe": {"method": "POST", "uri": "http://s/subscribe"}, "unsubscribe": {"method": "POST", "uri": "http://s/leave"}}},
    "Each": {"type": "Foreach", "foreach": "@range(0, 5)", "runAfter": {"N": ["Succeeded"]},
        "runtimeConfiguration": {"concurrency": {"repetitions": 2}},
        "actions": {
            "In_turn": {"type": "Wait", "inputs": {"interval": {"count": 3, "unit": "Second"}}, "runAfter": {},
                "rateLimit": {"requests": 100, "per": "second", "name": "turns"}},
            "Count": {"type": "IncrementVariable", "inputs": {"name": "n", "value": 1}, "runAfter": {"In_turn": ["Succeeded"]}},
            "Share": {"type": "Compose", "inputs": "@div(6, sub(items('Each'), 1))", "runAfter": {"Count": ["Succeeded"]}}}},
    "All": {"type": "Compose", "inputs": "@result('Each')", "runAfter": {"Each": ["Failed"]}},
    "Shares": {"type": "Compose", "inputs": {"all": "@outputs('Share')", "records": "@actions('Count').outputs"}, "runAfter": {"Each": ["Failed"]}},
    "Until_three": {"type": "DoUntil", "inputs": {"condition": "@equals(variables('loopIndex'), 3)",
        "actions": {"Ask": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/ask"}, "runAfter": {}}}},
        "runAfter": {"All": ["Succeeded"]}},
    "Both": {"type": "Parallel", "inputs": {"branches": [
        {"actions": {"Left": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/left"}, "runAfter": {}}}},
        {"actions": {"Right": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Minute"}}, "runAfter": {}}}}]},
        "runAfter": {"Until_three": ["Succeeded", "Failed"]}}}"#;

fn state_after(workflow: &Arc<Workflow>, events: &[Event]) -> RunState {
    let mut state = RunState::new(Arc::clone(workflow));
    state.replay(events).expect("the history is legal");
    state
}

/// Runs a workflow; `pick` selects what happens next. Returns the history, and its length after each command.
fn play(
    workflow: &Arc<Workflow>,
    mut pick: impl FnMut(usize) -> usize,
    answer: impl Fn(&Call) -> EffectResult,
) -> (Vec<Event>, Vec<usize>) {
    let mut live = Simulation::new(Arc::clone(workflow), Arc::new(Environment::default()), now());
    live.command(Command::Start(start(11)));
    let mut lengths = vec![live.events().len()];
    loop {
        let written = journal::encode_snapshot(live.run().state());
        let replayed = journal::encode_snapshot(&state_after(workflow, live.events()));
        assert_eq!(written, replayed, "the live state is that of its history");
        let choices = live.choices();
        if choices.is_empty() || live.run().state().status().is_final() {
            break;
        }
        live.choose(choices[pick(choices.len())], &answer);
        lengths.push(live.events().len());
    }
    (live.events().to_vec(), lengths)
}

/// Checks the law for one history.
fn check(workflow: &Arc<Workflow>, events: &[Event], cuts: &[usize]) {
    for (place, cut) in cuts.iter().enumerate() {
        let whole = state_after(workflow, &events[..*cut]);
        let snapshot = journal::encode_snapshot(&whole);
        let restored = journal::decode_snapshot(workflow, &snapshot).expect("what was written can be read");
        assert_eq!(format!("{restored:?}"), format!("{whole:?}"), "read back at event {cut}");
        let mut later = restored;
        for pair in cuts[place..].windows(2) {
            later.replay(&events[pair[0]..pair[1]]).expect("the history is legal");
            let expected = state_after(workflow, &events[..pair[1]]);
            assert_eq!(format!("{later:?}"), format!("{expected:?}"), "from event {cut} to {}", pair[1]);
        }
    }
}

/// A run that continues from a snapshot produces the same events as one that continues from its history.
fn check_future(
    workflow: &Arc<Workflow>,
    events: &[Event],
    cut: usize,
    answer: impl Fn(&Call) -> EffectResult,
) {
    let environment = || Arc::new(Environment::default());
    let state = state_after(workflow, &events[..cut]);
    let restored = journal::decode_snapshot(workflow, &journal::encode_snapshot(&state)).expect("it is read");
    let mut from_history = Simulation::resume(Arc::clone(workflow), environment(), now(), &events[..cut])
        .expect("the history is legal");
    let mut from_snapshot = Simulation::resume_from(restored, environment(), now());
    let first = from_history.play_on(10_000, &answer);
    assert_eq!(from_snapshot.play_on(10_000, &answer), first);
    assert_eq!(from_snapshot.events(), from_history.events(), "after event {cut}");
}

#[test]
fn snapshots_of_busy_runs_equal_their_histories() {
    for actions in [BUSY, HOLDING] {
        let workflow = workflow(actions);
        for pick in [0usize, 1, 5] {
            let (events, cuts) = play(&workflow, |count| pick % count, answer);
            assert!(cuts.len() > 10, "the workflow is busy");
            check(&workflow, &events, &cuts);
            for cut in &cuts {
                check_future(&workflow, &events, *cut, answer);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_of_random_graphs_equal_their_histories(graph in graph(), order in any::<u64>()) {
        let workflow = definition(&graph);
        let mut state = order;
        let (events, cuts) = play(&workflow, |count| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        }, |call| answer_of(&graph, call));
        check(&workflow, &events, &cuts);
        for cut in &cuts {
            check_future(&workflow, &events, *cut, |call| answer_of(&graph, call));
        }
    }

    #[test]
    fn invalid_snapshots_are_rejected_without_a_panic(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let workflow = workflow(HOLDING);
        let mut live = Simulation::new(Arc::clone(&workflow), Arc::new(Environment::default()), now());
        live.command(Command::Start(start(11)));
        while let Some(Choice::Call(call)) = live.choices().first().copied() {
            live.choose(Choice::Call(call), answer);
        }
        let mut snapshot = journal::encode_snapshot(live.run().state());
        let at = at.index(snapshot.len());
        prop_assert!(journal::decode_snapshot(&workflow, &snapshot[..at]).is_err());
        snapshot[at] ^= flip;
        // A changed byte may yield another valid state; the store's checksum detects this.
        journal::decode_snapshot(&workflow, &snapshot).ok();
    }
}

const ROUNDS: usize = 100;

/// Calls a service often enough that snapshots are due.
fn long() -> Arc<Workflow> {
    workflow(&format!(
        r#"{{"Poll": {{"type": "Until", "expression": "@equals(iterationIndexes('Poll'), {})", "runAfter": {{}},
            "limit": {{"count": 5000}}, "actions": {{
                "Ask": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s/snowflake"}}, "runAfter": {{}}}}}}}}}}"#,
        ROUNDS - 1
    ))
}

/// Runs [`long`] until the second to last call hangs, and stops. Returns the run as it is in the store.
async fn interrupted(store: &Arc<dyn Store>) -> LoadedRun {
    let service = Service::new(|_, number| {
        let hangs = number as usize == ROUNDS - 1;
        (if hangs { Duration::from_hours(24) } else { Duration::ZERO }, ok(r#"{"statusCode": 200}"#))
    });
    let engine = engine(&service).store(Arc::clone(store)).build();
    let request = RunRequest::manual(long(), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    assert!(runs[0].accepted().await);
    while service.count() < ROUNDS - 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.shut_down().await;
    store.load(runs[0].id).await.expect("the store can be read").expect("the run is there")
}

/// Resumes the run, which makes the last two calls and ends with a complete history.
async fn goes_on(store: &Arc<dyn Store>) {
    let service = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200}"#)));
    let engine = engine(&service).store(Arc::clone(store)).build();
    let mut recovered = engine.recover(None).await.expect("the store can be read");
    assert_eq!((recovered.runs.len(), recovered.unreadable.len()), (1, 0));
    let report = recovered.runs[0].ended().await.expect("it ends");
    assert_eq!((report.status, service.count()), (RunStatus::Succeeded, 2));
    let (_, history) = engine.history(report.id).await.expect("it can be read").expect("it exists");
    let asked = history.workflow().find_action("Ask").unwrap();
    assert_eq!(history.occurrences(asked).len(), ROUNDS, "the history begins with the first event");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_continues_from_its_last_snapshot() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let loaded = interrupted(&store).await;
    let snapshot = loaded.snapshot.expect("a snapshot was due");
    assert!(loaded.frames.len() < 64 && snapshot.upto.0 >= 64, "{} later frames", loaded.frames.len());
    goes_on(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_continues_from_its_frames_if_its_snapshot_is_damaged() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let loaded = interrupted(&store).await;
    let mut commit = Commit::to_run(loaded.row.id, loaded.next, Vec::new());
    let from_the_future =
        Snapshot { state: vec![99, 1, 2].into(), ..loaded.snapshot.expect("a snapshot was due") };
    commit.snapshot = Some(from_the_future);
    store.commit(commit).await.expect("it is written");
    goes_on(&store).await;
}

/// A byte of the snapshot changes on the disk: the store detects it, and the frames are read instead. Damage anywhere else makes
/// the run unreadable instead of wrong. In both cases nothing more is written.
#[tokio::test(start_paused = true)]
async fn damage_on_the_disk_is_detected() {
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("snapshots-{}", std::process::id()));
    std::fs::remove_dir_all(&directory).ok();
    let store = SqliteStore::open(&directory, SqliteOptions::default()).expect("the store opens");
    let store: Arc<dyn Store> = Arc::new(store);
    assert!(interrupted(&store).await.snapshot.is_some());
    store.close().await.expect("it closes");
    drop(store);
    let whole = std::fs::read(directory.join("loom.db")).expect("the database is there");
    let marker = b"snowflake";
    let places = (0..whole.len() - marker.len()).filter(|at| whole[*at..].starts_with(marker));
    let places: Vec<usize> = places.collect();
    let (mut went_on, mut refused, mut noticed) = (0, 0, 0);
    // The text occurs in many frames; the first, the last and some in between are enough.
    for place in places.iter().step_by(places.len().div_ceil(12)).chain(places.last()) {
        let mut damaged = whole.clone();
        damaged[*place] ^= 0x20;
        std::fs::write(directory.join("loom.db"), damaged).expect("it is written");
        let store = SqliteStore::open(&directory, SqliteOptions::default()).expect("the store opens");
        let store: Arc<dyn Store> = Arc::new(store);
        let service = Service::new(|_, _| (Duration::from_hours(1), ok("{}")));
        let engine = engine(&service).store(Arc::clone(&store)).build();
        let recovered = engine.recover(None).await.expect("the list of runs can be read");
        assert_eq!(recovered.runs.len() + recovered.unreadable.len(), 1);
        went_on += recovered.runs.len();
        refused += recovered.unreadable.len();
        let condition = store.health().condition;
        let paused = matches!(condition, Condition::Paused(Error::Damaged { .. }));
        // A run that is loaded from its snapshot does not read the earlier frames, so damage there is detected later.
        assert!(paused || recovered.unreadable.is_empty(), "{condition:?}");
        noticed += usize::from(paused);
        engine.shut_down().await;
        drop(engine);
        store.close().await.expect("it closes");
    }
    assert!(went_on > 0, "the snapshot was damaged, and its frames were read");
    assert!(refused > 0, "a frame or the definition was damaged, and the run was refused");
    assert!(noticed >= refused, "damage that is read stops the store");
    std::fs::remove_dir_all(&directory).ok();
}
