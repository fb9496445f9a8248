//! A run's journal in the store: what must be durable before the run may continue, and how a run is loaded.
//!
//! The rule is output commit. Events are buffered until one of them becomes visible outside (a call, a response, a timer,
//! the end); then all of them are written to the store in one frame, and nothing becomes visible before the store has
//! acknowledged it. A crash therefore takes a run back to its last durable point, and nothing that was visible is lost.

mod audited;
mod barrier;
mod pace;
mod parked;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use loom_definition::{
    Definition as Parser, LoadOptions, RunStatus, Workflow,
    model::{Action, ActionKind},
};
use loom_expression::{Timestamp, Value};
use loom_resilience::Service;
use loom_store::{
    Ack, AtWork, Commit, Committed, Conflict, ContentHash, Definition, Error as StoreError, Frame,
    FrameQuery, InboxId, KeyQuery, KeyWrite, RunRow, Sealer, Seq, Snapshot, Standing, Store, StoredFrame,
    UnixMillis,
};
use tokio::sync::OnceCell;

pub(crate) use self::barrier::needs_barrier;
use self::pace::Pace;
use crate::{
    ended::Watched,
    environment::Environment,
    event::{Event, RunId, RunStart},
    facts::{self, Facts},
    history::History,
    illegal::IllegalEvent,
    journal::{self, Draft, FrameReader, Keys, LargeValues, WAYMARKS, status_number, waymark},
    messages, spent,
    state::RunState,
    suspects, time,
    trail::Trail,
    unloadable::RecoverError,
};

/// Encoded events are passed to the store, without waiting for the disk, once they reach this size.
const SPILL_BYTES: usize = 256 * 1024;

/// A larger snapshot is not written.
const SNAPSHOT_BYTES_MAX: usize = 16 << 20;

/// Cached definitions beyond those that runs use: a server that receives deployments for years must not keep them all.
const CACHED_MAX: usize = 256;

/// Namespace of the named values that list runs which have ended while requests to unsubscribe were still outstanding.
const UNSUBSCRIBING: &str = "engine/unsubscribing";

/// Such runs read at a time.
const UNSUBSCRIBING_PAGE: usize = 500;

/// The definitions and runs in one store.
pub(crate) struct Durable {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) watched: Arc<Watched>,
    /// What this process may do as one of several nodes; none if it is alone.
    node: Option<Standing>,
    /// Seals secret values before they reach the store.
    sealer: Sealer,
    environment: Arc<Environment>,
    /// The stored definition of each workflow, by the workflow's hash.
    definitions: Mutex<HashMap<[u8; 32], Definition>>,
    /// Loaded workflows, by the hash of the stored definition and the name.
    loaded: Mutex<HashMap<(ContentHash, Arc<str>), Loaded>>,
}

/// A workflow that is being loaded, or has been.
type Loaded = Arc<OnceCell<Arc<Workflow>>>;

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What is written together with the start of a run.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The run that this one was resubmitted from.
    pub(crate) origin: Option<RunId>,
    /// The run that called this one, and the idempotency key of the call.
    pub(crate) parent: Option<(RunId, Arc<str>)>,
    /// Unique among the runs of the workflow.
    pub(crate) idempotency_key: Option<Arc<str>>,
    /// A fingerprint of the request, stored with the row; see [`FiringCommit::mark`](crate::FiringCommit::mark).
    pub(crate) mark: Bytes,
    /// Named values of the caller.
    pub(crate) keys: Vec<KeyWrite>,
    /// Messages that the start consumes.
    pub(crate) messages: Vec<InboxId>,
}

