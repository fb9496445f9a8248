//! A whole call: attempts, the delays between them, and the timeout of all of it.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::{
    Pipeline,
    attempt::{Ended, Options},
};
use crate::{
    breaker::Mode,
    budget::Charge,
    clock::Instant,
    fallback::{FailedCall, Fallback, NoFallback},
    hedge::{HedgeConfig, race},
    observer::{Event, Part},
    refusal::{Millis, Refusal},
    retry::{AttemptOutcome, RetryDecision, RetryPlanner, StopReason},
    sync::{Ordering, lock},
    verdict::{ByError, Classifier, Idempotency, Verdict},
};

/// A whole call that has not started; see [`Pipeline::call`].
///
/// ```
/// # use loom_resilience::{AllTransient, Policy, RetryConfig, Service};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = RetryConfig::attempts(3).max_delay(Duration::from_millis(2));
/// let service = Service::standalone("search", Policy::none().retry(retry))?;
/// let flaky = |attempt: loom_resilience::AttemptInfo| async move {
///     if attempt.number < 3 { Err(std::io::Error::other("503")) } else { Ok("found") }
/// };
/// // A read may be repeated; without `idempotent` the first 503 would end the call.
/// let found = service.call().idempotent().classify(AllTransient).run(flaky).await?;
/// assert_eq!(found, "found");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'a, J = ByError, B = NoFallback> {
    pipeline: &'a Pipeline,
    classifier: J,
    permits: u32,
    deadline: Option<Instant>,
    idempotency: Idempotency,
    seed: Option<u64>,
    retries: bool,
    fallback: B,
}

/// Describes an attempt to the work that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptInfo {
    /// Its number, from 1. Some services accept it in a header.
    pub number: u32,
    /// When it started.
    pub started: Instant,
    /// The deadline of the whole call.
    pub deadline: Option<Instant>,
    /// The number of the hedged copy; 0 for the attempt itself.
    pub copy: u32,
    /// The seed of the call ([`Call::seed`]), if it has one.
    pub seed: Option<u64>,
}

impl AttemptInfo {
    /// The time left until the deadline of the whole call when the attempt starts.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.since(self.started))
    }
}

/// The timeout that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The attempt timeout.
    Attempt,
    /// The total timeout, or the deadline of the call.
    Total,
}

/// Why a call ended without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// One of our own parts refused the last attempt.
    Refused {
        /// The part, the cause, and when to come back.
        refusal: Refusal,
        /// The attempts that reached the service before the refusal.
        attempts: u32,
        /// Why no other followed.
        why: StopReason,
        /// The error of the last attempt that reached the service, if there was one and it failed with an error.
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
    /// The last attempt timed out.
    TimedOut {
        /// The timeout that ran out.
        which: TimeoutKind,
        /// Its length: the attempt timeout, or the time that the attempt had left before the deadline.
        after: Duration,
        /// Attempts made.
        attempts: u32,
        /// Why no other followed.
        why: StopReason,
    },
    /// The verdict on the last attempt was [`Verdict::Cancelled`].
    Cancelled {
        /// Its error.
        error: E,
        /// Attempts made.
        attempts: u32,
    },
}

impl<E> CallError<E> {
    /// The attempts that reached the service. A refused attempt is not one of them.
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

    /// The last error of the service, even when a refusal ended the call after it.
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
    /// A call under the whole policy, including retries.
    pub fn call(&self) -> Call<'_> {
        Call {
            pipeline: self,
            classifier: ByError,
            permits: 1,
            deadline: None,
            idempotency: Idempotency::default(),
            seed: None,
            retries: true,
            fallback: NoFallback,
        }
    }

    /// The retry planner of the policy in force, for callers that wait themselves. Without a retry policy it plans one
    /// attempt.
    pub fn planner(&self) -> RetryPlanner {
        let retry = lock(&self.policy).retry;
        let config = match retry {
            Some(retry) if retry.mode == Mode::Enforce => retry,
            // Retries that are only observed are not made, and so are not planned for a caller that waits itself.
            _ => crate::RetryConfig { max_attempts: 1, ..crate::RetryConfig::default() },
        };
        RetryPlanner::from_valid(config, Idempotency::default())
    }
}

