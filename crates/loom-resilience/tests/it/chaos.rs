//! Chaos: rates, gates, seeds, the four kinds, and their place innermost in the pipeline. Where Polly has a test of the
//! same behaviour, its name is given.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use loom_resilience::{
    AllTransient, BreakerConfig, CallError, CircuitState, Clock, Event, Pipeline, Policy, RetryConfig,
    chaos::{Chaos, ChaosContext, ChaosKind, Injection},
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn always() -> Injection {
    Injection::new(1.0)
}

fn never() -> Injection {
    Injection::new(0.0)
}

fn pipeline(policy: Policy) -> Pipeline {
    Pipeline::new("billing", policy, Clock::tokio(), None).unwrap()
}

/// One call of a service that works. Returns the result and how often the service was called.
async fn call(
    pipeline: &Pipeline,
    chaos: &Chaos<&'static str, &'static str>,
    seed: u64,
) -> (Result<&'static str, CallError<&'static str>>, u32) {
    let calls = AtomicU32::new(0);
    let work = |attempt| {
        chaos.run(pipeline, attempt, || async {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok("paid")
        })
    };
    let result = pipeline.call().idempotent().seed(seed).classify(AllTransient).run(work).await;
    (result, calls.load(Ordering::SeqCst))
}

/// Polly: Given_enabled_and_randomly_within_threshold_should_inject_fault_instead_returning_outcome.
#[tokio::test(start_paused = true)]
async fn a_fault_replaces_the_call() {
    let chaos = Chaos::new().fault(always(), |_| "injected");
    let (result, calls) = call(&pipeline(Policy::none()), &chaos, 1).await;
    assert_eq!(result.unwrap_err().error(), Some(&"injected"));
    assert_eq!(calls, 0);
}

/// Polly: Given_enabled_and_randomly_within_threshold_should_inject_result.
#[tokio::test(start_paused = true)]
async fn an_outcome_replaces_the_call() {
    let chaos = Chaos::new().outcome(always(), |_| "injected");
    assert_eq!(call(&pipeline(Policy::none()), &chaos, 1).await, (Ok("injected"), 0));
}

/// Polly: Given_enabled_and_randomly_within_threshold_should_inject_latency.
#[tokio::test(start_paused = true)]
async fn latency_delays_the_call() {
    let chaos = Chaos::new().latency(always(), SECOND * 3);
    let start = Instant::now();
    assert_eq!(call(&pipeline(Policy::none()), &chaos, 1).await, (Ok("paid"), 1));
    assert_eq!(start.elapsed(), SECOND * 3);
}

/// Polly: Should_inject_behavior_before_executing_user_delegate.
#[tokio::test(start_paused = true)]
async fn behaviour_runs_before_the_call() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let chaos: Chaos<(), &str> = Chaos::new().behavior(always(), move |context| {
        let (sink, attempt) = (Arc::clone(&sink), context.attempt);
        async move { sink.lock().unwrap().push(format!("behaviour of attempt {attempt}")) }
    });
    let pipeline = pipeline(Policy::none());
    let work = |attempt| {
        chaos.run(&pipeline, attempt, || async {
            log.lock().unwrap().push("call".to_owned());
            Ok(())
        })
    };
    pipeline.call().classify(AllTransient).run(work).await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["behaviour of attempt 1", "call"]);
}

