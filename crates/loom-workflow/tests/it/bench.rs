//! `loom bench` with small numbers: what it reports, and that it leaves no process or directory behind.

use loom_expression::Value;

use crate::{file, json, loom, repository, served::Loom};

fn number(value: &Value, name: &str) -> f64 {
    let member = value.get(name).unwrap_or_else(|| panic!("`{name}` is missing in {}", value.to_json_text()));
    member.to_json_text().parse().unwrap_or_else(|_| panic!("`{name}` is {}", member.to_json_text()))
}

#[test]
fn every_shape_is_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().display().to_string();
    for shape in ["accept", "effects", "compose", "foreach"] {
        let ended =
            loom(&["bench", "--shape", shape, "--callers", "2", "--seconds", "1", "--json", "--data", &data]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let rows = json(&ended.stdout);
        let row = rows.index(0).expect("one row");
        assert_eq!(row.get("workflow").and_then(Value::as_str), Some(shape));
        assert!(number(row, "runs") > 0.0 && number(row, "runsPerSecond") > 0.0, "{}", ended.stdout);
        assert!(number(row, "p50Ms") <= number(row, "p99Ms") && number(row, "p99Ms") <= number(row, "maxMs"));
        assert!(number(row, "syncs") > 0.0 && number(row, "syncP50Ms") > 0.0, "{}", ended.stdout);
        assert!(number(row, "residentBytes") > 1e6, "{}", ended.stdout);
    }
    let left = std::fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 0, "the servers' directories are removed");
}

#[test]
fn a_given_workflow_is_measured_on_a_running_server() {
    let serve = Loom::serve(&["--memory".as_ref()]);
    let path = file(
        "bench-own",
        "own.json",
        r#"{"triggers": {"manual": {"type": "Request"}},
            "actions": {"Twice": {"type": "Compose", "inputs": "@mul(triggerBody()?['n'], 2)", "runAfter": {}}}}"#,
    );
    let url = format!("http://{}", serve.address());
    let arguments = [
        "bench",
        &path.display().to_string(),
        "--input",
        r#"{"n": 4}"#,
        "--url",
        &url,
        "--callers",
        "1",
        "--seconds",
        "1",
        "--json",
    ];
    let ended = loom(&arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let runs = number(json(&ended.stdout).index(0).expect("one row"), "runs");
    let kept = serve.get("/api/v1/runs?limit=1");
    assert_eq!(kept["runs"][0]["workflow"], "bench-own");
    assert_eq!(kept["runs"][0]["status"], "Succeeded");
    assert!(runs > 0.0);
    let workflows = serve.get("/api/v1/workflows");
    assert_eq!(
        workflows["workflows"].as_array().map(Vec::len),
        Some(0),
        "the workflow is deleted afterwards: {workflows}"
    );
}

#[test]
fn a_soak_samples_and_keeps_its_bounds() {
    let runs = ["bench", "soak", "--runs", "200", "--callers", "8", "--json"];
    let ended = loom(&runs);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let reported = json(&ended.stdout);
    assert!((number(&reported, "runs") - 200.0).abs() < 0.5, "{}", ended.stdout);
    let samples = reported.get("samples").and_then(Value::as_array).expect("samples");
    assert!(samples.len() >= 2, "{}", ended.stdout);
    let last = samples.iter().last().expect("one");
    assert!(number(last, "dataBytes") > 0.0 && number(last, "residentBytes") > 0.0);
    let mut bounded = runs.to_vec();
    bounded.extend(["--rss-max", "1"]);
    let ended = loom(&bounded);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("(limit 1 MiB)"), "{}", ended.stderr);
}

#[test]
fn failed_runs_are_reported() {
    let path = file(
        "bench-fails",
        "fails.json",
        r#"{"triggers": {"manual": {"type": "Request"}},
            "actions": {"Divide": {"type": "Compose", "inputs": "@div(1, triggerBody()?['n'])", "runAfter": {}}}}"#,
    );
    let arguments =
        ["bench", &path.display().to_string(), "--input", r#"{"n": 0}"#, "--callers", "1", "--seconds", "1"];
    let ended = loom(&arguments);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("runs did not succeed"), "{}", ended.stderr);
}

#[test]
fn invalid_arguments_are_reported() {
    let check = |arguments: &[&str], code: i32, said: &str| {
        let ended = loom(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
    };
    check(&["bench", "no-such.json"], 2, "cannot read no-such.json");
    check(&["bench", "--url", "ftp://host"], 2, "--url must be `http://HOST:PORT`");
    check(&["bench", "--url", "http://127.0.0.1:1"], 2, "cannot connect to 127.0.0.1:1");
    check(&["bench", "--shape", "square"], 2, "possible values: accept, effects");
    check(&["bench", "--data", "no-such-directory"], 2, "cannot create a directory for the server's data");
    check(&["bench", "--", "--no-such-option"], 2, "the server did not start");
    let timetable = repository("crates/loom-workflow/tests/it/bench/timetable.json");
    check(&["bench", &timetable], 2, "must have a trigger of type Request");
}

#[test]
fn requests_are_measured_under_evaluations_and_readers() {
    let ended = loom(&["bench", "fair", "--events", "200", "--readers", "3", "--seconds", "1", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows = json(&ended.stdout);
    let rows = rows.as_array().expect("one row for each kind of request under each load");
    assert_eq!(rows.len(), 12);
    for row in rows {
        assert!(number(row, "requests") > 0.0, "{}", row.to_json_text());
        assert!(number(row, "p50Ms") <= number(row, "maxMs"), "{}", row.to_json_text());
    }
    let late = loom(&["bench", "fair", "--events", "200", "--readers", "1", "--seconds", "1", "--max", "0"]);
    assert_eq!(late.code, Some(1), "no request takes no time at all: {}", late.stderr);
    assert!(late.stderr.contains("a request ("), "{}", late.stderr);
}
