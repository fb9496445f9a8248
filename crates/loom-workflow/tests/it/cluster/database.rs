//! Nodes whose database crashes, or waits for a standby.

use std::{collections::BTreeMap, time::Duration};

use super::{Cluster, deploy, end_of, eventually, invoke, on_request, server, service, steps};
use crate::served::{Loom, setting};

const CALL: Duration = Duration::from_millis(40);

const STEPS: usize = 8;

/// The nodes and what they own, as one of them sees it.
fn owners(node: &Loom) -> BTreeMap<String, i64> {
    let found = node.get("/api/v1/nodes");
    let nodes = found["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["shards"].as_i64().unwrap())).collect()
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
    // The runs stayed in memory, so nothing was interrupted.
    assert_eq!(seen.repeated(), 0);
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

impl Cluster {
    /// Executes a statement that cannot be part of a transaction.
    fn order(&self, sql: &str) {
        self.with_client(async |client| drop(client.simple_query(sql).await.unwrap()));
    }
}
