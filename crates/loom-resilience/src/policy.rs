//! A policy: which parts guard a service, and how. Plain data; [`Pipeline`](crate::Pipeline) brings it to life.

use std::{fmt, time::Duration};

use crate::{
    breaker::{BreakerConfig, Mode},
    budget::BudgetConfig,
    bulkhead::BulkheadConfig,
    config::{Checker, ConfigError, Plain},
    limiter::{Limit, LimiterConfig},
    retry::RetryConfig,
};

/// The parts around the calls to one service. What is `None` is off and costs nothing.
///
/// Always in this order, from the outside in: total time limit, retry, the breaker is asked, the limiter waits, the
/// bulkhead, the breaker admits, attempt time limit, the call.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Policy {
    /// How long everything may take: waits, attempts and pauses.
    pub total_timeout: Option<Duration>,
    /// How failed attempts are retried.
    pub retry: Option<RetryConfig>,
    /// What retries may add to the load of the service.
    pub budget: Option<BudgetConfig>,
    /// When the service is left alone.
    pub breaker: Option<BreakerConfig>,
    /// How often it may be called.
    pub limiter: Option<LimiterConfig>,
    /// How many calls may be in flight.
    pub bulkhead: Option<BulkheadConfig>,
    /// How long one attempt may take.
    pub attempt_timeout: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::none()
    }
}

impl Policy {
    /// Nothing: calls go straight through.
    pub const fn none() -> Self {
        Self {
            total_timeout: None,
            retry: None,
            budget: None,
            breaker: None,
            limiter: None,
            bulkhead: None,
            attempt_timeout: None,
        }
    }

    /// What suits most remote services: 60 s in all and 10 s for an attempt; 3 attempts with full jitter; a retry
    /// budget of a tenth and one a second; a breaker on 5 failures in a row or half of 20 calls. No limiter and no
    /// bulkhead, because nobody else knows what the service bears.
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

    /// How long everything may take; `None` for no limit.
    #[must_use]
    pub fn total_timeout(mut self, total_timeout: impl Into<Option<Duration>>) -> Self {
        self.total_timeout = total_timeout.into();
        self
    }

    /// How long one attempt may take; `None` for no limit.
    #[must_use]
    pub fn attempt_timeout(mut self, attempt_timeout: impl Into<Option<Duration>>) -> Self {
        self.attempt_timeout = attempt_timeout.into();
        self
    }

    /// How failed attempts are retried; `None` for not at all.
    #[must_use]
    pub fn retry(mut self, retry: impl Into<Option<RetryConfig>>) -> Self {
        self.retry = retry.into();
        self
    }

    /// What retries may add to the load; `None` for no bound.
    #[must_use]
    pub fn budget(mut self, budget: impl Into<Option<BudgetConfig>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// When the service is left alone; `None` for never.
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

    /// How many calls may be in flight; `None` for no cap.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: impl Into<Option<BulkheadConfig>>) -> Self {
        self.bulkhead = bulkhead.into();
        self
    }

    /// Adds one limit to those there are.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limiter.get_or_insert_with(LimiterConfig::default).limits.push(limit);
        self
    }

    /// Checks every part, and that they fit together.
    ///
    /// # Errors
    /// All contradictions at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(
            self.total_timeout != Some(Duration::ZERO),
            "total_timeout",
            "is zero, so no call could ever be made; leave it out for no limit",
        );
        check.require(
            self.attempt_timeout != Some(Duration::ZERO),
            "attempt_timeout",
            "is zero, so no attempt could ever end; leave it out for no limit",
        );
        if let (Some(total), Some(attempt)) = (self.total_timeout, self.attempt_timeout) {
            check.require(
                attempt <= total,
                "attempt_timeout",
                format!(
                    "{} is longer than the total of {}, so it could never pass",
                    Plain(attempt),
                    Plain(total)
                ),
            );
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
                    "is longer than an attempt may take, so no call could ever be slow",
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

    /// The effective policy in plain words, a line for each part, in the order in which a call meets them.
    pub fn describe(&self) -> String {
        self.to_string()
    }

    pub(crate) fn breaker_or_off(&self) -> BreakerConfig {
        self.breaker.clone().unwrap_or_else(|| BreakerConfig::new().mode(Mode::Off))
    }

    pub(crate) fn limiter_or_off(&self) -> LimiterConfig {
        self.limiter.clone().unwrap_or_else(|| LimiterConfig::default().mode(Mode::Off))
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
        let total = self.total_timeout.map(Plain);
        let attempt = self.attempt_timeout.map(Plain);
        line(f, "total time limit", as_text(total.as_ref()))?;
        line(f, "retry", as_text(self.retry.as_ref()))?;
        line(f, "retry budget", as_text(self.budget.as_ref()))?;
        line(f, "circuit breaker", as_text(self.breaker.as_ref()))?;
        line(f, "rate limit", as_text(self.limiter.as_ref()))?;
        line(f, "bulkhead", as_text(self.bulkhead.as_ref()))?;
        line(f, "attempt limit", as_text(attempt.as_ref()))
    }
}

fn as_text<T: fmt::Display>(part: Option<&T>) -> Option<&dyn fmt::Display> {
    part.map(|part| part as &dyn fmt::Display)
}
