//! Large values: stored once, however many actions they pass through, read unchanged, and deleted with the last run that refers
//! to them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{Engine, Event, RunId, RunRequest, Started, journal::FrameReader};
use loom_expression::{Array, Object, Value};
use loom_store::{
    FrameQuery, MemoryStore, Retention, SqliteOptions, SqliteStore, Store, StoreKey, UnixMillis, with_key,
};
use proptest::prelude::*;

use crate::support::{Service, engine, ok, workflow};

/// The body passes through twenty actions, a variable, a loop and a call, into the response.
fn pass_on() -> Arc<Workflow> {
    let mut actions = vec![
        r#""V": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "object", "value": "@triggerBody()"}]}, "runAfter": {}}"#.to_owned(),
        r#""C0": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {"V": ["Succeeded"]}}"#.to_owned(),
    ];
    for place in 1..20 {
        let before = place - 1;
        actions.push(format!(
            r#""C{place}": {{"type": "Compose", "inputs": {{"wrapped": "@outputs('C0')", "by": {place}}}, "runAfter": {{"C{before}": ["Succeeded"]}}}}"#
        ));
    }
    actions.push(
        r#""Send": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/all", "body": "@variables('v')"}, "runAfter": {"C19": ["Succeeded"]}}"#
            .to_owned(),
    );
    actions.push(
        r#""Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@outputs('C19')"}, "runAfter": {"Send": ["Succeeded"]}}"#
            .to_owned(),
    );
    workflow(&format!("{{{}}}", actions.join(", ")))
}

/// About `bytes` of text in many small parts that do not compress well; the same for the same `seed`.
fn body(seed: u64, bytes: usize) -> Value {
    let mut random = loom_store::contract::Seeded::new(seed);
    let mut rows = Array::new();
    for row in 0..bytes / 64 {
        let mut members = Object::new();
        members.insert("row", row as i64);
        members.insert(
            "text",
            format!("{:016x}{:016x}", random.below(u64::MAX), random.below(u64::MAX)).as_str(),
        );
        rows.push(members.into());
    }
    let mut body = Object::new();
    body.insert("rows", rows);
    body.into()
}

async fn accepted(engine: &Engine, workflow: &Arc<Workflow>, body: Value) -> loom_engine::RunHandle {
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), Some(body));
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    assert!(runs[0].accepted().await);
    runs.remove(0)
}

/// The size of a run's frames, in bytes, and its events.
async fn journal_of(store: &dyn Store, run: RunId) -> (usize, Vec<Event>) {
    let query = FrameQuery { frames_max: usize::MAX, bytes_max: usize::MAX, ..FrameQuery::of(run) };
    let page = store.frames(query).await.expect("it can be read");
    let (mut reader, mut events) = (FrameReader::new(run), Vec::new());
    for frame in &page.frames {
        events.extend(reader.events(store, frame).await.expect("it can be read"));
    }
    (page.frames.iter().map(|frame| frame.payload.len()).sum(), events)
}

