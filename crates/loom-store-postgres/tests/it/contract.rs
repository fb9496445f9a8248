//! The contract of the port, plain and encrypted, with one handle and with two, and compared with the store in memory.

use std::sync::Arc;

use loom_store::{
    Committed, Condition, Error, MemoryStore, Store, StoreKey,
    contract::{CASES, CLUSTER, Workload, dump},
    prelude::*,
    with_key,
};
use loom_store_postgres::PostgresStore;

use crate::server::shared;

fn key() -> StoreKey {
    StoreKey::new(&[7; 32])
}

#[tokio::test]
async fn the_store_meets_the_contract_and_survives_a_reopen() {
    for case in CASES {
        println!("{}", case.name);
        let options = shared().options();
        let store: Arc<dyn Store> = Arc::new(PostgresStore::open(options.clone()).await.unwrap());
        (case.check)(Arc::clone(&store)).await;
        if !matches!(store.health().condition, Condition::Running) {
            continue; // The case closed or condemned it.
        }
        store.verify().await.unwrap();
        let before = dump(&*store).await;
        store.close().await.unwrap();
        let again = PostgresStore::open(options).await.unwrap();
        assert_eq!(dump(&again).await, before, "{}", case.name);
    }
}

#[tokio::test]
async fn an_encrypted_store_meets_the_contract() {
    for case in CASES {
        println!("{}", case.name);
        let store = Arc::new(shared().store().await);
        (case.check)(with_key(store, Some(&key())).await.unwrap()).await;
    }
}

#[tokio::test]
async fn two_handles_meet_the_contract_of_a_cluster() {
    for case in CLUSTER {
        println!("{}", case.name);
        let options = shared().options();
        let one = PostgresStore::open(options.clone()).await.unwrap();
        let two = PostgresStore::open(options).await.unwrap();
        (case.check)([Arc::new(one), Arc::new(two)]).await;
    }
}

#[tokio::test]
async fn two_encrypted_handles_meet_the_contract_of_a_cluster() {
    for case in CLUSTER {
        println!("{}", case.name);
        let options = shared().options();
        let one = Arc::new(PostgresStore::open(options.clone()).await.unwrap());
        let one = with_key(one, Some(&key())).await.unwrap();
        let two = Arc::new(PostgresStore::open(options).await.unwrap());
        let two = with_key(two, Some(&key())).await.unwrap();
        (case.check)([one, two]).await;
    }
}

#[tokio::test]
async fn it_returns_what_the_store_in_memory_returns() {
    for seed in 0..20 {
        let options = shared().options();
        let (memory, mut store) =
            (MemoryStore::default(), PostgresStore::open(options.clone()).await.unwrap());
        let mut workload = Workload::with_facts(seed);
        let mut refused = 0;
        for round in 0..6 {
            // Several at once, so that they share statements. Nobody can consume a message before its id was returned.
            for burst in if seed % 2 == 0 { vec![1; 40] } else { vec![1, 3, 7, 1, 12, 16] } {
                let mut commits: Vec<_> = (0..burst).map(|_| workload.next_commit()).collect();
                commits.iter_mut().filter(|_| burst > 1).for_each(|commit| commit.inbox_consumed.clear());
                let acks: Vec<_> =
                    commits.iter().map(|commit| store.append(commit.clone()).unwrap()).collect();
                for (commit, ack) in commits.into_iter().zip(acks) {
                    let expected = memory.commit(commit.clone()).await;
                    match (&expected, &ack.await) {
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
            }
            if round % 2 == 1 {
                store.close().await.unwrap();
                store = PostgresStore::open(options.clone()).await.unwrap();
            }
            assert_eq!(dump(&memory).await, dump(&store).await, "seed {seed}");
        }
        assert!((10..220).contains(&refused), "seed {seed} refused {refused} of 240");
    }
}
