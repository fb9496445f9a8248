//! Encrypted stores: what is on the disk, what another key finds, and what happens to changed records.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use loom_store::{
    BLOB_ROW_MAX, Commit, Condition, ContentHash, Definition, Error, Frame, FrameQuery, InboxQuery, KeyError,
    KeyExpectation, KeyWrite, MemoryStore, Post, Recipient, RunId, RunQuery, RunRow, Seq, Shard, Shards,
    Snapshot, SqliteOptions, SqliteStore, Store, StoreKey, UnixMillis, with_key,
};

pub(crate) static KEY: LazyLock<StoreKey> = LazyLock::new(|| StoreKey::new(&[7; 32]));

const SECRET: &str = "the launch code is 8461-2297";
const RUN: RunId = RunId::MIN;

/// Stores the secret in every place where a store keeps payloads. Returns the hashes of the blobs.
async fn fill(store: &dyn Store) -> [ContentHash; 2] {
    let text = || Bytes::from_static(SECRET.as_bytes());
    let small = store.put_blob(text()).await.unwrap();
    let large = store.put_blob(SECRET.repeat(BLOB_ROW_MAX / 16).into()).await.unwrap();
    let hashes = [small.hash(), large.hash()];
    let definition = Definition::new(Bytes::from_static(b"a program"));
    let mut row = RunRow::new(RUN, "orders", definition.hash(), 1);
    row.details = text();
    row.error = Some(SECRET.into());
    let frame = |payload| Frame { at: UnixMillis(1), payload };
    let mut commit = Commit::to_run(RUN, Seq::FIRST, vec![frame(text()), frame(SECRET.repeat(500).into())]);
    commit.row = Some(row);
    commit.definitions = vec![definition];
    commit.blobs = vec![small, large];
    commit.snapshot = Some(Snapshot { run: RUN, upto: Seq(1), state: text() });
    commit.inbox_posted = vec![Post {
        run: Some(RUN),
        kind: 3,
        at: UnixMillis(1),
        idempotency_key: None,
        payload: text(),
        shard: Shard::default(),
    }];
    commit.keys = vec![KeyWrite {
        namespace: "n".into(),
        key: "k".into(),
        expect: KeyExpectation::Absent,
        value: Some(text()),
        ..KeyWrite::default()
    }];
    store.commit(commit).await.unwrap();
    hashes
}

/// Whether any file of the directory contains the string.
fn holds(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn open(directory: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(directory, SqliteOptions::default()).unwrap())
}

#[tokio::test]
async fn no_payload_is_on_the_disk_in_the_clear() {
    for (key, found) in [(None, true), (Some(&*KEY), false)] {
        let directory = tempfile::tempdir().unwrap();
        let store = with_key(open(directory.path()), key).await.unwrap();
        let hashes = fill(&*store).await;
        assert_eq!(holds(directory.path(), SECRET), found, "while it is open");
        store.close().await.unwrap();
        drop(store);
        assert_eq!(holds(directory.path(), SECRET), found);
        assert_eq!(holds(directory.path(), "launch code"), found);

        let store = with_key(open(directory.path()), key).await.unwrap();
        let loaded = store.load(RUN).await.unwrap().unwrap();
        assert_eq!(loaded.row.details, SECRET);
        assert_eq!(loaded.row.error.as_deref(), Some(SECRET));
        for (code, runs) in [(SECRET, vec![RUN]), ("another code", vec![])] {
            let query = RunQuery { error: Some(code.into()), ..RunQuery::default() };
            let found = store.runs(query).await.unwrap().rows;
            assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), runs, "{code}");
            assert!(found.iter().all(|row| row.error.as_deref() == Some(code)));
        }
        assert_eq!(loaded.snapshot.unwrap().state, SECRET);
        assert_eq!(loaded.frames[0].payload, SECRET.repeat(500));
        let query = InboxQuery { recipient: Recipient::Anyone, after: None, limit: 9, shards: Shards::ALL };
        assert_eq!(store.inbox(query).await.unwrap()[0].post.payload, SECRET);
        assert_eq!(store.key("n", "k").await.unwrap().unwrap().value, SECRET);
        assert_eq!(store.blob(hashes[0], 4, 6).await.unwrap().unwrap(), "launch");
        let large = SECRET.repeat(BLOB_ROW_MAX / 16);
        for (from, length) in [(0, 1), (65_530, 20), (1_000_000, 100_000), (large.len() - 3, 9)] {
            let part = store.blob(hashes[1], from as u64, length).await.unwrap().unwrap();
            assert_eq!(part, large[from..(from + length).min(large.len())], "{length} bytes from {from}");
        }
        store.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_accepts_only_its_own_key() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    fill(&*with_key(Arc::clone(&store), Some(&KEY)).await.unwrap()).await;
    let other = StoreKey::new(&[8; 32]);
    assert!(matches!(with_key(Arc::clone(&store), Some(&other)).await, Err(KeyError::Wrong)));
    assert!(matches!(with_key(Arc::clone(&store), None).await, Err(KeyError::Missing)));
    assert!(with_key(store, Some(&KEY)).await.is_ok());

    let plain: Arc<dyn Store> = Arc::new(MemoryStore::default());
    fill(&*plain).await;
    assert!(matches!(with_key(plain, Some(&KEY)).await, Err(KeyError::NotEncrypted)));
}

