//! Egress control: where a served workflow may send requests.

use loom_actions::Egress;
use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, list, requested, text};

/// Runs an action that requests `path` of the mock; returns the action's code, its error's code and the number of requests.
async fn ask(egress: Egress, path: &str) -> (String, Option<String>, usize) {
    let rules = r#"{"rules": [
        {"path": "/ok", "response": {"body": 1}},
        {"path": "/away", "response": {"status": 302, "headers": {"location": "http://other.example/ok"}}}]}"#;
    let mock = Mock::start(&json(rules)).await.unwrap();
    let mut plan = Plan::default();
    plan.requests.egress = egress;
    let world = World::start(plan).await;
    let uri = format!("{}{path}", mock.base_url());
    let call = format!(
        r#"{{"Call": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "GET", "uri": "{uri}", "retryPolicy": {{"type": "none"}}}}}}}}"#
    );
    world.deploy("ask", &requested(&call)).await;
    let run = world.run("ask", "").await;
    let shown = world.get(&format!("/api/v1/runs/{}/actions/Call", text(&run, "id"))).await.json();
    let only = &list(&shown, "occurrences")[0];
    let error = only.get("error").map(|error| text(error, "code").to_owned());
    let asked = mock.requests().len();
    mock.stop().await;
    (text(only, "code").to_owned(), error, asked)
}

#[tokio::test]
async fn private_addresses_and_other_hosts_are_refused_before_anything_is_sent() {
    assert_eq!(ask(Egress::default(), "/ok").await, ("OK".to_owned(), None, 1));
    let (code, error, asked) = ask(Egress::default().block_private(true), "/ok").await;
    assert_eq!((error.as_deref(), asked), (Some("EgressForbidden"), 0), "{code}");
    let elsewhere = Egress::default().allow("service.example").unwrap();
    let (code, error, asked) = ask(elsewhere, "/ok").await;
    assert_eq!((error.as_deref(), asked), (Some("EgressForbidden"), 0), "{code}");
    let here = Egress::default().allow("127.0.0.1").unwrap();
    assert_eq!(ask(here.clone(), "/ok").await, ("OK".to_owned(), None, 1));
    // A redirect is not followed; its response is the action's.
    assert_eq!(ask(here, "/away").await, ("Found".to_owned(), Some("Found".to_owned()), 1));
}
