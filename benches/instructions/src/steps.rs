//! A call through a policy pipeline and durable steps of a workflow, repeated for an instruction count.
//!
//! `--case WORD --count N` makes N calls, or N runs of ten steps each, on one thread. The store is in memory: the engine
//! writes the same records as for a disk, and no second thread makes the count vary.

use std::{future::ready, hint::black_box, sync::Arc};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow, model::EffectKind};
use loom_engine::{
    Engine, RunRequest, Started,
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_resilience::{AllTransient, Clock, Limit, ManualClock, Pipeline, Policy};
use loom_store::{MemoryStore, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).map(String::as_str)
    };
    let count: u32 = option("--count").and_then(|count| count.parse().ok()).unwrap_or(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be built");
    match option("--case") {
        Some("pipeline") => {
            let limit = Limit::per_second(1_000_000_000).burst(1_000_000_000);
            runtime.block_on(calls(count, Policy::standard().limit(limit)));
        }
        Some("without-parts") => runtime.block_on(calls(count, Policy::none())),
        Some("durable") => runtime.block_on(runs(count)),
        other => panic!("--case must be pipeline, without-parts or durable (got {other:?})"),
    }
}

/// Calls through a policy, of which no part intervenes. The standard policy has two timeouts, retries, a retry budget, a circuit
/// breaker and here a rate limit.
async fn calls(count: u32, policy: Policy) {
    // The system clock calibrates itself, which takes a varying number of instructions.
    let clock = Clock::manual(&ManualClock::new());
    let pipeline = Pipeline::new("bench", policy, clock, None).expect("the policy is valid");
    for _ in 0..count {
        let called = pipeline
            .call()
            .idempotent()
            .classify(AllTransient)
            .run(|_| ready(Ok::<_, ()>(black_box(1))))
            .await;
        assert!(called.is_ok());
    }
}

/// Runs of ten calls in a row, each durable before it is made.
async fn runs(count: u32) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine =
        Engine::builder().handler(EffectKind::Http, Arc::new(Local)).store(Arc::clone(&store)).build();
    let workflow = ten_calls();
    for _ in 0..count {
        let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        let report = runs[0].ended().await.expect("it ends");
        assert_eq!(report.status, RunStatus::Succeeded);
    }
    engine.shut_down().await;
}

/// A handler whose calls end immediately.
struct Local;

impl ActionHandler for Local {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        Box::pin(ready(EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() }))
    }
}

fn ten_calls() -> Arc<Workflow> {
    let actions: Vec<String> = (0..10)
        .map(|index| {
            let after =
                if index == 0 { String::new() } else { format!(r#""A{}": ["Succeeded"]"#, index - 1) };
            format!(
                r#""A{index}": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://local"}},
                    "runAfter": {{{after}}}}}"#
            )
        })
        .collect();
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{}}}}}"#,
        actions.join(",")
    );
    let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default());
    loaded.expect("the definition is valid").workflow
}
