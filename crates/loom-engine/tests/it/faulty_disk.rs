//! The whole engine over a disk that fails: writes that wait are lost, a beginning of them survives, an error may hide a
//! success, reads fail, and the process dies again and again. Whatever happens, what was accepted ends, nothing that is
//! known to be done is done again, and every history obeys the laws.
//!
//! `LOOM_SIM_SEED` plays one seed again, and `LOOM_SIM_SEEDS` plays so many.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    EffectId, Engine, Environment, Event, RunId, RunRequest, Started, Watcher, clock::TokioClock,
    journal::FrameReader, ports::Call, status_of_number,
};
use loom_store::{
    Condition, FrameQuery, MemoryStore, Retention, RunQuery, Seq, Store, UnixMillis,
    contract::{FaultRate, FaultyStore, Seeded},
};

use crate::{
    flows::{self, Taste},
    laws::{self, Time},
    seeds,
    simulation::load_child,
    support::{load, now},
    world::{Seen, World, calls_open},
};

/// A frame of so many bytes would hold large values.
const FRAME_MAX: usize = 100_000;

/// The longest a simulated run may take.
const RUN_MAX: Duration = Duration::from_hours(5);

#[test]
fn what_was_accepted_ends_whatever_the_disk_does() {
    let seeds = seeds::seeds(2_000);
    let tally = Tally::default();
    seeds::play(seeds.clone(), |seed| simulate(seed, &tally));
    // A simulation in which nothing goes wrong says nothing.
    if seeds.end - seeds.start >= 200 {
        let seen =
            [&tally.accepted, &tally.refused, &tally.pauses, &tally.repeated, &tally.taken_up, &tally.large];
        let seen = seen.map(Cell::get);
        assert!(seen.iter().all(|times| *times > 50), "too little happened: {tally:?}");
    }
}

/// What happened, over all seeds.
#[derive(Debug, Default)]
struct Tally {
    accepted: Cell<usize>,
    refused: Cell<usize>,
    pauses: Cell<usize>,
    /// Calls that were made again, because a process died during them or the disk failed.
    repeated: Cell<usize>,
    /// Runs that a later process took up.
    taken_up: Cell<usize>,
    /// Large values.
    large: Cell<usize>,
}

fn add(count: &Cell<usize>, more: usize) {
    count.set(count.get() + more);
}

/// What the disk knows, and what was called.
#[derive(Default)]
struct Ledger {
    disk: MemoryStore,
    /// Calls whose end was durable when the last process began.
    done: BTreeSet<(RunId, EffectId)>,
    keys: BTreeMap<(RunId, EffectId), (Arc<str>, u32)>,
    repeated: usize,
}

/// The history of a run that is on the disk.
fn history(disk: &MemoryStore, run: RunId) -> Vec<Event> {
    let query = FrameQuery { frames_max: usize::MAX, bytes_max: usize::MAX, ..FrameQuery::of(run) };
    let page = disk.frames(query).now_or_never().expect("memory answers at once").expect("it can be read");
    let (mut reader, mut events) = (FrameReader::new(run), Vec::new());
    for (place, frame) in page.frames.iter().enumerate() {
        assert_eq!(frame.seq, Seq(place as u64 + 1), "frames are dense");
        assert!(frame.payload.len() < FRAME_MAX, "a large value stands in frame {place}");
        let read = reader.events(disk, frame).now_or_never().expect("memory answers at once");
        events.extend(read.expect("what was written can be read"));
    }
    events
}

impl Ledger {
    /// A call is made: its intent is durable, its end is not, and its key is the one it always had.
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

    /// Which calls are over, as the disk tells it to a new process.
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
    disk.runs(query).now_or_never().expect("memory answers at once").expect("it can be read").rows
}

