//! Hedging: sends a second copy of a slow call and uses the first good response.
//!
//! Only for idempotent calls. Each extra copy is charged to a retry budget, so hedging cannot double the load. After J. Dean
//! and L. A. Barroso, "The Tail at Scale" (2013).

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::{budget::Budget, clock::Clock};

/// Sends a second copy of a call that takes too long.
#[derive(Clone, Debug)]
pub struct Hedge {
    delay: Duration,
    clock: Clock,
}

impl Hedge {
    /// Sends the second copy after `delay`; the 95th percentile of the call's durations is a good choice.
    pub const fn new(delay: Duration, clock: Clock) -> Self {
        Self { delay, clock }
    }

    /// Runs `work(1)`, and `work(2)` as well when the first has not ended after the delay and `budget` allows it.
    ///
    /// # Errors
    /// The error of the first copy if it fails before the second starts; otherwise the error of the copy that failed last.
    ///
    /// # Cancel safety
    /// Dropping the future drops both copies. The first good response drops the other copy.
    pub async fn run<T, E, F, Fut>(&self, budget: &Budget, mut work: F) -> Result<T, E>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        budget.deposit(self.clock.now());
        let mut first = pin!(work(1));
        if let (Some(result), _) = self.clock.limit(Some(self.delay), first.as_mut()).await {
            return result;
        }
        if !budget.try_spend(self.clock.now()) {
            return first.await;
        }
        let mut second = pin!(work(2));
        let (mut first_ended, mut second_ended) = (false, false);
        poll_fn(|cx| {
            if !first_ended && let Poll::Ready(result) = first.as_mut().poll(cx) {
                first_ended = true;
                if result.is_ok() || second_ended {
                    return Poll::Ready(result);
                }
            }
            if !second_ended && let Poll::Ready(result) = second.as_mut().poll(cx) {
                second_ended = true;
                if result.is_ok() || first_ended {
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await
    }
}
