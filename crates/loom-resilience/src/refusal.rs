//! Refusals: calls that one of our own parts refused. The service was not called.

use std::{fmt, sync::Arc, time::Duration};

use crate::{clock::Instant, observer::Part};

/// The rule that refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Rule {
    /// The circuit is open.
    #[cfg_attr(feature = "serde", serde(alias = "CircuitOpen"))]
    CircuitOpen,
    /// The circuit is half-open and all its probes are in flight.
    #[cfg_attr(feature = "serde", serde(alias = "CircuitHalfOpen"))]
    CircuitHalfOpen,
    /// An operator isolated the service.
    #[cfg_attr(feature = "serde", serde(alias = "Isolated"))]
    Isolated,
    /// The rate limiter has no permit, and will have none in time.
    #[cfg_attr(feature = "serde", serde(alias = "RateLimit"))]
    RateLimit,
    /// The service asked for a pause that is not over.
    #[cfg_attr(feature = "serde", serde(alias = "Frozen"))]
    Frozen,
    /// The call requests more permits than the limiter can ever hold.
    #[cfg_attr(feature = "serde", serde(alias = "TooManyPermits"))]
    TooManyPermits,
    /// The queue of the rate limiter or of the bulkhead is full.
    #[cfg_attr(feature = "serde", serde(alias = "QueueFull"))]
    QueueFull,
    /// The bulkhead is full, and the call may not wait or has waited long enough.
    #[cfg_attr(feature = "serde", serde(alias = "BulkheadFull"))]
    BulkheadFull,
    /// The deadline of the call passed before an attempt could start.
    #[cfg_attr(feature = "serde", serde(alias = "Deadline"))]
    Deadline,
}

impl Rule {
    /// The part of the policy that has this rule.
    pub const fn part(self) -> Part {
        match self {
            Self::CircuitOpen | Self::CircuitHalfOpen | Self::Isolated => Part::Breaker,
            Self::RateLimit | Self::Frozen | Self::TooManyPermits => Part::Limiter,
            // The limiter reports a full queue too; its own rules are the ones above.
            Self::QueueFull | Self::BulkheadFull => Part::Bulkhead,
            Self::Deadline => Part::TotalTimeout,
        }
    }

    /// A stable name for logs and metrics, such as `circuit_open` or `rate_limit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::CircuitHalfOpen => "circuit_half_open",
            Self::Isolated => "isolated",
            Self::RateLimit => "rate_limit",
            Self::Frozen => "frozen",
            Self::TooManyPermits => "too_many_permits",
            Self::QueueFull => "queue_full",
            Self::BulkheadFull => "bulkhead_full",
            Self::Deadline => "deadline",
        }
    }
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TripCause {
    /// Consecutive failures.
    #[cfg_attr(feature = "serde", serde(alias = "Consecutive"))]
    Consecutive {
        /// The number of failures without a success between them.
        failures: u32,
    },
    /// Too many calls of the window failed.
    #[cfg_attr(feature = "serde", serde(alias = "FailureRate"))]
    FailureRate {
        /// The failed calls in the window.
        failures: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// Too many calls of the window were slow.
    #[cfg_attr(feature = "serde", serde(alias = "SlowRate"))]
    SlowRate {
        /// The slow calls in the window.
        slow: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// Probes of the half-open circuit failed, so that it could no longer close.
    #[cfg_attr(feature = "serde", serde(alias = "ProbesFailed"))]
    ProbesFailed {
        /// The probes that failed.
        failures: u32,
    },
    /// Opened manually.
    #[cfg_attr(feature = "serde", serde(alias = "Manual"))]
    Manual,
}

impl TripCause {
    /// Packs the cause into one word, so that a refusal reads it without a lock. Counts saturate at 2^28 - 1.
    pub(crate) const fn pack(self) -> u64 {
        const LIMIT: u32 = (1 << 28) - 1;
        let (kind, first, second) = match self {
            Self::Manual => (0, 0, 0),
            Self::Consecutive { failures } => (1, failures, 0),
            Self::FailureRate { failures, calls } => (2, failures, calls),
            Self::SlowRate { slow, calls } => (3, slow, calls),
            Self::ProbesFailed { failures } => (4, failures, 0),
        };
        let first = if first > LIMIT { LIMIT } else { first };
        let second = if second > LIMIT { LIMIT } else { second };
        (kind << 56) | ((first as u64) << 28) | second as u64
    }

    pub(crate) const fn unpack(word: u64) -> Self {
        let first = ((word >> 28) & 0x0FFF_FFFF) as u32;
        let second = (word & 0x0FFF_FFFF) as u32;
        match word >> 56 {
            1 => Self::Consecutive { failures: first },
            2 => Self::FailureRate { failures: first, calls: second },
            3 => Self::SlowRate { slow: first, calls: second },
            4 => Self::ProbesFailed { failures: first },
            _ => Self::Manual,
        }
    }
}

impl fmt::Display for TripCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureRate { failures, calls } => write!(f, "{failures} of {calls} calls failed"),
            Self::SlowRate { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::ProbesFailed { failures: 1 } => f.write_str("a probe failed"),
            Self::ProbesFailed { failures } => write!(f, "{failures} probes failed"),
            Self::Manual => f.write_str("opened manually"),
        }
    }
}

