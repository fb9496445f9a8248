//! The host: an engine, its store, and what is deployed on it. The HTTP side and the timetables stand on it.

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
use loom_definition::{Surroundings, model::EffectKind, trigger::Trigger};
use loom_engine::{
    Accepted, Callbacks, Command, Engine, EngineBuilder, Environment, FiringCommit, RecoverError, RunHandle,
    RunId, RunRequest, RunStart, StartError, Watcher,
    ports::{ActionHandler, Clock, TriggerHandler},
    trace::TraceParent,
};
use loom_expression::{Object, Timestamp, Value};
use loom_resilience::{Observer, Policy, ResilienceRegistry};
use loom_store::{Commit, Condition, Conflict, KeyExpectation, KeyWrite, Retention, RunRow, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    batch::{self, Piles, Sender},
    deploy::{DeployError, Deployment, Deployments, Source},
    gate::Place,
    hub::Hub,
    remember, retain, revive,
    sign::{KEY_BYTES, Signer},
    subscription,
    switches::{self, DisabledBy, Switches},
    telemetry::{Exporter, Recorder, TelemetryError, TelemetrySettings},
    triggers,
};

/// What a host is told by the program around it.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The address that others reach this server under, without a slash at its end: `http://127.0.0.1:7070`.
    pub base: String,
    /// Settings of the app, for parameters that mention them.
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// What definitions that declare `$connections` find there, beside what their own value names.
    pub connections: Value,
    /// Values for parameters, by name, that go before what a definition's file says.
    pub parameters: Object,
    /// Values for parameters as somebody typed them: each definition that declares one reads it as its type says.
    pub typed_parameters: Vec<(Arc<str>, String)>,
    /// Values for the parameters of deployment templates.
    pub template_parameters: Object,
    /// `parameters.json` of the project, for definitions that the API brings.
    pub parameters_file: Option<Value>,
    /// Workflows whose triggers do not fire, by their names in lower case; see [`Host::set_disabled`].
    pub disabled: BTreeSet<String>,
    /// Runs in progress at once; more are refused with `429`. Runs that are recovered, and those of a firing that starts more than 256, wait
    /// for their turn instead.
    pub runs_max: usize,
    /// How long a caller waits for a Response before it is told `504`; the run goes on.
    pub response_timeout: Duration,
    /// Makes the requests of triggers that poll or subscribe; without it such triggers fail.
    pub trigger_calls: Option<Arc<dyn TriggerHandler>>,
    /// Which ended runs are forgotten, and when; looked at every minute.
    pub retention: Retention,
    /// Where traces of runs are sent; nowhere without it.
    pub telemetry: Option<TelemetrySettings>,
}

impl HostSettings {
    /// The defaults: 10,000 runs, 120 s, what [`Retention::DEFAULT`] keeps, nothing else.
    pub fn new(base: impl Into<String>) -> HostSettings {
        HostSettings {
            base: base.into(),
            app_settings: Vec::new(),
            connections: Value::from(Object::new()),
            parameters: Object::new(),
            typed_parameters: Vec::new(),
            template_parameters: Object::new(),
            parameters_file: None,
            disabled: BTreeSet::new(),
            runs_max: 10_000,
            response_timeout: Duration::from_mins(2),
            trigger_calls: None,
            retention: Retention::DEFAULT,
            telemetry: None,
        }
    }
}

/// Settings that can change while a host is open; see [`HostSettings`].
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
    /// The store does not answer.
    #[error("the store cannot be used: {0}")]
    Store(#[from] loom_store::Error),
    /// The system gives no random bytes.
    #[error("no random bytes are to be had: {0}")]
    Random(getrandom::Error),
    /// Traces cannot be sent where the settings say.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// What was found when unfinished runs were taken up.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Runs that go on.
    pub runs: usize,
    /// Runs that cannot be read, and why.
    pub unreadable: Vec<(RunId, RecoverError)>,
}

