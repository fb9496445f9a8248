//! The gate as a model: thousands of seeded sequences of starts, ends, cancellations, deployments and recoveries, each compared
//! with the rules after every step.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt;
use loom_definition::{Definition, LoadOptions, Workflow};

use super::{Full, Gates, Pass};
use crate::{event::RunId, random::mix};

fn workflow(runs: u32, waiting: u32) -> Arc<Workflow> {
    let text = format!(
        r#"{{"triggers": {{"t": {{"type": "Request", "runtimeConfiguration":
            {{"concurrency": {{"runs": {runs}, "maximumWaitingRuns": {waiting}}}}}}}}}, "actions": {{}}}}"#
    );
    let options = LoadOptions { name: Some("w".into()), ..LoadOptions::default() };
    Definition::parse(text.as_bytes(), &options).expect("the definition is valid").workflow
}

fn run(number: u64) -> RunId {
    RunId::from_u64(number).expect("a small number is an id")
}

/// What a run does wrong with its permit, to show that the rules notice.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The permit does not return when the run ends.
    Leaks,
    /// The permit returns while the run is in progress.
    DropsEarly,
    /// The next process admits runs before those that were in progress have their permits again.
    OpensEarly,
}

/// Runs by id: those in progress and those that wait, with what they own.
struct World {
    gates: Arc<Gates>,
    workflow: Arc<Workflow>,
    limit: u32,
    inside: BTreeMap<RunId, Pass>,
    waiting: BTreeMap<RunId, Pass>,
    next: u64,
    fault: Fault,
}

impl World {
    fn new(fault: Fault) -> World {
        let workflow = workflow(2, 3);
        let gates = Arc::<Gates>::default();
        gates.deployed(&workflow);
        let (inside, waiting) = (BTreeMap::new(), BTreeMap::new());
        World { gates, workflow, limit: 2, inside, waiting, next: 1, fault }
    }

    fn take(&mut self, run: RunId, mut pass: Pass) {
        if pass.waits() {
            self.waiting.insert(run, pass);
        } else {
            if self.fault == Fault::DropsEarly {
                pass = Pass::Free;
            }
            self.inside.insert(run, pass);
        }
    }

    fn fire(&mut self, count: u64) -> Result<(), Full> {
        let runs: Vec<RunId> = (self.next..self.next + count).map(run).collect();
        self.next += count;
        let passes = self.gates.enter(&self.workflow, Some("t"), &runs, None)?;
        for (run, pass) in runs.into_iter().zip(passes) {
            self.take(run, pass);
        }
        Ok(())
    }

    fn end(&mut self, index: usize) {
        let run = *self.inside.keys().nth(index).expect("the run is in progress");
        let pass = self.inside.remove(&run).expect("the run is in progress");
        if self.fault == Fault::Leaks {
            std::mem::forget(pass);
        }
    }

    /// The runs that were admitted, in the order in which the rules admit them.
    fn admit(&mut self) -> Vec<RunId> {
        let mut admitted = Vec::new();
        for (run, pass) in &mut self.waiting {
            if pass.admitted().now_or_never().is_some() {
                admitted.push(*run);
            }
        }
        for run in &admitted {
            let pass = self.waiting.remove(run).expect("the run waited");
            self.take(*run, pass);
        }
        admitted
    }

    /// The process ends and the next one recovers, in an order that is not that of the ids.
    fn restart(&mut self, seed: u64) {
        let (inside, waiting) = (std::mem::take(&mut self.inside), std::mem::take(&mut self.waiting));
        self.gates = Arc::default();
        self.gates.deployed(&self.workflow);
        let mut rows: Vec<(RunId, bool)> = inside.into_keys().map(|run| (run, false)).collect();
        rows.extend(waiting.into_keys().map(|run| (run, true)));
        rows.sort_by_key(|(run, _)| mix(seed ^ run.as_u64()));
        let closed = (self.fault != Fault::OpensEarly).then(|| self.gates.close());
        for (run, waits) in rows {
            let pass = self.gates.take_again(&self.workflow, Some("t"), run, waits);
            self.take(run, pass);
        }
        drop(closed);
    }
}

