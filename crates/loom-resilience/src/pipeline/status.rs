//! A service as it stands at one moment, and its state across a restart.

use std::{fmt, time::Duration};

use super::Pipeline;
use crate::{
    breaker::{BreakerStatus, Mode},
    clock::Moment,
    limiter::LimiterStatus,
    observer::CircuitState,
    snapshot::ServiceSnapshot,
};

/// A service as it stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its circuit.
    pub breaker: BreakerStatus,
    /// Its limiter.
    pub limiter: LimiterStatus,
    /// Calls in flight, where the bulkhead counts them.
    pub in_flight: u32,
    /// Calls that wait for a place.
    pub waiting_for_place: u32,
    /// Retries that the budget would still allow; `None` without a budget.
    pub retries_left: Option<u32>,
}

impl ServiceStatus {
    /// What a saved state says of a service that nobody has asked for since the restart. Its policy is not known yet, so
    /// what depends on it is not shown.
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
                frozen_for: saved.limiter.frozen_for,
            },
            in_flight: 0,
            waiting_for_place: 0,
            retries_left: None,
        }
    }
}

impl Pipeline {
    /// The service at this moment.
    pub fn status(&self) -> ServiceStatus {
        let now = self.clock.now();
        ServiceStatus {
            name: self.name().to_string(),
            breaker: self.breaker.status(now),
            limiter: self.limiter.status(now),
            in_flight: self.bulkhead.in_flight(),
            waiting_for_place: self.bulkhead.waiting(),
            retries_left: self.budget.available(now),
        }
    }

    /// The policy in force in plain words, under the service's name.
    pub fn describe(&self) -> String {
        format!("service {}\n{}", self.name(), self.policy())
    }

    /// What to keep across a restart.
    pub fn snapshot(&self) -> ServiceSnapshot {
        let now = self.clock.now();
        ServiceSnapshot {
            name: self.name().to_string(),
            breaker: self.breaker.snapshot(now),
            limiter: self.limiter.snapshot(now),
            budget: self.budget.snapshot(now),
        }
    }

    /// Takes up a saved state that is `age` old.
    pub fn restore(&self, saved: &ServiceSnapshot, age: Duration) {
        let now: Moment = self.clock.now();
        self.breaker.restore(&saved.breaker, age, now);
        self.limiter.restore(&saved.limiter, age, now);
        self.budget.restore(&saved.budget, age, now);
    }
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: circuit {}", self.name, self.breaker.state)?;
        if self.breaker.isolated {
            f.write_str(", isolated")?;
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
