//! Guards together with timeouts and retries: which clock decides, how a circuit affects the next attempt, and which settings a
//! service has. In paused time.

use std::{sync::Arc, time::Duration};

use loom_definition::RunStatus;
use loom_engine::Engine;
use loom_resilience::{CircuitState, RegistrySnapshot, ResilienceRegistry};
use loom_store::{MemoryStore, Store};

use crate::{
    resilience::registry,
    support::{Service, engine, ok, run, unavailable, workflow},
};

fn guarded(service: &Arc<Service>, registry: &Arc<ResilienceRegistry>) -> Engine {
    engine(service).registry(Arc::clone(registry)).build()
}

/// An Http action that takes one second, with a timeout of 200 ms, guarded by `guard`, and an action that runs after its timeout.
fn slow_call(guard: &str) -> String {
    format!(
        r#"{{"Call": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://slow", "retryPolicy": {{"type": "none"}}}},
                "timeout": 200, {guard}, "runAfter": {{}}}},
            "Clean_up": {{"type": "Compose", "inputs": "cleaned up", "runAfter": {{"Call": ["TimedOut"]}}}}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_guarded_action_always_ends_as_timed_out_and_is_counted() {
    for guard in [
        r#""rateLimit": {"requests": 1000}"#,
        r#""bulkhead": {"maxConcurrent": 5}"#,
        r#""circuitBreaker": {"failureThreshold": 4}"#,
        r#""circuitBreaker": {"failureThreshold": 4, "name": "b"}, "rateLimit": {"requests": 1000, "name": "r"}, "bulkhead": {"maxConcurrent": 5, "name": "k"}"#,
    ] {
        let service = Service::new(|_, _| (Duration::from_secs(1), ok("{}")));
        let registry = registry();
        let engine = guarded(&service, &registry);
        for round in 1..=4 {
            let report = run(&engine, &workflow(&slow_call(guard))).await;
            assert_eq!(report.status, RunStatus::Succeeded, "{guard}, round {round}: {report:?}");
        }
        if guard.contains("circuitBreaker") {
            let list = registry.list();
            let breaker =
                list.iter().find(|status| matches!(status.name.as_str(), "b" | "http://slow")).unwrap();
            assert_eq!(breaker.breaker.state, CircuitState::Open, "{guard}: {breaker:?}");
            // Control: the next call is rejected, so the action fails instead of timing out.
            let refused = run(&engine, &workflow(&slow_call(guard))).await;
            assert_eq!(refused.status, RunStatus::Failed, "{guard}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_that_times_out_in_a_queue_times_out() {
    let service = Service::new(|_, _| (Duration::from_secs(5), ok("{}")));
    let registry = registry();
    let engine = guarded(&service, &registry);
    let text = r#"{
        "First": {"type": "Http", "inputs": {"method": "GET", "uri": "http://slow", "retryPolicy": {"type": "none"}},
            "bulkhead": {"maxConcurrent": 1, "maxQueued": 5, "name": "one"}, "runAfter": {}},
"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {}},
                "Second": {"type": "Http", "inputs": {"method": "GET", "uri": "http://slow", "retryPolicy": {"type": "none"}}, "timeout": 200,
            "bulkhead": {"maxConcurrent": 1, "maxQueued": 5, "name": "one"}, "runAfter": {"Pause": ["Succeeded"]}},
        "Third": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1, "runAfter": {}}}, "timeout": 200,
            "bulkhead": {"maxConcurrent": 1, "maxQueued": 5, "name": "one"}, "runAfter": {"Pause": ["Succeeded"]}},
        "Clean_up": {"type": "Compose", "inputs": 1, "runAfter": {"First": ["Succeeded"], "Second": ["TimedOut"], "Third": ["TimedOut"]}}}"#;
    let report = run(&engine, &workflow(text)).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    assert_eq!(service.count(), 1, "a call that times out while it waits is not made");
    assert_eq!(registry.get("one").unwrap().bulkhead().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_circuit_that_its_own_failure_opened() {
    let service =
        Service::new(|_, number| (Duration::ZERO, if number < 4 { unavailable() } else { ok("{}") }));
    let registry = registry();
    let engine = guarded(&service, &registry);
    let text = r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {},
        "retryPolicy": {"maxAttempts": 4, "initialDelay": 100, "backoffMultiplier": 1},
        "circuitBreaker": {"failureThreshold": 3, "timeout": 700, "successThreshold": 1, "halfOpenRequests": 1}}}"#;
    let began = tokio::time::Instant::now();
    let report = run(&engine, &workflow(text)).await;
    assert_eq!((report.status, service.count()), (RunStatus::Succeeded, 4), "{report:?}");
    assert_eq!(began.elapsed().as_millis() / 100, 9, "two pauses of 100 ms, and 700 ms until half-open");
    assert_eq!(registry.get("http://s").unwrap().breaker().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_the_service_survives_the_circuit_that_it_opened() {
    let call = |policies: &str| {
        format!(
            r#"{{"Call": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "runAfter": {{}},
                "retryPolicy": {{"maxAttempts": 3, "initialDelay": 100, "backoffMultiplier": 1}}, {policies}}}}}"#
        )
    };
    let code = |report: &loom_engine::RunReport| {
        let error = report.error.as_ref().expect("it has failed");
        format!("{} {}", error.code, error.message)
    };
    // The circuit stays open beyond the action's deadline: it fails immediately, with the error of the service.
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let engine_ = guarded(&service, &registry());
    let began = tokio::time::Instant::now();
    let text = call(r#""timeout": 5000, "circuitBreaker": {"failureThreshold": 1, "timeout": 60000}"#);
    let report = run(&engine_, &workflow(&text)).await;
    assert_eq!((report.status, service.count()), (RunStatus::Failed, 1));
    assert!(began.elapsed() < Duration::from_secs(5));
    let alone = guarded(&Service::new(|_, _| (Duration::ZERO, unavailable())), &registry());
    let expected = run(&alone, &workflow(&call(r#""timeout": 5000"#))).await;
    assert_eq!(code(&report), code(&expected));

    // An operator has opened the circuit in the meantime: there is no wait.
    let shared = registry();
    let isolating = Arc::clone(&shared);
    let service = Service::new(move |_, _| {
        isolating.isolate("http://s").unwrap();
        (Duration::ZERO, unavailable())
    });
    let engine_ = guarded(&service, &shared);
    let began = tokio::time::Instant::now();
    let text = call(r#""circuitBreaker": {"failureThreshold": 9}"#);
    let report = run(&engine_, &workflow(&text)).await;
    assert_eq!((service.count(), code(&report)), (1, code(&expected)));
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());

    // The probe of another call keeps the circuit half-open: rejected attempts are not counted, and the action still ends with
    // the response of the service.
    let shared = registry();
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let engine_ = guarded(&service, &shared);
    let workflow = workflow(&call(
        r#""circuitBreaker": {"failureThreshold": 1, "timeout": 690, "successThreshold": 1, "halfOpenRequests": 1}"#,
    ));
    let probe = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let Some(service) = shared.get("http://s") else { continue };
            if let Ok(admission) = service.breaker().admit(service.clock().now())
                && admission.is_probe()
            {
                std::mem::forget(admission);
                return;
            }
        }
    };
    let ((), report) = tokio::join!(biased; probe, run(&engine_, &workflow));
    assert_eq!((service.count(), code(&report)), (1, code(&expected)));
}

#[tokio::test(start_paused = true)]
async fn workflows_with_the_same_definition_have_separate_services() {
    let text = r#"{"Scope": {"type": "Scope", "actions": {}, "rateLimit": {"requests": 1, "per": "hour", "maxWait": 0}, "runAfter": {}}}"#;
    let registry = registry();
    let engine = guarded(&Service::new(|_, _| (Duration::ZERO, ok("{}"))), &registry);
    let named = |name: &str| {
        let mut workflow = Arc::into_inner(workflow(text)).expect("there is no other reference");
        workflow.name = name.into();
        Arc::new(workflow)
    };
    for name in ["one", "other"] {
        assert_eq!(run(&engine, &named(name)).await.status, RunStatus::Succeeded, "{name}");
        assert_eq!(
            run(&engine, &named(name)).await.status,
            RunStatus::Failed,
            "{name} has used its permit up"
        );
    }
    let names: Vec<_> = registry.list().into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["one/Scope", "other/Scope"]);
}

