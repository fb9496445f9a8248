//! `Agent` actions in a real engine, against a server that speaks the APIs of models.

use std::sync::Arc;

use loom_actions::{Connections, Settings, Sources, request_handlers, requests};
use loom_definition::{Definition, LoadOptions, RunStatus};
use loom_engine::{Engine, RunReport, RunRequest, clock::SystemClock};
use loom_expression::Value;
use loom_models::{Answer, Api, ErrorKind, ModelError, ToolCall, Usage};
use loom_testkit::wire::{Reply, Wire};

use crate::support::json;

const APIS: [(&str, Api); 4] = [
    ("compatible", Api::ChatCompletions),
    ("openaiResponses", Api::Responses),
    ("anthropic", Api::Anthropic),
    ("ollama", Api::Ollama),
];

/// An agent with two tools, in the form of Logic Apps.
const WEATHER: &str = r#"{
    "Ask": {"type": "Agent", "LIMIT": 0, "inputs": {
        "parameters": {
            "deploymentId": "fast", "agentModelType": "AzureOpenAI",
            "messages": [{"role": "System", "content": "You know the weather."}, {"role": "User", "content": "@concat('Ulm', ' and Bonn?')"}],
            "agentModelSettings": {"agentChatCompletionSettings": {"temperature": 0, "maxTokens": 300}}},
        "modelConfigurations": {"model1": {"referenceName": "unknown"}}},
        "tools": {
            "weather": {"description": "The weather of a city",
                "agentParameterSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
                "actions": {"Look": {"type": "Compose", "inputs": "@concat('rain in ', agentParameters('city'))"}}},
            "fail": {"description": "Fails", "actions": {"Break": {"type": "Compose", "inputs": "@int('x')"}}}}}}"#;

async fn run(file: &Value, actions: &str) -> Arc<RunReport> {
    let connections = Connections::from_json(file, &Sources::default()).unwrap();
    let requests = requests(Settings { connections, ..Settings::default() }, Arc::new(SystemClock)).unwrap();
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": ACTIONS,
        "outputs": {"it": {"type": "object", "value": "@createObject('ask', actions('Ask'))"}}}"#
        .replace("ACTIONS", actions)
        .replace(r#""LIMIT": 0, "#, "")
        .replace("createObject('ask', actions('Ask'))", "actions('Ask')");
    let loaded =
        Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_or_else(|all| panic!("{all}"));
    let request = RunRequest::manual(loaded.workflow, Vec::new(), None);
    builder.build().run(request).await.unwrap().expect("the run ends")
}

fn connections(wire: &Wire, api: &str, more: &str) -> Value {
    json(
        &r#"{"models": {"fast": {"api": "API", "baseUrl": "BASE", "model": "m-1", "key": "k-1" MORE}}}"#
            .replace("API", api)
            .replace("BASE", &wire.base_url())
            .replace("MORE", more),
    )
}

/// The record of the agent.
fn asked(report: &RunReport) -> Value {
    let outputs = report.outputs.as_ref().unwrap_or_else(|| panic!("the run failed: {:?}", report.error));
    let it = outputs.get("it").expect("the output");
    it.get("value").unwrap_or(it).clone()
}

fn output(report: &RunReport, name: &str) -> Value {
    asked(report).get("outputs").and_then(|outputs| outputs.get(name)).cloned().unwrap_or_default()
}

