//! The host: an engine, its store, and the deployed workflows. The HTTP interface and triggers are built on it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use loom_definition::{Surroundings, model::EffectKind, policy::Policies, trigger::Trigger};
use loom_engine::{
    Accepted, Callbacks, Command, Engine, EngineBuilder, Environment, FiringCommit, PolicyBook, RecoverError,
    RunHandle, RunId, RunRequest, RunStart, StartError, Watcher,
    ports::{ActionHandler, Clock, TriggerHandler},
    trace::TraceParent,
};
use loom_expression::{Object, Timestamp, Value, percent};
use loom_memory::StoredMemory;
use loom_resilience::{Observer, Policy, ResilienceRegistry};
use loom_store::{Commit, Condition, Conflict, KeyExpectation, KeyWrite, Retention, Store, UnixMillis};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    batch::{self, Piles, Sender},
    deploy::{DeployError, Deployment, Deployments, Origin, Source},
    hub::Hub,
    metrics::ProcessUsage,
    policies::Layers,
    remember, retain, revive, run_ended,
    sign::{KEY_BYTES, Signer},
    subscription,
    switches::{DisabledBy, Switches},
    telemetry::{Exporter, Recorder, TelemetryError, TelemetrySettings},
    triggers,
};

/// How long the start of a run waits for runs that are about to leave memory.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// The settings of a host.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The URL under which callers reach the server, without a trailing slash: `http://127.0.0.1:7070`.
    pub base: String,
    /// App settings, for parameters that refer to them.
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// The value of `$connections` for definitions that declare it, merged with their own value.
    pub connections: Value,
    /// Parameter values by name, which override those in a definition's file.
    pub parameters: Object,
    /// Parameter values as typed on a command line: each definition that declares one converts it to the declared type.
    pub typed_parameters: Vec<(Arc<str>, String)>,
    /// Values of the parameters of deployment templates.
    pub template_parameters: Object,
    /// `parameters.json` of the project, for definitions that are deployed through the API.
    pub parameters_file: Option<Value>,
    /// The named policies of the project. Without them, definitions may refer to any policy.
    pub policies: Option<Arc<Policies>>,
    /// Names, in lower case, of workflows whose triggers do not fire; see [`Host::set_disabled`].
    pub disabled: BTreeSet<String>,
    /// Whether workflows from files that were deployed before are listed although their files are not known: for a host that
    /// only inspects a data directory.
    pub lists_stored: bool,
    /// The maximum number of runs in memory; further ones are rejected with `429`. Recovered runs, and those of a firing that starts
    /// more than 256, wait in a queue instead.
    pub runs_max: usize,
    /// How long a run that only waits stays in memory; see `EngineBuilder::park_after`. None keeps all runs in memory.
    pub park_after: Option<Duration>,
    /// The time a caller waits for a Response before it gets `504`; the run continues.
    pub response_timeout: Duration,
    /// The client of triggers that poll or subscribe; without it such triggers fail.
    pub trigger_calls: Option<Arc<dyn TriggerHandler>>,
    /// The retention policy of ended runs, applied at least every minute.
    pub retention: Retention,
    /// The settings of the trace exporter; None sends no traces.
    pub telemetry: Option<TelemetrySettings>,
    /// The version in the metric `loom_build_info`.
    pub version: String,
    /// Reads the resource usage of the process for the `process_*` metrics; None omits them.
    pub process: Option<fn() -> ProcessUsage>,
}

impl HostSettings {
    /// The defaults: 10,000 runs, 120 s, [`Retention::DEFAULT`], everything else empty.
    pub fn new(base: impl Into<String>) -> HostSettings {
        HostSettings {
            base: base.into(),
            app_settings: Vec::new(),
            connections: Value::from(Object::new()),
            parameters: Object::new(),
            typed_parameters: Vec::new(),
            template_parameters: Object::new(),
            parameters_file: None,
            policies: None,
            disabled: BTreeSet::new(),
            lists_stored: false,
            runs_max: 10_000,
            park_after: None,
            response_timeout: Duration::from_mins(2),
            trigger_calls: None,
            retention: Retention::DEFAULT,
            telemetry: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: None,
        }
    }
}

/// The settings that can change while a host is open; see [`HostSettings`].
#[derive(Clone, Copy, Debug)]
pub struct LiveSettings {
    /// [`HostSettings::runs_max`].
    pub runs_max: usize,
    /// [`HostSettings::response_timeout`].
    pub response_timeout: Duration,
    /// [`HostSettings::retention`].
    pub retention: Retention,
}

