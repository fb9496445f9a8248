//! Measures loom-resilience beside its peers and prints one table in Markdown.
//!
//! One thread and two (both on the same object); nanoseconds per operation as a thread sees them, the value that a
//! tenth of 75 short samples lie below; allocations are counted apart from the timing.

mod measure;

use std::{
    future::ready,
    hint::black_box,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use failsafe::CircuitBreaker as _;
use loom_resilience::{
    AllTransient, BreakerConfig, BulkheadConfig, CircuitBreaker, Clock, Limit, LimiterConfig, Instant,
    Mode, Pipeline, Policy, RateLimiter, ResilienceRegistry, Retry, RetryConfig, Service, Timeout,
};
use measure::Table;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const HUGE: u32 = 1_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);

fn main() {
    let mut table = Table::default();
    floor(&mut table);
    limiters(&mut table);
    breakers(&mut table);
    small_parts(&mut table);
    modes(&mut table);
    stacks(&mut table);
    table.print();
}

/// What the machine takes for what everything is made of.
fn floor(table: &mut Table) {
    let part = "floor";
    let word = AtomicU64::new(0);
    table.sync(part, "an atomic load", || word.load(Ordering::Acquire) < u64::MAX);
    table.sync(part, "an atomic compare-and-swap", || {
        let seen = word.load(Ordering::Relaxed);
        word.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() || seen > 0
    });
    let clock = Clock::system();
    table.sync(part, "Clock::now of loom-resilience", || clock.now() > Instant::ZERO);
    let raw = quanta::Clock::new();
    table.sync(part, "quanta, raw", || raw.raw() > 0);
    let start = std::time::Instant::now();
    table.sync(part, "std Instant::now", || std::time::Instant::now() >= start);
}

fn limiter(limit: Limit) -> RateLimiter {
    RateLimiter::new("bench", LimiterConfig::new(limit), Clock::system(), None).expect("sound")
}

fn huge() -> Limit {
    Limit::per_second(HUGE).burst(HUGE)
}

fn limiters(table: &mut Table) {
    let clock = Clock::system();
    let part = "limiter, granted";
    let ours = limiter(huge());
    table.sync(part, "loom-resilience", || ours.try_take(1, clock.now()).is_ok());
    let two = RateLimiter::new(
        "bench",
        LimiterConfig::new(huge()).and(Limit::new(HUGE, MINUTE).burst(HUGE)),
        Clock::system(),
        None,
    )
    .expect("sound");
    table.sync(part, "loom-resilience, two limits at once", || two.try_take(1, clock.now()).is_ok());
    let quota = || governor::Quota::per_second(NonZeroU32::new(HUGE).expect("above zero"));
    let peer = governor::RateLimiter::direct(quota());
    table.sync(part, "governor", || peer.check().is_ok());
    let layer = || tower_resilience::ratelimiter::RateLimiterLayer::builder().limit_for_period(HUGE as usize);
    let stack = ServiceBuilder::new().layer(layer().build().expect("sound")).service(inner());
    table.service(part, "tower-resilience", &stack);

    let part = "limiter, refused";
    let ours = limiter(Limit::per_hour(1));
    ours.try_take(1, clock.now()).ok();
    table.sync(part, "loom-resilience", || ours.try_take(1, clock.now()).is_err());
    let peer = governor::RateLimiter::direct(governor::Quota::per_hour(NonZeroU32::MIN));
    peer.check().ok();
    table.sync(part, "governor", || peer.check().is_err());
}

fn breaker(config: BreakerConfig) -> CircuitBreaker {
    CircuitBreaker::new("bench", config, Clock::system(), None).expect("sound")
}

