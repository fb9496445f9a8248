//! Timeout: bounds how long one piece of async work may take.
//!
//! When time is over the work is dropped, which cancels everything it owns. What it has handed to others goes on:
//! a spawned task runs until its handle is aborted, and a blocking call on another thread cannot be stopped at all, so
//! give such work a limit of its own. Work that blocks the thread inside its own poll cannot be interrupted either.

use std::{future::Future, time::Duration};

use crate::{clock::Clock, refusal::Millis};

/// A time limit for async work.
#[derive(Clone, Debug)]
pub struct Timeout {
    after: Duration,
    clock: Clock,
}

/// The time was over before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Operation timed out after {}", Millis(*.after))]
pub struct TimedOut {
    /// The limit that was in force.
    pub after: Duration,
}

impl Timeout {
    /// A limit on tokio's timers.
    pub const fn new(after: Duration) -> Self {
        Self { after, clock: Clock::system() }
    }

    /// A limit on another clock.
    pub const fn with_clock(after: Duration, clock: Clock) -> Self {
        Self { after, clock }
    }

    /// Runs `work`, for no longer than the limit from the time it is first pending.
    ///
    /// Work that is ready at its first poll costs no timer and no look at a clock. When the work and the timer are
    /// ready at once, the work wins.
    ///
    /// # Errors
    /// [`TimedOut`], after `work` was dropped.
    ///
    /// # Cancel safety
    /// Dropping this future drops `work`; it is as safe to cancel as `work` is.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, TimedOut> {
        self.clock.limit(Some(self.after), work).await.0.ok_or(TimedOut { after: self.after })
    }
}
