//! The parts of one service, composed in a fixed order.
//!
//! ```text
//! fallback( total timeout( retry( hedge(
//!     breaker check -> rate limiter -> bulkhead -> breaker admission -> attempt timeout( chaos( call ) ) ) ) ) )
//! ```
//!
//! The breaker is checked twice and charged once: an open circuit never uses a permit, and the slot of a probe is not held
//! while its call queues. The limiter is inside the retry because a service counts attempts. The attempt timeout is inside
//! the breaker so that the breaker sees slow calls. Each hedged copy passes everything inside the hedge, because the service
//! counts it too.

mod admission;
mod attempt;
mod call;
mod observed;
mod status;

use std::{ops::Deref, sync::Arc, time::Duration};

pub use admission::Admission;
pub use attempt::{Attempt, AttemptError};
pub use call::{AttemptInfo, Call, CallError, TimeoutKind};
pub use observed::ObservedParts;
pub use status::ServiceStatus;

use crate::{
    breaker::{CircuitBreaker, Mode},
    budget::Budget,
    bulkhead::Bulkhead,
    clock::{Clock, Instant},
    config::ConfigError,
    limiter::RateLimiter,
    observer::{Event, Observer, Part, Reporter},
    policy::Policy,
    random::{mix, nanos, seed_of},
    shared::Sharing,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// The breaker, limiter, bulkhead and budget of one service, composed by a [`Policy`].
///
/// [`Service`] is a shared handle on a pipeline.
#[derive(Debug)]
pub struct Pipeline {
    breaker: CircuitBreaker,
    limiter: RateLimiter,
    bulkhead: Bulkhead,
    budget: Budget,
    /// Nanoseconds; 0 for no timeout.
    attempt_timeout: AtomicU64,
    /// Nanoseconds; 0 for no timeout.
    total_timeout: AtomicU64,
    /// The attempt timeout in observe mode, in nanoseconds; 0 for none.
    attempt_observed: AtomicU64,
    /// The total timeout in observe mode, in nanoseconds; 0 for none.
    total_observed: AtomicU64,
    /// The delay of hedging in nanoseconds; 0 for none.
    hedge_delay: AtomicU64,
    /// Read only after a failed attempt, and to describe the service.
    policy: Mutex<Policy>,
    seed: u64,
    calls: AtomicU64,
    /// What it shares with other processes, if there are any.
    sharing: Option<Sharing>,
    clock: Clock,
    reporter: Reporter,
}

impl Pipeline {
    /// Creates the pipeline of the service `name`.
    ///
    /// # Errors
    /// All issues of the policy.
    pub fn new(
        name: &str,
        policy: Policy,
        clock: Clock,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ConfigError> {
        policy.validate()?;
        let reporter = Reporter::new(name, observer);
        let [attempt_timeout, total_timeout, attempt_observed, total_observed, hedge_delay] =
            times(&policy).map(AtomicU64::new);
        Ok(Self {
            breaker: CircuitBreaker::with_reporter(policy.breaker_or_off(), clock.clone(), reporter.clone()),
            limiter: RateLimiter::with_reporter(policy.limiter_or_off(), clock.clone(), reporter.clone()),
            bulkhead: Bulkhead::with_reporter(policy.bulkhead, clock.clone(), reporter.clone()),
            budget: Budget::from_config(policy.budget),
            attempt_timeout,
            total_timeout,
            attempt_observed,
            total_observed,
            hedge_delay,
            policy: Mutex::new(policy),
            sharing: None,
            seed: seed_of(name),
            calls: AtomicU64::new(0),
            clock,
            reporter,
        })
    }

    /// Shares limits and circuit with other processes, as far as their [`Scope`](crate::Scope) says.
    #[must_use]
    pub fn shared(mut self, sharing: Sharing) -> Self {
        sharing.set_limit(lock(&self.policy).limiter.as_ref());
        self.sharing = Some(sharing);
        self
    }

    /// The service's name.
    pub fn name(&self) -> &Arc<str> {
        &self.reporter.name
    }

    /// The clock that all parts share.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The circuit breaker. Off when the policy has none.
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// The rate limiter. Without limits when the policy has none.
    pub const fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    /// The bulkhead. Without a limit when the policy has none.
    pub const fn bulkhead(&self) -> &Bulkhead {
        &self.bulkhead
    }

    /// The retry budget. Without a bound when the policy has none.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        lock(&self.policy).clone()
    }

    /// Changes the policy of a service in use. Calls in flight end under the policy that admitted them; what they took is
    /// returned where it was taken.
    ///
    /// State and consumption stay where they still make sense:
    /// - A part whose configuration is the same keeps everything.
    /// - The breaker keeps its circuit; see [`CircuitBreaker::reconfigure`]. Without a breaker the circuit is not consulted, but
    ///   stays as it is for when a breaker returns.
    /// - The limiter keeps what was consumed; see [`RateLimiter::reconfigure`]. Without limits the consumption is dropped.
    /// - The bulkhead keeps the calls in flight and the waiters; see [`Bulkhead::reconfigure`].
    /// - The budget keeps the calls and retries of its window; see [`Budget::reconfigure`].
    /// - Timeouts, retries, hedging and the fallback have no state. The new ones apply to calls, retries and copies that start
    ///   later; a call that is waiting between two attempts uses the new retry policy after its next attempt.
    ///
    /// The parts change one after the other, so a call that starts during the change may meet the old policy in one part and
    /// the new one in another. An [`Event::Reconfigured`](crate::Event::Reconfigured) names the parts that changed.
    ///
    /// # Errors
    /// All issues of the policy; the old one then stays in force.
    pub fn reconfigure(&self, policy: Policy) -> Result<(), ConfigError> {
        policy.validate()?;
        let mut current = lock(&self.policy);
        let now = self.clock.now();
        let parts = changed(&current, &policy);
        // A part whose configuration did not change keeps even what a change of its shape would clear.
        if current.breaker != policy.breaker {
            self.breaker.put_config(policy.breaker_or_off(), now);
        }
        if current.limiter != policy.limiter {
            self.limiter.put_config(policy.limiter_or_off(), now);
        }
        if current.bulkhead != policy.bulkhead {
            self.bulkhead.put_config(policy.bulkhead);
        }
        if current.budget != policy.budget {
            self.budget.put_config(policy.budget, now);
        }
        if let Some(sharing) = &self.sharing {
            sharing.set_limit(policy.limiter.as_ref());
        }
        let [attempt_timeout, total_timeout, attempt_observed, total_observed, hedge_delay] = times(&policy);
        self.attempt_timeout.store(attempt_timeout, Ordering::Relaxed);
        self.total_timeout.store(total_timeout, Ordering::Relaxed);
        self.attempt_observed.store(attempt_observed, Ordering::Relaxed);
        self.total_observed.store(total_observed, Ordering::Relaxed);
        self.hedge_delay.store(hedge_delay, Ordering::Relaxed);
        *current = policy;
        drop(current);
        if !parts.is_empty() {
            self.reporter.emit(|service| Event::Reconfigured { service, parts: &parts });
        }
        Ok(())
    }

    /// Reports an event of this service.
    #[cfg(feature = "chaos")]
    pub(crate) fn report<'a>(&'a self, event: impl FnOnce(&'a str) -> Event<'a>) {
        self.reporter.emit(event);
    }

    /// Returns every part to its initial state: circuit closed, permits available, budget unspent.
    pub fn reset(&self) {
        let now = self.clock.now();
        self.breaker.reset(now);
        self.limiter.reset();
        self.budget.reset(now);
    }

    #[inline]
    fn attempt_limit(&self) -> Option<Duration> {
        limit(&self.attempt_timeout)
    }

    #[inline]
    fn total_limit(&self) -> Option<Duration> {
        limit(&self.total_timeout)
    }

    /// Reports that a part in observe mode would have interfered.
    #[cold]
    fn observed(&self, part: Part) {
        self.reporter.emit(|service| Event::Observed { service, part });
    }

    /// The seed of a call without one of its own.
    fn next_seed(&self) -> u64 {
        mix(self.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

/// The timeouts and the hedge of a policy, as the pipeline stores them.
fn times(policy: &Policy) -> [u64; 5] {
    let when = |time: Option<Duration>, mode: Mode, wanted: Mode| match time {
        Some(time) if mode == wanted => nanos(time).max(1),
        _ => 0,
    };
    let (attempt, total) = (policy.attempt_timeout, policy.total_timeout);
    [
        when(attempt, policy.attempt_timeout_mode, Mode::Enforce),
        when(total, policy.total_timeout_mode, Mode::Enforce),
        when(attempt, policy.attempt_timeout_mode, Mode::Observe),
        when(total, policy.total_timeout_mode, Mode::Observe),
        policy.hedge.filter(|hedge| hedge.mode != Mode::Off).map_or(0, |hedge| nanos(hedge.delay).max(1)),
    ]
}

/// The parts that differ between two policies, from the outside in.
fn changed(before: &Policy, after: &Policy) -> Vec<Part> {
    let differ = [
        (Part::Fallback, before.fallback != after.fallback),
        (
            Part::TotalTimeout,
            before.total_timeout != after.total_timeout
                || before.total_timeout_mode != after.total_timeout_mode,
        ),
        (Part::Retry, before.retry != after.retry),
        (Part::Budget, before.budget != after.budget),
        (Part::Hedge, before.hedge != after.hedge),
        (Part::Breaker, before.breaker != after.breaker),
        (Part::Limiter, before.limiter != after.limiter),
        (Part::Bulkhead, before.bulkhead != after.bulkhead),
        (
            Part::AttemptTimeout,
            before.attempt_timeout != after.attempt_timeout
                || before.attempt_timeout_mode != after.attempt_timeout_mode,
        ),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
}

#[inline]
fn limit(nanos: &AtomicU64) -> Option<Duration> {
    match nanos.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

/// A handle on the [`Pipeline`] of one service. Cheap to clone; clones share everything.
///
/// ```
/// # use loom_resilience::{AllTransient, Policy, Service};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let billing = Service::standalone("billing", Policy::standard())?;
/// let total = billing.call().classify(AllTransient).run(|_| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(total, 42);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Service(Arc<Pipeline>);

impl Service {
    /// A service outside every registry, on the system's clock.
    ///
    /// # Errors
    /// All issues of the policy.
    pub fn standalone(name: &str, policy: Policy) -> Result<Self, ConfigError> {
        Pipeline::new(name, policy, Clock::system(), None).map(Self::from)
    }

    /// Requests admission by every part, without waiting for any of them.
    ///
    /// The admission owns its service, so it can move to another task.
    ///
    /// # Errors
    /// The refusal of the first part that refuses. Nothing stays taken then.
    #[inline]
    pub fn try_admit(&self, now: Instant) -> Result<Admission<Self>, crate::Refusal> {
        self.try_admit_for(None, now)
    }

    /// As [`try_admit`](Self::try_admit), for work that may take as long as `limit`: a probe of a half-open circuit keeps
    /// its slot for that long.
    ///
    /// # Errors
    /// As [`try_admit`](Self::try_admit).
    #[inline]
    pub fn try_admit_for(
        &self,
        limit: Option<Duration>,
        now: Instant,
    ) -> Result<Admission<Self>, crate::Refusal> {
        match self.0.enter_now(1, limit, now) {
            Ok(entry) => Ok(Admission::new(self.clone(), entry)),
            Err(refused) => Err(refused.by(self.name())),
        }
    }

    /// Admits work that an earlier process had already been admitted to, and that is still in progress.
    ///
    /// It is never refused: it takes a permit of the bulkhead even beyond the limit, and no permit of the limiter. A closed
    /// circuit counts its outcome, a half-open one counts it as a probe if it has a free slot, and an open one ignores it.
    pub fn admit_again(&self, limit: Option<Duration>, now: Instant) -> Admission<Self> {
        Admission::new(self.clone(), self.0.enter_again(limit, now))
    }

    /// Whether this service has an owner other than the registry.
    pub(crate) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl From<Pipeline> for Service {
    fn from(pipeline: Pipeline) -> Self {
        Self(Arc::new(pipeline))
    }
}

impl Deref for Service {
    type Target = Pipeline;

    fn deref(&self) -> &Pipeline {
        &self.0
    }
}
