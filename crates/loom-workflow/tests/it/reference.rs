//! The reference pages that are generated from the binary: commands, metrics and the API.
//!
//! `cargo xtask docs` writes them; otherwise these tests report a page that is out of date.

use std::{collections::BTreeMap, ffi::OsStr, fmt::Write, fs};

use serde_json::{Value, json};

use crate::{
    file, loom, repository,
    served::{Loom, request, setting},
};

/// Compares a page with what it should be, or writes it.
fn hold(name: &str, page: &str) {
    let path = repository(&format!("docs/reference/{name}"));
    if setting("LOOM_WRITE_DOCS", 0) == 1 {
        fs::write(&path, page).expect("the page can be written");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/reference/{name} is out of date: run `cargo xtask docs`");
}

/// The names of a command's subcommands, as its help lists them.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn describe(path: &[String], page: &mut String) {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let ended = loom(&arguments);
    assert_eq!(ended.code, Some(0), "loom {}", arguments.join(" "));
    let title = [&["loom".to_owned()], path].concat().join(" ");
    let help: Vec<&str> = ended.stdout.lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n```text\n{}\n```\n", help.join("\n").trim());
    for name in subcommands(&ended.stdout) {
        describe(&[path, &[name]].concat(), page);
    }
}

#[test]
fn the_commands_page_matches_the_help() {
    let mut page = "# Commands\n\nWhat `loom … --help` prints, for every command. This page is generated: `cargo xtask docs` writes it.\n".to_owned();
    describe(&[], &mut page);
    assert!(page.contains("\n## loom runs resubmit\n"), "subcommands of subcommands are on the page");
    hold("cli.md", &page);
}

/// Actions that give every family of metrics a sample: a circuit that opens, a call that it refuses, and a wait for a rate limit.
const BUSY: &str = r#"{"definition": {
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "Each": {"type": "Foreach", "foreach": "@range(1, 3)", "runtimeConfiguration": {"concurrency": {"repetitions": 1}}, "runAfter": {},
      "actions": {"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/"}, "retryPolicy": {"maxAttempts": 1},
        "circuitBreaker": {"name": "down", "failureThreshold": 1}, "rateLimit": {"name": "down", "requests": 50, "burst": 1}, "bulkhead": {"name": "down", "maxConcurrent": 1}}}},
    "Wait_for_permits": {"type": "Foreach", "foreach": "@range(1, 3)", "runAfter": {},
      "actions": {"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/"}, "retryPolicy": {"maxAttempts": 1},
        "circuitBreaker": {"name": "busy", "failureThreshold": 9}, "rateLimit": {"name": "busy", "requests": 50, "burst": 1}}}},
    "Watch": {"type": "Foreach", "foreach": "@range(1, 2)", "runtimeConfiguration": {"concurrency": {"repetitions": 1}}, "runAfter": {},
      "actions": {"Struck": {"type": "Http", "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/"}, "retryPolicy": {"maxAttempts": 1},
        "circuitBreaker": {"name": "watched", "failureThreshold": 1, "mode": "observe"}, "hedge": {"delay": "PT1M"}}}},
    "Reply": {"type": "Response", "inputs": {"statusCode": 200},
      "runAfter": {"Each": ["Succeeded", "Failed"], "Wait_for_permits": ["Succeeded", "Failed"], "Watch": ["Succeeded", "Failed"]}}}}}"#;

/// What is injected into one of these actions.
const CHAOS: &str = r#"{"injections": [{"kind": "fault", "rate": 1, "action": "Struck"}]}"#;

