//! Connections with a description: whole runs, triggers and credentials against a mock, with the descriptions of
//! `conformance/connectors`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use loom_actions::{Connections, Settings, Sources, TriggerRequests, request_handlers, requests};
use loom_definition::{Definition, LoadOptions, RunStatus};
use loom_engine::{
    Callbacks, Delivered, Engine, Environment, Event, RunReport, RunRequest, RunState, Started, Watcher,
    clock::SystemClock,
    event::{EffectResult, Next, Outcome},
    ports::{TriggerCall, TriggerHandler as _, TriggerPurpose},
};
use loom_expression::{Object, Value};
use loom_testkit::mock::Mock;

use crate::{
    engine::output,
    support::{json, mock},
};

fn descriptions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/connectors")
}

fn settings(connections: &str, mock: &Mock) -> Settings {
    let file = json(&connections.replace("{base}", &mock.base_url()));
    let sources = Sources { directory: Some(descriptions()), ..Sources::default() };
    Settings { connections: Connections::from_json(&file, &sources).unwrap(), ..Settings::default() }
}

const NOTES: &str = r#"{"connections": {"shared_notes": {"description": "notes.swagger.json", "baseUrl": "{base}/api",
    "headers": {"x-operator": "7"}, "parameters": {"api_key": "k1"}}}}"#;

/// `inputs` of an operation of the notes, as an exported flow has them.
fn notes(operation: &str, parameters: &str) -> String {
    format!(
        r#"{{"host": {{"connectionName": "shared_notes_1", "operationId": "{operation}", "apiId": "/providers/Microsoft.PowerApps/apis/shared_notes"}},
            "parameters": {parameters}}}"#
    )
}

async fn executed(connections: &str, actions: &str, outputs: &str, mock: &Mock) -> Arc<RunReport> {
    let requests = requests(settings(connections, mock), Arc::new(SystemClock)).unwrap();
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    let text = format!(
        r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}, "outputs": {outputs}}}}}"#
    );
    let loaded = Definition::parse_text(&text, &LoadOptions::default()).unwrap();
    let report = builder.build().run(RunRequest::manual(loaded.workflow, Vec::new(), None)).await.unwrap();
    report.expect("the run ends")
}

