//! `Idempotency-Key`: a repeated request starts one run, whenever and however often it is repeated.

use futures_util::future::join_all;
use hyper::Method;
use loom_store::Retention;
use loom_testkit::mock::Mock;

use crate::support::{Plan, Reply, World, json, list, on_disk, requested};

/// Responds with the body from a service; with `asynchronous`, later.
fn asking(base: &str, asynchronous: bool) -> String {
    let options = if asynchronous { r#""operationOptions": "Asynchronous","# } else { "" };
    requested(&format!(
        r#"{{"Ask": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/ask", "body": "@triggerBody()"}}}},
            "Answer": {{"type": "Response", {options} "runAfter": {{"Ask": ["Succeeded"]}},
                "inputs": {{"statusCode": 201, "body": "@body('Ask')"}}}}}}"#
    ))
}

async fn service() -> Mock {
    let rules =
        r#"{"rules": [{"path": "/ask", "responses": [{"body": {"price": 7}}, {"body": {"price": 8}}]}]}"#;
    Mock::start(&json(rules)).await.unwrap()
}

async fn invoke(world: &World, path: &str, key: &str, body: &str) -> Reply {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let path = format!("/workflows/{path}");
    world.send(Method::POST, &path, &headers, body.to_owned()).await.whole().await
}

fn run_of(reply: &Reply) -> &str {
    reply.header("x-ms-workflow-run-id").unwrap_or_else(|| panic!("no run: {reply:?}"))
}

async fn runs(world: &World) -> usize {
    list(&world.get("/api/v1/runs").await.json(), "runs").len()
}

