//! Recovery of runs from the store: after a restart, and after a period in which the store could not write.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use futures_util::{StreamExt, stream};
use loom_definition::{RunStatus, Workflow};
use loom_expression::Value;
use loom_store::{Condition, RunIdSource, RunQuery, RunRow, Shards, Standing};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{Engine, INBOX_CAPACITY, nodes::Found};
use crate::{
    call_kinds::needs_admission,
    children,
    driver::{Driver, Links, Unwritten},
    durable::{RunJournal, Written},
    event::{Event, RunId, RunStart},
    fire,
    journal::FrameReader,
    machine::Run,
    orders::{Arrived, Given, Order},
    reads::Unavailable,
    resubmit::{self, ResubmitError},
    run_handle::RunHandle,
    shared::{InProgress, Shared, aside::Owned, gate::Pass, late_pass::LatePass},
    signals::Mailbox,
    state::RunState,
    suspects, time,
    unloadable::RecoverError,
    watcher::Watcher,
};

/// Unfinished runs listed from the store at a time.
const RECOVERY_PAGE: usize = 500;

/// Runs loaded concurrently: enough to keep the store's readers busy while runs are rebuilt.
const RECOVERY_READS: usize = 32;

/// Which runs are loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loads {
    Always,
    /// Only a run that is parked. Others are passed over.
    IfParked,
}

/// The result of [`Engine::recover`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// Runs that continue.
    pub runs: Vec<RunHandle>,
    /// Number of runs that are queued, because [`Budgets::runs_max`](crate::Budgets::runs_max) runs are in progress.
    pub waiting: usize,
    /// Runs that cannot be read, with the reason.
    pub unreadable: Vec<(RunId, RecoverError)>,
}

