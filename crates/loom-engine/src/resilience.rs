//! The definition's policies in the terms of `loom-resilience`.

use std::time::Duration;

use loom_definition::policy::{self, BreakerSpec, BulkheadSpec, RateLimitSpec, Schedule};
use loom_resilience::{
    Backoff, BreakerConfig, BulkheadConfig, Jitter, Limit, LimiterConfig, OpenFor, RateRule, RetryConfig,
    RetryPlanner, SlowRule, Window,
};

/// The wait after `attempt`, which is from 1.
pub(crate) fn scheduled_wait(schedule: &Schedule, attempt: u32, seed: u64) -> Duration {
    let (backoff, cap, jitter) = match *schedule {
        Schedule::Fixed(delay) => (Backoff::Constant { delay }, Duration::MAX, Jitter::None),
        Schedule::Band { interval, minimum, maximum } => {
            (Backoff::Band { interval, min: minimum, max: maximum }, Duration::MAX, Jitter::None)
        }
        Schedule::Exponential { initial, maximum, multiplier, jitter } => {
            let jitter = match jitter {
                policy::Jitter::None => Jitter::None,
                policy::Jitter::Full => Jitter::Full,
                policy::Jitter::Equal => Jitter::Equal,
            };
            (Backoff::Exponential { initial, factor: multiplier }, maximum, jitter)
        }
    };
    let config = RetryConfig { backoff, max_delay: cap, jitter, ..RetryConfig::attempts(u32::MAX) };
    // Definitions are checked when they are loaded; a computed policy that makes no sense waits for nothing.
    RetryPlanner::new(config).map_or(Duration::ZERO, |planner| planner.delay(attempt, seed))
}

pub(crate) fn breaker(spec: &BreakerSpec) -> BreakerConfig {
    let window = |window: policy::Window| match window {
        policy::Window::Count(calls) => Window::Calls(calls.get()),
        policy::Window::Time(time) => Window::Time(time),
    };
    let mut config = BreakerConfig::new();
    config.consecutive = Some(spec.failure_threshold.get());
    config.failure_rate = spec.failure_rate.as_ref().map(|rate| RateRule {
        rate: rate.threshold,
        minimum_calls: rate.minimum_calls.get(),
        window: window(rate.window),
    });
    config.slow_calls = spec.slow_calls.as_ref().map(|slow| {
        let like = spec.failure_rate.as_ref();
        SlowRule {
            slower_than: slow.duration,
            calls: RateRule {
                rate: slow.threshold,
                minimum_calls: like.map_or(SLOW_MINIMUM_CALLS, |rate| rate.minimum_calls.get()),
                window: like.map_or(Window::Time(SLOW_WINDOW), |rate| window(rate.window)),
            },
        }
    });
    config.open_for = OpenFor::fixed(spec.timeout);
    config.probes = spec.half_open_requests.get();
    config.successes = spec.success_threshold.get();
    config
}

/// Where a definition asks for slow calls without a failure rate, whose window they would share.
const SLOW_MINIMUM_CALLS: u32 = 10;
const SLOW_WINDOW: Duration = Duration::from_secs(30);

pub(crate) fn limiter(spec: &RateLimitSpec) -> LimiterConfig {
    let burst = spec.burst.unwrap_or(spec.requests);
    let limit = Limit::new(spec.requests.get(), spec.per).burst(burst.get());
    LimiterConfig { max_wait: spec.max_wait, ..LimiterConfig::new(limit) }
}

pub(crate) fn bulkhead(spec: &BulkheadSpec) -> BulkheadConfig {
    BulkheadConfig::new(spec.max_concurrent.get()).queue(spec.max_queued)
}
