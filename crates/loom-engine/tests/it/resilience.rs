//! Resilience of actions: retries, circuit breakers of services, rate limits; in paused time.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, Status};
use loom_engine::{
    RunRequest, Started, Watcher,
    event::{EffectResult, Event, Next, Note, RetryHint},
    history::History,
};
use loom_resilience::{Clock, Policy, ResilienceRegistry};

use crate::support::{Service, engine, ok, play_with, run, unavailable, workflow};

pub(crate) fn registry() -> Arc<ResilienceRegistry> {
    let registry = ResilienceRegistry::builder().defaults(Policy::none()).clock(Clock::tokio()).build();
    Arc::new(registry.expect("no policy, no contradiction"))
}

#[test]
fn retry_with_the_loom_spelling_counts_the_first_call() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "url": "http://s"}, "runAfter": {},
             "retryPolicy": {"maxAttempts": 3, "initialDelay": 500, "backoffMultiplier": 2, "jitter": false}}}"#,
    );
    let mut calls = 0;
    let played = play_with(&workflow, |_| {
        calls += 1;
        if calls < 3 { unavailable() } else { ok("{}") }
    });
    assert_eq!((calls, played.status), (3, Some(RunStatus::Succeeded)));
    assert_eq!(waits(&played), [500, 1_000]);
}

/// Milliseconds between the attempts of `Call`.
fn waits(played: &crate::support::Played) -> Vec<i64> {
    let attempts = &played.history.occurrences(played.action("Call"))[0].attempts;
    let waits = attempts
        .iter()
        .filter_map(|attempt| Some(attempt.next_due?.unix_millis() - attempt.ended?.unix_millis()));
    waits.collect()
}

#[test]
fn retry_after_replaces_the_wait_of_the_language_and_extends_that_of_loom() {
    for (policy, asked, expected) in [
        (
            r#""inputs": {"uri": "http://s", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT10S"}}"#,
            3,
            3,
        ),
        (
            r#""inputs": {"uri": "http://s", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT10S"}}"#,
            30,
            30,
        ),
        (
            r#""inputs": {"uri": "http://s", "retryPolicy": {"type": "exponential", "count": 1, "interval": "PT9S"}}"#,
            1,
            1,
        ),
        (r#""inputs": {"url": "http://s"}, "retryPolicy": {"maxAttempts": 2, "initialDelay": 10000}"#, 3, 10),
        (
            r#""inputs": {"url": "http://s"}, "retryPolicy": {"maxAttempts": 2, "initialDelay": 10000}"#,
            30,
            30,
        ),
    ] {
        let workflow = workflow(&format!(r#"{{"Call": {{"type": "Http", {policy}, "runAfter": {{}}}}}}"#));
        let played = play_with(&workflow, |_| {
            let EffectResult::Done { outcome, hint } = unavailable() else {
                panic!("the call has not ended")
            };
            EffectResult::Done {
                outcome,
                hint: RetryHint { after: Some(Duration::from_secs(asked)), ..hint },
            }
        });
        assert_eq!(waits(&played), [expected * 1_000], "{policy}, asked for {asked} s");
    }
}

#[test]
fn only_listed_errors_are_retried() {
    let text = |errors: &str| {
        format!(
            r#"{{"Call": {{"type": "Http", "inputs": {{"method": "GET", "url": "http://s"}}, "runAfter": {{}},
                 "retryPolicy": {{"maxAttempts": 4, "initialDelay": 10, "retryableErrors": {errors}}}}}}}"#
        )
    };
    for (errors, expected) in
        [(r#"["503"]"#, 4), (r#"["5xx"]"#, 4), (r#"["not there"]"#, 4), (r#"["ETIMEDOUT"]"#, 1)]
    {
        let mut calls = 0;
        play_with(&workflow(&text(errors)), |_| {
            calls += 1;
            unavailable()
        });
        assert_eq!(calls, expected, "{errors}");
    }
}

#[test]
fn the_default_of_the_language_retries_four_times_within_its_bands() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}"#,
    );
    let mut calls = 0;
    let played = play_with(&workflow, |_| {
        calls += 1;
        unavailable()
    });
    assert_eq!((calls, played.status_of("Call")), (5, Some(Status::Failed)));
    let attempts = &played.history.occurrences(played.action("Call"))[0].attempts;
    let bands = [(5_000, 7_000), (7_000, 14_000), (14_000, 28_000), (28_000, 56_000)];
    for (attempt, (low, high)) in attempts.iter().zip(bands) {
        let wait = attempt.next_due.unwrap().unix_millis() - attempt.ended.unwrap().unix_millis();
        assert!((low..=high).contains(&wait), "{wait} is not in {low}..={high}");
    }
}