impl Engine {
    /// Resumes every run in the store that has not ended and is not parked; a parked run is resumed when it is due, or when it
    /// has a message. Calls that were in progress when the last process ended are made
    /// again with the same idempotency keys. Call it once, before any run is started.
    ///
    /// Returns the resumed runs and those that cannot be read; the latter are left unchanged.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub async fn recover(&self, watcher: Option<&Arc<dyn Watcher>>) -> Result<Recovered, loom_store::Error> {
        let shards = self.shared.node.as_ref().map_or(Shards::ALL, Standing::owned);
        self.recover_shards(shards, watcher).await
    }

    /// Resumes the runs of some shards.
    pub(super) async fn recover_shards(
        &self,
        shards: Shards,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Recovered, loom_store::Error> {
        let mut recovered = Recovered { runs: Vec::new(), waiting: 0, unreadable: Vec::new() };
        // Queued runs are loaded without the caller's watcher, so with a watcher none is queued.
        let free = self.runs_max().saturating_sub(self.runs_in_progress());
        let mut room = if watcher.is_some() { usize::MAX } else { free };
        let Some(durable) = &self.shared.durable else { return Ok(recovered) };
        // Runs that were in progress have their permits, and places in services, before anybody else is admitted.
        let _closed = (self.shared.gates.close(), self.shared.services.close());
        if self.shared.node.is_some() {
            self.continue_numbering_in(shards).await?;
        } else {
            self.continue_numbering().await?;
            self.note_suspects().await?;
        }
        // Runs that end from here on end their subscriptions themselves.
        self.unsubscribe(shards).await?;
        self.count_those_parked().await?;
        let mut to_wake = self.take_for_parked(shards).await?;
        self.count_uncounted().await?;
        self.shared.recovered.set(Handle::current()).ok();
        let mut after = None;
        loop {
            let page = durable.store.awake(shards, after, RECOVERY_PAGE).await?;
            let mut now = Vec::with_capacity(page.len());
            for row in &page {
                if room > 0 || self.owns_something(row).await {
                    room = room.saturating_sub(1);
                    now.push(row.id);
                } else {
                    self.shared.queue.add(row.id);
                    recovered.waiting += 1;
                }
            }
            let reads = now.into_iter().map(|id| {
                let (engine, watcher) = (self.clone(), watcher.cloned());
                async move { (id, engine.recover_run(id, watcher.as_ref()).await) }
            });
            // In the order in which the runs were accepted, not in the order in which the reads finish.
            let mut reads = stream::iter(reads).buffered(RECOVERY_READS);
            while let Some((id, read)) = reads.next().await {
                match read {
                    Ok(Some(handle)) => recovered.runs.push(handle),
                    Ok(None) => {}
                    Err(error) => {
                        self.not_loaded(id, &error);
                        recovered.unreadable.push((id, error));
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == RECOVERY_PAGE => after = Some(last.id),
                _ => break,
            }
        }
        if recovered.waiting > 0 {
            self.attend_queue();
        }
        to_wake.extend(self.messaged(shards));
        for run in to_wake {
            self.wake(run);
        }
        self.turn_wheel();
        Ok(recovered)
    }

    /// Whether a run may own something that others wait for: a permit of its trigger, a place in a service. Such runs are
    /// never queued.
    async fn owns_something(&self, row: &RunRow) -> bool {
        let Some(durable) = &self.shared.durable else { return false };
        // A definition that cannot be read is reported when the run is loaded.
        let workflow = durable.workflow_of(row.id, row).await;
        workflow.map_or(true, |workflow| {
            self.shared.gates.may_limit(&workflow) || workflow.actions.iter().any(needs_admission)
        })
    }

    /// Continues the numbering of runs after the newest one in the store, or by the clock if it was ahead when the newest ones
    /// were made, and finds the runs for which other processes have left orders. [`Engine::recover`] does this automatically. Call it before any run is
    /// started.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn continue_numbering(&self) -> Result<(), loom_store::Error> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        if let Some(newest) = durable.store.newest_run(Shards::ALL).await? {
            let present = time::millis(self.shared.clock.now()).plus(RunIdSource::AHEAD_MAX_MS);
            let source = if newest.time() > present {
                let before = Some(present.plus(1));
                let query = RunQuery { accepted_before: before, limit: 1, ..RunQuery::default() };
                let by_now = durable.store.runs(query).await?.rows.first().map(|row| row.id);
                RunIdSource::after_clock_was_ahead(newest, by_now)
            } else {
                RunIdSource::new(newest.shard().number(), Some(newest))
            };
            *self.shared.ids.lock().unwrap_or_else(PoisonError::into_inner) = source;
        }
        self.find_messages(Shards::ALL).await
    }

    /// Resumes one run from the store. None when it is already in progress, has ended, or does not exist.
    ///
    /// # Errors
    /// [`RecoverError`]; the run is left unchanged.
    pub async fn recover_run(
        &self,
        id: RunId,
        watcher: Option<&Arc<dyn Watcher>>,
    ) -> Result<Option<RunHandle>, RecoverError> {
        self.load_run(id, watcher, Loads::Always).await
    }

    pub(super) async fn load_run(
        &self,
        id: RunId,
        watcher: Option<&Arc<dyn Watcher>>,
        loads: Loads,
    ) -> Result<Option<RunHandle>, RecoverError> {
        let Some(durable) = &self.shared.durable else { return Ok(None) };
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = watch::channel(None);
        let (mailbox, late) = (Arc::<Mailbox>::default(), Arc::<LatePass>::default());
        let leave = self.shared.leave();
        let reached = InProgress {
            commands: commands.clone(),
            response: response.clone(),
            mailbox: Arc::clone(&mailbox),
            late: Arc::clone(&late),
            leave: leave.clone(),
        };
        let Some(claim) = Claim::of(&self.shared, id, reached) else { return Ok(None) };
        let Some((state, journal)) = durable.load(id).await? else {
            claim.give_up();
            if loads == Loads::Always {
                self.gone(id, watcher);
            }
            return Ok(None);
        };
        if loads == Loads::IfParked && (state.status().is_final() || !journal.is_parked()) {
            claim.give_up();
            return Ok(None);
        }
        if state.status().is_final() {
            claim.give_up();
            if state.calls().next().is_some() {
                self.unsubscribe_later(id);
            }
            self.gone(id, watcher);
            return Ok(None);
        }
        let mut journal = journal;
        let parked_until = journal.wakes_at();
        let Arrived { orders, callbacks, ends } = self.messages_for(id, &state, &mut journal).await?;
        let run = Run::resume(state, Arc::clone(&self.shared.environment));
        let awaited = children::awaited(&run);
        let not_awaited = ends.into_iter().filter(|(_, key)| !awaited.contains(key));
        not_awaited.for_each(|(message, _)| journal.take_in(message));
        let Some(start) = run.state().start().cloned() else { return Ok(None) };
        respond.send_replace(run.state().response().cloned());
        let (report, ended) = watch::channel(None);
        let watcher = watcher.cloned().or_else(|| self.shared.watcher.clone());
        if let Some(watcher) = &watcher {
            watcher.resumes(run.state());
        }
        let owned = claim.keep();
        journal.owns_something(owned.as_ref().is_some_and(|owned| owned.admissions.is_some()));
        let Owned { pass, admissions } = owned.unwrap_or_else(|| {
            let waits = run.state().waits;
            let trigger = start.trigger_name();
            let pass = self.shared.gates.take_again(run.state().workflow(), trigger, id, waits);
            Owned { pass, admissions: None }
        });
        if !matches!(pass, Pass::Free) {
            late.not_needed();
        }
        let accepted = None;
        let links = Links {
            inbox,
            leave,
            watcher,
            respond,
            report,
            accepted,
            mailbox,
            late,
            orders,
            callbacks,
            pass,
        };
        let mut driver = Driver::new(self.for_runs(), run, Some(journal), links);
        driver.admit_again(admissions);
        if let Some(due) = parked_until {
            self.shared.wheel.unset(id, due);
            self.shared.count_woken();
        }
        self.adopt(id, driver, None);
        Ok(Some(RunHandle { id, start, commands, accepted: None, response, ended }))
    }

    /// The messages of a resumed run. Orders are executed before it continues: those that it has received, or its suspension
    /// if it has crashed the process repeatedly. An explicit order takes precedence: an operator who resumes such a run knows
    /// about the crashes.
    async fn messages_for(
        &self,
        id: RunId,
        state: &RunState,
        journal: &mut RunJournal,
    ) -> Result<Arrived, RecoverError> {
        // A message that arrives after the run was read is announced to its mailbox.
        let mut arrived = if journal.has_messages { self.arrived(id).await? } else { Arrived::default() };
        let orders = &mut arrived.orders;
        let ends = self.ends_of(id).await?;
        if ends > 0 {
            journal.suspect();
        }
        if suspects::is_poison(ends) && orders.is_empty() && state.status() == RunStatus::Running {
            tracing::error!(
                run_id = %id,
                workflow = %state.workflow().name,
                ends,
                "the run is suspended: a worker was evaluating it each time the process ended; `loom runs resume` lets it \
                 continue, `loom runs cancel` ends it"
            );
            orders.push(Given { order: Order::Suspend, message: None });
        }
        Ok(arrived)
    }

    /// Prepares the engine to load runs one by one, on request; see [`Engine::recover_run`]. Call it once, instead of
    /// [`Engine::recover`].
    ///
    /// # Errors
    /// When the store cannot be read, or when the record of the last process's end cannot be written.
    pub async fn stand_by(&self) -> Result<(), loom_store::Error> {
        self.shared.standing_by.store(true, Ordering::Relaxed);
        self.continue_numbering().await?;
        self.note_suspects().await
    }

    /// Resubmits a run that has ended, beginning with the action `from`. Actions that had ended keep their outputs and
    /// times, except those that follow `from` or were interrupted; variables have the values that the kept actions gave
    /// them. `workflow` may be a different definition, as long as the kept actions are the same in both. The new run is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`ResubmitError`]; no run has started.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the start; the run may or may not start.
    pub async fn resubmit_from(
        &self,
        workflow: &Arc<Workflow>,
        parameters: Vec<Value>,
        before: RunId,
        from: &str,
    ) -> Result<RunHandle, ResubmitError> {
        if self.shared.stopping.is_cancelled() {
            return Err(ResubmitError::Stopping);
        }
        let unknown = || ResubmitError::Unknown { run: before };
        let durable = self.shared.durable.as_ref().ok_or_else(unknown)?;
        let row = durable.store.run(before).await.map_err(ResubmitError::Store)?.ok_or_else(unknown)?;
        if row.ended.is_none() {
            return Err(ResubmitError::InProgress { run: before });
        }
        let old = durable.workflow_of(before, &row).await?;
        let (events, mut reader) = durable.events(before).await?;
        let Some(Event::RunStarted { start, .. }) = events.first() else { return Err(unknown()) };
        for (event, number) in events.iter().zip(1..) {
            let illegal = |source| ResubmitError::Illegal { run: before, source };
            event.check_references(&old, number).map_err(illegal)?;
        }
        let at = self.shared.clock.now();
        let kept = resubmit::kept(&events, &old, workflow, from, at)?;
        let trigger = start.trigger_name().and_then(|name| workflow.find_trigger(name));
        let shard = self.shard_for(workflow, trigger).map_err(ResubmitError::Full)?;
        let start = fire::again(workflow, parameters, start, self.shared.next_run(shard));
        drop(events);
        let unavailable = reader.take_unavailable();
        let mut first = vec![Event::RunStarted { start: Arc::clone(&start), at }];
        first.extend(kept);
        let (engine, workflow) = (self.clone(), Arc::clone(workflow));
        let begun = self.shared.tasks.spawn(async move {
            engine.begin_with(&workflow, start, (first, reader, unavailable), before).await
        });
        begun.await.map_err(|_| ResubmitError::Stopping)?
    }

    /// Starts a run whose journal begins with `events`.
    async fn begin_with(
        &self,
        workflow: &Arc<Workflow>,
        start: Arc<RunStart>,
        (events, reader, unavailable): (Vec<Event>, FrameReader, Unavailable),
        origin: RunId,
    ) -> Result<RunHandle, ResubmitError> {
        let id = start.run;
        let durable = self.shared.durable.as_ref().ok_or(ResubmitError::Unknown { run: origin })?;
        let mut state = RunState::new(Arc::clone(workflow));
        state.replay(&events).map_err(|source| ResubmitError::Illegal { run: origin, source })?;
        state.unavailable = unavailable;
        let written = Written { origin: Some(origin), ..Written::default() };
        let mut journal = durable.begin(workflow, &start, written);
        journal.adopt(reader);
        journal.record(&events, &state);
        let (commands, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (respond, response) = watch::channel(state.response().cloned());
        let (mailbox, late) = (Arc::<Mailbox>::default(), Arc::<LatePass>::default());
        let leave = self.shared.leave();
        let reached = InProgress {
            commands: commands.clone(),
            response: response.clone(),
            mailbox: Arc::clone(&mailbox),
            late: Arc::clone(&late),
            leave: leave.clone(),
        };
        let claim = Claim::of(&self.shared, id, reached).ok_or(ResubmitError::Stopping)?;
        let pass = self.enter(workflow, start.trigger_name(), &[id], None).map_err(ResubmitError::Full)?;
        let pass = pass.into_iter().next().unwrap_or_default();
        if !matches!(pass, Pass::Free) {
            late.not_needed();
        }
        if pass.waits() {
            let waiting = [Event::RunWaiting { at: state.started_at() }];
            state.replay(&waiting).map_err(|source| ResubmitError::Illegal { run: origin, source })?;
            journal.record(&waiting, &state);
        }
        journal.flush(&state, state.started_at()).await.map_err(ResubmitError::Store)?;
        let watcher = self.shared.watcher.clone();
        if let Some(watcher) = &watcher {
            watcher.events(&state, &events[..1]);
            watcher.resumes(&state);
        }
        let (report, ended) = watch::channel(None);
        let (accepted, orders, callbacks) = (None, Vec::new(), VecDeque::new());
        let links = Links {
            inbox,
            leave,
            watcher,
            respond,
            report,
            accepted,
            mailbox,
            late,
            orders,
            callbacks,
            pass,
        };
        let run = Run::resume(state, Arc::clone(&self.shared.environment));
        let mut driver = Driver::new(self.for_runs(), run, Some(journal), links);
        // Actions that the new run continues in the middle were admitted in the old one.
        driver.admit_again(None);
        claim.keep();
        self.adopt(id, driver, None);
        Ok(RunHandle { id, start, commands, accepted: None, response, ended })
    }

    /// Waits for the Response of a run in the store, whether it is in progress, not loaded yet, or has ended. None when the
    /// run ends without a Response, or when the engine is shut down first.
    ///
    /// # Errors
    /// [`RecoverError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn response_of(&self, id: RunId) -> Result<Option<Value>, RecoverError> {
        loop {
            let reached = self.shared.awake.find(id, |reached| reached.response.clone());
            if let Some(mut response) = reached
                && let Ok(response) = response.wait_for(Option::is_some).await
            {
                return Ok(response.clone());
            }
            // The caller cannot be served either, and has to try again when the store works.
            match self.shared.durable.as_ref().map(|durable| durable.store.health().condition) {
                Some(Condition::Paused(source)) => return Err(RecoverError::Store { run: id, source }),
                Some(Condition::Closed) => {
                    return Err(RecoverError::Store { run: id, source: loom_store::Error::Closed });
                }
                Some(Condition::Running) | None => {}
            }
            let stands_by = self.shared.standing_by.load(Ordering::Relaxed);
            if self.shared.stopping.is_cancelled() {
                return Ok(None);
            }
            if !self.shared.may_load(id) {
                match self.response_elsewhere(id).await? {
                    Some(Found::State(state)) => return readable_response(id, &state),
                    Some(Found::Nothing) => return Ok(None),
                    None => continue,
                }
            }
            if !stands_by
                && let Some(mut run) = self.recover_run(id, None).await?
                && let Some(response) = run.response().await
            {
                return Ok(Some(response));
            }
            // The run has ended without a Response, or is held again; the store says which.
            match self.state_of(id).await? {
                Some((_, state)) if stands_by && state.response().is_some() => {
                    return readable_response(id, &state);
                }
                Some((_, state)) if stands_by && !state.status().is_final() => {
                    return Err(RecoverError::Held { run: id });
                }
                Some((_, state)) if !state.status().is_final() => tokio::task::yield_now().await,
                Some((_, state)) => return readable_response(id, &state),
                None => return Ok(None),
            }
        }
    }

    /// Resumes the held runs and returns their number. Call it after the store has been resumed.
    ///
    /// # Errors
    /// The error of the first run that cannot be read. It stays held if the error is that of the store; all others continue.
    pub async fn release_held(&self, watcher: Option<&Arc<dyn Watcher>>) -> Result<usize, RecoverError> {
        let held = {
            let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.releases += 1;
            std::mem::take(&mut held.runs)
        };
        let (mut released, mut first_error) = (0, None);
        for run in held.into_keys() {
            match self.recover_run(run, watcher).await {
                Ok(_) => released += 1,
                Err(error) => {
                    self.not_loaded(run, &error);
                    first_error = first_error.or(Some(error));
                }
            }
        }
        if let Err(error) = self.count_those_parked().await {
            tracing::warn!(%error, "cannot count the parked runs");
        }
        first_error.map_or(Ok(released), Err)
    }

    /// Notes that a run could not be loaded. One that never will be gives up what it owned, as it does at a restart.
    pub(super) fn not_loaded(&self, run: RunId, error: &RecoverError) {
        let is_held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).not_loaded(run, error);
        if !is_held {
            drop(self.shared.aside.take(run));
        }
    }

    /// Holds a run whose journal could not be written until the store works again. If held runs have been released since
    /// its last write, it missed that release and is resumed immediately.
    pub(super) async fn hold(&self, run: RunId, unwritten: Unwritten, watcher: Option<&Arc<dyn Watcher>>) {
        let mut why: Arc<str> = with_causes(&unwritten.why).into();
        let mut seen = unwritten.releases;
        // A run whose commit only came too late is loaded again at once.
        let mut is_held = !unwritten.is_contended;
        loop {
            if std::mem::replace(&mut is_held, true) {
                let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
                if held.releases == seen {
                    held.runs.insert(run, why);
                    return;
                }
                seen = held.releases;
            }
            // Boxed, because recovery spawns a task whose end calls this function again: the type would be infinite.
            let taken_up: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(self.recover_run(run, watcher));
            match taken_up.await {
                Ok(_) => return,
                // If another release has happened in the meantime, the loop tries again.
                Err(error) => {
                    tracing::error!(run_id = %run, %error, "the run does not continue: its journal cannot be read");
                    if !matches!(error, RecoverError::Store { .. }) {
                        return self.not_loaded(run, &error);
                    }
                    why = error.to_string().into();
                }
            }
        }
    }

    /// Ends the subscriptions of runs that had ended when the last process stopped, and whose requests to unsubscribe may
    /// not have been answered.
    async fn unsubscribe(&self, shards: Shards) -> Result<(), loom_store::Error> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        let mut after = None;
        loop {
            let page = durable.unsubscribing(after).await?;
            for run in page.iter().filter(|run| shards.contains(run.shard())) {
                self.unsubscribe_later(*run);
            }
            match page.last() {
                Some(last) => after = Some(*last),
                None => return Ok(()),
            }
        }
    }

    fn unsubscribe_later(&self, run: RunId) {
        let engine = self.clone();
        self.shared.tasks.spawn(async move {
            let stopping = engine.shared.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = engine.unsubscribe_run(run) => {}
            }
        });
    }

    async fn unsubscribe_run(&self, run: RunId) {
        let Some(durable) = &self.shared.durable else { return };
        match durable.is_unsubscribing(run).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(run_id = %run, %error, "cannot end the run's subscriptions; trying again at the next start");
                return;
            }
        }
        match durable.load(run).await {
            Ok(Some((state, _))) if state.calls().next().is_some() => {
                let (_, inbox) = mpsc::channel(1);
                let (respond, report) = (watch::channel(None).0, watch::channel(None).0);
                let mailbox = Arc::default();
                let (orders, callbacks, pass) = (Vec::new(), VecDeque::new(), Pass::Free);
                let links = Links {
                    inbox,
                    leave: None,
                    watcher: None,
                    respond,
                    report,
                    accepted: None,
                    mailbox,
                    late: Arc::default(),
                    orders,
                    callbacks,
                    pass,
                };
                let run = Run::resume(state, Arc::clone(&self.shared.environment));
                Driver::new(self.for_runs(), run, None, links).unsubscribe().await;
            }
            // Retention has deleted the run, and with it everything known about its subscriptions.
            Ok(_) => {
                if let Err(error) = durable.unsubscribed(run).await {
                    tracing::warn!(run_id = %run, %error, "cannot record that the subscriptions of a run have ended");
                }
            }
            Err(error) => {
                tracing::warn!(run_id = %run, %error, "cannot end the run's subscriptions; trying again at the next start");
            }
        }
    }
}

