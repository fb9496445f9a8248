//! Guards the services that actions call: one attempt at a time, in the order that `loom-resilience` defines.
//!
//! Retries and timeouts belong to the machine, because their waits may outlive the process. The guards live in memory:
//! circuit breaker, rate limiter and bulkhead, in the registry under the service's name.

mod attempt;
mod settings;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use attempt::{Times, observed_notes, refusal_result, run_nested};
use loom_definition::{
    ActionIdx, Status, Workflow,
    model::Action,
    policy::{HedgeSpec, Policies, Resilience},
};
use loom_resilience::{
    BudgetConfig, CircuitState, Hedge, Instant, Mode, ObservedParts, Policy, ResilienceRegistry, Service,
    Verdict,
};
use settings::{Settings, Source, version_of};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    event::{CircuitHint, EffectResult, Note, Outcome, RetryHint},
    policies::PolicyBook,
    ports::Call,
    spent::LONG_LIMIT,
};

/// The most services that guard one action: those of its limiter, bulkhead and breaker, and that of its policy.
const SERVICES_MAX: usize = 4;

/// Maximum number of cached guards; beyond it the cache is cleared.
const CACHE_MAX: usize = 4_096;

/// Shorter waits are not reported.
const WAIT_TOLD: Duration = Duration::from_millis(1);

/// All services, and the services that each action uses.
pub(crate) struct Services {
    registry: Arc<ResilienceRegistry>,
    policies: PolicyBook,
    cache: RwLock<HashMap<CacheKey, Arc<Guarded>>>,
    /// By the name of the service.
    recorded: Mutex<HashMap<String, Arc<Mutex<Recorded>>>>,
    settings: Mutex<Settings>,
    /// Whether no call is admitted, because runs are being recovered that have places already.
    closed: watch::Sender<bool>,
}

/// Until it is dropped, no action is admitted to a service; see [`Services::close`].
#[must_use = "dropping it opens the services"]
pub(crate) struct Closed<'s>(&'s Services);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.closed.send_replace(false);
    }
}

/// The last change of a circuit that was recorded in a history.
#[derive(Debug)]
struct Recorded {
    generation: u32,
    state: CircuitState,
    /// The generation and the consecutive failures that were stored last.
    stored: (u32, u32),
}

/// The workflow's name and the first bytes of its hash (workflows with the same definition have separate services), the
/// action, and the origin that it calls.
type CacheKey = (Arc<str>, u64, ActionIdx, Option<Arc<str>>);

/// The services that guard an action: one, unless the definition names its rate limit, bulkhead or breaker differently.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// From outermost to innermost.
    services: Vec<(Service, Arc<Mutex<Recorded>>)>,
    /// The attempt timeout of the action and its mode, instead of those of the innermost service.
    attempt_timeout: Option<(Duration, Mode)>,
    hedge: Option<HedgeSpec>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("registry", &self.registry.len()).finish_non_exhaustive()
    }
}

impl Services {
    pub(crate) fn new(registry: Option<Arc<ResilienceRegistry>>, policies: PolicyBook) -> Services {
        let registry = registry.unwrap_or_else(|| {
            let registry = ResilienceRegistry::builder().defaults(Policy::none()).build();
            Arc::new(registry.expect("a policy without parts holds no contradiction"))
        });
        let services = Services {
            registry,
            policies,
            cache: RwLock::new(HashMap::new()),
            recorded: Mutex::new(HashMap::new()),
            settings: Mutex::default(),
            closed: watch::channel(false).0,
        };
        services.adopt(&services.policies.policies());
        services
    }

    /// Replaces the named policies. Services that exist keep their state and what was consumed; see
    /// [`loom_resilience::Pipeline::reconfigure`]. Returns the services whose policy has changed.
    pub(crate) fn replace(&self, policies: Arc<Policies>) -> Vec<Arc<str>> {
        let before = self.policies.policies();
        let mut changed: Vec<Arc<str>> = policies
            .names()
            .filter(|name| {
                let (then, now) = (before.service(name), policies.service(name));
                then.map(|then| then.settings).ok() != now.map(|now| now.settings).ok()
            })
            .cloned()
            .collect();
        let removed = before.names().filter(|name| !policies.contains(name)).cloned();
        let removed: Vec<Arc<str>> = removed.collect();
        self.adopt(&policies);
        for name in &removed {
            // The state stays for a policy that returns; without parts it does nothing.
            if let Err(problem) = self.registry.reconfigure(name, Policy::none()) {
                tracing::error!(service = &**name, %problem, "ignoring a policy that is not valid");
            }
        }
        self.policies.replace(policies);
        self.cache.write().unwrap_or_else(PoisonError::into_inner).clear();
        changed.extend(removed);
        changed
    }

