//! The fifteen behaviours that users of the original rely on, by name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use loom_resilience::{
    AllTransient, Backoff, BreakerConfig, CallError, CircuitState, Clock, Jitter, Limit, OpenDuration,
    Pipeline, Policy, RetryConfig, Rule, StopReason, Timeout, TimeoutKind, Verdict,
};

const SECOND: Duration = Duration::from_secs(1);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pipeline(policy: Policy) -> Pipeline {
    Pipeline::new("external-service", policy, Clock::tokio(), None).unwrap()
}

/// Doubling delays without jitter, so that times are exact.
fn doubling(attempts: u32, initial: Duration) -> RetryConfig {
    RetryConfig::attempts(attempts)
        .backoff(Backoff::Exponential { initial, factor: 2.0 })
        .jitter(Jitter::None)
}

fn breaker(failures: u32, open: Duration, probes: u32, successes: u32) -> BreakerConfig {
    BreakerConfig::new()
        .failure_threshold(failures)
        .open_for(OpenDuration::fixed(open))
        .half_open(probes, successes)
}

/// One attempt with the given result.
async fn once(pipeline: &Pipeline, works: bool) -> Result<(), CallError<&'static str>> {
    let work = move |_| async move { if works { Ok(()) } else { Err("down") } };
    pipeline.call().idempotent().classify(AllTransient).run(work).await
}

#[tokio::test(start_paused = true)]
async fn a_slow_action_times_out() {
    let pipeline = pipeline(Policy::none().attempt_timeout(millis(100)));
    let start = tokio::time::Instant::now();
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|_| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok::<_, &str>(())
        })
        .await;
    let Err(stop @ CallError::TimedOut { which: TimeoutKind::Attempt, .. }) = result else {
        panic!("{result:?}")
    };
    assert!(stop.to_string().starts_with("Operation timed out after 100ms"), "{stop}");
    assert_eq!(start.elapsed(), millis(100));
}

#[tokio::test(start_paused = true)]
async fn retry_waits_with_exponential_backoff() {
    let pipeline = pipeline(Policy::none().retry(doubling(4, millis(100))));
    let start = tokio::time::Instant::now();
    let times = std::sync::Mutex::new(Vec::new());
    let times = &times;
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|attempt| async move {
            times.lock().unwrap().push(start.elapsed().as_millis());
            if attempt.number < 4 { Err("503") } else { Ok(attempt.number) }
        })
        .await;
    assert_eq!(result, Ok(4));
    assert_eq!(*times.lock().unwrap(), [0, 100, 300, 700]);
}

#[tokio::test(start_paused = true)]
async fn retry_stops_at_max_attempts() {
    let pipeline = pipeline(Policy::none().retry(doubling(3, millis(10))));
    let calls = AtomicU32::new(0);
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>("503") }
        })
        .await;
    assert_eq!(result, Err(CallError::Failed { error: "503", attempts: 3, why: StopReason::Attempts }));
    assert_eq!(calls.into_inner(), 3);
}

