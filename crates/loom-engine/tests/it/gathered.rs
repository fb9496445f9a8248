//! Reading the actions inside a Foreach after the loop, and the memory it takes.

use std::sync::Arc;

use loom_definition::{RunStatus, Status};
use loom_engine::{Command, Environment, Event, history::History, journal, simulate::Simulation};

use crate::support::{json, now, ok, play, play_with, start, workflow};

/// A loop whose iterations have a large and a small result, and an expression that reads them an hour later.
fn rounds(read: &str) -> String {
    format!(
        r#"{{"Each": {{"type": "Foreach", "foreach": "@range(0, 500)", "runAfter": {{}}, "actions": {{
            "Large": {{"type": "Compose", "inputs": "@concat(string(items('Each')), '{}')", "runAfter": {{}}}},
            "Small": {{"type": "Compose", "inputs": "@length(outputs('Large'))", "runAfter": {{"Large": ["Succeeded"]}}}}}}}},
        "Later": {{"type": "Wait", "inputs": {{"interval": {{"count": 1, "unit": "Hour"}}}}, "runAfter": {{"Each": ["Succeeded"]}}}},
        "Read": {{"type": "Compose", "inputs": "{read}", "runAfter": {{"Later": ["Succeeded"]}}}}}}"#,
        "x".repeat(2_000)
    )
}

/// The size of the state, in bytes, while the run waits.
fn held(read: &str) -> usize {
    let workflow = workflow(&rounds(read));
    let mut live = Simulation::new(workflow, Arc::new(Environment::default()), now());
    live.command(Command::Start(start(1)));
    journal::encode_snapshot(live.run().state()).len()
}

#[test]
fn only_results_that_are_referred_to_are_kept() {
    let nothing = held("nothing");
    let small = held("@outputs('Small')");
    let large = held("@outputs('Large')");
    assert!(nothing < 20_000, "{nothing} bytes");
    assert!(small < nothing + 20_000, "{small} bytes");
    assert!(large > 1_000_000, "{large} bytes: a result that is referred to is kept");
}

#[test]
fn collected_results_survive_a_crash_at_any_point() {
    let workflow = workflow(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 6)", "runAfter": {}, "runtimeConfiguration": {"concurrency": {"repetitions": 2}},
            "actions": {"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}}}},
        "Read": {"type": "Compose", "inputs": "@body('Ask')", "runAfter": {"Each": ["Succeeded"]}}}"#,
    );
    let answer = |_: &loom_engine::ports::Call| ok(r#"{"statusCode": 200, "body": "b"}"#);
    let environment = || Arc::new(Environment::default());
    let mut live = Simulation::new(Arc::clone(&workflow), environment(), now());
    live.command(Command::Start(start(7)));
    let mut cuts = vec![live.events().len()];
    while !live.run().state().status().is_final() {
        live.choose(live.choices()[0], answer);
        cuts.push(live.events().len());
    }
    let read = |events: &mut dyn Iterator<Item = &Event>| {
        let mut history = History::new(Arc::clone(&workflow));
        history.extend(events);
        history.occurrences(workflow.find_action("Read").unwrap())[0].outputs.clone()
    };
    let expected = Some(json(r#"["b", "b", "b", "b", "b", "b"]"#));
    assert_eq!(read(&mut live.events().iter()), expected);
    cuts.pop();
    assert!(cuts.len() > 5, "there are points to crash at");
    for cut in cuts {
        let before = &live.events()[..cut];
        let mut again = Simulation::resume(Arc::clone(&workflow), environment(), now(), before)
            .expect("the history is legal");
        assert_eq!(again.play_on(1_000, answer), Some(RunStatus::Succeeded), "after {cut} events");
        assert_eq!(read(&mut before.iter().chain(again.events())), expected, "after {cut} events");
    }
}

#[test]
fn a_case_of_another_type_fails_every_action_of_the_branches() {
    let played = play(
        r#"{"Sw": {"type": "Switch", "expression": "@add(2, 1)", "runAfter": {},
            "cases": {"c": {"case": "3", "actions": {"Hit": {"type": "Compose", "inputs": 1, "runAfter": {}},
                "Next": {"type": "Scope", "actions": {"Deep": {"type": "Compose", "inputs": 1, "runAfter": {}}}, "runAfter": {"Hit": ["Succeeded"]}}}}},
            "default": {"actions": {"Def": {"type": "Compose", "inputs": 2, "runAfter": {}}}}},
        "Handled": {"type": "Compose", "inputs": "@result('Sw')", "runAfter": {"Sw": ["Failed"]}}}"#,
    );
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    for name in ["Hit", "Next", "Def"] {
        assert_eq!(played.status_of(name), Some(Status::Failed), "{name}");
        assert_eq!(played.code(name), "InternalServerError");
        assert!(played.message(name).contains("of type 'Integer'"), "{}", played.message(name));
    }
    assert_eq!(played.status_of("Deep"), Some(Status::Skipped));
    let results = played.outputs("Handled");
    let codes =
        results.as_array().unwrap().iter().map(|record| record.get("error").unwrap().get("code").cloned());
    assert!(codes.eq([(); 3].map(|()| Some(loom_expression::Value::from("ActionConditionFailed")))));
}

#[test]
fn records_of_calls_have_no_credentials_and_no_error_besides_the_response() {
    let workflow = workflow(
        r#"{"Ask": {"type": "Http", "runAfter": {}, "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"},
            "authentication": {"Type": "Raw", "Value": "hidden"}}},
        "Read": {"type": "Compose", "inputs": "@actions('Ask')", "runAfter": {"Ask": ["Failed"]}}}"#,
    );
    let played = play_with(&workflow, |call| {
        let sent = call.inputs.get("authentication").and_then(|held| held.get("Value")).cloned();
        assert_eq!(sent, Some(loom_expression::Value::from("hidden")), "the call itself has them");
        crate::support::unavailable()
    });
    let record = played.outputs("Read");
    assert!(record.get("error").is_none(), "{record:?}");
    assert_eq!(record.get("code").and_then(|code| code.as_str()), Some("ServiceUnavailable"));
    let inputs = record.get("inputs").unwrap().to_json_text();
    assert!(
        inputs.contains(r#""Value":"*sanitized*""#) && inputs.contains(r#""retryPolicy":{"type":"None"}"#),
        "{inputs}"
    );
    // The history still has the error.
    assert_eq!(played.message("Ask"), "the service is not there");
}
