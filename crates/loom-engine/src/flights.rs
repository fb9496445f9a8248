//! Work that must not be interrupted while the engine drains: calls that were sent, and steps of runs whose consequences are
//! not durable yet.
//!
//! A step counts itself *before* it checks whether the engine is draining, and draining sets its flag *before* it reads the
//! count. So either the step sees that nothing new may begin, or the drain sees the step.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts the work in flight in one engine.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    count: AtomicUsize,
    draining: AtomicBool,
    /// Notified when the engine begins to drain, and when the count reaches zero after that.
    changed: Notify,
}

impl Flights {
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.count.fetch_add(1, Ordering::SeqCst);
        Flight(Arc::clone(self))
    }

    /// Whether nothing new may begin.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// The amount of work in flight.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until the engine drains.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn drains(&self) {
        self.until(|| self.draining()).await;
    }

    /// Waits until nothing is in flight.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn landed(&self) {
        self.until(|| self.count() == 0).await;
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            // Registers before it checks, so that no change is missed in between.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }
}

/// A guard for one call or step in flight; it ends when dropped.
#[derive(Debug)]
#[must_use = "dropping the guard ends the flight"]
pub(crate) struct Flight(Arc<Flights>);

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.draining() {
            self.0.changed.notify_waiters();
        }
    }
}
