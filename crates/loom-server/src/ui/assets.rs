//! The stylesheet, the script and the icon of the pages.

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};

use crate::path::Path;

static STYLESHEET: LazyLock<String> = LazyLock::new(loom_ui::stylesheet);

/// A mark of the contents, which is part of the addresses of assets.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for content in [STYLESHEET.as_str(), loom_ui::SCRIPT, loom_ui::ICON] {
        hasher.update(content.as_bytes());
    }
    hasher.finalize().to_hex()[..12].to_owned()
});

pub(super) fn mark() -> &'static str {
    MARK.as_str()
}

/// `GET /ui/assets/{name}`. A browser keeps an asset, because another content has another address.
pub(super) async fn asset(Path(name): Path<String>) -> Response<Body> {
    let (kind, content) = match name.as_str() {
        "loom.css" => ("text/css; charset=utf-8", STYLESHEET.as_str()),
        "loom.js" => ("text/javascript; charset=utf-8", loom_ui::SCRIPT),
        "loom.svg" => ("image/svg+xml", loom_ui::ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}
