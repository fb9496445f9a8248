//! Rate limits and circuits that several processes share.
//!
//! The state is somewhere that all of them reach, such as a database; this module is what does not depend on the place. The host
//! implements [`Shared`] with a compare-and-set of one value for each service: it computes the next state of a limit with
//! [`SharedLimit::take`], which is pure, and stores it under the condition that nobody else has.
//!
//! Each process keeps its own limiter and circuit breaker, which decide first: the limiter queues and freezes as always, and the
//! breaker counts the calls of its process. What is shared is that a permit of the local limiter is confirmed by the shared one,
//! that a circuit which opens or closes does so everywhere, and that one process at a time probes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    breaker::{Mode, Scope},
    clock::{Clock, ManualClock},
    limiter::{LimiterConfig, RateLimiter},
    observer::Reporter,
    refusal::Refused,
    snapshot::LimiterSnapshot,
};

/// A future that a [`Shared`] returns.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the processes decide together.
pub trait Shared: fmt::Debug + Send + Sync + 'static {
    /// Takes `permits` of the limit that all processes share, waiting for at most `max_wait`.
    ///
    /// # Errors
    /// [`Refused`] when the wait would be too long. Nothing is taken then.
    ///
    /// # Cancel safety
    /// Dropping the future may lose the permits, never grant them twice.
    fn take<'a>(
        &'a self,
        service: &'a Arc<str>,
        config: Arc<LimiterConfig>,
        permits: u32,
        max_wait: Option<Duration>,
    ) -> Answering<'a, Result<(), Refused>>;

    /// Whether this process may probe a circuit whose open time is over. At most one process may at a time, for `lease`.
    fn may_probe<'a>(&'a self, service: &'a Arc<str>, lease: Duration) -> Answering<'a, bool>;
}

/// What one service shares.
#[derive(Debug)]
pub struct Sharing {
    pub(crate) with: Arc<dyn Shared>,
    has_limit: AtomicBool,
    limit: RwLock<Option<Arc<LimiterConfig>>>,
}

impl Sharing {
    /// Shares through `with`.
    pub fn new(with: Arc<dyn Shared>) -> Self {
        Self { with, has_limit: AtomicBool::new(false), limit: RwLock::default() }
    }

    pub(crate) fn set_limit(&self, config: Option<&LimiterConfig>) {
        let is_shared = |config: &&LimiterConfig| {
            config.scope == Scope::Cluster && config.mode == Mode::Enforce && !config.limits.is_empty()
        };
        let shared = config.filter(is_shared).cloned().map(Arc::new);
        self.has_limit.store(shared.is_some(), Ordering::Release);
        *self.limit.write().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// Whether a limit is shared.
    #[inline]
    pub(crate) fn has_limit(&self) -> bool {
        self.has_limit.load(Ordering::Acquire)
    }

    pub(crate) fn limit(&self) -> Option<Arc<LimiterConfig>> {
        self.limit.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The consumption of a limit that several processes share.
///
/// ```
/// # use loom_resilience::{Limit, LimiterConfig, SharedLimit};
/// # use std::time::Duration;
/// let config = LimiterConfig::new(Limit::per_second(10).burst(3));
/// let at = Duration::from_secs(1_000);
/// // One process takes two, another one what is left.
/// let (state, grant) = SharedLimit::take(None, &config, 2, at);
/// assert_eq!(grant.permits, 2);
/// let (state, grant) = SharedLimit::take(Some(&state), &config, 2, at);
/// assert_eq!(grant.permits, 1);
/// assert!(grant.wait.is_some_and(|wait| wait <= Duration::from_millis(100)));
/// // A tenth of a second later there is one more.
/// let (_, grant) = SharedLimit::take(Some(&state), &config, 2, at + Duration::from_millis(101));
/// assert_eq!(grant.permits, 1);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SharedLimit {
    /// When it was so, by the clock that all processes share, in microseconds since 1970-01-01 UTC.
    at_us: u64,
    config: LimiterConfig,
    used: LimiterSnapshot,
}

/// What [`SharedLimit::take`] has granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The permits, as many as were wanted or fewer.
    pub permits: u32,
    /// The time until it is worth asking for the others; `None` when all were granted.
    pub wait: Option<Duration>,
}

/// By how much saving and restoring a state delays a permit at most, because both round up.
const ROUNDED: Duration = Duration::from_nanos(4);

/// The time of the clock on which a limit is computed: later than the longest period of a limit, so that grants can be older.
const LATE: Duration = Duration::from_hours(24 * 400);

/// Permits for which a process waits are taken in portions of this time, so that it does not ask more often.
const PORTION: Duration = Duration::from_millis(100);

impl SharedLimit {
    /// Takes at most `wanted` permits at `now`, the time since 1970-01-01 UTC by the clock that all processes share. `before` is the
    /// last state; it stays as far as a changed configuration allows, as in
    /// [`RateLimiter::reconfigure`]. Returns the next state.
    pub fn take(before: Option<&Self>, config: &LimiterConfig, wanted: u32, now: Duration) -> (Self, Grant) {
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let time = ManualClock::new();
        time.advance(LATE);
        let first = before.map_or(config, |before| &before.config);
        let limiter =
            RateLimiter::with_reporter(first.clone(), Clock::manual(&time), Reporter::new("", None));
        let mut at_us = now_us;
        if let Some(before) = before {
            // The clock of a database may go back when another server takes over.
            at_us = at_us.max(before.at_us);
            let age = Duration::from_micros(at_us - before.at_us);
            limiter.restore(&before.used, age, time.now());
            time.advance(ROUNDED);
            if before.config != *config {
                limiter.put_config(config.clone(), time.now());
            }
        }
        let permits = wanted.min(limiter.available(time.now()).unwrap_or(wanted));
        let granted = if limiter.try_take(permits, time.now()).is_ok() { permits } else { 0 };
        let missing = wanted - granted;
        let wait = (missing > 0).then(|| {
            let portion = missing.min(portion(config)).max(1);
            let refused = limiter.try_take(portion, time.now()).err();
            refused.and_then(|refused| refused.retry_after).unwrap_or(PORTION)
        });
        let next = Self { at_us, config: config.clone(), used: limiter.snapshot(time.now()) };
        (next, Grant { permits: granted, wait })
    }

    /// The longest period of its limits: after that nothing of it matters.
    pub fn longest_period(&self) -> Duration {
        self.config.limits.iter().map(|limit| limit.period).max().unwrap_or_default()
    }
}

/// The permits of [`PORTION`], by the strictest limit.
fn portion(config: &LimiterConfig) -> u32 {
    let of = |limit: &crate::Limit| {
        let permits = u128::from(limit.permits) * PORTION.as_nanos() / limit.period.as_nanos().max(1);
        u32::try_from(permits).unwrap_or(u32::MAX).clamp(1, limit.largest())
    };
    config.limits.iter().map(of).min().unwrap_or(1)
}

#[cfg(test)]
mod tests;
