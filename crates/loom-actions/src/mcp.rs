//! `McpClientTool` actions: a tool of an MCP server, called once. An agent offers all tools of a server to its model.
//!
//! The protocol is that of `rmcp`; its HTTP goes through this crate's requests. See `docs/decisions/0024`.

mod http;
mod session;

use std::{borrow::Cow, sync::Arc};

use loom_definition::Status;
use loom_engine::{
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Object, Value};
use rmcp::model::{CallToolResult, ContentBlock, Tool};

pub(crate) use self::session::Sessions;
use crate::{Connections, Failure, connections::McpServer, handlers::failed};

/// The type of the actions.
pub(crate) const ACTION: &str = "McpClientTool";

/// The most bytes of one message of a server.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The most bytes of an error that a tool reports.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// Calls tools of MCP servers. The inputs are `server` (a name in the section `mcpServers` of the connections file; or the URL
/// in `Connection.McpServerUrl`, as Logic Apps has it), `tool` and `arguments`; with `allowedTools`, no others are called. The outputs are `body` (the
/// structured result, or the text, or the parts of the content) and `content`.
pub(crate) struct McpHandler {
    sessions: Arc<Sessions>,
}

impl McpHandler {
    pub(crate) fn new(sessions: &Arc<Sessions>) -> McpHandler {
        McpHandler { sessions: Arc::clone(sessions) }
    }

    async fn attempt(&self, call: &Call) -> Result<Outcome, Failure> {
        let inputs = &call.inputs;
        let server = server_of(inputs, &self.sessions.requests().settings().connections)?;
        let tool = inputs.get("tool").and_then(Value::as_str).filter(|name| !name.is_empty());
        let tool =
            tool.ok_or_else(|| Failure::bad_request("The action's 'tool' must be the name of a tool."))?;
        if !is_allowed(inputs, tool)? {
            let message = format!("The tool '{tool}' is not among the 'allowedTools' of the action.");
            return Err(Failure::lasting("McpToolNotAllowed", message));
        }
        let arguments = inputs.get("arguments").filter(|arguments| !arguments.is_null());
        let arguments = match arguments {
            None => serde_json::Map::new(),
            Some(arguments) => serde_json::from_str(&arguments.to_json_text()).map_err(|_| {
                Failure::bad_request(format!("'arguments' must be an object, found {}.", arguments.kind()))
            })?,
        };
        let session = self.sessions.of(call, &server).await?;
        let result = session.call(tool, arguments, &call.idempotency_key).await?;
        Ok(outcome(tool, &result))
    }
}

impl ActionHandler for McpHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            match self.attempt(call).await {
                Ok(outcome) => EffectResult::Done { outcome, hint: RetryHint::default() },
                Err(failure) => failed(failure),
            }
        })
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        Some(server_of(inputs, &self.sessions.requests().settings().connections).ok()?.service())
    }
}

/// The server that inputs name: by `server` or a connection, an entry of the connections file; or by URL.
pub(crate) fn server_of(inputs: &Value, connections: &Connections) -> Result<McpServer, Failure> {
    let connection = inputs.get("connection");
    if let Some(url) = connection.and_then(|connection| connection.get("McpServerUrl")) {
        let url = url.as_str().ok_or_else(|| {
            Failure::bad_request(format!("'McpServerUrl' must be a string, found {}.", url.kind()))
        })?;
        let authentication = connection.and_then(|connection| connection.get("Authentication"));
        return McpServer::at(url, authentication.unwrap_or(&Value::NULL));
    }
    connections.mcp_server(named_server(inputs))
}

/// The entry of the connections file that inputs name.
pub(crate) fn named_server(inputs: &Value) -> Option<&str> {
    let references = [inputs.get("connectionReference"), inputs.get("connection"), inputs.get("host")];
    let named = references.into_iter().flatten().find_map(|reference| {
        let inner = reference.get("connection").unwrap_or(reference);
        ["referenceName", "connectionName", "name"].iter().find_map(|name| inner.get(name)?.as_str())
    });
    inputs.get("server").and_then(Value::as_str).or(named)
}

/// Whether inputs allow a tool: all, or those in `allowedTools`.
pub(crate) fn is_allowed(inputs: &Value, tool: &str) -> Result<bool, Failure> {
    let Some(allowed) = inputs.get("allowedTools").filter(|allowed| !allowed.is_null()) else {
        return Ok(true);
    };
    let allowed = allowed.as_array().ok_or_else(|| {
        Failure::bad_request(format!("'allowedTools' must be an array of names, found {}.", allowed.kind()))
    })?;
    Ok(allowed.iter().any(|name| name.as_str() == Some(tool)))
}

/// The tools of a server that inputs allow.
pub(crate) async fn tools_of(sessions: &Sessions, call: &Call, inputs: &Value) -> Result<Vec<Tool>, Failure> {
    let server = server_of(inputs, &sessions.requests().settings().connections)?;
    let all = sessions.of(call, &server).await?.tools().await?;
    let mut allowed = Vec::with_capacity(all.len());
    for tool in all.iter() {
        if is_allowed(inputs, &tool.name)? {
            allowed.push(tool.clone());
        }
    }
    Ok(allowed)
}

/// The outcome of a call that the server answered.
fn outcome(tool: &str, result: &CallToolResult) -> Outcome {
    let content = serde_json::to_string(&result.content).unwrap_or_default();
    let content = Value::from_json_str(&content).unwrap_or_default();
    let texts: Option<Vec<&str>> = result
        .content
        .iter()
        .map(|part| match part {
            ContentBlock::Text(text) => Some(text.text.as_str()),
            _ => None,
        })
        .collect();
    let text = texts.map(|texts| texts.join("\n"));
    let body = match (&result.structured_content, &text) {
        (Some(structured), _) => Value::from_json_str(&structured.to_string()).unwrap_or_default(),
        (None, Some(text)) => Value::from(text.as_str()),
        (None, None) => content.clone(),
    };
    let outputs: Object = [("body", body), ("content", content)].into_iter().collect();
    if result.is_error != Some(true) {
        return Outcome::ok(Some(outputs.into()));
    }
    let mut why = text.unwrap_or_else(|| "it reported an error".to_owned());
    why.truncate(why.floor_char_boundary(ERROR_BYTES_MAX));
    let message = format!("The tool '{tool}' failed: {why}");
    Outcome {
        status: Status::Failed,
        code: Cow::Borrowed("McpToolFailed"),
        outputs: Some(outputs.into()),
        error: Some(Arc::new(ErrorInfo::new("McpToolFailed", message))),
    }
}
