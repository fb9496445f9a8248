//! The parts of an address, with errors in the shape that all errors have.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::response::Problem;

/// The decoded parts of a route's path, in order.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(found)) => Ok(Path(found)),
            // The routes are ours, so only their callers can be wrong: with bytes that are no UTF-8.
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "BadRequest", error.body_text())),
        }
    }
}
