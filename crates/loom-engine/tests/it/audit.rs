//! The audit of secrets that runs use is part of the commits of the runs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use loom_definition::RunStatus;
use loom_engine::{
    Engine, Environment, RunRequest, Secret, SecretFuture, SecretSource, Started,
    audit::{ENTRIES, LAST_USE},
};
use loom_expression::{Masker, Value};
use loom_store::{KeyQuery, MemoryStore, Store};

use crate::support::{Service, engine, ok, workflow};

const VALUE: &str = "the-value-itself";

/// Every secret has the same value, except for those whose name begins with `no`.
struct Safe;

impl SecretSource for Safe {
    fn read<'a>(&'a self, name: &'a str, _: Option<&'a str>) -> SecretFuture<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if name.starts_with("no") {
                return Err(format!("Secret disabled: {name}"));
            }
            Ok(Secret {
                value: VALUE.into(),
                name: format!("kv:{name}").into(),
                version: Some("3-2026-01-01".into()),
            })
        })
    }
}

fn open(store: &Arc<dyn Store>, declassify: &[&str]) -> Engine {
    let environment = Environment {
        secrets: Some(Arc::new(Safe)),
        masker: Masker::new(),
        declassify: declassify.iter().map(|name| (*name).into()).collect(),
        ..Environment::default()
    };
    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    engine(&service).environment(environment).store(Arc::clone(store)).build()
}

async fn run(engine: &Engine, actions: &str) -> (String, Option<RunStatus>) {
    engine.continue_numbering().await.expect("the store can be read");
    let request = RunRequest::manual(workflow(actions), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut run = runs.remove(0);
    let report = run.ended().await;
    (run.id.to_string(), report.map(|report| report.status))
}

async fn entries(store: &Arc<dyn Store>, namespace: &str) -> Vec<Value> {
    let query = KeyQuery { namespace: namespace.into(), prefix: String::new(), after: None, limit: 1_000 };
    let page = store.keys(query).await.expect("the store can be read");
    page.values.iter().map(|stored| Value::parse_json(&stored.value).expect("it is JSON")).collect()
}

/// `operation secret version action` of each entry.
fn told(entries: &[Value]) -> BTreeSet<String> {
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let line =
        |entry: &Value| ["operation", "secret", "version", "action"].map(|name| text(entry, name)).join(" ");
    entries.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn each_use_names_the_run_the_action_and_the_version() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&store, &[]);
    let (id, _) = run(
        &engine,
        r#"{"A": {"type": "Compose", "inputs": "@concat(secret('one'), secret('two'))", "runAfter": {}},
            "B": {"type": "Compose", "inputs": "@secret('one')", "runAfter": {"A": ["Succeeded"]}},
            "C": {"type": "Compose", "inputs": "@secret(concat('th', 'ree'))", "runAfter": {"B": ["Succeeded"]}},
            "D": {"type": "Compose", "inputs": "@secret('none')", "runAfter": {"C": ["Succeeded"]}},
            "E": {"type": "Compose", "inputs": 1, "runAfter": {"D": ["Failed"]}},
            "L": {"type": "Foreach", "foreach": "@range(0, 500)", "runAfter": {"D": ["Failed"]}, "actions": {
                "I": {"type": "Compose", "inputs": "@secret('two')", "runAfter": {}}}}}"#,
    )
    .await;
    let all = entries(&store, ENTRIES).await;
    // The second action used what was read for the first one, and is recorded all the same.
    let expected = [
        "denied none - D",
        "read kv:one 3 A",
        "read kv:one 3 B",
        "read kv:three 3 C",
        "read kv:two 3 A",
        "read kv:two 3 I",
    ];
    assert_eq!(told(&all), expected.into_iter().map(str::to_owned).collect());
    // A loop is recorded with its commits, not with its iterations.
    assert!(all.len() < 20, "{}", all.len());
    for entry in &all {
        assert_eq!(entry.get("run").and_then(Value::as_str), Some(&*id));
        assert_eq!(entry.get("by").and_then(Value::as_str), Some("run"));
        assert!(!entry.to_json_text().contains(VALUE));
    }
    let denied = all.iter().find(|entry| entry.get("reason").is_some()).expect("one was denied");
    assert_eq!(denied.get("reason").and_then(Value::as_str), Some("Secret disabled: none"));
    assert_eq!(entries(&store, LAST_USE).await.len(), 3, "a secret that was denied was not used");
}

/// The start of a run is durable before anything is read. After that, a run makes the same commits whether it reads no secret
/// or many.
#[tokio::test(start_paused = true)]
async fn the_audit_costs_no_commit() {
    let commits = async |inputs: &str| {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let engine = open(&store, &[]);
        let actions = format!(
            r#"{{"A": {{"type": "Compose", "inputs": "@secret('one')", "runAfter": {{}}}},
                "B": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://x", "body": {inputs}}}, "runAfter": {{"A": ["Succeeded"]}}}},
                "C": {{"type": "Compose", "inputs": {inputs}, "runAfter": {{"B": ["Succeeded"]}}}}}}"#
        );
        run(&engine, &actions).await;
        (store.metrics().commits, entries(&store, ENTRIES).await.len())
    };
    let (with_one, one) = commits("1").await;
    let (with_many, many) = commits(r#""@concat(secret('one'), secret('two'), secret('three'))""#).await;
    assert_eq!(with_many, with_one);
    assert_eq!((one, many), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn declassify_needs_a_grant_and_is_recorded() {
    let actions = r#"{"A": {"type": "Compose", "inputs": {"length": "@declassify(length(secret('one')))",
            "part": "@declassify(substring(secret('one'), 0, 3))", "list": "@declassify(split(secret('one'), '-'))"}, "runAfter": {}}}"#;
    for (granted, is_shown) in [(&["*"][..], true), (&["other", "t*x"][..], false), (&[][..], false)] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let engine = open(&store, granted);
        let (id, status) = run(&engine, actions).await;
        assert_eq!(status == Some(RunStatus::Succeeded), is_shown, "{granted:?}");
        let (_, history) = engine.history(id.parse().expect("it is one")).await.unwrap().expect("it exists");
        let action = history.workflow().find_action("A").expect("it exists");
        let ended = history.occurrences(action).last().expect("it ran");
        let told = told(&entries(&store, ENTRIES).await);
        if is_shown {
            let outputs = ended.outputs.clone().expect("it has outputs");
            assert!(!outputs.contains_secret());
            assert_eq!(
                outputs.to_json_text(),
                r#"{"length":16,"part":"the","list":["the","value","itself"]}"#
            );
            assert!(told.contains("declassify - - A"), "{told:?}");
        } else {
            let message = ended.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            assert!(message.contains("declassify"), "{message}");
            assert!(!told.iter().any(|entry| entry.starts_with("declassify")), "{told:?}");
        }
    }
}