#[tokio::test]
async fn described_operations_are_called_with_their_policies() {
    let mock = mock(
        r#"[{"method": "GET", "path": "/api/notes/7/meta", "headers": {"x-key": "Key k1", "x-operator": "7"}, "response": {"body": {"@etag": "e1"}}, "calls": 1},
            {"method": "PATCH", "path": "/api/notes/7", "headers": {"x-key": "Key k1", "if-match": "e1", "content-type": "application/json"},
             "body": {"links": {"a%2Eb": {"@type": "link to a.b"}}}, "response": {"body": {"links": {"a": {"x": 1}}}}, "calls": 1},
            {"method": "GET", "path": "/api/folders/a%252Fb/notes", "query": {"api-version": "2026-01", "top": "5"}, "response": {"body": {"notes": []}}, "calls": 1},
            {"method": "GET", "path": "/api/notes/3", "query": {"client": "loom"}, "headers": {"x-key": "Key k1"}, "response": {"body": "three"}, "calls": 1}]"#,
    )
    .await;
    let actions = format!(
        r#"{{"Update": {{"type": "OpenApiConnection", "inputs": {}}},
            "List": {{"type": "OpenApiConnection", "inputs": {}}},
            "Path": {{"type": "ApiConnection", "inputs": {{"host": {{"connection": {{"name": "@parameters('$connections')['notes']['connectionId']"}}}}, "method": "get", "path": "/notes/3"}}}}}}"#,
        notes("UpdateNote", r#"{"id": "@add(3, 4)", "body/links": [{"url": "a.b"}]}"#),
        notes("ListNotes", r#"{"folder": "a/b", "top": "5"}"#),
    );
    let actions =
        actions.replace("@parameters('$connections')['notes']['connectionId']", "/connections/shared_notes");
    let outputs = r#"{"update": {"type": "object", "value": "@outputs('Update')"}, "path": {"type": "string", "value": "@body('Path')"}}"#;
    let report = executed(NOTES, &actions, outputs, &mock).await;
    assert_eq!(mock.problems(), Vec::<String>::new());
    let update = output(&report, "update");
    assert_eq!(update.get("body"), Some(&json(r#"{"links": [{"url": "a", "link": {"x": 1}}]}"#)));
    assert_eq!(update.get("headers").unwrap().get("X-From").and_then(Value::as_str), Some("eu"));
    assert_eq!(output(&report, "path"), "three".into());
}

#[tokio::test]
async fn wrong_arguments_are_refused_before_anything_is_sent() {
    let mock = mock("[]").await;
    for (operation, parameters, code, part) in [
        (
            "GetNote",
            r#"{"id": "seven"}"#,
            "OpenApiOperationParameterValidationFailed",
            "`id` must be an integer, found a string",
        ),
        (
            "GetNote",
            r#"{"idd": 1}"#,
            "OpenApiOperationParameterValidationFailed",
            "unknown parameter `idd`; did you mean `id`?",
        ),
        ("GetNot", "{}", "OpenApiOperationNotFound", "did you mean `GetNote`?"),
        ("Scripted", "{}", "OperationNotSupported", "script in C#"),
    ] {
        let actions = format!(
            r#"{{"Call": {{"type": "OpenApiConnection", "inputs": {}}},
                "Look": {{"type": "Compose", "runAfter": {{"Call": ["Failed"]}}, "inputs": "@actions('Call')['error']"}}}}"#,
            notes(operation, parameters)
        );
        let outputs = r#"{"error": {"type": "object", "value": "@outputs('Look')"}}"#;
        let report = executed(NOTES, &actions, outputs, &mock).await;
        let error = output(&report, "error");
        assert_eq!(error.get("code").and_then(Value::as_str), Some(code));
        assert!(error.get("message").unwrap().text().contains(part), "{error:?}");
    }
    assert!(mock.requests().is_empty());
}

#[tokio::test]
async fn pages_are_followed_by_the_names_of_the_description() {
    let mock = mock(
        r#"[{"method": "GET", "path": "/api/folders/f/notes", "query": {"api-version": "2026-01"}, "response": {"body": {"notes": [1, 2], "next": "/api/more"}}, "calls": 1},
            {"method": "GET", "path": "/api/more", "headers": {"x-key": "Key k1"}, "response": {"body": {"notes": [3]}}, "calls": 1}]"#,
    )
    .await;
    let actions = format!(
        r#"{{"List": {{"type": "OpenApiConnection", "runtimeConfiguration": {{"paginationPolicy": {{"minimumItemCount": 10}}}}, "inputs": {}}}}}"#,
        notes("ListNotes", r#"{"folder": "f"}"#)
    );
    let report =
        executed(NOTES, &actions, r#"{"body": {"type": "object", "value": "@body('List')"}}"#, &mock).await;
    assert_eq!(output(&report, "body"), json(r#"{"notes": [1, 2, 3]}"#));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn tokens_are_fetched_once_and_refreshed() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/token", "responses": [
                {"body": {"access_token": "t1", "expires_in": 3600, "refresh_token": "r2"}},
                {"body": {"access_token": "t2", "expires_in": 3600}}], "calls": 2},
            {"method": "GET", "path": "/orders", "responses": [{"body": 1}, {"body": 2}, {"status": 401}, {"body": 3}], "calls": 4}]"#,
    )
    .await;
    let connections = r#"{"connections": {"shop": {"description": "shop.openapi.json", "baseUrl": "{base}", "parameters": {
        "clientId": "c", "clientSecret": "s", "refreshToken": "r1", "tokenUrl": "{base}/token"}}}}"#;
    let call = r#"{"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shop", "operationId": "FindOrders"}, "parameters": {}}"#;
    let actions = format!(
        r#"{{"A": {call}}}, "B": {call}, "runAfter": {{"A": ["Succeeded"]}}}}, "C": {call}, "runAfter": {{"B": ["Succeeded"]}}}}}}"#
    );
    let report =
        executed(connections, &actions, r#"{"c": {"type": "int", "value": "@body('C')"}}"#, &mock).await;
    assert_eq!(output(&report, "c"), Value::from(3));
    assert_eq!(mock.problems(), Vec::<String>::new());
    let seen: Vec<String> = mock
        .requests()
        .iter()
        .map(|request| match request.path.as_str() {
            "/token" => String::from_utf8_lossy(&request.body).into_owned(),
            _ => request.header("authorization").unwrap().to_owned(),
        })
        .collect();
    assert_eq!(
        seen,
        [
            "client_id=c&client_secret=s&grant_type=refresh_token&refresh_token=r1&scope=orders+read",
            "Bearer t1",
            "Bearer t1",
            "Bearer t1",
            "client_id=c&client_secret=s&grant_type=refresh_token&refresh_token=r2&scope=orders+read",
            "Bearer t2",
        ]
    );
}

