//! Live streams of a run: its durable events, and between them the text of messages while they are written.
//!
//! A stream reads the journal from its reader's position; the hub only signals that there is more. So events are dense, in order
//! and durable, a slow reader blocks nothing, and a reader that reconnects with `Last-Event-ID` continues exactly where it was.
//! Live text is read the same way: each stream remembers how much it has sent of each message. A stream ends after the run's last
//! event; a reader that reconnects then gets `204`. See `docs/decisions/0018`.

mod ag_ui;
mod chunks;
mod completions;
mod native;
mod said;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header},
};
use futures_util::stream;
use loom_definition::Workflow;
use loom_engine::{RunId, live_text::LiveTexts};
use loom_expression::Value;
use loom_store::RunRow;
use tokio::sync::{OwnedSemaphorePermit, watch};

use self::{ag_ui::AgUi, chunks::Chunks, native::Native, said::Said};
pub(crate) use self::{
    completions::Completions,
    native::{message_of, progress_of, whole_text},
    said::ends_message,
};
use crate::{event_json::EventWriter, journal_reader::JournalReader, response::Problem, shared::Shared};

/// The time without events after which a comment is sent, so that proxies do not close the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The number of bytes that are collected before they are passed to the connection.
const CHUNK_BYTES: usize = 64 << 10;

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The events of Loom.
    Native,
    /// The events of the AG-UI protocol.
    AgUi,
    /// `start`, `progress`, `data`, `complete` and `error`.
    Chunks,
}

impl Format {
    /// The format of this name.
    pub(crate) fn parse(name: &str) -> Result<Format, Problem> {
        match name {
            "native" => Ok(Format::Native),
            "ag-ui" => Ok(Format::AgUi),
            "chunks" => Ok(Format::Chunks),
            _ => Err(Problem::bad(format!("'format' must be native, ag-ui or chunks (got '{name}')."))),
        }
    }

    /// The format that a content type such as `text/event-stream; format=ag-ui` names; none if it is not that of a stream.
    pub(crate) fn of_content_type(kind: &str) -> Option<Result<Format, Problem>> {
        let mut parts = kind.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("text/event-stream") {
            return None;
        }
        let format = parts.find_map(|part| part.strip_prefix("format="));
        Some(format.map_or(Ok(Format::Native), |name| Format::parse(name.trim_matches('"'))))
    }
}

/// What a stream shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// Events after this number.
    pub(crate) after: u64,
    /// How they are written.
    pub(crate) format: Format,
    /// Whether the stream is for the caller of a trigger, who sees no inputs and outputs of actions.
    pub(crate) to_caller: bool,
}

/// The response that streams a run.
pub(crate) async fn open(shared: Shared, row: &RunRow, shown: Shown) -> Result<Response<Body>, Problem> {
    open_encoded(shared, row, shown.after, Encoder::new(row.id, shown)).await
}

/// The response that streams the answer of a run as chat completions.
pub(crate) async fn open_completions(
    shared: Shared,
    row: &RunRow,
    completions: Completions,
) -> Result<Response<Body>, Problem> {
    open_encoded(shared, row, 0, Encoder::Completions(Box::new(completions))).await
}

