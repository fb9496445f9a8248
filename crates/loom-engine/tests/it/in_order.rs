//! What happened while no process was running is handed to the run in the order in which it happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow};
use loom_engine::{
    Command, Delivered, Engine, RunHandle, RunId, RunReport, RunRequest, Signal, Started, ports::Clock,
};
use loom_expression::{Timestamp, Value};
use loom_store::{Shards, SqliteOptions, SqliteStore, Store};

use crate::support::{Service, engine, ok, workflow};

/// A clock that moves only when a test moves it.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + self.0.load(Ordering::Relaxed))
    }
}

/// A data directory, the clock on the wall, and the processes that come and go. The store reads on threads of its own, so a run
/// that is resumed does not have its messages at hand.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<Hand>,
}

impl World {
    fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    fn seconds(&self, count: i64) {
        self.clock.0.fetch_add(1_000 * count, Ordering::Relaxed);
    }

    fn open(&self) -> (Engine, Arc<dyn Store>) {
        let store = SqliteStore::open(self.folder.path(), SqliteOptions::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        (engine(&service).clock(clock).store(Arc::clone(&store)).build(), store)
    }

    async fn close(&self, (engine, store): (Engine, Arc<dyn Store>)) {
        engine.shut_down().await;
        drop(engine);
        store.close().await.unwrap();
    }

    /// Starts a run and ends the process.
    async fn begin(&self, workflow: &Arc<Workflow>, others: &[Arc<Workflow>]) -> RunId {
        let process = self.open();
        for other in others {
            process.0.deploy(Arc::clone(other), Vec::new());
        }
        let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = process.0.start(request, None) else { panic!("no run started") };
        assert!(runs[0].accepted().await);
        let run = runs.remove(0).id;
        // Until the run waits: its timer is in the store.
        while process.0.state_of(run).await.unwrap().unwrap().1.timers().next().is_none() {
            tokio::task::yield_now().await;
        }
        // Until its children, if it starts any, are in the store and wait as well.
        for row in self.children(&process, run, others.len()).await {
            while process.0.state_of(row).await.unwrap().unwrap().1.timers().next().is_none() {
                tokio::task::yield_now().await;
            }
        }
        self.close(process).await;
        run
    }

    /// The runs that were accepted after a run, once there are as many as expected.
    async fn children(&self, process: &(Engine, Arc<dyn Store>), run: RunId, count: usize) -> Vec<RunId> {
        loop {
            let rows = process.1.unfinished(Shards::ALL, Some(run), 9).await.unwrap();
            if rows.len() == count {
                return rows.iter().map(|row| row.id).collect();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Another process sends a signal to the run, which it does not execute.
    async fn signal(&self, run: RunId, name: &str) {
        let process = self.open();
        let signal = Signal { name: name.into(), body: None, idempotency_key: None };
        process.0.signal(run, signal).await.unwrap();
        self.close(process).await;
    }

    /// The next process resumes the run and waits for its end.
    async fn end(&self, run: RunId) -> Arc<RunReport> {
        let process = self.open();
        let mut runs: Vec<RunHandle> = process.0.recover(None).await.unwrap().runs;
        runs.retain(|known| known.id == run);
        let report = runs.remove(0).ended().await.unwrap();
        assert_eq!(process.1.pending(run).await.unwrap(), 0, "each message was consumed");
        self.close(process).await;
        report
    }
}

/// `Go` waits for four seconds; the outputs tell how it ended, and whether a second wait received the signal.
fn waits() -> Arc<Workflow> {
    workflow(
        r#"{"Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT4S"}, "runAfter": {}},
            "Late": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"Go": ["TimedOut"]}},
            "Fail": {"type": "Terminate", "inputs": {"runStatus": "Cancelled"}, "runAfter": {"Late": ["Succeeded"]}}}"#,
    )
}

#[tokio::test]
async fn a_signal_that_was_sent_before_the_deadline_is_received_after_it() {
    for _ in 0..10 {
        let world = World::new();
        let run = world.begin(&waits(), &[]).await;
        world.seconds(2);
        world.signal(run, "go").await;
        world.seconds(10);
        assert_eq!(world.end(run).await.status, RunStatus::Succeeded);
    }
}

#[tokio::test]
async fn a_signal_that_was_sent_after_the_deadline_is_for_the_next_wait() {
    for _ in 0..10 {
        let world = World::new();
        let run = world.begin(&waits(), &[]).await;
        world.seconds(5);
        world.signal(run, "go").await;
        world.seconds(5);
        // `Go` timed out, and `Late` received the signal.
        assert_eq!(world.end(run).await.status, RunStatus::Cancelled);
    }
}

/// The deadline is that of the block around the wait.
#[tokio::test]
async fn a_signal_in_time_is_received_inside_a_block_that_has_a_deadline() {
    let world = World::new();
    let block = workflow(
        r#"{"Block": {"type": "Scope", "limit": {"timeout": "PT4S"}, "runAfter": {}, "actions": {
            "Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}}}}}"#,
    );
    let run = world.begin(&block, &[]).await;
    world.seconds(2);
    world.signal(run, "go").await;
    world.seconds(10);
    assert_eq!(world.end(run).await.status, RunStatus::Succeeded);
}

/// An operator's order comes first: what is older than it may be what the order is to prevent.
#[tokio::test]
async fn an_order_that_was_left_is_executed_before_anything_that_was_due() {
    for before_the_deadline in [true, false] {
        let world = World::new();
        let run = world.begin(&waits(), &[]).await;
        world.seconds(if before_the_deadline { 2 } else { 6 });
        let process = world.open();
        process.0.leave(run, loom_engine::Order::Cancel).await.unwrap();
        world.close(process).await;
        world.seconds(10);
        let process = world.open();
        let mut handle = process.0.recover(None).await.unwrap().runs.remove(0);
        assert_eq!(handle.ended().await.unwrap().status, RunStatus::Cancelled);
        let (_, history) = process.0.history(run).await.unwrap().unwrap();
        let go = history.workflow().find_action("Go").unwrap();
        assert_eq!(history.occurrences(go)[0].status, Some(loom_definition::Status::Cancelled));
        assert_eq!(process.1.pending(run).await.unwrap(), 0);
        world.close(process).await;
    }
}

/// The child ends in time, while its parent is held; the parent learns of it after its own deadline.
#[tokio::test]
async fn the_end_of_a_child_before_the_deadline_is_received_after_it() {
    let options = LoadOptions { name: Some("child".into()), ..LoadOptions::default() };
    let text = br#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}, "limit": {"timeout": "PT1H"}},
        "Answer": {"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {"Go": ["Succeeded"]}}}}"#;
    let child = Definition::parse(text, &options).unwrap().workflow;
    let parent = workflow(
        r#"{"Child": {"type": "Workflow", "limit": {"timeout": "PT1M"}, "runAfter": {},
            "inputs": {"host": {"workflow": {"id": "child"}}}}}"#,
    );
    for (after, expected) in [(30, RunStatus::Succeeded), (90, RunStatus::Failed)] {
        let world = World::new();
        let run = world.begin(&parent, &[Arc::clone(&child)]).await;
        // A process that executes only the child.
        let process = world.open();
        let children = process.1.unfinished(Shards::ALL, Some(run), 9).await.unwrap();
        let [row] = &children[..] else { panic!("one child has started: {children:?}") };
        world.seconds(after);
        let mut handle = process.0.recover_run(row.id, None).await.unwrap().unwrap();
        let signal = Signal { name: "go".into(), body: None, idempotency_key: None };
        process.0.signal(row.id, signal).await.unwrap();
        assert_eq!(handle.ended().await.unwrap().status, RunStatus::Succeeded);
        world.close(process).await;
        world.seconds(600);
        let process = world.open();
        process.0.deploy(Arc::clone(&child), Vec::new());
        let mut handle = process.0.recover(None).await.unwrap().runs.remove(0);
        assert_eq!(handle.ended().await.unwrap().status, expected, "after {after} s");
        world.close(process).await;
    }
}

/// The order is durable before the run receives it, and is executed once, by whichever process finds it.
#[tokio::test]
async fn a_command_to_a_run_in_progress_is_a_message_that_is_consumed_with_its_effect() {
    let world = World::new();
    let run = world.begin(&waits(), &[]).await;
    let process = world.open();
    let handle = process.0.recover(None).await.unwrap().runs.remove(0);
    for (command, status) in [(Command::Suspend, RunStatus::Suspended), (Command::Resume, RunStatus::Running)]
    {
        assert!(process.0.command(run, command).await);
        let (_, state) = process.0.state_of(run).await.unwrap().unwrap();
        assert_eq!((state.status(), process.1.pending(run).await.unwrap()), (status, 0));
    }
    // A command without effect is consumed as well.
    assert!(process.0.command(run, Command::Resume).await);
    assert_eq!(process.1.pending(run).await.unwrap(), 0);
    assert!(process.0.command(run, Command::Cancel).await);
    assert!(!process.0.command(run, Command::Cancel).await, "it has ended");
    assert_eq!(
        process.0.deliver(run, loom_engine::EffectId(1), Value::default()).await,
        Delivered::NotInProgress
    );
    drop(handle);
    world.close(process).await;
}
