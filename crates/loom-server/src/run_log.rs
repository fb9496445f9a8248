//! The log of runs: one line when a run starts, waits or ends, with its reason if it fails.
//!
//! It says what the list of runs says: no inputs and no outputs, and errors as they are shown.

use loom_definition::RunStatus;
use loom_engine::{Event, RunState};
use loom_expression::Value;

use crate::redact::hide;

/// Logs what these events of a run mean.
pub(crate) fn events(state: &RunState, events: &[Event]) {
    let Some(start) = state.start() else { return };
    let (run, workflow) = (start.run, &*state.workflow().name);
    let trigger = start.trigger.get("name").and_then(Value::as_str).unwrap_or_default();
    for event in events {
        match event {
            Event::RunStarted { .. } => {
                tracing::info!(target: "loom_server::runs", %run, workflow, trigger, "run started");
            }
            Event::RunEnded { status, at, .. } => {
                let status = status.as_str();
                let millis = (at.unix_nanos() - state.started_at().unix_nanos()) / 1_000_000;
                let duration_ms = u64::try_from(millis).unwrap_or_default();
                match state.error() {
                    Some(error) if state.status() != RunStatus::Cancelled => {
                        let error = hide(&error.to_value()).to_json_text();
                        tracing::warn!(target: "loom_server::runs", %run, workflow, trigger, status, duration_ms, error, "run ended");
                    }
                    _ => {
                        tracing::info!(target: "loom_server::runs", %run, workflow, trigger, status, duration_ms, "run ended");
                    }
                }
            }
            _ => {}
        }
    }
}
