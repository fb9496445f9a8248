//! `loom mcp` on standard input and output, and `loom chat` with lines from a pipe and in a terminal.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{Loom, pause};

const ADD: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request", "inputs": {"schema": {"type": "object",
    "required": ["a"], "properties": {"a": {"type": "integer"}}}}}}, "actions": {
    "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": {"id": "@guid()", "sum": "@add(triggerBody()['a'], 1)"}}}}}}"#;

/// Waits for a signal, and for nothing else.
const WAITS: &str = r#"{"definition": {"triggers": {"chat": {"type": "Request", "kind": "Agent"}}, "actions": {
    "Wait": {"type": "WaitForSignal", "inputs": {"name": "go"}}}}}"#;

/// An agent that asks before it refunds.
const REFUNDS: &str = r#"{"definition": {"triggers": {"chat": {"type": "Request", "kind": "Agent"}}, "actions": {
    "Ask": {"type": "Agent", "inputs": {"parameters": {"modelId": "m", "messages": [{"role": "User", "content": "@triggerBody()['message']"}]}},
        "tools": {"refund": {"description": "refunds", "approval": {"message": "Refund?"},
            "actions": {"Pay": {"type": "Compose", "inputs": "refunded"}}}}}}}}"#;

const MODELS: &str = r#"{"models": {"m": {"api": "scripted", "replies": [
    {"when": {"last": "refunded"}, "text": "It is refunded."},
    {"when": {"last": "refund it"}, "text": "I refund.", "toolCalls": [{"name": "refund", "arguments": {}}]},
    {"when": {"last": "not approved"}, "text": "There is no refund."},
    {"when": {"system": "You are Ann"}, "text": "Ann agrees."},
    {"when": {"system": "You are Ben"}, "text": "Ben objects."},
    {"when": {"any": ""}, "text": "Hello to you."}]}}}"#;

struct Files(tempfile::TempDir);

impl Files {
    fn new(workflow: &str, text: &str) -> Files {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("workflows")).unwrap();
        std::fs::write(directory.path().join("workflows").join(workflow), text).unwrap();
        std::fs::write(directory.path().join("connections.json"), MODELS).unwrap();
        Files(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A client on the standard streams of a process.
struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    fn start(arguments: &[&OsStr]) -> Client {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .arg("mcp")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Client { child, input, output, next: 1 };
        let begun = client.ask(
            "initialize",
            &json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
        );
        assert_eq!(begun["result"]["serverInfo"]["name"], "loom", "{begun}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Sends a request and returns its response.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the output ends before {method}");
            let message: Value =
                serde_json::from_str(&line).expect("nothing but messages on standard output");
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    fn call(&mut self, name: &str, arguments: &Value, key: &str) -> Value {
        let params = json!({"name": name, "arguments": arguments, "_meta": {"loom/idempotencyKey": key}});
        self.ask("tools/call", &params)["result"].clone()
    }

    /// Closes standard input. Returns the exit code.
    fn close(mut self) -> Option<i32> {
        drop(self.input.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn mcp_serves_a_directory_and_a_key_outlives_the_process() {
    let files = Files::new("add.json", ADD);
    let (workflows, data) = (files.path("workflows"), files.path("data"));
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), workflows.as_ref(), "--data".as_ref(), data.as_ref()];
    let mut client = Client::start(&arguments);
    let tools = client.ask("tools/list", &json!({}))["result"]["tools"].clone();
    assert_eq!(tools[0]["name"], "add", "{tools}");
    assert_eq!(tools[0]["inputSchema"]["required"], json!(["a"]));
    let first = client.call("add", &json!({"a": 41}), "k");
    assert_eq!(first["structuredContent"]["sum"], 42, "{first}");
    let refused = client.call("add", &json!({"a": "x"}), "other");
    assert_eq!(refused["isError"], true, "{refused}");
    assert_eq!(client.close(), Some(0));
    let mut again = Client::start(&arguments);
    assert_eq!(again.call("add", &json!({"a": 41}), "k")["structuredContent"], first["structuredContent"]);
    assert_ne!(again.call("add", &json!({"a": 41}), "l")["structuredContent"], first["structuredContent"]);
    assert_eq!(again.close(), Some(0));
}

#[test]
fn mcp_passes_messages_on_to_a_server_that_may_restart() {
    let files = Files::new("add.json", ADD);
    let (workflows, data) = (files.path("workflows"), files.path("data"));
    let serve = |address: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .args(["serve", "--addr", address, "--workflows"])
            .arg(&workflows)
            .arg("--data")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Killed(child), line.trim().strip_prefix("listening on ").expect("an address").to_owned())
    };
    let (loom, url) = serve("127.0.0.1:0");
    let mut client = Client::start(&["--server".as_ref(), url.as_ref()]);
    let first = client.call("add", &json!({"a": 1}), "k");
    assert_eq!(first["structuredContent"]["sum"], 2, "{first}");
    drop(loom);
    let down = client.ask("tools/list", &json!({}));
    assert!(down["error"]["message"].is_string(), "a server that is not there is an error: {down}");
    let (restarted, _) = serve(url.trim_start_matches("http://"));
    let again = client.call("add", &json!({"a": 1}), "k");
    assert_eq!(again["structuredContent"], first["structuredContent"], "{again}");
    drop(restarted);
    assert_eq!(client.close(), Some(0));
    // The control: a server that is not there at all.
    let mut nobody = Command::new(env!("CARGO_BIN_EXE_loom"))
        .args(["mcp", "--server", "http://127.0.0.1:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    writeln!(nobody.stdin.take().unwrap(), "{hello}").unwrap();
    let ended = nobody.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("\"error\""));
}

/// Chats with lines from a pipe. Returns the exit code, the answers, and what was noted.
fn chat(files: &Files, arguments: &[&str], lines: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
        .arg("chat")
        .args(arguments)
        .arg("--connections")
        .arg(files.path("connections.json"))
        .current_dir(files.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn a_chat_from_a_pipe_prints_the_answers_and_asks_for_approvals() {
    let files = Files::new("refunds.json", REFUNDS);
    let path = "workflows/refunds.json";
    let (code, said, noted) = chat(&files, &[path], "Good day\n\nrefund it\ny\nrefund it\nn\n");
    let expected = "Hello to you.\nI refund.\nIt is refunded.\nI refund.\nThere is no refund.\n";
    assert_eq!((code, said.as_str()), (Some(0), expected), "{noted}");
    assert!(noted.contains("may `refund` be executed with {}? Refund?"), "{noted}");
    // The end of the input is the end of a turn that asks.
    let (_, said, noted) = chat(&files, &[path], "refund it\n");
    assert_eq!(said, "I refund.\n", "{noted}");
    assert!(noted.contains("waits for an answer"), "{noted}");
}

#[test]
fn a_group_from_the_command_line_speaks_with_names() {
    let files = Files::new("refunds.json", REFUNDS);
    let group = ["--model", "m", "--participants", "Ann: You agree.", "Ben: You object."];
    let (code, said, noted) = chat(&files, &group, "Shall we?\nAgain?\n");
    let turn = "Ann: Ann agrees.\nBen: Ben objects.\n";
    assert_eq!((code, said), (Some(0), turn.repeat(2)), "{noted}");
    for (wrong, says) in [
        (vec!["--participants", "Ann"], "--model"),
        (vec!["--model", "m"], "--participants"),
        (vec![], "--participants"),
        (vec!["--model", "m", "--participants", ": no name"], "NAME: TEXT"),
        (vec!["--model", "m", "--participants", "Ann", "Ann"], "twice"),
        (vec!["workflows/missing.json"], "missing.json"),
    ] {
        let (code, said, noted) = chat(&files, &wrong, "x\n");
        assert_eq!((code, said.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(noted.contains(says), "{wrong:?}: {noted}");
    }
}

#[test]
fn a_chat_with_a_workflow_of_a_server_and_its_failures() {
    let files = Files::new("refunds.json", REFUNDS);
    let failing = r#"{"definition": {"triggers": {"chat": {"type": "Request"}}, "actions": {
        "Fail": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "X", "message": "It broke."}}}}}}"#;
    std::fs::write(files.path("workflows/failing.json"), failing).unwrap();
    let (workflows, connections) = (files.path("workflows"), files.path("connections.json"));
    let loom = Loom::serve(&[
        "--memory".as_ref(),
        "--workflows".as_ref(),
        workflows.as_ref(),
        "--connections".as_ref(),
        connections.as_ref(),
    ]);
    let url = format!("http://{}", loom.address());
    let (code, said, noted) = chat(&files, &["refunds", "--server", &url], "Good day\n");
    assert_eq!((code, said.as_str()), (Some(0), "Hello to you.\n"), "{noted}");
    let (code, _, noted) = chat(&files, &["failing", "--server", &url], "Good day\n");
    assert_eq!(code, Some(1));
    assert!(noted.contains("ended as Failed: It broke."), "{noted}");
    let (code, _, noted) = chat(&files, &["nobody", "--server", &url], "Good day\n");
    assert_eq!(code, Some(3), "{noted}");
    let (code, ..) = chat(&files, &["refunds", "--server", "http://127.0.0.1:1"], "Good day\n");
    assert_eq!(code, Some(7));
}

