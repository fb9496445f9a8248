//! The JSON of runs, actions and attempts in the API.

use std::sync::Arc;

use loom_definition::{
    ActionIdx, RunStatus, Status,
    model::{Action, ActionKind},
};
use loom_engine::{
    RunState,
    history::{Attempt, History, Occurrence, Window},
    status_from_number,
    trace::RunTrace,
};
use loom_expression::{Object, Timestamp, Value};
use loom_store::{RunRow, UnixMillis};

use crate::{
    event_json::{error_value, note_type, phase_name, shown_outputs},
    redact::{Redaction, hide},
};

/// A run as an entry of a list.
pub(crate) fn run_row(row: &RunRow) -> Object {
    let mut object = Object::new();
    object.insert("id", row.id.to_string());
    object.insert("workflow", Arc::clone(&row.workflow));
    object.insert("status", status_from_number(row.status).map_or("Unknown", RunStatus::as_str));
    object.insert("acceptedTime", time(row.id.time()));
    if let Some(started) = row.started {
        object.insert("startTime", time(started));
    }
    if let Some(ended) = row.ended {
        object.insert("endTime", time(ended));
    }
    if let Some(error) = &row.error {
        object.insert("error", Arc::clone(error));
    }
    if let Some(origin) = row.origin {
        object.insert("resubmitOf", origin.to_string());
    }
    if let Some(parent) = row.parent {
        object.insert("parent", parent.to_string());
    }
    object.insert("definition", row.definition.to_string());
    if row.purged {
        // Retention has removed everything except the row.
        object.insert("forgotten", true);
    }
    object
}

/// A single run: its row, its trigger and its results.
pub(crate) fn run(row: &RunRow, state: &RunState) -> Object {
    let mut object = run_row(row);
    let Some(start) = state.start() else {
        // Retention may be removing the run concurrently.
        object.insert("forgotten", true);
        return object;
    };
    object.insert("status", state.status().as_str());
    let redaction = Redaction::of(state.workflow(), start.trigger.get("name").and_then(Value::as_str));
    // A run that waits has not started.
    if row.started.is_some() {
        object.insert("startTime", state.started_at().to_string());
    }
    object.insert("clientTrackingId", Arc::clone(&start.tracking_id));
    object.insert("traceId", format!("{:032x}", RunTrace::of(start).trace));
    object.insert("trigger", redaction.trigger(&start.trigger));
    if let Some(ended) = state.ended_at() {
        object.insert("endTime", ended.to_string());
    }
    if let Some(error) = state.error() {
        object.insert("error", hide(&error.to_value()));
    }
    if let Some(outputs) = state.outputs() {
        object.insert("outputs", shown_outputs(state.workflow(), outputs));
    }
    if let Some(response) = state.response() {
        object.insert("response", redaction.answer(response));
    }
    object
}

/// All actions of a run, in the order of the definition, and where it failed first. Needs only the first occurrence of each.
pub(crate) fn actions(history: &History, now: Timestamp) -> Value {
    let viewer = Viewer::of(history, now);
    let workflow = history.workflow();
    let mut object = Object::new();
    object.insert(
        "actions",
        workflow.actions.iter().map(|action| viewer.action(action)).collect::<Vec<Value>>(),
    );
    if let Some((action, number)) = history.first_failure() {
        let mut place = Object::new();
        place.insert("action", Arc::clone(&workflow.action(action).name));
        place.insert("number", shown_number(number));
        object.insert("firstFailure", place);
    }
    object.into()
}

/// The number of an occurrence in documents, where the first one has the number 1.
fn shown_number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX).saturating_add(1)
}

/// One action with a page of its occurrences, which are in `history`.
pub(crate) fn action(history: &History, index: ActionIdx, now: Timestamp, page: ActionPage) -> Value {
    let viewer = Viewer::of(history, now);
    let mut object = viewer.head(history.workflow().action(index));
    viewer.several(index, &mut object);
    let mut occurrences = history.occurrences(index);
    let next = match page {
        ActionPage::All { skip, .. } => {
            let end = skip.saturating_add(occurrences.len());
            let (before, after) = history.failed_around(index);
            for (name, number) in [("previousFailed", before), ("nextFailed", after)] {
                if let Some(number) = number {
                    object.insert(name, shown_number(number));
                }
            }
            (end < history.occurrence_count(index)).then_some(end)
        }
        ActionPage::Failed { size, .. } => {
            let next = occurrences.get(size).map(|next| next.number);
            occurrences = &occurrences[..occurrences.len().min(size)];
            next
        }
    };
    let shown = occurrences.iter().map(|occurrence| {
        let mut shown = viewer.occurrence(index, occurrence);
        shown.insert("number", shown_number(occurrence.number));
        Value::from(shown)
    });
    object.insert("occurrences", shown.collect::<Vec<Value>>());
    if let Some(next) = next {
        object.insert("next", next.to_string());
    }
    object.into()
}

