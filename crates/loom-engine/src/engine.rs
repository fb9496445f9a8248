//! The engine: runs workflows on tokio. Owns the tasks of all runs, the handlers, and the registry of services.
//!
//! Each run is one task that feeds its pure machine with what happens and carries out what the machine's events ask
//! for; see `driver`. An engine that is dropped or shut down ends its tasks; nothing is detached.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use loom_definition::{RunStatus, Workflow, model::EffectKind, trigger::Trigger};
use loom_expression::{Object, Timestamp, Value};
use loom_resilience::ResilienceRegistry;
use loom_store::{RunIdSource, RunRow, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    driver::{Driver, Envelope, Links},
    durable::{self, Durable, RecoverError},
    event::{Command, ErrorInfo, Event, RunId, RunStart},
    fire::{self, Fired, Firing},
    guard::Services,
    history::History,
    machine::{Environment, Run},
    ports::{ActionHandler, Clock},
    random,
    state::RunState,
};

/// Commands that may wait for one run. When it is full, whoever sends waits.
const INBOX_CAPACITY: usize = 64;

/// Unfinished runs read from the store at a time.
const RECOVERY_PAGE: usize = 500;

/// Sees what happens to runs, as it happens. Called from the run's own task: be quick, and never block.
pub trait Watcher: Send + Sync {
    /// New events of a run, already folded into `state`.
    fn events(&self, state: &RunState, events: &[Event]);
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
    ids: Mutex<RunIdSource>,
    held: Mutex<Vec<RunId>>,
    pub(crate) durable: Option<Durable>,
    watcher: Option<Arc<dyn Watcher>>,
    runs: Mutex<HashMap<RunId, mpsc::Sender<Envelope>>>,
}

/// A workflow that others may call, with the parameter values its runs get.
type Deployed = (Arc<Workflow>, Vec<Value>);

/// Handlers by the kind of effect.
#[derive(Default)]
pub(crate) struct Handlers {
    known: Vec<(EffectKind, Arc<dyn ActionHandler>)>,
    custom: HashMap<String, Arc<dyn ActionHandler>>,
}

impl Handlers {
    pub(crate) fn find(&self, effect: &EffectKind) -> Option<&Arc<dyn ActionHandler>> {
        if let EffectKind::Custom(name) | EffectKind::Script(name) = effect
            && let Some(handler) = self.custom.get(&name.to_lowercase())
        {
            return Some(handler);
        }
        self.known.iter().find(|(kind, _)| kind == effect).map(|(_, handler)| handler)
    }
}

/// Puts an engine together.
pub struct EngineBuilder {
    environment: Environment,
    handlers: Handlers,
    registry: Option<Arc<ResilienceRegistry>>,
    store: Option<Arc<dyn Store>>,
    watcher: Option<Arc<dyn Watcher>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// What runs see of the host: settings, secrets, limits.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Who makes the calls of one kind of action. The last one named for a kind counts.
    #[must_use]
    pub fn handler(mut self, effect: EffectKind, handler: Arc<dyn ActionHandler>) -> Self {
        match effect {
            EffectKind::Custom(name) => {
                self.handlers.custom.insert(name.to_lowercase(), handler);
            }
            effect => {
                self.handlers.known.retain(|(kind, _)| *kind != effect);
                self.handlers.known.push((effect, handler));
            }
        }
        self
    }

    /// Who makes the calls of actions of type `name`, which the language does not know.
    #[must_use]
    pub fn custom(self, name: &str, handler: Arc<dyn ActionHandler>) -> Self {
        self.handler(EffectKind::Custom(Arc::from(name)), handler)
    }

