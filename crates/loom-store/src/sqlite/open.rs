//! Opens a store, for writing or read-only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use crate::{Cause, Durability, Error, OwnerTable, Sealer, metrics::Meter};

use super::{
    Parts, SqliteOptions, SqliteStore,
    apply::Memory,
    checkpointer::{Checkpointer, Limits, Progress},
    connect,
    files::{self, Files},
    health::{self, Watch},
    key,
    lock::{DirectoryLock, Identity},
    log_scan,
    marks::{self, Marks},
    queue::Queue,
    read::{self, Found},
    readers::Readers,
    schema,
    writer::{Setting, Writer},
};

impl SqliteStore {
    /// Opens the store in the directory `directory`, and creates both when they do not exist. Blocks for as long as the
    /// disk takes.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has the store open, [`Error::NewerFormat`] or [`Error::NotAStore`] when
    /// this program cannot use it, [`Error::Damaged`] when it is damaged, [`Error::Open`] when the disk reports an
    /// error.
    pub fn open(directory: &Path, mut options: SqliteOptions) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Open { path: directory.into(), source: Arc::new(source) };
        files::create_private(directory).map_err(failed)?;
        let lock = DirectoryLock::take(directory)?;
        let setting = setting(directory, &mut options);
        // A log that was written without syncs may be torn in many places; this file tells the next opening so.
        let unsynced_log = directory.join("loom.relaxed");
        check_log(&setting.path, unsynced_log.exists())?;
        check_progress(directory, &setting.path)?;
        files::create_database(&setting.path).map_err(failed)?;
        if setting.durability == Durability::Relaxed {
            let mut relaxed = fs::OpenOptions::new();
            relaxed.write(true).create(true).truncate(true);
            files::private(&mut relaxed);
            relaxed.open(&unsynced_log).map_err(failed)?;
            files::sync_directory(directory).map_err(failed)?;
        }
        let open = setting.connect()?;
        let last_node = super::read::last_node(&open.0)?;
        let owners = OwnerTable::after(last_node);
        let sealer =
            if options.seals { key::open(directory, &setting.path, &open.0)? } else { Sealer::none() };
        if setting.durability == Durability::Durable && unsynced_log.exists() {
            // The log has been copied and emptied; from here on it is synced.
            fs::remove_file(&unsynced_log).map_err(failed)?;
        }
        let marks = Arc::new(Marks::open(directory).map_err(failed)?);
        // Older versions left some files readable by other users.
        files::restrict(directory).map_err(failed)?;
        // The names of the files must become durable with the first commit in them.
        files::sync_directory(directory).map_err(failed)?;
        let queue = Arc::new(Queue::new(options.queue_bytes_max, options.linger));
        let identity = Identity::of(directory, &lock, &setting.path).map_err(failed)?;
        let watch = Arc::new(Watch::new(&setting.path, Some(identity), Arc::clone(&queue)));
        let files = Arc::new(Files::new(directory));
        let connect = || {
            connect::reader(&setting.path, setting.cache_bytes)
                .map_err(|source| open_error(&setting.path, source))
        };
        let sweeper = connect()?;
        let removed = files.sweep(|hash| Ok(!matches!(read::blob(&sweeper, hash)?, Found::Nothing)));
        let removed = removed.map_err(|error| placed(&setting.path, error))?;
        if removed > 0 {
            tracing::info!(removed, "removed blob files that no run refers to");
        }
        let connections = (0..options.readers.max(1)).map(|_| connect()).collect::<Result<_, _>>()?;
        let readers = Arc::new(Readers::start(connections, Arc::clone(&watch)).map_err(failed)?);

