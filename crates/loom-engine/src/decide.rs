//! Decisions: what follows from a command, or from work that is ready: `(state, command, now) -> events`.
//!
//! Pure: nothing here changes the state, reads a clock or has an external effect. Decisions about single kinds of actions
//! are in the submodules.

mod agent;
mod approve;
pub(crate) mod calls;
mod control;
mod emit;
mod loops;
mod plain;

use std::{borrow::Cow, sync::Arc};

use loom_definition::{
    BlockIdx, RunStatus, Status,
    duration::Span,
    model::{Action, ActionKind, Setting},
    policy::{Mode, RetrySetting},
};
use loom_expression::{Condition, Labels, Object, Template, Timestamp, Value, ValueRef, without_quotes};

use crate::{
    call_kinds::{is_call, needs_admission},
    environment::Environment,
    event::{Command, EffectId, ErrorInfo, Event, OpeningId, Outcome, Place, Purpose, RunStart, TimerId},
    record,
    scope::Scope,
    state::{OpeningPhase, RunState, SlotPhase},
    time,
    work::Work,
};

/// The error of a run whose values take too much memory.
const RUN_BYTES_EXCEEDED: &str = "RunBytesExceeded";

/// The error of an action that does not accept untrusted data.
const UNTRUSTED_INPUTS: &str = "UntrustedInputs";

/// The code of an action's error: a code of its own when a budget was exceeded, `usual` otherwise.
pub(crate) fn code_of(error: &loom_expression::Error, usual: &'static str) -> &'static str {
    match error.code {
        loom_expression::Code::StepsExceeded => "EvaluationStepsExceeded",
        _ => usual,
    }
}

/// One decision in progress. Events are pushed to `out`; the state is not changed.
pub(crate) struct Decider<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) environment: &'a Environment,
    /// The run's own time: the time of events, and of durations and deadlines.
    pub(crate) now: Timestamp,
    /// Wall-clock time, for expressions.
    pub(crate) wall: Timestamp,
    pub(crate) out: &'a mut Vec<Event>,
    pub(crate) planned: Planned,
}

/// Numbers of the ids that this decision has allocated; the state does not know them yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned {
    openings: usize,
    effects: u32,
    timers: u32,
}

impl<'a> Decider<'a> {
    /// Decides what follows from a command.
    pub(crate) fn command(&mut self, command: Command) {
        let status = self.state.status;
        match command {
            Command::Start(start) if self.state.start.is_none() => self.start_run(start),
            Command::Accept(start) if self.state.start.is_none() => {
                self.out.push(Event::RunStarted { start, at: self.now });
                self.out.push(Event::RunWaiting { at: self.now });
            }
            Command::Admit if self.state.waits && !status.is_final() => {
                self.out.push(Event::RunAdmitted { at: self.now });
                // A run that was resubmitted from an action has opened its blocks already.
                if self.state.openings.is_empty() {
                    self.open_root();
                }
            }
            Command::EffectEnded { effect, result } => self.effect_ended(effect, result),
            Command::EffectNoted { effect, note } if self.state.effects.contains(effect) => {
                let note = self.withheld_note(effect, note);
                self.out.push(Event::AttemptNoted { effect, note, at: self.now });
            }
            Command::TimerFired(timer) => self.timer_fired(timer),
            Command::Callback { effect, payload } => self.callback(effect, payload),
            Command::Cancel if !status.is_final() => self.stop(RunStatus::Cancelled, None, "ActionCancelled"),
            Command::TimeOut if !status.is_final() => {
                let error = ErrorInfo::new("WorkflowRunTimedOut", "The run exceeded its maximum duration.");
                self.stop(RunStatus::TimedOut, Some(Arc::new(error)), "WorkflowRunTimedOut");
            }
            Command::Suspend if matches!(status, RunStatus::Running | RunStatus::Waiting) => {
                self.out.push(Event::Suspended { at: self.now });
            }
            Command::Resume if status == RunStatus::Suspended => {
                self.out.push(Event::Resumed { at: self.now });
            }
            Command::Start(_)
            | Command::Accept(_)
            | Command::Admit
            | Command::EffectNoted { .. }
            | Command::Cancel
            | Command::TimeOut
            | Command::Suspend
            | Command::Resume => {}
        }
    }

