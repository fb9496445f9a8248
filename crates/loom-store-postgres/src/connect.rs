//! Connections to the database: each has a role, its settings, and a task that moves its bytes.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_store::{Durability, Error};
use tokio::runtime::Handle;
use tokio_postgres::{
    AsyncMessage, Client, Connection, NoTls, SimpleQueryMessage, Statement, error::SqlState, types::ToSql,
};

use crate::PostgresOptions;

/// How many prepared statements a connection keeps before it starts over.
const STATEMENTS_MAX: usize = 200;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The groups of commits, one statement at a time.
    Writer,
    /// Retention, deletions and partitions.
    Upkeep,
    /// Renewals, which never wait behind anything else.
    Lease,
    /// Claims and fences. A fence waits for the statements of the node that it fences.
    Claims,
    Reader,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Upkeep => "upkeep",
            Self::Lease => "lease",
            Self::Claims => "claims",
            Self::Reader => "reader",
        }
    }

    /// No commit is ever cancelled, because the server reports a cancelled wait for a standby as a success. What waits for locks
    /// on behalf of a lease gives up early instead.
    const fn timeouts(self) -> &'static str {
        match self {
            Self::Writer => "SET lock_timeout = 0; SET statement_timeout = 0;",
            Self::Upkeep => {
                "SET lock_timeout = '10s'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '30s';"
            }
            Self::Lease | Self::Claims => "SET lock_timeout = '1s'; SET statement_timeout = 0;",
            Self::Reader => "SET lock_timeout = '5s'; SET statement_timeout = '60s';",
        }
    }

    /// How long an answer is awaited at most. A request about the lease is made anew rather than awaited; what it asked for may have
    /// taken effect. The others wait for as long as the server works on it; see [`Connector::awaited`].
    const fn answers_within(self) -> Option<Duration> {
        match self {
            // Longer than it waits for locks.
            Self::Lease | Self::Claims => Some(Duration::from_secs(3)),
            Self::Writer | Self::Upkeep | Self::Reader => None,
        }
    }
}

/// For how long an answer is awaited before the server is asked whether there will be one.
const LOOK_AFTER: Duration = Duration::from_secs(3);

/// How long an answer of the server may be on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// An open connection and its prepared statements. Clones share it.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

struct Inner {
    role: Role,
    client: Client,
    /// The process of the server that serves it.
    process: i32,
    /// It is not used any more.
    is_abandoned: AtomicBool,
    statements: Mutex<HashMap<String, Statement>>,
    /// A wait for a synchronous standby was cancelled: what the server reports as committed may be lost in a failover.
    doubtful: Arc<AtomicBool>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_abandoned.load(Ordering::Acquire) || self.0.client.is_closed()
    }

    /// Waits for something that was asked on this connection, for as long as its role allows. Then it abandons the connection.
    pub(crate) async fn within<T>(&self, asked: impl Future<Output = T>) -> Result<T, Error> {
        let Some(limit) = self.0.role.answers_within() else { return Ok(asked.await) };
        tokio::time::timeout(limit, asked).await.map_err(|elapsed| {
            self.0.is_abandoned.store(true, Ordering::Release);
            Error::io("wait for PostgreSQL", elapsed)
        })
    }

    /// Whether the server has cancelled a wait for a standby since this was last asked.
    pub(crate) fn take_doubt(&self) -> bool {
        self.0.doubtful.swap(false, Ordering::AcqRel)
    }

    /// The prepared statement with this text.
    pub(crate) async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.0.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let statement = self.0.client.prepare(sql).await?;
        let mut statements = self.0.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.0.client.query(&statement, params).await
    }

    pub(crate) async fn query_one(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.0.client.query_one(&statement, params).await
    }

    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<tokio_postgres::Row>, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.0.client.query_opt(&statement, params).await
    }

    pub(crate) async fn execute(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.0.client.execute(&statement, params).await
    }
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    options: Arc<PostgresOptions>,
    runtime: Handle,
}

impl Connector {
    pub(crate) fn new(options: Arc<PostgresOptions>, runtime: Handle) -> Self {
        Self { options, runtime }
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// Does work on the store's own runtime, where it continues when the caller goes away.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.runtime.spawn(work).await.unwrap_or(Err(Error::Closed))
    }

    /// Opens a connection. May be called on any runtime, or on none: the work is done on the store's own.
    pub(crate) async fn open(&self, role: Role) -> Result<Session, Error> {
        let this = self.clone();
        self.run(async move { this.open_here(role).await }).await
    }

