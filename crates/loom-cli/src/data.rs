//! A folder of runs, opened as its key says.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_store::{
    Durability, Error as StoreError, KeyError, SqliteOptions, SqliteStore, Store, StoreKey, with_key,
};
use tokio::signal::unix::{SignalKind, signal};

/// The number of the signal on Linux, the BSDs and macOS.
const SIGXFSZ: i32 = 25;

/// Opens the store in `folder`, with the key in `key_file` if it is encrypted.
pub(crate) async fn open(
    folder: &Path,
    durability: Durability,
    key_file: Option<&Path>,
) -> Result<Arc<dyn Store>> {
    if folder.is_file() {
        bail!("{} is a file; runs are kept in a folder", folder.display());
    }
    let key = key_file.map(read_key).transpose()?;
    // A limit on the size of files is a full disk like any other. Once somebody listens to the signal, the process is not
    // ended by it, and the write fails instead.
    drop(signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ cannot be heard")?);
    let options = SqliteOptions { durability, ..SqliteOptions::default() };
    let store = SqliteStore::open(folder, options).map_err(|error| match error {
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
        Err(error @ KeyError::NotEncrypted) => {
            Err(anyhow!("{}: {error}; leave --key-file out, or take a new folder", folder.display()))
        }
        Err(error) => Err(error).with_context(|| folder.display().to_string()),
    }
}

fn read_key(path: &Path) -> Result<StoreKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    match StoreKey::from_hex(&text) {
        Some(key) => Ok(key),
        None => bail!(
            "{} holds no key: it is 64 hexadecimal digits, such as `openssl rand -hex 32` prints",
            path.display()
        ),
    }
}
