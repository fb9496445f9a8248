//! Shows events as lines: for logs, pipes and CI, where a tree cannot be repainted.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use loom_definition::{ActionIdx, Status, Workflow, model::ActionKind};
use loom_engine::{
    Event, Iteration, Place, Step, Trail,
    event::{ErrorInfo, Next, Outcome, Phase, Purpose},
    history::History,
};
use loom_expression::{Timestamp, Visible, visible};

use super::words::{self, Paint};

/// The first iterations of a loop, which are shown one by one; later ones are shown only if something fails in them.
const ITERATIONS_SHOWN: u32 = 20;

/// The maximum number of characters of an error message.
const MESSAGE_MAX: usize = 400;

/// Converts events to lines.
pub(super) struct Lines {
    workflow: Arc<Workflow>,
    paint: Paint,
    began: Timestamp,
    trail: Trail,
    /// The last attempt of each action in progress.
    made: HashMap<Place, u32>,
}

impl Lines {
    /// For a run that began at this time, and whose events so far are those of the trail.
    pub(super) fn new(trail: Trail, began: Timestamp, color: bool) -> Lines {
        let workflow = Arc::clone(trail.workflow());
        Lines { workflow, paint: Paint { color }, began, trail, made: HashMap::new() }
    }

    /// Writes the lines for these events.
    pub(super) fn write(&mut self, events: &[Event], out: &mut String) {
        for event in events {
            // The events of a run in progress refer to its own definition.
            if let Ok(step) = self.trail.follow(event) {
                self.event(event, &step, out);
            }
        }
    }

    fn event(&mut self, event: &Event, step: &Step, out: &mut String) {
        match event {
            Event::RunStarted { start, at } => {
                self.began = *at;
                let name = self.paint.bold(&visible(&self.workflow.name));
                self.line(*at, &format!("run {} of {name} started", start.run), out);
            }
            Event::BlockOpened { parent: Some(parent), index, at, .. } => {
                self.opened(*parent, *index, *at, step, out);
            }
            Event::AttemptStarted { place, attempt, phase, .. } => {
                if matches!(phase, Phase::Call | Phase::Subscribe | Phase::Admit) {
                    self.made.insert(*place, *attempt);
                }
            }
            Event::AttemptNoted { note, at, .. } => {
                if let Some(place) = step.place {
                    let what = self.paint.warn(&words::note(note));
                    self.line(*at, &format!("  {}: {what}", self.label(place.action, &step.path)), out);
                }
            }
            Event::AttemptEnded { outcome, next, at, .. } => {
                self.attempt_ended(step, outcome, next, *at, out);
            }
            Event::TimerSet { due, place, purpose: Purpose::Wait, .. } => {
                let wait = words::duration(words::between(step.at, *due));
                let label = self.label(place.action, &step.path);
                self.line(step.at, &format!("… {label} waits {wait}"), out);
            }
            Event::ActionEnded { place, started, outcome, .. } => {
                self.action_ended(*place, *started, outcome, step, out);
            }
            Event::RunWaiting { at } => {
                self.line(*at, "waits for the concurrency limit of its trigger", out);
            }
            Event::RunAdmitted { at } => {
                self.began = *at;
                self.line(*at, "admitted", out);
            }
            Event::Suspended { at } => self.line(*at, "suspended", out),
            Event::Resumed { at } => self.line(*at, "resumed", out),
            Event::Responded { response, .. } => {
                let status = words::response(response);
                self.line(step.at, &format!("response {status}"), out);
            }
            Event::RunEnded { status, error, at, .. } => {
                let took = words::duration(words::between(self.began, *at));
                let why = error.as_deref().map(because).unwrap_or_default();
                let status = self.paint.bold(status.as_str());
                self.line(*at, &format!("run {status} in {took}{why}"), out);
            }
            Event::BlockOpened { .. }
            | Event::ActionStarted { .. }
            | Event::LoopStarted { .. }
            | Event::TimerSet { .. }
            | Event::TimerEnded { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. }
            | Event::Tracked { .. } => {}
        }
    }

    /// Shows that a long loop continues.
    fn opened(&self, parent: Place, index: u32, at: Timestamp, step: &Step, out: &mut String) {
        let action = self.workflow.action(parent.action);
        let loops = action.kind.is_loop();
        if loops && is_shown(&step.path) && index >= ITERATIONS_SHOWN && is_milestone(index) {
            let name = Visible(&action.name);
            self.line(at, &self.paint.dim(&format!("  {name}: iteration {}", index + 1)), out);
        }
    }

