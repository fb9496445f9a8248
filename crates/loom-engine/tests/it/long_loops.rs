//! Long loops in a store: their history is written in parts, is reported once and in order, and they continue from any of those
//! parts; calls of many iterations share commits and stay within the loop's concurrency.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Engine, Environment, Event, RunId, RunReport, RunRequest, RunState, Started, Watcher,
    event::EffectResult, history::History, journal::FrameReader, simulate::Simulation,
};
use loom_store::{FrameQuery, MemoryStore, Store, StoredFrame};

use crate::support::{Service, engine, now, ok, workflow};

/// Records the batches of events that are reported.
#[derive(Default)]
struct Shown(Mutex<Vec<Vec<Event>>>);

impl Watcher for Shown {
    fn events(&self, _: &RunState, events: &[Event]) {
        self.0.lock().unwrap().push(events.to_vec());
    }
}

async fn run_shown(engine: &Engine, workflow: &Arc<Workflow>) -> (Arc<RunReport>, Vec<Vec<Event>>) {
    let shown = Arc::new(Shown::default());
    let watcher: Arc<dyn Watcher> = Arc::clone(&shown) as Arc<dyn Watcher>;
    let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, Some(&watcher)) else { panic!("no run started") };
    let report = runs[0].ended().await.expect("it ends");
    let shown = std::mem::take(&mut *shown.0.lock().unwrap());
    (report, shown)
}

async fn frames(store: &dyn Store, run: RunId) -> Vec<StoredFrame> {
    let mut query = FrameQuery::of(run);
    let mut frames = Vec::new();
    loop {
        let page = store.frames(query).await.expect("the store can be read");
        frames.extend(page.frames);
        match page.next {
            Some(next) => query.from = next,
            None => return frames,
        }
    }
}

async fn decoded(store: &dyn Store, run: RunId, frames: &[StoredFrame]) -> Vec<Event> {
    let (mut reader, mut events) = (FrameReader::new(run), Vec::new());
    for frame in frames {
        events.extend(reader.events(store, frame).await.expect("it can be read"));
    }
    events
}

#[tokio::test(start_paused = true)]
async fn the_history_of_a_long_loop_is_written_in_parts() {
    const ITEMS: usize = 40_000;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let nobody = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = engine(&nobody).store(Arc::clone(&store)).build();
    let workflow = workflow(&format!(
        r#"{{"Each": {{"type": "Foreach", "foreach": "@range(0, {ITEMS})", "runAfter": {{}}, "actions": {{
            "One": {{"type": "Compose", "inputs": "@{{items('Each')}}", "runAfter": {{}}}}}}}},
            "Last": {{"type": "Compose", "inputs": "done", "runAfter": {{"Each": ["Succeeded"]}}}}}}"#
    ));
    let (report, shown) = run_shown(&engine, &workflow).await;
    assert_eq!(report.status, RunStatus::Succeeded);
    let frames = frames(&*store, report.id).await;
    let largest = frames.iter().map(|frame| frame.payload.len()).max().unwrap();
    assert!(frames.len() >= 5, "{} frames", frames.len());
    assert!(largest <= 512 * 1024, "the largest frame has {largest} bytes");
    let events = decoded(&*store, report.id, &frames).await;
    assert!(shown.iter().all(|part| part.len() < events.len() / 2), "it is shown in parts");
    assert_eq!(shown.concat(), events, "everything is shown, once, in the order of the journal");
    assert!(store.load(report.id).await.unwrap().unwrap().snapshot.is_some());

    // The process may end after any part: the run continues, and each item is processed once.
    for count in 1..frames.len() {
        let before = decoded(&*store, report.id, &frames[..count]).await;
        let mut again =
            Simulation::resume(Arc::clone(&workflow), Arc::new(Environment::default()), now(), &before)
                .expect("the history is legal");
        let status = again.play_on(10, |_| -> EffectResult { panic!("unexpected call") });
        assert_eq!(status, Some(RunStatus::Succeeded), "after {count} frames");
        let mut history = History::new(Arc::clone(&workflow));
        history.extend(before.iter().chain(again.events()));
        let mut rounds: Vec<u32> = history
            .occurrences(workflow.find_action("One").unwrap())
            .iter()
            .map(|occurrence| occurrence.path[0].index)
            .collect();
        rounds.sort_unstable();
        assert!(rounds.into_iter().eq(0..ITEMS as u32), "after {count} frames");
    }
    engine.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_many_iterations_share_commits_within_the_concurrency() {
    const ITEMS: usize = 2_000;
    let service = Service::new(|_, _| (Duration::from_millis(5), ok(r#"{"statusCode": 200}"#)));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine = engine(&service).store(Arc::clone(&store)).build();
    let workflow = workflow(&format!(
        r#"{{"Each": {{"type": "Foreach", "foreach": "@range(0, {ITEMS})", "runAfter": {{}},
            "runtimeConfiguration": {{"concurrency": {{"repetitions": 10}}}}, "actions": {{
            "Ask": {{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s"}}, "runAfter": {{}}}}}}}}}}"#
    ));
    let (report, shown) = run_shown(&engine, &workflow).await;
    assert_eq!((report.status, service.count()), (RunStatus::Succeeded, ITEMS));
    assert_eq!(service.by_key().len(), ITEMS, "each round has a key of its own");
    let frames = frames(&*store, report.id).await;
    // Ten calls end at the same time, and one commit contains their outcomes and the next ten intents.
    assert!(frames.len() <= ITEMS / 5, "{} commits", frames.len());
    let ask = workflow.find_action("Ask").unwrap();
    let (mut open, mut open_most) = (0usize, 0);
    for event in shown.iter().flatten() {
        match event {
            Event::AttemptStarted { .. } => open += 1,
            Event::ActionEnded { place, .. } if place.action == ask => open -= 1,
            _ => {}
        }
        open_most = open_most.max(open);
    }
    assert_eq!(open_most, 10);
    engine.shut_down().await;
}
