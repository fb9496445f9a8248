//! Services over HTTP: their state after a restart, and after a new deployment.

use std::sync::Arc;

use hyper::Method;
use loom_definition::policy::Policies;
use loom_expression::{Timestamp, Value};
use loom_server::{HostSettings, PoliciesRefused};
use loom_store::{MemoryStore, Store};

use crate::{
    support::{Plan, World, list, requested, text},
    ui::page,
};

/// A workflow whose only action takes a permit of the service `iso`.
fn limited(limit: &str) -> String {
    requested(&format!(
        r#"{{"Tick": {{"type": "Scope", "actions": {{}}, "runAfter": {{}},
            "rateLimit": {{"name": "iso", "maxWait": 0, {limit}}}}}}}"#
    ))
}

async fn started(store: &Arc<dyn Store>) -> World {
    World::start(Plan { store: Arc::clone(store), ..Plan::default() }).await
}

/// How a new run of `tick` ends.
async fn tick(world: &World) -> String {
    let run = world.invoke("tick", "").await;
    text(&world.ended(&run).await, "status").to_owned()
}

/// The names of all services, and which of them are isolated.
async fn services(world: &World) -> Vec<(String, bool)> {
    let listed = world.get("/api/v1/resilience").await.json();
    let isolated = |service: &Value| {
        service.get("circuit").and_then(|circuit| circuit.get("isolated")?.as_bool()).unwrap_or_default()
    };
    list(&listed, "services")
        .iter()
        .map(|service| (text(service, "name").to_owned(), isolated(service)))
        .collect()
}