fn breakers(table: &mut Table) {
    use failsafe::{backoff, failure_policy};
    let clock = Clock::system();
    let part = "breaker, success";
    let succeed = |breaker: &CircuitBreaker| {
        let now = clock.now();
        breaker.admit(now).map(|admission| admission.success(now)).is_ok()
    };
    let ours = breaker(BreakerConfig::standard());
    table.sync(part, "loom-resilience: 5 in a row, or half within 30 s", || succeed(&ours));
    let ours = breaker(BreakerConfig::new().failure_threshold(5));
    table.sync(part, "loom-resilience: 5 in a row", || succeed(&ours));
    let peer = recloser::Recloser::custom().build();
    table.sync(part, "recloser: ring of 100, no time", || peer.call(|| Ok::<_, ()>(())).is_ok());
    let back = || backoff::constant(MINUTE);
    let peer =
        failsafe::Config::new().failure_policy(failure_policy::consecutive_failures(5, back())).build();
    table.sync(part, "failsafe: 5 in a row", || peer.call(|| Ok::<_, ()>(())).is_ok());
    let peer = failsafe::Config::new().build();
    table.sync(part, "failsafe: default, with a rate", || peer.call(|| Ok::<_, ()>(())).is_ok());
    let layer = tower_resilience::circuitbreaker::CircuitBreakerLayer::builder().build().expect("sound");
    let stack = ServiceBuilder::new().layer(layer).service(inner());
    table.service(part, "tower-resilience", &stack);

    let part = "breaker, refused while open";
    let ours = breaker(BreakerConfig::new().failure_threshold(1));
    ours.admit(clock.now()).expect("closed").failure(clock.now());
    table.sync(part, "loom-resilience", || ours.admit(clock.now()).is_err());
    let peer = recloser::Recloser::custom().closed_len(1).open_wait(MINUTE * 60).build();
    for _ in 0..3 {
        peer.call(|| Err::<(), _>(())).ok();
    }
    table.sync(part, "recloser", || peer.call(|| Ok::<_, ()>(())).is_err());
    let peer =
        failsafe::Config::new().failure_policy(failure_policy::consecutive_failures(1, back())).build();
    peer.call(|| Err::<(), _>(())).ok();
    table.sync(part, "failsafe", || peer.call(|| Ok::<_, ()>(())).is_err());
}

fn pipeline(policy: Policy) -> Pipeline {
    Pipeline::new("bench", policy, Clock::system(), None).expect("sound")
}

async fn called(pipeline: &Pipeline) -> bool {
    pipeline.call().idempotent().classify(AllTransient).run(|_| ready(Ok::<_, ()>(black_box(1)))).await.is_ok()
}

fn inner()
-> impl tower::Service<u32, Response = u32, Error = Failed, Future = std::future::Ready<Result<u32, Failed>>>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(|request: u32| ready(Ok(request)))
}

/// An error that layers can box and clone.
#[derive(Clone, Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

fn small_parts(table: &mut Table) {
    let part = "timeout round a ready future";
    let ours = Timeout::new(MINUTE);
    table.future(part, "loom-resilience", async || ours.run(ready(black_box(1))).await.is_ok());
    table.future(part, "tokio", async || tokio::time::timeout(MINUTE, ready(black_box(1))).await.is_ok());
    let stack = ServiceBuilder::new().timeout(MINUTE).service(inner());
    table.service(part, "tower", &stack);

    let part = "timeout, future pending once";
    table.future(part, "loom-resilience", async || ours.run(tokio::task::yield_now()).await.is_ok());
    table
        .future(part, "tokio", async || tokio::time::timeout(MINUTE, tokio::task::yield_now()).await.is_ok());

    let part = "retry, first attempt works";
    let ours = Retry::new(RetryConfig::default()).expect("sound").idempotent();
    table.future(part, "loom-resilience: Retry", async || {
        ours.run(AllTransient, |_| ready(Ok::<_, ()>(black_box(1)))).await.is_ok()
    });
    let ours = pipeline(Policy::none().retry(RetryConfig::default()));
    table.future(part, "loom-resilience: Pipeline with retries only", async || called(&ours).await);
    let backoff = ExponentialBuilder::default().with_jitter();
    table.future(part, "backon", async || {
        let work = || ready(Ok::<_, ()>(black_box(1)));
        work.retry(backoff).await.is_ok()
    });
    let stack = ServiceBuilder::new().retry(Never).service(inner());
    table.service(part, "tower", &stack);

    let part = "bulkhead, place free";
    let config = BulkheadConfig::new(64).queue(64);
    let ours = loom_resilience::Bulkhead::new("bench", config, Clock::system(), None).expect("sound");
    table.sync(part, "loom-resilience", || ours.try_enter().is_ok());
    let peer = tokio::sync::Semaphore::new(64);
    table.sync(part, "tokio Semaphore", || peer.try_acquire().is_ok());
    let stack = ServiceBuilder::new().concurrency_limit(64).service(inner());
    table.service(part, "tower", &stack);

    let part = "service of the registry";
    let registry = ResilienceRegistry::default();
    for number in 0..100 {
        drop(registry.service(&format!("service-{number}")));
    }
    table.sync(part, "looked up among 100", || registry.get("service-50").is_some());
    let service = registry.service("service-50");
    table.sync(part, "try_admit and success (owned guard)", || {
        let now = service.clock().now();
        service.try_admit(now).map(|admission| admission.success(now)).is_ok()
    });
}

