//! The only thread that writes. It writes the queued commits in one transaction, syncs once, and replies to all of
//! them.
//!
//! A commit that contradicts the store is refused alone. When the disk fails, the whole group and everything queued
//! get the error, the connection is dropped, and the store is paused until it is resumed.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use crate::{Committed, Deletion, Durability, Error, NodeId, OwnerTable, RunId, metrics::Meter};

use super::{
    FaultPoint, Faults,
    apply::{self, Failure, Memory},
    clock, connect,
    files::Files,
    health::Watch,
    marks::Marks,
    queue::{Entry, Job, Queue},
    sweep::{self, Sweep},
};

/// How long the writer waits for readers before it gives up resetting the log.
const RESTART_WAIT: Duration = Duration::from_millis(20);

/// The settings of the writer, fixed when the store is opened.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) cache_bytes: usize,
    pub(super) database_bytes_max: Option<u64>,
    pub(super) group_commits_max: usize,
    pub(super) group_bytes_max: usize,
    pub(super) faults: Option<Arc<dyn Faults>>,
}

impl Setting {
    /// Lets a test inject a disk failure.
    pub(super) fn fault(&self, point: FaultPoint) -> std::io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.strike(point))
    }

    /// Like [`fault`](Setting::fault), for operations whose failure pauses the store.
    pub(super) fn strike(&self, point: FaultPoint) -> Result<(), Error> {
        self.fault(point)
            .map_err(|source| Error::Paused { operation: operation(point), source: Arc::new(source) })
    }

    /// Opens the writing connection. What is visible in the log is synced before anything builds on it: after a
    /// failed sync the system may show bytes that never reached the disk, and a checkpoint writes them again.
    pub(super) fn connect(&self) -> Result<(Connection, Memory), Error> {
        self.strike(FaultPoint::Open)?;
        let open = || {
            let connection = connect::writer(&self.path, self.durability, self.cache_bytes)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            if let Some(bytes) = self.database_bytes_max {
                let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
                let pages = (bytes / u64::from(page)).clamp(1, u64::from(u32::MAX - 1));
                connection.pragma_update_and_check(
                    None,
                    "max_page_count",
                    pages.cast_signed(),
                    |_| Ok(()),
                )?;
            }
            Ok(connection)
        };
        let mut connection = open().map_err(|source| super::open_error(&self.path, source))?;
        super::schema::migrate(&mut connection, &self.path)?;
        let memory = Memory::read(&connection).map_err(|source| super::open_error(&self.path, source))?;
        Ok((connection, memory))
    }
}

const fn operation(point: FaultPoint) -> &'static str {
    match point {
        FaultPoint::Open => "open the database",
        FaultPoint::Begin => "begin a transaction",
        FaultPoint::Write => "write a commit",
        FaultPoint::Commit | FaultPoint::Committed => "commit a transaction",
        FaultPoint::BlobWrite => "write a blob",
        FaultPoint::BlobSync => "sync a blob",
        FaultPoint::Sweep => "sweep",
        FaultPoint::Delete => "delete a run",
        FaultPoint::Checkpoint => "copy the log into the database",
    }
}

/// The state of the thread.
pub(super) struct Writer {
    setting: Arc<Setting>,
    queue: Arc<Queue>,
    meter: Arc<Meter>,
    files: Arc<Files>,
    watch: Arc<Watch>,
    marks: Arc<Marks>,
    owners: OwnerTable,
    /// Called after each group with the bytes it wrote.
    wrote: Box<dyn Fn(usize) + Send>,
    /// `None` while the store is paused.
    open: Option<(Connection, Memory)>,
}

impl Writer {
    pub(super) fn new(
        setting: Arc<Setting>,
        queue: Arc<Queue>,
        meter: Arc<Meter>,
        files: Arc<Files>,
        (watch, marks, owners): (Arc<Watch>, Arc<Marks>, OwnerTable),
        wrote: Box<dyn Fn(usize) + Send>,
        open: (Connection, Memory),
    ) -> Self {
        Self { setting, queue, meter, files, watch, marks, owners, wrote, open: Some(open) }
    }

