//! Retry: a pure, seeded planner that decides what follows a failed attempt.
//!
//! The planner reads no clock and has no state. It takes the attempt, the verdict, the time, the deadline and a seed, and
//! returns a delay or the reason to stop. So a durable engine can store the delay as a timer, and a replay computes the same
//! one. [`Retry`] is a thin loop around it; [`Pipeline`](crate::Pipeline) has the loop with all other parts inside.

mod backoff;
#[cfg(not(loom_model))]
mod run;

use std::{fmt, time::Duration};

pub use backoff::{Backoff, Jitter};
#[cfg(not(loom_model))]
pub use run::Retry;

use crate::{
    breaker::Mode,
    clock::Instant,
    config::{Checker, ConfigError, Plain},
    refusal::Refused,
    verdict::{Idempotency, Verdict},
};

/// The rules of a [`RetryPlanner`].
///
/// ```
/// # use loom_resilience::{Backoff, Jitter, RetryConfig};
/// # use std::time::Duration;
/// let config = RetryConfig::attempts(5)
///     .backoff(Backoff::Exponential { initial: Duration::from_millis(100), factor: 2.0 })
///     .jitter(Jitter::Full)
///     .max_delay(Duration::from_secs(10));
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RetryConfig {
    /// The most attempts, including the first: at least 1.
    pub max_attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// How the delay is randomised.
    pub jitter: Jitter,
    /// The longest delay, jitter included. A delay that the service or one of our own parts asks for may be longer, and
    /// [`Backoff::Band`] has a maximum of its own.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub max_delay: Duration,
    /// The longest delay that a service may ask for (`Retry-After`); a longer one is reduced to this.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub max_retry_after: Duration,
    /// Whether failed attempts are retried, only reported, or neither.
    pub mode: Mode,
}

impl Default for RetryConfig {
    /// 3 attempts, 200 ms doubling to 20 s, full jitter, `Retry-After` honoured up to 5 minutes.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::Exponential { initial: Duration::from_millis(200), factor: 2.0 },
            jitter: Jitter::Full,
            max_delay: Duration::from_secs(20),
            max_retry_after: Duration::from_mins(5),
            mode: Mode::Enforce,
        }
    }
}

impl RetryConfig {
    /// At most `max_attempts` attempts, including the first, with the default delays.
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts, ..Self::default() }
    }

    /// How the delay grows.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How the delay is randomised.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest delay, jitter included.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Whether failed attempts are retried, only reported, or neither.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The longest delay that a service may ask for.
    #[must_use]
    pub const fn max_retry_after(mut self, delay: Duration) -> Self {
        self.max_retry_after = delay;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(
            self.max_attempts >= 1,
            "retry.max_attempts",
            "must be at least 1; it includes the first attempt",
        );
        self.backoff.validate(&mut check, self.max_delay, self.jitter);
        check.finish()
    }
}

impl fmt::Display for RetryConfig {
    /// The effective rules as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            if self.max_attempts <= 1 {
                return f.write_str("no retries: one attempt");
            }
            write!(
                f,
                "{} attempts in all; {}, at most {}, {}; Retry-After honoured up to {}",
                self.max_attempts,
                self.backoff,
                Plain(self.max_delay),
                self.jitter,
                Plain(self.max_retry_after)
            )
        })
    }
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Make another attempt after this delay.
    After(Duration),
    /// Make no other attempt.
    GiveUp(StopReason),
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StopReason {
    /// The call succeeded, or another attempt cannot help.
    #[cfg_attr(feature = "serde", serde(alias = "NotRetryable"))]
    NotRetryable,
    /// The call may have been processed, and is not idempotent.
    #[cfg_attr(feature = "serde", serde(alias = "NotIdempotent"))]
    NotIdempotent,
    /// The most attempts have been made.
    #[cfg_attr(feature = "serde", serde(alias = "Attempts"))]
    Attempts,
    /// The delay would end at or after the deadline.
    #[cfg_attr(feature = "serde", serde(alias = "Deadline"))]
    Deadline,
    /// The retry budget of the service is spent.
    #[cfg_attr(feature = "serde", serde(alias = "Budget"))]
    Budget,
    /// Another attempt would follow, but retries are only observed.
    ObserveOnly,
    /// An operator opened the circuit or isolated the service.
    #[cfg_attr(feature = "serde", serde(alias = "OpenedByHand"))]
    OpenedManually,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "another attempt cannot help",
            Self::NotIdempotent => "the call is not idempotent",
            Self::Attempts => "no attempts left",
            Self::Deadline => "no time left for another attempt before the deadline",
            Self::Budget => "the retry budget is spent",
            Self::ObserveOnly => "retries are only observed",
            Self::OpenedManually => "the circuit was opened manually",
        })
    }
}

