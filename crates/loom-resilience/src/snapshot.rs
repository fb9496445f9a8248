//! State that survives a restart: a few plain numbers for each service.
//!
//! Everything is relative to the moment the snapshot was taken, because a monotonic clock means nothing to another
//! process; only the registry's snapshot carries a wall time, to tell how old it is.

use std::time::Duration;

use crate::{observer::CircuitState, refusal::TripCause};

/// All services of a registry.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RegistrySnapshot {
    /// Wall time when it was taken, in milliseconds since 1970-01-01 UTC.
    pub taken_at_unix_ms: u64,
    /// The services that differ from fresh ones, by name.
    pub services: Vec<ServiceSnapshot>,
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceSnapshot {
    /// Its name.
    pub name: String,
    /// Its circuit.
    pub breaker: BreakerSnapshot,
    /// Its limiter.
    pub limiter: LimiterSnapshot,
    /// Its retry budget.
    pub budget: BudgetSnapshot,
}

/// One circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BreakerSnapshot {
    /// The state.
    pub state: CircuitState,
    /// Whether an operator isolated it.
    pub isolated: bool,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Openings without a quiet closed period between them.
    pub openings: u32,
    /// How long it would still have stayed open.
    pub open_for: Duration,
    /// How long ago it opened.
    pub opened_ago: Duration,
    /// How long ago it last closed.
    pub closed_ago: Duration,
    /// Why it opened, unless it is closed.
    pub cause: Option<TripCause>,
}

/// One limiter: what is used up of each limit, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LimiterSnapshot {
    /// Consumption of each limit.
    pub limits: Vec<LimitSnapshot>,
    /// How long the limiter would still have been frozen.
    pub frozen_for: Duration,
}

/// What is used up of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LimitSnapshot {
    /// A bucket that would be full again after so long.
    Bucket {
        /// Time until full.
        full_after: Duration,
    },
    /// A strict window: `(age, permits)` of what was granted, oldest first, in at most 32 groups. A group has the
    /// age of its youngest grant, so a restored window is never too generous.
    Window {
        /// The groups.
        granted: Vec<(Duration, u64)>,
    },
}

/// One retry budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BudgetSnapshot {
    /// Calls in the window.
    pub calls: u32,
    /// Retries in the window.
    pub retries: u32,
}

impl BreakerSnapshot {
    /// A closed circuit that nothing has happened to.
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

    /// Whether a fresh circuit would look the same.
    pub fn is_fresh(&self) -> bool {
        self.state == CircuitState::Closed
            && !self.isolated
            && self.consecutive_failures == 0
            && self.openings == 0
    }
}

impl LimiterSnapshot {
    /// Whether a fresh limiter would look the same.
    pub fn is_fresh(&self) -> bool {
        self.frozen_for.is_zero()
            && self.limits.iter().all(|limit| match limit {
                LimitSnapshot::Bucket { full_after } => full_after.is_zero(),
                LimitSnapshot::Window { granted } => granted.is_empty(),
            })
    }
}

impl ServiceSnapshot {
    /// A service that nothing has happened to.
    pub(crate) fn fresh(name: String) -> Self {
        Self {
            name,
            breaker: BreakerSnapshot::fresh(),
            limiter: LimiterSnapshot::default(),
            budget: BudgetSnapshot::default(),
        }
    }

    /// Whether a fresh service would look the same.
    pub fn is_fresh(&self) -> bool {
        self.breaker.is_fresh()
            && self.limiter.is_fresh()
            && self.budget.calls == 0
            && self.budget.retries == 0
    }
}