#[tokio::test]
async fn a_record_opens_only_in_its_own_place() {
    let below: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = with_key(Arc::clone(&below), Some(&KEY)).await.unwrap();
    fill(&*store).await;
    let sealed = below.frames(FrameQuery::of(RUN)).await.unwrap().frames;
    let mut moved = vec![("a frame of another run".to_owned(), sealed[0].payload.clone())];
    for place in 0..sealed[0].payload.len() {
        let mut changed = sealed[0].payload.to_vec();
        changed[place] ^= 1;
        moved.push((format!("byte {place} was changed"), changed.into()));
    }
    moved.push(("nothing at all".to_owned(), Bytes::new()));
    let run = |place: usize| RunId::from_u64(1 + place as u64).unwrap();
    for (place, (_, payload)) in moved.iter().enumerate() {
        let frame = Frame { at: UnixMillis(1), payload: payload.clone() };
        below.commit(Commit::to_run(run(place), Seq::FIRST, vec![frame])).await.unwrap();
    }
    assert!(matches!(store.health().condition, Condition::Running));
    for (place, (what, _)) in moved.iter().enumerate() {
        let read = store.frames(FrameQuery::of(run(place))).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{what}");
        // The store below cannot detect it, and is condemned all the same.
        assert!(matches!(below.commit(Commit::new()).await, Err(Error::Damaged { .. })), "{what}");
    }
}

/// What a server stores before its first run could not be read with a key.
#[tokio::test]
async fn a_store_with_any_content_cannot_be_given_a_key() {
    let below: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut commit = Commit::new();
    commit.keys.push(KeyWrite {
        namespace: "server".into(),
        key: "signing-key".into(),
        value: Some(Bytes::from_static(b"a key")),
        ..KeyWrite::default()
    });
    below.commit(commit).await.unwrap();
    assert!(matches!(with_key(Arc::clone(&below), Some(&KEY)).await, Err(KeyError::NotEncrypted)));
    let store = with_key(below, None).await.expect("it is as it was");
    assert_eq!(store.key("server", "signing-key").await.unwrap().unwrap().value, "a key");
}

#[tokio::test]
async fn error_codes_of_earlier_versions_are_still_read() {
    let below: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = with_key(Arc::clone(&below), Some(&KEY)).await.unwrap();
    fill(&*store).await;
    let mut row = below.load(RUN).await.unwrap().unwrap().row;
    assert!(!row.error.as_deref().unwrap().contains("launch"), "{row:?}");
    row.error = Some("Timeout".into());
    let mut commit = Commit::new();
    commit.row = Some(row.clone());
    below.commit(commit).await.unwrap();
    assert_eq!(store.load(RUN).await.unwrap().unwrap().row.error.as_deref(), Some("Timeout"));
    // What only looks sealed is damage, not an error code.
    row.error = Some("sealed:0102".into());
    let mut commit = Commit::new();
    commit.row = Some(row);
    below.commit(commit).await.unwrap();
    assert!(matches!(store.load(RUN).await, Err(Error::Damaged { .. })));
}

#[test]
fn keys_are_64_hexadecimal_digits_and_are_not_shown() {
    let text = format!(" {}\n", "0a".repeat(32));
    assert_eq!(format!("{:?}", StoreKey::from_hex(&text)), "Some(StoreKey)");
    for wrong in ["", "0a", &"0a".repeat(33), &"0x".repeat(32), "correct horse battery staple"] {
        assert!(StoreKey::from_hex(wrong).is_none(), "{wrong}");
    }
}
