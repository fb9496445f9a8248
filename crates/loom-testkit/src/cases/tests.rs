use std::path::PathBuf;

use loom_expression::{Timestamp, Value};

use super::{CaseFile, Runner, Verdict, compare_exact, compare_subset};

fn value(text: &str) -> Value {
    Value::from_json_str(text).expect("the test writes JSON")
}

/// Runs one case and returns the paths of its differences.
fn run(case: &str) -> Vec<String> {
    let file = CaseFile::parse(format!("[{case}]").as_bytes(), "test".to_owned(), PathBuf::new());
    let report = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file.expect("the test writes a list"), None);
    match &report.entries[0].1 {
        Verdict::Passed => Vec::new(),
        Verdict::Failed(found) => found.iter().map(|difference| difference.at.clone()).collect(),
    }
}

#[track_caller]
fn check_equal(expected: &str, actual: &str, same: bool) {
    let mut found = Vec::new();
    compare_exact("value", &value(expected), Some(&value(actual)), &mut found);
    assert_eq!(found.is_empty(), same, "{expected} and {actual}: {found:?}");
}

#[test]
fn numbers_compare_by_value() {
    check_equal("1", "1.0", true);
    check_equal("0.3", "0.30000000000000004", true);
    check_equal("0.3", "0.3000001", false);
    check_equal("9007199254740993", "9007199254740992", false);
    check_equal("9223372036854775807", "9223372036854775807", true);
    check_equal("1", "\"1\"", false);
    check_equal("0", "null", false);
}

