//! What is secret is shown nowhere: not in runs, actions, events, streams, lists or errors.

use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, requested, text};

const SECRET: &str = "hunter2-the-secret";

/// Everything that can be read about a run, as one text.
async fn everything(world: &World, run: &str) -> String {
    let mut all = String::new();
    let mut paths = vec![
        "/api/v1/runs".to_owned(),
        format!("/api/v1/runs/{run}"),
        format!("/api/v1/runs/{run}/actions"),
        format!("/api/v1/runs/{run}/events"),
        "/metrics".to_owned(),
    ];
    let actions = world.get(&paths[2]).await.json();
    for action in crate::support::list(&actions, "actions") {
        paths.push(format!("/api/v1/runs/{run}/actions/{}", text(action, "name")));
    }
    for path in paths {
        let reply = world.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        all.push_str(&reply.text());
        all.push('\n');
    }
    for event in world.events(run, 0).await {
        all.push_str(&event.to_json_text());
    }
    all
}

async fn check(world: &World, run: &str) -> String {
    world.events(run, 0).await;
    let all = everything(world, run).await;
    if let Some(place) = all.find(SECRET) {
        let from = all[..place].rfind(['\n', ',']).unwrap_or(0);
        panic!("the secret is shown: {}", &all[from..place + SECRET.len()]);
    }
    assert!(all.contains("*sanitized*"), "something was hidden");
    all
}

#[tokio::test]
async fn secure_parameters_are_hidden_wherever_they_go() {
    let mut plan = Plan::default();
    plan.host.parameters.insert("key", SECRET);
    let world = World::start(plan).await;
    let mock =
        Mock::start(&json(r#"{"rules": [{"path": "/**", "response": {"body": {"a": 1}}}]}"#)).await.unwrap();
    let base = mock.base_url();
    let workflow = format!(
        r#"{{"definition": {{
            "parameters": {{"key": {{"type": "securestring"}}}},
            "triggers": {{"manual": {{"type": "Request"}}}},
            "actions": {{
                "Say": {{"type": "Compose", "inputs": "key=@{{parameters('key')}}", "runAfter": {{}}}},
                "Keep": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "v", "type": "string", "value": "@parameters('key')"}}]}}, "runAfter": {{}}}},
                "Add": {{"type": "AppendToStringVariable", "inputs": {{"name": "v", "value": "@toUpper(parameters('key'))"}}, "runAfter": {{"Keep": ["Succeeded"]}}}},
                "Call": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/a?key=@{{parameters('key')}}",
                    "headers": {{"x-key": "@parameters('key')"}}, "body": {{"key": "@parameters('key')"}}}}}},
                "Wrong": {{"type": "Compose", "inputs": "@int(parameters('key'))", "runAfter": {{}}}},
                "Parse": {{"type": "ParseJson", "runAfter": {{}}, "inputs": {{"content": {{"a": "@parameters('key')"}}, "schema": {{"properties": {{"a": {{"type": "integer"}}}}}}}}}},
                "Each": {{"type": "Foreach", "foreach": "@createArray(parameters('key'), 1)", "runAfter": {{}}, "actions": {{
                    "Item": {{"type": "Compose", "inputs": "@item()", "runAfter": {{}}}}}}}},
                "Choose": {{"type": "Switch", "expression": "@parameters('key')", "runAfter": {{}}, "cases": {{}}, "default": {{"actions": {{}}}}}},
                "Stop": {{"type": "Terminate", "runAfter": {{"Wrong": ["Failed"], "Call": ["Succeeded", "Failed"], "Add": ["Succeeded"], "Parse": ["Failed"], "Each": ["Succeeded"]}},
                    "inputs": {{"runStatus": "Failed", "runError": {{"code": "Spoilt", "message": "not @{{parameters('key')}}"}}}}}}
            }},
            "outputs": {{"o": {{"type": "string", "value": "@parameters('key')"}}}}}}}}"#
    );
    world.deploy("secret", &workflow).await;
    let run = world.invoke("secret", "").await;
    let all = check(&world, &run).await;
    assert!(all.contains("Spoilt"), "the run went to its end");
    // The service got what it needed.
    assert_eq!(mock.requests()[0].header("x-key"), Some(SECRET));
    mock.stop().await;
}

