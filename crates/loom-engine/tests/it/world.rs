//! An unreliable environment, by seed: services that are slow, fail, throttle or never respond, callbacks that arrive early, late,
//! twice or never, and operators who suspend, resume and cancel runs.
//!
//! A service's response depends on the seed and the request, never on the order of requests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use loom_definition::{Status, model::EffectKind};
use loom_engine::{
    Command, Engine, EngineBuilder, Event, Outcome, RunId, RunState, Watcher,
    event::{EffectResult, ErrorInfo, Phase, RetryHint},
    journal,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Array, Object, Timestamp, Value};
use loom_store::contract::Seeded;
use tokio::{sync::Notify, time::Instant};

use crate::{
    laws::is_limited,
    support::{json, unavailable},
};

/// Called for each call before it is made.
type Witness = dyn Fn(&Call) + Send + Sync;

/// Services, callers and operators of one simulation.
pub(crate) struct World {
    seed: u64,
    /// Calls in progress, except requests to unsubscribe.
    live: AtomicUsize,
    /// The process is dead, or should have nothing left to ask.
    pub(crate) closed: AtomicBool,
    witness: Option<Box<Witness>>,
    stimuli: Mutex<BTreeMap<(Instant, u64), Stimulus>>,
    given: Mutex<u64>,
    news: Notify,
}

/// A command to a run, and how often it has been sent.
type Stimulus = (RunId, Command, u32);

/// How often a callback is sent again without an acknowledgement.
const SENDINGS_MAX: u32 = 200;

