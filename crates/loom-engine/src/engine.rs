//! The engine: runs workflows on tokio. Owns the tasks of all runs, the handlers, and the registry of services.
//!
//! Each run is one task that feeds commands to its pure machine and performs the effects that the machine's events
//! request; see `driver`. Shutting the engine down ends all its tasks; none is detached.

mod answers;
mod builder;
mod children;
mod count;
mod deliver;
mod enter;
mod messages;
mod nodes;
mod parking;
mod queue;
mod recovery;
mod signals;
#[cfg(test)]
mod simulation;
mod suspects;

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use loom_definition::{Workflow, policy::Policies, trigger::Trigger};
use loom_expression::{Masker, Value};
use loom_resilience::{RegistrySnapshot, ResilienceRegistry};
use loom_store::{KeyWrite, RunRow};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{Driven, Driver, Links},
    durable::Written,
    environment::Environment,
    event::{Command, ErrorInfo, RunId, RunStart},
    fire::{self, Fired, Firing},
    history::History,
    live_text::LiveTexts,
    machine::Run,
    other_runs::OtherRuns,
    pool::Pool,
    reads::{self, Reads},
    run_handle::RunHandle,
    run_report::RunReport,
    shared::{
        InProgress, Shared,
        gate::{Pass, first_command},
        late_pass::LatePass,
    },
    signals::Mailbox,
    spent,
    start::{Accepted, FiringCommit, RunRequest, StartError, Started},
    state::RunState,
    unloadable::RecoverError,
    watcher::Watcher,
};

pub use builder::EngineBuilder;
pub use nodes::trigger_shard;
pub use recovery::Recovered;

/// Capacity of a run's command queue, in commands. Senders wait while it is full.
const INBOX_CAPACITY: usize = 64;

/// The result of delivering a callback to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// An action was waiting for the callback and received it.
    Taken,
    /// The run is in progress, but no action is waiting for this callback.
    NotAwaited,
    /// The run has ended, is held, or does not exist.
    NotInProgress,
}

/// A named policy that a deployed workflow uses cannot be removed, or changed so that it contradicts the workflow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("action `{action}` of workflow `{workflow}` uses policy `{policy}`: {why}")]
pub struct PolicyInUse {
    /// What would be wrong.
    pub why: String,
    /// The policy.
    pub policy: Arc<str>,
    /// A deployed workflow that uses it.
    pub workflow: Arc<str>,
    /// Its action.
    pub action: Arc<str>,
}

