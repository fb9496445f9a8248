//! MemoryChanged triggers across `kill -9`: each change starts one run, whenever the process is killed.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    loom,
    served::{Loom, pause},
};

/// Keys that are written in each life of the process, before and during the kill.
const KEYS: usize = 60;

fn serve(workflows: &Path, data: &Path) -> Loom {
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), workflows.as_ref(), "--data".as_ref(), data.as_ref()];
    Loom::serve(&arguments)
}

/// The lines that a command prints about the directory of a stopped server.
fn lines(data: &Path, arguments: &[&str]) -> usize {
    let mut all = arguments.to_vec();
    all.extend(["--data", data.to_str().unwrap()]);
    let ended = loom(&all);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().count()
}

#[test]
fn each_change_starts_one_run_whenever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (workflows, data) = (directory.path().join("workflows"), directory.path().join("data"));
    fs::create_dir(&workflows).unwrap();
    for (name, prefix) in [("follows", "k/"), ("hot", "hot")] {
        let definition = json!({"definition": {
            "triggers": {"t": {"type": "MemoryChanged", "inputs": {"namespace": "global", "prefix": prefix}}},
            "actions": {"Echo": {"type": "Compose", "inputs": "@triggerBody()['value']", "runAfter": {}}},
        }});
        fs::write(workflows.join(format!("{name}.json")), definition.to_string()).unwrap();
    }

    // The control: some kills happen between a change and the run that it starts.
    let mut behind = 0;
    for round in 0..6 {
        let server = serve(&workflows, &data);
        let killed = server.kill_after(Duration::from_millis(150 + 60 * round));
        for number in 0..KEYS {
            // One key changes again and again; its changes may be one.
            let body = json!({"operations": [{"operation": "set", "key": format!("k/{round}-{number}"), "value": number},
                {"operation": "increment", "key": "hot"}]});
            let body = body.to_string();
            // A killed process sends no response.
            if server.request("POST", "/api/v1/memory/global", body.as_bytes()).is_none() {
                break;
            }
        }
        killed.join().unwrap();
        drop(server);
        let keys = lines(&data, &["memory", "list", "global", "--prefix", "k/", "--json"]);
        let runs = lines(&data, &["runs", "list", "--quiet", "--limit", "1000", "--workflow", "follows"]);
        behind += keys.saturating_sub(runs);
    }
    assert!(behind > 0, "no kill came in between");

    let server = serve(&workflows, &data);
    let keys = |prefix: &str| -> BTreeMap<String, i64> {
        let keys =
            server.pages(&format!("/api/v1/memory/global?prefix={prefix}&limit=500"), "keys", "cursor");
        let read = |key: &Value| (key["key"].as_str().unwrap().to_owned(), key["revision"].as_i64().unwrap());
        keys.iter().map(read).collect()
    };
    let changes = |workflow: &str| -> Vec<(String, i64)> {
        let runs = server.pages(&format!("/api/v1/runs?limit=500&workflow={workflow}"), "runs", "cursor");
        let change = |run: &Value| {
            let shown = server.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
            let body = &shown["trigger"]["outputs"]["body"];
            (body["key"].as_str().unwrap().to_owned(), body["revision"].as_i64().unwrap())
        };
        runs.iter().map(change).collect()
    };
    for (workflow, prefix) in [("follows", "k/"), ("hot", "hot")] {
        let written = keys(prefix);
        let lost = |found: &[(String, i64)]| -> Vec<String> {
            let is_lost = |(key, revision): &(&String, &i64)| !found.contains(&((*key).clone(), **revision));
            written.iter().filter(is_lost).map(|(key, _)| key.clone()).collect()
        };
        let mut found = changes(workflow);
        for _ in 0..200 {
            if lost(&found).is_empty() {
                break;
            }
            pause(Duration::from_millis(200));
            found = changes(workflow);
        }
        assert_eq!(lost(&found), Vec::<String>::new(), "the last change of each key starts a run");
        let mut different = found.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), found.len(), "a change has started two runs of {workflow}");
        if workflow == "follows" {
            assert!(written.len() > KEYS, "{} keys were written", written.len());
            assert_eq!(found.len(), written.len(), "each key was written once");
        }
    }
}
