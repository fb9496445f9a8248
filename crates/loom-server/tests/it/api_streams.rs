//! Streams of runs: text while it is written, `Emit`, three formats, callers of triggers, slow and late readers.

use std::sync::Arc;

use hyper::Method;
use loom_actions::{Connections, Sources};
use loom_expression::Value;
use loom_models::{Answer, Api, ToolCall};
use loom_testkit::wire::{Reply, Wire};
use tokio::sync::Semaphore;

use crate::support::{Plan, Stream, World, json, requested, text};

const API: Api = Api::ChatCompletions;

/// A server whose model `m` is `wire`.
async fn world(wire: &Wire) -> World {
    let file = json(
        &r#"{"models": {"m": {"api": "compatible", "baseUrl": "BASE", "model": "m-1"}}}"#
            .replace("BASE", &wire.base_url()),
    );
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&file, &Sources::default()).unwrap();
    World::start(plan).await
}

/// A reply of `answer` that stops in the middle of its stream until `gate` has a permit.
fn held(answer: &Answer, gate: &Arc<Semaphore>) -> Reply {
    let reply = Reply::stream(API, answer).split(7);
    let middle = reply.body_bytes() / 2;
    reply.hold_after(middle, gate)
}

const ASK: &str = r#"{"Ask": {"type": "AI", "inputs": {"prompt": "Hello"}}}"#;
const LONG: &str =
    "One, two, three, four, five, six, seven, eight, nine, ten, elven, zwölf, thirteen, fourteen.";

/// One event as it was sent.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    id: Option<u64>,
    name: Option<String>,
    data: Value,
}

impl Sent {
    fn kind(&self) -> &str {
        self.data.get("type").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads server-sent events one by one.
struct Reader {
    stream: Stream,
    read: String,
}

impl Reader {
    async fn open(world: &World, run: &str, format: &str, after: u64) -> Reader {
        let path = format!("/api/v1/runs/{run}/events?format={format}&after={after}");
        let stream = world.send(Method::GET, &path, &[("accept", "text/event-stream")], "").await;
        assert_eq!(stream.status, 200);
        Reader { stream, read: String::new() }
    }

    async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some(end) = self.read.find("\n\n") {
                let block: String = self.read.drain(..end + 2).collect();
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let Some(data) = field("data: ") else { continue };
                let id = field("id: ").map(|id| id.parse().unwrap());
                return Some(Sent { id, name: field("event: "), data: json(&data) });
            }
            let chunk = self.stream.chunk().await?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("chunks end between characters"));
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            let sent = self.next().await.expect("the stream continues");
            let found = wanted(&sent);
            all.push(sent);
            if found {
                return all;
            }
        }
    }

    async fn rest(mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.next().await {
            all.push(sent);
        }
        all
    }
}

/// The text of the messages in native events, checking that offsets leave no gap and repeat nothing.
fn joined(events: &[Sent]) -> String {
    let mut whole = String::new();
    for sent in events {
        match sent.kind() {
            "message.snapshot" => text(&sent.data, "text").clone_into(&mut whole),
            "message.delta" => {
                let offset = sent.data.get("offset").and_then(Value::as_i64).unwrap();
                assert_eq!(offset, whole.chars().count() as i64, "no gap, no repetition");
                whole.push_str(text(&sent.data, "text"));
            }
            _ => continue,
        }
        assert_eq!(sent.id, None, "text has no number");
    }
    whole
}

/// A run that asks a model, whose answer stops in the middle until the gate opens.
struct Asked {
    wire: Wire,
    gate: Arc<Semaphore>,
    world: World,
    run: String,
}

async fn asked() -> Asked {
    let gate = Arc::new(Semaphore::new(0));
    let wire = Wire::start([held(&Answer::text(LONG), &gate)]).await.unwrap();
    let world = world(&wire).await;
    world.deploy("ask", &requested(ASK)).await;
    let run = world.invoke("ask", "").await;
    Asked { wire, gate, world, run }
}

