//! A clock for tests and simulations: it moves only when it is advanced.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use super::Instant;
use crate::random::nanos;

/// A clock that the test advances. Timers on it fire during [`advance`](Self::advance), in the order of their deadlines.
///
/// ```
/// # use loom_resilience::{Clock, Limit, LimiterConfig, ManualClock, RateLimiter};
/// # use std::time::Duration;
/// let time = ManualClock::new();
/// let limiter =
///     RateLimiter::new("search", LimiterConfig::new(Limit::per_second(1)), Clock::manual(&time), None)?;
/// assert!(limiter.try_take(1, time.now()).is_ok());
/// assert!(limiter.try_take(1, time.now()).is_err());
/// time.advance(Duration::from_secs(1));
/// assert!(limiter.try_take(1, time.now()).is_ok());
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    now: AtomicU64,
    unix_start_nanos: AtomicU64,
    sleepers: Mutex<Vec<Sleeper>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Sleeper {
    id: u64,
    deadline: u64,
    waker: Waker,
}

impl ManualClock {
    /// A clock at [`Instant::ZERO`], whose wall time starts at 1970-01-01.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current instant.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::Acquire))
    }

    /// Moves the clock forward and wakes every timer that is due.
    pub fn advance(&self, by: Duration) {
        let mut due = Vec::new();
        {
            let mut sleepers = self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.0.now.load(Ordering::Acquire).saturating_add(nanos(by));
            self.0.now.store(now, Ordering::Release);
            due.extend(sleepers.extract_if(.., |sleeper| sleeper.deadline <= now));
        }
        due.sort_by_key(|sleeper| (sleeper.deadline, sleeper.id));
        for sleeper in due {
            sleeper.waker.wake();
        }
    }

    /// The number of timers that wait on this clock.
    pub fn timers(&self) -> usize {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sets the wall time at [`Instant::ZERO`], since 1970-01-01 UTC.
    pub fn set_unix_start(&self, start: Duration) {
        self.0.unix_start_nanos.store(nanos(start), Ordering::Release);
    }

    /// Wall time: the start plus the time advanced.
    pub(super) fn unix_time(&self) -> Duration {
        Duration::from_nanos(
            self.0.unix_start_nanos.load(Ordering::Acquire).saturating_add(self.now().as_nanos()),
        )
    }

    #[cfg(not(loom_model))]
    pub(super) fn sleep(&self, wait: Duration) -> ManualSleep {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline = (self.now() + wait).as_nanos();
        ManualSleep { clock: self.clone(), id, deadline, registered: false }
    }
}

/// A timer on a [`ManualClock`].
#[cfg(not(loom_model))]
pub(crate) struct ManualSleep {
    clock: ManualClock,
    id: u64,
    deadline: u64,
    registered: bool,
}

#[cfg(not(loom_model))]
impl ManualSleep {
    pub(crate) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let mut sleepers = self.clock.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the same lock as `advance`, so that no advance is missed.
        if self.clock.0.now.load(Ordering::Acquire) >= self.deadline {
            return std::task::Poll::Ready(());
        }
        if let Some(sleeper) = sleepers.iter_mut().find(|sleeper| sleeper.id == self.id) {
            sleeper.waker.clone_from(cx.waker());
        } else {
            sleepers.push(Sleeper { id: self.id, deadline: self.deadline, waker: cx.waker().clone() });
            self.registered = true;
        }
        std::task::Poll::Pending
    }
}

#[cfg(not(loom_model))]
impl Drop for ManualSleep {
    fn drop(&mut self) {
        if self.registered {
            let mut sleepers = self.clock.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            sleepers.retain(|sleeper| sleeper.id != self.id);
        }
    }
}
