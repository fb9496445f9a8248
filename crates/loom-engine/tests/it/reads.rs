//! Secrets are read before decisions, asynchronously. A journal refers to the versions that were read and seals what was
//! computed from them; a run that is loaded reads the same versions again.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, Status};
use loom_engine::{
    Engine, Environment, RunHandle, RunId, RunRequest, Secret, SecretFuture, SecretSource, Signal, Started,
    history::History,
};
use loom_expression::Value;
use loom_store::{MemoryStore, SqliteOptions, SqliteStore, Store};

use crate::support::{Service, engine, json, ok, workflow};

/// Secrets with versions. Each read takes a while.
#[derive(Default)]
struct Versions {
    /// By name, oldest first; none is a version that was deleted.
    values: Mutex<BTreeMap<String, Vec<Option<String>>>>,
    /// Each read: the name, and the version if it was given.
    log: Mutex<Vec<String>>,
    /// Secrets without versions.
    plain: BTreeMap<String, String>,
}

impl Versions {
    fn with(secrets: &[(&str, &str)]) -> Arc<Versions> {
        let versions = Versions::default();
        for (name, value) in secrets {
            versions.add(name, value);
        }
        Arc::new(versions)
    }

    fn add(&self, name: &str, value: &str) {
        self.values.lock().unwrap().entry(name.to_owned()).or_default().push(Some(value.to_owned()));
    }

    fn delete(&self, name: &str, version: usize) {
        self.values.lock().unwrap().get_mut(name).expect("it exists")[version - 1] = None;
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl SecretSource for Versions {
    fn read<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> SecretFuture<'a> {
        Box::pin(async move {
            // A source that answers at once would not show that a decision waits for it.
            tokio::task::yield_now().await;
            if name == "slow" {
                std::future::pending::<()>().await;
            }
            let asked = version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
            self.log.lock().unwrap().push(asked);
            if let Some(value) = self.plain.get(name) {
                return Ok(Secret { value: value.as_str().into(), name: name.into(), version: None });
            }
            let values = self.values.lock().unwrap();
            let known = values.get(name).ok_or_else(|| format!("Secret not found: {name}"))?;
            let number = match version {
                Some(version) => version.parse().expect("it is one of our versions"),
                None => known.len(),
            };
            match &known[number - 1] {
                Some(value) => Ok(Secret {
                    value: value.as_str().into(),
                    name: name.into(),
                    version: Some(number.to_string().into()),
                }),
                None => Err(format!("Secret version not found: {name}@{number}")),
            }
        })
    }
}

fn open(service: &Arc<Service>, secrets: &Arc<Versions>, store: &Arc<dyn Store>) -> Engine {
    let secrets = Arc::clone(secrets) as Arc<dyn SecretSource>;
    let environment = Environment { secrets: Some(secrets), ..Environment::default() };
    engine(service).environment(environment).store(Arc::clone(store)).build()
}

fn quiet() -> Arc<Service> {
    Service::new(|_, _| (Duration::ZERO, ok("{}")))
}

async fn begin(engine: &Engine, actions: &str) -> RunHandle {
    engine.continue_numbering().await.expect("the store can be read");
    let request = RunRequest::manual(workflow(actions), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut run = runs.remove(0);
    assert!(run.accepted().await);
    run
}

async fn resumed(engine: &Engine) -> RunHandle {
    let mut recovered = engine.recover(None).await.expect("the store can be read");
    assert!(recovered.runs.len() == 1, "{:?}", recovered.unreadable);
    recovered.runs.remove(0)
}

async fn go(engine: &Engine, run: RunId) {
    let signal = Signal { name: "go".into(), body: None, idempotency_key: None };
    engine.signal(run, signal).await.expect("the run waits");
}

async fn history(engine: &Engine, run: RunId) -> History {
    engine.history(run).await.unwrap().expect("it exists").1
}

fn message(history: &History, action: &str) -> String {
    let action = history.workflow().find_action(action).expect("it exists");
    let occurrence = history.occurrences(action).last().expect("it ran");
    occurrence.error.as_ref().map(|error| error.message.clone()).unwrap_or_default()
}

const SEVERAL: &str = r#"{
    "A": {"type": "Compose", "inputs": {"a": "@secret('one')", "b": "@concat(secret('two'), '!')", "c": "@secret('one')"}, "runAfter": {}},
    "B": {"type": "Compose", "inputs": "@secret(concat('th', 'ree'))", "runAfter": {"A": ["Succeeded"]}},
    "C": {"type": "Select", "inputs": {"from": "@range(0, 300)", "select": "@secret('one')"}, "runAfter": {"B": ["Succeeded"]}},
    "W": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"C": ["Succeeded"]}},
    "D": {"type": "Response", "inputs": {"statusCode": 200, "body": "@concat(secret('one'), ' ', outputs('A')['a'], ' ', outputs('B'))"}, "runAfter": {"W": ["Succeeded"]}}}"#;

