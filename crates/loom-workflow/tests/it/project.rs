//! A Standard project is the same project for `run`, `validate`, `test`, `serve` and the API: the same files, the same findings, the same
//! severity.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::json;

use crate::{loom, reloaded::Served, served};

const ORDERS: &str = r#"{"kind": "Stateful", "definition": {
  "parameters": {"count": {"type": "Int"}},
  "triggers": {"manual": {"type": "Request", "kind": "Http"}},
  "actions": {
    "Shape": {"type": "Liquid", "kind": "JsonToText", "runAfter": {},
      "inputs": {"content": {"name": "Ada"}, "map": {"source": "LogicApp", "name": "hello"}}},
    "Answer": {"type": "Response", "kind": "Http", "runAfter": {"Shape": ["Succeeded"]}, "inputs": {"statusCode": 200,
      "body": "@concat(parameters('greeting'), ' ', body('Shape'), ' ', parameters('count'), ' ', appsetting('REGION'))"}}}}}"#;

const NIGHTLY: &str = r#"{"kind": "Stateful", "definition": {
  "triggers": {"Tick": {"type": "Recurrence", "recurrence": {"frequency": "Second", "interval": 1}}},
  "actions": {"Note": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}"#;

const SETTINGS: &str = r#"{"IsEncrypted": false, "Values": {"GREETING": "Good day", "REGION": "north",
  "Workflows.nightly.FlowState": "Disabled", "Workflows.WebhookRedirectHostUri": "https://example.com"}}"#;

const HOST: &str = r#"{"version": "2.0", "extensions": {"workflow": {"settings": {
  "Runtime.Backend.FlowRunTimeout": "7.00:00:00",
  "Runtime.Backend.HttpOperation.DefaultRetryCount": "0",
  "Jobs.BackgroundJobs.NumWorkersPerProcessorCount": "192"}}}}"#;

const CASES: &str = r#"[
  {"id": "project", "definitionFile": "orders/workflow.json",
   "expected": {"runStatus": "Succeeded", "response": {"statusCode": 200, "body": "Good day Ada 3 north"}}},
  {"id": "override", "definitionFile": "orders/workflow.json",
   "parameters": {"greeting": "Hi", "count": 4}, "appSettings": {"region": "south"},
   "expected": {"runStatus": "Succeeded", "response": {"statusCode": 200, "body": "Hi Ada 4 south"}}}]"#;

const ANSWER: &str = "Good day Ada 3 north";

/// A project with two workflows and all of its files.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(tempfile::tempdir().expect("there is room"));
        for (name, text) in [
            ("orders/workflow.json", ORDERS),
            ("nightly/workflow.json", NIGHTLY),
            (
                "parameters.json",
                r#"{"greeting": {"type": "String", "value": "@appsetting('GREETING')"}, "count": {"type": "Int", "value": 3}}"#,
            ),
            ("local.settings.json", SETTINGS),
            (
                "connections.json",
                r#"{"managedApiConnections": {"crm": {"connectionRuntimeUrl": "@appsetting('REGION')"}}}"#,
            ),
            ("host.json", HOST),
            ("Artifacts/Maps/hello.liquid", "{{ content.name }}"),
            ("cases.test.json", CASES),
        ] {
            project.write(name, text);
        }
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the project")).expect("there is room");
        // In one step, since a server that watches the directory must not read half of it.
        let whole = path.with_extension("written");
        fs::write(&whole, text).expect("the file can be written");
        fs::rename(whole, path).expect("the file can be renamed");
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn serve(&self) -> Served {
        Served::start(&["--addr", "127.0.0.1:0", "--workflows", &self.path("")])
    }
}

