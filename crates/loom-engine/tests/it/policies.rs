//! Named policies, modes, fallbacks, hedges and learned limits, in paused time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{LoadOptions, RunStatus, Status, Surroundings, Workflow, policy::Policies};
use loom_engine::{
    Engine, Environment, PolicyBook, RunRequest, Started, Watcher,
    event::{EffectResult, Event, Note, RetryHint},
    history::History,
};
use loom_resilience::{Clock, Event as ServiceEvent, Learned, Policy, ResilienceRegistry};

use crate::{
    resilience::registry,
    support::{Service, engine, json, ok, run, unavailable},
};

fn policies(text: &str) -> Arc<Policies> {
    Arc::new(Policies::read(text).expect("the file is valid"))
}

fn load(policies: &Arc<Policies>, actions: &str) -> Arc<Workflow> {
    let surroundings = Surroundings { policies: Some(Arc::clone(policies)), ..Surroundings::default() };
    let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#);
    surroundings
        .load(text.as_bytes(), &LoadOptions::default())
        .expect("the definition is valid")
        .loaded
        .workflow
}

fn with(service: &Arc<Service>, policies: &Arc<Policies>) -> Engine {
    let environment =
        Environment { policies: PolicyBook::new(Arc::clone(policies)), ..Environment::default() };
    engine(service).environment(environment).registry(registry()).build()
}

/// Records the history of one run.
struct Recorder(Mutex<History>);

impl Watcher for Recorder {
    fn events(&self, _: &loom_engine::RunState, events: &[Event]) {
        self.0.lock().unwrap().extend(events);
    }
}

async fn recorded(engine: &Engine, workflow: &Arc<Workflow>) -> History {
    let recorder = Arc::new(Recorder(Mutex::new(History::new(Arc::clone(workflow)))));
    let watcher: Arc<dyn Watcher> = Arc::clone(&recorder) as Arc<dyn Watcher>;
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run started") };
    runs[0].ended().await.expect("it ends");
    drop(watcher);
    let history = recorder.0.lock().unwrap();
    history.clone()
}

const PAY: &str = r#"{"Pay": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "policy": "billing", "runAfter": {}}}"#;