    /// Performs work that is ready.
    pub(crate) fn work(&mut self, work: Work) {
        match work {
            Work::Action(place) => self.begin(place),
            Work::BlockDone(OpeningId::ROOT) if self.state.opening(OpeningId::ROOT).parent.is_none() => {
                self.finish_run();
            }
            Work::BlockDone(opening) => self.opening_done(opening),
            Work::Spawn(place) => self.spawn_iterations(place),
            Work::Execute(place) => self.execute(place),
        }
    }

    fn start_run(&mut self, start: Arc<RunStart>) {
        self.out.push(Event::RunStarted { start, at: self.now });
        self.open_root();
    }

    fn open_root(&mut self) {
        self.out.push(Event::BlockOpened {
            opening: OpeningId::ROOT,
            block: loom_definition::Workflow::ROOT,
            parent: None,
            index: 0,
            at: self.now,
        });
    }

    /// Starts or skips an action whose predecessors have ended.
    fn begin(&mut self, place: Place) {
        let action = self.action(place);
        for dependency in &action.run_after {
            let before = self.state.slot(Place { opening: place.opening, action: dependency.action });
            if !dependency.statuses.contains(before.status) {
                let error =
                    record::condition_failed(&self.state.workflow, action, *dependency, before.status);
                return self.end(place, skipped(error));
            }
        }
        if action.is_handed_to && self.state.handed_over(place).is_none() {
            let message = format!("No agent handed over to '{}'.", action.name);
            return self.end(place, skipped(ErrorInfo::new("ActionConditionFailed", message)));
        }
        if let Some(index) = action.static_result {
            return self.end_with_static_result(place, index as usize);
        }
        if self.needs_reads(action) {
            return;
        }
        if let Err(error) = self.check_settings(place, action) {
            return self.end(place, Outcome::of_error(error));
        }
        if needs_admission(action) {
            self.set_limit(place);
            return self.admit(place, 1);
        }
        self.execute(place);
    }

    /// Executes an action, or starts the call or block that executes it.
    fn execute(&mut self, place: Place) {
        let state = self.state;
        let action = state.workflow.action(place.action);
        if self.needs_reads(action) {
            return;
        }
        match &action.kind {
            ActionKind::Compose { inputs } => {
                // As `evaluate`, written out because a call would cost as much as a simple evaluation.
                let value = match inputs.settled() {
                    Some(value) => Ok(value.clone()),
                    None => inputs.evaluate(&self.scope(place.opening)),
                };
                match value {
                    Ok(value) => self.end(place, Outcome::ok(Some(value))),
                    Err(error) => self.fail_inputs(place, &error),
                }
            }
            ActionKind::ParseJson { .. }
            | ActionKind::Query { .. }
            | ActionKind::Select { .. }
            | ActionKind::Join { .. }
            | ActionKind::Table { .. } => self.shape_data(place, &action.kind),
            ActionKind::InitializeVariable { variables } => self.initialize_variables(place, variables),
            ActionKind::ChangeVariable { variable, change, value } => {
                self.change_variable(place, *variable, *change, value.as_ref());
            }
            ActionKind::If { condition, then, otherwise } => self.branch(place, condition, *then, *otherwise),
            ActionKind::Switch { on, cases, default } => self.switch(place, on, cases, *default),
            ActionKind::Scope { body } => self.open_scope(place, &[*body]),
            ActionKind::Parallel { branches } => self.open_scope(place, branches),
            ActionKind::Foreach { items, .. } => self.start_foreach(place, items),
            ActionKind::Loop(looping) => self.start_loop(place, looping),
            ActionKind::Retry { body, policy } => self.start_retry(place, *body, policy),
            ActionKind::Terminate { status, error } => self.terminate(place, status, error.as_ref()),
            ActionKind::Response { inputs } => self.respond(place, inputs),
            ActionKind::Wait { inputs } => self.wait(place, inputs),
            ActionKind::Effect { effect, inputs } => self.start_effect(place, effect, inputs),
            ActionKind::Invalid { code, message } => {
                let error = ErrorInfo::new(code.to_string(), message.to_string());
                self.end(place, Outcome::of_error(error));
            }
            ActionKind::Agent { inputs, limits, .. } => self.start_agent(place, inputs, limits),
            ActionKind::Emit { inputs } => self.emit(place, inputs),
        }
    }

    /// Whether secrets or keys of shared memory that the action names have to be read before it is evaluated. The decision is
    /// then made again. Notes for the audit which action is evaluated.
    #[inline]
    fn needs_reads(&self, action: &Action) -> bool {
        self.state.workflow.has_reads && self.wants(action)
    }

