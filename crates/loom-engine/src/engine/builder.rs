//! How an engine is put together: its handlers, store, clock and settings.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use loom_definition::model::EffectKind;
use loom_resilience::ResilienceRegistry;
use loom_store::{RunIdSource, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Engine, Held, Inner, Watcher, queue::Queue};
use crate::{
    durable::Durable,
    guard::Services,
    machine::Environment,
    ports::{ActionHandler, Clock},
};

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
    seed: Option<u64>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Default for EngineBuilder {
    /// Nothing but the system's clock.
    fn default() -> Self {
        EngineBuilder {
            environment: Environment::default(),
            handlers: Handlers::default(),
            registry: None,
            store: None,
            watcher: None,
            clock: Arc::new(crate::clock::SystemClock),
            seed: None,
        }
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

    /// As [`EngineBuilder::handler`], unless somebody was named for this kind before.
    #[must_use]
    pub fn default_handler(self, effect: EffectKind, handler: Arc<dyn ActionHandler>) -> Self {
        let named = match &effect {
            EffectKind::Custom(name) => self.handlers.custom.contains_key(&name.to_lowercase()),
            effect => self.handlers.known.iter().any(|(kind, _)| kind == effect),
        };
        if named { self } else { self.handler(effect, handler) }
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

    /// Draws the seeds of runs from `seed` instead of the system's randomness, so that a simulation can be played
    /// again. Whoever knows it can guess callback addresses: not for serving.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
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
                flights: Arc::default(),
                ids: Mutex::new(RunIdSource::new(0, None)),
                held: Mutex::new(Held::default()),
                seed: self.seed,
                durable: self.store.map(Durable::new),
                watcher: self.watcher,
                suspects: Mutex::default(),
                careful: false.into(),
                standing_by: false.into(),
                alone: Arc::default(),
                ordered: Mutex::default(),
                runs: Mutex::new(HashMap::new()),
                queue: Queue::default(),
            }),
        }
    }
}
