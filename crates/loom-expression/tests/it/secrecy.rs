//! Every function passes on the labels of secrets, and no message or debug text reveals a secret.

use loom_expression::{Condition, Error, NoNames, Options, RecordedContext, Template, Value, functions};

fn context() -> RecordedContext {
    let data = r#"{
        "secrets": {"text": "hunter2", "number": 7, "list": ["hunter2", 2], "object": {"a": "hunter2"}, "flag": true},
        "parameters": {"plain": "open"}
    }"#;
    RecordedContext::from_json(&Value::from_json_str(data).unwrap()).unwrap()
}

fn evaluate(text: &str) -> Result<Value, Error> {
    Template::compile_str(text, &NoNames, &Options::default()).unwrap().evaluate(&context())
}

fn check(text: &str, secret: bool) {
    let value = evaluate(text).unwrap();
    assert_eq!(value.contains_secret(), secret, "{text}");
    if secret {
        assert!(!format!("{value:?}").contains("hunter2"), "{text}");
    }
}

#[test]
fn values_computed_from_a_secret_are_secret() {
    for text in [
        "@secret('text')",
        "Bearer @{secret('text')}",
        "@concat('Bearer ', secret('text'))",
        "@length(secret('text'))",
        "@equals(secret('text'), 'x')",
        "@base64(secret('text'))",
        "@secret('object').a",
        "@secret('object')?['missing']",
        "@secret('list')[0]",
        "@first(secret('list'))",
        "@split(secret('text'), 'n')",
        "@createArray('a', secret('text'))",
        "@setProperty(json('{}'), 'a', secret('text'))",
        "@json('{\"a\": [1, 2]}').a[sub(secret('number'), 6)]",
        "@if(secret('flag'), 1, 2)",
        "@and(secret('flag'), true)",
        "@coalesce(secret('text'), 'x')",
        "@join(createArray('a', secret('text')), ',')",
        "@sort(createArray(2, secret('number')))",
        "@union(createArray('a'), secret('list'))",
        "@intersection(createArray(2), secret('list'))",
        "@add(1, secret('number'))",
        "@range(secret('number'), 2)",
        "@formatNumber(secret('number'), 'N2')",
        "@createArray(secret('text'))[0]",
    ] {
        check(text, true);
    }
}

#[test]
fn values_without_secrets_are_not_labelled() {
    for text in [
        "@parameters('plain')",
        "@first(createArray('a', secret('text')))",
        "@createArray('a', secret('text'))[0]",
        "@setProperty(json('{}'), 'a', secret('text'))?['b']",
        "@if(true, 'a', secret('text'))",
        "@coalesce('a', secret('text'))",
    ] {
        check(text, false);
    }
}

#[test]
fn no_function_loses_a_label() {
    let mut tried = 0;
    for info in functions() {
        let arity = info.arity;
        for kind in ["text", "number", "list", "object", "flag"] {
            for count in arity.min.max(1)..=arity.max.unwrap_or(3).min(4) {
                let secrets = vec![format!("secret('{kind}')"); count];
                let text = format!("@{}({})", info.name, secrets.join(", "));
                let template = Template::compile_str(&text, &NoNames, &Options::default()).unwrap();
                match template.evaluate(&context()) {
                    Ok(value) => {
                        tried += 1;
                        // IDs and the context's own records are not secret; all other values here are.
                        assert!(value.contains_secret(), "{text} returned a value without a label");
                    }
                    Err(error) => assert!(!error.message.contains("hunter2"), "{text}: {error}"),
                }
            }
        }
    }
    assert!(tried > 50, "only {tried} calls returned a value");
}

#[test]
fn messages_do_not_reveal_secrets() {
    for text in [
        "@int(secret('text'))",
        "@json(secret('text'))",
        "@parameters(secret('text'))",
        "@secret('object')[secret('text')]",
        "@substring(secret('text'), 99)",
        "@parseDateTime(secret('text'))",
    ] {
        let error = evaluate(text).unwrap_err();
        assert!(!error.message.contains("hunter2"), "{text}: {error}");
    }
}

#[test]
fn a_condition_on_a_secret_is_secret() {
    let condition =
        Value::from_json_str(r#"{"and": [{"equals": ["@secret('text')", "x"]}, "@true"]}"#).unwrap();
    let condition = Condition::compile(&condition, &NoNames, &Options::default()).unwrap();
    assert!(condition.evaluate_value(&context()).unwrap().is_secret());
}

#[test]
fn an_object_with_a_secret_name_is_secret() {
    let value = Value::from_json_str(r#"{"a": {"@{secret('text')}": 1}}"#).unwrap();
    let value =
        Template::compile(&value, &NoNames, &Options::default()).unwrap().evaluate(&context()).unwrap();
    assert!(value.get("a").unwrap().is_secret());
    assert!(!format!("{value:?}").contains("hunter2"));
    let twice = Value::from_json_str(r#"{"hunter2": 1, "@{secret('text')}": 1}"#).unwrap();
    let error =
        Template::compile(&twice, &NoNames, &Options::default()).unwrap().evaluate(&context()).unwrap_err();
    assert!(!error.message.contains("hunter2"), "{error}");
}
