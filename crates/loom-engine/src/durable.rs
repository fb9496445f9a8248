//! A run's journal in the store: what must be durable before the run may go on, and how a run is read back.
//!
//! The rule is output commit. Events are gathered until one of them shows outside (a call, an answer, a timer, the
//! end); then all of them go to the store in one frame, and only when the store has answered is anything shown. A
//! crash therefore takes a run back to its last durable point, and nothing that was seen is ever forgotten.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use loom_definition::{Definition as Parser, LoadOptions, RunStatus, Workflow};
use loom_expression::{Timestamp, Value};
use loom_resilience::Service;
use loom_store::{
    Ack, AtWork, Commit, Committed, Conflict, ContentHash, Definition, Error as StoreError, Frame,
    FrameQuery, InboxId, KeyExpectation, KeyQuery, KeyWrite, RunRow, Seq, Snapshot, Store, StoredFrame,
    UnixMillis,
};

use tokio::sync::OnceCell;

use crate::{
    event::{Event, Phase, RunId, RunStart},
    history::History,
    journal::{self, Draft, FrameReader, LargeValues, status_number},
    spent,
    state::RunState,
    suspects,
};

/// Encoded events that may wait in memory before they are handed to the store without waiting.
const SPILL_BYTES: usize = 256 * 1024;

/// A snapshot is due after so many frames, or so many bytes of frames.
const SNAPSHOT_FRAMES: usize = 64;
const SNAPSHOT_BYTES: usize = 256 * 1024;

/// A larger snapshot is not kept.
const SNAPSHOT_BYTES_MAX: usize = 16 << 20;

/// Definitions kept at hand that no run needs; a server that is deployed to all its life does not keep them all.
const CACHED_MAX: usize = 256;

/// Named values: the runs that have ended while the ends of their subscriptions were still on their way.
const UNSUBSCRIBING: &str = "engine/unsubscribing";

/// Such runs read at a time.
const UNSUBSCRIBING_PAGE: usize = 500;

/// Definitions and runs of one store.
pub(crate) struct Durable {
    pub(crate) store: Arc<dyn Store>,
    /// What is written for each workflow, by its hash.
    definitions: Mutex<HashMap<[u8; 32], Definition>>,
    /// Workflows read back, by the hash of what was written and the name.
    loaded: Mutex<HashMap<(ContentHash, Arc<str>), Loaded>>,
}

/// A workflow that is being read back, or has been.
type Loaded = Arc<OnceCell<Arc<Workflow>>>;

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What is written with the start of a run, beside the start itself.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The run that this one repeats.
    pub(crate) origin: Option<RunId>,
    /// The run that called this one, and where in it.
    pub(crate) parent: Option<(RunId, Arc<str>)>,
    /// No other run of the workflow has this key.
    pub(crate) idempotency_key: Option<Arc<str>>,
    /// Kept with the row, for whoever knows the key.
    pub(crate) mark: Bytes,
    /// Named values that others keep.
    pub(crate) keys: Vec<KeyWrite>,
    /// Messages that the run takes in.
    pub(crate) messages: Vec<InboxId>,
}

/// Why a run cannot be read back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The store did not answer.
    #[error("the run {run} cannot be read: {source}")]
    Store {
        /// Which run.
        run: RunId,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// The engine takes runs up one by one, and nobody has asked for this one; see [`Engine::stand_by`](crate::Engine::stand_by).
    #[error("the run {run} is held")]
    Held {
        /// Which run.
        run: RunId,
    },
    /// A frame is not what was written.
    #[error("the journal of run {run} is damaged in frame {frame}: {source}")]
    Journal {
        /// Which run.
        run: RunId,
        /// Which frame.
        frame: Seq,
        /// What is wrong with it.
        #[source]
        source: journal::Unreadable,
    },
    /// A large value is not what was written, or is gone.
    #[error("the journal of run {run} names the value {hash}, which {why}")]
    Value {
        /// Which run.
        run: RunId,
        /// What the store calls the value.
        hash: ContentHash,
        /// What is wrong with it, in words.
        why: String,
    },
    /// The definition it began with cannot be loaded.
    #[error("the definition of run {run} cannot be loaded: {why}")]
    Definition {
        /// Which run.
        run: RunId,
        /// What is wrong, in words.
        why: String,
    },
}

impl Durable {
    pub(crate) fn new(store: Arc<dyn Store>) -> Durable {
        Durable { store, definitions: Mutex::new(HashMap::new()), loaded: Mutex::new(HashMap::new()) }
    }

