//! Slices of a clock that is moved by the test: no run makes decisions for longer than its slice.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use loom_definition::{Definition, LoadOptions};
use loom_expression::{Timestamp, Value};

use super::*;
use crate::{
    environment::Environment,
    event::{Command, Event, RunId, RunStart},
    machine::Run,
};

/// Each reading takes so many microseconds.
struct Ticking {
    micros: u64,
    reads: AtomicU64,
}

impl Ticking {
    fn new(micros: u64) -> Ticking {
        Ticking { micros, reads: AtomicU64::new(0) }
    }
}

impl Stopwatch for Ticking {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.micros * self.reads.fetch_add(1, Ordering::Relaxed))
    }
}

/// A run of these actions that has started and made no decision.
fn begun(actions: &str) -> Run {
    let text = format!(r#"{{"triggers": {{"t": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#);
    let workflow = Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap().workflow;
    let mut run = Run::new(Arc::clone(&workflow), Arc::new(Environment::default()));
    let start = Arc::new(RunStart {
        run: RunId::MIN,
        seed: 1,
        parameters: Vec::new(),
        trigger: Value::NULL,
        workflow: Value::NULL,
        tracking_id: "t".into(),
        wants_response: false,
        trace: None,
        depth: 0,
    });
    run.handle_some(Command::Start(start), Timestamp::MIN, 0);
    run
}

const LOOP: &str = r#""N": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "n", "type": "integer", "value": 0}]}, "runAfter": {}},
    "Count": {"type": "Until", "expression": "@equals(variables('n'), 4900)", "limit": {"count": 5000}, "runAfter": {"N": ["Succeeded"]},
        "actions": {"More": {"type": "IncrementVariable", "inputs": {"name": "n", "value": 1}, "runAfter": {}}}}"#;

/// Takes more than a hundred thousand steps.
const HEAVY: &str = r#""Heavy": {"type": "Select", "inputs": {"from": "@range(0, 30000)", "select": "@add(item(), 1)"}, "runAfter": {}},
    "Then": {"type": "Compose", "inputs": "@length(body('Heavy'))", "runAfter": {"Heavy": ["Succeeded"]}}"#;

#[test]
fn a_slice_ends_with_its_time_and_the_run_continues_in_the_next() {
    for (micros, most) in [(100, 25 * 16), (1_000, 5 * 16)] {
        let clock = Ticking::new(micros);
        let mut run = begun(LOOP);
        let mut slices = 0;
        loop {
            let before = run.events().len();
            let mut slice = Slice::short(&clock);
            let progress = run.advance_in(Timestamp::MIN.into(), &mut slice);
            slices += 1;
            // A decision of this workflow has at most four events.
            assert!(run.events().len() - before <= 4 * most, "{} events", run.events().len() - before);
            if progress == Progress::Idle {
                break;
            }
            assert_eq!(progress, Progress::More);
        }
        assert!(run.state().status().is_final());
        assert!(slices > 9_000 / most, "{slices}");
    }
    // The control: a clock that does not advance ends no slice, and only the number of decisions does.
    let mut run = begun(LOOP);
    let frozen = Ticking::new(0);
    let progress = run.advance_in(Timestamp::MIN.into(), &mut Slice::short(&frozen));
    assert_eq!(progress, Progress::More);
    assert!(run.events().len() > DECISIONS_MAX as usize / 2);
}

#[test]
fn a_long_decision_is_dropped_and_made_again_with_the_same_result() {
    let mut run = begun(HEAVY);
    let clock = Ticking::new(0);
    let at_once = || {
        let mut run = begun(HEAVY);
        run.advance(Timestamp::MIN, usize::MAX);
        run.take_events()
    };
    let before = run.events().len();
    for _ in 0..3 {
        assert_eq!(run.advance_in(Timestamp::MIN.into(), &mut Slice::short(&clock)), Progress::Long);
        assert_eq!(run.events().len(), before, "as if it had not been decided");
    }
    let mut long = Slice::long(&clock);
    assert_eq!(run.advance_in(Timestamp::MIN.into(), &mut long), Progress::Idle);
    assert!(long.was_long());
    assert_eq!(run.take_events(), at_once());
}

/// A command whose decision takes long is kept, and commands after it wait for it.
#[test]
fn a_long_decision_about_a_command_keeps_the_order_of_commands() {
    let text = r#""Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {},
        "trackedProperties": {"sum": "@length(string(range(0, 30000)))"}}"#;
    let mut run = begun(text);
    let clock = Ticking::new(0);
    let now = Timestamp::MIN;
    assert_eq!(run.advance_in(now.into(), &mut Slice::short(&clock)), Progress::Idle);
    let (timer, _) = run.state().timers().next().expect("it waits");
    let count = run.events().len();
    let progress = run.handle_in(Command::TimerFired(timer), now.into(), &mut Slice::short(&clock));
    assert_eq!((progress, run.events().len()), (Progress::Long, count));
    // Without the order, the run would be suspended before its timer fires.
    assert_eq!(run.handle_in(Command::Suspend, now.into(), &mut Slice::short(&clock)), Progress::Long);
    run.advance_in(now.into(), &mut Slice::long(&clock));
    let place = |wanted: fn(&Event) -> bool| run.events().iter().position(wanted).expect("it has happened");
    let tracked = place(|event| matches!(event, Event::Tracked { .. }));
    assert!(tracked < place(|event| matches!(event, Event::Suspended { .. })));
}

/// Nothing is counted twice, and nothing is left over for the next decision.
#[test]
fn each_decision_has_its_own_steps() {
    let each = |count: u32| {
        let actions: Vec<String> = (0..count)
            .map(|n| format!(r#""A{n}": {{"type": "Compose", "inputs": "@length(string(range(0, 3000)))", "runAfter": {{}}}}"#))
            .collect();
        actions.join(",")
    };
    let clock = Ticking::new(0);
    let mut run = begun(&each(20));
    let spent = Cell::new(0);
    while run.advance_in(Timestamp::MIN.into(), &mut Slice::short(&clock)) != Progress::Idle {
        spent.set(spent.get() + 1);
        assert!(spent.get() < 100);
    }
    assert!(run.state().status().is_final(), "each is short, though all together are long");
}
