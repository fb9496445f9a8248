//! What a new user sees: the first help, and the messages for common mistakes.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::{
    file, loom,
    served::{Loom, Service},
};

const WORKFLOW: &str = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}}"#;

/// Asserts that a command fails with a usage error that contains each of `said`.
#[track_caller]
fn refused(arguments: &[&str], said: &[&str]) {
    let ended = loom(arguments);
    assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
    for part in said {
        assert!(ended.stderr.contains(part), "{arguments:?}: `{part}` is missing: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "", "{arguments:?}");
}

#[test]
fn the_top_level_help_says_what_loom_is_and_where_to_start() {
    let help = loom(&["--help"]).stdout;
    assert!(help.starts_with("Run, test and serve workflow definitions"), "{help}");
    assert!(help.contains("loom example flaky"), "{help}");
}

#[test]
fn invalid_options_of_serve_are_rejected_before_anything_happens() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data").display().to_string();
    let serve = |more: &[&str], said: &[&str]| {
        let all: Vec<&str> = ["serve", "--data", &data].iter().chain(more).copied().collect();
        refused(&all, said);
    };
    serve(&["nowhere.json"], &["cannot read nowhere.json"]);
    serve(&["--workflows", "nowhere"], &["nowhere is not a directory"]);
    serve(&["--addr", "70707"], &["up to 65535"]);
    serve(&["--addr", "example.com:80"], &["127.0.0.1:7070"]);
    serve(&["--addr", "0.0.0.0:0"], &["--token-file"]);
    serve(&["--public-url", "example.com"], &["http://"]);
    serve(&["--public-url", "https://example.com/?a=b"], &["query"]);
    serve(&["--runs-max", "0"], &["--runs-max"]);
    serve(&["--response-timeout", "0"], &["--response-timeout"]);
    serve(
        &["--otlp", "grpc://collector:4317", "--addr", "0"],
        &["it must begin with http:// or https://", "grpc://collector"],
    );
}

#[test]
fn options_of_other_servers_are_answered_with_ours() {
    refused(&["serve", "--port", "8080"], &["unexpected argument '--port'", "use `--addr PORT`"]);
    refused(&["serve", "--listen=:80"], &["unexpected argument '--listen'", "use `--addr ADDRESS`"]);
    refused(&["serve", "--workflow", "flows"], &["'--workflows'"]);
    let unknown = loom(&["serve", "--frobnicate"]);
    assert!(!unknown.stderr.contains("-- --frobnicate"), "{}", unknown.stderr);
}

#[test]
fn metrics_have_the_build_and_on_linux_the_process() {
    let serving = Loom::serve(&["--memory".as_ref()]);
    let page = serving.request("GET", "/metrics", b"").expect("the server responds").body;
    let version = format!("loom_build_info{{version=\"{}", env!("CARGO_PKG_VERSION"));
    assert!(page.contains(&version), "{page}");
    if cfg!(target_os = "linux") {
        for name in ["process_resident_memory_bytes ", "process_start_time_seconds ", "process_open_fds "] {
            assert!(page.contains(&format!("\n{name}")), "{name}: {page}");
        }
    }
}

#[test]
fn a_port_in_use_is_reported() {
    let service = Service::start(|_| (200, serde_json::Value::Null));
    let address = service.address.strip_prefix("http://").expect("an address");
    let port = address.rsplit(':').next().expect("a port");
    // A port alone means an address of this machine.
    for address in [address, port, &format!("localhost:{port}")] {
        refused(&["serve", "--memory", "--addr", address], &["cannot listen on", "--addr", port]);
    }
}

#[test]
fn a_directory_in_use_by_a_server_is_reported_with_a_remedy() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let _server = Loom::serve(&["--data".as_ref(), data.as_os_str()]);
    let workflow = file("directory-in-use", "workflow.json", WORKFLOW).display().to_string();
    let data = data.display().to_string();
    refused(&["run", &workflow, "--durable", "--data", &data], &["is in use by process", "--data"]);
}