impl<'a, J, B> Call<'a, J, B> {
    /// Replaces a call that finally failed: by a [`FallbackValue`](crate::FallbackValue), or by a function of the
    /// [`FailedCall`]. The policy says for which failures ([`FallbackConfig`](crate::FallbackConfig)); without that, for all.
    ///
    /// ```
    /// # use loom_resilience::{AllTransient, FallbackValue, Policy, Service};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let service = Service::standalone("rates", Policy::none())?;
    /// let rate = service
    ///     .call()
    ///     .classify(AllTransient)
    ///     .fallback(FallbackValue(1.0))
    ///     .run(|_| async { Err::<f64, _>(std::io::Error::other("503")) })
    ///     .await?;
    /// assert_eq!(rate, 1.0);
    /// # Ok(()) }
    /// ```
    pub fn fallback<C>(self, fallback: C) -> Call<'a, J, C> {
        Call {
            pipeline: self.pipeline,
            classifier: self.classifier,
            permits: self.permits,
            deadline: self.deadline,
            idempotency: self.idempotency,
            seed: self.seed,
            retries: self.retries,
            fallback,
        }
    }

    /// Classifies results by `classifier`, instead of by the [`Classify`](crate::Classify) of the error.
    pub fn classify<K>(self, classifier: K) -> Call<'a, K, B> {
        Call {
            pipeline: self.pipeline,
            classifier,
            permits: self.permits,
            deadline: self.deadline,
            idempotency: self.idempotency,
            seed: self.seed,
            retries: self.retries,
            fallback: self.fallback,
        }
    }

    /// Whether the call may be sent twice. [`Idempotency::NonIdempotent`] unless said otherwise: the call is then retried
    /// only when it certainly was not processed.
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// Declares the call idempotent: a failed attempt that may have been processed is retried.
    pub const fn idempotent(mut self) -> Self {
        self.idempotency = Idempotency::Idempotent;
        self
    }

    /// A deadline for the whole call, in addition to the total timeout of the policy.
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The permits of the rate limiter that each attempt takes. 1 unless set.
    pub const fn permits(mut self, permits: u32) -> Self {
        self.permits = permits;
        self
    }

    /// The seed of the jitter. The same seed gives the same delays.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// For a call inside an attempt of another call: uses the deadline of the outer call and leaves retries to it, because
    /// retries at two levels multiply.
    pub const fn within(mut self, outer: &AttemptInfo) -> Self {
        self.deadline = outer.deadline;
        self.retries = false;
        self
    }

    /// Makes the call. `work` is called once for each attempt that is admitted.
    ///
    /// A value with a verdict other than [`Verdict::Ok`] is retried like an error, and returned as a value in the end.
    ///
    /// A retry does not start while the circuit is open: it waits until the circuit is half-open, within the deadline.
    /// A refusal by one of our own parts is not an attempt; admission is requested again at most as often as the retry
    /// policy allows attempts. A circuit that was opened manually ends the call at once.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future returns what was taken and drops the attempt in flight; the circuit counts it only if it was
    /// slow. What `work` handed to other tasks or threads continues.
    pub async fn run<T, E, F, Fut>(self, mut work: F) -> Result<T, CallError<E>>
    where
        F: FnMut(AttemptInfo) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
        B: Fallback<T, E>,
    {
        let pipeline = self.pipeline;
        let call_started = pipeline.clock.now();
        let mut now = call_started;
        let mut deadline = self.deadline;
        if let Some(total) = pipeline.total_limit() {
            let end = now + total;
            deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
        }
        let mut options = Options { permits: self.permits, deadline, ..Options::default() };
        let call_seed = self.seed;
        let mut drawn = self.seed;
        let is_hedged = pipeline.hedges(self.idempotency, self.retries);
        let mut refusals = 0;
        let mut last = None;
        pipeline.budget.deposit(now);
        loop {
            let number = options.number;
            let mut begin =
                |started, copy| work(AttemptInfo { number, started, deadline, copy, seed: call_seed });
            let (ended, end) = if is_hedged {
                pipeline.boxed_hedged(&options, now, &self.classifier, begin).await
            } else {
                pipeline.guarded(&options, now, None, &self.classifier, |started| begin(started, 0)).await
            };
            if let Ended::Done(Ok(value), Verdict::Ok) = ended {
                pipeline.observe_total(call_started, end);
                return Ok(value);
            }
            let seed = *drawn.get_or_insert_with(|| pipeline.next_seed());
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
                    pipeline.reporter.emit(|service| Event::Retry { service, attempts: asked, delay });
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
                    pipeline.observe_total(call_started, end);
                    let failed = pipeline.stop(ended, last, attempts, why);
                    return pipeline.fall_back(failed, self.fallback);
                }
            }
        }
    }
}