/// Interrupts a run in its call, resumes it from the store, and checks that its history contains all values.
async fn survives(store: &Arc<dyn Store>, body: &Value) -> RunId {
    let workflow = pass_on();
    let hangs = Service::new(|_, _| (Duration::from_hours(24), ok("{}")));
    let first = engine(&hangs).store(Arc::clone(store)).build();
    first.continue_numbering().await.expect("the store can be read");
    let mut run = accepted(&first, &workflow, body.clone()).await;
    let called = async {
        while hangs.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = called => {}
        report = run.ended() => panic!("it ends before its call: {report:?}"),
    }
    first.shut_down().await;
    let sent = body.clone();
    let service = Service::new(move |call, _| {
        assert_eq!(call.inputs.get("body"), Some(&sent), "the call that is made again has the same body");
        (Duration::ZERO, ok(r#"{"statusCode": 200}"#))
    });
    let second = engine(&service).store(Arc::clone(store)).build();
    let mut recovered = second.recover(None).await.expect("the store can be read");
    let report = recovered.runs[0].ended().await.expect("it ends");
    assert_eq!((report.status, service.count()), (RunStatus::Succeeded, 1));
    let (_, history) = second.history(run.id).await.expect("it can be read").expect("it exists");
    for place in 0..20 {
        let action = history.workflow().find_action(&format!("C{place}")).unwrap();
        let outputs = history.occurrences(action)[0].outputs.clone().expect("it has outputs");
        let inner = if place == 0 { Some(&outputs) } else { outputs.get("wrapped") };
        assert_eq!(inner, Some(body), "C{place}");
    }
    let answered = history.response.as_ref().and_then(|response| response.get("body"));
    assert_eq!(answered.and_then(|answer| answer.get("wrapped")), Some(body));
    second.shut_down().await;
    run.id
}

#[tokio::test(start_paused = true)]
async fn a_value_used_by_many_actions_is_stored_once_and_read_completely() {
    let key = StoreKey::new(&[7; 32]);
    for key in [None, Some(&key)] {
        let memory = MemoryStore::default();
        let store = with_key(Arc::new(memory.clone()), key).await.expect("the store is empty");
        let run = survives(&store, &body(1, 300_000)).await;
        let (bytes, _) = journal_of(&*store, run).await;
        assert!(bytes < 20_000, "the frames hold {bytes} bytes");
        assert_eq!(memory.blobs(), 1, "the rows of the body are the one large value");
        // Another run with the same body adds nothing.
        survives(&store, &body(1, 300_000)).await;
        assert_eq!(memory.blobs(), 1);
        survives(&store, &body(2, 300_000)).await;
        assert_eq!(memory.blobs(), 2);
    }
}

/// Integers beyond the range of a float and strings that are not valid Unicode survive the journal.
#[tokio::test(start_paused = true)]
async fn long_integers_and_unpaired_surrogates_survive() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let digits = "-1234567890123456789012345678901234567890";
    let number = Value::from_digits(digits).expect("it is an integer");
    let half = Value::from_utf16(&[0x61, 0xD83D, 0x62, 0xDE00]);
    assert_ne!(
        half,
        Value::from("a\u{fffd}b\u{fffd}"),
        "unpaired surrogates differ from their replacement character"
    );
    let mut body = Object::new();
    body.insert("all", Value::from(vec![number, half.clone(), half.into_secret()]));
    survives(&store, &body.into()).await;
}

/// Values live as long as the last run that refers to them, in rows and files, across restarts and sweeps.
#[tokio::test(start_paused = true)]
async fn a_value_is_deleted_with_the_last_run_that_refers_to_it() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("large-{}", std::process::id()));
    std::fs::remove_dir_all(&directory).ok();
    let open = || -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&directory, SqliteOptions::default()).expect("the store opens"))
    };
    for bytes in [100_000, 3_000_000] {
        let store = open();
        let value = body(9, bytes);
        let (first, second) = (survives(&store, &value).await, survives(&store, &value).await);
        store.close().await.expect("it closes");
        let store = open();
        let sweep = async |runs_max| {
            let policy = Retention { runs_max: Some(runs_max), ..Retention::default() };
            store.sweep(policy, UnixMillis(i64::MAX)).await.expect("it can be swept")
        };
        let swept = sweep(1).await;
        assert_eq!((swept.purged, swept.blobs), (1, 0), "the other run holds it");
        assert_eq!(journal_of(&*store, first).await.1.len(), 0);
        let (_, events) = journal_of(&*store, second).await;
        let Event::RunStarted { start, .. } = &events[0] else { panic!("the first event is not RunStarted") };
        assert_eq!(start.trigger.get("outputs").and_then(|outputs| outputs.get("body")), Some(&value));
        let swept = sweep(0).await;
        assert_eq!((swept.purged, swept.blobs), (1, 1));
        store.verify().await.expect("all is sound");
        store.close().await.expect("it closes");
        let files = std::fs::read_dir(directory.join("blobs")).into_iter().flatten().flatten();
        let files = files.filter_map(|directory| std::fs::read_dir(directory.path()).ok()).flatten().count();
        assert_eq!(files, 0, "no file is left");
    }
    std::fs::remove_dir_all(&directory).ok();
}

/// A value with large parts in every position, and labels on some.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        "[a-c]{0,9}".prop_map(|text| Value::from(text.as_str())),
        (0..30_000usize, "[a-z]").prop_map(|(length, letter)| Value::from(letter.repeat(length).as_str())),
        (0..9_000i64).prop_map(|length| (0..length).map(Value::from).collect::<Array>().into()),
    ];
    let label = |value: Value, secret: bool| value.secret_if(secret);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| Value::from(Array::from(items))),
            prop::collection::btree_map("[a-f]{1,3}", inner.clone(), 0..6).prop_map(|members| {
                let mut object = Object::new();
                for (name, member) in members {
                    object.insert(name, member);
                }
                object.into()
            }),
            // The same value in two positions.
            inner.prop_map(|item| Value::from(Array::from(vec![item.clone(), item]))),
        ]
    })
    .prop_flat_map(move |value| any::<bool>().prop_map(move |secret| label(value.clone(), secret)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_value_survives_the_journal(value in value()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let nobody = Service::new(|_, _| (Duration::ZERO, ok("{}")));
            let engine = engine(&nobody).store(Arc::clone(&store)).build();
            let flow = workflow(r#"{"A": {"type": "Compose", "inputs": ["@triggerBody()", "@triggerBody()"], "runAfter": {}},
                "B": {"type": "Compose", "inputs": "@outputs('A')", "runAfter": {"A": ["Succeeded"]}}}"#);
            let mut run = accepted(&engine, &flow, value.clone()).await;
            assert_eq!(run.ended().await.expect("it ends").status, RunStatus::Succeeded);
            let (_, events) = journal_of(&*store, run.id).await;
            let Event::RunStarted { start, .. } = &events[0] else { panic!("the first event is not RunStarted") };
            let read = start.trigger.get("outputs").and_then(|outputs| outputs.get("body")).cloned().unwrap_or_default();
            assert_eq!(read, value);
            assert_eq!(read.contains_secret(), value.contains_secret());
            let twice = Value::from(Array::from(vec![value.clone(), value]));
            let outputs = events.iter().filter_map(|event| match event {
                Event::ActionEnded { outcome, .. } => outcome.outputs.as_ref(),
                _ => None,
            });
            let outputs: Vec<&Value> = outputs.collect();
            assert_eq!(outputs, [&twice, &twice]);
        });
    }
}
