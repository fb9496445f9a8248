//! ARM templates: expressions, nested templates, and where they contain definitions.

use loom_expression::Value;

use super::*;
use crate::{
    options::LoadOptions,
    text::{Limits, read},
};

const TEMPLATE: &str = r#"{
  "parameters": {
    "name": {"type": "string", "defaultValue": "Flow"},
    "list": {"type": "array", "defaultValue": ["a", "b"]},
    "own": {"type": "string", "defaultValue": "[concat(parameters('name'), '-own')]"},
    "none": {"type": "string"},
    "loop": {"type": "string", "defaultValue": "[parameters('loop')]"}
  },
  "variables": {
    "full": "[concat(parameters('name'), '_', variables('tail'))]",
    "tail": "x",
    "object": {"inner": ["[parameters('name')]", "[[literal]"]}
  },
  "resources": []
}"#;

fn evaluate(text: &str) -> Option<Result<Value, String>> {
    let read = read(TEMPLATE, &Limits::default()).expect("the template is JSON");
    Template::new(&read.root, &Object::new(), &Deployment::default()).evaluate(text)
}

#[track_caller]
fn check(text: &str, expected: impl Into<Value>) {
    assert_eq!(evaluate(text), Some(Ok(expected.into())), "{text}");
}

#[track_caller]
fn fails(text: &str, reason: &str) {
    let error = evaluate(text).expect("it is an expression").expect_err("it fails");
    assert!(error.contains(reason), "{text}: {error}");
}

#[test]
fn parameters_and_variables_resolve() {
    check("[parameters('name')]", "Flow");
    check("[parameters('NAME')]", "Flow");
    check("[parameters('own')]", "Flow-own");
    check("[variables('full')]", "Flow_x");
    check("[variables('object').inner[0]]", "Flow");
    check("[variables('object')['inner'][1]]", "[literal]");
    check("[parameters('list')[1]]", "b");
}

#[test]
fn plain_strings_and_escapes_are_not_expressions() {
    assert_eq!(evaluate("text"), None);
    assert_eq!(evaluate("[open"), None);
    check("[[escaped]", "[escaped]");
}

#[test]
fn functions_are_pure_and_ignore_case() {
    check("[toLower(concat('A', 'b', 1))]", "ab1");
    check("[TOUPPER('it''s')]", "IT'S");
    check("[if(equals(parameters('name'), 'Flow'), 'yes', parameters('none'))]", "yes");
    check("[string(int('42'))]", "42");
    check("[add(mul(2, 3), -1)]", 5);
    check("[format('{0}-{1}-{{0}}', 'a', 2)]", "a-2-{0}");
    check("[resourceGroup().location]", "local");
    check("[base64('any carnal pleas')]", "YW55IGNhcm5hbCBwbGVhcw==");
    check("[substring('abcdef', 1, 3)]", "bcd");
    check("[length(concat(parameters('list'), createArray('c')))]", 3);
    check("[last(split('a,b,c', ','))]", "c");
    check("[uriComponent('a b/ä')]", "a%20b%2F%C3%A4");
    check("[coalesce(null(), 'x')]", "x");
    let id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.Web/sites/s/slots/t";
    check("[resourceId('Microsoft.Web/sites/slots', 's', 't')]", id);
    check(
        "[resourceId('rg', 'A.B/c', 'd')]",
        id.replace("local/", "rg/").replace("Microsoft.Web/sites/s/slots/t", "A.B/c/d").as_str(),
    );
}

#[test]
fn unique_strings_are_deterministic_and_differ() {
    let one = evaluate("[uniqueString('a', 'b')]");
    assert_eq!(one, evaluate("[uniqueString('a', 'b')]"));
    assert_ne!(one, evaluate("[uniqueString('ab')]"));
    let text = one.expect("an expression").expect("a value");
    assert_eq!(text.as_str().map(str::len), Some(13));
}

#[test]
fn unresolved_expressions_report_the_reason() {
    fails("[parameters('none')]", "has no value");
    fails("[parameters('missing')]", "undeclared template parameter");
    fails("[parameters('loop')]", "refers to itself");
    fails("[reference('x')]", "is only available in a deployment");
    fails("[frobnicate(1)]", "unsupported template function");
    fails("[concat('a']", "`)`");
    fails("[concat('a]", "unterminated string");
    fails("[name]", "expected `(` after `name`");
    fails("[add(9223372036854775807, 1)]", "does not fit in 64 bits");
    fails("[div(1, 0)]", "division by zero");
    fails(&format!("[{}1{}]", "not(".repeat(500), ")".repeat(500)), "too deeply");
}

fn load(template: &str, choose: Option<&str>) -> (String, Value) {
    let options = LoadOptions { choose: choose.map(Arc::from), ..LoadOptions::default() };
    let loaded = crate::load::Definition::parse(template.as_bytes(), &options).expect("it loads");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let source = Value::from_json_str(&loaded.workflow.source).expect("it is JSON");
    let inputs =
        ["definition", "actions", "A", "inputs"].into_iter().try_fold(&source, |at, name| at.get(name));
    let inputs =
        inputs.or_else(|| ["actions", "A", "inputs"].into_iter().try_fold(&source, |at, name| at.get(name)));
    (loaded.workflow.name.to_string(), inputs.cloned().unwrap_or(Value::NULL))
}

const WORKFLOW: &str =
    r#"{"triggers": {"t": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "INPUTS"}}}"#;

fn workflow(inputs: &str) -> String {
    WORKFLOW.replace("INPUTS", inputs)
}

#[test]
fn a_nested_template_sees_its_own_names_or_those_of_the_outer_one() {
    for (scope, expected) in [("inner", "inner-given"), ("outer", "outer-outer")] {
        let template = format!(
            r#"{{"parameters": {{"p": {{"type": "string", "defaultValue": "outer"}}}}, "variables": {{"v": "outer"}},
                "resources": [{{"type": "Microsoft.Resources/deployments", "properties": {{
                  "expressionEvaluationOptions": {{"scope": "{scope}"}},
                  "parameters": {{"p": {{"value": "[concat('gi', 'ven')]"}}}},
                  "template": {{"parameters": {{"p": {{"type": "string"}}}}, "variables": {{"v": "inner"}},
                    "resources": [{{"type": "Microsoft.Logic/workflows", "name": "w",
                      "properties": {{"definition": {}}}}}]}}}}}}]}}"#,
            workflow("[format('{0}-{1}', variables('v'), parameters('p'))]")
        );
        assert_eq!(load(&template, None), ("w".to_owned(), Value::from(expected)));
    }
}

#[test]
fn a_copy_loop_declares_several_workflows() {
    let template = format!(
        r#"{{"variables": {{"names": ["a", "b"]}}, "resources": [{{"type": "Microsoft.Logic/workflows",
            "name": "[variables('names')[copyIndex()]]", "copy": {{"name": "n", "count": "[length(variables('names'))]"}},
            "properties": {{"definition": {}}}}}]}}"#,
        workflow("[copyIndex(10)]")
    );
    assert_eq!(load(&template, Some("b")), ("b".to_owned(), Value::from(11i64)));
}

#[test]
fn definitions_in_variables_and_resources_by_name_are_found() {
    let template = format!(
        r#"{{"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "languageVersion": "2.0", "variables": {{"x": "seen", "d": {}}}, "resources": {{"symbol":
            {{"type": "Microsoft.Logic/workflows", "name": "w", "properties": {{"definition": "[variables('d')]"}}}}}}}}"#,
        workflow("[variables('x')]")
    );
    assert_eq!(load(&template, None), ("w".to_owned(), Value::from("seen")));
}
