//! The events of a run: as a list, or as a live stream of server-sent events.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri},
    response::IntoResponse,
};
use loom_expression::{Object, Value};
use loom_store::RunRow;

use crate::{
    lookup::{removed_run, run_id},
    path::Path,
    request,
    response::{Problem, json},
    shared::Shared,
    stream::{self, Feed, Format, Shown},
};

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
    request::only(uri, &["after", "limit", "format"])?;
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
        let reading = shared.clone();
        return reading.read(page(shared, row, after, limit)).await;
    }
    let format = match request::query(uri, "format") {
        None => Format::Native,
        Some(name) => Format::parse(&name)?,
    };
    stream::open(shared, &row, Shown { after, format, to_caller: false }).await
}

async fn page(shared: Shared, row: RunRow, after: u64, limit: usize) -> Result<Response<Body>, Problem> {
    let mut feed = Feed::new(&shared, &row, after).await?;
    let mut events = Vec::new();
    let mut more = false;
    while let Some((_, event)) = feed.next(&shared).await? {
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
