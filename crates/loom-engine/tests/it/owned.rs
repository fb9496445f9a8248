//! What a run owns: its place under the concurrency limit of its trigger, and its places in services. It has them before it
//! does anything, has them again after a restart before anything continues, and loses them when it is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{
    Definition, LoadOptions,
    RunStatus::{self, Cancelled, Running, Succeeded, Suspended, Waiting},
    Workflow,
    model::EffectKind,
};
use loom_engine::{
    Command, Engine, Event, ResubmitError, RunHandle, RunId, RunRequest, RunState, StartError, Started,
    Watcher, clock::TokioClock, ports::Clock, status_from_number,
};
use loom_expression::Value;
use loom_store::{MemoryStore, Store};

use crate::support::{Service, engine, json, now, ok};

const HOUR: Duration = Duration::from_hours(1);

/// A workflow whose trigger has a limit, and whose runs rest for an hour.
fn limited(name: &str, runs: u32, waiting: u32) -> Arc<Workflow> {
    let rest =
        r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}"#;
    parse(name, &format!(r#"{{"runs": {runs}, "maximumWaitingRuns": {waiting}}}"#), rest)
}

fn parse(name: &str, concurrency: &str, actions: &str) -> Arc<Workflow> {
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request", "splitOn": "@triggerBody()",
            "runtimeConfiguration": {{"concurrency": {concurrency}}}}}}}, "actions": {{{actions}}}}}"#
    );
    let options = LoadOptions { name: Some(name.into()), ..LoadOptions::default() };
    Definition::parse(text.as_bytes(), &options).unwrap().workflow
}

fn open(store: &Arc<dyn Store>) -> Engine {
    engine(&Service::new(|_, _| (Duration::ZERO, ok("{}")))).store(Arc::clone(store)).build()
}

fn fire(engine: &Engine, workflow: &Arc<Workflow>, items: usize) -> Result<Vec<RunHandle>, StartError> {
    let items: Value = (0..items as i64).map(Value::from).collect();
    match engine.start(RunRequest::manual(Arc::clone(workflow), Vec::new(), Some(items)), None)? {
        Started::Runs(runs) => Ok(runs),
        Started::NotMet { condition } => panic!("condition {condition} is not met"),
    }
}

async fn accepted(runs: &mut [RunHandle]) -> Vec<RunId> {
    for run in &mut *runs {
        assert!(run.accepted().await);
    }
    runs.iter().map(|run| run.id).collect()
}

/// The statuses of the rows of runs.
async fn statuses(store: &Arc<dyn Store>, runs: &[RunId]) -> Vec<RunStatus> {
    let mut found = Vec::new();
    for run in runs {
        let row = store.run(*run).await.unwrap().unwrap();
        assert!(row.status != 0 || row.started.is_none(), "a run that waits has not started");
        found.push(status_from_number(row.status).unwrap());
    }
    found
}

async fn minutes(count: u64) {
    tokio::time::sleep(Duration::from_mins(count)).await;
}

#[tokio::test(start_paused = true)]
async fn runs_beyond_the_limit_are_accepted_and_start_in_order() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store);
    let workflow = limited("w", 2, 1);
    // The limit on waiting runs is for firings, so a firing of many items is accepted as a whole.
    let mut runs = fire(&engine, &workflow, 5).unwrap();
    let ids = accepted(&mut runs).await;
    assert_eq!(statuses(&store, &ids).await, [Running, Running, Waiting, Waiting, Waiting]);
    assert_eq!(engine.runs_waiting(), 3);
    let refused = fire(&engine, &workflow, 1).unwrap_err();
    assert!(matches!(refused, StartError::Full { runs: 2, waiting: 1, .. }), "{refused}");
    minutes(61).await;
    assert_eq!(statuses(&store, &ids).await, [Succeeded, Succeeded, Running, Running, Waiting]);
    let (_, state) = engine.state_of(ids[2]).await.unwrap().unwrap();
    let waited = state.started_at().unix_millis() - now().unix_millis();
    assert_eq!(waited, 3_600_000, "it started when it was admitted");
    minutes(120).await;
    assert_eq!(statuses(&store, &ids).await, [Succeeded; 5]);
    assert_eq!(engine.runs_waiting(), 0);
    engine.shut_down().await;
}

/// In memory alone, the same rules hold.
#[tokio::test(start_paused = true)]
async fn without_a_store_runs_wait_as_well() {
    let engine = engine(&Service::new(|_, _| (Duration::ZERO, ok("{}")))).build();
    let runs = fire(&engine, &limited("w", 1, 1), 3).unwrap();
    let mut ended = Vec::new();
    for mut run in runs {
        assert_eq!(run.ended().await.unwrap().status, RunStatus::Succeeded);
        ended.push(tokio::time::Instant::now());
    }
    assert_eq!([ended[1] - ended[0], ended[2] - ended[1]], [HOUR, HOUR]);
}

