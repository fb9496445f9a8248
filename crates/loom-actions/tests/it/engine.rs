//! The handlers in a real engine: whole runs against a mock.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use loom_actions::{
    Activities, ActivityHandler, ActorHandler, ActorReply, Actors, Connections, Settings, Sources, UserError,
    remote_workflow_handler, request_handlers, requests,
};
use loom_definition::{Definition, LoadOptions, RunStatus, model::EffectKind};
use loom_engine::{Callbacks, Engine, Environment, RunReport, RunRequest, clock::SystemClock};
use loom_expression::Value;
use loom_store::{SqliteOptions, SqliteStore, Store};
use loom_testkit::mock::Mock;

use crate::support::{json, mock};

/// Executes a workflow in which `{base}` is the mock's address.
async fn executed(
    actions: &str,
    outputs: &str,
    mock: &Mock,
    activities: Activities,
    actors: Actors,
) -> Arc<RunReport> {
    let base = mock.base_url();
    let file = json(
        &r#"{"connections": {"crm": {"baseUrl": "{base}/crm/", "authentication": {"type": "Raw", "scheme": "Key", "parameter": "k"}}},
            "functions": {"price": {"baseUrl": "{base}/fn", "authentication": {"type": "QueryString", "name": "code", "value": "c"}}},
            "workflows": {"child": "{base}/child"}, "actionTypes": {"RuleExecute": "{base}/rules", "ChunkText": "{base}/chunks"}, "activities": {"remote": "{base}/activity"}, "actors": {"Far": "{base}/actors", "Cart": {"baseUrl": "{base}/carts", "state": true}, "Odd": {"baseUrl": "{base}/odd", "state": 1}}}"#
            .replace("{base}", &base),
    );
    let connections = Connections::from_json(&file, &Sources::default()).unwrap();
    let requests = requests(Settings { connections, ..Settings::default() }, Arc::new(SystemClock)).unwrap();
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    let engine = builder
        .handler(EffectKind::Workflow, remote_workflow_handler(&requests))
        .handler(EffectKind::Activity, Arc::new(ActivityHandler::new(activities, Arc::clone(&requests))))
        .handler(EffectKind::Actor, Arc::new(ActorHandler::new(actors, requests)))
        .build();
    let text = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": ACTIONS, "outputs": OUTPUTS}}"#
        .replace("ACTIONS", actions)
        .replace("OUTPUTS", outputs)
        .replace("{base}", &base);
    let loaded = Definition::parse_text(&text, &LoadOptions::default()).unwrap();
    let report = engine.run(RunRequest::manual(loaded.workflow, Vec::new(), None)).await.unwrap();
    report.expect("the run ends")
}

pub(crate) fn output(report: &RunReport, name: &str) -> Value {
    let outputs = report.outputs.as_ref().unwrap_or_else(|| panic!("the run failed: {:?}", report.error));
    let output = outputs.get(name).unwrap_or_else(|| panic!("no output {name} in {outputs:?}"));
    output.get("value").cloned().unwrap_or_else(|| output.clone())
}

