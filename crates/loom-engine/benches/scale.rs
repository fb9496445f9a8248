//! Scaling: the time and memory of a loop over 100,000 items, of a restart with 10,000 unfinished runs, and of 1,000,000 runs that
//! only wait. On SQLite with a sync for every group of commits.
//!
//! `cargo bench -p loom-engine --bench scale`. Memory is the maximum growth of the resident set (`VmHWM` of `/proc/self/status`,
//! reset before), engine and store included. `-- --case WORD` selects cases, `--runs N` sets the number of runs that wait; with
//! `--test`, everything is small.

#[path = "scale/parked.rs"]
mod parked;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
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
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let wanted = option("--case").unwrap_or_default();
    let waiting = option("--runs").map(|runs| runs.parse().expect("--runs must be a number"));
    let waiting = waiting.unwrap_or(if quick { 1_000 } else { 1_000_000 });
    let items = if quick { 1_000 } else { 100_000 };
    let runs = if quick { 100 } else { 10_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime can be built");
    if let (Some(part), Some(directory)) = (option("--part"), option("--directory")) {
        return runtime.block_on(parked::part(&part, waiting, Path::new(&directory)));
    }
    let composes = foreach(items, r#"{"type": "Compose", "inputs": "@items('Each')", "runAfter": {}}"#);
    let calls = foreach(
        items,
        r#"{"type": "Http", "inputs": {"method": "POST", "uri": "http://local"}, "runAfter": {}}"#,
    );
    println!("{:<44} {:>10} {:>12} {:>12}", "durable, SQLite", "ms", "grown MiB", "journal MiB");
    for (name, workflow) in [
        (format!("Foreach of {items} Compose"), composes),
        (format!("Foreach of {items} calls, 20 at a time"), calls),
    ] {
        if name.contains(&wanted) {
            let directory = scratch();
            runtime.block_on(measure_loop(&name, &workflow, &directory));
            std::fs::remove_dir_all(&directory).ok();
        }
    }
    let name = format!("restart with {runs} unfinished runs");
    if name.contains(&wanted) {
        let directory = scratch();
        runtime.block_on(leave_unfinished(runs, &directory));
        runtime.block_on(measure_restart(&name, runs, &directory));
        std::fs::remove_dir_all(&directory).ok();
    }
    if "parked".contains(&wanted) {
        runtime.block_on(parked::measure(waiting));
    }
}

/// One run, alone in the engine.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn measure_loop(name: &str, workflow: &Arc<Workflow>, directory: &Path) {
    let store = open(directory);
    let service = Arc::new(Service::default());
    let engine = engine(&store, Arc::clone(&service) as Arc<dyn ActionHandler>);
    // A small run first, so that one-time costs of the process are not counted.
    let small = foreach(20, r#"{"type": "Compose", "inputs": 1, "runAfter": {}}"#);
    run(&engine, &small).await;
    let before = resident_after_reset();
    let began = Instant::now();
    run(&engine, workflow).await;
    let took = began.elapsed();
    let grown = peak().saturating_sub(before);
    engine.shut_down().await;
    store.close().await.expect("the store closes");
    let journal = std::fs::metadata(directory.join("loom.db")).map_or(0, |file| file.len());
    println!(
        "{name:<44} {:>10.0} {:>12.1} {:>12.1}",
        took.as_secs_f64() * 1e3,
        mebibytes(grown),
        mebibytes(journal)
    );
    let most = service.most.load(Ordering::Relaxed);
    if most > 0 {
        println!("{:<44} {:>10} in flight at most", "", most);
    }
}

/// Leaves unfinished runs in the store, each with a call in flight.
async fn leave_unfinished(runs: usize, directory: &Path) {
    let store = open(directory);
    let engine = engine(&store, Arc::new(Silent::default()));
    let workflow = waiting();
    let mut handles = Vec::with_capacity(runs);
    for _ in 0..runs {
        let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
        let Ok(Started::Runs(mut started)) = engine.start(request, None) else { panic!("no run started") };
        handles.append(&mut started);
    }
    for handle in &mut handles {
        assert!(handle.accepted().await);
    }
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

/// Measures the time from opening the store until the first run, and until all runs, have repeated their call.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn measure_restart(name: &str, runs: usize, directory: &Path) {
    let service = Arc::new(Silent::default());
    let before = resident_after_reset();
    let began = Instant::now();
    let store = open(directory);
    let engine = engine(&store, Arc::clone(&service) as Arc<dyn ActionHandler>);
    let first = async {
        service.reached(1).await;
        began.elapsed()
    };
    let (first, recovered) = tokio::join!(first, engine.recover(None));
    let recovered = recovered.expect("the store can be read");
    assert_eq!((recovered.runs.len(), recovered.unreadable.len()), (runs, 0));
    service.reached(runs).await;
    let all = began.elapsed();
    println!(
        "{name:<44} {:>10.0} {:>12.1}              first after {:.0} ms",
        all.as_secs_f64() * 1e3,
        mebibytes(peak().saturating_sub(before)),
        first.as_secs_f64() * 1e3
    );
    engine.shut_down().await;
    store.close().await.expect("the store closes");
}

fn open(directory: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(directory, SqliteOptions::default()).expect("the store opens"))
}

