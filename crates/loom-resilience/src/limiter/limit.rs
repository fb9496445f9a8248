//! Limits and the configuration of a rate limiter.

use std::{fmt, time::Duration};

use crate::{
    breaker::{Mode, Scope},
    config::{Checker, ConfigError, Plain},
};

/// A number of permits per period.
///
/// ```
/// # use loom_resilience::Limit;
/// # use std::time::Duration;
/// // On average 600 a minute, never more than 20 at once.
/// assert_eq!(Limit::per_minute(600).burst(20).to_string(), "600 every 60 s, at most 20 at once");
/// // At most 5,000 in any hour, for services that count strictly.
/// let strict = Limit::window(5_000, Duration::from_hours(1));
/// assert_eq!(strict.to_string(), "at most 5000 in any 1 h");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Limit {
    /// Permits per period: at least 1, at most 1 per nanosecond.
    pub permits: u32,
    /// The period: 1 ns to 366 days.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub period: Duration,
    /// How permits become available again.
    pub refill: Refill,
}

/// How permits become available again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Refill {
    /// One by one, evenly over the period. At most `burst` accumulate, so a period sees up to `permits + burst` in the worst
    /// case.
    #[cfg_attr(feature = "serde", serde(alias = "Even"))]
    Even {
        /// The most permits that accumulate, at least 1.
        burst: u32,
    },
    /// Each a whole period after it was granted, so that no period, wherever it starts, sees more than `permits`. Costs
    /// memory for each permit granted, and a lock for each call.
    #[cfg_attr(feature = "serde", serde(alias = "Strict"))]
    Strict,
}

impl Limit {
    /// `permits` per `period`, refilled evenly. A tenth of them accumulates, at least one.
    pub const fn new(permits: u32, period: Duration) -> Self {
        let tenth = permits / 10;
        Self { permits, period, refill: Refill::Even { burst: if tenth == 0 { 1 } else { tenth } } }
    }

    /// `permits` per second; see [`new`](Self::new).
    pub const fn per_second(permits: u32) -> Self {
        Self::new(permits, Duration::from_secs(1))
    }

    /// `permits` per minute; see [`new`](Self::new).
    pub const fn per_minute(permits: u32) -> Self {
        Self::new(permits, Duration::from_mins(1))
    }

    /// `permits` per hour; see [`new`](Self::new).
    pub const fn per_hour(permits: u32) -> Self {
        Self::new(permits, Duration::from_hours(1))
    }

    /// At most `permits` in any `period`, wherever it starts, for services that count strictly.
    pub const fn window(permits: u32, period: Duration) -> Self {
        Self { permits, period, refill: Refill::Strict }
    }

    /// The most permits that accumulate. Makes the refill even.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        self.refill = Refill::Even { burst };
        self
    }

    /// The most permits that one call can take.
    pub const fn largest(&self) -> u32 {
        match self.refill {
            Refill::Even { burst } => burst,
            Refill::Strict => self.permits,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refill {
            Refill::Even { burst } => {
                write!(f, "{} every {}, at most {burst} at once", self.permits, Plain(self.period))
            }
            Refill::Strict => write!(f, "at most {} in any {}", self.permits, Plain(self.period)),
        }
    }
}

/// The rules of a [`RateLimiter`](crate::RateLimiter).
///
/// ```
/// # use loom_resilience::{Limit, LimiterConfig};
/// # use std::time::Duration;
/// let config = LimiterConfig::new(Limit::per_second(10))
///     .and(Limit::per_hour(1_000))
///     .max_wait(Duration::from_secs(5));
/// assert_eq!(config.limits.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LimiterConfig {
    /// The limits. All hold at once; a call takes its permits from all of them or from none.
    pub limits: Vec<Limit>,
    /// How long a call may wait; `None` for until its deadline.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::option"))]
    pub max_wait: Option<Duration>,
    /// How many calls may wait; further ones are refused.
    pub queue: u32,
    /// Whether the limiter applies what the service reports about its own limit; see
    /// [`RateLimiter::learn`](crate::RateLimiter::learn).
    pub learn: bool,
    /// Whether the limits are enforced, observed or off.
    pub mode: Mode,
    /// Whether the limits are those of one process, or of all processes that share their state.
    pub scope: Scope,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self {
            limits: Vec::new(),
            max_wait: None,
            queue: 1_000,
            learn: true,
            mode: Mode::Enforce,
            scope: Scope::Cluster,
        }
    }
}

impl LimiterConfig {
    /// One limit; up to 1,000 calls wait.
    pub fn new(limit: Limit) -> Self {
        Self { limits: vec![limit], ..Self::default() }
    }

    /// Adds another limit.
    #[must_use]
    pub fn and(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// How long a call may wait.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// How many calls may wait.
    #[must_use]
    pub const fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// Whether the limiter applies what the service reports about its own limit.
    #[must_use]
    pub const fn learn(mut self, learn: bool) -> Self {
        self.learn = learn;
        self
    }

    /// Whether the limits are enforced, observed or off.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether the limits are those of one process, or of all processes that share their state.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(
            !self.limits.is_empty() || self.mode == Mode::Off,
            "limiter.limits",
            "must hold at least one limit",
        );
        for limit in &self.limits {
            check.require(limit.permits >= 1, "limiter.limits.permits", "must be at least 1");
            check.require(
                !limit.period.is_zero() && limit.period <= Duration::from_hours(24 * 366),
                "limiter.limits.period",
                "must be above zero and at most 366 days",
            );
            check.require(
                u128::from(limit.permits) <= limit.period.as_nanos().max(1),
                "limiter.limits.permits",
                "must be at most one per nanosecond of the period",
            );
            if let Refill::Even { burst } = limit.refill {
                check.require(burst >= 1, "limiter.limits.burst", "must be at least 1");
                let fill = limit.period.as_nanos().saturating_mul(u128::from(burst))
                    / u128::from(limit.permits.max(1));
                check.require(
                    fill <= Duration::from_hours(24 * 366 * 10).as_nanos(),
                    "limiter.limits.burst",
                    "must not take more than ten years to refill",
                );
            }
        }
        check.finish()
    }
}

impl fmt::Display for LimiterConfig {
    /// The effective rules as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            for (index, limit) in self.limits.iter().enumerate() {
                write!(f, "{}{limit}", if index == 0 { "" } else { ", and " })?;
            }
            match self.max_wait {
                Some(wait) if wait.is_zero() => f.write_str("; calls do not wait")?,
                Some(wait) => write!(f, "; up to {} calls wait, each up to {}", self.queue, Plain(wait))?,
                None => write!(f, "; up to {} calls wait, each up to its deadline", self.queue)?,
            }
            if self.scope == Scope::Node {
                f.write_str("; on each node alone")?;
            }
            Ok(())
        })
    }
}
