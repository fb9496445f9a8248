//! Backfill: fires the occurrences of a Recurrence that were missed between two times.
//!
//! Each occurrence has the name that the trigger itself gives it, so it starts its runs once, whether the trigger or a
//! backfill fires it, and however often a backfill is repeated.

use std::{str::FromStr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use loom_definition::trigger::TriggerKind;
use loom_engine::{FiringCommit, RunId, TriggerView};
use loom_expression::{Object, Timestamp, Value};

use crate::{
    access,
    fire::{Fire, FireError},
    keys::{moment, trigger_key},
    lookup::{deployed, find_trigger},
    path::Path,
    recurrence::Timetable,
    refusal::refusal,
    request::{self, read_body},
    response::{Answer, Problem, json},
    shared::Shared,
    timetable::{Progress, last_state},
    trigger_history::{self, Note, NoteStatus},
};

/// The maximum number of occurrences of one backfill.
const OCCURRENCES_MAX: usize = 1_000;

/// `POST /api/v1/workflows/{name}/triggers/{trigger}/backfill`, with `{"from", "to", "dryRun"}`.
pub(crate) async fn backfill(
    State(shared): State<Shared>,
    Path((name, trigger)): Path<(String, String)>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let received = read_body(request.into_body(), &shared).await?;
    let body = request::json(received.bytes(), &shared)?.unwrap_or_default();
    let body = body.as_object().ok_or_else(|| {
        Problem::bad("The body must be an object with the times `from` and `to`, and optionally `dryRun`.")
    })?;
    if let Some(other) = body.keys().find(|name| !["from", "to", "dryRun"].contains(&&***name)) {
        return Err(Problem::bad(format!("Unknown property '{other}'; use 'from', 'to' and 'dryRun'.")));
    }
    let dry = body.get("dryRun").and_then(Value::as_bool).unwrap_or(false);
    let (from, to) = (time(body, "from")?, time(body, "to")?);
    let now = shared.host.now().unix_nanos();
    if from >= to || to > now {
        return Err(Problem::bad("`from` must be before `to`, and `to` must not be in the future."));
    }
    if !dry && !shared.host.is_started() {
        let message = "Occurrences can only be fired by the server that executes their runs.";
        return Err(Problem::new(StatusCode::CONFLICT, "ServerNotRunning", message));
    }
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    let host = &shared.host;
    if let Some(by) = host.disabled_by(&deployment, Some(&trigger.name)) {
        let workflow = Arc::clone(&deployment.workflow.name);
        return Err(refusal(FireError::Disabled { by, workflow, trigger: Arc::clone(&trigger.name) }));
    }
    let view = TriggerView {
        workflow: &deployment.workflow,
        trigger,
        parameters: &deployment.parameters,
        previous: None,
        callback: None,
    };
    let recurrence = match trigger.kind {
        TriggerKind::Recurrence => host.engine.trigger_recurrence(view).await.ok().flatten(),
        _ => None,
    };
    let Some(timetable) = recurrence.and_then(|recurrence| Timetable::new(&recurrence).ok()) else {
        let message = format!(
            "The trigger '{}' is not a Recurrence that can be evaluated; only those have occurrences to backfill.",
            trigger.name
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, "TriggerNotRecurrent", message));
    };
    let key = trigger_key(&deployment.workflow.name, &trigger.name);
    let progress = last_state(&*host.store, &key).await?.unwrap_or_else(|| Progress::begun(&timetable, now));
    let occurrences = occurrences(&timetable, progress, from, to)?;
    let fired = fired_before(&shared, &key).await?;
    let mut shown = Vec::with_capacity(occurrences.len());
    for due in occurrences {
        let name = progress.occurrence(&key, due);
        let scheduled = Timestamp::from_unix_nanos(due).to_string();
        let known = host.store.run_by_key(&deployment.workflow.name, &format!("{name}/0")).await?;
        let mut one = Object::new();
        one.insert("scheduledTime", scheduled.as_str());
        if let Some(row) = known {
            one.insert("status", "AlreadyFired");
            one.insert("runs", vec![Value::from(row.id.to_string())]);
        } else if fired.contains(&scheduled) {
            one.insert("status", "AlreadyFired");
        } else if dry {
            one.insert("status", "Missed");
        } else {
            let mut body = Object::new();
            body.insert("scheduledTime", scheduled.as_str());
            body.insert("backfill", true);
            let outputs: Object = [("body", body)].into_iter().collect();
            let number = trigger_history::next_number(&*host.store, &key).await?;
            let note = Note::new(host.now().unix_nanos(), NoteStatus::Succeeded).scheduled(due);
            let keys = {
                let key = key.clone();
                move |runs: &[RunId]| {
                    vec![trigger_history::write(&key, number, note.with_runs(runs.iter().copied()))]
                }
            };
            let along = FiringCommit {
                name: Some(name.into()),
                keys: Some(Box::new(keys)),
                ..FiringCommit::default()
            };
            let fire = Fire {
                deployment: &deployment,
                trigger,
                outputs: outputs.into(),
                tracking_id: None,
                wants_response: false,
                trace: None,
            };
            match host.fire_along(fire, along).await {
                Ok(begun) => {
                    one.insert("status", "Fired");
                    let runs: Vec<Value> = begun.runs.iter().map(|run| run.to_string().into()).collect();
                    one.insert("runs", runs);
                }
                Err(FireError::NotMet { .. }) => drop(one.insert("status", "ConditionNotMet")),
                // The occurrences fired so far stay fired; repeating the request fires the rest.
                Err(error) => return Err(refusal(error)),
            }
        }
        shown.push(one.into());
    }
    let mut object = Object::new();
    object.insert("trigger", Arc::clone(&trigger.name));
    object.insert("occurrences", Value::from(shown));
    let response = json(StatusCode::OK, &object.into());
    Ok(if dry { access::dry(response) } else { response })
}

