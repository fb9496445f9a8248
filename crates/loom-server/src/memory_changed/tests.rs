//! Which changes start runs, in virtual time.

use std::{sync::Arc, time::Duration};

use loom_engine::RunId;
use loom_expression::Value;
use loom_memory::{Address, Operation, Request, SharedMemory};
use loom_store::RunQuery;

use crate::{
    Host,
    triggers::tests::{World, crash, deploy, pass},
};

/// A workflow with this trigger, whose outputs are the action's.
fn workflow(trigger: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "memory": {{"read": ["chat:*"]}}, "actions":
            {{"Echo": {{"type": "Compose", "inputs": "@triggerBody()", "runAfter": {{}}}}}}}}}}"#
    )
}

fn watching(inputs: &str) -> String {
    workflow(&format!(r#"{{"type": "MemoryChanged", "inputs": {inputs}}}"#))
}

async fn write(host: &Arc<Host>, address: &str, operation: Operation) {
    let Address { namespace, key } = Address::parse(address, None).unwrap();
    let request = Request::new(key.as_arc_str(), operation).unwrap();
    host.memory().transact(&namespace, vec![request]).await.unwrap();
}

async fn set(host: &Arc<Host>, address: &str, value: i64) {
    write(host, address, Operation::set(value)).await;
}

/// The bodies of the trigger of all runs, oldest first.
async fn bodies(world: &World, host: &Arc<Host>) -> Vec<Value> {
    let mut bodies = Vec::new();
    for run in world.runs().await {
        let (_, history) = host.engine.history(run).await.unwrap().unwrap();
        let start = history.start.as_ref().expect("it has started");
        let outputs = start.trigger.get("outputs").cloned().unwrap_or_default();
        bodies.push(outputs.get("body").cloned().unwrap_or_default());
    }
    bodies
}

/// Each change as `key=value`, or `-key`.
fn short(change: &Value) -> String {
    let key = change.get("key").and_then(Value::as_str).expect("a change has a key");
    match change.get("change").and_then(Value::as_str) {
        Some("written") => format!("{key}={}", change.get("value").unwrap().to_json_text()),
        _ => format!("-{key}"),
    }
}

async fn changes(world: &World, host: &Arc<Host>) -> Vec<String> {
    bodies(world, host).await.iter().map(short).collect()
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_prefix_starts_a_run() {
    let world = World::new(&[]);
    let definition = watching(r#"{"namespace": "chat:1", "prefix": "a/"}"#);
    let host = world.process(&[]).await;
    set(&host, "chat:1/a/before", 0).await;
    deploy(&host, "w", &definition).await;
    pass(2).await;
    set(&host, "chat:1/a/x", 1).await;
    pass(2).await;
    set(&host, "chat:1/a/x", 2).await;
    set(&host, "chat:1/b", 3).await;
    set(&host, "chat:2/a/x", 4).await;
    write(&host, "chat:1/a/list", Operation::append(5)).await;
    pass(2).await;
    write(&host, "chat:1/a/x", Operation::Delete).await;
    pass(2).await;
    assert_eq!(changes(&world, &host).await, ["a/x=1", "a/x=2", "a/list=[5]", "-a/x"]);
    let first = bodies(&world, &host).await.remove(0);
    let text = |name: &str| first.get(name).unwrap().text();
    assert_eq!(
        (text("namespace"), text("type"), text("change")),
        ("chat:1".into(), "value".into(), "written".into())
    );
    assert!(
        first.get("revision").and_then(Value::as_i64).unwrap() > 0 && first.get("expires").unwrap().is_null()
    );
    assert_eq!(world.history("w/t").await, ["Succeeded"; 4]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn conditions_are_about_one_change() {
    let world = World::new(&[]);
    let definition = workflow(
        r#"{"type": "MemoryChanged", "inputs": {"namespace": "workflow"}, "conditions": [{"expression": "@greater(coalesce(triggerBody()?['value'], 0), 1)"}]}"#,
    );
    let host = world.process(&[("w", &definition)]).await;
    pass(2).await;
    for value in 0..4 {
        set(&host, &format!("workflow:w/{value}"), value).await;
    }
    set(&host, "workflow:other/9", 9).await;
    pass(2).await;
    assert_eq!(changes(&world, &host).await, ["2=2", "3=3"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_batch_size_a_run_gets_several_changes() {
    let world = World::new(&[]);
    let definition = watching(r#"{"namespace": "global", "batchSize": 3}"#);
    let host = world.process(&[("w", &definition)]).await;
    pass(2).await;
    for value in 0..7 {
        set(&host, &format!("global/{value}"), value).await;
    }
    pass(2).await;
    let bodies = bodies(&world, &host).await;
    let all: Vec<String> = bodies
        .iter()
        .flat_map(|body| body.get("changes").unwrap().as_array().unwrap().iter().map(short))
        .collect();
    assert_eq!(all, ["0=0", "1=1", "2=2", "3=3", "4=4", "5=5", "6=6"]);
    assert!(
        bodies.len() < 7
            && bodies.iter().all(|body| body.get("changes").unwrap().as_array().unwrap().len() <= 3)
    );
    crash(host).await;
}

/// What changes while no process runs the trigger starts runs later, once; so does what changes during a new deployment.
#[tokio::test(start_paused = true)]
async fn the_position_survives_crashes_and_new_versions() {
    let world = World::new(&[]);
    let definition = watching(r#"{"namespace": "global", "prefix": "k"}"#);
    let mut expected = Vec::new();
    for life in 0..6 {
        let host = world.process(&[]).await;
        for number in 0..3 {
            set(&host, &format!("global/k{life}{number}"), life).await;
            expected.push(format!("k{life}{number}={life}"));
        }
        if life == 0 {
            // Nothing before the first deployment counts.
            expected.clear();
        }
        let version = definition.replace("Echo", if life < 3 { "Echo" } else { "Other" });
        deploy(&host, "w", &version).await;
        // Some processes end before the trigger has handled everything.
        if life % 2 == 0 {
            pass(2).await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        crash(host).await;
    }
    let host = world.process(&[("w", &definition)]).await;
    pass(2).await;
    assert_eq!(changes(&world, &host).await, expected);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_the_limit_of_concurrent_runs() {
    let world = World::new(&[]);
    let definition = r#"{"definition": {"triggers": {"t": {"type": "MemoryChanged", "inputs": {"namespace": "global"},
        "runtimeConfiguration": {"concurrency": {"runs": 1, "maximumWaitingRuns": 1}}}},
        "actions": {"Wait": {"type": "Wait", "inputs": {"interval": {"count": 10, "unit": "Second"}}, "runAfter": {}}}}}"#;
    let host = world.process(&[("w", definition)]).await;
    pass(2).await;
    for value in 0..5 {
        set(&host, &format!("global/{value}"), value).await;
    }
    pass(2).await;
    assert!(world.runs().await.len() <= 2, "one runs, one waits");
    pass(200).await;
    assert_eq!(changes(&world, &host).await, ["0=0", "1=1", "2=2", "3=3", "4=4"]);
    crash(host).await;
}

/// A run of the workflow changes the key again: that is a change of its own, and a condition ends the chain.
#[tokio::test(start_paused = true)]
async fn a_run_that_writes_what_its_trigger_watches_starts_another() {
    let world = World::new(&[]);
    let definition = r#"{"definition": {"triggers": {"t": {"type": "MemoryChanged", "inputs": {"namespace": "workflow", "prefix": "n"},
        "conditions": [{"expression": "@less(triggerBody()['value'], 5)"}]}},
        "actions": {"Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "workflow/n"}, "runAfter": {}}}}}"#;
    let host = world.process(&[("w", definition)]).await;
    pass(2).await;
    write(&host, "workflow:w/n", Operation::increment(1)).await;
    pass(20).await;
    let query = RunQuery { workflow: Some("w".into()), limit: 100, ..RunQuery::default() };
    let runs: Vec<RunId> = world.store.runs(query).await.unwrap().rows.iter().map(|row| row.id).collect();
    assert_eq!(runs.len(), 4, "the values 1 to 4 start runs");
    crash(host).await;
}