/// The outcome of an attempt as the planner needs it: a verdict, or a refusal by one of our own parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The call was made.
    Verdict(Verdict),
    /// The call was not made.
    Refused(Refused),
}

impl From<Verdict> for AttemptOutcome {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<Refused> for AttemptOutcome {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Plans retries. Pure: the same input gives the same plan on every machine.
///
/// ```
/// # use loom_resilience::{Instant, RetryConfig, RetryDecision, RetryPlanner, StopReason, Verdict};
/// let planner = RetryPlanner::new(RetryConfig::attempts(3))?.idempotent();
/// let seed = 7;
/// let plan = |attempt| planner.plan(attempt, Verdict::Transient, Instant::ZERO, None, seed);
/// assert!(matches!(plan(1), RetryDecision::After(_)));
/// assert_eq!(plan(1), plan(1), "a replay computes the same delay");
/// assert_eq!(plan(3), RetryDecision::GiveUp(StopReason::Attempts));
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPlanner {
    config: RetryConfig,
    idempotency: Idempotency,
}

impl RetryPlanner {
    /// Creates a planner for calls that are not idempotent; see [`idempotency`](Self::idempotency).
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(config: RetryConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, idempotency: Idempotency::default() })
    }

    pub(crate) const fn from_valid(config: RetryConfig, idempotency: Idempotency) -> Self {
        Self { config, idempotency }
    }

    /// Whether the call may be sent twice. [`Idempotency::NonIdempotent`] unless said otherwise.
    #[must_use]
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// Declares the call idempotent: a failed attempt that may have been processed is retried.
    #[must_use]
    pub const fn idempotent(self) -> Self {
        self.idempotency(Idempotency::Idempotent)
    }

    /// The rules.
    pub const fn config(&self) -> &RetryConfig {
        &self.config
    }

    /// Decides what follows attempt number `attempt` (from 1).
    ///
    /// The delay is at most `max_delay`, unless a longer one was asked for: the `Retry-After` of a service, at most
    /// `max_retry_after`, or the exact time after which one of our own parts can admit the call. A delay that would reach
    /// the `deadline` is not started. The jitter depends on `seed` and `attempt` alone.
    pub fn plan(
        &self,
        attempt: u32,
        outcome: impl Into<AttemptOutcome>,
        now: Instant,
        deadline: Option<Instant>,
        seed: u64,
    ) -> RetryDecision {
        let asked = match outcome.into() {
            AttemptOutcome::Verdict(verdict) => {
                if !verdict.may_retry(self.idempotency) {
                    let would_repeat = verdict.may_retry(Idempotency::Idempotent);
                    return RetryDecision::GiveUp(if would_repeat {
                        StopReason::NotIdempotent
                    } else {
                        StopReason::NotRetryable
                    });
                }
                match verdict {
                    Verdict::Throttled { after } => after.map(|after| after.min(self.config.max_retry_after)),
                    _ => None,
                }
            }
            AttemptOutcome::Refused(refused) => match refused.rule {
                _ if refused.is_manual() => return RetryDecision::GiveUp(StopReason::OpenedManually),
                // Waiting does not change this.
                crate::Rule::TooManyPermits => return RetryDecision::GiveUp(StopReason::NotRetryable),
                crate::Rule::Deadline => return RetryDecision::GiveUp(StopReason::Deadline),
                _ => refused.retry_after,
            },
        };
        if attempt >= self.config.max_attempts {
            return RetryDecision::GiveUp(StopReason::Attempts);
        }
        let delay = self.delay(attempt, seed).max(asked.unwrap_or_default());
        if deadline.is_some_and(|deadline| now + delay >= deadline) {
            return RetryDecision::GiveUp(StopReason::Deadline);
        }
        RetryDecision::After(delay)
    }

    /// The delay after attempt number `attempt` (from 1), when nothing asks for a longer one.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        self.config.backoff.delay(attempt.max(1), self.config.max_delay, self.config.jitter, seed)
    }
}
