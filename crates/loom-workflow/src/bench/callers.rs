//! Callers: each has one connection and starts the next run as soon as it has received the last response.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// The timeout of one response.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a caller waits after a 429.
const HOLD_BACK: Duration = Duration::from_millis(5);

/// The number of consecutive failures after which a caller gives up.
const FAILURES_MAX: u32 = 5;

/// The server to call.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port`.
    pub(super) address: String,
    pub(super) token: Option<String>,
}

/// When callers stop.
#[derive(Clone, Debug)]
pub(super) enum Until {
    /// After this time.
    Time(Duration),
    /// After this number of runs by all callers together.
    Runs(Arc<AtomicU64>),
}

/// The results of callers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The latency of each successful response, in microseconds.
    pub(super) micros: Vec<u32>,
    /// The number of responses with status 429.
    pub(super) refused: u64,
    /// The number of other responses and of calls without a response.
    pub(super) failed: u64,
    /// The first failure, as a message.
    pub(super) why: Option<String>,
}

impl Tally {
    /// Adds the results of another caller.
    pub(super) fn add(&mut self, mut other: Tally) {
        self.micros.append(&mut other.micros);
        self.refused += other.refused;
        self.failed += other.failed;
        self.why = self.why.take().or(other.why);
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.why.get_or_insert(why);
    }
}

/// A response: status and body.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// A persistent connection.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    /// The task that drives the connection; ends when this is dropped.
    _connection: AbortOnDropHandle<()>,
}

impl Wire {
    pub(super) async fn open(target: &Target) -> Result<Wire> {
        let stream = TcpStream::connect(&target.address)
            .await
            .with_context(|| format!("cannot connect to {}", target.address))?;
        stream.set_nodelay(true).ok();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        #[expect(clippy::disallowed_methods, reason = "the wire owns the task and ends it")]
        let task = tokio::spawn(async move {
            // An error also reaches the pending request, which reports it.
            connection.await.ok();
        });
        Ok(Wire { sender, _connection: AbortOnDropHandle::new(task) })
    }

    /// Sends one request and receives its response.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        method: &str,
        path: &Uri,
        body: Bytes,
    ) -> Result<Reply> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &target.address)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &target.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply { status, body })
        };
        match timeout(PATIENCE, exchange).await {
            Ok(reply) => Ok(reply?),
            Err(_) => bail!("no response within {} s", PATIENCE.as_secs()),
        }
    }
}

/// Runs `callers` concurrent callers. The latency of every successful response is passed to `seen` immediately.
pub(super) async fn call(
    target: &Target,
    path: &Uri,
    body: &Bytes,
    callers: u32,
    until: Until,
    seen: impl Fn(Duration) + Clone + Send + 'static,
) -> Result<Tally> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..callers {
        let caller = Caller { target: target.clone(), path: path.clone(), body: body.clone() };
        tasks.spawn(caller.work(began, until.clone(), seen.clone()));
    }
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally??);
    }
    Ok(all)
}

struct Caller {
    target: Target,
    path: Uri,
    body: Bytes,
}

impl Caller {
    async fn work(self, began: Instant, until: Until, seen: impl Fn(Duration)) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut wire = Wire::open(&self.target).await?;
        let mut in_a_row = 0;
        loop {
            let more = match &until {
                Until::Time(time) => began.elapsed() < *time,
                Until::Runs(left) => left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok(),
            };
            if !more {
                return Ok(tally);
            }
            let sent = Instant::now();
            let reply = wire.send(&self.target, "POST", &self.path, self.body.clone()).await;
            let took = sent.elapsed();
            match reply {
                Ok(reply) if reply.status.is_success() => {
                    tally.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                    seen(took);
                    in_a_row = 0;
                    continue;
                }
                Ok(reply) if reply.status == StatusCode::TOO_MANY_REQUESTS => {
                    tally.refused += 1;
                    sleep(HOLD_BACK).await;
                }
                Ok(reply) => {
                    let body = String::from_utf8_lossy(&reply.body).chars().take(300).collect::<String>();
                    tally.fail(format!("{}: {body}", reply.status));
                    in_a_row += 1;
                }
                Err(error) => {
                    tally.fail(format!("{error:#}"));
                    in_a_row += 1;
                    wire = Wire::open(&self.target).await?;
                }
            }
            if let Until::Runs(left) = &until {
                left.fetch_add(1, Ordering::Relaxed);
            }
            if in_a_row >= FAILURES_MAX {
                return Ok(tally);
            }
        }
    }
}
