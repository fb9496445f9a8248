//! A whole call: attempts, the pauses between them, and the limit on all of it.

use std::{fmt, future::Future, time::Duration};

use super::{
    Pipeline,
    attempt::{Ended, Options},
};
use crate::{
    clock::Moment,
    observer::Event,
    refusal::{Millis, Refusal},
    retry::{AttemptOutcome, RetryDecision, RetryPlanner, StopReason},
    sync::lock,
    verdict::{ByError, Classifier, Idempotency, Verdict},
};

/// A whole call, about to be made; see [`Pipeline::call`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'a, J = ByError> {
    pipeline: &'a Pipeline,
    classifier: J,
    options: Options,
    idempotency: Idempotency,
    seed: Option<u64>,
    retries: bool,
}

/// What an attempt knows about itself; handed to the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    /// Its number, from 1. Services like to see it in a header.
    pub number: u32,
    /// When it began.
    pub started: Moment,
    /// When the call as a whole runs out of time.
    pub deadline: Option<Moment>,
}

impl AttemptInfo {
    /// What is left of the whole call's time when the attempt begins.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.since(self.started))
    }
}

/// Which limit ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutKind {
    /// The limit on one attempt.
    Attempt,
    /// The limit on the whole call.
    Total,
}

/// Why a call ended without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The last attempt was not let through by one of our own parts.
    Refused {
        /// By which, why and until when.
        refusal: Refusal,
        /// Attempts that reached the service before that.
        attempts: u32,
        /// Why no other followed.
        why: StopReason,
        /// The error of the last attempt that reached the service, if one did and failed with an error.
        last_error: Option<E>,
    },
    /// The last attempt failed.
    Failed {
        /// Its error.
        error: E,
        /// Attempts made.
        attempts: u32,
        /// Why no other followed.
        why: StopReason,
    },
    /// The last attempt ran out of time.
    TimedOut {
        /// Which limit it was.
        which: TimeoutKind,
        /// The limit: of the attempt, or what the attempt had left of the whole.
        after: Duration,
        /// Attempts made.
        attempts: u32,
        /// Why no other followed.
        why: StopReason,
    },
    /// The work said that it was cancelled.
    Cancelled {
        /// Its error.
        error: E,
        /// Attempts made.
        attempts: u32,
    },
}

impl<E> CallError<E> {
    /// Attempts that reached the service. A refusal is not one of them.
    pub const fn attempts(&self) -> u32 {
        match self {
            Self::Refused { attempts, .. }
            | Self::Failed { attempts, .. }
            | Self::TimedOut { attempts, .. }
            | Self::Cancelled { attempts, .. } => *attempts,
        }
    }

    /// The refusal, if that is what ended the call.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Failed { .. } | Self::TimedOut { .. } | Self::Cancelled { .. } => None,
        }
    }

    /// The last error that the service gave, also when a refusal ended the call after it.
    pub const fn error(&self) -> Option<&E> {
        match self {
            Self::Refused { last_error, .. } => last_error.as_ref(),
            Self::Failed { error, .. } | Self::Cancelled { error, .. } => Some(error),
            Self::TimedOut { .. } => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { refusal, last_error: None, .. } => refusal.fmt(f),
            Self::Refused { refusal, attempts, last_error: Some(error), .. } => {
                write!(f, "{refusal}; attempt {attempts} failed before that: {error}")
            }
            Self::Failed { error, attempts, why } => {
                write!(f, "{error} (attempt {attempts}; {why})")
            }
            Self::TimedOut { after, attempts, .. } => {
                write!(f, "Operation timed out after {} (attempt {attempts})", Millis(*after))
            }
            Self::Cancelled { error, .. } => write!(f, "cancelled: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { last_error: Some(error), .. } => Some(error),
            Self::Refused { refusal, last_error: None, .. } => Some(refusal),
            Self::Failed { error, .. } | Self::Cancelled { error, .. } => Some(error),
            Self::TimedOut { .. } => None,
        }
    }
}

