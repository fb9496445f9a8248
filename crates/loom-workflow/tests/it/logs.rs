//! The log of `loom serve`: lines for runs, as text or as JSON, from the level that was chosen.

use std::{ffi::OsStr, fs, process::Stdio, time::Duration};

use loom_expression::Value;

use crate::{file, json, loom, served::Loom};

const FLOW: &str = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
  "Hide": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}, "runtimeConfiguration": {"secureData": {"properties": ["inputs", "outputs"]}}},
  "Stop": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "Broken", "message": "no stock"}}, "runAfter": {"Hide": ["Succeeded"]}}}}"#;

const SECRET: &str = "the-body-that-nobody-logs";

/// Serves a workflow whose runs fail, lets one fail, and returns the lines about runs.
fn lines(test: &str, arguments: &[&str]) -> Vec<String> {
    let path = file(test, "flow.json", FLOW);
    let mut all: Vec<&OsStr> = vec![path.as_os_str(), "--memory".as_ref()];
    all.extend(arguments.iter().map(AsRef::<OsStr>::as_ref));
    let log = path.with_extension("log");
    let target = fs::File::create(&log).expect("it can be created");
    let served = Loom::serve_with(&all, Stdio::from(target));
    let body = format!(r#"{{"password": "{SECRET}"}}"#);
    let answer = served.request("POST", "/workflows/flow/triggers/manual/invoke", body.as_bytes());
    let run = answer.expect("it responds").header("x-ms-workflow-run-id").expect("a run").clone();
    served.until(&format!("/api/v1/runs/{run}"), |answer| answer.body.contains("\"Failed\""));
    // What happened is logged before a graceful stop ends.
    served.terminate();
    assert_eq!(served.exit_within(Duration::from_mins(1)), Some(0));
    let log = fs::read_to_string(&log).expect("it is text");
    assert!(!log.contains(SECRET), "{log}");
    log.lines().filter(|line| line.contains(&run)).map(str::to_owned).collect()
}

#[test]
fn a_run_has_a_line_for_its_start_and_one_for_its_end() {
    let lines = lines("logs_text", &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("loom: run started; run: ")
            && lines[0].contains("workflow: flow, trigger: manual")
    );
    assert!(
        lines[1].starts_with("loom: run ended; run: ") && lines[1].contains("status: Failed"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("Broken") && lines[1].contains("no stock") && lines[1].contains("duration_ms: ")
    );
}

#[test]
fn a_line_of_json_is_an_object_with_its_time() {
    let lines = lines("logs_json", &["--log-format", "json"]);
    let read: Vec<Value> = lines.iter().map(|line| json(line)).collect();
    let text =
        |at: usize, name: &str| read[at].get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(read.len(), 2, "{lines:?}");
    assert_eq!((text(0, "level"), text(0, "message")), ("INFO".to_owned(), "run started".to_owned()));
    assert_eq!((text(1, "level"), text(1, "status")), ("WARN".to_owned(), "Failed".to_owned()));
    assert_eq!((text(1, "workflow"), text(1, "trigger")), ("flow".to_owned(), "manual".to_owned()));
    assert!(text(0, "time").ends_with('Z') && read[1].get("duration_ms").and_then(Value::as_i64).is_some());
}

#[test]
fn a_denied_request_is_logged_without_what_it_carries() {
    let path = file("logs_denied", "flow.json", FLOW);
    let log = path.with_extension("log");
    let target = fs::File::create(&log).expect("it can be created");
    let arguments: [&OsStr; 4] =
        [path.as_os_str(), "--memory".as_ref(), "--token".as_ref(), "a-token-for-this-test-alone".as_ref()];
    let served = Loom::serve_with(&arguments, Stdio::from(target));
    let answer = served.request("GET", "/api/v1/runs?error=the-query", b"").expect("it responds");
    assert_eq!(answer.status, 401);
    served.terminate();
    assert_eq!(served.exit_within(Duration::from_mins(1)), Some(0));
    let log = fs::read_to_string(&log).expect("it is text");
    let denied = "loom: request denied; method: GET, path: /api/v1/runs, status: 401";
    assert!(log.contains(denied) && !log.contains("the-query") && !log.contains("for-this-test"), "{log}");
}

#[test]
fn the_level_decides_what_is_logged() {
    let warnings = lines("logs_warn", &["--log-level", "warn"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(lines("logs_off", &["--log-level", "warn,loom_server::runs=off"]), Vec::<String>::new());
    let wrong = loom(&["serve", "--memory", "--log-level", "loud"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("must be `error`, `warn`, `info` or `debug`"), "{}", wrong.stderr);
    let wrong = loom(&["serve", "--memory", "--log-format", "xml"]);
    assert!(wrong.stderr.contains("must be `text` or `json`"), "{}", wrong.stderr);
}
