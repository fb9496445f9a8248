//! Signals over HTTP: responses, rejections, and delivery to runs.

use hyper::Method;

use crate::support::{World, json, list, requested, text};

fn waits() -> String {
    requested(
        r#"{"Wait": {"type": "WaitForSignal", "inputs": {"name": "approved"}, "limit": {"timeout": "P7D"}, "runAfter": {}},
            "Tell": {"type": "Compose", "inputs": "@body('Wait')['by']", "runAfter": {"Wait": ["Succeeded"]}}}"#,
    )
}

#[tokio::test]
async fn a_signal_is_sent_and_received() {
    let world = World::new().await;
    world.deploy("orders", &waits()).await;
    let run = world.invoke("orders", "").await;
    let path = format!("/api/v1/runs/{run}/signals/Approved");
    let headers = [("content-type", "application/json"), ("idempotency-key", "one")];
    let sent = world.send(Method::POST, &path, &headers, r#"{"by": "Ann"}"#).await.whole().await;
    assert_eq!(sent.status, 202);
    assert_eq!([text(&sent.json(), "run"), text(&sent.json(), "name")], [run.as_str(), "Approved"]);
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Succeeded");
    let action = world.get(&format!("/api/v1/runs/{run}/actions/Wait")).await.json();
    let wait = &list(&action, "occurrences")[0];
    assert_eq!(wait.get("inputs"), Some(&json(r#"{"name": "approved"}"#)));
    let outputs = wait.get("outputs").unwrap();
    assert_eq!(outputs.get("body"), Some(&json(r#"{"by": "Ann"}"#)));
    assert_eq!(text(outputs, "name"), "Approved");
    assert!(text(outputs, "sentTime").starts_with("20"));

    // No action would receive another one; a sender that repeats the first learns that it was accepted.
    let late = world.post(&path, r#"{"by": "Bob"}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "RunEnded"));
    let again = world.send(Method::POST, &path, &headers, r#"{"by": "Ann"}"#).await.whole().await;
    assert_eq!((again.status, again.json()), (202, sent.json()));
}

#[tokio::test]
async fn a_repeated_key_sends_one_signal() {
    let world = World::new().await;
    let twice = requested(
        r#"{"First": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}},
            "Second": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"First": ["Succeeded"]}}}"#,
    );
    world.deploy("orders", &twice).await;
    let run = world.invoke("orders", "").await;
    let path = format!("/api/v1/runs/{run}/signals/go");
    let mut numbers = Vec::new();
    for (key, body) in [("a", "1"), ("a", "1"), ("b", "2"), ("b", "2")] {
        let sent = world
            .send(
                Method::POST,
                &path,
                &[("content-type", "application/json"), ("idempotency-key", key)],
                body,
            )
            .await
            .whole()
            .await;
        assert_eq!(sent.status, 202, "{sent:?}");
        numbers.push(text(&sent.json(), "id").parse::<u64>().unwrap());
    }
    assert!(numbers[0] == numbers[1] && numbers[2] == numbers[3] && numbers[1] < numbers[2], "{numbers:?}");
    world.ended(&run).await;
    for (action, body) in [("First", "1"), ("Second", "2")] {
        let action = world.get(&format!("/api/v1/runs/{run}/actions/{action}")).await.json();
        assert_eq!(list(&action, "occurrences")[0].get("outputs").unwrap().get("body"), Some(&json(body)));
    }
}

#[tokio::test]
async fn a_signal_that_cannot_be_sent_is_rejected_with_the_reason() {
    let world = World::new().await;
    world.deploy("orders", &waits()).await;
    let run = world.invoke("orders", "").await;
    let large = format!("\"{}\"", "x".repeat(256 << 10));
    for (name, query, body, status, code) in [
        ("aproved", "", "1", 404, "SignalNotAwaited"),
        ("approved", "", "{", 400, "BadRequest"),
        ("approved", "?wait=1", "1", 400, "BadRequest"),
        ("approved", "", large.as_str(), 413, "SignalTooLarge"),
        ("a%0Ab", "", "1", 400, "BadRequest"),
    ] {
        let reply = world.post(&format!("/api/v1/runs/{run}/signals/{name}{query}"), body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, code), "{name}");
    }
    let reply = world.post("/api/v1/runs/0000000000000/signals/approved", "1").await;
    assert_eq!((reply.status, reply.error().as_str()), (404, "RunNotFound"));
    let key = "k".repeat(256);
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let path = format!("/api/v1/runs/{run}/signals/approved");
    let reply = world.send(Method::POST, &path, &headers, "1").await.whole().await;
    assert_eq!((reply.status, reply.error().as_str()), (400, "IdempotencyKeyInvalid"));
    // A signal may have no body.
    assert_eq!(world.post(&path, "").await.status, 202);
    let ended = world.ended(&run).await;
    // The action that reads the body fails.
    assert_eq!(text(&ended, "status"), "Failed");
}
