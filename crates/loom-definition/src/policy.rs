//! The resilience policies of an action: retries, circuit breaker, rate limit and bulkhead.
//!
//! These types describe what a definition specifies, in either spelling. The engine and the actions turn them into the
//! components of `loom-resilience`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use loom_expression::Template;
pub use loom_resilience::{Mode, Scope};

use crate::{duration::Span, status::StatusSet};

mod chaos;
mod guards;
mod named;
mod read;
mod tree;

pub use chaos::{ChaosBehaviour, ChaosEffect, ChaosInjection, ChaosPlan};
pub use named::{EffectivePolicy, EffectiveSetting, NoSuchPolicy, Policies};
pub(crate) use read::mode_of;
pub use read::{PolicyProblem, Spelling};
pub use tree::Tree;

#[cfg(test)]
mod tests;

/// All policies of an action.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    /// When and how often to retry.
    pub retry: RetrySetting,
    /// Fails fast while a service is down.
    pub breaker: Option<BreakerSpec>,
    /// Limits the rate of calls.
    pub rate_limit: Option<RateLimitSpec>,
    /// Limits the calls in flight.
    pub bulkhead: Option<BulkheadSpec>,
    /// Sends another copy of a slow call.
    pub hedge: Option<HedgeSpec>,
    /// The timeout of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// Whether that timeout is enforced.
    pub attempt_timeout_mode: Mode,
    /// The timeout of the whole action that its named policy sets; that of the action itself goes before it.
    pub timeout: Option<Span>,
    /// Whether the timeout of the whole action is enforced. In the definition's own policies, this is about the action's own
    /// timeout; in a named one, about the timeout of the policy.
    pub timeout_mode: Mode,
    /// What to do after a crash with a call that was in flight.
    pub on_uncertain: OnUncertain,
    /// The named policy that the action uses, and its overrides. The other fields then hold only what cannot be in a named
    /// policy; see [`Policies::of_action`].
    pub named: Option<Arc<PolicyUse>>,
    /// Whether the calls are guarded by the service of the named policy, together with its other callers.
    pub shares: bool,
    /// What replaces a failure.
    pub fallback: Option<Box<Fallback>>,
}

/// A named policy as an action uses it.
#[derive(Clone, Debug)]
pub struct PolicyUse {
    /// The name of the service.
    pub name: Arc<str>,
    /// The members that the action overrides.
    pub overrides: Tree,
}

/// What replaces a call that failed for good.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// The outputs; `action()` is the record of the failed action.
    pub outputs: FallbackOutputs,
    /// The outcomes that it replaces: `Failed`, `TimedOut` or both.
    pub on: StatusSet,
    /// Whether it is used or only recorded.
    pub mode: Mode,
}

/// The outputs that a fallback gives.
#[derive(Clone, Debug)]
pub enum FallbackOutputs {
    /// All outputs.
    Whole(Template),
    /// Only their `body`.
    Body(Template),
}

/// Where an action's retry policy comes from.
#[derive(Clone, Debug, Default)]
pub enum RetrySetting {
    /// The definition specifies none: the default of the action type applies. WDL retries requests four times; other
    /// actions are not retried.
    #[default]
    Default,
    /// Known at load.
    Fixed(Arc<RetryPolicy>),
    /// Contains an expression. [`RetryPolicy::read`] reads its value by the rules of the spelling.
    Computed(Template, Spelling),
}

/// A retry policy with all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The most attempts, including the first; 1 means no retry.
    pub max_attempts: u32,
    /// The delays between them.
    pub schedule: Schedule,
    /// Which failures to retry; `None` means the rule of the action type (for requests: 408, 429, 5xx and connection
    /// failures).
    pub retryable: Option<Vec<ErrorPattern>>,
    /// Whether retries are made. In the other modes an action has one attempt; `observe` records the retries that would follow.
    pub mode: Mode,
}

/// The delays between attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// The same delay each time.
    Fixed(Duration),
    /// WDL's `exponential`: before retry n, uniformly distributed in `[max(2^(n-2)·interval, minimum), min(2^(n-1)·interval, maximum)]`.
    Band {
        /// The unit that doubles.
        interval: Duration,
        /// The shortest delay.
        minimum: Duration,
        /// The longest delay.
        maximum: Duration,
    },
    /// The Loom spelling: `initial · multiplier^(n-1)`, at most `maximum`.
    Exponential {
        /// The delay before the first retry.
        initial: Duration,
        /// The longest delay.
        maximum: Duration,
        /// The growth factor, 1 to 100.
        multiplier: f64,
        /// How much of the delay is random.
        jitter: Jitter,
    },
}

impl Schedule {
    /// Whether it is WDL's `fixed` or `exponential`. The `Retry-After` of a response replaces the delays of these; in the Loom
    /// spelling it can only lengthen them.
    pub const fn is_of_the_language(&self) -> bool {
        matches!(self, Self::Fixed(_) | Self::Band { .. })
    }
}

/// How much of a delay is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Jitter {
    /// None: exactly the computed delay.
    #[default]
    None,
    /// Uniformly distributed between zero and the computed delay.
    Full,
    /// Half of the computed delay, plus a uniformly distributed part of the other half.
    Equal,
}

