//! The lock file that keeps a second process out of the directory, and the directory's identity.
//!
//! The lock is the operating system's, taken on the open file, so it ends with the process, however the process ends.
//! The content, the holder's process id, is only for the message that a refused process shows.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Error;

use super::files;

const NAME: &str = "loom.lock";

/// Holds the directory until it is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock(File);

impl DirectoryLock {
    /// Locks the directory `directory`, which must exist.
    pub(super) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(NAME);
        let failed = |source| Error::Open { path: path.clone(), source: Arc::new(source) };
        // Not truncated: until the lock is taken, the content belongs to the holder.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        files::private(&mut options);
        let mut file = options.open(&path).map_err(failed)?;
        locked(file.try_lock(), &mut file, &path)?;
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }

    /// Keeps writers out of `directory` and changes nothing in it; other processes may read it too. A directory in which
    /// no store was ever opened, such as a copy, has no lock and needs none.
    pub(super) fn share(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(NAME);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Open { path, source: Arc::new(source) }),
        };
        locked(file.try_lock_shared(), &mut file, &path)?;
        Ok(Some(Self(file)))
    }
}

impl Drop for DirectoryLock {
    /// A child process that was forked and has not started its program yet shares the open file, so closing it here would
    /// leave the directory locked for that moment.
    fn drop(&mut self) {
        // Closing the file unlocks it too.
        self.0.unlock().unwrap_or_default();
    }
}

/// Names the holder when the lock cannot be taken.
fn locked(tried: Result<(), TryLockError>, file: &mut File, path: &Path) -> Result<(), Error> {
    match tried {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A holder that has not recorded its id yet is reported as unknown; the lock is refused either way.
            let read = file.read_to_string(&mut holder);
            let holder = Some(holder.trim().to_owned()).filter(|name| read.is_ok() && !name.is_empty());
            Err(Error::Locked { path: path.into(), holder })
        }
        Err(TryLockError::Error(source)) => Err(Error::Open { path: path.into(), source: Arc::new(source) }),
    }
}

/// Detects when the files that the store has open are no longer the files with those names. What is written to a
/// deleted file is lost, and the system reports no error.
#[derive(Debug)]
pub(super) struct Identity {
    files: Vec<(PathBuf, FileId)>,
}

/// Identifies a file independently of its name.
type FileId = (u64, u64);

impl Identity {
    /// The identity of the lock file, whose lock is held, and of the database.
    pub(super) fn of(directory: &Path, lock: &DirectoryLock, database: &Path) -> io::Result<Self> {
        let files = vec![
            (directory.join(NAME), id(&lock.0.metadata()?)),
            (database.to_owned(), id(&database.metadata()?)),
        ];
        Ok(Self { files })
    }

    /// # Errors
    /// When a file is gone or was replaced.
    pub(super) fn check(&self) -> io::Result<()> {
        for (path, known) in &self.files {
            let problem = match path.metadata() {
                Ok(found) if id(&found) == *known => continue,
                Ok(_) => "was replaced by another file",
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was deleted or moved away",
                Err(error) => return Err(error),
            };
            return Err(io::Error::other(format!(
                "{} {problem} while it was in use; move it back, or restart to use what is there now",
                path.display()
            )));
        }
        Ok(())
    }
}

#[cfg(unix)]
fn id(file: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// On other systems an open file cannot be replaced.
#[cfg(not(unix))]
fn id(_file: &std::fs::Metadata) -> FileId {
    (0, 0)
}
