//! Counts calls and bad calls in a sliding window.
//!
//! A time window is two lock-free sets of slots; a count window is a ring under a short lock. Both record the generation of
//! the circuit, so a result from an earlier generation is never counted in a later one.

use super::config::{RateRule, Window};
use crate::{
    clock::Instant,
    random::nanos,
    slots::{SLOTS, Slots, Stamp},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// `slots_per_nano` of a window that is off.
const OFF: u64 = 0;
/// `slots_per_nano` of a window over a number of calls.
const RING: u64 = u64::MAX;

/// The calls and bad calls that one rate rule counts.
#[derive(Debug)]
pub(super) struct Tally {
    /// Slots per nanosecond, times 2^64, so that finding the slot of an instant takes a multiplication instead of a
    /// division. The rounding shifts the borders between slots by less than one slot in 500 years.
    slots_per_nano: AtomicU64,
    /// Changes with the length of a slot, because the numbers of slots have another meaning then. Added to the generation in
    /// the stamps.
    epoch: AtomicU32,
    minimum: AtomicU32,
    /// The rate that opens the circuit, in millionths.
    rate_millionths: AtomicU32,
    calls: Slots,
    bad: Slots,
    /// The stamp of the newest slot with a bad call. While it is outside the window, a good call needs no sum.
    last_bad: AtomicU64,
    ring: Mutex<Ring>,
}

impl Tally {
    pub(super) fn new(rule: Option<RateRule>) -> Self {
        let tally = Self {
            slots_per_nano: AtomicU64::new(OFF),
            epoch: AtomicU32::new(0),
            minimum: AtomicU32::new(1),
            rate_millionths: AtomicU32::new(1),
            calls: Slots::default(),
            bad: Slots::default(),
            last_bad: AtomicU64::new(0),
            ring: Mutex::new(Ring::default()),
        };
        tally.configure(rule, 1, Instant::ZERO);
        tally
    }

    /// Takes a new rule. What was counted stays as far as the new window can tell it: see
    /// [`CircuitBreaker::reconfigure`](super::CircuitBreaker::reconfigure). Only called under the lock of the breaker.
    pub(super) fn configure(&self, rule: Option<RateRule>, generation: u32, now: Instant) {
        let Some(rule) = rule else {
            self.slots_per_nano.store(OFF, Ordering::Release);
            lock(&self.ring).resize(0);
            return;
        };
        self.minimum.store(rule.minimum_calls, Ordering::Relaxed);
        // Rounded up, so that the circuit never opens below the configured rate.
        self.rate_millionths.store((rule.rate * 1e6).ceil() as u32, Ordering::Relaxed);
        match rule.window {
            Window::Calls(calls) => {
                lock(&self.ring).resize(calls as usize);
                self.slots_per_nano.store(RING, Ordering::Release);
            }
            Window::Time(time) => {
                // A window is at least 10 ms, so a slot is at least a million nanoseconds and the quotient fits.
                let slot = u128::from(nanos(time / SLOTS).max(2));
                lock(&self.ring).resize(0);
                self.put_scale((1_u128 << 64).div_ceil(slot) as u64, generation, now);
            }
        }
    }

    /// Changes the length of the slots of a time window. The counts of each old slot go to the new slot of its time.
    fn put_scale(&self, scale: u64, generation: u32, now: Instant) {
        let before = self.slots_per_nano.load(Ordering::Acquire);
        if before == scale {
            return;
        }
        let epoch = self.epoch.load(Ordering::Relaxed);
        let old = match before {
            OFF | RING => Vec::new(),
            before => {
                let newest = slot_of(before, now);
                let oldest = newest.saturating_sub(u64::from(SLOTS) - 1);
                let counts = (oldest..=newest).map(|time| {
                    let stamp = Stamp::new(generation.wrapping_add(epoch), time);
                    (start_of(before, time), self.bad.count(stamp), self.calls.count(stamp))
                });
                counts.filter(|(_, _, calls)| *calls > 0).collect()
            }
        };
        // No call is counted while the numbers change their meaning. The epoch changes before the new length is published, so
        // a reader of the new length also sees the new epoch, and the next writer overwrites the stamp of a late one.
        self.slots_per_nano.store(OFF, Ordering::Release);
        let epoch = epoch.wrapping_add(1);
        self.epoch.store(epoch, Ordering::Release);
        for (start, bad, calls) in old {
            let stamp = Stamp::new(generation.wrapping_add(epoch), slot_of(scale, start));
            self.bad.put(stamp, self.bad.count(stamp).saturating_add(bad));
            self.calls.put(stamp, self.calls.count(stamp).saturating_add(calls));
            if bad > 0 {
                self.last_bad.store(stamp.word(), Ordering::Release);
            }
        }
        self.slots_per_nano.store(scale, Ordering::Release);
    }

    /// Counts one call. Returns `(bad, calls)` of the window when the rule opens the circuit.
    #[inline]
    pub(super) fn record(&self, generation: u32, now: Instant, bad: bool) -> Option<(u32, u32)> {
        // The epoch is read first: with a length that is newer than the epoch, the stamp is old and does no harm.
        let epoch = self.epoch.load(Ordering::Acquire);
        match self.slots_per_nano.load(Ordering::Acquire) {
            OFF => None,
            RING => {
                let (bad, calls) = lock(&self.ring).push(generation, bad)?;
                self.trips(bad, calls).then_some((bad, calls))
            }
            scale => self.record_in_slot(generation.wrapping_add(epoch), slot_of(scale, now), bad),
        }
    }

    #[inline]
    fn record_in_slot(&self, generation: u32, time: u64, bad: bool) -> Option<(u32, u32)> {
        let stamp = Stamp::new(generation, time);
        self.calls.add(stamp);
        if bad {
            self.bad.add(stamp);
            self.last_bad.store(stamp.word(), Ordering::Release);
        } else {
            // A good call can open the circuit too, when it is the one that reaches the minimum.
            let last = self.last_bad.load(Ordering::Acquire);
            if !stamp.window_holds(last) {
                return None;
            }
        }
        let (bad, calls) = self.sum(stamp);
        self.trips(bad, calls).then_some((bad, calls))
    }

    /// `(bad, calls)` in the window at `now`.
    pub(super) fn counts(&self, generation: u32, now: Instant) -> (u32, u32) {
        let epoch = self.epoch.load(Ordering::Acquire);
        match self.slots_per_nano.load(Ordering::Acquire) {
            OFF => (0, 0),
            RING => lock(&self.ring).counts(generation),
            scale => self.sum(Stamp::new(generation.wrapping_add(epoch), slot_of(scale, now))),
        }
    }

    fn sum(&self, now: Stamp) -> (u32, u32) {
        (self.bad.sum(now), self.calls.sum(now))
    }

    #[inline]
    fn trips(&self, bad: u32, calls: u32) -> bool {
        calls >= self.minimum.load(Ordering::Relaxed)
            && u64::from(bad) * 1_000_000
                >= u64::from(calls) * u64::from(self.rate_millionths.load(Ordering::Relaxed))
    }
}

/// The number of the slot of an instant.
#[inline]
fn slot_of(slots_per_nano: u64, now: Instant) -> u64 {
    ((u128::from(now.as_nanos()) * u128::from(slots_per_nano)) >> 64) as u64
}

/// An instant in the slot of this number.
fn start_of(slots_per_nano: u64, time: u64) -> Instant {
    let nanos = ((u128::from(time) << 64) / u128::from(slots_per_nano.max(1))) + 1;
    Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The last calls, one flag each.
#[derive(Debug, Default)]
struct Ring {
    generation: u32,
    outcomes: Vec<bool>,
    capacity: usize,
    next: usize,
    bad: u32,
}

impl Ring {
    /// Changes the number of calls that the ring holds. The youngest that fit stay.
    fn resize(&mut self, capacity: usize) {
        if capacity == self.capacity {
            return;
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        outcomes.rotate_left(self.next);
        let mut kept = outcomes.split_off(outcomes.len().saturating_sub(capacity));
        kept.reserve_exact(capacity - kept.len());
        let bad = kept.iter().filter(|bad| **bad).count() as u32;
        *self = Self { generation: self.generation, outcomes: kept, capacity, next: 0, bad };
    }

    /// Returns `(bad, calls)`, or `None` for a result of an earlier generation.
    fn push(&mut self, generation: u32, bad: bool) -> Option<(u32, u32)> {
        if self.generation != generation {
            if (self.generation.wrapping_sub(generation) as i32) > 0 {
                return None;
            }
            self.generation = generation;
            self.outcomes.clear();
            self.next = 0;
            self.bad = 0;
        }
        if self.outcomes.len() < self.capacity {
            self.outcomes.push(bad);
        } else {
            let replaced = std::mem::replace(&mut self.outcomes[self.next], bad);
            self.bad -= u32::from(replaced);
            self.next = (self.next + 1) % self.capacity;
        }
        self.bad += u32::from(bad);
        Some((self.bad, self.outcomes.len() as u32))
    }

    fn counts(&self, generation: u32) -> (u32, u32) {
        if self.generation == generation { (self.bad, self.outcomes.len() as u32) } else { (0, 0) }
    }
}