/// See the module. Shared by reference count.
pub struct Host {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) piles: Piles,
    pub(crate) deployments: Deployments,
    pub(crate) switches: Switches,
    pub(crate) settings: HostSettings,
    pub(crate) signer: Signer,
    pub(crate) callbacks: Callbacks,
    pub(crate) tasks: TaskTracker,
    /// Nothing new is begun any more, while the server still answers.
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
    /// Opens a host on a store: completes the engine that `builder` describes, whose services are the host's own, and deploys again what the API had
    /// deployed.
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
        environment.traced = exporter.is_some();
        environment.budgets.runs_max = settings.runs_max;
        let hub = Arc::new(Hub::new(exporter.map(Recorder::new)));
        // Only what a definition asks for guards its actions.
        let registry = ResilienceRegistry::builder()
            .defaults(Policy::none())
            .observer(Arc::clone(&hub.tally) as Arc<dyn Observer>)
            .build();
        let switches = Switches::load(&*store).await?;
        let signer = Signer::open(signing_key(&*store).await?, &*store).await?;
        let callbacks = signer.callbacks(&settings.base);
        environment.callbacks = Some(callbacks.clone());
        let sender = Arc::new(Sender::default());
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
            shared: true,
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
            clock,
            hub,
            piles: Piles::default(),
            deployments,
            switches,
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
            if let Err(error) = host.deploy(&source).await {
                tracing::warn!(%error, "a definition that was deployed before is refused now");
            }
        }
        Ok(host)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Deploys a definition. Says whether it changed anything.
    ///
    /// # Errors
    /// [`DeployError`]; whatever the name ran before goes on.
    pub async fn deploy(self: &Arc<Self>, source: &Source) -> Result<(Arc<Deployment>, bool), DeployError> {
        let (deployment, changed) = self.deployments.deploy(source, self.now().unix_millis()).await?;
        if changed {
            self.engine.deploy(Arc::clone(&deployment.workflow), deployment.parameters.clone());
            self.tell_disabled();
            if self.is_started() {
                triggers::start(self, &deployment);
            }
        }
        Ok((deployment, changed))
    }

    /// Keeps the triggers of workflows, by their names in lower case, from firing: by themselves, by a request, as a child, and by
    /// hand. Takes effect when a definition is deployed next.
    pub fn set_disabled(&self, names: BTreeSet<String>) {
        self.deployments.set_disabled(names);
    }

    /// Who keeps a workflow, or the trigger that is named, from firing; none when nobody does. A setting goes before an operator.
    pub fn disabled_by(&self, deployment: &Deployment, trigger: Option<&str>) -> Option<DisabledBy> {
        if deployment.disabled {
            return Some(DisabledBy::Setting);
        }
        self.switches.disabled_by(&deployment.workflow.name, trigger)
    }

    /// Tells the engine which workflows and triggers no action may call.
    fn tell_disabled(&self) {
        let by_settings = self.deployments.all().into_iter().filter(|deployment| deployment.disabled);
        let mut names: BTreeSet<String> = self.switches.off().into_iter().collect();
        names.extend(by_settings.map(|deployment| deployment.workflow.name.to_lowercase()));
        self.engine.set_disabled(names);
    }

    /// Disables or enables a workflow, or one of its triggers, until another order comes, also over restarts. A setting
    /// that disables the workflow holds all the same.
    ///
    /// # Errors
    /// The store does not take it; nothing has changed then.
    pub(crate) async fn switch(
        self: &Arc<Self>,
        workflow: &str,
        trigger: Option<&str>,
        enable: bool,
    ) -> Result<(), loom_store::Error> {
        let _alone = self.switches.changing.lock().await;
        let key = switches::key(workflow, trigger);
        if let Some((switch, write)) = self.switches.order(&key, enable, self.now().unix_nanos()) {
            let mut commit = Commit::new();
            commit.keys.push(write);
            self.store.commit(commit).await?;
            self.switches.adopt(key, switch);
        }
        self.tell_disabled();
        if let Some(deployment) = self.deployments.get(workflow) {
            triggers::stop_disabled(self, &deployment);
            if self.is_started() {
                triggers::start(self, &deployment);
            }
        }
        Ok(())
    }

    /// Makes the address of a trigger another one; without a trigger, those of all triggers of a workflow. The old ones no longer work.
    ///
    /// # Errors
    /// The store does not take it, or there are no random bytes.
    pub async fn rotate_signature(&self, workflow: &str, trigger: Option<&str>) -> Result<(), HostError> {
        let salt = self.signer.new_salt(workflow, trigger).map_err(HostError::Random)?;
        let mut commit = Commit::new();
        commit.keys.push(salt.write());
        self.store.commit(commit).await?;
        self.signer.adopt(salt);
        Ok(())
    }

    /// Takes a name out of service and forgets all of its versions; the addresses of its triggers are void. False when there is none.
    ///
    /// # Errors
    /// The store does not take it, or there are no random bytes.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, HostError> {
        let salt = self.signer.new_salt(name, None).map_err(HostError::Random)?;
        let _alone = self.switches.changing.lock().await;
        let mut along = self.switches.removal(name);
        along.push(salt.write());
        let known = self.deployments.delete(name, along).await?;
        self.signer.adopt(salt);
        if known {
            self.switches.forget(name);
            self.tell_disabled();
        }
        // Unless it was deployed again meanwhile.
        if known && self.deployments.get(name).is_none() {
            self.engine.withdraw(name);
        }
        Ok(known)
    }

    /// Takes a name out of service. Its versions stay, and its runs go on. False when it was not deployed.
    pub fn withdraw(&self, name: &str) -> bool {
        self.engine.withdraw(name);
        self.deployments.withdraw(name)
    }

    /// Where traces are sent, if they are.
    pub fn telemetry(&self) -> Option<&TelemetrySettings> {
        self.settings.telemetry.as_ref()
    }

    /// What is deployed, by name.
    pub fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.deployments.all()
    }

    /// The address that fires a trigger, with its signature.
    pub fn trigger_url(&self, workflow: &str, trigger: &str) -> String {
        let escape = crate::request::escape;
        format!(
            "{}/workflows/{}/triggers/{}/invoke?sig={}",
            self.settings.base,
            escape(workflow),
            escape(trigger),
            self.signer.trigger(workflow, trigger)
        )
    }

    /// Goes on with every run that has not ended, and lets triggers fire by the clock. Call it once, after the definitions are deployed and before the
    /// server listens.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovery, loom_store::Error> {
        if !self.services_are_fresh() {
            self.save_resilience().await?;
        }
        self.engine.clear_stored_services().await?;
        // Those that count at a gate are few, and count from the start.
        let may_wait = |row: &RunRow| {
            let deployment = self.deployments.get(&row.workflow);
            deployment.is_none_or(|deployment| {
                deployment.workflow.triggers.iter().all(|trigger| trigger.concurrency.is_none())
            })
        };
        let recovered = self.engine.recover_with_queue(None, &may_wait).await?;
        for run in &recovered.runs {
            self.count_at_gate(run);
        }
        self.ready.store(true, Ordering::Release);
        subscription::end_orphans(self).await?;
        for deployment in self.deployments.all() {
            triggers::start(self, &deployment);
        }
        retain::start(self);
        revive::start(self);
        remember::start(self);
        Ok(Recovery { runs: recovered.runs.len() + recovered.waiting, unreadable: recovered.unreadable })
    }

    /// A run from before the restart takes its place among its trigger's runs.
    fn count_at_gate(&self, run: &RunHandle) {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(workflow) = text(&run.start.workflow, "name") else { return };
        let Some(trigger) = text(&run.start.trigger, "name") else { return };
        let Some(deployment) = self.deployments.get(&workflow) else { return };
        if let Some(limit) = deployment.trigger(&trigger).and_then(|trigger| trigger.concurrency) {
            self.hub.gates.adopt(&gate_key(&workflow, &trigger), limit, run.id);
        }
    }

    /// Whether unfinished runs were taken up, and triggers fire.
    pub(crate) fn is_started(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether unfinished runs were taken up, the store takes commits in, and nobody asked to stop.
    pub fn is_ready(&self) -> bool {
        self.why_not_ready().is_none()
    }

    /// Why requests are not taken, for anybody; none when they are.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.draining.is_cancelled() || self.stopping.is_cancelled() {
            return Some("the server is stopping".to_owned());
        }
        if self.is_holding() {
            return Some("all runs are held, because the server was started with --hold-runs".to_owned());
        }
        if !self.is_started() {
            return Some("unfinished runs are being taken up".to_owned());
        }
        match self.store.health().condition {
            Condition::Running => None,
            // What the disk said is for the operator, and stands in the log; damage says by itself where it is.
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

    /// Fires a trigger, and waits until what it starts is durable.
    pub(crate) async fn fire(&self, request: Fire<'_>) -> Result<Begun, FireError> {
        self.fire_along(request, FiringCommit::default(), None).await
    }

    /// As [`Host::fire`], and has more become durable with it; see [`Engine::start_with`]. `place` was taken at the
    /// trigger's gate before; without it, one is waited for.
    pub(crate) async fn fire_along(
        &self,
        request: Fire<'_>,
        along: FiringCommit,
        place: Option<Place>,
    ) -> Result<Begun, FireError> {
        if self.is_holding() {
            return Err(FireError::RunsHeld);
        }
        if let Some(by) = self.disabled_by(request.deployment, Some(&request.trigger.name)) {
            let (workflow, trigger) = (&request.deployment.workflow.name, &request.trigger.name);
            return Err(FireError::Disabled { by, workflow: workflow.clone(), trigger: trigger.clone() });
        }
        if self.engine.runs_in_progress() >= self.live().runs_max {
            return Err(FireError::Busy);
        }
        if !self.store_runs() {
            return Err(FireError::StorePaused);
        }
        let Fire { deployment, trigger, outputs, tracking_id, wants_response, trace } = request;
        let place = match (place, trigger.concurrency) {
            (Some(place), _) => Some(place),
            (None, None) => None,
            (None, Some(limit)) => {
                let key = gate_key(&deployment.workflow.name, &trigger.name);
                Some(self.hub.gates.enter(&key, limit).await.map_err(|_| FireError::Busy)?)
            }
        };
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
        let (accepted, left) = self.engine.start_with(request, along).await.map_err(FireError::Start)?;
        let (mut begun, mut held) = (Begun::default(), None);
        let mut runs = Vec::new();
        match accepted {
            Accepted::Runs(handles) => runs = handles,
            Accepted::Queued { runs, first } => begun = Begun { runs, first, handle: None },
            Accepted::Held { condition } => held = Some(condition),
        }
        if !runs.is_empty() {
            begun.runs = runs.iter().map(|run| run.id).collect();
            begun.first = runs.first().map(|run| Arc::clone(&run.start));
        }
        if let Some(place) = place {
            place.keep(&begun.runs);
        }
        // Those that the store takes no start of give their places back; see `Hub::gone`.
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
            Some(condition) => Err(FireError::Held { condition }),
            None => Ok(begun),
        }
    }

    /// Hands a run a command. False when the run is not in progress.
    pub(crate) async fn command(&self, run: RunId, command: Command) -> bool {
        self.engine.command(run, command).await
    }

    /// Whether there is nothing to keep of breakers and limiters.
    pub(crate) fn services_are_fresh(&self) -> bool {
        self.engine.registry().snapshot().services.is_empty()
    }

    /// Keeps the state of breakers and limiters for the next process.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn save_resilience(&self) -> Result<(), loom_store::Error> {
        let snapshot = serde_json::to_vec(&self.engine.registry().snapshot()).unwrap_or_default();
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: "server".into(),
            key: "resilience".into(),
            expect: KeyExpectation::Any,
            value: Some(Bytes::from(snapshot)),
        });
        self.store.commit(commit).await.map(drop)
    }

    /// What can change while the host is open.
    pub(crate) fn live(&self) -> LiveSettings {
        *self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes new settings from now on.
    pub fn adopt(&self, live: LiveSettings) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Begins nothing more: triggers do not fire, requests start no run, runs make no further call. Waits for the calls in flight for
    /// at most `limit`, while everything else is still answered and `/readyz` says 503; gives how many were left then.
    ///
    /// # Cancel safety
    /// The host keeps draining.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.draining.cancel();
        self.engine.drain(limit).await
    }

    /// Stops: triggers first, then runs, which the next process takes up where they are. Everything that was taken in
    /// is on the disk when this returns.
    ///
    /// # Errors
    /// The store cannot be closed in order; what it had answered is on the disk all the same.
    pub async fn shut_down(&self) -> Result<(), loom_store::Error> {
        self.draining.cancel();
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.engine.shut_down().await;
        if let Some(recorder) = &self.hub.recorder {
            recorder.exporter().shut_down().await;
        }
        // On a disk that is full just now the last word about circuits is lost; all that was answered is there.
        // Whoever only looked at a folder changes nothing in it.
        if self.is_in_charge()
            && self.store_runs()
            && let Err(error) = self.save_resilience().await
        {
            tracing::warn!(%error, "circuits and limiters are as they were kept last");
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
    /// The span that the runs belong under, if the caller named one.
    pub(crate) trace: Option<TraceParent>,
}

/// What a trigger that fired has started.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// All runs, in their order.
    pub(crate) runs: Vec<RunId>,
    /// What the first starts from.
    pub(crate) first: Option<Arc<RunStart>>,
    /// The first, unless it waits for its turn with very many others.
    pub(crate) handle: Option<RunHandle>,
}

/// Why a trigger that fires starts no run.
#[derive(Debug)]
pub(crate) enum FireError {
    /// Too much is going on; later may be better.
    Busy,
    /// The store takes nothing in.
    StorePaused,
    /// Nothing starts until somebody releases the runs.
    RunsHeld,
    /// The trigger is disabled.
    Disabled {
        /// By whom.
        by: DisabledBy,
        /// Whose trigger.
        workflow: Arc<str>,
        /// Which trigger.
        trigger: Arc<str>,
    },
    /// A condition of the trigger does not hold.
    Held { condition: usize },
    /// The engine said no.
    Start(StartError),
}

pub(crate) fn gate_key(workflow: &str, trigger: &str) -> String {
    format!("{}/{}", workflow.to_lowercase(), trigger.to_lowercase())
}

/// The key of this store, made on first use. Of two processes that make one, the store takes the first.
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
        });
        match store.commit(commit).await {
            Ok(_) => return Ok(key),
            Err(loom_store::Error::Conflict(Conflict::Key { .. })) => {}
            // Nothing is signed for anybody by one who only looks.
            Err(loom_store::Error::ReadOnly) => return Ok(key),
            Err(error) => return Err(error.into()),
        }
    }
}
