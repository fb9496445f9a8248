//! One test for each trap that libraries of this kind fall into, named after it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use loom_resilience::{
    AllTransient, AttemptError, Backoff, BreakerConfig, Budget, BudgetConfig, BulkheadConfig, CallError,
    CircuitBreaker, CircuitState, Clock, Idempotency, Instant, Jitter, Limit, LimiterConfig, ManualClock,
    OpenDuration, Pipeline, Policy, RateLimiter, ResilienceRegistry, RetryConfig, RetryDecision,
    RetryPlanner, Rule, StopReason, Verdict, Window,
};

const SECOND: Duration = Duration::from_secs(1);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn breaker(config: BreakerConfig) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(SECOND * 100);
    let config = config.open_for(OpenDuration::fixed(SECOND));
    (CircuitBreaker::new("trap", config, Clock::manual(&clock), None).unwrap(), clock)
}

fn limiter(config: LimiterConfig) -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    (RateLimiter::new("trap", config, Clock::manual(&clock), None).unwrap(), clock)
}

fn pipeline(policy: Policy) -> (Pipeline, ManualClock) {
    let clock = ManualClock::new();
    (Pipeline::new("trap", policy, Clock::manual(&clock), None).unwrap(), clock)
}

/// Polls once, like a caller that then drops the future.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn trap_01_a_sliding_window_that_never_slides() {
    for window in [Window::Calls(100), Window::Time(SECOND * 10)] {
        let (breaker, clock) = breaker(BreakerConfig::new().failure_rate(0.5, 20, window));
        for _ in 0..10_000 {
            breaker.admit(clock.now()).unwrap().success(clock.now());
        }
        clock.advance(SECOND * 11);
        let mut failures = 0;
        while let Ok(admission) = breaker.admit(clock.now()) {
            admission.failure(clock.now());
            failures += 1;
        }
        let expected = if window == Window::Calls(100) { 50 } else { 20 };
        assert_eq!(failures, expected, "{window:?}");
    }
}

#[test]
fn trap_02_a_stampede_when_half_open() {
    let (breaker, clock) = breaker(BreakerConfig::new().failure_threshold(1).half_open(3, 3));
    breaker.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    let admitted: Vec<_> = (0..20).filter_map(|_| breaker.admit(clock.now()).ok()).collect();
    assert_eq!(admitted.len(), 3);
}