#[test]
fn only_the_order_of_properties_is_ignored() {
    check_equal(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, true);
    check_equal(r#"{"a":1}"#, r#"{"A":1}"#, false);
    check_equal(r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false);
    check_equal("[1,2]", "[2,1]", false);
    check_equal("[1]", "[1,1]", false);
}

#[test]
fn a_subset_ignores_what_it_does_not_mention() {
    let mut found = Vec::new();
    let actual = value(r#"{"code":"X","message":"m","inner":{"a":1,"b":2}}"#);
    compare_subset("error", &value(r#"{"code":"X","inner":{"a":1}}"#), Some(&actual), &mut found);
    assert_eq!(found, Vec::new());
    compare_subset("error", &value(r#"{"inner":{"c":1}}"#), Some(&actual), &mut found);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].at, "error.inner.c");
}

const CALL: &str = r#""definition": {
    "triggers": {"manual": {"type": "Request", "kind": "Http", "inputs": {}}},
    "actions": {
        "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com/a",
            "retryPolicy": {"type": "fixed", "count": 2, "interval": "PT30S"}}},
        "Keep": {"type": "Compose", "inputs": "@body('Ask')", "runAfter": {"Ask": ["Succeeded"]}}
    }}"#;

fn with_call(rest: &str) -> Vec<String> {
    run(&format!("{{{CALL}, {rest}}}"))
}

#[test]
fn mocks_are_used_by_attempt_and_the_last_one_repeats() {
    let works = r#""mocks": {"Ask": [{"statusCode": 503}, {"statusCode": 503}, {"statusCode": 200, "body": 7}]},
        "expected": {"runStatus": "Succeeded", "actions": {"Ask": {"status": "Succeeded", "attempts": 3, "code": "OK"},
        "Keep": {"outputs": 7}}}"#;
    assert_eq!(with_call(works), Vec::<String>::new());
    let fails = r#""mocks": {"Ask": {"statusCode": 503}}, "expected": {"runStatus": "Failed", "actions": {
        "Ask": {"status": "Failed", "attempts": 3, "code": "ServiceUnavailable"}, "Keep": {"status": "Skipped"}}}"#;
    assert_eq!(with_call(fails), Vec::<String>::new());
    let final_answer = r#""mocks": {"Ask": [{"statusCode": 404}, {"statusCode": 200}]},
        "expected": {"actions": {"Ask": {"status": "Failed", "attempts": 1}}}"#;
    assert_eq!(with_call(final_answer), Vec::<String>::new());
}

#[test]
fn a_call_without_a_mock_fails_the_case_and_is_named() {
    assert_eq!(with_call(r#""expected": {"runStatus": "Failed"}"#), ["mocks.Ask"]);
}

#[test]
fn differences_are_named() {
    let case = r#""mocks": {"Ask": {"statusCode": 200, "body": {"a": [1, 2]}}},
        "expected": {"runStatus": "Failed", "actions": {"Keep": {"outputs": {"a": [1, 3]}}, "Other": {}}}"#;
    assert_eq!(with_call(case), ["runStatus", "actions.Keep.outputs.a[1]", "actions.Other"]);
}

#[test]
fn misspelt_properties_are_reported() {
    let mocks = r#""mocks": {"Ask": {"statusCode": 200}}"#;
    let case = format!(r#"{mocks}, "expected": {{"runstatus": "Succeeded"}}"#);
    assert_eq!(with_call(&case), ["expected.runstatus"]);
    let case = format!(r#"{mocks}, "expected": {{"actions": {{"Ask": {{"stauts": "Failed"}}}}}}"#);
    assert_eq!(with_call(&case), ["actions.Ask.stauts"]);
    assert_eq!(with_call(r#""mocks": {"Ask": {"statsCode": 1}}, "expected": {}"#), ["mocks.Ask"]);
    assert_eq!(with_call(r#""mocks": {"Asks": {}}, "expected": {}"#), ["mocks.Asks"]);
    assert_eq!(with_call(mocks), ["expected"]);
    // A property that looks misspelt is an error; other notes are allowed.
    assert_eq!(with_call(r#""mock": {"Ask": {"statusCode": 200}}, "expected": {}"#), ["mock"]);
    assert_eq!(
        with_call(&format!(
            r#"{mocks}, "notes": "n", "team": "t", "expected": {{"runStatus": "Succeeded"}}"#
        )),
        Vec::<String>::new()
    );
}

#[test]
fn an_action_that_makes_no_call_can_be_mocked() {
    let case = r#"{"definition": {"triggers": {}, "actions": {
        "Group": {"type": "Scope", "actions": {"Inner": {"type": "Compose", "inputs": 1}}},
        "Catch": {"type": "Compose", "inputs": "caught", "runAfter": {"Group": ["Failed"]}}}},
        "mocks": {"Group": {"status": "Failed", "code": "Broken"}},
        "expected": {"runStatus": "Succeeded", "actions": {"Group": {"status": "Failed", "code": "Broken"},
        "Inner": {"status": "Skipped"}, "Catch": {"outputs": "caught"}}}}"#;
    assert_eq!(run(case), Vec::<String>::new());
}

#[test]
fn a_breaker_and_a_long_wait_run_in_virtual_time() {
    let case = r#"{"definition": {"triggers": {}, "actions": {
        "Each": {"type": "Foreach", "foreach": "@triggerBody()", "operationOptions": "Sequential", "actions": {
            "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com/",
                "retryPolicy": {"type": "none"}}, "circuitBreaker": {"failureThreshold": 2, "timeout": "PT10M"}}}},
        "Pause": {"type": "Wait", "inputs": {"interval": {"count": 3, "unit": "Day"}},
            "runAfter": {"Each": ["Failed"]}},
        "Again": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com/"},
            "circuitBreaker": {"failureThreshold": 2, "timeout": "PT10M"}, "runAfter": {"Pause": ["Succeeded"]}}}},
        "trigger": {"body": [1, 2, 3, 4]}, "mocks": {"Ask": {"statusCode": 500}, "Again": {"statusCode": 200}},
        "expected": {"runStatus": "Succeeded", "actions": {
            "Ask": {"repetitions": [{"code": "InternalServerError"}, {"code": "InternalServerError"},
                {"code": "CircuitBreakerOpen"}, {"code": "CircuitBreakerOpen"}]},
            "Again": {"status": "Succeeded"}}}}"#;
    assert_eq!(run(case), Vec::<String>::new());
}

#[test]
fn each_occurrence_in_a_loop_can_have_its_own_mocks() {
    let case = r#"{"definition": {"triggers": {}, "actions": {
        "Each": {"type": "Foreach", "foreach": "@triggerBody()", "operationOptions": "Sequential", "actions": {
            "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com/"}}}}}},
        "trigger": {"body": [1, 2, 3]}, "mocks": {"Ask": {"occurrences": [{"statusCode": 200, "body": 1}, [{"statusCode": 500}, {"statusCode": 200, "body": 2}],
            {"statusCode": 404}]}},
        "expected": {"runStatus": "Failed", "actions": {"Ask": {"repetitions": [
            {"status": "Succeeded", "outputs": {"statusCode": 200, "body": 1}},
            {"status": "Succeeded", "outputs": {"statusCode": 200, "body": 2}}, {"status": "Failed", "code": "NotFound"}]}}}}"#;
    assert_eq!(run(case), Vec::<String>::new());
}