/// The error and all its sources, separated by colons.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.extend([": ", &deeper.to_string()]);
        cause = deeper.source();
    }
    text
}

/// A claim on a run that is being loaded: no other task can load it in the meantime. It holds what the run owns, and puts it
/// back if the run cannot be loaded now.
struct Claim<'e> {
    engine: &'e Shared,
    run: RunId,
    owned: Option<Owned>,
    kept: bool,
}

impl<'e> Claim<'e> {
    /// None when the run is in progress, another task is loading it, or another node has it.
    fn of(engine: &'e Shared, run: RunId, reached: InProgress) -> Option<Claim<'e>> {
        if !engine.may_load(run) {
            return None;
        }
        // Under one lock: a run that leaves puts aside what it owns in the same moment.
        let owned = engine.awake.enter(run, reached, || engine.aside.take(run))?;
        Some(Claim { engine, run, owned, kept: false })
    }

    /// Keeps the entry: the run is in progress now. Returns what it owned before.
    fn keep(mut self) -> Option<Owned> {
        self.kept = true;
        self.owned.take()
    }

    /// Gives up the claim and what the run owned: it is over.
    fn give_up(mut self) {
        self.owned = None;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            if let Some(owned) = self.owned.take() {
                self.engine.aside.keep(self.run, owned);
            }
            self.engine.awake.remove(self.run);
        }
    }
}

/// The response of a loaded run, unless it holds a secret that can no longer be read.
fn readable_response(run: RunId, state: &RunState) -> Result<Option<Value>, RecoverError> {
    match state.response().and_then(|response| state.unavailable.reason_in(response)) {
        Some(why) => Err(RecoverError::Secret { run, why: why.to_string() }),
        None => Ok(state.response().cloned()),
    }
}