#[test]
fn a_closed_pipe_ends_the_program_silently() {
    for arguments in [&["completions", "bash"][..], &["example", "flaky", "--show"], &["eval", "@add(1, 2)"]]
    {
        let (reader, writer) = std::io::pipe().expect("there is a pipe");
        drop(reader);
        let ended = Command::new(env!("CARGO_BIN_EXE_loom"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .expect("it ends");
        assert_eq!(ended.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_filter_without_matches_is_an_error() {
    let cases = r#"[{"id": "one", "expression": "@add(1, 2)", "expected": 3}]"#;
    let cases = file("filter", "cases.json", cases).display().to_string();
    assert_eq!(loom(&["test", &cases, "--filter", "on"]).code, Some(0));
    let ended = loom(&["test", &cases, "--filter", "two"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no case has an id that contains `two`"), "{}", ended.stderr);
}

#[test]
fn a_redirected_call_shows_its_destination() {
    let call = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"Ask": {"type": "Http", "runAfter": {},
        "inputs": {"method": "GET", "uri": "https://stock.example.com/x?key=k", "retryPolicy": {"type": "none"}}}}}"#;
    let call = file("elsewhere", "call.json", call).display().to_string();
    // A port that was free a moment ago, so nothing listens there.
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let egress = format!(r#"{{"https://stock.example.com": "http://{free}"}}"#);
    let egress = file("elsewhere", "egress.json", &egress);
    let said = loom(&["run", &call, "--egress", &egress.display().to_string()]).stderr;
    assert!(said.contains("'https://stock.example.com': connection refused."), "{said}");
    assert!(said.contains(&format!("The egress rules send it to 'http://{free}'.")), "{said}");
}

#[test]
fn a_mistake_in_a_file_is_reported_once() {
    let broken = file("reported-once", "broken.json", "{").display().to_string();
    for arguments in [["test", &broken], ["run", &broken]] {
        let said = loom(&arguments).stderr;
        assert_eq!(said.matches("name in double quotes").count(), 1, "{said}");
    }
}

#[test]
fn missing_connections_are_reported_before_the_first_action() {
    let flow = r#"{"triggers": {"mail": {"type": "ApiConnectionWebhook", "splitOn": "@triggerBody()?['value']", "inputs": {"host": {"connection": {"referenceName": "outlook"}}, "path": "/s"}}},
        "actions": {"Send": {"type": "ApiConnection", "inputs": {"host": {"connection": {"referenceName": "outlook"}}, "method": "post", "path": "/v2/Mail"}}}}"#;
    let flow = file("connector", "flow.json", flow).display().to_string();
    let without = loom(&["run", &flow]);
    assert!(
        without.stderr.contains("connection 'outlook' is not defined; define it in the connections file"),
        "{}",
        without.stderr
    );
    assert!(without.stderr.contains("pass one with --input"), "{}", without.stderr);
    assert_eq!(without.code, Some(1));
    let given = loom(&["run", &flow, "--input", r#"{"value": [1]}"#]);
    assert!(given.stderr.contains("The connection 'outlook' cannot be found"), "{}", given.stderr);
    let quiet = loom(&["run", &flow, "--quiet", "--input", r#"{"value": [1]}"#]);
    assert!(!quiet.stderr.contains("(--connections)"), "{}", quiet.stderr);
}

#[test]
fn the_reason_of_a_failure_is_on_its_line() {
    let flow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Read": {"type": "Compose", "inputs": "@triggerBody()?['order']['lines']['first']['number']"},
        "Each": {"type": "Foreach", "foreach": "@triggerBody()?['orders']", "actions": {}},
        "Fit": {"type": "ParseJson", "inputs": {"content": {"a": [{"b": 1}]}, "schema": {"properties": {"a": {"items": {"properties": {"b": {"type": "string"}}}}}}}},
        "Kind": {"type": "Compose", "inputs": "@triggerOutputs()['headers']['Content-Type']"},
        "Call": {"type": "Workflow", "inputs": {"host": {"workflowReferenceName": "a-child"}}}}}"#;
    let flow = file("reasons", "flow.json", flow).display().to_string();
    let said = loom(&["run", &flow, "--input", "{}"]).stderr;
    for part in [
        "Read: The template language expression 'triggerBody()?['order']['lines']",
        "Each: The execution of template action 'Each' failed: the result of the evaluation of 'foreach' is of type 'Null'",
        "Fit: The schema validation failed. Invalid type. Expected String but got Integer. (at a[0].b)",
        "✔ Kind",
        "The child workflow 'a-child' does not exist",
    ] {
        assert!(said.contains(part), "`{part}` is missing in\n{said}");
    }
    let child = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"R": {"type": "Response", "inputs": {"body": 7}}}}"#;
    let child = file("reasons", "a-child.json", child).display().to_string();
    let said = loom(&["run", &flow, "--input", "{}", "--child", &child]).stderr;
    assert!(said.contains("✔ Call (200"), "{said}");
}

#[test]
fn a_directory_argument_means_all_its_files() {
    let cases = r#"[{"id": "one", "definitionFile": "flow.json", "expected": {"runStatus": "Succeeded"}}]"#;
    let directory = file("directories", "flow.json", WORKFLOW)
        .parent()
        .expect("it is in a directory")
        .display()
        .to_string();
    file(
        "directories/deeper",
        "broken.json",
        r#"{"actions": {"A": {"type": "Compose", "inputs": "@add(1"}}}"#,
    );
    file("directories", "flow.test.json", cases);
    file("directories", "parameters.json", "{}");
    let validated = loom(&["validate", &directory]);
    assert_eq!(validated.code, Some(3), "{}", validated.stderr);
    assert_eq!(validated.stdout.lines().count(), 2, "{}", validated.stdout);
    assert!(validated.stderr.contains("`loom explain L0500`"), "{}", validated.stderr);
    let tested = loom(&["test", &directory]);
    assert_eq!((tested.code, tested.stdout.as_str()), (Some(0), "1 passed, 0 failed\n"), "{}", tested.stderr);
    refused(&["test", &format!("{directory}/deeper")], &["no file of test cases"]);
    file("directories/empty", "parameters.json", "{}");
    refused(&["validate", &format!("{directory}/empty")], &["no definition found in"]);
}

#[test]
fn a_parameter_value_is_parsed_by_its_declared_type() {
    let flow = r#"{"parameters": {"name": {"type": "string"}, "count": {"type": "int", "defaultValue": 1}, "list": {"type": "array", "defaultValue": []}},
        "triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1}},
        "outputs": {"name": {"type": "string", "value": "@parameters('name')"}, "count": {"type": "int", "value": "@parameters('count')"}}}"#;
    let flow = file("typed", "flow.json", flow).display().to_string();
    let outputs = |arguments: &[&str]| {
        let all: Vec<&str> = ["run", &flow, "--quiet"].iter().chain(arguments).copied().collect();
        let ended = loom(&all);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        crate::json(&ended.stdout)
    };
    let given = outputs(&["-p", "name=007", "-p", "count=7"]);
    assert_eq!(given, crate::json(r#"{"name": "007", "count": 7}"#));
    assert_eq!(outputs(&["-p", "name=\"quoted\""]), crate::json(r#"{"name": "quoted", "count": 1}"#));
    let wrong = loom(&["run", &flow, "-p", "name=a", "-p", "count=seven"]);
    assert_eq!(wrong.code, Some(3));
    assert!(wrong.stderr.contains("parameter `count` has type integer"), "{}", wrong.stderr);
    let broken = loom(&["run", &flow, "-p", "name=a", "-p", "list=[1, 2"]);
    assert_eq!(broken.code, Some(3));
    assert!(broken.stderr.contains("--> --param list:1:6"), "{}", broken.stderr);
}

#[test]
fn invalid_json_is_shown_with_its_position() {
    let flow = file("carets", "flow.json", WORKFLOW).display().to_string();
    let broken = file("carets", "body.json", "{\n  \"a\": 1\n  \"b\": 2\n}").display().to_string();
    refused(
        &["run", &flow, "--input", &format!("@{broken}")],
        &["body.json:3:3", "  3 |   \"b\": 2\n    |   ^"],
    );
    refused(&["run", &flow, "--input", &broken], &[&format!("use `--input @{broken}` to read the file")]);
    let lenient = file("carets", "lenient.json", "// a note\n{\"a\": [1,],}").display().to_string();
    assert_eq!(loom(&["run", &flow, "--input", &format!("@{lenient}")]).code, Some(0));
    let cases = file("carets", "cases.json", "[{\"id\" 1}]").display().to_string();
    refused(&["test", &cases], &["cases.json:1:8"]);
}

#[test]
fn the_trigger_that_fires_is_reported_if_there_are_several() {
    let flow = r#"{"triggers": {"a": {"type": "Request"}, "b": {"type": "Request"}}, "actions": {"Act": {"type": "Compose", "inputs": 1}}}"#;
    let flow = file("triggers", "flow.json", flow).display().to_string();
    let said = loom(&["run", &flow]).stderr;
    assert!(said.contains("firing trigger 'a'; use --trigger for another one: 'b'"), "{said}");
    let said = loom(&["run", &flow, "--trigger", "b"]).stderr;
    assert!(!said.contains("firing"), "{said}");
}

#[test]
fn every_code_of_the_catalogue_is_explained() {
    let list = loom(&["explain"]).stdout;
    assert!(list.lines().count() > 80, "{list}");
    for line in list.lines() {
        let code = line.split(' ').next().expect("a line begins with its code");
        let reported = loom(&["explain", &code.to_lowercase()]);
        assert_eq!(reported.code, Some(0), "{code}: {}", reported.stderr);
        // Topics, such as `connections`, are in the list too.
        let is_code = code.starts_with('L');
        assert!(!is_code || reported.stdout.starts_with(&format!("{code}: ")), "{}", reported.stdout);
    }
    let with_example = loom(&["explain", "L0204"]).stdout;
    assert!(with_example.contains("    error[L0204]: Unknown dependency: Laod"), "{with_example}");
    refused(&["explain", "L9999"], &["unknown code `L9999`"]);
    for (topic, said) in [
        ("models", "\"api\": \"scripted\""),
        ("agent", "agentParameterSchema"),
        ("Emit", "\"progress\""),
        ("GroupChat", "participants"),
        ("connections", "managedApiConnections"),
    ] {
        assert!(loom(&["explain", topic]).stdout.contains(said), "{topic}");
    }
    refused(&["explain", "agnet"], &["did you mean `agent`?"]);
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = loom(&["--version"]).stdout;
    assert!(said.starts_with(&format!("loom {}", env!("CARGO_PKG_VERSION"))), "{said}");
}

#[test]
fn runs_are_shown_down_to_the_iterations_of_their_loops() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data").display().to_string();
    let flow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"Each": {"type": "Foreach", "foreach": [7, 0, 2], "actions": {
        "Divide": {"type": "Compose", "inputs": "@div(14, item())"}}}}}"#;
    let flow = file("looked-at", "flow.json", flow).display().to_string();
    assert_eq!(loom(&["run", &flow, "--durable", "--data", &data]).code, Some(1));
    let listed = loom(&["runs", "list", "--data", &data, "--status", "failed", "--quiet"]).stdout;
    let run = listed.trim();
    let watched = loom(&["runs", "watch", run, "--data", &data]);
    assert_eq!(watched.code, Some(1), "{}", watched.stderr);
    assert!(watched.stdout.contains("Each[2] › Divide: Failed"), "{}", watched.stdout);
    let shown = loom(&["runs", "show", run, "--data", &data]).stdout;
    assert!(
        shown.contains("  Failed     Divide    3 times: 1 Failed, 2 Succeeded; execution 2 failed first"),
        "{shown}"
    );
    let rounds = loom(&["runs", "show", run, "Divide", "--json", "--data", &data]).stdout;
    let rounds: Vec<_> = rounds.lines().map(crate::json).collect();
    let numbers: Vec<_> = rounds
        .iter()
        .filter_map(|round| round.get("number").and_then(loom_expression::Value::as_i64))
        .collect();
    assert_eq!(numbers, [2, 1, 3], "the one that failed comes first");
    assert_eq!(rounds[1].get("outputs").and_then(loom_expression::Value::as_i64), Some(2), "{rounds:?}");
    let missing = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--data", &data]).collect();
        assert_eq!(loom(&all).code, Some(3), "{arguments:?}");
    };
    missing(&["runs", "show", run, "Multiply"]);
    missing(&["runs", "show", "nothing"]);
    missing(&["resilience", "reset", "nothing"]);
    refused(
        &["runs", "list", "--data", &data, "--status", "Suceeded"],
        &["similar value exists: 'Succeeded'"],
    );
}

#[test]
fn a_missing_and_a_wrong_token_have_a_code_of_their_own() {
    let right = file("tokens", "right", "a-token-of-this-test\n").display().to_string();
    let wrong = file("tokens", "wrong", "another-token\n").display().to_string();
    let server = Loom::serve(&["--memory".as_ref(), "--token-file".as_ref(), right.as_ref()]);
    let address = format!("http://{}", server.address());
    let code = |more: &[&str]| {
        let all: Vec<&str> = ["runs", "list", "--server", &address].iter().chain(more).copied().collect();
        loom(&all).code
    };
    assert_eq!(code(&[]), Some(4));
    assert_eq!(code(&["--token-file", &wrong]), Some(4));
    assert_eq!(code(&["--token-file", &right]), Some(0));
}

#[test]
fn a_named_token_is_created_used_and_revoked_and_its_changes_are_audited() {
    let own = file("named-tokens", "own", "a-token-of-this-test\n").display().to_string();
    let server = Loom::serve(&["--memory".as_ref(), "--token-file".as_ref(), own.as_ref()]);
    let address = format!("http://{}", server.address());
    let with = |token: &str, words: &[&str]| {
        let more = ["--server", &address, "--token-file", token];
        loom(&words.iter().chain(&more).copied().collect::<Vec<_>>())
    };
    let scopes = ["tokens", "create", "ci", "--scope", "read", "--scope", "operate", "--expires-days", "30"];
    let made = with(&own, &scopes);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let secret = made.stdout.trim().rsplit('_').next().unwrap_or_default();
    assert_eq!(secret.len(), 64, "{}", made.stdout);
    let ci = file("named-tokens", "ci", &made.stdout).display().to_string();

    assert_eq!(with(&ci, &["runs", "list"]).code, Some(0));
    let set = with(&ci, &["memory", "set", "global/limit", "7"]);
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    let refused = with(&ci, &["tokens", "list"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("Only the server's own token allows this"), "{}", refused.stderr);

    let listed = with(&own, &["tokens", "list"]).stdout;
    assert!(listed.contains("ci ") && listed.contains("read, operate"), "{listed}");
    assert!(!listed.contains(secret), "{listed}");
    let audited = with(&own, &["tokens", "audit", "--by", "ci"]).stdout;
    assert!(audited.lines().count() == 1 && audited.contains("/api/v1/memory/global"), "{audited}");

    assert_eq!(with(&own, &["tokens", "revoke", "ci"]).code, Some(0));
    assert_eq!(with(&ci, &["runs", "list"]).code, Some(4));
    assert_eq!(with(&own, &["tokens", "revoke", "ci"]).code, Some(3));
}

#[test]
fn missing_connections_are_warnings_of_validate_where_the_connections_are_known() {
    let flow = r#"{"triggers": {"manual": {"type": "Request"}},
        "actions": {"Send": {"type": "ApiConnection", "inputs": {"host": {"connection": {"referenceName": "outlook"}}, "method": "post", "path": "/v2/Mail"}}}}"#;
    let flow = file("known-connections", "flow.json", flow).display().to_string();
    let none = file("known-connections", "none.json", "{}").display().to_string();
    let alone = loom(&["validate", &flow]);
    assert_eq!((alone.code, alone.stderr.contains("L0700")), (Some(0), false), "{}", alone.stderr);
    let known = loom(&["validate", &flow, "--connections", &none]);
    assert_eq!(known.code, Some(0), "{}", known.stderr);
    assert!(known.stderr.contains("warning[L0700]: connection `outlook` is not defined"), "{}", known.stderr);
    assert!(known.stderr.contains(":2:"), "it points at the action: {}", known.stderr);
    assert_eq!(loom(&["validate", &flow, "--connections", &none, "--strict"]).code, Some(3));
    let shown = loom(&["validate", &flow, "--connections", &none, "--json"]).stdout;
    assert!(shown.contains("\"L0700\""), "{shown}");
}

#[test]
fn errors_of_parameters_name_the_option_or_the_file() {
    let directory = tempfile::tempdir().expect("there is room");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let order = write("order.json", WORKFLOW);
    let run = |arguments: &[&str], said: &[&str]| {
        let ended = loom(arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}: {}", ended.stderr);
        for part in said {
            assert!(ended.stderr.contains(part), "{arguments:?}: `{part}` is missing: {}", ended.stderr);
        }
    };
    run(
        &["run", &order, "-p", "foo=1"],
        &["undeclared parameter `foo` (from `--param foo`)", "the definition declares no parameters"],
    );
    let limited = WORKFLOW.replacen(
        '{',
        r#"{"parameters": {"limit": {"type": "Int"}, "unit": {"type": "String", "defaultValue": "kg"}}, "#,
        1,
    );
    let limited = write("Orders/workflow.json", &limited);
    run(
        &["run", &limited, "-p", "limit=1", "-p", "colour=red"],
        &["undeclared parameter `colour`", "available: `limit`, `unit`"],
    );
    for (file, said) in [
        (
            r#"{"limit": 10}"#,
            ["parameter `limit` in parameters.json must be an object", "write {\"value\": 10}"],
        ),
        (r#"{"limit": {"value": "x"}}"#, ["L0408", "its value in parameters.json is a string"]),
        (r#"{"limit": {"value": "@appsetting('NO')"}}"#, ["L0411", "parameter `limit` in parameters.json: "]),
    ] {
        write("parameters.json", file);
        run(&["run", &limited], &said);
        run(&["validate", &limited], &said[..1]);
    }
    // A value on the command line replaces that of the file.
    write("parameters.json", r#"{"limit": {"value": "x"}}"#);
    run(&["run", &limited, "-p", "limit=many"], &["its value is a string"]);
}

#[test]
fn a_quiet_run_says_which_action_failed_and_why() {
    let flow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Group": {"type": "Scope", "actions": {"Parse": {"type": "Compose", "inputs": "@int('seven')"}}},
        "Later": {"type": "Compose", "inputs": 1, "runAfter": {"Group": ["Succeeded"]}}}}"#;
    let flow = file("quiet", "flow.json", flow).display().to_string();
    let ended = loom(&["run", "-q", &flow]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("loom: Parse Failed: ") && ended.stderr.contains("seven"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("loom: run Failed"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("loom: Group"), "the cause alone: {}", ended.stderr);
    let good = file("quiet", "good.json", WORKFLOW).display().to_string();
    assert_eq!(loom(&["run", "-q", &good]).stderr, "");
}

#[test]
fn validate_reports_models_that_the_connections_file_lacks() {
    let flow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Ask": {"type": "Agent", "inputs": {"parameters": {"modelId": "fsat",
            "messages": [{"role": "User", "content": "x"}]}}}}}"#;
    let flow = file("models", "flow.json", flow).display().to_string();
    let models = r#"{"models": {"fast": {"api": "scripted", "replies": []}, "slow": {"api": "scripted", "replies": []}}}"#;
    let known = file("models", "known.json", models).display().to_string();
    let alone = loom(&["validate", &flow]);
    assert_eq!((alone.code, alone.stderr.as_str()), (Some(0), ""), "the connections are unknown");
    let ended = loom(&["validate", &flow, "--connections", &known]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    for part in
        ["error[L0703]: the connections file has no model `fsat`", ":2:", "^^^^^^", "did you mean `fast`?"]
    {
        assert!(ended.stderr.contains(part), "`{part}` is missing: {}", ended.stderr);
    }
    let run = loom(&["run", &flow, "--connections", &known]);
    assert!(run.stderr.contains("warning[L0703]"), "{}", run.stderr);
    let misspelt = file("models", "misspelt.json", &models.replacen("replies", "repliez", 1));
    let misspelt = misspelt.display().to_string();
    let ended = loom(&["validate", &flow, "--connections", &misspelt]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("'fast' has the unknown property 'repliez'; did you mean 'replies'?"),
        "{}",
        ended.stderr
    );
}
