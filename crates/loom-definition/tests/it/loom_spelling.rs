//! Both spellings lower to the same model.

use std::{sync::Arc, time::Duration};

use loom_definition::{
    Definition, LoadOptions, Workflow,
    duration::Span,
    model::{ActionKind, BlockRole, LoopStyle, Setting},
    policy::{OnUncertain, RetrySetting, Schedule},
    trigger::RecurrenceRule,
};

fn load(actions: &str) -> Arc<Workflow> {
    let text = format!(r#"{{"triggers": {{"manual": {{"type": "manual"}}}}, "actions": {actions}}}"#);
    match Definition::parse(text.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => {
            assert_eq!(loaded.warnings, [], "{text}");
            loaded.workflow
        }
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

fn kind<'a>(workflow: &'a Workflow, name: &str) -> &'a ActionKind {
    &workflow.action(workflow.find_action(name).expect("the action exists")).kind
}

#[test]
fn children_may_be_in_inputs() {
    for text in [
        r#"{"S": {"type": "Scope", "actions": {"A": {"type": "Compose", "inputs": 1}}}}"#,
        r#"{"S": {"type": "Scope", "inputs": {"actions": {"A": {"type": "Compose", "inputs": 1}}}}}"#,
    ] {
        let workflow = load(text);
        let ActionKind::Scope { body } = kind(&workflow, "S") else { panic!("not a scope") };
        assert_eq!(workflow.block(*body).actions.len(), 1);
        assert_eq!((workflow.block(*body).role, workflow.block(*body).depth), (BlockRole::Body, 1));
    }
    let workflow = load(
        r#"{"I": {"type": "If", "inputs": {"condition": "@equals(1, 1)", "actions": {"A": {"type": "Compose", "inputs": 1}}, "else": {"B": {"type": "Compose", "inputs": 1}}}}}"#,
    );
    let ActionKind::If { then, otherwise, .. } = kind(&workflow, "I") else { panic!("not an If") };
    assert_eq!((workflow.block(*then).actions.len(), workflow.block(*otherwise).actions.len()), (1, 1));
}

#[test]
fn an_if_without_else_has_an_empty_block() {
    let workflow = load(r#"{"I": {"type": "If", "expression": "@equals(1, 1)", "actions": {}}}"#);
    let ActionKind::If { otherwise, .. } = kind(&workflow, "I") else { panic!("not an If") };
    assert!(workflow.block(*otherwise).actions.is_empty());
}

#[test]
fn loops_of_the_loom_spelling() {
    let workflow = load(
        r#"{"W": {"type": "While", "inputs": {"condition": "@not(@less(variables('loopIndex'), 3))", "actions": {}, "limit": {"count": 7, "timeout": 1500}, "delay": {"interval": {"count": 2, "unit": "minute"}}}}}"#,
    );
    let ActionKind::Loop(looping) = kind(&workflow, "W") else { panic!("not a loop") };
    assert_eq!((looping.style, looping.loom_spelling), (LoopStyle::While, true));
    assert!(matches!(looping.count, Setting::Fixed(7)));
    assert!(
        matches!(looping.timeout, Setting::Fixed(span) if span == Span::exact(Duration::from_millis(1_500)))
    );
    assert!(
        matches!(looping.delay, Some(Setting::Fixed(span)) if span == Span::exact(Duration::from_mins(2)))
    );
    let workflow = load(
        r#"{"U": {"type": "Until", "inputs": {"condition": "true", "actions": {}}}, "D": {"type": "DoUntil", "inputs": {"condition": "false", "actions": {}}}}"#,
    );
    for (name, style) in [("U", LoopStyle::Until), ("D", LoopStyle::DoUntil)] {
        let ActionKind::Loop(looping) = kind(&workflow, name) else { panic!("not a loop") };
        assert_eq!((looping.style, looping.loom_spelling), (style, true));
        assert!(matches!(looping.count, Setting::Fixed(60)));
        assert!(
            matches!(looping.timeout, Setting::Fixed(span) if span == Span::exact(Duration::from_hours(1)))
        );
    }
}

#[test]
fn a_wdl_until_stays_wdl() {
    let workflow = load(r#"{"U": {"type": "until", "expression": "@equals(1, 1)", "actions": {}}}"#);
    let ActionKind::Loop(looping) = kind(&workflow, "U") else { panic!("not a loop") };
    assert_eq!((looping.style, looping.loom_spelling), (LoopStyle::Until, false));
}

#[test]
fn foreach_takes_items_and_nested_loops_are_sequential() {
    let workflow = load(
        r#"{"L": {"type": "Foreach", "inputs": {"items": [1], "actions": {"S": {"type": "Scope", "actions": {"M": {"type": "foreach", "foreach": [], "actions": {}}}}}}}}"#,
    );
    for (name, expected) in [("L", 20), ("M", 1)] {
        let ActionKind::Foreach { concurrency, .. } = kind(&workflow, name) else { panic!("not a Foreach") };
        assert!(matches!(concurrency, Setting::Fixed(found) if *found == expected), "{name}");
    }
}

#[test]
fn parallel_and_retry_have_their_blocks() {
    let workflow = load(
        r#"{"P": {"type": "Parallel", "inputs": {"branches": [{"actions": {"A": {"type": "Compose", "inputs": 1}}}, {"B": {"type": "Compose", "inputs": 2}}]}},
            "R": {"type": "Retry", "inputs": {"action": {"type": "Compose", "inputs": 1}, "retryPolicy": {"type": "fixed", "count": 3, "interval": "PT1S"}}}}"#,
    );
    let ActionKind::Parallel { branches } = kind(&workflow, "P") else { panic!("not Parallel") };
    assert_eq!(
        branches.iter().map(|branch| workflow.block(*branch).actions.len()).collect::<Vec<_>>(),
        [1, 1]
    );
    let ActionKind::Retry { body, policy } = kind(&workflow, "R") else { panic!("not Retry") };
    assert_eq!(workflow.block(*body).actions.len(), 1);
    let RetrySetting::Fixed(policy) = policy else { panic!("not fixed") };
    assert_eq!((policy.max_attempts, &policy.schedule), (4, &Schedule::Fixed(Duration::from_secs(1))));
}

#[test]
fn any_action_may_have_policies_and_none_are_stored_without() {
    let workflow = load(
        r#"{"A": {"type": "Compose", "inputs": 1, "timeout": 500, "retryPolicy": {"maxAttempts": 4}, "circuitBreaker": {"name": "svc"}, "rateLimit": {"requests": 5}, "bulkhead": {"maxConcurrent": 1}, "onUncertain": "fail"},
            "B": {"type": "Compose", "inputs": 1},
            "H": {"type": "Http", "inputs": {"method": "GET", "url": "http://x"}}}"#,
    );
    let action = |name: &str| workflow.action(workflow.find_action(name).expect("the action exists"));
    let all = action("A").resilience.as_deref().expect("it has policies");
    assert_eq!(all.breaker.as_ref().and_then(|spec| spec.name.as_deref()), Some("svc"));
    assert_eq!(all.on_uncertain, OnUncertain::Fail);
    assert!(
        matches!(action("A").timeout, Some(Setting::Fixed(span)) if span == Span::exact(Duration::from_millis(500)))
    );
    assert!(action("B").resilience.is_none());
    // Requests are retried by default, so they always have a policy.
    assert!(matches!(
        action("H").resilience.as_deref().map(|found| &found.retry),
        Some(RetrySetting::Default)
    ));
}

#[test]
fn retry_policies_are_removed_from_inputs_and_url_becomes_uri() {
    let workflow = load(
        r#"{"H": {"type": "Http", "inputs": {"method": "GET", "url": "http://x", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT5S"}}}}"#,
    );
    let ActionKind::Effect { inputs, .. } = kind(&workflow, "H") else { panic!("not an effect") };
    assert_eq!(inputs.source_value().to_json_text(), r#"{"method":"GET","uri":"http://x"}"#);
    let resilience = workflow.actions[0].resilience.as_deref().expect("it retries");
    assert!(matches!(&resilience.retry, RetrySetting::Fixed(policy) if policy.max_attempts == 2));
}

#[test]
fn results_are_wanted_only_where_an_expression_reads_them() {
    let scopes = |inputs: &str| {
        load(&format!(
            r#"{{"S": {{"type": "Scope", "actions": {{}}}}, "T": {{"type": "Scope", "actions": {{}}}}, "R": {{"type": "Compose", "inputs": "{inputs}", "runAfter": {{"S": ["Succeeded"]}}}}}}"#
        ))
    };
    let wanted =
        |workflow: &Workflow| workflow.actions.iter().map(|action| action.result_wanted).collect::<Vec<_>>();
    assert_eq!(wanted(&scopes("@equals(1, 1)")), [false, false, false]);
    assert_eq!(wanted(&scopes("@result('s')")), [true, false, false]);
    assert_eq!(wanted(&scopes("@result(outputs('S'))")), [true, true, true]);
}

#[test]
fn a_schedule_may_be_a_cron_expression() {
    let recurrence = |trigger: &str| {
        let text = format!(r#"{{"triggers": {{"t": {trigger}}}, "actions": {{}}}}"#);
        let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default());
        let loaded = loaded.unwrap_or_else(|diagnostics| panic!("{text}: {diagnostics}"));
        let trigger = loaded.workflow.find_trigger("t").unwrap();
        match trigger.recurrence.as_ref().expect("it has a recurrence") {
            Setting::Fixed(recurrence) => Some(recurrence.clone()),
            Setting::Computed(_) => None,
        }
    };
    let cron = |text: &str| loom_definition::trigger::Cron::parse(text).unwrap();
    for (trigger, expected) in [
        (r#"{"type": "schedule", "inputs": {"cron": "0 9 * * MON-FRI"}}"#, "0 9 * * 1-5"),
        (r#"{"type": "schedule", "inputs": {"expression": "*/5 * * * *"}}"#, "*/5 * * * *"),
        (r#"{"type": "schedule", "inputs": {"schedule": "@daily"}}"#, "0 0 * * *"),
        (r#"{"type": "schedule", "inputs": {"recurrence": {"cron": "0 0 1 * *"}}}"#, "@monthly"),
        (r#"{"type": "Recurrence", "recurrence": {"cron": "0 0 1 * *", "timeZone": "UTC"}}"#, "@monthly"),
    ] {
        let found = recurrence(trigger).expect("it is fixed");
        let RecurrenceRule::Cron(found) = found.rule else { panic!("{trigger}: no cron expression") };
        assert_eq!(found, cron(expected), "{trigger}");
    }
    let zone =
        recurrence(r#"{"type": "schedule", "inputs": {"cron": "@daily", "timeZone": "UTC", "count": 3}}"#);
    assert!(zone.is_some_and(|found| found.time_zone.as_deref() == Some("UTC") && found.count == Some(3)));
    let computed = r#"{"type": "schedule", "inputs": {"cron": "@concat('0 9 * * ', '*')"}}"#;
    assert!(recurrence(computed).is_none());
}
