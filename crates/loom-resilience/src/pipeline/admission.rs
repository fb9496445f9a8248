//! Leave to make one call, given by every part together.

use std::{fmt, ops::Deref, time::Duration};

use super::{Pipeline, attempt::Options};
use crate::{
    breaker::{Outcome, Ticket},
    clock::Moment,
    limiter::RateLimiter,
    refusal::{Refused, Rule},
    verdict::Verdict,
};

/// What the parts gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    ticket: Ticket,
    /// When the call may start.
    pub(super) at: Moment,
    /// Whether a place in the bulkhead is held.
    has_place: bool,
}

/// Leave to make one call. Say how it ended with one of the verbs.
///
/// Dropping the guard reports the call as cancelled: the bulkhead's place and a probe's place are free again, and the
/// circuit counts nothing, unless the call ran long enough to be slow. A permit of the limiter stays spent.
#[must_use = "dropping the admission reports the call as cancelled"]
pub struct Admission<P: Deref<Target = Pipeline>> {
    pipeline: P,
    entry: Option<Entry>,
}

impl<P: Deref<Target = Pipeline>> Admission<P> {
    #[inline]
    pub(super) const fn new(pipeline: P, entry: Entry) -> Self {
        Self { pipeline, entry: Some(entry) }
    }

    /// The call worked.
    #[inline]
    pub fn success(self, now: Moment) {
        self.report(Outcome::Success, now);
    }

    /// The service failed.
    #[inline]
    pub fn failure(self, now: Moment) {
        self.report(Outcome::Failure, now);
    }

    /// The service said no, in time: it is alive.
    #[inline]
    pub fn answered(self, now: Moment) {
        self.report(Outcome::Success, now);
    }

    /// Reports a verdict.
    #[inline]
    pub fn settle(self, verdict: Verdict, now: Moment) {
        self.report(verdict.into(), now);
    }

    #[inline]
    fn report(mut self, outcome: Outcome, now: Moment) {
        if let Some(entry) = self.entry.take() {
            self.pipeline.leave(entry, outcome, now);
        }
    }
}

impl<P: Deref<Target = Pipeline>> Drop for Admission<P> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let now = self.pipeline.clock.now();
            self.pipeline.leave(entry, Outcome::Cancelled, now);
        }
    }
}

impl<P: Deref<Target = Pipeline>> fmt::Debug for Admission<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Asks every part without waiting. `lease` is the time that the call may take, where it is known.
    #[inline]
    pub(super) fn enter_now(
        &self,
        permits: u32,
        lease: Option<Duration>,
        now: Moment,
    ) -> Result<Entry, Refused> {
        self.ask_breaker(now)?;
        self.limiter.try_take(permits, now)?;
        let taken = Taken::new(&self.limiter, permits);
        let place = if self.bulkhead.is_on() { Some(self.bulkhead.try_enter()?) } else { None };
        let ticket = self.breaker.enter(now, lease)?;
        taken.keep();
        let has_place = place.map(crate::bulkhead::BulkheadPermit::keep).is_some();
        Ok(Entry { ticket, at: now, has_place })
    }

    /// Asks every part, waiting for a permit and a place until the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future gives back all that was taken.
    pub(super) async fn enter(&self, options: Options, mut now: Moment) -> Result<Entry, Refused> {
        let Options { permits, deadline, permit_by, .. } = options;
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Refused::new(Rule::Deadline, None));
        }
        self.ask_breaker(now)?;
        let permit_by = [deadline, permit_by].into_iter().flatten().min();
        let waited = self.limiter.take_at(permits, left(permit_by, now), now).await?;
        let taken = Taken::new(&self.limiter, permits);
        if !waited.is_zero() {
            now = self.clock.now();
        }
        let place = if self.bulkhead.is_on() {
            let (place, waited) = self.bulkhead.enter(left(deadline, now)).await?;
            if !waited.is_zero() {
                now = self.clock.now();
            }
            Some(place)
        } else {
            None
        };
        let lease = options.lease.or_else(|| self.limit_of(options, now).0);
        let ticket = self.breaker.enter(now, lease)?;
        taken.keep();
        let has_place = place.map(crate::bulkhead::BulkheadPermit::keep).is_some();
        Ok(Entry { ticket, at: now, has_place })
    }

    /// Asks the breaker without taking anything from it, for whoever has to decide before other parts are asked. The
    /// observer hears of a refusal as of any other.
    ///
    /// # Errors
    /// [`Refused`] while the circuit lets no calls through.
    #[inline]
    pub fn ask_breaker(&self, now: Moment) -> Result<(), Refused> {
        self.breaker.peek(now).inspect_err(|refused| {
            self.voice.say(|service| crate::Event::Refused { service, refused, enforced: true });
        })
    }

    #[inline]
    pub(super) fn leave(&self, entry: Entry, outcome: Outcome, now: Moment) {
        if entry.has_place {
            self.bulkhead.free();
        }
        self.breaker.settle(entry.ticket, outcome, now);
    }
}

fn left(deadline: Option<Moment>, now: Moment) -> Option<Duration> {
    deadline.map(|deadline| deadline.since(now))
}

/// Permits that go back unless the call is made: a provider counts only what it sees.
struct Taken<'a> {
    limiter: Option<&'a RateLimiter>,
    permits: u32,
}

impl<'a> Taken<'a> {
    const fn new(limiter: &'a RateLimiter, permits: u32) -> Self {
        Self { limiter: Some(limiter), permits }
    }

    fn keep(mut self) {
        self.limiter = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(limiter) = self.limiter {
            limiter.give_back(self.permits);
        }
    }
}
