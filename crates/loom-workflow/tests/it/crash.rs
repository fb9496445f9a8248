//! The real binary, killed without warning at seeded moments, with actions of every kind in progress.
//!
//! The service that all calls go to sees which process made them. After each kill, before the next process starts, the
//! test reads from the store which actions are complete. So it knows for each call whether repeating it was allowed.
//!
//! - Every accepted run ends, and so does every run in the store.
//! - A call whose completion was in the journal at a kill is never made again, and a run that had ended makes none, but for
//!   the end of a subscription that the store did not know to have arrived.
//! - One that was in flight may be made again, under its key: once in each life, and one in each branch.
//! - Histories are complete, dense and in order; variables and outputs are what they would be without kills.
//! - One child for each parent.
//! - No limit is ever exceeded: not that of a trigger, whose runs wait at the gate, nor that of a bulkhead around a scope.
//! - A signal that was acknowledged before a deadline is received, and received once. An order is executed, and stays executed.
//! - Kills find runs that are parked because they wait for a timer, a callback, a signal, a child, an operator, or at the gate.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

mod checks;
mod expect;
mod known;
mod operator;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

use crate::served::{self, Loom, pause};
use known::Known;
use operator::Signalled;
use world::{Seen, World};

/// The longest time before a kill, in milliseconds: long enough for runs to leave memory, which they do after a second.
const LIFE_MILLIS: u64 = 2_200;

/// When signals are sent: so many milliseconds after their run was accepted, and at most so many more. The wait for them ends after
/// four seconds.
const SIGNAL_MILLIS: (u64, u64) = (3_400, 1_200);

#[test]
fn repeated_kills_lose_no_run_and_repeat_no_completed_call() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20) as usize;
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_123);
    let mut random = Random(seed);
    let mut trial = Trial::new(workflows());
    for life in 0..kills {
        trial.live(life, Duration::from_millis(30 + random.below(LIFE_MILLIS)), &mut random);
    }
    trial.judge(kills, &format!("seed {seed}, {kills} kills"));
}

/// The control: definitions that admit one run more than they should. It is seen by the service, and in the times of runs.
#[test]
fn a_limit_that_does_not_hold_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    for (name, right, wrong) in
        [("gate", r#""runs": 3"#, r#""runs": 4"#), ("desk", r#""maxConcurrent": 2"#, r#""maxConcurrent": 3"#)]
    {
        let file = format!("{name}.json");
        let text = std::fs::read_to_string(workflows().join(&file)).unwrap();
        assert!(text.contains(right));
        std::fs::write(directory.path().join(&file), text.replace(right, wrong)).unwrap();
    }
    let mut trial = Trial::new(directory.path().to_owned());
    let loom = trial.start(0);
    for name in ["gate", "desk"] {
        for _ in 0..5 {
            trial.invoke(&loom, name, &mut Random(1));
        }
    }
    let runs = ended_runs(&loom);
    let wrong = trial.world.wrong();
    for name in ["gate admits 3", "desk admits 2"] {
        assert!(wrong.iter().any(|wrong| wrong.starts_with(name)), "{name}: {wrong:?}");
    }
    assert_eq!(checks::exceeds("gate", 4, runs.values()), None);
    assert!(checks::exceeds("gate", 3, runs.values()).is_some());
}

fn workflows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/workflows")
}

/// The processes on one data directory, and the world around them.
struct Trial {
    world: Arc<World>,
    directory: tempfile::TempDir,
    workflows: PathBuf,
    accepted: BTreeSet<String>,
    known: Known,
    signals: Vec<JoinHandle<Signalled>>,
    signalled: Vec<Signalled>,
    orders: Vec<JoinHandle<()>>,
}

