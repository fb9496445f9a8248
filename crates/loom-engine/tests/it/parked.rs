//! Runs that only wait leave memory, and continue when what they wait for has come, as if they had never left.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{
    Definition, LoadOptions,
    RunStatus::{self, Cancelled, Running, Succeeded, Suspended, Waiting},
    Workflow,
};
use loom_engine::{
    Budgets, Command, Delivered, Engine, Environment, RunId, RunRequest, RunState, Signal, Started, Watcher,
    clock::TokioClock, status_from_number,
};
use loom_expression::Value;
use loom_store::{MemoryStore, RunRow, Store};

use crate::support::{Service, engine, now, ok};

const SECOND: Duration = Duration::from_secs(1);

/// How long runs wait in memory in these tests.
const AFTER: Duration = Duration::from_secs(10);

/// A disk and the process on it.
struct Place {
    store: Arc<dyn Store>,
    engine: Engine,
    seen: Arc<Seen>,
    clock: TokioClock,
}

/// Which runs were reported to have left memory, and which to have returned.
#[derive(Default)]
struct Seen {
    parked: Mutex<Vec<RunId>>,
    resumed: Mutex<Vec<RunId>>,
}

impl Watcher for Seen {
    fn events(&self, _: &RunState, _: &[loom_engine::Event]) {}

    fn parked(&self, run: RunId) {
        self.parked.lock().unwrap().push(run);
    }

    fn resumes(&self, state: &RunState) {
        self.resumed.lock().unwrap().push(state.start().unwrap().run);
    }
}

fn open(store: &Arc<dyn Store>, clock: TokioClock, runs_max: usize) -> Place {
    let service = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200}"#)));
    let seen = Arc::<Seen>::default();
    let environment =
        Environment { budgets: Budgets { runs_max, ..Budgets::default() }, ..Environment::default() };
    let builder = engine(&service)
        .environment(environment)
        .store(Arc::clone(store))
        .clock(Arc::new(clock))
        .park_after(AFTER);
    let engine = builder.watcher(Arc::clone(&seen) as Arc<dyn Watcher>).build();
    Place { store: Arc::clone(store), engine, seen, clock }
}

