//! The thin async loop round the planner, for calls that need nothing but retries.

use std::future::Future;

use super::{RetryConfig, RetryDecision, RetryPlanner};
use crate::{
    clock::{Clock, Moment},
    config::ConfigError,
    verdict::{Classifier, Idempotency, Verdict},
};

/// Retries a call by itself, without any other part.
#[derive(Clone, Debug)]
pub struct Retry {
    planner: RetryPlanner,
    clock: Clock,
    seed: u64,
    deadline: Option<Moment>,
}

impl Retry {
    /// Retries on tokio's timers.
    ///
    /// # Errors
    /// Contradictions in the configuration.
    pub fn new(config: RetryConfig) -> Result<Self, ConfigError> {
        let planner = RetryPlanner::new(config)?;
        Ok(Self { planner, clock: Clock::system(), seed: 0, deadline: None })
    }

    /// Another clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the jitter comes from: the same seed gives the same pauses, so callers that should not return together
    /// need seeds of their own.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// No pause is begun that would reach this moment.
    #[must_use]
    pub const fn deadline(mut self, deadline: Moment) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whether a call may be repeated that perhaps was done.
    #[must_use]
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.planner = self.planner.idempotency(idempotency);
        self
    }

    /// Calls `work` with the number of the attempt, from 1, until the classifier is content or the planner gives up; answers
    /// the last result. A call that works at once reads no clock.
    ///
    /// # Errors
    /// The error of the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt that is out.
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
