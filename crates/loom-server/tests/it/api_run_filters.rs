//! The list of runs and their number, by what the runs wait for and by the other facts in their rows.

use hyper::Method;
use loom_expression::Value;

use crate::support::{Plan, World, list, on_disk, requested, text};

fn ids(page: &Value) -> Vec<String> {
    list(page, "runs").iter().map(|row| text(row, "id").to_owned()).collect()
}

/// Deploys one workflow for each thing that a run can wait for.
async fn deploy(world: &World) {
    let pause = r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}}"#;
    world.deploy("timer", &requested(pause)).await;
    let signal = r#"{"Ask": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "P7D"}, "runAfter": {}}}"#;
    world.deploy("signal", &requested(signal)).await;
    // With a Response, its caller waits for it.
    let inner = signal.replace(
        r#""runAfter": {}}}"#,
        r#""runAfter": {}}, "Reply": {"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {"Ask": ["Succeeded"]}}}"#,
    );
    world.deploy("inner", &requested(&inner)).await;
    let child = r#"{"Call": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "inner"}}}, "runAfter": {}}}"#;
    world.deploy("child", &requested(child)).await;
    // Nothing listens on port 9.
    let retrying = r#"{"Try": {"type": "Http", "runAfter": {}, "inputs": {"method": "GET", "uri": "http://127.0.0.1:9/",
        "retryPolicy": {"type": "fixed", "count": 3, "interval": "PT1H"}}}}"#;
    world.deploy("retrying", &requested(retrying)).await;
    let failing = r#"{"Stop": {"type": "Terminate", "runAfter": {},
        "inputs": {"runStatus": "Failed", "runError": {"code": "Spoilt", "message": "The milk of cow 17 is sour."}}}}"#;
    world.deploy("failing", &requested(failing)).await;
}

#[tokio::test]
async fn runs_are_listed_and_counted_by_their_facts_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    deploy(&world).await;
    let headers = [("x-ms-client-tracking-id", "order-17")];
    let reply =
        world.send(Method::POST, "/workflows/timer/triggers/manual/invoke", &headers, "").await.whole().await;
    let timer = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
    let signal = world.invoke("signal", "").await;
    let child = world.invoke("child", "").await;
    let retrying = world.invoke("retrying", "").await;
    let failing = world.invoke("failing", "").await;
    world.ended(&failing).await;
    for start in ["first", "second"] {
        // The facts of a run are in the commit that made them, so what it waits for is listed as soon as it waits.
        let wait = async |query: &str, workflow: &str| {
            for _ in 0..10_000 {
                let page = world.get(&format!("/api/v1/runs?{query}&workflow={workflow}")).await.json();
                if let [only] = ids(&page).as_slice() {
                    return only.clone();
                }
            }
            let all = world.get("/api/v1/runs").await.text();
            panic!("{start}: {query} lists no run of {workflow}: {all}");
        };
        assert_eq!(wait("waitingFor=timer", "timer").await, timer, "{start}");
        assert_eq!(wait("waitingFor=signal&parked=false", "signal").await.len(), 13);
        if start == "first" {
            assert_eq!(wait("waitingFor=child", "child").await, child);
        }
        assert_eq!(wait("retrying=true", "retrying").await, retrying);
        assert_eq!(wait("errorText=COW%2017&error=Spoilt", "failing").await, failing);
        let asked = async |query: &str| ids(&world.get(&format!("/api/v1/runs?{query}")).await.json());
        assert_eq!(asked("trackingId=order-17").await, [timer.as_str()]);
        assert!(asked("waitingFor=callback").await.is_empty());
        assert!(asked("errorText=horse").await.is_empty());
        assert!(asked("waitingFor=gate").await.is_empty());
        assert_eq!(asked("trigger=manual&limit=1000").await.len(), 6, "that of the child has the same name");
        assert!(asked("trigger=other").await.is_empty());
        let ended = if start == "first" { 1 } else { 3 };
        let listed = asked("endedFrom=2020-01-01T00:00:00Z").await;
        assert!(listed.len() == ended && listed.contains(&failing), "{start}: {listed:?}");
        assert!(asked("endedBefore=2020-01-01T00:00:00Z").await.is_empty());
        assert_eq!(asked("startedFrom=2020-01-01T00:00:00Z").await.len(), 6);
        let shown = world.get(&format!("/api/v1/runs?parent={child}")).await.json();
        assert_eq!(list(&shown, "runs").len(), 1);
        let row = world.get("/api/v1/runs?errorText=milk").await.json();
        let row = &list(&row, "runs")[0];
        assert_eq!(text(row, "errorText"), "The milk of cow 17 is sour.");
        assert_eq!([text(row, "triggerName"), text(row, "clientTrackingId")], ["manual", failing.as_str()]);
        let row = world.get("/api/v1/runs?trackingId=order-17").await.json();
        assert_eq!(list(&list(&row, "runs")[0], "waitingFor"), [Value::from("timer")]);

        let count = async |query: &str| {
            let counted = world.get(&format!("/api/v1/runs/count?{query}")).await.json();
            (counted.get("count").and_then(Value::as_i64), counted.get("exact").and_then(Value::as_bool))
        };
        assert_eq!(count("status=Failed").await, (Some(1), Some(true)));
        assert_eq!(count("").await, (Some(6), Some(true)));
        assert_eq!(count("limit=4").await, (Some(4), Some(false)));
        let waiting = if start == "first" { 2 } else { 1 };
        assert_eq!(count("waitingFor=signal").await, (Some(waiting), Some(true)));
        assert_eq!(count("status=Held").await, (Some(0), Some(true)));
        if start == "first" {
            // The definitions are not deployed again, so the caller of a child could not continue to wait.
            let inner = wait("waitingFor=signal", "inner").await;
            assert_eq!(world.post(&format!("/api/v1/runs/{inner}/signals/go"), "{}").await.status, 202);
            world.ended(&child).await;
            world.stop().await;
            world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
        }
    }
    // What a run no longer waits for is gone from the list.
    let sent = world.post(&format!("/api/v1/runs/{signal}/signals/go"), "{}").await;
    assert_eq!(sent.status, 202);
    world.ended(&signal).await;
    assert!(ids(&world.get("/api/v1/runs?waitingFor=signal").await.json()).is_empty());
}

#[tokio::test]
async fn filters_that_cannot_hold_are_rejected() {
    let world = World::new().await;
    for wrong in [
        "?waitingFor=rain",
        "?retrying=false",
        "?retrying=yes",
        "?parked=perhaps",
        "?endedFrom=soon",
        "?waitingFor=gate&status=Failed",
        "/count?cursor=0000000000000",
        "/count?limit=100001",
        "/count?limit=0",
    ] {
        let reply = world.get(&format!("/api/v1/runs{wrong}")).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "BadRequest"), "{wrong}");
    }
}
