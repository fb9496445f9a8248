//! Traces: a collector on a loopback address receives the spans of runs with the right parents.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hyper::Method;
use loom_definition::policy::ChaosPlan;
use loom_expression::Value;
use loom_server::TelemetrySettings;
use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, list, on_disk, requested, text};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector and some services.
async fn mock(rules: &str) -> Mock {
    let collector =
        r#"{"method": "POST", "path": "/v1/traces", "response": {"body": {"partialSuccess": {}}}}"#;
    Mock::start(&json(&format!(r#"{{"rules": [{rules}{collector}]}}"#))).await.unwrap()
}

/// Sends spans to a mock after a short delay.
fn to(mock: &Mock) -> TelemetrySettings {
    let mut settings = TelemetrySettings::new(format!("{}/v1/traces", mock.base_url()), "tested");
    settings.delay = Duration::from_millis(1);
    settings.retry_wait = Duration::from_millis(1);
    settings
}

fn plan(telemetry: TelemetrySettings) -> Plan {
    let mut plan = Plan::default();
    plan.host.telemetry = Some(telemetry);
    plan
}

/// A received span.
#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    kind: i64,
    failed: bool,
    start: u64,
    end: u64,
    attributes: BTreeMap<String, Value>,
    all: Value,
}

impl Span {
    fn of(value: &Value) -> Span {
        let time = |name: &str| text(value, name).parse().unwrap();
        let attributes = attributes(value);
        Span {
            trace: text(value, "traceId").to_owned(),
            id: text(value, "spanId").to_owned(),
            parent: value.get("parentSpanId").and_then(Value::as_str).map(str::to_owned),
            name: text(value, "name").to_owned(),
            kind: value.get("kind").and_then(Value::as_i64).unwrap(),
            failed: value.get("status").unwrap().get("code").and_then(Value::as_i64) == Some(2),
            start: time("startTimeUnixNano"),
            end: time("endTimeUnixNano"),
            attributes,
            all: value.clone(),
        }
    }

    fn says(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    fn events(&self) -> Vec<&str> {
        let events = self.all.get("events").and_then(Value::as_array);
        events.into_iter().flat_map(|events| events.iter()).map(|event| text(event, "name")).collect()
    }
}

/// Names and values; a number is a string, as in the protocol.
fn attributes(value: &Value) -> BTreeMap<String, Value> {
    let pairs = list(value, "attributes").iter().map(|pair| {
        let value = pair.get("value").unwrap();
        let reported = value.get("stringValue").or_else(|| value.get("intValue"));
        (text(pair, "key").to_owned(), reported.unwrap().clone())
    });
    pairs.collect()
}

/// All spans that a mock received. Checks that ids are unique and have the right length, and that no span ends before it
/// starts.
fn spans(mock: &Mock) -> Vec<Span> {
    let mut all = Vec::new();
    for request in mock.requests().iter().filter(|request| request.path == "/v1/traces") {
        assert_eq!(request.header("content-type"), Some("application/json"));
        for resource in list(&request.body_value(), "resourceSpans") {
            let from = attributes(resource.get("resource").unwrap());
            assert_eq!(from.get("service.name").and_then(Value::as_str), Some("tested"));
            for scope in list(resource, "scopeSpans") {
                all.extend(list(scope, "spans").iter().map(Span::of));
            }
        }
    }
    let mut seen = HashSet::new();
    for span in &all {
        assert_eq!((span.trace.len(), span.id.len()), (32, 16), "{span:?}");
        assert!(seen.insert((span.trace.clone(), span.id.clone())), "twice: {span:?}");
        assert!(span.start <= span.end && span.start > 0, "{span:?}");
    }
    all
}

/// The only matching span.
fn only(spans: &[Span], fits: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<&Span> = spans.iter().filter(|span| fits(span)).collect();
    assert_eq!(found.len(), 1, "{:#?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    only(spans, |span| span.name == name)
}

/// One number of the page of metrics.
async fn metric(world: &World, series: &str) -> f64 {
    let page = world.get("/metrics").await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

#[tokio::test]
async fn a_run_is_a_tree_of_spans_below_its_caller() {
    let mock = mock(
        r#"{"path": "/quote", "responses": [{"status": 503}, {"body": {"price": 7}}]},
           {"path": "/gone", "response": {"status": 404}},
           {"path": "/inside", "response": {"body": 1}},"#,
    )
    .await;
    let base = mock.base_url();
    let world = World::start(plan(to(&mock))).await;
    let inner = requested(&format!(
        r#"{{"Ask": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/inside"}}, "runAfter": {{}}}},
            "Answer": {{"type": "Response", "inputs": {{"statusCode": 200}}, "runAfter": {{"Ask": ["Succeeded"]}}}}}}"#
    ));
    world.deploy("inner", &inner).await;
    let outer = requested(&format!(
        r#"{{
        "Box": {{"type": "Scope", "runAfter": {{}}, "actions": {{
            "Quote": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/quote?key=s3cret", "body": 1}},
                "retryPolicy": {{"maxAttempts": 2, "initialDelay": 1}}}}}}}},
        "Each": {{"type": "Foreach", "foreach": "@createArray('a', 'b')", "runAfter": {{}}, "actions": {{
            "Item": {{"type": "Compose", "inputs": "@item()", "runAfter": {{}}}}}}}},
        "Gone": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "GET", "uri": "{base}/gone"}}}},
        "Never": {{"type": "Compose", "inputs": 1, "runAfter": {{"Gone": ["Succeeded"]}}}},
        "Child": {{"type": "Workflow", "runAfter": {{}}, "inputs": {{"host": {{"workflow": {{"id": "inner"}}}}}}}}
    }}"#
    ));
    world.deploy("outer", &outer).await;
    let path = "/workflows/outer/triggers/manual/invoke";
    let headers = [("traceparent", CALLER), ("tracestate", "vendor=opaque")];
    let reply = world.send(Method::POST, path, &headers, "").await.whole().await;
    let run = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
    assert_eq!(text(&world.ended(&run).await, "traceId"), CALLERS_TRACE);
    world.stop().await;

    let spans = spans(&mock);
    assert!(spans.iter().all(|span| span.trace == CALLERS_TRACE), "{spans:#?}");
    assert!(spans.iter().all(|span| text(&span.all, "traceState") == "vendor=opaque"));
    // Every parent except the caller is among the spans.
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    for span in &spans {
        let parent = span.parent.as_deref().expect("all have a parent here");
        assert!(ids.contains(parent) || parent == "00f067aa0ba902b7", "{span:?}");
    }
    let root = named(&spans, "outer");
    assert_eq!(root.parent.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!((root.kind, root.says("loom.run.id")), (2, Some(run.as_str())));
    assert!(root.failed && root.says("error.type").is_some(), "{root:?}");
    let parent_of = |span: &Span| {
        let parent = span.parent.clone().unwrap();
        only(&spans, |other| other.id == parent).name.clone()
    };
    for name in ["Box", "Each", "Gone", "Never", "Child"] {
        assert_eq!(parent_of(named(&spans, name)), "outer");
    }
    assert_eq!(parent_of(named(&spans, "Quote")), "Box");
    let items: Vec<&Span> = spans.iter().filter(|span| span.name == "Item").collect();
    assert!(items.iter().all(|item| parent_of(item) == "Each"));
    let mut rounds: Vec<&str> = items.iter().filter_map(|item| item.says("loom.action.path")).collect();
    rounds.sort_unstable();
    assert_eq!(rounds, ["Each/0", "Each/1"]);

    let calls: Vec<&Span> = spans.iter().filter(|span| span.name == "POST").collect();
    let reported = |span: &Span| {
        let part = |name: &str| span.says(name).map(str::to_owned);
        (part("loom.attempt.number"), part("http.response.status_code"), span.failed)
    };
    let mut attempts: Vec<_> = calls.iter().map(|call| reported(call)).collect();
    attempts.sort();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(attempts, [(some("1"), some("503"), true), (some("2"), some("200"), false)]);
    assert!(calls.iter().all(|call| parent_of(call) == "Quote" && call.kind == 3));
    assert!(calls.iter().all(|call| call.says("server.address") == Some("127.0.0.1")));
    let gone = named(&spans, "Gone");
    assert!(gone.failed && gone.says("error.type").is_some(), "{gone:?}");
    assert_eq!(named(&spans, "Never").says("loom.action.status"), Some("Skipped"));
    // The child's run is below the call that started it.
    assert_eq!(parent_of(named(&spans, "inner")), "Workflow");
    assert_eq!(parent_of(named(&spans, "Workflow")), "Child");
    assert_eq!(parent_of(named(&spans, "Ask")), "inner");

    // The request names the span of its own attempt, and the query of its address is not exported.
    let sent: Vec<_> = mock.requests().into_iter().filter(|request| request.path != "/v1/traces").collect();
    assert_eq!(sent.len(), 4);
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    for request in &sent {
        let parts: Vec<&str> = request.header("traceparent").unwrap().split('-').collect();
        let [version, trace, span, flags] = parts[..] else { panic!("{parts:?}") };
        assert_eq!((version, trace, flags), ("00", CALLERS_TRACE, "01"));
        assert_eq!(by_id[span].name, request.method);
        assert_eq!(request.header("tracestate"), Some("vendor=opaque"));
    }
    assert!(!spans.iter().any(|span| span.all.to_json_text().contains("s3cret")));
    mock.stop().await;
}