fn parse(name: &str, trigger: &str, actions: &str) -> Arc<Workflow> {
    let text =
        format!(r#"{{"triggers": {{"manual": {{"type": "Request" {trigger}}}}}, "actions": {{{actions}}}}}"#);
    let options = LoadOptions { name: Some(name.into()), ..LoadOptions::default() };
    Definition::parse(text.as_bytes(), &options).unwrap().workflow
}

fn rests(hours: u32) -> Arc<Workflow> {
    let actions = format!(
        r#""Rest": {{"type": "Wait", "inputs": {{"interval": {{"count": {hours}, "unit": "Hour"}}}}, "runAfter": {{}}}}"#
    );
    parse("rests", "", &actions)
}

fn waits_for(signal: &str, limit: &str) -> Arc<Workflow> {
    let actions = format!(
        r#""Go": {{"type": "WaitForSignal", "inputs": {{"name": "{signal}"}}, "limit": {{"timeout": "{limit}"}}, "runAfter": {{}}}}"#
    );
    parse("waits", "", &actions)
}

impl Place {
    fn new(runs_max: usize) -> Place {
        open(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>), TokioClock::starting_at(now()), runs_max)
    }

    /// The process ends, and the next one begins.
    async fn restart(self, deployed: &[&Arc<Workflow>]) -> Place {
        self.engine.shut_down().await;
        let next = open(&self.store, self.clock, 1_000);
        for workflow in deployed {
            next.engine.deploy(Arc::clone(workflow), Vec::new());
        }
        next.engine.recover(None).await.unwrap();
        next
    }

    async fn start(&self, workflow: &Arc<Workflow>) -> RunId {
        let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = self.engine.start(request, None) else { panic!("no run started") };
        assert!(runs[0].accepted().await);
        runs[0].id
    }

    async fn row(&self, run: RunId) -> RunRow {
        self.store.run(run).await.unwrap().unwrap()
    }

    async fn status(&self, run: RunId) -> RunStatus {
        status_from_number(self.row(run).await.status).unwrap()
    }

    async fn is_parked(&self, run: RunId) -> bool {
        !self.engine.is_in_progress(run) && self.row(run).await.wake_at.is_some()
    }

    async fn signal(&self, run: RunId, name: &str) {
        let signal = Signal { name: name.into(), body: None, idempotency_key: None };
        self.engine.signal(run, signal).await.unwrap();
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_timer_leaves_memory_at_once_and_returns_in_time() {
    let place = Place::new(1_000);
    let run = place.start(&rests(5)).await;
    pass(SECOND).await;
    assert!(place.is_parked(run).await);
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 1));
    assert_eq!(place.status(run).await, Running, "parked is a place, not a status");
    let (_, state) = place.engine.state_of(run).await.unwrap().unwrap();
    assert_eq!((state.status(), state.timers().count()), (Running, 1), "it can be looked at");
    pass(Duration::from_hours(5).saturating_sub(2 * SECOND)).await;
    assert!(place.is_parked(run).await);
    pass(2 * SECOND).await;
    let row = place.row(run).await;
    assert_eq!(status_from_number(row.status), Some(Succeeded));
    assert_eq!(row.ended.unwrap().0 - row.started.unwrap().0, 5 * 3_600_000, "to the millisecond");
    assert_eq!(row.wake_at, None);
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 0));
    assert_eq!((*place.seen.parked.lock().unwrap()).clone(), [run]);
    assert_eq!((*place.seen.resumed.lock().unwrap()).clone(), [run]);
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_is_not_worth_it() {
    let place = Place::new(1_000);
    let short = parse(
        "short",
        "",
        r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 9, "unit": "Second"}}, "runAfter": {}}"#,
    );
    let run = place.start(&short).await;
    pass(8 * SECOND).await;
    assert!(place.engine.is_in_progress(run));
    pass(2 * SECOND).await;
    assert_eq!(place.status(run).await, Succeeded);
    assert!(place.seen.parked.lock().unwrap().is_empty());
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_wakes_a_parked_run_and_its_deadline_does_as_well() {
    let place = Place::new(1_000);
    let workflow = waits_for("go", "PT1H");
    let (run, late) = (place.start(&workflow).await, place.start(&workflow).await);
    pass(9 * SECOND).await;
    assert_eq!(place.engine.runs_in_progress(), 2, "a signal may come at any time");
    pass(2 * SECOND).await;
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 2));
    place.signal(run, "GO").await;
    pass(SECOND).await;
    assert_eq!((place.status(run).await, place.status(late).await), (Succeeded, Running));
    assert_eq!(place.store.pending(run).await.unwrap(), 0);
    pass(Duration::from_hours(1)).await;
    assert_eq!(place.status(late).await, RunStatus::Failed);
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn orders_reach_a_parked_run_at_once() {
    let place = Place::new(1_000);
    let run = place.start(&rests(5)).await;
    pass(SECOND).await;
    for (command, status) in
        [(Command::Suspend, Suspended), (Command::Resume, Running), (Command::Cancel, Cancelled)]
    {
        assert!(place.is_parked(run).await, "{:?} {:?}", place.engine, place.row(run).await);
        assert!(place.engine.command(run, command).await);
        assert_eq!(place.status(run).await, status);
        pass(3 * SECOND).await;
        assert_eq!(place.store.pending(run).await.unwrap(), 0);
    }
    assert!(!place.engine.command(run, Command::Cancel).await, "it has ended");
    assert_eq!(place.engine.runs_parked(), 0);
    place.engine.shut_down().await;
}