#[tokio::test(start_paused = true)]
async fn a_resubmitted_run_passes_the_gate() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store);
    let workflow = limited("w", 1, 2);
    let mut first = fire(&engine, &workflow, 1).unwrap();
    accepted(&mut first).await;
    first[0].ended().await.unwrap();
    let mut again = Vec::new();
    for _ in 0..2 {
        again.push(engine.resubmit(&workflow, Vec::new(), &first[0].start).unwrap());
    }
    let mut ids = accepted(&mut again).await;
    let from = engine.resubmit_from(&workflow, Vec::new(), first[0].id, "Rest").await.unwrap();
    ids.push(from.id);
    assert_eq!(statuses(&store, &ids).await, [Running, Waiting, Waiting]);
    let refused = engine.resubmit(&workflow, Vec::new(), &first[0].start).unwrap_err();
    assert!(matches!(refused, StartError::Full { .. }), "{refused}");
    let refused = engine.resubmit_from(&workflow, Vec::new(), first[0].id, "Rest").await.unwrap_err();
    assert!(matches!(refused, ResubmitError::Full(_)), "{refused}");
    minutes(61).await;
    assert_eq!(statuses(&store, &ids).await, [Succeeded, Running, Waiting]);
    minutes(120).await;
    assert_eq!(statuses(&store, &ids).await, [Succeeded; 3]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_passes_the_gate_of_its_own_trigger() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store);
    let child = parse(
        "child",
        r#"{"runs": 1, "maximumWaitingRuns": 1}"#,
        r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}},
           "Answer": {"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {"Rest": ["Succeeded"]}}"#,
    );
    engine.deploy(Arc::clone(&child), Vec::new());
    let call = |name: &str| {
        format!(
            r#""{name}": {{"type": "Workflow", "runAfter": {{}}, "inputs": {{"body": [1],
                "retryPolicy": {{"type": "none"}}, "host": {{"workflow": {{"id": "child"}}}}}}}}"#
        )
    };
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{}, {}, {}}}}}"#,
        call("A"),
        call("B"),
        call("C")
    );
    let options = LoadOptions { name: Some("parent".into()), ..LoadOptions::default() };
    let parent = Definition::parse(text.as_bytes(), &options).unwrap().workflow;
    let request = RunRequest::manual(Arc::clone(&parent), Vec::new(), None);
    let report = engine.run(request).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    let (_, history) = engine.history(report.id).await.unwrap().unwrap();
    let mut codes: Vec<String> = ["A", "B", "C"]
        .map(|name| history.occurrences(parent.find_action(name).unwrap())[0].code.clone().into_owned())
        .into();
    codes.sort();
    // One runs, one waits its turn, and the third is answered as a request would be.
    assert_eq!(codes, ["OK", "OK", "TooManyRequests"]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_admits_those_who_wait_first() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store);
    engine.deploy(limited("w", 1, 9), Vec::new());
    let mut runs = fire(&engine, &limited("w", 1, 9), 4).unwrap();
    accepted(&mut runs).await;
    let raised = limited("w", 3, 9);
    engine.deploy(Arc::clone(&raised), Vec::new());
    let mut newcomer = fire(&engine, &raised, 1).unwrap();
    accepted(&mut newcomer).await;
    minutes(1).await;
    let ids: Vec<RunId> = runs.iter().chain(&newcomer).map(|run| run.id).collect();
    assert_eq!(statuses(&store, &ids).await, [Running, Running, Running, Waiting, Waiting]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_accepts_commands() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store);
    let mut runs = fire(&engine, &limited("w", 1, 9), 4).unwrap();
    let ids = accepted(&mut runs).await;
    assert!(engine.command(ids[1], Command::Cancel).await);
    assert!(engine.command(ids[2], Command::Suspend).await);
    assert_eq!(statuses(&store, &ids).await, [Running, Cancelled, Suspended, Waiting]);
    assert!(engine.command(ids[2], Command::Resume).await);
    assert_eq!(statuses(&store, &ids).await, [Running, Cancelled, Waiting, Waiting]);
    assert!(engine.command(ids[2], Command::Suspend).await);
    minutes(90).await;
    // It has been admitted, but does nothing.
    assert_eq!(statuses(&store, &ids).await, [Succeeded, Cancelled, Suspended, Waiting]);
    assert!(engine.command(ids[2], Command::Resume).await);
    minutes(61).await;
    assert_eq!(statuses(&store, &ids).await, [Succeeded, Cancelled, Succeeded, Running]);
    engine.shut_down().await;
}

