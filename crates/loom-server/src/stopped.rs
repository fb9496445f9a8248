//! Why a run that has not ended does not continue: it is held, suspended automatically, or unreadable.

use loom_engine::RunId;
use loom_expression::{Object, Value};
use loom_store::RunRow;

use crate::{response::Problem, shared::Shared};

/// Adds to a run why it is held or suspended: because of the store, the operator, or crashes of the process.
pub(crate) async fn with_hold(shared: &Shared, row: &RunRow, mut shown: Object) -> Result<Value, Problem> {
    if row.ended.is_some() {
        return Ok(shown.into());
    }
    let engine = &shared.host.engine;
    if let Some(why) = engine.why_unreadable(row.id) {
        shown.insert("unreadable", unreadable(row.id, &why));
    } else if let Some(why) = why_held(shared, row) {
        shown.insert("held", why);
    }
    if let Some(ends) = engine.crash_count(row).await? {
        let why = format!(
            "a worker was evaluating this run each of the last {ends} times that the process ended; the run is suspended so that \
             it cannot end the process again"
        );
        shown.insert("suspendedBecause", why);
    }
    Ok(shown.into())
}

/// Why a run does not continue although it has not ended, and what to do about it.
pub(crate) fn unreadable(run: RunId, why: &str) -> String {
    format!(
        "{why}. The run does not continue, and nothing is written to its journal. `loom runs events {run}` shows what can be read; \
         `loom runs resubmit {run}` starts it again from its trigger; or restore the data directory from a backup."
    )
}

/// Why a run is held; none if it is not.
pub(crate) fn why_held(shared: &Shared, row: &RunRow) -> Option<String> {
    let engine = &shared.host.engine;
    if row.ended.is_some() {
        return None;
    }
    if let Some(why) = engine.why_held(row.id) {
        return Some(why.to_string());
    }
    let holds = shared.host.is_holding() && !engine.is_in_progress(row.id);
    holds.then(|| "the server was started with --hold-runs; resume the run to release it".to_owned())
}
