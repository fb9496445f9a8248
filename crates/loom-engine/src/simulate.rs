//! Simulation of whole runs in virtual time: the pure machine, a clock that jumps from timer to timer, and a closure that makes
//! the calls.
//!
//! Used by `loom test` and the property tests. Deterministic: the same workflow, start and results of calls yield the same
//! events, including their times.

use std::sync::Arc;

use futures_util::FutureExt;
use loom_definition::{RunStatus, Workflow};
use loom_expression::Timestamp;

use crate::{
    environment::Environment,
    event::{Command, EffectId, EffectResult, Event, Phase, RunStart, TimerId},
    illegal::IllegalEvent,
    machine::Run,
    memory,
    ports::Call,
    signals,
    state::RunState,
};

/// One of the things that can happen next in a simulated run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The call with this id ends.
    Call(EffectId),
    /// The timer with this id fires.
    Timer(TimerId),
}

/// A run under simulation.
#[derive(Debug)]
pub struct Simulation {
    run: Run,
    now: Timestamp,
}

impl Simulation {
    /// A run that has not started, at `now`.
    pub fn new(workflow: Arc<Workflow>, environment: Arc<Environment>, now: Timestamp) -> Simulation {
        Simulation { run: Run::new(workflow, environment), now }
    }

    /// A run loaded from its events, at `now`. Calls that had no outcome are outstanding again.
    ///
    /// # Errors
    /// [`RunState::replay`]: the events are not the history of a run of `workflow`.
    pub fn resume<'a>(
        workflow: Arc<Workflow>,
        environment: Arc<Environment>,
        now: Timestamp,
        history: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Simulation, IllegalEvent> {
        let mut state = RunState::new(workflow);
        state.replay(history)?;
        Ok(Simulation::resume_from(state, environment, now))
    }

    /// Like [`Simulation::resume`], from a state.
    pub fn resume_from(state: RunState, environment: Arc<Environment>, now: Timestamp) -> Simulation {
        let mut simulation = Simulation { run: Run::resume(state, environment), now };
        simulation.advance();
        simulation
    }

    /// Continues to the end; see [`Simulation::play`].
    pub fn play_on(
        &mut self,
        steps_max: usize,
        answer: impl FnMut(&Call) -> EffectResult,
    ) -> Option<RunStatus> {
        self.steps(steps_max, answer)
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The simulated time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Starts the run and simulates it to its end. `answer` returns the result of each call; `steps_max` limits calls and
    /// timers together.
    ///
    /// Returns the final status, or `None` when the run has not ended after `steps_max` steps or waits for a callback.
    pub fn play(
        &mut self,
        start: Arc<RunStart>,
        steps_max: usize,
        answer: impl FnMut(&Call) -> EffectResult,
    ) -> Option<RunStatus> {
        self.command(Command::Start(start));
        self.steps(steps_max, answer)
    }

    fn steps(
        &mut self,
        steps_max: usize,
        mut answer: impl FnMut(&Call) -> EffectResult,
    ) -> Option<RunStatus> {
        for _ in 0..steps_max {
            if self.run.state().status().is_final() {
                break;
            }
            let call = self.run.state().calls().next().map(|(effect, _)| effect);
            match (call, self.run.state().next_timer()) {
                (Some(effect), _) => self.end_call(effect, &mut answer),
                (None, Some((due, timer))) => self.fire(due, timer),
                (None, None) => break,
            }
        }
        let status = self.run.state().status();
        status.is_final().then_some(status)
    }

    /// Everything that can happen next.
    pub fn choices(&self) -> Vec<Choice> {
        let state = self.run.state();
        let calls = state.calls().map(|(effect, _)| Choice::Call(effect));
        calls.chain(state.next_timer().map(|(_, timer)| Choice::Timer(timer))).collect()
    }

    /// Makes one of the choices happen.
    pub fn choose(&mut self, choice: Choice, mut answer: impl FnMut(&Call) -> EffectResult) {
        match choice {
            Choice::Call(effect) => self.end_call(effect, &mut answer),
            Choice::Timer(timer) => {
                let due = self.run.state().timers().find(|(id, _)| *id == timer);
                if let Some((_, due)) = due {
                    self.fire(due.due, timer);
                }
            }
        }
    }

    /// Passes the run a command at the simulated time.
    pub fn command(&mut self, command: Command) {
        self.run.handle(command, self.now);
        self.advance();
    }

    /// Performs the work that is ready, and reads what it needs.
    fn advance(&mut self) {
        loop {
            while self.run.advance(self.now, usize::MAX) {}
            if !self.run.lacks_reads() {
                return;
            }
            let environment = Arc::clone(self.run.environment());
            for name in self.run.missing_secrets() {
                let read =
                    environment.secrets.as_deref().map(|source| source.read(&name, None).now_or_never());
                let read = match read {
                    Some(Some(read)) => read,
                    Some(None) => {
                        Err(format!("The secret '{name}' cannot be read at once, as a simulation requires"))
                    }
                    None => Err(format!("Cannot access secret '{name}': No secrets client configured")),
                };
                self.run.provide(name, &read);
            }
            self.read_memory(&environment);
            // The next decision reads again: nothing in a simulation takes time.
            while self.run.advance(self.now, usize::MAX) {}
            if !self.run.lacks_reads() {
                self.run.forget_reads();
            }
        }
    }

    /// Reads the keys of shared memory that the next decision needs.
    fn read_memory(&mut self, environment: &Environment) {
        let workflow = Arc::clone(self.run.state().workflow());
        let Some(run) = self.run.state().start().map(|start| start.run) else { return };
        for address in self.run.missing_memory() {
            let read = match memory::read(environment, &workflow, run, &address).now_or_never() {
                Some(Ok(read)) => read,
                Some(Err(why)) => Err(why.to_string().into()),
                None => Err("it cannot be read at once, as a simulation requires".into()),
            };
            self.run.provide_memory(address, read);
        }
    }

    /// Advances the simulated time to `now`; never goes back.
    pub fn advance_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// All events so far.
    pub fn events(&self) -> &[Event] {
        self.run.events()
    }

    fn end_call(&mut self, effect: EffectId, answer: &mut impl FnMut(&Call) -> EffectResult) {
        let Some(asked) = self.run.state().call(effect) else { return };
        let result = if asked.phase == Phase::Admit {
            EffectResult::Admitted
        } else if asked.phase == Phase::Approve {
            // Nobody can be asked.
            signals::unreachable()
        } else {
            let Some(call) = self.run.call(effect) else { return };
            answer(&call)
        };
        self.command(Command::EffectEnded { effect, result });
    }

    fn fire(&mut self, due: Timestamp, timer: TimerId) {
        self.advance_to(due);
        self.command(Command::TimerFired(timer));
    }
}
