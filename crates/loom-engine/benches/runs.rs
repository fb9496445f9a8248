//! The cost of the engine itself: whole runs in memory on one thread, with all events.
//!
//! `cargo bench -p loom-engine`. Each row is the median of rounds of a quarter of a second.

use std::{hint::black_box, sync::Arc, time::Duration};

use loom_definition::{Definition, LoadOptions, Workflow};
use loom_engine::{
    Environment, RunId, RunStart,
    event::{EffectResult, Outcome, RetryHint},
    simulate::Simulation,
};
use loom_expression::{Object, Timestamp, Value};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(250);

fn main() {
    // `cargo test` runs benches too, with `--test`; then one run of each is enough.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    // `-- --case Foreach --count 200` runs one case 200 times without measuring: for a profiler.
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let count: Option<u32> = option("--count").and_then(|count| count.parse().ok());
    let wanted = option("--case").unwrap_or_default();
    println!("{:<34} {:>12} {:>12} {:>10}", "in memory, one thread", "runs/s", "µs/run", "spread");
    let cases: [(&str, String); 6] = [
        ("chain of 10 Compose", chain(10, "")),
        ("Foreach of 1,000 Compose", foreach(1_000)),
        ("Until of 100 iterations", until(100)),
        ("fan-out of 50 joined", fan_out(50)),
        ("chain of 10, all four policies", chain(10, POLICIES)),
        ("chain of 300 Compose", chain(300, "")),
    ];
    for (name, text) in cases.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let workflow = load(&text);
        if let Some(count) = count {
            (0..count).for_each(|_| run(&workflow));
            continue;
        }
        measure(name, quick, || run(&workflow));
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn measure(name: &str, quick: bool, mut work: impl FnMut()) {
    work();
    if quick {
        println!("{name:<34} ran");
        return;
    }
    let mut per_second: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = std::time::Instant::now();
            let mut count = 0u32;
            while began.elapsed() < ROUND {
                for _ in 0..8 {
                    work();
                }
                count += 8;
            }
            f64::from(count) / began.elapsed().as_secs_f64()
        })
        .collect();
    per_second.sort_by(f64::total_cmp);
    let median = per_second[ROUNDS / 2];
    let spread = (per_second[ROUNDS - 1] - per_second[0]) / median * 100.0;
    println!("{name:<34} {median:>12.0} {:>12.2} {spread:>9.0}%", 1e6 / median);
}

fn run(workflow: &Arc<Workflow>) {
    thread_local! {
        static ENVIRONMENT: Arc<Environment> = Arc::new(Environment::default());
    }
    let environment = ENVIRONMENT.with(Arc::clone);
    let start = Arc::new(RunStart {
        run: RunId::MIN,
        seed: 1,
        parameters: Vec::new(),
        trigger: Value::from(Object::new()),
        workflow: Value::from(Object::new()),
        tracking_id: Arc::from("bench"),
        wants_response: false,
        trace: None,
        depth: 0,
    });
    let mut simulation =
        Simulation::new(Arc::clone(workflow), environment, Timestamp::from_unix_millis(1_700_000_000_000));
    let status = simulation.play(start, 1_000_000, |_| EffectResult::Done {
        outcome: Outcome::ok(None),
        hint: RetryHint::default(),
    });
    assert_eq!(status, Some(loom_definition::RunStatus::Succeeded));
    black_box(simulation.events().len());
}

fn load(text: &str) -> Arc<Workflow> {
    Definition::parse(text.as_bytes(), &LoadOptions::default())
        .expect("the definition of the bench is valid")
        .workflow
}

fn definition(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#)
}

const POLICIES: &str = r#", "timeout": 60000, "retryPolicy": {"maxAttempts": 3},
    "circuitBreaker": {"name": "bench"}, "rateLimit": {"requests": 1000000000, "per": "second", "name": "bench"}"#;

fn chain(length: usize, extra: &str) -> String {
    let mut actions = vec![format!(r#""A0": {{"type": "Compose", "inputs": 1, "runAfter": {{}}{extra}}}"#)];
    for index in 1..length {
        let before = index - 1;
        actions.push(format!(
            r#""A{index}": {{"type": "Compose", "inputs": "@add(outputs('A{before}'), 1)",
                "runAfter": {{"A{before}": ["Succeeded"]}}{extra}}}"#
        ));
    }
    definition(&actions.join(","))
}

fn foreach(count: usize) -> String {
    definition(&format!(
        r#""Each": {{"type": "Foreach", "foreach": "@range(0, {count})", "runAfter": {{}},
            "actions": {{"One": {{"type": "Compose", "inputs": "@items('Each')", "runAfter": {{}}}}}}}}"#
    ))
}

fn until(rounds: usize) -> String {
    definition(&format!(
        r#""N": {{"type": "InitializeVariable", "runAfter": {{}},
             "inputs": {{"variables": [{{"name": "n", "type": "integer", "value": 0}}]}}}},
           "Loop": {{"type": "Until", "expression": "@equals(variables('n'), {rounds})",
             "limit": {{"count": 5000, "timeout": "PT1H"}}, "runAfter": {{"N": ["Succeeded"]}},
             "actions": {{"Count": {{"type": "IncrementVariable", "inputs": {{"name": "n", "value": 1}}, "runAfter": {{}}}}}}}}"#
    ))
}

fn fan_out(width: usize) -> String {
    let mut actions: Vec<String> = (0..width)
        .map(|index| format!(r#""B{index}": {{"type": "Compose", "inputs": {index}, "runAfter": {{}}}}"#))
        .collect();
    let after: Vec<String> = (0..width).map(|index| format!(r#""B{index}": ["Succeeded"]"#)).collect();
    actions.push(format!(
        r#""Join": {{"type": "Compose", "inputs": "@outputs('B0')", "runAfter": {{{}}}}}"#,
        after.join(",")
    ));
    definition(&actions.join(","))
}
