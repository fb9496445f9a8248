//! The registry: one pipeline per named service, created on first use and shared by all callers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    config::ConfigError,
    observer::Observer,
    pipeline::{Pipeline, Service, ServiceStatus},
    policy::Policy,
    shared::{Shared, Sharing},
    snapshot::{RegistrySnapshot, ServiceSnapshot},
};

/// Named services. Put it into an `Arc` to share it.
///
/// Looking up a service costs a map search; keep the [`Service`] where that matters. Memory is bounded: at capacity, the
/// registry evicts services that have no other owner and the state of a new one, then the least recently used. A service that
/// is evicted while it has another owner continues to work for that owner, with a state of its own.
///
/// ```
/// # use loom_resilience::{BreakerConfig, Limit, Policy, ResilienceRegistry};
/// let registry = ResilienceRegistry::builder()
///     .defaults(Policy::standard())
///     .service("billing", |policy| policy.limit(Limit::per_second(50).burst(10)))
///     .build()?;
/// assert!(registry.service("billing").policy().limiter.is_some());
/// assert!(registry.service("search").policy().limiter.is_none());
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
pub struct ResilienceRegistry {
    defaults: RwLock<Policy>,
    policies: RwLock<BTreeMap<Arc<str>, Policy>>,
    services: RwLock<BTreeMap<Arc<str>, Entry>>,
    /// Saved states of services that have not been used since, with the wall time of the snapshot.
    saved: Mutex<BTreeMap<String, (ServiceSnapshot, Duration)>>,
    capacity: usize,
    uses: AtomicU64,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
    shared: Option<Arc<dyn Shared>>,
}

struct Entry {
    service: Service,
    last_use: AtomicU64,
}

/// The registry has no service of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no service named `{name}`")]
pub struct UnknownService {
    /// The name.
    pub name: String,
}

/// Builds a [`ResilienceRegistry`].
#[must_use]
pub struct RegistryBuilder {
    defaults: Policy,
    services: Vec<(String, PolicyChange)>,
    capacity: usize,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
    shared: Option<Arc<dyn Shared>>,
}

type PolicyChange = Box<dyn FnOnce(Policy) -> Policy>;

impl RegistryBuilder {
    /// The policy of services that have none of their own. [`Policy::standard`] unless set.
    pub fn defaults(mut self, policy: Policy) -> Self {
        self.defaults = policy;
        self
    }

    /// The policy of one service, as a change of the defaults.
    pub fn service(mut self, name: &str, change: impl FnOnce(Policy) -> Policy + 'static) -> Self {
        self.services.push((name.to_owned(), Box::new(change)));
        self
    }

    /// The most services, at least 1. 4,096 unless set.
    pub const fn capacity(mut self, services: usize) -> Self {
        self.capacity = services;
        self
    }

    /// The clock. The system's unless set.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The observer of all services.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Shares limits and circuits with other processes, as far as their [`Scope`](crate::Scope) says.
    pub fn shared(mut self, shared: Arc<dyn Shared>) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Validates the policies and creates the registry.
    ///
    /// # Errors
    /// All issues of the first policy that is not valid.
    pub fn build(self) -> Result<ResilienceRegistry, ConfigError> {
        self.defaults.validate()?;
        let mut policies = BTreeMap::new();
        for (name, change) in self.services {
            let policy = change(self.defaults.clone());
            policy.validate()?;
            policies.insert(Arc::from(name), policy);
        }
        Ok(ResilienceRegistry {
            defaults: RwLock::new(self.defaults),
            policies: RwLock::new(policies),
            services: RwLock::new(BTreeMap::new()),
            saved: Mutex::new(BTreeMap::new()),
            capacity: self.capacity.max(1),
            uses: AtomicU64::new(0),
            clock: self.clock,
            observer: self.observer,
            shared: self.shared,
        })
    }
}

impl Default for ResilienceRegistry {
    fn default() -> Self {
        Self::builder().build().expect("the standard policy is valid")
    }
}

