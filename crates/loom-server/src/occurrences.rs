//! The next occurrences of triggers with a recurrence.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use loom_definition::trigger::TriggerKind;
use loom_engine::TriggerView;
use loom_expression::{Object, Timestamp, Value};

use crate::{
    keys::trigger_key,
    lookup::{deployed, find_trigger},
    path::Path,
    recurrence::Timetable,
    request,
    response::{Answer, Problem, json},
    shared::Shared,
    timetable::{Progress, last_state},
};

/// The default and the maximum number of occurrences.
const LIMIT: usize = 5;
const LIMIT_MAX: usize = 100;

/// `GET /api/v1/workflows/{name}/triggers/{trigger}/occurrences?limit=`: when the trigger fires next, if it stays as it is.
pub(crate) async fn occurrences(
    State(shared): State<Shared>,
    Path((name, trigger)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    request::only(&uri, &["limit"])?;
    let most = match request::query(&uri, "limit") {
        None => LIMIT,
        Some(text) => text.parse().ok().filter(|most| (1..=LIMIT_MAX).contains(most)).ok_or_else(|| {
            Problem::bad(format!("'limit' must be between 1 and {LIMIT_MAX} (got '{text}')."))
        })?,
    };
    let deployment = deployed(&shared, &name)?;
    let trigger = find_trigger(&deployment, &trigger)?;
    let host = &shared.host;
    let delay = match &trigger.kind {
        TriggerKind::Recurrence => 0,
        TriggerKind::SlidingWindow { delay } => {
            delay.map_or(0, |delay| delay.approximate().as_nanos() as i128)
        }
        _ => return Err(not_recurrent(&trigger.name)),
    };
    let view = TriggerView {
        workflow: &deployment.workflow,
        trigger,
        parameters: &deployment.parameters,
        previous: None,
        callback: None,
    };
    let recurrence = host.engine.trigger_recurrence(view).await.ok().flatten();
    let timetable = recurrence.and_then(|recurrence| Timetable::new(&recurrence).ok());
    let timetable = timetable.ok_or_else(|| not_recurrent(&trigger.name))?;
    let now = host.now().unix_nanos();
    let key = trigger_key(&deployment.workflow.name, &trigger.name);
    let progress = last_state(&*host.store, &key).await?.unwrap_or_else(|| Progress::begun(&timetable, now));
    let is_enabled = host.disabled_by(&deployment, Some(&trigger.name)).is_none();
    let next = if is_enabled { progress.upcoming(&timetable, now - delay, most) } else { Vec::new() };
    let times = next.into_iter().map(|at| Value::from(Timestamp::from_unix_nanos(at + delay).to_string()));
    let mut object = Object::new();
    object.insert("occurrences", times.collect::<Vec<_>>());
    Ok(json(StatusCode::OK, &object.into()))
}

fn not_recurrent(trigger: &str) -> Problem {
    let message = format!(
        "The trigger '{trigger}' is not a Recurrence or a SlidingWindow whose recurrence can be evaluated; only those have occurrences."
    );
    Problem::new(StatusCode::BAD_REQUEST, "TriggerNotRecurrent", message)
}
