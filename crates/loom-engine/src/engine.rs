//! The engine: runs workflows on tokio. Owns the tasks of all runs, the handlers, and the registry of services.
//!
//! Each run is one task that feeds its pure machine with what happens and carries out what the machine's events ask
//! for; see `driver`. An engine that is dropped or shut down ends its tasks; nothing is detached.

mod builder;
mod queue;
mod recovery;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use loom_definition::{Workflow, trigger::Trigger};
use loom_expression::{Masker, Value};
use loom_resilience::{RegistrySnapshot, ResilienceRegistry};
use loom_store::{KeyWrite, RunIdSource, RunRow};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    driver::{Driven, Driver, Envelope, Links},
    durable::{self, Durable, RecoverError, Written},
    event::{Command, EffectId, Event, RunId, RunStart},
    fire::{self, Fired, Firing},
    flights::Flights,
    guard::Services,
    history::History,
    machine::{Environment, Run},
    ports::Clock,
    random,
    signals::Mailbox,
    spent,
    state::RunState,
    suspects::Suspects,
};

use builder::Handlers;
use queue::Queue;

pub use builder::EngineBuilder;
pub use recovery::Recovered;
pub use run::{Accepted, Along, RunHandle, RunReport, RunRequest, StartError, Started};

/// Commands that may wait for one run. When it is full, whoever sends waits.
const INBOX_CAPACITY: usize = 64;

/// What became of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// An action waited for it, and has it.
    Taken,
    /// The run is in progress, and no action waits for it.
    NotAwaited,
    /// The run has ended, is held, or is not known.
    NotInProgress,
}

/// Sees what happens to runs, as it happens. Called from the run's own task: be quick, and never block.
pub trait Watcher: Send + Sync {
    /// New events of a run, already folded into `state`.
    fn events(&self, state: &RunState, events: &[Event]);

    /// A run that was read back is about to go on; what happened to it before is in `state`, and not told again.
    fn resumes(&self, state: &RunState) {
        let _ = state;
    }

    /// A run is in progress no more, and its end is not told: the store took no start of it, or it took its end without
    /// an answer.
    fn gone(&self, run: RunId) {
        let _ = run;
    }
}

/// Runs workflows. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) environment: Arc<Environment>,
    pub(crate) handlers: Handlers,
    pub(crate) services: Services,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workflows: Mutex<HashMap<String, Deployed>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    pub(crate) flights: Arc<Flights>,
    ids: Mutex<RunIdSource>,
    held: Mutex<Held>,
    /// Where the seeds of runs come from; the system's randomness when absent.
    seed: Option<u64>,
    pub(crate) durable: Option<Durable>,
    watcher: Option<Arc<dyn Watcher>>,
    /// Runs that may end the process.
    pub(crate) suspects: Mutex<Suspects>,
    /// Whether starts are made durable before anything of the run is evaluated.
    pub(crate) careful: AtomicBool,
    /// Whether runs are taken up only when somebody asks for them.
    pub(crate) standing_by: AtomicBool,
    /// Held by a run that may end the process, for as long as it is evaluated: so that no two are, and the next process
    /// knows which one did it.
    pub(crate) alone: Arc<tokio::sync::Mutex<()>>,
    /// Runs for which there are orders in the store.
    pub(crate) ordered: Mutex<BTreeSet<RunId>>,
    runs: Mutex<HashMap<RunId, InProgress>>,
    queue: Queue,
}

/// Runs whose journal could not be written, or not be read back afterwards, and why.
#[derive(Default)]
struct Held {
    runs: BTreeMap<RunId, Arc<str>>,
    /// Times that such runs were released.
    releases: u64,
}

/// How a run in progress is reached.
#[derive(Clone)]
struct InProgress {
    commands: mpsc::Sender<Envelope>,
    response: watch::Receiver<Option<Value>>,
    mailbox: Arc<Mailbox>,
}

