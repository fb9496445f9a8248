//! Workflows as tools over MCP, for the client of `rmcp`: over `/mcp`, and on a pair of byte streams.

use std::sync::{Arc, Mutex};

use loom_actions::{Connections, Sources};
use loom_expression::Value;
use loom_server::{Server, ServerSettings};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResult, CancelledNotificationParam, ClientRequest,
        ProgressNotificationParam, RequestMetaObject, Tool,
    },
    service::{NotificationContext, RunningService},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Plan, World, json, list, text};

/// What was reported: how much of how much, and a message.
type Progress = (f64, Option<f64>, Option<String>);

/// A client that notes what it receives.
#[derive(Clone, Default)]
struct Client {
    progress: Arc<Mutex<Vec<Progress>>>,
    changed: Arc<Notify>,
}

impl ClientHandler for Client {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push((progress.progress, progress.total, progress.message));
    }
}

type Session = RunningService<RoleClient, Client>;

/// A session on byte streams.
async fn session(world: &World) -> (Session, Client) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(theirs);
    let mcp = Server::new(Arc::clone(&world.host), ServerSettings::default()).mcp();
    #[expect(clippy::disallowed_methods, reason = "it ends with the session")]
    tokio::spawn(async move { mcp.serve(reader, writer, CancellationToken::new()).await });
    let client = Client::default();
    (client.clone().serve(ours).await.unwrap(), client)
}

fn workflow(trigger: &str, actions: &str) -> String {
    format!(
        r#"{{"definition": {{"description": "Adds two numbers.", "triggers": {{"manual": {{"type": "Request", {trigger}}}}}, "actions": {actions}}}}}"#
    )
}

const NUMBERS: &str = r#""inputs": {"schema": {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}"#;

const ADD: &str = r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": {"sum": "@add(triggerBody()['a'], triggerBody()['b'])"}}}}"#;

fn params(name: &str, arguments: &str) -> CallToolRequestParams {
    let mut params = CallToolRequestParams::new(name.to_owned());
    params.arguments = serde_json::from_str(arguments).unwrap();
    params
}

fn with_meta(mut params: CallToolRequestParams, meta: &str) -> CallToolRequestParams {
    let meta: RequestMetaObject = serde_json::from_str(meta).unwrap();
    params.meta = Some(meta);
    params
}

fn said(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|part| part.as_text()).map(|text| text.text.as_str()).collect()
}

fn run_of(result: &CallToolResult) -> String {
    result.meta.as_ref().unwrap().0["loom/runId"].as_str().unwrap().to_owned()
}

fn schema(tool: &Tool) -> Value {
    json(&serde_json::to_string(&tool.input_schema).unwrap())
}

async fn tool(session: &Session, name: &str) -> Tool {
    let all = session.list_all_tools().await.unwrap();
    all.into_iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("there is no tool {name}"))
}

async fn count(world: &World) -> usize {
    list(&world.get("/api/v1/runs").await.json(), "runs").len()
}

