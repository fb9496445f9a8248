//! Bulkhead: caps how many calls to one service are in flight at once.
//!
//! A free place is one compare-and-swap. When all are taken, calls wait in order in a bounded queue. A place comes back
//! when its guard is dropped, so a cancelled call leaks nothing.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    clock::Clock,
    config::{Checker, ConfigError},
    observer::{Event, Voice, WaitFor},
    refusal::{Refused, Rule},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// Rules of a [`Bulkhead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BulkheadConfig {
    /// Calls in flight at once, at least 1.
    pub max_concurrent: u32,
    /// Calls that may wait for a place; further ones are refused.
    #[cfg_attr(feature = "serde", serde(default))]
    pub max_queued: u32,
}

impl BulkheadConfig {
    /// So many at once, and nobody waits.
    pub const fn new(max_concurrent: u32) -> Self {
        Self { max_concurrent, max_queued: 0 }
    }

    /// How many calls may wait.
    #[must_use]
    pub const fn queue(mut self, calls: u32) -> Self {
        self.max_queued = calls;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All contradictions at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require(self.max_concurrent >= 1, "bulkhead.max_concurrent", "must be at least 1");
        check.finish()
    }
}

impl fmt::Display for BulkheadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} calls in flight, {} more may wait", self.max_concurrent, self.max_queued)
    }
}

/// A cap on calls in flight.
#[derive(Debug)]
pub struct Bulkhead {
    /// `waiting (32) | in flight (32)`.
    word: AtomicU64,
    /// `u32::MAX` when there is no cap.
    max_concurrent: AtomicU32,
    max_queued: AtomicU32,
    queue: Mutex<Queue>,
    clock: Clock,
    voice: Voice,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<(u64, Waker)>,
    next_id: u64,
}

const ONE_WAITING: u64 = 1 << 32;

const fn in_flight(word: u64) -> u32 {
    word as u32
}

const fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Bulkhead {
    /// An empty bulkhead for the service `name`.
    ///
    /// # Errors
    /// Contradictions in the configuration.
    pub fn new(
        name: &str,
        config: BulkheadConfig,
        clock: Clock,
        observer: Option<std::sync::Arc<dyn crate::Observer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_voice(Some(config), clock, Voice::new(name, observer)))
    }

    pub(crate) fn with_voice(config: Option<BulkheadConfig>, clock: Clock, voice: Voice) -> Self {
        let bulkhead = Self {
            word: AtomicU64::new(0),
            max_concurrent: AtomicU32::new(u32::MAX),
            max_queued: AtomicU32::new(0),
            queue: Mutex::new(Queue::default()),
            clock,
            voice,
        };
        bulkhead.put_config(config);
        bulkhead
    }

    /// Takes a place at once.
    ///
    /// # Errors
    /// [`Refused`] when every place is taken, or others wait for one already.
    pub fn try_enter(&self) -> Result<BulkheadPermit<'_>, Refused> {
        self.enter_now().map(|()| BulkheadPermit(self)).inspect_err(|refused| self.tell(refused))
    }

    /// Takes a place, waiting in order for at most `max_wait`, or without a bound. Answers the place and how long it
    /// waited.
    ///
    /// # Errors
    /// [`Refused`] when the queue is full, or when the time is over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue and takes nothing.
    #[cfg(not(loom_model))]
    pub async fn enter(&self, max_wait: Option<Duration>) -> Result<(BulkheadPermit<'_>, Duration), Refused> {
        match self.enter_now() {
            Ok(()) => Ok((BulkheadPermit(self), Duration::ZERO)),
            Err(refused) => self.wait_in_line(max_wait, refused).await,
        }
    }

    #[inline]
    fn enter_now(&self) -> Result<(), Refused> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if waiting(word) > 0 || in_flight(word) >= self.max_concurrent.load(Ordering::Relaxed) {
                return Err(Refused::new(Rule::BulkheadFull, None));
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(seen) => word = seen,
            }
        }
    }

    #[cfg(not(loom_model))]
    async fn wait_in_line(
        &self,
        max_wait: Option<Duration>,
        refused: Refused,
    ) -> Result<(BulkheadPermit<'_>, Duration), Refused> {
        let Some(ticket) = self.join() else {
            let queues = self.max_queued.load(Ordering::Relaxed) > 0;
            let refused = if queues { Refused::new(Rule::QueueFull, None) } else { refused };
            self.tell(&refused);
            return Err(refused);
        };
        let start = self.clock.now();
        self.voice.say(|service| Event::Waiting { service, on: WaitFor::Place, expected: None });
        let turn = poll_fn(|cx| self.poll_turn(ticket.id, cx));
        let place = self.clock.limit(max_wait, turn).await.0;
        if place.is_none() {
            self.tell(&refused);
            return Err(refused);
        }
        let waited = self.clock.now().since(start);
        self.voice.say(|service| Event::Waited { service, on: WaitFor::Place, waited });
        Ok((BulkheadPermit(self), waited))
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

    /// Takes a place when it is this waiter's turn and one is free.
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
            // One less waits and one more is in flight, in a single step.
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

    /// The head's waker, if there is a place for it.
    fn wakes_next(&self, queue: &Queue, word: u64) -> Option<Waker> {
        let room = in_flight(word) < self.max_concurrent.load(Ordering::Relaxed);
        if room { queue.waiters.front().map(|(_, waker)| waker.clone()) } else { None }
    }

    /// Frees a place.
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

    /// Whether there is a cap at all.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.max_concurrent.load(Ordering::Relaxed) != u32::MAX
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        in_flight(self.word.load(Ordering::Acquire))
    }

    /// Calls that wait.
    pub fn waiting(&self) -> u32 {
        waiting(self.word.load(Ordering::Acquire))
    }

    /// Changes the cap of a living bulkhead. Calls in flight stay; when there are more than the new cap allows, none
    /// follows until enough have ended.
    ///
    /// # Errors
    /// Contradictions in the configuration; the old rules then stay.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), ConfigError> {
        config.validate()?;
        self.put_config(Some(config));
        Ok(())
    }

    pub(crate) fn put_config(&self, config: Option<BulkheadConfig>) {
        let (concurrent, queued) = config.map_or((u32::MAX, 0), |c| (c.max_concurrent, c.max_queued));
        self.max_queued.store(queued, Ordering::Relaxed);
        self.max_concurrent.store(concurrent, Ordering::Relaxed);
        self.wake_head();
    }

    fn tell(&self, refused: &Refused) {
        self.voice.say(|service| Event::Refused { service, refused, enforced: true });
    }
}

/// One call in flight; dropping it frees the place.
#[derive(Debug)]
#[must_use = "dropping the place frees it"]
pub struct BulkheadPermit<'a>(&'a Bulkhead);

impl BulkheadPermit<'_> {
    /// Turns the guard into a bare claim, which its new owner must free with [`Bulkhead::free`].
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for BulkheadPermit<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Bulkhead {
    /// Frees a place that was [kept](BulkheadPermit::keep).
    pub(crate) fn free(&self) {
        self.leave();
    }
}

/// A place in the queue, given up when dropped before its turn.
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