/// The largest number of runs in progress at any time.
#[derive(Default)]
struct Most(Mutex<(HashMap<RunId, bool>, usize)>);

impl Watcher for Most {
    fn events(&self, state: &RunState, _: &[Event]) {
        self.note(state);
    }

    fn resumes(&self, state: &RunState) {
        self.note(state);
    }
}

impl Most {
    fn note(&self, state: &RunState) {
        let Some(start) = state.start() else { return };
        let mut seen = self.0.lock().unwrap();
        seen.0.insert(start.run, state.status() == RunStatus::Running);
        seen.1 = seen.1.max(seen.0.values().filter(|running| **running).count());
    }
}

/// The next process finds runs that waited for an hour and are over at once, runs that wait, and newcomers.
#[tokio::test(start_paused = true)]
async fn after_a_restart_the_limit_holds_and_no_place_is_lost() {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now()));
    for gone in [Duration::from_mins(1), 2 * HOUR] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let workflow = limited("w", 2, 9);
        let start = |watcher: &Arc<Most>| {
            let engine = engine(&Service::new(|_, _| (Duration::ZERO, ok("{}"))))
                .clock(Arc::clone(&clock))
                .watcher(Arc::clone(watcher) as Arc<dyn Watcher>)
                .store(Arc::clone(&store))
                .build();
            engine.deploy(Arc::clone(&workflow), Vec::new());
            engine
        };
        let first = start(&Arc::default());
        let mut ids = accepted(&mut fire(&first, &workflow, 6).unwrap()).await;
        first.shut_down().await;
        tokio::time::sleep(gone).await;
        let most = Arc::<Most>::default();
        let second = start(&most);
        assert_eq!(second.recover(None).await.unwrap().runs.len(), 6);
        ids.extend(accepted(&mut fire(&second, &workflow, 2).unwrap()).await);
        minutes(5 * 60).await;
        assert_eq!(statuses(&store, &ids).await, [RunStatus::Succeeded; 8]);
        assert_eq!(most.0.lock().unwrap().1, 2);
        // The trigger accepts and starts runs as on the first day.
        let mut last = fire(&second, &workflow, 1).unwrap();
        accepted(&mut last).await;
        assert_eq!(statuses(&store, &[last[0].id]).await, [RunStatus::Running]);
        second.shut_down().await;
    }
}

/// A scope under a bulkhead of one; its end, and who is inside, survive the process.
#[tokio::test(start_paused = true)]
async fn a_scope_that_executes_has_its_place_again_after_a_restart() {
    const SCOPE: &str = r#""Guarded": {"type": "Scope", "runAfter": {},
        "bulkhead": {"maxConcurrent": 1, "maxQueued": 9, "name": "door"},
        "circuitBreaker": {"name": "door", "failureThreshold": 2},
        "actions": {"Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}},
            "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {"Rest": ["Succeeded"]}}}}"#;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now()));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let workflow = parse("w", r#"{"runs": 9, "maximumWaitingRuns": 9}"#, SCOPE);
    let service = Service::new(|_, _| {
        let outcome = loom_engine::Outcome::failed("500", loom_engine::event::ErrorInfo::new("Bad", "no"));
        (
            Duration::ZERO,
            loom_engine::event::EffectResult::Done {
                outcome,
                hint: loom_engine::event::RetryHint::default(),
            },
        )
    });
    let start = || {
        engine(&service)
            .handler(EffectKind::Http, Arc::clone(&service) as _)
            .clock(Arc::clone(&clock))
            .store(Arc::clone(&store))
            .build()
    };
    let inside = |engine: &Engine| {
        let door = engine.registry().get("door").expect("the service is known");
        (door.bulkhead().in_flight(), door.breaker().consecutive_failures())
    };
    let first = start();
    accepted(&mut fire(&first, &workflow, 3).unwrap()).await;
    minutes(1).await;
    assert_eq!(inside(&first), (1, 0));
    first.shut_down().await;
    let second = start();
    let mut runs = second.recover(None).await.unwrap().runs;
    minutes(1).await;
    assert_eq!(inside(&second), (1, 0), "the first run is still inside, and alone");
    assert_eq!(service.count(), 0);
    runs[0].ended().await.unwrap();
    assert_eq!((service.count(), inside(&second).1), (1, 1), "its failure counts");
    minutes(1).await;
    assert_eq!(inside(&second).0, 1, "the next one has entered");
    let body = runs[0].start.trigger.get("outputs").and_then(|outputs| outputs.get("body").cloned());
    assert_eq!(body, Some(json("0")));
    second.shut_down().await;
}
