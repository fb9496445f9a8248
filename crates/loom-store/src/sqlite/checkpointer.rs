//! Copies the write-ahead log into the database in the background, on a connection of its own, so that no commit waits
//! for it.
//!
//! The log begins anew only when all of it has been copied and nobody reads its end. Under a load that never pauses
//! that moment may not come by itself; when the log passes its limit, the writer is asked to wait for it once.

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

/// How much is written between two checkpoints, and how long the log may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Payload bytes after which the log is copied.
    pub(super) every_bytes: usize,
    /// Pages of the log after which the writer waits.
    pub(super) log_pages_max: i64,
}

/// The thread's owner.
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
    /// Counts what the writer wrote; each group is charged for the pages it must at least touch.
    pub(super) fn wrote(&self, bytes: usize, every_bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes + 4096;
        if state.bytes >= every_bytes {
            self.changed.notify_one();
        }
    }

    /// Waits until so much was written; `false` when the store closes.
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
            // Had it panicked, the log would have grown until the next start, and nothing else.
            drop(thread.join());
        }
    }
}

/// Copies what can be copied without making anybody wait; answers with the pages in the log.
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
        // Nothing is lost: the log keeps everything until a checkpoint succeeds. The writer notices a full disk itself.
        Err(error) => {
            tracing::warn!(%error, "the log could not be copied into the database");
            None
        }
    }
}