    /// Works until the store is closed, and returns the result of closing it.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            let work = self.queue.take(self.setting.group_commits_max, self.setting.group_bytes_max);
            if !work.group.is_empty() {
                self.write_group(work.group);
            }
            for job in work.jobs {
                match job {
                    Job::Resume(reply) => {
                        // The caller may be gone; the store is resumed all the same.
                        reply.send(self.resume()).unwrap_or_default();
                    }
                    Job::RestartLog => self.restart_log(),
                    Job::Sweep(sweep) => self.sweep(sweep),
                    Job::Register(node, reply) => {
                        reply.send(self.register(node)).unwrap_or_default();
                    }
                    Job::Delete(run, reply) => {
                        // The run is deleted even if the caller has gone.
                        reply.send(self.delete(run)).unwrap_or_default();
                    }
                    Job::Close => return self.close(),
                }
            }
        }
    }

    fn write_group(&mut self, group: Vec<Entry>) {
        let began = clock::now();
        self.give_up_damaged();
        let Some((connection, memory)) = &mut self.open else {
            // Taken from the queue while the store was being paused; `stop` replied to the others.
            let reason = self.queue.stopped().unwrap_or(Error::Closed);
            return answer_all(group, &reason);
        };
        let written = self
            .watch
            .check_directory()
            .and_then(|()| write_transaction(&self.setting, &self.owners, connection, memory, &group));
        match self.watch.observe(written) {
            Ok((answers, sync)) => {
                self.note_progress();
                self.answer(group, answers, began, sync);
            }
            Err(reason) => {
                self.pause(&reason);
                answer_all(group, &reason);
            }
        }
    }

    fn answer(
        &self,
        group: Vec<Entry>,
        answers: Vec<Result<Committed, Error>>,
        began: Instant,
        sync: Duration,
    ) {
        let ended = clock::now();
        let bytes = group.iter().map(|entry| entry.bytes).sum();
        self.meter.update(|metrics| {
            metrics.groups += 1;
            metrics.group_commits_max = metrics.group_commits_max.max(group.len() as u64);
            metrics.group_seconds.record(ended.duration_since(began));
            metrics.sync_seconds.record(sync);
            metrics.bytes += bytes as u64;
            for (entry, answer) in group.iter().zip(&answers) {
                metrics.wait_seconds.record(ended.duration_since(entry.taken_in));
                if matches!(answer, Ok(Committed::Written(_))) {
                    metrics.commits += 1;
                    metrics.frames += entry.packed.frames() as u64;
                } else {
                    metrics.refused += 1;
                }
            }
        });
        for (entry, answer) in group.into_iter().zip(answers) {
            drop(entry.charge);
            // A caller that went away gave up the result, not the commit.
            entry.reply.send(answer);
        }
        (self.wrote)(bytes);
    }

    /// Drops the connection, which rolls back what was not committed, and replies to all waiting callers.
    fn pause(&mut self, reason: &Error) {
        if self.watch.damage().is_none() {
            let cause = std::error::Error::source(reason).map(ToString::to_string);
            tracing::error!(error = %reason, cause, "the store is paused");
        }
        self.let_go();
        self.meter.update(|metrics| metrics.pauses += 1);
        answer_all(self.queue.stop(reason.clone()), reason);
    }

    /// Drops the connection of a store in which a reader found damage.
    fn give_up_damaged(&mut self) {
        if self.open.is_some() && self.watch.damage().is_some() {
            self.let_go();
            self.meter.update(|metrics| metrics.pauses += 1);
        }
    }

    /// Drops the connection.
    fn let_go(&mut self) {
        if let Some((connection, _)) = self.open.take() {
            self.watch.before_close(&connection);
        }
    }

    /// Records what was synced outside the log, so that a log that has lost its end can be told from a whole one.
    fn note_progress(&self) {
        if let Some((_, memory)) = &self.open
            && self.setting.durability == Durability::Durable
        {
            self.marks.synced(memory.progress());
        }
    }

    fn resume(&mut self) -> Result<(), Error> {
        self.give_up_damaged();
        if let Some(damage) = self.watch.damage() {
            return Err(damage.clone());
        }
        if self.open.is_none() || self.queue.stopped().is_some() {
            self.watch.check_directory()?;
            self.let_go();
            self.open = Some(self.watch.observe(self.setting.connect())?);
            self.queue.restart();
            if let Some(damage) = self.watch.damage() {
                drop(self.queue.stop(damage.clone()));
                return Err(damage.clone());
            }
            // As loud as the pause, so that a reader of the log sees both.
            tracing::warn!("the store was resumed");
        }
        Ok(())
    }

    /// Does one slice and, unless it was the last, puts the sweep back into the queue, so that commits are written in
    /// between.
    fn sweep(&mut self, mut sweep: Box<Sweep>) {
        self.give_up_damaged();
        let Some((connection, memory)) = &mut self.open else {
            let reason = self.queue.stopped().unwrap_or(Error::Closed);
            return sweep.reply.send(Err(reason)).unwrap_or_default();
        };
        let directory = self.watch.check_directory();
        let slice = directory.and_then(|()| self.setting.strike(FaultPoint::Sweep)).and_then(|()| {
            let failed = |source| paused("sweep", source);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let slice = sweep::slice(&transaction, memory, &mut sweep).map_err(failed)?;
            transaction.commit().map_err(failed)?;
            let more_pages = sweep::vacuum(connection).map_err(failed)?;
            Ok((slice, more_pages))
        });
        match self.watch.observe(slice) {
            Ok((slice, more_pages)) => {
                self.note_progress();
                for hash in slice.files {
                    self.files.remove(hash);
                }
                (self.wrote)(0);
                if slice.done && !more_pages {
                    sweep.reply.send(Ok(sweep.swept)).unwrap_or_default();
                } else {
                    self.queue.push_job(Job::Sweep(sweep));
                }
            }
            Err(reason) => {
                self.pause(&reason);
                sweep.reply.send(Err(reason)).unwrap_or_default();
            }
        }
    }

    /// Deletes a run in one transaction. The rest of a long journal is removed in the slices of a sweep.
    fn delete(&mut self, run: RunId) -> Result<Deletion, Error> {
        self.give_up_damaged();
        let Some((connection, memory)) = &mut self.open else {
            return Err(self.queue.stopped().unwrap_or(Error::Closed));
        };
        let mut rest = Box::new(Sweep::of_deleted_runs());
        let directory = self.watch.check_directory();
        let deleted = directory.and_then(|()| {
            let failed = |source| paused("delete a run", source);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let deleted = sweep::delete(&transaction, memory, run, &mut rest).map_err(failed)?;
            self.setting.strike(FaultPoint::Delete)?;
            transaction.commit().map_err(failed)?;
            self.setting.strike(FaultPoint::Committed)?;
            Ok(deleted)
        });
        match self.watch.observe(deleted) {
            Ok((deletion, slice)) => {
                self.note_progress();
                for hash in slice.files {
                    self.files.remove(hash);
                }
                (self.wrote)(0);
                if !slice.done {
                    self.queue.push_job(Job::Sweep(rest));
                }
                Ok(deletion)
            }
            Err(reason) => {
                self.pause(&reason);
                Err(reason)
            }
        }
    }

    fn register(&mut self, node: NodeId) -> Result<(), Error> {
        self.give_up_damaged();
        let Some((connection, _)) = &self.open else {
            return Err(self.queue.stopped().unwrap_or(Error::Closed));
        };
        let saved = connection
            .execute(
                "INSERT INTO meta VALUES ('last_node', ?1)
                 ON CONFLICT DO UPDATE SET number = max(number, excluded.number)",
                [node.0.cast_signed()],
            )
            .map(drop)
            .map_err(|source| paused("register a node", source));
        let saved = self.watch.observe(saved);
        if let Err(reason) = &saved {
            self.pause(reason);
        }
        saved
    }

    fn close(&mut self) -> Result<(), Error> {
        let mut rest = self.queue.stop(Error::Closed);
        while !rest.is_empty() {
            let count = rest.len().min(self.setting.group_commits_max);
            self.write_group(rest.drain(..count).collect());
        }
        // A store that was paused closes without an error: every caller got it when the store was paused.
        let Some((connection, _)) = self.open.take() else { return Ok(()) };
        self.watch.before_close(&connection);
        connection.close().map_err(|(_, source)| Error::Paused {
            operation: "close the database",
            source: Arc::new(source),
        })
    }

    /// Copies what the checkpointer left and resets the log. When a reader prevents the reset, the log keeps growing,
    /// and the next checkpoint requests it again.
    fn restart_log(&mut self) {
        self.give_up_damaged();
        let Some((connection, _)) = &self.open else { return };
        let restart = || {
            connection.busy_timeout(RESTART_WAIT)?;
            let busy =
                connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
            connection.busy_timeout(connect::BUSY)?;
            busy
        };
        let restarted = self
            .setting
            .strike(FaultPoint::Checkpoint)
            .and_then(|()| restart().map_err(|source| paused("copy the log into the database", source)));
        match restarted {
            Ok(true) => tracing::debug!("a reader prevented the reset of the log"),
            Ok(false) => self.meter.update(|metrics| metrics.checkpoints_waited_for += 1),
            Err(reason) => self.pause(&reason),
        }
    }
}

