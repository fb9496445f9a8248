//! Secrets are shown nowhere: not in runs, actions, events, streams, lists or errors.

use std::sync::Arc;

use loom_engine::{Secret, SecretFuture, SecretSource};
use loom_expression::Value;
use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, requested, text};

const SECRET: &str = "hunter2-the-secret";

/// What a caller sends to a trigger whose outputs may be secured.
const GIVEN: &str = "given-by-the-caller";

/// Everything that the API shows about a run, as one string.
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
    assert!(all.contains("*sanitized*"), "something was redacted");
    all
}

#[tokio::test]
async fn secure_parameters_are_redacted_everywhere() {
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
    assert!(all.contains("Spoilt"), "the run reached its last action");
    // The service received the real value.
    assert_eq!(mock.requests()[0].header("x-key"), Some(SECRET));
    mock.stop().await;
}

#[tokio::test]
async fn secure_inputs_and_outputs_are_redacted_with_everything_that_mentions_them() {
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
async fn a_secure_trigger_is_redacted() {
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
async fn credentials_are_redacted() {
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

/// A workflow that reads the response of `Fetch` in indirect ways, with these properties beside its inputs.
fn evading(base: &str, secure: &str) -> String {
    requested(&format!(
        r#"{{"Scope": {{"type": "Scope", "runAfter": {{}}, "actions": {{
                "Fetch": {{"type": "Http", "runAfter": {{}}, {secure} "inputs": {{"method": "GET", "uri": "{base}/a"}}}}}}}},
            "Computed": {{"type": "Compose", "runAfter": {{"Scope": ["Succeeded"]}}, "inputs": "@outputs(concat('Fe', 'tch'))?['body']"}},
            "Result": {{"type": "Compose", "runAfter": {{"Scope": ["Succeeded"]}}, "inputs": "@result('Scope')"}},
            "Picked": {{"type": "Query", "runAfter": {{"Scope": ["Succeeded"]}},
                "inputs": {{"from": "@body(concat('Fe', 'tch'))?['keys']", "where": "@not(empty(item()))"}}}},
            "Each": {{"type": "Foreach", "runAfter": {{"Scope": ["Succeeded"]}}, "foreach": "@body(concat('Fe', 'tch'))?['keys']", "actions": {{
                "Item": {{"type": "Compose", "runAfter": {{}}, "inputs": "it is @{{item()}}"}}}}}},
            "Stop": {{"type": "Terminate", "runAfter": {{"Each": ["Succeeded"], "Computed": ["Succeeded"], "Result": ["Succeeded"], "Picked": ["Succeeded"]}},
                "inputs": {{"runStatus": "Failed", "runError": {{
                    "code": "@{{outputs(concat('Fe', 'tch'))?['body']?['keys'][0]}}",
                    "message": "@{{outputs(concat('Fe', 'tch'))?['body']?['keys'][0]}}"}}}}}}}}"#
    ))
}

/// Only labels can hide this value: it was not read as a secret, so masking by value does not know it.
#[tokio::test]
async fn no_spelling_of_an_expression_evades_secure_outputs() {
    let world = World::new().await;
    let rules =
        format!(r#"{{"rules": [{{"path": "/**", "response": {{"body": {{"keys": ["{SECRET}"]}}}}}}]}}"#);
    let mock = Mock::start(&json(&rules)).await.unwrap();
    let base = mock.base_url();
    let secured = r#""runtimeConfiguration": {"secureData": {"properties": ["outputs"]}},"#;
    for (name, secure, is_shown) in [("secured", secured, false), ("open", "", true)] {
        world.deploy(name, &evading(&base, secure)).await;
        let run = world.invoke(name, "").await;
        let ended = world.ended(&run).await;
        assert_eq!(text(&ended, "status"), "Failed");
        let mut places = vec![format!("/api/v1/runs/{run}")];
        for action in ["Fetch", "Computed", "Result", "Picked", "Item"] {
            places.push(format!("/api/v1/runs/{run}/actions/{action}"));
        }
        for place in places {
            let reply = world.get(&place).await;
            assert_eq!(reply.status, 200, "{place}");
            assert_eq!(reply.text().contains(SECRET), is_shown, "{name}: {place}: {}", reply.text());
        }
        assert_eq!(everything(&world, &run).await.contains(SECRET), is_shown, "{name}");
        let runs = world.get(&format!("/api/v1/runs?workflow={name}")).await;
        assert_eq!(runs.text().contains(SECRET), is_shown, "{name}: {}", runs.text());
    }
    mock.stop().await;
}

/// A provider with one secret.
struct Safe;

impl SecretSource for Safe {
    fn read<'a>(&'a self, name: &'a str, _: Option<&'a str>) -> SecretFuture<'a> {
        Box::pin(std::future::ready(Ok(Secret { value: SECRET.into(), name: name.into(), version: None })))
    }
}

