//! Opens a data directory, encrypted or not.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_store::{
    Durability, Error as StoreError, KeyError, SqliteOptions, SqliteStore, Store, StoreKey, with_key,
};

use crate::{files, signals};

/// Opens the store in `directory`, with the key in `key_file` if it is encrypted.
pub(crate) async fn open(
    directory: &Path,
    durability: Durability,
    key_file: Option<&Path>,
) -> Result<Arc<dyn Store>> {
    open_with(directory, key_file, |directory| {
        // With a key file, everything is encrypted.
        let seals = key_file.is_none();
        SqliteStore::open(directory, SqliteOptions { durability, seals, ..SqliteOptions::default() })
    })
    .await
}

/// Like [`open`], but read-only: nothing in the directory changes.
pub(crate) async fn look(directory: &Path, key_file: Option<&Path>) -> Result<Arc<dyn Store>> {
    open_with(directory, key_file, |directory| {
        SqliteStore::open_read_only(directory, SqliteOptions::default())
    })
    .await
}

async fn open_with(
    directory: &Path,
    key_file: Option<&Path>,
    open: impl FnOnce(&Path) -> Result<SqliteStore, StoreError>,
) -> Result<Arc<dyn Store>> {
    if directory.is_file() {
        bail!("{} is a file, expected a directory", directory.display());
    }
    let key = key_file.map(read_key).transpose()?;
    signals::outlive_size_limits()?;
    let store = open(directory).map_err(|error| match error {
        StoreError::Locked { .. } => anyhow!(
            "{error}: a server or `loom run` is using the directory; wait for it to stop, name another directory with --data, or \
             inspect the runs of that server with `loom runs list`, without --data"
        ),
        error => error.into(),
    })?;
    match with_key(Arc::new(store), key.as_ref()).await {
        Ok(store) => Ok(store),
        Err(error @ KeyError::Missing) => {
            Err(anyhow!("{}: {error}; name the key file with --key-file", directory.display()))
        }
        Err(error @ KeyError::NotEncrypted) => Err(anyhow!(
            "{}: {error}; omit --key-file to use it as it is, or name a new directory with --data to encrypt new runs",
            directory.display()
        )),
        Err(error) => Err(error).with_context(|| directory.display().to_string()),
    }
}

/// Reads a key of 64 hexadecimal digits.
pub(crate) fn read_key(path: &Path) -> Result<StoreKey> {
    files::warn_if_others_can_read(path);
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the key file {}", path.display()))?;
    match StoreKey::from_hex(&text) {
        Some(key) => Ok(key),
        None => bail!(
            "{} must contain a key of 64 hexadecimal digits; `openssl rand -hex 32` generates one",
            path.display()
        ),
    }
}