#[tokio::test]
async fn secure_inputs_and_outputs_are_hidden_and_so_is_what_mentions_them() {
    let world = World::new().await;
    let rules = format!(
        r#"{{"rules": [{{"path": "/**", "response": {{"headers": {{"x-key": "{SECRET}"}}, "body": {{"key": "{SECRET}"}}}}}}]}}"#
    );
    let mock = Mock::start(&json(&rules)).await.unwrap();
    let base = mock.base_url();
    let secure =
        |what: &str| format!(r#""runtimeConfiguration": {{"secureData": {{"properties": [{what}]}}}}"#);
    let (both, inputs) = (secure(r#""inputs", "outputs""#), secure(r#""inputs""#));
    let workflow = requested(&format!(
        r#"{{"Fetch": {{"type": "Http", "runAfter": {{}}, {both}, "inputs": {{"method": "POST", "uri": "{base}/{SECRET}", "body": "{SECRET}"}}}},
            "Use": {{"type": "Http", "runAfter": {{"Fetch": ["Succeeded"]}}, {both}, "inputs": {{"method": "POST", "uri": "{base}/b", "body": "@body('Fetch').key"}}}},
            "Say": {{"type": "Compose", "runAfter": {{"Fetch": ["Succeeded"]}}, "inputs": "@outputs('Fetch')"}},
            "Hold": {{"type": "Compose", "runAfter": {{}}, {inputs}, "inputs": "{SECRET}"}},
            "Again": {{"type": "Compose", "runAfter": {{"Hold": ["Succeeded"]}}, "inputs": "again @{{outputs('Hold')}}"}},
            "Keep": {{"type": "InitializeVariable", "runAfter": {{"Fetch": ["Succeeded"]}}, "inputs": {{"variables": [{{"name": "v", "type": "string", "value": "@{{body('Fetch').key}}"}}]}}}},
            "Fail": {{"type": "Compose", "runAfter": {{"Fetch": ["Succeeded"]}}, "inputs": "@int(body('Fetch').key)"}},
            "Answer": {{"type": "Response", "runAfter": {{"Use": ["Succeeded"]}}, "inputs": {{"body": "@body('Fetch')"}}}}}}"#
    ));
    world.deploy("secret", &workflow).await;
    let run = world.invoke("secret", "").await;
    check(&world, &run).await;
    mock.stop().await;
}

#[tokio::test]
async fn a_secure_trigger_is_hidden() {
    let world = World::new().await;
    let workflow = r#"{"definition": {
        "triggers": {"manual": {"type": "Request", "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}}},
        "actions": {"Say": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}},
            "Query": {"type": "Query", "inputs": {"from": "@triggerOutputs()?['body']?['list']", "where": "@equals(1, 1)"}, "runAfter": {}}}}}"#;
    world.deploy("secret", workflow).await;
    let run = world.invoke("secret", &format!(r#"{{"key": "{SECRET}", "list": []}}"#)).await;
    check(&world, &run).await;
}

#[tokio::test]
async fn credentials_are_hidden() {
    let world = World::new().await;
    let mock = Mock::start(&json(r#"{"rules": [{"path": "/**", "response": {"body": 1}}]}"#)).await.unwrap();
    let base = mock.base_url();
    let workflow = format!(
        r#"{{"definition": {{
        "triggers": {{"manual": {{"type": "Request", "operationOptions": "IncludeAuthorizationHeadersInOutputs"}}}},
        "actions": {{
            "Header": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "GET", "uri": "{base}/a", "headers": {{"AUTHORIZATION": "Bearer {SECRET}"}}}}}},
            "Basic": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "GET", "uri": "{base}/b",
                "authentication": {{"type": "Basic", "username": "me", "password": "{SECRET}"}}}}}},
            "Raw": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "GET", "uri": "{base}/c",
                "authentication": {{"type": "Raw", "value": "{SECRET}"}}}}}}}}}}}}"#
    );
    world.deploy("secret", &workflow).await;
    let authorization = format!("Bearer {SECRET}");
    let headers = [("authorization", authorization.as_str())];
    let path = "/workflows/secret/triggers/manual/invoke";
    let reply = world.send(hyper::Method::POST, path, &headers, "").await.whole().await;
    let run = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
    check(&world, &run).await;
    mock.stop().await;
}
