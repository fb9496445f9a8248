//! What a definition asks for in resilience: retries, breaker, rate limit and bulkhead of an action.
//!
//! These are the definition's words, lowered from both spellings; the engine and the actions turn them into the parts
//! of `loom-resilience`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use loom_expression::Template;

use crate::duration::Span;

mod guards;
mod read;

pub use read::{PolicyProblem, Spelling};

#[cfg(test)]
mod tests;

/// Everything an action asks for.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    /// When and how often to try again.
    pub retry: RetrySetting,
    /// Fail fast while a service is down.
    pub breaker: Option<BreakerSpec>,
    /// Space calls out.
    pub rate_limit: Option<RateLimitSpec>,
    /// Cap calls in flight.
    pub bulkhead: Option<BulkheadSpec>,
    /// What to do with a call that a crash interrupted.
    pub on_uncertain: OnUncertain,
}

/// Where an action's retry policy comes from.
#[derive(Clone, Debug, Default)]
pub enum RetrySetting {
    /// Nothing was said: the type's default holds (WDL retries requests four times; other actions never).
    #[default]
    Default,
    /// Known at load.
    Fixed(Arc<RetryPolicy>),
    /// Holds an expression; what it gives is read with [`RetryPolicy::read`], by the rules of the spelling.
    Computed(Template, Spelling),
}

/// A retry policy, with every number in place.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Calls in all, the first included; 1 means no retry.
    pub max_attempts: u32,
    /// The waits between them.
    pub schedule: Schedule,
    /// Which failures may be tried again; none means the kind's own rule (408, 429, 5xx, connectivity for requests).
    pub retryable: Option<Vec<ErrorPattern>>,
}

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// The same each time.
    Fixed(Duration),
    /// WDL's exponential: before retry n, uniform in `[max(2^(n-2)·interval, minimum), min(2^(n-1)·interval, maximum)]`.
    Band {
        /// The unit that doubles.
        interval: Duration,
        /// No wait is shorter.
        minimum: Duration,
        /// No wait is longer.
        maximum: Duration,
    },
    /// Loom's exponential: `initial · multiplier^(n-1)`, at most `maximum`.
    Exponential {
        /// Before the first retry.
        initial: Duration,
        /// No wait is longer.
        maximum: Duration,
        /// Growth, at least 1.
        multiplier: f64,
        /// Whether waits are drawn at random below their bound.
        jitter: Jitter,
    },
}

impl Schedule {
    /// Whether it is one of WDL's own, `fixed` or `exponential`: a service's `Retry-After` takes the place of their waits. In the
    /// Loom spelling it only makes them longer.
    pub const fn is_of_the_language(&self) -> bool {
        matches!(self, Self::Fixed(_) | Self::Band { .. })
    }
}

/// How waits are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Exactly the computed wait.
    #[default]
    None,
    /// Uniform between nothing and the computed wait.
    Full,
    /// Half of it, plus a uniform half.
    Equal,
}

/// One entry of `retryableErrors`: matched against an error's code, HTTP status and message, ignoring case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorPattern {
    /// An HTTP status.
    Status(u16),
    /// Every status of a hundred, such as `5xx`.
    StatusClass(u8),
    /// An error code, or text in the message.
    Text(Arc<str>),
}

/// `circuitBreaker`.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSpec {
    /// The service's name; else the call's origin, else `workflow/action`.
    pub name: Option<Arc<str>>,
    /// Consecutive failures that open it.
    pub failure_threshold: NonZeroU32,
    /// Successes in half-open that close it.
    pub success_threshold: NonZeroU32,
    /// How long it stays open.
    pub timeout: Duration,
    /// Probes out at once in half-open.
    pub half_open_requests: NonZeroU32,
    /// Opens on a failure rate as well.
    pub failure_rate: Option<RateTrip>,
    /// Opens on a rate of slow calls as well.
    pub slow_calls: Option<SlowTrip>,
}

/// A failure rate that opens a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct RateTrip {
    /// The share of calls, over 0 up to 1.
    pub threshold: f64,
    /// Calls needed before the rate means anything.
    pub minimum_calls: NonZeroU32,
    /// Over which calls.
    pub window: Window,
}

/// A rate of slow calls that opens a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowTrip {
    /// From here on a call is slow.
    pub duration: Duration,
    /// The share of calls, over 0 up to 1.
    pub threshold: f64,
}

/// Over which calls a rate is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many.
    Count(NonZeroU32),
    /// Those of the last so long.
    Time(Duration),
}

/// `rateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitSpec {
    /// The limiter's name; else as the breaker's.
    pub name: Option<Arc<str>>,
    /// Calls per period.
    pub requests: NonZeroU32,
    /// The period.
    pub per: Duration,
    /// Calls at most at once; `requests` when absent.
    pub burst: Option<NonZeroU32>,
    /// The longest wait for a permit; what is left of the action's time when absent.
    pub max_wait: Option<Duration>,
}

/// `bulkhead`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkheadSpec {
    /// The bulkhead's name; else as the breaker's.
    pub name: Option<Arc<str>>,
    /// Calls in flight.
    pub max_concurrent: NonZeroU32,
    /// Calls that may wait for a place.
    pub max_queued: u32,
}

/// What to do with an effect that was in flight when the process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUncertain {
    /// Do it again with the same idempotency key.
    #[default]
    Retry,
    /// Fail the action.
    Fail,
    /// Hold the run until somebody decides.
    Ask,
}

/// The longest interval the retry of an action may name; a day.
pub const RETRY_INTERVAL_MAX: Span = Span::from_days(1);
