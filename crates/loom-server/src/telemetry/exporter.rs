//! Sends spans: collects them for a moment, posts them as JSON, and retries where the protocol allows it.
//!
//! If the queue is full, new spans are dropped. If the collector is unavailable, a request is retried a few times with exponential
//! backoff, and then its spans are dropped. Both are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{self, HeaderName, HeaderValue},
};
use loom_actions::{Client, ClientOptions, Egress, Failure, Reply, Request, SystemResolver, Url};
use loom_expression::Masker;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    TelemetryError, TelemetrySettings,
    span::{self, Span},
};

/// The maximum number of attempts of one request.
const ATTEMPTS_MAX: u32 = 5;

/// The longest wait between two attempts, whatever `Retry-After` says.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Counts of spans since the process started.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exported: AtomicU64,
    /// Dropped because the queue was full.
    pub(crate) overflowed: AtomicU64,
    /// Rejected by the collector.
    pub(crate) refused: AtomicU64,
    /// Dropped because the collector was unavailable for too long.
    pub(crate) undelivered: AtomicU64,
}

/// The trace exporter.
#[derive(Debug)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<Span>,
    masker: Masker,
    counts: Arc<Counts>,
    flush_timeout: Duration,
    /// Cancelled to send the queue and end.
    stopping: CancellationToken,
    /// Cancelled to end immediately.
    giving_up: CancellationToken,
    tasks: TaskTracker,
}