    fn attempt_ended(&self, step: &Step, outcome: &Outcome, next: &Next, at: Timestamp, out: &mut String) {
        let Some(place) = step.place else { return };
        let label = self.label(place.action, &step.path);
        let attempt = step.attempt.unwrap_or(1);
        match next {
            Next::Retry { due } => {
                let how = words::ended(outcome);
                let wait = words::duration(words::between(at, *due));
                let refused = if words::is_refusal(&outcome.code) { ", not called" } else { "" };
                let what = format!("↻ {label}: attempt {attempt}: {how}{refused}; again in {wait}");
                self.line(at, &self.paint.warn(&what), out);
            }
            Next::Poll { due, .. } => {
                let wait = words::duration(words::between(at, *due));
                self.line(at, &format!("… {label}: not done yet; polling again in {wait}"), out);
            }
            Next::Callback => self.line(at, &format!("… {label}: waiting for its callback"), out),
            Next::Turn { uses } => {
                let tools = words::count(uses.len(), "tool");
                self.line(at, &format!("↪ {label}: uses {tools}"), out);
            }
            Next::Execute | Next::Proceed | Next::End => {}
        }
    }

    fn action_ended(
        &mut self,
        place: Place,
        started: Timestamp,
        outcome: &Outcome,
        step: &Step,
        out: &mut String,
    ) {
        let attempts = self.made.remove(&place).unwrap_or(0);
        let status = outcome.status;
        if !is_shown(&step.path) && !status.is_bad() {
            return;
        }
        let action = self.workflow.action(place.action);
        let mut details = Vec::new();
        if matches!(action.kind, ActionKind::Effect { .. }) && status != Status::Skipped {
            details.push(words::ended(outcome).into_owned());
        }
        if attempts > 1 {
            details.push(words::count(attempts as usize, "attempt"));
        }
        let took = words::between(started, step.at);
        if took.as_millis() > 0 {
            details.push(words::duration(took));
        }
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
        let why = match &outcome.error {
            // An action with a block fails because of the actions inside it, which have shown the reason, or of its own expression.
            Some(error)
                if status.is_bad() && (!holds_actions(&action.kind) || error.code != "ActionFailed") =>
            {
                format!(": {}", words::reason_of(error, outcome.outputs.as_ref(), MESSAGE_MAX))
            }
            _ => String::new(),
        };
        let sign = self.paint.status(Some(status), words::sign(Some(status)));
        let shown = if status == Status::Skipped { " skipped" } else { "" };
        let label = self.label(place.action, &step.path);
        self.line(step.at, &format!("{sign} {label}{shown}{details}{why}"), out);
    }

    fn label(&self, action: ActionIdx, path: &[Iteration]) -> String {
        label(&self.workflow, action, path)
    }

    fn line(&self, at: Timestamp, text: &str, out: &mut String) {
        let seconds = words::between(self.began, at).as_secs_f64();
        let time = self.paint.dim(&format!("{seconds:9.3}s"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{time}  {text}");
    }
}

/// An action with the iterations of its enclosing loops, counted from 1: `Each[3] › Post`.
fn label(workflow: &Workflow, action: ActionIdx, path: &[Iteration]) -> String {
    let mut label = String::new();
    for round in path {
        // Writing to a string cannot fail.
        let _ = write!(label, "{}[{}] › ", Visible(&workflow.action(round.action).name), round.index + 1);
    }
    let _ = write!(label, "{}", Visible(&workflow.action(action).name));
    label
}

/// The most failures that are listed.
const FAILURES_SHOWN: usize = 5;

/// The actions that failed, with their reasons, one a line: for a run that was not shown while it was in progress.
pub(super) fn failures(history: &History) -> Vec<String> {
    let workflow = history.workflow();
    let mut failures = Vec::new();
    for action in &workflow.actions {
        for occurrence in history.occurrences(action.index) {
            let (Some(status), Some(error)) = (occurrence.status, &occurrence.error) else { continue };
            if !status.is_bad() || (holds_actions(&action.kind) && error.code == "ActionFailed") {
                continue;
            }
            let label = label(workflow, action.index, &occurrence.path);
            let why = words::reason_of(error, occurrence.outputs.as_ref(), MESSAGE_MAX);
            failures.push((occurrence.position, format!("{label} {status}: {why}")));
        }
    }
    failures.sort_by_key(|(position, _)| *position);
    let more = failures.len().saturating_sub(FAILURES_SHOWN);
    let mut lines: Vec<String> = failures.into_iter().map(|(_, line)| line).take(FAILURES_SHOWN).collect();
    if more > 0 {
        lines.push(format!("{more} more failed"));
    }
    lines
}

fn because(error: &ErrorInfo) -> String {
    format!(": {}", words::reason(&error.message, MESSAGE_MAX))
}

/// Whether what happens in these iterations is shown.
fn is_shown(path: &[Iteration]) -> bool {
    path.iter().all(|round| round.index < ITERATIONS_SHOWN)
}

/// Whether an iteration of a long loop is shown: 100, 200, … 1000, 2000, …
fn is_milestone(index: u32) -> bool {
    let iteration = index + 1;
    let magnitude = 10_u32.pow(iteration.ilog10());
    iteration >= 100 && iteration.is_multiple_of(magnitude)
}

/// Whether an action contains other actions, so that its failure is usually theirs.
fn holds_actions(kind: &ActionKind) -> bool {
    kind.is_loop()
        || matches!(
            kind,
            ActionKind::If { .. }
                | ActionKind::Switch { .. }
                | ActionKind::Scope { .. }
                | ActionKind::Parallel { .. }
        )
}