/// Why a host cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The store is unavailable.
    #[error("cannot use the store: {0}")]
    Store(#[from] loom_store::Error),
    /// The system provides no random bytes.
    #[error("cannot get random bytes from the system: {0}")]
    Random(getrandom::Error),
    /// The settings of the trace exporter are invalid.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// The result of recovering unfinished runs.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The number of runs that were resumed or wait in the queue.
    pub runs: usize,
    /// Runs that cannot be read, with the errors.
    pub unreadable: Vec<(RunId, RecoverError)>,
}

/// See the module. Shared by reference count.
pub struct Host {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) memory: StoredMemory,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) piles: Piles,
    pub(crate) deployments: Deployments,
    pub(crate) switches: Switches,
    pub(crate) layers: Layers,
    pub(crate) settings: HostSettings,
    pub(crate) signer: Signer,
    pub(crate) callbacks: Callbacks,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the host starts nothing more while it still serves requests.
    pub(crate) draining: CancellationToken,
    pub(crate) stopping: CancellationToken,
    live: RwLock<LiveSettings>,
    ready: AtomicBool,
    /// See [`Host::hold_runs`].
    pub(crate) holding: AtomicBool,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("engine", &self.engine)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Opens a host on a store: builds the engine with the host's own registry of services, and deploys the definitions again that were
    /// deployed through the API.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn open(
        builder: EngineBuilder,
        mut environment: Environment,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settings: HostSettings,
    ) -> Result<Arc<Host>, HostError> {
        let exporter = settings
            .telemetry
            .as_ref()
            .map(|settings| Exporter::start(settings, environment.masker.clone()))
            .transpose()?
            .map(Arc::new);
        let file = settings.policies.clone().unwrap_or_default();
        let (layers, policies) = Layers::load(&*store, file).await?;
        environment.policies = PolicyBook::new(policies);
        environment.traced = exporter.is_some();
        environment.budgets.runs_max = settings.runs_max;
        let hub = Arc::new(Hub::new(exporter.map(Recorder::new)));
        // Actions are guarded only by the policies in their definition.
        let registry = ResilienceRegistry::builder()
            .defaults(Policy::none())
            .observer(Arc::clone(&hub.tally) as Arc<dyn Observer>)
            .build();
        let switches = Switches::load(&*store).await?;
        let signer = Signer::open(signing_key(&*store).await?, &*store).await?;
        let callbacks = signer.callbacks(&settings.base);
        environment.callbacks = Some(callbacks.clone());
        let sender = Arc::new(Sender::default());
        let builder = match settings.park_after {
            Some(after) => builder.park_after(after),
            None => builder,
        };
        let engine = builder
            .default_handler(
                EffectKind::Custom(batch::TYPE.into()),
                Arc::clone(&sender) as Arc<dyn ActionHandler>,
            )
            .environment(environment)
            .store(Arc::clone(&store))
            .clock(Arc::clone(&clock))
            .watcher(Arc::clone(&hub) as Arc<dyn Watcher>)
            .registry(Arc::new(registry.expect("a policy without parts holds no contradiction")))
            .build();
        let surroundings = Surroundings {
            app_settings: settings.app_settings.clone(),
            connections: settings.connections.clone(),
            parameters: settings.parameters.clone(),
            typed_parameters: settings.typed_parameters.clone(),
            template_parameters: settings.template_parameters.clone(),
            parameters_file: settings.parameters_file.clone(),
            policies: None,
            shared: true,
        };
        let memory = {
            let clock = Arc::clone(&clock);
            StoredMemory::new(Arc::clone(&store), Arc::new(move || UnixMillis(clock.now().unix_millis())))
        };
        let deployments = Deployments::new(Arc::clone(&store), surroundings, settings.disabled.clone());
        let live = LiveSettings {
            runs_max: settings.runs_max,
            response_timeout: settings.response_timeout,
            retention: settings.retention,
        };
        let host = Arc::new(Host {
            live: RwLock::new(live),
            engine,
            memory,
            clock,
            hub,
            piles: Piles::default(),
            deployments,
            switches,
            layers,
            settings,
            signer,
            callbacks,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            draining: CancellationToken::new(),
            ready: AtomicBool::new(false),
            holding: AtomicBool::new(false),
            store,
        });
        sender.belongs_to(&host);
        let saved = host.store.key("server", "resilience").await?;
        let saved = saved.and_then(|saved| serde_json::from_slice(&saved.value).ok());
        host.engine.restore_services(saved.as_ref()).await?;
        for source in host.deployments.load().await? {
            if source.origin == Origin::File {
                if host.settings.lists_stored {
                    host.deployments.list_stored(&source);
                }
            } else if let Err(error) = host.deploy(&source).await {
                tracing::warn!(%error, "cannot deploy a stored definition again");
            }
        }
        Ok(host)
    }

    /// Shared memory. All that a process writes to the store's shared memory goes through clones of it.
    pub fn memory(&self) -> &StoredMemory {
        &self.memory
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The name under which a definition would be deployed; none if it is invalid.
    pub fn name_of(&self, source: &Source) -> Option<Arc<str>> {
        self.deployments.read(source).ok().map(|bound| Arc::clone(&bound.loaded.workflow.name))
    }

    /// Deploys a definition. Returns the deployment and whether it changed.
    ///
    /// # Errors
    /// [`DeployError`]; the version deployed before stays in service.
    pub async fn deploy(self: &Arc<Self>, source: &Source) -> Result<(Arc<Deployment>, bool), DeployError> {
        let source = self.with_policies(source);
        let (deployment, changed) = self.deployments.deploy(&source, self.now().unix_millis()).await?;
        if changed {
            self.engine.deploy(Arc::clone(&deployment.workflow), deployment.parameters.clone());
            self.apply_disabled();
            if self.is_started() {
                self.warn_of_unknown(&deployment);
                triggers::start(self, &deployment);
            }
        }
        Ok((deployment, changed))
    }

    /// Disables workflows, by their names in lower case: their triggers do not fire automatically, by a request, as a child or
    /// manually. Takes effect at the next deployment of a definition.
    pub fn set_disabled(&self, names: BTreeSet<String>) {
        self.deployments.set_disabled(names);
    }

    /// Issues a new signed URL for a trigger, or for all triggers of a workflow. The old URLs stop working immediately.
    ///
    /// # Errors
    /// The store is unavailable, or the system provides no random bytes.
    pub async fn rotate_signature(&self, workflow: &str, trigger: Option<&str>) -> Result<(), HostError> {
        let salt = self.signer.new_salt(workflow, trigger).map_err(HostError::Random)?;
        let mut commit = Commit::new();
        commit.keys.push(salt.write());
        self.store.commit(commit).await?;
        self.signer.adopt(salt);
        Ok(())
    }

    /// Deletes a workflow with all its versions and invalidates the URLs of its triggers. Returns false if it does not exist.
    ///
    /// # Errors
    /// The store is unavailable, or the system provides no random bytes.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, HostError> {
        let salt = self.signer.new_salt(name, None).map_err(HostError::Random)?;
        let _alone = self.switches.changing.lock().await;
        let mut along = self.switches.removal(name);
        along.push(salt.write());
        let known = self.deployments.delete(name, along).await?;
        self.signer.adopt(salt);
        if known {
            self.switches.forget(name);
            self.apply_disabled();
        }
        // It may have been deployed again meanwhile.
        if known && self.deployments.get(name).is_none() {
            self.engine.withdraw(name);
        }
        Ok(known)
    }

    /// Withdraws a workflow: its triggers no longer fire. Its versions stay, and its runs continue. Returns false if it was not deployed.
    pub fn withdraw(&self, name: &str) -> bool {
        self.engine.withdraw(name);
        let known = self.deployments.withdraw(name);
        self.apply_disabled();
        known
    }

    /// The settings of the trace exporter, if there is one.
    pub fn telemetry(&self) -> Option<&TelemetrySettings> {
        self.settings.telemetry.as_ref()
    }

    /// All deployments, sorted by name.
    pub fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.deployments.all()
    }

    /// The signed URL that fires a trigger.
    pub fn trigger_url(&self, workflow: &str, trigger: &str) -> String {
        format!(
            "{}/workflows/{}/triggers/{}/invoke?sig={}",
            self.settings.base,
            percent::encode(workflow),
            percent::encode(trigger),
            self.signer.trigger(workflow, trigger)
        )
    }

    /// Resumes all unfinished runs and starts the automatic triggers. Call it once, after the definitions are deployed and before
    /// the server listens.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovery, loom_store::Error> {
        if !self.services_are_fresh() {
            self.save_resilience().await?;
        }
        self.engine.clear_stored_services().await?;
        let recovered = self.engine.recover(None).await?;
        self.ready.store(true, Ordering::Release);
        subscription::end_orphans(self).await?;
        for deployment in self.deployments.all() {
            triggers::start(self, &deployment);
        }
        for deployment in self.deployments.all() {
            self.warn_of_unknown(&deployment);
        }
        run_ended::start(self);
        retain::start(self);
        revive::start(self);
        remember::start(self);
        Ok(Recovery { runs: recovered.runs.len() + recovered.waiting, unreadable: recovered.unreadable })
    }

    /// Whether unfinished runs have been recovered and triggers fire.
    pub(crate) fn is_started(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether the host accepts requests: runs are recovered, the store is running, and no shutdown has begun.
    pub fn is_ready(&self) -> bool {
        self.why_not_ready().is_none()
    }

    /// Why the host does not accept requests, for any caller to see; None if it does.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.draining.is_cancelled() || self.stopping.is_cancelled() {
            return Some("the server is shutting down".to_owned());
        }
        if self.is_holding() {
            return Some("all runs are held, because the server was started with --hold-runs".to_owned());
        }
        if !self.is_started() {
            return Some("the server is recovering unfinished runs".to_owned());
        }
        match self.store.health().condition {
            Condition::Running => None,
            // Details of disk errors are for the operator, and are in the log.
            Condition::Paused(why) => Some(why.to_string()),
            Condition::Closed => Some("the store is closed".to_owned()),
        }
    }

    pub(crate) fn store_runs(&self) -> bool {
        matches!(self.store.health().condition, Condition::Running)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fires a trigger and waits until its runs are durable.
    pub(crate) async fn fire(&self, request: Fire<'_>) -> Result<Begun, FireError> {
        self.fire_along(request, FiringCommit::default()).await
    }

    /// Like [`Host::fire`], with more writes in the same commit; see [`Engine::start_with`].
    pub(crate) async fn fire_along(
        &self,
        request: Fire<'_>,
        along: FiringCommit,
    ) -> Result<Begun, FireError> {
        if self.is_holding() {
            return Err(FireError::RunsHeld);
        }
        if let Some(by) = self.disabled_by(request.deployment, Some(&request.trigger.name)) {
            let (workflow, trigger) = (&request.deployment.workflow.name, &request.trigger.name);
            return Err(FireError::Disabled {
                by,
                workflow: Arc::clone(workflow),
                trigger: Arc::clone(trigger),
            });
        }
        if !self.has_room().await {
            return Err(FireError::Busy);
        }
        if !self.store_runs() {
            return Err(FireError::StorePaused);
        }
        let Fire { deployment, trigger, outputs, tracking_id, wants_response, trace } = request;
        let request = RunRequest {
            workflow: Arc::clone(&deployment.workflow),
            trigger: Some(Arc::clone(&trigger.name)),
            outputs,
            parameters: deployment.parameters.clone(),
            tracking_id,
            wants_response,
            trace,
            depth: 0,
        };
        let (accepted, left) = self.engine.start_with(request, along).await?;
        let (mut begun, mut held) = (Begun::default(), None);
        let mut runs = Vec::new();
        match accepted {
            Accepted::Runs(handles) => runs = handles,
            Accepted::Queued { runs, first } => begun = Begun { runs, first, handle: None },
            Accepted::NotMet { condition } => held = Some(condition),
        }
        if !runs.is_empty() {
            begun.runs = runs.iter().map(|run| run.id).collect();
            begun.first = runs.first().map(|run| Arc::clone(&run.start));
        }
        let mut all_accepted = true;
        for run in &mut runs {
            all_accepted &= run.accepted().await;
        }
        if !all_accepted {
            return Err(FireError::StorePaused);
        }
        begun.handle = runs.into_iter().next();
        if !left.is_empty() {
            let mut commit = Commit::new();
            commit.keys = left;
            self.store.commit(commit).await.map_err(|_| FireError::StorePaused)?;
        }
        match held {
            Some(condition) => Err(FireError::NotMet { condition }),
            None => Ok(begun),
        }
    }

    /// Sends a command to a run. Returns false if the run is not in progress.
    pub(crate) async fn command(&self, run: RunId, command: Command) -> bool {
        // A host that continues no runs must not load one either: the command is stored, or releases the run.
        let continues = self.is_started() && !self.is_holding();
        if !continues && !self.engine.is_in_progress(run) {
            return false;
        }
        self.engine.command(run, command).await
    }

    /// Whether all circuit breakers and limiters are in their initial state.
    pub(crate) fn services_are_fresh(&self) -> bool {
        self.engine.registry().snapshot().services.is_empty()
    }

    /// Saves the state of circuit breakers and limiters for the next process.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn save_resilience(&self) -> Result<(), loom_store::Error> {
        let snapshot = serde_json::to_vec(&self.engine.registry().snapshot()).unwrap_or_default();
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: "server".into(),
            key: "resilience".into(),
            value: Some(Bytes::from(snapshot)),
            ..KeyWrite::default()
        });
        self.store.commit(commit).await.map(drop)
    }

    /// The current live settings.
    pub(crate) fn live(&self) -> LiveSettings {
        *self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another run may start. Waits for a moment if runs that only wait can make room for it.
    pub(crate) async fn has_room(&self) -> bool {
        self.engine.room_for_run(self.live().runs_max, ROOM_WAIT).await
    }

    /// Replaces the live settings.
    pub fn adopt(&self, live: LiveSettings) {
        self.engine.set_runs_max(live.runs_max);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Starts nothing more: triggers do not fire, requests start no run, runs make no further call. Waits for the calls in flight, for
    /// at most `limit`, while other requests are still served and `/readyz` returns 503. Returns the number of unfinished calls.
    ///
    /// # Cancel safety
    /// The host keeps draining.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.draining.cancel();
        self.engine.drain(limit).await
    }

    /// Shuts down: triggers first, then runs, which the next process resumes. Everything that was accepted is on disk when this
    /// returns.
    ///
    /// # Errors
    /// The store cannot be closed cleanly; everything it has acknowledged is on disk nevertheless.
    pub async fn shut_down(&self) -> Result<(), loom_store::Error> {
        self.draining.cancel();
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.engine.shut_down().await;
        if let Some(recorder) = &self.hub.recorder {
            recorder.exporter().shut_down().await;
        }
        // On a full disk the latest state of circuits is lost, but nothing that was acknowledged.
        // A host that only reads a directory must not change it.
        if self.executes_runs()
            && self.store_runs()
            && let Err(error) = self.save_resilience().await
        {
            tracing::warn!(%error, "cannot save circuit breakers and rate limiters; the next process starts from an older state");
        }
        self.store.close().await
    }
}

