//! Which actions an expression may read, and the diagnostics for others.

use loom_definition::{Definition, Diagnostic, LoadOptions, Loaded, Severity, render};

fn load(text: &str, options: &LoadOptions) -> Result<Loaded, Vec<Diagnostic>> {
    Definition::parse(text.as_bytes(), options).map_err(|found| found.0)
}

fn with(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#)
}

/// The diagnostics about reads: the marked text, and message and hint.
fn off_path(actions: &str) -> Vec<(String, String)> {
    let text = with(actions);
    let found = load(&text, &LoadOptions::default()).map_or_else(|found| found, |loaded| loaded.warnings);
    let found = found.into_iter().filter(|found| found.code == "L0514");
    found
        .map(|found| {
            assert_eq!(found.severity, Severity::Error);
            (text[found.span].to_owned(), format!("{}; {}", found.message, found.hint.unwrap_or_default()))
        })
        .collect()
}

#[track_caller]
fn refused(actions: &str, marked: &str, says: &[&str]) {
    let found = off_path(actions);
    let [(place, words)] = &found[..] else { panic!("expected one diagnostic: {found:?}") };
    assert_eq!(place, marked);
    for part in says {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_read_outside_the_path_names_the_missing_dependency() {
    refused(
        r#"{"A": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": {"x": ["@outputs('A')"]}}}"#,
        "'A'",
        &["`B` reads `A`", r#"add "A": ["Succeeded"] to the `runAfter` of `B`"#],
    );
    // The dependency links the enclosing actions.
    refused(
        r#"{"S": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1}}},
            "T": {"type": "Scope", "actions": {"Out": {"type": "Compose", "inputs": "@outputs('In')"}}}}"#,
        "'In'",
        &["`Out` reads `In`", r#"add "S": ["Succeeded"] to the `runAfter` of `T`"#],
    );
    refused(
        r#"{"A": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": 2},
            "C": {"type": "Compose", "inputs": "@add(outputs('A'), outputs('B'))", "runAfter": {"A": ["Succeeded"]}}}"#,
        "'B'",
        &["`C` reads `B`"],
    );
}

#[test]
fn a_read_that_no_dependency_allows_says_where_it_belongs() {
    refused(r#"{"A": {"type": "Compose", "inputs": "@outputs('A')"}}"#, "'A'", &["its own result"]);
    refused(
        r#"{"A": {"type": "Compose", "inputs": "@outputs('B')"}, "B": {"type": "Compose", "inputs": 1, "runAfter": {"A": ["Succeeded"]}}}"#,
        "'B'",
        &["only runs after it"],
    );
    refused(
        r#"{"S": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": "@result('S')"}}}}"#,
        "'S'",
        &["is inside `S`"],
    );
    refused(
        r#"{"I": {"type": "If", "expression": "@true", "actions": {"T": {"type": "Compose", "inputs": 1}},
            "else": {"actions": {"E": {"type": "Compose", "inputs": "@outputs('T')"}}}}}"#,
        "'T'",
        &["another branch of `I`"],
    );
    refused(
        r#"{"L": {"type": "Foreach", "foreach": "@outputs('In')", "actions": {"In": {"type": "Compose", "inputs": 1}}}}"#,
        "'In'",
        &["which is inside it"],
    );
    refused(
        r#"{"A": {"type": "Compose", "inputs": 1, "trackedProperties": {"x": "@outputs('A')"}}}"#,
        "'A'",
        &["`action()`"],
    );
}

#[test]
fn actions_that_have_ended_may_be_read() {
    for actions in [
        // Through other actions, from inside blocks, and into blocks.
        r#"{"A": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1}}},
            "B": {"type": "Compose", "inputs": 1, "runAfter": {"A": ["Failed"]}},
            "C": {"type": "Scope", "runAfter": {"B": ["Skipped"]}, "actions": {
                "D": {"type": "Compose", "inputs": "@concat(outputs('In'), result('A'), outputs('B'))"}}}}"#,
        // The condition of a loop reads its body.
        r#"{"U": {"type": "Until", "expression": "@equals(outputs('In'), 1)", "actions": {"In": {"type": "Compose", "inputs": 1}}}}"#,
        // The unsubscribe request reads the response of the subscribe request.
        r#"{"H": {"type": "HttpWebhook", "inputs": {"subscribe": {"method": "POST", "uri": "http://s"},
            "unsubscribe": {"method": "DELETE", "uri": "@{body('H')?['link']}"}}}}"#,
        r#"{"S": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1}}, "trackedProperties": {"x": "@outputs('In')"}}}"#,
    ] {
        assert_eq!(off_path(actions), [], "{actions}");
    }
}

