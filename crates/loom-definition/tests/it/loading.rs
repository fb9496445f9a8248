//! What loads in spite of problems, and limits of what is reported.

use loom_definition::{
    Definition, LoadOptions,
    Severity::{Error, Warning},
    model::ActionKind,
};
use loom_expression::{Object, RecordedContext, Value};

#[test]
fn invalid_expressions_can_fail_when_the_action_runs() {
    let text = r#"{"triggers": {"m": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": "@concat('q'"}, "B": {"type": "Compose", "inputs": 1}}}"#;
    let strict = LoadOptions { strict_expressions: true, ..LoadOptions::default() };
    let refused = Definition::parse(text.as_bytes(), &strict).expect_err("it is rejected");
    assert_eq!(
        refused.0.iter().map(|found| (found.code, found.severity)).collect::<Vec<_>>(),
        [("L0500", Error)]
    );
    let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("it loads");
    let found: Vec<_> = loaded.warnings.iter().map(|found| (found.code, found.severity)).collect();
    assert_eq!(found, [("L0500", Warning)]);
    let fails =
        |kind: &ActionKind| matches!(kind, ActionKind::Invalid { code, .. } if &**code == "InvalidTemplate");
    let kinds: Vec<bool> = loaded.workflow.actions.iter().map(|action| fails(&action.kind)).collect();
    assert_eq!(kinds, [true, false]);
}

#[test]
fn unresolved_template_expressions_are_plain_strings() {
    let text = r#"{"triggers": {"m": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": {"x/y": "[concat('@{f(''', variables('q'), ''')}')]", "z": "@equals(1, 1)"}}}}"#;
    let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect("it loads");
    assert_eq!(loaded.warnings.iter().map(|found| found.code).collect::<Vec<_>>(), ["L0106"]);
    let ActionKind::Compose { inputs } = &loaded.workflow.actions[0].kind else { panic!("not a Compose") };
    let context = RecordedContext::from_json(&Value::from(Object::new())).expect("an empty context");
    let value = inputs.evaluate(&context).expect("it evaluates");
    assert_eq!(value.to_json_text(), r#"{"x/y":"[concat('@{f(''', variables('q'), ''')}')]","z":true}"#);
}

#[test]
fn recurrence_intervals_are_at_most_five_hundred_days() {
    let loads = |frequency: &str, interval: u64| {
        let text = format!(
            r#"{{"triggers": {{"t": {{"type": "Recurrence", "recurrence": {{"frequency": "{frequency}", "interval": {interval}}}}}}}, "actions": {{}}}}"#
        );
        Definition::parse(text.as_bytes(), &LoadOptions::default()).is_ok()
    };
    for (frequency, most) in [("Second", 43_200_000), ("Minute", 720_000), ("Hour", 12_000), ("Day", 500)] {
        assert!(loads(frequency, most) && !loads(frequency, most + 1), "{frequency}");
    }
}

#[test]
fn types_that_only_a_handler_executes_are_known() {
    for name in ["ParseDocumentWithMetadata", "ChunkTextWithMetadata"] {
        let text = format!(
            r#"{{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {{"A": {{"type": "{name}", "inputs": {{}}}}}}}}"#
        );
        let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap();
        let unknown = loaded.warnings.iter().find(|warning| warning.message.contains("unknown type"));
        assert!(unknown.is_none(), "{name}");
    }
}

#[test]
fn the_number_of_suggestions_per_file_is_limited() {
    let actions: Vec<String> = (0..3_000)
        .map(|at| {
            format!(r#""Action_number_{at}": {{"type": "Compose", "inputs": "@outputs('Action_numbre_{at}')", "runAfter": {{}}}}"#)
        })
        .collect();
    let text =
        format!(r#"{{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {{{}}}}}"#, actions.join(","));
    let refused = Definition::parse(text.as_bytes(), &LoadOptions::default()).expect_err("it is rejected");
    assert_eq!(refused.0.iter().filter(|found| found.code == "L0510").count(), 3_000);
    let hints: Vec<&str> = refused.0.iter().filter_map(|found| found.hint.as_deref()).collect();
    assert_eq!(hints.len(), 100);
    assert!(hints[0].contains("`Action_number_"), "{}", hints[0]);
}