/// A command in a terminal of its own.
struct Terminal {
    child: Child,
    input: ChildStdin,
    shown: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Terminal {
    fn start(directory: &Path, arguments: &str) -> Terminal {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_loom"));
        let mut child = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux");
        let shown = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let (mut output, sink) = (child.stdout.take().unwrap(), std::sync::Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read) = output.read(&mut chunk) {
                if read == 0 {
                    return;
                }
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
        });
        let input = child.stdin.take().unwrap();
        Terminal { child, input, shown }
    }

    fn type_in(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Waits until this was shown after what was shown before.
    fn until(&self, wanted: &str) {
        for _ in 0..600 {
            let mut shown = self.shown.lock().unwrap();
            if let Some(at) = shown.find(wanted) {
                let rest = shown.split_off(at + wanted.len());
                *shown = rest;
                return;
            }
            drop(shown);
            pause(Duration::from_millis(50));
        }
        panic!("`{wanted}` is not shown: {:?}", self.shown.lock().unwrap());
    }
}

#[test]
fn in_a_terminal_an_interrupt_stops_the_turn_and_two_at_the_prompt_leave() {
    let files = Files::new("waits.json", WAITS);
    let workflows = files.path("workflows");
    let loom = Loom::serve(&["--memory".as_ref(), "--workflows".as_ref(), workflows.as_ref()]);
    let mut terminal =
        Terminal::start(files.0.path(), &format!("chat waits --server http://{}", loom.address()));
    terminal.until("> ");
    terminal.type_in("wait for me\n");
    let runs = loom.until("/api/v1/runs", |answer| answer.body.contains("\"Running\""));
    let run: Value = serde_json::from_str(&runs.body).unwrap();
    let run = run["runs"][0]["id"].as_str().unwrap().to_owned();
    // The client knows its run once the first event has arrived.
    pause(Duration::from_millis(300));
    terminal.type_in("\u{3}");
    terminal.until("stopped");
    assert_eq!(loom.end_of(&run), "Cancelled");
    terminal.until("> ");
    terminal.type_in("\u{3}");
    terminal.until("again to leave");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
}
