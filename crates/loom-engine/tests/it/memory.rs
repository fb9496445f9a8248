//! Shared memory in workflows: what a `Memory` action writes is committed with its end, what an expression reads is read once,
//! grants, secrets, and contention.

use std::{fmt::Write, sync::Arc, time::Duration};

use loom_definition::{MEMORY_COMMON, MEMORY_OPERATIONS, MemoryGrants, RunStatus, model::EffectKind};
use loom_engine::{
    Command, Engine, Environment, RunHandle, RunId, RunRequest, Secret, SecretFuture, SecretSource, Signal,
    Started, execute_memory,
    history::History,
    ports::{ActionHandler, Call, CallFuture},
    simulate::Simulation,
};
use loom_expression::Value;
use loom_memory::{
    Access, Address, Grants, Key, Namespace, Operation, Own, Pattern, Request, SharedMemory, StoredMemory,
};
use loom_store::{
    MemoryStore, Runs, Shards, Store, UnixMillis,
    contract::{FaultRate, FaultyStore},
};

use crate::support::{Service, engine, json, load, now, ok, start, unavailable, workflow};

fn open(store: &Arc<dyn Store>) -> Engine {
    let quiet = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    engine(&quiet).store(Arc::clone(store)).build()
}

fn in_memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

async fn begin(engine: &Engine, definition: &str) -> RunHandle {
    engine.continue_numbering().await.expect("the store can be read");
    let request = RunRequest::manual(load(definition), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut run = runs.remove(0);
    assert!(run.accepted().await);
    run
}

/// A definition whose workflow is named `orders`.
fn of_actions(actions: &str) -> String {
    format!(
        r#"{{"name": "orders", "definition": {{"triggers": {{"manual": {{"type": "Request"}}}},
            "memory": {{"read": ["agent:bob"], "write": ["global", "chat:*"]}}, "actions": {actions}}}}}"#
    )
}

async fn run(engine: &Engine, actions: &str) -> (RunStatus, History) {
    let mut handle = begin(engine, &of_actions(actions)).await;
    let report = handle.ended().await.expect("it ends");
    let (_, history) = engine.history(handle.id).await.unwrap().expect("it exists");
    (report.status, history)
}

fn outputs(history: &History, action: &str) -> Value {
    let action = history.workflow().find_action(action).expect("it exists");
    history.occurrences(action).last().and_then(|last| last.outputs.clone()).unwrap_or_default()
}

fn error(history: &History, action: &str) -> String {
    let action = history.workflow().find_action(action).expect("it exists");
    let last = history.occurrences(action).last().expect("it ran");
    let message = last.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
    format!("{}: {message}", last.code)
}

async fn held(memory: &StoredMemory, address: &str) -> Value {
    let Address { namespace, key } = Address::parse(address, None).expect(address);
    let get = Request::new(key.as_arc_str(), Operation::Get).expect(address);
    memory.transact(&namespace, vec![get]).await.expect(address).remove(0).value
}

async fn change(memory: &StoredMemory, address: &str, operation: Operation) {
    let Address { namespace, key } = Address::parse(address, None).expect(address);
    let request = Request::new(key.as_arc_str(), operation).expect(address);
    memory.transact(&namespace, vec![request]).await.expect(address);
}

