//! Chaos: injects faults, latency, outcomes and behaviour into calls, to test how a system copes (feature `chaos`).
//!
//! Chaos belongs innermost, around the call itself, so that every other part sees it as it sees the real service: an
//! injected latency runs into the attempt timeout, an injected fault counts in the breaker. It is never part of a
//! [`Policy`](crate::Policy), so no configuration of a service can switch it on.
//!
//! Each injection has a rate, a gate and a seed of its own ([`Injection`]). Whether it applies is a pure function of its
//! seed, the seed of the call and the number of the attempt, so a run under the same seeds gets the same faults.
//!
//! ```
//! # use loom_resilience::{AllTransient, Policy, Service, chaos::{Chaos, Injection}};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let chaos: Chaos<&str, std::io::Error> = Chaos::new()
//!     .latency(Injection::new(0.1).seed(1), Duration::from_millis(1))
//!     .fault(Injection::new(1.0).seed(2), |_| std::io::Error::other("injected"));
//!
//! let service = Service::standalone("billing", Policy::none())?;
//! let result = service
//!     .call()
//!     .seed(42)
//!     .classify(AllTransient)
//!     .run(|attempt| chaos.run(&service, attempt, || async { Ok("paid") }))
//!     .await;
//! assert!(result.unwrap_err().to_string().starts_with("injected"));
//! # Ok(()) }
//! ```

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    config::{Checker, ConfigError},
    observer::Event,
    pipeline::{AttemptInfo, Pipeline},
    random::{mix, seed_of},
};

/// What is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ChaosKind {
    /// An error in place of the call.
    Fault,
    /// A delay before the call.
    Latency,
    /// A value in place of the call.
    Outcome,
    /// Something that runs before the call, such as stopping a dependency.
    Behavior,
}

impl ChaosKind {
    /// A stable name for logs and metrics, such as `latency`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Latency => "latency",
            Self::Outcome => "outcome",
            Self::Behavior => "behavior",
        }
    }
}

/// The attempt that an injection may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChaosContext<'a> {
    /// The name of the service.
    pub service: &'a str,
    /// The seed of the call.
    pub seed: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The number of the hedged copy; 0 for the attempt itself.
    pub copy: u32,
}

impl<'a> ChaosContext<'a> {
    /// The context of the first attempt of a call.
    pub const fn new(service: &'a str, seed: u64) -> Self {
        Self { service, seed, attempt: 1, copy: 0 }
    }

    /// Another attempt, from 1.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

type Gate = Arc<dyn Fn(&ChaosContext<'_>) -> bool + Send + Sync>;

/// When an injection applies: at a rate, behind a gate, from a seed.
///
/// ```
/// # use loom_resilience::chaos::{ChaosContext, Injection};
/// let injection = Injection::new(0.25).seed(7).gate(|context| context.service == "billing");
/// let hits = (0..1_000).filter(|seed| injection.applies(&ChaosContext::new("billing", *seed))).count();
/// assert!((200..300).contains(&hits), "about a quarter of the calls: {hits}");
/// assert!(!injection.applies(&ChaosContext::new("search", 1)));
/// ```
#[derive(Clone)]
pub struct Injection {
    rate: f64,
    seed: u64,
    gate: Option<Gate>,
}

impl Injection {
    /// Strikes this share of the attempts, 0 to 1. A rate below or above counts as 0 or 1, and one that is not a number as 0;
    /// see [`validate`](Self::validate).
    pub const fn new(rate: f64) -> Self {
        Self { rate, seed: 0, gate: None }
    }

    /// The seed. Injections with the same seed and rate strike the same attempts.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Strikes only attempts for which `gate` returns `true`. The gate is asked for every attempt that the rate selects.
    #[must_use]
    pub fn gate(mut self, gate: impl Fn(&ChaosContext<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// Whether the injection applies to this attempt. Always the same for the same context.
    pub fn applies(&self, context: &ChaosContext<'_>) -> bool {
        let attempt = (u64::from(context.attempt) << 32) | u64::from(context.copy);
        let random = mix(mix(self.seed ^ seed_of(context.service), context.seed), attempt);
        // The upper 53 bits are a fraction in [0, 1) that a `f64` holds exactly.
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < self.rate && self.gate.as_ref().is_none_or(|gate| gate(context))
    }

    /// Checks the rate.
    ///
    /// # Errors
    /// The rate is not between 0 and 1.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require((0.0..=1.0).contains(&self.rate), "chaos.rate", "must be between 0 and 1");
        check.finish()
    }
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection")
            .field("rate", &self.rate)
            .field("seed", &self.seed)
            .field("gate", &self.gate.is_some())
            .finish()
    }
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type Make<R> = Arc<dyn Fn(&ChaosContext<'_>) -> R + Send + Sync>;

enum Effect<T, E> {
    Latency(Duration),
    Behavior(Make<BoxFuture>),
    Fault(Make<E>),
    Outcome(Make<T>),
}

impl<T, E> Clone for Effect<T, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Latency(delay) => Self::Latency(*delay),
            Self::Behavior(make) => Self::Behavior(Arc::clone(make)),
            Self::Fault(make) => Self::Fault(Arc::clone(make)),
            Self::Outcome(make) => Self::Outcome(Arc::clone(make)),
        }
    }
}

impl<T, E> Effect<T, E> {
    const fn kind(&self) -> ChaosKind {
        match self {
            Self::Latency(_) => ChaosKind::Latency,
            Self::Behavior(_) => ChaosKind::Behavior,
            Self::Fault(_) => ChaosKind::Fault,
            Self::Outcome(_) => ChaosKind::Outcome,
        }
    }
}

/// The injections around one kind of call, in the order in which they were added. A fault or an outcome ends the attempt,
/// so what was added after it does not run then.
pub struct Chaos<T, E> {
    effects: Vec<(Injection, Effect<T, E>)>,
    /// Seeds calls that have none. Clones share it.
    calls: Arc<AtomicU64>,
}

impl<T, E> Default for Chaos<T, E> {
    fn default() -> Self {
        Self { effects: Vec::new(), calls: Arc::default() }
    }
}

impl<T, E> Clone for Chaos<T, E> {
    fn clone(&self) -> Self {
        Self { effects: self.effects.clone(), calls: Arc::clone(&self.calls) }
    }
}

impl<T, E> fmt::Debug for Chaos<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let injections = self.effects.iter().map(|(injection, effect)| (effect.kind(), injection));
        f.debug_list().entries(injections).finish()
    }
}

