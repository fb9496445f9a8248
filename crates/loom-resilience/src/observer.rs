//! Events for logs, metrics and tests: one trait and one event type.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    limiter::Learned,
    refusal::{Refused, TripCause},
    retry::StopReason,
    verdict::Verdict,
};

/// Receives events. Implemented by every `Fn(&Event<'_>)`.
///
/// Called on the thread of the call, outside every lock of this crate, so an implementation may call back into the crate.
/// It should be quick, and must not block.
///
/// ```
/// # use loom_resilience::{BreakerConfig, Event, Policy, ResilienceRegistry};
/// # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// let refusals = Arc::new(AtomicU32::new(0));
/// let count = Arc::clone(&refusals);
/// let registry = ResilienceRegistry::builder()
///     .defaults(Policy::none().breaker(BreakerConfig::new().failure_threshold(1)))
///     .observer(Arc::new(move |event: &Event<'_>| {
///         if let Event::Refused { .. } = event {
///             count.fetch_add(1, Ordering::Relaxed);
///         }
///     }))
///     .build()?;
/// let service = registry.service("billing");
/// let now = registry.clock().now();
/// service.try_admit(now)?.failure(now);
/// assert!(service.try_admit(now).is_err());
/// assert_eq!(refusals.load(Ordering::Relaxed), 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Receives one event.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum CircuitState {
    /// Calls pass.
    #[cfg_attr(feature = "serde", serde(alias = "Closed"))]
    Closed,
    /// Calls are refused.
    #[cfg_attr(feature = "serde", serde(alias = "Open"))]
    Open,
    /// A few probes test whether the service has recovered.
    #[cfg_attr(feature = "serde", serde(alias = "HalfOpen"))]
    HalfOpen,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        })
    }
}

/// Something that happened to one service.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A circuit changed its state.
    StateChanged {
        /// The service.
        service: &'a str,
        /// The state before.
        from: CircuitState,
        /// The state after.
        to: CircuitState,
        /// Why it opened; `None` unless it opened.
        cause: Option<TripCause>,
        /// How long it stays open; `None` unless it opened.
        open_for: Option<Duration>,
        /// When it changed.
        at: Instant,
    },
    /// A call was refused, or would have been if the part were not in observe mode.
    Refused {
        /// The service.
        service: &'a str,
        /// The rule, and when to come back.
        refused: &'a Refused,
        /// Whether the call was refused. `false` in observe mode.
        enforced: bool,
    },
    /// A call started to wait.
    Waiting {
        /// The service.
        service: &'a str,
        /// What it waits for.
        on: WaitFor,
        /// The expected wait; `None` when it is not known.
        expected: Option<Duration>,
        /// Whether it really waits. `false` in observe mode: it would have waited.
        enforced: bool,
    },
    /// A call stopped waiting and continues.
    Waited {
        /// The service.
        service: &'a str,
        /// What it waited for.
        on: WaitFor,
        /// How long it waited.
        waited: Duration,
    },
    /// An attempt ended.
    Attempt {
        /// The service.
        service: &'a str,
        /// Its number, from 1.
        number: u32,
        /// Its verdict.
        verdict: Verdict,
        /// How long it took.
        took: Duration,
        /// Whether it timed out.
        timed_out: bool,
    },
    /// Another attempt will follow.
    Retry {
        /// The service.
        service: &'a str,
        /// The attempts made so far.
        attempts: u32,
        /// The delay before the next one.
        delay: Duration,
    },
    /// A hedged copy of a slow attempt was sent.
    Hedged {
        /// The service.
        service: &'a str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The number of the copy, from 1.
        copy: u32,
    },
    /// A fallback replaced a failed call.
    FellBack {
        /// The service.
        service: &'a str,
        /// How the call had failed.
        kind: FailureKind,
    },
    /// A part in observe mode would have interfered with a call: cut it off, retried it, refused the retry, hedged it, or
    /// replaced it. Observed refusals and waits are [`Event::Refused`] and [`Event::Waiting`]; see [`Event::observed`].
    Observed {
        /// The service.
        service: &'a str,
        /// The part.
        part: Part,
    },
    /// Chaos was injected into an attempt.
    #[cfg(feature = "chaos")]
    Injected {
        /// The service.
        service: &'a str,
        /// What was injected.
        kind: crate::chaos::ChaosKind,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// The policy of the service was changed.
    Reconfigured {
        /// The service.
        service: &'a str,
        /// The parts whose configuration changed, from the outside in.
        parts: &'a [Part],
    },
    /// The limiter applied what the service reported about its own limit.
    LimitLearned {
        /// The service.
        service: &'a str,
        /// What the service reported.
        learned: Learned,
    },
    /// No other attempt will follow.
    GaveUp {
        /// The service.
        service: &'a str,
        /// The attempts made.
        attempts: u32,
        /// Why no other follows.
        why: StopReason,
    },
}