#[test]
fn trap_03_a_stale_result_decides() {
    let (breaker, clock) = breaker(BreakerConfig::new().failure_threshold(1));
    let stale: Vec<_> = (0..3).map(|_| breaker.admit(clock.now()).unwrap()).collect();
    breaker.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    let probe = breaker.admit(clock.now()).unwrap();
    for (index, old) in stale.into_iter().enumerate() {
        if index == 0 { old.failure(clock.now()) } else { old.success(clock.now()) }
    }
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(breaker.admit(clock.now()).is_err(), "a stale result must not free a probe's slot");
    probe.success(clock.now());
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn trap_04_a_call_dropped_from_outside_is_never_counted() {
    let slow = BreakerConfig::new().slow_calls(SECOND, 0.5, 10, Window::Calls(20));
    let (breaker, clock) = breaker(slow);
    for _ in 0..10 {
        let admission = breaker.admit(clock.now()).unwrap();
        clock.advance(SECOND);
        drop(admission);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[test]
fn trap_05_a_lost_probe_holds_the_circuit_half_open_for_ever() {
    let rules = BreakerConfig::new().failure_threshold(1).probe_lease(SECOND * 5);
    let (breaker, clock) = breaker(rules);
    breaker.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    // A probe that hangs: its guard lives on, but its lease runs out.
    let hung = breaker.admit(clock.now()).unwrap();
    assert_eq!(breaker.admit(clock.now()).unwrap_err().rule, Rule::CircuitHalfOpen);
    clock.advance(SECOND * 5);
    let second = breaker.admit(clock.now()).unwrap();
    // Its caller drops the hung probe, which reports nothing and frees nothing twice.
    drop(hung);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert_eq!(breaker.admit(clock.now()).unwrap_err().rule, Rule::CircuitHalfOpen);
    // A dropped probe returns its slot at once.
    drop(second);
    breaker.admit(clock.now()).unwrap().success(clock.now());
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn trap_05_a_probe_that_outlives_its_lease_decides_nothing() {
    // One healthy call of 31 s a second, under a lease of 30 s.
    let (slow_but_healthy, clock) = breaker(BreakerConfig::new().failure_threshold(1));
    slow_but_healthy.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    let mut out = std::collections::VecDeque::new();
    let mut seconds = 0;
    while slow_but_healthy.state() != CircuitState::Closed {
        assert!(seconds < 60, "the circuit stays half-open though every call succeeds");
        if let Ok(admission) = slow_but_healthy.admit(clock.now()) {
            out.push_back((seconds, admission));
        }
        clock.advance(SECOND);
        seconds += 1;
        while out.front().is_some_and(|(began, _)| seconds - began >= 31) {
            out.pop_front().unwrap().1.success(clock.now());
        }
    }
    assert_eq!(seconds, 31);

    // A late failure is a failure: the circuit opens again instead of admitting a probe with every lease.
    let (dead, clock) = breaker(BreakerConfig::new().failure_threshold(1).probe_lease(SECOND * 5));
    dead.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    let probe = dead.admit(clock.now()).unwrap();
    clock.advance(SECOND * 6);
    probe.failure(clock.now());
    assert_eq!(dead.state(), CircuitState::Open);

    // Where slow calls are judged, an expired probe has failed already, and is not counted a second time.
    let rules = BreakerConfig::new().slow_calls(SECOND * 2, 0.5, 1, Window::Calls(10));
    let (judged, clock) = breaker(rules.half_open(2, 1).probe_lease(SECOND * 5));
    let slow = judged.admit(clock.now()).unwrap();
    clock.advance(SECOND * 2);
    slow.failure(clock.now());
    clock.advance(SECOND);
    let hung = judged.admit(clock.now()).unwrap();
    clock.advance(SECOND * 5);
    let second = judged.admit(clock.now()).unwrap();
    hung.failure(clock.now());
    assert_eq!(judged.state(), CircuitState::HalfOpen, "one of two probes has failed");
    second.success(clock.now());
    assert_eq!(judged.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn trap_05_a_lease_that_is_shorter_than_the_call_may_take() {
    let breaker = BreakerConfig::new().failure_threshold(1).open_for(OpenDuration::fixed(SECOND));
    let policy = Policy::none().breaker(breaker).attempt_timeout(SECOND * 90);
    let pipeline = Pipeline::new("trap", policy, Clock::tokio(), None).unwrap();
    pipeline.breaker().admit(pipeline.clock().now()).unwrap().failure(pipeline.clock().now());
    tokio::time::advance(SECOND).await;
    let slow = pipeline.attempt().classify(AllTransient).run(|| async {
        tokio::time::sleep(SECOND * 80).await;
        Ok::<_, &str>(())
    });
    let mut slow = pin!(slow);
    assert!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    tokio::time::advance(SECOND * 60).await;
    let refused = pipeline.breaker().admit(pipeline.clock().now()).unwrap_err();
    assert_eq!(refused.rule, Rule::CircuitHalfOpen, "the probe may take 90 s, so its slot is kept for 90 s");
    slow.await.unwrap();
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed);
}

#[test]
fn trap_06_cancellation_read_as_health() {
    let (breaker, clock) = breaker(BreakerConfig::new().failure_threshold(2));
    breaker.admit(clock.now()).unwrap().failure(clock.now());
    drop(breaker.admit(clock.now()).unwrap());
    breaker.admit(clock.now()).unwrap().settle(Verdict::Cancelled, clock.now());
    assert_eq!(breaker.status(clock.now()).consecutive_failures, 1, "neither a success nor a failure");
    breaker.admit(clock.now()).unwrap().failure(clock.now());
    clock.advance(SECOND);
    drop(breaker.admit(clock.now()).unwrap());
    assert_eq!(breaker.state(), CircuitState::HalfOpen, "a cancelled probe neither closes nor opens");
}

#[tokio::test(start_paused = true)]
async fn trap_07_waiters_wake_together_and_out_of_order() {
    const WAITERS: u32 = 100;
    let config = LimiterConfig::new(Limit::per_second(1_000).burst(1));
    let limiter = Arc::new(RateLimiter::new("trap", config, Clock::tokio(), None).unwrap());
    let polls = Arc::new(AtomicU32::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..WAITERS {
        let (limiter, polls, order) = (Arc::clone(&limiter), Arc::clone(&polls), Arc::clone(&order));
        tasks.spawn(async move {
            {
                let mut take = pin!(limiter.take(1, None));
                std::future::poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    take.as_mut().poll(cx)
                })
                .await
                .unwrap();
            }
            order.lock().unwrap().push(number);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..WAITERS).collect::<Vec<_>>());
    // One poll to join the queue and one wake-up with the permit there. Timers of a millisecond may fire a little
    // before the bucket's exact time, which costs a further poll now and then.
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 2 * WAITERS + WAITERS / 10, "{polls} polls");
}

#[test]
fn trap_08_a_hopeless_wait_is_waited_for() {
    let (limiter, clock) = limiter(LimiterConfig::new(Limit::per_hour(1)));
    limiter.try_take(1, clock.now()).unwrap();
    let Poll::Ready(Err(refused)) = poll_once(limiter.take(1, Some(millis(100)))) else {
        panic!("must be refused at the first poll")
    };
    assert_eq!(refused.rule, Rule::RateLimit);
    let after = refused.retry_after.unwrap();
    assert!(after >= Duration::from_hours(1) && after < Duration::from_hours(1) + millis(1), "{after:?}");
}

#[test]
fn trap_09_jitter_breaks_the_cap_or_the_cap_eats_the_jitter() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        let config = RetryConfig::attempts(100)
            .backoff(Backoff::Exponential { initial: millis(100), factor: 2.0 })
            .jitter(jitter)
            .max_delay(SECOND);
        let planner = RetryPlanner::new(config).unwrap().idempotent();
        let mut delays: Vec<_> = (0..1_000).map(|seed| planner.delay(20, seed)).collect();
        assert!(delays.iter().all(|delay| *delay <= SECOND), "{jitter:?}");
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 990, "{jitter:?}: only {} different delays at the cap", delays.len());
    }
}

#[tokio::test(start_paused = true)]
async fn trap_10_the_permit_of_a_cancelled_waiter_is_lost() {
    let config = LimiterConfig::new(Limit::per_second(10).burst(1));
    let limiter = RateLimiter::new("trap", config, Clock::tokio(), None).unwrap();
    limiter.take(1, None).await.unwrap();
    let start = tokio::time::Instant::now();
    {
        let mut gone = Vec::new();
        for _ in 0..5 {
            gone.push(Box::pin(limiter.take(1, None)));
        }
        for future in &mut gone {
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(limiter.status(Clock::tokio().now()).waiting, 5);
    }
    assert_eq!(limiter.status(Clock::tokio().now()).waiting, 0);
    limiter.take(1, None).await.unwrap();
    assert!(start.elapsed() <= millis(101), "{:?}", start.elapsed());
}

#[test]
fn trap_11_the_wall_clock_decides() {
    let (limiter, clock) = limiter(LimiterConfig::new(Limit::per_second(1)));
    limiter.try_take(1, clock.now()).unwrap();
    // The wall clock steps forward and back; nothing but monotonic time refills.
    clock.set_unix_start(Duration::from_hours(1_000_000));
    assert!(limiter.try_take(1, clock.now()).is_err());
    clock.set_unix_start(Duration::ZERO);
    // An instant before the last one (another core, a caller that read the clock early) must neither panic nor refill.
    assert!(limiter.try_take(1, Instant::ZERO).is_err());
    let (breaker, _) = breaker(BreakerConfig::new().failure_threshold(1));
    breaker.admit(Instant::from_nanos(u64::MAX)).unwrap().failure(Instant::ZERO);
    assert!(breaker.admit(Instant::ZERO).is_err());
}

#[test]
fn trap_12_the_cost_grows_with_traffic() {
    // A time window is a fixed set of counts, so the size of the breaker shows its memory.
    let before = size_of::<CircuitBreaker>();
    assert!(before < 1_024, "{before} bytes");
    let (breaker, clock) = breaker(BreakerConfig::new().failure_rate(0.9, 10, Window::Time(SECOND * 100)));
    for call in 0..200_000_u32 {
        let admission = breaker.admit(clock.now()).unwrap();
        if call % 2 == 0 { admission.success(clock.now()) } else { admission.failure(clock.now()) }
    }
    let status = breaker.status(clock.now());
    assert_eq!((status.window_calls, status.window_failures), (200_000, 100_000));
}

#[test]
fn trap_13_tokens_in_floating_point() {
    // A rate that whole nanoseconds cannot express: a permit every 1428.57 ns.
    let (limiter, clock) = limiter(LimiterConfig::new(Limit::per_second(700_000).burst(1)));
    let mut now = clock.now();
    let mut granted = 0_u64;
    let end = Instant::ZERO + SECOND;
    while now < end {
        match limiter.try_take(1, now) {
            Ok(()) => granted += 1,
            Err(refused) => now = now + refused.retry_after.unwrap(),
        }
    }
    // Waiting in whole nanoseconds costs up to one of them each time, and none is gained.
    assert!((699_000..=700_001).contains(&granted), "{granted}");
    // Over half a billion permits, five years, the time of the last is exact to two nanoseconds.
    let (limiter, _) = self::limiter(LimiterConfig::new(Limit::per_second(3).burst(500_000_000)));
    limiter.try_take(500_000_000, Instant::ZERO).unwrap();
    let full = Duration::from_nanos(166_666_666_666_666_666);
    assert_eq!(limiter.available(Instant::ZERO + full.saturating_sub(SECOND / 3)), Some(499_999_998));
    assert_eq!(limiter.available(Instant::ZERO + full + Duration::from_nanos(2)), Some(500_000_000));
}

#[test]
fn trap_14_a_quota_refilled_only_by_success() {
    let budget = Budget::new(BudgetConfig::default()).unwrap();
    let mut now = Instant::ZERO + SECOND;
    while budget.try_spend(now) {}
    assert_eq!(budget.available(now), Some(0));
    // Not one call succeeds, and yet the floor comes back.
    now = now + Duration::from_mins(1);
    assert_eq!(budget.available(now), Some(60));
}

#[test]
fn trap_15_a_budget_that_does_not_bound() {
    let config = BudgetConfig { ratio: 0.1, per_second: 0.0, window: SECOND * 10, ..BudgetConfig::default() };
    let budget = Budget::new(config).unwrap();
    let now = Instant::ZERO + SECOND;
    for _ in 0..1_000 {
        budget.deposit(now);
    }
    let spent = (0..1_000).filter(|_| budget.try_spend(now)).count();
    assert_eq!(spent, 100);
}

#[tokio::test(start_paused = true)]
async fn trap_15_waiting_retries_escape_the_budget() {
    let policy = Policy::none()
        .retry(RetryConfig::attempts(10).backoff(Backoff::Constant { delay: SECOND }).jitter(Jitter::None))
        .budget(BudgetConfig { ratio: 0.0, per_second: 0.3, window: SECOND * 10, ..BudgetConfig::default() });
    let pipeline = Arc::new(Pipeline::new("trap", policy, Clock::tokio(), None).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let pipeline = Arc::clone(&pipeline);
        tasks.spawn(async move {
            pipeline.call().idempotent().classify(AllTransient).run(|_| async { Err::<(), _>("down") }).await
        });
    }
    let mut without_retry = 0;
    while let Some(result) = tasks.join_next().await {
        match result.unwrap().unwrap_err() {
            CallError::Failed { why: StopReason::Budget, attempts, .. } => {
                without_retry += u32::from(attempts == 1);
            }
            other => panic!("{other:?}"),
        }
    }
    // Three of the ten may wait at the same time; they are charged before they wait.
    assert_eq!(without_retry, 7);
}

#[test]
fn trap_16_our_own_refusals_counted_as_failures() {
    let policy = Policy::none()
        .breaker(BreakerConfig::new().failure_threshold(1))
        .limiter(LimiterConfig::new(Limit::per_hour(1)).max_wait(Duration::ZERO))
        .bulkhead(BulkheadConfig::new(1));
    let (pipeline, _) = pipeline(policy);
    let work = || async { Ok::<_, &str>(()) };
    let Poll::Ready(Ok(())) = poll_once(pipeline.attempt().classify(AllTransient).run(work)) else {
        panic!()
    };
    let Poll::Ready(Err(AttemptError::Refused(refusal))) =
        poll_once(pipeline.attempt().classify(AllTransient).run(work))
    else {
        panic!("the limiter must refuse")
    };
    assert_eq!(refusal.rule(), Rule::RateLimit);
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed);
    assert_eq!(pipeline.breaker().status(pipeline.clock().now()).consecutive_failures, 0);
}

#[test]
fn trap_17_errors_of_the_caller_open_the_circuit_or_keep_it_open() {
    let (breaker, clock) = breaker(BreakerConfig::new().failure_threshold(2));
    for _ in 0..10 {
        breaker.admit(clock.now()).unwrap().rejected(clock.now());
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    for _ in 0..2 {
        breaker.admit(clock.now()).unwrap().failure(clock.now());
    }
    clock.advance(SECOND);
    breaker.admit(clock.now()).unwrap().settle(Verdict::Rejected, clock.now());
    assert_eq!(breaker.state(), CircuitState::Closed, "a timely rejection proves that the service responds");
}

#[tokio::test(start_paused = true)]
async fn trap_18_retries_at_two_levels_multiply() {
    let retry = RetryConfig::attempts(3).jitter(Jitter::None);
    let outer =
        Pipeline::new("outer", Policy::none().retry(retry).total_timeout(SECOND * 30), Clock::tokio(), None)
            .unwrap();
    let inner = Pipeline::new("inner", Policy::none().retry(retry), Clock::tokio(), None).unwrap();
    let calls = AtomicU32::new(0);
    let (inner, calls) = (&inner, &calls);
    let result = outer
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|attempt| async move {
            assert!(attempt.remaining().is_some_and(|left| left <= SECOND * 30));
            let once = |_| {
                calls.fetch_add(1, Ordering::Relaxed);
                async { Err::<(), _>("down") }
            };
            inner.call().idempotent().within(&attempt).classify(AllTransient).run(once).await
        })
        .await;
    assert_eq!(result.unwrap_err().attempts(), 3);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn trap_19_a_timeout_leaves_work_running() {
    struct Working<'a>(&'a AtomicU32);
    impl Drop for Working<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let policy = Policy::none().attempt_timeout(millis(10)).bulkhead(BulkheadConfig::new(1));
    let pipeline = Pipeline::new("trap", policy, Clock::tokio(), None).unwrap();
    let working = AtomicU32::new(0);
    let working = &working;
    let result = pipeline
        .attempt()
        .classify(AllTransient)
        .run(|| async move {
            working.fetch_add(1, Ordering::Relaxed);
            let _working = Working(working);
            std::future::pending::<Result<(), &str>>().await
        })
        .await;
    assert!(matches!(result, Err(AttemptError::TimedOut(_))));
    assert_eq!(working.load(Ordering::Relaxed), 0, "the work is dropped before the caller gets the error");
    assert_eq!(pipeline.bulkhead().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_panic_read_as_a_timeout() {
    let policy = Policy::none()
        .attempt_timeout(SECOND)
        .breaker(BreakerConfig::new().failure_threshold(1))
        .bulkhead(BulkheadConfig::new(1));
    let pipeline = Arc::new(Pipeline::new("trap", policy, Clock::tokio(), None).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    let panicking = Arc::clone(&pipeline);
    tasks.spawn(async move {
        let work = || async { panic!("a bug in the caller's code") };
        panicking.attempt().classify(AllTransient).run::<(), &str, _, _>(work).await
    });
    let error = tasks.join_next().await.unwrap().unwrap_err();
    assert!(error.is_panic(), "the panic reaches the caller as a panic");
    assert_eq!(pipeline.bulkhead().in_flight(), 0);
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed, "and does not count against the service");
}

#[tokio::test(start_paused = true)]
async fn trap_21_a_lock_is_held_across_an_await() {
    // While one call is in its work, another goes through every part: nothing is held meanwhile.
    let policy = Policy::standard().limit(Limit::per_second(100).burst(100)).bulkhead(BulkheadConfig::new(9));
    let pipeline = Pipeline::new("trap", policy, Clock::tokio(), None).unwrap();
    let mut first =
        pin!(pipeline.attempt().classify(AllTransient).run(std::future::pending::<Result<(), &str>>));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = pipeline.attempt().classify(AllTransient).run(|| async { Ok::<_, &str>(2) });
    assert_eq!(poll_once(second), Poll::Ready(Ok(2)));
}

#[test]
fn trap_22_garbage_waits_for_the_slowest_call() {
    // A guard holds a plain stamp, nothing pinned: the breaker can even change its rules meanwhile.
    let (breaker, clock) = breaker(BreakerConfig::new().failure_threshold(1));
    let slow = breaker.admit(clock.now()).unwrap();
    breaker
        .reconfigure(
            BreakerConfig::new().failure_threshold(2).open_for(OpenDuration::fixed(SECOND)),
            clock.now(),
        )
        .unwrap();
    slow.failure(clock.now());
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn trap_23_an_unbounded_retry_after() {
    let planner = RetryPlanner::new(RetryConfig::default()).unwrap().idempotent();
    let day = Verdict::Throttled { after: Some(Duration::from_hours(24)) };
    assert_eq!(planner.plan(1, day, Instant::ZERO, None, 1), RetryDecision::After(Duration::from_mins(5)));
    // And never earlier than requested, up to the maximum.
    let asked = Verdict::Throttled { after: Some(SECOND * 7) };
    assert_eq!(planner.plan(1, asked, Instant::ZERO, None, 1), RetryDecision::After(SECOND * 7));
    let deadline = Some(Instant::ZERO + SECOND * 7);
    assert_eq!(
        planner.plan(1, asked, Instant::ZERO, deadline, 1),
        RetryDecision::GiveUp(StopReason::Deadline)
    );
    // A response can delay all callers, not only the one that received it.
    let (limiter, clock) = limiter(LimiterConfig::new(Limit::per_second(100).burst(100)));
    limiter.freeze(clock.now() + SECOND * 7);
    let refused = limiter.try_take(1, clock.now()).unwrap_err();
    assert_eq!((refused.rule, refused.retry_after), (Rule::Frozen, Some(SECOND * 7)));
    clock.advance(SECOND * 7);
    limiter.try_take(1, clock.now()).unwrap();
}

#[test]
fn trap_23_a_retry_after_that_overflows() {
    let config = RetryConfig::attempts(2).max_retry_after(Duration::MAX);
    let planner = RetryPlanner::new(config).unwrap().idempotent();
    let asked = Verdict::Throttled { after: Some(Duration::MAX) };
    assert_eq!(planner.plan(1, asked, Instant::ZERO, None, 7), RetryDecision::After(Duration::MAX));
    let deadline = Some(Instant::from_nanos(u64::MAX));
    assert_eq!(
        planner.plan(1, asked, Instant::ZERO, deadline, 7),
        RetryDecision::GiveUp(StopReason::Deadline)
    );
}

#[test]
fn trap_24_the_registry_grows_without_bound() {
    let clock = ManualClock::new();
    let registry = ResilienceRegistry::builder().capacity(100).clock(Clock::manual(&clock)).build().unwrap();
    let dear = registry.service("open");
    dear.breaker().trip_for(SECOND * 1_000, clock.now());
    drop(dear);
    for number in 0..10_000 {
        drop(registry.service(&format!("host-{number}")));
    }
    assert!(registry.len() <= 100, "{}", registry.len());
    let kept = registry.get("open").expect("an open circuit stays while idle services can go");
    assert_eq!(kept.breaker().state(), CircuitState::Open);
}

#[test]
fn trap_25_a_bucket_is_not_a_window() {
    let most_in_a_second = |limit: Limit| {
        let (limiter, _) = limiter(LimiterConfig::new(limit));
        let mut grants: Vec<u64> = Vec::new();
        for ms in 0..3_000 {
            while limiter.try_take(1, Instant::ZERO + SECOND + millis(ms)).is_ok() {
                grants.push(ms);
            }
        }
        let in_second = |start: u64| grants.iter().filter(|at| (start..start + 1_000).contains(at)).count();
        (0..2_000).map(in_second).max().unwrap()
    };
    assert_eq!(most_in_a_second(Limit::window(10, SECOND)), 10);
    assert!(most_in_a_second(Limit::per_second(10).burst(1)) <= 11);
    assert!(most_in_a_second(Limit::per_second(10).burst(10)) > 11, "a burst allows more");
}

#[test]
fn trap_26_a_configuration_that_means_less_than_it_says() {
    let never = BreakerConfig::new().failure_rate(0.5, 100, Window::Calls(20));
    let error = Policy::none().breaker(never).validate().unwrap_err();
    assert_eq!(error.issues.len(), 1);
    assert!(
        error.to_string().contains("minimum_calls: must be at most 20, the number of calls in the window"),
        "{error}"
    );
    let twisted = Policy::none()
        .total_timeout(SECOND)
        .attempt_timeout(SECOND * 2)
        .retry(RetryConfig::attempts(0))
        .breaker(BreakerConfig::new())
        .limiter(LimiterConfig::default());
    let error = twisted.validate().unwrap_err();
    assert_eq!(error.issues.len(), 4, "{error}");
    let text = Policy::standard().limit(Limit::per_minute(600).burst(20)).describe();
    for words in ["3 attempts in all", "5 failures in a row", "600 every 60 s, at most 20 at once", "10 %"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_call_that_is_not_idempotent_is_repeated_only_when_it_was_not_processed() {
    let planner = RetryPlanner::new(RetryConfig::default()).unwrap().idempotency(Idempotency::NonIdempotent);
    let plan = |verdict| planner.plan(1, verdict, Instant::ZERO, None, 1);
    assert_eq!(plan(Verdict::Transient), RetryDecision::GiveUp(StopReason::NotIdempotent));
    assert!(matches!(plan(Verdict::NotSent), RetryDecision::After(_)));
    assert!(matches!(plan(Verdict::Throttled { after: None }), RetryDecision::After(_)));
}

/// A pipeline on paused time: a breaker that opens after `failures` for 700 ms, and pauses of 100 ms between attempts.
fn retrying(failures: u32, attempts: u32) -> Pipeline {
    let retry = RetryConfig::attempts(attempts)
        .backoff(Backoff::Constant { delay: millis(100) })
        .jitter(Jitter::None);
    let breaker = BreakerConfig::new().failure_threshold(failures).open_for(OpenDuration::fixed(millis(700)));
    Pipeline::new("trap", Policy::none().retry(retry).breaker(breaker), Clock::tokio(), None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn trap_27_a_retry_runs_into_the_circuit_that_its_own_failure_opened() {
    let pipeline = retrying(3, 4);
    let started = pipeline.clock().now();
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|attempt| async move { if attempt.number < 4 { Err("500") } else { Ok(attempt.number) } })
        .await;
    assert_eq!(result, Ok(4), "the fourth attempt waits until the circuit lets it probe");
    assert_eq!(pipeline.clock().now().since(started), millis(100 + 100 + 700));
    assert_eq!(pipeline.breaker().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn trap_27_a_refusal_counts_as_an_attempt_and_hides_the_real_error() {
    // The deadline does not reach to half-open: the call ends at once, with the service's own error.
    let pipeline = retrying(1, 4);
    let deadline = pipeline.clock().now() + millis(500);
    let call = pipeline.call().idempotent().classify(AllTransient).deadline(deadline);
    let result = call.run(|_| async { Err::<(), _>("500") }).await;
    assert_eq!(result, Err(CallError::Failed { error: "500", attempts: 1, why: StopReason::Deadline }));

    // The circuit stays half-open with its probe out: every attempt is refused, none is counted, and the refusal that
    // ends the call carries the service's last error.
    let pipeline = retrying(1, 3);
    let result = pipeline.call().idempotent().classify(AllTransient).run(|attempt| async move {
        assert_eq!(attempt.number, 1);
        Err::<(), _>("500")
    });
    let probe = async {
        tokio::time::sleep(millis(700)).await;
        pipeline.breaker().admit(pipeline.clock().now())
    };
    let (probe, result) = tokio::join!(biased; probe, result);
    assert!(probe.unwrap().is_probe());
    let Err(stop) = result else { panic!("the only probe is out, so the call cannot succeed") };
    assert_eq!((stop.attempts(), stop.error()), (1, Some(&"500")));
    assert_eq!(stop.refusal().unwrap().rule(), Rule::CircuitHalfOpen);
    assert!(stop.to_string().ends_with("attempt 1 failed before that: 500"), "{stop}");
}

#[tokio::test(start_paused = true)]
async fn trap_27_a_manually_opened_circuit_is_waited_for() {
    let pipeline = retrying(5, 4);
    let started = pipeline.clock().now();
    let result = pipeline
        .call()
        .idempotent()
        .classify(AllTransient)
        .run(|_| async {
            pipeline.breaker().trip_for(SECOND * 60, pipeline.clock().now());
            Err::<(), _>("500")
        })
        .await;
    assert_eq!(result, Err(CallError::Failed { error: "500", attempts: 1, why: StopReason::OpenedManually }));
    let refused =
        pipeline.call().idempotent().classify(AllTransient).run(|_| async { Ok::<_, &str>(()) }).await;
    assert!(
        matches!(
            refused,
            Err(CallError::Refused { attempts: 0, why: StopReason::OpenedManually, last_error: None, .. })
        ),
        "{refused:?}"
    );
    assert_eq!(pipeline.clock().now(), started, "no call waited");
}
