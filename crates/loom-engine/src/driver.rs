//! One run's task: feeds the machine, performs the effects that its events request, and reports to the watcher.

mod decisions;
mod happened;
mod memory;
mod order;
mod park;
mod report;
mod resume;
mod secrets;
mod showing;
mod under_way;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use happened::{Along, Finished, Happened};
use loom_definition::{
    Status,
    model::{ActionKind, EffectKind},
};
use loom_expression::{Timestamp, Value};
use loom_store::{Ack, AtWork, Conflict, InboxId};
use memory::MemoryWrites;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use under_way::{UnderWay, make_call};

use crate::{
    children::{self, is_child},
    clock::RunClock,
    durable::{self, RunJournal},
    envelope::Envelope,
    event::{Command, EffectId, EffectResult, Event, Next, Outcome, Phase, Place},
    flights::Flight,
    guard::{Admission, TimeLimit},
    live_text::RunTexts,
    machine::Run,
    orders::Given,
    other_runs::OtherRuns,
    ports::{Call, CallMemory},
    run_report::RunReport,
    shared::{Leave, Shared, gate::Pass, late_pass::LatePass},
    signals::{self, Mailbox},
    time,
    watcher::Watcher,
};

type CallInProgress = Abortable<Pin<Box<dyn Future<Output = Finished> + Send>>>;

/// The store has failed, and the run must be held.
#[derive(Debug)]
pub(crate) struct Unwritten {
    /// How often held runs had been released before the first write that may have failed.
    pub(crate) releases: u64,
    /// The store's error.
    pub(crate) why: loom_store::Error,
    /// What the run still owns.
    pub(crate) pass: Pass,
    /// Whether the store works, and rejected the commit only because another process has changed a key of shared memory.
    pub(crate) is_contended: bool,
}

impl Unwritten {
    /// Whether another node owns the run.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.why, loom_store::Error::Conflict(Conflict::Lost { .. }))
    }
}

/// How the task of a run ended.
#[derive(Debug)]
pub(crate) enum Driven {
    /// The run has ended, or the engine has been shut down.
    Over,
    /// The run only waits, and has left memory.
    Parked,
    /// The store already has a run of the same firing; this one had no effects.
    Duplicate,
    /// The store failed.
    Unwritten(Unwritten),
    /// Another node continues the run.
    Left,
}

/// The channels that connect a run with its callers and watchers.
pub(crate) struct Links {
    pub(crate) inbox: mpsc::Receiver<Envelope>,
    /// How the run is made to leave this process; none if the process is no node.
    pub(crate) leave: Option<Leave>,
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
    /// Receives the Response.
    pub(crate) respond: watch::Sender<Option<Value>>,
    pub(crate) report: watch::Sender<Option<Arc<RunReport>>>,
    /// Notified when the start is durable.
    pub(crate) accepted: Option<oneshot::Sender<()>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) late: Arc<LatePass>,
    /// Executed before a loaded run does anything else.
    pub(crate) orders: Vec<Given>,
    /// Callbacks that arrived before the run was loaded, oldest first.
    pub(crate) callbacks: VecDeque<Envelope>,
    /// What the run owns at the gate of its trigger.
    pub(crate) pass: Pass,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    others: Arc<dyn OtherRuns>,
    run: Run,
    clock: RunClock,
    journal: Option<RunJournal>,
    /// Events that are not durable yet and therefore have not been reported.
    unshown: Vec<Event>,
    /// Events that the store is writing.
    spilled: Option<(Ack, Vec<Event>)>,
    /// See [`Unwritten`].
    releases: u64,
    inbox: mpsc::Receiver<Envelope>,
    leave: Option<Leave>,
    mailbox: Arc<Mailbox>,
    orders: Vec<Given>,
    /// See [`Links::callbacks`].
    callbacks: VecDeque<Envelope>,
    /// The messages that have been handled since the run was loaded, each with the answer to its sender.
    handled: BTreeMap<InboxId, bool>,
    /// Set while the run is being evaluated; never across an await that waits for something external.
    evaluating: Option<AtWork>,
    accepted: Option<oneshot::Sender<()>>,
    calls: FuturesUnordered<CallInProgress>,
    /// What has happened, and the run has not received yet, oldest first. A timer that was due before fires first.
    happened: VecDeque<Happened>,
    /// Whether the next decision takes too long for a thread of the runtime.
    is_next_long: bool,
    /// When the run was loaded; earlier than any time for one that started here.
    loaded: Timestamp,
    /// Since when the run has only been waiting.
    idle_since: Option<Instant>,
    /// Until when the run is not parked, because something is about to happen.
    stays_until: Option<Instant>,
    under_way: HashMap<EffectId, UnderWay>,
    /// The current step, and calls whose outcomes are not durable yet.
    landing: Vec<Flight>,
    admissions: HashMap<Place, Admission>,
    /// The texts that its calls show while they arrive, once one may.
    texts: Option<RunTexts>,
    present: Option<crate::presence::Present>,
    memory: MemoryWrites,
    /// See [`Links::pass`]. Given up when the end of the run is durable, and dropped with the run in any case.
    pass: Pass,
    /// What the run was given at the gate since.
    late: Arc<LatePass>,
    watcher: Option<Arc<dyn Watcher>>,
    respond: Option<watch::Sender<Option<Value>>>,
    report: watch::Sender<Option<Arc<RunReport>>>,
}

