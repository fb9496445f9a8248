//! Journals of the past: what an earlier version wrote leads to the same history for ever.
//!
//! `tests/fixtures/journal-N` has a definition, the journal of a run of it as the engine wrote it in format N, and the history
//! that the journal leads to. Fixtures are never changed. To record one for a new format, copy a definition to a new folder and
//! run `LOOM_RECORD_JOURNAL=journal-N cargo test -p loom-engine --test it pins`.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use loom_definition::{RunStatus, Workflow, model::EffectKind};
use loom_engine::{
    Callbacks, Command, Delivered, Environment, Event, RunId, RunRequest, Secret, SecretFuture, SecretSource,
    Started,
    event::{EffectResult, ErrorInfo, Outcome, Phase, RetryHint, ToolUse},
    history::{History, Occurrence},
    journal::{self, FrameReader},
    ports::{ActionHandler, Call, Turn},
    status_number,
};
use loom_expression::Value;
use loom_store::{
    Commit, ContentHash, Definition, Frame, FrameQuery, MemoryStore, RunRow, Sealer, Seq, Store, StoredFrame,
    UnixMillis,
};

use crate::support::{Service, engine, json, load, ok, unavailable};

/// The formats, and how many of [`KINDS`] each has: `journal-1` is from before the concurrency limits, references to secrets and
/// waymarks; `journal-2` from before agents and Emit.
const FORMATS: [(&str, usize); 3] = [("journal-1", 17), ("journal-2", 19), ("journal-3", 19)];

/// Every kind of event, as `{:?}` begins.
const KINDS: [&str; 19] = [
    "RunStarted",
    "BlockOpened",
    "ActionStarted",
    "LoopStarted",
    "AttemptStarted",
    "AttemptNoted",
    "AttemptEnded",
    "TimerSet",
    "TimerEnded",
    "VariableSet",
    "VariableAppended",
    "Responded",
    "ActionEnded",
    "Tracked",
    "Suspended",
    "Resumed",
    "RunEnded",
    "RunWaiting",
    "RunAdmitted",
];

/// What the secrets of the fixtures are sealed with.
const KEY: [u8; 32] = [9; 32];

/// A source of one secret with one version.
#[derive(Debug)]
struct Safe;

impl SecretSource for Safe {
    fn read<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> SecretFuture<'a> {
        let is_known = name == "pass" && version.is_none_or(|version| version == "7");
        let secret = Secret { value: "open sesame".into(), name: name.into(), version: Some("7".into()) };
        Box::pin(std::future::ready(if is_known {
            Ok(secret)
        } else {
            Err(format!("Secret not found: {name}"))
        }))
    }
}

fn environment() -> Environment {
    let callbacks = Callbacks::new("http://here/callbacks", [3; 32]);
    Environment { callbacks: Some(callbacks), secrets: Some(Arc::new(Safe)), ..Environment::default() }
}

fn empty() -> Arc<dyn Store> {
    Arc::new(MemoryStore::sealing(Sealer::new(&KEY)))
}

fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format)
}