/// The failure of the last attempt that reached the service, for when a refusal ends the call.
enum Last<E> {
    Error(E),
    TimedOut { after: Duration, which: TimeoutKind },
}

impl<E> Last<E> {
    /// Values are dropped before the delay, because they may hold a connection.
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
    /// Decides what follows a failure. `asked` is the number of the attempt, or of the refusal.
    #[cold]
    #[inline(never)]
    fn what_next<T, E>(
        &self,
        ended: &Ended<T, E>,
        idempotency: Idempotency,
        retries: bool,
        deadline: Option<Instant>,
        asked: u32,
        now: Instant,
        seed: u64,
    ) -> RetryDecision {
        let ending = match ended {
            Ended::Done(_, verdict) => AttemptOutcome::Verdict(*verdict),
            Ended::TimedOut { .. } => AttemptOutcome::Verdict(Verdict::Transient),
            Ended::Refused(refused) => AttemptOutcome::Refused(*refused),
        };
        let retry = lock(&self.policy).retry;
        let (config, observed) = match retry {
            Some(retry) if retry.mode != Mode::Off => (retry, retry.mode == Mode::Observe),
            _ => (crate::RetryConfig { max_attempts: 1, ..crate::RetryConfig::default() }, false),
        };
        let planner = RetryPlanner::from_valid(config, idempotency);
        let mut delay = match planner.plan(asked, ending, now, deadline, seed) {
            RetryDecision::After(_) if !retries => return RetryDecision::GiveUp(StopReason::Attempts),
            RetryDecision::After(_) if observed => {
                self.observed(Part::Retry);
                return RetryDecision::GiveUp(StopReason::ObserveOnly);
            }
            RetryDecision::After(delay) => delay,
            give_up @ RetryDecision::GiveUp(_) => return give_up,
        };
        // The circuit may be open by now, perhaps because of this attempt. An attempt before it is half-open would only be
        // refused.
        if let Err(refused) = self.breaker.peek(now) {
            if refused.is_manual() {
                return RetryDecision::GiveUp(StopReason::OpenedManually);
            }
            delay = delay.max(refused.retry_after.unwrap_or_default());
            if deadline.is_some_and(|deadline| now + delay >= deadline) {
                return RetryDecision::GiveUp(StopReason::Deadline);
            }
        }
        // Charged before the delay, so that waiting retries cannot pile up.
        if self.spend(now) { RetryDecision::After(delay) } else { RetryDecision::GiveUp(StopReason::Budget) }
    }

    /// Charges a retry or a hedged copy to the budget.
    fn spend(&self, now: Instant) -> bool {
        match self.budget.charge(now) {
            Charge::Charged => true,
            Charge::Observed => {
                self.observed(Part::Budget);
                true
            }
            Charge::Refused => false,
        }
    }

    /// Whether a call of this idempotency is hedged, or observed for it.
    #[inline]
    fn hedges(&self, idempotency: Idempotency, retries: bool) -> bool {
        self.hedge_delay.load(Ordering::Relaxed) != 0 && idempotency.may_repeat() && retries
    }