/// A suspended run waits for an operator. Its timers fire when it is resumed.
#[tokio::test(start_paused = true)]
async fn a_suspended_run_is_parked_until_it_is_resumed() {
    let place = Place::new(1_000);
    let run = place.start(&rests(1)).await;
    assert!(place.engine.command(run, Command::Suspend).await);
    pass(Duration::from_hours(20)).await;
    assert!(place.is_parked(run).await);
    assert_eq!(place.status(run).await, Suspended);
    let place = place.restart(&[]).await;
    pass(Duration::from_hours(20)).await;
    assert!(place.is_parked(run).await);
    assert!(place.engine.command(run, Command::Resume).await);
    pass(SECOND).await;
    assert_eq!(place.status(run).await, Succeeded);
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_a_durable_message_that_wakes_the_run() {
    let place = Place::new(1_000);
    let workflow = parse(
        "hook",
        "",
        r#""Ask": {"type": "HttpWebhook", "inputs": {"subscribe": {"method": "POST", "uri": "http://s/"}},
            "limit": {"timeout": "PT1H"}, "runAfter": {}}"#,
    );
    let service = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200}"#)));
    let engine = engine(&service)
        .handler(loom_definition::model::EffectKind::HttpWebhook, service)
        .store(Arc::clone(&place.store))
        .clock(Arc::new(place.clock))
        .park_after(AFTER)
        .build();
    let place = Place { engine, ..place };
    let run = place.start(&workflow).await;
    pass(9 * SECOND).await;
    assert!(place.engine.is_in_progress(run), "the callback may come at any time");
    pass(2 * SECOND).await;
    assert!(place.is_parked(run).await);
    let (_, state) = place.engine.state_of(run).await.unwrap().unwrap();
    let effect =
        (0..9).map(loom_engine::EffectId).find(|effect| state.waiting_for_callback(*effect).is_some());
    let (effect, payload) = (effect.unwrap(), Value::from("yes"));
    assert_eq!(place.engine.deliver(run, effect, payload.clone()).await, Delivered::Taken);
    assert_eq!(place.store.pending(run).await.unwrap(), 0, "it was consumed");
    let unknown = place.engine.deliver(run, loom_engine::EffectId(77), payload.clone()).await;
    assert!(matches!(unknown, Delivered::NotAwaited | Delivered::NotInProgress), "{unknown:?}");
    pass(SECOND).await;
    assert_eq!(place.status(run).await, Succeeded);
    assert_eq!(place.engine.deliver(run, effect, payload).await, Delivered::NotInProgress);
    place.engine.shut_down().await;
}

/// While somebody waits for a run in this process, it stays in memory.
#[tokio::test(start_paused = true)]
async fn a_run_that_somebody_waits_for_stays() {
    let place = Place::new(1_000);
    let workflow = rests(5);
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = place.engine.start(request, None) else { panic!("no run started") };
    pass(Duration::from_hours(1)).await;
    assert!(place.engine.is_in_progress(runs[0].id));
    let other = place.start(&workflow).await;
    pass(SECOND).await;
    // A caller that asks for the response of a parked run waits for the run, which stays until the caller has gone.
    let asked = tokio::time::timeout(60 * SECOND, place.engine.response_of(other));
    let during = async {
        pass(30 * SECOND).await;
        place.engine.is_in_progress(other)
    };
    let (asked, during) = tokio::join!(asked, during);
    assert!(asked.is_err() && during);
    pass(60 * SECOND).await;
    assert!(place.is_parked(other).await, "nobody waits any more");
    assert_eq!(runs[0].ended().await.unwrap().status, Succeeded);
    place.engine.shut_down().await;
}