/// Constant names are read before the action is evaluated, all at once; computed ones in a second round; and nothing is read
/// twice before the run waits.
#[tokio::test(start_paused = true)]
async fn secrets_are_read_before_the_decision_and_once_until_the_run_waits() {
    let secrets = Versions::with(&[("one", "1-old"), ("two", "2"), ("three", "3")]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&quiet(), &secrets, &store);
    let mut run = begin(&engine, SEVERAL).await;
    while store.frames(loom_store::FrameQuery::of(run.id)).await.unwrap().frames.len() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut log = secrets.take_log();
    // Those of one round are read at the same time.
    log[..2].sort();
    assert_eq!(log, ["one", "two", "three"]);
    secrets.add("one", "1-new");
    go(&engine, run.id).await;
    let response = run.response().await.expect("it responds");
    assert_eq!(response.get("body").and_then(Value::as_str), Some("1-new 1-old 3"));
    assert_eq!(secrets.take_log(), ["one"], "after a wait, the current version is read");
    assert_eq!(run.ended().await.unwrap().status, RunStatus::Succeeded);
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_takes_too_long_fails_its_action_alone() {
    let secrets = Versions::with(&[("one", "1")]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = open(&quiet(), &secrets, &store);
    let actions = r#"{
        "A": {"type": "Compose", "inputs": "@secret('slow')", "runAfter": {}},
        "B": {"type": "Compose", "inputs": "@secret('one')", "runAfter": {"A": ["Failed"]}}}"#;
    let mut run = begin(&engine, actions).await;
    assert_eq!(run.ended().await.unwrap().status, RunStatus::Succeeded);
    let history = history(&engine, run.id).await;
    assert!(message(&history, "A").contains("within 10 seconds"), "{}", message(&history, "A"));
    engine.shut_down().await;
}

const HELD: &str = r#"{
    "V": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "string", "value": "@secret('token')"}]}, "runAfter": {}},
    "O": {"type": "Compose", "inputs": {"deep": [{"token": "@variables('v')"}]}, "runAfter": {"V": ["Succeeded"]}},
    "W": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"O": ["Succeeded"]}},
    "C": {"type": "Compose", "inputs": "@concat('Bearer ', variables('v'))", "runAfter": {"W": ["Succeeded"]}},
    "D": {"type": "Compose", "inputs": "@outputs('O')['deep'][0]", "runAfter": {"C": ["Succeeded", "Failed"]}},
    "E": {"type": "AppendToStringVariable", "inputs": {"name": "v", "value": "!"}, "runAfter": {"D": ["Succeeded", "Failed"]}},
    "F": {"type": "Compose", "inputs": "@secret('token')", "runAfter": {"E": ["Succeeded", "Failed"]}},
    "R": {"type": "Response", "inputs": {"statusCode": 200, "body": "@{outputs('F')} @{coalesce(outputs('C'), '-')}"}, "runAfter": {"F": ["Succeeded"]}}}"#;

/// The version that the run has read is read again, although there is a newer one; one that was deleted while the run waited
/// fails the actions that use it, and no others.
#[tokio::test(start_paused = true)]
async fn a_version_that_was_deleted_while_the_run_waited_fails_the_actions_that_use_it() {
    for deleted in [false, true] {
        let secrets = Versions::with(&[("token", "old")]);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let first = open(&quiet(), &secrets, &store);
        let run = begin(&first, HELD).await.id;
        while history(&first, run).await.occurrences(loom_definition::ActionIdx(2)).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        first.shut_down().await;
        secrets.add("token", "new");
        if deleted {
            secrets.delete("token", 1);
        }
        secrets.take_log();

        let second = open(&quiet(), &secrets, &store);
        let mut handle = resumed(&second).await;
        assert_eq!(secrets.take_log(), ["token 1"], "the version in the journal, before anything is decided");
        go(&second, run).await;
        let response = handle.response().await.expect("it responds");
        let expected = if deleted { "new -" } else { "new Bearer old" };
        assert_eq!(response.get("body").and_then(Value::as_str), Some(expected));
        handle.ended().await.expect("it ends");
        let history = history(&second, run).await;
        for action in ["C", "D", "E"] {
            let status = history.status_of(history.workflow().find_action(action).unwrap());
            let found = message(&history, action);
            if deleted {
                assert_eq!(status, Some(Status::Failed), "{action}");
                assert!(found.contains("version '1' of the secret 'token'"), "{found}");
                assert!(found.contains("Secret version not found: token@1"), "{found}");
            } else {
                assert_eq!((status, found.as_str()), (Some(Status::Succeeded), ""), "{action}");
            }
        }
        second.shut_down().await;
    }
}