#[tokio::test]
async fn text_arrives_while_it_is_written_after_a_snapshot_and_without_numbers() {
    let Asked { wire: _wire, gate, world, run } = asked().await;
    let mut early = Reader::open(&world, &run, "native", 0).await;
    let mut events = early.until(|sent| sent.kind() == "message.delta").await;
    let before = joined(&events);
    assert!(!before.is_empty() && LONG.starts_with(&before) && before != LONG, "{before}");
    let started = events.iter().position(|sent| sent.kind() == "attempt.started").expect("it began");
    let snapshot = events.iter().position(|sent| sent.kind() == "message.snapshot").expect("a snapshot");
    assert!(started < snapshot, "text never precedes the event that began its call");
    // One who comes late gets what there is at once, and one who comes back too.
    let last = events.iter().filter_map(|sent| sent.id).max().unwrap();
    let mut late = Reader::open(&world, &run, "native", 0).await;
    let mut back = Reader::open(&world, &run, "native", last).await;
    let mut seen_late = late.until(|sent| sent.kind() == "message.snapshot").await;
    let mut seen_back = back.until(|sent| sent.kind() == "message.snapshot").await;
    assert_eq!(seen_back.len(), 1, "nothing that it has seen is repeated: {seen_back:?}");
    gate.add_permits(1);
    events.extend(early.rest().await);
    seen_late.extend(late.rest().await);
    seen_back.extend(back.rest().await);
    for all in [&events, &seen_late, &seen_back] {
        assert_eq!(joined(all), LONG);
        assert_eq!(all.last().unwrap().kind(), "run.completed");
    }
    let numbered: Vec<u64> = events.iter().filter_map(|sent| sent.id).collect();
    assert_eq!(numbered, (1..=numbered.len() as u64).collect::<Vec<_>>(), "numbers stay dense");
    let message = |kind: &str| {
        let of_kind = events.iter().find(|sent| sent.kind() == kind).unwrap();
        text(&of_kind.data, "messageId").to_owned()
    };
    assert_eq!(message("message.snapshot"), message("action.completed"));
    // A stream that begins after the end has the events alone.
    let after = Reader::open(&world, &run, "native", 0).await.rest().await;
    assert!(after.iter().all(|sent| sent.id.is_some()));
}

#[tokio::test]
async fn a_reader_that_never_reads_and_one_that_leaves_do_not_touch_the_run() {
    let Asked { wire: _wire, gate, world, run } = asked().await;
    let stalled = Reader::open(&world, &run, "native", 0).await;
    let mut leaving = Reader::open(&world, &run, "native", 0).await;
    leaving.until(|sent| sent.kind() == "message.snapshot").await;
    drop(leaving);
    gate.add_permits(1);
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Succeeded");
    assert_eq!(joined(&stalled.rest().await), LONG, "it gets everything when it reads again");
}

#[tokio::test]
async fn cancelling_stops_the_request_to_the_provider_and_keeps_the_part() {
    let Asked { wire: _wire, gate: _gate, world, run } = asked().await;
    let mut reader = Reader::open(&world, &run, "native", 0).await;
    let mut events = reader.until(|sent| sent.kind() == "message.delta").await;
    world.post(&format!("/api/v1/runs/{run}/cancel"), "").await;
    events.extend(reader.rest().await);
    let kept = events.iter().find(|sent| sent.kind() == "message.interrupted").expect("the part is kept");
    let part = kept.data.get("data").map(|data| text(data, "text").to_owned()).unwrap();
    assert!(kept.id.is_some() && LONG.starts_with(&part) && part.starts_with(&joined(&events)), "{part}");
    assert_eq!(text(events.last().unwrap().data.get("data").unwrap(), "status"), "Cancelled");
}

const EMITS: &str = r#"{
    "Step": {"type": "Emit", "inputs": {"progress": {"current": 1, "total": 2, "message": "half"}}},
    "Found": {"type": "Emit", "inputs": {"event": "found", "data": {"name": "Ann"}}, "runAfter": {"Step": ["Succeeded"]}},
    "Ask": {"type": "AI", "inputs": {"prompt": "Hello"}, "runAfter": {"Found": ["Succeeded"]}}}"#;

