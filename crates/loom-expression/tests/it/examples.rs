//! The examples of every function give the documented results.

use std::collections::HashSet;

use loom_expression::{NoNames, Options, RecordedContext, Template, Value, functions, reference_page};

#[test]
fn every_example_gives_the_documented_result() {
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

#[test]
fn no_name_is_registered_twice() {
    let mut names = HashSet::new();
    for info in functions() {
        for name in std::iter::once(&info.name).chain(info.aliases) {
            assert!(names.insert(name.to_ascii_lowercase()), "{name} is registered twice");
        }
        assert!(
            !info.docs.is_empty() && info.signature.contains('→'),
            "{} has no description or signature",
            info.name
        );
    }
    println!("{} functions, {} names", functions().len(), names.len());
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/functions.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == reference_page(),
        "docs/functions.md is out of date: run cargo run -p loom-expression --example functions_page > docs/functions.md"
    );
}
