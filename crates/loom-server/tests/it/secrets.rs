//! Secrets over HTTP: they are set, listed and changed without ever being returned, and everything is audited.

use std::sync::Arc;

use hyper::Method;
use loom_actions::secrets::{MasterKey, NamedProvider, NewSecret, Secrets, TrailFile, Vault};
use loom_engine::{clock::SystemClock, ports::Clock as _};
use loom_expression::{Timestamp, Value};
use loom_server::{SecretStore, ServerSettings};

use crate::support::{Plan, Reply, World, list, requested, text};

const VALUE: &str = "the-value-of-the-key";

/// A server with an embedded store in a directory.
struct Safe {
    world: World,
    vault: Arc<Vault>,
    secrets: SecretStore,
    _directory: tempfile::TempDir,
}

impl Safe {
    async fn new() -> Safe {
        let directory = tempfile::tempdir().unwrap();
        let key = MasterKey::generate();
        let path = directory.path().join("secrets.json");
        let vault = Arc::new(Vault::new(path, Arc::new(move || Ok(key.clone())), Arc::new(SystemClock)));
        let providers = Secrets::of(vec![NamedProvider::new("embedded", Arc::clone(&vault) as _)]);
        let secrets = SecretStore { vault: Some(Arc::clone(&vault)), providers: providers.clone() };
        let settings = ServerSettings { secrets: secrets.clone(), ..ServerSettings::default() };
        let mut plan = Plan { settings, ..Plan::default() };
        plan.environment.secrets = Some(Arc::new(providers));
        let world = World::start(plan).await;
        Safe { world, vault, secrets, _directory: directory }
    }

    async fn put(&self, name: &str, header: Option<(&str, &str)>, body: &str) -> Reply {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(header);
        let path = format!("/api/v1/secrets/{name}");
        self.world.send(Method::PUT, &path, &headers, body.to_owned()).await.whole().await
    }

    async fn audit(&self, query: &str) -> Vec<Value> {
        list(&self.world.get(&format!("/api/v1/secret-audit?{query}")).await.json(), "entries").to_vec()
    }
}