/// Which occurrences of an action a page has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ActionPage {
    /// All after the first `skip`.
    All { skip: usize, size: usize },
    /// Those that failed, with a number of at least `from`.
    Failed { from: usize, size: usize },
}

impl ActionPage {
    pub(crate) fn window(self) -> Window {
        match self {
            ActionPage::All { skip, size } => Window::Numbers(skip..skip.saturating_add(size)),
            // One more says whether there is a next page.
            ActionPage::Failed { from, size } => Window::Failed { from, count: size.saturating_add(1) },
        }
    }
}

/// A page of the executions of all actions, in the order in which they started, without inputs and outputs. Those of the page
/// are in `history`; they are after the first `skip`.
pub(crate) fn executions(history: &History, now: Timestamp, skip: usize) -> Value {
    let viewer = Viewer::of(history, now);
    let workflow = history.workflow();
    let mut page: Vec<(&Action, &Occurrence)> = workflow
        .actions
        .iter()
        .flat_map(|action| {
            history.occurrences(action.index).iter().map(move |occurrence| (action, occurrence))
        })
        .collect();
    page.sort_unstable_by_key(|(_, occurrence)| occurrence.position);
    let end = skip.saturating_add(page.len());
    let shown = page.into_iter().map(|(action, occurrence)| {
        let mut shown = Object::new();
        shown.insert("action", Arc::clone(&action.name));
        shown.insert("type", Arc::clone(&action.type_name));
        shown.insert("number", shown_number(occurrence.number));
        viewer.course(occurrence, &mut shown);
        viewer.attempts(action, occurrence, &mut shown);
        Value::from(shown)
    });
    let mut object = Object::new();
    object.insert("executions", shown.collect::<Vec<Value>>());
    if end < history.positions() {
        object.insert("next", end.to_string());
    }
    object.into()
}

struct Viewer<'h> {
    history: &'h History,
    redaction: Redaction,
    now: Timestamp,
}

