//! The process may end at any moment, and so may the power: what was acknowledged is there, and no commit is there in
//! part.
//!
//! A workload generates the same commits for the same seed. Commits take effect in order and each as a whole, so
//! whatever happened, the store must hold a prefix of them that has at least the acknowledged ones. The memory store
//! says what such a prefix looks like.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use loom_store::{
    Commit, Durability, Error, MemoryStore, SqliteOptions, SqliteStore, Store,
    contract::{Dump, Seeded, Workload, dump},
    prelude::*,
};

/// A workload that gets the results of its commits from a memory store, so that it does not depend on the store under
/// test.
struct Oracle {
    workload: Workload,
    memory: MemoryStore,
}

impl Oracle {
    fn new(seed: u64) -> Self {
        Self { workload: Workload::new(seed), memory: MemoryStore::default() }
    }

    async fn next(&mut self) -> Commit {
        let commit = self.workload.next_commit();
        if let Err(Error::Conflict(conflict)) = self.memory.commit(commit.clone()).await {
            self.workload.refused(&conflict);
        }
        commit
    }

    async fn skip(&mut self, commits: usize) {
        for _ in 0..commits {
            self.next().await;
        }
    }
}

/// How many commits of the workload `found` holds: at least `from`, at most `upto`.
async fn position(seed: u64, found: &Dump, from: usize, upto: usize) -> usize {
    let mut oracle = Oracle::new(seed);
    oracle.skip(from).await;
    // The longest prefix that matches: the commits that follow may have changed nothing.
    let mut fits = None;
    for commits in from..=upto {
        if dump(&oracle.memory).await == *found {
            fits = Some(commits);
        }
        oracle.next().await;
    }
    fits.unwrap_or_else(|| panic!("seed {seed}: the store holds no prefix of {from} to {upto} commits"))
}

fn options() -> SqliteOptions {
    SqliteOptions {
        linger: Duration::ZERO,
        checkpoint_bytes: 60_000,
        log_pages_max: 60,
        ..SqliteOptions::default()
    }
}

const DIRECTORY: &str = "LOOM_STORE_TEST_DIRECTORY";
const SEED: &str = "LOOM_STORE_TEST_SEED";
const SKIP: &str = "LOOM_STORE_TEST_SKIP";
const PIPELINE: usize = 24;