impl Driver {
    pub(crate) fn new(
        (shared, others): (Arc<Shared>, Arc<dyn OtherRuns>),
        run: Run,
        journal: Option<RunJournal>,
        links: Links,
    ) -> Driver {
        if let Some(start) = run.state().start() {
            run.environment().learn_parameters(start);
        }
        let reached = journal.as_ref().map_or(Timestamp::MIN, RunJournal::reached);
        Driver {
            releases: shared.releases(),
            clock: RunClock::from(Arc::clone(&shared.clock), reached),
            shared,
            others,
            run,
            journal,
            unshown: Vec::new(),
            spilled: None,
            inbox: links.inbox,
            leave: links.leave,
            mailbox: links.mailbox,
            orders: links.orders,
            callbacks: links.callbacks,
            handled: BTreeMap::new(),
            evaluating: None,
            accepted: links.accepted,
            calls: FuturesUnordered::new(),
            happened: VecDeque::new(),
            is_next_long: false,
            loaded: Timestamp::MIN,
            idle_since: None,
            stays_until: None,
            under_way: HashMap::new(),
            landing: Vec::new(),
            admissions: HashMap::new(),
            texts: None,
            present: None,
            memory: MemoryWrites::default(),
            pass: links.pass,
            late: links.late,
            watcher: links.watcher,
            respond: Some(links.respond),
            report: links.report,
        }
    }

    /// Drives the run to its end, or until the store fails; the run then stays as it is in the store.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls in progress; a durable run is continued by the next process.
    pub(crate) async fn drive(mut self, first: Option<Command>) -> Driven {
        let driven = self.drive_to_end(first).await;
        if let Err(why) = driven {
            let run = self.run.state().start().map(|start| start.run);
            if self.journal.as_ref().is_some_and(RunJournal::is_duplicate) {
                // It was not reported to anybody, and had no effects.
                tracing::debug!(run_id = ?run, "dropping the run: another run was accepted under its key");
                return Driven::Duplicate;
            }
            // A paused store holds many runs at once, and has been reported already.
            let is_contended = self.journal.as_ref().is_some_and(RunJournal::is_contended);
            if is_contended {
                tracing::debug!(run_id = ?run, error = %why, "another process has changed a key of shared memory; repeating the attempt");
            } else if matches!(why, loom_store::Error::Conflict(Conflict::Lost { .. })) {
                tracing::debug!(run_id = ?run, error = %why, "another node continues the run");
            } else if matches!(why, loom_store::Error::Paused { .. }) {
                tracing::debug!(run_id = ?run, error = %why, "the run is held: its journal cannot be written");
            } else {
                tracing::error!(run_id = ?run, error = %why, "the run is held: its journal cannot be written");
            }
            self.adopt_late_pass();
            return Driven::Unwritten(Unwritten {
                releases: self.releases,
                why,
                pass: self.pass,
                is_contended,
            });
        }
        if let Ok(false) = driven {
            return if self.is_leaving() { Driven::Left } else { Driven::Parked };
        }
        self.report_end();
        self.end_calls().await;
        Driven::Over
    }

