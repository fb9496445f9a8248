//! The file of a vault: JSON, with names, versions and dates in the clear and every value sealed.
//!
//! It is replaced as a whole: written under another name, synced, and renamed, so that a reader finds either the old
//! file or the new one.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use loom_expression::{Object, Timestamp, Value};

use super::{
    SecretError,
    record::{Record, SecretProperties, Version},
};

/// The value of the first property.
const FORMAT: &str = "loom-secrets/1";

/// The content of a vault.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// Oldest first; new values are sealed with the last one.
    pub(super) keys: Vec<WrappedKey>,
    /// By name.
    pub(super) records: BTreeMap<String, Record>,
}

/// A data key, encrypted with the master key.
#[derive(Clone, Debug)]
pub(super) struct WrappedKey {
    pub(super) id: u32,
    pub(super) wrapped: Vec<u8>,
    pub(super) created_on: Timestamp,
}

/// Distinguishes states of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// A renamed file differs even when both were written in the same tick of the clock.
    inode: u64,
}

/// The current state of the file; `None` when it does not exist.
pub(super) fn stamp(path: &Path) -> Result<Option<Stamp>, SecretError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            inode: inode(&metadata),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SecretError::io("read", path)(error)),
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// Reads the file. A file that does not exist is empty.
pub(super) fn read(path: &Path) -> Result<Contents, SecretError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::default()),
        Err(error) => return Err(SecretError::io("read", path)(error)),
    };
    let damaged = |why: String| SecretError::Damaged { path: path.to_owned(), why };
    let value =
        Value::parse_json(&bytes).map_err(|error| damaged(format!("it is not valid JSON: {error}")))?;
    match value.get("format").and_then(Value::as_str) {
        Some(FORMAT) => from_json(&value).map_err(damaged),
        Some(format) => Err(damaged(format!("its format must be '{FORMAT}' (got '{format}')"))),
        None => Err(damaged(format!("it is not a secrets file: 'format' must be '{FORMAT}'"))),
    }
}

/// Replaces the file, readable by its owner alone.
pub(super) fn write(path: &Path, contents: &Contents) -> Result<(), SecretError> {
    let directory = directory(path);
    create_private(&directory)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut text = to_json(contents).to_json_text_pretty();
    text.push('\n');
    let mut file = private().truncate(true).open(&temporary).map_err(SecretError::io("write", &temporary))?;
    // A file that was left here may have been created by another program, with other permissions.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(SecretError::io("write", &temporary))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(SecretError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(SecretError::io("replace", path))?;
    File::open(&directory)
        .and_then(|directory| directory.sync_all())
        .map_err(SecretError::io("sync", &directory))
}

/// Waits until no other process changes the file. The lock is released when the value is dropped.
pub(super) fn lock(path: &Path) -> Result<File, SecretError> {
    let directory = directory(path);
    create_private(&directory)?;
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let file = private().open(&lock).map_err(SecretError::io("lock", &lock))?;
    file.lock().map_err(SecretError::io("lock", &lock))?;
    Ok(file)
}

/// Creates the directory for its owner alone, unless it exists.
fn create_private(path: &Path) -> Result<(), SecretError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(SecretError::io("create the directory", path))
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn to_json(contents: &Contents) -> Value {
    let keys = contents.keys.iter().map(|key| {
        let mut object = Object::new();
        object.insert("id", i64::from(key.id));
        object.insert("createdOn", key.created_on.to_string());
        object.insert("wrapped", STANDARD.encode(&key.wrapped));
        Value::from(object)
    });
    let mut secrets = Object::new();
    for (name, record) in &contents.records {
        let mut object = Object::new();
        object.insert("last", i64::from(record.last));
        object.insert("versions", record.versions.iter().map(version_to_json).collect::<Vec<Value>>());
        secrets.insert(name.as_str(), object);
    }
    let mut whole = Object::new();
    whole.insert("format", FORMAT);
    whole.insert("keys", keys.collect::<Vec<Value>>());
    whole.insert("secrets", secrets);
    whole.into()
}

