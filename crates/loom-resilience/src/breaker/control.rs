//! Inspects a circuit, changes it manually, saves its state and changes its rules.

use std::time::Duration;

use super::{
    Change, CircuitBreaker, HalfOpen, Rare,
    config::{BreakerConfig, Mode},
    word::{Phase, Word},
};
use crate::{
    clock::Instant,
    config::ConfigError,
    observer::CircuitState,
    refusal::TripCause,
    snapshot::BreakerSnapshot,
    sync::{Ordering, lock},
};

/// The status of a circuit breaker at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BreakerStatus {
    /// The state. An open circuit whose time is over stays `Open` until a call probes it.
    pub state: CircuitState,
    /// Whether the rules are enforced, observed or off.
    pub mode: Mode,
    /// Whether an operator isolated the service.
    pub isolated: bool,
    /// Consecutive failures.
    pub consecutive_failures: u32,
    /// Calls in the window of the failure rate; 0 without that rule.
    pub window_calls: u32,
    /// Failures among them.
    pub window_failures: u32,
    /// Slow calls in the window of the slow-call rate; 0 without that rule.
    pub window_slow: u32,
    /// Why it opened; `None` unless open.
    pub cause: Option<TripCause>,
    /// When it opened; `None` unless open.
    pub opened_since: Option<Instant>,
    /// Time until a probe is admitted; `None` unless open.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serde_duration::option"))]
    pub retry_after: Option<Duration>,
    /// Probes in flight; 0 unless half-open.
    pub probes_out: u32,
}

impl CircuitBreaker {
    /// The service's name.
    pub fn name(&self) -> &str {
        &self.reporter.name
    }

    /// The current state.
    pub fn state(&self) -> CircuitState {
        Word(self.word.load(Ordering::Acquire)).phase().state()
    }

    /// The number of the current generation, from 1. Every change of state increments it, so equal numbers mean that the
    /// state has not changed in between.
    pub fn generation(&self) -> u32 {
        Word(self.word.load(Ordering::Acquire)).generation()
    }

    /// Consecutive failures while the circuit is closed.
    pub fn consecutive_failures(&self) -> u32 {
        Word(self.word.load(Ordering::Acquire)).streak()
    }