impl Exporter {
    /// Starts the exporter.
    pub(crate) fn start(settings: &TelemetrySettings, masker: Masker) -> Result<Exporter, TelemetryError> {
        let broken = |why: String| TelemetryError::Address { why };
        let url = Url::parse(&settings.address).map_err(|error| broken(error.to_string()))?;
        let client =
            Client::new(ClientOptions::default(), Arc::new(Egress::default()), Arc::new(SystemResolver))
                .map_err(|error| broken(error.to_string()))?;
        let (queue, spans) = mpsc::channel(settings.queue_max.max(1));
        let exporter = Exporter {
            queue,
            masker,
            counts: Arc::new(Counts::default()),
            flush_timeout: settings.flush_timeout,
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let sender = Sender {
            client,
            url,
            headers: headers(&settings.headers)?,
            settings: settings.clone(),
            counts: Arc::clone(&exporter.counts),
            stopping: exporter.stopping.clone(),
            failing: false,
        };
        let giving_up = exporter.giving_up.clone();
        exporter.tasks.spawn(async move {
            tokio::select! {
                () = giving_up.cancelled() => {}
                () = sender.run(spans) => {}
            }
        });
        exporter.tasks.close();
        Ok(exporter)
    }

    /// Masks a span and queues it, or drops it. Never waits.
    pub(super) fn offer(&self, mut span: Span) {
        span.mask(&self.masker);
        if self.queue.try_send(span).is_err() {
            self.counts.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The number of spans in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Sends the queue, within the flush timeout, and ends.
    ///
    /// # Cancel safety
    /// If the future is dropped, the rest is sent in the background.
    pub(crate) async fn shut_down(&self) {
        self.stopping.cancel();
        if tokio::time::timeout(self.flush_timeout, self.tasks.wait()).await.is_err() {
            self.giving_up.cancel();
            self.tasks.wait().await;
        }
    }
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, TelemetryError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let agent = concat!("loom/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in given {
        let broken = || TelemetryError::Header { name: name.clone() };
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| broken())?;
        // Sensitive headers are dropped when a redirect leads to another host.
        value.set_sensitive(true);
        headers.insert(known, value);
    }
    Ok(headers)
}

struct Sender {
    client: Client,
    url: Url,
    headers: HeaderMap,
    settings: TelemetrySettings,
    counts: Arc<Counts>,
    stopping: CancellationToken,
    /// Whether the last request failed; only changes are logged.
    failing: bool,
}

impl Sender {
    async fn run(mut self, mut spans: mpsc::Receiver<Span>) {
        let mut batch = Vec::with_capacity(self.settings.batch_max);
        loop {
            self.gather(&mut spans, &mut batch).await;
            if batch.is_empty() {
                return;
            }
            self.deliver(&batch).await;
            batch.clear();
        }
    }

    /// Waits for a span, and then for more until the delay has passed. The batch stays empty if the exporter ends.
    async fn gather(&self, spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
        let most = self.settings.batch_max.max(1);
        let first = tokio::select! {
            biased;
            first = spans.recv() => first,
            () = self.stopping.cancelled() => None,
        };
        let Some(first) = first else { return };
        batch.push(first);
        let until = tokio::time::sleep(self.settings.delay);
        tokio::pin!(until);
        while batch.len() < most {
            let room = most - batch.len();
            tokio::select! {
                biased;
                taken = spans.recv_many(batch, room) => if taken == 0 { return },
                () = &mut until => return,
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Posts a batch, with retries.
    async fn deliver(&mut self, batch: &[Span]) {
        let count = batch.len() as u64;
        let body = Bytes::from(span::request(&self.settings.resource, batch).to_string());
        let mut wait = self.settings.retry_wait;
        let mut attempt = 1;
        loop {
            let sent = self.client.send(self.request(body.clone())).await;
            let (asked, why) = match judge(&sent) {
                Verdict::Taken { refused } => {
                    let refused = refused.min(count);
                    self.counts.exported.fetch_add(count - refused, Ordering::Relaxed);
                    self.counts.refused.fetch_add(refused, Ordering::Relaxed);
                    if std::mem::take(&mut self.failing) {
                        tracing::warn!(collector = %self.url.shown(), "the collector accepts spans again");
                    }
                    return;
                }
                Verdict::Refused(why) => {
                    self.counts.refused.fetch_add(count, Ordering::Relaxed);
                    return self.report_loss(&why);
                }
                Verdict::Later(asked, why) => (asked, why),
            };
            if attempt == ATTEMPTS_MAX {
                self.counts.undelivered.fetch_add(count, Ordering::Relaxed);
                return self.report_loss(&why);
            }
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(asked.unwrap_or(wait).min(WAIT_MAX)) => {}
                // At shutdown, the remaining attempts are made immediately.
                () = self.stopping.cancelled() => {}
            }
            wait = wait.saturating_mul(2);
        }
    }

    /// Logs that spans are lost, once until the collector accepts some again.
    fn report_loss(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(collector = %self.url.shown(), why, "spans are lost because the collector does not accept them");
        }
    }

    fn request(&self, body: Bytes) -> Request {
        let mut request = Request::get(self.url.clone(), self.settings.timeout);
        request.method = Method::POST;
        request.headers = self.headers.clone();
        request.body = body;
        request
    }
}

/// The meaning of a response for the spans of the request (OTLP 1.x, "OTLP/HTTP Response").
enum Verdict {
    /// Accepted, except for a number of rejected spans.
    Taken { refused: u64 },
    /// Rejected permanently, for this reason.
    Refused(String),
    /// To be retried, possibly after the given wait.
    Later(Option<Duration>, String),
}

fn judge(sent: &Result<Reply, Failure>) -> Verdict {
    let reply = match sent {
        Ok(reply) => reply,
        Err(failure) if failure.transient => return Verdict::Later(failure.after, failure.message.clone()),
        Err(failure) => return Verdict::Refused(failure.message.clone()),
    };
    let answered = || format!("the collector responded with {}", reply.status);
    match reply.status.as_u16() {
        200..=299 => {
            // A response in another encoding is ignored.
            let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let refused = &said["partialSuccess"]["rejectedSpans"];
            let refused = refused.as_u64().or_else(|| refused.as_str()?.parse().ok());
            Verdict::Taken { refused: refused.unwrap_or_default() }
        }
        429 | 502..=504 => {
            let seconds = reply.headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
            let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
            Verdict::Later(seconds.map(Duration::from_secs), answered())
        }
        _ => Verdict::Refused(answered()),
    }
}
