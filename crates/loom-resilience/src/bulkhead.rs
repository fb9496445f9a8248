//! Bulkhead: limits how many calls to one service are in flight at once.
//!
//! Taking a free permit is one compare-and-swap. When all are taken, calls wait in order in a bounded queue. Dropping the
//! guard releases the permit, so a cancelled call leaks nothing.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    breaker::Mode,
    clock::Clock,
    config::{Checker, ConfigError},
    observer::{Event, Reporter, WaitFor},
    refusal::{Refused, Rule},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// The rules of a [`Bulkhead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// The most calls in flight at once, at least 1.
    pub max_concurrent: u32,
    /// How many calls may wait for a permit; further ones are refused.
    #[cfg_attr(feature = "serde", serde(default))]
    pub max_queued: u32,
    /// Whether the limit is enforced, observed or off.
    #[cfg_attr(feature = "serde", serde(default))]
    pub mode: Mode,
}

impl BulkheadConfig {
    /// At most `max_concurrent` calls in flight; further calls are refused.
    pub const fn new(max_concurrent: u32) -> Self {
        Self { max_concurrent, max_queued: 0, mode: Mode::Enforce }
    }

    /// How many calls may wait.
    #[must_use]
    pub const fn queue(mut self, calls: u32) -> Self {
        self.max_queued = calls;
        self
    }

    /// Whether the limit is enforced, observed or off.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(self.max_concurrent >= 1, "bulkhead.max_concurrent", "must be at least 1");
        check.finish()
    }
}

impl fmt::Display for BulkheadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            write!(f, "at most {} calls in flight, {} more may wait", self.max_concurrent, self.max_queued)
        })
    }
}

/// A limit on calls in flight.
///
/// ```
/// # use loom_resilience::{Bulkhead, BulkheadConfig, Clock, Rule};
/// let bulkhead = Bulkhead::new("billing", BulkheadConfig::new(1), Clock::system(), None)?;
/// let permit = bulkhead.try_enter().expect("nothing is in flight");
/// assert_eq!(bulkhead.try_enter().unwrap_err().rule, Rule::BulkheadFull);
/// drop(permit);
/// assert!(bulkhead.try_enter().is_ok());
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Bulkhead {
    /// `waiting (32) | in flight (32)`.
    word: AtomicU64,
    /// `u32::MAX` without a limit.
    max_concurrent: AtomicU32,
    max_queued: AtomicU32,
    /// In observe mode, the limit beyond which calls are reported; `u32::MAX` otherwise. `max_concurrent` is then one below
    /// `u32::MAX`, so that calls are counted and none is refused.
    observed: AtomicU32,
    queue: Mutex<Queue>,
    clock: Clock,
    reporter: Reporter,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<(u64, Waker)>,
    next_id: u64,
}

const ONE_WAITING: u64 = 1 << 32;

/// Calls are counted, but never refused.
const UNLIMITED: u32 = u32::MAX - 1;

const fn in_flight(word: u64) -> u32 {
    word as u32
}

const fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Bulkhead {
    /// Creates an empty bulkhead for the service `name`.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(
        name: &str,
        config: BulkheadConfig,
        clock: Clock,
        observer: Option<std::sync::Arc<dyn crate::Observer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_reporter(Some(config), clock, Reporter::new(name, observer)))
    }

    pub(crate) fn with_reporter(config: Option<BulkheadConfig>, clock: Clock, reporter: Reporter) -> Self {
        let bulkhead = Self {
            word: AtomicU64::new(0),
            max_concurrent: AtomicU32::new(u32::MAX),
            max_queued: AtomicU32::new(0),
            observed: AtomicU32::new(u32::MAX),
            queue: Mutex::new(Queue::default()),
            clock,
            reporter,
        };
        bulkhead.put_config(config);
        bulkhead
    }

    /// Takes a permit without waiting.
    ///
    /// # Errors
    /// [`Refused`] when every permit is taken, or other calls already wait for one.
    pub fn try_enter(&self) -> Result<BulkheadPermit<'_>, Refused> {
        let entered = self.enter_now();
        entered.map(|observed| self.permit(observed)).inspect_err(|refused| self.report(refused))
    }

    /// Takes a permit, waiting in order of arrival for at most `max_wait`, or without a bound. Returns the permit and how
    /// long the call waited.
    ///
    /// # Errors
    /// [`Refused`] when the queue is full or the time is over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue and takes nothing.
    #[cfg(not(loom_model))]
    pub async fn enter(&self, max_wait: Option<Duration>) -> Result<(BulkheadPermit<'_>, Duration), Refused> {
        match self.enter_now() {
            Ok(observed) => Ok((self.permit(observed), Duration::ZERO)),
            Err(refused) => self.wait_in_queue(max_wait, refused).await,
        }
    }

    /// As [`try_enter`](Self::try_enter), but a refusal is not reported.
    #[inline]
    pub(crate) fn grab(&self) -> Option<BulkheadPermit<'_>> {
        self.enter_now().ok().map(|observed| self.permit(observed))
    }

    /// Takes a permit for a call that is already in flight, even beyond the limit and past those that wait.
    pub(crate) fn enter_again(&self) -> BulkheadPermit<'_> {
        self.word.fetch_add(1, Ordering::AcqRel);
        self.permit(false)
    }

    #[inline]
    const fn permit(&self, observed: bool) -> BulkheadPermit<'_> {
        BulkheadPermit { bulkhead: self, observed }
    }

    /// Takes a permit. Returns whether the call passed only because the bulkhead observes.
    #[inline]
    fn enter_now(&self) -> Result<bool, Refused> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if waiting(word) > 0 || in_flight(word) >= self.max_concurrent.load(Ordering::Relaxed) {
                return Err(Refused::new(Rule::BulkheadFull, None));
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let observed = in_flight(word) >= self.observed.load(Ordering::Relaxed);
                    if observed {
                        self.observe(in_flight(word));
                    }
                    return Ok(observed);
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Reports a call that would have waited, or would have been refused, beside `others` in flight.
    #[cold]
    fn observe(&self, others: u32) {
        let limit = self.observed.load(Ordering::Relaxed);
        if others.saturating_sub(limit) < self.max_queued.load(Ordering::Relaxed) {
            let on = WaitFor::Bulkhead;
            self.reporter.emit(|service| Event::Waiting { service, on, expected: None, enforced: false });
        } else {
            let refused = Refused::new(Rule::BulkheadFull, None);
            self.reporter.emit(|service| Event::Refused { service, refused: &refused, enforced: false });
        }
    }

    #[cfg(not(loom_model))]
    async fn wait_in_queue(
        &self,
        max_wait: Option<Duration>,
        refused: Refused,
    ) -> Result<(BulkheadPermit<'_>, Duration), Refused> {
        let Some(ticket) = self.join() else {
            let queues = self.max_queued.load(Ordering::Relaxed) > 0;
            let refused = if queues { Refused::new(Rule::QueueFull, None) } else { refused };
            self.report(&refused);
            return Err(refused);
        };
        let start = self.clock.now();
        let on = WaitFor::Bulkhead;
        self.reporter.emit(|service| Event::Waiting { service, on, expected: None, enforced: true });
        let turn = poll_fn(|cx| self.poll_turn(ticket.id, cx));
        let place = self.clock.limit(max_wait, turn).await.0;
        if place.is_none() {
            self.report(&refused);
            return Err(refused);
        }
        let waited = self.clock.now().since(start);
        self.reporter.emit(|service| Event::Waited { service, on: WaitFor::Bulkhead, waited });
        Ok((self.permit(false), waited))
    }

    fn join(&self) -> Option<Ticket<'_>> {
        let mut queue = lock(&self.queue);
        if queue.waiters.len() >= self.max_queued.load(Ordering::Relaxed) as usize {
            return None;
        }
        let id = queue.next_id;
        queue.next_id += 1;
        queue.waiters.push_back((id, Waker::noop().clone()));
        self.word.fetch_add(ONE_WAITING, Ordering::AcqRel);
        Some(Ticket { bulkhead: self, id })
    }

    /// Takes a permit when this waiter is the head and one is free.
    fn poll_turn(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.queue);
        let Some(index) = queue.waiters.iter().position(|(waiter, _)| *waiter == id) else {
            return Poll::Pending;
        };
        queue.waiters[index].1.clone_from(cx.waker());
        if index > 0 {
            return Poll::Pending;
        }
        let mut word = self.word.load(Ordering::Acquire);
        while in_flight(word) < self.max_concurrent.load(Ordering::Relaxed) {
            // One call fewer waits and one more is in flight, in a single step.
            let next = word - ONE_WAITING + 1;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    queue.waiters.pop_front();
                    let next_head = self.wakes_next(&queue, next);
                    drop(queue);
                    if let Some(waker) = next_head {
                        waker.wake();
                    }
                    return Poll::Ready(());
                }
                Err(seen) => word = seen,
            }
        }
        Poll::Pending
    }

    /// The waker of the head, if a permit is free.
    fn wakes_next(&self, queue: &Queue, word: u64) -> Option<Waker> {
        let room = in_flight(word) < self.max_concurrent.load(Ordering::Relaxed);
        if room { queue.waiters.front().map(|(_, waker)| waker.clone()) } else { None }
    }

    /// Releases a permit.
    #[inline]
    fn leave(&self) {
        let word = self.word.fetch_sub(1, Ordering::AcqRel) - 1;
        if waiting(word) > 0 {
            self.wake_head();
        }
    }

    fn wake_head(&self) {
        let head = {
            let queue = lock(&self.queue);
            self.wakes_next(&queue, self.word.load(Ordering::Acquire))
        };
        if let Some(waker) = head {
            waker.wake();
        }
    }

    /// Whether calls are limited.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.max_concurrent.load(Ordering::Relaxed) != u32::MAX
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        in_flight(self.word.load(Ordering::Acquire))
    }

    /// Calls that wait for a permit.
    pub fn waiting(&self) -> u32 {
        waiting(self.word.load(Ordering::Acquire))
    }

    /// Changes the rules of a bulkhead in use.
    ///
    /// - Calls in flight stay, and are counted under the new limit. When there are more than it allows, no further call is
    ///   admitted until enough of them have ended.
    /// - Waiters keep their order, also when the queue becomes shorter than it is. They are admitted at once when the limit is
    ///   raised or the mode no longer enforces it.
    /// - Calls that a bulkhead admitted while it was off were not counted, and are not counted later.
    ///
    /// # Errors
    /// The configuration is not valid; the old rules then stay in force.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), ConfigError> {
        config.validate()?;
        self.put_config(Some(config));
        Ok(())
    }

    pub(crate) fn put_config(&self, config: Option<BulkheadConfig>) {
        let (concurrent, observed) = match config {
            Some(config) if config.mode == Mode::Enforce => (config.max_concurrent.min(UNLIMITED), u32::MAX),
            Some(config) if config.mode == Mode::Observe => (UNLIMITED, config.max_concurrent),
            _ => (u32::MAX, u32::MAX),
        };
        self.max_queued.store(config.map_or(0, |config| config.max_queued), Ordering::Relaxed);
        self.observed.store(observed, Ordering::Relaxed);
        self.max_concurrent.store(concurrent, Ordering::Relaxed);
        self.wake_head();
    }

    fn report(&self, refused: &Refused) {
        self.reporter.emit(|service| Event::Refused { service, refused, enforced: true });
    }
}