    /// The status at `now`.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        let rare = lock(&self.rare);
        let word = Word(self.word.load(Ordering::Acquire));
        let open = word.phase() == Phase::Open;
        let (window_failures, window_calls) = self.failures.counts(word.generation(), now);
        let (window_slow, _) = self.slow.counts(word.generation(), now);
        let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
        BreakerStatus {
            state: word.phase().state(),
            mode: word.mode(),
            isolated: word.is_isolated(),
            consecutive_failures: word.streak(),
            window_calls,
            window_failures,
            window_slow,
            cause: open.then(|| TripCause::unpack(self.cause.load(Ordering::Relaxed))),
            opened_since: open.then(|| Instant::from_nanos(self.opened_at.load(Ordering::Relaxed))),
            retry_after: open.then(|| until.since(now)),
            probes_out: if word.phase() == Phase::HalfOpen { rare.half_open.out(now) } else { 0 },
        }
    }

    /// The rules in force.
    pub fn config(&self) -> BreakerConfig {
        lock(&self.rare).config.clone()
    }

    /// Refuses every call until [`close`](Self::close) or [`reset`](Self::reset), in every mode.
    pub fn isolate(&self) {
        let _rare = lock(&self.rare);
        self.update(|word| word.with_isolated(true));
    }

    /// Opens the circuit manually for `time`. After that, probes decide as usual.
    pub fn trip_for(&self, time: Duration, now: Instant) {
        let change = self.open(&mut lock(&self.rare), TripCause::Manual, now, Some(time));
        self.report(&change, now);
    }

    /// Ends an isolation and closes the circuit. Clears the counts, but not the growth of the open duration.
    pub fn close(&self, now: Instant) {
        let change = self.close_now(now, false);
        self.report(&change, now);
    }

    /// Returns the breaker to its initial state: closed, not isolated, no counts, no growth of the open duration.
    pub fn reset(&self, now: Instant) {
        let change = self.close_now(now, true);
        self.report(&change, now);
    }

    /// Changes the mode. The state of the circuit does not change.
    pub fn set_mode(&self, mode: Mode) {
        let mut rare = lock(&self.rare);
        rare.config.mode = mode;
        self.update(|word| word.with_mode(mode));
    }

    fn close_now(&self, now: Instant, forget: bool) -> Change {
        let mut rare = lock(&self.rare);
        if forget {
            rare.openings = 0;
        }
        rare.half_open = HalfOpen::default();
        rare.closed_at = now;
        let from = Word(self.word.load(Ordering::Acquire)).phase().state();
        self.move_to(Phase::Closed);
        self.update(|word| word.with_isolated(false));
        Change { from, to: CircuitState::Closed, cause: None, open_for: None }
    }

    /// Changes bits of the word while streaks may grow concurrently. Only called under the lock.
    fn update(&self, change: impl Fn(Word) -> Word) {
        let mut word = Word(self.word.load(Ordering::Acquire));
        loop {
            let next = change(word);
            match self.word.compare_exchange_weak(word.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => word = Word(seen),
            }
        }
    }

    /// Changes the rules of a breaker in use.
    ///
    /// - The state of the circuit, the streak of failures, an isolation and the growth of the open duration stay.
    /// - A window keeps its counts: a time window whose length changes keeps what happened within the new length, a count
    ///   window the youngest calls that fit. A window that changes from one kind to the other starts empty.
    /// - An open circuit stays open at most as long as the new rules allow, counted from when it opened, unless it was opened
    ///   manually.
    /// - Probes in flight keep their slots, and their outcomes count under the new rules. With fewer slots than probes in
    ///   flight, no probe starts until enough of them have ended.
    /// - The change alone never opens a circuit: a streak or a rate that the new rules do not allow opens it with the next
    ///   outcome. It closes or reopens a half-open circuit whose outcomes so far decide it under the new rules.
    ///
    /// # Errors
    /// The configuration is not valid; the old rules then stay in force.
    pub fn reconfigure(&self, config: BreakerConfig, now: Instant) -> Result<(), ConfigError> {
        config.validate()?;
        self.put_config(config, now);
        Ok(())
    }

    pub(crate) fn put_config(&self, config: BreakerConfig, now: Instant) {
        let change = self.put_config_locked(&mut lock(&self.rare), config, now);
        if let Some(change) = change {
            self.report(&change, now);
        }
    }

    fn put_config_locked(&self, rare: &mut Rare, config: BreakerConfig, now: Instant) -> Option<Change> {
        self.apply_rules(&config, now);
        self.update(|word| word.with_mode(config.mode));
        // A circuit that is open by the old rules does not stay open longer than it could by the new ones.
        let word = Word(self.word.load(Ordering::Acquire));
        let by_hand = TripCause::unpack(self.cause.load(Ordering::Relaxed)) == TripCause::Manual;
        if word.phase() == Phase::Open && !by_hand {
            let opened = Instant::from_nanos(self.opened_at.load(Ordering::Relaxed));
            let latest = (opened + config.open_for.max).as_nanos();
            self.open_until.fetch_min(latest, Ordering::Relaxed);
        }
        rare.config = config;
        if word.phase() == Phase::HalfOpen { self.judge_half_open(rare, now) } else { None }
    }

    /// The state to store for a restart, relative to `now`.
    pub fn snapshot(&self, now: Instant) -> BreakerSnapshot {
        let rare = lock(&self.rare);
        let word = Word(self.word.load(Ordering::Acquire));
        let until = Instant::from_nanos(self.open_until.load(Ordering::Relaxed));
        let opened = Instant::from_nanos(self.opened_at.load(Ordering::Relaxed));
        BreakerSnapshot {
            state: word.phase().state(),
            isolated: word.is_isolated(),
            consecutive_failures: word.streak(),
            openings: rare.openings,
            open_for: until.since(now),
            opened_ago: now.since(opened),
            closed_ago: now.since(rare.closed_at),
            cause: (word.phase() != Phase::Closed)
                .then(|| TripCause::unpack(self.cause.load(Ordering::Relaxed))),
        }
    }

    /// Takes over the state that another process had `age` ago, and reports the change. Calls in flight decide nothing then.
    pub fn follow(&self, theirs: &BreakerSnapshot, age: Duration, now: Instant) {
        let from = self.state();
        self.restore(theirs, age, now);
        let to = self.state();
        let open_for = (to == CircuitState::Open).then(|| theirs.open_for.saturating_sub(age));
        let cause = theirs.cause.filter(|_| to == CircuitState::Open);
        self.report(&Change { from, to, cause, open_for }, now);
    }

    /// Restores a state that was saved `age` ago. The probes of a half-open circuit ended with the process that sent them,
    /// so the circuit is restored as an open one whose time is over.
    pub fn restore(&self, saved: &BreakerSnapshot, age: Duration, now: Instant) {
        let mut rare = lock(&self.rare);
        rare.openings = saved.openings;
        rare.half_open = HalfOpen::default();
        rare.closed_at = back(now, saved.closed_ago.saturating_add(age));
        match saved.state {
            CircuitState::Closed => {
                self.move_to(Phase::Closed);
                let limit = self.consecutive.load(Ordering::Relaxed);
                // Only another failure may open the circuit, not the restore itself.
                let streak = saved.consecutive_failures.min(limit.saturating_sub(1));
                self.update(|word| word.with_streak(streak));
            }
            CircuitState::Open | CircuitState::HalfOpen => {
                let left = match saved.state {
                    CircuitState::HalfOpen => Duration::ZERO,
                    _ => saved.open_for.min(rare.config.open_for.max).saturating_sub(age),
                };
                self.opened_at
                    .store(back(now, saved.opened_ago.saturating_add(age)).as_nanos(), Ordering::Relaxed);
                self.open_until.store((now + left).as_nanos(), Ordering::Relaxed);
                self.cause.store(saved.cause.unwrap_or(TripCause::Manual).pack(), Ordering::Relaxed);
                self.move_to(Phase::Open);
            }
        }
        self.update(|word| word.with_isolated(saved.isolated));
    }
}

fn back(now: Instant, by: Duration) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_sub(crate::random::nanos(by)))
}
