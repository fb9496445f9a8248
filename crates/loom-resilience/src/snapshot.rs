//! State that survives a restart: a few plain numbers for each service.
//!
//! Times are relative to the snapshot, because the readings of a monotonic clock mean nothing to another process. Only the
//! registry's snapshot holds a wall time, which tells how old it is.
//!
//! With the feature `serde`, durations are written as strings (`"30s"`) and enums in snake case. Snapshots that earlier
//! versions wrote, with `{"secs": 30, "nanos": 0}` and `"HalfOpen"`, are still read.

use std::time::Duration;

use crate::{observer::CircuitState, refusal::TripCause};

/// The state of a whole registry; see [`ResilienceRegistry::snapshot`](crate::ResilienceRegistry::snapshot).
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RegistrySnapshot {
    /// Wall time of the snapshot, in milliseconds since 1970-01-01 UTC.
    pub taken_at_unix_ms: u64,
    /// The services that differ from new ones, by name.
    pub services: Vec<ServiceSnapshot>,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ServiceSnapshot {
    /// The service's name.
    pub name: String,
    /// Its circuit breaker.
    pub breaker: BreakerSnapshot,
    /// Its rate limiter.
    pub limiter: LimiterSnapshot,
    /// Its retry budget.
    pub budget: BudgetSnapshot,
}

/// The state of one circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The state of the circuit.
    pub state: CircuitState,
    /// Whether an operator isolated it.
    pub isolated: bool,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Consecutive openings without a quiet closed period between them.
    pub openings: u32,
    /// How much longer it would have stayed open.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub open_for: Duration,
    /// Time since it opened.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub opened_ago: Duration,
    /// Time since it last closed.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub closed_ago: Duration,
    /// Why it opened; `None` while closed.
    pub cause: Option<TripCause>,
}

/// The state of one rate limiter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LimiterSnapshot {
    /// The consumption of each limit, in the order of the configuration.
    pub limits: Vec<LimitSnapshot>,
    /// How much longer the limiter would have been frozen.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub frozen_for: Duration,
}

/// The consumption of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LimitSnapshot {
    /// A bucket of an even limit.
    #[cfg_attr(feature = "serde", serde(alias = "Bucket"))]
    Bucket {
        /// Time until the bucket is full.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        full_after: Duration,
    },
    /// A strict window: the age and the number of the permits granted, oldest first, in at most 32 groups. A group has
    /// the age of its youngest grant, so a restored window never grants too much.
    #[cfg_attr(feature = "serde", serde(alias = "Window"))]
    Window {
        /// The groups.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::pairs"))]
        granted: Vec<(Duration, u64)>,
    },
}

/// The state of one retry budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// Calls in the window.
    pub calls: u32,
    /// Retries in the window.
    pub retries: u32,
}

impl RegistrySnapshot {
    /// A snapshot of `services`, taken `taken_at_unix_ms` milliseconds after 1970-01-01 UTC.
    pub const fn new(taken_at_unix_ms: u64, services: Vec<ServiceSnapshot>) -> Self {
        Self { taken_at_unix_ms, services }
    }
}

impl BreakerSnapshot {
    /// A new, closed circuit.
    pub(crate) const fn fresh() -> Self {
        Self {
            state: CircuitState::Closed,
            isolated: false,
            consecutive_failures: 0,
            openings: 0,
            open_for: Duration::ZERO,
            opened_ago: Duration::ZERO,
            closed_ago: Duration::ZERO,
            cause: None,
        }
    }

    /// Ends an isolation and closes the circuit, as [`CircuitBreaker::close`](crate::CircuitBreaker::close) does.
    pub(crate) const fn close(&mut self) {
        *self = Self { openings: self.openings, ..Self::fresh() };
    }

    /// Whether a new circuit breaker has the same state.
    pub fn is_fresh(&self) -> bool {
        self.state == CircuitState::Closed
            && !self.isolated
            && self.consecutive_failures == 0
            && self.openings == 0
    }
}

impl LimiterSnapshot {
    /// Whether a new limiter has the same state.
    pub fn is_fresh(&self) -> bool {
        self.frozen_for.is_zero()
            && self.limits.iter().all(|limit| match limit {
                LimitSnapshot::Bucket { full_after } => full_after.is_zero(),
                LimitSnapshot::Window { granted } => granted.is_empty(),
            })
    }
}

impl ServiceSnapshot {
    /// A new service.
    pub(crate) fn fresh(name: String) -> Self {
        Self {
            name,
            breaker: BreakerSnapshot::fresh(),
            limiter: LimiterSnapshot::default(),
            budget: BudgetSnapshot::default(),
        }
    }

    /// A service of which only the circuit differs from a new one.
    pub fn of_circuit(name: impl Into<String>, breaker: BreakerSnapshot) -> Self {
        Self { breaker, ..Self::fresh(name.into()) }
    }

    /// Whether a new service has the same state.
    pub fn is_fresh(&self) -> bool {
        self.breaker.is_fresh()
            && self.limiter.is_fresh()
            && self.budget.calls == 0
            && self.budget.retries == 0
    }
}