impl Pipeline {
    /// A call under the whole policy, retries included.
    pub fn call(&self) -> Call<'_> {
        Call {
            pipeline: self,
            classifier: ByError,
            options: Options::default(),
            idempotency: Idempotency::Safe,
            seed: None,
            retries: true,
        }
    }

    /// The retry planner of the policy in force, for those who keep the waits themselves. Without a retry policy it
    /// plans one attempt.
    pub fn planner(&self) -> RetryPlanner {
        let retry = lock(&self.policy).retry;
        let config = retry.unwrap_or(crate::RetryConfig { max_attempts: 1, ..crate::RetryConfig::default() });
        RetryPlanner::from_valid(config, Idempotency::Safe)
    }
}

impl<'a, J> Call<'a, J> {
    /// Classifies results by `classifier` instead of by the error's [`Classify`](crate::Classify).
    pub fn classify<K>(self, classifier: K) -> Call<'a, K> {
        Call {
            pipeline: self.pipeline,
            classifier,
            options: self.options,
            idempotency: self.idempotency,
            seed: self.seed,
            retries: self.retries,
        }
    }

    /// Whether the call may be repeated when it perhaps was done. [`Idempotency::Safe`] unless said otherwise.
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// A deadline for everything, beside the policy's total limit.
    pub const fn deadline(mut self, deadline: Moment) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// How many permits of the limiter each attempt takes; 1 unless said otherwise.
    pub const fn permits(mut self, permits: u32) -> Self {
        self.options.permits = permits;
        self
    }

    /// Where the jitter comes from: the same seed gives the same pauses.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// For a call that is made inside an attempt of another: keeps that one's deadline and leaves retries to it,
    /// because retries at two levels multiply.
    pub const fn within(mut self, outer: &AttemptInfo) -> Self {
        self.options.deadline = outer.deadline;
        self.retries = false;
        self
    }

    /// Makes the call. `work` is called once for each attempt that is let through.
    ///
    /// A value that the classifier disapproves of is retried like an error, and returned as a value in the end.
    ///
    /// A retry is not begun while the circuit is open: it waits until the circuit is half-open, within the deadline.
    /// A call that one of our own parts refuses has not been an attempt, and is asked for again at most as often as the
    /// retry policy allows attempts. A circuit that was opened by hand ends the call at once.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was taken and drops the attempt that is out; the circuit counts it only if
    /// it was slow. What `work` handed to other tasks or threads goes on.
    pub async fn run<T, E, F, Fut>(self, mut work: F) -> Result<T, CallError<E>>
    where
        F: FnMut(AttemptInfo) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        let pipeline = self.pipeline;
        let mut now = pipeline.clock.now();
        let mut options = self.options;
        if let Some(total) = pipeline.total_limit() {
            let end = now + total;
            options.deadline = Some(options.deadline.map_or(end, |deadline| deadline.min(end)));
        }
        let deadline = options.deadline;
        let mut seed = self.seed;
        let mut refusals = 0;
        let mut last = None;
        pipeline.budget.deposit(now);
        loop {
            let number = options.number;
            let begin = |started| work(AttemptInfo { number, started, deadline });
            let (ended, end) = pipeline.guarded(options, now, &self.classifier, begin).await;
            if let Ended::Done(Ok(value), Verdict::Ok) = ended {
                return Ok(value);
            }
            let seed = *seed.get_or_insert_with(|| pipeline.next_seed());
            let refused = matches!(ended, Ended::Refused(_));
            refusals += u32::from(refused);
            let asked = if refused { refusals } else { number };
            match pipeline.what_next(
                &ended,
                self.idempotency,
                self.retries,
                options.deadline,
                asked,
                end,
                seed,
            ) {
                RetryDecision::After(delay) => {
                    pipeline.voice.say(|service| Event::Retry { service, attempts: asked, delay });
                    let until = end + delay;
                    if !refused {
                        options.number += 1;
                        last = Last::of(ended);
                    }
                    pipeline.clock.sleep_until(until).await;
                    now = pipeline.clock.now();
                }
                RetryDecision::GiveUp(why) => {
                    let attempts = if refused { number - 1 } else { number };
                    return pipeline.stop(ended, last, attempts, why);
                }
            }
        }
    }
}