#[tokio::test(start_paused = true)]
async fn retry_repeats_only_retryable_errors() {
    let pipeline = pipeline(Policy::none().retry(doubling(5, millis(10))));
    let judge = |result: &Result<(), &str>| match result {
        Ok(()) => Verdict::Ok,
        Err(text) if text.contains("timeout") => Verdict::Transient,
        Err(_) => Verdict::Rejected,
    };
    let result = pipeline
        .call()
        .idempotent()
        .classify(judge)
        .run(|attempt| async move { if attempt.number == 1 { Err("timeout") } else { Err("bad request") } })
        .await;
    let expected = CallError::Failed { error: "bad request", attempts: 2, why: StopReason::NotRetryable };
    assert_eq!(result, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn breaker_opens_after_failures_and_spares_the_service() {
    let pipeline = pipeline(Policy::none().breaker(breaker(3, SECOND, 1, 1)));
    for _ in 0..3 {
        assert!(once(&pipeline, false).await.is_err());
    }
    assert_eq!(pipeline.breaker().state(), CircuitState::Open);
    let called = AtomicU32::new(0);
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|_| {
            called.fetch_add(1, Ordering::Relaxed);
            async { Ok::<(), &str>(()) }
        })
        .await;
    let stop = result.unwrap_err();
    assert_eq!(stop.refusal().map(loom_resilience::Refusal::rule), Some(Rule::CircuitOpen));
    assert!(stop.to_string().starts_with("Circuit breaker [external-service] is OPEN"), "{stop}");
    assert_eq!(called.into_inner(), 0);
}

#[tokio::test(start_paused = true)]
async fn breaker_goes_half_open_after_its_timeout() {
    let pipeline = pipeline(Policy::none().breaker(breaker(2, SECOND, 3, 2)));
    once(&pipeline, false).await.unwrap_err();
    once(&pipeline, false).await.unwrap_err();
    tokio::time::advance(millis(999)).await;
    assert!(once(&pipeline, true).await.unwrap_err().refusal().is_some());
    tokio::time::advance(millis(1)).await;
    // One failed probe of three leaves it half-open: two can still succeed.
    assert!(once(&pipeline, false).await.unwrap_err().refusal().is_none());
    assert_eq!(pipeline.breaker().state(), CircuitState::HalfOpen);
    // The second failure leaves only one, so it opens again.
    once(&pipeline, false).await.unwrap_err();
    assert_eq!(pipeline.breaker().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn breaker_closes_after_successes() {
    let pipeline = pipeline(Policy::none().breaker(breaker(1, SECOND, 3, 2)));
    once(&pipeline, false).await.unwrap_err();
    tokio::time::advance(SECOND).await;
    once(&pipeline, true).await.unwrap();
    assert_eq!(pipeline.breaker().state(), CircuitState::HalfOpen);
    once(&pipeline, true).await.unwrap();
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn limiter_limits_the_rate() {
    let pipeline = Arc::new(pipeline(Policy::none().limit(Limit::per_second(3).burst(3))));
    let start = tokio::time::Instant::now();
    let mut times = Vec::new();
    for _ in 0..5 {
        once(&pipeline, true).await.unwrap();
        times.push(start.elapsed().as_millis());
    }
    assert_eq!(times, [0, 0, 0, 334, 667]);
}

#[tokio::test(start_paused = true)]
async fn limiter_tracks_its_tokens() {
    let pipeline = pipeline(Policy::none().limit(Limit::per_second(3).burst(3)));
    let limiter = pipeline.limiter();
    let mut left = Vec::new();
    for _ in 0..5 {
        left.push(limiter.available(pipeline.clock().now()).unwrap());
        limiter.try_take(1, pipeline.clock().now()).ok();
    }
    assert_eq!(left, [3, 2, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn limiter_refills_over_time() {
    let pipeline = pipeline(Policy::none().limit(Limit::per_second(10).burst(10)));
    let limiter = pipeline.limiter();
    let clock = pipeline.clock();
    limiter.try_take(10, clock.now()).unwrap();
    assert_eq!(limiter.available(clock.now()), Some(0));
    tokio::time::advance(millis(500)).await;
    assert_eq!(limiter.available(clock.now()), Some(5));
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(limiter.available(clock.now()), Some(10));
}

#[tokio::test(start_paused = true)]
async fn timeout_cuts_off_slow_work() {
    let timeout = Timeout::with_clock(millis(50), Clock::tokio());
    let error = timeout.run(tokio::time::sleep(SECOND)).await.unwrap_err();
    assert_eq!(error.to_string(), "Operation timed out after 50ms");
}

#[tokio::test(start_paused = true)]
async fn timeout_lets_fast_work_through() {
    let timeout = Timeout::with_clock(millis(50), Clock::tokio());
    let work = async {
        tokio::time::sleep(millis(49)).await;
        "done"
    };
    assert_eq!(timeout.run(work).await, Ok("done"));
}

#[tokio::test(start_paused = true)]
async fn a_group_of_steps_runs_under_one_guard_and_cleans_up() {
    // A scope of workflow actions is the engine's; its library form is one guarded future of several steps.
    let pipeline = pipeline(Policy::none().attempt_timeout(SECOND));
    let log = std::sync::Mutex::new(Vec::new());
    let log = &log;
    let result = pipeline
        .attempt()
        .classify(AllTransient)
        .run(|| async move {
            log.lock().unwrap().push("first");
            tokio::time::sleep(millis(10)).await;
            log.lock().unwrap().push("second");
            Err::<(), _>("third failed")
        })
        .await;
    if result.is_err() {
        log.lock().unwrap().push("cleanup");
    }
    assert_eq!(*log.lock().unwrap(), ["first", "second", "cleanup"]);
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_attempt_is_retried() {
    let pipeline = pipeline(Policy::none().attempt_timeout(millis(100)).retry(doubling(3, millis(50))));
    let start = tokio::time::Instant::now();
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|attempt| async move {
            let takes = if attempt.number < 3 { SECOND } else { millis(20) };
            tokio::time::sleep(takes).await;
            Ok::<_, &str>(attempt.number)
        })
        .await;
    assert_eq!(result, Ok(3));
    // 100 + 50 + 100 + 100 + 20
    assert_eq!(start.elapsed(), millis(370));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_spends_no_permit_of_the_limiter() {
    let policy = Policy::none().breaker(breaker(2, SECOND, 1, 1)).limit(Limit::per_second(10).burst(10));
    let pipeline = pipeline(policy);
    once(&pipeline, false).await.unwrap_err();
    once(&pipeline, false).await.unwrap_err();
    assert_eq!(pipeline.limiter().available(pipeline.clock().now()), Some(8));
    for _ in 0..5 {
        assert!(once(&pipeline, true).await.unwrap_err().refusal().is_some());
    }
    assert_eq!(pipeline.limiter().available(pipeline.clock().now()), Some(8));
}
