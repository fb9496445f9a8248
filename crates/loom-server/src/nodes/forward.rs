//! Passes a request on to the node that owns what it is about, and its response back.
//!
//! The owner may be gone: a node that cannot be connected to has received nothing, so the request is sent again once the shard has
//! another owner. A request that was sent is not repeated.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header},
    middleware::Next,
    response::IntoResponse,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use loom_engine::RunId;
use loom_expression::percent;
use loom_store::Shard;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{access::Grant, cluster::Cluster, host::Host, response::Problem, shared::Shared};

/// Marks a request that another node has passed on, so that no request goes in circles. Its value names the caller, whom that node
/// has checked; it is believed if the server's own token comes with it.
pub(crate) const PASSED_ON: HeaderName = HeaderName::from_static("x-loom-passed-on");

/// How long a request waits for an owner: a lease, and the time until another node has taken the shard over.
const OWNER_WAIT: Duration = Duration::from_secs(10);

/// How long a connection to another node may take.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// The delay before the owner is looked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// The `Retry-After` of requests that found no owner, in seconds.
const RETRY_AFTER: u64 = 1;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Something of one shard.
    Shard(Shard),
    /// A new run, in any shard.
    Anything,
    /// What every node can do.
    Nothing,
}

/// Handles requests about what this node owns, and passes the others on.
pub(crate) async fn forward(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let Some(cluster) = &shared.host.cluster else { return next.run(request).await };
    let about = about(&shared.host, request.method(), request.uri());
    if about == About::Nothing {
        return next.run(request).await;
    }
    let was_passed_on = request.headers().contains_key(PASSED_ON);
    let end = Instant::now() + OWNER_WAIT;
    loop {
        if is_mine(&shared.host, cluster, about) {
            return next.run(request).await;
        }
        let owner = match about {
            About::Shard(shard) => cluster.owner(shard),
            _ => cluster.somebody(),
        };
        if let Some(owner) = owner.filter(|_| !was_passed_on)
            && let Ok(Ok(stream)) = timeout(CONNECT_WAIT, TcpStream::connect(&*owner)).await
        {
            return send(&shared, stream, request).await.unwrap_or_else(IntoResponse::into_response);
        }
        if Instant::now() >= end {
            return nobody().into_response();
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = shared.host.stopping.cancelled() => return nobody().into_response(),
        }
    }
}

fn is_mine(host: &Host, cluster: &Cluster, about: About) -> bool {
    match about {
        About::Shard(shard) => cluster.standing.is_open(shard),
        // A node that drains starts nothing.
        About::Anything => !host.draining.is_cancelled() && !cluster.standing.open().is_empty(),
        About::Nothing => true,
    }
}

fn nobody() -> Problem {
    let message =
        "No node owns what the request is about at the moment; another one is about to take it over.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NoOwner", message).later(RETRY_AFTER)
}

/// What a request is about, by its path.
fn about(host: &Host, method: &Method, uri: &Uri) -> About {
    let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    let run = |id: &str| RunId::from_str(id).map_or(About::Nothing, |run| About::Shard(run.shard()));
    match segments[..] {
        ["api", "v1", "runs", id, "events"] => run(id),
        ["api", "v1", "runs", id, _, ..] if *method == Method::POST => run(id),
        ["callbacks", token] => {
            let known = host.callbacks.recognize(&percent::decode(token));
            known.map_or(About::Anything, |(run, _)| About::Shard(run.shard()))
        }
        ["api", "v1", "workflows", workflow, "triggers", trigger, "run" | "backfill"]
        | ["workflows" | "api", workflow, "triggers", trigger, "invoke", ..] => {
            let found = host.deployments.get(&percent::decode(workflow));
            found.map_or(About::Nothing, |deployment| {
                let trigger = deployment.trigger(&percent::decode(trigger));
                let shard = trigger.and_then(|trigger| host.shard_of(&deployment, trigger));
                shard.map_or(About::Anything, About::Shard)
            })
        }
        _ => About::Nothing,
    }
}

/// Sends a request over a connection to its owner.
async fn send(shared: &Shared, stream: TcpStream, mut request: Request) -> Result<Response<Body>, Problem> {
    stream.set_nodelay(true).ok();
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // It ends when the response has been read.
    shared.host.tasks.spawn(async move { connection.await.ok() });
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().map_err(|_| Problem::bad("The request has no valid path."))?;
    // The caller was checked here, perhaps by its session, which only this node knows.
    let grant = request.extensions().get::<Grant>().cloned();
    let by = grant.as_ref().and_then(|grant| HeaderValue::from_str(&grant.by).ok());
    if grant.is_some()
        && let Some(token) = shared.token.get()
        && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let headers = request.headers_mut();
    headers.insert(PASSED_ON, by.unwrap_or(HeaderValue::from_static("api")));
    headers.remove(header::CONNECTION);
    headers.remove(header::EXPECT);
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    *request.version_mut() = Version::HTTP_11;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let mut response = response.map(Body::new);
    response.headers_mut().remove(header::CONNECTION);
    Ok(response)
}

/// The owner has received the request, perhaps, and has not responded.
fn failed(error: &hyper::Error) -> Problem {
    tracing::debug!(%error, "the node that owns what a request is about did not respond");
    let message = "The node that handled the request did not respond; whether it took effect is unknown. Repeat it with the same \
                   'Idempotency-Key'.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "OwnerGone", message).later(RETRY_AFTER)
}

/// Where this node is reached, for requests about a node.
pub(crate) async fn to_node(
    shared: &Shared,
    address: &Arc<str>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    match timeout(CONNECT_WAIT, TcpStream::connect(&**address)).await {
        Ok(Ok(stream)) => send(shared, stream, request).await,
        _ => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "NodeUnreachable",
            format!("The node at {address} cannot be reached."),
        )),
    }
}
