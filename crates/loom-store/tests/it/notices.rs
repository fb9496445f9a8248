//! What the store detects: damage found by a read, a missing directory, a truncated log, and what the previous
//! process was working on. And that opening a directory read-only does not change it.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use loom_store::{
    Commit, Condition, Durability, Error, Frame, FrameQuery, Retention, RunId, RunRow, Seq, SqliteOptions,
    SqliteStore, UnixMillis, prelude::*,
};

const T0: UnixMillis = UnixMillis(1_700_000_000_000);

fn run(number: i64) -> RunId {
    RunId::first_at(T0.plus(number))
}

/// Options under which no checkpoint runs on its own.
fn quiet() -> SqliteOptions {
    SqliteOptions {
        linger: Duration::ZERO,
        checkpoint_bytes: usize::MAX,
        cache_bytes: 0,
        ..SqliteOptions::default()
    }
}

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, quiet()).unwrap()
}

/// A commit with one frame that fills a page of its own and does not compress.
fn large(run: RunId, seq: u64) -> Commit {
    Commit::to_run(run, Seq(seq), vec![Frame { at: T0, payload: noise(run, seq).into() }])
}

fn noise(run: RunId, seq: u64) -> Vec<u8> {
    let noise = blake3::Hasher::new_keyed(&[seq as u8; 32]).update(&run.as_u64().to_le_bytes()).clone();
    let mut payload = vec![0; 3_000];
    noise.finalize_xof().fill(&mut payload);
    payload
}

async fn fill(store: &SqliteStore, commits: u64) {
    for number in 0..commits {
        store.commit(large(run(number as i64), 1)).await.unwrap();
    }
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// A copy of the directory, as a killed process leaves it.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, content) in files(directory) {
        fs::write(copy.path().join(path.file_name().unwrap()), content).unwrap();
    }
    copy
}

#[tokio::test]
async fn the_next_process_knows_what_the_previous_one_was_working_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    drop(store.at_work(run(1), Seq(1)));
    std::mem::forget(store.at_work(run(2), Seq(5)));
    std::mem::forget(store.at_work(run(3), Seq(9)));
    store.close().await.unwrap();

    let look = SqliteStore::open_read_only(directory.path(), quiet()).unwrap();
    look.forget_interrupted();
    look.close().await.unwrap();

    let store = open(directory.path());
    let found = store.interrupted();
    let mut runs = found.runs.clone();
    runs.sort_unstable();
    assert_eq!(runs, [(run(2), Seq(5)), (run(3), Seq(9))]);
    let busy = store.at_work(run(4), Seq(2));
    assert_eq!(store.interrupted(), found);
    // Not handled yet, so the next process finds it again.
    std::mem::forget(busy);
    store.close().await.unwrap();
    let store = open(directory.path());
    assert_eq!(store.interrupted().runs.len(), 3);
    assert_eq!(store.interrupted().end, found.end);
    store.forget_interrupted();
    assert_eq!(store.interrupted().runs, []);
    store.close().await.unwrap();
    let store = open(directory.path());
    assert_eq!(store.interrupted().runs, []);
    assert_ne!(store.interrupted().end, found.end);
}

#[tokio::test]
async fn an_invalid_marks_file_is_recreated() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close().await.unwrap();
    for content in [&b""[..], b"something else", &[0xa5; 4_096]] {
        fs::write(directory.path().join("loom.marks"), content).unwrap();
        let store = open(directory.path());
        assert_eq!(store.interrupted().runs, []);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_truncated_log_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let log = |directory: &Path| directory.join("loom.db-wal");
    fill(&store, 10).await;
    let early = fs::metadata(log(directory.path())).unwrap().len();
    for number in 10..30 {
        store.commit(large(run(number), 1)).await.unwrap();
    }
    let copy = killed(directory.path());
    assert_eq!(
        SqliteStore::open(copy.path(), quiet()).map(|store| store.health().durability).unwrap(),
        Durability::Durable
    );

    for length in [0, early, early + 1_000] {
        let copy = killed(directory.path());
        fs::File::options().write(true).open(log(copy.path())).unwrap().set_len(length).unwrap();
        let before = files(copy.path());
        for attempt in 0..2 {
            let opened = if attempt == 0 {
                SqliteStore::open(copy.path(), quiet())
            } else {
                SqliteStore::open_read_only(copy.path(), quiet())
            };
            let error = opened.map(drop).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Damaged { .. }), "{text}");
            for part in ["loom.db-wal", "loom.marks", &copy.path().display().to_string()] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let mut after = files(copy.path());
        after.retain(|path, _| before.contains_key(path));
        let index = copy.path().join("loom.db-shm");
        after.insert(index.clone(), before[&index].clone());
        let lock = copy.path().join("loom.lock");
        after.insert(lock.clone(), before[&lock].clone());
        assert!(after == before, "opening changes nothing, so that what is missing can be put back");
        // The remedy that the message names works.
        fs::remove_file(copy.path().join("loom.marks")).unwrap();
        let store = open(copy.path());
        store.verify().await.unwrap();
        assert!(store.frames(FrameQuery::of(run(29))).await.unwrap().frames.is_empty());
        store.commit(large(run(40), 1)).await.unwrap();
        store.close().await.unwrap();
        open(copy.path()).close().await.unwrap();
    }
}

