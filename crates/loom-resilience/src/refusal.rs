//! Refusals: calls that our own parts did not let through. The service was never asked.

use std::{fmt, sync::Arc, time::Duration};

use crate::clock::Moment;

/// Which rule said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Rule {
    /// The circuit is open.
    CircuitOpen,
    /// The circuit is half-open and all its probes are out.
    CircuitHalfOpen,
    /// An operator isolated the service.
    Isolated,
    /// No permit of the rate limiter is, or will in time be, free.
    RateLimit,
    /// The service told us to stay away until a time, and it has not come.
    Frozen,
    /// The call asks for more permits than the limiter can ever hold.
    TooManyPermits,
    /// The limiter's or the bulkhead's queue is full.
    QueueFull,
    /// The bulkhead is full, and the call may not or can no longer wait.
    BulkheadFull,
    /// The deadline of the whole call has passed before an attempt could start.
    Deadline,
}

impl Rule {
    /// A short stable name: `circuit_open`, `rate_limit` and so on.
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
#[non_exhaustive]
pub enum TripCause {
    /// So many failures in a row.
    Consecutive {
        /// Failures without a success between them.
        failures: u32,
    },
    /// Too large a part of the calls in the window failed.
    FailureRate {
        /// Failed calls in the window.
        failures: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// Too large a part of the calls in the window was slow.
    SlowRate {
        /// Slow calls in the window.
        slow: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// The probes of the half-open circuit could no longer close it.
    ProbesFailed {
        /// Probes that failed.
        failures: u32,
    },
    /// Opened by hand.
    Manual,
}

impl TripCause {
    /// Packs the cause into one word, so that a refusal can read it without a lock. Counts stop at 2^28 - 1.
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
            Self::Manual => f.write_str("opened by hand"),
        }
    }
}

/// The open circuit behind a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Why it opened.
    pub cause: TripCause,
    /// When it opened.
    pub since: Moment,
}

/// A refusal by one part, which does not know the service's name. Small and `Copy`: making one allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
#[must_use]
pub struct Refused {
    /// The rule that said no.
    pub rule: Rule,
    /// How long to wait before it can say yes; `None` when that is not known, or when waiting will not help.
    pub retry_after: Option<Duration>,
    /// The state of the open circuit, where that is the rule.
    pub opened: Option<Opened>,
}

impl Refused {
    pub(crate) const fn new(rule: Rule, retry_after: Option<Duration>) -> Self {
        Self { rule, retry_after, opened: None }
    }

    /// The same refusal with the name of the service that it protects.
    pub fn by(self, service: &Arc<str>) -> Refusal {
        Refusal { service: Arc::clone(service), refused: self }
    }

    /// Whether an operator opened the circuit or isolated the service: no wait makes that pass.
    pub fn is_by_hand(&self) -> bool {
        let opened_by_hand = self.opened.is_some_and(|opened| opened.cause == TripCause::Manual);
        self.rule == Rule::Isolated || opened_by_hand
    }

    fn sentence(&self) -> &'static str {
        match self.rule {
            Rule::CircuitOpen => "the circuit is open",
            Rule::CircuitHalfOpen => "the circuit is half-open and its probes are out",
            Rule::Isolated => "the service is isolated",
            Rule::RateLimit => "the rate limit is reached",
            Rule::Frozen => "the service asked for a pause",
            Rule::TooManyPermits => "the call asks for more permits than the limit can hold",
            Rule::QueueFull => "the queue is full",
            Rule::BulkheadFull => "all places are taken",
            Rule::Deadline => "the deadline has passed",
        }
    }
}

/// A refusal with the name of the service: which rule, why, since when, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The service that was spared.
    pub service: Arc<str>,
    /// What the part said.
    pub refused: Refused,
}

impl Refusal {
    /// The rule that said no.
    pub const fn rule(&self) -> Rule {
        self.refused.rule
    }

    /// How long to wait before the rule can say yes.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.refused.retry_after
    }

    /// Why the circuit opened, when that is the rule.
    pub fn cause(&self) -> Option<TripCause> {
        self.refused.opened.map(|opened| opened.cause)
    }

    /// Since when the circuit is open, when that is the rule.
    pub fn opened_since(&self) -> Option<Moment> {
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
                write!(f, "Circuit breaker [{name}] is HALF_OPEN and its probes are out")?;
            }
            Rule::Isolated => write!(f, "Circuit breaker [{name}] is OPEN: isolated by hand")?,
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

/// Prints a duration in whole milliseconds, rounded up, so that a printed wait is never too short.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_nanos().div_ceil(1_000_000))
    }
}
