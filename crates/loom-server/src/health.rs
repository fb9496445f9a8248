//! Whether the process works, and whether it accepts requests.

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use loom_expression::Object;
use loom_store::Condition;

use crate::{nodes, response::json, shared::Shared};

/// `GET /healthz`: whether the process works.
pub(crate) async fn health(State(shared): State<Shared>) -> Response<Body> {
    let health = shared.host.store.health();
    let mut object = Object::new();
    let (status, condition) = match &health.condition {
        Condition::Running => (StatusCode::OK, "running"),
        Condition::Paused(_) => (StatusCode::SERVICE_UNAVAILABLE, "paused"),
        Condition::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
    };
    if let Condition::Paused(why) = &health.condition {
        object.insert("reason", why.to_string());
    }
    object.insert("status", if status == StatusCode::OK { "ok" } else { "failing" });
    object.insert("store", condition);
    object.insert("durability", health.durability.to_string());
    object.insert("runsInProgress", shared.host.engine.runs_in_progress() as i64);
    object.insert("runsParked", shared.host.engine.runs_parked() as i64);
    object.insert("runsHeld", shared.host.engine.held().len() as i64);
    if let Some(cluster) = nodes::api::summary(&shared.host) {
        object.insert("cluster", cluster);
    }
    json(status, &object.into())
}

/// `GET /readyz`: whether the server accepts requests.
pub(crate) async fn ready(State(shared): State<Shared>) -> Response<Body> {
    let why = shared.host.why_not_ready();
    let status = if why.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut object = Object::new();
    object.insert("ready", why.is_none());
    if let Some(why) = why {
        object.insert("reason", why);
    }
    if let Some(cluster) = nodes::api::summary(&shared.host) {
        object.insert("cluster", cluster);
    }
    json(status, &object.into())
}
