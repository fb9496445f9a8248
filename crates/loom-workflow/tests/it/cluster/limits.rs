//! Rate limits and circuits of all nodes together.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Cluster, LONG, definition, deploy, end_of, eventually, invoke, on_request};
use crate::served::{Loom, Request, Service, pause};

/// A workflow of one call to a service, with a part of its policy.
fn calls(service: &Service, part: &str, settings: Value) -> Value {
    let mut call = json!({"type": "Http", "runAfter": {}, "inputs": {"method": "POST", "uri": service.address,
        "retryPolicy": {"type": "none"}}});
    call[part] = settings;
    definition(on_request(), json!({ "call": call }))
}

fn three(cluster: &Cluster) -> [Loom; 3] {
    let nodes = ["a", "b", "c"].map(|name| cluster.node_with(name, LONG, &[]));
    cluster.settles(&nodes[0], 3);
    nodes
}

#[test]
fn a_rate_limit_is_that_of_all_nodes() {
    const RATE: u32 = 20;
    const BURST: u32 = 5;
    const CALLS: usize = 60;
    let last = Arc::new(Mutex::new(Instant::now()));
    let record = Arc::clone(&last);
    let service = Service::start(move |_: Request| {
        *record.lock().unwrap() = Instant::now();
        (200, json!({}))
    });
    let cluster = Cluster::new();
    let nodes = three(&cluster);
    let deployed = |name: &str, limit: Value| {
        deploy(&nodes[0], &[&nodes[1], &nodes[2]], name, &calls(&service, "rateLimit", limit));
    };
    let started = |name: &str, count: usize| -> Vec<String> {
        let start = |number: usize| invoke(&nodes[number % 3], name, &format!("{name}-{number}")).unwrap();
        (0..count).map(start).collect()
    };
    deployed("rate", json!({"name": "rate", "requests": RATE, "per": "second", "burst": BURST}));
    // Everything that is permitted is permitted after this.
    let began = Instant::now();
    for run in started("rate", CALLS) {
        assert_eq!(end_of(&nodes[0], &run), "Succeeded");
    }
    let took = last.lock().unwrap().duration_since(began);
    let most = f64::from(RATE) * took.as_secs_f64() + f64::from(BURST);
    eprintln!("{CALLS} calls in {took:?}, which permit {most:.1}");
    // Nodes know the time of the database up to the time of a request.
    assert!(CALLS as f64 <= most + 1.0, "{CALLS} calls in {took:?}");
    // A long limit, whose calls do not wait: the number of calls depends on nothing else.
    for (scope, permitted) in [("cluster", 6), ("node", 3 * 6)] {
        let limit = json!({"name": scope, "requests": 6, "per": "day", "maxWait": "PT0S", "scope": scope});
        deployed(scope, limit);
        let runs = started(scope, 36);
        let succeeded = runs.iter().filter(|run| end_of(&nodes[0], run) == "Succeeded").count();
        assert_eq!(succeeded, permitted, "scope {scope}");
    }
}

fn circuit(node: &Loom, name: &str) -> Option<String> {
    let found = node.get("/api/v1/resilience");
    let services = found["services"].as_array().unwrap();
    let service = services.iter().find(|service| service["name"] == *name)?;
    Some(service["circuit"]["state"].as_str().unwrap().to_owned())
}

#[test]
fn a_circuit_opens_and_closes_at_all_nodes_and_one_of_them_probes() {
    let (fails, holds) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let called = Arc::new(AtomicUsize::new(0));
    let (failing, holding, counted) = (Arc::clone(&fails), Arc::clone(&holds), Arc::clone(&called));
    let service = Service::start(move |_: Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        while holding.load(Ordering::SeqCst) {
            pause(Duration::from_millis(5));
        }
        (if failing.load(Ordering::SeqCst) { 500 } else { 200 }, json!({}))
    });
    let cluster = Cluster::new();
    let nodes = three(&cluster);
    let open_for = Duration::from_secs(3);
    for scope in ["node", "cluster"] {
        let breaker = json!({"name": scope, "failureThreshold": 3, "timeout": "PT3S", "halfOpenRequests": 1, "successThreshold": 1, "scope": scope});
        deploy(&nodes[0], &[&nodes[1], &nodes[2]], scope, &calls(&service, "circuitBreaker", breaker));
    }
    let run_at =
        |node: &Loom, scope: &str, key: &str| invoke(node, scope, &format!("{scope}-{key}")).unwrap();
    // It opens at the first node, by failures that only this one has seen.
    let mut opened = Instant::now();
    for scope in ["node", "cluster"] {
        for number in 0..3 {
            let run = run_at(&nodes[0], scope, &format!("fails-{number}"));
            assert_eq!(end_of(&nodes[0], &run), "Failed");
        }
        opened = Instant::now();
        assert_eq!(circuit(&nodes[0], scope).as_deref(), Some("Open"));
    }
    for node in &nodes[1..] {
        eventually("the circuit opens at another node", || {
            circuit(node, "cluster").as_deref() == Some("Open")
        });
        // The control: the other one, which opened before, is that of its node.
        assert_ne!(circuit(node, "node").as_deref(), Some("Open"));
    }
    eprintln!("open at all nodes {:?} after it opened at one", opened.elapsed());
    // The service works again, and takes its time for the probe.
    fails.store(false, Ordering::SeqCst);
    for (scope, probes) in [("cluster", 1), ("node", 3)] {
        if scope == "node" {
            // All nodes have opened theirs.
            fails.store(true, Ordering::SeqCst);
            for (place, node) in nodes.iter().enumerate() {
                while circuit(node, scope).as_deref() != Some("Open") {
                    let run =
                        run_at(node, scope, &format!("opens-{place}-{}", called.load(Ordering::SeqCst)));
                    end_of(node, &run);
                }
            }
            fails.store(false, Ordering::SeqCst);
        }
        pause(open_for);
        called.store(0, Ordering::SeqCst);
        holds.store(true, Ordering::SeqCst);
        let runs: Vec<String> =
            (0..9).map(|number| run_at(&nodes[number % 3], scope, &format!("probes-{number}"))).collect();
        let ended = |run: &&String| nodes[0].get(&format!("/api/v1/runs/{run}")).get("endTime").is_some();
        eventually("all runs but those that probe have ended", || {
            runs.iter().filter(ended).count() == runs.len() - probes
        });
        assert_eq!(called.load(Ordering::SeqCst), probes, "scope {scope}");
        holds.store(false, Ordering::SeqCst);
        let succeeded = runs.iter().filter(|run| end_of(&nodes[0], run) == "Succeeded").count();
        assert_eq!(succeeded, probes);
        for node in &nodes {
            eventually("the circuit is closed again", || circuit(node, scope).as_deref() == Some("Closed"));
        }
    }
}
