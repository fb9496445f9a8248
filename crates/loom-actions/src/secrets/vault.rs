//! `Vault`: secrets with versions, in one encrypted file.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use loom_engine::{audit::Operation, ports::Clock};
use zeroize::Zeroizing;

use super::{
    MasterKey, NewSecret, SecretError, SecretProperties, SecretProvider,
    file::{self, Contents, Stamp, WrappedKey},
    key::DataKey,
    name::checked_name,
    provider::{Found, Provided, Reading, checked_value, on_a_thread},
    record::{Record, Version},
    trail::{Recorded, Trail, forget_moved, recorded_beside, take_away},
};

/// Returns the master key. Called whenever the file has changed, so that a key that is created later is found.
pub type KeySource = Arc<dyn Fn() -> Result<MasterKey, SecretError> + Send + Sync>;

/// Secrets with versions, in one encrypted file that several processes may use at once.
///
/// Setting a secret creates a version; deleting it disables all versions, and they can be restored. Every change
/// replaces the file as a whole while holding a lock on another file beside it, and is on the disk when the method
/// returns. The next read sees changes of other processes.
///
/// Methods block on the file, which is small.
pub struct Vault {
    path: PathBuf,
    key: KeySource,
    clock: Arc<dyn Clock>,
    /// The file as it was last read.
    opened: Mutex<Option<(Stamp, Arc<Opened>)>>,
    /// Where changes are recorded before they take effect.
    trail: Option<Arc<dyn Trail>>,
}

/// The content of the file, and the keys that open its values.
#[derive(Debug, Default)]
struct Opened {
    contents: Contents,
    keys: Vec<DataKey>,
}

