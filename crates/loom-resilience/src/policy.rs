//! The policy of a service: which parts guard it, and how. Plain data; a [`Pipeline`](crate::Pipeline) applies it.

use std::{fmt, time::Duration};

use crate::{
    breaker::{BreakerConfig, Mode},
    budget::BudgetConfig,
    bulkhead::BulkheadConfig,
    config::{Checker, ConfigError, Plain},
    fallback::FallbackConfig,
    hedge::HedgeConfig,
    limiter::{Limit, LimiterConfig},
    retry::RetryConfig,
};

/// The parts around the calls to one service. A part that is `None` is off and costs nothing.
///
/// The order is fixed, from the outside in: fallback, total timeout, retry, hedge, breaker check, rate limiter, bulkhead,
/// breaker admission, attempt timeout, the call.
///
/// Each part has a [`Mode`]: enforce, observe (a dry run that counts and reports) or off. [`mode`](Self::mode) sets all of them.
///
/// ```
/// # use loom_resilience::{BreakerConfig, Limit, Policy, RetryConfig};
/// # use std::time::Duration;
/// let policy = Policy::standard()
///     .retry(RetryConfig::attempts(4))
///     .breaker(BreakerConfig::new().failure_threshold(3))
///     .limit(Limit::per_second(50).burst(10))
///     .attempt_timeout(Duration::from_secs(2));
/// assert!(policy.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Policy {
    /// For which failures a fallback of the caller is used; `None` for all of them. See
    /// [`Call::fallback`](crate::Call::fallback).
    pub fallback: Option<FallbackConfig>,
    /// The timeout of the whole call: waits, attempts and delays.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::option"))]
    pub total_timeout: Option<Duration>,
    /// Whether the total timeout is enforced, observed or off.
    pub total_timeout_mode: Mode,
    /// How failed attempts are retried.
    pub retry: Option<RetryConfig>,
    /// The load that retries may add.
    pub budget: Option<BudgetConfig>,
    /// When a slow attempt is sent again.
    pub hedge: Option<HedgeConfig>,
    /// When calls are stopped because the service fails.
    pub breaker: Option<BreakerConfig>,
    /// How often the service may be called.
    pub limiter: Option<LimiterConfig>,
    /// How many calls may be in flight.
    pub bulkhead: Option<BulkheadConfig>,
    /// The timeout of one attempt.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::option"))]
    pub attempt_timeout: Option<Duration>,
    /// Whether the attempt timeout is enforced, observed or off.
    pub attempt_timeout_mode: Mode,
}

impl Default for Policy {
    fn default() -> Self {
        Self::none()
    }
}

impl Policy {
    /// No parts: calls pass unguarded.
    pub const fn none() -> Self {
        Self {
            fallback: None,
            total_timeout: None,
            total_timeout_mode: Mode::Enforce,
            retry: None,
            budget: None,
            hedge: None,
            breaker: None,
            limiter: None,
            bulkhead: None,
            attempt_timeout: None,
            attempt_timeout_mode: Mode::Enforce,
        }
    }

    /// A policy for most remote services: a total timeout of 60 s and an attempt timeout of 10 s; 3 attempts with full
    /// jitter; a retry budget of 10 % and one retry per second; a breaker that opens on 5 consecutive failures or half of 20
    /// calls. No limiter and no bulkhead, because their limits depend on the service.
    pub fn standard() -> Self {
        Self {
            total_timeout: Some(Duration::from_mins(1)),
            retry: Some(RetryConfig::default()),
            budget: Some(BudgetConfig::default()),
            breaker: Some(BreakerConfig::standard()),
            attempt_timeout: Some(Duration::from_secs(10)),
            ..Self::none()
        }
    }

    /// The timeout of the whole call; `None` for no timeout.
    #[must_use]
    pub fn total_timeout(mut self, total_timeout: impl Into<Option<Duration>>) -> Self {
        self.total_timeout = total_timeout.into();
        self
    }

    /// The timeout of one attempt; `None` for no timeout.
    #[must_use]
    pub fn attempt_timeout(mut self, attempt_timeout: impl Into<Option<Duration>>) -> Self {
        self.attempt_timeout = attempt_timeout.into();
        self
    }

    /// Whether the total timeout is enforced, observed or off.
    #[must_use]
    pub const fn total_timeout_mode(mut self, mode: Mode) -> Self {
        self.total_timeout_mode = mode;
        self
    }

    /// Whether the attempt timeout is enforced, observed or off.
    #[must_use]
    pub const fn attempt_timeout_mode(mut self, mode: Mode) -> Self {
        self.attempt_timeout_mode = mode;
        self
    }

