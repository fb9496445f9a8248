//! Fallback: a value in place of a call that finally failed.
//!
//! The fallback is the outermost part: it sees what the whole call came to, after all retries, and never hides the failure
//! from the breaker or the budget. The caller supplies the value ([`Call::fallback`](crate::Call::fallback)), because it has the type of
//! the call; the policy says for which failures it is used, and whether it is only observed ([`FallbackConfig`]).

use std::fmt;

use crate::{breaker::Mode, observer::FailureKind, pipeline::CallError, verdict::Verdict};

/// For which failures a fallback is used. Without a configuration in the policy, it is used for all of them.
///
/// ```
/// # use loom_resilience::{FailureKind, FallbackConfig, Policy};
/// let policy = Policy::standard()
///     .fallback(FallbackConfig::on([FailureKind::Refused, FailureKind::TimedOut]));
/// assert!(policy.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct FallbackConfig {
    /// The failures that the fallback replaces.
    pub on: Vec<FailureKind>,
    /// Whether the fallback is used, only reported, or off.
    pub mode: Mode,
}

impl Default for FallbackConfig {
    /// Every kind of failure.
    fn default() -> Self {
        Self::on([FailureKind::Refused, FailureKind::TimedOut, FailureKind::Failed, FailureKind::Rejected])
    }
}

impl FallbackConfig {
    /// Only these kinds of failure.
    pub fn on(kinds: impl IntoIterator<Item = FailureKind>) -> Self {
        Self { on: kinds.into_iter().collect(), mode: Mode::Enforce }
    }

    /// Whether the fallback is used, only reported, or off.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), crate::ConfigError> {
        let mut check = crate::config::Checker::default();
        check.require(
            !self.on.is_empty() || self.mode == Mode::Off,
            "fallback.on",
            "must name at least one kind of failure",
        );
        check.finish()
    }
}

impl fmt::Display for FallbackConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            f.write_str("in place of calls that are ")?;
            for (index, kind) in self.on.iter().enumerate() {
                let words = match kind {
                    FailureKind::TimedOut => "timed out",
                    other => other.as_str(),
                };
                write!(f, "{}{words}", if index == 0 { "" } else { " or " })?;
            }
            Ok(())
        })
    }
}

/// The outcome of a call that finally failed, which a fallback replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCall<T, E> {
    /// It ended with an error.
    Error {
        /// The error.
        error: CallError<E>,
        /// The verdict on the last attempt, when there was one.
        verdict: Option<Verdict>,
    },
    /// It ended with a value that has a verdict other than [`Verdict::Ok`], such as a response with status 503.
    Value {
        /// The value.
        value: T,
        /// Its verdict.
        verdict: Verdict,
    },
}

impl<T, E> FailedCall<T, E> {
    /// What the call returns without a fallback.
    ///
    /// # Errors
    /// The error of the call, if it ended with one.
    pub fn into_result(self) -> Result<T, CallError<E>> {
        match self {
            Self::Error { error, .. } => Err(error),
            Self::Value { value, .. } => Ok(value),
        }
    }

    /// The kind of failure; `None` for a call that was cancelled.
    pub const fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Error { error: CallError::Refused { .. }, .. } => Some(FailureKind::Refused),
            Self::Error { error: CallError::TimedOut { .. }, .. } => Some(FailureKind::TimedOut),
            Self::Error { error: CallError::Cancelled { .. }, .. }
            | Self::Value { verdict: Verdict::Cancelled, .. } => None,
            Self::Error { verdict: Some(Verdict::Rejected), .. }
            | Self::Value { verdict: Verdict::Rejected, .. } => Some(FailureKind::Rejected),
            Self::Error { error: CallError::Failed { .. }, .. } | Self::Value { .. } => {
                Some(FailureKind::Failed)
            }
        }
    }
}

/// Replaces a failed call. Implemented by [`NoFallback`], [`FallbackValue`], and every
/// `FnOnce(FailedCall<T, E>) -> Result<T, CallError<E>>`.
pub trait Fallback<T, E> {
    /// Whether there is anything to do; `false` only for [`NoFallback`].
    const IS_SET: bool = true;

    /// Returns what the call returns instead of `failed`.
    ///
    /// # Errors
    /// What the fallback chooses: the original error, or another one.
    fn apply(self, failed: FailedCall<T, E>) -> Result<T, CallError<E>>;
}

/// No fallback: the failure is returned.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFallback;

impl<T, E> Fallback<T, E> for NoFallback {
    const IS_SET: bool = false;

    fn apply(self, failed: FailedCall<T, E>) -> Result<T, CallError<E>> {
        failed.into_result()
    }
}

/// The same value in place of every failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct FallbackValue<T>(pub T);

impl<T, E> Fallback<T, E> for FallbackValue<T> {
    fn apply(self, _: FailedCall<T, E>) -> Result<T, CallError<E>> {
        Ok(self.0)
    }
}

impl<T, E, F: FnOnce(FailedCall<T, E>) -> Result<T, CallError<E>>> Fallback<T, E> for F {
    fn apply(self, failed: FailedCall<T, E>) -> Result<T, CallError<E>> {
        self(failed)
    }
}