/// Plays one sequence. Returns the first rule that was broken.
fn play(seed: u64, fault: Fault) -> Result<(), String> {
    let mut world = World::new(fault);
    let mut draw = seed;
    for step in 0..60 {
        draw = mix(draw.wrapping_add(step));
        let before = world.inside.len();
        let waited: Vec<RunId> = world.waiting.keys().copied().collect();
        match draw % 10 {
            0..=3 => {
                let refused = world.fire(1 + (draw >> 8) % 3).is_err();
                if refused && (world.waiting.len() < 3 || world.inside.len() < world.limit as usize) {
                    return Err(format!("step {step}: refused although there is room"));
                }
            }
            4..=6 if before > 0 => world.end((draw >> 8) as usize % before),
            7 if !waited.is_empty() => {
                world.waiting.remove(&waited[(draw >> 8) as usize % waited.len()]);
            }
            8 => {
                world.limit = 1 + (draw >> 8) as u32 % 4;
                world.workflow = workflow(world.limit, 3);
                world.gates.deployed(&world.workflow);
            }
            9 => world.restart(draw),
            _ => {}
        }
        let still: Vec<RunId> = waited.into_iter().filter(|run| world.waiting.contains_key(run)).collect();
        let admitted = world.admit();
        let oldest = admitted.iter().filter(|run| still.contains(run)).count();
        if still.iter().take(oldest).any(|run| !admitted.contains(run)) {
            return Err(format!("step {step}: {admitted:?} were admitted before {still:?}"));
        }
        let (inside, limit) = (world.inside.len(), world.limit as usize);
        if inside > limit.max(before) {
            return Err(format!("step {step}: {inside} runs are in progress, the limit is {limit}"));
        }
        if !world.waiting.is_empty() && inside < limit {
            return Err(format!("step {step}: runs wait although only {inside} of {limit} are in progress"));
        }
        if world.gates.waiting() != world.waiting.len() {
            return Err(format!("step {step}: the gate counts {} waiting runs", world.gates.waiting()));
        }
    }
    Ok(())
}

#[test]
fn the_limit_holds_no_place_is_lost_and_nobody_is_overtaken() {
    for seed in 0..4_000 {
        if let Err(broken) = play(mix(seed), Fault::None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn the_model_notices_a_permit_that_leaks_or_returns_early_and_gates_that_open_early() {
    for fault in [Fault::Leaks, Fault::DropsEarly, Fault::OpensEarly] {
        let noticed = (0..100).filter(|seed| play(mix(*seed), fault).is_err()).count();
        assert!(noticed > 90, "{fault:?} was noticed in {noticed} of 100 sequences");
    }
}

#[test]
fn a_permit_that_nobody_receives_goes_to_the_next_run() {
    let mut world = World::new(Fault::None);
    world.fire(4).unwrap();
    // The gate gives the third run its permit, but the run is cancelled before it sees it.
    world.end(0);
    drop(world.waiting.remove(&run(3)));
    assert_eq!(world.admit(), [run(4)]);
    drop(world);
}

#[test]
fn an_idle_gate_is_forgotten_and_a_full_one_refuses() {
    let (gates, workflow) = (Arc::<Gates>::default(), workflow(1, 1));
    let enter = |number: u64| gates.enter(&workflow, None, &[run(number)], None);
    let (first, second) = (enter(1).unwrap(), enter(2).unwrap());
    assert!(!first[0].waits() && second[0].waits());
    assert_eq!(enter(3).unwrap_err().limit.runs, 1);
    assert!(gates.reserve(&workflow, None).is_none());
    drop((first, second));
    let permit = gates.reserve(&workflow, None).expect("nobody is inside");
    assert!(enter(4).unwrap()[0].waits());
    drop(permit);
    assert!(gates.lock().gates.is_empty());
}