/// What each part costs when it is enforced, observed and off, on calls that none of them refuses.
fn modes(table: &mut Table) {
    let clock = Clock::system();
    for (mode, [breaker_row, limiter_row, bulkhead_row, all_row]) in [
        (Mode::Enforce, ["breaker, enforced", "limiter, enforced", "bulkhead, enforced", "all, enforced"]),
        (Mode::Observe, ["breaker, observed", "limiter, observed", "bulkhead, observed", "all, observed"]),
        (Mode::Off, ["breaker, off", "limiter, off", "bulkhead, off", "all, off"]),
    ] {
        let part = "modes of loom-resilience";
        let ours = breaker(BreakerConfig::standard().mode(mode));
        table.sync(part, breaker_row, || {
            let now = clock.now();
            ours.admit(now).map(|admission| admission.success(now)).is_ok()
        });
        let config = LimiterConfig::new(huge()).mode(mode);
        let ours = RateLimiter::new("bench", config, Clock::system(), None).expect("sound");
        table.sync(part, limiter_row, || ours.try_take(1, clock.now()).is_ok());
        let config = BulkheadConfig::new(64).queue(64).mode(mode);
        let ours = loom_resilience::Bulkhead::new("bench", config, Clock::system(), None).expect("sound");
        table.sync(part, bulkhead_row, || ours.try_enter().is_ok());
        let policy = Policy::standard().limit(huge()).bulkhead(BulkheadConfig::new(64)).mode(mode);
        let ours = pipeline(policy);
        table.future(part, all_row, async || called(&ours).await);
    }
    let ours = pipeline(Policy::none());
    table.future("modes of loom-resilience", "a policy without parts", async || called(&ours).await);
}

/// A retry policy that never has to retry.
#[derive(Clone)]
struct Never;

impl<E> tower::retry::Policy<u32, u32, E> for Never {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, E>) -> Option<Self::Future> {
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

fn stacks(table: &mut Table) {
    let part = "everything round a ready future";
    let ours = pipeline(Policy::standard().limit(huge()));
    table.future(part, "loom-resilience: 2 timeouts, retry, budget, breaker, limiter", async || {
        called(&ours).await
    });
    let ours: Service = pipeline(Policy::standard().limit(huge()).bulkhead(BulkheadConfig::new(64))).into();
    table.future(part, "loom-resilience: the same and a bulkhead", async || called(&ours).await);

    let quota = governor::Quota::per_second(NonZeroU32::new(HUGE).expect("above zero"));
    let limiter = governor::RateLimiter::direct(quota);
    let peer = recloser::AsyncRecloser::from(recloser::Recloser::custom().build());
    let backoff = ExponentialBuilder::default().with_jitter();
    table.future(part, "by hand: tokio, governor, backon, recloser", async || {
        let call = async {
            limiter.until_ready().await;
            let attempt = || async {
                let work = tokio::time::timeout(MINUTE, ready(black_box(1)));
                peer.call(work).await.map_err(|_| ())
            };
            attempt.retry(backoff).await
        };
        tokio::time::timeout(MINUTE * 2, call).await.is_ok()
    });
    let stack = ServiceBuilder::new()
        .timeout(MINUTE * 2)
        .retry(Never)
        .concurrency_limit(64)
        .timeout(MINUTE)
        .service(inner());
    table.service(part, "tower: 2 timeouts, retry, bulkhead", &stack);
    let breaker = tower_resilience::circuitbreaker::CircuitBreakerLayer::builder().build().expect("sound");
    let stack = ServiceBuilder::new().layer(breaker).service(inner());
    let retry = tower_resilience::retry::RetryLayer::<u32, u32, _>::builder().max_attempts(3).build();
    let stack = ServiceBuilder::new().layer(retry).service(stack);
    table.service(part, "tower-resilience: retry, breaker only", &stack);
}

/// Asks a service that is cloned for each thread.
async fn ask<S: tower::Service<u32>>(service: &mut S) -> bool {
    match service.ready().await {
        Ok(ready) => ready.call(black_box(1)).await.is_ok(),
        Err(_) => false,
    }
}
