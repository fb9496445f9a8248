//! What an outcome means: the one classification that every part shares.
//!
//! Refusals by our own parts are a different type ([`Refused`](crate::Refused)) and never reach a classifier.

use std::time::Duration;

/// What one finished call says about the service and about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Verdict {
    /// It worked.
    Ok,
    /// The service is alive and said no: a bad request, not found, forbidden. Good for the breaker, useless to retry.
    Answered,
    /// The service failed in a way that may pass: 5xx, a reset connection, a timeout.
    Transient,
    /// The call provably never reached the service: refused connection, unknown host. Safe to repeat, whatever it
    /// would have done.
    NotSent,
    /// The service turned the call away because of load (429, or 503 with a time), and did not process it.
    Throttled {
        /// What it asked for (`Retry-After`), if it did.
        after: Option<Duration>,
    },
    /// Given up by our side. Says nothing about the service and is not retried.
    Cancelled,
}

impl Verdict {
    /// Whether a breaker counts this against the service.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Transient | Self::NotSent | Self::Throttled { .. })
    }

    /// Whether trying again can help at all, and is allowed for calls that are `idempotency`.
    pub const fn may_retry(self, idempotency: Idempotency) -> bool {
        match self {
            Self::Ok | Self::Answered | Self::Cancelled => false,
            Self::NotSent | Self::Throttled { .. } => true,
            Self::Transient => matches!(idempotency, Idempotency::Safe),
        }
    }
}

/// Whether doing a call twice is as good as doing it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Idempotency {
    /// Repeating does no harm: reads, and writes that carry an idempotency key.
    #[default]
    Safe,
    /// Repeating may do it twice: retried only when the call provably was not processed.
    Unsafe,
}

/// An error that knows its verdict.
pub trait Classify {
    /// What this error says about the service.
    fn verdict(&self) -> Verdict;
}

/// Judges a whole result. Implemented by every `Fn(&Result<T, E>) -> Verdict`, and by [`ByError`].
pub trait Classifier<T, E> {
    /// The verdict on one finished call.
    fn classify(&self, result: &Result<T, E>) -> Verdict;
}

impl<T, E, F: Fn(&Result<T, E>) -> Verdict> Classifier<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Verdict {
        self(result)
    }
}

/// The default judge: a value is [`Verdict::Ok`], an error is what its [`Classify`] says.
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

/// Judges every error [`Verdict::Transient`]; for errors that cannot be told apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllTransient;

impl<T, E> Classifier<T, E> for AllTransient {
    fn classify(&self, result: &Result<T, E>) -> Verdict {
        if result.is_ok() { Verdict::Ok } else { Verdict::Transient }
    }
}
