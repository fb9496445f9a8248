//! Sources of secrets, and the order in which they are asked.

use std::{collections::BTreeMap, fmt, fs, future::ready, io::ErrorKind, path::PathBuf, sync::Arc};

use loom_engine::{Secret, SecretFuture, SecretSource};
use loom_expression::{Masker, Value};
use tokio::sync::Semaphore;

use super::{SECRET_BYTES_MAX, SecretError, checked_name};

/// A value that a provider returned.
#[derive(Clone, PartialEq, Eq)]
pub struct Provided {
    /// The value.
    pub value: Arc<str>,
    /// Its version. None when the provider does not keep versions, so that the value may change.
    pub version: Option<Arc<str>>,
}

/// Does not show the value.
impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provided").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A source of secrets.
pub trait SecretProvider: fmt::Debug + Send + Sync {
    /// Returns the value of `name`, which is in lower case: of the version that is in use now, or of the requested
    /// one. `None` when the name is not known here, so that the next provider is asked. May block.
    ///
    /// # Errors
    /// [`SecretError`] when the secret is known here but cannot be read.
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Provided>, SecretError>;

    /// Whether [`SecretProvider::read`] may block, so that it must not be called on a thread of the async runtime.
    fn blocks(&self) -> bool {
        true
    }

    /// The names that are known here, as far as they can be listed.
    fn names(&self) -> Vec<String>;
}

/// Secrets that are read at once from providers that block.
const READS_AT_ONCE: usize = 4;

/// Asks providers in order; the first one that knows the name decides.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    providers: Arc<[Arc<dyn SecretProvider>]>,
    /// Keeps a slow disk from occupying all blocking threads of the runtime.
    reading: Arc<Reading>,
}

#[derive(Debug)]
struct Reading(Semaphore);

impl Default for Reading {
    fn default() -> Self {
        Reading(Semaphore::new(READS_AT_ONCE))
    }
}

impl Secrets {
    /// Asks these providers, in this order.
    pub fn new(providers: Vec<Arc<dyn SecretProvider>>) -> Secrets {
        Secrets { providers: providers.into(), reading: Arc::default() }
    }

    /// Returns the value of `name` or `name@version`. May block.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or cannot be read.
    pub fn get(&self, name: &str) -> Result<Arc<str>, SecretError> {
        self.find(name, None).map(|secret| secret.value)
    }

    /// The secret, in the given version or in the one that the name selects.
    fn find(&self, name: &str, version: Option<&str>) -> Result<Secret, SecretError> {
        let (name, version) = match (name.split_once('@'), version) {
            (Some((name, version)), None) => (checked_name(name)?, Some(version)),
            (_, version) => (checked_name(name)?, version),
        };
        for provider in &*self.providers {
            if let Some(Provided { value, version }) = provider.read(&name, version)? {
                return Ok(Secret { value, name: name.into(), version });
            }
        }
        Err(SecretError::NotFound { name })
    }
}

impl Secrets {
    /// Registers every secret that can be read with `masker`, so that they are masked from the start and not only
    /// once a run has read them.
    pub fn teach(&self, masker: &Masker) {
        for name in self.providers.iter().flat_map(|provider| provider.names()) {
            // Reading a secret that is not available reports the reason.
            if let Ok(value) = self.get(&name) {
                masker.learn(&Value::from(value).into_secret());
            }
        }
    }
}

impl SecretSource for Secrets {
    fn read<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> SecretFuture<'a> {
        if !self.providers.iter().any(|provider| provider.blocks()) {
            return Box::pin(ready(self.find(name, version).map_err(|error| error.whole_text())));
        }
        let (secrets, name, version) = (self.clone(), name.to_owned(), version.map(str::to_owned));
        Box::pin(async move {
            // The semaphore is never closed.
            let _one = self.reading.0.acquire().await.map_err(|error| error.to_string())?;
            let read = tokio::task::spawn_blocking(move || secrets.find(&name, version.as_deref()));
            match read.await {
                Ok(found) => found.map_err(|error| error.whole_text()),
                Err(_) => Err("The secret was not read, because the process is ending".to_owned()),
            }
        })
    }
}

/// Secrets that were given to the host when it started. They have no versions.
#[derive(Default)]
pub struct FixedSecrets(BTreeMap<String, Arc<str>>);

impl FixedSecrets {
    /// Secrets with these names and values.
    ///
    /// # Errors
    /// [`SecretError::Name`], [`SecretError::TooLarge`].
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> Result<FixedSecrets, SecretError> {
        let mut known = BTreeMap::new();
        for (name, value) in secrets {
            known.insert(checked_name(&name)?, checked_value(&value)?.into());
        }
        Ok(FixedSecrets(known))
    }
}

/// Does not show values.
impl fmt::Debug for FixedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretProvider for FixedSecrets {
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Provided>, SecretError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        unversioned(name, version)?;
        Ok(Some(Provided { value: Arc::clone(value), version: None }))
    }

    fn blocks(&self) -> bool {
        false
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// A directory with one file for each secret, as orchestrators mount them: `/run/secrets`, or the directory that
/// systemd names in `$CREDENTIALS_DIRECTORY`. File names are in lower case. Files are read whenever they are
/// requested, so a renewed secret takes effect immediately. One line break at the end of a file is ignored. The
/// secrets have no versions.
#[derive(Clone, Debug)]
pub struct SecretDirectory(PathBuf);

impl SecretDirectory {
    /// Secrets in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> SecretDirectory {
        SecretDirectory(directory.into())
    }
}

impl SecretProvider for SecretDirectory {
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Provided>, SecretError> {
        let path = self.0.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SecretError::io("read", path)(error)),
        };
        unversioned(name, version)?;
        let value = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(Some(Provided { value: checked_value(value)?.into(), version: None }))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        let files = entries.filter_map(Result::ok).filter(|entry| entry.path().is_file());
        files.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn unversioned(name: &str, version: Option<&str>) -> Result<(), SecretError> {
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
