//! How a run makes decisions: about commands first, then about the work that is ready, in slices of time. What takes long is done on
//! threads of the pool, so that it occupies no thread of the runtime. Between two slices the run receives what has happened
//! meanwhile.

use std::{mem, pin::pin, sync::Arc};

use futures_util::StreamExt;
use loom_store::Error as StoreError;

use super::{Driver, happened::Happened};
use crate::{
    envelope::Envelope,
    event::{Command, EffectId, Event},
    machine::Run,
    pool::Turn,
    ports::{Call, Stopwatch},
    slice::{Progress, Slice},
};

/// Commands handled together, so that one commit covers everything that is ready when a run has many calls in flight.
const BATCH_MAX: usize = 256;

/// Values of so many bytes are encoded on a thread of the pool, because it takes about a millisecond.
const LARGE: u64 = 1 << 20;

impl Driver {
    /// Whether there is work that the run may do now. A draining engine starts nothing.
    pub(super) fn has_work(&self) -> bool {
        self.run.has_work() && !self.is_draining()
    }

    /// Passes a command to the machine, and those that are ready after it, and performs what follows immediately. Their senders are
    /// notified when that is durable.
    pub(super) async fn handle_batch(&mut self, first: Envelope) -> Result<(), StoreError> {
        self.evaluate();
        let at = self.clock.now();
        let stopwatch = self.stopwatch();
        let mut slice = self.slice(&*stopwatch);
        let (mut immediate, mut senders) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some(Envelope { command, message, received, done, .. }) = next else { break };
            let awaited = match &command {
                Command::Callback { effect, .. } => self.run.state().waiting_for_callback(*effect).is_some(),
                _ => true,
            };
            if let Some(message) = message {
                // It was found in the store when the run was loaded, or an earlier process of the run has handled it.
                if let Some(answer) = self.is_handled(message).await {
                    senders.extend(done.map(|done| (done, answer)));
                    next = self.ready_command();
                    continue;
                }
                self.handled.insert(message, awaited);
            }
            senders.extend(done.map(|done| (done, awaited)));
            self.keep_parts(&command, at);
            let is_resume = matches!(command, Command::Resume);
            if is_resume {
                // Nothing that follows is decided yet.
                self.run.handle_some(command, at, 0);
            } else {
                self.pass_on(command, &mut slice);
            }
            #[cfg_attr(not(test), expect(unused_mut, reason = "a test takes them earlier"))]
            let mut taken = message.into_iter().chain(received);
            #[cfg(test)]
            if self.shared.faults.consumes_early.is_on()
                && let Some(journal) = &mut self.journal
            {
                taken.by_ref().for_each(|message| journal.take_in(message));
            }
            let is_undecided = self.run.has_undecided();
            if is_undecided {
                // What the commands before it have led to is committed, without the messages of this one.
                immediate = self.perform_effects().await?;
                self.complete_commands().await?;
            }
            if let Some(journal) = &mut self.journal {
                taken.for_each(|message| journal.take_in(message));
            }
            if is_resume {
                return self.continue_durably(immediate, senders).await;
            }
            // Senders to a run that has ended are notified by the closed channel.
            next = if self.is_over() || is_undecided { None } else { self.ready_command() };
        }
        self.settle_down(immediate, slice).await?;
        if !senders.is_empty() {
            self.make_durable().await?;
        }
        for (done, awaited) in senders {
            // The sender may have gone away.
            done.send(awaited).ok();
        }
        Ok(())
    }

    /// Passes a command to the machine and performs what follows immediately.
    pub(super) async fn handle(&mut self, command: Command) -> Result<(), StoreError> {
        let stopwatch = self.stopwatch();
        let slice = self.slice(&*stopwatch);
        self.settle_down(vec![command], slice).await
    }

    /// Makes decisions for one more slice, and performs what follows immediately.
    pub(super) async fn decide_more(&mut self) -> Result<(), StoreError> {
        let _alone = self.alone().await;
        let stopwatch = self.stopwatch();
        let mut slice = self.slice(&*stopwatch);
        if !self.is_next_long {
            self.advance(&mut slice);
        } else if let Some(turn) = self.turn().await {
            self.decide_in_pool(turn, |stopwatch| Slice::long(stopwatch)).await;
        }
        self.settle_down(Vec::new(), slice).await
    }

    /// Passes commands to the machine, and performs what it has decided, until nothing more follows immediately. All commands are
    /// decided then. Work may be left.
    async fn settle_down(
        &mut self,
        mut immediate: Vec<Command>,
        mut slice: Slice<'_>,
    ) -> Result<(), StoreError> {
        loop {
            for command in immediate {
                self.pass_on(command, &mut slice);
            }
            immediate = self.perform_effects().await?;
            self.complete_commands().await?;
            if self.run.lacks_reads() {
                self.read_missing().await?;
                self.advance(&mut slice);
            } else if immediate.is_empty() && self.run.events().is_empty() {
                self.rest();
                return Ok(());
            }
        }
    }

    /// Makes the decisions about commands that need what has not been read, or take long.
    ///
    /// # Errors
    /// The store's. The run has to be held.
    pub(super) async fn complete_commands(&mut self) -> Result<(), StoreError> {
        while self.run.has_undecided() {
            if self.run.lacks_reads() {
                self.read_missing().await?;
                let stopwatch = self.stopwatch();
                self.advance(&mut Slice::short(&*stopwatch).for_commands());
            } else {
                self.rest();
                let turn = self.shared.pools.evaluations.turn().await;
                self.decide_in_pool(turn, |stopwatch| Slice::long(stopwatch).for_commands()).await;
            }
        }
        Ok(())
    }

    /// Passes a command to the machine.
    fn pass_on(&mut self, command: Command, slice: &mut Slice<'_>) {
        self.evaluate();
        let progress = self.run.handle_in(command, self.clock.now(), slice);
        self.is_next_long = progress == Progress::Long;
    }

    /// Does work that is ready.
    fn advance(&mut self, slice: &mut Slice<'_>) {
        self.evaluate();
        let progress = self.run.advance_in(self.clock.now(), slice);
        self.is_next_long = progress == Progress::Long;
    }

    /// What slices are measured with.
    fn stopwatch(&self) -> Arc<dyn Stopwatch> {
        Arc::clone(&self.shared.stopwatch)
    }

    /// The next slice of the run's decisions. A draining engine records what happens, but starts nothing because of it.
    fn slice<'s>(&self, stopwatch: &'s dyn Stopwatch) -> Slice<'s> {
        let slice = Slice::short(stopwatch);
        if self.is_draining() { slice.for_commands() } else { slice }
    }

    /// Waits for a thread of the pool. None if something is sent to the run first, or the engine drains.
    async fn turn(&mut self) -> Option<Turn> {
        self.rest();
        let shared = Arc::clone(&self.shared);
        #[cfg(test)]
        if shared.faults.is_never_interrupted.is_on() {
            return Some(shared.pools.evaluations.turn().await);
        }
        if !self.happened.is_empty() {
            return None;
        }
        let mut turn = pin!(shared.pools.evaluations.turn());
        loop {
            tokio::select! {
                biased;
                Some(sent) = self.inbox.recv() => {
                    self.happened.push_back(Happened::Sent(sent));
                    return None;
                }
                () = shared.flights.drains() => return None,
                Some(finished) = self.calls.next() => {
                    self.happened.extend(finished.ok().map(Happened::Finished));
                }
                turn = &mut turn => return Some(turn),
            }
        }
    }

    /// Waits for work on another thread, or for a read. The run's calls go on meanwhile.
    pub(super) async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                Some(finished) = self.calls.next() => {
                    self.happened.extend(finished.ok().map(Happened::Finished));
                }
            }
        }
    }

    /// Takes the run, which is to be put back.
    fn take_run(&mut self) -> Run {
        let (workflow, environment) = (self.run.state().workflow(), self.run.environment());
        let nothing = Run::new(Arc::clone(workflow), Arc::clone(environment));
        mem::replace(&mut self.run, nothing)
    }

    /// Makes the decisions of a slice on a thread of the pool.
    async fn decide_in_pool(&mut self, turn: Turn, slice: fn(&dyn Stopwatch) -> Slice<'_>) {
        // Before the decisions, so that the next process knows if they crash this one.
        self.evaluate();
        #[cfg(test)]
        if self.shared.faults.is_unmarked.is_on() {
            self.rest();
        }
        let (at, stopwatch) = (self.clock.now(), self.stopwatch());
        let mut run = self.take_run();
        let decide = move || {
            let mut slice = slice(&*stopwatch);
            let progress = run.advance_in(at, &mut slice);
            // After a long decision, the next one is probably long as well.
            (run, progress == Progress::Long || slice.was_long())
        };
        (self.run, self.is_next_long) = self.wait_for(turn.run(decide)).await;
    }

    /// Encodes events for the journal.
    pub(super) async fn record(&mut self, events: Vec<Event>, bytes: u64) -> Vec<Event> {
        let Some(mut journal) = self.journal.take() else { return events };
        if bytes < LARGE {
            journal.record(&events, self.run.state());
            self.journal = Some(journal);
            return events;
        }
        let run = self.take_run();
        let record = move || {
            journal.record(&events, run.state());
            (run, journal, events)
        };
        let (run, journal, events) = self.shared.pools.evaluations.run(record).await;
        (self.run, self.journal) = (run, Some(journal));
        events
    }

    /// The calls that effects request. The context of a script may be a large part of the run.
    pub(super) async fn calls(&mut self, started: Vec<EffectId>) -> Vec<Call> {
        if !self.starts_script(&started) {
            return started.into_iter().filter_map(|effect| self.run.call(effect)).collect();
        }
        self.rest();
        let turn = self.shared.pools.evaluations.turn().await;
        self.evaluate();
        let run = self.take_run();
        let calls = move || {
            let calls = started.into_iter().filter_map(|effect| run.call(effect)).collect();
            (run, calls)
        };
        let (run, calls) = self.wait_for(turn.run(calls)).await;
        self.run = run;
        calls
    }
}