impl Drop for Writer {
    /// However the thread ends, no caller waits forever: dropping what is queued replies "closed".
    fn drop(&mut self) {
        drop(self.queue.stop(Error::Closed));
    }
}

pub(super) fn answer_all(entries: impl IntoIterator<Item = Entry>, reason: &Error) {
    for entry in entries {
        drop(entry.charge);
        entry.reply.send(Err(reason.clone()));
    }
}

fn paused(operation: &'static str, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            Error::damaged(source)
        }
        _ => Error::Paused { operation, source: Arc::new(source) },
    }
}

type Answers = Vec<Result<Committed, Error>>;

/// Writes a group in one transaction; returns the result of each commit and how long the sync took.
fn write_transaction(
    setting: &Setting,
    owners: &OwnerTable,
    connection: &mut Connection,
    memory: &mut Memory,
    group: &[Entry],
) -> Result<(Answers, Duration), Error> {
    setting.strike(FaultPoint::Begin)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|source| paused("begin a transaction", source))?;
    let mut answers = Vec::with_capacity(group.len());
    for entry in group {
        setting.strike(FaultPoint::Write)?;
        if let Err(lost) = owners.check(&entry.packed.commit) {
            answers.push(Err(lost.into()));
            continue;
        }
        answers.push(match apply::apply(&transaction, memory, &entry.packed) {
            Ok(committed) => Ok(committed),
            Err(Failure::Refused(conflict)) => Err(conflict.into()),
            Err(Failure::Database(source)) => return Err(paused("write a commit", source)),
        });
    }
    setting.strike(FaultPoint::Commit)?;
    let sync_began = clock::now();
    transaction.commit().map_err(|source| paused("commit a transaction", source))?;
    let sync = clock::now().duration_since(sync_began);
    setting.strike(FaultPoint::Committed)?;
    Ok((answers, sync))
}