#[tokio::test]
async fn services_survive_a_restart_and_follow_their_definitions() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let first = started(&store).await;
    first.deploy("tick", &limited(r#""requests": 2, "per": "hour""#)).await;
    assert_eq!([tick(&first).await, tick(&first).await], ["Succeeded", "Succeeded"]);
    // The process dies without a shutdown.
    drop(first);

    let second = started(&store).await;
    let known = |isolated| vec![("iso".to_owned(), isolated)];
    assert_eq!(services(&second).await, known(false), "it is known before its first call");
    assert_eq!(second.post("/api/v1/resilience/iso/open", "").await.status, 200);
    drop(second);

    let third = started(&store).await;
    assert_eq!(services(&third).await, known(true));
    assert_eq!(third.post("/api/v1/resilience/iso/close", "").await.status, 200);
    assert_eq!(services(&third).await, known(false));
    assert_eq!(third.post("/api/v1/resilience/other/close", "").await.status, 404);
    third.deploy("tick", &limited(r#""requests": 2, "per": "hour""#)).await;
    assert_eq!(tick(&third).await, "Failed", "both permits of the hour were spent by the first process");

    // A changed limit applies to the next run.
    third.deploy("tick", &limited(r#""requests": 1000, "per": "second""#)).await;
    assert_eq!(tick(&third).await, "Succeeded");
    third.deploy("tick", &limited(r#""requests": 1, "per": "day""#)).await;
    assert_eq!([tick(&third).await, tick(&third).await].last().map(String::as_str), Some("Failed"));
}

/// The state of the circuit `iso`: in the list, and in the metrics.
async fn states(world: &World) -> (String, Vec<String>) {
    let listed = world.get("/api/v1/resilience").await.json();
    let circuit = list(&listed, "services")[0].get("circuit").unwrap().clone();
    let page = world.get("/metrics").await.text();
    let set = page.lines().filter_map(|line| {
        line.strip_prefix(r#"loom_circuit_state{service="iso",state=""#)?.strip_suffix(r#""} 1"#)
    });
    (text(&circuit, "state").to_owned(), set.map(str::to_owned).collect())
}

#[tokio::test]
async fn an_isolated_circuit_has_its_own_state_in_lists_and_metrics() {
    let world = World::new().await;
    world.deploy("tick", &limited(r#""requests": 9, "per": "hour""#)).await;
    assert_eq!(tick(&world).await, "Succeeded");
    let only = |state: &str| (state.to_owned(), vec![state.to_owned()]);
    assert_eq!(states(&world).await, only("Closed"));

    assert_eq!(world.post("/api/v1/resilience/iso/isolate", "").await.status, 200);
    assert_eq!(states(&world).await, only("Isolated"));
    let page = world.get("/metrics").await.text();
    for state in ["Closed", "Open", "HalfOpen"] {
        let sample = format!(r#"loom_circuit_state{{service="iso",state="{state}"}} 0"#);
        assert!(page.contains(&sample), "{sample} is missing");
    }

    assert_eq!(world.post("/api/v1/resilience/iso/close", "").await.status, 200);
    assert_eq!(states(&world).await, only("Closed"));
}

/// The history of the service `iso`: the changes of its circuit, newest first, with who made them.
async fn changes(world: &World) -> Vec<(String, String, Option<String>)> {
    let history = world.get("/api/v1/resilience/iso/history").await.json();
    let change = |change: &Value| {
        let by = change.get("by").and_then(Value::as_str).map(str::to_owned);
        (text(change, "from").to_owned(), text(change, "to").to_owned(), by)
    };
    list(&history, "changes").iter().map(change).collect()
}

#[tokio::test]
async fn calls_of_the_last_hour_and_changes_of_a_circuit_are_shown() {
    let world = World::new().await;
    let calls = r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/", "retryPolicy": {"type": "none"}},
        "runAfter": {}, "circuitBreaker": {"name": "iso", "failureThreshold": 2, "timeout": "PT10M"}}}"#;
    world.deploy("tick", &requested(calls)).await;
    for _ in 0..3 {
        assert_eq!(tick(&world).await, "Failed");
    }
    let listed = world.get("/api/v1/resilience").await.json();
    let service = &list(&listed, "services")[0];
    let hour = service.get("lastHour").unwrap();
    let count = |document: &Value, name: &str| document.get(name).and_then(Value::as_i64).unwrap();
    assert_eq!(["calls", "failures", "refused", "waits"].map(|name| count(hour, name)), [2, 2, 1, 0]);
    let circuit = service.get("circuit").unwrap();
    let time = |name: &str| text(circuit, name).parse::<Timestamp>().unwrap();
    let open_for = time("nextProbe").unix_millis() - time("since").unix_millis();
    assert!((590_000..=610_000).contains(&open_for), "{open_for}");

    let history = world.get("/api/v1/resilience/iso/history").await.json();
    let minutes = list(&history, "minutes");
    assert_eq!((minutes.len(), text(&history, "name")), (60, "iso"));
    for (name, total) in [("calls", 2), ("failures", 2), ("refused", 1)] {
        assert_eq!(minutes.iter().map(|minute| count(minute, name)).sum::<i64>(), total, "{name}");
    }
    let opened = &list(&history, "changes")[0];
    assert_eq!((text(opened, "cause"), count(opened, "openForMs")), ("2 failures in a row", 600_000));

    let html = page(&world, "/ui/resilience").await;
    assert!(html.contains("href=\"/ui/resilience/iso\"") && html.contains("2 calls, 2 failures"), "{html}");
    let html = page(&world, "/ui/resilience/iso").await;
    assert!(html.contains("1 refused call") && html.contains("2 failures in a row"), "{html}");
    assert!(html.contains("Calls in each minute of the last hour: 2 calls, 2 failures"), "{html}");

    // What an operator changes is recorded once, with who did it.
    for change in ["close", "isolate", "reset", "close"] {
        assert_eq!(world.post(&format!("/api/v1/resilience/iso/{change}"), "").await.status, 200);
    }
    let by = |from: &str, to: &str, by: Option<&str>| (from.to_owned(), to.to_owned(), by.map(str::to_owned));
    let expected = [
        by("Isolated", "Closed", Some("api")),
        by("Closed", "Isolated", Some("api")),
        by("Open", "Closed", Some("api")),
        by("Closed", "Open", None),
    ];
    assert_eq!(changes(&world).await, expected, "closing a closed circuit changes nothing");
    let unknown = world.get("/api/v1/resilience/none/history").await;
    assert_eq!((unknown.status, unknown.error().as_str()), (404, "ServiceNotFound"));
    world.stop().await;
}

#[tokio::test]
async fn observed_refusals_are_in_the_history_and_counted_once() {
    let world = World::new().await;
    world.deploy("tick", &limited(r#""requests": 1, "per": "hour", "mode": "observe""#)).await;
    assert_eq!(tick(&world).await, "Succeeded");
    let run = world.invoke("tick", "").await;
    assert_eq!(text(&world.ended(&run).await, "status"), "Succeeded", "it is only observed");
    let events = world.events(&run, 0).await;
    let observed: Vec<_> = events.iter().filter(|event| text(event, "type") == "policy.observed").collect();
    let [only] = observed[..] else { panic!("one observed refusal: {events:?}") };
    let data = only.get("data").unwrap();
    assert_eq!((text(only, "action"), text(data, "service"), text(data, "part")), ("Tick", "iso", "limiter"));
    let shown = world.get(&format!("/api/v1/runs/{run}/actions/Tick")).await.json();
    let attempt = &list(&list(&shown, "occurrences")[0], "attempts")[0];
    assert_eq!(text(&list(attempt, "notes")[0], "type"), "policy.observed", "{attempt:?}");
    let page = world.get("/metrics").await.text();
    let sample = r#"loom_calls_observed_total{service="iso",part="limiter"} 1"#;
    assert!(page.contains(sample), "counted once: {page}");
}

fn policies(text: &str) -> Arc<Policies> {
    Arc::new(Policies::read(text).unwrap())
}

/// A server whose project has `file` as its policies.
async fn with_file(store: &Arc<dyn Store>, file: &str) -> World {
    let mut plan = Plan { store: Arc::clone(store), ..Plan::default() };
    plan.host = HostSettings { policies: Some(policies(file)), ..HostSettings::new("") };
    World::start(plan).await
}

/// The origin of a value of the policy of `iso`, and whether the policy is stored.
async fn origin(world: &World, pointer: &str) -> (String, bool) {
    let shown = world.get("/api/v1/resilience/iso").await.json();
    let setting = list(&shown, "settings").iter().find(|setting| text(setting, "pointer") == pointer);
    let origin = setting.map(|setting| text(setting, "origin").to_owned()).unwrap_or_default();
    (origin, shown.get("stored").unwrap().as_bool().unwrap())
}

const ISO: &str = "/api/v1/resilience/iso";
const ONE: &str = r#"{"defaults": {"rateLimit": {"per": "hour", "maxWait": 0}}, "services": {"iso": {"rateLimit": {"requests": 1}}}}"#;
const USES: &str = r#"{"Tick": {"type": "Scope", "actions": {}, "runAfter": {}, "policy": "iso"}}"#;

#[tokio::test]
async fn a_policy_that_an_operator_sets_survives_restarts_and_goes_before_the_file() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let first = with_file(&store, ONE).await;
    first.deploy("tick", &requested(USES)).await;
    assert_eq!([tick(&first).await, tick(&first).await], ["Succeeded", "Failed"]);
    assert_eq!(origin(&first, "/rateLimit/requests").await, ("services.iso".to_owned(), false));
    let set = first.call(Method::PUT, ISO, r#"{"rateLimit": {"requests": 2}}"#).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(tick(&first).await, "Succeeded", "one more than before");
    // The process dies without a shutdown.
    drop(first);

    let second = with_file(&store, ONE).await;
    second.deploy("tick", &requested(USES)).await;
    assert_eq!(tick(&second).await, "Failed", "both permits are consumed, and the limit is still two");
    assert_eq!(origin(&second, "/rateLimit/requests").await, ("stored.iso".to_owned(), true));
    assert_eq!(origin(&second, "/rateLimit/per").await.0, "defaults", "it inherits from the file");
    // A change of the file does not reach the service, except through what it inherits.
    let changed = ONE.replace(r#""requests": 1"#, r#""requests": 9"#).replace("hour", "day");
    second.host.replace_policies(policies(&changed)).unwrap();
    assert_eq!(second.host.hidden_policies().iter().map(|name| &**name).collect::<Vec<_>>(), ["iso"]);
    let shown = second.get(ISO).await.text();
    assert!(shown.contains(r#""value":2"#) && shown.contains(r#""value":"day""#), "{shown}");

    let removed = second.call(Method::DELETE, ISO, "").await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(origin(&second, "/rateLimit/requests").await, ("services.iso".to_owned(), false));
    assert_eq!(tick(&second).await, "Succeeded", "the file allows nine");
    let again = second.call(Method::DELETE, ISO, "").await;
    assert_eq!((again.status, again.error()), (404, "PolicyNotStored".to_owned()));
    let other = "/api/v1/resilience/a%20new%2Fone";
    let defined = second.call(Method::PUT, other, r#"{"rateLimit": {"requests": 3}}"#).await;
    assert_eq!(defined.status, 200, "{}", defined.text());
    assert_eq!(second.call(Method::DELETE, other, "").await.status, 200, "one that only PUT has defined");
    assert_eq!(second.get(other).await.status, 404);
    drop(second);
    let third = with_file(&store, ONE).await;
    assert!(!origin(&third, "/rateLimit/requests").await.1, "it stays removed");
}

#[tokio::test]
async fn a_policy_that_cannot_take_effect_is_not_stored() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = with_file(&store, ONE).await;
    let uses = USES.replace(r#""policy""#, r#""bulkhead": {"mode": "observe"}, "policy""#);
    let with_bulkhead = ONE.replace(r#""iso": {"#, r#""iso": {"bulkhead": {"maxConcurrent": 1}, "#);
    world.host.replace_policies(policies(&with_bulkhead)).unwrap();
    world.deploy("tick", &requested(&uses)).await;
    for (body, status, code) in [
        (r#"{"rateLimit": {"requests": 2}"#, 400, "BadRequest"),
        ("[]", 400, "BadRequest"),
        ("", 400, "BadRequest"),
        (r#"{"rateLimit": {"requets": 2}}"#, 400, "InvalidPolicy"),
        (r#"{"base": "iso"}"#, 400, "InvalidPolicy"),
        (r#"{"rateLimit": {"requests": 99999999999999999999}}"#, 400, "InvalidPolicy"),
        (r#"{"timeout": "5 minutes"}"#, 400, "InvalidPolicy"),
        // The action overrides a part of the bulkhead, which then would have no limit.
        (r#"{"rateLimit": {"requests": 2}}"#, 409, "PolicyInUse"),
    ] {
        let answer = world.call(Method::PUT, ISO, body).await;
        assert_eq!((answer.status, &*answer.error()), (status, code), "{body}: {}", answer.text());
    }
    assert_eq!(origin(&world, "/rateLimit/requests").await, ("services.iso".to_owned(), false));
    drop(world);
    let world = with_file(&store, &with_bulkhead).await;
    assert!(!origin(&world, "/rateLimit/requests").await.1, "nothing was stored");
}

#[tokio::test]
async fn a_stored_policy_that_no_longer_fits_the_file_is_named_and_never_stops_a_server() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let based = ONE.replace(r#""services": {"#, r#""services": {"base": {"rateLimit": {"requests": 5}}, "#);
    let first = with_file(&store, &based).await;
    assert_eq!(first.call(Method::PUT, ISO, r#"{"base": "base"}"#).await.status, 200);
    let refused = first.host.replace_policies(policies(ONE)).unwrap_err();
    assert!(matches!(&refused, PoliciesRefused::Stored { service, .. } if &**service == "iso"), "{refused}");
    assert!(refused.to_string().contains("`loom resilience unset iso`"), "{refused}");
    drop(first);

    // The base was removed while the server was down.
    let second = with_file(&store, ONE).await;
    assert_eq!(origin(&second, "/rateLimit/requests").await, ("services.iso".to_owned(), true));
    assert_eq!(second.call(Method::DELETE, ISO, "").await.status, 200);
    assert_eq!(origin(&second, "/rateLimit/requests").await, ("services.iso".to_owned(), false));
}
