//! How a process resumes a run: first the orders that were left for it, then the calls that have no outcome. Also, how the
//! next process learns which run this one was evaluating.

use std::{collections::HashMap, sync::Arc};

use loom_definition::{
    RunStatus,
    model::{ActionKind, EffectKind},
    policy::OnUncertain,
};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::Driver;
use crate::{
    call_kinds::needs_admission,
    durable::RunJournal,
    event::{Command, EffectId, EffectResult, ErrorInfo, Outcome, Phase, Place, RetryHint},
    guard::Admission,
    orders::Given,
    ports::Call,
    time,
};

impl Driver {
    /// Resumes a loaded run: executes its orders, and repeats the calls that have no outcome.
    pub(super) async fn resume(&mut self) -> Result<(), loom_store::Error> {
        let taken_up = self.execute_orders().await?;
        // A suspended run begins nothing new; see `calls_to_resume`.
        if self.is_over() || self.run.state().status() == RunStatus::Suspended {
            return Ok(());
        }
        let commands = if let Some(commands) = taken_up { commands } else { self.begin_outstanding() };
        for command in commands {
            self.handle(command).await?;
        }
        Ok(())
    }

    /// Takes the places in services again that the executing actions of a loaded run have, before anything of it continues;
    /// a run that was parked has kept them.
    pub(crate) fn admit_again(&mut self, kept: Option<HashMap<Place, Admission>>) {
        self.loaded = self.clock.now().run;
        if let Some(kept) = kept {
            self.admissions = kept;
            return;
        }
        let (state, now) = (self.run.state(), self.clock.now().run);
        if !state.workflow().actions.iter().any(needs_admission) {
            return;
        }
        for (place, due) in state.admitted() {
            if let Some(service) = self.shared.services.of(state.workflow(), place.action, None) {
                let left = due.map(|due| time::between(now, due));
                self.admissions.insert(place, service.admit_again(left));
            }
        }
    }

    /// Handles a call that was in progress when the last process ended, as the definition's `onUncertain` says.
    pub(super) fn begin_again(&mut self, call: Call) -> Vec<Command> {
        let uncertain = call.definition().resilience.as_deref().map(|wanted| wanted.on_uncertain);
        match uncertain.unwrap_or_default() {
            _ if matches!(call.phase, Phase::Admit | Phase::Unsubscribe) => self.begin(call),
            // A wait sends nothing, and an operation on shared memory takes effect with its end, so neither is uncertain.
            _ if self.waits_for_signal(&call) || self.is_memory(&call) => self.begin(call),
            OnUncertain::Retry => self.begin(call),
            OnUncertain::Fail => {
                let message = format!(
                    "The call of action '{}' was interrupted, and it is unknown whether it took effect.",
                    call.definition().name
                );
                let outcome = Outcome::failed("Uncertain", ErrorInfo::new("OutcomeUncertain", message));
                let result = EffectResult::Done { outcome, hint: RetryHint::default() };
                vec![Command::EffectEnded { effect: call.effect, result }]
            }
            OnUncertain::Ask => vec![Command::Suspend],
        }
    }

    /// Waits until no other run that is suspected of crashing the process is being evaluated. Other runs do not wait.
    pub(super) fn alone(&self) -> impl Future<Output = Option<OwnedMutexGuard<()>>> + Send + use<> {
        let is_suspect = self.journal.as_ref().is_some_and(RunJournal::is_suspect);
        let turn = is_suspect.then(|| Arc::clone(&self.shared.alone));
        async move {
            match turn {
                Some(turn) => Some(turn.lock_owned().await),
                None => None,
            }
        }
    }

    /// Marks the run in the store as being evaluated, until [`Driver::rest`], which must come before anything that can wait.
    pub(super) fn evaluate(&mut self) {
        if self.evaluating.is_none() {
            self.evaluating = self.journal.as_ref().map(RunJournal::evaluating);
        }
    }

    /// Removes the mark set by [`Driver::evaluate`].
    pub(super) fn rest(&mut self) {
        self.evaluating = None;
    }

