//! Agents, handoffs and Emit: what loads, and what is reported.

use loom_definition::{Definition, LoadOptions, Status, model::ActionKind};

fn text(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#)
}

/// Code, marked text and message of the first problem.
#[track_caller]
fn problem(actions: &str) -> (&'static str, String, String) {
    let text = text(actions);
    let all = match Definition::parse(text.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics.0,
    };
    let found = all.first().unwrap_or_else(|| panic!("no problem in {text}"));
    let words = format!("{} ({})", found.message, found.hint.clone().unwrap_or_default());
    (found.code, text[found.span.clone()].to_owned(), words)
}

fn agent(tools: &str, more: &str) -> String {
    format!(r#"{{"type": "Agent", "inputs": {{}}, "tools": {{{tools}}}{more}}}"#)
}

fn handoff(tool: &str, action: &str, to: &str) -> String {
    format!(
        r#""{tool}": {{"actions": {{"{action}": {{"type": "AgentHandoff", "inputs": {{"name": "{to}"}}}}}}}}"#
    )
}

#[test]
fn agents_that_handoffs_name_start_only_then() {
    let actions = format!(
        r#"{{"First": {}, "Second": {}, "Third": {}, "Other": {}}}"#,
        agent(&handoff("t", "h1", "second"), ""),
        agent(&format!("{}, {}", handoff("u", "h2", "Third"), handoff("v", "h3", "First")), ""),
        agent("", r#", "runAfter": {"First": ["HandedOff", "Succeeded"]}"#),
        agent("", ""),
    );
    let loaded = Definition::parse(text(&actions).as_bytes(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    let workflow = loaded.workflow;
    let waits = |name: &str| workflow.action(workflow.find_action(name).unwrap()).is_handed_to;
    // `Other` begins; `Third` follows another action, although it can be handed to.
    assert_eq!(["First", "Second", "Third", "Other"].map(waits), [true, true, false, false]);
    let third = workflow.action(workflow.find_action("Third").unwrap());
    assert!(third.run_after[0].statuses.contains(Status::HandedOff));
    let ActionKind::Agent { tools, .. } = &workflow.action(workflow.find_action("First").unwrap()).kind
    else {
        panic!("it is an agent");
    };
    assert_eq!(tools[0].handoff.as_deref(), Some("second"));

    let circle = format!(
        r#"{{"A": {}, "B": {}}}"#,
        agent(&handoff("t", "h1", "B"), ""),
        agent(&handoff("u", "h2", "A"), "")
    );
    let workflow = Definition::parse(text(&circle).as_bytes(), &LoadOptions::default()).unwrap().workflow;
    let waits = |name: &str| workflow.action(workflow.find_action(name).unwrap()).is_handed_to;
    assert_eq!(
        ["A", "B"].map(waits),
        [false, true],
        "the first of those that hand over to each other begins"
    );
}

#[test]
fn wrong_handoffs_are_reported() {
    let unknown =
        format!(r#"{{"A": {}, "Sales": {}}}"#, agent(&handoff("t", "h", "Sale"), ""), agent("", ""));
    let (code, marked, says) = problem(&unknown);
    assert_eq!((code, marked.as_str()), ("L0223", r#""t""#));
    assert_eq!(
        says,
        "`A` hands over to `Sale`, which is not another Agent beside it (did you mean `Sales`?)"
    );
    let alone = r#"{"H": {"type": "AgentHandoff", "inputs": {"name": "A"}}}"#;
    assert_eq!(problem(alone).2, "`H` must be the only action of a tool ()");
    let computed = format!(r#"{{"A": {}}}"#, agent(&handoff("t", "h", "@{triggerBody()}"), ""));
    assert!(problem(&computed).2.contains('A'), "{:?}", problem(&computed));
}

#[test]
fn an_emit_has_an_event_or_progress() {
    for inputs in [r#"{"data": 1}"#, r#"{"event": "a", "progress": {}}"#] {
        let (code, _, says) = problem(&format!(r#"{{"E": {{"type": "Emit", "inputs": {inputs}}}}}"#));
        assert_eq!(code, "L0222");
        assert!(says.starts_with("an Emit needs either `event` with `data`, or `progress`"), "{says}");
    }
    assert!(problem(r#"{"E": {"type": "Emit"}}"#).2.contains("inputs"));
    let good = r#"{"E": {"type": "Emit", "inputs": "@triggerBody()"}}"#;
    assert!(Definition::parse(text(good).as_bytes(), &LoadOptions::default()).is_ok());
}

#[test]
fn a_misspelled_type_of_a_model_action_has_a_suggestion() {
    let (code, _, says) = problem(r#"{"A": {"type": "AII", "inputs": {"prompt": "x"}}}"#);
    assert_eq!((code, says.ends_with("(did you mean `AI`?)")), ("L0203", true), "{says}");
}
