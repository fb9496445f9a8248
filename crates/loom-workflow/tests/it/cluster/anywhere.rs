//! Requests at a node that does not own what they are about.

use serde_json::{Value, json};

use super::{
    Cluster, LONG, definition, deploy, end_of, eventually, invoke, on_request, send, service, steps,
};
use crate::served::{Loom, request, request_with_key};

/// The node other than the one that owns a run: a request for the run reaches the owner through it, or the owner itself. All requests
/// are sent to both, so it does not matter which is which.
fn both<'l>(a: &'l Loom, b: &'l Loom) -> [&'l Loom; 2] {
    [a, b]
}

#[test]
fn any_node_takes_signals_callbacks_and_orders_for_any_run() {
    let (service, _) = service(std::time::Duration::ZERO);
    let cluster = Cluster::new();
    let (a, b) = (
        cluster.node_with("a", LONG, &["--park-after", "1s"]),
        cluster.node_with("b", LONG, &["--park-after", "1s"]),
    );
    cluster.settles(&a, 2);
    let waits = json!({"wait": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}}});
    deploy(&a, &[&b], "waits", &definition(on_request(), waits));
    let hook = json!({"hook": {"type": "HttpWebhook", "runAfter": {}, "inputs": {
        "subscribe": {"method": "POST", "uri": format!("{}/subscribe", service.address),
            "headers": {"callback": "@{listCallbackUrl()}"}, "body": {"url": "@listCallbackUrl()"}},
        "unsubscribe": {},
    }}});
    deploy(&a, &[&b], "hooked", &definition(on_request(), hook));
    for (number, (starts, asks)) in
        both(&a, &b).into_iter().flat_map(|starts| both(&a, &b).map(|asks| (starts, asks))).enumerate()
    {
        // Several runs each, so that both nodes own some of them.
        for run in 0..3 {
            let key = |what: &str| format!("{what}-{number}-{run}");
            let signalled = invoke(starts, "waits", &key("signal")).unwrap();
            let path = format!("/api/v1/runs/{signalled}/signals/go");
            let sent = request_with_key(asks.address(), "POST", &path, Some("once"), b"{\"n\": 1}").unwrap();
            assert_eq!(sent.status, 202, "{sent:?}");
            assert_eq!(end_of(asks, &signalled), "Succeeded");
            // Repeated after the end, at the other node: the signal is known.
            let again =
                request_with_key(starts.address(), "POST", &path, Some("once"), b"{\"n\": 1}").unwrap();
            assert_eq!(again.status, 202, "{again:?}");

            let cancelled = invoke(starts, "waits", &key("cancel")).unwrap();
            let answer = asks.request("POST", &format!("/api/v1/runs/{cancelled}/cancel"), b"").unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(end_of(starts, &cancelled), "Cancelled");
            let resubmitted =
                asks.request("POST", &format!("/api/v1/runs/{cancelled}/resubmit"), b"").unwrap();
            assert!(resubmitted.status < 300, "{resubmitted:?}");

            let hooked = invoke(starts, "hooked", &key("hook")).unwrap();
            let mut url = String::new();
            eventually("the webhook is subscribed", || {
                let action = starts.get(&format!("/api/v1/runs/{hooked}/actions/hook"));
                let hook = &action["occurrences"][0];
                url = hook["inputs"]["subscribe"]["body"]["url"].as_str().unwrap_or_default().to_owned();
                !url.is_empty() && hook["attempts"][0]["status"] == "Succeeded"
            });
            let path = url.split_once("/callbacks/").unwrap().1;
            let path = format!("/callbacks/{path}");
            let called = request(asks.address(), "POST", &path, b"{}").unwrap();
            assert_eq!(called.status, 200, "{called:?}");
            assert_eq!(end_of(starts, &hooked), "Succeeded");
            let late = request(starts.address(), "POST", &path, b"{}").unwrap();
            assert_eq!(late.status, 410, "{late:?}");
        }
    }
}

