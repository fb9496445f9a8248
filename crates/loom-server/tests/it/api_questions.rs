//! Questions to people over HTTP: approvals of tools, replies in chats, deadlines, who answered, and what waiting costs.

use std::time::Duration;

use loom_actions::{Connections, Sources};
use loom_expression::Value;

use crate::support::{Plan, Reply, World, json, list, requested, text};

/// An agent asks for a refund, and says what came of it.
const MODELS: &str = r#"{"models": {"m": {"api": "scripted", "replies": [
    {"when": {"last": "refund 7"}, "text": "I refund.", "toolCalls": [{"name": "refund", "arguments": {"amount": 7}}]},
    {"when": {"last": "not approved"}, "text": "There is no refund."},
    {"when": {"last": "refunded"}, "text": "Done."},
    {"when": {"system": "You are Writer"}, "text": "A draft."}]}}}"#;

async fn world(park_after: Option<Duration>) -> World {
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&json(MODELS), &Sources::default()).unwrap();
    plan.host.park_after = park_after;
    World::start(plan).await
}

fn agent(approval: &str) -> String {
    requested(
        &r#"{"Ask": {"type": "Agent", "inputs": {"parameters": {"modelId": "m", "messages": [{"role": "User", "content": "Please refund 7"}]}},
            "tools": {"refund": {"description": "refunds", "approval": APPROVAL,
                "actions": {"Pay": {"type": "Compose", "inputs": "@concat('refunded ', string(agentParameters('amount')))"}}}}}}"#
            .replace("APPROVAL", approval),
    )
}

/// A chat that asks its owner first.
fn chat(human: &str) -> String {
    requested(
        &r#"{"Chat": {"type": "GroupChat", "limit": {"rounds": 2}, "inputs": {"initialMessage": "Shall we?", "participants": {
            "Owner": {"human": HUMAN}, "Writer": {"agent": {"modelId": "m", "messages": []}}}}},
            "After": {"type": "Compose", "inputs": 1, "runAfter": {"Chat": ["Succeeded", "Failed"]}}}"#
            .replace("HUMAN", human),
    )
}