/// The child responds while its parent is parked, in the same process or while none is running.
#[tokio::test(start_paused = true)]
async fn the_response_of_a_child_wakes_its_parent() {
    let child = parse(
        "child",
        "",
        r#""Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}},
           "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "done"}, "runAfter": {"Go": ["Succeeded"]}},
           "Rest": {"type": "Wait", "inputs": {"interval": {"count": 5, "unit": "Hour"}}, "runAfter": {"Answer": ["Succeeded"]}}"#,
    );
    let parent = parse(
        "parent",
        "",
        r#""Child": {"type": "Workflow", "runAfter": {}, "inputs": {"host": {"workflow": {"id": "child"}}}}"#,
    );
    for restarts in [false, true] {
        let mut place = Place::new(1_000);
        place.engine.deploy(Arc::clone(&child), Vec::new());
        let run = place.start(&parent).await;
        pass(60 * SECOND).await;
        assert_eq!(
            (place.engine.runs_in_progress(), place.engine.runs_parked()),
            (0, 2),
            "{:?}",
            place.engine
        );
        let inner = place.store.unfinished(loom_store::Shards::ALL, Some(run), 9).await.unwrap().remove(0).id;
        if restarts {
            place = place.restart(&[&child, &parent]).await;
            assert_eq!(place.engine.runs_in_progress(), 0, "nothing is due");
        }
        place.signal(inner, "go").await;
        pass(SECOND).await;
        assert_eq!((place.status(run).await, place.status(inner).await), (Succeeded, Running));
        assert_eq!(place.store.pending(run).await.unwrap(), 0, "the message was consumed");
        pass(SECOND).await;
        assert!(place.is_parked(inner).await);
        place.engine.shut_down().await;
    }
}

/// The next process has the child, but its definition is no longer deployed, is disabled, or has another trigger.
#[tokio::test(start_paused = true)]
async fn a_child_that_was_started_is_awaited_although_it_could_not_be_started_now() {
    let child = |trigger: &str| {
        let text = format!(
            r#"{{"triggers": {{"{trigger}": {{"type": "Request"}}}}, "actions": {{
                "Go": {{"type": "WaitForSignal", "inputs": {{"name": "go"}}, "runAfter": {{}}}},
                "Answer": {{"type": "Response", "inputs": {{"statusCode": 200}}, "runAfter": {{"Go": ["Succeeded"]}}}}}}}}"#
        );
        let options = LoadOptions { name: Some("Child".into()), ..LoadOptions::default() };
        Definition::parse(text.as_bytes(), &options).unwrap().workflow
    };
    // Spelt in a way that only a deployed definition resolves.
    let parent = parse(
        "parent",
        "",
        r#""Call": {"type": "Workflow", "runAfter": {}, "limit": {"timeout": "PT1H"},
            "inputs": {"host": {"triggerName": "manual", "workflow": {"id": "child"}}}}"#,
    );
    let changes: [fn(&Engine, &Arc<Workflow>); 3] = [
        |_, _| {},
        |engine, child| {
            engine.deploy(Arc::clone(child), Vec::new());
            engine.set_disabled(BTreeSet::from(["child".to_owned()]));
        },
        |engine, child| engine.deploy(Arc::clone(child), Vec::new()),
    ];
    for (change, redeployed) in changes.into_iter().zip(["manual", "manual", "other"]) {
        for parked in [false, true] {
            let place = Place::new(1_000);
            place.engine.deploy(child("manual"), Vec::new());
            let run = place.start(&parent).await;
            pass(if parked { 60 * SECOND } else { SECOND }).await;
            assert_eq!(place.is_parked(run).await, parked);
            let inner =
                place.store.unfinished(loom_store::Shards::ALL, Some(run), 9).await.unwrap().remove(0);
            place.engine.shut_down().await;
            let place = open(&place.store, place.clock, 1_000);
            change(&place.engine, &child(redeployed));
            place.engine.recover(None).await.unwrap();
            pass(SECOND).await;
            assert_eq!(place.status(run).await, Running);
            place.signal(inner.id, "go").await;
            pass(30 * SECOND).await;
            assert_eq!((place.status(inner.id).await, place.status(run).await), (Succeeded, Succeeded));
            assert_eq!(place.store.pending(run).await.unwrap(), 0);
            place.engine.shut_down().await;
        }
    }
}

