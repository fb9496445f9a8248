//! Firings that start very many runs: all are durable before they are reported, and they continue as capacity allows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Accepted, Budgets, Engine, Environment, Event, FiringCommit, RunId, RunRequest, RunState, Watcher,
    event::Command,
};
use loom_expression::Value;
use loom_store::{MemoryStore, Shards, Store};

use crate::support::{Service, engine, load, ok};

const ITEMS: usize = 600;

/// The maximum number of runs in progress.
const ROOM: usize = 20;

/// Each run waits for an hour.
fn split() -> Arc<Workflow> {
    load(
        r#"{"triggers": {"manual": {"type": "Request", "splitOn": "@triggerBody()"}}, "actions": {
            "Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}},
            "Call": {"type": "Workflow", "runAfter": {"Rest": ["Failed"]}, "inputs": {"host": {"workflow": {"id": "none"}}}}}}"#,
    )
}

fn request(workflow: &Arc<Workflow>) -> RunRequest {
    let items: Value = (0..ITEMS as i64).map(Value::from).collect();
    RunRequest::manual(Arc::clone(workflow), Vec::new(), Some(items))
}

/// Counts starts and ends, and the maximum number of runs in progress at the end of one.
#[derive(Default)]
struct Tally {
    started: AtomicUsize,
    ended: AtomicUsize,
}

impl Watcher for Tally {
    fn events(&self, _: &RunState, events: &[Event]) {
        for event in events {
            match event {
                Event::RunStarted { .. } => self.started.fetch_add(1, Ordering::Relaxed),
                Event::RunEnded { .. } => self.ended.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    }
}

fn build(store: &Arc<dyn Store>, tally: &Arc<Tally>) -> Engine {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let budgets = Budgets { runs_max: ROOM, ..Budgets::default() };
    engine(&service)
        .environment(Environment { budgets, ..Environment::default() })
        .store(Arc::clone(store))
        .watcher(Arc::clone(tally) as Arc<dyn Watcher>)
        .build()
}

async fn unfinished(store: &Arc<dyn Store>) -> Vec<RunId> {
    store.unfinished(Shards::ALL, None, 2 * ITEMS).await.unwrap().iter().map(|row| row.id).collect()
}

async fn accept(engine: &Engine, workflow: &Arc<Workflow>, name: Option<&str>) -> Accepted {
    let along = FiringCommit { name: name.map(Arc::from), ..FiringCommit::default() };
    engine.start_with(request(workflow), along).await.unwrap().0
}

/// Lets time pass until all runs have ended; returns the maximum number in progress.
async fn play_on(engine: &Engine, store: &Arc<dyn Store>) -> usize {
    let mut most = 0;
    while !unfinished(store).await.is_empty() {
        most = most.max(engine.runs_in_progress());
        tokio::time::sleep(Duration::from_mins(7)).await;
    }
    most
}

#[tokio::test(start_paused = true)]
async fn very_many_runs_are_durable_immediately_and_take_turns() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (tally, workflow) = (Arc::<Tally>::default(), split());
    let engine = build(&store, &tally);
    let Accepted::Queued { runs, first } = accept(&engine, &workflow, None).await else {
        panic!("the runs were not queued")
    };
    assert_eq!(unfinished(&store).await, runs, "all are in the store, in the order of their items");
    assert_eq!((runs.len(), first.map(|start| start.run)), (ITEMS, Some(runs[0])));
    assert_eq!(tally.started.load(Ordering::Relaxed), ITEMS);
    assert_eq!(play_on(&engine, &store).await, ROOM);
    assert_eq!(tally.started.load(Ordering::Relaxed), ITEMS, "each started once");
    assert_eq!(tally.ended.load(Ordering::Relaxed), ITEMS);
    for (index, run) in runs.iter().enumerate() {
        let (_, state) = engine.state_of(*run).await.unwrap().expect("the run is in the store");
        assert_eq!(state.status(), RunStatus::Succeeded);
        let start = engine.start_of(*run).await.unwrap().expect("the run is in the store");
        let body = start.trigger.get("outputs").and_then(|outputs| outputs.get("body").cloned());
        assert_eq!(body, Some(Value::from(index as i64)));
    }
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_accepts_commands() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = build(&store, &Arc::default());
    let Accepted::Queued { runs, .. } = accept(&engine, &split(), None).await else {
        panic!("the runs were not queued")
    };
    let last = runs[ITEMS - 1];
    assert!(engine.command(last, Command::Cancel).await);
    let (_, state) = engine.state_of(last).await.unwrap().expect("the run is in the store");
    assert_eq!(state.status(), RunStatus::Cancelled);
    assert_eq!(unfinished(&store).await, runs[..ITEMS - 1]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn queued_runs_continue_after_a_restart_and_start_once_under_one_name() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (tally, workflow) = (Arc::<Tally>::default(), split());
    let first = build(&store, &tally);
    let Accepted::Queued { runs, .. } = accept(&first, &workflow, Some("batch")).await else {
        panic!("the runs were not queued")
    };
    let Accepted::Runs(again) = accept(&first, &workflow, Some("batch")).await else {
        panic!("unexpected result")
    };
    assert!(again.is_empty());
    tokio::time::sleep(Duration::from_mins(150)).await;
    first.shut_down().await;
    let left = unfinished(&store).await;
    assert_eq!(left, runs[2 * ROOM..], "two turns have passed");
    let second = build(&store, &tally);
    let recovered = second.recover(None).await.unwrap();
    assert!(recovered.unreadable.is_empty());
    assert_eq!((recovered.runs.len(), recovered.waiting), (ROOM, left.len() - ROOM));
    assert_eq!(play_on(&second, &store).await, ROOM);
    assert_eq!(tally.ended.load(Ordering::Relaxed), ITEMS);
    second.shut_down().await;
}
