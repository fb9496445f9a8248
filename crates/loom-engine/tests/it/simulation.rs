//! Random workflows in an unreliable environment: whatever the results of calls, every history obeys the language's laws.
//!
//! Uses the real engine with its policies, in paused time and in memory. `LOOM_SIM_SEED` repeats one seed; `LOOM_SIM_SEEDS` sets
//! the number of seeds.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use loom_engine::{Command, Engine, Environment, Event, RunRequest, Started, Watcher, clock::TokioClock};
use loom_resilience::{Clock, Policy, ResilienceRegistry};
use loom_store::contract::Seeded;

use crate::{
    flows::{self, Taste},
    laws::{self, Time},
    seeds,
    support::{load, now},
    world::{Seen, World},
};

/// The maximum duration of a simulated run.
const RUN_MAX: Duration = Duration::from_hours(5);

#[test]
fn every_history_obeys_the_laws() {
    seeds::play(seeds::seeds(600), |seed| simulate(seed, str::to_owned));
}

/// The controls: an engine that executes a definition without one of its limits breaks a law of the definition.
#[test]
fn seeds_notice_when_a_limit_is_not_kept() {
    let at_once = |text: &str| {
        (1..=4).fold(text.to_owned(), |text, count| {
            text.replace(&format!(r#""repetitions": {count}}}"#), r#""repetitions": 50}"#)
        })
    };
    let attempts = |text: &str| {
        let more = r#""retryPolicy": {"type": "fixed", "count": 4, "interval": "PT6S"}"#;
        ["{\"type\": \"none\"}", r#"{"type": "fixed", "count": 1, "interval": "PT6S"}"#]
            .into_iter()
            .fold(text.to_owned(), |text, fewer| text.replace(&format!(r#""retryPolicy": {fewer}"#), more))
    };
    let order = |text: &str| {
        ["\"Succeeded\"", r#""Failed", "TimedOut""#, r#""Skipped", "Failed""#, r#""Succeeded", "TimedOut""#]
            .into_iter()
            .fold(text.to_owned(), |text, some| {
                text.replace(&format!(": [{some}]"), r#": ["Succeeded", "Failed", "Skipped", "TimedOut"]"#)
            })
    };
    let limits: [(&str, Executed, usize); 3] =
        [("concurrency", at_once, 3), ("attempts", attempts, 10), ("runAfter", order, 10)];
    for (name, without, least) in limits {
        let failing = seeds::failing(100, |seed| simulate(seed, without));
        assert!(failing >= least, "{failing} of 100 seeds notice that {name} has no effect");
    }
}

/// Makes the definition that is executed from that whose laws are checked.
type Executed = fn(&str) -> String;

async fn simulate(seed: u64, executed: Executed) {
    let mut random = Seeded::new(seed);
    let taste =
        Taste { actions: 6 + random.below(30) as u32, depth: 3, guards: true, ends: true, people: false };
    let text = flows::definition(&mut random, taste);
    let (workflow, lawful) = (load(&executed(&text)), load(&text));
    let world = World::new(seed, None);
    let seen = Arc::new(Seen::default());
    let registry = ResilienceRegistry::builder().defaults(Policy::none()).clock(Clock::tokio()).build();
    let builder = Engine::builder()
        .clock(Arc::new(TokioClock::starting_at(now())))
        .registry(Arc::new(registry.expect("a policy without parts holds no contradiction")))
        .watcher(Arc::clone(&seen) as Arc<dyn Watcher>)
        .seed(seed)
        .environment(Environment { run_duration_max: RUN_MAX, ..Environment::default() });
    let engine = world.serve(builder).build();
    engine.deploy(load_child(), Vec::new());
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    disturb(&mut random, &world, &runs[0]);
    let report = tokio::select! {
        biased;
        report = tokio::time::timeout(RUN_MAX * 3, runs[0].ended()) => report.expect("the run ends"),
        () = world.act(&engine) => None,
    };
    let report = report.expect("the run ends with a report");
    // Children of a cancelled parent continue to their own end.
    let mut patience = 0;
    while engine.runs_in_progress() > 0 && patience < 400 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        patience += 1;
    }
    assert_eq!((engine.runs_in_progress(), world.live()), (0, 0), "nothing is left over\n{text}");
    world.closed.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_hours(100)).await;
    let runs = std::mem::take(&mut *seen.0.lock().unwrap());
    assert!(runs.contains_key(&report.id));
    for (id, run) in &runs {
        let events: Vec<Event> = run.events.iter().map(|(_, event)| event.clone()).collect();
        let ran = run.workflow.as_ref().expect("it was seen");
        let ran = if Arc::ptr_eq(ran, &workflow) { &lawful } else { ran };
        if let Err(broken) = laws::check(ran, &events, Time::Steady) {
            panic!("run {id}: {broken}\n{}", if *id == report.id { &text } else { flows::CHILD });
        }
        if let Err(differs) = run.replay_equals_live(&events) {
            panic!("run {id}: {differs}");
        }
    }
    engine.shut_down().await;
}

/// The child workflow.
pub(crate) fn load_child() -> Arc<loom_definition::Workflow> {
    let options = loom_definition::LoadOptions {
        name: Some(Arc::from("child")),
        ..loom_definition::LoadOptions::default()
    };
    loom_definition::Definition::parse(flows::CHILD.as_bytes(), &options)
        .expect("the definition is valid")
        .workflow
}

/// Suspends and resumes some runs, and cancels a few.
fn disturb(random: &mut Seeded, world: &World, run: &loom_engine::RunHandle) {
    let within = |random: &mut Seeded, seconds| Duration::from_secs(random.below(seconds));
    if random.one_in(5) {
        let at = within(random, 900);
        world.send_later(at, run.id, Command::Suspend);
        world.send_later(at + within(random, 3_000), run.id, Command::Resume);
    }
    if random.one_in(10) {
        world.send_later(within(random, 2_000), run.id, Command::Cancel);
    }
}
