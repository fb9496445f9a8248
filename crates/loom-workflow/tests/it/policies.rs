//! Named policies of a project: validated, shown, changed while a server runs.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{loom, reloaded::Served, served};

const RESILIENCE: &str = r#"{
  "defaults": {"retryPolicy": {"type": "none"}},
  "services": {"billing": {"rateLimit": {"requests": 1, "per": "hour", "maxWait": 0}}}
}
"#;

/// A project with one workflow, `orders`, whose action uses `policy`.
fn project(folder: &Path, policy: &str) -> String {
    let definition = json!({"definition": {
        "triggers": {"manual": {"type": "Request"}},
        "actions": {
            "Pay": {"type": "Scope", "actions": {}, "policy": policy, "runAfter": {}},
            "Answer": {"type": "Response", "inputs": {"body": "paid"}, "runAfter": {"Pay": ["Succeeded"]}},
        },
    }});
    fs::create_dir_all(folder.join("orders")).expect("the test can set it up");
    let workflow = folder.join("orders/workflow.json");
    fs::write(&workflow, definition.to_string()).expect("the test can set it up");
    fs::write(folder.join("resilience.json"), RESILIENCE).expect("the test can set it up");
    workflow.display().to_string()
}

#[test]
fn validate_and_run_read_the_policies_of_the_project() {
    let folder = tempfile::tempdir().expect("the test can set it up");
    let file = project(folder.path(), "billing");
    let valid = loom(&["validate", "--explain", &file]);
    assert_eq!(valid.code, Some(0), "{}", valid.stderr);
    assert!(valid.stdout.contains("  Pay: policy billing\n"), "{}", valid.stdout);
    assert!(
        valid.stdout.contains("    rateLimit.requests = 1  (services.billing, line 3)\n"),
        "{}",
        valid.stdout
    );
    assert!(
        valid.stdout.contains("    retryPolicy = {\"type\":\"none\"}  (defaults, line 2)\n"),
        "{}",
        valid.stdout
    );
    assert_eq!(loom(&["run", "--quiet", &file]).code, Some(0));

    let file = project(folder.path(), "biling");
    let unknown = loom(&["validate", &file]);
    assert_eq!(unknown.code, Some(3));
    assert!(
        unknown.stderr.contains("[L0311]") && unknown.stderr.contains("did you mean `billing`?"),
        "{}",
        unknown.stderr
    );
    assert_eq!(loom(&["run", "--quiet", &file]).code, Some(3));

    fs::write(folder.path().join("resilience.json"), RESILIENCE.replace("requests", "requets"))
        .expect("the test can set it up");
    let broken = loom(&["validate", &file]);
    assert_eq!(broken.code, Some(2));
    assert!(broken.stderr.contains("resilience.json:3:"), "{}", broken.stderr);
    assert!(broken.stderr.contains("did you mean `requests`?"), "{}", broken.stderr);
}

