//! Converts the definition's retry schedules to `loom-resilience`.

use std::time::Duration;

use loom_definition::policy::{self, Schedule};
use loom_resilience::{Backoff, Idempotency, Jitter, RetryConfig, RetryPlanner};

/// The wait after attempt number `attempt`, from 1.
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
    // A definition's retry policy applies to every method, so the call counts as one that may be repeated. Definitions are
    // checked when they are loaded; an invalid computed policy does not wait.
    let planner = RetryPlanner::new(config).map(|planner| planner.idempotency(Idempotency::Idempotent));
    planner.map_or(Duration::ZERO, |planner| planner.delay(attempt, seed))
}
