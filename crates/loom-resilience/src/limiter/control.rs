//! Inspects a limiter, freezes it, applies what a service reports, changes its limits, saves its state.

use std::time::Duration;

use super::{Bucket, Granted, Limit, LimiterConfig, MOVING, Meter, RateLimiter, State, meters};
use crate::{
    breaker::Mode,
    clock::Instant,
    config::ConfigError,
    observer::Event,
    random::nanos,
    snapshot::{LimitSnapshot, LimiterSnapshot},
    sync::{Ordering, lock},
};

/// The most groups of a strict window in a snapshot.
const SNAPSHOT_GROUPS: usize = 32;

/// The status of a rate limiter at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LimiterStatus {
    /// Whether the limits are enforced, observed or off. A limiter without limits is off, until the service freezes it.
    pub mode: Mode,
    /// Permits that can be taken now, the minimum over all limits. `None` without a limit.
    pub available: Option<u32>,
    /// Calls that wait for a permit.
    pub waiting: u32,
    /// The limit that the service reported and that lowers ours, in permits; `None` when it lowers nothing.
    #[cfg_attr(feature = "serde", serde(default))]
    pub learned: Option<u32>,
    /// How much longer the limiter is frozen.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub frozen_for: Duration,
}

/// What a response reports about the limit that the service itself applies; see [`RateLimiter::learn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The limit of the service (`RateLimit-Limit`), in permits per `window`.
    pub limit: Option<u32>,
    /// The permits left (`RateLimit-Remaining`).
    pub remaining: Option<u32>,
    /// The time until the service resets its count (`RateLimit-Reset`, `Retry-After`). With nothing remaining, the limiter is
    /// frozen for that time.
    pub reset_after: Option<Duration>,
    /// The window that `limit` is counted over, when the response names it.
    pub window: Option<Duration>,
}

impl RateLimiter {
    /// The permits that can be taken at `now`, without taking any. `None` when nothing is limited.
    pub fn available(&self, now: Instant) -> Option<u32> {
        let mut state = lock(&self.state);
        if state.config.mode == Mode::Off {
            return None;
        }
        if now < state.frozen_until {
            return Some(0);
        }
        let waiting = state.queue.permits();
        let free = state.meters.iter_mut().map(|meter| self.available_in(meter, now)).min()?;
        Some(u64::from(free).saturating_sub(waiting) as u32)
    }

    fn available_in(&self, meter: &mut Meter, now: Instant) -> u32 {
        match meter {
            Meter::Single(bucket) => bucket.available(self.full.load(Ordering::Acquire), bucket.tick(now)),
            Meter::Even { bucket, full } => bucket.available(*full, bucket.tick(now)),
            Meter::Strict { limit, granted } => {
                granted.expire(limit.period, now);
                limit.permits.saturating_sub(granted.used())
            }
        }
    }

    /// The status at `now`.
    pub fn status(&self, now: Instant) -> LimiterStatus {
        let available = self.available(now);
        let state = lock(&self.state);
        LimiterStatus {
            mode: if state.config.limits.is_empty() { Mode::Off } else { state.config.mode },
            available,
            waiting: state.queue.len() as u32,
            learned: state.learned.map(|(limit, _)| limit).filter(|_| state.config != state.configured),
            frozen_for: state.frozen_until.since(now),
        }
    }

    /// The longest period of all limits in force; `None` without a limit.
    pub fn longest_period(&self) -> Option<Duration> {
        let state = lock(&self.state);
        if state.config.mode == Mode::Off {
            return None;
        }
        state.config.limits.iter().map(|limit| limit.period).max()
    }

    /// The limits in force: as configured, or lowered by what the service reported.
    pub fn config(&self) -> LimiterConfig {
        lock(&self.state).config.clone()
    }

    /// Grants nothing before `until`. A second freeze can only extend the first.
    pub fn freeze(&self, until: Instant) {
        self.change(|_, state| state.frozen_until = state.frozen_until.max(until));
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.change(|_, state| state.frozen_until = Instant::ZERO);
    }

