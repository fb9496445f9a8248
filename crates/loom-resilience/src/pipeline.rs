//! The parts of one service, composed in the one order.
//!
//! ```text
//! total time limit( retry( breaker asked -> limiter waits -> bulkhead -> breaker admits -> attempt limit( call ) ) )
//! ```
//!
//! The breaker is asked twice and charged once: an open circuit never spends a permit, and a probe's place is not held
//! while its call queues. The limiter is inside the retry because a provider counts attempts. The attempt's limit is
//! inside the breaker so that slowness is seen.

mod admission;
mod attempt;
mod call;
mod status;

use std::{ops::Deref, sync::Arc, time::Duration};

pub use admission::Admission;
pub use attempt::{Attempt, AttemptError};
pub use call::{AttemptInfo, Call, CallError, TimeoutKind};
pub use status::ServiceStatus;

use crate::{
    breaker::CircuitBreaker,
    budget::Budget,
    bulkhead::Bulkhead,
    clock::{Clock, Moment},
    config::ConfigError,
    limiter::RateLimiter,
    observer::{Observer, Voice},
    policy::Policy,
    random::{mix, nanos, seed_of},
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// A policy come to life: the breaker, limiter, bulkhead and budget of one service, and the order around them.
#[derive(Debug)]
pub struct Pipeline {
    breaker: CircuitBreaker,
    limiter: RateLimiter,
    bulkhead: Bulkhead,
    budget: Budget,
    /// Nanoseconds; 0 for no limit.
    attempt_timeout: AtomicU64,
    /// Nanoseconds; 0 for no limit.
    total_timeout: AtomicU64,
    /// Read only when an attempt has failed, and to describe the service.
    policy: Mutex<Policy>,
    seed: u64,
    calls: AtomicU64,
    clock: Clock,
    voice: Voice,
}

impl Pipeline {
    /// A pipeline for the service `name`.
    ///
    /// # Errors
    /// All contradictions in the policy.
    pub fn new(
        name: &str,
        policy: Policy,
        clock: Clock,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ConfigError> {
        policy.validate()?;
        let voice = Voice::new(name, observer);
        Ok(Self {
            breaker: CircuitBreaker::with_voice(policy.breaker_or_off(), clock.clone(), voice.clone()),
            limiter: RateLimiter::with_voice(policy.limiter_or_off(), clock.clone(), voice.clone()),
            bulkhead: Bulkhead::with_voice(policy.bulkhead, clock.clone(), voice.clone()),
            budget: Budget::from_config(policy.budget),
            attempt_timeout: AtomicU64::new(policy.attempt_timeout.map_or(0, nanos)),
            total_timeout: AtomicU64::new(policy.total_timeout.map_or(0, nanos)),
            policy: Mutex::new(policy),
            seed: seed_of(name),
            calls: AtomicU64::new(0),
            clock,
            voice,
        })
    }

    /// The service's name.
    pub fn name(&self) -> &Arc<str> {
        &self.voice.name
    }

    /// The clock that all parts share.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The circuit breaker. Always there; switched off where the policy has none.
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// The rate limiter. Always there; switched off where the policy has none.
    pub const fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    /// The bulkhead. Always there; without a cap where the policy has none.
    pub const fn bulkhead(&self) -> &Bulkhead {
        &self.bulkhead
    }

    /// The retry budget. Always there; without a bound where the policy has none.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        lock(&self.policy).clone()
    }

    /// Changes the policy of a living service. Consumption, circuit state, streaks and counts are kept.
    ///
    /// # Errors
    /// All contradictions in the policy; the old one then stays.
    pub fn reconfigure(&self, policy: Policy) -> Result<(), ConfigError> {
        policy.validate()?;
        let mut current = lock(&self.policy);
        let now = self.clock.now();
        // A part that did not change keeps even what a change of its shape would forget.
        if current.breaker != policy.breaker {
            self.breaker.put_config(policy.breaker_or_off());
        }
        if current.limiter != policy.limiter {
            self.limiter.put_config(policy.limiter_or_off(), now);
        }
        if current.bulkhead != policy.bulkhead {
            self.bulkhead.put_config(policy.bulkhead);
        }
        if current.budget != policy.budget {
            self.budget.put_config(policy.budget);
        }
        self.attempt_timeout.store(policy.attempt_timeout.map_or(0, nanos), Ordering::Relaxed);
        self.total_timeout.store(policy.total_timeout.map_or(0, nanos), Ordering::Relaxed);
        *current = policy;
        Ok(())
    }

    /// Closes the circuit, fills the limiter and forgets the budget's counts: as new.
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

    /// A seed for a call that brought none.
    fn next_seed(&self) -> u64 {
        mix(self.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

#[inline]
fn limit(nanos: &AtomicU64) -> Option<Duration> {
    match nanos.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

/// A handle on one service's [`Pipeline`]. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Service(Arc<Pipeline>);

impl Service {
    /// A service of its own, outside every registry, on the system's clock.
    ///
    /// # Errors
    /// All contradictions in the policy.
    pub fn standalone(name: &str, policy: Policy) -> Result<Self, ConfigError> {
        Pipeline::new(name, policy, Clock::system(), None).map(Self::from)
    }

    /// Asks every part at once, without waiting for any: for work that is ready now.
    ///
    /// The admission owns its service, so it can go to another task.
    ///
    /// # Errors
    /// The first part that says no. Nothing stays taken then.
    #[inline]
    pub fn try_admit(&self, now: Moment) -> Result<Admission<Self>, crate::Refusal> {
        self.try_admit_for(None, now)
    }

    /// As [`try_admit`](Self::try_admit), for work that may take as long as `limit`: a probe of a half-open circuit
    /// keeps its place for that long.
    ///
    /// # Errors
    /// As [`try_admit`](Self::try_admit).
    #[inline]
    pub fn try_admit_for(
        &self,
        limit: Option<Duration>,
        now: Moment,
    ) -> Result<Admission<Self>, crate::Refusal> {
        match self.0.enter_now(1, limit, now) {
            Ok(entry) => Ok(Admission::new(self.clone(), entry)),
            Err(refused) => Err(refused.by(self.name())),
        }
    }

    /// Whether anybody but the registry holds this service.
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
