//! Batches across restarts, in virtual time.

use std::sync::Arc;

use loom_engine::{
    event::{EffectResult, Phase},
    ports::{ActionHandler as _, Call},
};
use loom_expression::Value;

use super::send::{Sender, TYPE};
use crate::{
    Host,
    fire::Fire,
    triggers::tests::{World, crash, deploy, pass},
};

/// A workflow that collects in batches with these release criteria.
fn collector(criteria: &str, more: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"Collect": {{"type": "Batch", "inputs": {{"mode": "Inline", "configurations":
            {{"Orders": {{"releaseCriteria": {criteria}}}}}}}{more}}}}},
            "actions": {{"Seen": {{"type": "Compose", "inputs": "@triggerBody()"}}}}}}}}"#
    )
}

/// A workflow that sends each item of what it is given: `[partition, content]`, one after the other.
const SENDER: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
    "Each": {"type": "Foreach", "foreach": "@triggerBody()", "operationOptions": "Sequential", "actions": {
        "Send": {"type": "SendToBatch", "inputs": {"batchName": "orders", "partitionName": "@item()?[0]",
            "messageId": "m-@{item()?[1]}", "content": "@item()?[1]", "host": {"triggerName": "collect",
            "workflow": {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Logic/workflows/collector"}}}}}}}}}"#;

/// Has the sender send, and waits for the end of its run.
async fn send(host: &Arc<Host>, items: &str) {
    let deployment = host.deployments.get("sender").unwrap();
    let outputs = Value::from_json_str(&format!(r#"{{"body": {items}}}"#)).unwrap();
    let trigger = deployment.trigger("manual").unwrap();
    let fire = Fire {
        deployment: &deployment,
        trigger,
        outputs,
        tracking_id: None,
        wants_response: false,
        trace: None,
    };
    let mut run = host.fire(fire).await.unwrap().handle.unwrap();
    let report = run.ended().await.unwrap();
    assert_eq!(report.status.as_str(), "Succeeded", "{:?}", report.error);
    pass(0).await;
}

/// What the collector's runs were given, in their order: `partition: contents`.
async fn batches(world: &World, host: &Host) -> Vec<String> {
    let mut found = Vec::new();
    for run in world.runs().await {
        let (row, history) = host.engine.history(run).await.unwrap().unwrap();
        if &*row.workflow != "collector" {
            continue;
        }
        let body = history.start.unwrap().trigger.get("outputs").unwrap().get("body").unwrap().clone();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap().to_owned();
        assert_eq!(text("batchName"), "Orders");
        let items = body.get("items").and_then(Value::as_array).unwrap();
        let contents = items.iter().map(|item| {
            let content = item.get("content").unwrap().text().into_owned();
            assert_eq!(item.get("messageId").unwrap().text(), format!("m-{content}"));
            content
        });
        found.push(format!("{}: {}", text("partitionName"), contents.collect::<Vec<_>>().join(" ")));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_released_and_the_rest_waits_across_restarts() {
    let world = World::new(&[]);
    let text = collector(r#"{"messageCount": 3}"#, "");
    let definitions = [("collector", text.as_str()), ("sender", SENDER)];
    let host = world.process(&definitions).await;
    send(&host, "[[null, 1], [null, 2], [null, 3], [null, 4], [null, 5], [null, 6], [null, 7]]").await;
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1 2 3", "DEFAULT: 4 5 6"]);
    crash(host).await;
    let host = world.process(&definitions).await;
    pass(3_600).await;
    send(&host, "[[null, 8]]").await;
    assert_eq!(batches(&world, &host).await.len(), 2, "two are too few");
    crash(host).await;
    let host = world.process(&definitions).await;
    send(&host, "[[null, 9], [null, 10]]").await;
    assert_eq!(batches(&world, &host).await[2..], ["DEFAULT: 7 8 9"]);
    assert_eq!(world.history("collector/collect").await, ["Succeeded"; 3]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn partitions_are_collected_apart() {
    let world = World::new(&[]);
    let text = collector(r#"{"messageCount": "2"}"#, "");
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    send(&host, r#"[["a", 1], ["b", 2], ["A", 3], ["b", 4], ["", 5], ["a", 6], [null, 7]]"#).await;
    let mut found = batches(&world, &host).await;
    found.sort();
    assert_eq!(found, ["DEFAULT: 5 7", "a: 1 6", "b: 2 4"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn messages_from_before_a_crash_are_released_after_it() {
    let world = World::new(&[]);
    let text = collector(r#"{"messageCount": 2}"#, "");
    let never = collector(r#"{"recurrence": {"frequency": "Year", "interval": 1}}"#, "");
    let host = world.process(&[("collector", &never), ("sender", SENDER)]).await;
    send(&host, "[[null, 1], [null, 2], [null, 3], [null, 4], [null, 5]]").await;
    crash(host).await;
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    pass(1).await;
    let expected = ["DEFAULT: 1 2", "DEFAULT: 3 4"];
    assert_eq!(batches(&world, &host).await, expected, "a new version has its own criteria");
    // Another version while the process lives takes over what is left.
    deploy(&host, "collector", &text.replace(r#""messageCount": 2"#, r#""messageCount": 1"#)).await;
    pass(1).await;
    assert_eq!(batches(&world, &host).await[2..], ["DEFAULT: 5"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_time_releases_everything_once() {
    let world = World::new(&[]);
    let text = collector(r#"{"recurrence": {"frequency": "Hour", "interval": 1}, "messageCount": 4}"#, "");
    let definitions = [("collector", text.as_str()), ("sender", SENDER)];
    let host = world.process(&definitions).await;
    pass(1_800).await;
    send(&host, r#"[["a", 1], ["b", 2], ["a", 3]]"#).await;
    assert_eq!(batches(&world, &host).await.len(), 0);
    pass(1_801).await;
    let mut found = batches(&world, &host).await;
    found.sort();
    assert_eq!(found, ["a: 1 3", "b: 2"]);
    send(&host, r#"[["a", 4], ["a", 5], ["a", 6], ["a", 7], ["a", 8]]"#).await;
    assert_eq!(batches(&world, &host).await[2..], ["a: 4 5 6 7"], "what is full does not wait");
    crash(host).await;
    // No server runs for three hours: the rest is released late, once.
    pass(3 * 3_600).await;
    let host = world.process(&definitions).await;
    pass(1).await;
    assert_eq!(batches(&world, &host).await[3..], ["a: 8"]);
    pass(4 * 3_600).await;
    assert_eq!(batches(&world, &host).await.len(), 4, "nothing goes where nothing is");
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_released_when_it_is_large_enough() {
    let world = World::new(&[]);
    let text = collector(r#"{"batchSize": 10}"#, "");
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    send(&host, r#"[[null, "four"], [null, "five5"], [null, "x"], [null, "twelve-bytes"], [null, "y"]]"#)
        .await;
    assert_eq!(batches(&world, &host).await, ["DEFAULT: four five5 x", "DEFAULT: twelve-bytes"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_a_condition_holds_back_is_not_lost() {
    let world = World::new(&[]);
    let condition =
        r#", "conditions": [{"expression": "@equals(last(triggerBody()?['items'])?['content'], 3)"}]"#;
    let text = collector(r#"{"recurrence": {"frequency": "Minute", "interval": 1}}"#, condition);
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    send(&host, "[[null, 1], [null, 2]]").await;
    pass(130).await;
    assert_eq!(batches(&world, &host).await.len(), 0);
    assert_eq!(world.history("collector/collect").await, ["Skipped", "Skipped"]);
    send(&host, "[[null, 3]]").await;
    pass(60).await;
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1 2 3"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_room() {
    let world = World::new(&[]);
    let limit = r#", "runtimeConfiguration": {"concurrency": {"runs": 1, "maximumWaitingRuns": 1}}"#;
    let text = collector(r#"{"messageCount": 1}"#, limit);
    let slow = r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}}, "Seen""#;
    let text = text.replace(r#"{"Seen""#, slow);
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    send(&host, "[[null, 1], [null, 2], [null, 3]]").await;
    // The second batch is a run that waits, and the third stays where it was collected.
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1", "DEFAULT: 2"]);
    assert_eq!(host.engine.runs_waiting(), 1);
    crash(host).await;
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    pass(3_601).await;
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1", "DEFAULT: 2", "DEFAULT: 3"]);
    assert_eq!(host.engine.runs_waiting(), 1);
    pass(2 * 3_600).await;
    assert_eq!((host.engine.runs_waiting(), host.engine.runs_in_progress()), (0, 0));
    crash(host).await;
}

/// A call as the action of the sender makes it, in some run.
fn call(host: &Host, key: &str, inputs: &str) -> Call {
    let deployment = host.deployments.get("sender").unwrap();
    let action = deployment.workflow.find_action("Send").unwrap();
    Call {
        callback: None,
        run: loom_engine::RunId::MAX,
        workflow: Arc::clone(&deployment.workflow),
        action,
        effect: loom_engine::EffectId(1),
        phase: Phase::Call,
        attempt: 1,
        inputs: Value::from_json_str(inputs).unwrap(),
        context: None,
        resume: None,
        idempotency_key: key.into(),
        tracking_id: "t".into(),
        action_tracking_id: "own-id".into(),
        trace: None,
        due: None,
        depth: 0,
        turn: None,
        show: loom_engine::live_text::Show::default(),
        presence: loom_engine::Presence::default(),
        memory: loom_engine::ports::CallMemory::default(),
    }
}

/// Makes a call, and gives its code and outputs or message.
async fn leave(host: &Arc<Host>, key: &str, inputs: &str) -> (String, String) {
    let sender = Sender::default();
    sender.belongs_to(host);
    let EffectResult::Done { outcome, .. } = sender.call(&call(host, key, inputs)).await else {
        panic!("a message is left at once")
    };
    pass(0).await;
    let reported = match (&outcome.error, &outcome.outputs) {
        (Some(error), _) => error.message.clone(),
        (None, outputs) => outputs.as_ref().unwrap().to_json_text(),
    };
    (outcome.code.to_string(), reported)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_exists_once_even_after_its_batch_was_released() {
    let world = World::new(&[]);
    let text = collector(r#"{"messageCount": 2}"#, "");
    let definitions = [("collector", text.as_str()), ("sender", SENDER)];
    let host = world.process(&definitions).await;
    let message = |content: u8| {
        format!(
            r#"{{"batchName": "Orders", "messageId": "m-{content}", "content": {content},
                "host": {{"triggerName": "Collect", "workflow": {{"id": "collector"}}}}}}"#
        )
    };
    leave(&host, "run/Send/0", &message(1)).await;
    leave(&host, "run/Send/0", &message(1)).await;
    assert_eq!(batches(&world, &host).await.len(), 0);
    leave(&host, "run/Send/1", &message(2)).await;
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1 2"]);
    crash(host).await;
    let host = world.process(&definitions).await;
    for (key, content) in [("run/Send/1", 2), ("run/Send/0", 1), ("run/Send/2", 3), ("run/Send/3", 4)] {
        leave(&host, key, &message(content)).await;
    }
    assert_eq!(batches(&world, &host).await, ["DEFAULT: 1 2", "DEFAULT: 3 4"]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_says_why() {
    let world = World::new(&[]);
    let text = collector(r#"{"messageCount": 2}"#, "");
    let host = world.process(&[("collector", &text), ("sender", SENDER)]).await;
    let to = |workflow: &str, trigger: &str, batch: &str| {
        format!(
            r#"{{"batchName": "{batch}", "content": 1,
                "host": {{"triggerName": "{trigger}", "workflow": {{"id": "{workflow}"}}}}}}"#
        )
    };
    for (inputs, code, part) in [
        (to("nobody", "Collect", "Orders"), "WorkflowNotFound", "'nobody'"),
        (to("sender", "manual", "Orders"), "WorkflowTriggerNotFound", "no Batch trigger named 'manual'"),
        (to("collector", "Collect", "Bills"), "BatchNotFound", "its batches are Orders"),
        (to("collector", "Collect", ""), "InvalidTemplateInputs", "'batchName'"),
        ("{}".to_owned(), "InvalidTemplateInputs", "'host.workflow.id'"),
    ] {
        let (found, reported) = leave(&host, "k", &inputs).await;
        assert_eq!(found, code, "{reported}");
        assert!(reported.contains(part), "{reported}");
    }
    let (code, reported) = leave(&host, "k", &to("x/workflows/Collector/", "collect", "ORDERS")).await;
    assert_eq!(code, "OK");
    assert_eq!(reported, r#"{"body":{"batchName":"Orders","messageId":"own-id","partitionName":"DEFAULT"}}"#);
    assert_eq!(TYPE, call(&host, "k", "{}").definition().type_name.as_ref());
    crash(host).await;
}

/// A sender of the test's own.
#[derive(Debug)]
struct Own;

impl loom_engine::ports::ActionHandler for Own {
    fn call<'a>(&'a self, _: &'a Call) -> loom_engine::ports::CallFuture<'a> {
        let outcome = loom_engine::event::Outcome::ok(Some("own".into()));
        Box::pin(
            async move { EffectResult::Done { outcome, hint: loom_engine::event::RetryHint::default() } },
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_registered_handler_is_not_replaced() {
    let world = World::new(&[]);
    let builder = loom_engine::Engine::builder().custom("sendtobatch", Arc::new(Own));
    let clock =
        Arc::new(loom_engine::clock::TokioClock::starting_at(loom_expression::Timestamp::from_unix_nanos(0)));
    let settings = crate::HostSettings::new("http://loom.test");
    let host =
        Host::open(builder, loom_engine::Environment::default(), Arc::clone(&world.store), clock, settings);
    let host = host.await.unwrap();
    deploy(&host, "sender", SENDER).await;
    host.recover().await.unwrap();
    // There is no collector, and none is configured.
    send(&host, "[[null, 1]]").await;
    crash(host).await;
}
