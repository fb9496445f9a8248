//! The definition that a run executes, which may not be the one that is deployed.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use loom_definition::Workflow;
use loom_engine::history::History;
use loom_expression::{Object, Value};

use crate::{
    lookup,
    path::Path,
    response::{Answer, json},
    shared::Shared,
};

/// `GET /api/v1/runs/{id}/definition`.
pub(crate) async fn definition(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let reading = shared.clone();
    reading.read(show(shared, id)).await
}

async fn show(shared: Shared, id: String) -> Answer {
    let history = lookup::history(&shared, &id, |workflow| History::within(workflow, |_| 0..0)).await?;
    Ok(json(StatusCode::OK, &shown(&id, history.workflow())))
}

/// The values of parameters are not part of it.
fn shown(run: &str, workflow: &Workflow) -> Value {
    let source = Value::from_json_str(&workflow.source).unwrap_or_default();
    let part = |name: &str| source.get(name).cloned().unwrap_or_default();
    let mut object = Object::new();
    object.insert("id", run);
    object.insert("workflow", Arc::clone(&workflow.name));
    object.insert("kind", part("kind"));
    object.insert("definition", part("definition"));
    object.into()
}