/// How the last attempt failed that reached the service, kept for when a refusal ends the call.
enum Last<E> {
    Error(E),
    TimedOut { after: Duration, which: TimeoutKind },
}

impl<E> Last<E> {
    /// Values that the classifier disapproved of are dropped before the pause, because they may hold a connection.
    fn of<T>(ended: Ended<T, E>) -> Option<Self> {
        match ended {
            Ended::Done(Err(error), _) => Some(Self::Error(error)),
            Ended::TimedOut { after, by_deadline } => {
                Some(Self::TimedOut { after, which: which(by_deadline) })
            }
            Ended::Done(Ok(_), _) | Ended::Refused(_) => None,
        }
    }
}

const fn which(by_deadline: bool) -> TimeoutKind {
    if by_deadline { TimeoutKind::Total } else { TimeoutKind::Attempt }
}

impl Pipeline {
    /// What follows when the call has not brought a good value: `asked` is the number of the attempt, or of the refusal.
    fn what_next<T, E>(
        &self,
        ended: &Ended<T, E>,
        idempotency: Idempotency,
        retries: bool,
        deadline: Option<Moment>,
        asked: u32,
        now: Moment,
        seed: u64,
    ) -> RetryDecision {
        let ending = match ended {
            Ended::Done(_, verdict) => AttemptOutcome::Verdict(*verdict),
            Ended::TimedOut { .. } => AttemptOutcome::Verdict(Verdict::Transient),
            Ended::Refused(refused) => AttemptOutcome::Refused(*refused),
        };
        let planner = self.planner().idempotency(idempotency);
        let mut delay = match planner.plan(asked, ending, now, deadline, seed) {
            RetryDecision::After(_) if !retries => return RetryDecision::GiveUp(StopReason::Attempts),
            RetryDecision::After(delay) => delay,
            give_up @ RetryDecision::GiveUp(_) => return give_up,
        };
        // The circuit may be open by now, perhaps because of this very attempt: to try before it is half-open would
        // only be refused.
        if let Err(refused) = self.breaker.peek(now) {
            if refused.is_by_hand() {
                return RetryDecision::GiveUp(StopReason::OpenedByHand);
            }
            delay = delay.max(refused.retry_after.unwrap_or_default());
            if deadline.is_some_and(|deadline| now + delay >= deadline) {
                return RetryDecision::GiveUp(StopReason::Deadline);
            }
        }
        // Charged before the pause, so that a storm of waiting retries cannot build up.
        if self.budget.try_spend(now) {
            RetryDecision::After(delay)
        } else {
            RetryDecision::GiveUp(StopReason::Budget)
        }
    }

    fn stop<T, E>(
        &self,
        ended: Ended<T, E>,
        last: Option<Last<E>>,
        attempts: u32,
        why: StopReason,
    ) -> Result<T, CallError<E>> {
        let stop = match ended {
            Ended::Done(Ok(value), _) => return Ok(value),
            Ended::Done(Err(error), Verdict::Cancelled) => CallError::Cancelled { error, attempts },
            Ended::Done(Err(error), _) => CallError::Failed { error, attempts, why },
            Ended::TimedOut { after, by_deadline } => {
                CallError::TimedOut { which: which(by_deadline), after, attempts, why }
            }
            Ended::Refused(refused) => match last {
                Some(Last::TimedOut { after, which }) => CallError::TimedOut { which, after, attempts, why },
                Some(Last::Error(error)) => CallError::Refused {
                    refusal: refused.by(self.name()),
                    attempts,
                    why,
                    last_error: Some(error),
                },
                None => {
                    CallError::Refused { refusal: refused.by(self.name()), attempts, why, last_error: None }
                }
            },
        };
        self.voice.say(|service| Event::GaveUp { service, attempts, why });
        Err(stop)
    }
}