    /// What is written for a workflow. Made once for each definition.
    fn definition_of(&self, workflow: &Workflow) -> Definition {
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if definitions.len() >= CACHED_MAX && !definitions.contains_key(&workflow.hash) {
            definitions.clear();
        }
        let made = definitions
            .entry(workflow.hash)
            .or_insert_with(|| Definition::new(Bytes::copy_from_slice(workflow.source.as_bytes())));
        made.clone()
    }

    /// The journal of a run that is about to start.
    pub(crate) fn begin(&self, workflow: &Workflow, start: &RunStart, written: Written) -> RunJournal {
        let definition = self.definition_of(workflow);
        let mut row = RunRow::new(
            start.run,
            Arc::clone(&workflow.name),
            definition.hash(),
            status_number(RunStatus::Running),
        );
        row.origin = written.origin;
        row.idempotency_key = written.idempotency_key;
        row.details = written.mark;
        (row.parent, row.parent_path) = written.parent.unzip();
        RunJournal {
            store: Arc::clone(&self.store),
            row,
            next: Seq::FIRST,
            reached: Timestamp::MIN,
            gathered: Draft::default(),
            values: LargeValues::default(),
            row_changed: true,
            definition: Some(definition),
            pace: Pace::default(),
            keys: written.keys,
            services: Vec::new(),
            messages: written.messages,
            is_duplicate: false,
            is_suspect: false,
        }
    }

