//! What the program around the server publishes through it: names of secrets, and its settings.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use loom_expression::Object;

use crate::{
    response::{Problem, json},
    shared::Shared,
};

/// `GET /api/v1/secrets`.
pub(crate) async fn secrets(State(shared): State<Shared>) -> Result<Response<Body>, Problem> {
    let list = Arc::clone(&shared.settings.secrets.0);
    let unreadable = |why: String| {
        tracing::error!(error = why, "cannot list secrets");
        let message = "The secrets could not be listed; the server's log has the reason.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "SecretsUnreadable", message)
    };
    let listed =
        tokio::task::spawn_blocking(move || list()).await.map_err(|error| unreadable(error.to_string()))?;
    let mut object = Object::new();
    object.insert("secrets", listed.map_err(unreadable)?);
    Ok(json(StatusCode::OK, &object.into()))
}

/// `GET /api/v1/settings`.
pub(crate) async fn settings(State(shared): State<Shared>) -> Response<Body> {
    let mut object = Object::new();
    object.insert("settings", shared.shown_settings.get());
    json(StatusCode::OK, &object.into())
}
