//! `loom secrets`: stored secrets reach the services that runs call, and are shown nowhere.

use std::{fs, path::Path, process::Command};

use loom_expression::Value;

use crate::{Ended, ended, json};

/// Runs the binary in `directory`, with a master key of its own, and `input` on standard input.
fn loom(directory: &Path, arguments: &[&str], input: &str) -> Ended {
    loom_under(&"5c".repeat(32), directory, arguments, input)
}

fn loom_under(key: &str, directory: &Path, arguments: &[&str], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("LOOM_MASTER_KEY", key)
        .env("LOOM_SECRET_FROM_ENVIRONMENT", "3nv1r0n")
        .env_remove("LOOM_MASTER_KEY_FILE")
        .env_remove("CREDENTIALS_DIRECTORY");
    ended(&mut command, input)
}

#[test]
fn a_secret_reaches_its_service_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let workflow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
      "Use": {"type": "Compose", "inputs": {"header": "Bearer @{secret('Api-Key')}"}, "runAfter": {}},
      "Judge": {"type": "If", "expression": {"and": [
          {"equals": [{"concat": ["@secret('api-key@1')", "@{secret('api-key')}"]}, "0ne-secrettw0-secret"]},
          {"equals": ["@secret('from-environment')", "3nv1r0n"]},
          {"equals": ["@secret('mounted')", "m0unted"]}]},
        "actions": {"Right": {"type": "Compose", "inputs": 1, "runAfter": {}}},
        "else": {"actions": {"Wrong": {"type": "Terminate", "inputs": {"runStatus": "Failed"}, "runAfter": {}}}},
        "runAfter": {"Use": ["Succeeded"]}}}}"#;
    fs::write(directory.join("use.json"), workflow).expect("it can be written");
    fs::create_dir(directory.join("run-secrets")).expect("it can be made");
    fs::write(directory.join("run-secrets").join("mounted"), "m0unted\n").expect("it can be written");

    for value in ["0ne-secret\n", "tw0-secret"] {
        let set = loom(directory, &["secrets", "set", "api-key", "--tag", "team=billing"], value);
        assert_eq!(set.code, Some(0), "{}", set.stderr);
        assert!(!set.stdout.contains("secret") && set.stdout.contains("team=billing"), "{}", set.stdout);
    }
    let run =
        loom(directory, &["run", "use.json", "--json", "--durable", "--secrets-dir", "run-secrets"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for value in ["0ne-secret", "tw0-secret", "3nv1r0n", "m0unted"] {
        assert!(!run.stdout.contains(value) && !run.stderr.contains(value), "{}{}", run.stdout, run.stderr);
    }
    let run = json(&run.stdout);
    let used = run.get("actions").and_then(|actions| actions.get("Use")).expect("it ran");
    assert_eq!(used.get("outputs").expect("it has outputs").to_json_text(), r#"{"header":"*sanitized*"}"#);

    let versions = loom(directory, &["secrets", "versions", "api-key", "--json"], "");
    assert_eq!(versions.stdout.lines().count(), 2, "{}", versions.stdout);
    let shown = loom(directory, &["secrets", "show", "api-key", "--version", "1", "--reveal"], "");
    assert_eq!(shown.stdout, "0ne-secret", "without a line break");
}

#[test]
fn mistakes_are_reported_with_a_remedy() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let reported = |arguments: &[&str], input: &str, code: i32, part: &str| {
        let ended = loom(directory, arguments, input);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
    };
    reported(&["secrets", "list"], "", 0, "set one with `loom secrets set NAME`");
    reported(&["secrets", "set", "api-key"], "", 2, "the value on standard input is empty");
    reported(&["secrets", "set", "api key"], "x", 2, "is not a valid secret name");
    reported(&["secrets", "set", "api-key", "--expires-on", "soon"], "x", 2, "expected a timestamp, such as");
    reported(&["secrets", "set", "api-key", "--if-version", "0"], "x", 0, "");
    reported(
        &["secrets", "set", "api-key", "--if-version", "0"],
        "x",
        2,
        "the newest version of 'api-key' must be 0 (got 1)",
    );
    reported(&["secrets", "show", "apikey"], "", 1, "Secret not found: apikey; did you mean `api-key`?");
    let other = loom_under(&"5d".repeat(32), directory, &["secrets", "show", "api-key", "--reveal"], "");
    assert_eq!((other.code, other.stdout.as_str()), (Some(2), ""));
    assert!(
        other.stderr.contains("a different master key; name the file of the right key"),
        "{}",
        other.stderr
    );
    let none = loom_under("no key", directory, &["secrets", "show", "api-key", "--reveal"], "");
    assert!(none.stderr.contains("LOOM_MASTER_KEY must be 64"), "{}", none.stderr);
}

#[test]
fn connectors_are_checked_with_the_secrets_of_the_data_directory() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/connectors");
    for name in ["notes.swagger.json", "notes.properties.json"] {
        fs::copy(from.join(name), directory.join(name)).expect("the file can be copied");
    }
    let connections = r#"{"connections": {"notes": {"description": "notes.swagger.json", "parameters": {"api_key": "@secret('notes')"}}}}"#;
    fs::write(directory.join("connections.json"), connections).expect("it can be written");
    let check = || loom(directory, &["connectors", "check", "notes"], "").stdout;
    assert!(check().contains("Secret not found: notes"), "{}", check());
    assert_eq!(loom(directory, &["secrets", "set", "notes"], "k1").code, Some(0));
    assert!(check().starts_with("notes: 12 of 15 operations can be called\n"), "{}", check());
}