/// A workflow that others may call, with the parameter values its runs get.
type Deployed = (Arc<Workflow>, Vec<Value>);

impl Engine {
    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn from_inner(inner: &Arc<Inner>) -> Engine {
        Engine { inner: Arc::clone(inner) }
    }

    /// Starts to put an engine together. Its clock is the system's.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The breakers, limiters and budgets of all services.
    pub fn registry(&self) -> &Arc<ResilienceRegistry> {
        self.inner.services.registry()
    }

    /// Gives the services their state back after a restart: `all` as [`registry`](Engine::registry) gave its snapshot, and
    /// what calls of durable runs have changed after that. Call it before the first run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn restore_services(&self, all: Option<&RegistrySnapshot>) -> Result<(), loom_store::Error> {
        if let Some(durable) = &self.inner.durable {
            return spent::restore(&*durable.store, self.registry(), all).await;
        }
        if let Some(all) = all {
            self.registry().restore(all);
        }
        Ok(())
    }

    /// Removes what was stored for single services, once a snapshot of all of them is stored. Call it before the first run.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn forget_stored_services(&self) -> Result<(), loom_store::Error> {
        match &self.inner.durable {
            Some(durable) => spent::clear(&*durable.store).await,
            None => Ok(()),
        }
    }

    /// Makes a workflow known under its name, with the parameter values its runs get, for actions that call it. What it
    /// asks of services (rate limits, bulkheads, circuit breakers) replaces what earlier deployments asked of them.
    pub fn deploy(&self, workflow: Arc<Workflow>, parameters: Vec<Value>) {
        self.inner.services.deployed(&workflow);
        let mut workflows = self.inner.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.insert(workflow.name.to_lowercase(), (workflow, parameters));
    }

    /// Forgets a name, so that no action calls it any more. Its runs go on.
    pub fn withdraw(&self, name: &str) {
        let mut workflows = self.inner.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.remove(&name.to_lowercase());
    }

    /// Fires a trigger: decides about its conditions and `splitOn`, and starts the runs that follow.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then.
    pub fn start(
        &self,
        request: RunRequest,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Started, StartError> {
        let workflow = Arc::clone(&request.workflow);
        match self.decide(&workflow, request)? {
            Fired::Held { condition } => Ok(Started::Held { condition }),
            Fired::Runs(starts) => {
                let spawn = |start| self.spawn(&workflow, start, Written::default(), watcher.cloned());
                Ok(Started::Runs(starts.map(spawn).collect()))
            }
        }
    }

    /// Fires a trigger, and has more become durable with it. Runs of the same firing that started before are left out.
    ///
    /// What is to be written goes with the start of the run when exactly one starts. Otherwise it is given back, for the
    /// caller to write once the runs are accepted; the name keeps a firing that is repeated after a crash from starting
    /// a run twice. Of two firings of one name at the same moment the store takes one, and the runs of the other are never
    /// accepted. Very many runs are accepted before this returns, and then wait for their turn; see [`Accepted::Queued`].
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then, unless the store failed among very many runs.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing. Of very many runs, those that were accepted by then go on.
    pub async fn start_along(
        &self,
        request: RunRequest,
        along: Along,
    ) -> Result<(Accepted, Vec<KeyWrite>), StartError> {
        let workflow = Arc::clone(&request.workflow);
        let Along { name, mark, keys, messages } = along;
        let starts = match self.decide(&workflow, request)? {
            Fired::Held { condition } => {
                let keys = keys.map(|keys| keys(&[])).unwrap_or_default();
                return Ok((Accepted::Held { condition }, keys));
            }
            Fired::Runs(starts) => starts,
        };
        let key = |index: usize| name.as_ref().map(|name| Arc::<str>::from(format!("{name}/{index}")));
        let mut known = HashSet::new();
        if let (Some(_), Some(durable)) = (&name, &self.inner.durable) {
            for (index, key) in (0..starts.len()).filter_map(|index| Some((index, key(index)?))) {
                match durable.store.run_by_key(&workflow.name, &key).await.map_err(StartError::Store)? {
                    Some(row) if row.details == mark => drop(known.insert(index)),
                    Some(row) => return Err(StartError::OtherFiring { run: row.id }),
                    None => {}
                }
            }
        }
        let ids: Vec<RunId> = starts
            .ids()
            .enumerate()
            .filter(|(index, _)| !known.contains(index))
            .map(|(_, run)| run)
            .collect();
        let mut left = keys.map(|keys| keys(&ids)).unwrap_or_default();
        let fresh = starts.enumerate().filter(|(index, _)| !known.contains(index)).map(|(index, start)| {
            (start, Written { idempotency_key: key(index), mark: mark.clone(), ..Written::default() })
        });
        if self.queues(ids.len()) {
            let first = self.accept_all(&workflow, fresh).await?;
            return Ok((Accepted::Queued { runs: ids, first }, left));
        }
        let (mut with_first, mut messages) = (Vec::new(), messages);
        if ids.len() == 1 && self.inner.durable.is_some() {
            std::mem::swap(&mut with_first, &mut left);
        } else {
            messages.clear();
        }
        let spawn = |(start, written)| {
            let (keys, messages) = (std::mem::take(&mut with_first), std::mem::take(&mut messages));
            self.spawn(&workflow, start, Written { keys, messages, ..written }, None)
        };
        Ok((Accepted::Runs(fresh.map(spawn).collect()), left))
    }

    /// What its runs see of the host.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// What a firing leads to.
    pub(crate) fn decide<'w>(
        &self,
        workflow: &'w Arc<Workflow>,
        request: RunRequest,
    ) -> Result<Fired<'w>, StartError> {
        if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
            return Err(StartError::Stopping);
        }
        let trigger = find_trigger(workflow, request.trigger.as_ref())?;
        let firing = Firing {
            workflow,
            trigger,
            outputs: request.outputs,
            parameters: request.parameters,
            tracking_id: request.tracking_id,
            wants_response: request.wants_response,
            trace: request.trace,
            depth: request.depth,
            now: self.inner.clock.now(),
        };
        fire::fire(firing, &self.inner.environment, || self.inner.next_run()).map_err(StartError::Trigger)
    }

    /// Starts one run and waits for its end.
    ///
    /// # Errors
    /// [`StartError`]. A firing that a condition holds back, or that starts several runs, gives no report.
    pub async fn run(&self, request: RunRequest) -> Result<Option<Arc<RunReport>>, StartError> {
        match self.start(request, None)? {
            Started::Runs(mut runs) if runs.len() == 1 => Ok(runs[0].ended().await),
            Started::Runs(_) | Started::Held { .. } => Ok(None),
        }
    }

    /// Starts a run once more from what started it before: the same trigger outputs, on `workflow`, which may be another
    /// definition than then. Conditions and `splitOn` were decided when the trigger fired, and are not asked again.
    ///
    /// # Errors
    /// [`StartError::Stopping`].
    pub fn resubmit(
        &self,
        workflow: &Arc<Workflow>,
        parameters: Vec<Value>,
        before: &RunStart,
    ) -> Result<RunHandle, StartError> {
        if self.inner.stopping.is_cancelled() || self.inner.flights.draining() {
            return Err(StartError::Stopping);
        }
        let (run, seed) = self.inner.next_run();
        let start = fire::again(workflow, parameters, before, (run, seed));
        let written = Written { origin: Some(before.run), ..Written::default() };
        Ok(self.spawn(workflow, start, written, None))
    }

    /// The definition that a run in the store began with.
    ///
    /// # Errors
    /// [`RecoverError`]; also when the engine has no store.
    pub async fn workflow_of(&self, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let Some(durable) = &self.inner.durable else {
            let why = "the engine keeps no runs".to_owned();
            return Err(RecoverError::Definition { run: row.id, why });
        };
        durable.workflow_of(row.id, row).await
    }

    /// What a run in the store started from. None when there is no such run, or retention has taken its journal.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn start_of(&self, run: RunId) -> Result<Option<Arc<RunStart>>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        durable.start_of(run).await
    }

    /// Everything that happened to a run in the store, whether it is in progress or has ended. None when there is no such
    /// run.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn history(&self, run: RunId) -> Result<Option<(RunRow, History)>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        let found = durable.history(run, History::new).await?;
        Ok(found.inspect(|(_, history)| self.learn(history.start.as_ref())))
    }

    /// As [`Engine::history`], as far as `begin` keeps it; see [`History::within`]. A long history is read part by part.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn history_within(
        &self,
        run: RunId,
        begin: impl FnOnce(Arc<Workflow>) -> History,
    ) -> Result<Option<(RunRow, History)>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        let found = durable.history(run, begin).await?;
        Ok(found.inspect(|(_, history)| self.learn(history.start.as_ref())))
    }

    /// How a run in the store stands, whether it is in progress or has ended. Takes as long as its state is large, however
    /// long its history is. None when there is no such run; its state has no start when retention has taken it.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn state_of(&self, run: RunId) -> Result<Option<(RunRow, RunState)>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        let found = durable.state(run).await?;
        Ok(found.inspect(|(_, state)| self.learn(state.start())))
    }

    fn learn(&self, start: Option<&Arc<RunStart>>) {
        if let Some(start) = start {
            self.inner.environment.learn_parameters(start);
        }
    }

    /// What knows the secrets that runs have read, for whoever shows something of them.
    pub fn masker(&self) -> &Masker {
        &self.inner.environment.masker
    }

    pub(crate) fn spawn(
        &self,
        workflow: &Arc<Workflow>,
        start: Arc<RunStart>,
        written: Written,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> RunHandle {
        let id = start.run;
        self.inner.environment.learn_parameters(&start);
        let watcher = watcher.or_else(|| self.inner.watcher.clone());
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = watch::channel(None);
        let (report, ended) = watch::channel(None);
        let run = Run::new(Arc::clone(workflow), Arc::clone(&self.inner.environment));
        let journal = self.inner.durable.as_ref().map(|durable| durable.begin(workflow, &start, written));
        let (accepted, acceptance) = oneshot::channel();
        let mailbox = Arc::<Mailbox>::default();
        let links = Links {
            inbox,
            watcher,
            respond,
            report,
            accepted: Some(accepted),
            mailbox: Arc::clone(&mailbox),
            orders: Vec::new(),
        };
        let driver = Driver::new(Arc::clone(&self.inner), run, journal, links);
        let reached = InProgress { commands: commands.clone(), response: response.clone(), mailbox };
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reached);
        self.adopt(id, driver, Some(Command::Start(Arc::clone(&start))));
        RunHandle { id, start, commands, accepted: Some(acceptance), response, ended }
    }

    /// Gives a run its task.
    fn adopt(&self, id: RunId, driver: Driver, first: Option<Command>) {
        let engine = self.clone();
        let watcher = driver.watcher().cloned();
        let stopping = self.inner.stopping.clone();
        self.inner.tasks.spawn(async move {
            let driven = tokio::select! {
                biased;
                () = stopping.cancelled() => Driven::Over,
                driven = driver.drive(first) => driven,
            };
            engine.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            engine.inner.queue.ended();
            match driven {
                Driven::Over => {}
                Driven::Duplicate => engine.gone(id, watcher.as_ref()),
                // Whoever releases held runs takes up only those that are in progress no more; so this comes last.
                Driven::Unwritten(unwritten) => engine.hold(id, unwritten, watcher.as_ref()).await,
            }
        });
    }

    /// Tells that nothing more will be told of a run.
    fn gone(&self, run: RunId, watcher: Option<&Arc<dyn Watcher>>) {
        if let Some(watcher) = watcher.or(self.inner.watcher.as_ref()) {
            watcher.gone(run);
        }
    }

    /// Hands a command to a run in progress, and waits until what it brings about is durable. False when there is no
    /// such run, or when it ended before it took the command.
    pub async fn command(&self, run: RunId, command: Command) -> bool {
        self.hand_over(run, command).await.is_some()
    }

    /// Hands a run what arrived at a callback address, and waits until what it brings about is durable.
    ///
    /// # Cancel safety
    /// The callback may have been taken.
    pub async fn deliver(&self, run: RunId, effect: EffectId, payload: Value) -> Delivered {
        match self.hand_over(run, Command::Callback { effect, payload }).await {
            Some(true) => Delivered::Taken,
            Some(false) => Delivered::NotAwaited,
            None => Delivered::NotInProgress,
        }
    }

    /// Whether something waited for the command; none when no run in progress took it.
    async fn hand_over(&self, run: RunId, command: Command) -> Option<bool> {
        self.call_up(run).await;
        let sender = {
            let runs = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.get(&run).map(|reached| reached.commands.clone())
        };
        let (envelope, done) = Envelope::acknowledged(command);
        sender?.send(envelope).await.ok()?;
        done.await.ok()
    }

    /// Runs that stand still because the store does not take or give what they need, and why; see
    /// [`Engine::release_held`].
    pub fn held(&self) -> Vec<(RunId, Arc<str>)> {
        let held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.runs.iter().map(|(run, why)| (*run, Arc::clone(why))).collect()
    }

    /// Why a run is held, if it is.
    pub fn why_held(&self, run: RunId) -> Option<Arc<str>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner).runs.get(&run).cloned()
    }

    /// Whether a run is in progress.
    pub fn is_in_progress(&self, run: RunId) -> bool {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// Runs in progress.
    pub fn runs_in_progress(&self) -> usize {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Begins nothing more: no run, no call, no timer. Waits until the calls in flight have ended and their outcomes are durable, for at
    /// most `limit`; gives how many were still under way then. Runs stay where they are, for [`Engine::shut_down`] and the next process.
    ///
    /// # Cancel safety
    /// The engine keeps draining.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.inner.flights.drain();
        tokio::time::timeout(limit, self.inner.flights.landed()).await.ok();
        self.inner.flights.count()
    }

    /// Starts no more runs, lets go of those in progress, and waits until their tasks have ended.
    pub async fn shut_down(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("runs_in_progress", &self.runs_in_progress()).finish_non_exhaustive()
    }
}

fn find_trigger<'w>(
    workflow: &'w Workflow,
    name: Option<&Arc<str>>,
) -> Result<Option<&'w Trigger>, StartError> {
    match name {
        None => Ok(workflow.triggers.first()),
        Some(name) => workflow.find_trigger(name).map(Some).ok_or_else(|| StartError::UnknownTrigger {
            workflow: Arc::clone(&workflow.name),
            trigger: Arc::clone(name),
        }),
    }
}

impl Inner {
    /// Times that held runs were released.
    pub(crate) fn releases(&self) -> u64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).releases
    }

    /// A message has come for a run. One that is not in progress finds it when it is taken up.
    pub(crate) fn tell_mailbox(&self, run: RunId) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reached) = runs.get(&run) {
            reached.mailbox.tell();
        }
    }

    /// A new id, later than all before, and a seed that nobody can guess from it.
    pub(crate) fn next_run(&self) -> (RunId, u64) {
        let now = durable::millis(self.clock.now());
        let run = self.ids.lock().unwrap_or_else(PoisonError::into_inner).next(now);
        (run, self.seed.unwrap_or_else(fresh_seed) ^ random::mix(run.as_u64()))
    }
}

/// Randomness of the operating system, by way of the standard library's hash keys.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
