//! The arithmetic of an evenly refilled bucket: the generic cell rate algorithm (ATM Forum, "Traffic Management
//! Specification 4.0", 1996) in integers.
//!
//! Time is measured in ticks; a permit costs a whole number of them (`cost`). A fixed-point factor with at least 60 bits
//! of precision converts the clock's nanoseconds to ticks, so no rate is rounded to whole nanoseconds: over a billion
//! permits the error stays far below one permit. The state is one word: the tick at which the bucket is full.

use std::time::Duration;

use super::limit::{Limit, Refill};
use crate::{clock::Instant, random::nanos};

/// Fraction bits of the factor from nanoseconds to ticks.
const SHIFT: u32 = 60;
/// The most ticks per nanosecond, which leaves 18 years of uptime before ticks overflow.
const TICKS_PER_NANO: u128 = 8;
/// The first tick. Every word up to the present tick stands for a full bucket, so a full one has that many at any time.
pub(super) const ORIGIN: u64 = 1 << 20;
/// The largest depth of a bucket in ticks.
const DEPTH_MAX: u128 = 1 << 61;

/// The numbers of one evenly refilled limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Ticks per nanosecond, times 2^60.
    pub(super) factor: u64,
    /// Ticks that one permit costs.
    pub(super) cost: u64,
    /// Ticks that the bucket holds.
    pub(super) depth: u64,
    /// Nanoseconds per tick, times 2^`back_shift`, rounded up.
    pub(super) back: u64,
    pub(super) back_shift: u32,
}

impl Bucket {
    /// The numbers for a validated limit; `None` for a strict window.
    pub(super) fn new(limit: &Limit) -> Option<Self> {
        let Refill::Even { burst } = limit.refill else { return None };
        let permits = u128::from(limit.permits);
        let period = u128::from(nanos(limit.period));
        let cost = (TICKS_PER_NANO * period / permits).min(DEPTH_MAX / u128::from(burst)).max(1);
        // cost * permits <= 8 * period < 2^63, so nothing here passes 2^124.
        let ticks = cost * permits;
        let factor = ((ticks << SHIFT) + period / 2) / period;
        let mut back_shift = SHIFT;
        while (period << back_shift) / ticks >= 1 << 63 {
            back_shift -= 1;
        }
        let back = (period << back_shift).div_ceil(ticks);
        Some(Self {
            factor: factor as u64,
            cost: cost as u64,
            depth: (cost * u128::from(burst)) as u64,
            back: back as u64,
            back_shift,
        })
    }

    /// The tick of an instant.
    #[inline]
    pub(super) fn tick(&self, now: Instant) -> u64 {
        tick(self.factor, now)
    }

    /// Takes `permits` at tick `now` from a bucket that is full at tick `full`. Returns the new state.
    ///
    /// # Errors
    /// The number of ticks that are missing.
    #[inline]
    pub(super) fn take(&self, full: u64, permits: u32, now: u64) -> Result<u64, u64> {
        take(self.cost, self.depth, full, permits, now)
    }

    /// The nanoseconds that `ticks` take, rounded up, so that all of them have passed after the wait.
    #[inline]
    pub(super) fn wait(&self, ticks: u64) -> u64 {
        wait(self.back, self.back_shift, ticks)
    }

    /// Whole permits in the bucket.
    pub(super) fn available(&self, full: u64, now: u64) -> u32 {
        (self.depth.saturating_sub(full.saturating_sub(now)) / self.cost) as u32
    }

    /// The state of a bucket that holds exactly `permits` at tick `now`.
    pub(super) fn holding(&self, permits: u32, now: u64) -> u64 {
        now.saturating_add(self.depth.saturating_sub(u64::from(permits).saturating_mul(self.cost)))
    }
}

#[inline]
pub(super) fn tick(factor: u64, now: Instant) -> u64 {
    let ticks = (u128::from(now.as_nanos()) * u128::from(factor)) >> SHIFT;
    // After 18 years of uptime, ticks stop rather than overflow.
    if ticks >> 62 == 0 { ticks as u64 + ORIGIN } else { (1 << 62) + ORIGIN }
}

#[inline]
pub(super) fn take(cost: u64, depth: u64, full: u64, permits: u32, now: u64) -> Result<u64, u64> {
    let next = full.max(now).saturating_add(u64::from(permits).saturating_mul(cost));
    let missing = next.saturating_sub(now.saturating_add(depth));
    if missing == 0 { Ok(next) } else { Err(missing) }
}

#[inline]
pub(super) fn wait(back: u64, back_shift: u32, ticks: u64) -> u64 {
    let nanos = ((u128::from(ticks) * u128::from(back)) >> back_shift) + 1;
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The grants of a strict window, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Granted {
    log: std::collections::VecDeque<(Instant, u32)>,
    used: u32,
}

impl Granted {
    /// Removes the grants that are older than `period`.
    pub(super) fn expire(&mut self, period: Duration, now: Instant) {
        while let Some(&(at, permits)) = self.log.front() {
            if now.since(at) < period {
                break;
            }
            self.log.pop_front();
            self.used -= permits;
        }
    }

    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn add(&mut self, permits: u32, now: Instant) {
        self.used += permits;
        match self.log.back_mut() {
            Some((at, count)) if *at >= now => *count += permits,
            _ => self.log.push_back((now, permits)),
        }
    }

    /// Removes the youngest `permits`.
    pub(super) fn remove(&mut self, mut permits: u32) {
        while permits > 0 {
            let Some((_, count)) = self.log.back_mut() else { return };
            let part = permits.min(*count);
            *count -= part;
            self.used -= part;
            permits -= part;
            if *count == 0 {
                self.log.pop_back();
            }
        }
    }

    /// Nanoseconds until `needed` permits are available. `needed` may exceed the limit; whole periods are then added for the
    /// calls that queue first.
    pub(super) fn wait(&self, limit: &Limit, needed: u64, now: Instant) -> u64 {
        let capacity = u64::from(limit.permits);
        let period = nanos(limit.period);
        let rounds = needed.saturating_sub(1) / capacity;
        let rest = needed - rounds * capacity;
        let mut to_free = (u64::from(self.used) + rest).saturating_sub(capacity);
        let mut wait = 0;
        for &(at, permits) in &self.log {
            if to_free == 0 {
                break;
            }
            wait = (at + limit.period).as_nanos().saturating_sub(now.as_nanos());
            to_free = to_free.saturating_sub(u64::from(permits));
        }
        wait.saturating_add(rounds.saturating_mul(period))
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = (Instant, u32)> + '_ {
        self.log.iter().copied()
    }
}