impl Durable {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        environment: Arc<Environment>,
        node: Option<Standing>,
    ) -> Durable {
        Durable {
            sealer: store.sealer(),
            store,
            environment,
            watched: Arc::default(),
            node,
            definitions: Mutex::new(HashMap::new()),
            loaded: Mutex::new(HashMap::new()),
        }
    }

    fn keys(&self, run: RunId) -> Keys {
        Keys::new(run, self.sealer.clone())
    }

    /// A reader that opens the secret values of a run.
    fn opening(&self, run: RunId) -> FrameReader {
        FrameReader::opening(run, self.keys(run), Arc::clone(&self.environment))
    }

    /// The definition to store for a workflow; cached by hash.
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
        row.trigger = start.trigger_name().map(Arc::from);
        row.tracking_id = facts::tracking_id(start);
        RunJournal {
            store: Arc::clone(&self.store),
            watched: Arc::clone(&self.watched),
            node: self.node.clone(),
            row,
            next: Seq::FIRST,
            reached: Timestamp::MIN,
            event_at: None,
            gathered: Draft::default(),
            values: LargeValues::of(self.keys(start.run)),
            row_changed: true,
            facts: Facts::default(),
            definition: Some(definition),
            pace: Pace::default(),
            keys: written.keys,
            services: Vec::new(),
            messages: written.messages,
            tells_parent: false,
            owns_something: false,
            is_duplicate: false,
            is_suspect: false,
            writes_memory: false,
            is_contended: false,
            has_messages: false,
        }
    }

    /// Loads a run: its state, and the journal to continue with.
    pub(crate) async fn load(&self, run: RunId) -> Result<Option<(RunState, RunJournal)>, RecoverError> {
        let loaded = match self.store.load(run).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(None),
            Err(StoreError::Damaged { what }) => return self.load_without_snapshot(run, &what).await,
            Err(source) => return Err(RecoverError::Store { run, source }),
        };
        let workflow = self.workflow_of(run, &loaded.row).await?;
        let (mut pace, mut reader) = (Pace::default(), self.opening(run));
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
            let events = reader.events(&*self.store, frame).await?;
            state.replay(&events).map_err(|source| RecoverError::Illegal {
                run,
                frame: frame.seq,
                source,
            })?;
            pace.frame_written(frame.payload.len());
        }
        let reached = match loaded.frames.last() {
            Some(last) => last.at,
            None => self.last_frame_at(run, loaded.next).await?,
        };
        state.unavailable = reader.take_unavailable();
        let facts = Facts::of(&state);
        let mut journal = self.resume(loaded.row, loaded.next, reached, pace, (reader, facts));
        journal.has_messages = loaded.has_messages;
        Ok(Some((state, journal)))
    }

    /// Loads a run from its frames alone. Frames are never deleted while their run is retained, and each has its own
    /// checksum, so a damaged snapshot costs only time and a warning; damaged frames are an error.
    async fn load_without_snapshot(
        &self,
        run: RunId,
        problem: &(dyn fmt::Display + Sync),
    ) -> Result<Option<(RunState, RunJournal)>, RecoverError> {
        tracing::warn!(run_id = %run, %problem, "cannot read the snapshot of a run; reading its journal from the first frame");
        let row = self.store.run(run).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(row) = row else { return Ok(None) };
        let mut state = RunState::new(self.workflow_of(run, &row).await?);
        let (mut pace, mut next, mut reached) = (Pace::default(), Seq::FIRST, UnixMillis(0));
        let mut reader = self.opening(run);
        self.each_frame(&mut reader, run, |frame, events| {
            (next, reached) = (frame.seq.plus(1), frame.at);
            pace.frame_written(frame.payload.len());
            state.replay(&events)
        })
        .await?;
        state.unavailable = reader.take_unavailable();
        let facts = Facts::of(&state);
        Ok(Some((state, self.resume(row, next, reached, pace, (reader, facts)))))
    }

    /// The time of the frame before `next`: the only thing in that frame that a snapshot does not contain.
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
        (reader, facts): (FrameReader, Facts),
    ) -> RunJournal {
        RunJournal {
            store: Arc::clone(&self.store),
            watched: Arc::clone(&self.watched),
            node: self.node.clone(),
            row,
            next,
            reached: Timestamp::from_unix_millis(reached.0),
            event_at: None,
            gathered: Draft::default(),
            values: reader.into_values(),
            row_changed: false,
            facts,
            definition: None,
            pace,
            keys: Vec::new(),
            services: Vec::new(),
            messages: Vec::new(),
            tells_parent: false,
            owns_something: false,
            is_duplicate: false,
            is_suspect: false,
            writes_memory: false,
            is_contended: false,
            has_messages: true,
        }
    }

    /// A page of the runs that have ended while requests to unsubscribe were outstanding, starting after `after`.
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

    /// Records that all subscriptions of a run that has ended are ended.
    pub(crate) async fn unsubscribed(&self, run: RunId) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        commit.keys.push(unsubscribing(run, None));
        self.store.commit(commit).await.map(drop)
    }

    /// The state of a run, from its last snapshot and the frames after it.
    pub(crate) async fn state(&self, run: RunId) -> Result<Option<(RunRow, RunState)>, RecoverError> {
        Ok(self.load(run).await?.map(|(state, journal)| (journal.row, state)))
    }

    /// The history of a run from its first frame on, limited to what the history that `begin` creates retains.
    pub(crate) async fn history(
        &self,
        run: RunId,
        begin: impl FnOnce(Arc<Workflow>) -> History,
    ) -> Result<Option<(RunRow, History)>, RecoverError> {
        let row = self.store.run(run).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(row) = row else { return Ok(None) };
        let mut history = begin(self.workflow_of(run, &row).await?);
        self.each_frame(&mut FrameReader::new(run), run, |_, events| history.replay(&events)).await?;
        Ok(Some((row, history)))
    }

    /// What a run was started from: its first event. None when there is no such run, or its journal has been deleted.
    pub(crate) async fn start_of(&self, run: RunId) -> Result<Option<Arc<RunStart>>, RecoverError> {
        let query = FrameQuery { frames_max: 1, ..FrameQuery::of(run) };
        let page = self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        let Some(first) = page.frames.first() else { return Ok(None) };
        let mut reader = self.opening(run);
        let Some(Event::RunStarted { start, .. }) =
            reader.events(&*self.store, first).await?.into_iter().next()
        else {
            return Ok(None);
        };
        match reader.take_unavailable().reason_in(&start.trigger) {
            Some(why) => Err(RecoverError::Secret { run, why: why.to_string() }),
            None => Ok(Some(start)),
        }
    }

    /// All events of a run, with their secret values, and how these are hidden in the journal of another run.
    pub(crate) async fn events(&self, run: RunId) -> Result<(Vec<Event>, FrameReader), RecoverError> {
        let (mut events, mut reader) = (Vec::new(), self.opening(run));
        self.each_frame(&mut reader, run, |_, more| {
            events.extend(more);
            Ok(())
        })
        .await?;
        Ok((events, reader))
    }

    /// Passes each frame of a run to `take`, with its events.
    async fn each_frame(
        &self,
        reader: &mut FrameReader,
        run: RunId,
        mut take: impl FnMut(&StoredFrame, Vec<Event>) -> Result<(), IllegalEvent>,
    ) -> Result<(), RecoverError> {
        let mut query = FrameQuery::of(run);
        loop {
            let page =
                self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
            for frame in &page.frames {
                let events = reader.events(&*self.store, frame).await?;
                take(frame, events).map_err(|source| RecoverError::Illegal {
                    run,
                    frame: frame.seq,
                    source,
                })?;
            }
            match page.next {
                Some(next) => query.from = next,
                None => return Ok(()),
            }
        }
    }

    /// The definition that a run was started with, regardless of later deployments.
    pub(crate) async fn workflow_of(&self, run: RunId, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let cell = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (row.definition, Arc::clone(&row.workflow));
            if loaded.len() >= CACHED_MAX && !loaded.contains_key(&key) {
                // Entries that are being loaded, or that runs use, stay, so that they remain shared.
                loaded.retain(|_, cell| {
                    Arc::strong_count(cell) > 1
                        || cell.get().is_some_and(|found| Arc::strong_count(found) > 1)
                });
            }
            Arc::clone(loaded.entry(key).or_default())
        };
        // Many runs of one definition may be loaded at once; one of them parses it, and the others wait.
        let workflow = cell.get_or_try_init(|| self.parse(run, row)).await?;
        Ok(Arc::clone(workflow))
    }

    async fn parse(&self, run: RunId, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let body = self.store.definition(row.definition).await;
        let body = body.map_err(|source| RecoverError::Store { run, source })?;
        let Some(body) = body else {
            let why = format!("{} is missing from the store", row.definition);
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

/// The journal of one run, written by its driver alone.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the run and its next commit")]
pub(crate) struct RunJournal {
    store: Arc<dyn Store>,
    watched: Arc<Watched>,
    node: Option<Standing>,
    row: RunRow,
    next: Seq,
    /// The run's time of the last frame that was loaded.
    reached: Timestamp,
    /// The time of the last event that has one; none when no such event was recorded since the run was loaded.
    event_at: Option<Timestamp>,
    /// The frame under construction.
    gathered: Draft,
    values: LargeValues,
    row_changed: bool,
    /// What the run waits for.
    facts: Facts,
    /// Written with the first commit.
    definition: Option<Definition>,
    pace: Pace,
    /// Written with the next commit.
    keys: Vec<KeyWrite>,
    /// Services that calls of the run have changed; their state at the time of the next commit is stored with it.
    services: Vec<Service>,
    /// Consumed by the next commit.
    messages: Vec<InboxId>,
    /// Whether the next commit tells the run that called this one that it has responded or ended.
    tells_parent: bool,
    /// Whether the store says what the run owns.
    owns_something: bool,
    /// The store already has a run with this idempotency key, or one that was started from the same messages.
    is_duplicate: bool,
    /// The run is suspected of crashing the process.
    is_suspect: bool,
    /// The next commit writes keys of shared memory.
    writes_memory: bool,
    /// See [`RunJournal::is_contended`].
    is_contended: bool,
    /// Whether there were messages to the run when it was loaded.
    pub(crate) has_messages: bool,
}

impl RunJournal {
    /// Adds events to the next frame.
    pub(crate) fn record(&mut self, events: &[Event], state: &RunState) {
        journal::append(events, &mut self.gathered, &mut self.values);
        for event in events {
            self.event_at = event.at().or(self.event_at);
            self.tells_parent |= ends_for_parent(event, state);
            self.facts.add(event, state);
            match event {
                Event::RunStarted { at, .. } => self.row.started = Some(time::millis(*at)),
                Event::RunEnded { status, error, at, .. } => {
                    self.row.status = status_number(*status);
                    self.row.ended = Some(time::millis(*at));
                    self.row.error = error.as_ref().map(|error| Arc::from(error.code.as_ref()));
                    self.row.error_text = error.as_deref().and_then(facts::error_text);
                    self.row_changed = true;
                    self.clear_suspicion();
                    self.keys.extend(self.watched.ended(&self.row, *status, error.as_deref(), *at));
                    if state.calls().next().is_some() {
                        self.keys.push(unsubscribing(self.row.id, Some(Bytes::new())));
                    }
                }
                Event::RunWaiting { .. } => {
                    self.row.status = status_number(RunStatus::Waiting);
                    self.row.started = None;
                }
                Event::RunAdmitted { at } => {
                    self.row.status = status_number(state.status());
                    self.row.started = Some(time::millis(*at));
                    self.row_changed = true;
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
        let flags = self.facts.flags();
        if flags != self.row.flags {
            self.row.flags = flags;
            self.row_changed = true;
        }
    }

    /// Marks the run as suspected of crashing the process.
    pub(crate) fn suspect(&mut self) {
        self.is_suspect = true;
    }

    /// Whether the run is suspected of crashing the process.
    pub(crate) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Ends the suspicion with the next commit.
    fn clear_suspicion(&mut self) {
        if std::mem::take(&mut self.is_suspect) {
            self.keys.push(suspects::cleared(self.row.id));
        }
    }

    /// Marks the run as being evaluated until the returned guard is dropped.
    pub(crate) fn evaluating(&self) -> AtWork {
        self.store.at_work(self.row.id, self.next)
    }

    /// The run's time of the last frame that was loaded; [`Timestamp::MIN`] for a new run.
    pub(crate) fn reached(&self) -> Timestamp {
        self.reached
    }

    /// Whether the store rejected the run because it has another with the same idempotency key, or from the same messages.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// Stores the state of a service with the next commit.
    pub(crate) fn store_service(&mut self, service: Service) {
        if self.services.iter().all(|known| known.name() != service.name()) {
            self.services.push(service);
        }
    }

    /// Writes secrets that another run has read as references, as its journal does.
    pub(crate) fn adopt(&mut self, other: FrameReader) {
        self.values.adopt(other.into_keys());
    }

    /// Consumes a message with the next commit.
    pub(crate) fn take_in(&mut self, message: InboxId) {
        self.messages.push(message);
    }

    /// Whether everything recorded has been passed to the store.
    pub(crate) fn is_clean(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Whether so much is buffered that it should be passed to the store before the run continues.
    pub(crate) fn is_full(&self) -> bool {
        self.gathered.len() + self.values.waiting_bytes() >= SPILL_BYTES
    }

    /// Whether every node that may continue the run reads this format of journals.
    fn writes(&self, format: u32) -> bool {
        self.node.as_ref().is_none_or(|node| node.writes(self.row.id.shard(), format))
    }

    /// Builds the next commit. `state` must include everything that was recorded.
    async fn take_commit(&mut self, state: &RunState, now: Timestamp) -> Result<Commit, StoreError> {
        self.pace.frame_written(self.gathered.len() + self.values.waiting_bytes());
        let stored = self.values.put(&*self.store).await?;
        let waymark = match self.event_at {
            Some(at) if waymark::is_due(self.next.0, self.gathered.len()) && self.writes(WAYMARKS) => {
                waymark::encode(&Trail::of_state(state, at)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let payload = std::mem::take(&mut self.gathered).finish_with(&stored, &waymark);
        let frame = Frame { at: time::millis(now), payload };
        let mut commit = Commit::to_run(self.row.id, self.next, vec![frame]);
        // A run that waits has done nothing, and its snapshot could not say that it waits.
        if self.pace.is_due() && !state.waits && !state.status.is_final() {
            let snapshot = journal::draft_snapshot(state, &mut self.values).finish(&stored);
            self.pace.snapshot_taken(snapshot.len());
            // A larger snapshot is not worth its space in the queue; the frames contain the same.
            commit.snapshot = (snapshot.len() <= SNAPSHOT_BYTES_MAX).then_some(Snapshot {
                run: self.row.id,
                upto: self.next,
                state: snapshot,
            });
        }
        commit.blobs = stored.blobs;
        self.values.forget_unused();
        self.next = self.next.plus(1);
        self.wake_up(&mut commit);
        if std::mem::take(&mut self.row_changed) {
            commit.row = Some(self.row.clone());
        }
        commit.definitions.extend(self.definition.take());
        commit.keys.append(&mut self.keys);
        commit.keys.extend(self.services.drain(..).map(|service| spent::write(&service)));
        commit.inbox_consumed = std::mem::take(&mut self.messages);
        if std::mem::take(&mut self.tells_parent) {
            commit.inbox_posted.extend(messages::end_of(&self.row, now));
        }
        Ok(commit)
    }

    /// Makes everything recorded durable.
    ///
    /// # Errors
    /// The store's error. The run must not continue until it has been loaded again.
    pub(crate) async fn flush(&mut self, state: &RunState, now: Timestamp) -> Result<(), StoreError> {
        if self.is_clean() {
            return self.take_messages_in().await;
        }
        let is_start = self.next == Seq::FIRST;
        let commit = self.take_commit(state, now).await?;
        match self.store.commit(commit).await {
            Ok(Committed::Written(_)) => {
                self.writes_memory = false;
                Ok(())
            }
            Ok(Committed::Duplicate(_)) => {
                self.is_duplicate = true;
                Err(StoreError::Conflict(Conflict::Identity { run: self.row.id }))
            }
            Err(error) => {
                self.is_contended =
                    self.writes_memory && matches!(error, StoreError::Conflict(Conflict::Key { .. }));
                // Another run was started from the messages.
                self.is_duplicate |=
                    is_start && matches!(error, StoreError::Conflict(Conflict::Taken { .. }));
                Err(error)
            }
        }
    }

    /// Consumes messages that led to no events.
    async fn take_messages_in(&mut self) -> Result<(), StoreError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.inbox_consumed = std::mem::take(&mut self.messages);
        match self.store.commit(commit).await {
            // They are not pending any more, which is all that was wanted.
            Err(StoreError::Conflict(Conflict::Taken { .. })) => Ok(()),
            written => written.map(drop),
        }
    }

    /// Passes everything recorded to the store without waiting for the disk. Returns the acknowledgement to wait for,
    /// unless everything is durable already.
    ///
    /// # Errors
    /// Like [`RunJournal::flush`].
    pub(crate) async fn spill(
        &mut self,
        state: &RunState,
        now: Timestamp,
    ) -> Result<Option<Ack>, StoreError> {
        let commit = self.take_commit(state, now).await?;
        match self.store.append(commit) {
            Ok(written) => Ok(Some(written)),
            // The queue is full: waiting for a place slows the run down to the speed of the disk.
            Err(refused) => self.store.commit(*refused.commit).await.map(|_| None),
        }
    }
}

/// Whether an event is what a run that called this one waits for: the response, or an end without one.
pub(crate) fn ends_for_parent(event: &Event, state: &RunState) -> bool {
    let responds = |action: &Action| matches!(action.kind, ActionKind::Response { .. });
    match event {
        Event::Responded { .. } => true,
        Event::RunEnded { .. } => state.response().is_none() && state.workflow().actions.iter().any(responds),
        _ => false,
    }
}

fn unsubscribing(run: RunId, value: Option<Bytes>) -> KeyWrite {
    let (namespace, key) = (Arc::from(UNSUBSCRIBING), Arc::from(run.to_string()));
    KeyWrite { namespace, key, value, ..KeyWrite::default() }
}