#[tokio::test]
async fn a_run_without_a_caller_starts_a_trace_and_an_unsampled_one_stays_unsampled() {
    let mock = mock(r#"{"path": "/ok", "response": {"body": 1}},"#).await;
    let world = World::start(plan(to(&mock))).await;
    let call = format!(
        r#"{{"Call": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{}/ok"}}, "runAfter": {{}}}}}}"#,
        mock.base_url()
    );
    world.deploy("one", &requested(&call)).await;
    let (first, second) = (world.invoke("one", "").await, world.invoke("one", "").await);
    let path = "/workflows/one/triggers/manual/invoke";
    let mut runs = vec![first.clone(), second];
    let unsampled = CALLER.replace("-01", "-00");
    for wrong in [unsampled.as_str(), "no-trace", ""] {
        let reply = world.send(Method::POST, path, &[("traceparent", wrong)], "").await.whole().await;
        runs.push(reply.header("x-ms-workflow-run-id").unwrap().to_owned());
    }
    let mut traces = HashSet::new();
    for run in &runs {
        traces.insert(text(&world.ended(run).await, "traceId").to_owned());
    }
    // The resubmission has another caller than the original run.
    let again = world.post(&format!("/api/v1/runs/{first}/resubmit"), "{}").await.json();
    world.ended(text(&again, "id")).await;
    world.stop().await;
    let spans = spans(&mock);
    let roots: Vec<&Span> = spans.iter().filter(|span| span.name == "one").collect();
    assert_eq!(roots.len(), 5, "all except the unsampled one");
    assert!(roots.iter().all(|root| root.parent.is_none()));
    assert_eq!(roots.iter().map(|root| &root.trace).collect::<HashSet<_>>().len(), 5);
    assert_eq!(
        roots.iter().filter(|root| traces.contains(&root.trace)).count(),
        4,
        "the API shows the trace"
    );
    assert!(!spans.iter().any(|span| span.trace == CALLERS_TRACE));
    let parents: Vec<String> = mock
        .requests()
        .iter()
        .filter(|request| request.path == "/ok")
        .map(|request| request.header("traceparent").unwrap().to_owned())
        .collect();
    let followed: Vec<&String> = parents.iter().filter(|parent| parent.contains(CALLERS_TRACE)).collect();
    assert!(followed.len() == 1 && followed[0].ends_with("-00"), "{parents:?}");
    mock.stop().await;
}

#[tokio::test]
async fn without_a_collector_the_callers_context_is_passed_on_unchanged() {
    let mock = mock(r#"{"path": "/ok", "response": {"body": 1}},"#).await;
    let world = World::new().await;
    let call = format!(
        r#"{{"Call": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{}/ok"}}, "runAfter": {{}}}}}}"#,
        mock.base_url()
    );
    world.deploy("one", &requested(&call)).await;
    let run = world.invoke("one", "").await;
    world.ended(&run).await;
    let path = "/workflows/one/triggers/manual/invoke";
    let reply = world.send(Method::POST, path, &[("traceparent", CALLER)], "").await.whole().await;
    world.ended(reply.header("x-ms-workflow-run-id").unwrap()).await;
    let requests = mock.requests();
    let parents: Vec<Option<&str>> = requests.iter().map(|request| request.header("traceparent")).collect();
    assert_eq!(parents, [None, Some(CALLER)]);
    mock.stop().await;
}

#[tokio::test]
async fn a_run_continues_its_trace_after_a_restart() {
    let mock = mock(r#"{"path": "/ok", "response": {"body": 1}},"#).await;
    let base = mock.base_url();
    let directory = tempfile::tempdir().unwrap();
    let waits = requested(&format!(
        r#"{{"Early": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/ok"}}, "runAfter": {{}}}},
        "Each": {{"type": "Foreach", "foreach": "@createArray(1)", "runAfter": {{"Early": ["Succeeded"]}}, "actions": {{
            "Hook": {{"type": "HttpWebhook", "runAfter": {{}}, "inputs": {{
                "subscribe": {{"method": "POST", "uri": "{base}/ok", "body": "@listCallbackUrl()"}}, "unsubscribe": {{}}}}}},
            "After": {{"type": "Compose", "inputs": 1, "runAfter": {{"Hook": ["Succeeded"]}}}}}}}}}}"#
    ));
    let start = || async {
        let world = World::start(Plan { store: on_disk(directory.path()), ..plan(to(&mock)) }).await;
        world.deploy("waits", &waits).await;
        world
    };
    let world = start().await;
    let run = world.invoke("waits", "").await;
    let mut events = world.watch(&run, 0).await;
    while text(&events.next().await.expect("the run continues"), "type") != "action.waiting" {}
    drop(events);
    world.stop().await;
    let before = spans(&mock).len();
    assert!(before > 0, "ended spans were sent");

    let world = start().await;
    assert_eq!(world.recovered.runs, 1);
    let subscribed =
        mock.requests().into_iter().find(|request| request.method == "POST" && request.path == "/ok");
    let callback = String::from_utf8(subscribed.unwrap().body).unwrap();
    let path = callback.split_once("/callbacks").unwrap().1.to_owned();
    assert_eq!(world.post(&format!("/callbacks{path}"), "{}").await.status, 200);
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Succeeded");
    world.stop().await;

    let spans = spans(&mock);
    let root = named(&spans, "waits");
    assert!(spans.iter().all(|span| span.trace == root.trace));
    let parent_of = |name: &str| {
        let parent = named(&spans, name).parent.clone().unwrap();
        only(&spans, |other| other.id == parent).name.as_str()
    };
    let parents = ["Early", "GET", "Each", "Hook", "POST", "After"].map(parent_of);
    assert_eq!(parents, ["waits", "Early", "waits", "Each", "Hook", "Each"]);
    assert!(named(&spans, "Hook").start < named(&spans, "Hook").end, "it waited across the restart");
    mock.stop().await;
}

#[tokio::test]
async fn a_long_loop_has_a_bounded_number_of_spans_and_reports_later_failures() {
    let mock = mock("").await;
    let world = World::start(plan(to(&mock))).await;
    let each = r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 1000)", "runAfter": {}, "actions": {
        "Share": {"type": "Compose", "inputs": "@div(1, sub(item(), 900))", "runAfter": {}}}}}"#;
    world.deploy("long", &requested(each)).await;
    world.run("long", "").await;
    world.stop().await;
    let spans = spans(&mock);
    assert_eq!(spans.iter().filter(|span| span.name == "Share").count(), 256);
    let each = named(&spans, "Each");
    assert_eq!(each.events(), ["action failed"]);
    let event = attributes(&list(&each.all, "events")[0]);
    assert_eq!(event["loom.action.path"].as_str(), Some("Each/900"));
    mock.stop().await;
}

