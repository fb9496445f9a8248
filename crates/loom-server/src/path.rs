//! The paths of requests: an extractor for path parameters whose errors have the format of all API errors, and the rest of a
//! trigger's path.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::response::Problem;

/// The decoded path parameters of a route, in order.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(found)) => Ok(Path(found)),
            // Routes are static, so this is always an error of the caller: bytes that are not UTF-8.
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "BadRequest", error.body_text())),
        }
    }
}

/// The part of the path after `/invoke`, still escaped.
pub(crate) fn rest_of_path(path: &str) -> &str {
    // Names can contain escaped slashes but not plain ones, so segments can be counted.
    let mut segments = path.splitn(7, '/');
    segments.by_ref().take(5).for_each(drop);
    // `/workflows/{name}/triggers/{trigger}/invoke/…`
    segments.nth(1).unwrap_or_default()
}
