//! The life of a host: opening it, deploying to it, continuing or holding its runs, and shutting it down.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use loom_definition::{Surroundings, model::EffectKind};
use loom_engine::{
    EngineBuilder, Environment, PolicyBook, Watcher,
    audit::AuditSink,
    ports::{ActionHandler, Clock},
};
use loom_resilience::{Event, Observer as _, Policy, ResilienceRegistry, Shared};
use loom_store::{
    Commit, Conflict, Error as StoreError, KeyExpectation, KeyWrite, NodeStore, Shards, Standing, Store,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    batch::{
        pile::Piles,
        send::{Sender, TYPE},
    },
    cluster::Cluster,
    deploy::{DeployError, Deployment, Deployments, Origin, Source},
    host::{Host, HostError, HostSettings, LiveSettings, Recovery},
    hub::Hub,
    memory_changed,
    policies::Layers,
    remember, retain, revive, run_ended,
    service_history::Histories,
    sign::{KEY_BYTES, Signer},
    store_audit::StoreAudit,
    subscription,
    switches::Switches,
    telemetry::{Exporter, Recorder},
    triggers,
};

/// The number of unfinished runs that are read at once.
const PAGE: usize = 500;

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
        let (cluster, store, builder) = match settings.node.clone() {
            None => (None, store, builder),
            Some(node) => {
                let standing = Standing::default();
                let mine = Arc::new(NodeStore::new(Arc::clone(&store), standing.clone()));
                let since = store.latest().await?;
                let cluster = Arc::new(Cluster::new(store, since, standing.clone(), node));
                (Some(cluster), mine as Arc<dyn Store>, builder.node(standing))
            }
        };
        let file = settings.policies.clone().unwrap_or_default();
        let (layers, policies) = Layers::load(&*store, file).await?;
        environment.policies = PolicyBook::new(policies);
        environment.traced = exporter.is_some();
        environment.budgets.runs_max = settings.runs_max;
        let hub = Arc::new(Hub::new(exporter.map(Recorder::new)));
        let histories = Arc::new(Histories::new(Arc::clone(&clock)));
        let (tally, observed) = (Arc::clone(&hub.tally), Arc::clone(&histories));
        // Actions are guarded only by the policies in their definition.
        let registry = ResilienceRegistry::builder().defaults(Policy::none()).observer(Arc::new(
            move |event: &Event<'_>| {
                tally.on_event(event);
                observed.on_event(event);
            },
        ));
        let registry = match &cluster {
            Some(cluster) => registry.shared(Arc::clone(&cluster.services) as Arc<dyn Shared>),
            None => registry,
        };
        let registry = Arc::new(registry.build().expect("a policy without parts holds no contradiction"));
        if let Some(cluster) = &cluster {
            cluster.services.circuits.belong_to(&registry);
        }
        let switches = Switches::load(&*store).await?;
        let signer = Signer::open(signing_key(&*store).await?, &*store).await?;
        let callbacks = signer.callbacks(&settings.base);
        environment.callbacks = Some(callbacks.clone());
        let audit = Arc::new(StoreAudit::new(Arc::clone(&store), Arc::clone(&clock), environment.audit_days));
        environment.audit = Some(Arc::clone(&audit) as Arc<dyn AuditSink>);
        let sender = Arc::new(Sender::default());
        let builder = match settings.park_after {
            Some(after) => builder.park_after(after),
            None => builder,
        };
        let engine = builder
            .default_handler(EffectKind::Custom(TYPE.into()), Arc::clone(&sender) as Arc<dyn ActionHandler>)
            .environment(environment)
            .store(Arc::clone(&store))
            .clock(Arc::clone(&clock))
            .watcher(Arc::clone(&hub) as Arc<dyn Watcher>)
            .registry(registry)
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
        let deployments = Deployments::new(Arc::clone(&store), surroundings, settings.disabled.clone());
        let live = LiveSettings {
            runs_max: settings.runs_max,
            response_timeout: settings.response_timeout,
            retention: settings.retention,
        };
        let host = Arc::new(Host {
            live: RwLock::new(live),
            memory: engine.memory().clone(),
            engine,
            audit,
            clock,
            hub,
            histories,
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
            cluster,
        });
        sender.belongs_to(&host);
        if host.cluster.is_none() {
            let saved = host.store.key("server", "resilience").await?;
            let saved = saved.and_then(|saved| serde_json::from_slice(&saved.value).ok());
            host.engine.restore_services(saved.as_ref()).await?;
        }
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

    /// Deploys a definition. Returns the deployment and whether it changed.
    ///
    /// # Errors
    /// [`DeployError`]; the version deployed before stays in service.
    pub async fn deploy(self: &Arc<Self>, source: &Source) -> Result<(Arc<Deployment>, bool), DeployError> {
        self.activate(source, false).await
    }

    /// Deploys a definition that is `stored` already, or a new one.
    pub(crate) async fn activate(
        self: &Arc<Self>,
        source: &Source,
        stored: bool,
    ) -> Result<(Arc<Deployment>, bool), DeployError> {
        let source = self.with_policies(source);
        let (deployment, changed) =
            self.deployments.deploy(&source, self.now().unix_millis(), stored).await?;
        if changed {
            self.engine.deploy(Arc::clone(&deployment.workflow), deployment.parameters.clone());
            self.apply_disabled();
            if self.is_started() {
                self.warn_of_unknown(&deployment);
                memory_changed::begin(self, &deployment).await;
                triggers::start(self, &deployment);
            }
        }
        Ok((deployment, changed))
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

    /// Resumes all unfinished runs and starts the automatic triggers. Call it once, after the definitions are deployed and before
    /// the server listens.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovery, loom_store::Error> {
        if !self.services_are_fresh() {
            self.save_resilience().await?;
        }
        if self.cluster.is_none() {
            self.engine.clear_stored_services().await?;
        }
        let recovered = self.engine.recover(None).await?;
        self.ready.store(true, Ordering::Release);
        if self.cluster.is_none() {
            subscription::end_orphans(self, Shards::ALL).await?;
        }
        self.join().await?;
        for deployment in self.deployments.all() {
            memory_changed::begin(self, &deployment).await;
            triggers::start(self, &deployment);
        }
        for deployment in self.deployments.all() {
            self.warn_of_unknown(&deployment);
        }
        run_ended::start(self);
        retain::start(self);
        revive::start(self);
        if self.cluster.is_none() {
            remember::start(self);
        }
        Ok(Recovery { runs: recovered.runs.len() + recovered.waiting, unreadable: recovered.unreadable })
    }

    /// Holds all runs: resumes none, fires no trigger and rejects requests that start runs, for the lifetime of the host. Runs can be
    /// inspected, cancelled and suspended; resuming a run releases it. Call this once, instead of [`Host::recover`]. Returns the
    /// number of held runs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn hold_runs(self: &Arc<Self>) -> Result<usize, StoreError> {
        self.engine.stand_by().await?;
        self.holding.store(true, Ordering::Release);
        revive::start(self);
        remember::start(self);
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.store.unfinished(Shards::ALL, after, PAGE).await?;
            count += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.id),
                _ => return Ok(count),
            }
        }
    }

    /// Starts nothing more: triggers do not fire, requests start no run, runs make no further call. Waits for the calls in flight, for
    /// at most `limit`, while other requests are still served and `/readyz` returns 503. Returns the number of unfinished calls.
    ///
    /// # Cancel safety
    /// The host keeps draining.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.draining.cancel();
        let left = self.engine.drain(limit).await;
        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
        left
    }

    /// Shuts down: triggers first, then runs, which the next process resumes. Everything that was accepted is on disk when this
    /// returns.
    ///
    /// # Errors
    /// The store cannot be closed cleanly; everything it has acknowledged is on disk nevertheless.
    pub async fn shut_down(&self) -> Result<(), loom_store::Error> {
        self.draining.cancel();
        if let Some(cluster) = &self.cluster
            && self.is_started()
        {
            cluster.leave().await;
        }
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
