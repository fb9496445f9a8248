//! What the program around the server publishes through it: its settings.

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use loom_expression::Object;

use crate::{response::json, shared::Shared};

/// `GET /api/v1/settings`.
pub(crate) async fn settings(State(shared): State<Shared>) -> Response<Body> {
    let mut object = Object::new();
    object.insert("settings", shared.shown_settings.get());
    json(StatusCode::OK, &object.into())
}
