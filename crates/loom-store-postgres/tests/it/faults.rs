//! Connections, backends and servers that fail: what was acknowledged is stored, exactly once.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use loom_store::{
    Ack, Commit, Committed, Durability, Error, Frame, FrameQuery, InboxQuery, NewNode, Post, Recipient,
    RunId, Seq, Shard, Shards, UnixMillis, contract::Seeded, prelude::*,
};
use loom_store_postgres::{PostgresOptions, PostgresStore};
use tokio::task::JoinSet;

use crate::{
    proxy::{Lose, Proxy},
    server::{Server, shared},
};

pub(crate) const T0: UnixMillis = UnixMillis(1_700_000_000_000);

pub(crate) fn run(number: u64) -> RunId {
    RunId::first_at(T0.plus(number as i64))
}

pub(crate) fn frame() -> Frame {
    Frame { at: T0, payload: Bytes::from_static(b"frame") }
}

fn post() -> Post {
    Post { run: None, shard: Shard::new(3), kind: 1, at: T0, idempotency_key: None, payload: Bytes::new() }
}

/// A commit whose repetition would be noticed: a second message has no key.
fn commit(run: RunId, seq: Seq) -> Commit {
    Commit { inbox_posted: vec![post()], ..Commit::to_run(run, seq, vec![frame()]) }
}

