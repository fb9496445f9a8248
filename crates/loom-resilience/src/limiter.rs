//! Rate limiter: evenly refilled buckets and strict windows, several at once, with a fair queue.
//!
//! With one bucket and no waiters, taking a permit is one compare-and-swap on one word. Everything else (several limits,
//! strict windows, waiters, a freeze) takes one short lock. Waiters queue in order of arrival and only the head has a timer,
//! so N permits cost N wake-ups. A waiter that is dropped leaves the queue; nothing was reserved for it.

mod bucket;
mod control;
mod limit;
mod wait;

use std::{sync::Arc, time::Duration};

use bucket::{Bucket, Granted};
pub use control::{Learned, LimiterStatus};
pub use limit::{Limit, LimiterConfig, Refill};

use crate::{
    breaker::Mode,
    clock::{Clock, Instant},
    config::ConfigError,
    observer::{Event, Observer, Reporter},
    random::nanos,
    refusal::{Refused, Rule},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// The value of `full` during a reconfiguration. A caller that reads it takes the lock instead.
const MOVING: u64 = u64::MAX;

/// `gate`: the single bucket may be used without the lock.
const GATE_OPEN: u32 = 0;
/// `gate`: every call passes.
const GATE_OFF: u32 = 1;
/// `gate`: the lock decides.
const GATE_LOCKED: u32 = 2;
/// `gate`: the single bucket may be used without the lock, and refusals are only reported.
const GATE_OBSERVING: u32 = 3;
/// `gate`: the lock decides, and refusals are only reported.
const GATE_OBSERVING_LOCKED: u32 = 4;

/// A rate limiter for one service.
///
/// ```
/// # use loom_resilience::{Clock, Limit, LimiterConfig, RateLimiter, Rule};
/// let clock = Clock::system();
/// let config = LimiterConfig::new(Limit::per_hour(100).burst(2));
/// let limiter = RateLimiter::new("search", config, clock.clone(), None)?;
///
/// assert!(limiter.try_take(2, clock.now()).is_ok());
/// let refused = limiter.try_take(1, clock.now()).unwrap_err();
/// assert_eq!(refused.rule, Rule::RateLimit);
/// assert!(refused.retry_after.is_some(), "a refusal says when to come back");
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    gate: AtomicU32,
    /// The tick at which the single bucket is full.
    full: AtomicU64,
    factor: AtomicU64,
    cost: AtomicU64,
    depth: AtomicU64,
    back: AtomicU64,
    back_shift: AtomicU32,
    /// Changes when the limiter drops its consumption: permits from before cannot be returned any more.
    epoch: AtomicU32,
    state: Mutex<State>,
    clock: Clock,
    reporter: Reporter,
}

/// The state behind the lock.
#[derive(Debug)]
struct State {
    /// The limits in force: as configured, or lowered by what the service reported.
    config: LimiterConfig,
    /// The limits as configured.
    configured: LimiterConfig,
    /// The last limit that the service reported, with its window.
    learned: Option<(u32, Option<Duration>)>,
    meters: Vec<Meter>,
    frozen_until: Instant,
    /// How often the meters were replaced.
    replaced: u64,
    queue: wait::Queue,
}

/// One limit and its consumption.
#[derive(Debug)]
enum Meter {
    /// The only limit, which is even. Its state is in the limiter's atomics.
    Single(Bucket),
    Even {
        bucket: Bucket,
        full: u64,
    },
    Strict {
        limit: Limit,
        granted: Granted,
    },
}

