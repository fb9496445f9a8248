//! RunEnded triggers across `kill -9`: each failed run starts exactly one run of the handler, whenever the process is killed.

use std::{collections::BTreeMap, ffi::OsStr, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    loom,
    served::{Loom, pause},
};

/// Runs that are started in each life of the process, before and during the kill.
const RUNS: usize = 120;

fn definition(trigger: &Value) -> String {
    let definition = json!({"definition": {
        "triggers": {"t": trigger},
        "actions": {"Stop": {"type": "Terminate", "runAfter": {}, "inputs": {"runStatus": "Failed"}}},
    }});
    definition.to_string()
}

fn serve(workflows: &Path, data: &Path) -> Loom {
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), workflows.as_ref(), "--data".as_ref(), data.as_ref()];
    Loom::serve(&arguments)
}

/// The runs of a workflow, from the directory of a stopped server.
fn runs(data: &Path, workflow: &str) -> usize {
    let data = data.to_str().expect("the path is text");
    let ended = loom(&[
        "runs",
        "list",
        "--quiet",
        "--limit",
        "1000",
        "--workflow",
        workflow,
        "--status",
        "Failed",
        "--data",
        data,
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().count()
}

#[test]
fn each_failed_run_starts_one_run_whenever_the_process_is_killed() {
    let directory = tempfile::tempdir().expect("there is room");
    let (workflows, data) = (directory.path().join("workflows"), directory.path().join("data"));
    std::fs::create_dir(&workflows).expect("there is room");
    let after =
        json!({"type": "RunEnded", "inputs": {"workflows": ["fails", "handler"], "statuses": ["Failed"]}});
    std::fs::write(workflows.join("fails.json"), definition(&json!({"type": "Request"})))
        .expect("there is room");
    std::fs::write(workflows.join("handler.json"), definition(&after)).expect("there is room");

    // The control: some kills happen between the end of a run and the run that it starts.
    let mut behind = 0;
    for round in 0..6 {
        let server = serve(&workflows, &data);
        let killed = server.kill_after(Duration::from_millis(150 + 60 * round));
        for _ in 0..RUNS {
            // A killed process sends no response.
            if server.request("POST", "/workflows/fails/triggers/t/invoke", b"{}").is_none() {
                break;
            }
        }
        killed.join().expect("it was killed");
        drop(server);
        behind += runs(&data, "fails").saturating_sub(runs(&data, "handler"));
    }
    assert!(behind > 0, "no kill came in between");

    let server = serve(&workflows, &data);
    let count = |workflow: &str| {
        let path = format!("/api/v1/runs?limit=1000&workflow={workflow}&status=Failed");
        server.pages(&path, "runs", "cursor").len()
    };
    for _ in 0..400 {
        if count("fails") == count("handler") {
            break;
        }
        pause(Duration::from_millis(50));
    }
    let mut handled: BTreeMap<String, usize> = BTreeMap::new();
    for run in server.pages("/api/v1/runs?limit=1000&workflow=handler", "runs", "cursor") {
        let id = run["id"].as_str().expect("it has an id");
        let shown = server.get(&format!("/api/v1/runs/{id}"));
        let cause = &shown["trigger"]["outputs"]["body"]["runId"];
        *handled.entry(cause.as_str().expect("it names the run that ended").to_owned()).or_default() += 1;
    }
    let failed = server.pages("/api/v1/runs?limit=1000&workflow=fails&status=Failed", "runs", "cursor");
    let failed: BTreeMap<String, usize> =
        failed.iter().map(|run| (run["id"].as_str().expect("it has an id").to_owned(), 1)).collect();
    assert!(failed.len() > 20, "{} runs failed", failed.len());
    // The handler fails too and names its own workflow, but it never fires for its own runs.
    assert_eq!(handled, failed);
}