        let meter = Arc::new(Meter::default());
        let limits = Limits {
            every_bytes: options.checkpoint_bytes.max(1),
            log_pages_max: options.log_pages_max.into(),
        };
        let progress = Arc::new(Progress::default());
        let checkpoint_connection = connect::writer(&setting.path, setting.durability, 1 << 20)
            .map_err(|source| open_error(&setting.path, source))?;
        let checkpointer = Checkpointer::start(
            checkpoint_connection,
            limits,
            Arc::clone(&setting),
            Arc::clone(&queue),
            Arc::clone(&meter),
            Arc::clone(&progress),
            Arc::clone(&watch),
        )
        .map_err(failed)?;
        let writer = Writer::new(
            Arc::clone(&setting),
            Arc::clone(&queue),
            Arc::clone(&meter),
            Arc::clone(&files),
            (Arc::clone(&watch), Arc::clone(&marks), owners.clone()),
            Box::new(move |bytes| progress.wrote(bytes, limits.every_bytes)),
            open,
        );
        let writer =
            thread::Builder::new().name("loom-store-write".into()).spawn(|| writer.run()).map_err(failed)?;
        Ok(Self(Arc::new(Parts {
            setting,
            queue,
            readers,
            checkpointer: Some(checkpointer),
            files,
            meter,
            watch,
            marks: Some(marks),
            sealer,
            owners,
            writer: Mutex::new(Some(writer)),
            closed: false.into(),
            lock: Mutex::new(Some(lock)),
        })))
    }

    /// Opens the store in the directory `directory` for reading only. Nothing in the directory changes, except that
    /// SQLite may recreate `loom.db-shm` after a process was killed; commits are refused with [`Error::ReadOnly`].
    /// Other processes may read at the same time, but none can write.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`], and [`Error::OlderFormat`]. A store that does not exist is not created.
    pub fn open_read_only(directory: &Path, mut options: SqliteOptions) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Open { path: directory.into(), source: Arc::new(source) };
        let setting = setting(directory, &mut options);
        setting.path.metadata().map_err(failed)?;
        let lock = DirectoryLock::share(directory)?;
        check_log(&setting.path, directory.join("loom.relaxed").exists())?;
        check_progress(directory, &setting.path)?;
        let connect = || {
            let opened = connect::onlooker(&setting.path, setting.cache_bytes);
            opened.map_err(|source| open_error(&setting.path, source))
        };
        schema::check(&connect()?, &setting.path)?;
        let queue = Arc::new(Queue::new(options.queue_bytes_max, options.linger));
        drop(queue.stop(Error::ReadOnly));
        let watch = Arc::new(Watch::new(&setting.path, None, Arc::clone(&queue)));
        let connections = (0..options.readers.max(1)).map(|_| connect()).collect::<Result<_, _>>()?;
        let readers = Arc::new(Readers::start(connections, Arc::clone(&watch)).map_err(failed)?);
        Ok(Self(Arc::new(Parts {
            setting,
            queue,
            readers,
            checkpointer: None,
            files: Arc::new(Files::new(directory)),
            meter: Arc::new(Meter::default()),
            watch,
            marks: None,
            sealer: if options.seals { key::look(directory) } else { Sealer::none() },
            owners: OwnerTable::default(),
            writer: Mutex::new(None),
            closed: false.into(),
            lock: Mutex::new(lock),
        })))
    }
}

fn setting(directory: &Path, options: &mut SqliteOptions) -> Arc<Setting> {
    Arc::new(Setting {
        path: directory.join("loom.db"),
        durability: match options.durability {
            Durability::Memory => Durability::Relaxed,
            durability => durability,
        },
        cache_bytes: options.cache_bytes,
        database_bytes_max: options.database_bytes_max,
        group_commits_max: options.group_commits_max.max(1),
        group_bytes_max: options.group_bytes_max,
        faults: options.faults.take(),
    })
}

/// Refuses a log that is broken in a place that was synced. Nothing is known about a log that was written without
/// syncs.
fn check_log(database: &Path, is_unsynced: bool) -> Result<(), Error> {
    if is_unsynced {
        return Ok(());
    }
    let log = database.with_extension("db-wal");
    let verdict =
        log_scan::scan(&log).map_err(|source| Error::Open { path: log.clone(), source: Arc::new(source) })?;
    match verdict {
        log_scan::Verdict::Sound => Ok(()),
        log_scan::Verdict::Damaged { frame } => {
            let what = "has a wrong checksum although it was synced; opening the store would lose everything after it";
            Err(health::damaged(database, &format!("frame {frame} of {} {what}", log.display())))
        }
    }
}

/// Refuses a store that lacks commits known to have been synced: the log was cut off at its end or is gone, or the
/// database is an older one. Changes nothing, so that what is missing can still be put back.
fn check_progress(directory: &Path, database: &Path) -> Result<(), Error> {
    let synced = marks::synced(directory);
    if synced == 0 {
        return Ok(());
    }
    let found = if database.exists() { progress(database) } else { Ok(0) };
    match found {
        Ok(found) if found < synced => {
            let missing = synced - found;
            let marks = directory.join(marks::NAME);
            let what = format!(
                "{missing} synced {} missing: the end of loom.db-wal was cut off, or loom.db is gone or is an \
                 older copy. To continue without them, delete {}",
                if missing == 1 { "record is" } else { "records are" },
                marks.display()
            );
            Err(health::damaged(database, &what))
        }
        // A database that cannot be read is reported when it is opened.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How much was ever written, according to the database and its log.
fn progress(database: &Path) -> rusqlite::Result<u64> {
    let connection = connect::onlooker(database, 1 << 20)?;
    // Before the first checkpoint, even the tables are only in the log.
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format == 0 { Ok(0) } else { Memory::read(&connection).map(|memory| memory.progress()) }
}

/// Adds the path to damage that was found while opening.
fn placed(database: &Path, error: Error) -> Error {
    match error {
        Error::Damaged { what } => health::damaged(database, &what),
        error => error,
    }
}

/// Translates a failure of SQLite while opening.
pub(super) fn open_error(path: &Path, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Error::NotAStore { path: path.into() },
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => health::damaged(path, &source.to_string()),
        _ => Error::Open { path: PathBuf::from(path), source: Arc::new(source) as Cause },
    }
}