fn body(value: &str) -> String {
    format!(r#"{{"value": "{value}"}}"#)
}

#[tokio::test]
async fn a_secret_is_set_compared_and_changed_but_never_returned() {
    let safe = Safe::new().await;
    assert_eq!(safe.world.get("/api/v1/secrets/api-key").await.error(), "SecretNotFound");
    let set = safe.put("Api-Key", Some(("if-none-match", "*")), &body(VALUE)).await;
    assert_eq!((set.status, set.header("etag")), (200, Some("\"1\"")), "{}", set.text());
    assert_eq!(&*safe.vault.get("api-key", None).unwrap().1, VALUE);
    let refused = safe.put("api-key", Some(("if-none-match", "*")), &body("other")).await;
    assert_eq!((refused.status, refused.error().as_str()), (412, "SecretChanged"));
    let whole = r#"{"value": "second-value", "expiresOn": "2099-01-01T00:00:00Z", "contentType": "key", "tags": {"team": "billing"}}"#;
    let second = safe.put("api-key", Some(("if-match", "\"1\"")), whole).await;
    assert_eq!((second.status, second.header("etag")), (200, Some("\"2\"")));
    assert_eq!(safe.put("api-key", Some(("if-match", "\"1\"")), whole).await.status, 412);

    let shown = safe.world.get("/api/v1/secrets/api-key").await;
    assert_eq!(shown.header("etag"), Some("\"2\""));
    let shown = shown.json();
    assert_eq!((text(&shown, "state"), text(&shown, "contentType")), ("enabled", "key"));
    assert!(shown.get("expiresInDays").and_then(Value::as_i64).unwrap() > 20_000);
    assert_eq!(list(&safe.world.get("/api/v1/secrets/api-key/versions").await.json(), "versions").len(), 2);
    let disabled = safe.world.post("/api/v1/secrets/api-key/disable?version=2", "").await.json();
    assert_eq!(text(&list(&disabled, "versions")[1], "state"), "disabled");
    safe.world.post("/api/v1/secrets/api-key/enable", "").await;
    assert_eq!(safe.world.call(Method::DELETE, "/api/v1/secrets/api-key", "").await.status, 204);
    assert!(safe.vault.get("api-key", None).is_err());
    assert_eq!(safe.world.post("/api/v1/secrets/api-key/undelete", "").await.status, 200);
    assert_eq!(safe.world.post("/api/v1/secrets/api-key/purge", "").await.status, 404);
    let rotated = safe.world.post("/api/v1/secret-keys/rotate", "").await.json();
    assert_eq!(rotated.get("reencrypted"), Some(&Value::from(2)));
    assert_eq!(&*safe.vault.get("api-key", Some("1")).unwrap().1, VALUE);

    let all = safe.audit("").await;
    let done: Vec<&str> = all.iter().rev().map(|entry| text(entry, "operation")).collect();
    assert_eq!(done, ["set", "set", "disable", "enable", "delete", "undelete", "rotate"]);
    assert!(all.iter().all(|entry| text(entry, "by") == "api"));
    assert_eq!(text(&all[5], "version"), "2");
    for path in ["secrets", "secrets/api-key", "secrets/api-key/versions", "secret-audit"] {
        let shown = safe.world.get(&format!("/api/v1/{path}")).await.text();
        assert!(!shown.contains(VALUE) && !shown.contains("second-value"), "{path}: {shown}");
    }
}

#[tokio::test]
async fn mistakes_are_refused_without_repeating_what_was_sent() {
    let safe = Safe::new().await;
    for (name, body, status) in [
        ("api-key", String::new(), 400),
        ("api-key", "[]".to_owned(), 400),
        ("api-key", r#"{"value": 7}"#.to_owned(), 400),
        ("api-key", r#"{"value": ""}"#.to_owned(), 400),
        ("api-key", format!(r#"{{"vlaue": "{VALUE}"}}"#), 400),
        ("api-key", format!(r#"{{"{VALUE}": "x"}}"#), 400),
        ("api-key", format!(r#"{{"value": "{VALUE}", "expiresOn": "soon"}}"#), 400),
        ("api-key", format!(r#"{{"value": "{VALUE}", "tags": {{"a": 1}}}}"#), 400),
        ("..%2Fx", body(VALUE), 400),
        ("env:PATH", body(VALUE), 400),
        ("%D0%BA", body(VALUE), 400),
        ("api-key", body(&"x".repeat(10 << 20)), 413),
    ] {
        let refused = safe.put(name, None, &body).await;
        assert_eq!(refused.status, status, "{name}: {}", refused.text());
        assert!(!refused.text().contains(VALUE) && refused.text().len() < 1_000, "{}", refused.text());
    }
    assert!(safe.vault.list().unwrap().is_empty());
    assert!(safe.audit("").await.is_empty(), "nothing was done");
    assert_eq!(safe.world.get("/api/v1/secret-audit?operation=look").await.status, 400);

    let without = World::new().await;
    let refused = without.call(Method::PUT, "/api/v1/secrets/k", &body("x")).await;
    assert_eq!((refused.status, refused.error().as_str()), (409, "NoSecretsFile"));
}

#[tokio::test]
async fn runs_triggers_and_the_last_use_are_audited_in_pages() {
    let safe = Safe::new().await;
    safe.vault.set("api-key", VALUE, NewSecret::default()).unwrap();
    safe.vault.set("gone", VALUE, NewSecret::default()).unwrap();
    safe.vault.delete("gone").unwrap();
    safe.world
        .deploy(
            "orders",
            &requested(
                r#"{"Use": {"type": "Compose", "inputs": "@length(secret('api-key'))", "runAfter": {}},
                    "Gone": {"type": "Compose", "inputs": "@secret('gone')", "runAfter": {}}}"#,
            ),
        )
        .await;
    let run = safe.world.invoke("orders", "").await;
    safe.world.ended(&run).await;
    let read = safe.audit("operation=read").await;
    assert_eq!(read.len(), 1, "{read:?}");
    let names = ["secret", "version", "by", "workflow", "run", "action"].map(|name| text(&read[0], name));
    assert_eq!(names, ["embedded:api-key", "1", "run", "orders", run.as_str(), "Use"]);
    let denied = safe.audit(&format!("run={run}&secret=gone")).await;
    assert_eq!((denied.len(), text(&denied[0], "operation")), (1, "denied"));
    let listed = safe.world.get("/api/v1/secrets").await.json();
    let used = list(&listed, "secrets")[0].get("lastUsed").cloned().unwrap();
    assert_eq!((text(&used, "run"), text(&used, "action")), (run.as_str(), "Use"));
    assert!(list(&listed, "secrets")[1].get("lastUsed").unwrap().is_null());
    assert_eq!(text(&list(&listed, "providers")[0], "type"), "embedded");

    for _ in 0..4 {
        let run = safe.world.invoke("orders", "").await;
        safe.world.ended(&run).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = safe.world.get(&format!("/api/v1/secret-audit?limit=3{cursor}")).await.json();
        seen.extend(list(&page, "entries").to_vec());
        pages += 1;
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(seen.len() == 10 && pages >= 4, "{} entries on {pages} pages", seen.len());
    assert!(seen.windows(2).all(|two| text(&two[0], "at") >= text(&two[1], "at")), "newest first");
}

/// What a command line records beside the file is moved into the store, once.
#[tokio::test]
async fn what_command_lines_record_reaches_the_store() {
    let safe = Safe::new().await;
    let trail = TrailFile::beside(safe.vault.path(), "command line (uid 7)", Arc::new(SystemClock));
    let elsewhere = safe.vault.recorded_by(Arc::new(trail));
    elsewhere.set("k", "v4lue-1", NewSecret::default()).unwrap();
    elsewhere.reveal("k", None).unwrap();
    assert!(safe.audit("").await.is_empty());
    let attended = safe.world.host.attend_secrets(&safe.secrets, 1);
    tokio::select! {
        () = attended => {}
        () = async { while safe.audit("").await.len() < 2 { tokio::task::yield_now().await } } => {}
    }
    let all = safe.audit("").await;
    let done: Vec<(&str, &str)> =
        all.iter().map(|entry| (text(entry, "operation"), text(entry, "by"))).collect();
    assert_eq!(done, [("reveal", "command line (uid 7)"), ("set", "command line (uid 7)")]);
}

/// Before a secret expires, the audit and the metrics say so; a warning in the log alone is easily missed.
#[tokio::test]
async fn a_secret_that_expires_soon_is_recorded_and_counted() {
    let safe = Safe::new().await;
    let now = SystemClock.now().unix_millis();
    let in_days = |days: i64| Some(Timestamp::from_unix_millis(now + days * 86_400_000 + 1_000));
    for (name, days) in [("soon", 3), ("later", 90)] {
        let new = NewSecret { expires_on: in_days(days), ..NewSecret::default() };
        safe.vault.set(name, VALUE, new).unwrap();
    }
    let attended = safe.world.host.attend_secrets(&safe.secrets, 14);
    tokio::select! {
        () = attended => {}
        () = async { while safe.audit("").await.is_empty() { tokio::task::yield_now().await } } => {}
    }
    let all = safe.audit("").await;
    let entry = |name| text(&all[0], name);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((entry("operation"), entry("secret"), entry("by")), ("expiring", "embedded:soon", "server"));
    assert_eq!(entry("version"), "1");
    let metrics = safe.world.get("/metrics").await.text();
    assert!(metrics.contains("\nloom_secrets_expiring 1\n"), "{metrics}");
}

/// Runs read while keys are rotated and versions are set: no read fails, and none sees half a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_rotate_while_secrets_are_read() {
    let safe = Safe::new().await;
    safe.vault.set("k", "value-0", NewSecret::default()).unwrap();
    let reader = {
        let providers = safe.secrets.providers.clone();
        async move {
            for _ in 0..200 {
                let read = providers.find("k", None).await.unwrap();
                assert!(read.value.starts_with("value-"), "{}", read.value.len());
                let again = providers.find(&read.name, read.version.as_deref()).await.unwrap();
                assert_eq!(again.value, read.value, "a version has one value");
            }
        }
    };
    let writer = async {
        for number in 0..15 {
            assert_eq!(safe.world.post("/api/v1/secret-keys/rotate", "").await.status, 200);
            assert_eq!(safe.put("k", None, &body(&format!("value-{number}"))).await.status, 200);
        }
    };
    tokio::join!(reader, writer);
}
