//! A clock for tests and simulations: it stands still until it is advanced.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use super::Moment;
use crate::random::nanos;

/// A clock moved by hand. Timers on it fire during [`advance`](Self::advance), in the order of their deadlines.
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
    /// A clock at [`Moment::ZERO`], whose wall time starts at 1970-01-01.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::from_nanos(self.0.now.load(Ordering::Acquire))
    }

    /// Moves the clock forward and wakes every timer that falls due.
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

    /// How many timers wait on this clock now.
    pub fn timers(&self) -> usize {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sets what the wall clock showed at [`Moment::ZERO`], since 1970-01-01 UTC.
    pub fn set_unix_start(&self, start: Duration) {
        self.0.unix_start_nanos.store(nanos(start), Ordering::Release);
    }

    /// Wall time: the start plus what has been advanced.
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
        // Under the same lock as `advance`, so no step of the clock can be missed.
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
