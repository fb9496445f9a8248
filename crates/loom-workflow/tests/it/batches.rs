//! The real binary, killed at random while messages are sent to a batch and batches are released: in the end each
//! message is in exactly one run of the collector.

use std::{collections::BTreeMap, ffi::OsStr, time::Duration};

use crate::served::{self, Loom, pause};

const SENDER: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
    "Each": {"type": "Foreach", "foreach": "@range(0, 3)", "actions": {
        "Send": {"type": "SendToBatch", "inputs": {"batchName": "Orders", "partitionName": "p@{mod(item(), 2)}",
            "content": "@{workflow()?['run']?['name']}/@{item()}",
            "host": {"triggerName": "Collect", "workflow": {"id": "collector"}}}}}}}}}"#;

const COLLECTOR: &str = r#"{"definition": {"triggers": {"Collect": {"type": "Batch", "inputs": {"mode": "Inline",
    "configurations": {"Orders": {"releaseCriteria": {"messageCount": 7,
        "recurrence": {"frequency": "Second", "interval": 1}}}}}}}, "actions": {}}}"#;

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 1_200;

#[test]
fn no_kill_loses_or_duplicates_a_batch_message() {
    let kills = served::setting("LOOM_CRASH_KILLS", 4);
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_124);
    let directory = tempfile::tempdir().unwrap();
    let (workflows, data) = (directory.path().join("workflows"), directory.path().join("data"));
    std::fs::create_dir(&workflows).unwrap();
    std::fs::write(workflows.join("sender.json"), SENDER).unwrap();
    std::fs::write(workflows.join("collector.json"), COLLECTOR).unwrap();
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), workflows.as_os_str(), "--data".as_ref(), data.as_os_str()];

    let mut accepted = Vec::new();
    let mut state = seed;
    for _ in 0..kills {
        let mut loom = Loom::serve(&arguments);
        // Knuth's MMIX generator; its high bits are random enough to spread the kills.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let killer = loom.kill_after(Duration::from_millis(50 + (state >> 33) % LIFE_MILLIS));
        while let Some(answer) = loom.request("POST", "/workflows/sender/triggers/manual/invoke", b"{}") {
            assert_eq!(answer.status, 202, "{answer:?}");
            accepted.push(answer.header("x-ms-workflow-run-id").unwrap());
            pause(Duration::from_millis(3));
        }
        killer.join().unwrap();
        loom.wait_for_end();
    }
    let context = format!("seed {seed}, {kills} kills");
    let loom = Loom::serve(&arguments);
    assert!(!accepted.is_empty(), "{context}: some run was accepted before the kills");
    for run in &accepted {
        assert_eq!(loom.end_of(run), "Succeeded", "{context}");
    }
    let senders = loom.pages("/api/v1/runs?workflow=sender&limit=500", "runs", "cursor");
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for run in &senders {
        let id = run["id"].as_str().unwrap();
        loom.end_of(id);
        sent.extend((0..3).map(|item| (format!("{id}/{item}"), 0)));
    }
    // The recurrence releases every pending message within a second.
    let mut patience = 100;
    loop {
        let mut seen = sent.clone();
        let collected = loom.pages("/api/v1/runs?workflow=collector&limit=500", "runs", "cursor");
        for run in &collected {
            let run = loom.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
            let body = &run["trigger"]["outputs"]["body"];
            let items = body["items"].as_array().unwrap();
            assert!((1..=7).contains(&items.len()), "{context}: {body}");
            for item in items {
                let content = item["content"].as_str().unwrap();
                let place = content.rsplit('/').next().unwrap().parse::<usize>().unwrap();
                assert_eq!(body["partitionName"], format!("p{}", place % 2), "{context}: {content}");
                *seen.get_mut(content).unwrap_or_else(|| panic!("{context}: {content} was never sent")) += 1;
            }
        }
        let doubled: Vec<&String> = seen.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
        assert!(doubled.is_empty(), "{context}: delivered twice: {doubled:?}");
        let missing: Vec<&String> = seen.iter().filter(|(_, times)| **times == 0).map(|(id, _)| id).collect();
        if missing.is_empty() {
            eprintln!("{context}: {} messages in {} batches", seen.len(), collected.len());
            return;
        }
        assert!(patience > 0, "{context}: lost: {missing:?}");
        patience -= 1;
        pause(Duration::from_millis(100));
    }
}
