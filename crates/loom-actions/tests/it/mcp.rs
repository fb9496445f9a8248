//! Tools of MCP servers, as actions and as tools of agents: over HTTP, and with a program of this host.

use std::{path::Path, sync::Arc, time::Duration};

use loom_actions::{Connections, Egress, Settings, Sources, request_handlers, requests};
use loom_definition::{Definition, LoadOptions};
use loom_engine::{Engine, RunReport, RunRequest, clock::SystemClock};
use loom_expression::{Object, Value};
use loom_models::{Answer, Api, ToolCall, Usage};
use loom_testkit::wire::{Reply, Wire};

use crate::{
    mcp_peer::{Manners, Peer},
    support::json,
};

fn engine(file: &Value, directory: &Path, egress: Egress) -> Engine {
    let sources = Sources { directory: Some(directory.to_owned()), ..Sources::default() };
    let connections = Connections::from_json(file, &sources).unwrap();
    let settings =
        Settings { connections, egress, attempt_timeout: Duration::from_secs(20), ..Settings::default() };
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests(settings, Arc::new(SystemClock)).unwrap()) {
        builder = builder.handler(kind, handler);
    }
    builder.build()
}

/// Executes actions; the output of the run is the record of the action `name`.
async fn run_on(engine: &Engine, actions: &str, name: &str) -> Arc<RunReport> {
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": ACTIONS,
        "outputs": {"it": {"type": "object", "value": "@actions('NAME')"}}}"#
        .replace("ACTIONS", actions)
        .replace("NAME", name);
    let loaded =
        Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_or_else(|all| panic!("{all}"));
    engine.run(RunRequest::manual(loaded.workflow, Vec::new(), None)).await.unwrap().expect("the run ends")
}

async fn run(file: &str, actions: &str, name: &str) -> Arc<RunReport> {
    run_on(&engine(&json(file), Path::new("/"), Egress::default()), actions, name).await
}

fn record(report: &RunReport) -> Value {
    let outputs = report.outputs.as_ref().unwrap_or_else(|| panic!("the run failed: {:?}", report.error));
    let it = outputs.get("it").expect("the output");
    it.get("value").unwrap_or(it).clone()
}

fn output(report: &RunReport, name: &str) -> Value {
    record(report).get("outputs").and_then(|outputs| outputs.get(name)).cloned().unwrap_or_default()
}

fn message(report: &RunReport) -> String {
    let record = record(report);
    let error = record.get("error").cloned().unwrap_or_default();
    let text = |name: &str| error.get(name).map(|text| text.text().into_owned()).unwrap_or_default();
    format!("{}: {}", text("code"), text("message"))
}

fn file(model: &Wire, peer: &Peer) -> String {
    format!(
        r#"{{"models": {{"fast": {{"api": "compatible", "baseUrl": "{}", "model": "m"}}}},
            "mcpServers": {{"docs": {{"url": "{}", "headers": {{"x-tenant": "7"}}}}}}}}"#,
        model.base_url(),
        peer.url
    )
}

/// An agent with the tools of a server, and one of its own that has the name of one of them.
const AGENT: &str = r#"{"Ask": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "User", "content": "add"}]}}, "tools": {
    "docs": {"type": "McpClientTool", "kind": "BuiltIn", "inputs": {"server": "docs"}, "retryPolicy": {"type": "fixed", "interval": "PT0S", "count": 2}},
    "docs_add": {"description": "mine", "actions": {"Mine": {"type": "Compose", "inputs": "mine"}}}}}}"#;

fn body(wire: &Wire, at: usize) -> String {
    String::from_utf8(wire.asked()[at].body.clone()).unwrap()
}

fn calls(list: &[(&str, &str, &str)]) -> Answer {
    let calls = list.iter().map(|(id, name, arguments)| ToolCall::new(*id, *name, *arguments));
    Answer::calls(calls.collect::<Vec<_>>()).with_usage(Usage::new(1, 1))
}

