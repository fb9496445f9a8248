//! `loom validate` and `loom test`: what they say about files.

use loom_expression::Value;

use crate::{file, json, loom, repository};

const WRONG: &str = r#"{
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "A": {"type": "Compose", "inputs": "@lenght('x')"},
    "B": {"type": "Compose", "inputs": 1, "runAfter": {"C": ["Succeeded"]}}
  }
}
"#;

#[test]
fn every_finding_points_into_the_file() {
    let path = file("validate", "wrong.json", WRONG).display().to_string();
    let ended = loom(&["validate", &path]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("wrong.json:4:42"), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let marked = lines.iter().position(|line| line.contains("^^^^^^")).expect("there are carets");
    let column = |line: usize, text: &str| lines[line].find(text);
    assert_eq!(column(marked, "^^^^^^"), column(marked - 1, "lenght"), "{}", ended.stderr);
    assert!(ended.stdout.contains("1 error, 1 warning"), "{}", ended.stdout);
}

#[test]
fn one_json_object_a_file_and_only_valid_files_give_zero() {
    let wrong = file("validate-json", "wrong.json", WRONG).display().to_string();
    let right = repository("examples/flaky/workflow.json");
    let ended = loom(&["validate", "--json", &right, &wrong]);
    assert_eq!(ended.code, Some(3));
    let objects: Vec<Value> = ended.stdout.lines().map(json).collect();
    let valid: Vec<Option<bool>> =
        objects.iter().map(|object| object.get("valid").and_then(Value::as_bool)).collect();
    assert_eq!(valid, [Some(true), Some(false)]);
    let errors = objects[1].get("diagnostics").and_then(Value::as_array).map_or(0, |list| list.len());
    assert_eq!(errors, 2);
    assert_eq!(loom(&["validate", "--json", &right]).code, Some(0));
    assert_eq!(loom(&["validate", "no-such-file.json"]).code, Some(2));
}

#[test]
fn strict_validation_treats_warnings_as_errors() {
    let unknown = WRONG.replace("@lenght('x')", "x").replace(
        "Compose\", \"inputs\": 1, \"runAfter\": {\"C\": [\"Succeeded\"]}",
        "Compse\", \"inputs\": 1",
    );
    let path = file("validate-strict", "unknown.json", &unknown).display().to_string();
    let lenient = loom(&["validate", &path]);
    assert_eq!(lenient.code, Some(0), "{}", lenient.stderr);
    assert!(lenient.stderr.contains("warning[L0203]"), "{}", lenient.stderr);
    let strict = loom(&["validate", "--strict", &path]);
    assert_eq!(strict.code, Some(3), "{}", strict.stderr);
    assert!(strict.stderr.contains("error[L0203]") && strict.stderr.contains("did you mean `Compose`?"));
    assert!(strict.stdout.contains("1 error"), "{}", strict.stdout);
    let object = json(&loom(&["validate", "--strict", "--json", &path]).stdout);
    assert_eq!(object.get("valid").and_then(Value::as_bool), Some(false));
    let log = loom(&["validate", "--strict", "--sarif", &path]);
    assert!(log.code == Some(3) && log.stdout.contains(r#""level": "error""#), "{}", log.stdout);
    let right = repository("examples/flaky/workflow.json");
    assert_eq!(loom(&["validate", "--strict", &right]).code, Some(0));
}

#[test]
fn yaml_is_not_json() {
    let path = file("validate-yaml", "flow.yaml", "triggers:\n  manual:\n    type: Request\n");
    for command in ["validate", "run"] {
        let ended = loom(&[command, &path.display().to_string()]);
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("error[L0003]: expected JSON, found YAML"), "{}", ended.stderr);
        assert!(ended.stderr.contains("convert the file to JSON"), "{}", ended.stderr);
    }
}

#[test]
fn sarif_is_one_log() {
    let wrong = file("sarif", "wrong.json", WRONG).display().to_string();
    let log = json(&loom(&["validate", "--sarif", &wrong]).stdout);
    assert_eq!(log.get("version").and_then(Value::as_str), Some("2.1.0"));
    let run = log.get("runs").and_then(|runs| runs.index(0)).expect("one run");
    assert_eq!(run.get("results").and_then(Value::as_array).map(|results| results.len()), Some(2));
}

const CASES: &str = r#"{"cases": [
  {"id": "good", "expression": "@add(1, 2)", "expected": 3},
  {"id": "bad", "expression": "@add(1, 2)", "expected": 4},
  {"id": "gone", "definitionFile": "nowhere.json", "expected": {"runStatus": "Succeeded"}}
]}"#;

#[test]
fn the_last_line_of_a_test_has_the_counts() {
    let path = file("test", "cases.json", CASES).display().to_string();
    let ended = loom(&["test", &path]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout.lines().last(), Some("1 passed, 2 failed"));
    assert!(ended.stdout.contains("expected 4") && ended.stdout.contains("but got  3"), "{}", ended.stdout);
    let ended = loom(&["test", &path, "--filter", "good"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "1 passed, 0 failed\n"));
}

#[test]
fn tests_can_be_read_by_machines() {
    let path = file("test-json", "cases.json", CASES).display().to_string();
    let junit = file("test-json", "junit.xml", "").display().to_string();
    let ended = loom(&["test", &path, "--json", "--junit", &junit]);
    let results: Vec<Value> =
        ended.stdout.lines().map(|line| json(line).get("result").cloned().unwrap_or_default()).collect();
    assert_eq!(results, [Value::from("passed"), Value::from("failed"), Value::from("failed")]);
    let differences: Vec<Value> = ended
        .stdout
        .lines()
        .filter_map(|line| json(line).get("differences").and_then(|list| list.index(0)).cloned())
        .collect();
    assert_eq!(differences[0].get("expected"), Some(&Value::from(4)));
    assert_eq!(differences[0].get("actual"), Some(&Value::from(3)));
    assert!(differences[1].get("message").is_some() && differences[1].get("actual").is_none());
    let report = std::fs::read_to_string(junit).expect("it was written");
    assert!(report.starts_with("<?xml") && report.contains("failures=\"2\""), "{report}");
    let bad = report.lines().find(|line| line.contains("name=\"bad\"")).expect("the case is in it");
    assert!(bad.contains(" time=\"0.") && bad.contains("cases.json\" line=\"3\""), "{bad}");
}

#[test]
fn a_template_with_several_workflows_is_checked_whole_and_one_of_them_is_run() {
    let workflow = |name: &str, inputs: &str| {
        format!(
            r#"{{"type": "Microsoft.Logic/workflows", "name": "{name}", "properties": {{"definition":
            {{"triggers": {{"t": {{"type": "Request"}}}}, "actions": {{"A": {{"type": "Compose", "inputs": "{inputs}"}}}}}}}}}}"#
        )
    };
    let template = |second: &str| {
        format!(r#"{{"resources": [{}, {}]}}"#, workflow("first", "one"), workflow("second", second))
    };
    let wrong = file("several", "wrong.json", &template("@nosuch(1")).display().to_string();
    let ended = loom(&["validate", &wrong]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("nosuch"), "{}", ended.stderr);
    let right = file("several", "right.json", &template("two")).display().to_string();
    assert_eq!(loom(&["validate", &right]).code, Some(0));
    let ended = loom(&["run", &right, "--workflow", "second", "--json"]);
    assert!(ended.stdout.contains(r#""outputs":"two""#), "{}", ended.stdout);
    let ended = loom(&["run", &right]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("`second`"), "{}", ended.stderr);
}