#[tokio::test]
async fn a_request_is_repeated_with_the_same_key_until_it_works() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/flaky", "responses": [{"status": 503, "times": 2}, {"body": {"ok": true}}], "calls": 3}]"#,
    )
    .await;
    let actions = r#"{"Call": {"type": "Http", "inputs": {"method": "POST", "uri": "{base}/flaky", "body": {}},
        "retryPolicy": {"maxAttempts": 3, "initialDelay": 1}}}"#;
    let outputs = r#"{"ok": {"type": "bool", "value": "@body('Call')?['ok']"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "ok"), true.into());
    assert_eq!(mock.problems(), Vec::<String>::new());
    let keys: Vec<_> =
        mock.requests().iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys[0].ends_with("/Call\"") && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn connections_functions_and_children_are_called_by_name() {
    let mock = mock(
        r#"[{"method": "PATCH", "path": "/crm/files/%252Fa", "query": {"q": "1"}, "headers": {"authorization": "Key k"}, "body": {"x": 1}, "response": {"body": "patched"}, "calls": 1},
            {"method": "POST", "path": "/fn", "query": {"code": "c"}, "response": {"body": 12}, "calls": 1},
            {"method": "POST", "path": "/child", "body": "in", "response": {"body": "out"}, "calls": 1}]"#,
    )
    .await;
    let actions = r#"{
        "Connector": {"type": "ApiConnection", "inputs": {"host": {"connection": {"referenceName": "crm"}}, "method": "patch", "queries": {"q": 1},
            "path": "/files/@{encodeURIComponent(encodeURIComponent('/a'))}", "body": {"x": 1}}},
        "Function": {"type": "Function", "inputs": {"function": {"id": "/sites/app/functions/price"}, "body": {}}},
        "Child": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "/workflows/child"}, "triggerName": "manual"}, "body": "in"}}}"#;
    let outputs = r#"{"all": {"type": "array", "value": "@createArray(body('Connector'), body('Function'), body('Child'))"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "all"), json(r#"["patched", 12, "out"]"#));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn functions_of_the_app_and_types_with_an_address_are_posted() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/fn", "query": {"code": "c"}, "body": {"zipCode": 98101}, "response": {"body": {"high": 8}}, "calls": 1},
            {"method": "POST", "path": "/rules", "body": {"ruleset": "r", "facts": [1]}, "response": {"body": "applied"}, "calls": 1},
            {"method": "POST", "path": "/chunks", "body": {"text": "x"}, "response": {"body": {"value": ["x"]}}, "calls": 1}]"#,
    )
    .await;
    let actions = r#"{
        "Local": {"type": "InvokeFunction", "inputs": {"functionName": "price", "parameters": {"zipCode": 98101}}},
        "Rules": {"type": "RuleExecute", "inputs": {"ruleset": "r", "facts": [1]}},
        "Chunks": {"type": "ChunkText", "inputs": {"text": "x"}}}"#;
    let outputs = r#"{"all": {"type": "array", "value": "@createArray(body('Local')?['high'], body('Rules'), first(body('Chunks')?['value']))"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "all"), json(r#"[8, "applied", "x"]"#));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn polling_goes_through_the_engine() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/work", "response": {"status": 202, "headers": {"Location": "/s", "retry-after-ms": "1"}}, "calls": 1},
            {"method": "GET", "path": "/s", "responses": [{"status": 202, "headers": {"retry-after-ms": "1"}}, {"body": "done"}], "calls": 2}]"#,
    )
    .await;
    let actions = r#"{"Work": {"type": "Http", "inputs": {"method": "POST", "uri": "{base}/work"}}}"#;
    let outputs = r#"{"end": {"type": "string", "value": "@body('Work')"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "end"), "done".into());
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn activities_run_here_or_behind_an_endpoint() {
    let mock = mock(r#"[{"method": "POST", "path": "/activity", "body": {"n": 1}, "response": {"body": "far"}, "calls": 1}]"#).await;
    let mut activities = Activities::default();
    activities.register("Double", |call| async move {
        let n = call.input.as_i64().ok_or_else(|| UserError::new("a number is needed"))?;
        if call.attempt == 1 { Err(UserError::new("not yet").transient()) } else { Ok((n * 2).into()) }
    });
    let actions = r#"{
        "Here": {"type": "Activity", "inputs": {"activityName": "double", "input": 21}, "retryPolicy": {"maxAttempts": 2, "initialDelay": 1}},
        "There": {"type": "Activity", "inputs": {"activityName": "remote", "input": {"n": 1}}}}"#;
    let outputs = r#"{"all": {"type": "array", "value": "@createArray(body('Here'), body('There'))"}}"#;
    let report = executed(actions, outputs, &mock, activities, Actors::default()).await;
    assert_eq!(output(&report, "all"), json(r#"[42, "far"]"#));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn an_actor_handles_one_call_at_a_time_and_keeps_its_state() {
    let mock = mock(r#"[{"method": "POST", "path": "/actors/a%2Fb/add", "body": 5, "response": {"body": 5}, "calls": 1}]"#).await;
    let inside = Arc::new(AtomicU32::new(0));
    let most = Arc::new(Mutex::new(0));
    let mut actors = Actors::default();
    let (counted, highest) = (Arc::clone(&inside), Arc::clone(&most));
    actors.register("Counter", move |call| {
        let (counted, highest) = (Arc::clone(&counted), Arc::clone(&highest));
        async move {
            // Different actors may run at the same time.
            let now = if call.id == "one" { counted.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
            {
                let mut highest = highest.lock().unwrap();
                *highest = now.max(*highest);
            }
            // Gives other calls a chance to interfere.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            if call.id == "one" {
                counted.fetch_sub(1, Ordering::SeqCst);
            }
            let sum = call.state.as_i64().unwrap_or(0) + call.args.as_i64().unwrap_or(0);
            Ok(ActorReply { result: sum.into(), state: sum.into() })
        }
    });
    let actions = r#"{
        "Each": {"type": "Foreach", "foreach": "@range(1, 20)", "actions": {
            "Add": {"type": "Actor", "inputs": {"actorType": "counter", "actorId": "one", "method": "add", "args": "@item()"}}}},
        "Last": {"type": "Actor", "runAfter": {"Each": ["Succeeded"]}, "inputs": {"actorType": "Counter", "actorId": "one", "method": "get"}},
        "Other": {"type": "Actor", "runAfter": {"Each": ["Succeeded"]}, "inputs": {"actorType": "Counter", "actorId": "two", "method": "get"}},
        "Far": {"type": "Actor", "inputs": {"actorType": "Far", "actorId": "a/b", "method": "add", "args": 5}}}"#;
    let outputs =
        r#"{"all": {"type": "array", "value": "@createArray(body('Last'), body('Other'), body('Far'))"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), actors).await;
    assert_eq!(output(&report, "all"), json("[210, 0, 5]"));
    assert_eq!(*most.lock().unwrap(), 1);
    assert_eq!(mock.problems(), Vec::<String>::new());
}

/// An actor behind an endpoint receives the state that the last call returned, and keeps it when it returns none or fails.
#[tokio::test]
async fn an_actor_behind_an_endpoint_is_handed_its_state() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/carts/a%2F1/add", "body": {"args": "pear", "state": null}, "response": {"body": {"result": 1, "state": ["pear"]}}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/count", "body": {"args": null, "state": ["pear"]}, "response": {"body": {"result": 1}}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/fail", "body": {"args": null, "state": ["pear"]}, "response": {"status": 409, "body": {"result": 0, "state": "lost"}}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/wrong", "body": {"args": null, "state": ["pear"]}, "response": {"body": [1]}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/odd", "body": {"args": null, "state": ["pear"]}, "response": {"body": {"reslut": 1}}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/clear", "body": {"args": null, "state": ["pear"]}, "response": {"body": {"state": null}}, "calls": 1},
            {"method": "POST", "path": "/carts/a%2F1/last", "body": {"args": null, "state": null}, "response": {"body": {"result": "empty"}}, "calls": 1}]"#,
    )
    .await;
    let call = |name: &str, args: &str, after: &str| {
        let method = name.to_lowercase();
        format!(
            r#""{name}": {{"type": "Actor", "inputs": {{"actorType": "cart", "actorId": "a/1", "method": "{method}"{args}}}, "runAfter": {after}}}"#
        )
    };
    let actions = [
        call("Add", r#", "args": "pear""#, "{}"),
        call("Count", "", r#"{"Add": ["Succeeded"]}"#),
        call("Fail", "", r#"{"Count": ["Succeeded"]}"#),
        call("Wrong", "", r#"{"Fail": ["Failed"]}"#),
        call("Odd", "", r#"{"Wrong": ["Failed"]}"#),
        call("Clear", "", r#"{"Odd": ["Failed"]}"#),
        call("Last", "", r#"{"Clear": ["Succeeded"]}"#),
        r#""Other": {"type": "Actor", "inputs": {"actorType": "odd", "method": "get"}, "runAfter": {"Last": ["Succeeded"]}},
           "Unnamed": {"type": "Actor", "inputs": {"actorType": "cart", "actorId": "", "method": "get"}, "runAfter": {"Other": ["Failed"]}},
           "End": {"type": "Compose", "inputs": "", "runAfter": {"Unnamed": ["Failed"]}}"#
            .to_owned(),
    ];
    let outputs = r#"{"all": {"type": "array", "value": "@createArray(body('Add'), body('Count'), outputs('Clear')?['body'], body('Last'))"},
        "errors": {"type": "array", "value": "@createArray(actions('Fail')['code'], actions('Wrong')['error']['message'], actions('Odd')['error']['message'], actions('Other')['error']['message'], actions('Unnamed')['error']['message'])"}}"#;
    let actions = format!("{{{}}}", actions.join(",\n"));
    let report = executed(&actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "all"), json(r#"[1, 1, null, "empty"]"#));
    let errors = json(
        r#"["Conflict", "The actor must return an object with `result` and `state` (got Array).",
            "The actor must return an object with `result` and `state` (got the unknown property `reslut`).",
            "The actor 'Odd' cannot be used: 'state' must be true or false (got Integer).",
            "The action's 'actorId' is invalid: the key `` is not valid: it must not be empty."]"#,
    );
    assert_eq!(output(&report, "errors"), errors);
    assert_eq!(mock.problems(), Vec::<String>::new());
}

/// Each process opens the directory again.
#[tokio::test]
async fn an_actor_keeps_its_state_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Add": {"type": "Actor", "inputs": {"actorType": "Counter", "actorId": "a/1", "method": "add", "args": 4}}},
        "outputs": {"sum": {"type": "array", "value": "@body('Add')"}}}"#;
    let workflow = Definition::parse_text(definition, &LoadOptions::default()).unwrap().workflow;
    for life in 1..=3i64 {
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap());
        let mut actors = Actors::default();
        actors.register("counter", |call| async move {
            // From the second call on, the state is a secret, and the third call sees it as one.
            let sum = call.state.as_i64().unwrap_or(0) + call.args.as_i64().unwrap_or(0);
            let secret = call.state.is_secret() || sum > 4;
            let result = vec![Value::from(sum), call.state.is_secret().into()].into();
            let state = Value::from(sum);
            Ok(ActorReply { result, state: if secret { state.into_secret() } else { state } })
        });
        let requests = requests(Settings::default(), Arc::new(SystemClock)).unwrap();
        let handler = Arc::new(ActorHandler::new(actors, requests));
        let engine = Engine::builder().store(Arc::clone(&store)).handler(EffectKind::Actor, handler).build();
        let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
        let report = engine.run(request).await.unwrap().expect("the run ends");
        let found = output(&report, "sum");
        assert_eq!(found.index(0), Some(&Value::from(4 * life)));
        assert_eq!(found.index(1), Some(&Value::from(life == 3)));
        engine.shut_down().await;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn unsupported_actions_fail_with_an_explanation() {
    let mock = mock("[]").await;
    for (action, code, part) in [
        (
            r#"{"type": "PowerShellCode", "inputs": {"CodeFile": "run.ps1"}}"#,
            "ActionTypeNotSupported",
            "does not run scripts in this language",
        ),
        (r#"{"type": "Activity", "inputs": {"activityName": "nobody"}}"#, "ConnectionNotFound", "'nobody'"),
        (
            r#"{"type": "ApiConnection", "inputs": {"host": {"connection": {"referenceName": "none"}}, "method": "get", "path": "/"}}"#,
            "ConnectionNotFound",
            "crm",
        ),
    ] {
        let actions = format!(
            r#"{{"It": {action}, "Look": {{"type": "Compose", "runAfter": {{"It": ["Failed"]}}, "inputs": "@actions('It')?['error']"}}}}"#
        );
        let outputs = r#"{"error": {"type": "object", "value": "@outputs('Look')"}}"#;
        let report = executed(&actions, outputs, &mock, Activities::default(), Actors::default()).await;
        let error = output(&report, "error");
        assert_eq!(error.get("code"), Some(&code.into()), "{action}");
        let message = error.get("message").unwrap().as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn operations_of_connectors_are_posted_below_their_connection() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/crm/GetItem", "body": {"id": 7}, "headers": {"authorization": "Key k"}, "response": {"body": "item"}, "calls": 1},
            {"method": "POST", "path": "/crm/send", "body": {"to": "q"}, "response": {"status": 202}, "calls": 1}]"#,
    )
    .await;
    let actions = r#"{
        "Flow": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "crm", "operationId": "GetItem", "apiId": "/x"}, "parameters": {"id": 7}}},
        "Built": {"type": "ServiceProvider", "inputs": {"serviceProviderConfiguration": {"connectionName": "crm", "operationId": "send", "serviceProviderId": "/y"}, "parameters": {"to": "q"}}}}"#;
    let outputs = r#"{"item": {"type": "string", "value": "@body('Flow')"}, "sent": {"type": "int", "value": "@outputs('Built').statusCode"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "item"), "item".into());
    assert_eq!(output(&report, "sent"), Value::from(202i64));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn operations_of_api_management_fill_in_their_paths() {
    let mock = mock(
        r#"[{"method": "GET", "path": "/crm/things/a%2Fb/7", "query": {"q": "1"}, "headers": {"ocp-apim-subscription-key": "sk"}, "response": {"body": "one"}, "calls": 1},
            {"method": "POST", "path": "/crm/send", "body": {"to": "q"}, "response": {"body": "two"}, "calls": 1}]"#,
    )
    .await;
    let actions = r#"{
        "Standard": {"type": "ApiManagement", "inputs": {"apiManagement": {"connection": "crm", "operationId": "get"}, "method": "get", "queries": {"q": 1},
          "pathTemplate": {"template": "/things/{id}/{Count}", "parameters": {"id": "a/b", "count": 7}}, "subscriptionKey": "sk"}},
        "Consumption": {"type": "ApiManagement", "inputs": {"api": {"id": "/service/i/apis/crm"}, "method": "post", "body": {"to": "q"},
          "pathTemplate": {"template": "/send", "parameters": {}}}},
        "Lacking": {"type": "ApiManagement", "inputs": {"api": {"id": "/service/i/apis/crm"}, "method": "get", "pathTemplate": {"template": "/a/{b}"}}},
        "Look": {"type": "Compose", "runAfter": {"Lacking": ["Failed"]}, "inputs": "@actions('Lacking')['error']['message']"}}"#;
    let outputs = r#"{"one": {"type": "string", "value": "@body('Standard')"}, "two": {"type": "string", "value": "@body('Consumption')"},
        "lacking": {"type": "string", "value": "@outputs('Look')"}}"#;
    let report = executed(actions, outputs, &mock, Activities::default(), Actors::default()).await;
    assert_eq!(output(&report, "one"), "one".into());
    assert_eq!(output(&report, "two"), "two".into());
    assert_eq!(output(&report, "lacking"), "The action's 'pathTemplate' has no parameter 'b'.".into());
    assert_eq!(mock.problems(), Vec::<String>::new());
}

