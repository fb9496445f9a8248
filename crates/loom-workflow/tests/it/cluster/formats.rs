//! Nodes with different settings, and of different versions.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::{Cluster, LONG, SHORT, deploy, end_of, eventually, invoke, on_request, service, steps};
use crate::served::Loom;

fn differs(asked: &Loom, name: &str) -> Value {
    let found = asked.get("/api/v1/nodes");
    let node = found["nodes"].as_array().unwrap().iter().find(|node| node["name"] == *name);
    node.unwrap_or_else(|| panic!("no node {name}: {found}"))["differsIn"].clone()
}

#[test]
fn nodes_say_in_which_settings_they_differ() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, text.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy =
        |failures: u32| json!({"services": {"billing": {"circuitBreaker": {"failureThreshold": failures}}}});
    let (one, other) = (file("one.json", &policy(3)), file("other.json", &policy(4)));
    let cluster = Cluster::new();
    let node = |name: &str, more: &[&str]| cluster.node_with(name, LONG, more);
    let a = node("a", &["--resilience", &one]);
    let _same = node("same", &["--resilience", &one]);
    let b = node("b", &["--resilience", &other, "--public-url", "https://loom.example"]);
    cluster.settles(&a, 3);
    // The control: nodes with the same settings do not differ.
    assert_eq!(differs(&a, "same"), json!([]));
    assert_eq!(differs(&a, "b"), json!(["policies", "public-url"]));
    assert_eq!(differs(&b, "a"), json!(["policies", "public-url"]));
    for path in ["/readyz", "/healthz"] {
        let shown = |names: Value| {
            a.until(path, |answer| {
                serde_json::from_str::<Value>(&answer.body).unwrap()["cluster"]["nodesThatDiffer"] == names
            })
        };
        assert_eq!(shown(json!(["b"])).status, 200);
    }
    // Nothing but digests is stored.
    let stored = cluster.ask("SELECT string_agg(settings, ' ') FROM loom.node");
    assert!(!stored.contains("billing") && !stored.contains("example"), "{stored}");
    // A file that is read again is compared again.
    file("other.json", &policy(3));
    eventually("the policies are the same", || differs(&a, "b") == json!(["public-url"]));
}

/// Runs with more than 64 frames each, so that the newest format has a waymark.
const STEPS: usize = 80;

#[test]
fn nodes_of_two_formats_take_over_each_others_runs() {
    let (service, seen) = service(Duration::from_millis(5));
    let cluster = Cluster::new();
    let old = || cluster.node_with("old", SHORT, &["--journal-format", "1"]);
    let (before, mut new) = (old(), cluster.node("new"));
    cluster.settles(&new, 2);
    deploy(&new, &[&before], "long", &steps(&service, STEPS, on_request()));
    let waymarks = || {
        let sql =
            "SELECT count(*) FROM loom.frame WHERE seq % 64 = 0 AND codec = 0 AND get_byte(payload, 1) = 0";
        cluster.ask(sql).parse::<u64>().unwrap()
    };
    let formats =
        || cluster.ask("SELECT string_agg(DISTINCT format::text, ' ' ORDER BY format::text) FROM loom.shard");
    let begin = |node: &Loom, round: &str| -> Vec<String> {
        let runs = (0..6).map(|number| invoke(node, "long", &format!("{round}-{number}")).unwrap()).collect();
        let before = seen.count();
        eventually("the runs are in progress", || seen.count() > before + 6);
        runs
    };
    let end = |node: &Loom, runs: Vec<String>| {
        for run in runs {
            assert_eq!(end_of(node, &run), "Succeeded");
        }
    };
    // The older one takes over what the newer one has begun.
    let runs = begin(&new, "new");
    new.kill();
    end(&before, runs);
    assert_eq!(waymarks(), 0);
    assert!(!formats().contains('2'), "{}", formats());
    // The newer one takes over what the older one has begun.
    new = cluster.node("new");
    cluster.settles(&new, 2);
    let runs = begin(&before, "old");
    before.kill();
    end(&new, runs);
    // The last older one has gone: the newer format is written. This is also the control of what was counted before.
    cluster.settles(&new, 1);
    eventually("the format is raised", || formats() == "2");
    let runs = begin(&new, "raised");
    end(&new, runs);
    assert!(waymarks() > 0);
    // One that cannot read it joins, claims nothing, says why, and passes requests on.
    let late = old();
    late.until("/readyz", |answer| answer.status == 503 && answer.body.contains("format 2"));
    let runs = begin(&late, "late");
    end(&new, runs);
    let found = new.get("/api/v1/nodes");
    let shards: Vec<i64> =
        found["nodes"].as_array().unwrap().iter().map(|node| node["shards"].as_i64().unwrap()).collect();
    assert_eq!(shards, [1_024, 0], "{found}");
}