#[test]
fn a_new_master_key_replaces_the_old_one() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    assert_eq!(loom(directory, &["secrets", "set", "k"], "v4lue").code, Some(0));
    let rotated = loom(directory, &["secrets", "rotate-key", "--new-master-key-file", "new.key"], "");
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
    assert_eq!(loom(directory, &["secrets", "show", "k", "--reveal"], "").code, Some(2));
    let key = fs::read_to_string(directory.join("new.key")).expect("it was created");
    assert_eq!(loom_under(key.trim(), directory, &["secrets", "show", "k", "--reveal"], "").stdout, "v4lue");
}

/// What the command line and runs do is in one audit, before and after a server has used the directory.
#[test]
fn every_use_and_change_is_in_the_audit() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let value = "v4lue-of-the-key";
    assert_eq!(loom(directory, &["secrets", "set", "api-key"], value).code, Some(0));
    assert_eq!(loom(directory, &["secrets", "set", "api-key", "--if-version", "7"], value).code, Some(2));
    assert_eq!(loom(directory, &["secrets", "show", "api-key", "--reveal"], "").stdout, value);
    let workflow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Use": {"type": "Compose", "inputs": "@length(secret('api-key', 1))", "runAfter": {}},
        "Open": {"type": "Compose", "inputs": "@declassify(length(secret('api-key')))", "runAfter": {"Use": ["Succeeded"]}}}}"#;
    fs::write(directory.join("use.json"), workflow).expect("it can be written");
    let refused = loom(directory, &["run", "use.json", "--durable"], "");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let run = loom(directory, &["run", "use.json", "--durable", "--json", "--declassify", "use"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report = json(&run.stdout);
    let outputs = report.get("actions").and_then(|actions| actions.get("Open")?.get("outputs"));
    assert_eq!(outputs, Some(&Value::from(16)));
    let audit = loom(directory, &["secrets", "audit"], "");
    assert_eq!(audit.code, Some(0), "{}", audit.stderr);
    let lines: Vec<&str> = audit.stdout.lines().collect();
    let uid = format!("by command line (uid {})", rustix::process::getuid().as_raw());
    for (parts, times) in [
        (vec!["  set ", "embedded:api-key@1", &uid], 1),
        (vec!["  reveal ", "embedded:api-key@1", &uid], 1),
        (vec!["  read ", "embedded:api-key@1  by run  use  run ", "  Use"], 2),
        (vec!["  declassify ", "  Open"], 1),
    ] {
        let found = lines.iter().filter(|line| parts.iter().all(|part| line.contains(*part))).count();
        assert_eq!(found, times, "{parts:?}: {}", audit.stdout);
    }
    assert!(!audit.stdout.contains(value));
    let read = loom(directory, &["secrets", "audit", "api-key", "--operation", "reveal", "--json"], "");
    assert_eq!(read.stdout.lines().count(), 1, "{}", read.stdout);
}

/// A change that cannot be recorded is not made.
#[cfg(unix)]
#[test]
fn what_cannot_be_audited_is_not_done() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    assert_eq!(loom(directory, &["secrets", "set", "k"], "first").code, Some(0));
    fs::remove_file(directory.join(".loom/secrets.json.audit")).expect("it is there");
    fs::create_dir(directory.join(".loom/secrets.json.audit")).expect("it can be made");
    for arguments in
        [&["secrets", "set", "k"][..], &["secrets", "delete", "k"], &["secrets", "show", "k", "--reveal"]]
    {
        let refused = loom(directory, arguments, "second");
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains("nothing was done, because it cannot be recorded"),
            "{}",
            refused.stderr
        );
    }
    fs::remove_dir(directory.join(".loom/secrets.json.audit")).expect("it is there");
    assert_eq!(loom(directory, &["secrets", "show", "k", "--reveal"], "").stdout, "first");
}

