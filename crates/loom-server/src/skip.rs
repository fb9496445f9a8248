//! Ends what an action waits for: the time of a `Wait`, or the delay before a retry, a poll or the next iteration of an `Until`.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use loom_definition::RunStatus;
use loom_engine::{Command, Purpose};
use loom_expression::Object;

use crate::{
    fire::FireError,
    lookup::{removed_run, run_id, unknown_run},
    path::Path,
    refusal::refusal,
    request,
    response::{Answer, Problem, json},
    shared::Shared,
};

/// `POST /api/v1/runs/{id}/actions/{action}/skip-wait`: in all iterations in which the action waits.
pub(crate) async fn skip_wait(
    State(shared): State<Shared>,
    Path((id, name)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    request::only(&uri, &[])?;
    let run = run_id(&id)?;
    let (row, state) = shared.host.engine.state_of(run).await?.ok_or_else(|| unknown_run(&id))?;
    if row.purged {
        return Err(removed_run(&id));
    }
    let conflict = |code, message: String| Err(Problem::new(StatusCode::CONFLICT, code, message));
    if row.ended.is_some() {
        return conflict("RunEnded", format!("The run '{id}' has already ended."));
    }
    let action = state.workflow().find_action(&name).ok_or_else(|| {
        let message = format!("The workflow of run '{id}' has no action named '{name}'.");
        Problem::not_found("ActionNotFound", message)
    })?;
    if state.status() == RunStatus::Suspended {
        let message = format!("The run '{id}' is suspended; resume it, and skip the wait then.");
        return conflict("RunSuspended", message);
    }
    let waits = state.timers().filter(|(_, timer)| {
        // A timeout is nothing that the action waits for.
        timer.place.action == action && timer.purpose != Purpose::Limit
    });
    let waits: Vec<_> = waits.map(|(timer, _)| timer).collect();
    if waits.is_empty() {
        let message = format!(
            "The action '{name}' waits for no time. A `Wait` that is in progress, and the delay before a retry, a poll or an iteration, can be skipped."
        );
        return conflict("ActionNotWaiting", message);
    }
    let mut skipped = 0_i64;
    for timer in waits {
        // A timer that has fired meanwhile changes nothing.
        if shared.host.command(run, Command::TimerFired(timer)).await {
            skipped += 1;
        }
    }
    if skipped == 0 {
        return Err(refusal(FireError::StorePaused));
    }
    let mut object = Object::new();
    object.insert("id", id);
    object.insert("action", state.workflow().action(action).name.to_string());
    object.insert("skipped", skipped);
    Ok(json(StatusCode::OK, &object.into()))
}
