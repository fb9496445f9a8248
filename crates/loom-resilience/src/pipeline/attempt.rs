//! One guarded attempt, for callers that do retries themselves, such as an engine with durable timers.

use std::{fmt, future::Future, pin::pin, task::Poll, time::Duration};

use super::{Admission, ObservedParts, Pipeline};
use crate::{
    breaker::Mode,
    clock::{Instant, poll_once},
    observer::{Event, Part},
    refusal::{Refusal, Refused},
    timeout::TimedOut,
    verdict::{ByError, Classifier, Verdict},
};

/// One guarded attempt that has not started; see [`Pipeline::attempt`].
///
/// ```
/// # use loom_resilience::{AllTransient, AttemptError, Policy, Service};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy::none().attempt_timeout(Duration::from_millis(5));
/// let service = Service::standalone("billing", policy)?;
/// let slow = || std::future::pending::<Result<(), std::io::Error>>();
/// let error = service.attempt().classify(AllTransient).run(slow).await.unwrap_err();
/// assert!(matches!(error, AttemptError::TimedOut(_)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an attempt does nothing until it is run"]
pub struct Attempt<'a, J = ByError> {
    pipeline: &'a Pipeline,
    classifier: J,
    options: Options,
    observed: Option<&'a ObservedParts>,
}

/// The options of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) permits: u32,
    pub(super) deadline: Option<Instant>,
    /// Overrides the attempt timeout of the policy and its mode.
    pub(super) timeout: Option<(Duration, Mode)>,
    pub(super) number: u32,
    /// Bounds only the wait for a permit.
    pub(super) permit_by: Option<Instant>,
    /// How long a probe keeps its slot, instead of what the timeouts say.
    pub(super) lease: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { permits: 1, deadline: None, timeout: None, number: 1, permit_by: None, lease: None }
    }
}

/// How a guarded attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptError<E> {
    /// One of our own parts refused it; the service was not called.
    Refused(Refusal),
    /// It timed out, and the call was dropped.
    TimedOut(TimedOut),
    /// The call failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for AttemptError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::TimedOut(timed_out) => timed_out.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AttemptError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_) | Self::TimedOut(_) => None,
            Self::Failed(error) => error.source(),
        }
    }
}

/// The outcome of one attempt, with its verdict.
pub(super) enum Ended<T, E> {
    Done(Result<T, E>, Verdict),
    /// The timeout, and whether it was the deadline of the whole call rather than the attempt timeout.
    TimedOut {
        after: Duration,
        by_deadline: bool,
    },
    Refused(Refused),
}

impl Pipeline {
    /// One guarded attempt, without retries: breaker check, rate limiter, bulkhead, breaker admission, and the attempt
    /// timeout around the call.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { pipeline: self, classifier: ByError, options: Options::default(), observed: None }
    }
}

impl<'a, J> Attempt<'a, J> {
    /// Classifies results by `classifier`, instead of by the [`Classify`](crate::Classify) of the error.
    pub fn classify<K>(self, classifier: K) -> Attempt<'a, K> {
        Attempt { pipeline: self.pipeline, classifier, options: self.options, observed: self.observed }
    }

    /// Collects the parts in observe mode that would have interfered with this attempt.
    pub const fn observing(mut self, observed: &'a ObservedParts) -> Self {
        self.observed = Some(observed);
        self
    }

    /// The permits of the rate limiter that it takes. 1 unless set.
    pub const fn permits(mut self, permits: u32) -> Self {
        self.options.permits = permits;
        self
    }

    /// The instant after which it neither waits nor runs.
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// The attempt timeout, instead of that of the policy.
    pub const fn timeout(self, limit: Duration) -> Self {
        self.timeout_in(limit, Mode::Enforce)
    }

    /// The attempt timeout and its mode, instead of those of the policy.
    pub const fn timeout_in(mut self, limit: Duration, mode: Mode) -> Self {
        self.options.timeout = Some((limit, mode));
        self
    }

    /// For a caller that enforces a timeout itself, by dropping the future or by ending the work: `limit`, counted from
    /// `started`. The attempt is not cut off here, so no second timer competes with the caller's. A permit that cannot be
    /// available in time is refused at once, and a probe of a half-open circuit keeps its slot for that long.
    pub const fn limited_by_caller(mut self, started: Instant, limit: Duration) -> Self {
        self.options.permit_by = Some(started.after(limit));
        self.options.lease = Some(limit);
        self
    }

    /// The number of this attempt, for observers. 1 unless set.
    pub const fn number(mut self, number: u32) -> Self {
        self.options.number = number;
        self
    }

    /// Makes the attempt. `work` is called only after every part has admitted it.
    ///
    /// # Errors
    /// See [`AttemptError`]. A value with a verdict other than [`Verdict::Ok`] is still returned as a value.
    ///
    /// # Cancel safety
    /// Dropping the future returns what was taken and drops the call. The circuit counts it only if it was slow.
    pub async fn run<T, E, F, Fut>(self, work: F) -> Result<T, AttemptError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        let now = self.pipeline.clock.now();
        let guarded = self.pipeline.guarded(&self.options, now, self.observed, &self.classifier, |_| work());
        let (ended, _) = guarded.await;
        match ended {
            Ended::Done(result, _) => result.map_err(AttemptError::Failed),
            Ended::TimedOut { after, .. } => Err(AttemptError::TimedOut(TimedOut { after })),
            Ended::Refused(refused) => Err(AttemptError::Refused(refused.by(self.pipeline.name()))),
        }
    }
}

