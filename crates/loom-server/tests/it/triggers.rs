//! Triggers over real connections: requests that start runs, and services that call back.

use hyper::Method;
use loom_expression::Value;
use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, list, requested, text};

/// A definition with one trigger, `t`, and a Response.
fn answered(trigger: &str, response: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "actions":
            {{"Answer": {{"type": "Response", "kind": "Http", "inputs": {response}, "runAfter": {{}}}}}}}}}}"#
    )
}

const INVOKE: &str = "/workflows/w/triggers/t/invoke";

#[tokio::test]
async fn method_path_and_schema_are_checked_before_a_run_starts() {
    let world = World::new().await;
    let trigger = r#"{"type": "Request", "kind": "Http", "operationOptions": "EnableSchemaValidation", "inputs":
        {"method": "PUT", "relativePath": "orders/{id}",
         "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}}"#;
    let body = r#"{"body": {"id": "@triggerOutputs()['relativePathParameters']['id']", "n": "@triggerBody()['n']"}}"#;
    world.deploy("w", &answered(trigger, body)).await;
    let wrong = world.post(&format!("{INVOKE}/orders/7"), r#"{"n": 1}"#).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (405, "MethodNotAllowed"));
    assert_eq!(wrong.header("allow"), Some("PUT"));
    let wrong = world.call(Method::PUT, &format!("{INVOKE}/orders"), r#"{"n": 1}"#).await;
    assert_eq!(wrong.status, 404);
    let wrong = world.call(Method::PUT, &format!("{INVOKE}/orders/7"), r#"{"n": "one"}"#).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "TriggerInputSchemaMismatch"));
    let runs = world.get("/api/v1/runs").await.json();
    assert!(list(&runs, "runs").is_empty(), "{}", runs.to_json_text());
    let right = world.call(Method::PUT, &format!("{INVOKE}/orders/a%2Fb%3f"), r#"{"n": 1}"#).await;
    assert_eq!(right.status, 200);
    assert_eq!(right.json(), json(r#"{"id": "a/b?", "n": 1}"#));
}

#[tokio::test]
async fn a_response_has_what_its_action_specifies() {
    let world = World::new().await;
    let request = r#"{"type": "Request"}"#;
    let check = async |response: &str, status: u16, kind: Option<&str>, body: &str| {
        world.deploy("w", &answered(request, response)).await;
        let reply = world.post(INVOKE, "{}").await;
        assert_eq!(reply.status, status, "{response}");
        assert_eq!(reply.header("content-type"), kind, "{response}");
        assert_eq!(reply.text(), body, "{response}");
        reply
    };
    let text_kind = Some("text/plain; charset=utf-8");
    let json_kind = Some("application/json; charset=utf-8");
    check(r#"{"body": "hello"}"#, 200, text_kind, "hello").await;
    check(r#"{"statusCode": 201, "body": {"a": null}}"#, 201, json_kind, r#"{"a":null}"#).await;
    check(r#"{"statusCode": "@concat('4', '04')"}"#, 404, None, "").await;
    let own = check(
        r#"{"headers": {"Content-Type": "text/csv", "x-own": "1", "Content-Length": "99"}, "body": "a,b"}"#,
        200,
        Some("text/csv"),
        "a,b",
    )
    .await;
    assert_eq!(own.header("x-own"), Some("1"));
    let envelope = r#"{"body": {"$content-type": "application/xml", "$content": "PGEvPg=="}}"#;
    check(envelope, 200, Some("application/xml"), "<a/>").await;
}

#[tokio::test]
async fn a_caller_learns_which_run_it_started() {
    let world = World::new().await;
    world.deploy("w", &answered(r#"{"type": "Request"}"#, r#"{"body": "@trigger()"}"#)).await;
    let headers = [("x-ms-client-tracking-id", "mine")];
    let reply = world.send(Method::POST, INVOKE, &headers, "").await.whole().await;
    let record = reply.json();
    assert_eq!(reply.header("x-ms-workflow-run-id"), Some(text(&record, "originHistoryName")));
    assert_eq!(reply.header("x-ms-trigger-history-name"), reply.header("x-ms-workflow-run-id"));
    let tracking = text(&record, "trackingId");
    for name in ["x-ms-correlation-id", "x-ms-tracking-id"] {
        assert_eq!(reply.header(name), Some(tracking));
    }
    assert_eq!(reply.header("x-ms-request-id"), Some(format!(":{tracking}").as_str()));
    assert_eq!(reply.header("x-ms-client-tracking-id"), Some("mine"));
    assert_eq!(text(&record, "clientTrackingId"), "mine");
    assert_eq!(reply.header("x-ms-workflow-name"), Some("w"));
    for name in ["x-ms-workflow-system-id", "x-ms-workflow-id", "x-ms-workflow-version"] {
        assert!(reply.header(name).is_some(), "{name}");
    }
    let outputs = record.get("outputs").unwrap();
    assert!(outputs.get("body").is_none(), "without a body there is no property");
    assert!(outputs.get("queries").is_none(), "without queries there is no property");
    let quiet = r#"{"type": "Request", "operationOptions": "SuppressWorkflowHeadersOnResponse"}"#;
    world.deploy("w", &answered(quiet, r#"{"body": 1}"#)).await;
    let reply = world.post(INVOKE, "null").await;
    assert!(reply.headers.keys().all(|name| !name.as_str().starts_with("x-ms-")), "{reply:?}");
}

#[tokio::test]
async fn bodies_are_parsed_by_content_type() {
    let world = World::new().await;
    let outputs = r#"{"body": {"outputs": "@triggerOutputs()"}}"#;
    world.deploy("w", &answered(r#"{"type": "Request"}"#, outputs)).await;
    let check = async |kind: &str, body: &str, expected: &str| {
        let headers = [("content-type", kind)];
        let reply = world.send(Method::POST, INVOKE, &headers, body.to_owned()).await.whole().await.json();
        let got = reply.get("outputs").and_then(|outputs| outputs.get("body")).cloned();
        assert_eq!(got, Some(json(expected)), "{kind}");
    };
    check("application/json", "null", "null").await;
    check("text/plain", "7", r#""7""#).await;
    check(
        "application/x-www-form-urlencoded",
        "a=1+2&b=%26",
        r#"{"$content-type": "application/x-www-form-urlencoded", "$content": "YT0xKzImYj0lMjY=",
            "$formdata": [{"key": "a", "value": "1 2"}, {"key": "b", "value": "&"}]}"#,
    )
    .await;
}

#[tokio::test]
async fn a_run_without_its_response_is_502_and_one_that_is_late_504() {
    let mut plan = Plan::default();
    plan.host.response_timeout = std::time::Duration::ZERO;
    let world = World::start(plan).await;
    let waits = r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}},
        "Answer": {"type": "Response", "inputs": {}, "runAfter": {"Pause": ["Succeeded"]}}}"#;
    world.deploy("late", &requested(waits)).await;
    let late = world.post("/workflows/late/triggers/manual/invoke", "{}").await;
    assert_eq!((late.status, late.error().as_str()), (504, "GatewayTimeout"));
    let world = World::new().await;
    let never = r#"{"Stop": {"type": "Terminate", "inputs": {"runStatus": "Succeeded"}, "runAfter": {}},
        "Answer": {"type": "Response", "inputs": {}, "runAfter": {"Stop": ["Succeeded"]}}}"#;
    world.deploy("never", &requested(never)).await;
    let never = world.post("/workflows/never/triggers/manual/invoke", "{}").await;
    assert_eq!((never.status, never.error().as_str()), (502, "NoResponse"));
}

#[tokio::test]
async fn an_asynchronous_response_is_fetched_later_and_its_run_continues() {
    let rules = json(r#"[{"path": "/work", "response": {"status": 500, "body": "broken"}}]"#);
    let mock = Mock::start(&rules).await.unwrap();
    let world = World::new().await;
    let text_of = format!(
        r#"{{"Answer": {{"type": "Response", "operationOptions": "Asynchronous",
                "inputs": {{"statusCode": 201, "body": "late"}}, "runAfter": {{}}}},
            "Work": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{}/work",
                "retryPolicy": {{"type": "none"}}}}, "runAfter": {{"Answer": ["Succeeded"]}}}}}}"#,
        mock.base_url()
    );
    world.deploy("w", &requested(&text_of)).await;
    let first = world.post("/workflows/w/triggers/manual/invoke", "{}").await;
    assert_eq!(first.status, 202);
    let location = first.header("location").unwrap().to_owned();
    let run = first.header("x-ms-workflow-run-id").unwrap().to_owned();
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Failed", "the action after the response failed");
    let path = location.split_once(&world.address.to_string()).unwrap().1.to_owned();
    let late = world.get(&path).await;
    assert_eq!((late.status, late.text().as_str()), (201, "late"));
    assert_eq!(late.header("content-type"), Some("text/plain; charset=utf-8"));
    let forged = world.get(path.split('?').next().unwrap()).await;
    assert_eq!(forged.status, 404);
}

#[tokio::test]
async fn split_on_and_conditions_decide_which_runs_start() {
    let world = World::new().await;
    let trigger = r#"{"type": "Request", "splitOn": "@triggerBody()?['rows']",
        "conditions": [{"expression": "@not(equals(triggerBody()?['kind'], 'test'))"}]}"#;
    let echo = r#"{"Echo": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}"#;
    let definition = format!(r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "actions": {echo}}}}}"#);
    world.deploy("w", &definition).await;
    assert_eq!(world.post(INVOKE, r#"{"kind": "test", "rows": [1]}"#).await.status, 202);
    let runs = world.get("/api/v1/runs").await.json();
    assert!(list(&runs, "runs").is_empty(), "a condition held it back");
    assert_eq!(world.post(INVOKE, r#"{"rows": [1, 2, 3]}"#).await.status, 202);
    let runs = world.get("/api/v1/runs").await.json();
    assert_eq!(list(&runs, "runs").len(), 3);
}

/// The callback address that a service received, relative to the server.
fn callback(mock: &Mock, world: &World) -> String {
    let requests = mock.requests();
    let subscribe = requests.iter().find(|request| request.path.ends_with("/subscribe"));
    let body = subscribe.expect("the trigger has subscribed").body_value();
    let address = body.get("callback_url").and_then(Value::as_str).unwrap();
    address.split_once(&world.address.to_string()).unwrap().1.to_owned()
}

/// Waits until a mock has received this number of requests.
async fn asked(mock: &Mock, count: usize) {
    while mock.requests().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_webhook_subscribes_through_its_connection_and_its_callbacks_start_runs() {
    let rules = json(
        r#"[{"method": "POST", "path": "/hub/subscribe",
             "response": {"status": 201, "headers": {"Location": "{{base}}/hub/subscriptions/9"}}},
            {"method": "DELETE", "path": "/hub/subscriptions/9", "calls": 1}]"#,
    );
    let mock = Mock::start(&rules).await.unwrap();
    let connections =
        json(&format!(r#"{{"connections": {{"hub": {{"baseUrl": "{}/hub"}}}}}}"#, mock.base_url()));
    let connections =
        loom_actions::Connections::from_json(&connections, &loom_actions::Sources::default()).unwrap();
    let mut plan = Plan::default();
    plan.requests.connections = connections;
    let world = World::start(plan).await;
    let definition = r#"{"definition": {"triggers": {"t": {"type": "ApiConnectionWebhook",
        "splitOn": "@triggerBody()?['events']", "inputs": {"path": "/subscribe",
            "host": {"connection": {"referenceName": "hub"}}, "body": {"callback_url": "@{listCallbackUrl()}"}}}},
        "actions": {"Echo": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}}}"#;
    world.deploy("w", definition).await;
    asked(&mock, 1).await;
    let callback = callback(&mock, &world);
    assert_eq!(world.post(&callback, r#"{"events": [{"n": 1}, {"n": 2}]}"#).await.status, 202);
    let runs = world.get("/api/v1/runs").await.json();
    assert_eq!(list(&runs, "runs").len(), 2);
    // Callbacks are accepted as soon as the service knows the address; the history is updated after its response.
    let history = loop {
        let history = world.get("/api/v1/workflows/w/triggers/t/histories").await.json();
        if !list(&history, "histories").is_empty() {
            break history;
        }
    };
    let entry = &list(&history, "histories")[0];
    assert_eq!((text(entry, "status"), text(entry, "code")), ("Succeeded", "Created"));
    let mut forged = callback.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == '0' { '1' } else { '0' });
    assert_eq!(world.post(&forged, "{}").await.error(), "CallbackNotFound");
    assert!(world.host.withdraw("w"));
    asked(&mock, 2).await;
    let ended = world.post(&callback, r#"{"events": [{"n": 3}]}"#).await;
    assert_eq!((ended.status, ended.error().as_str()), (410, "SubscriptionEnded"));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_callback_is_accepted_once() {
    let rules = json(r#"[{"method": "POST", "path": "/subscribe"}]"#);
    let mock = Mock::start(&rules).await.unwrap();
    let world = World::new().await;
    let hook = format!(
        r#"{{"Hook": {{"type": "HttpWebhook", "inputs": {{"subscribe": {{"method": "POST", "uri": "{}/subscribe",
            "body": {{"callback_url": "@{{listCallbackUrl()}}"}}}}, "unsubscribe": {{}}}}, "runAfter": {{}}}}}}"#,
        mock.base_url()
    );
    world.deploy("w", &requested(&hook)).await;
    let run = world.invoke("w", "{}").await;
    asked(&mock, 1).await;
    let callback = callback(&mock, &world);
    assert_eq!(world.post(&callback, r#"{"n": 1}"#).await.status, 200);
    assert_eq!(text(&world.ended(&run).await, "status"), "Succeeded");
    let again = world.post(&callback, r#"{"n": 2}"#).await;
    assert_eq!((again.status, again.error().as_str()), (410, "RunEnded"));
    let wrong = world.post("/callbacks/0000000000000-1-0", "{}").await;
    assert_eq!(wrong.error(), "CallbackNotFound");
}

#[tokio::test]
async fn a_trigger_at_its_limit_rejects_requests_and_loses_nothing() {
    let world = World::new().await;
    let trigger = r#"{"type": "Request",
        "runtimeConfiguration": {"concurrency": {"runs": 1, "maximumWaitingRuns": 1}}}"#;
    let waits =
        r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}}}"#;
    let definition = format!(r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "actions": {waits}}}}}"#);
    world.deploy("w", &definition).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let accepted = world.post(INVOKE, "{}").await;
        assert_eq!(accepted.status, 202);
        runs.push(accepted.header("x-ms-workflow-run-id").unwrap().to_owned());
    }
    let refused = world.post(INVOKE, "{}").await;
    assert_eq!((refused.status, refused.error().as_str()), (429, "WorkflowTriggerIsThrottled"));
    assert!(refused.header("retry-after").is_some());
    // The second run is accepted, has not started, and is listed and counted as one that waits.
    let second = format!("/api/v1/runs/{}", runs[1]);
    let waiting = world.get(&second).await.json();
    assert_eq!((text(&waiting, "status"), waiting.get("startTime")), ("Waiting", None));
    let listed = world.get("/api/v1/runs?status=Waiting").await.json();
    assert_eq!(list(&listed, "runs").len(), 1);
    assert!(world.get("/metrics").await.text().contains("loom_runs_waiting 1\n"));
    let resubmitted = world.post(&format!("/api/v1/runs/{}/resubmit", runs[0]), "").await;
    assert_eq!((resubmitted.status, resubmitted.error().as_str()), (429, "WorkflowTriggerIsThrottled"));
    world.post(&format!("/api/v1/runs/{}/cancel", runs[0]), "").await;
    let started = async || text(&world.get(&second).await.json(), "status") == "Running";
    while !started().await {
        tokio::task::yield_now().await;
    }
    let events = world.get(&format!("{second}/events")).await.json();
    let kinds: Vec<&str> = list(&events, "events").iter().map(|event| text(event, "type")).collect();
    assert_eq!(kinds[..3], ["run.started", "run.waiting", "run.admitted"]);
}

