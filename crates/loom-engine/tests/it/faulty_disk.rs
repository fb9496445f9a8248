//! The whole engine on a disk that fails: pending writes are lost, or only the first of them survive, an error may hide a
//! success, reads fail, and the process crashes repeatedly. Nevertheless, accepted runs end, calls with a durable outcome are not
//! repeated, and every history obeys the laws.
//!
//! `LOOM_SIM_SEED` repeats one seed; `LOOM_SIM_SEEDS` sets the number of seeds.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Answer, AnswerError, EffectId, Engine, Environment, Event, OpenQuestions, RunId, RunRequest, Started,
    Watcher, clock::TokioClock, event::Next, journal::FrameReader, ports::Call, status_from_number,
};
use loom_expression::{Labels, Value};
use loom_store::{
    Condition, FrameQuery, MemoryStore, Retention, RunQuery, Seq, Shards, UnixMillis,
    contract::{FaultRate, FaultyStore, Seeded},
    prelude::*,
};

use crate::{
    flows::{self, Taste},
    laws::{self, Time},
    seeds,
    simulation::load_child,
    support::{load, now},
    world::{Seen, World, calls_open},
};

/// A frame of this size would contain large values.
const FRAME_MAX: usize = 100_000;

/// The maximum duration of a simulated run.
const RUN_MAX: Duration = Duration::from_hours(5);

#[test]
fn accepted_runs_end_on_a_failing_disk() {
    let seeds = seeds::seeds(2_000);
    let tally = Tally::default();
    seeds::play(seeds.clone(), |seed| simulate(seed, &tally, Setting::default()));
    // A simulation in which nothing goes wrong proves nothing.
    if seeds.end - seeds.start >= 200 {
        let seen = [
            &tally.accepted,
            &tally.refused,
            &tally.pauses,
            &tally.repeated,
            &tally.taken_up,
            &tally.large,
            &tally.parked,
        ];
        let seen = seen.map(Cell::get);
        assert!(seen.iter().all(|times| *times > 50), "too little happened: {tally:?}");
    }
}

/// The control: the engine on a disk that acknowledges what it has not written.
#[test]
fn seeds_notice_when_commits_are_acknowledged_before_they_are_written() {
    let setting = Setting { acknowledges_early: true, ..Setting::default() };
    let failing = seeds::failing(60, |seed| async move {
        Box::pin(simulate(seed, &Tally::default(), setting)).await;
    });
    assert!(failing >= 20, "{failing} of 60 seeds notice");
}

/// Whatever the disk and the process do: nothing untrusted is sent without an approval, and each approval is used once.
#[test]
fn nothing_untrusted_is_sent_without_an_approval_on_a_failing_disk() {
    let seeds = seeds::seeds(400);
    let tally = Tally::default();
    let setting = Setting { people: true, ..Setting::default() };
    seeds::play(seeds.clone(), |seed| simulate(seed, &tally, setting));
    if seeds.end - seeds.start >= 200 {
        let seen = [&tally.approved, &tally.rejected, &tally.by_default, &tally.parked].map(Cell::get);
        assert!(seen.iter().all(|times| *times > 20), "too little happened: {tally:?}");
    }
}

/// The control: an engine that executes a definition without the need for approvals.
#[test]
fn seeds_notice_when_untrusted_data_is_sent_unapproved() {
    let setting = Setting { people: true, sends_unapproved: true, ..Setting::default() };
    let failing = seeds::failing(60, |seed| async move {
        Box::pin(simulate(seed, &Tally::default(), setting)).await;
    });
    assert!(failing >= 10, "{failing} of 60 seeds notice");
}

/// What is unusual in a simulation.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    /// The disk acknowledges what it has not written.
    acknowledges_early: bool,
    /// Some calls need the approval of a person.
    people: bool,
    /// They are made without.
    sends_unapproved: bool,
}

/// What happened, over all seeds.
#[derive(Debug, Default)]
struct Tally {
    accepted: Cell<usize>,
    refused: Cell<usize>,
    pauses: Cell<usize>,
    /// Calls that were repeated, because the process crashed or the disk failed.
    repeated: Cell<usize>,
    /// Runs that a later process resumed.
    taken_up: Cell<usize>,
    /// Large values.
    large: Cell<usize>,
    /// Runs that were parked, at some looks at them.
    parked: Cell<usize>,
    /// Answers that were acknowledged, and calls that were made because nobody answered.
    approved: Cell<usize>,
    rejected: Cell<usize>,
    by_default: Cell<usize>,
}

