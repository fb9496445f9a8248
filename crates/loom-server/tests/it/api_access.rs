//! Named tokens and their scopes: what each may do, what is kept of them, and what the audit of changes says.

use std::sync::Arc;

use hyper::Method;
use loom_expression::Value;
use loom_server::ServerSettings;
use loom_store::{KeyQuery, MemoryStore, Store};

use crate::support::{Plan, Reply, World, list, requested, text};

const OWN: &str = "a token of the test";
const SCOPES: [&str; 4] = ["read", "run", "operate", "deploy"];

async fn guarded() -> World {
    let settings = ServerSettings { token: Some(OWN.into()), ..ServerSettings::default() };
    World::start(Plan { settings, ..Plan::default() }).await
}

/// Creates a token with these scopes, and returns it.
async fn token(world: &World, name: &str, scopes: &[&str]) -> String {
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    let body = format!(r#"{{"name": "{name}", "scopes": [{}]}}"#, scopes.join(","));
    let reply = world.post("/api/v1/tokens", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    text(&reply.json(), "token").to_owned()
}

/// A request with a token.
async fn by(world: &World, token: &str, method: Method, path: &str, body: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
    world.send(method, path, headers, body.to_owned()).await.whole().await
}

async fn audited(world: &World, query: &str) -> Vec<(String, String)> {
    let page = world.get(&format!("/api/v1/audit{query}")).await.json();
    let entry = |entry: &Value| {
        (text(entry, "by").to_owned(), format!("{} {}", text(entry, "method"), text(entry, "path")))
    };
    list(&page, "entries").iter().map(entry).collect()
}

#[tokio::test]
async fn every_route_accepts_the_tokens_with_its_scope_and_no_others() {
    let world = guarded().await;
    let mut tokens = Vec::new();
    for scope in SCOPES {
        tokens.push((scope, token(&world, scope, &[scope]).await));
    }
    let document = world.get("/api/v1/openapi.json").await.json();
    let mut tried = 0;
    for (path, methods) in document.get("paths").and_then(Value::as_object).unwrap() {
        // Names that nothing has: a request that is let in changes nothing.
        let address: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "nothing-has-this-name" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in methods.as_object().unwrap() {
            let needed = operation.get("x-loom-scope").and_then(Value::as_str);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let Some(needed) = needed else { continue };
            // A change of all secrets is tried with callers who may not make it.
            let is_harmless = address != "/api/v1/secret-keys/rotate";
            let nobody = world.send(method.clone(), &address, &[], "").await.whole().await;
            assert_eq!(nobody.status, 401, "{method} {address} without a token");
            let wrong = by(&world, "loom_read_0123456789", method.clone(), &address, "").await;
            assert_eq!(wrong.status, 401, "{method} {address} with a wrong token");
            for (scope, token) in &tokens {
                if *scope == needed && !is_harmless {
                    continue;
                }
                let reply = by(&world, token, method.clone(), &address, "").await;
                let is_refused = reply.status == 403 && reply.error() == "InsufficientScope";
                assert_eq!(is_refused, *scope != needed, "{method} {address} with {scope}: {}", reply.text());
                assert_ne!(reply.status, 401, "{method} {address} with {scope}");
                tried += 1;
            }
        }
    }
    assert!(tried > 250, "{tried}");
    // A token with several scopes may do what each of them allows.
    let both = token(&world, "both", &["read", "operate"]).await;
    assert_eq!(by(&world, &both, Method::GET, "/api/v1/runs", "").await.status, 200);
    assert_eq!(by(&world, &both, Method::POST, "/api/v1/runs/x/cancel", "").await.status, 404);
    assert_eq!(by(&world, &both, Method::POST, "/api/v1/runs/x/resubmit", "").await.status, 403);
    // A caller that may not start a run may not start many.
    let bulk = |operation: &str| format!("/api/v1/runs/bulk/{operation}?workflow=x&dryRun=true");
    assert_eq!(by(&world, &both, Method::POST, &bulk("cancel"), "").await.status, 200);
    let refused = by(&world, &both, Method::POST, &bulk("resubmit"), "").await;
    assert_eq!((refused.status, refused.error().as_str()), (403, "InsufficientScope"));
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_kept_as_a_hash_until_it_is_revoked_or_expires() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let settings = ServerSettings { token: Some(OWN.into()), ..ServerSettings::default() };
    let world = World::start(Plan { settings, store: Arc::clone(&store), ..Plan::default() }).await;
    let ci = token(&world, "ci", &["read"]).await;
    assert!(ci.starts_with("loom_ci_") && ci.len() == 8 + 64, "{ci}");
    let secret = ci.rsplit('_').next().unwrap();
    // Nothing that is stored or shown has the secret.
    let shown = world.get("/api/v1/tokens").await.text();
    assert!(shown.contains("\"ci\"") && !shown.contains(secret) && !shown.contains("hash"), "{shown}");
    let mut start = String::new();
    let mut values = 0;
    while let Some(namespace) = store.namespace_from(&start).await.unwrap() {
        start = format!("{namespace}\0");
        let query = KeyQuery { namespace, prefix: String::new(), after: None, limit: 1_000 };
        for value in store.keys(query).await.unwrap().values {
            values += 1;
            assert!(!String::from_utf8_lossy(&value.value).contains(secret), "{value:?}");
        }
    }
    assert!(values > 1, "the token and its entry in the audit");

    // What does not fit is refused.
    for (body, status, code) in [
        (r#"{"name": "ci", "scopes": ["read"]}"#, 409, "TokenExists"),
        (r#"{"name": "CI", "scopes": ["read"]}"#, 400, "BadRequest"),
        (r#"{"name": "api", "scopes": ["read"]}"#, 400, "BadRequest"),
        (r#"{"name": "x", "scopes": []}"#, 400, "BadRequest"),
        (r#"{"name": "x", "scopes": ["admin"]}"#, 400, "BadRequest"),
        (r#"{"name": "x", "scopes": ["read"], "expires": "2020-01-01T00:00:00Z"}"#, 400, "BadRequest"),
        (r#"{"name": "x", "scopes": ["read"], "expires": "soon"}"#, 400, "BadRequest"),
        (r#"{"name": "x", "scopes": ["read"], "role": "x"}"#, 400, "BadRequest"),
    ] {
        let reply = world.post("/api/v1/tokens", body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, code), "{body}: {}", reply.text());
    }

    // Its session ends with it.
    let form = format!("token={ci}&next=%2Fui%2Fruns");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let reply = world.send(Method::POST, "/ui/login", &headers, form).await.whole().await;
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let visit = async |path: &str| {
        world.send(Method::GET, path, &[("cookie", cookie.as_str())], "").await.whole().await.status
    };
    assert_eq!((visit("/ui/runs").await, visit("/api/v1/runs").await), (200, 200));
    assert_eq!(by(&world, &ci, Method::GET, "/api/v1/runs", "").await.status, 200);
    assert_eq!(world.call(Method::DELETE, "/api/v1/tokens/ci", "").await.status, 204);
    assert_eq!(by(&world, &ci, Method::GET, "/api/v1/runs", "").await.status, 401);
    assert_eq!((visit("/ui/runs").await, visit("/api/v1/runs").await), (303, 401));
    assert_eq!(world.call(Method::DELETE, "/api/v1/tokens/ci", "").await.error(), "TokenNotFound");
    // Another token of the same name is another one, also for old sessions.
    let again = token(&world, "ci", &["read"]).await;
    assert_ne!(again, ci);
    assert_eq!(by(&world, &ci, Method::GET, "/api/v1/runs", "").await.status, 401);
    assert_eq!(visit("/ui/runs").await, 303);
    world.stop().await;
}

#[tokio::test]
async fn the_audit_names_who_made_a_change_and_has_no_reads_and_no_dry_runs() {
    let world = guarded().await;
    let ci = token(&world, "ci", &["deploy", "operate", "read", "run"]).await;
    let definition = requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#);
    let put = by(&world, &ci, Method::PUT, "/api/v1/workflows/w", &definition).await;
    assert_eq!(put.status, 201, "{}", put.text());
    // A check, a bulk change that is not made, a read, a refusal and the start of a run are no changes.
    let checked = by(&world, &ci, Method::PUT, "/api/v1/workflows/w?dryRun=true", &definition).await;
    assert_eq!((checked.status, text(&checked.json(), "name")), (200, "w"));
    let bulk = "/api/v1/runs/bulk/delete?workflow=w&dryRun=true";
    assert_eq!(by(&world, &ci, Method::POST, bulk, "").await.status, 200);
    by(&world, &ci, Method::GET, "/api/v1/runs", "").await;
    by(&world, &ci, Method::DELETE, "/api/v1/workflows/none", "").await;
    let started = by(&world, &ci, Method::POST, "/api/v1/workflows/w/triggers/manual/run", "").await;
    assert!((200..300).contains(&started.status), "{}", started.text());
    world.post("/api/v1/workflows/w/disable", "").await;

    let put = ("ci (token)".to_owned(), "PUT /api/v1/workflows/w".to_owned());
    let disable = ("api (token)".to_owned(), "POST /api/v1/workflows/w/disable".to_owned());
    let create = ("api (token)".to_owned(), "POST /api/v1/tokens".to_owned());
    assert_eq!(audited(&world, "").await, [disable.clone(), put.clone(), create.clone()]);
    assert_eq!(audited(&world, "?by=ci").await, [put]);
    assert_eq!(audited(&world, "?by=api").await, [disable.clone(), create.clone()]);
    let first = world.get("/api/v1/audit?limit=1").await.json();
    let next = text(&first, "next");
    assert_eq!(audited(&world, &format!("?limit=1&cursor={next}")).await.len(), 1);
    // A change is recorded, even if its query claims to be a dry run.
    let claimed = by(&world, &ci, Method::POST, "/api/v1/workflows/w/enable?dryRun=true", "").await;
    assert_eq!(claimed.status, 200, "{}", claimed.text());
    assert_eq!(audited(&world, "?by=ci").await.len(), 2);
    // A token that is invalid changes nothing, and is not in the audit.
    let wrong = format!("{}0", &ci[..ci.len() - 1]);
    let refused = by(&world, &wrong, Method::DELETE, "/api/v1/workflows/w", "").await;
    assert!(refused.status == 401 || wrong == ci);
    world.stop().await;
}

#[tokio::test]
async fn signed_urls_and_starts_are_for_tokens_that_may_start_runs() {
    let world = guarded().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let (reads, runs) = (token(&world, "reads", &["read"]).await, token(&world, "runs", &["run"]).await);
    let both = token(&world, "both", &["read", "run"]).await;
    for path in ["/api/v1/workflows", "/api/v1/workflows/w"] {
        let shown = by(&world, &reads, Method::GET, path, "").await.text();
        assert!(shown.contains("\"manual\"") && !shown.contains("sig="), "{shown}");
        assert!(by(&world, &both, Method::GET, path, "").await.text().contains("sig="));
    }
    let invoke = "/workflows/w/triggers/manual/invoke";
    let refused = by(&world, &reads, Method::POST, invoke, "").await;
    assert_eq!((refused.status, refused.error().as_str()), (403, "InsufficientScope"));
    assert_eq!(by(&world, &runs, Method::POST, invoke, "").await.status, 202);
    assert_eq!(by(&world, "loom_runs_00", Method::POST, invoke, "").await.status, 401);
    world.stop().await;
}

#[tokio::test]
async fn a_server_without_a_token_lets_everyone_in_as_before() {
    let world = World::new().await;
    let reply = world.post("/api/v1/tokens", r#"{"name": "ci", "scopes": ["read"]}"#).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(world.send(Method::GET, "/api/v1/runs", &[], "").await.whole().await.status, 200);
    assert_eq!(audited(&world, "").await, [("api".to_owned(), "POST /api/v1/tokens".to_owned())]);
    world.stop().await;
}

/// A caller that leaves before its response stops neither the change nor its entry in the audit.
#[tokio::test]
async fn a_change_whose_caller_has_left_is_in_the_audit() {
    let world = guarded().await;
    let operate = token(&world, "on-call", &["operate", "read"]).await;
    let mut left = 0;
    for number in 0..40_u32 {
        let path = format!("/api/v1/memory/global/key-{number}");
        let put = by(&world, &operate, Method::PUT, &path, r#"{"value": 1}"#);
        let patience = std::time::Duration::from_micros(u64::from(number) * 100);
        left += u32::from(tokio::time::timeout(patience, put).await.is_err());
    }
    assert!(left > 0, "nobody has left");
    let counts = async || {
        let keys = world.get("/api/v1/memory/global?limit=100").await.json();
        let entries = audited(&world, "?limit=100").await;
        let changes = entries.iter().filter(|(_, change)| change.starts_with("PUT")).count();
        (list(&keys, "keys").len(), changes)
    };
    // A change may still be in progress.
    for _ in 0..500 {
        let (keys, changes) = counts().await;
        if keys == changes && keys > 0 {
            break;
        }
    }
    let (keys, changes) = counts().await;
    assert_eq!(keys, changes, "keys that were written, and entries of the audit");
}

/// Nobody can make the server keep a large form, not even without a token.
#[tokio::test]
async fn forms_have_a_limited_size_and_number_of_fields() {
    let world = guarded().await;
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    for form in ["a&".repeat(1_001), format!("token={}", "x".repeat(20_000))] {
        let reply = world.send(Method::POST, "/ui/login", &headers, form).await.whole().await;
        assert_eq!(reply.status, 413);
    }
    let small = world.send(Method::POST, "/ui/login", &headers, "token=wrong").await.whole().await;
    assert_eq!(small.status, 403);
}

/// A run that ends by its cancellation was cancelled.
#[tokio::test]
async fn a_cancellation_that_ends_a_run_succeeds() {
    let world = World::start(Plan::default()).await;
    let waits =
        r#"{"Rest": {"type": "Wait", "runAfter": {}, "inputs": {"interval": {"count": 1, "unit": "Day"}}}}"#;
    world.deploy("waits", &requested(waits)).await;
    for _ in 0..30 {
        let run = world.invoke("waits", "{}").await;
        let reply = world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let again = world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
        assert_eq!((again.status, again.error().as_str()), (409, "RunEnded"));
    }
}