impl ResilienceRegistry {
    /// Starts with the standard policy, 4,096 services, the system's clock and no observer.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            defaults: Policy::standard(),
            services: Vec::new(),
            capacity: 4_096,
            clock: Clock::system(),
            observer: None,
            shared: None,
        }
    }

    /// The clock that all services share.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The service `name`, created on first use with its own policy or with the defaults.
    pub fn service(&self, name: &str) -> Service {
        if let Some(service) = self.get(name) {
            return service;
        }
        let policy = read(&self.policies).get(name).cloned();
        let policy = policy.unwrap_or_else(|| read(&self.defaults).clone());
        self.make(name, policy)
    }

    /// The service `name`, created on first use with `policy`. An existing service keeps its policy.
    ///
    /// # Errors
    /// All issues of `policy`.
    pub fn service_with(&self, name: &str, policy: &Policy) -> Result<Service, ConfigError> {
        if let Some(service) = self.get(name) {
            return Ok(service);
        }
        policy.validate()?;
        Ok(self.make(name, policy.clone()))
    }

    /// The service `name`, if it exists.
    pub fn get(&self, name: &str) -> Option<Service> {
        let services = read(&self.services);
        let entry = services.get(name)?;
        entry.last_use.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(entry.service.clone())
    }

    fn make(&self, name: &str, policy: Policy) -> Service {
        let mut services = write(&self.services);
        if let Some(entry) = services.get(name) {
            return entry.service.clone();
        }
        if services.len() >= self.capacity {
            evict(&mut services, self.capacity);
        }
        let pipeline = Pipeline::new(name, policy, self.clock.clone(), self.observer.clone())
            .expect("policies are validated before this call");
        let pipeline = match &self.shared {
            Some(shared) => pipeline.shared(Sharing::new(Arc::clone(shared))),
            None => pipeline,
        };
        let service = Service::from(pipeline);
        if let Some((saved, taken_at)) = lock(&self.saved).remove(name) {
            service.restore(&saved, self.clock.unix_time().saturating_sub(taken_at));
        }
        let last_use = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        services.insert(Arc::clone(service.name()), Entry { service: service.clone(), last_use });
        service
    }

    /// The number of services.
    pub fn len(&self) -> usize {
        read(&self.services).len()
    }

    /// Whether there are no services.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The status of every service, by name. Includes services with a restored state that have not been used since.
    pub fn list(&self) -> Vec<ServiceStatus> {
        let now = self.clock.unix_time();
        let mut all: BTreeMap<String, ServiceStatus> = lock(&self.saved)
            .values()
            .map(|(saved, at)| aged(saved, now.saturating_sub(*at)))
            .map(|saved| (saved.name.clone(), ServiceStatus::of_saved(&saved)))
            .collect();
        for service in self.all() {
            all.insert(service.name().to_string(), service.status());
        }
        all.into_values().collect()
    }

    /// All services.
    pub fn all(&self) -> Vec<Service> {
        read(&self.services).values().map(|entry| entry.service.clone()).collect()
    }

    /// Changes an existing service, or the restored state of one that has not been used since.
    fn change(
        &self,
        name: &str,
        living: impl FnOnce(&Service),
        saved: impl FnOnce(&mut ServiceSnapshot),
    ) -> Result<(), UnknownService> {
        // The saved states are checked first, so a service that is created concurrently is either found below, or restored
        // from the state that is changed here.
        let mut waiting = lock(&self.saved);
        if let Some((snapshot, _)) = waiting.get_mut(name) {
            saved(snapshot);
            return Ok(());
        }
        drop(waiting);
        let service = self.get(name).ok_or_else(|| UnknownService { name: name.to_owned() })?;
        living(&service);
        Ok(())
    }

    /// The effective policy of a service in plain words; for one that does not exist yet, the policy that it would get.
    pub fn describe(&self, name: &str) -> String {
        if let Some(service) = self.get(name) {
            return service.describe();
        }
        let policy = read(&self.policies).get(name).cloned();
        format!("service {name}\n{}", policy.unwrap_or_else(|| read(&self.defaults).clone()))
    }

    /// Returns a service to its initial state: circuit closed, permits available, budget unspent.
    ///
    /// # Errors
    /// [`UnknownService`].
    pub fn reset(&self, name: &str) -> Result<(), UnknownService> {
        self.change(
            name,
            |service| service.reset(),
            |saved| *saved = ServiceSnapshot::fresh(saved.name.clone()),
        )
    }

    /// Refuses every call to a service until it is closed or reset.
    ///
    /// # Errors
    /// [`UnknownService`].
    pub fn isolate(&self, name: &str) -> Result<(), UnknownService> {
        self.change(name, |service| service.breaker().isolate(), |saved| saved.breaker.isolated = true)
    }

    /// Ends an isolation and closes the circuit.
    ///
    /// # Errors
    /// [`UnknownService`].
    pub fn close(&self, name: &str) -> Result<(), UnknownService> {
        let now = self.clock.now();
        self.change(name, |service| service.breaker().close(now), |saved| saved.breaker.close())
    }

    /// Sets the policy of a service, now and for when it is created again. An existing service keeps its state and its
    /// consumption; see [`Pipeline::reconfigure`].
    ///
    /// # Errors
    /// All issues of the policy; nothing changes then.
    pub fn reconfigure(&self, name: &str, policy: Policy) -> Result<(), ConfigError> {
        policy.validate()?;
        if let Some(service) = self.get(name) {
            service.reconfigure(policy.clone())?;
        }
        write(&self.policies).insert(Arc::from(name), policy);
        Ok(())
    }

    /// Sets the defaults. Existing services that use the defaults change with them.
    ///
    /// # Errors
    /// All issues of the policy; nothing changes then.
    pub fn reconfigure_defaults(&self, policy: &Policy) -> Result<(), ConfigError> {
        policy.validate()?;
        let before = std::mem::replace(&mut *write(&self.defaults), policy.clone());
        for service in self.all() {
            let inherits = !read(&self.policies).contains_key(service.name()) && service.policy() == before;
            if inherits {
                service.reconfigure(policy.clone())?;
            }
        }
        Ok(())
    }

    /// The state of every service that differs from a new one, to store for a restart.
    pub fn snapshot(&self) -> RegistrySnapshot {
        let taken_at = self.clock.unix_time();
        // Restored states of services that have not been used since are still valid, only older. They are read first, so
        // that a service that is created meanwhile is found in at least one place.
        let mut services: BTreeMap<String, ServiceSnapshot> = lock(&self.saved)
            .values()
            .map(|(snapshot, at)| (snapshot.name.clone(), aged(snapshot, taken_at.saturating_sub(*at))))
            .collect();
        for service in self.all() {
            services.insert(service.name().to_string(), service.snapshot());
        }
        let services = services.into_values().filter(|snapshot| !snapshot.is_fresh()).collect();
        RegistrySnapshot { taken_at_unix_ms: taken_at.as_millis() as u64, services }
    }

    /// Restores saved states: at once for existing services, on first use for the others.
    pub fn restore(&self, snapshot: &RegistrySnapshot) {
        let taken_at = Duration::from_millis(snapshot.taken_at_unix_ms);
        let age = self.clock.unix_time().saturating_sub(taken_at);
        for saved in &snapshot.services {
            if let Some(service) = self.get(&saved.name) {
                service.restore(saved, age);
                continue;
            }
            let mut waiting = lock(&self.saved);
            if waiting.len() < self.capacity {
                waiting.insert(saved.name.clone(), (saved.clone(), taken_at));
            }
        }
    }
}