fn add(count: &Cell<usize>, more: usize) {
    count.set(count.get() + more);
}

/// What is on the disk, and which calls were made.
#[derive(Default)]
struct Ledger {
    disk: MemoryStore,
    /// Calls whose outcome was durable when the last process started.
    done: BTreeSet<(RunId, EffectId)>,
    keys: BTreeMap<(RunId, EffectId), (Arc<str>, u32)>,
    repeated: usize,
}

/// The history of a run on the disk.
fn history(disk: &MemoryStore, run: RunId) -> Vec<Event> {
    let query = FrameQuery { frames_max: usize::MAX, bytes_max: usize::MAX, ..FrameQuery::of(run) };
    let page = disk.frames(query).now_or_never().expect("memory needs no waiting").expect("it can be read");
    let (mut reader, mut events) = (FrameReader::new(run), Vec::new());
    for (place, frame) in page.frames.iter().enumerate() {
        assert_eq!(frame.seq, Seq(place as u64 + 1), "frames are dense");
        assert!(frame.payload.len() < FRAME_MAX, "a large value stands in frame {place}");
        let read = reader.events(disk, frame).now_or_never().expect("memory needs no waiting");
        events.extend(read.expect("what was written can be read"));
    }
    events
}

impl Ledger {
    /// Checks a call that is made: its intent is durable, its outcome is not, and its key has not changed.
    fn called(&mut self, call: &Call) {
        let id = (call.run, call.effect);
        let intended =
            |event: &Event| matches!(event, Event::AttemptStarted { effect, .. } if *effect == call.effect);
        assert!(history(&self.disk, call.run).iter().any(intended), "a call before its intent: {id:?}");
        assert!(!self.done.contains(&id), "a call that was known to be done: {id:?}");
        let key = (Arc::clone(&call.idempotency_key), call.attempt);
        self.repeated += usize::from(self.keys.contains_key(&id));
        let known = self.keys.entry(id).or_insert_with(|| key.clone());
        assert_eq!(*known, key, "a repeated call has the key it had");
    }

    /// Collects the calls with a durable outcome, when a new process starts.
    fn settle(&mut self, workflows: &BTreeMap<Arc<str>, Arc<Workflow>>) {
        for row in rows(&self.disk) {
            let history = history(&self.disk, row.id);
            let open = calls_open(&workflows[&row.workflow], &history);
            let begun = history.iter().filter_map(|event| match event {
                Event::AttemptStarted { effect, .. } => Some(*effect),
                _ => None,
            });
            self.done.extend(begun.filter(|effect| !open.contains(effect)).map(|effect| (row.id, effect)));
        }
    }
}

fn rows(disk: &MemoryStore) -> Vec<loom_store::RunRow> {
    let query = RunQuery { limit: 10_000, ..RunQuery::default() };
    disk.runs(query).now_or_never().expect("memory needs no waiting").expect("it can be read").rows
}

