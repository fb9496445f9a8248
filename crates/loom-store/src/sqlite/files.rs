//! Large blobs: one file each under `blobs/ab/cd…`, named by the content hash.
//!
//! A file is written under a temporary name, synced and renamed, and its directory is synced, before a commit can
//! refer to it. So a file that is referred to is always complete.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    ContentHash, Error,
    blob::{Pin, Pins},
};

use super::{FaultPoint, writer::Setting};

const TEMPORARY: &str = "tmp";

/// The directory of blob files.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    pins: Arc<Pins>,
    /// Makes the names of this process's temporary files unique.
    temporary: AtomicU64,
}

impl Files {
    pub(super) fn new(data: &Path) -> Self {
        Self { directory: data.join("blobs"), pins: Arc::default(), temporary: AtomicU64::new(0) }
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.directory.join(&name[..2]).join(&name[2..])
    }

    /// Writes content unless it is already there, and pins it.
    pub(super) fn write(
        &self,
        setting: &Setting,
        hash: ContentHash,
        content: &[u8],
    ) -> Result<Arc<Pin>, Error> {
        let pin = self.pins.pin(hash);
        let path = self.path(hash);
        // A file with its final name is complete, because it was renamed after the sync.
        if path.metadata().is_ok_and(|found| found.len() == content.len() as u64) {
            return Ok(pin);
        }
        let failed = |source| Error::Io { operation: "write a blob", source: Arc::new(source) };
        setting.fault(FaultPoint::BlobWrite).map_err(failed)?;
        let directory = path.parent().expect("the path was joined from a directory and a name");
        create_private(directory).map_err(failed)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{hash}-{number}.{TEMPORARY}"));
        let written = write_synced(&temporary, content)
            .and_then(|()| setting.fault(FaultPoint::BlobSync))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_directory(directory))
            .and_then(|()| sync_directory(&self.directory));
        if let Err(source) = written {
            // The next start removes what is left under the temporary name.
            fs::remove_file(&temporary).unwrap_or_default();
            return Err(failed(source));
        }
        Ok(pin)
    }

    /// Reads at most `length` bytes, starting at `offset`, of a file of `size` bytes. When that is the whole file,
    /// the hash is checked.
    pub(super) fn read(
        &self,
        hash: ContentHash,
        size: u64,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, Error> {
        let damaged = |what: &str| Error::damaged(format_args!("the file of blob {hash} {what}"));
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => damaged("is missing"),
            io::ErrorKind::UnexpectedEof => damaged("is too short"),
            _ => Error::io("read a blob", source),
        };
        let mut file = File::open(self.path(hash)).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != size {
            return Err(damaged("does not have its recorded size"));
        }
        let start = offset.min(size);
        let length = (size - start).min(length as u64) as usize;
        let mut content = vec![0; length];
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        file.read_exact(&mut content).map_err(failed)?;
        if length as u64 == size && ContentHash::of(&content) != hash {
            return Err(damaged("does not match its hash"));
        }
        Ok(content.into())
    }

    /// Checks a whole file against its hash, one piece at a time.
    pub(super) fn verify(&self, hash: ContentHash, size: u64) -> Result<(), Error> {
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; 1 << 20];
        // Reading nothing checks the size.
        self.read(hash, size, size, 0)?;
        let mut file = File::open(self.path(hash)).map_err(|source| Error::io("read a blob", source))?;
        loop {
            let length = file.read(&mut piece).map_err(|source| Error::io("read a blob", source))?;
            if length == 0 {
                break;
            }
            hasher.update(&piece[..length]);
        }
        if ContentHash::from_bytes(*hasher.finalize().as_bytes()) == hash {
            return Ok(());
        }
        Err(Error::damaged(format_args!("the file of blob {hash} does not match its hash")))
    }

    /// Removes a file that no run refers to, unless a commit is about to refer to it.
    pub(super) fn remove(&self, hash: ContentHash) {
        self.pins.unless_pinned(hash, || {
            if let Err(error) = fs::remove_file(self.path(hash)) {
                // The sweep at the next start finds it again.
                tracing::warn!(%hash, %error, "cannot remove a blob file; retrying at the next start");
            }
        });
    }

    /// Removes what a crash left behind: temporary files, and files that no row refers to. Called while opening, when
    /// nothing is written yet.
    pub(super) fn sweep(&self, known: impl Fn(ContentHash) -> Result<bool, Error>) -> Result<u64, Error> {
        let failed = |source| Error::io("remove unused blob files", source);
        let mut removed = 0;
        let Ok(directories) = fs::read_dir(&self.directory) else { return Ok(0) };
        for directory in directories {
            let directory = directory.map_err(failed)?.path();
            if directory.extension().is_some_and(|extension| extension == TEMPORARY) {
                fs::remove_file(&directory).map_err(failed)?;
                removed += 1;
                continue;
            }
            if !directory.is_dir() {
                continue;
            }
            for file in fs::read_dir(&directory).map_err(failed)? {
                let file = file.map_err(failed)?.path();
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // A file whose name is not a hash is not ours; leave it alone.
                let Ok(hash) = (name(&directory) + &name(&file)).parse() else { continue };
                if !known(hash)? {
                    fs::remove_file(&file).map_err(failed)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Creates a directory, unless it exists, that only its owner can read, because payloads may be confidential.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a file that is created readable by its owner alone.
pub(super) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

/// Creates an empty database, unless one exists, that only its owner can read. SQLite gives its log and the log's
/// index the mode of the database.
pub(super) fn create_database(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    private(&mut options);
    options.open(path).map(drop)
}

/// Ensures that only the owner can read the files of a store, even if others can read the directory.
pub(super) fn restrict(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    for name in
        ["loom.db", "loom.db-wal", "loom.db-shm", "loom.key", "loom.lock", "loom.relaxed", super::marks::NAME]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join(name);
        let mode = match path.metadata() {
            Ok(found) => found.permissions().mode(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if mode & 0o077 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o700))?;
        }
    }
    Ok(())
}

/// Makes new names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
