//! Measures durable commits per second, and how long each waits, with 1, 16, 64 and 256 clients.
//!
//! Each client appends one frame of 256 bytes, waits for it, and starts a new run after 12 frames, as short runs do.
//! `cargo bench -p loom-store -- [SECONDS]`; two seconds per row by default.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use loom_store::{
    Commit, ContentHash, Durability, Frame, RunId, RunRow, Seq, SqliteOptions, SqliteStore, UnixMillis,
    prelude::*,
};

const FRAMES_A_RUN: u64 = 12;

/// What each commit of a client does.
#[derive(Clone, Copy)]
enum Mode {
    /// Appends a frame.
    Frames,
    /// Accepts a run: its row, its key and its first frame.
    Accept,
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2.0);
    let during = Duration::from_secs_f64(seconds);
    println!("| case | clients | commits/s | p50 ms | p99 ms | commits a group | sync p50 µs |");
    println!("|---|---|---|---|---|---|---|");
    for (name, mode, durability) in [
        ("runs, durable", Mode::Frames, Durability::Durable),
        ("accept, durable", Mode::Accept, Durability::Durable),
        ("runs, relaxed", Mode::Frames, Durability::Relaxed),
    ] {
        for clients in [1, 16, 64, 256] {
            measure(name, mode, durability, clients, during);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn measure(name: &str, mode: Mode, durability: Durability, clients: usize, during: Duration) {
    // Not the system's temporary directory, which may be in memory.
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory");
    let options = SqliteOptions { durability, ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(directory.path(), options).expect("a store"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let numbers = Arc::new(AtomicU64::new(1));
    let began = now();
    let mut waits = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(client(Arc::clone(&store), mode, Arc::clone(&stop), Arc::clone(&numbers)));
        }
        tokio::time::sleep(during).await;
        stop.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        while let Some(more) = tasks.join_next().await {
            waits.extend(more.expect("a client"));
        }
        waits
    });
    let took = began.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let metrics = store.metrics();
    println!(
        "| {name} | {clients} | {:.0} | {:.2} | {:.1} | {:.1} | {} |",
        waits.len() as f64 / took,
        at(0.5),
        at(0.99),
        metrics.commits as f64 / metrics.groups as f64,
        metrics
            .sync_seconds
            .quantile(0.5)
            .map_or_else(|| "more".into(), |end| format!("≤ {}", end.as_micros())),
    );
}

async fn client(
    store: Arc<SqliteStore>,
    mode: Mode,
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
) -> Vec<Duration> {
    let at = UnixMillis(1_700_000_000_000);
    let next_run = || {
        let number = RunId::first_at(at).as_u64() + numbers.fetch_add(1, Ordering::Relaxed);
        RunId::from_u64(number).expect("in range")
    };
    let payload = Bytes::from(vec![7_u8; 256]);
    let definition = ContentHash::of(b"definition");
    let (mut run, mut seq) = (next_run(), Seq::FIRST);
    let mut waits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut commit = Commit::to_run(run, seq, vec![Frame { at, payload: payload.clone() }]);
        if matches!(mode, Mode::Accept) {
            let mut row = RunRow::new(run, "workflow", definition, 0);
            row.idempotency_key = Some(run.to_string().into());
            commit.row = Some(row);
        }
        let began = now();
        store.commit(commit).await.expect("a commit");
        waits.push(began.elapsed());
        seq = seq.plus(1);
        if matches!(mode, Mode::Accept) || seq.0 > FRAMES_A_RUN {
            (run, seq) = (next_run(), Seq::FIRST);
        }
    }
    waits
}
