//! The small HTTP server behind the mock and the flaky service: loopback only, at a port chosen by the system.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use loom_expression::percent;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A request that has been read completely.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    /// The path as sent, escapes included.
    pub(crate) path: String,
    /// The query without the `?`; empty if there is none.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How a service reacts to a request.
pub(crate) enum Answer {
    /// Sends a response.
    Reply(Response<Full<Bytes>>),
    /// Closes the connection without a response.
    Hangup,
}

pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
pub(crate) type Respond = Arc<dyn Fn(Received) -> AnswerFuture + Send + Sync>;

/// A running server. Dropping it stops it immediately; [`Server::stop`] lets requests in progress end.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on the loopback address; `port` 0 lets the system choose.
    pub(crate) async fn start(port: u16, respond: Respond) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        #[expect(clippy::disallowed_methods, reason = "the server owns the task, and joins or aborts it")]
        let task = tokio::spawn(accept(listener, respond, stopped));
        Ok(Server { address, stop, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, and returns when all requests in progress have ended.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        // A task that panicked has ended as well.
        (&mut self.task).await.ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, respond: Respond, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&respond), stopped.clone()));
                }
            }
            _ = stopped.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, respond: Respond, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let respond = Arc::clone(&respond);
        async move {
            let (head, body) = request.into_parts();
            // An incomplete body means that the client has disconnected.
            let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
            let received = Received {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body,
            };
            match respond(received).await {
                Answer::Reply(response) => Ok(response),
                Answer::Hangup => Err(Hangup),
            }
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // The result does not matter: the connection is closed either way.
        _ = connection.as_mut() => {}
        // The guard that the wait returns must not be held across the next await.
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}

/// An error that makes hyper close the connection.
#[derive(Debug)]
struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script closes the connection")
    }
}

impl std::error::Error for Hangup {}

impl From<Infallible> for Hangup {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The parameters of a query, decoded.
pub(crate) fn query_members(query: &str) -> Vec<(String, String)> {
    let members = query.split('&').filter(|member| !member.is_empty()).map(|member| {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        (percent::decode_form(name.as_bytes()), percent::decode_form(value.as_bytes()))
    });
    members.collect()
}
