//! What was done with secrets, recorded before it takes effect.
//!
//! A command line cannot write to the store that a running server uses. It appends to a file beside the secrets instead, which
//! the server moves into its store, and which is read together with the store while no server runs.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use loom_engine::{
    audit::{AuditEntry, Operation},
    ports::Clock,
};
use loom_expression::Value;

use super::SecretError;

/// Records what is done with the secrets of a vault. A change that cannot be recorded is not made.
pub trait Trail: Send + Sync {
    /// Records an operation durably, before it takes effect.
    ///
    /// # Errors
    /// [`SecretError::Unrecorded`].
    fn record(
        &self,
        operation: Operation,
        secret: Option<&str>,
        version: Option<u32>,
    ) -> Result<(), SecretError>;
}

/// The entry of an operation on a secret of the embedded store.
pub fn entry_of(
    clock: &dyn Clock,
    by: &Arc<str>,
    operation: Operation,
    secret: Option<&str>,
    version: Option<u32>,
) -> AuditEntry {
    AuditEntry {
        secret: secret.map(|name| format!("embedded:{name}").into()),
        version: version.map(|version| version.to_string().into()),
        ..AuditEntry::new(clock.now(), operation, Arc::clone(by))
    }
}

/// The file beside the secrets: one line of JSON for each entry.
pub struct TrailFile {
    path: PathBuf,
    by: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for TrailFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrailFile").field("path", &self.path).field("by", &self.by).finish_non_exhaustive()
    }
}

impl TrailFile {
    /// The file beside these secrets, for operations of `by`.
    pub fn beside(secrets: &Path, by: impl Into<Arc<str>>, clock: Arc<dyn Clock>) -> TrailFile {
        TrailFile { path: with_suffix(secrets, ".audit"), by: by.into(), clock }
    }
}

impl Trail for TrailFile {
    fn record(
        &self,
        operation: Operation,
        secret: Option<&str>,
        version: Option<u32>,
    ) -> Result<(), SecretError> {
        let entry = entry_of(&*self.clock, &self.by, operation, secret, version);
        let mut line = Value::from(entry.to_object()).to_json_text();
        line.push('\n');
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&self.path).and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| SecretError::Unrecorded { why: format!("{}: {error}", self.path.display()) })
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(suffix);
    whole.into()
}

/// An entry of the file, and what distinguishes it from all others.
pub type Recorded = (String, AuditEntry);

/// The entries beside these secrets. A line that is not an entry, such as one that a full disk cut short, is skipped.
///
/// # Errors
/// [`SecretError::Io`].
pub fn recorded_beside(secrets: &Path) -> Result<Vec<Recorded>, SecretError> {
    let mut all = entries(&with_suffix(secrets, ".audit.moving"))?;
    all.extend(entries(&with_suffix(secrets, ".audit"))?);
    Ok(all)
}

fn entries(path: &Path) -> Result<Vec<Recorded>, SecretError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SecretError::io("read", path)(error)),
    };
    let read = |(number, line): (usize, &str)| {
        let entry = AuditEntry::from_value(&Value::from_json_str(line).ok()?)?;
        let hash = blake3::hash(format!("{number} {line}").as_bytes()).to_hex();
        Some((hash[..16].to_owned(), entry))
    };
    Ok(text.lines().enumerate().filter_map(read).collect())
}

/// Takes the file out of the way of writers, who must be excluded while this is called. Returns what it contains, until
/// [`forget_moved`] is called; nothing when there is no file.
pub(super) fn take_away(secrets: &Path) -> Result<Vec<Recorded>, SecretError> {
    let (from, to) = (with_suffix(secrets, ".audit"), with_suffix(secrets, ".audit.moving"));
    if !to.exists() {
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SecretError::io("move", from)(error)),
        }
    }
    entries(&to)
}

/// Removes what [`take_away`] returned, once it is in the store.
pub(super) fn forget_moved(secrets: &Path) -> Result<(), SecretError> {
    let path = with_suffix(secrets, ".audit.moving");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SecretError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
