//! `loom eval`.

use crate::{file, json, loom, loom_with_input};

#[test]
fn a_value_is_printed_as_text_or_as_json() {
    let ended = loom(&["eval", "@concat('a', 'b')"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ab\n"));
    let ended = loom(&["eval", "@concat('a', 'b')", "--json"]);
    assert_eq!(ended.stdout, "\"ab\"\n");
    let ended = loom(&["eval", "@add(1, 2)"]);
    assert_eq!(ended.stdout, "3\n");
    let ended = loom(&["eval", "sum: @{add(1, 2)}"]);
    assert_eq!(ended.stdout, "sum: 3\n");
}

#[test]
fn the_expression_may_come_from_standard_input_and_the_context_from_a_file() {
    let context = file("eval", "context.json", r#"{"parameters": {"n": 20}, "now": "2024-03-01T00:00:00Z"}"#);
    let context = context.display().to_string();
    let ended = loom_with_input(&["eval", "-", "--context", &context], "@mul(parameters('n'), 2)\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "40\n"));
    let ended = loom(&["eval", "@utcNow('yyyy-MM-dd')", "--context", &context]);
    assert_eq!(ended.stdout, "2024-03-01\n");
}

#[test]
fn an_error_has_a_caret_under_the_place() {
    let ended = loom(&["eval", "@lenght('abc')"]);
    assert_eq!(ended.code, Some(3));
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("error[E101]"), "{}", ended.stderr);
    assert_eq!(&lines[1..3], ["  @lenght('abc')", "   ^^^^^^"]);
    assert!(ended.stderr.contains("length"), "it says what was meant: {}", ended.stderr);
    let ended = loom(&["eval", "@add(1, 'x')"]);
    assert_eq!(ended.code, Some(1), "it is well formed, and has no value");
    assert_eq!(ended.stdout, "");
}

#[test]
fn errors_are_json_on_demand() {
    let ended = loom(&["eval", "@div(1, 0)", "--json"]);
    assert_eq!(ended.code, Some(1));
    let errors = json(&ended.stdout);
    let first = errors.get("errors").and_then(|errors| errors.index(0)).expect("there is one error");
    assert_eq!(first.get("code").and_then(loom_expression::Value::as_str), Some("E213"));
}

#[test]
fn a_secret_is_not_printed() {
    let context = file("eval", "secret.json", r#"{"secrets": {"key": "hunter2"}}"#).display().to_string();
    let ended = loom(&["eval", "@concat('x', secret('key'))", "--context", &context]);
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stdout);
}

#[test]
fn options_supply_what_an_expression_refers_to() {
    let value = |expression: &str, arguments: &[&str]| {
        let all: Vec<&str> = ["eval", expression].iter().chain(arguments).copied().collect();
        let ended = loom(&all);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    assert_eq!(value("@parameters('n')", &["-p", "n=4"]), "4\n");
    assert_eq!(value("@variables('n')", &["--variable", "n=four"]), "four\n");
    assert_eq!(value("@triggerBody()?['a'][1]", &["--body", r#"{"a": [1, 2]}"#]), "2\n");
    assert_eq!(value("@body('Ask')", &["--outputs", r#"Ask={"body": 5}"#]), "5\n");
    assert_eq!(value("@item()", &["--context", r#"{"item": 6}"#]), "6\n");
    // An option overrides the context.
    assert_eq!(value("@parameters('n')", &["-c", r#"{"parameters": {"n": 1}}"#, "-p", "n=2"]), "2\n");
}

#[test]
fn missing_and_misspelt_names_are_reported_with_a_remedy() {
    let missing = loom(&["eval", "@parameters('n')"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("--param"), "{}", missing.stderr);
    let misspelt = loom(&["eval", "1", "--context", r#"{"paramters": {}}"#]);
    assert_eq!(misspelt.code, Some(2));
    assert!(misspelt.stderr.contains("did you mean `parameters`?"), "{}", misspelt.stderr);
    let text = loom(&["eval", "add(1, 2)"]);
    assert_eq!((text.code, text.stdout.as_str()), (Some(0), "add(1, 2)\n"));
    assert!(text.stderr.contains("did you mean `@add(1, 2)`?"), "{}", text.stderr);
    assert_eq!(loom(&["eval", "plain text"]).stderr, "");
}
