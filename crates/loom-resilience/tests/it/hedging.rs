//! Hedges and fallbacks in a policy. Where Polly or resilience4j has a test of the same behaviour, its name is given.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use loom_resilience::{
    AllTransient, BreakerConfig, BudgetConfig, BulkheadConfig, CallError, Clock, Event, FailedCall,
    FailureKind, FallbackConfig, FallbackValue, HedgeConfig, Limit, Pipeline, Policy, RetryConfig,
    StopReason, Verdict,
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn pipeline(policy: Policy) -> Pipeline {
    Pipeline::new("hedge", policy, Clock::tokio(), None).unwrap()
}

fn hedged(copies: u32) -> Policy {
    Policy::none().hedge(HedgeConfig::new(SECOND).max_copies(copies))
}

/// Makes a hedged call whose copies take `times` and end with `results`. Returns the result, and how long it took.
async fn call<T: Clone, E: Clone>(
    pipeline: &Pipeline,
    copies: &[(Duration, Result<T, E>)],
) -> (Result<T, CallError<E>>, Duration) {
    let start = Instant::now();
    let work = |attempt: loom_resilience::AttemptInfo| {
        let (time, result) = copies[attempt.copy as usize].clone();
        async move {
            sleep(time).await;
            result
        }
    };
    let result = pipeline.call().idempotent().classify(AllTransient).run(work).await;
    (result, start.elapsed())
}

/// Polly: ExecuteAsync_ShouldReturnAnyPossibleResult; resilience4j: slowPrimarySuccessFastHedgeSuccessReturnsHedgeSuccess.
#[tokio::test(start_paused = true)]
async fn the_first_good_response_wins() {
    let copies = [(SECOND * 10, Ok::<_, &str>("slow")), (SECOND, Ok("fast"))];
    assert_eq!(call(&pipeline(hedged(1)), &copies).await, (Ok("fast"), SECOND * 2));
}

/// resilience4j: slowPrimarySuccessSlowHedgeSuccessReturnsPrimarySuccess.
#[tokio::test(start_paused = true)]
async fn the_attempt_itself_may_win() {
    let copies = [(SECOND * 3, Ok::<_, &str>("first")), (SECOND * 5, Ok("second"))];
    assert_eq!(call(&pipeline(hedged(1)), &copies).await, (Ok("first"), SECOND * 3));
}

/// resilience4j: fastPrimarySuccessDoesNotHedge, fastPrimaryFailureDoesNotHedge. Polly sends the next copy at once after a
/// failure; here a failure is left to the retry, which waits first.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_before_the_delay_is_not_hedged() {
    let fast = SECOND / 2;
    assert_eq!(call(&pipeline(hedged(1)), &[(fast, Ok::<_, &str>(1))]).await, (Ok(1), fast));
    let (result, took) = call(&pipeline(hedged(1)), &[(fast, Err::<u32, _>("503"))]).await;
    assert!(matches!(result, Err(CallError::Failed { error: "503", attempts: 1, .. })));
    assert_eq!(took, fast);
}

/// resilience4j returns a fast failure of either copy (slowPrimarySuccessFastHedgeFailureReturnsHedgeFailure); here, as in
/// Polly, a failure waits for the copy that is still in flight.
#[tokio::test(start_paused = true)]
async fn a_failure_does_not_beat_a_copy_in_flight() {
    let copies = [(SECOND * 5, Ok("first")), (SECOND, Err("503"))];
    assert_eq!(call(&pipeline(hedged(1)), &copies).await, (Ok("first"), SECOND * 5));
    let copies = [(SECOND * 2, Err("503")), (SECOND * 4, Ok("second"))];
    assert_eq!(call(&pipeline(hedged(1)), &copies).await, (Ok("second"), SECOND * 5));
}

/// Polly: ExecuteAsync_ExceptionsHandled_ShouldThrowLastException.
#[tokio::test(start_paused = true)]
async fn the_last_failure_is_returned_when_all_fail() {
    let copies = [(SECOND * 3, Err::<u32, _>("first")), (SECOND * 9, Err("second"))];
    let (result, took) = call(&pipeline(hedged(1)), &copies).await;
    assert!(matches!(result, Err(CallError::Failed { error: "second", .. })));
    assert_eq!(took, SECOND * 10);
}

/// Polly: ExecuteAsync_EnsureHedgingDelayGeneratorRespected, MaxHedgedAttempts.
#[tokio::test(start_paused = true)]
async fn copies_are_a_delay_apart_and_limited_in_number() {
    let made = Mutex::new(Vec::new());
    let start = Instant::now();
    let pipeline = pipeline(hedged(3));
    let work = |attempt: loom_resilience::AttemptInfo| {
        made.lock().unwrap().push((attempt.number, attempt.copy, start.elapsed()));
        async move {
            sleep(SECOND * 100).await;
            Ok::<_, &str>(attempt.copy)
        }
    };
    let result = pipeline.call().idempotent().classify(AllTransient).run(work).await;
    assert_eq!(result, Ok(0));
    let expected = [(1, 0, Duration::ZERO), (1, 1, SECOND), (1, 2, SECOND * 2), (1, 3, SECOND * 3)];
    assert_eq!(*made.lock().unwrap(), expected);
}