#[tokio::test]
async fn data_removed_by_retention_is_not_reported_missing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let all = Retention { age_max_ms: Some(0), ..Retention::default() };
    for number in 0..20 {
        let mut commit = large(run(number), 1);
        let mut row = RunRow::new(run(number), "w", loom_store::ContentHash::of(b"w"), 3);
        (row.started, row.ended) = (Some(T0), Some(T0));
        commit.row = Some(row);
        store.commit(commit).await.unwrap();
    }
    let swept = store.sweep(all, T0.plus(1_000)).await.unwrap();
    assert_eq!(swept.purged, 20, "every frame is gone");
    drop(SqliteStore::open(killed(directory.path()).path(), quiet()).unwrap());
    store.close().await.unwrap();
    let store = open(directory.path());
    // A new frame still gets a larger `lsn` than all before it.
    store.commit(large(run(50), 1)).await.unwrap();
    let copy = killed(directory.path());
    store.close().await.unwrap();
    drop(open(directory.path()));
    fs::File::options().write(true).open(copy.path().join("loom.db-wal")).unwrap().set_len(0).unwrap();
    assert!(matches!(SqliteStore::open(copy.path(), quiet()).map(drop), Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn damage_found_by_a_read_stops_all_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fill(&store, 40).await;
    store.close().await.unwrap();
    // Finds the page that holds a frame by the frame's content: which page it is depends on how commits were grouped.
    let database = directory.path().join("loom.db");
    let mut content = fs::read(&database).unwrap();
    let payload = noise(run(20), 1);
    let place =
        content.windows(64).position(|found| *found == payload[..64]).expect("the frame is in the database");
    let page = place / 4_096 * 4_096;
    content[page..page + 4_096].fill(0);
    fs::write(&database, &content).unwrap();

    let store = open(directory.path());
    store.commit(large(run(100), 1)).await.unwrap();
    assert!(matches!(store.health().condition, Condition::Running));
    let mut met = None;
    for number in 0..40 {
        if let Err(error) = store.frames(FrameQuery::of(run(number))).await {
            met.get_or_insert(error.to_string());
        }
    }
    let met = met.expect("some read finds it");
    for part in ["damaged", "loom.db", "restore it from a backup", &directory.path().display().to_string()] {
        assert!(met.contains(part), "{part}: {met}");
    }
    let Condition::Paused(reason) = store.health().condition else { panic!("expected a paused store") };
    assert!(matches!(reason, Error::Damaged { .. }) && !reason.is_retryable());
    let before = files(directory.path());
    assert!(matches!(store.commit(large(run(101), 1)).await, Err(Error::Damaged { .. })));
    assert!(matches!(store.flush().await, Err(Error::Damaged { .. })));
    assert!(matches!(store.resume().await, Err(Error::Damaged { .. })));
    assert!(matches!(store.sweep(Retention::default(), T0).await, Err(Error::Damaged { .. })));
    let blob = store.put_blob(Bytes::from(vec![7; 2 << 20])).await;
    assert!(matches!(blob, Err(Error::Damaged { .. })), "{blob:?}");
    store.close().await.unwrap();
    assert!(files(directory.path()) == before, "closing it changes nothing either");
}

#[tokio::test]
async fn a_deleted_or_replaced_directory_is_detected() {
    let place = tempfile::tempdir().unwrap();
    let (directory, aside) = (place.path().join("data"), place.path().join("aside"));
    let store = open(&directory);
    fill(&store, 3).await;
    fs::rename(&directory, &aside).unwrap();
    let Condition::Paused(reason) = store.health().condition else { panic!("expected a paused store") };
    assert!(reason.is_retryable(), "the directory may come back");
    let why = std::error::Error::source(&reason).unwrap().to_string();
    assert!(why.contains("loom.lock was deleted or moved away") && why.contains("restart"), "{why}");
    assert!(store.commit(large(run(10), 1)).await.is_err());
    assert!(store.resume().await.is_err());
    assert!(!directory.exists(), "nothing is created in its place");

    // Another store with the same name is not touched.
    let other = open(&directory);
    fill(&other, 1).await;
    let before = files(&directory);
    let why = store.resume().await.unwrap_err();
    assert!(std::error::Error::source(&why).unwrap().to_string().contains("replaced"), "{why:?}");
    assert!(store.commit(large(run(10), 1)).await.is_err());
    assert!(files(&directory) == before);
    other.close().await.unwrap();
    fs::rename(&directory, place.path().join("other")).unwrap();

    fs::rename(&aside, &directory).unwrap();
    store.resume().await.unwrap();
    store.commit(large(run(10), 1)).await.unwrap();

    // A commit detects it as well.
    fs::rename(&directory, &aside).unwrap();
    assert!(matches!(store.commit(large(run(11), 1)).await, Err(Error::Paused { .. })));
    let other = open(&directory);
    fill(&other, 1).await;
    let before = files(&directory);
    store.close().await.unwrap();
    assert!(files(&directory) == before, "closing does not remove the log of the other store");
    other.close().await.unwrap();
    let store = open(&aside);
    assert_eq!(store.frames(FrameQuery::of(run(10))).await.unwrap().frames.len(), 1);
    assert!(store.frames(FrameQuery::of(run(11))).await.unwrap().frames.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let check = |directory: &Path| {
        let mut seen = 0;
        for path in files(directory).keys() {
            assert_eq!(mode(path), 0o600, "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 5, "the database, its log and index, the lock, the marks");
    };
    for durability in [Durability::Durable, Durability::Relaxed] {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = || SqliteOptions { durability, ..quiet() };
        let store = SqliteStore::open(directory.path(), options()).unwrap();
        fill(&store, 2).await;
        let blob = store.put_blob(Bytes::from(vec![7; 2 << 20])).await.unwrap();
        check(directory.path());
        let name = blob.hash().to_string();
        assert_eq!(mode(&directory.path().join("blobs").join(&name[..2]).join(&name[2..])), 0o600);
        // Permissions that an older version left open are removed.
        let copy = killed(directory.path());
        for path in files(copy.path()).keys() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let again = SqliteStore::open(copy.path(), options()).unwrap();
        again.commit(large(run(10), 1)).await.unwrap();
        check(copy.path());
    }
}

#[tokio::test]
async fn a_read_only_store_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(
        SqliteStore::open_read_only(directory.path(), quiet()).map(drop),
        Err(Error::Open { .. })
    ));
    assert!(files(directory.path()).is_empty());
    let store = open(directory.path());
    fill(&store, 12).await;
    let crashed = killed(directory.path());
    assert!(matches!(
        SqliteStore::open_read_only(directory.path(), quiet()).map(drop),
        Err(Error::Locked { .. })
    ));
    store.close().await.unwrap();
    for directory in [directory.path(), crashed.path()] {
        let mut before = files(directory);
        let look = SqliteStore::open_read_only(directory, quiet()).unwrap();
        let second = SqliteStore::open_read_only(directory, quiet()).unwrap();
        assert!(matches!(SqliteStore::open(directory, quiet()).map(drop), Err(Error::Locked { .. })));
        for store in [&look, &second] {
            assert!(matches!(store.health().condition, Condition::Paused(Error::ReadOnly)));
            assert_eq!(store.frames(FrameQuery::of(run(11))).await.unwrap().frames.len(), 1);
            assert!(!store.is_empty().await.unwrap());
            store.verify().await.unwrap();
            assert!(matches!(store.commit(large(run(90), 1)).await, Err(Error::ReadOnly)));
            assert!(matches!(store.put_blob(Bytes::new()).await, Err(Error::ReadOnly)));
            assert!(matches!(store.resume().await, Err(Error::ReadOnly)));
            assert!(matches!(store.sweep(Retention::default(), T0).await, Err(Error::ReadOnly)));
        }
        look.close().await.unwrap();
        assert!(matches!(look.health().condition, Condition::Closed));
        drop(second);
        let mut after = files(directory);
        // The index of the log is SQLite's own, and has nothing that is not in the log.
        before.remove(&directory.join("loom.db-shm"));
        after.remove(&directory.join("loom.db-shm"));
        assert!(after == before, "{:?} and {:?}", before.keys(), after.keys());
        drop(open(directory));
    }
}