async fn simulate(seed: u64, tally: &Tally, setting: Setting) {
    let Setting { acknowledges_early, people, sends_unapproved } = setting;
    let mut random = Seeded::new(seed);
    let taste = Taste { actions: 4 + random.below(16) as u32, depth: 3, guards: false, ends: true, people };
    let text = flows::definition(&mut random, taste);
    let lawful = load(&text);
    let workflow = if sends_unapproved { load(&without_approvals(&text)) } else { Arc::clone(&lawful) };
    let child = load_child();
    let workflows: BTreeMap<_, _> =
        [&lawful, &child].map(|known| (Arc::clone(&known.name), Arc::clone(known))).into_iter().collect();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let witness = {
        let ledger = Arc::clone(&ledger);
        Box::new(move |call: &Call| ledger.lock().unwrap().called(call))
    };
    let world = World::new(seed, Some(witness));
    let seen = Arc::new(Seen::default());
    let clock = TokioClock::starting_at(now());
    let mut disk = ledger.lock().unwrap().disk.clone();
    let mut accepted = Vec::new();
    let accepting = RefCell::new(Vec::new());
    let (lives, runs) = (1 + random.below(4), 1 + random.below(3));
    for life in 0..=lives {
        let last = life == lives;
        let rate = if last {
            FaultRate::default()
        } else {
            let (turns, reads) = (Some(4 + random.below(30)), Some(3 + random.below(20)));
            FaultRate { turns, reads, acknowledges_early }
        };
        let store = FaultyStore::new(disk.clone(), seed ^ (life << 32), rate);
        let builder = Engine::builder()
            .clock(Arc::new(clock))
            .watcher(Arc::clone(&seen) as Arc<dyn Watcher>)
            .seed(seed)
            .store(Arc::new(store.clone()))
            .environment(Environment { run_duration_max: RUN_MAX, ..Environment::default() });
        // Each process decides for itself whether runs that only wait leave memory, and how soon.
        let builder = match seed.wrapping_add(life) % 4 {
            0 => builder,
            kind => builder.park_after(Duration::from_secs([1, 10, 60][kind as usize - 1])),
        };
        let engine = world.serve(builder).build();
        engine.deploy(Arc::clone(&child), Vec::new());
        ledger.lock().unwrap().settle(&workflows);
        world.closed.store(false, Ordering::SeqCst);
        let within = 1 << (4 + random.below(20));
        let crash = (!last).then(|| Duration::from_millis(random.below(within)));
        let mut pace = Seeded::new(seed.wrapping_mul(31) ^ life);
        tokio::select! {
            biased;
            () = world.act(&engine) => {}
            () = answer(&engine, &accepting, (seed, life), tally), if people => {}
            () = write(&store, &mut pace) => {}
            () = tokio::time::sleep(crash.unwrap_or(RUN_MAX * 20)), if crash.is_some() => {}
            () = live(&engine, &store, &workflow, if life == 0 { runs } else { 0 }, (&mut accepted, &accepting), tally) => {}
        }
        world.closed.store(true, Ordering::SeqCst);
        disk = store.crash();
        engine.shut_down().await;
        tokio::time::sleep(Duration::from_secs(random.below(4_000))).await;
    }
    add(&tally.repeated, ledger.lock().unwrap().repeated);
    judge(&disk, &seen, &workflows, &accepted);
    add(&tally.by_default, rows(&disk).iter().map(|row| unanswered(&history(&disk, row.id))).sum());
    add(&tally.large, forget(&disk, &mut random));
}

/// The definition without what makes its calls need approvals.
fn without_approvals(text: &str) -> String {
    let mut parts = text.split(flows::NEEDS_APPROVAL);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        without.push_str(part.split_once("}, ").expect("the approval is an object").1);
    }
    without
}

/// The calls that were approved because nobody had answered.
fn unanswered(history: &[Event]) -> usize {
    let by_default = |event: &&Event| match event {
        Event::AttemptEnded { next: Next::Proceed, outcome, .. } => {
            let by = outcome.outputs.as_ref().and_then(|answer| answer.get("by")?.as_str());
            by == Some("the default")
        }
        _ => false,
    };
    history.iter().filter(by_default).count()
}

/// A person who answers what the runs ask, sometimes too late or in vain.
async fn answer(engine: &Engine, runs: &RefCell<Vec<RunId>>, (seed, life): (u64, u64), tally: &Tally) {
    let mut random = Seeded::new(seed.wrapping_mul(17) ^ life);
    for number in 0_u64.. {
        tokio::time::sleep(Duration::from_secs(1 + random.below(1_200))).await;
        let known = runs.borrow().clone();
        let Some(run) = known.get(random.below(known.len().max(1) as u64) as usize) else { continue };
        let approved = !random.one_in(3);
        let decision = Answer::Decision { approved, reason: None };
        let by = format!("person {life}/{number}");
        let answered = match engine.answer(*run, None, decision.clone(), &by).await {
            Err(AnswerError::NotAsked { open: OpenQuestions(open), .. }) if !open.is_empty() => {
                let question = &open[random.below(open.len() as u64) as usize];
                engine.answer(*run, Some(question), decision, &by).await
            }
            other => other,
        };
        if answered.is_ok() {
            add(if approved { &tally.approved } else { &tally.rejected }, 1);
        }
    }
}

/// The writer of the store, with a random pause before each turn.
async fn write(store: &FaultyStore, pace: &mut Seeded) {
    loop {
        store.work().await;
        tokio::time::sleep(Duration::from_millis(pace.below(12))).await;
        store.turn();
    }
}

