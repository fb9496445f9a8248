//! Whatever is sent, the server responds, never with 500, and stays up.
//!
//! Requests are written to the connection as bytes, so that they can be what no client would send. A missing response means
//! that a handler panicked, because a panic closes the connection.

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};

use crate::support::{World, list, requested, text};

/// Requests of one test.
const CASES: u32 = 768;

/// A request as bytes, without the headers that every request needs.
#[derive(Debug)]
struct Sent {
    method: String,
    target: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// A part of a path or a query: plain, escaped, broken, or hostile.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zA-Z0-9._~-]{0,12}".prop_map(String::into_bytes),
        vec("%[0-9a-fA-F]{2}", 0..6).prop_map(|escapes| escapes.concat().into_bytes()),
        "(%|%[0-9]|%zz|\\+|&|=|;|\\{|\\}|'|\"|@|\\[|<){0,6}".prop_map(String::into_bytes),
        vec(any::<u8>().prop_filter("ends the line", |byte| !b"\r\n \0?#".contains(byte)), 0..8),
        select(vec![
            "..",
            ".",
            "%2F",
            "%2e%2e",
            "%00",
            "%ff%fe",
            "🦀",
            "{x}",
            "%25%32%46",
            "0000000000000",
            "-1",
            "9e999"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// Paths of every route, with arbitrary parts.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "/workflows/path/triggers/manual/invoke/a/*/b/*",
        "/workflows/path/triggers/manual/invoke*",
        "/workflows/echo/triggers/manual/invoke",
        "/workflows/strict/triggers/manual/invoke",
        "/workflows/*/triggers/*/invoke/*",
        "/api/echo/triggers/manual/invoke/*",
        "/callbacks/*",
        "/callbacks/*-*-*",
        "/answers/*",
        "/api/v1/workflows",
        "/api/v1/workflows/*",
        "/api/v1/workflows/echo/versions/*",
        "/api/v1/workflows/echo/triggers/manual/run",
        "/api/v1/workflows/*/triggers/*/histories",
        "/api/v1/runs",
        "/api/v1/runs/*",
        "/api/v1/runs/*/actions/*",
        "/api/v1/runs/*/events",
        "/api/v1/runs/*/cancel",
        "/api/v1/runs/*/resubmit",
        "/api/v1/resilience/*/*",
        "/metrics",
        "/*",
    ]);
    let name = prop_oneof![
        select(vec![
            "sig",
            "cursor",
            "limit",
            "status",
            "from",
            "before",
            "order",
            "workflow",
            "after",
            "api-version",
            "error"
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        part(),
    ];
    (known, vec(part(), 4), vec((name, part()), 0..3)).prop_map(|(known, parts, queries)| {
        let mut target = Vec::new();
        let mut parts = parts.into_iter();
        for piece in known.split_inclusive('*') {
            target.extend(piece.trim_end_matches('*').as_bytes());
            if piece.ends_with('*') {
                target.extend(parts.next().unwrap_or_default());
            }
        }
        for (index, (name, value)) in queries.into_iter().enumerate() {
            target.push(if index == 0 { b'?' } else { b'&' });
            target.extend(name);
            target.push(b'=');
            target.extend(value);
        }
        target
    })
}

/// The value of a header: permitted bytes, or an almost valid value.
fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = select(vec![
        "content-type",
        "traceparent",
        "tracestate",
        "idempotency-key",
        "x-ms-client-tracking-id",
        "last-event-id",
        "accept",
        "authorization",
        "cookie",
    ]);
    let value = prop_oneof![
        vec(any::<u8>().prop_filter("no part of a value", |byte| *byte >= b' ' && *byte != 127), 0..24),
        mutated("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        mutated("\"a key\""),
        mutated("application/json; charset=utf-8"),
        mutated("multipart/form-data; boundary=b"),
        select(vec![
            "application/x-www-form-urlencoded",
            "text/xml",
            "text/event-stream",
            "18446744073709551616",
            "-1"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (
        name.prop_map(str::to_owned),
        value.prop_map(|value| value.into_iter().filter(|byte| *byte >= b' ' && *byte != 127).collect()),
    )
}

/// A text with some bytes changed, removed or duplicated.
fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..4).prop_map(move |changes| {
        let mut bytes = text.as_bytes().to_vec();
        for (index, byte, what) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        vec(any::<u8>(), 0..64),
        mutated(
            r#"{"id": 7, "name": "ä\u00e4\ud83e\udd80", "list": [1, -2.5e3, null, true, {"a": "@{x()}"}]}"#
        ),
        mutated(
            r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "@add(1, 2)", "runAfter": {}}}}}"#
        ),
        mutated("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--"),
        mutated("a=1&b=%20c&d"),
        (1..2_000usize).prop_map(|depth| "[".repeat(depth).into_bytes()),
        (1..400usize).prop_map(|digits| "9".repeat(digits).into_bytes()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"]);
    (method.prop_map(str::to_owned), target(), vec(header(), 0..4), body())
        .prop_map(|(method, target, headers, body)| Sent { method, target, headers, body })
}

/// Sends a request and returns the status. Streams are closed once they have started.
async fn status(world: &World, sent: &Sent) -> u16 {
    let mut bytes = Vec::new();
    bytes.extend(sent.method.as_bytes());
    bytes.push(b' ');
    bytes.extend(&sent.target);
    bytes.extend(b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in &sent.headers {
        bytes.extend(name.as_bytes());
        bytes.extend(b": ");
        bytes.extend(value);
        bytes.extend(b"\r\n");
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", sent.body.len()).as_bytes());
    bytes.extend(&sent.body);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // A server that rejects a request may close the connection before it has read everything.
    stream.write_all(&bytes).await.ok();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1..) => answer.push(byte[0]),
            Ok(0) | Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("expected a response, found {head:?}"))
}

async fn world() -> World {
    let world = World::new().await;
    let path = r#"{"definition": {"triggers": {"manual": {"type": "Request", "inputs": {"relativePath": "a/{x}/b/{y}"}}},
        "actions": {"A": {"type": "Compose", "inputs": "@triggerOutputs()", "runAfter": {}}}}}"#;
    let strict = r#"{"definition": {"triggers": {"manual": {"type": "Request", "operationOptions": "EnableSchemaValidation",
        "inputs": {"schema": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}}}},
        "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}"#;
    let echo = r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@triggerOutputs()"}, "runAfter": {}}}"#;
    world.deploy("path", path).await;
    world.deploy("strict", strict).await;
    world.deploy("echo", &requested(echo)).await;
    world
}