/// The same state, `by` later.
fn aged(snapshot: &ServiceSnapshot, by: Duration) -> ServiceSnapshot {
    let mut aged = snapshot.clone();
    aged.breaker.open_for = aged.breaker.open_for.saturating_sub(by);
    aged.breaker.opened_ago = aged.breaker.opened_ago.saturating_add(by);
    aged.breaker.closed_ago = aged.breaker.closed_ago.saturating_add(by);
    aged.limiter.frozen_for = aged.limiter.frozen_for.saturating_sub(by);
    for limit in &mut aged.limiter.limits {
        match limit {
            crate::LimitSnapshot::Bucket { full_after } => *full_after = full_after.saturating_sub(by),
            crate::LimitSnapshot::Window { granted } => {
                for (age, _) in granted {
                    *age = age.saturating_add(by);
                }
            }
        }
    }
    aged
}

/// Evicts services: one sixteenth of the capacity at a time, so that a full registry does not sort for each new service.
fn evict(services: &mut BTreeMap<Arc<str>, Entry>, capacity: usize) {
    let mut ranked: Vec<_> = services
        .iter()
        .map(|(name, entry)| {
            let held = entry.service.is_held();
            let snapshot = entry.service.snapshot();
            let rank = match (held, snapshot.is_fresh(), snapshot.breaker.is_fresh()) {
                (false, true, _) => 0,
                (false, false, true) => 1,
                (false, false, false) => 2,
                (true, ..) => 3,
            };
            (rank, entry.last_use.load(Ordering::Relaxed), Arc::clone(name))
        })
        .collect();
    ranked.sort_unstable();
    let wanted = (capacity / 16).max(1);
    let first_rank = ranked.first().map_or(0, |(rank, ..)| *rank);
    // Only services of the most dispensable kind, but at least one.
    for (index, (rank, _, name)) in ranked.into_iter().take(wanted).enumerate() {
        if index == 0 || rank == first_rank && rank < 2 {
            services.remove(&name);
        }
    }
}

impl fmt::Debug for ResilienceRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResilienceRegistry").field("services", &self.len()).finish_non_exhaustive()
    }
}

// A panic elsewhere leaves these maps consistent, because each change of them is a single call.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
