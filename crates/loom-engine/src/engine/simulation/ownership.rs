//! Runs of a trigger with a concurrency limit, each under a bulkhead for a while, and processes that come and go: never are more runs
//! in progress than may be, nor more of them inside, and no permit is lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, Workflow};
use loom_expression::Value;
use loom_store::{MemoryStore, RunQuery, Store, contract::Seeded};
use tokio::time::{Instant, sleep_until};

use super::{Break, Lives, begin, park_after, parse, play, whole};
use crate::{
    Engine, Event, RunId, RunRequest, RunState, Started, Watcher,
    clock::TokioClock,
    event::{Command, Next},
    status_from_number,
};

const RUNS_MAX: usize = 3;
const INSIDE_MAX: usize = 2;

fn workflow() -> Arc<Workflow> {
    parse(&format!(
        r#"{{"triggers": {{"t": {{"type": "Request", "runtimeConfiguration":
                {{"concurrency": {{"runs": {RUNS_MAX}, "maximumWaitingRuns": 50}}}}}}}},
            "actions": {{"Guarded": {{"type": "Scope", "runAfter": {{}},
                "bulkhead": {{"name": "desk", "maxConcurrent": {INSIDE_MAX}, "maxQueued": 50}},
                "actions": {{"Rest": {{"type": "Wait", "runAfter": {{}},
                    "inputs": {{"interval": {{"count": "@triggerBody()", "unit": "Second"}}}}}}}}}}}}}}"#
    ))
}

/// Who is in progress, and who is inside, by what is durable.
#[derive(Default)]
struct Seen(Mutex<Now>);

#[derive(Default)]
struct Now {
    running: BTreeSet<RunId>,
    inside: BTreeSet<RunId>,
    broken: Option<String>,
}

impl Watcher for Seen {
    fn events(&self, state: &RunState, events: &[Event]) {
        let Some(run) = state.start().map(|start| start.run) else { return };
        let mut now = self.0.lock().unwrap();
        for event in events {
            match event {
                Event::AttemptEnded { next: Next::Execute, .. } => drop(now.inside.insert(run)),
                Event::ActionEnded { place, .. }
                    if state.workflow().action(place.action).name.as_ref() == "Guarded" =>
                {
                    now.inside.remove(&run);
                }
                _ => {}
            }
        }
        if state.status() == RunStatus::Running && !state.waits {
            now.running.insert(run);
        } else if state.status().is_final() {
            now.running.remove(&run);
            now.inside.remove(&run);
        }
        let (running, inside) = (now.running.len(), now.inside.len());
        if running > RUNS_MAX || inside > INSIDE_MAX {
            now.broken.get_or_insert(format!("{running} runs are in progress, {inside} of them inside"));
        }
    }
}

impl Seen {
    /// A process has ended. What it had made durable and had not reported is in the store.
    async fn ended(&self, store: &Arc<dyn Store>) -> Result<(), String> {
        let page = store.runs(RunQuery { limit: 1_000, ..RunQuery::default() }).await;
        let rows = page.map_err(|error| error.to_string())?.rows;
        let mut now = self.0.lock().unwrap();
        for row in rows.iter().filter(|row| row.ended.is_some()) {
            now.running.remove(&row.id);
            now.inside.remove(&row.id);
        }
        Ok(())
    }
}

async fn simulate(seed: u64, fault: Break) -> Result<(), String> {
    let mut random = Seeded::new(seed);
    let count = random.below(4);
    let lives = Lives::draw(&mut random, count, 60);
    let (workflow, seen) = (workflow(), Arc::<Seen>::default());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let clock = TokioClock::starting_at(begin());
    let began = Instant::now();
    let mut runs = Vec::new();
    for (start, stop) in &lives.0 {
        sleep_until(began + Duration::from_millis(*start)).await;
        let builder = Engine::builder().store(Arc::clone(&store)).clock(Arc::new(clock)).seed(seed);
        let builder = match park_after(&mut random) {
            Some(after) => builder.park_after(after),
            None => builder,
        };
        let engine = builder.watcher(Arc::clone(&seen) as Arc<dyn Watcher>).build();
        fault(&engine.shared.faults);
        engine.deploy(Arc::clone(&workflow), Vec::new());
        engine.recover(None).await.map_err(|error| error.to_string())?;
        for _ in 0..2 + random.below(8) {
            tokio::time::sleep(Duration::from_millis(random.below(9_000))).await;
            if began + Duration::from_millis((*stop).min(3_600_000)) <= Instant::now() {
                break;
            }
            let body = Value::from(1 + random.below(40) as i64);
            let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), Some(body));
            let Ok(Started::Runs(mut started)) = engine.start(request, None) else {
                return Err("no run started".to_owned());
            };
            started[0].accepted().await;
            runs.push(started[0].id);
            if random.one_in(6) {
                let which = random.below(runs.len() as u64) as usize;
                engine.command(runs[which], Command::Cancel).await;
            }
        }
        if *stop == u64::MAX {
            tokio::time::sleep(Duration::from_hours(3)).await;
            let waiting = engine.runs_waiting();
            let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), Some(Value::from(1)));
            let Ok(Started::Runs(mut last)) = engine.start(request, None) else {
                return Err("refused".to_owned());
            };
            last[0].accepted().await;
            let row = store.run(last[0].id).await.map_err(|error| error.to_string())?.ok_or("no run")?;
            if waiting > 0 || status_from_number(row.status) != Some(RunStatus::Running) {
                return Err(format!(
                    "a permit was lost: {waiting} runs wait, the last one is {}",
                    row.status
                ));
            }
        } else {
            sleep_until(began + Duration::from_millis(*stop)).await;
        }
        engine.shut_down().await;
        seen.ended(&store).await?;
    }
    for run in &runs {
        let row = store.run(*run).await.map_err(|error| error.to_string())?.ok_or("a run is missing")?;
        let status = status_from_number(row.status);
        if !matches!(status, Some(RunStatus::Succeeded | RunStatus::Cancelled)) {
            return Err(format!("{run} is {status:?} in the end"));
        }
    }
    let broken = seen.0.lock().unwrap().broken.take();
    broken.map_or(Ok(()), Err)
}

#[test]
fn limits_hold_and_no_permit_is_lost() {
    let broken = play(0..2_000, |seed| simulate(seed, whole));
    assert!(broken.is_empty(), "{} of 2,000: {}", broken.len(), broken[0]);
}

/// The control: a run that leaves memory drops what it owns.
#[test]
fn seeds_notice_when_a_permit_is_dropped_early() {
    let broken = play(0..200, |seed| simulate(seed, |faults| faults.drops_early.on()));
    assert!(broken.len() > 50, "{broken:?}");
}
