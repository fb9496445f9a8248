//! One run's task: feeds the machine, carries out what its events ask for, and tells whoever watches.

mod take_up;
mod under_way;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use loom_definition::{
    RunStatus, Status,
    model::{ActionKind, EffectKind, WorkflowKind},
};
use loom_expression::{Timestamp, Value};
use loom_store::{Ack, AtWork};
use tokio::sync::{mpsc, oneshot, watch};
use under_way::{UnderWay, make_call};

use crate::{
    clock::{Now, RunClock},
    durable::{self, RunJournal},
    engine::{Inner, RunReport, Watcher},
    event::{Command, EffectId, EffectResult, Event, Next, Note, Outcome, Phase, Place, TimerId},
    flights::Flight,
    guard::{Admission, Guarded, TimeLimit},
    machine::Run,
    orders::Given,
    ports::Call,
    signals::{self, Mailbox},
    state::RunState,
    time,
};

/// Events carried out before other runs get their turn.
const FAIR_SHARE: usize = 2_048;

/// Commands taken together, so that one commit serves all that is ready when a run has many calls in flight.
const BATCH_MAX: usize = 256;

/// The longest a run of a stateless workflow may take.
const STATELESS_DURATION_MAX: Duration = Duration::from_mins(5);

/// The longest single sleep; the wall clock is looked at again after it, because it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(30);

type CallInProgress = Abortable<Pin<Box<dyn Future<Output = Finished> + Send>>>;

/// How something that was under way ended.
enum Finished {
    /// A call.
    Call(EffectId, EffectResult, Vec<Note>, Option<Arc<Guarded>>),
    /// A wait for a signal, which its mailbox keeps for the call.
    Signal(EffectId, EffectResult),
    /// An admission, to be held while the engine executes the action.
    Admitted(EffectId, Place, oneshot::Sender<Status>, Vec<Note>, Arc<Guarded>),
    /// Nothing that the run needs to know.
    Nothing,
}

/// A command, and who wants to know that its consequences are durable: true, or false when nothing waited for it.
#[derive(Debug)]
pub(crate) struct Envelope {
    command: Command,
    done: Option<oneshot::Sender<bool>>,
}

impl Envelope {
    pub(crate) fn new(command: Command) -> Envelope {
        Envelope { command, done: None }
    }

    pub(crate) fn acknowledged(command: Command) -> (Envelope, oneshot::Receiver<bool>) {
        let (done, told) = oneshot::channel();
        (Envelope { command, done: Some(done) }, told)
    }
}

/// The store has failed, and the run is to be held.
#[derive(Clone, Debug)]
pub(crate) struct Unwritten {
    /// Times that held runs had been released before the first write that may have failed.
    pub(crate) releases: u64,
    /// What the store said.
    pub(crate) why: loom_store::Error,
}

/// How the task of a run ended.
#[derive(Clone, Debug)]
pub(crate) enum Driven {
    /// With the run, or with the engine.
    Over,
    /// The store has another run of the same firing, and nothing of this one happened.
    Duplicate,
    /// The store failed.
    Unwritten(Unwritten),
}

/// Who a run talks to.
pub(crate) struct Links {
    pub(crate) inbox: mpsc::Receiver<Envelope>,
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
    /// Told the Response.
    pub(crate) respond: watch::Sender<Option<Value>>,
    pub(crate) report: watch::Sender<Option<Arc<RunReport>>>,
    /// Told when the start is durable.
    pub(crate) accepted: Option<oneshot::Sender<()>>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Carried out before anything else is done for a run that was read back.
    pub(crate) orders: Vec<Given>,
}

pub(crate) struct Driver {
    inner: Arc<Inner>,
    run: Run,
    clock: RunClock,
    journal: Option<RunJournal>,
    /// Events that are not durable yet, and so were not shown to anybody.
    unshown: Vec<Event>,
    /// Events that were handed to the store, and are being written.
    spilled: Option<(Ack, Vec<Event>)>,
    /// See [`Unwritten`].
    releases: u64,
    inbox: mpsc::Receiver<Envelope>,
    mailbox: Arc<Mailbox>,
    orders: Vec<Given>,
    /// There while the run is being evaluated; never over a wait.
    evaluating: Option<AtWork>,
    accepted: Option<oneshot::Sender<()>>,
    calls: FuturesUnordered<CallInProgress>,
    under_way: HashMap<EffectId, UnderWay>,
    /// The step that is made, and calls whose ends are not durable yet.
    landing: Vec<Flight>,
    admissions: HashMap<Place, Admission>,
    watcher: Option<Arc<dyn Watcher>>,
    respond: Option<watch::Sender<Option<Value>>>,
    report: watch::Sender<Option<Arc<RunReport>>>,
}

