//! Workflows as tools over the Model Context Protocol: the same handler for `/mcp` and for standard input and output.
//!
//! The protocol is that of `rmcp`. See `docs/decisions/0025`.

mod call;
pub(crate) mod http;
mod tools;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_engine::{Command, RunId};
use rmcp::{
    RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CancelledNotificationParam, ErrorData, Implementation,
        ListToolsResult, PaginatedRequestParams, RequestId, ServerCapabilities, ServerConfig,
        SubscriptionFilter, Tool,
    },
    service::{NotificationContext, RequestContext, ServerInitializeError, SubscriptionContext},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{host::Host, shared::Shared};

/// What the server says of itself to a client.
const INSTRUCTIONS: &str = "Each tool runs a workflow. Runs are durable: a call that is interrupted does not stop its run. A result \
                            names its run in `_meta[\"loom/runId\"]`.";

/// How often a client's connection is looked at while the list of tools does not change.
const LOOK: Duration = Duration::from_secs(30);

/// The workflows of a [`Server`](crate::Server) as tools, for a transport of two byte streams. Shared by reference count.
#[derive(Clone, Debug)]
pub struct Mcp(Shared);

/// A client that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak with the MCP client: {0}")]
pub struct McpError(String);

impl Mcp {
    pub(crate) fn new(shared: Shared) -> Mcp {
        Mcp(shared)
    }

    /// Serves one client: a JSON message a line, in both directions. Returns when the client has closed its side, or `stop` is
    /// cancelled.
    ///
    /// # Errors
    /// The client does not begin as the protocol says.
    ///
    /// # Cancel safety
    /// Dropping the future ends the session; runs continue.
    pub async fn serve<R, W>(&self, reader: R, writer: W, stop: CancellationToken) -> Result<(), McpError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let tools = Tools::new(self.0.clone());
        let service = tokio::select! {
            begun = tools.serve((reader, writer)) => match begun {
                Ok(service) => service,
                // A client that leaves at once.
                Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
                Err(error) => return Err(McpError(error.to_string())),
            },
            () = stop.cancelled() => return Ok(()),
        };
        let cancel = service.cancellation_token();
        tokio::select! {
            ended = service.waiting() => drop(ended),
            () = stop.cancelled() => cancel.cancel(),
        }
        Ok(())
    }
}

/// The workflows of a server, as tools for one session.
#[derive(Debug)]
pub(crate) struct Tools {
    shared: Shared,
    /// The runs to cancel with their call, by the call's request.
    cancels: Arc<Mutex<HashMap<RequestId, RunId>>>,
}

impl Tools {
    pub(crate) fn new(shared: Shared) -> Tools {
        Tools { shared, cancels: Arc::default() }
    }

    fn host(&self) -> &Arc<Host> {
        &self.shared.host
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("loom", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all(self.host())))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(self.host(), name).map(|offered| offered.tool)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(offered) = tools::find(self.host(), &request.name) else {
            let message = format!(
                "there is no tool '{}'; a workflow is one if it is enabled and has a Request trigger",
                request.name
            );
            return Err(ErrorData::invalid_params(message, None));
        };
        Box::pin(self.call(&offered, request, &context)).await.map(CallToolResponse::from)
    }

    async fn on_cancelled(&self, cancelled: CancelledNotificationParam, _: NotificationContext<RoleServer>) {
        let run = cancelled
            .request_id
            .and_then(|request| self.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&request));
        if let Some(run) = run {
            self.host().command(run, Command::Cancel).await;
        }
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (host, peer) = (Arc::clone(self.host()), context.peer);
        let mut list = List::new(&host);
        self.host().tasks.spawn(async move {
            while !peer.is_transport_closed() {
                match tokio::time::timeout(LOOK, list.changed(&host)).await {
                    Ok(false) => return,
                    Ok(true) if peer.notify_tool_list_changed().await.is_err() => return,
                    Ok(true) | Err(_) => {}
                }
            }
        });
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = SubscriptionFilter::new();
        accepted.tools_list_changed = requested.tools_list_changed;
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut list = List::new(self.host());
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                changed = list.changed(self.host()) => {
                    if !changed || context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The list of tools as a client knows it.
struct List {
    known: Vec<Tool>,
    changes: watch::Receiver<u64>,
}

impl List {
    fn new(host: &Host) -> List {
        let changes = host.deployments.changes();
        List { known: tools::all(host), changes }
    }

    /// Waits until the list differs from what was known. False when the host is stopping.
    async fn changed(&mut self, host: &Host) -> bool {
        loop {
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    return false;
                },
                () = host.stopping.cancelled() => return false,
            }
            let now = tools::all(host);
            if now != self.known {
                self.known = now;
                return true;
            }
        }
    }
}
