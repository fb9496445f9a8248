//! Budgets: exceeding one is an error of the run, and the error names the budget.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use loom_definition::{RunStatus, Status};
use loom_engine::{Budgets, Environment, history::History, simulate::Simulation};
use loom_expression::Value;

use crate::support::{Played, Service, engine, now, ok, run, start, workflow};

fn played(budgets: Budgets, actions: &str) -> Played {
    let workflow = workflow(actions);
    let environment = Environment { budgets, ..Environment::default() };
    let mut simulation = Simulation::new(Arc::clone(&workflow), Arc::new(environment), now());
    let status = simulation.play(start(7), 100_000, |_| panic!("unexpected call"));
    let mut history = History::new(workflow);
    history.extend(simulation.events());
    Played { status, history, simulation }
}

/// The code and message of an action's error.
fn error(played: &Played, action: &str) -> (String, String) {
    let occurrences = played.history.occurrences(played.action(action));
    let error = occurrences.last().and_then(|last| last.error.clone()).expect("it failed");
    (error.code.to_string(), error.message.clone())
}

fn run_error(played: &Played) -> (String, String) {
    let error = played.simulation.run().state().error().expect("the run failed");
    (error.code.to_string(), error.message.clone())
}

const QUERY: &str = r#"{"Find": {"type": "Query", "runAfter": {},
    "inputs": {"from": "@range(1, 100000)", "where": "@contains(range(1, 100000), -1)"}}}"#;

#[test]
fn the_evaluation_of_one_action_is_limited() {
    let played = played(Budgets::default(), QUERY);
    assert_eq!(played.status, Some(RunStatus::Failed));
    let (code, message) = error(&played, "Find");
    assert_eq!(code, "EvaluationStepsExceeded");
    assert!(message.contains("20000000 steps") && message.contains("evaluation-steps-max"), "{message}");
}

#[test]
fn each_action_has_its_own_budget() {
    let budgets = Budgets { evaluation_steps_max: 150_000, ..Budgets::default() };
    let actions = r#"{
        "A": {"type": "Compose", "inputs": "@contains(range(1, 100000), -1)", "runAfter": {}},
        "B": {"type": "Compose", "inputs": "@contains(range(1, 100000), -1)", "runAfter": {"A": ["Succeeded"]}},
        "C": {"type": "Compose", "runAfter": {"B": ["Succeeded"]},
            "inputs": ["@contains(range(1, 100000), -1)", "@contains(range(1, 100000), -1)"]}}"#;
    let played = played(budgets, actions);
    let status = |name| played.status_of(name);
    assert_eq!(
        [status("A"), status("B"), status("C")],
        [Some(Status::Succeeded), Some(Status::Succeeded), Some(Status::Failed)]
    );
    assert_eq!(error(&played, "C").0, "EvaluationStepsExceeded");
}

/// A string that is doubled `times` times.
fn doubled(times: u32) -> String {
    format!(
        r#"{{"Init": {{"type": "InitializeVariable", "runAfter": {{}},
            "inputs": {{"variables": [{{"name": "t", "type": "string", "value": "0123456789abcdef"}}]}}}},
           "Again": {{"type": "Until", "runAfter": {{"Init": ["Succeeded"]}}, "expression": "@equals(1, 2)",
            "limit": {{"count": {times}}},
            "actions": {{"Double": {{"type": "AppendToStringVariable", "runAfter": {{}},
                "inputs": {{"name": "t", "value": "@variables('t')"}}}}}}}}}}"#
    )
}

#[test]
fn a_run_whose_values_grow_without_limit_is_ended() {
    let budgets = Budgets { run_bytes_max: 1 << 20, evaluation_steps_max: u64::MAX, ..Budgets::default() };
    let small = played(budgets, &doubled(14));
    assert_eq!(small.status, Some(RunStatus::Succeeded), "a quarter of a megabyte fits");
    let large = played(budgets, &doubled(60));
    assert_eq!(large.status, Some(RunStatus::Failed));
    let (code, message) = run_error(&large);
    assert_eq!(code, "RunBytesExceeded");
    assert!(message.contains("1048576 bytes") && message.contains("run-bytes-max"), "{message}");
}

#[test]
fn all_values_of_a_run_are_counted_together() {
    let budgets = Budgets { run_bytes_max: 1 << 20, ..Budgets::default() };
    let collect = |rounds: u32| {
        format!(
            r#"{{"Init": {{"type": "InitializeVariable", "runAfter": {{}},
                "inputs": {{"variables": [{{"name": "list", "type": "array", "value": []}}]}}}},
               "Again": {{"type": "Until", "runAfter": {{"Init": ["Succeeded"]}}, "expression": "@equals(1, 2)",
                "limit": {{"count": {rounds}}},
                "actions": {{"Add": {{"type": "AppendToArrayVariable", "runAfter": {{}}, "inputs": {{"name": "list",
                    "value": "@concat(iterationIndexes('Again'), join(range(1, 10000), ','))"}}}}}}}}}}"#
        )
    };
    assert_eq!(played(budgets, &collect(10)).status, Some(RunStatus::Succeeded));
    let many = played(budgets, &collect(60));
    assert_eq!(many.status, Some(RunStatus::Failed));
    let (code, message) = run_error(&many);
    assert_eq!(code, "RunBytesExceeded");
    assert!(message.contains("1048576 bytes") && message.contains("run-bytes-max"), "{message}");
    // Overwritten values do not count.
    let set = collect(60)
        .replace("AppendToArrayVariable", "SetVariable")
        .replace("\"array\", \"value\": []", "\"string\"");
    assert_eq!(played(budgets, &set).status, Some(RunStatus::Succeeded));
}