#[test]
fn the_same_seed_yields_the_same_waits() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}"#,
    );
    let ends = |played: crate::support::Played| played.simulation.now();
    assert_eq!(ends(play_with(&workflow, |_| unavailable())), ends(play_with(&workflow, |_| unavailable())));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_rejects_calls_of_its_service_only() {
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let call = |name: &str, uri: &str, after: &str| {
        format!(
            r#""{name}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{uri}", "retryPolicy": {{"type": "none"}}}},
                 "circuitBreaker": {{"failureThreshold": 3, "timeout": 60000}}, "runAfter": {after}}}"#
        )
    };
    let mut actions = Vec::new();
    for index in 0..5 {
        let after = match index {
            0 => "{}".to_owned(),
            _ => format!(r#"{{"A{}": ["Failed"]}}"#, index - 1),
        };
        actions.push(call(&format!("A{index}"), "http://down", &after));
    }
    actions.push(call("Other", "http://other", r#"{"A4": ["Failed"]}"#));
    let workflow = workflow(&format!("{{{}}}", actions.join(",")));
    let history = Arc::new(Recorder::new(&workflow));
    let watcher: Arc<dyn Watcher> = Arc::clone(&history) as Arc<dyn Watcher>;
    let engine = engine(&service).registry(registry()).build();
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run started") };
    runs[0].ended().await.expect("it ends");
    // Three failures open the circuit of `http://down`; two calls are rejected; the other service is called.
    assert_eq!(service.count(), 4);
    engine.shut_down().await;
    let history = history.0.lock().unwrap();
    let code = |name: &str| history.occurrences(workflow.find_action(name).unwrap())[0].code.to_string();
    assert_eq!(code("A2"), "ServiceUnavailable");
    assert_eq!(code("A3"), "CircuitBreakerOpen");
    let error = history.occurrences(workflow.find_action("A3").unwrap())[0].error.clone().unwrap();
    assert!(error.message.contains("Circuit breaker [http://down] is OPEN"), "{}", error.message);
    let third = &history.occurrences(workflow.find_action("A2").unwrap())[0].attempts[0];
    assert!(
        third.notes.iter().any(|note| matches!(note, Note::Breaker { to, .. } if to == "Open")),
        "{:?}",
        third.notes
    );
}

#[tokio::test(start_paused = true)]
async fn a_limiter_spaces_calls_and_each_attempt_takes_a_permit() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let actions: Vec<String> = (0..5)
        .map(|index| {
            format!(
                r#""A{index}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}},
                     "rateLimit": {{"requests": 3, "per": "second"}}, "runAfter": {{}}}}"#
            )
        })
        .collect();
    let workflow = workflow(&format!("{{{}}}", actions.join(",")));
    let engine = engine(&service).registry(registry()).build();
    let began = tokio::time::Instant::now();
    let report = run(&engine, &workflow).await;
    assert_eq!(report.status, RunStatus::Succeeded);
    let mut at: Vec<u128> =
        service.calls.lock().unwrap().iter().map(|(_, at)| at.duration_since(began).as_millis()).collect();
    at.sort_unstable();
    assert_eq!(&at[..3], [0, 0, 0]);
    assert!((333..=336).contains(&at[3]), "{at:?}");
    assert!((666..=669).contains(&at[4]), "{at:?}");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn policies_apply_to_actions_that_the_engine_executes_itself() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let workflow = workflow(
        r#"{"Each": {"type": "Foreach", "foreach": "@createArray(1, 2, 3, 4, 5)", "operationOptions": "Sequential", "runAfter": {},
             "actions": {"Spaced": {"type": "Compose", "inputs": "@items('Each')", "runAfter": {},
                "rateLimit": {"requests": 3, "per": "second"}}}}}"#,
    );
    let engine = engine(&service).registry(registry()).build();
    let began = tokio::time::Instant::now();
    let report = run(&engine, &workflow).await;
    assert_eq!(report.status, RunStatus::Succeeded);
    let took = began.elapsed().as_millis();
    assert!((666..=670).contains(&took), "{took}");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_failures_of_actions_that_the_engine_executes_itself() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let workflow = workflow(
        r#"{"Each": {"type": "Foreach", "foreach": "@createArray(1, 2, 3, 4, 5)", "operationOptions": "Sequential", "runAfter": {},
             "actions": {"Bad": {"type": "Compose", "inputs": "@int('no')", "runAfter": {},
                "circuitBreaker": {"name": "own", "failureThreshold": 2}}}}}"#,
    );
    let recorder = Arc::new(Recorder::new(&workflow));
    let watcher: Arc<dyn Watcher> = Arc::clone(&recorder) as Arc<dyn Watcher>;
    let engine = engine(&service).registry(registry()).build();
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run started") };
    runs[0].ended().await.expect("it ends");
    engine.shut_down().await;
    let history = recorder.0.lock().unwrap();
    let bad = history.occurrences(workflow.find_action("Bad").unwrap());
    let codes: Vec<&str> = bad.iter().map(|occurrence| occurrence.code.as_ref()).collect();
    assert_eq!(
        codes,
        ["BadRequest", "BadRequest", "CircuitBreakerOpen", "CircuitBreakerOpen", "CircuitBreakerOpen"]
    );
}

