//! The OpenAPI document, which is stored beside this file as `openapi.json`.

use axum::{body::Body, http::Response};

use crate::response::JSON;

/// The OpenAPI document of the API, as the server returns it.
pub const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/v1/openapi.json`.
pub(crate) async fn document() -> Response<Body> {
    let mut response = Response::new(Body::from(OPENAPI));
    let kind = axum::http::HeaderValue::from_static(JSON);
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