/// The severity and code of each finding in `text`.
fn findings(text: &str) -> Vec<String> {
    let heads = text.lines().filter_map(|line| line.split_once("]: ").map(|(head, _)| head));
    heads
        .filter(|head| head.starts_with("error[") || head.starts_with("warning["))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_project_is_read_alike_by_every_command() {
    let project = Project::new();
    let others = |text: &str| {
        let lines = text.lines().filter(|line| line.contains("is not supported"));
        lines.map(|line| line.rsplit_once(": ").map_or("", |(_, name)| name).to_owned()).collect::<Vec<_>>()
    };
    let expected =
        ["`Workflows.WebhookRedirectHostUri`", "`Jobs.BackgroundJobs.NumWorkersPerProcessorCount`"];

    let validated =
        loom(&["validate", &project.path("orders/workflow.json"), &project.path("nightly/workflow.json")]);
    assert_eq!((validated.code, findings(&validated.stderr)), (Some(0), vec![]), "{}", validated.stderr);
    assert_eq!(others(&validated.stderr), expected, "once for both");

    let ran = loom(&["run", &project.path("orders/workflow.json")]);
    assert_eq!((ran.code, findings(&ran.stderr)), (Some(0), vec![]), "{}", ran.stderr);
    assert_eq!(ran.stdout.trim().trim_matches('"'), ANSWER);
    assert_eq!(others(&ran.stderr), expected);

    let tested = loom(&["test", &project.path("cases.test.json")]);
    assert_eq!((tested.code, tested.stdout.as_str()), (Some(0), "2 passed, 0 failed\n"), "{}", tested.stderr);
    assert_eq!(others(&tested.stderr), expected);

    let server = project.serve();
    let said = server.until("runs are stored");
    assert_eq!(findings(&said), Vec::<String>::new(), "{said}");
    assert_eq!(others(&said), expected);
    assert_eq!(server.fire(), (200, ANSWER.to_owned()));
    // The API belongs to the same project.
    let answer = served::request(&server.address, "PUT", "/api/v1/workflows/again", ORDERS.as_bytes());
    assert_eq!(answer.map(|answer| answer.status), Some(201));
}

#[test]
fn a_disabled_workflow_does_not_fire_and_limits_of_host_json_apply() {
    let project = Project::new();
    let server = project.serve();
    let said = server.until("runs are stored");
    assert!(said.contains("nightly 1.0.0, disabled"), "{said}");
    let path = "/api/v1/workflows/nightly/triggers/Tick/run";
    let answer = served::request(&server.address, "POST", path, b"").expect("the server responds");
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("WorkflowTriggerIsNotEnabled"), "{}", answer.body);
    // The control: enabled, the same call starts a run.
    project.write("local.settings.json", &SETTINGS.replace("Disabled", "Enabled"));
    let enabled = project.serve();
    enabled.until("runs are stored");
    let answer = served::request(&enabled.address, "POST", path, b"").expect("the server responds");
    assert_eq!(answer.status, 202, "{}", answer.body);

    let shown = loom(&["config", "show", "--origin", "--workflows", &project.path("")]);
    for (key, value) in [("run-duration-max", "604800"), ("default-retry-policy", "none")] {
        let line = shown.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        assert!(line.contains(value) && line.contains("host.json:"), "{}", shown.stdout);
    }
}