/// One process: resumes unfinished runs, starts new ones, and resumes the store, until all runs have ended.
async fn live(
    engine: &Engine,
    store: &FaultyStore,
    workflow: &Arc<Workflow>,
    runs: u64,
    (accepted, accepting): (&mut Vec<RunId>, &RefCell<Vec<RunId>>),
    tally: &Tally,
) {
    let mut unreadable = loop {
        match engine.recover(None).await {
            Ok(recovered) => {
                add(&tally.taken_up, recovered.runs.len());
                break recovered.unreadable;
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    let mut starting = Vec::new();
    for _ in 0..runs {
        let body = Value::from("from outside").labelled(Labels::UNTRUSTED);
        let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), Some(body));
        let Ok(Started::Runs(started)) = engine.start(request, None) else { panic!("no run started") };
        starting.extend(started);
    }
    for mut run in starting {
        accepting.borrow_mut().push(run.id);
        if run.accepted().await {
            accepted.push(run.id);
            add(&tally.accepted, 1);
        } else {
            add(&tally.refused, 1);
        }
    }
    for patience in 0.. {
        assert!(patience < 20_000, "the runs end: {engine:?}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        if matches!(store.health().condition, Condition::Paused(_)) {
            add(&tally.pauses, 1);
            store.resume().await.expect("it is not closed");
        }
        add(&tally.parked, engine.runs_parked() as usize);
        // Reads that fail now may succeed later.
        if engine.release_held(None).await.is_err() {
            continue;
        }
        let mut still = Vec::new();
        for (run, why) in std::mem::take(&mut unreadable) {
            if engine.recover_run(run, None).await.is_err() {
                still.push((run, why));
            }
        }
        unreadable = still;
        let nothing_left = store.unfinished(Shards::ALL, None, 1).await.is_ok_and(|left| left.is_empty());
        if nothing_left && unreadable.is_empty() && engine.runs_in_progress() == 0 {
            return;
        }
    }
}

/// Deletes the runs in parts: the remaining ones can be read with all their values, and in the end no value is left. Returns the
/// number of values.
fn forget(disk: &MemoryStore, random: &mut Seeded) -> usize {
    let (mut values, mut last) = (0, false);
    while !last {
        let runs_max = random.below(3);
        last = runs_max == 0;
        let policy = Retention { runs_max: Some(runs_max), ..Retention::default() };
        let swept = disk.sweep(policy, UnixMillis(i64::MAX)).now_or_never().expect("memory needs no waiting");
        values += swept.expect("it can be swept").blobs;
        for row in rows(disk) {
            // A deleted run has no frames.
            history(disk, row.id);
        }
    }
    assert_eq!(disk.blobs(), 0, "a value remains that no run refers to");
    usize::try_from(values).unwrap()
}

/// Checks the disk after the last process: everything is there, in order, and equals what was observed.
fn judge(disk: &MemoryStore, seen: &Seen, workflows: &BTreeMap<Arc<str>, Arc<Workflow>>, accepted: &[RunId]) {
    let rows = rows(disk);
    for run in accepted {
        assert!(rows.iter().any(|row| row.id == *run), "run {run} was accepted, and is missing");
    }
    let seen = seen.0.lock().unwrap();
    for row in &rows {
        let history = history(disk, row.id);
        if let Err(broken) = laws::check(&workflows[&row.workflow], &history, Time::Interrupted) {
            panic!("run {}: {broken}\n{}", row.id, workflows[&row.workflow].source);
        }
        let ended = history.iter().find_map(|event| match event {
            Event::RunEnded { status, .. } => Some(*status),
            _ => None,
        });
        assert_eq!(status_from_number(row.status), ended, "the row of {} says how it ended", row.id);
        assert!(ended.is_some_and(RunStatus::is_final));
        let Some(run) = seen.get(&row.id) else { continue };
        for (place, event) in &run.events {
            assert_eq!(
                history.get(*place as usize),
                Some(event),
                "run {}: the observed events differ from the journal",
                row.id
            );
        }
        if let Err(differs) = run.replay_equals_live(&history) {
            panic!("run {}: {differs}", row.id);
        }
    }
    for run in seen.keys() {
        assert!(rows.iter().any(|row| row.id == *run), "run {run} was observed, and is missing");
    }
}
