//! Measures durable commits per second on PostgreSQL and on SQLite, in one run, with 1, 64 and 256 callers.
//!
//! Each caller writes a commit, waits for it, and writes the next: a frame of 256 bytes, in runs of 12; the acceptance of a run, with
//! its row, its key and its first frame; or a message. The stores take turns. The server is started here, and syncs. The data of both
//! is in the system's temporary directory: set TMPDIR if that is not on a disk.
//!
//! `cargo bench -p loom-store-postgres --features postgres-tests -- [SECONDS]`; two seconds per row by default.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use loom_store::{
    Commit, ContentHash, Frame, NewNode, Post, RunId, RunRow, Seq, Shard, SqliteOptions, SqliteStore, Store,
    Under, UnixMillis,
};
use loom_store_postgres::PostgresStore;

#[path = "../tests/it/server.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests use more of it, and fail where this stops")]
mod server;

const FRAMES_A_RUN: u64 = 12;

/// What each commit of a caller does.
#[derive(Clone, Copy)]
enum Mode {
    /// Appends a frame.
    Frames,
    /// Accepts a run.
    Accept,
    /// Posts a message.
    Posts,
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2.0);
    let during = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = server::Server::start(&[]);
    println!("| case | callers | store | commits/s | p50 ms | p99 ms | commits a group |");
    println!("|---|---|---|---|---|---|---|");
    for (name, mode) in
        [("frames of runs", Mode::Frames), ("accept a run", Mode::Accept), ("post a message", Mode::Posts)]
    {
        for callers in [1, 64, 256] {
            let directory = tempfile::tempdir().expect("a directory");
            let sqlite = SqliteStore::open(directory.path(), SqliteOptions::default()).expect("a store");
            runtime.block_on(measure((name, "SQLite"), Arc::new(sqlite), mode, callers, during));
            let postgres = runtime.block_on(PostgresStore::open(server.options())).expect("a store");
            runtime.block_on(measure((name, "PostgreSQL"), Arc::new(postgres), mode, callers, during));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

async fn measure(names: (&str, &str), store: Arc<dyn Store>, mode: Mode, callers: usize, during: Duration) {
    let lease = Duration::from_hours(1);
    let node = store
        .register(NewNode { name: "bench".into(), address: "".into(), lease, ..NewNode::default() })
        .await
        .expect("a node");
    store.claim(node, usize::MAX).await.expect("all shards");
    let (stop, numbers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
    let began = now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (store, stop, numbers) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&numbers));
        tasks.spawn(async move {
            let at = UnixMillis(1_700_000_000_000);
            let next_run = || {
                let number = RunId::first_at(at).as_u64() + numbers.fetch_add(1, Ordering::Relaxed);
                RunId::from_u64(number).expect("in range")
            };
            let (payload, definition) = (Bytes::from(vec![7_u8; 256]), ContentHash::of(b"definition"));
            let (mut run, mut seq) = (next_run(), Seq::FIRST);
            let mut waits = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let mut commit = Commit::to_run(run, seq, vec![Frame { at, payload: payload.clone() }]);
                if matches!(mode, Mode::Accept) {
                    let mut row = RunRow::new(run, "workflow", definition, 0);
                    row.idempotency_key = Some(run.to_string().into());
                    commit.row = Some(row);
                }
                if matches!(mode, Mode::Posts) {
                    let (kind, shard) = (1, Shard::default());
                    let post = Post {
                        run: Some(run),
                        shard,
                        kind,
                        at,
                        idempotency_key: None,
                        payload: payload.clone(),
                    };
                    commit = Commit { inbox_posted: vec![post], ..Commit::new() };
                }
                commit.under = Some(Under { node, shard: run.shard() });
                let asked = now();
                store.commit(commit).await.expect("a commit");
                waits.push(asked.elapsed());
                seq = seq.plus(1);
                if matches!(mode, Mode::Accept) || seq.0 > FRAMES_A_RUN {
                    (run, seq) = (next_run(), Seq::FIRST);
                }
            }
            waits
        });
    }
    tokio::time::sleep(during).await;
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let took = began.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let metrics = store.metrics();
    println!(
        "| {} | {callers} | {} | {:.0} | {:.2} | {:.1} | {:.1} |",
        names.0,
        names.1,
        waits.len() as f64 / took,
        at(0.5),
        at(0.99),
        metrics.commits as f64 / metrics.groups as f64,
    );
    store.close().await.expect("it closes");
}
