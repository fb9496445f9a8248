//! Whether the process works, whether it accepts requests, and what it is doing.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode, Uri},
};
use loom_engine::pool::Pool;
use loom_expression::{Object, Timestamp};
use loom_store::{Condition, Histogram, Upkeep};

use crate::{
    host::Host,
    nodes,
    process_usage::ProcessUsage,
    request,
    response::{Answer, json},
    shared::Shared,
};

/// `GET /healthz`: whether the process works.
pub(crate) async fn health(State(shared): State<Shared>) -> Response<Body> {
    let health = shared.host.store.health();
    let mut object = Object::new();
    let (condition, reason) = condition(&health.condition);
    let works = matches!(health.condition, Condition::Running);
    let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if let Some(reason) = reason {
        object.insert("reason", reason);
    }
    object.insert("status", if works { "ok" } else { "failing" });
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

/// The name of a condition, and its reason.
fn condition(condition: &Condition) -> (&'static str, Option<String>) {
    match condition {
        Condition::Running => ("running", None),
        Condition::Paused(why) => ("paused", Some(why.to_string())),
        Condition::Closed => ("closed", None),
    }
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

/// `GET /api/v1/status`: what the server is doing, for its operators.
pub(crate) async fn status(State(shared): State<Shared>, uri: Uri) -> Answer {
    request::only(&uri, &[])?;
    let host = &shared.host;
    let why = host.why_not_ready();
    let mut object = Object::new();
    object.insert("version", host.settings.version.as_str());
    object.insert("time", host.now().to_string());
    object.insert("ready", why.is_none());
    object.insert("reason", why);
    object.insert("store", store(&*host.store));
    object.insert("runs", runs(host));
    object.insert("workers", workers(&shared));
    object.insert("process", host.settings.process.map(|usage| process(&usage())));
    object.insert("cluster", nodes::api::summary(host));
    Ok(json(StatusCode::OK, &object.into()))
}

/// The store: whether it accepts commits, its queue, and how long commits take.
fn store(store: &dyn Upkeep) -> Object {
    let (health, metrics) = (store.health(), store.metrics());
    let (condition, reason) = condition(&health.condition);
    let mut object = Object::new();
    object.insert("condition", condition);
    object.insert("reason", reason);
    object.insert("durability", health.durability.to_string());
    object.insert("queuedBytes", health.queued_bytes as i64);
    object.insert("queueBytesMax", health.queue_bytes_max as i64);
    for (name, number) in [
        ("commits", metrics.commits),
        ("commitsRefused", metrics.refused),
        ("groups", metrics.groups),
        ("payloadBytes", metrics.bytes),
        ("pauses", metrics.pauses),
    ] {
        object.insert(name, number as i64);
    }
    object.insert("commitTimes", times(&metrics.wait_seconds));
    object.insert("groupTimes", times(&metrics.group_seconds));
    object.insert("syncTimes", times(&metrics.sync_seconds));
    object
}

/// A histogram in numbers. The quantiles are upper bounds; above the last bucket they are null.
fn times(histogram: &Histogram) -> Object {
    let count = histogram.count();
    let micros = |time: Duration| time.as_micros() as i64;
    let quantile = |quantile| histogram.quantile(quantile).map(micros);
    let average = u32::try_from(count).ok().and_then(|count| histogram.sum.checked_div(count));
    let mut object = Object::new();
    object.insert("count", count as i64);
    object.insert("averageMicros", average.map(micros));
    object.insert("p50Micros", quantile(0.5));
    object.insert("p99Micros", quantile(0.99));
    object
}

fn runs(host: &Host) -> Object {
    let engine = &host.engine;
    let mut object = Object::new();
    object.insert("inProgress", engine.runs_in_progress() as i64);
    object.insert("max", host.live().runs_max as i64);
    object.insert("parked", engine.runs_parked() as i64);
    object.insert("held", engine.held().len() as i64);
    object.insert("waiting", engine.runs_waiting() as i64);
    object
}

/// The threads that do the work, and what waits for them.
fn workers(shared: &Shared) -> Object {
    let runtime = tokio::runtime::Handle::current().metrics();
    let engine = &shared.host.engine;
    let pool = |pool: &Pool| {
        let mut object = Object::new();
        object.insert("threads", pool.threads() as i64);
        object.insert("busy", pool.busy() as i64);
        object
    };
    let mut object = Object::new();
    object.insert("threads", runtime.num_workers() as i64);
    object.insert("tasks", runtime.num_alive_tasks() as i64);
    object.insert("queued", runtime.global_queue_depth() as i64);
    object.insert("evaluations", pool(engine.evaluations()));
    object.insert("reads", pool(engine.reads()));
    let watchers = shared.settings.watchers_max;
    object.insert("watchers", watchers.saturating_sub(shared.watchers.available_permits()) as i64);
    object.insert("watchersMax", watchers as i64);
    object
}

fn process(usage: &ProcessUsage) -> Object {
    let whole = |value: Option<u64>| value.map(|value| value as i64);
    let started = usage.start_time_seconds.map(|seconds| Timestamp::from_unix_millis((seconds * 1e3) as i64));
    let mut object = Object::new();
    object.insert("startTime", started.map(|at| at.to_string()));
    object.insert("cpuMs", usage.cpu_seconds.map(|seconds| (seconds * 1e3) as i64));
    object.insert("residentBytes", whole(usage.resident_bytes));
    object.insert("virtualBytes", whole(usage.virtual_bytes));
    object.insert("openFiles", whole(usage.open_files));
    object.insert("openFilesMax", whole(usage.open_files_max));
    object
}