/// The questions of a run, once it asks.
async fn asked(world: &World, run: &str) -> Vec<Value> {
    loop {
        let answer = world.get(&format!("/api/v1/runs/{run}/questions")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let questions = list(&answer.json(), "questions").to_vec();
        if !questions.is_empty() {
            return questions;
        }
        tokio::task::yield_now().await;
    }
}

async fn answer(world: &World, run: &str, body: &str) -> Reply {
    world.post(&format!("/api/v1/runs/{run}/answers"), body).await
}

async fn outputs(world: &World, run: &str, action: &str) -> Value {
    world.ended(run).await;
    let shown = world.get(&format!("/api/v1/runs/{run}/actions/{action}")).await.json();
    list(&shown, "occurrences")[0].get("outputs").cloned().unwrap_or_default()
}

async fn audited(world: &World, run: &str) -> Vec<(String, String, String)> {
    let entries = world.get(&format!("/api/v1/secret-audit?run={run}")).await.json();
    let entry = |entry: &Value| {
        let part = |name: &str| text(entry, name).to_owned();
        (part("operation"), part("by"), part("action"))
    };
    list(&entries, "entries").iter().map(entry).collect()
}

#[tokio::test]
async fn a_tool_waits_for_its_approval_and_the_audit_says_who_gave_it() {
    let world = world(None).await;
    world.deploy("refunds", &agent(r#"{"message": "Refund?", "to": "finance", "timeout": "P1D"}"#)).await;
    let run = world.invoke("refunds", "").await;
    let questions = asked(&world, &run).await;
    let question = &questions[0];
    assert_eq!(
        (text(question, "ask"), text(question, "tool"), text(question, "to")),
        ("approval", "refund", "finance")
    );
    assert_eq!(question.get("arguments"), Some(&json(r#"{"amount": 7}"#)));
    assert!(question.get("due").is_some());
    let id = text(question, "id").to_owned();
    assert_eq!(id, "Ask.refund.approval/0");
    // What does not fit is refused, and changes nothing.
    for (body, status, code) in [
        (r#"{"message": "yes"}"#, 400, "AnswerInvalid"),
        (r#"{"approved": "yes"}"#, 400, "BadRequest"),
        (r#"{"approved": true, "message": "x"}"#, 400, "BadRequest"),
        (r#"{"approved": true, "question": "Ask.refund.approval/1"}"#, 404, "QuestionNotFound"),
        (r#"{"approved": true, "who": "me"}"#, 400, "BadRequest"),
        (r#"{"approved": true, "by": ""}"#, 400, "BadRequest"),
    ] {
        let refused = answer(&world, &run, body).await;
        assert_eq!((refused.status, refused.error().as_str()), (status, code), "{body}: {}", refused.text());
    }
    // A signal is not accepted as an answer.
    let forged = world
        .post(
            &format!("/api/v1/runs/{run}/signals/%01answer:{}", id.replace('/', "%2F")),
            r#"{"approved": true}"#,
        )
        .await;
    assert_eq!(forged.status, 400, "{}", forged.text());
    let given =
        answer(&world, &run, &format!(r#"{{"approved": true, "question": "{id}", "by": "Olga"}}"#)).await;
    assert_eq!((given.status, text(&given.json(), "by")), (202, "Olga via api"), "{}", given.text());
    assert_eq!(outputs(&world, &run, "Ask").await.get("lastAssistantMessage"), Some(&"Done.".into()));
    assert_eq!(audited(&world, &run).await, [("approve".to_owned(), "Olga via api".to_owned(), id.clone())]);
    let late = answer(&world, &run, r#"{"approved": false}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "RunEnded"));
    let again = answer(&world, &run, &format!(r#"{{"approved": false, "question": "{id}"}}"#)).await;
    assert_eq!((again.status, again.error().as_str()), (409, "QuestionAnswered"));
}

#[tokio::test]
async fn a_tool_that_is_rejected_is_not_used_and_the_model_reads_why() {
    let world = world(None).await;
    world.deploy("refunds", &agent("true")).await;
    let run = world.invoke("refunds", "").await;
    asked(&world, &run).await;
    let given = answer(&world, &run, r#"{"approved": false, "reason": "too much"}"#).await;
    assert_eq!(given.status, 202);
    let outputs = outputs(&world, &run, "Ask").await;
    assert_eq!(outputs.get("lastAssistantMessage"), Some(&"There is no refund.".into()));
    assert!(outputs.to_json_text().contains("not approved: too much"), "{}", outputs.to_json_text());
    let paid = world.get(&format!("/api/v1/runs/{run}/actions/Pay")).await.json();
    assert_eq!(list(&paid, "occurrences").len(), 0, "the tool is not used");
    assert_eq!(audited(&world, &run).await[0].0, "reject");
}

#[tokio::test]
async fn an_approval_that_nobody_gives_in_time_has_its_default() {
    let world = world(None).await;
    for (default, says) in [("", "There is no refund."), (r#", "default": "approve""#, "Done.")] {
        world.deploy("refunds", &agent(&format!(r#"{{"timeout": 50{default}}}"#))).await;
        let run = world.invoke("refunds", "").await;
        let outputs = outputs(&world, &run, "Ask").await;
        assert_eq!(outputs.get("lastAssistantMessage"), Some(&says.into()), "{default}");
    }
}

#[tokio::test]
async fn a_person_replies_in_a_chat() {
    let world = world(None).await;
    let human = r#"{"message": "May we?", "responseSchema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}}"#;
    world.deploy("chats", &chat(human)).await;
    let run = world.invoke("chats", "").await;
    let questions = asked(&world, &run).await;
    assert_eq!((text(&questions[0], "ask"), text(&questions[0], "to")), ("reply", "Owner"));
    assert_eq!(text(&questions[0], "message"), "May we?");
    let wrong = answer(&world, &run, r#"{"message": "yes"}"#).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "AnswerInvalid"), "{}", wrong.text());
    assert!(wrong.text().contains("does not match its schema"), "{}", wrong.text());
    let (one, other) = tokio::join!(
        answer(&world, &run, r#"{"message": {"ok": true}, "by": "Ann"}"#),
        answer(&world, &run, r#"{"message": {"ok": false}, "by": "Ben"}"#)
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert!(statuses[0] == 202 && statuses[1] >= 400, "one of two answers counts: {statuses:?}");
    let outputs = outputs(&world, &run, "Chat").await;
    let history = list(&outputs, "history").to_vec();
    assert_eq!(history.len(), 3, "{history:?}");
    let said = if one.status == 202 { r#"{"ok":true}"# } else { r#"{"ok":false}"# };
    assert_eq!((text(&history[1], "name"), text(&history[1], "role")), ("Owner", "user"));
    assert_eq!(text(&history[1], "content"), said);
    assert_eq!(text(&history[2], "content"), "A draft.");
    assert_eq!(audited(&world, &run).await.len(), 1, "the answer that was refused is not recorded");
}

#[tokio::test]
async fn a_person_who_does_not_reply_in_time_says_the_default_or_ends_the_chat() {
    let world = world(None).await;
    world.deploy("chats", &chat(r#"{"timeout": 50, "default": "no objection"}"#)).await;
    let run = world.invoke("chats", "").await;
    let with_default = outputs(&world, &run, "Chat").await;
    assert_eq!(text(&list(&with_default, "history")[1], "content"), "no objection");
    world.deploy("chats", &chat(r#"{"timeout": 50}"#)).await;
    let run = world.invoke("chats", "").await;
    let without = outputs(&world, &run, "Chat").await;
    assert_eq!((text(&without, "status"), text(&without, "stopReason")), ("error", "noReply"));
}

#[tokio::test]
async fn a_cancelled_chat_asks_nothing_any_more() {
    let world = world(None).await;
    world.deploy("chats", &chat("{}")).await;
    let run = world.invoke("chats", "").await;
    asked(&world, &run).await;
    assert_eq!(world.post(&format!("/api/v1/runs/{run}/cancel"), "").await.status, 200);
    assert_eq!(text(&world.ended(&run).await, "status"), "Cancelled");
    let open = world.get(&format!("/api/v1/runs/{run}/questions")).await.json();
    assert_eq!(list(&open, "questions").len(), 0);
    let late = answer(&world, &run, r#"{"message": "yes"}"#).await;
    assert_eq!((late.status, late.error().as_str()), (409, "RunEnded"));
}

/// Chats that wait for people cost what parked runs cost: no memory but their rows, and nothing to do.
#[tokio::test]
async fn a_thousand_chats_that_wait_for_people_are_parked() {
    const CHATS: i64 = 1_000;
    let world = world(Some(Duration::from_millis(1))).await;
    world.deploy("chats", &chat("{}")).await;
    let mut runs = Vec::new();
    for _ in 0..CHATS {
        runs.push(world.invoke("chats", "").await);
    }
    let counted = async || {
        let health = world.get("/healthz").await.json();
        let count = |name: &str| health.get(name).and_then(Value::as_i64).unwrap();
        (count("runsInProgress"), count("runsParked"))
    };
    while counted().await != (0, CHATS) {
        tokio::task::yield_now().await;
    }
    // One is answered, and only this one wakes.
    let given = answer(&world, &runs[500], r#"{"message": "Go on."}"#).await;
    assert_eq!(given.status, 202, "{}", given.text());
    assert_eq!(text(&list(&outputs(&world, &runs[500], "Chat").await, "history")[1], "content"), "Go on.");
    while counted().await != (0, CHATS - 1) {
        tokio::task::yield_now().await;
    }
}

/// The control of the test above: without parking, the same chats stay in memory.
#[tokio::test]
async fn chats_that_wait_stay_in_memory_without_parking() {
    let world = world(None).await;
    world.deploy("chats", &chat("{}")).await;
    for _ in 0..5 {
        let run = world.invoke("chats", "").await;
        asked(&world, &run).await;
    }
    let health = world.get("/healthz").await.json();
    let count = |name: &str| health.get(name).and_then(Value::as_i64);
    assert_eq!((count("runsInProgress"), count("runsParked")), (Some(5), Some(0)));
}
