//! Runs that are held because the store could not write them: none is lost, however releases and holds interleave.

use std::{sync::Arc, time::Duration};

use loom_definition::{Definition, LoadOptions, RunStatus};
use loom_engine::{RunRequest, Started};
use loom_store::{
    Condition, MemoryStore, RunQuery, Shards,
    contract::{FaultRate, FaultyStore},
    prelude::*,
};

use crate::support::{Service, engine, ok, workflow};

/// Each iteration makes a call, and each call is written before it is made.
const CALLS: &str = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 12)", "operationOptions": "Sequential", "runAfter": {},
    "actions": {"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}}}"#;

/// The store is resumed, and held runs are released, before the run has been notified that its write failed: the release comes
/// before the hold.
#[tokio::test(start_paused = true)]
async fn a_release_before_the_hold_is_not_lost() {
    let (mut pauses, mut ended) = (0, 0);
    for seed in 0..40 {
        let store = FaultyStore::new(
            MemoryStore::default(),
            seed,
            FaultRate { turns: Some(4), ..FaultRate::default() },
        );
        let service = Service::new(|_, _| (Duration::from_millis(5), ok("{}")));
        let engine = engine(&service).store(Arc::new(store.clone())).build();
        let request = RunRequest::manual(workflow(CALLS), Vec::new(), None);
        let Ok(Started::Runs(_)) = engine.start(request, None) else { panic!("no run started") };
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.turn();
            if matches!(store.health().condition, Condition::Paused(_)) {
                pauses += 1;
                store.resume().await.expect("it is not closed");
                // These calls do not yield, so the run's task has not continued in the meantime.
                assert_eq!(engine.release_held(None).await.expect("reads work"), 0);
            }
        }
        // A start that was never written is not a run.
        for row in store.runs(RunQuery::default()).await.expect("reads work").rows {
            assert_eq!(
                loom_engine::status_from_number(row.status),
                Some(RunStatus::Succeeded),
                "seed {seed}"
            );
            ended += 1;
        }
        assert_eq!(engine.runs_in_progress(), 0, "seed {seed}");
        engine.shut_down().await;
    }
    assert!(pauses > 40 && ended > 20, "too little happened: {pauses} pauses, {ended} runs");
}

/// A later release resumes the held runs and returns their number.
#[tokio::test(start_paused = true)]
async fn held_runs_wait_for_their_release() {
    let mut released = 0;
    for seed in 0..20 {
        let store = FaultyStore::new(
            MemoryStore::default(),
            seed,
            FaultRate { turns: Some(4), ..FaultRate::default() },
        );
        let service = Service::new(|_, _| (Duration::from_millis(5), ok("{}")));
        let engine = engine(&service).store(Arc::new(store.clone())).build();
        let request = RunRequest::manual(workflow(CALLS), Vec::new(), None);
        let Ok(Started::Runs(_)) = engine.start(request, None) else { panic!("no run started") };
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.turn();
            if matches!(store.health().condition, Condition::Paused(_)) {
                tokio::time::sleep(Duration::from_mins(1)).await;
                assert_eq!(
                    engine.runs_in_progress(),
                    0,
                    "a run whose journal cannot be written does nothing"
                );
                store.resume().await.expect("it is not closed");
                released += engine.release_held(None).await.expect("reads work");
            }
        }
        assert!(store.unfinished(Shards::ALL, None, 1).await.expect("reads work").is_empty(), "seed {seed}");
        engine.shut_down().await;
    }
    assert!(released > 20, "too little happened: {released} releases");
}

/// A child that the store does not accept is not a failure of its parent, even if the store works again before the parent has
/// been notified; and it is started once.
#[tokio::test(start_paused = true)]
async fn a_child_that_the_store_rejects_is_started_later() {
    const PARENT: &str = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 6)", "operationOptions": "Sequential", "runAfter": {}, "actions": {
        "Child": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "child"}, "triggerName": "manual"}}, "runAfter": {}}}}}"#;
    const CHILD: &str = r#"{"name": "child", "definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}},
        "Answer": {"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {"Call": ["Succeeded"]}}}}}"#;
    let (mut pauses, mut parents) = (0, 0);
    for seed in 0..40 {
        let store = FaultyStore::new(
            MemoryStore::default(),
            seed,
            FaultRate { turns: Some(6), reads: Some(40), ..FaultRate::default() },
        );
        let service = Service::new(|_, _| (Duration::from_millis(5), ok("{}")));
        let engine = engine(&service).store(Arc::new(store.clone())).build();
        let options = LoadOptions { name: Some("child".into()), ..LoadOptions::default() };
        let child = Definition::parse(CHILD.as_bytes(), &options).expect("it loads").workflow;
        engine.deploy(Arc::clone(&child), Vec::new());
        let request = RunRequest::manual(workflow(PARENT), Vec::new(), None);
        let Ok(Started::Runs(_)) = engine.start(request, None) else { panic!("no run started") };
        for _ in 0..30_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.turn();
            if matches!(store.health().condition, Condition::Paused(_)) {
                pauses += 1;
                store.resume().await.expect("it is not closed");
            }
            // Reads that fail now are repeated.
            if !engine.held().is_empty() {
                engine.release_held(None).await.ok();
            } else if engine.runs_in_progress() == 0 {
                break;
            }
        }
        let rows = loop {
            // Reads fail at random.
            if let Ok(page) = store.runs(RunQuery { limit: 100, ..RunQuery::default() }).await {
                break page.rows;
            }
        };
        for row in &rows {
            let status = loom_engine::status_from_number(row.status);
            assert_eq!(status, Some(RunStatus::Succeeded), "seed {seed}: {}", row.workflow);
        }
        let own = rows.iter().filter(|row| row.parent.is_none()).count();
        assert_eq!(rows.len(), own * 7, "seed {seed}: a child too many, or one too few");
        parents += own;
        engine.shut_down().await;
    }
    assert!(pauses > 100 && parents > 20, "too little happened: {pauses} pauses, {parents} parents");
}