/// The same, in one process: the run leaves memory while it waits, and reads the recorded version again when it returns.
#[tokio::test(start_paused = true)]
async fn a_version_that_was_deleted_while_the_run_was_parked_fails_the_actions_that_use_it() {
    for deleted in [false, true] {
        let secrets = Versions::with(&[("token", "old")]);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let source = Arc::clone(&secrets) as Arc<dyn SecretSource>;
        let environment = Environment { secrets: Some(source), ..Environment::default() };
        let builder = engine(&quiet()).environment(environment).store(Arc::clone(&store));
        let engine = builder.park_after(Duration::from_secs(10)).build();
        let run = begin(&engine, HELD).await.id;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!((engine.runs_in_progress(), engine.runs_parked()), (0, 1));
        secrets.add("token", "new");
        if deleted {
            secrets.delete("token", 1);
        }
        secrets.take_log();
        go(&engine, run).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(
            secrets.take_log()[0],
            "token 1",
            "the version in the journal, before anything is decided"
        );
        let history = history(&engine, run).await;
        for action in ["C", "D", "E"] {
            let status = history.status_of(history.workflow().find_action(action).unwrap());
            let found = message(&history, action);
            if deleted {
                assert_eq!(status, Some(Status::Failed), "{action}");
                assert!(found.contains("version '1' of the secret 'token'"), "{found}");
            } else {
                assert_eq!((status, found.as_str()), (Some(Status::Succeeded), ""), "{action}");
            }
        }
        engine.shut_down().await;
    }
}

/// A call that was in flight is made again with the version that it was made with, or not at all.
#[tokio::test(start_paused = true)]
async fn a_call_whose_secret_was_deleted_is_not_made_again() {
    for deleted in [false, true] {
        let secrets = Versions::with(&[("token", "old")]);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let hangs = Service::new(|_, _| (Duration::from_hours(24), ok("{}")));
        let first = open(&hangs, &secrets, &store);
        let actions = r#"{"H": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a", "headers": {"X": "@secret('token')"}}, "runAfter": {}}}"#;
        let run = begin(&first, actions).await.id;
        while hangs.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        first.shut_down().await;
        secrets.add("token", "new");
        if deleted {
            secrets.delete("token", 1);
        }
        let service = Service::new(|call, _| {
            assert_eq!(call.inputs.get("headers"), Some(&json(r#"{"X": "old"}"#)));
            (Duration::ZERO, ok("{}"))
        });
        let second = open(&service, &secrets, &store);
        let report = resumed(&second).await.ended().await.expect("it ends");
        let expected = if deleted { (RunStatus::Failed, 0) } else { (RunStatus::Succeeded, 1) };
        assert_eq!((report.status, service.count()), expected);
        let found = message(&history(&second, run).await, "H");
        assert_eq!(
            found.contains("cannot be made: the run read version '1' of the secret 'token'"),
            deleted,
            "{found}"
        );
        second.shut_down().await;
    }
}

/// What is derived here goes through every kind of value: parts, names, loops, variables, calls, large values.
fn deriving() -> String {
    let long = "x".repeat(20_000);
    format!(
        r#"{{
    "V": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "v", "type": "array", "value": "@split(secret('token'), '-')"}},
        {{"name": "s", "type": "string", "value": "@secret('plain')"}}, {{"name": "n", "type": "object", "value": "@addProperty(json('{{}}'), secret('token'), true)"}}]}}, "runAfter": {{}}}},
    "A": {{"type": "AppendToArrayVariable", "inputs": {{"name": "v", "value": "@concat('<', secret('token'), '>')"}}, "runAfter": {{"V": ["Succeeded"]}}}},
    "F": {{"type": "Foreach", "foreach": "@variables('v')", "actions": {{"FI": {{"type": "Compose", "inputs": "@toUpper(item())", "trackedProperties": {{"t": "@action()['outputs']"}}, "runAfter": {{}}}}}}, "runAfter": {{"A": ["Succeeded"]}}}},
    "L": {{"type": "Compose", "inputs": "{long}@{{secret('token')}}", "runAfter": {{"F": ["Succeeded"]}}}},
    "G": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s/echo", "headers": {{"A": "Bearer @{{secret('token')}}", "B": "@secret('token')"}}, "body": {{"long": "@outputs('L')", "whole": "@last(variables('v'))"}}}}, "runAfter": {{"L": ["Succeeded"]}}}},
    "W": {{"type": "WaitForSignal", "inputs": {{"name": "go"}}, "runAfter": {{"G": ["Succeeded"]}}}},
    "H": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s/in-flight", "body": "@concat(secret('plain'), last(variables('v')))"}}, "runAfter": {{"W": ["Succeeded"]}}}},
    "R": {{"type": "Response", "inputs": {{"statusCode": 200, "body": {{"v": "@variables('v')", "s": "@variables('s')", "n": "@variables('n')", "l": "@outputs('L')", "g": "@body('G')", "f": "@outputs('FI')"}}}}, "runAfter": {{"H": ["Succeeded"]}}}}}}"#
    )
}

