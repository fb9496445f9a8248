//! The names and versions of secrets, which the program around the server lists. Values are never part of it.

use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use loom_expression::{Object, Value};

use crate::{
    response::{Problem, json},
    server::Shared,
};

type List = dyn Fn() -> Result<Vec<Value>, String> + Send + Sync;

/// Lists the secrets that workflows can read, each as the properties of its newest version, with all `versions`.
#[derive(Clone)]
pub struct SecretList(Arc<List>);

impl SecretList {
    /// A list that is read anew for each request, on a thread that may block. An error says why it cannot be read.
    pub fn new(list: impl Fn() -> Result<Vec<Value>, String> + Send + Sync + 'static) -> SecretList {
        SecretList(Arc::new(list))
    }
}

impl Default for SecretList {
    /// No secrets.
    fn default() -> SecretList {
        SecretList::new(|| Ok(Vec::new()))
    }
}

impl fmt::Debug for SecretList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretList(..)")
    }
}

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
