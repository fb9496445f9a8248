//! Disk failures: one at every call, and a full disk.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use loom_store::{
    Commit, Condition, ContentHash, Deletion, Error, FaultPoint, Faults, Frame, FrameQuery, MemoryStore,
    Refusal, Retention, RunId, RunRow, Seq, SqliteOptions, SqliteStore, UnixMillis,
    contract::{Workload, dump},
    prelude::*,
};

/// Fails the call with one number and lets all others proceed.
#[derive(Debug)]
struct Once {
    calls: AtomicU64,
    fails: u64,
}

impl Faults for Once {
    fn strike(&self, point: FaultPoint) -> io::Result<()> {
        // Checkpoints run on another thread at arbitrary times, so they are not counted.
        if point != FaultPoint::Checkpoint && self.calls.fetch_add(1, Ordering::SeqCst) == self.fails {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "injected by the test"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failure_at_any_call_pauses_the_store_and_leaves_no_partial_commit() {
    let mut paused_at = 0;
    for fails in 1..150 {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Once { calls: AtomicU64::new(0), fails });
        let options = SqliteOptions {
            linger: Duration::ZERO,
            faults: Some(Arc::clone(&faults) as Arc<dyn Faults>),
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(directory.path(), options).unwrap();
        let memory = MemoryStore::default();
        let mut workload = Workload::new(fails);
        for _ in 0..40 {
            let commit = workload.next_commit();
            let before = dump(&memory).await;
            let expected = memory.commit(commit.clone()).await;
            if let Err(Error::Conflict(conflict)) = &expected {
                workload.refused(conflict);
            }
            match store.commit(commit.clone()).await {
                Ok(answer) => assert_eq!(answer, expected.unwrap()),
                Err(Error::Conflict(_)) => assert!(expected.is_err()),
                Err(error @ Error::Paused { .. }) => {
                    paused_at += 1;
                    assert!(error.is_retryable());
                    assert!(matches!(store.health().condition, Condition::Paused(_)));
                    let refused = store.append(Commit::new()).unwrap_err();
                    assert!(matches!(refused.reason, Refusal::Unavailable(Error::Paused { .. })));
                    assert!(matches!(store.flush().await, Err(Error::Paused { .. })));
                    // Reads still work, and see only whole commits.
                    dump(&store).await;
                    store.resume().await.unwrap();
                    assert!(matches!(store.health().condition, Condition::Running));
                    let now = dump(&store).await;
                    let after = dump(&memory).await;
                    assert!(now == before || now == after, "call {fails}: a commit was applied in part");
                    if now != after {
                        // Not written, so it can be written again.
                        assert_eq!(store.commit(commit).await.unwrap(), expected.unwrap());
                    }
                }
                Err(other) => panic!("call {fails}: {other}"),
            }
        }
        store.verify().await.unwrap();
        assert_eq!(dump(&store).await, dump(&memory).await, "call {fails}");
    }
    assert!(paused_at > 100, "the failures were noticed: {paused_at}");
}

#[tokio::test]
async fn a_failed_resume_leaves_the_store_paused() {
    #[derive(Debug)]
    struct Broken(AtomicU64);
    impl Faults for Broken {
        fn strike(&self, point: FaultPoint) -> io::Result<()> {
            let opened = point == FaultPoint::Open && self.0.fetch_add(1, Ordering::SeqCst) != 1;
            if opened { Ok(()) } else { Err(io::Error::other("broken")) }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let faults = Some(Arc::new(Broken(AtomicU64::new(0))) as Arc<dyn Faults>);
    let store =
        SqliteStore::open(directory.path(), SqliteOptions { faults, ..SqliteOptions::default() }).unwrap();
    assert!(matches!(store.flush().await, Err(Error::Paused { operation: "begin a transaction", .. })));
    assert!(store.resume().await.is_err());
    assert!(matches!(store.health().condition, Condition::Paused(_)));
    store.resume().await.unwrap();
    assert!(matches!(store.health().condition, Condition::Running));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_paused_by_a_full_disk_can_be_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunId::first_at(UnixMillis(1));
    let frame = |n: u64| Frame { at: UnixMillis(1), payload: incompressible(n).into() };
    let small = SqliteOptions { database_bytes_max: Some(400_000), ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), small).unwrap();
    let mut written = 0;
    let error = loop {
        match store.commit(Commit::to_run(run, Seq(written + 1), vec![frame(written)])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Paused { .. }), "{error}");
    assert!(written > 10, "{written}");
    // The disk is still full.
    store.resume().await.unwrap();
    let again = store.commit(Commit::to_run(run, Seq(written + 1), vec![frame(written)])).await;
    assert!(matches!(again, Err(Error::Paused { .. })));
    store.close().await.unwrap();

    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    store.verify().await.unwrap();
    let frames = store.frames(FrameQuery::of(run)).await.unwrap().frames;
    assert_eq!(frames.len() as u64, written);
    store.commit(Commit::to_run(run, Seq(written + 1), vec![frame(written)])).await.unwrap();
}

/// 9 kB that do not compress.
fn incompressible(seed: u64) -> Vec<u8> {
    let mut random = loom_store::contract::Seeded::new(seed);
    (0..9_000).map(|_| random.next_u64() as u8).collect()
}

#[tokio::test]
async fn a_full_queue_refuses_append_and_delays_commit() {
    let directory = tempfile::tempdir().unwrap();
    // Room for two commits of 1 kB. None of them is urgent, so the writer lingers.
    let options =
        SqliteOptions { queue_bytes_max: 5_000, linger: Duration::from_hours(1), ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), options).unwrap();
    let commit = |first, urgency, size: usize| {
        let frame = Frame { at: UnixMillis(1), payload: vec![0; size].into() };
        Commit { urgency, ..Commit::to_run(RunId::first_at(UnixMillis(1)), Seq(first), vec![frame]) }
    };
    let first = store.append(commit(1, loom_store::Urgency::Lazy, 1_000)).unwrap();
    let refused = store.append(commit(2, loom_store::Urgency::Lazy, 3_000)).unwrap_err();
    assert!(matches!(refused.reason, Refusal::Full));
    assert_eq!(refused.commit.payload_bytes(), 3_000, "the whole commit is returned");
    assert!(store.health().queued_bytes > 2_000);
    // When the queue is half full, the writer no longer waits for an urgent commit, and room is released.
    let second = store.append(commit(2, loom_store::Urgency::Lazy, 1_000)).unwrap();
    store.commit(commit(3, loom_store::Urgency::Now, 3_000)).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(store.health().queued_bytes, 0);
    let too_large = store.commit(commit(4, loom_store::Urgency::Now, 9_000)).await;
    assert!(matches!(too_large, Err(Error::Conflict(loom_store::Conflict::TooLarge { .. }))));
}

#[tokio::test]
async fn a_blob_that_cannot_be_written_leaves_nothing_behind() {
    #[derive(Debug)]
    struct Fails(FaultPoint, AtomicU64);
    impl Faults for Fails {
        fn strike(&self, point: FaultPoint) -> io::Result<()> {
            let fails = point == self.0 && self.1.fetch_add(1, Ordering::SeqCst) == 0;
            if fails { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        }
    }
    for point in [FaultPoint::BlobWrite, FaultPoint::BlobSync] {
        let directory = tempfile::tempdir().unwrap();
        let faults = Some(Arc::new(Fails(point, AtomicU64::new(0))) as Arc<dyn Faults>);
        let store = SqliteStore::open(directory.path(), SqliteOptions { faults, ..SqliteOptions::default() })
            .unwrap();
        let content = bytes::Bytes::from(vec![3; 2 << 20]);
        let error = store.put_blob(content.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Io { operation: "write a blob", .. }), "{error}");
        assert!(matches!(store.health().condition, Condition::Running));
        assert_eq!(files_below(&directory.path().join("blobs")), 0);
        // The next attempt succeeds; a file that no commit refers to is removed at the next start.
        drop(store.put_blob(content).await.unwrap());
        assert_eq!(files_below(&directory.path().join("blobs")), 1);
        store.close().await.unwrap();
        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        assert_eq!(files_below(&directory.path().join("blobs")), 0);
        store.close().await.unwrap();
    }
}

/// A run of 9,000 frames, so that its journal takes several transactions to remove, with a blob in a file.
#[tokio::test]
async fn a_deletion_that_fails_or_is_cut_short_leaves_the_run_whole_or_gone() {
    #[derive(Debug)]
    struct Fails(FaultPoint, AtomicU64);
    impl Faults for Fails {
        fn strike(&self, point: FaultPoint) -> io::Result<()> {
            // Counting starts when the test sets the counter.
            let fails = point == self.0 && self.1.fetch_sub(1, Ordering::SeqCst) == 1;
            if fails { Err(io::Error::other("injected by the test")) } else { Ok(()) }
        }
    }
    let run = RunId::first_at(UnixMillis(1));
    for (point, whole) in
        [(FaultPoint::Delete, true), (FaultPoint::Committed, false), (FaultPoint::Sweep, false)]
    {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Fails(point, AtomicU64::new(u64::MAX)));
        let handed = Some(Arc::clone(&faults) as Arc<dyn Faults>);
        let options = SqliteOptions { faults: handed, ..SqliteOptions::default() };
        let store = SqliteStore::open(directory.path(), options).unwrap();
        let empty = dump(&store).await;
        let frames = (0..9_000).map(|_| Frame { at: UnixMillis(1), payload: "f".into() }).collect();
        let mut row = RunRow::new(run, "w", ContentHash::of(b"definition"), 0);
        row.ended = Some(UnixMillis(2));
        let blob = store.put_blob(vec![3; 2 << 20].into()).await.unwrap();
        let commit = Commit { row: Some(row), blobs: vec![blob], ..Commit::to_run(run, Seq::FIRST, frames) };
        store.commit(commit).await.unwrap();
        let before = dump(&store).await;
        faults.1.store(1, Ordering::SeqCst);
        let deleted = store.delete_run(run).await;
        match point {
            // The run is deleted; the next sweep removes the rest of its journal.
            FaultPoint::Sweep => assert_eq!(deleted.unwrap(), Deletion::Deleted),
            _ => assert!(matches!(deleted, Err(Error::Paused { .. })), "{deleted:?}"),
        }
        store.close().await.unwrap();

        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        assert_eq!(dump(&store).await, if whole { before } else { empty.clone() }, "{point:?}");
        let again = store.delete_run(run).await.unwrap();
        assert_eq!(again, if whole { Deletion::Deleted } else { Deletion::NotFound }, "{point:?}");
        store.sweep(Retention::default(), UnixMillis(3)).await.unwrap();
        assert_eq!(dump(&store).await, empty, "{point:?}");
        assert!(store.frames(FrameQuery::of(run)).await.unwrap().frames.is_empty(), "{point:?}");
        assert_eq!(files_below(&directory.path().join("blobs")), 0, "{point:?}");
        store.verify().await.unwrap();
        store.close().await.unwrap();
    }
}

fn files_below(directory: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    paths.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}
