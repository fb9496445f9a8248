//! Nodes whose database crashes, or waits for a standby.

use std::{collections::BTreeMap, time::Duration};

use super::{Cluster, deploy, end_of, eventually, invoke, on_request, server, service, steps};
use crate::served::{Loom, pause, setting};

const CALL: Duration = Duration::from_millis(40);

const STEPS: usize = 8;

/// The nodes and what they own, as one of them sees it.
fn owners(node: &Loom) -> BTreeMap<String, i64> {
    let found = node.get("/api/v1/nodes");
    let nodes = found["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["shards"].as_i64().unwrap())).collect()
}

/// How often the store of a node has paused.
fn pauses(node: &Loom) -> u64 {
    let metrics = node.request("GET", "/metrics", b"").unwrap().body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("loom_store_pauses_total "));
    line.and_then(|number| number.parse().ok()).expect("the metric is there")
}

#[test]
fn a_database_that_crashes_loses_nothing_and_no_node_is_fenced() {
    let (service, seen) = service(CALL);
    let mut database = server::Server::start(&["fsync=off"]);
    let cluster = Cluster::on(&database);
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.settles(&a, 2);
    deploy(&a, &[&b], "steps", &steps(&service, STEPS, on_request()));
    let before = owners(&a);
    let mut runs = Vec::new();
    for round in 0..setting("LOOM_CLUSTER_CRASHES", 2) {
        for number in 0..20 {
            runs.push(invoke([&a, &b][number % 2], "steps", &format!("{round}-{number}")).unwrap());
        }
        let made = seen.count();
        eventually("calls are made", || seen.count() > made);
        database.crash_and_restart(&["fsync=off"]);
        for node in [&a, &b] {
            node.until("/readyz", |answer| answer.status == 200);
        }
    }
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    assert_eq!(seen.count(), STEPS * runs.len());
    // The runs stayed in memory, so nothing was interrupted. A store that has paused, because the database was away for longer than
    // three seconds, makes the calls again whose outcome it could not write: at most one of a run each time.
    let pauses: u64 = [&a, &b].map(pauses).iter().sum();
    assert!(seen.repeated() as u64 <= pauses * 20, "{} repeated, {pauses} pauses", seen.repeated());
    assert_eq!(owners(&b), before, "nobody was declared dead");
}

#[test]
fn while_the_standby_is_away_nothing_starts_and_no_shard_changes_hands() {
    let (service, seen) = service(CALL);
    let database = server::Server::start(&["fsync=off"]);
    let cluster = Cluster::on(&database);
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.settles(&a, 2);
    deploy(&a, &[&b], "steps", &steps(&service, STEPS, on_request()));
    let before = owners(&a);
    let runs: Vec<String> =
        (0..20).map(|number| invoke([&a, &b][number % 2], "steps", &number.to_string()).unwrap()).collect();
    eventually("calls are made", || seen.count() > 10);
    // Commits wait from now on for a standby that there is not.
    cluster.order("ALTER SYSTEM SET synchronous_standby_names = 'away'");
    cluster.order("SELECT pg_reload_conf()");
    for node in [&a, &b] {
        node.until("/readyz", |answer| answer.status == 503);
    }
    let made = seen.count();
    // All leases end meanwhile, also by the clock of the database.
    eventually("the leases have ended", || {
        cluster.ask("SELECT count(*) FROM loom.node WHERE lease_until > clock_timestamp()") == "0"
    });
    assert_eq!(seen.count(), made, "no call starts past the lease");
    cluster.order("ALTER SYSTEM RESET synchronous_standby_names");
    cluster.order("SELECT pg_reload_conf()");
    for node in [&a, &b] {
        node.until("/readyz", |answer| answer.status == 200);
    }
    for run in &runs {
        assert_eq!(end_of(&a, run), "Succeeded");
    }
    assert_eq!((seen.count(), seen.repeated()), (STEPS * runs.len(), 0));
    assert_eq!(owners(&b), before, "nobody was declared dead");
}

#[test]
fn backends_that_are_killed_during_a_takeover_lose_nothing_and_no_other_node_is_fenced() {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| cluster.node(name));
    cluster.settles(&b, 3);
    deploy(&b, &[&a, &c], "steps", &steps(&service, STEPS, on_request()));
    let runs: Vec<String> = (0..30)
        .map(|number| invoke([&a, &b, &c][number % 3], "steps", &number.to_string()).unwrap())
        .collect();
    eventually("calls are made", || seen.count() > 10);
    let before = owners(&b);
    a.kill();
    let one = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'loom/%'
        ORDER BY random() LIMIT 1";
    let mut killed = 0;
    for _ in 0..setting("LOOM_CLUSTER_BACKENDS", 40) {
        let ended = cluster.ask(&format!("SELECT count(pg_terminate_backend(pid)) FROM ({one}) AS one"));
        killed += ended.parse::<u64>().unwrap();
        pause(Duration::from_millis(100));
    }
    assert!(killed > 0, "there are backends to kill");
    cluster.settles(&b, 2);
    for run in &runs {
        assert_eq!(end_of(&c, run), "Succeeded");
    }
    assert_eq!(seen.count(), STEPS * runs.len());
    // Only calls of the process that was killed can have been interrupted: the others did not lose their runs.
    assert!(seen.repeated() <= runs.len() / 3, "{} calls were made again", seen.repeated());
    assert!(owners(&b).keys().all(|node| before.contains_key(node)), "nobody else was declared dead");
}

impl Cluster {
    /// Executes a statement that cannot be part of a transaction.
    fn order(&self, sql: &str) {
        self.with_client(async |client| drop(client.simple_query(sql).await.unwrap()));
    }
}