    /// Shares breakers and limiters with others.
    #[must_use]
    pub fn registry(mut self, registry: Arc<ResilienceRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Keeps runs in a store, so that they survive the process. Without one, runs live in memory only.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Hears of all runs that are started without a watcher of their own, children included.
    #[must_use]
    pub fn watcher(mut self, watcher: Arc<dyn Watcher>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// Another wall clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let services = Services::new(self.registry);
        Engine {
            inner: Arc::new(Inner {
                environment: Arc::new(self.environment),
                handlers: self.handlers,
                services,
                clock: self.clock,
                workflows: Mutex::new(HashMap::new()),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
                ids: Mutex::new(RunIdSource::new(0, None)),
                held: Mutex::new(Vec::new()),
                durable: self.store.map(Durable::new),
                watcher: self.watcher,
                runs: Mutex::new(HashMap::new()),
            }),
        }
    }
}

/// What starts a run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The trigger that fires; the only one, or the first, when absent.
    pub trigger: Option<Arc<str>>,
    /// The trigger's outputs, `{headers?, queries?, body?, …}`.
    pub outputs: Value,
    /// Values by the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// The caller's tracking id.
    pub tracking_id: Option<Arc<str>>,
    /// Whether somebody waits for a Response.
    pub wants_response: bool,
}

impl RunRequest {
    /// A run started by hand, with `body` as the trigger's body if there is one.
    pub fn manual(workflow: Arc<Workflow>, parameters: Vec<Value>, body: Option<Value>) -> RunRequest {
        let mut outputs = Object::new();
        if let Some(body) = body {
            outputs.insert("body", body);
        }
        RunRequest {
            workflow,
            trigger: None,
            outputs: outputs.into(),
            parameters,
            tracking_id: None,
            wants_response: false,
        }
    }
}

/// Why no run starts.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The engine is stopping.
    #[error("the engine is stopping and starts no more runs")]
    Stopping,
    /// There is no such trigger.
    #[error("the workflow '{workflow}' has no trigger named '{trigger}'")]
    UnknownTrigger {
        /// The workflow.
        workflow: Arc<str>,
        /// The name asked for.
        trigger: Arc<str>,
    },
    /// The trigger's own expressions failed.
    #[error("the trigger failed: {}", .0.message)]
    Trigger(ErrorInfo),
}

/// What a request leads to.
#[derive(Debug)]
pub enum Started {
    /// These runs.
    Runs(Vec<RunHandle>),
    /// None: the trigger's condition of this place did not hold.
    Held {
        /// Which condition, from 0.
        condition: usize,
    },
}

/// A run in progress, or one that has ended.
#[derive(Debug)]
pub struct RunHandle {
    /// Its id.
    pub id: RunId,
    /// What it started from.
    pub start: Arc<RunStart>,
    commands: mpsc::Sender<Envelope>,
    accepted: Option<oneshot::Receiver<()>>,
    response: Option<oneshot::Receiver<Value>>,
    ended: watch::Receiver<Option<Arc<RunReport>>>,
}

/// What [`Engine::recover`] found.
#[derive(Debug)]
pub struct Recovered {
    /// Runs that go on.
    pub runs: Vec<RunHandle>,
    /// Runs that cannot be read, and why.
    pub unreadable: Vec<(RunId, RecoverError)>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// How.
    pub status: RunStatus,
    /// What went wrong.
    pub error: Option<Arc<ErrorInfo>>,
    /// The workflow's outputs.
    pub outputs: Option<Value>,
    /// What the caller was answered.
    pub response: Option<Value>,
}

impl RunHandle {
    /// Waits until the run's start is durable; from then on it survives the process. False when the store refused it:
    /// then nothing of it happened. At once true for runs that live in memory.
    pub async fn accepted(&mut self) -> bool {
        match self.accepted.take() {
            Some(accepted) => accepted.await.is_ok(),
            None => true,
        }
    }

    /// Waits for the Response. None when the run ends without one, and when it was asked for before.
    ///
    /// # Cancel safety
    /// Not cancel safe: a response that arrives while the future is dropped is lost here, not in the run's report.
    pub async fn response(&mut self) -> Option<Value> {
        match self.response.take() {
            Some(response) => response.await.ok(),
            None => None,
        }
    }