/// A webhook action is subscribed with the address for notifications where the description has it, and unsubscribed at the
/// `Location` of the response, or by the operation that the description pairs with it.
#[tokio::test]
async fn subscriptions_end_as_the_description_says() {
    for (response, path) in [
        (r#"{"status": 201, "headers": {"Location": "/api/hooks/at/9"}}"#, "/api/hooks/at/9"),
        (r#"{"status": 201, "body": {"hook": 5}}"#, "/api/hooks/5"),
    ] {
        let mock = mock(&format!(
            r#"[{{"method": "POST", "path": "/api/hooks", "headers": {{"x-key": "Key k1"}}, "response": {response}, "calls": 1}},
                {{"method": "DELETE", "path": "{path}", "headers": {{"x-key": "Key k1"}}, "response": {{"status": 204}}, "calls": 1}}]"#
        ))
        .await;
        let requests = requests(settings(NOTES, &mock), Arc::new(SystemClock)).unwrap();
        let callbacks = Callbacks::new("http://here/callbacks", [7; 32]);
        let mut builder = Engine::builder()
            .environment(Environment { callbacks: Some(callbacks.clone()), ..Environment::default() });
        for (kind, handler) in request_handlers(&requests) {
            builder = builder.handler(kind, handler);
        }
        let engine = builder.store(Arc::new(loom_store::MemoryStore::default())).build();
        let flow = format!(
            r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{"Watch": {{"type": "OpenApiConnectionWebhook", "inputs": {}}}}}}}}}"#,
            notes("WatchNotes", "{}")
        );
        let loaded = Definition::parse_text(&flow, &LoadOptions::default()).unwrap();
        let confirmed = Arc::new(Confirmed::default());
        let watcher = Arc::clone(&confirmed) as Arc<dyn Watcher>;
        let started = engine.start(RunRequest::manual(loaded.workflow, Vec::new(), None), Some(&watcher));
        let Ok(Started::Runs(mut runs)) = started else { panic!("no run started") };
        let mut run = runs.remove(0);
        let until = async |count: usize| {
            while mock.requests().len() < count {
                tokio::task::yield_now().await;
            }
        };
        until(1).await;
        let sent = json(&String::from_utf8_lossy(&mock.requests()[0].body));
        assert_eq!(sent.get("kind").and_then(Value::as_str), Some("note"));
        let address = sent.get("target").unwrap().get("url").unwrap().text().into_owned();
        let (named, effect) = callbacks.recognize(address.rsplit_once('/').unwrap().1).expect("it is ours");
        assert_eq!(named, run.id);
        // Until the run has the response to its subscription.
        while !confirmed.0.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.deliver(run.id, effect, json("{}")).await, Delivered::Taken);
        assert_eq!(run.ended().await.map(|report| report.status), Some(RunStatus::Succeeded));
        until(2).await;
        assert_eq!(mock.problems(), Vec::<String>::new());
        engine.shut_down().await;
    }
}

