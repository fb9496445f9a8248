//! What only the embedded store has: a directory, a disk, a lock.

use loom_store::{
    Commit, ContentHash, Error, Frame, FrameQuery, Retention, RunId, RunIdSource, RunRow, Seq, SqliteOptions,
    SqliteStore, UnixMillis, prelude::*,
};

#[test]
fn a_second_store_in_one_directory_is_refused_and_the_holder_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let first = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    let refused = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap_err();
    let Error::Locked { holder, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(*holder, Some(std::process::id().to_string()));
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    drop(first);
    drop(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
}

#[tokio::test]
async fn a_large_sweep_runs_in_slices_and_returns_space() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    let at = UnixMillis(1_700_000_000_000);
    let frame = |size: usize| Frame { at, payload: vec![1; size].into() };
    let mut ids = RunIdSource::new(0, None);
    let mut acks = Vec::new();
    let mut add = |frames: Vec<Frame>| {
        let run = ids.next(at);
        let mut commit = Commit::to_run(run, Seq::FIRST, frames);
        let mut row = RunRow::new(run, "w", ContentHash::of(b""), 0);
        row.ended = Some(at);
        commit.row = Some(row);
        acks.push(store.append(commit).unwrap());
        run
    };
    // More runs than one slice handles, and one with more frames than two slices handle.
    for _ in 0..1_200 {
        add(vec![frame(500)]);
    }
    let long = add(vec![frame(100); 9_000]);
    for ack in acks {
        ack.await.unwrap();
    }
    let size = || std::fs::metadata(directory.path().join("loom.db")).unwrap().len();
    let policy = Retention { age_max_ms: Some(0), ..Retention::default() };
    let sweep = store.sweep(policy, at.plus(1));
    // Commits continue during the sweep.
    let live = RunId::first_at(at.plus(9));
    let writes = async {
        for n in 0..50 {
            store.commit(Commit::to_run(live, Seq(1 + n), vec![frame(10)])).await.unwrap();
        }
    };
    let (swept, ()) = tokio::join!(sweep, writes);
    assert_eq!(swept.unwrap().purged, 1_201);
    store.verify().await.unwrap();
    assert_eq!(store.frames(FrameQuery::of(long)).await.unwrap().frames, []);
    assert_eq!(store.frames(FrameQuery::of(live)).await.unwrap().frames.len(), 50);
    store.close().await.unwrap();
    // The rows stay; the 2 MB of frames, and their index, are gone from the file.
    assert!(size() < 1_700_000, "the file still has {} bytes", size());
}

/// Writes 40 times as many runs as are kept: the file stays as large as it was after the first few.
#[tokio::test]
async fn a_store_with_retention_does_not_grow() {
    const RUNS: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let policy = Retention { runs_max: Some(100), rows_max: Some(250), ..Retention::default() };
    let mut ids = RunIdSource::new(0, None);
    let mut sizes = Vec::new();
    for round in 1..=10 {
        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        let at = UnixMillis(round);
        let mut acks = Vec::new();
        for _ in 0..RUNS {
            let run = ids.next(at);
            let mut commit =
                Commit::to_run(run, Seq::FIRST, vec![Frame { at, payload: vec![1; 600].into() }]);
            let mut row = RunRow::new(run, "w", ContentHash::of(b""), 0);
            (row.ended, row.idempotency_key) = (Some(at), Some(format!("key {run}").into()));
            commit.row = Some(row);
            acks.push(store.append(commit).unwrap());
        }
        for ack in acks {
            ack.await.unwrap();
        }
        let swept = store.sweep(policy, at).await.unwrap();
        assert_eq!(swept.purged, if round == 1 { 300 } else { RUNS as u64 });
        store.close().await.unwrap();
        sizes.push(std::fs::metadata(directory.path().join("loom.db")).unwrap().len());
    }
    // One round adds more than this.
    let (settled, last) = (sizes[3], sizes[9]);
    assert!(last.abs_diff(settled) < 100_000, "{sizes:?}");
}

#[tokio::test]
async fn a_reader_does_not_hold_up_the_writer_when_the_log_is_long() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { checkpoint_bytes: 1, log_pages_max: 1, ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), options).unwrap();
    let at = UnixMillis(1);
    let append =
        |n| Commit::to_run(RunId::first_at(at), Seq(n), vec![Frame { at, payload: vec![0; 99].into() }]);
    store.commit(append(1)).await.unwrap();
    let reader = rusqlite::Connection::open(directory.path().join("loom.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM frame;").unwrap();
    for n in 2..200 {
        store.commit(append(n)).await.unwrap();
    }
    reader.execute_batch("ROLLBACK").unwrap();
    drop(reader);
    for n in 200..400 {
        store.commit(append(n)).await.unwrap();
    }
    store.close().await.unwrap();
    assert_eq!(store.metrics().commits, 399);
    assert!(store.metrics().checkpoints > 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_directory_is_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let around = tempfile::tempdir().unwrap();
    let directory = around.path().join("runs");
    let store = SqliteStore::open(&directory, SqliteOptions::default()).unwrap();
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    store.close().await.unwrap();
}
