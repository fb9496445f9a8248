//! The events of a run: as a list, or as a live stream of server-sent events.
//!
//! A stream reads the journal from its reader's position; the hub only signals that there is more. So events are dense, in order
//! and durable, a slow reader blocks nothing, and a reader that reconnects with `Last-Event-ID` continues exactly where it was.
//! A stream ends after the run's last event; a reader that reconnects then gets `204`.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use futures_util::stream;
use loom_engine::RunId;
use loom_expression::{Object, Value};
use loom_store::RunRow;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::{
    event_json::EventWriter,
    journal_reader::JournalReader,
    lookup::{removed_run, run_id},
    path::Path,
    request,
    response::{Problem, json},
    shared::Shared,
};

/// The time without events after which a comment is sent, so that proxies do not close the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The number of bytes that are collected before they are passed to the connection.
const CHUNK_BYTES: usize = 64 << 10;

/// The default and the maximum number of events of a page.
const PAGE: usize = 1_000;

/// `GET /api/v1/runs/{id}/events?after=&limit=`, as JSON or, with `Accept: text/event-stream`, as a stream.
pub(crate) async fn events(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    answer(shared, &id, &uri, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(shared: Shared, id: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response<Body>, Problem> {
    request::only(uri, &["after", "limit"])?;
    let run = run_id(id)?;
    let row = shared.host.store.run(run).await?;
    let row =
        row.ok_or_else(|| Problem::not_found("RunNotFound", format!("The run '{id}' does not exist.")))?;
    if row.purged {
        return Err(removed_run(id));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // The header of a reader that reconnects overrides the URL it started with.
    let after = header("last-event-id").map(str::to_owned).or_else(|| request::query(uri, "after"));
    let after = match after {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Problem::bad("'after' and 'Last-Event-ID' must be the number of an event."))?,
    };
    let streams = header("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    if !streams {
        let limit = match request::query(uri, "limit") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE).contains(limit))
                .ok_or_else(|| Problem::bad(format!("'limit' must be between 1 and {PAGE}.")))?,
        };
        return page(&shared, &row, after, limit).await;
    }
    let place = Arc::clone(&shared.watchers).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyWatchers",
            "The limit of open event streams is reached.",
        )
        .later(5)
    })?;
    stream_of(shared, &row, after, place).await
}

async fn page(shared: &Shared, row: &RunRow, after: u64, limit: usize) -> Result<Response<Body>, Problem> {
    let mut feed = Feed::new(shared, row, after).await?;
    let mut events = Vec::new();
    let mut more = false;
    while let Some((_, event)) = feed.next(shared).await? {
        if events.len() == limit {
            more = true;
            break;
        }
        events.push(event);
    }
    let last = events.last().and_then(|event| event.get("seq")).and_then(Value::as_i64);
    let mut object = Object::new();
    object.insert("events", events);
    if more && let Some(last) = last {
        object.insert("next", last.to_string());
    }
    Ok(json(StatusCode::OK, &object.into()))
}

async fn stream_of(
    shared: Shared,
    row: &RunRow,
    after: u64,
    place: OwnedSemaphorePermit,
) -> Result<Response<Body>, Problem> {
    // Subscribed before the first read, so that no event is missed between the two.
    let news = shared.host.hub.watch(row.id);
    let mut feed = Feed::new(&shared, row, after).await?;
    let first = feed.next(&shared).await?;
    if first.is_none() && feed.ended {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let state = Streaming { shared, feed, news, pending: first, greeted: false, _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(state, Streaming::step)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Disables buffering in proxies.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The events of a run after a position, as JSON.
struct Feed {
    run: RunId,
    reader: JournalReader,
    writer: EventWriter,
    after: u64,
    ended: bool,
}

impl Feed {
    async fn new(shared: &Shared, row: &RunRow, after: u64) -> Result<Feed, Problem> {
        let workflow = shared.host.engine.workflow_of(row).await?;
        let (reader, trail) = JournalReader::after(row.id, &*shared.host.store, &workflow, after).await?;
        // The trigger says what is redacted. The first event names it, too.
        let start = if trail.seq() == 0 { None } else { shared.host.engine.start_of(row.id).await? };
        let trigger = start.as_ref().and_then(|start| start.trigger.get("name").and_then(Value::as_str));
        Ok(Feed {
            run: row.id,
            reader,
            writer: EventWriter::new(row.id, workflow, trail, trigger),
            after,
            // The end is in the journal then, or was removed with it.
            ended: row.ended.is_some(),
        })
    }

    /// The next durable event.
    async fn next(&mut self, shared: &Shared) -> Result<Option<(u64, Value)>, Problem> {
        while let Some(event) = self.reader.next(&*shared.host.store).await? {
            self.ended |= self.reader.has_ended();
            let (seq, shown) = self.writer.write(&event).map_err(|illegal| {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "RunUnreadable", illegal.to_string())
            })?;
            // A position that nothing has reached yet.
            if seq > self.after {
                return Ok(Some((seq, shared.host.engine.masker().mask_value(&shown))));
            }
        }
        Ok(None)
    }
}

struct Streaming {
    shared: Shared,
    feed: Feed,
    news: watch::Receiver<u64>,
    pending: Option<(u64, Value)>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Streaming)> {
        if !std::mem::replace(&mut self.greeted, true) {
            // Confirms the connection and sets the reconnection delay.
            return Some((Ok(Bytes::from_static(b"retry: 1000\n\n")), self));
        }
        loop {
            self.news.borrow_and_update();
            let mut chunk = String::new();
            if let Some((seq, event)) = self.pending.take() {
                push(&mut chunk, seq, &event);
            }
            while chunk.len() < CHUNK_BYTES {
                match self.feed.next(&self.shared).await {
                    Ok(Some((seq, event))) => push(&mut chunk, seq, &event),
                    Ok(None) => break,
                    Err(problem) => {
                        // The reader reconnects with the number of its last event.
                        tracing::warn!(run_id = %self.feed.run, message = problem.message, "an event stream was interrupted");
                        return (!chunk.is_empty()).then(|| (Ok(Bytes::from(chunk)), self));
                    }
                }
            }
            if !chunk.is_empty() {
                return Some((Ok(Bytes::from(chunk)), self));
            }
            if self.feed.ended {
                return None;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = tokio::time::sleep(HEARTBEAT) => {
                    return Some((Ok(Bytes::from_static(b": still here\n\n")), self));
                }
                () = self.shared.host.stopping.cancelled() => return None,
            }
        }
    }
}

fn push(chunk: &mut String, seq: u64, event: &Value) {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    // Compact JSON has no line breaks, so one `data` line is enough.
    let data = event.to_json_text();
    write!(chunk, "id: {seq}\nevent: {kind}\ndata: {data}\n\n").expect("writing to a String cannot fail");
}