/// A workflow `tick` whose only action is guarded by `guard`.
fn tick(guard: &str) -> Arc<loom_definition::Workflow> {
    let mut workflow = Arc::into_inner(workflow(&format!(
        r#"{{"Tick": {{"type": "Scope", "actions": {{}}, {guard}, "runAfter": {{}}}}}}"#
    )))
    .expect("there is no other reference");
    workflow.name = "tick".into();
    Arc::new(workflow)
}

#[tokio::test(start_paused = true)]
async fn the_last_deployment_wins_and_consumed_permits_stay() {
    let registry = registry();
    let engine = guarded(&Service::new(|_, _| (Duration::ZERO, ok("{}"))), &registry);
    let status = async |workflow: &Arc<_>| run(&engine, workflow).await.status;
    let old = tick(r#""rateLimit": {"requests": 1, "per": "hour", "maxWait": 0}"#);
    engine.deploy(Arc::clone(&old), Vec::new());
    assert_eq!(status(&old).await, RunStatus::Succeeded);
    assert_eq!(status(&old).await, RunStatus::Failed, "its hour is used up");

    let new = tick(r#""rateLimit": {"requests": 3, "per": "hour", "maxWait": 0}"#);
    engine.deploy(Arc::clone(&new), Vec::new());
    // Consumed permits count against the new limit, and the replaced version changes nothing any more.
    assert_eq!(status(&new).await, RunStatus::Succeeded);
    assert_eq!(status(&old).await, RunStatus::Succeeded);
    assert_eq!(status(&new).await, RunStatus::Failed, "one of three was taken before, and two since");
    let limits = registry.get("tick/Tick").unwrap().limiter().config().limits;
    assert_eq!(limits[0].permits, 3);

    // A setting that the next version does not have is removed; redeploying the old version restores it.
    let breaker = tick(r#""circuitBreaker": {"failureThreshold": 7}"#);
    engine.deploy(Arc::clone(&breaker), Vec::new());
    assert_eq!(status(&breaker).await, RunStatus::Succeeded);
    let policy = registry.get("tick/Tick").unwrap().policy();
    assert_eq!((policy.limiter, policy.breaker.unwrap().failure_threshold), (None, Some(7)));
    engine.deploy(Arc::clone(&old), Vec::new());
    status(&old).await;
    let policy = registry.get("tick/Tick").unwrap().policy();
    assert_eq!((policy.limiter.unwrap().limits[0].permits, policy.breaker), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_crash_does_not_restore_consumed_permits() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let text = r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}},
        "rateLimit": {"requests": 2, "per": "hour", "maxWait": 0, "name": "long"},
        "circuitBreaker": {"failureThreshold": 3, "name": "circuit"}, "runAfter": {}}}"#;
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let before = registry();
    let first = engine(&service).registry(Arc::clone(&before)).store(Arc::clone(&store)).build();
    for _ in 0..2 {
        assert_eq!(run(&first, &workflow(text)).await.status, RunStatus::Failed);
    }
    // The process has crashed without storing the registry.
    drop(first);
    let after = registry();
    let second = engine(&service).registry(Arc::clone(&after)).store(Arc::clone(&store)).build();
    second.recover(None).await.unwrap();
    second.restore_services(None).await.unwrap();
    assert_eq!(run(&second, &workflow(text)).await.status, RunStatus::Failed);
    assert_eq!(service.count(), 2, "the hour's two permits were spent before the crash");
    assert_eq!(after.get("circuit").unwrap().breaker().consecutive_failures(), 2);

    // A later snapshot of all services replaces what single calls have stored.
    after.reset("long").unwrap();
    after.reset("circuit").unwrap();
    let all = RegistrySnapshot::new(u64::MAX, Vec::new());
    let third = engine(&service).registry(registry()).store(Arc::clone(&store)).build();
    third.recover(None).await.unwrap();
    third.restore_services(Some(&all)).await.unwrap();
    run(&third, &workflow(text)).await;
    assert_eq!(service.count(), 3);
    // Deleted states are not restored.
    third.clear_stored_services().await.unwrap();
    let fourth = engine(&service).registry(registry()).store(store).build();
    fourth.recover(None).await.unwrap();
    fourth.restore_services(None).await.unwrap();
    run(&fourth, &workflow(text)).await;
    assert_eq!(service.count(), 4);
}
