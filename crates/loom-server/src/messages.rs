//! What was said in a run: the messages of language models, and of those who talk with them, folded from the run's events.
//!
//! An event says what a turn of an agent has said and which tools it asked for; what a tool returned is what the last action of
//! its block returned. A call in progress has the text that has arrived so far.

mod fold;

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use loom_expression::Object;

use crate::{
    event_json::message_id,
    listing::{PAGE, limit, not_a_cursor},
    lookup::{removed_run, run_id, unknown_run},
    path::Path,
    request,
    response::{Answer, json},
    shared::Shared,
    stream::Feed,
};
use fold::Messages;

/// `GET /api/v1/runs/{id}/messages?cursor=&limit=`.
pub(crate) async fn messages(State(shared): State<Shared>, Path(id): Path<String>, uri: Uri) -> Answer {
    request::only(&uri, &["cursor", "limit"])?;
    let size = request::query(&uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let skip: usize =
        request::query(&uri, "cursor").map_or(Ok(0), |text| text.parse().map_err(|_| not_a_cursor()))?;
    let reading = shared.clone();
    reading.read(show(shared, id, skip, size)).await
}

async fn show(shared: Shared, id: String, skip: usize, size: usize) -> Answer {
    let run = run_id(&id)?;
    let row = shared.host.store.run(run).await?.ok_or_else(|| unknown_run(&id))?;
    if row.purged {
        return Err(removed_run(&id));
    }
    // Taken before the journal is read: the events that began these calls are in what is read then.
    let texts = shared.host.engine.live_texts(run).current();
    let mut feed = Feed::new(&shared, &row, 0).await?;
    let mut messages = Messages::new(feed.workflow(), skip..skip.saturating_add(size));
    while let Some((_, event)) = feed.next(&shared).await? {
        messages.follow(&event);
    }
    for text in texts {
        messages.arrived(&message_id(run, text.effect), &text.text());
    }
    let (page, conversations, count) = messages.page();
    let end = skip.saturating_add(size);
    let mut object = Object::new();
    object.insert("messages", page);
    object.insert("conversations", conversations);
    object.insert("count", count as i64);
    if end < count {
        object.insert("next", end.to_string());
    }
    Ok(json(StatusCode::OK, &object.into()))
}