    /// Repeats the requests that end the subscriptions of a run which has ended, if their outcomes are not recorded.
    ///
    /// # Cancel safety
    /// Like [`Driver::drive`].
    pub(crate) async fn unsubscribe(mut self) {
        let outstanding: Vec<EffectId> = self.run.state().calls().map(|(effect, _)| effect).collect();
        for call in outstanding.into_iter().filter_map(|effect| self.run.call(effect)).collect::<Vec<_>>() {
            // The run has ended, so the resulting command has no recipient.
            drop(self.begin_again(call));
        }
        self.end_calls().await;
    }

    /// Waits for requests to unsubscribe that are still in progress when the run has ended. The store records the pending
    /// requests in the commit that ends the run; this clears that record.
    async fn end_calls(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        while !self.calls.is_empty() {
            self.calls.next().await;
        }
        let run = self.run.state().start().map(|start| start.run);
        if let (Some(durable), Some(run)) = (&self.shared.durable, run)
            && let Err(error) = durable.unsubscribed(run).await
        {
            tracing::warn!(run_id = %run, %error, "cannot record that the run's subscriptions have ended; ending them again at the next start");
        }
    }

    /// The run's watcher.
    pub(crate) fn watcher(&self) -> Option<&Arc<dyn Watcher>> {
        self.watcher.as_ref()
    }

    /// How the run is made to leave this process.
    pub(crate) fn leave(&self) -> Option<&Leave> {
        self.leave.as_ref()
    }

    /// Whether another node is about to continue the run.
    pub(super) fn is_leaving(&self) -> bool {
        self.leave.as_ref().is_some_and(|leave| leave.soon.is_cancelled())
    }

    /// Whether the run begins nothing more: the engine drains, or the run leaves this process.
    pub(super) fn is_draining(&self) -> bool {
        self.shared.flights.draining() || self.is_leaving()
    }

    /// False if the run has left memory instead.
    async fn drive_to_end(&mut self, first: Option<Command>) -> Result<bool, loom_store::Error> {
        self.landing.push(self.shared.flights.begin());
        match first {
            Some(command) if self.shared.careful.load(Ordering::Relaxed) => {
                Box::pin(self.handle_durably(command)).await?;
            }
            Some(command) => self.handle(command).await?,
            None => {
                let _alone = self.alone().await;
                Box::pin(self.resume()).await?;
            }
        }
        while !self.is_over() {
            let next = if self.has_work() {
                // Others have their turn.
                tokio::task::yield_now().await;
                self.happened_meanwhile().await
            } else {
                // Nothing else can be done for this run now, so the buffered events are written and reported.
                self.make_durable().await?;
                self.landing.clear();
                if self.is_leaving() && self.under_way.values().all(|call| call.flight.is_none()) {
                    return Ok(false);
                }
                // Whatever comes next reads the versions that are current then.
                self.run.forget_reads();
                self.next_command().await
            };
            if let Some(first) = next {
                self.idle_since = None;
                if self.landing.is_empty() {
                    self.landing.push(self.shared.flights.begin());
                }
                let _alone = self.alone().await;
                self.handle_batch(first).await?;
            } else if self.has_work() {
                self.decide_more().await?;
            } else {
                self.memory.failure()?;
                if self.is_time_to_park() && Box::pin(self.park()).await? {
                    return Ok(false);
                }
            }
        }
        self.make_durable().await?;
        Ok(true)
    }

