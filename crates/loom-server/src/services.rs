//! The services that actions call: the state of their circuit breakers and rate limiters, and changes by an operator.

use axum::{
    Extension,
    extract::{Request, State},
    http::{StatusCode, Uri},
};
use loom_definition::{Diagnostics, policy::EffectiveSetting};
use loom_expression::{Object, Timestamp, Value};
use loom_resilience::{LimiterStatus, ServiceStatus};

use crate::{
    access::Grant,
    circuit_names::state_name,
    listing::list,
    path::Path,
    policies::NotStored,
    request::{self, read_body},
    response::{Answer, Problem, json},
    service_history::{Change, by_hand},
    shared::Shared,
};

/// `GET /api/v1/resilience`.
pub(crate) async fn services(State(shared): State<Shared>) -> Answer {
    let services = shared.host.engine.registry().list();
    Ok(list("services", services.iter().map(|status| service(&shared, status)).collect(), None))
}

/// `GET /api/v1/resilience/{service}`: its policy, with the origin of each value, and its state.
pub(crate) async fn policy(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    Ok(json(StatusCode::OK, &shown(&shared, &name)?))
}

/// `GET /api/v1/resilience/{service}/history`: what its calls did in each minute of the last hour, and how its circuit changed.
pub(crate) async fn history(State(shared): State<Shared>, Path(name): Path<String>, uri: Uri) -> Answer {
    request::only(&uri, &[])?;
    // A service without calls has a history, too, if there is one.
    shown(&shared, &name)?;
    let object = shared.host.histories.document(&name);
    Ok(json(StatusCode::OK, &object.into()))
}

/// `PUT /api/v1/resilience/{service}`: stores a policy in place of that of `resilience.json`.
pub(crate) async fn put_policy(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let received = read_body(request.into_body(), &shared).await?;
    let members = Value::parse_json(received.bytes())
        .map_err(|error| Problem::bad(format!("The body is not valid JSON: {error}.")))?;
    if members.as_object().is_none() {
        let message =
            format!("The body must be an object with the members of a policy, found {}.", members.kind());
        return Err(Problem::bad(message));
    }
    shared.host.store_policy(&name, Some(&members)).await.map_err(|error| not_stored(&name, error))?;
    Ok(json(StatusCode::OK, &shown(&shared, &name)?))
}

/// `DELETE /api/v1/resilience/{service}`: removes the stored policy, so that that of `resilience.json` applies again.
pub(crate) async fn delete_policy(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    shared.host.store_policy(&name, None).await.map_err(|error| not_stored(&name, error))?;
    let shown = shown(&shared, &name).unwrap_or_else(|_| {
        // Nothing else defines a policy of this name, and no call has used it.
        let mut object: Object = [("name", name.as_str()), ("policy", "")].into_iter().collect();
        object.insert("settings", Vec::<Value>::new());
        object.insert("stored", false);
        object.insert("status", Value::NULL);
        Value::from(object)
    });
    Ok(json(StatusCode::OK, &shown))
}

fn not_stored(service: &str, error: NotStored) -> Problem {
    match error {
        NotStored::Invalid(diagnostics) => refused(&diagnostics),
        NotStored::InUse(error) => {
            let message = format!("The policy was not changed: {error}.");
            Problem::new(StatusCode::CONFLICT, "PolicyInUse", message)
        }
        NotStored::Unknown => {
            let message = format!(
                "No policy of '{service}' is stored. One is stored by PUT or `loom resilience set`; change one of resilience.json \
                 in the file."
            );
            Problem::not_found("PolicyNotStored", message)
        }
        NotStored::Store(error) => error.into(),
    }
}

fn shown(shared: &Shared, name: &str) -> Result<Value, Problem> {
    let engine = &shared.host.engine;
    let effective = engine.policies().service(name);
    let statuses = engine.registry().list();
    let status = statuses.iter().find(|status| status.name == name);
    let mut object = Object::new();
    object.insert("name", name);
    match (&effective, status) {
        (Err(unknown), None) => {
            let hint = unknown.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            let message = format!("There is {unknown}, and no service with this name has been called{hint}.");
            return Err(Problem::not_found("ServiceNotFound", message));
        }
        (Ok(effective), _) => {
            object.insert("settings", effective.settings.iter().map(setting).collect::<Vec<Value>>());
        }
        // Guarded by what definitions say.
        (Err(_), _) => {
            object.insert("settings", Vec::<Value>::new());
        }
    }
    object.insert("stored", shared.host.layers.is_stored(name));
    object.insert("policy", engine.registry().describe(name));
    object.insert("status", status.map(|status| service(shared, status)).unwrap_or_default());
    Ok(Value::from(object))
}

fn setting(setting: &EffectiveSetting) -> Value {
    let mut object = Object::new();
    object.insert("pointer", setting.pointer.as_str());
    object.insert("value", setting.value.clone().unwrap_or_default());
    object.insert("removed", setting.value.is_none());
    object.insert("origin", setting.origin.as_str());
    object.insert("line", setting.line.map(|line| line as i64));
    object.insert(
        "insteadOf",
        setting.overridden.iter().map(|origin| Value::from(origin.as_str())).collect::<Vec<_>>(),
    );
    Value::from(object)
}

