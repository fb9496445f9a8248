//! Classification: what a finished call says about the service, and whether it may be repeated.
//!
//! One [`Verdict`] serves the breaker, the retry and the budget. A refusal by one of our own parts is a different type
//! ([`Refused`](crate::Refused)) and never reaches a classifier, so a full bulkhead cannot open a circuit.

use std::time::Duration;

/// What one finished call says about the service.
///
/// ```
/// use loom_resilience::{Idempotency, Verdict};
///
/// // A transient failure may have been processed: only a call that may be repeated is retried.
/// assert!(Verdict::Transient.may_retry(Idempotency::Idempotent));
/// assert!(!Verdict::Transient.may_retry(Idempotency::NonIdempotent));
/// // A request that never reached the service can always be sent again.
/// assert!(Verdict::NotSent.may_retry(Idempotency::NonIdempotent));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Verdict {
    /// The call succeeded.
    #[cfg_attr(feature = "serde", serde(alias = "Ok"))]
    Ok,
    /// The service is healthy and rejected the request: bad request, not found, forbidden. The breaker counts a
    /// success; a retry would fail again.
    #[cfg_attr(feature = "serde", serde(alias = "Answered", alias = "answered"))]
    Rejected,
    /// The service failed in a way that may pass, and may have processed the call: a 5xx status, a connection that was
    /// reset, a timeout.
    #[cfg_attr(feature = "serde", serde(alias = "Transient"))]
    Transient,
    /// The call certainly never reached the service: connection refused, unknown host. It can be repeated whether it is
    /// idempotent or not.
    #[cfg_attr(feature = "serde", serde(alias = "NotSent"))]
    NotSent,
    /// The service shed the call because of load (429, or 503 with `Retry-After`) and did not process it.
    #[cfg_attr(feature = "serde", serde(alias = "Throttled"))]
    Throttled {
        /// The pause that the service asked for (`Retry-After`), if it named one.
        #[cfg_attr(feature = "serde", serde(default, with = "crate::serde_duration::option"))]
        after: Option<Duration>,
    },
    /// Our side cancelled the call. This says nothing about the service, and the call is not retried.
    #[cfg_attr(feature = "serde", serde(alias = "Cancelled"))]
    Cancelled,
}

impl Verdict {
    /// Whether a breaker counts this verdict against the service.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Transient | Self::NotSent | Self::Throttled { .. })
    }

    /// Whether another attempt can help, and is allowed for a call of this [`Idempotency`].
    pub const fn may_retry(self, idempotency: Idempotency) -> bool {
        match self {
            Self::Ok | Self::Rejected | Self::Cancelled => false,
            Self::NotSent | Self::Throttled { .. } => true,
            Self::Transient => idempotency.may_repeat(),
        }
    }
}

/// Whether a call may be sent twice, in the terms of RFC 9110, section 9.2.
///
/// The default is [`NonIdempotent`](Self::NonIdempotent): a call that may have been processed is retried only when its
/// caller has declared that to be harmless.
///
/// ```
/// use loom_resilience::Idempotency;
///
/// assert_eq!(Idempotency::of_method("GET"), Idempotency::Safe);
/// assert_eq!(Idempotency::of_method("PUT"), Idempotency::Idempotent);
/// assert_eq!(Idempotency::of_method("POST"), Idempotency::NonIdempotent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Idempotency {
    /// The call only reads: `GET`, `HEAD`, `OPTIONS`, `TRACE`.
    #[cfg_attr(feature = "serde", serde(alias = "Safe"))]
    Safe,
    /// Sending the call twice has the same effect as sending it once: `PUT`, `DELETE`, and any call that carries an
    /// idempotency key.
    Idempotent,
    /// Sending the call twice may do the work twice: `POST`, `PATCH`, and anything unknown. It is retried only after a
    /// verdict that says it was not processed ([`Verdict::NotSent`], [`Verdict::Throttled`]).
    #[default]
    #[cfg_attr(feature = "serde", serde(alias = "Unsafe", alias = "unsafe"))]
    NonIdempotent,
}

impl Idempotency {
    /// What RFC 9110 says of an HTTP method. Methods are case-sensitive; an unknown one is not idempotent.
    pub fn of_method(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Safe,
            "PUT" | "DELETE" => Self::Idempotent,
            _ => Self::NonIdempotent,
        }
    }

    /// Whether a call that may have been processed can be sent again.
    pub const fn may_repeat(self) -> bool {
        matches!(self, Self::Safe | Self::Idempotent)
    }
}

/// An error that knows its verdict.
///
/// ```
/// use loom_resilience::{Classify, Verdict};
///
/// enum PaymentError { Declined, Unreachable }
///
/// impl Classify for PaymentError {
///     fn verdict(&self) -> Verdict {
///         match self {
///             Self::Declined => Verdict::Rejected,
///             Self::Unreachable => Verdict::NotSent,
///         }
///     }
/// }
/// assert!(!PaymentError::Declined.verdict().is_failure());
/// assert!(PaymentError::Unreachable.verdict().is_failure());
/// ```
pub trait Classify {
    /// What this error says about the service.
    fn verdict(&self) -> Verdict;
}

/// Classifies a whole result. Implemented by every `Fn(&Result<T, E>) -> Verdict`, by [`ByError`] and by
/// [`AllTransient`].
pub trait Classifier<T, E> {
    /// The verdict on one finished call.
    fn classify(&self, result: &Result<T, E>) -> Verdict;
}

impl<T, E, F: Fn(&Result<T, E>) -> Verdict> Classifier<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Verdict {
        self(result)
    }
}

/// The default classifier: a value is [`Verdict::Ok`], an error is what its [`Classify`] says.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByError;

impl<T, E: Classify> Classifier<T, E> for ByError {
    fn classify(&self, result: &Result<T, E>) -> Verdict {
        match result {
            Ok(_) => Verdict::Ok,
            Err(error) => error.verdict(),
        }
    }
}

/// Classifies every error as [`Verdict::Transient`], for errors that cannot be told apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllTransient;

impl<T, E> Classifier<T, E> for AllTransient {
    fn classify(&self, result: &Result<T, E>) -> Verdict {
        if result.is_ok() { Verdict::Ok } else { Verdict::Transient }
    }
}
