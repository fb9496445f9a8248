//! `AI` actions in a real engine, against a server that speaks the APIs of models.

use std::{sync::Arc, time::Duration};

use loom_actions::{Connections, Settings, Sources, request_handlers, requests};
use loom_definition::{Definition, LoadOptions};
use loom_engine::{Engine, RunReport, RunRequest, clock::SystemClock};
use loom_expression::Value;
use loom_models::{Answer, Api, ErrorKind, ModelError, StopReason, Usage};
use loom_testkit::wire::{Reply, Wire};

use crate::support::json;

const APIS: [(&str, Api); 4] = [
    ("compatible", Api::ChatCompletions),
    ("openaiResponses", Api::Responses),
    ("anthropic", Api::Anthropic),
    ("ollama", Api::Ollama),
];

/// Executes an `AI` action with these inputs, and returns what a following action makes of it.
async fn ask(wire: &Wire, api: &str, inputs: &str, value: &str) -> Arc<RunReport> {
    let file = json(
        &r#"{"models": {"fast": {"api": "API", "baseUrl": "BASE", "model": "m-1", "key": "k-1"}}}"#
            .replace("API", api)
            .replace("BASE", &wire.base_url()),
    );
    executed(&file, inputs, value).await
}

async fn executed(connections: &Value, inputs: &str, value: &str) -> Arc<RunReport> {
    let connections = Connections::from_json(connections, &Sources::default()).unwrap();
    let requests = requests(Settings { connections, ..Settings::default() }, Arc::new(SystemClock)).unwrap();
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    let text = r#"{"definition": {"parameters": {"password": {"type": "securestring", "defaultValue": "hunter-2222"}}, "triggers": {"manual": {"type": "Request"}}, "actions": {
        "Ask": {"type": "AI", "inputs": INPUTS, "retryPolicy": {"maxAttempts": 3, "initialDelay": 1}},
        "Tell": {"type": "Compose", "inputs": [VALUE], "runAfter": {"Ask": ["Succeeded", "Failed"]}}},
        "outputs": {"it": {"type": "array", "value": "@outputs('Tell')"}}}}"#
        .replace("INPUTS", inputs)
        .replace("VALUE", value);
    let loaded = Definition::parse_text(&text, &LoadOptions::default()).unwrap();
    let report = builder
        .build()
        .run(RunRequest::manual(loaded.workflow, vec![Value::from("hunter-2222").into_secret()], None))
        .await
        .unwrap();
    report.expect("the run ends")
}

fn told(report: &RunReport) -> Value {
    let outputs = report.outputs.as_ref().unwrap_or_else(|| panic!("the run failed: {:?}", report.error));
    let output = outputs.get("it").unwrap_or_else(|| panic!("no output in {outputs:?}"));
    let told = output.get("value").cloned().unwrap_or_else(|| output.clone());
    told.as_array().and_then(|told| told.iter().next()).cloned().expect("it is one value")
}

fn greeting() -> Answer {
    let mut answer = Answer::text("Good day").with_usage(Usage::new(9, 2));
    answer.model = Some("m-1".to_owned());
    answer
}

