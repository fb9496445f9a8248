//! A wall clock that is adjusted: waits take their intended time, nothing in a history goes back, and only a `Wait` until a
//! given time follows the clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use loom_definition::RunStatus;
use loom_engine::{
    Engine, EngineBuilder, Environment, RunHandle, RunRequest, Started, clock::TokioClock, history::History,
    ports::Clock,
};
use loom_expression::Timestamp;
use loom_store::{MemoryStore, Store};
use tokio::time::Instant;

use crate::support::{self, Service, now, ok, unavailable, workflow};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

/// How much longer a wait may take after the clock was set forward: the maximum length of a single sleep.
const NOTICED_WITHIN: Duration = Duration::from_secs(31);

/// A clock that can be adjusted.
struct Wall {
    steady: TokioClock,
    ahead_ms: AtomicI64,
}

impl Wall {
    fn new() -> Arc<Wall> {
        Arc::new(Wall { steady: TokioClock::starting_at(now()), ahead_ms: AtomicI64::new(0) })
    }

    fn set_back(&self, by: Duration) {
        self.ahead_ms.fetch_sub(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn set_forward(&self, by: Duration) {
        self.ahead_ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(Ordering::SeqCst) * 10_000;
        Timestamp::from_ticks(self.steady.now().ticks() + ahead).unwrap()
    }
}

/// A clock that advances whenever it is read, so that timers become due between two readings.
struct Ticking {
    steady: TokioClock,
    step_ms: i64,
    readings: AtomicI64,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let ahead = self.readings.fetch_add(1, Ordering::SeqCst) * self.step_ms * 10_000;
        Timestamp::from_ticks(self.steady.now().ticks() + ahead).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_becomes_due_between_two_readings_of_the_clock_fires_at_once() {
    let actions =
        r#"{"W": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {}}}"#;
    for step_ms in 1..=1000 {
        let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        let clock = Ticking { steady: TokioClock::starting_at(now()), step_ms, readings: AtomicI64::new(0) };
        let engine = support::engine(&service).clock(Arc::new(clock)).build();
        let began = Instant::now();
        let report = engine.run(RunRequest::manual(workflow(actions), Vec::new(), None)).await.unwrap();
        assert_eq!(report.expect("the run ends").status, RunStatus::Succeeded);
        assert!(began.elapsed() <= Duration::from_secs(2), "{step_ms} ms a reading: {:?}", began.elapsed());
    }
}

/// One run with a clock that can be adjusted.
struct Set {
    wall: Arc<Wall>,
    service: Arc<Service>,
    store: Arc<dyn Store>,
    engine: Engine,
    run: RunHandle,
    began: Instant,
}

fn builder(wall: &Arc<Wall>, service: &Arc<Service>, store: &Arc<dyn Store>) -> EngineBuilder {
    support::engine(service).clock(Arc::clone(wall) as Arc<dyn Clock>).store(Arc::clone(store))
}

impl Set {
    fn start(actions: &str) -> Set {
        Set::start_in(actions, Environment::default())
    }

    /// The service responds to the first call with a transient error, and never to further calls.
    fn start_in(actions: &str, environment: Environment) -> Set {
        let service =
            Service::new(
                |_, number| {
                    if number == 1 { (Duration::ZERO, unavailable()) } else { (HOUR * 100, ok("{}")) }
                },
            );
        let (wall, store) = (Wall::new(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
        let engine = builder(&wall, &service, &store).environment(environment).build();
        let request = RunRequest::manual(workflow(actions), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        Set { wall, service, store, engine, run: runs.remove(0), began: Instant::now() }
    }

    /// The process ends, and the next one resumes the run after `away`.
    async fn restart(&mut self, away: Duration) {
        self.engine.shut_down().await;
        tokio::time::sleep(away).await;
        self.engine = builder(&self.wall, &self.service, &self.store).build();
        let mut recovered = self.engine.recover(None).await.expect("the store can be read");
        self.run = recovered.runs.pop().expect("it has not ended");
    }

    /// Waits for the end and returns the duration of the run. Checks that its history never goes back.
    async fn took(&mut self) -> (RunStatus, Duration) {
        let report = self.run.ended().await.expect("it ends");
        let took = self.began.elapsed();
        let history = self.history().await;
        let (began, ended) = (history.started, history.ended.expect("it has ended"));
        for occurrence in
            history.workflow().actions.iter().flat_map(|action| history.occurrences(action.index))
        {
            let started = occurrence.started;
            assert!(began <= started && occurrence.ended.is_none_or(|end| started <= end && end <= ended));
        }
        self.engine.shut_down().await;
        (report.status, took)
    }

    async fn history(&self) -> History {
        self.engine.history(self.run.id).await.expect("it can be read").expect("it exists").1
    }
}

/// Each takes an hour and a half if the clock is not adjusted.
const WAITS: &[(&str, &str, RunStatus)] = &[
    (
        "a wait",
        r#"{"W": {"type": "Wait", "inputs": {"interval": {"count": 90, "unit": "Minute"}}, "runAfter": {}}}"#,
        RunStatus::Succeeded,
    ),
    (
        "a wait for the next attempt, and the timeout of the call",
        r#"{"Call": {"type": "Http", "runAfter": {}, "limit": {"timeout": "PT90M"},
            "inputs": {"method": "GET", "uri": "http://s", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT80M"}}}}"#,
        RunStatus::Failed,
    ),
    (
        "the pause between iterations",
        r#"{"L": {"type": "Until", "runAfter": {}, "inputs": {"condition": "@equals(variables('loopIndex'), 4)",
            "limit": {"timeout": "PT10H"}, "delay": {"interval": {"count": 30, "unit": "minute"}},
            "actions": {"C": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}}"#,
        RunStatus::Succeeded,
    ),
    (
        "the timeout of a loop",
        r#"{"L": {"type": "Until", "runAfter": {}, "expression": "@false", "limit": {"count": 5000, "timeout": "PT85M"}, "actions": {
            "W": {"type": "Wait", "inputs": {"interval": {"count": 10, "unit": "Minute"}}, "runAfter": {}}}}}"#,
        RunStatus::Succeeded,
    ),
    (
        "the timeout of a block",
        r#"{"S": {"type": "Scope", "runAfter": {}, "limit": {"timeout": "PT1H30M"}, "actions": {
            "W": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}}}}}"#,
        RunStatus::Failed,
    ),
];

