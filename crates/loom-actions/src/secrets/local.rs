//! Secrets of this machine that have no versions: those that were given to the host when it started, and files.

use std::{
    collections::BTreeMap,
    fmt, fs,
    future::ready,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SECRET_BYTES_MAX, SecretError, SecretProvider,
    name::{checked_name, checked_path},
    provider::{Found, Provided, Reading, checked_value, on_a_thread, unversioned},
};

/// Secrets that were given to the host when it started, such as those in environment variables.
#[derive(Default)]
pub struct FixedSecrets {
    known: BTreeMap<String, Arc<str>>,
    /// Whether the names are those of a provider on another machine: paths, with a field, and a version after `@`.
    has_paths: bool,
}

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
        Ok(FixedSecrets { known, has_paths: false })
    }

    /// Stand-ins for the secrets of a provider on another machine, by path, field and version as an expression writes them.
    ///
    /// # Errors
    /// [`SecretError::Path`], [`SecretError::TooLarge`].
    pub fn in_place_of_remote(
        secrets: impl IntoIterator<Item = (String, String)>,
    ) -> Result<FixedSecrets, SecretError> {
        let mut known = BTreeMap::new();
        for (name, value) in secrets {
            checked_path(name.split('@').next().unwrap_or_default())?;
            known.insert(name, checked_value(&value)?.into());
        }
        Ok(FixedSecrets { known, has_paths: true })
    }

    /// The secrets in environment variables whose names begin with `prefix`: with the prefix `LOOM_SECRET_`,
    /// `LOOM_SECRET_API_KEY` is `api-key`. All others belong to other programs.
    ///
    /// # Errors
    /// [`SecretError::Name`], [`SecretError::TooLarge`].
    pub fn of_variables(
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<FixedSecrets, SecretError> {
        FixedSecrets::new(variables.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(prefix)?.to_ascii_lowercase().replace('_', "-");
            (!name.is_empty()).then_some((name, value))
        }))
    }
}

/// Does not show values.
impl fmt::Debug for FixedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

impl SecretProvider for FixedSecrets {
    fn kind(&self) -> &'static str {
        "env"
    }

    fn read(self: Arc<Self>, name: Arc<str>, version: Option<Arc<str>>) -> Reading {
        Box::pin(ready(self.read_now(&name, version.as_deref()).unwrap_or(Ok(None))))
    }

    fn read_now(&self, name: &str, version: Option<&str>) -> Option<Found> {
        if let (true, Some(version)) = (self.has_paths, version) {
            let found = self.known.get(&format!("{name}@{version}")).cloned();
            return Some(Ok(found.map(Provided::unversioned)));
        }
        let found = self.known.get(name).map(|value| {
            unversioned(name, version)?;
            Ok(Provided::unversioned(Arc::clone(value)))
        });
        Some(found.transpose())
    }

    fn checked(&self, name: &str) -> Result<String, SecretError> {
        if self.has_paths { checked_path(name).map(|_| name.to_owned()) } else { checked_name(name) }
    }

    fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }
}

/// A directory with one file for each secret, as orchestrators mount them: `/run/secrets`, or the directory that
/// systemd names in `$CREDENTIALS_DIRECTORY`. File names are in lower case. Files are read whenever they are
/// requested, so a renewed secret takes effect immediately. One line break at the end of a file is ignored. The
/// secrets have no versions.
///
/// A link may lead to another place in the same directory, as those of Kubernetes do, but not out of it.
#[derive(Clone, Debug)]
pub struct SecretDirectory(PathBuf);

impl SecretDirectory {
    /// Secrets in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> SecretDirectory {
        SecretDirectory(directory.into())
    }

    /// The file of a secret, with all links resolved.
    fn file(&self, name: &str) -> Result<Option<PathBuf>, SecretError> {
        let link = self.0.join(name);
        let resolved = match fs::canonicalize(&link) {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SecretError::io("read", link)(error)),
        };
        let directory = fs::canonicalize(&self.0).map_err(SecretError::io("read", &self.0))?;
        if !resolved.starts_with(&directory) {
            return Err(SecretError::File { path: link, why: "it is a link out of the directory" });
        }
        // Reading a pipe or a device might never end.
        if !fs::metadata(&resolved).map_err(SecretError::io("read", &link))?.is_file() {
            return Err(SecretError::File { path: link, why: "it is not a regular file" });
        }
        Ok(Some(resolved))
    }

    fn find(&self, name: &str, version: Option<&str>) -> Found {
        let Some(path) = self.file(name)? else { return Ok(None) };
        unversioned(name, version)?;
        let text = read_text(&path)?;
        let value = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(Some(Provided::unversioned(checked_value(value)?)))
    }
}

impl SecretProvider for SecretDirectory {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn read(self: Arc<Self>, name: Arc<str>, version: Option<Arc<str>>) -> Reading {
        on_a_thread(self, name, version)
    }

    fn read_now(&self, name: &str, version: Option<&str>) -> Option<Found> {
        Some(self.find(name, version))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| checked_name(name).is_ok() && self.file(name).is_ok_and(|file| file.is_some()))
            .collect()
    }
}

/// Reads a text that is no larger than a secret may be, with the line break at its end.
pub(super) fn read_text(path: &Path) -> Result<String, SecretError> {
    let file = fs::File::open(path).map_err(SecretError::io("read", path))?;
    let mut bytes = Vec::new();
    let most = SECRET_BYTES_MAX + 3;
    file.take(most as u64).read_to_end(&mut bytes).map_err(SecretError::io("read", path))?;
    if bytes.len() == most {
        return Err(SecretError::File { path: path.to_owned(), why: "it is larger than 64 KiB" });
    }
    String::from_utf8(bytes)
        .map_err(|_| SecretError::File { path: path.to_owned(), why: "it is not valid UTF-8" })
}