/// Runs workflows. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the task of a run gets.
    fn for_runs(&self) -> (Arc<Shared>, Arc<dyn OtherRuns>) {
        (Arc::clone(&self.shared), Arc::clone(&self.shared) as Arc<dyn OtherRuns>)
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Engine {
        Engine { shared }
    }

    /// Watches the text that calls of a run show while it arrives, whether or not the run is in progress.
    pub fn live_texts(&self, run: RunId) -> LiveTexts {
        self.shared.boards.watch(run)
    }

    /// The circuit breakers, rate limiters and retry budgets of all services.
    pub fn registry(&self) -> &Arc<ResilienceRegistry> {
        self.shared.services.registry()
    }

    /// The named policies in effect.
    pub fn policies(&self) -> Arc<Policies> {
        self.shared.environment.policies.policies()
    }

    /// Replaces the named policies, also for runs in progress. What services have counted and consumed stays. Returns the
    /// names of the services whose policy has changed.
    ///
    /// # Errors
    /// A deployed workflow uses a policy that `policies` does not have, or overrides it in a way that would contradict it;
    /// nothing changes then.
    pub fn replace_policies(&self, policies: Arc<Policies>) -> Result<Vec<Arc<str>>, PolicyInUse> {
        let workflows = self.shared.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of names, so that the same mistake is always reported first.
        let mut deployed: Vec<&Arc<Workflow>> = workflows.values().map(|(workflow, _)| workflow).collect();
        deployed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for workflow in deployed {
            for action in &workflow.actions {
                let using = action.resilience.as_deref().and_then(|resilience| resilience.named.as_ref());
                if let Some(using) = using
                    && let Err(why) = policies.check_use(using)
                {
                    return Err(PolicyInUse {
                        why,
                        policy: Arc::clone(&using.name),
                        workflow: Arc::clone(&workflow.name),
                        action: Arc::clone(&action.name),
                    });
                }
            }
        }
        Ok(self.shared.services.replace(policies))
    }

    /// Restores the state of the services after a restart: first `all`, a snapshot taken from
    /// [`registry`](Engine::registry), then the changes that calls of durable runs made after it. Call it before the first
    /// run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn restore_services(&self, all: Option<&RegistrySnapshot>) -> Result<(), loom_store::Error> {
        if let Some(durable) = &self.shared.durable {
            return spent::restore(&*durable.store, self.registry(), all).await;
        }
        if let Some(all) = all {
            self.registry().restore(all);
        }
        Ok(())
    }

    /// Deletes the stored changes of single services. Call it before the first run, and after a snapshot of all services
    /// has been stored.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn clear_stored_services(&self) -> Result<(), loom_store::Error> {
        match &self.shared.durable {
            Some(durable) => spent::clear(&*durable.store).await,
            None => Ok(()),
        }
    }

    /// Registers a workflow under its name, with the parameter values of its runs, so that actions of other workflows can
    /// call it. Its rate limits, bulkheads and circuit breakers replace those that earlier deployments set for the same
    /// services, and the concurrency limits of its triggers apply to all its runs: a higher limit admits runs that wait, and a
    /// first limit counts the runs in progress before it admits another one.
    pub fn deploy(&self, workflow: Arc<Workflow>, parameters: Vec<Value>) {
        self.shared.services.deployed(&workflow);
        let limited = self.shared.gates.deployed(&workflow);
        self.count_later(&workflow, limited);
        let mut workflows = self.shared.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.insert(workflow.name.to_lowercase(), (workflow, parameters));
    }

    /// Removes a workflow, so that actions can no longer call it. Its runs continue.
    pub fn withdraw(&self, name: &str) {
        let mut workflows = self.shared.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.remove(&name.to_lowercase());
    }

    /// Records the ends of runs of these workflows, by their names in lower case, under [`ENDED_RUNS`](crate::ENDED_RUNS) in the
    /// commit of the end.
    pub fn watch_ends(&self, workflows: BTreeSet<String>) {
        if let Some(durable) = &self.shared.durable {
            durable.watched.set(workflows);
        }
    }

    /// Sets the disabled workflows, and triggers as `workflow/trigger`, which actions cannot call. All names in lower case.
    pub fn set_disabled(&self, names: BTreeSet<String>) {
        *self.shared.disabled.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Fires a trigger: evaluates its conditions and `splitOn`, and starts the resulting runs. Does not wait: a trigger whose
    /// expressions read secrets from a source that takes time needs [`Engine::start_reading`].
    ///
    /// # Errors
    /// [`StartError`]; no run has started.
    pub fn start(
        &self,
        request: RunRequest,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Started, StartError> {
        self.start_reading(request, watcher).now_or_never().unwrap_or_else(|| {
            let message = "The trigger reads secrets, which takes time; start it with `start_reading`.";
            Err(StartError::Trigger(ErrorInfo::new("SecretNotAvailable", message)))
        })
    }

    /// Like [`Engine::start`], but waits for secrets that expressions of the trigger read.
    ///
    /// # Errors
    /// [`StartError`]; no run has started.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn start_reading(
        &self,
        request: RunRequest,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Started, StartError> {
        let (workflow, trigger) = (Arc::clone(&request.workflow), request.trigger.clone());
        match self.decide(&workflow, request).await? {
            Fired::NotMet { condition } => Ok(Started::NotMet { condition }),
            Fired::Runs(starts) => {
                let ids: Vec<RunId> = starts.ids().collect();
                let passes = self.enter(&workflow, trigger.as_deref(), &ids, None)?;
                let spawn =
                    |(start, pass)| self.spawn(&workflow, start, Written::default(), pass, watcher.cloned());
                Ok(Started::Runs(starts.zip(passes).map(spawn).collect()))
            }
        }
    }

    /// Fires a trigger and commits further writes together with it. Runs that an earlier firing of the same name has
    /// already started are omitted.
    ///
    /// When exactly one run starts, the writes are part of the commit that starts it. Otherwise they are returned, and the
    /// caller writes them once the runs are accepted; the name of the firing prevents a repetition after a crash from
    /// starting a run twice. Of two simultaneous firings with the same name the store accepts one; the runs of the other
    /// are never accepted. A very large number of runs is accepted before this returns and then queued; see
    /// [`Accepted::Queued`].
    ///
    /// # Errors
    /// [`StartError`]. No run has started, except when the store failed while a very large number of runs was accepted.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing. Of a very large number of runs, those accepted by then continue.
    pub async fn start_with(
        &self,
        request: RunRequest,
        commit: FiringCommit,
    ) -> Result<(Accepted, Vec<KeyWrite>), StartError> {
        let (workflow, trigger) = (Arc::clone(&request.workflow), request.trigger.clone());
        let FiringCommit { name, mark, keys, messages, permit } = commit;
        let starts = match self.decide(&workflow, request).await? {
            Fired::NotMet { condition } => {
                let keys = keys.map(|keys| keys(&[])).unwrap_or_default();
                return Ok((Accepted::NotMet { condition }, keys));
            }
            Fired::Runs(starts) => starts,
        };
        let key = |index: usize| name.as_ref().map(|name| Arc::<str>::from(format!("{name}/{index}")));
        let mut known = HashSet::new();
        if let (Some(_), Some(durable)) = (&name, &self.shared.durable) {
            for (index, key) in (0..starts.len()).filter_map(|index| Some((index, key(index)?))) {
                match durable.store.run_by_key(&workflow.name, &key).await.map_err(StartError::Store)? {
                    Some(row) if row.details == mark => drop(known.insert(index)),
                    Some(row) => return Err(StartError::OtherFiring { run: row.id }),
                    None => {}
                }
            }
        }
        let ids: Vec<RunId> = starts
            .ids()
            .enumerate()
            .filter(|(index, _)| !known.contains(index))
            .map(|(_, run)| run)
            .collect();
        let passes = self.enter(&workflow, trigger.as_deref(), &ids, permit)?;
        let mut left = keys.map(|keys| keys(&ids)).unwrap_or_default();
        let fresh = starts.enumerate().filter(|(index, _)| !known.contains(index)).map(|(index, start)| {
            (start, Written { idempotency_key: key(index), mark: mark.clone(), ..Written::default() })
        });
        let fresh = fresh.zip(passes);
        if self.queues(ids.len()) {
            let first = self.accept_all(&workflow, fresh).await?;
            return Ok((Accepted::Queued { runs: ids, first }, left));
        }
        let (mut with_first, mut messages) = (Vec::new(), messages);
        if ids.len() == 1 && self.shared.durable.is_some() {
            std::mem::swap(&mut with_first, &mut left);
        } else {
            messages.clear();
        }
        let spawn = |((start, written), pass)| {
            let (keys, messages) = (std::mem::take(&mut with_first), std::mem::take(&mut messages));
            self.spawn(&workflow, start, Written { keys, messages, ..written }, pass, None)
        };
        Ok((Accepted::Runs(fresh.map(spawn).collect()), left))
    }

    /// The environment that the host provides to all runs.
    pub fn environment(&self) -> &Environment {
        &self.shared.environment
    }

    /// Evaluates the conditions and `splitOn` of a firing.
    ///
    /// # Cancel safety
    /// Cancel safe; it waits only for secrets to be read.
    pub(crate) async fn decide<'w>(
        &self,
        workflow: &'w Arc<Workflow>,
        request: RunRequest,
    ) -> Result<Fired<'w>, StartError> {
        if self.shared.stopping.is_cancelled() || self.shared.flights.draining() {
            return Err(StartError::Stopping);
        }
        let trigger = find_trigger(workflow, request.trigger.as_ref())?;
        let firing = Firing {
            workflow,
            trigger,
            outputs: request.outputs,
            parameters: request.parameters,
            tracking_id: request.tracking_id,
            wants_response: request.wants_response,
            trace: request.trace,
            depth: request.depth,
            now: self.shared.clock.now(),
        };
        let named = (&workflow.name, trigger.map(|trigger| &trigger.name));
        let environment = &*self.shared.environment;
        let shard = self.shard_for(workflow, trigger)?;
        let fire =
            |reads: &Reads| fire::fire(firing.clone(), environment, reads, || self.shared.next_run(shard));
        reads::with_reads(environment, named, fire).await.map_err(StartError::Trigger)
    }

    /// Starts one run and waits for its end. None when a condition of the trigger was not met, when the firing started
    /// several runs, or when the engine was shut down before the run ended.
    ///
    /// # Errors
    /// [`StartError`]; no run has started.
    pub async fn run(&self, request: RunRequest) -> Result<Option<Arc<RunReport>>, StartError> {
        match self.start_reading(request, None).await? {
            Started::Runs(mut runs) if runs.len() == 1 => Ok(runs[0].ended().await),
            Started::Runs(_) | Started::NotMet { .. } => Ok(None),
        }
    }

    /// Resubmits a run: starts a new one from the same trigger outputs, on `workflow`, which may be a different definition.
    /// Conditions and `splitOn` were evaluated when the trigger fired, and are not evaluated again.
    ///
    /// # Errors
    /// [`StartError::Stopping`], [`StartError::Full`].
    pub fn resubmit(
        &self,
        workflow: &Arc<Workflow>,
        parameters: Vec<Value>,
        before: &RunStart,
    ) -> Result<RunHandle, StartError> {
        if self.shared.stopping.is_cancelled() || self.shared.flights.draining() {
            return Err(StartError::Stopping);
        }
        let trigger = find_trigger(workflow, before.trigger_name().map(Arc::from).as_ref()).ok().flatten();
        let (run, seed) = self.shared.next_run(self.shard_for(workflow, trigger)?);
        let start = fire::again(workflow, parameters, before, (run, seed));
        let pass = self.enter(workflow, start.trigger_name(), &[run], None)?.pop().unwrap_or_default();
        let written = Written { origin: Some(before.run), ..Written::default() };
        Ok(self.spawn(workflow, start, written, pass, None))
    }

    /// Whether a run has ended while its unsubscriptions are still pending.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_unsubscribing(&self, run: RunId) -> Result<bool, loom_store::Error> {
        match &self.shared.durable {
            Some(durable) => durable.is_unsubscribing(run).await,
            None => Ok(false),
        }
    }

    /// The definition that a run in the store was started with.
    ///
    /// # Errors
    /// [`RecoverError`]; also when the engine has no store.
    pub async fn workflow_of(&self, row: &RunRow) -> Result<Arc<Workflow>, RecoverError> {
        let Some(durable) = &self.shared.durable else {
            let why = "the engine has no store".to_owned();
            return Err(RecoverError::Definition { run: row.id, why });
        };
        durable.workflow_of(row.id, row).await
    }

    /// What a run in the store was started from. None when there is no such run, or retention has deleted its journal.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn start_of(&self, run: RunId) -> Result<Option<Arc<RunStart>>, RecoverError> {
        let Some(durable) = &self.shared.durable else { return Ok(None) };
        durable.start_of(run).await
    }

    /// The history of a run in the store, whether it is in progress or has ended. None when there is no such run. A secret null
    /// stands for each secret value: a history is read without opening any.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn history(&self, run: RunId) -> Result<Option<(RunRow, History)>, RecoverError> {
        let Some(durable) = &self.shared.durable else { return Ok(None) };
        let found = durable.history(run, History::new).await?;
        Ok(found.inspect(|(_, history)| self.learn(history.start.as_ref())))
    }

    /// Like [`Engine::history`], limited to what the history that `begin` creates retains; see [`History::within`]. A long
    /// history is read page by page.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn history_within(
        &self,
        run: RunId,
        begin: impl FnOnce(Arc<Workflow>) -> History,
    ) -> Result<Option<(RunRow, History)>, RecoverError> {
        let Some(durable) = &self.shared.durable else { return Ok(None) };
        let found = durable.history(run, begin).await?;
        Ok(found.inspect(|(_, history)| self.learn(history.start.as_ref())))
    }

    /// The state of a run in the store, whether it is in progress or has ended. The cost depends on the size of the state,
    /// not on the length of the history. None when there is no such run; the state has no start when retention has deleted
    /// it.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn state_of(&self, run: RunId) -> Result<Option<(RunRow, RunState)>, RecoverError> {
        let Some(durable) = &self.shared.durable else { return Ok(None) };
        let found = durable.state(run).await?;
        Ok(found.inspect(|(_, state)| self.learn(state.start())))
    }

    fn learn(&self, start: Option<&Arc<RunStart>>) {
        if let Some(start) = start {
            self.shared.environment.learn_parameters(start);
        }
    }

    /// The threads on which histories and large values are read, so that the runtime's threads remain free.
    pub fn reads(&self) -> &Pool {
        &self.shared.pools.reads
    }

    /// The threads on which decisions of runs are made that take long.
    pub fn evaluations(&self) -> &Pool {
        &self.shared.pools.evaluations
    }

    /// The masker that has learned the secrets that runs have read; use it to redact anything of a run that is shown.
    pub fn masker(&self) -> &Masker {
        &self.shared.environment.masker
    }

    pub(crate) fn spawn(
        &self,
        workflow: &Arc<Workflow>,
        start: Arc<RunStart>,
        written: Written,
        pass: Pass,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> RunHandle {
        let id = start.run;
        self.shared.environment.learn_parameters(&start);
        let watcher = watcher.or_else(|| self.shared.watcher.clone());
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = watch::channel(None);
        let (report, ended) = watch::channel(None);
        let run = Run::new(Arc::clone(workflow), Arc::clone(&self.shared.environment));
        let journal = self.shared.durable.as_ref().map(|durable| durable.begin(workflow, &start, written));
        let (accepted, acceptance) = oneshot::channel();
        let mailbox = Arc::<Mailbox>::default();
        let late = Arc::new(LatePass::beside(&pass));
        let leave = self.shared.leave();
        let links = Links {
            inbox,
            leave: leave.clone(),
            watcher,
            respond,
            report,
            accepted: Some(accepted),
            mailbox: Arc::clone(&mailbox),
            late: Arc::clone(&late),
            orders: Vec::new(),
            callbacks: VecDeque::new(),
            pass,
        };
        let first = first_command(&links.pass, Arc::clone(&start));
        let driver = Driver::new(self.for_runs(), run, journal, links);
        let reached =
            InProgress { commands: commands.clone(), response: response.clone(), mailbox, late, leave };
        self.shared.awake.enter(id, reached, || ());
        self.shared.make_room();
        self.adopt(id, driver, Some(first));
        RunHandle { id, start, commands, accepted: Some(acceptance), response, ended }
    }

    /// Spawns the task of a run.
    fn adopt(&self, id: RunId, driver: Driver, first: Option<Command>) {
        let engine = self.clone();
        let watcher = driver.watcher().cloned();
        let stopping = self.shared.stopping.clone();
        let leave = driver.leave().map(|leave| leave.now.clone());
        // It is large, and spawning moves a future several times.
        let driving = Box::pin(driver.drive(first));
        self.shared.tasks.spawn(async move {
            let mut driven = tokio::select! {
                biased;
                () = stopping.cancelled() => Driven::Over,
                () = must_leave(leave.as_ref()), if leave.is_some() => Driven::Left,
                driven = driving => driven,
            };
            if let Driven::Unwritten(unwritten) = &mut driven {
                // The run is not over, so it keeps what it owns, and has it when it is loaded again.
                engine.shared.aside.put(id, std::mem::take(&mut unwritten.pass));
            }
            // A parked run has left already, and may have been loaded again.
            if !matches!(driven, Driven::Parked) {
                engine.shared.awake.remove(id);
            }
            engine.shared.queue.ended();
            match driven {
                Driven::Over | Driven::Parked => {}
                // Its watchers find it at the node that continues it.
                Driven::Left => engine.gone(id, watcher.as_ref()),
                Driven::Unwritten(unwritten) if unwritten.is_lost() => {
                    drop(engine.shared.aside.take(id));
                    engine.gone(id, watcher.as_ref());
                }
                Driven::Duplicate => engine.gone(id, watcher.as_ref()),
                // Releasing held runs loads only those that are no longer in progress, so this comes last.
                Driven::Unwritten(unwritten) => engine.hold(id, unwritten, watcher.as_ref()).await,
            }
        });
    }

    /// Reports that no more events of a run will follow.
    fn gone(&self, run: RunId, watcher: Option<&Arc<dyn Watcher>>) {
        if let Some(watcher) = watcher.or(self.shared.watcher.as_ref()) {
            watcher.gone(run);
        }
    }

    /// Runs that are held because the store cannot read or write their data, each with the reason; see
    /// [`Engine::release_held`].
    pub fn held(&self) -> Vec<(RunId, Arc<str>)> {
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.runs.iter().map(|(run, why)| (*run, Arc::clone(why))).collect()
    }

    /// The runs that are held, each for a reason of its own.
    pub fn held_runs(&self) -> Vec<RunId> {
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.runs.keys().copied().collect()
    }

    /// The reason why a run is held; none if it is not.
    pub fn why_held(&self, run: RunId) -> Option<Arc<str>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).runs.get(&run).cloned()
    }

    /// The reason why a run that has not ended cannot be read and therefore does not continue; none if it can be read, or nobody
    /// has tried. Nothing is written to the journal of such a run.
    pub fn why_unreadable(&self, run: RunId) -> Option<Arc<str>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).unreadable.get(&run).cloned()
    }

    /// Starts no more runs, calls or timers, and waits at most `limit` until the calls in flight have ended and their
    /// outcomes are durable. Returns the number of calls still in flight. Runs remain in the store and continue in the next
    /// process; follow with [`Engine::shut_down`].
    ///
    /// # Cancel safety
    /// The engine keeps draining.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.shared.flights.drain();
        tokio::time::timeout(limit, self.shared.flights.landed()).await.ok();
        self.shared.flights.count()
    }

    /// Starts no more runs, stops those in progress where they are, and waits until their tasks have ended. Runs in a store
    /// continue after [`Engine::recover`] in the next process.
    pub async fn shut_down(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("runs_in_progress", &self.runs_in_progress()).finish_non_exhaustive()
    }
}

/// Waits until the run has to leave this process at once.
async fn must_leave(leave: Option<&CancellationToken>) {
    match leave {
        Some(leave) => leave.cancelled().await,
        None => std::future::pending().await,
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
