//! Waits for a permit: a queue in order of arrival, with one timer for its head.

use std::{collections::VecDeque, task::Waker};

/// The waiters, in order of arrival.
#[derive(Default)]
pub(super) struct Queue {
    waiters: VecDeque<Waiter>,
    permits: u64,
    next_id: u64,
    /// The only timer. It belongs to the head, whichever task armed it.
    #[cfg(not(loom_model))]
    timer: Option<crate::clock::Timer>,
}

struct Waiter {
    id: u64,
    permits: u32,
    waker: Waker,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting)", self.waiters.len())
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The permits that all waiters request.
    pub(super) const fn permits(&self) -> u64 {
        self.permits
    }

    pub(super) fn head_waker(&self) -> Option<Waker> {
        self.waiters.front().map(|waiter| waiter.waker.clone())
    }

    pub(super) fn wakers(&self) -> Vec<Waker> {
        self.waiters.iter().map(|waiter| waiter.waker.clone()).collect()
    }
}

#[cfg(not(loom_model))]
mod waiting {
    use std::{
        future::poll_fn,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use super::{Queue, Waiter};
    use crate::{
        breaker::Mode,
        clock::Instant,
        limiter::{Limit, RateLimiter, Reservation, State},
        observer::{Event, WaitFor},
        refusal::{Refused, Rule},
        sync::lock,
    };

    impl Queue {
        fn push(&mut self, permits: u32) -> u64 {
            let id = self.next_id;
            self.next_id += 1;
            self.permits += u64::from(permits);
            self.waiters.push_back(Waiter { id, permits, waker: Waker::noop().clone() });
            id
        }

        /// Identifiers increase along the queue, so a binary search finds them.
        fn position(&self, id: u64) -> Option<usize> {
            self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
        }

        fn remove(&mut self, index: usize) {
            if let Some(waiter) = self.waiters.remove(index) {
                self.permits -= u64::from(waiter.permits);
            }
            if index == 0 {
                self.timer = None;
            }
        }

        fn permits_before(&self, index: usize) -> u64 {
            self.waiters.iter().take(index).map(|waiter| u64::from(waiter.permits)).sum()
        }
    }

    impl RateLimiter {
        /// Takes `permits`, waiting in order of arrival for at most `max_wait` and at most the configured `max_wait`.
        /// Returns how long it waited.
        ///
        /// # Errors
        /// [`Refused`] at once when the wait would be too long or the queue is full; later only when a freeze or a lowered
        /// limit has made the wait too long.
        ///
        /// # Cancel safety
        /// Dropping the future leaves the queue and takes nothing.
        pub async fn take(&self, permits: u32, max_wait: Option<Duration>) -> Result<Duration, Refused> {
            self.reserve(permits, max_wait, self.clock.now()).await.map(|(_, waited)| waited)
        }

        /// As [`take`](Self::take), for a caller that has already read the clock.
        ///
        /// # Errors
        /// As [`take`](Self::take).
        #[inline]
        pub async fn take_at(
            &self,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
        ) -> Result<Duration, Refused> {
            self.reserve(permits, max_wait, now).await.map(|(_, waited)| waited)
        }

        /// As [`take_at`](Self::take_at), for a call that may not be made after all: see [`cancel`](Self::cancel).
        ///
        /// # Errors
        /// As [`take`](Self::take).
        #[inline]
        pub async fn reserve(
            &self,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
        ) -> Result<(Reservation, Duration), Refused> {
            match self.grab(permits, now) {
                Ok(taken) => Ok((taken, Duration::ZERO)),
                Err(refused) => self.wait_in_queue(permits, max_wait, now, refused).await,
            }
        }

        async fn wait_in_queue(
            &self,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
            refused: Refused,
        ) -> Result<(Reservation, Duration), Refused> {
            let passes = |()| (Reservation::NOTHING, Duration::ZERO);
            if refused.rule == Rule::TooManyPermits {
                return self.refuse(refused).map(passes);
            }
            if self.observes() {
                return self.observe_wait(permits, max_wait, now).map(passes);
            }
            let place = match self.join(permits, max_wait, now) {
                Ok(place) => place,
                Err(refused) => return self.refuse(refused).map(passes),
            };
            let expected = Some(place.expected);
            self.reporter.emit(|service| Event::Waiting {
                service,
                on: WaitFor::RateLimiter,
                expected,
                enforced: true,
            });
            let waited = poll_fn(|cx| self.poll_place(&place, cx)).await;
            match waited {
                Ok((taken, at)) => {
                    let waited = at.since(now);
                    self.reporter.emit(|service| Event::Waited { service, on: WaitFor::RateLimiter, waited });
                    Ok((taken, waited))
                }
                Err(refused) => self.refuse(refused).map(passes),
            }
        }

        /// Reports what would have become of a call that found no permit: a wait or a refusal.
        fn observe_wait(
            &self,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
        ) -> Result<(), Refused> {
            let wait = self.expected_wait(&mut lock(&self.state), permits, max_wait, now);
            match wait {
                Ok(wait) => {
                    let expected = Some(wait.0);
                    self.reporter.emit(|service| Event::Waiting {
                        service,
                        on: WaitFor::RateLimiter,
                        expected,
                        enforced: false,
                    });
                    Ok(())
                }
                Err(refused) => self.refuse(refused),
            }
        }

        /// The wait for `permits` and the longest one that is allowed, unless it would be too long.
        fn expected_wait(
            &self,
            state: &mut State,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
        ) -> Result<(Duration, Option<Duration>), Refused> {
            let ahead = state.queue.permits();
            let wait = Duration::from_nanos(self.wait(state, ahead + u64::from(permits), now));
            let longest = match (max_wait, state.config.max_wait) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if longest.is_some_and(|longest| wait > longest) {
                let rule = if now < state.frozen_until { Rule::Frozen } else { Rule::RateLimit };
                return Err(Refused::new(rule, Some(wait)));
            }
            if state.queue.len() >= state.config.queue as usize {
                return Err(Refused::new(Rule::QueueFull, Some(wait)));
            }
            Ok((wait, longest))
        }

        /// Joins the queue, unless the wait would be too long.
        fn join(
            &self,
            permits: u32,
            max_wait: Option<Duration>,
            now: Instant,
        ) -> Result<QueuePosition<'_>, Refused> {
            let mut state = lock(&self.state);
            let (wait, longest) = self.expected_wait(&mut state, permits, max_wait, now)?;
            let id = state.queue.push(permits);
            self.set_gate(&state);
            Ok(QueuePosition {
                limiter: self,
                id,
                deadline: longest.map(|longest| now + longest),
                expected: wait,
            })
        }

        /// Takes the permits when this waiter is the head and they are available, and passes the timer on.
        fn poll_place(
            &self,
            place: &QueuePosition<'_>,
            cx: &mut Context<'_>,
        ) -> Poll<Result<(Reservation, Instant), Refused>> {
            let mut state = lock(&self.state);
            let Some(index) = state.queue.position(place.id) else {
                // Only this future removes its waiter, and it is not polled after that.
                return Poll::Ready(Err(Refused::new(Rule::RateLimit, None)));
            };
            let now = self.clock.now();
            self.thaw_if_due(&mut state, now);
            let permits = state.queue.waiters[index].permits;
            let largest = state.config.limits.iter().map(Limit::largest).min().unwrap_or(u32::MAX);
            let unlimited = state.config.mode != Mode::Enforce;
            let ahead = state.queue.permits_before(index);
            let wait = if unlimited { 0 } else { self.wait(&mut state, ahead + u64::from(permits), now) };
            let refused = if permits > largest && !unlimited {
                Some(Refused::new(Rule::TooManyPermits, None))
            } else if place.deadline.is_some_and(|deadline| now + Duration::from_nanos(wait) > deadline)
                && wait > LATE
            {
                Some(Refused::new(Rule::RateLimit, Some(Duration::from_nanos(wait))))
            } else {
                None
            };
            let leaves = refused.is_some() || unlimited;
            if leaves || (index == 0 && wait == 0 && self.commit(&mut state, permits, now)) {
                state.queue.remove(index);
                let taken = if leaves { Reservation::NOTHING } else { self.taken(permits) };
                let woken = self.pass_on(&mut state, now);
                drop(state);
                if let Some(waker) = woken {
                    waker.wake();
                }
                return Poll::Ready(refused.map_or(Ok((taken, now)), Err));
            }
            state.queue.waiters[index].waker.clone_from(cx.waker());
            if index == 0 {
                // A new timer each time, because a task of another runtime may have armed the present one.
                let mut timer = self.clock.timer(Duration::from_nanos(wait.max(1)));
                if timer.poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                state.queue.timer = Some(timer);
            }
            Poll::Pending
        }

        /// Arms the timer for the new head, so that the head is woken once, when its permits are available. Returns the waker
        /// of the head when they already are.
        fn pass_on(&self, state: &mut State, now: Instant) -> Option<Waker> {
            self.set_gate(state);
            let head = state.queue.waiters.front()?;
            let (permits, waker) = (head.permits, head.waker.clone());
            let wait = self.wait(state, u64::from(permits), now);
            if wait == 0 {
                return Some(waker);
            }
            let mut timer = self.clock.timer(Duration::from_nanos(wait));
            if timer.poll(&mut Context::from_waker(&waker)).is_ready() {
                return Some(waker);
            }
            state.queue.timer = Some(timer);
            None
        }

        fn leave(&self, id: u64) {
            let woken = {
                let mut state = lock(&self.state);
                let Some(index) = state.queue.position(id) else { return };
                state.queue.remove(index);
                self.set_gate(&state);
                // No timer is created here, because a future may be dropped while its runtime shuts down. The new head arms
                // its own when it is polled.
                if index == 0 { state.queue.head_waker() } else { None }
            };
            if let Some(waker) = woken {
                waker.wake();
            }
        }
    }

    /// How late a timer may fire, in nanoseconds, before the wait counts as too long.
    const LATE: u64 = 2_000_000;

    /// A position in the queue; dropping it leaves the queue.
    struct QueuePosition<'a> {
        limiter: &'a RateLimiter,
        id: u64,
        deadline: Option<Instant>,
        expected: Duration,
    }

    impl Drop for QueuePosition<'_> {
        fn drop(&mut self) {
            self.limiter.leave(self.id);
        }
    }
}
