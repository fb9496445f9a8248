//! The behaviours that the conformance page lists for validation, by name.

use loom_definition::{Definition, Diagnostics, LoadOptions, Severity};

fn load(triggers: &str, actions: &str) -> Result<Vec<loom_definition::Diagnostic>, Diagnostics> {
    let text = format!(r#"{{"triggers": {triggers}, "actions": {actions}}}"#);
    Definition::parse(text.as_bytes(), &LoadOptions::default()).map(|loaded| loaded.warnings)
}

const MANUAL: &str = r#"{"manual": {"type": "manual"}}"#;

#[test]
fn a_definition_with_a_trigger_and_actions_is_valid() {
    assert_eq!(load(MANUAL, r#"{"a": {"type": "Compose", "inputs": 1}}"#), Ok(Vec::new()));
}

#[test]
fn without_triggers_there_is_a_warning() {
    let warnings = load("{}", r#"{"a": {"type": "Compose", "inputs": 1}}"#).expect("it loads");
    assert!(warnings.iter().any(|found| found.message.contains("at least one trigger")));
    assert!(warnings.iter().all(|found| found.severity == Severity::Warning));
}

#[test]
fn without_actions_there_is_a_warning() {
    let warnings = load(MANUAL, "{}").expect("it loads");
    assert!(warnings.iter().any(|found| found.message.contains("at least one action")));
}

#[test]
fn an_unknown_dependency_names_the_action() {
    let actions = r#"{"step2": {"type": "Compose", "inputs": 1, "runAfter": {"step1": ["Succeeded"]}}}"#;
    let errors = load(MANUAL, actions).expect_err("it is rejected");
    assert!(errors.to_string().contains("Unknown dependency: step1"));
    assert!(errors.to_string().contains("`step2`"));
}

#[test]
fn a_cycle_is_a_circular_dependency() {
    let actions = r#"{
        "a": {"type": "Compose", "inputs": 1, "runAfter": {"c": ["Succeeded"]}},
        "b": {"type": "Compose", "inputs": 1, "runAfter": {"a": ["Succeeded"]}},
        "c": {"type": "Compose", "inputs": 1, "runAfter": {"b": ["Succeeded"]}},
        "d": {"type": "Compose", "inputs": 1, "runAfter": {"c": ["Succeeded"]}}
    }"#;
    let errors = load(MANUAL, actions).expect_err("it is rejected");
    let cycles: Vec<_> =
        errors.0.iter().filter(|found| found.message.contains("Circular dependency")).collect();
    assert_eq!(cycles.len(), 1);
    assert_eq!(cycles[0].related.len(), 2);
    // An action that waits for itself is the smallest cycle.
    let own = r#"{"a": {"type": "Compose", "inputs": 1, "runAfter": {"a": ["Succeeded"]}}}"#;
    assert!(load(MANUAL, own).expect_err("it is rejected").to_string().contains("Circular dependency"));
}

#[test]
fn a_complex_graph_is_valid() {
    let compose = |name: &str, after: &[&str]| {
        let after: Vec<String> = after.iter().map(|name| format!("\"{name}\": [\"Succeeded\"]")).collect();
        format!(
            "\"{name}\": {{\"type\": \"Compose\", \"inputs\": 1, \"runAfter\": {{{}}}}}",
            after.join(", ")
        )
    };
    let actions = [
        compose("root1", &[]),
        compose("root2", &[]),
        compose("left", &["root1"]),
        compose("right", &["root1", "root2"]),
        compose("join", &["LEFT", "right"]),
    ];
    let text = format!(r#"{{"triggers": {MANUAL}, "actions": {{{}}}}}"#, actions.join(", "));
    let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("it is valid");
    let root = loaded.workflow.block(loom_definition::Workflow::ROOT);
    assert_eq!((root.actions.len(), root.roots.len(), root.leaves.len()), (5, 2, 1));
    let join = loaded.workflow.find_action("JOIN").expect("the action exists");
    assert_eq!(loaded.workflow.action(join).run_after.len(), 2);
}
