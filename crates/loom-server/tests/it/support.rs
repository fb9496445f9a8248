//! Shared by the tests: a server on a free port, and a client.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use loom_actions::request_handlers;
use loom_definition::{LoadOptions, catalog::Bump, policy::ChaosPlan};
use loom_engine::{Engine, Environment, clock::SystemClock, ports::Stopwatch};
use loom_expression::Value;
use loom_server::{DeployError, Host, HostSettings, Origin, Recovery, Server, ServerSettings, Source};
use loom_store::{MemoryStore, SqliteOptions, SqliteStore, Store};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

/// A definition with one Request trigger and these actions.
pub(crate) fn requested(actions: &str) -> String {
    format!(r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}}}"#)
}

/// The settings that a test may change before its server starts.
pub(crate) struct Plan {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) environment: Environment,
    pub(crate) requests: loom_actions::Settings,
    pub(crate) settings: ServerSettings,
    pub(crate) host: HostSettings,
    pub(crate) chaos: Option<Arc<ChaosPlan>>,
    pub(crate) stopwatch: Option<Arc<dyn Stopwatch>>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            store: Arc::new(MemoryStore::default()),
            environment: Environment::default(),
            requests: loom_actions::Settings::default(),
            settings: ServerSettings::default(),
            // The address is known once the port is.
            host: HostSettings::new(""),
            chaos: None,
            stopwatch: None,
        }
    }
}

/// A store in a directory, as `loom serve` opens it.
pub(crate) fn on_disk(directory: &std::path::Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(directory, SqliteOptions::default()).unwrap())
}

/// A server that listens.
pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    pub(crate) address: SocketAddr,
    pub(crate) recovered: Recovery,
    /// The path that signs a browser in once.
    pub(crate) login_link: Option<String>,
    token: Option<Arc<str>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    /// A server with default settings, in memory.
    pub(crate) async fn new() -> World {
        World::start(Plan::default()).await
    }

    pub(crate) async fn start(plan: Plan) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Arc::new(SystemClock);
        let requests =
            loom_actions::requests(plan.requests, Arc::clone(&clock) as Arc<dyn loom_engine::ports::Clock>)
                .unwrap();
        let mut builder = Engine::builder();
        for (effect, handler) in request_handlers(&requests) {
            builder = builder.handler(effect, handler);
        }
        if let Some(chaos) = plan.chaos {
            builder = builder.chaos(chaos);
        }
        if let Some(stopwatch) = plan.stopwatch {
            builder = builder.stopwatch(stopwatch);
        }
        let mut settings = plan.host;
        settings.base = format!("http://{address}");
        settings.trigger_calls = Some(Arc::new(loom_actions::TriggerRequests::new(&requests)));
        let host = Host::open(builder, plan.environment, plan.store, clock, settings).await.unwrap();
        let recovered = host.recover().await.unwrap();
        let token = plan.settings.token.clone();
        let server = Server::new(Arc::clone(&host), plan.settings);
        let login_link = server.login_link();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(listener, stop.clone()));
        World { host, address, recovered, login_link, token, stop, tasks }
    }

    /// Deploys a definition as from a file.
    pub(crate) async fn deploy(&self, name: &str, text: &str) {
        self.try_deploy(name, text).await.unwrap();
    }

    /// Deploys a definition as from a file. Returns whether that changed anything.
    pub(crate) async fn try_deploy(&self, name: &str, text: &str) -> Result<bool, DeployError> {
        let options = LoadOptions { name: Some(name.into()), ..LoadOptions::default() };
        let source = Source {
            bytes: text.as_bytes().to_vec(),
            options,
            origin: Origin::File,
            bump: Bump::Patch,
            only_new: false,
        };
        self.host.deploy(&source).await.map(|(_, changed)| changed)
    }

    /// A request without a token, with these headers.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Stream {
        let (mut sender, tasks) = self.connect().await;
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Stream { status: parts.status, headers: parts.headers, body, _connection: (sender, tasks) }
    }

    async fn connect(&self) -> (SendRequest<Full<Bytes>>, JoinSet<()>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The response shows how the request ended.
            connection.await.ok();
        });
        (sender, tasks)
    }

    /// A request with the server's token; a body that is not empty is JSON.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &str) -> Reply {
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, body.to_owned()).await.whole().await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.call(Method::POST, path, body).await
    }

    /// Fires `manual` of a workflow, and returns the run that it started.
    pub(crate) async fn invoke(&self, workflow: &str, body: &str) -> String {
        let reply = self.post(&format!("/workflows/{workflow}/triggers/manual/invoke"), body).await;
        reply.header("x-ms-workflow-run-id").unwrap_or_else(|| panic!("no run: {reply:?}")).to_owned()
    }

    /// Waits for a run to end, and returns it.
    pub(crate) async fn ended(&self, run: &str) -> Value {
        self.events(run, 0).await;
        self.get(&format!("/api/v1/runs/{run}")).await.json()
    }

    /// Fires `manual` of a workflow and waits for the end of its run.
    pub(crate) async fn run(&self, workflow: &str, body: &str) -> Value {
        let run = self.invoke(workflow, body).await;
        self.ended(&run).await
    }

    /// All events of a run after one of them, read as a stream until its end.
    pub(crate) async fn events(&self, run: &str, after: u64) -> Vec<Value> {
        let mut watcher = self.watch(run, after).await;
        let mut all = Vec::new();
        while let Some(event) = watcher.next().await {
            all.push(event);
        }
        all
    }

    /// A stream of a run's events.
    pub(crate) async fn watch(&self, run: &str, after: u64) -> Watcher {
        let after = after.to_string();
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("accept", "text/event-stream"), ("last-event-id", after.as_str())];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let stream = self.send(Method::GET, &format!("/api/v1/runs/{run}/events"), &headers, "").await;
        assert!(stream.status.is_success(), "{:?}", stream.status);
        Watcher { stream, read: String::new(), comments: 0 }
    }

    /// Stops the server and waits until connections, runs and the store are closed.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.host.shut_down().await.unwrap();
    }

    /// Tells the server to stop accepting requests.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }
}

