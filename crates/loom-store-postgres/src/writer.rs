//! The only task that writes commits. It writes what is waiting in one statement, and replies to all of it.
//!
//! A commit that contradicts what is stored is refused alone. When another transaction was in the way, the statement is repeated;
//! when the database refuses it, it is divided until the commit that is to blame is alone. When the connection is lost, the task
//! finds out whether the statement took effect: it inserts a row under the key that the statement uses for its row of the feed. If
//! that succeeds, the statement has not taken effect and never will; otherwise the row says what it returned. When the database
//! does not return in time, the store pauses. A connection is also lost when no answer arrives although the server has none to give.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_store::{Committed, Error, InboxId, Metrics, RunId, Written};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use crate::{
    connect::{Connector, Failure, RETRY, Role, Session, Silent, failure},
    explain::explain,
    group::{Group, Unit},
    partitions::Partitions,
    queue::{Entry, Job, Queue},
    statement::{self, Turn},
};

/// How often a statement is repeated because of other transactions before its commits are tried one by one, and then how often
/// each of those.
const REPEATED_MAX: u32 = 5;

/// How often partitions are created ahead, and the writer reports to the database that it is alive.
const HOUSEKEEPING: Duration = Duration::from_mins(30);

/// Refused by the row that stands where a statement never took effect.
const PLACEHOLDER: i32 = -1;

const TAKE_PLACE: &str =
    "INSERT INTO change (writer, number, refused) VALUES ($1, $2, '{-1}') ON CONFLICT DO NOTHING";
const FIND_PLACE: &str =
    "SELECT true AS is_written, refused, posted, versions FROM change WHERE writer = $1 AND number = $2";
const SEEN: &str = "UPDATE writer SET seen = clock_timestamp() WHERE id = $1";

/// What the writer shares with the store.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) metrics: Mutex<Metrics>,
    /// What is damaged, if anything: then nothing more is written.
    pub(crate) damage: Mutex<Option<Error>>,
}

