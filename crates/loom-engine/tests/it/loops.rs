//! The behavior of loops. Conditions in the Loom spelling see the index of the next iteration.

use std::{collections::HashSet, sync::Arc};

use loom_definition::{RunStatus, Status, model::ActionKind};
use loom_engine::{
    EffectId, Environment,
    event::{Command, Phase},
    history::History,
    simulate::{Choice, Simulation},
};
use loom_expression::Value;

use crate::support::{json, now, ok, play, play_with, start, unavailable, workflow};

/// A loop in the Loom spelling with one Compose inside.
fn looped(kind: &str, condition: &str, extra: &str) -> String {
    format!(
        r#"{{"L": {{"type": "{kind}", "runAfter": {{}}, "inputs": {{"condition": "{condition}"{extra},
            "actions": {{"Body": {{"type": "Compose", "inputs": "@{{variables('loopIndex')}}/@{{variables('loopCount')}}", "runAfter": {{}}}}}}}}}}}}"#
    )
}

fn check(kind: &str, condition: &str, extra: &str, status: &str, rounds: usize, met: bool) -> Value {
    let played = play(&looped(kind, condition, extra));
    let outputs = played.outputs("L");
    assert_eq!(outputs.get("status").and_then(Value::as_str), Some(status), "{outputs:?}");
    assert_eq!(outputs.get("iterations").and_then(Value::as_i64), Some(rounds as i64));
    assert_eq!(outputs.get("conditionMet").and_then(Value::as_bool), Some(met));
    assert_eq!(played.times("Body"), rounds);
    outputs
}

#[test]
fn until_loops_until_the_condition_is_true() {
    let outputs = check("Until", "@greaterOrEquals(variables('loopIndex'), 4)", "", "completed", 4, true);
    let results = outputs.get("results").and_then(|results| results.as_array().cloned()).unwrap();
    let texts: Vec<&str> = results.iter().filter_map(Value::as_str).collect();
    assert_eq!(texts, ["0/1", "1/2", "2/3", "3/4"]);
}

#[test]
fn until_ends_with_timeout_after_its_limit() {
    let extra = r#", "limit": {"timeout": "PT5S"}, "delay": {"interval": {"count": 2, "unit": "second"}}"#;
    check("Until", "false", extra, "timeout", 3, false);
}

#[test]
fn until_ends_with_max_iterations_at_the_count() {
    check("Until", "false", r#", "limit": {"count": 5}"#, "max-iterations", 5, false);
    check("Until", "false", "", "max-iterations", 60, false);
}

#[test]
fn while_runs_while_true() {
    check("While", "@less(variables('loopIndex'), 3)", "", "completed", 3, true);
    check("While", "false", "", "completed", 0, true);
}

#[test]
fn do_until_runs_at_least_once() {
    check("DoUntil", "true", "", "completed", 1, true);
}

#[test]
fn do_until_continues_until_met() {
    check("DoUntil", "@greaterOrEquals(variables('loopIndex'), 3)", "", "completed", 3, true);
}

#[test]
fn conditions_tolerate_an_inner_at_sign() {
    check("While", "@not(@greaterOrEquals(variables('loopIndex'), 2))", "", "completed", 2, true);
    check("Until", "@not(@less(@variables('loopIndex'), 4))", "", "completed", 4, true);
    check("Until", "@equals(@variables('loopIndex'), 2)", "", "completed", 2, true);
}

#[test]
fn nested_loops_have_separate_indexes() {
    let played = play(
        r#"{"Out": {"type": "Until", "runAfter": {}, "inputs": {"condition": "@equals(variables('loopIndex'), 2)", "actions": {
                "In": {"type": "Until", "runAfter": {}, "inputs": {"condition": "@equals(variables('loopIndex'), 3)", "actions": {
                    "Body": {"type": "Compose", "inputs": "@variables('loopIndex')", "runAfter": {}}}}}}}}}"#,
    );
    let indexes: Vec<i64> = played
        .history
        .occurrences(played.action("Body"))
        .iter()
        .filter_map(|occurrence| occurrence.outputs.as_ref()?.as_i64())
        .collect();
    assert_eq!(indexes, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn delays_are_between_iterations_and_not_after_the_last() {
    let extra = r#", "delay": {"interval": {"count": 10, "unit": "second"}}"#;
    let played = play(&looped("Until", "@equals(variables('loopIndex'), 3)", extra));
    let took = played.simulation.now().unix_millis() - crate::support::NOW_MS;
    assert_eq!(took, 20_000);
}

const RETRY: &str = r#"{"R": {"type": "Retry", "runAfter": {}, "inputs": {
    "action": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "none"}}}POLICY}}}"#;

