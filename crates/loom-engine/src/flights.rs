//! What is under way and must not be cut off while the engine drains: calls that were sent, and steps of runs whose consequences are
//! not durable yet.
//!
//! A step counts itself *before* it looks whether the engine drains, and whoever drains says so *before* it counts. So either
//! the step sees that nothing new may begin, or whoever drains sees the step.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts what is under way in one engine.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    count: AtomicUsize,
    draining: AtomicBool,
    /// Told when the engine begins to drain, and when the last one has landed since.
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

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Returns once the engine drains.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn drains(&self) {
        self.until(|| self.draining()).await;
    }

    /// Returns once nothing is under way.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn landed(&self) {
        self.until(|| self.count() == 0).await;
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            // Listens before it looks, so that no change falls between the two.
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

/// One thing that is under way, for as long as it is kept.
#[derive(Debug)]
#[must_use = "it has landed once this is dropped"]
pub(crate) struct Flight(Arc<Flights>);

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.draining() {
            self.0.changed.notify_waiters();
        }
    }
}