#[tokio::test]
async fn secrets_are_never_sent() {
    const SECRET: &str = "hunter2-the-secret";
    let mock =
        mock(r#"{"path": "/**/in", "response": {"status": 500, "body": "hunter2-the-secret"}},"#).await;
    let base = mock.base_url();
    let mut settings = to(&mock);
    settings.headers.push(("x-key".to_owned(), "for-the-collector".to_owned()));
    assert!(!format!("{settings:?}").contains("for-the-collector"));
    let mut plan = plan(settings);
    plan.host.parameters.insert("key", SECRET);
    let world = World::start(plan).await;
    let workflow = format!(
        r#"{{"definition": {{
            "parameters": {{"key": {{"type": "securestring"}}}},
            "triggers": {{"manual": {{"type": "Request"}}}},
            "actions": {{
                "Marked": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "@parameters('key')", "uri": "{base}/@{{parameters('key')}}/in", "retryPolicy": {{"type": "none"}}}}}},
                "Said": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/{SECRET}/in?a={SECRET}", "retryPolicy": {{"type": "none"}}}},
                    "runtimeConfiguration": {{"secureData": {{"properties": ["inputs", "outputs"]}}}}}},
                "Wrong": {{"type": "Compose", "inputs": "@int(parameters('key'))", "runAfter": {{}}}},
                "Wrong_too": {{"type": "ParseJson", "inputs": {{"content": "{SECRET}", "schema": {{"type": "object"}}}}, "runAfter": {{}},
                    "runtimeConfiguration": {{"secureData": {{"properties": ["inputs"]}}}}}}
            }}}}}}"#
    );
    world.deploy("secret", &workflow).await;
    world.run("secret", "").await;
    world.stop().await;
    let sent: Vec<_> = mock.requests().into_iter().filter(|request| request.path == "/v1/traces").collect();
    assert!(
        !sent.is_empty() && sent.iter().all(|request| request.header("x-key") == Some("for-the-collector"))
    );
    for request in &sent {
        let body = String::from_utf8(request.body.clone()).unwrap();
        assert!(!body.contains(SECRET), "{body}");
    }
    let spans = spans(&mock);
    assert!(
        named(&spans, "Said").failed && named(&spans, "Wrong").failed && named(&spans, "Wrong_too").failed
    );
    mock.stop().await;
}