/// A trigger that fires.
pub(crate) struct Fire<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) trigger: &'a Trigger,
    pub(crate) outputs: Value,
    pub(crate) tracking_id: Option<Arc<str>>,
    pub(crate) wants_response: bool,
    /// The parent span of the runs, if the caller sent one.
    pub(crate) trace: Option<TraceParent>,
}

/// The runs started by a firing.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// All runs, in order.
    pub(crate) runs: Vec<RunId>,
    /// The start of the first run.
    pub(crate) first: Option<Arc<RunStart>>,
    /// The first run, unless it waits in the queue.
    pub(crate) handle: Option<RunHandle>,
}

/// Why a firing started no run.
#[derive(Debug)]
pub(crate) enum FireError {
    /// The limit of concurrent runs is reached; a later attempt may succeed.
    Busy,
    /// The store is unavailable.
    StorePaused,
    /// All runs are held (`--hold-runs`).
    RunsHeld,
    /// The trigger is disabled.
    Disabled {
        /// What disables it.
        by: DisabledBy,
        /// The workflow of the trigger.
        workflow: Arc<str>,
        /// The name of the trigger.
        trigger: Arc<str>,
    },
    /// A condition of the trigger is not met.
    NotMet { condition: usize },
    /// The engine rejected the start.
    Start(StartError),
}

