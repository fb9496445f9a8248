//! The only thread of a runtime remains free while runs evaluate for long and histories are read: on other threads, of which there
//! are few. Nothing here measures time: what takes long is held up by the test.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use hyper::Method;
use loom_engine::ports::Stopwatch;
use loom_store::MemoryStore;

use crate::support::{Plan, World, list, requested, text};

/// Holds up the threads that come to it until it is opened.
#[derive(Default)]
struct Latch {
    is_open: Mutex<bool>,
    opens: Condvar,
    held_up: AtomicUsize,
}

impl Latch {
    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap();
        self.held_up.fetch_add(1, Ordering::SeqCst);
        while !*is_open {
            is_open = self.opens.wait(is_open).unwrap();
        }
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opens.notify_all();
    }

    /// Waits until so many threads are held up.
    async fn holds_up(&self, count: usize) {
        while self.held_up.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

/// Opens the latch also when a test fails: otherwise its threads would never end.
struct Opened(Arc<Latch>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// The engine reads it before it makes decisions; on any thread but that of the runtime, it holds the decisions up.
struct Held {
    runtime: ThreadId,
    latch: Arc<Latch>,
}

impl Stopwatch for Held {
    fn elapsed(&self) -> Duration {
        if thread::current().id() != self.runtime {
            self.latch.pass();
        }
        Duration::ZERO
    }
}

/// More steps than one decision may take on a thread of the runtime.
const HEAVY: &str = r#"{"Heavy": {"type": "Select", "inputs": {"from": "@range(0, 12000)", "select": "@item()"}, "runAfter": {}},
    "Then": {"type": "Compose", "inputs": "@length(body('Heavy'))", "runAfter": {"Heavy": ["Succeeded"]}}}"#;

const LIGHT: &str = r#"{"Say": {"type": "Compose", "inputs": "@concat('a', 'b')", "runAfter": {}},
    "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@outputs('Say')"}, "runAfter": {"Say": ["Succeeded"]}}}"#;

#[tokio::test]
async fn while_evaluations_are_held_up_everything_else_is_answered() {
    let latch = Arc::new(Latch::default());
    let _opened = Opened(Arc::clone(&latch));
    let stopwatch = Held { runtime: thread::current().id(), latch: Arc::clone(&latch) };
    let plan = Plan { stopwatch: Some(Arc::new(stopwatch)), ..Plan::default() };
    let world = World::start(plan).await;
    world.deploy("heavy", &requested(HEAVY)).await;
    world.deploy("light", &requested(LIGHT)).await;
    let most = thread::available_parallelism().unwrap().get().max(2);
    let mut runs = Vec::new();
    // More than there are threads for.
    for _ in 0..most + 3 {
        runs.push(world.invoke("heavy", "").await);
    }
    // The control: the evaluations are on other threads. On that of the runtime, nobody would be held up.
    latch.holds_up(2).await;
    for _ in 0..20 {
        let health = world.get("/healthz").await;
        assert_eq!((health.status, text(&health.json(), "status")), (200, "ok"));
        let answer = world.call(Method::POST, "/workflows/light/triggers/manual/invoke", "").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ab"));
        let shown = world.get(&format!("/api/v1/runs/{}", runs[0])).await;
        assert_eq!(text(&shown.json(), "status"), "Running");
    }
    assert!(latch.held_up.load(Ordering::SeqCst) <= most, "a limited number of threads");
    latch.open();
    for run in &runs {
        assert_eq!(text(&world.ended(run).await, "status"), "Succeeded");
    }
    let shown = world.get(&format!("/api/v1/runs/{}/actions/Then", runs[0])).await.json();
    assert!(shown.to_json_text().contains("12000"), "{}", shown.to_json_text());
    world.stop().await;
}

#[tokio::test]
async fn while_readers_of_histories_are_held_up_everything_else_is_answered() {
    let world = World::start(Plan { store: Arc::new(MemoryStore::default()), ..Plan::default() }).await;
    world.deploy("light", &requested(LIGHT)).await;
    let answer = world.call(Method::POST, "/workflows/light/triggers/manual/invoke", "").await;
    let run = answer.header("x-ms-workflow-run-id").unwrap().to_owned();
    let whole = world.events(&run, 0).await;
    let latch = Arc::new(Latch::default());
    let _opened = Opened(Arc::clone(&latch));
    // All threads that read histories are occupied.
    let threads = thread::available_parallelism().unwrap().get().max(2);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..threads {
        let (pool, latch) = (world.host.engine().reads().clone(), Arc::clone(&latch));
        readers.spawn(async move { pool.run(move || latch.pass()).await });
    }
    latch.holds_up(threads).await;
    let mut reading = Box::pin(async {
        let mut all = Vec::new();
        for path in ["", "/actions", "/actions/Say", "/events", "/definition"] {
            all.push(world.get(&format!("/api/v1/runs/{run}{path}")).await);
        }
        (all, world.events(&run, 3).await)
    });
    let others = async {
        for _ in 0..20 {
            assert_eq!(world.get("/healthz").await.status, 200);
            let answer = world.call(Method::POST, "/workflows/light/triggers/manual/invoke", "").await;
            assert_eq!(answer.status, 200);
        }
    };
    // The control: a history is read on one of those threads, so it waits for one.
    tokio::select! {
        biased;
        _ = &mut reading => panic!("a history was read on another thread"),
        () = others => {}
    }
    latch.open();
    let (all, streamed) = reading.as_mut().await;
    drop(reading);
    for reply in &all {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(list(&all[3].json(), "events"), whole);
    assert_eq!(streamed, whole[3..]);
    while readers.join_next().await.is_some() {}
    world.stop().await;
}
