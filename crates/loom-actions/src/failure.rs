//! Why an attempt has no answer to show, in the terms that retries and people need.

use std::{borrow::Cow, time::Duration};

/// A failed attempt without outputs.
///
/// The message is for people and for the run's history: it names hosts and paths, and never a header, a query, a body or
/// a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable and short: `UnresolvableHostName`, `ServerTimeout`, `BadRequest`.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// Whether the same attempt may go well a little later.
    pub transient: bool,
    /// The least wait that the other side asked for.
    pub after: Option<Duration>,
    /// We did not ask the service: a rule of our own forbids it.
    pub refused: bool,
}

impl Failure {
    /// A failure that will be the same next time.
    pub fn lasting(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Failure {
        Failure { code: code.into(), message: message.into(), transient: false, after: None, refused: false }
    }

    /// A failure that may pass.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Failure {
        Failure { transient: true, ..Failure::lasting(code, message) }
    }

    /// Wrong inputs: the definition asks for something that cannot be sent.
    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::lasting("BadRequest", message)
    }

    /// A host that our own rules keep out of reach. It is not `refused` in the sense of a retry hint, because asking again
    /// gives the same answer.
    pub(crate) fn forbidden(message: impl Into<String>) -> Failure {
        Failure::lasting("EgressForbidden", message)
    }
}

impl From<crate::url::UrlError> for Failure {
    fn from(error: crate::url::UrlError) -> Self {
        Failure::bad_request(error.to_string())
    }
}