impl Viewer<'_> {
    fn of(history: &History, now: Timestamp) -> Viewer<'_> {
        Viewer { history, redaction: Redaction::of(history.workflow(), None), now }
    }

    fn head(&self, action: &Action) -> Object {
        let mut object = Object::new();
        object.insert("name", Arc::clone(&action.name));
        object.insert("type", Arc::clone(&action.type_name));
        let status = self.history.status_of(action.index);
        let count = self.history.occurrence_count(action.index);
        object.insert("status", status.map_or(if count > 0 { "Running" } else { "Waiting" }, Status::as_str));
        object.insert("occurrenceCount", count as i64);
        object
    }

    /// An action that ran once, outside loops, has all details; others have the counts of their statuses.
    fn action(&self, action: &Action) -> Value {
        let mut object = self.head(action);
        match self.history.occurrences(action.index) {
            [only] if only.path.is_empty() && self.history.occurrence_count(action.index) == 1 => object
                .extend(
                    self.occurrence(action.index, only)
                        .iter()
                        .map(|(name, value)| (Arc::clone(name), value.clone()))
                        .collect::<Vec<_>>(),
                ),
            _ => self.several(action.index, &mut object),
        }
        object.into()
    }

    /// What is said of all occurrences of an action together: their statuses, beginning with the worst, and the first failure.
    fn several(&self, action: ActionIdx, object: &mut Object) {
        let (mut counts, mut ended) = (Object::new(), 0);
        for status in Status::WORST_FIRST {
            let count = self.history.occurrence_statuses(action).find(|(of, _)| *of == status);
            if let Some((_, count)) = count.filter(|(_, count)| *count > 0) {
                counts.insert(status.as_str(), count as i64);
                ended += count;
            }
        }
        let is_running = ended < self.history.occurrence_count(action);
        let worst = self.history.worst_status(action);
        let worst = match worst {
            Some(worst) if worst.is_bad() || !is_running => Some(worst.as_str()),
            _ => is_running.then_some("Running"),
        };
        if let Some(worst) = worst {
            object.insert("worstStatus", worst);
        }
        if !counts.is_empty() {
            object.insert("occurrenceStatuses", counts);
        }
        if let Some(first) = self.history.first_failed(action) {
            object.insert("firstFailed", shown_number(first));
        }
    }

    fn occurrence(&self, action: ActionIdx, occurrence: &Occurrence) -> Object {
        let mut object = Object::new();
        self.course(occurrence, &mut object);
        if let Some(inputs) = &occurrence.inputs {
            object.insert("inputs", self.redaction.inputs(action, inputs));
        }
        if let Some(outputs) = &occurrence.outputs {
            object.insert("outputs", self.redaction.outputs(action, outputs));
        }
        let untrusted: Vec<Value> = [("inputs", &occurrence.inputs), ("outputs", &occurrence.outputs)]
            .into_iter()
            .filter(|(_, value)| value.as_ref().is_some_and(Value::contains_untrusted))
            .map(|(name, _)| Value::from(name))
            .collect();
        if !untrusted.is_empty() {
            object.insert("untrusted", untrusted);
        }
        if let Some(error) = &occurrence.error {
            object.insert("error", error_value(&self.redaction, action, error));
        }
        if let Some(tracked) = &occurrence.tracked {
            object.insert("trackedProperties", hide(tracked));
        }
        self.attempts(self.history.workflow().action(action), occurrence, &mut object);
        object
    }

    /// When and how an occurrence went, and where.
    fn course(&self, occurrence: &Occurrence, object: &mut Object) {
        object.insert("status", occurrence.status.map_or("Running", Status::as_str));
        if !occurrence.code.is_empty() {
            object.insert("code", occurrence.code.as_ref());
        }
        object.insert("startTime", occurrence.started.to_string());
        if let Some(ended) = occurrence.ended {
            object.insert("endTime", ended.to_string());
        }
        object.insert("durationMs", occurrence.took(self.now).as_millis() as i64);
        if !occurrence.path.is_empty() {
            let step = |iteration: &loom_engine::history::Iteration| -> Value {
                let name = Arc::clone(&self.history.workflow().action(iteration.action).name);
                vec![Value::from(name), Value::from(i64::from(iteration.index))].into()
            };
            object.insert("path", occurrence.path.iter().map(step).collect::<Vec<Value>>());
        }
    }

    /// The calls of an occurrence. Those of an agent belong to turns, in each of which attempts count from 1.
    fn attempts(&self, action: &Action, occurrence: &Occurrence, object: &mut Object) {
        if occurrence.attempts.is_empty() {
            return;
        }
        let is_agent = matches!(action.kind, ActionKind::Agent { .. });
        let mut turn = 0_i64;
        let attempts = occurrence.attempts.iter().map(|attempt| {
            let mut shown = self.attempt(action.index, occurrence, attempt);
            if is_agent {
                // The wait for an approval, number 0, is before the first turn.
                turn += i64::from(attempt.number == 1 || (turn == 0 && attempt.number > 0));
                shown.insert("turn", turn);
            }
            Value::from(shown)
        });
        object.insert("attempts", attempts.collect::<Vec<Value>>());
    }

    fn attempt(&self, action: ActionIdx, occurrence: &Occurrence, attempt: &Attempt) -> Object {
        let mut object = Object::new();
        object.insert("attempt", i64::from(attempt.number));
        object.insert("phase", phase_name(attempt.phase));
        object.insert("startTime", attempt.started.to_string());
        if let Some(ended) = attempt.ended {
            object.insert("endTime", ended.to_string());
        }
        // The last attempt has no outcome of its own: it is that of its action.
        let own = attempt.outcome.as_ref();
        let own = own.map(|outcome| (Some(outcome.status), &outcome.code, &outcome.error));
        let last = || attempt.ended.map(|_| (occurrence.status, &occurrence.code, &occurrence.error));
        if let Some((Some(status), code, error)) = own.or_else(last) {
            object.insert("status", status.as_str());
            object.insert("code", code.as_ref());
            if let Some(error) = error {
                object.insert("error", error_value(&self.redaction, action, error));
            }
        }
        if !attempt.notes.is_empty() {
            let notes = attempt.notes.iter().map(|note| {
                let mut shown = Object::new();
                let kind = note_type(note, &mut shown);
                shown.insert("type", kind);
                Value::from(shown)
            });
            object.insert("notes", notes.collect::<Vec<Value>>());
        }
        if let Some(due) = attempt.next_due {
            object.insert("nextDue", due.to_string());
        }
        object
    }
}

pub(crate) fn time(at: UnixMillis) -> String {
    Timestamp::from_unix_millis(at.0).to_string()
}
