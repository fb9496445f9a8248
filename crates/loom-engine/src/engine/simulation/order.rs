//! Signals, deadlines and a cancellation at drawn times, while processes come and go: a run receives them in the order of their
//! times, a signal once, and an order before everything that is older.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, Status, Workflow};
use loom_expression::Value;
use loom_store::{MemoryStore, Store, contract::Seeded};
use tokio::time::{Instant, sleep_until};

use super::{Break, Lives, begin, park_after, parse, play, whole};
use crate::{Engine, RunId, RunRequest, Signal, Started, clock::TokioClock, event::Command, orders::Order};

/// The waits of a run, in order: each begins when the one before has ended.
const WAITS: [&str; 3] = ["First", "Second", "Third"];

/// What happens to one run, in milliseconds from its start. No two things happen at the same time.
#[derive(Debug)]
struct Plan {
    lives: Lives,
    /// The deadlines of the three waits, from the beginning of each.
    limits: [u64; 3],
    signals: Vec<u64>,
    cancel: Option<u64>,
}

impl Plan {
    fn draw(random: &mut Seeded) -> Plan {
        let count = random.below(4);
        let lives = Lives::draw(random, count, 40);
        let limits = [(); 3].map(|()| 1_000 * (5 + random.below(60)));
        let mut signals: Vec<u64> = (0..random.below(4)).map(|_| 100 * random.below(1_200)).collect();
        signals.sort_unstable();
        // Limits are whole seconds, so no signal is sent at a deadline that another one has set.
        let signals = signals.into_iter().zip(1..).map(|(at, number)| at + 7 * number).collect();
        let cancel = random.one_in(4).then(|| 100 * random.below(1_500) + 13);
        Plan { lives, limits, signals, cancel }
    }

