//! Runs that always have work: they receive what happens between two decisions, and are marked while a thread of the pool makes
//! decisions, which may crash the process.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use loom_definition::{RunStatus, Workflow};
use loom_store::{MemoryStore, SqliteOptions, SqliteStore, Store};

use super::{Break, begin, parse, whole};
use crate::{
    Engine, Environment, Event, RunHandle, RunReport, RunRequest, RunState, Started, Watcher,
    clock::TokioClock, event::Command, ports::Stopwatch,
};

/// More steps than one decision may take on a thread of the runtime.
const LONG: &str =
    r#"{"type": "Select", "inputs": {"from": "@range(0, 12000)", "select": "@item()"}, "runAfter": {}}"#;

const SHORT: &str = r#"{"type": "Compose", "inputs": "@add(1, 1)", "runAfter": {}}"#;

/// A loop that does this work again and again, without a pause.
fn repeated(work: &str, count: u32) -> Arc<Workflow> {
    parse(&format!(
        r#"{{"triggers": {{"t": {{"type": "Request"}}}}, "actions": {{"Again": {{"type": "Until", "runAfter": {{}},
            "expression": "@equals(1, 2)", "limit": {{"count": {count}, "timeout": "P1D"}}, "actions": {{"Work": {work}}}}}}}}}"#
    ))
}

/// Each reading takes a millisecond.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Stopwatch for Ticking {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

async fn started(engine: &Engine, workflow: &Arc<Workflow>) -> RunHandle {
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    assert!(runs[0].accepted().await);
    runs.remove(0)
}

async fn ended(run: &mut RunHandle) -> Arc<RunReport> {
    run.ended().await.expect("the engine is running")
}

/// What happens to a run that has work.
async fn with_run(work: &str, count: u32, fault: Break, happens: impl AsyncFnOnce(&Engine, &mut RunHandle)) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let environment = Environment { run_duration_max: Duration::from_hours(1), ..Environment::default() };
    let engine = Engine::builder()
        .store(store)
        .environment(environment)
        .clock(Arc::new(TokioClock::starting_at(begin())))
        .stopwatch(Arc::<Ticking>::default())
        .build();
    fault(&engine.shared.faults);
    let mut run = started(&engine, &repeated(work, count)).await;
    happens(&engine, &mut run).await;
    engine.shut_down().await;
}

/// Long decisions, and short ones. All of them take some tenths of a second.
const WORK: [(&str, u32); 2] = [(LONG, 60), (SHORT, 4_000)];

#[tokio::test(start_paused = true)]
async fn a_run_that_always_has_work_is_cancelled() {
    for (work, count) in WORK {
        with_run(work, count, whole, async |engine, run| {
            assert!(engine.command(run.id, Command::Cancel).await);
            assert_eq!(ended(run).await.status, RunStatus::Cancelled);
        })
        .await;
        // The control: a run that receives nothing before its work is done ends first.
        let fault: Break = |faults| faults.is_never_interrupted.on();
        with_run(work, count, fault, async |engine, run| {
            engine.command(run.id, Command::Cancel).await;
            assert_ne!(ended(run).await.status, RunStatus::Cancelled);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_always_has_work_is_suspended_and_resumed() {
    let status = async |engine: &Engine, run: &RunHandle| {
        let found = engine.state_of(run.id).await.expect("it can be read");
        found.expect("it exists").1.status()
    };
    for (work, count) in WORK {
        with_run(work, count, whole, async |engine, run| {
            assert!(engine.command(run.id, Command::Suspend).await);
            assert_eq!(status(engine, run).await, RunStatus::Suspended);
            assert!(engine.command(run.id, Command::Resume).await);
            assert!(engine.command(run.id, Command::Suspend).await);
            assert_eq!(status(engine, run).await, RunStatus::Suspended, "it has not lost its work");
            assert!(engine.command(run.id, Command::Resume).await);
            assert_eq!(ended(run).await.status, RunStatus::Succeeded);
        })
        .await;
        let fault: Break = |faults| faults.is_never_interrupted.on();
        with_run(work, count, fault, async |engine, run| {
            engine.command(run.id, Command::Suspend).await;
            assert_eq!(status(engine, run).await, RunStatus::Succeeded);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_always_has_work_ends_at_its_maximum_duration() {
    for (work, count) in WORK {
        with_run(work, count, whole, async |_, run| {
            tokio::time::advance(Duration::from_hours(1)).await;
            assert_eq!(ended(run).await.status, RunStatus::TimedOut);
        })
        .await;
        let fault: Break = |faults| faults.is_never_interrupted.on();
        with_run(work, count, fault, async |_, run| {
            tokio::time::advance(Duration::from_hours(1)).await;
            assert_eq!(ended(run).await.status, RunStatus::Succeeded);
        })
        .await;
    }
}

/// Looks at the page of marks whenever a thread of the pool begins to make decisions.
struct Looks {
    runtime: ThreadId,
    marks: PathBuf,
    is_stored: AtomicBool,
    /// Whether the start of the run was stored, and whether it was marked.
    seen: Mutex<Vec<(bool, bool)>>,
}

impl Stopwatch for Looks {
    fn elapsed(&self) -> Duration {
        if thread::current().id() != self.runtime {
            let page = fs::read(&self.marks).unwrap();
            let is_marked = page[512..].as_chunks::<16>().0.iter().any(|slot| slot[..8] != [0; 8]);
            self.seen.lock().unwrap().push((self.is_stored.load(Ordering::SeqCst), is_marked));
        }
        Duration::ZERO
    }
}

impl Watcher for Looks {
    fn events(&self, _: &RunState, _: &[Event]) {
        self.is_stored.store(true, Ordering::SeqCst);
    }
}

async fn marks_seen(fault: Break) -> Vec<(bool, bool)> {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
    let looks = Arc::new(Looks {
        runtime: thread::current().id(),
        marks: directory.path().join("loom.marks"),
        is_stored: AtomicBool::new(false),
        seen: Mutex::default(),
    });
    let engine = Engine::builder()
        .store(Arc::clone(&store))
        .watcher(Arc::clone(&looks) as Arc<dyn Watcher>)
        .stopwatch(Arc::clone(&looks) as Arc<dyn Stopwatch>)
        .build();
    fault(&engine.shared.faults);
    let mut run = started(&engine, &repeated(LONG, 3)).await;
    assert_eq!(ended(&mut run).await.status, RunStatus::Succeeded);
    engine.shut_down().await;
    drop(engine);
    store.close().await.unwrap();
    std::mem::take(&mut *looks.seen.lock().unwrap())
}

/// Even if the very first decision takes long: the run is stored by then, so the next process can suspend it.
#[tokio::test]
async fn a_run_is_stored_and_marked_before_a_thread_of_the_pool_makes_its_decisions() {
    let seen = marks_seen(whole).await;
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(seen.iter().all(|seen| *seen == (true, true)), "{seen:?}");
    // The control.
    let seen = marks_seen(|faults| faults.is_unmarked.on()).await;
    assert!(seen.iter().any(|(_, is_marked)| !is_marked), "{seen:?}");
}
