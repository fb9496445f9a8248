//! Retry: a pure, seeded planner that says what follows a failed attempt.
//!
//! The planner reads no clock and keeps no state: attempt, verdict, now, deadline and seed come in, a wait or a reason
//! to give up comes out. So a durable engine can store the wait as a timer, and a replay computes the same one.
//! [`Retry`] is a thin loop on it; [`Pipeline`](crate::Pipeline) has the loop with all other parts inside.

mod backoff;
#[cfg(not(loom_model))]
mod run;

use std::{fmt, time::Duration};

pub use backoff::{Backoff, Jitter};
#[cfg(not(loom_model))]
pub use run::Retry;

use crate::{
    clock::Moment,
    config::{Checker, ConfigError, Plain},
    refusal::Refused,
    verdict::{Idempotency, Verdict},
};

/// Rules of a [`RetryPlanner`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RetryConfig {
    /// Attempts in all, the first included: at least 1.
    pub max_attempts: u32,
    /// How the pause grows.
    pub backoff: Backoff,
    /// How the pause is varied.
    pub jitter: Jitter,
    /// The longest pause, jitter included. A time that the service or one of our own parts asks for may be longer, and
    /// [`Backoff::Band`] has its own.
    pub max_delay: Duration,
    /// The longest pause that a service may ask for (`Retry-After`); more is cut to this.
    pub max_retry_after: Duration,
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
        }
    }
}

impl RetryConfig {
    /// So many attempts in all, with the default pauses.
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts, ..Self::default() }
    }

    /// How the pause grows.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How the pause is varied.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest pause.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// The longest pause that a service may ask for.
    #[must_use]
    pub const fn max_retry_after(mut self, delay: Duration) -> Self {
        self.max_retry_after = delay;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All contradictions at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(
            self.max_attempts >= 1,
            "retry.max_attempts",
            "counts the first call, so it is at least 1",
        );
        self.backoff.validate(&mut check, self.max_delay, self.jitter);
        check.finish()
    }
}

impl fmt::Display for RetryConfig {
    /// The effective rules as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    }
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again after this pause.
    After(Duration),
    /// Do not try again.
    GiveUp(StopReason),
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StopReason {
    /// There is nothing to retry, or trying again cannot help.
    NotRetryable,
    /// The call may have been done, and must not be done twice.
    NotIdempotent,
    /// All attempts are used up.
    Attempts,
    /// The pause would end at or after the deadline.
    Deadline,
    /// The retry budget of the service is spent.
    Budget,
    /// An operator has opened the circuit or isolated the service.
    OpenedByHand,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "trying again cannot help",
            Self::NotIdempotent => "the call must not be done twice",
            Self::Attempts => "all attempts are used up",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::Budget => "the retry budget is spent",
            Self::OpenedByHand => "the circuit was opened by hand",
        })
    }
}

/// What an attempt came to, as far as a planner needs it: a verdict, or a refusal by one of our own parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The call was made.
    Verdict(Verdict),
    /// The call was not let through.
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

/// Plans retries. Pure: the same input gives the same plan, on any machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPlanner {
    config: RetryConfig,
    idempotency: Idempotency,
}

impl RetryPlanner {
    /// A planner for calls that may be repeated.
    ///
    /// # Errors
    /// Contradictions in the configuration.
    pub fn new(config: RetryConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, idempotency: Idempotency::Safe })
    }

    pub(crate) const fn from_valid(config: RetryConfig, idempotency: Idempotency) -> Self {
        Self { config, idempotency }
    }

    /// Whether a call may be repeated that perhaps was done.
    #[must_use]
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// The rules.
    pub const fn config(&self) -> &RetryConfig {
        &self.config
    }

    /// What follows the attempt number `attempt` (from 1).
    ///
    /// The pause is never above `max_delay`, except where more was asked for: a service's `Retry-After`, cut to
    /// `max_retry_after`, or the exact time after which one of our own parts can say yes. With a `deadline`, a pause
    /// that would reach it is not begun. The jitter comes from `seed` and `attempt` alone.
    pub fn plan(
        &self,
        attempt: u32,
        ending: impl Into<AttemptOutcome>,
        now: Moment,
        deadline: Option<Moment>,
        seed: u64,
    ) -> RetryDecision {
        let asked = match ending.into() {
            AttemptOutcome::Verdict(verdict) => {
                if !verdict.may_retry(self.idempotency) {
                    let unsafe_only = verdict.may_retry(Idempotency::Safe);
                    return RetryDecision::GiveUp(if unsafe_only {
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
                _ if refused.is_by_hand() => return RetryDecision::GiveUp(StopReason::OpenedByHand),
                // This does not pass with time.
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

    /// The pause after the attempt number `attempt` (from 1), before anybody asks for more.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        self.config.backoff.delay(attempt.max(1), self.config.max_delay, self.config.jitter, seed)
    }
}