#[test]
fn retry_succeeds_on_the_first_attempt() {
    let workflow = workflow(&RETRY.replace("POLICY", ""));
    let played = play_with(&workflow, |_| ok(r#"{"statusCode": 200}"#));
    let outputs = played.outputs("R");
    assert_eq!(outputs.get("status").and_then(Value::as_str), Some("success"));
    assert_eq!(outputs.get("attempts").and_then(Value::as_i64), Some(1));
    let status = outputs.get("result").and_then(|result| result.get("statusCode")).and_then(Value::as_i64);
    assert_eq!(status, Some(200));
}

#[test]
fn retry_backs_off_and_lists_its_attempts() {
    let workflow = workflow(&RETRY.replace("POLICY", ""));
    let mut calls = 0;
    let played = play_with(&workflow, |_| {
        calls += 1;
        if calls < 4 { unavailable() } else { ok(r#"{"statusCode": 200}"#) }
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    let outputs = played.outputs("R");
    assert_eq!(outputs.get("attempts").and_then(Value::as_i64), Some(4));
    let history = outputs.get("history").and_then(|history| history.as_array().cloned()).unwrap();
    assert_eq!(history.len(), 3);
    assert!(history.iter().all(|entry| entry.get("error").is_some() && entry.get("startTime").is_some()));
    // Exponential from one second with equal jitter: 0.5–1, 1–2, 2–4 seconds.
    let took = played.simulation.now().unix_millis() - crate::support::NOW_MS;
    assert!((3_500..=7_000).contains(&took), "took {took} ms");
}

#[test]
fn retry_gives_up_after_its_count() {
    let policy = r#", "retryPolicy": {"type": "fixed", "count": 2, "interval": "PT5S"}"#;
    let workflow = workflow(&RETRY.replace("POLICY", policy));
    let played = play_with(&workflow, |_| unavailable());
    assert_eq!(played.status, Some(RunStatus::Failed));
    let outputs = played.outputs("R");
    assert_eq!(outputs.get("status").and_then(Value::as_str), Some("failed"));
    assert_eq!(outputs.get("attempts").and_then(Value::as_i64), Some(3));
}

/// The waits of a `Retry` whose every attempt fails, in milliseconds.
fn waits_of_a_retry(policy: &str) -> Vec<i64> {
    let workflow = workflow(&RETRY.replace("POLICY", policy));
    let played = play_with(&workflow, |_| unavailable());
    assert_eq!(played.status, Some(RunStatus::Failed));
    let ActionKind::Retry { body, .. } = &workflow.action(played.action("R")).kind else {
        panic!("not a Retry action")
    };
    let calls = played.history.occurrences(workflow.block(*body).actions[0]);
    calls.windows(2).map(|pair| pair[1].started.unix_millis() - pair[0].started.unix_millis()).collect()
}

#[test]
fn retry_waits_longer_each_time_up_to_its_maximum_interval() {
    // Three retries by default, with waits from the upper half of 1, 2 and 4 seconds.
    let waits = waits_of_a_retry("");
    assert_eq!(waits.len(), 3);
    for (wait, bound) in waits.iter().zip([1_000, 2_000, 4_000]) {
        assert!((bound / 2..=bound).contains(wait), "{waits:?}");
    }
    let long = r#", "retryPolicy": {"type": "exponential", "count": 9, "interval": "PT10S", "minimumInterval": "PT8S", "maxInterval": "PT1M"}"#;
    let waits = waits_of_a_retry(long);
    assert_eq!(waits.len(), 9);
    assert!(waits.iter().all(|wait| (8_000..=60_000).contains(wait)), "{waits:?}");
    assert!(waits[3..].iter().any(|wait| *wait > 30_000), "{waits:?}");
    assert_eq!(
        waits_of_a_retry(r#", "retryPolicy": {"type": "fixed", "count": 2, "interval": "PT5S"}"#),
        [5_000, 5_000]
    );
    assert_eq!(waits_of_a_retry(r#", "retryPolicy": {"type": "none"}"#), [0i64; 0]);
}

#[test]
fn polling_until_complete() {
    let workflow = workflow(
        r#"{"Poll": {"type": "Until", "runAfter": {}, "expression": "@equals(body('Ask')?['state'], 'done')",
             "limit": {"count": 10, "timeout": "PT1H"}, "actions": {
               "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}},
               "Rest": {"type": "Wait", "inputs": {"interval": {"count": 30, "unit": "Second"}}, "runAfter": {"Ask": ["Succeeded"]}}}}}"#,
    );
    let mut calls = 0;
    let played = play_with(&workflow, |_| {
        calls += 1;
        ok(if calls < 3 { r#"{"body": {"state": "busy"}}"# } else { r#"{"body": {"state": "done"}}"# })
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!(calls, 3);
}

#[test]
fn a_queue_is_processed_until_it_is_empty() {
    let played = play(
        r#"{"Q": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "q", "type": "array", "value": [1, 2, 3]}]}, "runAfter": {}},
            "S": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "s", "type": "integer", "value": 0}]}, "runAfter": {"Q": ["Succeeded"]}},
            "Work": {"type": "Until", "expression": "@empty(variables('q'))", "runAfter": {"S": ["Succeeded"]}, "actions": {
                "Rest": {"type": "Compose", "inputs": "@skip(variables('q'), 1)", "runAfter": {}},
                "Add": {"type": "IncrementVariable", "inputs": {"name": "s", "value": "@first(variables('q'))"}, "runAfter": {"Rest": ["Succeeded"]}},
                "Shift": {"type": "SetVariable", "inputs": {"name": "q", "value": "@outputs('Rest')"}, "runAfter": {"Add": ["Succeeded"]}}}},
            "Sum": {"type": "Compose", "inputs": "@variables('s')", "runAfter": {"Work": ["Succeeded"]}}}"#,
    );
    assert_eq!(played.outputs("Sum").as_i64(), Some(6));
    assert_eq!(played.times("Add"), 3);
}

#[test]
fn a_foreach_over_100_000_items_keeps_only_its_open_rounds() {
    let played = play(
        r#"{"All": {"type": "Foreach", "foreach": "@range(0, 100000)", "runAfter": {},
             "actions": {"One": {"type": "Compose", "inputs": "@items('All')", "runAfter": {}}}}}"#,
    );
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!(played.times("One"), 100_000);
    // At most twenty iterations and the workflow's own block were open at the same time.
    assert!(played.simulation.run().state().openings_max() <= 21);
}

/// A request to unsubscribe may outlive its iteration, whose place the next iteration reuses.
#[test]
fn webhooks_in_iterations_are_unsubscribed_with_separate_keys() {
    let workflow = workflow(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 3)", "runAfter": {}, "operationOptions": "Sequential", "actions": {
            "Hook": {"type": "HttpWebhook", "runAfter": {}, "inputs": {
                "subscribe": {"method": "POST", "uri": "http://s/in"},
                "unsubscribe": {"method": "POST", "uri": "@{concat('http://s/out/', string(items('Each')))}"}}}}},
            "After": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {"Each": ["Succeeded"]}}}"#,
    );
    let mut live = Simulation::new(Arc::clone(&workflow), Arc::new(Environment::default()), now());
    live.command(Command::Start(start(5)));
    let mut unsubscribed = Vec::new();
    for _ in 0..3 {
        let calls = live.run().state().calls();
        let (effect, _) = calls.last().expect("each round subscribes");
        live.choose(Choice::Call(effect), |_| ok("{}"));
        live.command(Command::Callback { effect, payload: json(r#"{"body": "done"}"#) });
    }
    let ends: Vec<EffectId> = live.run().state().calls().map(|(effect, _)| effect).collect();
    for effect in ends {
        live.choose(Choice::Call(effect), |call| {
            assert_eq!(call.phase, Phase::Unsubscribe);
            let uri = call.inputs.get("uri").and_then(Value::as_str).unwrap_or_default();
            unsubscribed.push((uri.to_owned(), call.idempotency_key.to_string()));
            ok("{}")
        });
    }
    let uris: Vec<&str> = unsubscribed.iter().map(|(uri, _)| uri.as_str()).collect();
    assert_eq!(uris, ["http://s/out/0", "http://s/out/1", "http://s/out/2"]);
    let keys: HashSet<&String> = unsubscribed.iter().map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 3);
    let mut history = History::new(Arc::clone(&workflow));
    history.extend(live.events());
    let hooks = history.occurrences(workflow.find_action("Hook").unwrap());
    assert!(hooks.iter().all(|hook| hook.status == Some(Status::Succeeded) && hook.attempts.len() == 2));
    assert_eq!(hooks.len(), 3);
}