#[tokio::test]
async fn an_agent_offers_the_tools_of_a_server_and_calls_them_as_actions() {
    for streams in [false, true] {
        let peer = Peer::start(Manners { streams, failures: 1 }).await;
        let asked = calls(&[
            ("c1", "docs_add_2", r#"{"a": 2, "b": 3}"#),
            ("c2", "docs_add", "{}"),
            ("c3", "docs_fail", "{}"),
            ("c4", "docs_add_2", r#"{"a": "x"}"#),
        ]);
        let api = Api::ChatCompletions;
        let model = Wire::start([Reply::stream(api, &asked), Reply::stream(api, &Answer::text("five"))])
            .await
            .unwrap();
        let report = run(&file(&model, &peer), AGENT, "Ask").await;
        assert_eq!(output(&report, "lastAssistantMessage"), "five".into(), "{}", message(&report));
        let (first, second) = (body(&model, 0), body(&model, 1));
        for offered in
            ["docs_add_2", "Adds two numbers", "docs_fail", "Always fails", r#""required":["a","b"]"#]
        {
            assert!(first.contains(offered), "{offered}: {first}");
        }
        for told in ["the sum is 5", "mine", "The tool 'fail' failed: no such page", "bad arguments"] {
            assert!(second.contains(told), "{told}: {second}");
        }
        // The 503 was retried by the policy of the tool, under the same key; every other call was made once.
        assert_eq!(peer.times("tools/call"), 4);
        let asked = peer.calls();
        let keys = asked.iter().map(|(call, _)| {
            call.get("_meta").and_then(|meta| meta.get("loom/idempotencyKey")).unwrap().text().into_owned()
        });
        let keys: std::collections::BTreeSet<String> = keys.collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
        assert!(peer.calls().iter().all(|(_, tenant)| tenant == "7"), "the operator's headers are sent");
        assert_eq!((peer.sessions(), peer.times("tools/list")), (1, 1), "the run has one session");
        peer.ended(1).await;
    }
}

#[tokio::test]
async fn a_session_belongs_to_one_run() {
    let peer = Peer::start(Manners::default()).await;
    let engine = engine(
        &json(&format!(r#"{{"agentMcpConnections": {{"docs": {{"mcpServerUrl": "{}"}}}}}}"#, peer.url)),
        Path::new("/"),
        Egress::default(),
    );
    let twice = r#"{"One": {"type": "McpClientTool", "inputs": {"connectionReference": {"connectionName": "docs"}, "tool": "add", "arguments": {"a": 1, "b": 1}}},
        "Two": {"type": "McpClientTool", "inputs": {"tool": "add", "arguments": {"a": "@length(body('One'))", "b": 1}}, "runAfter": {"One": ["Succeeded"]}}}"#;
    for number in 1..=2 {
        let report = run_on(&engine, twice, "Two").await;
        assert_eq!(output(&report, "body"), "the sum is 13".into(), "{}", message(&report));
        assert!(output(&report, "body").contains_untrusted());
        peer.ended(number).await;
        assert_eq!(peer.sessions(), number);
    }
}

#[tokio::test]
async fn a_url_in_a_definition_is_subject_to_the_egress_rules() {
    let peer = Peer::start(Manners::default()).await;
    let actions = r#"{"Call": {"type": "McpClientTool", "inputs": {"Connection": {"McpServerUrl": "URL", "Authentication": "None"}, "tool": "add", "arguments": {"a": 1, "b": 2}}},
        "After": {"type": "Compose", "inputs": 1, "runAfter": {"Call": ["Failed", "Succeeded"]}}}"#
        .replace("URL", &peer.url);
    let report = run("{}", &actions, "Call").await;
    assert_eq!(output(&report, "body"), "the sum is 3".into(), "{}", message(&report));
    let strict = || Egress::from_json(&json(r#"{"blockPrivate": true}"#)).unwrap();
    let report = run_on(&engine(&json("{}"), Path::new("/"), strict()), &actions, "Call").await;
    assert!(message(&report).starts_with("EgressForbidden: "), "{}", message(&report));
    assert_eq!(peer.sessions(), 1, "nothing was sent");
    // The operator's own URL is not.
    let named = actions.replace(
        &format!(r#""Connection": {{"McpServerUrl": "{}", "Authentication": "None"}}, "#, peer.url),
        "",
    );
    let file = json(&format!(r#"{{"mcpServers": {{"docs": {{"url": "{}"}}}}}}"#, peer.url));
    let report = run_on(&engine(&file, Path::new("/"), strict()), &named, "Call").await;
    assert_eq!(output(&report, "body"), "the sum is 3".into(), "{}", message(&report));
}

#[tokio::test]
async fn only_allowed_tools_are_offered_and_called() {
    let peer = Peer::start(Manners::default()).await;
    let api = Api::ChatCompletions;
    let model = Wire::start([
        Reply::stream(api, &calls(&[("c1", "docs_fail", "{}")])),
        Reply::stream(api, &Answer::text("done")),
    ])
    .await
    .unwrap();
    let agent = AGENT.replace(r#""server": "docs""#, r#""server": "docs", "allowedTools": ["add"]"#);
    let report = run(&file(&model, &peer), &agent, "Ask").await;
    assert_eq!(output(&report, "lastAssistantMessage"), "done".into(), "{}", message(&report));
    assert!(!body(&model, 0).contains("docs_fail"), "{}", body(&model, 0));
    assert!(body(&model, 1).contains("Tool not found: docs_fail"), "{}", body(&model, 1));
    assert_eq!(peer.times("tools/call"), 0);
    let direct = r#"{"Call": {"type": "McpClientTool", "inputs": {"allowedTools": ["add"], "tool": "fail"}}, "After": {"type": "Compose", "inputs": 1, "runAfter": {"Call": ["Failed"]}}}"#;
    let report = run(&file(&model, &peer), direct, "Call").await;
    assert!(message(&report).starts_with("McpToolNotAllowed: "), "{}", message(&report));
}

/// A server on standard input and output, in the language of the shell, with nothing but builtins. It says what its environment
/// is, and writes a file when its input ends.
const PROGRAM: &str = r#"while IFS= read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"where","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"tools/call"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"home=%s given=%s"}]}}\n' "$id" "${HOME-none}${CARGO-}${USER-}" "$GIVEN" ;;
  esac
done
printf ended >ended.txt
"#;

#[tokio::test]
async fn a_program_of_the_operator_serves_tools_without_the_environment_of_this_process() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("server.sh"), PROGRAM).unwrap();
    let file = r#"{"mcpServers": {"local": {"command": "/bin/sh", "args": ["server.sh"], "env": {"GIVEN": "yes"}}}}"#;
    let call = r#"{"Call": {"type": "McpClientTool", "inputs": {"tool": "where"}}}"#;
    let report = run_on(&engine(&json(file), directory.path(), Egress::default()), call, "Call").await;
    assert_eq!(output(&report, "body"), "home=none given=yes".into(), "{}", message(&report));
    let ended = async {
        while !directory.path().join("ended.txt").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the program ends with its run");
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said() {
    let failing = r#"{"Call": {"type": "McpClientTool", "inputs": INPUTS}, "After": {"type": "Compose", "inputs": 1, "runAfter": {"Call": ["Failed"]}}}"#;
    for (file, inputs, told) in [
        ("{}", r#"{"tool": "x"}"#, "names no MCP server"),
        (
            "{}",
            r#"{"server": "docs", "tool": "x"}"#,
            "The connections file has no MCP server 'docs' (it defines none)",
        ),
        // A definition cannot start a program.
        (
            "{}",
            r#"{"command": "/bin/sh", "Connection": {"command": "/bin/sh"}, "tool": "x"}"#,
            "names no MCP server",
        ),
        (r#"{"mcpServers": {"a": {}}}"#, r#"{"tool": "x"}"#, "it has neither 'url' nor 'command'"),
        (
            r#"{"mcpServers": {"a": {"command": "sh"}}}"#,
            r#"{"tool": "x"}"#,
            "must be an absolute path (got sh)",
        ),
        (r#"{"mcpServers": {"a": {"colour": "red"}}}"#, r#"{"tool": "x"}"#, "unknown property 'colour'"),
        (
            r#"{"mcpServers": {"a": {"command": "/bin/sh", "url": "http://s"}}}"#,
            r#"{"tool": "x"}"#,
            "exclude each other",
        ),
        (
            r#"{"mcpServers": {"a": {"command": "/no/such/program"}}}"#,
            r#"{"tool": "x"}"#,
            "'/no/such/program' of the MCP server 'a' cannot be started",
        ),
        (
            r#"{"mcpServers": {"a": {"command": "/bin/sh", "args": ["-c", "echo no license >&2; exit 3"]}}}"#,
            r#"{"tool": "x"}"#,
            "It wrote: no license",
        ),
        (r#"{"mcpServers": {"a": {"url": "http://127.0.0.1:9/"}}}"#, r#"{"tool": "x"}"#, "127.0.0.1:9"),
        (
            r#"{"mcpServers": {"a": {"url": "http://127.0.0.1:9/"}}}"#,
            "{}",
            "'tool' must be the name of a tool",
        ),
    ] {
        let report = run(file, &failing.replace("INPUTS", inputs), "Call").await;
        assert!(message(&report).contains(told), "{told}: {}", message(&report));
    }
}

#[tokio::test]
async fn operations_of_connections_are_tools() {
    let mock = crate::support::mock(
        r#"{"rules": [{"method": "GET", "path": "/orders/7", "response": {"body": {"state": "sent"}}}]}"#,
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let swagger = r#"{"swagger": "2.0", "host": "unused.example", "paths": {"/orders/{id}": {"get": {"operationId": "GetOrder", "summary": "Get an order", "description": "Returns its state",
        "parameters": [{"name": "id", "in": "path", "required": true, "type": "integer"}, {"name": "$view", "in": "query", "type": "string"}, {"name": "tenant", "in": "query", "required": true, "type": "string"}],
        "responses": {"200": {"description": "ok"}}}}}}"#;
    std::fs::write(directory.path().join("shop.swagger.json"), swagger).unwrap();
    let api = Api::ChatCompletions;
    let model = Wire::start([
        Reply::stream(
            api,
            &calls(&[
                ("c1", "order", r#"{"id": 7, "view": "short", "tenant": "other"}"#),
                ("c2", "order", r#"{"view": "x"}"#),
            ]),
        ),
        Reply::stream(api, &Answer::text("sent")),
    ])
    .await
    .unwrap();
    let mut file: Object = json(&format!(
        r#"{{"models": {{"fast": {{"api": "compatible", "baseUrl": "{}", "model": "m"}}}},
            "connections": {{"shop": {{"description": "shop.swagger.json", "baseUrl": "{}"}}}}}}"#,
        model.base_url(),
        mock.base_url()
    ))
    .into_object()
    .unwrap();
    file.insert("functions", Object::new());
    let agent = r#"{"Ask": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "User", "content": "where is 7?"}]}}, "tools": {
        "order": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shop", "operationId": "GetOrder"}, "parameters": {"tenant": "@concat('t', 1)"}}}}}}"#;
    let report = run_on(&engine(&file.into(), directory.path(), Egress::default()), agent, "Ask").await;
    assert_eq!(output(&report, "lastAssistantMessage"), "sent".into(), "{}", message(&report));
    let (first, second) = (body(&model, 0), body(&model, 1));
    assert!(first.contains("Get an order. Returns its state"), "{first}");
    assert!(first.contains(r#""view""#) && !first.contains("$view") && !first.contains("tenant"), "{first}");
    assert!(second.contains("sent") && second.contains("id"), "{second}");
    let asked = mock.requests();
    assert_eq!(asked.len(), 1, "arguments that the description refuses are not sent");
    let query = &asked[0].query;
    assert!(
        query.contains("view=short") && query.contains("tenant=t1"),
        "the definition's own parameters win: {query}"
    );
}

/// A chat in which Alice has the tools of a server and hands over to Bob, who has others of it.
const CHAT: &str = r#"{"Ask": {"type": "GroupChat", "inputs": {"initialMessage": "add", "mode": "handoff", "participants": {
    "Alice": {"agent": {"modelId": "fast", "messages": [{"role": "System", "content": "You are Alice."}], "handoffs": ["Bob"],
        "tools": {"docs": {"type": "McpClientTool", "inputs": {"server": "docs", "allowedTools": ["add"]}}}}},
    "Bob": {"description": "fails", "agent": {"modelId": "fast", "messages": [{"role": "System", "content": "You are Bob."}],
        "tools": {"books": {"type": "McpClientTool", "inputs": {"server": "docs", "allowedTools": ["fail"]}}}}}} MORE}}}"#;

#[tokio::test]
async fn participants_of_a_chat_have_the_tools_of_servers_each_their_own() {
    let peer = Peer::start(Manners::default()).await;
    let api = Api::ChatCompletions;
    let answers = [
        calls(&[("c1", "docs_add", r#"{"a": 2, "b": 3}"#), ("c2", "books_fail", "{}")]),
        calls(&[("h", "transfer_to_Bob", "{}")]),
        calls(&[("c1", "books_fail", "{}"), ("c2", "docs_add", r#"{"a": 1, "b": 1}"#)]),
        Answer::text("it failed"),
    ];
    let model = Wire::start(answers.map(|answer| Reply::stream(api, &answer))).await.unwrap();
    let report = run(&file(&model, &peer), &CHAT.replace("MORE", ""), "Ask").await;
    assert_eq!(output(&report, "stopReason"), "answered".into(), "{}", message(&report));
    let (alice, bob) = (body(&model, 0), body(&model, 2));
    assert!(alice.contains("docs_add") && !alice.contains("books_fail"), "{alice}");
    assert!(
        bob.contains("You are Bob.") && bob.contains("books_fail") && !bob.contains(r#""name":"docs_add""#),
        "{bob}"
    );
    let told = body(&model, 1);
    assert!(told.contains("the sum is 5") && told.contains("Tool not found: books_fail"), "{told}");
    let told = body(&model, 3);
    assert!(told.contains("no such page") && told.contains("Tool not found: docs_add"), "{told}");
    assert_eq!(peer.times("tools/call"), 2, "nobody calls the tool of another");
    assert_eq!(peer.sessions(), 1, "the run has one session");
    let ends = |tool: &str| {
        let ends = CHAT.replace("MORE", &format!(r#", "termination": [{{"toolCalled": "{tool}"}}]"#));
        Definition::parse(format!(r#"{{"actions": {ends}}}"#).as_bytes(), &LoadOptions::default()).is_ok()
    };
    assert_eq!((ends("books_fail"), ends("shelf_fail")), (true, false));
}

#[tokio::test]
async fn an_agent_that_is_handed_to_and_one_in_a_tool_have_the_tools_of_servers() {
    let peer = Peer::start(Manners::default()).await;
    let api = Api::ChatCompletions;
    let agents = r#"{
        "Desk": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "System", "content": "desk"}, {"role": "User", "content": "add"}]}},
            "tools": {"to_ask": {"description": "hands over", "actions": {"Hand": {"type": "AgentHandoff", "inputs": {"name": "Ask"}}}}}},
        "Ask": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "System", "content": "asks"}]}},
            "tools": {"clerk": {"description": "a clerk", "actions": {
                "Clerk": {"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "User", "content": "two and three"}]}},
                    "tools": {"inner": {"type": "McpClientTool", "inputs": {"server": "docs"}}}}}},
                "outer": {"type": "McpClientTool", "inputs": {"server": "docs"}}}}}"#;
    let answers = [
        calls(&[("h", "to_ask", "{}")]),
        calls(&[("c", "clerk", "{}")]),
        calls(&[("i", "inner_add", r#"{"a": 2, "b": 3}"#)]),
        Answer::text("the clerk says 5"),
        calls(&[("o", "outer_add", r#"{"a": 5, "b": 5}"#)]),
        Answer::text("ten"),
    ];
    let model = Wire::start(answers.map(|answer| Reply::stream(api, &answer))).await.unwrap();
    let report = run(&file(&model, &peer), agents, "Ask").await;
    assert_eq!(output(&report, "lastAssistantMessage"), "ten".into(), "{}", message(&report));
    assert!(body(&model, 3).contains("the sum is 5") && body(&model, 5).contains("the sum is 10"));
    assert!(body(&model, 4).contains("the clerk says 5"), "{}", body(&model, 4));
    assert_eq!((peer.times("tools/call"), peer.sessions()), (2, 1));
}
