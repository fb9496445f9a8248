//! Modes: what each part does when it is enforced, observed and off.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_resilience::{
    AllTransient, AttemptError, BreakerConfig, BudgetConfig, BulkheadConfig, CallError, CircuitState, Clock,
    Event, FailureKind, FallbackConfig, FallbackValue, HedgeConfig, Limit, LimiterConfig, ManualClock, Mode,
    ObservedParts, Part, Pipeline, Policy, RetryConfig, Service, StopReason, Window,
};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// The observed parts, in the order of their events.
type Seen = Arc<Mutex<Vec<Part>>>;

fn observed_by(policy: Policy, clock: Clock) -> (Pipeline, Seen) {
    let seen = Seen::default();
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| sink.lock().unwrap().extend(event.observed());
    (Pipeline::new("mode", policy, clock, Some(Arc::new(observer))).unwrap(), seen)
}

fn take(seen: &Seen) -> Vec<Part> {
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_is_enforced_observed_or_off() {
    for (mode, is_cut, expected) in [
        (Mode::Enforce, true, vec![]),
        (Mode::Observe, false, vec![Part::AttemptTimeout]),
        (Mode::Off, false, vec![]),
    ] {
        let policy = Policy::none().attempt_timeout(SECOND).attempt_timeout_mode(mode);
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let slow = || async {
            sleep(SECOND * 2).await;
            Ok::<_, &str>("late")
        };
        let result = pipeline.attempt().classify(AllTransient).run(slow).await;
        assert_eq!(matches!(result, Err(AttemptError::TimedOut(_))), is_cut, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
        let quick = pipeline.attempt().classify(AllTransient).run(|| async { Ok::<_, &str>("quick") }).await;
        assert_eq!(quick, Ok("quick"));
        assert_eq!(take(&seen), [], "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_is_enforced_observed_or_off() {
    for (mode, is_cut, expected) in [
        (Mode::Enforce, true, vec![]),
        (Mode::Observe, false, vec![Part::TotalTimeout]),
        (Mode::Off, false, vec![]),
    ] {
        let policy = Policy::none().total_timeout(SECOND).total_timeout_mode(mode);
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let slow = |attempt: loom_resilience::AttemptInfo| async move {
            assert_eq!(attempt.deadline.is_some(), mode == Mode::Enforce);
            sleep(SECOND * 2).await;
            Ok::<_, &str>("late")
        };
        let result = pipeline.call().classify(AllTransient).run(slow).await;
        assert_eq!(matches!(result, Err(CallError::TimedOut { .. })), is_cut, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
        // A call that fails late is reported as well.
        let slow = |_| async {
            sleep(SECOND * 2).await;
            Err::<(), _>("late")
        };
        pipeline.call().classify(AllTransient).run(slow).await.unwrap_err();
        assert_eq!(take(&seen), expected, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_are_made_observed_or_off() {
    for (mode, attempts, why, expected) in [
        (Mode::Enforce, 3, StopReason::Attempts, vec![]),
        (Mode::Observe, 1, StopReason::ObserveOnly, vec![Part::Retry]),
        (Mode::Off, 1, StopReason::Attempts, vec![]),
    ] {
        let policy = Policy::none().retry(RetryConfig::attempts(3).mode(mode));
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let error = pipeline
            .call()
            .idempotent()
            .classify(AllTransient)
            .run(|_| async { Err::<(), _>("503") })
            .await
            .unwrap_err();
        assert_eq!(error, CallError::Failed { error: "503", attempts, why }, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
        // What would not be retried is not observed either: the call is not declared idempotent.
        pipeline.call().classify(AllTransient).run(|_| async { Err::<(), _>("503") }).await.unwrap_err();
        assert_eq!(take(&seen), [], "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_enforced_observed_or_off() {
    for (mode, attempts, expected) in [
        (Mode::Enforce, 2, vec![]),
        (Mode::Observe, 4, vec![Part::Budget, Part::Budget]),
        (Mode::Off, 4, vec![]),
    ] {
        // One retry in the window: 1 % of a hundred calls.
        let budget = BudgetConfig { ratio: 0.01, per_second: 0.0, ..BudgetConfig::default() }.mode(mode);
        let policy = Policy::none().retry(RetryConfig::attempts(4)).budget(budget);
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        for _ in 0..100 {
            pipeline.budget().deposit(pipeline.clock().now());
        }
        let error = pipeline
            .call()
            .idempotent()
            .classify(AllTransient)
            .run(|_| async { Err::<(), _>("503") })
            .await
            .unwrap_err();
        assert_eq!(error.attempts(), attempts, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
        let left = pipeline.budget().available(pipeline.clock().now());
        assert_eq!(left, (mode != Mode::Off).then_some(0), "{mode:?}");
    }
}

/// resilience4j: shouldRecordMetricsInMetricsOnlyState. Ours keeps the state behind the mode as well, so that the change
/// to enforcing starts from what was seen.
#[test]
fn a_breaker_that_observes_counts_opens_and_probes_but_lets_every_call_pass() {
    let time = ManualClock::new();
    let breaker = BreakerConfig::new()
        .failure_rate(0.5, 4, Window::Calls(4))
        .open_for(loom_resilience::OpenDuration::fixed(SECOND))
        .mode(Mode::Observe);
    let (pipeline, seen) = observed_by(Policy::none().breaker(breaker), Clock::manual(&time));
    for _ in 0..4 {
        pipeline.breaker().admit(time.now()).unwrap().failure(time.now());
    }
    assert_eq!(pipeline.breaker().state(), CircuitState::Open);
    for _ in 0..3 {
        pipeline.breaker().admit(time.now()).unwrap().success(time.now());
    }
    assert_eq!(take(&seen), [Part::Breaker; 3]);
    assert_eq!(
        pipeline.breaker().state(),
        CircuitState::Open,
        "calls that would not have been made decide nothing"
    );
    time.advance(SECOND);
    let probe = pipeline.breaker().admit(time.now()).unwrap();
    assert!(probe.is_probe());
    pipeline.breaker().admit(time.now()).unwrap().failure(time.now());
    assert_eq!(take(&seen), [Part::Breaker], "in addition to the probe");
    probe.success(time.now());
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed);
}

/// resilience4j: shouldPublishEachEventOnceInMetricOnlyState.
#[test]
fn a_breaker_that_observes_reports_the_change_of_state_once() {
    let time = ManualClock::new();
    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&changes);
    let observer = move |event: &Event<'_>| {
        if let Event::StateChanged { from, to, .. } = event {
            sink.lock().unwrap().push((*from, *to));
        }
    };
    let config = BreakerConfig::new().failure_threshold(2).mode(Mode::Observe);
    let breaker =
        loom_resilience::CircuitBreaker::new("mode", config, Clock::manual(&time), Some(Arc::new(observer)))
            .unwrap();
    for _ in 0..10 {
        breaker.admit(time.now()).unwrap().failure(time.now());
    }
    assert_eq!(*changes.lock().unwrap(), [(CircuitState::Closed, CircuitState::Open)]);
}

#[tokio::test(start_paused = true)]
async fn a_limiter_that_observes_distinguishes_waits_from_refusals() {
    let limiter = LimiterConfig::new(Limit::per_second(1).burst(1)).max_wait(SECOND * 2).mode(Mode::Observe);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| match event {
        Event::Waiting { enforced, expected, .. } => {
            sink.lock().unwrap().push(("waits", *enforced, *expected));
        }
        Event::Refused { enforced, refused, .. } => {
            sink.lock().unwrap().push(("refused", *enforced, refused.retry_after));
        }
        _ => {}
    };
    let policy = Policy::none().limiter(limiter);
    let pipeline = Pipeline::new("mode", policy, Clock::tokio(), Some(Arc::new(observer))).unwrap();
    // Rounded up, so that the permit is there after the wait.
    let wait = SECOND + Duration::from_nanos(1);
    let start = tokio::time::Instant::now();
    let call = || async {
        pipeline.attempt().classify(AllTransient).run(|| async { Ok::<_, &str>(()) }).await.unwrap();
    };
    call().await;
    assert_eq!(*seen.lock().unwrap(), []);
    call().await;
    assert_eq!(*seen.lock().unwrap(), [("waits", false, Some(wait))]);
    assert_eq!(start.elapsed(), Duration::ZERO, "nothing waits");
    // A call that may not wait so long would have been refused.
    let now = pipeline.clock().now();
    pipeline.limiter().take(1, Some(SECOND / 2)).await.unwrap();
    assert_eq!(seen.lock().unwrap()[1], ("refused", false, Some(wait)));
    pipeline.limiter().try_take(1, now).unwrap();
    assert_eq!(seen.lock().unwrap()[2], ("refused", false, Some(wait)));
    assert_eq!(
        pipeline.limiter().available(now),
        Some(0),
        "observed calls take no permits beyond the available ones"
    );
}

#[test]
fn a_bulkhead_that_observes_counts_calls_in_flight_and_reports_the_excess() {
    let config = BulkheadConfig::new(2).queue(1).mode(Mode::Observe);
    let (pipeline, seen) = observed_by(Policy::none().bulkhead(config), Clock::manual(&ManualClock::new()));
    let permits: Vec<_> = (0..5).map(|_| pipeline.bulkhead().try_enter().unwrap()).collect();
    assert_eq!(pipeline.bulkhead().in_flight(), 5);
    // The third would have waited, the fourth and the fifth would have been refused.
    assert_eq!(take(&seen), [Part::Bulkhead; 3]);
    // Enforced, the calls in flight are known: two must end before another one starts.
    pipeline.reconfigure(Policy::none().bulkhead(config.mode(Mode::Enforce))).unwrap();
    let mut permits = permits.into_iter();
    drop((permits.next(), permits.next(), permits.next()));
    assert!(pipeline.bulkhead().try_enter().is_err());
    drop(permits.next());
    assert!(pipeline.bulkhead().try_enter().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_observed_or_off() {
    for (mode, copies, expected) in
        [(Mode::Enforce, 2, vec![]), (Mode::Observe, 1, vec![Part::Hedge]), (Mode::Off, 1, vec![])]
    {
        let policy = Policy::none().hedge(HedgeConfig::new(SECOND).mode(mode));
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let mut made = 0;
        let slow = |_| {
            made += 1;
            async {
                sleep(SECOND * 3).await;
                Ok::<_, &str>(())
            }
        };
        pipeline.call().idempotent().classify(AllTransient).run(slow).await.unwrap();
        assert_eq!(made, copies, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_used_observed_or_off() {
    for (mode, is_replaced, expected) in [
        (Mode::Enforce, true, vec![]),
        (Mode::Observe, false, vec![Part::Fallback]),
        (Mode::Off, false, vec![]),
    ] {
        let policy = Policy::none().fallback(FallbackConfig::on([FailureKind::Failed]).mode(mode));
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let call = pipeline.call().classify(AllTransient).fallback(FallbackValue("cached"));
        let result = call.run(|_| async { Err("503") }).await;
        assert_eq!(result.is_ok(), is_replaced, "{mode:?}");
        assert_eq!(take(&seen), expected, "{mode:?}");
    }
}

/// A policy that only observes never interferes, and reports everything that it would have done.
#[tokio::test(start_paused = true)]
async fn a_whole_policy_can_observe() {
    let policy = Policy::standard()
        .limit(Limit::per_hour(1))
        .bulkhead(BulkheadConfig::new(1))
        .hedge(HedgeConfig::new(SECOND))
        .fallback(FallbackConfig::default())
        .mode(Mode::Observe);
    let (pipeline, seen) = observed_by(policy, Clock::tokio());
    let mut calls = 0;
    for _ in 0..6 {
        let work = |_| {
            calls += 1;
            async {
                sleep(SECOND * 70).await;
                Err::<&str, _>("503")
            }
        };
        let call = pipeline.call().idempotent().classify(AllTransient).fallback(FallbackValue("cached"));
        assert!(matches!(call.run(work).await, Err(CallError::Failed { error: "503", .. })));
    }
    assert_eq!(calls, 6);
    let mut parts = take(&seen);
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(
        parts,
        [
            Part::Fallback,
            Part::TotalTimeout,
            Part::Retry,
            Part::Hedge,
            Part::Breaker,
            Part::Limiter,
            Part::AttemptTimeout
        ]
    );
    assert!(pipeline.describe().contains("observing only"));
    // The same policy, enforced, cuts the first call off.
    pipeline.reconfigure(pipeline.policy().mode(Mode::Enforce).hedge(None)).unwrap();
    let work = |_| pending::<Result<&str, &str>>();
    assert!(matches!(
        pipeline.call().classify(AllTransient).run(work).await,
        Err(CallError::Refused { .. } | CallError::TimedOut { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_knows_the_parts_that_would_have_interfered_with_it() {
    for (mode, expected) in [
        (Mode::Observe, vec![Part::Breaker, Part::Limiter, Part::Bulkhead, Part::AttemptTimeout]),
        (Mode::Off, vec![]),
    ] {
        let policy = Policy::none()
            .breaker(BreakerConfig::new().failure_threshold(1))
            .limit(Limit::per_hour(1).burst(1))
            .bulkhead(BulkheadConfig::new(1))
            .attempt_timeout(SECOND)
            .mode(mode);
        let service = Service::from(Pipeline::new("mode", policy, Clock::tokio(), None).unwrap());
        let held = service.try_admit(service.clock().now()).expect("it is free");
        assert_eq!(held.observed().collect::<Vec<_>>(), [], "nothing would have refused the first");
        service.try_admit(service.clock().now()).expect("it is observed").failure(service.clock().now());
        let observed = ObservedParts::default();
        let slow = || async {
            assert_eq!(
                observed.iter().count(),
                expected.len().saturating_sub(1),
                "known before the work begins"
            );
            sleep(SECOND * 2).await;
            Ok::<_, &str>("late")
        };
        let result = service.attempt().classify(AllTransient).observing(&observed).run(slow).await;
        assert_eq!(result, Ok("late"), "{mode:?}");
        assert_eq!(observed.iter().collect::<Vec<_>>(), expected, "{mode:?}");
        let admitted = service.try_admit(service.clock().now()).expect("it is observed");
        let refusals = expected.iter().copied().filter(|part| *part != Part::AttemptTimeout);
        assert_eq!(admitted.observed().collect::<Vec<_>>(), refusals.collect::<Vec<_>>(), "{mode:?}");
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_have_another_timeout_and_mode_than_its_policy() {
    for (policy_mode, own, is_cut, expected) in [
        (Mode::Off, Mode::Enforce, true, vec![]),
        (Mode::Enforce, Mode::Observe, false, vec![Part::AttemptTimeout]),
        (Mode::Observe, Mode::Off, false, vec![]),
    ] {
        let policy = Policy::none().attempt_timeout(SECOND).attempt_timeout_mode(policy_mode);
        let (pipeline, seen) = observed_by(policy, Clock::tokio());
        let attempt = pipeline.attempt().classify(AllTransient).timeout_in(SECOND, own);
        let slow = || async {
            sleep(SECOND * 2).await;
            Ok::<_, &str>("late")
        };
        assert_eq!(matches!(attempt.run(slow).await, Err(AttemptError::TimedOut(_))), is_cut, "{own:?}");
        assert_eq!(take(&seen), expected, "{own:?}");
    }
}
