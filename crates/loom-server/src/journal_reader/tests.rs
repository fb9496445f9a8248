//! A page in the middle of a long history reads few frames, and says the same as a reader that began at the first event.

use std::sync::Arc;

use loom_definition::{Definition, LoadOptions, Workflow, model::EffectKind};
use loom_engine::{
    Engine, Event, RunId, RunRequest, Step, Trail,
    event::{EffectResult, Outcome, RetryHint},
    journal::{self, FrameReader},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;
use loom_store::{FrameQuery, MemoryStore, Store};

use super::JournalReader;

/// Responds at once.
struct Prompt;

impl ActionHandler for Prompt {
    fn call<'a>(&'a self, _call: &'a Call) -> CallFuture<'a> {
        let outcome = Outcome::ok(Some(Value::from("pong ".repeat(20))));
        Box::pin(std::future::ready(EffectResult::Done { outcome, hint: RetryHint::default() }))
    }
}

/// A run that calls a service 500 times in a loop inside a scope, and composes a large list in between.
async fn long_run() -> (Arc<dyn Store>, Arc<Workflow>, RunId) {
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Poll": {"type": "Until", "expression": "@equals(iterationIndexes('Poll'), 499)", "runAfter": {},
            "limit": {"count": 5000}, "actions": {"Inside": {"type": "Scope", "runAfter": {}, "actions": {
                "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/ask"}, "runAfter": {}},
                "Each": {"type": "Foreach", "foreach": "@if(equals(mod(iterationIndexes('Poll'), 100), 7), range(0, 90), range(0, 1))",
                    "runAfter": {"Ask": ["Succeeded"]}, "actions": {
                        "Item": {"type": "Compose", "inputs": "@concat('item ', items('Each'))", "runAfter": {}}}}}}}}}}"#;
    let workflow = Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap().workflow;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine =
        Engine::builder().handler(EffectKind::Http, Arc::new(Prompt)).store(Arc::clone(&store)).build();
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let report = engine.run(request).await.unwrap().unwrap();
    engine.shut_down().await;
    (store, workflow, report.id)
}

/// Every event with its place, read from the first frame on.
async fn whole(store: &dyn Store, workflow: &Arc<Workflow>, run: RunId) -> Vec<(Step, Event)> {
    let (mut reader, mut trail, mut steps) =
        (FrameReader::new(run), Trail::new(Arc::clone(workflow)), Vec::new());
    let mut query = FrameQuery::of(run);
    loop {
        let page = store.frames(query).await.unwrap();
        for frame in &page.frames {
            for event in reader.events(store, frame).await.unwrap() {
                steps.push((trail.follow(&event).unwrap(), event));
            }
        }
        match page.next {
            Some(next) => query.from = next,
            None => return steps,
        }
    }
}

/// The ten events after `after`, with their places, and the number of frames that were read.
async fn page(
    store: &dyn Store,
    workflow: &Arc<Workflow>,
    run: RunId,
    after: u64,
) -> (Vec<(Step, Event)>, u64) {
    let (mut reader, mut trail) = JournalReader::after(run, store, workflow, after).await.unwrap();
    let mut steps = Vec::new();
    while steps.len() < 10
        && let Some(event) = reader.next(store).await.unwrap()
    {
        steps.push((trail.follow(&event).unwrap(), event));
    }
    (steps, reader.fetched())
}

#[tokio::test]
async fn a_page_in_the_middle_reads_few_frames() {
    let (store, workflow, run) = long_run().await;
    let whole = whole(&*store, &workflow, run).await;
    let frames = store.load(run).await.unwrap().unwrap().next.0 - 1;
    assert!(whole.len() > 5_000 && frames > 500, "{} events in {frames} frames", whole.len());
    let mut most = 0;
    for after in
        (0..whole.len()).step_by(97).chain([1, 199, 200, whole.len() - 1, whole.len(), whole.len() + 5])
    {
        let (steps, fetched) = page(&*store, &workflow, run, after as u64).await;
        let end = (after + 10).min(whole.len());
        assert_eq!(steps, whole.get(after..end).unwrap_or_default(), "after {after}");
        most = most.max(fetched);
    }
    // Two pages of frames, and the logarithm of their number; all of them without waymarks.
    assert!(most <= 2 * 64 + 40, "{most} frames for ten events");
}

/// The control, and the journals of earlier versions: without waymarks, every page is right, and the last one reads everything.
#[tokio::test]
async fn a_journal_without_waymarks_is_read_from_its_beginning() {
    let (marked, workflow, run) = long_run().await;
    let whole = whole(&*marked, &workflow, run).await;
    let loaded = marked.load(run).await.unwrap().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let events: Vec<&Event> = whole.iter().map(|(_, event)| event).collect();
    let frames = events.chunks(10).map(|events| {
        let mut payload = Vec::new();
        journal::encode(events.iter().copied(), &mut payload);
        loom_store::Frame { at: loom_store::UnixMillis(0), payload: payload.into() }
    });
    let frames: Vec<_> = frames.collect();
    let count = frames.len() as u64;
    let mut commit = loom_store::Commit::to_run(run, loom_store::Seq::FIRST, frames);
    commit.definitions.push(loom_store::Definition::new(workflow.source.as_bytes().to_vec().into()));
    commit.row = Some(loaded.row);
    store.commit(commit).await.unwrap();
    let after = whole.len() - 10;
    let (steps, fetched) = page(&*store, &workflow, run, after as u64).await;
    assert_eq!(steps, whole[after..]);
    assert!(fetched >= count, "{fetched} of {count}");
}