/// Whether a subscription was confirmed.
#[derive(Default)]
struct Confirmed(AtomicBool);

impl Watcher for Confirmed {
    fn events(&self, _: &RunState, events: &[Event]) {
        if events.iter().any(|event| matches!(event, Event::AttemptEnded { next: Next::Callback, .. })) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn trigger_call(ask: TriggerPurpose, inputs: &str) -> TriggerCall {
    TriggerCall {
        workflow: "w".into(),
        version: "1".into(),
        trigger: "t".into(),
        ask,
        through_connection: true,
        inputs: json(inputs),
        callback: None,
        address: None,
        idempotency_key: "k".into(),
        tracking_id: "i".into(),
    }
}

async fn triggered(triggers: &TriggerRequests, call: &TriggerCall) -> Outcome {
    let EffectResult::Done { outcome, .. } = triggers.call(call).await else { panic!("it is not final") };
    outcome
}

/// The state of a polled trigger is in the `Location` of its responses, which the server stores with the runs that they
/// start.
#[tokio::test]
async fn polls_carry_their_state() {
    let mock = mock(
        r#"[{"method": "GET", "path": "/api/events", "responses": [
            {"body": {"notes": [{"created": "t 1"}]}}, {"body": {"notes": []}}, {"body": {"notes": [{"created": "t 2"}, {"created": "t 1"}]}}, {"body": {"notes": []}}], "calls": 4}]"#,
    )
    .await;
    let requests = requests(settings(NOTES, &mock), Arc::new(SystemClock)).unwrap();
    let triggers = TriggerRequests::new(&requests);
    let mut call = trigger_call(TriggerPurpose::Poll, &notes("OnNote", "{}"));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let outputs = triggered(&triggers, &call).await.outputs.unwrap();
        let location = outputs.get("headers").unwrap().get("Location").unwrap().text().into_owned();
        seen.push(format!("{} {location}", outputs.get("statusCode").unwrap().text()));
        call.address = Some(location.into());
    }
    // The first poll finds out where the service is, and a poll without items starts no run.
    assert_eq!(seen, ["202 ?since=t+1", "202 ?since=t+1", "200 ?since=t+2", "202 ?since=t+2"]);
    let queries: Vec<String> = mock.requests().iter().map(|request| request.query.clone()).collect();
    assert_eq!(queries, ["", "since=t%201", "since=t%201", "since=t%202"]);
}

