//! The connection behind `loom runs` and similar commands: a server over HTTP, or a data directory opened in this process.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use loom_actions::{Client, ClientOptions, Egress, Request, Streamed, SystemResolver, Url};
use loom_engine::{Engine, Environment, clock::SystemClock};
use loom_expression::Value;
use loom_server::{Host, HostSettings, Server, ServerSettings};
use loom_store::Durability;

use crate::data;

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A connection to a server or a data directory.
pub(super) enum Connection {
    Server { client: Box<Client>, base: Url, headers: HeaderMap },
    Folder { server: Server, host: Arc<Host> },
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server cannot be reached.
    Unreachable(String),
    /// The response is not one of a Loom server.
    Stranger { address: String },
    /// The response is an error.
    Answered { status: u16, message: String },
}

impl Connection {
    pub(super) fn server(address: &str, token: Option<&str>) -> Result<Connection> {
        let base = Url::parse(address).map_err(|error| anyhow::anyhow!("--server: {error}"))?;
        let client =
            Client::new(ClientOptions::default(), Arc::new(Egress::default()), Arc::new(SystemResolver))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .context("the token has a character that is not allowed in an HTTP header")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Connection::Server { client: Box::new(client), base, headers })
    }

    /// Opens a data directory without resuming its runs. Unless the command `changes` something, nothing is written to it.
    pub(super) async fn directory(
        directory: &Path,
        key_file: Option<&Path>,
        changes: bool,
    ) -> Result<Connection> {
        if !directory.join("loom.db").is_file() {
            anyhow::bail!("{} is not a data directory: it has no loom.db", directory.display());
        }
        let store = if changes {
            data::open(directory, Durability::default(), key_file).await?
        } else {
            data::look(directory, key_file).await?
        };
        let mut settings = HostSettings::new("http://localhost");
        settings.lists_stored = true;
        let host =
            Host::open(Engine::builder(), Environment::default(), store, Arc::new(SystemClock), settings)
                .await?;
        let server = Server::new(Arc::clone(&host), ServerSettings::default());
        Ok(Connection::Folder { server, host })
    }

    /// Sends a request without a body; the response is JSON with this property, or empty if it has no name.
    pub(super) async fn ask(&self, method: Method, path: &str, property: &str) -> Result<Value, Refusal> {
        let answer = self.send(method, path, HeaderMap::new(), Vec::new()).await?;
        self.expect(answer, property)
    }

    /// A response, if it has this property as those of Loom do.
    pub(super) fn expect(&self, answer: Value, property: &str) -> Result<Value, Refusal> {
        if property.is_empty() || answer.get(property).is_some() {
            return Ok(answer);
        }
        let address = match self {
            Connection::Server { base, .. } => base.shown().clone(),
            Connection::Folder { .. } => "the data directory".to_owned(),
        };
        Err(Refusal::Stranger { address })
    }

    /// Sends a request with a body and additional headers; the response is JSON.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        more: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Value, Refusal> {
        let mut more = more;
        if !body.is_empty() {
            more.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (status, body) = match self {
            Connection::Server { client, base, headers } => {
                let address = format!("{}{path}", base.shown().trim_end_matches('/'));
                let unusable = |why: String| Refusal::Unreachable(why);
                let url = Url::parse(&address).map_err(|error| unusable(error.to_string()))?;
                let mut request = Request::get(url, TIMEOUT);
                request.method = method;
                request.headers.clone_from(headers);
                request.headers.extend(more);
                request.body = body.into();
                let reply = client.send(request).await;
                let reply = reply.map_err(|failure| unusable(failure.message))?;
                (reply.status.as_u16(), reply.body.to_vec())
            }
            Connection::Folder { server, .. } => {
                let answered = server.ask(method, path, more, body).await;
                let (status, body) = answered.map_err(|error| Refusal::Unreachable(error.to_string()))?;
                (status.as_u16(), body)
            }
        };
        let value = Value::parse_json(&body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(value);
        }
        Err(refusal(status, &value))
    }

    /// Opens the event stream at `path` after the event with this id. None for a data directory.
    pub(super) async fn open(&self, path: &str, after: Option<&str>) -> Result<Option<Streamed>, Refusal> {
        let Connection::Server { client, base, headers } = self else { return Ok(None) };
        let address = format!("{}{path}", base.shown().trim_end_matches('/'));
        let url = Url::parse(&address).map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let mut request = Request::get(url, TIMEOUT);
        request.headers.clone_from(headers);
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after.and_then(|after| HeaderValue::from_str(after).ok()) {
            request.headers.insert("last-event-id", after);
        }
        let opened = client.open(request).await.map_err(|failure| Refusal::Unreachable(failure.message))?;
        let status = opened.status.as_u16();
        if status == 200 {
            return Ok(Some(opened));
        }
        if status == 204 {
            let message = "the run has no further events".to_owned();
            return Err(Refusal::Answered { status: 410, message });
        }
        let (mut opened, mut body) = (opened, Vec::new());
        while let Ok(Some(chunk)) = opened.chunk().await {
            body.extend_from_slice(&chunk);
        }
        Err(refusal(status, &Value::parse_json(&body).unwrap_or_default()))
    }

    /// Sends a request and returns the response as soon as it begins.
    pub(super) async fn stream(
        &self,
        method: Method,
        path: &str,
        more: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Streamed, Refusal> {
        let Connection::Server { client, base, headers } = self else {
            return Err(Refusal::Unreachable("a data directory executes nothing".to_owned()));
        };
        let address = format!("{}{path}", base.shown().trim_end_matches('/'));
        let url = Url::parse(&address).map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let mut request = Request::get(url, TIMEOUT);
        request.method = method;
        request.headers.clone_from(headers);
        if !body.is_empty() {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.headers.extend(more);
        request.body = body.into();
        let opened = client.open(request).await.map_err(|failure| Refusal::Unreachable(failure.message))?;
        let status = opened.status.as_u16();
        if (200..300).contains(&status) {
            return Ok(opened);
        }
        let (mut opened, mut body) = (opened, Vec::new());
        while let Ok(Some(chunk)) = opened.chunk().await {
            body.extend_from_slice(&chunk);
        }
        Err(refusal(status, &Value::parse_json(&body).unwrap_or_default()))
    }

    /// What is wrong with the data directory, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Connection::Server { .. } => None,
            Connection::Folder { host, .. } => host.store_problem(),
        }
    }

    pub(super) async fn close(&self) {
        if let Connection::Folder { host, .. } = self {
            host.shut_down().await.ok();
        }
    }
}

/// The refusal in an error response.
fn refusal(status: u16, value: &Value) -> Refusal {
    let message = value.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
    let message = message.map_or_else(|| format!("the server responded with status {status}"), str::to_owned);
    Refusal::Answered { status, message }
}