impl From<StartError> for FireError {
    fn from(error: StartError) -> FireError {
        match error {
            StartError::Full { .. } => FireError::Busy,
            error => FireError::Start(error),
        }
    }
}

/// `workflow/trigger`, in lower case: what a trigger is known by here and in the store.
pub(crate) fn trigger_key(workflow: &str, trigger: &str) -> String {
    format!("{}/{}", workflow.to_lowercase(), trigger.to_lowercase())
}

/// The signing key of this store, created on first use. If two processes create one, the first wins.
async fn signing_key(store: &dyn Store) -> Result<[u8; KEY_BYTES], HostError> {
    loop {
        if let Some(kept) = store.key("server", "signing-key").await?
            && let Ok(key) = <[u8; KEY_BYTES]>::try_from(&kept.value[..])
        {
            return Ok(key);
        }
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(HostError::Random)?;
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: "server".into(),
            key: "signing-key".into(),
            expect: KeyExpectation::Absent,
            value: Some(Bytes::copy_from_slice(&key)),
            ..KeyWrite::default()
        });
        match store.commit(commit).await {
            Ok(_) => return Ok(key),
            Err(loom_store::Error::Conflict(Conflict::Key { .. })) => {}
            // A read-only host never gives signatures out.
            Err(loom_store::Error::ReadOnly) => return Ok(key),
            Err(error) => return Err(error.into()),
        }
    }
}
