//! Signals: kept until they are received, received once and in order, despite crashes and disk failures.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, Status};
use loom_engine::{
    Command, Engine, RunHandle, RunId, RunReport, RunRequest, SIGNALS_MAX, Signal, SignalError, Started,
    clock::TokioClock, history::History, ports::Clock,
};
use loom_expression::Value;
use loom_store::{
    Condition, MemoryStore, Store,
    contract::{FaultRate, FaultyStore, Seeded},
    prelude::*,
};

use crate::support::{Service, engine, json, now, ok, workflow};

fn open(store: Arc<dyn Store>) -> Engine {
    engine(&Service::new(|_, _| (Duration::ZERO, ok("{}")))).store(store).build()
}

async fn begin(engine: &Engine, actions: &str) -> RunHandle {
    let request = RunRequest::manual(workflow(actions), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut run = runs.remove(0);
    assert!(run.accepted().await);
    run
}

fn named(name: &str, body: &str) -> Signal {
    Signal { name: name.into(), body: Some(json(body)), idempotency_key: None }
}

async fn history(engine: &Engine, run: RunId) -> History {
    engine.history(run).await.unwrap().expect("it exists").1
}

/// The signals that the occurrences of an action received, in the order in which they began to wait.
fn received(history: &History, action: &str) -> Vec<Value> {
    let action = history.workflow().find_action(action).unwrap();
    let bodies = history.occurrences(action).iter().map(|one| one.outputs.as_ref()?.get("body").cloned());
    bodies.map(Option::unwrap_or_default).collect()
}

async fn ended(run: &mut RunHandle) -> Arc<RunReport> {
    tokio::time::timeout(Duration::from_hours(1), run.ended())
        .await
        .expect("it ends")
        .expect("the run is in the store")
}

const TWO: &str = r#"{
    "First": {"type": "WaitForSignal", "inputs": {"name": "Go"}, "runAfter": {}},
    "Other": {"type": "WaitForSignal", "inputs": {"name": "@concat('st', 'op')"}, "runAfter": {"First": ["Succeeded"]}},
    "Second": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"Other": ["Succeeded"]}}}"#;

#[tokio::test(start_paused = true)]
async fn a_signal_is_kept_until_an_action_waits_for_it() {
    let engine = open(Arc::new(MemoryStore::default()));
    let mut run = begin(&engine, TWO).await;
    for signal in [named("go", "1"), named("GO", "2"), named("stop", "[3]")] {
        engine.signal(run.id, signal).await.unwrap();
    }
    assert_eq!(ended(&mut run).await.status, RunStatus::Succeeded);
    let history = history(&engine, run.id).await;
    assert_eq!(received(&history, "First"), [json("1")]);
    assert_eq!(received(&history, "Other"), [json("[3]")]);
    assert_eq!(received(&history, "Second"), [json("2")]);
    let first =
        history.occurrences(history.workflow().find_action("First").unwrap())[0].outputs.clone().unwrap();
    // As it was sent.
    assert_eq!(first.get("name"), Some(&Value::from("go")));
    assert_eq!(first.get("sentTime").and_then(Value::as_str), Some("2023-11-14T22:13:20.0000000Z"));
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_waits_receive_signals_in_the_order_in_which_they_began() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(Arc::clone(&store));
    let each = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 5)", "runAfter": {}, "actions": {
        "Wait": {"type": "WaitForSignal", "inputs": {"name": "n"}, "runAfter": {}}}}}"#;
    let mut run = begin(&engine, each).await;
    for number in 0..5 {
        engine.signal(run.id, named("n", &number.to_string())).await.unwrap();
    }
    assert_eq!(ended(&mut run).await.status, RunStatus::Succeeded);
    let numbers: Vec<Value> = (0..5i64).map(Value::from).collect();
    assert_eq!(received(&history(&engine, run.id).await, "Wait"), numbers);
    assert_eq!(store.pending(run.id).await.unwrap(), 0);
    engine.shut_down().await;
}