#[tokio::test]
async fn hedges_fallbacks_observed_parts_and_chaos_are_attributes_of_their_spans() {
    let mock = mock(
        r#"{"path": "/slow", "responses": [{"delayMs": 600000}, {"body": "second"}]},
           {"path": "/down", "response": {"status": 503}},"#,
    )
    .await;
    let base = mock.base_url();
    let mut plan = plan(to(&mock));
    let chaos = r#"{"injections": [{"kind": "fault", "rate": 1, "action": "Struck", "code": "Gone"},
                                   {"kind": "latency", "rate": 1, "action": "Watched", "delay": 1}]}"#;
    plan.chaos = Some(Arc::new(ChaosPlan::read(chaos).unwrap()));
    let world = World::start(plan).await;
    let none = r#""retryPolicy": {"type": "none"}"#;
    let observed = r#""circuitBreaker": {"name": "down", "failureThreshold": 1, "mode": "observe"}"#;
    let actions = format!(
        r#"{{"Hedged": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/slow"}}, "hedge": {{"delay": 5}}, "runAfter": {{}}}},
             "Replaced": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/down", {none}}}, "fallback": {{"body": 0}}, {observed}, "runAfter": {{}}}},
             "Watched": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/down", {none}}}, {observed},
                "fallback": {{"body": 0, "mode": "observe"}}, "runAfter": {{"Replaced": ["Succeeded"]}}}},
             "Grouped": {{"type": "Scope", "actions": {{}}, {observed}, "runAfter": {{"Watched": ["Failed"]}}}},
             "Struck": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/never", {none}}}, "runAfter": {{}}}}}}"#
    );
    world.deploy("marked", &requested(&actions)).await;
    world.run("marked", "").await;
    world.stop().await;

    let spans = spans(&mock);
    let action = |name: &str| named(&spans, name);
    let call = |name: &str| {
        let owner = &action(name).id;
        only(&spans, |span| span.parent.as_ref() == Some(owner))
    };
    assert_eq!(call("Hedged").says("loom.hedge.copies"), Some("1"));
    assert_eq!(action("Replaced").says("loom.fallback.replaced"), Some("ServiceUnavailable"));
    assert_eq!(call("Replaced").says("loom.observed.parts"), None);
    assert_eq!(call("Watched").says("loom.observed.parts"), Some("breaker,fallback"));
    assert_eq!(call("Watched").says("loom.chaos.kinds"), Some("latency"));
    assert_eq!(action("Watched").says("loom.fallback.replaced"), None);
    assert_eq!(action("Grouped").says("loom.observed.parts"), Some("breaker"), "an admission has no span");
    assert_eq!(call("Struck").says("loom.chaos.kinds"), Some("fault"));
    assert_eq!(call("Struck").says("loom.hedge.copies"), None);
    mock.stop().await;
}

