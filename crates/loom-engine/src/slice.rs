//! How long a run makes decisions before others have their turn.

use std::time::Duration;

use crate::{patience::UNLIMITED, ports::Stopwatch};

/// The length of a slice on a thread of the runtime.
const SLICE: Duration = Duration::from_millis(2);

/// The length of a slice on a thread of the pool.
const LONG_SLICE: Duration = Duration::from_millis(20);

/// The steps that one decision may take on a thread of the runtime: half a millisecond to one millisecond.
pub(crate) const STEPS: u64 = 10_000;

/// The clock is read after so many steps. A decision counts as some steps of its own.
const STEPS_BETWEEN_READS: u64 = 1_024;
const STEPS_OF_DECISION: u64 = 64;

/// The most decisions in one slice, in case the clock does not advance.
const DECISIONS_MAX: u32 = 8_192;

/// Says after each decision whether another one may follow.
pub(crate) trait Pace {
    /// The steps that one decision may take.
    fn patience(&self) -> u64;

    /// Whether another decision may follow one that took so many steps. `events` have not been taken yet.
    fn goes_on(&mut self, steps: u64, events: usize) -> bool;
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// Nothing is ready, or the run lacks secrets.
    Idle,
    /// More work is ready.
    More,
    /// The next decision takes long.
    Long,
}

/// A limit on the events that have not been taken; a decision takes as long as it takes.
pub(crate) struct EventsUntil(pub(crate) usize);

impl Pace for EventsUntil {
    fn patience(&self) -> u64 {
        UNLIMITED
    }

    fn goes_on(&mut self, _: u64, events: usize) -> bool {
        events < self.0
    }
}

/// A slice of time.
pub(crate) struct Slice<'a> {
    stopwatch: &'a dyn Stopwatch,
    until: Duration,
    patience: u64,
    unread: u64,
    decisions: u32,
    is_over: bool,
    was_long: bool,
}

impl<'a> Slice<'a> {
    /// A slice on a thread of the runtime.
    pub(crate) fn short(stopwatch: &'a dyn Stopwatch) -> Slice<'a> {
        Slice::of(stopwatch, SLICE, STEPS)
    }

    /// A slice on a thread of the pool.
    pub(crate) fn long(stopwatch: &'a dyn Stopwatch) -> Slice<'a> {
        Slice::of(stopwatch, LONG_SLICE, UNLIMITED)
    }

    /// The same, for decisions about commands only: what happens is recorded, and nothing follows from it yet.
    pub(crate) fn for_commands(self) -> Slice<'a> {
        Slice { is_over: true, ..self }
    }

    fn of(stopwatch: &'a dyn Stopwatch, length: Duration, patience: u64) -> Slice<'a> {
        let until = stopwatch.elapsed().saturating_add(length);
        Slice { stopwatch, until, patience, unread: 0, decisions: 0, is_over: false, was_long: false }
    }

    /// Whether one of its decisions would have been too long for a thread of the runtime.
    pub(crate) fn was_long(&self) -> bool {
        self.was_long
    }
}

impl Pace for Slice<'_> {
    fn patience(&self) -> u64 {
        self.patience
    }

    fn goes_on(&mut self, steps: u64, _: usize) -> bool {
        if self.is_over {
            return false;
        }
        self.was_long |= steps >= STEPS;
        self.unread = self.unread.saturating_add(steps.saturating_add(STEPS_OF_DECISION));
        if self.unread >= STEPS_BETWEEN_READS {
            self.unread = 0;
            self.is_over = self.stopwatch.elapsed() >= self.until;
        }
        self.decisions += 1;
        self.is_over |= self.decisions > DECISIONS_MAX;
        !self.is_over
    }
}

#[cfg(test)]
mod tests;
