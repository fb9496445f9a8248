//! Shows events as lines: for logs, pipes and CI, where a tree cannot be repainted.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use loom_definition::{Status, Workflow, model::ActionKind};
use loom_engine::{
    EffectId, Event, FrameId, Place,
    event::{ErrorInfo, Next, Outcome, Phase, Purpose},
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
    /// The latest time so far; events of timers and responses have none of their own.
    last: Timestamp,
    /// What opened each block, and the position of the iteration in its loop.
    frames: HashMap<FrameId, Frame>,
    attempts: HashMap<EffectId, (Place, u32)>,
    /// The last attempt of each action in progress.
    made: HashMap<Place, u32>,
}

#[derive(Clone)]
struct Frame {
    label: String,
    shown: bool,
}

impl Lines {
    pub(super) fn new(workflow: Arc<Workflow>, color: bool) -> Lines {
        Lines::since(workflow, Timestamp::MIN, color)
    }

    /// For a resumed run.
    pub(super) fn since(workflow: Arc<Workflow>, began: Timestamp, color: bool) -> Lines {
        Lines {
            workflow,
            paint: Paint { color },
            began,
            last: began,
            frames: HashMap::new(),
            attempts: HashMap::new(),
            made: HashMap::new(),
        }
    }

    /// Writes the lines for these events.
    pub(super) fn write(&mut self, events: &[Event], out: &mut String) {
        for event in events {
            if let Event::ActionStarted { at, .. } = event {
                self.last = self.last.max(*at);
            }
            self.event(event, out);
        }
    }

    fn event(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::RunStarted { start, at } => {
                self.began = *at;
                let name = self.paint.bold(&visible(&self.workflow.name));
                self.line(*at, &format!("run {} of {name} started", start.run), out);
            }
            Event::FrameOpened { frame, parent, index, at, .. } => {
                self.opened(*frame, *parent, *index, *at, out);
            }
            Event::AttemptStarted { place, attempt, effect, phase, .. } => {
                if matches!(phase, Phase::Call | Phase::Subscribe | Phase::Admit) {
                    self.attempts.insert(*effect, (*place, *attempt));
                    self.made.insert(*place, *attempt);
                }
            }
            Event::AttemptNoted { effect, note, at } => {
                if let Some((place, _)) = self.attempts.get(effect).copied() {
                    let what = self.paint.warn(&words::note(note));
                    self.line(*at, &format!("  {}: {what}", self.label(place)), out);
                }
            }
            Event::AttemptEnded { place, effect, outcome, next, at } => {
                let known = match next {
                    // What an admitted action does is noted for the attempt that admitted it.
                    Next::Execute => self.attempts.get(effect).copied(),
                    _ => self.attempts.remove(effect),
                };
                let attempt = known.map_or(1, |(_, attempt)| attempt);
                self.attempt_ended(*place, attempt, outcome, next, *at, out);
            }
            Event::TimerSet { due, place, purpose: Purpose::Wait, .. } => {
                let wait = words::duration(words::between(self.last, *due));
                self.line(self.last, &format!("… {} waits {wait}", self.label(*place)), out);
            }
            Event::ActionEnded { place, started, at, outcome, .. } => {
                self.action_ended(*place, *started, *at, outcome, out);
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
                self.line(self.last, &format!("response {status}"), out);
            }
            Event::RunEnded { status, error, at, .. } => {
                let took = words::duration(words::between(self.began, *at));
                let why = error.as_deref().map(because).unwrap_or_default();
                let status = self.paint.bold(status.as_str());
                self.line(*at, &format!("run {status} in {took}{why}"), out);
            }
            Event::ActionStarted { .. }
            | Event::LoopStarted { .. }
            | Event::TimerSet { .. }
            | Event::TimerEnded { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. }
            | Event::Tracked { .. } => {}
        }
    }

    /// Records the owner of a block, and shows that a loop continues.
    fn opened(&mut self, frame: FrameId, parent: Option<Place>, index: u32, at: Timestamp, out: &mut String) {
        let Some(parent) = parent else {
            self.frames.insert(frame, Frame { label: String::new(), shown: true });
            return;
        };
        let outer = self.frames.get(&parent.frame).cloned();
        let (outer, shown) = outer.map_or((String::new(), true), |frame| (frame.label, frame.shown));
        let action = self.workflow.action(parent.action);
        let loops = is_loop(&action.kind);
        let label =
            if loops { format!("{outer}{}[{}] › ", Visible(&action.name), index + 1) } else { outer };
        if loops && shown && index >= ITERATIONS_SHOWN && is_milestone(index) {
            let name = Visible(&action.name);
            self.line(at, &self.paint.dim(&format!("  {name}: iteration {}", index + 1)), out);
        }
        self.frames.insert(frame, Frame { label, shown: shown && !(loops && index >= ITERATIONS_SHOWN) });
    }

    fn attempt_ended(
        &mut self,
        place: Place,
        attempt: u32,
        outcome: &Outcome,
        next: &Next,
        at: Timestamp,
        out: &mut String,
    ) {
        let label = self.label(place);
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
            Next::Execute | Next::End => {}
        }
    }

    fn action_ended(
        &mut self,
        place: Place,
        started: Timestamp,
        at: Timestamp,
        outcome: &Outcome,
        out: &mut String,
    ) {
        let attempts = self.made.remove(&place).unwrap_or(0);
        let status = outcome.status;
        let shown = self.frames.get(&place.frame).is_none_or(|frame| frame.shown);
        if !shown && !status.is_bad() {
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
        let took = words::between(started, at);
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
        self.line(at, &format!("{sign} {}{shown}{details}{why}", self.label(place)), out);
    }

    fn label(&self, place: Place) -> String {
        let outer = self.frames.get(&place.frame).map(|frame| frame.label.as_str()).unwrap_or_default();
        format!("{outer}{}", Visible(&self.workflow.action(place.action).name))
    }

    fn line(&mut self, at: Timestamp, text: &str, out: &mut String) {
        self.last = self.last.max(at);
        let seconds = words::between(self.began, at).as_secs_f64();
        let time = self.paint.dim(&format!("{seconds:9.3}s"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{time}  {text}");
    }
}

fn because(error: &ErrorInfo) -> String {
    format!(": {}", words::reason(&error.message, MESSAGE_MAX))
}

/// Whether an iteration of a long loop is shown: 100, 200, … 1000, 2000, …
fn is_milestone(index: u32) -> bool {
    let iteration = index + 1;
    let magnitude = 10_u32.pow(iteration.ilog10());
    iteration >= 100 && iteration.is_multiple_of(magnitude)
}

pub(super) fn is_loop(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::Foreach { .. } | ActionKind::Loop(_) | ActionKind::Retry { .. })
}

/// Whether an action contains other actions, so that its failure is usually theirs.
fn holds_actions(kind: &ActionKind) -> bool {
    is_loop(kind)
        || matches!(
            kind,
            ActionKind::If { .. }
                | ActionKind::Switch { .. }
                | ActionKind::Scope { .. }
                | ActionKind::Parallel { .. }
        )
}
