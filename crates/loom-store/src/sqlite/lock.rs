//! The lock file that keeps a second process off the folder.
//!
//! The lock is the operating system's, taken on the open file, so it ends with the process however that ends. The
//! content, the holder's process id, is only for the message that a refused process shows.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    sync::Arc,
};

use crate::Error;

const NAME: &str = "loom.lock";

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "held for its Drop, which unlocks")] File);

impl FolderLock {
    /// Takes the lock of `folder`, which exists.
    pub(super) fn take(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let failed = |source| Error::Open { path: path.clone(), source: Arc::new(source) };
        // Not truncated: until the lock is ours the content belongs to the holder.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A holder that has not written itself down yet is named "unknown"; the refusal stands either way.
                let read = file.read_to_string(&mut holder);
                let holder = Some(holder.trim().to_owned()).filter(|name| read.is_ok() && !name.is_empty());
                return Err(Error::Locked { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}
