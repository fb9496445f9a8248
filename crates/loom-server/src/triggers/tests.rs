//! Automatic triggers, against a scripted service, in virtual time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use loom_definition::{LoadOptions, catalog::Bump, policy::RetryPolicy};
use loom_engine::{
    Engine, Environment, RunId,
    clock::TokioClock,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{CallFuture, Clock, TriggerCall, TriggerHandler, TriggerPurpose},
};
use loom_expression::{Timestamp, Value};
use loom_store::{MemoryStore, Order, RunQuery, Store};

use crate::{Host, HostSettings, Origin, Source, trigger_history};

/// A service that gives its answers one after the other, the last one for ever, and remembers what it was asked.
#[derive(Debug, Default)]
struct Service {
    answers: Mutex<VecDeque<Value>>,
    asked: Mutex<Vec<(Duration, TriggerCall)>>,
    since: Mutex<Option<tokio::time::Instant>>,
}

impl TriggerHandler for Service {
    fn call<'a>(&'a self, call: &'a TriggerCall) -> CallFuture<'a> {
        let since = *self.since.lock().unwrap().get_or_insert_with(tokio::time::Instant::now);
        self.asked.lock().unwrap().push((since.elapsed(), call.clone()));
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        Box::pin(async move {
            let answer = answer.unwrap_or_default();
            let Some(status) = answer.get("statusCode").and_then(Value::as_i64) else {
                // A service that never answers.
                return std::future::pending().await;
            };
            let after = answer.get("after").and_then(Value::as_i64);
            let after = after.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
            let mut outcome = Outcome::ok(Some(answer));
            if !(200..300).contains(&status) {
                let error = ErrorInfo::new("Refused", format!("The service responded with status {status}."));
                let outputs = outcome.outputs;
                outcome = Outcome { outputs, ..Outcome::failed("Refused", error) };
            }
            let transient = status == 429 || status >= 500;
            EffectResult::Done { outcome, hint: RetryHint { transient, after, ..RetryHint::default() } }
        })
    }
}

/// One service and one store, over the processes that use them.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    service: Arc<Service>,
    start: Timestamp,
    since: tokio::time::Instant,
    /// By how many seconds the clocks of all processes have been set back.
    back: Arc<AtomicU64>,
}

/// A clock that can be set back.
#[derive(Debug)]
struct SetBack {
    clock: TokioClock,
    back: Arc<AtomicU64>,
}

impl Clock for SetBack {
    fn now(&self) -> Timestamp {
        let back = i128::from(self.back.load(Ordering::Relaxed)) * 1_000_000_000;
        Timestamp::from_unix_nanos(self.clock.now().unix_nanos() - back)
    }
}

impl World {
    pub(crate) fn new(answers: &[&str]) -> World {
        let service = Service::default();
        *service.answers.lock().unwrap() =
            answers.iter().map(|answer| Value::from_json_str(answer).unwrap()).collect();
        World {
            store: Arc::new(MemoryStore::default()),
            service: Arc::new(service),
            start: Timestamp::from_unix_nanos(1_800_000_000_000_000_000),
            since: tokio::time::Instant::now(),
            back: Arc::default(),
        }
    }

    /// Sets the clock of the processes that begin from now on ahead, by seconds.
    fn set_clock(&mut self, ahead: u64) {
        self.start = Timestamp::from_unix_nanos(self.start.unix_nanos() + i128::from(ahead) * 1_000_000_000);
    }