    #[inline(never)]
    fn wants(&self, action: &Action) -> bool {
        let reads = &self.state.reads;
        // Both, so that one round reads everything.
        reads.want(&action.secrets, &action.name) | reads.want_memory(&action.memory)
    }

    /// Ends the run early: it was cancelled, timed out, or exceeded a budget.
    fn stop(&mut self, status: RunStatus, error: Option<Arc<ErrorInfo>>, code: &'static str) {
        if !self.state.openings.is_empty() {
            self.cancel_opening(OpeningId::ROOT, code, None);
        }
        self.out.push(Event::RunEnded { status, error, outputs: None, at: self.now });
    }

    /// Ends a run whose values take more than `most` bytes.
    pub(crate) fn exceed(&mut self, most: u64) {
        let message = format!(
            "The values of the run exceed {most} bytes of memory (setting run-bytes-max). Keep less data in variables and \
             outputs, or raise the setting."
        );
        let error = ErrorInfo::new(RUN_BYTES_EXCEEDED, message);
        self.stop(RunStatus::Failed, Some(Arc::new(error)), "ActionCancelled");
    }

    /// Ends everything in an opened block: running actions are cancelled, those that have not started are skipped. The
    /// caller has already ended `except`.
    fn cancel_opening(&mut self, opening: OpeningId, code: &'static str, except: Option<Place>) {
        let state = self.state;
        let opened = state.opening(opening);
        if opened.phase != OpeningPhase::Open {
            return;
        }
        for (slot, action) in opened.slots.iter().zip(&state.workflow.block(opened.block).actions) {
            let place = Place { opening, action: *action };
            if except == Some(place) {
                continue;
            }
            match slot.phase {
                SlotPhase::Ended => {}
                SlotPhase::Running => {
                    self.cancel_inside(place, code, except);
                    let outcome = Outcome {
                        status: Status::Cancelled,
                        code: Cow::Borrowed(if code == "Terminated" {
                            "Terminated"
                        } else {
                            "ActionCancelled"
                        }),
                        outputs: None,
                        error: None,
                    };
                    self.end_started(place, outcome);
                }
                SlotPhase::Waiting | SlotPhase::Ready => {
                    let outcome = Outcome {
                        status: Status::Skipped,
                        code: Cow::Borrowed(if code == "Terminated" {
                            "Terminated"
                        } else {
                            "ActionSkipped"
                        }),
                        outputs: None,
                        error: None,
                    };
                    self.push_end(place, self.now, None, outcome);
                }
            }
        }
    }

    /// Ends everything inside a running action, but not the action itself.
    fn cancel_inside(&mut self, place: Place, code: &'static str, except: Option<Place>) {
        let state = self.state;
        let Some(activity) = state.activity(place) else { return };
        for opening in &activity.openings {
            self.cancel_opening(*opening, code, except);
        }
        self.unsubscribe(place);
    }

    fn finish_run(&mut self) {
        let root = self.state.workflow.block(loom_definition::Workflow::ROOT);
        let failed = root
            .leaves
            .iter()
            .any(|leaf| self.state.slot(Place { opening: OpeningId::ROOT, action: *leaf }).bad);
        if failed {
            let error = ErrorInfo::new("ActionFailed", "An action failed. No dependent actions succeeded.");
            self.out.push(Event::RunEnded {
                status: RunStatus::Failed,
                error: Some(Arc::new(error)),
                outputs: None,
                at: self.now,
            });
            return;
        }
        match self.workflow_outputs() {
            Ok(outputs) => self.out.push(Event::RunEnded {
                status: RunStatus::Succeeded,
                error: None,
                outputs,
                at: self.now,
            }),
            Err(error) => self.out.push(Event::RunEnded {
                status: RunStatus::Failed,
                error: Some(Arc::new(error)),
                outputs: None,
                at: self.now,
            }),
        }
    }

    fn workflow_outputs(&self) -> Result<Option<Value>, ErrorInfo> {
        let workflow = &self.state.workflow;
        if workflow.outputs.is_empty() {
            return Ok(None);
        }
        let scope = Scope::new(self.state, self.environment, OpeningId::ROOT, self.wall);
        let mut outputs = loom_expression::Object::default();
        for output in &workflow.outputs {
            let value = output.value.evaluate(&scope).map_err(|error| {
                ErrorInfo::new(
                    "OutputParameterEvaluationFailed",
                    format!("The workflow output '{}' cannot be evaluated: {error}", output.name),
                )
            })?;
            if let Err(found) = crate::types::check(output.kind, &value) {
                return Err(ErrorInfo::new(
                    "OutputParameterEvaluationFailed",
                    format!(
                        "The workflow output '{}' is declared as {}, but its value is of type {found}.",
                        output.name,
                        crate::types::name(output.kind)
                    ),
                ));
            }
            let value = value.secret_if(output.secure);
            outputs.insert(Arc::clone(&output.name), value);
        }
        Ok(Some(Value::from(outputs)))
    }