    fn is_over(&self) -> bool {
        self.run.state().status().is_final()
    }

    /// Turns the end of a call into a command, and records its notes.
    fn finished(&mut self, finished: Finished) -> Option<Envelope> {
        let mut received = None;
        let (effect, result, notes) = match finished {
            Finished::Call(effect, result, notes, guarded, along) => {
                self.store_services(guarded.as_deref());
                match along {
                    Along::Message(message) => received = Some(message),
                    // An action that has ended meanwhile writes nothing.
                    Along::Writes(place, prepared)
                        if self.journal.is_some() && self.run.state().waits_for(effect) =>
                    {
                        self.memory.prepare(effect, place, prepared);
                    }
                    Along::Writes(..) | Along::Nothing => {}
                }
                (effect, self.with_echoes_labelled(effect, result), notes)
            }
            Finished::Signal(effect, signals::Received { result, .. }) => {
                // A signal that was not received stays for the next wait; the commit that ends the wait consumes a received
                // one.
                if self.run.state().waits_for(effect) {
                    received = self.mailbox.take(effect);
                } else {
                    self.mailbox.put_back(effect);
                }
                (effect, result, Vec::new())
            }
            Finished::Memory(effect, place, operated) => {
                (effect, self.operated(effect, place, operated)?, Vec::new())
            }
            Finished::Admitted(effect, place, release, notes, guarded) => {
                self.store_services(Some(&guarded));
                self.admissions.insert(place, Admission::Waited(release));
                (effect, EffectResult::Admitted, notes)
            }
            Finished::Nothing => return None,
        };
        self.landing.extend(self.under_way.remove(&effect).and_then(|ended| ended.flight));
        let at = self.clock.now();
        for note in notes {
            self.run.note(Command::EffectNoted { effect, note }, at);
        }
        Some(Envelope { received, ..Envelope::new(Command::EffectEnded { effect, result }) })
    }

    /// Makes all events durable, and reports them.
    async fn make_durable(&mut self) -> Result<(), loom_store::Error> {
        self.rest();
        self.memory.failure()?;
        self.begin_write();
        if self.is_over() {
            // The commit of the end says that the run owns nothing.
            self.adopt_late_pass();
        }
        if let Some(journal) = &mut self.journal {
            journal.flush(self.run.state(), self.clock.now().run).await?;
        }
        self.memory.committed();
        self.end_spill().await?;
        self.land();
        if !self.unshown.is_empty() {
            let events = std::mem::take(&mut self.unshown);
            self.show(&events);
        }
        Ok(())
    }

    /// The outcomes of calls are durable, unless a decision is not made yet. The step is not over.
    fn land(&mut self) {
        if !self.run.has_undecided() {
            self.landing.truncate(1);
        }
    }

    /// Passes the buffered events to the store and continues while they are written. The previous batch must be durable by
    /// then, so that a long loop keeps at most two batches of its history in memory.
    async fn spill(&mut self) -> Result<(), loom_store::Error> {
        self.rest();
        self.end_spill().await?;
        self.begin_write();
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let written = journal.spill(self.run.state(), self.clock.now().run).await?;
        let events = std::mem::take(&mut self.unshown);
        match written {
            Some(written) => self.spilled = Some((written, events)),
            None => self.show(&events),
        }
        Ok(())
    }