async fn open_encoded(
    shared: Shared,
    row: &RunRow,
    after: u64,
    encoder: Encoder,
) -> Result<Response<Body>, Problem> {
    let place = Arc::clone(&shared.watchers).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyWatchers",
            "The limit of open event streams is reached.",
        )
        .later(5)
    })?;
    // Subscribed before the first read, so that nothing is missed between the two.
    let news = shared.host.hub.watch(row.id);
    let texts = shared.host.engine.live_texts(row.id);
    let begin = {
        let (shared, row) = (shared.clone(), row.clone());
        async move {
            let mut feed = Feed::new(&shared, &row, after).await?;
            let first = feed.next(&shared).await?;
            Ok::<_, Problem>((feed, first))
        }
    };
    let (feed, first) = shared.read(begin).await?;
    if first.is_none() && feed.ended {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let said = Said::new(row.id, Arc::clone(&feed.workflow));
    let state = Streaming {
        shared,
        feed,
        news,
        texts,
        encoder,
        said,
        pending: first,
        greeted: false,
        stale: false,
        closed: false,
        _place: place,
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(state, Streaming::step)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Disables buffering in proxies.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The events of a run after a position, as JSON.
pub(crate) struct Feed {
    run: RunId,
    workflow: Arc<Workflow>,
    reader: JournalReader,
    writer: EventWriter,
    after: u64,
    ended: bool,
}

impl Feed {
    /// The definition that the run executes.
    pub(crate) fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    pub(crate) async fn new(shared: &Shared, row: &RunRow, after: u64) -> Result<Feed, Problem> {
        let workflow = shared.host.engine.workflow_of(row).await?;
        let (reader, trail) = JournalReader::after(row.id, &*shared.host.store, &workflow, after).await?;
        // The trigger says what is redacted. The first event names it, too.
        let start = if trail.seq() == 0 { None } else { shared.host.engine.start_of(row.id).await? };
        let trigger = start.as_ref().and_then(|start| start.trigger.get("name").and_then(Value::as_str));
        Ok(Feed {
            run: row.id,
            workflow: Arc::clone(&workflow),
            reader,
            writer: EventWriter::new(row.id, workflow, trail, trigger),
            after,
            // The end is in the journal then, or was removed with it.
            ended: row.ended.is_some(),
        })
    }

    /// Whether the run has ended, as far as was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next durable event.
    pub(crate) async fn next(&mut self, shared: &Shared) -> Result<Option<(u64, Value)>, Problem> {
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

/// Writes a stream in one of the formats.
enum Encoder {
    Native(Native),
    AgUi(Box<AgUi>),
    Chunks(Chunks),
    Completions(Box<Completions>),
}

impl Encoder {
    fn new(run: RunId, shown: Shown) -> Encoder {
        match shown.format {
            Format::Native => Encoder::Native(Native::new(shown.to_caller)),
            Format::AgUi => Encoder::AgUi(Box::new(AgUi::new(run, shown))),
            Format::Chunks => Encoder::Chunks(Chunks::new(run, shown.to_caller)),
        }
    }

    /// Begins the stream.
    fn greet(&self, out: &mut String) {
        if let Encoder::Completions(_) = self {
            // Clients reconnect to nothing; a comment confirms the connection.
            return out.push_str(": connected\n\n");
        }
        // Confirms the connection and sets the reconnection delay.
        out.push_str("retry: 1000\n\n");
        if let Encoder::Chunks(chunks) = self {
            chunks.greet(out);
        }
    }

    /// Writes a durable event. The rest of its message, if it ends one, was written before.
    fn event(&mut self, seq: u64, event: &Value, out: &mut String) {
        match self {
            Encoder::Native(native) => native.event(seq, event, out),
            Encoder::AgUi(ag_ui) => ag_ui.event(seq, event, out),
            Encoder::Chunks(chunks) => chunks.event(seq, event, out),
            Encoder::Completions(completions) => completions.event(event, out),
        }
    }

    /// Writes a part of a message.
    fn part(&mut self, part: &said::Part<'_>, out: &mut String) {
        match self {
            Encoder::Native(_) => Native::part(part, out),
            Encoder::AgUi(ag_ui) => ag_ui.part(part, out),
            Encoder::Completions(completions) => completions.part(part, out),
            // Messages are sent whole.
            Encoder::Chunks(_) => {}
        }
    }

    /// Ends the stream.
    fn close(&self, out: &mut String) {
        if let Encoder::Chunks(chunks) = self {
            chunks.close(out);
        }
    }
}

/// Appends one server-sent event. An event with a number moves the position of a reader that reconnects.
fn push(out: &mut String, seq: Option<u64>, kind: &str, data: &Value) {
    use std::fmt::Write as _;
    if let Some(seq) = seq {
        writeln!(out, "id: {seq}").expect("writing to a String cannot fail");
    }
    // Compact JSON has no line breaks, so one `data` line is enough.
    write!(out, "event: {kind}\ndata: {}\n\n", data.to_json_text()).expect("writing to a String cannot fail");
}

struct Streaming {
    shared: Shared,
    feed: Feed,
    news: watch::Receiver<u64>,
    texts: LiveTexts,
    encoder: Encoder,
    said: Said,
    pending: Option<(u64, Value)>,
    greeted: bool,
    /// Whether the journal was read to its end and nothing was reported since.
    stale: bool,
    closed: bool,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Streaming)> {
        let mut chunk = String::new();
        if !std::mem::replace(&mut self.greeted, true) {
            self.encoder.greet(&mut chunk);
            return Some((Ok(Bytes::from(chunk)), self));
        }
        loop {
            // Taken before the journal is read: the events that began these calls are in what is read then.
            let texts = self.texts.current();
            if !self.stale || self.news.has_changed().unwrap_or(true) {
                self.news.borrow_and_update();
                if let Some((seq, event)) = self.pending.take() {
                    self.write(seq, &event, &mut chunk);
                }
                self.stale = false;
                let shared = self.shared.clone();
                let problem;
                (self, chunk, problem) = shared.read(self.fill(chunk)).await;
                if let Some(problem) = problem {
                    // The reader reconnects with the number of its last event.
                    tracing::warn!(run_id = %self.feed.run, message = problem.message, "an event stream was interrupted");
                    return (!chunk.is_empty()).then(|| (Ok(Bytes::from(chunk)), self));
                }
            }
            if self.stale {
                self.said.arrived(&texts, |part| self.encoder.part(part, &mut chunk));
            }
            if self.feed.ended && self.stale && !std::mem::replace(&mut self.closed, true) {
                self.encoder.close(&mut chunk);
            }
            if !chunk.is_empty() {
                return Some((Ok(Bytes::from(chunk)), self));
            }
            if self.feed.ended {
                return None;
            }
            tokio::select! {
                changed = self.news.changed() => {
                    changed.ok()?;
                    self.stale = false;
                }
                () = self.texts.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => {
                    return Some((Ok(Bytes::from_static(b": still here\n\n")), self));
                }
                () = self.shared.host.stopping.cancelled() => return None,
            }
        }
    }

    /// Appends durable events to a chunk until it is large enough, or there are no more at present. Also returns why an event cannot
    /// be read.
    async fn fill(mut self, mut chunk: String) -> (Streaming, String, Option<Problem>) {
        while chunk.len() < CHUNK_BYTES {
            match self.feed.next(&self.shared).await {
                Ok(Some((seq, event))) => self.write(seq, &event, &mut chunk),
                Ok(None) => {
                    self.stale = true;
                    break;
                }
                Err(problem) => return (self, chunk, Some(problem)),
            }
        }
        (self, chunk, None)
    }

    fn write(&mut self, seq: u64, event: &Value, chunk: &mut String) {
        self.said.ended(event, |part| self.encoder.part(part, chunk));
        self.encoder.event(seq, event, chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_names_the_format_of_a_stream() {
        let format = |kind| Format::of_content_type(kind).map(Result::ok);
        assert_eq!(format("text/event-stream"), Some(Some(Format::Native)));
        assert_eq!(format("Text/Event-Stream; charset=utf-8; format=ag-ui"), Some(Some(Format::AgUi)));
        assert_eq!(format("text/event-stream;format=\"chunks\""), Some(Some(Format::Chunks)));
        assert_eq!(format("text/event-stream; format=xml"), Some(None));
        assert_eq!(format("application/json"), None);
    }
}