    fn adopt(&self, policies: &Policies) {
        for name in policies.names() {
            let Ok(policy) = policies.guards(name) else { continue };
            if let Err(problem) = self.registry.reconfigure(name, policy) {
                tracing::error!(service = &**name, %problem, "ignoring a policy that is not valid");
            }
        }
    }

    /// Admits no call until the returned guard is dropped, except actions that are admitted again.
    pub(crate) fn close(&self) -> Closed<'_> {
        self.closed.send_replace(true);
        Closed(self)
    }

    /// The end of a period in which no call is admitted; none if there is none.
    pub(crate) fn opens(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let is_closed = *self.closed.borrow();
        is_closed.then(|| self.closed.subscribe()).map(|mut closed| async move {
            // The services live as long as the engine, which outlives all runs.
            closed.wait_for(|closed| !closed).await.ok();
        })
    }

    pub(crate) fn registry(&self) -> &Arc<ResilienceRegistry> {
        &self.registry
    }

    /// The guard of an action's calls; none when its definition has no rate limit, bulkhead or breaker. `origin` is the name
    /// of the service if the definition has none.
    pub(crate) fn of_action(&self, call: &Call, origin: Option<Arc<str>>) -> Option<Arc<Guarded>> {
        self.of(&call.workflow, call.action, origin)
    }

    /// Like [`Services::of_action`], without a call.
    pub(crate) fn of(
        &self,
        workflow: &Arc<Workflow>,
        index: ActionIdx,
        origin: Option<Arc<str>>,
    ) -> Option<Arc<Guarded>> {
        let action = workflow.action(index);
        let wanted = self.policies.of(action)?;
        if !is_guarded(&wanted) {
            return None;
        }
        let key = (Arc::clone(&workflow.name), version_of(workflow), index, origin);
        if let Some(known) = self.cache.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(Arc::clone(known));
        }
        let fallback = match (&wanted.named, key.3.as_deref()) {
            // Of an action that overrides the guards of the service.
            (Some(named), _) => format!("{}/{}", named.name, own_service(workflow, action)),
            (None, Some(origin)) => origin.to_owned(),
            (None, None) => own_service(workflow, action),
        };
        let source = lock(&self.settings).source(workflow);
        let named = policies(&wanted, &fallback);
        let services = named.iter().map(|(name, policy)| {
            let service = self.service(name, policy, &source);
            let recorded = self.recorded_of(&service);
            (service, recorded)
        });
        let services = services.collect();
        let guarded = Arc::new(Guarded {
            services,
            attempt_timeout: match wanted.attempt_timeout {
                Some(timeout) => Some((timeout, wanted.attempt_timeout_mode)),
                // An action may have removed that of its policy.
                None => wanted.named.as_ref().map(|_| (Duration::MAX, Mode::Off)),
            },
            hedge: wanted.hedge,
        });
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&guarded));
        Some(guarded)
    }

    /// Applies the settings of a newly deployed workflow to its services, including to calls that wait for a permit.
    ///
    /// Services that are named by the origin of a call's URL receive the new settings with the next call.
    pub(crate) fn deployed(&self, workflow: &Workflow) {
        let source = {
            let mut settings = lock(&self.settings);
            settings.deployed(workflow);
            settings.source(workflow)
        };
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|(name, ..), _| *name != workflow.name);
        drop(cache);
        for action in &workflow.actions {
            let Some(wanted) = action.resilience.as_deref().filter(|wanted| wanted.named.is_none()) else {
                continue;
            };
            for (name, policy) in policies(wanted, &own_service(workflow, action)) {
                // A service that has not been called yet is created with these settings by its first call.
                if self.registry.get(&name).is_some() {
                    self.service(&name, &policy, &source);
                }
            }
        }
    }

    /// The last recorded change of a service's circuit, shared by all its actions, so that each change is recorded once.
    fn recorded_of(&self, service: &Service) -> Arc<Mutex<Recorded>> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() >= CACHE_MAX {
            // Names may be origins that come from data, so entries that no action uses are dropped.
            recorded.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let known = recorded.entry(service.name().to_string()).or_insert_with(|| {
            let breaker = service.breaker();
            let stored = (breaker.generation(), breaker.consecutive_failures());
            Arc::new(Mutex::new(Recorded {
                generation: breaker.generation(),
                state: breaker.state(),
                stored,
            }))
        });
        Arc::clone(known)
    }

    /// The service `name` with at least the parts of `policy`. See [`settings`] for settings that conflict.
    fn service(&self, name: &str, policy: &Policy, source: &Source) -> Service {
        if self.policies.policies().contains(name) {
            // The project's file decides about its services, also where a definition names one.
            return self.registry.service(name);
        }
        let service = match self.registry.service_with(name, policy) {
            Ok(service) => service,
            Err(problem) => {
                tracing::error!(service = name, %problem, "ignoring an invalid policy");
                return self.registry.service(name);
            }
        };
        // Locked until the service has the merged policy, so that two callers do not merge into the same old policy.
        let mut settings = lock(&self.settings);
        let mut merged = service.policy();
        if settings.merge(name, &mut merged, policy, source)
            && let Err(problem) = service.reconfigure(merged)
        {
            tracing::error!(service = name, %problem, "ignoring an invalid policy");
        }
        service
    }
}

