//! Runs that only wait: what they cost while they are not in memory, a restart beside them, and waking those that are due.
//!
//! Each figure is measured in a process of its own, because the one that has started the runs keeps memory that it no longer
//! uses.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use loom_definition::{Workflow, model::EffectKind};
use loom_engine::{
    Engine, RunRequest, Started,
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture, Clock},
};
use loom_expression::{Timestamp, Value};
use loom_store::{Shards, Store};
use tokio::sync::watch;

use crate::{load, mebibytes, open, peak, resident_after_reset, scratch, status_line};

/// The runs that are due when the last process starts; of fewer runs, one in ten.
const DUE: usize = 10_000;

/// The time at which the runs are started, and the times at which they are due. Milliseconds since 1970.
const STARTED: i64 = 1_767_225_600_000;
const FIRST_DUE: i64 = STARTED + 3_600_000;
const ALL_DUE: i64 = STARTED + 30 * 86_400_000;

/// The time at which the last process starts. While an engine runs, its time advances with the computer's, whatever the clock shows,
/// so the runs are due as long after [`FIRST_DUE`] as it took to start them.
const WOKEN: i64 = FIRST_DUE + 3_600_000;

/// Runs that are started before the bench waits until their starts are durable.
const BATCH: usize = 2_000;

/// Shows the time that it was set to.
#[derive(Debug)]
struct Fixed(AtomicI64);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Responds at once, and counts.
struct Counting(watch::Sender<usize>);

impl ActionHandler for Counting {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        self.0.send_modify(|calls| *calls += 1);
        Box::pin(async { EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() } })
    }
}

/// Starts the runs in this process, and measures the rest in others.
pub(crate) async fn measure(runs: usize) {
    let directory = scratch();
    start(runs, &directory).await;
    for part in ["memory", "restart", "wake"] {
        let program = std::env::current_exe().expect("the bench knows its own file");
        let status = Command::new(program)
            .args(["--part", part, "--runs", &runs.to_string(), "--directory"])
            .arg(&directory)
            .status()
            .expect("the bench can be started again");
        assert!(status.success(), "{part}");
    }
    std::fs::remove_dir_all(&directory).ok();
}

/// One of the measurements, in a process of its own.
pub(crate) async fn part(part: &str, runs: usize, directory: &Path) {
    match part {
        "memory" => memory(runs, directory).await,
        "restart" => restart(runs, directory).await,
        "wake" => wake(runs, directory).await,
        other => panic!("unknown part {other}"),
    }
}

fn due(runs: usize) -> usize {
    if runs >= 10 * DUE { DUE } else { runs / 10 }
}

/// An engine on a store, at a time, and the number of calls that its runs have made.
fn engine(store: &Arc<dyn Store>, at: i64) -> (Engine, watch::Receiver<usize>) {
    let (calls, made) = watch::channel(0);
    let engine = Engine::builder()
        .handler(EffectKind::Http, Arc::new(Counting(calls)))
        .store(Arc::clone(store))
        .clock(Arc::new(Fixed(AtomicI64::new(at))))
        .park_after(Duration::from_secs(10))
        .build();
    (engine, made)
}

/// Waits until a time that its caller says, then makes a call.
fn workflow() -> Arc<Workflow> {
    load(
        r#""Pause": {"type": "Wait", "inputs": {"until": {"timestamp": "@triggerBody()"}}, "runAfter": {}},
           "Tell": {"type": "Http", "inputs": {"method": "POST", "uri": "http://local"}, "runAfter": {"Pause": ["Succeeded"]}}"#,
    )
}

