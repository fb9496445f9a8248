//! Queues: waiting for permits of a limiter and of a bulkhead.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use loom_resilience::{
    AllTransient, AttemptError, Budget, BudgetConfig, Bulkhead, BulkheadConfig, Clock, Hedge, Learned, Limit,
    LimiterConfig, Pipeline, Policy, RateLimiter, Retry, RetryConfig, Rule, Timeout,
};
use tokio::{task::JoinSet, time::Instant};

const SECOND: Duration = Duration::from_secs(1);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn limiter(config: LimiterConfig) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new("line", config, Clock::tokio(), None).unwrap())
}

#[tokio::test(start_paused = true)]
async fn weighted_permits_keep_the_order() {
    let limiter = limiter(LimiterConfig::new(Limit::per_second(10).burst(10)));
    limiter.try_take(10, Clock::tokio().now()).unwrap();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    // The second is small enough to be served first, and must not be.
    for permits in [5, 1, 4] {
        let limiter = Arc::clone(&limiter);
        tasks.spawn(async move {
            limiter.take(permits, None).await.unwrap();
            (permits, start.elapsed().as_millis() / 100)
        });
        tokio::task::yield_now().await;
    }
    let served = tasks.join_all().await;
    assert_eq!(served, [(5, 5), (1, 6), (4, 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_call_cannot_overtake_waiting_calls() {
    let limiter = limiter(LimiterConfig::new(Limit::per_second(10).burst(1)));
    limiter.try_take(1, Clock::tokio().now()).unwrap();
    let waiter = Arc::clone(&limiter);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { waiter.take(1, None).await });
    tokio::task::yield_now().await;
    // Time passes, but the waiter has not run yet: its permit is not there for others.
    let later = Clock::tokio().now() + millis(150);
    assert!(limiter.try_take(1, later).is_err());
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let limiter = limiter(LimiterConfig::new(Limit::per_second(1)).queue(1));
    limiter.try_take(1, Clock::tokio().now()).unwrap();
    let waiter = Arc::clone(&limiter);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { waiter.take(1, None).await });
    tokio::task::yield_now().await;
    let refused = limiter.take(1, None).await.unwrap_err();
    assert_eq!(refused.rule, Rule::QueueFull);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_admits_waiting_calls_sooner() {
    let limiter = limiter(LimiterConfig::new(Limit::per_hour(1)));
    limiter.try_take(1, Clock::tokio().now()).unwrap();
    let waiter = Arc::clone(&limiter);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { waiter.take(1, None).await });
    tokio::time::sleep(SECOND).await;
    let faster = LimiterConfig::new(Limit::per_second(10));
    limiter.reconfigure(faster, Clock::tokio().now()).unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert!(start.elapsed() < SECOND * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_freeze_makes_a_bounded_wait_hopeless() {
    let limiter = limiter(LimiterConfig::new(Limit::per_second(1)));
    limiter.try_take(1, Clock::tokio().now()).unwrap();
    let waiter = Arc::clone(&limiter);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { waiter.take(1, Some(SECOND * 2)).await });
    tokio::task::yield_now().await;
    limiter.freeze(Clock::tokio().now() + SECOND * 60);
    let refused = tasks.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(refused.retry_after.unwrap() > SECOND * 50);
    assert!(start.elapsed() < SECOND, "refused at once, not after its two seconds");
}

#[tokio::test(start_paused = true)]
async fn a_limit_reported_by_a_response_binds_all_callers() {
    let limiter = limiter(LimiterConfig::new(Limit::per_minute(600).burst(100)));
    let clock = Clock::tokio();
    let left = Learned { remaining: Some(3), ..Learned::default() };
    limiter.learn(left, clock.now());
    assert_eq!(limiter.available(clock.now()), Some(3));
    // A higher value changes nothing: a header cannot raise the rate.
    limiter.learn(Learned { remaining: Some(90), ..Learned::default() }, clock.now());
    assert_eq!(limiter.available(clock.now()), Some(3));
    let none = Learned { remaining: Some(0), reset_after: Some(SECOND * 20), ..Learned::default() };
    limiter.learn(none, clock.now());
    assert_eq!(limiter.try_take(1, clock.now()).unwrap_err().rule, Rule::Frozen);
    tokio::time::advance(SECOND * 20).await;
    limiter.try_take(1, clock.now()).unwrap();
    limiter.learn(Learned { limit: Some(60), ..Learned::default() }, clock.now());
    assert_eq!(limiter.config().limits[0].permits, 60);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_admits_in_order_and_takes_permits_back() {
    let bulkhead =
        Arc::new(Bulkhead::new("line", BulkheadConfig::new(1).queue(3), Clock::tokio(), None).unwrap());
    let first = bulkhead.try_enter().unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let bulkhead = Arc::clone(&bulkhead);
        tasks.spawn(async move {
            let (place, _) = bulkhead.enter(None).await.unwrap();
            tokio::time::sleep(millis(10)).await;
            drop(place);
            number
        });
        tokio::task::yield_now().await;
    }
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (1, 3));
    let refused = bulkhead.enter(None).await.unwrap_err();
    assert_eq!(refused.rule, Rule::QueueFull);
    drop(first);
    assert_eq!(tasks.join_all().await, [0, 1, 2]);
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_keeps_no_permit() {
    let bulkhead = Bulkhead::new("line", BulkheadConfig::new(1).queue(5), Clock::tokio(), None).unwrap();
    let first = bulkhead.try_enter().unwrap();
    let waited = bulkhead.enter(Some(millis(20))).await.unwrap_err();
    assert_eq!(waited.rule, Rule::BulkheadFull);
    assert_eq!(bulkhead.waiting(), 0);
    drop(first);
    drop(bulkhead.try_enter().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_covers_waits_attempts_and_delays() {
    let policy = Policy::none()
        .total_timeout(SECOND)
        .retry(loom_resilience::RetryConfig::attempts(100))
        .limiter(LimiterConfig::new(Limit::per_second(4)).queue(10));
    let pipeline = Pipeline::new("line", policy, Clock::tokio(), None).unwrap();
    let start = Instant::now();
    let result = pipeline
        .call()
        .idempotent()
        .seed(7)
        .classify(AllTransient)
        .run(|_| async {
            tokio::time::sleep(millis(300)).await;
            Err::<(), _>("503")
        })
        .await;
    assert!(result.is_err());
    assert!(start.elapsed() <= millis(1_001), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_in_the_bulkhead_queue_returns_its_rate_limit_permit() {
    let policy = Policy::none().limit(Limit::per_hour(2).burst(2)).bulkhead(BulkheadConfig::new(1).queue(1));
    let pipeline = Pipeline::new("line", policy, Clock::tokio(), None).unwrap();
    let held = pipeline.bulkhead().try_enter().unwrap();
    let attempt = pipeline.attempt().classify(AllTransient).run(|| async { Ok::<_, &str>(()) });
    let cut = tokio::time::timeout(millis(10), attempt).await;
    assert!(cut.is_err());
    assert_eq!(pipeline.limiter().available(pipeline.clock().now()), Some(2));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_past_its_deadline_is_not_made() {
    let pipeline = Pipeline::new("line", Policy::none(), Clock::tokio(), None).unwrap();
    let deadline = pipeline.clock().now();
    let attempt = pipeline.attempt().deadline(deadline).classify(AllTransient);
    let Err(AttemptError::Refused(refusal)) = attempt.run(|| async { Ok::<_, &str>(()) }).await else {
        panic!("must be refused")
    };
    assert_eq!(refusal.rule(), Rule::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_returns_the_first_good_response_within_its_budget() {
    let hedge = Hedge::new(millis(50), Clock::tokio());
    let budget = Budget::new(BudgetConfig {
        ratio: 0.0,
        per_second: 0.1,
        window: SECOND * 10,
        ..BudgetConfig::default()
    })
    .unwrap();
    let work = |copy: u32| async move {
        tokio::time::sleep(if copy == 1 { SECOND } else { millis(10) }).await;
        Ok::<_, &str>(copy)
    };
    let start = Instant::now();
    assert_eq!(hedge.run(&budget, work).await, Ok(2));
    assert_eq!(start.elapsed(), millis(60));
    // The budget allows one copy in ten seconds: the next slow call is not hedged.
    assert_eq!(hedge.run(&budget, work).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_alone_returns_the_last_result() {
    let retry = Retry::new(RetryConfig::attempts(3)).unwrap().idempotent().clock(Clock::tokio()).seed(3);
    let start = Instant::now();
    let work = |attempt: u32| async move { if attempt < 3 { Err("503") } else { Ok(attempt) } };
    assert_eq!(retry.run(AllTransient, work).await, Ok(3));
    // Full jitter on 200 and 400 ms, rounded up to the timers' milliseconds.
    assert!(start.elapsed() <= millis(602), "{:?}", start.elapsed());
    let never = |_| async { Err::<(), _>("503") };
    assert_eq!(retry.run(AllTransient, never).await, Err("503"));
    let hopeless = retry.deadline(Clock::tokio().now());
    let start = Instant::now();
    assert_eq!(hopeless.run(AllTransient, never).await, Err("503"));
    assert_eq!(start.elapsed(), Duration::ZERO, "no delay without a following attempt");
}

/// Work that is pending twice, and how often it was polled.
fn pending_twice(polls: &AtomicU32) -> impl Future<Output = Result<(), &'static str>> {
    std::future::poll_fn(|cx| {
        if polls.fetch_add(1, Ordering::Relaxed) == 2 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Awaits `future` and returns how often it was polled.
async fn polls_of<T>(future: impl Future<Output = T>) -> u32 {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    })
    .await;
    polls
}

#[tokio::test(start_paused = true)]
async fn work_is_polled_once_for_each_wake_up() {
    let [timeout, attempt, call] = [const { AtomicU32::new(0) }; 3];
    let limited = Timeout::with_clock(SECOND, Clock::tokio());
    assert_eq!(polls_of(limited.run(pending_twice(&timeout))).await, 3);
    let pipeline =
        Pipeline::new("line", Policy::none().attempt_timeout(SECOND), Clock::tokio(), None).unwrap();
    let work = pipeline.attempt().classify(AllTransient).run(|| pending_twice(&attempt));
    assert_eq!(polls_of(work).await, 3);
    let work = pipeline.call().classify(AllTransient).run(|_| pending_twice(&call));
    assert_eq!(polls_of(work).await, 3);
    assert_eq!([timeout, attempt, call].map(AtomicU32::into_inner), [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_before_its_permit_is_returned() {
    /// Reports the permits that are taken when it is dropped. A future of its own, because an async block drops what it holds
    /// as soon as it ends.
    struct Work<'a>(Pin<Box<tokio::time::Sleep>>, &'a Pipeline, &'a AtomicU32);
    impl Future for Work<'_> {
        type Output = Result<(), &'static str>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            self.0.as_mut().poll(cx).map(Ok)
        }
    }
    impl Drop for Work<'_> {
        fn drop(&mut self) {
            self.2.store(self.1.bulkhead().in_flight(), Ordering::Relaxed);
        }
    }
    let policy = Policy::none().attempt_timeout(SECOND).bulkhead(BulkheadConfig::new(1));
    let pipeline = Pipeline::new("line", policy, Clock::tokio(), None).unwrap();
    for (what, takes) in
        [("ready at once", Duration::ZERO), ("done in time", millis(10)), ("timed out", SECOND * 2)]
    {
        let seen = AtomicU32::new(0);
        let work = || Work(Box::pin(tokio::time::sleep(takes)), &pipeline, &seen);
        let result = pipeline.attempt().classify(AllTransient).run(work).await;
        assert_eq!(result.is_ok(), takes < SECOND, "{what}");
        assert_eq!(seen.into_inner(), 1, "{what}: the permit must still be taken");
        assert_eq!(pipeline.bulkhead().in_flight(), 0, "{what}");
    }
}