    /// Sets the clock of every process back, by seconds.
    fn step_back(&self, seconds: u64) {
        self.back.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A process: opens the store, deploys, and takes up what is there.
    pub(crate) async fn process(&self, definitions: &[(&str, &str)]) -> Arc<Host> {
        let none = Value::from_json_str(r#"{"type": "none"}"#).unwrap();
        let none = RetryPolicy::read(&none, loom_definition::policy::Spelling::Wdl).unwrap();
        let environment = Environment { default_retry: Arc::new(none), ..Environment::default() };
        let mut settings = HostSettings::new("http://loom.test");
        settings.trigger_calls = Some(Arc::clone(&self.service) as Arc<dyn TriggerHandler>);
        let passed = i128::try_from(self.since.elapsed().as_nanos()).unwrap();
        let now = Timestamp::from_unix_nanos(self.start.unix_nanos() + passed);
        let clock = Arc::new(SetBack { clock: TokioClock::starting_at(now), back: Arc::clone(&self.back) });
        let store = Arc::clone(&self.store);
        let host = Host::open(Engine::builder(), environment, store, clock, settings).await.unwrap();
        for (name, text) in definitions {
            deploy(&host, name, text).await;
        }
        host.recover().await.unwrap();
        host
    }

    /// What the service was asked for: the kind and the second.
    fn asked(&self) -> Vec<(TriggerPurpose, u64)> {
        let asked = self.service.asked.lock().unwrap();
        asked.iter().map(|(at, call)| (call.ask, at.as_secs())).collect()
    }

    fn call(&self, index: usize) -> TriggerCall {
        self.service.asked.lock().unwrap()[index].1.clone()
    }

    pub(crate) async fn runs(&self) -> Vec<RunId> {
        let query = RunQuery { order: Order::OldestFirst, limit: 1_000, ..RunQuery::default() };
        self.store.runs(query).await.unwrap().rows.iter().map(|row| row.id).collect()
    }

    /// Statuses of a trigger's history, oldest first.
    pub(crate) async fn history(&self, trigger: &str) -> Vec<String> {
        let entries = trigger_history::read(&*self.store, trigger).await.unwrap();
        let status = |entry: &Value| entry.get("status").and_then(Value::as_str).unwrap().to_owned();
        entries.iter().rev().map(status).collect()
    }
}

pub(crate) async fn deploy(host: &Arc<Host>, name: &str, text: &str) {
    let options = LoadOptions { name: Some(name.into()), ..LoadOptions::default() };
    let source =
        Source { bytes: text.into(), options, origin: Origin::File, bump: Bump::Patch, only_new: false };
    host.deploy(&source).await.unwrap();
}

/// Ends a process as a crash does: nothing is said to the store.
pub(crate) async fn crash(host: Arc<Host>) {
    host.draining.cancel();
    host.stopping.cancel();
    host.tasks.close();
    host.tasks.wait().await;
    host.engine.shut_down().await;
}

/// Lets time pass, and what follows from it happen.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn workflow(trigger: &str) -> String {
    format!(
        r#"{{"definition": {{"triggers": {{"t": {trigger}}}, "actions":
            {{"Echo": {{"type": "Compose", "inputs": "@triggerOutputs()", "runAfter": {{}}}}}}}}}}"#
    )
}

pub(crate) const HOOK: &str = r#"{"type": "HttpWebhook", "inputs": {
    "subscribe": {"method": "POST", "uri": "https://hooks.test/", "body": {"to": "@{listCallbackUrl()}"}},
    "unsubscribe": {"method": "DELETE", "uri": "https://hooks.test/@{triggerBody()['id']}"}}}"#;

const AGREED: &str = r#"{"statusCode": 201, "headers": {}, "body": {"id": 7}}"#;

fn body_of(call: &TriggerCall) -> String {
    call.inputs.get("subscribe").unwrap_or(&call.inputs).to_json_text()
}