/// A service may send a secret back without a label. Once a run has read the secret, its value is masked in everything that
/// people read, and in nothing that is sent.
#[tokio::test]
async fn a_secret_that_a_service_sends_back_is_masked() {
    let mut plan = Plan::default();
    plan.environment.secrets = Some(Arc::new(Safe));
    let world = World::start(plan).await;
    let encoded = "aHVudGVyMi10aGUtc2VjcmV0";
    let rules = format!(
        r#"{{"rules": [{{"path": "/**", "response": {{"body": {{"it": "is {SECRET}", "encoded": "{encoded}"}}}}}}]}}"#
    );
    let mock = Mock::start(&json(&rules)).await.unwrap();
    let base = mock.base_url();
    let calling = |body: &str| {
        requested(&format!(
            r#"{{"Call": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/a", "body": {body}}}}},
                "Say": {{"type": "Compose", "runAfter": {{"Call": ["Succeeded"]}}, "inputs": "@body('Call')"}},
                "Answer": {{"type": "Response", "runAfter": {{"Say": ["Succeeded"]}}, "inputs": {{"statusCode": 200, "body": "@body('Call')"}}}}}}"#
        ))
    };
    world.deploy("before", &calling("1")).await;
    world.deploy("reading", &calling(r#""@secret('key')""#)).await;

    let before = world.invoke("before", "").await;
    world.ended(&before).await;
    // The control: no run has read the secret yet, so its value is not masked.
    let shown = everything(&world, &before).await;
    assert!(shown.contains(SECRET) && shown.contains(encoded), "{shown}");

    let reply = world.post("/workflows/reading/triggers/manual/invoke", "").await;
    assert!(reply.text().contains(SECRET), "a Response is not changed: {}", reply.text());
    let run = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
    for run in [&run, &before] {
        let shown = check(&world, run).await;
        assert!(!shown.contains(encoded), "{shown}");
    }
    assert!(String::from_utf8_lossy(&mock.requests()[1].body).contains(SECRET), "a request is not changed");
    mock.stop().await;
}

/// Every route of the API is masked: JSON stays JSON, and other content is masked as text.
#[tokio::test]
async fn every_route_of_the_api_masks_secrets() {
    let world = World::new().await;
    let workflow = requested(&format!(
        r#"{{"Say": {{"type": "Compose", "runAfter": {{}}, "inputs": "{SECRET} \"quoted\""}}}}"#
    ));
    world.deploy(SECRET, &workflow).await;
    let run = world.run(SECRET, "").await;
    let run = text(&run, "id").to_owned();
    let paths = [
        "/api/v1/workflows".to_owned(),
        "/metrics".to_owned(),
        "/api/v1/runs".to_owned(),
        format!("/api/v1/runs/{run}/actions/Say"),
        format!("/api/v1/runs/{run}/events"),
    ];
    for path in &paths {
        assert!(world.get(path).await.text().contains(SECRET), "the control: {path}");
    }
    world.host.engine().masker().learn(&Value::from(SECRET).into_secret());
    for path in &paths {
        let reply = world.get(path).await;
        let reported = reply.text();
        assert!(!reported.contains(SECRET) && reported.contains("*sanitized*"), "{path}: {reported}");
        if path != "/metrics" {
            reply.json();
        }
    }
    let streamed: String = world.events(&run, 0).await.iter().map(Value::to_json_text).collect();
    assert!(!streamed.contains(SECRET) && streamed.contains("*sanitized*"), "{streamed}");
}

/// What is redacted follows from the definition, from the trigger that fired, which only the first event names, and from labels.
/// A page or a stream that begins in the middle of a history shows each event exactly as one that begins at its start.
#[tokio::test]
async fn an_event_is_redacted_in_the_same_way_on_every_page() {
    let mut plan = Plan::default();
    plan.host.parameters.insert("key", SECRET);
    let world = World::start(plan).await;
    let secure = r#""runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}"#;
    // The first trigger of a definition is the one that a reader would assume.
    for (first, second) in [("safe", "open"), ("open", "safe")] {
        let trigger = |name: &str| {
            let secure = if name == "safe" { format!(", {secure}") } else { String::new() };
            format!(r#""{name}": {{"type": "Request"{secure}}}"#)
        };
        let workflow = format!(
            r#"{{"definition": {{
                "parameters": {{"key": {{"type": "securestring"}}}},
                "triggers": {{{}, {}}},
                "actions": {{
                    "Keep": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "v", "type": "string", "value": "@triggerBody()?['given']"}}]}}, "runAfter": {{}}}},
                    "Each": {{"type": "Foreach", "foreach": "@triggerBody()?['list']", "runAfter": {{"Keep": ["Succeeded"]}}, "actions": {{
                        "Item": {{"type": "Compose", "inputs": "@concat(item(), triggerBody()?['given'])", "runAfter": {{}}}},
                        "Key": {{"type": "Compose", "inputs": "@parameters('key')", "runAfter": {{}}}}}}}},
                    "Answer": {{"type": "Response", "inputs": {{"body": "@triggerBody()"}}, "runAfter": {{"Each": ["Succeeded"]}}}}
                }}}}}}"#,
            trigger(first),
            trigger(second)
        );
        world.deploy("paged", &workflow).await;
        for (fired, shows) in [("open", true), ("safe", false)] {
            let path = format!("/workflows/paged/triggers/{fired}/invoke");
            let given = format!(r#"{{"given": "{GIVEN}", "list": ["a", "b", "c"]}}"#);
            let reply = world.post(&path, &given).await;
            let run = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
            world.ended(&run).await;
            let page = async |after: usize, limit: usize| {
                let path = format!("/api/v1/runs/{run}/events?after={after}&limit={limit}");
                let reply = world.get(&path).await;
                assert!(!reply.text().contains(SECRET), "{path}: {}", reply.text());
                crate::support::list(&reply.json(), "events").to_vec()
            };
            let whole = page(0, 1_000).await;
            assert!(whole.len() > 15, "{whole:?}");
            let text = Value::from(whole.clone()).to_json_text();
            assert_eq!(text.contains(GIVEN), shows, "{first} first, {fired} fired: {text}");
            for after in 0..whole.len() {
                assert_eq!(page(after, 1).await, whole[after..=after], "{first} first, {fired} fired");
                let streamed = world.events(&run, after as u64).await;
                assert_eq!(streamed, whole[after..], "{first} first, {fired} fired: after {after}");
            }
        }
    }
}
