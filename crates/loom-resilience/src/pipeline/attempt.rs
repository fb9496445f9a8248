//! One guarded attempt: for those who keep retries themselves, such as an engine with durable timers.

use std::{fmt, future::Future, time::Duration};

use super::{Admission, Pipeline};
use crate::{
    clock::Moment,
    observer::Event,
    refusal::{Refusal, Refused},
    timeout::TimedOut,
    verdict::{ByError, Classifier, Verdict},
};

/// One guarded attempt, about to be made; see [`Pipeline::attempt`].
#[derive(Clone, Debug)]
#[must_use = "an attempt does nothing until it is run"]
pub struct Attempt<'a, J = ByError> {
    pipeline: &'a Pipeline,
    classifier: J,
    options: Options,
}

/// What a caller may say about one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) permits: u32,
    pub(super) deadline: Option<Moment>,
    /// Overrides the policy's limit.
    pub(super) timeout: Option<Duration>,
    pub(super) number: u32,
    /// Bounds the wait for a permit alone.
    pub(super) permit_by: Option<Moment>,
    /// How long a probe may keep its place, instead of what the limits above say.
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
    /// One of our own parts did not let it through; the service was not called.
    Refused(Refusal),
    /// Its time ran out, and the call was dropped.
    TimedOut(TimedOut),
    /// The call itself failed.
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

/// How one attempt ended, with its verdict.
pub(super) enum Ended<T, E> {
    Done(Result<T, E>, Verdict),
    /// The limit, and whether it was the whole call's rather than the attempt's.
    TimedOut {
        after: Duration,
        by_deadline: bool,
    },
    Refused(Refused),
}

impl Pipeline {
    /// One guarded attempt, without retries: breaker asked, limiter waits, bulkhead, breaker admits, attempt limit
    /// around the call.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { pipeline: self, classifier: ByError, options: Options::default() }
    }
}

impl<'a, J> Attempt<'a, J> {
    /// Classifies results by `classifier` instead of by the error's [`Classify`](crate::Classify).
    pub fn classify<K>(self, classifier: K) -> Attempt<'a, K> {
        Attempt { pipeline: self.pipeline, classifier, options: self.options }
    }

    /// How many permits of the limiter it takes; 1 unless said otherwise.
    pub const fn permits(mut self, permits: u32) -> Self {
        self.options.permits = permits;
        self
    }

    /// Neither waits nor runs past this moment.
    pub const fn deadline(mut self, deadline: Moment) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// How long the call may take, instead of what the policy says.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// The time that a caller gives the attempt who keeps the limit itself, by dropping the future or by ending the
    /// work. Nothing is cut off here after it, so no second clock competes with the caller's. A permit that cannot be
    /// there in time is refused at once, and a probe of a half-open circuit keeps its place for that long.
    pub const fn limited_by_caller(mut self, started: Moment, limit: Duration) -> Self {
        self.options.permit_by = Some(started.after(limit));
        self.options.lease = Some(limit);
        self
    }

    /// The number of this attempt, for observers; 1 unless said otherwise.
    pub const fn number(mut self, number: u32) -> Self {
        self.options.number = number;
        self
    }

    /// Makes the attempt. `work` is called only once every part has let it through.
    ///
    /// # Errors
    /// See [`AttemptError`]. A value that the classifier disapproves of is still returned as a value.
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was taken and drops the call; the circuit counts it only if it was slow.
    pub async fn run<T, E, F, Fut>(self, work: F) -> Result<T, AttemptError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        let now = self.pipeline.clock.now();
        let (ended, _) = self.pipeline.guarded(self.options, now, &self.classifier, |_| work()).await;
        match ended {
            Ended::Done(result, _) => result.map_err(AttemptError::Failed),
            Ended::TimedOut { after, .. } => Err(AttemptError::TimedOut(TimedOut { after })),
            Ended::Refused(refused) => Err(AttemptError::Refused(refused.by(self.pipeline.name()))),
        }
    }
}

impl Pipeline {
    /// One guarded attempt that begins at `now`. Answers how it ended, and when.
    pub(super) async fn guarded<T, E, F, Fut, J>(
        &self,
        options: Options,
        now: Moment,
        classifier: &J,
        work: F,
    ) -> (Ended<T, E>, Moment)
    where
        F: FnOnce(Moment) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        let entry = match self.enter(options, now).await {
            Ok(entry) => entry,
            Err(refused) => return (Ended::Refused(refused), self.clock.now()),
        };
        let started = entry.at;
        let admission = Admission::new(self, entry);
        let (limit, by_deadline) = self.limit_of(options, started);
        let (output, was_pending) = self.clock.limit(limit, work(started)).await;
        // A call that was ready at once took no time worth a look at the clock, unless somebody measures it.
        let exact = was_pending || self.voice.is_heard() || self.breaker.measures_time();
        let end = if exact { self.clock.now() } else { started };
        let (ended, verdict) = if let Some(result) = output {
            let verdict = classifier.classify(&result);
            (Ended::Done(result, verdict), verdict)
        } else {
            let after = limit.unwrap_or_default();
            // Where the call as a whole ran out of time, its last attempt may have been given too little of it,
            // which says nothing about the service; it still counts as slow if it was.
            let verdict = if by_deadline { Verdict::Cancelled } else { Verdict::Transient };
            (Ended::TimedOut { after, by_deadline }, verdict)
        };
        admission.settle(verdict, end);
        self.voice.say(|service| Event::Attempt {
            service,
            number: options.number,
            verdict,
            took: end.since(started),
            timed_out: matches!(ended, Ended::TimedOut { .. }),
        });
        (ended, end)
    }

    /// The time an attempt has from `started`, and whether the deadline of the call cuts its own limit short.
    #[inline]
    pub(super) fn limit_of(&self, options: Options, started: Moment) -> (Option<Duration>, bool) {
        let own = options.timeout.or_else(|| self.attempt_limit());
        let left = options.deadline.map(|deadline| deadline.since(started));
        match (own, left) {
            (Some(own), Some(left)) if left < own => (Some(left), true),
            (Some(own), _) => (Some(own), false),
            // Without a limit of its own the attempt had all the time there was.
            (None, left) => (left, false),
        }
    }
}