impl Vault {
    /// The vault in this file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>, key: KeySource, clock: Arc<dyn Clock>) -> Vault {
        Vault { path: path.into(), key, clock, opened: Mutex::new(None), trail: None }
    }

    /// The same vault. Everything that is done through it is recorded first.
    #[must_use]
    pub fn recorded_by(&self, trail: Arc<dyn Trail>) -> Vault {
        Vault {
            path: self.path.clone(),
            key: Arc::clone(&self.key),
            clock: Arc::clone(&self.clock),
            opened: Mutex::new(None),
            trail: Some(trail),
        }
    }

    fn record(
        &self,
        operation: Operation,
        name: Option<&str>,
        version: Option<u32>,
    ) -> Result<(), SecretError> {
        self.trail.as_ref().map_or(Ok(()), |trail| trail.record(operation, name, version))
    }

    /// Moves what command lines have recorded beside the file: passes it to `keep`, and removes it when that succeeds. After a
    /// crash in between, the same entries are passed again.
    ///
    /// # Errors
    /// [`SecretError`] of the file, or of `keep`.
    pub fn move_recorded(
        &self,
        keep: impl FnOnce(Vec<Recorded>) -> Result<(), SecretError>,
    ) -> Result<(), SecretError> {
        if recorded_beside(&self.path)?.is_empty() {
            return Ok(());
        }
        let taken = {
            let _alone = file::lock(&self.path)?;
            take_away(&self.path)?
        };
        if !taken.is_empty() {
            keep(taken)?;
        }
        forget_moved(&self.path)
    }

    /// Returns a value to be shown to a person, with its properties.
    ///
    /// # Errors
    /// Like [`Vault::get`]; and when it cannot be recorded.
    pub fn reveal(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(SecretProperties, Zeroizing<String>), SecretError> {
        let found = self.get(name, version)?;
        let _alone = self.trail.as_ref().map(|_| file::lock(&self.path)).transpose()?;
        self.record(Operation::Reveal, Some(&found.0.name), Some(found.0.version))?;
        Ok(found)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the value that is in use now, or that of one version, with its properties.
    ///
    /// # Errors
    /// [`SecretError`] when there is no such value or it cannot be read.
    pub fn get(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(SecretProperties, Zeroizing<String>), SecretError> {
        let name = checked_name(name)?;
        self.opened()?.get(&name, version, self)?.ok_or(SecretError::NotFound { name })
    }

    /// Stores a value as the newest version.
    ///
    /// # Errors
    /// [`SecretError`] when the name or the value is not valid, or the file cannot be changed.
    pub fn set(&self, name: &str, value: &str, new: NewSecret) -> Result<SecretProperties, SecretError> {
        let name = checked_name(name)?;
        let value = checked_value(value)?;
        let now = self.clock.now();
        self.change(Operation::Set, Some(&name), |opened| {
            let key = opened.newest_key(self, now)?;
            let record = opened.contents.records.entry(name.clone()).or_default();
            if let Some(expected) = new.if_version.filter(|expected| *expected != record.last) {
                return Err(SecretError::Changed { name: name.clone(), newest: record.last, expected });
            }
            record.last += 1;
            let properties = SecretProperties {
                name: Arc::from(name.as_str()),
                version: record.last,
                created_on: now,
                enabled: new.enabled,
                deleted: false,
                not_before: new.not_before,
                expires_on: new.expires_on,
                content_type: new.content_type,
                tags: new.tags,
            };
            let sealed = key.seal(&name, record.last, value);
            record.versions.push(Version { properties: properties.clone(), key: key.id, sealed });
            Ok((properties, Some(record.last)))
        })
    }

    /// Lists the newest version of every secret, including deleted ones, by name. Needs no key.
    ///
    /// # Errors
    /// [`SecretError`] when the file cannot be read.
    pub fn list(&self) -> Result<Vec<SecretProperties>, SecretError> {
        let contents = file::read(&self.path)?;
        let newest = contents.records.values().filter_map(|record| record.versions.last());
        Ok(newest.map(|version| version.properties.clone()).collect())
    }

    /// Lists all versions of a secret, oldest first. Needs no key.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or the file cannot be read.
    pub fn versions(&self, name: &str) -> Result<Vec<SecretProperties>, SecretError> {
        let name = checked_name(name)?;
        let contents = file::read(&self.path)?;
        let record = contents.records.get(&name).ok_or(SecretError::NotFound { name })?;
        Ok(record.versions.iter().map(|version| version.properties.clone()).collect())
    }

    /// Deletes all versions, so that none can be used. [`Vault::undelete`] restores them.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or the file cannot be changed.
    pub fn delete(&self, name: &str) -> Result<(), SecretError> {
        self.each_version(Operation::Delete, name, None, |properties| properties.deleted = true)
    }

    /// Undoes a deletion.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or the file cannot be changed.
    pub fn undelete(&self, name: &str) -> Result<(), SecretError> {
        self.each_version(Operation::Undelete, name, None, |properties| properties.deleted = false)
    }

    /// Enables or disables one version, or all.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or the file cannot be changed.
    pub fn enable(&self, name: &str, version: Option<u32>, enabled: bool) -> Result<(), SecretError> {
        let operation = if enabled { Operation::Enable } else { Operation::Disable };
        self.each_version(operation, name, version, |properties| properties.enabled = enabled)
    }

    /// Removes one version, or the whole secret, permanently.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or the file cannot be changed.
    pub fn purge(&self, name: &str, version: Option<u32>) -> Result<(), SecretError> {
        let name = checked_name(name)?;
        self.change(Operation::Purge, Some(&name), |opened| {
            let record = opened.record(&name)?;
            match version {
                None => record.versions.clear(),
                Some(number) => {
                    let at = record.position(&name, number)?;
                    record.versions.remove(at);
                }
            }
            if record.versions.is_empty() {
                opened.contents.records.remove(&name);
            }
            Ok(((), version))
        })
    }

    /// Seals every value with a new data key, which is encrypted with `master`, or with the current master key. The
    /// old data keys are discarded. Returns the number of values.
    ///
    /// # Errors
    /// [`SecretError`]; then nothing was changed.
    pub fn rotate(&self, master: Option<&MasterKey>) -> Result<usize, SecretError> {
        let current = (self.key)()?;
        let now = self.clock.now();
        self.change(Operation::Rotate, None, |opened| {
            let id = opened.contents.keys.iter().map(|key| key.id).max().unwrap_or_default() + 1;
            let key = DataKey::generate(id);
            let mut count = 0;
            let mut records = std::mem::take(&mut opened.contents.records);
            for (name, record) in &mut records {
                for version in &mut record.versions {
                    let value = opened.open(name, version, self)?;
                    version.sealed = key.seal(name, version.properties.version, &value);
                    version.key = id;
                    count += 1;
                }
            }
            opened.contents.records = records;
            let wrapped = master.unwrap_or(&current).wrap(&key);
            opened.contents.keys = vec![WrappedKey { id, wrapped, created_on: now }];
            Ok((count, None))
        })
    }

    fn each_version(
        &self,
        operation: Operation,
        name: &str,
        version: Option<u32>,
        change: impl Fn(&mut SecretProperties),
    ) -> Result<(), SecretError> {
        let name = checked_name(name)?;
        self.change(operation, Some(&name), |opened| {
            let record = opened.record(&name)?;
            match version {
                None => record.versions.iter_mut().for_each(|version| change(&mut version.properties)),
                Some(number) => {
                    let at = record.position(&name, number)?;
                    change(&mut record.versions[at].properties);
                }
            }
            Ok(((), version))
        })
    }

    /// The current content of the file.
    fn opened(&self) -> Result<Arc<Opened>, SecretError> {
        let Some(stamp) = file::stamp(&self.path)? else { return Ok(Arc::default()) };
        let mut cached = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, opened)) = cached.as_ref().filter(|(known, _)| *known == stamp) {
            return Ok(Arc::clone(opened));
        }
        // A file that is replaced between the two calls is recorded with the older stamp, and read again the next
        // time.
        let opened = Arc::new(self.open()?);
        *cached = Some((stamp, Arc::clone(&opened)));
        Ok(opened)
    }

    fn open(&self) -> Result<Opened, SecretError> {
        let contents = file::read(&self.path)?;
        let mut keys = Vec::new();
        if !contents.keys.is_empty() {
            let master = (self.key)()?;
            for key in &contents.keys {
                let opened = master.unwrap_key(key.id, &key.wrapped);
                keys.push(opened.ok_or_else(|| SecretError::WrongKey { path: self.path.clone() })?);
            }
        }
        Ok(Opened { contents, keys })
    }

    /// Changes the file if `change` succeeds and can be recorded. `change` also returns the version that it concerns.
    fn change<T>(
        &self,
        operation: Operation,
        name: Option<&str>,
        change: impl FnOnce(&mut Opened) -> Result<(T, Option<u32>), SecretError>,
    ) -> Result<T, SecretError> {
        let _alone = file::lock(&self.path)?;
        let mut opened = self.open()?;
        let (answer, version) = change(&mut opened)?;
        self.record(operation, name, version)?;
        file::write(&self.path, &opened.contents)?;
        Ok(answer)
    }
}