/// The outputs that `loom run` shows for a workflow that cuts its settings into pieces. Masking by value does not find pieces,
/// so only labels hide them.
fn settings_shown(settings: &str) -> Value {
    let directory = tempfile::tempdir().expect("there is room");
    let action = |name: &str, setting: &str| {
        format!(
            r#""{name}": {{"type": "Compose", "runAfter": {{}}, "inputs": "@substring({setting}, 0, 6)"}}"#
        )
    };
    let actions = [
        action("Region", "appsetting('REGION')"),
        action("ByName", "appsetting('API_KEY')"),
        action("ByValue", "last(split(appsetting('Db'), '='))"),
        action("ByList", "appsetting('Plain')"),
        action("Parameter", "parameters('key')"),
    ];
    let workflow = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}},
            "parameters": {{"key": {{"type": "string", "defaultValue": "@appsetting('API_KEY')"}}}}, "actions": {{{}}}}}"#,
        actions.join(", ")
    );
    fs::write(directory.path().join("use.json"), workflow).expect("it can be written");
    fs::write(directory.path().join("settings.json"), settings).expect("it can be written");
    let run = loom(directory.path(), &["run", "use.json", "--json", "--settings", "settings.json"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let outputs = |name: &str| {
        let report = json(&run.stdout);
        let action = report.get("actions").and_then(|actions| actions.get(name)).cloned();
        let outputs = action.as_ref().and_then(|action| action.get("outputs")).cloned();
        outputs.unwrap_or_else(|| panic!("{name}: {}", run.stdout))
    };
    ["Region", "ByName", "ByValue", "ByList", "Parameter"].into_iter().map(outputs).collect()
}

#[test]
fn secret_app_settings_are_redacted() {
    let values = r#""Values": {"REGION": "westward", "API_KEY": "keykey-2297",
        "Db": "Server=db;Password=dbdbdb-2297", "Plain": "listed-2297"}"#;
    let hidden = "*sanitized*";
    let shown = settings_shown(&format!(r#"{{{values}, "SecretValues": ["plain"]}}"#));
    assert_eq!(
        shown,
        [Value::from("westwa"), hidden.into(), hidden.into(), hidden.into(), hidden.into()]
            .into_iter()
            .collect()
    );
    // Neither its name nor its value shows that it is a secret.
    let shown = settings_shown(&format!("{{{values}}}"));
    assert_eq!(shown.index(3), Some(&Value::from("listed")));
    assert_eq!(shown.index(1), Some(&Value::from(hidden)));
}