/// Subscribes through a connector without a callback URL in the inputs, and is called back at the URL that the
/// service received.
#[tokio::test]
async fn a_connector_gets_the_callback_url() {
    let flow = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Operation": {"type": "OpenApiConnectionWebhook", "inputs": {"host": {"connectionName": "named", "operationId": "Watch"}, "parameters": {"body/folder": "in"}}},
        "Path": {"type": "ApiConnectionWebhook", "inputs": {"host": {"connection": {"referenceName": "named"}}, "path": "/path", "body": {"body": {"folder": "in"}}}},
        "Unnamed": {"type": "OpenApiConnectionWebhook", "inputs": {"host": {"connectionName": "plain", "operationId": "Watch"}, "parameters": {"folder": "in"}}},
        "Own": {"type": "ApiConnectionWebhook", "inputs": {"host": {"connection": {"referenceName": "named"}}, "path": "/own", "body": {"to": "@{listCallbackUrl()}"}}}}}}"#;
    let mock = mock(
        r#"[{"method": "POST", "path": "/named/Watch", "response": {"status": 201}}, {"method": "POST", "path": "/named/path", "response": {"status": 201}},
            {"method": "POST", "path": "/plain/Watch", "response": {"status": 201}}, {"method": "POST", "path": "/named/own", "response": {"status": 201}}]"#,
    )
    .await;
    let file = json(
        &r#"{"connections": {"named": {"baseUrl": "{base}/named", "notificationUrl": "body/callbackUrl"}, "plain": {"baseUrl": "{base}/plain"}}}"#
            .replace("{base}", &mock.base_url()),
    );
    let run = async |callbacks: Option<Callbacks>| {
        let connections = Connections::from_json(&file, &Sources::default()).unwrap();
        let requests =
            requests(Settings { connections, ..Settings::default() }, Arc::new(SystemClock)).unwrap();
        let mut builder = Engine::builder();
        for (kind, handler) in request_handlers(&requests) {
            builder = builder.handler(kind, handler);
        }
        if let Some(callbacks) = callbacks {
            let environment = Environment { callbacks: Some(callbacks), ..Environment::default() };
            builder = builder.environment(environment);
        }
        let engine = builder.build();
        let loaded = Definition::parse_text(flow, &LoadOptions::default()).unwrap();
        let running = engine.run(RunRequest::manual(loaded.workflow, Vec::new(), None));
        let mut running = std::pin::pin!(running);
        let heard = async {
            while mock.requests().len() < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            report = &mut running => Some(report.unwrap().unwrap()),
            () = heard => None,
        }
    };
    // Without a server for callbacks, nothing is subscribed and nothing waits.
    let report = run(None).await.expect("the run ends at once");
    let message = report.error.as_ref().unwrap().message.clone();
    assert!(mock.requests().is_empty() && report.status == RunStatus::Failed, "{message}");

    assert!(run(Some(Callbacks::new("http://here/callbacks", [7; 32]))).await.is_none(), "it waits");
    let mut seen: Vec<(String, Value, Option<String>)> = Vec::new();
    for request in mock.requests() {
        let body = json(&String::from_utf8_lossy(&request.body));
        seen.push((request.path.clone(), body, request.header("x-loom-callback-url").map(str::to_owned)));
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let (paths, bodies): (Vec<_>, Vec<_>) = seen.iter().map(|(path, body, _)| (path.as_str(), body)).unzip();
    assert_eq!(paths, ["/named/Watch", "/named/own", "/named/path", "/plain/Watch"]);
    let header = |index: usize| seen[index].2.as_deref();
    assert!(header(0).unwrap().starts_with("http://here/callbacks/"));
    assert_eq!(header(1), None, "the definition has its own callback URL");
    // The parameters of an operation are flat; a body has nested properties.
    assert_eq!(bodies[0].get("body/callbackUrl").and_then(Value::as_str), header(0));
    assert_eq!(bodies[0].get("body/folder"), Some(&"in".into()));
    let inner = bodies[2].get("body").unwrap();
    assert_eq!(
        (inner.get("callbackUrl").and_then(Value::as_str), inner.get("folder")),
        (header(2), Some(&"in".into()))
    );
    assert_eq!(bodies[3], &json(r#"{"folder": "in"}"#));
    assert!(header(3).is_some());
}
