//! Circuit breaker: stops calling a service that fails, and finds out gently whether it is back.
//!
//! One idea carries it: an admission is a guard, stamped with the generation of the circuit. Every change of state
//! begins a new generation, so a result from before the trip decides nothing. A dropped guard is a cancelled call: it
//! gives a probe's place back, and counts as slow if it had run for so long.
//!
//! The path of a closed circuit is a load to admit and one or two atomic updates to report; changes of state, and
//! everything while half-open, happen under one lock that is never held across user code. The three states follow
//! M. Nygard, "Release It!" (2007); sliding windows and slow calls follow resilience4j's definitions.

mod admission;
mod config;
mod control;
mod half_open;
mod tally;
mod word;

use std::{sync::Arc, time::Duration};

pub use admission::BreakerAdmission;
pub(crate) use admission::{Outcome, Ticket};
pub use config::{BreakerConfig, Mode, OpenDuration, RateRule, SlowRule, Window};
pub use control::BreakerStatus;
use half_open::HalfOpen;
use tally::Tally;
use word::{Phase, Word};

use crate::{
    clock::{Clock, Moment},
    config::ConfigError,
    observer::{CircuitState, Event, Observer, Voice},
    random::{between, mix, nanos, seed_of},
    refusal::{Opened, Refused, Rule, TripCause},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// A circuit breaker for one service.
#[derive(Debug)]
pub struct CircuitBreaker {
    word: AtomicU64,
    /// Valid while open; written before the word says so.
    open_until: AtomicU64,
    opened_at: AtomicU64,
    cause: AtomicU64,
    /// Failures in a row that trip; 0 when that rule is off.
    consecutive: AtomicU32,
    /// Nanoseconds from which a call is slow; `u64::MAX` when that rule is off.
    slower_than: AtomicU64,
    failures: Tally,
    slow: Tally,
    rare: Mutex<Rare>,
    seed: u64,
    clock: Clock,
    voice: Voice,
}

/// What only changes of state need.
#[derive(Debug)]
struct Rare {
    config: BreakerConfig,
    half_open: HalfOpen,
    /// How often the circuit opened without a quiet closed period between.
    openings: u32,
    closed_at: Moment,
}

/// A change of state that observers should hear of, once the lock is gone.
#[must_use]
struct Change {
    from: CircuitState,
    to: CircuitState,
    cause: Option<TripCause>,
    open_for: Option<Duration>,
}

impl CircuitBreaker {
    /// A closed circuit for the service `name`.
    ///
    /// # Errors
    /// Contradictions in the configuration.
    pub fn new(
        name: &str,
        config: BreakerConfig,
        clock: Clock,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_voice(config, clock, Voice::new(name, observer)))
    }

    pub(crate) fn with_voice(config: BreakerConfig, clock: Clock, voice: Voice) -> Self {
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
            seed: seed_of(&voice.name),
            rare: Mutex::new(Rare { half_open: HalfOpen::default(), openings: 0, closed_at: now, config }),
            clock,
            voice,
        };
        breaker.apply_rules(&lock(&breaker.rare).config);
        breaker
    }

    /// Asks for admission, without waiting. The guard must be told how the call ended; see [`BreakerAdmission`].
    ///
    /// # Errors
    /// [`Refused`] while the circuit is open, isolated, or half-open with its probes out.
    #[inline]
    pub fn admit(&self, now: Moment) -> Result<BreakerAdmission<&Self>, Refused> {
        self.enter(now, None).map(|ticket| BreakerAdmission::new(self, ticket))
    }

    /// Like [`admit`](Self::admit), with a guard that may outlive the borrow.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    #[inline]
    pub fn admit_owned(self: &Arc<Self>, now: Moment) -> Result<BreakerAdmission<Arc<Self>>, Refused> {
        self.enter(now, None).map(|ticket| BreakerAdmission::new(Arc::clone(self), ticket))
    }

    /// Whether [`admit`](Self::admit) would refuse at `now`. Takes nothing.
    ///
    /// # Errors
    /// The refusal that `admit` would give.
    #[inline]
    pub fn peek(&self, now: Moment) -> Result<(), Refused> {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_plainly_closed() {
            return Ok(());
        }
        match self.obstacle(word, now) {
            Some(refused) if word.mode() == Mode::Enforce => Err(refused),
            _ => Ok(()),
        }
    }

    /// What keeps a call out, without a change of anything.
    #[cold]
    fn obstacle(&self, word: Word, now: Moment) -> Option<Refused> {
        if word.is_isolated() {
            return Some(Refused::new(Rule::Isolated, None));
        }
        if word.mode() == Mode::Off {
            return None;
        }
        match word.phase() {
            Phase::Closed => None,
            Phase::Open => {
                let until = Moment::from_nanos(self.open_until.load(Ordering::Relaxed));
                (now < until).then(|| self.refused_open(until, now))
            }
            Phase::HalfOpen => {
                let rare = lock(&self.rare);
                rare.half_open.is_full(&rare.config, now).then(|| Refused::new(Rule::CircuitHalfOpen, None))
            }
        }
    }

    /// Admits a call. `lease` is the time that a probe may take, where the caller knows it.
    #[inline]
    pub(crate) fn enter(&self, now: Moment, lease: Option<Duration>) -> Result<Ticket, Refused> {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_plainly_closed() {
            return Ok(Ticket::plain(word.generation(), now));
        }
        self.enter_guarded(word, now, lease)
    }

    #[cold]
    fn enter_guarded(&self, word: Word, now: Moment, lease: Option<Duration>) -> Result<Ticket, Refused> {
        let attempt = if word.is_isolated() {
            Err(Refused::new(Rule::Isolated, None))
        } else if word.mode() == Mode::Off {
            return Ok(Ticket::inert(now));
        } else {
            match word.phase() {
                Phase::Closed => Ok(Ticket::plain(word.generation(), now)),
                Phase::Open => {
                    let until = Moment::from_nanos(self.open_until.load(Ordering::Relaxed));
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
                self.voice.say(|service| Event::Refused { service, refused: &refused, enforced });
                // In observe mode the call passes, but the circuit is not closed: its result decides nothing.
                if enforced { Err(refused) } else { Ok(Ticket::inert(now)) }
            }
            admitted => admitted,
        }
    }

    /// Takes a probe's place, after turning an open circuit whose time is over into a half-open one.
    #[cold]
    fn enter_as_probe(&self, now: Moment, lease: Option<Duration>) -> Result<Ticket, Refused> {
        let mut changes = [None, None];
        let result = {
            let mut rare = lock(&self.rare);
            let mut word = Word(self.word.load(Ordering::Acquire));
            if word.phase() == Phase::Open {
                let until = Moment::from_nanos(self.open_until.load(Ordering::Relaxed));
                if now < until {
                    // Another thread probed, failed and opened it again while we waited for the lock.
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
                if changes[1].is_some() {
                    let until = Moment::from_nanos(self.open_until.load(Ordering::Relaxed));
                    Err(self.refused_open(until, now))
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
            self.tell(&change, now);
        }
        result
    }

    /// Takes the report of one call.
    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome, now: Moment) {
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
    fn settle_closed(&self, word: Word, outcome: Outcome, slow: bool, now: Moment) {
        let generation = word.generation();
        let cause = match outcome {
            Outcome::Cancelled if !slow => return,
            // A call that was given up after so long is a slow call, whatever it would have said.
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

    /// Adds a failure to the streak and answers its length; 0 when the generation is over.
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

    /// Opens a closed circuit of this generation; a circuit that has moved on stays as it is.
    #[cold]
    fn trip(&self, generation: u32, cause: TripCause, now: Moment) {
        let change = {
            let mut rare = lock(&self.rare);
            let word = Word(self.word.load(Ordering::Acquire));
            if word.generation() != generation || word.phase() != Phase::Closed {
                return;
            }
            self.open(&mut rare, cause, now, None)
        };
        self.tell(&change, now);
    }

    #[cold]
    fn settle_probe(&self, ticket: Ticket, outcome: Outcome, slow: bool, now: Moment) {
        let change = {
            let mut rare = lock(&self.rare);
            let word = Word(self.word.load(Ordering::Acquire));
            // An expired lease has given the place to another probe, and takes nothing from the outcome.
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
            self.tell(&change, now);
        }
    }

    /// Closes or opens a half-open circuit as soon as its probes have decided.
    fn judge_half_open(&self, rare: &mut Rare, now: Moment) -> Option<Change> {
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
        // The probes that are left can no longer bring enough successes.
        if rare.config.probe_total().saturating_sub(failures) < rare.config.success_threshold {
            return Some(self.open(rare, TripCause::ProbesFailed { failures }, now, None));
        }
        None
    }

    /// Opens the circuit, for a given time or for the configured one.
    fn open(&self, rare: &mut Rare, cause: TripCause, now: Moment, given: Option<Duration>) -> Change {
        let from = Word(self.word.load(Ordering::Acquire)).phase();
        let rules = rare.config.open_for;
        rare.openings = match from {
            Phase::Closed if now.since(rare.closed_at) >= rules.forget_after => 1,
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

    /// Begins a new generation in `phase`. Only called under the lock; streaks may change beside it, and are dropped.
    fn move_to(&self, phase: Phase) -> Word {
        let next = Word(self.word.load(Ordering::Acquire)).next(phase);
        self.word.store(next.0, Ordering::Release);
        next
    }

    fn refused_open(&self, until: Moment, now: Moment) -> Refused {
        Refused {
            rule: Rule::CircuitOpen,
            retry_after: Some(until.since(now)),
            opened: Some(Opened {
                cause: TripCause::unpack(self.cause.load(Ordering::Relaxed)),
                since: Moment::from_nanos(self.opened_at.load(Ordering::Relaxed)),
            }),
        }
    }

    fn tell(&self, change: &Change, at: Moment) {
        let Change { from, to, cause, open_for } = *change;
        if from != to {
            self.voice.say(|service| Event::StateChanged { service, from, to, cause, open_for, at });
        }
    }

    /// Whether an exact end time of calls matters here; where it does not, the start may be reported instead.
    #[inline]
    pub(crate) fn measures_time(&self) -> bool {
        self.slower_than.load(Ordering::Relaxed) != u64::MAX
    }

    fn apply_rules(&self, config: &BreakerConfig) {
        self.consecutive.store(config.failure_threshold.unwrap_or(0), Ordering::Relaxed);
        self.failures.configure(config.failure_rate);
        self.slow.configure(config.slow_calls.map(|slow| slow.calls));
        let slower_than = config.slow_calls.map_or(u64::MAX, |slow| nanos(slow.slower_than));
        self.slower_than.store(slower_than, Ordering::Relaxed);
    }
}

impl OpenDuration {
    /// The time of an opening after `before` others in a row: `initial * growth^before`, capped, then varied. The
    /// variation never passes the cap, and at the cap it only shortens, so that clients still come back apart.
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