#[tokio::test]
async fn actions_write_and_expressions_read() {
    let store = in_memory();
    let engine = open(&store);
    let (status, history) = run(
        &engine,
        r#"{
        "Set": {"type": "Memory", "inputs": {"operation": "set", "key": "global/limit", "value": {"max": 5}}, "runAfter": {}},
        "Add": {"type": "Memory", "inputs": {"operation": "append", "key": "chat:@{1}/log", "values": "@createArray('a', 'b', 'c')"}, "runAfter": {"Set": ["Succeeded"]}},
        "Hash": {"type": "Memory", "inputs": {"operation": "hashSet", "key": "workflow/prices", "field": "pear", "value": 3}, "runAfter": {"Add": ["Succeeded"]}},
        "Count": {"type": "Memory", "inputs": {"operation": "increment", "key": "run/n", "by": 2}, "runAfter": {"Hash": ["Succeeded"]}},
        "All": {"type": "Memory", "inputs": {"namespace": "chat:1", "operations": [
            {"operation": "append", "key": "log", "value": "d"}, {"operation": "length", "key": "log"}]}, "runAfter": {"Count": ["Succeeded"]}},
        "Get": {"type": "Memory", "inputs": {"operation": "get", "key": "global/limit"}, "runAfter": {"All": ["Succeeded"]}},
        "Read": {"type": "Compose", "runAfter": {"Get": ["Succeeded"]}, "inputs": {
            "max": "@memory('global/limit').max", "none": "@memory('global/other', 'none')", "log": "@memoryList('chat:1/log', -2)",
            "pear": "@memoryHash('workflow:orders/prices', 'pear')", "n": "@memory(concat('run', '/n'))", "body": "@body('Count')"}}}"#,
    )
    .await;
    assert_eq!(status, RunStatus::Succeeded);
    assert_eq!(
        outputs(&history, "Read"),
        json(r#"{"max": 5, "none": "none", "log": ["c", "d"], "pear": 3, "n": 2, "body": 2}"#)
    );
    let count = outputs(&history, "Count");
    assert_eq!(count.get("type"), Some(&Value::from("counter")));
    assert!(count.get("revision").and_then(Value::as_i64).is_some_and(|revision| revision > 0));
    let all = outputs(&history, "All");
    let results = all.get("body").and_then(Value::as_array).expect("one for each operation");
    let results: Vec<_> = results.iter().map(|result| result.get("value").cloned()).collect();
    assert_eq!(results, [Some(Value::from(4)), Some(Value::from(4))]);
    assert_eq!(outputs(&history, "Get").get("body"), Some(&json(r#"{"max": 5}"#)));
    assert_eq!(held(engine.memory(), "workflow:orders/prices").await, json(r#"{"pear": 3}"#));
    engine.shut_down().await;
}

#[tokio::test]
async fn what_follows_a_write_reads_what_was_written() {
    let engine = open(&in_memory());
    // The condition reads the key before each write, and both branches are decided in one batch.
    let (status, history) = run(
        &engine,
        r#"{
        "Loop": {"type": "Until", "expression": "@greaterOrEquals(memory('global/n'), 5)", "limit": {"count": 9}, "runAfter": {}, "actions": {
            "Before": {"type": "Compose", "inputs": "@memory('global/n', 0)", "runAfter": {}},
            "Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {"Before": ["Succeeded"]}},
            "After": {"type": "Compose", "inputs": "@sub(memory('global/n'), add(outputs('Before'), 1))", "runAfter": {"Add": ["Succeeded"]}}}},
        "End": {"type": "Compose", "inputs": "@memory('global/n')", "runAfter": {"Loop": ["Succeeded"]}}}"#,
    )
    .await;
    assert_eq!((status, outputs(&history, "End")), (RunStatus::Succeeded, Value::from(5)));
    let after = history.workflow().find_action("After").expect("it exists");
    assert!(history.occurrences(after).iter().all(|one| one.outputs == Some(Value::from(0))));
    engine.shut_down().await;
}

/// Executes `Memory` actions outside the commit of their end: the control of the test below.
struct Outside(StoredMemory);

impl ActionHandler for Outside {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(execute_memory(&self.0, call))
    }
}

/// Adds 1 to a counter that the call reserves, and appends the sum to a list that belongs to the test.
struct Counting {
    /// Writes before the call ends: the control.
    outside: Option<StoredMemory>,
}

impl ActionHandler for Counting {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            let (namespace, key) = (Namespace::Actor("counter".into()), Key::new("n").expect("a key"));
            let fails = call.inputs.get("fails").and_then(Value::as_bool) == Some(true);
            let add = Request::new("n", Operation::increment(1)).expect("a request");
            if let Some(memory) = &self.outside {
                let outcomes = memory.transact(&namespace, vec![add]).await.expect("the store works");
                return ok(&format!(r#"{{"body": {}}}"#, outcomes[0].value.to_json_text()));
            }
            let reserved = match call.memory.reserve(&namespace, &key).await {
                Ok(reserved) => reserved,
                Err(why) => panic!("{why}"),
            };
            let prepared = reserved.prepare(&[add]).await.expect("it is a counter");
            let sum = prepared.outcomes[0].value.to_json_text();
            call.memory.commit_with_end(prepared);
            if fails { unavailable() } else { ok(&format!(r#"{{"body": {sum}}}"#)) }
        })
    }
}

const WRITES: &str = r#"{
    "One": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {}},
    "Two": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('One')"}, "runAfter": {"One": ["Succeeded"]}},
    "Three": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {"Two": ["Succeeded"]}},
    "Four": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('Three')"}, "runAfter": {"Three": ["Succeeded"]}}}"#;

/// The calls of [`Counting`] reserve a key; what they return is in a list.
const CALLS: &str = r#"{
    "One": {"type": "Actor", "inputs": {"actorType": "counter", "method": "add"}, "runAfter": {}},
    "Two": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('One')"}, "runAfter": {"One": ["Succeeded"]}},
    "Three": {"type": "Actor", "inputs": {"actorType": "counter", "method": "add"}, "runAfter": {"Two": ["Succeeded"]}},
    "Four": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('Three')"}, "runAfter": {"Three": ["Succeeded"]}}}"#;

/// Runs [`WRITES`], or [`CALLS`], in a process that ends when the store has written `commits` commits, and again in the next one.
/// Returns whether the first process was interrupted, and what was written.
async fn interrupted(commits: usize, actions: &str, is_outside: bool) -> (bool, Value, Value) {
    let faulty = FaultyStore::new(MemoryStore::default(), commits as u64, FaultRate::default());
    let build = |store: Arc<dyn Store>| {
        let quiet = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        let memory = StoredMemory::new(Arc::clone(&store), Arc::new(|| UnixMillis(1)));
        let environment = Environment { memory: Some(memory.clone()), ..Environment::default() };
        let builder = engine(&quiet).store(store).environment(environment);
        if actions == CALLS {
            let outside = is_outside.then_some(memory);
            builder.handler(EffectKind::Actor, Arc::new(Counting { outside })).build()
        } else if is_outside {
            builder.handler(EffectKind::Memory, Arc::new(Outside(memory))).build()
        } else {
            builder.build()
        }
    };
    let first = build(Arc::new(faulty.clone()));
    let request = || RunRequest::manual(load(&of_actions(actions)), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = first.start(request(), None) else { panic!("no run started") };
    let mut turns = 0;
    let was_interrupted = loop {
        tokio::select! {
            _ = runs[0].ended() => break false,
            () = faulty.work() => {
                if turns == commits {
                    break true;
                }
                turns += 1;
                faulty.turn();
            }
        }
    };
    let disk: Arc<dyn Store> = Arc::new(faulty.crash());
    first.shut_down().await;
    let second = build(Arc::clone(&disk));
    second.continue_numbering().await.expect("the store can be read");
    for mut run in second.recover(None).await.expect("the store can be read").runs {
        let report = run.ended().await.expect("it ends");
        assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    }
    if disk.newest_run(Shards::ALL).await.expect("the store can be read").is_none() {
        second.run(request()).await.expect("it starts");
    }
    let memory = second.memory().clone();
    let count = if actions == CALLS { "actor:counter/n" } else { "global/n" };
    let written = (held(&memory, count).await, held(&memory, "global/log").await);
    second.shut_down().await;
    (was_interrupted, written.0, written.1)
}

#[tokio::test]
async fn a_crash_at_any_commit_neither_repeats_nor_loses_a_write() {
    for actions in [WRITES, CALLS] {
        let mut points = 0;
        loop {
            let (was_interrupted, n, log) = interrupted(points, actions, false).await;
            assert_eq!((n, log), (Value::from(2), json("[1, 2]")), "after {points} commits of {actions}");
            if !was_interrupted {
                break;
            }
            points += 1;
        }
        assert!(points >= 5, "the run has a commit for each action ({points})");
    }
}

#[tokio::test]
async fn a_write_outside_the_commit_of_its_action_is_repeated_after_a_crash() {
    for actions in [WRITES, CALLS] {
        let mut wrong = 0;
        for commits in 0..12 {
            let (_, n, log) = interrupted(commits, actions, true).await;
            wrong += usize::from((n, log) != (Value::from(2), json("[1, 2]")));
        }
        assert!(wrong > 0, "the test above would find it for {actions}");
    }
}

/// Runs of one process take turns at a key that their calls reserve; a call that fails, or whose action has ended meanwhile,
/// writes nothing and holds nobody up.
#[tokio::test]
async fn calls_that_reserve_a_key_take_turns() {
    for has_store in [true, false] {
        let quiet = Service::new(|_, _| (Duration::ZERO, ok("{}")));
        let mut builder = engine(&quiet).handler(EffectKind::Actor, Arc::new(Counting { outside: None }));
        if has_store {
            builder = builder.store(in_memory());
        }
        let engine = builder.build();
        let actions = r#"{
            "Each": {"type": "Foreach", "foreach": "@range(0, 10)", "runAfter": {}, "actions": {
                "Add": {"type": "Actor", "inputs": {"actorType": "counter", "method": "add"}, "runAfter": {}},
                "Fail": {"type": "Actor", "inputs": {"actorType": "counter", "method": "add", "fails": true}, "runAfter": {}, "retryPolicy": {"type": "none"}},
                "Go": {"type": "Compose", "inputs": "on", "runAfter": {"Fail": ["Failed"]}}}}}"#;
        let request = || RunRequest::manual(load(&of_actions(actions)), Vec::new(), None);
        let runs = (0..5).map(|_| engine.run(request()));
        for report in futures_util::future::join_all(runs).await {
            let report = report.expect("it starts").expect("it ends");
            assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
        }
        assert_eq!(held(engine.memory(), "actor:counter/n").await, Value::from(50), "{has_store}");
        engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_that_write_the_same_keys_are_ordered_and_none_is_held() {
    let store = in_memory();
    let engine = open(&store);
    let actions = r#"{
        "Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {}},
        "Log": {"type": "Memory", "inputs": {"operation": "append", "key": "global/log", "value": "@body('Add')"}, "runAfter": {"Add": ["Succeeded"]}}}"#;
    // Another process: it has no locks in common with the engine.
    let other = StoredMemory::new(Arc::clone(&store), Arc::new(|| UnixMillis(1)));
    let mut handles = Vec::new();
    for _ in 0..40 {
        handles.push(begin(&engine, &of_actions(actions)).await);
        change(&other, "global/n", Operation::increment(1)).await;
    }
    for handle in handles {
        for _ in 0..10_000 {
            let row = store.run(handle.id).await.expect("it can be read").expect("it exists");
            if row.ended.is_some() {
                break;
            }
            // A run that was loaded again has another handle.
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (_, history) = engine.history(handle.id).await.unwrap().expect("it exists");
        assert_eq!(history.status, RunStatus::Succeeded, "{}", error(&history, "Add"));
    }
    assert_eq!(engine.held(), Vec::new());
    assert_eq!(held(engine.memory(), "global/n").await, Value::from(80));
    let log = held(engine.memory(), "global/log").await;
    let mut log: Vec<i64> = log.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    log.sort_unstable();
    log.dedup();
    assert_eq!(log.len(), 40, "each run has appended its own number");
    engine.shut_down().await;
}

#[tokio::test]
async fn a_run_loads_again_when_another_process_was_faster() {
    let actions = r#"{"Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {}}}"#;
    let mut turns_of = Vec::new();
    for interferes in [false, true] {
        let disk = MemoryStore::default();
        let faulty = FaultyStore::new(disk.clone(), 1, FaultRate::default());
        // It has no locks in common with the engine, and its commits are written at once.
        let other = StoredMemory::new(Arc::new(disk.clone()), Arc::new(|| UnixMillis(1)));
        change(&other, "global/n", Operation::increment(5)).await;
        let engine = open(&(Arc::new(faulty.clone()) as Arc<dyn Store>));
        let request = RunRequest::manual(load(&of_actions(actions)), Vec::new(), None);
        let Ok(Started::Runs(runs)) = engine.start(request, None) else { panic!("no run started") };
        let (mut turns, mut added) = (0, 0);
        while disk.run(runs[0].id).await.expect("readable").is_none_or(|row| row.ended.is_none()) {
            faulty.work().await;
            turns += 1;
            // One of these turns writes the end of the action.
            if interferes && (2..=4).contains(&turns) {
                change(&other, "global/n", Operation::increment(10)).await;
                added += 10;
            }
            faulty.turn();
            tokio::task::yield_now().await;
        }
        turns_of.push(turns);
        assert_eq!(held(&other, "global/n").await, Value::from(5 + added + 1));
        let (_, history) = engine.history(runs[0].id).await.unwrap().expect("it exists");
        assert_eq!(history.status, RunStatus::Succeeded);
        assert_eq!(engine.held(), Vec::new());
        engine.shut_down().await;
    }
    assert!(turns_of[1] > turns_of[0], "a commit was rejected ({turns_of:?})");
}

#[tokio::test]
async fn a_cancelled_action_writes_nothing() {
    let store = in_memory();
    let engine = open(&store);
    // Somebody else holds the key.
    let turn = Request::new("n", Operation::increment(1)).expect("a key");
    let turn = engine.memory().prepare(&Namespace::Global, &[turn]).await.expect("a counter");
    let add = r#"{"Add": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/n"}, "runAfter": {}}}"#;
    let mut handle = begin(&engine, &of_actions(add)).await;
    engine.command(handle.id, Command::Cancel).await;
    assert_eq!(handle.ended().await.expect("it ends").status, RunStatus::Cancelled);
    drop(turn);
    assert_eq!(held(engine.memory(), "global/n").await, Value::NULL);
    change(engine.memory(), "global/n", Operation::increment(1)).await;
    engine.shut_down().await;
}

#[tokio::test]
async fn a_replay_does_not_read_again() {
    let store = in_memory();
    let first = open(&store);
    change(first.memory(), "global/limit", Operation::set(1)).await;
    let handle = begin(&first, &of_actions(
        r#"{
        "Before": {"type": "Compose", "inputs": "@memory('global/limit')", "runAfter": {}},
        "Wait": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {"Before": ["Succeeded"]}},
        "After": {"type": "Compose", "inputs": {"before": "@outputs('Before')", "now": "@memory('global/limit')"}, "runAfter": {"Wait": ["Succeeded"]}}}"#,
    )).await;
    first.shut_down().await;
    let second = open(&store);
    change(second.memory(), "global/limit", Operation::set(2)).await;
    let mut recovered = second.recover(None).await.expect("the store can be read");
    second
        .signal(handle.id, Signal { name: "go".into(), body: None, idempotency_key: None })
        .await
        .expect("it waits");
    assert_eq!(recovered.runs[0].ended().await.expect("it ends").status, RunStatus::Succeeded);
    let (_, history) = second.history(handle.id).await.unwrap().expect("it exists");
    assert_eq!(outputs(&history, "After"), json(r#"{"before": 1, "now": 2}"#));
    second.shut_down().await;
}

#[tokio::test]
async fn an_operation_that_cannot_be_executed_fails_its_action() {
    let engine = open(&in_memory());
    change(engine.memory(), "chat:1/log", Operation::append("a")).await;
    let of = |inputs: &str| format!(r#"{{"A": {{"type": "Memory", "inputs": {inputs}, "runAfter": {{}}}}}}"#);
    for (inputs, expected) in [
        (
            r#"{"operation": "increment", "key": "@concat('chat:1', '/log')"}"#,
            "WrongType: The action 'A' failed: the key `log` holds a list, but `increment` needs a counter.",
        ),
        (
            r#"{"operation": "set", "key": "chat:1/v", "value": 1, "ifRevision": 77}"#,
            "RevisionMismatch: The action 'A' failed: the key `v` has changed: expected revision 77, found no value.",
        ),
        (
            r#"{"operation": "get", "key": "@concat('agent:', 'eve/mood')"}"#,
            "AccessDenied: The action 'A' failed: the workflow may not read `agent:eve`; add it to `memory.read` of the definition.",
        ),
        (
            r#"{"operation": "set", "key": "@concat('agent:', 'bob/mood')", "value": 1}"#,
            "AccessDenied: The action 'A' failed: the workflow may not write `agent:bob`; add it to `memory.write` of the definition.",
        ),
        (
            r#"{"operation": "@concat('incr', 'ment')", "key": "global/n"}"#,
            "InvalidMemoryOperation: The action 'A' failed: the operation is not valid: unknown operation `incrment`; did you mean `increment`?.",
        ),
        (
            r#"{"operation": "get", "key": "@concat('limit', '')"}"#,
            "InvalidMemoryKey: The action 'A' failed: the key `limit` is not valid: it must have the form NAMESPACE/KEY, such as `global/limit`.",
        ),
    ] {
        let (status, history) = run(&engine, &of(inputs)).await;
        assert_eq!((status, error(&history, "A").as_str()), (RunStatus::Failed, expected), "{inputs}");
    }
    for (expression, expected) in [
        ("@memory(concat('chat:1x', string(trigger()?['none'])))", "it must have the form NAMESPACE/KEY"),
        (
            "@memory(concat('agent:eve/mood', string(trigger()?['none'])))",
            "the workflow may not read `agent:eve`; add it to `memory.read`",
        ),
        ("@memoryHash('chat:1/log', 'a')", "the key holds a list, not a hash"),
    ] {
        let compose =
            format!(r#"{{"A": {{"type": "Compose", "inputs": "{expression}", "runAfter": {{}}}}}}"#);
        let (status, history) = run(&engine, &compose).await;
        let error = error(&history, "A");
        assert!(status == RunStatus::Failed && error.contains(expected), "{expression}: {error}");
    }
    engine.shut_down().await;
}

/// A source of one secret.
struct Safe;

impl SecretSource for Safe {
    fn read<'a>(&'a self, name: &'a str, _: Option<&'a str>) -> SecretFuture<'a> {
        let secret = Secret { value: "open sesame".into(), name: name.into(), version: None };
        Box::pin(std::future::ready(Ok(secret)))
    }
}

#[tokio::test]
async fn what_a_secret_touched_comes_back_as_a_secret() {
    let store = in_memory();
    let quiet = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let environment = Environment { secrets: Some(Arc::new(Safe)), ..Environment::default() };
    let engine = engine(&quiet).store(Arc::clone(&store)).environment(environment).build();
    let (status, history) = run(&engine, r#"{
        "Keep": {"type": "Memory", "inputs": {"operation": "hashSet", "key": "global/door", "fields": {"word": "@concat(secret('word'), '!')", "color": "red"}}, "runAfter": {}},
        "Hidden": {"type": "Memory", "inputs": {"operation": "set", "key": "global/hidden", "value": 7}, "runAfter": {},
            "runtimeConfiguration": {"secureData": {"properties": ["inputs"]}}},
        "Name": {"type": "Memory", "inputs": {"operation": "get", "key": "global/@{secret('word')}"}, "runAfter": {}}}"#).await;
    assert_eq!(status, RunStatus::Failed);
    assert!(error(&history, "Name").contains("must not be a secret"), "{}", error(&history, "Name"));
    assert_eq!(error(&history, "Hidden"), "OK: ");
    for (address, field) in [("global/door", Some("word")), ("global/hidden", None)] {
        let value = held(engine.memory(), address).await;
        let part = field.map_or(Some(&value), |field| value.get(field));
        assert!(part.is_some_and(Value::contains_secret), "{address}: {value:?}");
    }
    // In another run, by both roads.
    let (status, history) = run(&engine, r#"{
        "Read": {"type": "Compose", "inputs": {"word": "@memoryHash('global/door', 'word')", "color": "@memory('global/door').color"}, "runAfter": {}},
        "Get": {"type": "Memory", "inputs": {"operation": "hashGet", "key": "global/door", "field": "word"}, "runAfter": {}},
        "Count": {"type": "Compose", "inputs": "@length(memory('global/door').word)", "runAfter": {}},
        "Equal": {"type": "Compose", "inputs": "@equals(outputs('Read')['word'], 'open sesame!')", "runAfter": {"Read": ["Succeeded"]}}}"#).await;
    assert_eq!(status, RunStatus::Succeeded);
    let read = outputs(&history, "Read");
    assert!(read.get("word").is_some_and(Value::is_secret), "{read:?}");
    assert_eq!(read.get("color"), Some(&Value::from("red")));
    assert!(outputs(&history, "Get").get("body").is_some_and(Value::is_secret));
    assert!(outputs(&history, "Count").is_secret(), "a number that was computed from it, too");
    assert!(outputs(&history, "Equal").is_secret());
    assert!(!format!("{read:?}").contains("sesame"));
    assert_eq!(
        engine.masker().mask("say open sesame!"),
        "say [redacted]".replace("[redacted]", loom_expression::MASK)
    );
    engine.shut_down().await;
}

#[tokio::test]
async fn the_memory_of_a_run_goes_with_the_run() {
    let store = in_memory();
    let engine = open(&store);
    let handle = begin(&engine, &of_actions(
        r#"{"Keep": {"type": "Memory", "inputs": {"operation": "set", "key": "run/n", "value": 1}, "runAfter": {}}}"#,
    )).await;
    let address = format!("run:{}/n", handle.id);
    while store.run(handle.id).await.expect("readable").is_some_and(|row| row.ended.is_none()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(held(engine.memory(), &address).await, Value::from(1));
    store.delete_run(handle.id).await.expect("it has ended");
    assert_eq!(held(engine.memory(), &address).await, Value::NULL);
    engine.shut_down().await;
}

#[tokio::test]
async fn runs_without_a_store_have_memory_for_as_long_as_the_engine() {
    let quiet = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = engine(&quiet).build();
    for expected in 1..=3 {
        let request = RunRequest::manual(load(&of_actions(WRITES)), Vec::new(), None);
        let report = engine.run(request).await.expect("it starts").expect("it ends");
        assert_eq!(report.status, RunStatus::Succeeded);
        assert_eq!(held(engine.memory(), "global/n").await, Value::from(2 * expected));
    }
    engine.shut_down().await;
}

#[test]
fn a_simulation_reads_shared_memory() {
    let memory = StoredMemory::new(in_memory(), Arc::new(|| UnixMillis(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(change(&memory, "global/limit", Operation::set(4)));
    let workflow = workflow(
        r#"{"A": {"type": "Compose", "inputs": "@add(memory('global/limit'), memory(concat('global', '/limit')))"}}"#,
    );
    let environment = Environment { memory: Some(memory), ..Environment::default() };
    let mut simulation = Simulation::new(Arc::clone(&workflow), Arc::new(environment), now());
    assert_eq!(simulation.play(start(7), 1_000, |_| ok("{}")), Some(RunStatus::Succeeded));
    let mut history = History::new(workflow);
    history.extend(simulation.events());
    assert_eq!(outputs(&history, "A"), Value::from(8));
}

/// The definition crate cannot use the crate of shared memory, so it has its own list of operations and its own check of grants.
#[test]
fn definitions_know_the_same_operations_and_grants_as_shared_memory() {
    let value_of = |property: &str| match property {
        "values" => r#"["a"]"#,
        "max" | "from" | "to" | "by" => "1",
        "ttl" => "60",
        _ => r#""a""#,
    };
    for operation in MEMORY_OPERATIONS {
        // Properties that exclude each other cannot be tested together.
        for property in operation.properties {
            let mut text = format!(r#"{{"operation": "{}", "key": "k", "ifRevision": 1"#, operation.name);
            let given = |name: &str| {
                operation.properties.contains(&name) && !(*property == "values" && name == "value")
            };
            for other in ["value", "field"].into_iter().filter(|name| given(name) && *property != "fields") {
                write!(text, r#", "{other}": "a""#).expect("a string has room");
            }
            if *property == "fields" {
                let fields = if operation.name == "hashSet" { r#"{"a": 1}"# } else { r#"["a"]"# };
                write!(text, r#", "fields": {fields}"#).expect("a string has room");
            } else if !["value", "field"].contains(property) {
                write!(text, r#", "{property}": {}"#, value_of(property)).expect("a string has room");
            }
            text.push('}');
            let read = Request::from_json(&json(&text), "k", |_| None);
            let read = read.unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((read.operation.name(), read.operation.writes()), (operation.name, operation.writes));
        }
        for stranger in ["value", "values", "max", "from", "to", "field", "fields", "by", "ttl"] {
            if operation.properties.contains(&stranger) {
                continue;
            }
            let text = format!(r#"{{"operation": "{}", "key": "k", "{stranger}": 1}}"#, operation.name);
            let why = Request::from_json(&json(&text), "k", |_| None).expect_err(&text).to_string();
            assert!(why.contains("unknown property"), "{text}: {why}");
        }
    }
    assert_eq!(MEMORY_COMMON, ["operation", "key", "ifRevision", "ifAbsent"]);
    let grants =
        MemoryGrants { read: vec!["workflow:*".into()], write: vec!["chat:4*".into(), "agent:bob".into()] };
    let patterns = |texts: &[Arc<str>]| texts.iter().map(|text| Pattern::parse(text).expect(text)).collect();
    let real = Grants { read: patterns(&grants.read), write: patterns(&grants.write) };
    let own = Own { run: RunId::MIN, workflow: "orders".into() };
    for text in [
        "run",
        "workflow",
        "workflow:orders",
        "workflow:bills",
        "global",
        "chat:42",
        "chat:5",
        "agent:bob",
        "agent:bobby",
    ] {
        let namespace = Namespace::parse(text, Some(&own)).expect(text);
        for access in [Access::Read, Access::Write] {
            let here = grants.allow(access == Access::Write, text, "orders");
            assert_eq!(here, real.check(access, &namespace, &own).is_ok(), "{access} {text}");
        }
    }
}
