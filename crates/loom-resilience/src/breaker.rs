//! Circuit breaker: stops calling a service that fails, and probes whether it has recovered.
//!
//! An admission is a guard that is stamped with the generation of the circuit. Every change of state starts a new
//! generation, so a result from before the trip decides nothing. Dropping the guard reports a cancelled call: it releases
//! the slot of a probe, and counts as a slow call if the call had run that long.
//!
//! A closed circuit needs one load to admit a call and one or two atomic updates to report its outcome. Changes of state,
//! and everything while half-open, happen under one lock that is never held across user code. The three states follow
//! M. Nygard, "Release It!" (2007); sliding windows and slow calls follow the definitions of resilience4j.

mod admission;
mod config;
mod control;
mod half_open;
mod tally;
mod word;

use std::{sync::Arc, time::Duration};

pub use admission::BreakerAdmission;
pub(crate) use admission::{Outcome, Ticket};
pub use config::{BreakerConfig, Mode, OpenDuration, RateRule, Scope, SlowRule, Window};
pub use control::BreakerStatus;
use half_open::HalfOpen;
use tally::Tally;
use word::{Phase, Word};

use crate::{
    clock::{Clock, Instant},
    config::ConfigError,
    observer::{CircuitState, Event, Observer, Reporter},
    random::{between, mix, nanos, seed_of},
    refusal::{Opened, Refused, Rule, TripCause},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// A circuit breaker for one service.
///
/// ```
/// # use loom_resilience::{BreakerConfig, CircuitBreaker, CircuitState, Clock, Rule};
/// let clock = Clock::system();
/// let config = BreakerConfig::new().failure_threshold(2);
/// let breaker = CircuitBreaker::new("billing", config, clock.clone(), None)?;
///
/// for _ in 0..2 {
///     let admission = breaker.admit(clock.now()).expect("the circuit is closed");
///     admission.failure(clock.now());
/// }
/// assert_eq!(breaker.state(), CircuitState::Open);
/// let refused = breaker.admit(clock.now()).unwrap_err();
/// assert_eq!(refused.rule, Rule::CircuitOpen);
/// assert!(refused.retry_after.is_some());
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct CircuitBreaker {
    word: AtomicU64,
    /// Valid while open; stored before the word changes to open.
    open_until: AtomicU64,
    opened_at: AtomicU64,
    cause: AtomicU64,
    /// Consecutive failures that open the circuit; 0 when that rule is off.
    consecutive: AtomicU32,
    /// Calls that take this many nanoseconds or more are slow; `u64::MAX` when that rule is off.
    slower_than: AtomicU64,
    failures: Tally,
    slow: Tally,
    rare: Mutex<Rare>,
    seed: u64,
    clock: Clock,
    reporter: Reporter,
}

/// What only changes of state use.
#[derive(Debug)]
struct Rare {
    config: BreakerConfig,
    half_open: HalfOpen,
    /// Consecutive openings without a quiet closed period between them.
    openings: u32,
    closed_at: Instant,
}

/// A change of state, to be reported to the observer after the lock is released.
#[must_use]
struct Change {
    from: CircuitState,
    to: CircuitState,
    cause: Option<TripCause>,
    open_for: Option<Duration>,
}

impl CircuitBreaker {
    /// Creates a closed circuit breaker for the service `name`.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(
        name: &str,
        config: BreakerConfig,
        clock: Clock,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_reporter(config, clock, Reporter::new(name, observer)))
    }

    pub(crate) fn with_reporter(config: BreakerConfig, clock: Clock, reporter: Reporter) -> Self {
        let now = clock.now();
        let breaker = Self {
            word: AtomicU64::new(Word::new(config.mode).0),
            open_until: AtomicU64::new(0),
            opened_at: AtomicU64::new(0),
            cause: AtomicU64::new(0),
            consecutive: AtomicU32::new(0),
            slower_than: AtomicU64::new(u64::MAX),
            failures: Tally::new(None),
            slow: Tally::new(None),
            seed: seed_of(&reporter.name),
            rare: Mutex::new(Rare { half_open: HalfOpen::default(), openings: 0, closed_at: now, config }),
            clock,
            reporter,
        };
        breaker.apply_rules(&lock(&breaker.rare).config, now);
        breaker
    }

    /// Requests admission of a call, without waiting. Report the outcome through the guard; see [`BreakerAdmission`].
    ///
    /// # Errors
    /// [`Refused`] while the circuit is open, isolated, or half-open with all its probes in flight.
    #[inline]
    pub fn admit(&self, now: Instant) -> Result<BreakerAdmission<&Self>, Refused> {
        self.enter(now, None).map(|ticket| BreakerAdmission::new(self, ticket))
    }

    /// As [`admit`](Self::admit), with a guard that owns a reference to the breaker.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    #[inline]
    pub fn admit_owned(self: &Arc<Self>, now: Instant) -> Result<BreakerAdmission<Arc<Self>>, Refused> {
        self.enter(now, None).map(|ticket| BreakerAdmission::new(Arc::clone(self), ticket))
    }

    /// Whether [`admit`](Self::admit) would refuse a call at `now`. Changes nothing.
    ///
    /// # Errors
    /// The refusal that `admit` would return.
    #[inline]
    pub fn peek(&self, now: Instant) -> Result<(), Refused> {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_counting_closed() || word.is_off() {
            return Ok(());
        }
        match self.obstacle(word, now) {
            Some(refused) if word.mode() == Mode::Enforce => Err(refused),
            _ => Ok(()),
        }
    }

    /// The reason why a call would be refused, whatever the mode. Changes nothing.
    #[cold]
    fn obstacle(&self, word: Word, now: Instant) -> Option<Refused> {
        if word.is_isolated() {
            return Some(Refused::new(Rule::Isolated, None));
        }
        if word.is_off() {
            return None;
        }
        match word.phase() {
            Phase::Closed => None,
            Phase::Open => {
                let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
                (now < until).then(|| self.refused_open(until, now))
            }
            Phase::HalfOpen => {
                let rare = lock(&self.rare);
                rare.half_open.is_full(&rare.config, now).then(|| Refused::new(Rule::CircuitHalfOpen, None))
            }
        }
    }

    /// Admits a call. `lease` is how long a probe may take, where the caller knows it.
    #[inline]
    pub(crate) fn enter(&self, now: Instant, lease: Option<Duration>) -> Result<Ticket, Refused> {
        self.enter_for(now, || lease)
    }

    /// As [`enter`](Self::enter); the lease is computed only for a call that may be a probe.
    #[inline]
    pub(crate) fn enter_for(
        &self,
        now: Instant,
        lease: impl FnOnce() -> Option<Duration>,
    ) -> Result<Ticket, Refused> {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_counting_closed() {
            return Ok(Ticket::plain(word.generation(), now));
        }
        if word.is_off() {
            return Ok(Ticket::inert(now));
        }
        self.enter_guarded(word, now, lease())
    }

    /// Admits a call through a circuit that is closed or off, where no refusal and no probe is possible. `None` when only
    /// [`peek`](Self::peek) and [`enter_for`](Self::enter_for) can tell.
    #[inline]
    pub(crate) fn enter_plain(&self, now: Instant) -> Option<Ticket> {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_counting_closed() {
            return Some(Ticket::plain(word.generation(), now));
        }
        word.is_off().then(|| Ticket::inert(now))
    }

    #[cold]
    fn enter_guarded(&self, word: Word, now: Instant, lease: Option<Duration>) -> Result<Ticket, Refused> {
        let attempt = if word.is_isolated() {
            Err(Refused::new(Rule::Isolated, None))
        } else {
            match word.phase() {
                Phase::Closed => Ok(Ticket::plain(word.generation(), now)),
                Phase::Open => {
                    let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
                    if now < until {
                        Err(self.refused_open(until, now))
                    } else {
                        self.enter_as_probe(now, lease)
                    }
                }
                Phase::HalfOpen => self.enter_as_probe(now, lease),
            }
        };
        match attempt {
            Err(refused) => {
                let enforced = word.mode() == Mode::Enforce || word.is_isolated();
                self.reporter.emit(|service| Event::Refused { service, refused: &refused, enforced });
                // In observe mode the call passes, but its result decides nothing, because an enforced circuit would not have
                // let it through.
                if enforced { Err(refused) } else { Ok(Ticket::inert(now)) }
            }
            admitted => admitted,
        }
    }

    /// Takes the slot of a probe. An open circuit whose time is over becomes half-open first.
    #[cold]
    fn enter_as_probe(&self, now: Instant, lease: Option<Duration>) -> Result<Ticket, Refused> {
        let mut changes = [None, None];
        let result = {
            let mut rare = lock(&self.rare);
            let mut word = Word(self.word.load(Ordering::Acquire));
            if word.phase() == Phase::Open {
                let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
                if now < until {
                    // Another thread probed, failed and reopened the circuit while this one waited for the lock.
                    return Err(self.refused_open(until, now));
                }
                rare.half_open = HalfOpen::default();
                word = self.move_to(Phase::HalfOpen);
                changes[0] = Some(Change {
                    from: CircuitState::Open,
                    to: CircuitState::HalfOpen,
                    cause: None,
                    open_for: None,
                });
            }
            if word.phase() == Phase::Closed {
                Ok(Ticket::plain(word.generation(), now))
            } else {
                let slower_than = self.slower_than.load(Ordering::Relaxed);
                rare.half_open.expire(now, slower_than);
                changes[1] = self.judge_half_open(&mut rare, now);
                let word = Word(self.word.load(Ordering::Acquire));
                if word.phase() == Phase::Open {
                    let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
                    Err(self.refused_open(until, now))
                } else if word.phase() == Phase::Closed {
                    Ok(Ticket::plain(word.generation(), now))
                } else {
                    let Rare { config, half_open, .. } = &mut *rare;
                    match half_open.lease(config, lease, now) {
                        Some(lease) => Ok(Ticket::probe(word.generation(), now, lease)),
                        None => Err(Refused::new(Rule::CircuitHalfOpen, None)),
                    }
                }
            }
        };
        for change in changes.into_iter().flatten() {
            self.report(&change, now);
        }
        result
    }

    /// Records the outcome of one call.
    #[inline]
    pub(crate) fn settle(&self, ticket: &Ticket, outcome: Outcome, now: Instant) {
        if ticket.is_inert() {
            return;
        }
        let word = Word(self.word.load(Ordering::Acquire));
        if word.generation() != ticket.generation {
            return;
        }
        let slower_than = self.slower_than.load(Ordering::Relaxed);
        let slow = now.as_nanos().saturating_sub(ticket.started.as_nanos()) >= slower_than;
        if ticket.is_probe() {
            self.settle_probe(ticket, outcome, slow, now);
        } else {
            self.settle_closed(word, outcome, slow, now);
        }
    }

    #[inline]
    fn settle_closed(&self, word: Word, outcome: Outcome, slow: bool, now: Instant) {
        let generation = word.generation();
        let cause = match outcome {
            Outcome::Cancelled if !slow => return,
            // A call that was cancelled after the slow threshold is a slow call, whatever its result would have been.
            Outcome::Cancelled => None,
            Outcome::Success => {
                if word.streak() != 0 {
                    self.end_streak(generation);
                }
                self.failures
                    .record(generation, now, false)
                    .map(|(failures, calls)| TripCause::FailureRate { failures, calls })
            }
            Outcome::Failure => {
                let streak = self.lengthen_streak(generation);
                let limit = self.consecutive.load(Ordering::Relaxed);
                let rate = self.failures.record(generation, now, true);
                if limit != 0 && streak >= limit {
                    Some(TripCause::Consecutive { failures: streak })
                } else {
                    rate.map(|(failures, calls)| TripCause::FailureRate { failures, calls })
                }
            }
        };
        let slow_rate = self.slow.record(generation, now, slow);
        let cause = cause.or(slow_rate.map(|(slow, calls)| TripCause::SlowRate { slow, calls }));
        if let Some(cause) = cause {
            self.trip(generation, cause, now);
        }
    }

    #[cold]
    fn end_streak(&self, generation: u32) {
        let mut word = Word(self.word.load(Ordering::Acquire));
        while word.generation() == generation && word.streak() != 0 {
            let next = word.with_streak(0);
            match self.word.compare_exchange_weak(word.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => word = Word(seen),
            }
        }
    }

    /// Adds a failure to the streak and returns its length; 0 when the generation has ended.
    fn lengthen_streak(&self, generation: u32) -> u32 {
        let mut word = Word(self.word.load(Ordering::Acquire));
        while word.generation() == generation {
            let streak = word.streak().saturating_add(1);
            let next = word.with_streak(streak);
            match self.word.compare_exchange_weak(word.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return streak,
                Err(seen) => word = Word(seen),
            }
        }
        0
    }

    /// Opens the circuit if it is still closed and of this generation.
    #[cold]
    fn trip(&self, generation: u32, cause: TripCause, now: Instant) {
        let change = {
            let mut rare = lock(&self.rare);
            let word = Word(self.word.load(Ordering::Acquire));
            if word.generation() != generation || word.phase() != Phase::Closed {
                return;
            }
            self.open(&mut rare, cause, now, None)
        };
        self.report(&change, now);
    }

    #[cold]
    fn settle_probe(&self, ticket: &Ticket, outcome: Outcome, slow: bool, now: Instant) {
        let change = {
            let mut rare = lock(&self.rare);
            let word = Word(self.word.load(Ordering::Acquire));
            // The outcome counts even when the lease has expired and another probe has the slot.
            if word.generation() != ticket.generation || !rare.half_open.give_back(ticket.lease) {
                return;
            }
            match outcome {
                Outcome::Cancelled if !slow => {}
                Outcome::Success if !slow => rare.half_open.successes += 1,
                Outcome::Success | Outcome::Failure | Outcome::Cancelled => rare.half_open.failures += 1,
            }
            self.judge_half_open(&mut rare, now)
        };
        if let Some(change) = change {
            self.report(&change, now);
        }
    }

    /// Closes or opens a half-open circuit as soon as the outcomes of its probes decide it.
    fn judge_half_open(&self, rare: &mut Rare, now: Instant) -> Option<Change> {
        let HalfOpen { successes, failures, .. } = rare.half_open;
        if successes >= rare.config.success_threshold {
            rare.closed_at = now;
            self.move_to(Phase::Closed);
            return Some(Change {
                from: CircuitState::HalfOpen,
                to: CircuitState::Closed,
                cause: None,
                open_for: None,
            });
        }
        // The remaining probes can no longer reach the success threshold.
        if rare.config.probe_total().saturating_sub(failures) < rare.config.success_threshold {
            return Some(self.open(rare, TripCause::ProbesFailed { failures }, now, None));
        }
        None
    }

    /// Opens the circuit, for `given` or else for the configured time.
    fn open(&self, rare: &mut Rare, cause: TripCause, now: Instant, given: Option<Duration>) -> Change {
        let from = Word(self.word.load(Ordering::Acquire)).phase();
        let rules = rare.config.open_for;
        rare.openings = match from {
            Phase::Closed if now.since(rare.closed_at) >= rules.reset_after => 1,
            Phase::Closed | Phase::HalfOpen => rare.openings.saturating_add(1),
            Phase::Open => rare.openings.max(1),
        };
        let generation = Word(self.word.load(Ordering::Acquire)).generation();
        let random = mix(self.seed, u64::from(generation));
        let open_for = given.unwrap_or_else(|| rules.time(rare.openings - 1, random));
        self.opened_at.store(now.as_nanos(), Ordering::Relaxed);
        self.open_until.store((now + open_for).as_nanos(), Ordering::Relaxed);
        self.cause.store(cause.pack(), Ordering::Relaxed);
        self.move_to(Phase::Open);
        Change { from: from.state(), to: CircuitState::Open, cause: Some(cause), open_for: Some(open_for) }
    }

    /// Starts a new generation in `phase`. Only called under the lock. A streak that changes concurrently is discarded.
    fn move_to(&self, phase: Phase) -> Word {
        let next = Word(self.word.load(Ordering::Acquire)).next(phase);
        self.word.store(next.0, Ordering::Release);
        next
    }

    fn refused_open(&self, until: Instant, now: Instant) -> Refused {
        Refused {
            rule: Rule::CircuitOpen,
            retry_after: Some(until.since(now)),
            opened: Some(Opened {
                cause: TripCause::unpack(self.cause.load(Ordering::Relaxed)),
                since: Instant::from_nanos(self.opened_at.load(Ordering::Relaxed)),
            }),
        }
    }

    fn report(&self, change: &Change, at: Instant) {
        let Change { from, to, cause, open_for } = *change;
        if from != to {
            self.reporter.emit(|service| Event::StateChanged { service, from, to, cause, open_for, at });
        }
    }

    /// Whether a call that is admitted now is a probe of a circuit that several processes share.
    pub(crate) fn is_shared_probe(&self, now: Instant) -> bool {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.mode() != Mode::Enforce || word.is_isolated() {
            return false;
        }
        let is_due = match word.phase() {
            Phase::Closed => false,
            Phase::Open => now >= Instant::from_nanos(self.open_until.load(Ordering::Relaxed)),
            Phase::HalfOpen => true,
        };
        is_due && lock(&self.rare).config.scope == Scope::Cluster
    }

    /// Whether refusals are only reported.
    #[inline]
    pub(crate) fn observes(&self) -> bool {
        Word(self.word.load(Ordering::Acquire)).mode() == Mode::Observe
    }

    /// Whether the end time of calls matters. Where it does not, callers may report the start time instead.
    #[inline]
    pub(crate) fn measures_time(&self) -> bool {
        self.slower_than.load(Ordering::Relaxed) != u64::MAX
    }

    /// Publishes the rules to the lock-free path. Only called under the lock.
    fn apply_rules(&self, config: &BreakerConfig, now: Instant) {
        let generation = Word(self.word.load(Ordering::Acquire)).generation();
        self.consecutive.store(config.failure_threshold.unwrap_or(0), Ordering::Relaxed);
        self.failures.configure(config.failure_rate, generation, now);
        self.slow.configure(config.slow_calls.map(|slow| slow.calls), generation, now);
        let slower_than = config.slow_calls.map_or(u64::MAX, |slow| nanos(slow.slower_than));
        self.slower_than.store(slower_than, Ordering::Relaxed);
    }
}

impl OpenDuration {
    /// The open duration after `before` consecutive openings: `initial * growth^before`, capped, then with jitter. Jitter
    /// never exceeds the cap; at the cap it only shortens, so that clients still return at different times.
    fn time(&self, before: u32, random: u64) -> Duration {
        let max = self.max.as_secs_f64();
        let mut seconds = self.initial.as_secs_f64();
        for _ in 0..before {
            seconds *= self.growth;
            if seconds >= max || self.growth <= 1.0 {
                break;
            }
        }
        let seconds = seconds.min(max);
        let low = Duration::from_secs_f64(seconds * (1.0 - self.jitter));
        let high = Duration::from_secs_f64((seconds * (1.0 + self.jitter)).min(max));
        between(low, high, random).max(Duration::from_nanos(1))
    }
}
