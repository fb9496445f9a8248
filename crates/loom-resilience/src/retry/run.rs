//! An async loop around the planner, for calls that need nothing but retries.

use std::future::Future;

use super::{RetryConfig, RetryDecision, RetryPlanner};
use crate::{
    clock::{Clock, Instant},
    config::ConfigError,
    verdict::{Classifier, Idempotency, Verdict},
};

/// Retries calls, without any other part.
///
/// ```
/// # use loom_resilience::{AllTransient, Backoff, Jitter, Retry, RetryConfig};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), loom_resilience::ConfigError> {
/// let config = RetryConfig::attempts(3)
///     .backoff(Backoff::Constant { delay: Duration::from_millis(1) })
///     .jitter(Jitter::None);
/// let retry = Retry::new(config)?.idempotent();
/// let result = retry
///     .run(AllTransient, |attempt| async move { if attempt < 3 { Err("503") } else { Ok("200") } })
///     .await;
/// assert_eq!(result, Ok("200"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    planner: RetryPlanner,
    clock: Clock,
    seed: u64,
    deadline: Option<Instant>,
}

impl Retry {
    /// Retries on tokio's timers.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(config: RetryConfig) -> Result<Self, ConfigError> {
        let planner = RetryPlanner::new(config)?;
        Ok(Self { planner, clock: Clock::system(), seed: 0, deadline: None })
    }

    /// The clock to use.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The seed of the jitter. The same seed gives the same delays, so callers that should not return together need
    /// different seeds.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A delay that would reach this instant is not started.
    #[must_use]
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whether the call may be sent twice. [`Idempotency::NonIdempotent`] unless said otherwise.
    #[must_use]
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.planner = self.planner.idempotency(idempotency);
        self
    }

    /// Declares the call idempotent: a failed attempt that may have been processed is retried.
    #[must_use]
    pub const fn idempotent(self) -> Self {
        self.idempotency(Idempotency::Idempotent)
    }

    /// Calls `work` with the number of the attempt, from 1, until the verdict is [`Verdict::Ok`] or the planner gives up.
    /// Returns the last result. A call that succeeds at once reads no clock.
    ///
    /// # Errors
    /// The error of the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt in flight.
    pub async fn run<T, E, F, Fut>(&self, classifier: impl Classifier<T, E>, mut work: F) -> Result<T, E>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut attempt = 1;
        loop {
            let result = work(attempt).await;
            let verdict = classifier.classify(&result);
            if verdict == Verdict::Ok {
                return result;
            }
            let now = self.clock.now();
            match self.planner.plan(attempt, verdict, now, self.deadline, self.seed) {
                RetryDecision::GiveUp(_) => return result,
                RetryDecision::After(delay) => {
                    drop(result);
                    self.clock.sleep_until(now + delay).await;
                }
            }
            attempt += 1;
        }
    }
}
