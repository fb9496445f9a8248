//! The status of a service, and its state across a restart.

use std::{fmt, time::Duration};

use super::Pipeline;
use crate::{
    breaker::{BreakerStatus, Mode},
    clock::Instant,
    limiter::LimiterStatus,
    observer::CircuitState,
    snapshot::ServiceSnapshot,
};

/// The status of a service at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The service's name.
    pub name: String,
    /// Its circuit breaker.
    pub breaker: BreakerStatus,
    /// Its rate limiter.
    pub limiter: LimiterStatus,
    /// Calls in flight; 0 without a bulkhead.
    pub in_flight: u32,
    /// Calls that wait for a permit of the bulkhead.
    #[cfg_attr(feature = "serde", serde(alias = "waiting_for_place"))]
    pub bulkhead_waiting: u32,
    /// The retries that the budget still allows; `None` without a budget.
    pub retries_left: Option<u32>,
}

impl ServiceStatus {
    /// The status of a service with a restored state that has not been used since. Its policy is not known yet, so what
    /// depends on the policy is not shown.
    pub(crate) fn of_saved(saved: &ServiceSnapshot) -> Self {
        let breaker = &saved.breaker;
        let is_open = breaker.state == CircuitState::Open;
        Self {
            name: saved.name.clone(),
            breaker: BreakerStatus {
                state: breaker.state,
                mode: Mode::Enforce,
                isolated: breaker.isolated,
                consecutive_failures: breaker.consecutive_failures,
                window_calls: 0,
                window_failures: 0,
                window_slow: 0,
                cause: breaker.cause.filter(|_| is_open),
                opened_since: None,
                retry_after: is_open.then_some(breaker.open_for),
                probes_out: 0,
            },
            limiter: LimiterStatus {
                mode: Mode::Enforce,
                available: None,
                waiting: 0,
                learned: None,
                frozen_for: saved.limiter.frozen_for,
            },
            in_flight: 0,
            bulkhead_waiting: 0,
            retries_left: None,
        }
    }
}

impl Pipeline {
    /// The status now.
    pub fn status(&self) -> ServiceStatus {
        let now = self.clock.now();
        ServiceStatus {
            name: self.name().to_string(),
            breaker: self.breaker.status(now),
            limiter: self.limiter.status(now),
            in_flight: self.bulkhead.in_flight(),
            bulkhead_waiting: self.bulkhead.waiting(),
            retries_left: self.budget.available(now),
        }
    }

    /// The policy in force in plain words, after the service's name.
    pub fn describe(&self) -> String {
        format!("service {}\n{}", self.name(), self.policy())
    }

    /// The state to store for a restart.
    pub fn snapshot(&self) -> ServiceSnapshot {
        let now = self.clock.now();
        ServiceSnapshot {
            name: self.name().to_string(),
            breaker: self.breaker.snapshot(now),
            limiter: self.limiter.snapshot(now),
            budget: self.budget.snapshot(now),
        }
    }

    /// Restores a state that was saved `age` ago.
    pub fn restore(&self, saved: &ServiceSnapshot, age: Duration) {
        let now: Instant = self.clock.now();
        self.breaker.restore(&saved.breaker, age, now);
        self.limiter.restore(&saved.limiter, age, now);
        self.budget.restore(&saved.budget, age, now);
    }
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: circuit ", self.name)?;
        match self.breaker.state {
            _ if self.breaker.isolated => f.write_str("ISOLATED")?,
            state => write!(f, "{state}")?,
        }
        if let Some(cause) = self.breaker.cause {
            write!(f, " ({cause})")?;
        }
        if let Some(permits) = self.limiter.available {
            write!(f, ", {permits} permits free, {} waiting", self.limiter.waiting)?;
        }
        Ok(())
    }
}