/// A family of metrics: its type, its help and the labels of its samples.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut found.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            kind.clone_into(&mut found.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .filter(|name| found.contains_key(*name));
            let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('=').map(|(name, _)| name));
            let known = found.entry(family.unwrap_or(name).to_owned()).or_default();
            for label in names.filter(|name| *name != "le") {
                if !known.labels.iter().any(|known| known == label) {
                    known.labels.push(label.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn the_metrics_page_matches_the_server() {
    let definition = file("reference", "busy.json", BUSY);
    // Nothing listens at the collector's address: spans have metrics only if they are exported.
    let chaos = file("reference", "chaos.json", CHAOS);
    let options = ["--memory", "--otlp", "http://127.0.0.1:1", "--chaos"].map(OsStr::new);
    let server = Loom::serve(&[&[definition.as_os_str()], &options[..], &[chaos.as_os_str()]].concat());
    let ran = request(server.address(), "POST", "/workflows/busy/triggers/manual/invoke", b"{}");
    assert_eq!(ran.expect("the server responds").status, 200);
    let text = request(server.address(), "GET", "/metrics", b"").expect("the server responds").body;
    let mut page = "# Metrics\n\nWhat `/metrics` exports in the text format of Prometheus. This page is generated: `cargo xtask docs` writes it. Counters start at 0 with the process; durations are in seconds.\n\n\
         Every label distinguishes at most 200 names; later ones are counted under `_other`. `loom_telemetry_…` exists only with `--otlp`.\n\n\
         | metric | type | labels | description |\n|---|---|---|---|\n"
        .to_owned();
    let families = families(&text);
    for (name, Family { kind, help, labels }) in &families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    for (name, label) in [
        ("loom_circuit_changes_total", "from"),
        ("loom_calls_refused_total", "rule"),
        ("loom_service_waits_total", "on"),
        ("loom_calls_observed_total", "part"),
        ("loom_chaos_injected_total", "kind"),
        ("loom_service_budget", "service"),
    ] {
        let labels = &families.get(name).expect("it is exported").labels;
        assert!(labels.iter().any(|known| known == label), "{name} has a sample with `{label}`: {labels:?}");
    }
    hold("metrics.md", &page);
    let dashboard = serde_json::to_string_pretty(&dashboard(&families)).expect("it is JSON");
    hold("../grafana/loom.json", &(dashboard + "\n"));
}

/// The rows of the dashboard: the prefixes of the metrics in each, the first match decides.
const ROWS: [(&str, &[&str]); 6] = [
    (
        "Resilience",
        &[
            "loom_service",
            "loom_circuit",
            "loom_calls_",
            "loom_hedges",
            "loom_fallbacks",
            "loom_retries",
            "loom_chaos",
        ],
    ),
    ("Runs", &["loom_run", "loom_workflows", "loom_callers"]),
    ("Actions", &["loom_action", "loom_attempts"]),
    ("Store", &["loom_store"]),
    ("Traces", &["loom_telemetry"]),
    ("Process", &[""]),
];

/// A Grafana dashboard with one panel for each metric that the server exports.
fn dashboard(families: &BTreeMap<String, Family>) -> Value {
    const COLUMNS: u64 = 2;
    const WIDTH: u64 = 12;
    const HEIGHT: u64 = 8;
    let row_of = |name: &str| {
        ROWS.iter().position(|(_, prefixes)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    };
    let (mut panels, mut y) = (Vec::new(), 0);
    for (index, (title, _)) in ROWS.iter().enumerate() {
        let chosen: Vec<_> = families.iter().filter(|(name, _)| row_of(name) == Some(index)).collect();
        let id = panels.len() + 1;
        panels.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS * WIDTH, "h": 1},
        }));
        y += 1;
        for (place, (name, family)) in chosen.iter().enumerate() {
            let place = place as u64;
            let by = family.labels.join(", ");
            let legend: Vec<String> = family.labels.iter().map(|label| format!("{{{{{label}}}}}")).collect();
            let (expr, unit) = match family.kind.as_str() {
                "counter" => (format!("sum by ({by}) (rate({name}[$__rate_interval]))"), "ops"),
                "histogram" => {
                    let by = [vec!["le".to_owned()], family.labels.clone()].concat().join(", ");
                    let rate = format!("rate({name}_bucket[$__rate_interval])");
                    (format!("histogram_quantile(0.95, sum by ({by}) ({rate}))"), "s")
                }
                _ if name.ends_with("_bytes") => ((*name).clone(), "bytes"),
                _ => ((*name).clone(), "short"),
            };
            panels.push(json!({
                "id": panels.len() + 1, "type": "timeseries", "title": name, "description": family.help,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
                "gridPos": {
                    "x": place % COLUMNS * WIDTH, "y": y + place / COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT,
                },
                "targets": [{"refId": "A", "expr": expr, "legendFormat": legend.join(" ")}],
            }));
        }
        y += (chosen.len() as u64).div_ceil(COLUMNS) * HEIGHT;
    }
    json!({
        "title": "Loom",
        "uid": "loom",
        "tags": ["loom"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn the_api_page_matches_the_openapi_document() {
    let server = Loom::serve(&[OsStr::new("--memory")]);
    let document =
        request(server.address(), "GET", "/api/v1/openapi.json", b"").expect("the server responds");
    let document: Value = serde_json::from_str(&document.body).expect("the document is JSON");
    let paths = document.get("paths").and_then(Value::as_object).expect("it lists paths");
    let mut page = "# HTTP API\n\nThe routes of `loom serve`. This page is generated from the OpenAPI document at `/api/v1/openapi.json`, which also has the schemas of bodies: `cargo xtask docs` writes it.\n".to_owned();
    // The rows of each tag.
    let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, item) in paths {
        let shared = item.get("parameters");
        // Methods of one path that do the same share a row.
        let mut rows: Vec<(Vec<String>, &str, String)> = Vec::new();
        for method in ["get", "post", "put", "patch", "delete"] {
            let Some(operation) = item.get(method) else { continue };
            let lists = [shared, operation.get("parameters")];
            let parameters =
                lists.into_iter().flatten().filter_map(Value::as_array).flat_map(|list| list.iter());
            let query: Vec<String> = parameters
                .map(|parameter| resolve(&document, parameter))
                .filter(|parameter| text(parameter, "in") == "query")
                .map(|parameter| format!("`{}`", text(parameter, "name")))
                .collect();
            let responses = operation.get("responses").and_then(Value::as_object).expect("it has responses");
            let statuses: Vec<&str> = responses.keys().map(String::as_str).collect();
            let scope = operation.get("x-loom-scope").and_then(Value::as_str).unwrap_or("none");
            let row = format!(
                "{} | {scope} | {} | {} |",
                text(operation, "summary"),
                query.join(", "),
                statuses.join(", ")
            );
            let tag = operation["tags"][0].as_str().expect("it has a tag");
            match rows.iter_mut().find(|(.., known)| *known == row) {
                Some((methods, ..)) => methods.push(method.to_uppercase()),
                None => rows.push((vec![method.to_uppercase()], tag, row)),
            }
        }
        for (methods, tag, row) in rows {
            let row = format!("| {} `{path}` | {row}", methods.join(", "));
            sections.entry(tag).or_default().push(row);
        }
    }
    for tag in document["tags"].as_array().expect("it has tags") {
        let rows = sections.remove(text(tag, "name")).expect("a tag has routes").join("\n");
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| request | what it does | scope | query parameters | responses |\n|---|---|---|---|---|\n{rows}\n",
            text(tag, "name"),
            text(tag, "description")
        );
    }
    assert!(sections.is_empty(), "every tag is declared: {sections:?}");
    hold("api.md", &page);
}

/// What a `$ref` leads to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(path) = value.get("$ref").and_then(Value::as_str) else { return value };
    let names = path.trim_start_matches("#/").split('/');
    names.fold(document, |at, name| at.get(name).expect("a reference has a target"))
}
