//! The engine's builder: handlers, store, clock and environment.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, RwLock, atomic::AtomicUsize},
    time::Duration,
};

use loom_definition::{model::EffectKind, policy::ChaosPlan};
use loom_expression::Timestamp;
use loom_memory::StoredMemory;
use loom_resilience::ResilienceRegistry;
use loom_store::{MemoryStore, RunIdSource, Standing, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Engine;
use crate::{
    chaos::Chaos,
    clock::RunClock,
    durable::Durable,
    environment::Environment,
    guard::Services,
    live_text::Boards,
    pool::Pools,
    ports::{ActionHandler, Clock, Stopwatch},
    shared::{
        Shared, aside::Aside, awake::Awake, handlers::Handlers, held::Held, parking::Parking, queue::Queue,
        wheel::Wheel,
    },
    time,
    watcher::Watcher,
};

/// Configures and builds an [`Engine`].
pub struct EngineBuilder {
    environment: Environment,
    handlers: Handlers,
    registry: Option<Arc<ResilienceRegistry>>,
    store: Option<Arc<dyn Store>>,
    watcher: Option<Arc<dyn Watcher>>,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
    chaos: Option<Arc<ChaosPlan>>,
    park_after: Option<Duration>,
    stopwatch: Arc<dyn Stopwatch>,
    node: Option<Standing>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Default for EngineBuilder {
    /// The system clock, and nothing else.
    fn default() -> Self {
        EngineBuilder {
            environment: Environment::default(),
            handlers: Handlers::default(),
            registry: None,
            store: None,
            watcher: None,
            clock: Arc::new(crate::clock::SystemClock),
            seed: None,
            chaos: None,
            park_after: None,
            stopwatch: Arc::new(crate::clock::TokioStopwatch::start()),
            node: None,
        }
    }
}

impl EngineBuilder {
    /// Sets what the host provides to all runs: settings, secrets, limits.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Registers the handler for one kind of action, replacing an earlier one.
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

    /// Like [`EngineBuilder::handler`], unless this kind already has a handler.
    #[must_use]
    pub fn default_handler(self, effect: EffectKind, handler: Arc<dyn ActionHandler>) -> Self {
        let named = match &effect {
            EffectKind::Custom(name) => self.handlers.custom.contains_key(&name.to_lowercase()),
            effect => self.handlers.known.iter().any(|(kind, _)| kind == effect),
        };
        if named { self } else { self.handler(effect, handler) }
    }

    /// Registers the handler for actions of type `name`, a type that the language does not define. Names are compared
    /// without regard to case.
    #[must_use]
    pub fn custom(self, name: &str, handler: Arc<dyn ActionHandler>) -> Self {
        self.handler(EffectKind::Custom(Arc::from(name)), handler)
    }

    /// Shares circuit breakers and rate limiters with other engines or other code.
    #[must_use]
    pub fn registry(mut self, registry: Arc<ResilienceRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Keeps runs in a store, so that they survive the process. Without a store, runs live in memory only.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the watcher of all runs that are started without a watcher of their own, child workflows included.
    #[must_use]
    pub fn watcher(mut self, watcher: Arc<dyn Watcher>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// Replaces the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Derives the seeds of runs from `seed` instead of the system's randomness, so that a simulation can be repeated.
    /// Not for production: anyone who knows the seed can predict `rand()`, `guid()` and the jitter of retries.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Injects faults into calls. Only the host program can request this; a definition cannot. Every injection is logged, and
    /// noted in the history of its run.
    #[must_use]
    pub fn chaos(mut self, plan: Arc<ChaosPlan>) -> Self {
        self.chaos = Some(plan);
        self
    }

    /// Replaces what measures how long a run has used a thread before others have their turn: tokio's clock by default.
    #[must_use]
    pub fn stopwatch(mut self, stopwatch: Arc<dyn Stopwatch>) -> Self {
        self.stopwatch = stopwatch;
        self
    }

    /// Lets runs that only wait leave memory: at once if they wait longer than `after` for a timer, and after `after` if they
    /// wait for something that may come at any time. Such a run continues when what it waits for has come, as after a restart.
    /// A run stays in memory while its [`RunHandle`](crate::RunHandle) exists. Needs a store; by default, all runs stay in
    /// memory.
    #[must_use]
    pub fn park_after(mut self, after: Duration) -> Self {
        self.park_after = Some(after);
        self
    }

    /// Makes the engine one of several nodes on a store: it continues the runs of the shards that it owns, and starts runs in
    /// them. Its store has to be a [`NodeStore`](loom_store::NodeStore) with the same standing. See [`Engine::gain`] and
    /// [`Engine::lose`].
    #[must_use]
    pub fn node(mut self, standing: Standing) -> Self {
        self.node = Some(standing);
        self
    }

    /// Builds the engine.
    pub fn build(self) -> Engine {
        let services = Services::new(self.registry, self.environment.policies.clone());
        let mut environment = self.environment;
        let memory_clock = Arc::clone(&self.clock);
        let store = self.store;
        let memory = environment.memory.get_or_insert_with(|| {
            let store = store.clone().unwrap_or_else(|| Arc::new(MemoryStore::default()));
            StoredMemory::new(store, Arc::new(move || time::millis(memory_clock.now())))
        });
        let memory = memory.clone();
        let environment = Arc::new(environment);
        let clock = RunClock::from(Arc::clone(&self.clock), Timestamp::MIN);
        let parking = Parking::new(self.park_after, environment.budgets.runs_max, clock);
        let node = self.node;
        Engine::of(Arc::new(Shared {
            environment: Arc::clone(&environment),
            memory,
            handlers: self.handlers,
            services,
            chaos: self.chaos.map(Chaos::new),
            clock: self.clock,
            workflows: Mutex::new(HashMap::new()),
            disabled: RwLock::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            flights: Arc::default(),
            ids: Mutex::new(RunIdSource::new(0, None)),
            held: Mutex::new(Held::default()),
            seed: self.seed,
            durable: store.map(|store| Durable::new(store, environment, node.clone())),
            watcher: self.watcher,
            suspects: Mutex::default(),
            careful: false.into(),
            standing_by: false.into(),
            alone: Arc::default(),
            messaged: Mutex::default(),
            awake: Awake::default(),
            idle: AtomicUsize::new(0),
            parking,
            wheel: Wheel::default(),
            queue: Queue::default(),
            gates: Arc::default(),
            aside: Aside::default(),
            #[cfg(test)]
            faults: crate::shared::faults::Faults::default(),
            pools: Pools::default(),
            stopwatch: self.stopwatch,
            recovered: std::sync::OnceLock::new(),
            answering: tokio::sync::Mutex::default(),
            boards: Boards::default(),
            node,
        }))
    }
}

impl Engine {
    /// Shared memory: that of the environment, or else one in the engine's store. All that a process writes to it goes through
    /// clones of this value.
    pub fn memory(&self) -> &StoredMemory {
        &self.shared().memory
    }

    /// Returns a builder with the system clock and nothing else.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
}
