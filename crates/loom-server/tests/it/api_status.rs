//! What the server says about itself to its operators.

use loom_expression::Value;

use crate::support::{Plan, World, on_disk, requested, text};

/// A number below these properties.
fn number(document: &Value, path: &str) -> i64 {
    let found = path.split('.').try_fold(document, |value, name| value.get(name));
    found.and_then(Value::as_i64).unwrap_or_else(|| panic!("no '{path}' in {}", document.to_json_text()))
}

#[tokio::test]
async fn the_status_has_the_store_the_runs_and_the_threads() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    let actions =
        r#"{"Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}}}"#;
    world.deploy("w", &requested(actions)).await;
    let run = world.invoke("w", "").await;
    let mut watcher = world.watch(&run, 0).await;
    watcher.next().await.unwrap();

    let status = world.get("/api/v1/status").await.json();
    assert_eq!(status.get("ready").and_then(Value::as_bool), Some(true));
    let store = status.get("store").unwrap();
    assert_eq!(text(store, "condition"), "running");
    assert!(number(store, "commits") > 0 && number(store, "queueBytesMax") > 0);
    for times in ["commitTimes", "groupTimes", "syncTimes"] {
        assert!(number(store, &format!("{times}.count")) > 0, "{times}");
        assert!(number(store, &format!("{times}.averageMicros")) >= 0, "{times}");
    }
    assert_eq!(number(&status, "runs.inProgress"), 1);
    assert!(number(&status, "workers.threads") > 0 && number(&status, "workers.evaluations.threads") > 1);
    assert_eq!(number(&status, "workers.watchers"), 1);
    drop(watcher);
    assert_eq!(world.get("/api/v1/status?verbose=true").await.status, 400);
    world.stop().await;
}
