//! Permission of all parts together to make one call.

use std::{fmt, ops::Deref, time::Duration};

use super::{ObservedParts, Pipeline, attempt::Options};
use crate::{
    breaker::{Outcome, Ticket},
    bulkhead::BulkheadPermit,
    clock::Instant,
    limiter::{RateLimiter, Reservation},
    observer::Part,
    refusal::{Refused, Rule},
    shared::Sharing,
    verdict::Verdict,
};

/// Asking other processes takes some time, too. Shorter waits are not reported.
const WAIT_TOLD: Duration = Duration::from_millis(10);

/// What an admitted call holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    ticket: Ticket,
    /// Whether it holds a permit of the bulkhead.
    has_place: bool,
    /// The parts in observe mode that would have interfered; see [`ObservedParts`].
    pub(super) observed: u32,
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
    entry: Entry,
    is_settled: bool,
}

impl<P: Deref<Target = Pipeline>> Admission<P> {
    #[inline]
    pub(super) const fn new(pipeline: P, entry: Entry) -> Self {
        Self { pipeline, entry, is_settled: false }
    }

    /// The pipeline that admitted the call.
    pub const fn service(&self) -> &P {
        &self.pipeline
    }

    /// The parts in observe mode that would have refused the call, or let it wait.
    pub fn observed(&self) -> impl Iterator<Item = Part> + use<P> {
        ObservedParts::of(self.entry.observed)
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
        self.is_settled = true;
        self.pipeline.leave(&self.entry, outcome, now);
    }
}

impl<P: Deref<Target = Pipeline>> Drop for Admission<P> {
    fn drop(&mut self) {
        if !self.is_settled {
            let now = self.pipeline.clock.now();
            self.pipeline.leave(&self.entry, Outcome::Cancelled, now);
        }
    }
}

impl<P: Deref<Target = Pipeline>> fmt::Debug for Admission<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Entry {
    /// When the call was admitted.
    #[inline]
    pub(super) const fn started(self) -> Instant {
        self.ticket.started()
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
        self.check_breaker(now)?;
        if self.sharing.is_some() {
            // Only by waiting for the other processes can it be found out.
            if self.shares_limit() {
                return Err(Refused::new(Rule::RateLimit, None));
            }
            if self.breaker.is_shared_probe(now) {
                return Err(Refused::new(Rule::CircuitHalfOpen, None));
            }
        }
        let taken = Permits::new(&self.limiter, self.limiter.try_reserve(permits, now)?);
        let place = if self.bulkhead.is_on() { Some(self.bulkhead.try_enter()?) } else { None };
        let ticket = self.breaker.enter(now, lease)?;
        Ok(self.entry(ticket, taken, place))
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
        Entry { ticket, has_place, observed: 0 }
    }

    /// What an admitted call holds from now on.
    #[inline]
    fn entry(&self, ticket: Ticket, taken: Permits<'_>, place: Option<BulkheadPermit<'_>>) -> Entry {
        let mut observed = 0;
        if ticket.is_inert() && self.breaker.observes() {
            observed |= ObservedParts::bit(Part::Breaker);
        }
        if taken.is_nothing() && self.limiter.observes() {
            observed |= ObservedParts::bit(Part::Limiter);
        }
        taken.keep();
        let has_place = place.is_some();
        if let Some(place) = place {
            if place.is_observed() {
                observed |= ObservedParts::bit(Part::Bulkhead);
            }
            place.keep();
        }
        Entry { ticket, has_place, observed }
    }