/// The name of the service of an action that names none and calls no origin.
fn own_service(workflow: &Workflow, action: &Action) -> String {
    format!("{}/{}", workflow.name, action.name)
}

/// The policies that an action defines for its services, from outermost to innermost: rate limiter, bulkhead, breaker. Parts
/// with the same name share a service.
fn policies(wanted: &Resilience, fallback: &str) -> Vec<(String, Policy)> {
    let mut named: Vec<(String, Policy)> = Vec::new();
    let mut add = |name: Option<&Arc<str>>, change: &dyn Fn(&mut Policy)| {
        let name = name.map_or(fallback, |name| name);
        let index = named.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            named.push((name.to_owned(), Policy::none()));
            named.len() - 1
        });
        change(&mut named[index].1);
    };
    if let Some(spec) = &wanted.rate_limit {
        add(spec.name.as_ref(), &|policy| policy.limiter = Some(spec.config()));
    }
    if let Some(spec) = &wanted.bulkhead {
        add(spec.name.as_ref(), &|policy| policy.bulkhead = Some(spec.config()));
    }
    if let Some(spec) = &wanted.breaker {
        add(spec.name.as_ref(), &|policy| policy.breaker = Some(spec.config()));
    }
    if let Some(using) = wanted.named.as_ref().filter(|_| wanted.shares) {
        // The service of a named policy also learns what responses report, whatever parts it has.
        add(Some(&using.name), &|_| {});
    } else if wanted.breaker.is_none() && wanted.rate_limit.is_none() && wanted.bulkhead.is_none() {
        add(None, &|_| {});
    }
    if wanted.hedge.is_some()
        && let Some((_, innermost)) = named.last_mut()
    {
        innermost.budget = Some(BudgetConfig::default());
    }
    named
}

