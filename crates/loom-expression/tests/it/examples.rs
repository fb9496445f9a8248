//! The examples of every function run and give what they say.

use loom_expression::{NoNames, Options, RecordedContext, Template, Value, functions};

#[test]
fn every_example_gives_what_it_says() {
    let mut wrong = Vec::new();
    for info in functions() {
        for example in info.examples {
            let context = match example.context {
                "" => Value::NULL,
                text => Value::from_json_str(text).unwrap(),
            };
            let context = RecordedContext::from_json(&context).unwrap();
            let got = match Template::compile_str(example.expression, &NoNames, &Options::default()) {
                Ok(template) => template
                    .evaluate(&context)
                    .map(|value| value.to_json_text())
                    .map_err(|error| error.to_string()),
                Err(errors) => Err(errors[0].to_string()),
            };
            let right = match &got {
                Ok(text) => text == example.result,
                Err(_) => example.result == "error",
            };
            if !right {
                wrong.push(format!("{}: {}: {got:?}, not {}", info.name, example.expression, example.result));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