#[test]
fn a_webhook_receives_its_callback() {
    let case = r#"{"definition": {"triggers": {}, "actions": {
        "Hook": {"type": "HttpWebhook", "inputs": {"subscribe": {"method": "POST", "uri": "https://example.com/",
            "body": {"to": "@listCallbackUrl()"}}}},
        "Keep": {"type": "Compose", "inputs": "@body('Hook')", "runAfter": {"Hook": ["Succeeded"]}}}},
        "mocks": {"Hook": {"callback": {"headers": {}, "body": {"approved": true}}, "delay": "P2D"}},
        "expected": {"runStatus": "Succeeded", "actions": {"Keep": {"outputs": {"approved": true}}}}}"#;
    assert_eq!(run(case), Vec::<String>::new());
}

#[test]
fn a_child_workflow_is_run_too() {
    let case = r#"{"definition": {"triggers": {}, "actions": {
        "Call": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "Double"}}, "body": {"n": 21}}},
        "Keep": {"type": "Compose", "inputs": "@body('Call')", "runAfter": {"Call": ["Succeeded"]}}}},
        "workflows": {"Double": {"definition": {
            "triggers": {"manual": {"type": "Request", "kind": "Http", "inputs": {}}},
            "actions": {"Answer": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200,
                "body": "@mul(triggerBody()['n'], 2)"}}}}}},
        "expected": {"runStatus": "Succeeded", "actions": {"Keep": {"outputs": 42}}}}"#;
    assert_eq!(run(case), Vec::<String>::new());
}

/// A case whose child `Kid` makes the call `Mail`, as the parent does; `of_kid` are more properties of the child.
fn with_kid(of_kid: &str, rest: &str) -> String {
    let mail = r#""Mail": {"type": "Http", "inputs": {"method": "POST", "uri": "https://mail.example.com"}, "retryPolicy": {"type": "none"}}"#;
    format!(
        r#"{{"definition": {{"triggers": {{}}, "actions": {{{mail},
            "Call": {{"type": "Workflow", "inputs": {{"host": {{"workflow": {{"id": "Kid"}}}}, "retryPolicy": {{"type": "none"}}}}, "runAfter": {{"Mail": ["Succeeded"]}}}}}}}},
        "mocks": {{"Mail": {{"statusCode": 200, "body": "parent"}}}},
        "workflows": {{"Kid": {{"definition": {{
            "triggers": {{"manual": {{"type": "Request", "kind": "Http", "inputs": {{}}}}}},
            "actions": {{{mail}, "Group": {{"type": "Scope", "actions": {{}}, "runAfter": {{"Mail": ["Succeeded"]}}}},
                "Answer": {{"type": "Response", "kind": "Http", "inputs": {{"statusCode": 200, "body": "@body('Mail')"}}, "runAfter": {{"Group": ["Failed"]}}}}}}}}{of_kid}}}}},
        {rest}}}"#
    )
}

