//! Runs the contract on every backend, and compares the backends with each other.

use std::sync::Arc;

use loom_store::{
    Committed, Condition, Error, MemoryStore, NewNode, SqliteOptions, SqliteStore, Store,
    contract::{CASES, CLUSTER, Workload, dump},
    prelude::*,
    with_key,
};

use crate::encrypted::KEY;

#[tokio::test]
async fn the_memory_store_meets_the_contract() {
    for case in CASES {
        println!("{}", case.name);
        (case.check)(Arc::new(MemoryStore::default())).await;
    }
}

#[tokio::test]
async fn the_sqlite_store_meets_the_contract_and_survives_a_reopen() {
    for case in CASES {
        println!("{}", case.name);
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
        (case.check)(Arc::clone(&store)).await;
        if !matches!(store.health().condition, Condition::Running) {
            continue; // The case closed or condemned it.
        }
        store.verify().await.unwrap();
        let before = dump(&*store).await;
        store.close().await.unwrap();
        let again = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        assert_eq!(dump(&again).await, before, "{}", case.name);
    }
}

#[tokio::test]
async fn encrypted_stores_meet_the_contract() {
    for case in CASES {
        println!("{}", case.name);
        (case.check)(with_key(Arc::new(MemoryStore::default()), Some(&KEY)).await.unwrap()).await;
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        (case.check)(with_key(Arc::new(store), Some(&KEY)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn both_backends_return_the_same_results() {
    for seed in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let options = || SqliteOptions { linger: std::time::Duration::ZERO, ..SqliteOptions::default() };
        let open = || SqliteStore::open(directory.path(), options()).unwrap();
        let (memory, mut sqlite) = (MemoryStore::default(), open());
        let mut workload = Workload::with_facts(seed);
        let mut refused = 0;
        for round in 0..6 {
            for _ in 0..40 {
                let commit = workload.next_commit();
                let expected = memory.commit(commit.clone()).await;
                let actual = sqlite.commit(commit.clone()).await;
                match (&expected, &actual) {
                    (Ok(expected), Ok(actual)) => {
                        assert_eq!(expected, actual, "seed {seed}: {commit:?}");
                        refused += usize::from(matches!(actual, Committed::Duplicate(_)));
                    }
                    (Err(Error::Conflict(expected)), Err(Error::Conflict(actual))) => {
                        assert_eq!(expected, actual, "seed {seed}: {commit:?}");
                        workload.refused(expected);
                        refused += 1;
                    }
                    other => panic!("seed {seed}: {other:?} for {commit:?}"),
                }
            }
            if round % 2 == 1 {
                sqlite.close().await.unwrap();
                sqlite = open();
            }
            assert_eq!(dump(&memory).await, dump(&sqlite).await, "seed {seed}");
        }
        assert!((10..200).contains(&refused), "seed {seed} refused {refused} of 240");
    }
}

#[tokio::test]
async fn every_backend_meets_the_contract_for_two_handles() {
    for case in CLUSTER {
        println!("{}", case.name);
        let memory = MemoryStore::default();
        (case.check)([Arc::new(memory.clone()), Arc::new(memory)]).await;
        let directory = tempfile::tempdir().unwrap();
        let sqlite: Arc<dyn Store> =
            Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
        (case.check)([Arc::clone(&sqlite), sqlite]).await;
        let below: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let one = with_key(Arc::clone(&below), Some(&KEY)).await.unwrap();
        let two = with_key(below, Some(&KEY)).await.unwrap();
        (case.check)([one, two]).await;
    }
}

#[tokio::test]
async fn a_node_id_is_not_used_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = None;
    for _ in 0..3 {
        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        let node = NewNode {
            name: "node".into(),
            address: "".into(),
            lease: std::time::Duration::ZERO,
            ..NewNode::default()
        };
        let ids = [store.register(node.clone()).await.unwrap(), store.register(node).await.unwrap()];
        assert!(last < Some(ids[0]) && ids[0] < ids[1]);
        last = Some(ids[1]);
        assert_eq!(store.nodes().await.unwrap().len(), 2, "nodes live and die with their process");
        store.close().await.unwrap();
    }
}