#[test]
fn outputs_of_the_workflow_read_every_action() {
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "S": {"type": "Scope", "actions": {"In": {"type": "Compose", "inputs": 1}}}},
        "outputs": {"x": {"type": "int", "value": "@outputs('In')"}}}"#;
    assert!(load(text, &LoadOptions::default()).is_ok());
}

#[test]
fn a_definition_that_was_accepted_before_still_loads() {
    let text = with(
        r#"{"A": {"type": "Compose", "inputs": 1}, "B": {"type": "Compose", "inputs": "@outputs('A')"},
            "C": {"type": "Compose", "inputs": "@items('A')"}, "D": {"type": "Compose", "inputs": "@outputs('None')"}}"#,
    );
    let codes = |found: Vec<Diagnostic>| found.iter().map(|found| found.code).collect::<Vec<_>>();
    let refused = load(&text, &LoadOptions::default()).unwrap_err();
    assert_eq!(codes(refused), ["L0514", "L0513", "L0510"]);
    let again = LoadOptions { accepted_before: true, ..LoadOptions::default() };
    assert_eq!(codes(load(&text, &again).unwrap().warnings), ["L0514", "L0513", "L0510"]);
}

#[test]
fn in_a_preview_schema_a_read_is_a_dependency() {
    let text = |schema: &str| {
        format!(
            r#"{{"$schema": "https://schema/{schema}/workflowdefinition.json#", "triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "C": {{"type": "Compose", "inputs": 1, "conditions": [{{"dependsOn": "B"}}, {{"expression": "@true"}}]}},
            "B": {{"type": "Compose", "inputs": "@outputs('A')"}},
            "A": {{"type": "Compose", "inputs": 1}}}}}}"#
        )
    };
    let loaded = load(&text("2015-08-01-preview"), &LoadOptions::default()).unwrap();
    let before = |name: &str| {
        let action = loaded.workflow.action(loaded.workflow.find_action(name).unwrap());
        let names = action.run_after.iter().map(|edge| &*loaded.workflow.action(edge.action).name);
        names.collect::<Vec<_>>()
    };
    assert_eq!((before("C"), before("B"), before("A")), (vec!["B"], vec!["A"], vec![]));
    // One for the schema, one for the condition that is ignored.
    assert_eq!(loaded.warnings.iter().filter(|found| found.code == "L0109").count(), 2);
    let now = load(&text("2016-06-01"), &LoadOptions::default()).unwrap_err();
    assert!(now.iter().any(|found| found.code == "L0514"), "{now:?}");
    // Such dependencies can form a cycle.
    let cycle = r#"{"$schema": "s/2015-08-01-preview/w", "triggers": {"manual": {"type": "Request"}}, "actions": {
        "A": {"type": "Compose", "inputs": "@outputs('B')"}, "B": {"type": "Compose", "inputs": "@outputs('A')"}}}"#;
    let found = load(cycle, &LoadOptions::default()).unwrap_err();
    assert!(found.iter().any(|found| found.code == "L0205"), "{found:?}");
}

#[test]
fn loops_record_what_is_read_after_them() {
    let loaded = load(
        &with(
            r#"{"L": {"type": "Foreach", "foreach": [1], "actions": {
                "In": {"type": "Compose", "inputs": 1},
                "Beside": {"type": "Compose", "inputs": "@outputs('In')", "runAfter": {"In": ["Succeeded"]}},
                "M": {"type": "Foreach", "foreach": [1], "actions": {"Deep": {"type": "Compose", "inputs": 1}}},
                "After_M": {"type": "Compose", "inputs": "@actions('Deep')", "runAfter": {"M": ["Succeeded"]}}}},
            "O": {"type": "Compose", "inputs": "@body('Beside')", "runAfter": {"L": ["Succeeded"]}}}"#,
        ),
        &LoadOptions::default(),
    );
    let workflow = loaded.unwrap().workflow;
    let gathered = |name: &str| {
        let gathered = &workflow.action(workflow.find_action(name).unwrap()).gathered;
        let named = gathered.iter().map(|found| (&*workflow.action(found.action).name, found.records));
        named.collect::<Vec<_>>()
    };
    assert_eq!(gathered("L"), [("Beside", false)]);
    assert_eq!(gathered("M"), [("Deep", true)]);
    assert_eq!(gathered("O"), []);
}

#[test]
fn a_diagnostic_shows_the_read_and_its_target() {
    let text = with(
        "{\n  \"A\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"B\": {\"type\": \"Compose\", \"inputs\": \"@outputs('A')\"}\n}",
    );
    let found = load(&text, &LoadOptions::default()).unwrap_err();
    let shown = render(&found[0], &text, "flow.json", false);
    assert!(
        shown.contains("flow.json:3:") && shown.contains("^^^") && shown.contains("the action that it reads"),
        "{shown}"
    );
}