/// A process that executes runs only on request does not load one because it has a message.
#[tokio::test(start_paused = true)]
async fn an_engine_that_stands_by_loads_no_parked_run_for_a_callback() {
    let workflow = parse(
        "hook",
        "",
        r#""Ask": {"type": "HttpWebhook", "inputs": {"subscribe": {"method": "POST", "uri": "http://s/"}},
            "limit": {"timeout": "PT1H"}, "runAfter": {}},
           "Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}}"#,
    );
    let service = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200}"#)));
    let build = |place: &Place| {
        engine(&service)
            .handler(loom_definition::model::EffectKind::HttpWebhook, Arc::clone(&service) as _)
            .store(Arc::clone(&place.store))
            .clock(Arc::new(place.clock))
            .park_after(AFTER)
            .build()
    };
    let place = Place::new(1_000);
    let place = Place { engine: build(&place), ..place };
    let run = place.start(&workflow).await;
    pass(60 * SECOND).await;
    assert!(place.is_parked(run).await);
    let (_, state) = place.engine.state_of(run).await.unwrap().unwrap();
    let effect =
        (0..9).map(loom_engine::EffectId).find(|effect| state.waiting_for_callback(*effect).is_some());
    place.engine.shut_down().await;
    let place = Place { engine: build(&place), ..place };
    place.engine.stand_by().await.unwrap();
    let payload = Value::from("yes");
    let delivered = place.engine.deliver(run, effect.unwrap(), payload.clone()).await;
    assert_eq!(delivered, Delivered::NotInProgress);
    assert!(!place.engine.command(run, Command::Resume).await);
    place.signal(run, "go").await;
    pass(60 * SECOND).await;
    assert_eq!(place.engine.runs_in_progress(), 0, "{:?}", place.engine);
    assert_eq!(place.store.pending(run).await.unwrap(), 1, "only the signal is left for the next process");
    // The control: once an operator has released it, the run receives both.
    assert!(place.engine.recover_run(run, None).await.unwrap().is_some());
    assert_eq!(place.engine.deliver(run, effect.unwrap(), payload).await, Delivered::Taken);
    pass(60 * SECOND).await;
    assert_eq!(place.status(run).await, Succeeded);
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn parked_runs_keep_their_places_at_the_gate() {
    let place = Place::new(1_000);
    let limited = parse(
        "limited",
        r#", "runtimeConfiguration": {"concurrency": {"runs": 2, "maximumWaitingRuns": 9}}"#,
        r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}"#,
    );
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(place.start(&limited).await);
    }
    pass(15 * SECOND).await;
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 5));
    let statuses = async |place: &Place| {
        let mut found = Vec::new();
        for run in &runs {
            found.push(place.status(*run).await);
        }
        found
    };
    assert_eq!(statuses(&place).await, [Running, Running, Waiting, Waiting, Waiting]);
    assert_eq!(place.engine.runs_waiting(), 3);
    let place = place.restart(&[&limited]).await;
    assert_eq!(place.engine.runs_in_progress(), 0, "nobody was loaded");
    assert_eq!(place.engine.runs_waiting(), 3);
    let newcomer = place.start(&limited).await;
    assert_eq!(place.status(newcomer).await, Waiting, "nobody overtakes those who wait");
    // The two that rest end, and the next two are admitted, in order.
    pass(Duration::from_hours(1).saturating_sub(5 * SECOND)).await;
    assert_eq!(statuses(&place).await, [Succeeded, Succeeded, Running, Running, Waiting]);
    // A parked run that waits and is cancelled leaves the queue.
    assert!(place.engine.command(runs[4], Command::Cancel).await);
    pass(Duration::from_hours(1)).await;
    assert_eq!(statuses(&place).await, [Succeeded, Succeeded, Succeeded, Succeeded, Cancelled]);
    assert_eq!(place.status(newcomer).await, Running);
    pass(Duration::from_hours(1)).await;
    assert_eq!(place.status(newcomer).await, Succeeded);
    assert_eq!(place.engine.runs_waiting(), 0);
    assert!(place.store.keys(all_of("engine/parked")).await.unwrap().values.is_empty());
    place.engine.shut_down().await;
}

