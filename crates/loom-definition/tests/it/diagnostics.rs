//! Every problem has its code, position and message: one row each.

use loom_definition::{
    Definition, Diagnostic, LoadOptions, ScriptMistake, Severity, diagnostic::SourceFile, diagnostic::sarif,
    render,
};

/// Loads `text` and returns the diagnostic with `code`.
#[track_caller]
pub(crate) fn find(text: &str, code: &str) -> Diagnostic {
    let options = LoadOptions {
        strict_expressions: true,
        // Stands in for a parser: `#` is a syntax error.
        script_check: Some(|code| {
            let offset = code.find('#')?;
            Some(ScriptMistake { message: "SyntaxError: no `#` here".to_owned(), offset })
        }),
        ..LoadOptions::default()
    };
    let all = match Definition::parse(text.as_bytes(), &options) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics.0,
    };
    let found = all.iter().find(|diagnostic| diagnostic.code == code);
    found.unwrap_or_else(|| panic!("no {code} for {text}: {all:?}")).clone()
}

/// Expects for a map of actions: the code, severity and pointer, the marked text, and a part of the message or hint.
#[track_caller]
pub(crate) fn check(actions: &str, code: &str, severity: Severity, pointer: &str, marked: &str, says: &str) {
    let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#);
    let found = find(&text, code);
    assert_eq!(found.severity, severity, "{found:?}");
    assert_eq!(found.pointer, pointer, "{found:?}");
    assert_eq!(&text[found.span.clone()], marked, "{found:?}");
    let words = format!("{} {}", found.message, found.hint.unwrap_or_default());
    assert!(words.contains(says), "{words}");
}

use Severity::{Error, Warning};

