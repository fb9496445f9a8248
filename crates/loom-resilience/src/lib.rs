//! Circuit breaker, rate limiter, retry, timeout, bulkhead and retry budget for any async call.
//!
//! Each part works alone. A [`Policy`] composes them, always in the same order, into a [`Service`]:
//!
//! ```
//! # use loom_resilience::{AllTransient, Limit, Policy, Service};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::standard().limit(Limit::per_second(50).burst(10));
//! let billing = Service::standalone("billing", policy)?;
//!
//! let response = billing
//!     .call()
//!     .idempotent()
//!     .classify(AllTransient)
//!     .run(|attempt| async move { Ok::<_, std::io::Error>(format!("attempt {}", attempt.number)) })
//!     .await?;
//! assert_eq!(response, "attempt 1");
//! # Ok(()) }
//! ```
//!
//! The whole crate follows three rules:
//! - An admission is a guard. It reports the outcome of its call exactly once. Dropping it reports a cancelled call and
//!   releases everything that was taken.
//! - One classification ([`Verdict`]) serves every part. Refusals by our own parts ([`Refusal`]) are a different type and
//!   never count as failures of the service.
//! - Time is an argument. Decisions take `now`, waits use an injected [`Clock`], and a pure, seeded function plans the
//!   retries, so everything can be tested and replayed without sleeping.
//!
//! # Minimum supported Rust version
//!
//! Rust 1.95. A newer version is required only in a minor release.

#![cfg_attr(
    loom_model,
    allow(dead_code, unused_imports, reason = "the model checker builds only breaker and limiter")
)]

mod breaker;
#[cfg(not(loom_model))]
mod budget;
#[cfg(not(loom_model))]
mod bulkhead;
#[cfg(all(feature = "chaos", not(loom_model)))]
pub mod chaos;
mod clock;
mod config;
#[cfg(not(loom_model))]
mod fallback;
#[cfg(not(loom_model))]
mod hedge;
#[cfg(all(feature = "http", not(loom_model)))]
pub mod http;
#[cfg(not(loom_model))]
pub mod inherit;
#[cfg(all(feature = "tower", not(loom_model)))]
pub mod layer;
mod limiter;
mod observer;
#[cfg(not(loom_model))]
mod pipeline;
#[cfg(not(loom_model))]
mod policy;
mod random;
mod refusal;
#[cfg(not(loom_model))]
mod registry;
mod retry;
#[cfg(feature = "serde")]
mod serde_duration;
#[cfg(not(loom_model))]
mod shared;
mod slots;
mod snapshot;
mod sync;
#[cfg(not(loom_model))]
mod timeout;
#[cfg(feature = "tracing")]
mod tracing_observer;
mod verdict;

pub use breaker::{
    BreakerAdmission, BreakerConfig, BreakerStatus, CircuitBreaker, Mode, OpenDuration, RateRule, Scope,
    SlowRule, Window,
};
#[cfg(not(loom_model))]
pub use budget::{Budget, BudgetConfig};
#[cfg(not(loom_model))]
pub use bulkhead::{Bulkhead, BulkheadConfig, BulkheadPermit};
pub use clock::{Clock, Instant, ManualClock};
pub use config::{ConfigError, ConfigIssue};
#[cfg(not(loom_model))]
pub use fallback::{FailedCall, Fallback, FallbackConfig, FallbackValue, NoFallback};
#[cfg(not(loom_model))]
pub use hedge::{Hedge, HedgeConfig};
#[cfg(all(feature = "config", not(loom_model)))]
pub use inherit::{PolicyFile, PolicyFileError, ResolvedPolicy, ResolvedSetting};
pub use limiter::{Learned, Limit, LimiterConfig, LimiterStatus, RateLimiter, Refill, Reservation};
pub use observer::{CircuitState, Event, FailureKind, Observer, Part, WaitFor};
#[cfg(not(loom_model))]
pub use pipeline::{
    Admission, Attempt, AttemptError, AttemptInfo, Call, CallError, ObservedParts, Pipeline, Service,
    ServiceStatus, TimeoutKind,
};
#[cfg(not(loom_model))]
pub use policy::Policy;
pub use refusal::{Opened, Refusal, Refused, Rule, TripCause};
#[cfg(not(loom_model))]
pub use registry::{RegistryBuilder, ResilienceRegistry, UnknownService};
#[cfg(not(loom_model))]
pub use retry::Retry;
pub use retry::{AttemptOutcome, Backoff, Jitter, RetryConfig, RetryDecision, RetryPlanner, StopReason};
#[cfg(not(loom_model))]
pub use shared::{Answering, Grant, Shared, SharedLimit, Sharing};
pub use snapshot::{
    BreakerSnapshot, BudgetSnapshot, LimitSnapshot, LimiterSnapshot, RegistrySnapshot, ServiceSnapshot,
};
#[cfg(not(loom_model))]
pub use timeout::{TimedOut, Timeout};
#[cfg(feature = "tracing")]
pub use tracing_observer::TracingObserver;
pub use verdict::{AllTransient, ByError, Classifier, Classify, Idempotency, Verdict};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, not(loom_model)))]
#[doc = include_str!("../README.md")]
struct Readme;