    /// Reads a run back: its state, and the journal to go on with.
    pub(crate) async fn load(&self, run: RunId) -> Result<Option<(RunState, RunJournal)>, RecoverError> {
        let loaded = match self.store.load(run).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(None),
            Err(StoreError::Damaged { what }) => return self.load_without_snapshot(run, &what).await,
            Err(source) => return Err(RecoverError::Store { run, source }),
        };
        let workflow = self.workflow_of(run, &loaded.row).await?;
        let (mut pace, mut reader) = (Pace::default(), FrameReader::new(run));
        let mut state = match &loaded.snapshot {
            None => RunState::new(workflow),
            Some(snapshot) => match reader.state(&*self.store, &workflow, snapshot).await {
                Ok(state) => {
                    pace.snapshot_taken(snapshot.state.len());
                    state
                }
                Err(RecoverError::Store { run, source }) => return Err(RecoverError::Store { run, source }),
                Err(problem) => return self.load_without_snapshot(run, &problem).await,
            },
        };
        for frame in &loaded.frames {
            state.replay(&reader.events(&*self.store, frame).await?);
            pace.frame_written(frame.payload.len());
        }
        let reached = match loaded.frames.last() {
            Some(last) => last.at,
            None => self.last_frame_at(run, loaded.next).await?,
        };
        Ok(Some((state, self.resume(loaded.row, loaded.next, reached, pace, reader))))
    }

    /// Frames are never removed while their run is kept, and each has a checksum of its own. So a snapshot that cannot be
    /// read costs time and a warning, and no run; frames that cannot be read are an error.
    async fn load_without_snapshot(
        &self,
        run: RunId,
        problem: &(dyn fmt::Display + Sync),
    ) -> Result<Option<(RunState, RunJournal)>, RecoverError> {
        tracing::warn!(run_id = %run, %problem, "a snapshot cannot be read; the run is read from its first frame on");
        let row = self.store.run(run).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(row) = row else { return Ok(None) };
        let mut state = RunState::new(self.workflow_of(run, &row).await?);
        let (mut pace, mut next, mut reached) = (Pace::default(), Seq::FIRST, UnixMillis(0));
        let mut reader = FrameReader::new(run);
        self.each_frame(&mut reader, run, |frame, events| {
            (next, reached) = (frame.seq.plus(1), frame.at);
            state.replay(&events);
            pace.frame_written(frame.payload.len());
        })
        .await?;
        Ok(Some((state, self.resume(row, next, reached, pace, reader))))
    }

    /// When the frame before `next` was made: a snapshot says everything else that was in it.
    async fn last_frame_at(&self, run: RunId, next: Seq) -> Result<UnixMillis, RecoverError> {
        let last = Seq(next.0.saturating_sub(1).max(Seq::FIRST.0));
        let query = FrameQuery { from: last, frames_max: 1, ..FrameQuery::of(run) };
        let page = self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        Ok(page.frames.last().map_or(UnixMillis(0), |frame| frame.at))
    }

    fn resume(
        &self,
        row: RunRow,
        next: Seq,
        reached: UnixMillis,
        pace: Pace,
        reader: FrameReader,
    ) -> RunJournal {
        RunJournal {
            store: Arc::clone(&self.store),
            row,
            next,
            reached: Timestamp::from_unix_millis(reached.0),
            gathered: Draft::default(),
            values: reader.into_values(),
            row_changed: false,
            definition: None,
            pace,
            keys: Vec::new(),
            services: Vec::new(),
            messages: Vec::new(),
            is_duplicate: false,
            is_suspect: false,
        }
    }

    /// Runs that have ended before the ends of their subscriptions were known to have arrived, after one of them.
    pub(crate) async fn unsubscribing(&self, after: Option<RunId>) -> Result<Vec<RunId>, StoreError> {
        let query = KeyQuery {
            namespace: UNSUBSCRIBING.into(),
            prefix: String::new(),
            after: after.map(|run| run.to_string().into()),
            limit: UNSUBSCRIBING_PAGE,
        };
        let page = self.store.keys(query).await?;
        Ok(page.values.iter().filter_map(|value| value.key.parse().ok()).collect())
    }

    /// Whether a run is one of [`Durable::unsubscribing`].
    pub(crate) async fn is_unsubscribing(&self, run: RunId) -> Result<bool, StoreError> {
        Ok(self.store.key(UNSUBSCRIBING, &run.to_string()).await?.is_some())
    }

    /// All subscriptions of a run that has ended are ended.
    pub(crate) async fn unsubscribed(&self, run: RunId) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        commit.keys.push(unsubscribing(run, None));
        self.store.commit(commit).await.map(drop)
    }

    /// How a run stands, from its last snapshot on.
    pub(crate) async fn state(&self, run: RunId) -> Result<Option<(RunRow, RunState)>, RecoverError> {
        Ok(self.load(run).await?.map(|(state, journal)| (journal.row, state)))
    }

    /// What happened to a run, from its first frame on, as far as `begin` keeps it.
    pub(crate) async fn history(
        &self,
        run: RunId,
        begin: impl FnOnce(Arc<Workflow>) -> History,
    ) -> Result<Option<(RunRow, History)>, RecoverError> {
        let row = self.store.run(run).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(row) = row else { return Ok(None) };
        let mut history = begin(self.workflow_of(run, &row).await?);
        self.each_frame(&mut FrameReader::new(run), run, |_, events| history.extend(&events)).await?;
        Ok(Some((row, history)))
    }

    /// What a run started from: its first event. None when there is no such run, or its journal is gone.
    pub(crate) async fn start_of(&self, run: RunId) -> Result<Option<Arc<RunStart>>, RecoverError> {
        let query = FrameQuery { frames_max: 1, ..FrameQuery::of(run) };
        let page = self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(first) = page.frames.first() else { return Ok(None) };
        Ok(match FrameReader::new(run).events(&*self.store, first).await?.into_iter().next() {
            Some(Event::RunStarted { start, .. }) => Some(start),
            _ => None,
        })
    }

    /// All events of a run, from its first on.
    pub(crate) async fn events(&self, run: RunId) -> Result<Vec<Event>, RecoverError> {
        let mut events = Vec::new();
        self.each_frame(&mut FrameReader::new(run), run, |_, more| events.extend(more)).await?;
        Ok(events)
    }

    /// Hands a run's frames to `take`, with what they say.
    async fn each_frame(
        &self,
        reader: &mut FrameReader,
        run: RunId,
        mut take: impl FnMut(&StoredFrame, Vec<Event>),
    ) -> Result<(), RecoverError> {
        let mut query = FrameQuery::of(run);
        loop {
            let page =
                self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
            for frame in &page.frames {
                take(frame, reader.events(&*self.store, frame).await?);
            }
            match page.next {
                Some(next) => query.from = next,
                None => return Ok(()),
            }
        }
    }

    /// The definition a run began with, whatever has been deployed since.
    pub(crate) async fn workflow_of(&self, run: RunId, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let cell = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (row.definition, Arc::clone(&row.workflow));
            if loaded.len() >= CACHED_MAX && !loaded.contains_key(&key) {
                // Those that are being read, and those that runs hold, stay shared.
                loaded.retain(|_, cell| {
                    Arc::strong_count(cell) > 1
                        || cell.get().is_some_and(|found| Arc::strong_count(found) > 1)
                });
            }
            Arc::clone(loaded.entry(key).or_default())
        };
        // Many runs of one definition may be read back at once; one of them parses it, and the others wait.
        let workflow = cell.get_or_try_init(|| self.parse(run, row)).await?;
        Ok(Arc::clone(workflow))
    }

    async fn parse(&self, run: RunId, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let body = self.store.definition(row.definition).await;
        let body = body.map_err(|source| RecoverError::Store { run, source })?;
        let Some(body) = body else {
            let why = format!("the store has nothing under {}", row.definition);
            return Err(RecoverError::Definition { run, why });
        };
        let parameters_file =
            Value::parse_json(&body).ok().and_then(|source| source.get("parametersFile").cloned());
        let options =
            LoadOptions { name: Some(Arc::clone(&row.workflow)), parameters_file, ..LoadOptions::default() };
        let parsed = Parser::parse(&body, &options)
            .map_err(|diagnostics| RecoverError::Definition { run, why: diagnostics.to_string() })?;
        Ok(parsed.workflow)
    }
}