fn version_to_json(version: &Version) -> Value {
    let properties = &version.properties;
    let mut object = Object::new();
    object.insert("version", i64::from(properties.version));
    object.insert("createdOn", properties.created_on.to_string());
    object.insert("enabled", properties.enabled);
    if properties.deleted {
        object.insert("deleted", true);
    }
    for (name, time) in [("notBefore", properties.not_before), ("expiresOn", properties.expires_on)] {
        if let Some(time) = time {
            object.insert(name, time.to_string());
        }
    }
    if let Some(kind) = &properties.content_type {
        object.insert("contentType", Arc::clone(kind));
    }
    if !properties.tags.is_empty() {
        let tags = properties.tags.iter();
        let tags: Object =
            tags.map(|(tag, value)| (Arc::clone(tag), Value::from(Arc::clone(value)))).collect();
        object.insert("tags", tags);
    }
    object.insert("key", i64::from(version.key));
    object.insert("sealed", STANDARD.encode(&version.sealed));
    object.into()
}

fn from_json(value: &Value) -> Result<Contents, String> {
    let mut contents = Contents::default();
    for (index, key) in list(value, "keys")?.iter().enumerate() {
        let at = |why: String| format!("keys[{index}]: {why}");
        contents.keys.push(WrappedKey {
            id: number(key, "id").map_err(at)?,
            wrapped: bytes(key, "wrapped").map_err(at)?,
            created_on: time(key, "createdOn").map_err(at)?.ok_or_else(|| at(missing("createdOn")))?,
        });
    }
    let secrets = value.get("secrets").and_then(Value::as_object).ok_or_else(|| missing("secrets"))?;
    for (name, record) in secrets {
        let mut read = Record { versions: Vec::new(), last: 0 };
        for (index, version) in
            list(record, "versions").map_err(|why| format!("{name}: {why}"))?.iter().enumerate()
        {
            let version = version_from_json(name, version)
                .map_err(|why| format!("secrets.{name}.versions[{index}]: {why}"))?;
            read.last = read.last.max(version.properties.version);
            read.versions.push(version);
        }
        read.last = read.last.max(number(record, "last").map_err(|why| format!("secrets.{name}: {why}"))?);
        contents.records.insert(name.to_string(), read);
    }
    Ok(contents)
}

fn version_from_json(name: &Arc<str>, value: &Value) -> Result<Version, String> {
    let flag = |member: &str| value.get(member).and_then(Value::as_bool).unwrap_or_default();
    let mut tags = BTreeMap::new();
    for (tag, text) in value.get("tags").and_then(Value::as_object).into_iter().flatten() {
        let text = text.as_arc_str().ok_or_else(|| format!("the tag '{tag}' must be a string"))?;
        tags.insert(Arc::clone(tag), Arc::clone(text));
    }
    Ok(Version {
        properties: SecretProperties {
            name: Arc::clone(name),
            version: number(value, "version")?,
            created_on: time(value, "createdOn")?.ok_or_else(|| missing("createdOn"))?,
            enabled: flag("enabled"),
            deleted: flag("deleted"),
            not_before: time(value, "notBefore")?,
            expires_on: time(value, "expiresOn")?,
            content_type: value.get("contentType").and_then(Value::as_arc_str).cloned(),
            tags,
        },
        key: number(value, "key")?,
        sealed: bytes(value, "sealed")?,
    })
}

fn missing(member: &str) -> String {
    format!("'{member}' is missing")
}

fn list<'a>(value: &'a Value, member: &str) -> Result<&'a [Value], String> {
    let list = value.get(member).and_then(Value::as_array);
    list.map(|list| &**list).ok_or_else(|| format!("'{member}' must be an array"))
}

fn number(value: &Value, member: &str) -> Result<u32, String> {
    let number = value.get(member).and_then(Value::as_i64).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("'{member}' must be a number"))
}

fn bytes(value: &Value, member: &str) -> Result<Vec<u8>, String> {
    let text = value.get(member).and_then(Value::as_str).ok_or_else(|| missing(member))?;
    STANDARD.decode(text).map_err(|error| format!("'{member}' is not base64: {error}"))
}

fn time(value: &Value, member: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = value.get(member).and_then(Value::as_str) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("'{member}' must be a timestamp (got '{text}')"))
}
