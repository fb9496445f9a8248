//! Injected faults: innermost, noted, and the same under the same seed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, policy::ChaosPlan};
use loom_engine::{
    Engine, RunRequest, Started, Watcher,
    event::{Event, Note},
};

use crate::{
    resilience::registry,
    support::{Service, engine, ok, run, workflow},
};

fn plan(text: &str) -> Arc<ChaosPlan> {
    Arc::new(ChaosPlan::read(text).expect("the plan is valid"))
}

/// Records the notes of one run.
#[derive(Default)]
struct Notes(Mutex<Vec<Note>>);

impl Watcher for Notes {
    fn events(&self, _: &loom_engine::RunState, events: &[Event]) {
        let notes = events.iter().filter_map(|event| match event {
            Event::AttemptNoted { note, .. } => Some(note.clone()),
            _ => None,
        });
        self.0.lock().unwrap().extend(notes);
    }
}

/// Ten calls of one action, in order.
const TEN: &str = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 10)", "operationOptions": "Sequential", "runAfter": {},
    "actions": {"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}}, "runAfter": {}}}}}"#;

fn under(service: &Arc<Service>, text: &str) -> Engine {
    engine(service).registry(registry()).chaos(plan(text)).build()
}

async fn struck(text: &str) -> (usize, Vec<Note>) {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = under(&service, text);
    let notes = Arc::new(Notes::default());
    let watcher: Arc<dyn Watcher> = Arc::clone(&notes) as Arc<dyn Watcher>;
    let request = RunRequest::manual(workflow(TEN), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run started") };
    runs[0].ended().await.expect("it ends");
    engine.shut_down().await;
    let notes = notes.0.lock().unwrap().clone();
    (service.count(), notes)
}

#[tokio::test(start_paused = true)]
async fn a_run_under_a_seed_is_repeatable_and_each_fault_is_noted() {
    let half = |seed: u32| format!(r#"{{"seed": {seed}, "injections": [{{"kind": "fault", "rate": 0.5}}]}}"#);
    let (calls, notes) = struck(&half(1)).await;
    assert_eq!(calls + notes.len(), 10, "a fault replaces the call");
    assert!((1..10).contains(&notes.len()), "{}", notes.len());
    assert!(notes.iter().all(|note| matches!(note, Note::Injected { kind, .. } if kind == "fault")));
    // Another engine, another run id, the same faults.
    let again = struck(&half(1)).await;
    assert_eq!((calls, &notes), (again.0, &again.1));
    let mut counts: Vec<usize> = Vec::new();
    for seed in 2..8 {
        counts.push(struck(&half(seed)).await.0);
    }
    counts.dedup();
    assert!(counts.len() > 1, "other seeds strike other calls: {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn policies_see_injected_faults_as_those_of_the_service() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = under(
        &service,
        r#"{"injections": [{"kind": "outcome", "rate": 1, "statusCode": 503, "headers": {"Retry-After": "3"}, "attemptsMax": 2}]}"#,
    );
    let asks = workflow(
        r#"{"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {},
            "retryPolicy": {"maxAttempts": 3, "initialDelay": 1, "jitter": false}, "circuitBreaker": {"failureThreshold": 9}}}"#,
    );
    let began = tokio::time::Instant::now();
    assert_eq!(run(&engine, &asks).await.status, RunStatus::Succeeded, "the third attempt is not struck");
    assert_eq!((service.count(), began.elapsed().as_secs()), (1, 6), "the injected Retry-After is honoured");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn latency_runs_into_the_timeout_and_gates_limit_whom_it_strikes() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = under(
        &service,
        r#"{"injections": [{"kind": "latency", "rate": 1, "delay": "PT10S", "action": "slow"},
                           {"kind": "fault", "rate": 1, "service": "http://other"},
                           {"kind": "fault", "rate": 1, "workflow": "another"}]}"#,
    );
    let both = workflow(
        r#"{"Slow": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "timeout": 2000, "runAfter": {}},
            "Quick": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {"Slow": ["TimedOut"]}}}"#,
    );
    let began = tokio::time::Instant::now();
    assert_eq!(run(&engine, &both).await.status, RunStatus::Succeeded);
    assert_eq!((began.elapsed().as_secs(), service.count()), (2, 1));
    engine.shut_down().await;
}

#[test]
fn errors_of_the_plan_point_at_the_text() {
    for (text, marked) in [
        (r#"{"injections": [{"kind": "fault"}]}"#, r#"{"kind": "fault"}"#),
        (r#"{"injections": [{"kind": "fault", "rate": 2}]}"#, "2"),
        (r#"{"injections": [{"kind": "fautl", "rate": 1}]}"#, r#""fautl""#),
        (r#"{"injections": [{"kind": "latency", "rate": 1, "dleay": "PT1S"}]}"#, r#""dleay""#),
        (r#"{"injections": [{"kind": "outcome", "rate": 1, "statusCode": 99}]}"#, "99"),
        (r#"{"seed": -1}"#, "-1"),
    ] {
        let found = ChaosPlan::read(text).expect_err(text);
        assert!(
            found.0.iter().any(|found| found.code == "L0314" && &text[found.span.clone()] == marked),
            "{found:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_sent_twice_under_one_key_and_a_lost_response_fails_after_the_work() {
    let one = r#"{"Ask": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s", "retryPolicy": {"type": "none"}}, "runAfter": {}}}"#;
    let duplicate = r#"{"kind": "behaviour", "behaviour": "duplicate", "rate": 1}"#;
    let lose = r#"{"kind": "behaviour", "behaviour": "loseResponse", "rate": 1, "code": "Gone"}"#;
    for (injections, status, calls) in [
        (duplicate.to_owned(), RunStatus::Succeeded, 2),
        (lose.to_owned(), RunStatus::Failed, 1),
        (format!("{duplicate}, {lose}"), RunStatus::Failed, 2),
    ] {
        let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        let engine = under(&service, &format!(r#"{{"injections": [{injections}]}}"#));
        let notes = Arc::new(Notes::default());
        let watcher: Arc<dyn Watcher> = Arc::clone(&notes) as Arc<dyn Watcher>;
        let request = RunRequest::manual(workflow(one), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run") };
        assert_eq!(runs[0].ended().await.expect("it ends").status, status, "{injections}");
        assert_eq!(service.by_key().into_values().collect::<Vec<_>>(), [calls], "{injections}");
        let notes = std::mem::take(&mut *notes.0.lock().unwrap());
        let is_noted = |note: &Note| matches!(note, Note::Injected { kind, .. } if kind == "behaviour");
        assert!(!notes.is_empty() && notes.iter().all(is_noted), "{notes:?}");
        engine.shut_down().await;
    }
}
