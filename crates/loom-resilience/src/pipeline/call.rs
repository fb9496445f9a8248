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
    retry::{Ending, GiveUp, Next, RetryPlanner},
    sync::lock,
    verdict::{ByError, Idempotency, Judge, Verdict},
};

/// A whole call, about to be made; see [`Pipeline::call`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'a, J = ByError> {
    pipeline: &'a Pipeline,
    judge: J,
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
pub enum Which {
    /// The limit on one attempt.
    Attempt,
    /// The limit on the whole call.
    Total,
}

/// Why a call ended without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop<E> {
    /// The last attempt was not let through by one of our own parts.
    Refused {
        /// By which, why and until when.
        refusal: Refusal,
        /// Attempts made, this one included.
        attempts: u32,
        /// Why no other followed.
        why: GiveUp,
    },
    /// The last attempt failed.
    Failed {
        /// Its error.
        error: E,
        /// Attempts made.
        attempts: u32,
        /// Why no other followed.
        why: GiveUp,
    },
    /// The last attempt ran out of time.
    TimedOut {
        /// Which limit it was.
        which: Which,
        /// The limit: of the attempt, or what the attempt had left of the whole.
        after: Duration,
        /// Attempts made.
        attempts: u32,
        /// Why no other followed.
        why: GiveUp,
    },
    /// The work said that it was cancelled.
    Cancelled {
        /// Its error.
        error: E,
        /// Attempts made.
        attempts: u32,
    },
}

impl<E> Stop<E> {
    /// Attempts made, those included that were refused.
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
}

impl<E: fmt::Display> fmt::Display for Stop<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { refusal, .. } => refusal.fmt(f),
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

impl<E: std::error::Error + 'static> std::error::Error for Stop<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
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
            judge: ByError,
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
    /// Judges results by `judge` instead of by the error's [`Classify`](crate::Classify).
    pub fn classify<K>(self, judge: K) -> Call<'a, K> {
        Call {
            pipeline: self.pipeline,
            judge,
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
    /// A value that the judge disapproves of is retried like an error, and returned as a value in the end.
    ///
    /// # Errors
    /// See [`Stop`].
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was taken and drops the attempt that is out; the circuit counts it only if
    /// it was slow. What `work` handed to other tasks or threads goes on.
    pub async fn run<T, E, F, Fut>(self, mut work: F) -> Result<T, Stop<E>>
    where
        F: FnMut(AttemptInfo) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
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
        pipeline.budget.deposit(now);
        loop {
            let number = options.number;
            let begin = |started| work(AttemptInfo { number, started, deadline });
            let (ended, end) = pipeline.guarded(options, now, &self.judge, begin).await;
            if let Ended::Done(Ok(value), Verdict::Ok) = ended {
                return Ok(value);
            }
            let seed = *seed.get_or_insert_with(|| pipeline.next_seed());
            match pipeline.what_next(&ended, self.idempotency, self.retries, options, end, seed) {
                Next::After(delay) => {
                    pipeline.voice.say(|service| Event::Retry { service, attempts: number, delay });
                    let until = end + delay;
                    drop(ended);
                    pipeline.clock.sleep_until(until).await;
                    now = pipeline.clock.now();
                    options.number += 1;
                }
                Next::GiveUp(why) => return pipeline.stop(ended, number, why),
            }
        }
    }
}

impl Pipeline {
    /// What follows an attempt that did not bring a good value.
    fn what_next<T, E>(
        &self,
        ended: &Ended<T, E>,
        idempotency: Idempotency,
        retries: bool,
        options: Options,
        now: Moment,
        seed: u64,
    ) -> Next {
        let ending = match ended {
            Ended::Done(_, verdict) => Ending::Verdict(*verdict),
            Ended::TimedOut { .. } => Ending::Verdict(Verdict::Transient),
            Ended::Refused(refused) => Ending::Refused(*refused),
        };
        let planner = self.planner().idempotency(idempotency);
        match planner.plan(options.number, ending, now, options.deadline, seed) {
            Next::After(_) if !retries => Next::GiveUp(GiveUp::Attempts),
            // Charged before the pause, so that a storm of waiting retries cannot build up.
            Next::After(_) if !self.budget.try_spend(now) => Next::GiveUp(GiveUp::Budget),
            next => next,
        }
    }

    fn stop<T, E>(&self, ended: Ended<T, E>, attempts: u32, why: GiveUp) -> Result<T, Stop<E>> {
        let stop = match ended {
            Ended::Done(Ok(value), _) => return Ok(value),
            Ended::Done(Err(error), Verdict::Cancelled) => Stop::Cancelled { error, attempts },
            Ended::Done(Err(error), _) => Stop::Failed { error, attempts, why },
            Ended::TimedOut { after, by_deadline } => {
                let which = if by_deadline { Which::Total } else { Which::Attempt };
                Stop::TimedOut { which, after, attempts, why }
            }
            Ended::Refused(refused) => Stop::Refused { refusal: refused.by(self.name()), attempts, why },
        };
        self.voice.say(|service| Event::GaveUp { service, attempts, why });
        Err(stop)
    }
}