    fn workflow(&self) -> Arc<Workflow> {
        let wait = |place: usize| {
            let (name, limit) = (WAITS[place], self.limits[place] / 1_000);
            let after = match place.checked_sub(1) {
                None => String::new(),
                Some(before) => format!(r#""{}": ["Succeeded", "TimedOut"]"#, WAITS[before]),
            };
            format!(
                r#""{name}": {{"type": "WaitForSignal", "inputs": {{"name": "go"}}, "limit": {{"timeout": "PT{limit}S"}}, "runAfter": {{{after}}}}}"#
            )
        };
        let done =
            r#""Done": {"type": "Compose", "inputs": 1, "runAfter": {"Third": ["Succeeded", "TimedOut"]}}"#;
        let actions = [wait(0), wait(1), wait(2), done.to_owned()].join(",");
        parse(&format!(r#"{{"triggers": {{"t": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#))
    }

    /// What each wait receives: a signal, by its number, or nothing before its deadline. Ends with the wait that was cancelled.
    fn expected(&self) -> Vec<Received> {
        let (mut now, mut next, mut all) = (0, 0, Vec::new());
        let cancelled = self.cancel.map(|at| (self.lives.next_up(at), !self.lives.is_up(at)));
        for limit in self.limits {
            let deadline = now + limit;
            let signal = self.signals.get(next).copied().filter(|sent| *sent < deadline);
            let happens = self.lives.next_up(signal.unwrap_or(deadline)).max(now);
            // An order that was left while nobody was running comes before everything else that the next process finds.
            let is_cancelled =
                cancelled.is_some_and(|(at, was_left)| at < happens || (was_left && at == happens));
            if is_cancelled {
                all.push(Received::Cancelled);
                return all;
            }
            all.push(signal.map_or(Received::Nothing, |_| Received::Signal(next)));
            next += usize::from(signal.is_some());
            now = happens;
        }
        all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    Signal(usize),
    Nothing,
    Cancelled,
}

enum Step {
    Start,
    Stop,
    Signal(usize),
    Cancel,
}

fn build(store: &Arc<dyn Store>, clock: TokioClock, after: Option<Duration>, fault: Break) -> Engine {
    let builder = Engine::builder().store(Arc::clone(store)).clock(Arc::new(clock)).seed(1);
    let builder = match after {
        Some(after) => builder.park_after(after),
        None => builder,
    };
    let engine = builder.build();
    fault(&engine.shared.faults);
    engine
}

async fn simulate(seed: u64, fault: Break) -> Result<(), String> {
    let mut random = Seeded::new(seed);
    let plan = Plan::draw(&mut random);
    let workflow = plan.workflow();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let clock = TokioClock::starting_at(begin());
    let began = Instant::now();
    let mut steps: Vec<(u64, Step)> = Vec::new();
    for (start, stop) in &plan.lives.0 {
        steps.push((*start, Step::Start));
        steps.push((*stop, Step::Stop));
    }
    steps.retain(|(at, _)| *at != u64::MAX);
    steps.extend(plan.signals.iter().enumerate().map(|(number, at)| (*at, Step::Signal(number))));
    steps.extend(plan.cancel.map(|at| (at, Step::Cancel)));
    steps.sort_by_key(|(at, _)| *at);
    let (mut process, mut run) = (None::<Engine>, None::<RunId>);
    for (at, step) in steps {
        sleep_until(began + Duration::from_millis(at)).await;
        match step {
            Step::Start => {
                let engine = build(&store, clock, park_after(&mut random), fault);
                engine.recover(None).await.map_err(|error| error.to_string())?;
                if run.is_none() {
                    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
                    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else {
                        return Err("no run started".to_owned());
                    };
                    runs[0].accepted().await;
                    run = Some(runs[0].id);
                }
                process = Some(engine);
            }
            Step::Stop => {
                if let Some(engine) = process.take() {
                    engine.shut_down().await;
                }
            }
            Step::Signal(number) => {
                let Some(run) = run else { return Err("no run".to_owned()) };
                let body = Some(Value::from(number as i64));
                let signal = Signal { name: "go".into(), body, idempotency_key: None };
                // Refused once the run has ended.
                if let Some(engine) = &process {
                    drop(engine.signal(run, signal).await);
                } else {
                    let other = build(&store, clock, None, whole);
                    other.stand_by().await.map_err(|error| error.to_string())?;
                    other.signal(run, signal).await.ok();
                    other.shut_down().await;
                }
            }
            Step::Cancel => {
                let Some(run) = run else { return Err("no run".to_owned()) };
                if let Some(engine) = &process {
                    engine.command(run, Command::Cancel).await;
                } else {
                    let other = build(&store, clock, None, whole);
                    other.leave(run, Order::Cancel).await.map_err(|error| error.to_string())?;
                    other.shut_down().await;
                }
            }
        }
    }
    tokio::time::sleep(Duration::from_hours(1)).await;
    let (Some(engine), Some(run)) = (process, run) else { return Err("no process".to_owned()) };
    let received = received(&engine, run).await?;
    engine.shut_down().await;
    let expected = plan.expected();
    if received == expected {
        return Ok(());
    }
    Err(format!("the waits end with {received:?}, expected {expected:?} from {plan:?}"))
}

/// What each wait has received, up to the one that was cancelled.
async fn received(engine: &Engine, run: RunId) -> Result<Vec<Received>, String> {
    let (_, state) = engine.state_of(run).await.map_err(|error| error.to_string())?.ok_or("no run")?;
    if !state.status().is_final() {
        return Err(format!("the run is {:?} in the end", state.status()));
    }
    let (_, history) = engine.history(run).await.map_err(|error| error.to_string())?.ok_or("no run")?;
    let mut all = Vec::new();
    for name in WAITS {
        let action = history.workflow().find_action(name).ok_or("no such wait")?;
        let Some(occurrence) = history.occurrences(action).first() else { break };
        all.push(match occurrence.status {
            Some(Status::Succeeded) => {
                let body = occurrence.outputs.as_ref().and_then(|outputs| outputs.get("body").cloned());
                let number = body.as_ref().and_then(Value::as_i64).ok_or("the signal has a number")?;
                Received::Signal(usize::try_from(number).map_err(|error| error.to_string())?)
            }
            Some(Status::TimedOut) => Received::Nothing,
            _ if state.status() == RunStatus::Cancelled => {
                all.push(Received::Cancelled);
                return Ok(all);
            }
            other => return Err(format!("{name} is {other:?}")),
        });
    }
    Ok(all)
}

#[test]
fn a_run_receives_what_happens_in_the_order_of_its_times() {
    let broken = play(0..3_000, |seed| simulate(seed, whole));
    assert!(broken.is_empty(), "{} of 3,000: {}", broken.len(), broken[0]);
}

/// The control: an engine that handles what happens as it comes.
#[test]
fn seeds_notice_when_times_are_ignored() {
    let broken = play(0..300, |seed| simulate(seed, |faults| faults.ignores_times.on()));
    assert!(broken.len() > 10, "{broken:?}");
}