impl World {
    pub(crate) fn new(seed: u64, witness: Option<Box<Witness>>) -> Arc<World> {
        Arc::new(World {
            seed,
            live: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            witness,
            stimuli: Mutex::default(),
            given: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Registers this environment as the engine's handlers.
    pub(crate) fn serve(self: &Arc<World>, builder: EngineBuilder) -> EngineBuilder {
        let handler = || Arc::clone(self) as Arc<dyn ActionHandler>;
        builder.handler(EffectKind::Http, handler()).handler(EffectKind::HttpWebhook, handler())
    }

    /// The number of calls in progress, except requests to unsubscribe.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Random numbers that are a function of the request.
    fn draw(&self, key: &str, phase: Phase, attempt: u32, polled: u64) -> Seeded {
        let mut text = Vec::from(self.seed.to_le_bytes());
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(&[phase as u8, attempt as u8, polled as u8]);
        let hash = loom_store::ContentHash::of(&text);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Seeded::new(u64::from_le_bytes(first))
    }

    /// Sends a command to a run after a delay.
    pub(crate) fn send_later(&self, after: Duration, run: RunId, command: Command) {
        self.enter(after, run, command, 0);
    }

    fn enter(&self, after: Duration, run: RunId, command: Command, sent: u32) {
        let mut given = self.given.lock().unwrap();
        *given += 1;
        self.stimuli.lock().unwrap().insert((Instant::now() + after, *given), (run, command, sent));
        self.news.notify_one();
    }

    /// Sends pending commands, for as long as it is polled.
    pub(crate) async fn act(&self, engine: &Engine) {
        loop {
            let next = self.stimuli.lock().unwrap().first_key_value().map(|(key, _)| key.0);
            let far = Instant::now() + Duration::from_hours(10_000);
            tokio::select! {
                biased;
                () = self.news.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or(far)) => {
                    let first = self.stimuli.lock().unwrap().first_key_value().map(|(key, what)| (*key, what.clone()));
                    let Some((key, (run, command, sent))) = first else { continue };
                    let told = engine.command(run, command.clone()).await;
                    // Only now: a process that crashes in the meantime has not received it.
                    self.stimuli.lock().unwrap().remove(&key);
                    // A callback is repeated until it is acknowledged.
                    if !told && matches!(command, Command::Callback { .. }) && sent < SENDINGS_MAX {
                        self.enter(Duration::from_secs(20), run, command, sent + 1);
                    }
                }
            }
        }
    }

    /// The result of a call and its delay; none for a call that never ends.
    fn answer(&self, call: &Call) -> Option<(Duration, EffectResult)> {
        let polled = call.resume.as_ref().and_then(Value::as_i64).unwrap_or(0) as u64;
        let mut random = self.draw(&call.idempotency_key, call.phase, call.attempt, polled);
        let soon = Duration::from_millis(random.below(4_000));
        if call.phase == Phase::Unsubscribe {
            return Some((soon, succeeded(200)));
        }
        let patience = Duration::from_secs(1 + random.below(90));
        let answered = |result| Some((soon, result));
        match random.below(100) {
            0..10 => answered(much(random.below(3))),
            10..50 => answered(succeeded(200)),
            50..56 => Some((Duration::ZERO, succeeded(200))),
            56..66 => answered(unavailable()),
            66..72 => answered(throttled(429, patience)),
            72..77 => answered(throttled(503, patience)),
            77..82 => answered(failed(404, false, None)),
            82..88 if call.phase == Phase::Call && polled < 3 => {
                let outcome = Outcome::ok(Some(json(r#"{"statusCode": 202}"#)));
                answered(EffectResult::Pending {
                    outcome,
                    after: patience,
                    resume: Value::from(polled as i64 + 1),
                })
            }
            82..90 => Some((patience * 20, succeeded(200))),
            90..93 => {
                let mut outcome = Outcome::failed("504", ErrorInfo::new("GatewayTimeout", "too slow"));
                outcome.status = Status::TimedOut;
                answered(EffectResult::Done {
                    outcome,
                    hint: RetryHint { transient: true, ..RetryHint::default() },
                })
            }
            // Without a timeout, only the run's maximum duration ends it, so it is rare.
            93..97 if is_limited(&call.workflow, call.action) || random.one_in(15) => None,
            _ => answered(succeeded(200)),
        }
    }

    /// Draws when the callbacks to a subscription arrive: before its response, after it, twice, or never.
    fn call_back(&self, call: &Call) {
        let mut random = self.draw(&call.idempotency_key, call.phase, call.attempt, 99);
        let times = [0, 1, 1, 1, 2][random.below(5) as usize];
        for _ in 0..times {
            let after = if random.one_in(4) { random.below(2) } else { random.below(600_000) };
            let payload = json(r#"{"body": "called back"}"#);
            let command = Command::Callback { effect: call.effect, payload };
            self.send_later(Duration::from_millis(after), call.run, command);
        }
    }
}

impl ActionHandler for World {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        if self.closed.load(Ordering::SeqCst) {
            assert!(call.phase == Phase::Unsubscribe, "a call after the end: {call:?}");
        }
        if let Some(witness) = &self.witness {
            witness(call);
        }
        if call.phase == Phase::Subscribe {
            self.call_back(call);
        }
        let answer = self.answer(call);
        let live = (call.phase != Phase::Unsubscribe).then(|| Live::one_more(&self.live));
        Box::pin(async move {
            let _counted = live;
            match answer {
                None => std::future::pending().await,
                Some((after, result)) => {
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                    result
                }
            }
        })
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let uri = inputs.get("uri").and_then(Value::as_str)?;
        uri.get(..9).map(Arc::from)
    }
}

/// Counts a call for as long as its future exists.
struct Live<'a>(&'a AtomicUsize);

impl<'a> Live<'a> {
    fn one_more(count: &'a AtomicUsize) -> Live<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Live(count)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn succeeded(status: u16) -> EffectResult {
    let outcome = Outcome::ok(Some(json(&format!(r#"{{"statusCode": {status}, "body": "{status}"}}"#))));
    EffectResult::Done { outcome, hint: RetryHint::default() }
}

/// A response that is stored separately from the journal: a long string, an array with long items, or one of many small items.
fn much(kind: u64) -> EffectResult {
    let body = match kind {
        0 => Value::from("much ".repeat(1_700)),
        1 => Value::from(Array::from(vec![Value::from("more ".repeat(1_700)); 2])),
        _ => (0..2_900).map(Value::from).collect::<Array>().into(),
    };
    let mut outputs = Object::new();
    outputs.insert("statusCode", 200);
    outputs.insert("body", body);
    EffectResult::Done { outcome: Outcome::ok(Some(outputs.into())), hint: RetryHint::default() }
}

fn failed(status: u16, transient: bool, after: Option<Duration>) -> EffectResult {
    let mut outcome = Outcome::failed(status.to_string(), ErrorInfo::new("Failed", "the world says no"));
    outcome.outputs = Some(json(&format!(r#"{{"statusCode": {status}}}"#)));
    EffectResult::Done { outcome, hint: RetryHint { transient, after, ..RetryHint::default() } }
}

fn throttled(status: u16, patience: Duration) -> EffectResult {
    failed(status, true, Some(patience))
}

/// What was reported of each run, with the live state at some points.
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Mutex<BTreeMap<RunId, SeenRun>>);

#[derive(Default)]
pub(crate) struct SeenRun {
    pub(crate) workflow: Option<Arc<loom_definition::Workflow>>,
    /// Each with its position in the history.
    pub(crate) events: Vec<(u64, Event)>,
    /// The state after a number of events, as text.
    pub(crate) states: Vec<(u64, String)>,
    batches: usize,
}

/// One state in this many is kept, and the last one.
const STATES_EVERY: usize = 9;

impl Watcher for Seen {
    fn events(&self, state: &RunState, events: &[Event]) {
        let run = state.start().expect("nothing is shown before the start").run;
        let mut runs = self.0.lock().unwrap();
        let seen = runs.entry(run).or_default();
        seen.workflow.get_or_insert_with(|| Arc::clone(state.workflow()));
        let first = state.seq() - events.len() as u64;
        seen.events.extend(events.iter().enumerate().map(|(n, event)| (first + n as u64, event.clone())));
        seen.batches += 1;
        if seen.batches.is_multiple_of(STATES_EVERY) || state.status().is_final() {
            seen.states.push((state.seq(), words(state)));
        }
    }
}

/// A state as text, without its workflow and its list of work: a replayed list also contains stale entries, which are checked
/// when they are taken.
fn words(state: &RunState) -> String {
    let words = format!("{state:?}");
    let start = words.find("}, start: ").expect("a state tells its start");
    let ready = words.rfind(", ready: [").expect("a state tells what is ready");
    let effects = words.rfind("], effects: ").expect("a state tells its calls");
    format!("{}{}", &words[start..ready], &words[effects..])
}

impl SeenRun {
    /// Checks that the history survives its encoding and folds to the states that were reported live.
    pub(crate) fn replay_equals_live(&self, history: &[Event]) -> Result<(), String> {
        let workflow = self.workflow.as_ref().ok_or("nothing was seen of the run")?;
        let mut bytes = Vec::new();
        journal::encode(history, &mut bytes);
        let history = journal::decode(&bytes).map_err(|error| error.to_string())?;
        for (seq, live) in &self.states {
            let part = &history[..usize::try_from(*seq).unwrap()];
            let environment = Arc::new(loom_engine::Environment::default());
            let mut state = RunState::new(Arc::clone(workflow));
            state.replay(part).map_err(|error| error.to_string())?;
            let mut run = loom_engine::Run::resume(state, environment);
            // Live states are reported when no work is ready; replayed ones must have none either. A resumption is reported
            // before anything follows from it.
            if !matches!(part.last(), Some(Event::Resumed { .. })) {
                run.advance(Timestamp::MIN, usize::MAX);
            }
            if let Some(event) = run.events().first() {
                return Err(format!("after {seq} events work is ready: {event:?}"));
            }
            let replayed = words(run.state());
            if let Some(place) = replayed.bytes().zip(live.bytes()).position(|(left, right)| left != right) {
                let around =
                    |text: &str| text[place.saturating_sub(400)..(place + 100).min(text.len())].to_owned();
                let (replayed, live) = (around(&replayed), around(live));
                return Err(format!("after {seq} events the state is\n{replayed}\nand was live\n{live}"));
            }
        }
        Ok(())
    }
}

/// Calls that have no outcome in a history.
pub(crate) fn calls_open(
    workflow: &Arc<loom_definition::Workflow>,
    history: &[Event],
) -> Vec<loom_engine::EffectId> {
    let mut state = RunState::new(Arc::clone(workflow));
    state.replay(history).expect("the history is legal");
    state.calls().map(|(effect, _)| effect).collect()
}