/// Waits for a week, across a restart of the process.
#[tokio::test(start_paused = true)]
async fn a_run_waits_across_restarts_and_receives_signals_sent_meanwhile() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(Arc::clone(&store));
    let run = begin(&engine, TWO).await.id;
    engine.signal(run, named("go", r#""early""#)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.shut_down().await;
    tokio::time::sleep(Duration::from_hours(24 * 7)).await;

    // The run does not continue here: the signal is only stored for it.
    let visitor = open(Arc::clone(&store));
    visitor.signal(run, named("stop", "null")).await.unwrap();
    visitor.shut_down().await;

    let engine = open(Arc::clone(&store));
    let mut handle = engine.recover(None).await.unwrap().runs.remove(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.signal(run, named("go", r#""late""#)).await.unwrap();
    assert_eq!(ended(&mut handle).await.status, RunStatus::Succeeded);
    let history = history(&engine, run).await;
    assert_eq!(
        [received(&history, "First"), received(&history, "Second")],
        [[json(r#""early""#)], [json(r#""late""#)]]
    );
    assert_eq!(store.pending(run).await.unwrap(), 0);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_times_out_and_a_later_signal_is_for_the_next_wait() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    // One clock for both processes.
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now()));
    let open = |store| {
        let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        engine(&service).clock(Arc::clone(&clock)).store(store).build()
    };
    let engine = open(Arc::clone(&store));
    let actions = r#"{
        "Short": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT1M"}, "runAfter": {}},
        "Long": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"Short": ["TimedOut"]}}}"#;
    let short = begin(&engine, actions).await.id;
    tokio::time::sleep(Duration::from_secs(30)).await;
    // The timeout belongs to the action, not to the process.
    engine.shut_down().await;
    let engine = open(Arc::clone(&store));
    let began = tokio::time::Instant::now();
    let mut run = engine.recover(None).await.unwrap().runs.remove(0);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let history = history(&engine, short).await;
        if history.status_of(history.workflow().find_action("Short").unwrap()) == Some(Status::TimedOut) {
            break;
        }
    }
    assert!((30..=31).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    engine.signal(run.id, named("go", "7")).await.unwrap();
    assert_eq!(ended(&mut run).await.status, RunStatus::Succeeded);
    assert_eq!(received(&history(&engine, run.id).await, "Long"), [json("7")]);
    engine.shut_down().await;
}

/// A wait that ends at the same time as its signal arrives receives it or leaves it for the next wait; it is never lost.
#[tokio::test(start_paused = true)]
async fn a_signal_at_the_end_of_a_wait_is_not_lost() {
    for early in 0..6 {
        let engine = open(Arc::new(MemoryStore::default()));
        let actions = r#"{
            "Short": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT1M"}, "runAfter": {}},
            "Long": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT30M"}, "runAfter": {"Short": ["TimedOut", "Succeeded"]}}}"#;
        let mut run = begin(&engine, actions).await;
        tokio::time::sleep(Duration::from_millis(59_997 + early)).await;
        engine.signal(run.id, named("go", "1")).await.unwrap();
        let status = ended(&mut run).await.status;
        let history = history(&engine, run.id).await;
        let got = [received(&history, "Short"), received(&history, "Long")].concat();
        assert_eq!(
            got.iter().filter(|body| **body == json("1")).count(),
            1,
            "{early} ms, {status:?}: {got:?}"
        );
        engine.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_with_a_key_is_sent_once_and_a_suspended_run_keeps_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(Arc::clone(&store));
    let mut run = begin(&engine, TWO).await;
    assert!(engine.command(run.id, Command::Suspend).await);
    let keyed = |key: &str, body: &str| Signal { idempotency_key: Some(key.into()), ..named("go", body) };
    let first = engine.signal(run.id, keyed("a", "1")).await.unwrap();
    assert_eq!(engine.signal(run.id, keyed("a", "1")).await.unwrap(), first);
    assert!(engine.command(run.id, Command::Resume).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The signal was received, but its key is still known.
    assert_eq!(store.pending(run.id).await.unwrap(), 0);
    assert_eq!(engine.signal(run.id, keyed("a", "1")).await.unwrap(), first);
    let second = engine.signal(run.id, keyed("b", "2")).await.unwrap();
    assert!(second > first);
    engine.signal(run.id, named("stop", "null")).await.unwrap();
    ended(&mut run).await;
    assert_eq!(engine.signal(run.id, keyed("b", "2")).await.unwrap(), second);
    assert!(matches!(engine.signal(run.id, keyed("c", "2")).await, Err(SignalError::Ended { .. })));
    let history = history(&engine, run.id).await;
    assert_eq!([received(&history, "First"), received(&history, "Second")], [[json("1")], [json("2")]]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_no_action_can_receive_is_rejected() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(Arc::clone(&store));
    let fixed = r#"{"Wait": {"type": "WaitForSignal", "inputs": {"name": "approved"}, "runAfter": {}}}"#;
    let mut run = begin(&engine, fixed).await;
    let long = "x".repeat(129);
    for name in ["", &long, "a\nb"] {
        assert!(matches!(engine.signal(run.id, named(name, "1")).await, Err(SignalError::BadName)), "{name}");
    }
    let refused = engine.signal(run.id, named("aproved", "1")).await.unwrap_err();
    assert!(matches!(refused, SignalError::NotAwaited { .. }));
    assert!(refused.to_string().contains("it waits for 'approved'"), "{refused}");
    let unknown = engine.signal(RunId::MIN, named("approved", "1")).await;
    assert!(matches!(unknown, Err(SignalError::Unknown { .. })));
    engine.signal(run.id, named("Approved", "1")).await.unwrap();
    ended(&mut run).await;
    let late = engine.signal(run.id, named("approved", "1")).await;
    assert!(matches!(late, Err(SignalError::Ended { .. })));

    // A computed name may be any name; the number of waiting signals is limited.
    let run = begin(&engine, TWO).await;
    for _ in 0..SIGNALS_MAX {
        engine.signal(run.id, named("someday", "1")).await.unwrap();
    }
    let full = engine.signal(run.id, named("someday", "1")).await;
    assert!(matches!(full, Err(SignalError::Full { .. })));
    engine.shut_down().await;

    // Without a store, signals are not available.
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let alone = crate::support::engine(&service).build();
    let report = alone.run(RunRequest::manual(workflow(fixed), Vec::new(), None)).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    alone.shut_down().await;
}

/// Collects what it receives.
const COLLECT: &str = r#"{
    "V": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "got", "type": "array", "value": []}]}, "runAfter": {}},
    "Each": {"type": "Foreach", "foreach": "@range(0, 6)", "operationOptions": "Sequential", "runAfter": {"V": ["Succeeded"]}, "actions": {
        "Wait": {"type": "WaitForSignal", "inputs": {"name": "n"}, "runAfter": {}},
        "Keep": {"type": "AppendToArrayVariable", "inputs": {"name": "got", "value": "@body('Wait')"}, "runAfter": {"Wait": ["Succeeded"]}}}},
    "All": {"type": "Compose", "inputs": "@variables('got')", "runAfter": {"Each": ["Succeeded"]}}}"#;

