//! Measures durable operations per second with 1 and 64 callers, beside plain SQLite and Redis on the same disk.
//!
//! Every system syncs before it responds: Loom and SQLite with `synchronous = FULL` in WAL mode, Redis with an append-only file
//! and `appendfsync always`. Redis is measured if `redis-server` is found, or the program that `LOOM_REDIS` names.
//! `cargo bench -p loom-memory -- [SECONDS]`; two seconds per row by default. The rows of a case are measured in turn, twice, and
//! the second time counts.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use loom_expression::{Labels, Object, Value};
use loom_memory::{Namespace, Operation, Request, SharedMemory, StoredMemory};
use loom_store::{MemoryStore, SqliteOptions, SqliteStore, Store, UnixMillis};
use rusqlite::Connection;

/// What each caller does.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    /// Increments a counter of its own.
    Increment,
    /// Increments the same counter as everybody.
    Contended,
    /// Writes 1 KiB to a key of its own.
    Set,
    /// Reads 1 KiB from a key of its own.
    Get,
}

impl Case {
    const ALL: [(Case, &'static str); 4] = [
        (Case::Increment, "increment, a key each"),
        (Case::Contended, "increment, one key"),
        (Case::Set, "set 1 KiB, a key each"),
        (Case::Get, "get 1 KiB, a key each"),
    ];

    fn key(self, caller: usize) -> String {
        match self {
            Case::Contended => "n".to_owned(),
            Case::Increment => format!("n{caller}"),
            Case::Set | Case::Get => format!("v{caller}"),
        }
    }
}

/// How often callers did something, and the times it took.
struct Measured {
    per_second: f64,
    waits: Vec<Duration>,
}

impl Measured {
    fn at(&self, share: f64) -> f64 {
        self.waits[((self.waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures for some time")]
fn pause(time: Duration) {
    // The callers are threads; this one only waits until they have worked for so long, or until Redis may listen.
    std::thread::sleep(time);
}

fn directory() -> tempfile::TempDir {
    // Not the system's temporary directory, which may be in memory.
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory")
}

fn text() -> String {
    "x".repeat(1_000)
}

/// The same text with a number, because SQLite writes no page whose content stays the same.
fn numbered(text: &str, number: usize) -> String {
    format!("{number:020}{}", &text[20..])
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2.0);
    let during = Duration::from_secs_f64(seconds);
    println!("| case | callers | system | operations/s | p50 ms | p99 ms | of SQLite |");
    println!("|---|---|---|---|---|---|---|");
    for (case, name) in Case::ALL {
        for callers in [1, 64] {
            let mut rows: Vec<(&str, Option<Measured>)> = Vec::new();
            for _ in 0..2 {
                rows = vec![
                    ("Loom", Some(loom(case, callers, during))),
                    ("SQLite", Some(sqlite(case, callers, during))),
                    ("Redis", redis(case, callers, during)),
                ];
            }
            let beside =
                rows.iter().find(|(system, _)| *system == "SQLite").and_then(|(_, row)| row.as_ref());
            let beside = beside.map_or(f64::NAN, |row| row.per_second);
            for (system, row) in &rows {
                let Some(row) = row else { continue };
                println!(
                    "| {name} | {callers} | {system} | {:.0} | {:.2} | {:.2} | {:.2} |",
                    row.per_second,
                    row.at(0.5),
                    row.at(0.99),
                    row.per_second / beside
                );
            }
        }
    }
    labels(during);
}

/// Runs `callers` threads that do something again and again, each with what `prepare` returns for it, its own number, and the number of
/// times that it has done it.
fn threads<T: Send + 'static>(
    callers: usize,
    during: Duration,
    prepare: impl Fn(usize) -> T,
    work: impl Fn(&mut T, usize, usize) + Send + Sync + 'static,
) -> Measured {
    let (stop, work) = (Arc::new(AtomicBool::new(false)), Arc::new(work));
    let prepared: Vec<T> = (0..callers).map(prepare).collect();
    let began = now();
    let running: Vec<_> = prepared
        .into_iter()
        .enumerate()
        .map(|(caller, mut own)| {
            let (stop, work) = (Arc::clone(&stop), Arc::clone(&work));
            std::thread::spawn(move || {
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = now();
                    work(&mut own, caller, waits.len());
                    waits.push(began.elapsed());
                }
                waits
            })
        })
        .collect();
    pause(during);
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> =
        running.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect();
    let per_second = waits.len() as f64 / began.elapsed().as_secs_f64();
    waits.sort_unstable();
    Measured { per_second, waits }
}

fn operation(case: Case, value: &Value) -> Operation {
    match case {
        Case::Increment | Case::Contended => Operation::increment(1),
        Case::Set => Operation::Set { value: value.clone() },
        Case::Get => Operation::Get,
    }
}

/// Callers of shared memory in a store, as tasks of a runtime with one worker.
fn tasks(store: Arc<dyn Store>, case: Case, value: &Value, callers: usize, during: Duration) -> Measured {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let memory = StoredMemory::new(store, Arc::new(|| UnixMillis(1_700_000_000_000)));
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        if case == Case::Get {
            for caller in 0..callers {
                let set = Request::new(&case.key(caller), operation(Case::Set, value)).expect("a request");
                memory.transact(&Namespace::Global, vec![set]).await.expect("it is written");
            }
        }
        let began = now();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let (memory, stop, value) = (memory.clone(), Arc::clone(&stop), value.clone());
            tasks.spawn(async move {
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = now();
                    let value = match value.as_str() {
                        Some(text) if case == Case::Set => numbered(text, waits.len()).into(),
                        _ => value.clone(),
                    };
                    let request =
                        Request::new(&case.key(caller), operation(case, &value)).expect("a request");
                    memory.transact(&Namespace::Global, vec![request]).await.expect("the store works");
                    waits.push(began.elapsed());
                }
                waits
            });
        }
        tokio::time::sleep(during).await;
        stop.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        while let Some(more) = tasks.join_next().await {
            waits.extend(more.expect("a caller"));
        }
        let per_second = waits.len() as f64 / began.elapsed().as_secs_f64();
        waits.sort_unstable();
        Measured { per_second, waits }
    })
}

