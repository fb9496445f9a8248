//! The host: an engine, its store, and the deployed workflows. The HTTP interface and triggers are built on it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use loom_definition::policy::Policies;
use loom_engine::{
    Callbacks, Command, Engine, RecoverError, RunId,
    ports::{Clock, TriggerHandler},
};
use loom_expression::{Object, Timestamp, Value, percent};
use loom_memory::StoredMemory;
use loom_store::{Commit, Condition, KeyWrite, Retention, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    batch::pile::Piles,
    cluster::{Cluster, NodeSettings},
    deploy::{Deployment, Deployments, Source},
    hub::Hub,
    policies::{Layers, NotStored, PoliciesRefused},
    process_usage::ProcessUsage,
    service_history::Histories,
    sign::Signer,
    store_audit::StoreAudit,
    switches::Switches,
    telemetry::{TelemetryError, TelemetrySettings},
};

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
    /// Makes the host one of several nodes on the store; None owns everything in it.
    pub node: Option<NodeSettings>,
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
            node: None,
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
    /// This process as a node; None if it owns everything in the store.
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) memory: StoredMemory,
    pub(crate) audit: Arc<StoreAudit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) histories: Arc<Histories>,
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
    pub(crate) live: RwLock<LiveSettings>,
    pub(crate) ready: AtomicBool,
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
    /// Shared memory. All that a process writes to the store's shared memory goes through clones of it.
    pub fn memory(&self) -> &StoredMemory {
        &self.memory
    }

    /// Replaces the named policies of the project, also for runs in progress. Stored ones stay in place of those of the same
    /// services. Services keep what they have counted and consumed. Returns the names of the services whose policy has changed.
    ///
    /// # Errors
    /// [`PoliciesRefused`]; nothing has changed then.
    pub fn replace_policies(&self, file: Arc<Policies>) -> Result<Vec<Arc<str>>, PoliciesRefused> {
        self.layers.replace(&self.engine, file)
    }

    /// The services whose policy in the file has no effect, because another one is stored.
    pub fn hidden_policies(&self) -> Vec<Arc<str>> {
        self.layers.hidden()
    }

    /// Stores a policy in place of that of the file, or removes the stored one. It takes effect at once.
    pub(crate) async fn store_policy(&self, service: &str, members: Option<&Value>) -> Result<(), NotStored> {
        self.layers.store(&self.engine, &*self.store, service, members).await
    }

    /// A definition, to be checked against the named policies in effect, if the host has any.
    pub(crate) fn with_policies<'s>(&self, source: &'s Source) -> Cow<'s, Source> {
        let mut source = Cow::Borrowed(source);
        if self.settings.policies.is_some() {
            source.to_mut().options.policies = Some(self.engine.policies());
        }
        source
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The name under which a definition would be deployed; none if it is invalid.
    pub fn name_of(&self, source: &Source) -> Option<Arc<str>> {
        self.deployments.read(source).ok().map(|bound| Arc::clone(&bound.loaded.workflow.name))
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
            Condition::Running => self.cluster.as_ref().and_then(|cluster| cluster.why_not_ready()),
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
        if self.cluster.is_some() {
            // Each node counts on its own.
            return Ok(());
        }
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

    /// Replaces the live settings.
    pub fn adopt(&self, live: LiveSettings) {
        self.engine.set_runs_max(live.runs_max);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }
}
