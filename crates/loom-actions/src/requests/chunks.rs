//! Large bodies in chunks, in both directions.

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use loom_engine::http_status;

use super::{Behaviour, Requests, Spec};
use crate::{
    Failure,
    auth::Credentials,
    client::{Reply, Request},
    headers::{self, Marks},
};

impl Requests {
    /// Sends a body in chunks: an empty request that announces it, then, for each chunk, a PATCH to the URL that
    /// the service returned. The last response is the result.
    ///
    /// A service that does not support this protocol returns no URL for the chunks. It is sent the whole body in
    /// one request, unless its response asks for a retry.
    pub(super) async fn upload(
        &self,
        request: Request,
        spec: &Spec,
        credentials: &Credentials,
    ) -> Result<Reply, Failure> {
        let body = request.body.clone();
        // The idempotency key of the action belongs to the request with the body; a service that remembers keys must
        // not treat that request as a repetition of the announcement.
        let announced = headers::derived_key(&request.headers, "announced");
        let kind = request.headers.get(header::CONTENT_TYPE).cloned();
        let mut start = request.clone();
        start.body = Bytes::new();
        start.headers.remove(header::CONTENT_TYPE);
        start
            .headers
            .insert(HeaderName::from_static("x-ms-transfer-mode"), HeaderValue::from_static("chunked"));
        start.headers.insert(HeaderName::from_static("x-ms-content-length"), HeaderValue::from(body.len()));
        if let Some(key) = announced {
            start.headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        let mut reply = self.send(start, spec, credentials).await?;
        if http_status::is_transient(reply.status.as_u16()) || reply.status.is_redirection() {
            return Ok(reply);
        }
        let location = reply.header(header::LOCATION).filter(|_| reply.status.is_success());
        let Some(location) = location else {
            return self.send(request, spec, credentials).await;
        };
        let mut url = reply.url.join(location)?;
        if request.url.is_https() && !url.is_https() {
            return Err(Failure::lasting(
                "BadGateway",
                format!(
                    "'{}' expects the body at '{}', which does not use HTTPS.",
                    request.url.shown(),
                    url.shown()
                ),
            ));
        }
        let mut sent = 0;
        while sent < body.len() {
            let size =
                reply.headers.get("x-ms-chunk-size").and_then(|size| size.to_str().ok()?.trim().parse().ok());
            let size = size.unwrap_or(self.settings.chunk_bytes).clamp(1, self.settings.chunk_bytes.max(1));
            let end = (sent + size).min(body.len());
            let mut piece = request.clone();
            piece.method = Method::PATCH;
            piece.url = url.clone();
            piece.body = body.slice(sent..end);
            // Each chunk is a separate request, so the idempotency key must not make them look like repetitions.
            piece.headers.remove("idempotency-key");
            let range = format!("bytes={sent}-{}/{}", end - 1, body.len());
            let range = HeaderValue::from_str(&range).expect("digits and punctuation make a header");
            piece.headers.insert(header::CONTENT_RANGE, range);
            if let Some(kind) = &kind {
                piece.headers.insert(header::CONTENT_TYPE, kind.clone());
            }
            reply = self.send(piece, spec, credentials).await?;
            if !reply.status.is_success() {
                return Ok(reply);
            }
            // The service may report that it stored less than it was sent.
            let kept = reply.header(header::RANGE).and_then(last_byte).map_or(end, |last| last + 1);
            if kept <= sent || kept > end {
                let shown = request.url.shown();
                return Err(Failure::lasting(
                    "BadGateway",
                    format!("'{shown}' reported an unexpected range while the body was sent in chunks."),
                ));
            }
            sent = kept;
            if let Some(location) = reply.header(header::LOCATION) {
                url = reply.url.join(location)?;
            }
        }
        Ok(reply)
    }

    /// Fetches the rest of a partial response that was not requested as such, and returns it as a whole one.
    pub(super) async fn whole_download(
        &self,
        first: Reply,
        spec: &Spec,
        credentials: &Credentials,
        marks: &Marks,
        behaviour: &Behaviour,
    ) -> Result<Reply, Failure> {
        // An action that sets `Range` wants that part and no more.
        let partial = first.status == StatusCode::PARTIAL_CONTENT && spec.method == Method::GET;
        if !partial || (spec.headers.get("range").is_some() && !behaviour.chunked) {
            return Ok(first);
        }
        let Some(range) = content_range(&first.headers) else { return Ok(first) };
        let lost = || {
            let shown = spec.url.shown();
            Failure::transient(
                "BadGateway",
                format!("'{shown}' returned an unexpected range while its body was read in chunks."),
            )
        };
        let limit = self.settings.client.body_bytes_max;
        let Some(total) = range.total else { return Ok(first) };
        if total > limit as u64 {
            return Err(Failure::lasting(
                "ResponseTooLarge",
                format!("The response of '{}' exceeds the limit of {limit} bytes.", spec.url.shown()),
            ));
        }
        if range.first != 0 {
            return Err(lost());
        }
        let mut whole = BytesMut::from(&first.body[..]);
        let mut reply = first;
        while (whole.len() as u64) < total {
            let mut request = self.follow_up(reply.url.clone(), spec, marks, behaviour)?;
            let from = whole.len();
            let value = HeaderValue::from_str(&format!("bytes={from}-")).expect("digits make a header");
            request.headers.insert(header::RANGE, value);
            // A body that changes between two chunks must not be joined.
            if let Some(tag) =
                reply.headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
            {
                request.headers.insert(header::IF_MATCH, tag.clone());
            }
            let next = self.send(request, spec, credentials).await?;
            if next.status != StatusCode::PARTIAL_CONTENT {
                return if next.status.is_success() { Err(lost()) } else { Ok(next) };
            }
            let piece = content_range(&next.headers).ok_or_else(lost)?;
            if piece.first != from as u64 || piece.total != Some(total) || next.body.is_empty() {
                return Err(lost());
            }
            whole.extend_from_slice(&next.body);
            reply.url = next.url;
        }
        if whole.len() as u64 != total {
            return Err(lost());
        }
        reply.status = StatusCode::OK;
        reply.headers.remove(header::CONTENT_RANGE);
        reply.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(total));
        reply.body = whole.freeze();
        Ok(reply)
    }
}

/// `Content-Range: bytes 0-99/1234` (RFC 9110, section 14.4).
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.trim();
    let text = text.strip_prefix("bytes")?.trim_start_matches([' ', '=']);
    let (range, total) = text.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some(ContentRange { first: first.trim().parse().ok()?, total: total.trim().parse().ok() })
}

/// The last byte of `bytes=0-1023`.
fn last_byte(range: &str) -> Option<usize> {
    range.rsplit_once('-')?.1.trim().parse().ok()
}