#[tokio::test(start_paused = true)]
async fn an_action_takes_retries_and_guards_from_its_policy() {
    let policies = policies(
        r#"{"defaults": {"retryPolicy": {"maxAttempts": 2, "initialDelay": 10}},
            "services": {"billing": {"circuitBreaker": {"failureThreshold": 2, "timeout": "PT1H"}}}}"#,
    );
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let workflow = load(&policies, PAY);
    let engine = with(&service, &policies);
    assert_eq!(run(&engine, &workflow).await.status, RunStatus::Failed);
    assert_eq!(service.count(), 2, "two attempts, by the defaults");
    // The circuit belongs to the policy, whatever the address.
    let other = PAY.replace("http://s", "http://t").replace("Pay", "Refund");
    let other = other.replace(r#""policy""#, r#""retryPolicy": {"type": "none"}, "policy""#);
    let other = load(&policies, &other);
    let history = recorded(&engine, &other).await;
    assert_eq!(service.count(), 2, "the circuit is open for all actions of the policy");
    let refund = &history.occurrences(other.find_action("Refund").unwrap())[0];
    assert_eq!(refund.code, "CircuitBreakerOpen");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_action_that_overrides_a_guard_has_its_own_state() {
    let policies = policies(r#"{"services": {"billing": {"circuitBreaker": {"failureThreshold": 1}}}}"#);
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let own = PAY.replace(
        r#""policy""#,
        r#""circuitBreaker": {"failureThreshold": 9}, "retryPolicy": {"type": "none"}, "policy""#,
    );
    let engine = with(&service, &policies);
    for _ in 0..3 {
        run(&engine, &load(&policies, &own)).await;
    }
    assert_eq!(service.count(), 3, "three failures open the action's circuit only after nine");
    let names: Vec<String> = engine.registry().list().into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["billing/workflow/Pay"]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn observe_lets_calls_pass_and_reports_what_it_would_refuse() {
    let policies = policies(
        r#"{"services": {"billing": {"mode": "observe", "circuitBreaker": {"failureThreshold": 1, "timeout": "PT1H"},
            "rateLimit": {"requests": 1, "per": "hour", "maxWait": 0}, "retryPolicy": {"type": "none"}}}}"#,
    );
    let observed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&observed);
    let registry = ResilienceRegistry::builder()
        .defaults(Policy::none())
        .clock(Clock::tokio())
        .observer(Arc::new(move |event: &ServiceEvent<'_>| seen.lock().unwrap().extend(event.observed())));
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let environment =
        Environment { policies: PolicyBook::new(Arc::clone(&policies)), ..Environment::default() };
    let engine =
        engine(&service).environment(environment).registry(Arc::new(registry.build().unwrap())).build();
    let workflow = load(&policies, PAY);
    for _ in 0..3 {
        run(&engine, &workflow).await;
    }
    assert_eq!(service.count(), 3, "nothing is refused");
    let mut parts: Vec<&str> = observed.lock().unwrap().iter().map(|part| part.as_str()).collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts, ["breaker", "limiter"]);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_policies_keeps_what_was_consumed_and_the_open_circuit() {
    let first = policies(
        r#"{"services": {"billing": {"rateLimit": {"requests": 2, "per": "hour", "maxWait": 0},
            "retryPolicy": {"type": "none"}}}}"#,
    );
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = with(&service, &first);
    let workflow = load(&first, PAY);
    engine.deploy(Arc::clone(&workflow), Vec::new());
    run(&engine, &workflow).await;
    run(&engine, &workflow).await;
    assert_eq!(run(&engine, &workflow).await.status, RunStatus::Failed, "the limit is used up");

    let raised = policies(
        r#"{"services": {"billing": {"rateLimit": {"requests": 3, "per": "hour", "maxWait": 0},
            "retryPolicy": {"type": "none"}}}}"#,
    );
    let changed = engine.replace_policies(raised).expect("the policy stays");
    assert_eq!(changed.iter().map(|name| &**name).collect::<Vec<_>>(), ["billing"]);
    // The same workflow, loaded before the change, has one call more and not three.
    assert_eq!(run(&engine, &workflow).await.status, RunStatus::Succeeded);
    assert_eq!(run(&engine, &workflow).await.status, RunStatus::Failed);

    let gone = engine.replace_policies(policies(r#"{"services": {}}"#)).expect_err("it is in use");
    assert_eq!((&*gone.policy, &*gone.action), ("billing", "Pay"));
    assert!(engine.policies().contains("billing"), "nothing has changed");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_takes_the_place_of_a_failure_and_the_history_shows_both() {
    let none = Arc::new(Policies::default());
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let workflow = load(
        &none,
        r#"{"Price": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}},
              "fallback": {"body": {"price": 0, "because": "@action()['code']"}}, "runAfter": {}},
            "Use": {"type": "Compose", "inputs": "@body('Price')", "runAfter": {"Price": ["Succeeded"]}},
            "Alarm": {"type": "Compose", "inputs": 1, "runAfter": {"Price": ["Failed"]}}}"#,
    );
    let engine = with(&service, &none);
    let history = recorded(&engine, &workflow).await;
    let price = history.occurrences(workflow.find_action("Price").unwrap())[0].clone();
    assert_eq!((price.status, price.code.as_ref()), (Some(Status::Succeeded), "Fallback"));
    let attempt = price.attempts[0].outcome.as_ref().expect("the attempt has ended");
    assert_eq!((attempt.status, attempt.code.as_ref()), (Status::Failed, "ServiceUnavailable"));
    let use_ = history.occurrences(workflow.find_action("Use").unwrap())[0].clone();
    assert_eq!(use_.outputs, Some(json(r#"{"price": 0, "because": "ServiceUnavailable"}"#)));
    let alarm = history.occurrences(workflow.find_action("Alarm").unwrap())[0].clone();
    assert_eq!(alarm.status, Some(Status::Skipped), "others see a success");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_only_replaces_what_it_names_and_a_timeout_still_counts_for_the_circuit() {
    let none = Arc::new(Policies::default());
    let service = Service::new(|_, _| (Duration::from_mins(1), ok("{}")));
    let slow = |on: &str| {
        load(
            &none,
            &format!(
                r#"{{"Slow": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "timeout": 1000, "runAfter": {{}},
                    "circuitBreaker": {{"name": "slow", "failureThreshold": 2}},
                    "fallback": {{"outputs": "late", "on": ["{on}"]}}}}}}"#
            ),
        )
    };
    let engine = with(&service, &none);
    assert_eq!(run(&engine, &slow("Failed")).await.status, RunStatus::Failed);
    assert_eq!(run(&engine, &slow("TimedOut")).await.status, RunStatus::Succeeded);
    let status = engine.registry().list();
    assert_eq!(status[0].breaker.state, loom_resilience::CircuitState::Open, "two timeouts: {status:?}");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_observed_fallback_is_only_noted() {
    let none = Arc::new(Policies::default());
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let workflow = load(
        &none,
        r#"{"Price": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}},
              "fallback": {"body": 0, "mode": "observe"}, "runAfter": {}}}"#,
    );
    let engine = with(&service, &none);
    let history = recorded(&engine, &workflow).await;
    let price = history.occurrences(workflow.find_action("Price").unwrap())[0].clone();
    assert_eq!(price.status, Some(Status::Failed));
    assert!(matches!(&price.attempts[0].notes[..], [Note::Observed { part, .. }] if part == "fallback"));
    engine.shut_down().await;
}