#[test]
fn any_node_returns_the_response_and_the_events_of_any_run() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node_with("a", LONG, &[]), cluster.node_with("b", LONG, &[]));
    cluster.settles(&a, 2);
    let respond = |asynchronous: bool| {
        let mut actions = json!({
            "think": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {}},
            "answer": {"type": "Response", "inputs": {"statusCode": 201, "body": {"hello": "world"}},
                "runAfter": {"think": ["Succeeded"]}},
        });
        if asynchronous {
            actions["answer"]["operationOptions"] = json!("Asynchronous");
        }
        definition(on_request(), actions)
    };
    deploy(&a, &[&b], "now", &respond(false));
    deploy(&a, &[&b], "later", &respond(true));
    for number in 0..6 {
        let key = format!("now-{number}");
        let first = send(&a, "now", &key).unwrap();
        assert_eq!((first.status, first.body.as_str()), (201, r#"{"hello":"world"}"#), "{first:?}");
        let again = send(&b, "now", &key).unwrap();
        assert_eq!((again.status, again.body.as_str()), (201, r#"{"hello":"world"}"#), "{again:?}");
        assert_eq!(again.header("x-ms-workflow-run-id"), first.header("x-ms-workflow-run-id"));
        // At the same time, at both nodes: one run.
        let key = format!("both-{number}");
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| send(&a, "now", &key).unwrap());
            let other = scope.spawn(|| send(&b, "now", &key).unwrap());
            (one.join().unwrap(), other.join().unwrap())
        });
        assert_eq!((one.status, other.status), (201, 201), "{one:?} {other:?}");
        assert_eq!(one.header("x-ms-workflow-run-id"), other.header("x-ms-workflow-run-id"));
        let accepted = send(&a, "later", &format!("later-{number}")).unwrap();
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let run = accepted.header("x-ms-workflow-run-id").unwrap();
        let location = accepted.header("location").unwrap();
        let path = format!("/answers/{}", location.split_once("/answers/").unwrap().1);
        eventually("the late answer is there", || b.request("GET", &path, b"").unwrap().status == 201);
        let events = |node: &Loom| node.stream(&format!("/api/v1/runs/{run}/events"), 0, usize::MAX);
        let (here, there) = (events(&a), events(&b));
        assert!(here.len() > 4 && here.iter().zip(1..).all(|((id, _), expected)| *id == expected));
        assert_eq!(here, there);
    }
}

#[test]
fn definitions_are_published_once_and_followed_by_all_nodes() {
    let (service, _) = service(std::time::Duration::ZERO);
    let cluster = Cluster::new();
    let (a, b) = (cluster.node_with("a", LONG, &[]), cluster.node_with("b", LONG, &[]));
    cluster.settles(&a, 2);
    deploy(&a, &[&b], "one", &steps(&service, 1, on_request()));
    for round in 0..5 {
        // Two different texts at once: one is published as the next version.
        let text = |steps_: usize| steps(&service, steps_, on_request()).to_string();
        let (here, there) = (text(2 + 2 * round), text(3 + 2 * round));
        let put = |node: &Loom, text: &str| {
            node.request("PUT", "/api/v1/workflows/one", text.as_bytes()).unwrap().status
        };
        let mut statuses = std::thread::scope(|scope| {
            let one = scope.spawn(|| put(&a, &here));
            let other = scope.spawn(|| put(&b, &there));
            [one.join().unwrap(), other.join().unwrap()]
        });
        statuses.sort_unstable();
        // Either both were published, one after the other, or the second learned that it was overtaken.
        assert!(statuses == [201, 409] || statuses == [201, 201], "{statuses:?}");
        eventually("both nodes have the same versions", || {
            let versions = |node: &Loom| node.get("/api/v1/workflows/one/versions");
            let current = |node: &Loom| node.get("/api/v1/workflows/one")["version"].clone();
            versions(&a) == versions(&b) && current(&a) == current(&b)
        });
    }
    // Disabled at one node, refused by the other.
    assert_eq!(a.request("POST", "/api/v1/workflows/one/disable", b"").unwrap().status, 200);
    eventually("the other node follows", || b.get("/api/v1/workflows/one")["state"] == "Disabled");
    // Deleted at one node, gone at the other.
    assert_eq!(b.request("DELETE", "/api/v1/workflows/one", b"").unwrap().status, 204);
    eventually("the other node follows", || {
        a.request("GET", "/api/v1/workflows/one", b"").unwrap().status == 404
    });
    // What was deployed is there after all nodes have ended.
    deploy(&a, &[&b], "two", &steps(&service, 1, on_request()));
    a.kill();
    b.kill();
    let c = cluster.node("c");
    let found: Value = c.get("/api/v1/workflows/two");
    assert_eq!(found["version"], "1.0.0");
}

#[test]
fn events_of_a_run_have_no_gap_over_a_takeover() {
    let (service, seen) = service(std::time::Duration::from_millis(40));
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.settles(&b, 2);
    deploy(&a, &[&b], "steps", &steps(&service, 12, on_request()));
    let run = invoke(&a, "steps", "one").unwrap();
    let path = format!("/api/v1/runs/{run}/events");
    eventually("the run is in progress", || seen.count() > 2);
    // A stream at the other node, while the owner is killed.
    let mut events = std::thread::scope(|scope| {
        let stream = scope.spawn(|| b.stream(&path, 0, usize::MAX));
        eventually("the run continues", || seen.count() > 5);
        a.kill();
        stream.join().unwrap()
    });
    assert!(!events.is_empty());
    // As clients of event streams do, it asks for the rest after the last event that it has.
    eventually("the stream has ended with the run", || {
        let last = events.last().map_or(0, |(id, _)| *id);
        events.extend(b.stream(&path, last, usize::MAX));
        events.last().is_some_and(|(_, kind)| kind == "run.completed")
    });
    assert!(events.iter().zip(1..).all(|((id, _), expected)| *id == expected), "{events:?}");
    assert_eq!(events, b.stream(&path, 0, usize::MAX));
    assert_eq!(end_of(&b, &run), "Succeeded");
}
