//! The JSON of events: `{v, seq, ts, runId, type, action?, path?, data}`, with secrets redacted.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, Status, Workflow,
    model::{ActionKind, BlockRole, EffectKind},
};
use loom_engine::{
    EffectId, Event, IllegalEvent, Iteration, RunId, Trail,
    event::{ErrorInfo, Next, Note, Outcome, Phase, Purpose},
};
use loom_expression::{Object, Value};

use crate::redact::{HIDDEN, Redaction, hide};

/// The version of the envelope.
const VERSION: i64 = 1;

/// Converts a run's events to JSON, in order. Later ones refer to earlier ones, which the trail knows.
#[derive(Debug)]
pub(crate) struct EventWriter {
    run: RunId,
    workflow: Arc<Workflow>,
    redaction: Redaction,
    trail: Trail,
}

impl EventWriter {
    /// A writer for the events after those of `trail`, of a run that the trigger of this name started.
    pub(crate) fn new(
        run: RunId,
        workflow: Arc<Workflow>,
        trail: Trail,
        trigger: Option<&str>,
    ) -> EventWriter {
        let redaction = Redaction::of(&workflow, trigger);
        EventWriter { run, workflow, redaction, trail }
    }

    /// Converts the next event; returns its number and its JSON.
    pub(crate) fn write(&mut self, event: &Event) -> Result<(u64, Value), IllegalEvent> {
        let step = self.trail.follow(event)?;
        let mut data = Object::new();
        if let (Some(attempt), Event::AttemptStarted { .. } | Event::AttemptEnded { .. }) =
            (step.attempt, event)
        {
            data.insert("attempt", i64::from(attempt));
        }
        let kind = self.describe(event, &mut data);
        let mut envelope = Object::new();
        envelope.insert("v", VERSION);
        envelope.insert("seq", step.seq as i64);
        envelope.insert("ts", step.at.to_string());
        envelope.insert("runId", self.run.to_string());
        envelope.insert("type", kind);
        if let Some(place) = step.place {
            envelope.insert("action", Arc::clone(&self.workflow.action(place.action).name));
            if !step.path.is_empty() {
                envelope.insert("path", path_value(&self.workflow, &step.path));
            }
            if let Some(effect) = step.effect.filter(|_| speaks(&self.workflow, place.action)) {
                envelope.insert("messageId", message_id(self.run, effect));
            }
        }
        envelope.insert("data", data);
        Ok((step.seq, envelope.into()))
    }

    /// The event's type; its details go to `data`.
    fn describe(&mut self, event: &Event, data: &mut Object) -> &'static str {
        match event {
            Event::RunStarted { start, .. } => {
                let trigger = start.trigger.get("name").and_then(Value::as_str);
                self.redaction = Redaction::of(&self.workflow, trigger);
                data.insert("workflow", Arc::clone(&self.workflow.name));
                data.insert("clientTrackingId", Arc::clone(&start.tracking_id));
                data.insert("trigger", self.redaction.trigger(&start.trigger));
                "run.started"
            }
            Event::BlockOpened { block, parent, index, .. } => {
                let block = self.workflow.block(*block);
                let looped = parent.is_some_and(|parent| self.workflow.action(parent.action).kind.is_loop());
                data.insert("index", i64::from(*index));
                data.insert("role", role(block.role));
                if looped { "loop.iteration" } else { "block.opened" }
            }
            Event::ActionStarted { place, inputs, .. } => {
                if let Some(inputs) = inputs {
                    data.insert("inputs", self.redaction.inputs(place.action, inputs));
                }
                "action.started"
            }
            Event::LoopStarted { count, deadline, delay, .. } => {
                data.insert("count", i64::from(*count));
                data.insert("deadline", deadline.to_string());
                data.insert("delayMs", delay.as_millis() as i64);
                "loop.started"
            }
            Event::AttemptStarted { phase, .. } => {
                data.insert("phase", phase_name(*phase));
                "attempt.started"
            }
            Event::AttemptNoted { note, .. } => note_type(note, data),
            Event::AttemptEnded { place, outcome, next, .. } => {
                self.outcome(place.action, outcome, data);
                match next {
                    Next::Retry { due } => {
                        data.insert("due", due.to_string());
                        "action.retrying"
                    }
                    Next::Poll { due, .. } => {
                        data.insert("due", due.to_string());
                        "action.polling"
                    }
                    Next::Callback => "action.waiting",
                    Next::Execute | Next::Proceed | Next::End => "attempt.completed",
                    Next::Turn { uses } => {
                        data.insert("uses", uses.len() as i64);
                        "agent.turn"
                    }
                }
            }
            Event::TimerSet { due, purpose, .. } => {
                data.insert("due", due.to_string());
                data.insert("purpose", purpose_name(*purpose));
                "timer.set"
            }
            Event::TimerEnded { .. } => "timer.ended",
            Event::VariableSet { variable, value } => {
                data.insert("name", Arc::clone(&self.workflow.variables[variable.0 as usize].name));
                data.insert("value", self.redaction.variable(value));
                "variable.set"
            }
            Event::VariableAppended { variable, item } => {
                data.insert("name", Arc::clone(&self.workflow.variables[variable.0 as usize].name));
                data.insert("item", self.redaction.variable(item));
                "variable.appended"
            }
            Event::Responded { response, .. } => {
                data.insert("response", self.redaction.answer(response));
                "run.responded"
            }
            Event::ActionEnded { place, started, inputs, outcome, .. } => {
                data.insert("startTime", started.to_string());
                if let Some(inputs) = inputs {
                    data.insert("inputs", self.redaction.inputs(place.action, inputs));
                }
                self.outcome(place.action, outcome, data);
                let skipped = outcome.status == Status::Skipped;
                if matches!(self.workflow.action(place.action).kind, ActionKind::Emit { .. })
                    && let Some(outputs) =
                        outcome.outputs.as_ref().filter(|_| outcome.status == Status::Succeeded)
                {
                    data.insert("emitted", self.redaction.outputs(place.action, outputs));
                }
                if skipped { "action.skipped" } else { "action.completed" }
            }
            Event::Tracked { properties, .. } => {
                data.insert("properties", hide(properties));
                "action.tracked"
            }
            Event::RunWaiting { .. } => "run.waiting",
            Event::RunAdmitted { .. } => "run.admitted",
            Event::Suspended { .. } => "run.suspended",
            Event::Resumed { .. } => "run.resumed",
            Event::RunEnded { status, error, outputs, .. } => {
                data.insert("status", status.as_str());
                if let Some(error) = error {
                    data.insert("error", hide(&error.to_value()));
                }
                if let Some(outputs) = outputs {
                    data.insert("outputs", shown_outputs(&self.workflow, outputs));
                }
                "run.completed"
            }
        }
    }

    fn outcome(&self, action: ActionIdx, outcome: &Outcome, data: &mut Object) {
        data.insert("status", outcome.status.as_str());
        data.insert("code", outcome.code.as_ref());
        if let Some(outputs) = &outcome.outputs {
            data.insert("outputs", self.redaction.outputs(action, outputs));
        }
        if let Some(error) = &outcome.error {
            data.insert("error", error_value(&self.redaction, action, error));
        }
    }
}