impl<T, E> Chaos<T, E> {
    /// No injections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Delays the call.
    #[must_use]
    pub fn latency(self, injection: Injection, delay: Duration) -> Self {
        self.with(injection, Effect::Latency(delay))
    }

    /// Runs a future before the call.
    #[must_use]
    pub fn behavior<Fut>(
        self,
        injection: Injection,
        run: impl Fn(&ChaosContext<'_>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.with(injection, Effect::Behavior(Arc::new(move |context| Box::pin(run(context)))))
    }

    /// Returns an error in place of the call.
    #[must_use]
    pub fn fault(
        self,
        injection: Injection,
        make: impl Fn(&ChaosContext<'_>) -> E + Send + Sync + 'static,
    ) -> Self {
        self.with(injection, Effect::Fault(Arc::new(make)))
    }

    /// Returns a value in place of the call, such as a response with status 503.
    #[must_use]
    pub fn outcome(
        self,
        injection: Injection,
        make: impl Fn(&ChaosContext<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        self.with(injection, Effect::Outcome(Arc::new(make)))
    }

    fn with(mut self, injection: Injection, effect: Effect<T, E>) -> Self {
        self.effects.push((injection, effect));
        self
    }

    /// Makes the attempt with the injections that strike it. Each of them is reported to the observer of `service`.
    ///
    /// The seed is that of the call ([`Call::seed`](crate::Call::seed)). A call without one gets the next number of this
    /// `Chaos`, so that calls that are made one after the other are repeatable too.
    ///
    /// # Errors
    /// An injected fault, or the error of `work`.
    ///
    /// # Cancel safety
    /// As safe to cancel as `work` and the injected behaviour.
    pub async fn run<F, Fut>(&self, service: &Pipeline, attempt: AttemptInfo, work: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if self.effects.is_empty() {
            return work().await;
        }
        let seed = attempt.seed.unwrap_or_else(|| self.calls.fetch_add(1, Ordering::Relaxed));
        let context =
            ChaosContext { service: service.name(), seed, attempt: attempt.number, copy: attempt.copy };
        self.run_in(service, context, work).await
    }

    /// Makes a call without an attempt number. Its seed is the next number of this `Chaos`.
    ///
    /// # Errors
    /// An injected fault, or the error of `work`.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_next<F, Fut>(&self, service: &Pipeline, work: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let seed = self.calls.fetch_add(1, Ordering::Relaxed);
        self.run_in(service, ChaosContext::new(service.name(), seed), work).await
    }

    async fn run_in<F, Fut>(&self, service: &Pipeline, context: ChaosContext<'_>, work: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let attempt = context.attempt;
        for (injection, effect) in &self.effects {
            if !injection.applies(&context) {
                continue;
            }
            let kind = effect.kind();
            service.report(|service| Event::Injected { service, kind, attempt });
            match effect {
                Effect::Latency(delay) => {
                    service.clock().sleep_until(service.clock().now() + *delay).await;
                }
                Effect::Behavior(make) => make(&context).await,
                Effect::Fault(make) => return Err(make(&context)),
                Effect::Outcome(make) => return Ok(make(&context)),
            }
        }
        work().await
    }
}