#[tokio::test(start_paused = true)]
async fn all_four_on_one_action() {
    let service =
        Service::new(|_, number| (Duration::ZERO, if number < 3 { unavailable() } else { ok("{}") }));
    let workflow = workflow(
        r#"{"All": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "timeout": 10000, "runAfter": {},
             "retryPolicy": {"maxAttempts": 3, "initialDelay": 500},
             "rateLimit": {"requests": 5, "per": "second"},
             "circuitBreaker": {"failureThreshold": 5, "timeout": 30000}}}"#,
    );
    let engine = engine(&service).registry(registry()).build();
    let report = run(&engine, &workflow).await;
    assert_eq!((report.status, service.count()), (RunStatus::Succeeded, 3));
    // Each attempt took a permit.
    let status = engine.registry().list();
    assert_eq!(status.len(), 1);
    engine.shut_down().await;
}

#[test]
fn a_wait_is_an_event_and_outlives_the_process() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}"#,
    );
    let played = play_with(&workflow, |_| unavailable());
    let retries = played
        .simulation
        .events()
        .iter()
        .filter(|event| matches!(event, Event::AttemptEnded { next: Next::Retry { .. }, .. }))
        .count();
    let timers =
        played.simulation.events().iter().filter(|event| matches!(event, Event::TimerSet { .. })).count();
    assert_eq!((retries, timers), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_circuit_is_recorded_once() {
    let service = Service::new(|_, _| (Duration::from_millis(10), unavailable()));
    let workflow = workflow(
        r#"{"Ask": {"type": "Http", "runAfter": {}, "circuitBreaker": {"failureThreshold": 3},
            "inputs": {"method": "GET", "uri": "http://down", "retryPolicy": {"type": "none"}}}}"#,
    );
    let engine = engine(&service).registry(registry()).build();
    let mut runs = Vec::new();
    // Twenty calls are in flight when the third failure opens the circuit.
    for _ in 0..20 {
        let history = Arc::new(Recorder::new(&workflow));
        let watcher: Arc<dyn Watcher> = Arc::clone(&history) as Arc<dyn Watcher>;
        let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
        let Ok(Started::Runs(mut started)) = engine.start(request, Some(&watcher)) else {
            panic!("no run started")
        };
        runs.push((started.remove(0), history));
    }
    let mut told = Vec::new();
    for (run, history) in &mut runs {
        run.ended().await.expect("it ends");
        let history = history.0.lock().unwrap();
        let attempts = &history.occurrences(workflow.find_action("Ask").unwrap())[0].attempts;
        told.extend(attempts.iter().flat_map(|attempt| attempt.notes.clone()));
    }
    assert_eq!(service.count(), 20);
    assert!(
        matches!(&told[..], [Note::Breaker { from, to, .. }] if from == "Closed" && to == "Open"),
        "{told:?}"
    );
    engine.shut_down().await;
}

/// Records the history of the runs that it watches.
struct Recorder(std::sync::Mutex<History>);

impl Recorder {
    fn new(workflow: &Arc<loom_definition::Workflow>) -> Recorder {
        Recorder(std::sync::Mutex::new(History::new(Arc::clone(workflow))))
    }
}

impl Watcher for Recorder {
    fn events(&self, _: &loom_engine::RunState, events: &[Event]) {
        self.0.lock().unwrap().extend(events);
    }
}