/// Not a test, but the process that is killed. It appends commits endlessly and prints a line for each one
/// that is durable.
#[tokio::test]
async fn victim() {
    #[expect(clippy::disallowed_methods, reason = "a test process gets its instructions from its parent")]
    let (directory, seed, skip) = (std::env::var(DIRECTORY), std::env::var(SEED), std::env::var(SKIP));
    let (Ok(directory), Ok(seed), Ok(skip)) = (directory, seed, skip) else { return };
    let store = SqliteStore::open(Path::new(&directory), options()).unwrap();
    let mut oracle = Oracle::new(seed.parse().unwrap());
    oracle.skip(skip.parse().unwrap()).await;
    #[expect(clippy::disallowed_methods, reason = "the process that is killed reports to its parent")]
    let mut out = std::io::stdout().lock();
    let mut waiting = VecDeque::new();
    loop {
        waiting.push_back(store.append(oracle.next().await).unwrap());
        if waiting.len() >= PIPELINE {
            // A refusal is reported after the sync of its group, like a written commit.
            drop(waiting.pop_front().unwrap().await);
            writeln!(out, "durable").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_process_loses_no_acknowledged_commit() {
    for seed in 0..6 {
        let mut random = Seeded::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let mut held = 0;
        for round in 0..5 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["crash::victim", "--exact", "--nocapture"])
                .env(DIRECTORY, directory.path())
                .env(SEED, seed.to_string())
                .env(SKIP, held.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let wanted = random.below(150) as usize;
            let durable = lines.by_ref().filter(|line| line.ends_with("durable")).take(wanted).count();
            assert_eq!(durable, wanted, "the victim lives until it is killed");
            child.kill().unwrap();
            child.wait().unwrap();
            // What it printed before it was killed counts as well.
            let durable = durable + lines.filter(|line| line.ends_with("durable")).count();
            let store = SqliteStore::open(directory.path(), options()).unwrap();
            store.verify().await.unwrap();
            let found = dump(&store).await;
            held = position(seed, &found, held + durable, held + durable + PIPELINE + 1).await;
            println!("seed {seed}, round {round}: {durable} durable, {held} held");
        }
    }
}

/// The files of a store, as they are on the disk.
struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
    key: Vec<u8>,
}

impl Disk {
    fn of(directory: &Path) -> Self {
        Self {
            database: fs::read(directory.join("loom.db")).expect("a test disk works"),
            log: fs::read(directory.join("loom.db-wal")).expect("a test disk works"),
            key: fs::read(directory.join("loom.key")).expect("a test disk works"),
        }
    }

    fn open(&self) -> (tempfile::TempDir, Result<SqliteStore, Error>) {
        let directory = tempfile::tempdir().expect("a test disk works");
        fs::write(directory.path().join("loom.db"), &self.database).expect("a test disk works");
        fs::write(directory.path().join("loom.db-wal"), &self.log).expect("a test disk works");
        fs::write(directory.path().join("loom.key"), &self.key).expect("a test disk works");
        let store = SqliteStore::open(directory.path(), SqliteOptions::default());
        (directory, store)
    }
}

/// The unit in which a disk may lose what was not synced.
const SECTOR: usize = 512;

#[tokio::test]
async fn a_torn_tail_is_cut_at_the_last_whole_commit() {
    let seed = 11;
    let directory = tempfile::tempdir().unwrap();
    let quiet = SqliteOptions { checkpoint_bytes: usize::MAX, ..options() };
    let store = SqliteStore::open(directory.path(), quiet).unwrap();
    let mut oracle = Oracle::new(seed);
    let mut states = Vec::new();
    for _ in 0..70 {
        drop(store.commit(oracle.next().await).await);
        let length = fs::metadata(directory.path().join("loom.db-wal")).unwrap().len() as usize;
        states.push((length, dump(&oracle.memory).await));
    }
    let disk = Disk::of(directory.path());
    let mut random = Seeded::new(seed);
    for _ in 0..150 {
        // Everything up to here was synced; of what comes after, the disk kept an arbitrary part.
        let synced = random.below(states.len() as u64 - 1) as usize;
        let (start, end) = (states[synced].0, states[synced + 1].0);
        let mut log = disk.log[..end].to_vec();
        match random.below(4) {
            0 => log.truncate(start + random.below((end - start + 1) as u64) as usize),
            1 => log[start..].fill(0),
            2 => {
                log[start..]
                    .chunks_mut(SECTOR)
                    .filter(|_| random.one_in(2))
                    .for_each(|sector| sector.fill(0));
            }
            _ => log[start..]
                .chunks_mut(SECTOR)
                .filter(|_| random.one_in(3))
                .for_each(|sector| sector.fill_with(|| random_byte(start))),
        }
        let torn = Disk { database: disk.database.clone(), log, key: disk.key.clone() };
        let (_directory, store) = torn.open();
        let store = store.unwrap();
        store.verify().await.unwrap();
        let found = dump(&store).await;
        // The next commit may have reached the disk, but only as a whole.
        assert!(states[synced..=synced + 1].iter().any(|(_, state)| *state == found), "synced {synced}");
    }
}

#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let quiet = SqliteOptions { checkpoint_bytes: usize::MAX, ..options() };
    let store = SqliteStore::open(directory.path(), quiet).unwrap();
    let mut oracle = Oracle::new(15);
    let mut ends = Vec::new();
    while ends.len() < 40 {
        let before = fs::metadata(directory.path().join("loom.db-wal")).unwrap().len();
        drop(store.commit(oracle.next().await).await);
        let after = fs::metadata(directory.path().join("loom.db-wal")).unwrap().len();
        if after > before {
            ends.push((after, dump(&oracle.memory).await));
        }
    }
    let disk = Disk::of(directory.path());
    let mut random = Seeded::new(15);
    let (mut stopped, mut cut) = (0, 0);
    for _ in 0..200 {
        let mut log = disk.log.clone();
        let place = (ends[0].0 + random.below(log.len() as u64 - ends[0].0)) as usize;
        log[place] ^= 1 << random.below(8);
        let damaged = Disk { database: disk.database.clone(), log, key: disk.key.clone() };
        let (_directory, store) = damaged.open();
        // Damage in the last commit looks like a commit that was being written; damage in an earlier one does not.
        let in_last = place as u64 >= ends[ends.len() - 2].0;
        match store {
            Err(Error::Damaged { .. }) => {
                stopped += 1;
                assert!(!in_last, "byte {place}: a torn tail is not damage");
            }
            Err(other) => panic!("byte {place}: {other}"),
            Ok(store) => {
                cut += 1;
                assert!(in_last, "byte {place}: commits were dropped silently");
                assert_eq!(dump(&store).await, ends[ends.len() - 2].1);
            }
        }
    }
    assert!(stopped > 0 && cut > 0, "both happened: {stopped} stopped, {cut} cut");
}

