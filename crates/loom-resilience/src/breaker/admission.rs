//! The guard of an admitted call.

use std::{fmt, ops::Deref};

use super::CircuitBreaker;
use crate::{clock::Moment, verdict::Verdict};

/// What a call told the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Cancelled,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            // A "no" in time proves the service alive as well as a "yes".
            Verdict::Ok | Verdict::Answered => Self::Success,
            Verdict::Transient | Verdict::NotSent | Verdict::Throttled { .. } => Self::Failure,
            Verdict::Cancelled => Self::Cancelled,
        }
    }
}

/// The stamp of one admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(super) generation: u32,
    /// Number of the probe's lease; 0 for a call through a closed circuit.
    pub(super) lease: u32,
    pub(super) started: Moment,
}

/// No circuit is ever of this generation at the time of an inert ticket; see [`Ticket::is_inert`].
const INERT_LEASE: u32 = u32::MAX;

impl Ticket {
    #[inline]
    pub(super) const fn plain(generation: u32, started: Moment) -> Self {
        Self { generation, lease: 0, started }
    }

    pub(super) const fn probe(generation: u32, started: Moment, lease: u32) -> Self {
        Self { generation, lease, started }
    }

    /// A ticket whose report decides nothing: the part is off or only observes.
    pub(crate) const fn inert(started: Moment) -> Self {
        Self { generation: 0, lease: INERT_LEASE, started }
    }

    #[inline]
    pub(super) const fn is_inert(self) -> bool {
        self.lease == INERT_LEASE
    }

    #[inline]
    pub(super) const fn is_probe(self) -> bool {
        self.lease != 0
    }
}

/// Leave to make one call, stamped with the generation of the circuit.
///
/// Say how the call ended with one of the verbs. Dropping the guard means the call was cancelled: that counts as
/// nothing, unless it had run long enough to be slow; a probe's place is free again in any case.
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

    /// The service said no, in time: it is alive, which is a success here.
    #[inline]
    pub fn answered(self, now: Moment) {
        self.report(Outcome::Success, now);
    }

    /// Reports a verdict.
    #[inline]
    pub fn settle(self, verdict: Verdict, now: Moment) {
        self.report(verdict.into(), now);
    }

    /// Whether this call is a probe of a half-open circuit.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_some_and(|ticket| ticket.is_probe() && !ticket.is_inert())
    }

    #[inline]
    fn report(mut self, outcome: Outcome, now: Moment) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, outcome, now);
        }
    }
}

impl<B: Deref<Target = CircuitBreaker>> Drop for BreakerAdmission<B> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.breaker.clock.now();
            self.breaker.settle(ticket, Outcome::Cancelled, now);
        }
    }
}

impl<B: Deref<Target = CircuitBreaker>> fmt::Debug for BreakerAdmission<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerAdmission").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