impl Driver {
    pub(crate) fn new(inner: Arc<Inner>, run: Run, journal: Option<RunJournal>, links: Links) -> Driver {
        if let Some(start) = run.state().start() {
            run.environment().learn_parameters(start);
        }
        let reached = journal.as_ref().map_or(Timestamp::MIN, RunJournal::reached);
        Driver {
            releases: inner.releases(),
            clock: RunClock::from(Arc::clone(&inner.clock), reached),
            inner,
            run,
            journal,
            unshown: Vec::new(),
            spilled: None,
            inbox: links.inbox,
            mailbox: links.mailbox,
            orders: links.orders,
            evaluating: None,
            accepted: links.accepted,
            calls: FuturesUnordered::new(),
            under_way: HashMap::new(),
            landing: Vec::new(),
            admissions: HashMap::new(),
            watcher: links.watcher,
            respond: Some(links.respond),
            report: links.report,
        }
    }

    /// Drives the run to its end, or until the store fails; then the run is left as it is in the store.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls in progress; a durable run is continued by the next process.
    pub(crate) async fn drive(mut self, first: Option<Command>) -> Driven {
        if let Err(why) = self.drive_to_end(first).await {
            let run = self.run.state().start().map(|start| start.run);
            if self.journal.as_ref().is_some_and(RunJournal::is_duplicate) {
                // Nobody was told of it, and nothing was done for it.
                tracing::debug!(run_id = ?run, "the run is dropped: another one was accepted under its key");
                return Driven::Duplicate;
            }
            // That the store has paused was told by itself; it holds many runs at once.
            if matches!(why, loom_store::Error::Paused { .. }) {
                tracing::debug!(run_id = ?run, error = %why, "the run is held: its journal cannot be written");
            } else {
                tracing::error!(run_id = ?run, error = %why, "the run is held: its journal cannot be written");
            }
            return Driven::Unwritten(Unwritten { releases: self.releases, why });
        }
        self.tell_end();
        self.end_calls().await;
        Driven::Over
    }

    /// Makes the calls again that had no end when a run ended, whose end is in the store: they end its subscriptions.
    ///
    /// # Cancel safety
    /// As [`Driver::drive`].
    pub(crate) async fn unsubscribe(mut self) {
        let outstanding: Vec<EffectId> = self.run.state().calls().map(|(effect, _)| effect).collect();
        for call in outstanding.into_iter().filter_map(|effect| self.run.call(effect)).collect::<Vec<_>>() {
            // Nobody is left to be told how they end.
            drop(self.begin_again(call));
        }
        self.end_calls().await;
    }

    /// What ends a subscription may still be on its way when the run has ended. That it was, is known to the store
    /// since the end of the run, until it is over.
    async fn end_calls(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        while !self.calls.is_empty() {
            self.calls.next().await;
        }
        let run = self.run.state().start().map(|start| start.run);
        if let (Some(durable), Some(run)) = (&self.inner.durable, run)
            && let Err(error) = durable.unsubscribed(run).await
        {
            tracing::warn!(run_id = %run, %error, "its subscriptions are ended once more with the next start");
        }
    }

    /// Who hears of the run.
    pub(crate) fn watcher(&self) -> Option<&Arc<dyn Watcher>> {
        self.watcher.as_ref()
    }

    async fn drive_to_end(&mut self, first: Option<Command>) -> Result<(), loom_store::Error> {
        self.landing.push(self.inner.flights.begin());
        match first {
            Some(command) if self.inner.careful.load(Ordering::Relaxed) => {
                self.handle_durably(command).await?;
            }
            Some(command) => self.handle(command).await?,
            None => {
                let _alone = self.alone().await;
                self.go_on().await?;
            }
        }
        while !self.is_over() {
            // Nothing else can be done for this run now, so what is gathered goes to the store and is shown.
            self.make_durable().await?;
            self.landing.clear();
            let Some(first) = self.next_command().await else { continue };
            self.landing.push(self.inner.flights.begin());
            let _alone = self.alone().await;
            self.handle_batch(first).await?;
        }
        self.make_durable().await
    }