fn engine(store: &Arc<dyn Store>, handler: Arc<dyn ActionHandler>) -> Engine {
    Engine::builder().handler(EffectKind::Http, handler).store(Arc::clone(store)).build()
}

async fn run(engine: &Engine, workflow: &Arc<Workflow>) {
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let report = engine.run(request).await.expect("it starts").expect("it ends");
    assert_eq!(report.status, RunStatus::Succeeded);
}

/// Responds after yielding to other tasks, and counts concurrent calls.
#[derive(Default)]
struct Service {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl ActionHandler for Service {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        Box::pin(async {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() }
        })
    }
}

/// Never responds; counts calls.
struct Silent {
    asked: tokio::sync::watch::Sender<usize>,
}

impl Default for Silent {
    fn default() -> Self {
        Silent { asked: tokio::sync::watch::Sender::new(0) }
    }
}

impl Silent {
    async fn reached(&self, count: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= count).await.expect("the sender is here");
    }
}

impl ActionHandler for Silent {
    fn call<'a>(&'a self, _: &'a Call) -> CallFuture<'a> {
        self.asked.send_modify(|asked| *asked += 1);
        Box::pin(std::future::pending())
    }
}

/// The current resident set; resets its peak.
fn resident_after_reset() -> u64 {
    // Linux can reset the peak; elsewhere the peak of the whole process is used.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    status_line("VmRSS:")
}

fn peak() -> u64 {
    status_line("VmHWM:")
}

/// A value of this process's status, in bytes.
fn status_line(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A directory on the disk that the build uses, because a directory in memory would measure nothing.
fn scratch() -> PathBuf {
    let exe = std::env::current_exe().expect("the bench knows its own file");
    let directory = exe.with_file_name(format!("scale-{}", std::process::id()));
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    directory
}

fn load(actions: &str) -> Arc<Workflow> {
    let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#);
    Definition::parse(text.as_bytes(), &LoadOptions::default())
        .expect("the definition of the bench is valid")
        .workflow
}

fn foreach(count: usize, action: &str) -> Arc<Workflow> {
    load(&format!(
        r#""Each": {{"type": "Foreach", "foreach": "@range(0, {count})", "runAfter": {{}}, "actions": {{"One": {action}}}}}"#
    ))
}

/// A few actions followed by a call that is in flight when the process ends.
fn waiting() -> Arc<Workflow> {
    load(
        r#""N": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "n", "type": "integer", "value": 1}]}, "runAfter": {}},
           "Shape": {"type": "Compose", "inputs": {"n": "@variables('n')", "body": "@triggerBody()"}, "runAfter": {"N": ["Succeeded"]}},
           "Ask": {"type": "Http", "inputs": {"method": "POST", "uri": "http://local", "body": "@outputs('Shape')"}, "runAfter": {"Shape": ["Succeeded"]}}"#,
    )
}