#[tokio::test]
async fn a_repeated_request_receives_the_response_of_the_first() {
    let (world, mock) = (World::new().await, service().await);
    world.deploy("ask", &asking(&mock.base_url(), false)).await;
    let path = "ask/triggers/manual/invoke";
    let first = invoke(&world, path, "k-1", r#"{"id": 1}"#).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    let again = invoke(&world, "ask/triggers/MANUAL/invoke", "k-1", r#"{"id": 1}"#).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!((again.json(), run_of(&again)), (json(r#"{"price": 7}"#), run_of(&first)));
    assert_eq!(again.header("x-ms-workflow-version"), first.header("x-ms-workflow-version"));
    assert_eq!((runs(&world).await, mock.requests().len()), (1, 1));

    // Any difference makes it another request.
    for (path, body) in [
        (path, r#"{"id": 2}"#),
        (path, r#"{"id":1}"#),
        ("ask/triggers/manual/invoke?urgent=yes", r#"{"id": 1}"#),
    ] {
        let other = invoke(&world, path, "k-1", body).await;
        assert_eq!((other.status, other.error().as_str()), (422, "IdempotencyKeyReused"));
        assert!(other.text().contains(run_of(&first)), "{other:?}");
    }
    let long = "k".repeat(256);
    for wrong in ["", " ", long.as_str(), "\u{e9}"] {
        let reply = invoke(&world, path, wrong, r#"{"id": 1}"#).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "IdempotencyKeyInvalid"), "{wrong:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let twice = world.send(Method::POST, &format!("/workflows/{path}"), &twice, "").await.whole().await;
    assert_eq!((twice.status, twice.error().as_str()), (400, "IdempotencyKeyInvalid"));
    assert_eq!(runs(&world).await, 1);

    // A key of maximum length is valid, and keys of different workflows are independent.
    world.deploy("other", &asking(&mock.base_url(), false)).await;
    for (path, key) in [(path, &long[1..]), ("other/triggers/manual/invoke", "k-1")] {
        let new = invoke(&world, path, key, r#"{"id": 1}"#).await;
        assert_eq!((new.json(), new.header("idempotent-replayed")), (json(r#"{"price": 8}"#), None));
    }
    // The stored response stays, whatever has been deployed since.
    world.deploy("ask", &requested("{}")).await;
    let after = invoke(&world, path, "k-1", r#"{"id": 1}"#).await;
    assert_eq!((after.status, after.json(), run_of(&after)), (201, json(r#"{"price": 7}"#), run_of(&first)));
    assert_eq!(after.header("x-ms-workflow-version"), None);
    mock.stop().await;
}

#[tokio::test]
async fn concurrent_requests_with_one_key_share_one_run() {
    let (world, mock) = (World::new().await, service().await);
    world.deploy("ask", &asking(&mock.base_url(), false)).await;
    mock.answer_only(0);
    let path = "ask/triggers/manual/invoke";
    let eight = (0..8).map(|_| invoke(&world, path, "k", "{}"));
    let late = async {
        mock.came(1).await;
        // The second request arrives while the run is certainly in progress.
        tokio::join!(invoke(&world, path, "k", "{}"), async { mock.answer_only(1) }).0
    };
    let (eight, late) = tokio::join!(join_all(eight), late);
    for reply in eight.iter().chain([&late]) {
        assert_eq!(
            (reply.status, reply.json(), run_of(reply)),
            (201, json(r#"{"price": 7}"#), run_of(&late))
        );
    }
    let first = eight.iter().filter(|one| one.header("idempotent-replayed").is_none()).count();
    assert_eq!((first, runs(&world).await, mock.requests().len()), (1, 1, 1));
    mock.stop().await;
}

#[tokio::test]
async fn a_key_survives_a_restart() {
    let (directory, mock) = (tempfile::tempdir().unwrap(), service().await);
    let path = "ask/triggers/manual/invoke";
    let open = async || {
        let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
        world.deploy("ask", &asking(&mock.base_url(), false)).await;
        world
    };
    let world = open().await;
    let ended = invoke(&world, path, "ended", "{}").await;
    mock.answer_only(1);
    // The caller disconnects when the server stops, with its run in the middle of a call.
    let waiting = invoke(&world, path, "waiting", "{}");
    let stop = async {
        mock.came(2).await;
        world.host.shut_down().await.unwrap();
    };
    let (waiting, ()) = tokio::join!(waiting, stop);
    assert_eq!(waiting.status, 202, "{waiting:?}");
    drop(world);

    let world = open().await;
    assert_eq!(world.recovered.runs, 1);
    let again = invoke(&world, path, "ended", "{}").await;
    assert_eq!((again.json(), run_of(&again)), (ended.json(), run_of(&ended)));
    let other = invoke(&world, path, "waiting", "[]").await;
    assert_eq!(other.status, 422, "{other:?}");
    let attached = invoke(&world, path, "waiting", "{}");
    let (attached, ()) = tokio::join!(attached, async { mock.answer_only(usize::MAX) });
    assert_eq!((attached.status, run_of(&attached)), (201, run_of(&waiting)), "{attached:?}");
    assert_eq!(runs(&world).await, 2);
    world.stop().await;
    mock.stop().await;
}

#[tokio::test]
async fn a_late_response_and_a_missing_one_are_repeated_unchanged() {
    let (world, mock) = (World::new().await, service().await);
    world.deploy("later", &asking(&mock.base_url(), true)).await;
    world.deploy("silent", &requested(r#"{"Say": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    world
        .deploy(
            "split",
            r#"{"definition": {"triggers": {"manual": {"type": "Request", "splitOn": "@triggerBody()"}},
                "actions": {"Say": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}}}"#,
        )
        .await;
    for (workflow, body, started) in [("later", "{}", 1), ("silent", "", 1), ("split", "[1, 2, 3]", 3)] {
        let before = runs(&world).await;
        let path = format!("{workflow}/triggers/manual/invoke");
        let first = invoke(&world, &path, "k", body).await;
        let again = invoke(&world, &path, "k", body).await;
        assert_eq!((first.status, again.status), (202, 202), "{workflow}");
        assert_eq!(run_of(&again), run_of(&first));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(first.header("location").is_some(), workflow == "later");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(runs(&world).await, before + started, "{workflow}");
        let other = invoke(&world, &path, "k", "[4]").await;
        assert_eq!(other.status, 422);
    }
    mock.stop().await;
}

#[tokio::test]
async fn a_request_that_starts_no_run_uses_no_key() {
    let world = World::new().await;
    let text_of = r#"{"definition": {"triggers": {"manual": {"type": "Request",
            "conditions": [{"expression": "@equals(triggerBody()['go'], true)"}]}},
        "actions": {"Answer": {"type": "Response", "inputs": {"body": "gone"}, "runAfter": {}}}}}"#;
    world.deploy("choosy", text_of).await;
    let path = "choosy/triggers/manual/invoke";
    let held = invoke(&world, path, "k", r#"{"go": false}"#).await;
    let broken = invoke(&world, path, "k", "{").await;
    let gone = invoke(&world, path, "k", r#"{"go": true}"#).await;
    assert_eq!((held.status, broken.status, gone.status, gone.text().as_str()), (202, 400, 200, "gone"));
}

#[tokio::test]
async fn a_removed_response_is_reported_as_removed() {
    let directory = tempfile::tempdir().unwrap();
    let definition = requested(r#"{"Answer": {"type": "Response", "inputs": {"body": 1}, "runAfter": {}}}"#);
    let path = "ask/triggers/manual/invoke";
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    world.deploy("ask", &definition).await;
    let first = invoke(&world, path, "k", "").await;
    world.ended(run_of(&first)).await;
    world.stop().await;
    let mut plan = Plan { store: on_disk(directory.path()), ..Plan::default() };
    plan.host.retention = Retention { runs_max: Some(0), ..Retention::default() };
    let world = World::start(plan).await;
    world.deploy("ask", &definition).await;
    let detail = format!("/api/v1/runs/{}", run_of(&first));
    while world.get(&detail).await.json().get("forgotten").is_none() {
        tokio::task::yield_now().await;
    }
    let again = invoke(&world, path, "k", "").await;
    assert_eq!((again.status, again.error().as_str()), (410, "AnswerForgotten"));
    world.stop().await;
}
