//! The settings of the program around the server, which it publishes for its operators.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use loom_expression::{Object, Value};

use crate::{response::json, server::Shared};

/// The settings as the API shows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShownSettings(Arc<RwLock<Value>>);

impl ShownSettings {
    pub(crate) fn new(settings: Value) -> ShownSettings {
        ShownSettings(Arc::new(RwLock::new(settings)))
    }

    /// Replaces them: a list of objects with `name`, `value` and `origin`. Secrets must be redacted already.
    pub fn replace(&self, settings: Value) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn get(&self) -> Value {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `GET /api/v1/settings`.
pub(crate) async fn settings(State(shared): State<Shared>) -> Response<Body> {
    let mut object = Object::new();
    object.insert("settings", shared.shown_settings.get());
    json(StatusCode::OK, &object.into())
}