#[test]
fn the_option_names_another_file_and_show_explains_it() {
    let folder = tempfile::tempdir().expect("the test can set it up");
    let file = project(folder.path(), "other");
    let other = folder.path().join("other.json");
    fs::write(&other, r#"{"services": {"other": {"mode": "observe", "bulkhead": {"maxConcurrent": 2}}}}"#)
        .expect("the test can set it up");
    let other = other.display().to_string();
    assert_eq!(loom(&["validate", "--resilience", &other, &file]).code, Some(0));
    let shown = loom(&["resilience", "show", "other", "--file", &other]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(
        shown.stdout.contains("bulkhead.maxConcurrent = 2  (services.other, line 1)"),
        "{}",
        shown.stdout
    );
    let none = loom(&["resilience", "show", "othr", "--file", &other]);
    assert_eq!(none.code, Some(3));
    assert!(none.stderr.contains("did you mean `other`?"), "{}", none.stderr);
}

#[test]
fn a_server_adopts_changes_of_the_file_and_of_an_operator_and_keeps_what_was_consumed() {
    let folder = tempfile::tempdir().expect("the test can set it up");
    project(folder.path(), "billing");
    let workflows = folder.path().display().to_string();
    let server = Served::start(&["--addr", "127.0.0.1:0", "--workflows", &workflows]);
    assert_eq!(server.fire().0, 200);
    assert_ne!(server.fire().0, 200, "the only call of the hour was made");

    // One call more, not a fresh limit of two.
    fs::write(
        folder.path().join("resilience.json"),
        RESILIENCE.replace("\"requests\": 1", "\"requests\": 2"),
    )
    .expect("the test can set it up");
    server.until("policies changed, state kept: billing");
    assert_eq!(server.fire().0, 200);
    assert_ne!(server.fire().0, 200);

    // An invalid file changes nothing.
    fs::write(folder.path().join("resilience.json"), "{\"services\": {}}").expect("the test can set it up");
    let said = server.until("the policies have not changed");
    assert!(said.contains("action `Pay` of workflow `orders` uses policy `billing`"), "{said}");

    let url = format!("http://{}", server.address);
    let set = loom(&[
        "resilience",
        "set",
        "billing",
        r#"{"mode": "observe", "rateLimit": {"requests": 2, "per": "hour", "maxWait": 0}}"#,
        "--server",
        &url,
    ]);
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    assert!(set.stdout.contains("mode = \"observe\""), "{}", set.stdout);
    assert!(!set.stdout.contains(" none"), "only the parts that there are: {}", set.stdout);
    assert_eq!(server.fire().0, 200, "observed limits let calls pass");
    let listed = loom(&["resilience", "list", "--server", &url]);
    assert!(listed.stdout.contains("rate limit would have interfered once"), "{}", listed.stdout);

    assert!(set.stderr.contains("`loom resilience unset billing`"), "{}", set.stderr);

    let wrong = loom(&["resilience", "set", "billing", r#"{"rateLimit": {"requets": 2}}"#, "--server", &url]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("unknown property `requets` in `rateLimit`"), "{}", wrong.stderr);
    let shown =
        served::request(&server.address, "GET", "/api/v1/resilience/billing", b"").expect("it answers");
    let shown: Value = serde_json::from_str(&shown.body).expect("the test can set it up");
    assert_eq!(shown["status"]["observed"]["limiter"], 1, "{shown}");
    let unknown =
        served::request(&server.address, "GET", "/api/v1/resilience/nothing", b"").expect("it answers");
    assert_eq!(unknown.status, 404);

    // The stored policy goes before the file, which says so, until it is removed.
    fs::write(
        folder.path().join("resilience.json"),
        RESILIENCE.replace("\"requests\": 1", "\"requests\": 3"),
    )
    .expect("the test can set it up");
    server.until("the policy of billing in resilience.json has no effect: another one is stored");
    let unset = loom(&["resilience", "unset", "billing", "--server", &url]);
    assert_eq!(unset.code, Some(0), "{}", unset.stderr);
    assert!(unset.stdout.contains("rateLimit.requests = 3  (services.billing, line 3)"), "{}", unset.stdout);
    let twice = loom(&["resilience", "unset", "billing", "--server", &url]);
    assert_eq!(twice.code, Some(3));
    assert!(twice.stderr.contains("No policy of 'billing' is stored"), "{}", twice.stderr);
}

/// A change that polling does not see: as long as before, and with the same time.
fn change_unseen(path: &Path, text: &str) {
    let before = fs::metadata(path).expect("it exists");
    assert_eq!(before.len(), text.len() as u64, "the same length");
    let file = fs::File::options().write(true).truncate(true).open(path).expect("the file can be written");
    std::io::Write::write_all(&mut &file, text.as_bytes()).expect("there is room");
    file.set_modified(before.modified().expect("the system knows it")).expect("the time can be set");
}

#[test]
fn sighup_reloads_the_policies_and_a_mistake_in_them_changes_nothing() {
    let folder = tempfile::tempdir().expect("the test can set it up");
    project(folder.path(), "billing");
    let workflows = folder.path().display().to_string();
    let server = Served::start(&["--addr", "127.0.0.1:0", "--workflows", &workflows]);
    assert_eq!(server.fire().0, 200);
    assert_ne!(server.fire().0, 200, "the only call of the hour was made");

    let file = folder.path().join("resilience.json");
    // What is written in between must not be read, as polling would.
    let unset = RESILIENCE.replace("\"requests\": 1", "\"requets\": 22");
    change_unseen(&file, &unset);
    server.reload();
    let said = server.until("reload failed, nothing has changed");
    assert!(said.contains("did you mean `requests`?") || server.until("did you mean").contains("requests"));
    change_unseen(&file, &RESILIENCE.replace("\"requests\": 1", "\"requests\": 2"));
    server.reload();
    let said = server.until("loom: reloaded");
    assert!(said.contains("policies changed, state kept: billing"), "{said}");
    assert_eq!(server.fire().0, 200, "one more, and not two");
    assert_ne!(server.fire().0, 200);
}

/// A chaos file that affects half of the calls of `Ask`.
fn half(directory: &Path) -> String {
    let path = directory.join("chaos.json");
    let plan = json!({"seed": 7, "injections": [{"kind": "fault", "rate": 0.5, "action": "Ask"}]});
    fs::write(&path, plan.to_string()).expect("the test can set it up");
    path.display().to_string()
}

#[test]
fn test_names_the_cases_that_depend_on_luck() {
    let directory = tempfile::tempdir().expect("the test can set it up");
    let case = |id: &str, attempts: u32| {
        json!({"id": id, "mocks": {"Ask": {"statusCode": 200}}, "expected": {"runStatus": "Succeeded"}, "definition": {
            "triggers": {"manual": {"type": "Request"}},
            "actions": {"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com/"}, "runAfter": {},
                "retryPolicy": {"maxAttempts": attempts, "initialDelay": 10}}},
        }})
    };
    let cases = directory.path().join("orders.test.json");
    fs::write(&cases, json!([case("lucky", 1), case("patient", 100)]).to_string())
        .expect("the test can set it up");
    let cases = cases.display().to_string();
    assert_eq!(loom(&["test", &cases]).code, Some(0));
    let chaos = half(directory.path());
    let tested = loom(&["test", &cases, "--chaos", &chaos]);
    assert_eq!(tested.code, Some(1), "{}", tested.stdout);
    assert!(tested.stdout.contains("lucky: fails under "), "{}", tested.stdout);
    assert!(!tested.stdout.contains("patient: fails under"), "{}", tested.stdout);
    assert!(tested.stdout.contains("under chaos: 1 of 2 cases failed under some seeds"), "{}", tested.stdout);
    assert!(tested.stderr.contains("CHAOS IS ON"), "{}", tested.stderr);
    assert_eq!(
        loom(&["test", &cases, "--chaos", &chaos]).stdout,
        tested.stdout,
        "the same seeds, the same luck"
    );
}

#[test]
fn a_chaos_file_is_checked_and_only_the_command_line_takes_one() {
    let directory = tempfile::tempdir().expect("the test can set it up");
    let file = project(directory.path(), "billing");
    let wrong = directory.path().join("wrong.json");
    fs::write(&wrong, r#"{"injections": [{"kind": "fault", "rate": 2}]}"#).expect("the test can set it up");
    let refused = loom(&["run", &file, "--chaos", &wrong.display().to_string()]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("`rate` must be a number between 0 and 1"), "{}", refused.stderr);
    // Not a setting: neither loom.toml nor a variable can switch it on.
    fs::write(directory.path().join("loom.toml"), "chaos = \"chaos.json\"\n")
        .expect("the test can set it up");
    let config = directory.path().join("loom.toml").display().to_string();
    assert_eq!(loom(&["run", &file, "--config", &config]).code, Some(2));
}

#[test]
fn test_takes_other_policies_and_injects_behaviour() {
    let directory = tempfile::tempdir().expect("the test can set it up");
    let case = json!([{"id": "pays", "mocks": {"Ask": {"statusCode": 200}}, "expected": {"runStatus": "Succeeded"}, "definition": {
        "triggers": {"manual": {"type": "Request"}},
        "actions": {"Ask": {"type": "Http", "policy": "billing", "inputs": {"method": "GET", "uri": "https://example.com/"}, "runAfter": {}}},
    }}]);
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("the test can set it up");
        path.display().to_string()
    };
    let cases = write("orders.test.json", case.to_string());
    let retries = |count: u32| {
        let policy =
            json!({"services": {"billing": {"retryPolicy": {"maxAttempts": count, "initialDelay": 1}}}});
        write(&format!("{count}.json"), policy.to_string())
    };
    let (patient, impatient) = (retries(100), retries(1));
    let without = loom(&["test", &cases]);
    assert_eq!(without.code, Some(1), "the case has no project, so `billing` is unknown");
    assert_eq!(loom(&["test", &cases, "--resilience", &patient]).code, Some(0));

    let chaos = write(
        "chaos.json",
        json!({"injections": [{"kind": "behaviour", "behaviour": "loseResponse", "rate": 0.5}]}).to_string(),
    );
    let tested = loom(&["test", &cases, "--resilience", &patient, "--chaos", &chaos]);
    assert_eq!(tested.code, Some(0), "{}", tested.stdout);
    let tested = loom(&["test", &cases, "--resilience", &impatient, "--chaos", &chaos]);
    assert_eq!(tested.code, Some(1), "{}", tested.stdout);
    assert!(tested.stdout.contains("pays: fails under "), "{}", tested.stdout);

    let wrong = write(
        "wrong.json",
        json!({"injections": [{"kind": "behaviour", "behaviour": "duplicat", "rate": 1}]}).to_string(),
    );
    let refused = loom(&["test", &cases, "--resilience", &patient, "--chaos", &wrong]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("did you mean `duplicate`?"), "{}", refused.stderr);
}