impl RateLimiter {
    /// Creates a rate limiter for the service `name`, with all permits available.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(
        name: &str,
        config: LimiterConfig,
        clock: Clock,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_reporter(config, clock, Reporter::new(name, observer)))
    }

    pub(crate) fn with_reporter(config: LimiterConfig, clock: Clock, reporter: Reporter) -> Self {
        let limiter = Self {
            gate: AtomicU32::new(GATE_LOCKED),
            full: AtomicU64::new(0),
            factor: AtomicU64::new(0),
            cost: AtomicU64::new(1),
            depth: AtomicU64::new(0),
            back: AtomicU64::new(0),
            back_shift: AtomicU32::new(0),
            epoch: AtomicU32::new(1),
            state: Mutex::new(State {
                meters: meters(&config),
                configured: config.clone(),
                learned: None,
                config,
                frozen_until: Instant::ZERO,
                replaced: 0,
                queue: wait::Queue::default(),
            }),
            clock,
            reporter,
        };
        {
            let state = lock(&limiter.state);
            limiter.publish(&state);
            limiter.set_gate(&state);
        }
        limiter
    }

    /// Takes all of `permits` without waiting, or none.
    ///
    /// # Errors
    /// [`Refused`] with the time to wait, when a limit, a freeze or calls that already wait come first.
    #[inline]
    pub fn try_take(&self, permits: u32, now: Instant) -> Result<(), Refused> {
        self.try_reserve(permits, now).map(|_| ())
    }

    /// As [`try_take`](Self::try_take), for a call that may not be made after all: see [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// As [`try_take`](Self::try_take).
    #[inline]
    pub fn try_reserve(&self, permits: u32, now: Instant) -> Result<Reservation, Refused> {
        match self.grab(permits, now) {
            Err(refused) if self.reporter.is_enabled() || self.observes() => {
                self.refuse(refused).map(|()| Reservation::NOTHING)
            }
            result => result,
        }
    }

    /// Whether refusals are only reported.
    #[inline]
    pub(crate) fn observes(&self) -> bool {
        self.gate.load(Ordering::Acquire) >= GATE_OBSERVING
    }

    /// Reports a refusal. It becomes a success when the limiter only observes.
    #[cold]
    fn refuse(&self, refused: Refused) -> Result<(), Refused> {
        let enforced = !self.observes();
        self.reporter.emit(|service| Event::Refused { service, refused: &refused, enforced });
        if enforced { Err(refused) } else { Ok(()) }
    }

    /// Takes permits without reporting to the observer.
    #[inline]
    pub(crate) fn grab(&self, permits: u32, now: Instant) -> Result<Reservation, Refused> {
        match self.gate.load(Ordering::Acquire) {
            GATE_OFF => return Ok(Reservation::NOTHING),
            GATE_OPEN | GATE_OBSERVING => {
                if let Some(result) = self.grab_unlocked(permits, now) {
                    return result;
                }
            }
            _ => {}
        }
        self.grab_locked(permits, now)
    }

    /// The path for a single bucket without waiters. `None` when the lock must decide.
    ///
    /// `full` is read first and swapped last, and a reconfiguration changes it before anything else. So the numbers that
    /// are read in between belong to it, or the swap fails.
    #[inline]
    fn grab_unlocked(&self, permits: u32, now: Instant) -> Option<Result<Reservation, Refused>> {
        let mut full = self.full.load(Ordering::Acquire);
        loop {
            if full == MOVING {
                return None;
            }
            let epoch = self.epoch.load(Ordering::Acquire);
            let factor = self.factor.load(Ordering::Acquire);
            let cost = self.cost.load(Ordering::Acquire);
            let depth = self.depth.load(Ordering::Acquire);
            let tick = bucket::tick(factor, now);
            match bucket::take(cost, depth, full, permits, tick) {
                Ok(next) => {
                    match self.full.compare_exchange_weak(full, next, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return Some(Ok(Reservation { permits, epoch })),
                        Err(seen) => full = seen,
                    }
                }
                Err(_) if u64::from(permits).saturating_mul(cost) > depth => {
                    return Some(Err(Refused::new(Rule::TooManyPermits, None)));
                }
                Err(missing) => {
                    let back = self.back.load(Ordering::Acquire);
                    let back_shift = self.back_shift.load(Ordering::Acquire);
                    let wait = bucket::wait(back, back_shift, missing);
                    return Some(Err(Refused::new(Rule::RateLimit, Some(Duration::from_nanos(wait)))));
                }
            }
        }
    }

    fn grab_locked(&self, permits: u32, now: Instant) -> Result<Reservation, Refused> {
        let mut state = lock(&self.state);
        if state.config.mode == Mode::Off {
            return Ok(Reservation::NOTHING);
        }
        self.thaw_if_due(&mut state, now);
        let largest = state.config.limits.iter().map(Limit::largest).min().unwrap_or(u32::MAX);
        if permits > largest {
            return Err(Refused::new(Rule::TooManyPermits, None));
        }
        let ahead = state.queue.permits();
        let wait = self.wait(&mut state, ahead + u64::from(permits), now);
        if wait > 0 || !state.queue.is_empty() {
            let rule = if now < state.frozen_until { Rule::Frozen } else { Rule::RateLimit };
            return Err(Refused::new(rule, Some(Duration::from_nanos(wait))));
        }
        if self.commit(&mut state, permits, now) {
            return Ok(self.taken(permits));
        }
        // Only the single bucket changes without the lock: a concurrent call has taken the last permit.
        let wait = self.wait(&mut state, u64::from(permits), now).max(1);
        Err(Refused::new(Rule::RateLimit, Some(Duration::from_nanos(wait))))
    }

    /// Nanoseconds until `permits` can be taken from every limit, a freeze included; 0 when they can be taken now.
    fn wait(&self, state: &mut State, permits: u64, now: Instant) -> u64 {
        let frozen = nanos(state.frozen_until.since(now));
        let meters = &mut state.meters;
        meters.iter_mut().map(|meter| self.wait_for(meter, permits, now)).fold(frozen, u64::max)
    }

    fn wait_for(&self, meter: &mut Meter, permits: u64, now: Instant) -> u64 {
        let missing = |bucket: &Bucket, full: u64| {
            let tick = bucket.tick(now);
            let next = full.max(tick).saturating_add(permits.saturating_mul(bucket.cost));
            match next.saturating_sub(tick.saturating_add(bucket.depth)) {
                0 => 0,
                ticks => bucket.wait(ticks),
            }
        };
        match meter {
            Meter::Single(bucket) => missing(bucket, self.full.load(Ordering::Acquire)),
            Meter::Even { bucket, full } => missing(bucket, *full),
            Meter::Strict { limit, granted } => {
                granted.expire(limit.period, now);
                granted.wait(limit, permits, now)
            }
        }
    }

    /// Takes permits from every limit. The caller has checked that they are available. Returns `false`, and takes nothing,
    /// when a call on the lock-free path has taken them meanwhile.
    fn commit(&self, state: &mut State, permits: u32, now: Instant) -> bool {
        for meter in &mut state.meters {
            match meter {
                Meter::Single(bucket) => {
                    let tick = bucket.tick(now);
                    let mut seen = self.full.load(Ordering::Acquire);
                    loop {
                        let Ok(next) = bucket.take(seen, permits, tick) else { return false };
                        match self.full.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
                        {
                            Ok(_) => break,
                            Err(now_there) => seen = now_there,
                        }
                    }
                }
                Meter::Even { bucket, full } => {
                    let tick = bucket.tick(now);
                    *full = (*full).max(tick).saturating_add(u64::from(permits) * bucket.cost);
                }
                Meter::Strict { granted, .. } => granted.add(permits, now),
            }
        }
        true
    }

    /// Publishes the numbers of a single bucket to the lock-free path.
    fn publish(&self, state: &State) {
        if let [Meter::Single(bucket)] = state.meters.as_slice() {
            self.factor.store(bucket.factor, Ordering::Release);
            self.cost.store(bucket.cost, Ordering::Release);
            self.depth.store(bucket.depth, Ordering::Release);
            self.back.store(bucket.back, Ordering::Release);
            self.back_shift.store(bucket.back_shift, Ordering::Release);
        }
    }

    /// Chooses the path that calls take. Called under the lock after every change that affects the choice.
    fn set_gate(&self, state: &State) {
        let single = matches!(state.meters.as_slice(), [Meter::Single(_)]);
        let is_free = state.queue.is_empty() && state.frozen_until == Instant::ZERO;
        let gate = match state.config.mode {
            Mode::Off => GATE_OFF,
            // Without limits only a freeze, or a queue from before, has anything to say.
            _ if state.meters.is_empty() && is_free => GATE_OFF,
            Mode::Enforce if single && is_free => GATE_OPEN,
            Mode::Enforce => GATE_LOCKED,
            Mode::Observe if single && is_free => GATE_OBSERVING,
            Mode::Observe => GATE_OBSERVING_LOCKED,
        };
        self.gate.store(gate, Ordering::Release);
    }

    fn thaw_if_due(&self, state: &mut State, now: Instant) {
        if state.frozen_until != Instant::ZERO && now >= state.frozen_until {
            state.frozen_until = Instant::ZERO;
            self.set_gate(state);
        }
    }
}