impl Opened {
    fn get(
        &self,
        name: &str,
        version: Option<&str>,
        vault: &Vault,
    ) -> Result<Option<(SecretProperties, Zeroizing<String>)>, SecretError> {
        let Some(record) = self.contents.records.get(name) else { return Ok(None) };
        let version = record.pick(name, version, vault.clock.now())?;
        Ok(Some((version.properties.clone(), self.open(name, version, vault)?)))
    }

    fn open(&self, name: &str, version: &Version, vault: &Vault) -> Result<Zeroizing<String>, SecretError> {
        let number = version.properties.version;
        let key = self.keys.iter().find(|key| key.id == version.key);
        let value = key.and_then(|key| key.open(name, number, &version.sealed));
        value.ok_or_else(|| SecretError::Damaged {
            path: vault.path.clone(),
            why: format!("version {number} of '{name}' was changed after it was stored"),
        })
    }

    fn record(&mut self, name: &str) -> Result<&mut Record, SecretError> {
        let record = self.contents.records.get_mut(name);
        record.ok_or_else(|| SecretError::NotFound { name: name.to_owned() })
    }

    /// The key for new values; the first value creates the first key.
    fn newest_key(&mut self, vault: &Vault, now: loom_expression::Timestamp) -> Result<DataKey, SecretError> {
        if self.keys.is_empty() {
            let key = DataKey::generate(1);
            let wrapped = (vault.key)()?.wrap(&key);
            self.contents.keys.push(WrappedKey { id: key.id, wrapped, created_on: now });
            self.keys.push(key);
        }
        Ok(self.keys[self.keys.len() - 1].clone())
    }
}

impl Record {
    fn position(&self, name: &str, number: u32) -> Result<usize, SecretError> {
        let at = self.versions.iter().position(|version| version.properties.version == number);
        at.ok_or_else(|| SecretError::VersionNotFound { name: name.to_owned(), version: number.to_string() })
    }
}

impl Vault {
    fn find(&self, name: &str, version: Option<&str>) -> Found {
        // Numbers are used again after a secret was purged, so a version is identified by its time as well.
        let (number, created) = version.and_then(|version| version.split_once('-')).unzip();
        let Some((properties, value)) = self.opened()?.get(name, number.or(version), self)? else {
            return Ok(None);
        };
        let time = properties.created_on.ticks().to_string();
        if created.is_some_and(|created| created != time) {
            let version = properties.version.to_string();
            return Err(SecretError::VersionNotFound { name: name.to_owned(), version });
        }
        let version = format!("{}-{time}", properties.version);
        Ok(Some(Provided {
            value: Arc::from(value.as_str()),
            version: Some(version.into()),
            expires_on: properties.expires_on,
        }))
    }
}

impl SecretProvider for Vault {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn read(self: Arc<Self>, name: Arc<str>, version: Option<Arc<str>>) -> Reading {
        on_a_thread(self, name, version)
    }

    fn read_now(&self, name: &str, version: Option<&str>) -> Option<Found> {
        Some(self.find(name, version))
    }

    fn names(&self) -> Vec<String> {
        // An unreadable file is reported when a secret is read from it.
        self.list().unwrap_or_default().into_iter().map(|secret| secret.name.to_string()).collect()
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}