/// Polly: Given_enabled_and_randomly_not_within_threshold_should_not_inject_fault, and the same of the other kinds.
#[tokio::test(start_paused = true)]
async fn a_rate_of_zero_injects_nothing() {
    let chaos = Chaos::new()
        .latency(never(), SECOND)
        .fault(never(), |_| "fault")
        .outcome(never(), |_| "outcome")
        .behavior(never(), |_| async {});
    let start = Instant::now();
    assert_eq!(call(&pipeline(Policy::none()), &chaos, 1).await, (Ok("paid"), 1));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Polly: Given_not_enabled_should_not_inject_fault, and the same of the other kinds.
#[tokio::test(start_paused = true)]
async fn a_closed_gate_injects_nothing() {
    let is_open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let chaos = Chaos::new().fault(always().gate(move |_| gate.load(Ordering::SeqCst)), |_| "injected");
    let pipeline = pipeline(Policy::none());
    assert_eq!(call(&pipeline, &chaos, 1).await, (Ok("paid"), 1));
    is_open.store(true, Ordering::SeqCst);
    assert!(call(&pipeline, &chaos, 1).await.0.is_err());
}

/// Polly: Should_coerce_injection_rate_generator_result_is_not_valid.
#[test]
fn a_rate_outside_0_to_1_is_coerced_and_reported() {
    let context = ChaosContext::new("billing", 1);
    for (rate, applies) in [(-0.1, false), (1.1, true), (f64::NAN, false), (f64::INFINITY, true)] {
        let injection = Injection::new(rate);
        assert_eq!(injection.applies(&context), applies, "{rate}");
        let error = injection.validate().unwrap_err().to_string();
        assert_eq!(error, "chaos.rate: must be between 0 and 1");
    }
    always().validate().unwrap();
}

/// The same seeds give the same chaos, whatever runs beside it; another seed gives another.
#[tokio::test(start_paused = true)]
async fn a_run_under_a_seed_is_repeatable() {
    let outcomes = async |chaos_seed: u64, order: &[u64]| {
        let chaos = Chaos::new().fault(Injection::new(0.5).seed(chaos_seed), |_| "injected");
        let pipeline = pipeline(Policy::none());
        let mut outcomes = std::collections::BTreeMap::new();
        for seed in order {
            outcomes.insert(*seed, call(&pipeline, &chaos, *seed).await.0.is_ok());
        }
        outcomes
    };
    let forwards: Vec<u64> = (0..64).collect();
    let backwards: Vec<u64> = (0..64).rev().collect();
    let one = outcomes(7, &forwards).await;
    assert_eq!(outcomes(7, &backwards).await, one, "the order of calls does not matter");
    assert_ne!(outcomes(8, &forwards).await, one);
    assert!(one.values().any(|ok| *ok) && one.values().any(|ok| !ok));
}

/// Calls without a seed are numbered, so calls one after the other are repeatable too.
#[tokio::test(start_paused = true)]
async fn calls_without_a_seed_are_repeatable_in_order() {
    let run = async || {
        let chaos = Chaos::new().fault(Injection::new(0.5).seed(3), |_| "injected");
        let pipeline = pipeline(Policy::none());
        let mut outcomes = Vec::new();
        for _ in 0..32 {
            let work = |attempt| chaos.run(&pipeline, attempt, || async { Ok::<&str, &str>("paid") });
            outcomes.push(pipeline.call().classify(AllTransient).run(work).await.is_ok());
        }
        outcomes
    };
    assert_eq!(run().await, run().await);
}

/// Two injections with seeds of their own strike independently, each at its own rate.
#[test]
fn injections_have_rates_and_seeds_of_their_own() {
    let (one, other) = (Injection::new(0.3).seed(1), Injection::new(0.3).seed(2));
    let twin = Injection::new(0.3).seed(1);
    let (mut first, mut second, mut both) = (0_u32, 0_u32, 0_u32);
    for seed in 0..10_000 {
        let context = ChaosContext::new("billing", seed);
        let applies = (one.applies(&context), other.applies(&context));
        assert_eq!(applies.0, twin.applies(&context));
        first += u32::from(applies.0);
        second += u32::from(applies.1);
        both += u32::from(applies == (true, true));
    }
    assert!((2_850..3_150).contains(&first) && (2_850..3_150).contains(&second), "{first}, {second}");
    assert!((750..1_050).contains(&both), "nine percent coincide: {both}");
    // The attempts of one call are struck independently.
    let attempts = (1..=1_000).filter(|n| one.applies(&ChaosContext::new("billing", 5).attempt(*n))).count();
    assert!((230..370).contains(&attempts), "{attempts}");
}

/// Innermost: the attempt timeout cuts injected latency off, and the breaker counts injected faults.
#[tokio::test(start_paused = true)]
async fn every_other_part_treats_chaos_like_the_service() {
    let slow = Chaos::new().latency(always(), SECOND * 60);
    let (result, calls) = call(&pipeline(Policy::none().attempt_timeout(SECOND)), &slow, 1).await;
    assert!(matches!(result, Err(CallError::TimedOut { .. })));
    assert_eq!(calls, 0);

    let faulty = Chaos::new().fault(always(), |_| "injected");
    let policy =
        Policy::none().retry(RetryConfig::attempts(3)).breaker(BreakerConfig::new().failure_threshold(3));
    let pipeline = pipeline(policy);
    assert_eq!(call(&pipeline, &faulty, 1).await.0.unwrap_err().attempts(), 3);
    assert_eq!(pipeline.breaker().state(), CircuitState::Open);
}

/// Polly: Given_enabled_and_randomly_within_threshold_ensure_on_behavior_injected_called. A fault ends the attempt, so what
/// was added after it is neither run nor reported.
#[tokio::test(start_paused = true)]
async fn each_injection_is_reported_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| {
        if let Event::Injected { service, kind, attempt } = event {
            sink.lock().unwrap().push((service.to_string(), *kind, *attempt));
        }
    };
    let pipeline =
        Pipeline::new("billing", Policy::none(), Clock::tokio(), Some(Arc::new(observer))).unwrap();
    let chaos = Chaos::new()
        .behavior(always(), |_| async {})
        .latency(always(), SECOND)
        .fault(always(), |_| "injected")
        .outcome(always(), |_| "never reached");
    call(&pipeline, &chaos, 1).await.0.unwrap_err();
    let kinds: Vec<_> = seen.lock().unwrap().iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, [ChaosKind::Behavior, ChaosKind::Latency, ChaosKind::Fault]);
    assert!(seen.lock().unwrap().iter().all(|(service, _, attempt)| service == "billing" && *attempt == 1));
}