    /// Hands the machine a command and those that are ready behind it, and carries out all that follows at once.
    async fn handle_batch(&mut self, first: Envelope) -> Result<(), loom_store::Error> {
        self.evaluate();
        let at = self.clock.now();
        let (mut more, mut told) = (false, Vec::new());
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some(Envelope { command, done }) = next else { break };
            let awaited = match &command {
                Command::Callback { effect, .. } => self.run.state().waiting_for_callback(*effect).is_some(),
                _ => true,
            };
            told.extend(done.map(|done| (done, awaited)));
            if matches!(command, Command::Resume) {
                self.run.handle_some(command, at, 0);
                return self.continue_durably(told).await;
            }
            more |= self.run.handle_some(command, at, self.share());
            // Whoever sends a command to a run that has ended is told so by the closed inbox.
            next = if self.is_over() { None } else { self.ready_command() };
        }
        self.settle_down(more).await?;
        if !told.is_empty() {
            self.make_durable().await?;
        }
        for (done, awaited) in told {
            // Whoever asked may have gone.
            done.send(awaited).ok();
        }
        Ok(())
    }

    /// A command that needs no waiting for: the end of a call, or what somebody sent.
    fn ready_command(&mut self) -> Option<Envelope> {
        while let Some(Some(finished)) = self.calls.next().now_or_never() {
            // Aborted calls were asked to end; nothing is left to tell.
            let command = finished.ok().and_then(|finished| self.finished(finished));
            if let Some(command) = command {
                return Some(Envelope::new(command));
            }
        }
        self.inbox.try_recv().ok()
    }

    /// Events until other runs get their turn. A draining engine takes in what happens, and lets nothing follow from it.
    fn share(&self) -> usize {
        if self.inner.flights.draining() { 0 } else { FAIR_SHARE }
    }

    fn is_over(&self) -> bool {
        self.run.state().status().is_final()
    }

    /// Waits for whatever comes first: a command, the end of a call, a timer.
    async fn next_command(&mut self) -> Option<Envelope> {
        let now = self.clock.now();
        let end = self.end_of_time();
        let draining = self.inner.flights.draining();
        if now.run >= end && !draining {
            return Some(Envelope::new(Command::TimeOut));
        }
        let timer = self.first_to_fire(now).map(|(_, wait)| wait);
        let wait = timer.into_iter().fold(time::between(now.run, end), Duration::min);
        tokio::select! {
            biased;
            finished = self.calls.next(), if !self.calls.is_empty() => match finished {
                Some(Ok(finished)) => self.finished(finished).map(Envelope::new),
                // Aborted calls were asked to end; nothing is left to tell.
                Some(Err(_)) | None => None,
            },
            command = self.inbox.recv(), if !self.inbox.is_closed() => command,
            () = self.inner.flights.drains(), if !draining => None,
            () = std::future::pending(), if draining => None,
            () = tokio::time::sleep(wait.min(SLEEP_MAX)), if !draining => {
                let now = self.clock.now();
                let (timer, wait) = self.first_to_fire(now)?;
                wait.is_zero().then(|| Envelope::new(Command::TimerFired(timer)))
            }
        }
    }

    /// The timer that fires first, and in how long. A suspended run has timers too: they fire when it is resumed.
    fn first_to_fire(&self, now: Now) -> Option<(TimerId, Duration)> {
        let state = self.run.state();
        (state.status() == RunStatus::Running).then(|| state.first_to_fire(now)).flatten()
    }

    /// When the run has taken as long as a run may.
    fn end_of_time(&self) -> Timestamp {
        let most = self.run.environment().run_duration_max;
        let state = self.run.state();
        let most = match state.workflow().kind {
            WorkflowKind::Stateless => most.min(STATELESS_DURATION_MAX),
            WorkflowKind::Stateful | WorkflowKind::Agentic => most,
        };
        time::after(state.started_at(), most)
    }

    /// Turns the end of a call into a command, and its notes into history.
    fn finished(&mut self, finished: Finished) -> Option<Command> {
        let (effect, result, notes) = match finished {
            Finished::Call(effect, result, notes, guarded) => {
                self.store_services(guarded.as_deref());
                (effect, result, notes)
            }
            Finished::Signal(effect, result) => {
                // What nobody receives is there for the next; what somebody does leaves with the commit of its end.
                if !self.run.state().wants(effect) {
                    self.mailbox.put_back(effect);
                } else if let (Some(message), Some(journal)) = (self.mailbox.take(effect), &mut self.journal)
                {
                    journal.take_in(message);
                }
                (effect, result, Vec::new())
            }
            Finished::Admitted(effect, place, told, notes, guarded) => {
                self.store_services(Some(&guarded));
                self.admissions.insert(place, Admission::Waited(told));
                (effect, EffectResult::Admitted, notes)
            }
            Finished::Nothing => return None,
        };
        self.landing.extend(self.under_way.remove(&effect).and_then(|ended| ended.flight));
        let at = self.clock.now();
        for note in notes {
            self.run.handle(Command::EffectNoted { effect, note }, at);
        }
        Some(Command::EffectEnded { effect, result })
    }

    /// Hands the machine a command and carries out all that follows at once.
    async fn handle(&mut self, command: Command) -> Result<(), loom_store::Error> {
        self.evaluate();
        let at = self.clock.now();
        let more = self.run.handle_some(command, at, self.share());
        self.settle_down(more).await
    }

    /// Carries out what the machine has decided, until nothing more follows at once.
    async fn settle_down(&mut self, mut more: bool) -> Result<(), loom_store::Error> {
        loop {
            let immediate = self.carry_out().await?;
            let at = self.clock.now();
            if !immediate.is_empty() {
                self.evaluate();
                for command in immediate {
                    more |= self.run.handle_some(command, at, self.share());
                }
                continue;
            }
            self.rest();
            if !more || self.inner.flights.draining() {
                return Ok(());
            }
            tokio::task::yield_now().await;
            self.evaluate();
            more = self.run.advance(at, self.share());
        }
    }

    /// Makes everything that happened durable, and shows it.
    async fn make_durable(&mut self) -> Result<(), loom_store::Error> {
        self.rest();
        self.begin_write();
        if let Some(journal) = &mut self.journal {
            journal.flush(self.run.state(), self.clock.now().run).await?;
        }
        self.end_spill().await?;
        if !self.unshown.is_empty() {
            let events = std::mem::take(&mut self.unshown);
            self.show(&events);
        }
        Ok(())
    }

    /// Hands what is gathered to the store and goes on while it is written. What was handed over before that must be
    /// durable by then, so that a long loop holds no more than two such parts of its history in memory.
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

    /// Marks a write whose failure would be the first.
    fn begin_write(&mut self) {
        if self.journal.is_some() && self.spilled.is_none() {
            self.releases = self.inner.releases();
        }
    }

    /// Waits for what was handed over last, and shows it.
    async fn end_spill(&mut self) -> Result<(), loom_store::Error> {
        if let Some((written, events)) = self.spilled.take() {
            written.await?;
            self.show(&events);
        }
        Ok(())
    }

    /// Shows durable events to whoever watches.
    fn show(&mut self, events: &[Event]) {
        if let Some(accepted) = self.accepted.take() {
            accepted.send(()).ok();
        }
        if let Some(watcher) = &self.watcher {
            watcher.events(self.run.state(), events);
        }
        for event in events {
            if let Event::Responded { response, .. } = event
                && let Some(respond) = &self.respond
            {
                respond.send_replace(Some(response.clone()));
            }
        }
    }

    /// Carries out what new events ask for. Gives the commands that follow at once.
    async fn carry_out(&mut self) -> Result<Vec<Command>, loom_store::Error> {
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
                Event::AttemptEnded { place, outcome, next: Next::Retry { .. }, .. } => {
                    self.settle(*place, outcome);
                }
                _ => {}
            }
        }
        match &mut self.journal {
            None => self.show(&events),
            Some(journal) => {
                journal.record(&events, self.run.state());
                let barrier = durable::needs_barrier(&events);
                let is_full = journal.is_full();
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
            }
        }
        if ended_something && !self.under_way.is_empty() {
            let state = self.run.state();
            self.under_way.retain(|effect, under_way| {
                let wanted = state.wants(*effect);
                if !wanted {
                    under_way.end(&timed_out);
                }
                wanted
            });
        }
        let left = if resumed { self.calls_to_resume(&started) } else { Vec::new() };
        if self.starts_script(&started) {
            // What it is given of the run is put together here.
            self.evaluate();
        }
        let calls = started.into_iter().filter_map(|effect| self.run.call(effect)).collect::<Vec<_>>();
        let mut immediate: Vec<Command> = calls.into_iter().filter_map(|call| self.begin(call)).collect();
        immediate.extend(self.resume_calls(left));
        Ok(immediate)
    }

    /// Tells the service of an admitted action how it went.
    fn settle(&mut self, place: Place, outcome: &Outcome) {
        if self.admissions.is_empty() {
            return;
        }
        if let Some(admission) = self.admissions.remove(&place) {
            let now = self.inner.services.registry().clock().now();
            admission.settle(outcome.status, now);
        }
    }

    /// Begins a call. An admission that needs no waiting is given at once.
    fn begin(&mut self, call: Call) -> Option<Command> {
        let effect = call.effect;
        let place = self.run.state().asked_by(effect)?.place;
        let left = call.due.map(|due| time::between(self.clock.now().run, due));
        if self.waits_for_signal(&call) {
            let Some(durable) = &self.inner.durable else {
                return Some(Command::EffectEnded { effect, result: signals::unreachable() });
            };
            let (mailbox, store) = (Arc::clone(&self.mailbox), Arc::clone(&durable.store));
            let abort =
                self.push(async move { Finished::Signal(effect, mailbox.receive(store, &call).await) });
            self.under_way
                .insert(effect, UnderWay { place, aborts: [Some(abort), None], limit: None, flight: None });
            return None;
        }
        if left.is_some_and(|left| left.is_zero()) {
            // Its timer fires next. A call now would only be cut off.
            return None;
        }
        if call.phase != Phase::Admit {
            let inner = Arc::clone(&self.inner);
            // A child is a run, which stays where it is, too.
            let child =
                matches!(&call.definition().kind, ActionKind::Effect { effect: EffectKind::Workflow, .. });
            let flight = (!child).then(|| self.inner.flights.begin());
            let limit = Arc::new(TimeLimit::default());
            let keeper = Arc::clone(&limit);
            let abort = self.push(async move {
                let mut notes = Vec::new();
                let (result, guarded) = make_call(&inner, &call, left, &keeper, &mut notes).await;
                Finished::Call(effect, result, notes, guarded)
            });
            self.under_way
                .insert(effect, UnderWay { place, aborts: [Some(abort), None], limit: Some(limit), flight });
            return None;
        }
        let admitted = Command::EffectEnded { effect, result: EffectResult::Admitted };
        let Some(service) = self.inner.services.of_action(&call, None) else { return Some(admitted) };
        if let Some(admission) = service.try_admit(left) {
            self.store_services(Some(&service));
            self.admissions.insert(place, admission);
            return Some(admitted);
        }
        let (tell, told) = oneshot::channel();
        // Two futures: one waits and then holds the admission for as long as the action takes; once it is admitted it ends
        // by itself when the action has ended. The other tells that the wait is over.
        let guarded = Arc::clone(&service);
        let holding = self.push(async move {
            let mut notes = Vec::new();
            match service.hold(left, &mut notes, tell).await {
                Some(refusal) => Finished::Call(effect, refusal, notes, None),
                None => Finished::Nothing,
            }
        });
        let waiting = self.push(async move {
            match told.await {
                Ok((told, notes)) => Finished::Admitted(effect, place, told, notes, guarded),
                Err(_) => Finished::Nothing,
            }
        });
        let aborts = [Some(holding), Some(waiting)];
        self.under_way.insert(effect, UnderWay { place, aborts, limit: None, flight: None });
        None
    }

    /// Whether a call is a wait for a signal, and nobody else was named to answer it.
    fn waits_for_signal(&self, call: &Call) -> bool {
        let ActionKind::Effect { effect: EffectKind::Signal, .. } = &call.definition().kind else {
            return false;
        };
        call.phase == Phase::Call && self.inner.handlers.find(&EffectKind::Signal).is_none()
    }

    /// Puts something under way. Gives what ends it early.
    fn push(&mut self, future: impl Future<Output = Finished> + Send + 'static) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        self.calls.push(Abortable::new(Box::pin(future), registration));
        abort
    }

    /// What a call has changed in its services becomes durable with its end.
    fn store_services(&mut self, guarded: Option<&Guarded>) {
        if let (Some(guarded), Some(journal)) = (guarded, &mut self.journal) {
            guarded.spent().for_each(|service| journal.store_service(service));
        }
    }

    fn tell_end(&mut self) {
        let state: &RunState = self.run.state();
        let Some(id) = state.start().map(|start| start.run) else { return };
        let report = RunReport {
            id,
            status: state.status(),
            error: state.error().cloned(),
            outputs: state.outputs().cloned(),
            response: state.response().cloned(),
        };
        self.respond = None;
        self.report.send_replace(Some(Arc::new(report)));
        // What somebody still sends comes too late, and is told so at once.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }
}
