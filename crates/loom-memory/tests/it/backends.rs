//! The contract on both stores, and what only a stored memory promises.

use std::sync::Arc;

use loom_expression::Value;
use loom_memory::{
    Expiry, Namespace, Operation, Outcome, Request, SharedMemory, StoredMemory,
    contract::{CASES, Subject, Time},
};
use loom_store::{
    Commit, Definition, KeyQuery, KeyWrite, MemoryStore, Retention, RunId, RunRow, Seq, SqliteOptions,
    SqliteStore, Store, UnixMillis,
};

fn request(key: &str, operation: Operation) -> Request {
    Request::new(key, operation).expect("the key is valid")
}

async fn run(memory: &StoredMemory, request: Request) -> Outcome {
    memory.transact(&Namespace::Global, vec![request]).await.expect("the operation is allowed").remove(0)
}

fn on(store: Arc<dyn Store>) -> (StoredMemory, Time) {
    let time = Time::default();
    (StoredMemory::new(store, time.clock()), time)
}

fn open(directory: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).expect("the directory is empty"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_in_memory() {
    for case in CASES {
        println!("{}", case.name);
        let (memory, time) = on(Arc::new(MemoryStore::default()));
        (case.check)(Subject { memory: Arc::new(memory), time }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_in_sqlite() {
    for case in CASES {
        println!("{}", case.name);
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        let (memory, time) = on(Arc::clone(&store));
        (case.check)(Subject { memory: Arc::new(memory), time }).await;
        store.close().await.expect("a store that works can be closed");
    }
}

/// Two memories on one store are like two processes: they have no locks in common.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_without_common_locks_lose_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let memories = [on(Arc::clone(&store)).0, on(store).0];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let memory = memories[number % 2].clone();
        tasks.spawn(async move { run(&memory, request("n", Operation::increment(1))).await.revision });
    }
    let mut revisions = tasks.join_all().await;
    assert_eq!(run(&memories[0], request("n", Operation::Get)).await.value, Value::from(40));
    revisions.sort_unstable();
    assert!(revisions.is_sorted_by(|one, two| one < two), "each write has a revision of its own");
}

#[tokio::test]
async fn a_prepared_write_is_made_by_the_commit_that_contains_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (memory, _) = on(Arc::clone(&store));
    let add = [request("n", Operation::increment(1))];
    drop(memory.prepare(&Namespace::Global, &add).await.expect("a counter"));
    assert_eq!(run(&memory, request("n", Operation::Get)).await.value, Value::NULL, "nothing was committed");
    let prepared = memory.prepare(&Namespace::Global, &add).await.expect("a counter");
    assert_eq!(prepared.outcomes[0].value, Value::from(1));
    let mut commit = Commit::new();
    commit.keys = prepared.writes.clone();
    commit.keys.push(KeyWrite {
        namespace: "other".into(),
        key: "k".into(),
        value: Some("v".into()),
        ..KeyWrite::default()
    });
    store.commit(commit.clone()).await.expect("nobody else writes");
    drop(prepared.held);
    assert_eq!(run(&memory, request("n", Operation::Get)).await.value, Value::from(1));
    assert!(store.commit(commit).await.is_err(), "the same writes cannot be made twice");
    assert_eq!(run(&memory, request("n", Operation::Get)).await.value, Value::from(1));
}

#[tokio::test]
async fn revisions_are_not_reused_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut before = None;
    for _ in 0..3 {
        let store = open(&directory);
        let (memory, _) = on(Arc::clone(&store));
        let revision = run(&memory, request("k", Operation::increment(1))).await.revision;
        assert!(revision > before, "{revision:?} after {before:?}");
        before = revision;
        let deleted = run(&memory, request("k", Operation::Delete)).await;
        assert_eq!(deleted.revision, None);
        store.close().await.expect("a store that works can be closed");
    }
}

#[tokio::test]
async fn a_secret_is_sealed_on_the_disk_and_read_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = Value::from("correct horse battery staple").into_secret();
    let store = open(&directory);
    let (memory, _) = on(Arc::clone(&store));
    run(&memory, request("k", Operation::append(secret.clone()))).await;
    run(&memory, request("k", Operation::append("in the clear"))).await;
    run(&memory, request("open", Operation::set("seen by all"))).await;
    store.close().await.expect("a store that works can be closed");
    let mut files = String::new();
    for file in std::fs::read_dir(directory.path()).expect("a directory") {
        let path = file.expect("a file").path();
        if path.is_file() {
            files.push_str(&String::from_utf8_lossy(&std::fs::read(path).expect("a file")));
        }
    }
    assert!(files.contains("seen by all") && !files.contains("correct horse"));
    let store = open(&directory);
    let (memory, _) = on(Arc::clone(&store));
    let list = run(&memory, request("k", Operation::Get)).await.value;
    assert_eq!(list.index(0), Some(&secret));
    assert!(list.index(0).is_some_and(Value::is_secret) && !list.index(1).is_some_and(Value::is_secret));
    store.close().await.expect("a store that works can be closed");
}

#[tokio::test]
async fn expired_keys_and_those_of_a_deleted_run_leave_nothing_behind() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (memory, time) = on(Arc::clone(&store));
    let id = RunId::first_at(UnixMillis(1_700_000_000_000));
    let definition = Definition::new("{}".into());
    let mut commit = Commit::to_run(id, Seq::FIRST, Vec::new());
    commit.row = Some(RunRow { ended: Some(time.now()), ..RunRow::new(id, "orders", definition.hash(), 1) });
    commit.definitions.push(definition);
    store.commit(commit).await.expect("a run can be accepted");
    let large = || Operation::set("x".repeat(300 * 1024));
    let of_run = Namespace::Run(id);
    memory
        .transact(&of_run, vec![request("small", Operation::set(1)), request("large", large())])
        .await
        .expect("values");
    run(&memory, request("k", large()).expiring(Expiry::after_millis(10))).await;
    run(&memory, request("kept", large())).await;
    assert_eq!(named(&*store, &of_run).await, ["2 keys", "1 content"]);
    store.delete_run(id).await.expect("it has ended");
    assert_eq!(named(&*store, &of_run).await, ["0 keys", "0 content"]);
    assert_eq!(named(&*store, &Namespace::Global).await, ["2 keys", "2 content"]);
    let later = time.now().plus(10);
    store.sweep(Retention::default(), later).await.expect("a store that works can be swept");
    assert_eq!(named(&*store, &Namespace::Global).await, ["1 keys", "1 content"]);
    run(&memory, request("kept", Operation::set("small"))).await;
    assert_eq!(named(&*store, &Namespace::Global).await, ["1 keys", "0 content"]);
}

/// How many named values a namespace has in the store.
async fn named(store: &dyn Store, namespace: &Namespace) -> [String; 2] {
    let mut counts = Vec::new();
    for (space, what) in [("memory", "keys"), ("memory.content", "content")] {
        let query = KeyQuery {
            namespace: format!("{space}/{namespace}").into(),
            prefix: String::new(),
            after: None,
            limit: 99,
        };
        let page = store.keys(query).await.expect("a store that works can be read");
        counts.push(format!("{} {what}", page.values.len()));
    }
    counts.try_into().expect("two counts")
}
