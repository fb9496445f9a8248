//! Helpers of the tests: loading definitions, starting and simulating runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, Definition, LoadOptions, RunStatus, Status, Workflow, model::EffectKind};
use loom_engine::{
    Engine, EngineBuilder, Environment, RunId, RunReport, RunRequest, RunStart,
    clock::TokioClock,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    history::History,
    ports::{ActionHandler, Call, CallFuture},
    simulate::Simulation,
    trace::TraceParent,
};
use loom_expression::{Object, Timestamp, Value};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(NOW_MS)
}

/// Loads a definition of the given actions, with a Request trigger.
pub(crate) fn workflow(actions: &str) -> Arc<Workflow> {
    load(&format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#))
}

pub(crate) fn load(text: &str) -> Arc<Workflow> {
    match Definition::parse(text.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => loaded.workflow,
        Err(diagnostics) => panic!("the definition does not load: {diagnostics}"),
    }
}

pub(crate) fn start(seed: u64) -> Arc<RunStart> {
    Arc::new(RunStart {
        run: RunId::MIN,
        seed,
        parameters: Vec::new(),
        trigger: Value::from(Object::new()),
        workflow: Value::from(Object::new()),
        tracking_id: Arc::from("test"),
        wants_response: false,
        trace: traced(seed),
        depth: (seed % 3) as u8,
    })
}

/// Some runs have a caller with a trace context, so that runs are tested with and without one.
fn traced(seed: u64) -> Option<TraceParent> {
    let state = seed.is_multiple_of(3).then_some("vendor=opaque");
    let parent = format!("00-{:032x}-{:016x}-0{}", u128::from(seed) << 80 | 1, seed | 1, seed & 1);
    (!seed.is_multiple_of(4)).then(|| TraceParent::parse(&parent, state).unwrap())
}

/// A finished simulated run.
pub(crate) struct Played {
    pub(crate) status: Option<RunStatus>,
    pub(crate) history: History,
    pub(crate) simulation: Simulation,
}

/// Simulates a workflow whose calls are made by `answer`.
pub(crate) fn play_with(workflow: &Arc<Workflow>, answer: impl FnMut(&Call) -> EffectResult) -> Played {
    let mut simulation = Simulation::new(Arc::clone(workflow), Arc::new(Environment::default()), now());
    let status = simulation.play(start(7), 100_000, answer);
    let mut history = History::new(Arc::clone(workflow));
    history.extend(simulation.events());
    Played { status, history, simulation }
}

pub(crate) fn play(actions: &str) -> Played {
    play_with(&workflow(actions), |call| panic!("unexpected call of {:?}", call.definition().name))
}

impl Played {
    pub(crate) fn action(&self, name: &str) -> ActionIdx {
        self.history.workflow().find_action(name).unwrap_or_else(|| panic!("there is no action {name}"))
    }

    pub(crate) fn status_of(&self, name: &str) -> Option<Status> {
        self.history.status_of(self.action(name))
    }

    pub(crate) fn outputs(&self, name: &str) -> Value {
        let occurrences = self.history.occurrences(self.action(name));
        occurrences.last().and_then(|last| last.outputs.clone()).unwrap_or_default()
    }

    pub(crate) fn code(&self, name: &str) -> String {
        let occurrences = self.history.occurrences(self.action(name));
        occurrences.last().map(|last| last.code.to_string()).unwrap_or_default()
    }

    /// The message of the action's error.
    pub(crate) fn message(&self, name: &str) -> String {
        let occurrences = self.history.occurrences(self.action(name));
        let error = occurrences.last().and_then(|last| last.error.as_ref());
        error.map(|error| error.message.clone()).unwrap_or_default()
    }

    pub(crate) fn times(&self, name: &str) -> usize {
        self.history.occurrences(self.action(name)).len()
    }
}

pub(crate) fn json(text: &str) -> Value {
    Value::from_json_str(text).expect("the JSON of the test is valid")
}

pub(crate) fn ok(text: &str) -> EffectResult {
    EffectResult::Done { outcome: Outcome::ok(Some(json(text))), hint: RetryHint::default() }
}

/// A transient failure.
pub(crate) fn unavailable() -> EffectResult {
    let error = ErrorInfo::new("ServiceUnavailable", "the service is not there");
    let mut outcome = Outcome::failed("ServiceUnavailable", error);
    outcome.outputs = Some(json(r#"{"statusCode": 503}"#));
    EffectResult::Done { outcome, hint: RetryHint { transient: true, ..RetryHint::default() } }
}

type Answer = dyn Fn(&Call, u32) -> (Duration, EffectResult) + Send + Sync;

/// A service in memory: counts calls by idempotency key, and responds after a delay.
pub(crate) struct Service {
    answer: Box<Answer>,
    pub(crate) calls: std::sync::Mutex<Vec<(String, tokio::time::Instant)>>,
}

impl Service {
    pub(crate) fn new(
        answer: impl Fn(&Call, u32) -> (Duration, EffectResult) + Send + Sync + 'static,
    ) -> Arc<Service> {
        Arc::new(Service { answer: Box::new(answer), calls: std::sync::Mutex::default() })
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(crate) fn by_key(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for (key, _) in self.calls.lock().unwrap().iter() {
            *counts.entry(key.clone()).or_insert(0) += 1;
        }
        counts
    }
}

impl ActionHandler for Service {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push((call.idempotency_key.to_string(), tokio::time::Instant::now()));
            calls.len() as u32
        };
        let (wait, result) = (self.answer)(call, number);
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            result
        })
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        inputs.get("uri").and_then(Value::as_str).map(Arc::from)
    }
}

/// An engine in paused time whose HTTP actions call `service`. Breakers and limiters use the same clock.
pub(crate) fn engine(service: &Arc<Service>) -> EngineBuilder {
    Engine::builder()
        .clock(Arc::new(TokioClock::starting_at(now())))
        .handler(EffectKind::Http, Arc::clone(service) as Arc<dyn ActionHandler>)
}

pub(crate) async fn run(engine: &Engine, workflow: &Arc<Workflow>) -> Arc<RunReport> {
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    engine.run(request).await.expect("it starts").expect("it ends")
}