/// A trigger gets its first limit while its runs are parked and in memory: all of them count at once, and after a restart, no
/// matter whether the limit was deployed before it or after.
#[tokio::test(start_paused = true)]
async fn a_first_limit_counts_the_runs_that_are_in_progress() {
    const REST: &str =
        r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}"#;
    const GUARDED: &str = r#""Guarded": {"type": "Scope", "runAfter": {}, "bulkhead": {"name": "desk", "maxConcurrent": 9},
        "actions": {"Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}}}"#;
    // In memory, because a signal may come at any time in the first ten seconds.
    const SIGNAL: &str = r#""Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT1H"}, "runAfter": {}},
        "Late": {"type": "Compose", "inputs": 1, "runAfter": {"Go": ["Succeeded", "TimedOut"]}}"#;
    let limit = r#", "runtimeConfiguration": {"concurrency": {"runs": 2, "maximumWaitingRuns": 9}}"#;
    for (actions, in_memory) in [(REST, false), (GUARDED, false), (SIGNAL, true), (SIGNAL, false)] {
        for stops in [false, true] {
            let (free, limited) = (parse("w", "", actions), parse("w", limit, actions));
            let mut place = Place::new(1_000);
            place.engine.recover(None).await.unwrap();
            place.engine.deploy(Arc::clone(&free), Vec::new());
            let mut runs = Vec::new();
            for _ in 0..3 {
                runs.push(place.start(&free).await);
            }
            pass(if in_memory { SECOND } else { 30 * SECOND }).await;
            let awake = if in_memory { 3 } else { 0 };
            assert_eq!(place.engine.runs_in_progress(), awake);
            if stops {
                place = place.restart(&[&limited]).await;
            } else {
                place.engine.deploy(Arc::clone(&limited), Vec::new());
            }
            runs.push(place.start(&limited).await);
            assert_eq!(place.engine.runs_waiting(), 1, "three are in progress, two may be");
            pass(60 * SECOND).await;
            assert_eq!(place.engine.runs_in_progress(), 0, "nobody had to be loaded");
            let place = place.restart(&[&limited]).await;
            runs.push(place.start(&limited).await);
            assert_eq!(place.engine.runs_waiting(), 2);
            let statuses = async || {
                let mut found = Vec::new();
                for run in &runs {
                    found.push(place.status(*run).await);
                }
                found
            };
            assert_eq!(statuses().await, [Running, Running, Running, Waiting, Waiting]);
            // The first one ends before its time: two are left, as many as may be.
            assert!(place.engine.command(runs[0], Command::Cancel).await);
            pass(SECOND).await;
            assert_eq!(statuses().await, [Cancelled, Running, Running, Waiting, Waiting]);
            assert!(place.engine.command(runs[1], Command::Cancel).await);
            pass(SECOND).await;
            assert_eq!(statuses().await[2..], [Running, Running, Waiting]);
            pass(Duration::from_hours(5)).await;
            assert_eq!(statuses().await, [Cancelled, Cancelled, Succeeded, Succeeded, Succeeded]);
            assert_eq!(place.engine.runs_waiting(), 0);
            assert!(place.store.keys(all_of("engine/parked")).await.unwrap().values.is_empty());
            let last = place.start(&limited).await;
            assert_eq!(place.status(last).await, Running, "no permit was lost");
            place.engine.shut_down().await;
        }
    }
}

fn all_of(namespace: &str) -> loom_store::KeyQuery {
    loom_store::KeyQuery { namespace: namespace.into(), prefix: String::new(), after: None, limit: 100 }
}

