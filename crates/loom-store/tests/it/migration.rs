//! Stores that older versions wrote stay readable forever.
//!
//! Each fixture was written by the version that introduced its format, with the commits of [`Workload`] for one seed.
//! The memory store, given the same commits, says what it must contain.

use std::{fs, path::Path};

use loom_store::{
    Commit, Conflict, Error, MemoryStore, SqliteOptions, SqliteStore, Store,
    contract::{Dump, Workload, dump},
    prelude::*,
};

const SEED: u64 = 77;
const COMMITS: usize = 60;

async fn fill(store: &dyn Store) {
    let mut workload = Workload::new(SEED);
    for _ in 0..COMMITS {
        let mut commit = workload.next_commit();
        loop {
            match store.commit(commit.clone()).await {
                // The versions that wrote the fixtures ignored a message that had been consumed.
                Err(Error::Conflict(Conflict::Taken { message })) => {
                    commit.inbox_consumed.retain(|consumed| *consumed != message);
                }
                Err(Error::Conflict(conflict)) => break workload.refused(&conflict),
                _ => break,
            }
        }
    }
}

async fn expected() -> Dump {
    let memory = MemoryStore::default();
    fill(&memory).await;
    dump(&memory).await
}

fn fixture(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a fixture can be copied");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::copy(from, directory.path().join("loom.db")).expect("a fixture can be copied");
    directory
}

/// The formats before the one that is written now, which have a fixture each.
const OLDER: [u32; 3] = [1, 2, 3];

/// The format of a store, at offset 60 of the database's header, big-endian.
fn format_of(directory: &Path) -> u32 {
    let header = fs::read(directory.join("loom.db")).expect("the store is there");
    u32::from_be_bytes(header[60..64].try_into().expect("four bytes"))
}

#[tokio::test]
async fn a_store_of_every_older_format_is_read_and_continued() {
    let new = tempfile::tempdir().expect("a directory can be created");
    SqliteStore::open(new.path(), SqliteOptions::default()).unwrap().close().await.unwrap();
    let newest = format_of(new.path());
    assert_eq!(OLDER.to_vec(), (1..newest).collect::<Vec<u32>>(), "every older format has a fixture");
    for format in OLDER {
        let directory = fixture(&format!("format-{format}.sqlite"));
        assert_eq!(format_of(directory.path()), format);
        if format > 1 {
            // A fixture does not include the key of sealed values, and none is sealed.
            fs::write(directory.path().join("loom.key"), "").unwrap();
        }
        let refused = SqliteStore::open_read_only(directory.path(), SqliteOptions::default()).unwrap_err();
        assert!(
            matches!(refused, Error::OlderFormat { found, .. } if found == i64::from(format)),
            "{refused}"
        );
        assert_eq!(format_of(directory.path()), format, "a command that only reads migrates nothing");

        let open = || SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        let store = open();
        assert_eq!(dump(&store).await, expected().await, "format {format}");
        assert!(store.verify().await.unwrap() > 0, "format {format}");
        // What the older version wrote still holds: the journal continues where it ended.
        let run = expected().await.runs[0].0.clone();
        let stale = store.commit(Commit::to_run(run.row.id, run.next.plus(1), vec![])).await;
        assert!(
            matches!(stale, Err(Error::Conflict(Conflict::Seq { actual, .. })) if actual == run.next),
            "format {format}"
        );
        let frame = loom_store::Frame { at: loom_store::UnixMillis(1), payload: vec![1; 2_000].into() };
        store.commit(Commit::to_run(run.row.id, run.next, vec![frame])).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(format_of(directory.path()), newest, "format {format} was migrated");
        let next = open().load(run.row.id).await.unwrap().unwrap().next;
        assert_eq!(next, run.next.plus(1), "format {format}");
    }
}

#[tokio::test]
async fn a_store_of_a_future_format_is_refused() {
    let directory = fixture("format-1.sqlite");
    let path = directory.path().join("loom.db");
    let mut bytes = fs::read(&path).unwrap();
    // The format is at offset 60 of the header, big-endian.
    assert_eq!(bytes[60..64], 1_u32.to_be_bytes());
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    let refused = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::NewerFormat { found: 99, .. }), "{refused}");
}

#[test]
fn files_that_are_not_a_store_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loom.db");
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let refused = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::NotAStore { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 10_000], "it was not changed");

    fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE somebody_elses (x)").unwrap();
    drop(other);
    let refused = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::NotAStore { .. }), "{refused}");
}
