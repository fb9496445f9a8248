//! Which occurrences a backfill fires.

use std::sync::Arc;

use loom_expression::Value;

use crate::{
    Host,
    triggers::tests::{HOOK, World, crash, deploy, pass, workflow},
};

/// Requests a backfill of `w`; returns the status, and the statuses of the occurrences or the code of the error.
async fn backfill(host: &Arc<Host>, body: &str) -> (u16, Vec<String>) {
    let server = crate::Server::new(Arc::clone(host), crate::ServerSettings::default());
    let path = "/api/v1/workflows/w/triggers/t/backfill";
    let headers =
        [(axum::http::header::CONTENT_TYPE, "application/json".parse().unwrap())].into_iter().collect();
    let (status, body) = server.ask(axum::http::Method::POST, path, headers, body.into()).await.unwrap();
    let body = Value::parse_json(&body).unwrap();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found = match body.get("occurrences").and_then(Value::as_array) {
        Some(found) => found.iter().map(|one| text(one, "status")).collect(),
        None => vec![text(body.get("error").unwrap(), "code")],
    };
    (status.as_u16(), found)
}

#[tokio::test(start_paused = true)]
async fn a_backfill_fires_what_was_missed_and_nothing_twice() {
    let world = World::new(&[]);
    let text = workflow(r#"{"type": "Recurrence", "recurrence": {"frequency": "Minute", "interval": 10}}"#);
    let host = world.process(&[("w", &text)]).await;
    pass(1_201).await;
    crash(host).await;
    pass(3_600).await;
    let host = world.process(&[("w", &text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 4, "at 0, 600 and 1,200 seconds, and late at 4,800");
    // The simulated time starts at 2027-01-15T08:00:00Z.
    let asked =
        |dry: bool, to: &str| format!(r#"{{"from": "2027-01-15T08:00:00Z", "to": "{to}", "dryRun": {dry}}}"#);
    let to = "2027-01-15T09:20:01Z";
    let listed = |status: &str| {
        let mut listed = vec!["AlreadyFired".to_owned(); 3];
        listed.extend(vec![status.to_owned(); 5]);
        listed.push("AlreadyFired".to_owned());
        (200, listed)
    };
    assert_eq!(backfill(&host, &asked(true, to)).await, listed("Missed"));
    assert_eq!(world.runs().await.len(), 4, "a dry run fires nothing");
    assert_eq!(backfill(&host, &asked(false, to)).await, listed("Fired"));
    assert_eq!(world.runs().await.len(), 9);
    crash(host).await;
    let host = world.process(&[("w", &text)]).await;
    assert_eq!(backfill(&host, &asked(false, to)).await, listed("AlreadyFired"));
    assert_eq!(world.runs().await.len(), 9);
    // The next occurrence fires as usual, and a period that has not passed is rejected.
    pass(600).await;
    assert_eq!(world.runs().await.len(), 10);
    assert_eq!(
        backfill(&host, &asked(false, "2099-01-01T00:00:00Z")).await,
        (400, vec!["BadRequest".to_owned()])
    );
    assert_eq!(backfill(&host, r#"{"from": "soon"}"#).await, (400, vec!["BadRequest".to_owned()]));
    let minutely = workflow(r#"{"type": "Recurrence", "recurrence": {"cron": "* * * * *"}}"#);
    deploy(&host, "w", &minutely).await;
    let from = r#"{"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}"#;
    assert_eq!(backfill(&host, from).await, (400, vec!["BackfillTooLarge".to_owned()]));
    host.switch("w", None, false).await.unwrap();
    assert_eq!(
        backfill(&host, &asked(false, to)).await,
        (400, vec!["WorkflowTriggerIsNotEnabled".to_owned()])
    );
    deploy(&host, "w", &workflow(HOOK)).await;
    host.switch("w", None, true).await.unwrap();
    assert_eq!(backfill(&host, &asked(false, to)).await, (400, vec!["TriggerNotRecurrent".to_owned()]));
    crash(host).await;
}