#[test]
fn the_calls_of_a_child_workflow_are_mocked_under_the_child() {
    let right = r#""expected": {"runStatus": "Succeeded", "actions": {
        "Mail": {"outputs": {"statusCode": 200, "body": "parent"}}, "Call": {"outputs": {"statusCode": 200, "body": "child"}}}}"#;
    let mocks = r#", "mocks": {"mail": {"statusCode": 200, "body": "child"}, "Group": {"status": "Failed", "code": "Broken"}}"#;
    let mut found = run(&with_kid(mocks, right));
    found.retain(|at| !at.ends_with("headers"));
    assert_eq!(found, Vec::<String>::new());
    // The parent's mocks are not the child's, and the report says where the missing one belongs.
    let found = run(&with_kid("", r#""expected": {"runStatus": "Failed"}"#));
    assert_eq!(found, ["workflows.Kid.mocks.Mail"]);
    let found = run(&with_kid(r#", "mocks": {"Nail": {}}"#, right));
    assert_eq!(found, ["workflows.Kid.mocks.Nail"]);
}

#[test]
fn unknown_properties_of_a_child_workflow_fail_their_case() {
    for property in ["moks", "trigger", "appSettings"] {
        let found =
            run(&with_kid(&format!(r#", "{property}": {{}}"#), r#""expected": {"runStatus": "Failed"}"#));
        assert_eq!(found, [format!("workflows.Kid.{property}")]);
    }
    let found = run(&with_kid(r#", "why": "a note""#, r#""expected": {"runStatus": "Failed"}"#));
    assert_eq!(found, ["workflows.Kid.mocks.Mail"], "a note is no unknown property");
}

#[test]
fn a_missing_definition_file_fails_its_case() {
    let found = run(r#"{"definitionFile": "no-such-file.json", "expected": {"runStatus": "Succeeded"}}"#);
    assert_eq!(found, ["definitionFile"]);
}

#[test]
fn a_case_without_a_subject_fails() {
    assert_eq!(run(r#"{"id": "x"}"#), ["case"]);
    assert_eq!(run("7"), ["case"]);
}

#[test]
fn expression_cases_expect_exactly_one_thing() {
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "expected": 3}"#), Vec::<String>::new());
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "expected": 4}"#), ["value"]);
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "expected": 3, "error": true}"#), ["case"]);
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "range": [1, 3]}"#), Vec::<String>::new());
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "range": [1, 2]}"#), ["value"]);
    assert_eq!(run(r#"{"expression": "@add(1, 'x')", "error": true}"#), Vec::<String>::new());
    assert_eq!(run(r#"{"expression": "@add(1, 2)", "error": true}"#), ["expression"]);
    assert_eq!(run(r#"{"expression": "@{add(1, 2)}", "matches": "^[0-9]$"}"#), Vec::<String>::new());
    assert_eq!(run(r#"{"expression": "@{add(10, 2)}", "matches": "^[0-9]$"}"#), ["value"]);
}

#[test]
fn counts_and_reports_agree() {
    let text = br#"[{"id": "a", "expression": "@add(1,2)", "expected": 3},
        {"id": "b", "expression": "@add(1,2)", "expected": "<&\"", "confidence": "inferred"},
        {"id": "c", "definitionFile": "gone.json", "expected": {}}]"#;
    let file = CaseFile::parse(text, "f.json".to_owned(), PathBuf::new()).expect("a list of cases");
    let report = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file, None);
    assert_eq!(report.counts().to_string(), "1 passed, 2 failed");
    assert_eq!(report.counts().inferred_failed, 1);
    let results: Vec<Value> =
        report.json().iter().map(|case| case.get("result").cloned().unwrap_or_default()).collect();
    assert_eq!(results, [Value::from("passed"), Value::from("failed"), Value::from("failed")]);
    let junit = report.junit();
    assert!(junit.contains("tests=\"3\" failures=\"2\" errors=\"0\" skipped=\"0\""), "{junit}");
    assert!(junit.contains("&lt;&amp;\\&quot;"), "{junit}");
    let only = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file, Some("b"));
    assert_eq!(only.entries.len(), 1);
}

#[test]
fn a_case_knows_its_line() {
    let text = "[\n  {\"id\": \"a\"},\n\n  {\"id\": \"b\"}, {\"id\": \"c\"}\n]";
    let file = CaseFile::parse(text.as_bytes(), "test".to_owned(), PathBuf::new()).expect("it is a list");
    let lines: Vec<_> = file.with_lines(text.as_bytes()).cases.iter().map(|case| case.line).collect();
    assert_eq!(lines, [Some(2), Some(4), Some(4)]);
}

#[test]
fn mocks_have_the_codes_of_real_responses() {
    for (status, code) in [(413, "RequestEntityTooLarge"), (203, "NonAuthoritativeInformation"), (429, "429")]
    {
        let action = r#"{"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}}}"#;
        let case = format!(
            r#"{{"definition": {{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {{"H": {action}}}}},
                "mocks": {{"H": {{"statusCode": {status}}}}}, "expected": {{"actions": {{"H": {{"code": "{code}"}}}}}}}}"#
        );
        assert_eq!(run(&case), Vec::<String>::new(), "{status}");
    }
    // The response of a child workflow, too.
    let child = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
        "R": {"type": "Response", "inputs": {"statusCode": 400, "body": "no"}}}}}"#;
    let parent = r#"{"K": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "Kid"}}, "retryPolicy": {"type": "none"}}}}"#;
    let case = format!(
        r#"{{"definition": {{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {parent}}}, "workflows": {{"Kid": {child}}},
            "expected": {{"actions": {{"K": {{"status": "Failed", "code": "BadRequest", "outputs": {{"statusCode": 400, "body": "no"}}}}}}}}}}"#
    );
    assert_eq!(run(&case), Vec::<String>::new());
}

#[test]
fn differences_of_values_are_whole_in_json() {
    let long = "x".repeat(1_000);
    let text = format!(
        r#"[{{"id": "a", "expression": "@json('{{\"b\": [1, 2], \"c\": 1}}')", "expected": {{"b": [1], "d": "{long}"}}}}]"#
    );
    let file =
        CaseFile::parse(text.as_bytes(), "f.json".to_owned(), PathBuf::new()).expect("a list of cases");
    let report = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file, None).json();
    let differences = report[0].get("differences").expect("there are differences").to_json_text();
    let expected = format!(
        r#"[{{"at":"value.b","expected":[1],"actual":[1,2]}},{{"at":"value.d","expected":"{long}"}},{{"at":"value.c","actual":1}}]"#
    );
    assert_eq!(differences, expected);
}

#[test]
fn calls_of_described_operations_are_compared_with_the_description() {
    let play = |parameters: &str, check: bool| {
        let case = format!(
            r#"[{{"id": "c", "checkRequests": {check}, "connections": {{"connections": {{"notes": {{"description": "notes.swagger.json"}}}}}},
            "definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{"Get": {{"type": "OpenApiConnection", "inputs": {{
                "host": {{"connectionName": "shared_notes", "operationId": "GetNote"}}, "parameters": {{"id": {parameters}}}}}}}}}}},
            "trigger": {{"body": {{"text": "seven", "number": 7}}}},
            "mocks": {{"Get": {{"statusCode": 200}}}}, "expected": {{"runStatus": "Succeeded"}}}}]"#
        );
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/connectors");
        let file =
            CaseFile::parse(case.as_bytes(), "test".to_owned(), directory).expect("the test writes a list");
        let report = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file, None);
        match &report.entries[0].1 {
            Verdict::Passed => Vec::new(),
            Verdict::Failed(found) => found.iter().map(ToString::to_string).collect(),
        }
    };
    assert_eq!(play(r#""@triggerBody()['number']""#, true), Vec::<String>::new());
    assert_eq!(play(r#""@triggerBody()['text']""#, false), Vec::<String>::new());
    let found = play(r#""@triggerBody()['text']""#, true);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("requests.Get") && found[0].contains("`id` must be an integer, found a string"),
        "{found:?}"
    );
}

#[test]
fn a_case_sets_up_shared_memory_and_expects_it() {
    let case = |actions: &str, rest: &str| {
        format!(
            r#"{{"id": "memory", "definition": {{"name": "orders", "definition": {{"triggers": {{"manual": {{"type": "Request"}}}},
                "memory": {{"write": ["global"]}}, "actions": {actions}}}}},
                "memory": {{"global/n": {{"counter": 2}}, "workflow/log": {{"list": ["a"]}}, "global/prices": {{"hash": {{"pear": 3}}}}}}, {rest}}}"#
        )
    };
    let actions = r#"{
        "Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {}},
        "Log": {"type": "Memory", "inputs": {"operation": "append", "key": "workflow/log", "value": "@memoryHash('global/prices', 'pear')", "ttl": "PT1H"}, "runAfter": {"Add": ["Succeeded"]}},
        "Drop": {"type": "Memory", "inputs": {"operation": "delete", "key": "global/prices"}, "runAfter": {"Log": ["Succeeded"]}}}"#;
    let right = r#""expected": {"runStatus": "Succeeded", "actions": {"Add": {"outputs": {"body": 3, "revision": 4, "type": "counter", "expires": null}}},
        "memory": {"global/n": {"counter": 3}, "workflow:orders/log": {"list": ["a", 3]}, "global/prices": null}}"#;
    assert_eq!(run(&case(actions, right)), Vec::<String>::new());
    let wrong = r#""expected": {"memory": {"global/n": {"counter": 4}, "workflow/log": {"set": ["a", 3]}, "global/prices": {"hash": {}}, "global/new": null}}"#;
    assert_eq!(
        run(&case(actions, wrong)),
        ["memory.global/n", "memory.workflow/log", "memory.global/prices"]
    );
    // Time is virtual, for expiry as well; and an action can be mocked like any other.
    let waits = r#"{
        "Set": {"type": "Memory", "inputs": {"operation": "set", "key": "global/x", "value": 1, "ttl": "PT1H"}, "runAfter": {}},
        "Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {"Set": ["Succeeded"]}},
        "Wait": {"type": "Wait", "inputs": {"interval": {"count": 2, "unit": "Hour"}}, "runAfter": {"Add": ["Succeeded"]}}}"#;
    let expected = r#""mocks": {"Add": {"status": "Failed", "code": "RevisionMismatch"}}, "expected": {"runStatus": "Failed",
        "actions": {"Add": {"code": "RevisionMismatch"}, "Wait": {"status": "Skipped"}}, "memory": {"global/x": {"value": 1}, "global/n": {"counter": 2}}}"#;
    assert_eq!(run(&case(waits, expected)), Vec::<String>::new());
    let expected =
        r#""expected": {"runStatus": "Succeeded", "memory": {"global/x": null, "global/n": {"counter": 3}}}"#;
    assert_eq!(run(&case(waits, expected)), Vec::<String>::new());
    for (memory, at) in [
        (r#"{"limit": {"value": 1}}"#, "memory.limit"),
        (r#"{"run/x": {"value": 1}}"#, "memory.run/x"),
        (r#"{"global/x": 1}"#, "memory.global/x"),
        (r#"{"global/x": {"lst": []}}"#, "memory.global/x"),
        (r#"{"global/x": {"counter": "1"}}"#, "memory.global/x"),
    ] {
        let case = format!(
            r#"{{"id": "m", "definition": {{"triggers": {{}}, "actions": {{}}}}, "memory": {memory}, "expected": {{}}}}"#
        );
        assert_eq!(run(&case), [at], "{memory}");
    }
}

#[test]
fn a_case_plays_a_chat_with_scripted_models_and_a_person_who_is_mocked() {
    let case = |models: &str, mocks: &str| {
        format!(
            r#"{{"connections": {{"models": {{"m": {models}}}}},
            "definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{"Chat": {{"type": "GroupChat", "limit": {{"rounds": 2}},
                "inputs": {{"initialMessage": "Shall we?", "participants": {{
                    "Ann": {{"agent": {{"modelId": "m", "messages": []}}}}, "Owner": {{"human": {{}}}}}}}}}}}},
                "outputs": {{"said": {{"type": "String", "value": "@outputs('Chat')?['summary']"}}}}}},
            "mocks": {mocks}, "expected": {{"runStatus": "Succeeded", "outputs": {{"said": "Yes."}}}}}}"#
        )
    };
    let scripted = r#"{"api": "scripted", "replies": [{"text": "I think so."}]}"#;
    let person = r#"{"Chat.Owner": {"outputs": {"body": {"message": "Yes.", "by": "Olga"}}}}"#;
    assert_eq!(run(&case(scripted, person)), Vec::<String>::new());
    // Without its mock a person is missing, and a model of a provider is not asked.
    let found = run(&case(scripted, "{}"));
    assert!(found.iter().any(|line| line.contains("Chat.Owner")), "{found:?}");
    let found = run(&case(r#"{"api": "ollama", "model": "x"}"#, person));
    assert!(found.iter().any(|line| line.contains("Chat")), "{found:?}");
}