/// Iterations as `[["ForEach", 3], …]`.
pub(crate) fn path_value(workflow: &Workflow, path: &[Iteration]) -> Value {
    let iteration = |round: &Iteration| -> Value {
        let name = Value::from(Arc::clone(&workflow.action(round.action).name));
        vec![name, Value::from(i64::from(round.index))].into()
    };
    path.iter().map(iteration).collect::<Vec<Value>>().into()
}

/// The id of the message that a call of a language model produces.
pub(crate) fn message_id(run: RunId, effect: EffectId) -> String {
    format!("{run}-{}", effect.0)
}

/// Whether the calls of an action produce messages.
fn speaks(workflow: &Workflow, action: ActionIdx) -> bool {
    matches!(
        workflow.action(action).kind,
        ActionKind::Agent { .. } | ActionKind::Effect { effect: EffectKind::Ai | EffectKind::Activity, .. }
    )
}

/// An action's error. Its message may quote outputs, so it is redacted like them.
pub(crate) fn error_value(redaction: &Redaction, action: ActionIdx, error: &ErrorInfo) -> Value {
    let mut shown = Object::new();
    shown.insert("code", error.code.as_ref());
    shown.insert("message", redaction.outputs(action, &Value::from(error.message.as_str())));
    if let Some(details) = &error.details {
        shown.insert("details", redaction.outputs(action, details));
    }
    shown.into()
}

/// A run's outputs, with secured ones redacted.
pub(crate) fn shown_outputs(workflow: &Workflow, outputs: &Value) -> Value {
    let Some(members) = outputs.as_object() else { return hide(outputs) };
    let shown = members.iter().map(|(name, value)| {
        let secure = workflow.outputs.iter().any(|output| output.secure && output.name == *name);
        (Arc::clone(name), if secure { Value::from(HIDDEN) } else { hide(value) })
    });
    shown.collect::<Object>().into()
}

/// The event type of a note; its details go to `data`.
pub(crate) fn note_type(note: &Note, data: &mut Object) -> &'static str {
    match note {
        Note::Waited { service, by, wait } => {
            data.insert("service", Arc::clone(service));
            data.insert("by", by.as_ref());
            data.insert("waitMs", wait.as_millis() as i64);
            "attempt.held"
        }
        Note::Breaker { service, from, to, why } => {
            data.insert("service", Arc::clone(service));
            data.insert("from", from.as_ref());
            data.insert("to", to.as_ref());
            data.insert("why", why.as_str());
            match to.as_ref() {
                "Open" => "breaker.opened",
                "HalfOpen" => "breaker.halfOpened",
                _ => "breaker.closed",
            }
        }
        Note::Interrupted { text } => {
            data.insert("text", text.as_str());
            "message.interrupted"
        }
        Note::Hedged { service, copies } => {
            data.insert("service", Arc::clone(service));
            data.insert("copies", i64::from(*copies));
            "attempt.hedged"
        }
        Note::Observed { service, part } => {
            data.insert("service", Arc::clone(service));
            data.insert("part", part.as_ref());
            "policy.observed"
        }
        Note::Injected { service, kind, what } => {
            data.insert("service", Arc::clone(service));
            data.insert("kind", kind.as_ref());
            data.insert("what", what.as_str());
            "chaos.injected"
        }
    }
}

pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Call => "call",
        Phase::Admit => "admit",
        Phase::Subscribe => "subscribe",
        Phase::Unsubscribe => "unsubscribe",
        Phase::Approve => "approve",
    }
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Retry => "retry",
        Purpose::Poll => "poll",
        Purpose::Wait => "wait",
        Purpose::Iteration => "round",
        Purpose::Limit => "limit",
    }
}

fn role(role: BlockRole) -> &'static str {
    match role {
        BlockRole::Root => "root",
        BlockRole::Body => "body",
        BlockRole::Else => "else",
        BlockRole::Case(_) => "case",
        BlockRole::Default => "default",
        BlockRole::Branch(_) => "branch",
        BlockRole::Tool(_) => "tool",
    }
}