#[tokio::test]
async fn a_prompt_is_answered_through_every_api() {
    for (name, api) in APIS {
        let wire = Wire::start([Reply::whole(api, &greeting()).split(3)]).await.unwrap();
        let inputs = r#"{"model": "FAST", "systemPrompt": "Be brief.", "prompt": "Say hello to @{'Ann'}", "temperature": 0, "maxTokens": 50}"#;
        let value = r#"{"said": "@body('Ask')", "tokens": "@outputs('Ask')?['usage']?['totalTokens']", "why": "@outputs('Ask')?['stopReason']"}"#;
        let report = ask(&wire, name, inputs, value).await;
        assert_eq!(told(&report), json(r#"{"said": "Good day", "tokens": 11, "why": "stop"}"#), "{name}");
        let asked = wire.asked().remove(0);
        let body = String::from_utf8(asked.body.clone()).unwrap();
        assert!(
            body.contains("Say hello to Ann") && body.contains("Be brief.") && body.contains("m-1"),
            "{body}"
        );
        let key = if api == Api::Anthropic { "x-api-key" } else { "authorization" };
        assert!(asked.header(key).unwrap().ends_with("k-1"), "{name}");
        let marked = asked.headers.iter().any(|(name, _)| name.starts_with("x-ms-"));
        assert!(!marked, "a provider receives nothing about the workflow");
        assert!(asked.header("idempotency-key").is_some());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_match_its_schema_is_another_attempt() {
    let wrong = Answer::text(r#"{"mood": 7}"#);
    let mut cut = Answer::text(r#"{"mood":"#);
    cut.stop = StopReason::Length;
    let right = Answer::text(r#"{"mood": "fine"}"#);
    let api = Api::ChatCompletions;
    let wire =
        Wire::start([wrong.clone(), cut, right].map(|answer| Reply::whole(api, &answer))).await.unwrap();
    let inputs = r#"{"prompt": "How?", "schema": {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}}"#;
    let report = ask(&wire, "compatible", inputs, r#""@body('Ask')?['mood']""#).await;
    assert_eq!(told(&report), "fine".into());
    assert_eq!(wire.asked().len(), 3);
    assert!(
        String::from_utf8_lossy(&wire.asked()[0].body).contains(r#""response_format":{"type":"json_schema""#)
    );

    let wire = Wire::start([(); 3].map(|()| Reply::whole(api, &wrong))).await.unwrap();
    let error = r#"{"code": "@actions('Ask')?['code']", "why": "@actions('Ask')?['error']?['message']"}"#;
    let failure = told(&*ask(&wire, "compatible", inputs, error).await);
    assert_eq!(failure.get("code"), Some(&"ModelOutputInvalid".into()));
    let why = failure.get("why").unwrap().text().into_owned();
    assert!(why.starts_with("The model 'fast' failed: the answer does not match the schema: "), "{why}");
}

#[tokio::test]
async fn what_is_temporary_is_tried_again_and_the_rest_is_not() {
    for (name, api) in APIS {
        let limited = ModelError::new(ErrorKind::RateLimited, "slow down");
        let busy = ModelError::new(ErrorKind::Overloaded, "busy");
        let wire = Wire::start([
            Reply::error(api, 429, &limited).header("retry-after-ms", "1"),
            Reply::error(api, 529, &busy),
            Reply::whole(api, &greeting()),
        ])
        .await
        .unwrap();
        let report = ask(&wire, name, r#"{"prompt": "Hello"}"#, r#""@body('Ask')""#).await;
        assert_eq!((told(&report), wire.asked().len()), ("Good day".into(), 3), "{name}");

        let wrong = ModelError::new(ErrorKind::Authentication, "wrong key");
        let wire = Wire::start([Reply::error(api, 401, &wrong)]).await.unwrap();
        let error = r#"{"code": "@actions('Ask')?['code']", "why": "@actions('Ask')?['error']?['message']"}"#;
        let failure = told(&*ask(&wire, name, r#"{"prompt": "Hello"}"#, error).await);
        let why = "The model 'fast' failed: authentication failed: wrong key.";
        assert_eq!(failure.get("code"), Some(&"ModelAuthentication".into()), "{name}");
        assert_eq!((failure.get("why"), wire.asked().len()), (Some(&why.into()), 1), "{name}");
    }
    let api = Api::ChatCompletions;
    let quota = r#"{"error": {"message": "no credit", "code": "insufficient_quota"}}"#;
    let wire = Wire::start([Reply::status(429).header("content-type", "application/json").body(quota)])
        .await
        .unwrap();
    ask(&wire, "compatible", r#"{"prompt": "Hello"}"#, "1").await;
    assert_eq!(wire.asked().len(), 1, "waiting does not bring money");
    let dropped = Reply::whole(api, &greeting()).drop_after(20);
    let wire = Wire::start([dropped, Reply::whole(api, &greeting())]).await.unwrap();
    let report = ask(&wire, "compatible", r#"{"prompt": "Hello"}"#, r#""@body('Ask')""#).await;
    assert_eq!(
        (told(&report), wire.asked().len()),
        ("Good day".into(), 2),
        "a cut answer is asked for again"
    );
}

#[tokio::test]
async fn wrong_inputs_are_refused_before_anything_is_sent() {
    let wire = Wire::start([]).await.unwrap();
    for (inputs, message) in [
        (
            r#"{"promt": "Hello"}"#,
            "Unknown input 'promt' of an AI action; use model, prompt, systemPrompt, messages, schema, temperature, topP, maxTokens, stop, seed, extra.",
        ),
        (
            r#"{"model": "slow", "prompt": "Hello"}"#,
            "The connections file has no model 'slow' (fast); `loom explain connections` shows how to define one.",
        ),
        (r#"{"systemPrompt": "Be brief."}"#, "The AI action needs 'prompt' or 'messages'."),
        (r#"{"prompt": "Hello", "maxTokens": 0}"#, "'maxTokens' must be a positive integer (got 0)."),
        (r#"{"prompt": "Hello", "temperature": "hot"}"#, "'temperature' must be a number, found String."),
        (
            r#"{"messages": [{"role": "robot", "content": "Hello"}]}"#,
            "'messages[0]' must have the role system, user or assistant.",
        ),
        (r#"{"prompt": ["Hello"]}"#, "'prompt' must be a string, found Array."),
    ] {
        let report = ask(&wire, "compatible", inputs, r#""@actions('Ask')?['error']?['message']""#).await;
        assert_eq!(told(&report), message.into());
    }
    assert!(wire.asked().is_empty());
}

#[tokio::test]
async fn what_a_secret_prompt_becomes_stays_secret() {
    let api = Api::ChatCompletions;
    let quoting = ModelError::new(ErrorKind::InvalidRequest, "hunter-2222 is not a prompt");
    let wire =
        Wire::start([Reply::whole(api, &Answer::text("hunter-2222?")), Reply::error(api, 400, &quoting)])
            .await
            .unwrap();
    let inputs = r#"{"prompt": "My password is @{parameters('password')}"}"#;
    let value = r#"{"said": "@body('Ask')", "why": "@actions('Ask')?['error']?['message']", "it": "@string(actions('Ask'))"}"#;
    let answered = told(&*ask(&wire, "compatible", inputs, value).await);
    assert!(answered.get("said").unwrap().contains_secret(), "the model has repeated it");
    let failed = told(&*ask(&wire, "compatible", inputs, value).await);
    assert_eq!(failed.get("why").unwrap().text(), "The model 'fast' failed: invalid request.");
    let shown = failed.get("it").unwrap();
    assert!(!shown.text().contains("hunter") || shown.contains_secret(), "{shown:?}");
    assert!(
        String::from_utf8_lossy(&wire.asked()[0].body).contains("hunter-2222"),
        "what is sent is never masked"
    );
}

#[tokio::test]
async fn a_scripted_model_needs_no_provider() {
    let file = json(
        r#"{"models": {"test": {"api": "scripted", "price": {"input": 0.25, "output": "1.5"}, "replies": [
            {"error": {"kind": "overloaded", "message": "later", "waitMs": 1}},
            {"when": {"last": "mood"}, "json": {"mood": "fine"}},
            {"text": "Good day", "usage": {"inputTokens": 1000, "outputTokens": 200}}]}}}"#,
    );
    let value = r#"{"said": "@body('Ask')", "cost": "@outputs('Ask')?['usage']?['costMicros']"}"#;
    let said = told(&*executed(&file, r#"{"prompt": "Hello"}"#, value).await);
    assert_eq!(said, json(r#"{"said": "Good day", "cost": 550}"#), "after a failure that was tried again");
    let inputs = r#"{"prompt": "What mood?", "schema": {"type": "object", "required": ["mood"]}}"#;
    let said = told(&*executed(&file, inputs, r#""@body('Ask')?['mood']""#).await);
    assert_eq!(said, "fine".into());

    let empty = json(r#"{"models": {"test": {"api": "scripted", "replies": []}}}"#);
    let failed = r#"{"code": "@actions('Ask')?['code']", "why": "@actions('Ask')?['error']?['message']"}"#;
    let failed = told(&*executed(&empty, r#"{"prompt": "Hello"}"#, failed).await);
    let why =
        "the script has no reply for request 1 to `scripted`, whose last message is: Hello; add a reply.";
    assert_eq!(
        failed,
        Value::from_json_str(&format!(r#"{{"code": "ModelScriptEnded", "why": "{why}"}}"#)).unwrap()
    );
    let wrong = json(r#"{"models": {"test": {"api": "scripted", "replies": [{"txet": "a"}]}}}"#);
    let why = told(
        &*executed(&wrong, r#"{"prompt": "Hello"}"#, r#""@actions('Ask')?['error']?['message']""#).await,
    );
    let expected = "The model 'test' cannot be used: 'replies' is wrong: unknown field `txet`";
    assert!(why.text().starts_with(expected), "{}", why.text());
}

#[tokio::test]
async fn answers_are_recorded_on_a_cassette_and_replayed_without_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("answers.json");
    let api = Api::ChatCompletions;
    let wire = Wire::start([Reply::stream(api, &greeting())]).await.unwrap();
    let entry = |mode: &str| {
        json(
            &r#"{"models": {"fast": {"api": "compatible", "baseUrl": "BASE", "model": "m-1", "cassette": "FILE", "cassetteMode": "MODE"}}}"#
                .replace("BASE", &wire.base_url())
                .replace("FILE", &file.display().to_string())
                .replace("MODE", mode),
        )
    };
    let inputs = r#"{"prompt": "Hello"}"#;
    let said = told(&*executed(&entry("record"), inputs, r#""@body('Ask')""#).await);
    let again = told(&*executed(&entry("replay"), inputs, r#""@body('Ask')""#).await);
    assert_eq!((said, again, wire.asked().len()), ("Good day".into(), "Good day".into(), 1));
    let why = r#""@actions('Ask')?['error']?['message']""#;
    let miss = told(&*executed(&entry("replay"), r#"{"prompt": "Hallo"}"#, why).await);
    assert!(miss.text().contains("was \"Hello\" and is \"Hallo\""), "{}", miss.text());
    let secret = r#"{"prompt": "@{parameters('password')}"}"#;
    let refused = told(&*executed(&entry("record"), secret, why).await);
    assert_eq!(refused.text(), "The request contains a secret, so it cannot be recorded on a cassette.");
}

#[test]
fn models_of_the_connections_file_are_checked_when_they_are_used() {
    let sources = Sources::default();
    let file = json(r#"{"models": {"a": {"api": "telepathy", "model": "m"}}}"#);
    assert!(Connections::from_json(&file, &sources).is_ok(), "one wrong model does not disable the others");
    let unknown = Connections::from_json(&json(r#"{"modells": {}}"#), &sources).unwrap_err();
    assert!(unknown.reason.contains("actionTypes, models, mcpServers or the"), "{}", unknown.reason);
}

#[test]
fn a_misspelt_property_of_a_model_or_a_server_is_refused_with_the_file() {
    for (file, said) in [
        (
            r#"{"models": {"a": {"api": "scripted", "repliez": []}}}"#,
            "'a' has the unknown property 'repliez'; did you mean 'replies'?",
        ),
        (r#"{"models": {"a": {"api": "openai", "modle": "m"}}}"#, "did you mean 'model'?"),
        (r#"{"mcpServers": {"a": {"comand": "/bin/sh"}}}"#, "did you mean 'command'?"),
    ] {
        let refused = Connections::from_json(&json(file), &Sources::default()).unwrap_err();
        assert!(refused.reason.contains(said), "{file}: {}", refused.reason);
    }
}

/// What is wrong with the names in the actions, each with its place.
fn unknown_names(file: &str, actions: &str) -> Vec<String> {
    let connections = Connections::from_json(&json(file), &Sources::default()).unwrap();
    let text = format!(r#"{{"actions": {actions}}}"#);
    let loaded =
        Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_or_else(|all| panic!("{all}"));
    let problems = connections.check_calls(&loaded.workflow);
    problems
        .into_iter()
        .map(|problem| {
            format!("{}: {} ({})", problem.pointer, problem.message, problem.hint.unwrap_or_default())
        })
        .collect()
}

#[test]
fn names_of_models_and_servers_that_the_file_lacks_are_known_in_advance() {
    let file = r#"{"models": {"fast": {"api": "scripted", "replies": []}, "good": {"api": "openai", "model": "m", "key": "@secret('k')"}},
        "mcpServers": {"docs": {"url": "http://s"}}}"#;
    let agent = |inputs: &str| format!(r#"{{"A": {{"type": "Agent", "inputs": {inputs}}}}}"#);
    for (actions, expected) in [
        (r#"{"A": {"type": "AI", "inputs": {"model": "fsat", "prompt": "x"}}}"#.to_owned(),
            "/actions/A/inputs/model: the connections file has no model `fsat` (did you mean `fast`?)"),
        (r#"{"A": {"type": "AI", "inputs": {"prompt": "x"}}}"#.to_owned(),
            "/actions/A/inputs: the action names no model (it defines: `fast`, `good`)"),
        (agent(r#"{"parameters": {"modelId": "other"}}"#),
            "/actions/A/inputs/parameters/modelId: the connections file has no model `other` (it defines: `fast`, `good`)"),
        (agent(r#"{"parameters": {"deploymentId": "slow"}, "modelConfigurations": {"model1": {"referenceName": "agent"}}}"#),
            "/actions/A/inputs/modelConfigurations/model1/referenceName: the connections file has no model `agent` or `slow` (it defines: `fast`, `good`)"),
        (r#"{"A": {"type": "GroupChat", "inputs": {"initialMessage": "x", "participants": {"P": {"agent": {"modelId": "gud", "messages": []}}}}}}"#.to_owned(),
            "/actions/A/inputs/participants/P/agent/modelId: the connections file has no model `gud` (it defines: `fast`, `good`)"),
        (r#"{"A": {"type": "McpClientTool", "inputs": {"server": "dosc", "tool": "t"}}}"#.to_owned(),
            "/actions/A/inputs/server: the connections file has no MCP server `dosc` (did you mean `docs`?)"),
    ] {
        assert_eq!(unknown_names(file, &actions), [expected]);
    }
    for actions in [
        r#"{"A": {"type": "AI", "inputs": {"model": "FAST", "prompt": "x"}}}"#.to_owned(),
        r#"{"A": {"type": "AI", "inputs": {"model": "@concat('f', 'ast')", "prompt": "x"}}}"#.to_owned(),
        agent(r#"{"parameters": {"deploymentId": "fast"}, "modelConfigurations": {"model1": {"referenceName": "agent"}}}"#),
        agent(r#"{"parameters": {"modelId": "good"}}"#),
        r#"{"A": {"type": "McpClientTool", "inputs": {"tool": "t"}}}"#.to_owned(),
        r#"{"A": {"type": "McpClientTool", "inputs": {"Connection": {"McpServerUrl": "http://s"}, "tool": "t"}}}"#.to_owned(),
    ] {
        assert_eq!(unknown_names(file, &actions), Vec::<String>::new(), "{actions}");
    }
    let broken = r#"{"models": {"only": {"api": "scripted", "replies": [{"txt": "x"}]}}}"#;
    let problems = unknown_names(broken, &agent("{}"));
    assert!(
        problems[0].starts_with(
            "/actions/A/inputs: the model 'only' cannot be used: 'replies' is wrong: unknown field `txt`"
        ),
        "{problems:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_scripted_model_takes_its_time_for_each_word() {
    let file = |delay: &str| {
        json(&format!(
            r#"{{"models": {{"m": {{"api": "scripted", "delayPerWord": {delay}, "replies": [{{"text": "one two three four"}}]}}}}}}"#
        ))
    };
    for (delay, expected) in
        [(r#""PT0.5S""#, Duration::from_secs(2)), ("250", Duration::from_secs(1)), ("0", Duration::ZERO)]
    {
        let began = tokio::time::Instant::now();
        let report = executed(&file(delay), r#"{"prompt": "x"}"#, r#""@body('Ask')""#).await;
        assert_eq!(told(&report), "one two three four".into(), "{delay}");
        assert_eq!(began.elapsed(), expected, "{delay}");
    }
    for (delay, why) in [
        (r#""soon""#, "'delayPerWord': "),
        (r#""PT2M""#, "'delayPerWord' must be at most PT1M (got \"PT2M\")."),
    ] {
        let report =
            executed(&file(delay), r#"{"prompt": "x"}"#, r#""@actions('Ask')?['error']?['message']""#).await;
        assert!(told(&report).text().contains(why), "{delay}: {:?}", told(&report));
    }
}
