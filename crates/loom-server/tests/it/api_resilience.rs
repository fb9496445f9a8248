//! Services over HTTP: their state after a restart, and after a new deployment.

use std::sync::Arc;

use loom_store::{MemoryStore, Store};

use crate::support::{Plan, World, list, requested, text};

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
    let isolated = |service: &loom_expression::Value| {
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