    /// Sets the mode of every part that the policy has. A policy in observe mode interferes with no call and reports what it
    /// would have done.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.total_timeout_mode = mode;
        self.attempt_timeout_mode = mode;
        self.fallback = self.fallback.map(|fallback| fallback.mode(mode));
        self.retry = self.retry.map(|retry| retry.mode(mode));
        self.budget = self.budget.map(|budget| budget.mode(mode));
        self.hedge = self.hedge.map(|hedge| hedge.mode(mode));
        self.breaker = self.breaker.map(|breaker| breaker.mode(mode));
        self.limiter = self.limiter.map(|limiter| limiter.mode(mode));
        self.bulkhead = self.bulkhead.map(|bulkhead| bulkhead.mode(mode));
        self
    }

    /// For which failures a fallback of the caller is used; `None` for all of them.
    #[must_use]
    pub fn fallback(mut self, fallback: impl Into<Option<FallbackConfig>>) -> Self {
        self.fallback = fallback.into();
        self
    }

    /// When a slow attempt of an idempotent call is sent again; `None` for never. Each copy passes all parts inside the
    /// retry, and is charged to the retry budget.
    #[must_use]
    pub fn hedge(mut self, hedge: impl Into<Option<HedgeConfig>>) -> Self {
        self.hedge = hedge.into();
        self
    }

    /// How failed attempts are retried; `None` for no retries.
    #[must_use]
    pub fn retry(mut self, retry: impl Into<Option<RetryConfig>>) -> Self {
        self.retry = retry.into();
        self
    }

    /// The load that retries may add; `None` for no bound.
    #[must_use]
    pub fn budget(mut self, budget: impl Into<Option<BudgetConfig>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// When calls are stopped because the service fails; `None` for never.
    #[must_use]
    pub fn breaker(mut self, breaker: impl Into<Option<BreakerConfig>>) -> Self {
        self.breaker = breaker.into();
        self
    }

    /// How often the service may be called; `None` for no limit.
    #[must_use]
    pub fn limiter(mut self, limiter: impl Into<Option<LimiterConfig>>) -> Self {
        self.limiter = limiter.into();
        self
    }

    /// How many calls may be in flight; `None` for no limit.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: impl Into<Option<BulkheadConfig>>) -> Self {
        self.bulkhead = bulkhead.into();
        self
    }

    /// Adds a rate limit to those of the policy.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limiter.get_or_insert_with(LimiterConfig::default).limits.push(limit);
        self
    }

    /// Checks every part, and that the parts fit together.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(
            self.total_timeout != Some(Duration::ZERO),
            "total_timeout",
            "must be above zero; leave it out for no timeout",
        );
        check.require(
            self.attempt_timeout != Some(Duration::ZERO),
            "attempt_timeout",
            "must be above zero; leave it out for no timeout",
        );
        if let (Some(total), Some(attempt)) = (self.total_timeout, self.attempt_timeout) {
            check.require(
                attempt <= total,
                "attempt_timeout",
                format!("must be at most total_timeout, {1} (got {0})", Plain(attempt), Plain(total)),
            );
        }
        if let Some(fallback) = &self.fallback {
            check.include(fallback.validate());
        }
        if let Some(hedge) = &self.hedge {
            check.include(hedge.validate());
            if let Some(attempt) = self.attempt_timeout {
                check.require(
                    hedge.delay < attempt,
                    "hedge.delay",
                    "must be below attempt_timeout, or no copy is ever sent",
                );
            }
        }
        if let Some(retry) = &self.retry {
            check.include(retry.validate());
        }
        if let Some(budget) = &self.budget {
            check.include(budget.validate());
        }
        if let Some(breaker) = &self.breaker {
            check.include(breaker.validate());
            if let (Some(slow), Some(attempt)) = (breaker.slow_calls, self.attempt_timeout) {
                check.require(
                    slow.slower_than <= attempt,
                    "breaker.slow_calls.slower_than",
                    "must be at most attempt_timeout, or no call can be slow",
                );
            }
        }
        if let Some(limiter) = &self.limiter {
            check.include(limiter.validate());
        }
        if let Some(bulkhead) = &self.bulkhead {
            check.include(bulkhead.validate());
        }
        check.finish()
    }

    /// The effective policy in plain words: one line per part, in the order in which a call meets them.
    pub fn describe(&self) -> String {
        self.to_string()
    }

    pub(crate) fn breaker_or_off(&self) -> BreakerConfig {
        self.breaker.clone().unwrap_or_else(|| BreakerConfig::new().mode(Mode::Off))
    }

    pub(crate) fn limiter_or_off(&self) -> LimiterConfig {
        // Without limits it lets every call pass, until the service asks for a pause.
        self.limiter.clone().unwrap_or_default()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn line(f: &mut fmt::Formatter<'_>, part: &str, text: Option<&dyn fmt::Display>) -> fmt::Result {
            match text {
                Some(text) => writeln!(f, "{part:<16} {text}"),
                None => writeln!(f, "{part:<16} none"),
            }
        }
        let total = self.total_timeout.map(|after| InMode(after, self.total_timeout_mode));
        let attempt = self.attempt_timeout.map(|after| InMode(after, self.attempt_timeout_mode));
        if self.fallback.is_some() {
            line(f, "fallback", as_text(self.fallback.as_ref()))?;
        }
        line(f, "total timeout", as_text(total.as_ref()))?;
        line(f, "retry", as_text(self.retry.as_ref()))?;
        line(f, "retry budget", as_text(self.budget.as_ref()))?;
        if self.hedge.is_some() {
            line(f, "hedge", as_text(self.hedge.as_ref()))?;
        }
        line(f, "circuit breaker", as_text(self.breaker.as_ref()))?;
        line(f, "rate limit", as_text(self.limiter.as_ref()))?;
        line(f, "bulkhead", as_text(self.bulkhead.as_ref()))?;
        line(f, "attempt timeout", as_text(attempt.as_ref()))
    }
}

/// A timeout and its mode.
struct InMode(Duration, Mode);

impl fmt::Display for InMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.describe(f, |f| Plain(self.0).fmt(f))
    }
}

fn as_text<T: fmt::Display>(part: Option<&T>) -> Option<&dyn fmt::Display> {
    part.map(|part| part as &dyn fmt::Display)
}
