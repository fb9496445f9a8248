//! A call of an MCP server's tool that is in flight when the real binary is killed: `onUncertain` decides whether it is made again.
//!
//! The service is the model and the MCP server. It never answers the first call of the tool, which the kill interrupts.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    ffi::OsString,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{Loom, Reply, Request, Service, pause};

/// Longer than the test.
const NEVER: Duration = Duration::from_mins(10);

/// The answer of the model: it pays once, and repeats what it reads of the result.
fn model(request: &Value) -> Value {
    let messages = request["messages"].as_array().unwrap();
    let result = messages.iter().find(|message| message["role"] == "tool");
    let (message, reason) = match result {
        None => {
            let call = json!({"id": "p", "type": "function", "function": {"name": "bank_pay", "arguments": r#"{"amount": 7}"#}});
            (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
        }
        Some(result) => (json!({"role": "assistant", "content": result["content"]}), "stop"),
    };
    json!({
        "id": "x", "model": "m-1", "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    })
}

/// The bank: the keys of the payments that it was asked for, in order.
#[derive(Default)]
struct Bank {
    keys: Mutex<Vec<String>>,
}

impl Bank {
    fn paid(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }

    /// Serves MCP over HTTP, without sessions.
    fn serve(&self, request: &Request, in_flight: &mpsc::Sender<()>) -> Reply {
        let Ok(asked) = serde_json::from_str::<Value>(&request.body) else { return (405, Value::Null) };
        let done = |result: Value| (200, json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}));
        match asked["method"].as_str().unwrap_or_default() {
            "initialize" => done(json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "bank", "version": "1"},
            })),
            "tools/list" => done(json!({"tools": [{"name": "pay", "inputSchema": {"type": "object"}}]})),
            "tools/call" => {
                let key = &asked["params"]["_meta"]["loom/idempotencyKey"];
                let first = {
                    let mut keys = self.keys.lock().unwrap();
                    keys.push(key.as_str().expect("calls carry a key").to_owned());
                    keys.len() == 1
                };
                if first {
                    in_flight.send(()).unwrap();
                    pause(NEVER);
                }
                done(json!({"content": [{"type": "text", "text": "paid"}]}))
            }
            _ => (202, Value::Null),
        }
    }
}

/// A run that was killed while it paid, and the process after that.
struct Killed {
    bank: Arc<Bank>,
    loom: Loom,
    run: String,
    _directory: tempfile::TempDir,
}

/// Starts a run with this `onUncertain` of the tool, kills the process while the payment is in flight, and starts another.
fn killed_while_paying(on_uncertain: &str) -> Killed {
    let bank = Arc::<Bank>::default();
    let (sender, in_flight) = mpsc::channel();
    let sender = Mutex::new(sender);
    let service = Service::start({
        let bank = Arc::clone(&bank);
        move |request| {
            if request.path.ends_with("/chat/completions") {
                return (200, model(&serde_json::from_str(&request.body).unwrap()));
            }
            let sender = sender.lock().unwrap().clone();
            bank.serve(&request, &sender)
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut tool = json!({"type": "McpClientTool", "inputs": {"server": "bank"}});
    if !on_uncertain.is_empty() {
        tool["onUncertain"] = on_uncertain.into();
    }
    let messages = json!([{"role": "User", "content": "Pay 7."}]);
    let definition = json!({
        "triggers": {"manual": {"type": "Request"}},
        "actions": {"Pay": {"type": "Agent", "inputs": {"parameters": {"messages": messages}}, "tools": {"bank": tool}}},
        "outputs": {"said": {"type": "String", "value": "@outputs('Pay')?['lastAssistantMessage']"}},
    });
    let connections = json!({
        "models": {"m": {"api": "compatible", "baseUrl": format!("{}/v1", service.address), "model": "m-1"}},
        "mcpServers": {"bank": {"url": format!("{}/mcp", service.address)}},
    });
    std::fs::create_dir(path("workflows")).unwrap();
    std::fs::write(path("workflows/pay.json"), definition.to_string()).unwrap();
    std::fs::write(path("connections.json"), connections.to_string()).unwrap();
    let start = |root: &Path| {
        let file = |name: &str| root.join(name).into_os_string();
        let names = [
            "--workflows".into(),
            file("workflows"),
            "--data".into(),
            file("data"),
            "--connections".into(),
            file("connections.json"),
        ];
        Loom::serve(&names.each_ref().map(|name: &OsString| name.as_os_str()))
    };
    let first = start(directory.path());
    let accepted = first.request("POST", "/workflows/pay/triggers/manual/invoke", b"{}").unwrap();
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let run = accepted.header("x-ms-workflow-run-id").unwrap();
    in_flight.recv_timeout(Duration::from_mins(1)).expect("the payment is made");
    first.kill();
    let loom = start(directory.path());
    Killed { bank, loom, run, _directory: directory }
}

impl Killed {
    fn said(&self) -> String {
        let run = self.loom.get(&format!("/api/v1/runs/{}", self.run));
        let said = &run["outputs"]["said"];
        let said = if said["value"].is_string() { &said["value"] } else { said };
        said.as_str().unwrap_or_else(|| panic!("the run says nothing: {run}")).to_owned()
    }
}

/// The control of the tests below: without the setting, the call that was in flight is made again, under its key.
#[test]
fn a_payment_in_flight_at_a_kill_is_repeated_under_its_key() {
    let killed = killed_while_paying("");
    assert_eq!(killed.loom.end_of(&killed.run), "Succeeded");
    let paid = killed.bank.paid();
    assert_eq!((paid.len(), &paid[0]), (2, &paid[1]));
    assert_eq!(killed.said(), "paid");
}

#[test]
fn a_payment_that_fails_when_uncertain_is_not_made_a_second_time() {
    let killed = killed_while_paying("fail");
    assert_eq!(killed.loom.end_of(&killed.run), "Succeeded", "the model reads that the tool has failed");
    assert_eq!(killed.bank.paid().len(), 1);
    assert!(killed.said().contains("it is unknown whether it took effect"), "{}", killed.said());
}

#[test]
fn a_payment_that_asks_when_uncertain_waits_for_an_operator() {
    let killed = killed_while_paying("ask");
    let path = format!("/api/v1/runs/{}", killed.run);
    killed.loom.until(&path, |answer| answer.body.contains(r#""status":"Suspended""#));
    assert_eq!(killed.bank.paid().len(), 1);
    let resumed = killed.loom.request("POST", &format!("{path}/resume"), b"{}").unwrap();
    assert_eq!(resumed.status, 200, "{resumed:?}");
    assert_eq!(killed.loom.end_of(&killed.run), "Succeeded");
    // The operator has decided to pay again.
    let paid = killed.bank.paid();
    assert_eq!((paid.len(), &paid[0]), (2, &paid[1]));
}
