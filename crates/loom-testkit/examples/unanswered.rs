//! Runs every definition of a corpus that needs only the language itself, with all calls failing: `unanswered CORPUS_DIR`.
//!
//! Each must nevertheless end as `conformance/corpus/unanswered.json` says: with this status and these failed actions, or
//! rejected with these errors. Time is virtual, so retries and waits take no time. The trigger's body is an empty object.
//! Parameters without a value and app settings get a value of the right type. Every call fails like a refused connection, which
//! retry policies retry. Exits with 1 if a definition ends differently, or if the corpus and the file do not have the same
//! definitions.
//!
//! Definitions that need connectors, other workflows or scripts are run in the same way. They may end in any way, but they must
//! end; the counts are printed.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_definition::{
    Definition, Diagnostics, LoadOptions, Severity, Status, Workflow,
    model::{ActionKind, ValueType},
};
use loom_engine::{
    Engine, Event, RunRequest, RunState, Started, Watcher,
    clock::TokioClock,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    history::History,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Object, Timestamp, Value};
use loom_resilience::{Clock, Policy, ResilienceRegistry};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The error code of all calls.
const CODE: &str = "ServiceTemporarilyUnavailable";

/// The virtual time after which a run is considered stuck.
const PATIENCE: Duration = Duration::from_hours(400 * 24);

/// How such a run is reported.
const FOR_EVER: &str = "the run does not end";

fn main() -> Fallible<ExitCode> {
    let directory = std::env::args().nth(1).ok_or("usage: unanswered CORPUS_DIR")?;
    let directory = Path::new(&directory);
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/corpus/unanswered.json");
    let expected = Value::parse_json(&fs::read(expected)?)?;
    let mut expected: BTreeMap<String, String> = expected
        .as_object()
        .ok_or("unanswered.json must contain an object")?
        .iter()
        .map(|(name, end)| (name.to_string(), end.text().into_owned()))
        .collect();
    let (mut passed, mut failed) = (0, 0);
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for line in fs::read_to_string(directory.join("index.jsonl"))?.lines() {
        let entry = Value::from_json_str(line)?;
        let file = entry.get("file").and_then(Value::as_str).ok_or("an entry of the index has no `file`")?;
        let name = file.trim_end_matches(".json").rsplit('-').next().unwrap_or_default();
        let end = end_of(&directory.join(file))?;
        if entry.get("tier").and_then(Value::as_str) != Some("builtin") {
            if end == FOR_EVER {
                failed += 1;
                println!("FAILED  {name}: {end}");
            }
            let kind = end.split([',', ':']).next().unwrap_or_default();
            *others.entry(kind.to_owned()).or_default() += 1;
            continue;
        }
        let wanted = expected.remove(name).unwrap_or_else(|| "an entry in unanswered.json".to_owned());
        if wanted.split(" or ").any(|wanted| wanted == end) {
            passed += 1;
            println!("ok      {name}: {end}");
        } else {
            failed += 1;
            println!("FAILED  {name}: {end}\n  expected {wanted}");
        }
    }
    for name in expected.keys() {
        failed += 1;
        println!("FAILED  {name}: missing in the corpus");
    }
    for (end, count) in &others {
        println!("others: {count} {end}");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a definition ends: the status of its run, or `refused` with the codes of its errors.
fn end_of(file: &Path) -> Fallible<String> {
    let options = LoadOptions {
        file_name: file.file_name().map(|name| name.to_string_lossy().into()),
        ..LoadOptions::default()
    };
    let refused = |found: &Diagnostics| {
        let errors = found.0.iter().filter(|found| found.severity == Severity::Error);
        let mut codes: Vec<&str> = errors.map(|found| found.code).collect();
        codes.sort_unstable();
        codes.dedup();
        format!("refused: {}", codes.join(", "))
    };
    let loaded = match Definition::parse(&fs::read(file)?, &options) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(refused(&found)),
    };
    let mut values = loaded.parameter_values;
    for parameter in &loaded.workflow.parameters {
        if parameter.default.is_none() && !values.contains_key(&parameter.name) {
            let any = parameter.allowed.as_ref().and_then(|allowed| allowed.first()).cloned();
            values.insert(Arc::clone(&parameter.name), any.unwrap_or_else(|| any_of(parameter.kind)));
        }
    }
    match loaded.workflow.bind_parameters(&values, &|_| Some(loom_expression::Value::from("unset"))) {
        Ok(parameters) => tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?
            .block_on(run(loaded.workflow, parameters)),
        Err(found) => Ok(refused(&found)),
    }
}

fn any_of(kind: ValueType) -> Value {
    match kind {
        ValueType::String | ValueType::Any => "unset".into(),
        ValueType::Integer | ValueType::Float => 1.into(),
        ValueType::Boolean => true.into(),
        ValueType::Array => Vec::<Value>::new().into(),
        ValueType::Object => Object::new().into(),
    }
}

async fn run(workflow: Arc<Workflow>, parameters: Vec<Value>) -> Fallible<String> {
    let registry = ResilienceRegistry::builder().defaults(Policy::none()).clock(Clock::tokio()).build()?;
    let mut builder = Engine::builder()
        .registry(Arc::new(registry))
        .clock(Arc::new(TokioClock::starting_at(Timestamp::from_unix_millis(1_704_067_200_000))));
    for action in &workflow.actions {
        if let ActionKind::Effect { effect, .. } = &action.kind {
            builder = builder.handler(effect.clone(), Arc::new(Nobody));
        }
    }
    let engine = builder.build();
    let seen = Arc::new(Seen(Mutex::new(History::new(Arc::clone(&workflow)))));
    let watcher = Arc::clone(&seen) as Arc<dyn Watcher>;
    let request = RunRequest::manual(workflow, parameters, Some(Object::new().into()));
    let runs = match engine.start(request, Some(&watcher)) {
        Ok(Started::Runs(runs)) => runs,
        Ok(_) => return Ok("held by a condition".to_owned()),
        Err(error) => return Ok(format!("not started: {error}")),
    };
    let [mut run] = <[_; 1]>::try_from(runs).map_err(|runs| format!("{} runs started", runs.len()))?;
    let Ok(report) = tokio::time::timeout(PATIENCE, run.ended()).await else {
        return Ok(FOR_EVER.to_owned());
    };
    let report = report.ok_or("the run stopped without a result")?;
    engine.shut_down().await;
    let history = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut end = report.status.as_str().to_owned();
    for failed in failures(&history) {
        end = format!("{end}, {failed}");
    }
    Ok(end)
}

/// The actions that failed, except those that failed only because an inner action did, with their codes.
fn failures(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for action in &history.workflow().actions {
        let failed = history.occurrences(action.index).iter().find(|one| one.status == Some(Status::Failed));
        if let Some(failed) = failed.filter(|failed| &*failed.code != "ActionFailed") {
            let code = failed.error.as_ref().map_or(&failed.code, |error| &error.code);
            found.push(format!("{} {code}", action.name));
        }
    }
    found
}

/// Records the history of the run.
struct Seen(Mutex<History>);

impl Watcher for Seen {
    fn events(&self, _: &RunState, events: &[Event]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }
}

/// A handler whose calls all fail.
struct Nobody;

impl ActionHandler for Nobody {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let message = format!("The service of '{}' refused the connection.", call.definition().name);
        let outcome = Outcome::failed(CODE, ErrorInfo::new(CODE, message));
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        Box::pin(async move { EffectResult::Done { outcome, hint } })
    }
}