    async fn open_here(&self, role: Role) -> Result<Session, Error> {
        let failed = |source| Error::io("connect to PostgreSQL", source);
        let mut config = self.options.config()?;
        config.application_name(application(role));
        let doubtful = Arc::new(AtomicBool::new(false));
        let commit = match (role, self.options.durability) {
            (Role::Writer, Durability::Relaxed | Durability::Memory) => "SET synchronous_commit = off;",
            _ => "",
        };
        // Statements are planned once: their plans do not depend on how many rows a group has.
        let settings = format!(
            "SET search_path = {}, pg_catalog; SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = \
             force_generic_plan; SET jit = off; SET client_min_messages = warning; {} {commit} SELECT pg_backend_pid()",
            self.options.schema,
            role.timeouts(),
        );
        // The timeout of the configuration ends before the server has said anything; this one includes everything.
        let opened = tokio::time::timeout(2 * self.options.connect_timeout, async {
            let client = match self.options.tls(&config)? {
                None => {
                    let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                    self.drive(connection, Arc::clone(&doubtful));
                    client
                }
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await.map_err(failed)?;
                    self.drive(connection, Arc::clone(&doubtful));
                    client
                }
            };
            let answers = client.simple_query(&settings).await.map_err(failed)?;
            let process = answers.iter().find_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
                _ => None,
            });
            Ok::<_, Error>((client, process.unwrap_or_default()))
        });
        let (client, process) =
            opened.await.map_err(|elapsed| Error::io("connect to PostgreSQL", elapsed))??;
        Ok(Session(Arc::new(Inner {
            role,
            client,
            process,
            is_abandoned: AtomicBool::new(false),
            statements: Mutex::default(),
            doubtful,
        })))
    }

    /// Waits for something that was asked on a connection. While there is no answer, another connection asks whether the server still
    /// works on it, or waits for a lock or a standby: a proxy may hold a connection open that leads nowhere, which TCP does not
    /// notice. `None` if so. What was asked may have taken effect.
    pub(crate) async fn awaited<T>(&self, session: &Session, asked: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(asked);
        loop {
            if let Ok(answer) = tokio::time::timeout(LOOK_AFTER, &mut asked).await {
                return Some(answer);
            }
            if self.is_idle(session).await {
                // It may have been on its way.
                let answer = tokio::time::timeout(ON_ITS_WAY, &mut asked).await.ok();
                if answer.is_none() {
                    session.0.is_abandoned.store(true, Ordering::Release);
                }
                return answer;
            }
        }
    }

    /// Whether the server has had nothing to do for a connection for some time. False if that cannot be found out.
    async fn is_idle(&self, session: &Session) -> bool {
        const IS_BUSY: &str =
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $1 AND application_name = $2
            AND (state NOT LIKE 'idle%' OR state_change > clock_timestamp() - interval '500ms')";
        let Ok(other) = self.open(Role::Claims).await else { return false };
        let name = application(session.0.role);
        let asked = other.within(other.query_one(IS_BUSY, &[&session.0.process, &name])).await;
        matches!(asked.map(|row| row.and_then(|row| row.try_get(0))), Ok(Ok(false)))
    }

    /// Moves the bytes of a connection until it ends. The task ends with the client, so nobody has to wait for it.
    fn drive<S, T>(&self, mut connection: Connection<S, T>, doubtful: Arc<AtomicBool>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let driving = self.runtime.spawn(async move {
            loop {
                match poll_fn(|context| Pin::new(&mut connection).poll_message(context)).await {
                    None | Some(Err(_)) => return,
                    // The server sends it before the answer of the statement, so the flag is set when that arrives.
                    Some(Ok(AsyncMessage::Notice(notice))) if *notice.code() == SqlState::WARNING => {
                        tracing::warn!(notice = notice.message(), "PostgreSQL warns");
                        doubtful.store(true, Ordering::Release);
                    }
                    Some(Ok(_)) => {}
                }
            }
        });
        drop(driving);
    }
}

/// The name of a connection, for operators of the database.
fn application(role: Role) -> String {
    format!("loom/{}", role.name())
}

/// The server has no answer to give on a connection, and none arrives.
#[derive(Debug, thiserror::Error)]
#[error("no answer arrives on the connection, although the server has none to give")]
pub(crate) struct Silent;

/// What to do about a failed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection is gone, or this server does not accept writes any more. The statement may have taken effect.
    Connection,
    /// Another transaction was in the way, and nothing was written.
    Again,
    /// The statement cannot be executed, and nothing was written.
    Refused,
}

/// Classifies a failure by its SQLSTATE.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Failure {
    let Some(code) = error.code() else {
        let source = std::error::Error::source(error);
        let is_lost = error.is_closed() || source.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        return if is_lost { Failure::Connection } else { Failure::Refused };
    };
    match code.code() {
        // Failed: a unique key, a serialization, a deadlock, a lock.
        // 23514: the partition of a week was removed because it was empty.
        "23505" | "40001" | "40P01" | "55P03" | "23514" => Failure::Again,
        // Shutdown, crash, "cannot connect now", read-only.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03" => Failure::Connection,
        // Exceptions of connections; out of disk, memory or connections; I/O errors.
        code if code.starts_with("08") || code.starts_with("53") || code.starts_with("58") => {
            Failure::Connection
        }
        _ => Failure::Refused,
    }
}

/// How long to wait before trying to connect again.
pub(crate) const RETRY: Duration = Duration::from_millis(50);