#[tokio::test]
async fn an_unresponsive_collector_delays_nothing() {
    let rules = r#"{"rules": [{"path": "/v1/traces", "response": {"delayMs": 600000}}]}"#;
    let mock = Mock::start(&json(rules)).await.unwrap();
    let mut settings = to(&mock);
    settings.queue_max = 4;
    settings.flush_timeout = Duration::from_millis(1);
    let world = World::start(plan(settings)).await;
    world.deploy("one", &requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    for _ in 0..20 {
        assert_eq!(text(&world.run("one", "").await, "status"), "Succeeded");
    }
    assert!(metric(&world, r#"loom_telemetry_spans_dropped_total{reason="queue_full"}"#).await > 0.0);
    assert!(metric(&world, "loom_telemetry_queued_spans").await <= 4.0);
    // The server stops although the collector has not responded.
    world.stop().await;
}

#[tokio::test]
async fn dropped_spans_are_counted() {
    // A port that was free a moment ago, so nothing listens there.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut settings = TelemetrySettings::new(format!("http://{free}/v1/traces"), "tested");
    settings.delay = Duration::from_millis(1);
    settings.retry_wait = Duration::from_millis(1);
    let unreachable = plan(settings);
    let rules = r#"{"rules": [{"path": "/v1/traces", "response": {"status": 400}}]}"#;
    let refusing = Mock::start(&json(rules)).await.unwrap();
    let rules = r#"{"rules": [{"path": "/v1/traces", "responses": [{"status": 503}, {"status": 429},
        {"body": {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "no"}}}]}]}"#;
    let busy = Mock::start(&json(rules)).await.unwrap();
    let dropped = |reason: &str| format!(r#"loom_telemetry_spans_dropped_total{{reason="{reason}"}}"#);
    for (plan, series) in [
        (unreachable, dropped("undelivered")),
        (plan(to(&refusing)), dropped("refused")),
        (plan(to(&busy)), dropped("refused")),
    ] {
        let world = World::start(plan).await;
        world.deploy("one", &requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
        assert_eq!(text(&world.run("one", "").await, "status"), "Succeeded");
        // The span is counted once the exporter has given up.
        while metric(&world, &series).await < 1.0 {
            tokio::task::yield_now().await;
        }
        world.stop().await;
    }
    assert_eq!(busy.requests()[0].body, busy.requests()[2].body, "the same spans are sent again");
}

#[tokio::test]
async fn spans_of_models_and_agents_have_the_attributes_of_the_conventions_and_no_text() {
    let mock = mock("").await;
    let mut plan = plan(to(&mock));
    let usage = r#""usage": {"inputTokens": 10, "outputTokens": 3}"#;
    let file = json(
        &r#"{"models": {"m": {"api": "scripted", "model": "tiny-1", "replies": [
            {"when": {"any": "hello"}, "text": "good-day", USAGE},
            {"when": {"turn": 0}, "toolCalls": [{"name": "look", "arguments": {"at": "hidden"}}], USAGE},
            {"when": {"turn": 1}, "text": "found-it", USAGE}]}}}"#
            .replace("USAGE", usage),
    );
    plan.requests.connections =
        loom_actions::Connections::from_json(&file, &loom_actions::Sources::default()).unwrap();
    let world = World::start(plan).await;
    let definition = requested(
        r#"{"Say": {"type": "AI", "inputs": {"prompt": "hello"}, "runAfter": {}},
            "Ask": {"type": "Agent", "runAfter": {"Say": ["Succeeded"]}, "inputs": {"parameters": {"messages": [{"role": "User", "content": "search"}]}},
                "tools": {"look": {"actions": {"Look": {"type": "Compose", "inputs": "@agentParameters('at')"}}}}},
            "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@outputs('Ask')?['lastAssistantMessage']"}, "runAfter": {"Ask": ["Succeeded"]}}}"#,
    );
    world.deploy("talk", &definition).await;
    let reply =
        world.send(Method::POST, "/workflows/talk/triggers/manual/invoke", &[], "").await.whole().await;
    let run = reply.header("x-ms-workflow-run-id").unwrap().to_owned();
    assert_eq!(reply.status, 200, "{}", reply.text());
    world.ended(&run).await;
    world.stop().await;

    let spans = spans(&mock);
    let operation = |span: &Span| span.says("gen_ai.operation.name").map(str::to_owned);
    let chats: Vec<&Span> = spans.iter().filter(|span| operation(span).as_deref() == Some("chat")).collect();
    assert_eq!(chats.len(), 3, "{spans:#?}");
    for chat in &chats {
        assert_eq!(chat.says("gen_ai.conversation.id"), Some(run.as_str()));
    }
    let of_agent: Vec<&&Span> =
        chats.iter().filter(|span| span.says("gen_ai.agent.name") == Some("Ask")).collect();
    assert_eq!(of_agent.len(), 2);
    let say = chats.iter().find(|span| span.says("gen_ai.agent.name").is_none()).expect("the AI action");
    assert_eq!(say.says("gen_ai.response.model"), Some("tiny-1"));
    let tokens = |span: &Span| {
        let count = |name: &str| span.says(&format!("gen_ai.usage.{name}_tokens")).map(str::to_owned);
        (count("input"), count("output"))
    };
    assert_eq!(tokens(say), (Some("10".into()), Some("3".into())));
    let agent = only(&spans, |span| operation(span).as_deref() == Some("invoke_agent"));
    assert_eq!((agent.name.as_str(), agent.says("gen_ai.agent.name")), ("Ask", Some("Ask")));
    assert_eq!(tokens(agent), (Some("20".into()), Some("6".into())), "the usage of all turns");
    for span in &spans {
        let text = span.all.to_json_text();
        for said in ["hello", "good-day", "search", "hidden", "found-it"] {
            assert!(!text.contains(said), "a span contains '{said}': {text}");
        }
    }
}