/// Whether calls pass any part that lives in memory.
fn is_guarded(wanted: &Resilience) -> bool {
    wanted.breaker.is_some()
        || wanted.rate_limit.is_some()
        || wanted.bulkhead.is_some()
        || wanted.hedge.is_some()
        || wanted.attempt_timeout.is_some()
        || wanted.named.is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The timeout of one call. Only the run's own timer ends the call; this reports the timeout to the service's circuit.
#[derive(Debug, Default)]
pub(crate) struct TimeLimit {
    running: AtomicBool,
    over: CancellationToken,
}

impl TimeLimit {
    /// Reports the timeout. The call then ends on its own, with the status `TimedOut`. False when the call has not begun yet,
    /// and must be dropped.
    pub(crate) fn expire(&self) -> bool {
        self.over.cancel();
        self.running.load(Ordering::Relaxed)
    }

    /// Makes the call until it times out. A result that is available is never discarded.
    async fn bound(&self, work: impl Future<Output = EffectResult>) -> EffectResult {
        self.running.store(true, Ordering::Relaxed);
        tokio::select! {
            biased;
            result = work => result,
            () = self.over.cancelled() => EffectResult::Done {
                outcome: Outcome { status: Status::TimedOut, ..Outcome::ok(None) },
                hint: RetryHint::default(),
            },
        }
    }
}

/// The admission of an action that the engine executes itself, held while it executes.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Admitted immediately.
    Owned(Vec<loom_resilience::Admission<Service>>),
    /// Admitted after a wait; the future that waited receives the action's final status.
    Waited(oneshot::Sender<Status>),
}

impl Admission {
    /// What parts in observe mode would have done to the action.
    pub(crate) fn observed(&self) -> Vec<Note> {
        let Admission::Owned(admissions) = self else { return Vec::new() };
        let notes =
            admissions.iter().flat_map(|admission| observed_notes(admission.service(), admission.observed()));
        notes.collect()
    }

    /// Reports the action's final status to the services.
    pub(crate) fn settle(self, status: Status, now: Instant) {
        match self {
            Admission::Owned(admissions) => {
                for admission in admissions {
                    if let Some(verdict) = verdict_of(status) {
                        admission.settle(verdict, now);
                    }
                }
            }
            // The future that waited may have been dropped with the run.
            Admission::Waited(release) => drop(release.send(status)),
        }
    }
}

/// What an action's final status says about its service; nothing when the action was stopped locally.
fn verdict_of(status: Status) -> Option<Verdict> {
    match status {
        Status::Succeeded | Status::HandedOff => Some(Verdict::Ok),
        Status::Failed | Status::TimedOut | Status::Aborted => Some(Verdict::Transient),
        Status::Cancelled | Status::Skipped => None,
    }
}

impl Guarded {
    /// Admits an action without waiting; none when it must wait or is rejected. `left` is the time until its deadline.
    pub(crate) fn try_admit(&self, left: Option<Duration>) -> Option<Admission> {
        let mut admissions = Vec::with_capacity(self.services.len());
        for (service, _) in &self.services {
            admissions.push(service.try_admit_for(left, service.clock().now()).ok()?);
        }
        Some(Admission::Owned(admissions))
    }

    /// Admits an action that an earlier process was executing; never refused.
    pub(crate) fn admit_again(&self, left: Option<Duration>) -> Admission {
        let again = |(service, _): &(Service, _)| service.admit_again(left, service.clock().now());
        Admission::Owned(self.services.iter().map(again).collect())
    }

    /// Waits for admission, reports it through `admitted`, and holds it until the action has ended. Returns a rejection as the
    /// result of the call, and nothing when the action was admitted.
    pub(crate) async fn hold(
        &self,
        left: Option<Duration>,
        notes: &mut Vec<Note>,
        admitted: oneshot::Sender<(oneshot::Sender<Status>, Vec<Note>)>,
    ) -> Option<EffectResult> {
        let (release, ended) = oneshot::channel();
        let attempt = self.guarded(left, 1, notes, move |notes| async move {
            // The receiver is gone if the action was cancelled in the meantime; the wait below then ends immediately.
            admitted.send((release, notes)).ok();
            let status = ended.await.unwrap_or(Status::Cancelled);
            let hint = RetryHint { transient: status != Status::Succeeded, ..RetryHint::default() };
            let outcome = Outcome { status, ..Outcome::ok(None) };
            EffectResult::Done { outcome, hint }
        });
        let result = Box::pin(attempt).await;
        self.note_changes(notes);
        match result {
            EffectResult::Done { ref outcome, .. } if outcome.error.is_some() => Some(result),
            _ => None,
        }
    }

