//! Traces of a served workflow across a kill: a repeated call is the same call in the same trace.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{Loom, Service};

/// The maximum time to wait for a span.
const PATIENCE: Duration = Duration::from_mins(1);

const WORKFLOW: &str = r#"{
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "First": {"type": "Compose", "inputs": 1, "runAfter": {}},
    "Call": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/call", "body": 1}, "runAfter": {"First": ["Succeeded"]}}
  }
}"#;

#[test]
fn a_killed_run_continues_its_trace() {
    let (called, calls) = mpsc::channel();
    let (called, killed) = (Mutex::new(called), AtomicBool::new(false));
    let service = Service::start(move |request| {
        let say = |name: &str| request.header(name).unwrap_or_default();
        let reported = (say("traceparent"), say("idempotency-key"));
        called.lock().expect("no thread panicked").send(reported).ok();
        if !killed.swap(true, Ordering::SeqCst) {
            // The first caller is killed while it waits.
            let (_keep, never) = mpsc::channel::<()>();
            never.recv_timeout(PATIENCE).ok();
        }
        (200, Value::Null)
    });
    let (sent, spans) = mpsc::channel();
    let sent = Mutex::new(sent);
    let collector = Service::start(move |request| {
        assert_eq!(request.path, "/v1/traces");
        let body: Value = serde_json::from_str(&request.body).expect("it is JSON");
        for resource in body["resourceSpans"].as_array().expect("a list") {
            for scope in resource["scopeSpans"].as_array().expect("a list") {
                for span in scope["spans"].as_array().expect("a list") {
                    sent.lock().expect("no thread panicked").send(span.clone()).ok();
                }
            }
        }
        (200, json!({}))
    });
    let directory = tempfile::tempdir().expect("there is room");
    let (file, data) = (directory.path().join("order.json"), directory.path().join("data"));
    fs::write(&file, WORKFLOW.replace("SERVICE", &service.address)).expect("it can be written");
    let arguments: [&OsStr; 5] = [
        file.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--otlp".as_ref(),
        collector.address.as_ref(),
    ];
    let mut server = Loom::serve(&arguments);
    let answer = server.request("POST", "/workflows/order/triggers/manual/invoke", b"");
    let run = answer.and_then(|answer| answer.header("x-ms-workflow-run-id")).expect("it starts a run");
    let first = calls.recv_timeout(PATIENCE).expect("the service is called");
    server.kill_after(Duration::ZERO).join().expect("it is killed");
    server.wait_for_end();

    let server = Loom::serve(&arguments);
    let second = calls.recv_timeout(PATIENCE).expect("the call is made again");
    assert_eq!(first, second, "the trace and the key are the same");
    assert_eq!(server.end_of(&run), "Succeeded");
    let mut known = HashMap::new();
    while !known.contains_key("order") {
        let span = spans.recv_timeout(PATIENCE).expect("the span of the run is sent");
        let name = span["name"].as_str().expect("it has a name").to_owned();
        assert!(known.insert(name, span).is_none(), "twice");
    }
    let parts: Vec<&str> = first.0.split('-').collect();
    let (root, action, call) = (&known["order"], &known["Call"], &known["POST"]);
    assert!([root, action, call].iter().all(|span| span["traceId"] == parts[1]));
    assert_eq!(call["spanId"], parts[2]);
    assert_eq!(call["parentSpanId"], action["spanId"]);
    assert_eq!(action["parentSpanId"], root["spanId"]);
    assert_eq!(root.get("parentSpanId"), None);
}
