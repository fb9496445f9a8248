//! Which ends RunEnded triggers fire for.

use std::sync::Arc;

use loom_engine::{ENDED_RUNS, RunId};
use loom_expression::{Object, Value};
use loom_store::{Commit, RunQuery, RunRow};

use crate::{
    Host,
    fire::Fire,
    keys::key_write,
    triggers::tests::{World, crash, pass},
};

/// A workflow that ends with `status`, started manually or by this trigger.
fn ending(status: &str, trigger: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "actions": {{"Stop": {{"type": "Terminate", "runAfter": {{}},
            "inputs": {{"runStatus": "{status}", "runError": {{"code": "Broken", "message": "it broke"}}}}}}}}}}}}"#
    )
}

fn after(workflows: &str) -> String {
    format!(r#"{{"type": "RunEnded", "inputs": {{"workflows": {workflows}, "statuses": ["Failed"]}}}}"#)
}

const BY_HAND: &str = r#"{"type": "Request"}"#;

async fn fire(host: &Arc<Host>, workflow: &str) -> RunId {
    let deployment = host.deployments.get(workflow).unwrap();
    let fire = Fire {
        deployment: &deployment,
        trigger: &deployment.workflow.triggers[0],
        outputs: Object::new().into(),
        tracking_id: None,
        wants_response: false,
        trace: None,
    };
    host.fire(fire).await.unwrap().runs[0]
}

async fn runs_of(world: &World, workflow: &str) -> Vec<RunRow> {
    let query = RunQuery { workflow: Some(workflow.into()), limit: 100, ..RunQuery::default() };
    world.store.runs(query).await.unwrap().rows
}

async fn ends_left(world: &World) -> usize {
    let query =
        loom_store::KeyQuery { namespace: ENDED_RUNS.into(), prefix: String::new(), after: None, limit: 100 };
    world.store.keys(query).await.unwrap().values.len()
}

#[tokio::test(start_paused = true)]
async fn each_matching_end_starts_a_run_with_its_details() {
    let world = World::new(&[]);
    let (fails, cancelled) = (ending("Failed", BY_HAND), ending("Cancelled", BY_HAND));
    let handler = ending("Succeeded", &after(r#"["FAILS", "cancelled"]"#));
    let definitions =
        [("fails", &*fails), ("cancelled", &cancelled), ("other", &fails), ("handler", &handler)];
    let host = world.process(&definitions).await;
    let failed = [fire(&host, "fails").await, fire(&host, "fails").await];
    fire(&host, "cancelled").await;
    fire(&host, "other").await;
    pass(1).await;
    let handled = runs_of(&world, "handler").await;
    assert_eq!(handled.len(), 2, "one for each run of a named workflow with a named status");
    let mut reported = Vec::new();
    for row in &handled {
        let start = host.engine.start_of(row.id).await.unwrap().unwrap();
        let body = start.trigger.get("outputs").and_then(|outputs| outputs.get("body")).unwrap();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!((text("workflow"), text("status")), ("fails".to_owned(), "Failed".to_owned()));
        assert!(!text("startTime").is_empty() && !text("endTime").is_empty());
        let error = body.get("error").unwrap().to_json_text();
        assert_eq!(error, r#"{"code":"Broken","message":"it broke"}"#);
        reported.push(text("runId"));
    }
    reported.sort();
    assert_eq!(reported, failed.map(|run| run.to_string()));
    assert_eq!(world.history("handler/t").await, ["Succeeded", "Succeeded"]);
    assert_eq!(ends_left(&world).await, 0);
    // What ends while the trigger is disabled is not made up for.
    host.switch("handler", None, false).await.unwrap();
    fire(&host, "fails").await;
    pass(1).await;
    host.switch("handler", None, true).await.unwrap();
    pass(10).await;
    assert_eq!(runs_of(&world, "handler").await.len(), 2);
    fire(&host, "fails").await;
    pass(1).await;
    assert_eq!(runs_of(&world, "handler").await.len(), 3);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_trigger_never_fires_for_what_it_started_itself() {
    let world = World::new(&[]);
    let itself = ending("Failed", &after(r#"["itself", "first"]"#));
    let mutual = [ending("Failed", &after(r#"["there"]"#)), ending("Failed", &after(r#"["back", "first"]"#))];
    let calls = r#"{"definition": {"triggers": {"t": {"type": "RunEnded", "inputs": {"workflows": ["child", "first"], "statuses": ["Failed"]}}},
        "actions": {"Call": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "child"}}}, "runAfter": {}}}}}"#;
    let child = r#"{"definition": {"triggers": {"t": {"type": "Request"}}, "actions": {
        "Answer": {"type": "Response", "inputs": {}, "runAfter": {}},
        "Stop": {"type": "Terminate", "inputs": {"runStatus": "Failed"}, "runAfter": {"Answer": ["Succeeded"]}}}}}"#;
    let first = ending("Failed", BY_HAND);
    let definitions = [
        ("first", &*first),
        ("itself", &itself),
        ("back", &mutual[0]),
        ("there", &mutual[1]),
        ("calls", calls),
        ("child", child),
    ];
    let host = world.process(&definitions).await;
    fire(&host, "first").await;
    pass(60).await;
    let counts = async || {
        let mut counts = Vec::new();
        for name in ["itself", "there", "back", "calls", "child"] {
            counts.push(runs_of(&world, name).await.len());
        }
        counts
    };
    // Each fires for the run that no trigger started. `back` fires for `there`, and `there` does not fire for that run again.
    assert_eq!(counts().await, [1, 1, 1, 1, 1]);
    // A run of the child that another caller starts does fire it.
    fire(&host, "child").await;
    pass(60).await;
    assert_eq!(counts().await, [1, 1, 1, 2, 3]);
    assert_eq!(ends_left(&world).await, 0);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_recorded_before_a_crash_fires_once() {
    let world = World::new(&[]);
    let (fails, handler) = (ending("Failed", BY_HAND), ending("Succeeded", &after(r#"["fails"]"#)));
    let host = world.process(&[("fails", &fails), ("handler", &handler)]).await;
    // From here on nothing fires, as if the process had been killed right after the end.
    host.tasks.close();
    host.switches.adopt("handler".to_owned(), host.switches.order("handler", false, 0).unwrap().0);
    let run = fire(&host, "fails").await;
    pass(1).await;
    assert_eq!(runs_of(&world, "handler").await.len(), 0);
    crash(host).await;
    let record = |run: RunId| {
        let end = format!(r#"{{"run": "{run}", "workflow": "fails", "status": "Failed"}}"#);
        let mut commit = Commit::new();
        commit.keys.push(key_write(
            ENDED_RUNS,
            &run.to_string(),
            Value::from_json_str(&end).unwrap().into_object(),
        ));
        commit
    };
    for _ in 0..2 {
        // The second record simulates a process that was killed after the trigger fired and before the record was removed.
        world.store.commit(record(run)).await.unwrap();
        let host = world.process(&[("fails", &fails), ("handler", &handler)]).await;
        pass(1).await;
        assert_eq!(runs_of(&world, "handler").await.len(), 1);
        assert_eq!(ends_left(&world).await, 0);
        assert_eq!(world.history("handler/t").await, ["Succeeded"]);
        crash(host).await;
    }
}