/// A time of the body, in nanoseconds since 1970.
fn time(body: &Object, name: &str) -> Result<i128, Problem> {
    let text = body.get(name).and_then(Value::as_str);
    let text =
        text.ok_or_else(|| Problem::bad(format!("`{name}` must be a time such as 2026-01-31T12:00:00Z.")))?;
    let parsed = jiff::Timestamp::from_str(text);
    let parsed = parsed.map_err(|_| {
        Problem::bad(format!("`{name}` must be a time such as 2026-01-31T12:00:00Z (got '{text}')."))
    })?;
    Ok(parsed.as_nanosecond())
}

/// The occurrences from `from` to before `to`.
fn occurrences(
    timetable: &Timetable,
    progress: Progress,
    from: i128,
    to: i128,
) -> Result<Vec<i128>, Problem> {
    // The occurrences of a cron expression do not depend on when the trigger was deployed.
    let anchor = if timetable.is_cron() { progress.anchor().min(from) } else { progress.anchor() };
    let mut found: Vec<i128> = Vec::new();
    let mut after = from - 1;
    while let Some(due) = timetable.next(moment(after), moment(anchor)).map(jiff::Timestamp::as_nanosecond) {
        if due >= to {
            break;
        }
        if found.len() == OCCURRENCES_MAX {
            let next = Timestamp::from_unix_nanos(due);
            let message = format!(
                "There are more than {OCCURRENCES_MAX} occurrences between these times. Backfill up to '{next}', and the rest \
                 in another request."
            );
            return Err(Problem::new(StatusCode::BAD_REQUEST, "BackfillTooLarge", message));
        }
        found.push(due);
        after = due;
    }
    Ok(found)
}

/// The times of occurrences that older versions fired without a name, as far as the trigger's history has them.
async fn fired_before(shared: &Shared, key: &str) -> Result<Vec<String>, Problem> {
    let entries = trigger_history::read(&*shared.host.store, key).await?;
    let fired = entries.iter().filter(|entry| entry.get("fired").and_then(Value::as_bool) == Some(true));
    Ok(fired.filter_map(|entry| Some(entry.get("scheduledTime")?.as_str()?.to_owned())).collect())
}

#[cfg(test)]
mod tests;