#[tokio::test(start_paused = true)]
async fn parked_runs_keep_their_places_in_services() {
    let place = Place::new(1_000);
    let guarded = parse(
        "guarded",
        "",
        r#""Work": {"type": "Scope", "runAfter": {},
            "bulkhead": {"maxConcurrent": 1, "maxQueued": 9, "name": "desk"},
            "actions": {"Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}}}"#,
    );
    let (first, second) = (place.start(&guarded).await, place.start(&guarded).await);
    pass(60 * SECOND).await;
    assert!(place.is_parked(first).await);
    assert!(place.engine.is_in_progress(second), "it waits for a place in this process");
    // The place was given to the second after a wait.
    pass(Duration::from_hours(1)).await;
    assert_eq!((place.status(first).await, place.status(second).await), (Succeeded, Running));
    assert!(place.is_parked(second).await);
    let place = place.restart(&[&guarded]).await;
    let third = place.start(&guarded).await;
    pass(60 * SECOND).await;
    let (_, state) = place.engine.state_of(third).await.unwrap().unwrap();
    assert_eq!(state.timers().count(), 0, "the parked run has the only place");
    pass(Duration::from_hours(1)).await;
    assert_eq!((place.status(second).await, place.status(third).await), (Succeeded, Running));
    pass(Duration::from_hours(1)).await;
    assert_eq!(place.status(third).await, Succeeded);
    place.engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn when_it_is_crowded_runs_that_wait_make_room() {
    let place = Place::new(16);
    let workflow = waits_for("go", "P1D");
    let mut runs = BTreeSet::new();
    for _ in 0..100 {
        assert!(place.engine.room_for_run(16, SECOND).await, "{:?}", place.engine);
        runs.insert(place.start(&workflow).await);
        assert!(place.engine.runs_in_progress() <= 16);
    }
    assert!(place.engine.runs_parked() > 80);
    for run in &runs {
        place.signal(*run, "go").await;
    }
    pass(30 * SECOND).await;
    for run in &runs {
        assert_eq!(place.status(*run).await, Succeeded);
    }
    place.engine.shut_down().await;
}

/// A restart loads what is due, and what has messages.
#[tokio::test(start_paused = true)]
async fn a_restart_touches_what_is_due_and_nothing_else() {
    let place = Place::new(1_000);
    let (soon, later) = (rests(1), rests(9));
    let waits = waits_for("go", "P1D");
    let mut due = Vec::new();
    for _ in 0..20 {
        due.push(place.start(&soon).await);
    }
    for _ in 0..20 {
        place.start(&later).await;
    }
    let messaged = place.start(&waits).await;
    pass(60 * SECOND).await;
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 41));
    place.engine.shut_down().await;
    // A command line leaves a signal while no process executes runs.
    let other = open(&place.store, place.clock, 1_000);
    other.engine.stand_by().await.unwrap();
    other.signal(messaged, "go").await;
    other.engine.shut_down().await;
    pass(Duration::from_hours(2)).await;
    let place = open(&place.store, place.clock, 1_000);
    place.engine.recover(None).await.unwrap();
    pass(SECOND).await;
    for run in due.iter().chain([&messaged]) {
        assert_eq!(place.status(*run).await, Succeeded);
    }
    assert_eq!(place.seen.resumed.lock().unwrap().len(), 21);
    assert_eq!((place.engine.runs_in_progress(), place.engine.runs_parked()), (0, 20));
    place.engine.shut_down().await;
}

/// The order of what happened decides, not the order in which the process learns of it.
#[tokio::test(start_paused = true)]
async fn what_happened_while_a_run_was_parked_is_handed_over_in_order() {
    // The signal came before the deadline, or after it; nobody was running at the time.
    for (sent_after, status) in [(30, Succeeded), (90, RunStatus::Failed)] {
        let place = Place::new(1_000);
        let run = place.start(&waits_for("go", "PT1M")).await;
        pass(15 * SECOND).await;
        assert!(place.is_parked(run).await);
        place.engine.shut_down().await;
        pass((sent_after - 15) * SECOND).await;
        let other = open(&place.store, place.clock, 1_000);
        other.engine.stand_by().await.unwrap();
        other.signal(run, "go").await;
        other.engine.shut_down().await;
        pass(600 * SECOND).await;
        let place = place.restart(&[]).await;
        pass(SECOND).await;
        assert_eq!(place.status(run).await, status, "sent after {sent_after} s");
        place.engine.shut_down().await;
    }
}
