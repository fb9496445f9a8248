//! Actions that accept untrusted data only with the approval of a person.

use std::time::Duration;

use loom_actions::{Connections, Sources};
use loom_expression::Value;
use loom_testkit::mock::Mock;

use crate::support::{Plan, Reply, World, json, list, on_disk, requested, text};

/// A model says where to pay.
const MODELS: &str =
    r#"{"models": {"m": {"api": "scripted", "replies": [{"when": {"any": ""}, "text": "DE99"}]}}}"#;

async fn bank() -> Mock {
    Mock::start(&json(r#"[{"path": "/*", "response": {"body": {"paid": true}}}]"#)).await.unwrap()
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&json(MODELS), &Sources::default()).unwrap();
    plan
}

/// Pays what a model says, and then again with the same data. `more` are further properties of the first payment.
fn payment(bank: &Mock, more: &str) -> String {
    let base = bank.base_url();
    let call = |path: &str| {
        format!(
            r#""inputs": {{"method": "POST", "uri": "{base}{path}", "headers": {{"Authorization": "Bearer @{{parameters('key')}}"}},
                "body": {{"to": "@body('Ask')", "pin": "@parameters('key')", "amount": 7}}}}"#
        )
    };
    format!(
        r#"{{"definition": {{"parameters": {{"key": {{"type": "securestring", "defaultValue": "hunter22-pin"}}}},
            "triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "Ask": {{"type": "AI", "inputs": {{"model": "m", "prompt": "where to?"}}}},
            "Pay": {{"type": "Http", "acceptsUntrusted": false{more}, "runAfter": {{"Ask": ["Succeeded"]}}, {}}},
            "Again": {{"type": "Http", "acceptsUntrusted": false, "approval": false, "runAfter": {{"Pay": ["Succeeded"]}}, {}}}}}}}}}"#,
        call("/pay"),
        call("/again")
    )
}