    fn timer_fired(&mut self, timer: TimerId) {
        let Some(due) = self.state.timers.get(timer).copied() else { return };
        if self.state.status != RunStatus::Running {
            return;
        }
        self.out.push(Event::TimerEnded { timer });
        if due.purpose == Purpose::Limit
            && let Some(effect) = self.waits_for_approval(due.place)
        {
            return self.approval_due(due.place, effect);
        }
        match due.purpose {
            Purpose::Wait => self.end_started(due.place, Outcome::ok(None)),
            Purpose::Iteration => self.next_iteration(due.place),
            Purpose::Retry => self.next_attempt(due.place),
            Purpose::Poll => self.poll_again(due.place),
            Purpose::Limit => {
                let place = due.place;
                let action = self.action(place);
                let took = time::between(self.state.slot(place).started, self.now);
                let message = format!("Action '{}' timed out after {}ms", action.name, took.as_millis());
                self.cancel_inside(place, "ActionTimedOut", None);
                let outcome = Outcome {
                    status: Status::TimedOut,
                    code: Cow::Borrowed("ActionTimedOut"),
                    outputs: None,
                    error: Some(Arc::new(ErrorInfo::new("ActionTimedOut", message))),
                };
                let started = self.state.slot(place).started;
                let outcome = self.fall_back(place, started, outcome);
                self.end_started(place, outcome);
            }
        }
    }

