//! A standby takes over from a primary that is gone.

use std::time::Duration;

use loom_store::{Commit, Durability, Seq, prelude::*};
use loom_store_postgres::{PostgresOptions, PostgresStore};

use crate::{
    faults::{frame, progress, run, stored, under_load},
    server::Server,
};

/// Waits until a query returns true.
async fn wait_for(client: &tokio_postgres::Client, sql: &str) {
    while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A primary and a standby, and the settings of a store that uses whichever of them accepts writes.
async fn pair(is_synchronous: bool, durability: Durability) -> (Server, Server, PostgresOptions) {
    let primary = Server::start(&["fsync=off"]);
    let standby = primary.standby("s1");
    let operator = primary.connect().await;
    wait_for(&operator, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE state = 'streaming')").await;
    if is_synchronous {
        operator.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 's1'").await.unwrap();
        operator.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        wait_for(&operator, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')")
            .await;
    }
    let url = format!("host={},{} user=postgres dbname=postgres", primary.host(), standby.host());
    let settle_within = Duration::from_mins(1);
    let options =
        PostgresOptions { durability, settle_within, schema: "store".into(), ..PostgresOptions::new(url) };
    (primary, standby, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing() {
    let (mut primary, standby, options) = pair(true, Durability::Durable).await;
    let store = PostgresStore::open(options).await.unwrap();
    under_load(&store, async |all| {
        progress(&all, 500).await;
        primary.stop();
        let promoting = standby.connect().await;
        promoting.execute("SELECT pg_promote()", &[]).await.unwrap();
        progress(&all, 500).await;
    })
    .await;
    assert_eq!(
        store.metrics().pauses,
        0,
        "callers waited, and their commits were settled on the new primary"
    );
}

/// The control of the test above: a store that does not wait loses what had not reached the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_standby_that_lags_loses_what_it_has_not_received() {
    let (mut primary, standby, options) = pair(false, Durability::Relaxed).await;
    let store = PostgresStore::open(options).await.unwrap();
    let commit = |seq| Commit::to_run(run(1), Seq(seq), vec![frame()]);
    store.commit(commit(1)).await.unwrap();
    let (on_primary, on_standby) = (primary.connect().await, standby.connect().await);
    let reached =
        "SELECT coalesce((SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication), false)";
    wait_for(&on_primary, reached).await;
    on_standby.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    on_standby.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    wait_for(&on_primary, "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_replication)").await;
    for seq in 2..=50 {
        store.commit(commit(seq)).await.unwrap();
    }
    primary.stop();
    on_standby.execute("SELECT pg_promote()", &[]).await.unwrap();
    assert!(stored(&store, run(1)).await < 50, "acknowledged commits are gone");
}
