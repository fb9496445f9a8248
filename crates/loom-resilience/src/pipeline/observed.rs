//! What the parts in observe mode would have done to one attempt, for callers that record it with the attempt.

use super::Pipeline;
use crate::{
    observer::Part,
    sync::{AtomicU32, Ordering},
};

/// Collects the parts in observe mode that would have interfered with an attempt: refused it, let it wait, or cut it off. Pass
/// it to [`Attempt::observing`](crate::Attempt::observing).
///
/// The parts are added as the attempt proceeds: those that would have refused it before its work begins, the attempt timeout
/// when it ends. An [`Observer`](crate::Observer) receives the same events, for all calls of a service.
///
/// ```
/// # use loom_resilience::{AllTransient, BreakerConfig, Mode, ObservedParts, Part, Policy, Service};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = BreakerConfig::new().failure_threshold(1).mode(Mode::Observe);
/// let service = Service::standalone("billing", Policy::none().breaker(breaker))?;
/// let observed = ObservedParts::default();
/// for _ in 0..2 {
///     let attempt = service.attempt().classify(AllTransient).observing(&observed);
///     assert!(attempt.run(|| async { Err::<(), _>(std::io::Error::other("503")) }).await.is_err());
/// }
/// assert_eq!(observed.iter().collect::<Vec<_>>(), [Part::Breaker], "the second would have been refused");
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct ObservedParts(AtomicU32);

/// The parts that one attempt may meet, from the outside in.
const PARTS: [Part; 4] = [Part::Breaker, Part::Limiter, Part::Bulkhead, Part::AttemptTimeout];

impl ObservedParts {
    /// The parts so far, from the outside in.
    pub fn iter(&self) -> impl Iterator<Item = Part> + use<> {
        Self::of(self.0.load(Ordering::Relaxed))
    }

    pub(super) const fn bit(part: Part) -> u32 {
        1 << part as u32
    }

    pub(super) fn of(bits: u32) -> impl Iterator<Item = Part> {
        PARTS.into_iter().filter(move |part| bits & Self::bit(*part) != 0)
    }

    fn add(&self, bits: u32) {
        self.0.fetch_or(bits, Ordering::Relaxed);
    }
}

impl Pipeline {
    /// Passes on what an attempt has met.
    #[inline]
    pub(super) fn pass_on(observed: Option<&ObservedParts>, bits: u32) {
        if bits != 0
            && let Some(observed) = observed
        {
            observed.add(bits);
        }
    }
}