/// Breaks a project and compares the commands: their findings about `orders`, and whether they reject it.
#[track_caller]
fn judged(project: &Project, finding: &str, refused: bool) {
    let expected = vec![finding.to_owned()];
    let orders = project.path("orders/workflow.json");
    let validated = loom(&["validate", &orders]);
    let exit = if refused { Some(3) } else { Some(0) };
    assert_eq!(
        (findings(&validated.stderr), validated.code),
        (expected.clone(), exit),
        "{}",
        validated.stderr
    );

    let ran = loom(&["run", &orders]);
    assert_eq!(findings(&ran.stderr), expected, "{}", ran.stderr);
    assert_eq!(ran.code == Some(3), refused, "{}", ran.stderr);

    let tested = loom(&["test", &project.path("cases.test.json"), "--filter", "project"]);
    assert_eq!(tested.stdout.contains("it was rejected"), refused, "{}", tested.stdout);
    assert_eq!(tested.stdout.contains(finding), refused, "{}", tested.stdout);

    let mut server = Command::new(env!("CARGO_BIN_EXE_loom"))
        .args(["serve", "--memory", "--addr", "127.0.0.1:0", "--workflows", &project.path("")])
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let address = {
        let mut line = String::new();
        let mut out = std::io::BufReader::new(server.stdout.take().expect("it is piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("the output is text");
        line.trim().strip_prefix("listening on http://").expect("it listens").to_owned()
    };
    let answer = served::request(&address, "GET", "/api/v1/workflows/orders", b"").expect("it answers");
    let text = fs::read(&orders).expect("it is there");
    let put = served::request(&address, "PUT", "/api/v1/workflows/other", &text).expect("it answers");
    server.kill().expect("it lives");
    server.wait().expect("it ends");
    let mut said = String::new();
    server.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    // An error in `parameters.json` applies to every workflow of the project.
    let mut found = findings(&said);
    found.dedup();
    assert_eq!(found, expected, "{said}");
    assert_eq!((answer.status, put.status), if refused { (404, 400) } else { (200, 201) }, "{}", put.body);
}

#[test]
fn every_command_rejects_the_same_definitions() {
    let project = Project::new();
    project.write("orders/workflow.json", &ORDERS.replace("' ', body('Shape')", "\\\"q\\\""));
    judged(&project, "error[L0500", true);
    // An unknown function fails only when its action runs, as WDL specifies.
    project.write("orders/workflow.json", &ORDERS.replace("body('Shape')", "noSuch('Shape')"));
    judged(&project, "warning[L0500", false);
    project.write("orders/workflow.json", &ORDERS.replace("parameters('count')", "parameters('cuont')"));
    judged(&project, "warning[L0512", false);
    project.write("orders/workflow.json", ORDERS);
    project.write("local.settings.json", &SETTINGS.replace("GREETING", "GREETNG"));
    judged(&project, "error[L0411", true);
}

#[test]
fn settings_come_from_the_directory_whatever_is_in_it_at_the_start() {
    let project = Project::new();
    let (from, to) = (project.path("orders/workflow.json"), project.path("orders/workflow.txt"));
    fs::rename(&from, &to).expect("it is there");
    fs::remove_dir_all(project.path("nightly")).expect("it is there");
    project.write("global.json", r#"{"sdk": {"version": "8.0.0"}}"#);
    let server = project.serve();
    server.until("no workflows in");
    fs::rename(&to, &from).expect("it is there");
    server.until("deployed orders 1.0.0");
    assert_eq!(server.fire(), (200, ANSWER.to_owned()));
}

#[test]
fn a_test_that_tests_nothing_fails() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.display().to_string()
    };
    let misspelt =
        path("a.test.json", r#"[{"id": "a", "definitionFile": "gone/workflow.json", "expected": {}}]"#);
    let ended = loom(&["test", &misspelt]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("does not exist") && ended.stdout.ends_with("0 passed, 1 failed\n"),
        "{}",
        ended.stdout
    );
    let ended = loom(&["test", &path("b.test.json", "[]")]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("nothing was tested"), "{}", ended.stderr);
}

/// A deployment template in which a type and a number are parameters of the template.
fn template(directory: &Path) -> PathBuf {
    let text = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "parameters": {"kind": {"type": "string"}, "rounds": {"type": "int"}, "site": {"type": "string"}},
        "resources": [{"type": "Microsoft.Logic/workflows", "name": "flow", "properties": {"definition": {
            "parameters": {"site": {"type": "[parameters('kind')]", "defaultValue": "[parameters('site')]"}},
            "triggers": {"manual": {"type": "Request", "kind": "Http"}},
            "actions": {
                "Repeat": {"type": "Until", "expression": "@equals(1, 2)", "limit": {"count": "[parameters('rounds')]", "timeout": "PT1H"},
                    "actions": {"Step": {"type": "Compose", "inputs": 1, "runAfter": {}}}, "runAfter": {}},
                "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@parameters('site')"},
                    "runAfter": {"Repeat": ["Succeeded", "Failed", "TimedOut"]}},
            },
        }}}],
    });
    let path = directory.join("template.json");
    fs::write(&path, text.to_string()).expect("the file can be written");
    path
}

#[test]
fn template_strings_are_one_warning_and_parameters_can_be_supplied() {
    let directory = tempfile::tempdir().expect("there is room");
    let flow = template(directory.path()).display().to_string();
    let ended = loom(&["validate", &flow]);
    assert_eq!(findings(&ended.stderr), vec!["warning[L0106"; 3], "{}", ended.stderr);
    let ran = loom(&["run", &flow]);
    assert_eq!(findings(&ran.stderr), vec!["warning[L0106"; 3], "{}", ran.stderr);

    let file = directory.path().join("values.json");
    let values = json!({"$schema": "x", "parameters": {"kind": {"value": "string"}, "rounds": {"value": 2}, "site": {"value": "north"}}});
    fs::write(&file, values.to_string()).expect("the file can be written");
    let file = file.display().to_string();
    for given in [
        vec!["--template-params", file.as_str()],
        vec!["-p", "kind=string", "-p", "rounds=2", "-p", "site=north"],
    ] {
        let all = |command: &str| {
            [&[command, &*flow], &given[..]]
                .concat()
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let call = |command: &str| loom(&all(command).iter().map(String::as_str).collect::<Vec<_>>());
        let ended = call("validate");
        assert_eq!((ended.code, findings(&ended.stderr)), (Some(0), vec![]), "{}", ended.stderr);
        let ran = call("run");
        assert_eq!(
            (findings(&ran.stderr), ran.stdout.trim().trim_matches('"')),
            (vec![], "north"),
            "{}",
            ran.stderr
        );
    }
    let unknown = loom(&["run", &flow, "-p", "nobody=1"]);
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.stderr.contains("error[L0410"), "{}", unknown.stderr);
}