fn read(format: &str, file: &str) -> String {
    let path = folder(format).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn journals_of_every_format_lead_to_the_same_history() {
    for (format, kinds) in FORMATS {
        let definition = read(format, "definition.json");
        let workflow = load(&definition);
        let (store, run) = restored(&definition, &workflow, &read(format, "journal.txt")).await;
        let engine = engine(&Service::new(|_, _| (Duration::ZERO, ok("{}"))))
            .environment(environment())
            .store(Arc::clone(&store))
            .build();
        let (_, history) = engine.history(run).await.expect("it can be read").expect("it is there");
        assert_eq!(told(&history), read(format, "history.txt"), "{format}");
        assert!(!read(format, "journal.txt").contains(&hex(b"sesame")), "{format}: the secret is hidden");
        let (_, state) = engine.state_of(run).await.expect("it is legal").expect("it is there");
        assert_eq!((state.status(), state.outputs()), (history.status, history.outputs.as_ref()), "{format}");
        assert_eq!(state.calls().count() + state.timers().count(), 0, "{format}: nothing is left to do");
        let events = events_of(&*store, run).await;
        assert_eq!(state.seq(), events.len() as u64);
        let found = journal::seek(&*store, run, &workflow, state.seq()).await.expect("it can be read");
        assert_eq!(found.trail.seq() > 0, format != "journal-1", "{format} has waymarks");
        let seen: BTreeSet<String> = events.iter().map(kind).collect();
        assert_eq!(
            seen,
            KINDS[..kinds].iter().map(|kind| (*kind).to_owned()).collect(),
            "{format} has every kind of event"
        );
    }
}

/// The control of the test above: a journal that differs in one event does not lead to the same history.
#[tokio::test]
async fn a_changed_journal_leads_to_another_history() {
    let definition = read("journal-1", "definition.json");
    let journal = read("journal-1", "journal.txt");
    let changed = journal.replacen(&hex(b"called"), &hex(b"rung x"), 1);
    assert_ne!(changed, journal);
    let (store, run) = restored(&definition, &load(&definition), &changed).await;
    let engine = engine(&Service::new(|_, _| (Duration::ZERO, ok("{}")))).store(store).build();
    let (_, history) = engine.history(run).await.expect("it can be read").expect("it is there");
    assert_ne!(told(&history), read("journal-1", "history.txt"));
}

#[tokio::test(start_paused = true)]
async fn record() {
    #[expect(clippy::disallowed_methods, reason = "a fixture is recorded when it is asked for from outside")]
    let Ok(format) = std::env::var("LOOM_RECORD_JOURNAL") else {
        // Everyday: what would be recorded now has the history of the newest fixture, whatever its bytes are.
        let (newest, _) = FORMATS[FORMATS.len() - 1];
        let (history, _) = recorded(&read(newest, "definition.json")).await;
        return assert_eq!(history, read(newest, "history.txt"));
    };
    let (history, journal) = recorded(&read(&format, "definition.json")).await;
    std::fs::write(folder(&format).join("history.txt"), history).expect("it is written");
    std::fs::write(folder(&format).join("journal.txt"), journal).expect("it is written");
}

fn kind(event: &Event) -> String {
    format!("{event:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string accepts everything");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits =
        |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("the fixture has hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

async fn frames_of(store: &dyn Store, run: RunId) -> Vec<StoredFrame> {
    let page = store.frames(FrameQuery::of(run)).await.expect("it can be read");
    assert!(page.next.is_none());
    page.frames
}

async fn events_of(store: &dyn Store, run: RunId) -> Vec<Event> {
    let (mut reader, mut events) = (FrameReader::new(run), Vec::new());
    for frame in frames_of(store, run).await {
        events.extend(reader.events(store, &frame).await.expect("it can be read"));
    }
    events
}

/// The large values that a frame or a large value names: both begin with a version, which is 2 or 3 if names follow.
fn names(bytes: &[u8]) -> Vec<ContentHash> {
    if !matches!(bytes[0], 2 | 3) {
        return Vec::new();
    }
    let list = &bytes[2..2 + 32 * usize::from(bytes[1])];
    list.chunks_exact(32)
        .map(|name| ContentHash::from_bytes(name.try_into().expect("it has 32 bytes")))
        .collect()
}

/// A journal as text: `blob HEX`, each before its first use, then `frame TIME HEX`.
async fn written(store: &dyn Store, run: RunId) -> String {
    let mut text = format!("run {run}\n");
    let mut known = BTreeSet::new();
    let frames = frames_of(store, run).await;
    let mut wanted: Vec<ContentHash> = frames.iter().flat_map(|frame| names(&frame.payload)).collect();
    let mut blobs = Vec::new();
    while let Some(hash) = wanted.pop() {
        if known.insert(hash.to_string()) {
            let blob = store.blob(hash, 0, usize::MAX).await.expect("it can be read").expect("it is there");
            wanted.extend(names(&blob));
            blobs.push(format!("blob {}\n", hex(&blob)));
        }
    }
    text.extend(blobs.into_iter().rev());
    for frame in frames {
        writeln!(text, "frame {} {}", frame.at.0, hex(&frame.payload)).expect("a string accepts everything");
    }
    text
}

/// A store with the run that a fixture describes.
async fn restored(definition: &str, workflow: &Arc<Workflow>, journal: &str) -> (Arc<dyn Store>, RunId) {
    let store = empty();
    let (mut run, mut frames, mut blobs) = (RunId::MIN, Vec::new(), Vec::new());
    for line in journal.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["run", id] => run = id.parse().expect("a run id"),
            ["blob", hex] => blobs.push(store.put_blob(bytes(hex).into()).await.expect("it is written")),
            ["frame", at, hex] => {
                let at = UnixMillis(at.parse().expect("a time"));
                frames.push(Frame { at, payload: bytes(hex).into() });
            }
            _ => panic!("the fixture has a line of another kind: {line}"),
        }
    }
    let definition = Definition::new(definition.as_bytes().to_vec().into());
    let status = status_number(RunStatus::Running);
    let mut commit = Commit::to_run(run, Seq::FIRST, frames);
    commit.row = Some(RunRow::new(run, Arc::clone(&workflow.name), definition.hash(), status));
    commit.definitions.push(definition);
    commit.blobs = blobs;
    store.commit(commit).await.expect("it is written");
    (store, run)
}

/// Runs the definition of a fixture; returns the history and the journal as text.
async fn recorded(definition: &str) -> (String, String) {
    let workflow = load(definition);
    let store = empty();
    let service = Service::new(|call, _| answer(call));
    let engine = engine(&service)
        .handler(EffectKind::HttpWebhook, Arc::clone(&service) as Arc<dyn ActionHandler>)
        .handler(EffectKind::Custom("Agent".into()), Arc::clone(&service) as Arc<dyn ActionHandler>)
        .environment(environment())
        .store(Arc::clone(&store))
        .seed(5)
        .build();
    let start = || {
        let request =
            RunRequest::manual(Arc::clone(&workflow), vec![Value::from("hello")], Some(json("[1, 2.5]")));
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        runs.remove(0)
    };
    let mut run = start();
    if workflow.triggers[0].concurrency.is_some() {
        // The run that is recorded waits for one that is cancelled.
        let mut first = std::mem::replace(&mut run, start());
        assert!(run.accepted().await);
        assert!(engine.command(first.id, Command::Cancel).await);
        first.ended().await.expect("it ends");
    }
    let hook = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let subscribed = |event: &Event| match event {
            Event::AttemptEnded { effect, next: loom_engine::event::Next::Callback, .. } => Some(*effect),
            _ => None,
        };
        if let Some(effect) = events_of(&*store, run.id).await.iter().find_map(subscribed) {
            break effect;
        }
    };
    assert!(engine.command(run.id, Command::Suspend).await);
    assert!(engine.command(run.id, Command::Resume).await);
    assert_eq!(engine.deliver(run.id, hook, json(r#"{"body": "called"}"#)).await, Delivered::Taken);
    let report = run.ended().await.expect("it ends");
    assert_eq!(report.status, RunStatus::Failed, "{:?}", report.error);
    engine.shut_down().await;
    let (_, history) = engine.history(run.id).await.expect("it can be read").expect("it is there");
    (told(&history), written(&*store, run.id).await)
}

/// Two turns with tools, of which one is used twice at once, and the end.
fn agent(turn: &Turn) -> EffectResult {
    let used = |id: &str, tool, what: &str| ToolUse {
        id: id.into(),
        tool,
        arguments: json(&format!(r#"{{"what": "{what}"}}"#)),
    };
    let uses = match turn.number {
        1 => vec![used("a", 0, "item"), used("b", 1, "hello"), used("c", 0, "flaky")],
        2 => vec![used("a", 1, "again")],
        _ => return ok(r#"{"lastAssistantMessage": "done"}"#),
    };
    let said = json(&format!(r#"{{"text": "turn {}", "results": {}}}"#, turn.number, turn.results.len()));
    EffectResult::Turn { outcome: Outcome::ok(Some(said)), uses }
}

fn answer(call: &Call) -> (Duration, EffectResult) {
    let soon = Duration::from_millis(50);
    if let Some(turn) = &call.turn {
        return (soon, agent(turn));
    }
    let uri = call.inputs.get("uri").and_then(Value::as_str).unwrap_or_default();
    let result = match uri.rsplit('/').next().unwrap_or_default() {
        "flaky" if call.attempt == 1 => unavailable(),
        "missing" => {
            let outcome = Outcome::failed("404", ErrorInfo::new("NotFound", "there is nothing"));
            EffectResult::Done { outcome, hint: RetryHint::default() }
        }
        "polled" if call.resume.is_none() => EffectResult::Pending {
            outcome: Outcome::ok(Some(json(r#"{"statusCode": 202}"#))),
            after: Duration::from_secs(3),
            resume: Value::from("next"),
        },
        "large" => ok(&format!(r#"{{"statusCode": 200, "body": "{}"}}"#, "large ".repeat(1_500))),
        _ if call.phase == Phase::Call => ok(r#"{"statusCode": 200, "body": 10}"#),
        _ => ok(r#"{"statusCode": 200}"#),
    };
    (soon, result)
}

/// A history as text, in an order and form of its own, so that it changes only when the history does. Without times:
/// those of the journal are compared as bytes.
pub(crate) fn told(history: &History) -> String {
    let mut text = format!("{:?} {}\n", history.status, shown(history.outputs.as_ref()));
    for action in &history.workflow().actions {
        for record in history.records(action.index) {
            writeln!(text, "{}", line(history, &action.name, &record)).expect("a string accepts everything");
        }
    }
    text
}

fn line(history: &History, name: &str, record: &Occurrence) -> String {
    let rounds = record
        .path
        .iter()
        .map(|round| format!("[{} {}]", history.workflow().action(round.action).name, round.index));
    let attempts = record
        .attempts
        .iter()
        .map(|attempt| format!("{}:{:?}{}", attempt.number, attempt.phase, "*".repeat(attempt.notes.len())));
    format!(
        "{name}{} {:?} {} {} in {} out {} tracked {} attempts {}",
        rounds.collect::<String>(),
        record.status,
        record.code,
        record.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default(),
        shown(record.inputs.as_ref()),
        shown(record.outputs.as_ref()),
        shown(record.tracked.as_ref()),
        attempts.collect::<Vec<_>>().join(" "),
    )
}

/// A value; of a long one, its beginning and length.
fn shown(value: Option<&Value>) -> String {
    let text = value.map(Value::to_json_text).unwrap_or_default();
    if text.len() < 300 { text } else { format!("{}… {}", &text[..40], text.len()) }
}