/// When the next snapshot of a run is due: after so much journal that reading it back would take a while, and never so
/// often that snapshots are more of the writing than the journal itself.
#[derive(Debug, Default)]
struct Pace {
    frames: usize,
    bytes: usize,
    /// What the last snapshot took.
    snapshot_bytes: usize,
}

impl Pace {
    fn frame_written(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    fn snapshot_taken(&mut self, bytes: usize) {
        *self = Pace { frames: 0, bytes: 0, snapshot_bytes: bytes };
    }

    fn is_due(&self) -> bool {
        (self.frames >= SNAPSHOT_FRAMES || self.bytes >= SNAPSHOT_BYTES) && self.bytes >= self.snapshot_bytes
    }
}

/// The journal of one run, written by its driver alone.
#[derive(Debug)]
pub(crate) struct RunJournal {
    store: Arc<dyn Store>,
    row: RunRow,
    next: Seq,
    /// The time of the run when what was read back was written.
    reached: Timestamp,
    /// One frame in the making.
    gathered: Draft,
    values: LargeValues,
    row_changed: bool,
    /// Written with the first commit.
    definition: Option<Definition>,
    pace: Pace,
    /// Written with the next commit.
    keys: Vec<KeyWrite>,
    /// Services that calls of the run have changed; stored as they stand at the next commit.
    services: Vec<Service>,
    /// Taken in with the next commit.
    messages: Vec<InboxId>,
    /// The store had a run with its idempotency key before.
    is_duplicate: bool,
    /// The run is counted among those that may end the process.
    is_suspect: bool,
}

impl RunJournal {
    /// Gathers events.
    pub(crate) fn record(&mut self, events: &[Event], state: &RunState) {
        journal::append(events, &mut self.gathered, &mut self.values);
        for event in events {
            match event {
                Event::RunStarted { at, .. } => self.row.started = Some(millis(*at)),
                Event::RunEnded { status, error, at, .. } => {
                    self.row.status = status_number(*status);
                    self.row.ended = Some(millis(*at));
                    self.row.error = error.as_ref().map(|error| Arc::from(error.code.as_ref()));
                    self.row_changed = true;
                    self.clear_suspicion();
                    if state.calls().next().is_some() {
                        self.keys.push(unsubscribing(self.row.id, Some(Bytes::new())));
                    }
                }
                Event::Suspended { .. } => {
                    self.row.status = status_number(state.status());
                    self.row_changed = true;
                }
                Event::Resumed { .. } => {
                    self.row.status = status_number(state.status());
                    self.row_changed = true;
                    self.clear_suspicion();
                }
                _ => {}
            }
        }
    }

    /// The run is counted among those that may end the process.
    pub(crate) fn suspect(&mut self) {
        self.is_suspect = true;
    }

    /// Whether it is.
    pub(crate) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// What is recorded next ends the suspicion.
    fn clear_suspicion(&mut self) {
        if std::mem::take(&mut self.is_suspect) {
            self.keys.push(suspects::cleared(self.row.id));
        }
    }

    /// Marks the run as one that is being evaluated, until the answer is dropped.
    pub(crate) fn evaluating(&self) -> AtWork {
        self.store.at_work(self.row.id, self.next)
    }

    /// The time of the run when what was read back was written; of a new one, the first there is.
    pub(crate) fn reached(&self) -> Timestamp {
        self.reached
    }

    /// Whether the store refused the run because it has another with the same idempotency key.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// What a call has changed in a service is stored with what is recorded next.
    pub(crate) fn store_service(&mut self, service: Service) {
        if self.services.iter().all(|known| known.name() != service.name()) {
            self.services.push(service);
        }
    }

    /// A message is taken in by what is recorded next.
    pub(crate) fn take_in(&mut self, message: InboxId) {
        self.messages.push(message);
    }

