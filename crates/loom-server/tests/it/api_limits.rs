//! Authentication, limits of requests, and the format of errors.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Plan, World, requested, text};

fn plain() -> String {
    requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)
}

/// Routes of every kind that require the token.
const GUARDED: [(Method, &str); 9] = [
    (Method::GET, "/api/v1/workflows"),
    (Method::PUT, "/api/v1/workflows/orders"),
    (Method::DELETE, "/api/v1/workflows/orders"),
    (Method::GET, "/api/v1/runs"),
    (Method::POST, "/api/v1/runs/0000000000000/cancel"),
    (Method::GET, "/api/v1/runs/0000000000000/events"),
    (Method::GET, "/api/v1/resilience"),
    (Method::GET, "/api/v1/openapi.json"),
    (Method::GET, "/metrics"),
];

#[tokio::test]
async fn the_token_is_required() {
    let mut plan = Plan::default();
    plan.settings.token = Some(Arc::from("a-token-of-some-length"));
    let world = World::start(plan).await;
    world.deploy("orders", &plain()).await;
    for (method, path) in GUARDED {
        for given in [
            None,
            Some("Bearer a-token-of-some-lengtH"),
            Some("Basic a-token-of-some-length"),
            Some("Bearer"),
        ] {
            let headers: Vec<_> = given.map(|value| ("authorization", value)).into_iter().collect();
            let reply = world.send(method.clone(), path, &headers, "").await.whole().await;
            assert_eq!((reply.status, reply.error().as_str()), (401, "AuthenticationFailed"), "{path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        let reply = world.call(method, path, "").await;
        assert_ne!(reply.status, 401, "{path}");
    }
    world.deploy("orders", &plain()).await;
    // Health checks are open; a trigger accepts the token or the signature of its own address.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.send(Method::GET, path, &[], "").await.status, 200);
    }
    let path = "/workflows/orders/triggers/manual/invoke";
    let signed = world.host.trigger_url("orders", "manual");
    let signature = signed.split_once('?').unwrap().1;
    let other = world.host.trigger_url("other", "manual");
    let other = other.split_once('?').unwrap().1;
    for (query, status) in [("", 401), (other, 401), ("sig=", 401), ("sig=00", 401), (signature, 202)] {
        let reply = world.send(Method::POST, &format!("{path}?{query}"), &[], "").await.whole().await;
        assert_eq!(reply.status, status, "{query}");
    }
    assert_eq!(world.post(path, "").await.status, 202);
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_have_one_error_format() {
    let world = World::new().await;
    world.deploy("orders", &plain()).await;
    for path in [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/workflows",
        "/api/v1/runs/a/b/c",
        "/callbacks/",
    ] {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.error().as_str()), (404, "NotFound"), "{path}");
    }
    for (method, path, allow) in [
        (Method::POST, "/api/v1/workflows", "GET,HEAD"),
        (Method::PATCH, "/api/v1/workflows/orders", "GET,HEAD,PUT,DELETE"),
        (Method::DELETE, "/api/v1/runs", "GET,HEAD"),
        (Method::GET, "/api/v1/runs/0000000000000/cancel", "POST"),
        (Method::PUT, "/healthz", "GET,HEAD"),
        (Method::POST, "/metrics", "GET,HEAD"),
        (Method::POST, "/answers/0000000000000", "GET,HEAD"),
    ] {
        let reply = world.call(method, path, "").await;
        assert_eq!((reply.status, reply.error().as_str()), (405, "MethodNotAllowed"), "{path}");
        let allowed = |text: &str| {
            let mut all: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(allowed(reply.header("allow").unwrap()), allowed(allow), "{path}");
    }
    let head = world.call(Method::HEAD, "/api/v1/runs", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn bodies_are_limited_by_received_bytes_not_by_content_length() {
    let mut plan = Plan::default();
    plan.settings.body_bytes_max = 10_000;
    let world = World::start(plan).await;
    world.deploy("orders", &plain()).await;
    let body = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    for path in ["/workflows/orders/triggers/manual/invoke", "/api/v1/workflows/orders/triggers/manual/run"] {
        assert_eq!(world.post(path, &body(10_000)).await.status, 202, "{path}");
        let large = world.post(path, &body(10_001)).await;
        assert_eq!((large.status, large.error().as_str()), (413, "RequestEntityTooLarge"), "{path}");
    }
    let large = world.call(Method::PUT, "/api/v1/workflows/orders", &body(20_000)).await;
    assert_eq!((large.status, large.error().as_str()), (413, "RequestEntityTooLarge"));
    // A body without a length is counted as it arrives.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = "POST /workflows/orders/triggers/manual/invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    for _ in 0..3 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    let runs = world.get("/api/v1/runs").await.json();
    assert_eq!(crate::support::list(&runs, "runs").len(), 2, "a rejected request starts no run");
}

#[tokio::test]
async fn heads_are_limited() {
    let mut plan = Plan::default();
    plan.settings.head_bytes_max = 8_192;
    let world = World::start(plan).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "a".repeat(9_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = answer(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    // Random bytes are not a request.
    for nonsense in [
        "hello\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let said = answer(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 400") || said.is_empty(), "{said}");
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

/// Reads until the connection is closed or a whole head has arrived.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4_096];
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_slow_caller_is_disconnected() {
    let mut plan = Plan::default();
    plan.settings.head_timeout = Duration::from_secs(15);
    plan.settings.body_timeout = Duration::from_secs(30);
    let world = World::start(plan).await;
    world.deploy("orders", &plain()).await;
    // A head that never ends, one byte at a time.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let begun = tokio::time::Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let mut closed = [0; 1];
    assert!(matches!(stream.read(&mut closed).await, Ok(0) | Err(_)), "the connection is closed");
    let took = begun.elapsed().as_secs();
    assert!((14..=20).contains(&took), "{took} s");
    // A body that never ends.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let begun = tokio::time::Instant::now();
    let head = "POST /workflows/orders/triggers/manual/invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = answer(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    let took = begun.elapsed().as_secs();
    assert!((29..=35).contains(&took), "{took} s");
    // A connection that sends nothing, and one that is kept alive but unused.
    for first in ["", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap_or_default();
        assert_eq!(all.is_empty(), first.is_empty());
    }
}

#[tokio::test]
async fn the_limit_on_runs_in_progress_is_not_exceeded() {
    let mut plan = Plan::default();
    plan.host.runs_max = 2;
    let world = World::start(plan).await;
    let slow = requested(
        r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}}"#,
    );
    world.deploy("slow", &slow).await;
    let first = world.invoke("slow", "").await;
    let second = world.invoke("slow", "").await;
    for path in [
        "/workflows/slow/triggers/manual/invoke".to_owned(),
        "/api/v1/workflows/slow/triggers/manual/run".to_owned(),
        format!("/api/v1/runs/{first}/resubmit"),
    ] {
        let refused = world.post(&path, "").await;
        assert_eq!((refused.status, refused.error().as_str()), (429, "WorkflowTriggerIsThrottled"), "{path}");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    }
    world.post(&format!("/api/v1/runs/{second}/cancel"), "").await;
    world.ended(&second).await;
    let third = world.invoke("slow", "").await;
    let runs = world.get("/api/v1/runs").await.json();
    let runs: Vec<&str> = crate::support::list(&runs, "runs").iter().map(|row| text(row, "id")).collect();
    assert_eq!(runs, [third.as_str(), second.as_str(), first.as_str()], "a rejected request leaves no run");
}

#[tokio::test]
async fn all_bodies_share_a_budget() {
    let mut plan = Plan::default();
    plan.settings.bodies_bytes_max = 4_000;
    let world = World::start(plan).await;
    world.deploy("orders", &plain()).await;
    let path = "/workflows/orders/triggers/manual/invoke";
    let headers = [("content-type", "application/json")];
    let long = format!("[\"{}\"]", "x".repeat(5_000));
    // A hundred values take more memory than their text.
    let grows = format!("[{}]", vec!["{\"a\":1}"; 100].join(","));
    for body in [long, grows] {
        let reply = world.send(Method::POST, path, &headers, body.clone()).await.whole().await;
        assert_eq!((reply.status, reply.error().as_str()), (503, "BodiesBytesExceeded"));
        assert!(reply.header("retry-after").is_some());
        assert!(reply.text().contains("bodies-bytes-max"));
    }
    for _ in 0..10 {
        let reply = world.send(Method::POST, path, &headers, format!("[\"{}\"]", "x".repeat(1_000))).await;
        assert_eq!(reply.whole().await.status, 202, "a finished request does not count any more");
    }
}

#[tokio::test]
async fn a_small_body_cannot_expand_into_too_many_values() {
    let world = World::new().await;
    world.deploy("orders", &plain()).await;
    let body = format!("[{}{{}}]", "{},".repeat(2_000_000));
    let headers = [("content-type", "application/json")];
    for path in ["/workflows/orders/triggers/manual/invoke", "/api/v1/workflows/orders/triggers/manual/run"] {
        let reply = world.send(Method::POST, path, &headers, body.clone()).await.whole().await;
        assert_eq!((reply.status, reply.error().as_str()), (413, "JsonValuesExceeded"), "{path}");
        assert!(reply.text().contains("2000000"), "{path}");
    }
}

#[tokio::test]
async fn schema_validation_of_a_body_is_bounded() {
    let world = World::new().await;
    let each = r##"{"properties": {"a": {"$ref": "#"}}}"##;
    let definition = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request", "kind": "Http", "inputs": {{"schema": {{"anyOf": [{each}, {each}]}}}},
            "operationOptions": "EnableSchemaValidation"}}}}, "actions": {{}}}}"#
    );
    world.deploy("orders", &definition).await;
    let headers = [("content-type", "application/json")];
    let path = "/workflows/orders/triggers/manual/invoke";
    for (levels, status) in [(3, 202), (60, 400)] {
        let body = (0..levels).fold("1".to_owned(), |inner, _| format!(r#"{{"a":{inner}}}"#));
        let reply = world.send(Method::POST, path, &headers, body.clone()).await.whole().await;
        assert_eq!(reply.status, status, "{levels} levels");
        if status == 400 {
            assert_eq!(reply.error(), "SchemaNodesExceeded");
        }
    }
}

#[tokio::test]
async fn a_firing_with_very_many_runs_is_accepted_whole_and_its_runs_start_in_turn() {
    let mut plan = Plan::default();
    plan.host.runs_max = 5;
    let world = World::start(plan).await;
    let split = r#"{"definition": {"triggers": {"manual": {"type": "Request", "splitOn": "@triggerBody()"}},
        "actions": {"A": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}}}"#;
    world.deploy("orders", split).await;
    let items: Vec<String> = (0..300).map(|item| item.to_string()).collect();
    let body = format!(r#"{{"body": [{}]}}"#, items.join(","));
    let reply = world.post("/api/v1/workflows/orders/triggers/manual/run", &body).await;
    assert_eq!(reply.status, 202);
    let reply = reply.json();
    let runs = crate::support::list(&reply, "runs");
    assert_eq!(runs.len(), 300);
    for run in runs {
        let ended = world.ended(run.as_str().unwrap()).await;
        assert_eq!(text(&ended, "status"), "Succeeded");
    }
    // The trigger responds as for one run.
    let reply =
        world.post("/workflows/orders/triggers/manual/invoke", &format!("[{}]", items.join(","))).await;
    assert_eq!(reply.status, 202);
    assert!(reply.header("x-ms-workflow-run-id").is_some());
}
