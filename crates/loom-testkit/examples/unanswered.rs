//! Runs every definition of a corpus that needs nothing but the language itself, with nobody there to answer its calls:
//! `unanswered CORPUS_DIR`.
//!
//! Each must come to an end all the same: the one that `conformance/corpus/unanswered.json` names, with the actions
//! that fail by themselves on the way, or the refusal that stands there. Time is virtual, so retries and waits cost
//! none. The trigger gives an empty object. Parameters without a value, and settings of the app, are given one that
//! only has the right type. Every call fails as a connection does that is refused, which a retry policy tries again.
//! Exits with 1 if a definition ends otherwise, or the corpus has others than the file.
//!
//! The definitions that need connectors, other workflows or scripts are run in the same way. They may end as they like, but
//! they must end; how many end how is printed.

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

/// What a call of a service that nobody runs fails with.
const CODE: &str = "ServiceTemporarilyUnavailable";

/// A run that takes longer, in virtual time, waits for something that never comes.
const PATIENCE: Duration = Duration::from_hours(400 * 24);

/// How such a run is reported.
const FOR_EVER: &str = "it waits for ever";

fn main() -> Fallible<ExitCode> {
    let folder = std::env::args().nth(1).ok_or("usage: unanswered CORPUS_DIR")?;
    let folder = Path::new(&folder);
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/corpus/unanswered.json");
    let expected = Value::parse_json(&fs::read(expected)?)?;
    let mut expected: BTreeMap<String, String> = expected
        .as_object()
        .ok_or("unanswered.json holds an object")?
        .iter()
        .map(|(name, end)| (name.to_string(), end.text().into_owned()))
        .collect();
    let (mut passed, mut failed) = (0, 0);
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for line in fs::read_to_string(folder.join("index.jsonl"))?.lines() {
        let entry = Value::from_json_str(line)?;
        let file = entry.get("file").and_then(Value::as_str).ok_or("an entry names no file")?;
        let name = file.trim_end_matches(".json").rsplit('-').next().unwrap_or_default();
        let end = end_of(&folder.join(file))?;
        if entry.get("tier").and_then(Value::as_str) != Some("builtin") {
            if end == FOR_EVER {
                failed += 1;
                println!("FAILED  {name}: {end}");
            }
            let kind = end.split([',', ':']).next().unwrap_or_default();
            *others.entry(kind.to_owned()).or_default() += 1;
            continue;
        }
        let wanted = expected.remove(name).unwrap_or_else(|| "nothing: it is not in the list".to_owned());
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
        println!("FAILED  {name}: the corpus does not have it");
    }
    for (end, count) in &others {
        println!("others: {count} {end}");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a definition ends: its run's status, or `refused` with the codes of its errors.
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

/// The actions that failed by themselves, and not because one inside them did, with their codes.
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

/// Keeps the history of the one run.
struct Seen(Mutex<History>);

impl Watcher for Seen {
    fn events(&self, _: &RunState, events: &[Event]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }
}

/// A world in which nobody listens.
struct Nobody;

impl ActionHandler for Nobody {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let message = format!("Nobody answers the call of '{}'.", call.definition().name);
        let outcome = Outcome::failed(CODE, ErrorInfo::new(CODE, message));
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        Box::pin(async move { EffectResult::Done { outcome, hint } })
    }
}
