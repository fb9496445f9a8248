//! The execution of actions: order, independent branches, Terminate, timeouts.

use std::time::Duration;

use loom_definition::{RunStatus, Status};

use crate::support::{Service, engine, json, ok, play, play_with, run, unavailable, workflow};

#[test]
fn a_simple_workflow_completes() {
    let played = play(r#"{"A": {"type": "Compose", "inputs": {"x": 1}, "runAfter": {}}}"#);
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!(played.outputs("A"), json(r#"{"x": 1}"#));
    assert_eq!(played.code("A"), "OK");
}

#[test]
fn dependencies_run_in_order() {
    let played = play(
        r#"{"C": {"type": "Compose", "inputs": "@concat(outputs('B'), 'c')", "runAfter": {"B": ["Succeeded"]}},
            "A": {"type": "Compose", "inputs": "a", "runAfter": {}},
            "B": {"type": "Compose", "inputs": "@concat(outputs('A'), 'b')", "runAfter": {"A": ["Succeeded"]}}}"#,
    );
    assert_eq!(played.outputs("C"), json(r#""abc""#));
}

#[test]
fn actor_and_activity_actions_run() {
    let workflow = workflow(
        r#"{"Count": {"type": "Actor", "inputs": {"actorType": "counter", "actorId": "a", "method": "add", "args": [1]}, "runAfter": {}},
            "Work": {"type": "Activity", "inputs": {"activityName": "double", "input": 21}, "runAfter": {"Count": ["Succeeded"]}}}"#,
    );
    let mut called = Vec::new();
    let played = play_with(&workflow, |call| {
        called.push((call.definition().name.to_string(), call.inputs.to_json_text()));
        ok("42")
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!(called[1], ("Work".to_owned(), r#"{"activityName":"double","input":21}"#.to_owned()));
    assert_eq!(played.outputs("Work"), json("42"));
}

#[tokio::test(start_paused = true)]
async fn fifty_independent_actions_of_20_ms_end_in_under_40_ms() {
    let service = Service::new(|_, _| (Duration::from_millis(20), ok("{}")));
    let actions: Vec<String> = (0..50)
        .map(|index| format!(r#""A{index}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, "runAfter": {{}}}}"#))
        .collect();
    let workflow = workflow(&format!("{{{}}}", actions.join(",")));
    let engine = engine(&service).build();
    let began = tokio::time::Instant::now();
    let report = run(&engine, &workflow).await;
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(service.count(), 50);
    assert!(began.elapsed() < Duration::from_millis(40), "took {:?}", began.elapsed());
    engine.shut_down().await;
}

#[test]
fn terminate_ends_the_run_and_everything_in_it() {
    let workflow = workflow(
        r#"{"Slow": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}},
            "Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {}},
            "In": {"type": "Scope", "runAfter": {"Pause": ["Succeeded"]}, "actions": {
                "Stop": {"type": "Terminate", "inputs": {"runStatus": "Cancelled"}, "runAfter": {}},
                "Never": {"type": "Compose", "inputs": 1, "runAfter": {"Stop": ["Succeeded"]}}}},
            "After": {"type": "Compose", "inputs": 1, "runAfter": {"In": ["Succeeded", "Failed", "Skipped", "Cancelled"]}}}"#,
    );
    // The call never ends on its own: it is polled for ever.
    let played = play_with(&workflow, |_| loom_engine::event::EffectResult::Pending {
        outcome: loom_engine::Outcome::ok(None),
        after: Duration::from_hours(1),
        resume: json("1"),
    });
    assert_eq!(played.status, Some(RunStatus::Cancelled));
    assert_eq!(played.status_of("Stop"), Some(Status::Succeeded));
    assert_eq!(played.status_of("Slow"), Some(Status::Cancelled));
    assert_eq!(played.status_of("In"), Some(Status::Cancelled));
    assert_eq!(played.status_of("Never"), Some(Status::Skipped));
    assert_eq!(played.status_of("After"), Some(Status::Skipped));
}

#[test]
fn a_timeout_covers_every_retry_and_wait() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "limit": {"timeout": "PT30S"}, "runAfter": {},
                "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "fixed", "interval": "PT20S", "count": 4}}},
            "Late": {"type": "Compose", "inputs": 1, "runAfter": {"Call": ["TimedOut"]}}}"#,
    );
    let mut calls = 0;
    let played = play_with(&workflow, |_| {
        calls += 1;
        unavailable()
    });
    assert_eq!(calls, 2);
    assert_eq!(played.status_of("Call"), Some(Status::TimedOut));
    assert_eq!(played.code("Call"), "ActionTimedOut");
    assert_eq!(played.message("Call"), "Action 'Call' timed out after 30000ms");
    assert_eq!(played.status_of("Late"), Some(Status::Succeeded));
    assert_eq!(played.status, Some(RunStatus::Succeeded));
}

/// A call that is slow but does not fail: the timeout comes while it is in flight.
#[tokio::test(start_paused = true)]
async fn a_slow_action_times_out() {
    let service = Service::new(|_, _| (Duration::from_hours(1), ok("{}")));
    for limit in [r#""timeout": 1500"#, r#""timeout": "PT1.5S""#, r#""limit": {"timeout": "PT1.5S"}"#] {
        let workflow = workflow(&format!(
            r#"{{"Slow": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s"}}, {limit}, "runAfter": {{}}}},
                "Next": {{"type": "Terminate", "inputs": {{"runStatus": "Failed", "runError": {{"code": "Late", "message": "@actions('Slow')['error']['message']"}}}},
                    "runAfter": {{"Slow": ["TimedOut"]}}}}}}"#
        ));
        let engine = engine(&service).build();
        let began = tokio::time::Instant::now();
        let report = run(&engine, &workflow).await;
        assert_eq!(began.elapsed(), Duration::from_millis(1_500), "{limit}");
        let error = report.error.as_ref().expect("the run tells its error");
        assert_eq!(error.message, "Action 'Slow' timed out after 1500ms", "{limit}");
        engine.shut_down().await;
    }
    assert_eq!(service.count(), 3);
}

#[test]
fn a_scope_that_times_out_cancels_what_is_inside() {
    let played = play(
        r#"{"S": {"type": "Scope", "limit": {"timeout": "PT5S"}, "runAfter": {}, "actions": {
                "W": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}},
                "X": {"type": "Compose", "inputs": 1, "runAfter": {"W": ["Succeeded"]}}}},
            "Clean": {"type": "Compose", "inputs": "cleaned", "runAfter": {"S": ["Failed", "TimedOut"]}}}"#,
    );
    assert_eq!(played.status_of("S"), Some(Status::TimedOut));
    assert_eq!(played.status_of("W"), Some(Status::Cancelled));
    assert_eq!(played.status_of("X"), Some(Status::Skipped));
    assert_eq!(played.outputs("Clean"), json(r#""cleaned""#));
}

#[test]
fn a_scope_runs_its_actions() {
    let played = play(
        r#"{"S": {"type": "Scope", "runAfter": {}, "actions": {
                "One": {"type": "Compose", "inputs": 1, "runAfter": {}},
                "Two": {"type": "Compose", "inputs": "@add(outputs('One'), 1)", "runAfter": {"One": ["Succeeded"]}}}},
            "R": {"type": "Compose", "inputs": "@length(result('S'))", "runAfter": {"S": ["Succeeded"]}}}"#,
    );
    assert_eq!(played.outputs("R"), json("2"));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_maximum_duration() {
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let workflow = workflow(
        r#"{"Wait": {"type": "Wait", "inputs": {"interval": {"count": 30, "unit": "Day"}}, "runAfter": {}},
            "Next": {"type": "Compose", "inputs": 1, "runAfter": {"Wait": ["Succeeded"]}}}"#,
    );
    let environment = loom_engine::Environment {
        run_duration_max: Duration::from_hours(2),
        ..loom_engine::Environment::default()
    };
    let engine = engine(&service).environment(environment).build();
    let began = tokio::time::Instant::now();
    let report = run(&engine, &workflow).await;
    assert_eq!(report.status, RunStatus::TimedOut);
    assert_eq!(began.elapsed().as_secs(), 7_200);
    engine.shut_down().await;
}