/// A byte without a pattern, but the same for the same place, so that a failure can be reproduced.
fn random_byte(place: usize) -> u8 {
    (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

#[tokio::test]
async fn a_torn_checkpoint_is_repeated() {
    let seed = 12;
    let directory = tempfile::tempdir().unwrap();
    let quiet = SqliteOptions { checkpoint_bytes: usize::MAX, ..options() };
    let store = SqliteStore::open(directory.path(), quiet).unwrap();
    let mut oracle = Oracle::new(seed);
    for _ in 0..70 {
        drop(store.commit(oracle.next().await).await);
    }
    let before = Disk::of(directory.path());
    let other = rusqlite::Connection::open(directory.path().join("loom.db")).unwrap();
    other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let after = Disk::of(directory.path());
    assert_eq!(before.log, after.log);
    assert_ne!(before.database, after.database);
    let expected = dump(&oracle.memory).await;
    let mut random = Seeded::new(seed);
    for _ in 0..40 {
        let mut database = after.database.clone();
        let keep = random.below(5);
        for (place, sector) in database.chunks_mut(SECTOR).enumerate() {
            let start = place * SECTOR;
            if random.below(5) >= keep {
                // Not written: the old content, or zeros past the old end of the file.
                match before.database.get(start..start + sector.len()) {
                    Some(old) => sector.copy_from_slice(old),
                    None => sector.fill(0),
                }
            }
        }
        let torn = Disk { database, log: after.log.clone(), key: after.key.clone() };
        let (_directory, store) = torn.open();
        let store = store.unwrap();
        store.verify().await.unwrap();
        assert_eq!(dump(&store).await, expected);
    }
}

#[tokio::test]
async fn damage_is_reported_and_never_read_as_data() {
    let seed = 13;
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), options()).unwrap();
    let mut oracle = Oracle::new(seed);
    for _ in 0..70 {
        drop(store.commit(oracle.next().await).await);
    }
    store.close().await.unwrap();
    let whole = fs::read(directory.path().join("loom.db")).unwrap();
    let key = fs::read(directory.path().join("loom.key")).unwrap();
    let expected = dump(&oracle.memory).await;
    let mut random = Seeded::new(seed);
    let mut reported = 0;
    for _ in 0..400 {
        let mut database = whole.clone();
        let place = random.below(database.len() as u64) as usize;
        let flip = 1 << random.below(8);
        database[place] ^= flip;
        let damaged = Disk { database, log: Vec::new(), key: key.clone() };
        let (_directory, store) = damaged.open();
        let store = match store {
            Ok(store) => store,
            Err(
                Error::Damaged { .. }
                | Error::NotAStore { .. }
                | Error::NewerFormat { .. }
                | Error::Open { .. },
            ) => {
                reported += 1;
                continue;
            }
            Err(other) => panic!("byte {place} ^ {flip}: {other}"),
        };
        match store.verify().await {
            Ok(_) => assert_eq!(dump(&store).await, expected, "byte {place} ^ {flip}"),
            Err(Error::Damaged { .. }) => reported += 1,
            Err(other) => panic!("byte {place} ^ {flip}: {other}"),
        }
    }
    // The other changes hit free space, or numbers that no checksum covers and nothing depends on.
    assert!(reported > 50, "only {reported} of 400 were reported");
}

#[tokio::test]
async fn a_relaxed_store_survives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let relaxed = || SqliteOptions { durability: Durability::Relaxed, ..options() };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), relaxed()).unwrap());
    assert_eq!(store.health().durability, Durability::Relaxed);
    let mut oracle = Oracle::new(14);
    for _ in 0..50 {
        drop(store.commit(oracle.next().await).await);
    }
    // What a killed process leaves: the files as they are, without a close.
    let disk = Disk::of(directory.path());
    let (_directory, again) = disk.open();
    assert_eq!(dump(&again.unwrap()).await, dump(&oracle.memory).await);
    // What a loss of power may leave: a log broken in the middle, because nothing was synced. Only a tail is lost.
    drop(store);
    let mut log = disk.log.clone();
    let middle = log.len() / 2;
    log[middle] ^= 1;
    fs::write(directory.path().join("loom.db"), &disk.database).unwrap();
    fs::write(directory.path().join("loom.db-wal"), &log).unwrap();
    fs::write(directory.path().join("loom.key"), &disk.key).unwrap();
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    store.verify().await.unwrap();
    position(14, &dump(&store).await, 0, 50).await;
    // From now on the log is synced, and the same would be damage.
    assert!(!directory.path().join("loom.relaxed").exists());
}