/// The name of each file that has the text in any spelling, in it or in its name.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is a directory") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else {
            let bytes = fs::read(&path).expect("it can be read").to_ascii_lowercase();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be created");
    for entry in fs::read_dir(from).expect("it is a directory") {
        let path = entry.expect("it can be read").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

fn on_disk(folder: &Path, seals: bool) -> Arc<dyn Store> {
    let options = SqliteOptions { seals, ..SqliteOptions::default() };
    Arc::new(SqliteStore::open(folder, options).expect("it opens"))
}

/// A run is killed twice, waiting and in a call: its directory is copied as it is at that moment, and a new process continues
/// with the copy. Without the seal, the same search finds the secrets.
#[tokio::test]
async fn no_secret_is_in_the_data_directory_and_the_run_goes_on_after_a_crash() {
    const CANARY: &str = "qzcanary";
    let plain = BTreeMap::from([("plain".to_owned(), "QzCanary plain".to_owned())]);
    let secrets = Arc::new(Versions { plain, ..Versions::default() });
    secrets.add("token", "QzCanary-token");
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for (name, seals) in [("sealed", [true; 3]), ("control", [false; 3]), ("older", [false, true, true])] {
        let place = |step: usize| folder.path().join(format!("{name}-{step}"));
        let hidden = |step: usize| {
            let found = files_with(&place(step), CANARY);
            assert_eq!(found.is_empty(), seals[0], "{name} {step}: {found:?}");
        };
        let sends_back = |call: &loom_engine::ports::Call| {
            let outputs = json(r#"{"statusCode": 200}"#);
            let mut outputs = outputs.as_object().cloned().unwrap();
            // A service takes the labels away. What it sends back of a secret is found if it is whole.
            let body = call.inputs.get("body").map(Value::to_json_text).unwrap_or_default();
            outputs.insert("body", Value::parse_json(body.as_bytes()).unwrap_or_default());
            loom_engine::event::EffectResult::Done {
                outcome: loom_engine::event::Outcome::ok(Some(outputs.into())),
                hint: loom_engine::event::RetryHint::default(),
            }
        };
        let service = Service::new(move |call, _| (Duration::ZERO, sends_back(call)));
        let store = on_disk(&place(0), seals[0]);
        let engine = open(&service, &secrets, &store);
        let run = begin(&engine, &deriving()).await.id;
        let so_far = loop {
            let history = history(&engine, run).await;
            if !history.occurrences(loom_definition::ActionIdx(6)).is_empty() {
                break history;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let errors: Vec<String> = ["V", "A", "F", "L", "G"]
            .iter()
            .map(|name| message(&so_far, name))
            .filter(|text| !text.is_empty())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        copy(&place(0), &place(1));
        engine.shut_down().await;
        hidden(0);

        let hangs = Service::new(|_, _| (Duration::from_hours(24), ok("{}")));
        let engine = open(&hangs, &secrets, &on_disk(&place(1), seals[1]));
        drop(resumed(&engine).await);
        go(&engine, run).await;
        while hangs.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        copy(&place(1), &place(2));
        engine.shut_down().await;
        hidden(1);

        let store = on_disk(&place(2), seals[2]);
        let engine = open(&service, &secrets, &store);
        let mut handle = resumed(&engine).await;
        let response = handle.response().await.expect("it responds");
        assert_eq!(handle.ended().await.unwrap().status, RunStatus::Succeeded);
        results.push(response.get("body").expect("it has a body").to_json_text());
        engine.shut_down().await;
        store.close().await.expect("it closes");
        hidden(2);
    }
    assert!(
        results[0].contains("<QzCanary-token>") && results[0].contains("QZCANARY"),
        "{}",
        &results[0][..200]
    );
    assert_eq!(results[0].matches("xxxQzCanary-token").count(), 2, "the large value, and its echo");
    assert!(results.iter().all(|result| *result == results[0]));
}
