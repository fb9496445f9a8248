//! The guard of an admitted call.

use std::{fmt, ops::Deref};

use super::CircuitBreaker;
use crate::{clock::Instant, verdict::Verdict};

/// The outcome of a call, as the circuit counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Cancelled,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            // A rejection in time shows that the service is healthy.
            Verdict::Ok | Verdict::Rejected => Self::Success,
            Verdict::Transient | Verdict::NotSent | Verdict::Throttled { .. } => Self::Failure,
            Verdict::Cancelled => Self::Cancelled,
        }
    }
}

/// Identifies one admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(super) generation: u32,
    /// The number of the probe's lease; 0 for a call through a closed circuit.
    pub(super) lease: u32,
    pub(super) started: Instant,
}

/// The lease of an inert ticket; see [`Ticket::inert`].
const INERT_LEASE: u32 = u32::MAX;

impl Ticket {
    #[inline]
    pub(super) const fn plain(generation: u32, started: Instant) -> Self {
        Self { generation, lease: 0, started }
    }

    pub(super) const fn probe(generation: u32, started: Instant, lease: u32) -> Self {
        Self { generation, lease, started }
    }

    /// A ticket whose outcome is not counted: the breaker is off, or it let the call pass only because it observes.
    pub(crate) const fn inert(started: Instant) -> Self {
        Self { generation: 0, lease: INERT_LEASE, started }
    }

    /// When the call was admitted.
    #[inline]
    pub(crate) const fn started(self) -> Instant {
        self.started
    }

    #[inline]
    pub(crate) const fn is_inert(self) -> bool {
        self.lease == INERT_LEASE
    }

    #[inline]
    pub(super) const fn is_probe(self) -> bool {
        self.lease != 0
    }
}

/// Permission to make one call, stamped with the generation of the circuit.
///
/// Report the outcome with one of the methods. Dropping the guard reports a cancelled call, which counts only if it had
/// run long enough to be slow. The slot of a probe is released in every case.
#[must_use = "dropping the admission reports the call as cancelled"]
pub struct BreakerAdmission<B: Deref<Target = CircuitBreaker>> {
    breaker: B,
    ticket: Option<Ticket>,
}

impl<B: Deref<Target = CircuitBreaker>> BreakerAdmission<B> {
    #[inline]
    pub(super) const fn new(breaker: B, ticket: Ticket) -> Self {
        Self { breaker, ticket: Some(ticket) }
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

    /// Reports that the service rejected the request. It is healthy, so the circuit counts a success.
    #[inline]
    pub fn rejected(self, now: Instant) {
        self.report(Outcome::Success, now);
    }

    /// Reports a [`Verdict`].
    #[inline]
    pub fn settle(self, verdict: Verdict, now: Instant) {
        self.report(verdict.into(), now);
    }

    /// Whether this call is a probe of a half-open circuit.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_some_and(|ticket| ticket.is_probe() && !ticket.is_inert())
    }

    #[inline]
    fn report(mut self, outcome: Outcome, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(&ticket, outcome, now);
        }
    }
}

impl<B: Deref<Target = CircuitBreaker>> Drop for BreakerAdmission<B> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.breaker.clock.now();
            self.breaker.settle(&ticket, Outcome::Cancelled, now);
        }
    }
}

impl<B: Deref<Target = CircuitBreaker>> fmt::Debug for BreakerAdmission<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerAdmission").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