#[test]
fn every_request_receives_a_response() {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(world());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let mut statuses = std::collections::BTreeMap::new();
    let seen = std::cell::RefCell::new(&mut statuses);
    let tested = runner.run(&sent(), |sent| {
        let status = runtime.block_on(status(&world, &sent));
        *seen.borrow_mut().entry(status).or_insert(0) += 1;
        prop_assert!((200..600).contains(&status) && status != 500, "{status}");
        Ok(())
    });
    tested.unwrap();
    // The requests reached runs, and were not only rejected.
    for status in [200, 202, 400, 404, 405] {
        assert!(statuses.contains_key(&status), "{statuses:?}");
    }
    runtime.block_on(async {
        assert_eq!(world.get("/healthz").await.status, 200);
        // Everything that was accepted can be read again.
        let mut next = Some(String::from("/api/v1/runs?limit=100"));
        let mut runs = 0;
        while let Some(path) = next {
            let page = world.get(&path).await.json();
            for run in list(&page, "runs") {
                let id = text(run, "id");
                world.ended(id).await;
                assert_eq!(world.get(&format!("/api/v1/runs/{id}/actions")).await.status, 200);
                runs += 1;
            }
            let cursor = page.get("next").and_then(loom_expression::Value::as_str);
            next = cursor.map(|cursor| format!("/api/v1/runs?limit=100&cursor={cursor}"));
        }
        assert!(runs > 0);
        world.stop().await;
    });
}
