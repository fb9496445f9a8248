//! Events of a run: as a list, as a live stream, and for clients that reconnect.

use hyper::Method;
use loom_expression::Value;

use crate::support::{Plan, World, list, on_disk, requested, text};

fn sequence(event: &Value) -> i64 {
    event.get("seq").and_then(Value::as_i64).unwrap()
}

/// A workflow of many events.
fn busy(rounds: u32) -> String {
    requested(&format!(
        r#"{{"Each": {{"type": "Foreach", "foreach": "@range(0, {rounds})", "runAfter": {{}}, "actions": {{
                "Say": {{"type": "Compose", "inputs": "round @{{item()}}", "runAfter": {{}}}}}}}},
            "Pause": {{"type": "Wait", "inputs": {{"interval": {{"count": 1, "unit": "Hour"}}}}, "runAfter": {{"Each": ["Succeeded"]}}}}}}"#
    ))
}

#[tokio::test]
async fn the_list_is_paged_and_agrees_with_the_stream() {
    let world = World::new().await;
    world.deploy("busy", &busy(20)).await;
    let run = world.invoke("busy", "").await;
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    let streamed = world.events(&run, 0).await;
    let (mut listed, mut after) = (Vec::new(), String::from("0"));
    loop {
        let page = world.get(&format!("/api/v1/runs/{run}/events?limit=7&after={after}")).await.json();
        assert!(list(&page, "events").len() <= 7);
        listed.extend(list(&page, "events").to_vec());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(listed, streamed);
    let dense: Vec<i64> = (1..=listed.len() as i64).collect();
    assert_eq!(listed.iter().map(sequence).collect::<Vec<_>>(), dense);
    assert_eq!(text(&listed[0], "type"), "run.started");
    let ends = listed.iter().filter(|event| text(event, "type") == "run.completed").count();
    assert_eq!((ends, text(listed.last().unwrap(), "type")), (1, "run.completed"));
    for event in &listed {
        assert_eq!(event.get("v"), Some(&Value::from(1i64)));
        assert_eq!(text(event, "runId"), run);
        assert!(text(event, "ts").ends_with('Z'));
        assert!(event.get("data").is_some_and(|data| data.as_object().is_some()));
    }
    for wrong in ["?limit=0", "?limit=1001", "?after=x", "?after=-1", "?color=red"] {
        let reply = world.get(&format!("/api/v1/runs/{run}/events{wrong}")).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "BadRequest"), "{wrong}");
    }
    assert_eq!(world.get("/api/v1/runs/0000000000000/events").await.error(), "RunNotFound");
}