/// One entry of `retryableErrors`: matched against an error's code, HTTP status and message, ignoring case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorPattern {
    /// An HTTP status.
    Status(u16),
    /// All statuses of a class, such as `5xx`; the value is the first digit.
    StatusClass(u8),
    /// An error code, or a part of the message.
    Text(Arc<str>),
}

/// A `circuitBreaker`.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSpec {
    /// The name of the service. Without it: the origin of the call, else `workflow/action`.
    pub name: Option<Arc<str>>,
    /// The consecutive failures that open the circuit.
    pub failure_threshold: NonZeroU32,
    /// The successes in half-open state that close it.
    pub success_threshold: NonZeroU32,
    /// How long it stays open; longer than zero.
    pub timeout: Duration,
    /// The most concurrent probes in half-open state.
    pub half_open_requests: NonZeroU32,
    /// Also opens the circuit on this failure rate.
    pub failure_rate: Option<RateTrip>,
    /// Also opens the circuit on this rate of slow calls.
    pub slow_calls: Option<SlowTrip>,
    /// Whether it rejects calls or only counts those that it would reject.
    pub mode: Mode,
    /// Whether it is that of a node, or of all nodes of a cluster.
    pub scope: Scope,
}

/// A failure rate that opens a circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct RateTrip {
    /// The share of calls: greater than 0, at most 1.
    pub threshold: f64,
    /// The fewest calls for which the rate is evaluated.
    pub minimum_calls: NonZeroU32,
    /// The calls over which the rate is measured.
    pub window: Window,
}

/// A rate of slow calls that opens a circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowTrip {
    /// A call that takes at least this long is slow.
    pub duration: Duration,
    /// The share of calls: greater than 0, at most 1.
    pub threshold: f64,
}

/// The calls over which a rate is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last calls, by number.
    Count(NonZeroU32),
    /// The calls of the last period.
    Time(Duration),
}

/// A `rateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitSpec {
    /// The name of the service, with the same default as [`BreakerSpec::name`].
    pub name: Option<Arc<str>>,
    /// The calls allowed per period.
    pub requests: NonZeroU32,
    /// The period.
    pub per: Duration,
    /// The most calls at once; `requests` by default.
    pub burst: Option<NonZeroU32>,
    /// The longest wait for a permit; by default, until the action times out.
    pub max_wait: Option<Duration>,
    /// Whether responses of the service lower the limit and pause all callers.
    pub learn: bool,
    /// Whether calls wait and are rejected, or only counted.
    pub mode: Mode,
    /// Whether it is that of a node, or of all nodes of a cluster.
    pub scope: Scope,
}

/// A `bulkhead`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkheadSpec {
    /// The name of the service, with the same default as [`BreakerSpec::name`].
    pub name: Option<Arc<str>>,
    /// The most calls in flight.
    pub max_concurrent: NonZeroU32,
    /// The most calls that wait for a permit; further ones are rejected.
    pub max_queued: u32,
    /// Whether calls wait and are rejected, or only counted.
    pub mode: Mode,
}

/// A `hedge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeSpec {
    /// How long an attempt runs before another copy is sent.
    pub delay: Duration,
    /// The most copies, including the first; at least 2.
    pub max_attempts: u32,
    /// Whether the definition declares the call repeatable. If not, only calls of which the handler knows it are hedged.
    pub idempotent: bool,
    /// Whether copies are sent or only counted.
    pub mode: Mode,
}

/// What to do with a call that was in flight when the process crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUncertain {
    /// Repeat it with the same idempotency key.
    #[default]
    Retry,
    /// Fail the action.
    Fail,
    /// Hold the run until an operator decides.
    Ask,
}

/// The members of a `retryPolicy`, in both spellings.
pub(crate) const RETRY_MEMBERS: &[&str] = &[
    "type",
    "count",
    "interval",
    "minimumInterval",
    "maximumInterval",
    "maxInterval",
    "maxAttempts",
    "initialDelay",
    "maxDelay",
    "backoffMultiplier",
    "jitter",
    "retryableErrors",
    "mode",
];

/// The members of a `circuitBreaker`.
pub(crate) const BREAKER_MEMBERS: &[&str] = &[
    "enabled",
    "name",
    "failureThreshold",
    "successThreshold",
    "timeout",
    "halfOpenRequests",
    "failureRate",
    "slowCalls",
    "window",
    "windowSize",
    "minimumCalls",
    "mode",
    "scope",
];

/// The members of a `rateLimit`.
pub(crate) const RATE_LIMIT_MEMBERS: &[&str] =
    &["enabled", "name", "requests", "per", "burst", "maxWait", "learn", "mode", "scope"];

/// The members of a `bulkhead`.
pub(crate) const BULKHEAD_MEMBERS: &[&str] = &["enabled", "name", "maxConcurrent", "maxQueued", "mode"];

/// The members of a `hedge`.
pub(crate) const HEDGE_MEMBERS: &[&str] = &["enabled", "delay", "maxAttempts", "idempotent", "mode"];

/// The longest interval in a retry policy: one day.
pub const RETRY_INTERVAL_MAX: Span = Span::from_days(1);
