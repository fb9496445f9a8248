//! The JSON of events: `{v, seq, ts, runId, type, action?, path?, data}`, with secrets redacted.

use std::{collections::HashMap, sync::Arc};

use loom_definition::{ActionIdx, Status, Workflow, model::BlockRole};
use loom_engine::{
    EffectId, Event, FrameId, Place, RunId, TimerId,
    event::{ErrorInfo, Next, Note, Outcome, Phase, Purpose},
};
use loom_expression::{Object, Timestamp, Value};

use crate::redact::{HIDDEN, Redaction, hide};

/// The version of the envelope.
const VERSION: i64 = 1;

/// Converts a run's events to JSON. It must process all of them from the first, because later ones refer to earlier ones.
#[derive(Debug)]
pub(crate) struct EventWriter {
    run: RunId,
    workflow: Arc<Workflow>,
    redaction: Redaction,
    /// The iterations of the loops around each open block, outermost first.
    frames: HashMap<FrameId, Vec<(ActionIdx, u32)>>,
    attempts: HashMap<EffectId, (Place, u32)>,
    timers: HashMap<TimerId, Place>,
    /// The time of the last event that has one; not every event does.
    at: Timestamp,
}

impl EventWriter {
    pub(crate) fn new(run: RunId, workflow: Arc<Workflow>) -> EventWriter {
        let redaction = Redaction::of(&workflow, None);
        EventWriter {
            run,
            workflow,
            redaction,
            frames: HashMap::new(),
            attempts: HashMap::new(),
            timers: HashMap::new(),
            at: Timestamp::MIN,
        }
    }

    /// Converts the event with number `seq`.
    pub(crate) fn write(&mut self, seq: u64, event: &Event) -> Value {
        let mut data = Object::new();
        let (kind, place) = self.describe(event, &mut data);
        let mut envelope = Object::new();
        envelope.insert("v", VERSION);
        envelope.insert("seq", seq as i64);
        envelope.insert("ts", self.at.to_string());
        envelope.insert("runId", self.run.to_string());
        envelope.insert("type", kind);
        if let Some(place) = place {
            envelope.insert("action", Arc::clone(&self.workflow.action(place.action).name));
            let path = self.frames.get(&place.frame).map(Vec::as_slice).unwrap_or_default();
            if !path.is_empty() {
                let step = |(action, index): &(ActionIdx, u32)| -> Value {
                    let name = Value::from(Arc::clone(&self.workflow.action(*action).name));
                    vec![name, Value::from(i64::from(*index))].into()
                };
                envelope.insert("path", path.iter().map(step).collect::<Vec<Value>>());
            }
        }
        envelope.insert("data", data);
        envelope.into()
    }

