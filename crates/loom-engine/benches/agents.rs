//! The cost of live text and of an agent's turns.
//!
//! `cargo bench -p loom-engine --bench agents`. Text: a call shows tokens as fast as it can, to watchers that read, and to some
//! that never do. Turns: an agent whose model answers at once, beside as many Http actions in a row that make the same commits.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time and prints")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow, model::EffectKind};
use loom_engine::{
    Engine, RunRequest, Started,
    event::{EffectResult, Outcome, RetryHint},
    live_text::TextPosition,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;
use loom_store::{SqliteOptions, SqliteStore, Store};

/// Tokens between two points at which other tasks may run, as when a part of a response has been read.
const PART: usize = 16;

/// A model that shows many tokens, or makes many turns, without waiting for anything.
struct Model {
    tokens: usize,
    turns: u32,
}

impl ActionHandler for Model {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            let outcome = Outcome::ok(Some(Value::from("a token")));
            if call.turn.as_ref().is_some_and(|turn| turn.number < self.turns) {
                return EffectResult::Turn { outcome, uses: Vec::new() };
            }
            if call.turn.is_none() {
                let mut text = call.show.begin();
                for token in 0..self.tokens {
                    text.push("token ");
                    if token % PART == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            EffectResult::Done { outcome, hint: RetryHint::default() }
        })
    }
}

fn load(actions: &str) -> Arc<Workflow> {
    let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#);
    Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("the definition loads").workflow
}

fn engine(model: Model, store: Option<Arc<dyn Store>>) -> Engine {
    let model: Arc<dyn ActionHandler> = Arc::new(model);
    let mut builder = Engine::builder();
    for kind in [EffectKind::Ai, EffectKind::Http, EffectKind::Custom("Agent".into())] {
        builder = builder.handler(kind, Arc::clone(&model));
    }
    match store {
        Some(store) => builder.store(store).build(),
        None => builder.build(),
    }
}

/// Tokens a second, and the bytes of memory after the text beyond those before it.
async fn text(tokens: usize, reading: usize, stalled: usize) -> (f64, u64) {
    let engine = engine(Model { tokens, turns: 0 }, None);
    let workflow = load(r#""Ask": {"type": "AI", "inputs": {"prompt": "x"}}"#);
    let before = resident();
    let began = Instant::now();
    let Ok(Started::Runs(mut runs)) = engine.start(RunRequest::manual(workflow, Vec::new(), None), None)
    else {
        panic!("no run started");
    };
    let id = runs[0].id;
    let idle: Vec<_> = (0..stalled).map(|_| engine.live_texts(id)).collect();
    let readers: Vec<_> = (0..reading)
        .map(|_| {
            let mut texts = engine.live_texts(id);
            tokio::spawn(async move {
                let (mut at, mut seen) = (TextPosition::default(), 0);
                loop {
                    let current = texts.current();
                    match current.first() {
                        Some(text) => seen += text.read(&mut at).map_or(0, |text| text.len()),
                        None if seen > 0 => return seen,
                        None => {}
                    }
                    texts.changed().await;
                }
            })
        })
        .collect();
    assert_eq!(runs[0].ended().await.expect("it ends").status, RunStatus::Succeeded);
    let took = began.elapsed().as_secs_f64();
    let after = resident().saturating_sub(before);
    for reader in readers {
        assert!(reader.await.expect("it ends") > 0);
    }
    drop(idle);
    (tokens as f64 / took, after)
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The time of a run on SQLite.
async fn run_of(workflow: &Arc<Workflow>, turns: u32) -> Duration {
    let directory = std::env::temp_dir().join(format!("loom-bench-agents-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let store = SqliteStore::open(&directory, SqliteOptions::default()).expect("the store opens");
    let engine = engine(Model { tokens: 0, turns }, Some(Arc::new(store)));
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let began = Instant::now();
    let report = engine.run(request).await.expect("it starts").expect("it ends");
    let took = began.elapsed();
    assert_eq!(report.status, RunStatus::Succeeded);
    engine.shut_down().await;
    std::fs::remove_dir_all(&directory).ok();
    took
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime can be built");
    let tokens = if quick { 1_000 } else { 1_000_000 };
    println!("{:<44} {:>14} {:>12}", "live text", "tokens/s", "memory KiB");
    for (reading, stalled) in [(0, 0), (1, 0), (10, 0), (1, 1_000)] {
        let (rate, memory) = runtime.block_on(text(tokens, reading, stalled));
        let name = format!("{reading} watchers that read, {stalled} that do not");
        println!("{name:<44} {rate:>14.0} {:>12}", memory / 1024);
    }
    let turns = if quick { 3 } else { 100 };
    let agent = load(r#""Ask": {"type": "Agent", "inputs": {}, "tools": {}}"#);
    let chain: Vec<String> = (0..turns)
        .map(|index| {
            let after = if index == 0 { String::new() } else { format!(r#""H{}": ["Succeeded"]"#, index - 1) };
            format!(r#""H{index}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "runAfter": {{{after}}}}}"#)
        })
        .collect();
    let chain = load(&chain.join(", "));
    println!("\n{:<44} {:>14} {:>12}", "turns of an agent, SQLite", "ms a call", "");
    for (name, workflow) in [("an agent", &agent), ("Http actions in a row", &chain)] {
        let took = runtime.block_on(run_of(workflow, turns));
        println!("{name:<44} {:>14.3}", took.as_secs_f64() * 1e3 / f64::from(turns));
    }
}