#[test]
fn actions_and_their_order() {
    check(r#"{"A": {"inputs": 1}}"#, "L0200", Error, "/actions/A", r#""A""#, "needs a `type`");
    check(
        r#"{"A": {"type": "Scope", "actions": {"a": {"type": "Compose", "inputs": 1}}}}"#,
        "L0201",
        Error,
        "/actions/A/actions/a",
        r#""a""#,
        "differs from `A` only in case",
    );
    check(
        r#"{"A": {"type": "Compse", "inputs": 1}}"#,
        "L0203",
        Warning,
        "/actions/A/type",
        r#""Compse""#,
        "did you mean `Compose`?",
    );
    check(
        r#"{"First": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": 1, "runAfter": {"Frist": ["Succeeded"]}}}"#,
        "L0204",
        Error,
        "/actions/B/runAfter/Frist",
        r#""Frist""#,
        "did you mean `First`?",
    );
    check(
        r#"{"S": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1}}}, "B": {"type": "Compose", "inputs": 1, "runAfter": {"In": ["Succeeded"]}}}"#,
        "L0206",
        Error,
        "/actions/B/runAfter/In",
        r#""In""#,
        "wait for `S`",
    );
    check(
        r#"{"A": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": 1, "runAfter": {"A": ["Succeded"]}}}"#,
        "L0207",
        Error,
        "/actions/B/runAfter/A/0",
        r#""Succeded""#,
        "did you mean `Succeeded`?",
    );
    check(
        r#"{"A": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": 1, "runAfter": {"A": []}}}"#,
        "L0207",
        Error,
        "/actions/B/runAfter/A",
        "[]",
        "can never run",
    );
    check(
        r#"{"A": {"type": "Compose", "inputs": 1, "runAftr": {}}}"#,
        "L0105",
        Warning,
        "/actions/A/runAftr",
        r#""runAftr""#,
        "did you mean `runAfter`?",
    );
    check(r#"{"A": 5}"#, "L0103", Error, "/actions/A", "5", "must be an object, found a number");
}

#[test]
fn waits_for_signals() {
    let wait = |rest: &str| format!(r#"{{"W": {{"type": "WaitForSignal", {rest}}}}}"#);
    check(&wait(r#""runAfter": {}"#), "L0104", Error, "/actions/W", "{", "inputs.name");
    check(&wait(r#""inputs": {}"#), "L0104", Error, "/actions/W", "{", "inputs.name");
    check(
        &wait(r#""inputs": "go""#),
        "L0221",
        Error,
        "/actions/W/inputs",
        r#""go""#,
        "must be an object with a `name`",
    );
    check(
        &wait(r#""inputs": {"name": 5}"#),
        "L0221",
        Error,
        "/actions/W/inputs/name",
        "5",
        "must be a string, found a number",
    );
    check(
        &wait(r#""inputs": {"name": ""}"#),
        "L0221",
        Error,
        "/actions/W/inputs/name",
        r#""""#,
        "1 to 128 characters",
    );
    check(
        &wait(r#""inputs": {"name": "go", "timeout": "PT1H"}"#),
        "L0221",
        Warning,
        "/actions/W/inputs/timeout",
        r#""timeout""#,
        "limit.timeout",
    );
    for policy in
        [r#""circuitBreaker": {}"#, r#""retryPolicy": {"type": "none"}"#, r#""onUncertain": "fail""#]
    {
        let name = policy.split(':').next().unwrap();
        let pointer = format!("/actions/W/{}", name.trim_matches('"'));
        check(
            &wait(&format!(r#""inputs": {{"name": "go"}}, {policy}"#)),
            "L0221",
            Error,
            &pointer,
            name,
            "makes no calls",
        );
    }
}

#[test]
fn actions_that_are_not_allowed_in_loops() {
    let inside = |action: &str| {
        format!(
            r#"{{"L": {{"type": "Until", "expression": "@true", "actions": {{"S": {{"type": "Scope", "actions": {{"X": {action}}}}}}}}}}}"#
        )
    };
    for action in [
        r#"{"type": "Terminate", "inputs": {"runStatus": "Failed"}}"#,
        r#"{"type": "Response", "inputs": {"statusCode": 200}}"#,
        r#"{"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "string"}]}}"#,
    ] {
        check(&inside(action), "L0208", Error, "/actions/L/actions/S/actions/X", r#""X""#, "`X`");
    }
}

#[test]
fn policies_out_of_range_are_errors_at_their_position() {
    let http = |rest: &str| {
        format!(r#"{{"H": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://x"}}, {rest}}}}}"#)
    };
    let at = |part: &str, path: &str| format!("/actions/H/{part}/{path}");
    for (breaker, path, marked, says) in [
        (r#"{"halfOpenRequests": 2000}"#, "halfOpenRequests", "2000", "between 1 and 1,024 (got 2000)"),
        (
            r#"{"failureThreshold": 16777216}"#,
            "failureThreshold",
            "16777216",
            "below 16,777,216 (got 16777216)",
        ),
        (
            r#"{"failureRate": {"threshold": 0.5, "window": 100000}}"#,
            "failureRate/window",
            "100000",
            "between 1 and 65,536 calls (got 100000 calls)",
        ),
        (
            r#"{"failureRate": 0.5, "windowSize": 100000}"#,
            "windowSize",
            "100000",
            "between 1 and 65,536 calls",
        ),
        (
            r#"{"failureRate": {"threshold": 0.5, "window": "PT0.005S"}}"#,
            "failureRate/window",
            r#""PT0.005S""#,
            "between 10 ms and 365 days",
        ),
        (
            r#"{"failureRate": {"threshold": 0.5, "window": "P2Y"}}"#,
            "failureRate/window",
            r#""P2Y""#,
            "between 10 ms and 365 days",
        ),
        (
            r#"{"failureRate": {"threshold": 0.5, "window": "PT9S", "minimumCalls": 20000000}}"#,
            "failureRate/minimumCalls",
            "20000000",
            "below 16,777,216",
        ),
    ] {
        let actions = http(&format!(r#""circuitBreaker": {breaker}"#));
        check(&actions, "L0303", Error, &at("circuitBreaker", path), marked, says);
    }
    for (limit, path, marked, says) in [
        (r#"{"requests": 1, "per": "P2Y"}"#, "per", r#""P2Y""#, "at most 366 days"),
        (
            r#"{"requests": 1, "per": "day", "burst": 4000}"#,
            "burst",
            "4000",
            "ten years to refill (got 4000)",
        ),
        (r#"{"requests": 2000000000, "per": "second"}"#, "requests", "2000000000", "one per nanosecond"),
    ] {
        let actions = http(&format!(r#""rateLimit": {limit}"#));
        check(&actions, "L0304", Error, &at("rateLimit", path), marked, says);
    }
}

#[test]
fn two_actions_with_different_settings_for_one_service_are_reported() {
    let pair = |first: &str, second: &str| {
        format!(
            r#"{{"A": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://x"}}, {first}}},
                "B": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://x"}}, {second}}}}}"#
        )
    };
    for (part, first, second) in [
        ("rateLimit", r#"{"name": "s", "requests": 5}"#, r#"{"name": "s", "requests": 6}"#),
        ("circuitBreaker", r#"{"name": "s"}"#, r#"{"name": "s", "timeout": 5}"#),
        (
            "bulkhead",
            r#"{"name": "s", "maxConcurrent": 5}"#,
            r#"{"name": "s", "maxConcurrent": 5, "maxQueued": 1}"#,
        ),
    ] {
        let actions = pair(&format!(r#""{part}": {first}"#), &format!(r#""{part}": {second}"#));
        check(&actions, "L0309", Warning, &format!("/actions/B/{part}"), second, "action `A`");
        // The same settings, another name, and no name are valid.
        for other in
            [first.to_owned(), second.replace("\"s\"", "\"t\""), second.replace("\"name\": \"s\", ", "")]
        {
            if other == second {
                continue;
            }
            let actions = pair(&format!(r#""{part}": {first}"#), &format!(r#""{part}": {other}"#));
            let text = format!(r#"{{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {actions}}}"#);
            let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("it loads");
            assert!(loaded.warnings.iter().all(|found| found.code != "L0309"), "{text}");
        }
    }
}

#[test]
fn limits_and_settings() {
    let until = |limit: &str| {
        format!(r#"{{"U": {{"type": "Until", "expression": "@true", "limit": {limit}, "actions": {{}}}}}}"#)
    };
    check(
        &until(r#"{"count": 5001}"#),
        "L0215",
        Error,
        "/actions/U/limit/count",
        "5001",
        "must be between 1 and 5000 (got 5001)",
    );
    check(&until(r#"{"timeout": "1h"}"#), "L0300", Error, "/actions/U/limit/timeout", r#""1h""#, "PT30S");
    check(
        r#"{"L": {"type": "Foreach", "foreach": [], "actions": {}, "operationOptions": "Sequential", "runtimeConfiguration": {"concurrency": {"repetitions": 1}}}}"#,
        "L0214",
        Error,
        "/actions/L/runtimeConfiguration/concurrency",
        r#"{"repetitions": 1}"#,
        "keep one",
    );
    let http = |rest: &str| {
        format!(r#"{{"H": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://x"}}, {rest}}}}}"#)
    };
    check(&http(r#""timeout": -5"#), "L0300", Error, "/actions/H/timeout", "-5", "must not be negative");
    check(
        &http(r#""timeout": 5, "limit": {"timeout": "PT1S"}"#),
        "L0306",
        Error,
        "/actions/H/timeout",
        "5",
        "keep one",
    );
    check(
        &http(r#""retryPolicy": {"maxAttempts": 0}"#),
        "L0302",
        Error,
        "/actions/H/retryPolicy/maxAttempts",
        "0",
        "must be between 1 and 1000 (got 0)",
    );
    check(
        &http(r#""circuitBreaker": {"failureTreshold": 3}"#),
        "L0105",
        Warning,
        "/actions/H/circuitBreaker/failureTreshold",
        r#""failureTreshold""#,
        "did you mean `failureThreshold`?",
    );
    check(
        &http(r#""circuitBreaker": {"timeout": 0}"#),
        "L0303",
        Error,
        "/actions/H/circuitBreaker/timeout",
        "0",
        "must be longer than zero",
    );
    check(
        &http(r#""rateLimit": {"per": "second"}"#),
        "L0304",
        Error,
        "/actions/H/rateLimit",
        r#"{"per": "second"}"#,
        "requests",
    );
    check(&http(r#""bulkhead": {}"#), "L0305", Error, "/actions/H/bulkhead", "{}", "maxConcurrent");
    check(
        &http(r#""onUncertain": "maybe""#),
        "L0308",
        Error,
        "/actions/H/onUncertain",
        r#""maybe""#,
        "`ask`",
    );
    check(
        &http(r#""operationOptions": "DisableAsyncPatern""#),
        "L0216",
        Warning,
        "/actions/H/operationOptions",
        r#""DisableAsyncPatern""#,
        "did you mean",
    );
    check(
        &http(r#""runtimeConfiguration": {"staticResult": {"name": "S", "staticResultOptions": "Enabled"}}"#),
        "L0406",
        Error,
        "/actions/H/runtimeConfiguration/staticResult/name",
        r#""S""#,
        "unknown static result",
    );
}

#[test]
fn variables() {
    let with = |rest: &str| {
        format!(
            r#"{{"I": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "count", "type": "integer", "value": 1}}]}}}}, {rest}}}"#
        )
    };
    check(
        &with(r#""X": {"type": "SetVariable", "inputs": {"name": "cuont", "value": 1}}"#),
        "L0400",
        Error,
        "/actions/X/inputs/name",
        r#""cuont""#,
        "did you mean `count`?",
    );
    check(
        &with(r#""X": {"type": "IncrementVariable", "inputs": {"name": "other"}}"#),
        "L0400",
        Warning,
        "/actions/X/inputs/name",
        r#""other""#,
        "undeclared variable `other`",
    );
    check(
        &with(
            r#""X": {"type": "SetVariable", "inputs": {"name": "count", "value": "@add(variables('COUNT'), 1)"}}"#,
        ),
        "L0403",
        Error,
        "/actions/X/inputs/value",
        r#""@add(variables('COUNT'), 1)""#,
        "Compose",
    );
    check(
        &with(r#""X": {"type": "SetVariable", "inputs": {"name": "count", "value": "one"}}"#),
        "L0404",
        Warning,
        "/actions/X/inputs/value",
        r#""one""#,
        "has type integer, but the value is a string",
    );
    check(
        &with(r#""X": {"type": "AppendToArrayVariable", "inputs": {"name": "count", "value": 1}}"#),
        "L0405",
        Warning,
        "/actions/X/inputs/name",
        r#""count""#,
        "cannot change `count`, which has type integer",
    );
    check(
        &with(
            r#""X": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "Count", "type": "string"}]}}"#,
        ),
        "L0401",
        Error,
        "/actions/X/inputs/variables/0/name",
        r#""Count""#,
        "declared twice",
    );
    check(
        r#"{"X": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "strng"}]}}}"#,
        "L0402",
        Error,
        "/actions/X/inputs/variables/0/type",
        r#""strng""#,
        "did you mean `string`?",
    );
}

#[test]
fn invalid_expressions_are_marked_inside_their_strings() {
    let compose = |inputs: &str| format!(r#"{{"A": {{"type": "Compose", "inputs": {inputs}}}}}"#);
    check(
        &compose(r#"{"x": ["@equals(1, frob(2))"]}"#),
        "L0500",
        Warning,
        "/actions/A/inputs/x/0",
        "frob",
        "frob",
    );
    // Through the escapes of the JSON text, to the byte.
    check(&compose(r#""é\n\u00e9 @{frob(2)}""#), "L0500", Warning, "/actions/A/inputs", "frob", "");
    check(
        &compose(r#""@length(coalesce(triggerBody(), createArray()))""#),
        "L0500",
        Warning,
        "/actions/A/inputs",
        "createArray()",
        "expects at least 1 argument",
    );
    let name = compose(r#"{"x": {"\u00e9@{frob(2)}": 1}}"#);
    check(&name, "L0500", Warning, "/actions/A/inputs/x/é@{frob(2)}", "frob", "");
    check(&compose(r#"{"@odata.type": 1}"#), "L0500", Error, "/actions/A/inputs/@odata.type", "odata", "");
    let name = compose(r#"{"@{variables('nobody')}": 1}"#);
    check(&name, "L0511", Warning, "/actions/A/inputs/@{variables('nobody')}", "'nobody'", "");
    check(
        &compose(r#""@equals(outputs('B'), 1)""#),
        "L0510",
        Error,
        "/actions/A/inputs",
        "'B'",
        "unknown action `B`",
    );
    check(
        &compose(r#""@equals(variables('v'), 1)""#),
        "L0511",
        Warning,
        "/actions/A/inputs",
        "'v'",
        "undeclared variable `v`",
    );
    check(
        &compose(r#""@equals(parameters('p'), 1)""#),
        "L0512",
        Warning,
        "/actions/A/inputs",
        "'p'",
        "undeclared parameter `p`",
    );
    check(
        &compose(r#""@equals(items('L'), 1)""#),
        "L0513",
        Error,
        "/actions/A/inputs",
        "'L'",
        "is not inside a Foreach or Until",
    );
}

#[test]
fn syntax_errors_in_scripts_are_marked_inside_their_code() {
    let script =
        |code: &str| format!(r#"{{"A": {{"type": "JavaScriptCode", "inputs": {{"code": {code}}}}}}}"#);
    check(&script(r#""\r\n\u00e9 é # x""#), "L0520", Warning, "/actions/A/inputs/code", "#", "no `#` here");
    // Code with expressions is only checked when it runs, other languages not at all.
    for text in [
        script(r##""# @{1}""##),
        script(r#""@concat('#')""#),
        script(r##""#""##).replace("JavaScript", "CSharpScript"),
    ] {
        let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {text}}}"#);
        let options = LoadOptions {
            script_check: Some(|_| Some(ScriptMistake { message: String::new(), offset: usize::MAX })),
            ..LoadOptions::default()
        };
        let loaded = Definition::parse(text.as_bytes(), &options).unwrap();
        assert!(loaded.warnings.iter().all(|warning| warning.code != "L0520"), "{text}");
    }
}

#[test]
fn files_and_shapes() {
    for (text, code, marked) in [
        ("{\"a\": ", "L0004", ""),
        ("{\"a\" 1}", "L0003", "1"),
        ("[]", "L0100", "[]"),
        ("{\"steps\": []}", "L0100", "{"),
        ("{\"definition\": 3}", "L0103", "3"),
        (r#"{"resources": []}"#, "L0100", "[]"),
        (r#"{"actions": {}, "triggers": {}, /* c */ "contentVersion": "1"}"#, "L0108", "\"1\""),
        (r#"{"definition": {"actions": {}}, "kind": "Statful"}"#, "L0107", "\"Statful\""),
        (r#"{"actions": {}, "parameters": {"p": {"type": "strin"}}}"#, "L0402", "\"strin\""),
        (r#"{"definition": {"actions": {}}, "parameters": {"p": {"value": 1}}}"#, "L0410", "\"p\""),
        (r#"{"actions": {}, "triggers": {"t": {"type": "Recurrence"}}}"#, "L0601", "{"),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Recurrence", "recurrence": {"frequency": "Month", "interval": 17}}}}"#,
            "L0601",
            "17",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "schedule", "inputs": {"cron": "0 9 * * \u004dOO-FRI"}}}}"#,
            "L0601",
            "\\u004dOO",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "schedule", "inputs": {"schedule": "0 24 * * *"}}}}"#,
            "L0601",
            "24",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "schedule", "inputs": {"cron": "@daily", "interval": 2}}}}"#,
            "L0601",
            "\"@daily\"",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Recurrence", "recurrence": {"cron": 5}}}}"#,
            "L0601",
            "5",
        ),
        (r#"{"actions": {}, "triggers": {"t": {"type": "RunEnded", "inputs": {}}}}"#, "L0605", "{"),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "RunEnded", "inputs": {"workflows": ["@parameters('w')"]}}}}"#,
            "L0605",
            "\"@parameters('w')\"",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "RunEnded", "inputs": {"workflows": ["w"], "statuses": ["Faild"]}}}}"#,
            "L0605",
            "\"Faild\"",
        ),
        (r#"{"actions": {}, "triggers": {"t": {"type": "Batch"}}}"#, "L0604", "{"),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Batch", "inputs": {"mode": "IntegrationAccount"}}}}"#,
            "L0604",
            "\"IntegrationAccount\"",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Batch", "inputs": {"configurations": {"b": {"releaseCriteria": {}}}}}}}"#,
            "L0604",
            "{",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Batch", "inputs": {"configurations": {"b": {"releaseCriteria": {"messageCount": 8001}}}}}}}"#,
            "L0604",
            "8001",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Batch", "inputs": {"configurations": {"b": {"releaseCriteria": {"recurrence": {"frequency": "Month", "interval": 17}}}}}}}}"#,
            "L0604",
            "17",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Batch", "splitOn": "@triggerBody()", "inputs": {"configurations": {"b": {"releaseCriteria": {"messageCount": 2}}}}}}}"#,
            "L0603",
            "\"@triggerBody()\"",
        ),
        (r#"{"actions": {}, "triggers": {"t": {"type": "Reqest"}}}"#, "L0600", "\"Reqest\""),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Request", "splitOn": "body"}}}"#,
            "L0603",
            "\"body\"",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Request", "operationOptions": "SingleInstance", "runtimeConfiguration": {"concurrency": {}}}}}"#,
            "L0602",
            "{}",
        ),
        (
            r#"{"actions": {}, "triggers": {"t": {"type": "Request", "runtimeConfiguration": {"concurrency": {"runs": 101}}}}}"#,
            "L0602",
            "101",
        ),
    ] {
        let found = find(text, code);
        assert_eq!(&text[found.span.clone()], marked, "{text}: {found:?}");
    }
}

#[test]
fn a_file_of_fifty_mebibytes_is_rejected_immediately() {
    let mut text = String::from("{\"actions\": {\"A\": {\"type\": \"Compose\", \"inputs\": \"");
    text.push_str(&"x".repeat(50 << 20));
    text.push_str("\"}}}");
    let found = find(&text, "L0001");
    assert!(found.hint.is_some_and(|hint| hint.contains("trigger body")));
}

#[test]
fn a_diagnostic_is_rendered_with_its_line_and_carets() {
    let text = "{\n  \"triggers\": {\"m\": {\"type\": \"Request\"}},\n  \"actions\": {\n    \"A\": {\"type\": \"Compose\", \"inputs\": 1},\n    \"B\": {\"type\": \"Compose\", \"inputs\": 1, \"runAfter\": {\"C\": [\"Succeeded\"]}}\n  }\n}\n";
    let shown = render(&find(text, "L0204"), text, "flow.json", false);
    let expected = "\
error[L0204]: Unknown dependency: C (in `runAfter` of `B`)
 --> flow.json:5:56
  |
5 |     \"B\": {\"type\": \"Compose\", \"inputs\": 1, \"runAfter\": {\"C\": [\"Succeeded\"]}}
  |                                                        ^^^ no action has this name
  = at: /actions/B/runAfter/C
  = help: available: `A`
";
    assert_eq!(shown, expected);
    assert!(render(&find(text, "L0204"), text, "flow.json", true).contains("\x1b[1;31m"));
}

#[test]
fn diagnostics_are_written_as_json_and_sarif() {
    let text = "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\"A\": {\"inputs\": 1}}}";
    let found = find(text, "L0200");
    let json = found.to_json(text);
    assert_eq!(json.get("pointer").and_then(|value| value.as_str()), Some("/actions/A"));
    let column =
        json.get("start").and_then(|start| start.get("column")).and_then(loom_expression::Value::as_i64);
    assert_eq!(column, Some(found.span.start as i64 + 1));
    let log = sarif(&[SourceFile { name: "a b.json", source: text, diagnostics: &[found] }]);
    assert_eq!(log.get("version").and_then(|value| value.as_str()), Some("2.1.0"));
    let run = log.get("runs").and_then(|runs| runs.index(0)).expect("there is a run");
    let result = run.get("results").and_then(|results| results.index(0)).expect("there is a result");
    assert_eq!(result.get("ruleId").and_then(|value| value.as_str()), Some("L0200"));
    let text = result.to_json_text();
    assert!(text.contains("\"uri\":\"a%20b.json\"") && text.contains("\"startLine\":1"), "{text}");
    let rules = run.get("tool").and_then(|tool| tool.get("driver")).and_then(|driver| driver.get("rules"));
    assert_eq!(rules.and_then(|rules| rules.as_array()).map(|rules| rules.len()), Some(1));
}

#[test]
fn a_response_without_a_caller_is_an_error_only_with_a_recurrence() {
    let text = |trigger: &str| {
        format!(
            r#"{{"triggers": {{"t": {trigger}}}, "actions": {{"R": {{"type": "Response", "inputs": {{"statusCode": 200}}}}}}}}"#
        )
    };
    let webhook = r#"{"type": "ApiConnectionWebhook", "inputs": {"host": {}, "body": {}, "path": "/"}}"#;
    let found = find(&text(webhook), "L0209");
    assert_eq!((found.severity, found.label.as_ref()), (Warning, "no response is sent"));
    let polling = r#"{"type": "ApiConnection", "recurrence": {"frequency": "Day"}, "inputs": {"host": {}, "path": "/"}}"#;
    assert_eq!(find(&text(polling), "L0209").severity, Error);
}

#[test]
fn all_mistakes_of_one_object_are_reported_at_once() {
    let mistakes = |actions: &str, trigger: &str| {
        let text = format!(r#"{{"triggers": {{"t": {trigger}}}, "actions": {actions}}}"#);
        let diagnostics = Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_err();
        let errors = diagnostics.0.into_iter().filter(|found| found.severity == Error);
        let messages: Vec<String> = errors.map(|found| found.message).collect();
        messages.join("\n")
    };
    let request = r#"{"type": "Request"}"#;
    let retry = |policy: &str| {
        let inputs = format!(r#"{{"method": "GET", "uri": "http://a", "retryPolicy": {policy}}}"#);
        mistakes(&format!(r#"{{"A": {{"type": "Http", "inputs": {inputs}}}}}"#), request)
    };
    let said = retry(r#"{"type": "fixed", "count": 400, "interval": "PT1S"}"#);
    assert!(said.contains("`count`") && said.contains("`interval` must be between"), "{said}");
    let said = retry(r#"{"type": "exponential", "count": 400, "interval": "PT1S", "maximumInterval": "5x"}"#);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(retry(r#"{"count": 3, "interval": "PT1S"}"#).lines().count(), 1);
    assert_eq!(retry(r#"{"type": "fixd", "count": 3, "interval": "PT10S"}"#).lines().count(), 1);

    let said = mistakes(
        r#"{"A": {"type": "Compose", "inputs": 1, "timeout": "5x", "limit": {"timeout": "PT5S"}}}"#,
        request,
    );
    assert!(said.contains("keep one of them") && said.contains("`timeout`: "), "{said}");
    let every = r#"{"type": "Recurrence", "recurrence": {"frequency": "Minutes", "interval": -5}}"#;
    let said = mistakes("{}", every);
    assert!(said.contains("Minutes") && said.contains("`interval` must be at least 1 (got -5)"), "{said}");
}
