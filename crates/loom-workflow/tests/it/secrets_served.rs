//! `loom secrets --server`: the secrets of a running server from the command line; and providers that change while it runs.

use std::{ffi::OsStr, fs, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};

use crate::{
    Ended, ended,
    served::{Loom, pause},
};

const KEY: &str = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";

fn serve(directory: &Path, more: &[&str]) -> Loom {
    let data = directory.join("data");
    let mut arguments: Vec<&OsStr> = vec!["--data".as_ref(), data.as_ref()];
    arguments.extend(more.iter().map(OsStr::new));
    Loom::serve_under(&[("LOOM_MASTER_KEY", KEY)], &arguments, Stdio::null())
}

#[test]
fn secrets_of_a_server_are_managed_from_the_command_line() {
    let directory = tempfile::tempdir().expect("there is room");
    let server = serve(directory.path(), &[]);
    let url = format!("http://{}", server.address());
    let secrets = |arguments: &[&str], input: &str| -> Ended {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_loom"));
        command.arg("secrets").args(arguments).args(["--server", &url]).current_dir(directory.path());
        // The command line needs no master key: the server has it.
        command.env_remove("LOOM_MASTER_KEY").env("XDG_CONFIG_HOME", directory.path().join("config"));
        ended(&mut command, input)
    };
    let works = |arguments: &[&str], input: &str| {
        let ended = secrets(arguments, input);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stdout.contains("s3cret") && !ended.stderr.contains("s3cret"), "{arguments:?}");
        ended.stdout
    };
    let fails = |arguments: &[&str], input: &str, part: &str| {
        let ended = secrets(arguments, input);
        assert!(ended.code.is_some_and(|code| code > 0), "{arguments:?}: {}", ended.stdout);
        assert!(ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stdout.contains("s3cret") && !ended.stderr.contains("s3cret"), "{arguments:?}");
    };
    let documents = |arguments: &[&str]| -> Vec<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let lines = works(&all, "");
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    };

    works(&["set", "api-key", "--tag", "team=billing", "--if-version", "0"], "s3cret-one");
    works(&["set", "api-key", "--if-version", "1"], "s3cret-two");
    fails(&["set", "api-key", "--if-version", "1"], "s3cret-three", "");
    let listed = documents(&["list"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["name"], &listed[0]["version"]), (&json!("api-key"), &json!(2)));
    assert_eq!(documents(&["versions", "api-key"]).len(), 2);
    works(&["disable", "api-key", "--version", "2"], "");
    let versions = documents(&["versions", "api-key"]);
    let enabled = |number: i64| {
        versions
            .iter()
            .find(|version| version["version"] == json!(number))
            .map(|version| version["state"].clone())
    };
    assert_eq!((enabled(1), enabled(2)), (Some(json!("enabled")), Some(json!("disabled"))), "{versions:?}");
    works(&["enable", "api-key", "--version", "2"], "");
    works(&["delete", "api-key"], "");
    works(&["undelete", "api-key"], "");
    works(&["rotate-key"], "");
    fails(&["show", "api-key", "--reveal"], "", "");
    fails(&["purge", "api-key"], "", "");
    fails(&["show", "unknown"], "", "unknown");

    let audit = documents(&["audit", "api-key"]);
    let operations: Vec<&str> = audit.iter().rev().filter_map(|entry| entry["operation"].as_str()).collect();
    for operation in ["set", "disable", "enable", "delete", "undelete"] {
        assert!(operations.contains(&operation), "{operation}: {operations:?}");
    }
    assert_eq!(operations.iter().filter(|operation| **operation == "set").count(), 2, "{operations:?}");
    assert!(
        audit.iter().all(|entry| entry["by"].as_str().is_some_and(|by| by.starts_with("api"))),
        "{audit:?}"
    );
}

/// The file of providers is read again when it changes, with its grants; one with an error changes nothing.
#[test]
fn providers_and_their_grants_change_while_the_server_runs() {
    let directory = tempfile::tempdir().expect("there is room");
    let at = |name: &str| directory.path().join(name);
    let write = |name: &str, text: &str| {
        // In one step: the server must not read half of it.
        fs::write(at("new"), text).expect("there is room");
        fs::rename(at("new"), at(name)).expect("it is replaced");
    };
    for folder in ["first", "second", "workflows"] {
        fs::create_dir(at(folder)).expect("there is room");
    }
    fs::write(at("first/key"), "one").expect("there is room");
    fs::write(at("second/key"), "three").expect("there is room");
    let definition = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Use": {"type": "Compose", "inputs": "@length(secret('mounted:key'))", "runAfter": {}},
        "Answer": {"type": "Response", "runAfter": {"Use": ["Succeeded", "Failed"]},
            "inputs": {"statusCode": 200, "body": {"length": "@outputs('Use')", "error": "@actions('Use')?['error']?['message']"}}}}});
    for name in ["billing", "other"] {
        fs::write(at("workflows").join(format!("{name}.json")), definition.to_string())
            .expect("there is room");
    }
    let providers = |folder: &str, grants: Value| {
        json!({"providers": {"mounted": {"type": "files", "directory": folder}}, "grants": grants})
            .to_string()
    };
    write("providers.json", &providers("first", json!({})));
    let (workflows, file) = (at("workflows"), at("providers.json"));
    let server = serve(
        directory.path(),
        &[
            "--workflows",
            workflows.to_str().expect("text"),
            "--secret-providers",
            file.to_str().expect("text"),
        ],
    );
    let called = |workflow: &str| -> (Value, String) {
        let path = format!("/workflows/{workflow}/triggers/manual/invoke");
        let answer = server.request("POST", &path, b"{}").expect("it responds");
        let body: Value = serde_json::from_str(&answer.body).expect("it is JSON");
        (body["length"].clone(), body["error"].as_str().unwrap_or_default().to_owned())
    };
    let until = |workflow: &str, wanted: &dyn Fn(&(Value, String)) -> bool| {
        for _ in 0..600 {
            let found = called(workflow);
            if wanted(&found) {
                return;
            }
            pause(Duration::from_millis(100));
        }
        panic!("{workflow} still returns {:?}", called(workflow));
    };
    assert_eq!(called("billing").0, json!(3));
    assert_eq!(called("other").0, json!(3));
    write("providers.json", &providers("second", json!({"mounted:*": ["bill*"]})));
    until("billing", &|(length, _)| *length == json!(5));
    let (length, error) = called("other");
    assert_eq!(length, Value::Null);
    assert!(error.contains("the workflow 'other' may not read the secret 'mounted:key'"), "{error}");
    // A file with an error changes nothing; the next one does.
    write("providers.json", &providers("nowhere", json!({})));
    pause(Duration::from_millis(2_500));
    assert_eq!(called("billing").0, json!(5));
    write("providers.json", &providers("second", json!({})));
    until("other", &|(length, _)| *length == json!(5));
    let denied = server.get("/api/v1/secret-audit?operation=denied&limit=100");
    assert!(denied.to_string().contains("mounted:key"), "{denied}");
}