    /// Whether one of these calls is a script, whose context may be a large part of the run.
    pub(super) fn starts_script(&self, started: &[EffectId]) -> bool {
        let state = self.run.state();
        let is_script = |effect: &EffectId| {
            let asked = state.call(*effect);
            asked.is_some_and(|asked| {
                let kind = &state.workflow().action(asked.place.action).kind;
                matches!(kind, ActionKind::Effect { effect: EffectKind::Script(_), .. })
            })
        };
        started.iter().any(is_script)
    }

    /// Passes a command to the machine, and makes its events durable before anything is evaluated.
    pub(super) async fn handle_durably(&mut self, command: Command) -> Result<(), loom_store::Error> {
        let at = self.clock.now();
        self.run.handle_some(command, at, 0);
        self.continue_durably(Vec::new(), Vec::new()).await
    }

    /// Makes the events of a command durable, notifies its senders, and only then evaluates what follows: `immediate`, and what
    /// follows from the command. A run that crashes the process has therefore been resumed nevertheless.
    pub(super) async fn continue_durably(
        &mut self,
        mut immediate: Vec<Command>,
        senders: Vec<(oneshot::Sender<bool>, bool)>,
    ) -> Result<(), loom_store::Error> {
        immediate.extend(self.perform_effects().await?);
        self.make_durable().await?;
        for (done, awaited) in senders {
            // The sender may have gone away.
            done.send(awaited).ok();
        }
        // Lets the notifications go out before an evaluation occupies this worker thread.
        tokio::task::yield_now().await;
        for command in immediate {
            self.handle(command).await?;
        }
        Ok(())
    }

    /// Executes the orders that were left for the run while it was not in progress. If they resumed it, its calls have begun,
    /// and the commands that follow immediately are returned.
    pub(super) async fn execute_orders(&mut self) -> Result<Option<Vec<Command>>, loom_store::Error> {
        let mut begun: Option<Vec<Command>> = None;
        for Given { order, message } in std::mem::take(&mut self.orders) {
            if let (Some(message), Some(journal)) = (message, &mut self.journal) {
                journal.take_in(message);
                self.handled.insert(message, true);
            }
            let at = self.clock.now();
            let was_suspended = self.run.state().status() == RunStatus::Suspended;
            // Nothing is evaluated before the commit that consumes the order together with its consequences.
            self.run.handle_some(order.command(), at, 0);
            self.complete_commands().await?;
            let immediate = self.perform_effects().await?;
            self.make_durable().await?;
            if self.is_over() {
                break;
            }
            if was_suspended && self.run.state().status() == RunStatus::Running {
                begun.get_or_insert_default().extend(immediate);
            }
        }
        Ok(begun)
    }

    /// Repeats the calls that were in progress when the last process ended.
    pub(super) fn begin_outstanding(&mut self) -> Vec<Command> {
        let outstanding: Vec<EffectId> = self.run.state().calls().map(|(effect, _)| effect).collect();
        let calls: Vec<Call> = outstanding.into_iter().filter_map(|effect| self.run.call(effect)).collect();
        calls.into_iter().flat_map(|call| self.begin_again(call)).collect()
    }

    /// Calls without an outcome that are not being made: those that the last process made for a run that was suspended when
    /// this process loaded it, and those that are repeated only on an operator's decision.
    pub(super) fn calls_to_resume(&self, started: &[EffectId]) -> Vec<EffectId> {
        let outstanding = self.run.state().calls().map(|(effect, _)| effect);
        outstanding
            .filter(|effect| !self.under_way.contains_key(effect) && !started.contains(effect))
            .collect()
    }

    /// Begins calls of a run that continues.
    pub(super) fn resume_calls(&mut self, left: Vec<EffectId>) -> Vec<Command> {
        let calls: Vec<Call> = left.into_iter().filter_map(|effect| self.run.call(effect)).collect();
        let begin = |call: Call| {
            let resilience = call.definition().resilience.as_deref();
            // By resuming the run, the operator has decided that the call may be repeated.
            let was_asked = resilience.is_some_and(|wanted| wanted.on_uncertain == OnUncertain::Ask);
            if was_asked { self.begin(call) } else { self.begin_again(call) }
        };
        calls.into_iter().flat_map(begin).collect()
    }
}