#[tokio::test]
async fn triggers_subscribe_and_unsubscribe() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/api/hooks", "body": {"kind": "note", "target": {"url": "https://loom/c"}}, "response": {"status": 201, "body": {"hook": "h/1"}}, "calls": 1},
            {"method": "DELETE", "path": "/api/hooks/h%2F1", "headers": {"x-key": "Key k1"}, "response": {"status": 204}, "calls": 1}]"#,
    )
    .await;
    let requests = requests(settings(NOTES, &mock), Arc::new(SystemClock)).unwrap();
    let triggers = TriggerRequests::new(&requests);
    let inputs = notes("WatchNotes", "{}");
    let mut subscribe = trigger_call(TriggerPurpose::Subscribe, &inputs);
    subscribe.callback = Some("https://loom/c".into());
    let outputs = triggered(&triggers, &subscribe).await.outputs.unwrap();
    let mut unsubscribe = trigger_call(TriggerPurpose::Unsubscribe, &inputs);
    let mut with_response: Object = unsubscribe.inputs.as_object().unwrap().clone();
    with_response.insert("$subscribed", outputs);
    unsubscribe.inputs = with_response.into();
    triggered(&triggers, &unsubscribe).await;
    assert_eq!(mock.problems(), Vec::<String>::new());
    // An operation without a place for the address cannot be subscribed to.
    let mut other = trigger_call(TriggerPurpose::Subscribe, &notes("GetNote", r#"{"id": 1}"#));
    other.callback = Some("https://loom/c".into());
    let error = triggered(&triggers, &other).await.error.unwrap();
    assert!(error.message.contains("x-ms-notification-url"), "{}", error.message);
}

#[tokio::test]
async fn addresses_of_descriptions_are_subject_to_the_egress_rules() {
    let mock = mock("[]").await;
    // The description itself names the address: its author is not the operator.
    let directory = tempfile::tempdir().unwrap();
    let host = mock.base_url().replace("http://", "");
    let document = format!(
        r#"{{"swagger": "2.0", "host": "{host}", "schemes": ["http"], "paths": {{"/x": {{"get": {{"operationId": "X"}}}}}}}}"#
    );
    std::fs::write(directory.path().join("inner.swagger.json"), document).unwrap();
    let sources = Sources { directory: Some(directory.path().to_path_buf()), ..Sources::default() };
    let file = json(r#"{"connections": {"inner": {"description": "inner.swagger.json"}}}"#);
    let egress = loom_actions::Egress::default().block_private(true);
    let settings = Settings {
        connections: Connections::from_json(&file, &sources).unwrap(),
        egress,
        ..Settings::default()
    };
    let requests = requests(settings, Arc::new(SystemClock)).unwrap();
    let call =
        trigger_call(TriggerPurpose::Poll, r#"{"host": {"connectionName": "inner", "operationId": "X"}}"#);
    let outcome = triggered(&TriggerRequests::new(&requests), &call).await;
    assert_eq!(outcome.status, loom_definition::Status::Failed);
    assert!(mock.requests().is_empty());
}

#[test]
fn calls_are_checked_before_they_are_made() {
    let file = json(
        r#"{"connections": {"shared_notes": {"description": "notes.swagger.json"}, "broken": {"description": "none.json"}}}"#,
    );
    let sources = Sources { directory: Some(descriptions()), ..Sources::default() };
    let connections = Connections::from_json(&file, &sources).unwrap();
    let flow = format!(
        r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "Good": {{"type": "OpenApiConnection", "inputs": {}}},
            "Bad": {{"type": "OpenApiConnection", "inputs": {}}},
            "None": {{"type": "OpenApiConnection", "inputs": {}}},
            "Path": {{"type": "ApiConnection", "inputs": {{"host": {{"connection": {{"referenceName": "shared_notes"}}}}, "method": "put", "path": "/nowhere"}}}},
            "Broken": {{"type": "OpenApiConnection", "inputs": {{"host": {{"connectionName": "broken", "operationId": "X"}}}}}}}}}}}}"#,
        notes("GetNote", r#"{"id": "@triggerBody()"}"#),
        notes("CreateNote", r#"{"folder": "@x", "note/title": "T", "note/stars": "many"}"#),
        notes("Nothing", "{}"),
    )
    .replace("\"@x\"", "\"f\"");
    let loaded = Definition::parse_text(&flow, &LoadOptions::default()).unwrap();
    let found: Vec<(String, bool)> = connections
        .check_calls(&loaded.workflow)
        .into_iter()
        .map(|problem| (format!("{}: {}", problem.pointer, problem.message), problem.is_unusable))
        .collect();
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(
        found[0],
        ("/definition/actions/Bad/inputs/parameters/note~1stars: `note/stars` must be an integer, found a string".to_owned(), false)
    );
    assert!(
        found[1]
            .0
            .contains("/None/inputs/host/operationId: connector `shared_notes` has no operation `Nothing`")
    );
    assert!(
        found[2].0.contains("/Path/inputs/path: connector `shared_notes` has no operation `PUT /nowhere`")
    );
    assert!(found[3].0.contains("none.json") && found[3].1, "{found:?}");
}
