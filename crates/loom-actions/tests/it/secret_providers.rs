//! Secret providers on other machines, against a server that speaks their formats, well and badly.

use std::{fs, sync::Arc, time::Duration};

use loom_actions::{
    Egress, Settings,
    secrets::{ProviderSettings, Secrets, configured},
};
use loom_engine::{SecretSource as _, ports::Clock};
use loom_expression::{Masker, Timestamp};
use loom_testkit::wire::{Reply, Wire};

use crate::support::{failure, json, new_year, requests, secured};

struct NewYear;

impl Clock for NewYear {
    fn now(&self) -> Timestamp {
        new_year()
    }
}

/// What a service might repeat of what it was sent, and must never be shown.
const CREDENTIALS: [&str; 5] =
    ["t0ken-of-the-operator", "r0le-id", "s3cret-id", "cl1ent-secret", "acc3ss-token"];

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "VAULT_TOKEN" => CREDENTIALS[0],
        "ROLE" => CREDENTIALS[1],
        "SECRET_ID" => CREDENTIALS[2],
        "CLIENT_SECRET" => CREDENTIALS[3],
        _ => return None,
    };
    Some(value.to_owned())
}

fn variables() -> Vec<(String, String)> {
    [("PATH", "/bin"), ("APP_SECRET_ONE", "from a variable"), ("LOOM_SECRET_TWO", "no")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn settings() -> ProviderSettings<'static> {
    ProviderSettings::new(Arc::new(NewYear), &variable, &variables)
}

fn secrets_of(file: &str) -> Secrets {
    configured(&json(file), Vec::new(), &settings()).unwrap()
}

/// `kv`: a vault with a token that needs no renewal, behind `wire`.
fn vault(wire: &Wire, more: &str) -> Secrets {
    secrets_of(&format!(
        r#"{{"providers": {{"kv": {{"type": "vault", "url": "{}", "prefix": "loom", "namespace": "team",
            "auth": {{"type": "token", "token": {{"variable": "VAULT_TOKEN"}}}}{more}}}}}}}"#,
        wire.base_url()
    ))
}

fn app_role(wire: &Wire, more: &str) -> Secrets {
    secrets_of(&format!(
        r#"{{"providers": {{"kv": {{"type": "vault", "url": "{}",
            "auth": {{"type": "appRole", "roleId": {{"variable": "ROLE"}}, "secretId": {{"variable": "SECRET_ID"}}}}{more}}}}}}}"#,
        wire.base_url()
    ))
}

fn key_vault(wire: &Wire, more: &str) -> Secrets {
    let base = wire.base_url();
    secrets_of(&format!(
        r#"{{"providers": {{"azure": {{"type": "azureKeyVault", "url": "{base}",
            "auth": {{"type": "clientCredentials", "tenant": "tenant", "clientId": "client", "authority": "{base}/",
                "clientSecret": {{"variable": "CLIENT_SECRET"}}}}{more}}}}}}}"#
    ))
}

fn lasting_token() -> Reply {
    Reply::json(200, r#"{"data": {"ttl": 0, "renewable": false}}"#)
}

fn login(token: &str, seconds: u64, renewable: bool) -> Reply {
    Reply::json(
        200,
        format!(
            r#"{{"auth": {{"client_token": "{token}", "lease_duration": {seconds}, "renewable": {renewable}}}}}"#
        ),
    )
}

fn kv(version: u32, data: &str) -> Reply {
    Reply::json(
        200,
        format!(
            r#"{{"data": {{"data": {data}, "metadata": {{"created_time": "2023-11-0{version}T00:00:00.123456789Z",
                "deletion_time": "", "destroyed": false, "version": {version}}}}}}}"#
        ),
    )
}

/// How a vault responds to a request for a version that was deleted.
fn deleted() -> Reply {
    Reply::json(
        404,
        r#"{"data": {"data": null, "metadata": {"created_time": "2023-11-01T00:00:00Z", "deletion_time": "2023-12-01T00:00:00Z", "version": 1}}}"#,
    )
}

