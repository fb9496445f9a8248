//! Sources of secrets, and the order in which they are asked.

use std::{collections::BTreeMap, fmt, fs, io::ErrorKind, path::PathBuf, sync::Arc};

use loom_engine::SecretSource;
use loom_expression::{Masker, Value};

use super::{SECRET_BYTES_MAX, SecretError, checked_name};

/// A source of secrets.
pub trait SecretProvider: fmt::Debug + Send + Sync {
    /// Returns the value of `name`, which is in lower case: of the version that is in use now, or of the requested
    /// one. `None` when the name is not known here, so that the next provider is asked.
    ///
    /// # Errors
    /// [`SecretError`] when the secret is known here but cannot be read.
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Arc<str>>, SecretError>;

    /// The names that are known here, as far as they can be listed.
    fn names(&self) -> Vec<String>;
}

/// Asks providers in order; the first one that knows the name decides.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    providers: Vec<Arc<dyn SecretProvider>>,
}

impl Secrets {
    /// Asks these providers, in this order.
    pub fn new(providers: Vec<Arc<dyn SecretProvider>>) -> Secrets {
        Secrets { providers }
    }

    /// Returns the value of `name` or `name@version`.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or cannot be read.
    pub fn get(&self, name: &str) -> Result<Arc<str>, SecretError> {
        let (name, version) = match name.split_once('@') {
            Some((name, version)) => (checked_name(name)?, Some(version)),
            None => (checked_name(name)?, None),
        };
        for provider in &self.providers {
            if let Some(value) = provider.read(&name, version)? {
                return Ok(value);
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
    fn secret(&self, name: &str) -> Result<Value, String> {
        self.get(name).map(Value::from).map_err(|error| error.whole_text())
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
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Arc<str>>, SecretError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        unversioned(name, version)?;
        Ok(Some(Arc::clone(value)))
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
pub struct SecretFolder(PathBuf);

impl SecretFolder {
    /// Secrets in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> SecretFolder {
        SecretFolder(directory.into())
    }
}

impl SecretProvider for SecretFolder {
    fn read(&self, name: &str, version: Option<&str>) -> Result<Option<Arc<str>>, SecretError> {
        let path = self.0.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SecretError::io("read", path)(error)),
        };
        unversioned(name, version)?;
        let value = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(Some(checked_value(value)?.into()))
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
