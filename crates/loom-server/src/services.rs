//! The services that actions call: the state of their circuit breakers and rate limiters, and changes by an operator.

use axum::extract::State;
use loom_expression::{Object, Value};
use loom_resilience::{BreakerStatus, LimiterStatus, ServiceStatus};

use crate::{
    api::{Answer, list},
    path::Path,
    response::Problem,
    server::Shared,
};

/// `GET /api/v1/resilience`.
pub(crate) async fn services(State(shared): State<Shared>) -> Answer {
    let services = shared.host.engine.registry().list();
    Ok(list("services", services.iter().map(service).collect(), None))
}

/// `POST /api/v1/resilience/{service}/reset|isolate|open|close`.
pub(crate) async fn change(
    State(shared): State<Shared>,
    Path((service, change)): Path<(String, String)>,
) -> Answer {
    let registry = shared.host.engine.registry();
    let changed = match change.as_str() {
        "reset" => registry.reset(&service),
        "isolate" | "open" => registry.isolate(&service),
        "close" => registry.close(&service),
        other => {
            let message =
                format!("Unknown change '{other}'; expected one of 'reset', 'isolate', 'open', 'close'.");
            return Err(Problem::not_found("NotFound", message));
        }
    };
    changed.map_err(|error| Problem::not_found("ServiceNotFound", format!("There is {error}.")))?;
    shared.host.save_resilience().await?;
    services(State(shared)).await
}

fn service(status: &ServiceStatus) -> Value {
    let mut object = Object::new();
    object.insert("name", status.name.as_str());
    object.insert("circuit", circuit(&status.breaker));
    object.insert("limiter", limiter(&status.limiter));
    object.insert("inFlight", i64::from(status.in_flight));
    object.insert("waitingForPlace", i64::from(status.bulkhead_waiting));
    object.insert("retriesLeft", status.retries_left.map(i64::from));
    object.into()
}

fn circuit(status: &BreakerStatus) -> Object {
    let mut object = Object::new();
    object.insert("state", format!("{:?}", status.state));
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

fn limiter(status: &LimiterStatus) -> Object {
    let mut object = Object::new();
    object.insert("mode", format!("{:?}", status.mode));
    object.insert("available", status.available.map(i64::from));
    object.insert("waiting", i64::from(status.waiting));
    object.insert("frozenForMs", status.frozen_for.as_millis() as i64);
    object
}
