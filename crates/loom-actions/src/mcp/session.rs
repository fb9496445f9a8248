//! Sessions with MCP servers. Each belongs to one run: it begins with the run's first call, and ends when the run leaves memory.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_engine::{Presence, RunId, http_status, ports::Call};
use rmcp::{
    ClientHandler, RoleClient, ServiceError,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, MetaObject,
        PaginatedRequestParams, RequestMetaObject, Tool,
    },
    service::{NotificationContext, Peer, RunningService, ServiceExt as _},
    transport::{
        StreamableHttpClientTransport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};
use tokio_util::task::TaskTracker;

use super::http::HttpClient;
use crate::{
    Failure,
    connections::{McpServer, McpWay, Program},
    requests::Requests,
};

/// The most tools of one server.
const TOOLS_MAX: usize = 1_000;

/// The most pages in which a server lists its tools.
const PAGES_MAX: usize = 100;

/// The property of `_meta` with the key of a call, which a repetition has, too.
const IDEMPOTENCY_KEY: &str = "loom/idempotencyKey";

/// The code of a server that cannot be reached.
const UNAVAILABLE: &str = "McpServerUnavailable";

/// How long a program may take to end after its input was closed.
const GRACE: Duration = Duration::from_secs(2);

/// The most bytes that are kept of what a program writes to its standard error.
const COMPLAINTS_MAX: usize = 2 << 10;

/// The sessions of all runs.
pub(crate) struct Sessions {
    requests: Arc<Requests>,
    /// By run and server.
    open: Arc<Mutex<Open>>,
    /// The tasks that end sessions, and those that read what programs complain about.
    tasks: TaskTracker,
}

/// The sessions by run and server.
type Open = BTreeMap<(RunId, Arc<str>), Arc<Slot>>;

/// Where the session of a run with a server is.
struct Slot {
    /// The stay of the run in memory for which the session is.
    presence: Presence,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

/// A session with a server.
pub(crate) struct Session {
    name: Arc<str>,
    /// Taken when the session ends.
    running: Mutex<Option<RunningService<RoleClient, Client>>>,
    peer: Peer<RoleClient>,
    way: Way,
    /// The tools that the server listed, until it says that they have changed.
    tools: Mutex<Option<Arc<Vec<Tool>>>>,
    changed: Arc<AtomicBool>,
    timeout: Duration,
}

/// What a session goes through.
enum Way {
    Http(HttpClient),
    Program { child: Mutex<Option<Child>>, complaints: Complaints },
}

/// What a program wrote to its standard error last.
type Complaints = Arc<Mutex<Vec<u8>>>;

/// This side of a session. It offers the server nothing: no sampling, no elicitation, no roots.
struct Client {
    changed: Arc<AtomicBool>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("loom", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Release);
    }
}

impl Sessions {
    pub(crate) fn new(requests: &Arc<Requests>) -> Sessions {
        Sessions { requests: Arc::clone(requests), open: Arc::default(), tasks: TaskTracker::new() }
    }

