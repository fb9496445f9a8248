//! Workflows as models: the clients of chat completions, whose bytes the codec of `loom-models` writes and reads.

use loom_actions::{Connections, Sources};
use loom_models::{
    Accumulator, Answer, Decoder, Endpoint, Head, Limits, Message, ModelError, Request, StopReason, Tool,
    Usage,
};

use crate::support::{Plan, World, json, list, text};

const MODELS: &str = r#"{"models": {"m": {"api": "scripted", "replies": [
    {"when": {"last": "weather"}, "text": "I look.", "toolCalls": [{"name": "look", "arguments": {}}], "usage": {"inputTokens": 10, "outputTokens": 2}},
    {"when": {"last": "rain"}, "text": "It rains.", "usage": {"inputTokens": 20, "outputTokens": 3}}]}}}"#;

fn workflow(kind: &str, actions: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"chat": {{"type": "Request", "kind": "{kind}"}}}}, "actions": {actions}}}}}"#
    )
}

/// An agent that looks before it answers, and responds with its answer.
const AGENT: &str = r#"{
    "Ask": {"type": "Agent", "inputs": {"parameters": {"modelId": "m", "messages": [{"role": "User", "content": "@triggerBody()?['message']"}]}},
        "tools": {"look": {"description": "looks", "actions": {"Look": {"type": "Compose", "inputs": "rain"}}}}},
    "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@outputs('Ask')?['lastAssistantMessage']"}, "runAfter": {"Ask": ["Succeeded"]}}}"#;

async fn world() -> World {
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&json(MODELS), &Sources::default()).unwrap();
    let world = World::start(plan).await;
    world.deploy("weather", &workflow("Agent", AGENT)).await;
    world
}

/// Asks as a client of chat completions does.
async fn ask(world: &World, request: &Request, stream: bool) -> Result<Answer, ModelError> {
    let endpoint = Endpoint::compatible(format!("http://{}/v1", world.address));
    let http = endpoint.encode(request, stream).expect("it can be sent");
    assert!(http.url.ends_with("/v1/chat/completions"), "{}", http.url);
    let body = String::from_utf8(http.body).expect("JSON");
    let reply = world.post("/v1/chat/completions", &body).await;
    let kind = reply.header("content-type").unwrap_or_default().to_owned();
    let head = Head::new(reply.status, [("content-type", kind.as_str())]);
    if !stream {
        return endpoint.decode(head, &reply.body, Limits::default(), 0);
    }
    let mut decoder = Decoder::new(&endpoint, head, Limits::default(), 0);
    let (mut answer, mut deltas) = (Accumulator::default(), Vec::new());
    decoder.feed(&reply.body, &mut deltas)?;
    decoder.finish(&mut deltas)?;
    answer.extend(&deltas);
    answer.finish()
}

fn request(model: &str, message: &str) -> Request {
    Request::new(model, vec![Message::system("Be brief."), Message::user(message)])
}

#[tokio::test]
async fn a_workflow_answers_as_a_model_whole_and_as_a_stream() {
    let world = world().await;
    let models = world.get("/v1/models").await.json();
    assert_eq!(list(&models, "data").iter().map(|model| text(model, "id")).collect::<Vec<_>>(), ["weather"]);
    let answer = ask(&world, &request("weather", "The weather?"), false).await.unwrap();
    assert_eq!((answer.message.text().as_str(), &answer.stop), ("It rains.", &StopReason::Stop));
    assert_eq!(answer.usage, Some(Usage::new(30, 5)), "both calls of the model");
    let streamed = ask(&world, &request("weather", "The weather?"), true).await.unwrap();
    assert_eq!(streamed.message.text(), "I look.\n\nIt rains.", "what was said on the way is shown, too");
    assert_eq!(streamed.usage, Some(Usage::new(30, 5)));
}

#[tokio::test]
async fn a_workflow_calls_the_tools_of_its_client() {
    let world = world().await;
    let calls = r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": {"content": null,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "@{triggerBody()?['tools']?[0]?['function']?['name']}", "arguments": "{\"n\":1}"}}]}}}}"#;
    world.deploy("caller", &workflow("Agent", calls)).await;
    let mut request = request("caller", "Call it.");
    request.tools = vec![Tool::new(
        "f",
        "does",
        loom_models::Json::object([("type", loom_models::Json::from("object"))]),
    )];
    for stream in [false, true] {
        let answer = ask(&world, &request, stream).await.unwrap();
        let call = answer.message.tool_calls().next().expect("a call");
        assert_eq!((call.id.as_str(), call.name.as_str(), call.arguments.as_str()), ("a", "f", r#"{"n":1}"#));
        assert_eq!(answer.stop, StopReason::ToolCalls);
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_of_the_api() {
    let world = world().await;
    world.deploy("plain", &workflow("Http", AGENT)).await;
    let failing = r#"{"Fail": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "X", "message": "It broke."}}}}"#;
    world.deploy("failing", &workflow("Agent", failing)).await;
    for (model, says) in [
        ("nobody", "there is no workflow 'nobody' that answers chats"),
        ("plain", "there is no workflow 'plain' that answers chats"),
        ("failing", "It broke."),
    ] {
        for stream in [false, true] {
            let error = ask(&world, &request(model, "The weather?"), stream).await.expect_err(model);
            assert!(error.message.contains(says), "{model}, stream {stream}: {error}");
        }
    }
    for (body, says) in [("{", "not JSON"), (r#"{"model": "weather"}"#, "`messages` must be an array")] {
        let reply = world.post("/v1/chat/completions", body).await;
        assert_eq!(reply.status, 400);
        let message = reply
            .json()
            .get("error")
            .and_then(|error| error.get("message"))
            .map(|text| text.text().into_owned());
        assert!(message.clone().is_some_and(|message| message.contains(says)), "{message:?}");
    }
}

#[tokio::test]
async fn a_workflow_without_a_response_answers_with_its_output() {
    let world = world().await;
    let said = |outputs: &str| {
        format!(
            r#"{{"definition": {{"triggers": {{"chat": {{"type": "Request", "kind": "agent"}}}},
            "actions": {{"Say": {{"type": "Compose", "inputs": "@concat('You said ', triggerBody()?['message'])"}}}}{outputs}}}}}"#
        )
    };
    world
        .deploy("echo", &said(r#", "outputs": {"answer": {"type": "String", "value": "@outputs('Say')"}}"#))
        .await;
    let answer = ask(&world, &request("echo", "hi"), false).await.unwrap();
    assert_eq!(answer.message.text(), "You said hi");
}
