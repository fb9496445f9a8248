//! The page of metrics is in the format that Prometheus reads, and counts what happened.

use std::collections::BTreeMap;

use crate::support::{Plan, World, on_disk, requested};

/// Samples by name and labels; checks the format on the way.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "told twice: {line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = kinds.get(name).or_else(|| stem.and_then(|stem| kinds.get(stem)));
        let kind = known.unwrap_or_else(|| panic!("no type before {line}"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn metrics_count_runs_and_commits() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(folder.path()), ..Plan::default() }).await;
    world.deploy("orders", &requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let before = samples(&world.get("/metrics").await.text());
    for _ in 0..3 {
        world.run("orders", "").await;
    }
    let reply = world.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let after = samples(&reply.text());
    let grew = |name: &str| after[name] - before[name];
    assert!((grew("loom_runs_started_total") - 3.0).abs() < f64::EPSILON);
    assert!((grew("loom_runs_ended_total{status=\"Succeeded\"}") - 3.0).abs() < f64::EPSILON);
    assert!(grew("loom_store_commits_total") >= 3.0);
    // The buckets of a histogram count up to the whole.
    for name in ["loom_store_commit_seconds", "loom_store_group_seconds", "loom_store_sync_seconds"] {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, value) in &after {
            if let Some(end) = series.strip_prefix(&format!("{name}_bucket{{le=\"")) {
                let end = end.trim_end_matches("\"}").replace("+Inf", "inf");
                buckets.push((end.parse().unwrap(), *value));
            }
        }
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        let (last, all) = *buckets.last().unwrap();
        assert!(last.is_infinite() && (all - after[&format!("{name}_count")]).abs() < f64::EPSILON, "{name}");
    }
}