    /// Notes the number of releases before the first write that may fail; see [`Unwritten::releases`].
    fn begin_write(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.audit(self.run.take_uses(), self.clock.now().run, self.run.environment());
        }
        if self.journal.is_some() && self.spilled.is_none() {
            self.releases = self.shared.releases();
        }
    }

    /// Waits for the last batch passed to the store, and reports it.
    async fn end_spill(&mut self) -> Result<(), loom_store::Error> {
        if let Some((written, events)) = self.spilled.take() {
            written.await?;
            self.show(&events);
        }
        Ok(())
    }

    /// Performs the effects that new events request. Returns the commands that follow immediately.
    async fn perform_effects(&mut self) -> Result<Vec<Command>, loom_store::Error> {
        let bytes = self.run.heap_bytes_of_events();
        let events = self.run.take_events();
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ended_something, mut resumed) = (false, false);
        let mut timed_out = Vec::new();
        let mut started = Vec::new();
        for event in &events {
            match event {
                Event::AttemptStarted { effect, .. } => started.push(*effect),
                Event::Resumed { .. } => resumed = true,
                Event::ActionEnded { place, outcome, .. } => {
                    ended_something = true;
                    if outcome.status == Status::TimedOut {
                        timed_out.push(*place);
                    }
                    self.settle(*place, outcome);
                }
                // A fallback replaces the timeout of the action, but the call timed out nevertheless.
                Event::AttemptEnded { place, outcome, next: Next::End, .. }
                    if outcome.status == Status::TimedOut =>
                {
                    timed_out.push(*place);
                }
                Event::AttemptEnded { place, outcome, next: Next::Retry { .. }, .. } => {
                    self.settle(*place, outcome);
                }
                // Nobody has approved in time, which approves by default.
                Event::AttemptEnded { next: Next::Proceed, .. } => ended_something = true,
                _ => {}
            }
        }
        let commits = self.commit_memory(&events);
        if self.journal.is_some() {
            let events = self.record(events, bytes).await;
            let barrier = commits || durable::needs_barrier(&events);
            let is_full = self.journal.as_ref().is_some_and(RunJournal::is_full);
            if self.unshown.is_empty() {
                self.unshown = events;
            } else {
                self.unshown.extend(events);
            }
            if barrier {
                self.make_durable().await?;
            } else if is_full {
                self.spill().await?;
            }
        } else {
            self.land();
            self.show(&events);
        }
        if ended_something && !self.under_way.is_empty() {
            let state = self.run.state();
            self.under_way.retain(|effect, under_way| {
                let wanted = state.waits_for(*effect);
                if !wanted {
                    under_way.end(&timed_out);
                }
                wanted
            });
        }
        let left = if resumed { self.calls_to_resume(&started) } else { Vec::new() };
        let calls = self.calls(started).await;
        let mut immediate: Vec<Command> = calls.into_iter().flat_map(|call| self.begin(call)).collect();
        immediate.extend(self.resume_calls(left));
        Ok(immediate)
    }

    /// Reports the outcome of an admitted action to its service.
    fn settle(&mut self, place: Place, outcome: &Outcome) {
        if self.admissions.is_empty() {
            return;
        }
        if let Some(admission) = self.admissions.remove(&place) {
            let now = self.shared.services.registry().clock().now();
            admission.settle(outcome.status, now);
        }
    }

    /// Begins a call. Returns the commands that follow if it needs no waiting, such as an immediate admission.
    fn begin(&mut self, call: Call) -> Vec<Command> {
        let effect = call.effect;
        let Some(place) = self.run.state().call(effect).map(|call| call.place) else { return Vec::new() };
        if let Some(result) = self.refused_secret(&call) {
            return vec![Command::EffectEnded { effect, result }];
        }
        let left = call.due.map(|due| time::between(self.clock.now().run, due));
        if self.waits_for_signal(&call) {
            let Some(durable) = &self.shared.durable else {
                return vec![Command::EffectEnded { effect, result: signals::unreachable() }];
            };
            let (mailbox, store) = (Arc::clone(&self.mailbox), Arc::clone(&durable.store));
            let abort =
                self.push(async move { Finished::Signal(effect, mailbox.receive(store, &call).await) });
            let waits = Arc::new(AtomicBool::new(true));
            let aborts = [Some(abort), None];
            self.under_way.insert(effect, UnderWay { place, aborts, limit: None, flight: None, waits });
            return Vec::new();
        }
        if self.is_memory(&call) {
            self.operate(call, place);
            return Vec::new();
        }
        if left.is_some_and(|left| left.is_zero()) {
            // The action's timer fires next, and would only interrupt the call.
            return Vec::new();
        }
        if call.phase != Phase::Admit {
            self.send(call, place, left);
            return Vec::new();
        }
        let admitted = Command::EffectEnded { effect, result: EffectResult::Admitted };
        let Some(service) = self.shared.services.of_action(&call, None) else { return vec![admitted] };
        let opens = self.shared.services.opens();
        if opens.is_none()
            && let Some(admission) = service.try_admit(left)
        {
            self.store_services(Some(&service));
            let mut commands = Vec::with_capacity(1);
            let observed = admission.observed().into_iter();
            commands.extend(observed.map(|note| Command::EffectNoted { effect, note }));
            commands.push(admitted);
            self.admissions.insert(place, admission);
            return commands;
        }
        let (admitted_sender, admission) = oneshot::channel();
        // Two futures: one waits for the admission and then holds it until the action has ended; the other reports that the
        // wait is over.
        let guarded = Arc::clone(&service);
        let holding = self.push(async move {
            let mut notes = Vec::new();
            if let Some(opens) = opens {
                opens.await;
            }
            match Box::pin(service.hold(left, &mut notes, admitted_sender)).await {
                Some(refusal) => Finished::Call(effect, refusal, notes, None, Along::Nothing),
                None => Finished::Nothing,
            }
        });
        let waiting = self.push(async move {
            match admission.await {
                Ok((release, notes)) => Finished::Admitted(effect, place, release, notes, guarded),
                Err(_) => Finished::Nothing,
            }
        });
        let aborts = [Some(holding), Some(waiting)];
        let waits = Arc::default();
        self.under_way.insert(effect, UnderWay { place, aborts, limit: None, flight: None, waits });
        Vec::new()
    }

    /// Makes a call. `left` is the time until the action's deadline.
    fn send(&mut self, call: Call, place: Place, left: Option<Duration>) {
        let (shared, others, effect) = (Arc::clone(&self.shared), Arc::clone(&self.others), call.effect);
        // A draining engine does not wait for a child workflow: it is a run, which continues in the next process.
        let flight = (!is_child(&call)).then(|| self.shared.flights.begin());
        let call = self.showing(call, place);
        let memory = CallMemory::new(shared.memory.clone(), self.run.environment().masker.clone());
        let (call, has_journal) = (Call { memory, ..call }, self.journal.is_some());
        let limit = Arc::new(TimeLimit::default());
        let waits = Arc::<AtomicBool>::default();
        let (keeper, waiting) = (Arc::clone(&limit), Arc::clone(&waits));
        let abort = self.push(async move {
            let mut notes = Vec::new();
            // Boxed, because a large future is copied several times on its way to its task.
            let made = Box::pin(make_call((&shared, &others), &call, left, &keeper, &mut notes, &waiting));
            let (mut result, guarded) = made.await;
            let mut along = Along::Nothing;
            if is_child(&call) {
                along = children::end_message(&shared, &call).await.map_or(along, Along::Message);
            } else if !has_journal {
                result = call.memory.commit_now(result).await;
            } else if let Some(prepared) = call.memory.writes_of(&result) {
                along = Along::Writes(place, prepared);
            }
            Finished::Call(effect, result, notes, guarded, along)
        });
        let aborts = [Some(abort), None];
        self.under_way.insert(effect, UnderWay { place, aborts, limit: Some(limit), flight, waits });
    }

    /// Whether a call is a wait for a signal or an approval that the engine itself handles.
    fn waits_for_signal(&self, call: &Call) -> bool {
        if call.phase == Phase::Approve {
            return true;
        }
        let ActionKind::Effect { effect: EffectKind::Signal, .. } = &call.definition().kind else {
            return false;
        };
        call.phase == Phase::Call && self.shared.handlers.find(&EffectKind::Signal).is_none()
    }

    /// Starts a future of the run. Returns the handle that aborts it.
    fn push(&mut self, future: impl Future<Output = Finished> + Send + 'static) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        self.calls.push(Abortable::new(Box::pin(future), registration));
        abort
    }
}
