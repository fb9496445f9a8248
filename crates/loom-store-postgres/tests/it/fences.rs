//! What the statements of several connections see of each other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use loom_store::{
    Commit, Committed, Conflict, Error, InboxQuery, NewNode, Post, Recipient, Seq, Shard, Shards, Store,
    StoreKey, Under, prelude::*, with_key,
};
use loom_store_postgres::PostgresStore;
use tokio::task::JoinSet;

use crate::{
    faults::{T0, frame, run, stored},
    server::shared,
};

fn node(name: &str, lease: Duration) -> NewNode {
    NewNode { name: name.into(), address: "".into(), lease, ..NewNode::default() }
}

/// Waits until a statement waits for a lock of this connection.
async fn is_waited_for(operator: &tokio_postgres::Client, pid: i32) {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))";
    while operator.query_opt(sql, &[&pid]).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn pid(client: &tokio_postgres::Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_waits_for_a_fence_in_progress_and_then_writes_nothing() {
    let options = shared().options();
    let schema = options.schema.clone();
    let store = PostgresStore::open(options).await.unwrap();
    let node = store.register(node("zombie", Duration::from_mins(1))).await.unwrap();
    store.claim(node, usize::MAX).await.unwrap();
    let under = Some(Under { node, shard: run(1).shard() });
    store.commit(Commit { under, ..Commit::to_run(run(1), Seq(1), vec![frame()]) }).await.unwrap();

    let (fencer, operator) = (shared().connect().await, shared().connect().await);
    operator
        .batch_execute(&format!(
            "CREATE TABLE {schema}.frame_old PARTITION OF {schema}.frame FOR VALUES FROM (0) TO (9)"
        ))
        .await
        .unwrap();
    fencer
        .batch_execute(&format!("SET search_path = {schema}; BEGIN; UPDATE fence SET fenced = true"))
        .await
        .unwrap();
    let ack = store.append(Commit { under, ..Commit::to_run(run(1), Seq(2), vec![frame()]) }).unwrap();
    is_waited_for(&operator, pid(&fencer).await).await;
    // The control: a statement that only reads the fence writes at this moment.
    let unlocked = format!(
        "INSERT INTO {schema}.frame (run, seq, at, node, codec, payload, crc)
         SELECT 7, 1, 0, 1, 0, '', 0 FROM {schema}.fence WHERE lane = 0 AND NOT fenced"
    );
    assert_eq!(operator.execute(&unlocked, &[]).await.unwrap(), 1);
    fencer.batch_execute("COMMIT").await.unwrap();
    let shard = run(1).shard();
    assert!(
        matches!(ack.await, Err(Error::Conflict(Conflict::Lost { node: lost, shard: of })) if lost == node && of == shard)
    );
    assert_eq!(stored(&store, run(1)).await, 1);
}

#[tokio::test]
async fn a_fence_waits_for_the_statement_in_progress() {
    let options = shared().options();
    let (schema, again) = (options.schema.clone(), options.clone());
    let (store, other) =
        (PostgresStore::open(options.clone()).await.unwrap(), PostgresStore::open(options).await.unwrap());
    let old = store.register(node("old", Duration::from_millis(1))).await.unwrap();
    store.claim(old, usize::MAX).await.unwrap();
    // A statement of the old node in progress, held up: its lock of the fence, and a frame that is not visible yet.
    let (zombie, operator) = (shared().connect().await, shared().connect().await);
    store.commit(Commit::to_run(run(1), Seq(1), vec![frame()])).await.unwrap();
    zombie
        .batch_execute(&format!(
            "SET search_path = {schema}; BEGIN; SELECT 1 FROM fence WHERE lane = 0 FOR SHARE;
             INSERT INTO frame (run, seq, at, node, codec, payload, crc) SELECT run, 2, at, node, codec, payload, 0 FROM frame"
        ))
        .await
        .unwrap();
    let new = other.register(node("new", Duration::from_mins(1))).await.unwrap();
    let mut fencing = JoinSet::new();
    fencing.spawn(other.fence(new, old));
    is_waited_for(&operator, pid(&zombie).await).await;
    let third = PostgresStore::open(again).await.unwrap();
    assert_eq!(third.claim(new, 9).await.unwrap(), Shards::NONE, "nothing changes hands before the fence");
    zombie.batch_execute("COMMIT").await.unwrap();
    assert!(fencing.join_next().await.unwrap().unwrap().unwrap());
    assert_eq!(other.claim(new, usize::MAX).await.unwrap(), Shards::ALL);
    let last = format!("SELECT max(seq) FROM {schema}.frame");
    assert_eq!(
        operator.query_one(&last, &[]).await.unwrap().get::<_, i64>(0),
        2,
        "what is read after the claim is complete"
    );
}

#[tokio::test]
async fn ids_of_messages_are_in_the_order_of_commits() {
    let options = shared().options();
    let schema = options.schema.clone();
    let store = PostgresStore::open(options).await.unwrap();
    let (slow, operator) = (shared().connect().await, shared().connect().await);
    let post = Post {
        run: None,
        shard: Shard::new(0),
        kind: 0,
        at: T0,
        idempotency_key: None,
        payload: Bytes::new(),
    };
    let posted = || Commit { inbox_posted: vec![post.clone()], ..Commit::new() };
    let read = async |after| {
        let query = InboxQuery { recipient: Recipient::Anyone, shards: Shards::ALL, after, limit: 9 };
        store.inbox(query).await.unwrap().into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    store.commit(posted()).await.unwrap();
    // A slow poster on another node: it has an id, and has not committed.
    slow.batch_execute(&format!(
        "SET search_path = {schema}; BEGIN; UPDATE counter SET number = number + 1 WHERE name = 'inbox';
         INSERT INTO inbox SELECT c.number, i.shard, i.run, i.kind, i.at, i.idempotency_key, i.payload, i.crc, i.taken_by
         FROM inbox i, counter c WHERE c.name = 'inbox'"
    ))
    .await
    .unwrap();
    let ack = store.append(posted()).unwrap();
    is_waited_for(&operator, pid(&slow).await).await;
    let seen = read(None).await;
    assert_eq!(seen.len(), 1);
    slow.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(ack.await, Ok(Committed::Written(_))));
    assert_eq!(
        read(seen.last().copied()).await.len(),
        2,
        "a reader that continues after the last id sees all later ones"
    );

    // The control: with ids from a sequence, the same reader loses the message of the slow poster.
    operator
        .batch_execute(&format!("CREATE TABLE {schema}.control (id bigserial PRIMARY KEY); INSERT INTO {schema}.control DEFAULT VALUES"))
        .await
        .unwrap();
    slow.batch_execute("BEGIN; INSERT INTO control DEFAULT VALUES").await.unwrap();
    operator.batch_execute(&format!("INSERT INTO {schema}.control DEFAULT VALUES")).await.unwrap();
    let sql = format!("SELECT max(id) FROM {schema}.control");
    let seen: i64 = operator.query_one(&sql, &[]).await.unwrap().get(0);
    slow.batch_execute("COMMIT").await.unwrap();
    let sql = format!("SELECT count(*) FROM {schema}.control WHERE id > $1");
    let later: i64 = operator.query_one(&sql, &[&seen]).await.unwrap().get(0);
    assert_eq!((seen, later), (3, 0), "message 2 is never seen");
}

#[tokio::test]
async fn nodes_that_start_at_once_create_the_tables_once() {
    for round in 0..8 {
        let options = shared().options();
        let mut opening = JoinSet::new();
        for _ in 0..3 {
            opening.spawn(PostgresStore::open(options.clone()));
        }
        let stores = opening.join_all().await;
        // One of them is the first with a key, and the others find its mark.
        let mut keyed = JoinSet::new();
        for store in stores {
            let store: Arc<dyn Store> = Arc::new(store.unwrap());
            keyed.spawn(async move { with_key(store, Some(&StoreKey::new(&[round; 32]))).await });
        }
        assert!(keyed.join_all().await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn tables_of_others_and_of_newer_versions_are_refused() {
    let options = shared().options();
    let operator = shared().connect().await;
    let schema = &options.schema;
    operator
        .batch_execute(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders (id int)"))
        .await
        .unwrap();
    assert!(matches!(PostgresStore::open(options.clone()).await, Err(Error::NotAStore { .. })));
    operator.batch_execute(&format!("DROP TABLE {schema}.orders")).await.unwrap();
    PostgresStore::open(options.clone()).await.unwrap().close().await.unwrap();
    operator
        .batch_execute(&format!("UPDATE {schema}.meta SET number = 1000 WHERE name = 'format'"))
        .await
        .unwrap();
    assert!(matches!(
        PostgresStore::open(options.clone()).await,
        Err(Error::NewerFormat { found: 1_000, .. })
    ));
    let odd = loom_store_postgres::PostgresOptions { schema: "Drop table".into(), ..options };
    let refused = PostgresStore::open(odd).await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("not a valid schema name"));
}

#[tokio::test]
async fn a_commit_that_the_database_refuses_does_not_fail_the_others() {
    let options = shared().options();
    let schema = options.schema.clone();
    let store = PostgresStore::open(options).await.unwrap();
    let operator = shared().connect().await;
    operator
        .batch_execute(&format!("ALTER TABLE {schema}.timer ADD CONSTRAINT kinds CHECK (kind < 5) NOT VALID"))
        .await
        .unwrap();
    let with_timer = |number: u64, kind| {
        let key = loom_store::TimerKey { run: run(number), number: 1 };
        Commit {
            timers_set: vec![loom_store::Timer { key, due: T0, kind }],
            ..Commit::to_run(run(number), Seq(1), vec![frame()])
        }
    };
    let acks: Vec<_> = (0..40)
        .map(|number| store.append(with_timer(number, if number == 13 { 7 } else { 1 })).unwrap())
        .collect();
    for (number, ack) in (0..).zip(acks) {
        match (number, ack.await) {
            (13, Err(error @ Error::Io { .. })) => assert!(std::error::Error::source(&error).is_some()),
            (_, Ok(Committed::Written(_))) if number != 13 => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stored(&store, run(13)).await, 0);
    assert_eq!(stored(&store, run(14)).await, 1);
    assert!(matches!(store.health().condition, loom_store::Condition::Running));
}

#[tokio::test]
async fn texts_may_contain_the_character_that_postgresql_cannot_store() {
    let store = shared().store().await;
    let text = "before\0after\u{1}";
    let mut row = loom_store::RunRow::new(run(1), "w\0", loom_store::ContentHash::of(b"{}"), 1);
    row.error = Some("code".into());
    row.error_text = Some(text.into());
    row.idempotency_key = Some(text.into());
    store.commit(Commit { row: Some(row.clone()), ..Commit::new() }).await.unwrap();
    assert_eq!(store.run_by_key("w\0", text).await.unwrap(), Some(row.clone()));
    for (part, found) in [("E\0A", 1), ("after\u{1}", 1), ("\0\u{1}", 0)] {
        let query = loom_store::RunQuery { error_text: Some(part.into()), ..Default::default() };
        assert_eq!(store.runs(query).await.unwrap().rows.len(), found, "{part:?}");
    }
}

#[tokio::test]
async fn empty_partitions_are_dropped_and_created_again() {
    let options = shared().options();
    let schema = options.schema.clone();
    let store = PostgresStore::open(options.clone()).await.unwrap();
    let other = PostgresStore::open(options).await.unwrap();
    let operator = shared().connect().await;
    let partitions = async || {
        let sql = format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{schema}.frame'::regclass");
        operator.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let ahead = partitions().await;
    let mut row = loom_store::RunRow::new(run(1), "w", loom_store::ContentHash::of(b"{}"), 1);
    row.ended = Some(T0);
    let ended = Commit { row: Some(row), ..Commit::to_run(run(1), Seq(1), vec![frame()]) };
    store.commit(ended).await.unwrap();
    other.commit(Commit::to_run(run(2), Seq(1), vec![frame()])).await.unwrap();
    assert_eq!(partitions().await, ahead + 1);
    let policy = loom_store::Retention { age_max_ms: Some(1), ..Default::default() };
    assert_eq!(store.sweep(policy, T0.plus(9)).await.unwrap().purged, 1);
    assert_eq!(partitions().await, ahead + 1, "a frame of another run is in it");
    let row = loom_store::RunRow {
        ended: Some(T0),
        ..loom_store::RunRow::new(run(2), "w", loom_store::ContentHash::of(b"{}"), 1)
    };
    other.commit(Commit { row: Some(row), ..Commit::new() }).await.unwrap();
    assert_eq!(store.sweep(policy, T0.plus(9)).await.unwrap().purged, 1);
    assert_eq!(partitions().await, ahead);
    // Both have written to it before, and do not know that it is gone.
    for (number, store) in [(3, &store), (4, &other)] {
        store.commit(Commit::to_run(run(number), Seq(1), vec![frame()])).await.unwrap();
        assert_eq!(stored(store, run(number)).await, 1);
    }
    assert_eq!(partitions().await, ahead + 1);
}