/// Polly: ExecuteAsync_EnsureHedgedTasksCancelled_Ok, ExecuteAsync_EnsurePrimaryTaskCancelled_Ok.
#[tokio::test(start_paused = true)]
async fn the_losers_are_dropped_and_give_everything_back() {
    let policy =
        hedged(1).bulkhead(BulkheadConfig::new(5)).breaker(BreakerConfig::new().failure_threshold(1));
    let pipeline = pipeline(policy);
    let copies = [(SECOND * 100, Ok::<_, &str>("slow")), (SECOND, Ok("fast"))];
    assert_eq!(call(&pipeline, &copies).await.0, Ok("fast"));
    assert_eq!(pipeline.bulkhead().in_flight(), 0);
    assert_eq!(pipeline.status().breaker.consecutive_failures, 0, "a dropped loser counts as nothing");
}

/// Polly: ExecuteAsync_CancellationLinking_Ok.
#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_all_copies() {
    struct Counted<'a>(&'a AtomicU32);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let pipeline = pipeline(hedged(2).bulkhead(BulkheadConfig::new(5)));
    let running = AtomicU32::new(0);
    let work = |_| {
        running.fetch_add(1, Ordering::SeqCst);
        let guard = Counted(&running);
        async move {
            let _guard = guard;
            pending::<Result<(), &str>>().await
        }
    };
    let call = pipeline.call().idempotent().classify(AllTransient).run(work);
    tokio::time::timeout(SECOND * 5, call).await.unwrap_err();
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert_eq!(pipeline.bulkhead().in_flight(), 0);
}

/// A POST is not sent twice, however slow it is.
#[tokio::test(start_paused = true)]
async fn only_idempotent_calls_are_hedged() {
    let pipeline = pipeline(hedged(3));
    let mut made = 0;
    let work = |_| {
        made += 1;
        async {
            sleep(SECOND * 10).await;
            Ok::<_, &str>(())
        }
    };
    pipeline.call().classify(AllTransient).run(work).await.unwrap();
    assert_eq!(made, 1);
}

/// A copy is charged like a retry, so hedging cannot multiply the load of a slow service.
#[tokio::test(start_paused = true)]
async fn copies_are_charged_to_the_budget() {
    let budget = BudgetConfig { ratio: 0.1, per_second: 0.0, ..BudgetConfig::default() };
    let pipeline = pipeline(hedged(5).budget(budget));
    for _ in 0..19 {
        pipeline.budget().deposit(pipeline.clock().now());
    }
    // Twenty calls with this one: two copies.
    let mut made = 0;
    let work = |_| {
        made += 1;
        async {
            sleep(SECOND * 10).await;
            Ok::<_, &str>(())
        }
    };
    pipeline.call().idempotent().classify(AllTransient).run(work).await.unwrap();
    assert_eq!(made, 3);
}

/// The service counts every copy, so every copy takes a permit. One that gets none does not spoil the attempt in flight.
#[tokio::test(start_paused = true)]
async fn each_copy_passes_the_limiter_and_a_refused_one_changes_nothing() {
    let limited = pipeline(hedged(1).limit(Limit::per_hour(2).burst(2)));
    let copies = [(SECOND * 3, Ok::<_, &str>("first")), (SECOND * 9, Ok("second"))];
    assert_eq!(call(&limited, &copies).await.0, Ok("first"));
    assert_eq!(limited.limiter().available(limited.clock().now()), Some(0));

    let one = loom_resilience::LimiterConfig::new(Limit::per_hour(1).burst(1)).max_wait(Duration::ZERO);
    let exhausted = pipeline(hedged(1).limiter(one));
    assert_eq!(call(&exhausted, &copies).await, (Ok("first"), SECOND * 3));
}

/// Each retry may be hedged, and the attempts count once however many copies they have.
#[tokio::test(start_paused = true)]
async fn a_hedged_attempt_that_fails_is_retried() {
    let policy = hedged(1).retry(RetryConfig::attempts(2));
    let made = AtomicU32::new(0);
    let pipeline = pipeline(policy);
    let work = |_| {
        made.fetch_add(1, Ordering::SeqCst);
        async {
            sleep(SECOND * 3).await;
            Err::<(), _>("503")
        }
    };
    let error = pipeline.call().idempotent().classify(AllTransient).run(work).await.unwrap_err();
    assert_eq!(error, CallError::Failed { error: "503", attempts: 2, why: StopReason::Attempts });
    assert_eq!(made.load(Ordering::SeqCst), 4);
}

/// A rejection is decisive: another copy would be rejected too.
#[tokio::test(start_paused = true)]
async fn a_rejection_wins_over_a_copy_in_flight() {
    let judge = |result: &Result<&str, &str>| match result {
        Ok(_) => Verdict::Ok,
        Err(_) => Verdict::Rejected,
    };
    let pipeline = pipeline(hedged(1));
    let work = |attempt: loom_resilience::AttemptInfo| async move {
        sleep(SECOND * if attempt.copy == 0 { 100 } else { 1 }).await;
        Err::<&str, _>("404")
    };
    let start = Instant::now();
    let error = pipeline.call().idempotent().classify(judge).run(work).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { error: "404", .. }));
    assert_eq!(start.elapsed(), SECOND * 2);
}