    /// Waits for the end. None when the engine was shut down before it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) -> Option<Arc<RunReport>> {
        let ended = self.ended.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }

    /// Asks the run to stop; it ends as Cancelled. Does nothing to one that has ended.
    pub async fn cancel(&self) {
        // A closed inbox means that the run has ended.
        self.commands.send(Envelope::new(Command::Cancel)).await.ok();
    }

    /// Hands the run a command.
    pub async fn command(&self, command: Command) {
        self.commands.send(Envelope::new(command)).await.ok();
    }
}

impl Engine {
    pub(crate) fn from_inner(inner: &Arc<Inner>) -> Engine {
        Engine { inner: Arc::clone(inner) }
    }

    /// Starts to put an engine together. Its clock is the system's.
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            environment: Environment::default(),
            handlers: Handlers::default(),
            registry: None,
            store: None,
            watcher: None,
            clock: Arc::new(crate::clock::SystemClock),
        }
    }

    /// The breakers, limiters and budgets of all services.
    pub fn registry(&self) -> &Arc<ResilienceRegistry> {
        self.inner.services.registry()
    }

    /// Makes a workflow known under its name, with the parameter values its runs get, for actions that call it.
    pub fn deploy(&self, workflow: Arc<Workflow>, parameters: Vec<Value>) {
        let mut workflows = self.inner.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.insert(workflow.name.to_lowercase(), (workflow, parameters));
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
        if self.inner.stopping.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let trigger = find_trigger(&request.workflow, request.trigger.as_ref())?;
        let firing = Firing {
            workflow: &request.workflow,
            trigger,
            outputs: request.outputs,
            parameters: request.parameters,
            tracking_id: request.tracking_id,
            wants_response: request.wants_response,
            now: self.inner.clock.now(),
        };
        let fired = fire::fire(&firing, &self.inner.environment, || self.inner.next_run())
            .map_err(StartError::Trigger)?;
        match fired {
            Fired::Held { condition } => Ok(Started::Held { condition }),
            Fired::Runs(starts) => {
                let spawn = |start| self.spawn(&request.workflow, start, None, watcher.cloned());
                Ok(Started::Runs(starts.into_iter().map(spawn).collect()))
            }
        }
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
        if self.inner.stopping.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let (run, seed) = self.inner.next_run();
        let start = fire::again(workflow, parameters, before, (run, seed));
        Ok(self.spawn(workflow, start, Some(before.run), None))
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

    /// Everything that happened to a run in the store, whether it is in progress or has ended. None when there is no such
    /// run.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn history(&self, run: RunId) -> Result<Option<(RunRow, History)>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        durable.history(run).await
    }

    fn spawn(
        &self,
        workflow: &Arc<Workflow>,
        start: Arc<RunStart>,
        origin: Option<RunId>,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> RunHandle {
        let id = start.run;
        let watcher = watcher.or_else(|| self.inner.watcher.clone());
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = oneshot::channel();
        let (report, ended) = watch::channel(None);
        let run = Run::new(Arc::clone(workflow), Arc::clone(&self.inner.environment));
        let journal = self.inner.durable.as_ref().map(|durable| durable.begin(workflow, &start, origin));
        let (accepted, acceptance) = oneshot::channel();
        let links = Links { inbox, watcher, respond, report, accepted: Some(accepted) };
        let driver = Driver::new(Arc::clone(&self.inner), run, journal, links);
        self.adopt(id, commands.clone(), driver, Some(Command::Start(Arc::clone(&start))));
        RunHandle { id, start, commands, accepted: Some(acceptance), response: Some(response), ended }
    }

    /// Gives a run its task.
    fn adopt(&self, id: RunId, commands: mpsc::Sender<Envelope>, driver: Driver, first: Option<Command>) {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, commands);
        let inner = Arc::clone(&self.inner);
        let stopping = self.inner.stopping.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = driver.drive(first) => {}
                () = stopping.cancelled() => {}
            }
            inner.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    /// Goes on with every run in the store that has not ended. Calls that were in progress when the last process ended
    /// are made again, with the same idempotency keys. Call it once, before anything is started.
    ///
    /// Gives the runs that go on, and those that cannot be read; the latter are left as they are.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub async fn recover(&self, watcher: Option<&Arc<dyn Watcher>>) -> Result<Recovered, loom_store::Error> {
        let mut recovered = Recovered { runs: Vec::new(), unreadable: Vec::new() };
        let Some(durable) = &self.inner.durable else { return Ok(recovered) };
        if let Some(newest) = durable.store.newest_run().await? {
            *self.inner.ids.lock().unwrap_or_else(PoisonError::into_inner) =
                RunIdSource::new(0, Some(newest));
        }
        let mut after = None;
        loop {
            let page = durable.store.unfinished(after, RECOVERY_PAGE).await?;
            for row in &page {
                match self.recover_run(row.id, watcher).await {
                    Ok(Some(handle)) => recovered.runs.push(handle),
                    Ok(None) => {}
                    Err(error) => recovered.unreadable.push((row.id, error)),
                }
            }
            match page.last() {
                Some(last) if page.len() == RECOVERY_PAGE => after = Some(last.id),
                _ => return Ok(recovered),
            }
        }
    }

    /// Goes on with one run from the store, unless it is in progress already or has ended.
    ///
    /// # Errors
    /// [`RecoverError`]; the run is left as it is.
    pub async fn recover_run(
        &self,
        id: RunId,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Option<RunHandle>, RecoverError> {
        let Some(durable) = &self.inner.durable else { return Ok(None) };
        if self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id) {
            return Ok(None);
        }
        let Some((state, journal)) = durable.load(id).await? else { return Ok(None) };
        let run = Run::resume(state, Arc::clone(&self.inner.environment));
        if run.state().status().is_final() {
            return Ok(None);
        }
        let Some(start) = run.state().start().cloned() else { return Ok(None) };
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = oneshot::channel();
        let (report, ended) = watch::channel(None);
        let watcher = watcher.cloned().or_else(|| self.inner.watcher.clone());
        let links = Links { inbox, watcher, respond, report, accepted: None };
        let driver = Driver::new(Arc::clone(&self.inner), run, Some(journal), links);
        self.adopt(id, commands.clone(), driver, None);
        Ok(Some(RunHandle { id, start, commands, accepted: None, response: Some(response), ended }))
    }

    /// Hands a command to a run in progress, and waits until what it brings about is durable. False when there is no
    /// such run, or when it ended before it took the command.
    pub async fn command(&self, run: RunId, command: Command) -> bool {
        let sender = {
            let runs = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.get(&run).cloned()
        };
        let Some(sender) = sender else { return false };
        let (envelope, done) = Envelope::acknowledged(command);
        sender.send(envelope).await.is_ok() && done.await.is_ok()
    }

    /// Takes up the runs again that are held because the store could not write them. Call it after the store was
    /// resumed.
    ///
    /// # Errors
    /// The first run that cannot be read; it and those after it stay held.
    pub async fn release_held(&self, watcher: Option<&Arc<dyn Watcher>>) -> Result<usize, RecoverError> {
        let held = std::mem::take(&mut *self.inner.held.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, run) in held.iter().enumerate() {
            if let Err(error) = self.recover_run(*run, watcher).await {
                self.inner.held.lock().unwrap_or_else(PoisonError::into_inner).extend(&held[index..]);
                return Err(error);
            }
        }
        Ok(held.len())
    }

    /// Runs in progress.
    pub fn runs_in_progress(&self) -> usize {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
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
    /// A new id, later than all before, and a seed that nobody can guess from it.
    /// A run whose journal could not be written. It is taken up again once the store works.
    pub(crate) fn held(&self, run: Option<RunId>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(run);
    }

    /// A new id, later than all before, and a seed that nobody can guess from it.
    pub(crate) fn next_run(&self) -> (RunId, u64) {
        let now = durable::millis(self.clock.now());
        let run = self.ids.lock().unwrap_or_else(PoisonError::into_inner).next(now);
        (run, fresh_seed() ^ random::mix(run.as_u64()))
    }
}

/// Randomness of the operating system, by way of the standard library's hash keys.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

pub(crate) fn now(inner: &Inner) -> Timestamp {
    inner.clock.now()
}