/// Six signals, each sent until it is accepted and sometimes again, to a run whose process crashes and whose disk fails: it
/// receives each of them once, in order.
#[tokio::test(start_paused = true)]
async fn despite_crashes_and_disk_failures_each_signal_is_received_once() {
    let (mut crashes, mut refusals) = (0, 0);
    for seed in 0..60 {
        let mut random = Seeded::new(seed);
        let mut disk = MemoryStore::default();
        let (mut run, mut sent) = (None, 0);
        for life in 0.. {
            let last = life >= 6;
            let rate = FaultRate {
                turns: (!last).then_some(9),
                reads: (!last).then_some(9),
                ..FaultRate::default()
            };
            let store = FaultyStore::new(disk.clone(), seed ^ (life << 32), rate);
            let engine = open(Arc::new(store.clone()));
            let crash = Duration::from_millis(random.below(400));
            tokio::select! {
                biased;
                () = async {
                    loop {
                        store.work().await;
                        tokio::time::sleep(Duration::from_millis(3)).await;
                        store.turn();
                    }
                } => {}
                () = tokio::time::sleep(crash), if !last => crashes += 1,
                () = live(&engine, &store, &mut run, &mut sent, &mut refusals) => {}
            }
            disk = store.crash();
            engine.shut_down().await;
            if last {
                break;
            }
        }
        let engine = open(Arc::new(disk.clone()));
        let history = history(&engine, run.expect("it was accepted")).await;
        assert_eq!(history.status, RunStatus::Succeeded, "seed {seed}");
        let all = history.workflow().find_action("All").unwrap();
        let numbers: Vec<Value> = (0..6i64).map(Value::from).collect();
        assert_eq!(history.occurrences(all)[0].outputs, Some(Value::from(numbers)), "seed {seed}");
        engine.shut_down().await;
    }
    assert!(crashes > 100 && refusals > 100, "too little happened: {crashes} crashes, {refusals} refusals");
}

/// One process, until it crashes or the run has ended.
async fn live(
    engine: &Engine,
    store: &FaultyStore,
    run: &mut Option<RunId>,
    sent: &mut usize,
    refusals: &mut usize,
) {
    let mend = async || {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if matches!(store.health().condition, Condition::Paused(_)) {
            store.resume().await.unwrap();
        }
        // Reads that fail now are repeated.
        engine.release_held(None).await.ok();
    };
    while engine.recover(None).await.map_or(true, |found| !found.unreadable.is_empty()) {
        mend().await;
    }
    while run.is_none() {
        let request = RunRequest::manual(workflow(COLLECT), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        if runs[0].accepted().await {
            *run = Some(runs[0].id);
        } else {
            mend().await;
        }
    }
    let id = run.expect("it was accepted");
    while *sent < 6 {
        let key = Some(format!("key {sent}").into());
        let signal = Signal { idempotency_key: key, ..named("n", &sent.to_string()) };
        let (first, again) = (engine.signal(id, signal.clone()).await, engine.signal(id, signal).await);
        // A signal that was accepted is known, even if its confirmation was lost.
        if let (Ok(first), Ok(again)) = (first, again) {
            assert_eq!(first, again);
            *sent += 1;
        } else {
            *refusals += 1;
            mend().await;
        }
    }
    while !store.run(id).await.is_ok_and(|row| row.is_some_and(|row| row.ended.is_some())) {
        mend().await;
    }
}