impl Shared {
    pub(crate) fn damage(&self) -> Option<Error> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, change: impl FnOnce(&mut Metrics)) {
        change(&mut self.metrics.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The state of the task.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    connector: Connector,
    session: Option<Session>,
    partitions: Partitions,
    /// The next statement.
    turn: Turn,
    /// Whether it is unknown whether the statement of this turn took effect.
    is_unsettled: bool,
}

/// What a statement returned.
struct Outcome {
    /// Whether anything was written: the group without the units that were refused.
    is_written: bool,
    refused: Vec<i32>,
    posted: Vec<Option<i64>>,
    versions: Vec<Option<i64>>,
}

/// Why a group was not written.
enum Trouble {
    Again(Error),
    Refused(Error),
    Lost(Error),
}

fn trouble(source: tokio_postgres::Error) -> Trouble {
    let kind = failure(&source);
    let error = Error::io("write a group of commits", source);
    match kind {
        Failure::Again => Trouble::Again(error),
        Failure::Refused => Trouble::Refused(error),
        Failure::Connection => Trouble::Lost(error),
    }
}

/// Opens the writing connection and draws the id of a new writer.
pub(crate) async fn open(connector: &Connector) -> Result<(Session, Partitions, Turn), Error> {
    let failed = |source| Error::io("open the store", source);
    let session = connector.open(Role::Writer).await?;
    let mut partitions = Partitions::default();
    partitions.ensure_ahead(session.client(), &connector.options().schema).await.map_err(failed)?;
    let row = session
        .client()
        .query_one("INSERT INTO writer DEFAULT VALUES RETURNING id", &[])
        .await
        .map_err(failed)?;
    let turn = Turn { writer: row.try_get(0).map_err(failed)?, number: 1 };
    Ok((session, partitions, turn))
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connector: Connector,
        (session, partitions, turn): (Session, Partitions, Turn),
    ) -> Self {
        Self { shared, connector, session: Some(session), partitions, turn, is_unsettled: false }
    }

    /// Works until the store is closed.
    pub(crate) async fn run(mut self) {
        let (commits_max, bytes_max) = {
            let options = self.connector.options();
            (options.group_commits_max.max(1), options.group_bytes_max)
        };
        let shared = Arc::clone(&self.shared);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.tick().await;
        loop {
            let work = tokio::select! {
                work = shared.queue.take(commits_max, bytes_max) => work,
                _ = housekeeping.tick() => {
                    self.keep_house().await;
                    continue;
                }
            };
            self.write(work.entries).await;
            for job in work.jobs {
                match job {
                    // The caller may be gone; the store is resumed all the same.
                    Job::Resume(reply) => reply.send(self.resume().await).unwrap_or_default(),
                    Job::Close(reply) => {
                        let mut rest = shared.queue.stop(Error::Closed);
                        while !rest.is_empty() {
                            let next = rest.drain(..rest.len().min(commits_max)).collect();
                            self.write(next).await;
                        }
                        return reply.send(()).unwrap_or_default();
                    }
                }
            }
        }
    }

    /// Creates partitions ahead. A failure is repeated later: the commits that need them report it.
    async fn keep_house(&mut self) {
        let Some(session) = &self.session else { return };
        let schema = &self.connector.options().schema;
        if let Err(error) = self.partitions.ensure_ahead(session.client(), schema).await {
            tracing::warn!(%error, "partitions could not be created ahead");
        }
        if let Err(error) = session.execute(SEEN, &[&self.turn.writer]).await {
            tracing::warn!(%error, "the writer could not report that it is alive");
        }
    }

    /// Writes commits, in as few statements as possible, and replies to all of them.
    async fn write(&mut self, mut waiting: VecDeque<Entry>) {
        while !waiting.is_empty() {
            if let Some(reason) = self.unwritable() {
                return answer_all(waiting, &reason);
            }
            let group = Group::cut(&mut waiting, true);
            self.write_group(group).await;
        }
    }

    /// Why nothing can be written at the moment, if so.
    fn unwritable(&self) -> Option<Error> {
        let stopped = self.shared.queue.stopped().filter(|reason| !matches!(reason, Error::Closed));
        self.shared.damage().or(stopped)
    }

    async fn write_group(&mut self, group: Group) {
        let mut groups = VecDeque::from([(group, 0)]);
        while let Some((group, repeated)) = groups.pop_front() {
            if group.units.is_empty() {
                answer_empty(group.empty);
                continue;
            }
            let began = Instant::now();
            match self.attempt(&group).await {
                Ok(outcome) => {
                    let rest = if outcome.is_written {
                        self.answer(group, outcome, began.elapsed(), repeated)
                    } else {
                        self.refuse(group, &outcome.refused, repeated).await
                    };
                    rest.into_iter().rev().for_each(|next| groups.push_front(next));
                }
                Err(Trouble::Again(_)) if repeated < REPEATED_MAX => groups.push_front((group, repeated + 1)),
                Err(Trouble::Again(reason) | Trouble::Refused(reason)) => {
                    let parts = divide(group, &reason);
                    parts.into_iter().rev().for_each(|part| groups.push_front((part, 0)));
                }
                Err(Trouble::Lost(reason)) => {
                    let reason = self.pause(reason);
                    let rest = groups.into_iter().map(|(group, _)| group);
                    return std::iter::once(group)
                        .chain(rest)
                        .for_each(|group| answer_all(group.into_entries(), &reason));
                }
            }
        }
    }

    /// Executes the statement of a group, and finds out what became of it if the connection is lost.
    async fn attempt(&mut self, group: &Group) -> Result<Outcome, Trouble> {
        let deadline = Instant::now() + self.connector.options().settle_within;
        loop {
            let executed = match self.ready(group).await {
                Ok(session) => self.execute(&session, group).await,
                Err(reason) => Err(reason),
            };
            let lost = match executed {
                Ok(outcome) => {
                    self.turn.number += i64::from(outcome.is_written);
                    return Ok(outcome);
                }
                Err(Trouble::Lost(lost)) => lost,
                Err(other) => return Err(other),
            };
            tracing::warn!(error = %lost, cause = std::error::Error::source(&lost).map(ToString::to_string), "the connection was lost");
            match tokio::time::timeout_at(deadline, self.settle()).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                _ => {
                    self.session = None;
                    return Err(Trouble::Lost(lost));
                }
            }
        }
    }

    /// The connection, once the partitions exist that the group needs.
    async fn ready(&mut self, group: &Group) -> Result<Session, Trouble> {
        let Some(session) = self.session.clone() else {
            return Err(Trouble::Lost(Error::io("write a group of commits", NotConnected)));
        };
        let runs = group.units.iter().flat_map(Unit::commits).filter(|packed| !packed.frames.is_empty());
        let runs: Vec<RunId> = runs
            .filter_map(|packed| packed.commit.run())
            .filter(|run| !self.partitions.knows(*run))
            .collect();
        if !runs.is_empty() {
            let schema = &self.connector.options().schema;
            self.partitions.ensure(session.client(), schema, runs).await.map_err(trouble)?;
        }
        Ok(session)
    }

    async fn execute(&mut self, session: &Session, group: &Group) -> Result<Outcome, Trouble> {
        let statement = statement::build(group, self.turn);
        let params: Vec<&(dyn ToSql + Sync)> =
            statement.params.iter().map(|param| -> &(dyn ToSql + Sync) { &**param }).collect();
        self.is_unsettled = true;
        let asked = session.query_one(&statement.sql, &params);
        let Some(answer) = self.connector.awaited(session, asked).await else {
            return Err(Trouble::Lost(Error::io("wait for PostgreSQL", Silent)));
        };
        if session.take_doubt() {
            // The server stopped waiting for a standby. What it reports as committed may be lost in a failover, so the answer does
            // not count: the next statement of a new connection waits again, for this one as well.
            return Err(Trouble::Lost(Error::io("wait for the synchronous standby", Cancelled)));
        }
        let row = match answer {
            Ok(row) => row,
            Err(source) => {
                let trouble = trouble(source);
                self.is_unsettled = matches!(trouble, Trouble::Lost(_));
                // A partition may have been removed because it was empty.
                self.partitions.clear();
                return Err(trouble);
            }
        };
        self.is_unsettled = false;
        outcome(&row).map_err(trouble)
    }

    /// Connects again, as often as necessary, and settles the last statement. Returns its outcome if it took effect.
    async fn settle(&mut self) -> Option<Outcome> {
        loop {
            match self.settle_once().await {
                Ok(outcome) => return outcome,
                Err(error) => {
                    tracing::debug!(%error, "cannot connect again yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn settle_once(&mut self) -> Result<Option<Outcome>, Error> {
        let failed = |source| Error::io("settle the last group of commits", source);
        self.session = None;
        self.partitions.clear();
        let session = self.connector.open(Role::Writer).await?;
        let Turn { writer, number } = self.turn;
        let mut landed = None;
        if self.is_unsettled {
            // Waits for the statement if it is still being executed, and takes its place if it is not.
            let client = session.client();
            if client.execute(TAKE_PLACE, &[&writer, &number]).await.map_err(failed)? == 0 {
                let row = client.query_one(FIND_PLACE, &[&writer, &number]).await.map_err(failed)?;
                let found = outcome(&row).map_err(failed)?;
                // An earlier attempt to settle may have taken the place, and lost its answer.
                landed = Some(found).filter(|found| found.refused != [PLACEHOLDER]);
                // What is visible may still have to reach the standby; a commit of our own waits for all before it.
                client.execute(SEEN, &[&writer]).await.map_err(failed)?;
            }
            if session.take_doubt() {
                return Err(Error::io("wait for the synchronous standby", Cancelled));
            }
            self.turn.number += 1;
            self.is_unsettled = false;
        }
        self.session = Some(session);
        Ok(landed)
    }

    /// Replies to a group that was written, and returns what has to be tried again: units that collided with another node.
    fn answer(&self, group: Group, outcome: Outcome, took: Duration, repeated: u32) -> Vec<(Group, u32)> {
        let commits = group.units.iter().map(|unit| unit.entries.len() as u64).sum::<u64>();
        self.shared.count(|metrics| {
            metrics.groups += 1;
            metrics.group_commits_max = metrics.group_commits_max.max(commits);
            metrics.group_seconds.record(took);
            metrics.sync_seconds.record(took);
        });
        let (mut posted, mut versions) = (outcome.posted.into_iter(), outcome.versions.into_iter());
        let answers: Vec<(usize, Written)> = group
            .in_order()
            .into_iter()
            .map(|(_, entry)| (entry.place, written(&entry.packed.commit, &mut posted, &mut versions)))
            .collect();
        let answer_at = |place: usize| {
            let found = answers.binary_search_by_key(&place, |(place, _)| *place);
            found.map(|at| answers[at].1.clone()).unwrap_or_default()
        };
        let mut again = Vec::new();
        for (number, unit) in (1..).zip(group.units) {
            if outcome.refused.contains(&number) {
                again.push((Group { units: vec![unit], empty: Vec::new() }, repeated + 1));
                continue;
            }
            for entry in unit.entries {
                self.note(&entry, true);
                let written = answer_at(entry.place);
                entry.answer(Ok(Committed::Written(written)));
            }
        }
        again.push((Group { units: Vec::new(), empty: group.empty }, 0));
        again
    }

    /// Replies to the commits because of which a group was not written, and returns the others.
    async fn refuse(&mut self, mut group: Group, refused: &[i32], repeated: u32) -> Vec<(Group, u32)> {
        let is_refused = |place: usize| refused.contains(&(place as i32 + 1));
        if group.units.iter().enumerate().any(|(place, unit)| is_refused(place) && unit.is_merged()) {
            return separate(group);
        }
        let mut rest = Vec::new();
        for (place, mut unit) in std::mem::take(&mut group.units).into_iter().enumerate() {
            if !is_refused(place) {
                rest.push(unit);
                continue;
            }
            for entry in std::mem::take(&mut unit.entries) {
                match self.explain(&entry).await {
                    // Nothing stands against it any more.
                    Ok(None) if repeated < REPEATED_MAX => unit.entries.push(entry),
                    Ok(None) => entry.answer(Err(Error::io("write the commit", Prevented))),
                    Ok(Some(answer)) => {
                        self.note(&entry, false);
                        entry.answer(answer);
                    }
                    Err(reason) => entry.answer(Err(reason)),
                }
            }
            rest.extend(Some(unit).filter(|unit| !unit.entries.is_empty()));
        }
        group.units = rest;
        vec![(group, repeated + 1)]
    }

    /// Finds out why a commit was refused. Nothing of it was written, so a lost connection loses nothing but the reason.
    async fn explain(&mut self, entry: &Entry) -> Result<Option<Result<Committed, Error>>, Error> {
        let failed = |source| Error::io("find out why a commit was refused", source);
        let Some(session) = self.session.clone() else {
            return Err(Error::io("find out why a commit was refused", NotConnected));
        };
        explain(&session, &entry.packed.commit).await.map_err(failed)
    }

    fn note(&self, entry: &Entry, is_written: bool) {
        self.shared.count(|metrics| {
            metrics.wait_seconds.record(entry.accepted.elapsed());
            if is_written {
                metrics.commits += 1;
                metrics.frames += entry.packed.frames.len() as u64;
                metrics.bytes += entry.bytes as u64;
            } else {
                metrics.refused += 1;
            }
        });
    }

    /// Accepts no more commits, and replies to those that wait. Returns the reason that they got.
    fn pause(&mut self, lost: Error) -> Error {
        let source: loom_store::Cause = Arc::new(lost);
        let reason = Error::Paused { operation: "write a group of commits", source };
        tracing::error!(error = %reason, cause = std::error::Error::source(&reason).map(ToString::to_string), "the store is paused");
        self.shared.count(|metrics| metrics.pauses += 1);
        let waiting = self.shared.queue.stop(self.shared.damage().unwrap_or_else(|| reason.clone()));
        answer_all(waiting, &reason);
        reason
    }

    async fn resume(&mut self) -> Result<(), Error> {
        if let Some(damage) = self.shared.damage() {
            return Err(damage);
        }
        if self.shared.queue.stopped().is_none() {
            return Ok(());
        }
        let within = self.connector.options().settle_within;
        match tokio::time::timeout(within, self.settle_once()).await {
            Ok(settled) => drop(settled?),
            Err(elapsed) => {
                self.session = None;
                return Err(Error::io("connect to PostgreSQL", elapsed));
            }
        }
        self.shared.queue.restart();
        if let Some(damage) = self.shared.damage() {
            drop(self.shared.queue.stop(damage.clone()));
            return Err(damage);
        }
        tracing::warn!("the store was resumed");
        Ok(())
    }
}

impl Drop for Writer {
    /// However the task ends, no caller waits forever: dropping what is queued replies "closed".
    fn drop(&mut self) {
        drop(self.shared.queue.stop(Error::Closed));
    }
}

fn outcome(row: &tokio_postgres::Row) -> Result<Outcome, tokio_postgres::Error> {
    let (is_written, refused) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Outcome { is_written, refused, posted: row.try_get(2)?, versions: row.try_get(3)? })
}

/// The ids and versions that belong to a commit: the next ones of the group.
fn written(
    commit: &loom_store::Commit,
    posted: &mut impl Iterator<Item = Option<i64>>,
    versions: &mut impl Iterator<Item = Option<i64>>,
) -> Written {
    let mut inbox: Vec<InboxId> = Vec::with_capacity(commit.inbox_posted.len());
    for place in 0..commit.inbox_posted.len() {
        let first = statement::first_with_key(commit, place);
        let id = if first < place {
            inbox.get(first).copied()
        } else {
            posted.next().flatten().map(|id| InboxId(id.cast_unsigned()))
        };
        inbox.push(id.unwrap_or(InboxId(0)));
    }
    let versions = commit.keys.iter().map(|_| versions.next().flatten().map(i64::cast_unsigned)).collect();
    Written { inbox, versions }
}

/// The commits of a group one by one, or as many together as do not touch the same run.
fn separate(group: Group) -> Vec<(Group, u32)> {
    let mut entries = group.into_entries();
    let mut groups = Vec::new();
    while !entries.is_empty() {
        groups.push((Group::cut(&mut entries, false), 0));
    }
    groups
}

/// Divides a group that the database refuses. A commit that is alone gets the error.
fn divide(mut group: Group, reason: &Error) -> Vec<Group> {
    if group.units.iter().any(Unit::is_merged) {
        return separate(group).into_iter().map(|(group, _)| group).collect();
    }
    if group.units.len() <= 1 {
        answer_all(group.units.into_iter().flat_map(|unit| unit.entries), reason);
        return vec![Group { units: Vec::new(), empty: group.empty }];
    }
    let second = group.units.split_off(group.units.len() / 2);
    vec![Group { units: group.units, empty: Vec::new() }, Group { units: second, empty: group.empty }]
}

fn answer_empty(entries: Vec<Entry>) {
    for entry in entries {
        entry.answer(Ok(Committed::Written(Written::default())));
    }
}

fn answer_all(entries: impl IntoIterator<Item = Entry>, reason: &Error) {
    for entry in entries {
        entry.answer(Err(reason.clone()));
    }
}

/// There is no connection at the moment.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection to the database")]
struct NotConnected;

/// Other nodes wrote what the commit depends on, again and again.
#[derive(Debug, thiserror::Error)]
#[error("other nodes kept changing what the commit depends on")]
struct Prevented;

/// The server reported a commit before its standby had confirmed it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server stopped waiting for a synchronous standby; find out who cancels statements of `loom/writer`"
)]
struct Cancelled;
