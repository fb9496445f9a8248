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
use loom_definition::{Definition, LoadOptions, RunStatus, diagnostic::CallFault};
use loom_engine::{
    Callbacks, Delivered, Engine, Environment, Event, RunReport, RunRequest, RunState, Started, Watcher,
    clock::SystemClock,
    event::{EffectResult, Next, Outcome},
    ports::{TriggerCall, TriggerHandler as _, TriggerPurpose},
};
use loom_expression::{Object, Value};
use loom_store::{KeyQuery, MemoryStore, Store};
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

pub(crate) async fn executed(connections: &str, actions: &str, outputs: &str, mock: &Mock) -> Arc<RunReport> {
    executed_with(settings(connections, mock), actions, outputs).await
}

async fn executed_with(settings: Settings, actions: &str, outputs: &str) -> Arc<RunReport> {
    let requests = requests(settings, Arc::new(SystemClock)).unwrap();
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

/// A refresh token that an endpoint accepts once: the next one outlives the process, and no token is in the store in the clear.
#[tokio::test]
async fn a_rotated_refresh_token_outlives_the_process() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/token", "responses": [
                {"body": {"access_token": "t1", "expires_in": 3600, "refresh_token": "rotated-2"}},
                {"body": {"access_token": "t2", "expires_in": 3600, "refresh_token": "rotated-3"}},
                {"body": {"access_token": "t3", "expires_in": 3600}}], "calls": 3},
            {"method": "GET", "path": "/orders", "calls": 3}]"#,
    )
    .await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    for given in ["given-1", "given-1", "another"] {
        let connections = format!(
            r#"{{"connections": {{"shop": {{"description": "shop.openapi.json", "baseUrl": "{{base}}", "parameters": {{
                "clientId": "c", "refreshToken": "{given}", "tokenUrl": "{{base}}/token"}}}}}}}}"#
        );
        let mut settings = settings(&connections, &mock);
        settings.tokens.store = Some(Arc::clone(&store));
        let actions = r#"{"A": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shop", "operationId": "FindOrders"}, "parameters": {}}}}"#;
        let report = executed_with(settings, actions, "{}").await;
        assert_eq!(report.status, RunStatus::Succeeded);
    }
    let sent: Vec<String> = mock
        .requests()
        .iter()
        .filter(|request| request.path == "/token")
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    for (body, token) in sent.iter().zip(["given-1", "rotated-2", "another"]) {
        assert!(body.contains(&format!("refresh_token={token}")), "{body}");
    }
    assert_eq!(mock.problems(), Vec::<String>::new());
    let query = KeyQuery { namespace: "refresh-token".into(), prefix: String::new(), after: None, limit: 10 };
    let kept = store.keys(query).await.unwrap().values;
    assert_eq!(kept.len(), 1, "the last token is rotated by nobody");
    for token in ["given", "rotated", "another"] {
        assert!(!format!("{kept:?}").contains(token), "{kept:?}");
        assert!(!String::from_utf8_lossy(&kept[0].value).contains(token));
    }
}

/// A description is a file, and reading one may take long: here it is a pipe that nobody has written to yet. The only thread of
/// the runtime must be free for the task that writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_description_is_read_beside_the_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("slow.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mock = mock(r#"[{"method": "GET", "path": "/ping", "calls": 1}]"#).await;
    let file = json(&format!(
        r#"{{"connections": {{"slow": {{"description": "slow.json", "baseUrl": "{}"}}}}}}"#,
        mock.base_url()
    ));
    let sources = Sources { directory: Some(directory.path().to_path_buf()), ..Sources::default() };
    let settings =
        Settings { connections: Connections::from_json(&file, &sources).unwrap(), ..Settings::default() };
    let actions = r#"{"A": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "slow", "operationId": "Ping"}, "parameters": {}}}}"#;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        assert_eq!(executed_with(settings, actions, "{}").await.status, RunStatus::Succeeded);
    });
    tasks.spawn(async move {
        // Opening the pipe waits for the reader, so the reader is there when this is written.
        let write = move || {
            let text = r#"{"swagger": "2.0", "paths": {"/ping": {"get": {"operationId": "Ping", "responses": {}}}}}"#;
            std::fs::write(pipe, text).unwrap();
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    });
    let both = async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), both).await.expect("a task waits for ever");
    assert_eq!(mock.problems(), Vec::<String>::new());
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

/// The token endpoint of a description is its author's too, even when the operator names the service.
#[tokio::test]
async fn a_token_endpoint_of_a_description_is_subject_to_the_egress_rules() {
    let mock = mock(r#"[{"path": "/token"}, {"path": "/x"}]"#).await;
    let directory = tempfile::tempdir().unwrap();
    let document = format!(
        r#"{{"swagger": "2.0", "host": "example.com", "securityDefinitions": {{"o": {{"type": "oauth2", "flow": "application",
            "tokenUrl": "{}/token", "scopes": {{}}}}}}, "security": [{{"o": []}}], "paths": {{"/x": {{"get": {{"operationId": "X"}}}}}}}}"#,
        mock.base_url()
    );
    std::fs::write(directory.path().join("inner.swagger.json"), document).unwrap();
    let sources = Sources { directory: Some(directory.path().to_path_buf()), ..Sources::default() };
    let file = json(&format!(
        r#"{{"connections": {{"inner": {{"description": "inner.swagger.json", "baseUrl": "{}",
            "parameters": {{"clientId": "c", "clientSecret": "s"}}}}}}}}"#,
        mock.base_url()
    ));
    let called = async |deny: bool| {
        let egress = loom_actions::Egress::default().block_private(deny);
        let connections = Connections::from_json(&file, &sources).unwrap();
        let settings = Settings { connections, egress, ..Settings::default() };
        let actions = r#"{"A": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "inner", "operationId": "X"}, "parameters": {}}}}"#;
        executed_with(settings, actions, "{}").await.status
    };
    assert_eq!(called(true).await, RunStatus::Failed);
    assert!(mock.requests().is_empty(), "the credentials stay here");
    // A control: without the rule, the endpoint is asked.
    called(false).await;
    assert_eq!(mock.requests()[0].path, "/token");
}

#[tokio::test]
async fn a_link_beside_a_description_leads_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let (inside, outside) = (directory.path().join("in"), directory.path().join("out.json"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(&outside, r#"{"name": "id", "in": "query", "type": "string"}"#).unwrap();
    let document = r#"{"swagger": "2.0", "host": "example.com", "paths": {
        "/x": {"get": {"operationId": "X", "parameters": [{"$ref": "link.json"}]}},
        "/y": {"get": {"operationId": "Y", "parameters": [{"$ref": "own.json"}]}}}}"#;
    std::fs::write(inside.join("c.swagger.json"), document).unwrap();
    std::fs::copy(&outside, inside.join("own.json")).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link.json")).unwrap();
    let sources = Sources { directory: Some(inside), ..Sources::default() };
    let file = json(r#"{"connections": {"c": {"description": "c.swagger.json"}}}"#);
    let connector =
        Connections::from_json(&file, &sources).unwrap().connector("c").expect("it is there").unwrap();
    let error = connector.operation("X").unwrap_err().to_string();
    assert!(error.contains("leads out of the document's directory"), "{error}");
    assert!(connector.operation("Y").is_ok());
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
        .map(|problem| {
            (format!("{}: {}", problem.pointer, problem.message), problem.fault == CallFault::Unusable)
        })
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
