//! Retention while the server works: what is removed, and what is reported afterwards.

use hyper::Method;
use loom_expression::Value;
use loom_store::Retention;

use crate::support::{Plan, World, list, on_disk, requested, text};

#[tokio::test]
async fn old_runs_are_removed_and_their_rows_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let definition =
        requested(r#"{"Keep": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}"#);
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    world.deploy("keeper", &definition).await;
    let mut runs = Vec::new();
    for number in 0..5 {
        let run = world.invoke("keeper", &format!(r#"{{"number": {number}}}"#)).await;
        world.ended(&run).await;
        runs.push(run);
    }
    world.stop().await;

    let mut plan = Plan { store: on_disk(directory.path()), ..Plan::default() };
    plan.host.retention = Retention { runs_max: Some(2), ..Retention::default() };
    let world = World::start(plan).await;
    world.deploy("keeper", &definition).await;
    let detail = async |run: &str| world.get(&format!("/api/v1/runs/{run}")).await.json();
    // The sweep runs concurrently with the requests; it takes the run that ended third last.
    while detail(&runs[2]).await.get("forgotten").is_none() {
        tokio::task::yield_now().await;
    }
    for run in &runs[..3] {
        let row = detail(run).await;
        assert_eq!((text(&row, "status"), row.get("forgotten")), ("Succeeded", Some(&Value::from(true))));
        for path in ["actions", "actions/Keep"] {
            let gone = world.get(&format!("/api/v1/runs/{run}/{path}")).await;
            assert_eq!(gone.status, 410);
            assert_eq!(
                gone.json().get("error").map(|error| text(error, "code").to_owned()).as_deref(),
                Some("RunForgotten")
            );
        }
        let path = format!("/api/v1/runs/{run}/events");
        for accept in ["application/json", "text/event-stream"] {
            let gone = world.send(Method::GET, &path, &[("accept", accept)], "").await;
            assert_eq!(gone.status, 410, "a client learns that there will be no events: {accept}");
        }
    }
    let listed = world.get("/api/v1/runs").await.json();
    let marked: Vec<_> = list(&listed, "runs")
        .iter()
        .filter(|row| row.get("forgotten") == Some(&Value::from(true)))
        .map(|row| text(row, "id").to_owned())
        .collect();
    assert_eq!(marked, runs[..3].iter().rev().cloned().collect::<Vec<_>>());
    for run in &runs[3..] {
        let row = detail(run).await;
        assert_eq!((text(&row, "status"), row.get("forgotten")), ("Succeeded", None));
        assert!(!world.events(run, 0).await.is_empty());
    }
    let new = world.run("keeper", "{}").await;
    assert_eq!(text(&new, "status"), "Succeeded");
    world.stop().await;
}
