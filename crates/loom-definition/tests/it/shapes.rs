//! The shapes of files that contain definitions, and what is loaded besides the workflow.

use loom_definition::{Definition, Diagnostics, LoadOptions, Loaded, model::WorkflowKind};
use loom_expression::{Object, Value};

const BARE: &str = r#"{"$schema": "https://schema/workflowdefinition.json#", "parameters": {"p": {"type": "string", "defaultValue": "d"}}, "triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "@parameters('p')"}}}"#;

fn load_with(text: &str, options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    Definition::parse(text.as_bytes(), options)
}

#[track_caller]
fn load(text: &str) -> Loaded {
    match load_with(text, &LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

#[test]
fn bare_and_wrapped() {
    assert_eq!(load(BARE).workflow.kind, WorkflowKind::Stateful);
    let loaded = load(&format!(
        r#"{{"definition": {BARE}, "kind": "stateless", "parameters": {{"P": {{"value": "v"}}, "$connections": {{"value": {{"o": {{}}}}}}}}}}"#
    ));
    assert_eq!(loaded.workflow.kind, WorkflowKind::Stateless);
    assert_eq!(loaded.parameter_values.get("P"), Some(&Value::from("v")));
    assert_eq!(loaded.connections.to_json_text(), r#"{"o":{}}"#);
    assert_eq!(&*loaded.workflow.actions[0].pointer, "/definition/actions/A");
}

#[test]
fn names_come_from_the_caller_the_file_or_the_directory() {
    let name = |name: Option<&str>, file: &str| {
        let options = LoadOptions {
            name: name.map(Into::into),
            file_name: Some(file.into()),
            ..LoadOptions::default()
        };
        load_with(BARE, &options).expect("it loads").workflow.name.to_string()
    };
    assert_eq!(name(Some("mine"), "x.json"), "mine");
    assert_eq!(name(None, "dir/orders.flow.json"), "orders");
    assert_eq!(name(None, "Orders/workflow.json"), "Orders");
    assert_eq!(load(BARE).workflow.name.to_string(), "workflow");
}

#[test]
fn flow_exports_contain_the_definition_in_properties() {
    let loaded = load(&format!(
        r#"{{"name": "x", "properties": {{"definition": {BARE}, "connectionReferences": {{"shared": {{}}}}}}}}"#
    ));
    assert_eq!(&*loaded.workflow.name, "x");
    assert_eq!(loaded.connections.to_json_text(), r#"{"shared":{}}"#);
}

#[test]
fn the_management_api_returns_files() {
    let loaded = load(&format!(
        r#"{{"id": "/subscriptions/s", "name": "site/Orders", "type": "Microsoft.Web/sites/workflows", "kind": "logicapp",
            "properties": {{"flowState": "Enabled", "files": {{"workflow.json": {{"definition": {BARE}, "kind": "Stateless"}}}}}}}}"#
    ));
    assert_eq!((&*loaded.workflow.name, loaded.workflow.kind), ("Orders", WorkflowKind::Stateless));
}

#[test]
fn a_flow_is_tagged_with_its_display_name() {
    let tags = |beside: &str| {
        let text = format!(
            r#"{{"name": "x", "properties": {{"displayName": "My flow", {beside}"definition": {BARE}}}}}"#
        );
        load(&text).workflow.tags.to_json_text()
    };
    assert_eq!(tags(""), r#"{"flowDisplayName":"My flow"}"#);
    assert_eq!(tags(r#""tags": {"k": 1}, "#), r#"{"k":1,"flowDisplayName":"My flow"}"#);
    assert_eq!(tags(r#""tags": {"flowDisplayName": "Other"}, "#), r#"{"flowDisplayName":"Other"}"#);
}

fn template() -> String {
    format!(
        r#"{{
  "$schema": "https://schema/deploymentTemplate.json#",
  "parameters": {{"flow": {{"type": "string", "defaultValue": "Orders"}}, "greeting": {{"type": "string"}}}},
  "variables": {{"full": "[concat(parameters('flow'), '!')]"}},
  "resources": [
    {{"type": "Microsoft.Web/connections", "name": "c", "properties": {{}}}},
    {{"type": "Microsoft.Logic/workflows", "name": "[parameters('flow')]", "kind": "Stateful",
      "properties": {{"state": "Enabled", "definition": {{
        "triggers": {{"manual": {{"type": "Request"}}}},
        "parameters": {{"p": {{"type": "string"}}}},
        "actions": {{"A": {{"type": "Compose", "inputs": "[variables('full')]"}},
                    "B": {{"type": "Compose", "inputs": "[[not this]"}},
                    "C": {{"type": "Compose", "inputs": "[reference('x').y]"}},
                    "D": {{"type": "Compose", "inputs": "[concat('@equals(', '1, max(')]"}}}}
      }}, "parameters": {{"p": {{"value": "[parameters('greeting')]"}}}}}},
      "resources": [{{"type": "Microsoft.Logic/workflows", "name": "Inner", "properties": {{"definition": {BARE}}}}}]}}
  ]
}}"#
    )
}

#[test]
fn template_expressions_are_resolved() {
    let mut options =
        LoadOptions { choose: Some("orders".into()), strict_expressions: true, ..LoadOptions::default() };
    options.arm_parameters = [("greeting", Value::from("hi"))].into_iter().collect::<Object>();
    let text = template();
    let refused = load_with(&text, &options).expect_err("an expression in it is invalid");
    // An error in a computed expression is marked at the template expression that computes it.
    let bad = refused.0.iter().find(|found| found.code == "L0500").expect("the expression is reported");
    assert_eq!(&text[bad.span.clone()], r#""[concat('@equals(', '1, max(')]""#);
    assert_eq!(bad.pointer, "/resources/1/properties/definition/actions/D/inputs");
    let text = text.replace("'1, max('", "'1, 1)'");
    let loaded = load_with(&text, &options).expect("it loads");
    assert_eq!(&*loaded.workflow.name, "Orders");
    let inputs = |name: &str| {
        let action = loaded.workflow.action(loaded.workflow.find_action(name).expect("the action exists"));
        match &action.kind {
            loom_definition::model::ActionKind::Compose { inputs } => inputs.source_value().to_json_text(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(inputs("A"), r#""Orders!""#);
    assert_eq!(inputs("B"), r#""[not this]""#);
    assert_eq!(inputs("C"), r#""[reference('x').y]""#);
    assert_eq!(loaded.parameter_values.get("p"), Some(&Value::from("hi")));
    let codes: Vec<&str> = loaded.warnings.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["L0106"]);
}

#[test]
fn one_of_several_workflows_is_selected_by_name() {
    let text = template();
    let code = |choose: Option<&str>| {
        let options = LoadOptions { choose: choose.map(Into::into), ..LoadOptions::default() };
        load_with(&text, &options)
            .map(|loaded| loaded.workflow.name.to_string())
            .map_err(|found| Box::new(found.0[0].clone()))
    };
    let several = code(None).expect_err("one must be selected");
    assert_eq!((several.code, several.related.len()), ("L0101", 2));
    let unknown = code(Some("Ordrs")).expect_err("no workflow has this name");
    assert_eq!((unknown.code, unknown.hint.as_deref()), ("L0102", Some("did you mean `Orders`?")));
    assert_eq!(code(Some("inner")).as_deref(), Ok("Inner"));
}

#[test]
fn parameters_may_be_declared_in_a_file() {
    let text = r#"{"definition": {"triggers": {"m": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "@parameters('url')"}}}}"#;
    let unknown = load(text).warnings;
    assert_eq!(unknown.iter().map(|found| found.code).collect::<Vec<_>>(), ["L0512"]);
    let file =
        Value::from_json_str(r#"{"url": {"type": "String", "value": "@appsetting('URL')"}}"#).expect("JSON");
    let options = LoadOptions { parameters_file: Some(file), ..LoadOptions::default() };
    let loaded = load_with(text, &options).expect("it loads");
    assert_eq!(loaded.warnings, []);
    let values = loaded
        .workflow
        .bind_parameters(&Object::new(), &|_| Some(loom_expression::Value::from("here")))
        .expect("it binds");
    assert_eq!(values, [Value::from("here")]);
}

#[test]
fn a_parameters_file_supplies_declared_parameters() {
    let text = r#"{"definition": {"parameters": {"Url": {"type": "String", "defaultValue": "there"}, "size": {"type": "Int", "allowedValues": [1, 2]}},
        "triggers": {"m": {"type": "Request"}}, "actions": {}}}"#;
    let bound = |file: &str, supplied: Object| {
        let file = Some(Value::from_json_str(file).expect("JSON"));
        let options = LoadOptions { parameters_file: file, ..LoadOptions::default() };
        let loaded = load_with(text, &options).expect("it loads");
        loaded.workflow.bind_parameters(&supplied, &|_| None).map_err(|found| found.0[0].code)
    };
    let file = r#"{"url": {"type": "SecureString", "value": "here"}, "SIZE": {"type": "Int", "value": 2}}"#;
    let values = bound(file, Object::new()).expect("it binds");
    assert_eq!(values, [Value::from("here"), Value::from(2)]);
    assert!(values[0].is_secret(), "the file declares it as secure");
    let supplied = [("size", Value::from(1))].into_iter().collect();
    assert_eq!(bound(file, supplied).expect("it binds")[1], Value::from(1));
    assert_eq!(bound(r#"{"size": {"type": "Int", "value": 3}}"#, Object::new()), Err("L0409"));
}

#[test]
fn the_hash_ignores_white_space() {
    let hash = |text: &str| load(text).workflow.hash;
    assert_eq!(hash(BARE), hash(&BARE.replace(": ", " :\n  ")));
    assert_ne!(hash(BARE), hash(&BARE.replace("\"d\"", "\"e\"")));
}

#[test]
fn other_encodings_load() {
    let bytes: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(BARE.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert!(Definition::parse(&bytes, &LoadOptions::default()).is_ok());
    let marked = [b"\xef\xbb\xbf".as_slice(), BARE.as_bytes()].concat();
    assert!(Definition::parse(&marked, &LoadOptions::default()).is_ok());
    let wrong = Definition::parse(b"{\"a\": \"\xff\"}", &LoadOptions::default()).expect_err("it is not text");
    assert_eq!((wrong.0[0].code, wrong.0[0].span.start), ("L0002", 7));
}

#[test]
fn unresolved_template_expressions_are_reported() {
    let loaded = load(
        r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
            "A": {"type": "Http", "inputs": {"method": "GET", "uri": "[concat('https://', parameters('Host'), '/x')]",
                "headers": {"a": "[variables('v')]", "b": "@{utcNow()}", "c": "[1, 2]", "d": "[not one]", "e": "[External(1)]", "f": "[[concat('x')]"}}},
            "B": {"type": "Compose", "inputs": ["[resourceGroup().location]", "[concat('@{', 'x')]"]}}}"#,
    );
    let found: Vec<_> = loaded.warnings.iter().map(|found| (found.code, found.pointer.as_str())).collect();
    assert_eq!(
        found,
        [
            ("L0106", "/actions/A/inputs/uri"),
            ("L0106", "/actions/A/inputs/headers/a"),
            ("L0106", "/actions/B/inputs/0"),
            ("L0106", "/actions/B/inputs/1"),
        ]
    );
}

#[test]
fn tags_are_in_the_definition_or_outside_it() {
    let tags = |text: &str| {
        let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("it loads");
        // The source that is stored loads as the same workflow.
        let again =
            Definition::parse(loaded.workflow.source.as_bytes(), &LoadOptions::default()).expect("again");
        assert_eq!(again.workflow.hash, loaded.workflow.hash);
        assert_eq!(again.workflow.tags, loaded.workflow.tags);
        loaded.workflow.tags.to_json_text()
    };
    assert_eq!(tags(r#"{"triggers": {}, "actions": {}}"#), "null");
    assert_eq!(tags(r#"{"triggers": {}, "actions": {}, "tags": ["a"]}"#), r#"["a"]"#);
    assert_eq!(tags(r#"{"triggers": {}, "actions": {}, "tags": "a"}"#), "null");
    assert_eq!(
        tags(r#"{"definition": {"actions": {}, "tags": ["in"]}, "tags": {"k": "v"}}"#),
        r#"{"k":"v"}"#
    );
    let template = r#"{"parameters": {"team": {"type": "string", "defaultValue": "stock"}}, "resources": [
        {"type": "Microsoft.Logic/workflows", "name": "w", "tags": {"team": "[parameters('team')]"},
         "properties": {"definition": {"triggers": {}, "actions": {}}}}]}"#;
    assert_eq!(tags(template), r#"{"team":"stock"}"#);
}