    /// The settings and connections of requests.
    pub(crate) fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// The session of the call's run with a server, which begins now if there is none.
    ///
    /// # Errors
    /// [`Failure`] when the server cannot be reached.
    ///
    /// # Cancel safety
    /// A session that has begun stays for the next call; one that has not is dropped.
    pub(crate) async fn of(&self, call: &Call, server: &McpServer) -> Result<Arc<Session>, Failure> {
        let key = (call.run, Arc::clone(&server.name));
        let (slot, is_new) = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.get(&key) {
                // That of an earlier stay of the run is about to end.
                Some(slot) if !slot.presence.has_ended() => (Arc::clone(slot), false),
                _ => {
                    let slot =
                        Slot { presence: call.presence.clone(), session: tokio::sync::Mutex::default() };
                    let slot = Arc::new(slot);
                    open.insert(key.clone(), Arc::clone(&slot));
                    (slot, true)
                }
            }
        };
        if is_new {
            let (open, ending) = (Arc::clone(&self.open), Arc::clone(&slot));
            self.tasks.spawn(async move {
                ending.presence.ended().await;
                {
                    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                    if open.get(&key).is_some_and(|slot| Arc::ptr_eq(slot, &ending)) {
                        open.remove(&key);
                    }
                }
                let session = ending.session.lock().await.take();
                if let Some(session) = session {
                    session.end().await;
                }
            });
        }
        let mut held = slot.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_over()) {
            return Ok(Arc::clone(session));
        }
        if let Some(broken) = held.take() {
            broken.end().await;
        }
        if call.presence.has_ended() {
            return Err(Failure::transient(UNAVAILABLE, "The run has left memory."));
        }
        let session = Arc::new(Session::begin(&self.requests, &self.tasks, server).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl Session {
    async fn begin(
        requests: &Arc<Requests>,
        tasks: &TaskTracker,
        server: &McpServer,
    ) -> Result<Session, Failure> {
        let timeout = requests.settings().attempt_timeout;
        let changed = Arc::new(AtomicBool::new(false));
        let client = Client { changed: Arc::clone(&changed) };
        let (started, way) = match &server.way {
            McpWay::Http { service, is_named } => {
                let http = HttpClient::new(requests, service, *is_named);
                let config = StreamableHttpClientTransportConfig::with_uri(service.base.shown());
                let transport = StreamableHttpClientTransport::with_client(
                    http.clone(),
                    config.reinit_on_expired_session(true),
                );
                (tokio::time::timeout(timeout, client.serve(transport)).await, Way::Http(http))
            }
            McpWay::Program(program) => {
                let mut child = start(program, &server.name)?;
                let complaints = Complaints::default();
                let listening =
                    child.stderr.take().map(|errors| tasks.spawn(listen(errors, Arc::clone(&complaints))));
                let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
                    return Err(Failure::transient(
                        UNAVAILABLE,
                        "The program of the MCP server has no pipes.",
                    ));
                };
                let transport = AsyncRwTransport::new_client(output, input);
                let started = tokio::time::timeout(timeout, client.serve(transport)).await;
                if !matches!(started, Ok(Ok(_)))
                    && let Some(listening) = listening
                {
                    // What it complained about says more than that it did not answer.
                    drop(child.start_kill());
                    drop(tokio::time::timeout(GRACE, listening).await);
                }
                (started, Way::Program { child: Mutex::new(Some(child)), complaints })
            }
        };
        let why = match started {
            Ok(Ok(running)) => {
                return Ok(Session {
                    name: Arc::clone(&server.name),
                    peer: running.peer().clone(),
                    running: Mutex::new(Some(running)),
                    way,
                    tools: Mutex::default(),
                    changed,
                    timeout,
                });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {} seconds (--attempt-timeout)", timeout.as_secs()),
        };
        Err(way.failure(
            &server.name,
            &format!("The session with the MCP server '{}' did not begin", server.name),
            &why,
        ))
    }

    /// Whether no further call can be made.
    fn is_over(&self) -> bool {
        self.peer.is_transport_closed()
    }

    /// The tools of the server.
    ///
    /// # Errors
    /// [`Failure`] when the server does not list them.
    pub(crate) async fn tools(&self) -> Result<Arc<Vec<Tool>>, Failure> {
        if !self.changed.swap(false, Ordering::AcqRel)
            && let Some(known) = &*self.tools.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return Ok(Arc::clone(known));
        }
        let mut tools: Vec<Tool> = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let page = PaginatedRequestParams::default().with_cursor(cursor.take());
            let page = self.within(self.peer.list_tools(Some(page)), "list its tools").await?;
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() >= TOOLS_MAX {
                break;
            }
        }
        if tools.len() > TOOLS_MAX || cursor.is_some() {
            let why = format!(
                "The MCP server '{}' lists more than {TOOLS_MAX} tools; use 'allowedTools' of another server.",
                self.name
            );
            return Err(Failure::lasting("McpToolsExceeded", why));
        }
        let tools = Arc::new(tools);
        *self.tools.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&tools));
        Ok(tools)
    }

    /// Calls a tool, once. `key` identifies the call to the server, which may use it to recognize a repetition.
    ///
    /// # Errors
    /// [`Failure`] when the server does not answer, or refuses the call.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call at the server, which may have acted.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: serde_json::Map<String, serde_json::Value>,
        key: &str,
    ) -> Result<CallToolResult, Failure> {
        let mut meta = MetaObject::new();
        meta.insert(IDEMPOTENCY_KEY.to_owned(), key.into());
        let mut asked = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        asked.meta = Some(RequestMetaObject(meta));
        self.within(self.peer.call_tool(asked), &format!("call its tool '{tool}'")).await
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, ServiceError>>,
        what: &str,
    ) -> Result<T, Failure> {
        let why = match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(ServiceError::McpError(error))) => {
                let message = format!(
                    "The MCP server '{}' refused to {what}: {} ({}).",
                    self.name, error.message, error.code.0
                );
                return Err(Failure::lasting("McpError", message));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let message = format!(
                    "The MCP server '{}' did not {what} within {} seconds (--attempt-timeout).",
                    self.name,
                    self.timeout.as_secs()
                );
                return Err(Failure::transient(http_status::status_code(504), message));
            }
        };
        Err(self.way.failure(&self.name, &format!("The MCP server '{}' did not {what}", self.name), &why))
    }

    /// Ends the session: a server over HTTP gets a request to delete it, and a program gets the end of its input, then is killed.
    async fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running {
            drop(running.close_with_timeout(GRACE).await);
        }
        let Way::Program { child, .. } = &self.way else { return };
        let child = child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return };
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(server = %self.name, "killing the program of an MCP server, which did not end with its session");
            drop(child.kill().await);
        }
    }
}

impl Way {
    /// The failure that kept a server from answering.
    fn failure(&self, name: &str, what: &str, why: &str) -> Failure {
        match self {
            Way::Http(http) => http
                .take_failure()
                .unwrap_or_else(|| Failure::transient(UNAVAILABLE, format!("{what}: {why}."))),
            Way::Program { complaints, .. } => {
                let said = complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let said = String::from_utf8_lossy(&said);
                let said = said.trim();
                let said = if said.is_empty() { String::new() } else { format!(" It wrote: {said}") };
                tracing::debug!(server = %name, "the program of an MCP server failed");
                Failure::transient(UNAVAILABLE, format!("{what}: {}.{said}", why.trim_end_matches('.')))
            }
        }
    }
}

/// Starts a program with nothing of this process's environment.
fn start(program: &Program, name: &str) -> Result<Child, Failure> {
    let mut command = Command::new(&program.command);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    command.spawn().map_err(|error| {
        let shown = program.command.display();
        Failure::lasting(
            UNAVAILABLE,
            format!("The program '{shown}' of the MCP server '{name}' cannot be started: {error}."),
        )
    })
}

/// Keeps the end of what a program writes to its standard error.
async fn listen(mut errors: impl AsyncRead + Unpin, complaints: Complaints) {
    let mut part = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut part).await {
        let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&part[..read]);
        let over = kept.len().saturating_sub(COMPLAINTS_MAX);
        kept.drain(..over);
    }
}
