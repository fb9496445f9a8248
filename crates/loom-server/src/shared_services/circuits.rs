//! Circuits of the cluster: each node counts its own calls; a circuit that opens or closes at one node does so at all.
//!
//! The state of a circuit is one named value, which the others follow through the feed of changes. When the time of an open circuit
//! is over, one node at a time may probe: the right to do so is in the value, for a limited time, and the node that replaces the value
//! first has it. While the store does not answer, an open circuit stays open, and each node continues to count its own calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use loom_resilience::{
    BreakerSnapshot, CircuitState, Mode, RegistrySnapshot, ResilienceRegistry, Scope, Service,
    ServiceSnapshot,
};
use loom_store::{
    Commit, Committed, Conflict, Error as StoreError, KeyExpectation, KeyQuery, KeyWrite, Standing, Store,
    UnixMillis,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::limits::{STORE_MAX, SharedClock};

/// The namespace of the states; keys are the names of services.
pub(crate) const NAMESPACE: &str = "circuit";

/// States that are read at a time.
const PAGE: usize = 200;

/// How long a state is kept that nothing has changed.
const KEPT: Duration = Duration::from_hours(24 * 7);

/// The state of a circuit, as all nodes see it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Agreed {
    /// When it was so, by the clock of the database, in microseconds since 1970-01-01 UTC.
    at_us: u64,
    breaker: BreakerSnapshot,
    prober: Option<Prober>,
}

/// Who may probe, and until when.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Prober {
    node: u64,
    until_us: u64,
}

/// What this node knows of a circuit.
#[derive(Debug, Default)]
struct Known {
    version: u64,
    agreed: Option<Agreed>,
    /// The generation of the circuit here when it was last the same as that of the others.
    generation: Option<u32>,
}

/// The circuits of all services.
pub(crate) struct Circuits {
    store: Arc<dyn Store>,
    standing: Standing,
    clock: SharedClock,
    known: Mutex<HashMap<Arc<str>, Known>>,
    /// The circuits as this node sees them.
    registry: OnceLock<Weak<ResilienceRegistry>>,
}

impl std::fmt::Debug for Circuits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circuits").field("services", &self.lock().len()).finish_non_exhaustive()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Agreed {
    fn age(&self, now_us: u64) -> Duration {
        Duration::from_micros(now_us.saturating_sub(self.at_us))
    }

    /// Whether it is open, and its time is not over.
    fn refuses(&self, now_us: u64) -> bool {
        self.breaker.isolated
            || (self.breaker.state == CircuitState::Open && self.breaker.open_for > self.age(now_us))
    }

    fn prober(&self, now_us: u64) -> Option<u64> {
        self.prober.filter(|prober| prober.until_us > now_us).map(|prober| prober.node)
    }
}

impl Circuits {
    pub(crate) fn new(store: Arc<dyn Store>, standing: Standing) -> Circuits {
        let clock = SharedClock::new(Arc::clone(&store));
        Circuits { store, standing, clock, known: Mutex::default(), registry: OnceLock::new() }
    }

    /// Sets the registry whose circuits are those of the cluster.
    pub(crate) fn belong_to(&self, registry: &Arc<ResilienceRegistry>) {
        self.registry.set(Arc::downgrade(registry)).ok();
    }