    /// Admission by parts of which none refuses, waits or probes: the common case, which needs no future of its own. `None`
    /// when only [`enter`](Self::enter) can tell; nothing is taken or reported then.
    #[expect(
        clippy::inline_always,
        reason = "returned through memory, an entry is felt by a call that is ready at once"
    )]
    #[inline(always)]
    pub(super) fn enter_at_once(&self, options: &Options, now: Instant) -> Option<Entry> {
        if options.deadline.is_some_and(|deadline| now >= deadline) {
            return None;
        }
        // A circuit that opens from here on belongs to another generation, so what this call reports does not count.
        let ticket = self.breaker.enter_plain(now)?;
        if self.shares_limit() {
            return None;
        }
        let taken = Permits::new(&self.limiter, self.limiter.grab(options.permits, now).ok()?);
        let place = if self.bulkhead.is_on() { Some(self.bulkhead.grab()?) } else { None };
        Some(self.entry(ticket, taken, place))
    }

    #[inline]
    fn shares_limit(&self) -> bool {
        self.sharing.as_ref().is_some_and(Sharing::has_limit)
    }

    /// How long a probe keeps its slot.
    fn lease(&self, options: &Options, now: Instant) -> Option<Duration> {
        options.lease.or_else(|| self.limit_of(options, now).0)
    }

    /// Requests admission by every part, waiting for permits until the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future returns everything that was taken.
    pub(super) async fn enter(&self, options: &Options, mut now: Instant) -> Result<Entry, Refused> {
        let Options { permits, deadline, permit_by, .. } = *options;
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Refused::new(Rule::Deadline, None));
        }
        self.check_breaker(now)?;
        let permit_by = [deadline, permit_by].into_iter().flatten().min();
        if let Some(sharing) = self.sharing.as_ref().filter(|_| self.breaker.is_shared_probe(now)) {
            let lease = self.lease(options, now).unwrap_or_else(|| self.breaker.config().probe_lease);
            if !sharing.with.may_probe(self.name(), lease).await {
                let refused = Refused::new(Rule::CircuitHalfOpen, None);
                self.reporter.emit(|service| crate::Event::Refused {
                    service,
                    refused: &refused,
                    enforced: true,
                });
                return Err(refused);
            }
            now = self.clock.now();
            self.check_breaker(now)?;
        }
        let (taken, waited) = self.limiter.reserve(permits, left(permit_by, now), now).await?;
        let taken = Permits::new(&self.limiter, taken);
        if !waited.is_zero() {
            now = self.clock.now();
        }
        if let Some((sharing, config)) =
            self.sharing.as_ref().and_then(|sharing| Some((sharing, sharing.limit()?)))
            && !taken.is_nothing()
        {
            let longest = [left(permit_by, now), config.max_wait.map(|most| most.saturating_sub(waited))];
            let longest = longest.into_iter().flatten().min();
            let began = now;
            sharing.with.take(self.name(), config, permits, longest).await.inspect_err(|refused| {
                self.reporter.emit(|service| crate::Event::Refused { service, refused, enforced: true });
            })?;
            now = self.clock.now();
            let waited = now.since(began);
            if waited >= WAIT_TOLD {
                self.reporter.emit(|service| crate::Event::Waited {
                    service,
                    on: crate::WaitFor::RateLimiter,
                    waited,
                });
            }
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
        let ticket = self.breaker.enter_for(now, || self.lease(options, now))?;
        Ok(self.entry(ticket, taken, place))
    }

    /// Whether the breaker would refuse a call at `now`, without taking anything. A refusal is reported to the observer.
    ///
    /// # Errors
    /// [`Refused`] while the circuit admits no calls.
    #[inline]
    pub fn check_breaker(&self, now: Instant) -> Result<(), Refused> {
        self.breaker.peek(now).inspect_err(|refused| {
            self.reporter.emit(|service| crate::Event::Refused { service, refused, enforced: true });
        })
    }

    #[inline]
    fn leave(&self, entry: &Entry, outcome: Outcome, now: Instant) {
        if entry.has_place {
            self.bulkhead.free();
        }
        self.breaker.settle(&entry.ticket, outcome, now);
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

    fn is_nothing(&self) -> bool {
        self.taken.as_ref().is_some_and(Reservation::is_nothing)
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
