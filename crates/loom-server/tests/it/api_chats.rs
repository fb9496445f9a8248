//! Group chats on a server: their history in shared memory, and their streams.

use hyper::Method;
use loom_actions::{Connections, Sources};
use loom_expression::Value;

use crate::support::{Plan, World, json, list, text};

const MODELS: &str = r#"{"models": {"m": {"api": "scripted", "replies": [
    {"when": {"system": "You are Alice"}, "text": "Alice speaks"},
    {"when": {"system": "You are Bob"}, "text": "Bob speaks"}]}}}"#;

async fn world() -> World {
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&json(MODELS), &Sources::default()).unwrap();
    World::start(plan).await
}

fn workflow(grants: &str, memory: &str) -> String {
    r#"{"definition": {GRANTS "triggers": {"manual": {"type": "Request"}}, "actions": {"Chat": {"type": "GroupChat", "limit": {"rounds": 2},
        "inputs": {"initialMessage": "@triggerBody()?['text']" MEMORY, "participants": {
            "Alice": {"agent": {"modelId": "m", "messages": []}}, "Bob": {"agent": {"modelId": "m", "messages": []}}}}}}}}"#
        .replace("GRANTS", grants)
        .replace("MEMORY", memory)
}

async fn chat(world: &World, run: &str) -> Value {
    world.ended(run).await;
    let shown = world.get(&format!("/api/v1/runs/{run}/actions/Chat")).await.json();
    list(&shown, "occurrences")[0].clone()
}

fn contents(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| text(item, "content").to_owned()).collect()
}

#[tokio::test]
async fn the_history_is_kept_in_shared_memory_and_the_next_chat_begins_with_it() {
    let world = world().await;
    let granted = r#""memory": {"write": ["chat:*"]},"#;
    world.deploy("chats", &workflow(granted, r#", "memory": {"key": "chat:talk"}"#)).await;
    let first = world.invoke("chats", r#"{"text": "Hello"}"#).await;
    let ended = chat(&world, &first).await;
    assert_eq!(text(ended.get("outputs").unwrap(), "conversationId"), "talk");
    let kept = world.get("/api/v1/memory/chat:talk/history").await.json();
    let expected = ["Hello", "Alice speaks", "Bob speaks"];
    assert_eq!(contents(list(&kept, "value")), expected, "the initial message is first");
    for item in list(&kept, "value") {
        assert!(["id", "timestamp", "role"].iter().all(|name| !text(item, name).is_empty()), "{item:?}");
    }
    let second = world.invoke("chats", r#"{"text": "Again"}"#).await;
    let ended = chat(&world, &second).await;
    let history = contents(list(ended.get("outputs").unwrap(), "history"));
    let both = ["Hello", "Alice speaks", "Bob speaks", "Again", "Alice speaks", "Bob speaks"];
    assert_eq!(history, both);
    let kept = world.get("/api/v1/memory/chat:talk/history").await.json();
    assert_eq!(contents(list(&kept, "value")), both, "what was there is not written again");
}

#[tokio::test]
async fn history_needs_a_grant_of_its_namespace() {
    let world = world().await;
    world.deploy("chats", &workflow("", r#", "memory": {"key": "chat:talk/history"}"#)).await;
    let run = world.invoke("chats", r#"{"text": "Hello"}"#).await;
    let ended = chat(&world, &run).await;
    assert_eq!(text(&ended, "status"), "Failed");
    assert!(ended.to_json_text().contains("AccessDenied"), "{}", ended.to_json_text());
    // Without memory, nothing has to be granted.
    world.deploy("chats", &workflow("", "")).await;
    let run = world.invoke("chats", r#"{"text": "Hello"}"#).await;
    assert_eq!(text(&chat(&world, &run).await, "status"), "Succeeded");
}

/// The names and the data of server-sent events.
fn events(stream: &str) -> Vec<(String, Value)> {
    let blocks = stream.split("\n\n").filter(|block| block.contains("data:"));
    let read = |block: &str| {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        (line("event: ").to_owned(), json(line("data: ")))
    };
    blocks.map(read).collect()
}

async fn streamed(world: &World, run: &str, format: &str) -> String {
    let path = format!("/api/v1/runs/{run}/events?format={format}");
    let reply = world.send(Method::GET, &path, &[("accept", "text/event-stream")], "").await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

#[tokio::test]
async fn streams_of_a_chat_say_who_speaks_before_what_is_said() {
    let world = world().await;
    world.deploy("chats", &workflow("", "")).await;
    let run = world.invoke("chats", r#"{"text": "Hello"}"#).await;
    chat(&world, &run).await;
    let stream = streamed(&world, &run, "chunks").await;
    let names: Vec<String> = events(&stream).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "connected",
        "start",
        "action.started",
        "message",
        "progress",
        "speaker-selected",
        "message",
        "progress",
        "speaker-selected",
        "message",
        "action.completed",
        "complete",
        "done",
    ];
    assert_eq!(names, expected, "{stream}");
    let messages: Vec<String> = events(&stream)
        .iter()
        .filter_map(|(_, event)| Some(text(event.get("data")?.get("message")?, "content").to_owned()))
        .collect();
    assert_eq!(messages, ["Hello", "Alice speaks", "Bob speaks"]);
    let sent = events(&streamed(&world, &run, "ag-ui").await);
    let kinds: Vec<String> = sent
        .iter()
        .filter(|(_, event)| matches!(text(event, "type"), "CUSTOM" | "TEXT_MESSAGE_CONTENT"))
        .map(|(_, event)| {
            let told = event.get("delta").or_else(|| event.get("value")?.get("speaker"));
            format!(
                "{} {}",
                text(event, "type"),
                told.map(|told| told.text().into_owned()).unwrap_or_default()
            )
        })
        .collect();
    let place = |wanted: &str| {
        kinds.iter().position(|kind| kind == wanted).unwrap_or_else(|| panic!("{wanted}: {kinds:?}"))
    };
    assert!(place("CUSTOM Alice") < place("TEXT_MESSAGE_CONTENT Alice speaks"), "{kinds:?}");
    assert!(place("CUSTOM Bob") < place("TEXT_MESSAGE_CONTENT Bob speaks"), "{kinds:?}");
    let said = kinds.iter().filter(|kind| kind.starts_with("TEXT_MESSAGE_CONTENT")).count();
    assert_eq!(said, 2, "the result does not repeat a message: {kinds:?}");
}
