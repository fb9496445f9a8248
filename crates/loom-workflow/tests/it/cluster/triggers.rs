//! Triggers that act on their own, and limits, over several nodes.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{Cluster, LONG, definition, deploy, end_of, eventually, invoke, on_request, service, steps};
use crate::served::{Loom, pause};

#[test]
fn a_concurrency_limit_counts_the_runs_of_all_nodes() {
    let (service, seen) = service(Duration::from_millis(30));
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.settles(&a, 2);
    let mut trigger = on_request();
    trigger["runtimeConfiguration"] = json!({"concurrency": {"runs": 1}});
    deploy(&a, &[&b], "limited", &steps(&service, 2, trigger));
    let mut runs = Vec::new();
    for number in 0..10 {
        runs.push(invoke([&a, &b][number % 2], "limited", &number.to_string()).unwrap());
    }
    for run in &runs[..3] {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    a.kill();
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    assert_eq!(seen.count(), 20);
    assert_eq!(seen.most_at_once(), 1, "one run at a time");
    // The control: without the limit, they overlap.
    deploy(&b, &[], "free", &steps(&service, 2, on_request()));
    let runs: Vec<String> = (0..10).map(|number| invoke(&b, "free", &number.to_string()).unwrap()).collect();
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    assert!(seen.most_at_once() > 1);
}

#[test]
fn a_child_with_a_limit_is_started_by_the_node_that_counts_it() {
    let (service, seen) = service(Duration::from_millis(20));
    let cluster = Cluster::new();
    let (a, b) = (cluster.node_with("a", LONG, &[]), cluster.node_with("b", LONG, &[]));
    cluster.settles(&a, 2);
    let mut trigger = on_request();
    trigger["runtimeConfiguration"] = json!({"concurrency": {"runs": 1}});
    let mut child = steps(&service, 2, trigger);
    child["actions"]["answer"] = json!({"type": "Response", "inputs": {"statusCode": 200, "body": "@triggerBody()"},
        "runAfter": {"step1": ["Succeeded"]}});
    deploy(&a, &[&b], "child", &child);
    let call = json!({"call": {"type": "Workflow", "runAfter": {},
        "inputs": {"host": {"workflow": {"id": "child"}}, "body": {"from": "a parent"}}}});
    deploy(&a, &[&b], "parent", &definition(on_request(), call));
    let runs: Vec<String> =
        (0..8).map(|number| invoke([&a, &b][number % 2], "parent", &number.to_string()).unwrap()).collect();
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
        let action = b.get(&format!("/api/v1/runs/{run}/actions/call"));
        assert_eq!(action["occurrences"][0]["outputs"]["body"], json!({"from": "a parent"}), "{action}");
    }
    assert_eq!((seen.count(), seen.repeated()), (16, 0));
    assert_eq!(seen.most_at_once(), 1, "one child at a time");
}

fn occurrences(node: &Loom, workflow: &str) -> Vec<String> {
    let path = format!("/api/v1/workflows/{workflow}/triggers/start/histories?limit=1000");
    let page = node.get(&path);
    let histories = page["histories"].as_array().unwrap();
    histories
        .iter()
        .filter(|one| one["fired"] == Value::Bool(true))
        .map(|one| one["scheduledTime"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn recurrences_and_batches_act_once_while_nodes_are_killed() {
    let (service, _) = service(Duration::ZERO);
    let cluster = Cluster::new();
    let b = cluster.node("b");
    let mut a = Some(cluster.node("a"));
    cluster.settles(&b, 2);
    let every_second = json!({"type": "Recurrence", "recurrence": {"frequency": "Second", "interval": 1}});
    for number in 0..6 {
        deploy(&b, &[], &format!("tick{number}"), &steps(&service, 1, every_second.clone()));
    }
    let batch = json!({"type": "Batch", "inputs": {"mode": "Inline", "configurations": {
        "all": {"releaseCriteria": {"messageCount": 5}}}}});
    deploy(&b, &[a.as_ref().unwrap()], "collect", &steps(&service, 1, batch));
    let send = json!({"send": {"type": "SendToBatch", "runAfter": {}, "inputs": {
        "batchName": "all", "content": "x",
        "host": {"triggerName": "start", "workflow": {"id": "collect"}}}}});
    deploy(&b, &[a.as_ref().unwrap()], "sender", &definition(on_request(), send));
    let mut sent = Vec::new();
    for life in 0..3 {
        for number in 0..10 {
            let node = if number % 2 == 0 { a.as_ref().unwrap() } else { &b };
            sent.push(invoke(node, "sender", &format!("{life}-{number}")).unwrap());
        }
        pause(Duration::from_millis(1_500));
        drop(a.take());
        cluster.settles(&b, 1);
        a = Some(cluster.node("a"));
        cluster.settles(&b, 2);
    }
    for run in &sent {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    eventually("all messages were collected, in six runs", || {
        b.get("/api/v1/runs/count?workflow=collect&status=Succeeded")["count"] == json!(6)
    });
    for number in 0..6 {
        let all = occurrences(&b, &format!("tick{number}"));
        let once: BTreeSet<&String> = all.iter().collect();
        assert!(all.len() > 5, "it fires: {all:?}");
        assert_eq!(all.len(), once.len(), "each occurrence fires once");
    }
}
