//! Texts of calls while they arrive: who sees them, in which order with the events, and what is left of them.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, model::EffectKind};
use loom_engine::{
    Engine, Environment, RunRequest, Started,
    clock::TokioClock,
    event::{Note, Outcome, RetryHint},
    history::History,
    live_text::TextPosition,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;
use loom_store::{MemoryStore, Store};
use tokio::sync::Semaphore;

use crate::support::{load, now, workflow};

/// A model that says one word for each permit, and whose requests are counted while they are open.
struct Speaker {
    words: Semaphore,
    open: std::sync::atomic::AtomicUsize,
}

struct Open<'a>(&'a Speaker);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl ActionHandler for Speaker {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            self.open.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _open = Open(self);
            let mut text = call.show.begin();
            let mut said = String::new();
            for word in ["Good ", "day, ", "hunter-2222 ", "and more"] {
                self.words.acquire().await.expect("it is open").forget();
                text.push(word);
                said.push_str(word);
            }
            let outputs = [("body", Value::from(said))].into_iter().collect::<loom_expression::Object>();
            loom_engine::event::EffectResult::Done {
                outcome: Outcome::ok(Some(outputs.into())),
                hint: RetryHint::default(),
            }
        })
    }
}

fn speaker() -> Arc<Speaker> {
    Arc::new(Speaker { words: Semaphore::new(0), open: std::sync::atomic::AtomicUsize::new(0) })
}

fn engine(speaker: &Arc<Speaker>, store: &Arc<dyn Store>) -> Engine {
    Engine::builder()
        .clock(Arc::new(TokioClock::starting_at(now())))
        .handler(EffectKind::Ai, Arc::clone(speaker) as Arc<dyn ActionHandler>)
        .environment(Environment::default())
        .store(Arc::clone(store))
        .build()
}

async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn history(engine: &Engine, run: loom_engine::RunId) -> History {
    engine.history(run).await.expect("it can be read").expect("it is there").1
}

const ASK: &str = r#"{"Ask": {"type": "AI", "inputs": {"prompt": "Hello"}LIMIT}}"#;

#[tokio::test(start_paused = true)]
async fn text_is_seen_while_it_arrives_and_gone_when_the_event_with_the_whole_is_there() {
    let (speaker, store) = (speaker(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
    let engine = engine(&speaker, &store);
    let request = RunRequest::manual(workflow(&ASK.replace("LIMIT", "")), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut texts = engine.live_texts(runs[0].id);
    speaker.words.add_permits(2);
    rest().await;
    let current = texts.current();
    assert_eq!((current.len(), current[0].attempt), (1, 1));
    let (mut at, mut seen) = (TextPosition::default(), String::new());
    seen.extend(current[0].read(&mut at));
    assert_eq!((seen.as_str(), at.chars), ("Good day, ", 10));
    speaker.words.add_permits(2);
    texts.changed().await;
    runs[0].ended().await.expect("it ends");
    seen.extend(current[0].read(&mut at));
    assert_eq!(seen, "Good day, hunter-2222 and more");
    assert!(texts.current().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_of_what_is_secret() {
    let definitions = [
        r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"Ask": {"type": "AI", "inputs": {"prompt": "Hello"}, "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}}}}"#,
        r#"{"parameters": {"p": {"type": "securestring", "defaultValue": "open-sesame"}}, "triggers": {"manual": {"type": "Request"}}, "actions": {"Ask": {"type": "AI", "inputs": {"prompt": "@parameters('p')"}}}}"#,
    ];
    for definition in definitions {
        let (speaker, store) = (speaker(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
        let engine = engine(&speaker, &store);
        let secret = Value::from("open-sesame").into_secret();
        let parameters = if definition.contains("securestring") { vec![secret] } else { Vec::new() };
        let request = RunRequest::manual(load(definition), parameters, None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        speaker.words.add_permits(3);
        rest().await;
        assert!(engine.live_texts(runs[0].id).current().is_empty(), "{definition}");
        speaker.words.add_permits(1);
        assert_eq!(runs[0].ended().await.expect("it ends").status, RunStatus::Succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_drops_the_request_at_once_and_keeps_the_part() {
    for timed in [false, true] {
        let (speaker, store) = (speaker(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
        let engine = engine(&speaker, &store);
        let limit = if timed { r#", "limit": {"timeout": "PT10S"}"# } else { "" };
        let request = RunRequest::manual(workflow(&ASK.replace("LIMIT", limit)), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        speaker.words.add_permits(2);
        rest().await;
        assert_eq!(speaker.open.load(std::sync::atomic::Ordering::SeqCst), 1);
        if !timed {
            runs[0].cancel().await;
        }
        let report = runs[0].ended().await.expect("it ends");
        assert_eq!(speaker.open.load(std::sync::atomic::Ordering::SeqCst), 0, "the request is dropped");
        let status = if timed { RunStatus::Failed } else { RunStatus::Cancelled };
        assert_eq!(report.status, status);
        let history = history(&engine, report.id).await;
        let ask = history.workflow().find_action("Ask").expect("it exists");
        let notes = &history.occurrences(ask)[0].attempts[0].notes;
        assert_eq!(notes, &[Note::Interrupted { text: "Good day, ".to_owned() }]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_never_reads_changes_nothing() {
    let (speaker, store) = (speaker(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
    let engine = engine(&speaker, &store);
    let request = RunRequest::manual(workflow(&ASK.replace("LIMIT", "")), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let _stalled: Vec<_> = (0..100).map(|_| engine.live_texts(runs[0].id)).collect();
    speaker.words.add_permits(4);
    assert_eq!(runs[0].ended().await.expect("it ends").status, RunStatus::Succeeded);
}

#[test]
fn an_emit_reports_data_or_progress() {
    let actions = r#"{
        "Found": {"type": "Emit", "inputs": {"event": "found", "data": "@range(1, 2)"}},
        "Step": {"type": "Emit", "inputs": {"progress": {"current": "@add(0, 1)", "total": 3, "message": "one"}}},
        "Wrong": {"type": "Emit", "inputs": {"progress": {"current": "@add(4, 0)", "total": 3}}, "runAfter": {"Step": ["Succeeded"]}}}"#;
    let played = crate::support::play(actions);
    assert_eq!(played.outputs("Found"), crate::support::json(r#"{"event": "found", "data": [1, 2]}"#));
    let step = r#"{"progress": {"current": 1, "total": 3, "message": "one"}}"#;
    assert_eq!(played.outputs("Step"), crate::support::json(step));
    assert_eq!(
        played.message("Wrong"),
        "The inputs of Emit 'Wrong' are wrong: 'progress.current' must not exceed 'progress.total' (got 4 of 3)."
    );
}
