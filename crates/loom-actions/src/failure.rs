//! Why an attempt failed, in the terms that retries and people need.

use std::{borrow::Cow, time::Duration};

/// A failed attempt without outputs.
///
/// The message is for people and for the run's history. It may name hosts and paths, but never a header, a query, a
/// body or a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A short code that does not change: `UnresolvableHostName`, `ServerTimeout`, `BadRequest`.
    pub code: Cow<'static, str>,
    /// The message, for people.
    pub message: String,
    /// Whether the same attempt may succeed later.
    pub transient: bool,
    /// The shortest wait that the service asked for.
    pub after: Option<Duration>,
    /// The service was not called, because a rule of this host forbids it.
    pub refused: bool,
}

impl Failure {
    /// A failure that would be the same next time.
    pub fn lasting(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Failure {
        Failure { code: code.into(), message: message.into(), transient: false, after: None, refused: false }
    }

    /// A failure that may be temporary.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Failure {
        Failure { transient: true, ..Failure::lasting(code, message) }
    }

    /// Invalid inputs: the definition asks for something that cannot be sent.
    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::lasting("BadRequest", message)
    }

    /// A host that the egress rules forbid. Not `refused`, which is a hint to retry: the next attempt would fail the
    /// same way.
    pub(crate) fn forbidden(message: impl Into<String>) -> Failure {
        Failure::lasting("EgressForbidden", message)
    }
}

impl From<crate::url::UrlError> for Failure {
    fn from(error: crate::url::UrlError) -> Self {
        Failure::bad_request(error.to_string())
    }
}
