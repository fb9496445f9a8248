//! A PostgreSQL server for the tests of one binary: its data and its socket are in a temporary directory, and it ends with the
//! process that started it, however that ends.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use loom_store_postgres::{PostgresOptions, PostgresStore};
use tokio_postgres::NoTls;

/// A running server.
pub(crate) struct Server {
    directory: PathBuf,
    /// The process that started the server waits for the end of this pipe, and then ends the server and removes the directory.
    keeper: Child,
    pipe: Option<ChildStdin>,
}

/// The server that tests share. It does not sync: what its tests do to it are crashes of processes, not of the machine.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&["fsync=off"]))
}

/// The directory of the programs of the newest server.
#[expect(clippy::disallowed_methods, reason = "a test may be told where the server is")]
fn programs() -> PathBuf {
    if let Ok(named) = std::env::var("LOOM_POSTGRES_BIN") {
        return named.into();
    }
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").exists())
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, bin)| bin);
    newest.expect(
        "these tests need the programs of a PostgreSQL server: install Debian's package `postgresql`, or set LOOM_POSTGRES_BIN \
         to the directory that contains `initdb` and `postgres`",
    )
}

/// The server refuses to run as root, so root runs it as another user.
fn unprivileged(program: &Path) -> Vec<String> {
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut words: Vec<String> = Vec::new();
    if id.stdout == b"0\n" {
        words.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(String::from));
    }
    words.push(program.to_str().unwrap().to_owned());
    words
}

impl Server {
    /// Starts a server with these settings.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let bin = programs();
        let directory = tempfile::Builder::new().prefix("loom-pg").tempdir().unwrap().keep();
        let words = unprivileged(&bin.join("initdb"));
        if words.len() > 1 {
            assert!(
                Command::new("chown").arg("postgres:postgres").arg(&directory).status().unwrap().success()
            );
        }
        let initialized = Command::new(&words[0])
            .args(&words[1..])
            .args(["--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(directory.join("data"))
            .output()
            .unwrap();
        assert!(initialized.status.success(), "initdb: {}", String::from_utf8_lossy(&initialized.stderr));
        let (keeper, pipe) = Self::run(&directory, settings);
        let server = Self { directory, keeper, pipe: Some(pipe) };
        server.wait();
        server
    }

    /// Starts a standby of this server.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("loom-pg").tempdir().unwrap().keep();
        let words = unprivileged(&programs().join("pg_basebackup"));
        if words.len() > 1 {
            assert!(
                Command::new("chown").arg("postgres:postgres").arg(&directory).status().unwrap().success()
            );
        }
        let primary = format!("host={} user=postgres application_name={name}", self.directory.display());
        let copied = Command::new(&words[0])
            .args(&words[1..])
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &primary, "-D"])
            .arg(directory.join("data"))
            .output()
            .unwrap();
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let (keeper, pipe) = Self::run(&directory, &["fsync=off"]);
        let server = Self { directory, keeper, pipe: Some(pipe) };
        server.wait();
        server
    }

    /// The directory of the socket, which is the name of the host.
    pub(crate) fn host(&self) -> String {
        self.directory.display().to_string()
    }

    fn run(directory: &Path, settings: &[&str]) -> (Child, ChildStdin) {
        const KEEPER: &str = r#"directory=$1; shift
            "$@" >"$directory/log" 2>&1 </dev/null & echo $! >"$directory/pid"
            read -r word
            kill -QUIT "$(cat "$directory/pid")"; wait
            [ "$word" = stop ] || rm -rf "$directory""#;
        let words = unprivileged(&programs().join("postgres"));
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(directory)
            .args(words)
            .arg("-D")
            .arg(directory.join("data"));
        let socket = format!("unix_socket_directories={}", directory.display());
        let always = [
            socket.as_str(),
            "listen_addresses=",
            "max_connections=200",
            "shared_buffers=64MB",
            "max_wal_size=512MB",
        ];
        for setting in always.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let mut keeper =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pipe = keeper.stdin.take().unwrap();
        (keeper, pipe)
    }

    /// Waits until the server accepts connections.
    pub(crate) fn wait(&self) {
        let address = self.address();
        let wait = async move {
            while tokio_postgres::connect(&address, NoTls).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // The caller may be inside a runtime, which must not be blocked.
        let waited = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), wait).await })
        });
        let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        assert!(waited.join().unwrap().is_ok(), "the server does not start: {}", log());
    }

    /// Ends all processes of the server at once, as a crash of it does.
    pub(crate) fn stop(&mut self) {
        let mut pipe = self.pipe.take().unwrap();
        pipe.write_all(b"stop\n").unwrap();
        drop(pipe);
        self.keeper.wait().unwrap();
    }

    /// Starts a server again that was stopped.
    pub(crate) fn restart(&mut self, settings: &[&str]) {
        let (keeper, pipe) = Self::run(&self.directory, settings);
        (self.keeper, self.pipe) = (keeper, Some(pipe));
        self.wait();
    }

    pub(crate) fn crash_and_restart(&mut self, settings: &[&str]) {
        self.stop();
        self.restart(settings);
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    pub(crate) fn address(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.directory.display())
    }

    /// Settings of a store whose tables do not exist yet.
    pub(crate) fn options(&self) -> PostgresOptions {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        PostgresOptions { schema: format!("store_{number}"), ..PostgresOptions::new(self.address()) }
    }

    /// A new store.
    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.options()).await.unwrap()
    }

    /// A connection for what a test does to the database directly.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.address(), NoTls).await.unwrap();
        drop(tokio::runtime::Handle::current().spawn(connection));
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.keeper.wait().unwrap();
        // Its keeper has removed it, unless the server was stopped before.
        fs::remove_dir_all(&self.directory).ok();
    }
}