#[tokio::test(start_paused = true)]
async fn a_subscription_survives_restarts_and_ends_with_its_workflow() {
    let world = World::new(&[AGREED]);
    let first = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.asked(), [(TriggerPurpose::Subscribe, 0)]);
    assert!(body_of(&world.call(0)).contains("http://loom.test/callbacks/trigger-"));
    crash(first).await;
    let second = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1_000).await;
    assert_eq!(world.asked().len(), 1, "the subscription is not made again");
    assert!(second.withdraw("w"));
    pass(1).await;
    let asked = world.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].0, TriggerPurpose::Unsubscribe);
    assert_eq!(world.call(1).inputs.get("uri").and_then(Value::as_str), Some("https://hooks.test/7"));
    pass(1_000).await;
    assert_eq!(world.asked().len(), 2, "it is said once");
    assert_eq!(world.history("w/t").await, ["Succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_response_never_came_is_ended_as_far_as_its_definition_allows() {
    // With an address in the definition, and with one that only the response contains.
    let own = HOOK.replace("https://hooks.test/@{triggerBody()['id']}", "https://hooks.test/ours");
    for (hook, ended) in [(own.as_str(), true), (HOOK, false)] {
        for restart in [false, true] {
            // A service that does not respond.
            let world = World::new(&["{}"]);
            let mut host = world.process(&[("w", &workflow(hook))]).await;
            pass(1).await;
            *world.service.answers.lock().unwrap() = [Value::from_json_str(AGREED).unwrap()].into();
            if restart {
                crash(host).await;
                host = world.process(&[]).await;
            } else {
                host.switch("w", None, false).await.unwrap();
            }
            pass(1).await;
            let kinds: Vec<TriggerPurpose> = world.asked().iter().map(|(ask, _)| *ask).collect();
            let expected = [TriggerPurpose::Subscribe, TriggerPurpose::Unsubscribe];
            assert_eq!(kinds, expected[..if ended { 2 } else { 1 }], "{hook} {restart}");
            crash(host).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_after_a_crash_has_the_same_url() {
    let world = World::new(&["{}"]);
    let first = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.asked().len(), 1);
    crash(first).await;
    *world.service.answers.lock().unwrap() = [Value::from_json_str(AGREED).unwrap()].into();
    let _second = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.asked().len(), 2);
    let (before, after) = (world.call(0), world.call(1));
    assert_eq!(body_of(&before), body_of(&after));
    assert_eq!(before.idempotency_key, after.idempotency_key);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_disappears_between_processes_is_unsubscribed() {
    let world = World::new(&[AGREED]);
    let first = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    crash(first).await;
    let _second = world.process(&[]).await;
    pass(1).await;
    let kinds: Vec<TriggerPurpose> = world.asked().iter().map(|(ask, _)| *ask).collect();
    assert_eq!(kinds, [TriggerPurpose::Subscribe, TriggerPurpose::Unsubscribe]);
}

#[tokio::test(start_paused = true)]
async fn another_version_subscribes_again_and_ends_the_previous_subscription() {
    let world = World::new(&[AGREED]);
    let host = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    deploy(&host, "w", &workflow(&HOOK.replace("\"to\"", "\"notify\""))).await;
    pass(1).await;
    let mut kinds: Vec<TriggerPurpose> = world.asked().iter().map(|(ask, _)| *ask).collect();
    kinds.sort_by_key(|ask| *ask as u8);
    assert_eq!(kinds, [TriggerPurpose::Subscribe, TriggerPurpose::Subscribe, TriggerPurpose::Unsubscribe]);
    let subscriptions: Vec<String> = (0..3)
        .map(|index| world.call(index))
        .filter(|call| call.ask == TriggerPurpose::Subscribe)
        .map(|call| call.idempotency_key.to_string())
        .collect();
    assert_ne!(subscriptions[0], subscriptions[1]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_subscription_is_retried_later() {
    let world = World::new(&[r#"{"statusCode": 403, "headers": {}}"#, AGREED]);
    let _host = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.history("w/t").await, ["Failed"]);
    pass(600).await;
    assert_eq!(world.asked(), [(TriggerPurpose::Subscribe, 0), (TriggerPurpose::Subscribe, 300)]);
    assert_eq!(world.history("w/t").await, ["Failed", "Succeeded"]);
}

fn poll(more: &str) -> String {
    workflow(&format!(
        r#"{{"type": "Http", "inputs": {{"method": "GET", "uri": "https://news.test/"}},
            "recurrence": {{"frequency": "Minute", "interval": 5}}{more}}}"#
    ))
}

#[tokio::test(start_paused = true)]
async fn a_poll_fires_for_new_items_and_continues_at_the_location() {
    let world = World::new(&[
        r#"{"statusCode": 202, "headers": {"Location": "https://news.test/?after=1"}, "after": 400}"#,
        r#"{"statusCode": 200, "headers": {"Location": "https://news.test/?after=2"}, "body": 1, "after": 0}"#,
        r#"{"statusCode": 200, "headers": {}, "body": 2}"#,
        r#"{"statusCode": 500, "headers": {}}"#,
        r#"{"statusCode": 202, "headers": {}}"#,
    ]);
    let first = world.process(&[("w", &poll(""))]).await;
    // The first at once; the second when `Retry-After` says, which is later than the recurrence; the third at once.
    pass(450).await;
    assert_eq!(world.asked().iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 400, 400]);
    assert_eq!(world.call(0).address, None);
    assert_eq!(world.call(1).address.as_deref(), Some("https://news.test/?after=1"));
    assert_eq!(world.call(2).address.as_deref(), Some("https://news.test/?after=2"));
    assert_eq!(world.runs().await.len(), 2);
    // Where to ask next, and when, outlives the process.
    crash(first).await;
    let _second = world.process(&[("w", &poll(""))]).await;
    pass(200).await;
    assert_eq!(world.asked().len(), 4);
    assert_eq!(world.asked()[3].1, 600);
    assert_eq!(world.call(3).address.as_deref(), Some("https://news.test/?after=2"));
    pass(300).await;
    assert_eq!(world.asked()[4].1, 900);
    assert_eq!(world.runs().await.len(), 2);
    assert_eq!(world.history("w/t").await, ["Skipped", "Succeeded", "Succeeded", "Failed", "Skipped"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_splits_its_response_and_evaluates_its_conditions() {
    let answers = [r#"{"statusCode": 200, "headers": {}, "body": [1, 2, 3]}"#];
    let world = World::new(&answers);
    let host = world.process(&[("w", &poll(r#", "splitOn": "@triggerBody()""#))]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 3);
    crash(host).await;

    let world = World::new(&answers);
    let never = r#", "conditions": [{"expression": "@equals(length(triggerBody()), 9)"}]"#;
    let _host = world.process(&[("w", &poll(never))]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 0);
    assert_eq!(world.history("w/t").await, ["Skipped"]);

    // A condition that mentions the status stands in the place of "200 fires".
    let world = World::new(&[r#"{"statusCode": 201, "headers": {}, "body": 1}"#]);
    let code = r#", "conditions": [{"expression": "@equals(triggers().code, 201)"}]"#;
    let _host = world.process(&[("w", &poll(code))]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 1);
}

/// A crash after the runs of a split answer were accepted, and before the trigger kept that it is done with them.
#[tokio::test(start_paused = true)]
async fn the_runs_of_a_split_response_start_once_across_a_crash() {
    let answer = r#"{"statusCode": 200, "headers": {}, "body": [1, 2, 3]}"#;
    let world = World::new(&[answer]);
    let text = poll(r#", "splitOn": "@triggerBody()""#);
    let host = world.process(&[("w", &text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 3);
    crash(host).await;
    // What the trigger keeps before it starts the runs.
    let kept = world.store.key(crate::trigger_task::NAMESPACE, "w/t").await.unwrap().unwrap();
    let mut kept = Value::parse_json(&kept.value).unwrap().as_object().unwrap().clone();
    assert!(kept.get("pending").unwrap().is_null());
    kept.insert("pending", Value::from_json_str(&answer.replace("3]", "3, 4]")).unwrap());
    let mut commit = loom_store::Commit::new();
    commit.keys.push(crate::keys::key_write(crate::trigger_task::NAMESPACE, "w/t", Some(kept)));
    world.store.commit(commit).await.unwrap();
    let _host = world.process(&[("w", &text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 4, "the one that is missing, and no other");
}

#[tokio::test(start_paused = true)]
async fn a_trigger_does_not_poll_while_its_limit_is_reached() {
    let world = World::new(&[r#"{"statusCode": 200, "headers": {}, "body": 1}"#]);
    let text = poll(r#", "runtimeConfiguration": {"concurrency": {"runs": 1}}"#).replace(
        r#""type": "Compose", "inputs": "@triggerOutputs()""#,
        r#""type": "Wait", "inputs": {"interval": {"count": 450, "unit": "Second"}}"#,
    );
    let _host = world.process(&[("w", &text)]).await;
    pass(650).await;
    assert_eq!(world.asked().iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 600]);
    assert_eq!(world.history("w/t").await, ["Succeeded", "Skipped", "Succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn occurrences_fire_once_whatever_happens_to_the_process() {
    let world = World::new(&[]);
    let text = workflow(r#"{"type": "Recurrence", "recurrence": {"frequency": "Minute", "interval": 10}}"#);
    let mut host = world.process(&[("w", &text)]).await;
    // Crashes in between, and right after an occurrence; none is lost and none repeated.
    for seconds in [1, 598, 2, 599, 1] {
        pass(seconds).await;
        crash(host).await;
        host = world.process(&[("w", &text)]).await;
    }
    pass(1).await;
    assert_eq!(world.runs().await.len(), 3, "at 0, 600 and 1,200 seconds");
    // Missed by less than a minute: late. Missed by more: dropped.
    pass(580).await;
    crash(host).await;
    pass(50).await;
    host = world.process(&[("w", &text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 4);
    crash(host).await;
    pass(2_000).await;
    let _host = world.process(&[("w", &text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn every_window_is_processed_once() {
    let world = World::new(&[]);
    let text =
        workflow(r#"{"type": "SlidingWindow", "recurrence": {"frequency": "Minute", "interval": 10}}"#);
    let host = world.process(&[("w", &text)]).await;
    pass(1_201).await;
    assert_eq!(world.runs().await.len(), 2);
    crash(host).await;
    pass(3_000).await;
    let _host = world.process(&[("w", &text)]).await;
    pass(1).await;
    // 1,800, 2,400, 3,000, 3,600 and 4,200 seconds passed while no server ran.
    assert_eq!(world.runs().await.len(), 7);
    assert_eq!(world.history("w/t").await.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn occurrences_missed_by_a_disabled_recurrence_do_not_fire_later() {
    let world = World::new(&[]);
    let every = r#""recurrence": {"frequency": "Minute", "interval": 10}"#;
    let definitions = [
        ("every", workflow(&format!(r#"{{"type": "Recurrence", {every}}}"#))),
        ("windows", workflow(&format!(r#"{{"type": "SlidingWindow", {every}}}"#))),
    ];
    let definitions: Vec<(&str, &str)> =
        definitions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let counts = async || {
        let rows = world.store.runs(RunQuery { limit: 1_000, ..RunQuery::default() }).await.unwrap().rows;
        ["every", "windows"].map(|name| rows.iter().filter(|row| &*row.workflow == name).count())
    };
    let host = world.process(&definitions).await;
    pass(590).await;
    assert_eq!(counts().await, [1, 0]);
    host.switch("EVERY", Some("T"), false).await.unwrap();
    host.switch("windows", None, false).await.unwrap();
    pass(20).await;
    assert_eq!(counts().await, [1, 0], "nothing fires at 600 seconds");
    // Enabled within the minute in which a restart would fire late.
    host.switch("every", Some("t"), true).await.unwrap();
    pass(20).await;
    assert_eq!(counts().await, [1, 0], "what was missed while it was disabled is not fired");
    pass(580).await;
    assert_eq!(counts().await, [2, 0], "the next one is");
    host.switch("every", None, false).await.unwrap();
    crash(host).await;
    // The order outlives the process.
    let host = world.process(&definitions).await;
    pass(600).await;
    assert_eq!(counts().await, [2, 0]);
    host.switch("every", None, true).await.unwrap();
    host.switch("windows", None, true).await.unwrap();
    pass(1).await;
    assert_eq!(counts().await, [2, 3], "a sliding window processes all of its windows");
    pass(600).await;
    assert_eq!(counts().await, [3, 4]);
    // An order that changes nothing starts nothing twice.
    host.switch("every", None, true).await.unwrap();
    pass(600).await;
    assert_eq!(counts().await, [4, 5]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_its_trigger_is_disabled_and_is_renewed_when_it_is_enabled() {
    let world = World::new(&[AGREED]);
    let host = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    host.switch("w", Some("t"), false).await.unwrap();
    host.switch("w", Some("t"), true).await.unwrap();
    pass(1).await;
    let kinds = |world: &World| {
        let mut kinds: Vec<TriggerPurpose> = world.asked().iter().map(|(ask, _)| *ask).collect();
        kinds.sort_by_key(|ask| *ask as u8);
        kinds
    };
    assert_eq!(
        kinds(&world),
        [TriggerPurpose::Subscribe, TriggerPurpose::Subscribe, TriggerPurpose::Unsubscribe]
    );
    crash(host).await;
    let host = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.asked().len(), 3, "a restart changes nothing about it");
    // A crash right after the order: the next process ends the subscription.
    host.draining.cancel();
    host.switch("w", None, false).await.unwrap();
    crash(host).await;
    let host = world.process(&[("w", &workflow(HOOK))]).await;
    pass(1).await;
    assert_eq!(world.asked().len(), 4);
    assert_eq!(world.asked()[3].0, TriggerPurpose::Unsubscribe);
    crash(host).await;
}

const YEAR: u64 = 365 * 86_400;

#[tokio::test(start_paused = true)]
async fn triggers_continue_by_a_clock_that_was_a_year_ahead() {
    let mut world = World::new(&[r#"{"statusCode": 202, "headers": {}}"#]);
    let every = r#""recurrence": {"frequency": "Minute", "interval": 10}"#;
    let definitions = [
        ("every", workflow(&format!(r#"{{"type": "Recurrence", {every}}}"#))),
        ("cron", workflow(r#"{"type": "Recurrence", "recurrence": {"cron": "*/10 * * * *"}}"#)),
        ("windows", workflow(&format!(r#"{{"type": "SlidingWindow", {every}}}"#))),
        ("asks", poll("")),
    ];
    let definitions: Vec<(&str, &str)> =
        definitions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let counts = async |world: &World| {
        let rows = world.store.runs(RunQuery { limit: 1_000, ..RunQuery::default() }).await.unwrap().rows;
        ["every", "cron", "windows"].map(|name| rows.iter().filter(|row| &*row.workflow == name).count())
    };
    let true_clock = world.start;
    world.set_clock(YEAR);
    let host = world.process(&definitions).await;
    pass(1_201).await;
    assert_eq!(counts(&world).await, [3, 2, 2]);
    let asked = world.asked().len();
    assert_eq!(asked, 5);
    crash(host).await;

    world.start = true_clock;
    let host = world.process(&definitions).await;
    pass(601).await;
    assert_eq!(
        counts(&world).await,
        [4, 3, 3],
        "each has fired within one interval of the clock that came back"
    );
    assert!(world.asked().len() >= asked + 2, "{:?}", world.asked());
    let newest = *world.runs().await.first().unwrap();
    assert!(
        newest.time().0 < (true_clock.unix_millis() + 86_400_000),
        "runs are named by the clock as it is"
    );
    crash(host).await;

    // The times that were fired while the clock was ahead come again, in their own time.
    world.set_clock(YEAR);
    let before = counts(&world).await;
    let host = world.process(&definitions[..2]).await;
    pass(1_201).await;
    let after = counts(&world).await;
    assert_eq!([after[0] - before[0], after[1] - before[1]], [2, 2]);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_while_a_trigger_waits_stops_nothing_and_repeats_nothing() {
    let world = World::new(&[r#"{"statusCode": 202, "headers": {}}"#]);
    let every = workflow(r#"{"type": "Recurrence", "recurrence": {"frequency": "Minute", "interval": 10}}"#);
    let host = world.process(&[("every", &every), ("asks", &poll(""))]).await;
    pass(1_201).await;
    assert_eq!(world.runs().await.len(), 3);
    let asked = world.asked().len();
    world.step_back(3_600);
    pass(1_230).await;
    let runs = world.runs().await.len();
    assert!(
        (4..=5).contains(&runs),
        "{runs} runs: an hour of silence is too long, and no occurrence comes twice"
    );
    assert!(world.asked().len() >= asked + 3);
    // By less than the time between two occurrences: what has fired is not fired again.
    pass(600).await;
    let before = world.runs().await.len();
    world.step_back(120);
    pass(720).await;
    assert_eq!(world.runs().await.len(), before + 1);
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_recurrence_may_be_computed() {
    let world = World::new(&[]);
    let text = r#"{"definition": {"parameters": {"minutes": {"type": "int", "defaultValue": 20}},
        "triggers": {"t": {"type": "Recurrence",
            "recurrence": {"frequency": "Minute", "interval": "@parameters('minutes')"}}}, "actions": {}}}"#;
    let _host = world.process(&[("w", text)]).await;
    pass(2_401).await;
    assert_eq!(world.runs().await.len(), 3, "at 0, 1,200 and 2,400 seconds");
}

#[tokio::test(start_paused = true)]
async fn a_cron_expression_fires_at_its_times_and_not_before() {
    let world = World::new(&[]);
    let text = r#"{"definition": {"triggers": {"t": {"type": "schedule",
        "inputs": {"cron": "*/10 * * * *", "timeZone": "Asia/Kathmandu", "count": 3}}}, "actions": {}}}"#;
    let host = world.process(&[("w", text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 0, "deploying it is no reason to fire");
    pass(600).await;
    assert_eq!(world.runs().await.len(), 1);
    crash(host).await;
    let host = world.process(&[("w", text)]).await;
    pass(1).await;
    assert_eq!(world.runs().await.len(), 1, "what has fired is not fired again");
    pass(3_600).await;
    assert_eq!(world.runs().await.len(), 3, "no more than its count");
    crash(host).await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_before_a_retried_poll_survives_a_restart() {
    let world = World::new(&[
        r#"{"statusCode": 503, "headers": {}}"#,
        r#"{"statusCode": 503, "headers": {}}"#,
        r#"{"statusCode": 200, "headers": {}, "body": 1}"#,
    ]);
    let retries = r#", "retryPolicy": {"type": "fixed", "interval": "PT1M", "count": 2}"#;
    let first = world.process(&[("w", &poll(retries))]).await;
    pass(10).await;
    crash(first).await;
    let second = world.process(&[("w", &poll(retries))]).await;
    pass(10).await;
    assert_eq!(world.asked().len(), 1, "the wait continues");
    pass(45).await;
    crash(second).await;
    // No server runs when the last attempt is due, so it is late.
    pass(100).await;
    let third = world.process(&[("w", &poll(retries))]).await;
    pass(1).await;
    assert_eq!(world.asked().iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 60, 165]);
    let keys = [0, 1, 2].map(|index| world.call(index).idempotency_key);
    assert!(keys.iter().all(|key| *key == keys[0]), "all ask the same question: {keys:?}");
    assert_eq!(world.runs().await.len(), 1);
    assert_eq!(world.history("w/t").await, ["Succeeded"], "a poll is recorded once");
    crash(third).await;
}
