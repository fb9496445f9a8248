//! `loom run`: responses, exit codes, settings, secrets.

use loom_expression::Value;

use crate::{file, json, loom, loom_with_input};

/// A definition with only these actions.
fn definition(test: &str, actions: &str) -> String {
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request", "kind": "Http"}}}},
            "parameters": {{"greeting": {{"type": "string", "defaultValue": "Hello"}}, "key": {{"type": "securestring", "defaultValue": "none"}}}},
            "actions": {actions}}}"#
    );
    file(test, "definition.json", &text).display().to_string()
}

const GREET: &str = r#"{"Greet": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200,
    "body": {"text": "@concat(parameters('greeting'), ' ', triggerBody()?['name'])"}}}}"#;

#[test]
fn the_response_is_written_to_standard_output() {
    let path = definition("run-answer", GREET);
    let ended = loom(&["run", &path, "--input", r#"{"name": "Ada"}"#]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(json(&ended.stdout), json(r#"{"text": "Hello Ada"}"#));
    let ended =
        loom_with_input(&["run", &path, "--input", "-", "--param", "greeting=Hi"], r#"{"name": "Bob"}"#);
    assert_eq!(json(&ended.stdout), json(r#"{"text": "Hi Bob"}"#));
    let input = file("run-answer", "input.json", r#"{"name": "Cid"}"#).display().to_string();
    let ended = loom(&["run", &path, "--input", &format!("@{input}"), "--quiet"]);
    assert_eq!(json(&ended.stdout), json(r#"{"text": "Hello Cid"}"#));
    assert_eq!(ended.stderr, "");
}

#[test]
fn without_a_terminal_each_event_is_one_line() {
    let path = definition("run-lines", GREET);
    let ended = loom(&["run", &path]);
    assert!(
        ended.stderr.contains("✔ Greet") && ended.stderr.contains("run Succeeded in"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains('\x1b'), "no colours and no cursor movements: {}", ended.stderr);
}

#[test]
fn the_status_of_a_response_is_shown() {
    let respond = r#"{"Reject": {"type": "Response", "inputs": {"statusCode": 422, "body": "no"}}}"#;
    let ended = loom(&["run", &definition("run-response", respond)]);
    assert!(ended.stderr.contains("  response 422\n"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "\"no\"\n");
}

#[test]
fn an_unknown_secret_suggests_the_command_that_sets_it() {
    let read = r#"{"Read": {"type": "Compose", "inputs": "@secret('payment.key')"}}"#;
    let ended = loom(&["run", &definition("run-secret", read)]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`loom secrets set payment.key`"), "{}", ended.stderr);
}

#[test]
fn a_run_of_workflow_json_is_named_after_its_directory_from_inside_it_too() {
    let text = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {}}}"#;
    let path = file("run-name/orders", "workflow.json", text);
    let inside = path.parent().expect("it is in a directory");
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_loom"))
        .args(["run", "workflow.json", "--json"])
        .current_dir(inside)
        .output()
        .expect("the binary runs");
    let report = json(&String::from_utf8_lossy(&run.stdout));
    assert_eq!(
        report.get("workflow"),
        Some(&Value::from("orders")),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn everything_as_json() {
    let path = definition("run-json", GREET);
    let report = json(&loom(&["run", &path, "--json"]).stdout);
    assert_eq!(report.get("status"), Some(&Value::from("Succeeded")));
    let action = report.get("actions").and_then(|actions| actions.get("Greet")).expect("it is there");
    assert_eq!(action.get("status"), Some(&Value::from("Succeeded")));
}

#[test]
fn exit_codes_show_how_a_run_ended() {
    let terminate = |status: &str| {
        format!(r#"{{"End": {{"type": "Terminate", "inputs": {{"runStatus": "{status}"}}}}}}"#)
    };
    for (status, code) in [("Succeeded", 0), ("Failed", 1), ("Cancelled", 4)] {
        let path = definition(&format!("run-exit-{status}"), &terminate(status));
        assert_eq!(loom(&["run", &path]).code, Some(code), "{status}");
    }
    let refused = definition("run-refused", r#"{"A": {"type": "Compose"}}"#);
    assert_eq!(loom(&["run", &refused]).code, Some(3));
    // An unknown function fails its action; a syntax error rejects the definition.
    let failing = definition("run-failing", r#"{"A": {"type": "Compose", "inputs": "@nope()"}}"#);
    assert_eq!(loom(&["run", &failing]).code, Some(1));
    assert_eq!(loom(&["validate", &failing]).code, Some(0));
    let refused = definition("run-grammar", r#"{"A": {"type": "Compose", "inputs": "@concat('a'"}}"#);
    assert_eq!((loom(&["run", &refused]).code, loom(&["validate", &refused]).code), (Some(3), Some(3)));
    let path = definition("run-usage", GREET);
    assert_eq!(loom(&["run", &path, "--param", "unknown=1"]).code, Some(3));
    assert_eq!(loom(&["run", &path, "--input", "{oops"]).code, Some(2));
    assert_eq!(loom(&["run", &path, "--trigger", "nobody"]).code, Some(2));
    assert_eq!(loom(&["run", "no-such-file.json"]).code, Some(2));
    assert_eq!(loom(&["run"]).code, Some(2));
}

#[test]
fn a_run_beyond_its_maximum_duration_times_out() {
    let wait = r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}}}"#;
    let path = definition("run-timeout", wait);
    let settings = file("run-timeout", "settings.json", r#"{"Loom": {"runDurationMax": "PT0.05S"}}"#);
    let ended = loom(&["run", &path, "--settings", &settings.display().to_string()]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
}

#[test]
fn settings_apply_to_the_run_and_misspelt_ones_are_rejected() {
    let path = definition(
        "run-settings",
        r#"{"Tell": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "@appsetting('Region')"}}}"#,
    );
    let settings =
        file("run-settings", "settings.json", r#"{"IsEncrypted": false, "Values": {"Region": "north"}}"#);
    let ended = loom(&["run", &path, "--settings", &settings.display().to_string()]);
    assert_eq!(json(&ended.stdout), Value::from("north"));
    let wrong = file("run-settings", "wrong.json", r#"{"Loom": {"defaultRetryPolcy": "none"}}"#);
    let ended = loom(&["run", &path, "--settings", &wrong.display().to_string()]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("defaultRetryPolcy"), "{}", ended.stderr);
}

#[test]
fn budgets_are_settings_and_their_errors_name_them() {
    let compose = |inputs: &str| format!(r#"{{"A": {{"type": "Compose", "inputs": "{inputs}"}}}}"#);
    let parse = r#"{"A": {"type": "ParseJson", "inputs": {"content": "@range(1, 2000)", "schema": {"items": {"type": "integer"}}}}}"#;
    for (setting, least, actions, code) in [
        ("evaluation-steps-max", "1000", compose("@contains(range(1, 5000), -1)"), "EvaluationStepsExceeded"),
        ("run-bytes-max", "64KiB", compose("@join(range(1, 90000), ',')"), "RunBytesExceeded"),
        ("schema-nodes-max", "1000", parse.to_owned(), "SchemaNodesExceeded"),
        (
            "json-values-max",
            "1000",
            compose("@json(concat('[', join(range(1, 2000), ','), ']'))"),
            "json-values-max",
        ),
    ] {
        let path = definition(&format!("run-{setting}"), &actions);
        let ended = loom(&["run", &path, "--json"]);
        assert_eq!(ended.code, Some(0), "{setting}: {}", ended.stderr);
        let ended = loom(&["run", &path, "--json", &format!("--{setting}"), least]);
        assert_eq!(ended.code, Some(1), "{setting}: {}", ended.stderr);
        assert!(ended.stdout.contains(code) && ended.stdout.contains(setting), "{setting}: {}", ended.stdout);
        let ended = loom(&["run", &path, &format!("--{setting}"), "1"]);
        assert_eq!(ended.code, Some(2), "{setting}: {}", ended.stderr);
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    let path = definition(
        "run-secret",
        r#"{
        "Mix": {"type": "Compose", "inputs": "@concat('key ', parameters('key'))"},
        "Tell": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "@outputs('Mix')"}, "runAfter": {"Mix": ["Succeeded"]}}}"#,
    );
    for arguments in [&["--json"][..], &[]] {
        let mut all = vec!["run", &path, "--param", "key=hunter2"];
        all.extend(arguments);
        let ended = loom(&all);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stdout);
        assert!(ended.stdout.contains("*sanitized*"), "{}", ended.stdout);
    }
}

#[test]
fn credentials_in_a_definition_are_not_printed() {
    let text = r#"{"triggers": {"m": {"type": "Request"}}, "actions": {"Call": {"type": "Http", "runAfter": {}, "inputs": {
        "method": "GET", "uri": "http://127.0.0.1:1/", "retryPolicy": {"type": "none"},
        "authentication": {"type": "Basic", "username": "ada", "password": "hunter2"}}}}}"#;
    let path = file("credentials", "call.json", text).display().to_string();
    let ended = loom(&["run", "--json", &path]);
    assert!(ended.stdout.contains("ada"), "values that are not secret are shown: {}", ended.stdout);
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stdout);
}

#[test]
fn egress_rules_apply_as_on_a_server() {
    // Nothing listens on port 1, so a permitted request fails with another error.
    let call = r#"{"Call": {"type": "Http", "runAfter": {}, "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/", "retryPolicy": {"type": "none"}}}}"#;
    let path = definition("run-egress", call);
    let code = |options: &[&str]| {
        let ended = loom(&[&["run", &path, "--json"], options].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.stdout.contains("EgressForbidden")
    };
    assert!(!code(&[]));
    assert!(code(&["--deny-private"]));
    assert!(code(&["--allow-host", "api.example"]));
    assert!(!code(&["--allow-host", "api.example", "--allow-host", "127.0.0.1"]));
    let ended = loom(&["run", &path, "--share-credentials", "api.example"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--share-credentials must be FROM=TO"), "{}", ended.stderr);
}
