//! `/metrics` is in the format of Prometheus, and counts what happened.

use std::collections::{BTreeMap, BTreeSet};

use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, on_disk, requested, text};

/// Labels of one sample, in their order.
type Labels = Vec<(String, String)>;

/// A parsed page of metrics; parsing checks the format.
#[derive(Debug, Default)]
struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Page {
    fn read(page: &str) -> Page {
        assert!(page.ends_with('\n'), "the last line ends with a newline");
        let (mut read, mut helped, mut last) = (Page::default(), BTreeSet::new(), String::new());
        for line in page.lines() {
            if let Some(head) = line.strip_prefix("# HELP ") {
                let (name, help) = head.split_once(' ').unwrap();
                assert!(is_name(name) && help.ends_with('.'), "{line}");
                assert!(helped.insert(name.to_owned()), "helped twice: {line}");
                name.clone_into(&mut last);
            } else if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').unwrap();
                assert_eq!(name, last, "the type follows the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(kind != "histogram" || name.ends_with("_seconds"), "its unit: {line}");
                assert!(read.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "typed twice: {line}");
            } else {
                let (name, labels, value) = sample(line);
                let kind = read.kinds.get(&last).unwrap_or_else(|| panic!("no type before {line}"));
                let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{last}{part}"));
                let fits = if kind == "histogram" { parts.contains(&name) } else { name == last };
                assert!(fits, "{line} is below {last}");
                assert!(kind == "gauge" || value >= 0.0, "{line}");
                assert!(read.samples.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        assert_eq!(helped, read.kinds.keys().cloned().collect());
        read.check_histograms();
        read
    }

    /// Checks that the buckets of each set of labels are cumulative.
    fn check_histograms(&self) {
        for name in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), value) in
                self.samples.iter().filter(|((known, _), _)| *known == format!("{name}_bucket"))
            {
                let mut labels = labels.clone();
                let (le, end) = labels.pop().unwrap();
                assert_eq!(le, "le");
                series.entry(labels).or_default().push((end.replace("+Inf", "inf").parse().unwrap(), *value));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
                let (end, all) = *buckets.last().unwrap();
                assert!(end.is_infinite(), "{name}");
                let of = |part: &str| self.samples[&(format!("{name}{part}"), labels.clone())];
                assert!((all - of("_count")).abs() < f64::EPSILON, "{name}");
                assert_eq!(of("_sum") > 0.0, of("_sum") > 0.0 && all > 0.0, "{name}");
            }
        }
    }

    /// The sample with exactly these labels; 0 when there is none yet.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied().unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// `name{label="value",…} number`, with the escapes of values undone.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    assert!(is_name(name), "{line}");
    let (mut labels, mut rest) = (Labels::new(), rest);
    while rest != "}" {
        let (label, behind) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (at, character) in behind.char_indices() {
            match (escaped, character) {
                (true, 'n') => text.push('\n'),
                (true, '\\' | '"') => text.push(character),
                (true, other) => panic!("'\\{other}' in {line}"),
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, '\\') => {}
                (false, other) => text.push(other),
            }
            escaped = !escaped && character == '\\';
        }
        labels.push((label.to_owned(), text));
        rest = &behind[end.unwrap() + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value.parse().unwrap())
}

async fn page(world: &World) -> Page {
    let reply = world.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Page::read(&reply.text())
}

fn same(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-9, "{left} is not {right}");
}

#[tokio::test]
async fn metrics_count_runs_and_commits() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    // A name may contain characters that the format has to escape.
    let name = "or\"de\\rs";
    world.deploy(name, &requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let before = page(&world).await;
    for _ in 0..3 {
        world.run("or%22de%5Crs", "").await;
    }
    let after = page(&world).await;
    let grew = |name: &str, labels: &[(&str, &str)]| after.get(name, labels) - before.get(name, labels);
    same(grew("loom_runs_started_total", &[("workflow", name)]), 3.0);
    same(grew("loom_runs_ended_total", &[("workflow", name), ("status", "Succeeded")]), 3.0);
    same(grew("loom_runs_ended_total", &[("workflow", name), ("status", "Failed")]), 0.0);
    same(grew("loom_run_duration_seconds_count", &[("workflow", name)]), 3.0);
    same(grew("loom_actions_ended_total", &[("type", "Compose"), ("status", "Succeeded")]), 3.0);
    same(grew("loom_action_duration_seconds_count", &[("type", "Compose")]), 3.0);
    assert!(grew("loom_store_commits_total", &[]) >= 3.0);
    same(after.get("loom_runs_in_progress", &[]), 0.0);
    same(after.get("loom_store_up", &[]), 1.0);
}