async fn asked(world: &World, run: &str) -> Value {
    loop {
        let answer = world.get(&format!("/api/v1/runs/{run}/questions")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if let [question] = list(&answer.json(), "questions") {
            return question.clone();
        }
        tokio::task::yield_now().await;
    }
}

async fn answer(world: &World, run: &str, body: &str) -> Reply {
    world.post(&format!("/api/v1/runs/{run}/answers"), body).await
}

async fn action(world: &World, run: &str, name: &str) -> Value {
    let shown = world.get(&format!("/api/v1/runs/{run}/actions/{name}")).await.json();
    list(&shown, "occurrences")[0].clone()
}

fn error(action: &Value) -> (String, String) {
    let of = |name: &str| action.get("error").and_then(|error| error.get(name)?.as_str()).unwrap_or_default();
    (of("code").to_owned(), of("message").to_owned())
}

fn requests(bank: &Mock, path: &str) -> usize {
    bank.requests().iter().filter(|request| request.path == path).count()
}

#[tokio::test]
async fn an_approved_action_is_executed_once_and_its_data_stays_untrusted() {
    let (bank, world) = (bank().await, World::start(plan()).await);
    world
        .deploy(
            "pay",
            &payment(&bank, r#", "approval": {"message": "Pay?", "to": "finance", "timeout": "P1D"}"#),
        )
        .await;
    let run = world.invoke("pay", "{}").await;
    let question = asked(&world, &run).await;
    assert_eq!(
        (text(&question, "id"), text(&question, "ask"), text(&question, "tool"), text(&question, "message")),
        ("Pay", "approval", "Pay", "Pay?")
    );
    assert_eq!((text(&question, "to"), text(&question, "default")), ("finance", "reject"));
    assert!(question.get("due").is_some());
    let shown = question.get("arguments").cloned().unwrap_or_default();
    assert_eq!(
        shown.get("body").and_then(|body| body.get("to")),
        Some(&"DE99".into()),
        "{}",
        shown.to_json_text()
    );
    assert!(!question.to_json_text().contains("hunter22"), "a secret is shown: {}", question.to_json_text());
    assert_eq!(requests(&bank, "/pay"), 0, "nothing is sent before the approval");
    let given = answer(&world, &run, r#"{"approved": true, "by": "Olga"}"#).await;
    assert_eq!(given.status, 202, "{}", given.text());
    world.ended(&run).await;
    assert_eq!(requests(&bank, "/pay"), 1);
    let entries = world.get(&format!("/api/v1/secret-audit?run={run}")).await.json();
    let approvals: Vec<_> = list(&entries, "entries")
        .iter()
        .filter(|entry| text(entry, "operation") == "approve")
        .map(|entry| (text(entry, "by"), text(entry, "action")))
        .collect();
    assert_eq!(approvals, [("Olga via api", "Pay")], "the audit says who");
    let twice = answer(&world, &run, r#"{"approved": true, "question": "Pay"}"#).await;
    assert_eq!((twice.status, twice.error().as_str()), (409, "QuestionAnswered"));
    // The approval was for that call alone.
    let (code, message) = error(&action(&world, &run, "Again").await);
    assert_eq!(code, "UntrustedInputs");
    assert!(message.contains("'inputs.body.to' comes from the language model in action 'Ask'"), "{message}");
    assert_eq!(requests(&bank, "/again"), 0);
}

#[tokio::test]
async fn a_rejected_action_sends_nothing_and_says_who_rejected_it() {
    let (bank, world) = (bank().await, World::start(plan()).await);
    world.deploy("pay", &payment(&bank, "")).await;
    let run = world.invoke("pay", "{}").await;
    asked(&world, &run).await;
    let wrong = answer(&world, &run, r#"{"message": "no"}"#).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "AnswerInvalid"));
    let given = answer(&world, &run, r#"{"approved": false, "reason": "wrong account", "by": "Olga"}"#).await;
    assert_eq!(given.status, 202);
    world.ended(&run).await;
    let (code, message) = error(&action(&world, &run, "Pay").await);
    assert_eq!(code, "ApprovalRejected");
    assert_eq!(message, "The call of action 'Pay' was rejected by Olga via api: wrong account");
    assert_eq!(bank.requests().len(), 0);
}

#[tokio::test]
async fn an_approval_of_data_that_nobody_gives_in_time_has_its_default() {
    let (bank, world) = (bank().await, World::start(plan()).await);
    for (default, calls, code) in [("", 0, "ApprovalTimedOut"), (r#", "default": "approve""#, 1, "")] {
        world.deploy("pay", &payment(&bank, &format!(r#", "approval": {{"timeout": 50{default}}}"#))).await;
        let run = world.invoke("pay", "{}").await;
        world.ended(&run).await;
        assert_eq!(error(&action(&world, &run, "Pay").await).0, code, "{default}");
        assert_eq!(requests(&bank, "/pay"), calls, "{default}");
    }
}

#[tokio::test]
async fn trusted_data_needs_no_approval_and_without_people_there_is_none() {
    let (bank, world) = (bank().await, World::start(plan()).await);
    world.deploy("pay", &payment(&bank, r#", "approval": false"#)).await;
    let run = world.invoke("pay", "{}").await;
    world.ended(&run).await;
    assert_eq!(error(&action(&world, &run, "Pay").await).0, "UntrustedInputs");
    let trusted = format!(
        r#"{{"Pay": {{"type": "Http", "acceptsUntrusted": false, "inputs": {{"method": "POST", "uri": "{}/pay", "body": "@triggerBody()"}}}}}}"#,
        bank.base_url()
    );
    world.deploy("trusted", &requested(&trusted)).await;
    let run = world.run("trusted", r#"{"to": "DE1"}"#).await;
    assert_eq!(text(&run, "status"), "Succeeded");
    assert_eq!(requests(&bank, "/pay"), 1);
}

#[tokio::test]
async fn an_approval_waits_in_the_store_and_survives_a_restart() {
    let (bank, directory) = (bank().await, tempfile::tempdir().unwrap());
    let mut first = plan();
    first.store = on_disk(directory.path());
    first.host.park_after = Some(Duration::ZERO);
    let world = World::start(first).await;
    world.deploy("pay", &payment(&bank, r#", "approval": {"timeout": "P1D"}"#)).await;
    let run = world.invoke("pay", "{}").await;
    let before = asked(&world, &run).await;
    world.stop().await;
    let mut second = plan();
    second.store = on_disk(directory.path());
    let world = World::start(second).await;
    let after = asked(&world, &run).await;
    assert_eq!(after, before, "the same question, with the same deadline");
    assert_eq!(answer(&world, &run, r#"{"approved": true}"#).await.status, 202);
    world.ended(&run).await;
    assert_eq!(requests(&bank, "/pay"), 1, "{:?}", bank.requests());
}