fn run_that_waits(workflow: &Arc<Workflow>, until: i64) -> RunRequest {
    let until = Value::from(Timestamp::from_unix_millis(until).to_string());
    RunRequest::manual(Arc::clone(workflow), Vec::new(), Some(until))
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn start(runs: usize, directory: &Path) {
    let store = open(directory);
    let (engine, _) = engine(&store, STARTED);
    engine.recover(None).await.expect("the store can be read");
    let (workflow, due) = (workflow(), due(runs));
    let began = Instant::now();
    let mut started = 0;
    while started < runs {
        let mut handles = Vec::with_capacity(BATCH);
        for number in started..runs.min(started + BATCH) {
            let until = if number % (runs / due) == 0 { FIRST_DUE } else { ALL_DUE };
            let request = run_that_waits(&workflow, until);
            let Ok(Started::Runs(mut begun)) = engine.start(request, None) else { panic!("no run started") };
            handles.append(&mut begun);
        }
        started += handles.len();
        for handle in &mut handles {
            assert!(handle.accepted().await);
        }
    }
    while engine.runs_in_progress() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(engine.runs_parked(), runs as u64);
    println!(
        "{:<44} {:>10.0}              {:.0} runs/s",
        format!("{runs} runs started and parked"),
        began.elapsed().as_secs_f64() * 1e3,
        runs as f64 / began.elapsed().as_secs_f64()
    );
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

/// What the runs cost in memory, compared with an engine on an empty store.
async fn memory(runs: usize, directory: &Path) {
    let empty = scratch();
    let idle = {
        let store = open(&empty);
        let (engine, _) = engine(&store, STARTED);
        engine.recover(None).await.expect("the store can be read");
        let idle = resident_after_reset();
        engine.shut_down().await;
        store.close().await.expect("the store closes");
        idle
    };
    std::fs::remove_dir_all(&empty).ok();
    let store = open(directory);
    let (engine, _) = engine(&store, STARTED);
    engine.recover(None).await.expect("the store can be read");
    assert_eq!((engine.runs_parked(), engine.runs_in_progress()), (runs as u64, 0));
    answer(&engine).await;
    println!(
        "{:<44} {:>10} {:>12.1}              {:.1} MiB at most, engine and store",
        format!("{runs} parked runs"),
        "",
        mebibytes(status_line("VmRSS:").saturating_sub(idle)),
        mebibytes(peak().saturating_sub(idle))
    );
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

/// The time from opening the store until a new run has responded.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn restart(runs: usize, directory: &Path) {
    let began = Instant::now();
    let store = open(directory);
    let (engine, _) = engine(&store, STARTED);
    engine.recover(None).await.expect("the store can be read");
    let recovered = began.elapsed();
    answer(&engine).await;
    println!(
        "{:<44} {:>10.0}                           recovered after {:.0} ms",
        format!("restart beside {runs} parked runs"),
        began.elapsed().as_secs_f64() * 1e3,
        recovered.as_secs_f64() * 1e3
    );
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

async fn answer(engine: &Engine) {
    let workflow = load(r#""Answer": {"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {}}"#);
    let request = RunRequest { wants_response: true, ..RunRequest::manual(workflow, Vec::new(), None) };
    let Ok(Started::Runs(mut begun)) = engine.start(request, None) else { panic!("no run started") };
    assert!(begun[0].response().await.is_some());
    begun[0].ended().await.expect("it ends");
}

/// The time until all runs that are due have made their call, from the start of the recovery that wakes them.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn wake(runs: usize, directory: &Path) {
    let store = open(directory);
    let (engine, mut made) = engine(&store, WOKEN);
    let due = due(runs);
    let before = resident_after_reset();
    let began = Instant::now();
    engine.recover(None).await.expect("the store can be read");
    made.wait_for(|made| *made > 0).await.expect("the engine lives");
    let first = began.elapsed();
    made.wait_for(|made| *made >= due).await.expect("the engine lives");
    let all = began.elapsed();
    println!(
        "{:<44} {:>10.0} {:>12.1}              first after {:.0} ms",
        format!("{due} of them due at once, woken"),
        all.as_secs_f64() * 1e3,
        mebibytes(peak().saturating_sub(before)),
        first.as_secs_f64() * 1e3
    );
    while engine.runs_in_progress() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = store.parked(Shards::ALL).await.expect("the store can be read");
    assert_eq!(left, (runs - due) as u64, "each of them has ended");
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}