/// Polly: ExecuteAsync_EnsureOnHedgingTelemetry; Handle_Result_Ok (one event for each fallback).
#[tokio::test(start_paused = true)]
async fn hedges_and_fallbacks_are_reported() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| match event {
        Event::Hedged { service, attempt, copy } => {
            sink.lock().unwrap().push(format!("{service}: attempt {attempt}, copy {copy}"));
        }
        Event::FellBack { service, kind } => sink.lock().unwrap().push(format!("{service}: {kind}")),
        _ => {}
    };
    let pipeline = Pipeline::new("rates", hedged(1), Clock::tokio(), Some(Arc::new(observer))).unwrap();
    let work = |_| async {
        sleep(SECOND * 3).await;
        Err::<f64, _>("503")
    };
    let call = pipeline.call().idempotent().classify(AllTransient).fallback(FallbackValue(1.0));
    assert_eq!(call.run(work).await, Ok(1.0));
    assert_eq!(*seen.lock().unwrap(), ["rates: attempt 1, copy 1", "rates: failed"]);
}

/// Polly: Handle_Exception_Ok, Handle_Result_Ok.
#[tokio::test(start_paused = true)]
async fn a_fallback_replaces_an_error_and_a_bad_value() {
    let pipeline = pipeline(Policy::none());
    let judge = |result: &Result<u32, &str>| match result {
        Ok(200) => Verdict::Ok,
        Ok(404) => Verdict::Rejected,
        Ok(_) | Err(_) => Verdict::Transient,
    };
    let with = async |result: Result<u32, &'static str>| {
        let call = pipeline.call().classify(judge).fallback(FallbackValue(0));
        call.run(|_| async { result }).await.unwrap()
    };
    assert_eq!(with(Ok(200)).await, 200);
    assert_eq!(with(Ok(503)).await, 0);
    assert_eq!(with(Ok(404)).await, 0);
    assert_eq!(with(Err("reset")).await, 0);
}

/// Polly: Handle_UnhandledException_Ok, Handle_UnhandledResult_Ok.
#[tokio::test(start_paused = true)]
async fn a_fallback_leaves_the_kinds_that_the_policy_does_not_name() {
    let on = FallbackConfig::on([FailureKind::TimedOut, FailureKind::Refused]);
    let policy = Policy::none()
        .fallback(on)
        .attempt_timeout(SECOND)
        .breaker(BreakerConfig::new().failure_threshold(2));
    let pipeline = pipeline(policy);
    let call = || pipeline.call().classify(AllTransient).fallback(FallbackValue("cached"));
    let failed = call().run(|_| async { Err("503") }).await;
    assert!(matches!(failed, Err(CallError::Failed { .. })));
    assert_eq!(call().run(|_| pending::<Result<_, &str>>()).await, Ok("cached"));
    // The circuit is open: the timeout was counted, although the caller received a value.
    assert_eq!(call().run(|_| async { Err("not called") }).await, Ok("cached"));
    assert_eq!(pipeline.breaker().state(), loom_resilience::CircuitState::Open);
}

/// Polly: ShouldHandle_ArgumentsSetCorrectly, Handle_Result_FallbackActionThrows.
#[tokio::test(start_paused = true)]
async fn a_fallback_function_sees_the_failure_and_may_fail_itself() {
    let pipeline = pipeline(Policy::none().retry(RetryConfig::attempts(2)));
    let describe = |failed: FailedCall<String, &'static str>| {
        let kind = failed.kind();
        match failed {
            FailedCall::Error { error, .. } => {
                Ok(format!("{kind:?} after {} attempts: {error}", error.attempts()))
            }
            other => other.into_result(),
        }
    };
    let call = pipeline.call().idempotent().classify(AllTransient).fallback(describe);
    let text = call.run(|_| async { Err("503") }).await.unwrap();
    assert_eq!(text, "Some(Failed) after 2 attempts: 503 (attempt 2; no attempts left)");

    let give_up = |_: FailedCall<String, &'static str>| {
        Err(CallError::Failed { error: "no cache", attempts: 0, why: StopReason::NotRetryable })
    };
    let call = pipeline.call().classify(AllTransient).fallback(give_up);
    let error = call.run(|_| async { Err("503") }).await.unwrap_err();
    assert_eq!(error.error(), Some(&"no cache"));
}

/// A call cancelled by the caller has not failed, so there is no fallback.
#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gets_no_fallback() {
    let pipeline = pipeline(Policy::none());
    let judge = |_: &Result<&str, &str>| Verdict::Cancelled;
    let call = pipeline.call().classify(judge).fallback(FallbackValue("cached"));
    assert!(matches!(call.run(|_| async { Err("stopped") }).await, Err(CallError::Cancelled { .. })));
}
