//! Messages that are handled together, one of which takes a long decision: each is consumed by the commit that holds its
//! consequences.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, model::EffectKind};
use loom_store::{
    MemoryStore, Store,
    contract::{FaultRate, FaultyStore},
};

use super::{Break, begin, parse, whole};
use crate::{
    Engine, RunId, RunRequest, Signal, Started,
    clock::TokioClock,
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};

/// The end of the second wait takes more steps than a decision on a thread of the runtime may take. What follows the first one is a
/// call, which is made after a commit.
const WAITS: &str = r#"{"triggers": {"t": {"type": "Request"}}, "actions": {
    "Short": {"type": "WaitForSignal", "inputs": {"name": "short"}, "runAfter": {}},
    "Tell": {"type": "Http", "inputs": {"method": "POST", "uri": "http://local"}, "runAfter": {"Short": ["Succeeded"]}},
    "Long": {"type": "WaitForSignal", "inputs": {"name": "long"}, "runAfter": {},
        "trackedProperties": {"n": "@length(join(union(range(0, 20000), range(0, 20000)), ', '))"}}}}"#;

/// A service that responds at once.
struct Responds;

impl ActionHandler for Responds {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        Box::pin(async { EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() } })
    }
}

fn build(store: Arc<dyn Store>, fault: Break) -> Engine {
    let engine = Engine::builder()
        .handler(EffectKind::Http, Arc::new(Responds))
        .store(store)
        .clock(Arc::new(TokioClock::starting_at(begin())))
        .build();
    fault(&engine.shared.faults);
    engine
}

/// A run that waits, and both signals, which nobody has received.
async fn waiting() -> (MemoryStore, RunId) {
    let disk = MemoryStore::default();
    let engine = build(Arc::new(disk.clone()), whole);
    let Ok(Started::Runs(mut runs)) = engine.start(RunRequest::manual(parse(WAITS), Vec::new(), None), None)
    else {
        panic!("no run started")
    };
    assert!(runs[0].accepted().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.shut_down().await;
    let visitor = build(Arc::new(disk.clone()), whole);
    for name in ["short", "long"] {
        let signal = Signal { name: name.into(), body: None, idempotency_key: None };
        visitor.signal(runs[0].id, signal).await.expect("it is stored");
    }
    visitor.shut_down().await;
    (disk, runs[0].id)
}

/// Loads the run in a process that ends when its store has written `commits` commits, and again in the next one. Returns whether the
/// first one was interrupted, and whether the run has ended in the second.
async fn interrupted(commits: usize, fault: Break) -> (bool, bool) {
    let (disk, run) = waiting().await;
    let faulty = FaultyStore::new(disk, commits as u64, FaultRate::default());
    let first = build(Arc::new(faulty.clone()), fault);
    let lives = async {
        let mut runs = first.recover(None).await.expect("the store can be read").runs;
        runs.pop().expect("the run is in progress").ended().await;
    };
    let writes = async {
        for _ in 0..commits {
            faulty.work().await;
            faulty.turn();
        }
        faulty.work().await;
    };
    let was_interrupted = tokio::select! {
        () = lives => false,
        () = writes => true,
    };
    let disk: Arc<dyn Store> = Arc::new(faulty.crash());
    first.shut_down().await;
    let second = build(Arc::clone(&disk), whole);
    for mut run in second.recover(None).await.expect("the store can be read").runs {
        tokio::time::timeout(Duration::from_hours(1), run.ended()).await.ok();
    }
    let row = disk.run(run).await.expect("the store can be read").expect("it exists");
    let status = second.history(run).await.expect("the store can be read").map(|(_, history)| history.status);
    second.shut_down().await;
    (was_interrupted, row.ended.is_some() && status == Some(RunStatus::Succeeded))
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_commit_loses_no_message() {
    let mut commits = 0;
    loop {
        let (was_interrupted, has_ended) = interrupted(commits, whole).await;
        assert!(has_ended, "after {commits} commits");
        if !was_interrupted {
            break;
        }
        commits += 1;
    }
    assert!(commits >= 2, "there are commits to be interrupted at ({commits})");
    // The control.
    let mut lost = 0;
    for commits in 0..=commits {
        lost += usize::from(!interrupted(commits, |faults| faults.consumes_early.on()).await.1);
    }
    assert!(lost > 0, "a message that is consumed early is lost by a crash");
}