/// With an action that runs when the agent has failed, so that the run succeeds.
fn with_after(actions: &str) -> String {
    let inside = actions.trim_end().strip_suffix('}').unwrap();
    format!(r#"{inside}, "After": {{"type": "Compose", "inputs": 1, "runAfter": {{"Ask": ["Failed"]}}}}}}"#)
}

fn two_calls() -> Answer {
    let calls = [
        ToolCall::new("c1", "weather", r#"{"city": "Ulm"}"#),
        ToolCall::new("c2", "weather", r#"{"city": "Bonn"}"#),
    ];
    Answer::calls(calls).with_usage(Usage::new(10, 5))
}

fn body(wire: &Wire, at: usize) -> String {
    String::from_utf8(wire.asked()[at].body.clone()).unwrap()
}

#[tokio::test]
async fn an_agent_calls_tools_in_parallel_through_every_api() {
    for (name, api) in APIS {
        for streams in [true, false] {
            let last = Answer::text("It rains in both.").with_usage(Usage::new(20, 4));
            let reply = |answer: &Answer| {
                if streams { Reply::stream(api, answer).split(3) } else { Reply::whole(api, answer) }
            };
            let wire = Wire::start([reply(&two_calls()), reply(&last)]).await.unwrap();
            let report = run(&connections(&wire, name, ""), WEATHER).await;
            assert_eq!(report.status, RunStatus::Succeeded, "{name} {:?}", report.error);
            assert_eq!(output(&report, "lastAssistantMessage"), "It rains in both.".into(), "{name}");
            assert_eq!(output(&report, "usage").get("totalTokens"), Some(&39.into()), "{name}");
            assert_eq!(output(&report, "iterations"), 2.into());
            assert_eq!(wire.asked().len(), 2);
            let (first, second) = (body(&wire, 0), body(&wire, 1));
            assert!(first.contains("You know the weather.") && first.contains("Ulm and Bonn?"), "{first}");
            assert!(first.contains("weather") && first.contains("city"), "{first}");
            let (ulm, bonn) = (second.find("rain in Ulm").unwrap(), second.find("rain in Bonn").unwrap());
            assert!(ulm < bonn, "the results are in the order of the calls: {second}");
            let key =
                |at: usize| wire.asked()[at].header("idempotency-key").unwrap().trim_matches('"').to_owned();
            assert!(key(0).ends_with("/Ask/turn-1") && key(1).ends_with("/Ask/turn-2"), "{}", key(0));
        }
    }
}

#[tokio::test]
async fn what_the_model_does_wrong_is_told_to_it() {
    let api = Api::ChatCompletions;
    let wrong = Answer::calls([
        ToolCall::new("a", "weather", r#"{"town": "Ulm"}"#),
        ToolCall::new("b", "wether", "{}"),
        ToolCall::new("c", "weather", "not json"),
        ToolCall::new("d", "fail", "{}"),
        ToolCall::new("a", "weather", r#"{"city": "Bonn"}"#),
    ]);
    let only_wrong = Answer::calls([ToolCall::new("e", "weather", "[]")]);
    let wire =
        Wire::start([&wrong, &only_wrong, &Answer::text("Sorry.")].map(|answer| Reply::stream(api, answer)))
            .await
            .unwrap();
    let report = run(&connections(&wire, "compatible", ""), WEATHER).await;
    assert_eq!(output(&report, "lastAssistantMessage"), "Sorry.".into());
    let second = body(&wire, 1);
    for told in [
        "The arguments do not match the schema of the tool: ",
        "Tool not found: wether. The tools are: weather, fail",
        "the arguments must be a JSON object",
        "InvalidTemplate: ",
        "rain in Bonn",
    ] {
        assert!(second.contains(told), "{told} in {second}");
    }
    assert!(body(&wire, 2).contains(r#""tool_call_id":"e""#));
}

#[tokio::test]
async fn a_call_that_fails_for_a_moment_is_made_again_and_a_tool_is_not() {
    let api = Api::Anthropic;
    let busy = ModelError::new(ErrorKind::Overloaded, "busy");
    let last = Answer::text("Rain.");
    let wire = Wire::start([
        Reply::stream(api, &two_calls()),
        Reply::error(api, 529, &busy).header("retry-after-ms", "1"),
        Reply::stream(api, &last).drop_after(60),
        Reply::stream(api, &last),
    ])
    .await
    .unwrap();
    let actions = WEATHER.replace(r#""LIMIT": 0"#, r#""retryPolicy": {"maxAttempts": 3, "initialDelay": 1}"#);
    let report = run(&connections(&wire, "anthropic", ""), &actions).await;
    assert_eq!(output(&report, "lastAssistantMessage"), "Rain.".into());
    assert_eq!(wire.asked().len(), 4);
    assert_eq!(body(&wire, 1), body(&wire, 3), "the same request with the same results");
    let keys = |at: usize| wire.asked()[at].header("idempotency-key").map(str::to_owned);
    assert_eq!((keys(1), keys(2)), (keys(3), keys(3)));
}

#[tokio::test]
async fn budgets_stop_an_agent_before_a_call_that_does_not_fit() {
    let api = Api::ChatCompletions;
    let price = r#", "price": {"input": 1, "output": 2}"#;
    for (limit, spent, stop) in [
        (r#""limit": {"tokens": 100}"#, Usage::new(80, 15), "tokenLimit"),
        (r#""limit": {"cost": 0.0001}"#, Usage::new(80, 15), "costLimit"),
        (r#""limit": {"count": 1}"#, Usage::new(1, 1), "iterationLimit"),
    ] {
        let wire = Wire::start(
            [two_calls().with_usage(spent), Answer::text("no")].map(|answer| Reply::stream(api, &answer)),
        )
        .await
        .unwrap();
        let actions = WEATHER.replace(r#""LIMIT": 0"#, limit);
        let report = run(&connections(&wire, "compatible", price), &actions).await;
        assert_eq!((report.status, wire.asked().len()), (RunStatus::Succeeded, 1), "{limit}");
        assert_eq!(output(&report, "stopReason"), stop.into(), "{limit}");
        let usage = output(&report, "usage");
        assert_eq!(usage.get("totalTokens"), Some(&(spent.total() as i64).into()), "the count is exact");
        assert_eq!(
            usage.get("costMicros"),
            Some(&(spent.input_tokens as i64 + 2 * spent.output_tokens as i64).into())
        );

        let wire = Wire::start([Reply::stream(api, &two_calls().with_usage(spent))]).await.unwrap();
        let limit = format!(r#""operationOptions": "FailWhenLimitsReached", {limit}"#);
        let actions = WEATHER.replace(r#""LIMIT": 0"#, &limit);
        let failing = with_after(&actions);
        let report = run(&connections(&wire, "compatible", price), &failing).await;
        assert_eq!(asked(&report).get("code"), Some(&"AgentLimitReached".into()), "{limit}");
    }
    let wire = Wire::start([]).await.unwrap();
    let actions = WEATHER.replace(r#""LIMIT": 0"#, r#""limit": {"tokens": 10}"#);
    let report = run(&connections(&wire, "compatible", ""), &actions).await;
    assert_eq!((output(&report, "stopReason"), wire.asked().len()), ("tokenLimit".into(), 0));
}

#[tokio::test]
async fn an_answer_of_a_schema_is_asked_for_until_it_matches() {
    let api = Api::ChatCompletions;
    let wire = Wire::start(
        [r#"{"mood": 7}"#, r#"{"mood": "fine"}"#].map(|text| Reply::stream(api, &Answer::text(text))),
    )
    .await
    .unwrap();
    let actions = WEATHER.replace(
        r#""maxTokens": 300"#,
        r#""responseFormat": {"type": "json_schema", "json_schema": {"name": "m", "schema": {"type": "object", "properties": {"mood": {"type": "string"}}}}}"#,
    );
    let report = run(&connections(&wire, "compatible", ""), &actions).await;
    assert_eq!(output(&report, "body"), json(r#"{"mood": "fine"}"#));
    assert!(body(&wire, 1).contains("does not match the schema"), "{}", body(&wire, 1));
}

#[tokio::test]
async fn a_weak_model_calls_tools_by_writing_json() {
    let api = Api::ChatCompletions;
    let wire = Wire::start(
        [r#"{"tool": "weather", "arguments": {"city": "Ulm"}}"#, r#"{"answer": "Rain."}"#]
            .map(|text| Reply::stream(api, &Answer::text(text))),
    )
    .await
    .unwrap();
    let report = run(&connections(&wire, "compatible", r#", "tools": "schema""#), WEATHER).await;
    assert_eq!(output(&report, "lastAssistantMessage"), "Rain.".into());
    assert!(!body(&wire, 0).contains(r#""tools""#) && body(&wire, 0).contains("json_schema"));
    assert!(body(&wire, 1).contains("rain in Ulm"));
}

#[tokio::test]
async fn the_history_is_reduced_and_a_call_is_never_parted_from_its_result() {
    let api = Api::ChatCompletions;
    let call = |id: &str| Answer::calls([ToolCall::new(id, "weather", format!(r#"{{"city": "{id}"}}"#))]);
    let wire = Wire::start(
        [call("one"), call("two"), call("three"), Answer::text("done")]
            .map(|answer| Reply::stream(api, &answer)),
    )
    .await
    .unwrap();
    let actions = WEATHER.replace(
        r#""agentModelSettings": {"#,
        r#""agentModelSettings": {"agentHistoryReductionSettings": {"agentHistoryReductionType": "messageCountReduction", "messageCountLimit": 4}, "#,
    );
    let report = run(&connections(&wire, "compatible", ""), &actions).await;
    assert_eq!(output(&report, "lastAssistantMessage"), "done".into());
    let last = body(&wire, 3);
    assert!(!last.contains("rain in one") && last.contains("rain in two") && last.contains("rain in three"));
    assert!(last.contains("You know the weather."), "instructions stay");
    assert_eq!(
        last.matches("tool_call_id").count(),
        last.matches(r#""type":"function","function":{"name":"weather","arguments"#).count().max(2)
    );
}

#[tokio::test]
async fn an_agent_hands_over_with_the_history() {
    let api = Api::ChatCompletions;
    let to_sales = Answer::calls([ToolCall::new("h", "to_sales", "{}")]);
    let back = Answer::calls([ToolCall::new("b", "back", "{}")]);
    let wire =
        Wire::start([to_sales, back, Answer::text("It costs 7.")].map(|answer| Reply::stream(api, &answer)))
            .await
            .unwrap();
    let agent = |system: &str, user: &str, tool: &str, action: &str, to: &str| {
        format!(
            r#"{{"type": "Agent", "inputs": {{"parameters": {{"deploymentId": "fast", "messages": [{{"role": "System", "content": "{system}"}}{user}]}}}},
            "tools": {{"{tool}": {{"description": "hands over", "actions": {{"{action}": {{"type": "AgentHandoff", "inputs": {{"name": "{to}"}}}}}}}}}}}}"#
        )
    };
    let actions = format!(
        r#"{{"Triage": {}, "Ask": {}}}"#,
        agent("You sort.", r#", {"role": "User", "content": "How much?"}"#, "to_sales", "h1", "Ask"),
        agent("You sell.", "", "back", "h2", "Triage"),
    );
    let report = run(&connections(&wire, "compatible", ""), &actions).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    assert_eq!(output(&report, "lastAssistantMessage"), "It costs 7.".into());
    let second = body(&wire, 1);
    assert!(
        second.contains("You sell.") && second.contains("How much?") && !second.contains("You sort."),
        "{second}"
    );
    assert!(body(&wire, 2).contains("Triage has already taken part"), "{}", body(&wire, 2));
}

#[tokio::test]
async fn wrong_inputs_are_refused_before_anything_is_sent() {
    let wire = Wire::start([]).await.unwrap();
    for (from, to, message) in [
        (
            r#""deploymentId": "fast""#,
            r#""deploymentId": "slow""#,
            "The connections file has no model 'unknown' (fast); `loom explain connections` shows how to define one.",
        ),
        (
            r#""role": "User""#,
            r#""role": "@concat('Rob', 'ot')""#,
            "'parameters.messages[1]' must have the role System, User or Assistant.",
        ),
        (
            r#""role": "User""#,
            r#""role": "System""#,
            "The agent has no message to answer: 'parameters.messages' needs one with the role User.",
        ),
        (r#""maxTokens": 300"#, r#""maxTokens": 0"#, "'maxTokens' must be a positive integer (got 0)."),
        (
            r#""maxTokens": 300"#,
            r#""reasoningEffort": "some""#,
            "'reasoningEffort' must be none, minimal, low, medium or high (got some).",
        ),
        (
            r#""LIMIT": 0"#,
            r#""limit": {"cost": 1}"#,
            "The agent cannot run: the price of `fast` is missing: a limit of cost needs it.",
        ),
    ] {
        let actions = WEATHER.replace(from, to);
        let actions = with_after(&actions);
        let report = run(&connections(&wire, "compatible", ""), &actions).await;
        let error = asked(&report).get("error").and_then(|error| error.get("message")).cloned();
        assert_eq!(error, Some(message.into()));
    }
    assert!(wire.asked().is_empty());
}