#[test]
fn values_shared_by_many_actions_count_once() {
    let budgets = Budgets { run_bytes_max: 1 << 20, ..Budgets::default() };
    let mut actions =
        r#""A0": {"type": "Compose", "runAfter": {}, "inputs": {"text": "@{join(range(1, 40000), ',')}"}}"#
            .to_owned();
    for at in 1..50 {
        let before = at - 1;
        let _ = write!(
            actions,
            r#", "A{at}": {{"type": "Compose", "runAfter": {{"A{before}": ["Succeeded"]}},
                "inputs": {{"wrapped": "@outputs('A0')", "at": {at}}}}}"#
        );
    }
    assert_eq!(played(budgets, &format!("{{{actions}}}")).status, Some(RunStatus::Succeeded));
    let copied = format!("{{{actions}}}").replace("\"@outputs('A0')\"", "\"@{outputs('A0')}\"");
    assert_eq!(run_error(&played(budgets, &copied)).0, "RunBytesExceeded");
}

#[test]
fn appending_an_array_to_itself_is_limited() {
    let actions = r#"{"Init": {"type": "InitializeVariable", "runAfter": {},
            "inputs": {"variables": [{"name": "a", "type": "array", "value": []}]}},
        "Again": {"type": "Until", "runAfter": {"Init": ["Succeeded"]}, "expression": "@equals(1, 2)",
            "limit": {"count": 300},
            "actions": {"Add": {"type": "AppendToArrayVariable", "runAfter": {},
                "inputs": {"name": "a", "value": "@variables('a')"}}}}}"#;
    let played = played(Budgets::default(), actions);
    let message = played.message("Add");
    // Each iteration doubles the size of its JSON text.
    assert!(message.contains("would take more than 268435456 bytes"), "{message}");
}

#[test]
fn the_number_of_parsed_values_is_limited() {
    let budgets = Budgets { json_values_max: 10, ..Budgets::default() };
    let parse = |text: &str| {
        format!(
            r#"{{"Parse": {{"type": "ParseJson", "runAfter": {{}}, "inputs": {{"content": "{text}", "schema": {{}}}}}},
            "Read": {{"type": "Compose", "runAfter": {{"Parse": ["Succeeded", "Failed"]}}, "inputs": "@json(coalesce(outputs('Parse')?['none'], '{text}'))"}}}}"#
        )
    };
    assert_eq!(played(budgets, &parse("[1,2,3,4,5,6,7,8,9]")).status, Some(RunStatus::Succeeded));
    let many = played(budgets, &parse("[1,2,3,4,5,6,7,8,9,0]"));
    let (code, message) = error(&many, "Parse");
    assert_eq!(code, "JsonValuesExceeded");
    assert!(message.contains("more than 10 values") && message.contains("json-values-max"), "{message}");
    assert!(many.message("Read").contains("json-values-max"), "{}", many.message("Read"));
}

#[test]
fn the_cost_of_a_schema_validation_is_limited() {
    let budgets = Budgets { schema_nodes_max: 10_000, ..Budgets::default() };
    let content = (0..40).fold("1".to_owned(), |inner, _| format!(r#"{{"a": {inner}}}"#));
    let each = r##"{"properties": {"a": {"$ref": "#"}}}"##;
    let actions = format!(
        r#"{{"Parse": {{"type": "ParseJson", "runAfter": {{}}, "inputs": {{"content": {content},
            "schema": {{"anyOf": [{each}, {each}]}}}}}}}}"#
    );
    let (code, message) = error(&played(budgets, &actions), "Parse");
    assert_eq!(code, "SchemaNodesExceeded");
    assert!(message.contains("10000 nodes") && message.contains("schema-nodes-max"), "{message}");
}

/// The response of a workflow that calls itself and responds with `body`.
async fn chain(child_depth_max: u8, body: &str) -> Value {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let budgets = Budgets { child_depth_max, ..Budgets::default() };
    let engine = engine(&service).environment(Environment { budgets, ..Environment::default() }).build();
    let name = workflow("{}").name.to_string();
    let workflow = workflow(&format!(
        r#"{{"Call": {{"type": "Workflow", "runAfter": {{}}, "inputs": {{"host": {{"workflow": {{"id": "{name}"}}}}}}}},
            "Response": {{"type": "Response", "kind": "Http", "runAfter": {{"Call": ["Succeeded", "Failed"]}},
                "inputs": {{"statusCode": 200, "body": "{body}"}}}}}}"#
    ));
    engine.deploy(Arc::clone(&workflow), Vec::new());
    let report = run(&engine, &workflow).await;
    report.response.as_ref().and_then(|response| response.get("body").cloned()).expect("it answers")
}

#[tokio::test(start_paused = true)]
async fn the_recursion_of_a_workflow_that_calls_itself_is_limited() {
    let count = "@add(1, coalesce(body('Call'), 0))";
    assert_eq!(chain(Budgets::default().child_depth_max, count).await, Value::from(33));
    assert_eq!(chain(3, count).await, Value::from(4));
    let said = chain(0, "@{actions('Call')?['error']}").await;
    let said = said.as_str().unwrap();
    assert!(said.contains("ChildDepthExceeded") && said.contains("child-depth-max"), "{said}");
}