    /// Makes one attempt under the policies. `left` is the time until the action's deadline; it is not enforced here, because
    /// the run ends the call through `limit`.
    ///
    /// # Cancel safety
    /// Dropping the future releases its permits.
    pub(crate) async fn attempt<F, Fut>(
        &self,
        left: Option<Duration>,
        number: u32,
        idempotent: bool,
        limit: &TimeLimit,
        notes: &mut Vec<Note>,
        work: F,
    ) -> EffectResult
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = EffectResult> + Send,
    {
        let hedge = self.hedge.filter(|hedge| idempotent || hedge.idempotent);
        let mut result = match hedge.zip(self.services.last()) {
            Some((hedge, (service, _))) if hedge.mode != Mode::Off => {
                self.hedged(hedge, service, left, number, limit, notes, work).await
            }
            _ => self.guarded(left, number, notes, |_| limit.bound(work())).await,
        };
        self.learn(&result);
        // An action that has ended accepts no more notes; another call records the circuit's change.
        if !limit.over.is_cancelled() {
            self.note_changes(notes);
        }
        if let EffectResult::Done { outcome, hint } = &mut result
            && outcome.status != Status::Succeeded
            && !hint.refused
        {
            hint.circuit = self.circuit();
        }
        result
    }

    /// Makes one attempt in several copies: another one whenever the attempt has not ended after the delay. The first copy
    /// that succeeds decides; the others are dropped. Each copy passes all services, and is charged to the budget of the
    /// innermost one.
    ///
    /// All copies belong to one attempt: they have its idempotency key, and the journal knows only the attempt. A crash during
    /// a hedge is therefore a crash during the attempt, which `onUncertain` decides about, and which begins again with one
    /// copy.
    async fn hedged<F, Fut>(
        &self,
        hedge: HedgeSpec,
        service: &Service,
        left: Option<Duration>,
        number: u32,
        limit: &TimeLimit,
        notes: &mut Vec<Note>,
        work: F,
    ) -> EffectResult
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = EffectResult> + Send,
    {
        let clock = service.clock();
        let began = clock.now();
        // Definitions are checked when they are loaded, so the configuration is valid.
        let Ok(hedging) = Hedge::from_config(hedge.config(), clock.clone()) else {
            return self.guarded(left, number, notes, |_| limit.bound(work())).await;
        };
        let sent = AtomicU32::new(0);
        let done = hedging
            .run(service.budget(), |copy| {
                sent.store(copy, Ordering::Relaxed);
                let work = &work;
                async move {
                    let mut notes = Vec::new();
                    let left = left.map(|left| left.saturating_sub(clock.now().since(began)));
                    let result = self.guarded(left, number, &mut notes, |_| limit.bound(work())).await;
                    let failed = matches!(
                        &result,
                        EffectResult::Done { outcome, .. } if outcome.status != Status::Succeeded
                    );
                    if failed { Err((result, notes)) } else { Ok((result, notes)) }
                }
            })
            .await;
        let (Ok((result, of_copy)) | Err((result, of_copy))) = done;
        notes.extend(of_copy);
        let name = || Arc::clone(service.name());
        let copies = sent.into_inner().saturating_sub(1);
        if copies > 0 {
            notes.push(Note::Hedged { service: name(), copies });
        }
        if hedge.mode == Mode::Observe && clock.now().since(began) >= hedge.delay {
            notes.push(Note::Observed { service: name(), part: "hedge".into() });
        }
        result
    }

    /// Lets the limiter of the service learn what a response reported, for all callers. With several services, it is the one
    /// that has a rate limit, else the innermost.
    fn learn(&self, result: &EffectResult) {
        let EffectResult::Done { hint, .. } = result else { return };
        let Some(learned) = hint.learned else { return };
        let limited = self.services.iter().find(|(service, _)| service.policy().limiter.is_some());
        if let Some((service, _)) = limited.or(self.services.last()) {
            service.limiter().learn(learned, service.clock().now());
        }
    }

    /// The services that a call has changed in a way that a crash must not undo: it took a permit of a long rate limit, or
    /// the circuit or its consecutive failures differ from those that were stored last.
    pub(crate) fn spent(&self) -> impl Iterator<Item = Service> {
        let changed = |service: &Service, recorded: &Mutex<Recorded>| {
            let breaker = service.breaker();
            let now = (breaker.generation(), breaker.consecutive_failures());
            let before = std::mem::replace(&mut lock(recorded).stored, now);
            before != now || service.limiter().longest_period().is_some_and(|longest| longest >= LONG_LIMIT)
        };
        self.services
            .iter()
            .filter(move |(service, recorded)| changed(service, recorded))
            .map(|(service, _)| service.clone())
    }