/// The first copy of each call hangs.
fn hanging() -> Arc<Service> {
    Service::new(|_, number| {
        let wait = if number % 2 == 1 { Duration::from_mins(10) } else { Duration::from_millis(5) };
        (wait, ok("{}"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_hedge_sends_a_slow_call_once_more_under_the_same_key() {
    let none = Arc::new(Policies::default());
    let service = hanging();
    let text = r#"{"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {},
                   "hedge": {"delay": "PT0.1S", "idempotent": true}}}"#;
    let workflow = load(&none, text);
    let engine = with(&service, &none);
    let began = tokio::time::Instant::now();
    let history = recorded(&engine, &workflow).await;
    assert_eq!(began.elapsed().as_millis(), 105);
    assert_eq!(service.by_key().into_values().collect::<Vec<_>>(), [2], "both copies have one key");
    let ask = &history.occurrences(workflow.find_action("Ask").unwrap())[0];
    assert_eq!(ask.attempts.len(), 1, "the journal knows one attempt");
    assert!(matches!(&ask.attempts[0].notes[..], [Note::Hedged { copies: 1, .. }]), "{:?}", ask.attempts);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_not_be_repeated_is_not_hedged_and_an_observed_hedge_sends_nothing() {
    let none = Arc::new(Policies::default());
    for hedge in [r#"{"delay": "PT0.1S"}"#, r#"{"delay": "PT0.1S", "idempotent": true, "mode": "observe"}"#] {
        let service = Service::new(|_, _| (Duration::from_secs(1), ok("{}")));
        let workflow = load(
            &none,
            &format!(
                r#"{{"Ask": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s"}}, "runAfter": {{}}, "hedge": {hedge}}}}}"#
            ),
        );
        let engine = with(&service, &none);
        let history = recorded(&engine, &workflow).await;
        assert_eq!(service.count(), 1, "{hedge}");
        let notes = &history.occurrences(workflow.find_action("Ask").unwrap())[0].attempts[0].notes;
        let observed =
            notes.iter().any(|note| matches!(note, Note::Observed { part, .. } if part == "hedge"));
        assert_eq!(observed, hedge.contains("observe"), "{notes:?}");
        engine.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_are_charged_to_the_budget_of_the_service() {
    let none = Arc::new(Policies::default());
    let service = Service::new(|_, _| (Duration::from_millis(400), ok("{}")));
    let actions: Vec<String> = (0..200)
        .map(|index| {
            format!(
                r#""A{index}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "runAfter": {{}},
                    "hedge": {{"delay": "PT0.1S", "idempotent": true}}}}"#
            )
        })
        .collect();
    let engine = with(&service, &none);
    run(&engine, &load(&none, &format!("{{{}}}", actions.join(",")))).await;
    let copies = service.count() - 200;
    assert!((1..200).contains(&copies), "some are sent, but not one for each slow call: {copies}");
    engine.shut_down().await;
}

/// A response that asks for a pause.
fn throttled(pause: Duration) -> EffectResult {
    let EffectResult::Done { outcome, .. } = unavailable() else { panic!("a result") };
    let learned = Learned { remaining: Some(0), reset_after: Some(pause), ..Learned::default() };
    let hint =
        RetryHint { transient: true, after: Some(pause), learned: Some(learned), ..RetryHint::default() };
    EffectResult::Done { outcome, hint }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_pauses_all_callers_of_the_service_unless_it_may_not_learn() {
    for (learn, expected) in [("true", 30_000), ("false", 0)] {
        let policies = policies(&format!(
            r#"{{"services": {{"billing": {{"rateLimit": {{"requests": 100, "learn": {learn}}}, "retryPolicy": {{"type": "none"}}}}}}}}"#
        ));
        let service = Service::new(|_, number| {
            (Duration::ZERO, if number == 1 { throttled(Duration::from_secs(30)) } else { ok("{}") })
        });
        let engine = with(&service, &policies);
        run(&engine, &load(&policies, PAY)).await;
        let frozen = engine.registry().list()[0].limiter.frozen_for;
        assert_eq!(frozen.as_millis(), expected, "shown");
        let began = tokio::time::Instant::now();
        assert_eq!(run(&engine, &load(&policies, PAY)).await.status, RunStatus::Succeeded);
        assert_eq!(began.elapsed().as_millis(), expected, "learn: {learn}");
        engine.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_of_a_policy_ends_the_attempt_and_the_override_goes_before_it() {
    let policies =
        policies(r#"{"services": {"billing": {"attemptTimeout": "PT2S", "retryPolicy": {"type": "none"}}}}"#);
    let service = Service::new(|_, _| (Duration::from_mins(1), ok("{}")));
    let engine = with(&service, &policies);
    for (text, expected) in [
        (PAY.to_owned(), 2),
        (PAY.replace(r#""policy""#, r#""attemptTimeout": 1000, "policy""#), 1),
        (PAY.replace(r#""policy""#, r#""attemptTimeout": "PT5S", "policy""#), 5),
    ] {
        let began = tokio::time::Instant::now();
        assert_eq!(run(&engine, &load(&policies, &text)).await.status, RunStatus::Failed);
        assert_eq!(began.elapsed().as_secs(), expected, "{text}");
    }
    engine.shut_down().await;
}

/// The parts that the history of an action's attempts says would have interfered, by attempt.
fn observed_parts(history: &History, workflow: &Workflow, action: &str) -> Vec<Vec<String>> {
    let occurrence = &history.occurrences(workflow.find_action(action).unwrap())[0];
    let parts = occurrence.attempts.iter().map(|attempt| {
        let parts = attempt.notes.iter().filter_map(|note| match note {
            Note::Observed { part, .. } => Some(part.to_string()),
            _ => None,
        });
        parts.collect()
    });
    parts.collect()
}

#[tokio::test(start_paused = true)]
async fn what_an_observed_part_would_have_refused_is_in_the_history_of_the_attempt() {
    let policies = policies(
        r#"{"services": {"billing": {"mode": "observe", "circuitBreaker": {"failureThreshold": 1, "timeout": "PT1H"},
            "rateLimit": {"requests": 1, "per": "hour", "maxWait": 0}, "bulkhead": {"maxConcurrent": 1},
            "attemptTimeout": 100, "retryPolicy": {"type": "none"}}}}"#,
    );
    let service = Service::new(|_, _| (Duration::from_secs(1), unavailable()));
    let workflow = load(&policies, PAY);
    let engine = with(&service, &policies);
    let first = recorded(&engine, &workflow).await;
    assert_eq!(observed_parts(&first, &workflow, "Pay"), [["attempt_timeout"]]);
    let second = recorded(&engine, &workflow).await;
    assert_eq!(observed_parts(&second, &workflow, "Pay"), [["breaker", "limiter", "attempt_timeout"]]);
    let (third, fourth) = tokio::join!(recorded(&engine, &workflow), recorded(&engine, &workflow));
    let both = [observed_parts(&third, &workflow, "Pay"), observed_parts(&fourth, &workflow, "Pay")];
    let full = both.iter().filter(|parts| parts[0].iter().any(|part| part == "bulkhead")).count();
    assert_eq!(full, 1, "one of two concurrent calls: {both:?}");
    assert_eq!(service.count(), 4, "nothing was refused");
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_would_have_refused_an_action_that_calls_no_service_is_in_its_history_too() {
    let none = Arc::new(Policies::default());
    let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
    let workflow = load(
        &none,
        r#"{"Batch": {"type": "Scope", "runAfter": {}, "timeout": 1000, "timeoutMode": "observe",
              "rateLimit": {"name": "batch", "requests": 1, "per": "hour", "maxWait": 0, "mode": "observe"},
              "actions": {"Pause": {"type": "Wait", "inputs": {"interval": {"count": 2, "unit": "Second"}}, "runAfter": {}}}}}"#,
    );
    let engine = with(&service, &none);
    let first = recorded(&engine, &workflow).await;
    assert_eq!(observed_parts(&first, &workflow, "Batch"), [["total_timeout"]]);
    let second = recorded(&engine, &workflow).await;
    assert_eq!(observed_parts(&second, &workflow, "Batch"), [["limiter", "total_timeout"]]);
    let batch = &second.occurrences(workflow.find_action("Batch").unwrap())[0];
    assert_eq!(batch.status, Some(Status::Succeeded));
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_policy_that_observes_or_is_off_makes_one_attempt() {
    let none = Arc::new(Policies::default());
    for (mode, parts) in [("observe", vec!["retry"]), ("off", vec![])] {
        let service = Service::new(|_, _| (Duration::ZERO, unavailable()));
        let retry = format!(r#""retryPolicy": {{"maxAttempts": 3, "initialDelay": 10, "mode": "{mode}"}}"#);
        let workflow = load(
            &none,
            &format!(
                r#"{{"Ask": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "runAfter": {{}}, {retry}}},
                     "Group": {{"type": "Scope", "runAfter": {{}}, {retry},
                       "actions": {{"Stop": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://t", "retryPolicy": {{"type": "none"}}}}, "runAfter": {{}}}}}}}},
                     "Again": {{"type": "Retry", "runAfter": {{}}, {retry},
                       "actions": {{"Try": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://u", "retryPolicy": {{"type": "none"}}}}, "runAfter": {{}}}}}}}}}}"#
            ),
        );
        let engine = with(&service, &none);
        let history = recorded(&engine, &workflow).await;
        assert_eq!(service.count(), 3, "one attempt each, in mode {mode}");
        assert_eq!(observed_parts(&history, &workflow, "Ask"), std::slice::from_ref(&parts), "{mode}");
        assert_eq!(observed_parts(&history, &workflow, "Group"), [parts], "{mode}");
        engine.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_observed_timeout_cuts_nothing_off_and_is_noted() {
    let observing = policies(
        r#"{"services": {"billing": {"mode": "observe", "timeout": "PT1S", "retryPolicy": {"type": "none"}}}}"#,
    );
    let service = Service::new(|_, _| (Duration::from_secs(5), ok("{}")));
    let engine = with(&service, &observing);
    let own_timeout = PAY.replace(r#""policy""#, r#""timeout": "PT2S", "policy""#);
    let own_mode = PAY.replace(r#""policy""#, r#""timeout": "PT2S", "timeoutMode": "observe", "policy""#);
    let off = PAY.replace(r#""policy""#, r#""timeoutMode": "off", "policy""#);
    let quick = PAY.replace(r#""policy""#, r#""timeout": "PT6S", "timeoutMode": "observe", "policy""#);
    for (text, status, parts) in [
        (PAY, Status::Succeeded, vec!["total_timeout"]),
        // The action's own timeout has only a mode of its own.
        (&own_timeout, Status::TimedOut, vec![]),
        (&own_mode, Status::Succeeded, vec!["total_timeout"]),
        (&off, Status::Succeeded, vec![]),
        (&quick, Status::Succeeded, vec![]),
    ] {
        let workflow = load(&observing, text);
        let history = recorded(&engine, &workflow).await;
        let pay = &history.occurrences(workflow.find_action("Pay").unwrap())[0];
        assert_eq!(pay.status, Some(status), "{text}");
        assert_eq!(observed_parts(&history, &workflow, "Pay"), [parts], "{text}");
    }
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_action_has_its_own_mode_of_the_attempt_timeout() {
    let enforced =
        policies(r#"{"services": {"billing": {"attemptTimeout": 100, "retryPolicy": {"type": "none"}}}}"#);
    let service = Service::new(|_, _| (Duration::from_secs(1), ok("{}")));
    let engine = with(&service, &enforced);
    for (member, status, parts) in [
        ("", Status::Failed, vec![]),
        (r#""attemptTimeoutMode": "observe", "#, Status::Succeeded, vec!["attempt_timeout"]),
        (r#""attemptTimeoutMode": "off", "#, Status::Succeeded, vec![]),
        (r#""attemptTimeout": null, "#, Status::Succeeded, vec![]),
    ] {
        let workflow = load(&enforced, &PAY.replace(r#""policy""#, &format!(r#"{member}"policy""#)));
        let history = recorded(&engine, &workflow).await;
        let pay = &history.occurrences(workflow.find_action("Pay").unwrap())[0];
        assert_eq!(pay.status, Some(status), "{member}");
        assert_eq!(observed_parts(&history, &workflow, "Pay"), [parts], "{member}");
    }
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_in_a_bulkhead_follow_a_change_of_its_policy() {
    let of = |bulkhead: &str| {
        policies(&format!(
            r#"{{"services": {{"billing": {{{bulkhead} "retryPolicy": {{"type": "none"}}}}}}}}"#
        ))
    };
    let one = r#""bulkhead": {"maxConcurrent": 1, "maxQueued": 5},"#;
    for (changed, what) in [
        (r#""bulkhead": {"maxConcurrent": 3, "maxQueued": 5},"#, "raised"),
        (r#""bulkhead": {"maxConcurrent": 1, "maxQueued": 5, "mode": "observe"},"#, "observed"),
        (r#""bulkhead": {"maxConcurrent": 1, "maxQueued": 5, "mode": "off"},"#, "off"),
        ("", "removed"),
    ] {
        let service = Service::new(|_, _| (Duration::from_mins(1), ok("{}")));
        let first = of(one);
        let engine = with(&service, &first);
        let workflow = load(&first, PAY);
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(service.count(), 1, "the others wait");
            engine.replace_policies(of(changed)).expect("the policy stays");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(service.count(), 3, "{what}: those that wait are admitted at once");
        };
        let (a, b, c, ()) =
            tokio::join!(run(&engine, &workflow), run(&engine, &workflow), run(&engine, &workflow), change);
        assert_eq!([a.status, b.status, c.status], [RunStatus::Succeeded; 3], "{what}");
        engine.shut_down().await;
    }
}