async fn simulate(seed: u64, tally: &Tally) {
    let mut random = Seeded::new(seed);
    let taste = Taste { actions: 4 + random.below(16) as u32, depth: 3, guards: false, ends: true };
    let workflow = load(&flows::definition(&mut random, taste));
    let child = load_child();
    let workflows: BTreeMap<_, _> =
        [&workflow, &child].map(|known| (Arc::clone(&known.name), Arc::clone(known))).into_iter().collect();
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
    let (lives, runs) = (1 + random.below(4), 1 + random.below(3));
    for life in 0..=lives {
        let last = life == lives;
        let rate = if last {
            FaultRate::default()
        } else {
            FaultRate { turns: Some(4 + random.below(30)), reads: Some(3 + random.below(20)) }
        };
        let store = FaultyStore::new(disk.clone(), seed ^ (life << 32), rate);
        let builder = Engine::builder()
            .clock(Arc::new(clock))
            .watcher(Arc::clone(&seen) as Arc<dyn Watcher>)
            .seed(seed)
            .store(Arc::new(store.clone()))
            .environment(Environment { run_duration_max: RUN_MAX, ..Environment::default() });
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
            () = write(&store, &mut pace) => {}
            () = tokio::time::sleep(crash.unwrap_or(RUN_MAX * 20)), if crash.is_some() => {}
            () = live(&engine, &store, &workflow, if life == 0 { runs } else { 0 }, &mut accepted, tally) => {}
        }
        world.closed.store(true, Ordering::SeqCst);
        disk = store.crash();
        engine.shut_down().await;
        tokio::time::sleep(Duration::from_secs(random.below(4_000))).await;
    }
    add(&tally.repeated, ledger.lock().unwrap().repeated);
    judge(&disk, &seen, &workflows, &accepted);
    add(&tally.large, forget(&disk, &mut random));
}

/// The writer of the store: it takes its time before each turn.
async fn write(store: &FaultyStore, pace: &mut Seeded) {
    loop {
        store.work().await;
        tokio::time::sleep(Duration::from_millis(pace.below(12))).await;
        store.turn();
    }
}

/// One life of a process: takes up what is unfinished, starts what is new, looks after the store, until all has ended.
async fn live(
    engine: &Engine,
    store: &FaultyStore,
    workflow: &Arc<Workflow>,
    runs: u64,
    accepted: &mut Vec<RunId>,
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
        let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), None);
        let Ok(Started::Runs(started)) = engine.start(request, None) else { panic!("it starts") };
        starting.extend(started);
    }
    for mut run in starting {
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
        // What cannot be read now can be read later.
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
        let nothing_left = store.unfinished(None, 1).await.is_ok_and(|left| left.is_empty());
        if nothing_left && unreadable.is_empty() && engine.runs_in_progress() == 0 {
            return;
        }
    }
}

/// Retention removes the runs in parts: what is kept can be read with all its values, and in the end no value is left.
/// Gives how many there were.
fn forget(disk: &MemoryStore, random: &mut Seeded) -> usize {
    let (mut values, mut last) = (0, false);
    while !last {
        let runs_max = random.below(3);
        last = runs_max == 0;
        let policy = Retention { runs_max: Some(runs_max), ..Retention::default() };
        let swept = disk.sweep(policy, UnixMillis(i64::MAX)).now_or_never().expect("memory answers at once");
        values += swept.expect("it can be swept").blobs;
        for row in rows(disk) {
            // Of a run that was forgotten there are no frames.
            history(disk, row.id);
        }
    }
    assert_eq!(disk.blobs(), 0, "a value that no run holds is kept");
    usize::try_from(values).unwrap()
}

/// After the last life: everything is there, in order, and what was seen is what happened.
fn judge(disk: &MemoryStore, seen: &Seen, workflows: &BTreeMap<Arc<str>, Arc<Workflow>>, accepted: &[RunId]) {
    let rows = rows(disk);
    for run in accepted {
        assert!(rows.iter().any(|row| row.id == *run), "run {run} was accepted, and is forgotten");
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
        assert_eq!(status_of_number(row.status), ended, "the row of {} says how it ended", row.id);
        assert!(ended.is_some_and(RunStatus::is_final));
        let Some(run) = seen.get(&row.id) else { continue };
        for (place, event) in &run.events {
            assert_eq!(
                history.get(*place as usize),
                Some(event),
                "run {}: it was shown, and is not so",
                row.id
            );
        }
        if let Err(differs) = run.replay_equals_live(&history) {
            panic!("run {}: {differs}", row.id);
        }
    }
    for run in seen.keys() {
        assert!(rows.iter().any(|row| row.id == *run), "run {run} was shown, and is forgotten");
    }
}