    /// The event's type and action; its details go to `data`.
    fn describe(&mut self, event: &Event, data: &mut Object) -> (&'static str, Option<Place>) {
        match event {
            Event::RunStarted { start, at } => {
                self.at = *at;
                let trigger = start.trigger.get("name").and_then(Value::as_str);
                self.redaction = Redaction::of(&self.workflow, trigger);
                data.insert("workflow", Arc::clone(&self.workflow.name));
                data.insert("clientTrackingId", Arc::clone(&start.tracking_id));
                data.insert("trigger", self.redaction.trigger(&start.trigger));
                ("run.started", None)
            }
            Event::FrameOpened { frame, block, parent, index, at } => {
                self.at = *at;
                let block = self.workflow.block(*block);
                let mut path = Vec::new();
                let mut looped = false;
                if let Some(parent) = parent {
                    path = self.frames.get(&parent.frame).cloned().unwrap_or_default();
                    looped = is_loop(&self.workflow, parent.action);
                    if looped {
                        path.push((parent.action, *index));
                    }
                }
                self.frames.insert(*frame, path);
                data.insert("index", i64::from(*index));
                data.insert("role", role(block.role));
                (if looped { "loop.iteration" } else { "block.opened" }, *parent)
            }
            Event::ActionStarted { place, at, inputs } => {
                self.at = *at;
                if let Some(inputs) = inputs {
                    data.insert("inputs", self.redaction.inputs(place.action, inputs));
                }
                ("action.started", Some(*place))
            }
            Event::LoopStarted { place, count, deadline, delay } => {
                data.insert("count", i64::from(*count));
                data.insert("deadline", deadline.to_string());
                data.insert("delayMs", delay.as_millis() as i64);
                ("loop.started", Some(*place))
            }
            Event::AttemptStarted { place, attempt, effect, phase, at, .. } => {
                self.at = *at;
                self.attempts.insert(*effect, (*place, *attempt));
                data.insert("attempt", i64::from(*attempt));
                data.insert("phase", phase_name(*phase));
                ("attempt.started", Some(*place))
            }
            Event::AttemptNoted { effect, note, at } => {
                self.at = *at;
                (note_type(note, data), self.attempts.get(effect).map(|(place, _)| *place))
            }
            Event::AttemptEnded { place, effect, outcome, next, at } => {
                self.at = *at;
                // What an admitted action does is noted for the attempt that admitted it.
                let known = match next {
                    Next::Execute => self.attempts.get(effect).copied(),
                    _ => self.attempts.remove(effect),
                };
                if let Some((_, attempt)) = known {
                    data.insert("attempt", i64::from(attempt));
                }
                self.outcome(place.action, outcome, data);
                let kind = match next {
                    Next::Retry { due } => {
                        data.insert("due", due.to_string());
                        "action.retrying"
                    }
                    Next::Poll { due, .. } => {
                        data.insert("due", due.to_string());
                        "action.polling"
                    }
                    Next::Callback => "action.waiting",
                    Next::Execute | Next::End => "attempt.completed",
                };
                (kind, Some(*place))
            }
            Event::TimerSet { timer, due, place, purpose } => {
                self.timers.insert(*timer, *place);
                data.insert("due", due.to_string());
                data.insert("purpose", purpose_name(*purpose));
                ("timer.set", Some(*place))
            }
            Event::TimerEnded { timer } => ("timer.ended", self.timers.remove(timer)),
            Event::VariableSet { variable, value } => {
                data.insert("name", Arc::clone(&self.workflow.variables[variable.0 as usize].name));
                data.insert("value", self.redaction.variable(value));
                ("variable.set", None)
            }
            Event::VariableAppended { variable, item } => {
                data.insert("name", Arc::clone(&self.workflow.variables[variable.0 as usize].name));
                data.insert("item", self.redaction.variable(item));
                ("variable.appended", None)
            }
            Event::Responded { place, response } => {
                data.insert("response", self.redaction.answer(response));
                ("run.responded", Some(*place))
            }
            Event::ActionEnded { place, started, at, inputs, outcome } => {
                self.at = *at;
                data.insert("startTime", started.to_string());
                if let Some(inputs) = inputs {
                    data.insert("inputs", self.redaction.inputs(place.action, inputs));
                }
                self.outcome(place.action, outcome, data);
                let skipped = outcome.status == Status::Skipped;
                (if skipped { "action.skipped" } else { "action.completed" }, Some(*place))
            }
            Event::Tracked { place, properties } => {
                data.insert("properties", hide(properties));
                ("action.tracked", Some(*place))
            }
            Event::RunWaiting { at } => {
                self.at = *at;
                ("run.waiting", None)
            }
            Event::RunAdmitted { at } => {
                self.at = *at;
                ("run.admitted", None)
            }
            Event::Suspended { at } => {
                self.at = *at;
                ("run.suspended", None)
            }
            Event::Resumed { at } => {
                self.at = *at;
                ("run.resumed", None)
            }
            Event::RunEnded { status, error, outputs, at } => {
                self.at = *at;
                data.insert("status", status.as_str());
                if let Some(error) = error {
                    data.insert("error", hide(&error.to_value()));
                }
                if let Some(outputs) = outputs {
                    data.insert("outputs", shown_outputs(&self.workflow, outputs));
                }
                ("run.completed", None)
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
        Note::Held { service, by, wait } => {
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

pub(crate) fn is_loop(workflow: &Workflow, action: ActionIdx) -> bool {
    use loom_definition::model::ActionKind;
    matches!(
        workflow.action(action).kind,
        ActionKind::Foreach { .. } | ActionKind::Loop(_) | ActionKind::Retry { .. }
    )
}