#[tokio::test]
async fn what_workflows_emit_is_a_durable_event_in_every_format() {
    let wire = Wire::start([Reply::stream(API, &Answer::text(LONG))]).await.unwrap();
    let world = world(&wire).await;
    world.deploy("emits", &requested(EMITS)).await;
    let run = world.invoke("emits", "").await;
    world.ended(&run).await;
    let native = Reader::open(&world, &run, "native", 0).await.rest().await;
    let emitted: Vec<&Value> =
        native.iter().filter_map(|sent| sent.data.get("data")?.get("emitted")).collect();
    let progress = json(r#"{"progress": {"current": 1, "total": 2, "message": "half"}}"#);
    let found = json(r#"{"event": "found", "data": {"name": "Ann"}}"#);
    assert_eq!(emitted, [&progress, &found]);

    let chunks = Reader::open(&world, &run, "chunks", 0).await.rest().await;
    let names: Vec<&str> = chunks.iter().map(|sent| sent.name.as_deref().unwrap()).collect();
    assert_eq!((names[0], names[1], names.last()), ("connected", "start", Some(&"done")));
    let of = |name: &str| &chunks.iter().find(|sent| sent.name.as_deref() == Some(name)).unwrap().data;
    assert_eq!(of("progress").get("progress"), progress.get("progress"));
    assert_eq!(
        of("found"),
        &json(r#"{"type": "data", "data": {"event": "found", "data": {"name": "Ann"}}}"#)
    );
    assert_eq!(of("message").get("data").map(|data| text(data, "text")), Some(LONG));
    assert_eq!(names[names.len() - 2], "complete");
    let ids: Vec<u64> = chunks.iter().filter_map(|sent| sent.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");

    // A consumer that comes back continues after the chunk that it has seen.
    let back = Reader::open(&world, &run, "chunks", ids[3]).await.rest().await;
    assert_eq!(back.iter().filter_map(|sent| sent.id).collect::<Vec<_>>(), ids[4..]);

    let ag_ui = Reader::open(&world, &run, "ag-ui", 0).await.rest().await;
    assert!(ag_ui.iter().all(|sent| sent.name.is_none()), "clients of the protocol read the data alone");
    let kinds: Vec<&str> = ag_ui.iter().map(Sent::kind).collect();
    assert_eq!((kinds[0], kinds.last()), ("RUN_STARTED", Some(&"RUN_FINISHED")));
    let custom: Vec<&Value> = ag_ui
        .iter()
        .filter(|sent| sent.kind() == "CUSTOM")
        .map(|sent| sent.data.get("value").unwrap())
        .collect();
    assert_eq!(custom, [progress.get("progress").unwrap(), found.get("data").unwrap()]);
    well_formed(&ag_ui);
    assert_eq!(said(&ag_ui), LONG);
}

/// The text of all messages in events of AG-UI.
fn said(events: &[Sent]) -> String {
    let deltas = events.iter().filter(|sent| sent.kind() == "TEXT_MESSAGE_CONTENT");
    deltas.map(|sent| text(&sent.data, "delta").to_owned()).collect()
}

/// The rules of the AG-UI protocol: everything that starts ends, and nothing happens in what has not started.
fn well_formed(events: &[Sent]) {
    let mut open = std::collections::BTreeSet::new();
    for sent in events {
        let id = |name: &str| format!("{name} {}", text(&sent.data, name));
        match sent.kind() {
            "TEXT_MESSAGE_START" => assert!(open.insert(id("messageId")), "{sent:?}"),
            "TEXT_MESSAGE_CONTENT" => assert!(open.contains(&id("messageId")), "{sent:?}"),
            "TEXT_MESSAGE_END" => assert!(open.remove(&id("messageId")), "{sent:?}"),
            "TOOL_CALL_START" => assert!(open.insert(id("toolCallId")), "{sent:?}"),
            "TOOL_CALL_ARGS" => assert!(open.contains(&id("toolCallId")), "{sent:?}"),
            "TOOL_CALL_END" => assert!(open.remove(&id("toolCallId")), "{sent:?}"),
            "STEP_STARTED" => assert!(open.insert(id("stepName")), "{sent:?}"),
            "STEP_FINISHED" => assert!(open.remove(&id("stepName")), "{sent:?}"),
            "RUN_FINISHED" | "RUN_ERROR" => assert!(open.is_empty(), "{open:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_agent_streams_messages_and_tool_calls_of_ag_ui() {
    let call = Answer::calls([ToolCall::new("c1", "add", r#"{"a":1,"b":2}"#)]);
    let gate = Arc::new(Semaphore::new(0));
    let wire = Wire::start([Reply::stream(API, &call), held(&Answer::text(LONG), &gate)]).await.unwrap();
    let world = world(&wire).await;
    let agent = r#"{"Agent": {"type": "Agent", "inputs": {"parameters": {"modelId": "m", "messages": [{"role": "User", "content": "1 + 2"}]}},
        "tools": {"add": {"description": "adds", "actions": {"Sum": {"type": "Compose", "inputs": "@add(agentParameters('a'), agentParameters('b'))"}}}}}}"#;
    world.deploy("agent", &requested(agent)).await;
    let run = world.invoke("agent", r#"{"threadId": "t-1"}"#).await;
    let mut live = Reader::open(&world, &run, "ag-ui", 0).await;
    let mut events = live.until(|sent| sent.kind() == "TEXT_MESSAGE_CONTENT").await;
    gate.add_permits(1);
    events.extend(live.rest().await);
    well_formed(&events);
    assert_eq!(said(&events), LONG);
    let deltas = events.iter().filter(|sent| sent.kind() == "TEXT_MESSAGE_CONTENT").count();
    assert!(deltas > 1, "it arrived in parts");
    let of =
        |kind: &str| &events.iter().find(|sent| sent.kind() == kind).unwrap_or_else(|| panic!("{kind}")).data;
    assert_eq!(text(of("RUN_STARTED"), "runId"), run);
    assert_eq!(text(of("TOOL_CALL_START"), "toolCallName"), "add");
    assert_eq!(text(of("TOOL_CALL_ARGS"), "delta"), r#"{"a":1,"b":2}"#);
    assert_eq!(
        (text(of("TOOL_CALL_RESULT"), "toolCallId"), text(of("TOOL_CALL_RESULT"), "content")),
        ("c1", "3")
    );
    let place = |kind: &str| events.iter().position(|sent| sent.kind() == kind).unwrap();
    assert!(place("TOOL_CALL_RESULT") < place("TEXT_MESSAGE_START"), "results precede what is made of them");
    // The same from the journal alone.
    let after = Reader::open(&world, &run, "ag-ui", 0).await.rest().await;
    well_formed(&after);
    assert_eq!(said(&after), LONG);
}

#[tokio::test]
async fn a_failed_run_ends_with_the_error_in_every_format() {
    let world = World::new().await;
    world.deploy("fails", &requested(r#"{"Break": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "Late", "message": "the train is late"}}}}"#)).await;
    let run = world.invoke("fails", "").await;
    world.ended(&run).await;
    let chunks = Reader::open(&world, &run, "chunks", 0).await.rest().await;
    let error = &chunks[chunks.len() - 2];
    assert_eq!((error.name.as_deref(), text(&error.data, "error")), (Some("error"), "the train is late"));
    let ag_ui = Reader::open(&world, &run, "ag-ui", 0).await.rest().await;
    let error = &ag_ui.last().unwrap().data;
    assert_eq!(
        (text(error, "type"), text(error, "message"), text(error, "code")),
        ("RUN_ERROR", "the train is late", "Late")
    );
    let wrong = world.get(&format!("/api/v1/runs/{run}/events?format=xml")).await;
    assert_eq!(wrong.status, 200, "a list has no format");
    let path = format!("/api/v1/runs/{run}/events?format=xml");
    let wrong = world.send(Method::GET, &path, &[("accept", "text/event-stream")], "").await.whole().await;
    assert_eq!(wrong.error(), "BadRequest");
}

#[tokio::test]
async fn several_consumers_each_see_everything() {
    let gate = Arc::new(Semaphore::new(0));
    let wire = Wire::start([held(&Answer::text(LONG), &gate)]).await.unwrap();
    let world = world(&wire).await;
    world.deploy("emits", &requested(EMITS)).await;
    let run = world.invoke("emits", "").await;
    let readers = [
        Reader::open(&world, &run, "chunks", 0).await,
        Reader::open(&world, &run, "chunks", 0).await,
        Reader::open(&world, &run, "chunks", 0).await,
    ];
    gate.add_permits(1);
    let mut all = Vec::new();
    for reader in readers {
        all.push(reader.rest().await);
    }
    assert!(all[0].len() > 4);
    assert!(all.iter().all(|one| *one == all[0]));
}

/// What a caller of a trigger may not see.
fn for_callers(events: &[Sent]) {
    for sent in events {
        let shown = sent.data.to_json_text();
        assert!(!shown.contains("inner value") && !shown.contains("prompt"), "{shown}");
    }
}

#[tokio::test]
async fn a_response_of_an_event_stream_hands_the_stream_of_the_run_to_the_caller() {
    let gate = Arc::new(Semaphore::new(0));
    for format in ["native", "ag-ui", "chunks"] {
        let wire = Wire::start([held(&Answer::text(LONG), &gate)]).await.unwrap();
        let world = world(&wire).await;
        let actions = r#"{
            "Inner": {"type": "Compose", "inputs": "inner value"},
            "Answer": {"type": "Response", "inputs": {"statusCode": 200, "headers": {"Content-Type": "text/event-stream; format=FORMAT"}}, "runAfter": {"Inner": ["Succeeded"]}},
            "Step": {"type": "Emit", "inputs": {"progress": {"current": 1, "total": 2}}, "runAfter": {"Answer": ["Succeeded"]}},
            "Ask": {"type": "AI", "inputs": {"prompt": "Hello"}, "runAfter": {"Step": ["Succeeded"]}}}"#;
        world.deploy("stream", &requested(&actions.replace("FORMAT", format))).await;
        let path = "/workflows/stream/triggers/manual/invoke";
        let stream = world.send(Method::POST, path, &[], "").await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        assert!(stream.headers.contains_key("x-ms-workflow-run-id"));
        let mut reader = Reader { stream, read: String::new() };
        let first = reader.until(|sent| sent.data.to_json_text().contains("current")).await;
        gate.add_permits(1);
        let all: Vec<Sent> = first.into_iter().chain(reader.rest().await).collect();
        for_callers(&all);
        let whole: String = all.iter().map(|sent| sent.data.to_json_text()).collect();
        match format {
            "native" => assert_eq!(joined(&all), LONG),
            "ag-ui" => assert_eq!(said(&all), LONG),
            _ => assert!(whole.contains(LONG)),
        }
    }
}

#[tokio::test]
async fn a_caller_that_accepts_event_streams_gets_the_stream_of_the_run_it_starts() {
    let gate = Arc::new(Semaphore::new(0));
    let answers = [Reply::stream(API, &Answer::text(LONG)), held(&Answer::text(LONG), &gate)];
    let wire = Wire::start(answers).await.unwrap();
    let world = world(&wire).await;
    world.deploy("ask", &requested(ASK)).await;
    let path = "/workflows/ask/triggers/manual/invoke";
    let headers = [("accept", "text/event-stream")];
    let stream = world.send(Method::POST, &format!("{path}?format=ag-ui"), &headers, "").await;
    let all = Reader { stream, read: String::new() }.rest().await;
    for_callers(&all);
    well_formed(&all);
    assert_eq!((said(&all).as_str(), all.last().unwrap().kind()), (LONG, "RUN_FINISHED"));
    let stream = world.send(Method::POST, path, &headers, "").await;
    let mut reader = Reader { stream, read: String::new() };
    // The stream shows text only while it is written, so the rest of the answer waits for the stream.
    let first = reader.until(|sent| sent.kind().starts_with("message.")).await;
    gate.add_permits(1);
    let all: Vec<Sent> = first.into_iter().chain(reader.rest().await).collect();
    assert_eq!((joined(&all).as_str(), all.last().unwrap().kind()), (LONG, "run.completed"));
    let refused = world.send(Method::POST, &format!("{path}?format=xml"), &headers, "").await.whole().await;
    assert_eq!(refused.error(), "BadRequest", "before anything starts");
    let runs = world.get("/api/v1/runs").await.json();
    assert_eq!(runs.get("runs").and_then(Value::as_array).map(|runs| runs.len()), Some(2));
}

#[tokio::test]
async fn a_stream_of_a_run_that_does_not_exist_is_not_found() {
    let world = World::new().await;
    let path = "/api/v1/runs/0000000000000/events?format=chunks";
    let reply = world.send(Method::GET, path, &[("accept", "text/event-stream")], "").await.whole().await;
    assert_eq!((reply.status, reply.error().as_str()), (404, "RunNotFound"));
}

#[tokio::test]
async fn a_stream_of_chunks_is_start_then_complete_with_the_state_also_for_a_viewer_who_comes_after_the_end()
{
    let world = World::new().await;
    let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"Sum": {"type": "Compose", "inputs": "@add(3, 4)"}},
        "outputs": {"sum": {"type": "Int", "value": "@outputs('Sum')"}}}"#;
    world.deploy("sums", definition).await;
    let run = world.invoke("sums", "").await;
    // Nobody watches, and the run ends all the same.
    assert_eq!(text(&world.ended(&run).await, "status"), "Succeeded");
    let stream = world
        .send(
            Method::GET,
            &format!("/api/v1/runs/{run}/events?format=chunks"),
            &[("accept", "text/event-stream")],
            "",
        )
        .await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let chunks = Reader { stream, read: String::new() }.rest().await;
    let of = |kind: &str| chunks.iter().filter(|sent| sent.kind() == kind).collect::<Vec<_>>();
    let (start, complete) = (of("start"), of("complete"));
    assert_eq!((start.len(), complete.len(), of("error").len()), (1, 1, 0));
    let data = |sent: &Sent| sent.data.get("data").cloned().unwrap_or_default();
    assert_eq!(text(&data(start[0]), "runId"), run);
    let state = data(complete[0]);
    assert_eq!(text(&state, "status"), "Succeeded");
    assert!(state.to_json_text().contains('7'), "the state has the outputs: {state:?}");
    let names: Vec<&str> = chunks.iter().filter_map(|sent| sent.name.as_deref()).collect();
    assert_eq!(
        (names[..2].to_vec(), names[names.len() - 2..].to_vec()),
        (vec!["connected", "start"], vec!["complete", "done"])
    );
}

#[tokio::test]
async fn a_client_of_ag_ui_that_returns_in_mid_message_gets_what_there_is_and_then_the_rest() {
    let Asked { wire: _wire, gate, world, run } = asked().await;
    let mut first = Reader::open(&world, &run, "ag-ui", 0).await;
    let seen = first.until(|sent| sent.kind() == "TEXT_MESSAGE_CONTENT").await;
    let last = seen.iter().filter_map(|sent| sent.id).max().unwrap();
    let part = said(&seen);
    drop(first);
    let path = format!("/api/v1/runs/{run}/events?format=ag-ui");
    let number = last.to_string();
    let headers = [("accept", "text/event-stream"), ("last-event-id", number.as_str())];
    let stream = world.send(Method::GET, &path, &headers, "").await;
    let mut back = Reader { stream, read: String::new() };
    let mut again = back.until(|sent| sent.kind() == "TEXT_MESSAGE_CONTENT").await;
    assert!(said(&again).starts_with(&part), "the message so far: {again:?}");
    gate.add_permits(1);
    again.extend(back.rest().await);
    assert_eq!(said(&again), LONG, "no gap, no repetition");
    assert!(again.iter().filter_map(|sent| sent.id).all(|id| id > last), "no event is repeated");
    let kinds: Vec<&str> = again.iter().map(Sent::kind).collect();
    assert_eq!(kinds.last(), Some(&"RUN_FINISHED"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "TEXT_MESSAGE_START").count(), 1);
}