const USUAL: Duration = Duration::from_mins(90);

#[tokio::test(start_paused = true)]
async fn setting_the_clock_back_makes_no_wait_longer() {
    for (what, actions, status) in WAITS {
        for at in [0, 1, 45, 85] {
            let mut set = Set::start(actions);
            tokio::time::sleep(MINUTE * at).await;
            set.wall.set_back(HOUR);
            let (ended, took) = set.took().await;
            assert_eq!(
                (ended, took.as_secs()),
                (*status, USUAL.as_secs()),
                "{what}, set back after {at} min"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_back_repeatedly_makes_no_wait_longer() {
    for (what, actions, status) in WAITS {
        let mut set = Set::start(actions);
        for _ in 0..8 {
            tokio::time::sleep(MINUTE * 10).await;
            set.wall.set_back(HOUR * 7);
            tokio::time::sleep(MINUTE).await;
            // Still behind the time shown before.
            set.wall.set_forward(HOUR);
        }
        let (ended, took) = set.took().await;
        assert_eq!((ended, took.as_secs()), (*status, USUAL.as_secs()), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_is_followed() {
    for (what, actions, status) in WAITS {
        let mut set = Set::start(actions);
        tokio::time::sleep(MINUTE).await;
        set.wall.set_forward(HOUR * 24);
        let (ended, took) = set.took().await;
        assert_eq!(ended, *status, "{what}");
        // Waits that begin after the jump take their whole time: a second attempt, the remaining pauses.
        assert!(took < USUAL, "{what} took {took:?}");
    }
    let (_, actions, _) = WAITS[0];
    let mut set = Set::start(actions);
    tokio::time::sleep(MINUTE).await;
    set.wall.set_forward(HOUR * 24);
    let (_, took) = set.took().await;
    assert!(took <= MINUTE + NOTICED_WITHIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_back_while_no_process_runs_makes_no_wait_longer() {
    for (what, actions, status) in WAITS {
        for at in [1, 45, 85] {
            let mut set = Set::start(actions);
            tokio::time::sleep(MINUTE * at).await;
            set.wall.set_back(HOUR);
            set.restart(Duration::ZERO).await;
            set.wall.set_back(HOUR);
            let (ended, took) = set.took().await;
            assert_eq!(ended, *status, "{what}");
            // The time since the last frame is unknown to the next process; a wait can take that much longer at most.
            assert!(took >= USUAL && took <= USUAL + MINUTE * at, "{what}, after {at} min, took {took:?}");
        }
    }
}

/// A snapshot does not contain the time; its frame does.
#[tokio::test(start_paused = true)]
async fn a_run_loaded_from_a_snapshot_alone_knows_its_time() {
    let actions = r#"{"L": {"type": "Until", "runAfter": {}, "inputs": {"condition": "@equals(variables('loopIndex'), 91)",
        "limit": {"timeout": "PT10H", "count": 100}, "delay": {"interval": {"count": 1, "unit": "minute"}},
        "actions": {"C": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}}"#;
    let mut from_snapshot_alone = 0;
    for at in 55..75 {
        let mut set = Set::start(actions);
        tokio::time::sleep(MINUTE * at + MINUTE / 2).await;
        let loaded = set.store.load(set.run.id).await.unwrap().expect("it exists");
        from_snapshot_alone += usize::from(loaded.snapshot.is_some() && loaded.frames.is_empty());
        set.wall.set_back(HOUR * 24);
        set.restart(Duration::ZERO).await;
        let (ended, took) = set.took().await;
        assert_eq!(ended, RunStatus::Succeeded);
        assert!(took >= USUAL && took <= USUAL + MINUTE, "after {at} min it took {took:?}");
    }
    assert!(from_snapshot_alone > 0, "no restart hit a snapshot");
}

#[tokio::test(start_paused = true)]
async fn time_that_passes_while_no_process_runs_counts() {
    let (_, actions, _) = WAITS[0];
    let mut set = Set::start(actions);
    tokio::time::sleep(MINUTE * 10).await;
    set.restart(MINUTE * 20).await;
    assert_eq!(set.took().await.1.as_secs(), USUAL.as_secs());
    let mut set = Set::start(actions);
    tokio::time::sleep(MINUTE * 10).await;
    set.restart(HOUR * 3).await;
    assert_eq!(set.took().await.1.as_secs(), (HOUR * 3 + MINUTE * 10).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_wait_until_a_given_time_follows_the_clock() {
    let until = Timestamp::from_unix_millis(now().unix_millis() + 90 * 60_000);
    let actions = format!(
        r#"{{"Instant": {{"type": "Wait", "inputs": {{"until": {{"timestamp": "{until}"}}}}, "runAfter": {{}}}},
            "Shown": {{"type": "Compose", "inputs": "@utcNow()", "runAfter": {{"Instant": ["Succeeded"]}}}},
            "Short": {{"type": "Wait", "inputs": {{"interval": {{"count": 91, "unit": "Minute"}}}}, "runAfter": {{}}}},
            "Long": {{"type": "Wait", "inputs": {{"interval": {{"count": 140, "unit": "Minute"}}}}, "runAfter": {{}}}}}}"#
    );
    for restarted in [false, true] {
        let mut set = Set::start(&actions);
        tokio::time::sleep(MINUTE).await;
        set.wall.set_back(HOUR);
        if restarted {
            set.restart(Duration::ZERO).await;
        }
        assert_eq!(set.took().await.1.as_secs(), 150 * 60, "restarted: {restarted}");
        let history = set.history().await;
        let of = |name: &str| &history.occurrences(history.workflow().find_action(name).unwrap())[0];
        // Expressions use the wall clock.
        let shown = of("Shown").outputs.clone().unwrap();
        assert_eq!(shown.as_str(), Some(until.to_string().as_str()));
        let after = |name: &str| of(name).ended.unwrap().unix_millis() - history.started.unix_millis();
        // The minute before the restart was not recorded, so the run does not count it.
        let minutes = ["Short", "Long", "Instant"].map(|name| after(name) / 60_000);
        assert_eq!(minutes, if restarted { [91, 140, 149] } else { [91, 140, 150] });
    }
    let mut set = Set::start(&actions.replace("Minute", "Second"));
    tokio::time::sleep(MINUTE).await;
    set.wall.set_forward(HOUR);
    assert!(set.took().await.1 <= MINUTE * 30 + NOTICED_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_run_times_out_at_its_maximum_duration() {
    let environment = Environment { run_duration_max: HOUR, ..Environment::default() };
    let mut set = Set::start_in(WAITS[0].1, environment);
    tokio::time::sleep(MINUTE).await;
    set.wall.set_back(HOUR);
    let (status, took) = set.took().await;
    assert_eq!((status, took.as_secs()), (RunStatus::TimedOut, HOUR.as_secs()));
}