fn access_token() -> Reply {
    Reply::json(200, format!(r#"{{"access_token": "{}", "expires_in": "3600"}}"#, CREDENTIALS[4]))
}

fn azure(version: &str, value: &str, attributes: &str) -> Reply {
    Reply::json(
        200,
        format!(
            r#"{{"value": "{value}", "id": "https://x.vault.azure.net/secrets/key/{version}", "attributes": {{{attributes}}}}}"#
        ),
    )
}

/// An error whose body repeats every credential.
fn echoing(status: u16) -> Reply {
    Reply::json(
        status,
        format!(
            r#"{{"errors": ["{}"], "error": {{"message": "{}"}}}}"#,
            CREDENTIALS.join(" "),
            CREDENTIALS.join(" ")
        ),
    )
}

async fn value(secrets: &Secrets, name: &str) -> String {
    secrets
        .read(name, None)
        .await
        .map_or_else(|why| panic!("{name}: {why}"), |secret| secret.value.to_string())
}

async fn refused(secrets: &Secrets, name: &str) -> String {
    let why = secrets.read(name, None).await.unwrap_err();
    for credential in CREDENTIALS {
        assert!(!why.contains(credential), "{why}");
        assert!(!format!("{secrets:?}").contains(credential));
    }
    why
}

fn lines(wire: &Wire) -> Vec<String> {
    wire.asked().into_iter().map(|asked| asked.line).collect()
}

/// Lets time pass without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_vault_gives_versions_and_fields() {
    let wire = Wire::start([
        lasting_token(),
        kv(3, r#"{"value": "third"}"#),
        kv(1, r#"{"value": "first"}"#),
        kv(2, r#"{"user": "me", "password": "s3cr3t", "port": 5432}"#),
        kv(2, r#"{"user": "me", "password": "s3cr3t", "port": 5432}"#),
        kv(2, r#"{"user": "me", "password": "s3cr3t"}"#),
    ])
    .await
    .unwrap();
    let secrets = vault(&wire, "");
    let read = secrets.read("kv:billing/key", None).await.unwrap();
    assert_eq!((&*read.value, &*read.name), ("third", "kv:billing/key"));
    assert_eq!(read.version.as_deref(), Some("3-2023-11-03T00:00:00.123456789Z"));
    assert_eq!(value(&secrets, "KV:billing/key@1").await, "first");
    assert_eq!(value(&secrets, "kv:db#password").await, "s3cr3t");
    assert_eq!(value(&secrets, "kv:db#port").await, "5432");
    let why = refused(&secrets, "kv:db").await;
    assert_eq!(why, "the secret 'kv:db' has the fields user, password; select one, as in 'kv:db#user'");
    let asked = wire.asked();
    assert_eq!(asked[1].line, "GET /v1/secret/data/loom/billing/key");
    assert_eq!(asked[2].line, "GET /v1/secret/data/loom/billing/key?version=1");
    assert_eq!(asked[1].header("x-vault-token"), Some(CREDENTIALS[0]));
    assert_eq!(asked[1].header("x-vault-namespace"), Some("team"));
    assert_eq!(asked[1].header("x-vault-request"), Some("true"));
}

#[tokio::test]
async fn a_recorded_version_is_never_replaced_by_another_value() {
    let wire =
        Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = vault(&wire, r#", "cache": "PT0S""#);
    let read = secrets.read("kv:key", None).await.unwrap();
    assert_eq!(secrets.read(&read.name, read.version.as_deref()).await.unwrap(), read);
    // All of the secret was removed, and the numbers begin again.
    wire.add([Reply::json(
        200,
        r#"{"data": {"data": {"value": "b"}, "metadata": {"created_time": "2024-01-01T00:00:00Z", "deletion_time": "", "version": 1}}}"#,
    )]);
    let why = secrets.read(&read.name, read.version.as_deref()).await.unwrap_err();
    assert_eq!(why, "Secret version not found: key@1");
    wire.add([deleted()]);
    assert_eq!(
        secrets.read(&read.name, read.version.as_deref()).await.unwrap_err(),
        "Secret version deleted: key"
    );
    wire.add([Reply::json(404, r#"{"errors": []}"#), Reply::json(404, r#"{"errors": []}"#)]);
    assert_eq!(refused(&secrets, "kv:key@9").await, "Secret version not found: key@9");
    assert_eq!(refused(&secrets, "kv:key").await, "Secret not found: key");
    // A version that is not a number is never sent.
    let before = wire.asked().len();
    for version in ["0", "-1", "latest", "1&x=y", "99999999999"] {
        let why = refused(&secrets, &format!("kv:key@{version}")).await;
        assert!(why.starts_with("Secret version not found"), "{why}");
    }
    assert_eq!(wire.asked().len(), before);
}

#[tokio::test]
async fn a_token_is_renewed_and_an_app_role_logs_in_again() {
    let wire = Wire::start([login("first", 90, true), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = app_role(&wire, r#", "cache": "PT0S""#);
    assert_eq!(value(&secrets, "kv:key").await, "a");
    let asked = wire.asked();
    assert_eq!(asked[0].line, "POST /v1/auth/approle/login");
    assert_eq!(String::from_utf8_lossy(&asked[0].body), r#"{"role_id":"r0le-id","secret_id":"s3cret-id"}"#);
    assert_eq!(asked[1].header("x-vault-token"), Some("first"));

    // Two thirds of its life have passed.
    pass(Duration::from_secs(61)).await;
    wire.add([login("first", 90, true), kv(1, r#"{"value": "b"}"#)]);
    secrets.tend(&Masker::new()).await;
    assert_eq!(value(&secrets, "kv:key").await, "b");
    assert_eq!(lines(&wire)[2], "POST /v1/auth/token/renew-self");

    // The renewal fails, and the token is used until it ends.
    pass(Duration::from_secs(61)).await;
    wire.add([echoing(403), kv(1, r#"{"value": "c"}"#)]);
    assert_eq!(value(&secrets, "kv:key").await, "c");
    pass(Duration::from_secs(30)).await;
    wire.add([login("second", 90, true), kv(1, r#"{"value": "d"}"#)]);
    assert_eq!(value(&secrets, "kv:key").await, "d");
    assert_eq!(lines(&wire)[6], "POST /v1/auth/approle/login");
    assert_eq!(wire.asked()[7].header("x-vault-token"), Some("second"));

    // A revoked token is replaced, once.
    wire.add([echoing(403), login("third", 90, true), kv(1, r#"{"value": "e"}"#)]);
    assert_eq!(value(&secrets, "kv:key").await, "e");
    wire.add([echoing(403), login("fourth", 90, true), echoing(403)]);
    let why = refused(&secrets, "kv:key").await;
    assert!(why.contains("was refused access to 'key' (status 403)"), "{why}");
    assert_eq!(wire.replies_left(), 0);
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_another_program_has_replaced_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "old-token\n").unwrap();
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = secrets_of(&format!(
        r#"{{"providers": {{"kv": {{"type": "vault", "url": "{}", "cache": "PT0S",
            "auth": {{"type": "token", "token": {{"file": "{}"}}}}}}}}}}"#,
        wire.base_url(),
        file.display()
    ));
    assert_eq!(value(&secrets, "kv:key").await, "a");
    fs::write(&file, "new-token\n").unwrap();
    wire.add([echoing(403), lasting_token(), kv(1, r#"{"value": "b"}"#)]);
    assert_eq!(value(&secrets, "kv:key").await, "b");
    let tokens: Vec<_> =
        wire.asked().iter().map(|asked| asked.header("x-vault-token").map(str::to_owned)).collect();
    assert_eq!(
        tokens[1..].iter().flatten().collect::<Vec<_>>(),
        ["old-token", "old-token", "new-token", "new-token"]
    );
}

#[tokio::test]
async fn a_key_vault_gives_versions_and_enforces_times() {
    let wire = Wire::start([access_token(), azure("abc123", "v1", r#""enabled": true"#)]).await.unwrap();
    let secrets = key_vault(&wire, r#", "cache": "PT0S""#);
    let read = secrets.read("azure:Key", None).await.unwrap();
    assert_eq!((&*read.value, &*read.name, read.version.as_deref()), ("v1", "azure:key", Some("abc123")));
    let asked = wire.asked();
    assert_eq!(asked[0].line, "POST /tenant/oauth2/token");
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(
        form.contains("resource=https%3A%2F%2Fvault.azure.net")
            && form.contains("client_secret=cl1ent-secret"),
        "{form}"
    );
    assert_eq!(asked[1].line, "GET /secrets/key?api-version=7.4");
    assert_eq!(asked[1].header("authorization"), Some("Bearer acc3ss-token"));

    // The token is kept.
    wire.add([azure("abc123", "v1", "")]);
    assert_eq!(secrets.read(&read.name, Some("abc123")).await.unwrap(), read);
    assert_eq!(lines(&wire)[2], "GET /secrets/key/abc123?api-version=7.4");
    let now = new_year().unix_millis() / 1_000;
    for (reply, expected) in [
        (azure("abc123", "v", &format!(r#""exp": {}"#, now - 1)), "Secret expired: key"),
        (azure("abc123", "v", &format!(r#""nbf": {}"#, now + 1)), "Secret not valid yet: key"),
        (azure("abc123", "v", r#""enabled": false"#), "Secret disabled: key"),
        (
            Reply::json(403, r#"{"error": {"code": "Forbidden", "innererror": {"code": "SecretDisabled"}}}"#),
            "Secret disabled: key",
        ),
        (Reply::json(404, r#"{"error": {"code": "SecretNotFound"}}"#), "Secret not found: key"),
        (
            echoing(403),
            "the secret provider 'azure' was refused access to 'key' (status 403): check its credentials and policy",
        ),
        (
            Reply::json(200, r#"{"value": 7, "id": "x/y"}"#),
            "the secret provider 'azure' cannot be used: the 'value' of its response is not a string",
        ),
    ] {
        wire.add([reply]);
        assert_eq!(refused(&secrets, "azure:key").await, expected);
    }
    wire.add([azure("ffffff", "v", "")]);
    let why = refused(&secrets, "azure:key@abc123").await;
    assert!(why.ends_with("it responded with another version"), "{why}");
    for name in ["azure:a/b", "azure:a.b", "azure:a_b", "azure:a#b", "azure:../secrets"] {
        assert!(refused(&secrets, name).await.contains("is not a valid secret name"), "{name}");
    }
}

#[tokio::test]
async fn a_rejected_access_token_is_fetched_once_for_all_readers() {
    let wire = Wire::start([access_token(), azure("a1", "one", "")]).await.unwrap();
    let secrets = key_vault(&wire, r#", "cache": "PT0S""#);
    assert_eq!(value(&secrets, "azure:key").await, "one");
    // An hour later, less the margin.
    pass(Duration::from_mins(56)).await;
    wire.add([access_token()]);
    wire.add((0..8).map(|_| azure("a1", "two", "")));
    let names: Vec<String> = (0..8).map(|number| format!("azure:key-{number}")).collect();
    let all = futures_util::future::join_all(names.iter().map(|name| value(&secrets, name))).await;
    assert_eq!(all, ["two"; 8]);
    let fetched = lines(&wire).iter().filter(|line| line.contains("oauth2")).count();
    assert_eq!(fetched, 2, "one at the start, one after it expired");

    wire.add([echoing(401), access_token(), azure("a1", "three", "")]);
    assert_eq!(value(&secrets, "azure:key").await, "three");
    wire.add([echoing(401), echoing(400)]);
    let why = refused(&secrets, "azure:key").await;
    assert!(why.contains("Cannot get a token"), "{why}");
}

#[tokio::test]
async fn one_request_serves_all_readers_until_the_cache_expires() {
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = vault(&wire, "");
    let all = futures_util::future::join_all((0..50).map(|_| value(&secrets, "kv:key"))).await;
    assert_eq!(all, vec!["a"; 50]);
    assert_eq!(wire.asked().len(), 2);
    pass(Duration::from_secs(61)).await;
    wire.add([kv(2, r#"{"value": "b"}"#)]);
    assert_eq!(value(&secrets, "kv:key").await, "b");
}

#[tokio::test]
async fn a_value_outlives_an_outage_for_a_limited_time() {
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = vault(&wire, r#", "staleOnError": "PT2M""#);
    assert_eq!(value(&secrets, "kv:key").await, "a");
    pass(Duration::from_secs(61)).await;
    wire.add([echoing(503), echoing(500)]);
    assert_eq!(value(&secrets, "kv:key").await, "a", "it is tried twice, then the old value is used");
    wire.add([Reply::json(429, "{}").header("retry-after", "7")]);
    assert_eq!(value(&secrets, "kv:key").await, "a");
    assert_eq!(wire.replies_left(), 0);
    pass(Duration::from_mins(2)).await;
    wire.add([Reply::json(429, "{}")]);
    let why = refused(&secrets, "kv:key").await;
    assert_eq!(why, "the secret provider 'kv' is not available: it receives too many requests (status 429)");

    // What the provider decides is not an outage.
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let secrets = vault(&wire, "");
    assert_eq!(value(&secrets, "kv:key").await, "a");
    pass(Duration::from_secs(61)).await;
    wire.add([deleted(), echoing(500), echoing(500)]);
    assert_eq!(refused(&secrets, "kv:key").await, "Secret version deleted: key");
    assert!(refused(&secrets, "kv:key").await.contains("status 500"), "the old value is forgotten");
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone() {
    let wire = Wire::start([lasting_token()]).await.unwrap();
    wire.add((0..6).map(|_| echoing(500)));
    let secrets = vault(&wire, "");
    assert_eq!(secrets.providers()[0].state.as_deref(), Some("closed"));
    for _ in 0..3 {
        let why = refused(&secrets, "kv:key").await;
        assert!(why.contains("is not available"), "{why}");
    }
    let asked = wire.asked().len();
    let why = refused(&secrets, "kv:key").await;
    assert!(why.contains("its circuit is open; it is tried again in"), "{why}");
    assert_eq!(wire.asked().len(), asked, "nothing was sent");
    assert_eq!(secrets.providers()[0].state.as_deref(), Some("open"));
}

#[tokio::test]
async fn slow_broken_and_malformed_answers_are_errors_without_what_they_say() {
    let check = async |replies: Vec<Reply>, expected: &str| {
        let wire = Wire::start([lasting_token()].into_iter().chain(replies)).await.unwrap();
        let secrets = vault(&wire, r#", "timeout": "PT0.2S", "staleOnError": "PT0S""#);
        let why = refused(&secrets, "kv:key").await;
        assert!(why.contains(expected), "expected {expected:?}, found {why:?}");
    };
    check(vec![Reply::silence()], "it did not respond within 200ms").await;
    check(vec![kv(1, r#"{"value": "abc"}"#).drop_after(20), kv(1, "{}").drop_after(20)], "is not available")
        .await;
    for body in [
        "",
        "no JSON",
        "[]",
        "7",
        "\"x\"",
        "{",
        "{\"data\": 7}",
        "{\"data\": {\"data\": {\"value\": \"x\"}}}",
    ] {
        check(vec![Reply::json(200, body)], "'kv' cannot be used").await;
    }
    check(vec![kv(1, "[]")], "cannot be used").await;
    check(vec![kv(1, "{}")], "has the fields").await;
    check(vec![Reply::json(200, vec![b' '; 2 << 20])], "'kv'").await;
    check(
        vec![kv(1, &format!(r#"{{"value": "{}"}}"#, "x".repeat(70_000)))],
        "must be at most 65536 bytes (got 70000)",
    )
    .await;
    check(vec![echoing(418)], "it responded with status 418").await;
    let elsewhere = Wire::start([]).await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            Reply::status(status).header("location", &format!("{}/v1/secret/data/x", elsewhere.base_url()));
        check(vec![redirect], "which is not followed").await;
    }
    assert!(elsewhere.asked().is_empty(), "no credential was sent elsewhere");
}

#[tokio::test]
async fn an_authority_of_the_operator_is_required_for_tls() {
    let (signed, port, _server) = secured(None).await;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ca.pem"), signed.cert.pem()).unwrap();
    let of = |more: &str| {
        let file = format!(
            r#"{{"providers": {{"kv": {{"type": "vault", "url": "https://localhost:{port}",
                "auth": {{"type": "token", "token": {{"variable": "VAULT_TOKEN"}}}}{more}}}}}}}"#
        );
        let settings = ProviderSettings { directory: directory.path().to_owned(), ..settings() };
        configured(&json(&file), Vec::new(), &settings)
    };
    let why = refused(&of("").unwrap(), "kv:key").await;
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    // The control: with the authority, the server is heard. It does not speak the API.
    let why = refused(&of(r#", "caFile": "ca.pem""#).unwrap(), "kv:key").await;
    assert!(why.contains("is not the JSON that its API promises"), "{why}");
    assert!(of(r#", "caFile": "none.pem""#).unwrap_err().to_string().contains("cannot read"));
}

/// The operator named the URL, so rules for definitions do not apply to it; and naming it there allows definitions nothing.
#[tokio::test]
async fn egress_rules_bind_definitions_and_not_providers() {
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "a"}"#)]).await.unwrap();
    let egress = Egress::default().block_private(true).allow("elsewhere.example").unwrap();
    let file = |url: &str| {
        json(&format!(
            r#"{{"providers": {{"kv": {{"type": "vault", "url": "{url}",
                "auth": {{"type": "token", "token": {{"variable": "VAULT_TOKEN"}}}}}}}}}}"#
        ))
    };
    let settings = ProviderSettings { egress: egress.clone(), ..settings() };
    let secrets = configured(&file(&wire.base_url()), Vec::new(), &settings).unwrap();
    assert_eq!(value(&secrets, "kv:key").await, "a");
    let requests = requests(Settings { egress, ..Settings::default() });
    let failed =
        failure(&requests, &wire.base_url(), r#"{"method": "GET", "uri": "{base}/v1/secret/data/key"}"#)
            .await;
    assert_eq!(failed.code, "EgressForbidden");
    // The map is for every request: a test server may stand in for the real one.
    let wire = Wire::start([lasting_token(), kv(1, r#"{"value": "mapped"}"#)]).await.unwrap();
    let egress = Egress::default().map("vault.example.com", &wire.base_url()).unwrap();
    let settings = ProviderSettings { egress, ..self::settings() };
    let secrets = configured(&file("https://vault.example.com"), Vec::new(), &settings).unwrap();
    assert_eq!(value(&secrets, "kv:key").await, "mapped");
}

#[tokio::test]
async fn only_what_the_operator_named_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    fs::write(mounted.join("plain"), "from a file\r\n").unwrap();
    fs::write(mounted.join("hidden"), "not given").unwrap();
    fs::write(directory.path().join("outside"), "outside").unwrap();
    let file = r#"{"providers": {
        "mounted": {"type": "files", "directory": "mounted", "names": ["pl*", "out*", "pipe"]},
        "app": {"type": "env", "prefix": "APP_SECRET_"}}, "order": ["app", "mounted"]}"#;
    let settings = ProviderSettings { directory: directory.path().to_owned(), ..settings() };
    let secrets = configured(&json(file), Vec::new(), &settings).unwrap();
    assert_eq!(value(&secrets, "one").await, "from a variable");
    assert_eq!(value(&secrets, "app:one").await, "from a variable");
    assert_eq!(value(&secrets, "plain").await, "from a file");
    for name in
        ["app:PATH", "app:path", "app:LOOM_SECRET_TWO", "app:two", "env:PATH", "hidden", "mounted:../outside"]
    {
        let why = refused(&secrets, name).await;
        assert!(!why.contains("/bin") && !why.contains("not given"), "{name}: {why}");
    }
    assert!(refused(&secrets, "mounted:hidden").await.contains("may not give 'hidden'"));
    assert_eq!(
        refused(&secrets, "nobody:x").await,
        "there is no secret provider 'nobody'; this host has: app, mounted"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink("../outside", mounted.join("outside")).unwrap();
        assert!(refused(&secrets, "mounted:outside").await.contains("it is a link out of the directory"));
        // As Kubernetes mounts them.
        fs::create_dir(mounted.join("..data")).unwrap();
        fs::write(mounted.join("..data/plant"), "linked").unwrap();
        symlink("..data/plant", mounted.join("plant")).unwrap();
        assert_eq!(value(&secrets, "mounted:plant").await, "linked");
        fs::create_dir(mounted.join("plan")).unwrap();
        assert!(refused(&secrets, "mounted:plan").await.contains("it is not a regular file"));
    }
    fs::write(mounted.join("plain"), "x".repeat(10 << 20)).unwrap();
    assert!(refused(&secrets, "mounted:plain").await.contains("it is larger than 64 KiB"));
    fs::write(mounted.join("plain"), [0xff, 0xfe]).unwrap();
    assert!(refused(&secrets, "mounted:plain").await.contains("it is not valid UTF-8"));
}

/// A connection evaluates its templates without waiting, so its secrets are kept at hand.
#[tokio::test]
async fn what_connections_need_is_kept_at_hand() {
    let wire = Wire::start([]).await.unwrap();
    let secrets = vault(&wire, "");
    let name = "kv:crm";
    assert!(secrets.get(name).unwrap_err().to_string().contains("has not been read yet"));
    wire.add([lasting_token(), kv(1, r#"{"value": "a-long-value"}"#)]);
    let masker = Masker::new();
    secrets.tend(&masker).await;
    assert_eq!(&*secrets.get(name).unwrap(), "a-long-value");
    assert_eq!(masker.mask("is a-long-value"), "is *sanitized*");
    pass(Duration::from_secs(61)).await;
    wire.add([kv(2, r#"{"value": "b"}"#)]);
    secrets.tend(&masker).await;
    assert_eq!(&*secrets.get(name).unwrap(), "b");
}

/// What an entry of `grants` names is only for its workflows. The providers and the grants can be replaced.
#[tokio::test]
async fn grants_restrict_secrets_to_workflows() {
    let variables = |_: &str| None;
    let all =
        || vec![("APP_BILLING_KEY".to_owned(), "b".to_owned()), ("APP_PLAIN".to_owned(), "p".to_owned())];
    let settings = ProviderSettings::new(Arc::new(NewYear), &variables, &all);
    let of = |grants: &str| {
        let file = format!(
            r#"{{"providers": {{"app": {{"type": "env", "prefix": "APP_"}}}}, "order": ["app"], "grants": {grants}}}"#
        );
        configured(&json(&file), Vec::new(), &settings)
    };
    let secrets = of(r#"{"app:BILLING-*": ["orders", "bill-*"], "*:billing-key": ["audit"]}"#).unwrap();
    let may = async |secrets: &Secrets, name: &str, workflow: &str| {
        let secret = secrets.find(name, None).await.unwrap();
        secrets.check_reader(&secret, workflow)
    };
    for (name, workflow, expected) in [
        ("app:billing-key", "orders", true),
        // The name that the provider is asked under counts, not the one in the expression.
        ("billing-key", "Bill-Daily", true),
        ("billing-key", "audit", true),
        ("billing-key", "other", false),
        ("app:billing-key", "my-orders", false),
        ("plain", "other", true),
    ] {
        assert_eq!(may(&secrets, name, workflow).await.is_ok(), expected, "{name} {workflow}");
    }
    let why = may(&secrets, "billing-key", "other").await.unwrap_err();
    assert!(why.contains("the workflow 'other' may not read the secret 'app:billing-key'"), "{why}");
    secrets.replace(&of("{}").unwrap());
    assert!(may(&secrets, "billing-key", "other").await.is_ok());
    for (grants, expected) in [
        (
            r#"{"billing-key": []}"#,
            "grants.billing-key: a grant names a secret with its provider, such as 'embedded:api-key'",
        ),
        (r#"{"kv:key": []}"#, "grants.kv:key: there is no provider 'kv' (there are: app)"),
        (
            r#"{"app:key#field": []}"#,
            "grants.app:key#field: a grant is for all fields and versions of a secret; remove what follows the name",
        ),
        (r#"{"app:key": "orders"}"#, "grants.app:key: expected an array with names of workflows"),
    ] {
        assert_eq!(of(grants).unwrap_err().to_string(), expected);
    }
}

#[test]
fn mistakes_in_the_file_say_where_they_are() {
    let check = |file: &str, expected: &str| {
        let error = configured(&json(file), Vec::new(), &settings()).unwrap_err().to_string();
        assert_eq!(error, expected, "{file}");
    };
    let auth = r#""auth": {"type": "token", "token": {"variable": "VAULT_TOKEN"}}"#;
    check("[]", "the file: expected an object, found Array");
    check(r#"{"provider": {}}"#, "the file: unknown property 'provider'; use grants, order, providers");
    check(r#"{"order": ["kv"]}"#, "order: there is no provider 'kv' (there are: )");
    check(
        r#"{"providers": {"a b": {}}}"#,
        "providers.a b: a provider's name must be 1 to 40 letters, digits and '-'",
    );
    check(r#"{"providers": {"kv": {}}}"#, "providers.kv: 'type' is missing");
    check(
        r#"{"providers": {"kv": {"type": "valut"}}}"#,
        "providers.kv: 'type' must be env, files, vault or azureKeyVault (got 'valut')",
    );
    check(
        r#"{"providers": {"kv": {"type": "env", "prefix": ""}}}"#,
        "providers.kv: 'prefix' must not be empty: it would give all variables away",
    );
    check(
        &format!(
            r#"{{"providers": {{"kv": {{"type": "vault", "url": "http://vault.example.com", {auth}}}}}}}"#
        ),
        "providers.kv: 'url' must begin with https://, because secrets are sent over it",
    );
    check(
        &format!(
            r#"{{"providers": {{"kv": {{"type": "vault", "url": "https://v", "timeout": "PT10S", {auth}}}}}}}"#
        ),
        "providers.kv: 'timeout' must be more than 0 and at most 9 seconds",
    );
    check(
        &format!(
            r#"{{"providers": {{"kv": {{"type": "vault", "url": "https://v", "stale": "PT1M", {auth}}}}}}}"#
        ),
        "providers.kv: unknown property 'stale'; use auth, caFile, cache, mount, names, namespace, prefix, staleOnError, timeout, type, url",
    );
    check(
        r#"{"providers": {"kv": {"type": "vault", "url": "https://v", "auth": {"type": "token", "token": "hvs.abc"}}}}"#,
        "providers.kv.auth: 'token' must be {\"file\": PATH} or {\"variable\": NAME}; the credential itself does not belong into this file",
    );
    check(
        r#"{"providers": {"kv": {"type": "vault", "url": "https://v", "auth": {"type": "token", "token": {"variable": "NONE"}}}}}"#,
        "providers.kv.auth.token: the environment variable NONE is not set",
    );
}