#[tokio::test]
async fn metrics_count_attempts_retries_circuits_and_waits() {
    let rules = r#"{"rules": [
        {"path": "/flaky", "responses": [{"status": 503}, {"status": 503}, {"body": 1}]},
        {"path": "/down", "response": {"status": 500}},
        {"path": "/ok", "response": {"body": 1}}]}"#;
    let mock = Mock::start(&json(rules)).await.unwrap();
    let base = mock.base_url();
    let world = World::new().await;
    let get = |path: &str| format!(r#""type": "Http", "inputs": {{"method": "GET", "uri": "{base}{path}"}}"#);
    let (flaky, down, ok) = (get("/flaky"), get("/down"), get("/ok"));
    let actions = format!(
        r#"{{
        "Flaky": {{{flaky}, "retryPolicy": {{"maxAttempts": 3, "initialDelay": 1}}, "runAfter": {{}}}},
        "Each": {{"type": "Foreach", "foreach": "@range(0, 4)", "runAfter": {{}},
            "runtimeConfiguration": {{"concurrency": {{"repetitions": 1}}}}, "actions": {{
            "Down": {{{down}, "retryPolicy": {{"maxAttempts": 1}},
                "circuitBreaker": {{"name": "billing", "failureThreshold": 2, "timeout": "PT1H"}}, "runAfter": {{}}}}}}}},
        "Many": {{"type": "Foreach", "foreach": "@range(0, 3)", "runAfter": {{}}, "actions": {{
            "Slow": {{{ok}, "rateLimit": {{"name": "mail", "requests": 10, "per": "second", "burst": 1, "maxWait": "PT10S"}}, "runAfter": {{}}}}}}}},
        "Never": {{"type": "Compose", "inputs": 1, "runAfter": {{"Each": ["Succeeded"]}}}}}}"#
    );
    world.deploy("busy", &requested(&actions)).await;
    assert_eq!(text(&world.run("busy", "").await, "status"), "Failed");
    let page = page(&world).await;
    let http = |status: &str| page.get("loom_actions_ended_total", &[("type", "Http"), ("status", status)]);
    // Calls that the open circuit refuses are counted as attempts of the action too.
    assert_eq!((http("Succeeded"), http("Failed")), (4.0, 4.0));
    same(page.get("loom_attempts_total", &[("type", "Http")]), 3.0 + 4.0 + 3.0);
    same(page.get("loom_retries_total", &[("type", "Http")]), 2.0);
    same(page.get("loom_actions_ended_total", &[("type", "Compose"), ("status", "Skipped")]), 1.0);
    same(page.get("loom_action_duration_seconds_count", &[("type", "Compose")]), 0.0);
    let opened = [("service", "billing"), ("from", "Closed"), ("to", "Open")];
    same(page.get("loom_circuit_changes_total", &opened), 1.0);
    same(page.get("loom_circuit_state", &[("service", "billing"), ("state", "Open")]), 1.0);
    same(page.get("loom_circuit_state", &[("service", "billing"), ("state", "Closed")]), 0.0);
    same(page.get("loom_calls_refused_total", &[("service", "billing"), ("rule", "circuit_open")]), 2.0);
    let waits = [("service", "mail"), ("on", "permit")];
    same(page.get("loom_service_waits_total", &waits), 2.0);
    assert!(page.get("loom_service_wait_seconds_total", &waits) > 0.0);
    same(page.get("loom_services", &[]), 2.0);
    same(mock.requests().iter().filter(|request| request.path == "/down").count() as f64, 2.0);
    mock.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_what_they_are_for_and_how_they_were_answered() {
    let world = World::new().await;
    for (path, status) in
        [("/api/v1/runs", 200), ("/api/v1/runs/none", 404), ("/ui/runs", 200), ("/healthz", 200)]
    {
        assert_eq!(world.get(path).await.status, status, "{path}");
    }
    let page = world.get("/metrics").await.text();
    for sample in [
        r#"loom_http_requests_total{kind="api",status="2xx"} 1"#,
        r#"loom_http_requests_total{kind="api",status="4xx"} 1"#,
        r#"loom_http_requests_total{kind="page",status="2xx"} 1"#,
        r#"loom_http_requests_total{kind="monitoring",status="2xx"} 1"#,
        r#"loom_http_request_duration_seconds_count{kind="api"} 2"#,
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is missing: {page}");
    }
    world.stop().await;
}