    fn action(&self, place: Place) -> &'a Action {
        self.state.workflow.action(place.action)
    }

    fn scope(&self, opening: OpeningId) -> Scope<'a> {
        Scope::new(self.state, self.environment, opening, self.wall)
    }

    fn evaluate(&self, place: Place, template: &Template) -> Result<Value, loom_expression::Error> {
        match template.settled() {
            Some(value) => Ok(value.clone()),
            None => template.evaluate(&self.scope(place.opening)),
        }
    }

    fn evaluate_condition(
        &self,
        place: Place,
        condition: &Condition,
    ) -> Result<Value, loom_expression::Error> {
        condition.evaluate_value(&self.scope(place.opening))
    }

    /// Ends an action, whether or not it has an `ActionStarted` event.
    fn end(&mut self, place: Place, outcome: Outcome) {
        if self.state.slot(place).phase == SlotPhase::Running {
            return self.end_started(place, outcome);
        }
        self.push_end(place, self.now, None, outcome);
    }

    /// Ends an action that has an `ActionStarted` event. An action that the engine itself executes under a retry policy may
    /// be retried instead.
    fn end_started(&mut self, place: Place, outcome: Outcome) {
        if outcome.status == Status::Failed && self.retry_local(place, &outcome) {
            return;
        }
        let started = self.state.slot(place).started;
        self.push_end(place, started, None, outcome);
    }

    /// Records the start of an action, with inputs that are secret if its definition says so.
    fn push_start(&mut self, place: Place, inputs: Option<Value>) {
        let labels = self.action(place).secure.labels_of_inputs();
        let inputs = inputs.map(|inputs| inputs.labelled(labels));
        self.out.push(Event::ActionStarted { place, at: self.now, inputs });
    }

    #[inline]
    fn push_end(
        &mut self,
        place: Place,
        started: Timestamp,
        mut inputs: Option<Value>,
        mut outcome: Outcome,
    ) {
        let action = self.action(place);
        if action.secure.inputs || action.secure.outputs {
            label_secure(action, &mut inputs, &mut outcome);
        }
        if action.tracked_properties.is_some() && outcome.status != Status::Skipped {
            self.track(place, started, &outcome);
        }
        if let Some(own) = action.resilience.as_deref()
            && (own.named.is_some() || own.timeout_mode == Mode::Observe)
        {
            self.observe_timeout(place, started);
        }
        self.out.push(Event::ActionEnded { place, started, at: self.now, inputs, outcome });
    }

    /// Ends an action whose inputs could not be evaluated.
    fn fail_inputs(&mut self, place: Place, error: &loom_expression::Error) {
        let message = format!(
            "Unable to process template language expressions in action '{}' inputs at line '0' and column '0': '{error}'.",
            self.action(place).name
        );
        let code = code_of(error, "InvalidTemplate");
        self.end(place, Outcome::of_error(ErrorInfo::new(code, message)));
    }

    /// Ends an action whose condition, items or value could not be evaluated. A condition that is not a boolean is a wrong
    /// result, like items that are not an array.
    fn fail_evaluation(&mut self, place: Place, what: &str, error: &loom_expression::Error) {
        if error.code == loom_expression::Code::NotBoolean {
            return self.fail_expression(place, what, &format!("failed: {error}"));
        }
        let message = format!(
            "Unable to process template language expressions for action '{}' at line '0' and column '0': '{error}'.",
            self.action(place).name
        );
        self.end(place, Outcome::of_error(ErrorInfo::new("InvalidTemplate", message)));
    }

    /// Ends an action whose condition, items or value has a wrong result.
    fn fail_expression(&mut self, place: Place, what: &str, why: &str) {
        let message = format!(
            "The execution of template action '{}' failed: the result of the evaluation of '{what}' {why}",
            self.action(place).name
        );
        self.end(place, Outcome::of_error(ErrorInfo::new("ExpressionEvaluationFailed", message)));
    }

    /// The evaluated inputs of an action, unless it does not accept untrusted data and they have some: it then has failed.
    #[inline]
    fn accepted(&mut self, place: Place, inputs: Value) -> Option<Value> {
        if self.action(place).accepts_untrusted || !inputs.contains_untrusted() {
            return Some(inputs);
        }
        self.refuse_untrusted(place, inputs);
        None
    }

    #[cold]
    fn refuse_untrusted(&mut self, place: Place, inputs: Value) {
        let outcome = Outcome::of_error(ErrorInfo::new(UNTRUSTED_INPUTS, self.untrusted(place, &inputs)));
        if self.state.slot(place).phase == SlotPhase::Running {
            return self.end_started(place, outcome);
        }
        self.push_end(place, self.now, Some(inputs), outcome);
    }

    /// Which of the inputs is untrusted, and where it comes from.
    fn untrusted(&self, place: Place, inputs: &Value) -> String {
        let action = self.action(place);
        let mut pointer = String::new();
        let mut shown = String::from("inputs");
        let mut at = inputs;
        // The outermost part that is untrusted as a whole.
        while !at.labels().contains(Labels::UNTRUSTED) && !at.is_secret() {
            let (step, inner) = match at.as_ref() {
                ValueRef::Object(members) => {
                    let Some((name, inner)) = members.iter().find(|(_, value)| value.contains_untrusted())
                    else {
                        break;
                    };
                    (name.to_string(), inner)
                }
                ValueRef::Array(items) => {
                    let Some(index) = items.iter().position(Value::contains_untrusted) else { break };
                    (index.to_string(), &items[index])
                }
                _ => break,
            };
            shown.push('.');
            shown.push_str(&step);
            pointer.push('/');
            pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
            at = inner;
        }
        let sources = self.state.workflow.untrusted_sources(place.action, &pointer);
        let source = if sources.is_empty() { "a language model".to_owned() } else { sources.join(", or ") };
        format!(
            "Action '{}' does not accept untrusted data ('acceptsUntrusted' is false), but '{shown}' comes from {source}.",
            action.name
        )
    }

    fn set_timer(&mut self, place: Place, due: Timestamp, purpose: Purpose) {
        let timer = TimerId(self.state.next_timer + self.planned.timers);
        self.planned.timers += 1;
        self.out.push(Event::TimerSet { timer, due, place, purpose });
    }

    fn open_opening(&mut self, block: BlockIdx, parent: Place, index: u32) -> OpeningId {
        let opening = self.state.next_opening(self.planned.openings);
        self.planned.openings += 1;
        self.out.push(Event::BlockOpened { opening, block, parent: Some(parent), index, at: self.now });
        opening
    }

    fn next_effect(&mut self) -> EffectId {
        let effect = EffectId(self.state.next_effect + self.planned.effects);
        self.planned.effects += 1;
        effect
    }

    /// Checks the settings of an action that expressions compute; literal ones were checked when the definition was loaded.
    /// An action with an invalid setting fails before it does anything.
    fn check_settings(&self, place: Place, action: &Action) -> Result<(), ErrorInfo> {
        let bad = |code, member: &str, why: String| {
            ErrorInfo::new(code, format!("`{member}` of action '{}' is invalid: {why}", action.name))
        };
        if let Some(limit @ Setting::Computed(_)) = &action.timeout {
            self.limit(place, limit)
                .map_err(|why| bad("WorkflowRunActionTimeoutLimitInvalid", "limit.timeout", why))?;
        }
        let retry = match &action.kind {
            ActionKind::Retry { policy, .. } => Some(policy),
            ActionKind::Foreach { concurrency: setting @ Setting::Computed(_), .. } => {
                self.repetitions(place, setting).map_err(|why| {
                    bad("ExpressionEvaluationFailed", "runtimeConfiguration.concurrency", why)
                })?;
                None
            }
            // Named policies contain no expressions.
            _ => action.resilience.as_deref().map(|resilience| &resilience.retry),
        };
        if let Some(RetrySetting::Computed(template, spelling)) = retry {
            self.computed_retry(place, template, *spelling)
                .map_err(|why| bad("InvalidTemplate", "retryPolicy", why))?;
        }
        Ok(())
    }

    fn limit(&self, place: Place, limit: &Setting<Span>) -> Result<Span, String> {
        match limit {
            Setting::Fixed(limit) => Ok(*limit),
            Setting::Computed(template) => {
                let value = self.evaluate(place, template).map_err(|error| error.to_string())?;
                let limit = read_span(&value)?;
                if limit == Span::default() { Err("must be greater than zero".to_owned()) } else { Ok(limit) }
            }
        }
    }

    /// The timeout of an action and its mode: its own, which has only a mode of its own, or that of its policy.
    fn timeout_of(&self, action: &'a Action) -> (Option<Cow<'a, Setting<Span>>>, Mode) {
        if let Some(own) = &action.timeout {
            let mode = action.resilience.as_deref().map_or(Mode::Enforce, |own| own.timeout_mode);
            return (Some(Cow::Borrowed(own)), mode);
        }
        match self.environment.policies.of(action) {
            Some(applied) => {
                (applied.timeout.map(|span| Cow::Owned(Setting::Fixed(span))), applied.timeout_mode)
            }
            None => (None, Mode::Enforce),
        }
    }

    /// Sets the timer of an action's timeout, if it has one and the timer is not set yet. The timeout therefore includes
    /// waits for admission and all attempts.
    fn set_limit(&mut self, place: Place) {
        if self.state.activity(place).is_some_and(|activity| activity.limit.is_some()) {
            return;
        }
        self.begin_limit(place);
    }

    /// Sets the timer of an action's timeout, if it has one.
    fn begin_limit(&mut self, place: Place) {
        let (Some(limit), Mode::Enforce) = self.timeout_of(self.action(place)) else { return };
        // An invalid timeout was reported when the action began.
        if let Ok(limit) = self.limit(place, &limit) {
            self.set_timer(place, time::add(self.now, limit), Purpose::Limit);
        }
    }

    /// Records `trackedProperties`, just before the end of their action.
    #[cold]
    fn track(&mut self, place: Place, started: Timestamp, outcome: &Outcome) {
        let Some(template) = &self.action(place).tracked_properties else { return };
        let mut scope = self.scope(place.opening);
        scope.current = Some(place);
        scope.current_record = Some(record::of_outcome(self.state, place, started, self.now, outcome));
        let properties = match template.evaluate(&scope) {
            Ok(properties) => properties,
            Err(error) => [("error", Value::from(error.to_string()))].into_iter().collect::<Object>().into(),
        };
        self.out.push(Event::Tracked { place, properties });
    }
}

/// Labels the inputs and outputs of an ended action as secret if its definition says so.
#[cold]
fn label_secure(action: &Action, inputs: &mut Option<Value>, outcome: &mut Outcome) {
    // Outputs that the engine computes from secret inputs are secret, too.
    let computed = !is_call(&action.kind) && !matches!(action.kind, ActionKind::Wait { .. });
    let outputs = action.secure.outputs || (action.secure.inputs && computed);
    *inputs = inputs.take().map(|inputs| inputs.secret_if(action.secure.inputs));
    outcome.outputs = outcome.outputs.take().map(|value| value.secret_if(outputs));
}

/// Parses a duration that an expression returned. The error quotes no secret.
fn read_span(value: &Value) -> Result<Span, String> {
    Span::from_value(value).map_err(|why| without_quotes(&why, [value]).into_owned())
}

/// The outcome of an action whose `runAfter` is not met.
fn skipped(error: ErrorInfo) -> Outcome {
    Outcome {
        status: Status::Skipped,
        code: Cow::Borrowed("ActionSkipped"),
        outputs: None,
        error: Some(Arc::new(error)),
    }
}
