//! Commands other than `loom serve` use the settings of the directory: where the data is, where the server is, its token.

use std::{fs, path::Path, process::Command};

use crate::{
    Ended, ended,
    served::{Loom, Service},
};

const WORKFLOW: &str = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}}"#;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Runs the binary in a directory with these variables.
fn loom(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    command.args(arguments).current_dir(directory).env("LOOM_MASTER_KEY", "3c".repeat(32));
    ended(command.envs(variables.iter().copied()), "v4lue")
}

#[track_caller]
fn done(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let ended = loom(directory, variables, arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

#[test]
fn the_data_directory_of_loom_toml_is_that_of_every_command() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    fs::write(directory.join("loom.toml"), "data = \"mydata\"\n").expect("it can be written");
    fs::write(directory.join("order.json"), WORKFLOW).expect("it can be written");
    done(directory, &[], &["secrets", "set", "k"]);
    assert!(directory.join("mydata/secrets.json").is_file());
    done(directory, &[], &["run", "order.json", "--durable"]);
    assert!(directory.join("mydata/loom.db").is_file());
    assert!(!directory.join(".loom").exists());

    // A variable takes precedence over the file, and an argument over both.
    let variable = [("LOOM_DATA", "other")];
    done(directory, &variable, &["secrets", "set", "k"]);
    done(directory, &variable, &["run", "order.json", "--durable"]);
    assert!(directory.join("other/secrets.json").is_file() && directory.join("other/loom.db").is_file());
    done(directory, &variable, &["run", "order.json", "--durable", "--data", "third"]);
    done(directory, &variable, &["secrets", "set", "k", "--data", "third"]);
    assert!(directory.join("third/secrets.json").is_file() && directory.join("third/loom.db").is_file());
    let listed = done(directory, &[], &["runs", "list", "--quiet", "--data", "third"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");

    fs::write(directory.join("loom.toml"), "secrets = \"kept.json\"\n").expect("it can be written");
    done(directory, &[], &["secrets", "set", "k"]);
    assert!(directory.join("kept.json").is_file());
}

#[test]
fn the_server_and_its_token_are_those_of_the_settings() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    fs::write(directory.join("token"), TOKEN).expect("it can be written");
    let server = Loom::serve(&["--memory".as_ref(), "--token".as_ref(), TOKEN.as_ref()]);
    let settings = format!("addr = \"{}\"\ntoken-file = \"token\"\n", server.address());
    fs::write(directory.join("loom.toml"), &settings).expect("it can be written");
    let listed = loom(directory, &[], &["runs", "list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stderr.ends_with("loom: no runs found\n"), "{}", listed.stderr);
    done(directory, &[], &["workflows", "list"]);
    done(directory, &[], &["resilience", "list"]);

    // The token of a file goes to the server of the file only; that of a variable goes to any.
    let url = format!("http://{}", server.address());
    assert_eq!(loom(directory, &[], &["runs", "list", "--server", &url]).code, Some(4));
    done(directory, &[("LOOM_TOKEN_FILE", "token")], &["runs", "list", "--server", &url]);
    done(directory, &[("LOOM_TOKEN", TOKEN)], &["runs", "list", "--server", &url]);
    done(directory, &[("LOOM_ADDR", server.address())], &["runs", "list"]);

    let free = loom(directory, &[("LOOM_ADDR", "0")], &["runs", "list"]);
    assert_eq!(free.code, Some(2));
    assert!(free.stderr.contains("name the server with --server URL"), "{}", free.stderr);
}

#[test]
fn a_file_that_does_not_exist_is_reported_with_the_setting_that_names_it() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    fs::write(directory.join("order.json"), WORKFLOW).expect("it can be written");
    let refused = |variables: &[(&str, &str)], arguments: &[&str], said: &str| {
        let ended = loom(directory, variables, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{arguments:?}: `{said}` is missing: {}", ended.stderr);
    };
    for option in ["--key-file", "--token-file", "--config", "--secrets", "--connections", "--egress"] {
        refused(&[], &["serve", "--addr", "0", option, "nope"], &format!("{option}: cannot read nope: "));
    }
    refused(&[("LOOM_CONFIG", "nope")], &["serve", "--addr", "0"], "LOOM_CONFIG: cannot read nope: ");
    refused(&[], &["run", "order.json", "--secrets", "nope"], "`loom secrets set NAME` creates it");
    refused(
        &[],
        &["validate", "order.json", "--secrets", "."],
        "--secrets: . is a directory, expected a file",
    );
    refused(&[], &["runs", "list", "--token-file", "nope"], "--token-file: cannot read nope: ");
    fs::write(directory.join("loom.toml"), "\nsecrets = \"nope\"\n").expect("it can be written");
    refused(&[], &["run", "order.json"], "loom.toml:2: cannot read nope: ");
}

#[test]
fn a_limit_of_host_json_is_reported_with_its_line_and_its_name() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    fs::create_dir(directory.join("Orders")).expect("it can be made");
    fs::write(directory.join("Orders/workflow.json"), WORKFLOW).expect("it can be written");
    let refused = |settings: &str, said: &str| {
        let host = format!("{{\"extensions\": {{\"workflow\": {{\"settings\": {{\n{settings}\n}}}}}}}}");
        fs::write(directory.join("host.json"), host).expect("it can be written");
        let ended = loom(directory, &[], &["run", "Orders/workflow.json"]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "`{said}` is missing: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("host.json").count(), 1, "{}", ended.stderr);
    };
    let retry = "Runtime.Backend.HttpOperation.DefaultRetry";
    refused(
        &format!("\"{retry}Count\": \"3\",\n\"{retry}Interval\": \"00:00:01\""),
        &format!("host.json:3: `{retry}Interval` must be between PT5S and P1D"),
    );
    refused(
        &format!("\"{retry}Interval\": \"soon\",\n\"{retry}Count\": \"3\""),
        &format!("host.json:2: `{retry}Interval` must be a length of time"),
    );
    refused(
        "\"Runtime.Backend.FlowRunTimeout\": \"tomorrow\"",
        "host.json:2: `Runtime.Backend.FlowRunTimeout` must be a length of time",
    );
}

#[test]
fn another_service_is_not_taken_for_a_server_without_runs() {
    let directory = tempfile::tempdir().expect("there is room");
    let service = Service::start(|_| (200, serde_json::json!({"status": "fine"})));
    for command in ["runs", "workflows", "resilience"] {
        let ended = loom(directory.path(), &[], &[command, "list", "--server", &service.address]);
        assert_eq!(ended.code, Some(7), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("not as a Loom server does"), "{}", ended.stderr);
    }
}

#[test]
fn the_body_of_a_signal_may_come_from_a_file_and_is_checked_before_it_is_sent() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let send = |body: &str, address: &str| {
        loom(directory, &[], &["runs", "signal", "0123456789abc", "go", "--body", body, "--server", address])
    };
    let broken = send("{\"ok\": tru", "http://127.0.0.1:9");
    assert_eq!(broken.code, Some(2), "{}", broken.stderr);
    assert!(broken.stderr.contains("--body is not valid JSON"), "{}", broken.stderr);

    fs::write(directory.join("body.json"), "{\"ok\": true}").expect("it can be written");
    let service = Service::start(|request| {
        (200, serde_json::json!({"run": "0123456789abc", "name": request.body, "id": "1"}))
    });
    let sent = send("@body.json", &service.address);
    assert_eq!(sent.stdout, "0123456789abc  signal {\"ok\":true} sent as 1\n", "{}", sent.stderr);
}

#[test]
fn names_of_secrets_with_a_version_are_explained() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    done(directory, &[], &["secrets", "set", "rot"]);
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let ended = loom(directory, &[], arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
    };
    refused(&["secrets", "show", "rot@1"], 2, "use `rot --version 1` here");
    refused(&["secrets", "delete", "rot@1"], 2, "must not contain '@'");
    refused(&["secrets", "show", "rot", "--version", "7"], 1, "7");
    assert_eq!(done(directory, &[], &["secrets", "show", "rot", "--reveal"]), "v4lue", "and nothing else");

    let none = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "@secret('lost')", "runAfter": {}}}}"#;
    fs::write(directory.join("lost.json"), none).expect("it can be written");
    let places = Path::new(".loom").join("secrets.json").display().to_string();
    refused(&["run", "lost.json"], 1, &format!("it is neither in {places} nor in a LOOM_SECRET_* variable"));
    let hint = loom(directory, &[], &["eval", "@secret('x')"]).stderr;
    assert!(hint.contains("`loom eval` has no secrets") && !hint.contains("--param"), "{hint}");
}