fn refused(diagnostics: &Diagnostics) -> Problem {
    let message = match diagnostics.0.first() {
        Some(first) => {
            format!("The policy is invalid, and nothing has changed: {} ({}).", first.message, first.pointer)
        }
        None => "The policy is invalid, and nothing has changed.".to_owned(),
    };
    let mut problem = Problem::new(StatusCode::BAD_REQUEST, "InvalidPolicy", message);
    let details = diagnostics.0.iter().map(|diagnostic| {
        let mut object = Object::new();
        object.insert("code", diagnostic.code);
        object.insert("message", diagnostic.message.as_str());
        object.insert("pointer", diagnostic.pointer.as_str());
        object.insert("hint", diagnostic.hint.as_deref().map(Value::from).unwrap_or_default());
        Value::from(object)
    });
    problem.details = Some(Value::from(details.collect::<Vec<_>>()));
    problem
}

/// `POST /api/v1/resilience/{service}/reset|isolate|open|close`.
pub(crate) async fn change(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path((service, change)): Path<(String, String)>,
) -> Answer {
    let registry = shared.host.engine.registry();
    let state = || {
        let all = registry.list();
        all.iter().find(|status| status.name == service).map(|status| state_name(&status.breaker))
    };
    let before = state();
    let changed = by_hand(|| match change.as_str() {
        "reset" => Some((registry.reset(&service), "reset")),
        "isolate" | "open" => Some((registry.isolate(&service), "isolated")),
        "close" => Some((registry.close(&service), "closed")),
        _ => None,
    });
    let Some((changed, cause)) = changed else {
        let message =
            format!("Unknown change '{change}'; expected one of 'reset', 'isolate', 'open', 'close'.");
        return Err(Problem::not_found("NotFound", message));
    };
    changed.map_err(|error| Problem::not_found("ServiceNotFound", format!("There is {error}.")))?;
    if let (Some(from), Some(to)) = (before, state())
        && from != to
    {
        let (at, by) = (shared.host.now(), Some(grant.by));
        let change = Change { at, from, to, cause: Some(cause.to_owned()), open_for: None, by };
        shared.host.histories.changed(&service, change);
    }
    shared.host.save_resilience().await?;
    if let Some(cluster) = &shared.host.cluster {
        cluster.services.circuits.publish_order(&service).await?;
    }
    services(State(shared)).await
}

fn service(shared: &Shared, status: &ServiceStatus) -> Value {
    let mut object = Object::new();
    object.insert("name", status.name.as_str());
    object.insert("circuit", circuit(shared, status));
    object.insert("limiter", limiter(&status.limiter));
    object.insert("inFlight", i64::from(status.in_flight));
    object.insert("waitingForPlace", i64::from(status.bulkhead_waiting));
    object.insert("retriesLeft", status.retries_left.map(i64::from));
    let observed = shared.host.hub.tally.observed_of(&status.name);
    let observed = observed.into_iter().map(|(part, count)| (part, Value::from(count as i64)));
    object.insert("observed", observed.collect::<Object>());
    object.insert("lastHour", shared.host.histories.last_hour(&status.name));
    object.into()
}

fn circuit(shared: &Shared, service: &ServiceStatus) -> Object {
    let status = &service.breaker;
    let now = shared.host.now();
    let since = match status.opened_since {
        Some(opened) if !status.isolated => {
            let ago = shared.host.engine.registry().clock().now().since(opened);
            Some(moved(now, -(ago.as_nanos() as i128)))
        }
        _ => shared.host.histories.since(&service.name),
    };
    let next_probe =
        status.retry_after.filter(|_| !status.isolated).map(|after| moved(now, after.as_nanos() as i128));
    let mut object = Object::new();
    object.insert("state", state_name(status));
    object.insert("since", since.map(|at| at.to_string()));
    object.insert("nextProbe", next_probe.map(|at| at.to_string()));
    object.insert("mode", format!("{:?}", status.mode));
    object.insert("isolated", status.isolated);
    object.insert("consecutiveFailures", i64::from(status.consecutive_failures));
    object.insert("windowCalls", i64::from(status.window_calls));
    object.insert("windowFailures", i64::from(status.window_failures));
    object.insert("windowSlow", i64::from(status.window_slow));
    object.insert("cause", status.cause.map(|cause| cause.to_string()));
    object.insert("retryAfterMs", status.retry_after.map(|after| after.as_millis() as i64));
    object.insert("probesOut", i64::from(status.probes_out));
    object
}

/// A time so many nanoseconds later.
fn moved(at: Timestamp, by: i128) -> Timestamp {
    Timestamp::from_unix_nanos(at.unix_nanos() + by)
}

fn limiter(status: &LimiterStatus) -> Object {
    let mut object = Object::new();
    object.insert("mode", format!("{:?}", status.mode));
    object.insert("available", status.available.map(i64::from));
    object.insert("waiting", i64::from(status.waiting));
    object.insert("frozenForMs", status.frozen_for.as_millis() as i64);
    object.insert("learned", status.learned.map(i64::from));
    object
}