/// No file needs a certain name, and the directory may be given in any way.
#[test]
fn xml_schemas_are_read_from_the_project() {
    let project = Project::new();
    project.write(
        "Artifacts/Schemas/o.xsd",
        r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="qty" type="xs:int"/></xs:schema>"#,
    );
    let action = |name: &str| {
        json!({"type": "XmlValidation", "runAfter": {}, "inputs": {"content": format!("<qty>{name}</qty>"),
            "schema": {"source": "LogicApp", "name": "o"}}})
    };
    let checked = json!({"kind": "Stateful", "definition": {"triggers": {"manual": {"type": "Request"}},
        "actions": {"Right": action("7"), "Wrong": action("x")}}});
    project.write("orders/workflow.json", &checked.to_string());
    let check = |ended: &Output| {
        let stdout = String::from_utf8_lossy(&ended.stdout);
        let result: serde_json::Value = serde_json::from_str(stdout.trim()).expect("the result is JSON");
        assert_eq!(result["actions"]["Right"]["status"], "Succeeded", "{stdout}");
        assert_eq!(result["actions"]["Wrong"]["error"]["code"], "XmlValidationFailed", "{stdout}");
    };
    let loom = || Command::new(env!("CARGO_BIN_EXE_loom"));
    check(&loom().args(["run", "--json", &project.path("orders/workflow.json")]).output().expect("it runs"));
    let relative = ["run", "--json", "orders/workflow.json"];
    check(&loom().args(relative).current_dir(&project.0).output().expect("it runs"));
    let inside = ["run", "--json", "workflow.json"];
    check(&loom().args(inside).current_dir(project.0.path().join("orders")).output().expect("it runs"));
}

const CALLS: &str = r#"{"kind": "Stateful", "definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
  "Call": {"type": "Workflow", "runAfter": {}, "inputs": {"host": {"workflow": {"id": "Fulfil"}}, "retryPolicy": {"type": "none"}}},
  "Answer": {"type": "Response", "runAfter": {"Call": ["Succeeded"]}, "inputs": {"body": "@body('Call')"}}}}}"#;

fn responding(with: &str) -> String {
    json!({"kind": "Stateful", "definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Answer": {"type": "Response", "runAfter": {}, "inputs": {"body": with}}}}})
    .to_string()
}

#[test]
fn a_run_finds_the_child_workflows_of_its_project() {
    let project = Project::new();
    project.write("orders/workflow.json", CALLS);
    project.write("Fulfil/workflow.json", &responding("beside"));
    project.write(
        "broken/workflow.json",
        r#"{"definition": {"actions": {"A": {"type": "Compose"}}}, "kind": 1}"#,
    );
    let orders = project.path("orders/workflow.json");
    let ended = loom(&["run", &orders]);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "\"beside\""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("broken/workflow.json is invalid and cannot be called"),
        "{}",
        ended.stderr
    );
    // What is given takes precedence, under the same name.
    project.write("elsewhere/fulfil/workflow.json", &responding("given"));
    let ended = loom(&["run", &orders, "--child", &project.path("elsewhere/fulfil/workflow.json")]);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "\"given\""), "{}", ended.stderr);
}