    /// Whether everything recorded has been handed to the store.
    pub(crate) fn is_clean(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Whether so much is gathered that it should go to the store before the run goes on.
    pub(crate) fn is_full(&self) -> bool {
        self.gathered.len() + self.values.waiting_bytes() >= SPILL_BYTES
    }

    /// `state` holds everything that was recorded.
    async fn take_commit(&mut self, state: &RunState, now: Timestamp) -> Result<Commit, StoreError> {
        self.pace.frame_written(self.gathered.len() + self.values.waiting_bytes());
        let stored = self.values.put(&*self.store).await?;
        let frame = Frame { at: millis(now), payload: std::mem::take(&mut self.gathered).finish(&stored) };
        let mut commit = Commit::to_run(self.row.id, self.next, vec![frame]);
        if self.pace.is_due() && !state.status.is_final() {
            let snapshot = journal::draft_snapshot(state, &mut self.values).finish(&stored);
            self.pace.snapshot_taken(snapshot.len());
            // One that large is not worth its place in the queue; the frames say the same.
            commit.snapshot = (snapshot.len() <= SNAPSHOT_BYTES_MAX).then_some(Snapshot {
                run: self.row.id,
                upto: self.next,
                state: snapshot,
            });
        }
        commit.blobs = stored.blobs;
        self.values.forget_unused();
        self.next = self.next.plus(1);
        if std::mem::take(&mut self.row_changed) {
            commit.row = Some(self.row.clone());
        }
        commit.definitions.extend(self.definition.take());
        commit.keys = std::mem::take(&mut self.keys);
        commit.keys.extend(self.services.drain(..).map(|service| spent::write(&service)));
        commit.inbox_consumed = std::mem::take(&mut self.messages);
        Ok(commit)
    }

    /// Makes everything recorded durable.
    ///
    /// # Errors
    /// What the store said. Nothing more may be done for the run then, until it has been read back.
    pub(crate) async fn flush(&mut self, state: &RunState, now: Timestamp) -> Result<(), StoreError> {
        if self.is_clean() {
            return self.take_messages_in().await;
        }
        let commit = self.take_commit(state, now).await?;
        match self.store.commit(commit).await? {
            Committed::Written(_) => Ok(()),
            Committed::Duplicate(_) => {
                self.is_duplicate = true;
                Err(StoreError::Conflict(Conflict::Identity { run: self.row.id }))
            }
        }
    }

    /// Takes messages in of which nothing came that could be recorded.
    async fn take_messages_in(&mut self) -> Result<(), StoreError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.inbox_consumed = std::mem::take(&mut self.messages);
        self.store.commit(commit).await.map(drop)
    }

    /// Hands everything recorded to the store without a wait for the disk. Gives the answer to wait for, unless
    /// everything is durable already.
    ///
    /// # Errors
    /// As [`RunJournal::flush`].
    pub(crate) async fn spill(
        &mut self,
        state: &RunState,
        now: Timestamp,
    ) -> Result<Option<Ack>, StoreError> {
        let commit = self.take_commit(state, now).await?;
        match self.store.append(commit) {
            Ok(written) => Ok(Some(written)),
            // The queue is full: waiting for a place is what slows the run down to the speed of the disk.
            Err(refused) => self.store.commit(*refused.commit).await.map(|_| None),
        }
    }
}

/// Whether the run may not go on, and nothing of it may be shown, before these events are durable.
pub(crate) fn needs_barrier(events: &[Event]) -> bool {
    events.iter().any(|event| match event {
        Event::RunStarted { .. }
        | Event::Responded { .. }
        | Event::TimerSet { .. }
        | Event::Suspended { .. }
        | Event::Resumed { .. }
        | Event::RunEnded { .. } => true,
        Event::AttemptStarted { phase, .. } => *phase != Phase::Admit,
        Event::FrameOpened { .. }
        | Event::ActionStarted { .. }
        | Event::LoopStarted { .. }
        | Event::AttemptNoted { .. }
        | Event::AttemptEnded { .. }
        | Event::TimerEnded { .. }
        | Event::VariableSet { .. }
        | Event::VariableAppended { .. }
        | Event::ActionEnded { .. }
        | Event::Tracked { .. } => false,
    })
}

fn unsubscribing(run: RunId, value: Option<Bytes>) -> KeyWrite {
    let (namespace, key) = (Arc::from(UNSUBSCRIBING), Arc::from(run.to_string()));
    KeyWrite { namespace, key, expect: KeyExpectation::Any, value }
}

pub(crate) fn millis(at: Timestamp) -> UnixMillis {
    UnixMillis(at.unix_millis())
}