    /// The consequence of the circuits' states for another attempt now.
    fn circuit(&self) -> CircuitHint {
        let mut open_for = None;
        for (service, _) in &self.services {
            match service.breaker().peek(service.clock().now()) {
                Err(refused) if refused.is_manual() => return CircuitHint::OpenedByHand,
                Err(refused) => open_for = open_for.max(refused.retry_after),
                Ok(()) => {}
            }
        }
        open_for.map_or(CircuitHint::Passes, CircuitHint::OpenFor)
    }

    /// Adds notes on changes of the circuits that no history has recorded.
    fn note_changes(&self, notes: &mut Vec<Note>) {
        notes.extend(
            self.services.iter().filter_map(|(service, recorded)| unrecorded_change(service, recorded)),
        );
    }

    async fn guarded<F, Fut>(
        &self,
        left: Option<Duration>,
        number: u32,
        notes: &mut Vec<Note>,
        work: F,
    ) -> EffectResult
    where
        F: FnOnce(Vec<Note>) -> Fut + Send,
        Fut: Future<Output = EffectResult> + Send,
    {
        let Some((outer, _)) = self.services.first() else { return work(Vec::new()).await };
        let clock = outer.clock();
        let began = clock.now();
        let limit = left.map(|left| (began, left));
        // The circuit is checked first, so that nothing is spent on a call that it would reject.
        if let [.., (inner, _)] = &self.services[..]
            && let Err(refused) = inner.check_breaker(began)
        {
            return refusal_result(&refused.by(inner.name()));
        }
        let mut waited = Duration::ZERO;
        let seen: [ObservedParts; SERVICES_MAX] = Default::default();
        let observed = || {
            let services = self.services.iter().zip(&seen);
            services.flat_map(|((service, _), seen)| observed_notes(service, seen.iter()))
        };
        let result = {
            let waited = &mut waited;
            let work = |clock_now: Instant| {
                *waited = clock_now.since(began);
                let waiting = (*waited >= WAIT_TOLD).then(|| Note::Waited {
                    service: Arc::clone(outer.name()),
                    by: if outer.policy().limiter.is_some() {
                        "rate limit".into()
                    } else {
                        "bulkhead".into()
                    },
                    wait: *waited,
                });
                work(waiting.into_iter().chain(observed()).collect())
            };
            let times = Times { limit, attempt: self.attempt_timeout };
            run_nested(&self.services, &seen, times, number, work).await
        };
        if waited >= WAIT_TOLD {
            let by = if outer.policy().limiter.is_some() { "rate limit" } else { "bulkhead" };
            notes.push(Note::Waited { service: Arc::clone(outer.name()), by: by.into(), wait: waited });
        }
        notes.extend(observed());
        result
    }
}

/// A change of a service's circuit, unless another run has recorded it. Several calls may end after the same change; the
/// first to ask records it.
fn unrecorded_change(service: &Service, recorded: &Mutex<Recorded>) -> Option<Note> {
    let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = service.breaker().generation();
    if generation == recorded.generation {
        return None;
    }
    let status = service.breaker().status(service.clock().now());
    let from = match (recorded.state, status.state) {
        (before, now) if before != now => before,
        // The circuit is back in its last recorded state; the state in between was not recorded.
        (_, CircuitState::HalfOpen) => CircuitState::Open,
        (_, CircuitState::Closed | CircuitState::Open) => CircuitState::HalfOpen,
    };
    *recorded = Recorded { generation, state: status.state, ..*recorded };
    Some(Note::Breaker {
        service: Arc::clone(service.name()),
        from: state_name(from).into(),
        to: state_name(status.state).into(),
        why: status.cause.map(|cause| cause.to_string()).unwrap_or_default(),
    })
}

fn state_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "Closed",
        CircuitState::Open => "Open",
        CircuitState::HalfOpen => "HalfOpen",
    }
}