const STRICT: &str = r#"{"kind": "Stateful", "definition": {
  "triggers": {"manual": {"type": "Request", "operationOptions": "EnableSchemaValidation", "inputs": {"schema": {
    "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}}},
  "actions": {"Answer": {"type": "Response", "runAfter": {}, "inputs": {"body": "@triggerBody()?['n']"}}}}}"#;

#[test]
fn every_command_checks_the_body_against_the_schema_of_the_trigger() {
    let project = Project::new();
    project.write("orders/workflow.json", STRICT);
    let orders = project.path("orders/workflow.json");
    let right = loom(&["run", &orders, "--input", r#"{"n": 7}"#]);
    assert_eq!((right.code, right.stdout.trim()), (Some(0), "7"), "{}", right.stderr);
    for input in [r#"{"n": "x"}"#, "{}"] {
        let wrong = loom(&["run", &orders, "--input", input]);
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""), "{}", wrong.stderr);
        assert!(wrong.stderr.contains("TriggerInputSchemaMismatch"), "{}", wrong.stderr);
    }
    let none = loom(&["run", &orders]);
    assert!(none.code == Some(1) && none.stderr.contains("--input"), "{}", none.stderr);
    let cases = json!([
        {"id": "right", "definitionFile": "orders/workflow.json", "trigger": {"body": {"n": 7}},
         "expected": {"response": {"body": 7}}},
        {"id": "wrong", "definitionFile": "orders/workflow.json", "trigger": {"body": {"n": "x"}},
         "expected": {"triggerFired": false}},
        {"id": "unexpected", "definitionFile": "orders/workflow.json", "trigger": {"body": {}},
         "expected": {"runStatus": "Succeeded"}},
    ]);
    project.write("cases.test.json", &cases.to_string());
    let ended = loom(&["test", &project.path("cases.test.json")]);
    assert!(ended.stdout.ends_with("2 passed, 1 failed\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("TriggerInputSchemaMismatch"), "{}", ended.stdout);
    let served = project.serve();
    let path = "/workflows/orders/triggers/manual/invoke";
    let answer =
        served::request(&served.address, "POST", path, br#"{"n": "x"}"#).expect("the server responds");
    assert!(answer.status == 400 && answer.body.contains("TriggerInputSchemaMismatch"), "{}", answer.body);
}

#[test]
fn a_file_that_is_no_definition_is_never_skipped_silently() {
    let project = Project::new();
    let typo = r#"{"defintion": {"triggers": {}, "actions": {}}}"#;
    project.write("bad/workflow.json", typo);
    project.write("typo.json", typo);
    project.write("orders.test.json", "[]");
    project.write("orders.parameters.json", r#"{"parameters": {"a": {"value": 1}}}"#);
    let check = |text: &str| {
        assert!(text.contains("typo.json: it is not a definition"), "{text}");
        assert!(text.contains("error[L0100]") && text.contains("bad/workflow.json:1"), "{text}");
        for known in ["host.json", "parameters.json", "orders.test.json", "local.settings.json"] {
            assert!(!text.contains(&format!("{known}: it is not")), "{text}");
        }
    };
    let ended = loom(&["validate", &project.0.path().display().to_string()]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    check(&ended.stderr);
    let served = project.serve();
    check(&served.until("runs are stored"));
    // A deployed file that no longer looks like a definition is an error too, and its workflow stays.
    project.write("orders/workflow.json", typo);
    let said = served.until("orders was not updated");
    assert!(said.contains("L0100"), "{said}");
    assert_eq!(served.fire(), (200, ANSWER.to_owned()));
}

#[test]
fn two_files_with_one_workflow_name_are_an_error() {
    let project = Project::new();
    project.write("ORDERS.json", &responding("second"));
    let directory = project.0.path().display().to_string();
    let ended = loom(&["validate", &directory]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("both define the workflow"), "{}", ended.stderr);
    for file in ["ORDERS.json", "orders/workflow.json"] {
        assert!(ended.stderr.contains(file), "{}", ended.stderr);
    }
    // One file named twice is one file.
    let twice =
        loom(&["validate", &project.path("orders/workflow.json"), &project.path("./orders/workflow.json")]);
    assert_eq!(twice.code, Some(0), "{}", twice.stderr);
    let both = [project.path("ORDERS.json"), project.path("orders/workflow.json")];
    let refused = loom(&["serve", "--memory", "--addr", "127.0.0.1:0", &both[0], &both[1]]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("already defines the workflow"), "{}", refused.stderr);

    // Which of them is deployed depends on the order of their paths; the other one follows when it is gone.
    let served = project.serve();
    let said = served.until("runs are stored");
    assert!(said.contains("already defines the workflow"), "{said}");
    let (first, second) = if served.fire().1 == "second" { (&both[0], ANSWER) } else { (&both[1], "second") };
    fs::remove_file(first).expect("it can be removed");
    served.until("deployed");
    assert_eq!(served.fire().1, second);
}

#[test]
fn mistakes_in_settings_files_are_reported() {
    let project = Project::new();
    let orders = project.path("orders/workflow.json");
    let missing = project.path("nofile.json");
    let ended = loom(&["run", &orders, "--secrets", &missing]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--secrets: cannot read"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nofile.json"), "{}", ended.stderr);
    let served = project.serve();
    served.until("runs are stored");
    project.write("local.settings.json", &SETTINGS.replace("\"Disabled\"", "\"Off\""));
    served.reload();
    let said = served.until("reloaded");
    assert!(said.contains("must be `Enabled` or `Disabled`, got `Off`"), "{said}");
    project.write("local.settings.json", r#"{"Vals": {}}"#);
    served.reload();
    let said = served.until("reload failed");
    assert!(said.contains("unknown section `Vals`; did you mean `Values`?"), "{said}");
    let ended = loom(&["run", &orders]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("unknown section `Vals`"), "{}", ended.stderr);
}