    /// Applies what a response reports about the limit of the service, for all callers.
    ///
    /// - A reported limit lowers the configured limit of the same period as its window; without one, the limit of the longest
    ///   period, in proportion. It stays in force until the service reports another one or [`reset`](Self::reset).
    /// - The permits are lowered to what remains.
    /// - With nothing remaining, the limiter is frozen until the service resets its count, also where no limit is configured.
    ///
    /// This only makes the limiter stricter than its configuration, so a wrong header cannot raise the rate. A limiter whose
    /// configuration has `learn` set to `false`, or that is off, ignores it.
    pub fn learn(&self, learned: Learned, now: Instant) {
        let is_applied = self.change(|limiter, state| {
            if !state.configured.learn || state.config.mode == Mode::Off {
                return false;
            }
            if let Some(limit) = learned.limit {
                state.learned = Some((limit.max(1), learned.window));
                limiter.apply_learned(state, now);
            }
            if let Some(remaining) = learned.remaining {
                for meter in &mut state.meters {
                    limiter.lower(meter, remaining, now);
                }
                if remaining == 0
                    && let Some(after) = learned.reset_after
                {
                    state.frozen_until = state.frozen_until.max(now + after);
                }
            }
            true
        });
        if is_applied {
            self.reporter.emit(|service| Event::LimitLearned { service, learned });
        }
    }

    /// Returns the permits of a call that was not made, whatever happened to the limiter meanwhile. Where it may have been
    /// reset or reconfigured, use [`cancel`](Self::cancel), which returns nothing twice.
    pub fn give_back(&self, permits: u32) {
        self.give_back_if(permits, |_| true);
    }

