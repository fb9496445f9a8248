//! Converts policies to the configurations of `loom-resilience`, whose validation checks them at load. So a policy that
//! loads is never rejected when its service is first called.

use std::time::Duration;

use loom_resilience::{
    BreakerConfig, BulkheadConfig, ConfigError, HedgeConfig, Limit, LimiterConfig, OpenDuration, RateRule,
    SlowRule, Window as CrateWindow,
};

use super::{BreakerSpec, BulkheadSpec, HedgeSpec, RateLimitSpec, Window, read::PolicyProblem};
use crate::duration::Span;

/// Used for slow calls without a failure rate; with one, they share its window and minimum.
const SLOW_MINIMUM_CALLS: u32 = 10;
const SLOW_WINDOW: Duration = Duration::from_secs(30);

impl BreakerSpec {
    /// The configuration of the circuit breaker.
    pub fn config(&self) -> BreakerConfig {
        let window = |window: Window| match window {
            Window::Count(calls) => CrateWindow::Calls(calls.get()),
            Window::Time(time) => CrateWindow::Time(time),
        };
        let mut config = BreakerConfig::new();
        config.failure_threshold = Some(self.failure_threshold.get());
        config.failure_rate = self
            .failure_rate
            .as_ref()
            .map(|rate| RateRule::new(rate.threshold, rate.minimum_calls.get(), window(rate.window)));
        config.slow_calls = self.slow_calls.as_ref().map(|slow| {
            let like = self.failure_rate.as_ref();
            let minimum_calls = like.map_or(SLOW_MINIMUM_CALLS, |rate| rate.minimum_calls.get());
            let window = like.map_or(CrateWindow::Time(SLOW_WINDOW), |rate| window(rate.window));
            SlowRule::new(slow.duration, RateRule::new(slow.threshold, minimum_calls, window))
        });
        config.open_for = OpenDuration::fixed(self.timeout);
        config.half_open_max_calls = self.half_open_requests.get();
        config.success_threshold = self.success_threshold.get();
        config.mode(self.mode).scope(self.scope)
    }

    pub(super) fn check(&self) -> Result<(), PolicyProblem> {
        checked(self.config().validate(), |field| {
            let rate = self.failure_rate.as_ref();
            match field {
                "breaker.failure_threshold" => ("failureThreshold", self.failure_threshold.to_string()),
                "breaker.half_open_max_calls" => ("halfOpenRequests", self.half_open_requests.to_string()),
                "breaker.success_threshold" => ("successThreshold", self.success_threshold.to_string()),
                "breaker.failure_rate.minimum_calls" | "breaker.slow_calls.calls.minimum_calls" => {
                    ("minimumCalls", rate.map(|rate| rate.minimum_calls.to_string()).unwrap_or_default())
                }
                "breaker.failure_rate.window" | "breaker.slow_calls.calls.window" => {
                    let found = rate.map(|rate| match rate.window {
                        Window::Count(calls) => format!("{calls} calls"),
                        Window::Time(time) => Span::exact(time).to_string(),
                    });
                    ("window", found.unwrap_or_default())
                }
                field if field.starts_with("breaker.open_for") => {
                    ("timeout", Span::exact(self.timeout).to_string())
                }
                field if field.starts_with("breaker.slow_calls") => ("slowCalls", String::new()),
                _ => ("failureRate", String::new()),
            }
        })
    }
}

impl RateLimitSpec {
    /// The configuration of the rate limiter.
    pub fn config(&self) -> LimiterConfig {
        let burst = self.burst.unwrap_or(self.requests);
        let limit = Limit::new(self.requests.get(), self.per).burst(burst.get());
        let config =
            LimiterConfig { max_wait: self.max_wait, learn: self.learn, ..LimiterConfig::new(limit) };
        config.mode(self.mode).scope(self.scope)
    }

    pub(super) fn check(&self) -> Result<(), PolicyProblem> {
        checked(self.config().validate(), |field| match field {
            "limiter.limits.period" => ("per", Span::exact(self.per).to_string()),
            "limiter.limits.burst" => ("burst", self.burst.unwrap_or(self.requests).to_string()),
            _ => ("requests", self.requests.to_string()),
        })
    }
}

impl BulkheadSpec {
    /// The configuration of the bulkhead.
    pub fn config(&self) -> BulkheadConfig {
        BulkheadConfig::new(self.max_concurrent.get()).queue(self.max_queued).mode(self.mode)
    }

    pub(super) fn check(&self) -> Result<(), PolicyProblem> {
        checked(self.config().validate(), |_| ("maxConcurrent", self.max_concurrent.to_string()))
    }
}

impl HedgeSpec {
    /// The configuration of the hedge.
    pub fn config(&self) -> HedgeConfig {
        HedgeConfig::new(self.delay).max_copies(self.max_attempts.saturating_sub(1)).mode(self.mode)
    }

    pub(super) fn check(&self) -> Result<(), PolicyProblem> {
        checked(self.config().validate(), |field| match field {
            "hedge.delay" => ("delay", Span::exact(self.delay).to_string()),
            _ => ("maxAttempts", self.max_attempts.to_string()),
        })
    }
}

/// Reports the first problem in terms of the definition: `member` maps a field to the property that it comes from, and its
/// value.
fn checked(
    validated: Result<(), ConfigError>,
    member: impl Fn(&'static str) -> (&'static str, String),
) -> Result<(), PolicyProblem> {
    let Err(error) = validated else { return Ok(()) };
    let Some(first) = error.issues.into_iter().next() else { return Ok(()) };
    let (member, found) = member(first.field);
    let found = if found.is_empty() { found } else { format!(" (got {found})") };
    Err(PolicyProblem { member, message: format!("`{member}` {}{found}", first.text) })
}