impl Pipeline {
    /// One guarded attempt that starts at `now`. Returns its outcome, and when it ended.
    pub(super) async fn guarded<T, E, F, Fut, J>(
        &self,
        options: &Options,
        now: Instant,
        parts: Option<&ObservedParts>,
        classifier: &J,
        work: F,
    ) -> (Ended<T, E>, Instant)
    where
        F: FnOnce(Instant) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        let entered = match self.enter_at_once(options, now) {
            Some(entry) => Ok(entry),
            None => self.enter(options, now).await,
        };
        let entry = match entered {
            Ok(entry) => entry,
            Err(refused) => return (Ended::Refused(refused), self.clock.now()),
        };
        Self::pass_on(parts, entry.observed);
        let started = entry.started();
        let admission = Admission::new(self, entry);
        let (limit, by_deadline) = self.limit_of(options, started);
        // As `Clock::limit` does it, without a future of its own. The block drops the work before its outcome is reported.
        let (output, was_pending) = {
            let mut work = pin!(work(started));
            match poll_once(work.as_mut()).await {
                Poll::Ready(output) => (Some(output), false),
                Poll::Pending => (self.clock.limit_pending(limit, work).await, true),
            }
        };
        // A call that was ready at once took no time worth reading the clock, unless its duration is used.
        let exact = was_pending || self.reporter.is_enabled() || self.breaker.measures_time();
        let end = if exact { self.clock.now() } else { started };
        let observed = match options.timeout {
            Some((limit, Mode::Observe)) => Some(limit),
            Some((_, Mode::Enforce | Mode::Off)) => None,
            None => super::limit(&self.attempt_observed),
        };
        if let Some(observed) = observed
            && end.since(started) >= observed
        {
            Self::pass_on(parts, ObservedParts::bit(Part::AttemptTimeout));
            self.observed(Part::AttemptTimeout);
        }
        let (ended, verdict) = if let Some(result) = output {
            let verdict = classifier.classify(&result);
            (Ended::Done(result, verdict), verdict)
        } else {
            let after = limit.unwrap_or_default();
            // When the whole call ran out of time, its last attempt may have had too little of it, which says nothing
            // about the service. It still counts as slow if it was.
            let verdict = if by_deadline { Verdict::Cancelled } else { Verdict::Transient };
            (Ended::TimedOut { after, by_deadline }, verdict)
        };
        admission.settle(verdict, end);
        self.reporter.emit(|service| Event::Attempt {
            service,
            number: options.number,
            verdict,
            took: end.since(started),
            timed_out: matches!(ended, Ended::TimedOut { .. }),
        });
        (ended, end)
    }

    /// The timeout of an attempt that starts at `started`, and whether the deadline of the call shortens it.
    #[inline]
    pub(super) fn limit_of(&self, options: &Options, started: Instant) -> (Option<Duration>, bool) {
        let own = match options.timeout {
            Some((limit, Mode::Enforce)) => Some(limit),
            Some((_, Mode::Observe | Mode::Off)) => None,
            None => self.attempt_limit(),
        };
        let left = options.deadline.map(|deadline| deadline.since(started));
        match (own, left) {
            (Some(own), Some(left)) if left < own => (Some(left), true),
            (Some(own), _) => (Some(own), false),
            // Without a timeout of its own, the attempt has all the time that is left.
            (None, left) => (left, false),
        }
    }
}