/// Permits that a call has taken; see [`RateLimiter::try_reserve`]. Dropping it keeps them spent.
///
/// ```
/// # use loom_resilience::{Clock, Limit, LimiterConfig, RateLimiter};
/// let clock = Clock::system();
/// let config = LimiterConfig::new(Limit::per_hour(1).burst(1));
/// let limiter = RateLimiter::new("search", config, clock.clone(), None)?;
/// let reservation = limiter.try_reserve(1, clock.now()).expect("a permit is available");
/// assert_eq!(limiter.available(clock.now()), Some(0));
/// limiter.cancel(reservation);
/// assert_eq!(limiter.available(clock.now()), Some(1));
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    permits: u32,
    epoch: u32,
}

impl Reservation {
    /// The call passed without taking a permit: the limiter is off, or it only observes.
    const NOTHING: Self = Self { permits: 0, epoch: 0 };

    /// Whether the call passed without taking a permit.
    #[inline]
    pub(crate) const fn is_nothing(&self) -> bool {
        self.permits == 0
    }
}

impl RateLimiter {
    /// What a call has taken just now. Called under the lock.
    fn taken(&self, permits: u32) -> Reservation {
        Reservation { permits, epoch: self.epoch.load(Ordering::Relaxed) }
    }

    /// Returns the permits of a call that was not made. Does nothing when the limiter has dropped its consumption since, by a
    /// [`reset`](Self::reset) or because it had no limits in between: the permits are available again already.
    #[expect(clippy::needless_pass_by_value, reason = "a reservation is returned once")]
    pub fn cancel(&self, taken: Reservation) {
        if taken.permits > 0 {
            self.give_back_if(taken.permits, |epoch| epoch == taken.epoch);
        }
    }
}

fn meters(config: &LimiterConfig) -> Vec<Meter> {
    let single = config.limits.len() == 1;
    let meter = |limit: &Limit| match Bucket::new(limit) {
        Some(bucket) if single => Meter::Single(bucket),
        Some(bucket) => Meter::Even { bucket, full: 0 },
        None => Meter::Strict { limit: *limit, granted: Granted::default() },
    };
    config.limits.iter().map(meter).collect()
}
