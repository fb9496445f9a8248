//! The port of the providers of secrets.

use std::{fmt, future::ready, pin::Pin, sync::Arc};

use loom_expression::Timestamp;
use tokio::sync::Semaphore;

use super::{SECRET_BYTES_MAX, SecretError, name::checked_name};

/// A value that a provider returned.
#[derive(Clone, PartialEq, Eq)]
pub struct Provided {
    /// The value.
    pub value: Arc<str>,
    /// Its version. None when the provider does not keep versions, so that the value may change.
    pub version: Option<Arc<str>>,
    /// When it expires, if the provider knows.
    pub expires_on: Option<Timestamp>,
}

impl Provided {
    /// A value without a version.
    pub(super) fn unversioned(value: impl Into<Arc<str>>) -> Provided {
        Provided { value: value.into(), version: None, expires_on: None }
    }
}

/// Does not show the value.
impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provided").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What a provider found; `None` when it does not know the name.
pub type Found = Result<Option<Provided>, SecretError>;

/// The future that a provider returns.
pub type Reading = Pin<Box<dyn Future<Output = Found> + Send>>;

/// A source of secrets.
pub trait SecretProvider: fmt::Debug + Send + Sync {
    /// What it is, in one word: `embedded`, `files`, `env`, `vault`, `azureKeyVault`.
    fn kind(&self) -> &'static str;

    /// The name as this provider writes it.
    ///
    /// # Errors
    /// [`SecretError`] when no secret of this provider can have this name.
    fn checked(&self, name: &str) -> Result<String, SecretError> {
        checked_name(name)
    }

    /// Reads a secret, whose name was [`checked`](SecretProvider::checked): the version that is in use now, or the given
    /// one. A provider that does not know the name returns `None`, so that the next one is asked.
    ///
    /// # Cancel safety
    /// The future is dropped when the secret takes too long. It does not block the thread that polls it.
    fn read(self: Arc<Self>, name: Arc<str>, version: Option<Arc<str>>) -> Reading;

    /// Reads a secret on this thread, which may block on a local file; `None` when the provider cannot be read without
    /// waiting for another machine.
    fn read_now(&self, name: &str, version: Option<&str>) -> Option<Found> {
        let _ = (name, version);
        None
    }

    /// The names that are known here, as far as they can be listed without waiting.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Renews the provider's own credentials when they are about to expire. Called every few seconds.
    fn renew(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }

    /// The state of the provider in one word, if it has one: `closed`, `open`, `halfOpen`.
    fn state(&self) -> Option<String> {
        None
    }
}

/// Keeps a slow disk from occupying all blocking threads of the runtime.
static READING: Semaphore = Semaphore::const_new(4);

/// Reads a local provider on a thread that may block.
pub(super) fn on_a_thread<P: SecretProvider + 'static>(
    provider: Arc<P>,
    name: Arc<str>,
    version: Option<Arc<str>>,
) -> Reading {
    Box::pin(async move {
        let _one = READING.acquire().await.expect("the semaphore is never closed");
        let read = move || provider.read_now(&name, version.as_deref());
        match tokio::task::spawn_blocking(read).await {
            Ok(Some(found)) => found,
            Ok(None) => Ok(None),
            Err(_) => Err(SecretError::Ending),
        }
    })
}

pub(super) fn unversioned(name: &str, version: Option<&str>) -> Result<(), SecretError> {
    match version {
        None => Ok(()),
        Some(version) => {
            Err(SecretError::VersionNotFound { name: name.to_owned(), version: version.to_owned() })
        }
    }
}

pub(super) fn checked_value(value: &str) -> Result<&str, SecretError> {
    if value.len() > SECRET_BYTES_MAX {
        return Err(SecretError::TooLarge { bytes: value.len() });
    }
    Ok(value)
}