fn loom(case: Case, callers: usize, during: Duration) -> Measured {
    let directory = directory();
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).expect("a store");
    tasks(Arc::new(store), case, &Value::from(text().as_str()), callers, during)
}

/// One connection, and a transaction for each operation.
fn sqlite(case: Case, callers: usize, during: Duration) -> Measured {
    let directory = directory();
    let connection = Connection::open(directory.path().join("plain.db")).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE kv (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;",
        )
        .expect("a table");
    for caller in 0..callers {
        let key = Case::Get.key(caller);
        connection.execute("INSERT INTO kv VALUES (?1, ?2)", (key, text())).expect("it is written");
    }
    let connection = Arc::new(Mutex::new(connection));
    let text = text();
    threads(
        callers,
        during,
        move |_| Arc::clone(&connection),
        move |connection, caller, number| {
            let (key, connection) = (case.key(caller), connection.lock().expect("no caller has failed"));
            let add =
                "INSERT INTO kv VALUES (?1, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value";
            let set = "INSERT INTO kv VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
            let get = "SELECT value FROM kv WHERE key = ?1";
            match case {
                Case::Increment | Case::Contended => {
                    let mut add = connection.prepare_cached(add).expect("a statement");
                    add.query_row([key], |row| row.get::<_, i64>(0)).expect("a sum");
                }
                Case::Set => {
                    connection
                        .prepare_cached(set)
                        .expect("a statement")
                        .execute((key, numbered(&text, number)))
                        .expect("it is written");
                }
                Case::Get => {
                    let mut get = connection.prepare_cached(get).expect("a statement");
                    get.query_row([key], |row| row.get::<_, String>(0)).expect("a value");
                }
            }
        },
    )
}

