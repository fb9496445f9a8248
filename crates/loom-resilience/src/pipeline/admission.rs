//! Permission of all parts together to make one call.

use std::{fmt, ops::Deref, time::Duration};

use super::{Pipeline, attempt::Options};
use crate::{
    breaker::{Outcome, Ticket},
    clock::Instant,
    limiter::{RateLimiter, Reservation},
    refusal::{Refused, Rule},
    verdict::Verdict,
};

/// What an admitted call holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    ticket: Ticket,
    /// When the call may start.
    pub(super) at: Instant,
    /// Whether it holds a permit of the bulkhead.
    has_place: bool,
}

/// Permission to make one call. Report the outcome with one of the methods.
///
/// Dropping the guard reports a cancelled call: the permit of the bulkhead and the slot of a probe are released, and the
/// circuit counts nothing unless the call ran long enough to be slow. The permit of the limiter stays spent.
///
/// ```
/// # use loom_resilience::{Policy, Service, Verdict};
/// let service = Service::standalone("billing", Policy::standard())?;
/// let admission = service.try_admit(service.clock().now())?;
/// // … make the call, then:
/// admission.settle(Verdict::Transient, service.clock().now());
/// assert_eq!(service.status().breaker.consecutive_failures, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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

    /// Reports that the call succeeded.
    #[inline]
    pub fn success(self, now: Instant) {
        self.report(Outcome::Success, now);
    }

    /// Reports that the service failed.
    #[inline]
    pub fn failure(self, now: Instant) {
        self.report(Outcome::Failure, now);
    }

    /// Reports that the service rejected the request; it is healthy.
    #[inline]
    pub fn rejected(self, now: Instant) {
        self.report(Outcome::Success, now);
    }

    /// Reports a [`Verdict`].
    #[inline]
    pub fn settle(self, verdict: Verdict, now: Instant) {
        self.report(verdict.into(), now);
    }

    #[inline]
    fn report(mut self, outcome: Outcome, now: Instant) {
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
    /// Requests admission by every part, without waiting. `lease` is how long the call may take, where that is known.
    #[inline]
    pub(super) fn enter_now(
        &self,
        permits: u32,
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<Entry, Refused> {
        self.ask_breaker(now)?;
        let taken = Permits::new(&self.limiter, self.limiter.try_reserve(permits, now)?);
        let place = if self.bulkhead.is_on() { Some(self.bulkhead.try_enter()?) } else { None };
        let ticket = self.breaker.enter(now, lease)?;
        taken.keep();
        let has_place = place.map(crate::bulkhead::BulkheadPermit::keep).is_some();
        Ok(Entry { ticket, at: now, has_place })
    }

    /// Takes what work in progress holds, whether or not there is room.
    pub(super) fn enter_again(&self, lease: Option<Duration>, now: Instant) -> Entry {
        let has_place = self.bulkhead.is_on();
        if has_place {
            self.bulkhead.enter_again().keep();
        }
        let ticket = match self.breaker.peek(now) {
            Ok(()) => self.breaker.enter(now, lease).unwrap_or_else(|_| Ticket::inert(now)),
            Err(_) => Ticket::inert(now),
        };
        Entry { ticket, at: now, has_place }
    }

    /// Requests admission by every part, waiting for permits until the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future returns everything that was taken.
    pub(super) async fn enter(&self, options: Options, mut now: Instant) -> Result<Entry, Refused> {
        let Options { permits, deadline, permit_by, .. } = options;
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Refused::new(Rule::Deadline, None));
        }
        self.ask_breaker(now)?;
        let permit_by = [deadline, permit_by].into_iter().flatten().min();
        let (taken, waited) = self.limiter.reserve(permits, left(permit_by, now), now).await?;
        let taken = Permits::new(&self.limiter, taken);
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

    /// Whether the breaker would refuse a call at `now`, without taking anything. A refusal is reported to the observer.
    ///
    /// # Errors
    /// [`Refused`] while the circuit admits no calls.
    #[inline]
    pub fn ask_breaker(&self, now: Instant) -> Result<(), Refused> {
        self.breaker.peek(now).inspect_err(|refused| {
            self.reporter.emit(|service| crate::Event::Refused { service, refused, enforced: true });
        })
    }

    #[inline]
    pub(super) fn leave(&self, entry: Entry, outcome: Outcome, now: Instant) {
        if entry.has_place {
            self.bulkhead.free();
        }
        self.breaker.settle(entry.ticket, outcome, now);
    }
}

fn left(deadline: Option<Instant>, now: Instant) -> Option<Duration> {
    deadline.map(|deadline| deadline.since(now))
}

/// Permits that are returned unless the call is made, because the service counts only the calls that it receives.
struct Permits<'a> {
    limiter: &'a RateLimiter,
    taken: Option<Reservation>,
}

impl<'a> Permits<'a> {
    const fn new(limiter: &'a RateLimiter, taken: Reservation) -> Self {
        Self { limiter, taken: Some(taken) }
    }

    fn keep(mut self) {
        self.taken = None;
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.limiter.cancel(taken);
        }
    }
}
