//! The conformance cases of workflows: those that must be rejected are, and all others load.

use loom_definition::{Definition, Diagnostics, LoadOptions};
use loom_expression::{Object, Value};

const CASES: &str = include_str!("../../../../conformance/workflows.json");

/// Loads a case's definition and binds its parameters, as a run would before anything starts.
fn accept(case: &Value) -> Result<(), Diagnostics> {
    let text = case.get("definition").expect("a case has a definition").to_json_text();
    let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default())?;
    let supplied = case.get("parameters").and_then(Value::as_object).cloned().unwrap_or_else(Object::new);
    loaded.workflow.bind_parameters(&supplied, &|_| None)?;
    Ok(())
}

#[test]
fn exactly_the_expected_cases_are_rejected() {
    let cases = Value::from_json_str(CASES).expect("the case file is JSON");
    let cases = cases.as_array().expect("the case file is an array");
    assert!(cases.len() >= 174);
    let mut wrong = Vec::new();
    let mut refused = 0;
    for case in cases {
        let id = case.get("id").and_then(Value::as_str).unwrap_or_default();
        let rejected = case.get("expected").and_then(|expected| expected.get("rejected")).is_some();
        refused += usize::from(rejected);
        match (accept(case), rejected) {
            (Ok(()), true) => wrong.push(format!("{id} was accepted")),
            (Err(diagnostics), false) => wrong.push(format!("{id} was rejected:\n{diagnostics}")),
            _ => {}
        }
    }
    assert!(refused >= 15, "only {refused} cases must be rejected");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