/// A Redis server that listens on a socket in a directory.
struct Redis {
    child: Child,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program to measure is named from outside")]
fn start_redis() -> Option<Redis> {
    let program = std::env::var("LOOM_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
    let directory = directory();
    let socket = directory.path().join("redis.sock");
    let child = Command::new(program)
        .args(["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let redis = Redis { child, socket, _directory: directory };
    for _ in 0..500 {
        if UnixStream::connect(&redis.socket).is_ok() {
            return Some(redis);
        }
        pause(Duration::from_millis(10));
    }
    None
}

fn redis(case: Case, callers: usize, during: Duration) -> Option<Measured> {
    let server = start_redis()?;
    let text = text();
    let connect = |_| BufReader::new(UnixStream::connect(&server.socket).expect("it listens"));
    let mut first = connect(0);
    for caller in 0..callers {
        ask(&mut first, &["SET", &Case::Get.key(caller), &text]);
    }
    Some(threads(callers, during, connect, move |connection, caller, number| {
        let key = case.key(caller);
        match case {
            Case::Increment | Case::Contended => ask(connection, &["INCRBY", &key, "1"]),
            Case::Set => ask(connection, &["SET", &key, &numbered(&text, number)]),
            Case::Get => ask(connection, &["GET", &key]),
        }
    }))
}

/// Sends a command and reads the reply, which must not be an error.
fn ask(connection: &mut BufReader<UnixStream>, words: &[&str]) {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        write!(command, "${}\r\n{word}\r\n", word.len()).expect("a string has room");
    }
    connection.get_mut().write_all(command.as_bytes()).expect("it listens");
    let mut line = String::new();
    connection.read_line(&mut line).expect("it responds");
    assert!(!line.starts_with('-'), "{line}");
    if let Some(length) = line.strip_prefix('$') {
        let length: usize = length.trim().parse().expect("there is a value");
        let mut value = vec![0; length + 2];
        connection.read_exact(&mut value).expect("it responds");
    }
}

/// A value that is written or read.
#[derive(Clone, Copy)]
enum Labelled {
    Not,
    /// One property came from outside.
    Untrusted,
    /// One property is a secret, so the value is sealed on disk.
    Secret,
}

impl Labelled {
    /// An object of 1 KiB in 32 properties.
    fn object(self) -> Value {
        let mut object = Object::new();
        for number in 0..32 {
            let value = Value::from("y".repeat(24).as_str());
            let value = match self {
                Labelled::Untrusted if number == 7 => value.labelled(Labels::UNTRUSTED),
                Labelled::Secret if number == 7 => value.into_secret(),
                _ => value,
            };
            object.insert(format!("property-{number}"), value);
        }
        Value::from(object)
    }
}

/// What labels cost, and what sealing does.
fn labels(during: Duration) {
    println!("\n| set and get | callers | store | plain/s | labelled/s | ratio | with a secret/s | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    for case in [Case::Set, Case::Get] {
        let name = if case == Case::Set { "set" } else { "get" };
        for callers in [1, 64] {
            for durable in [true, false] {
                let measure = |labelled: Labelled| {
                    let directory = directory();
                    let store: Arc<dyn Store> = if durable {
                        Arc::new(
                            SqliteStore::open(directory.path(), SqliteOptions::default()).expect("a store"),
                        )
                    } else {
                        Arc::new(MemoryStore::default())
                    };
                    tasks(store, case, &labelled.object(), callers, during / 4).per_second
                };
                // In turn, so that all see the same machine.
                let (mut plain, mut labelled, mut secret) = (0.0, 0.0, 0.0);
                for _ in 0..5 {
                    plain += measure(Labelled::Not) / 5.0;
                    labelled += measure(Labelled::Untrusted) / 5.0;
                    secret += measure(Labelled::Secret) / 5.0;
                }
                let store = if durable { "on disk" } else { "in memory" };
                println!(
                    "| {name} | {callers} | {store} | {plain:.0} | {labelled:.0} | {:.3} | {secret:.0} | {:.3} |",
                    labelled / plain,
                    secret / plain
                );
            }
        }
    }
}