    /// [`hedged`](Self::hedged) in a box of its own, so that calls without hedging do not carry its state.
    #[cold]
    #[inline(never)]
    fn boxed_hedged<'a, T, E, F, Fut, J>(
        &'a self,
        options: &'a Options,
        now: Instant,
        classifier: &'a J,
        begin: F,
    ) -> Pin<Box<impl Future<Output = (Ended<T, E>, Instant)>>>
    where
        F: FnMut(Instant, u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        // If the policy has lost its hedge meanwhile, the hedge is never due.
        let hedge = lock(&self.policy).hedge.unwrap_or(HedgeConfig::new(Duration::MAX).mode(Mode::Off));
        Box::pin(self.hedged(hedge, options, now, classifier, begin))
    }

    /// One attempt, of which further copies are sent while it is slow. Returns the outcome of the copy that decides.
    async fn hedged<T, E, F, Fut, J>(
        &self,
        hedge: HedgeConfig,
        options: &Options,
        now: Instant,
        classifier: &J,
        mut begin: F,
    ) -> (Ended<T, E>, Instant)
    where
        F: FnMut(Instant, u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Classifier<T, E>,
    {
        if hedge.mode != Mode::Enforce {
            let (ended, end) =
                self.guarded(options, now, None, classifier, |started| begin(started, 0)).await;
            if hedge.mode == Mode::Observe && end.since(now) >= hedge.delay {
                self.observed(Part::Hedge);
            }
            return (ended, end);
        }
        // Every copy calls `begin` when it has been admitted, which may be at any later poll.
        let begin = std::sync::Mutex::new(begin);
        let begin = &begin;
        let launch = |number: u32| {
            let copy = number - 1;
            let mut at = now;
            if copy > 0 {
                at = self.clock.now();
                if !self.spend(at) {
                    return None;
                }
                let attempt = options.number;
                self.reporter.emit(|service| Event::Hedged { service, attempt, copy });
            }
            let work = move |started| {
                let mut begin = begin.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                (*begin)(started, copy)
            };
            Some(Box::pin(self.guarded(options, at, None, classifier, work)))
        };
        // A healthy service has decided, even where it rejected the request; another copy would get the same response.
        let decides = |(ended, _): &(Ended<T, E>, Instant)| {
            matches!(ended, Ended::Done(_, Verdict::Ok | Verdict::Rejected | Verdict::Cancelled))
        };
        race(&hedge, &self.clock, launch, decides).await
    }

    /// Reports a call that ran longer than a total timeout in observe mode.
    #[inline]
    fn observe_total(&self, started: Instant, end: Instant) {
        // The common case first: nothing is observed.
        if let Some(observed) = super::limit(&self.total_observed)
            && end.since(started) >= observed
        {
            self.observed(Part::TotalTimeout);
        }
    }

    /// Applies the fallback of the caller, as far as the policy allows it.
    #[cold]
    #[inline(never)]
    fn fall_back<T, E, B: Fallback<T, E>>(
        &self,
        failed: FailedCall<T, E>,
        fallback: B,
    ) -> Result<T, CallError<E>> {
        let Some(kind) = failed.kind().filter(|_| B::IS_SET) else { return failed.into_result() };
        let mode = match &lock(&self.policy).fallback {
            Some(config) if config.on.contains(&kind) => config.mode,
            Some(_) => Mode::Off,
            None => Mode::Enforce,
        };
        match mode {
            Mode::Off => failed.into_result(),
            Mode::Observe => {
                self.observed(Part::Fallback);
                failed.into_result()
            }
            Mode::Enforce => {
                self.reporter.emit(|service| Event::FellBack { service, kind });
                fallback.apply(failed)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn stop<T, E>(
        &self,
        ended: Ended<T, E>,
        last: Option<Last<E>>,
        attempts: u32,
        why: StopReason,
    ) -> FailedCall<T, E> {
        let verdict = match &ended {
            Ended::Done(_, verdict) => Some(*verdict),
            Ended::TimedOut { .. } | Ended::Refused(_) => None,
        };
        let error = match ended {
            Ended::Done(Ok(value), verdict) => return FailedCall::Value { value, verdict },
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
        self.reporter.emit(|service| Event::GaveUp { service, attempts, why });
        FailedCall::Error { error, verdict }
    }
}