/// The open circuit behind a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// Why it opened.
    pub cause: TripCause,
    /// When it opened.
    pub since: Instant,
}

/// A refusal by one part, without the name of the service. Small and `Copy`; creating one allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
#[must_use]
#[non_exhaustive]
pub struct Refused {
    /// The rule that refused the call.
    pub rule: Rule,
    /// How long to wait before the rule can admit a call; `None` when that is not known, or when waiting does not help.
    pub retry_after: Option<Duration>,
    /// The open circuit, when that is the rule.
    pub opened: Option<Opened>,
}

impl Refused {
    /// A refusal by `rule`.
    pub const fn new(rule: Rule, retry_after: Option<Duration>) -> Self {
        Self { rule, retry_after, opened: None }
    }

    /// The same refusal with the name of the service.
    pub fn by(self, service: &Arc<str>) -> Refusal {
        Refusal { service: Arc::clone(service), refused: self }
    }

    /// Whether an operator opened the circuit or isolated the service, so that waiting does not help.
    pub fn is_manual(&self) -> bool {
        let opened_by_hand = self.opened.is_some_and(|opened| opened.cause == TripCause::Manual);
        self.rule == Rule::Isolated || opened_by_hand
    }

    fn sentence(&self) -> &'static str {
        match self.rule {
            Rule::CircuitOpen => "the circuit is open",
            Rule::CircuitHalfOpen => "the circuit is half-open and its probes are in flight",
            Rule::Isolated => "the service is isolated",
            Rule::RateLimit => "the rate limit is reached",
            Rule::Frozen => "the service asked for a pause",
            Rule::TooManyPermits => "the call requests more permits than the limit can hold",
            Rule::QueueFull => "the queue is full",
            Rule::BulkheadFull => "the bulkhead is full",
            Rule::Deadline => "the deadline has passed",
        }
    }
}

/// A refusal with the name of the service: the rule, the cause, and when to come back.
///
/// ```
/// # use loom_resilience::{BreakerConfig, Policy, Rule, Service, TripCause};
/// let policy = Policy::none().breaker(BreakerConfig::new().failure_threshold(1));
/// let service = Service::standalone("billing", policy)?;
/// let now = service.clock().now();
/// service.try_admit(now)?.failure(now);
///
/// let refusal = service.try_admit(now).unwrap_err();
/// assert_eq!(refusal.rule(), Rule::CircuitOpen);
/// assert_eq!(refusal.cause(), Some(TripCause::Consecutive { failures: 1 }));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The name of the service.
    pub service: Arc<str>,
    /// The refusal of the part.
    pub refused: Refused,
}

impl Refusal {
    /// The rule that refused the call.
    pub const fn rule(&self) -> Rule {
        self.refused.rule
    }

    /// How long to wait before the rule can admit a call.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.refused.retry_after
    }

    /// Why the circuit opened, when that is the rule.
    pub fn cause(&self) -> Option<TripCause> {
        self.refused.opened.map(|opened| opened.cause)
    }

    /// When the circuit opened, when that is the rule.
    pub fn opened_since(&self) -> Option<Instant> {
        self.refused.opened.map(|opened| opened.since)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.service;
        match self.refused.rule {
            Rule::CircuitOpen => write!(f, "Circuit breaker [{name}] is OPEN")?,
            Rule::CircuitHalfOpen => {
                write!(f, "Circuit breaker [{name}] is HALF_OPEN and all its probes are in flight")?;
            }
            Rule::Isolated => write!(f, "Circuit breaker [{name}] is OPEN: isolated manually")?,
            Rule::RateLimit => write!(f, "Rate limit [{name}] is reached")?,
            Rule::Frozen => write!(f, "Rate limit [{name}] is frozen: the service asked for a pause")?,
            Rule::TooManyPermits => write!(f, "Rate limit [{name}] can never grant so many permits at once")?,
            Rule::QueueFull => write!(f, "Queue of [{name}] is full")?,
            Rule::BulkheadFull => write!(f, "Bulkhead [{name}] is full")?,
            Rule::Deadline => write!(f, "Deadline of the call to [{name}] has passed")?,
        }
        if let Some(opened) = self.refused.opened {
            write!(f, " ({})", opened.cause)?;
        }
        if let Some(after) = self.refused.retry_after {
            write!(f, "; try again in {}", Millis(after))?;
        }
        Ok(())
    }
}

/// Formats a duration in whole milliseconds, rounded up, so that the wait shown is never too short.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_nanos().div_ceil(1_000_000))
    }
}