impl Event<'_> {
    /// The part that would have interfered if it were not in observe mode; `None` for every other event. One event counts
    /// once, so this is what a metric of observed interferences counts.
    pub const fn observed(&self) -> Option<Part> {
        match self {
            Event::Observed { part, .. } => Some(*part),
            Event::Refused { refused, enforced: false, .. } => Some(refused.rule.part()),
            Event::Waiting { on, enforced: false, .. } => Some(match on {
                WaitFor::RateLimiter => Part::Limiter,
                WaitFor::Bulkhead => Part::Bulkhead,
            }),
            _ => None,
        }
    }
}

/// A part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Part {
    /// The fallback.
    Fallback,
    /// The total timeout.
    TotalTimeout,
    /// The retry.
    Retry,
    /// The retry budget.
    Budget,
    /// The hedge.
    Hedge,
    /// The circuit breaker.
    Breaker,
    /// The rate limiter.
    Limiter,
    /// The bulkhead.
    Bulkhead,
    /// The attempt timeout.
    AttemptTimeout,
}

impl Part {
    /// A stable name for logs and metrics, such as `attempt_timeout`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::TotalTimeout => "total_timeout",
            Self::Retry => "retry",
            Self::Budget => "budget",
            Self::Hedge => "hedge",
            Self::Breaker => "breaker",
            Self::Limiter => "limiter",
            Self::Bulkhead => "bulkhead",
            Self::AttemptTimeout => "attempt_timeout",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of failure that a fallback distinguishes. A cancelled call is never replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureKind {
    /// One of our own parts refused the call.
    Refused,
    /// The call timed out.
    TimedOut,
    /// The service failed.
    Failed,
    /// The service is healthy and rejected the request.
    Rejected,
}

impl FailureKind {
    /// A stable name for logs and metrics, such as `timed_out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part whose permit a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WaitFor {
    /// The rate limiter.
    #[cfg_attr(feature = "serde", serde(alias = "Permit"))]
    RateLimiter,
    /// The bulkhead.
    #[cfg_attr(feature = "serde", serde(alias = "Place"))]
    Bulkhead,
}

impl WaitFor {
    /// A stable name for logs and metrics: `permit` for the rate limiter, `place` for the bulkhead.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimiter => "permit",
            Self::Bulkhead => "place",
        }
    }
}

/// The name of the service and the observer, shared by its parts.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) name: Arc<str>,
    observer: Option<Arc<dyn Observer>>,
}

impl Reporter {
    pub(crate) fn new(name: &str, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { name: Arc::from(name), observer }
    }

    #[inline]
    pub(crate) const fn is_enabled(&self) -> bool {
        self.observer.is_some()
    }

    /// Builds and reports an event, if there is an observer.
    #[inline]
    pub(crate) fn emit<'a>(&'a self, event: impl FnOnce(&'a str) -> Event<'a>) {
        if let Some(observer) = &self.observer {
            observer.on_event(&event(&self.name));
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reporter({}, enabled: {})", self.name, self.is_enabled())
    }
}