/// Permission for one call in flight. Dropping it releases the permit.
#[derive(Debug)]
#[must_use = "dropping the permit releases it"]
pub struct BulkheadPermit<'a> {
    bulkhead: &'a Bulkhead,
    observed: bool,
}

impl BulkheadPermit<'_> {
    /// Whether the call passed only because the bulkhead is in observe mode.
    #[inline]
    pub const fn is_observed(&self) -> bool {
        self.observed
    }

    /// Forgets the guard. Its owner must release the permit with [`Bulkhead::free`].
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for BulkheadPermit<'_> {
    fn drop(&mut self) {
        self.bulkhead.leave();
    }
}

impl Bulkhead {
    /// Releases a permit that was [kept](BulkheadPermit::keep).
    pub(crate) fn free(&self) {
        self.leave();
    }
}

/// A position in the queue; dropping it before its turn leaves the queue.
struct Ticket<'a> {
    bulkhead: &'a Bulkhead,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.bulkhead.queue);
        let Some(index) = queue.waiters.iter().position(|(waiter, _)| *waiter == self.id) else { return };
        queue.waiters.remove(index);
        let word = self.bulkhead.word.fetch_sub(ONE_WAITING, Ordering::AcqRel) - ONE_WAITING;
        let head = self.bulkhead.wakes_next(&queue, word);
        drop(queue);
        if let Some(waker) = head {
            waker.wake();
        }
    }
}