#[tokio::test]
async fn a_client_that_reconnects_twenty_times_sees_every_event_once_and_in_order() {
    let world = World::new().await;
    world.deploy("busy", &busy(60)).await;
    let run = world.invoke("busy", "").await;
    let (mut seen, mut last) = (Vec::new(), 0);
    for visit in 0..20usize {
        // Each connection reads one or several events and closes in the middle of the stream.
        let mut watcher = world.watch(&run, last).await;
        for _ in 0..=(visit % 5) {
            let event = watcher.next().await.expect("the run continues");
            last = sequence(&event) as u64;
            seen.push(event);
        }
    }
    assert!(seen.iter().all(|event| text(event, "type") != "run.completed"));
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    seen.extend(world.events(&run, last).await);
    let numbers: Vec<i64> = seen.iter().map(sequence).collect();
    assert_eq!(numbers, (1..=seen.len() as i64).collect::<Vec<_>>());
    assert_eq!(seen, world.events(&run, 0).await);
    assert_eq!(text(seen.last().unwrap(), "type"), "run.completed");
    // A client that has seen the end must not reconnect.
    let last = seen.len().to_string();
    let headers = [("accept", "text/event-stream"), ("last-event-id", last.as_str())];
    let path = format!("/api/v1/runs/{run}/events");
    let over = world.send(Method::GET, &path, &headers, "").await.whole().await;
    assert_eq!((over.status, over.body.len()), (204, 0));
    // The header takes precedence over the query.
    let headers = [("accept", "text/event-stream"), ("last-event-id", "1")];
    let mut back = world.send(Method::GET, &format!("{path}?after=3"), &headers, "").await;
    assert_eq!(back.headers["content-type"], "text/event-stream");
    assert_eq!(back.headers["cache-control"], "no-store");
    let mut read = String::new();
    while let Some(chunk) = back.chunk().await {
        read.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(read.starts_with("retry: 1000\n\nid: 2\n"), "{read}");
}

#[tokio::test]
async fn events_arrive_as_they_happen() {
    let world = World::new().await;
    world.deploy("busy", &busy(1)).await;
    let run = world.invoke("busy", "").await;
    let mut watcher = world.watch(&run, 0).await;
    loop {
        let event = watcher.next().await.expect("the run continues");
        if text(&event, "type") == "timer.set" {
            break;
        }
    }
    for (change, kind) in [("suspend", "run.suspended"), ("resume", "run.resumed")] {
        world.post(&format!("/api/v1/runs/{run}/{change}"), "").await;
        assert_eq!(text(&watcher.next().await.unwrap(), "type"), kind);
    }
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    let mut kinds = Vec::new();
    while let Some(event) = watcher.next().await {
        kinds.push(text(&event, "type").to_owned());
    }
    assert_eq!(kinds.last().map(String::as_str), Some("run.completed"));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_sends_keep_alives() {
    let world = World::new().await;
    world.deploy("busy", &busy(1)).await;
    let run = world.invoke("busy", "").await;
    let mut watcher = world.watch(&run, 0).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        watcher.heartbeat().await;
    }
    let took = begun.elapsed().as_secs();
    assert!((45..50).contains(&took), "three heartbeats in {took} s");
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_blocks_nothing() {
    let world = World::new().await;
    world.deploy("busy", &busy(3_000)).await;
    let run = world.invoke("busy", "").await;
    // The client reads one event and then nothing more, so the connection's buffers fill up.
    let mut slow = world.watch(&run, 0).await;
    let first = slow.next().await.unwrap();
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    let all = world.events(&run, 0).await;
    assert!(all.len() > 6_000, "{}", all.len());
    let mut seen = vec![first];
    while let Some(event) = slow.next().await {
        seen.push(event);
    }
    assert!(seen == all, "it saw {} of {} events", seen.len(), all.len());
}

#[tokio::test]
async fn streams_are_counted() {
    let mut plan = Plan::default();
    plan.settings.watchers_max = 2;
    let world = World::start(plan).await;
    world.deploy("busy", &busy(1)).await;
    let run = world.invoke("busy", "").await;
    let (mut first, second) = (world.watch(&run, 0).await, world.watch(&run, 0).await);
    let path = format!("/api/v1/runs/{run}/events");
    let third = world.send(Method::GET, &path, &[("accept", "text/event-stream")], "").await.whole().await;
    assert_eq!((third.status, third.error().as_str()), (429, "TooManyWatchers"));
    assert!(third.header("retry-after").is_some());
    // The list does not count as a stream.
    assert_eq!(world.get(&path).await.status, 200);
    drop(second);
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    while first.next().await.is_some() {}
    assert!(!world.events(&run, 0).await.is_empty());
}

#[tokio::test]
async fn a_stream_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    world.deploy("busy", &busy(3)).await;
    let run = world.invoke("busy", "").await;
    let mut watcher = world.watch(&run, 0).await;
    let mut seen = Vec::new();
    loop {
        let event = watcher.next().await.unwrap();
        seen.push(event);
        if text(seen.last().unwrap(), "type") == "timer.set" {
            break;
        }
    }
    // A shutdown ends streams too; it does not wait for clients.
    world.ask_to_stop();
    assert!(watcher.next().await.is_none());
    world.stop().await;
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    assert_eq!(world.recovered.runs, 1);
    let mut watcher = world.watch(&run, sequence(seen.last().unwrap()) as u64).await;
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    while let Some(event) = watcher.next().await {
        seen.push(event);
    }
    let numbers: Vec<i64> = seen.iter().map(sequence).collect();
    assert_eq!(numbers, (1..=seen.len() as i64).collect::<Vec<_>>());
    assert_eq!(text(seen.last().unwrap(), "type"), "run.completed");
}