    fn registry(&self) -> Option<Arc<ResilienceRegistry>> {
        self.registry.get().and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> u64 {
        self.standing.node().map_or(0, |node| node.0)
    }

    /// Takes over the states that other nodes have stored.
    pub(crate) async fn follow(&self) -> Result<(), StoreError> {
        let now_us = micros(self.clock.now().await?);
        let mut after = None;
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = self.store.keys(query).await?;
            for found in page.values {
                if let Ok(agreed) = serde_json::from_slice::<Agreed>(&found.value) {
                    self.adopt(&found.key, found.version, agreed, now_us);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Takes a state over, unless it is known already.
    fn adopt(&self, service: &Arc<str>, version: u64, agreed: Agreed, now_us: u64) {
        let Some(registry) = self.registry() else { return };
        let mut all = self.lock();
        let known = all.entry(Arc::clone(service)).or_default();
        if known.version >= version {
            return;
        }
        let before = known.agreed.replace(agreed.clone());
        known.version = version;
        // Only who may probe has changed.
        let is_same =
            before.is_some_and(|before| before.at_us == agreed.at_us && before.breaker == agreed.breaker);
        if is_same && known.generation.is_some() {
            return;
        }
        let age = agreed.age(now_us);
        if let Some(service) = registry.get(service) {
            let breaker = service.breaker();
            if breaker.config().scope == Scope::Cluster {
                breaker.follow(&agreed.breaker, age, service.clock().now());
                known.generation = Some(breaker.generation());
            }
        } else {
            // For its first call.
            let saved = ServiceSnapshot::of_circuit(service.to_string(), agreed.breaker);
            let taken = registry.clock().unix_time().saturating_sub(age);
            let taken = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
            registry.restore(&RegistrySnapshot::new(taken, vec![saved]));
        }
    }

    /// Stores the circuits that have opened or closed here.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let Some(registry) = self.registry() else { return Ok(()) };
        for service in registry.all() {
            let breaker = service.breaker();
            let (config, generation) = (breaker.config(), breaker.generation());
            if config.scope != Scope::Cluster || config.mode != Mode::Enforce {
                continue;
            }
            let is_known = {
                let mut all = self.lock();
                match all.get_mut(service.name()) {
                    // A circuit that was created from the state of the others.
                    Some(known) if known.generation.is_none() => {
                        known.generation = Some(generation);
                        let agreed = known.agreed.as_ref().map(|agreed| agreed.breaker.state);
                        agreed.is_some_and(|agreed| agreed == breaker.state())
                    }
                    Some(known) => known.generation == Some(generation),
                    // Nobody has changed it.
                    None => breaker.state() == CircuitState::Closed,
                }
            };
            if !is_known && breaker.state() != CircuitState::HalfOpen {
                self.publish_one(&service, false).await?;
            }
        }
        Ok(())
    }

    /// Stores the state of a circuit that an operator has changed here.
    pub(crate) async fn publish_order(&self, service: &str) -> Result<(), StoreError> {
        match self.registry().and_then(|registry| registry.get(service)) {
            Some(service) if service.breaker().config().scope == Scope::Cluster => {
                self.publish_one(&service, true).await
            }
            _ => Ok(()),
        }
    }

    async fn publish_one(&self, service: &Service, is_order: bool) -> Result<(), StoreError> {
        loop {
            let found = self.read(service.name()).await?;
            let now_us = micros(self.clock.now().await?);
            let breaker = service.breaker();
            let (generation, mut snapshot) = (breaker.generation(), breaker.snapshot(service.clock().now()));
            // Each node counts on its own.
            snapshot.consecutive_failures = 0;
            if let Some((version, agreed)) = &found
                && !is_order
                && agreed.prober(now_us) != Some(self.me())
                && agreed.refuses(now_us)
            {
                // Another node has opened it before.
                self.adopt(service.name(), *version, agreed.clone(), now_us);
                if let Some(known) = self.lock().get_mut(service.name()) {
                    known.generation = Some(breaker.generation());
                }
                return Ok(());
            }
            let agreed = Agreed { at_us: now_us, breaker: snapshot, prober: None };
            let before = found.map(|(version, _)| version);
            if self.replace(service.name(), before, agreed, Some(generation)).await? {
                return Ok(());
            }
        }
    }

    /// See [`loom_resilience::Shared::may_probe`].
    pub(crate) async fn may_probe(&self, service: &Arc<str>, lease: Duration) -> bool {
        let failure = match timeout(STORE_MAX, self.ask_to_probe(service, lease)).await {
            Ok(Ok(may)) => return may,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::debug!(
            failure,
            service = &**service,
            "cannot ask the other nodes whether a circuit may be probed; it stays open"
        );
        false
    }

    async fn ask_to_probe(&self, service: &Arc<str>, lease: Duration) -> Result<bool, StoreError> {
        let me = self.me();
        let now_us = micros(self.clock.now().await?);
        let prober = |agreed: &Agreed| agreed.prober(now_us);
        let seen = self.lock().get(service).and_then(|known| known.agreed.as_ref().and_then(prober));
        match seen {
            Some(node) if node == me => return Ok(true),
            Some(_) => return Ok(false),
            None => {}
        }
        loop {
            let Some((version, agreed)) = self.read(service).await? else {
                // It opened here a moment ago and is about to be stored.
                return Ok(true);
            };
            let now_us = micros(self.clock.now().await?);
            if agreed.breaker.state == CircuitState::Closed {
                // Another node has probed successfully.
                self.adopt(service, version, agreed, now_us);
                return Ok(true);
            }
            if agreed.refuses(now_us) {
                self.adopt(service, version, agreed, now_us);
                return Ok(false);
            }
            match agreed.prober(now_us) {
                Some(node) if node == me => return Ok(true),
                Some(_) => return Ok(false),
                None => {}
            }
            let until_us = now_us.saturating_add(micros(lease));
            let agreed = Agreed { prober: Some(Prober { node: me, until_us }), ..agreed };
            if self.replace(service, Some(version), agreed, None).await? {
                return Ok(true);
            }
        }
    }

    async fn read(&self, service: &str) -> Result<Option<(u64, Agreed)>, StoreError> {
        let found = self.store.key(NAMESPACE, service).await?;
        Ok(found.and_then(|found| {
            let agreed = serde_json::from_slice(&found.value).ok()?;
            Some((found.version, agreed))
        }))
    }

    /// Replaces a state; false if another node has done so before.
    async fn replace(
        &self,
        service: &Arc<str>,
        before: Option<u64>,
        agreed: Agreed,
        generation: Option<u32>,
    ) -> Result<bool, StoreError> {
        let expires = Duration::from_micros(agreed.at_us) + agreed.breaker.open_for + KEPT;
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: NAMESPACE.into(),
            key: Arc::clone(service),
            expect: before.map_or(KeyExpectation::Absent, KeyExpectation::Version),
            value: Some(Bytes::from(serde_json::to_vec(&agreed).unwrap_or_default())),
            // An isolation lasts until an operator ends it.
            expires: (!agreed.breaker.isolated)
                .then(|| UnixMillis(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX))),
            ..KeyWrite::default()
        });
        match self.store.commit(commit).await {
            Ok(Committed::Written(written)) => {
                let mut all = self.lock();
                let known = all.entry(Arc::clone(service)).or_default();
                if let Some(version) = written.versions.first().copied().flatten()
                    && version > known.version
                {
                    (known.version, known.agreed) = (version, Some(agreed));
                    known.generation = generation.or(known.generation);
                }
                Ok(true)
            }
            Ok(Committed::Duplicate(_)) | Err(StoreError::Conflict(Conflict::Key { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
