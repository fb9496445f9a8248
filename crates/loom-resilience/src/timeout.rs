//! Timeout: bounds how long async work may take.
//!
//! When the timeout expires, the work is dropped, which cancels everything that it owns. Work that it has handed over
//! continues: a spawned task runs until its handle is aborted, and a blocking call on another thread cannot be stopped, so
//! give such work a timeout of its own. Work that blocks inside its own poll cannot be interrupted.

use std::{future::Future, time::Duration};

use crate::{clock::Clock, refusal::Millis};

/// Bounds how long async work may take.
///
/// ```
/// # use loom_resilience::Timeout;
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let timeout = Timeout::new(Duration::from_millis(5));
/// assert_eq!(timeout.run(async { 42 }).await, Ok(42));
/// let error = timeout.run(std::future::pending::<()>()).await.unwrap_err();
/// assert_eq!(error.to_string(), "Operation timed out after 5ms");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Timeout {
    after: Duration,
    clock: Clock,
}

/// The work did not finish in time and was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Operation timed out after {}", Millis(*.after))]
#[non_exhaustive]
pub struct TimedOut {
    /// The timeout that was in force.
    pub after: Duration,
}

impl Timeout {
    /// A timeout on tokio's timers.
    pub const fn new(after: Duration) -> Self {
        Self { after, clock: Clock::system() }
    }

    /// A timeout on another clock.
    pub const fn with_clock(after: Duration, clock: Clock) -> Self {
        Self { after, clock }
    }

    /// Runs `work` for at most the timeout, counted from the poll at which it is first pending.
    ///
    /// Work that is ready at its first poll needs no timer and reads no clock. When the work and the timer are ready at the
    /// same poll, the work wins.
    ///
    /// # Errors
    /// [`TimedOut`]; `work` has been dropped by then.
    ///
    /// # Cancel safety
    /// Dropping this future drops `work`; it is as safe to cancel as `work` is.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, TimedOut> {
        self.clock.limit(Some(self.after), work).await.0.ok_or(TimedOut { after: self.after })
    }
}