#[tokio::test]
async fn a_trigger_accepts_the_signature_of_its_address_or_the_token() {
    let mut plan = Plan::default();
    plan.settings.token = Some("a-token-for-these-tests".into());
    let world = World::start(plan).await;
    world.deploy("w", &answered(r#"{"type": "Request"}"#, r#"{"body": "in"}"#)).await;
    let address = world.host.trigger_url("w", "t");
    let signed = address.split_once(&world.address.to_string()).unwrap().1;
    let send = async |path: &str| world.send(Method::POST, path, &[], "").await.whole().await;
    assert_eq!(send(INVOKE).await.error(), "AuthenticationFailed");
    assert_eq!(send(&format!("{INVOKE}?sig=00")).await.error(), "AuthenticationFailed");
    assert_eq!(send(signed).await.text(), "in");
    assert_eq!(world.post(INVOKE, "").await.text(), "in");
}

#[tokio::test]
async fn pending_batch_messages_are_listed_until_they_are_released() {
    let directory = tempfile::tempdir().unwrap();
    let start = || World::start(Plan { store: crate::support::on_disk(directory.path()), ..Plan::default() });
    let collector = r#"{"definition": {"triggers": {"Collect": {"type": "Batch", "inputs": {"configurations":
        {"Orders": {"releaseCriteria": {"messageCount": 3}}}}}}, "actions": {}}}"#;
    let sender = requested(
        r#"{"Send": {"type": "SendToBatch", "inputs": {"batchName": "orders", "content": "@triggerBody()",
            "host": {"triggerName": "collect", "workflow": {"id": "collector"}}}}}"#,
    );
    let waiting = async |world: &World| {
        let shown = world.get("/api/v1/workflows/collector").await.json();
        list(&shown, "triggers")[0].get("waiting").cloned().unwrap()
    };
    let world = start().await;
    world.deploy("collector", collector).await;
    world.deploy("sender", &sender).await;
    assert_eq!(waiting(&world).await, json("[]"));
    world.run("sender", "\"one\"").await;
    let sent = world.run("sender", "[12]").await;
    assert_eq!(text(&sent, "status"), "Succeeded");
    let expected = r#"[{"batchName": "orders", "partitionName": "DEFAULT", "messages": 2, "bytes": 7}]"#;
    assert_eq!(waiting(&world).await, json(expected));
    world.stop().await;
    let world = start().await;
    world.deploy("collector", collector).await;
    world.deploy("sender", &sender).await;
    world.run("sender", "{}").await;
    // Once no message is pending, the run of the batch exists.
    while waiting(&world).await != json("[]") {
        tokio::task::yield_now().await;
    }
    let runs = world.get("/api/v1/runs?workflow=collector").await.json();
    let run = world.ended(text(&list(&runs, "runs")[0], "id")).await;
    let items =
        run.get("trigger").and_then(|trigger| trigger.get("outputs")?.get("body")?.get("items").cloned());
    let contents: Vec<Value> =
        items.unwrap().as_array().unwrap().iter().map(|item| item.get("content").cloned().unwrap()).collect();
    assert_eq!(Value::from(contents), json(r#"["one", [12], {}]"#));
    world.stop().await;
}