/// How many frames of the run are stored. While the server is away, reads fail and may be tried again.
pub(crate) async fn stored(store: &PostgresStore, run: RunId) -> u64 {
    let query = FrameQuery { frames_max: 1_000_000, bytes_max: usize::MAX, ..FrameQuery::of(run) };
    let frames = loop {
        match store.frames(query).await {
            Ok(page) => break page.frames,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(frames.iter().zip(1..).all(|(frame, seq)| frame.seq == Seq(seq)), "the journal is dense");
    frames.len() as u64
}

/// Resumes the store, as soon as that is possible.
async fn resume(store: &PostgresStore) {
    while let Err(error) = store.resume().await {
        assert!(error.is_retryable(), "{error:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn messages(store: &PostgresStore) -> u64 {
    let query =
        InboxQuery { recipient: Recipient::Anyone, shards: Shards::ALL, after: None, limit: 1_000_000 };
    store.inbox(query).await.unwrap().len() as u64
}

/// Appends to a run until told to stop. Returns how many commits were acknowledged. After a pause it reads what is stored, as the port
/// prescribes, and continues from there.
async fn writer(store: PostgresStore, run: RunId, stop: Arc<AtomicBool>, all: Arc<AtomicU64>) -> u64 {
    let mut acknowledged = 0;
    while !stop.load(Ordering::Acquire) {
        match store.commit(commit(run, Seq(acknowledged + 1))).await {
            Ok(Committed::Written(_)) => {
                acknowledged += 1;
                all.fetch_add(1, Ordering::AcqRel);
            }
            Err(Error::Paused { .. }) => {
                resume(&store).await;
                let found = stored(&store, run).await;
                assert!(
                    found == acknowledged || found == acknowledged + 1,
                    "{acknowledged} acknowledged, {found} stored"
                );
                acknowledged = found;
            }
            other => panic!("{other:?}"),
        }
    }
    acknowledged
}

/// Waits until this many more commits were acknowledged.
pub(crate) async fn progress(all: &AtomicU64, more: u64) {
    let goal = all.load(Ordering::Acquire) + more;
    while all.load(Ordering::Acquire) < goal {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets writers work while `disturb` is executed, and checks afterwards that what was acknowledged is stored, exactly once.
pub(crate) async fn under_load<F: Future<Output = ()>>(
    store: &PostgresStore,
    disturb: impl FnOnce(Arc<AtomicU64>) -> F,
) {
    const WRITERS: u64 = 12;
    let (stop, all) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (store, stop, all) = (store.clone(), Arc::clone(&stop), Arc::clone(&all));
        writers.spawn(async move { (number, writer(store, run(number), stop, all).await) });
    }
    progress(&all, 50).await;
    disturb(Arc::clone(&all)).await;
    progress(&all, 50).await;
    stop.store(true, Ordering::Release);
    let mut total = 0;
    while let Some(ended) = writers.join_next().await {
        let (number, acknowledged) = ended.unwrap();
        assert_eq!(stored(store, run(number)).await, acknowledged, "writer {number}");
        total += acknowledged;
    }
    assert_eq!(messages(store).await, total, "each commit took effect exactly once");
    store.verify().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_are_killed_lose_nothing() {
    let server = Server::start(&["fsync=off"]);
    let options = PostgresOptions { settle_within: Duration::from_mins(1), ..server.options() };
    let store = PostgresStore::open(options).await.unwrap();
    let operator = server.connect().await;
    under_load(&store, async |all| {
        let mut random = Seeded::new(17);
        for _ in 0..60 {
            let ours = operator
                .query("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'loom/%'", &[])
                .await
                .unwrap();
            if !ours.is_empty() {
                let pid: i32 = ours[random.below(ours.len() as u64) as usize].get(0);
                operator.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
            }
            progress(&all, 1 + random.below(40)).await;
        }
    })
    .await;
    assert_eq!(store.metrics().pauses, 0, "each outcome was settled before the store had to pause");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_nothing() {
    let mut server = Server::start(&[]);
    let options = PostgresOptions { settle_within: Duration::from_millis(500), ..server.options() };
    let store = PostgresStore::open(options).await.unwrap();
    under_load(&store, async |all| {
        for _ in 0..4 {
            server.crash_and_restart(&[]);
            progress(&all, 100).await;
        }
    })
    .await;
}

/// The control of the test above: without the wait for the disk, acknowledged commits are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relaxed_store_loses_what_the_server_had_not_written() {
    // The server writes its log only when a second has passed, or a statement waits for it.
    let settings = ["wal_writer_delay=10s", "wal_writer_flush_after=0", "autovacuum=off"];
    let mut server = Server::start(&settings);
    let options = PostgresOptions { durability: Durability::Relaxed, ..server.options() };
    let mut lost = 0;
    for round in 0..10 {
        let store = PostgresStore::open(options.clone()).await.unwrap();
        for seq in 1..=20 {
            store.commit(Commit::to_run(run(round), Seq(seq), vec![frame()])).await.unwrap();
        }
        server.crash_and_restart(&settings);
        store.close().await.unwrap();
        let again = PostgresStore::open(options.clone()).await.unwrap();
        lost += 20 - stored(&again, run(round)).await;
        again.close().await.unwrap();
    }
    assert!(lost > 0, "a store that does not wait for the disk loses what it acknowledged");
}

#[tokio::test]
async fn a_lost_answer_is_found_and_a_lost_request_repeated() {
    let proxy = Proxy::start(shared().socket()).await;
    let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", proxy.port);
    let options =
        PostgresOptions { url: address, settle_within: Duration::from_mins(1), ..shared().options() };
    let schema = options.schema.clone();
    let store = PostgresStore::open(options).await.unwrap();
    // The statement is prepared, so that what is lost is its execution.
    store.commit(commit(run(1), Seq(1))).await.unwrap();
    let mut requests = 0;
    for round in 2..=30 {
        // After a lost connection the statement has to be prepared again.
        let warm = Seq(2 * round - 2);
        store.commit(commit(run(1), warm)).await.unwrap();
        let what = if round % 3 == 0 { Lose::Request } else { Lose::Answer };
        requests += i64::from(what == Lose::Request);
        proxy.lose(what);
        let written = store.commit(commit(run(1), warm.plus(1))).await.unwrap();
        assert!(proxy.has_lost(), "round {round}");
        // The ids are those of the statement whose answer was lost.
        let Committed::Written(written) = written else { panic!("{written:?}") };
        assert_eq!(written.inbox.len(), 1);
        assert_eq!(written.inbox[0].0, 2 * round - 1, "round {round}");
    }
    assert_eq!(stored(&store, run(1)).await, 59);
    assert_eq!(messages(&store).await, 59, "no statement took effect twice");
    assert_eq!(store.metrics().pauses, 0);
    // The control: statements whose request was lost had not taken effect, the others had.
    let operator = shared().connect().await;
    let sql = format!("SELECT count(*) FROM {schema}.change WHERE refused = '{{-1}}'");
    let replaced: i64 = operator.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(replaced, requests);
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_abandoned() {
    let proxy = Proxy::start(shared().socket()).await;
    let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", proxy.port);
    let options =
        PostgresOptions { url: address, settle_within: Duration::from_mins(1), ..shared().options() };
    let store = PostgresStore::open(options).await.unwrap();
    let lease = Duration::from_mins(1);
    let node = NewNode { name: "far".into(), lease, ..NewNode::default() };
    let node = store.register(node).await.unwrap();
    for (round, what) in (1_u64..).zip([Lose::RequestSilently, Lose::AnswerSilently]) {
        // The statement is prepared, so that what is lost is its execution.
        store.commit(commit(run(1), Seq(2 * round - 1))).await.unwrap();
        proxy.lose(what);
        store.commit(commit(run(1), Seq(2 * round))).await.unwrap();
        assert!(proxy.has_lost(), "{what:?}");
        store.renew(node).await.unwrap();
        proxy.lose(what);
        // A renewal is not repeated: the next one asks for the same.
        assert!(store.renew(node).await.unwrap_err().is_retryable(), "{what:?}");
        store.renew(node).await.unwrap();
        // The next read.
        proxy.lose(what);
        assert_eq!(stored(&store, run(1)).await, 2 * round, "{what:?}");
        assert!(proxy.has_lost(), "{what:?}");
    }
    assert_eq!((stored(&store, run(1)).await, messages(&store).await), (4, 4));
    assert_eq!(store.metrics().pauses, 0);
}

/// Whether the commit is still waiting.
async fn is_pending(ack: &mut Ack) -> bool {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *ack).poll(context).is_pending())).await
}

/// Waits until a statement of a store waits for a standby, and returns its backend.
async fn waiting_for_standby(operator: &tokio_postgres::Client, except: i32) -> i32 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'loom/writer' AND pid <> $1";
    loop {
        if let Some(row) = operator.query_opt(sql, &[&except]).await.unwrap() {
            return row.get(0);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until commits wait for a standby: a reload of the settings only asks the checkpointer, which announces them to the others, and
/// a commit before that is acknowledged without a standby.
async fn commits_wait_for_standby(server: &Server, operator: &tokio_postgres::Client) {
    let probe = server.connect().await;
    let backend: i32 = probe.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let done = AtomicBool::new(false);
    let waiting = async {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1";
        while operator.query_opt(sql, &[&backend]).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        done.store(true, Ordering::Release);
        operator.execute("SELECT pg_cancel_backend($1)", &[&backend]).await.unwrap();
    };
    let commits = async {
        while !done.load(Ordering::Acquire) {
            // A transaction with a record in the log, and nothing else.
            probe.batch_execute("SELECT pg_logical_emit_message(true, 'probe', '')").await.unwrap();
        }
    };
    tokio::join!(waiting, commits);
}

#[tokio::test]
async fn a_cancelled_wait_for_a_standby_is_no_acknowledgement() {
    let server = Server::start(&["fsync=off"]);
    let options = PostgresOptions { settle_within: Duration::from_mins(1), ..server.options() };
    let store = PostgresStore::open(options).await.unwrap();
    let operator = server.connect().await;
    operator.batch_execute("SET synchronous_commit = local").await.unwrap();
    let set = async |names: &str| {
        operator
            .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))
            .await
            .unwrap();
        operator.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    store.commit(Commit::to_run(run(1), Seq(1), vec![frame()])).await.unwrap();
    set("away").await;
    commits_wait_for_standby(&server, &operator).await;
    let mut ack = store.append(Commit::to_run(run(1), Seq(2), vec![frame()])).unwrap();
    let first = waiting_for_standby(&operator, 0).await;
    assert!(is_pending(&mut ack).await);
    operator.execute("SELECT pg_cancel_backend($1)", &[&first]).await.unwrap();
    // The server has reported success and a warning, and everybody sees the frame; but the store waits again.
    let second = waiting_for_standby(&operator, first).await;
    assert_ne!(first, second);
    assert_eq!(stored(&store, run(1)).await, 2);
    assert!(is_pending(&mut ack).await, "a commit that a failover could lose is not acknowledged");
    set("").await;
    assert!(matches!(ack.await, Ok(Committed::Written(_))));
    assert_eq!(stored(&store, run(1)).await, 2);
}

#[tokio::test]
async fn a_store_whose_server_is_away_pauses_and_can_be_resumed() {
    let mut server = Server::start(&["fsync=off"]);
    let options = PostgresOptions { settle_within: Duration::from_millis(100), ..server.options() };
    let store = PostgresStore::open(options).await.unwrap();
    store.commit(commit(run(1), Seq(1))).await.unwrap();
    server.stop();
    let lost = store.commit(commit(run(1), Seq(2))).await;
    assert!(matches!(&lost, Err(error @ Error::Paused { .. }) if error.is_retryable()), "{lost:?}");
    assert!(matches!(store.health().condition, loom_store::Condition::Paused(_)));
    assert!(store.append(Commit::new()).is_err());
    assert!(store.resume().await.is_err(), "the server is still away");
    server.restart(&["fsync=off"]);
    resume(&store).await;
    assert_eq!(stored(&store, run(1)).await, 1);
    store.commit(commit(run(1), Seq(2))).await.unwrap();
    assert_eq!(store.metrics().pauses, 1);
}