impl Trial {
    fn new(workflows: PathBuf) -> Trial {
        Trial {
            world: Arc::new(World::start()),
            directory: tempfile::tempdir().unwrap(),
            workflows,
            accepted: BTreeSet::new(),
            known: Known::default(),
            signals: Vec::new(),
            signalled: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// Starts the process with this number.
    fn start(&self, life: usize) -> Loom {
        let directory = self.directory.path();
        self.world.introduce(directory, life);
        let file = |name: &str| directory.join(name).into_os_string();
        let (data, egress, connections) = (file("data"), file("egress.json"), file("connections.json"));
        let loom = Loom::serve(&[
            "--workflows".as_ref(),
            self.workflows.as_os_str(),
            "--data".as_ref(),
            &data,
            "--egress".as_ref(),
            &egress,
            "--connections".as_ref(),
            &connections,
            "--park-after".as_ref(),
            "1s".as_ref(),
        ]);
        self.world.serves_at(loom.address());
        loom
    }

    /// One process, until it is killed. Runs arrive all the time.
    fn live(&mut self, life: usize, time: Duration, random: &mut Random) {
        let is_called = |name: &str| expect::CALLED.iter().any(|(called, _)| *called == name);
        let all = expect::all();
        let callable: Vec<&str> = all.iter().map(|one| one.name).filter(|name| !is_called(name)).collect();
        let mut loom = self.start(life);
        let killer = loom.kill_after(time);
        while self.invoke(&loom, callable[random.below(callable.len() as u64) as usize], random) {
            // Spread out, so that a kill finds runs at every position.
            pause(Duration::from_millis(10));
        }
        killer.join().unwrap();
        loom.wait_for_end();
        // A thread keeps its memory until it is joined.
        self.join(JoinHandle::is_finished, JoinHandle::is_finished);
        self.known.read(&self.directory.path().join("data"), life, &self.accepted);
    }

    /// Starts a run. False if the process died meanwhile.
    fn invoke(&mut self, loom: &Loom, name: &str, random: &mut Random) -> bool {
        let path = format!("/workflows/{name}/triggers/manual/invoke");
        let Some(answer) = loom.request("POST", &path, br#"{"n": 1}"#) else { return false };
        if answer.status == 429 && expect::LIMITED.iter().any(|(limited, _)| *limited == name) {
            return true;
        }
        assert_eq!(answer.status, if name == "answer" { 200 } else { 202 }, "{name}: {answer:?}");
        let run = answer.header("x-ms-workflow-run-id").unwrap();
        self.accepted.insert(run.clone());
        self.operate(name, run, Duration::from_millis(SIGNAL_MILLIS.0 + random.below(SIGNAL_MILLIS.1)));
        true
    }

    /// Sends what a run of this workflow needs from outside, if it needs anything: its signal after a delay, or orders.
    fn operate(&mut self, name: &str, run: String, after: Duration) {
        let world = Arc::clone(&self.world);
        match name {
            "race" => self.signals.push(std::thread::spawn(move || Signalled::send(&world, run, after))),
            "order" => {
                let order = move || operator::suspend_resume_and_cancel(&world, &run);
                self.orders.push(std::thread::spawn(order));
            }
            _ => {}
        }
    }

    /// Waits for these threads of the operator.
    fn join(&mut self, signals: fn(&JoinHandle<Signalled>) -> bool, orders: fn(&JoinHandle<()>) -> bool) {
        let sent = self.signals.extract_if(.., |signal| signals(signal));
        self.signalled.extend(sent.map(|signal| signal.join().unwrap()));
        self.orders.extract_if(.., |order| orders(order)).for_each(|order| order.join().unwrap());
    }

    /// Starts the last process, waits until all runs have ended, and checks everything.
    fn judge(mut self, kills: usize, context: &str) {
        let loom = self.start(kills);
        assert!(!self.accepted.is_empty(), "some run was accepted before the kills");
        // Runs whose callers did not learn that they were accepted.
        for run in loom.pages("/api/v1/runs?limit=500", "runs", "cursor") {
            let id = run["id"].as_str().unwrap();
            if !self.accepted.contains(id) {
                self.operate(run["workflow"].as_str().unwrap(), id.to_owned(), Duration::ZERO);
            }
        }
        self.join(|_| true, |_| true);
        for run in &self.accepted {
            loom.end_of(run);
        }
        let runs = ended_runs(&loom);
        let seen = self.world.seen();
        assert_eq!(self.world.wrong(), Vec::<String>::new(), "{context}");
        for run in &self.accepted {
            assert!(runs.contains_key(run), "{context}: accepted run {run} is missing");
        }
        checks::check_calls(&seen, &self.known, context);
        let mut by_run: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for call in &seen {
            by_run.entry(call.run()).or_default().push(call);
        }
        let expected = expect::all();
        for (id, run) in &runs {
            let name = run["workflow"].as_str().unwrap();
            let context = format!("{context}, run {id} of {name}");
            let expected = expected.iter().find(|one| one.name == name).expect("a workflow of ours");
            let calls = by_run.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
            checks::check_run(expected, run, calls, &context);
            let events = events(&loom, id);
            checks::check_history(&events, &context);
            if let Some(signal) = self.signalled.iter().find(|signal| signal.run == *id) {
                assert_eq!(signal.check(&events), Ok(()), "{context}");
            }
        }
        for (name, most) in expect::LIMITED {
            assert_eq!(checks::exceeds(name, most, runs.values()), None, "{context}");
        }
        let of = |name: &str| runs.values().filter(|run| run["workflow"] == name).count();
        for (called, caller) in expect::CALLED {
            assert_eq!(of(called), of(caller), "{context}: one {called} for each {caller}");
        }
        report(&self.known, &runs, &seen, context);
        // Kills that never find a run in some place prove nothing about it.
        if kills >= 20 {
            let places =
                ["rest", "patient", "patron", "slow", "race", "order", "gate", "gate, waiting", "desk"];
            for place in places {
                assert!(self.known.parked.contains_key(place), "{context}: no kill found {place} parked");
            }
        }
    }
}

fn report(known: &Known, runs: &BTreeMap<String, Value>, seen: &[Seen], context: &str) {
    let repeated = seen.len() - seen.iter().map(|call| (&call.key, call.life)).collect::<BTreeSet<_>>().len();
    let keys: BTreeSet<&str> = seen.iter().map(|call| call.key.as_str()).collect();
    eprintln!(
        "{context}: {} runs, {} calls under {} keys, {repeated} of them asked for by a retry, {} of them repeated after a kill; \
         parked at a kill: {:?}",
        runs.len(),
        seen.len(),
        keys.len(),
        seen.len() - keys.len() - repeated,
        known.parked,
    );
}

fn events(loom: &Loom, run: &str) -> Vec<Value> {
    loom.pages(&format!("/api/v1/runs/{run}/events?limit=1000"), "events", "after")
}

/// Every run in the store, once all have ended.
fn ended_runs(loom: &Loom) -> BTreeMap<String, Value> {
    let list = loom.pages("/api/v1/runs?limit=500", "runs", "cursor");
    let mut runs = BTreeMap::new();
    for mut run in list {
        let id = run["id"].as_str().unwrap().to_owned();
        if run.get("endTime").is_none() {
            loom.end_of(&id);
            run = loom.get(&format!("/api/v1/runs/{id}"));
        }
        runs.insert(id, run);
    }
    runs
}

/// A linear congruential generator (Knuth's MMIX constants); its high bits are used.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