#[tokio::test]
async fn a_workflow_is_a_tool_with_the_schema_of_its_trigger_and_a_call_is_a_run() {
    let world = World::new().await;
    world.deploy("add", &workflow(NUMBERS, ADD)).await;
    let (session, _) = session(&world).await;
    let tool = tool(&session, "add").await;
    assert_eq!(tool.description.as_deref(), Some("Adds two numbers."));
    assert_eq!(schema(&tool).get("required"), Some(&json(r#"["a", "b"]"#)));
    let result = session.call_tool(params("add", r#"{"a": 3, "b": 4}"#)).await.unwrap();
    assert_eq!(result.structured_content, Some(serde_json::json!({"sum": 7})));
    assert_eq!((said(&result).as_str(), result.is_error), (r#"{"sum":7}"#, Some(false)));
    let run = world.get(&format!("/api/v1/runs/{}", run_of(&result))).await.json();
    assert_eq!((text(&run, "workflow"), text(&run, "status")), ("add", "Succeeded"));
}

#[tokio::test]
async fn bad_arguments_start_no_run_and_say_what_is_expected() {
    let world = World::new().await;
    world.deploy("add", &workflow(NUMBERS, ADD)).await;
    let (session, _) = session(&world).await;
    for arguments in [r#"{"a": 1}"#, r#"{"a": 1, "b": "two"}"#, "{}"] {
        let result = session.call_tool(params("add", arguments)).await.unwrap();
        assert_eq!(result.is_error, Some(true), "{arguments}");
        assert!(said(&result).contains("do not match its schema; no run was started"), "{}", said(&result));
        assert!(said(&result).contains(r#""required":["a","b"]"#), "{}", said(&result));
    }
    let unknown = session.call_tool(params("sub", "{}")).await.unwrap_err();
    assert!(unknown.to_string().contains("there is no tool 'sub'"), "{unknown}");
    let bad = with_meta(params("add", r#"{"a": 1, "b": 2}"#), r#"{"loom/idempotencyKey": 7}"#);
    assert!(session.call_tool(bad).await.is_err(), "a key is a string");
    assert_eq!(count(&world).await, 0);
}

#[tokio::test]
async fn schemas_that_are_not_of_objects_paths_queries_and_chats_become_objects() {
    let world = World::new().await;
    let echo = r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": {
        "body": "@triggerBody()", "queries": "@triggerOutputs()?['queries']", "path": "@triggerOutputs()?['relativePathParameters']"}}}}"#;
    let deployments = [
        ("listed", r#""inputs": {"schema": {"type": "array", "items": {"type": "string"}}}"#),
        (
            "path",
            r#""inputs": {"relativePath": "orders/{id}", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}"#,
        ),
        ("query", r#""inputs": {"method": "GET"}"#),
        ("chat", r#""kind": "Agent""#),
        ("any thing", r#""kind": "Http""#),
    ];
    for (name, trigger) in deployments {
        world.deploy(name, &workflow(trigger, echo)).await;
    }
    let (session, _) = session(&world).await;
    for (name, arguments, wants) in [
        ("listed", r#"{"body": ["x"]}"#, r#"{"body": ["x"], "queries": null, "path": null}"#),
        ("path", r#"{"id": "7/8", "n": 1}"#, r#"{"body": {"n": 1}, "queries": null, "path": {"id": "7/8"}}"#),
        (
            "query",
            r#"{"q": "a", "n": 2}"#,
            r#"{"body": null, "queries": {"q": "a", "n": "2"}, "path": null}"#,
        ),
        ("chat", r#"{"message": "Hi"}"#, r#"{"body": {"message": "Hi"}, "queries": null, "path": null}"#),
        ("any_thing", r#"{"x": 1}"#, r#"{"body": {"x": 1}, "queries": null, "path": null}"#),
    ] {
        let result = session.call_tool(params(name, arguments)).await.unwrap();
        let wants: serde_json::Value = serde_json::from_str(wants).unwrap();
        assert_eq!(result.structured_content, Some(wants), "{name}");
    }
    let wrong = session.call_tool(params("listed", r#"{"body": [1]}"#)).await.unwrap();
    assert_eq!(wrong.is_error, Some(true));
    let missing = session.call_tool(params("path", r#"{"n": 1}"#)).await.unwrap();
    assert!(said(&missing).contains("id"), "{}", said(&missing));
}

#[tokio::test]
async fn failures_are_results_that_name_their_run() {
    let world = World::new().await;
    let failing = r#"{"Fail": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "X", "message": "It broke."}}}}"#;
    let refusing = r#"{"No": {"type": "Response", "inputs": {"statusCode": 404, "body": "no such order"}}}"#;
    world.deploy("failing", &workflow(r#""kind": "Http""#, failing)).await;
    world.deploy("refusing", &workflow(r#""kind": "Http""#, refusing)).await;
    let (session, _) = session(&world).await;
    for (name, says) in [("failing", "It broke."), ("refusing", "404: no such order")] {
        let result = session.call_tool(params(name, "{}")).await.unwrap();
        assert_eq!(result.is_error, Some(true));
        assert!(said(&result).contains(says), "{}", said(&result));
        assert_eq!(world.get(&format!("/api/v1/runs/{}", run_of(&result))).await.status, 200);
    }
}

#[tokio::test]
async fn a_workflow_without_a_response_returns_its_outputs_or_its_last_message() {
    let mut plan = Plan::default();
    let models = r#"{"models": {"m": {"api": "scripted", "replies": [{"text": "Hello."}]}}}"#;
    plan.requests.connections = Connections::from_json(&json(models), &Sources::default()).unwrap();
    let world = World::start(plan).await;
    let outputs = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {},
        "outputs": {"n": {"type": "int", "value": 5}, "s": {"type": "string", "value": "x"}}}}"#;
    world.deploy("outputs", outputs).await;
    let says = r#"{"Ask": {"type": "AI", "inputs": {"model": "m", "prompt": "greet"}}}"#;
    world.deploy("says", &workflow(r#""kind": "Http""#, says)).await;
    world.deploy("nothing", &workflow(r#""kind": "Http""#, "{}")).await;
    let (session, _) = session(&world).await;
    let result = session.call_tool(params("outputs", "{}")).await.unwrap();
    assert_eq!(result.structured_content, Some(serde_json::json!({"n": 5, "s": "x"})));
    assert_eq!(said(&session.call_tool(params("says", "{}")).await.unwrap()), "Hello.");
    assert_eq!(said(&session.call_tool(params("nothing", "{}")).await.unwrap()), "The run has succeeded.");
}

#[tokio::test]
async fn a_call_with_a_key_starts_one_run_and_a_repetition_gets_its_result() {
    let world = World::new().await;
    let random =
        r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": {"id": "@guid()"}}}}"#;
    world.deploy("draw", &workflow(r#""kind": "Http""#, random)).await;
    let (session, _) = session(&world).await;
    let keyed = |arguments: &str| with_meta(params("draw", arguments), r#"{"loom/idempotencyKey": "k-1"}"#);
    let (first, second) = tokio::join!(session.call_tool(keyed("{}")), session.call_tool(keyed("{}")));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.structured_content, second.structured_content);
    assert_eq!(run_of(&first), run_of(&second));
    let other = session.call_tool(keyed(r#"{"x": 1}"#)).await.unwrap();
    assert_eq!(other.is_error, Some(true), "the same key with other arguments");
    assert_eq!(count(&world).await, 1);
    // The control: without a key, a call starts a run.
    let free = session.call_tool(params("draw", "{}")).await.unwrap();
    assert_ne!(free.structured_content, first.structured_content);
}

#[tokio::test]
async fn the_progress_of_a_run_reaches_the_client() {
    let world = World::new().await;
    let emits = r#"{
        "Half": {"type": "Emit", "inputs": {"progress": {"current": 1, "total": 2, "message": "half"}}},
        "Whole": {"type": "Emit", "runAfter": {"Half": ["Succeeded"]}, "inputs": {"progress": {"current": 2, "total": 2}}},
        "Answer": {"type": "Response", "runAfter": {"Whole": ["Succeeded"]}, "inputs": {"statusCode": 200, "body": "done"}}}"#;
    world.deploy("slow", &workflow(r#""kind": "Http""#, emits)).await;
    let (session, client) = session(&world).await;
    let call = with_meta(params("slow", "{}"), r#"{"progressToken": "p"}"#);
    session.call_tool(call).await.unwrap();
    let shown = client.progress.lock().unwrap().clone();
    assert_eq!(shown, [(1.0, Some(2.0), Some("half".to_owned())), (2.0, Some(2.0), None)]);
}

#[tokio::test]
async fn the_client_learns_that_the_list_has_changed() {
    let world = World::new().await;
    world.deploy("add", &workflow(NUMBERS, ADD)).await;
    let (session, client) = session(&world).await;
    assert_eq!(session.list_all_tools().await.unwrap().len(), 1);
    world.deploy("more", &workflow(r#""kind": "Http""#, ADD)).await;
    client.changed.notified().await;
    assert_eq!(session.list_all_tools().await.unwrap().len(), 2);
    assert_eq!(world.post("/api/v1/workflows/add/disable", "{}").await.status, 200);
    client.changed.notified().await;
    let names: Vec<String> =
        session.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    assert_eq!(names, ["more"]);
    let gone = session.call_tool(params("add", r#"{"a": 1, "b": 2}"#)).await;
    assert!(gone.is_err(), "a disabled workflow is no tool");
}

/// Waits for a signal before it responds.
const WAITS: &str = r#"{"Wait": {"type": "WaitForSignal", "inputs": {"name": "go"}},
    "Answer": {"type": "Response", "runAfter": {"Wait": ["Succeeded"]}, "inputs": {"statusCode": 200, "body": "gone"}}}"#;

async fn cancelled(meta: &str) -> (World, String, Session) {
    let world = World::new().await;
    world.deploy("waits", &workflow(r#""kind": "Http""#, WAITS)).await;
    let (session, _) = session(&world).await;
    let call = with_meta(params("waits", "{}"), meta);
    let request = ClientRequest::CallToolRequest(rmcp::model::CallToolRequest::new(call));
    let handle = session
        .send_cancellable_request(request, rmcp::service::PeerRequestOptions::no_options())
        .await
        .unwrap();
    let run = loop {
        let runs = world.get("/api/v1/runs").await.json();
        if let [run] = list(&runs, "runs") {
            break text(run, "id").to_owned();
        }
        tokio::task::yield_now().await;
    };
    let id = handle.id.clone();
    session
        .notify_cancelled(CancelledNotificationParam::new(Some(id), Some("timed out".into())))
        .await
        .unwrap();
    (world, run, session)
}

#[tokio::test]
async fn a_cancelled_call_leaves_its_run_alone_and_its_key_gets_the_result() {
    let (world, run, session) = cancelled(r#"{"loom/idempotencyKey": "k"}"#).await;
    // The session still works, so the notification was handled.
    session.list_all_tools().await.unwrap();
    assert_eq!(text(&world.get(&format!("/api/v1/runs/{run}")).await.json(), "status"), "Running");
    assert_eq!(world.post(&format!("/api/v1/runs/{run}/signals/go"), "").await.status, 202);
    let again = with_meta(params("waits", "{}"), r#"{"loom/idempotencyKey": "k"}"#);
    let result = session.call_tool(again).await.unwrap();
    assert_eq!((said(&result).as_str(), run_of(&result)), ("gone", run));
}

#[tokio::test]
async fn a_cancelled_call_cancels_its_run_if_the_client_has_said_so() {
    let (world, run, _session) = cancelled(r#"{"loom/onCancel": "cancel"}"#).await;
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Cancelled");
}

#[tokio::test]
async fn the_route_speaks_the_protocol_with_and_without_a_session_and_wants_the_token() {
    let mut plan = Plan::default();
    plan.settings.token = Some("0123456789abcdef".into());
    let world = World::start(plan).await;
    world.deploy("add", &workflow(NUMBERS, ADD)).await;
    let accept = ("accept", "application/json, text/event-stream");
    let kind = ("content-type", "application/json");
    let initialize = r#"{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}"#;
    for method in [hyper::Method::GET, hyper::Method::POST, hyper::Method::DELETE] {
        let denied = world.send(method.clone(), "/mcp", &[accept, kind], initialize).await.whole().await;
        assert_eq!(denied.status, 401, "{method}");
    }
    let token = ("authorization", "Bearer 0123456789abcdef");
    let foreign = ("origin", "http://evil.example");
    let denied = world.send(hyper::Method::POST, "/mcp", &[accept, kind, token, foreign], initialize).await;
    assert_eq!(denied.whole().await.status, 403);
    let begun =
        world.send(hyper::Method::POST, "/mcp", &[accept, kind, token], initialize).await.whole().await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let session = begun.header("mcp-session-id").expect("a session").to_owned();
    assert!(begun.text().contains(r#""listChanged":true"#), "{}", begun.text());
    let version = ("mcp-protocol-version", "2025-06-18");
    let headers = [accept, kind, token, version, ("mcp-session-id", session.as_str())];
    let ready = r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#;
    assert_eq!(world.send(hyper::Method::POST, "/mcp", &headers, ready).await.whole().await.status, 202);
    let call = r#"{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}"#;
    let called = world.send(hyper::Method::POST, "/mcp", &headers, call).await.whole().await;
    assert!(called.text().contains(r#""structuredContent":{"sum":3}"#), "{}", called.text());
    let ended = world.send(hyper::Method::DELETE, "/mcp", &headers, "").await.whole().await;
    assert!(matches!(ended.status, 200..300), "{}", ended.status);
    let lost = world.send(hyper::Method::POST, "/mcp", &headers, call).await.whole().await;
    assert_eq!(lost.status, 404, "{}", lost.text());
    // The revision without sessions.
    let meta = r#"{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}}"#;
    let alone = format!(
        r#"{{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {{"name": "add", "arguments": {{"a": 2, "b": 2}}, "_meta": {meta}}}}}"#
    );
    let headers = [
        accept,
        kind,
        token,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "add"),
    ];
    let called = world.send(hyper::Method::POST, "/mcp", &headers, alone).await.whole().await;
    assert!(
        called.text().contains(r#""structuredContent":{"sum":4}"#),
        "{}: {}",
        called.status,
        called.text()
    );
}