    pub(super) fn give_back_if(&self, permits: u32, is_current: impl FnOnce(u32) -> bool) {
        let mut state = lock(&self.state);
        if !is_current(self.epoch.load(Ordering::Relaxed)) {
            return;
        }
        for meter in &mut state.meters {
            match meter {
                Meter::Single(bucket) => {
                    let cost = u64::from(permits) * bucket.cost;
                    let mut seen = self.full.load(Ordering::Acquire);
                    while let Err(now_there) = self.full.compare_exchange_weak(
                        seen,
                        seen.saturating_sub(cost),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        seen = now_there;
                    }
                }
                Meter::Even { bucket, full } => *full = full.saturating_sub(u64::from(permits) * bucket.cost),
                Meter::Strict { granted, .. } => granted.remove(permits),
            }
        }
        let woken = state.queue.head_waker();
        drop(state);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// Returns the limiter to its initial state: all permits available, no freeze. Waiters keep their order.
    pub fn reset(&self) {
        self.change(|limiter, state| {
            state.frozen_until = Instant::ZERO;
            state.learned = None;
            state.config = state.configured.clone();
            limiter.replace_meters(state, true, |state, _| (meters(&state.config), 0));
        });
    }

    /// Changes the limits of a limiter in use.
    ///
    /// - What was consumed stays consumed. A new limit takes over the permits that were taken from the old limit of the same
    ///   period, else from the old limit at the same position. An even limit takes over at most all that it holds; a strict
    ///   window that was one before takes over every grant with its time.
    /// - A freeze and a limit that the service reported stay in force. Waiters keep their order, and wait as long as the new
    ///   limits say.
    /// - A call that was admitted under the old limits and is not made returns its permits to the new ones. When the limiter had
    ///   no limits in between, its consumption was dropped, and such a call returns nothing: no permit is lost or counted twice.
    ///
    /// # Errors
    /// The configuration is not valid; the old limits then stay in force.
    pub fn reconfigure(&self, config: LimiterConfig, now: Instant) -> Result<(), ConfigError> {
        config.validate()?;
        self.put_config(config, now);
        Ok(())
    }

    pub(crate) fn put_config(&self, config: LimiterConfig, now: Instant) {
        self.change(|limiter, state| {
            state.configured = config.clone();
            limiter.take_config(state, lowered(config, state.learned), now);
        });
    }

    /// Puts the limit that the service reported in force.
    fn apply_learned(&self, state: &mut State, now: Instant) {
        let config = lowered(state.configured.clone(), state.learned);
        if config != state.config {
            self.take_config(state, config, now);
        }
    }

    fn take_config(&self, state: &mut State, config: LimiterConfig, now: Instant) {
        // Without limits there is nothing to remember the consumption by.
        let drops = state.config.limits.is_empty() || config.limits.is_empty();
        self.replace_meters(state, drops, |state, single_full| {
            let used: Vec<u32> = state.meters.iter_mut().map(|meter| used(meter, single_full, now)).collect();
            let grants: Vec<_> = state.meters.iter().map(grants).collect();
            let old = std::mem::replace(&mut state.config, config);
            let mut fresh = meters(&state.config);
            let mut fresh_full = 0;
            for (index, (meter, limit)) in fresh.iter_mut().zip(&state.config.limits).enumerate() {
                // The old limit of the same period, else the one at the same place.
                let same = old.limits.iter().position(|other| other.period == limit.period);
                let before = same.or_else(|| old.limits.get(index).map(|_| index));
                let used = before.map_or(0, |at| used[at]);
                match meter {
                    // A window that stays one keeps its grants and their times, even when there are more than it allows now.
                    Meter::Strict { granted, .. } if before.is_some_and(|at| grants[at].is_some()) => {
                        *granted = before.and_then(|at| grants[at].clone()).unwrap_or_default();
                    }
                    Meter::Single(bucket) => fresh_full = used_up(bucket, used, now),
                    Meter::Even { bucket, full } => *full = used_up(bucket, used, now),
                    Meter::Strict { limit, granted } if used > 0 => granted.add(used.min(limit.permits), now),
                    Meter::Strict { .. } => {}
                }
            }
            (fresh, fresh_full)
        });
    }

    /// Replaces the meters in the order that the lock-free path relies on: first the word that it swaps becomes unusable,
    /// then the numbers change, then the word gets a new value.
    ///
    /// `drops` says that the consumption is dropped. The epoch changes while the word is unusable, so a call that takes a
    /// permit with the old word has the old epoch.
    fn replace_meters(
        &self,
        state: &mut State,
        drops: bool,
        make: impl FnOnce(&mut State, u64) -> (Vec<Meter>, u64),
    ) {
        let before = self.full.swap(MOVING, Ordering::AcqRel);
        if drops {
            self.epoch.store(next_epoch(self.epoch.load(Ordering::Relaxed)), Ordering::Release);
        }
        let (meters, full) = make(state, before);
        state.meters = meters;
        self.publish(state);
        // The value must differ from earlier ones, so that a swap prepared with older numbers fails. A full bucket takes
        // another one of its words each time. Otherwise one tick, at most an eighth of a nanosecond, tells the value from the
        // one before.
        state.replaced = (state.replaced + 1) % super::bucket::ORIGIN;
        let full = match full {
            0 if before == state.replaced => (state.replaced + 1) % super::bucket::ORIGIN,
            0 => state.replaced,
            full if full == before => full - 1,
            full => full,
        };
        self.full.store(full, Ordering::Release);
    }

    /// Lowers the permits in one limit to `remaining`.
    fn lower(&self, meter: &mut Meter, remaining: u32, now: Instant) {
        match meter {
            Meter::Single(bucket) => {
                self.full.fetch_max(bucket.holding(remaining, bucket.tick(now)), Ordering::AcqRel);
            }
            Meter::Even { bucket, full } => *full = (*full).max(bucket.holding(remaining, bucket.tick(now))),
            Meter::Strict { limit, granted } => {
                granted.expire(limit.period, now);
                let free = limit.permits.saturating_sub(granted.used());
                granted.add(free.saturating_sub(remaining), now);
            }
        }
    }

    /// Changes the state under the lock, updates the gate, and wakes the waiters, whose times may have changed.
    fn change<R>(&self, change: impl FnOnce(&Self, &mut State) -> R) -> R {
        let (result, wakers) = {
            let mut state = lock(&self.state);
            let result = change(self, &mut state);
            self.set_gate(&state);
            (result, state.queue.wakers())
        };
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// The state to store for a restart, relative to `now`.
    pub fn snapshot(&self, now: Instant) -> LimiterSnapshot {
        let mut state = lock(&self.state);
        let frozen_for = state.frozen_until.since(now);
        let bucket_snapshot = |bucket: &Bucket, full: u64| {
            let ticks = full.saturating_sub(bucket.tick(now));
            let nanos = if ticks == 0 { 0 } else { bucket.wait(ticks) };
            LimitSnapshot::Bucket { full_after: Duration::from_nanos(nanos) }
        };
        let each = |meter: &mut Meter| match meter {
            Meter::Single(bucket) => bucket_snapshot(bucket, self.full.load(Ordering::Acquire)),
            Meter::Even { bucket, full } => bucket_snapshot(bucket, *full),
            Meter::Strict { limit, granted } => {
                granted.expire(limit.period, now);
                LimitSnapshot::Window { granted: grouped(granted, now) }
            }
        };
        LimiterSnapshot { limits: state.meters.iter_mut().map(each).collect(), frozen_for }
    }

    /// Restores a state that was saved `age` ago. Limits of another kind than the saved ones start full.
    pub fn restore(&self, saved: &LimiterSnapshot, age: Duration, now: Instant) {
        self.change(|limiter, state| {
            let frozen = saved.frozen_for.saturating_sub(age);
            state.frozen_until = if frozen.is_zero() { Instant::ZERO } else { now + frozen };
            for (meter, saved) in state.meters.iter_mut().zip(&saved.limits) {
                match (meter, saved) {
                    (Meter::Single(bucket), LimitSnapshot::Bucket { full_after }) => {
                        let full = full_at(bucket, full_after.saturating_sub(age), now);
                        limiter.full.store(full, Ordering::Release);
                    }
                    (Meter::Even { bucket, full }, LimitSnapshot::Bucket { full_after }) => {
                        *full = full_at(bucket, full_after.saturating_sub(age), now);
                    }
                    (Meter::Strict { limit, granted }, LimitSnapshot::Window { granted: saved }) => {
                        *granted = ungrouped(saved, limit, age, now);
                    }
                    _ => {}
                }
            }
        });
    }
}

/// The configuration with the limit that the service reported, where that is lower.
fn lowered(mut config: LimiterConfig, learned: Option<(u32, Option<Duration>)>) -> LimiterConfig {
    let Some((permits, window)) = learned else { return config };
    let same = config.limits.iter().position(|limit| Some(limit.period) == window);
    let longest = || (0..config.limits.len()).max_by_key(|index| config.limits[*index].period);
    let Some(index) = same.or_else(longest) else { return config };
    let limit = &mut config.limits[index];
    let permits = match window {
        Some(window) if limit.period != window && !window.is_zero() => {
            let scaled = (u128::from(permits) * limit.period.as_nanos()).div_ceil(window.as_nanos());
            u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
        }
        _ => permits,
    };
    if permits < limit.permits {
        limit.permits = permits;
        if let super::Refill::Even { burst } = &mut limit.refill {
            *burst = (*burst).min(permits);
        }
    }
    config
}

/// Epochs are never 0, which stands for a call that took nothing.
fn next_epoch(epoch: u32) -> u32 {
    epoch.wrapping_add(1).max(1)
}

/// The grants of a strict window.
fn grants(meter: &Meter) -> Option<Granted> {
    match meter {
        Meter::Strict { granted, .. } => Some(granted.clone()),
        Meter::Single(_) | Meter::Even { .. } => None,
    }
}

/// The permits taken from one limit, rounded up. The caller passes the state of a single bucket.
fn used(meter: &mut Meter, single_full: u64, now: Instant) -> u32 {
    let (bucket, full) = match meter {
        Meter::Single(bucket) => (bucket, single_full),
        Meter::Even { bucket, full } => (bucket, *full),
        Meter::Strict { limit, granted } => {
            granted.expire(limit.period, now);
            return granted.used();
        }
    };
    full.saturating_sub(bucket.tick(now)).div_ceil(bucket.cost).min(u64::from(u32::MAX)) as u32
}

/// The state of a bucket from which `used` permits were taken, at most all that it holds.
fn used_up(bucket: &Bucket, used: u32, now: Instant) -> u64 {
    let ticks = u64::from(used).saturating_mul(bucket.cost).min(bucket.depth);
    if ticks == 0 { 0 } else { bucket.tick(now).saturating_add(ticks) }
}

/// The state of a bucket that is full after `wait`, at most an empty one.
fn full_at(bucket: &Bucket, wait: Duration, now: Instant) -> u64 {
    let tick = bucket.tick(now);
    bucket.tick(now + wait).min(tick.saturating_add(bucket.depth))
}

/// The grants of a window in groups, oldest first, each with the age of its youngest grant.
fn grouped(granted: &Granted, now: Instant) -> Vec<(Duration, u64)> {
    let entries: Vec<_> = granted.entries().collect();
    let size = entries.len().div_ceil(SNAPSHOT_GROUPS).max(1);
    entries
        .chunks(size)
        .filter_map(|chunk| {
            let (youngest, _) = chunk.last()?;
            Some((now.since(*youngest), chunk.iter().map(|(_, permits)| u64::from(*permits)).sum()))
        })
        .collect()
}

/// The window of saved groups, as far as they are still within the period and the limit.
fn ungrouped(saved: &[(Duration, u64)], limit: &Limit, age: Duration, now: Instant) -> Granted {
    let mut granted = Granted::default();
    let mut left = limit.permits;
    for (group_age, permits) in saved {
        let group_age = group_age.saturating_add(age);
        let permits = u32::try_from(*permits).unwrap_or(u32::MAX).min(left);
        if group_age < limit.period && permits > 0 {
            left -= permits;
            granted.add(permits, Instant::from_nanos(now.as_nanos().saturating_sub(nanos(group_age))));
        }
    }
    granted
}
