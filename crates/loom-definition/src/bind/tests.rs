//! Parameter values: types, allowed values, references to settings and to each other, secrecy.

use loom_expression::Value;

use crate::{Definition, Diagnostics, LoadOptions};

const DECLARED: &str = r#"{"parameters": {
  "n": {"type": "Int", "defaultValue": 1},
  "f": {"type": "float", "defaultValue": 1},
  "size": {"type": "string", "defaultValue": "S", "allowedValues": ["S", "M"]},
  "key": {"type": "secureString", "defaultValue": "hush"},
  "url": {"type": "string", "defaultValue": "@appsetting('URL')"},
  "full": {"type": "string", "defaultValue": "@{parameters('url')}/x"}
}, "triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1}}}"#;

fn bind(definition: &str, supplied: &str) -> Result<Vec<Value>, Diagnostics> {
    let loaded =
        Definition::parse(definition.as_bytes(), &LoadOptions::default()).expect("the definition is valid");
    let supplied = Value::from_json_str(supplied).expect("the JSON is valid");
    let supplied = supplied.into_object().unwrap_or_default();
    loaded.workflow.bind_parameters(&supplied, &|name| (name == "URL").then(|| Value::from("https://host")))
}

#[track_caller]
fn refused(supplied: &str, codes: &[&str]) {
    let found = bind(DECLARED, supplied).expect_err("the values are invalid");
    let mut found: Vec<&str> = found.0.iter().map(|diagnostic| diagnostic.code).collect();
    found.sort_unstable();
    assert_eq!(found, codes, "{supplied}");
}

#[test]
fn defaults_settings_and_other_parameters_are_used() {
    let values = bind(DECLARED, "{}").expect("the values are valid");
    assert_eq!(values[0], Value::from(1));
    assert_eq!(values[4], Value::from("https://host"));
    assert_eq!(values[5], Value::from("https://host/x"));
    let values = bind(DECLARED, r#"{"URL": "http://other"}"#).expect("names are case-insensitive");
    assert_eq!(values[5], Value::from("http://other/x"));
}

#[test]
fn secure_values_are_marked_and_never_shown() {
    let values = bind(DECLARED, "{}").expect("the values are valid");
    assert!(values[3].is_secret());
    assert!(!values[0].is_secret());
    let wrong = bind(DECLARED, r#"{"key": 123456789}"#).expect_err("the type is wrong");
    assert!(!wrong.to_string().contains("123456789"));
}

#[test]
fn all_problems_are_reported_at_once() {
    refused(r#"{"n": "1"}"#, &["L0408"]);
    refused(r#"{"n": 1.5}"#, &["L0408"]);
    refused(r#"{"size": "XL"}"#, &["L0409"]);
    refused(r#"{"nn": 1}"#, &["L0410"]);
    refused(r#"{"n": null, "size": "s", "x": 0}"#, &["L0408", "L0409", "L0410"]);
    assert!(bind(DECLARED, r#"{"f": 2}"#).is_ok());
}

#[test]
fn a_missing_value_a_missing_setting_and_a_cycle_are_errors() {
    let with = |parameters: &str| {
        let text = format!(
            r#"{{"parameters": {parameters}, "triggers": {{"m": {{"type": "Request"}}}}, "actions": {{"A": {{"type": "Compose", "inputs": 1}}}}}}"#
        );
        let found = bind(&text, "{}").expect_err("it is rejected");
        found.0.iter().map(|diagnostic| (diagnostic.code, diagnostic.pointer.clone())).collect::<Vec<_>>()
    };
    assert_eq!(with(r#"{"p": {"type": "int"}}"#), [("L0407", "/parameters/p".to_owned())]);
    assert_eq!(with(r#"{"p": {"type": "string", "defaultValue": "@appsetting('NO')"}}"#)[0].0, "L0411");
    let cycle = r#"{"a": {"type": "string", "defaultValue": "@parameters('b')"}, "b": {"type": "string", "defaultValue": "@parameters('a')"}}"#;
    assert_eq!(with(cycle)[0].0, "L0411");
}
