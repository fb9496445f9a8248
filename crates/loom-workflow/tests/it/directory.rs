//! What a server reports if it cannot use its data directory: in use by another process, not a store, not a directory.

use std::{ffi::OsStr, fs};

use crate::{loom, served::Loom};

#[test]
fn two_servers_cannot_share_a_directory() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let arguments: [&OsStr; 2] = ["--data".as_ref(), data.as_os_str()];
    let first = Loom::serve(&arguments);
    let data = data.display().to_string();
    let second = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &data]);
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains("is in use by process"), "{}", second.stderr);
    let look = loom(&["runs", "list", "--data", &data]);
    assert_eq!(look.code, Some(2));
    assert!(look.stderr.contains("is in use by process"), "{}", look.stderr);
    let answer = first.request("GET", "/readyz", b"").expect("the first server still responds");
    assert_eq!(answer.status, 200);
    drop(first);
    // The lock ends with the process, however the process ended.
    drop(Loom::serve(&["--data".as_ref(), data.as_ref()]));
}

#[test]
fn an_unusable_directory_is_reported_and_unchanged() {
    let directory = tempfile::tempdir().expect("there is room");
    let database = directory.path().join("loom.db");
    fs::write(&database, "this is not a store and must not be overwritten").expect("it can be written");
    let data = directory.path().display().to_string();
    let ended = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &data]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("loom.db is not a Loom store"), "{}", ended.stderr);
    let kept = fs::read_to_string(&database).expect("it is there");
    assert_eq!(kept, "this is not a store and must not be overwritten");

    let file = database.display().to_string();
    let ended = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &file]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains(&file), "{}", ended.stderr);
}

#[test]
fn watching_an_unfinished_run_in_a_directory_ends() {
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("waits.json");
    let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "First": {"type": "Compose", "inputs": 1, "runAfter": {}},
        "Long": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {"First": ["Succeeded"]}}}}"#;
    fs::write(&file, definition).expect("it can be written");
    let data = directory.path().join("data");
    let arguments: [&OsStr; 3] = [file.as_os_str(), "--data".as_ref(), data.as_os_str()];
    let served = Loom::serve(&arguments);
    let answer = served.request("POST", "/workflows/waits/triggers/manual/invoke", b"").expect("it responds");
    let run = answer.header("x-ms-workflow-run-id").expect("the run has an id").clone();
    served.until(&format!("/api/v1/runs/{run}/actions"), |answer| answer.body.contains("Long"));
    drop(served);
    let ended = loom(&["runs", "watch", &run, "--data", &data.display().to_string()]);
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    assert!(ended.stdout.contains("First: Succeeded"), "{}", ended.stdout);
    assert!(ended.stderr.contains("the run is unfinished; it continues when a server uses the directory"));
    // The directory is free again.
    drop(Loom::serve(&arguments));
}

#[test]
fn a_stateless_workflow_whose_runs_are_stored_is_reported() {
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("quick.json");
    let definition = r#"{"kind": "Stateless", "definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {}}}"#;
    fs::write(&file, definition).expect("it can be written");
    // The second file ends the server before it starts to listen, after the first is deployed.
    let wrong = directory.path().join("wrong.json");
    fs::write(&wrong, "{}").expect("it can be written");
    let (quick, wrong) = (file.display().to_string(), wrong.display().to_string());
    let data = directory.path().join("data").display().to_string();
    let serve = |storage: &[&str]| {
        let ended = loom(&[&["serve", "--addr", "127.0.0.1:0", &quick, &wrong], storage].concat());
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        ended.stderr.contains("quick is Stateless, but its runs are stored")
    };
    assert!(serve(&["--data", &data]));
    assert!(!serve(&["--memory"]));
}
