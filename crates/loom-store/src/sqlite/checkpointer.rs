//! Copies the write-ahead log into the database in the background, on its own connection, so that no commit waits for
//! it.
//!
//! The log can be reset only when all of it has been copied and no reader uses its end. Under a load without pauses
//! that may never happen; when the log exceeds its limit, the writer is asked to wait for the reset once.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use crate::metrics::Meter;

use super::{
    FaultPoint,
    health::Watch,
    queue::{Job, Queue},
    writer::Setting,
};

/// How much is written between two checkpoints, and how large the log may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Payload bytes after which the log is copied.
    pub(super) every_bytes: usize,
    /// Length of the log, in pages, above which the writer waits.
    pub(super) log_pages_max: i64,
}

/// Owns the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    progress: Arc<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    stopped: bool,
}

impl Progress {
    /// Counts what the writer wrote. Each group counts as one page more, the least it touches.
    pub(super) fn wrote(&self, bytes: usize, every_bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes + 4096;
        if state.bytes >= every_bytes {
            self.changed.notify_one();
        }
    }

    /// Waits until this many bytes were written; `false` when the store is closing.
    fn wait(&self, every_bytes: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| !state.stopped && state.bytes < every_bytes;
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        !state.stopped
    }
}

impl Checkpointer {
    pub(super) fn start(
        connection: Connection,
        limits: Limits,
        setting: Arc<Setting>,
        queue: Arc<Queue>,
        meter: Arc<Meter>,
        progress: Arc<Progress>,
        watch: Arc<Watch>,
    ) -> std::io::Result<Self> {
        let watched = Arc::clone(&progress);
        let thread = thread::Builder::new().name("loom-store-log".into()).spawn(move || {
            while watched.wait(limits.every_bytes) {
                if watch.damage().is_some() {
                    continue;
                }
                if checkpoint(&connection, &setting, &meter).is_some_and(|pages| pages > limits.log_pages_max)
                {
                    queue.push_job(Job::RestartLog);
                }
            }
            watch.before_close(&connection);
        })?;
        Ok(Self { progress, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.progress.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.progress.changed.notify_one();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If it panicked, the log has grown until now, and nothing else happened.
            drop(thread.join());
        }
    }
}

/// Copies what can be copied without making any connection wait; returns the number of pages in the log.
fn checkpoint(connection: &Connection, setting: &Setting, meter: &Meter) -> Option<i64> {
    let copied = setting.strike(FaultPoint::Checkpoint).map_err(|error| error.to_string()).and_then(|()| {
        connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1))
            .map_err(|error| error.to_string())
    });
    match copied {
        Ok(pages) => {
            meter.update(|metrics| metrics.checkpoints += 1);
            Some(pages)
        }
        // Nothing is lost: the log keeps everything until a checkpoint succeeds. The writer itself detects a full
        // disk.
        Err(error) => {
            tracing::warn!(%error, "cannot copy the log into the database; retrying at the next checkpoint");
            None
        }
    }
}
