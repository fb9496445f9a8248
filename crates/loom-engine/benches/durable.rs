//! The cost of durable runs, on SQLite with a sync for every group of commits.
//!
//! `cargo bench -p loom-engine --bench durable`. Callers, engine and store share the machine. `-- SECONDS` sets the length of a
//! round, `--case WORD` selects cases.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow, model::EffectKind};
use loom_engine::{
    Engine, RunRequest, Started,
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_store::{SqliteOptions, SqliteStore, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    let seconds = arguments.iter().find_map(|argument| argument.parse::<f64>().ok()).unwrap_or(1.0);
    let wanted = arguments.iter().position(|argument| argument == "--case");
    let wanted = wanted.and_then(|place| arguments.get(place + 1)).cloned().unwrap_or_default();
    let round = if quick { Duration::from_millis(20) } else { Duration::from_secs_f64(seconds) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime can be built");
    println!("{:<44} {:>8} {:>12} {:>10} {:>10}", "durable, SQLite", "callers", "runs/s", "p50 ms", "p99 ms");
    let effects = load(&chain("Http", r#"{"method": "POST", "uri": "http://local"}"#));
    let composes = load(&chain("Compose", "1"));
    let foreach = load(&definition(
        r#""Each": {"type": "Foreach", "foreach": "@range(0, 1000)", "runAfter": {},
            "actions": {"One": {"type": "Compose", "inputs": "@items('Each')", "runAfter": {}}}}"#,
    ));
    let waiting = load(&definition(
        r#""Wait": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}"#,
    ));
    let cases: [(&str, &Arc<Workflow>, Until, &[usize]); 4] = [
        ("10 effects in a row (12 commits)", &effects, Until::Ended, &[1, 64, 256]),
        ("chain of 10 Compose, full history", &composes, Until::Ended, &[1, 64, 256]),
        ("Foreach of 1,000 Compose", &foreach, Until::Ended, &[1, 16]),
        ("accepted, its first timer armed", &waiting, Until::Accepted, &[1, 64, 256]),
    ];
    for (name, workflow, until, callers) in cases {
        if !name.contains(&wanted) {
            continue;
        }
        for callers in callers {
            let directory = scratch();
            runtime.block_on(measure(name, workflow, until, *callers, round, &directory));
            std::fs::remove_dir_all(&directory).ok();
        }
    }
}

/// What a caller waits for.
#[derive(Clone, Copy)]
enum Until {
    /// The run is durable.
    Accepted,
    /// It has ended.
    Ended,
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn measure(
    name: &str,
    workflow: &Arc<Workflow>,
    until: Until,
    callers: usize,
    round: Duration,
    directory: &Path,
) {
    let store = SqliteStore::open(directory, SqliteOptions::default()).expect("the store opens");
    let store: Arc<dyn Store> = Arc::new(store);
    let engine =
        Engine::builder().handler(EffectKind::Http, Arc::new(Local)).store(Arc::clone(&store)).build();
    let began = Instant::now();
    let done = AtomicU64::new(0);
    let work = (0..callers).map(|_| async {
        let mut took = Vec::new();
        while began.elapsed() < round {
            let asked = Instant::now();
            let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
            let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
            match until {
                Until::Accepted => assert!(runs[0].accepted().await),
                Until::Ended => {
                    let report = runs[0].ended().await.expect("it ends");
                    assert_eq!(report.status, RunStatus::Succeeded);
                }
            }
            took.push(asked.elapsed());
            done.fetch_add(1, Ordering::Relaxed);
        }
        took
    });
    let mut took: Vec<Duration> = futures_util::future::join_all(work).await.into_iter().flatten().collect();
    let elapsed = began.elapsed();
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let per_second = done.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64();
    println!("{name:<44} {callers:>8} {per_second:>12.0} {:>10.2} {:>10.2}", at(0.5), at(0.99));
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

/// A handler whose calls end immediately.
struct Local;

impl ActionHandler for Local {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        Box::pin(std::future::ready(EffectResult::Done {
            outcome: Outcome::ok(None),
            hint: RetryHint::default(),
        }))
    }
}

/// A directory on the disk that the build uses, because a directory in memory would measure nothing.
fn scratch() -> std::path::PathBuf {
    let exe = std::env::current_exe().expect("the bench knows its own file");
    let directory = exe.with_file_name(format!("durable-{}", std::process::id()));
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    directory
}

fn load(text: &str) -> Arc<Workflow> {
    Definition::parse(text.as_bytes(), &LoadOptions::default())
        .expect("the definition of the bench is valid")
        .workflow
}

fn definition(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#)
}

fn chain(kind: &str, inputs: &str) -> String {
    let actions: Vec<String> = (0..10)
        .map(|index| {
            let after =
                if index == 0 { String::new() } else { format!(r#""A{}": ["Succeeded"]"#, index - 1) };
            format!(r#""A{index}": {{"type": "{kind}", "inputs": {inputs}, "runAfter": {{{after}}}}}"#)
        })
        .collect();
    definition(&actions.join(","))
}
