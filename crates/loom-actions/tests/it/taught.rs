//! What responses report about the limits of a service, and which calls are hedged: real requests from a real engine.

use std::{sync::Arc, time::Duration};

use loom_actions::{Settings, request_handlers, requests};
use loom_definition::{Definition, LoadOptions};
use loom_engine::{Engine, RunRequest, clock::SystemClock};
use loom_resilience::LimiterStatus;
use loom_testkit::mock::Mock;

use crate::support::mock;

fn engine() -> Engine {
    let requests = requests(Settings::default(), Arc::new(SystemClock)).unwrap();
    let mut builder = Engine::builder();
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    builder.build()
}

/// Executes one action, which calls `path` of the mock and has these members besides.
async fn call(engine: &Engine, mock: &Mock, method: &str, path: &str, members: &str) {
    let uri = format!("{}{path}", mock.base_url());
    let text = format!(
        r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{"Call": {{"type": "Http", "runAfter": {{}},
            "inputs": {{"method": "{method}", "uri": "{uri}", "retryPolicy": {{"type": "none"}}}}, {members}}}}}}}}}"#
    );
    let loaded = Definition::parse_text(&text, &LoadOptions::default()).unwrap();
    let report = engine.run(RunRequest::manual(loaded.workflow, Vec::new(), None)).await.unwrap();
    report.expect("the run ends");
}

/// The limiter of the service after one response with this status and these headers.
async fn taught(status: u16, headers: &str, limit: &str) -> LimiterStatus {
    let rule = format!(r#"[{{"path": "/", "response": {{"status": {status}, "headers": {headers}}}}}]"#);
    let mock = mock(&rule).await;
    let engine = engine();
    call(&engine, &mock, "GET", "/", &format!(r#""rateLimit": {{"name": "service", {limit}}}"#)).await;
    let services = engine.registry().list();
    assert_eq!(services.len(), 1, "{services:?}");
    let status = services[0].limiter;
    engine.shut_down().await;
    mock.stop().await;
    status
}

const HUNDRED: &str = r#""requests": 100, "per": "minute""#;

#[tokio::test]
async fn retry_after_of_a_429_or_503_pauses_the_service() {
    let seconds = r#"{"Retry-After": "120"}"#;
    for status in [429, 503] {
        let limiter = taught(status, seconds, HUNDRED).await;
        let paused = limiter.frozen_for;
        assert!(paused > Duration::from_mins(1) && paused <= Duration::from_mins(2), "{status}: {paused:?}");
    }
    let date = taught(429, r#"{"Retry-After": "Thu, 31 Dec 2099 23:59:59 GMT"}"#, HUNDRED).await;
    assert!(date.frozen_for > Duration::from_hours(1), "{date:?}");

    let silent = r#""requests": 100, "per": "minute", "learn": false"#;
    for (status, headers, limit) in [
        (500, seconds, HUNDRED),
        (200, seconds, HUNDRED),
        (404, seconds, HUNDRED),
        (429, r#"{"Retry-After": "soon"}"#, HUNDRED),
        (429, seconds, silent),
    ] {
        let limiter = taught(status, headers, limit).await;
        assert_eq!(limiter.frozen_for, Duration::ZERO, "{status} {headers} {limit}");
    }
}

#[tokio::test]
async fn the_limit_that_a_response_reports_lowers_that_of_the_service() {
    for headers in [
        r#"{"RateLimit-Limit": "10", "RateLimit-Remaining": "4", "RateLimit-Reset": "60"}"#,
        r#"{"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "60"}"#,
        r#"{"RateLimit-Policy": "\"default\";q=10;w=60", "RateLimit": "\"default\";r=4;t=60"}"#,
    ] {
        let limiter = taught(200, headers, HUNDRED).await;
        assert_eq!(limiter.learned, Some(10), "{headers}: {limiter:?}");
        assert!(limiter.available.is_some_and(|left| left <= 4), "{headers}: {limiter:?}");
        assert_eq!(limiter.frozen_for, Duration::ZERO, "{headers}: permits are left");
    }
    let empty = r#"{"RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "60"}"#;
    let used_up = taught(200, empty, HUNDRED).await;
    assert!(used_up.frozen_for > Duration::from_secs(30), "nothing is left until the reset: {used_up:?}");
    let higher =
        r#"{"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": "60"}"#;
    let higher = taught(200, higher, HUNDRED).await;
    assert_eq!(higher.learned, None, "a limit is never raised: {higher:?}");
    assert!(higher.available.is_some_and(|left| left >= 99), "{higher:?}");
    let nonsense = r#"{"RateLimit-Limit": "many", "RateLimit-Remaining": "-1", "RateLimit-Reset": ""}"#;
    let nonsense = taught(200, nonsense, HUNDRED).await;
    assert_eq!((nonsense.learned, nonsense.frozen_for), (None, Duration::ZERO), "{nonsense:?}");
}

#[tokio::test]
async fn only_methods_that_may_be_repeated_are_hedged_unless_the_definition_says_so() {
    // The first response comes long after the test; the second copy is answered at once.
    let hangs = r#""responses": [{"delayMs": 600000}, {"status": 200}]"#;
    let repeatable = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"];
    let rule = |method: &&str| format!(r#"{{"method": "{method}", "path": "/{method}", {hangs}}}"#);
    let mut rules: Vec<String> = repeatable.iter().map(rule).collect();
    rules.push(format!(r#"{{"path": "/declared", {hangs}}}"#));
    // Long enough for many copies.
    rules.push(r#"{"path": "/once", "response": {"delayMs": 150}}"#.to_owned());
    let mock = mock(&format!("[{}]", rules.join(","))).await;
    let engine = engine();
    let hedge = |more: &str| format!(r#""hedge": {{"delay": 5{more}}}"#);
    for method in repeatable {
        call(&engine, &mock, method, &format!("/{method}"), &hedge("")).await;
    }
    call(&engine, &mock, "POST", "/declared", &hedge(r#", "idempotent": true"#)).await;
    for method in ["POST", "PATCH"] {
        call(&engine, &mock, method, "/once", &hedge("")).await;
    }
    let requests = mock.requests();
    let count = |path: &str| requests.iter().filter(|request| request.path == path).count();
    for method in repeatable {
        assert_eq!(count(&format!("/{method}")), 2, "{method}");
    }
    assert_eq!((count("/declared"), count("/once")), (2, 2), "POST and PATCH are sent once each");
    let keys: Vec<_> = requests.iter().filter(|request| request.path == "/declared").collect();
    assert_eq!(keys[0].header("idempotency-key"), keys[1].header("idempotency-key"));
    engine.shut_down().await;
    mock.stop().await;
}
