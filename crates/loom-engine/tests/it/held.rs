//! Runs that are held because the store could not write them: none is forgotten, however the release meets the hold.

use std::{sync::Arc, time::Duration};

use loom_definition::RunStatus;
use loom_engine::{RunRequest, Started};
use loom_store::{
    Condition, MemoryStore, RunQuery, Store,
    contract::{FaultRate, FaultyStore},
};

use crate::support::{Service, engine, ok, workflow};

/// Each round makes a call, and each call is written before it is made.
const CALLS: &str = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 12)", "operationOptions": "Sequential", "runAfter": {},
    "actions": {"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}}}"#;

/// The store is resumed, and what is held is released, before the run has even heard that its write failed: its turn is
/// over before it was held.
#[tokio::test(start_paused = true)]
async fn a_release_that_comes_before_the_hold_is_not_lost() {
    let (mut pauses, mut ended) = (0, 0);
    for seed in 0..40 {
        let store = FaultyStore::new(MemoryStore::default(), seed, FaultRate { turns: Some(4), reads: None });
        let service = Service::new(|_, _| (Duration::from_millis(5), ok("{}")));
        let engine = engine(&service).store(Arc::new(store.clone())).build();
        let request = RunRequest::manual(workflow(CALLS), Vec::new(), None);
        let Ok(Started::Runs(_)) = engine.start(request, None) else { panic!("it starts") };
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.turn();
            if matches!(store.health().condition, Condition::Paused(_)) {
                pauses += 1;
                store.resume().await.expect("it is not closed");
                // Nothing is awaited that is not there already, so the run's task has not gone on meanwhile.
                assert_eq!(engine.release_held(None).await.expect("reads work"), 0);
            }
        }
        // A start that was never written is no run.
        for row in store.runs(RunQuery::default()).await.expect("reads work").rows {
            assert_eq!(loom_engine::status_of_number(row.status), Some(RunStatus::Succeeded), "seed {seed}");
            ended += 1;
        }
        assert_eq!(engine.runs_in_progress(), 0, "seed {seed}");
        engine.shut_down().await;
    }
    assert!(pauses > 40 && ended > 20, "too little happened: {pauses} pauses, {ended} runs");
}

/// A release that comes later takes them up, and tells how many.
#[tokio::test(start_paused = true)]
async fn what_is_held_waits_for_its_release() {
    let mut released = 0;
    for seed in 0..20 {
        let store = FaultyStore::new(MemoryStore::default(), seed, FaultRate { turns: Some(4), reads: None });
        let service = Service::new(|_, _| (Duration::from_millis(5), ok("{}")));
        let engine = engine(&service).store(Arc::new(store.clone())).build();
        let request = RunRequest::manual(workflow(CALLS), Vec::new(), None);
        let Ok(Started::Runs(_)) = engine.start(request, None) else { panic!("it starts") };
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
        assert!(store.unfinished(None, 1).await.expect("reads work").is_empty(), "seed {seed}");
        engine.shut_down().await;
    }
    assert!(released > 20, "too little happened: {released} releases");
}
