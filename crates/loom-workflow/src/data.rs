//! A folder of runs, opened as its key says.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_store::{
    Durability, Error as StoreError, KeyError, SqliteOptions, SqliteStore, Store, StoreKey, with_key,
};

use crate::{files, signals};

/// Opens the store in `folder`, with the key in `key_file` if it is encrypted.
pub(crate) async fn open(
    folder: &Path,
    durability: Durability,
    key_file: Option<&Path>,
) -> Result<Arc<dyn Store>> {
    open_with(folder, key_file, |folder| {
        SqliteStore::open(folder, SqliteOptions { durability, ..SqliteOptions::default() })
    })
    .await
}

/// As [`open`], to look at it: nothing in the folder changes.
pub(crate) async fn look(folder: &Path, key_file: Option<&Path>) -> Result<Arc<dyn Store>> {
    open_with(folder, key_file, |folder| SqliteStore::open_read_only(folder, SqliteOptions::default())).await
}

async fn open_with(
    folder: &Path,
    key_file: Option<&Path>,
    open: impl FnOnce(&Path) -> Result<SqliteStore, StoreError>,
) -> Result<Arc<dyn Store>> {
    if folder.is_file() {
        bail!("{} is a file; runs are kept in a folder", folder.display());
    }
    let key = key_file.map(read_key).transpose()?;
    signals::outlive_size_limits()?;
    let store = open(folder).map_err(|error| match error {
        StoreError::Locked { .. } => anyhow!(
            "{error}: a server or a `loom run` has the folder; `loom runs` without --data asks a server, and another --data keeps \
             runs elsewhere"
        ),
        error => error.into(),
    })?;
    match with_key(Arc::new(store), key.as_ref()).await {
        Ok(store) => Ok(store),
        Err(error @ KeyError::Missing) => {
            Err(anyhow!("{}: {error}; name its file with --key-file", folder.display()))
        }
        Err(error @ KeyError::NotEncrypted) => Err(anyhow!(
            "{}: {error}. To use it as it is, leave --key-file out; to have runs encrypted, name a new directory with --data",
            folder.display()
        )),
        Err(error) => Err(error).with_context(|| folder.display().to_string()),
    }
}

fn read_key(path: &Path) -> Result<StoreKey> {
    files::warn_if_others_can_read(path);
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    match StoreKey::from_hex(&text) {
        Some(key) => Ok(key),
        None => bail!(
            "{} holds no key: it is 64 hexadecimal digits, such as `openssl rand -hex 32` prints",
            path.display()
        ),
    }
}