/// A response whose body has not been read yet. Dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: (SendRequest<Full<Bytes>>, JoinSet<()>),
}

impl Stream {
    pub(crate) async fn whole(self) -> Reply {
        let body = self.body.collect().await.unwrap().to_bytes();
        Reply { status: self.status.as_u16(), headers: self.headers, body }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await {
                None | Some(Err(_)) => return None,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(data);
                    }
                }
            }
        }
    }
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        Value::parse_json(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the format that every error has, and returns its code.
    pub(crate) fn error(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"), "{self:?}");
        let body = self.json();
        let members = body.as_object().expect("an object");
        assert_eq!(members.len(), 1, "{self:?}");
        let error = members.get("error").expect("an error");
        assert!(!text(error, "message").is_empty(), "{self:?}");
        text(error, "code").to_owned()
    }
}

/// A string property that must exist.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    let found = value.get(name).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no '{name}' in {}", value.to_json_text()))
}

/// An array property that must exist.
pub(crate) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let found = value.get(name).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no list '{name}' in {}", value.to_json_text()))
}

/// Reads server-sent events.
pub(crate) struct Watcher {
    stream: Stream,
    read: String,
    /// Comments so far: heartbeats.
    pub(crate) comments: usize,
}

impl Watcher {
    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.read.find("\n\n") {
                let block: String = self.read.drain(..end + 2).collect();
                if block.starts_with(':') {
                    self.comments += 1;
                }
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let Some(data) = field("data: ") else { continue };
                let event = json(&data);
                // The fields of the protocol must agree with the event.
                let seq = event.get("seq").and_then(Value::as_i64).map(|seq| seq.to_string());
                assert_eq!(field("id: "), seq);
                assert_eq!(field("event: ").as_deref(), Some(text(&event, "type")));
                return Some(event);
            }
            let chunk = self.stream.chunk().await?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
    }

    /// Waits for a heartbeat.
    pub(crate) async fn heartbeat(&mut self) {
        let before = self.comments;
        while self.comments == before {
            let chunk = self.stream.chunk().await.expect("the stream continues");
            self.comments += std::str::from_utf8(&chunk).unwrap().matches("\n: ").count();
            self.comments += usize::from(chunk.starts_with(b": "));
        }
    }
}
