//! Changes of shared memory as a stream of server-sent events.
//!
//! The id of an event is a position, so a reader that reconnects with `Last-Event-ID` misses nothing. A slow reader blocks
//! nothing: what it has not read yet is read from the store when it is its turn, and several changes of a key become one.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header},
};
use futures_util::stream;
use loom_expression::{Object, Value};
use loom_memory::{Namespace, Notice, Outcome, Position, SharedMemory, Watch, WatchFrom, WatchQuery};
use tokio::sync::OwnedSemaphorePermit;

use super::{problem, shown};
use crate::{request, response::Problem, shared::Shared};

/// The time without events after which a comment is sent, so that proxies do not close the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Whether the caller asks for a stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// `GET /api/v1/memory/{namespace}?prefix=&after=&keys=` with `Accept: text/event-stream`.
pub(super) async fn stream(
    shared: Shared,
    namespace: Namespace,
    keys: bool,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    // The header of a reader that reconnects overrides the URL it started with.
    let after = resumed.or_else(|| request::query(uri, "after"));
    let from = match after {
        Some(position) => WatchFrom::After(Position(position.into())),
        None if keys => WatchFrom::Keys,
        None => WatchFrom::Now,
    };
    let prefix = request::query(uri, "prefix").unwrap_or_default();
    let place = Arc::clone(&shared.watchers).try_acquire_owned().map_err(|_| {
        let message = "The limit of open event streams is reached.";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManyWatchers", message).later(5)
    })?;
    let query = WatchQuery { namespace: namespace.clone(), prefix, from };
    let watch = shared.host.memory.watch(query).await.map_err(problem)?;
    let state = Streaming { shared, namespace, watch, greeted: false, _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(state, Streaming::step)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Disables buffering in proxies.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Streaming {
    shared: Shared,
    namespace: Namespace,
    watch: Box<dyn Watch>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Streaming)> {
        if !std::mem::replace(&mut self.greeted, true) {
            // Confirms the connection and sets the reconnection delay.
            return Some((Ok(Bytes::from_static(b"retry: 1000\n\n")), self));
        }
        let noticed = tokio::select! {
            noticed = self.watch.next() => noticed,
            () = tokio::time::sleep(HEARTBEAT) => {
                return Some((Ok(Bytes::from_static(b": still here\n\n")), self));
            }
            () = self.shared.host.stopping.cancelled() => return None,
        };
        match noticed {
            Ok((position, notice)) => {
                let event = self.event(&position, notice);
                Some((Ok(Bytes::from(event)), self))
            }
            Err(error) => {
                // The reader reconnects with the id of its last event.
                tracing::warn!(%error, "a stream of changes of shared memory was interrupted");
                None
            }
        }
    }

    fn event(&self, position: &Position, notice: Notice) -> String {
        let (kind, data) = match notice {
            Notice::Reset => {
                let mut data = Object::new();
                data.insert("namespace", self.namespace.to_string());
                ("memory.reset", data)
            }
            Notice::Written { key, kind, revision, value, expires } => {
                let outcome = Outcome { value, revision: Some(revision), kind: Some(kind), expires };
                ("memory.written", shown(&self.namespace, &key, &outcome))
            }
            Notice::Deleted { key } => {
                let outcome = Outcome { value: Value::NULL, revision: None, kind: None, expires: None };
                ("memory.deleted", shown(&self.namespace, &key, &outcome))
            }
        };
        let mut event = Object::single("event".into(), Value::from(kind));
        event.extend(data.iter().map(|(name, value)| (Arc::clone(name), value.clone())));
        // Compact JSON has no line breaks, so one `data` line is enough.
        let data = self.shared.host.engine.masker().mask_value(&Value::from(event)).to_json_text();
        let mut text = String::with_capacity(data.len() + 64);
        write!(text, "id: {position}\nevent: {kind}\ndata: {data}\n\n")
            .expect("writing to a String cannot fail");
        text
    }
}
